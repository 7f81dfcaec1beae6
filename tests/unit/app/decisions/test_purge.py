"""Patient data go, decisions stay, and the record still verifies."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app import cli
from app.store.decisions import Store
from app.store.doorbook import Refusal
from tests.unit.app.store.test_verify import decision, files_hash

NOW = datetime.now(UTC)


async def kept(url: str) -> list[str]:
    """Ten decisions: of the last ten days, the oldest first."""
    made = [replace(decision(number), created_at=NOW - timedelta(days=10 - number, hours=1)) for number in range(10)]
    async with Store(url) as store:
        await store.keep_knowledge(files_hash(), b'{"shared/inputs.toml":"a = 1"}')
        for one in made:
            await store.record(one)
        for days in (1, 8):
            await store.note_refusal(Refusal(NOW - timedelta(days=days), "expired"))
    return [one.id for one in made]


def test_a_dry_run_says_what_would_go_and_removes_nothing(
    recorded_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = asyncio.run(kept(recorded_url))
    assert cli.main(["db", "purge", "--older-than", "5d", "--dry-run", "--db", recorded_url]) == 0
    said = capsys.readouterr().out
    assert "patient data of 6 decisions" in said
    assert "1 notes of refused calls" in said
    assert "nothing was removed" in said
    assert asyncio.run(whole(recorded_url, ids)) == [True] * 10


def test_it_goes_and_the_record_still_verifies(recorded_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    ids = asyncio.run(kept(recorded_url))
    for _ in range(2):
        assert cli.main(["db", "purge", "--older-than", "5d", "--db", recorded_url]) == 0
    said = capsys.readouterr().out
    assert "removed: patient data of 6 decisions; 1 notes" in said
    assert "removed: patient data of 0 decisions; 0 notes" in said
    assert asyncio.run(whole(recorded_url, ids)) == [False] * 6 + [True] * 4
    assert cli.main(["decisions", "verify", "--db", recorded_url]) == 0
    out = capsys.readouterr().out
    assert out.endswith(
        "as it was written: entries for 10 decisions (6 without patient data, removed on purpose), 0 entries of "
        "feedback; 16 entries in 2 chains\n"
    )


async def whole(url: str, ids: list[str]) -> list[bool]:
    async with Store(url, role="tool") as store:
        found = [await store.get(one) for one in ids]
    assert None not in found, "the decisions stay"
    return [one is not None and one.facts is not None and one.answer is not None for one in found]


NO_YEAR = "--older-than: no year of any decision: write one from 1900 to 2200"
TOO_YOUNG = "The smallest age is 1h, the latest moment an hour ago"


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("soon", "--older-than: write 2026-11-01"),
        ("9999-01-01", NO_YEAR),
        ("9999-12-31", NO_YEAR),
        ("99999999999d", NO_YEAR),
        ("2099-01-01", TOO_YOUNG),
        ("0d", TOO_YOUNG),
        ("0h", TOO_YOUNG),
        ((NOW - timedelta(minutes=30)).isoformat(), TOO_YOUNG),
    ],
    ids=["words", "9999", "the last day", "many days", "to come", "0d", "0h", "half an hour"],
)
def test_what_is_no_time_long_enough_ago_is_refused(
    when: str, said: str, recorded_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["db", "purge", "--older-than", when, "--db", recorded_url]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("when", ["1h", (NOW - timedelta(hours=1)).isoformat()], ids=["1h", "timestamp"])
def test_an_hour_ago_is_long_enough(when: str, recorded_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["db", "purge", "--older-than", when, "--dry-run", "--db", recorded_url]) == 0
    assert "nothing was removed" in capsys.readouterr().out


def test_heads_are_kept_and_expected(recorded_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(kept(recorded_url))
    assert cli.main(["decisions", "verify", "--heads", "--db", recorded_url]) == 0
    heads = tmp_path / "heads"
    heads.write_text(capsys.readouterr().out)
    for _ in range(2):
        assert cli.main(["decisions", "verify", "--expect", str(heads), "--db", recorded_url]) == 0
        assert capsys.readouterr().out.endswith(f"in 1 chain; heads of {heads} found: 1\n")
        heads.write_text("# of a Monday\n\n" + heads.read_text() + heads.read_text().replace(" 10 ", " 9 "))
    assert cli.main(["decisions", "verify", "--db", recorded_url]) == 0
    assert "heads" not in capsys.readouterr().out
    heads.write_text(heads.read_text().replace(" 10 ", " 11 "))
    assert cli.main(["decisions", "verify", "--expect", str(heads), "--db", recorded_url]) == 1
    out = capsys.readouterr().out
    assert "when the head was noted" in out
    assert "found: " not in out
    heads.write_text("nonsense\n")
    assert cli.main(["decisions", "verify", "--expect", str(heads), "--db", recorded_url]) == 2
    assert "line 1" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "\n \n", "# the heads of Monday\n"], ids=["empty", "blank", "comment"])
def test_a_file_without_a_head_proves_nothing(
    content: str, recorded_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    heads = tmp_path / "heads"
    heads.write_text(content)
    assert cli.main(["decisions", "verify", "--expect", str(heads), "--db", recorded_url]) == 2
    captured = capsys.readouterr()
    assert f"{heads} holds no head: it is a file that `rescue-cds decisions verify --heads` has printed" in captured.err
    assert "as it was written" not in captured.out


async def test_it_goes_step_by_step_and_looks_at_nothing_twice(
    recorded_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.store.retention.AT_ONCE", 2)
    ids = await kept(recorded_url)
    async with Store(recorded_url, role="tool") as store:
        before, since, steps = NOW - timedelta(days=5), None, []
        while (step := await store.purge_some(before=before, since=since)).decisions:
            since = step.newest
            steps.append(since)
        assert steps == [NOW - timedelta(days=days, hours=1) for days in (9, 7, 5)]
        assert (await store.purge_some(before=NOW, since=NOW - timedelta(days=2))).decisions == 1
    assert await whole(recorded_url, ids) == [False] * 6 + [True] * 3 + [False]


async def test_a_patient_with_many_decisions_goes_step_by_step(
    recorded_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.store.retention.AT_ONCE", 2)
    ids = await kept(recorded_url)
    async with Store(recorded_url, role="tool") as store:
        assert await store.remove_patient("patient-1", tenant="hospital") == 5
    assert await whole(recorded_url, ids) == [True, False] * 5
