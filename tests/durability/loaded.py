"""`python -m tests.durability.loaded`: an interpreter that has imported the service, and forks one when it is told to.

Importing takes ten times as long as all else that a start does. What is forked has loaded nothing of its own yet: no
configuration, no knowledge, no database, no thread; from there on it is `rescue-cds` as anybody starts it.

Reads lines of JSON: `{"arguments": [...], "log": "file", "environment": {...}}`; writes `{"pid": 1}` for each, and
`{"pid": 1, "status": 0}` when one has gone (negative: by a signal). When its input ends, all that it started end.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import signal
import sys
from typing import Any

import aiosqlite  # noqa: F401
import alembic.command  # noqa: F401
import asyncpg  # type: ignore[import-untyped] # noqa: F401
import sqlalchemy.dialects.postgresql.asyncpg
import sqlalchemy.dialects.sqlite.aiosqlite  # noqa: F401
import uvicorn.lifespan.on
import uvicorn.loops.uvloop  # noqa: F401
import uvloop  # noqa: F401

import app.cli
from tests.durability.processes import die_with_parent


def main() -> int:
    """Until the input ends."""
    chosen = selectors.DefaultSelector()
    chosen.register(0, selectors.EVENT_READ)
    living: dict[int, int] = {}  # the file that becomes readable when it has gone -> its pid
    rest = b""
    gc.collect()
    gc.freeze()  # what has been imported is not looked through again in every child
    _say({"pid": os.getpid()})
    while True:
        for key, _ in chosen.select():
            if key.fd in living:
                _, status = os.waitpid(living[key.fd], 0)
                chosen.unregister(key.fd)
                os.close(key.fd)
                _say({"pid": living.pop(key.fd), "status": os.waitstatus_to_exitcode(status)})
                continue
            received = os.read(0, 65536)
            if not received:
                for pid in living.values():
                    os.kill(pid, signal.SIGKILL)
                return 0
            *lines, rest = (rest + received).split(b"\n")
            for line in lines:
                pid = os.fork()
                if pid == 0:
                    chosen.close()
                    for file in living:
                        os.close(file)
                    os._exit(_serve(json.loads(line)))
                file = os.pidfd_open(pid)
                living[file] = pid
                chosen.register(file, selectors.EVENT_READ)
                _say({"pid": pid})


def _serve(order: dict[str, Any]) -> int:
    """In the child: the exit status of the command."""
    die_with_parent()  # what our maker was told of that, a child does not inherit
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for file, place in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(file, place)
    os.environ.update(order["environment"])
    sys.argv = ["rescue-cds", *order["arguments"]]
    try:
        return app.cli.main(order["arguments"])
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _say(what: dict[str, int]) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
