"""One process has a SQLite file: the second is refused, and a dead one holds nothing."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.store import engine
from app.store.errors import BadDatabase

HOLDER = """
import sys
from app.store import engine
with engine.lock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(url: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that has the database, until its input ends."""
    command = [sys.executable, "-c", HOLDER, url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "decisions.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


def test_a_second_process_is_refused_with_the_firsts_number_until_that_ends(url: str) -> None:
    with holder(url) as process, pytest.raises(BadDatabase, match=f"in use by process {process.pid}: stop it first"):
        engine.lock(url).take()
    with engine.lock(url):
        pass


def test_one_that_was_killed_holds_nothing(url: str) -> None:
    with holder(url) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with engine.lock(url), pytest.raises(BadDatabase, match=f"process {os.getpid()}:"):
        engine.lock(url).take()


def test_another_name_of_the_file_is_the_same_file(url: str, path: Path) -> None:
    path.touch()
    other = path.with_name("link.db")
    other.symlink_to(path)
    with engine.lock(url), pytest.raises(BadDatabase, match="in use"):
        engine.lock(f"sqlite+aiosqlite:///{other}").take()


def test_a_file_that_will_be_refused_gets_none_and_a_lock_that_is_there_stays(url: str, path: Path) -> None:
    path.write_bytes(b"no database" * 100)
    beside = path.with_name("decisions.db.lock")
    with pytest.raises(BadDatabase, match="no database: restore"):
        engine.lock(url).take()
    assert not beside.exists()
    path.unlink()
    with holder(url) as process:
        path.write_bytes(b"no database" * 100)
        with pytest.raises(BadDatabase, match=f"in use by process {process.pid}"):
            engine.lock(url).take()
        assert beside.exists()


def test_who_has_it_may_take_it_again_and_let_go_twice(url: str) -> None:
    lock = engine.lock(url).take()
    assert lock.take() is lock
    lock.release()
    lock.release()
    with engine.lock(url):
        pass


def test_the_file_is_its_owners_and_stays(url: str, path: Path) -> None:
    with engine.lock(url):
        pass
    beside = path.with_name("decisions.db.lock")
    assert stat.S_IMODE(beside.stat().st_mode) == 0o600
    assert int(beside.read_text()) == os.getpid()


def test_a_folder_that_cannot_be_written_is_said() -> None:
    with pytest.raises(BadDatabase, match=r"/none/x\.db\.lock cannot be created"):
        engine.lock("sqlite+aiosqlite:////none/x.db").take()


@pytest.mark.parametrize("url", ["postgresql://u@h/d", "sqlite+aiosqlite:///:memory:"])
def test_what_several_may_have_is_not_locked(url: str) -> None:
    with engine.lock(url), engine.lock(url):
        pass
