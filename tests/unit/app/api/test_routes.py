"""Refusals: one shape, and no exception text in it."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from app.api import routes
from app.observe.logs import JsonLines
from app.store.errors import NotRecorded
from cds_hooks.errors import BadRequest, Timeout, TooLarge


async def test_a_refusal_of_the_standard_keeps_its_status() -> None:
    async def refused() -> Any:
        raise BadRequest("context must be a JSON object", code="required")

    answer = await routes.guarded(refused, fault=list)
    assert (answer.status_code, answer.media_type) == (400, "application/json")
    issue = json.loads(bytes(answer.body))["issue"][0]
    assert issue == {"severity": "error", "code": "required", "diagnostics": "context must be a JSON object"}


async def test_what_was_not_recorded_may_be_asked_again() -> None:
    async def unrecorded() -> Any:
        raise NotRecorded("canary")

    answer = await routes.guarded(unrecorded, fault=list)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert b"canary" not in bytes(answer.body)


async def test_only_a_body_that_does_not_come_ends_the_connection() -> None:
    async def large() -> Any:
        raise TooLarge("the body is larger than this service accepts")

    async def slow() -> Any:
        raise Timeout("the body did not arrive in time")

    assert "connection" not in (await routes.guarded(large, fault=list)).headers
    assert (await routes.guarded(slow, fault=list)).headers["connection"] == "close"


@pytest.mark.parametrize("error", [RuntimeError("canary"), KeyError("canary"), RecursionError("canary"), MemoryError()])
async def test_a_fault_is_logged_by_name_and_place_only(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    async def broken() -> Any:
        raise error

    faults: list[None] = []
    answer = await routes.guarded(broken, fault=lambda: faults.append(None))
    assert len(faults) == 1
    body = json.loads(bytes(answer.body))
    assert answer.status_code == 500
    assert b"canary" not in bytes(answer.body)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    line = json.loads(JsonLines().format(record))
    assert line["event"] == "fault"
    assert line["correlation"] == body["id"]
    assert line["kind"] == type(error).__name__
    assert "canary" not in json.dumps(line)
