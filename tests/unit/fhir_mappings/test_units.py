"""Units: exact factors, explicit spellings, refusals with their reason."""

from __future__ import annotations

import warnings
from decimal import Decimal
from typing import Any

import pytest

from fhir_mappings import units
from fhir_mappings.errors import BadCodebook
from fhir_mappings.units import Refusal

D = Decimal
ROWS = [
    (name, row, text) for name, quantity in units.quantities().items() for row in quantity.rows for text in row.ucum
]
COUNTS = [
    "10*9/L",
    "10^9/L",
    "10^9/l",
    "10E9/L",
    "x10E9/L",
    "10*3/uL",
    "10^3/uL",
    "10E3/µL",
    "x10e3/uL",
    "x10e3/µL",
    "×10³/µL",
    "10⁹/L",
    "10^3/mm3",
    "/nL",
    "G/L",
    "Giga/L",
    "K/uL",
    "K/µL",
    "thousand/mm3",
    "Tsd/µl",
    "THOU/uL",
]


@pytest.fixture(scope="module")
def ucum() -> Any:
    """A second opinion: an independent UCUM implementation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ucumvert import PintUcumRegistry

        return PintUcumRegistry()


@pytest.mark.parametrize(("name", "row", "text"), ROWS, ids=[f"{n}-{t}" for n, _, t in ROWS])
def test_every_factor_agrees_with_ucum(ucum: Any, name: str, row: units.Row, text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if row.agrees == "convention":
            ucum.from_ucum(text)  # valid UCUM, but UCUM knows no way to the canonical unit
            return
        ratio = (1 * ucum.from_ucum(text)) / (1 * ucum.from_ucum(units.quantities()[name].unit))
        base = ratio.to_base_units()
    assert base.dimensionless
    assert abs(base.magnitude / float(row.factor) - 1) <= float(row.agrees)


@pytest.mark.parametrize("name", sorted(units.quantities()))
def test_every_quantity_is_sound(name: str) -> None:
    known = units.quantities()[name]
    assert known.source
    assert units.convert(name, known.hard[1], known.unit) == known.hard[1]
    assert known.hard[0] <= known.soft[0] < known.soft[1] <= known.hard[1]
    middle = (known.soft[0] + known.soft[1]) / 2
    assert not known.is_suspect(middle)
    assert known.is_suspect(known.soft[1] + 1)
    assert known.is_suspect(known.soft[0] - 1)


@pytest.mark.parametrize("unit", COUNTS)
@pytest.mark.parametrize("name", ["platelets", "anc", "wbc"])
def test_spellings_of_a_count(name: str, unit: str) -> None:
    assert units.convert(name, D("150"), unit) == 150


@pytest.mark.parametrize("unit", ["/uL", "/µL", "/mm3", "cells/uL", "{cells}/uL", "10*6/L", "/cumm"])
def test_counts_per_microlitre(unit: str) -> None:
    assert units.convert("platelets", D("49000"), unit) == 49


@pytest.mark.parametrize(
    ("name", "value", "unit", "expected"),
    [
        ("crp", "26.2", "mg/dL", "262"),
        ("crp", "26.2", "MG/DL", "262"),
        ("crp", "101", "µg/mL", "101"),
        ("crp", "101", "μg/mL", "101"),
        ("crp", "101000", "ng/mL", "101"),
        ("crp", "101000", "ug/L", "101"),
        ("crp", "101", " mg/L\u00a0", "101"),
        ("ferritin", "1650", "ng/mL", "1650"),
        ("ferritin", "165", "ug/dL", "1650"),
        ("ferritin", "1.65", "mg/L", "1650"),
        ("pao2", "10", "kPa", "75.0062"),
        ("pao2", "75", "mm Hg", "75"),
        ("pao2", "75", "mmHg", "75"),
        ("pao2", "75", "torr", "75"),
        ("fio2", "60", "%", "0.6"),
        ("fio2", "21", "%", "0.21"),
        ("fio2", "0.21", "1", "0.21"),
        ("fio2", "1", "1", "1"),
        ("fio2", "100", "%", "1"),
        ("ecmo_fdo2", "100", "%", "1"),
        ("crs", "0.025", "L/cm[H2O]", "25"),
        ("crs", "0.25", "L/kPa", "24.516625"),
        ("crs", "30", "mL/mbar", "29.41995"),
        ("crs", "30", "ml/cmH2O", "30"),
        ("pplat", "20", "hPa", None),
        ("peep", "9.80665", "mbar", "10"),
        ("vt", "0.42", "L", "420"),
        ("alt", "50", "IU/L", "50"),
        ("alt", "50", "[IU]/L", "50"),
        ("alt", "50", "UI/L", "50"),
        ("alt", "50", "E/l", "50"),
        ("ast", "2", "µkat/L", "120"),
        ("ast", "2000", "nkat/L", "120"),
        ("creatinine", "1", "mg/dL", "88.4"),
        ("creatinine", "0.1", "mmol/L", "100"),
        ("crcl", "1", "mL/s", "60"),
        ("egfr", "40", "mL/min/1.73m2", "40"),
        ("factor_v", "0.45", "U/mL", "45"),
        ("weight", "100", "lb", "45.359237"),
        ("hcg", "25", "mIU/mL", "25"),
        ("ino", "20", "ppm", "20"),
        ("ecmo_flow", "4000", "mL/min", "4"),
    ],
)
def test_conversion_is_exact(name: str, value: str, unit: str, expected: str | None) -> None:
    converted = units.convert(name, D(value), unit)
    assert isinstance(converted, Decimal)
    if expected is None:
        assert abs(converted * D("98.0665") - 100 * D(value)) < D("1e-90")
    else:
        assert converted == D(expected)


@pytest.mark.parametrize(
    ("name", "value", "unit", "why"),
    [
        ("crp", "100", "", "no-unit"),
        ("crp", "100", "  ", "no-unit"),
        ("crp", "952", "nmol/L", "unit-not-accepted"),
        ("ferritin", "2247", "pmol/L", "unit-not-accepted"),
        ("crp", "100", "Mg/hr", "unit-not-accepted"),
        ("anc", "1.5", "g/L", "unit-not-accepted"),
        ("anc", "70", "%", "unit-not-accepted"),
        ("platelets", "150", "k/UL2", "unit-not-accepted"),
        ("crcl", "60", "mL/min/{1.73_m2}", "unit-not-accepted"),
        ("fio2", "0.6", "", "no-unit"),
        ("fio2", "0.6", "L/min", "unit-not-accepted"),
        ("fio2", "60", "1", "fraction-unclear"),
        ("fio2", "0.3", "%", "fraction-unclear"),
        ("fio2", "0.6", "%", "fraction-unclear"),
        ("fio2", "0.2", "1", "fraction-unclear"),
        ("fio2", "20.9", "%", "fraction-unclear"),
        ("fio2", "1.01", "1", "fraction-unclear"),
        ("fio2", "100.1", "%", "fraction-unclear"),
        ("crp", "1001", "mg/L", "implausible"),
        ("crp", "-1", "mg/L", "implausible"),
        ("platelets", "0", "10*9/L", "implausible"),
        ("pao2", "19.9", "mm[Hg]", "implausible"),
        ("creatinine", "0", "umol/L", "implausible"),
        ("crs", "200", "mL/cm[H2O]", "implausible"),
        ("crp", "NaN", "mg/L", "unreadable"),
        ("crp", "Infinity", "mg/L", "unreadable"),
        ("crp", "1E+400", "mg/L", "unreadable"),
        ("crp", "1E-400", "mg/L", "unreadable"),
    ],
)
def test_refusals(name: str, value: str, unit: str, why: str) -> None:
    assert units.convert(name, D(value), unit) == Refusal(why)


def test_long_numbers_stay_exact() -> None:
    zeros = "0" * 57
    converted = units.convert("crp", D(f"10.0{zeros}1"), "mg/dL")
    assert converted == D(f"100.{zeros}1")
    assert converted > 100


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10E3/µL", "10*3/uL"), ("×10⁹/L", "10*9/L"), ("110^3", "110^3"), ("Mg/L", "Mg/L"), ("10 ** 9 /L", "10*9 /L")],
)
def test_normalised(text: str, expected: str) -> None:
    assert units.normalised(text) == expected


@pytest.mark.parametrize(("text", "known"), [("mg/L", True), ("nmol/L", True), ("kPa", True), ("milligrams", False)])
def test_is_unit(text: str, known: bool) -> None:
    assert units.is_unit(text) is known


GOOD = {"unit": "mg/L", "hard": ["0", "9"], "soft": ["0", "9"], "source": "s", "rows": [{"ucum": ["a"], "times": "1"}]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hard": ["x", "9"]}, r"units.toml: \[q\]"),
        ({"hard": ["1"]}, r"\[q\]"),
        ({"rows": [{"ucum": ["a"]}]}, "times"),
        ({"rows": "other"}, "other"),
        ({"rows": [{"ucum": ["a", "a"], "times": "1"}]}, "twice"),
        ({"rows": [{"folded": ["b"], "times": "1"}, {"folded": ["b"], "times": "2"}]}, "twice"),
    ],
)
def test_a_wrong_table_is_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(BadCodebook, match=said):
        units.read({"q": {**GOOD, **change}})


def test_a_sound_table_is_read() -> None:
    assert units.read({"q": GOOD})["q"].rows[0].factor == 1
