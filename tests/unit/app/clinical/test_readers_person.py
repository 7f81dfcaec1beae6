"""Age by birth date on the facility's calendar (reading A1), and sex as recorded."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from app.clinical.chart import Chart
from app.clinical.findings import Finding
from app.clinical.readers import read as read_leaf
from app.clinical.reading import Reading
from fhir_mappings.facts import Facts
from tests.unit.app.clinical.build import NOW, ZONE, knowledge, leaf, patient, read, source, unread


def adult(reading: Reading) -> Finding:
    assert reading.interval is not None
    return reading.interval.compared(">=", Decimal(18))


@pytest.mark.parametrize(("born", "finding"), [(date(2008, 3, 10), Finding.MET), (date(2008, 3, 11), Finding.NOT_MET)])
def test_an_adult_from_the_eighteenth_birthday_on(born: date, finding: Finding) -> None:
    assert adult(read("age", patient(born=born))) is finding


def test_the_birthday_begins_at_the_facilitys_midnight() -> None:
    """Half past eleven in the evening in UTC is the next day in Berlin."""
    late = datetime(2026, 3, 9, 23, 30, tzinfo=UTC)
    assert adult(read("age", patient(born=date(2008, 3, 10)), now=late)) is Finding.MET
    assert adult(read("age", patient(born=date(2008, 3, 10)), now=late.replace(hour=22))) is Finding.NOT_MET


@pytest.mark.parametrize(("day", "years"), [(date(2026, 2, 28), "17"), (date(2026, 3, 1), "18")])
def test_who_was_born_on_a_leap_day_comes_of_age_in_march(day: date, years: str) -> None:
    now = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    assert read("age", patient(born=date(2008, 2, 29)), now=now).evidence[0].value == years


@pytest.mark.parametrize(
    ("until", "shown", "finding"),
    [
        (date(2008, 12, 31), "17 to 18 years", Finding.UNKNOWN),
        (date(2008, 3, 10), "18 years", Finding.MET),
    ],
)
def test_a_partial_birth_date_decides_when_all_of_it_does(until: date, shown: str, finding: Finding) -> None:
    reading = read("age", patient(born=date(2008, 1, 1), until=until))
    assert reading.shown == shown
    assert adult(reading) is finding
    assert dict(reading.reason.params) == {"state": shown}


def test_no_birth_date_is_unknown_and_not_a_failure() -> None:
    reading = read("age", patient(born=None))
    assert not reading.known
    assert (reading.reason.code, reading.missing, reading.failed) == ("no-birth-date", ("age",), False)


@pytest.mark.parametrize("name", ["age", "sex"])
def test_a_patient_who_could_not_be_read_is_a_failure(name: str) -> None:
    nobody = Facts(asked_at=NOW, zone=ZONE, sources=(unread("patient"),))
    reading = read_leaf(Chart(nobody, knowledge=knowledge(), now=NOW), leaf(name))
    assert not reading.known
    assert (reading.missing, reading.failed) == ((name,), True)


def test_other_sex_is_unknown() -> None:
    reading = read("sex", patient(sex=""), source("patient"))
    assert (reading.known, reading.reason.code, reading.missing, reading.failed) == (False, "no-sex", ("sex",), False)


@pytest.mark.parametrize("sex", ["female", "male"])
def test_sex_as_recorded(sex: str) -> None:
    reading = read("sex", patient(sex=sex))
    assert reading.state == sex
    assert reading.evidence[0].reference == "Patient/p1"
