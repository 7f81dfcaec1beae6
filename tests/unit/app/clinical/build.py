"""Facts for the clinical tests, as short as the sentence that describes them.

Times are given as hours before `NOW`. `facts()` is an adult man nobody has measured anything of, with every source
read completely; `facts(measurement("crp", 150), unread("labs"))` adds a value and lets a source fail.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

from app import plan
from app.clinical.assessment import Assessment, assess
from app.clinical.chart import Chart
from app.clinical.knowledge import Knowledge, Leaf
from app.clinical.readers import read as read_leaf
from app.clinical.reading import Reading
from app.protocols import loader
from fhir_mappings import codebook
from fhir_mappings.derived import derive
from fhir_mappings.facts import (
    Allergy,
    Comparator,
    Condition,
    Facts,
    Gap,
    GasPair,
    Immunization,
    Measurement,
    MedicationUse,
    Overlay,
    Patient,
    Procedure,
    Source,
    When,
)

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
ZONE = "Europe/Berlin"
Number: TypeAlias = Decimal | str | int
Item: TypeAlias = (
    Measurement
    | GasPair
    | MedicationUse
    | Condition
    | Allergy
    | Immunization
    | Procedure
    | Patient
    | Gap
    | Source
    | Overlay
)

UNITS = {
    "pao2": "mm[Hg]",
    "pf": "mm[Hg]",
    "fio2": "1",
    "ecmo_fdo2": "1",
    "ecmo_flow": "L/min",
    "ecmo_sweep": "L/min",
    "crs": "mL/cm[H2O]",
    "pplat": "cm[H2O]",
    "peep": "cm[H2O]",
    "vt": "mL",
    "crp": "mg/L",
    "ferritin": "ug/L",
    "anc": "10*9/L",
    "platelets": "10*9/L",
    "alt": "U/L",
    "ast": "U/L",
    "factor_v": "%",
    "crcl": "mL/min",
    "creatinine": "umol/L",
    "egfr": "mL/min/{1.73_m2}",
    "weight": "kg",
    "ino": "[ppm]",
    "respiratory_rate": "/min",
    "sao2": "%",
    "spo2": "%",
}
KINDS = {"pao2": "arterial", "fio2": "ventilator", "pf": "charted", "crs": "static", "crcl": "measured"}


@cache
def knowledge() -> Knowledge:
    """The shipped knowledge, read once per session."""
    return loader.load().knowledge


@cache
def source_keys() -> tuple[tuple[str, str], ...]:
    """Key and resource type of every need of the gather plan."""
    needs = plan.plan(codebook.load("observations"), codebook.load("ingredients"))
    return tuple((need.key, need.resource_type) for need in needs)


def ago(hours: float = 0, *, minutes: float = 0, days: float = 0) -> datetime:
    """The instant that long before now; negative is after now."""
    return NOW - timedelta(hours=hours, minutes=minutes, days=days)


def when(hours: float = 0, *, minutes: float = 0, days: float = 0) -> When:
    """An exact instant that long before now."""
    moment = ago(hours, minutes=minutes, days=days)
    return When(moment, moment)


def on_day(day: date, *, until: date | None = None, zone: str = ZONE) -> When:
    """A FHIR date without time, or a month or year when `until` is its last day: both ends in the facility's zone."""
    place = ZoneInfo(zone)
    first = datetime(day.year, day.month, day.day, tzinfo=place)
    after = (until or day) + timedelta(days=1)
    return When(first, datetime(after.year, after.month, after.day, tzinfo=place) - timedelta(microseconds=1))


def measurement(
    concept: str,
    value: Number | None = None,
    *,
    hours: float = 1,
    at: When | None = None,
    coded: str = "",
    comparator: Comparator = "",
    kind: str | None = None,
    **more: Any,
) -> Measurement:
    """One usable value, `hours` old. The unit and the usual kind of its concept are filled in."""
    time = at or when(hours)
    number = None if value is None else Decimal(value)
    unit = UNITS.get(concept, "") if value is not None else ""
    return Measurement(
        **{
            "concept": concept,
            "reference": f"Observation/{concept}-{time.earliest:%d-%H-%M}",
            "when": time,
            "value": number,
            "unit": unit,
            "original": "" if value is None else f"{comparator}{value} {unit}",
            "coded": coded,
            "comparator": comparator,
            "kind": KINDS.get(concept, "") if kind is None else kind,
            **more,
        }
    )


def gas(value: Number, *, hours: float = 1, specimen: str = "arterial", **more: Any) -> Measurement:
    """An arterial oxygen tension; `specimen=""` when only the code says arterial."""
    return measurement("pao2", value, hours=hours, specimen=specimen, **more)


def pair(
    pao2: Number,
    fio2: Number | None = None,
    *,
    hours: float = 1,
    specimen: str = "arterial",
    gas_comparator: Comparator = "",
    **more: Any,
) -> GasPair:
    """A gas with the inspired fraction of its instant, or with none (`why` then defaults to `no-fio2`)."""
    drawn = gas(pao2, hours=hours, specimen=specimen, comparator=gas_comparator)
    if fio2 is None:
        return GasPair(drawn, **{"why": "no-fio2", **more})
    return GasPair(drawn, measurement("fio2", fio2, hours=hours), **more)


def procedure(
    *concepts: str,
    status: str = "in-progress",
    started: float | When | None = 1,
    ended: float | When | None = None,
    label: str = "",
) -> Procedure:
    """A procedure that started and ended so many hours ago (or at a When); running by default."""
    start, end = (when(t) if isinstance(t, int | float) else t for t in (started, ended))
    return Procedure(f"Procedure/{concepts[0]}-{status}-{started}", concepts, status, start, end, label)


def medication(
    *ingredients: str,
    kind: str = "administration",
    state: str = "given",
    hours: float | None = 1,
    ended: float | None = None,
    **more: Any,
) -> MedicationUse:
    """An administration of these ingredients, known by code; `kind` and `state` make it an order or a statement."""
    fields: dict[str, Any] = {
        "reference": f"Medication{kind.capitalize()}/{'-'.join(ingredients) or 'unknown'}-{state}-{hours}",
        "kind": kind,
        "state": state,
        "ingredients": ingredients,
        "identity": "code" if ingredients else "none",
        "label": " and ".join(ingredients),
        "start": None if hours is None else when(hours),
        "end": None if ended is None else when(ended),
        "systemic": True,
        **more,
    }
    return MedicationUse(**fields)


def order(*ingredients: str, hours: float | None = 1, inpatient: bool | None = True, **more: Any) -> MedicationUse:
    """An active order."""
    return medication(
        *ingredients, **{"kind": "request", "state": "ordered", "hours": hours, "inpatient": inpatient, **more}
    )


def statement(*ingredients: str, hours: float | None = 1, **more: Any) -> MedicationUse:
    """A medicine the patient takes."""
    return medication(*ingredients, **{"kind": "statement", "state": "taken", "hours": hours, **more})


def condition(*concepts: str, clinical: str = "active", **more: Any) -> Condition:
    """A problem-list entry, active unless said otherwise."""
    return Condition(f"Condition/{'-'.join(concepts) or 'other'}", concepts, clinical, **more)


def allergy(*substances: str, **more: Any) -> Allergy:
    """An active allergy."""
    return Allergy(
        f"AllergyIntolerance/{'-'.join(substances) or 'other'}", substances, **{"clinical": "active", **more}
    )


def vaccine(live: bool | None, *, hours: float | None = 1, **more: Any) -> Immunization:
    """A vaccine given so many hours ago."""
    given = None if hours is None else when(hours)
    return Immunization(f"Immunization/{live}-{hours}", live, **{"when": given, **more})


def patient(
    *, born: date | None = date(1965, 3, 10), until: date | None = None, sex: str = "male", **more: Any
) -> Patient:
    """A man of 61; `until` makes the birth date a month or a year."""
    return Patient(
        **{"reference": "Patient/p1", "born_earliest": born, "born_latest": until or born, "sex": sex, **more}
    )


def refusal(
    concept: str, *, hours: float | None = 0.5, why: str = "preliminary", source: str = "labs", **more: Any
) -> Gap:
    """A refused result of a concept; `hours=None` when it has no time. It displaces an older one by default."""
    time = None if hours is None else when(hours)
    return Gap(**{"source": source, "why": why, "concept": concept, "when": time, "displaces": True, **more})


def source(key: str, outcome: str = "ok", **more: Any) -> Source:
    """How the reading of one need ended."""
    fields: dict[str, Any] = {"key": key, "resource_type": dict(source_keys()).get(key, ""), "outcome": outcome, **more}
    return Source(**fields)


def unread(key: str, *, why: str = "timeout") -> Source:
    """A source that failed."""
    return source(key, "failed", why=why)


def partial(key: str, *, reaches: datetime = NOW) -> Source:
    """A cut-off answer; `reaches` when it came newest first."""
    return source(key, "partial", why="cut-off", reaches=reaches)


def facts(*items: Item, **more: Any) -> Facts:
    """Facts of these items. Every source is read completely unless an item says otherwise."""
    sources: dict[str, Source] = {key: source(key) for key, _ in source_keys()}
    found: dict[str, list[Any]] = {}
    single: dict[str, Any] = {"patient": patient()}
    for item in items:
        if isinstance(item, Source):
            sources[item.key] = item
        elif isinstance(item, Patient):
            single["patient"] = item
        elif isinstance(item, Overlay):
            single["overlay"] = item
        else:
            found.setdefault(_FIELDS[type(item)], []).append(item)
    for one in found.get("pairs", ()):
        used = (one.gas, one.fio2, one.also)
        present = found.setdefault("measurements", [])
        present.extend(m for m in used if m is not None and m not in present)
    lists: Mapping[str, Any] = {name: tuple(values) for name, values in found.items()}
    return Facts(**{"asked_at": NOW, "zone": ZONE, "sources": tuple(sources.values()), **lists, **single, **more})


def chart(*items: Item, now: datetime = NOW, with_derived: bool = False, **more: Any) -> Chart:
    """A chart of these facts; `with_derived` pairs gases and adds compliance, clearance and neutrophils."""
    made = facts(*items, **more)
    return Chart(derive(made) if with_derived else made, knowledge=knowledge(), now=now)


def leaf(name: str, op: str = "", value: Number | None = None, **params: object) -> Leaf:
    """A question to an input."""
    return Leaf(name, op=op, value=None if value is None else Decimal(value), params=params)


def read(name: str, *items: Item, now: datetime = NOW, params: Mapping[str, object] | None = None) -> Reading:
    """The reading of an input from a chart of these items."""
    return read_leaf(chart(*items, now=now), Leaf(name, params=params or {}))


def codes(reading: Reading) -> tuple[str, ...]:
    """The codes of a reading's notes; a `!` marks one that withholds the suggestion."""
    return tuple(note.reason.code + ("!" if note.withholds else "") for note in reading.notes)


def word(reading: Reading, name: str) -> str:
    """One word of a reading's reason."""
    return dict(reading.reason.params)[name]


def without_limit(name: str) -> Knowledge:
    """The knowledge with one input's window taken away."""
    shipped = knowledge()
    return replace(shipped, inputs={**shipped.inputs, name: replace(shipped.inputs[name], window=None)})


_FIELDS: Mapping[type, str] = {
    Measurement: "measurements",
    GasPair: "pairs",
    MedicationUse: "medications",
    Condition: "conditions",
    Allergy: "allergies",
    Immunization: "immunizations",
    Procedure: "procedures",
    Gap: "gaps",
}


def offering(*more: Item, without: tuple[str, ...] = ()) -> tuple[Item, ...]:
    """A patient to whom the pair is suggested: all thresholds met, PCR proven, intubated, safe, everything read.

    `without` leaves out the items of these names; `more` are added (a Patient, Source or Overlay replaces).
    """
    items: dict[str, Item] = {
        "pcr": measurement("sarscov2_pcr", coded="positive", hours=240),
        "gas": pair(64, "0.8"),
        "pplat": measurement("pplat", 28),
        "crp": measurement("crp", 214, hours=5),
        "ferritin": measurement("ferritin", 1840, hours=5),
        "anc": measurement("anc", "7.9", hours=5),
        "platelets": measurement("platelets", 212, hours=5),
        "alt": measurement("alt", 48, hours=5, uln=Decimal(45), uln_origin="laboratory"),
        "ast": measurement("ast", 57, hours=5, uln=Decimal(40), uln_origin="laboratory"),
        "crcl": measurement("crcl", 95, hours=5),
        "allergies": allergy("no-known-allergy"),
        "propofol": medication("propofol", infusion=True, running=True),
        "prone": procedure("prone", status="completed", started=30, ended=14),
        "nmba": medication("cisatracurium", infusion=True, hours=20, ended=2),
        "ino": measurement("ino", 20, hours=2),
    }
    return (*(item for name, item in items.items() if name not in without), *more)


def assessed(*items: Item, suggest_on: str = "pilot-simple", **more: Any) -> Assessment:
    """The assessment of these items at `NOW`."""
    return assess(facts(*items, **more), knowledge=knowledge(), now=NOW, suggest_on=suggest_on)
