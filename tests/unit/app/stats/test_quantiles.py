"""Shares that say how sure they are, and quantiles that need no list."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.stats.quantiles import LEAST, Rate, Tally


@pytest.mark.parametrize(
    ("part", "whole", "low", "high"),
    [
        # Worked out by hand from Wilson's formula with z = 1.96.
        *[(8, 10, 49.02, 94.33), (0, 10, 0.0, 27.75), (10, 10, 72.25, 100.0)],
        *[(1, 5, 3.62, 62.45), (50, 100, 40.38, 59.62)],
    ],
)
def test_the_interval_is_that_of_wilson(part: int, whole: int, low: float, high: float) -> None:
    assert Rate(part, whole).interval == pytest.approx((low, high), abs=0.005)
    assert Rate(part, whole).percent == pytest.approx(100 * part / whole)


@pytest.mark.parametrize("whole", range(LEAST))
def test_of_few_no_rate_is_said(whole: int) -> None:
    rate = Rate(whole, whole)
    assert (rate.percent, rate.interval) == (None, None)


@given(st.integers(LEAST, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_share_lies_in_its_interval(of: tuple[int, int]) -> None:
    rate = Rate(*of)
    assert rate.interval is not None
    assert rate.percent is not None
    low, high = rate.interval
    assert 0 <= low <= rate.percent + 1e-9
    assert rate.percent - 1e-9 <= high <= 100


def test_quartiles_by_nearest_rank() -> None:
    tally = Tally()
    for value in (0.1, 7.5, 30.0, 2.0, 12.5):
        tally.add(value)
    assert tally.n == 5
    assert tally.quantiles(0.25, 0.5, 0.75, 1.0) == [2.0, 7.5, 12.5, 30.0]


def test_nothing_has_no_quantile() -> None:
    assert Tally().quantiles(0.5, 0.99) == [None, None]


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_what_is_no_age_and_no_time_is_not_counted(value: float) -> None:
    tally = Tally()
    tally.add(value)
    assert tally.n == 0


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200), st.floats(0.01, 1))
def test_a_quantile_is_that_of_the_sorted_list_to_three_figures(values: list[float], share: float) -> None:
    tally = Tally()
    for value in values:
        tally.add(value)
    rounded = sorted(float(f"{value:.3g}") for value in values)
    assert tally.quantiles(share) == [rounded[max(1, math.ceil(share * len(values))) - 1]]


def test_memory_is_that_of_the_distinct_values() -> None:
    tally = Tally()
    for number in range(200_000):
        tally.add(number / 10)
    assert tally.n == 200_000
    assert len(tally.counts) < 5000
