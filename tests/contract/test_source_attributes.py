"""The source attributes: served to anybody, in the two forms, at the address that every card names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app import attributes
from app.knowledge import load
from app.sandbox import patients
from tests.contract import cds_hooks_oracle as oracle
from tests.integration.hospital import PATH, Hospital, decision, hook, opened

HERE = "/source-attributes"
ORIGIN = "http://localhost:3000"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.fixture
async def hospital(tmp_path: Path) -> AsyncIterator[Hospital]:
    async with opened(tmp_path) as found:
        yield found


def sources(answer: Any) -> list[dict[str, Any]]:
    return [card["source"] for card in answer.json()["cards"]]


@pytest.mark.parametrize("accept", ["application/json", "*/*", "text/html, application/json"])
async def test_json_unless_text_is_asked_for(hospital: Hospital, accept: str) -> None:
    answer = await hospital.client.get(HERE, headers={"accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.headers["vary"].lower().startswith("accept")
    assert answer.json() == load().attributes


@pytest.mark.parametrize("accept", ["text/plain", BROWSER])
async def test_a_reader_gets_text(hospital: Hospital, accept: str) -> None:
    answer = await hospital.client.get(HERE, headers={"accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert answer.text == attributes.text(load().attributes)
    assert answer.text == (await hospital.client.get(f"{HERE}.txt")).text


@pytest.mark.parametrize("path", [HERE, f"{HERE}/", f"{HERE}.txt"])
async def test_get_and_head(hospital: Hospital, path: str) -> None:
    got = await hospital.client.get(path)
    head = await hospital.client.head(path)
    assert (got.status_code, head.status_code, head.content) == (200, 200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", [HERE, f"{HERE}.txt"])
async def test_other_methods_are_405(hospital: Hospital, method: str, path: str) -> None:
    answer = await hospital.client.request(method, path, headers={"origin": ORIGIN})
    assert answer.status_code == 405
    assert answer.headers["allow"]
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert oracle.outcome(answer.content) == []


@pytest.mark.parametrize("path", [f"{HERE}/canary", f"{HERE}.txt/canary", f"{HERE}.xml"])
async def test_nothing_lies_beside_it(hospital: Hospital, path: str) -> None:
    answer = await hospital.client.get(path)
    assert answer.status_code == 404
    assert "canary" not in answer.text
    assert oracle.outcome(answer.content) == []


async def test_a_page_of_this_machine_may_read_it(hospital: Hospital) -> None:
    answer = await hospital.client.get(HERE, headers={"origin": ORIGIN})
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert (
        "access-control-allow-origin"
        not in (await hospital.client.get(HERE, headers={"origin": "https://evil.example.org"})).headers
    )


@pytest.mark.no_cover
async def test_every_card_names_an_address_that_answers(hospital: Hospital) -> None:
    seen = 0
    for story in patients.STORIES:
        for source in sources(await hospital.call(hook(story.patient_id))):
            assert source["url"] == f"http://127.0.0.1:8000{HERE}"
            seen += 1
    assert seen > len(patients.STORIES) / 2
    assert (await hospital.client.get(source["url"])).json() == load().attributes


async def test_the_card_about_another_patient_names_it_too(hospital: Hospital) -> None:
    sent = await hospital.prefetched("demo-full-protocol")
    sent["patient"]["id"] = "somebody-else"
    answer = await hospital.call(hook("demo-full-protocol", prefetched=sent))
    assert decision(answer)["outcome"] == "identity-mismatch"
    assert [source["url"] for source in sources(answer)] == [f"http://127.0.0.1:8000{HERE}"]


async def test_behind_a_proxy_the_public_address_is_named(tmp_path: Path) -> None:
    async with opened(tmp_path, profile="site", public_url="https://cds.example.org/rescue") as hospital:
        [source] = sources(await hospital.client.post(PATH, json=hook("demo-full-protocol")))
    assert source["url"] == f"https://cds.example.org/rescue{HERE}"


async def test_where_no_public_address_is_configured_no_wrong_one_is_named(tmp_path: Path) -> None:
    async with opened(tmp_path, profile="site") as hospital:
        [source] = sources(await hospital.client.post(PATH, json=hook("demo-full-protocol")))
    assert "url" not in source
    assert source["label"]
