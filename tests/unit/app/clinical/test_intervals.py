"""A comparator decides only when it decides with certainty, and nothing is rounded before it (clinical 1.3)."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.clinical.findings import Finding
from app.clinical.intervals import Interval

MET, NOT, OPEN = Finding.MET, Finding.NOT_MET, Finding.UNKNOWN


@pytest.mark.parametrize(
    ("comparator", "value", "less", "at_most", "more", "at_least"),
    [
        ("", 99, MET, MET, NOT, NOT),
        ("", 100, NOT, MET, NOT, MET),
        ("", 101, NOT, NOT, MET, MET),
        ("<", 100, MET, MET, NOT, NOT),
        ("<=", 100, OPEN, MET, NOT, OPEN),
        (">", 100, NOT, NOT, MET, MET),
        (">=", 100, NOT, OPEN, OPEN, MET),
        ("<", 99, MET, MET, NOT, NOT),
        ("<=", 99, MET, MET, NOT, NOT),
        (">", 101, NOT, NOT, MET, MET),
        (">=", 101, NOT, NOT, MET, MET),
        ("<", 101, OPEN, OPEN, OPEN, OPEN),
        ("<=", 101, OPEN, OPEN, OPEN, OPEN),
        (">", 99, OPEN, OPEN, OPEN, OPEN),
        (">=", 99, OPEN, OPEN, OPEN, OPEN),
    ],
)
def test_a_bound_decides_only_with_certainty(
    comparator: str, value: int, less: Finding, at_most: Finding, more: Finding, at_least: Finding
) -> None:
    interval = Interval.of(value, comparator)
    found = {op: interval.compared(op, Decimal(100)) for op in ("<", "<=", ">", ">=")}
    assert found == {"<": less, "<=": at_most, ">": more, ">=": at_least}


def test_sixty_six_at_sixty_six_percent_is_exactly_one_hundred() -> None:
    ratio = Interval.of(Decimal(66)).divided_by(Fraction(Decimal("0.66")))
    assert ratio.low == ratio.high == 100
    assert ratio.compared("<", Decimal(100)) is NOT
    assert ratio.compared("<=", Decimal(100)) is MET


def test_a_third_is_not_rounded() -> None:
    ratio = Interval.of(Decimal(100)).divided_by(Fraction(3))
    assert ratio.compared("<", Decimal("33.333333333333333333333333333333333334")) is MET
    assert ratio.compared(">", Decimal("33.333333333333333333333333333333333333")) is MET


@pytest.mark.parametrize(("comparator", "less"), [("<", MET), ("<=", OPEN), (">", NOT), (">=", NOT)])
def test_a_bound_stays_one_when_it_is_divided(comparator: str, less: Finding) -> None:
    assert Interval.of(80, comparator).divided_by(Fraction(4, 5)).compared("<", Decimal(100)) is less


def test_a_range_decides_where_all_of_it_lies_on_one_side() -> None:
    years = Interval(Fraction(17), Fraction(18))
    assert years.compared(">=", Decimal(18)) is OPEN
    assert years.compared(">=", Decimal(17)) is MET
    assert years.compared(">=", Decimal(19)) is NOT
    assert Interval(None, None).compared("<", Decimal(1)) is OPEN


@settings(max_examples=60)
@given(
    value=st.integers(-50, 50),
    comparator=st.sampled_from(["", "<", "<=", ">", ">="]),
    limit=st.integers(-50, 50),
)
def test_less_and_at_least_are_opposites(value: int, comparator: str, limit: int) -> None:
    interval = Interval.of(value, comparator)
    opposite = {MET: NOT, NOT: MET, OPEN: OPEN}
    assert interval.compared(">=", Decimal(limit)) is opposite[interval.compared("<", Decimal(limit))]
    assert interval.compared(">", Decimal(limit)) is opposite[interval.compared("<=", Decimal(limit))]
