"""The texts of doctor, and what of a server's own words may be shown.

A hospital's answer is no friend: names of codes can hold terminal sequences, and the text of a result can hold anything
that somebody typed, a patient's name included. So names of codes are shown without control characters, and of a value
only what is certainly a number or a unit.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, Final

from app.report import printable
from fhir_mappings import units

NAME_LENGTH: Final = 70
_UNIT_LENGTH: Final = 20
_HIDDEN: Final = "(a text)"
_NUMBER: Final = re.compile(r"[<>]?=?\s*[+-]?\d{1,12}(?:[.,]\d{1,12})?(?:[eE][+-]?\d{1,3})?(?![\d.,])")


@cache
def texts() -> Mapping[str, Any]:
    """The tables of `texts.toml`."""
    return load("texts.toml")


def load(name: str) -> Mapping[str, Any]:
    """A data file of this package."""
    return tomllib.loads(resources.files("app.doctor").joinpath(name).read_text(encoding="utf-8"))


def name(text: str) -> str:
    """What a server calls something, on one line, without what a terminal would obey."""
    shown = " ".join(printable(text.replace("\t", " ").replace("\n", " ").replace("\r", " ")).split())
    return shown if len(shown) <= NAME_LENGTH else shown[: NAME_LENGTH - 1] + "…"


def unit(text: str, *, typed: bool = False) -> str:
    """A unit as it was written; `(a text)` for what may be a sentence.

    `typed`: from a result that somebody wrote as text, where only a known unit is certainly one.
    """
    text = text.strip()
    if not text or units.is_unit(text):
        return name(text)
    if typed or len(text) > _UNIT_LENGTH or (" " in text and not units.is_unit(text.replace(" ", ""))):
        return _HIDDEN
    return name(text) or _HIDDEN


def number(text: str) -> str:
    """The number that a value begins with, with its comparator; '' when it begins with something else."""
    match = _NUMBER.match(text.strip())
    return "" if match is None else match.group()


def unit_of(original: str) -> str:
    """What stands behind the number of a value."""
    match = _NUMBER.match(original.strip())
    return original.strip() if match is None else original.strip()[match.end() :].strip()
