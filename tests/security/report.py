"""Every security figure, printed: `make security-report` (SECURITY_ARGS="--size full" for the whole sizes).

Each area is a module with `run(size=...)`; what it counts is held by tests too, on the small size. A figure that is not
what it has to be is marked, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import inspect
import logging
import platform
import sys
import time
from typing import Any, Final

from tests.figures import Figures, shown

AREAS: Final = (
    "forgeries",
    "deputies",
    "lookups",
    "mutations",
    "output_text",
    "canaries",
    "mixing",
    "overload",
    "slow_clients",
)
SIZES: Final = ("small", "full", "huge")


def figures(area: str, *, size: str) -> Figures:
    """The figures of one area, made now."""
    made: Any = importlib.import_module(f"tests.security.{area}").run(size=size)
    found = asyncio.run(made) if inspect.iscoroutine(made) else made
    if not isinstance(found, Figures):
        raise TypeError(f"tests.security.{area}.run gives no Figures")
    return found


def main() -> int:
    """0 when every figure is what it has to be."""
    parser = argparse.ArgumentParser(prog="python -m tests.security.report", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="small", help="huge: a million mutated requests (hours)")
    parser.add_argument("--area", action="append", choices=AREAS, default=[], help="only this one; repeatable")
    parser.add_argument("--without", action="append", choices=AREAS, default=[], help="not this one; repeatable")
    options = parser.parse_args()
    logging.getLogger().addHandler(logging.NullHandler())  # what is refused is logged a thousand times here
    print(f"rescue-cds security figures, size {options.size}; Python {platform.python_version()}, {platform.machine()}")
    bad = []
    for area in options.area or AREAS:
        if area in options.without:
            print(f"\n{area}: left out")
            continue
        print(f"\n... {area}", file=sys.stderr, flush=True)
        begun = time.monotonic()
        found = figures(area, size=options.size)
        print("\n" + shown(found, seconds=time.monotonic() - begun), flush=True)
        if not found.held:
            bad.append(area)
    print(f"\n{'every figure is what it has to be' if not bad else 'NOT what it has to be: ' + ', '.join(bad)}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
