"""Numbers that were sent as text: ">1650 ug/L", "12,5 mg/dL", a reference range "10 - 40" (readings 3.8, 3.9).

Only what can be read in one way is read. "1.650" is 1.65 in London and 1650 in Berlin, so it is refused, as is
"1.234,5": a factor of a thousand must never hang on a guess.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import cast

from fhir_mappings.facts import Comparator

_COMPARATORS = {
    "": "",
    "<": "<",
    "<=": "<=",
    "=<": "<=",
    "≤": "<=",
    ">": ">",
    ">=": ">=",
    "=>": ">=",
    "≥": ">=",
    "less than": "<",
    "below": "<",
    "under": "<",
    "kleiner als": "<",
    "kleiner": "<",
    "unter": "<",
    "inférieur à": "<",
    "inferieur a": "<",
    "up to": "<=",
    "bis": "<=",
    "jusqu'à": "<=",
    "greater than": ">",
    "more than": ">",
    "above": ">",
    "over": ">",
    "größer als": ">",
    "groesser als": ">",
    "größer": ">",
    "über": ">",
    "supérieur à": ">",
    "superieur a": ">",
}
_WORDS = "|".join(sorted((re.escape(word) for word in _COMPARATORS if word), key=len, reverse=True))
_DIGITS = r"(\d{1,30}(?:[.,]\d{1,30})?)"
_NUMBER = re.compile(
    rf"({_WORDS})?\s*{_DIGITS}(?:\s*([^\d\s.,–—-].{{0,40}}|10[\^*eE⁰¹²³⁴⁵⁶⁷⁸⁹].{{0,40}}))?", re.IGNORECASE
)
_BETWEEN = re.compile(rf"{_DIGITS}\s*(?:-|–|—|to|bis|à|a)\s*{_DIGITS}(?:\s*([^\d\s.,–—-].{{0,40}}))?", re.IGNORECASE)
_THOUSANDS = re.compile(r"[1-9]\d{0,2}[.,]\d{3}")


@dataclass(frozen=True, slots=True)
class TextNumber:
    """A number read from text. `unit` is '' when the text held none."""

    value: Decimal
    comparator: Comparator = ""
    unit: str = ""


def read(text: str) -> TextNumber | None:
    """A number with its comparator and unit, or None when the text is anything else or can be read in two ways."""
    match = _NUMBER.fullmatch(_tidy(text))
    if match is None:
        return None
    word, digits, unit = match.groups()
    value = _decimal(digits)
    if value is None:
        return None
    return TextNumber(value, cast("Comparator", _COMPARATORS[(word or "").lower()]), unit or "")


def upper_limit(text: str) -> tuple[Decimal, str] | None:
    """The upper limit that a reference range's text states, with its unit ('' when none), or None.

    Read are "10 - 40", "< 40", "<= 40", "up to 40", each with or without a unit; "> 10" has no upper limit.
    """
    tidy = _tidy(text)
    between = _BETWEEN.fullmatch(tidy)
    if between is not None:
        low, high = _decimal(between.group(1)), _decimal(between.group(2))
        if low is None or high is None or low > high:
            return None
        return high, between.group(3) or ""
    number = read(tidy)
    if number is None or number.comparator not in {"<", "<="}:
        return None
    return number.value, number.unit


def _tidy(text: str) -> str:
    return text.replace("\u00a0", " ").replace("\u202f", " ").replace("’", "'").strip()


def _decimal(digits: str) -> Decimal | None:
    if not digits.isascii() or _THOUSANDS.fullmatch(digits):
        return None
    return Decimal(digits.replace(",", "."))
