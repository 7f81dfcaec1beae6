"""Concept tables: which codes mean which concept. Data in `concepts/*.toml`, one file a resource family.

A table is `[concept]` with `text` (what a person calls it), whatever a family adds, and `codes`: a list of
`{ system, code, kind?, prefix?, verified?, source }`. `prefix = true` matches every code that starts so (ICD-10, ATC
classes). `verified = false` marks a code that nobody has seen in a published source in that role: it may only screen
(raise doubt), never establish anything.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, lru_cache
from importlib import resources
from typing import Any

from fhir_mappings.coding import Coding, addresses, system_name
from fhir_mappings.errors import BadCodebook

_CODES_KEPT = 4096
"""A hospital uses the same few hundred codes over and over; codes of terminologies say nothing about a patient."""


@dataclass(frozen=True, slots=True)
class Code:
    """One code of a concept."""

    concept: str
    system: str
    code: str
    kind: str = ""
    prefix: bool = False
    verified: bool = True
    source: str = ""

    @property
    def query(self) -> str:
        """`address|code` for a FHIR token search."""
        return f"{addresses(self.system)[0]}|{self.code}"


class Codebook:
    """The codes of one file, with the site's own added. Look-up by exact code first, then by the longest prefix."""

    def __init__(self, name: str, tables: Mapping[str, Mapping[str, Any]], *, extra: Iterable[Code] = ()) -> None:
        self.name = name
        self.tables = tables
        self.codes: tuple[Code, ...] = (*extra, *_codes(name, tables))
        self._exact: dict[str, Code] = {}
        self._prefix: dict[str, list[Code]] = {}
        for code in self.codes:
            if code.prefix:
                self._prefix.setdefault(code.system, []).append(code)
            else:
                self._exact.setdefault(f"{code.system}|{code.code}", code)
        for listed in self._prefix.values():
            listed.sort(key=lambda c: len(c.code), reverse=True)
        self._seen = lru_cache(maxsize=_CODES_KEPT)(self._look_up)

    def find(self, coding: Coding) -> Code | None:
        """The code that this coding is, or None."""
        return self._seen(coding.system, coding.code)

    def _look_up(self, system: str, code: str) -> Code | None:
        if not code:
            return None
        name = system_name(system)
        exact = self._exact.get(f"{name}|{code}")
        if exact is not None:
            return exact
        return next((each for each in self._prefix.get(name, ()) if code.startswith(each.code)), None)

    def of(self, concepts: Iterable[str]) -> tuple[Code, ...]:
        """Exact codes of the named concepts, in file order, for queries."""
        wanted = frozenset(concepts)
        return tuple(code for code in self.codes if code.concept in wanted and not code.prefix)

    def with_codes(self, extra: Iterable[Code]) -> Codebook:
        """The same book with a site's codes in front."""
        return Codebook(self.name, self.tables, extra=extra)


def _codes(name: str, tables: Mapping[str, Mapping[str, Any]]) -> list[Code]:
    found: list[Code] = []
    seen: dict[str, str] = {}
    for concept, table in tables.items():
        for row in table.get("codes", ()):
            try:
                code = Code(concept=concept, **row)
            except TypeError as error:
                raise BadCodebook(f"concepts/{name}.toml: [{concept}]: {error}") from None
            if not code.source:
                raise BadCodebook(f"concepts/{name}.toml: [{concept}] {code.code}: say in `source` where it was seen")
            mark = f"{code.system}|{code.code}"
            if mark in seen:
                raise BadCodebook(f"concepts/{name}.toml: {mark} stands in [{seen[mark]}] and in [{concept}]")
            seen[mark] = concept
            found.append(code)
    return found


def read_toml(name: str) -> dict[str, Any]:
    """A data file of this package, numbers as Decimal."""
    text = resources.files("fhir_mappings").joinpath(name).read_text(encoding="utf-8")
    return tomllib.loads(text, parse_float=Decimal)


@cache
def load(name: str) -> Codebook:
    """The shipped book `concepts/<name>.toml`."""
    return Codebook(name, read_toml(f"concepts/{name}.toml"))
