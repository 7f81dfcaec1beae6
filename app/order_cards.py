"""The cards about orders that are being written: one about what speaks against them, one about the letter's schedule.

The words are `[order]` of `app/protocols/shared/cards.toml`, `orders.toml` and `safety.toml`. A suggestion changes or
removes one draft, one action each; what it does is said in full, because some clients show nothing else of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo

from app import report
from app.card_frame import EVIDENCE, Frame, clean, own, plain
from app.clinical.course import STUDY_DRUGS
from app.clinical.findings import Finding
from app.clinical.orders import Checked, Correction, OrderAssessment
from app.clinical.reading import decimal_text
from app.clinical.results import SafetyResult
from app.protocols import orders
from app.protocols.words import Words
from cds_hooks import markdown
from cds_hooks.markdown import Safe
from cds_hooks.response import Action, Card, Suggestion
from fhir_mappings.facts import DraftOrder

Corrected = Callable[[Correction], "dict[str, Any] | None"]
"""The whole draft with its correction; None where it cannot be made."""

_SECTION = "order"
_MOST_SUGGESTIONS = 4
_MOST_LINES = 12
_LARGEST_MG = 99999
"""A larger number is no dose that anybody wrote; it is not printed either."""

_MOST_ENTRIES = 100
"""Of drafts and checks in the extension; a client may send a thousand drafts."""


def build(
    found: OrderAssessment,
    *,
    words: Words,
    decision: UUID,
    corrected: Corrected,
    version: str,
    source_url: str | None = None,
) -> tuple[Card, ...]:
    """The cards of these orders: none, one or two. `version` of the checks."""
    page = _Page(found, words=words.cleaned_by(clean), decision=decision, source_url=source_url, version=version)
    removals: list[Suggestion] = []
    changes: list[Suggestion] = []
    for correction in found.corrections[: 2 * _MOST_SUGGESTIONS]:
        suggestion = page.suggestion(correction, corrected)
        if suggestion is not None:
            (removals if correction.remove else changes).append(suggestion)
    cards = []
    if found.raises_safety:
        # What removes a draft stands beside the reason for it; without a safety card that is a duplicate.
        cards.append(page.safety(removals))
        removals = []
    if found.raises_protocol:
        cards.append(page.protocol([*removals, *changes]))
    return tuple(cards)


class _Page:
    def __init__(
        self, found: OrderAssessment, *, words: Words, decision: UUID, source_url: str | None, version: str
    ) -> None:
        self.o = found
        self.words = words
        self.decision = decision
        self.versions = ((orders.ID, version),)
        self.frame = Frame(words, decision, source_url, found.now, ZoneInfo(found.zone), found.lost, found.gaps)

    def say(self, key: str, **words: str) -> str:
        return self.words.card(_SECTION, key, **words)

    # --- what speaks against them

    def safety(self, suggestions: Sequence[Suggestion]) -> Card:
        checks = [c for c in self.o.checks if c.check.card == "safety"]
        rows = [self._row(s) for s in (*self.o.safety, *self.o.watched)]
        header = tuple(own(h) for h in ("Drug", "Severity", "Finding", "State", "On record"))
        parts = [*self._drafts(), *([markdown.table(header, rows)] if rows else [])]
        parts += self._checks(checks, "heading_found")
        shown = (*self.o.present, *self.o.watched)
        parts += self.frame.section("advice", [own(f"{s.rule.title}: {s.rule.advice}") for s in shown])
        missing = [own(self.words.term("required", name)) for name, _ in self.o.required]
        parts += self.frame.section("missing", missing)
        parts += [*self.frame.not_looked_at(), self.frame.version(self.versions)]
        return self.frame.card(
            "safety",
            summary=self._safety_summary(checks),
            indicator=self._indicator(),
            parts=parts,
            suggestions=tuple(suggestions[:_MOST_SUGGESTIONS]),
            extension={EVIDENCE: self._entries(checks)},
        )

    def _indicator(self) -> Literal["info", "warning", "critical"]:
        """Critical only when an absolute finding meets a signature (reading 7)."""
        if self.o.is_absolute:
            return "critical" if self.o.hook == "order-sign" else "warning"
        grave = any(c.check.card == "safety" and c.check.severity != "info" for c in self.o.checks)
        return "warning" if grave or self.o.safety or self.o.required else "info"

    def _safety_summary(self, checks: Sequence[Checked]) -> str:
        """What is certain comes first, the gravest before the others; then what could not be determined."""
        certain = [c.check.title for c in checks if c.finding is Finding.MET]
        certain += [s.rule.title for s in self.o.present]
        titles = certain or [_title(c) for c in checks]
        if not titles and not self.o.safety and not self.o.required:
            titles = [s.rule.title for s in self.o.watched]
        if titles:
            return self._summary("safety", titles)
        unread = [self.words.title(m) for s in self.o.safety for m in s.outcome.missing]
        names = dict.fromkeys([*(self.words.term("required", name) for name, _ in self.o.required), *unread])
        return self.say("safety_missing", drafts=self._drafted(), missing=", ".join(names))

    def _summary(self, card: str, titles: Sequence[str]) -> str:
        key = f"{card}_one" if len(titles) == 1 else f"{card}_many"
        return self.say(key, drafts=self._drafted(), first=titles[0], count=str(len(titles) - 1))

    def _row(self, result: SafetyResult) -> tuple[Safe, ...]:
        return (
            own(", ".join(result.rule.drugs)),
            own(self.words.term_of_card("severity", result.rule.severity)),
            own(clean(result.rule.title)),
            own(self.words.term_of_card("finding", result.finding.presence)),
            own(report.because(result.outcome, words=self.words)),
        )

    # --- beside the letter's schedule

    def protocol(self, suggestions: Sequence[Suggestion]) -> Card:
        checks = [c for c in self.o.checks if c.check.card == "protocol"]
        titles = [_title(c) for c in checks]
        serious = any(c.check.severity != "info" for c in checks)
        parts = [own(self.say("honest")), *self._drafts(), *self._checks(checks, "heading_checks")]
        parts += [own(self.say("apart")), *self.frame.not_looked_at(), self.frame.version(self.versions)]
        return self.frame.card(
            "protocol",
            summary=self._summary("protocol", titles),
            indicator="warning" if serious else "info",
            parts=parts,
            suggestions=tuple(suggestions[:_MOST_SUGGESTIONS]),
            extension={EVIDENCE: self._entries(checks)},
        )

    # --- parts of both

    def _drafted(self) -> str:
        """The drugs of a summary, the study drugs first."""
        names = [self._names(draft) for draft in self.o.orders if set(STUDY_DRUGS).intersection(_possible(draft))]
        concerned = set(self._references())
        names += [self._names(d) for d in self.o.orders if d.use.reference in concerned]
        names = list(dict.fromkeys(names)) or [self.say("unnamed")]
        text = self.say("and").join(names)
        return text[:1].upper() + text[1:]

    def _references(self) -> Iterable[str]:
        for checked in self.o.checks:
            yield checked.draft.use.reference
        for result in (*self.o.safety, *self.o.watched):
            yield from (e.reference for e in result.outcome.evidence)

    def _names(self, draft: DraftOrder, *, shown: Callable[[str], str] = plain) -> str:
        """What a draft orders; `shown` neutralises what the client calls it, for a line of text or for markdown."""
        use = draft.use
        if use.possibly and use.identity == "code":
            label = shown(use.label) if use.label.strip() else " + ".join(use.ingredients)
            return self.say("possibly_too", label=label, drugs=" or ".join(use.possibly[:3]))
        if use.possibly:
            return self.say("possibly", drugs=" or ".join(use.possibly[:3]))
        if use.ingredients:
            return " + ".join(use.ingredients)
        unnamed = "unnamed" if draft.vaccine is None else "vaccine"
        return shown(use.label) if use.label.strip() else self.say(unnamed)

    def _drafts(self) -> list[Safe]:
        lines = []
        for draft in self.o.orders[:_MOST_LINES]:
            lines.append(own(self._draft(draft, shown=clean)))
            if self.o.is_by_text(draft):
                key = "checked_as_too" if draft.use.identity == "code" else "checked_as"
                drugs = " or ".join(draft.use.possibly)
                lines.append(own(self.say(key, label=clean(draft.use.label), drugs=drugs)))
        return self._section("heading_drafts", lines + self._more(len(self.o.orders)))

    def _more(self, count: int) -> list[Safe]:
        left = count - _MOST_LINES
        return [own(self.words.card("detail", "more", count=str(left)))] if left > 0 else []

    def _draft(self, draft: DraftOrder, *, shown: Callable[[str], str] = plain) -> str:
        if draft.vaccine is not None:
            return self._names(draft, shown=shown)
        if draft.use.systemic is False:
            return self.say("local", drug=self._names(draft, shown=shown))
        mg = draft.use.daily_mg
        unread = mg is None or not 0 < mg <= _LARGEST_MG
        dose = self.say("dose_unread") if mg is None or unread else self.say("dose", mg=_rounded(mg))
        first = "today" if draft.first_day is None else draft.first_day.isoformat()
        key = {"written": "days", "open": "days_open", "unreadable": "days_unread"}[draft.end]
        last = "" if draft.last_day is None else draft.last_day.isoformat()
        return self.say(
            "draft", drug=self._names(draft, shown=shown), dose=dose, days=self.say(key, first=first, last=last)
        )

    def _checks(self, checks: Sequence[Checked], heading: str) -> list[Safe]:
        lines = [
            own(self.say("check", title=_title(c), why=self.words.reason(c.reason), advice=c.check.advice))
            for c in checks[:_MOST_LINES]
        ]
        return self._section(heading, list(dict.fromkeys(lines)) + self._more(len(checks)))

    def _section(self, key: str, lines: list[Safe]) -> list[Safe]:
        return [own(f"**{self.say(key)}**"), markdown.bullets(lines)] if lines else []

    def suggestion(self, correction: Correction, corrected: Corrected) -> Suggestion | None:
        """One action on one draft; None where the draft has no id, or cannot be changed so."""
        try:
            return self._suggestion(correction, corrected)
        except ValueError:  # something in the client's own draft that no card can carry
            return None

    def _suggestion(self, correction: Correction, corrected: Corrected) -> Suggestion | None:
        draft = correction.draft
        uuid = str(uuid5(self.decision, f"suggestion/{draft.place}"))
        if correction.remove:
            if not draft.removable:
                return None
            label = self.say("remove", draft=self._draft(draft))
            description = self.say("remove_description", draft=self._draft(draft))
            action = Action(type="delete", description=description, resource_id=draft.use.reference)
            return Suggestion(label=label, uuid=uuid, actions=(action,))
        resource = corrected(correction) if draft.removable else None
        if resource is None:
            return None
        changes = []
        if correction.daily_mg is not None:
            was = _rounded(draft.use.daily_mg or Decimal(0))
            changes.append(self.say("change_dose", mg=decimal_text(correction.daily_mg), was=was))
        if correction.last_day is not None:
            changes.append(self.say("change_end", last=correction.last_day.isoformat()))
        words = {"drug": self._names(draft), "changes": ", ".join(changes)}
        action = Action(type="update", description=self.say("change_description", **words), resource=resource)
        return Suggestion(label=self.say("change", **words), uuid=uuid, actions=(action,))

    def _entries(self, checks: Sequence[Checked]) -> dict[str, Any]:
        """What the card rests on, as data."""
        return entries(self.o, words=self.words.cleaned_by(plain), checks=checks)


def entries(found: OrderAssessment, *, words: Words, checks: Sequence[Checked] | None = None) -> dict[str, Any]:
    """The drafts, the checks that speak (`checks`: only these) and the safety findings that concern them."""
    spoken = (found.checks if checks is None else checks)[:_MOST_ENTRIES]
    shown: dict[str, Any] = {
        "drafts": [_draft_entry(draft) for draft in found.orders[:_MOST_ENTRIES]],
        "checks": [
            {
                "id": c.check.id,
                "finding": c.finding.presence,
                "severity": c.check.severity,
                "draft": report.printable(c.draft.use.reference),
                "reason": words.reason(c.reason),
                "evidence": report.evidence(c.evidence, now=found.now),
            }
            for c in spoken
        ],
        "safety": [report.safety_entry(s, now=found.now, words=words) for s in (*found.safety, *found.watched)],
        "missing": [name for name, _ in found.required],
    }
    broader = report.asked_without(found)
    return shown | ({"sources": broader} if broader else {})


def _draft_entry(draft: DraftOrder) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "reference": report.printable(draft.use.reference),
        "drugs": list(draft.use.ingredients),
        "possibly": list(draft.use.possibly),
        "identity": draft.use.identity,
        "end": draft.end,
    }
    if draft.use.daily_mg is not None and draft.use.daily_mg <= _LARGEST_MG:
        entry["daily_mg"] = decimal_text(draft.use.daily_mg)
    days = {"first_day": draft.first_day, "last_day": draft.last_day}
    return entry | {name: day.isoformat() for name, day in days.items() if day is not None}


def _title(checked: Checked) -> str:
    """What could not be determined is never named as a fact."""
    is_open = checked.finding is Finding.UNKNOWN
    return (checked.check.open_title if is_open else "") or checked.check.title


def _rounded(mg: Decimal) -> str:
    return decimal_text(mg.quantize(Decimal("0.01")))


def _possible(draft: DraftOrder) -> tuple[str, ...]:
    return (*draft.use.ingredients, *draft.use.possibly)
