"""The case language itself: a word it does not know must fail, not make another patient."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from app.cases.language import CaseError, Chart, as_read, merged, overlay, suggests_on
from fhir_mappings import codebook
from fhir_mappings.coding import addresses
from fhir_mappings.facts import Facts, Source

NOW = datetime(2021, 4, 14, 12, 0, tzinfo=ZoneInfo("Europe/Paris"))


def resources(**lines: Any) -> list[Mapping[str, Any]]:
    bundle = json.loads(Chart.of(lines, now=NOW).bundle())
    return [entry["resource"] for entry in bundle["entry"]]


def test_a_number_is_a_quantity_with_its_ucum_code() -> None:
    result = resources(crp="26.2 mg/dL @8h")[1]
    assert result["code"]["coding"] == [{"system": "http://loinc.org", "code": "1988-5"}]
    assert result["valueQuantity"] == {
        "value": 26.2,
        "unit": "mg/dL",
        "system": "http://unitsofmeasure.org",
        "code": "mg/dL",
    }
    assert result["effectiveDateTime"] == "2021-04-14T02:00:00+00:00"


def test_days_are_24_hours_long_also_where_clocks_change() -> None:
    result = resources(pcr="positive @30d")[1]
    assert datetime.fromisoformat(result["effectiveDateTime"]) == datetime.fromisoformat("2021-03-15T10:00:00+00:00")


@pytest.mark.parametrize(
    ("age", "born"),
    [
        ("18 today", "2003-04-14"),
        ("18 tomorrow", "2003-04-15"),
        ("54", "1967-01-04"),
        ("born 2003", "2003"),
    ],
)
def test_ages(age: str, born: str) -> None:
    assert resources(age=age)[0]["birthDate"] == born


def test_a_case_replaces_the_lines_of_its_base_patient() -> None:
    patients = {"one": {"crp": "1 mg/L @1h", "sex": "male"}, "two": {"base": "one", "crp": "none"}}
    assert merged(patients, {"base": "two", "age": "54"}) == {
        "base": "two",
        "sex": "male",
        "crp": "none",
        "age": "54",
    }


@pytest.mark.parametrize(
    "lines",
    [
        {"creactive": "1 mg/L @1h"},
        {"crp": "high @1h"},
        {"crp": "1 mg/L @tomorrow"},
        {"crp": "1 mg/L @1h; preliminery"},
        {"pao2": "60 mmHg @1h; specimen arterail"},
        {"crp": "1 mg/L @1h; code 1988-5"},
        {"age": "young"},
        {"drugs": "swallowed aspirin @1h"},
        {"drugs": "given unobtainium 1 mg @1h"},
        {"drugs": "given posaconazole 1 mg @1h; refered"},
        {"ecmo": "sideways @1h.."},
        {"ecmo": "veno-venous @1h..; maybe"},
        {"problems": "sepsis @1d; refutd"},
        {"problems": "spleen @1d"},
        {"allergies": "bees"},
        {"vaccines": "soup @1d"},
        {"reading": "partly"},
    ],
)
def test_what_is_misspelt_is_refused(lines: Mapping[str, str]) -> None:
    with pytest.raises(CaseError):
        resources(**lines)


def test_an_unknown_base_patient_or_site_line_is_refused() -> None:
    with pytest.raises(CaseError):
        merged({}, {"base": "nobody"})
    with pytest.raises(CaseError):
        overlay({"site": "guesses units"})


def test_the_site_switch_is_no_overlay() -> None:
    lines = {"site": ["asks for the full protocol", "AST is not measured"]}
    assert suggests_on(lines) == "pilot-full"
    assert overlay(lines).not_measured == {"ast"}


def test_a_list_that_reaches_back_so_far_is_partial_beyond() -> None:
    source = Source("administrations", "MedicationAdministration", "ok")
    facts = Facts(asked_at=NOW, zone="Europe/Paris", sources=(source, Source("orders", "MedicationRequest", "ok")))
    cut = as_read(facts, {"reading": "administrations back to 28d"})
    # A day is 24 h long, also where clocks change.
    assert cut.source("administrations").reaches == datetime.fromisoformat("2021-03-17T10:00:00+00:00")
    assert cut.source("administrations").outcome == "partial"
    assert cut.source("orders").outcome == "ok"
    assert as_read(facts, {"reading": "fails"}) is facts


@pytest.mark.parametrize("line", ["nothing back to 3d", "administrations back to yesterday"])
def test_a_source_or_a_time_that_is_none_is_refused(line: str) -> None:
    facts = Facts(asked_at=NOW, zone="UTC", sources=(Source("administrations", "MedicationAdministration", "ok"),))
    with pytest.raises(CaseError):
        as_read(facts, {"reading": line})


def test_an_ingredient_of_the_rules_needs_no_line_in_the_list_of_drugs() -> None:
    [_, given] = resources(drugs="given voriconazole 200 mg @1h")
    [coding] = given["medicationCodeableConcept"]["coding"]
    book = codebook.load("ingredients")
    assert (coding["system"], coding["code"]) in {
        (address, code.code) for code in book.of(["voriconazole"]) for address in addresses(code.system)
    }
