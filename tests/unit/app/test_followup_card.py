"""The card of a treated patient: what stands above everything, what always stands there, and what never does."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.unit.app.bundles import bundle, changed, evaluated, resources

TREATED = ("demo-day-7", "demo-day-16", "demo-day-30")


def card(patient_id: str) -> dict[str, Any]:
    found: dict[str, Any] = evaluated(bundle(resources(patient_id)))["cards"][0]
    return found


def of(found: list[dict[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = evaluated(bundle(found))["cards"][0]
    return made


@pytest.mark.parametrize("patient_id", TREATED)
def test_every_follow_up_card_says_what_it_must(patient_id: str) -> None:
    found = card(patient_id)
    assert "CRP and fever are blunted by both drugs" in found["detail"]
    assert "11-patient uncontrolled 2020 pilot" in found["detail"]
    assert "no course of P/F: none is shown" in found["detail"]
    assert "Knowledge pilot-simple 0.1.0, pilot-full 0.1.0, pilot-followup 0.1.0" in found["detail"]
    assert "unproven" in found["summary"]
    assert "suggestions" not in found
    ids = [p["id"] for p in found["extension"]["org.rescue-cds.evidence"]["protocols"]]
    assert ids[-1] == "pilot-followup"
    assert "**Criteria**" not in found["detail"]


@pytest.mark.parametrize("patient_id", TREATED)
def test_no_follow_up_card_calls_anybody_a_responder_or_shows_a_ratio_of_gases(patient_id: str) -> None:
    found = card(patient_id)
    text = f"{found['summary']} {found['detail']}".lower()
    assert not re.search(r"respond(?:er|ed|ing)|improv|effective|recommend", text)
    assert "pao2" not in text


def test_a_stop_stands_above_everything() -> None:
    found = card("demo-day-16")
    assert found["indicator"] == "critical"
    assert found["summary"].startswith("Stop ruxolitinib: ALT or AST above 5 x the upper limit, and 1 more. Day 16")
    first, second = found["detail"].split("\n\n")[:2]
    assert first.startswith("- **Stop ruxolitinib: ALT or AST above 5 x the upper limit**")
    assert "6.9 x upper limit 45" in first
    assert second.startswith("Day 16 of a course")


def test_what_could_not_be_determined_is_a_warning_and_is_counted() -> None:
    """A chart without neutrophils: three checks hang on them."""
    codes = ("751-8", "6690-2")
    found = of(changed("demo-day-7", lambda r: None if any(f'"{c}"' in str(r).replace("'", '"') for c in codes) else r))
    assert found["indicator"] == "warning"
    assert "**Could not be determined**" in found["detail"]
    assert (
        "Hold ruxolitinib: neutrophils below 0.5 x 10⁹/L: could not be determined: no result found" in found["detail"]
    )
    missed = [r for r in resources("demo-day-7") if r.get("status") != "not-done"]
    quiet = of([r for r in missed if not any(f'"{c}"' in str(r).replace("'", '"') for c in codes)])
    assert "3 checks could not be determined" in quiet["summary"]


def test_nothing_to_look_at_is_said_without_reassurance() -> None:
    found = of([r for r in resources("demo-day-7") if r.get("status") != "not-done"])
    assert found["indicator"] == "info"
    assert found["summary"].startswith("On treatment since 2026-11-17 09:30 CET, Day 7")
    assert "**To look at**" not in found["detail"]


def test_a_total_that_cannot_be_known_is_said() -> None:
    def without_dose(resource: dict[str, Any]) -> dict[str, Any]:
        if resource["resourceType"] == "MedicationAdministration" and "anakinra" in str(resource):
            resource["dosage"].pop("dose")
        return resource

    found = of(changed("demo-day-7", without_dose))
    assert (
        "anakinra: what was given in all cannot be said: anakinra: 7 administrations without a dose" in found["detail"]
    )
    assert "ruxolitinib: 60 mg recorded" in found["detail"]


def test_a_day_that_is_not_certain_shows_no_planned_dose() -> None:
    raw = bundle(resources("demo-day-7"), kind="searchset", total=9999)
    found = evaluated(raw)["cards"][0]
    assert "Day 7 or later" in found["summary"]
    assert "The treatment day is not certain (Day 7 or later)" in found["detail"]
    assert "the letter plans" not in found["detail"]


def test_extubation_is_not_applicable_and_never_missing() -> None:
    found = card("demo-day-30")
    row = next(line for line in found["detail"].splitlines() if line.startswith("| Static compliance"))
    assert "not applicable" in row
    assert "invasive ventilation ended" in found["detail"]


def test_a_drug_that_was_ordered_and_not_begun_is_a_line_of_the_eligibility_card() -> None:
    found = card("demo-ruxolitinib-ordered")
    assert "Ordered, and no dose is on record: ruxolitinib is ordered" in found["detail"]
    assert "Four measured thresholds" in found["summary"]
