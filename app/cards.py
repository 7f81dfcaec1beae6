"""An assessment as cards: at most one protocol card and one safety card (reading 5, clinical 3.3 and 4.4).

The words are `app/protocols/shared/cards.toml` and `texts.toml`; here is only what stands where. Every word that may
come from patient data goes through `cds_hooks.markdown`. Names of patients are never read, so they cannot appear.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo

from app import followup_card, report
from app.card_frame import EVIDENCE, Frame, clean, own, plain
from app.clinical.assessment import Assessment
from app.clinical.changes import Change
from app.clinical.chart import hours_text
from app.clinical.criteria import Answer
from app.clinical.findings import Finding
from app.clinical.reading import Evidence, decimal_text
from app.clinical.results import CriterionResult, SafetyResult
from app.outlook import UNSEEN, Outlook
from app.protocols.words import Words
from cds_hooks import markdown
from cds_hooks.markdown import Safe
from cds_hooks.response import Action, Card, Suggestion
from fhir_mappings.facts import Measurement

MOST_CHANGES = 5


@dataclass(frozen=True, slots=True)
class Draft:
    """A suggested order: the words for a person and the validated resource."""

    label: str
    description: str
    resource: dict[str, Any]


def build(
    assessment: Assessment,
    *,
    words: Words,
    decision: UUID,
    drafts: Sequence[Draft],
    source_url: str | None = None,
    outlook: Outlook = UNSEEN,
) -> tuple[Card, ...]:
    """The cards of an assessment; `drafts` are used only when it allows a suggestion. `source_url` is where a reader
    finds what the knowledge rests on; None: not known. `outlook` of the protocols that speak."""
    page = _Page(assessment, words=words.cleaned_by(clean), decision=decision, source_url=source_url, outlook=outlook)
    cards = []
    if assessment.row.card == "thresholds-met":
        cards.append(page.thresholds_met(drafts if assessment.suggest else ()))
    elif assessment.row.card == "undetermined":
        cards.append(page.undetermined())
    elif assessment.row.card == "course":
        cards.append(page.course())
    if assessment.safety_card:
        cards.append(page.safety())
    return tuple(cards)


class _Page:
    def __init__(
        self, assessment: Assessment, *, words: Words, decision: UUID, source_url: str | None, outlook: Outlook
    ) -> None:
        self.a = assessment
        self.outlook = outlook
        self.words = words
        zone = ZoneInfo(assessment.zone)
        self.frame = Frame(words, decision, source_url, assessment.now, zone, assessment.lost, assessment.gaps)
        self.simple = assessment.protocol("pilot-simple")
        self.full = assessment.protocol("pilot-full")

    def thresholds_met(self, drafts: Sequence[Draft]) -> Card:
        stops = [s for s in self.a.present if s.rule.severity == "absolute"]
        summary = self.words.card("summary", "met")
        if stops:
            key = "met_stop" if len(stops) == 1 else "met_stops"
            stop = self.words.card("summary", key, count=str(len(stops)), first=stops[0].rule.title)
            summary = f"{summary}. {stop}"
        elif not drafts:
            summary = f"{summary}; {self.words.card('summary', 'met_withheld')}"
        parts = [own(self.words.card("detail", "honest")), *self._verdict_lines()]
        parts += self._holds(self.outlook.earliest("pilot-simple", "pilot-full"))
        parts += self.frame.section("withheld", self._withheld())
        parts += self._criteria()
        parts += self._changes("pilot-full")
        parts += self._already()
        if self.a.row.suggestions:
            parts += self.frame.section("confirm", [self.frame.reason(r) for r in self.a.confirm])
        parts += self._confirmations()
        parts += self._closing(ordering=True)
        return self.frame.card(
            "protocol",
            summary=summary,
            indicator="info",
            parts=parts,
            suggestions=tuple(self._suggestion(number, draft) for number, draft in enumerate(drafts)),
            extension={EVIDENCE: self._entries()},
        )

    def undetermined(self) -> Card:
        missing = ", ".join(self.words.title(m) for m in self.simple.missing)
        summary = self.words.card("summary", "undetermined", missing=missing)
        parts = [own(self.words.card("detail", "undetermined"))]
        parts += self._holds(self.outlook.earliest("pilot-simple"))
        parts += self._criteria()
        parts += self._changes("pilot-simple")
        parts += self.frame.section("missing", [own(self.words.obtain(m)) for m in self.simple.missing])
        parts += self._already()
        parts += self.frame.section("safety", self._safety_lines())
        parts += self._closing(ordering=False)
        return self.frame.card(
            "protocol", summary=summary, indicator="info", parts=parts, extension={EVIDENCE: self._entries()}
        )

    def course(self) -> Card:
        running = self.a.follow_up.course
        if running is None:
            raise ValueError("a follow-up card needs a running course")
        since = self.frame.time(running.since)
        found = followup_card.content(self.a.follow_up, running=running, since=since, words=self.words)
        return self.frame.card(
            "protocol",
            summary=found.summary,
            indicator=found.indicator,
            parts=[*found.parts, *self.frame.not_looked_at(), self._version()],
            extension={EVIDENCE: self._entries()},
        )

    def safety(self) -> Card:
        rows = [self._safety_row(results) for results in self._safety_groups()]
        header = tuple(own(h) for h in ("Drug", "Severity", "Finding", "State", "On record"))
        parts: list[Safe] = [markdown.table(header, rows)] if rows else []
        advice = [own(f"{s.rule.title}: {s.rule.advice}") for s in self.a.present]
        parts += self.frame.section("advice", advice)
        parts += self.frame.section("missing", [own(self.words.term("required", n)) for n in self._required_missing()])
        parts += self.frame.not_looked_at()
        parts.append(self._version())
        shown = [s for results in self._safety_groups() for s in results]
        entries = [report.safety_entry(s, now=self.a.now, words=self.words.cleaned_by(plain)) for s in shown]
        return self.frame.card(
            "safety",
            summary=self._safety_summary(),
            indicator="warning",
            parts=parts,
            extension={EVIDENCE: {"safety": entries, **self._reading()}},
        )

    def _safety_summary(self) -> str:
        """What is present comes first; what could not be determined is named by what was missing, never as a fact."""
        present = self.a.present
        if present:
            key = "safety_many" if len(present) > 1 else "safety_one"
            return self.words.card("summary", key, first=present[0].rule.title, count=str(len(present) - 1))
        unread = [self.words.title(m) for s in self._doubtful() for m in s.outcome.missing]
        names = dict.fromkeys([*(self.words.term("required", n) for n in self._required_missing()), *unread])
        return self.words.card("summary", "safety_missing", missing=", ".join(names))

    def _doubtful(self) -> list[SafetyResult]:
        """What could not be determined and withholds, absolute first."""
        order = {"absolute": 0, "relative": 1, "monitor": 2}
        found = [s for s in self.a.safety if s.finding is Finding.UNKNOWN and s.withholds]
        return sorted(found, key=lambda s: order[s.rule.severity])

    def _safety_groups(self) -> list[list[SafetyResult]]:
        """A row each for what is present; what one missing source leaves open shares a row."""
        groups: dict[str, list[SafetyResult]] = {}
        for result in self._doubtful():
            groups.setdefault(report.because(result.outcome, words=self.words), []).append(result)
        return [[s] for s in self.a.present] + list(groups.values())

    def _safety_row(self, results: Sequence[SafetyResult]) -> tuple[Safe, ...]:
        drugs = sorted({drug for s in results for drug in s.rule.drugs})
        severities = dict.fromkeys(self.words.term_of_card("severity", s.rule.severity) for s in results)
        return (
            own(", ".join(drugs)),
            own(", ".join(severities)),
            own("; ".join(clean(s.rule.title) for s in results)),
            own(self.words.term_of_card("finding", results[0].finding.presence)),
            own(report.because(results[0].outcome, words=self.words)),
        )

    def _safety_lines(self) -> list[Safe]:
        """The safety card's facts as lines, beside an undetermined result (reading 5)."""
        lines = []
        for results in self._safety_groups():
            drugs, severity, title, state, why = self._safety_row(results)
            lines.append(own(f"{title} ({severity}, {drugs}): {state}, {why}"))
        missing = ", ".join(self.words.term("required", name) for name in self._required_missing())
        if missing:
            lines.append(own(self.words.card("detail", "required_missing", missing=missing)))
        return lines

    def _required_missing(self) -> list[str]:
        return [name for name, reading in self.a.required if not reading.known or reading.displaced]

    def _verdict_lines(self) -> list[Safe]:
        if self.a.row.id == "population-unknown":
            unknown = [c for c in self.full.criteria if c.id in {"P-AGE", "P-COVID"} and c.finding is Finding.UNKNOWN]
            inputs = " and ".join(c.criterion.title for c in unknown)
            return [own(self.words.card("detail", "population_unknown", inputs=inputs))]
        if self.a.row.id == "rescue-not-met":
            rescue = next(c for c in self.full.criteria if c.id == "P-RESCUE")
            why = report.because(rescue.outcome, words=self.words)
            line = self.words.card("detail", "rescue_not_met", why=why)
            if any(a.input == "prone" for a in rescue.outcome.because):
                line += " " + self.words.card("detail", "rescue_prone")
            return [own(line)]
        return []

    def _holds(self, until: datetime | None) -> list[Safe]:
        return [] if until is None else [own(self.words.card("changes", "holds", until=self.frame.time(until)))]

    def _changes(self, protocol: str) -> list[Safe]:
        """What would change a verdict: what is shown is a condition on the record, never something to be done; nothing
        is said of what cannot be another, as the age."""
        inputs = self.a.knowledge.inputs
        flips = [
            flip
            for flip in self.outlook.changes.get(protocol, ())
            if not any(inputs[change.input].fixed for change in flip.changes)
        ]
        subject = self.words.card("changes", protocol)
        lines = []
        for flip in flips[:MOST_CHANGES]:
            key = "to_met" if flip.to is Finding.MET else "to_not_met"
            changes = self.words.card("changes", "and").join(map(self._change, flip.changes))
            lines.append(own(self.words.card("changes", key, what=subject, changes=changes)))
        if len(flips) > MOST_CHANGES:
            lines.append(own(self.words.card("detail", "more", count=str(len(flips) - MOST_CHANGES))))
        return self.frame.section("changes", lines)

    def _change(self, change: Change) -> str:
        key = "number" if change.spans else "state"
        title, needs = self.words.input_title(change.input), self.words.needs_said(change)
        return self.words.card("changes", key, input=title, needs=needs, has=self.words.has(change))

    def _criteria(self) -> list[Safe]:
        header = tuple(own(h) for h in ("Criterion", "Value", "Age", "Threshold", "Finding"))
        rows = [self._criterion_row(c) for c in self.full.criteria]
        return [self.frame.heading("criteria"), markdown.table(header, rows)]

    def _criterion_row(self, c: CriterionResult) -> tuple[Safe, ...]:
        relevant = [a for a in c.outcome.asked if a.finding is not Finding.UNKNOWN or a in c.outcome.because]
        values = [self._value(a) for a in relevant]
        if len(relevant) > 1:
            values = [own(f"{self.words.input_title(a.input)}: {v}") for a, v in zip(relevant, values, strict=True)]
        finding = f"**{self.words.term_of_card('finding', c.finding.value)}**"
        open_values = [a for a in c.outcome.because if a.finding is Finding.UNKNOWN and _is_value(a)]
        if open_values:
            finding += ": " + "; ".join(self.words.reason(a.reason) for a in open_values)
        return (
            markdown.text(c.criterion.title),
            own("; ".join(values)),
            own(self._age(c.outcome.evidence)),
            markdown.text(c.criterion.threshold, limit=300),
            own(finding),
        )

    def _value(self, answer: Answer) -> Safe:
        """A value as read; where there is none, or only a yes or no, the reason says more."""
        return markdown.text(answer.shown) if _is_value(answer) else self.frame.reason(answer.reason)

    def _age(self, evidence: Iterable[Evidence]) -> str:
        """The newest and the oldest of the results used; how long a therapy runs is said with its value."""
        results = [e for e in evidence if e.effective is not None and (e.value or e.concept.startswith("sarscov2"))]
        ages = sorted({self.a.now - e.effective for e in results if e.effective is not None})
        if not ages:
            return "–"
        texts = dict.fromkeys(hours_text(age) for age in (ages[0], ages[-1]))
        return " to ".join(texts)

    def _already(self) -> list[Safe]:
        known = [self.frame.reason(r.reason) for _, r in self.a.study_drugs if r.state == "present"]
        return self.frame.section("already", [*known, *followup_card.not_started(self.a.follow_up, words=self.words)])

    def _withheld(self) -> list[Safe]:
        """Why no order is offered: a safety finding with its drug and what is on record; what one missing source
        leaves open in one line, since the safety card lists it."""
        lines: list[Safe] = []
        for reason in self.a.withheld:
            result = next((s for s in self.a.safety if s.rule.id == dict(reason.params).get("id")), None)
            if result is None:
                lines.append(self.frame.reason(reason))
            elif result.finding is Finding.MET:
                drugs = ", ".join(result.rule.drugs)
                lines.append(own(f"{result.rule.title} ({drugs}): {report.because(result.outcome, words=self.words)}"))
        for results in self._safety_groups():
            if results[0].finding is Finding.UNKNOWN:
                key = "safety_open" if len(results) == 1 else "safety_open_many"
                why = report.because(results[0].outcome, words=self.words)
                text = self.words.card("detail", key, title=results[0].rule.title, count=str(len(results)), why=why)
                lines.append(own(text))
        return lines

    def _confirmations(self) -> list[Safe]:
        return self.frame.section("confirmations", [own(c.text) for c in self.full.protocol.confirmations])

    def _closing(self, *, ordering: bool) -> list[Safe]:
        """What has to be known before deciding; what only an order raises is left out where none can follow."""
        lines = [self._culture(), *self._course_of_illness(), self._differences()]
        if ordering:
            b = self.a.background
            platelets = "not found" if b.platelets is None else f"{_number(b.platelets)} x 10⁹/L"
            lines += [self.words.card("detail", "anticoagulation", platelets=platelets)]
            lines += [self.words.card("detail", key) for key in ("additive", "first_dose", "enteral", "tube")]
            lines += [self.words.card("detail", key) for key in ("both", "approval")]
            lines += self._watched()
        lines += [self.words.reason(n.reason) for n in self.a.notes if n.reason.code != "confirm-no-ecmo"]
        lines += self._register()
        parts = self.frame.section("lines", [own(line) for line in lines])
        parts += [
            self.frame.heading("alternatives"),
            own(self.words.card("detail", "alternatives", found=self._standard())),
        ]
        parts += [self.frame.heading("evidence"), own(self.words.card("detail", "evidence"))]
        parts += self.frame.not_looked_at()
        parts.append(self._version())
        return parts

    def _register(self) -> list[str]:
        """The highest stage of the terminated trial that would have matched, and higher ones that are open (B11)."""
        stages = sorted(
            ((p.protocol.arm, p.verdict) for p in self.a.protocols if p.protocol.arm is not None),
            key=lambda stage: stage[0].precedence,
            reverse=True,
        )
        if not stages:
            return []
        matched = next((arm for arm, verdict in stages if verdict is Finding.MET), None)
        floor = 0 if matched is None else matched.precedence
        open_ = [arm.stage for arm, verdict in stages if verdict is Finding.UNKNOWN and arm.precedence > floor]
        key = "register_met" if matched else "register_none"
        if open_:
            key = "register_met_open" if matched else "register_open"
        return [self.words.card("detail", key, stage=matched.stage if matched else "", open=", ".join(open_))]

    def _watched(self) -> list[str]:
        """One line for each thing to monitor (clinical 2.1), unless the safety card beside lists it."""
        watched = [] if self.a.safety_card else [s for s in self.a.present if s.rule.severity == "monitor"]
        return [
            self.words.card(
                "detail",
                "monitor",
                title=s.rule.title,
                drugs=", ".join(s.rule.drugs),
                why=report.because(s.outcome, words=self.words),
                advice=s.rule.advice,
            )
            for s in watched
        ]

    def _culture(self) -> str:
        b = self.a.background
        text = self.words.card("detail", "culture_none" if b.culture_read else "culture_lost")
        if b.blood_culture is not None:
            what = b.blood_culture.original or b.blood_culture.label
            when = self.frame.time(b.blood_culture.when.earliest)
            text = ", ".join(filter(None, (markdown.text(b.blood_culture.coded), markdown.text(what), when)))
        return self.words.card("detail", "culture", culture=text)

    def _course_of_illness(self) -> list[str]:
        b = self.a.background
        pcr, ventilated = _days(b.days_since_first_positive, "ago"), _days(b.days_ventilated, "")
        ecmo = next((a.shown for c in self.full.criteria for a in c.outcome.asked if a.input == "ecmo_at_gas"), "")
        peep = "not found" if b.peep is None else f"{_number(b.peep)} cmH2O"
        lines = [
            self.words.card("detail", "phase", pcr=pcr, ventilated=ventilated),
            self.words.card("detail", "ventilator", peep=peep, ecmo=clean(ecmo) or "could not be determined"),
        ]
        if b.position:
            lines.append(self.words.card("detail", "position", position=clean(b.position)))
        return lines

    def _differences(self) -> str:
        b = self.a.background
        words = [self.words.term("difference", d) for d in b.differences]
        if words:
            return self.words.card("detail", "differences", differences=", ".join(words))
        return self.words.card("detail", "no_differences" if b.differences_read else "differences_lost")

    def _standard(self) -> str:
        b = self.a.background
        if b.standard:
            return ", ".join(
                f"{name} ({self.frame.time(moment) if moment else 'no date'})" for name, moment in b.standard
            )
        return self.words.card("detail", "alternatives_none" if b.standard_read else "alternatives_lost")

    def _version(self) -> Safe:
        """With the protocols that speak."""
        speaking = [(p.protocol.id, p.protocol.version) for p in self.a.protocols if p.protocol.speak]
        if self.a.row.card == "course":
            speaking.append((self.a.follow_up.follow_up.id, self.a.follow_up.follow_up.version))
        return self.frame.version(speaking)

    def _entries(self) -> dict[str, Any]:
        words = self.words.cleaned_by(plain)
        ids = (*(p.protocol.id for p in self.a.protocols), self.a.follow_up.follow_up.id)
        entries: dict[str, Any] = {
            "protocols": report.protocol_entries(
                self.a, words=words, ids=[id_ for id_ in ids if not self.a.is_silenced(id_)], outlook=self.outlook
            )
        }
        return entries | self._reading()

    def _suggestion(self, number: int, draft: Draft) -> Suggestion:
        return Suggestion(
            label=draft.label,
            uuid=str(uuid5(self.frame.decision, f"suggestion/{number}")),
            actions=(Action(type="create", description=draft.description, resource=draft.resource),),
        )

    def _reading(self) -> dict[str, Any]:
        """What the server could not be asked, where there is something of it."""
        broader = report.asked_without(self.a)
        return {"sources": broader} if broader else {}


def _is_value(answer: Answer) -> bool:
    """Whether it shows more than a yes or no."""
    return answer.shown not in {"", "yes", "no"}


def _days(days: int | None, suffix: str) -> str:
    if days is None:
        return "date not found"
    return f"{days} {'day' if days == 1 else 'days'} {suffix}".strip()


def _number(m: Measurement) -> str:
    return f"{m.comparator}{'' if m.value is None else decimal_text(m.value)}"
