"""The PostgreSQL server of the tests: it keeps what was confirmed, and never outlives who started it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import npm
from tests.postgres import Server, ServerError, Unavailable

pytestmark = pytest.mark.postgresql

ORPHAN = """
import time
from tests.postgres import Server
server = Server().start()
if {paused}:
    server.pause()
print(server.directory, server.pid, flush=True)
time.sleep(600)
"""
"""Ended by the test; by itself after ten minutes."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    try:
        made = Server({"max_connections": "23"})
    except Unavailable as error:
        npm.absent("postgresql", str(error))
    with made:
        yield made


def test_what_was_confirmed_is_there_however_it_was_stopped(server: Server) -> None:
    server.create_database("kept")
    server.execute("CREATE TABLE numbers (number integer)", database="kept")
    port = server.port
    for number, mode in enumerate(("fast", "smart", "immediate", "kill")):
        server.execute(f"INSERT INTO numbers VALUES ({number})", database="kept")  # noqa: S608
        before = server.processes()
        server.restart(mode)  # type: ignore[arg-type]
        assert not set(before) & set(server.processes())
        found = server.records("SELECT number FROM numbers ORDER BY 1", database="kept")
        assert found == [{"number": one} for one in range(number + 1)]
    assert server.port == port
    server.drop_database("kept")


def test_it_waits_for_the_disk_and_is_as_it_was_asked_to_be(server: Server) -> None:
    shown = {name: server.execute(f"SHOW {name}")[0][0] for name in ("fsync", "synchronous_commit", "max_connections")}
    assert shown == {"fsync": "on", "synchronous_commit": "on", "max_connections": "23"}


def test_one_that_stands_still_can_be_stopped_and_started(server: Server) -> None:
    server.pause()
    server.stop("immediate")
    assert not server.is_running
    assert server.processes() == []
    with pytest.raises(ServerError, match="is stopped"):
        assert server.pid
    server.start()
    assert server.execute("SELECT 1") == [(1,)]


@pytest.mark.parametrize("paused", [False, True])
def test_nothing_is_left_when_its_maker_is_killed(server: Server, *, paused: bool) -> None:
    command = [sys.executable, "-c", ORPHAN.format(paused=paused)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folder, pid = process.stdout.readline().split()
        assert (Path(folder) / "data").is_dir()
        process.send_signal(signal.SIGKILL)
    end = time.monotonic() + 60
    while (Path(folder).exists() or _lives(pid)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not Path(folder).exists()
    assert not _lives(pid)


def _lives(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False
