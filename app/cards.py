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

from app import report
from app.clinical.assessment import Assessment
from app.clinical.chart import hours_text
from app.clinical.findings import Finding
from app.clinical.reading import Evidence, Reason, decimal_text
from app.clinical.results import CriterionResult, SafetyResult
from app.protocols.words import Words
from cds_hooks import markdown
from cds_hooks.markdown import Safe
from cds_hooks.response import Action, Card, Coding, Link, OverrideReason, Source, Suggestion
from fhir_mappings.facts import Measurement

SYSTEM = "urn:oid:2.25.242587638741105522790491737721017241513"
"""This project's own identifier for its codes: generated once, no domain is owned (reading 7)."""

TOPIC = Coding(
    code="anakinraRuxolitinibRescue",
    system=SYSTEM,
    display="anakinra + ruxolitinib rescue protocol (investigational)",
)
EVIDENCE_LINK = Link(
    label="The pilot letter (doi 10.1016/j.autrev.2020.102726)",
    url="https://doi.org/10.1016/j.autrev.2020.102726",
    type="absolute",
)
EVIDENCE = "org.rescue-cds.evidence"

SUMMARY_LIMIT = 139


@dataclass(frozen=True, slots=True)
class Draft:
    """A suggested order: the words for a person and the validated resource."""

    label: str
    description: str
    resource: dict[str, Any]


def build(assessment: Assessment, *, words: Words, decision: UUID, drafts: Sequence[Draft]) -> tuple[Card, ...]:
    """The cards of an assessment; `drafts` are used only when it allows a suggestion."""
    page = _Page(assessment, words=words.cleaned_by(_clean), decision=decision)
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


def notice(key: str, *, words: Words, decision: UUID) -> Card:
    """The one card when nothing was evaluated: `identity` (warning) or `not_evaluated` (info)."""
    return Card(
        summary=words.card("summary", key),
        indicator="warning" if key == "identity" else "info",
        source=_source(words),
        detail=words.card("detail", key),
        uuid=str(uuid5(decision, "card/notice")),
        override_reasons=_overrides(words),
    )


class _Page:
    def __init__(self, assessment: Assessment, *, words: Words, decision: UUID) -> None:
        self.a = assessment
        self.words = words
        self.decision = decision
        self.zone = ZoneInfo(assessment.zone)
        self.simple = assessment.protocol("pilot-simple")
        self.full = assessment.protocol("pilot-full")

    def thresholds_met(self, drafts: Sequence[Draft]) -> Card:
        stops = [s for s in self.a.present if s.rule.severity == "absolute"]
        summary = self.words.card("summary", "met")
        if stops:
            stop = self.words.card("summary", "met_safety", count=str(len(stops)), first=stops[0].rule.title)
            summary = f"{summary}. {stop}"
        elif not drafts:
            summary = f"{summary}; {self.words.card('summary', 'met_withheld')}"
        parts = [_own(self.words.card("detail", "honest")), *self._verdict_lines()]
        parts += self._section("withheld", [self._reason(r) for r in self.a.withheld])
        parts += self._criteria()
        parts += self._section(
            "already", [self._reason(r.reason) for _, r in self.a.study_drugs if r.state == "present"]
        )
        parts += self._section("confirm", [self._reason(r) for r in self.a.confirm])
        parts += self._confirmations()
        parts += self._closing()
        return self._card(
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
        parts = [_own(self.words.card("detail", "undetermined"))]
        parts += self._criteria()
        parts += self._section("missing", [markdown.text(self.words.obtain(m), limit=300) for m in self.simple.missing])
        parts += self._section(
            "already", [self._reason(r.reason) for _, r in self.a.study_drugs if r.state == "present"]
        )
        parts += self._section("safety", [self._safety_line(s) for s in self._safety_shown()])
        parts += self._closing()
        return self._card(
            "protocol", summary=summary, indicator="info", parts=parts, extension={EVIDENCE: self._entries()}
        )

    def course(self) -> Card:
        since = self._time(self.a.course_since) if self.a.course_since else ""
        parts = [_own(self.words.card("detail", "course", since=since)), *self._not_looked_at(), self._version()]
        return self._card(
            "protocol",
            summary=self.words.card("summary", "course", since=since),
            indicator="info",
            parts=parts,
            extension={EVIDENCE: self._entries()},
        )

    def safety(self) -> Card:
        shown = self._safety_shown()
        summary = self._safety_summary(shown)
        rows = [
            (
                markdown.text(", ".join(s.rule.drugs)),
                markdown.text(self.words.term_of_card("severity", s.rule.severity)),
                markdown.text(s.rule.title),
                markdown.text(self.words.term_of_card("finding", s.finding.presence)),
                _own(report.because(s.outcome, words=self.words)),
            )
            for s in shown
        ]
        header = tuple(_own(h) for h in ("Drug", "Severity", "Finding", "State", "On record"))
        parts: list[Safe] = []
        if rows:
            parts.append(markdown.table(header, rows))
        parts += self._section(
            "advice", [_own(f"{s.rule.title}: {s.rule.advice}") for s in shown if s.finding is Finding.MET]
        )
        missing = [markdown.text(self.words.term("required", name)) for name in self._required_missing()]
        parts += self._section("missing", missing)
        parts += self._not_looked_at()
        parts.append(self._version())
        entries = [report.safety_entry(s, assessment=self.a, words=self.words.cleaned_by(_plain)) for s in shown]
        return self._card(
            "safety", summary=summary, indicator="warning", parts=parts, extension={EVIDENCE: {"safety": entries}}
        )

    def _safety_summary(self, shown: Sequence[SafetyResult]) -> str:
        if not shown:
            names = ", ".join(self.words.term("required", name) for name in self._required_missing())
            return self.words.card("summary", "safety_missing", missing=names)
        key = "safety_many" if len(shown) > 1 else "safety_one"
        return self.words.card("summary", key, first=shown[0].rule.title, count=str(len(shown) - 1))

    def _safety_shown(self) -> list[SafetyResult]:
        """What is present, then what could not be determined and withholds; absolute first."""
        doubtful = [s for s in self.a.safety if s.finding is Finding.UNKNOWN and s.withholds]
        order = {"absolute": 0, "relative": 1, "monitor": 2}
        return [*self.a.present, *sorted(doubtful, key=lambda s: order[s.rule.severity])]

    def _required_missing(self) -> list[str]:
        return [name for name, reading in self.a.required if not reading.known or reading.displaced]

    def _verdict_lines(self) -> list[Safe]:
        if self.a.row.id == "population-unknown":
            unknown = [c for c in self.full.criteria if c.id in {"P-AGE", "P-COVID"} and c.finding is Finding.UNKNOWN]
            inputs = " and ".join(c.criterion.title for c in unknown)
            return [_own(self.words.card("detail", "population_unknown", inputs=inputs))]
        if self.a.row.id == "rescue-not-met":
            rescue = next(c for c in self.full.criteria if c.id == "P-RESCUE")
            why = report.because(rescue.outcome, words=self.words)
            return [_own(self.words.card("detail", "rescue_not_met", why=why))]
        return []

    def _criteria(self) -> list[Safe]:
        header = tuple(_own(h) for h in ("Criterion", "Value", "Age", "Threshold", "Finding"))
        rows = [self._criterion_row(c) for c in self.full.criteria]
        return [self._heading("criteria"), markdown.table(header, rows)]

    def _criterion_row(self, c: CriterionResult) -> tuple[Safe, ...]:
        relevant = [a for a in c.outcome.asked if a.finding is not Finding.UNKNOWN or a in c.outcome.because]
        several = len(relevant) > 1
        values = []
        for answer in relevant:
            shown = markdown.text(answer.shown) if answer.shown else self._reason(answer.reason)
            title = self.words.input_title(answer.input)
            values.append(f"{title}: {shown}" if several else shown)
        finding = f"**{self.words.term_of_card('finding', c.finding.value)}**"
        if c.finding is Finding.UNKNOWN:
            finding += f": {report.because(c.outcome, words=self.words)}"
        return (
            markdown.text(c.criterion.title),
            _own("; ".join(values)),
            _own(self._age(c.outcome.evidence)),
            markdown.text(c.criterion.threshold, limit=300),
            _own(finding),
        )

    def _age(self, evidence: Iterable[Evidence]) -> str:
        """The newest and the oldest of what was used."""
        ages = sorted({self.a.now - e.effective for e in evidence if e.effective is not None})
        if not ages:
            return "–"
        texts = dict.fromkeys(hours_text(age) for age in (ages[0], ages[-1]))
        return " to ".join(texts)

    def _confirmations(self) -> list[Safe]:
        return self._section("confirmations", [_own(c.text) for c in self.full.protocol.confirmations])

    def _closing(self) -> list[Safe]:
        b = self.a.background
        culture = self.words.card("detail", "culture_none" if b.culture_read else "culture_lost")
        if b.blood_culture is not None:
            what = b.blood_culture.label or b.blood_culture.coded
            when = self._time(b.blood_culture.when.earliest)
            culture = f"{markdown.text(b.blood_culture.coded)} ({markdown.text(what)}, {when})"
        words = [self.words.term("difference", d) for d in b.differences]
        platelets = "not found" if b.platelets is None else f"{_number(b.platelets)} x 10⁹/L"
        peep = "not found" if b.peep is None else f"{_number(b.peep)} cmH2O"
        ecmo = next((a.shown for c in self.full.criteria for a in c.outcome.asked if a.input == "ecmo_at_gas"), "")
        lines = [
            self.words.card("detail", "culture", culture=culture),
            self.words.card(
                "detail",
                "phase",
                pcr=_days(b.days_since_first_positive, "ago"),
                ventilated=_days(b.days_ventilated, ""),
            ),
            self.words.card(
                "detail",
                "ventilator",
                peep=peep,
                position=_clean(b.position) or "not charted",
                ecmo=_clean(ecmo) or "unknown",
            ),
            self.words.card("detail", "differences", differences=", ".join(words))
            if words
            else self.words.card("detail", "no_differences"),
            self.words.card("detail", "anticoagulation", platelets=platelets),
            self.words.card("detail", "enteral"),
            self.words.card("detail", "both"),
            self.words.card("detail", "approval"),
            *(self.words.reason(n.reason) for n in self.a.notes if n.reason.code != "confirm-no-ecmo"),
        ]
        parts = self._section("lines", [_own(line) for line in lines])
        parts += [
            self._heading("alternatives"),
            _own(self.words.card("detail", "alternatives", found=self._standard())),
        ]
        parts += [self._heading("evidence"), _own(self.words.card("detail", "evidence"))]
        parts += self._not_looked_at()
        parts.append(self._version())
        return parts

    def _standard(self) -> str:
        b = self.a.background
        if b.standard:
            return ", ".join(f"{name} ({self._time(moment) if moment else 'no date'})" for name, moment in b.standard)
        return self.words.card("detail", "alternatives_none" if b.standard_read else "alternatives_lost")

    def _not_looked_at(self) -> list[Safe]:
        lost = [_own(f"{self.words.term('source', s.key)}: {self.words.source(s)}") for s in self.a.lost]
        used = [_own(f"{self.words.gap_subject(g)}: {self.words.gap(g)}") for g in self.a.gaps[:8]]
        return [*self._section("not_looked_at", lost), *self._section("not_used", list(dict.fromkeys(used)))]

    def _version(self) -> Safe:
        return _own(
            self.words.card(
                "detail",
                "version",
                now=self._time(self.a.now),
                version=self.a.knowledge.version,
                status=self.words.setting("knowledge_status"),
                reviewed=self.words.setting("evidence_reviewed"),
            )
        )

    def _safety_line(self, s: SafetyResult) -> Safe:
        severity = self.words.term_of_card("severity", s.rule.severity)
        state = self.words.term_of_card("finding", s.finding.presence)
        why = report.because(s.outcome, words=self.words)
        return _own(f"{s.rule.title} ({severity}, {', '.join(s.rule.drugs)}): {state}, {why}")

    def _reason(self, reason: Reason) -> Safe:
        return _own(self.words.reason(reason))

    def _heading(self, key: str) -> Safe:
        return _own(f"**{self.words.card('heading', key)}**")

    def _section(self, key: str, items: list[Safe]) -> list[Safe]:
        return [self._heading(key), markdown.bullets(items)] if items else []

    def _time(self, moment: datetime) -> str:
        return moment.astimezone(self.zone).strftime("%Y-%m-%d %H:%M %Z")

    def _entries(self) -> dict[str, Any]:
        plain = self.words.cleaned_by(_plain)
        return {"protocols": [report.protocol_entry(p, assessment=self.a, words=plain) for p in self.a.protocols]}

    def _suggestion(self, number: int, draft: Draft) -> Suggestion:
        return Suggestion(
            label=draft.label,
            uuid=str(uuid5(self.decision, f"suggestion/{number}")),
            actions=(Action(type="create", description=draft.description, resource=draft.resource),),
        )

    def _card(
        self,
        name: str,
        *,
        summary: str,
        indicator: Any,
        parts: Sequence[Safe],
        extension: dict[str, Any],
        suggestions: tuple[Suggestion, ...] = (),
    ) -> Card:
        return Card(
            summary=markdown.plain(summary, limit=SUMMARY_LIMIT),
            indicator=indicator,
            source=_source(self.words),
            detail="\n\n".join(parts),
            uuid=str(uuid5(self.decision, f"card/{name}")),
            suggestions=suggestions,
            selection_behavior="any" if suggestions else None,
            override_reasons=_overrides(self.words),
            links=(EVIDENCE_LINK,),
            extension=extension,
        )


def _source(words: Words) -> Source:
    return Source(label=words.setting("source_label"), topic=TOPIC)


def _overrides(words: Words) -> tuple[OverrideReason, ...]:
    return tuple(
        OverrideReason(code=row["code"], system=row.get("system", SYSTEM), display=row["display"])
        for row in words.overrides()
    )


def _days(days: int | None, suffix: str) -> str:
    if days is None:
        return "date not found"
    return f"{days} {'day' if days == 1 else 'days'} {suffix}".strip()


def _number(m: Measurement) -> str:
    return f"{m.comparator}{'' if m.value is None else decimal_text(m.value)}"


def _clean(value: str) -> str:
    return markdown.text(value)


def _plain(value: str) -> str:
    return markdown.plain(value, limit=200)


def _own(value: str) -> Safe:
    """Our own words around words already neutralised."""
    return markdown.literal(value)
