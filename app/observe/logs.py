"""One JSON object a line, holding only fields that are on a list.

A log outlives its purpose and is read by many, so nothing of a patient gets in: a field that is not on the list is
left out, texts of exceptions too, and libraries that write addresses are silenced (knowledge: security 0.6, T7).
Warnings, and exceptions that nobody catches, are written the same way in place of Python's own text.

`faulthandler` is the one that writes for itself, when the interpreter dies: names of files and functions with their
lines, and no values.
"""

from __future__ import annotations

import errno
import logging
import re
import sys
import threading
import warnings
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, TextIO, TypeAlias

import msgspec

log = logging.getLogger(__name__)

FIELDS: Final = frozenset(
    {
        *("event", "decision", "outcome", "status", "ms", "service", "hook", "client", "tenant", "profile"),
        *("sources", "requests", "bytes", "cards", "suggestions", "correlation", "kind", "why", "at"),
        *("version", "host", "port", "tenants", "bases", "protocols", "method", "route", "schema", "worker"),
    }
)
"""What a record of ours may hold. `sources` maps a source key to its outcome; `kind` is the class of an error, `at`
where it was."""

UVICORN: Final = frozenset(
    {
        "ASGI callable returned without completing response.",
        "ASGI callable returned without starting response.",
        "ASGI callable should return None, but returned '%s'.",
        "Application shutdown failed. Exiting.",
        "Application startup failed. Exiting.",
        "Cancel %s running task(s), timeout graceful shutdown exceeded",
        "Exceeded concurrency limit.",
        "Exception in 'lifespan' protocol\n",
        "Exception in ASGI application\n",
        "Invalid HTTP request received.",
        "Unsupported upgrade request.",
    }
)
"""Its warnings and errors that say something to an operator, kept without what would be filled in. Any other may be
built of data: a failed start comes as the text of a whole traceback."""

_SILENCED: Final = ("httpx", "httpcore", "aiohttp", "aiosqlite", "alembic", "uvicorn.access", "uvicorn.asgi")
_LONGEST: Final = 200
_EVENT: Final = re.compile(r"[a-z][a-z \-]{0,60}")
_encode = msgspec.json.Encoder(order="deterministic").encode

_Raised: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class JsonLines(logging.Formatter):
    """`log.info("answered", extra={...})` as a line. The message is the event's name: words without data.

    Records of other libraries keep their level, logger and, for exceptions, the class and the place in the code: their
    messages, and what they add to a record, may hold anything. Of uvicorn's texts those of `UVICORN` are kept.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": _text(record.name),
        }
        package = record.name.partition(".")[0]
        if package == "app":
            if _EVENT.fullmatch(str(record.msg)):
                line["event"] = str(record.msg)
            for name in FIELDS & record.__dict__.keys():
                line[name] = _plain(record.__dict__[name])
        elif package == "uvicorn" and isinstance(record.msg, str) and record.msg in UVICORN:
            line["event"] = record.msg.strip()
        kind, value, trace = _raised(record)
        if kind is not None:
            line["kind"] = kind.__name__
            line["at"] = _places(trace)
            if isinstance(value, OSError) and value.errno is not None and value.errno in errno.errorcode:
                line["why"] = errno.errorcode[value.errno]
        return _encode(line).decode()


class _Lines(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802  (logging's signature)
        """A line that cannot be written is a line that says so: Python's own text shows the arguments."""
        kind = sys.exc_info()[0]
        lost = {"level": "error", "logger": __name__, "event": "line lost", "kind": kind.__name__ if kind else ""}
        try:
            self.stream.write(_encode(lost).decode() + self.terminator)
        except (OSError, ValueError):
            return  # the stream is gone: there is nowhere to say it


def configure(*, level: int = logging.INFO, stream: TextIO | None = None, hooks: bool = True) -> None:
    """Send everything through `JsonLines`, replacing what was configured before.

    `hooks`: warnings and uncaught exceptions of the whole process too.
    """
    handler = _Lines(stream or sys.stderr)
    handler.setFormatter(JsonLines())
    handler.addFilter(_is_for_operators)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for known in list(logging.Logger.manager.loggerDict.values()):
        if isinstance(known, logging.Logger):
            known.handlers.clear()
            known.propagate = True
    for name in _SILENCED:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = False
        logger.addHandler(logging.NullHandler())
    if hooks:
        _hook()


def _is_for_operators(record: logging.LogRecord) -> bool:
    """Not what uvicorn says when nothing is wrong: without their values such texts say nothing, and the service has
    events of its own for its start."""
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] != "uvicorn"


def _hook() -> None:
    logging.raiseExceptions = False
    logging.lastResort = None
    sys.excepthook = _crashed
    sys.unraisablehook = _unraisable
    threading.excepthook = _thread_crashed
    warnings.showwarning = _warned


def _crashed(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
    log.critical("crash", exc_info=(kind, value, trace))


def _thread_crashed(thrown: threading.ExceptHookArgs) -> None:
    if thrown.exc_value is not None and thrown.exc_type is not SystemExit:
        log.error("crash of a thread", exc_info=(thrown.exc_type, thrown.exc_value, thrown.exc_traceback))


def _unraisable(thrown: sys.UnraisableHookArgs) -> None:
    if thrown.exc_value is not None:
        log.error("unraisable", exc_info=(thrown.exc_type, thrown.exc_value, thrown.exc_traceback))


def _warned(
    message: Warning | str,  # noqa: ARG001  (warnings' signature; its text may hold anything)
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,  # noqa: ARG001
    line: str | None = None,  # noqa: ARG001
) -> None:
    log.warning("warning", extra={"kind": category.__name__, "at": [f"{_file(filename)}:{lineno}"]})


def _raised(record: logging.LogRecord) -> _Raised:
    """The exception of a record: its own, its message, or for libraries the one that is being handled.

    Starlette tells uvicorn of a failed start in words only; what failed is then what is being handled.
    """
    if record.exc_info and record.exc_info[0] is not None:
        return record.exc_info
    if isinstance(record.msg, BaseException):
        return type(record.msg), record.msg, record.msg.__traceback__
    if record.levelno >= logging.ERROR and not record.name.startswith("app."):
        return sys.exc_info()
    return None, None, None


def _plain(value: Any) -> Any:
    if isinstance(value, bool | int | float) or value is None:
        return value
    if isinstance(value, dict):
        return {_text(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return _text(value)


def _text(value: object) -> str:
    """Short, and such that it can be encoded: a lone surrogate cannot."""
    return str(value)[:_LONGEST].encode("utf-8", "replace").decode()


def _places(trace: TracebackType | None) -> list[str]:
    """File and line of the innermost frames, without the text of any of them."""
    places: list[str] = []
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{_file(code.co_filename)}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return places[-8:]


def _file(path: str) -> str:
    return path.rpartition("/")[2]
