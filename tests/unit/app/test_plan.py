"""The gather plan: one list, rendered as prefetch templates and as searches."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import parse_qsl

import pytest

from app import plan as asking
from cds_hooks.prefetch import validate_template
from fhir_mappings.codebook import Code, Codebook
from fhir_mappings.errors import BadCodebook

NOW = datetime(2026, 11, 23, 12, 0, 0, 500, tzinfo=UTC)


def book(name: str, concepts: tuple[str, ...]) -> Codebook:
    return Codebook(name, {c: {"codes": [{"system": "loinc", "code": f"{c}-1", "source": "test"}]} for c in concepts})


OBSERVATIONS = book(
    "observations",
    (
        *asking.LABS,
        *asking.VIROLOGY,
        *asking.RESPIRATORY,
        *asking.VITALS,
        *asking.ECMO,
        *asking.MICROBIOLOGY,
        *asking.SCREENING,
    ),
)
INGREDIENTS = book("ingredients", asking.LONG_ACTING)
PLAN = asking.plan(OBSERVATIONS, INGREDIENTS)
BY_KEY = {need.key: need for need in PLAN}


def test_keys_are_those_of_the_sources() -> None:
    assert [need.key for need in PLAN] == [
        "patient",
        "labs",
        "virology",
        "respiratory",
        "vitals",
        "ecmo",
        "microbiology",
        "screening",
        "orders",
        "orders-recent",
        "administrations",
        "long-acting",
        "statements",
        "conditions",
        "allergies",
        "immunizations",
        "procedures",
    ]


@pytest.mark.parametrize("need", PLAN, ids=lambda need: need.key)
def test_every_template_is_one_that_all_clients_can_run(need: asking.Need) -> None:
    template = asking.template(need)
    validate_template(template)
    assert "{{context.patientId}}" in template
    assert "ge20" not in template


@pytest.mark.parametrize("need", PLAN[1:], ids=lambda need: need.key)
def test_template_and_search_ask_the_same_but_for_the_dates(need: asking.Need) -> None:
    resource_type, _, query = asking.template(need).partition("?")
    asked = asking.search(need, patient_id="p1", now=NOW)
    dated = [pair for pair in asked if pair[0] == need.date_param]
    assert resource_type == need.resource_type
    assert [("patient", "p1"), *parse_qsl(query)[1:]] == [pair for pair in asked if pair not in dated]
    assert len(dated) == (0 if need.lookback is None else 1)


def test_patient_is_read_by_id() -> None:
    assert asking.template(BY_KEY["patient"]) == "Patient/{{context.patientId}}"
    assert asking.search(BY_KEY["patient"], patient_id="p1", now=NOW) == []


def test_codes_carry_the_address_of_their_system() -> None:
    assert asking.template(BY_KEY["virology"]) == (
        "Observation?patient={{context.patientId}}"
        "&code=http://loinc.org|sarscov2_pcr-1,http://loinc.org|sarscov2_antigen-1&_sort=-date&_count=100"
    )


def test_look_back_is_an_instant_in_utc_never_later_than_asked() -> None:
    paris = NOW.astimezone(timezone(timedelta(hours=1)))
    asked = dict(asking.search(BY_KEY["labs"], patient_id="p1", now=paris))
    assert asked["date"] == "ge2026-11-20T12:00:00Z"


@pytest.mark.parametrize(
    ("key", "parameter", "days"),
    [
        ("labs", "date", 3),
        ("respiratory", "date", 3),
        ("vitals", "date", 0.25),
        ("ecmo", "date", 60),
        ("microbiology", "date", 7),
        ("screening", "date", 365),
        ("orders-recent", "authoredon", 180),
        ("administrations", "effective-time", 28),
        ("long-acting", "effective-time", 180),
    ],
)
def test_look_backs(key: str, parameter: str, days: float) -> None:
    asked = dict(asking.search(BY_KEY[key], patient_id="p1", now=NOW))
    since = (NOW - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert asked[parameter] == f"ge{since}"


def test_active_orders_are_asked_for_by_status() -> None:
    assert ("status", "active,on-hold") in asking.search(BY_KEY["orders"], patient_id="p1", now=NOW)


def test_a_site_code_with_special_characters_stays_one_code() -> None:
    site = OBSERVATIONS.with_codes([Code("crp", "https://h.example/codes", "CRP,a&b|c $", source="overlay")])
    need = next(need for need in asking.plan(site, INGREDIENTS) if need.key == "labs")
    code = dict(asking.search(need, patient_id="p1", now=NOW))["code"].partition(",http://loinc.org")[0]
    assert code == r"https://h.example/codes|CRP\,a&b\|c \$"
    template = asking.template(need)
    validate_template(template)
    assert dict(parse_qsl(template.partition("?")[2]))["code"].startswith(code)


def test_a_source_without_any_code_is_an_error() -> None:
    with pytest.raises(BadCodebook, match="virology"):
        asking.plan(book("observations", asking.LABS), INGREDIENTS)


def test_without_codes_asks_for_all() -> None:
    need = asking.without_codes(BY_KEY["long-acting"])
    names = [name for name, _ in asking.search(need, patient_id="p1", now=NOW)]
    assert names == ["patient", "effective-time", "_sort", "_count"]
    assert dataclasses.replace(need, params=(), count=0) == dataclasses.replace(
        BY_KEY["long-acting"], params=(), count=0
    )
