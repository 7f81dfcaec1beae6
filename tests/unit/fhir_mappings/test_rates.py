"""Infusion rates as pumps chart them: unit, concentration, and what may not be guessed (reading B9)."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from fhir_mappings import rates
from fhir_mappings.facts import Rate
from fhir_mappings.medications import collect
from tests.unit.fhir_mappings.build import context

Json = dict[str, Any]


def raw(value: Json | None) -> msgspec.Raw:
    return msgspec.Raw() if value is None else msgspec.Raw(json.dumps(value).encode())


def quantity(value: float | None, unit: str = "", *, code: str = "", **more: Any) -> Json:
    found: Json = {"unit": unit, **({} if value is None else {"value": value}), **more}
    return {**found, "code": code} if code else found


def ratio(over: Json | None, under: Json | None) -> Json:
    parts = {"numerator": over, "denominator": under}
    return {name: part for name, part in parts.items() if part is not None}


def read(charted: Json | None, *, as_ratio: Json | None = None, strengths: tuple[Json, ...] = ()) -> Rate:
    held = [json.dumps(strength).encode() for strength in strengths]
    return rates.read(raw(charted), raw(as_ratio), drug="noradrenaline", strengths=held)


def test_only_drugs_with_a_table_are_asked_for() -> None:
    assert rates.is_asked("noradrenaline")
    assert not rates.is_asked("propofol")


@pytest.mark.parametrize(
    ("charted", "value", "unit"),
    [
        (quantity(4, "mg/h"), "4", "mg/h"),
        (quantity(4, "mg/hr"), "4", "mg/h"),
        (quantity(50, "ug/min", code="ug/min"), "3", "mg/h"),
        (quantity(50, "mcg/min"), "3", "mg/h"),
        (quantity(50, "µg/min"), "3", "mg/h"),
        (quantity(3000, "ug/h"), "3", "mg/h"),
        (quantity(0.1, "mg/min"), "6", "mg/h"),
        (quantity(0.5, "ug/kg/min"), "0.03", "mg/kg/h"),
        (quantity(0.5, "mcg/kg/min", code="ug/kg/min"), "0.03", "mg/kg/h"),
        (quantity(30, "ug/kg/h"), "0.03", "mg/kg/h"),
        (quantity(500, "ng/kg/min"), "0.03", "mg/kg/h"),
        (quantity(0, "mg/h"), "0", "mg/h"),
        (quantity(0, "mL/h"), "0", "mg/h"),
    ],
)
def test_what_is_read(charted: Json, value: str, unit: str) -> None:
    rate = read(charted)
    assert (rate.value, rate.unit, rate.why) == (Decimal(value), unit, "")
    assert rate.original


@pytest.mark.parametrize(
    ("charted", "why"),
    [
        (quantity(4), "no-unit"),
        (quantity(4, "mg"), "unit-not-accepted"),
        (quantity(4, "U/h"), "unit-not-accepted"),
        (quantity(4, "mg/h", code="ug/min"), "unit-conflict"),
        (quantity(4, "mg/h", code="mg/kg/h"), "unit-conflict"),
        (quantity(400, "mg/h"), "implausible"),
        (quantity(0.1, "mg/kg/min"), "unit-not-accepted"),
        (quantity(20, "ug/kg/min"), "implausible"),
        (quantity(5, "mL/h"), "no-concentration"),
        (quantity(None, "mg/h"), "unreadable"),
        (quantity(4, "mg/h", comparator=">"), "unreadable"),
        ({"value": "four", "unit": "mg/h"}, "unreadable"),
    ],
)
def test_what_is_not_guessed(charted: Json, why: str) -> None:
    rate = read(charted)
    assert (rate.value, rate.why) == (None, why)


BAG = ratio(quantity(8, "mg"), quantity(50, "mL"))


def test_a_rate_by_volume_with_the_concentration_of_the_bag() -> None:
    rate = read(quantity(18.75, "mL/h"), strengths=(BAG,))
    assert rate == Rate(Decimal(3), "mg/h", "18.75 mL/h of 8 mg / 50 mL")


def test_the_concentration_may_be_coded() -> None:
    coded = ratio(quantity(160, "µg", code="ug"), quantity(1, "ml", code="mL"))
    assert read(quantity(10, "mL/h", code="mL/h"), strengths=(coded,)).value == Decimal("1.6")


@pytest.mark.parametrize(
    "strengths",
    [
        (BAG, BAG),
        ({},),
        (ratio(quantity(8, "mg"), None),),
        (ratio(None, quantity(50, "mL")),),
        (ratio(quantity(8, "mg"), quantity(0, "mL")),),
        (ratio(quantity(8, "mg", comparator="<"), quantity(50, "mL")),),
        (ratio(quantity(8, "mmol"), quantity(50, "mL")),),
        (ratio(quantity(8), quantity(50)),),
        (ratio(quantity(8000, "mg"), quantity(1, "mL")),),
        ({"numerator": 8},),
    ],
)
def test_without_a_concentration_that_can_be_read(strengths: tuple[Json, ...]) -> None:
    rate = read(quantity(10, "mL/h"), strengths=strengths)
    assert (rate.value, rate.why) == (None, "no-concentration")
    assert rate.original.startswith("10 mL/h")


def test_a_volume_that_gives_no_believable_rate() -> None:
    strong = ratio(quantity(2, "mg"), quantity(1, "mL"))
    assert read(quantity(100, "mL/h"), strengths=(strong,)).why == "implausible"


def test_a_ratio() -> None:
    assert read(None, as_ratio=ratio(quantity(8, "mg"), quantity(2, "h"))) == Rate(Decimal(4), "mg/h", "8 mg / 2 h")
    assert read(None, as_ratio=ratio(quantity(8, "mg"), None)).why == "unreadable"
    assert read(None, as_ratio=ratio(quantity(8, "mg"), quantity(2, "km"))).why == "unit-not-accepted"


def test_both_at_once() -> None:
    assert read(quantity(4, "mg/h"), as_ratio=ratio(quantity(8, "mg"), quantity(2, "h"))).why == "ambiguous"


# --------------------------------------------------------------------------- in an administration


def administration(dosage: Json | list[Json], *, drug: str = "C01CA03", **more: Any) -> Json:
    return {
        "resourceType": "MedicationAdministration",
        "id": "m1",
        "status": "in-progress",
        "medicationCodeableConcept": {"coding": [{"system": "http://www.whocc.no/atc", "code": drug}]},
        "effectivePeriod": {"start": "2026-03-10T06:00:00Z"},
        "dosage": dosage,
        **more,
    }


def rate_of(resource: Json) -> Rate | None:
    uses, gaps = collect([("administrations", json.dumps(resource).encode())], context=context())
    assert gaps == ()
    assert uses[0].infusion or uses[0].rate is None
    return uses[0].rate


def test_the_rate_of_an_administration() -> None:
    assert rate_of(administration({"rateQuantity": quantity(4, "mg/h")})) == Rate(Decimal(4), "mg/h", "4 mg/h")
    assert rate_of(administration({"rateRatio": ratio(quantity(4, "mg"), quantity(1, "h"))})) is not None


def test_of_another_drug_or_without_one_there_is_none() -> None:
    assert rate_of(administration({"rateQuantity": quantity(4, "mg/h")}, drug="N01AX10")) is None
    assert rate_of(administration({"dose": quantity(4, "mg")})) is None
    assert rate_of(administration({"rateQuantity": None})) is None


def test_a_dose_that_was_not_given_has_no_rate() -> None:
    assert rate_of(administration({"rateQuantity": quantity(4, "mg/h")}, status="not-done")) is None


def test_two_dosages_of_one_record_are_not_chosen_from() -> None:
    two = [{"rateQuantity": quantity(4, "mg/h")}, {"rateQuantity": quantity(2, "mg/h")}]
    assert rate_of(administration(two)) == Rate(None, why="ambiguous")


def bag(*items: Json) -> Json:
    held = {"resourceType": "Medication", "id": "bag", "ingredient": list(items)}
    found = administration({"rateQuantity": quantity(10, "mL/h")}, contained=[held])
    del found["medicationCodeableConcept"]
    return {**found, "medicationReference": {"reference": "#bag"}}


def item(code: str, strength: Json | None = None) -> Json:
    found: Json = {"itemCodeableConcept": {"coding": [{"system": "http://www.whocc.no/atc", "code": code}]}}
    return found if strength is None else {**found, "strength": strength}


def test_the_strength_is_that_of_the_drug_not_of_what_it_is_mixed_with() -> None:
    glucose = item("B05CX01", ratio(quantity(50, "mg"), quantity(1, "mL")))
    assert rate_of(bag(glucose, item("C01CA03", BAG))) == Rate(Decimal("1.6"), "mg/h", "10 mL/h of 8 mg / 50 mL")
    assert rate_of(bag(glucose, item("C01CA03"))) == Rate(None, "", "10 mL/h", "no-concentration")
