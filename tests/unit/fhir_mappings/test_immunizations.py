"""Vaccines: which were given, when, and whether they are live."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fhir_mappings import immunizations
from fhir_mappings.context import Context
from fhir_mappings.facts import Gap, Immunization

CVX = "http://hl7.org/fhir/sid/cvx"
ATC = "http://www.whocc.no/atc"
CONTEXT = Context(now=datetime(2021, 3, 20, 12, tzinfo=UTC), zone=ZoneInfo("Europe/Paris"))


def vaccine(*codings: tuple[str, str], **fields: Any) -> dict[str, Any]:
    code = {"coding": [{"system": system, "code": code} for system, code in codings]}
    base = {"resourceType": "Immunization", "id": "v1", "status": "completed", "vaccineCode": code}
    return base | {"occurrenceDateTime": "2021-03-01"} | fields


def read(resource: dict[str, Any]) -> tuple[tuple[Immunization, ...], tuple[Gap, ...]]:
    return immunizations.collect([("immunizations", json.dumps(resource).encode())], context=CONTEXT)


def one(resource: dict[str, Any]) -> Immunization:
    facts, gaps = read(resource)
    assert gaps == ()
    return facts[0]


@pytest.mark.parametrize(
    ("codings", "live"),
    [
        ([(CVX, "03")], True),
        ([(CVX, "3")], True),
        ([("urn:oid:2.16.840.1.113883.12.292", "121")], True),
        ([(CVX, "187")], False),
        ([(CVX, "8")], False),
        ([(CVX, "88")], None),
        ([(CVX, "02")], None),
        ([(CVX, "9999")], None),
        ([(ATC, "J07BL01")], True),
        ([(ATC, "J07BK03")], False),
        ([(ATC, "J07BN01")], False),
        ([(ATC, "J07BX04")], None),
        ([(CVX, "197"), ("http://hl7.org/fhir/sid/ndc", "49281012188")], False),
        ([(CVX, "88"), (ATC, "J07BB03")], True),
        ([(ATC, "J07BB02"), (CVX, "111")], True),
        ([], None),
    ],
)
def test_live(codings: list[tuple[str, str]], live: bool | None) -> None:
    assert one(vaccine(*codings)).live is live


def test_words_alone_are_neither() -> None:
    fact = one(vaccine(vaccineCode={"text": "MMR"}))
    assert (fact.live, fact.label) == (None, "MMR")


def test_a_partial_date_is_an_interval() -> None:
    fact = one(vaccine((CVX, "03"), occurrenceDateTime="2021-02"))
    assert fact.reference == "Immunization/v1"
    assert fact.when is not None
    assert fact.when.latest == datetime(2021, 2, 28, 22, 59, 59, 999999, tzinfo=UTC)


def test_without_a_date() -> None:
    resource = vaccine((CVX, "03"), occurrenceString="last winter")
    del resource["occurrenceDateTime"]
    assert one(resource).when is None


@pytest.mark.parametrize("status", ["not-done", "entered-in-error"])
def test_what_was_not_given_is_no_fact(status: str) -> None:
    assert read(vaccine((CVX, "03"), status=status)) == ((), ())


def test_another_status_is_a_gap() -> None:
    gap = Gap("immunizations", "status-unknown", reference="Immunization/v1", params=(("status", "maybe"),))
    assert read(vaccine((CVX, "03"), status="maybe")) == ((), (gap,))


def test_a_date_ahead_of_now_is_a_gap() -> None:
    facts, gaps = read(vaccine((CVX, "03"), occurrenceDateTime="2021-04"))
    assert facts == ()
    assert [gap.why for gap in gaps] == ["future-date"]
    assert one(vaccine((CVX, "03"), occurrenceDateTime="2021-03")).when is not None


def test_no_code() -> None:
    resource = vaccine()
    del resource["vaccineCode"]
    assert one(resource) == Immunization("Immunization/v1", None, one(resource).when, "")


def test_what_cannot_be_read_is_a_gap() -> None:
    gap = Gap("immunizations", "unreadable-resource", reference="Immunization/v1")
    assert read(vaccine(status=3)) == ((), (gap,))
