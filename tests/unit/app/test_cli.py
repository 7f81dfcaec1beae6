"""The command line: exit statuses, what goes to which stream, and what is refused before anything starts."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pytest

from app import cli
from app.protocols.fields import KnowledgeError
from app.sandbox import demo
from app.store.errors import BadDatabase
from tests.unit.app.bundles import bundle, resources

NOW = "2026-11-23T12:00:00Z"
CONFIG = """
[service]
host = "0.0.0.0"
port = 9001
allow_unauthenticated = true
suggest_on = "pilot-full"

[[tenants]]
name = "h"
zone = "Europe/Paris"
fhir_bases = ["https://fhir.example.org/r4"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "bundle.json"
    path.write_bytes(bundle(resources("demo-us-units")))
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "site.toml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


def run(*arguments: Any) -> int:
    """The exit status, whichever way the command leaves."""
    try:
        return cli.main([str(argument) for argument in arguments])
    except SystemExit as left:
        return int(left.code or 0)


def refused(capsys: pytest.CaptureFixture[str], status: int, expected: int = 2) -> str:
    out, err = capsys.readouterr()
    assert status == expected
    assert out == ""
    assert err
    assert "Traceback" not in err
    return err


# --- evaluate -----------------------------------------------------------------------------------------------


def test_the_table(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("evaluate", file, "--now", NOW) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("Patient/demo-us-units at 2026-11-23T12:00:00Z\n")
    assert "pilot-simple" in out
    assert "pilot-full" in out


def test_the_json(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("evaluate", file, "--now", NOW, "--json") == 0
    out, err = capsys.readouterr()
    assert err == ""
    answer = json.loads(out)
    assert (answer["schema"], answer["now"]) == (1, "2026-11-23T12:00:00Z")
    assert len(answer["suggestions"]) == 2


def test_one_protocol_of_both(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for ids in (["pilot-full"], ["pilot-full", "pilot-simple"]):
        arguments = [word for id_ in ids for word in ("--protocol", id_)]
        assert run("evaluate", file, "--now", NOW, "--json", *arguments) == 0
        answer = json.loads(capsys.readouterr().out)
        assert {p["id"] for p in answer["protocols"]} == set(ids)
        assert answer["cards"]


def test_standard_input(monkeypatch: pytest.MonkeyPatch, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Stream:
        buffer = io.BytesIO(file.read_bytes())

    monkeypatch.setattr(sys, "stdin", Stream())
    assert run("evaluate", "-", "--now", NOW) == 0
    assert "demo-us-units" in capsys.readouterr().out


def test_the_zone_is_the_flag_the_file_or_utc(file: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, mark in (((), "UTC"), (("--config", config), "CET"), (("--timezone", "Asia/Tokyo"), "JST")):
        assert run("evaluate", file, "--now", NOW, "--json", *arguments) == 0
        assert mark in json.loads(capsys.readouterr().out)["cards"][0]["detail"]


def test_the_switches_of_a_site_count(file: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file asks for the full protocol, which this patient does not meet."""
    assert run("evaluate", file, "--now", NOW, "--json", "--config", config) == 0
    assert json.loads(capsys.readouterr().out)["suggestions"] == []


def test_now_is_the_clock_when_it_is_not_given(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("evaluate", file, "--json") == 0
    assert json.loads(capsys.readouterr().out)["now"] != NOW


@pytest.mark.parametrize(
    "now",
    ["yesterday", "2026-11-23T12:00:00", "2026-11-23", "0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-12:00", ""],
)
def test_a_now_that_is_none(file: Path, now: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--now" in refused(capsys, run("evaluate", file, f"--now={now}"))


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../../etc/passwd", "/etc/localtime", "CET+1"])
def test_a_zone_that_is_none(file: Path, zone: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--timezone" in refused(capsys, run("evaluate", file, "--timezone", zone))


def test_an_unknown_protocol(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "known are pilot-simple, pilot-full" in refused(capsys, run("evaluate", file, "--protocol", "trial"))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"resourceType": "Patient", "id": "canary"}',
        b'{"resourceType": "Bundle"}',
        b'{"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "Patient"}}]}',
        b"[" * 100_000,
        bundle([{"resourceType": "Patient", "id": "canary-1"}, {"resourceType": "Patient", "id": "canary-2"}]),
    ],
    ids=["empty", "cut", "array", "null", "no text", "no bundle", "no entries", "no id", "deep", "two patients"],
)
def test_a_file_that_is_no_bundle(tmp_path: Path, raw: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(raw)
    for arguments in ((), ("--json",)):
        assert "canary" not in refused(capsys, run("evaluate", path, *arguments))


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "cannot be read" in refused(capsys, run("evaluate", tmp_path / "none.json"))
    assert "cannot be read" in refused(capsys, run("evaluate", tmp_path))


def test_the_wrong_patient(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--patient" in refused(capsys, run("evaluate", file, "--patient", "canary"))


def test_a_configuration_that_is_not_usable_is_an_input_too(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("[service]\nport = 'x'\n", encoding="utf-8")
    assert "wrong.toml" in refused(capsys, run("evaluate", file, "--config", wrong))


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("evaluate",),
        ("fly",),
        ("evaluate", "x", "--what"),
        *(("serve", "--workers", workers) for workers in ("0", "65", "-1", "two", "100")),
        *((command, "--port", port) for command in ("serve", "demo") for port in ("0", "65534", "99999", "-1", "http")),
    ],
)
def test_a_command_line_that_is_none(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, run(*arguments))


def test_help_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    assert "not a medical device" in " ".join(capsys.readouterr().out.split())


def test_the_module_is_the_command(file: Path) -> None:
    """In a process of its own: the streams, the status, and no log on either."""
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "evaluate", str(file), "--now", NOW, "--json"],
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["schema"] == 1
    done = subprocess.run([sys.executable, "-m", "app.cli", "evaluate", "none"], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (2, b"")


# --- serve and the rest -------------------------------------------------------------------------------------


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What would have been served."""
    calls: list[dict[str, Any]] = []

    def run(server: dict[str, Any], *, operators: dict[str, Any], **more: Any) -> int:
        more["draining"]()
        calls.extend([server | more, operators])
        return 0

    monkeypatch.delenv("RESCUE_CDS_DB", raising=False)
    monkeypatch.setattr("app.cli.edge.server", lambda app, **more: {"app": app, **more})
    monkeypatch.setattr("app.cli.edge.run", run)
    monkeypatch.setattr("app.cli.logs.configure", lambda: None)
    return calls


def db(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path / 'd.db'}"


def test_the_dev_profile_says_that_it_is_open(
    served: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bases = ["http://127.0.0.1:8080/fhir", "https://fhir.example.org/r4/"]
    assert run("serve", "--db", db(tmp_path), *(w for b in bases for w in ("--fhir-url", b))) == 0
    call, operators = served
    assert (call["host"], call["port"]) == ("127.0.0.1", 8000)
    assert (operators["host"], operators["port"]) == ("127.0.0.1", 8001)
    assert call["app"].state.service.settings.bases == ("http://127.0.0.1:8080/fhir", "https://fhir.example.org/r4")
    err = capsys.readouterr().err
    assert "open to any client" in err
    assert "http://127.0.0.1:8000/cds-services" in err
    assert f"record: SQLite, {tmp_path / 'd.db'}" in err
    assert (call["ending"].drain_seconds, call["app"].state.draining) == (0, True)


def test_without_a_base_only_prefetch_is_evaluated(
    served: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("serve", "--db", db(tmp_path), "--port", 9009, "--timezone", "Europe/Paris") == 0
    assert "only prefetch is evaluated" in capsys.readouterr().err
    assert served[0]["port"] == 9009
    assert str(served[0]["app"].state.service.settings.tenants[0].zone) == "Europe/Paris"


def test_a_file_may_bind_elsewhere_and_flags_win(
    served: list[dict[str, Any]], config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("serve", "--config", config, "--db", db(tmp_path)) == 0
    assert "allow_unauthenticated" in capsys.readouterr().err
    assert run("serve", "--config", config, "--db", db(tmp_path), "--host", "10.0.0.1", "--port", 7) == 0
    assert served[0]["ending"] == cli.edge.Ending(5.0, 7.4)
    assert [(call["host"], call["port"]) for call in served] == [
        ("0.0.0.0", 9001),  # noqa: S104
        ("127.0.0.1", 8001),
        ("10.0.0.1", 7),
        ("127.0.0.1", 8001),
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--host", "0.0.0.0"),  # noqa: S104
        ("--fhir-url", "ftp://fhir.example.org"),
        ("--timezone", "Mars/Olympus"),
        ("--db", "mysql://x"),
    ],
)
def test_what_must_not_start_does_not(
    served: list[dict[str, Any]], arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    refused(capsys, run("serve", *arguments), 1)
    assert served == []


def test_flags_that_belong_into_the_file(
    served: list[dict[str, Any]], config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (("--fhir-url", "https://x.example"), ("--timezone", "UTC")):
        assert "stand in the file" in refused(capsys, run("serve", "--config", config, *arguments), 1)
    assert served == []


def test_the_start_is_said_with_both_addresses(
    served: list[dict[str, Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="app.cli")
    assert run("serve", "--db", db(tmp_path), "--port", 9000) == 0
    assert caplog.records == []
    served[0]["started"]()
    said = [(line.name, line.msg, line.__dict__["host"], line.__dict__["port"]) for line in caplog.records]
    assert said == [
        ("app.cli", "serving clients", "127.0.0.1", 9000),
        ("app.cli", "serving operators", "127.0.0.1", 9001),
    ]


def test_the_demo_names_its_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("app.sandbox.demo.create_app", lambda settings: mock.MagicMock(db=settings.db))
    monkeypatch.setattr("app.sandbox.demo.create_operators", lambda _: mock.MagicMock())
    demo._servers(port=8080, fhir_url=None, folder=tmp_path)
    assert f"\n  record        RESCUE_CDS_DB=sqlite+aiosqlite:///{tmp_path}/decisions.db\n" in capsys.readouterr().err


def test_the_database_may_stand_in_the_environment(
    served: list[dict[str, Any]],
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config.write_text(CONFIG + f'[store]\nurl = "{db(tmp_path)}"\n', encoding="utf-8")
    chosen = [f"sqlite+aiosqlite:///{tmp_path / name}.db" for name in ("environment", "option")]
    assert run("serve", "--config", config) == 0
    monkeypatch.setenv("RESCUE_CDS_DB", chosen[0])
    assert run("serve", "--config", config) == 0
    assert run("serve", "--config", config, "--db", chosen[1]) == 0
    monkeypatch.setenv("RESCUE_CDS_DB", "")
    assert run("serve", "--config", config) == 0
    assert [call["app"].state.service.settings.db for call in served[::2]] == [db(tmp_path), *chosen, db(tmp_path)]
    monkeypatch.setenv("RESCUE_CDS_DB", "postgresql://rescue:kept-out-of-messages@db.example.org/cds?ssl=require")
    assert run("serve", "--config", config) == 0
    said = "".join(capsys.readouterr())
    assert "record: PostgreSQL, db.example.org/cds" in said
    assert "kept-out" not in said
    assert served[-2]["app"].state.service.settings.replay == "database"


def test_what_keeps_the_record_from_opening_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the server that starts: its own log has the error's class only."""
    monkeypatch.setattr("app.cli.logs.configure", lambda: None)
    with closing(sqlite3.connect(tmp_path / "d.db")) as connection:
        connection.execute("create table canary (x)")
    first = free_ports(2)
    assert run("serve", "--db", db(tmp_path), "--port", first) == 1
    err = capsys.readouterr().err
    assert f"rescue-cds: SQLite, {tmp_path / 'd.db'}: the database holds tables that are not of this service" in err
    assert "canary" not in err


def free_ports(count: int) -> int:
    """The first of so many in a row."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            first: int = probe.getsockname()[1]
        with suppress(OSError):
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            return first


# --- several processes


POSTGRESQL = "postgresql://rescue:kept-out-of-messages@127.0.0.1:1/cds"


@pytest.fixture
def parents(served: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Parents that would have run."""
    calls: list[dict[str, Any]] = []

    def run(command: list[str], **more: Any) -> int:
        for one in more["listening"]:
            one.close()
        calls.append({"command": command, **more})
        return 0

    monkeypatch.setattr("app.cli.workers.run", run)
    return calls


def test_a_parent_binds_and_has_the_same_command_run(
    parents: list[dict[str, Any]],
    served: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RESCUE_CDS_DB", POSTGRESQL)
    first = free_ports(4)
    assert run("serve", "--port", first, "--workers", 3) == 0
    (parent,) = parents
    assert parent["command"][-6:] == ["serve", "--port", str(first), "--workers", "3", "--inherited"]
    assert (parent["number"], parent["stop_seconds"]) == (3, cli.edge.Ending(0.0, 7.4).longest_seconds)
    assert served == [], "the parent has no application"
    err = capsys.readouterr().err
    assert f"operators: http://127.0.0.1:{first + 1}/ to {first + 3}, one a process" in err
    assert "kept-out" not in err


def test_a_process_serves_what_it_inherits(served: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESCUE_CDS_DB", POSTGRESQL)
    mine, its = socket.socketpair()
    bound = socket.socket()
    told = f"2:{os.dup(bound.fileno())}:{os.dup(its.fileno())}"
    assert run("serve", "--workers", 3, "--inherited", told) == 0
    service, operators = served
    with mine, its, bound, service["listening"][0] as listening:
        assert os.fstat(listening.fileno()).st_ino == os.fstat(bound.fileno()).st_ino
        assert (operators["host"], operators["port"]) == ("127.0.0.1", 8003)
        service["started"]()
        assert mine.recv(9) == b"+"
        service["alone"].__self__.line.close()


CLIENTS = """
[[clients]]
id = "ehr"
issuer = "https://ehr.example.org"
jwks_url = "https://ehr.example.org/jwks.json"
audiences = ["https://cds.example.org"]
tenants = ["h"]
"""


@pytest.mark.parametrize(
    ("database", "more", "said"),
    [
        ("sqlite+aiosqlite:///d.db", "", "service.workers: SQLite is for one process: use PostgreSQL or --workers 1"),
        ("mysql://h/d", "", "decisions are kept in SQLite or PostgreSQL"),
        (POSTGRESQL, CLIENTS + '[trust]\nreplay = "memory"\n', 'trust.replay: one token .* write "database"'),
    ],
    ids=["sqlite", "mysql", "memory"],
)
def test_processes_that_would_not_share_are_refused(
    parents: list[dict[str, Any]],
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    database: str,
    more: str,
    said: str,
) -> None:
    text = CONFIG.replace("[service]", "[service]\nworkers = 2") + more
    config.write_text(text.replace("allow_unauthenticated = true", "") if more else text, encoding="utf-8")
    monkeypatch.chdir(config.parent)
    monkeypatch.setenv("RESCUE_CDS_DB", database)
    assert re.search(said, refused(capsys, run("serve", "--config", config), 1))
    assert parents == []
    if database.startswith("sqlite"):
        assert run("serve", "--config", config, "--workers", 1) == 0


def test_a_port_that_is_taken_is_named(
    parents: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RESCUE_CDS_DB", POSTGRESQL)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert "cannot be bound" in refused(capsys, run("serve", "--port", port, "--workers", 2), 1)
    assert parents == []


@pytest.mark.parametrize("error", [KnowledgeError("app/protocols/x: y: z"), BadDatabase("wrong")])
def test_what_is_wrong_with_the_installation_is_status_1(
    error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(cli, "create_app", broken)
    assert str(error) in refused(capsys, run("serve", "--db", db(tmp_path)), 1)


def test_the_demo_gets_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []

    def demo(**given: Any) -> int:
        calls.append(given)
        return 0

    monkeypatch.setattr("app.cli.demo.run", demo)
    assert run("demo") == 0
    assert run("demo", "--port", 9000, "--fhir-url", "https://fhir.example.org") == 0
    assert calls == [
        {"port": 8080, "fhir_url": None},
        {"port": 9000, "fhir_url": "https://fhir.example.org"},
    ]


def test_openapi_is_printed_and_leaves_no_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("openapi") == 0
    assert list(tmp_path.iterdir()) == []
    out = capsys.readouterr().out
    assert out == (Path(__file__).resolve().parents[3] / "openapi.yaml").read_text(encoding="utf-8")
    assert msgspec.json.encode(out)


def test_doctor_has_exit_statuses_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert "which FHIR server?" in refused(capsys, run("doctor"))


# --- silenced, and published --------------------------------------------------------------------------------


def test_what_is_not_shown_is_said_at_the_start(
    served: list[dict[str, Any]], config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(CONFIG + '\n[protocols]\nsilent = ["pilot-simple"]\n[snooze]\nhours = 6\n', encoding="utf-8")
    assert run("serve", "--config", config, "--db", db(tmp_path)) == 0
    said = capsys.readouterr().err
    assert "silent, evaluated and recorded only: pilot-simple\n" in said
    assert "snoozed for 6 h while nothing changes: undetermined\n" in said
    assert served[0]["app"].state.service.settings.silent == {"pilot-simple"}


def test_what_is_silenced_is_served_so_and_said(
    served: list[dict[str, Any]],
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RESCUE_CDS_SILENCED", "pilot-followup")
    config.write_text(CONFIG + '\n[protocols]\nsilenced = ["pilot-simple"]\n', encoding="utf-8")
    assert run("serve", "--config", config, "--db", db(tmp_path)) == 0
    assert run("serve", "--db", db(tmp_path)) == 0
    first, second = (call["app"].state.service.settings.silenced for call in served[::2])
    assert (first, second) == ({"pilot-simple", "pilot-followup"}, {"pilot-followup"})
    assert "silenced: pilot-followup, pilot-simple\n" in capsys.readouterr().err


def test_a_misspelt_environment_stops_the_start_and_the_evaluation(
    served: list[dict[str, Any]], file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("RESCUE_CDS_SILENCED", "pilot-simpel")
    assert "RESCUE_CDS_SILENCED: no protocol of that id" in refused(capsys, run("serve", "--db", db(tmp_path)), 1)
    assert served == []
    assert "RESCUE_CDS_SILENCED: no protocol of that id" in refused(capsys, run("evaluate", file, "--now", NOW))


def test_evaluate_shows_what_patient_view_would(
    file: Path, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(*arguments: Any) -> dict[str, Any]:
        assert run("evaluate", file, "--now", NOW, "--json", *arguments) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    whole = answer()
    assert len(whole["cards"]) == 1
    assert "url" not in whole["cards"][0]["source"]
    config.write_text(
        CONFIG.replace("port = 9001", 'port = 9001\npublic_url = "https://h.example.org"'), encoding="utf-8"
    )
    [card] = answer("--config", config)["cards"]
    assert card["source"]["url"] == "https://h.example.org/source-attributes"

    monkeypatch.setenv("RESCUE_CDS_SILENCED", "pilot-simple")
    silenced = answer()
    assert (silenced["cards"], silenced["suggestions"]) == ([], [])
    assert {p["id"] for p in silenced["protocols"]} == {p["id"] for p in whole["protocols"]} - {"pilot-simple"}
    assert silenced["safety"] == whole["safety"]
    [named] = answer("--protocol", "pilot-simple")["protocols"]
    assert named["verdict"] == "met"

    monkeypatch.setenv("RESCUE_CDS_SILENCED", "all")
    nothing = answer()
    assert (nothing["cards"], nothing["protocols"]) == ([], [])
