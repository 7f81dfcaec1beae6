"""What of a server's own words may be shown, and the data files of doctor against those they speak of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.doctor import words
from app.plan import plan
from app.settings import _Overlay
from fhir_mappings import codebook, observations
from tests.unit.app.bundles import bedside

ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("CRP quant", "CRP quant"),
        ("  CRP\n\tquant\r ", "CRP quant"),
        ("\x1b[31mCRP\x07\u202e", "[31mCRP"),
        ("x" * 80, "x" * 69 + "…"),
        ("", ""),
    ],
)
def test_a_name_is_one_line_without_control_characters(text: str, shown: str) -> None:
    assert words.name(text) == shown


@pytest.mark.parametrize(
    ("text", "typed", "shown"),
    [
        ("mg/L", False, "mg/L"),
        ("mg/L", True, "mg/L"),
        ("", False, ""),
        ("Widgets", False, "Widgets"),
        ("Smith", True, "(a text)"),
        ("of Mrs Smith", False, "(a text)"),
        ("cm H2O", False, "cm H2O"),
        ("x" * 21, False, "(a text)"),
        ("\x07", False, "(a text)"),
    ],
)
def test_a_unit_is_shown_only_where_it_is_one(text: str, typed: bool, shown: str) -> None:
    assert words.unit(text, typed=typed) == shown


@pytest.mark.parametrize(
    ("text", "number", "unit"),
    [
        ("0.3 %", "0.3", "%"),
        (">1650 ug/L", ">1650", "ug/L"),
        ("<= 0,5 mg/dL", "<= 0,5", "mg/dL"),
        ("12 10*9/L", "12", "10*9/L"),
        ("1E+3 U/L", "1E+3", "U/L"),
        ("see letter", "", "see letter"),
        ("1.234.567", "", "1.234.567"),
    ],
)
def test_of_a_value_only_its_number_is_taken(text: str, number: str, unit: str) -> None:
    assert (words.number(text), words.unit_of(text)) == (number, unit)


def test_every_refusal_has_its_remedy() -> None:
    whys = set()
    for module in ("observations", "medications", "conditions", "procedures", "patient", "mapping", "derived"):
        text = (ROOT / "fhir_mappings" / f"{module}.py").read_text(encoding="utf-8")
        whys |= set(re.findall(r'(?:_Refused|Gap)\(\s*[^")]*"([a-z]+(?:-[a-z]+)+|future|conflict|implausible)"', text))
    whys |= {f"status-{status}" for status in ("preliminary", "registered", "unknown")}
    assert {"no-unit", "not-arterial", "condition-text-only"} <= whys, "the pattern no longer finds the refusals"
    assert whys - set(words.texts()["remedy"]) == set()


def test_every_remedy_names_a_key_of_the_overlay() -> None:
    keys = {entry["key"] for entry in words.texts()["remedy"].values() if "key" in entry}
    assert keys == {
        *("unit_when_absent", "percent_means_fraction", "arterial", "static", "conditions", "local_uln"),
    }
    assert keys <= set(_Overlay.model_fields)


def test_every_reason_of_a_search_is_one_that_the_service_knows() -> None:
    for name in set(words.texts()["search"]) - {"no-patient", "choosing"}:
        assert bedside().plain.why(re.sub(r"-\dxx$|-\d{3}$", "", name), {})


def test_there_are_words_for_every_concept_that_is_asked_for() -> None:
    needs = plan(codebook.load("observations"), codebook.load("ingredients"))
    asked = {name for need in needs if need.resource_type == "Observation" for name in need.concepts}
    # Panels have no value; a share of band neutrophils alone is of no use.
    assert asked - set(words.load("words.toml")) == {"gas_panel", "bands_pct"}
    assert set(words.load("words.toml")) <= set(observations.concepts())
    for entry in words.load("words.toml").values():
        assert set(entry) <= {"words", "unless"}
