"""The harness on a service: processes that are killed and come again, and a campaign of two kills."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.durability import kills
from tests.durability.kills import campaign
from tests.durability.processes import Fresh, Place, ProcessError, Service, free_ports, starter
from tests.durability.progress import Progress
from tests.durability.stage import kept, opened, outcome


async def test_a_process_is_started_killed_and_ended(tmp_path: Path) -> None:
    place = Place(tmp_path, free_ports(2), f"sqlite+aiosqlite:///{tmp_path}/decisions.db")
    async with starter("loaded") as made, Service(place, starter=made) as service:
        await service.start()
        first = service.pid
        assert await service.readiness() == (200, "ok")
        assert (await service.metrics())["rescue_cds_database_up"] == 1
        await service.kill()
        assert await service.readiness() == (0, "")
        await service.start()
        assert service.pid != first
        assert await service.stop() == 0


async def test_a_process_that_does_not_start_is_told_with_its_log(tmp_path: Path) -> None:
    """Of a fresh interpreter."""
    place = Place(tmp_path, free_ports(2), "sqlite+aiosqlite:////nowhere/decisions.db")
    async with Service(place, starter=Fresh()) as service:
        with pytest.raises(ProcessError, match=r"ended with 1 at its start: .*database"):
            await service.start()


async def test_two_kills_lose_nothing_and_leave_the_ledger_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kills, "AT_ONCE", 3)
    async with opened("sqlite") as scene:
        done = await campaign(scene, cycles=2, progress=Progress("kills", whole=2, say=lambda _: None))
        found = await outcome(scene)
    assert (done.cycles, done.exit) == (2, 0)
    assert found.told == found.calls > 0
    assert [figure for figure in kept(found) if not figure.held] == []
    assert scene.ledger.ends["refused"] > 0


def test_progress_says_how_much_is_left() -> None:
    said: list[str] = []
    clock = iter([0.0, 1.0, 11.0, 12.0, 400.0])
    progress = Progress("kills", whole=4, clock=lambda: next(clock), say=said.append)
    for _ in range(4):
        progress.step(note="note")
    assert said == ["  kills: 2 of 4, about 11 s left; note", "  kills: 4 of 4; note"]
