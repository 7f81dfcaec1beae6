"""What the mapping made of the patients examined: values by concept, what was refused and why, what the rules can read.

Of values only the newest of each concept is kept, as a number in the canonical unit or as an answer; of what was
refused, an example where the number itself is the question.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from app.clinical.assessment import assess
from app.clinical.chart import Chart
from app.clinical.knowledge import Knowledge, Leaf, Node, Not, Ref
from app.clinical.readers import read
from app.clinical.reading import Reading, Reason
from app.doctor import codes, words
from app.protocols.words import Words
from fhir_mappings import observations, units
from fhir_mappings.facts import Facts, Gap, Measurement, Overlay

State = Literal["usable", "by-absence", "old", "signed", "not-asked", "missing"]

PROTOCOL: Final = "pilot-simple"
"""Whose criteria decide, with the required safety set, whether a server is ready."""

CALCULATED: Final = frozenset({"derived", "estimated"})
"""Kinds of values that nobody sent but that follow from others."""

GENERIC_ECMO: Final = "ECMO of no stated configuration"
"""The count of `records` that asks for `generic_ecmo` in the overlay."""

_OLD: Final = frozenset({"stale", "gas-stale", "state-stale"})
_SIGNED: Final = frozenset({"not-measured-at-site", "source-absent"})
_BY_ABSENCE: Final = "no-ecmo-on-record"
_NOT_ASKED: Final = frozenset({"male", "age-outside-childbearing"})
"""Reasons by which a rule says that its question is none for this patient."""

_ON_ECMO: Final = frozenset({"vv", "va", "generic"})
_NUMBERS: Final = frozenset({"no-unit", "unit-not-accepted", "unit-conflict", "implausible", "fraction-unclear"})
"""Refusals where the number, with its unit, is what a person has to look at."""

_EMPTY: Final = re.compile(r"\s*\(\s*\)")
_SHOWN_WORDS: Final = frozenset({"source", "why", "input", "limit", "status", "specimen", "concepts"})
"""Words of a reason or gap that come from our tables, or are a status or specimen: never a value, never free text."""


@dataclass(frozen=True, slots=True)
class Found:
    """One concept. `codes` are `system|code` with how often, `units` as written; `newest` is what was seen last."""

    concept: str
    count: int = 0
    patients: int = 0
    codes: tuple[tuple[str, int], ...] = ()
    units: tuple[tuple[str, int], ...] = ()
    newest: Measurement | None = None
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """What was there and not used: one reason for one concept ('' where a record is of none).

    `codes` are those of the refused results, `example` the newest number where it is the question, `unit` as written.
    """

    concept: str
    why: str
    text: str
    count: int
    source: str
    example: str = ""
    unit: str = ""
    codes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Input:
    """One input of the rules: in how many of the patients that it was asked for it could be read, and why not.

    `rules` are the criteria that ask for it, or `safety`.
    """

    name: str
    title: str
    rules: tuple[str, ...]
    states: tuple[tuple[State, int], ...]
    reasons: tuple[tuple[str, int], ...] = ()

    @property
    def ready(self) -> bool:
        """Found in one patient at least, or signed as absent, or a question that no examined patient raises."""
        asked = {state for state, _ in self.states} - {"not-asked"}
        return asked != {"missing"}


@dataclass(slots=True)
class _Concept:
    count: int = 0
    patients: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    units: Counter[str] = field(default_factory=Counter)
    newest: Measurement | None = None


@dataclass(slots=True)
class _Refusal:
    text: str
    source: str
    count: int = 0
    example: str = ""
    unit: str = ""
    when: datetime | None = None
    codes: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class _Input:
    title: str
    rules: dict[str, None] = field(default_factory=dict)
    states: Counter[State] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)


class Coverage:
    """Counts over all examined patients; one `add` each."""

    def __init__(self, *, knowledge: Knowledge, texts: Words, overlay: Overlay) -> None:
        self._knowledge = knowledge
        self._words = texts
        self._overlay = overlay
        self._concepts: dict[str, _Concept] = {}
        self._refusals: dict[tuple[str, str, str], _Refusal] = {}
        self._inputs: dict[str, _Input] = {}

    def add(self, facts: Facts, raws: Iterable[bytes], *, now: datetime) -> None:
        """One patient's facts and the Observations they were made of."""
        nodes = {reference: found for raw in raws for reference, found in (codes.nodes(raw),) if reference}
        own: set[str] = set()
        for one in facts.measurements:
            self._measurement(one, own, typed=_is_typed(nodes.get(one.reference, ())))
        for gap in facts.gaps:
            self._gap(gap, nodes.get(gap.reference, ()))
        self._limits(facts)
        self._readings(facts, now=now)

    def _measurement(self, one: Measurement, own: set[str], *, typed: bool) -> None:
        tally = self._concepts.setdefault(one.concept, _Concept())
        tally.count += 1
        if one.concept not in own:
            own.add(one.concept)
            tally.patients += 1
        calculated = one.kind in CALCULATED
        tally.codes[f"({one.kind})" if calculated else one.code] += 1
        if one.value is not None and not calculated:
            tally.units[words.unit(words.unit_of(one.original), typed=typed)] += 1
        if tally.newest is None or one.when.earliest > tally.newest.when.earliest:
            tally.newest = one

    def _gap(self, gap: Gap, nodes: tuple[codes.Node, ...]) -> None:
        params = dict(gap.params)
        shown = {name: words.name(value) for name, value in params.items() if name in _SHOWN_WORDS}
        text = self._words.why(gap.why, {**shown, "unit": "", "seen": "", "values": ""})
        unit, example = "", ""
        if gap.why in _NUMBERS:
            unit = words.unit(params.get("unit", ""), typed=_is_typed(nodes))
            example = words.number(params.get("seen", ""))
            if _is_typed(nodes) and not units.is_unit(words.unit_of(params.get("seen", ""))):
                example = ""  # a number that somebody typed may be anything: a telephone number, a date of birth
        self._refuse(
            gap.concept,
            gap.why,
            _Refusal(_tidy(text), gap.source, 1, example, unit, None if gap.when is None else gap.when.latest),
            codes.marks_of(nodes, gap.concept, overlay=self._overlay),
        )

    def _refuse(self, concept: str, why: str, one: _Refusal, marks: Iterable[str]) -> None:
        known = self._refusals.setdefault((concept, why, one.unit), _Refusal(one.text, one.source))
        known.count += one.count
        if known.when is None or (one.when is not None and one.when > known.when):
            known.when, known.example, known.unit = one.when, one.example, one.unit
        known.codes.update(dict.fromkeys(marks, 1))

    def _limits(self, facts: Facts) -> None:
        """ALT and AST without an upper limit of normal: used by no rule."""
        text = str(words.texts()["reading"]["no-upper-limit"])
        for one in facts.measurements:
            if one.uln is None and one.value is not None and observations.concepts()[one.concept].uln:
                self._refuse(one.concept, "no-upper-limit", _Refusal(text, "labs", 1, unit=one.unit), [one.code])

    def _readings(self, facts: Facts, *, now: datetime) -> None:
        chart = Chart(facts, knowledge=self._knowledge, now=now)
        for criterion in self._knowledge.protocol(PROTOCOL).criteria:
            # A rule may ask the same in several places; of a patient it is counted once.
            for leaf in {leaf.input: leaf for leaf in leaves(criterion.tree)}.values():
                self._reading(leaf.input, criterion.id, read(chart, leaf), asked=_asks(leaf, chart))
        for name, reading in assess(facts, knowledge=self._knowledge, now=now).required:
            self._reading(name, "safety", reading, asked=True)

    def _reading(self, name: str, rule: str, reading: Reading, *, asked: bool) -> None:
        spec = self._knowledge.inputs.get(name)
        title = self._words.term("required", name) if spec is None else spec.title
        known = self._inputs.setdefault(name, _Input(title))
        known.rules[rule] = None
        state = _state(reading) if asked else "not-asked"
        known.states[state] += 1
        if state in {"old", "missing"}:
            known.reasons[self._because(reading.reason)] += 1

    def _because(self, reason: Reason) -> str:
        """Why an input is unknown, in words without a value."""
        own = words.texts()["reading"].get(reason.code)
        params = {name: words.name(value) for name, value in reason.params}
        if own is not None:
            return str(own).format_map({"limit": params.get("limit", "")})
        shown = tuple((n, v if n in _SHOWN_WORDS else "") for n, v in reason.params)
        return _tidy(self._words.reason(Reason(reason.code, shown)))

    def found(self, concepts: Iterable[str]) -> tuple[Found, ...]:
        """These concepts, in this order."""
        refused: Counter[str] = Counter()
        for (concept, why, _), one in self._refusals.items():
            refused[concept] += one.count if why != "no-upper-limit" else 0
        return tuple(
            Found(
                concept=name,
                count=one.count,
                patients=one.patients,
                codes=tuple(one.codes.most_common()),
                units=tuple(one.units.most_common()),
                newest=one.newest,
                refused=refused[name],
            )
            for name in concepts
            for one in (self._concepts.get(name, _Concept()),)
        )

    def refused(self) -> tuple[Refused, ...]:
        """By concept, the commonest reason first."""
        found = [
            Refused(concept, why, one.text, one.count, one.source, one.example, one.unit, tuple(sorted(one.codes)))
            for (concept, why, _), one in self._refusals.items()
        ]
        return tuple(sorted(found, key=lambda one: (one.concept == "", one.concept, -one.count, one.why, one.unit)))

    def inputs(self) -> tuple[Input, ...]:
        """In the order of the criteria, then the required safety set."""
        return tuple(
            Input(name, one.title, tuple(one.rules), tuple(one.states.most_common()), tuple(one.reasons.most_common()))
            for name, one in self._inputs.items()
        )


def leaves(node: Node) -> Iterator[Leaf]:
    """Every question of a tree."""
    if isinstance(node, Leaf):
        yield node
    elif isinstance(node, Not):
        yield from leaves(node.child)
    elif not isinstance(node, Ref):
        for child in node.children:
            yield from leaves(child)


def records(facts: Facts) -> Mapping[str, int]:
    """How many records of the other kinds the mapping understood, and how."""
    return {
        "medications, by code": sum(use.identity == "code" for use in facts.medications),
        "medications, by text only": sum(use.identity == "text" for use in facts.medications),
        "medications nobody knows": sum(use.identity == "none" for use in facts.medications),
        "conditions that a rule looks for": len(facts.conditions),
        "procedures that a rule looks for": len(facts.procedures),
        GENERIC_ECMO: sum("ecmo-generic" in one.concepts for one in facts.procedures),
        "allergies": len(facts.allergies),
        "immunizations": len(facts.immunizations),
    }


def _state(reading: Reading) -> State:
    if reading.reason.code in _NOT_ASKED:
        return "not-asked"
    if reading.known:
        return "by-absence" if reading.reason.code == _BY_ABSENCE else "usable"
    if reading.reason.code in _OLD:
        return "old"
    return "signed" if reading.reason.code in _SIGNED else "missing"


def _asks(leaf: Leaf, chart: Chart) -> bool:
    """The oxygenator's fraction is a question only while ECMO runs."""
    return leaf.input != "ecmo_fdo2" or read(chart, Leaf("ecmo_at_gas")).state in _ON_ECMO


def _is_typed(nodes: Iterable[codes.Node]) -> bool:
    return any(node.typed for node in nodes)


def _tidy(text: str) -> str:
    """A sentence whose values were left out, without what they leave behind."""
    return " ".join(_EMPTY.sub("", text).split()).strip(" ,;:")
