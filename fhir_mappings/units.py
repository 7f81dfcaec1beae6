"""Units as laboratories and monitors write them, and exact conversion to the one canonical unit of each quantity.

An explicit list (`units.toml`) instead of a UCUM parser: a parser reads the laboratory's "G/L" as gauss per litre and
would accept any unit that happens to have the right dimension. What is not listed is refused with a reason; nothing is
ever guessed from the size of a number (reading 3.1).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Context as Arithmetic
from decimal import Decimal
from functools import cache, lru_cache
from typing import Any

from fhir_mappings.codebook import read_toml
from fhir_mappings.errors import BadCodebook

ARITHMETIC = Arithmetic(prec=100)
"""Wide enough that a number of 64 characters times any factor of the table stays exact: a threshold is compared with
what was reported, not with a rounding of it."""

_LARGEST_EXPONENT = 20
_ONE = Decimal(1)
_MOLAR = frozenset({"nmol/l", "pmol/l"})
"""CRP and ferritin in moles have no agreed mass (reading 3.2); beside a mass code they are a contradiction."""
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")
_POWER_TEXT = re.compile(r"10([⁰¹²³⁴⁵⁶⁷⁸⁹]+)")
_POWER = re.compile(r"(?:[xX×]\s*|\*)?(?<![\d.,])10\s*(?:\*\*|\^|\*|[eE])\s*(\d)(?!\d)")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a value was not converted.

    `no-unit`, `unit-not-accepted`, `unit-conflict`, `implausible`, `fraction-unclear`, or `unreadable` (not finite).
    """

    why: str


@dataclass(frozen=True, slots=True)
class Row:
    """Spellings of one unit, and the factor `times / over` to the canonical unit of its quantity."""

    ucum: tuple[str, ...]
    alias: tuple[str, ...]
    folded: tuple[str, ...]
    times: Decimal
    over: Decimal
    agrees: str

    @property
    def factor(self) -> Decimal:
        """`times / over`: two spellings of one unit have the same."""
        return ARITHMETIC.divide(self.times, self.over)

    @property
    def same(self) -> bool:
        """True for the canonical unit and its synonyms."""
        return self.times is _ONE and self.over is _ONE

    def to_canonical(self, value: Decimal) -> Decimal:
        """`value * times / over` without binary floating point."""
        if self.same:
            return value
        product = ARITHMETIC.multiply(value, self.times)
        return product if self.over == 1 else ARITHMETIC.divide(product, self.over)


@dataclass(frozen=True, slots=True)
class Quantity:
    """One quantity of `units.toml`; both ranges are inclusive and in the canonical unit."""

    name: str
    unit: str
    hard: tuple[Decimal, Decimal]
    soft: tuple[Decimal, Decimal]
    refusal: str
    source: str
    rows: tuple[Row, ...]

    def is_suspect(self, value: Decimal) -> bool:
        """True when the value is believable but unusual."""
        return not self.soft[0] <= value <= self.soft[1]


def normalised(text: str) -> str:
    """One spelling of a unit text: NFKC, trimmed, micro sign and Greek mu as `u`, powers of ten as `10*n`.

    "x10e3/µL", "10^3/uL", "10E3/uL" and "10³/µL" all become "10*3/uL". Case is kept: `Mg` is not `mg`.
    """
    text = _POWER_TEXT.sub(lambda match: "10*" + match.group(1).translate(_SUPERSCRIPTS), text)
    text = unicodedata.normalize("NFKC", text).strip().replace("μ", "u")
    return _POWER.sub(r"10*\1", text)


@cache
def quantities() -> Mapping[str, Quantity]:
    """The table `units.toml`. Raises BadCodebook, naming the quantity, when it is wrong."""
    return read(read_toml("units.toml"))


def read(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Quantity]:
    """The tables of the file. Raises BadCodebook when a member is missing, or a spelling stands twice."""
    return {name: _quantity(name, table, tables) for name, table in tables.items()}


def _quantity(name: str, table: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]]) -> Quantity:
    try:
        listed = table["rows"]
        rows = tuple(
            Row(
                ucum=tuple(row.get("ucum", ())),
                alias=tuple(row.get("alias", ())),
                folded=tuple(row.get("folded", ())),
                times=_factor(row["times"]),
                over=_factor(row.get("over", "1")),
                agrees=row.get("agrees", "1e-9"),
            )
            for row in (tables[listed]["rows"] if isinstance(listed, str) else listed)
        )
        low, high = map(Decimal, table["hard"])
        soft_low, soft_high = map(Decimal, table["soft"])
        found = Quantity(
            name,
            table["unit"],
            (low, high),
            (soft_low, soft_high),
            table.get("refusal", "implausible"),
            table["source"],
            rows,
        )
    except (KeyError, ValueError, ArithmeticError) as error:
        raise BadCodebook(f"units.toml: [{name}]: {error}") from None
    spellings = [normalised(text) for row in rows for text in (*row.ucum, *row.alias)]
    folded = [text for row in rows for text in row.folded]
    for texts in (spellings, folded):
        if len(set(texts)) != len(texts):
            raise BadCodebook(f"units.toml: [{name}]: a spelling stands in it twice")
    return found


def _factor(text: str) -> Decimal:
    return _ONE if text == "1" else Decimal(text)


@lru_cache(maxsize=2048)
def row_of(quantity: str, unit: str) -> Row | None:
    """The accepted unit that this text spells, or None."""
    text = normalised(unit)
    rows = quantities()[quantity].rows
    for row in rows:
        if text in row.ucum or text in row.alias:
            return row
    folded = text.casefold()
    for row in rows:
        if folded in row.folded:
            return row
    return None


@lru_cache(maxsize=2048)
def is_unit(unit: str) -> bool:
    """True when the text spells a unit of any quantity here, or a molar one that is refused on purpose."""
    return normalised(unit).casefold() in _MOLAR or any(row_of(name, unit) is not None for name in quantities())


def convert(quantity: str, value: Decimal, unit: str) -> Decimal | Refusal:
    """The value in the canonical unit, or why not. An empty unit is never assumed to be the canonical one."""
    if not unit.strip():
        return Refusal("no-unit")
    row = row_of(quantity, unit)
    if row is None:
        return Refusal("unit-not-accepted")
    return by_row(quantities()[quantity], value, row)


def by_row(known: Quantity, value: Decimal, row: Row) -> Decimal | Refusal:
    """As `convert`, for a quantity and a unit that were already looked up."""
    if not value.is_finite() or abs(value.adjusted()) > _LARGEST_EXPONENT:
        return Refusal("unreadable")
    converted = row.to_canonical(value)
    low, high = known.hard
    if not low <= converted <= high:
        return Refusal(known.refusal)
    return converted
