"""One JSON object a line, holding only fields that are on a list.

A log outlives its purpose and is read by many, so nothing of a patient gets in: a field that is not on the list is
left out, texts of exceptions too, and libraries that write addresses are silenced (knowledge: security 0.6, T7).
"""

from __future__ import annotations

import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import msgspec

FIELDS: Final = frozenset(
    {
        *("event", "decision", "outcome", "status", "ms", "service", "hook", "client", "tenant", "profile"),
        *("sources", "requests", "bytes", "cards", "suggestions", "correlation", "kind", "why"),
        *("version", "host", "port", "tenants", "bases", "protocols", "method", "route", "schema"),
    }
)
"""What a record may hold. `sources` maps a source key to its outcome; `kind` is the class of an error."""

_SILENCED: Final = ("httpx", "httpcore", "aiohttp", "aiosqlite", "uvicorn.access")
_LONGEST: Final = 200
_EVENT: Final = re.compile(r"[a-z][a-z \-]{0,60}")
_encode = msgspec.json.Encoder(order="deterministic").encode


class JsonLines(logging.Formatter):
    """`log.info("answered", extra={...})` as a line. The message is the event's name: words without data.

    Records of other libraries keep their level, logger and, for exceptions, the class and the place in the code: their
    messages may hold anything. uvicorn's are kept without their arguments.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        package = record.name.partition(".")[0]
        if package == "uvicorn" or (package == "app" and _EVENT.fullmatch(str(record.msg))):
            line["event"] = str(record.msg)[:_LONGEST]
        for name in FIELDS & record.__dict__.keys():
            line[name] = _plain(record.__dict__[name])
        if record.exc_info and record.exc_info[0] is not None:
            line["kind"] = record.exc_info[0].__name__
            line["at"] = _place(record)
        return _encode(line).decode()


def configure(*, level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Send everything through `JsonLines`, replacing what was configured before."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    for name in _SILENCED:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = False
        logger.addHandler(logging.NullHandler())


def _plain(value: Any) -> Any:
    if isinstance(value, bool | int | float) or value is None:
        return value
    if isinstance(value, dict):
        return {str(key)[:_LONGEST]: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return str(value)[:_LONGEST]


def _place(record: logging.LogRecord) -> list[str]:
    """File and line of the innermost frames, without the text of any of them."""
    trace = record.exc_info[2] if record.exc_info else None
    places: list[str] = []
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{code.co_filename.rpartition('/')[2]}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return places[-8:]
