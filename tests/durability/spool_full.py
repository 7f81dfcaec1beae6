"""The database is down and the spool is full: every call is told so with 503, and all is well when the database is."""

from __future__ import annotations

import asyncio
from typing import Final

from tests.durability import stage
from tests.durability.load import Sent
from tests.durability.restarts import settled
from tests.durability.stage import Stage
from tests.figures import Figure, Figures

AFTER: Final = {"small": 20, "full": 200}
"""Calls after the first that was told 503."""

SPOOL_MIB: Final = 1
MOST_CALLS: Final = 2000
"""More than fit into the spool; where none is refused by then, the bound does not hold."""


async def filled(scene: Stage) -> int:
    """Calls answered until the first that is not, one after the other."""
    for number in range(MOST_CALLS):
        if (await scene.clients.send(scene.calls.next(alike=True))).status != 200:
            return number
    return MOST_CALLS


async def run(*, size: str) -> Figures:
    """On PostgreSQL, with the smallest spool that can be configured."""
    async with stage.opened("postgresql", spool_mib=SPOOL_MIB) as scene:
        await scene.service.start()
        first = [await scene.clients.send(scene.calls.next(alike=True)) for _ in range(3)]
        await asyncio.to_thread(scene.postgresql.stop, "fast")
        answered = await filled(scene)
        full = await scene.service.metrics()
        refused = [await scene.clients.send(scene.calls.next(alike=True)) for _ in range(AFTER[size])]
        readiness = await scene.service.readiness()
        live, _ = await scene.service.asked("/livez")
        alarm = await scene.service.metrics()
        size_on_disk = sum(path.stat().st_size for path in (scene.folder / "spool").rglob("*") if path.is_file())
        await asyncio.to_thread(scene.postgresql.start)
        drained = await settled(scene)
        after = [await scene.clients.send(scene.calls.next(alike=True)) for _ in range(5)]
        ready = await scene.service.readiness()
        status = await scene.service.stop()
        found = await stage.outcome(scene)
    name = "rescue_cds_not_recorded_total"
    rise = alarm.get(name, 0.0) - full.get(name, 0.0)
    return Figures(
        f"PostgreSQL down and a spool of {SPOOL_MIB} MiB full",
        (
            Figure("answered before", str(len(first)), _all(first, 200)),
            Figure("answered from the spool until it was full", str(answered), 0 < answered < MOST_CALLS),
            Figure("files of the spool then", f"{size_on_disk} bytes", 0 < size_on_disk <= SPOOL_MIB * 1024 * 1024),
            Figure(
                "503 from then on", f"{sum(s.status == 503 for s in refused)} of {len(refused)}", _all(refused, 503)
            ),
            Figure(f"{name} rose by", f"{rise:.0f}", rise == len(refused)),
            Figure("readiness", f"{readiness[0]} {readiness[1]}", readiness[0] == 503),
            Figure("liveness", str(live), live == 200),
            Figure("return to empty spool", f"{drained:.1f} s", drained < 30),
            Figure("then answered, without a restart", f"{sum(s.status == 200 for s in after)} of 5", _all(after, 200)),
            Figure("readiness then", f"{ready[0]} {ready[1]}", ready[0] == 200),
            *stage.kept(found),
            Figure("decisions that nobody was told", str(found.audit.untold), found.audit.untold == 0),
            Figure("exit status", str(status), status == 0),
        ),
    )


def _all(sent: list[Sent], status: int) -> bool:
    return all(one.status == status for one in sent)
