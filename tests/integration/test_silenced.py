"""The kill switch: a silenced protocol says nothing, the answer says so, and it is on record."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.integration.hospital import SERVICE, Hospital, decision, hook, opened, settings_for

PATIENT = "demo-full-protocol"
UNDETERMINED = "demo-venous-gas-on-ecmo"


def recorded(hospital: Hospital) -> dict[str, Any]:
    row = hospital.rows()[-1]
    return {"outcome": row["outcome"], **json.loads(row["verdicts"])}


def added(sent: dict[str, Any], key: str, resource: dict[str, Any]) -> None:
    """One more entry of a prefetched answer, of this patient."""
    whole = {**resource, "subject": {"reference": f"Patient/{PATIENT}"}}
    sent[key]["entry"].append({"resource": whole, "search": {"mode": "match"}})
    sent[key]["total"] = len(sent[key]["entry"])


def rxnorm(code: str) -> dict[str, Any]:
    return {"coding": [{"system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": code}]}


def ordered_ruxolitinib(sent: dict[str, Any]) -> None:
    """Ordered, nothing given: no course, so the thresholds are still looked at."""
    order = {"resourceType": "MedicationRequest", "id": "rux", "status": "active", "intent": "order"}
    added(sent, "orders", {**order, "medicationCodeableConcept": rxnorm("1193326")})


def given_anakinra(sent: dict[str, Any]) -> None:
    """A course that began this morning."""
    dose = {"resourceType": "MedicationAdministration", "id": "first-dose", "status": "completed"}
    when = {"effectiveDateTime": "2026-11-23T08:00:00Z"}
    added(sent, "administrations", {**dose, **when, "medicationCodeableConcept": rxnorm("72435")})


def low_platelets(sent: dict[str, Any]) -> None:
    for entry in sent["labs"]["entry"]:
        resource = entry["resource"]
        if any(coding["code"] == "777-3" for coding in resource["code"]["coding"]):
            resource["valueQuantity"]["value"] = 42
            return
    raise AssertionError("no platelets in the patient")


@pytest.mark.parametrize("silenced", ["pilot-simple", "pilot-full"])
async def test_either_pilot_protocol_takes_the_card_and_the_suggestion_away(tmp_path: Path, silenced: str) -> None:
    async with opened(tmp_path) as hospital:
        [before] = (await hospital.call(hook(PATIENT))).json()["cards"]
    async with opened(tmp_path, silenced=frozenset({silenced})) as hospital:
        answer = await hospital.call(hook(PATIENT))
        row = recorded(hospital)
    assert len(before["suggestions"]) == 2
    assert answer.json()["cards"] == []
    assert decision(answer)["outcome"] == "disabled"
    assert (row["outcome"], row["silenced"], row["suggested"]) == ("disabled", [silenced], False)
    assert row["pilot-simple"]["verdict"] == "met"  # worked out and kept, so that it can be looked into


@pytest.mark.parametrize("patient_id", [PATIENT, UNDETERMINED, "demo-crp-100"])
async def test_no_answer_of_a_silenced_protocol_is_told_whichever_it_is(tmp_path: Path, patient_id: str) -> None:
    async with opened(tmp_path, silenced=frozenset({"pilot-simple"})) as hospital:
        answer = await hospital.call(hook(patient_id))
    assert (answer.json()["cards"], decision(answer)["outcome"]) == ([], "disabled")


async def test_what_speaks_against_a_drug_that_is_ordered_is_still_told(tmp_path: Path) -> None:
    for silenced, expected in ((frozenset[str](), 2), (frozenset({"pilot-simple", "pilot-full"}), 1)):
        async with opened(tmp_path, silenced=silenced) as hospital:
            sent = await hospital.prefetched(PATIENT)
            ordered_ruxolitinib(sent)
            low_platelets(sent)
            answer = await hospital.call(hook(PATIENT, prefetched=sent))
        cards = answer.json()["cards"]
        assert len(cards) == expected
        assert "Platelets" in cards[-1]["summary"]
        assert cards[-1]["indicator"] == "warning"
        assert decision(answer)["outcome"] == "card"


async def test_what_speaks_against_drugs_that_nobody_ordered_goes_with_the_card(tmp_path: Path) -> None:
    async with opened(tmp_path, silenced=frozenset({"pilot-simple"})) as hospital:
        sent = await hospital.prefetched(PATIENT)
        low_platelets(sent)
        answer = await hospital.call(hook(PATIENT, prefetched=sent))
    assert (answer.json()["cards"], decision(answer)["outcome"]) == ([], "disabled")


@pytest.mark.parametrize(
    ("silenced", "outcome"),
    [("pilot-simple", "follow-up"), ("pilot-followup", "disabled"), ("rct-stage-3", "follow-up")],
)
async def test_a_running_course_is_the_follow_ups(tmp_path: Path, silenced: str, outcome: str) -> None:
    async with opened(tmp_path, silenced=frozenset({silenced})) as hospital:
        sent = await hospital.prefetched(PATIENT)
        given_anakinra(sent)
        answer = await hospital.call(hook(PATIENT, prefetched=sent))
    assert decision(answer)["outcome"] == outcome
    assert bool(answer.json()["cards"]) == (outcome == "follow-up")


async def test_the_follow_up_silenced_leaves_the_warning_of_a_treated_patient(tmp_path: Path) -> None:
    async with opened(tmp_path, silenced=frozenset({"pilot-followup"})) as hospital:
        sent = await hospital.prefetched(PATIENT)
        given_anakinra(sent)
        low_platelets(sent)
        answer = await hospital.call(hook(PATIENT, prefetched=sent))
    [card] = answer.json()["cards"]
    assert "Platelets" in card["summary"]


async def test_a_silenced_protocol_is_on_no_other_protocols_card(tmp_path: Path) -> None:
    for silenced, expected in (("rct-stage-3", False), ("pilot-followup", True)):
        async with opened(tmp_path, silenced=frozenset({silenced})) as hospital:
            [card] = (await hospital.call(hook(PATIENT))).json()["cards"]
        told = {entry["id"] for entry in card["extension"]["org.rescue-cds.evidence"]["protocols"]}
        assert "pilot-simple" in told
        assert ("rct-stage-3" in told) is expected


async def test_all_reads_nothing_and_says_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path, silenced=frozenset({"all"})) as hospital:
        sent = await hospital.prefetched(PATIENT)
        ordered_ruxolitinib(sent)
        low_platelets(sent)
        for body in (hook(PATIENT), hook(PATIENT, prefetched=sent), hook(PATIENT, fhir=None)):
            answer = await hospital.call(body)
            assert (answer.status_code, answer.json()["cards"]) == (200, [])
            assert decision(answer)["outcome"] == "disabled"
            assert recorded(hospital) == {"outcome": "disabled", "silenced": ["all"]}
        assert hospital.wire.sent == []


async def test_a_portal_user_is_still_told_apart(tmp_path: Path) -> None:
    async with opened(tmp_path, silenced=frozenset({"all"})) as hospital:
        answer = await hospital.call(hook(PATIENT, user="Patient/x"))
    assert decision(answer)["outcome"] == "patient-user"


async def test_data_of_another_patient_are_still_told(tmp_path: Path) -> None:
    """The warning is no protocol's: whoever has to mend the connection needs it whatever is silenced."""
    async with opened(tmp_path, silenced=frozenset({"pilot-simple"})) as hospital:
        sent = await hospital.prefetched(PATIENT)
        sent["patient"]["id"] = "somebody-else"
        answer = await hospital.call(hook(PATIENT, prefetched=sent))
    assert decision(answer)["outcome"] == "identity-mismatch"
    assert len(answer.json()["cards"]) == 1


async def test_scope_first_stops_after_the_first_reads(tmp_path: Path) -> None:
    [tenant] = settings_for(tmp_path / "x").tenants
    tenants = (replace(tenant, gather="scope-first"),)
    async with opened(tmp_path, silenced=frozenset({"pilot-simple"}), tenants=tenants) as hospital:
        answer = await hospital.call(hook(PATIENT))
        types = {path.rpartition("/")[2] for _, path, _ in hospital.wire.sent}
    assert decision(answer)["outcome"] == "disabled"
    assert "Procedure" not in types
    assert "Observation" in types


@pytest.mark.parametrize(
    ("silenced", "said"),
    [
        ({"pilot-simple", "pilot-full"}, "Silenced by the site: pilot-full, pilot-simple."),
        ({"all"}, "Silenced by the site: everything. No card is shown."),
    ],
)
async def test_discovery_says_so(tmp_path: Path, silenced: set[str], said: str) -> None:
    async with opened(tmp_path, silenced=frozenset(silenced)) as hospital:
        services = (await hospital.client.get("/cds-services")).json()["services"]
    assert services[0]["id"] == SERVICE
    assert services[0]["description"].startswith(said)
    for service in services:
        assert "unproven" in service["description"]
        assert ("Silenced" in service["description"]) is (service["id"] == SERVICE or "all" in silenced)


async def test_discovery_says_which_service_is_silenced(tmp_path: Path) -> None:
    async with opened(tmp_path, silenced=frozenset({"order-checks"})) as hospital:
        services = (await hospital.client.get("/cds-services")).json()["services"]
    assert [service["description"].startswith("Silenced by the site: order-checks.") for service in services] == [
        *(False, True, True)
    ]


async def test_discovery_says_nothing_where_nothing_is_silenced(tmp_path: Path) -> None:
    async with opened(tmp_path) as hospital:
        services = (await hospital.client.get("/cds-services")).json()["services"]
    assert not any("Silenced" in service["description"] for service in services)
