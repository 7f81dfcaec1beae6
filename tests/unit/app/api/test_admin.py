"""The admin port, alone: what is there, what each says, and nothing that a browser could be made to do with it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from app.api import admin
from app.api.admin import create_admin
from app.observe.metrics import Metrics
from app.settings import Admin
from app.store.errors import BadDatabase

CANARY = "canary"
PATHS = ("/", "/livez", "/readyz", "/startupz", "/metrics", "/openapi.json", "/openapi.yaml", "/stats")
GOOD = {"started": True, "schema": True, "record": True, "accepting": True}
OPENAPI = {"openapi": "3.1.0", "info": {"title": "rescue-cds", "version": "0.1.0"}, "paths": {"/cds-services": {}}}


class Parts:
    """What the admin port is given, to be changed by a test."""

    def __init__(self) -> None:
        self.metrics = Metrics(services=("s",), clients=("c",), tenants=("t",))
        self.checks: Mapping[str, bool] = GOOD
        self.error: Exception | None = None
        self.seconds = 0.0
        self.page = "<!doctype html><title>figures</title>"
        self.slow: asyncio.Event | None = None

    async def ready(self) -> Mapping[str, bool]:
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return self.checks

    async def stats(self) -> str:
        if self.slow is not None:
            await self.slow.wait()
        if self.error is not None:
            raise self.error
        return self.page


@asynccontextmanager
async def asked(parts: Parts) -> AsyncIterator[httpx.AsyncClient]:
    app = create_admin(metrics=parts.metrics, ready=parts.ready, openapi=OPENAPI, stats=parts.stats)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1:8001") as client:
        yield client


@pytest.fixture
def parts() -> Parts:
    return Parts()


@pytest.fixture
async def client(parts: Parts) -> AsyncIterator[httpx.AsyncClient]:
    async with asked(parts) as opened:
        yield opened


async def test_alive_whatever_else_is(parts: Parts, client: httpx.AsyncClient) -> None:
    parts.error = RuntimeError(CANARY)
    answer = await client.get("/livez")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_ready_says_each_check(parts: Parts, client: httpx.AsyncClient) -> None:
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "checks": GOOD})


@pytest.mark.parametrize("name", GOOD)
async def test_one_check_is_enough_to_be_not_ready(parts: Parts, client: httpx.AsyncClient, name: str) -> None:
    parts.checks = {**GOOD, name: False}
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"status": "not-ready", "checks": {**GOOD, name: False}}


async def test_no_check_at_all_is_not_ready(parts: Parts, client: httpx.AsyncClient) -> None:
    parts.checks = {}
    assert (await client.get("/readyz")).status_code == 503


async def test_a_check_that_fails_or_hangs_is_not_ready(
    parts: Parts, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    parts.error = RuntimeError(CANARY)
    failed = await client.get("/readyz")
    parts.error = None
    monkeypatch.setattr(admin, "CHECK_SECONDS", 0.01)
    parts.seconds = 30.0
    hung = await client.get("/readyz")
    for answer in (failed, hung):
        assert (answer.status_code, answer.json()) == (503, {"status": "not-ready", "checks": {}})
        assert CANARY not in answer.text
    ours = [record for record in caplog.records if record.name == "app.api.admin"]
    assert [record.kind for record in ours] == ["RuntimeError", "TimeoutError"]  # type: ignore[attr-defined]
    assert CANARY not in caplog.text


async def test_started_is_one_check(parts: Parts, client: httpx.AsyncClient) -> None:
    parts.checks = {**GOOD, "accepting": False, "record": False}
    assert (await client.get("/startupz")).json() == {"status": "ok"}
    for checks in ({**GOOD, "started": False}, {}):
        parts.checks = checks
        answer = await client.get("/startupz")
        assert (answer.status_code, answer.json()) == (503, {"status": "starting"})


async def test_metrics_are_what_a_scraper_reads(parts: Parts, client: httpx.AsyncClient) -> None:
    parts.metrics.fault()
    answer = await client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = {family.name: family for family in text_string_to_metric_families(answer.text)}
    assert found["rescue_cds_faults"].samples[0].value == 1


async def test_the_interface_in_both_notations(client: httpx.AsyncClient) -> None:
    as_json, as_yaml = await client.get("/openapi.json"), await client.get("/openapi.yaml")
    assert as_json.json() == OPENAPI
    assert yaml.safe_load(as_yaml.text) == OPENAPI
    assert as_json.headers["content-type"] == "application/json"
    assert as_yaml.headers["content-type"] == "application/yaml"


async def test_statistics_are_the_page_that_is_given(parts: Parts, client: httpx.AsyncClient) -> None:
    answer = await client.get("/stats")
    assert (answer.status_code, answer.text) == (200, parts.page)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "style-src 'unsafe-inline'" in answer.headers["content-security-policy"]
    assert "script-src" not in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("error", "status", "word"),
    [
        (BadDatabase(CANARY), 503, "store-unavailable"),
        (RuntimeError(CANARY), 500, "fault"),
        (RecursionError(CANARY), 500, "fault"),
    ],
)
async def test_a_fault_is_a_word(
    parts: Parts, client: httpx.AsyncClient, error: Exception, status: int, word: str
) -> None:
    parts.error = error
    answer = await client.get("/stats")
    assert (answer.status_code, answer.json()) == (status, {"status": word})


async def test_the_index_lists_everything_and_is_whole_in_itself(client: httpx.AsyncClient) -> None:
    answer = await client.get("/")
    assert set(re.findall(r'href="([^"]*)"', answer.text)) == set(PATHS) - {"/"}
    (style,) = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = answer.headers["content-security-policy"]
    assert f"style-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert not re.search(r"<script|https?:|style=|<img|<link|\son\w+=", answer.text)


@pytest.mark.parametrize("path", [*PATHS, "/nothing", "/livez/", "/cds-services", "/docs", "/..%2fetc", "/readyz/x"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
async def test_every_answer_has_the_headers(parts: Parts, client: httpx.AsyncClient, path: str, method: str) -> None:
    sent = {"origin": "https://evil.example", "access-control-request-method": "GET"}
    answer = await client.request(method, path, headers=sent)
    reads, here = method in {"GET", "HEAD"}, path in PATHS
    assert answer.status_code == (404 if not here else 200 if reads else 405)
    for name, value in admin.HEADERS.items():
        assert answer.headers.get_list(name) == [value] or name == "content-security-policy", name
    (policy,) = answer.headers.get_list("content-security-policy")
    assert policy.startswith(admin.HEADERS["content-security-policy"])
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert "set-cookie" not in answer.headers
    if answer.status_code == 405:
        assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}
        assert answer.json() == {"status": "not-supported"}
    if answer.status_code == 404 and method != "HEAD":
        assert answer.json() == {"status": "not-found"}


async def test_faults_have_the_headers_too(parts: Parts, client: httpx.AsyncClient) -> None:
    parts.error = RuntimeError(CANARY)
    for path in ("/stats", "/readyz"):
        answer = await client.get(path)
        assert answer.status_code >= 500
        for name, value in admin.HEADERS.items():
            assert answer.headers[name] == value


async def test_nothing_that_was_sent_comes_back(client: httpx.AsyncClient) -> None:
    for path in PATHS:
        answer = await client.get(
            f"{path}?patient={CANARY}", headers={"x-note": CANARY, "user-agent": CANARY, "cookie": f"a={CANARY}"}
        )
        assert CANARY not in answer.text + json.dumps(dict(answer.headers))
    answer = await client.get(f"/{CANARY}")
    assert CANARY not in answer.text + json.dumps(dict(answer.headers))


async def test_every_json_answer_has_a_status(parts: Parts, client: httpx.AsyncClient) -> None:
    shapes: list[Any] = [(await client.get(path)).json() for path in ("/livez", "/readyz", "/startupz", "/nothing")]
    shapes.append((await client.post("/livez")).json())
    assert all(set(one) <= {"status", "checks"} and re.fullmatch(r"[a-z\-]+", one["status"]) for one in shapes)


async def test_figures_are_counted_for_one_at_a_time(parts: Parts) -> None:
    """Counting takes a thread of those that the service needs for the names of FHIR servers."""
    parts.slow = asyncio.Event()
    async with asked(parts) as client:
        first = asyncio.create_task(client.get("/stats"))
        await asyncio.sleep(0.05)
        assert [(await client.get("/stats")).status_code for _ in range(3)] == [503] * 3
        parts.slow.set()
        assert (await first).status_code == 200
        assert (await client.get("/stats")).status_code == 200


def test_the_container_asks_here_for_its_health() -> None:
    """Where clients call, every answer needs a token."""
    container = (Path(__file__).parents[4] / "Dockerfile").read_text(encoding="utf-8")
    assert f"'http://{Admin().host}:{Admin().port}/readyz'" in container
