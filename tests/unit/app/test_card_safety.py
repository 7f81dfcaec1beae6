"""What a card has to say so that nobody is misled: the display controls of docs/safety/hazards.toml."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from markdown_it import MarkdownIt

from app.sandbox import patients
from tests.unit.app.bundles import NOW, bundle, evaluated, resources

PATIENT = "demo-full-protocol"
STORIES = [story.patient_id for story in patients.STORIES]
STUDY = {"anakinra": "72435", "ruxolitinib": "1193326"}


def cards(patient_id: str = PATIENT, *more: dict[str, Any], left_out: str = "", now: datetime = NOW) -> list[Any]:
    """The cards of a demo patient with more on record, or without the drugs of a name."""
    kept = [r for r in resources(patient_id) if not left_out or left_out not in str(r).lower()]
    found: list[Any] = evaluated(bundle([*kept, *more]), now=now)["cards"]
    return found


def plain(markdown: str) -> str:
    """A card's detail as a reader sees it."""
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(markdown)
    words = [child.content for token in tokens for child in token.children or ()]
    return " ".join(" ".join(words).split())


def given(drug: str, *, hours: float = 5) -> dict[str, Any]:
    return {
        "resourceType": "MedicationAdministration",
        "id": f"given-{drug}-{hours:.0f}",
        "status": "completed",
        "subject": {"reference": f"Patient/{PATIENT}"},
        "effectiveDateTime": (NOW - timedelta(hours=hours)).isoformat(),
        "medicationCodeableConcept": {
            "coding": [{"system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": STUDY[drug]}]
        },
    }


def dialysis() -> dict[str, Any]:
    return {
        "resourceType": "Procedure",
        "id": "crrt",
        "status": "in-progress",
        "subject": {"reference": f"Patient/{PATIENT}"},
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "714749008"}]},
        "performedPeriod": {"start": (NOW - timedelta(hours=20)).isoformat()},
    }


@pytest.mark.no_cover
def test_no_order_is_preselected_and_each_card_with_orders_has_its_check_list() -> None:
    """HZ-27, HZ-32."""
    offering = [card for patient_id in STORIES for card in cards(patient_id) if "suggestions" in card]
    assert len(offering) >= 2
    for card in offering:
        assert card["selectionBehavior"] == "any"
        assert not any(suggestion.get("isRecommended") for suggestion in card["suggestions"])
        assert [[action["type"] for action in s["actions"]] for s in card["suggestions"]] == [["create"], ["create"]]
        shown = plain(card["detail"])
        head, _, asked = shown.partition("Only a person can confirm")
        assert "Criteria" in head
        for question in (
            "Consent, and local approval",
            "pneumonia on imaging",
            "Goals of care: no decision to withhold",
        ):
            assert question in asked
        assert "goals-of-care" in {reason["code"] for reason in card["overrideReasons"]}


def test_a_card_with_orders_asks_who_stops_them() -> None:
    """HZ-22."""
    [card] = cards()
    assert len(card["suggestions"]) == 2
    assert "who stops anakinra on day 14 and ruxolitinib on day 28" in plain(card["detail"])


def test_the_offered_anakinra_says_that_its_taper_is_ours() -> None:
    """HZ-21."""
    [card] = cards()
    [anakinra, ruxolitinib] = [s["actions"][0] for s in card["suggestions"]]
    assert "the taper is our reconstruction" in anakinra["description"]
    assert any("this service's reconstruction" in note["text"] for note in anakinra["resource"]["note"])
    assert "reconstruction" not in str(ruxolitinib)


def test_the_card_asks_for_standard_treatment_and_shows_what_the_chart_has() -> None:
    """HZ-20."""
    [card] = cards()
    shown = plain(card["detail"])
    assert "Has standard treatment been given or excluded? Dexamethasone; tocilizumab or baricitinib" in shown
    assert "Recorded in this chart: dexamethasone (2026-11-" in shown
    without = plain(cards(left_out="dexamethasone")[0]["detail"])
    assert "Recorded in this chart: none found in the last 28 days" in without
    assert card["overrideReasons"][0]["display"] == "Standard treatment preferred"


def test_standard_treatment_that_could_not_be_read_is_not_called_absent() -> None:
    """HZ-20, HZ-10."""
    kept = [r for r in resources(PATIENT) if not r["resourceType"].startswith("Medication")]
    failed = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "exception"}]}
    found = evaluated(bundle([*kept, failed]))["cards"]
    shown = plain(found[0]["detail"])
    assert "Recorded in this chart: could not be retrieved" in shown
    assert "none found in the last 28 days" not in shown


def test_the_card_says_that_sepsis_looks_the_same() -> None:
    """HZ-25."""
    [card] = cards()
    shown = plain(card["detail"])
    assert "CRP and ferritin do not tell this from bacterial or fungal sepsis. Blood culture: negative" in shown


@pytest.mark.parametrize("drug", sorted(STUDY))
def test_the_card_of_a_course_says_that_infection_is_masked(drug: str) -> None:
    """HZ-25; a course is never offered again."""
    found = cards(PATIENT, given(drug))
    assert "CRP and fever are blunted" in plain(found[0]["detail"])
    assert not any("suggestions" in card for card in found)


def test_a_drug_that_goes_on_after_its_last_day_is_told() -> None:
    """HZ-22: day 15 by the facility's calendar, and a dose of this morning."""
    title = "Anakinra goes on after day 14"
    for first, expected in ((13.5 * 24, False), (14.5 * 24, True)):
        card = cards(PATIENT, given("anakinra", hours=first), given("anakinra"))[0]
        assert (title in plain(card["detail"])) is expected
        assert card["indicator"] == ("warning" if expected else "info")


def test_the_day_is_counted_from_the_first_dose_and_not_from_the_order() -> None:
    """HZ-23."""
    order = {
        **given("ruxolitinib"),
        "resourceType": "MedicationRequest",
        "id": "rux",
        "status": "active",
        "intent": "order",
        "authoredOn": (NOW - timedelta(days=6)).isoformat(),
    }
    del order["effectiveDateTime"]
    course = cards(PATIENT, order, given("ruxolitinib"))[0]
    assert "Day 1 of a course" in plain(course["detail"])
    ordered = cards(PATIENT, order)[0]
    assert "of a course" not in plain(ordered["detail"])
    assert "Ordered, and no dose is on record" in plain(ordered["detail"])


def test_toxicity_on_treatment_stands_above_everything() -> None:
    """HZ-24."""
    for value, critical in ((49, True), (50, False)):
        changed = resources(PATIENT)
        for resource in changed:
            if any(coding.get("code") == "777-3" for coding in resource.get("code", {}).get("coding", ())):
                resource["valueQuantity"]["value"] = value
        card = evaluated(bundle([*changed, given("ruxolitinib")]))["cards"][0]
        assert (card["indicator"] == "critical") is critical
        assert ("Stop ruxolitinib" in card["summary"]) is critical
        assert plain(card["detail"]).startswith("Stop ruxolitinib: platelets below 50") is critical


def test_dialysis_is_told_beside_the_thresholds() -> None:
    """HZ-28: a way into the trial's evolved stage 3, and a question of dose."""
    protocol, safety = cards(PATIENT, dialysis())
    assert "thresholds of the pilot letter met" in protocol["summary"]
    assert "suggestions" not in protocol
    assert safety["indicator"] == "warning"
    assert "enal replacement" in plain(safety["detail"])


def test_evidence_that_was_to_be_reviewed_again_says_so() -> None:
    """HZ-19: after the last day, by the facility's calendar, first on each card that names the knowledge."""
    last, first = datetime(2027, 11, 21, 22, 59, tzinfo=UTC), datetime(2027, 11, 21, 23, 0, tzinfo=UTC)
    warning = "last reviewed on 2026-11-21, more than 12 months ago: it may be out of date"
    seen = 0
    for now, expired in ((NOW, False), (last, False), (first, True)):
        moved = patients.bundle(now)
        mine = [
            r
            for r in moved
            if r["id"] == "demo-neutropenia"
            or "Patient/demo-neutropenia" in {r.get(n, {}).get("reference") for n in ("subject", "patient")}
            or r["resourceType"] == "Medication"
        ]
        for card in evaluated(bundle(mine), now=now)["cards"]:
            assert (warning in plain(card["detail"].partition("\n")[0])) is expired
            seen += 1
    assert seen == 6
