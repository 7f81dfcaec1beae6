"""What operators see of a running service, and that clients do not see it."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app.observe import traces
from app.sandbox.patients import Fault
from app.store.errors import NotRecorded
from tests.integration.hospital import SERVICE, TOKEN, USER, Hospital, hook, opened

PATIENT = "demo-full-protocol"
PATHS = ("/", "/livez", "/readyz", "/startupz", "/metrics", "/stats", "/openapi.json", "/openapi.yaml")


@pytest.fixture
async def hospital(tmp_path: Path) -> AsyncIterator[Hospital]:
    async with opened(tmp_path) as found:
        yield found


def figure(text: str, name: str, **labels: str) -> float:
    """The value of one series."""
    for line in text.splitlines():
        match = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
        if match and match[1] == name:
            found = dict(re.findall(r'(\w+)="([^"]*)"', match[2] or ""))
            if labels.items() <= found.items():
                return float(match[3])
    raise AssertionError(f"{name} {labels}")


async def metrics(hospital: Hospital) -> str:
    async with hospital.operators() as operators:
        return (await operators.get("/metrics")).text


async def test_every_page_of_operators_is_there_and_nowhere_else(hospital: Hospital) -> None:
    async with hospital.operators() as operators:
        for path in PATHS:
            assert (await operators.get(path)).status_code == 200, path
            assert (await hospital.client.get(path)).status_code == 404, path
        assert (await operators.get("/cds-services")).status_code == 404
        assert (await operators.post(f"/cds-services/{SERVICE}", json={})).status_code == 404


async def test_a_page_that_has_its_own_name_lead_here_gets_nothing(hospital: Hospital) -> None:
    async with hospital.operators() as operators:
        for path in PATHS:
            answer = await operators.get(path, headers={"host": "evil.example.org:8001"})
            assert (answer.status_code, b"rescue" in answer.content) == (400, False)
        assert (await operators.get("/livez", headers={"host": "localhost:8001"})).status_code == 200


async def test_what_happened_is_counted_by_what_is_configured(hospital: Hospital) -> None:
    await hospital.call(hook(PATIENT))
    await hospital.call(b"{")
    await hospital.call(hook(PATIENT, fhir=None))
    text = await metrics(hospital)
    answers = "rescue_cds_answers_total"
    assert figure(text, answers, service=SERVICE, client="anonymous", outcome="card", status="200") == 1
    assert figure(text, answers, service=SERVICE, outcome="none", status="400") == 1
    assert figure(text, answers, service=SERVICE, outcome="not-evaluated", status="412") == 1
    assert figure(text, "rescue_cds_record_seconds_count") == 2
    assert figure(text, "rescue_cds_fhir_reads_total", tenant="dev", outcome="ok") >= 3
    assert figure(text, "rescue_cds_hooks_in_flight") == 0
    for canary in (PATIENT, TOKEN, USER):
        assert canary not in text


async def test_a_source_that_fails_and_its_reason_are_counted(tmp_path: Path) -> None:
    async with opened(tmp_path, faults={PATIENT: {"MedicationRequest": Fault(status=403)}}) as hospital:
        await hospital.call(hook(PATIENT))
        text = await metrics(hospital)
    assert figure(text, "rescue_cds_fhir_reads_total", tenant="dev", outcome="failed", why="refused") == 2


async def test_series_do_not_grow_with_what_is_asked(hospital: Hospital) -> None:
    await hospital.call(hook(PATIENT))
    await hospital.client.post("/cds-services/none", content=b"{}")
    before = len((await metrics(hospital)).splitlines())
    for number in range(30):
        await hospital.call(hook(f"nobody-{number}", user=f"Practitioner/{number}"))
        await hospital.client.post(f"/cds-services/none-{number}", content=b"{}")
    after = (await metrics(hospital)).splitlines()
    assert len([line for line in after if "nobody" in line or "none-" in line]) == 0
    assert len(after) - before <= 10, "other outcomes may have come, other patients and services not"


@pytest.mark.sqlite
async def test_a_record_that_cannot_be_kept_is_not_ready_and_counted(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise NotRecorded("canary")

    monkeypatch.setattr(hospital.store, "record", refuse)
    assert (await hospital.call(hook(PATIENT))).status_code == 503
    assert figure(await metrics(hospital), "rescue_cds_not_recorded_total") == 1
    async with hospital.operators() as operators:
        assert (await operators.get("/readyz")).json()["status"] == "ok"
        with closing(sqlite3.connect(hospital.database)) as other:
            other.execute("begin exclusive")
            answer = await operators.get("/readyz")
            assert (answer.status_code, answer.json()["status"]) == (200, "degraded"), "the spool takes it"
            assert answer.json()["checks"] | {"database": False, "record": True} == answer.json()["checks"]
        await until_up(operators)


async def until_up(operators: httpx.AsyncClient) -> None:
    async with asyncio.timeout(20):
        while (await operators.get("/readyz")).json()["status"] != "ok":  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_spans_say_what_was_read_and_not_whose(tmp_path: Path) -> None:
    exporter = InMemorySpanExporter()
    made = traces.start("", service_version="1", configured=["anonymous", "dev"], exporter=exporter)
    async with opened(tmp_path, traces_to=made) as hospital:
        answer = await hospital.call(hook(PATIENT))
        made.flush()
        spans = exporter.get_finished_spans()
        await hospital.call(hook(PATIENT, fhir=None))
    (whole,) = [span for span in spans if span.name == "hook"]
    assert dict(whole.attributes or {}) == {
        "rescue_cds.service": SERVICE,
        "rescue_cds.hook": "patient-view",
        "rescue_cds.client": "anonymous",
        "rescue_cds.tenant": "dev",
        "rescue_cds.outcome": "card",
        "rescue_cds.status": 200,
        "rescue_cds.cards": len(answer.json()["cards"]),
        "rescue_cds.gaps": 0,
    }
    reads = [span for span in spans if span.name == "fhir read"]
    assert len(reads) > 10
    assert whole.context is not None
    assert {span.parent.span_id for span in reads if span.parent} == {whole.context.span_id}
    text = " ".join(span.to_json() for span in spans)
    for canary in (PATIENT, TOKEN, "canary-user", "127.0.0.1", "http"):
        assert canary not in text, canary
