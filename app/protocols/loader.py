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
from decimal import Decimal
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
    inputs = _inputs("shared/inputs.toml", tables["shared/inputs.toml"])
    units = {name: str(table.get("unit", "")) for name, table in tables["shared/inputs.toml"]["input"].items()}
    groups = _groups(tables["shared/interactions.toml"])
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
        safety=tuple(_safety_rule("shared/safety.toml", row, reader) for row in safety["finding"]),
        required=tuple(safety["required"]),
        rows=tuple(_rows("shared/patient_view.toml", tables["shared/patient_view.toml"])),
        limits={name: Decimal(value) for name, value in tables["shared/inputs.toml"]["limits"].items()},
        steroid_equivalents={
            name: Decimal(value) for name, value in tables["shared/inputs.toml"]["steroid_equivalents"].items()
        },
        hash=digest.hexdigest(),
        version=", ".join(f"{p.id} {p.version}" for p in protocols),
    )
    words = {**tables["shared/texts.toml"], "card": tables["shared/cards.toml"]}
    return Library(knowledge, words, tables["shared/treatment.toml"], dict(files))


def _read(root: Traversable, name: str) -> str:
    return root.joinpath(name).read_text(encoding="utf-8")


def _parse(name: str, text: str) -> dict[str, Json]:
    try:
        return tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise KnowledgeError(f"app/protocols/{name}: not TOML: {error}") from None


def _field(name: str, table: Mapping[str, Json], key: str) -> Json:
    try:
        return table[key]
    except KeyError:
        raise KnowledgeError(f"app/protocols/{name}: {table.get('id', 'a block')} has no `{key}`: add it") from None


def _inputs(name: str, table: Mapping[str, Json]) -> dict[str, Input]:
    found = {}
    for key, row in table["input"].items():
        if key not in READERS:
            raise KnowledgeError(f"app/protocols/{name}: [input.{key}]: no reader of that name in app/clinical/readers")
        hours = row.get("window_hours")
        found[key] = Input(
            name=key,
            missing=_field(name, row, "missing"),
            window=None if hours is None else timedelta(hours=float(hours)),
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


def _groups(table: Mapping[str, Json]) -> dict[str, Group]:
    return {
        key: Group(
            name=key,
            ingredients=frozenset(row["ingredients"]),
            lookback=timedelta(hours=float(row["lookback_hours"])),
            title=row["title"],
            source=row["source"],
        )
        for key, row in table["group"].items()
    }


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
        group = table.get("group")
        if group is not None and group not in self.groups:
            raise KnowledgeError(f"{where}: group {group!r} is not in shared/interactions.toml")
        return Leaf(
            input=name,
            op=table.get("op", ""),
            value=Decimal(table["value"]) if asks_number else None,
            unit=table.get("unit", ""),
            among=frozenset(table.get("is", ())),
            otherwise=table.get("otherwise", ""),
            unknown=table.get("unknown", ""),
            params={key: value for key, value in table.items() if key not in _LEAF},
        )


def _protocol(name: str, table: Mapping[str, Json], trees: _Trees) -> Protocol:
    criteria = []
    for row in table["criterion"]:
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
    confirmations: Iterable[Mapping[str, Json]] = table.get("confirmation", ())
    return Protocol(
        id=_field(name, table, "id"),
        version=_field(name, table, "version"),
        title=_field(name, table, "title"),
        status=_field(name, table, "status"),
        reviewed_by=tuple(_field(name, table, "reviewed_by")),
        criteria=tuple(criteria),
        confirmations=tuple(Confirmation(row["id"], row["text"]) for row in confirmations),
        scope=trees.node(name, "scope", _field(name, table, "scope")),
        speak=bool(_field(name, table, "speak")),
    )


def _safety_rule(name: str, row: Mapping[str, Json], trees: _Trees) -> SafetyRule:
    severity = _field(name, row, "severity")
    if severity not in {"absolute", "relative", "monitor"}:
        raise KnowledgeError(f"app/protocols/{name}: {row['id']}: severity is absolute, relative or monitor")
    return SafetyRule(
        id=_field(name, row, "id"),
        drugs=tuple(_field(name, row, "drugs")),
        severity=severity,
        tree=trees.node(name, row["id"], _field(name, row, "test")),
        title=_field(name, row, "title"),
        advice=_field(name, row, "advice"),
        source=_field(name, row, "source"),
        withholds=bool(row.get("withholds", severity != "monitor")),
        required=bool(row.get("required", False)),
    )


def _rows(name: str, table: Mapping[str, Json]) -> Iterator[Row]:
    rows = table["row"]
    if not rows or rows[-1]["when"]:
        raise KnowledgeError(f"app/protocols/{name}: the last row must have no conditions, so that one always matches")
    for row in rows:
        unknown = sorted(set(row["when"]) - CONDITIONS.keys())
        if unknown:
            raise KnowledgeError(
                f"app/protocols/{name}: {row['id']}: no condition {unknown[0]!r} in app/clinical/table.py"
            )
        yield Row(row["id"], tuple(row["when"]), row["card"], bool(row["suggestions"]), row["outcome"])
