"""FHIR dates as intervals."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_mappings.errors import BadDate
from fhir_mappings.times import FIRST, LAST, parse, parse_day

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-03-10T10:00:00Z", "2026-03-10T10:00:00+00:00"),
        ("2026-03-10t10:00:00z", "2026-03-10T10:00:00+00:00"),
        ("2026-03-10T10:00:00+01:00", "2026-03-10T09:00:00+00:00"),
        ("2026-03-10T10:00:00-05:30", "2026-03-10T15:30:00+00:00"),
        ("2026-03-10T10:00:00+14:00", "2026-03-09T20:00:00+00:00"),
        ("2026-03-10T10:00", "2026-03-10T09:00:00+00:00"),
        ("2026-07-10T10:00:00", "2026-07-10T08:00:00+00:00"),
        ("2026-03-10T10:00:00.5Z", "2026-03-10T10:00:00.500000+00:00"),
        ("2026-03-10T10:00:00.123456789Z", "2026-03-10T10:00:00.123456+00:00"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00+00:00"),
    ],
)
def test_instants(text: str, instant: str) -> None:
    when = parse(text, zone=BERLIN)
    assert when.exact
    assert when.earliest.isoformat() == instant


@pytest.mark.parametrize(
    ("text", "earliest", "length"),
    [
        ("2026-03-10", "2026-03-09T23:00:00+00:00", timedelta(hours=24)),
        ("2026-03-29", "2026-03-28T23:00:00+00:00", timedelta(hours=23)),
        ("2026-10-25", "2026-10-24T22:00:00+00:00", timedelta(hours=25)),
        ("2026-02", "2026-01-31T23:00:00+00:00", timedelta(days=28)),
        ("2026-12", "2026-11-30T23:00:00+00:00", timedelta(days=31)),
        ("2026", "2025-12-31T23:00:00+00:00", timedelta(days=365)),
    ],
)
def test_partial_dates_are_intervals_in_the_zone(text: str, earliest: str, length: timedelta) -> None:
    when = parse(text, zone=BERLIN)
    assert not when.exact
    assert when.earliest.isoformat() == earliest
    assert when.latest - when.earliest == length - timedelta(microseconds=1)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Paris", "America/New_York", "Pacific/Kiritimati"])
@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("9999-12-31T23:59:59Z", LAST),
        ("9999-12-31T12:00:00", LAST),
        ("9999-12-30", LAST),
        ("0001-01-01T23:59:59Z", FIRST),
        ("0001-02", FIRST),
        ("9998-12-31T00:00:00Z", LAST),
        ("0002-01-01T00:00:00Z", FIRST),
        ("9998-12-30T23:59:59Z", LAST - timedelta(seconds=1)),
        ("0002-01-01T00:00:01Z", FIRST + timedelta(seconds=1)),
    ],
)
def test_the_ends_of_the_calendar_are_kept_away_from(text: str, instant: datetime, zone: str) -> None:
    when = parse(text, zone=ZoneInfo(zone))
    assert (when.earliest, when.latest) == (instant, instant)
    year = timedelta(days=365)
    assert when.latest + year > when.earliest - year


def test_an_interval_across_the_limit_is_cut() -> None:
    when = parse("9998", zone=UTC)
    assert (when.earliest, when.latest) == (datetime(9998, 1, 1, tzinfo=UTC), LAST)


BAD = [
    "", "today", "2026-13", "2026-02-30", "26-01-01", "2026-01-01T", "2026-01-01T25:00", "2026-01-01T10:61",
    "2026-01-01T10:00:00+15:00", "2026-01-01T10:00:00+01:60", "2026-1-1", "2026-01-01 10:00", "0000-01-01",
    "2026-01-01T10:00:61Z", "9999", "0001-01-01T00:00:00+14:00", "2026-01-01T10:00:00.Z",
]  # fmt: skip


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_date(text: str) -> None:
    with pytest.raises(BadDate) as caught:
        parse(text, zone=BERLIN)
    assert text == "" or text not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("1966-05-04", date(1966, 5, 4), date(1966, 5, 4)),
        ("1966-02", date(1966, 2, 1), date(1966, 2, 28)),
        ("1966", date(1966, 1, 1), date(1966, 12, 31)),
        ("1966-05-04T10:00:00Z", date(1966, 5, 4), date(1966, 5, 4)),
    ],
)
def test_days(text: str, first: date, last: date) -> None:
    assert parse_day(text) == (first, last)


@pytest.mark.parametrize("text", ["", "1966-02-30", "9999", "x"])
def test_what_is_no_day(text: str) -> None:
    with pytest.raises(BadDate):
        parse_day(text)


@pytest.mark.parametrize("fraction", ["", ".123456", ".1"])
@pytest.mark.parametrize("offset", ["Z", "-05:30", "+13:59", "-00:30"])
def test_the_commonest_form_is_read_like_all_others(fraction: str, offset: str) -> None:
    more_digits = (fraction or ".").ljust(8, "0")
    full = parse(f"2026-03-10T10:00:00{more_digits}{offset}", zone=BERLIN)
    assert parse(f"2026-03-10T10:00:00{fraction}{offset}", zone=BERLIN) == full


@given(st.integers(-(10**15), 8 * 10**15), st.sampled_from([UTC, timezone(timedelta(hours=-9, minutes=-30))]))
def test_an_instant_survives(microseconds: int, zone: timezone) -> None:
    moment = (datetime(1990, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)).astimezone(zone)
    assert parse(moment.isoformat(), zone=BERLIN).earliest == moment


@given(st.text(max_size=30))
def test_no_text_breaks_it(text: str) -> None:
    try:
        when = parse(text, zone=BERLIN)
    except BadDate:
        return
    assert when.earliest <= when.latest
