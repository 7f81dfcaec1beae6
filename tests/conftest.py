"""For every test: the name of a parameter is the same in each process that collects it; a database of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.store import decisions
from tests import databases
from tests.databases import Database
from tests.postgres import Server

decisions.COMMIT_SECONDS = 20.0  # type: ignore[misc]  # of a machine on which other tests run


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their argument: a packed body carries the second it was packed in."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(autouse=True)
def databases_go(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test made on a server is dropped after it; what was made for several stays. No test finds another's
    spool."""
    if not databases.is_postgresql():
        yield
        return
    monkeypatch.setattr(decisions, "SPOOL", tmp_path_factory.mktemp("spool"))
    known = databases.known()
    yield
    databases.forget(known)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    """As a new service finds it: no file yet, or a database that `rescue-cds db upgrade` has made."""
    return databases.at_first_start(tmp_path / "decisions.db")


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """A database without a table."""
    return databases.empty(tmp_path / "decisions.db").url


@pytest.fixture
def recorded_url(tmp_path: Path) -> str:
    """A database of the newest schema."""
    return databases.newest(tmp_path / "decisions.db").url


@pytest.fixture
def postgresql() -> Server:
    """A PostgreSQL server that all tests of the process share, running; skipped where it cannot be had. Who changes or
    stops it takes one of his own."""
    return databases.server()
