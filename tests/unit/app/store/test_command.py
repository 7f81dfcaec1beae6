"""`rescue-cds db`: what it says, what it leaves, and its exit status."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from app.cli import main
from app.store import engine
from app.store.command import INTERRUPTED
from tests.postgres import PASSWORD
from tests.unit.app.store.test_migrations import NEWEST, REVISIONS


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RESCUE_CDS_DB", raising=False)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path}/decisions.db"
        return
    server = request.getfixturevalue("postgresql")
    made = server.create_database()
    yield made
    server.drop_database(made.rpartition("/")[2])


def said(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> list[str]:
    """The lines of a run that ends with that status."""
    assert main(["db", *arguments]) == status
    captured = capsys.readouterr()
    return [*captured.out.splitlines(), *captured.err.splitlines()]


def test_an_upgrade_says_each_revision_and_then_that_there_is_nothing_to_do(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first = said(capsys, "upgrade", "--db", url)
    assert [line[:4] for line in first[1:-1]] == REVISIONS
    assert first[-1] == f"schema {NEWEST}: up to date"
    assert first[0].startswith(("SQLite, ", "PostgreSQL, 127.0.0.1:"))
    assert said(capsys, "upgrade", "--db", url)[1:] == [f"schema {NEWEST}: nothing to do"]


def test_a_fit_database_is_said_to_be(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "upgrade", "--db", url)
    lines = said(capsys, "check", "--db", url)
    assert lines[1] == f"schema {NEWEST}"
    assert lines[-1] == "fit: schema, settings and integrity"
    settings = [line for line in lines if "synchronous_commit on, fsync on, UTF8" in line]
    assert len(settings) == url.startswith("postgresql")


def test_what_is_missing_is_named(url: str, capsys: pytest.CaptureFixture[str], request: Any, tmp_path: Path) -> None:
    said(capsys, "upgrade", "--db", url)
    broken = ("DROP INDEX chain_ref", "DROP TABLE refusals", "ALTER TABLE decision_cards DROP COLUMN indicator")
    if url.startswith("postgresql"):
        server = request.getfixturevalue("postgresql")
        for statement in broken:
            server.execute(statement, database=url.rpartition("/")[2])
    else:
        with closing(sqlite3.connect(tmp_path / "decisions.db")) as connection, connection:
            for statement in broken:
                connection.execute(statement)
    lines = said(capsys, "check", "--db", url, status=1)
    for what in ("index chain_ref", "table refusals", "column decision_cards.indicator"):
        assert sum(line.startswith(f"wrong: {what} is missing") for line in lines) == 1
    assert lines[-1] == "not fit"


def test_a_database_without_the_schema_is_not_fit(url: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    if url.startswith("sqlite"):
        (tmp_path / "decisions.db").touch()
    assert "wrong: the database is empty: run `rescue-cds db upgrade`" in said(capsys, "check", "--db", url, status=1)


@pytest.mark.postgresql
def test_a_server_that_may_not_write_is_not_fit(postgresql: Any, capsys: pytest.CaptureFixture[str]) -> None:
    url = postgresql.create_database("may_not_write")
    said(capsys, "upgrade", "--db", url)
    postgresql.execute('ALTER DATABASE "may_not_write" SET default_transaction_read_only = on')
    lines = said(capsys, "check", "--db", url, status=1)
    assert [line for line in lines if line.startswith("wrong: this PostgreSQL database is read-only")]
    postgresql.drop_database("may_not_write")


def test_a_damaged_file_is_not_fit(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/decisions.db"
    said(capsys, "upgrade", "--db", url)
    with closing(sqlite3.connect(tmp_path / "decisions.db")) as connection, connection:
        connection.execute("INSERT INTO decision_facts VALUES ('nobody', 'p', x'00')")
    lines = said(capsys, "check", "--db", url, status=1)
    assert "wrong: a row of decision_facts names one of decisions that is not there" in lines


def test_a_check_makes_no_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/none.db"
    assert (
        "none.db: no database file is there: name the file that the service writes, by --db or"
        in said(capsys, "check", "--db", url, status=1)[-1]
    )
    assert not list(tmp_path.iterdir())


def test_an_upgrade_beside_a_running_service_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/decisions.db"
    with engine.lock(url):
        [line] = said(capsys, "upgrade", "--db", url, status=1)
    assert "is in use by process" in line
    assert "stop it first" in line
    assert not (tmp_path / "decisions.db").exists()


@pytest.fixture(params=["theirs", "theirs, with a log", "from the future", "no database", "a directory"])
def strange(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """What is refused, at the place of the database."""
    path = tmp_path / "decisions.db"
    if request.param == "no database":
        path.write_bytes(b"name,dose\n" * 500)
    elif request.param == "a directory":
        path.mkdir()
    else:
        connection = sqlite3.connect(path)
        if request.param == "from the future":
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("CREATE TABLE decisions (x)")
            connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
            connection.execute("INSERT INTO alembic_version VALUES ('9999')")
        elif request.param == "theirs, with a log":
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE theirs (x)")
        connection.commit()
        if request.param == "theirs, with a log":  # of a program that runs
            yield path
        connection.close()
    if request.param != "theirs, with a log":
        yield path


def beside(path: Path) -> dict[str, bytes | None]:
    """What stands in the folder, without SQLite's index of a log, which holds nothing of its own."""
    return {
        one.name: one.read_bytes() if one.is_file() else None
        for one in path.parent.iterdir()
        if not one.name.endswith("-shm")
    }


@pytest.mark.parametrize("command", [("db", "upgrade"), ("serve", "--port", "8123")])
def test_what_is_refused_stays_as_it_was_and_gets_no_lock(
    strange: Path, command: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.cli.logs.configure", lambda: None)
    before = beside(strange)
    assert main([*command, "--db", f"sqlite+aiosqlite:///{strange}"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"rescue-cds: SQLite, {strange}: ")
    assert any(
        why in last for why in ("not of this service", "up to 0", "damaged, or no database", "this is a directory")
    )
    assert beside(strange) == before


def test_a_database_in_memory_has_no_schema_to_bring_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert "name a file" in said(capsys, "upgrade", "--db", "sqlite+aiosqlite://", status=1)[-1]


def test_the_address_comes_from_the_environment_or_the_file_too(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        '[service]\nprofile = "dev"\n[store]\nurl = "sqlite+aiosqlite:///of-the-file.db"\n'
        '[[tenants]]\nname = "hospital"\nzone = "UTC"\n'
    )
    said(capsys, "upgrade", "--config", str(config))
    monkeypatch.setenv("RESCUE_CDS_DB", "sqlite+aiosqlite:///of-the-environment.db")
    said(capsys, "upgrade", "--config", str(config))
    said(capsys, "upgrade", "--config", str(config), "--db", "sqlite+aiosqlite:///of-the-option.db")
    assert {path.name for path in tmp_path.glob("of-*.db")} == {
        "of-the-file.db",
        "of-the-environment.db",
        "of-the-option.db",
    }


@pytest.mark.postgresql
@pytest.mark.parametrize("action", ["upgrade", "check"])
def test_a_server_that_refuses_is_said_without_the_password(
    postgresql: Any, capsys: pytest.CaptureFixture[str], action: str
) -> None:
    address = postgresql.url("postgres", role="guarded").replace(PASSWORD, f"{PASSWORD}-wrong")
    text = "\n".join(said(capsys, action, "--db", address, status=1))
    assert "refuses the role or its password: check the address (--db or RESCUE_CDS_DB, else conf" in text
    assert PASSWORD not in text


def test_an_interrupted_upgrade_says_that_nothing_has_changed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "migrate", interrupted)
    lines = said(capsys, "upgrade", "--db", f"sqlite+aiosqlite:///{tmp_path}/d.db", status=INTERRUPTED)
    assert lines[-1] == "interrupted: the schema is as it was"
