"""Logs: JSON lines, and nothing in them that is not on the list."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import io
import json
import logging
import subprocess
import sys
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.applications import Starlette

from app.observe import logs

CANARY = "patient-canary"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What the service writes at its most talkative; loggers and hooks are as before afterwards."""
    manager = logging.Logger.manager
    for name in (*logs._SILENCED, "uvicorn", "uvicorn.error", "somelibrary"):
        logging.getLogger(name)
    known = [logging.getLogger(), *(one for one in manager.loggerDict.values() if isinstance(one, logging.Logger))]
    before = [(one, one.handlers[:], one.level, one.propagate) for one in known]
    hooks = sys.excepthook, sys.unraisablehook, threading.excepthook, warnings.showwarning
    rest = logging.raiseExceptions, logging.lastResort
    for one in known[1:]:
        one.setLevel(logging.NOTSET)  # whatever another test or a library has chosen
    stream = io.StringIO()
    logs.configure(level=logging.DEBUG, stream=stream)
    yield stream
    sys.excepthook, sys.unraisablehook, threading.excepthook, warnings.showwarning = hooks
    logging.raiseExceptions, logging.lastResort = rest
    for one, handlers, level, propagate in before:
        one.handlers[:], one.propagate = handlers, propagate
        one.setLevel(level)


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
    logging.getLogger("uvicorn.error").error("ASGI callable should return None, but returned '%s'.", CANARY)
    assert lines(stream)[0]["event"] == "ASGI callable should return None, but returned '%s'."
    assert CANARY not in stream.getvalue()


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
def test_what_uvicorn_says_when_nothing_is_wrong_is_left_out(stream: io.StringIO, level: int) -> None:
    logging.getLogger("uvicorn.error").log(level, "Started server process [%d]", 1)
    assert stream.getvalue() == ""


def test_an_exception_is_a_class_and_places(stream: io.StringIO) -> None:
    try:
        dict[str, str]()[CANARY]
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


# --- uvicorn: a list of its own texts --------------------------------------------------------------------------------


def test_every_kept_text_is_one_of_uvicorns() -> None:
    package = Path(str(uvicorn.__file__)).parent
    whole = "".join(file.read_text(encoding="utf-8") for file in package.rglob("*.py"))
    for known in logs.UVICORN:
        assert known.replace("\n", "\\n") in whole, known


@pytest.mark.parametrize(
    "message",
    [
        f"GET /Patient/{CANARY}",
        f"Traceback (most recent call last):\n  ...\nKeyError: '{CANARY}'",
        "%s [%d] Started scope=%s",
        "%s [%d] Receive %s",
        '%s - "%s %s HTTP/%s" %d',
        "Error loading ASGI app. %s",
        "Shutting down now",
    ],
)
@pytest.mark.parametrize("name", ["uvicorn", "uvicorn.error", "uvicorn.else"])
def test_other_texts_of_uvicorn_are_left_out(stream: io.StringIO, name: str, message: str) -> None:
    logging.getLogger(name).error(message, *([CANARY] * message.count("%")))
    (line,) = lines(stream)
    assert line.keys() == {"time", "level", "logger"}
    assert CANARY not in stream.getvalue()


def test_an_exception_in_place_of_a_message_is_its_class(stream: io.StringIO) -> None:
    logging.getLogger("uvicorn.error").error(OSError(98, f"address in use {CANARY}"))
    (line,) = lines(stream)
    assert (line["kind"], line["why"]) == ("OSError", "EADDRINUSE")
    assert CANARY not in stream.getvalue()


async def test_a_start_that_fails_says_what_failed_and_not_how(stream: io.StringIO) -> None:
    """Starlette hands uvicorn the text of the traceback, with the text of the exception in it."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        if CANARY:
            raise LookupError(CANARY)
        yield

    server = uvicorn.Server(uvicorn.Config(Starlette(lifespan=lifespan), log_config=None, log_level="trace", port=0))
    with pytest.raises(SystemExit):
        await server.serve()
    kinds = [line.get("kind") for line in lines(stream)]
    assert "LookupError" in kinds
    assert "Application startup failed. Exiting." in [line.get("event") for line in lines(stream)]
    assert CANARY not in stream.getvalue()


# --- other libraries at DEBUG ----------------------------------------------------------------------------------------

LIBRARIES = (
    *("aiohttp.client", "aiohttp.access", "aiohttp.internal", "httpx", "httpcore.http11", "asyncio", "sqlalchemy"),
    *("sqlalchemy.engine.Engine", "sqlalchemy.pool.impl", "aiosqlite", "uvicorn", "uvicorn.error", "uvicorn.access"),
    *("uvicorn.asgi", "multipart.multipart", "python_multipart.multipart", "joserfc", "alembic.runtime.migration"),
    *("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp", "prometheus_client", "concurrent.futures", "urllib3"),
    *("requests", "fastapi", "starlette", "websockets.server", "charset_normalizer", "py.warnings", "fhir_core"),
)


@pytest.mark.parametrize("level", [5, logging.DEBUG, logging.INFO, logging.ERROR])
@pytest.mark.parametrize("name", LIBRARIES)
def test_libraries_say_nothing_of_what_they_handle(stream: io.StringIO, name: str, level: int) -> None:
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(1)
    extra = {"url": CANARY, "event": CANARY, "kind": CANARY, "status": CANARY, "host": CANARY, "at": [CANARY]}
    try:
        failing()
    except ValueError:
        logger.log(level, f"GET https://h/{CANARY} %s", CANARY, extra=extra, exc_info=True, stack_info=True)
    logger.log(level, "canary %(name)s", {"name": CANARY}, extra=extra)
    logger.setLevel(before)
    assert CANARY not in stream.getvalue()
    for line in lines(stream):
        assert line.keys() <= {"time", "level", "logger", "kind", "at"}


async def test_the_engine_at_debug_shows_no_parameter(stream: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    """`echo` puts a handler of its own on the logger unless one is there; rows are logged as well at DEBUG."""
    engine = create_async_engine("sqlite+aiosqlite:///:memory:", echo="debug")
    logs.configure(level=logging.DEBUG, stream=stream)
    async with engine.begin() as connection:
        found = await connection.execute(text("select :value as value"), {"value": CANARY})
        assert found.scalar_one() == CANARY
    await engine.dispose()
    assert any(line["logger"].startswith("sqlalchemy.engine") for line in lines(stream))
    shown = capsys.readouterr()
    assert CANARY not in stream.getvalue() + shown.out + shown.err


def test_a_library_that_brought_its_own_handler_writes_through_ours(stream: io.StringIO) -> None:
    logger = logging.getLogger("somelibrary")
    own = io.StringIO()
    logger.addHandler(logging.StreamHandler(own))
    logger.propagate = False
    logs.configure(level=logging.DEBUG, stream=stream)
    logger.error(CANARY)
    assert own.getvalue() == ""
    assert [line["logger"] for line in lines(stream)] == ["somelibrary"]


# --- what Python itself would print ----------------------------------------------------------------------------------


def failing() -> None:
    raise ValueError(CANARY)


def test_a_warning_is_its_class_and_place(stream: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = logs._warned  # pytest has put its own in place
        warnings.warn(f"{CANARY} is deprecated", DeprecationWarning, stacklevel=1)
    (line,) = lines(stream)
    assert (line["event"], line["kind"], line["level"]) == ("warning", "DeprecationWarning", "warning")
    assert line["at"][0].startswith("test_logs.py:")
    shown = capsys.readouterr()
    assert CANARY not in stream.getvalue() + shown.out + shown.err


def test_an_uncaught_exception_is_its_class_and_place(stream: io.StringIO) -> None:
    try:
        failing()
    except ValueError:
        kind, value, trace = sys.exc_info()
        assert kind is not None
        assert value is not None
        sys.excepthook(kind, value, trace)
    (line,) = lines(stream)
    assert (line["event"], line["kind"], line["level"]) == ("crash", "ValueError", "critical")
    assert line["at"][-1].endswith(" failing")
    assert CANARY not in stream.getvalue()


def test_an_exception_of_a_thread_too(stream: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    thread = threading.Thread(target=failing)
    thread.start()
    thread.join()
    quiet = threading.Thread(target=sys.exit)
    quiet.start()
    quiet.join()
    (line,) = lines(stream)
    assert (line["event"], line["kind"]) == ("crash of a thread", "ValueError")
    assert CANARY not in stream.getvalue() + capsys.readouterr().err


def test_what_cannot_be_raised_too(stream: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    class Closing:
        def __del__(self) -> None:
            failing()

        def __repr__(self) -> str:
            return CANARY

    Closing()
    gc.collect()
    (line,) = lines(stream)
    assert (line["event"], line["kind"]) == ("unraisable", "ValueError")
    assert CANARY not in stream.getvalue() + capsys.readouterr().err


@pytest.mark.parametrize("debug", [False, True])
def test_a_task_that_nobody_waited_for(stream: io.StringIO, capsys: pytest.CaptureFixture[str], debug: bool) -> None:
    async def lost(patient: str) -> None:
        raise LookupError(patient)

    async def main() -> None:
        task = asyncio.create_task(lost(CANARY), name=CANARY)
        await asyncio.sleep(0.01)
        del task
        gc.collect()
        asyncio.get_running_loop().call_exception_handler({"message": CANARY, "patient": CANARY})

    asyncio.run(main(), debug=debug)
    found = [line for line in lines(stream) if line["level"] == "error"]
    assert [line.get("kind") for line in found] == ["LookupError", None]
    assert all(line["logger"] == "asyncio" for line in found)
    assert CANARY not in stream.getvalue() + capsys.readouterr().err


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError(CANARY)

    __repr__ = __str__


@pytest.mark.parametrize("why", [Unprintable(), {"a": Unprintable()}])
def test_a_line_that_cannot_be_written_says_only_that(
    stream: io.StringIO, capsys: pytest.CaptureFixture[str], why: object
) -> None:
    logging.getLogger("app").error("refused", extra={"why": why, "client": CANARY})
    (line,) = lines(stream)
    assert line == {"level": "error", "logger": "app.observe.logs", "event": "line lost", "kind": "RuntimeError"}
    assert CANARY not in stream.getvalue() + capsys.readouterr().err


def test_a_stream_that_is_gone_ends_nothing(stream: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    stream.close()
    logging.getLogger("app").error("refused", extra={"client": CANARY})
    assert capsys.readouterr().err == ""


def test_half_a_character_is_no_lost_line(stream: io.StringIO) -> None:
    logging.getLogger("app").info("refused", extra={"why": "a\udcffb", "sources": {"x\ud800": 1}})
    (line,) = lines(stream)
    assert (line["why"], line["sources"]) == ("a?b", {"x?": 1})


def test_a_logger_without_a_handler_prints_nothing(stream: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    alone = logging.getLogger("somelibrary")
    alone.propagate = False
    alone.error(CANARY)
    assert capsys.readouterr().err == ""


def test_a_process_that_dies_shows_places_only(tmp_path: Path) -> None:
    """`faulthandler` writes for itself; what it writes holds no value."""
    secret = CANARY

    def deep(patient: str) -> None:
        with (tmp_path / "dump").open("w+") as file:
            faulthandler.dump_traceback(file=file)
            file.seek(0)
            dumped = file.read()
        assert " in deep" in dumped
        assert patient not in dumped

    deep(secret)


CRASHES: dict[str, Callable[[], str]] = {
    "exception": lambda: f"raise ValueError('{CANARY}')",
    "warning": lambda: f"import warnings; warnings.warn('{CANARY}')",
    "thread": lambda: f"import threading; t = threading.Thread(target=lambda: {{}}['{CANARY}']); t.start(); t.join()",
    "del": lambda: f"X = type('X', (), {{'__del__': lambda s: {{}}['{CANARY}']}}); X()",
    "task": lambda: (
        "import asyncio\nasync def f(): raise ValueError(NAME)\n"
        "async def m():\n t = asyncio.ensure_future(f())\n await asyncio.sleep(0)\nasyncio.run(m())"
    ),
    "lost line": lambda: "import logging; logging.getLogger('x').error('%d', NAME)",
}


@pytest.mark.parametrize("name", CRASHES)
def test_a_process_of_its_own_writes_lines_only(name: str) -> None:
    code = f"from app.observe import logs\nlogs.configure(level=10)\nNAME = '{CANARY}'\n{CRASHES[name]()}\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == ""
    written = [json.loads(line) for line in done.stderr.splitlines()]
    assert written
    assert CANARY not in done.stderr
    assert any("kind" in line or name == "lost line" for line in written)
    assert done.returncode == (1 if name == "exception" else 0)


def test_hooks_are_left_alone_where_that_is_wanted(stream: io.StringIO) -> None:
    sys.excepthook = sys.__excepthook__
    logs.configure(stream=stream, hooks=False)
    assert sys.excepthook is sys.__excepthook__
