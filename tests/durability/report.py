"""Every durability figure, printed: `make durability` (DURABILITY_ARGS="--size full" for the whole sizes).

What is killed, stopped and cut is the service and a PostgreSQL server of the report's own, on 127.0.0.1, in temporary
directories. A figure that is not what it has to be is marked, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import platform
import sys
import time
import traceback
from collections.abc import Sequence
from typing import Any, Final

from tests.durability.processes import ROOT, die_with_parent
from tests.figures import Figures, shown

AREAS: Final = {
    "kills_sqlite": ("kills", {"kind": "sqlite"}),
    "kills_postgresql": ("kills", {"kind": "postgresql"}),
    "busy": ("busy", {}),
    "restarts": ("restarts", {}),
    "outage": ("outage", {}),
    "sigterms": ("sigterms", {}),
    "rolling": ("rolling", {}),
    "spool_full": ("spool_full", {}),
    "mutations": ("mutations", {}),
    "fsync": ("fsync", {}),
    "latency": ("latency", {}),
}
"""The module of each, and what else its `run` is told."""

ALONE: Final = frozenset({"latency"})
"""Areas whose figures are times: nothing of ours runs beside them."""

SIZES: Final = ("small", "full")


def figures(area: str, *, size: str) -> Figures:
    """The figures of one area, made now."""
    module, told = AREAS[area]
    made: Any = importlib.import_module(f"tests.durability.{module}")
    found = asyncio.run(made.run(size=size, **told))
    if not isinstance(found, Figures):
        raise TypeError(f"tests.durability.{module}.run gives no Figures")
    return found


def one(area: str, *, size: str) -> bool:
    """Prints the figures of an area; whether every one is what it has to be."""
    print(f"\n... {area}", file=sys.stderr, flush=True)
    begun = time.monotonic()
    try:
        found = figures(area, size=size)
    except Exception as error:  # noqa: BLE001 # an area that cannot be held is one that does not hold; the others go on
        traceback.print_exc()
        print(f"\n{area} (failed)\n  NOT  {type(error).__name__}: {error}", flush=True)
        return False
    print("\n" + shown(found, seconds=time.monotonic() - begun), flush=True)
    return found.held


async def beside(areas: Sequence[str], *, size: str, at_once: int) -> list[str]:
    """Each area in a process of its own, so many at once; those that are not as they have to be."""
    places, bad = asyncio.Semaphore(at_once), []

    async def ran(area: str) -> None:
        async with places:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.durability.report", "--size", size, "--area", area, "--bare"),
                cwd=ROOT,
                stdout=asyncio.subprocess.PIPE,
                preexec_fn=die_with_parent,
            )
            said, _ = await process.communicate()
            print(said.decode().rstrip(), flush=True)
            if process.returncode:
                bad.append(area)

    await asyncio.gather(*map(ran, areas))
    return bad


def main() -> int:
    """0 when every figure is what it has to be."""
    parser = argparse.ArgumentParser(prog="python -m tests.durability.report", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--area", action="append", choices=AREAS, default=[], help="only this one; repeatable")
    parser.add_argument("--without", action="append", choices=AREAS, default=[], help="not this one; repeatable")
    parser.add_argument(
        "--side-by-side", action="store_true", help="two areas at once, but for those whose figures are times"
    )
    parser.add_argument("--bare", action="store_true", help="the figures alone")
    options = parser.parse_args()
    chosen = [area for area in options.area or AREAS if area not in options.without]
    if not options.bare:
        print(
            f"rescue-cds durability figures, size {options.size}; Python {platform.python_version()}, "
            f"{platform.machine()}, {os.cpu_count()} cores"
        )
    bad: list[str] = []
    if options.side_by_side:
        together = [area for area in chosen if area not in ALONE]
        bad += asyncio.run(beside(together, size=options.size, at_once=2))
        chosen = [area for area in chosen if area in ALONE]
    bad += [area for area in chosen if not one(area, size=options.size)]
    if not options.bare:
        print(f"\n{'every figure is what it has to be' if not bad else 'NOT what it has to be: ' + ', '.join(bad)}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
