"""The codes, units and references of raw resources, read leniently: what cannot be read is none of doctor's questions,
the mapping tells of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from fhir_mappings.codebook import load
from fhir_mappings.coding import CodeableConcept, Coding, key
from fhir_mappings.facts import Overlay

_UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeError)


class _Quantity(msgspec.Struct, gc=False):
    unit: str = ""
    code: str = ""


class _Node(msgspec.Struct, gc=False, rename="camel"):
    code: CodeableConcept = CodeableConcept()
    value_quantity: _Quantity | None = None
    value_string: str | None = None


class _Observation(_Node, gc=False, rename="camel"):
    resource_type: str = ""
    id: str = ""
    status: str = ""
    component: tuple[_Node, ...] = ()


class _Reference(msgspec.Struct, gc=False):
    reference: str = ""


class _Medication(msgspec.Struct, gc=False, rename="camel"):
    resource_type: str = ""
    id: str = ""
    code: CodeableConcept | None = None


class _Use(msgspec.Struct, gc=False, rename="camel"):
    resource_type: str = ""
    id: str = ""
    medication_codeable_concept: CodeableConcept | None = None
    medication_reference: _Reference | None = None
    contained: tuple[_Medication, ...] = ()


class _Coded(msgspec.Struct, gc=False, rename="camel"):
    resource_type: str = ""
    id: str = ""
    code: CodeableConcept | None = None


class _Owned(msgspec.Struct, gc=False):
    subject: _Reference | None = None


_OBSERVATION = msgspec.json.Decoder(_Observation)
_USE = msgspec.json.Decoder(_Use)
_CODED = msgspec.json.Decoder(_Coded)
_OWNED = msgspec.json.Decoder(_Owned)


@dataclass(frozen=True, slots=True)
class Node:
    """An Observation or one of its components. `element` says which; `typed`: its value is text, not a quantity."""

    element: str
    code: CodeableConcept
    unit: str
    typed: bool


def nodes(raw: bytes) -> tuple[str, tuple[Node, ...]]:
    """`Observation/id` and its nodes; none for another type, and for what cannot be read or exists no more."""
    try:
        read = _OBSERVATION.decode(raw)
    except _UNREADABLE:
        return "", ()
    if read.resource_type != "Observation" or read.status in {"entered-in-error", "cancelled"}:
        return "", ()
    listed = [("Observation.code", read), *(("Observation.component.code", inner) for inner in read.component)]
    return f"Observation/{read.id}", tuple(_node(element, node) for element, node in listed)


def _node(element: str, node: _Node) -> Node:
    quantity = node.value_quantity
    unit = "" if quantity is None else quantity.unit or quantity.code
    return Node(element, node.code, unit, typed=quantity is None and node.value_string is not None)


def medications(raws: Iterable[bytes]) -> dict[str, CodeableConcept]:
    """The medication of each order, administration and statement by `Type/id`, as far as it has a code or a text."""
    uses: list[_Use] = []
    known: dict[str, CodeableConcept] = {}
    for raw in raws:
        coded = _coded(raw)
        if coded is not None and coded.resource_type == "Medication" and coded.code is not None:
            known[f"Medication/{coded.id}"] = coded.code
        elif coded is not None:
            uses.append(_USE.decode(raw))
    return {f"{use.resource_type}/{use.id}": concept for use in uses if (concept := _named(use, known)) is not None}


def _named(use: _Use, known: dict[str, CodeableConcept]) -> CodeableConcept | None:
    if use.medication_codeable_concept is not None:
        return use.medication_codeable_concept
    if use.medication_reference is None:
        return None
    reference = use.medication_reference.reference
    for inner in use.contained:
        if reference == f"#{inner.id}":
            return inner.code
    return known.get("/".join(reference.partition("/_history/")[0].split("/")[-2:]))


def coded(raws: Iterable[bytes]) -> dict[str, CodeableConcept]:
    """The `code` of each resource by `Type/id`."""
    read = (_coded(raw) for raw in raws)
    return {f"{one.resource_type}/{one.id}": one.code for one in read if one is not None and one.code is not None}


def _coded(raw: bytes) -> _Coded | None:
    try:
        _USE.decode(raw)
        return _CODED.decode(raw)
    except _UNREADABLE:
        return None


def subject(raw: bytes) -> str:
    """What a resource names as its subject, '' when it names none by reference."""
    try:
        owned = _OWNED.decode(raw)
    except _UNREADABLE:
        return ""
    return "" if owned.subject is None else owned.subject.reference


def concept_of(coding: Coding, *, overlay: Overlay) -> str:
    """The observation concept that a coding means to the mapping, traps included; '' for none."""
    if not coding.code:
        return ""
    own = overlay.codes.get(key(coding)) or overlay.codes.get(f"{coding.system}|{coding.code}")
    if own is not None:
        return own[0]
    found = load("observations").find(coding)
    return "" if found is None else found.concept


def marks_of(found: Iterable[Node], concept: str, *, overlay: Overlay) -> Iterator[str]:
    """`system|code` of the codings that a result of this concept bears and that mean something to the mapping."""
    wanted = {concept, "po2_not_arterial"} if concept == "pao2" else {concept}
    for node in found:
        meant = [(coding, concept_of(coding, overlay=overlay)) for coding in node.code.coding]
        if not wanted.isdisjoint(name for _, name in meant):
            yield from (key(coding) for coding, name in meant if name)
