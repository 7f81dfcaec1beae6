"""The same request again: one decision, the same bytes. Another request under the same hookInstance: a flagged one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from app.clinical.table import EVERYTHING
from tests.integration.hospital import NOW, Hospital, hook, opened
from tests.unit.app.store.test_writer import Broken, until

PATIENT = "demo-full-protocol"
MINUTES = timedelta(minutes=10)


@pytest.fixture
async def hospital(tmp_path: Path) -> AsyncIterator[Hospital]:
    async with opened(tmp_path) as found:
        yield found


def flags(hospital: Hospital) -> list[list[str]]:
    return [json.loads(row["flags"]) for row in hospital.rows()]


async def test_a_repeat_gets_the_same_bytes_and_reads_nothing(hospital: Hospital) -> None:
    body = hook(PATIENT)
    first = await hospital.call(body)
    asked = len(hospital.wire.sent)
    again = await hospital.call(body)
    assert again.content == first.content
    assert again.status_code == first.status_code
    assert json.loads(first.content)["cards"]
    assert len(hospital.wire.sent) == asked
    assert len(hospital.rows()) == 1


async def test_a_new_token_is_the_same_request(hospital: Hospital) -> None:
    body = hook(PATIENT)
    first = await hospital.call(body)
    again = await hospital.call({**body, "fhirAuthorization": {**body["fhirAuthorization"], "access_token": "another"}})
    assert again.content == first.content
    assert len(hospital.rows()) == 1


async def test_after_ten_minutes_it_is_a_new_decision_on_new_data(hospital: Hospital) -> None:
    body = hook(PATIENT)
    first = await hospital.call(body)
    service = hospital.app.state.service
    service.clock = lambda: NOW + MINUTES - timedelta(seconds=1)
    assert (await hospital.call(body)).content == first.content
    service.clock = lambda: NOW + MINUTES + timedelta(seconds=1)
    later = await hospital.call(body)
    assert later.content != first.content
    assert [*flags(hospital)] == [[], []]


@pytest.mark.parametrize("rounds", [10])
async def test_ten_at_once_are_one_decision(hospital: Hospital, rounds: int) -> None:
    for _ in range(rounds):
        body = hook(PATIENT)
        answers = await asyncio.gather(*(hospital.call(body) for _ in range(10)))
        assert len({answer.content for answer in answers}) == 1
        assert {answer.status_code for answer in answers} == {200}
    assert len(hospital.rows()) == rounds


async def test_another_question_under_the_same_hook_instance_is_flagged(hospital: Hospital) -> None:
    body = hook(PATIENT)
    first = await hospital.call(body)
    other = await hospital.call({**hook("demo-crp-100"), "hookInstance": body["hookInstance"]})
    assert other.content != first.content
    assert sorted(flags(hospital)) == [[], ["hook-instance-reused"]]


async def test_where_it_cannot_be_looked_up_nobody_says_that_it_is_new(hospital: Hospital) -> None:
    switch = Broken(hospital.store)
    switch.off = True
    for _ in range(2):  # when it goes away, and while it is down
        assert (await hospital.call(hook(PATIENT))).status_code == 200
    switch.off = False
    await until(lambda: hospital.store.now().entries == 0)
    assert flags(hospital) == [["hook-instance-not-compared", "spooled"]] * 2
    await hospital.call(hook(PATIENT))
    assert min(flags(hospital)) == []


async def test_what_was_not_evaluated_is_tried_again(hospital: Hospital) -> None:
    body = hook(PATIENT, fhir=None)
    first, again = [await hospital.call(body) for _ in range(2)]
    assert first.status_code == again.status_code == 412
    assert first.content != again.content
    assert len(hospital.rows()) == 2


async def test_an_operator_who_silences_the_service_silences_repeats(tmp_path: Path) -> None:
    body = hook(PATIENT)
    async with opened(tmp_path) as hospital:
        assert (await hospital.call(body)).json()["cards"]
    async with opened(tmp_path, silenced=frozenset({EVERYTHING})) as hospital:
        assert (await hospital.call(body)).json()["cards"] == []
    async with opened(tmp_path) as hospital:
        assert (await hospital.call(body)).json()["cards"], "a restart forgets nothing"
        assert len(hospital.rows()) == 2


async def test_a_fault_is_no_answer_that_is_given_again(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    body = hook(PATIENT)
    with monkeypatch.context() as broken:
        broken.setattr(hospital.store, "record", lambda _: 1 / 0)
        assert {(await hospital.call(body)).status_code for _ in range(2)} == {500}
    assert (await hospital.call(body)).status_code == 200


async def test_it_is_counted(hospital: Hospital) -> None:
    body = hook(PATIENT)
    for _ in range(3):
        await hospital.call(body)
    async with hospital.operators() as operators:
        assert "rescue_cds_replayed_total 2.0" in (await operators.get("/metrics")).text
