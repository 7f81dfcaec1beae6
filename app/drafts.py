"""The suggested orders: built and validated once when the knowledge is loaded, filled in for a patient on request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from app.cards import Draft
from fhir_mappings import proposals
from fhir_mappings.coding import CodeableConcept, Coding
from fhir_mappings.proposals import DoseStep, DrugPlan


@dataclass(frozen=True, slots=True)
class Template:
    """One drug: the words of its suggestion and the validated order without patient and dates."""

    label: str
    description: str
    order: proposals.Draft


Templates = tuple[Template, ...]


def templates(treatment: Mapping[str, Any]) -> Templates:
    """One template a drug of `treatment.toml`. Raises BadCodebook for a plan that is no valid order."""
    orders = proposals.drafts([_plan(row) for row in treatment["drug"]])
    return tuple(
        Template(row["label"], row["description"], order) for row, order in zip(treatment["drug"], orders, strict=True)
    )


def fill(
    prepared: Templates, *, patient_id: str, now: datetime, zone: ZoneInfo, encounter_id: str | None
) -> Sequence[Draft]:
    """Both drafts for this patient; day 1 is today on the facility's calendar (reading A13)."""
    return tuple(
        Draft(
            t.label,
            t.description,
            proposals.fill(t.order, patient_id=patient_id, now=now, zone=zone, encounter_id=encounter_id),
        )
        for t in prepared
    )


def _plan(row: Mapping[str, Any]) -> DrugPlan:
    steps: Iterable[Mapping[str, Any]] = row["steps"]
    name = row["display"]
    return DrugPlan(
        ingredient=row["ingredient"],
        display=name,
        codes=(Coding("atc", row["atc"], name), Coding("rxnorm", row["rxnorm"], name)),
        route=CodeableConcept(
            coding=(Coding("snomed", row["route_snomed"], row["route_display"]),), text=row["route_text"]
        ),
        doses=tuple(
            DoseStep(
                text=_words(name, step, route=row["route_text"]),
                dose_mg=Decimal(step["dose_mg"]),
                frequency=step["per_day"],
                period_unit="d",
                days=step["to_day"] - step["from_day"] + 1,
                start_day=step["from_day"],
            )
            for step in steps
        ),
        course_days=max(step["to_day"] for step in steps),
        notes=(row["note"],),
    )


def _words(name: str, step: Mapping[str, Any], *, route: str) -> str:
    times = {1: "once", 2: "twice"}[step["per_day"]]
    first, last = step["from_day"], step["to_day"]
    days = f"day {first}" if first == last else f"days {first} to {last}"
    mark = " (reconstructed taper)" if step.get("reconstructed") else ""
    return f"{name} {step['dose_mg']} mg {times} daily {route}, {days}{mark}"
