"""Each kind of mutation, once: found, and the row named. And what the campaign says when it is not."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from app.store.verify import Fault
from tests.durability import mutations
from tests.durability.mutations import DRAWS, Draw, Mutation, Record, built, campaign, false_alarms, faults, named
from tests.durability.progress import Progress


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mutations, "EACH", 60)
        return asyncio.run(built(tmp_path_factory.mktemp("record")))


def quiet(times: int) -> Progress:
    return Progress("mutations", whole=times, say=lambda _: None)


async def test_a_record_that_is_whole_gives_no_alarm(record: Record, tmp_path: Path) -> None:
    assert record.removed
    assert await false_alarms(record, folder=tmp_path) == (0, 0)


@pytest.mark.parametrize("draw", DRAWS, ids=lambda draw: draw.__name__)
async def test_every_kind_is_found_and_named(draw: Draw, record: Record, tmp_path: Path) -> None:
    for seed in range(3):
        path = tmp_path / f"{seed}.db"
        path.write_bytes(record.file)
        with closing(sqlite3.connect(path)) as connection:
            try:
                mutation = draw(connection, random.Random(seed), record)
            except (mutations._Unchanged, sqlite3.IntegrityError):
                continue
            connection.commit()
        found = await faults(path, expected=record.heads if mutation.noted else ())
        assert named(found, mutation), (mutation, found[:3])


def test_a_name_is_whole() -> None:
    fault = Fault("chain", "w/51 (decision d)", "was changed")
    assert named([fault], Mutation("", ("w/51",)))
    assert not named([fault], Mutation("", ("w/5",)))
    assert not named([], Mutation("", ("w/5",)))


async def test_what_verify_misses_misnames_or_breaks_at_is_counted(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def blind(*_: object, **__: object) -> list[Fault]:
        return []

    async def wrong(*_: object, **__: object) -> list[Fault]:
        return [Fault("decisions", "another", "was changed")]

    async def broken(*_: object, **__: object) -> list[Fault]:
        raise sqlite3.OperationalError

    counts = []
    for replaced in (blind, wrong, broken):
        monkeypatch.setattr(mutations, "faults", replaced)
        found = await campaign(record, times=4, folder=tmp_path, progress=quiet(4))
        counts.append((len(found.missed), len(found.unnamed), len(found.broken)))
    assert counts == [(4, 0, 0), (0, 4, 0), (0, 0, 4)]
