"""Allergies and intolerances as `Allergy` facts, by code and, unlike anywhere else, also by words (reading 3.12)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache

import msgspec

from fhir_mappings import codebook, unreadable
from fhir_mappings.coding import CodeableConcept, key
from fhir_mappings.conditions import label_of, status_of
from fhir_mappings.context import Context
from fhir_mappings.facts import Allergy, Gap
from fhir_mappings.words import Screen


class _Reaction(msgspec.Struct):
    substance: CodeableConcept | None = None
    description: str = ""


class _Note(msgspec.Struct):
    text: str = ""


class _Allergy(msgspec.Struct):
    resourceType: str = ""  # noqa: N815
    id: str = ""
    clinicalStatus: CodeableConcept | str | None = None  # noqa: N815
    verificationStatus: CodeableConcept | str | None = None  # noqa: N815
    type: str = ""
    criticality: str = ""
    code: CodeableConcept | None = None
    reaction: tuple[_Reaction, ...] = ()
    note: tuple[_Note, ...] = ()


_allergy = msgspec.json.Decoder(_Allergy)


@cache
def _knowledge() -> tuple[codebook.Codebook, Screen]:
    book = codebook.load("allergies")
    return book, Screen({name: table.get("names", ()) for name, table in book.tables.items()})


def substance_names() -> tuple[str, ...]:
    """Every substance that an Allergy may carry: what rules may ask for."""
    return tuple(_knowledge()[0].tables)


def collect(raws: Sequence[tuple[str, bytes]], *, context: Context) -> tuple[tuple[Allergy, ...], tuple[Gap, ...]]:
    """One fact for each allergy, also for substances no rule asks for: that the list was kept is information too.

    An unverified code counts like words. The site's overlay may add codes. Gap: `unreadable-resource`.
    """
    facts: list[Allergy] = []
    gaps: list[Gap] = []
    for source, raw in raws:
        try:
            resource = _allergy.decode(raw)
        except (msgspec.MsgspecError, ValueError):
            gaps.append(unreadable.gap(source, raw))
            continue
        facts.append(_fact(resource, context=context))
    return tuple(facts), tuple(gaps)


def _fact(resource: _Allergy, *, context: Context) -> Allergy:
    book, screen = _knowledge()
    coded: set[str] = set()
    spoken: set[str] = set()
    for concept in _concepts(resource):
        for coding in concept.coding:
            code = book.find(coding)
            local, _ = context.overlay.codes.get(key(coding), ("", ""))
            if local in book.tables:
                coded.add(local)
            elif code is not None:
                (coded if code.verified else spoken).add(code.concept)
            spoken |= screen.find(coding.display)
        spoken |= screen.find(concept.text)
    for words in (*(r.description for r in resource.reaction), *(n.text for n in resource.note)):
        spoken |= screen.find(words)
    for substance, tolerance in _tolerances().items():
        if _is_intolerance(resource, named=tolerance in coded | spoken):
            coded = {tolerance if name == substance else name for name in coded}
            spoken = {tolerance if name == substance else name for name in spoken}
        else:
            coded = {substance if name == tolerance else name for name in coded}
            spoken = {substance if name == tolerance else name for name in spoken}
    return Allergy(
        reference=f"AllergyIntolerance/{resource.id}",
        substances=tuple(sorted(coded | spoken)),
        clinical=status_of(resource.clinicalStatus),
        verification=status_of(resource.verificationStatus),
        by_text=bool(spoken - coded),
        label=label_of(resource.code),
    )


def _tolerances() -> Mapping[str, str]:
    """Substances whose intolerance is no hypersensitivity, and what it is instead."""
    tables = _knowledge()[0].tables
    return {name: str(table["intolerance"]) for name, table in tables.items() if "intolerance" in table}


def _is_intolerance(resource: _Allergy, *, named: bool) -> bool:
    """As the type says; without a type as the code or the words do. A high criticality is of an allergy."""
    if resource.criticality == "high":
        return False
    return resource.type == "intolerance" if resource.type else named


def _concepts(resource: _Allergy) -> Iterator[CodeableConcept]:
    if resource.code is not None:
        yield resource.code
    for reaction in resource.reaction:
        if reaction.substance is not None:
            yield reaction.substance
