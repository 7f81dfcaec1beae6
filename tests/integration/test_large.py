"""A patient with 20,000 Observations: bounded pages, bytes and memory, and an honest answer."""

from __future__ import annotations

import json
import tracemalloc
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.hospital import FHIR, NOW, decision, hook, opened

PATIENT = "demo-full-protocol"
RESULTS = 20_000
PAGE = 250
MOST_MEMORY = 200 * 1024 * 1024
"""All six searches of Observations at their limit of pages hold 30,000 results of half a kilobyte."""


def result(number: int) -> dict[str, Any]:
    """One of the results, newest first, three a minute; CRP and ferritin in turn, and much else."""
    code = ("1988-5", "2276-4", "2951-2", "2345-7")[number % 4]
    unit = "ug/L" if code == "2276-4" else "mg/L"
    return {
        "resourceType": "Observation",
        "id": f"r{number}",
        "status": "final",
        "note": [{"text": "x" * 200}],
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": {"reference": f"Patient/{PATIENT}"},
        "effectiveDateTime": (NOW - timedelta(seconds=20 * number)).isoformat(),
        "valueQuantity": {
            "value": (2000 if code == "2276-4" else 200) + number % 7,
            "unit": unit,
            "system": "http://unitsofmeasure.org",
            "code": unit,
        },
    }


class Endless:
    """A server that pages through 20,000 results for every search of Observations, whatever it asks for."""

    def __init__(self) -> None:
        self.pages = 0
        self.bodies: dict[int, bytes] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response | None:
        if "/Observation" not in request.url.path and "page" not in request.url.params:
            return None
        first = int(request.url.params.get("page", 0)) * PAGE
        self.pages += 1
        if first not in self.bodies:
            self.bodies[first] = self._page(first)
        return httpx.Response(200, content=self.bodies[first])

    def _page(self, first: int) -> bytes:
        entry = [{"resource": result(n), "search": {"mode": "match"}} for n in range(first, first + PAGE)]
        more = first + PAGE < RESULTS
        link = [{"relation": "next", "url": f"{FHIR}?page={first // PAGE + 1}"}] if more else []
        bundle = {"resourceType": "Bundle", "type": "searchset", "total": RESULTS, "link": link, "entry": entry}
        return json.dumps(bundle).encode()


@pytest.mark.no_cover
async def test_20_000_results_are_bounded_and_the_answer_says_so(tmp_path: Path) -> None:
    server = Endless()
    async with opened(tmp_path, answers=server, deadline_seconds=30.0) as hospital:
        tracemalloc.start()
        try:
            answer = await hospital.call(hook(PATIENT))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert answer.status_code == 200
    assert server.pages <= 7 * 20, "twenty pages a search"
    assert peak < MOST_MEMORY
    said = decision(answer)
    gaps = {(gap["need"], gap["why"]) for gap in said["gaps"] if gap["source"] == "Observation"}
    searches = ("labs", "virology", "respiratory", "vitals", "ecmo", "microbiology", "screening")
    assert gaps == {(search, "more pages than are read") for search in searches}
    assert all(not card.get("suggestions") for card in answer.json()["cards"])


@pytest.mark.no_cover
async def test_bytes_of_a_hook_end_before_memory_does(tmp_path: Path) -> None:
    """Answers of 4 MB a page: sixteen MiB a source, sixty-four a hook."""
    sent = 0

    def heavy(request: httpx.Request) -> httpx.Response | None:
        nonlocal sent
        if "/Observation" not in request.url.path and "page" not in request.url.params:
            return None
        page = int(request.url.params.get("page", 0))
        filler = {**result(page), "note": [{"text": "x" * 4_000_000}]}
        entry = [{"resource": filler, "search": {"mode": "match"}}]
        link = [{"relation": "next", "url": f"{FHIR}?page={page + 1}"}]
        body = json.dumps({"resourceType": "Bundle", "type": "searchset", "link": link, "entry": entry}).encode()
        sent += len(body)
        return httpx.Response(200, content=body)

    async with opened(tmp_path, answers=heavy, deadline_seconds=30.0) as hospital:
        answer = await hospital.call(hook(PATIENT))
    assert sent < 100 * 1024 * 1024
    searches = {gap["need"] for gap in decision(answer)["gaps"] if gap["why"] == "answer too large"}
    assert searches >= {"labs", "virology", "respiratory", "ecmo", "microbiology", "screening"}
