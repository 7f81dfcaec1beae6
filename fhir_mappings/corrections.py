"""A draft order with another dose or another last day, as the whole resource that an `update` has to carry.

Only what is asked for is changed, and only in a draft so simple that nothing else in it can contradict the change: one
dosage with one amount, without a rate, limits, conditions, notes or extensions of its own. The words of the dosage, the
narrative and amounts to dispense said something else, so they are left out. What does not become a valid FHIR R4 order
is not offered.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec
from fhir.resources.R4B.medicationrequest import MedicationRequest
from pydantic import ValidationError

from fhir_mappings import dosages
from fhir_mappings.dosages import Dosage
from fhir_mappings.draft_orders import read_json

_UCUM = "http://unitsofmeasure.org"
_ENDS = ("boundsDuration", "boundsRange", "boundsPeriod", "count", "countMax")
_TOLD = frozenset({"text", "_text", "patientInstruction", "_patientInstruction"})
_PLAIN = frozenset({"id", "sequence", "timing", "route", "method", "site", "doseAndRate", *_TOLD})
"""What a dosage may hold: anything else might contradict a changed dose."""

_AMOUNT = frozenset({"id", "type", "doseQuantity"})
_CONTRADICT = frozenset({"note", "modifierExtension"})
_DISPENSED = frozenset({"quantity", "expectedSupplyDuration", "numberOfRepeatsAllowed", "validityPeriod"})
_LISTS = ("category", "reasonCode", "dosageInstruction")
"""Members that some clients send as an object where FHIR has a list."""

_ENCODER = msgspec.json.Encoder(decimal_format="number")
_DOSAGE = msgspec.json.Decoder(Dosage)


def corrected(
    raw: bytes, *, daily_mg: Decimal | None, last_day: date | None, first_day: date, per_day: int = 1
) -> dict[str, Any] | None:
    """The draft with that dose a day and that last day (None: as it is); `first_day` where it has no start.

    None where the draft is not simple enough, is not given `per_day` times a day, or becomes no valid order.
    """
    resource = read_json(raw)
    for name in _LISTS:
        if isinstance(resource.get(name), dict):
            resource[name] = [resource[name]]
    lines = resource.get("dosageInstruction")
    if not isinstance(lines, list) or len(lines) != 1 or not isinstance(lines[0], dict):
        return None
    if not _PLAIN.issuperset(lines[0]) or not _CONTRADICT.isdisjoint(resource):
        return None
    line = {name: value for name, value in lines[0].items() if name not in _TOLD}
    if daily_mg is not None:
        amounts = _amounts(line, daily_mg, per_day)
        if amounts is None:
            return None
        line["doseAndRate"] = amounts
    if last_day is not None:
        line["timing"] = _until(line.get("timing"), last_day, first_day)
    changed = {name: value for name, value in resource.items() if name != "text"} | {"dosageInstruction": [line]}
    dispense = resource.get("dispenseRequest")
    if isinstance(dispense, dict):
        changed["dispenseRequest"] = {name: value for name, value in dispense.items() if name not in _DISPENSED}
        if not changed["dispenseRequest"]:
            del changed["dispenseRequest"]
    return changed if _is_valid(changed) else None


def without_words(raw: bytes) -> msgspec.Raw:
    """A draft of which `corrected` makes the same, without the words that it leaves out."""
    resource = {name: value for name, value in read_json(raw).items() if name != "text"}
    lines = resource.get("dosageInstruction")
    one = lines[0] if isinstance(lines, list) and lines else lines
    if isinstance(one, dict):
        resource["dosageInstruction"] = [{name: value for name, value in one.items() if name not in _TOLD}]
    return msgspec.Raw(_ENCODER.encode(resource))


def _amounts(line: Mapping[str, Any], daily_mg: Decimal, per_day: int) -> list[dict[str, Any]] | None:
    """The amount of one dose; how often a day is the draft's own, and has to be what it should be."""
    try:
        dosage = _DOSAGE.decode(_ENCODER.encode(line))
        times = dosages.times_a_day(dosage.timing)
        if len(dosage.amounts) != 1 or times != per_day or dosages.mg(dosage.amounts[0].doseQuantity) is None:
            return None
    except (msgspec.MsgspecError, ArithmeticError):
        return None
    dose = daily_mg / per_day
    value = dose.normalize() if dose != dose.to_integral_value() else dose.quantize(Decimal(1))
    amount: Any = line["doseAndRate"]
    one = amount[0] if isinstance(amount, list) else amount
    if not _AMOUNT.issuperset(one):
        return None
    return [{**one, "doseQuantity": {"value": value, "unit": "mg", "system": _UCUM, "code": "mg"}}]


def _until(timing: Any, last_day: date, first_day: date) -> dict[str, Any]:
    timing = timing if isinstance(timing, dict) else {}
    repeat = timing.get("repeat")
    repeat = repeat if isinstance(repeat, dict) else {}
    period = repeat.get("boundsPeriod")
    start = period.get("start") if isinstance(period, dict) else None
    kept = {name: value for name, value in repeat.items() if name not in _ENDS}
    bounds = {"start": start or first_day.isoformat(), "end": last_day.isoformat()}
    return {**timing, "repeat": {**kept, "boundsPeriod": bounds}}


def _is_valid(resource: Mapping[str, Any]) -> bool:
    try:
        MedicationRequest.model_validate(msgspec.json.decode(_ENCODER.encode(resource)))
    except (ValidationError, ValueError, msgspec.MsgspecError):
        return False
    return True
