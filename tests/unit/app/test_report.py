"""The public form of evidence, ages and instants."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from app import report
from app.clinical.reading import Evidence

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("minutes", "expected"),
    [(0, "0.0"), (3, "0.0"), (9, "0.2"), (480, "8.0"), (-1, "0.0"), (-6, "0.0"), (60 * 24 * 365, "8760.0")],
)
def test_ages_have_one_decimal_half_even(minutes: int, expected: str) -> None:
    assert report.age_hours(NOW, NOW - timedelta(minutes=minutes)) == expected


def test_instants_are_utc_to_the_second() -> None:
    moment = datetime(2026, 11, 23, 13, 0, 0, 999_999, tzinfo=timezone(timedelta(hours=1)))
    assert report.instant(moment) == "2026-11-23T12:00:00Z"


def test_members_without_value_are_left_out() -> None:
    (entry,) = report.evidence([Evidence("crp", "Observation/1", value="262")], now=NOW)
    assert entry == {"concept": "crp", "reference": "Observation/1", "value": "262"}


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (">1650 µg/L", ">1650 µg/L"),
        ("a\x07\x1b[31mb\x9b\x7f\u202e\u2066\ud800", "a[31mb"),
        ("x" * 600, "x" * 511 + "…"),
        ("\x00", ""),
        ("<b>", "<b>"),
    ],
)
def test_words_of_the_record_are_cut_and_cleaned_but_not_changed(written: str, shown: str) -> None:
    assert report.printable(written) == shown
