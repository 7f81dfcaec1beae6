"""What a signed case may expect, by its words, and whether the service says so (app/protocols/README.md).

Words that an assessment answers are taken from it; the public answer with its cards is made only for a word that asks
for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

from app.clinical.assessment import Assessment
from app.clinical.changes import Change, Span, flips
from app.clinical.findings import Finding
from app.clinical.readers.labs import shown
from app.clinical.reading import decimal_text
from app.outlook import UNSEEN, Outlook

Document = Mapping[str, Any]


class UnknownWord(ValueError):
    """A case expects something under a name that is neither a word nor an id of the knowledge."""


@dataclass(slots=True)
class Said:
    """What the service says about one patient. `protocol`: the case file's own; `publish` makes the public answer,
    `ahead` looks at the time to come."""

    protocol: str
    assessment: Assessment
    publish: Callable[[], Document]
    ahead: Callable[[], Outlook] = lambda: UNSEEN
    _document: Document | None = field(default=None, init=False)

    @property
    def document(self) -> Document:
        """The public answer, made once."""
        if self._document is None:
            self._document = self.publish()
        return self._document


def _withheld(said: Said) -> set[str]:
    named = {"id", "input", "drug"}
    reasons = said.assessment.withheld
    return {w for r in reasons for w in (r.code, *(value for name, value in r.params if name in named))}


def _outcome(said: Said) -> str:
    row = said.assessment.row
    if row.card == "course":
        return "follow-up"
    return "card" if said.document["cards"] else row.outcome


def _safety_card(said: Said) -> str:
    return "yes" if any(card["indicator"] == "warning" for card in said.document["cards"]) else "no"


def _orders(said: Said) -> list[str]:
    return [dosage["text"] for order in said.document["suggestions"] for dosage in order["dosageInstruction"]]


def _on_record(said: Said) -> set[str]:
    own = next(p for p in said.document["protocols"] if p["id"] == said.protocol)
    return {c["on_record"] for c in own["confirmations"]}


def _planned(drug: str) -> Callable[[Said], str]:
    def planned(said: Said) -> str:
        steps = dict(said.assessment.follow_up.planned)
        if drug not in steps:
            return "unknown"
        step = steps[drug]
        return "none" if step is None else f"{decimal_text(step.dose_mg)} mg x {step.per_day}"

    return planned


def _recorded(drug: str) -> Callable[[Said], str]:
    def recorded(said: Said) -> str:
        totals = [r.mg for r in said.assessment.follow_up.recorded if r.drug == drug]
        return "unknown" if not totals or totals[0] is None else f"{decimal_text(totals[0])} mg"

    return recorded


def _action(id_: str, said: Said) -> str:
    found = next((a for a in said.assessment.follow_up.actions if a.action.id == id_), None)
    return "not-listed" if found is None else found.finding.presence


def _quantity(part: str, name: str, said: Said) -> str:
    """One cell of Table 2: `baseline`, `value`, `ratio`, `letter` (day: mean ± SD), `letter-ratio` (of its means) or
    `why` something is missing."""
    trend = next(t for t in said.assessment.follow_up.trends if t.quantity.name == name)
    if part == "ratio":
        return "none" if trend.ratio is None else decimal_text(trend.ratio)
    if part == "letter":
        return "none" if trend.pilot is None else f"{trend.pilot[0]}: {trend.pilot[1].mean} ± {trend.pilot[1].sd}"
    if part == "letter-ratio":
        return "none" if trend.pilot is None else f"{trend.pilot[0]}: {decimal_text(trend.pilot[1].ratio)}"
    if part == "why":
        return ", ".join(reason.code for reason in trend.reasons) or "nothing"
    measured = trend.baseline if part == "baseline" else trend.value
    return "none" if measured is None else shown(measured)


def _present(severity: str) -> Callable[[Said], list[str]]:
    return lambda said: [r.rule.id for r in said.assessment.present if r.rule.severity == severity]


def _flips(said: Said) -> set[str]:
    """Each set of changes in signs: "met: ferritin > 1000", "not-met: pf >= 100 + crs > 30"."""
    own = said.assessment.protocol(said.protocol)
    found = flips(own, readings=said.assessment.readings, knowledge=said.assessment.knowledge)
    return {f"{flip.to.value}: {' + '.join(f'{c.input} {_condition(c)}' for c in flip.changes)}" for flip in found}


def _condition(change: Change) -> str:
    if change.spans:
        return " or ".join(map(_span, change.spans))
    states = " or ".join(change.states) or "any value"
    return f"not {states}" if change.negated else states


def _span(span: Span) -> str:
    low = [] if span.low is None else [f"{'>' if span.open_low else '>='} {decimal_text(span.low)}"]
    high = [] if span.high is None else [f"{'<' if span.open_high else '<='} {decimal_text(span.high)}"]
    return " and ".join((*low, *high))


def _holds_until(said: Said) -> str:
    """On the facility's clock."""
    moment = said.ahead().until.get(said.protocol)
    if moment is None:
        return "for ever"
    return moment.astimezone(ZoneInfo(said.assessment.zone)).strftime("%Y-%m-%d %H:%M:%S").removesuffix(":00")


WORDS: Mapping[str, Callable[[Said], Any]] = MappingProxyType(
    {
        "verdict": lambda s: s.assessment.protocol(s.protocol).verdict.value,
        "scope": lambda s: s.assessment.protocol(s.protocol).scope,
        "missing": lambda s: list(s.assessment.protocol(s.protocol).missing),
        "not-met": lambda s: [c.id for c in s.assessment.protocol(s.protocol).criteria if c.finding is Finding.NOT_MET],
        "speak": lambda s: [p.protocol.id for p in s.assessment.protocols if p.protocol.speak],
        "pf": lambda s: s.assessment.protocol(s.protocol).values.get("pf", "none"),
        "card": lambda s: s.assessment.row.card,
        "row": lambda s: s.assessment.row.id,
        "outcome": _outcome,
        "suggestions": lambda s: "yes" if s.assessment.suggest else "no",
        "orders": _orders,
        "safety-card": _safety_card,
        "absolute": _present("absolute"),
        "relative": _present("relative"),
        "monitor": _present("monitor"),
        "withheld": _withheld,
        "confirm": lambda s: {w for r in s.assessment.confirm for w in (r.code, *(value for _, value in r.params))},
        "asks": lambda s: {c.id for c in s.assessment.protocol(s.protocol).confirmations},
        "on-record": _on_record,
        "gaps": lambda s: {gap["why"] for gap in s.document["gaps"]},
        "day": lambda s: s.assessment.follow_up.day or "unknown",
        "course": lambda s: s.assessment.follow_up.scope,
        "actions": lambda s: [a.action.id for a in s.assessment.follow_up.actions if a.finding is Finding.MET],
        "indicator": lambda s: next((card["indicator"] for card in s.document["cards"]), "none"),
        "planned-anakinra": _planned("anakinra"),
        "planned-ruxolitinib": _planned("ruxolitinib"),
        "recorded-anakinra": _recorded("anakinra"),
        "recorded-ruxolitinib": _recorded("ruxolitinib"),
        "changes": _flips,
        "holds-until": _holds_until,
        "says": lambda s: "\n".join(f"{card['summary']}\n{card['detail']}" for card in s.document["cards"]),
    }
)
"""Everything a case may expect beside the findings of criteria and of safety rules, which go by their ids."""


def value(word: str, said: Said) -> Any:
    """What the service says under this word. Raises UnknownWord."""
    if word in WORDS:
        return WORDS[word](said)
    for protocol in said.assessment.protocols:
        for criterion in protocol.criteria:
            if criterion.id == word:
                return criterion.finding.value
    for result in said.assessment.safety:
        if result.rule.id == word:
            return result.finding.presence
    follow_up = said.assessment.knowledge.follow_up
    if word in {action.id for action in follow_up.actions}:
        return _action(word, said)
    part, _, name = word.rpartition("-")
    cells = {"baseline", "value", "ratio", "letter", "letter-ratio", "why"}
    if part in cells and name in {q.name for q in follow_up.quantities}:
        return _quantity(part, name, said)
    raise UnknownWord(f"expect: no such word {word!r}")


def disagreements(expect: Mapping[str, Any], said: Said) -> dict[str, tuple[Any, Any]]:
    """Word -> what the case says, what the service says; empty when they agree. Raises UnknownWord."""
    found = {word: (wanted, value(word, said)) for word, wanted in expect.items()}
    return {word: (wanted, got) for word, (wanted, got) in found.items() if not _agrees(word, wanted, got)}


def _agrees(word: str, wanted: Any, got: Any) -> bool:
    """Lists say what is among it, except `missing`, `not-met`, `speak`, `orders` and `actions`, which are exact; text
    is looked for in all cards."""
    if word == "says":
        return all(phrase in got for phrase in wanted)
    if word in {"gaps", "on-record"}:
        return all(any(phrase in why for why in got) for phrase in wanted)
    if word in {"withheld", "confirm", "asks", "changes", "absolute", "relative", "monitor"}:
        return set(wanted) <= set(got) if wanted else not got
    if word in {"missing", "actions", "not-met", "speak"}:
        return sorted(wanted) == sorted(got)
    return bool(wanted == got)
