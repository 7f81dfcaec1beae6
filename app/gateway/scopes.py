"""SMART scopes: what a token may read, by the words of its scope string.

Two spellings are in use: SMART v1 says `patient/Observation.read`, v2 says `patient/Observation.rs`; v2 reads the v1
words as `.read` = `.rs`, `.write` = `.cud`, `.*` = `.cruds`, and takes the parts of a scope as one (`.r` and `.s`
beside each other are `.rs`). Letters out of the order `cruds` are no scope there, and count for nothing here (SMART
App Launch 2.2, scopes for requesting clinical data).

A v2 scope may be narrowed by a search (`?category=...`). What it leaves out is then missing from an answer without a
word, and "not found" would no longer mean "not there": such a scope does not cover its type.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_SCOPE: Final = re.compile(r"(patient|user|system)/(\*|[A-Z][A-Za-z]*)\.(read|write|\*|(?=[cruds])c?r?u?d?s?)(\?\S+)?")
_V1: Final = {"read": "rs", "write": "cud", "*": "cruds"}
_READ_AND_SEARCH: Final = frozenset("rs")

SYSTEM_READ: Final = tuple(
    f"system/{resource_type}.rs"
    for resource_type in (
        *("Patient", "Observation", "MedicationRequest", "MedicationAdministration", "MedicationStatement"),
        *("Medication", "Condition", "AllergyIntolerance", "Immunization", "Procedure", "Specimen"),
    )
)
"""What reading a whole record needs: the types that the plan asks for, and those that come along with them."""


@dataclass(frozen=True, slots=True)
class _Scope:
    context: str
    resource_type: str
    letters: frozenset[str]
    query: str


def covers(scope: str, resource_type: str) -> bool:
    """True when a token of this scope string may read and search all of a resource type.

    An empty string is one that was not sent, and counts as covering everything: the standard requires a scope in a
    hook's `fhirAuthorization`, clients leave it out all the same, and their tokens work. Where such a token does not
    suffice, the FHIR server says so, and the source is refused, not empty.
    """
    stated = scope.split()
    return not stated or any(
        _letters(stated, context=context, resource_type=resource_type) >= _READ_AND_SEARCH
        for context in ("patient", "user", "system")
    )


def missing(needed: Iterable[str], *, granted: str) -> tuple[str, ...]:
    """The needed scopes that a granted scope string does not hold, whatever the spelling of either.

    An empty string grants nothing. A needed scope that is not a clinical one, or is narrowed by a search and not
    granted whole, has to be granted word for word.
    """
    words = granted.split()
    return tuple(scope for scope in needed if scope not in words and not _granted(scope, words=words))


def is_system(scope: str) -> bool:
    """True for a clinical scope of a service without a user, with at least one letter or a v1 word."""
    parsed = _parsed(scope)
    return parsed is not None and parsed.context == "system"


def _granted(scope: str, *, words: Iterable[str]) -> bool:
    parsed = _parsed(scope)
    if parsed is None:
        return False
    return parsed.letters <= _letters(words, context=parsed.context, resource_type=parsed.resource_type)


def _letters(words: Iterable[str], *, context: str, resource_type: str) -> frozenset[str]:
    """What the unnarrowed scopes of one context allow for a type, together."""
    allowed: frozenset[str] = frozenset()
    for parsed in map(_parsed, words):
        if parsed and not parsed.query and parsed.context == context and parsed.resource_type in {"*", resource_type}:
            allowed |= parsed.letters
    return allowed


def _parsed(scope: str) -> _Scope | None:
    match = _SCOPE.fullmatch(scope)
    if match is None:
        return None
    context, resource_type, actions, query = match.groups(default="")
    return _Scope(context, resource_type, frozenset(_V1.get(actions, actions)), query)
