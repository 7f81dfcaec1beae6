"""Orders that a user is writing or signing -> `DraftOrder` facts (readings 3.11 and 7).

A form that is half filled in is no malformed order: what is missing is only not known yet. Whatever the status that a
client sends along (a draft, an order that is signed again, none), an entry of `draftOrders` is what is about to be
ordered, unless it says that the order is over.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec

from fhir_mappings import dosages, immunizations, medications
from fhir_mappings.coding import CodeableConcept
from fhir_mappings.context import Context
from fhir_mappings.dosages import Dosage
from fhir_mappings.facts import DraftOrder, MedicationUse

SOURCE = "draft-orders"
"""The source key of what is said about them."""

_REQUEST = "MedicationRequest"
_OVER = frozenset({"cancelled", "completed", "stopped", "ended", "entered-in-error"})
_ID = re.compile(r"[A-Za-z0-9\-.]{1,256}")
"""Some servers' ids are longer than the 64 characters of FHIR."""
_SUPPLY = frozenset({"quantity", "expectedSupplyDuration", "validityPeriod"})
_NAMES = ("medicationCodeableConcept", "medicationReference")
_OWNERS = ("subject", "patient")

_DECODER = msgspec.json.Decoder(float_hook=Decimal)
_ENCODER = msgspec.json.Encoder(decimal_format="number")


@dataclass(frozen=True, slots=True)
class Entry:
    """One resource of the Bundle, as raw JSON, and its address in it."""

    raw: bytes = field(repr=False)
    full_url: str = ""


@dataclass(frozen=True, slots=True)
class Subjects:
    """Whose the entries say they are: ids of patients, identifiers (system, value), and whether one of them says it in
    a way that cannot be followed here (a contained or conditional reference, a group, an address in the Bundle)."""

    ids: frozenset[str]
    identifiers: frozenset[tuple[str, str]]
    unclear: bool


def subjects(entries: Sequence[Entry]) -> Subjects:
    """Of every entry, whatever its type; an address counts by its last two parts. An entry without a subject says
    nothing: the call says whose it is."""
    ids: set[str] = set()
    identifiers: set[tuple[str, str]] = set()
    unclear = False
    for entry in entries:
        resource = read_json(entry.raw)
        for name in _OWNERS:
            named = resource.get(name)
            if named is None:
                continue
            one = named[0] if isinstance(named, list) and len(named) == 1 else named
            one = one if isinstance(one, dict) else {}
            reference = _text(one.get("reference")).partition("/_history/")[0].rstrip("/")
            identifier = one.get("identifier")
            head, _, last = reference.rpartition("/")
            if last and (head == "Patient" or head.endswith("/Patient")):
                ids.add(last)
            elif not reference and isinstance(identifier, dict) and _text(identifier.get("value")):
                identifiers.add((_text(identifier.get("system")), _text(identifier.get("value"))))
            else:
                unclear = True
    return Subjects(frozenset(ids), frozenset(identifiers), unclear)


def medication_references(entries: Sequence[Entry]) -> tuple[str, ...]:
    """What the orders refer to as their drug and neither hold themselves nor find beside them in the Bundle."""
    here = held(entries)
    found: dict[str, None] = {}
    for entry in entries:
        reference = _text(_member(_object(entry.raw), "medicationReference", "reference"))
        if reference and not reference.startswith("#") and reference not in here:
            found[reference] = None
    return tuple(found)


def held(entries: Sequence[Entry]) -> dict[str, bytes]:
    """The Medications of the Bundle by what an order may call them."""
    found = {}
    for entry in entries:
        resource = _object(entry.raw)
        if resource.get("resourceType") == "Medication":
            names = (entry.full_url, f"Medication/{_text(resource.get('id'))}")
            found.update({name: entry.raw for name in names if name and not name.endswith("/")})
    return found


def collect(entries: Sequence[Entry], *, picked: frozenset[int], context: Context) -> tuple[DraftOrder, ...]:
    """The medication orders among the entries, in their order; `place` counts all entries, `picked` are such places.

    Orders of other kinds, orders that are over, and "do not give" are left out.
    """
    context = replace(context, medications={**context.medications, **held(entries)})
    found = [_order(place, entry, context=context) for place, entry in enumerate(entries)]
    orders = [replace(order, picked=order.place in picked) for order in found if order is not None]
    ids = Counter(order.use.reference for order in orders)
    # What two drafts are called nobody can be told to change: the client might take the other one.
    return tuple(replace(order, removable=order.removable and ids[order.use.reference] == 1) for order in orders)


def read_json(raw: bytes) -> dict[str, Any]:
    """The resource without what is not filled in; empty for what is no JSON object. Decimals keep their digits."""
    found = _pruned(_object(raw))
    return found if isinstance(found, dict) else {}


def _order(place: int, entry: Entry, *, context: Context) -> DraftOrder | None:
    resource = read_json(entry.raw)
    if resource.get("resourceType") != _REQUEST:
        return None
    if _text(resource.get("status")) in _OVER or resource.get("doNotPerform") is True:
        return None
    id_ = _text(resource.get("id"))
    # What is no id may be anything, a name too: it goes no further.
    reference = f"{_REQUEST}/{id_}" if _ID.fullmatch(id_) else f"draftOrders/{place}"
    raw = _ENCODER.encode({**resource, "status": "draft", "intent": "order", "doNotPerform": False})
    use, _ = medications.one(SOURCE, raw, context=context)
    if use is None:
        use = MedicationUse(reference, "request", "draft")
        return DraftOrder(place, use, unreadable=True, named=True)
    concepts = medications.concepts(raw, context=context)
    # A vaccine's code is none of a listed drug, and still says what it is.
    known = [live for concept in concepts if (live := immunizations.is_live(concept)) is not None]
    today = context.now.astimezone(context.zone).date()
    lines = dosages.read(msgspec.Raw(_ENCODER.encode(resource.get("dosageInstruction", []))))
    planned, days = _planned(lines, resource, today=today, context=context)
    return DraftOrder(
        place=place,
        use=replace(
            use,
            reference=reference,
            identity="code" if known else use.identity,
            daily_mg=None if planned is None else planned[1],
        ),
        named=any(name in resource for name in _NAMES),
        vaccine=any(known) if known else None,
        possibly_live=not known and immunizations.names_live(_words(concepts)),
        first_day=days.first,
        last_day=days.last,
        least_mg=None if planned is None else planned[0],
        end=days.end,
        replaces=_replaced(resource),
        removable=_ID.fullmatch(id_) is not None,
        digest=hashlib.sha256(raw).hexdigest()[:32],
    )


def _planned(
    lines: Sequence[Dosage], resource: Mapping[str, Any], *, today: date, context: Context
) -> tuple[tuple[Decimal, Decimal] | None, dosages.Span]:
    """The doses of a day, and the days. What is written and not understood is never taken for not written: words, an
    amount to dispense, a dosage that could not be read."""
    unread = dosages.Span(None, None, "unreadable")
    try:
        planned = dosages.planned_mg(lines, today=today, context=context)
        days = dosages.span(lines, today=today, context=context)
    except ArithmeticError:  # a number beyond what is counted with
        return None, unread
    if not lines and resource.get("dosageInstruction"):
        return None, unread
    dispensed = resource.get("dispenseRequest")
    supply = isinstance(dispensed, dict) and not _SUPPLY.isdisjoint(dispensed)
    if days.end == "open" and (supply or any(line.has_words for line in lines)):
        days = dosages.Span(days.first, None, "unreadable")
    return planned, days


def _words(concepts: Sequence[CodeableConcept]) -> str:
    return " ".join(text for concept in concepts for text in (concept.text, *(c.display for c in concept.coding)))


def _replaced(resource: Mapping[str, Any]) -> tuple[str, ...]:
    """`priorPrescription`, and `basedOn` of a renewal."""
    prior = [resource.get("priorPrescription")]
    based = resource.get("basedOn")
    prior += based if isinstance(based, list) else [based]
    references = [_text(one.get("reference")) for one in prior if isinstance(one, dict)]
    return tuple("/".join(name.partition("/_history/")[0].split("/")[-2:]) for name in references if name)


def _object(raw: bytes) -> dict[str, Any]:
    try:
        value = _DECODER.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _pruned(value: Any) -> Any:
    """Without null, "", [] and {}: forms send them for what is not filled in. A lone `coding: [{}]` is nothing."""
    if isinstance(value, dict):
        kept = {name: _pruned(member) for name, member in value.items()}
        return {name: member for name, member in kept.items() if member not in (None, "", [], {})}
    if isinstance(value, list):
        return [member for member in map(_pruned, value) if member not in (None, "", [], {})]
    return value


def _member(resource: Mapping[str, Any], name: str, inner: str) -> Any:
    value = resource.get(name)
    return value.get(inner) if isinstance(value, dict) else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
