"""deploy/restore-drill.sh on databases that a service has written: it really restores, and says when it cannot."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app import cli
from app.store.decisions import Store
from tests.integration.hospital import hook, opened
from tests.postgres import Server, aside

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "deploy" / "restore-drill.sh"
SECONDS = 120
SHOWN = ("demo-full-protocol", "demo-crp-100", "demo-day-7")


@pytest.fixture
def command(tmp_path: Path) -> Path:
    """`rescue-cds`, wherever the tests were started."""
    path = tmp_path / "rescue-cds"
    path.write_text(f'#!/bin/sh\ncd "{ROOT}" && exec "{sys.executable}" -m app.cli "$@"\n', encoding="utf-8")
    path.chmod(0o755)
    return path


def drill(command: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """One run, in a folder of its own for what it leaves behind."""
    folder = command.parent / "drills"
    folder.mkdir(exist_ok=True)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RESCUE_CDS_", "PG"))}
    return subprocess.run(
        [str(SCRIPT)],
        env=inherited | {"RESCUE_CDS": str(command), "PYTHON": sys.executable, "DRILL_DIR": str(folder)} | environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def left_behind(command: Path) -> list[Path]:
    return list((command.parent / "drills").iterdir())


async def decided(folder: Path, *, url: str) -> None:
    """A service has answered some calls, today."""
    async with opened(folder, store=Store(url), now=datetime.now(UTC)) as hospital:
        for patient in SHOWN:
            assert (await hospital.call(hook(patient))).status_code == 200


async def test_a_file_is_backed_up_restored_and_found_whole(tmp_path: Path, command: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/decisions.db"
    async with opened(tmp_path, store=Store(url), now=datetime.now(UTC)) as hospital:
        for patient in SHOWN:
            assert (await hospital.call(hook(patient))).status_code == 200
        kept = tmp_path / "kept.db"
        done = drill(command, RESCUE_CDS_DB=url, DRILL_KEEP=str(kept))  # beside the running service
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the chain is whole" in done.stdout
    assert "the decisions of the last day were evaluated again" in done.stdout
    assert f"the backup is good: {kept}" in done.stdout
    assert left_behind(command) == []
    with closing(sqlite3.connect(kept)) as connection:
        assert connection.execute("select count(*) from decisions").fetchone() == (len(SHOWN),)
    assert kept.stat().st_mode & 0o077 == 0
    again = drill(command, RESCUE_CDS_DB=url, DRILL_KEEP=str(kept))
    assert (again.returncode, again.stdout) == (2, "")
    assert "is there already" in again.stderr


async def test_a_record_that_was_changed_is_no_good_backup(tmp_path: Path, command: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/decisions.db"
    await decided(tmp_path, url=url)
    with closing(sqlite3.connect(tmp_path / "decisions.db")) as connection:
        [changed] = connection.execute(
            "update decisions set client = 'another' where rowid = 1 returning id"
        ).fetchone()
        connection.commit()
    done = drill(command, RESCUE_CDS_DB=url)
    assert done.returncode == 1
    assert "the database itself is not as it was written" in done.stderr
    assert changed in done.stderr
    assert left_behind(command) == []


async def test_a_file_that_is_damaged_is_said_to_be(tmp_path: Path, command: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/decisions.db"
    await decided(tmp_path, url=url)
    path = tmp_path / "decisions.db"
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4096] = os.urandom(4096)
    path.write_bytes(content)
    done = drill(command, RESCUE_CDS_DB=url)
    assert done.returncode == 1, done.stdout + done.stderr
    assert left_behind(command) == []


def test_what_cannot_be_tried_says_what_is_missing(tmp_path: Path, command: Path) -> None:
    password = "kept-out-of-messages"
    for environment, said in (
        ({}, "RESCUE_CDS_DB is not set"),
        ({"RESCUE_CDS_DB": f"sqlite+aiosqlite:///{tmp_path}/none.db"}, "no database file is at"),
        ({"RESCUE_CDS_DB": f"mysql://u:{password}@h/d"}, "RESCUE_CDS_DB: write sqlite"),
        ({"RESCUE_CDS_DB": f"postgresql://u:{password}@h/d"}, "RESCUE_CDS_DRILL_DB is not set"),
    ):
        done = drill(command, **environment)
        assert done.returncode == 2, done.stderr
        assert said in done.stderr
        assert password not in done.stdout + done.stderr
    assert left_behind(command) == []


def test_postgresql_is_restored_into_an_empty_database(tmp_path: Path, command: Path, postgresql: Server) -> None:
    if any(postgresql.program(name) is None for name in ("pg_dump", "pg_restore", "psql")):
        pytest.skip("the client of PostgreSQL is absent")
    source, copy = postgresql.create_database(), postgresql.create_database()
    try:
        assert cli.main(["db", "upgrade", "--db", source]) == 0
        aside(decided(tmp_path, url=source))
        done = drill(command, RESCUE_CDS_DB=source, RESCUE_CDS_DRILL_DB=copy, PATH=path_with(postgresql))
        assert done.returncode == 0, done.stdout + done.stderr
        assert "the backup is good" in done.stdout
        assert "drop the database of RESCUE_CDS_DRILL_DB now" in done.stdout
        count = "select count(*) from decisions"
        assert postgresql.execute(count, database=copy.rpartition("/")[2]) == [(len(SHOWN),)]

        again = drill(command, RESCUE_CDS_DB=source, RESCUE_CDS_DRILL_DB=copy, PATH=path_with(postgresql))
        assert again.returncode == 2
        assert "is not empty" in again.stderr
        assert left_behind(command) == []
    finally:
        for url in (source, copy):
            postgresql.drop_database(url.rpartition("/")[2])


def path_with(server: Server) -> str:
    """Its own programs first: they are of its version."""
    found = server.program("pg_dump")
    assert found is not None
    return f"{found.parent}{os.pathsep}{os.environ['PATH']}"
