"""`rescue-cds clients`: what check prints, and what add writes, or does not."""

from __future__ import annotations

import errno
import io
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from app import cli
from app.gateway.errors import Refused
from app.gateway.jwks import UrlSource
from app.settings import Settings, load
from tests.unit.app.registry import Ehr, configuration

EHR = Ehr("ehr", "https://ehr.example.org")
OTHER = Ehr("other", "https://other.example.org", kid="key-2")


class Terminal(io.StringIO):
    """Answers that somebody types."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return configuration(tmp_path, EHR.block(tmp_path, tenants=["hospital"]))


def run(*arguments: Any) -> int:
    return cli.main(["clients", *map(str, arguments)])


def test_check_prints_what_stands(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", "--config", config) == 0
    out = capsys.readouterr().out
    for said in (
        "ehr\n",
        "issuer      https://ehr.example.org",
        "kid key-1, EC",
        "algorithms  ES384, RS384",
        "audience    https://cds.example.org/cds-services/...",
        "tenant      hospital",
        "FHIR      https://fhir.example.org/r4",
        "services    all",
        "shown       cards",
        "no data     412",
    ):
        assert said in out, said


def test_check_says_why_a_registry_cannot_stand(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(config.read_text(encoding="utf-8").replace('"hospital"]', '"hospital", "*"]'), encoding="utf-8")
    assert run("check", "--config", config) == 1
    err = capsys.readouterr().err
    assert f"{config}:" in err
    assert "clients[0].tenants[1]: no wildcards: write every value out" in err


def test_check_says_when_nobody_is_registered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = configuration(tmp_path, service="allow_unauthenticated = true")
    assert run("check", "--config", config) == 0
    assert "everybody who reaches the service is answered" in capsys.readouterr().out


@pytest.mark.parametrize("answer", ["good", "refused", "none"])
def test_check_fetches_keys_when_it_is_asked_to(
    answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "https://ehr.example.org/jwks.json"
    config = configuration(tmp_path, EHR.block(tmp_path, tenants=["hospital"], jwks_file=None, jwks_url=url))
    asked: list[str] = []

    async def read(source: UrlSource) -> bytes:
        asked.append(source.url)
        if answer == "refused":
            raise Refused(status=403)
        return EHR.jwks().encode() if answer == "good" else b'{"keys": []}'

    monkeypatch.setattr(UrlSource, "read", read)
    assert run("check", "--config", config) == 0
    assert "not fetched: --fetch" in capsys.readouterr().out
    assert asked == []
    assert run("check", "--config", config, "--fetch") == (0 if answer == "good" else 1)
    out = capsys.readouterr().out
    assert asked == [url]
    assert {"good": "kid key-1, EC", "refused": "cannot be read (refused (403))", "none": "holds no key"}[answer] in out


def test_add_asks_checks_and_writes_a_commented_block(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other.json").write_text(OTHER.jwks(), encoding="utf-8")
    config.chmod(0o640)
    before = config.read_text(encoding="utf-8")
    typed = ["other", "https://other.example.org", "", "other.json", "", "hospital", "", "https://page.example.org", ""]
    monkeypatch.setattr("sys.stdin", Terminal("\n".join(typed) + "\n"))
    assert run("add", "--config", config) == 0
    after = config.read_text(encoding="utf-8")
    assert after.startswith(before.rstrip("\n"))
    assert after.count("#") > before.count("#")
    assert stat.S_IMODE(config.stat().st_mode) == 0o640
    client = load(config).clients[1]
    assert (client.id, client.issuer, client.silent) == ("other", "https://other.example.org", True)
    assert client.origins == {"https://page.example.org"}
    assert "clients check" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


GIVEN = ("--id", "other", "--issuer", "https://other.example.org", "--tenant", "hospital", "--silent", "no")


def test_add_can_be_told_everything(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    url = "https://other.example.org/jwks"
    assert run("add", "--config", config, *GIVEN, "--jwks-url", url, "--audience", "https://cds2.example.org") == 0
    client = load(config).clients[1]
    assert (client.jwks_url, client.audiences, client.silent) == (url, ("https://cds2.example.org",), False)


def test_add_writes_nothing_that_would_not_stand(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    before = config.read_text(encoding="utf-8")
    for wrong, said, status in (
        ((*GIVEN, "--jwks-url", "http://other.example.org/jwks"), "clients[1].jwks_url: http would", 1),
        ((*GIVEN[2:], "--id", 'x"\n[service]', "--jwks-url", "https://o.example.org/j"), "clients[1].id", 1),
        ((*GIVEN, "--jwks-file", "none.json"), "clients[1].jwks_file: cannot be read", 1),
        (GIVEN, "clients[1].jwks_file", 1),
        (GIVEN[2:], "--id: is missing", 2),
    ):
        assert run("add", "--config", config, *wrong) == status
        err = capsys.readouterr().err
        assert said in err
        assert "nothing was written" in err or status == 2
        assert str(config) in err or status == 2
        assert config.read_text(encoding="utf-8") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.toml", "ehr.jwks.json"]


def test_add_shows_what_it_would_write(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = config.read_text(encoding="utf-8")
    url = "https://other.example.org/jwks"
    assert run("add", "--config", config, *GIVEN, "--jwks-url", url, "--audience", "", "--origin", "", "--dry-run") == 0
    out = capsys.readouterr().out
    assert "[[clients]]" in out
    assert json.dumps(url) in out
    assert config.read_text(encoding="utf-8") == before


def test_answers_that_end_early_write_nothing(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = config.read_text(encoding="utf-8")
    monkeypatch.setattr("sys.stdin", Terminal("other\n"))
    assert run("add", "--config", config) == 2
    assert "ended early: nothing was written" in capsys.readouterr().err
    assert config.read_text(encoding="utf-8") == before


def test_add_needs_a_file_that_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("add", "--config", tmp_path / "none.toml") == 2
    assert "cannot be read: No such file" in capsys.readouterr().err


URL = ("--jwks-url", "https://other.example.org/jwks", "--audience", "", "--origin", "")


def test_a_key_set_that_is_fetched_is_not_asked_for_as_a_file(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = ["other", "https://other.example.org", "https://other.example.org/jwks", "hospital", "", "", "no"]
    monkeypatch.setattr("sys.stdin", Terminal("\n".join(typed) + "\n"))
    assert run("add", "--config", config) == 0
    client = load(config).clients[1]
    assert (client.jwks_url, client.jwks_file, client.silent) == ("https://other.example.org/jwks", None, False)


def test_both_that_were_named_are_written(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other.json").write_text(OTHER.jwks(), encoding="utf-8")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert run("add", "--config", config, *GIVEN, *URL, "--jwks-file", "other.json") == 0
    client = load(config).clients[1]
    assert (client.jwks_url, client.jwks_file) == (URL[1], tmp_path / "other.json")


def test_an_answer_that_is_neither_yes_nor_no_shows_nobody_a_card(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    before = config.read_bytes()
    assert run("add", "--config", config, *GIVEN[:-1], "yes.", *URL) == 2
    assert "--silent: yes or no" in capsys.readouterr().err
    assert config.read_bytes() == before


def test_a_link_stays_a_link_and_lines_end_as_they_did(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    (tmp_path / "real").mkdir()
    real = tmp_path / "real" / "site.toml"
    real.write_bytes(config.read_bytes().replace(b"\n", b"\r\n"))
    config.unlink()
    config.symlink_to(real)
    assert run("add", "--config", config, *GIVEN, *URL) == 0
    assert config.is_symlink()
    assert real.read_bytes().count(b"\r\n") > 5
    assert len(load(config).clients) == 2
    assert [path.name for path in real.parent.iterdir()] == ["site.toml"]


def test_what_somebody_else_wrote_meanwhile_is_not_lost(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())

    def load_slowly(path: Path) -> Settings:
        found = load(path)
        with config.open("a", encoding="utf-8") as file:
            file.write("# meanwhile\n")
        return found

    monkeypatch.setattr("app.registration.load", load_slowly)
    assert run("add", "--config", config, *GIVEN, *URL) == 2
    assert "has changed meanwhile" in capsys.readouterr().err
    assert config.read_text(encoding="utf-8").endswith("# meanwhile\n")


def test_the_owner_stays(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that runs as somebody else must be able to read its configuration afterwards."""
    monkeypatch.setattr("sys.stdin", io.StringIO())
    real, owned = Path.stat, list[tuple[int, int]]()

    def stat_(path: Path, **more: Any) -> os.stat_result:
        found = real(path, **more)
        if path.name != config.name:
            return found
        return os.stat_result((found.st_mode, *found[1:4], 4711, 4712, *found[6:]))

    monkeypatch.setattr(Path, "stat", stat_)
    monkeypatch.setattr("os.chown", lambda _, uid, gid: owned.append((uid, gid)))
    assert run("add", "--config", config, *GIVEN, *URL) == 0
    assert owned == [(4711, 4712)]


@pytest.mark.parametrize("failing", ["tempfile.mkstemp", "os.fsync", "os.chmod"])
def test_a_disk_that_does_not_take_it_leaves_the_file_as_it_was(
    config: Path, tmp_path: Path, failing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = config.read_bytes()
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setattr(failing, full)
    assert run("add", "--config", config, *GIVEN, *URL) == 2
    assert "cannot be written: No space left on device" in capsys.readouterr().err
    assert config.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.toml", "ehr.jwks.json"]


@pytest.mark.parametrize("algorithms", [["ES384"], ["RS384"]])
def test_fetched_keys_that_would_let_nobody_in_are_told(
    tmp_path: Path, algorithms: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "https://other.example.org/jwks"
    block = OTHER.block(tmp_path, tenants=["hospital"], jwks_file=None, jwks_url=url, algorithms=algorithms)

    async def read(_: UrlSource) -> bytes:
        return OTHER.jwks().encode()

    monkeypatch.setattr(UrlSource, "read", read)
    good = algorithms == ["ES384"]
    assert run("check", "--config", configuration(tmp_path, block), "--fetch") == (0 if good else 1)
    assert ("holds no key that lets this client in" in capsys.readouterr().out) is not good
