"""Reads `pilot_followup/followup.toml` and refuses what does not fit together: see `app.protocols.loader`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any as Json

from app.clinical.course import STUDY_DRUGS
from app.clinical.followup import RULES
from app.clinical.knowledge import Action, DayWindow, FollowUp, Input, Mean, Node, Quantity, Schedule, Step
from app.protocols.fields import (
    ORIGIN,
    KnowledgeError,
    blocks,
    field,
    hours,
    known_keys,
    known_word,
    limits,
    named,
    number,
    origin,
    unique,
)
from fhir_mappings import codebook, units

FILE = "pilot_followup/followup.toml"
_PLACE = f"app/protocols/{FILE}"
_SEVERITIES = ("critical", "warning", "info")
_ENDS = ("extubation",)
_DERIVED = {"nlr": "1"}
"""Concepts that no code names: worked out from others, with their unit."""

_SOURCES = ("course", "labs", "respiratory")
_TABLES = (
    "id",
    "version",
    "title",
    "status",
    "reviewed_by",
    "source",
    "schedule",
    "limit",
    "window",
    "action",
    "quantity",
)
_STEP = ("from_day", "to_day", "dose_mg", "per_day", "reconstructed")
_WINDOW = ("day", "from_day", "to_day", *ORIGIN)
_ACTION = (
    *("id", "severity", "title", "advice", "drugs", "test", "rule", "from_day", "to_day", "lab_window"),
    *("unless_stopped", "unless", "monitor_severity", *ORIGIN),
)
_QUANTITY = ("name", "concept", "title", "unit", "input", "window_hours", "needs", "ends", "inclusion", *ORIGIN)
_CENT = Decimal("0.01")
_LIMITS = ("baseline_hours", "still_given_hours")

Tree = Callable[[str, str, Mapping[str, Json]], Node]


@dataclass(frozen=True, slots=True)
class Known:
    """What the file may refer to: the reader of logic trees, the inputs, and the ids of safety findings."""

    tree: Tree
    inputs: Mapping[str, Input]
    findings: Collection[str]


def build(table: Mapping[str, Json], *, known: Known) -> FollowUp:
    """The follow-up of the file. Raises KnowledgeError."""
    known_keys(_PLACE, table, _TABLES)
    windows = tuple(_window(row) for row in blocks(FILE, table, "window"))
    quantities = tuple(_quantity(row, windows=windows, known=known) for row in blocks(FILE, table, "quantity"))
    unique(FILE, [quantity.name for quantity in quantities])
    rows = blocks(FILE, table, "action")
    ids = [field(FILE, row, "id") for row in rows]
    unique(FILE, ids)
    names = [quantity.name for quantity in quantities]
    found = limits(FILE, table)
    for name in _LIMITS:
        if name not in found:
            raise KnowledgeError(f"{_PLACE}: no block [limit.{name}]: app/clinical reads it")
    status = field(FILE, table, "status")
    known_word(f"{_PLACE}: status", f"{status!r} is no status", status, ("draft", "reviewed"))
    return FollowUp(
        id=field(FILE, table, "id"),
        version=field(FILE, table, "version"),
        title=field(FILE, table, "title"),
        status=status,
        reviewed_by=tuple(field(FILE, table, "reviewed_by")),
        source=field(FILE, table, "source"),
        schedules={drug: _schedule(drug, row) for drug, row in _schedules(table).items()},
        windows=windows,
        actions=tuple(_action(row, ids=ids, quantities=names, known=known) for row in rows),
        quantities=quantities,
        limits=found,
    )


def _schedules(table: Mapping[str, Json]) -> dict[str, Json]:
    found = named(FILE, table, "schedule")
    if set(found) != set(STUDY_DRUGS):
        raise KnowledgeError(f"{_PLACE}: [schedule]: one block for each of {', '.join(STUDY_DRUGS)}, and no other")
    return found


def _schedule(drug: str, row: Mapping[str, Json]) -> Schedule:
    block = f"[schedule.{drug}]"
    known_keys(f"{_PLACE}: {block}", row, ("steps", *ORIGIN))
    steps = []
    following = 1
    for step in field(FILE, row, "steps", block=block):
        where = f"{_PLACE}: {block} steps"
        known_keys(where, step, _STEP)
        first, last = (_day(f"{where} {key}", field(FILE, step, key, block=block)) for key in ("from_day", "to_day"))
        if first != following or last < first:
            raise KnowledgeError(
                f"{where}: days must follow each other from day 1, without a gap: day {following} is next"
            )
        following = last + 1
        dose = number(f"{where} dose_mg", field(FILE, step, "dose_mg", block=block))
        times = _day(f"{where} per_day", field(FILE, step, "per_day", block=block))
        if dose <= 0:
            raise KnowledgeError(f"{where} dose_mg: a planned dose is above zero: leave the days out for none")
        steps.append(Step(first, last, dose, times, bool(step.get("reconstructed", False))))
    if not steps:
        raise KnowledgeError(f"{_PLACE}: {block} steps: write at least one")
    return Schedule(drug, tuple(steps), origin(FILE, row, block=block))


def _day(where: str, value: Json) -> int:
    """A whole number from 1 on."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise KnowledgeError(f"{where}: a whole number from 1 on")
    return value


def _window(row: Mapping[str, Json]) -> DayWindow:
    where = f"{_PLACE}: [[window]]"
    known_keys(where, row, _WINDOW)
    day, first, last = (
        _day(f"{where} {key}", field(FILE, row, key, block="[[window]]")) for key in ("day", "from_day", "to_day")
    )
    if not first <= day <= last:
        raise KnowledgeError(f"{where}: day {day} must lie in its own window")
    return DayWindow(day, first, last, origin(FILE, row, block=f"[[window]] of day {day}"))


def _action(row: Mapping[str, Json], *, ids: Collection[str], quantities: Collection[str], known: Known) -> Action:
    id_ = field(FILE, row, "id")
    where = f"{_PLACE}: {id_}"
    rule = row.get("rule", "")
    if ("test" in row) == bool(rule):
        raise KnowledgeError(f"{where}: give either a `test` over inputs or a `rule` of app/clinical/followup.py")
    if rule:
        known_word(where, f"no rule {rule!r} in app/clinical/followup.py", rule, RULES)
    needed = RULES[rule] if rule else ()
    known_keys(where, row, (*_ACTION, *needed))
    severities = {key: row[key] for key in ("severity", "monitor_severity") if key in row}
    for key, severity in severities.items():
        known_word(where, f"{key} {severity!r} is none of {', '.join(_SEVERITIES)}", severity, _SEVERITIES)
    if row.get("unless_stopped"):
        _drug(where, row["unless_stopped"])
    for other in row.get("unless", ()):
        known_word(where, f"`unless` {other!r} is no action here", other, ids)
    drugs = tuple(field(FILE, row, "drugs"))
    for drug in drugs:
        _drug(where, drug)
    first, last = (_day(f"{where} {key}", row[key]) if key in row else None for key in ("from_day", "to_day"))
    if first is not None and last is not None and last < first:
        raise KnowledgeError(f"{where}: to_day lies before from_day")
    return Action(
        id=id_,
        severity=field(FILE, row, "severity"),
        title=field(FILE, row, "title"),
        advice=field(FILE, row, "advice"),
        drugs=drugs,
        origin=origin(FILE, row),
        tree=None if rule else known.tree(FILE, id_, row["test"]),
        rule=rule,
        params={key: _param(where, key, field(FILE, row, key), quantities, known) for key in needed},
        from_day=first,
        to_day=last,
        lab_window=bool(row.get("lab_window", False)),
        unless_stopped=row.get("unless_stopped", ""),
        unless=tuple(row.get("unless", ())),
        monitor_severity=row.get("monitor_severity", ""),
    )


def _drug(where: str, name: Json) -> None:
    known_word(where, f"{name!r} is no study drug", name, STUDY_DRUGS)


def _param(where: str, key: str, value: Json, quantities: Collection[str], known: Known) -> str:
    """The key of a rule, as text; several names with spaces between."""
    if key == "drug":
        _drug(where, value)
    elif key == "quantity":
        known_word(where, f"`quantity` {value!r} has no [[quantity]] block", value, quantities)
    else:
        for id_ in value:
            known_word(where, f"{id_!r} is no finding of shared/safety.toml", id_, known.findings)
        return " ".join(value)
    return str(value)


def _quantity(row: Mapping[str, Json], *, windows: Collection[DayWindow], known: Known) -> Quantity:
    name = field(FILE, row, "name", block="[[quantity]]")
    block = f"[[quantity]] {name}"
    where = f"{_PLACE}: {block}"
    columns = {window.day: f"day{window.day}" for window in windows}
    known_keys(where, row, (*_QUANTITY, *columns.values()))
    concept = field(FILE, row, "concept", block=block)
    unit = field(FILE, row, "unit", block=block)
    if unit != _unit(where, concept):
        raise KnowledgeError(f"{where}: unit must be {_unit(where, concept)!r}, the canonical one of {concept}")
    for need in field(FILE, row, "needs", block=block):
        known_word(where, f"`needs` {need!r} holds no such value", need, _SOURCES)
    if "ends" in row:
        known_word(where, f"`ends` {row['ends']!r} is unknown", row["ends"], _ENDS)
    inclusion = _mean(f"{where} inclusion", field(FILE, row, "inclusion", block=block), over=None)
    return Quantity(
        name=name,
        concept=concept,
        title=field(FILE, row, "title", block=block),
        unit=unit,
        window=_age(where, row, known=known),
        needs=tuple(row["needs"]),
        ends=row.get("ends", ""),
        inclusion=inclusion,
        days={
            day: _mean(f"{where} {column}", field(FILE, row, column, block=block), over=inclusion.mean)
            for day, column in columns.items()
        },
        origin=origin(FILE, row, block=block),
    )


def _unit(where: str, concept: str) -> str:
    """The canonical unit of a concept."""
    if concept in _DERIVED:
        return _DERIVED[concept]
    tables = {name: table for name, table in codebook.load("observations").tables.items() if "quantity" in table}
    known_word(where, f"concept {concept!r} is no number in fhir_mappings/concepts/observations.toml", concept, tables)
    return units.quantities()[tables[concept]["quantity"]].unit


def _age(where: str, row: Mapping[str, Json], *, known: Known) -> timedelta:
    """How old a current value may be: the window of its input, or its own."""
    if ("input" in row) == ("window_hours" in row):
        raise KnowledgeError(f"{where}: give either the `input` whose window counts, or `window_hours`")
    if "input" not in row:
        return hours(f"{where} window_hours", row["window_hours"])
    known_word(where, f"input {row['input']!r} has no block in shared/inputs.toml", row["input"], known.inputs)
    window = known.inputs[row["input"]].window
    if window is None:
        raise KnowledgeError(f"{where}: input {row['input']!r} has no window: write `window_hours`")
    return window


def _mean(where: str, row: Json, *, over: Decimal | None) -> Mean:
    if not isinstance(row, dict):
        raise KnowledgeError(f"{where}: write it as {{ mean = ..., sd = ... }}")
    known_keys(where, row, ("mean", "sd"))
    mean, sd = (number(f"{where} {key}", field(FILE, row, key, block=where)) for key in ("mean", "sd"))
    if mean <= 0 or sd < 0:
        raise KnowledgeError(f"{where}: a mean of this table is above zero, a standard deviation not below")
    ratio = Decimal(1) if over is None else (mean / over).quantize(_CENT, rounding=ROUND_HALF_EVEN)
    return Mean(mean, sd, ratio)
