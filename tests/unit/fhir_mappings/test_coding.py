"""Code systems and their many addresses."""

from __future__ import annotations

import pytest

from fhir_mappings.coding import CodeableConcept, Coding, addresses, key, loinc_check_digit_holds, system_name


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("http://loinc.org", "loinc"),
        ("http://loinc.org/", "loinc"),
        ("HTTP://LOINC.ORG", "loinc"),
        ("LN", "loinc"),
        ("urn:oid:2.16.840.1.113883.6.96", "snomed"),
        ("http://fhir.de/CodeSystem/dimdi/atc", "atc"),
        ("https://smt.esante.gouv.fr/terminologie-cim-10", "icd10"),
        ("urn:iso:std:iso:11073:10101", "mdc"),
        ("http://mimic.mit.edu/fhir/mimic/CodeSystem/mimic-d-items", "mimic-chart"),
        ("urn:site", "urn:site"),
        ("", ""),
    ],
)
def test_system_names(address: str, name: str) -> None:
    assert system_name(address) == name


def test_the_address_to_write_comes_first() -> None:
    assert addresses("loinc")[0] == "http://loinc.org"
    assert addresses("urn:site") == ("urn:site",)


def test_keys_are_how_the_data_files_write_codes() -> None:
    assert key(Coding("http://loinc.org", "1988-5", "CRP")) == "loinc|1988-5"
    assert key(Coding("urn:site", "1")) == "urn:site|1"
    assert CodeableConcept().coding == ()


@pytest.mark.parametrize(
    ("code", "holds"),
    [
        ("1988-5", True), ("2703-7", True), ("60827-3", True), ("0827-3", False), ("3150-6", False), ("60827-2", False),
        ("x-1", False), ("12", False), ("12-", False), ("12-34", False),
    ],
)  # fmt: skip
def test_check_digit(code: str, holds: bool) -> None:
    assert loinc_check_digit_holds(code) is holds
