"""`rescue-cds stats` at a terminal: what is refused, and what goes where."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app import cli
from app.stats import command, rows, sheets
from app.stats.summary import Query
from app.store import address
from tests.unit.app.bundles import bedside
from tests.unit.app.stats.build import ORDER_SIGN, card, filled, known, made, url
from tests.unit.app.store.test_store import execute
from tests.unit.app.test_cli import CONFIG, refused, run


@pytest.fixture(autouse=True)
def _read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = bedside()
    monkeypatch.setattr(command.knowledge, "load", lambda: loaded)


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
async def store(tmp_path: Path, now: datetime) -> str:
    decisions = [
        made("card", created_at=now - timedelta(hours=1), cards=(card(),)),
        made("not-met", created_at=now - timedelta(hours=30)),
        made("deceased", created_at=now - timedelta(days=10), service=ORDER_SIGN, tenant="north", client="ehr"),
        made("silent", created_at=datetime(2026, 11, 1, 23, 30, tzinfo=UTC), verdicts={"would_be": "card"}),
    ]
    return await filled(tmp_path / "decisions.db", decisions)


def outcomes(capsys: pytest.CaptureFixture[str], *options: Any) -> set[str]:
    assert run("stats", "--json", *options) == 0
    return {record["outcome"] for record in json.loads(capsys.readouterr().out)["sheets"]["hooks"]}


def test_the_tables_are_printed(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("stats", "--db", store) == 0
    out, err = capsys.readouterr()
    assert "Calls by hook and outcome" in out
    assert err == ""


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), {"card", "not-met", "deceased", "silent"}),
        (("--since", "24h"), {"card"}),
        (("--since", "2d", "--until", "24h"), {"not-met"}),
        (("--tenant", "north"), {"deceased"}),
        (("--client", "ehr"), {"deceased"}),
        (("--service", "patient-view", "--since", "7d"), {"card", "not-met"}),
        (("--service", ORDER_SIGN), {"deceased"}),
        (("--since", "2026-11-01", "--until", "2026-11-01"), {"silent"}),
        (("--since", "2026-11-02", "--until", "2026-11-02"), set()),
        (("--since", "2026-11-02T00:00:00+01:00", "--until", "2026-11-02T00:31:00+01:00"), {"silent"}),
        (("--until", "2026-11-01T23:30:00Z"), set()),
    ],
)
def test_the_choice(
    store: str, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], expected: set[str]
) -> None:
    assert outcomes(capsys, "--db", store, *options) == expected


def test_days_are_those_of_the_configured_zone(store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "site.toml"
    config.write_text(CONFIG + f'\n[store]\nurl = "{store}"\n', encoding="utf-8")
    day = ("--since", "2026-11-02", "--until", "2026-11-02")
    assert outcomes(capsys, "--config", config, *day) == {"silent"}
    assert outcomes(capsys, "--config", config, "--db", store, *day) == {"silent"}
    assert outcomes(capsys, "--db", store, *day) == set()


def test_files_are_written_and_nothing_is_printed(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, html = tmp_path / "a" / "csv", tmp_path / "page.html"
    assert run("stats", "--db", store, "--csv", folder, "--html", html) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [f"rescue-cds: {folder}: written", f"rescue-cds: {html}: written"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(sheets.names())
    assert (folder / "hooks.csv").read_bytes().startswith(b"service,outcome,would_be,meaning,hooks,share_percent")
    assert html.read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize("which", ["--csv", "--html"])
def test_what_is_there_is_overwritten_only_by_force(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], which: str
) -> None:
    target = tmp_path / "out"
    there = target / "latency.csv" if which == "--csv" else target
    there.parent.mkdir(exist_ok=True)
    there.write_text("mine", encoding="utf-8")
    err = refused(capsys, run("stats", "--db", store, which, target))
    assert "exists: name another, or say --force" in err
    assert there.read_text(encoding="utf-8") == "mine"
    assert not (target / "hooks.csv").exists()
    assert run("stats", "--db", store, which, target, "--force") == 0
    assert there.read_text(encoding="utf-8") != "mine"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--since", "yesterday"), "--since: write 2026-11-01"),
        (("--since", "2026-11-01T08:00:00"), "--since: a timestamp needs its zone: write 2026-11-01T08:00:00Z"),
        (("--until", "0001-01-01"), "--until: no year"),
        (("--until", "9999-12-31"), "--until: "),
        (("--since", "99999d"), "--since: no year"),
        (("--since", "24h", "--until", "2d"), "--since: lies behind --until"),
        (("--config", "/none.toml"), "/none.toml: cannot be read"),
        (("--html", "/none/page.html"), "--html: /none: no such directory"),
        (("--db", "sqlite+aiosqlite:////none/decisions.db"), "SQLite, /none/decisions.db: no database file is there"),
        (("--db", "x"), "--db: not a database address"),
    ],
)
def test_a_wrong_option_says_the_remedy(
    store: str, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
) -> None:
    chosen = options if "--db" in options else ("--db", store, *options)
    assert said in refused(capsys, run("stats", *chosen))


def test_an_older_schema_names_the_remedy(store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    execute(tmp_path / "decisions.db", "update alembic_version set version_num = '0002'")
    err = refused(capsys, run("stats", "--db", store))
    assert "run `rescue-cds db upgrade`" in err
    assert err.startswith(f"rescue-cds: {address.shown(address.parsed(store))}: the database has schema revision 0002")


def test_the_environment_names_the_database_too(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RESCUE_CDS_DB", store)
    everything = {"card", "not-met", "deceased", "silent"}
    assert outcomes(capsys) == everything
    config = tmp_path / "site.toml"
    config.write_text(CONFIG + '\n[store]\nurl = "sqlite+aiosqlite:///of-the-file.db"\n', encoding="utf-8")
    assert outcomes(capsys, "--config", config) == everything
    assert "other.db: no database file" in refused(capsys, run("stats", "--db", "sqlite+aiosqlite:///other.db"))
    monkeypatch.setenv("RESCUE_CDS_DB", "mysql://u:kept-out@h/d")
    said = refused(capsys, run("stats"))
    assert "RESCUE_CDS_DB: decisions are kept in SQLite or PostgreSQL" in said
    assert "kept-out" not in said


def test_without_an_address_it_is_that_of_the_service(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "rescue-cds.db" in refused(capsys, run("stats"))


def test_a_directory_is_no_file(store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is no file" in refused(capsys, run("stats", "--db", store, "--html", tmp_path, "--force"))


async def test_what_takes_long_says_how_far_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "BATCH", 2)
    monkeypatch.setattr(command, "_SILENT_SECONDS", 0.0)
    told: list[int] = []
    progress = command._Progress()

    def both(count: int) -> None:
        told.append(count)
        progress(count)

    await filled(tmp_path / "d.db", [made() for _ in range(5)])
    await rows.summary(url(tmp_path / "d.db"), query=Query(), names=known(), progress=both)
    assert told[:3] == [2, 4, 5]
    assert "rescue-cds: 5 decisions read" in capsys.readouterr().err


def test_the_help_names_the_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["stats", "--help"])
    assert "exit status: 0 done, 2" in capsys.readouterr().out
