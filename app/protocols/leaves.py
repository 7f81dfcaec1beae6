"""One question of a logic tree, as its file writes it: everything it names must exist, nothing else may stand there.

A word that nobody knows would not stop an evaluation; it would be a rule that can never be met.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any as Json

from app.clinical.knowledge import Group, Leaf
from app.clinical.readers.questions import QUESTIONS, Question
from app.protocols.fields import KnowledgeError, known_keys, known_word, number
from fhir_mappings import codebook, conditions

INPUTS = "shared/inputs.toml"
GROUPS = "shared/interactions.toml"
_OPS = ("<", "<=", ">", ">=")
_COMPARISON = ("input", "op", "value", "unit", "otherwise", "unknown")
_STATE = ("input", "is", "unknown")


@dataclass(frozen=True, slots=True)
class Names:
    """What leaves may name: inputs with their units, drug groups, public names of `missing`."""

    units: Mapping[str, str]
    groups: Mapping[str, Group]
    missing: Collection[str] = ()


def leaf(where: str, table: Mapping[str, Json], *, names: Names) -> Leaf:
    """The leaf. `where` is file and block. Raises KnowledgeError."""
    name = table.get("input", "")
    known_word(where, f"input {name!r} has no block in {INPUTS}", name, names.units)
    place = f"{where}: {name}"
    asks_number, asks_state = "op" in table, "is" in table
    if asks_number == asks_state:
        raise KnowledgeError(f"{place}: ask either a number (`op`, `value`, `unit`) or a state (`is`)")
    question = QUESTIONS.get(name)
    if question is None:
        raise KnowledgeError(f"{place}: app/clinical/readers/questions.py does not say what it may be asked: add it")
    if asks_number != question.is_number:
        right = "a number: `op`, `value`, `unit`" if question.is_number else "a state: `is`"
        raise KnowledgeError(f"{place}: it is {right}")
    known_keys(place, table, (*(_COMPARISON if asks_number else _STATE), *question.parameters))
    if asks_number:
        _comparison(place, table, unit=names.units[name])
    else:
        _states(place, table["is"], question)
    if table.get("otherwise", "unknown") != "unknown" or table.get("unknown", "met") not in {"met", "not-met"}:
        raise KnowledgeError(f"{place}: `otherwise` is unknown; `unknown` is met or not-met")
    for parameter in question.required:
        if parameter not in table:
            raise KnowledgeError(f"{place}: no `{parameter}`: add it")
    params = {key: table[key] for key in table if key in question.parameters}
    for key, value in params.items():
        _parameter(f"{place}: `{key}`", value, kind=question.parameters[key], names=names)
    return Leaf(
        input=name,
        op=table.get("op", ""),
        value=number(f"{place}: value", table["value"]) if asks_number else None,
        unit=table.get("unit", ""),
        among=frozenset(table.get("is", ())),
        otherwise=table.get("otherwise", ""),
        unknown=table.get("unknown", ""),
        params=params,
    )


def _comparison(place: str, table: Mapping[str, Json], *, unit: str) -> None:
    if table["op"] not in _OPS or "value" not in table:
        raise KnowledgeError(f"{place}: `op` is one of {' '.join(_OPS)} and needs a `value`")
    if table.get("unit") != unit:
        raise KnowledgeError(f"{place}: unit must be {unit!r}, the input's own")


def _states(place: str, states: Json, question: Question) -> None:
    if not isinstance(states, list) or not states:
        raise KnowledgeError(f"{place}: `is` is a list with at least one state, like [{min(question.states)!r}]")
    for state in states:
        known_word(place, f"`is` {state!r} is no state that it can have", state, question.states)


def _parameter(place: str, value: Json, *, kind: str, names: Names) -> None:
    if kind == "number":
        number(place, value)
        return
    if not isinstance(value, str) or not value.strip():
        raise KnowledgeError(f"{place}: write names between quotes, several with spaces between")
    if kind == "group":
        known_word(place, f"group {value!r} is not in {GROUPS}", value, names.groups)
        if not names.groups[value].lookback:
            raise KnowledgeError(f"{place}: [group.{value}] of {GROUPS} has no `lookback_hours`: add it there")
    elif kind == "missing":
        complaint = f"{value!r} is no public name (`missing` of an input, or a key of [missing] in shared/texts.toml)"
        known_word(place, complaint, value, names.missing)
    else:
        for word in value.split():
            known_word(place, f"{word!r} stands not in fhir_mappings/concepts", word, concepts(kind))


@cache
def concepts(kind: str) -> frozenset[str]:
    """The names of a concept file that a knowledge file may use: what carries words for a card is a concept."""
    if kind == "conditions":
        return frozenset(conditions.concept_names())
    book = {"substances": "allergies"}.get(kind, kind)
    return frozenset(name for name, table in codebook.load(book).tables.items() if "text" in table)
