"""Two replicas on one PostgreSQL behind a proxy: restarted by turns under load, and asked the same at the same time."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final

from tests.durability import stage
from tests.durability.load import Clients, open_loop
from tests.durability.progress import Progress
from tests.durability.proxy import Proxy
from tests.durability.stage import Stage
from tests.figures import Figure, Figures

TIMES: Final = {"small": 2, "full": 20}
ROUNDS: Final = {"small": 50, "full": 500}
RATE: Final = 20.0
AT_ONCE: Final = 10
DRAIN_SECONDS: Final = 0.6
"""Some checks of the proxy long."""

_PATIENCE: Final = 10.0


@dataclass(slots=True)
class Rolled:
    """What the restarts came to."""

    statuses: list[int] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    calls: int = 0


async def rolled(scene: Stage, proxy: Proxy, *, times: int, progress: Progress) -> Rolled:
    """So many restarts, one replica at a time, the next when the proxy has both."""
    done = Rolled()
    services = (scene.service, *scene.others)
    stop = asyncio.Event()
    load = asyncio.create_task(open_loop(scene.clients, scene.calls, rate=RATE, stop=stop))
    try:
        for number in range(times):
            service = services[number % len(services)]
            service.terminate()
            done.statuses.append(await service.gone())
            await service.start()
            await all_ready(proxy, len(services))
            await asyncio.sleep(0.3)
            progress.step()
        stop.set()
        done.latencies = sorted(await load)
    finally:
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
    done.failed, done.calls = Counter(scene.clients.failed), len(scene.ledger.entries)
    return done


async def all_ready(proxy: Proxy, count: int) -> None:
    """Returns when the proxy has so many. Raises TimeoutError."""
    async with asyncio.timeout(_PATIENCE):
        while len(proxy.ready) < count:  # noqa: ASYNC110 # the proxy asks by the clock too
            await asyncio.sleep(0.02)


async def together(scene: Stage, *, rounds: int, progress: Progress) -> int:
    """The same call ten times at once over all replicas, so many rounds; how many were not answered with 200."""
    failed = 0
    async with AsyncExitStack() as stack:
        doors = [
            await stack.enter_async_context(Clients(service.url, ledger=scene.ledger))
            for service in (scene.service, *scene.others)
        ]
        for _ in range(rounds):
            call = scene.calls.next()
            sent = await asyncio.gather(*(doors[number % len(doors)].send(call) for number in range(AT_ONCE)))
            failed += sum(one.status != 200 for one in sent)
            progress.step()
    return failed


async def run(*, size: str) -> Figures:
    """Restarts through the proxy; then the same call over both, without it, so that it is not the proxy that orders."""
    times, rounds = TIMES[size], ROUNDS[size]
    async with stage.opened("postgresql", replicas=2, keys=f"drain_seconds = {DRAIN_SECONDS}", proxied=True) as scene:
        services = (scene.service, *scene.others)
        for service in services:
            await service.start()
        places = [(service.place.port, service.place.port + 1) for service in services]
        async with Proxy(scene.through, places) as proxy:
            await all_ready(proxy, len(services))
            done = await rolled(scene, proxy, times=times, progress=Progress("restarts of replicas", whole=times))
        before = set(scene.ledger.entries)
        failed = await together(scene, rounds=rounds, progress=Progress("ten at once", whole=rounds))
        same = {key: entry for key, entry in scene.ledger.entries.items() if key not in before}
        spooled = sum([(await service.metrics()).get("rescue_cds_spooled_total", 0.0) for service in services])
        statuses = [await service.stop() for service in services]
        found = await stage.outcome(scene)
    unlike = sum(entry.unlike for entry in same.values())
    answers = sum(entry.answers for entry in same.values())
    return Figures(
        f"Two replicas on PostgreSQL, {RATE:g} calls a second",
        (
            Figure("restarts, by turns", str(len(done.statuses)), len(done.statuses) == times),
            Figure(
                "exit statuses",
                str(sorted({*done.statuses, *statuses})),
                {*done.statuses, *statuses} == {0},
            ),
            Figure("calls failed", f"{dict(done.failed) or 0} of {done.calls}", not done.failed and done.calls > 0),
            Figure("sent to the other one, the first did not listen", str(proxy.elsewhere), True),
            Figure("cut behind the proxy", str(proxy.broken), proxy.broken == 0),
            Figure("calls of each replica", str(sorted(proxy.sent.values())), len(proxy.sent) == len(services)),
            Figure("slowest answer", f"{done.latencies[-1] * 1000:.0f} ms", True),
            Figure(f"the same call {AT_ONCE} times at once, rounds", str(len(same)), len(same) == rounds),
            Figure("of these answers, not 200", f"{failed} of {rounds * AT_ONCE}", failed == 0),
            Figure("of other bytes than the first", f"{unlike} of {answers}", unlike == 0),
            *stage.kept(found),
            Figure("decisions that the database did not take in time", f"{spooled:.0f}", True),
            Figure("flagged as duplicates", str(found.audit.duplicates), found.audit.duplicates == 0),
            Figure("decisions that nobody was told", str(found.audit.untold), found.audit.untold == 0),
        ),
    )
