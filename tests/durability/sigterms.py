"""SIGTERM under load, again and again: no call that was sent stays without its answer, and the process ends well.

Twenty calls a second come whether the last ones are answered or not. Whatever was sent is not sent again, so that one
call that is cut is seen; a call that nobody listens to waits for the next start.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import Final

from tests.durability import stage
from tests.durability.load import open_loop
from tests.durability.progress import Progress
from tests.durability.stage import SEED, Stage
from tests.figures import Figure, Figures

TIMES: Final = {"small": 5, "full": 50}
RATE: Final = 20.0
DRAIN_SECONDS: Final = 0.3


@dataclass(slots=True)
class Ended:
    """`statuses`: of the processes. `draining`: how often readiness said so before the end. `seconds` to the end."""

    statuses: list[int] = field(default_factory=list)
    draining: int = 0
    seconds: list[float] = field(default_factory=list)


async def campaign(scene: Stage, *, times: int, progress: Progress) -> Ended:
    """So many ends under load."""
    done, chosen, service = Ended(), random.Random(SEED), scene.service
    stop, listening = asyncio.Event(), asyncio.Event()
    load = asyncio.create_task(open_loop(scene.clients, scene.calls, rate=RATE, stop=stop, listening=listening))
    try:
        for _ in range(times):
            await service.start()
            listening.set()
            await asyncio.sleep(chosen.uniform(0.3, 0.8))
            began = time.perf_counter()
            service.terminate()
            ending = asyncio.create_task(service.gone())
            while not ending.done():
                if await service.readiness() == (503, "draining"):
                    done.draining += 1
                    break
                await asyncio.sleep(0.02)
            done.statuses.append(await ending)
            done.seconds.append(time.perf_counter() - began)
            progress.step()
        await service.start()
        listening.set()
        stop.set()
        await load
        done.statuses.append(await service.stop())
    finally:
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
    return done


async def run(*, size: str) -> Figures:
    """On SQLite."""
    times = TIMES[size]
    async with stage.opened("sqlite", keys=f"drain_seconds = {DRAIN_SECONDS}") as scene:
        done = await campaign(scene, times=times, progress=Progress("SIGTERMs", whole=times))
        found = await stage.outcome(scene)
        ledger, failed = scene.ledger, scene.clients.failed
    return Figures(
        f"SIGTERM under {RATE:g} calls a second",
        (
            Figure("SIGTERMs", str(len(done.statuses)), len(done.statuses) == times + 1),
            Figure("exit statuses", str(sorted(set(done.statuses))), set(done.statuses) == {0}),
            Figure("SIGTERM to the end, longest", f"{max(done.seconds):.1f} s, draining {DRAIN_SECONDS:g} s", True),
            Figure("ends at which readiness said draining", str(done.draining), done.draining == times),
            Figure("sendings", stage.said(ledger), True),
            Figure("calls dropped: sent, and no answer", str(failed["cut"]), ledger.ends["cut"] == 0),
            Figure("calls answered with anything but 200", str(failed.total() - failed["cut"]), not failed),
            Figure("calls answered", f"{found.told} of {found.calls}", found.told == found.calls > times),
            *stage.kept(found),
        ),
    )
