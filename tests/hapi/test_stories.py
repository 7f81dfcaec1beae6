"""Every demo patient on a real server: the cards of the sandbox, read from FHIR, from prefetch, and from a mixture."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from app.sandbox import patients
from app.sandbox.patients import Story
from app.settings import dev
from tests.hapi import ward
from tests.hapi.hapi import Server
from tests.hapi.ward import Ward
from tests.integration import hospital
from tests.integration.hospital import decision, same_words

pytestmark = [pytest.mark.hapi, pytest.mark.asyncio(loop_scope="module")]

MIXED = ("demo-full-protocol", "demo-kilopascal", "demo-neutropenia")
"""The expensive matrix: every prefetch key dropped in turn. The second writes its medications as references."""

STORIES = pytest.mark.parametrize("story", patients.STORIES, ids=lambda story: story.patient_id)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def bedside(loaded: Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ward]:
    async with ward.opened(loaded, tmp_path_factory.mktemp("ward")) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is answered to the same patients at the same moment in front of the embedded sandbox."""
    async with hospital.opened(tmp_path_factory.mktemp("sandbox")) as sandbox:
        answers = {s.patient_id: await sandbox.call(hospital.hook(s.patient_id)) for s in patients.STORIES}
    return {patient_id: comparable(same_words(answer)) for patient_id, answer in answers.items()}


def comparable(cards: list[dict[str, Any]]) -> Any:
    """Cards without the server's own addresses and versions."""
    text = json.dumps(cards)
    return json.loads(re.sub(r"http://127\.0\.0\.1:\d+/fhir/", "", text))


def suggested(cards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every resource that the cards offer."""
    suggestions = [suggestion for card in cards for suggestion in card.get("suggestions", ())]
    return [action["resource"] for suggestion in suggestions for action in suggestion["actions"]]


@STORIES
async def test_read_from_the_server(story: Story, bedside: Ward, expected: dict[str, Any]) -> None:
    answer = await bedside.call(story.patient_id)
    assert answer.status_code == 200
    assert decision(answer)["outcome"] == story.expect["outcome"]
    assert comparable(same_words(answer)) == expected[story.patient_id]
    assert bedside.reading(answer)["asked_without"] == {}, "HAPI declares every parameter that we send"
    for resource in suggested(answer.json()["cards"]):
        checked = await bedside.fhir.post(f"{bedside.base}/{resource['resourceType']}/$validate", json=resource)
        assert {issue["severity"] for issue in checked.json()["issue"]} <= {"information", "warning"}


@STORIES
async def test_sent_as_prefetch(story: Story, bedside: Ward, expected: dict[str, Any]) -> None:
    sent = await bedside.prefetched(story.patient_id)
    answer = await bedside.call(story.patient_id, prefetched=sent)
    assert decision(answer)["outcome"] == story.expect["outcome"]
    assert comparable(same_words(answer)) == expected[story.patient_id]
    refers = "medicationReference" in json.dumps(sent)
    if not story.faults:  # what failed for the client is asked for again, and refused again
        older = 1 if story.expect["outcome"] == "follow-up" else 0  # results of before the first dose, in no template
        assert bedside.reading(answer)["requests"] == older or refers


@pytest.mark.parametrize("patient_id", MIXED)
async def test_a_missing_key_is_read_and_changes_nothing(
    patient_id: str, bedside: Ward, expected: dict[str, Any]
) -> None:
    whole = await bedside.prefetched(patient_id)
    assert ("medicationReference" in json.dumps(whole)) is (patient_id == MIXED[1])
    for key in whole:
        answer = await bedside.call(patient_id, prefetched={k: v for k, v in whole.items() if k != key})
        assert comparable(same_words(answer)) == expected[patient_id], key
        assert bedside.reading(answer)["requests"] > 0, key


async def test_scope_first_gives_the_same_cards(
    loaded: Server, tmp_path_factory: pytest.TempPathFactory, expected: dict[str, Any]
) -> None:
    (tenant,) = dev(fhir_urls=[loaded.base]).tenants
    tenants = (replace(tenant, gather="scope-first"),)
    async with ward.opened(loaded, tmp_path_factory.mktemp("scope"), tenants=tenants) as bedside:
        for patient_id in ("demo-crp-100", "demo-ward", *MIXED):
            answer = await bedside.call(patient_id)
            assert comparable(same_words(answer)) == expected[patient_id], patient_id
        silent = await bedside.call("demo-crp-100")
        assert (decision(silent)["outcome"], bedside.reading(silent)["requests"]) == ("not-met", 8)
