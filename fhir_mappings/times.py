"""FHIR dates, dateTimes and instants as intervals of instants in UTC (`facts.When`).

UTC inside, the facility's zone only to read what has no offset: differences of two datetimes of one local zone would
be wall-clock differences, an hour wrong across a change of clocks.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo

from fhir_mappings.errors import BadDate
from fhir_mappings.facts import When

_FHIR = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:[Tt](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,12}))?)?(Z|z|[+-]\d\d:\d\d)?)?)?)?"
)


_INSTANT = re.compile(
    r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?(?:Z|[+-](?:0\d|1[0-3]):[0-5]\d)", re.ASCII
)
"""The commonest form, which the standard library reads the same way, many times faster."""


FIRST = datetime(2, 1, 1, tzinfo=UTC)
LAST = datetime(9998, 12, 31, tzinfo=UTC)
"""A year from both ends of the calendar: every window and every zone can be added to an instant between them.

Some systems write the end itself for "never" or "not known"."""


def parse(text: str, *, zone: tzinfo) -> When:
    """The interval a FHIR date or dateTime allows; a time without an offset is read in `zone`.

    A day is from its first to its last microsecond in `zone` (23 or 25 hours long where clocks change), months and
    years alike. What lies before `FIRST` or after `LAST` is read as that. Raises BadDate.
    """
    when = _parse(text, zone=zone)
    if when.earliest >= FIRST and when.latest <= LAST:
        return when
    return When(*(min(max(moment, FIRST), LAST) for moment in (when.earliest, when.latest)))


def _parse(text: str, *, zone: tzinfo) -> When:
    if _INSTANT.fullmatch(text):
        try:
            instant = datetime.fromisoformat(text).astimezone(UTC)
        except (ValueError, OverflowError):
            raise BadDate("not a FHIR date or dateTime") from None
        return When(instant, instant)
    match = _FHIR.fullmatch(text)
    if match is None:
        raise BadDate("not a FHIR date or dateTime")
    year, month, day, hour, minute, second, fraction, offset = match.groups()
    try:
        if hour is not None:
            instant = _instant(
                date(int(year), int(month), int(day)), hour, minute, second, fraction, _offset(offset, zone)
            )
            return When(instant, instant)
        first, following = _days(int(year), month and int(month), day and int(day))
        midnight = datetime.combine(first, time(), zone).astimezone(UTC)
        return When(midnight, datetime.combine(following, time(), zone).astimezone(UTC) - timedelta(microseconds=1))
    except (ValueError, OverflowError):
        raise BadDate("not a FHIR date or dateTime") from None


def parse_day(text: str) -> tuple[date, date]:
    """First and last calendar day that a FHIR `date` (birth date) allows. Raises BadDate."""
    match = _FHIR.fullmatch(text)
    if match is None:
        raise BadDate("not a FHIR date")
    year, month, day = match.group(1), match.group(2), match.group(3)
    try:
        first, following = _days(int(year), month and int(month), day and int(day))
    except (ValueError, OverflowError):
        raise BadDate("not a FHIR date") from None
    return first, following - timedelta(days=1)


def _days(year: int, month: int | str | None, day: int | str | None) -> tuple[date, date]:
    """The first day, and the day after the last."""
    if month is None:
        return date(year, 1, 1), date(year + 1, 1, 1)
    if day is None:
        first = date(year, int(month), 1)
        return first, (first + timedelta(days=32)).replace(day=1)
    first = date(year, int(month), int(day))
    return first, first + timedelta(days=1)


def _instant(day: date, hour: str, minute: str, second: str | None, fraction: str | None, zone: tzinfo) -> datetime:
    leap = second == "60"
    micro = int((fraction or "0")[:6].ljust(6, "0"))
    clock = time(int(hour), int(minute), 59 if leap else int(second or 0), micro)
    moment = datetime.combine(day, clock, zone).astimezone(UTC)
    return moment + timedelta(seconds=1) if leap else moment


def _offset(text: str | None, zone: tzinfo) -> tzinfo:
    if text is None:
        return zone
    if text in {"Z", "z"}:
        return UTC
    hours, minutes = int(text[1:3]), int(text[4:6])
    if hours > 14 or minutes > 59:
        raise ValueError
    delta = timedelta(hours=hours, minutes=minutes)
    return timezone(-delta if text[0] == "-" else delta)
