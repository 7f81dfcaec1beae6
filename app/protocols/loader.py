"""Reads the knowledge files into `app.clinical.knowledge` and refuses what does not fit together.

KnowledgeError names the file, the key and the remedy. Numbers are read as Decimal: float would turn 1000 ng/mL into
1000.0000000000002 ug/L, which is "> 1000".
"""

from __future__ import annotations

import dataclasses
import hashlib
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import partial
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any as Json

from app.clinical.course import STUDY_DRUGS
from app.clinical.knowledge import (
    All,
    Any,
    Arm,
    Confirmation,
    Criterion,
    Dose,
    Group,
    Input,
    Knowledge,
    Limit,
    Node,
    Not,
    Protocol,
    Ref,
    Row,
    SafetyRule,
)
from app.clinical.readers import READERS
from app.clinical.readers.questions import GROUPS, LIMITS, QUESTIONS
from app.clinical.table import CONDITIONS
from app.protocols import followup, leaves, orders
from app.protocols.fields import (
    ORIGIN,
    KnowledgeError,
    blocks,
    each,
    field,
    hours,
    known_keys,
    known_word,
    limits,
    named,
    number,
    numbers,
    origin,
    unique,
)
from app.protocols.review import with_expiry
from fhir_mappings import codebook, units

FOLDERS = ("pilot_simple", "pilot_full", "rct_stage_2b", "rct_stage_3", "rct_evolved_3")
"""Protocol folders in the order they are evaluated: a later one may refer to criteria of an earlier one."""

TRIAL = "shared/trial.toml"
"""Criteria that several protocols name by their ids."""

_PROTOCOL = ("id", "version", "title", "status", "reviewed_by", "speak", "source", "scope")
_CRITERION = ("id", "title", "threshold", "test", "part_of", "confirm", *ORIGIN)
_CONFIRMATION = ("id", "text", "input")
_ARM = ("stage", "precedence", "drug", *ORIGIN)
_DOSE = ("ingredient", "dose_mg", "per_day", "route", "days", "at_most", "then")
_FINDING = ("id", "title", "drugs", "severity", "withholds", "required", "advice", "test", *ORIGIN)
_INPUT = ("title", "missing", "needs", "fixed", "concept", "window_hours", "unit", "obtain", *ORIGIN)
_GROUP = ("title", "lookback_hours", "ingredients", *ORIGIN)
_ROW = ("id", "when", "card", "suggestions", "outcome", *ORIGIN)
_STATUSES = {"draft", "reviewed"}
_CARDS = {"none", "course", "thresholds-met", "undetermined"}
_RENAL = "renal"
"""The one name of the required safety set that is no input: the dialysis state or a clearance (reading 3.15)."""


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
    names += [TRIAL, "shared/texts.toml", "shared/cards.toml", *(f"{folder}/protocol.toml" for folder in FOLDERS)]
    names += [followup.FILE, orders.FILE]
    return build({name: _read(root, name) for name in names})


def build(files: Mapping[str, str]) -> Library:
    """The knowledge from the texts of its files, by name."""
    tables = _tables(files)
    inputs_file = tables["shared/inputs.toml"]
    inputs = _inputs("shared/inputs.toml", inputs_file)
    groups = _groups("shared/interactions.toml", tables["shared/interactions.toml"])
    texts = tables["shared/texts.toml"]
    reader = _trees(inputs_file, groups, texts=texts)
    protocols = []
    for folder in FOLDERS:
        name = f"{folder}/protocol.toml"
        protocols.append(_protocol(name, tables[name], reader, shared=tables[TRIAL]))
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(name.encode() + b"\0" + files[name].encode() + b"\0")
    safety = tables["shared/safety.toml"]
    later = followup.build(tables[followup.FILE], known=_for_followup(reader, inputs, safety))
    knowledge = Knowledge(
        inputs=inputs,
        groups=groups,
        protocols=tuple(protocols),
        safety=tuple(_safety("shared/safety.toml", safety, reader)),
        required=_required("shared/safety.toml", safety, inputs),
        rows=tuple(_rows("shared/patient_view.toml", tables["shared/patient_view.toml"])),
        limits=_limits("shared/inputs.toml", inputs_file),
        steroid_equivalents=_equivalents("shared/inputs.toml", inputs_file),
        follow_up=later,
        order_checks=orders.build(tables[orders.FILE]),
        order_version=orders.version(tables[orders.FILE]),
        hash=digest.hexdigest(),
        version=", ".join(
            [
                *(f"{p.id} {p.version}" for p in protocols),
                f"{later.id} {later.version}",
                f"{orders.ID} {orders.version(tables[orders.FILE])}",
            ]
        ),
    )
    words = {**texts, "card": with_expiry("shared/cards.toml", tables["shared/cards.toml"])}
    return Library(knowledge, words, tables["shared/treatment.toml"], dict(files))


def complaints(files: Mapping[str, str]) -> tuple[str, ...]:
    """Everything that is wrong with these files. What refers to inputs and drug groups is looked at when those are
    right: before, it could only complain of the same again."""
    try:
        tables = _tables(files)
        inputs_file, cards = tables["shared/inputs.toml"], tables["shared/cards.toml"]
        groups_file, rows_file = tables["shared/interactions.toml"], tables["shared/patient_view.toml"]
        safety = tables["shared/safety.toml"]
        first: list[Callable[[], object]] = [
            lambda: _inputs("shared/inputs.toml", inputs_file),
            lambda: _limits("shared/inputs.toml", inputs_file),
            lambda: _equivalents("shared/inputs.toml", inputs_file),
            lambda: _groups("shared/interactions.toml", groups_file),
            lambda: _rows("shared/patient_view.toml", rows_file),
            lambda: with_expiry("shared/cards.toml", cards),
            lambda: orders.build(tables[orders.FILE]),
        ]
        each(first)
        inputs, groups = _inputs("shared/inputs.toml", inputs_file), _groups("shared/interactions.toml", groups_file)
        reader = _trees(inputs_file, groups, texts=tables["shared/texts.toml"])
        names = [f"{folder}/protocol.toml" for folder in FOLDERS]
        second: list[Callable[[], object]] = [
            *(partial(_protocol, name, tables[name], reader, shared=tables[TRIAL]) for name in names),
            lambda: _safety("shared/safety.toml", safety, reader),
            lambda: _required("shared/safety.toml", safety, inputs),
            lambda: followup.build(tables[followup.FILE], known=_for_followup(reader, inputs, safety)),
        ]
        each(second)
    except KnowledgeError as error:
        return error.complaints
    return ()


def _tables(files: Mapping[str, str]) -> dict[str, dict[str, Json]]:
    return dict(zip(files, each(partial(_parse, name, text) for name, text in files.items()), strict=True))


def _trees(inputs: Mapping[str, Json], groups: Mapping[str, Group], *, texts: Mapping[str, Json]) -> _Trees:
    rows = named("shared/inputs.toml", inputs, "input")
    return _Trees(
        leaves.Names(
            units={name: str(row.get("unit", "")) for name, row in rows.items()},
            groups=groups,
            missing={*(str(row.get("missing")) for row in rows.values()), *texts.get("missing", ())},
        )
    )


def _for_followup(trees: _Trees, inputs: Mapping[str, Input], safety: Mapping[str, Json]) -> followup.Known:
    findings = {str(row.get("id", "")) for row in blocks("shared/safety.toml", safety, "finding")}
    return followup.Known(trees.node, inputs, findings)


def _read(root: Traversable, name: str) -> str:
    return root.joinpath(name).read_text(encoding="utf-8")


def _parse(name: str, text: str) -> dict[str, Json]:
    try:
        return tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise KnowledgeError(f"app/protocols/{name}: not TOML: {error}") from None


def _required(name: str, safety: Mapping[str, Json], inputs: Mapping[str, Input]) -> tuple[str, ...]:
    names = tuple(field(name, safety, "required"))
    for word in names:
        if word != _RENAL and word not in inputs:
            raise KnowledgeError(f"app/protocols/{name}: required: {word!r} has no block in shared/inputs.toml")
    return names


def _inputs(name: str, table: Mapping[str, Json]) -> dict[str, Input]:
    rows = named(name, table, "input")
    found = dict(zip(rows, each(partial(_input, name, key, row) for key, row in rows.items()), strict=True))
    absent = sorted(READERS.keys() - found.keys())
    if absent:
        raise KnowledgeError(f"app/protocols/{name}: no block [input.{absent[0]}]: every reader needs one")
    return found


def _input(name: str, key: str, row: Mapping[str, Json]) -> Input:
    where = f"app/protocols/{name}: [input.{key}]"
    if key not in READERS:
        raise KnowledgeError(f"{where}: no reader of that name in app/clinical/readers")
    known_keys(where, row, _INPUT)
    _measured(where, key, row)
    window = row.get("window_hours")
    return Input(
        name=key,
        missing=field(name, row, "missing"),
        window=None if window is None else hours(f"{where} window_hours", window),
        needs=tuple(field(name, row, "needs")),
        concept=row.get("concept", ""),
        title=field(name, row, "title"),
        obtain=field(name, row, "obtain"),
        origin=origin(name, row, block=f"[input.{key}]"),
        fixed=bool(row.get("fixed", False)),
    )


def _measured(where: str, key: str, row: Mapping[str, Json]) -> None:
    """The concept exists, and the unit is the one into which its values are converted."""
    concept, unit = row.get("concept", ""), row.get("unit", "")
    if concept:
        complaint = f"concept {concept!r} stands not in fhir_mappings/concepts/observations.toml"
        known_word(where, complaint, concept, leaves.concepts("observations"))
    question = QUESTIONS.get(key)
    if question is None:
        raise KnowledgeError(f"{where}: app/clinical/readers/questions.py does not say what it may be asked: add it")
    if not question.is_number:
        if unit:
            raise KnowledgeError(f"{where}: `unit`: it is asked for a state, which has none: leave it out")
        return
    canonical = question.unit
    if not canonical:
        quantity = codebook.load("observations").tables.get(concept, {}).get("quantity")
        if quantity is None:
            book = "fhir_mappings/concepts/observations.toml"
            raise KnowledgeError(f"{where}: `concept` must be one of {book} that is measured as a number")
        canonical = units.quantities()[quantity].unit
    if unit != canonical:
        raise KnowledgeError(f"{where}: `unit` must be {canonical!r}, into which fhir_mappings converts its values")


def _limits(name: str, table: Mapping[str, Json]) -> dict[str, Limit]:
    found = limits(name, table)
    absent = sorted(LIMITS - found.keys())
    if absent:
        raise KnowledgeError(f"app/protocols/{name}: no block [limit.{absent[0]}]: app/clinical asks for it")
    return found


def _equivalents(name: str, table: Mapping[str, Json]) -> dict[str, Decimal]:
    row = named(name, table, "steroid_equivalents")
    where = f"app/protocols/{name}: [steroid_equivalents]"
    known_keys(where, row, ("mg", *ORIGIN))
    origin(name, row, block="[steroid_equivalents]")
    found = numbers(name, row, "mg")
    _ingredients(f"{where} mg", found)
    return found


def _ingredients(where: str, names: Iterable[str]) -> None:
    for word in names:
        complaint = f"{word!r} stands not in fhir_mappings/concepts/ingredients.toml"
        known_word(where, complaint, word, leaves.concepts("ingredients"))


def _groups(name: str, table: Mapping[str, Json]) -> dict[str, Group]:
    rows = named(name, table, "group")
    found = dict(zip(rows, each(partial(_group, name, key, row) for key, row in rows.items()), strict=True))
    absent = sorted(GROUPS - found.keys())
    if absent:
        raise KnowledgeError(f"app/protocols/{name}: no block [group.{absent[0]}]: app/clinical asks for it")
    return found


def _group(name: str, key: str, row: Mapping[str, Json]) -> Group:
    """One without `lookback_hours` is asked by a reader that has a window of its own."""
    block = f"[group.{key}]"
    where = f"app/protocols/{name}: {block}"
    known_keys(where, row, _GROUP)
    ingredients = field(name, row, "ingredients", block=block)
    _ingredients(f"{where} ingredients", ingredients)
    lookback = row.get("lookback_hours")
    return Group(
        name=key,
        ingredients=frozenset(ingredients),
        lookback=timedelta(0) if lookback is None else hours(f"{where} lookback_hours", lookback),
        title=field(name, row, "title", block=block),
        origin=origin(name, row, block=block),
    )


@dataclass(slots=True)
class _Trees:
    """Reads logic trees; remembers the criteria that a `ref` may name."""

    names: leaves.Names
    criteria: dict[str, Criterion] = dataclasses.field(default_factory=dict)
    seen: set[str] = dataclasses.field(default_factory=set)
    """Ids of the criteria read so far, of broken ones too: what refers to those is not wrong for that."""

    def node(self, name: str, owner: str, table: Mapping[str, Json]) -> Node:
        where = f"app/protocols/{name}: {owner}"
        if not isinstance(table, dict):
            raise KnowledgeError(f"{where}: write a question between {{ and }}, not {table!r}")
        for kind in ("all", "any", "not", "ref"):
            if kind in table and len(table) > 1:
                raise KnowledgeError(f"{where}: nothing may stand beside `{kind}`: give it braces of its own")
        if "all" in table:
            return All(self._children(name, owner, table, "all"))
        if "any" in table:
            return Any(self._children(name, owner, table, "any"))
        if "not" in table:
            return Not(self.node(name, owner, table["not"]))
        if "ref" in table:
            if table["ref"] not in self.seen:
                raise KnowledgeError(f"{where}: `ref` {table['ref']} names no criterion above it")
            return Ref(table["ref"])
        return leaves.leaf(where, table, names=self.names)

    def _children(self, name: str, owner: str, table: Mapping[str, Json], key: str) -> tuple[Node, ...]:
        """At least one: all of nothing would be met."""
        found = table[key]
        if not isinstance(found, list) or not found:
            raise KnowledgeError(f"app/protocols/{name}: {owner}: `{key}` is a list with at least one question")
        return tuple(self.node(name, owner, child) for child in found)


def _protocol(name: str, table: Mapping[str, Json], trees: _Trees, *, shared: Mapping[str, Json]) -> Protocol:
    own = ("criteria", "arm") if "criteria" in table else ("criterion", "confirmation")
    known_keys(f"app/protocols/{name}", table, (*_PROTOCOL, *own))
    if "criteria" in table:
        criteria = _chosen(name, table["criteria"], trees, shared=shared)
        questions = shared.get("confirmation", ())
    else:
        criteria = each(partial(_criterion, name, row, trees) for row in blocks(name, table, "criterion"))
        questions = table.get("confirmation", ())
    known_word(f"app/protocols/{name}", "`status` is draft or reviewed", field(name, table, "status"), _STATUSES)
    return Protocol(
        id=field(name, table, "id"),
        version=field(name, table, "version"),
        title=field(name, table, "title"),
        status=field(name, table, "status"),
        reviewed_by=tuple(field(name, table, "reviewed_by")),
        source=field(name, table, "source"),
        criteria=tuple(criteria),
        confirmations=tuple(_confirmation(name, row, trees.names) for row in questions),
        scope=trees.node(name, "scope", field(name, table, "scope")),
        speak=bool(field(name, table, "speak")),
        arm=_arm(name, table["arm"]) if "arm" in table else None,
    )


def _confirmation(name: str, row: Mapping[str, Json], names: leaves.Names) -> Confirmation:
    """`input` names what of the record is shown beside the question; it can be one that needs no parameters."""
    id_ = field(name, row, "id")
    where = f"app/protocols/{name}: {id_}"
    known_keys(where, row, _CONFIRMATION)
    asked = row.get("input", "")
    if asked:
        known_word(where, f"input {asked!r} has no block in shared/inputs.toml", asked, names.units)
    return Confirmation(id_, field(name, row, "text"), asked)


def _arm(name: str, table: Mapping[str, Json]) -> Arm:
    """What a stage of the trial was randomised to."""
    where = f"app/protocols/{name}: [arm]"
    known_keys(where, table, _ARM)
    doses = []
    for row in blocks(name, table, "drug"):
        known_keys(f"{where} drug", row, _DOSE)
        ingredient = field(name, row, "ingredient", block="[[arm.drug]]")
        _ingredients(f"{where} drug", [ingredient])
        figures = {key: field(name, row, key, block="[[arm.drug]]") for key in ("dose_mg", "per_day", "days")}
        found = {key: number(f"{where} {ingredient}: {key}", value) for key, value in figures.items()}
        doses.append(
            Dose(
                ingredient=ingredient,
                dose_mg=found["dose_mg"],
                per_day=int(found["per_day"]),
                route=field(name, row, "route", block="[[arm.drug]]"),
                days=int(found["days"]),
                at_most=bool(row.get("at_most", False)),
                then=row.get("then", ""),
            )
        )
    return Arm(
        stage=field(name, table, "stage", block="[arm]"),
        precedence=int(number(f"{where} precedence", field(name, table, "precedence", block="[arm]"))),
        doses=tuple(doses),
        origin=origin(name, table, block="[arm]"),
    )


def _criterion(name: str, row: Mapping[str, Json], trees: _Trees) -> Criterion:
    """One criterion; from here on a `ref` may name it."""
    id_ = field(name, row, "id")
    try:
        found = _read_criterion(name, id_, row, trees)
    finally:
        trees.seen.add(id_)
    trees.criteria[id_] = found
    return found


def _read_criterion(name: str, id_: str, row: Mapping[str, Json], trees: _Trees) -> Criterion:
    known_keys(f"app/protocols/{name}: {id_}", row, _CRITERION)
    if id_ in trees.criteria:
        raise KnowledgeError(f"app/protocols/{name}: {id_} stands there twice: give every block an id of its own")
    return Criterion(
        id=id_,
        tree=trees.node(name, id_, field(name, row, "test")),
        title=field(name, row, "title"),
        threshold=field(name, row, "threshold"),
        origin=origin(name, row),
        part_of=row.get("part_of", ""),
        confirm=row.get("confirm", ""),
    )


def _chosen(name: str, ids: Iterable[str], trees: _Trees, *, shared: Mapping[str, Json]) -> list[Criterion]:
    """The criteria that a protocol takes from the shared file, in its own order."""
    offered = {field(TRIAL, row, "id"): row for row in blocks(TRIAL, shared, "criterion")}
    unique(name, ids)
    for id_ in ids:
        if id_ not in offered:
            raise KnowledgeError(f"app/protocols/{name}: criteria: {id_!r} is no criterion of {TRIAL}")
    missing = [id_ for id_ in ids if id_ not in trees.criteria]
    each(partial(_criterion, TRIAL, offered[id_], trees) for id_ in missing)
    found = [trees.criteria[id_] for id_ in ids]
    for criterion in found:
        if criterion.part_of and criterion.part_of not in ids:
            raise KnowledgeError(f"app/protocols/{name}: {criterion.id} is part of {criterion.part_of}: list that too")
    return found


def _safety(name: str, table: Mapping[str, Json], trees: _Trees) -> list[SafetyRule]:
    rows = blocks(name, table, "finding")
    found = each(partial(_safety_rule, name, row, trees) for row in rows)
    unique(name, [rule.id for rule in found])
    return found


def _safety_rule(name: str, row: Mapping[str, Json], trees: _Trees) -> SafetyRule:
    severity = field(name, row, "severity")
    if severity not in {"absolute", "relative", "monitor"}:
        raise KnowledgeError(
            f"app/protocols/{name}: {row.get('id', 'a block')}: severity is absolute, relative or monitor"
        )
    where = f"app/protocols/{name}: {field(name, row, 'id')}"
    known_keys(where, row, _FINDING)
    for drug in field(name, row, "drugs"):
        known_word(where, f"drugs: {drug!r} is no study drug", drug, STUDY_DRUGS)
    tree = trees.node(name, row["id"], field(name, row, "test"))
    return SafetyRule(
        id=field(name, row, "id"),
        drugs=tuple(field(name, row, "drugs")),
        severity=severity,
        tree=tree,
        title=field(name, row, "title"),
        advice=field(name, row, "advice"),
        origin=origin(name, row),
        withholds=bool(row.get("withholds", severity != "monitor")),
        required=bool(row.get("required", False)),
    )


def _rows(name: str, table: Mapping[str, Json]) -> list[Row]:
    rows = blocks(name, table, "row")
    if not rows or field(name, rows[-1], "when"):
        raise KnowledgeError(f"app/protocols/{name}: the last row must have no conditions, so that one always matches")
    return each(partial(_row, name, row) for row in rows)


def _row(name: str, row: Mapping[str, Json]) -> Row:
    where = f"app/protocols/{name}: {field(name, row, 'id')}"
    known_keys(where, row, _ROW)
    for word in field(name, row, "when"):
        known_word(where, f"no condition {word!r} in app/clinical/table.py", word, CONDITIONS)
    if field(name, row, "card") not in _CARDS:
        raise KnowledgeError(f"{where}: `card` is one of {', '.join(sorted(_CARDS))}")
    return Row(
        id=row["id"],
        when=tuple(row["when"]),
        card=row["card"],
        suggestions=bool(field(name, row, "suggestions")),
        outcome=field(name, row, "outcome"),
        origin=origin(name, row),
    )
