"""Moments as a person writes them on a command line: a date, a timestamp with its zone, or so long ago."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Final

from app.clinical.lasting import HORIZON

_BACK: Final = re.compile(r"(\d{1,5})([dh])", re.ASCII)

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
        moment = now - timedelta(hours=int(back[1]) * (24 if back[2] == "d" else 1))
    else:
        try:
            day = date.fromisoformat(text) + timedelta(days=whole_day)
            moment = datetime(day.year, day.month, day.day, tzinfo=zone)
        except (ValueError, OverflowError):
            moment = _timestamp(text)
    if not 1900 <= moment.year <= HORIZON.year:
        raise BadMoment(f"no year of any decision: write one from 1900 to {HORIZON.year}")
    return moment.astimezone(UTC)


def _timestamp(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = datetime(1, 1, 1)  # noqa: DTZ001
    if moment.tzinfo is None:
        raise BadMoment("write 2026-11-01, 2026-11-01T08:00:00+01:00, or so long ago: 7d, 24h")
    return moment
