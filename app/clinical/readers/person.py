"""Age and sex."""

from __future__ import annotations

from fractions import Fraction

from app.clinical.chart import Chart
from app.clinical.intervals import Interval
from app.clinical.knowledge import Leaf
from app.clinical.reading import Evidence, Reading, Reason


def age(chart: Chart, leaf: Leaf) -> Reading:  # noqa: ARG001
    """Completed years by birth date on the facility's calendar (reading A1); a partial birth date is an interval."""
    patient = chart.facts.patient
    if patient is None or patient.born_earliest is None or patient.born_latest is None:
        return Reading(Reason.of("no-birth-date"), missing=("age",), failed=_failed(chart))
    youngest, oldest = chart.years(patient.born_latest), chart.years(patient.born_earliest)
    text = str(youngest) if youngest == oldest else f"{youngest} to {oldest}"
    return Reading(
        Reason.of("state", state=f"{text} years"),
        interval=Interval(Fraction(youngest), Fraction(oldest)),
        evidence=(Evidence(concept="age", reference=patient.reference, value=text, unit="a"),),
        shown=f"{text} years",
    )


def sex(chart: Chart, leaf: Leaf) -> Reading:  # noqa: ARG001
    """Administrative sex as recorded; other and unknown stay unknown."""
    patient = chart.facts.patient
    if patient is None or not patient.sex:
        return Reading(Reason.of("no-sex"), missing=("sex",), failed=_failed(chart))
    evidence = (Evidence(concept="sex", reference=patient.reference, original=patient.sex),)
    return Reading(Reason.of("state", state=patient.sex), state=patient.sex, evidence=evidence, shown=patient.sex)


def _failed(chart: Chart) -> bool:
    return chart.facts.source("patient").outcome == "failed"
