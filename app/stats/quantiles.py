"""Shares with their uncertainty, and quantiles in bounded memory. Both keep their n."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

LEAST: Final = 5
"""Below so many a share says nothing and is not shown."""

_Z: Final = 1.959963984540054
"""The 97.5th percentile of the normal distribution: an interval of 95 %."""


@dataclass(frozen=True, slots=True)
class Rate:
    """So many of so many. What is not to be shown is None."""

    part: int
    whole: int

    @property
    def percent(self) -> float | None:
        return None if self.whole < LEAST else 100 * self.part / self.whole

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's score interval of 95 %, in percent: unlike the usual one it holds for small n and shares near 0."""
        if self.whole < LEAST:
            return None
        n, share, z2 = self.whole, self.part / self.whole, _Z * _Z
        middle = share + z2 / (2 * n)
        reach = _Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
        low, high = ((middle - reach) / (1 + z2 / n), (middle + reach) / (1 + z2 / n))
        return 100 * max(0.0, low), 100 * min(1.0, high)


@dataclass(frozen=True, slots=True)
class Tally:
    """How often each value occurred, rounded to three significant figures: a few thousand numbers at the very most."""

    counts: Counter[float] = field(default_factory=Counter)

    def add(self, value: float) -> None:
        """One more. What is no finite number, or negative, is nobody's age or time."""
        if math.isfinite(value) and value >= 0:
            self.counts[float(f"{value:.3g}")] += 1

    @property
    def n(self) -> int:
        return self.counts.total()

    def quantiles(self, *shares: float) -> Sequence[float | None]:
        """By nearest rank: the smallest value that so many of the values do not exceed. None of nothing."""
        total, values = self.n, sorted(self.counts.items())
        return [None if not total else _ranked(values, rank=max(1, math.ceil(share * total))) for share in shares]


def _ranked(values: Sequence[tuple[float, int]], *, rank: int) -> float:
    passed = 0
    for value, count in values:
        passed += count
        if passed >= rank:
            return value
    raise AssertionError("a rank beyond the count")
