"""Everything that was read about one patient -> `Facts`.

Here it is decided whose a resource is (reading 3.14) and which version of it counts; what it means is decided by the
module of its family, and what follows from several of them by `derived`.

Gap codes (params): other-patient (type), no-subject (), subject-not-verified () for a subject that is only an
identifier while no Patient was read, unreadable-resource (). An other-patient gap names the source and the type and not
the resource: nothing of somebody else, not even an id, gets into this patient's record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

import msgspec

from fhir_mappings import (
    allergies,
    conditions,
    immunizations,
    medications,
    observations,
    patient,
    procedures,
    unreadable,
)
from fhir_mappings.context import Context
from fhir_mappings.derived import Pairing, derive
from fhir_mappings.facts import Facts, Gap, Patient, Source

_UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeError)


@dataclass(frozen=True, slots=True)
class Part:
    """What one source gave: how its reading ended, and the raw resources (matches and includes, any type).

    `full_urls` are the entries' in the same order, or empty: a transaction's entries refer to each other by them.
    """

    source: Source
    resources: tuple[bytes, ...] = ()
    full_urls: tuple[str, ...] = ()


class _Identifier(msgspec.Struct, frozen=True, gc=False):
    system: str = ""
    value: str = ""


class _Reference(msgspec.Struct, frozen=True, gc=False):
    reference: str = ""
    identifier: _Identifier | None = None


class _Meta(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    version_id: str = ""
    last_updated: str = ""


class _Probe(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    resource_type: str = ""
    id: str = ""
    meta: _Meta | None = None
    subject: _Reference | None = None
    patient: _Reference | None = None


class _Identity(msgspec.Struct, frozen=True, gc=False):
    identifier: tuple[_Identifier, ...] = ()


_PROBE = msgspec.json.Decoder(_Probe).decode
_IDENTITY = msgspec.json.Decoder(_Identity).decode

_Collect = Callable[..., tuple[tuple[Any, ...], tuple[Gap, ...]]]
_FAMILIES: dict[str, _Collect] = {
    "measurements": observations.collect,
    "medications": medications.collect,
    "conditions": conditions.collect,
    "procedures": procedures.collect,
    "allergies": allergies.collect,
    "immunizations": immunizations.collect,
}
"""Member of Facts -> the module that fills it."""
_FAMILY = {
    "Observation": "measurements",
    "MedicationRequest": "medications",
    "MedicationAdministration": "medications",
    "MedicationStatement": "medications",
    "Condition": "conditions",
    "Procedure": "procedures",
    "AllergyIntolerance": "allergies",
    "Immunization": "immunizations",
}


class _Resource(msgspec.Struct, frozen=True, gc=False):
    source: str
    raw: bytes
    probe: _Probe
    id: str
    reference: str
    full_url: str


def to_facts(
    parts: Sequence[Part],
    *,
    patient_id: str,
    context: Context,
    gaps: Iterable[Gap] = (),
    pairing: Pairing | None = None,
) -> Facts:
    """The facts of that patient (`x` and `Patient/x` are the same id); `gaps` are those of the reading before it.

    When the Patient that was read is another one, nothing else is read: `identity_mismatch` (reading 3.14). The order
    of the resources does not matter.
    """
    own = patient_id.removeprefix("Patient/")
    trouble = list(gaps)
    resources = _newest(_probed(parts, trouble), context)
    patients = [r for r in resources if r.probe.resource_type == "Patient"]
    facts = Facts(
        asked_at=context.now, zone=context.zone.key, sources=tuple(p.source for p in parts), overlay=context.overlay
    )
    mine = [r for r in patients if r.id == own]
    others = [r for r in patients if r.id != own]
    asked = {part.source.key for part in parts if part.source.resource_type == "Patient"}
    trouble.extend(_foreign(others))
    if any(r.source in asked or not mine for r in others):
        return replace(facts, identity_mismatch=True, gaps=_sorted_gaps(trouble))

    who: Patient | None = None
    owner = _Owner(own, mine)
    for one in mine:
        who, more = patient.read(one.raw, context=context)
        trouble.extend(more)
    found = {r.full_url: r for r in resources if r.probe.resource_type == "Medication" and r.full_url}
    found |= {r.reference: r for r in resources if r.probe.resource_type == "Medication"}
    context = replace(
        context,
        medications={**context.medications, **{name: r.raw for name, r in found.items()}},
        specimens={**context.specimens, **_specimens(resources, owner, trouble)},
    )

    families: dict[str, list[tuple[str, bytes]]] = {name: [] for name in _FAMILIES}
    foreign: list[_Resource] = []
    for resource in resources:
        family = _FAMILY.get(resource.probe.resource_type)
        if family is None:
            continue
        why = owner.objection(resource.probe)
        if why == "other-patient":
            foreign.append(resource)
        elif why:
            trouble.append(Gap(resource.source, why, reference=resource.reference))
        else:
            families[family].append((resource.source, resource.raw))
    trouble.extend(_foreign(foreign))
    read: dict[str, tuple[Any, ...]] = {}
    for name, collect in _FAMILIES.items():
        members, more = collect(families[name], context=context) if families[name] else ((), ())
        read[name] = tuple(sorted(members, key=_ORDER.get(name, _REFERENCE)))
        trouble.extend(more)
    facts = replace(
        facts,
        patient=who,
        measurements=read["measurements"],
        medications=read["medications"],
        conditions=read["conditions"],
        procedures=read["procedures"],
        allergies=read["allergies"],
        immunizations=read["immunizations"],
        gaps=_sorted_gaps(trouble),
    )
    return derive(facts, pairing=pairing)


def identifiers_of(parts: Sequence[Part], *, patient_id: str) -> frozenset[tuple[str, str]] | None:
    """System and value of every identifier of that Patient; None where no such Patient was read."""
    own = patient_id.removeprefix("Patient/")
    mine = [r for r in _probed(parts, []) if r.probe.resource_type == "Patient" and r.id == own]
    return frozenset(pair for one in mine for pair in _identifiers(one.raw)) if mine else None


def _specimens(resources: Iterable[_Resource], owner: _Owner, trouble: list[Gap]) -> dict[str, bytes]:
    """The Specimens by what an Observation may call them. One that does not say whose it is counts: its Observation
    does; another patient's is a gap."""
    found: dict[str, bytes] = {}
    foreign: list[_Resource] = []
    for resource in resources:
        if resource.probe.resource_type != "Specimen":
            continue
        if owner.objection(resource.probe) == "other-patient":
            foreign.append(resource)
            continue
        found.update({name: resource.raw for name in (resource.full_url, resource.reference) if name})
    trouble.extend(_foreign(foreign))
    return found


def _foreign(resources: Iterable[_Resource]) -> set[Gap]:
    """One gap for each source and type that held somebody else's."""
    return {Gap(r.source, "other-patient", params=(("type", r.probe.resource_type),)) for r in resources}


def subjects(resources: Iterable[bytes]) -> frozenset[str]:
    """The `Patient/id` (or other reference) that clinical resources name as their subject.

    For a Bundle without Patient. Unreadable resources and those without a reference name none.
    """
    found = set()
    for raw in resources:
        try:
            probe = _PROBE(raw)
        except _UNREADABLE:
            continue
        reference = probe.subject or probe.patient
        if probe.resource_type in _FAMILY and reference is not None and reference.reference:
            found.add(_local(reference.reference))
    return frozenset(found)


_REFERENCE = attrgetter("reference")
_ORDER = {"measurements": attrgetter("concept", "reference", "code", "kind", "original", "coded")}
"""Facts do not depend on the order of what was sent."""


def _sorted_gaps(gaps: Iterable[Gap]) -> tuple[Gap, ...]:
    return tuple(sorted(gaps, key=lambda g: (g.source, g.why, g.concept, g.reference, g.params)))


# --------------------------------------------------------------------------- which resources, which version


def _probed(parts: Sequence[Part], trouble: list[Gap]) -> Iterable[_Resource]:
    for part in parts:
        for index, raw in enumerate(part.resources):
            try:
                probe = _PROBE(raw)
            except _UNREADABLE:
                trouble.append(unreadable.gap(part.source.key, raw))
                continue
            if not probe.resource_type:
                trouble.append(Gap(part.source.key, "unreadable-resource"))
                continue
            full_url = part.full_urls[index] if index < len(part.full_urls) else ""
            identity = probe.id
            if not identity:
                identity = _last(full_url) or "unnamed-" + hashlib.sha256(raw).hexdigest()[:16]
                raw = _with_id(raw, identity)
            yield _Resource(part.source.key, raw, probe, identity, f"{probe.resource_type}/{identity}", full_url)


def _with_id(raw: bytes, identity: str) -> bytes:
    """The same JSON object with an id, so that what it says can be traced to its entry."""
    return b'{"id":' + msgspec.json.encode(identity) + b"," + raw.lstrip()[1:]


def _newest(resources: Iterable[_Resource], context: Context) -> list[_Resource]:
    """One of each type and id: the last updated, else the highest version.

    Where nothing says which of two contents is the newer one, both stay: the family sees that they contradict each
    other. (Not so what only describes another resource or the patient; there it is arbitrary, but always the same.)
    """
    kept: dict[str, _Resource] = {}
    beside: dict[str, list[_Resource]] = {}
    for resource in resources:
        known = kept.setdefault(resource.reference, resource)
        if known is resource or known.raw == resource.raw:
            continue
        new, old = _version(resource, context), _version(known, context)
        if new == old and resource.probe.resource_type in _FAMILY:
            rivals = beside.setdefault(resource.reference, [])
            if all(_content(one.raw) != _content(resource.raw) for one in (known, *rivals)):
                rivals.append(resource)
        elif (new, resource.raw) > (old, known.raw):
            kept[resource.reference] = resource
            beside.pop(resource.reference, None)
    if not beside:
        return list(kept.values())
    every = (*kept.values(), *(rival for rivals in beside.values() for rival in rivals))
    return sorted(every, key=lambda resource: (resource.reference, resource.raw))


def _version(resource: _Resource, context: Context) -> tuple[datetime, int]:
    meta = resource.probe.meta or _Meta()
    updated = context.when(meta.last_updated)
    number = int(meta.version_id) if meta.version_id.isdecimal() and len(meta.version_id) < 20 else 0
    return updated.latest if updated else datetime.min.replace(tzinfo=UTC), number


def _content(raw: bytes) -> dict[str, Any]:
    """What a resource says, without what the server adds: the same content may be written in two ways."""
    try:
        document: dict[str, Any] = msgspec.json.decode(raw)
    except _UNREADABLE:
        # The parts that nobody asks for need not be readable.
        return {"": raw}
    return {name: value for name, value in document.items() if name not in {"meta", "text"}}


# --------------------------------------------------------------------------- whose they are


class _Owner:
    """Whether a resource is the patient's."""

    def __init__(self, patient_id: str, patients: Sequence[_Resource]) -> None:
        self.references = {f"Patient/{patient_id}", f"urn:uuid:{patient_id}", *(p.full_url for p in patients)} - {""}
        self.known = bool(patients)
        self.identifiers = {i for p in patients for i in _identifiers(p.raw)}

    def objection(self, probe: _Probe) -> str:
        """Why it is not taken, '' when it is the patient's."""
        named = probe.subject or probe.patient
        if named is None:
            return "no-subject"
        if named.reference:
            own = named.reference in self.references or _local(named.reference) in self.references
            return "" if own else "other-patient"
        if named.identifier is None or not named.identifier.value:
            return "no-subject"
        if not self.known:
            return "subject-not-verified"
        return "" if (named.identifier.system, named.identifier.value) in self.identifiers else "other-patient"


def _identifiers(raw: bytes) -> Iterable[tuple[str, str]]:
    try:
        identity = _IDENTITY(raw)
    except _UNREADABLE:
        return ()
    return [(i.system, i.value) for i in identity.identifier if i.value]


def _local(reference: str) -> str:
    """`Type/id` of a relative or absolute reference, without a version; anything else as it is."""
    if reference.startswith("urn:"):
        return reference
    return "/".join(reference.partition("/_history/")[0].split("/")[-2:])


def _last(full_url: str) -> str:
    return full_url.rpartition("/")[2].rpartition(":")[2]
