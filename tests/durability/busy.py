"""More calls at once than can be evaluated, and a database that is well: it is taken for well, and nothing is spooled.

An evaluation keeps the event loop for some ten milliseconds, and whatever waits for the loop waits for all of them. A
commit that waits for it many times takes seconds then, and is no sign of a database that is down.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from tests.durability import stage
from tests.durability.restarts import settled
from tests.durability.stage import Database, Stage
from tests.figures import Figure, Figures

SECONDS: Final = {"small": 6.0, "full": 20.0}
AT_ONCE: Final = 48
"""Fewer than the places of the service, so that none is told to try again."""

KINDS: Final[tuple[Database, ...]] = ("sqlite", "postgresql")


@dataclass(frozen=True, slots=True)
class Busy:
    """`down`: how often the database was taken for down; `spooled`: decisions that it was thought not to take."""

    rate: float
    down: int
    spooled: float
    exit: int


async def load(scene: Stage, *, seconds: float) -> Busy:
    """So many clients, each with its next call when the last one is answered."""
    await scene.service.start()
    for _ in range(5):
        await scene.clients.send(scene.calls.next())
    end = time.monotonic() + seconds

    async def client() -> None:
        while time.monotonic() < end:
            await scene.clients.send(scene.calls.next())

    began, told = time.monotonic(), scene.ledger.told
    await asyncio.gather(*(client() for _ in range(AT_ONCE)))
    rate = (scene.ledger.told - told) / (time.monotonic() - began)
    spooled = (await scene.service.metrics()).get("rescue_cds_spooled_total", -1.0)
    await settled(scene)
    status = await scene.service.stop()
    return Busy(rate, scene.service.place.log.read_text().count('"database-down"'), spooled, status)


async def run(*, size: str) -> Figures:
    """Both databases, one after the other."""
    rows: list[Figure] = []
    for kind in KINDS:
        async with stage.opened(kind) as scene:
            seen = await load(scene, seconds=SECONDS[size])
            found = await stage.outcome(scene)
        rows += [
            Figure(
                f"{kind}: calls answered", f"{found.told} of {found.calls}, {seen.rate:.0f}/s", found.told > AT_ONCE
            ),
            Figure(f"{kind}: taken for down", f"{seen.down} times", seen.down == 0),
            Figure(f"{kind}: decisions spooled", f"{seen.spooled:.0f}", seen.spooled == 0),
            *(Figure(f"{kind}: {row.what}", row.number, row.held) for row in stage.kept(found)),
            Figure(f"{kind}: exit status", str(seen.exit), seen.exit == 0),
        ]
    return Figures(f"{AT_ONCE} calls at once and a database that is well", tuple(rows))
