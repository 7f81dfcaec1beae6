"""kill -9 of the whole service at random instants under load, and whether anything that a client was told is missing.

Eight clients at once send each call until it is answered, as a gateway does: what was cut is sent again, byte for byte,
as soon as the service is back. One kill in eight comes while the service is still starting, the others some answers
and some milliseconds after it: both are drawn anew each time.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import Final

from tests.durability import stage
from tests.durability.load import Clients, closed_loop
from tests.durability.processes import Start
from tests.durability.progress import Progress
from tests.durability.stage import SEED, Database, Outcome, Stage
from tests.figures import Figure, Figures

CYCLES: Final = {"small": 100, "full": 1000}
AT_ONCE: Final = 8
MOST_ANSWERS: Final = 12
"""After a start, before a kill, at most: drawn, not timed, so that a slow machine is under the same load."""

JITTER: Final = 0.03
PATIENCE: Final = 10.0


@dataclass(slots=True)
class Kills:
    """What the campaign did. `busy`: kills with calls under way; `under_way`: how many these were."""

    cycles: int = 0
    at_start: int = 0
    busy: int = 0
    under_way: int = 0
    starts: list[float] = field(default_factory=list)
    exit: int = -1


async def campaign(stage: Stage, *, cycles: int, progress: Progress) -> Kills:
    """So many kills, then a last start at which everything that is still open is answered, and an orderly end."""
    done, chosen, service, clients = Kills(), random.Random(SEED), stage.service, stage.clients
    stop = asyncio.Event()
    load = asyncio.create_task(
        closed_loop(clients, stage.calls, at_once=AT_ONCE, stop=stop, chosen=random.Random(SEED + 1))
    )
    try:
        for _ in range(cycles):
            if load.done():
                load.result()
            began = time.perf_counter()
            await service.begin()
            if done.starts and chosen.random() < 1 / 8:
                await asyncio.sleep(chosen.uniform(0.0, sorted(done.starts)[len(done.starts) // 2]))
                done.at_start += 1
            else:
                await service.started()
                done.starts.append(time.perf_counter() - began)
                await answered(clients, chosen.randrange(MOST_ANSWERS + 1))
                await asyncio.sleep(chosen.uniform(0.0, JITTER))
                done.under_way += clients.under_way
                done.busy += clients.under_way > 0
            await service.kill()
            done.cycles += 1
            progress.step(note=f"{clients.ledger.told} calls answered")
        await service.start()
        stop.set()
        await load
        done.exit = await service.stop()
    finally:
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
    return done


async def answered(clients: Clients, count: int) -> None:
    """Returns when so many more sendings have been answered. Raises TimeoutError."""
    wanted = clients.ledger.ends["200"] + count
    async with asyncio.timeout(PATIENCE):
        while clients.ledger.ends["200"] < wanted:  # noqa: ASYNC110 # nobody waits for the other there
            await asyncio.sleep(0.001)


async def run(*, size: str, kind: Database, start: Start = "loaded") -> Figures:
    """The campaign on one kind of database, and the record held against what clients were told."""
    async with stage.opened(kind, start=start) as scene:
        progress = Progress(f"kills, {kind}", whole=CYCLES[size])
        kills = await campaign(scene, cycles=CYCLES[size], progress=progress)
        return figures(kills, scene, await stage.outcome(scene), kind=kind)


def figures(kills: Kills, scene: Stage, found: Outcome, *, kind: Database) -> Figures:
    """What was counted, and what it has to be."""
    repeats = sum(entry.answers - 1 for entry in scene.ledger.entries.values() if entry.answers)
    starts = sorted(kills.starts)
    audit = found.audit
    return Figures(
        f"kill -9 of the whole service under load, {kind}",
        (
            Figure("kills", f"{kills.cycles}, {kills.at_start} of them during the start", kills.cycles > 0),
            Figure(
                "kills with calls under way",
                f"{kills.busy}, {kills.under_way} calls",
                kills.busy >= (kills.cycles - kills.at_start) / 2,
            ),
            Figure("sendings", stage.said(scene.ledger), True),
            Figure("calls answered", f"{found.told} of {found.calls}", kills.cycles < found.told == found.calls),
            *stage.kept(found),
            Figure("answered calls sent again", str(repeats), repeats > 0),
            Figure("of these, answered with other bytes", str(audit.unlike), audit.unlike == 0),
            Figure("on the disk when cut, told when sent again", str(audit.early), True),
            Figure("decisions that nobody was told", str(audit.untold), audit.untold == 0),
            Figure("exit status of the orderly end", str(kills.exit), kills.exit == 0),
            Figure("start to ready, median", f"{starts[len(starts) // 2] * 1000:.0f} ms", True),
        ),
    )
