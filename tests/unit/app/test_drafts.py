"""The suggested orders: the whole course, on the facility's calendar, valid whoever the patient is."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from fhir.resources.R4B.medicationrequest import MedicationRequest

from app import drafts
from app.cards import Draft
from tests.unit.app.bundles import bedside

PARIS = ZoneInfo("Europe/Paris")


def filled(now: datetime, **more: Any) -> list[Draft]:
    given = {"patient_id": "p1", "encounter_id": None, "zone": PARIS} | more
    return list(drafts.fill(bedside().templates, now=now, **given))


def periods(draft: Draft) -> list[tuple[str, str]]:
    found = [dosage["timing"]["repeat"]["boundsPeriod"] for dosage in draft.resource["dosageInstruction"]]
    return [(period["start"], period["end"]) for period in found]


def test_day_one_is_today_where_the_patient_lies() -> None:
    """Half past eleven at night in UTC is the next day in Paris (reading A13)."""
    anakinra, ruxolitinib = filled(datetime(2026, 11, 23, 23, 30, tzinfo=UTC))
    assert periods(anakinra) == [
        ("2026-11-24", "2026-12-04"),
        ("2026-12-05", "2026-12-06"),
        ("2026-12-07", "2026-12-07"),
    ]
    assert periods(ruxolitinib) == [("2026-11-24", "2026-12-21")]
    assert periods(filled(datetime(2026, 11, 23, 23, 30, tzinfo=UTC), zone=ZoneInfo("UTC"))[1])[0][0] == "2026-11-23"


@pytest.mark.parametrize("day", [date(2026, 3, 20), date(2026, 10, 20), date(2028, 2, 28), date(2026, 12, 31)])
def test_the_course_has_its_days_over_every_change_of_calendar(day: date) -> None:
    anakinra, ruxolitinib = filled(datetime(day.year, day.month, day.day, 12, tzinfo=UTC))
    for draft, days in ((anakinra, 14), (ruxolitinib, 28)):
        first, last = periods(draft)[0][0], periods(draft)[-1][1]
        assert (date.fromisoformat(last) - date.fromisoformat(first)).days == days - 1


def test_what_each_order_says() -> None:
    anakinra, ruxolitinib = filled(datetime(2026, 11, 23, 12, tzinfo=UTC), encounter_id="e1")
    for draft in (anakinra, ruxolitinib):
        resource = draft.resource
        MedicationRequest.model_validate(resource)
        assert (resource["status"], resource["intent"]) == ("draft", "proposal")
        assert resource["subject"]["reference"] == "Patient/p1"
        assert resource["encounter"]["reference"] == "Encounter/e1"
        assert "11-patient" in resource["note"][0]["text"]
        assert draft.label
        assert "Accept both drugs or neither" in draft.description
    words = [dosage["text"] for dosage in anakinra.resource["dosageInstruction"]]
    assert words == [
        "anakinra 300 mg once daily intravenous, days 1 to 11",
        "anakinra 200 mg once daily intravenous, days 12 to 13 (reconstructed taper)",
        "anakinra 100 mg once daily intravenous, day 14 (reconstructed taper)",
    ]
    assert [d["text"] for d in ruxolitinib.resource["dosageInstruction"]] == [
        "ruxolitinib 5 mg twice daily by mouth or enteral tube, days 1 to 28"
    ]


def test_one_patients_order_is_not_anothers() -> None:
    first = filled(datetime(2026, 11, 23, 12, tzinfo=UTC), patient_id="a")[0].resource
    second = filled(datetime(2026, 11, 23, 12, tzinfo=UTC), patient_id="b")[0].resource
    first["dosageInstruction"].clear()
    assert second["dosageInstruction"]
    assert second["subject"]["reference"] == "Patient/b"
    assert "encounter" not in second
