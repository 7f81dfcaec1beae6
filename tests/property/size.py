"""How much of the big tests is run: `RESCUE_CDS_EXAMPLES=100` (per cent) is the whole, a quarter of it without."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def _percent() -> int:
    return int(os.environ.get("RESCUE_CDS_EXAMPLES", "25"))


def examples(whole: int) -> int:
    """That many examples, scaled; never fewer than ten."""
    return max(10, whole * _percent() // 100)


def sample(items: Iterable[T], *, of: Callable[[T], object], start: int = 0, percent: int | None = None) -> list[T]:
    """A part of a big matrix, always the same: every n-th item of each group, at least one of each.

    `of` names an item's group. Each group begins one place further on than the one before, so that groups laid out
    alike do not give the same places; `start` moves all of them. `percent` in place of the environment's.
    """
    step = max(1, 100 // max(1, _percent() if percent is None else percent))
    groups: dict[object, list[T]] = {}
    for item in items:
        groups.setdefault(of(item), []).append(item)
    return [
        item
        for offset, group in enumerate(groups.values(), start=start)
        for item in group[offset % min(step, len(group)) :: step]
    ]
