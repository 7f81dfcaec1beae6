"""The patient: age, sex, alive or not, and nothing else."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fhir_mappings import patient
from fhir_mappings.context import Context
from fhir_mappings.facts import Gap, Patient

CONTEXT = Context(now=datetime(2021, 3, 20, 23, 30, tzinfo=UTC), zone=ZoneInfo("Europe/Paris"))


def read(**fields: Any) -> tuple[Patient, tuple[Gap, ...]]:
    resource = {"resourceType": "Patient", "id": "1"} | fields
    return patient.read(json.dumps(resource).encode(), context=CONTEXT)


@pytest.mark.parametrize(
    ("text", "earliest", "latest"),
    [
        ("1960-02-29", date(1960, 2, 29), date(1960, 2, 29)),
        ("1960-02", date(1960, 2, 1), date(1960, 2, 29)),
        ("1960", date(1960, 1, 1), date(1960, 12, 31)),
        ("2021-03-21", date(2021, 3, 21), date(2021, 3, 21)),
    ],
)
def test_born(text: str, earliest: date, latest: date) -> None:
    found, gaps = read(birthDate=text)
    assert (found.born_earliest, found.born_latest, gaps) == (earliest, latest, ())


@pytest.mark.parametrize(
    ("birth", "why"),
    [
        ("1960-13", "birth-date-unreadable"),
        (1960.5, "birth-date-unreadable"),
        ("2021-03-22", "birth-date-future"),
        ("2022", "birth-date-future"),
    ],
)
def test_an_impossible_birth_date_is_a_gap(birth: Any, why: str) -> None:
    found, gaps = read(birthDate=birth, gender="male")
    assert (found.born_earliest, found.born_latest, found.sex) == (None, None, "male")
    assert gaps == (Gap("patient", why, reference="Patient/1"),)


@pytest.mark.parametrize(
    ("gender", "sex"),
    [("female", "female"), ("Male", "male"), ("other", ""), ("unknown", ""), (3, ""), (None, "")],
)
def test_sex(gender: Any, sex: str) -> None:
    assert read(gender=gender)[0].sex == sex


@pytest.mark.parametrize(
    ("fields", "deceased"),
    [
        ({}, False),
        ({"deceasedBoolean": False}, False),
        ({"deceasedBoolean": None}, False),
        ({"deceasedBoolean": True}, True),
        ({"deceasedDateTime": "2021-03-19"}, True),
        ({"deceasedDateTime": "last night"}, True),
        ({"deceasedBoolean": False, "deceasedDateTime": "2021"}, True),
        ({"deceasedDateTime": {"extension": []}}, True),
    ],
)
def test_deceased(fields: dict[str, Any], deceased: bool) -> None:
    assert read(**fields)[0].deceased is deceased


def test_no_name_is_kept() -> None:
    found, _ = read(name=[{"family": "Doe"}], identifier=[{"value": "4711"}])
    assert found == Patient(reference="Patient/1")
    assert "Doe" not in repr(found)


def test_what_cannot_be_read_at_all() -> None:
    assert patient.read(b"[]", context=CONTEXT) == (Patient(reference=""), (Gap("patient", "unreadable-resource"),))
