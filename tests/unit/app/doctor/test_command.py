"""The options of doctor: what is refused before anything is asked, and what it answers with."""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from app import cli
from app.doctor import command
from app.doctor.examination import Case
from app.doctor.findings import Findings
from app.protocols.fields import KnowledgeError
from app.settings import load
from tests.unit.app.doctor.test_report import all_ready, findings

URL = "https://fhir.example.org/r4"
CONFIG = """
[service]
allow_unauthenticated = true
deadline_seconds = 2

[fhir]
reads_per_hook = 4

[[tenants]]
name = "h"
zone = "Europe/Paris"
fhir_bases = ["https://fhir.example.org/r4"]
"""
Examine = Callable[[Findings], list[Case]]


@pytest.fixture
def examined(monkeypatch: pytest.MonkeyPatch) -> Examine:
    """Findings that an examination shall have; the cases that were asked for."""

    def prepare(result: Findings) -> list[Case]:
        cases: list[Case] = []

        async def examine(case: Case, **_: Any) -> Findings:
            cases.append(case)
            await asyncio.sleep(0)
            return result

        monkeypatch.setattr(command, "examine", examine)
        return cases

    return prepare


def run(*arguments: Any) -> int:
    try:
        return cli.main(["doctor", *(str(one) for one in arguments)])
    except SystemExit as left:
        return int(left.code or 0)


def case(*arguments: Any) -> Case:
    options = cli._parser().parse_args(["doctor", *(str(one) for one in arguments)])
    return command.case_of(options)


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        ([], "which FHIR server?"),
        (["--fhir-url", "ftp://x"], "http:// or https://"),
        (["--fhir-url", "http://fhir.example.org/r4"], "--allow-http"),
        (["--fhir-url", URL, "--timezone", "Mars/Base"], "Europe/Paris"),
        (["--fhir-url", URL, "--now", "yesterday"], "with its zone"),
        (["--fhir-url", URL, "--now", "2026-11-21T08:00:00"], "with its zone"),
        (["--fhir-url", URL, "--now", "0001-01-01T00:00:00+14:00"], "with its zone"),
        (["--fhir-url", URL, "--patient", "a/b"], "not a FHIR id"),
        (["--fhir-url", URL, "--patient", "x", "--sample", "2"], "--patient and --sample"),
        (["--fhir-url", URL, "--sample", "0"], "from 1 to 50"),
        (["--fhir-url", URL, "--sample", "51"], "from 1 to 50"),
        (["--fhir-url", URL, "--sample", "9999999999"], "from 1 to 50"),
        (["--fhir-url", URL, "--sample", "two"], "from 1 to 50"),
        (["--fhir-url", URL, "--seconds", "0"], "seconds from"),
        (["--fhir-url", URL, "--seconds", "nan"], "seconds from"),
        (["--fhir-url", URL, "--seconds", "x"], "seconds from"),
        (["--fhir-url", URL, "--minutes", "0"], "minutes from 1 to 240"),
        (["--fhir-url", URL, "--minutes", "241"], "minutes from 1 to 240"),
        (["--fhir-url", URL, "--minutes", "soon"], "minutes from 1 to 240"),
        (["--fhir-url", URL, "--overlay-draft", "x" * 300], "name a new file"),
        (["--fhir-url", URL, "--overlay-draft", "pyproject.toml/x"], "name a new file"),
        (["--fhir-url", URL, "--overlay-draft", "a\0b"], "name a new file"),
        (["--fhir-url", URL, "--token-file", "/nowhere/token"], "cannot be read"),
        (["--fhir-url", URL, "--config", "/nowhere/c.toml"], "cannot be read"),
        (["--fhir-url", URL, *(word for n in range(51) for word in ("--patient", n))], "at most 50"),
    ],
)
def test_what_cannot_be_used_is_refused(
    arguments: list[Any], remedy: str, examined: Examine, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = examined(all_ready())
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert remedy in err
    assert cases == []


def test_what_is_asked_for_without_anything_else() -> None:
    made = case("--fhir-url", f"{URL}/")
    assert (made.base, made.token, made.patients, made.sample, made.seconds) == (URL, None, (), 5, 20.0)
    assert made.total_seconds == 900.0
    assert case("--fhir-url", URL, "--minutes", "2").total_seconds == 120.0
    assert (made.tenant.zone.key, made.deadline_seconds, made.limits.call_seconds) == ("UTC", 1.4, 1.2)
    assert abs((datetime.now(UTC) - made.now).total_seconds()) < 60


def test_options_reach_the_examination() -> None:
    made = case(
        *("--fhir-url", "http://fhir.example.org/r4", "--allow-http", "--patient", "Patient/a", "--patient", "a"),
        *("--patient", "b", "--timezone", "Europe/Berlin", "--now", "2026-11-21T08:00:00+01:00", "--seconds", "3"),
    )
    assert (made.base, made.patients, made.seconds) == ("http://fhir.example.org/r4", ("a", "b"), 3.0)
    assert (made.tenant.zone.key, made.now) == ("Europe/Berlin", datetime(2026, 11, 21, 7, tzinfo=UTC))
    assert case("--fhir-url", "http://127.0.0.1:8080/fhir", "--sample", "2").sample == 2


def test_a_configuration_gives_address_zone_and_limits(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(CONFIG, encoding="utf-8")
    made = case("--config", path)
    assert (made.base, made.tenant, made.deadline_seconds, made.reads) == (URL, load(path).tenants[0], 2.0, 4)
    assert made.limits == load(path).fhir
    assert case("--config", path, "--fhir-url", f"{URL}/", "--timezone", "UTC").tenant.zone.key == "UTC"


def test_an_address_beside_the_configuration_is_one_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.toml"
    path.write_text(CONFIG, encoding="utf-8")
    assert run("--config", path, "--fhir-url", "https://elsewhere.example.org") == 2
    path.write_text(CONFIG.replace('["https', '["https://a.example.org", "https'), encoding="utf-8")
    assert run("--config", path) == 2
    assert capsys.readouterr().err.count("name one of the addresses in fhir_bases") == 2


# --- the token --------------------------------------------------------------------------------------------

TOKEN = "canary-token.9f3c-1b"


def test_a_token_is_read_without_the_white_space_around_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "token"
    path.write_text(f"\n {TOKEN}\r\n", encoding="utf-8")
    path.chmod(0o600)
    made = case("--fhir-url", URL, "--token-file", path)
    assert made.token == TOKEN
    assert TOKEN not in repr(made)
    assert capsys.readouterr().err == ""


def test_a_token_that_everybody_can_read_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "token"
    path.write_text(TOKEN, encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IROTH)
    assert case("--fhir-url", URL, "--token-file", path).token == TOKEN
    err = capsys.readouterr().err
    assert "chmod 600" in err
    assert TOKEN not in err


def test_a_token_may_come_through_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    there, here = os.pipe()
    os.write(here, TOKEN.encode())
    os.close(here)
    assert case("--fhir-url", URL, "--token-file", f"/dev/fd/{there}").token == TOKEN
    os.close(there)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "content", ["", f"Bearer {TOKEN}", f'"{TOKEN}"', f"{TOKEN}\n{TOKEN}", "t\u00f6ken", "x" * 70_000, f"{TOKEN}\x00"]
)
def test_what_is_no_token_alone_is_refused(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "token"
    path.write_text(content, encoding="utf-8")
    assert run("--fhir-url", URL, "--token-file", path) == 2
    err = capsys.readouterr().err
    assert "write only the token" in err
    assert TOKEN not in err


# --- what it answers with ---------------------------------------------------------------------------------


def test_the_report_goes_to_stdout_and_the_status_is_the_exit(
    examined: Examine, capsys: pytest.CaptureFixture[str]
) -> None:
    examined(all_ready())
    assert run("--fhir-url", URL) == 0
    assert "READY" in capsys.readouterr().out
    examined(findings())
    assert run("--fhir-url", URL, "--json") == 1
    assert capsys.readouterr().out.startswith('{\n  "schema": 1,')


def test_a_draft_is_written_beside_the_report(
    examined: Examine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    examined(findings())
    path = tmp_path / "overlay.toml"
    assert run("--fhir-url", URL, "--overlay-draft", path) == 1
    assert "percent_means_fraction" in path.read_text(encoding="utf-8")
    assert "nothing in it is in force" in capsys.readouterr().err


def test_a_terminal_that_knows_no_umlauts_gets_them_escaped(examined: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    examined(replace(findings(), uncoded={"Sauerstoffs\u00e4ttigung": 1}))
    kept = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(kept, encoding="ascii"))
    assert run("--fhir-url", URL) == 1
    assert b"Sauerstoffs\\xe4ttigung" in kept.getvalue()
    collected = io.StringIO()
    monkeypatch.setattr("sys.stdout", collected)
    assert run("--fhir-url", URL) == 1
    assert "Sauerstoffs\u00e4ttigung" in collected.getvalue()


def test_a_reader_who_has_gone_is_no_error(examined: Examine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examined(findings())
    draft = tmp_path / "overlay.toml"
    there, here = os.pipe()
    os.close(there)
    with open(here, "w", encoding="utf-8") as gone:
        monkeypatch.setattr("sys.stdout", gone)
        assert run("--fhir-url", URL, "--overlay-draft", draft) == 1
        gone.write("and what is left makes no noise either")
    assert draft.exists()


def test_progress_that_nobody_reads_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    there, here = os.pipe()
    os.close(there)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with open(here, "w", encoding="utf-8") as gone:
        monkeypatch.setattr("sys.stderr", gone)
        command._progress("to nobody")
        os.dup2(nowhere, gone.fileno())
    os.close(nowhere)


def test_a_file_that_exists_is_never_overwritten(
    examined: Examine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = examined(findings())
    path = tmp_path / "overlay.toml"
    path.write_text("signed", encoding="utf-8")
    assert run("--fhir-url", URL, "--overlay-draft", path) == 2
    assert run("--fhir-url", URL, "--overlay-draft", tmp_path / "nowhere" / "overlay.toml") == 2
    assert path.read_text(encoding="utf-8") == "signed"
    assert capsys.readouterr().err.count("name a new file") == 2
    assert cases == [], "said before anything was asked"


def test_a_file_that_came_meanwhile_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "overlay.toml"

    async def examine(*_: Any, **__: Any) -> Findings:
        await asyncio.sleep(0)
        path.write_text("signed", encoding="utf-8")
        return findings()

    monkeypatch.setattr(command, "examine", examine)
    assert run("--fhir-url", URL, "--overlay-draft", path) == 2
    assert path.read_text(encoding="utf-8") == "signed"
    assert "cannot be written" in capsys.readouterr().err


def test_nothing_seen_is_no_draft(examined: Examine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    examined(replace(findings(), inputs=(), patients=(), chosen="failed"))
    path = tmp_path / "overlay.toml"
    assert run("--fhir-url", URL, "--overlay-draft", path) == 3
    assert not path.exists()
    assert "not written" in capsys.readouterr().err


def test_an_interrupted_examination_ends_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def examine(*_: Any, **__: Any) -> Findings:
        await asyncio.sleep(0)
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "examine", examine)
    assert run("--fhir-url", URL) == 130
    out, err = capsys.readouterr()
    assert (out, err) == ("", "rescue-cds: interrupted\n")


def test_knowledge_that_cannot_be_loaded_is_no_gap_of_the_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load_() -> None:
        raise KnowledgeError("protocol.toml: wrong")

    monkeypatch.setattr("app.knowledge.load", load_)
    assert run("--fhir-url", URL) == 2
    assert "protocol.toml: wrong" in capsys.readouterr().err


def test_the_help_says_the_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    out = capsys.readouterr().out
    for status in ("0  ready", "1  gaps", "2  the command line", "3  unreachable", "130  interrupted"):
        assert status in out


def test_a_token_has_no_option_of_its_own() -> None:
    [action] = [a for a in cli._parser()._actions if isinstance(a, argparse._SubParsersAction)]
    options = {word for one in action.choices["doctor"]._actions for word in one.option_strings}
    assert "--token-file" in options
    assert "--token" not in options
    assert not any("password" in word or "secret" in word for word in options)
