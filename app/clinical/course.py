"""A running course of the study drugs: when it began, the treatment day, what is ordered and what was given.

Day 1 is the calendar day of the first dose of either drug in the facility's zone (reading A13); no dose that is missed,
late or extra moves it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from app.clinical.chart import Chart
from app.clinical.findings import Finding, all_of
from app.clinical.intervals import Interval
from app.clinical.readers import drugs
from app.clinical.reading import Reason
from fhir_mappings.facts import MedicationUse

STUDY_DRUGS = ("anakinra", "ruxolitinib")
ADMINISTRATIONS = ("long-acting", "administrations")
"""Sources of administrations of the study drugs, by code and all; one of them that was read is enough."""


@dataclass(frozen=True, slots=True)
class Course:
    """A running course of either drug (reading 5, second row).

    `since`: the first dose; of a partial date the latest instant it allows, `earliest` the earliest. The treatment day
    lies from `low` to `high`; `high` is None while an earlier dose may be missing from what could be read. `apart` are
    study drugs that were ordered, taken or given before the first positive test: no part of this course, so nothing is
    planned or ended of them.
    """

    since: datetime
    earliest: datetime
    low: int
    high: int | None
    apart: frozenset[str] = frozenset()

    @property
    def day(self) -> int | None:
        """The treatment day, None when it is not certain."""
        return self.low if self.low == self.high else None

    def lies(self, first: int | None, last: int | None) -> Finding:
        """Whether today lies on these treatment days, both included; None is open."""
        days = Interval(Fraction(self.low), None if self.high is None else Fraction(self.high))
        after = Finding.MET if first is None else days.compared(">=", Decimal(first))
        before = Finding.MET if last is None else days.compared("<=", Decimal(last))
        return all_of((after, before))


@dataclass(frozen=True, slots=True)
class Recorded:
    """What was given of one drug in the course; `mg` is None when it cannot be known, and `reason` says why."""

    drug: str
    mg: Decimal | None
    reason: Reason | None = None


def course(chart: Chart) -> Course | None:
    """The running course of either drug (reading 5, second row), else None."""
    tests = [m.when.earliest for m in chart.values("sarscov2_pcr") if m.coded == "positive"]
    if not tests:
        return None
    first_test = min(tests)
    longest = timedelta(days=int(chart.limit("course_days")))
    started = {}
    for drug in STUDY_DRUGS:
        first = drugs.first_dose(chart, drug)
        recent = first is not None and chart.age(first) <= longest
        if first is not None and recent and first > first_test and not drugs.on_record_before(chart, drug, first_test):
            started[drug] = first
    if not started:
        return None
    since = min(started.values())
    doses = [use for use in chart.facts.medications if use.state == "given" and is_any(use, started)]
    earliest = min(when.earliest for use in doses for when in [use.start or use.end] if when is not None)
    whole = vouches(chart, ADMINISTRATIONS, chart.now - longest)
    apart = frozenset(drug for drug in STUDY_DRUGS if drugs.on_record_before(chart, drug, first_test))
    return Course(since, earliest, _day(chart, since), _day(chart, earliest) if whole else None, apart)


def scope(chart: Chart) -> str:
    """Without a course: unknown when a failed or partial source could hide one."""
    since = chart.now - timedelta(days=int(chart.limit("course_days")))
    complete = vouches(chart, ADMINISTRATIONS, since) and chart.incomplete(("virology",), since) is None
    return "out" if complete else "unknown"


def _day(chart: Chart, moment: datetime) -> int:
    """The treatment day of today if that was the moment of the first dose: calendar days of the facility."""
    return (chart.now.astimezone(chart.zone).date() - moment.astimezone(chart.zone).date()).days + 1


def vouches(chart: Chart, needs: Sequence[str], since: datetime) -> bool:
    """Whether one of these sources was read back to that moment."""
    return any(chart.facts.source(key).covers(since) for key in needs)


def unvouched(chart: Chart, needs: Sequence[str]) -> Reason:
    """Why not, in the words of the first source that was asked and not read to its end."""
    sources = [chart.facts.source(key) for key in needs]
    trouble = [s for s in sources if s.outcome in {"failed", "partial"} and s.why != "not-asked"]
    lost = next(iter(trouble), sources[0])
    return Reason.of("source-failed", **{**dict(lost.params), "source": lost.key, "why": lost.why or lost.outcome})


def is_any(use: MedicationUse, names: Iterable[str]) -> bool:
    """Whether it is one of these drugs, by code."""
    return any(name in use.ingredients for name in names)


def recorded(chart: Chart, drug: str, running: Course) -> Recorded:
    """The sum of the administrations since the first dose; one that cannot be read makes it unknown."""
    given = [use for use in chart.facts.medications if use.state == "given" and in_course(chart, use, running)]
    if any(drug in use.possibly for use in given):
        return Recorded(drug, None, Reason.of("text-only-drug", drug=drug, title=""))
    unnamed = [use for use in given if use.identity == "none"]
    if unnamed:
        return Recorded(drug, None, Reason.of("medication-unidentified", count=len(unnamed)))
    doses = [use for use in given if drug in use.ingredients]
    most = chart.knowledge.follow_up.limits["dose_mg_most"].value
    unread = [
        use
        for use in doses
        if use.dose_mg is None
        or not 0 <= use.dose_mg <= most
        or use.ingredients != (drug,)
        or not (use.start or use.end)
    ]
    if unread:
        return Recorded(drug, None, Reason.of("doses-unreadable", drug=drug, count=len(unread)))
    if not vouches(chart, ADMINISTRATIONS, running.earliest) or running.high is None:
        return Recorded(drug, None, unvouched(chart, ADMINISTRATIONS))
    broken = next((g for g in chart.facts.gaps if g.concept == "medication" and g.displaces), None)
    if broken is not None:
        return Recorded(drug, None, Reason.refused("medication-refused", broken))
    return Recorded(drug, sum((use.dose_mg for use in doses if use.dose_mg is not None), Decimal(0)))


def in_course(chart: Chart, use: MedicationUse, running: Course) -> bool:
    """Whether it is not older than the first dose; what has no date may be of any day."""
    moment = chart.latest_possible(use.start or use.end)
    return moment is None or moment >= running.earliest


def acting_orders(chart: Chart, drug: str) -> list[MedicationUse]:
    """Active orders whose own end does not lie in the past, home medicines left out."""
    return [
        use
        for use in chart.facts.medications
        if use.state == "ordered"
        and drug in use.ingredients
        and use.inpatient is not False
        and (use.end is None or use.end.latest > chart.now)
    ]


def lately(chart: Chart, drug: str) -> list[tuple[MedicationUse, datetime]]:
    """Doses within the hours that say that the drug is being given, with the instant each last acted."""
    hours = timedelta(hours=float(chart.knowledge.follow_up.limits["still_given_hours"].value))
    given = [use for use in chart.facts.medications if use.state == "given" and drug in use.ingredients]
    ends = [(use, end) for use in given if (end := chart.exposure_end(use)) is not None]
    return [(use, end) for use, end in ends if chart.age(end) <= hours]


def over(chart: Chart, drug: str, running: Course) -> bool:
    """Whether the record says that the drug is not being given: it was stopped, or is nowhere on record."""
    return not _may_go_on(chart, drug) and (_ended(chart, drug, running) or _never(chart, drug, running))


def _may_go_on(chart: Chart, drug: str) -> bool:
    """Anything that may be it, by code, by words or without a name: an order, a medicine that is taken, or a dose
    lately; or a list of these that was not read."""
    since = chart.now - timedelta(hours=float(chart.knowledge.follow_up.limits["still_given_hours"].value))
    if chart.lost(("orders", None)) is not None or not vouches(chart, ADMINISTRATIONS, since):
        return True
    statements = chart.lost(("statements", None))
    if statements is not None and statements.failed:
        return True
    return any(
        _acts(chart, use, since)
        for use in chart.facts.medications
        if drug in use.ingredients or drug in use.possibly or use.identity == "none"
    )


def _acts(chart: Chart, use: MedicationUse, since: datetime) -> bool:
    if use.state in {"ordered", "taken"}:
        return use.end is None or use.end.latest > chart.now
    end = chart.exposure_end(use) if use.state == "given" else None
    return use.state == "given" and (end is None or end >= since)


def _ended(chart: Chart, drug: str, running: Course) -> bool:
    """An order of it ended in this course. A missing order is no stop."""
    return any(
        drug in use.ingredients
        and use.kind == "request"
        and use.inpatient is not False
        and (use.start is None or use.start.latest >= running.earliest - timedelta(days=1))
        for use in chart.facts.medications
        if use.state == "past" or (use.state == "ordered" and use.end is not None and use.end.latest <= chart.now)
    )


def _never(chart: Chart, drug: str, running: Course) -> bool:
    """No dose, order or statement of it in this course, of any state, and the course was read from its first dose."""
    named = [u for u in chart.facts.medications if drug in u.ingredients or drug in u.possibly or u.identity == "none"]
    in_it = [use for use in named if use.state != "not-done" and in_course(chart, use, running)]
    return not in_it and running.high is not None and vouches(chart, ADMINISTRATIONS, running.earliest)


def dose_day(chart: Chart, moment: datetime, running: Course) -> int:
    """The treatment day of a dose, at least: counted from the latest instant that the first one may have been."""
    return (moment.astimezone(chart.zone).date() - running.since.astimezone(chart.zone).date()).days + 1
