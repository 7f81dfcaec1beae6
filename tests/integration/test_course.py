"""A treated patient: the one search more, and what is said when it is not answered."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.hospital import NOW, decision, hook, opened
from tests.unit.app.bundles import bundle, evaluated, resources

PATIENT = "demo-day-7"
LYMPHOCYTES = "731-0"
"""A code that only the search of a course asks for."""


def entry(answer: httpx.Response) -> dict[str, Any]:
    """The follow-up of the first card's extension."""
    found: dict[str, Any] = answer.json()["cards"][0]["extension"]["org.rescue-cds.evidence"]["protocols"][-1]
    return found


def on_a_card(value: Any) -> Any:
    """The same as a card carries it: without what is null or empty."""
    if isinstance(value, dict):
        return {name: on_a_card(item) for name, item in value.items() if item is not None and item != []}
    return [on_a_card(item) for item in value] if isinstance(value, list) else value


def row(answer: httpx.Response, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(r for r in entry(answer)["course"] if r["quantity"] == name)
    return found


def watching(refuse: bool = False) -> tuple[list[tuple[str, str]], Any]:
    """What Observations were asked for; with `refuse` the search of the course fails."""
    seen: list[tuple[str, str]] = []

    def answers(request: httpx.Request) -> httpx.Response | None:
        form = dict(httpx.QueryParams(request.content.decode())) if request.method == "POST" else {}
        params = {**dict(request.url.params), **form}
        if "Observation" in request.url.path:
            seen.append((params.get("code", ""), params.get("date", "")))
            if refuse and LYMPHOCYTES in params.get("code", ""):
                return httpx.Response(403)
        return None

    return seen, answers


async def test_only_a_treated_patient_is_asked_for_so_far_back(tmp_path: Path) -> None:
    seen, answers = watching()
    async with opened(tmp_path, answers=answers) as hospital:
        await hospital.call(hook("demo-full-protocol"))
        assert not [date for codes, date in seen if LYMPHOCYTES in codes]
        await hospital.call(hook(PATIENT))
    (date,) = [date for codes, date in seen if LYMPHOCYTES in codes]
    first = NOW - timedelta(hours=6 * 24 + 3.5)
    assert date == f"ge{(first - timedelta(hours=24)).strftime('%Y-%m-%dT%H:%M:%SZ')}"


@pytest.mark.parametrize("patient_id", ["demo-day-7", "demo-day-16", "demo-day-30"])
async def test_the_hook_says_what_evaluate_says(tmp_path: Path, patient_id: str) -> None:
    async with opened(tmp_path) as hospital:
        answer = await hospital.call(hook(patient_id))
        (kept,) = hospital.rows()
    expected = evaluated(bundle(resources(patient_id)), protocols=("pilot-followup",), now=NOW)
    assert entry(answer) == on_a_card(expected["protocols"][0])
    verdicts = json.loads(kept["verdicts"])["pilot-followup"]
    assert verdicts["treatment_day"] == expected["protocols"][0]["treatment_day"]
    assert verdicts["actions"] == {a["id"]: a["finding"] for a in expected["protocols"][0]["actions"]}
    assert decision(answer)["outcome"] == "follow-up"


async def test_a_failed_search_is_could_not_be_read_never_no_baseline(tmp_path: Path) -> None:
    _, answers = watching(refuse=True)
    async with opened(tmp_path, answers=answers) as hospital:
        answer = await hospital.call(hook(PATIENT))
    assert decision(answer)["outcome"] == "follow-up"
    for name in ("crp", "lymphocytes", "sofa"):
        assert "baseline" not in row(answer, name)
        assert "server refused (403)" in row(answer, name)["reason"]
        assert "no baseline" not in row(answer, name)["reason"]
    assert row(answer, "crp")["value"] == "69"
    assert {"source": "Observation", "why": "refused (403)", "need": "course"} in decision(answer)["gaps"]
    detail = answer.json()["cards"][0]["detail"]
    assert "Results since the day before the first dose" in detail.partition("**Not looked at**")[2]
    unknown = {a["id"] for a in entry(answer)["actions"] if a["finding"] == "unknown"}
    assert unknown == {"FU-CRP-NOT-FALLING"}


async def test_without_a_server_what_was_sent_is_used(tmp_path: Path) -> None:
    async with opened(tmp_path) as hospital:
        sent = await hospital.prefetched(PATIENT)
        answer = await hospital.call(hook(PATIENT, fhir=None, prefetched=sent))
    assert {name: row(answer, "crp")[name] for name in ("baseline", "value")} == {"baseline": "264", "value": "69"}
    assert "no FHIR server was named" in row(answer, "lymphocytes")["reason"]
    assert entry(answer)["treatment_day"] == 7
