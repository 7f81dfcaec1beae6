"""Concept tables."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_mappings.codebook import Code, Codebook, load, read_toml
from fhir_mappings.coding import Coding
from fhir_mappings.errors import BadCodebook

TABLES: dict[str, dict[str, Any]] = {
    "flu": {
        "text": "Flu",
        "codes": [
            {"system": "icd10", "code": "J1", "prefix": True, "source": "s"},
            {"system": "icd10", "code": "J10", "prefix": True, "kind": "virus", "source": "s"},
            {"system": "snomed", "code": "6142004", "source": "s"},
        ],
    },
    "cold": {"text": "Cold", "codes": [{"system": "icd10", "code": "J10.9", "source": "s"}]},
    "words": {"text": "no codes"},
}
BOOK = Codebook("test", TABLES)


@pytest.mark.parametrize(
    ("coding", "found"),
    [
        (Coding("http://snomed.info/sct", "6142004"), ("flu", "")),
        (Coding("http://hl7.org/fhir/sid/icd-10-cm", "J10.9"), ("cold", "")),
        (Coding("http://hl7.org/fhir/sid/icd-10", "J10.1"), ("flu", "virus")),
        (Coding("http://hl7.org/fhir/sid/icd-10", "J11"), ("flu", "")),
        (Coding("http://hl7.org/fhir/sid/icd-10", "I10"), None),
        (Coding("http://snomed.info/sct", "61420041"), None),
        (Coding("http://snomed.info/sct", ""), None),
        (Coding("urn:x", "6142004"), None),
    ],
)
def test_exact_codes_come_before_the_longest_prefix(coding: Coding, found: tuple[str, str] | None) -> None:
    code = BOOK.find(coding)
    assert (code and (code.concept, code.kind)) == found


def test_codes_for_a_query() -> None:
    assert [code.query for code in BOOK.of(["flu", "cold"])] == [
        "http://snomed.info/sct|6142004",
        "http://hl7.org/fhir/sid/icd-10|J10.9",
    ]


def test_the_codes_of_a_site_win() -> None:
    site = BOOK.with_codes([Code("cold", "snomed", "6142004", source="site")])
    found = site.find(Coding("http://snomed.info/sct", "6142004"))
    assert found is not None
    assert found.concept == "cold"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"system": "loinc", "code": "1-8", "colour": "red", "source": "s"}, r"\[x\].*colour"),
        ({"system": "loinc", "code": "1-8"}, "source"),
        ({"system": "snomed", "code": "6142004", "source": "s"}, r"\[flu\] and in \[x\]"),
    ],
)
def test_a_wrong_table_is_named(row: dict[str, Any], said: str) -> None:
    with pytest.raises(BadCodebook, match=rf"concepts/test.toml.*{said}"):
        Codebook("test", {**TABLES, "x": {"codes": [row]}})


def test_shipped_books_are_read_once() -> None:
    assert load("observations") is load("observations")
    assert "pao2" in read_toml("concepts/observations.toml")
