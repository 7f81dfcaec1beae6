"""`rescue-cds decisions export`, run as a command, against files, a pipe and a repository on this machine."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from app.export import command, push
from app.export.rows import Cursor
from tests import databases
from tests.unit.app.export.record import filled, numbered, row

TOKEN = "canary-token-55aa"


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.register(parser.add_subparsers())
    options = parser.parse_args(["export", *arguments])
    return int(options.run(options))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return asyncio.run(filled(tmp_path / "decisions.db", [row(number) for number in (1, 2, 3)]))


@pytest.fixture(autouse=True)
def no_database_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESCUE_CDS_DB", raising=False)


@dataclass
class Repository:
    """A repository on this machine: what it holds by `Type/id`, and what it was told to answer by kind."""

    base: str = ""
    held: dict[str, Any] = field(default_factory=dict)
    tokens: set[str | None] = field(default_factory=set)
    answers: dict[str, list[int]] = field(default_factory=dict)


@pytest.fixture
def repository() -> Iterator[Repository]:
    found = Repository()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            kind, _, id_ = self.path.removeprefix("/fhir/").partition("/")
            left = found.answers.get(kind, [])
            status = left.pop(0) if left else 201
            found.tokens.add(self.headers.get("authorization"))
            if status < 300:
                found.held[f"{kind}/{id_}"] = json.loads(body)
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    found.base = f"http://127.0.0.1:{server.server_port}/fhir"
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def cursor(said: str) -> str:
    found = re.findall(r"--after (\S+)", said)
    assert len(found) == 1
    return str(found[0])


def test_a_file_is_whole_private_and_the_same_again(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "a.ndjson", tmp_path / "b.ndjson"
    assert run("--db", url, "--out", str(first)) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "3 of 3 decisions" in said.err
    assert Cursor.read(cursor(said.err)).id == numbered(3)
    assert stat.S_IMODE(first.stat().st_mode) == 0o600
    assert not first.with_name("a.ndjson.part").exists()
    assert [one["resourceType"] for one in lines(first)].count("GuidanceResponse") == 3
    assert run("--db", url, "--out", str(second)) == 0
    assert second.read_bytes() == first.read_bytes()


def test_it_goes_on_with_the_cursor(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--db", url, "--out", str(tmp_path / "a.ndjson")) == 0
    after = cursor(capsys.readouterr().err)
    asyncio.run(filled(tmp_path / "decisions.db", [row(4)]))
    assert run("--db", url, "--out", str(tmp_path / "b.ndjson"), "--after", after) == 0
    said = capsys.readouterr().err
    assert "1 of 1 decisions" in said
    (response,) = [one for one in lines(tmp_path / "b.ndjson") if one["resourceType"] == "GuidanceResponse"]
    assert response["identifier"][0]["value"] == f"urn:uuid:{numbered(4)}"


def test_standard_output_is_the_default(url: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert run("--db", url, "--only", "GuidanceResponse, Device") == 0
    out = capfdbinary.readouterr().out
    assert [json.loads(line)["resourceType"] for line in out.splitlines()].count("GuidanceResponse") == 3
    assert b"AuditEvent" not in b"".join(line[:40] for line in out.splitlines())


def test_a_reader_who_has_enough(tmp_path: Path) -> None:
    path = tmp_path / "decisions.db"
    many = asyncio.run(filled(path, [row(number, answer=b"x" * 10) for number in range(1, 150)]))
    code = (
        "import argparse, sys; from app.export import command; p = argparse.ArgumentParser();"
        "command.register(p.add_subparsers()); o = p.parse_args(['export', '--db', sys.argv[1]]); sys.exit(o.run(o))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, many], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ}
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read().decode()
    assert process.returncode == 1
    assert "to go on: " in said
    assert "Traceback" not in said
    assert "Exception" not in said


def test_what_is_there_is_not_overwritten_unless_told(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.ndjson"
    out.write_text("mine")
    assert run("--db", url, "--out", str(out)) == 2
    assert "a.ndjson: exists" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert run("--db", url, "--out", str(out), "--force") == 0
    assert len(lines(out)) > 3
    (tmp_path / "b.ndjson.part").write_text("mine")
    assert run("--db", url, "--out", str(tmp_path / "b.ndjson")) == 2


def test_a_push_twice_is_the_same_repository(
    url: str,
    tmp_path: Path,
    repository: Repository,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")
    arguments = ("--db", url, "--push", repository.base, "--token-file", str(token))
    assert run(*arguments) == 0
    said = capsys.readouterr()
    once = dict(repository.held)
    assert f"{len(once)} taken, 0 refused" in said.err
    assert run(*arguments) == 0
    assert repository.held == once
    assert repository.tokens == {f"Bearer {TOKEN}"}
    assert TOKEN not in said.err + said.out + capsys.readouterr().err
    assert said.out == "", "what is pushed is not printed too"
    assert not (tmp_path / command.REJECTED).exists()


def test_what_is_refused_for_good_is_kept(
    url: str, tmp_path: Path, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.answers["GuidanceResponse"] = [422]
    rejected, out = tmp_path / "no.ndjson", tmp_path / "all.ndjson"
    arguments = ("--db", url, "--push", repository.base, "--rejected", str(rejected), "--out", str(out))
    assert run(*arguments) == 1
    (kept,) = lines(rejected)
    assert kept["resourceType"] == "GuidanceResponse"
    assert stat.S_IMODE(rejected.stat().st_mode) == 0o600
    assert len(lines(out)) == len(repository.held) + 1
    said = capsys.readouterr().err
    assert f"GuidanceResponse/{kept['id']}: refused (422)" in said
    assert "1 refused" in said


def test_a_repository_that_takes_no_more(
    url: str,
    tmp_path: Path,
    repository: Repository,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(push, "FIRST_PAUSE", 0.0)
    repository.answers["GuidanceResponse"] = [201, *[503] * push.ATTEMPTS]
    out = tmp_path / "a.ndjson"
    assert run("--db", url, "--push", repository.base, "--out", str(out), "--rejected", str(tmp_path / "r")) == 3
    said = capsys.readouterr().err
    assert f"--push: {repository.base.split('/')[2]}: it answers 503" in said
    after = cursor(said)
    assert Cursor.read(after).id == numbered(1), "the second decision has not been taken as a whole"
    assert not out.exists()
    assert lines(tmp_path / "a.ndjson.part")
    assert run("--db", url, "--push", repository.base, "--after", after) == 0
    assert len([name for name in repository.held if name.startswith("GuidanceResponse/")]) == 3


def test_where_nothing_was_taken_there_is_no_cursor(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push, "FIRST_PAUSE", 0.0)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    nowhere = ("--db", url, "--push", f"http://127.0.0.1:{port}/fhir/secret-path")
    assert run(*nowhere) == 3
    said = capsys.readouterr().err
    assert said.endswith("rescue-cds: to go on: the same command again\n")
    assert f"--push: 127.0.0.1:{port}: connection refused, after 9 attempts" in said
    assert "secret-path" not in said
    given = f"2026-11-23T12:00:01.000000+00:00/{numbered(1)}/0/0"
    assert run(*nowhere, "--after", given) == 3
    assert cursor(capsys.readouterr().err) == given
    assert run("--db", url, "--since", "2030-01-01", "--out", str(tmp_path / "a.ndjson")) == 0
    assert "to go on" not in capsys.readouterr().err


def test_rows_without_a_valid_form_are_told_in_the_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = asyncio.run(filled(tmp_path / "decisions.db", [row(1, hook_instance="")]))
    assert run("--db", url, "--out", str(tmp_path / "a.ndjson")) == 1
    assert f"decision {numbered(1)}: no valid GuidanceResponse" in capsys.readouterr().err


def test_no_profiles(url: str, tmp_path: Path) -> None:
    assert run("--db", url, "--no-profiles", "--out", str(tmp_path / "a.ndjson")) == 0
    assert not any("meta" in one or "extension" in one for one in lines(tmp_path / "a.ndjson"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--since", "yesterday"], "--since: write 2026-11-01"),
        (["--until", "soon"], "--until: write 2026-11-01"),
        (["--since", "2026-11-02", "--until", "2026-11-01"], "--since: lies behind --until"),
        (["--after", "x"], "--after: no cursor"),
        (["--only", "Patient"], "--only: one of them is no kind"),
        (["--push", "http://audit.example.org"], "--push: the address has to start with https://"),
        (["--push", "https://a.example.org", "--token-file", "absent"], "--token-file: absent: holds no token"),
        (["--out", "no/such/folder/a"], "no/such/folder: no such directory"),
        (["--config", "absent.toml"], "absent.toml: cannot be read"),
    ],
)
def test_what_cannot_be_used(arguments: list[str], said: str, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--db", url, *arguments) == 2
    assert said in capsys.readouterr().err


def test_a_database_that_is_none_leaves_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a.ndjson"
    assert run("--db", f"sqlite+aiosqlite:///{tmp_path}/absent.db", "--out", str(out)) == 2
    assert capsys.readouterr().err.startswith(f"rescue-cds: SQLite, {tmp_path}/absent.db: no database file is there")
    assert list(tmp_path.iterdir()) == []


def test_the_environment_names_the_database(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RESCUE_CDS_DB", url)
    assert run("--out", str(tmp_path / "a.ndjson")) == 0
    assert "3 of 3" in capsys.readouterr().err


def test_long_exports_say_where_they_stand(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    moment = [100.0]
    monkeypatch.setattr(command.time, "monotonic", lambda: moment[0])
    progress = command._Progress(10, started=100.0)
    for seconds in (1.0, 2.5, 3.0, 5.0):
        moment[0] = 100.0 + seconds
        progress.took(decisions=1, resources=4, at=row(1).created_at)
    assert capsys.readouterr().err.splitlines() == [
        "rescue-cds: 2 of 10 decisions, 8 resources, 3 a second, at 2026-11-23T12:00:01+00:00",
        "rescue-cds: 4 of 10 decisions, 16 resources, 3 a second, at 2026-11-23T12:00:01+00:00",
    ]


def test_interrupted_it_says_from_where_to_go_on(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = command._Job._take

    async def interrupted(job: Any, entry: Any) -> None:
        if entry.decision == numbered(2):
            raise KeyboardInterrupt
        await taken(job, entry)

    monkeypatch.setattr(command._Job, "_take", interrupted)
    assert run("--db", url, "--out", str(tmp_path / "a.ndjson")) == 130
    assert Cursor.read(cursor(capsys.readouterr().err)).id == numbered(1)
    assert [one["resourceType"] for one in lines(tmp_path / "a.ndjson.part")].count("GuidanceResponse") == 1


def test_it_reads_only(url: str, tmp_path: Path) -> None:
    database = databases.newest(tmp_path / "decisions.db")

    def held() -> dict[str, list[tuple[Any, ...]]]:
        return {table: database.rows(f'select * from "{table}"') for table in database.tables()}  # noqa: S608

    before = held()
    assert run("--db", url, "--out", str(tmp_path / "a.ndjson")) == 0
    assert held() == before
    assert before["decisions"]
