"""The letter's Table 2 beside the patient's own values (clinical 1.1.6).

Means of 11 uncontrolled patients are shown with their standard deviations, never as a goal: the letter has no response
or futility rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal

from app.clinical.chart import Chart, hours_text
from app.clinical.course import Course, unvouched, vouches
from app.clinical.findings import Finding
from app.clinical.intervals import Interval
from app.clinical.knowledge import Mean, Quantity
from app.clinical.readers import labs
from app.clinical.reading import Reason
from fhir_mappings.facts import Gap, Measurement

_CENT = Decimal("0.01")
_BOUNDS = frozenset({"lower-bound", "upper-bound"})
_VENTILATION = frozenset({"ventilation", "ventilation-invasive"})


@dataclass(frozen=True, slots=True)
class Trend:
    """One quantity: the patient's baseline and newest value, and the letter's mean of this day where there is one.

    `lost` says why there is no value: `absent` (nothing in the window), `before` (nothing since the first dose, which
    is the baseline's), `failed`, `refused`, `not-applicable`.
    `reasons` say in words what is missing or only a bound.
    """

    quantity: Quantity
    baseline: Measurement | None
    value: Measurement | None
    ratio: Decimal | None
    pilot: tuple[int, Mean] | None
    lost: str
    reasons: tuple[Reason, ...]


def trend_of(chart: Chart, quantity: Quantity, running: Course) -> Trend:
    """The row of one quantity on this day."""
    reach = chart.now - quantity.window
    value, lost, why = _last(chart, quantity, since=reach, until=None, baseline=False)
    if value is not None and value.when.earliest <= running.earliest:
        value, lost, why = None, "before", Reason.of("no-value-since", title=quantity.title)
    if quantity.ends == "extubation" and (ended := _extubated(chart, running)) is not None:
        value, lost, why = None, "not-applicable", _after(chart, quantity, ended)
    hours = chart.knowledge.follow_up.limits["baseline_hours"].value
    before = running.earliest - timedelta(hours=float(hours))
    baseline, _, why_baseline = _last(chart, quantity, since=before, until=running.earliest, baseline=True)
    day = None if running.day is None else chart.knowledge.follow_up.window_of(running.day)
    return Trend(
        quantity=quantity,
        baseline=baseline,
        value=value,
        ratio=_ratio(value, baseline),
        pilot=None if day is None else (day.day, quantity.days[day.day]),
        lost=lost,
        reasons=tuple(reason for reason in (why, why_baseline) if reason is not None),
    )


def _last(
    chart: Chart, quantity: Quantity, *, since: datetime, until: datetime | None, baseline: bool
) -> tuple[Measurement | None, str, Reason | None]:
    """The last usable value of these hours (`until` None: all that the mapping accepts), else why there is none: how it
    was lost, and the words."""
    if not vouches(chart, quantity.needs, since):
        return None, "failed", unvouched(chart, quantity.needs)
    title = quantity.title
    last = chart.now if until is None else until
    values = [m for m in chart.values(quantity.concept, since=since) if until is None or m.when.earliest <= until]
    usable = next((m for m in values if m.kind not in _BOUNDS), None)
    refused = [g for g in chart.refused((quantity.concept,), since=since) if chart.gap_time(g) <= last]
    newer = _newer(chart, refused, usable)
    if newer is not None and (usable is None or newer.why == "conflict"):
        return None, "refused", Reason.refused("refused-value", newer, title=title)
    if usable is None:
        code = "no-baseline" if baseline else "no-value-now"
        return None, "absent", Reason.of(code, title=title, limit=hours_text(last - since))
    if newer is not None:
        return usable, "", Reason.refused("newer-refused", newer, input=title)
    if usable.comparator:
        return usable, "", Reason.of("only-a-bound", title=title, value=labs.shown(usable))
    return usable, "", None


def _newer(chart: Chart, refused: Sequence[Gap], used: Measurement | None) -> Gap | None:
    """The newest refused result that is not older than the value in use."""
    return next((g for g in refused if used is None or chart.gap_time(g) >= used.when.earliest), None)


def _ratio(value: Measurement | None, baseline: Measurement | None) -> Decimal | None:
    """The value as a multiple of the baseline, to two decimals; none of a bound, or of nothing."""
    if value is None or baseline is None or value.comparator or baseline.comparator:
        return None
    if value.value is None or not baseline.value:
        return None
    return (value.value / baseline.value).quantize(_CENT, rounding=ROUND_HALF_EVEN)


def _extubated(chart: Chart, running: Course) -> datetime | None:
    """When invasive ventilation ended in this course, with no sign of it since; else None."""
    records = [p for p in chart.facts.procedures if not _VENTILATION.isdisjoint(p.concepts) and p.status != "not-done"]
    ends = [p.end.latest for p in records if p.end is not None and running.earliest <= p.end.latest <= chart.now]
    if not ends:
        return None
    ended = max(ends)
    again = any(p.end is None or (p.start is not None and p.start.latest > ended) for p in records)
    signs = [m for name in ("pplat", "crs") for m in chart.values(name) if m.when.earliest > ended]
    return None if again or any(m.kind not in _BOUNDS for m in signs) else ended


def _after(chart: Chart, quantity: Quantity, ended: datetime) -> Reason:
    return Reason.of("extubated", title=quantity.title, age=hours_text(chart.age(ended)))


def at_least(value: Measurement, baseline: Measurement) -> Finding:
    """Whether the value is the baseline or more: every number that a bound allows counts."""
    now, then = (Interval.of(m.value or 0, m.comparator) for m in (value, baseline))
    if now.low is not None and then.high is not None and now.low >= then.high:
        return Finding.MET
    if now.high is not None and then.low is not None:
        apart = now.high < then.low or (now.high == then.low and (now.open_high or then.open_low))
        return Finding.NOT_MET if apart else Finding.UNKNOWN
    return Finding.UNKNOWN
