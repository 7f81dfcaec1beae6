"""Observations -> measurements: the right concept, unit, status, time, specimen and method, or a named gap.

Nothing is guessed and nothing is dropped in silence. What is refused and why it may or may not displace an older value
is READINGS 3.1-3.9; each rule names its reading.

Gap codes (params):
    unreadable-resource ()                  the JSON is not an Observation's
    ambiguous-coding (concepts)             its codings mean different things
    status-preliminary, status-registered, status-unknown (status)
    no-time ()                              no readable effective time; displaces: it may be the newest
    future ()                               never displaces
    no-value ()                             never displaces, there is no result; but a final culture says something
    unreadable-value (seen)                 not a number, not an answer that is known
    no-unit (seen), unit-not-accepted (seen, unit), unit-conflict (seen, unit), implausible (seen, unit)
    fraction-unclear (seen, unit)           FiO2 or FdO2: "60" in unit 1, "0.3" in % (reading 3.1)
    not-arterial (specimen), specimen-unknown (), specimen-unresolved ()    never displace (reading 3.3); the last
                                            also stands beside a gas in use: its Specimen was not handed in
    method-not-stated (seen, unit)          compliance; never displaces
    conflict (values)                       results of one instant that differ (reading 3.2)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from functools import cache, lru_cache
from typing import Any, cast

import msgspec

from fhir_mappings import numbers, units
from fhir_mappings.answers import Vocabulary, fold, vocabularies
from fhir_mappings.codebook import Code, load
from fhir_mappings.coding import CodeableConcept, Coding, key
from fhir_mappings.context import Context
from fhir_mappings.facts import Comparator, Gap, Measurement, When
from fhir_mappings.units import Refusal, Row

_LABEL_LENGTH = 100
_SEEN_LENGTH = 60
_COUNTS = frozenset({"final", "amended", "corrected"})
_CORRECTED = frozenset({"amended", "corrected"})
_DOES_NOT_EXIST = frozenset({"entered-in-error", "cancelled"})
_COMPARATORS = frozenset({"", "<", "<=", ">", ">="})
_UCUM = "http://unitsofmeasure.org"

# --------------------------------------------------------------------------- what is read of the resource


class _Quantity(msgspec.Struct, frozen=True, gc=False):
    value: Decimal | None = None
    comparator: str = ""
    unit: str = ""
    system: str = ""
    code: str = ""


class _Identifier(msgspec.Struct, frozen=True, gc=False):
    system: str = ""
    value: str = ""
    type: CodeableConcept | None = None


class _Reference(msgspec.Struct, frozen=True, gc=False):
    reference: str = ""
    display: str = ""
    identifier: _Identifier | None = None


class _Period(msgspec.Struct, frozen=True, gc=False):
    start: str = ""
    end: str = ""


class _Range(msgspec.Struct, frozen=True, gc=False):
    high: _Quantity | None = None
    type: CodeableConcept | None = None
    text: str = ""


class _Collection(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    body_site: CodeableConcept | None = None


class _Contained(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    resource_type: str = ""
    id: str = ""
    type: CodeableConcept | None = None
    collection: _Collection | None = None


class _Meta(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    last_updated: str = ""


class _Node(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """What an Observation and its components have in common. `interpretation` was a single concept before R4."""

    code: CodeableConcept = CodeableConcept()
    value_quantity: _Quantity | None = None
    value_string: str | None = None
    value_codeable_concept: CodeableConcept | None = None
    value_integer: int | None = None
    value_boolean: bool | None = None
    value_range: msgspec.Raw = msgspec.Raw()
    value_ratio: msgspec.Raw = msgspec.Raw()
    interpretation: tuple[CodeableConcept, ...] | CodeableConcept = ()
    reference_range: tuple[_Range, ...] = ()


class _Observation(_Node, frozen=True, gc=False, rename="camel"):
    id: str = ""
    meta: _Meta | None = None
    identifier: tuple[_Identifier, ...] = ()
    status: str = ""
    effective_date_time: str = ""
    effective_instant: str = ""
    effective_period: _Period | None = None
    issued: str = ""
    body_site: CodeableConcept | None = None
    method: CodeableConcept | None = None
    specimen: _Reference | None = None
    contained: tuple[_Contained, ...] = ()
    component: tuple[_Node, ...] = ()
    has_member: tuple[_Reference, ...] = ()


_DECODE = msgspec.json.Decoder(_Observation).decode
_SPECIMEN = msgspec.json.Decoder(_Contained).decode
_UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeError)

# --------------------------------------------------------------------------- what the data file says


@dataclass(frozen=True, slots=True)
class Cutoffs:
    """How a number answers a coded concept.

    Positive at or over `from_` or over `above`, negative under `negative_below` or up to `negative_to`.

    `exact`: a bound ("> 40") answers nothing, as with a cycle threshold, where more is less.
    """

    quantity: str = ""
    from_: Decimal | None = None
    above: Decimal | None = None
    negative_below: Decimal | None = None
    negative_to: Decimal | None = None
    exact: bool = False
    exact_negative: bool = False

    def answer(self, value: Decimal, comparator: Comparator) -> str:
        """positive, negative, or inconclusive when neither is certain."""
        if self.exact and comparator:
            return "inconclusive"
        if comparator in {"", ">", ">="} and (
            (self.from_ is not None and value >= self.from_)
            or (self.above is not None and (value > self.above or (comparator == ">" and value == self.above)))
        ):
            return "positive"
        if self.exact_negative and comparator:
            return "inconclusive"
        if comparator in {"", "<", "<="} and (
            (self.negative_to is not None and value <= self.negative_to)
            or (
                self.negative_below is not None
                and (value < self.negative_below or (comparator == "<" and value == self.negative_below))
            )
        ):
            return "negative"
        return "inconclusive"


@dataclass(frozen=True, slots=True)
class Concept:
    """One table of `concepts/observations.toml`; its head says what the members mean."""

    name: str
    text: str
    quantity: str = ""
    quantities: Mapping[str, str] = field(default_factory=dict)
    kinds: tuple[str, ...] = ()
    site_kind: str = ""
    vocabulary: Vocabulary | None = None
    numeric: Mapping[str, Cutoffs] = field(default_factory=dict)
    trap: bool = False
    panel: bool = False
    gas: bool = False
    method: bool = False
    uln: bool = False
    preliminary: bool = False
    every: bool = False
    unitless: bool = False
    keep_all: bool = False
    abnormal: frozenset[str] = frozenset()
    over: frozenset[str] = frozenset()
    unstated: Mapping[str, str] = field(default_factory=dict)


def _cutoffs(table: Mapping[str, Any]) -> Cutoffs:
    def number(name: str) -> Decimal | None:
        return Decimal(table[name]) if name in table else None

    return Cutoffs(
        quantity=table.get("quantity", ""),
        from_=number("from"),
        above=number("above"),
        negative_below=number("negative_below"),
        negative_to=number("negative_to"),
        exact=table.get("exact", False),
        exact_negative=table.get("exact_negative", False),
    )


@cache
def concepts() -> Mapping[str, Concept]:
    """The concepts of the data file by name."""
    return {
        name: Concept(
            name=name,
            text=table["text"],
            quantity=table.get("quantity", ""),
            quantities=table.get("quantities", {}),
            kinds=tuple(table.get("kinds", ())),
            site_kind=table.get("site_kind", ""),
            vocabulary=vocabularies()[table["answers"]] if "answers" in table else None,
            numeric={kind: _cutoffs(rule) for kind, rule in table.get("numeric", {}).items()},
            trap=table.get("trap", False),
            panel=table.get("panel", False),
            gas=table.get("specimen") == "gas",
            method=table.get("method", False),
            uln=table.get("uln", False),
            preliminary=table.get("preliminary", False),
            every=table.get("every", False),
            unitless=table.get("unitless", False),
            keep_all=table.get("keep_all", False),
            abnormal=frozenset(table.get("abnormal", ())),
            over=frozenset(table.get("over", ())),
            unstated=table.get("unstated", {}),
        )
        for name, table in load("observations").tables.items()
        if name != "answers"
    }


# --------------------------------------------------------------------------- specimen and method

_SPECIMEN_CODES = {
    "snomed|122552005": "arterial",
    "snomed|122555007": "venous",
    "snomed|122554006": "capillary",
    "v2-0487|BLDA": "arterial",
    "v2-0487|BLDV": "venous",
    "v2-0487|BLDC": "capillary",
}
_CIRCUIT = re.compile(
    r"\b(?:ecmo|ecls|oxygenat\w*|membran\w*|(?:post|pre) ?oxy\w*|circuit|kreislauf\w*|extra[ck]orpor\w*)\b"
)
_VENOUS = re.compile(
    r"\b(?:(?:zentral|gemischt|peripher)?venos\w*|venous|veineu(?:x|ses?)|veine|vein|vene|vbg|zvk|cvc)\b"
)
_CAPILLARY = re.compile(r"\b(?:capillar\w*|kapillar\w*|capillaire\w*|earlobe|finger\w*|ohrlapp\w*|fersen\w*|heel)\b")
_ARTERIAL = re.compile(r"\b(?:arterial|arteriell\w*|arteriel(?:le)?s?|arter(?:y|ia|ie|io|e)\w*|abg)\b|^art$")
_STATIC = re.compile(r"\b(?:quasi ?)?(?:static|statique|statisch\w*)\b")
_DYNAMIC = re.compile(r"\b(?:dynamic|dynamique|dynamisch\w*|dyn)\b")
_NASOPHARYNX = re.compile(r"\b(?:nasopharyn\w*|rhinopharyn\w*|nasen rachen\w*)\b")
_LAVAGE = re.compile(r"\b(?:\w*lavage|bal|lba)\b")


def _site_of_text(text: str) -> str:
    """arterial, venous, capillary, circuit, or ''. A circuit, venous or capillary word wins over an arterial one."""
    folded = fold(text) if text else ""
    if not folded:
        return ""
    for site, pattern in (
        ("circuit", _CIRCUIT),
        ("venous", _VENOUS),
        ("capillary", _CAPILLARY),
        ("arterial", _ARTERIAL),
    ):
        if pattern.search(folded):
            return site
    return ""


def _site_of_concept(concept: CodeableConcept | None) -> Iterable[str]:
    if concept is None:
        return
    for coding in concept.coding:
        yield _SPECIMEN_CODES.get(key(coding), "")
        yield _site_of_text(coding.display)
    yield _site_of_text(concept.text)


def _specimen_texts(observation: _Observation, referred: _Contained | None = None) -> Iterable[str]:
    reference = observation.specimen
    if reference is not None:
        yield reference.display
        if reference.identifier is not None:
            yield reference.identifier.value
    for concept in _specimen_types(observation, referred):
        yield concept.text
        for coding in concept.coding:
            yield coding.display


def _specimen_types(observation: _Observation, referred: _Contained | None) -> Iterable[CodeableConcept]:
    """Type and body site of the Specimens (contained, or referred to), and the type of the specimen's identifier."""
    for specimen in (*observation.contained, *(() if referred is None else (referred,))):
        if specimen.resource_type == "Specimen":
            if specimen.type is not None:
                yield specimen.type
            if specimen.collection is not None and specimen.collection.body_site is not None:
                yield specimen.collection.body_site
    if observation.specimen is not None and observation.specimen.identifier is not None:
        named = observation.specimen.identifier.type
        if named is not None:
            yield named


def _named_site(observation: _Observation, referred: _Contained | None) -> str:
    """The specimen that is named: by its reference's text, its Specimen, the body site or the method.

    Anything non-arterial among them wins: a doubtful sample is not an arterial one.
    """
    if observation.specimen is None and observation.body_site is None and observation.method is None:
        return ""
    found = {_site_of_text(text) for text in _specimen_texts(observation, referred)}
    for concept in (*_specimen_types(observation, referred), observation.body_site, observation.method):
        found.update(_site_of_concept(concept))
    for site in ("circuit", "venous", "capillary", "arterial"):
        if site in found:
            return site
    return ""


def _refers(observation: _Observation) -> bool:
    """True when the specimen stands in a resource of its own, which the Observation does not contain."""
    if observation.specimen is None or not observation.specimen.reference:
        return False
    contained = any(inner.resource_type == "Specimen" for inner in observation.contained)
    return not (contained and observation.specimen.reference.startswith("#"))


# --------------------------------------------------------------------------- the work


class _Panel(msgspec.Struct, frozen=True, gc=False):
    """What a member inherits from the Observation that lists it: the panel's reference, specimen and code.

    `unresolved`: the panel refers to a specimen that was not handed in.
    """

    reference: str
    site: str
    arterial_code: bool
    unresolved: bool = False


class _Found(msgspec.Struct):
    """A measurement with what settling two of one instant needs."""

    fact: Measurement
    source: str
    concept: Concept
    identifiers: tuple[str, ...]
    updated: str
    written: Decimal | None = None
    row: Row | None = None


class _Number(msgspec.Struct, frozen=True, gc=False):
    value: Decimal
    comparator: Comparator
    original: str
    unit: str
    row: Row | None
    written: Decimal


class _Refused(msgspec.Struct, frozen=True, gc=False):
    why: str
    params: tuple[tuple[str, str], ...]
    displaces: bool = True


class _Wanted(msgspec.Struct, frozen=True, gc=False):
    """The codings of a node that are ours; when all mean one concept also the concept and its most specific code."""

    codes: list[tuple[Code, Coding]]
    names: frozenset[str] = frozenset()
    concept: Concept | None = None
    code: Code | None = None
    label: str = ""


_UNWANTED = _Wanted([])


class _Place(msgspec.Struct, frozen=True, gc=False):
    """Everything about one Observation that its components share."""

    source: str
    observation: _Observation
    reference: str
    when: When | None
    period_start: datetime | None
    panel: str
    inherited: _Panel | None


def collect(raws: Sequence[tuple[str, bytes]], *, context: Context) -> tuple[tuple[Measurement, ...], tuple[Gap, ...]]:
    """Measurements and gaps of Observations of one patient: `(source key, JSON bytes)` each, already de-duplicated.

    The order of the input does not matter. A resource that cannot be read becomes a gap; nothing is raised.
    """
    reading = _Reading(context)
    read: list[tuple[str, _Observation]] = []
    for source, raw in raws:
        try:
            observation = _DECODE(raw)
        except _UNREADABLE:
            reading.salvage(source, raw)
            continue
        read.append((source, observation))
        if observation.id and observation.id in reading.observations:
            reading.disputed.add(f"Observation/{observation.id}")
        reading.observations[observation.id] = observation
        if observation.has_member:
            reading.add_panel(observation)
    for source, observation in read:
        reading.add(source, observation)
    return reading.settled()


class _Reading:
    """One call of `collect`."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.overlay = context.overlay
        self.find = load("observations").find
        self.concepts = concepts()
        self.panels: dict[str, _Panel] = {}
        self.observations: dict[str, _Observation] = {}
        self.disputed: set[str] = set()
        self.found: list[_Found] = []
        self.gaps: list[Gap] = []
        self.refused_corrections: list[tuple[Gap, tuple[str, ...]]] = []
        self._codes: dict[tuple[str, str], Code | None] = {}
        self._wanted: dict[CodeableConcept, _Wanted] = {}
        self._times: dict[str, When | None] = {}

    # ---- codes and times

    def code(self, coding: Coding) -> Code | None:
        """The code this coding is; the site's own codes first."""
        mark = (coding.system, coding.code)
        if mark in self._codes:
            return self._codes[mark]
        found = None
        if coding.code:
            local = key(coding)
            own = self.overlay.codes.get(local) or self.overlay.codes.get(f"{coding.system}|{coding.code}")
            if own is None:
                found = self.find(coding)
            elif own[0] in self.concepts:
                kind = own[1] or self.concepts[own[0]].site_kind
                found = Code(own[0], local.rpartition("|")[0], coding.code, kind=kind, source="overlay")
        self._codes[mark] = found
        return found

    def when(self, text: str) -> When | None:
        """The interval of a FHIR date; many Observations of one request share it."""
        if text not in self._times:
            self._times[text] = self.context.when(text)
        return self._times[text]

    def time(self, observation: _Observation) -> tuple[When | None, datetime | None]:
        """When it counts, and the start of its period. A period counts at its end, an open one at its start."""
        text = observation.effective_date_time or observation.effective_instant
        if text:
            return self.when(text), None
        period = observation.effective_period
        if period is None:
            return None, None
        start, end = self.when(period.start), self.when(period.end)
        if period.end:
            if end is None or (start is not None and start.earliest > end.latest):
                return None, None
            return end, None if start is None else start.earliest
        return start, None if start is None else start.earliest

    # ---- one resource

    def add_panel(self, observation: _Observation) -> None:
        """Remember what the members inherit; they may stand before or after it."""
        if observation.status in _DOES_NOT_EXIST:
            return
        specimen = self.specimen(observation)
        panel = _Panel(
            f"Observation/{observation.id}",
            _named_site(observation, specimen),
            self.is_arterial_panel(observation),
            specimen is None and _refers(observation),
        )
        for member in observation.has_member:
            mark = _last(member.reference)
            if mark not in self.panels or panel.reference < self.panels[mark].reference:
                self.panels[mark] = panel

    def specimen(self, observation: _Observation) -> _Contained | None:
        """The Specimen that the Observation refers to, by `Specimen/id` or its address; None when not handed in."""
        if not _refers(observation):
            return None
        reference = cast("_Reference", observation.specimen).reference
        known = self.context.specimens
        raw = known.get(reference) or known.get(f"Specimen/{_last(reference)}")
        if raw is None:
            return None
        try:
            return _SPECIMEN(raw)
        except _UNREADABLE:
            return None

    def is_arterial_panel(self, observation: _Observation) -> bool:
        """True for the code of an arterial gas panel."""
        found = (self.code(coding) for coding in observation.code.coding)
        return any(code is not None and code.concept == "gas_panel" and code.kind == "arterial" for code in found)

    def add(self, source: str, observation: _Observation) -> None:
        """The measurements and gaps of one Observation and its components."""
        if observation.status in _DOES_NOT_EXIST:
            return
        wanted = self.wanted(observation.code)
        inner = [(node, found) for node in observation.component if (found := self.wanted(node.code)).codes]
        if not wanted.codes and not inner:
            return
        when, period_start = self.time(observation)
        reference = f"Observation/{observation.id}"
        inherited = self.panels.get(observation.id) if observation.id else None
        panel = inherited.reference if inherited else ""
        if not panel and (observation.component or observation.has_member):
            panel = reference
        if not panel and observation.specimen is not None:
            panel = observation.specimen.reference
        place = _Place(source, observation, reference, when, period_start, panel, inherited)
        if wanted.codes:
            self.node(place, observation, wanted)
        for node, found in inner:
            self.node(msgspec.structs.replace(place, panel=reference), node, found)

    def wanted(self, code: CodeableConcept) -> _Wanted:
        """What the codings of a node mean; a panel's code is none of ours."""
        known = self._wanted.get(code)
        if known is None:
            known = self._wanted[code] = self.resolved(code)
        return known

    def resolved(self, code: CodeableConcept) -> _Wanted:
        """As `wanted`, for a code that was not met before."""
        codes = [
            (found, coding)
            for coding in code.coding
            if (found := self.code(coding)) is not None and not self.concepts[found.concept].panel
        ]
        if not codes:
            return _UNWANTED
        names = frozenset(found.concept for found, _ in codes)
        if len(names) > 1:
            silent = frozenset().union(*(self.concepts[name].over for name in names))
            codes = [(found, coding) for found, coding in codes if found.concept not in silent]
            names -= silent
        if len(names) > 1:
            return _Wanted(codes, names)
        concept = self.concepts[codes[0][0].concept]
        chosen, coding = _most_specific(concept, codes)
        return _Wanted(codes, names, concept, chosen, (code.text or coding.display or concept.text)[:_LABEL_LENGTH])

    def node(self, place: _Place, node: _Node, wanted: _Wanted) -> None:
        """One value with its code: a measurement, or the gap that says why not."""
        observation, concept, code = place.observation, wanted.concept, wanted.code
        if concept is None or code is None:
            self.ambiguous(place, wanted.names)
            return
        if concept.trap:
            if concept.name == "po2_not_arterial":
                self.refuse(place, "pao2", _Refused("not-arterial", (("specimen", code.kind),), displaces=False))
            return
        has_value = _has_value(node) or _is_abnormal(node, concept)
        if place.when is not None and self.context.is_future(place.when):
            self.refuse(place, concept.name, _Refused("future", (), displaces=False))
        elif not self.status_counts(observation.status, concept):
            known = observation.status if observation.status in {"preliminary", "registered"} else "unknown"
            self.refuse(
                place,
                concept.name,
                _Refused(f"status-{known}", (("status", observation.status[:20]),), displaces=has_value),
            )
        elif not has_value:
            if concept.abnormal:
                # A finished culture has a result, wherever it stands; one that still grows has none yet.
                if not self.is_answered_inside(observation, concept):
                    finished = observation.status in _COUNTS
                    self.refuse(place, concept.name, _Refused("no-value", (), displaces=finished))
            elif not (observation.component or observation.has_member):
                self.refuse(place, concept.name, _Refused("no-value", (), displaces=False))
        elif place.when is None:
            self.refuse(place, concept.name, _Refused("no-time", ()))
        else:
            self.value(place, place.when, node, concept, code, wanted)

    def is_answered_inside(self, observation: _Observation, concept: Concept) -> bool:
        """True when a component or a member that was read is of the same concept: that one speaks for it."""
        members = (self.observations.get(_last(member.reference)) for member in observation.has_member)
        inside = (*observation.component, *(member for member in members if member is not None))
        return any(concept.name in self.wanted(node.code).names for node in inside)

    @staticmethod
    def status_counts(status: str, concept: Concept) -> bool:
        """Final, amended and corrected count; preliminary only where a suspicion is enough (readings 3.2, 3.17)."""
        return status in _COUNTS or (concept.preliminary and status == "preliminary")

    def ambiguous(self, place: _Place, names: frozenset[str]) -> None:
        """Codings that mean different things: never a fact. Two that both say pO2 only leave the specimen open."""
        if names == {"pao2", "po2_not_arterial"}:
            self.refuse(place, "pao2", _Refused("not-arterial", (("specimen", "contradictory"),), displaces=False))
            return
        params = (("concepts", ", ".join(sorted(self.concepts[name].text for name in names))),)
        for name in sorted(names):
            if not self.concepts[name].trap:
                self.refuse(place, name, _Refused("ambiguous-coding", params))

    def refuse(self, place: _Place, concept: str, refused: _Refused) -> None:
        """The gap of a refused result. Without a time of its own it is as new as its `issued` allows, or unknown."""
        when = place.when or self.when(place.observation.issued)
        displaces = refused.displaces and (when is None or not self.context.is_future(when))
        gap = Gap(
            place.source,
            refused.why,
            concept,
            place.reference,
            when,
            displaces=displaces,
            params=refused.params,
        )
        self.gaps.append(gap)
        if place.observation.status in _CORRECTED and displaces:
            self.refused_corrections.append((gap, _identifiers(place.observation)))

    def value(self, place: _Place, when: When, node: _Node, concept: Concept, code: Code, wanted: _Wanted) -> None:
        """A final value with a time: specimen, method, number or answer."""
        codes = wanted.codes
        kind, specimen = code.kind, ""
        if concept.gas:
            gas = self.gas(place, node, codes, concept.name)
            if isinstance(gas, _Refused):
                if kind not in concept.unstated or gas.why != "specimen-unknown":
                    self.refuse(place, concept.name, gas)
                    return
                concept, kind = self.concepts[concept.unstated[kind]], ""
            else:
                kind, specimen = "arterial", gas
        number: _Number | None = None
        coded = ""
        if concept.vocabulary is not None:
            answer = self.coded(node, concept, concept.vocabulary, kind)
            if isinstance(answer, _Refused):
                self.refuse(place, concept.name, answer)
                return
            coded, original = answer
            if concept.name == "sarscov2_pcr":
                specimen = _airway_specimen(place.observation, node, kind, self.specimen(place.observation))
        else:
            read = self.number(node, concept, kind, codes)
            if isinstance(read, _Refused):
                bound = kind in {"lower-bound", "upper-bound"}
                self.refuse(place, concept.name, _Refused(read.why, read.params, displaces=not bound))
                return
            if kind == "molar":
                params = (("seen", read.original), ("unit", read.unit))
                self.refuse(place, concept.name, _Refused("unit-not-accepted", params))
                return
            if concept.method:
                judged = self.method(place.observation, node, codes, kind)
                if judged is None:
                    params = (("seen", read.original), ("unit", read.unit))
                    self.refuse(place, concept.name, _Refused("method-not-stated", params, displaces=False))
                    return
                kind = judged
            number, original = read, read.original
        uln, uln_origin = self.uln(node, concept) if concept.uln else (None, "")
        fact = Measurement(
            concept=concept.name,
            reference=place.reference,
            when=when,
            value=None if number is None else number.value,
            comparator="" if number is None else number.comparator,
            unit="" if number is None else number.unit,
            original=original,
            coded=coded,
            label=wanted.label,
            kind=kind,
            specimen=specimen,
            period_start=place.period_start,
            status=place.observation.status,
            uln=uln,
            uln_origin=uln_origin,
            panel=place.panel,
            code=f"{code.system}|{code.code}",
        )
        meta = place.observation.meta
        self.found.append(
            _Found(
                fact,
                place.source,
                concept,
                _identifiers(place.observation),
                "" if meta is None else meta.last_updated,
                None if number is None else number.written,
                None if number is None else number.row,
            )
        )

    # ---- numbers

    def number(self, node: _Node, concept: Concept, kind: str, codes: list[tuple[Code, Coding]]) -> _Number | _Refused:
        """The number of a node in the canonical unit of its concept's quantity."""
        quantity = concept.quantities.get(kind, concept.quantity)
        read = _written(node)
        if isinstance(read, _Refused):
            return read
        value, comparator, unit, code, system, original = read
        if not value.is_finite():
            return _Refused("unreadable-value", (("seen", original),))
        row = _row(quantity, unit, code, system)
        if isinstance(row, Refusal) and row.why == "no-unit":
            bare = concept.unitless and node.value_string is None
            signed = units.quantities()[quantity].unit if bare else self.signed(self.overlay.unit_when_absent, codes)
            if signed:
                row = units.row_of(quantity, signed) or Refusal("unit-not-accepted")
        if isinstance(row, Refusal):
            return _unit_refused(row, original, unit or code)
        known = units.quantities()[quantity]
        canonical = units.by_row(known, value, row)
        if (
            isinstance(canonical, Refusal)
            and canonical.why == "fraction-unclear"
            and not self.overlay.percent_means_fraction.isdisjoint(_marks(codes))
        ):
            canonical = units.convert(quantity, value, "1") if row.over != 1 else canonical
        if isinstance(canonical, Refusal):
            return _unit_refused(canonical, original, unit or code)
        return _Number(canonical, comparator, original, known.unit, row, value)

    @staticmethod
    def signed(table: Mapping[str, str], codes: list[tuple[Code, Coding]]) -> str:
        """What the overlay says about any of the codes, '' when nothing."""
        return next((table[mark] for mark in _marks(codes) if mark in table), "")

    def uln(self, node: _Node, concept: Concept) -> tuple[Decimal | None, str]:
        """The upper limit of normal in the canonical unit and where it is from (reading 3.9)."""
        high = _reference_high(node, concept.quantity)
        if high is not None:
            return high, "reference range"
        local = self.overlay.local_uln.get(concept.name)
        return (None, "") if local is None else (local, "site")

    # ---- specimen and method

    def gas(self, place: _Place, node: _Node, codes: list[tuple[Code, Coding]], name: str) -> str | _Refused:
        """`arterial` for a named arterial specimen, '' when only the code says so, or the refusal (reading 3.5).

        Words of the code count against it, but never as a named arterial specimen: "arterial" is also what
        perfusionists call the blood behind an oxygenator.
        """
        specimen = self.specimen(place.observation)
        named = _named_site(place.observation, specimen)
        unresolved = specimen is None and _refers(place.observation)
        inherited = place.inherited
        if not named and inherited is not None:
            named = inherited.site
            unresolved = unresolved or inherited.unresolved
        by_text = _site_of_text(node.code.text) if node.code.text else ""
        for site in (named, by_text):
            if site not in {"", "arterial"}:
                return _Refused("not-arterial", (("specimen", site),), displaces=False)
        if named or any(mark in self.overlay.arterial for mark in _marks(codes)):
            return "arterial"
        in_panel = inherited is not None and inherited.arterial_code
        by_code = any(code.kind == "arterial" for code, _ in codes)
        stated = by_code or bool(by_text) or in_panel or self.is_arterial_panel(place.observation)
        if unresolved:
            refused = _Refused("specimen-unresolved", (), displaces=False)
            if not stated:
                return refused
            self.refuse(place, name, refused)
        return "" if stated else _Refused("specimen-unknown", (), displaces=False)

    def method(self, observation: _Observation, node: _Node, codes: list[tuple[Code, Coding]], kind: str) -> str | None:
        """static, lower-bound, upper-bound, or None when the method is not stated (reading 3.6)."""
        if any(mark in self.overlay.static for mark in _marks(codes)):
            return "static"
        kinds = {code.kind for code, _ in codes} - {""}
        if kinds >= {"lower-bound", "upper-bound"}:
            return None
        if kinds:
            return "static" if "static" in kinds else kind
        texts = [node.code.text, *(coding.display for _, coding in codes)]
        if observation.method is not None:
            texts.append(observation.method.text)
            texts.extend(coding.display or coding.code for coding in observation.method.coding)
        folded = fold(" ; ".join(texts))
        static, dynamic = bool(_STATIC.search(folded)), bool(_DYNAMIC.search(folded))
        if static == dynamic:
            return None
        return "static" if static else "lower-bound"

    # ---- answers

    def coded(self, node: _Node, concept: Concept, vocabulary: Vocabulary, kind: str) -> tuple[str, str] | _Refused:
        """The coded answer and what was written. Value and interpretation must not contradict each other."""
        raw = node.interpretation
        interpretation = (raw,) if isinstance(raw, CodeableConcept) else raw
        by_interpretation = vocabulary.of_concepts(interpretation, fallback=False)
        answer, original = self.answered(node, concept, vocabulary, kind)
        if answer in {None, vocabulary.mixed} and _is_abnormal(node, concept):
            return "positive", original or _shown(interpretation)
        found = {a for a in (answer, by_interpretation) if a is not None}
        if not found:
            return _Refused("unreadable-value", (("seen", original),))
        return vocabulary.together(found), original or _shown(interpretation)

    def answered(self, node: _Node, concept: Concept, vocabulary: Vocabulary, kind: str) -> tuple[str | None, str]:
        """The answer of the value alone, None when it gives none, and what was written."""
        if node.value_codeable_concept is not None:
            value = node.value_codeable_concept
            return vocabulary.of_concepts((value,)), _shown((value,))
        if node.value_boolean is not None:
            return vocabulary.booleans.get(node.value_boolean), "true" if node.value_boolean else "false"
        rule = concept.numeric.get(kind)
        if node.value_string is not None and (rule is None or numbers.read(node.value_string) is None):
            return _of_string(vocabulary, node.value_string), node.value_string[:_SEEN_LENGTH]
        read = _written(node)
        if isinstance(read, _Refused):
            return None, ""
        number, comparator, unit, code, system, original = read
        if rule is None or not number.is_finite() or number < 0:
            return None, original
        if not rule.quantity:
            return rule.answer(number, comparator), original
        row = _row(rule.quantity, unit, code, system)
        canonical = row if isinstance(row, Refusal) else units.by_row(units.quantities()[rule.quantity], number, row)
        return None if isinstance(canonical, Refusal) else rule.answer(canonical, comparator), original

    # ---- resources that are not an Observation's JSON

    def salvage(self, source: str, raw: bytes) -> None:
        """The gap of an unreadable resource, with its concept and time when at least these can be seen."""
        try:
            document = msgspec.json.decode(raw)
        except _UNREADABLE:
            document = None
        if not isinstance(document, dict):
            self.gaps.append(Gap(source, "unreadable-resource", reference="Observation"))
            return
        if document.get("status") in tuple(_DOES_NOT_EXIST):
            return
        identity = document.get("id")
        reference = f"Observation/{identity}" if isinstance(identity, str) else "Observation"
        when = self.when(next((t for t in _texts_of_time(document) if t), ""))
        codings = [coding for node in _nodes(document) for coding in _codings(node)]
        names = {code.concept for coding in codings if (code := self.code(coding)) is not None}
        ours = sorted(name for name in names if not self.concepts[name].trap and not self.concepts[name].panel)
        if ours:
            displaces = when is None or not self.context.is_future(when)
            self.gaps.extend(
                Gap(source, "unreadable-resource", name, reference, when, displaces=displaces) for name in ours
            )
        elif not codings:
            self.gaps.append(Gap(source, "unreadable-resource", reference=reference, when=when))

    # ---- several results of one instant

    def settled(self) -> tuple[tuple[Measurement, ...], tuple[Gap, ...]]:
        """Corrections replace what they correct; results of one instant that differ are a conflict (reading 3.2)."""
        found = self.without_superseded(self.found)
        groups: dict[tuple[object, ...], list[_Found]] = {}
        kept: list[_Found] = []
        for one in found:
            fact = one.fact
            if one.concept.every or one.concept.keep_all or (fact.coded and not fact.when.exact):
                kept.append(one)
                continue
            part = fact.code if fact.coded else "" if one.concept.gas else fact.kind
            # Two contents under one id are one result, whatever their times.
            at = (fact.reference,) if fact.reference in self.disputed else (fact.when.earliest, fact.when.latest)
            groups.setdefault((fact.concept, part, *at), []).append(one)
        for group in groups.values():
            kept.extend(group if len(group) == 1 else self.one_of(group))
        facts = _cycle_thresholds([one.fact for one in kept])
        return tuple(facts), tuple(self.gaps)

    def without_superseded(self, found: list[_Found]) -> list[_Found]:
        """A corrected or amended result replaces the final one of its concept with its instant or identifier.

        A correction that was refused replaces it too: the old value is known to be wrong.
        """
        instants = {(one.fact.concept, one.fact.when) for one in found if one.fact.status in _CORRECTED}
        instants |= {(gap.concept, gap.when) for gap, _ in self.refused_corrections if gap.when is not None}
        marks = {(one.fact.concept, i) for one in found if one.fact.status in _CORRECTED for i in one.identifiers}
        marks |= {(gap.concept, i) for gap, identifiers in self.refused_corrections for i in identifiers}
        if not instants and not marks:
            return found
        return [
            one
            for one in found
            if one.fact.status in _CORRECTED
            or (
                (one.fact.concept, one.fact.when) not in instants
                and not any((one.fact.concept, i) in marks for i in one.identifiers)
            )
        ]

    def one_of(self, group: list[_Found]) -> list[_Found]:
        """The one to keep of several results of one instant, or none and a conflict gap."""
        group = self.newest_version(group)
        group.sort(key=lambda one: (_step(one), not one.fact.specimen, one.fact.uln is None, one.fact.reference))
        if group[0].fact.coded:
            if not {one.fact.coded for one in group} >= {"positive", "negative"}:
                return group
        else:
            best = next((one for one in group if not one.fact.comparator), group[0])
            if all(_agree(best, one) for one in group):
                return [best]
        first = min(group, key=lambda one: (one.fact.reference, -one.fact.when.latest.timestamp()))
        values = " / ".join(sorted(one.fact.original for one in group))
        self.gaps.append(
            Gap(
                first.source,
                "conflict",
                first.fact.concept,
                first.fact.reference,
                first.fact.when,
                displaces=True,
                params=(("values", values),),
            )
        )
        return []

    def newest_version(self, group: list[_Found]) -> list[_Found]:
        """Versions of one result under several ids: they share an identifier, and the last updated one counts."""
        shared = set(group[0].identifiers).intersection(*(one.identifiers for one in group[1:]))
        updated = [self.when(one.updated) for one in group]
        if not shared or None in updated or len(set(updated)) < len(updated):
            return group
        return [max(group, key=lambda one: cast("When", self.when(one.updated)).latest)]


# --------------------------------------------------------------------------- small readings of one node


def _last(reference: str) -> str:
    """The id a reference ends with, whatever stands before it; a version is cut off."""
    return reference.partition("/_history/")[0].rpartition("/")[2].rpartition(":")[2]


def _identifiers(observation: _Observation) -> tuple[str, ...]:
    return tuple(f"{i.system}|{i.value}" for i in observation.identifier if i.value) if observation.identifier else ()


_NOTHING = frozenset({b"", b"null"})


def _has_value(node: _Node) -> bool:
    """True when there is any result; a qualitative one may stand in `interpretation` alone."""
    quantity = node.value_quantity
    return (
        (quantity is not None and quantity.value is not None)
        or bool(node.value_string and node.value_string.strip())
        or (node.value_codeable_concept is not None and node.value_codeable_concept != CodeableConcept())
        or node.value_integer is not None
        or node.value_boolean is not None
        or bytes(node.value_range) not in _NOTHING
        or bytes(node.value_ratio) not in _NOTHING
        or _is_answer(node.interpretation)
    )


def _is_abnormal(node: _Node, concept: Concept) -> bool:
    """True when the interpretation flags a result that has no normal but "negative", such as a culture."""
    if not concept.abnormal:
        return False
    raw = node.interpretation
    said = (raw,) if isinstance(raw, CodeableConcept) else raw
    marks = {mark for one in said for coding in one.coding for mark in (key(coding), fold(coding.display))}
    marks |= {fold(one.text) for one in said}
    return not concept.abnormal.isdisjoint(marks)


def _is_answer(interpretation: tuple[CodeableConcept, ...] | CodeableConcept) -> bool:
    """True when the interpretation alone says positive or negative; High and Low say nothing without their number."""
    several = (interpretation,) if isinstance(interpretation, CodeableConcept) else interpretation
    return vocabularies()["result"].of_concepts(several, fallback=False) is not None


def _marks(codes: list[tuple[Code, Coding]]) -> list[str]:
    """`system|code` of the codings, with the short system name and as sent."""
    return [mark for _, coding in codes for mark in (key(coding), f"{coding.system}|{coding.code}")]


def _most_specific(concept: Concept, codes: list[tuple[Code, Coding]]) -> tuple[Code, Coding]:
    """Of several codings of one concept the one whose kind stands first in the data file."""
    if len(codes) == 1:
        return codes[0]
    order = {kind: rank for rank, kind in enumerate(concept.kinds)}
    return min(codes, key=lambda pair: (order.get(pair[0].kind, len(order)), pair[0].system, pair[0].code))


def _shown(values: Iterable[CodeableConcept]) -> str:
    """What a coded value says, for the eye."""
    texts = (text for value in values for text in (value.text, *(c.display or c.code for c in value.coding)) if text)
    return next(texts, "")[:_SEEN_LENGTH]


def _of_string(vocabulary: Vocabulary, text: str) -> str | None:
    answer = vocabulary.of_text(text)
    return vocabulary.otherwise if answer is None and fold(text) else answer


def _written(node: _Node) -> tuple[Decimal, Comparator, str, str, str, str] | _Refused:
    """value, comparator, unit text, unit code, unit system, and the whole as written; or that it is no number."""
    quantity = node.value_quantity
    if quantity is not None and quantity.value is not None:
        original = f"{quantity.comparator}{quantity.value!s} {quantity.unit or quantity.code}".strip()[:_SEEN_LENGTH]
        if quantity.comparator not in _COMPARATORS:
            return _Refused("unreadable-value", (("seen", original),))
        comparator = cast("Comparator", quantity.comparator)
        return quantity.value, comparator, quantity.unit, quantity.code, quantity.system, original
    if node.value_integer is not None:
        return Decimal(node.value_integer), "", "", "", "", str(node.value_integer)[:_SEEN_LENGTH]
    if node.value_string is not None:
        read = numbers.read(node.value_string)
        seen = node.value_string.strip()[:_SEEN_LENGTH]
        if read is None:
            return _Refused("unreadable-value", (("seen", seen),))
        return read.value, read.comparator, read.unit, "", "", seen
    value = node.value_codeable_concept
    return _Refused("unreadable-value", (("seen", "" if value is None else _shown((value,))),))


@lru_cache(maxsize=4096)
def _row(quantity: str, unit: str, code: str, system: str) -> Row | Refusal:
    """The accepted unit. The code decides over the text, and both must not contradict each other."""
    by_code = units.row_of(quantity, code) if code.strip() else None
    by_text = units.row_of(quantity, unit) if unit.strip() else None
    if not code.strip() and not unit.strip():
        return Refusal("no-unit")
    if by_code is None and code.strip() and system.startswith(_UCUM):
        return Refusal("unit-not-accepted")
    if by_code is not None and by_text is None and unit.strip() and units.is_unit(unit):
        return Refusal("unit-conflict")
    if by_code is not None and by_text is not None and by_code.factor != by_text.factor:
        return Refusal("unit-conflict")
    return by_code or by_text or Refusal("unit-not-accepted")


def _unit_refused(refusal: Refusal, original: str, unit: str) -> _Refused:
    if refusal.why == "unreadable":
        return _Refused("unreadable-value", (("seen", original),))
    if refusal.why == "no-unit":
        return _Refused("no-unit", (("seen", original),))
    return _Refused(refusal.why, (("seen", original), ("unit", unit[:_SEEN_LENGTH])))


def _reference_high(node: _Node, quantity: str) -> Decimal | None:
    """The upper limit: of several ranges the one typed normal, or the only untyped one; else none (reading 3.9)."""
    ranges = [r for r in node.reference_range if r.high is not None or r.text]
    normal = [r for r in ranges if _is_normal(r.type)]
    chosen = normal or [r for r in ranges if r.type is None or r.type == CodeableConcept()]
    if len(chosen) != 1:
        return None
    value = node.value_quantity
    text_of_value = ("", "", "") if value is None else (value.unit, value.code, value.system)
    if value is None and node.value_string is not None:
        read = numbers.read(node.value_string)
        text_of_value = ("" if read is None else read.unit, "", "")
    high = chosen[0].high
    if high is not None and high.value is not None:
        number, stated = high.value, (high.unit, high.code, high.system)
    else:
        limit = numbers.upper_limit(chosen[0].text)
        if limit is None:
            return None
        number, stated = limit[0], (limit[1], "", "")
    row = _row(quantity, *(stated if stated[0].strip() or stated[1].strip() else text_of_value))
    if isinstance(row, Refusal) or not number.is_finite():
        return None
    canonical = units.by_row(units.quantities()[quantity], number, row)
    return None if isinstance(canonical, Refusal) else canonical


def _is_normal(kind: CodeableConcept | None) -> bool:
    return kind is not None and (
        fold(kind.text) in {"normal", "normal range"} or any(coding.code == "normal" for coding in kind.coding)
    )


def _airway_specimen(observation: _Observation, node: _Node, kind: str, referred: _Contained | None = None) -> str:
    """nasopharyngeal, lavage, other, or '' (not stated): the trial asks for one of the first two (reading 1)."""
    said = [text for text in _specimen_texts(observation, referred) if text]
    folded = fold(" ; ".join((*said, node.code.text)))
    if _LAVAGE.search(folded):
        return "lavage"
    if kind == "nasopharynx" or _NASOPHARYNX.search(folded):
        return "nasopharyngeal"
    return "other" if said else ""


# --------------------------------------------------------------------------- several results of one instant


def _step(one: _Found) -> Decimal:
    """Half a unit of the last digit that was written, in the canonical unit: how far rounding may have moved it."""
    if one.written is None or one.row is None:
        return Decimal(0)
    exponent = cast("int", one.written.as_tuple().exponent)
    return one.row.to_canonical(Decimal(5).scaleb(exponent - 1))


def _agree(best: _Found, other: _Found) -> bool:
    """True when both can be one result: equal, two units of one number, or a bound that the number keeps.

    A laboratory that reports 1.2 mg/dL and 106 umol/L of one sample does not contradict itself.
    """
    left, right = cast("Decimal", best.fact.value), cast("Decimal", other.fact.value)
    if not other.fact.comparator:
        if best.row is other.row:
            return left == right
        return abs(left - right) <= max(_step(best), _step(other))
    if best.fact.comparator:
        return left == right and best.fact.comparator == other.fact.comparator
    return _KEEPS[other.fact.comparator](left, right)


_KEEPS: Mapping[str, Callable[[Decimal, Decimal], bool]] = {
    "<": lambda value, bound: value < bound,
    "<=": lambda value, bound: value <= bound,
    ">": lambda value, bound: value > bound,
    ">=": lambda value, bound: value >= bound,
}


def _cycle_thresholds(facts: list[Measurement]) -> list[Measurement]:
    """A cycle threshold means "detected" only when no "not detected" of the same panel or instant stands beside it."""
    negatives = [f for f in facts if f.concept == "sarscov2_pcr" and f.kind != "ct" and f.coded == "negative"]
    if not negatives:
        return facts
    instants = {f.when for f in negatives if f.when.exact}
    panels = {f.panel for f in negatives if f.panel}
    return [
        replace(fact, coded="inconclusive")
        if fact.kind == "ct" and fact.coded == "positive" and (fact.when in instants or fact.panel in panels)
        else fact
        for fact in facts
    ]


# --------------------------------------------------------------------------- resources of the wrong shape


def _texts_of_time(document: Mapping[str, Any]) -> Iterable[str]:
    period = document.get("effectivePeriod")
    inner = period if isinstance(period, dict) else {}
    for value in (
        document.get("effectiveDateTime"),
        document.get("effectiveInstant"),
        inner.get("end"),
        inner.get("start"),
        document.get("issued"),
    ):
        if isinstance(value, str):
            yield value


def _nodes(document: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    yield document
    components = document.get("component")
    if isinstance(components, list):
        yield from (node for node in components if isinstance(node, dict))


def _codings(node: Mapping[str, Any]) -> Iterable[Coding]:
    code = node.get("code")
    listed = code.get("coding") if isinstance(code, dict) else None
    for coding in listed if isinstance(listed, list) else [listed]:
        if isinstance(coding, dict):
            system, value = coding.get("system"), coding.get("code")
            if isinstance(system, str) and isinstance(value, str):
                yield Coding(system, value)
