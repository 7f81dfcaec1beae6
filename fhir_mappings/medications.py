"""Orders, administrations and statements of medication as `MedicationUse` facts (reading 3.11).

Who the drug is, is asked in this order: a code of a listed ingredient, of a listed product or of the site's overlay on
the medication itself; the ingredients of the Medication resource; a seven-character ATC code, which names one
substance and so also says that it is *none* of the listed ones. What no code establishes is only screened: a name in a
text makes an ingredient *possible*, never present. An unverified code does the same.

`identity` says how completely the drug is known: `code` (codes name everything in it), `text` (something in it is known
by words only), `none` (something in it has neither).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from functools import cache
from typing import Literal

import msgspec

from fhir_mappings import codebook, dosages, rates, unreadable
from fhir_mappings.coding import CodeableConcept, key, system_name
from fhir_mappings.conditions import concepts_of
from fhir_mappings.context import Context
from fhir_mappings.dosages import Dosage, Period
from fhir_mappings.errors import BadCodebook
from fhir_mappings.facts import Gap, MedicationUse, Rate, When
from fhir_mappings.words import Screen, words

INFUSION_PERIOD = timedelta(hours=1)
"""An administration that lasts longer is an infusion, also when no rate is written."""

DAY_OF_DOSES = timedelta(hours=20)
"""Doses within this make up one day: shorter than 24 h, so that a once-daily dose given early counts once (ours)."""

_MOMENT = timedelta(microseconds=1)
"""The smallest step of time here: "more than an hour" begins so much after the hour."""

_ATC_SUBSTANCE = re.compile(r"[A-Z]\d\d[A-Z]{2}\d\d")
_ATC_GROUP = re.compile(r"[A-Z]\d\d[A-Z]{1,2}")
_NOT_INGREDIENTS = frozenset({"products", "routes", "route-words", "topical"})

_State = Literal["draft", "ordered", "given", "not-done", "taken", "past"]
_REQUEST: Mapping[str, _State | None] = {
    "draft": "draft",
    "active": "ordered",
    "on-hold": "ordered",
    "completed": "past",
    "stopped": "past",
    "ended": "past",
    "cancelled": None,
    "entered-in-error": None,
}
_ADMINISTRATION: Mapping[str, _State | None] = {
    "in-progress": "given",
    "on-hold": "given",
    "completed": "given",
    "stopped": "given",
    "not-done": "not-done",
    "entered-in-error": None,
}
_STATEMENT: Mapping[str, _State | None] = {
    "active": "taken",
    "on-hold": "taken",
    "completed": "past",
    "stopped": "past",
    "not-taken": "not-done",
    "intended": None,
    "entered-in-error": None,
}
_PROPOSALS = frozenset({"proposal", "option"})
_PLAN = "plan"
"""The intent of a medicine that the patient reports: US Core keeps the home list in requests."""

_GAP = "medication"
"""The concept of every gap of this family."""


class _Reference(msgspec.Struct):
    reference: str = ""
    display: str = ""


class _Item(msgspec.Struct):
    itemCodeableConcept: CodeableConcept | None = None  # noqa: N815
    itemReference: _Reference | None = None  # noqa: N815
    isActive: bool = True  # noqa: N815
    strength: msgspec.Raw = msgspec.Raw()


class _Medication(msgspec.Struct):
    resourceType: str = ""  # noqa: N815
    id: str = ""
    code: CodeableConcept | None = None
    ingredient: tuple[_Item, ...] = ()


class _Use(msgspec.Struct):
    """MedicationRequest, MedicationAdministration and MedicationStatement at once; parts that may be malformed without
    making the rest useless stay raw until they are read."""

    resourceType: str = ""  # noqa: N815
    id: str = ""
    status: str = ""
    intent: str = ""
    doNotPerform: bool = False  # noqa: N815
    medicationCodeableConcept: CodeableConcept | None = None  # noqa: N815
    medicationReference: _Reference | None = None  # noqa: N815
    contained: tuple[msgspec.Raw, ...] = ()
    authoredOn: str | None = None  # noqa: N815
    effectiveDateTime: str | None = None  # noqa: N815
    effectivePeriod: Period | None = None  # noqa: N815
    dosageInstruction: msgspec.Raw = msgspec.Raw(b"[]")  # noqa: N815
    dosage: msgspec.Raw = msgspec.Raw(b"[]")
    category: msgspec.Raw = msgspec.Raw(b"[]")
    reasonCode: msgspec.Raw = msgspec.Raw(b"[]")  # noqa: N815


_use = msgspec.json.Decoder(_Use)
_medication = msgspec.json.Decoder(_Medication)
_concepts = msgspec.json.Decoder(tuple[CodeableConcept, ...] | CodeableConcept)


@dataclass(frozen=True, slots=True)
class _Knowledge:
    """`concepts/ingredients.toml`, turned into look-ups."""

    book: codebook.Codebook
    products: Mapping[str, tuple[str, ...]]
    doubtful_products: Mapping[str, tuple[str, ...]]
    names: Screen
    routes: Mapping[str, bool]
    local_words: frozenset[str]
    systemic_words: frozenset[str]
    local_atc: tuple[str, ...]
    systemic_atc: tuple[str, ...]


@cache
def _knowledge() -> _Knowledge:
    return read_knowledge(codebook.load("ingredients"))


def read_knowledge(book: codebook.Codebook) -> _Knowledge:
    """The look-ups of an ingredient book. Raises BadCodebook where a product names an ingredient that has no table."""
    listed = [name for name in book.tables if name not in _NOT_INGREDIENTS]
    products: dict[str, tuple[str, ...]] = {}
    doubtful: dict[str, tuple[str, ...]] = {}
    for code, row in book.tables.get("products", {}).items():
        unknown = [name for name in row["ingredients"] if name not in listed]
        if unknown:
            raise BadCodebook(f"concepts/{book.name}.toml: [products] {code}: no table [{unknown[0]}]")
        (products if row.get("verified", True) else doubtful)[code] = tuple(row["ingredients"])
    names = Screen({name: book.tables[name].get("names", ()) for name in listed})
    routes = {code: bool(row["systemic"]) for code, row in book.tables.get("routes", {}).items()}
    spoken = book.tables.get("route-words", {})
    topical = book.tables.get("topical", {})
    return _Knowledge(
        book=book,
        products=products,
        doubtful_products=doubtful,
        names=names,
        routes=routes,
        local_words=frozenset(spoken.get("local", ())),
        systemic_words=frozenset(spoken.get("systemic", ())),
        local_atc=tuple(topical.get("local", ())),
        systemic_atc=tuple(topical.get("systemic", ())),
    )


def ingredient_names() -> tuple[str, ...]:
    """Every ingredient name that facts may carry: what rules may ask for."""
    return tuple(name for name in _knowledge().book.tables if name not in _NOT_INGREDIENTS)


def collect(
    raws: Sequence[tuple[str, bytes]], *, context: Context
) -> tuple[tuple[MedicationUse, ...], tuple[Gap, ...]]:
    """Medication facts of (source key, resource) pairs, with what could not be used.

    Gaps, all with the concept `medication`: `unreadable-resource` and `status-unknown` (status), which displace: the
    drug may be any (unless codes say that it is none of the listed); `medication-not-found` (the Medication it refers
    to was not handed in); `future-date` (an administration that lies ahead).
    """
    uses: list[MedicationUse] = []
    gaps: list[Gap] = []
    for source, raw in raws:
        use, found = one(source, raw, context=context)
        gaps.extend(found)
        if use is not None:
            uses.append(use)
    return _with_day_totals(uses), tuple(gaps)


def one(source: str, raw: bytes, *, context: Context) -> tuple[MedicationUse | None, list[Gap]]:
    """The fact of one resource on its own; None where it is no exposure or cannot be read."""
    try:
        return _read(source, _use.decode(raw), context=context)
    except (msgspec.MsgspecError, ValueError, ArithmeticError):
        return None, [replace(unreadable.gap(source, raw), concept=_GAP, displaces=True)]


def concepts(raw: bytes, *, context: Context) -> tuple[CodeableConcept, ...]:
    """How one resource codes and names its drug, on itself or on the Medication it refers to.

    Raises msgspec.MsgspecError for what is no such resource.
    """
    resource = _use.decode(raw)
    found = [resource.medicationCodeableConcept] if resource.medicationCodeableConcept else []
    reference = resource.medicationReference
    if reference is not None and reference.reference:
        medication = _resolve(reference.reference, resource.contained, context=context)
        found += [medication.code] if medication is not None and medication.code else []
    return tuple(found)


def _with_day_totals(uses: Sequence[MedicationUse]) -> tuple[MedicationUse, ...]:
    """Administrations carry their own dose until here; a fact says the dose of a day: what the same drug was given in
    the `DAY_OF_DOSES` up to it. One dose that cannot be read makes the day's unreadable."""
    given: dict[tuple[str, ...], list[MedicationUse]] = {}
    for use in uses:
        if use.state == "given" and use.ingredients and use.start is not None:
            given.setdefault(use.ingredients, []).append(use)
    return tuple(_of_a_day(use, given.get(use.ingredients, ())) if use.state == "given" else use for use in uses)


def _of_a_day(use: MedicationUse, others: Sequence[MedicationUse]) -> MedicationUse:
    if use.start is None or len(others) < 2:
        return use
    until = use.start.earliest
    doses = [o.daily_mg for o in others if o.start and timedelta(0) <= until - o.start.earliest < DAY_OF_DOSES]
    total = None if None in doses else sum(filter(None, doses), Decimal(0))
    return use if total == use.daily_mg else replace(use, daily_mg=total)


def _read(source: str, resource: _Use, *, context: Context) -> tuple[MedicationUse | None, list[Gap]]:
    reference = f"{resource.resourceType}/{resource.id}"
    match resource.resourceType:
        case "MedicationRequest":
            kind: Literal["request", "administration", "statement"] = "request"
            states = _REQUEST
            # What somebody only suggests, and "do not give", are no exposure; a draft is, whatever its intent: it is
            # what is being ordered.
            if resource.doNotPerform or (resource.intent in _PROPOSALS and resource.status != "draft"):
                return None, []
        case "MedicationAdministration":
            kind, states = "administration", _ADMINISTRATION
        case "MedicationStatement":
            kind, states = "statement", _STATEMENT
        case _:
            return None, [Gap(source, "unreadable-resource", _GAP, reference, displaces=True)]
    if resource.status not in states:
        who = _Identity(context=context)
        who.read(resource)
        concerns = who.identity == "none" or bool(who.ingredients or who.possibly)
        params = (("status", resource.status),)
        return None, [Gap(source, "status-unknown", _GAP, reference, displaces=concerns, params=params)]
    state = states[resource.status]
    if state is None:
        return None, []
    home = kind == "request" and resource.intent == _PLAN and state != "draft"
    if home and state == "ordered":
        state = "taken"
    gaps: list[Gap] = []
    lines = dosages.read(resource.dosage if kind != "request" else resource.dosageInstruction)
    start, end, running = _times(resource, kind=kind, lines=lines, context=context)
    if kind == "administration" and start is not None and context.is_future(start):
        return None, [Gap(source, "future-date", _GAP, reference, start)]
    who = _Identity(context=context)
    who.read(resource)
    if who.missing:
        gaps.append(Gap(source, "medication-not-found", _GAP, reference))
    route = next((d.route for d in lines if d.route is not None), None)
    return (
        MedicationUse(
            reference=reference,
            kind=kind,
            state=state,
            ingredients=tuple(sorted(who.ingredients)),
            possibly=tuple(sorted(who.possibly)),
            identity=who.identity,
            label=who.label,
            start=start,
            end=end,
            running=running,
            systemic=_systemic(lines, atc=who.atc),
            route=_words_of(route),
            daily_mg=dosages.dose_mg(lines) if kind == "administration" else dosages.daily_mg(lines),
            dose_mg=dosages.dose_mg(lines) if kind == "administration" else None,
            infusion=_infusion(
                resource, kind=kind, lines=lines, start=start, end=end, running=running, context=context
            ),
            inpatient=True if kind == "administration" else False if home else _inpatient(resource),
            reasons=_reasons(resource, context=context),
            rate=_rate(lines, who=who) if state == "given" else None,
        ),
        gaps,
    )


# --- who ------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Identity:
    """Collects what codes establish and what words suggest about one medication."""

    context: Context
    ingredients: set[str] = field(default_factory=set)
    possibly: set[str] = field(default_factory=set)
    identity: Literal["code", "text", "none"] = "none"
    label: str = ""
    atc: tuple[str, ...] = ()
    missing: bool = False
    strengths: dict[str, list[bytes]] = field(default_factory=dict)

    def read(self, resource: _Use) -> None:
        concepts = [resource.medicationCodeableConcept] if resource.medicationCodeableConcept else []
        reference = resource.medicationReference
        items: tuple[_Item, ...] = ()
        if reference is not None and reference.reference:
            medication = _resolve(reference.reference, resource.contained, context=self.context)
            if medication is None:
                self.missing = True
            else:
                concepts += [medication.code] if medication.code else []
                items = tuple(item for item in medication.ingredient if item.isActive)
        texts = [text for concept in concepts for text in _texts(concept)]
        texts += [reference.display] if reference is not None and reference.display else []
        self.label = next(iter(texts), "")
        self.atc = tuple(c.code for concept in concepts for c in concept.coding if system_name(c.system) == "atc")
        known = self._codes(concepts)
        irrelevant = self.context.overlay.irrelevant_products
        if (
            irrelevant
            and not self.ingredients
            and any(key(coding) in irrelevant for c in concepts for coding in c.coding)
        ):
            # Signed by the site's clinician as none of the listed drugs: its words are not looked at either.
            self.identity = "code"
            self.possibly.clear()
            return
        parts = [self._item(item, resource) for item in items]
        item_texts = [text for _, part_texts in parts for text in part_texts]
        if not texts:
            self.label = ", ".join(dict.fromkeys(item_texts))
        if known or (parts and all(part for part, _ in parts)):
            self.identity = "code"
        elif parts:
            # Words for the whole speak for every part; without them each unknown part needs its own.
            spoken = bool(texts) or all(part or part_texts for part, part_texts in parts)
            self.identity = "text" if spoken else "none"
        else:
            self.identity = "text" if texts else "none"
        for text in dict.fromkeys((*texts, *item_texts)):
            self.possibly.update(_knowledge().names.find(text))
        self.possibly -= self.ingredients

    def _item(self, item: _Item, resource: _Use) -> tuple[bool, list[str]]:
        """Whether codes identify this ingredient, and its words."""
        concept = item.itemCodeableConcept
        shown = [item.itemReference.display] if item.itemReference and item.itemReference.display else []
        if concept is None and item.itemReference is not None:
            medication = _resolve(item.itemReference.reference, resource.contained, context=self.context)
            concept = medication.code if medication else None
        if concept is None:
            return False, shown
        part = _Identity(context=self.context)
        known = part._codes([concept])
        self.ingredients |= part.ingredients
        self.possibly |= part.possibly
        for name in part.ingredients:
            self.strengths.setdefault(name, []).append(bytes(item.strength))
        return known, list(_texts(concept)) + shown

    def _codes(self, concepts: Iterable[CodeableConcept]) -> bool:
        """Adds what codes establish or suggest; True when they identify the drug, also as none of the listed."""
        knowledge = _knowledge()
        known = False
        for concept in concepts:
            for coding in concept.coding:
                name = key(coding)
                product = self.context.overlay.products.get(name) or knowledge.products.get(name)
                if product is not None:
                    self.ingredients.update(product)
                    known = True
                    continue
                self.possibly.update(knowledge.doubtful_products.get(name, ()))
                code = knowledge.book.find(coding)
                is_atc = system_name(coding.system) == "atc"
                if code is not None and code.verified:
                    self.ingredients.add(code.concept)
                    known = True
                elif code is not None:
                    self.possibly.add(code.concept)
                elif is_atc and _ATC_SUBSTANCE.fullmatch(coding.code):
                    known = True
                if is_atc and _ATC_GROUP.fullmatch(coding.code):
                    # A class such as L04AC: the drug may be any of the listed ones in it.
                    self.possibly.update(_members(coding.code))
        return known


def _members(group: str) -> Iterator[str]:
    for code in _knowledge().book.codes:
        if code.system == "atc" and code.code.startswith(group) and not code.prefix:
            yield code.concept


def _resolve(reference: str, contained: Sequence[msgspec.Raw], *, context: Context) -> _Medication | None:
    """The Medication of a reference: contained, or handed in by `Medication/id` or its address; None if not there."""
    if reference.startswith("#"):
        for raw in contained:
            inner = _decode(raw)
            if inner is not None and inner.id == reference[1:]:
                return inner
        return None
    raw_medication = context.medications.get(reference)
    if raw_medication is None:
        head, _, tail = reference.partition("/_history/")[0].rpartition("Medication/")
        raw_medication = (
            context.medications.get(f"Medication/{tail}") if tail and (not head or head[-1] == "/") else None
        )
    return _decode(raw_medication) if raw_medication is not None else None


def _decode(raw: msgspec.Raw | bytes) -> _Medication | None:
    try:
        medication = _medication.decode(raw)
    except msgspec.MsgspecError:
        return None
    return medication if medication.resourceType == "Medication" else None


def _texts(concept: CodeableConcept) -> Iterator[str]:
    if concept.text:
        yield concept.text
    for coding in concept.coding:
        if coding.display:
            yield coding.display


# --- when -----------------------------------------------------------------------------------------------------------


def _times(
    resource: _Use, *, kind: str, lines: Sequence[Dosage], context: Context
) -> tuple[When | None, When | None, bool]:
    """Start, end and whether it goes on. An order starts when it was written and ends where its dosage says."""
    if kind == "request":
        bounds = [d.timing.repeat.boundsPeriod for d in lines if d.timing and d.timing.repeat]
        starts = [when for b in bounds if b is not None and (when := context.when(b.start)) is not None]
        ends = [context.when(b.end) if b is not None else None for b in bounds]
        start = context.when(resource.authoredOn) or min(starts, key=lambda w: w.earliest, default=None)
        known = [when for when in ends if when is not None]
        # One part without an end goes on, so the order as a whole has none.
        end = max(known, key=lambda w: w.latest) if known and len(known) == len(lines) else None
        return start, end, False
    period = resource.effectivePeriod
    start = context.when(period.start if period else resource.effectiveDateTime)
    end = context.when(period.end) if period else None
    if kind != "administration" or resource.status != "in-progress":
        return start, end, False
    return start, end, end is None or not context.is_past(end.latest)


def _infusion(
    resource: _Use,
    *,
    kind: str,
    lines: Sequence[Dosage],
    start: When | None,
    end: When | None,
    running: bool,
    context: Context,
) -> bool:
    """A rate, or an administration that lasts more than an hour."""
    for dosage in lines:
        if rates.written(dosage.rateQuantity) or rates.written(dosage.rateRatio):
            return True
        for each in dosage.amounts:
            if any(rate is not None for rate in (each.rateQuantity, each.rateRatio, each.rateRange)):
                return True
    if kind != "administration" or resource.effectivePeriod is None or start is None:
        return False
    if end is not None:
        return end.earliest - start.latest > INFUSION_PERIOD
    return running and context.is_past(start.latest + INFUSION_PERIOD + _MOMENT)


def _rate(lines: Sequence[Dosage], *, who: _Identity) -> Rate | None:
    """The rate of the drug whose rate a rule asks for; of two dosages in one record none is read."""
    drugs = [name for name in sorted(who.ingredients) if rates.is_asked(name)]
    written = [d for d in lines if rates.written(d.rateQuantity) or rates.written(d.rateRatio)]
    if not drugs or not written:
        return None
    if len(written) > 1:
        return Rate(None, why="ambiguous")
    dosage = written[0]
    return rates.read(dosage.rateQuantity, dosage.rateRatio, drug=drugs[0], strengths=who.strengths.get(drugs[0], ()))


def _reasons(resource: _Use, *, context: Context) -> tuple[str, ...]:
    """Condition concepts it is given for."""
    found: dict[str, None] = {}
    for concept in dosages.elements(_concepts, resource.reasonCode):
        found.update(dict.fromkeys(concepts_of(concept, context=context)))
    return tuple(found)


# --- how much and where ---------------------------------------------------------------------------------------------


def _words_of(concept: CodeableConcept | None) -> str:
    if concept is None:
        return ""
    return next(_texts(concept), "") or next((c.code for c in concept.coding), "")


def _systemic(lines: Sequence[Dosage], *, atc: Sequence[str]) -> bool | None:
    """Whether it reaches the whole body: by the route, else by an ATC class that acts locally; None when unknown.

    Several routes: systemic if one of them is.
    """
    found = [_route_systemic(d.route) for d in lines if d.route is not None]
    if found:
        return True if True in found else (None if None in found else False)
    knowledge = _knowledge()
    if atc and all(c.startswith(knowledge.local_atc) and not c.startswith(knowledge.systemic_atc) for c in atc):
        return False
    return None


def _route_systemic(route: CodeableConcept) -> bool | None:
    knowledge = _knowledge()
    coded = {knowledge.routes[key(c)] for c in route.coding if key(c) in knowledge.routes}
    if coded:
        return True in coded
    spoken = {word for text in (*_texts(route), *(c.code for c in route.coding)) for word in words(text)}
    local, systemic = bool(spoken & knowledge.local_words), bool(spoken & knowledge.systemic_words)
    # "Nasal" also stands in "nasal feeding tube", "oral" in "oral rinse": words of both kinds decide nothing.
    return None if local == systemic else systemic


def _inpatient(resource: _Use) -> bool | None:
    """An order or statement marked as of this stay; False when marked as home medicine; None when not marked."""
    spoken = {
        word
        for concept in dosages.elements(_concepts, resource.category)
        for text in (concept.text, *(c.code for c in concept.coding), *(c.display for c in concept.coding))
        for word in words(text)
    }
    if "inpatient" in spoken:
        return True
    return False if spoken & {"outpatient", "community", "discharge"} else None
