"""Moments as a person writes them on a command line: a date, a timestamp with its zone, or so long ago."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Final, TypeVar

from app.clinical.lasting import HORIZON

_BACK: Final = re.compile(r"(\d+)([dh])", re.ASCII)
_NO_YEAR: Final = f"no year of any decision: write one from 1900 to {HORIZON.year}"
_M = TypeVar("_M", bound=date)

HOW: Final = """\
A moment is a date (2026-11-01), a timestamp with its zone (2026-11-01T08:00:00+01:00), or so long ago (7d, 24h).
--until a date counts that day. Dates are read, and days counted, in the zone of the configuration, else in UTC.
"""
"""For the help of a command that takes `--since` and `--until`."""


class BadMoment(ValueError):
    """What is no moment. The message says the remedy, and not which option it stood behind."""


def read(text: str, *, now: datetime, zone: tzinfo, whole_day: bool = False) -> datetime:
    """The moment in UTC; a date is its midnight in `zone`, with `whole_day` the next one. Raises BadMoment."""
    back = _BACK.fullmatch(text)
    if back:
        return _in_reach(_back(back[1], back[2], now=now)).astimezone(UTC)
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return _in_reach(_timestamp(text)).astimezone(UTC)
    day = _in_reach(day) + timedelta(days=whole_day)
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def _back(number: str, unit: str, *, now: datetime) -> datetime:
    try:
        return now - timedelta(hours=int(number) * (24 if unit == "d" else 1))
    except (ValueError, OverflowError):  # more digits than a number may have, or more days than there have been
        raise BadMoment(_NO_YEAR) from None


def _timestamp(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadMoment("write 2026-11-01, 2026-11-01T08:00:00+01:00, or so long ago: 7d, 24h") from None
    if moment.tzinfo is None:
        written = moment.isoformat()
        raise BadMoment(f"a timestamp needs its zone: write {written}Z for UTC, or {written}+01:00")
    return moment


def _in_reach(moment: _M) -> _M:
    """Unchanged. Raises BadMoment for what lies so far away that no decision can be there."""
    if not 1900 <= moment.year <= HORIZON.year:
        raise BadMoment(_NO_YEAR)
    return moment
