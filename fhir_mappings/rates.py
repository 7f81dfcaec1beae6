"""Infusion rates of the drugs that a rule asks a rate of: as mass per time, or per body weight and time.

Which drugs these are is data: those with a table `<drug>_rate` in `units.toml`. A rate by volume becomes a mass only
with the concentration of the bag (`Medication.ingredient.strength`). Nothing is guessed; what cannot be read stays as a
`Rate` without value, because a pump that runs at an unknown rate is not one that stands still (reading B9).

`Rate.why`: `unreadable` (not a number), `no-unit`, `unit-not-accepted`, `unit-conflict`, `implausible`,
`no-concentration` (a rate by volume), `ambiguous` (more than one rate in one record).
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from fhir_mappings import units
from fhir_mappings.facts import Rate
from fhir_mappings.units import ARITHMETIC, Refusal, Row

_NOTHING = frozenset({b"", b"null"})
_VOLUME = "infusion_volume"


class _Quantity(msgspec.Struct, frozen=True):
    value: Decimal | None = None
    comparator: str = ""
    unit: str = ""
    code: str = ""


class _Ratio(msgspec.Struct, frozen=True):
    numerator: _Quantity | None = None
    denominator: _Quantity | None = None


_quantity = msgspec.json.Decoder(_Quantity)
_ratio = msgspec.json.Decoder(_Ratio)


class _Written(msgspec.Struct, frozen=True):
    """Number and unit as they stand; `unit` and `code` may each be ''."""

    value: Decimal
    unit: str
    code: str
    original: str


def is_asked(drug: str) -> bool:
    """True for a drug whose infusion rate a rule asks for."""
    return f"{drug}_rate" in units.quantities()


def written(raw: msgspec.Raw) -> bool:
    """True when the member stands in the record at all."""
    return bytes(raw) not in _NOTHING


def read(quantity: msgspec.Raw, ratio: msgspec.Raw, *, drug: str, strengths: Sequence[bytes]) -> Rate:
    """The rate of an administration from its `rateQuantity` or `rateRatio`; `strengths` are those of the drug's
    ingredients of the bag."""
    if written(quantity) and written(ratio):
        return Rate(None, why="ambiguous")
    found = _of_quantity(bytes(quantity)) if written(quantity) else _of_ratio(bytes(ratio))
    if found is None:
        return Rate(None, why="unreadable")
    names = (f"{drug}_rate", f"{drug}_rate_by_weight", _VOLUME)
    row = _row(found, names)
    if isinstance(row, Refusal):
        return Rate(None, original=found.original, why=row.why)
    name, unit = row
    value = units.by_row(units.quantities()[name], found.value, unit)
    if isinstance(value, Refusal):
        return Rate(None, original=found.original, why=value.why)
    if name != _VOLUME:
        return Rate(value, units.quantities()[name].unit, found.original)
    return _by_volume(value, found.original, drug=drug, strengths=strengths)


def _by_volume(volume: Decimal, original: str, *, drug: str, strengths: Sequence[bytes]) -> Rate:
    """Millilitres an hour times the milligrams in each; a stopped pump needs no concentration."""
    unit = units.quantities()[f"{drug}_rate"].unit
    if volume == 0:
        return Rate(volume, unit, original)
    held = _of_ratio(strengths[0]) if len(strengths) == 1 else None
    if held is None:
        return Rate(None, original=original, why="no-concentration")
    name = f"{drug}_concentration"
    row = _row(held, (name,))
    concentration = row if isinstance(row, Refusal) else units.by_row(units.quantities()[name], held.value, row[1])
    if isinstance(concentration, Refusal):
        return Rate(None, original=f"{original} of {held.original}", why="no-concentration")
    value = ARITHMETIC.multiply(volume, concentration)
    whole = f"{original} of {held.original}"
    low, high = units.quantities()[f"{drug}_rate"].hard
    if not low <= value <= high:
        return Rate(None, original=whole, why="implausible")
    return Rate(value, unit, whole)


def _of_quantity(raw: bytes) -> _Written | None:
    """A number with its unit. A bound ("> 3") is not the rate that a pump runs at."""
    try:
        quantity = _quantity.decode(raw)
    except (msgspec.MsgspecError, ValueError, ArithmeticError):
        return None
    if quantity.value is None or not quantity.value.is_finite() or quantity.comparator:
        return None
    original = f"{quantity.value!s} {quantity.unit or quantity.code}".strip()
    return _Written(quantity.value, quantity.unit, quantity.code, original)


def _of_ratio(raw: bytes) -> _Written | None:
    """4 mg / 1 h as 4 mg/h; 8 mg / 50 mL as 0.16 mg/mL."""
    try:
        ratio = _ratio.decode(raw)
    except (msgspec.MsgspecError, ValueError, ArithmeticError):
        return None
    over, under = ratio.numerator, ratio.denominator
    if over is None or under is None or over.value is None or under.value is None:
        return None
    if not (over.value.is_finite() and under.value.is_finite() and under.value > 0) or over.comparator:
        return None
    shown = [q.unit or q.code for q in (over, under)]
    original = f"{over.value!s} {shown[0]} / {under.value!s} {shown[1]}"
    code = f"{over.code}/{under.code}" if over.code and under.code else ""
    return _Written(ARITHMETIC.divide(over.value, under.value), "/".join(shown), code, original)


def _row(found: _Written, names: Sequence[str]) -> tuple[str, Row] | Refusal:
    """The quantity and the accepted unit. Code and text must not contradict each other, and one of them must be one."""
    if not found.unit.strip(" /") and not found.code:
        return Refusal("no-unit")
    by_code, by_text = (_known(text, names) if text else None for text in (found.code, found.unit))
    if (
        by_code is not None
        and by_text is not None
        and (by_code[0], by_code[1].factor)
        != (
            by_text[0],
            by_text[1].factor,
        )
    ):
        return Refusal("unit-conflict")
    return by_code or by_text or Refusal("unit-not-accepted")


def _known(text: str, names: Sequence[str]) -> tuple[str, Row] | None:
    for name in names:
        row = units.row_of(name, text)
        if row is not None:
            return name, row
    return None
