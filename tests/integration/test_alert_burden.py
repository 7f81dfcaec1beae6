"""Snooze and silent mode: what is not shown, what always is, and that all of it is recorded."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.settings import Snooze
from tests.integration.hospital import NOW, SERVICE, Hospital, decision, hook, opened, ordering
from tests.integration.test_orders import MET, TREATED, draft, pair

OPEN = "demo-no-ferritin"
"""Undetermined: a value is missing."""

EVERY = Snooze(kinds=frozenset({"undetermined", "thresholds-met", "safety", "course", "order-select", "order-sign"}))


async def outcome(hospital: Hospital, body: dict[str, Any]) -> str:
    return str(decision(await hospital.post(body))["outcome"])


async def test_off_by_default(tmp_path: Path) -> None:
    async with opened(tmp_path) as hospital:
        assert [await outcome(hospital, hook(OPEN)) for _ in range(2)] == ["card", "card"]
        assert hospital.rows("snoozes") == []


async def test_the_same_state_is_shown_once_to_the_same_user(tmp_path: Path) -> None:
    async with opened(tmp_path, snooze=Snooze()) as hospital:
        assert await outcome(hospital, hook(OPEN)) == "card"
        answer = await hospital.post(hook(OPEN))
        assert (answer.json()["cards"], decision(answer)["outcome"]) == ([], "snoozed")
        assert await outcome(hospital, hook(OPEN, user="Practitioner/another")) == "card"
        assert await outcome(hospital, hook(OPEN, user=None)) == "card"
        assert json.loads(hospital.rows()[1]["verdicts"])["would_be"] == "card"
        assert len(hospital.rows("decision_cards")) == 3


async def test_the_exact_repeat_of_a_request_is_never_snoozed(tmp_path: Path) -> None:
    async with opened(tmp_path, snooze=Snooze()) as hospital:
        body = hook(OPEN)
        assert [await outcome(hospital, body) for _ in range(3)] == ["card"] * 3
        changed = {**body, "context": {**body["context"], "encounterId": "e1"}}
        assert await outcome(hospital, changed) == "snoozed"


async def test_a_new_value_speaks_again(tmp_path: Path) -> None:
    async with opened(tmp_path, snooze=Snooze()) as hospital:
        sent = await hospital.prefetched(OPEN)
        assert await outcome(hospital, hook(OPEN, fhir=None, prefetched=sent)) == "card"
        assert await outcome(hospital, hook(OPEN, fhir=None, prefetched=sent)) == "snoozed"
        for entry in sent["labs"]["entry"]:
            if "1988-5" in json.dumps(entry):
                entry["resource"]["valueQuantity"]["value"] = 199
        assert await outcome(hospital, hook(OPEN, fhir=None, prefetched=sent)) == "card"


async def test_a_source_that_fails_is_another_state(tmp_path: Path) -> None:
    async with opened(tmp_path, snooze=Snooze()) as hospital:
        sent = await hospital.prefetched(OPEN)
        assert await outcome(hospital, hook(OPEN, fhir=None, prefetched=sent)) == "card"
        del sent["microbiology"]
        assert await outcome(hospital, hook(OPEN, fhir=None, prefetched=sent)) == "card"


async def test_only_the_kinds_that_the_site_names(tmp_path: Path) -> None:
    async with opened(tmp_path, snooze=Snooze()) as hospital:
        assert [await outcome(hospital, hook(MET)) for _ in range(2)] == ["card", "card"]
        orders = [ordering(MET, draft("anakinra", mg=600), hook="order-select") for _ in range(2)]
        assert [await outcome(hospital, body) for body in orders] == ["card", "card"]


async def test_an_order_card_where_the_site_names_it_and_another_draft_speaks_again(tmp_path: Path) -> None:
    async with opened(tmp_path, snooze=EVERY) as hospital:
        bodies = [ordering(MET, *pair(mg=mg), hook="order-sign") for mg in (600, 600, 900)]
        assert [await outcome(hospital, body) for body in bodies] == ["card", "snoozed", "card"]


async def test_what_stops_is_always_shown(tmp_path: Path) -> None:
    async with opened(tmp_path, snooze=EVERY) as hospital:
        bodies = [ordering("demo-neutropenia", *pair("demo-neutropenia"), hook="order-sign") for _ in range(2)]
        assert [await outcome(hospital, body) for body in bodies] == ["card", "card"]
        assert [await outcome(hospital, hook("demo-day-16")) for _ in range(2)] == ["follow-up", "follow-up"]


async def test_its_time_passes_and_what_is_over_is_removed(tmp_path: Path) -> None:
    """The state is a draft beside an active order, so it hangs on nothing that grows old within a day."""
    said = []
    for hours in (0, 11, 13):
        async with opened(tmp_path, snooze=EVERY, now=NOW + timedelta(hours=hours)) as hospital:
            sent = await hospital.prefetched(TREATED, service=1)
            one = draft("fluconazole", TREATED, mg=100)
            body = ordering(TREATED, one, hook="order-select", fhir=None, prefetched=sent)
            said.append(await outcome(hospital, body))
            kept = hospital.rows("snoozes")
    assert said == ["card", "snoozed", "card"]
    assert len(kept) == 1


async def test_removing_a_patient_removes_what_was_shown(tmp_path: Path) -> None:
    async with opened(tmp_path, snooze=Snooze()) as hospital:
        await outcome(hospital, hook(OPEN))
        assert len(hospital.rows("snoozes")) == 1
        await hospital.store.remove_patient(OPEN, tenant="dev")
        assert hospital.rows("snoozes") == []


async def test_the_user_is_kept_as_a_digest(tmp_path: Path) -> None:
    async with opened(tmp_path, snooze=Snooze()) as hospital:
        await outcome(hospital, hook(OPEN))
        assert b"canary-user" not in hospital.bytes_on_disk()


# --- silent


async def test_a_silent_site_is_shown_nothing_and_everything_is_recorded(tmp_path: Path) -> None:
    async with opened(tmp_path, silent=frozenset({"all"})) as hospital:
        answer = await hospital.post(hook(MET))
        extension = decision(answer)
        assert answer.json()["cards"] == []
        assert (extension["outcome"], extension["would_be"]) == ("silent", "card")
        quiet = decision(await hospital.post(hook("demo-ward")))
        assert (quiet["outcome"], quiet["would_be"]) == ("silent", "out-of-scope")
        verdicts = json.loads(hospital.rows()[0]["verdicts"])
        assert verdicts["would_show"] == [{"name": "protocol", "indicator": "info"}]
        assert verdicts["pilot-simple"]["verdict"] == "met"
        assert hospital.rows("decision_cards") == []


async def test_in_silent_mode_a_mixed_up_patient_is_recorded_as_such(tmp_path: Path) -> None:
    async with opened(tmp_path, silent=frozenset({"all"})) as hospital:
        sent = await hospital.prefetched(MET)
        answer = await hospital.post(hook("p2", fhir=None, prefetched=sent))
        assert (answer.json()["cards"], decision(answer)["outcome"]) == ([], "identity-mismatch")


@pytest.mark.parametrize(
    ("silent", "patient_id", "expected"),
    [
        ("pilot-simple", MET, ("silent", "card")),
        ("pilot-followup", MET, ("card", None)),
        ("pilot-followup", "demo-day-7", ("silent", "follow-up")),
        ("order-checks", MET, ("card", None)),
        ("pilot-simple", "demo-ward", ("out-of-scope", None)),
        ("pilot-simple", "demo-ruxolitinib-ordered", ("silent", "card")),
    ],
)
async def test_a_silent_protocol(
    tmp_path: Path, silent: str, patient_id: str, expected: tuple[str, str | None]
) -> None:
    async with opened(tmp_path, silent=frozenset({silent})) as hospital:
        extension = decision(await hospital.post(hook(patient_id)))
    assert (extension["outcome"], extension.get("would_be")) == expected


async def test_silent_order_checks(tmp_path: Path) -> None:
    async with opened(tmp_path, silent=frozenset({"order-checks"})) as hospital:
        answer = await hospital.post(ordering(MET, *pair(mg=600), hook="order-sign"))
        assert (answer.json()["cards"], decision(answer)["would_be"]) == ([], "card")
        assert json.loads(hospital.rows()[0]["verdicts"])["orders"]["checks"]["ORD-DOSE-ABOVE"] == "present"


async def test_feedback_on_a_card_of_each_service_finds_its_decision(tmp_path: Path) -> None:
    async with opened(tmp_path) as hospital:
        viewed = await hospital.post(hook(MET))
        signed = await hospital.post(ordering(MET, *pair(mg=600), hook="order-sign"))
        entries = [
            {
                "card": answer.json()["cards"][0]["uuid"],
                "outcome": "overridden",
                "outcomeTimestamp": "2026-11-23T12:01:00Z",
            }
            for answer in (viewed, signed)
        ]
        answer = await hospital.client.post(
            f"/cds-services/{SERVICE}/feedback",
            content=json.dumps({"feedback": entries}).encode(),
            headers={"content-type": "application/json"},
        )
        assert (answer.status_code, answer.content) == (200, b"{}")
        made = {decision(answer)["id"] for answer in (viewed, signed)}
        assert {row["decision_id"] for row in hospital.rows("feedback")} == made
