"""PostgreSQL restarted under load, in good order and at once (`fast`, `immediate`): no call fails, none is lost."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Final

from tests.durability import stage
from tests.durability.load import open_loop
from tests.durability.progress import Progress
from tests.durability.stage import Stage
from tests.figures import Figure, Figures
from tests.postgres import Mode

TIMES: Final = {"small": 2, "full": 20}
RATE: Final = 10.0
PAUSE: Final = 1.0
SETTLED_SECONDS: Final = 30.0


@dataclass(slots=True)
class Restarts:
    """`down`: seconds without a server. `settled`: seconds from its return until nothing was spooled any more."""

    modes: list[Mode] = field(default_factory=list)
    down: list[float] = field(default_factory=list)
    settled: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    exit: int = -1


async def settled(scene: Stage, *, seconds: float = SETTLED_SECONDS) -> float:
    """How long until the database is up and the spool is empty; `seconds` when it is not by then."""
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        said = await scene.service.metrics()
        if said.get("rescue_cds_database_up") == 1 and said.get("rescue_cds_spool_entries") == 0:
            break
        await asyncio.sleep(0.05)
    return time.perf_counter() - began


async def campaign(scene: Stage, *, times: int, progress: Progress) -> Restarts:
    """So many restarts, by turns of the one and the other kind."""
    done, server = Restarts(), scene.postgresql
    await scene.service.start()
    stop = asyncio.Event()
    load = asyncio.create_task(open_loop(scene.clients, scene.calls, rate=RATE, stop=stop))
    try:
        for number in range(times):
            await asyncio.sleep(PAUSE)
            mode: Mode = "fast" if number % 2 == 0 else "immediate"
            began = time.perf_counter()
            await asyncio.to_thread(server.restart, mode)
            done.modes.append(mode)
            done.down.append(time.perf_counter() - began)
            done.settled.append(await settled(scene))
            progress.step(note=f"{scene.ledger.told} calls answered")
        await asyncio.sleep(PAUSE)
        stop.set()
        done.latencies = sorted(await load)
        await settled(scene)
        done.exit = await scene.service.stop()
    finally:
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
    return done


async def run(*, size: str) -> Figures:
    """The campaign, and the record held against what clients were told."""
    times = TIMES[size]
    async with stage.opened("postgresql") as scene:
        done = await campaign(scene, times=times, progress=Progress("restarts of PostgreSQL", whole=times))
        found = await stage.outcome(scene)
        failed = scene.clients.failed
    return Figures(
        f"PostgreSQL restarted under {RATE:g} calls a second",
        (
            Figure(
                "restarts",
                f"{done.modes.count('fast')} fast, {done.modes.count('immediate')} immediate",
                len(done.modes) == times,
            ),
            Figure("down, longest", f"{max(done.down):.1f} s", True),
            Figure("return to empty spool, longest", f"{max(done.settled):.1f} s", max(done.settled) < SETTLED_SECONDS),
            Figure("calls answered", f"{found.told} of {found.calls}", found.told == found.calls > times * RATE),
            Figure("calls failed", str(dict(failed) or 0), not failed),
            Figure("slowest answer", f"{done.latencies[-1] * 1000:.0f} ms", True),
            *stage.kept(found),
            Figure("flagged as duplicates", str(found.audit.duplicates), found.audit.duplicates == 0),
            Figure("decisions that nobody was told", str(found.audit.untold), found.audit.untold == 0),
            Figure("exit status", str(done.exit), done.exit == 0),
        ),
    )
