"""A token is used once: in the memory of one process, and over all that share a database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.replay import Memory, Replay, Shared, TooMany
from app.store.decisions import Store
from app.store.doorbook import digest
from tests.unit.app.store.test_store import content, opened, rows, url

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SOON = NOW + timedelta(minutes=5)


@pytest.fixture(params=["memory", "database"])
async def replay(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Replay]:
    if request.param == "memory":
        yield Memory()
        return
    async with opened(tmp_path / "d.db") as store:
        yield store


async def test_the_first_is_let_in_and_nobody_after(replay: Replay) -> None:
    uses = [replay.first_use(client="a", token_id="j", until=SOON, now=NOW) for _ in range(50)]
    assert sorted(await asyncio.gather(*uses)) == [False] * 49 + [True]


async def test_a_token_id_is_one_clients(replay: Replay) -> None:
    for client in ("a", "b"):
        assert await replay.first_use(client=client, token_id="j", until=SOON, now=NOW)
    assert await replay.first_use(client="a", token_id="J", until=SOON, now=NOW)


async def test_what_has_expired_is_forgotten(replay: Replay) -> None:
    assert await replay.first_use(client="a", token_id="j", until=SOON, now=NOW)
    assert not await replay.first_use(client="a", token_id="j", until=SOON, now=SOON)
    later = SOON + timedelta(seconds=1)
    assert await replay.first_use(client="a", token_id="j", until=later, now=later)


async def test_two_processes_with_one_database_let_it_in_once(tmp_path: Path) -> None:
    path = tmp_path / "d.db"
    async with opened(path) as one, Store(url(path), role="tool") as two:
        for number in range(20):
            uses = [
                store.first_use(client="a", token_id=f"j{number}", until=SOON, now=NOW)
                for store in (one, two)
                for _ in range(5)
            ]
            assert (await asyncio.gather(*uses)).count(True) == 1


async def test_without_its_database_a_process_remembers_by_itself(tmp_path: Path) -> None:
    async with opened(tmp_path / "d.db") as store:
        shared = Shared(store)
        assert await shared.first_use(client="a", token_id="before", until=SOON, now=NOW)
        await store.close()
        for token_id, first in (("before", False), ("during", True), ("during", False)):
            assert await shared.first_use(client="a", token_id=token_id, until=SOON, now=NOW) is first


async def test_what_another_process_has_used_is_used(tmp_path: Path) -> None:
    async with opened(tmp_path / "d.db") as store:
        one, two = Shared(store), Shared(store)
        assert await one.first_use(client="a", token_id="j", until=SOON, now=NOW)
        assert not await two.first_use(client="a", token_id="j", until=SOON, now=NOW)


async def test_a_full_memory_lets_nobody_new_in() -> None:
    memory = Memory(most=2)
    for token_id in ("1", "2"):
        assert await memory.first_use(client="a", token_id=token_id, until=SOON, now=NOW)
    assert not await memory.first_use(client="a", token_id="1", until=SOON, now=NOW)
    with pytest.raises(TooMany):
        await memory.first_use(client="a", token_id="3", until=SOON, now=NOW)
    assert await memory.first_use(client="b", token_id="3", until=SOON, now=NOW), "another client is not shut out"
    later = SOON + timedelta(seconds=1)
    assert await memory.first_use(client="a", token_id="3", until=later + timedelta(minutes=5), now=later)


async def test_used_tokens_that_have_expired_are_forgotten_beside_the_calls(tmp_path: Path) -> None:
    async with opened(tmp_path / "d.db") as store:
        assert await store.first_use(client="a", token_id="old", until=SOON, now=NOW)
        assert await store.first_use(client="a", token_id="new", until=SOON + timedelta(hours=1), now=NOW)
        later = SOON + timedelta(seconds=1)
        await store.tidy(now=later, snoozed_since=None)
        assert not await store.first_use(client="a", token_id="new", until=later, now=later)
    assert rows(tmp_path / "d.db", "select digest from used_tokens") == [(digest("new"),)]


async def test_a_token_id_of_any_shape_is_kept_as_its_digest(tmp_path: Path) -> None:
    async with opened(tmp_path / "d.db") as store:
        assert await store.first_use(client="a", token_id="canary\x00\ud800", until=SOON, now=NOW)
    assert b"canary" not in _written(tmp_path)


def _written(folder: Path) -> bytes:
    return content(folder / "d.db") + b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
