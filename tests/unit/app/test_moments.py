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
