"""Reads the knowledge files into `app.clinical.knowledge` and refuses what does not fit together.

KnowledgeError names the file, the key and the remedy. Numbers are read as Decimal: float would turn 1000 ng/mL into
1000.0000000000002 ug/L, which is "> 1000".
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any as Json

from app.clinical.knowledge import (
    All,
    Any,
    Confirmation,
    Criterion,
    Group,
    Input,
    Knowledge,
    Leaf,
    Node,
    Not,
    Protocol,
    Ref,
    Row,
    SafetyRule,
)
from app.clinical.readers import READERS
from app.clinical.table import CONDITIONS

FOLDERS = ("pilot_simple", "pilot_full")
"""Protocol folders in the order they are evaluated: a later one may refer to criteria of an earlier one."""

_LEAF = {"input", "op", "value", "unit", "is", "otherwise", "unknown"}
_OPS = {"<", "<=", ">", ">="}
_CARDS = {"none", "course", "thresholds-met", "undetermined"}
_RENAL = "renal"
"""The one name of the required safety set that is no input: the dialysis state or a clearance (reading 3.15)."""


class KnowledgeError(ValueError):
    """A knowledge file is wrong: names the file, the key and the remedy."""


@dataclass(frozen=True, slots=True)
class Library:
    """The knowledge, the words, the treatment, and the text of every file by its name (kept with each decision)."""

    knowledge: Knowledge
    words: Mapping[str, Json]
    treatment: Mapping[str, Json]
    files: Mapping[str, str]


def load() -> Library:
    """The shipped knowledge. Raises KnowledgeError."""
    root = resources.files("app.protocols")
    names = [f"shared/{name}.toml" for name in ("inputs", "interactions", "safety", "patient_view", "treatment")]
    names += ["shared/texts.toml", "shared/cards.toml", *(f"{folder}/protocol.toml" for folder in FOLDERS)]
    return build({name: _read(root, name) for name in names})


def build(files: Mapping[str, str]) -> Library:
    """The knowledge from the texts of its files, by name."""
    tables = {name: _parse(name, text) for name, text in files.items()}
    inputs_file = tables["shared/inputs.toml"]
    inputs = _inputs("shared/inputs.toml", inputs_file)
    units = {name: str(table.get("unit", "")) for name, table in inputs_file["input"].items()}
    groups = _groups("shared/interactions.toml", tables["shared/interactions.toml"])
    reader = _Trees(units=units, groups=groups)
    protocols = []
    for folder in FOLDERS:
        name = f"{folder}/protocol.toml"
        protocols.append(_protocol(name, tables[name], reader))
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(name.encode() + b"\0" + files[name].encode() + b"\0")
    safety = tables["shared/safety.toml"]
    knowledge = Knowledge(
        inputs=inputs,
        groups=groups,
        protocols=tuple(protocols),
        safety=tuple(
            _safety_rule("shared/safety.toml", row, reader) for row in _blocks("shared/safety.toml", safety, "finding")
        ),
        required=_required("shared/safety.toml", safety, inputs),
        rows=tuple(_rows("shared/patient_view.toml", tables["shared/patient_view.toml"])),
        limits=_numbers("shared/inputs.toml", inputs_file, "limits"),
        steroid_equivalents=_numbers("shared/inputs.toml", inputs_file, "steroid_equivalents"),
        hash=digest.hexdigest(),
        version=", ".join(f"{p.id} {p.version}" for p in protocols),
    )
    _unique("shared/safety.toml", [rule.id for rule in knowledge.safety])
    words = {**tables["shared/texts.toml"], "card": tables["shared/cards.toml"]}
    return Library(knowledge, words, tables["shared/treatment.toml"], dict(files))


def _read(root: Traversable, name: str) -> str:
    return root.joinpath(name).read_text(encoding="utf-8")


def _parse(name: str, text: str) -> dict[str, Json]:
    try:
        return tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise KnowledgeError(f"app/protocols/{name}: not TOML: {error}") from None


def _field(name: str, table: Mapping[str, Json], key: str, *, block: str = "") -> Json:
    try:
        return table[key]
    except KeyError:
        where = block or table.get("id", "a block")
        raise KnowledgeError(f"app/protocols/{name}: {where} has no `{key}`: add it") from None


def _blocks(name: str, table: Mapping[str, Json], key: str) -> list[dict[str, Json]]:
    found = _field(name, table, key)
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise KnowledgeError(f"app/protocols/{name}: `{key}` must be written as [[{key}]] blocks")
    return found


def _named(name: str, table: Mapping[str, Json], key: str) -> dict[str, Json]:
    found = _field(name, table, key)
    if not isinstance(found, dict):
        raise KnowledgeError(f"app/protocols/{name}: `{key}` must be written as a [{key}] table")
    return found


def _number(where: str, value: Json) -> Decimal:
    """What must be finite and no boolean; a number in quotes is one too."""
    try:
        number = Decimal(value)
    except (InvalidOperation, TypeError, ValueError):
        raise KnowledgeError(f"{where}: not a number: write it without quotes and units") from None
    if isinstance(value, bool) or not number.is_finite():
        raise KnowledgeError(f"{where}: not a finite number: write it without quotes and units")
    return number


def _numbers(name: str, table: Mapping[str, Json], key: str) -> dict[str, Decimal]:
    return {
        word: _number(f"app/protocols/{name}: [{key}] {word}", value)
        for word, value in _named(name, table, key).items()
    }


def _hours(where: str, value: Json) -> timedelta:
    hours = _number(where, value)
    if hours <= 0:
        raise KnowledgeError(f"{where}: hours must be above zero: leave the key out for no limit")
    return timedelta(hours=float(hours))


def _unique(name: str, ids: Iterable[str]) -> None:
    seen: set[str] = set()
    for id_ in ids:
        if id_ in seen:
            raise KnowledgeError(f"app/protocols/{name}: {id_} stands there twice: give every block an id of its own")
        seen.add(id_)


def _required(name: str, safety: Mapping[str, Json], inputs: Mapping[str, Input]) -> tuple[str, ...]:
    names = tuple(_field(name, safety, "required"))
    for word in names:
        if word != _RENAL and word not in inputs:
            raise KnowledgeError(f"app/protocols/{name}: required: {word!r} has no block in shared/inputs.toml")
    return names


def _inputs(name: str, table: Mapping[str, Json]) -> dict[str, Input]:
    found = {}
    for key, row in _named(name, table, "input").items():
        if key not in READERS:
            raise KnowledgeError(f"app/protocols/{name}: [input.{key}]: no reader of that name in app/clinical/readers")
        hours = row.get("window_hours")
        where = f"app/protocols/{name}: [input.{key}]"
        found[key] = Input(
            name=key,
            missing=_field(name, row, "missing"),
            window=None if hours is None else _hours(f"{where} window_hours", hours),
            needs=tuple(_field(name, row, "needs")),
            concept=row.get("concept", ""),
            title=_field(name, row, "title"),
            obtain=_field(name, row, "obtain"),
            source=_field(name, row, "source"),
            alternatives=row.get("alternatives", ""),
        )
    absent = sorted(READERS.keys() - found.keys())
    if absent:
        raise KnowledgeError(f"app/protocols/{name}: no block [input.{absent[0]}]: every reader needs one")
    return found


def _groups(name: str, table: Mapping[str, Json]) -> dict[str, Group]:
    found = {}
    for key, row in _named(name, table, "group").items():
        block = f"[group.{key}]"
        hours = _field(name, row, "lookback_hours", block=block)
        found[key] = Group(
            name=key,
            ingredients=frozenset(_field(name, row, "ingredients", block=block)),
            lookback=_hours(f"app/protocols/{name}: {block} lookback_hours", hours),
            title=_field(name, row, "title", block=block),
            source=_field(name, row, "source", block=block),
        )
    return found


@dataclass(slots=True)
class _Trees:
    """Reads logic trees; remembers the ids that a `ref` may name."""

    units: Mapping[str, str]
    groups: Mapping[str, Group]
    ids: tuple[str, ...] = ()

    def node(self, name: str, owner: str, table: Mapping[str, Json]) -> Node:
        where = f"app/protocols/{name}: {owner}"
        if "all" in table:
            return All(tuple(self.node(name, owner, child) for child in table["all"]))
        if "any" in table:
            return Any(tuple(self.node(name, owner, child) for child in table["any"]))
        if "not" in table:
            return Not(self.node(name, owner, table["not"]))
        if "ref" in table:
            if table["ref"] not in self.ids:
                raise KnowledgeError(f"{where}: `ref` {table['ref']} names no criterion above it")
            return Ref(table["ref"])
        return self.leaf(where, table)

    def leaf(self, where: str, table: Mapping[str, Json]) -> Leaf:
        name = table.get("input", "")
        if name not in self.units:
            raise KnowledgeError(f"{where}: input {name!r} has no block in shared/inputs.toml")
        asks_number, asks_state = "op" in table, "is" in table
        if asks_number == asks_state:
            raise KnowledgeError(f"{where}: {name}: ask either a number (`op`, `value`, `unit`) or a state (`is`)")
        if asks_number:
            if table["op"] not in _OPS or "value" not in table:
                raise KnowledgeError(f"{where}: {name}: `op` is one of < <= > >= and needs a `value`")
            if table.get("unit") != self.units[name]:
                raise KnowledgeError(f"{where}: {name}: unit must be {self.units[name]!r}, the input's own")
        if table.get("otherwise", "unknown") != "unknown" or table.get("unknown", "met") not in {"met", "not-met"}:
            raise KnowledgeError(f"{where}: {name}: `otherwise` is unknown; `unknown` is met or not-met")
        group = table.get("group")
        if group is not None and group not in self.groups:
            raise KnowledgeError(f"{where}: group {group!r} is not in shared/interactions.toml")
        return Leaf(
            input=name,
            op=table.get("op", ""),
            value=_number(f"{where}: {name}: value", table["value"]) if asks_number else None,
            unit=table.get("unit", ""),
            among=frozenset(table.get("is", ())),
            otherwise=table.get("otherwise", ""),
            unknown=table.get("unknown", ""),
            params={key: value for key, value in table.items() if key not in _LEAF},
        )


def _protocol(name: str, table: Mapping[str, Json], trees: _Trees) -> Protocol:
    criteria = []
    for row in _blocks(name, table, "criterion"):
        tree = trees.node(name, _field(name, row, "id"), _field(name, row, "test"))
        criteria.append(
            Criterion(
                id=row["id"],
                tree=tree,
                title=_field(name, row, "title"),
                threshold=_field(name, row, "threshold"),
                source=_field(name, row, "source"),
            )
        )
        trees.ids = (*trees.ids, row["id"])
    _unique(name, trees.ids)
    confirmations: Iterable[Mapping[str, Json]] = table.get("confirmation", ())
    return Protocol(
        id=_field(name, table, "id"),
        version=_field(name, table, "version"),
        title=_field(name, table, "title"),
        status=_field(name, table, "status"),
        reviewed_by=tuple(_field(name, table, "reviewed_by")),
        criteria=tuple(criteria),
        confirmations=tuple(Confirmation(_field(name, row, "id"), _field(name, row, "text")) for row in confirmations),
        scope=trees.node(name, "scope", _field(name, table, "scope")),
        speak=bool(_field(name, table, "speak")),
    )


def _safety_rule(name: str, row: Mapping[str, Json], trees: _Trees) -> SafetyRule:
    severity = _field(name, row, "severity")
    if severity not in {"absolute", "relative", "monitor"}:
        raise KnowledgeError(
            f"app/protocols/{name}: {row.get('id', 'a block')}: severity is absolute, relative or monitor"
        )
    tree = trees.node(name, _field(name, row, "id"), _field(name, row, "test"))
    return SafetyRule(
        id=_field(name, row, "id"),
        drugs=tuple(_field(name, row, "drugs")),
        severity=severity,
        tree=tree,
        title=_field(name, row, "title"),
        advice=_field(name, row, "advice"),
        source=_field(name, row, "source"),
        withholds=bool(row.get("withholds", severity != "monitor")),
        required=bool(row.get("required", False)),
    )


def _rows(name: str, table: Mapping[str, Json]) -> Iterator[Row]:
    rows = _blocks(name, table, "row")
    if not rows or _field(name, rows[-1], "when"):
        raise KnowledgeError(f"app/protocols/{name}: the last row must have no conditions, so that one always matches")
    for row in rows:
        unknown = sorted(set(_field(name, row, "when")) - CONDITIONS.keys())
        if unknown:
            raise KnowledgeError(
                f"app/protocols/{name}: {row['id']}: no condition {unknown[0]!r} in app/clinical/table.py"
            )
        if _field(name, row, "card") not in _CARDS:
            raise KnowledgeError(f"app/protocols/{name}: {row['id']}: `card` is one of {', '.join(sorted(_CARDS))}")
        yield Row(
            id=_field(name, row, "id"),
            when=tuple(row["when"]),
            card=row["card"],
            suggestions=bool(_field(name, row, "suggestions")),
            outcome=_field(name, row, "outcome"),
        )
