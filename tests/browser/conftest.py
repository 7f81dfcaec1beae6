"""A headless Chromium (tests/chromium.py) and a demo site with a CDS service of the test's own.

One browser for the whole run, one tab a test. The CDS service answers what the test puts into `Demo.answer`, and keeps
every request it was sent.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from app.sandbox.fhir import create_fhir
from app.sandbox.site import create_site
from tests import chromium
from tests.chromium import Tab

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The debugging address of a running Chromium."""
    if chromium.CHROMIUM is None:
        pytest.skip("chromium is not on PATH (Debian package: chromium)")
    with chromium.running(tmp_path_factory.mktemp("chromium")) as address:
        yield address


@pytest.fixture
def tab(browser: str) -> Iterator[Tab]:
    with chromium.tab(browser) as made:
        yield made
        made.run("1")
        assert made.errors == [], "the page's own scripts failed"


@dataclass(slots=True)
class Demo:
    """The site under test: set `answer` (or `status`, `body`, `services`: the status of discovery), read `requests`.

    `hooks` are those that discovery offers; `refused` gives one hook, or "feedback", a status of its own. `feedback`
    keeps what came there: the service's id and the body.
    """

    url: str
    answer: Callable[[dict[str, Any]], dict[str, Any]] = lambda _request: {"cards": []}
    services: int = 200
    status: int = 200
    body: bytes | None = None
    delay: Callable[[dict[str, Any]], float] = lambda _request: 0
    hooks: tuple[str, ...] = ("patient-view", "order-select", "order-sign")
    refused: dict[str, int] = field(default_factory=dict)
    requests: list[dict[str, Any]] = field(default_factory=list)
    feedback: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    slow_feedback: float = 0

    def asked(self, hook: str) -> list[dict[str, Any]]:
        """The requests of one hook, in their order."""
        return [sent for sent in self.requests if sent["hook"] == hook]


@dataclass(frozen=True, slots=True)
class StoryOfOne:
    patient_id: str
    name: str
    title: str
    line: str


@dataclass(frozen=True, slots=True)
class Refusal:
    status: int = 403
    delay: float = 0


def resources() -> list[dict[str, Any]]:
    """Two patients: one with a few results and a stay in bed, one whose medication search is refused."""
    subject = {"reference": "Patient/ada"}

    def result(id_: str, text: str, code: str, value: str, unit: str, hour: int) -> dict[str, Any]:
        return {
            "resourceType": "Observation",
            "id": id_,
            "status": "final",
            "subject": subject,
            "code": {"text": text, "coding": [{"system": "http://loinc.org", "code": code}]},
            "effectiveDateTime": f"2026-03-01T{hour:02}:00:00Z",
            "valueQuantity": {"value": float(value), "unit": unit},
        }

    return [
        {
            "resourceType": "Patient",
            "id": "ada",
            "identifier": [{"value": "MRN-001"}],
            "name": [{"family": "Archer", "given": ["Ada"]}],
            "gender": "female",
            "birthDate": "1961-05-02",
        },
        {
            "resourceType": "Patient",
            "id": "bob",
            "name": [{"family": "<b>Bold</b>", "given": ["Bob"]}],
            "gender": "male",
            "birthDate": "1970",
        },
        {
            "resourceType": "Encounter",
            "id": "stay-ada",
            "status": "in-progress",
            "class": {"code": "IMP"},
            "subject": subject,
            "location": [{"location": {"display": "ICU 1, bed 4"}}],
        },
        result("crp-1", "C-reactive protein", "1988-5", "120", "mg/L", 2),
        result("crp-2", "C-reactive protein", "1988-5", "262", "mg/L", 8),
        result("ferritin-1", "Ferritin", "2276-4", "2100", "ug/L", 7),
    ]


@pytest.fixture
def demo() -> Iterator[Demo]:
    """The site with the sandbox and a CDS service at /cds, on a free port of the loopback interface."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        held.listen()
        made = Demo(url)
        server = uvicorn.Server(uvicorn.Config(_application(made), ws="none", log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [held]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.02)
        yield made
        server.should_exit = True
        thread.join(timeout=20)


def _application(demo: Demo) -> Starlette:
    ids = {"patient-view": "one", "order-select": "select", "order-sign": "sign"}

    async def services(_request: Request) -> Response:
        template = {
            "patient": "Patient/{{context.patientId}}",
            "results": "Observation?patient={{context.patientId}}&_sort=-date&_count=100",
            "orders": "MedicationRequest?patient={{context.patientId}}",
            "unresolved": "Encounter/{{context.encounterId}}",
        }
        offered = [
            {"id": ids[hook], "hook": hook, "title": f"Test {hook}", "description": "d", "prefetch": template}
            for hook in demo.hooks
        ]
        return JSONResponse({"services": offered} if demo.services == 200 else {}, demo.services)

    async def invoke(request: Request) -> Response:
        sent = await request.json()
        assert request.path_params["id"] == ids[sent["hook"]]
        demo.requests.append(sent)
        answer = demo.answer(sent)
        await asyncio.sleep(demo.delay(sent))
        status = demo.refused.get(sent["hook"], demo.status)
        if demo.body is not None:
            return Response(demo.body, status, media_type="application/json")
        return JSONResponse(answer if status == 200 else {}, status)

    async def take(request: Request) -> Response:
        demo.feedback.append((request.path_params["id"], await request.json()))
        await asyncio.sleep(demo.slow_feedback)
        return JSONResponse({}, demo.refused.get("feedback", 200))

    fhir = create_fhir(
        resources(),
        base_url=f"{demo.url}/fhir",
        clock=lambda: NOW,
        faults={"bob": {"MedicationRequest": Refusal()}},
    )
    stories = [
        StoryOfOne("ada", "Ada Archer", "Thresholds met", "The four thresholds are met."),
        StoryOfOne("bob", "Bob", "<i>hostile</i> story", "<script>window.hit = 1</script>"),
    ]
    site = create_site(fhir_app=fhir, fhir_url=f"{demo.url}/fhir", cds_url=f"{demo.url}/cds", stories=stories)
    return Starlette(
        routes=[
            Route("/cds/cds-services", services),
            Route("/cds/cds-services/{id}", invoke, methods=["POST"]),
            Route("/cds/cds-services/{id}/feedback", take, methods=["POST"]),
            Mount("/", site),
        ]
    )
