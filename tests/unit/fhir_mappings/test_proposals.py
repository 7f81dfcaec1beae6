"""Draft orders: the course of the pilot letter (clinical 1.1.5), day by day, as valid FHIR."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from fhir.resources.R4B.medicationrequest import MedicationRequest

from fhir_mappings.coding import CodeableConcept, Coding
from fhir_mappings.errors import BadCodebook
from fhir_mappings.proposals import DoseStep, DrugPlan, drafts, fill

PARIS = ZoneInfo("Europe/Paris")
NOTE = "Days 12 to 14 are our reconstruction of a planned total of 3800 mg."
ANAKINRA = DrugPlan(
    ingredient="anakinra",
    display="Anakinra, intravenous",
    codes=(Coding("atc", "L04AC03", "anakinra"), Coding("rxnorm", "72435", "anakinra")),
    route=CodeableConcept((Coding("snomed", "47625008", "Intravenous route"),), "intravenous (off-label route)"),
    doses=(
        DoseStep("300 mg once daily, days 1 to 11", Decimal(300), 1, "d", 11, 1),
        DoseStep("200 mg once daily, days 12 and 13", Decimal(200), 1, "d", 2, 12),
        DoseStep("100 mg once daily, day 14", Decimal(100), 1, "d", 1, 14),
    ),
    course_days=14,
    notes=(NOTE, "Division not stated in the pilot letter; once daily in the trial register."),
)
RUXOLITINIB = DrugPlan(
    ingredient="ruxolitinib",
    display="Ruxolitinib 5 mg",
    codes=(Coding("atc", "L01EJ01"), Coding("rxnorm", "1193326")),
    route=CodeableConcept((), "by mouth or enteral tube"),
    doses=(DoseStep("5 mg twice daily, days 1 to 28", Decimal(5), 2, "d", 28, 1),),
    course_days=28,
)
NOW = datetime(2021, 3, 20, 23, 30, tzinfo=UTC)  # already the 21st in Paris


def order(plan: DrugPlan, **fields: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {"patient_id": "p1", "now": NOW, "zone": PARIS} | fields
    return fill(drafts([plan])[0], **arguments)


def total_mg(resource: dict[str, Any]) -> Decimal:
    """The dose of all days, counted from the calendar days that the order itself names."""
    total = Decimal(0)
    for dosage in resource["dosageInstruction"]:
        repeat = dosage["timing"]["repeat"]
        first, last = (datetime.fromisoformat(repeat["boundsPeriod"][end]) for end in ("start", "end"))
        value = Decimal(str(dosage["doseAndRate"][0]["doseQuantity"]["value"]))
        total += value * repeat["frequency"] * ((last - first).days + 1)
    return total


@pytest.mark.parametrize("plan", [ANAKINRA, RUXOLITINIB])
def test_is_a_valid_draft_proposal(plan: DrugPlan) -> None:
    resource = order(plan, encounter_id="e1")
    model = MedicationRequest.model_validate(resource)
    assert (model.status, model.intent) == ("draft", "proposal")
    assert resource["subject"] == {"reference": "Patient/p1"}
    assert resource["encounter"] == {"reference": "Encounter/e1"}
    assert [c["code"] for c in resource["medicationCodeableConcept"]["coding"]] == [c.code for c in plan.codes]
    assert resource["medicationCodeableConcept"]["coding"][0]["system"] == "http://www.whocc.no/atc"
    assert resource["medicationCodeableConcept"]["text"] == plan.display


def test_the_planned_totals_are_those_of_the_pilot_letter() -> None:
    assert total_mg(order(ANAKINRA)) == Decimal(3800)
    assert total_mg(order(RUXOLITINIB)) == Decimal(280)


def test_day_one_is_today_at_the_facility() -> None:
    bounds = [d["timing"]["repeat"]["boundsPeriod"] for d in order(ANAKINRA)["dosageInstruction"]]
    assert bounds == [
        {"start": "2021-03-21", "end": "2021-03-31"},
        {"start": "2021-04-01", "end": "2021-04-02"},
        {"start": "2021-04-03", "end": "2021-04-03"},
    ]
    assert order(ANAKINRA)["authoredOn"] == "2021-03-21T00:30:00+01:00"
    assert order(RUXOLITINIB)["dosageInstruction"][0]["timing"]["repeat"]["boundsPeriod"]["end"] == "2021-04-17"


def test_steps_are_in_sequence_with_their_words_and_units() -> None:
    dosages = order(ANAKINRA)["dosageInstruction"]
    assert [d["sequence"] for d in dosages] == [1, 2, 3]
    assert dosages[2]["text"] == "100 mg once daily, day 14"
    assert dosages[0]["route"]["coding"][0]["system"] == "http://snomed.info/sct"
    assert dosages[0]["doseAndRate"][0]["doseQuantity"] == {
        "value": 300,
        "unit": "mg",
        "system": "http://unitsofmeasure.org",
        "code": "mg",
    }
    enteral = order(RUXOLITINIB)["dosageInstruction"][0]
    assert enteral["route"] == {"text": "by mouth or enteral tube"}
    assert (enteral["timing"]["repeat"]["frequency"], enteral["timing"]["repeat"]["period"]) == (2, 1)


def test_notes_say_that_the_taper_is_a_reconstruction() -> None:
    assert [note["text"] for note in order(ANAKINRA)["note"]] == list(ANAKINRA.notes)
    assert "note" not in order(RUXOLITINIB)


def test_nothing_is_said_to_the_patient_or_the_pharmacy() -> None:
    resource = order(ANAKINRA)
    assert "dispenseRequest" not in resource
    assert all("patientInstruction" not in dosage for dosage in resource["dosageInstruction"])


def test_an_id_may_already_be_a_reference() -> None:
    resource = order(ANAKINRA, patient_id="Patient/p1", encounter_id="Encounter/e1")
    assert resource["subject"]["reference"] == "Patient/p1"
    assert resource["encounter"]["reference"] == "Encounter/e1"
    assert "encounter" not in order(ANAKINRA)


def test_one_draft_serves_many_patients() -> None:
    draft = drafts([ANAKINRA])[0]
    first = fill(draft, patient_id="p1", now=NOW, zone=PARIS)
    first["dosageInstruction"].clear()
    second = fill(draft, patient_id="p2", now=NOW, zone=PARIS)
    assert len(second["dosageInstruction"]) == 3
    assert draft.resource["subject"] == {"reference": "Patient/nobody"}
    assert draft.ingredient == "anakinra"


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        (replace(ANAKINRA, codes=()), "name a code"),
        (replace(ANAKINRA, doses=ANAKINRA.doses[::2]), "a step starts on day 14, expected day 12"),
        (replace(ANAKINRA, course_days=15), "the steps end on day 14, the course on day 15"),
        (replace(RUXOLITINIB, doses=(replace(RUXOLITINIB.doses[0], dose_mg=Decimal(0)),)), "above zero"),
        (replace(RUXOLITINIB, doses=(replace(RUXOLITINIB.doses[0], frequency=0),)), "above zero"),
        (replace(RUXOLITINIB, doses=(replace(RUXOLITINIB.doses[0], days=0),)), "above zero"),
        (replace(RUXOLITINIB, doses=(replace(RUXOLITINIB.doses[0], text=""),)), "not a valid MedicationRequest"),
    ],
)
def test_a_plan_that_does_not_add_up_is_refused(plan: DrugPlan, says: str) -> None:
    with pytest.raises(BadCodebook, match=rf"plan of {plan.ingredient}: .*{says}"):
        drafts([plan])
