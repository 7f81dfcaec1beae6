"""The use case: which outcome an answer names, and what of a request is kept."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import insert

from app import service
from app.patient_view import PatientView
from app.sandbox.patients import Fault
from app.settings import Tenant
from app.store.models import claims
from app.store.writer import REPEAT, Transaction
from fhir_mappings.facts import Overlay
from tests.integration.hospital import FHIR, NOW, Hospital, decision, hook, opened, settings_for

PATIENT = "demo-full-protocol"


@pytest.fixture
async def hospital(tmp_path: Path) -> AsyncIterator[Hospital]:
    async with opened(tmp_path) as found:
        yield found


def course(sent: dict[str, Any]) -> None:
    """Anakinra was given since yesterday, as an administration with an inline code."""
    sent["administrations"]["entry"].append(
        {
            "resource": {
                "resourceType": "MedicationAdministration",
                "id": "first-dose",
                "status": "completed",
                "subject": {"reference": f"Patient/{PATIENT}"},
                "effectiveDateTime": "2026-11-22T10:00:00Z",
                "medicationCodeableConcept": {
                    "coding": [{"system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "72435"}]
                },
            },
            "search": {"mode": "match"},
        }
    )
    sent["administrations"]["total"] += 1


async def test_a_running_course_is_follow_up(hospital: Hospital) -> None:
    sent = await hospital.prefetched(PATIENT)
    course(sent)
    answer = await hospital.call(hook(PATIENT, prefetched=sent))
    assert decision(answer)["outcome"] == "follow-up"
    card = answer.json()["cards"][0]
    assert card["summary"].startswith("On treatment since 2026-11-22 10:00 UTC, Day 2")
    assert "began on 2026-11-22 10:00 UTC" in card["detail"]
    assert all("suggestions" not in card for card in answer.json()["cards"])


async def test_silences_have_names(hospital: Hospital) -> None:
    said = {}
    for patient_id in ("demo-deceased", "demo-adolescent", "demo-crp-100", "demo-ward"):
        answer = await hospital.call(hook(patient_id))
        assert answer.json()["cards"] == []
        said[patient_id] = decision(answer)["outcome"]
    assert list(said.values()) == ["deceased", "not-the-population", "not-met", "out-of-scope"]


async def test_a_type_the_site_does_not_have_is_never_asked_for(tmp_path: Path) -> None:
    overlay = Overlay(absent_source=frozenset({"AllergyIntolerance"}))
    tenant = replace(settings_for(tmp_path / "d.db").tenants[0], overlay=overlay)
    faults = {PATIENT: {"AllergyIntolerance": Fault(status=500)}}
    async with opened(tmp_path, faults=faults, tenants=(tenant,)) as hospital:
        answer = await hospital.call(hook(PATIENT))
        assert not any(path.endswith("/AllergyIntolerance") for _, path, _ in hospital.wire.sent)
    card = answer.json()["cards"][0]
    assert len(card["suggestions"]) == 2
    assert "not available at this site" in card["detail"]


async def test_the_facilitys_zone_is_on_the_card_and_in_the_order(tmp_path: Path) -> None:
    tenant = settings_for(tmp_path / "d.db").tenants[0]
    async with opened(tmp_path, tenants=(Tenant("h", (FHIR,), ZoneInfo("Asia/Tokyo"), tenant.overlay),)) as hospital:
        card = (await hospital.call(hook(PATIENT))).json()["cards"][0]
    assert "2026-11-23 21:00 JST" in card["detail"]
    order = card["suggestions"][0]["actions"][0]["resource"]
    assert order["authoredOn"] == "2026-11-23T21:00:00+09:00"


async def test_the_encounter_goes_into_the_order(hospital: Hospital) -> None:
    body = hook(PATIENT)
    body["context"]["encounterId"] = "Encounter/e1"
    card = (await hospital.call(body)).json()["cards"][0]
    for suggestion in card["suggestions"]:
        assert suggestion["actions"][0]["resource"]["encounter"] == {"reference": "Encounter/e1"}


async def test_a_stricter_site_withholds(tmp_path: Path) -> None:
    async with opened(tmp_path, suggest_on="pilot-full") as hospital:
        for patient_id, expected in ((PATIENT, 2), ("demo-us-units", 0)):
            card = (await hospital.call(hook(patient_id))).json()["cards"][0]
            assert len(card.get("suggestions", [])) == expected
        assert "this site asks for the full pilot inclusion" in card["detail"]


async def test_timing_names_every_source_that_was_read(hospital: Hospital) -> None:
    await hospital.call(hook(PATIENT))
    timing = json.loads(hospital.rows()[0]["timing"])
    assert timing["sources_ms"].keys() >= set(hospital.templates)
    assert timing["total_ms"] > 0
    assert hospital.rows()[0]["created_at"] == NOW.isoformat(timespec="microseconds")


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("d1577c69-dfbe-44ad-ba6d-3e05e953b2ea", True),
        ("a.b_c:d-1", True),
        ("x" * 64, True),
        ("x" * 65, False),
        ("Jane Doe", False),
        ("", True),
    ],
)
def test_a_hook_instance_is_kept_when_it_is_a_token(sent: str, kept: bool) -> None:
    found = service._instance(sent)
    assert (found == sent) is kept
    assert len(found) <= 64


async def test_the_token_is_in_no_representation(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a debugger, a traceback or a log of objects would print of a request on its way."""
    seen: list[str] = []
    original = PatientView.evaluate

    async def watched(self: PatientView, call: Any) -> int:
        status = await original(self, call)
        seen.extend([repr(call), repr(call.request), str(call.caller)])
        return status

    monkeypatch.setattr(PatientView, "evaluate", watched)
    await hospital.call(hook(PATIENT))
    assert seen
    assert not any("canary" in text for text in seen)


async def test_a_hook_says_until_when_its_card_holds(hospital: Hospital) -> None:
    answer = await hospital.call(hook(PATIENT, prefetched=await hospital.prefetched(PATIENT)))
    card = answer.json()["cards"][0]
    entries = {p["id"]: p for p in card["extension"]["org.rescue-cds.evidence"]["protocols"]}

    assert "Holds until" in card["detail"]
    assert {id_ for id_, entry in entries.items() if "changes" in entry} == {"pilot-simple", "pilot-full"}
    assert entries["pilot-simple"]["holds_until"] > NOW.isoformat()[:16]


async def test_nobody_looks_ahead_where_no_card_tells_it(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("app.patient_view.look_ahead")
    answer = await hospital.call(hook("demo-ward", prefetched=await hospital.prefetched("demo-ward")))
    assert decision(answer)["outcome"] == "out-of-scope"


async def test_what_is_not_repeated_any_more_goes_where_nothing_is_snoozed(hospital: Hospital) -> None:
    assert hospital.app.state.service.settings.snooze is None

    async def claimed(transaction: Transaction) -> None:
        old = {"key": "old", "decision_id": "gone", "at": NOW - REPEAT - timedelta(seconds=1)}
        await transaction.connection.execute(insert(claims).values(old))

    await hospital.store._done(claimed)
    await hospital.call(hook(PATIENT))
    assert hospital.store._tidying is not None
    await hospital.store._tidying
    assert [row["key"] == "old" for row in hospital.rows("claims")] == [False]
