"""Moments of a command line."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from app import moments

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
PARIS = ZoneInfo("Europe/Paris")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-01", "2026-10-31T23:00:00+00:00"),
        ("2026-11-01T08:00:00+01:00", "2026-11-01T07:00:00+00:00"),
        ("2026-11-01T08:00:00Z", "2026-11-01T08:00:00+00:00"),
        ("7d", "2026-11-16T12:00:00+00:00"),
        ("24h", "2026-11-22T12:00:00+00:00"),
        ("000007d", "2026-11-16T12:00:00+00:00"),
    ],
)
def test_what_is_a_moment(text: str, expected: str) -> None:
    assert moments.read(text, now=NOW, zone=PARIS).isoformat() == expected


def test_a_whole_day_ends_with_the_next() -> None:
    assert moments.read("2026-10-24", now=NOW, zone=PARIS, whole_day=True).isoformat() == "2026-10-24T22:00:00+00:00"


@pytest.mark.parametrize("text", ["", "now", "2026-13-01", "2026-11-01T08:00:00", "7w", "٧d", "1850-01-01", "99999d"])
def test_what_is_none_says_the_remedy(text: str) -> None:
    with pytest.raises(moments.BadMoment, match="write"):
        moments.read(text, now=NOW, zone=UTC)


@pytest.mark.parametrize("whole_day", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        *("0001-01-01", "9999-12-31", "2201-01-01", "9999-12-31T23:59:59-23:00", "0001-01-01T00:00:00+23:00"),
        *("99999d", "99999999999d", "99999999999999h", f"{'9' * 5000}d"),
    ],
    ids=lambda text: text[:20] if isinstance(text, str) else None,
)
def test_what_is_out_of_reach_says_the_years(text: str, whole_day: bool) -> None:
    with pytest.raises(moments.BadMoment, match="no year of any decision: write one from 1900 to 2200"):
        moments.read(text, now=NOW, zone=PARIS, whole_day=whole_day)


def test_the_last_day_counts_too() -> None:
    assert moments.read("2200-12-31", now=NOW, zone=UTC, whole_day=True).isoformat() == "2201-01-01T00:00:00+00:00"


@pytest.mark.parametrize("text", ["2026-11-28T10:00:00", "2026-11-28 10:00"])
def test_a_timestamp_without_its_zone_is_told_how_it_is_written(text: str) -> None:
    with pytest.raises(moments.BadMoment, match="needs its zone: write 2026-11-28T10:00:00Z for UTC, or 2026-11-28T10"):
        moments.read(text, now=NOW, zone=UTC)
