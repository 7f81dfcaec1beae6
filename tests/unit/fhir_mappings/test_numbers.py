"""Numbers in text: read when there is one way to read them, refused otherwise."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_mappings import numbers


@pytest.mark.parametrize(
    ("text", "value", "comparator", "unit"),
    [
        ("> 2000", "2000", ">", ""),
        (">1650 ug/L", "1650", ">", "ug/L"),
        ("12,5 mg/dL", "12.5", "", "mg/dL"),
        ("  12.5\u00a0mg/dL ", "12.5", "", "mg/dL"),
        ("≥ 100 mg/L", "100", ">=", "mg/L"),
        ("=> 100 mg/L", "100", ">=", "mg/L"),
        ("<= 0,3 mg/L", "0.3", "<=", "mg/L"),
        ("GREATER THAN 2000 ng/mL", "2000", ">", "ng/mL"),
        ("kleiner als 5 mg/L", "5", "<", "mg/L"),
        ("supérieur à 500 mg/L", "500", ">", "mg/L"),
        ("0,850", "0.850", "", ""),
        ("1234,5 ug/L", "1234.5", "", "ug/L"),
        ("1234.567 ug/L", "1234.567", "", "ug/L"),
        ("150 10^3/uL", "150", "", "10^3/uL"),
        ("150/nL", "150", "", "/nL"),
        ("45 %", "45", "", "%"),
        ("12", "12", "", ""),
    ],
)
def test_read(text: str, value: str, comparator: str, unit: str) -> None:
    read = numbers.read(text)
    assert read is not None
    assert (read.value, read.comparator, read.unit) == (Decimal(value), comparator, unit)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "haemolysed",
        "1.234,5 ug/L",
        "1,234.5 ug/L",
        "1.650 ug/L",
        "1,650 ug/L",
        "12 13",
        "-3 mg/L",
        "3-5-7",
        "١٢ mg/L",
        "1 650 ug/L",
        "1e3 mg/L2" + "x" * 50,
        "see comment 12 mg/L",
        "12.",
        ".5 mg/L",
        "9" * 31,
    ],
)
def test_refused(text: str) -> None:
    assert numbers.read(text) is None


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("10 - 40", ("40", "")),
        ("10-40 U/L", ("40", "U/L")),
        ("10 – 45", ("45", "")),
        ("0,17 - 0,85 ukat/L", ("0.85", "ukat/L")),
        ("10 bis 50", ("50", "")),
        ("< 40", ("40", "")),
        ("<= 40 U/L", ("40", "U/L")),
        ("≤40", ("40", "")),
        ("up to 40", ("40", "")),
        ("bis 35", ("35", "")),
        ("> 10", None),
        ("40", None),
        ("40 - 10", None),
        ("1.000 - 2.000", None),
        ("1 - 2.000", None),
        ("see text", None),
    ],
)
def test_upper_limit(text: str, limit: tuple[str, str] | None) -> None:
    assert numbers.upper_limit(text) == (None if limit is None else (Decimal(limit[0]), limit[1]))


@given(st.text(max_size=60))
def test_no_text_breaks_it(text: str) -> None:
    read = numbers.read(text)
    assert read is None or read.value >= 0
    numbers.upper_limit(text)


@given(st.decimals(min_value=0, max_value=99999, places=2), st.sampled_from([".", ","]))
def test_a_decimal_comma_is_a_decimal_point(value: Decimal, mark: str) -> None:
    read = numbers.read(f"{value}".replace(".", mark) + " mg/L")
    assert read is not None
    assert read.value == value
