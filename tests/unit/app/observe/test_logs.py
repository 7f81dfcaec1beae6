"""Logs: JSON lines, and nothing in them that is not on the list."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from app.observe import logs

CANARY = "patient-canary"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    kept = root.handlers[:], root.level
    changed = {name: logging.getLogger(name) for name in (*logs._SILENCED, "uvicorn", "uvicorn.error")}
    before = {name: (logger.handlers[:], logger.propagate, logger.level) for name, logger in changed.items()}
    for name in ("uvicorn", "uvicorn.error"):  # a server started by another test may have raised it
        changed[name].setLevel(logging.NOTSET)
    stream = io.StringIO()
    logs.configure(level=logging.DEBUG, stream=stream)
    yield stream
    root.handlers[:], root.level = kept
    for name, logger in changed.items():
        logger.handlers[:], logger.propagate, level = before[name]
        logger.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_holds_what_is_on_the_list(stream: io.StringIO) -> None:
    extra = {"decision": "d1", "status": 200, "ms": 12.5, "sources": {"labs": "ok"}, "patient": CANARY, "url": CANARY}
    logging.getLogger("app.service").info("answered", extra=extra)
    (line,) = lines(stream)
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": "app.service",
        "event": "answered",
        "decision": "d1",
        "status": 200,
        "ms": 12.5,
        "sources": {"labs": "ok"},
    }


@pytest.mark.parametrize("message", [f"patient {CANARY} 7", "Answered", "x" * 100, f"GET https://h/{CANARY}", "a\nb"])
def test_an_event_is_words_without_data(stream: io.StringIO, message: str) -> None:
    logging.getLogger("app.service").info(message)
    assert "event" not in lines(stream)[0]


def test_arguments_are_never_filled_in(stream: io.StringIO) -> None:
    logging.getLogger("uvicorn.error").info("Started server process [%d] %s", 7, CANARY)
    assert lines(stream)[0]["event"] == "Started server process [%d] %s"
    assert CANARY not in stream.getvalue()


def test_an_exception_is_a_class_and_places(stream: io.StringIO) -> None:
    try:
        {}[CANARY]
    except KeyError:
        logging.getLogger("app.service").exception("failed", extra={"correlation": "c1"})
    (line,) = lines(stream)
    assert (line["kind"], line["correlation"], line["level"]) == ("KeyError", "c1", "error")
    assert line["at"][-1].startswith("test_logs.py:")
    assert CANARY not in stream.getvalue()


def test_other_libraries_say_where_not_what(stream: io.StringIO) -> None:
    logging.getLogger("somelibrary.part").warning("GET https://h/Patient/%s", CANARY)
    (line,) = lines(stream)
    assert (line["logger"], line["level"]) == ("somelibrary.part", "warning")
    assert "event" not in line
    assert CANARY not in stream.getvalue()


@pytest.mark.parametrize("name", ["httpx", "httpcore.connection", "aiohttp.client", "aiosqlite", "uvicorn.access"])
def test_libraries_that_write_addresses_are_silent(stream: io.StringIO, name: str) -> None:
    logging.getLogger(name).error("GET https://h/Patient/%s", CANARY)
    assert stream.getvalue() == ""


async def test_a_client_of_httpx_leaves_no_address(stream: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200))
    async with httpx.AsyncClient(transport=transport) as client:
        await client.get(f"https://h.example/Patient/{CANARY}")
    shown = capsys.readouterr()
    assert CANARY not in stream.getvalue() + shown.out + shown.err


def test_odd_values_become_short_text(stream: io.StringIO) -> None:
    logging.getLogger("app").info("x", extra={"why": "y" * 500, "sources": [("a", None), {1}], "kind": object})
    line = lines(stream)[0]
    assert line["why"] == "y" * 200
    assert line["sources"] == [["a", None], [1]]


def test_configuring_twice_writes_once(stream: io.StringIO) -> None:
    logs.configure(stream=stream)
    logging.getLogger("app").info("once")
    assert len(lines(stream)) == 1
