"""What the card says beside the criteria: how this patient compares with the 11 of the letter (reading 5)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.clinical.chart import Chart
from app.clinical.readers import drugs
from fhir_mappings.facts import Measurement, MedicationUse


@dataclass(frozen=True, slots=True)
class Background:
    """Observations without a verdict; None or '' means nothing was found, which the card says in words."""

    blood_culture: Measurement | None
    culture_read: bool
    days_since_first_positive: int | None
    days_ventilated: int | None
    platelets: Measurement | None
    peep: Measurement | None
    position: str
    differences: tuple[str, ...]
    differences_read: bool
    standard: tuple[tuple[str, datetime | None], ...]
    standard_read: bool


DIFFERENCES = {
    "ckd": "renal",
    "dialysis-dependence": "renal",
    "chronic-liver": "liver",
    "cirrhosis": "liver",
    "cancer": "cancer",
    "immunodeficiency": "immunosuppression",
    "transplant": "immunosuppression",
}
"""Condition concepts that none of the 11 had (letter, Table 1), and the word of the texts file for each."""


STANDARD = ("dexamethasone", "tocilizumab", "baricitinib", "sarilumab")
"""Standard treatments of severe COVID-19 that the card asks to consider first."""


def look(chart: Chart, *, standard_hours: timedelta) -> Background:
    """Everything the card's short lines need."""
    tests = chart.values("sarscov2_pcr", since=chart.since("sarscov2_pcr"))
    first = min((m.when.earliest for m in tests if m.coded == "positive"), default=None)
    standard = drugs.recent(chart, STANDARD, standard_hours)
    steroids = drugs.recent(chart, chart.knowledge.groups["corticosteroid"].ingredients, standard_hours)
    names = chart.knowledge.groups["immunosuppressant"].ingredients
    suppressants = drugs.recent(chart, names, standard_hours)
    lost = chart.lost(("orders", None), ("administrations", chart.now - standard_hours))
    cultures = chart.values("blood_culture", since=chart.now - chart.hours("microbiology_hours"))
    return Background(
        blood_culture=next((c for c in cultures if c.coded == "positive"), next(iter(cultures), None)),
        culture_read=chart.uncovered(("microbiology",), chart.now - chart.hours("microbiology_hours")) is None,
        days_since_first_positive=None if first is None else _days(chart, first),
        days_ventilated=_ventilated_days(chart),
        platelets=next(iter(chart.values("platelets", since=chart.since("platelets"))), None),
        peep=next(iter(chart.values("peep", since=chart.since("crs"))), None),
        position=next((m.coded for m in chart.values("position", since=chart.since("crs"))), ""),
        differences=_differences(chart, steroid=bool(steroids), immunosuppressant=bool(suppressants)),
        differences_read=lost is None and chart.uncovered(("conditions",), None) is None,
        standard=tuple(_once(standard)),
        standard_read=lost is None,
    )


def _once(uses: list[tuple[MedicationUse, datetime | None]]) -> Iterable[tuple[str, datetime | None]]:
    seen: set[str] = set()
    for use, moment in uses:
        for name in use.ingredients:
            if name in STANDARD and name not in seen:
                seen.add(name)
                yield name, moment


def _differences(chart: Chart, *, steroid: bool, immunosuppressant: bool) -> tuple[str, ...]:
    found = {
        word
        for condition in chart.facts.conditions
        if condition.active
        for concept, word in DIFFERENCES.items()
        if concept in condition.concepts
    }
    if steroid:
        found.add("steroid")
    if immunosuppressant:
        found.add("immunosuppression")
    return tuple(sorted(found))


def _ventilated_days(chart: Chart) -> int | None:
    starts = [
        started
        for p in chart.facts.procedures
        if p.status == "in-progress" and not {"ventilation", "ventilation-invasive"}.isdisjoint(p.concepts)
        for started in [chart.latest_possible(p.start)]
        if started is not None
    ]
    return None if not starts else _days(chart, min(starts))


def _days(chart: Chart, moment: datetime) -> int:
    """Calendar days in the facility's zone."""
    return (chart.now.astimezone(chart.zone).date() - moment.astimezone(chart.zone).date()).days
