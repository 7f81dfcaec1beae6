"""The database is away, and answers go on: PostgreSQL stopped, then standing still, then the service killed meanwhile.

Ten calls a second come all the time. What is answered while the database is away lies in the spool; when it is back all
of it has to be in the database, with the ids that clients were told, in the order in which it was told.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.durability import record, stage
from tests.durability.load import Entry, open_loop
from tests.durability.restarts import settled
from tests.durability.stage import Stage
from tests.figures import Figure, Figures

SECONDS: Final = {"small": (6.0, 4.0, 2.0), "full": (60.0, 20.0, 10.0)}
"""Stopped; standing still; before the service is killed."""

RATE: Final = 10.0
BEFORE: Final = 1.5
DRAINED_SECONDS: Final = 30.0
_ASK: Final = 0.25


@dataclass(slots=True)
class Away:
    """What was seen while it was away. `readiness` counts what was said once the service had noticed."""

    seconds: float = 0.0
    noticed: float | None = None
    readiness: Counter[tuple[int, str]] = field(default_factory=Counter)
    before: Counter[tuple[int, str]] = field(default_factory=Counter)
    entries: float = 0.0
    bytes: float = 0.0
    drained: float = 0.0
    failed: Counter[str] = field(default_factory=Counter)
    calls: int = 0


async def away(scene: Stage, *, seconds: float, leave: Callable[[], None], come: Callable[[], object]) -> Away:
    """Load before, while and after the database is away."""
    seen, told = Away(seconds=seconds), len(scene.ledger.entries)
    scene.clients.failed.clear()
    stop = asyncio.Event()
    load = asyncio.create_task(open_loop(scene.clients, scene.calls, rate=RATE, stop=stop))
    try:
        await asyncio.sleep(BEFORE)
        began = time.perf_counter()
        await asyncio.to_thread(leave)
        while time.perf_counter() - began < seconds:
            said = await scene.service.metrics()
            if seen.noticed is None and said.get("rescue_cds_database_up") == 0:
                seen.noticed = time.perf_counter() - began
            readiness = await scene.service.readiness()
            (seen.before if seen.noticed is None else seen.readiness)[readiness] += 1
            seen.entries = max(seen.entries, said.get("rescue_cds_spool_entries", 0.0))
            seen.bytes = max(seen.bytes, said.get("rescue_cds_spool_bytes", 0.0))
            await asyncio.sleep(_ASK)
        await asyncio.to_thread(come)
        seen.drained = await settled(scene, seconds=DRAINED_SECONDS + 5)
        stop.set()
        await load
        await settled(scene)
    finally:
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
    seen.failed = Counter(scene.clients.failed)
    seen.calls = len(scene.ledger.entries) - told
    return seen


def out_of_order(entries: Sequence[Entry], ids: Sequence[str]) -> int:
    """Of decisions in the order of the record, how many stand behind one that was asked for after they were told."""
    by_id = {entry.decision: entry for entry in entries if entry.decision}
    wrong, latest = 0, 0.0
    for id_ in ids:
        entry = by_id.get(id_)
        if entry is not None:
            wrong += entry.told_at < latest
            latest = max(latest, entry.sent_at)
    return wrong


async def killed(scene: Stage, *, seconds: float) -> tuple[float, float, int]:
    """The service killed while the database is away: entries spooled before, seconds to empty after, calls failed."""
    scene.clients.failed.clear()
    stop = asyncio.Event()
    await asyncio.to_thread(scene.postgresql.stop, "immediate")
    load = asyncio.create_task(open_loop(scene.clients, scene.calls, rate=RATE, stop=stop))
    await asyncio.sleep(seconds)
    stop.set()
    await load  # what is under way at a kill is another area's figure
    entries = (await scene.service.metrics()).get("rescue_cds_spool_entries", 0.0)
    await scene.service.kill()
    await asyncio.to_thread(scene.postgresql.start)
    await scene.service.start()
    return entries, await settled(scene), scene.clients.failed.total()


async def run(*, size: str) -> Figures:
    """All three, one after the other, on one database."""
    stopped_for, still_for, killed_after = SECONDS[size]
    async with stage.opened("postgresql") as scene:
        server = scene.postgresql
        await scene.service.start()
        stopped = await away(scene, seconds=stopped_for, leave=server.stop, come=server.start)
        still = await away(scene, seconds=still_for, leave=server.pause, come=server.resume)
        entries, drained, failed = await killed(scene, seconds=killed_after)
        status = await scene.service.stop()
        found = await stage.outcome(scene)
        wrong = out_of_order(list(scene.ledger.entries.values()), await record.order(scene.url))
    return Figures(
        f"PostgreSQL away under {RATE:g} calls a second",
        (
            *_figures("stopped", stopped),
            *_figures("standing still", still),
            Figure("killed meanwhile: spooled before", f"{entries:.0f} entries", entries > 0),
            Figure("killed meanwhile: start to empty spool", f"{drained:.1f} s", drained <= DRAINED_SECONDS),
            Figure("killed meanwhile: calls failed before", str(failed), failed == 0),
            Figure("calls answered", f"{found.told} of {found.calls}", found.told == found.calls),
            *stage.kept(found),
            Figure("out of order in the chain", str(wrong), wrong == 0),
            Figure("flagged as duplicates", str(found.audit.duplicates), found.audit.duplicates == 0),
            Figure("decisions that nobody was told", str(found.audit.untold), found.audit.untold == 0),
            Figure("exit status", str(status), status == 0),
        ),
    )


def _figures(how: str, seen: Away) -> tuple[Figure, ...]:
    noticed = "never" if seen.noticed is None else f"after {seen.noticed:.1f} s"
    readiness = ", ".join(f"{status} {word}: {count}" for (status, word), count in sorted(seen.readiness.items()))
    before = ", ".join(f"{status} {word}: {count}" for (status, word), count in sorted(seen.before.items()))
    return (
        Figure(f"{how}: for", f"{seen.seconds:g} s, noticed {noticed}", seen.noticed is not None),
        Figure(f"{how}: calls failed", f"{dict(seen.failed) or 0} of {seen.calls}", not seen.failed),
        Figure(f"{how}: readiness until noticed", before or "not asked", True),
        Figure(f"{how}: readiness then", readiness, set(seen.readiness) == {(200, "degraded")}),
        Figure(f"{how}: spooled at most", f"{seen.entries:.0f} entries, {seen.bytes / 1e6:.1f} MB", seen.entries > 0),
        Figure(f"{how}: return to empty spool", f"{seen.drained:.1f} s", seen.drained <= DRAINED_SECONDS),
    )
