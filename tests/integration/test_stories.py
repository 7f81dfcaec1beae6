"""Every demo patient, read from the FHIR server, from prefetch, and from a mixture of both: the same answer."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from app.sandbox import patients
from app.sandbox.patients import Story
from tests.integration.hospital import Hospital, decision, hook, opened, same_words

LEFT_TO_READ = {"Medication", "MedicationAdministration"}
"""Where a hospital's medications are references, they and the drugs asked for by code have to be read; of a treated
patient also the values since before the first dose, for which there is no template."""
MIXED = ("demo-full-protocol", "demo-us-units", "demo-neutropenia")
STORIES = pytest.mark.parametrize("story", patients.STORIES, ids=lambda story: story.patient_id)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def hospital(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hospital]:
    folder: Path = tmp_path_factory.mktemp("hospital")
    async with opened(folder) as found:
        yield found


def check(story: Story, answer: Any, hospital: Hospital, *, drugs_readable: bool = True) -> None:
    assert answer.status_code == 200
    said = decision(answer)
    assert said["outcome"] == story.expect["outcome"]
    row = next(row for row in hospital.rows() if row["id"] == said["id"])
    verdicts = json.loads(row["verdicts"])
    assert {name: verdicts[name]["verdict"] for name in ("pilot-simple", "pilot-full")} == {
        name: story.expect[name] for name in ("pilot-simple", "pilot-full")
    }
    suggestions = [s for card in answer.json()["cards"] for s in card.get("suggestions", [])]
    assert len(suggestions) == (2 if story.expect["suggestions"] == "yes" and drugs_readable else 0)
    assert bool(answer.json()["cards"]) == (story.expect["outcome"] in {"card", "follow-up"})


@pytest.mark.asyncio(loop_scope="module")
@STORIES
async def test_read_from_the_server(story: Story, hospital: Hospital) -> None:
    check(story, await hospital.call(hook(story.patient_id)), hospital)


@pytest.mark.asyncio(loop_scope="module")
@STORIES
@pytest.mark.no_cover
async def test_sent_as_prefetch(story: Story, hospital: Hospital) -> None:
    """Templates cannot ask for the Medication resources that orders refer to; all else comes from the call alone."""
    sent = await hospital.prefetched(story.patient_id)
    before = len(hospital.wire.sent)
    alone = await hospital.call(hook(story.patient_id, fhir=None, prefetched=sent))
    check(story, alone, hospital, drugs_readable="medicationReference" not in json.dumps(sent))
    assert len(hospital.wire.sent) == before
    if not story.faults:  # what failed for the client is read again, and refused again, in other words
        answer = await hospital.call(hook(story.patient_id, prefetched=sent))
        check(story, answer, hospital)
        left = LEFT_TO_READ | ({"Observation"} if story.expect["outcome"] == "follow-up" else set())
        assert {path.rpartition("/")[2] for _, path, _ in hospital.wire.sent[before:]} <= left
        assert same_words(answer) == same_words(await hospital.call(hook(story.patient_id)))


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("patient_id", MIXED)
@pytest.mark.no_cover
async def test_a_missing_key_is_read_and_changes_nothing(patient_id: str, hospital: Hospital) -> None:
    whole = await hospital.prefetched(patient_id)
    expected = same_words(await hospital.call(hook(patient_id)))
    for key in whole:
        for sent in ({k: v for k, v in whole.items() if k != key}, {**whole, key: None}):
            before = len(hospital.wire.sent)
            answer = await hospital.call(hook(patient_id, prefetched=sent))
            assert same_words(answer) == expected, key
            assert len(hospital.wire.sent) > before, key


@pytest.mark.asyncio(loop_scope="module")
@STORIES
@pytest.mark.no_cover
async def test_no_answer_holds_a_name(story: Story, hospital: Hospital) -> None:
    text = (await hospital.call(hook(story.patient_id))).text
    for word in story.name.replace(",", " ").split():
        assert not re.search(rf"\b{word}\b", text, re.IGNORECASE)
    kept = hospital.bytes_on_disk().lower()
    assert story.name.partition(",")[0].lower().encode() not in kept


async def test_there_are_enough_stories() -> None:
    assert len(patients.STORIES) >= 10
    assert {story.expect["outcome"] for story in patients.STORIES} >= {"card", "not-met", "out-of-scope", "deceased"}
