"""Draft orders: what a suggestion offers to create.

A draft is built and validated once, when the clinical knowledge is loaded; only the patient, the encounter and the
calendar are filled in for a request. Doses, days, codes and words all come from the caller's data: nothing clinical is
written here. `status` is `draft` and `intent` `proposal`: a person decides, and every system has to treat it so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any

from fhir.resources.R4B.medicationrequest import MedicationRequest
from pydantic import ValidationError

from fhir_mappings.coding import CodeableConcept, Coding, addresses
from fhir_mappings.errors import BadCodebook

_UCUM = "http://unitsofmeasure.org"
_SOME_DAY = "2000-01-01"


@dataclass(frozen=True, slots=True)
class DoseStep:
    """One part of the course: the same dose from `start_day` on (day 1 is the day of the draft) for `days` days.

    `frequency` doses of `dose_mg` in each `period_unit` (UCUM: `d`, `h`, `wk`).
    """

    text: str
    dose_mg: Decimal
    frequency: int
    period_unit: str
    days: int
    start_day: int


@dataclass(frozen=True, slots=True)
class DrugPlan:
    """The whole course of one drug, the code to write first in front.

    Systems of `codes` and `route` are short names or addresses; `route` says in words what no code says.
    """

    ingredient: str
    display: str
    codes: tuple[Coding, ...]
    route: CodeableConcept
    doses: tuple[DoseStep, ...]
    course_days: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Draft:
    """A validated MedicationRequest without patient and dates, and the days (first, last) of each dosage."""

    ingredient: str
    resource: dict[str, Any]
    days: tuple[tuple[int, int], ...]


def drafts(plans: Sequence[DrugPlan]) -> tuple[Draft, ...]:
    """One draft for each plan. Raises BadCodebook for a plan that has gaps, overlaps or no valid FHIR form."""
    return tuple(_draft(plan) for plan in plans)


def fill(
    draft: Draft, *, patient_id: str, now: datetime, zone: tzinfo, encounter_id: str | None = None
) -> dict[str, Any]:
    """A MedicationRequest for this patient, as plain JSON values. Day 1 is today's calendar day in `zone`, so a course
    keeps its number of days across a change of clocks. `Patient/x` and `x` are the same id.

    What no request changes is the draft's own and shared with it: it is read, never written.
    """
    today = now.astimezone(zone).date()
    resource = dict(draft.resource)
    resource["subject"] = {"reference": _reference("Patient", patient_id)}
    if encounter_id:
        resource["encounter"] = {"reference": _reference("Encounter", encounter_id)}
    resource["authoredOn"] = now.astimezone(zone).isoformat(timespec="seconds")
    resource["dosageInstruction"] = [
        _on_days(dosage, today + timedelta(days=first - 1), today + timedelta(days=last - 1))
        for dosage, (first, last) in zip(draft.resource["dosageInstruction"], draft.days, strict=True)
    ]
    return resource


def _on_days(dosage: Mapping[str, Any], first: date, last: date) -> dict[str, Any]:
    """The dosage with the days it is for."""
    bounds = {"start": first.isoformat(), "end": last.isoformat()}
    timing = dosage["timing"]
    return {**dosage, "timing": {**timing, "repeat": {**timing["repeat"], "boundsPeriod": bounds}}}


def _reference(kind: str, identifier: str) -> str:
    return f"{kind}/{identifier.removeprefix(f'{kind}/')}"


def _draft(plan: DrugPlan) -> Draft:
    _check(plan)
    resource = {
        "resourceType": "MedicationRequest",
        "status": "draft",
        "intent": "proposal",
        "medicationCodeableConcept": _concept(plan.codes, text=plan.display),
        "subject": {"reference": "Patient/nobody"},
        "authoredOn": _SOME_DAY,
        "note": [{"text": note} for note in plan.notes],
        "dosageInstruction": [_dosage(step, number, plan=plan) for number, step in enumerate(plan.doses, start=1)],
    }
    if not plan.notes:
        del resource["note"]
    try:
        model = MedicationRequest.model_validate(resource)
    except ValidationError:
        raise BadCodebook(
            f"plan of {plan.ingredient}: not a valid MedicationRequest; check codes, texts, units"
        ) from None
    written: dict[str, Any] = json.loads(model.model_dump_json())
    days = tuple((step.start_day, step.start_day + step.days - 1) for step in plan.doses)
    return Draft(ingredient=plan.ingredient, resource=written, days=days)


def _check(plan: DrugPlan) -> None:
    """The steps follow one another without gap or overlap and end with the course."""
    where = f"plan of {plan.ingredient}"
    if not plan.codes:
        raise BadCodebook(f"{where}: name a code, ATC or RxNorm: clients need one to build an order")
    expected = 1
    for step in plan.doses:
        if step.dose_mg <= 0 or step.frequency < 1 or step.days < 1:
            raise BadCodebook(f"{where}: dose, frequency and days have to be above zero")
        if step.start_day != expected:
            raise BadCodebook(f"{where}: a step starts on day {step.start_day}, expected day {expected}")
        expected += step.days
    if expected - 1 != plan.course_days:
        raise BadCodebook(f"{where}: the steps end on day {expected - 1}, the course on day {plan.course_days}")


def _concept(codes: Sequence[Coding], *, text: str) -> dict[str, Any]:
    concept: dict[str, Any] = {"text": text}
    if codes:
        concept["coding"] = [
            {"system": addresses(code.system)[0], "code": code.code}
            | ({"display": code.display} if code.display else {})
            for code in codes
        ]
    return concept


def _dosage(step: DoseStep, number: int, *, plan: DrugPlan) -> dict[str, Any]:
    return {
        "sequence": number,
        "text": step.text,
        "timing": {
            "repeat": {
                "boundsPeriod": {"start": _SOME_DAY, "end": _SOME_DAY},
                "frequency": step.frequency,
                "period": 1,
                "periodUnit": step.period_unit,
            }
        },
        "route": _concept(plan.route.coding, text=plan.route.text),
        "doseAndRate": [
            {"doseQuantity": {"value": step.dose_mg, "unit": "mg", "system": _UCUM, "code": "mg"}},
        ],
    }
