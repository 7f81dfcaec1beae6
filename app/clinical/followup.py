"""What to look at while a course runs: the actions that are present or could not be determined (clinical 1.1.8).

Nothing here judges whether the treatment works. Every number and word stands in
`app/protocols/pilot_followup/followup.toml`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from types import MappingProxyType

from app.clinical.chart import Chart, hours_text
from app.clinical.course import (
    ADMINISTRATIONS,
    STUDY_DRUGS,
    Course,
    Recorded,
    acting_orders,
    dose_day,
    in_course,
    is_any,
    lately,
    over,
    recorded,
    scope,
    unvouched,
    vouches,
)
from app.clinical.criteria import Answer, Outcome, evaluate, without_doubt
from app.clinical.findings import Finding, all_of, any_of
from app.clinical.knowledge import Action, FollowUp, Leaf, Step
from app.clinical.readers import labs, read
from app.clinical.reading import Evidence, Reading, Reason
from app.clinical.results import SafetyResult
from app.clinical.trends import Trend, at_least, trend_of
from fhir_mappings.facts import MedicationUse

_SEVERITIES = ("critical", "warning", "info")
_EVIDENCE_SHOWN = 5
_NOT_STARTED = "not-started"


@dataclass(frozen=True, slots=True)
class ActionResult:
    """An action that is present or could not be determined; what does not apply is not listed."""

    action: Action
    severity: str
    outcome: Outcome

    @property
    def finding(self) -> Finding:
        """Met is present."""
        return self.outcome.finding

    @property
    def stops(self) -> bool:
        """A stop or hold that is present: it stands above everything."""
        return self.severity == "critical" and self.finding is Finding.MET


@dataclass(frozen=True, slots=True)
class FollowUpResult:
    """Everything that is said of a course. `scope`: `in` while one runs, `unknown` when that could not be read."""

    follow_up: FollowUp
    scope: str
    course: Course | None
    planned: tuple[tuple[str, Step | None], ...]
    recorded: tuple[Recorded, ...]
    actions: tuple[ActionResult, ...]
    trends: tuple[Trend, ...]

    @property
    def day(self) -> int | None:
        """The treatment day; None without a course, or when it is not certain."""
        return None if self.course is None else self.course.day

    def present(self, id: str) -> ActionResult | None:  # noqa: A002  (the public word)
        """The action of that id when it is present."""
        return next((a for a in self.actions if a.action.id == id and a.finding is Finding.MET), None)


def follow_up(
    chart: Chart, *, running: Course | None, known: Mapping[str, Outcome], safety: Sequence[SafetyResult]
) -> FollowUpResult:
    """What there is to say of this course; without one only whether a drug is ordered and was not begun."""
    rules = chart.knowledge.follow_up
    if running is None:
        ordered = [
            a for action in rules.actions if action.rule == _NOT_STARTED for a in _listed(action, _not_begun(chart))
        ]
        return FollowUpResult(rules, scope(chart), None, (), (), tuple(ordered), ())
    trends = tuple(trend_of(chart, quantity, running) for quantity in rules.quantities)
    case = _Case(chart, running, {t.quantity.name: t for t in trends}, safety)
    found = [result for action in rules.actions for result in _acted(action, case, known)]
    present = {a.action.id for a in found if a.finding is Finding.MET}
    found = [a for a in found if present.isdisjoint(a.action.unless)]
    day = running.day
    own = {drug: plan for drug, plan in rules.schedules.items() if drug not in running.apart}
    return FollowUpResult(
        follow_up=rules,
        scope="in",
        course=running,
        planned=() if day is None else tuple((drug, plan.on(day)) for drug, plan in own.items()),
        recorded=tuple(recorded(chart, drug, running) for drug in STUDY_DRUGS if drug in own),
        actions=tuple(sorted(found, key=lambda a: (_SEVERITIES.index(a.severity), a.finding is not Finding.MET))),
        trends=trends,
    )


@dataclass(frozen=True, slots=True)
class _Case:
    """What the rules look at."""

    chart: Chart
    running: Course
    trends: Mapping[str, Trend]
    safety: Sequence[SafetyResult]


def _acted(action: Action, case: _Case, known: Mapping[str, Outcome]) -> Iterator[ActionResult]:
    """The action when it is present or could not be determined."""
    if action.unless_stopped and over(case.chart, action.unless_stopped, case.running):
        return
    if action.params.get("drug") in case.running.apart:
        return
    today = _today(action, case)
    if today is Finding.NOT_MET:
        return
    if action.tree is not None:
        outcome = without_doubt(evaluate(action.tree, chart=case.chart, known=known), chart=case.chart)
    else:
        outcome = _RULES[action.rule](action, case)
    if today is Finding.UNKNOWN and outcome.finding is Finding.MET:
        reason = Reason.of("day-unknown", day=case.running.low)
        outcome = replace(_says(Finding.UNKNOWN, reason), evidence=outcome.evidence)
    yield from _listed(action, outcome)


def _listed(action: Action, outcome: Outcome) -> Iterator[ActionResult]:
    if outcome.finding is not Finding.NOT_MET:
        severity = action.monitor_severity if outcome.because[0].shown == "monitor" else action.severity
        yield ActionResult(action, severity, outcome)


def _today(action: Action, case: _Case) -> Finding:
    running = case.running
    on_day = running.lies(action.from_day, action.to_day)
    if not action.lab_window:
        return on_day
    windows = case.chart.knowledge.follow_up.windows
    return all_of((on_day, any_of(running.lies(w.from_day, w.to_day) for w in windows)))


def _says(
    finding: Finding, reason: Reason, *, shown: str = "", evidence: Sequence[Evidence] = (), failed: bool = False
) -> Outcome:
    answer = Answer("", finding, reason, shown)
    return Outcome(finding, because=(answer,), asked=(answer,), failed=failed, evidence=tuple(evidence))


_NOTHING = _says(Finding.NOT_MET, Reason.of("none-on-record"))


def _unless_lost(lost: Reading | None) -> Outcome:
    """Nothing found: absent when everything was read, else unknown."""
    return _NOTHING if lost is None else _says(Finding.UNKNOWN, lost.reason, failed=lost.failed)


def _given_evidence(chart: Chart, uses: Sequence[MedicationUse]) -> tuple[Evidence, ...]:
    """The newest few; the reason says how many there are."""
    dated = [(use, chart.latest_possible(use.start or use.end)) for use in uses]
    dated.sort(key=lambda pair: pair[1] or chart.now, reverse=True)
    return tuple(
        Evidence(
            (*use.ingredients, *use.possibly)[0], use.reference, original=use.state, effective=moment, label=use.label
        )
        for use, moment in dated[:_EVIDENCE_SHOWN]
    )


def _by_text(chart: Chart, drug: str, *states: str) -> Outcome | None:
    """Unknown where a text names the drug: text never establishes a presence (reading 3.11)."""
    doubt = [use for use in chart.facts.medications if use.state in states and drug in use.possibly]
    if not doubt:
        return None
    reason = Reason.of("text-only-drug", drug=drug, title="")
    return _says(Finding.UNKNOWN, reason, evidence=_given_evidence(chart, doubt))


def _still_on(action: Action, case: _Case) -> Outcome:
    """Ordered, or given, after the last planned day."""
    chart, drug = case.chart, str(action.params["drug"])
    orders = acting_orders(chart, drug)
    if orders:
        return _says(Finding.MET, Reason.of("order-active", drug=drug), evidence=_given_evidence(chart, orders))
    last = chart.knowledge.follow_up.schedules[drug].last_day
    late = [(use, end) for use, end in lately(chart, drug) if dose_day(chart, end, case.running) > last]
    if late:
        age = hours_text(chart.age(max(end for _, end in late)))
        reason = Reason.of("given", drug=drug, age=age)
        return _says(Finding.MET, reason, evidence=_given_evidence(chart, [u for u, _ in late]))
    hours = timedelta(hours=float(chart.knowledge.follow_up.limits["still_given_hours"].value))
    by_text = _by_text(chart, drug, "ordered", "given")
    return by_text or _unless_lost(chart.lost(("orders", None), ("administrations", chart.now - hours)))


def _in_the_course(action: Action, case: _Case) -> Outcome:
    """The drug belongs to this course: it was given in it, or is ordered."""
    chart, drug = case.chart, str(action.params["drug"])
    given = [
        use
        for use in chart.facts.medications
        if use.state == "given" and drug in use.ingredients and in_course(chart, use, case.running)
    ]
    uses = given or acting_orders(chart, drug)
    if uses:
        newest = max(uses, key=lambda use: chart.latest_possible(use.start or use.end) or chart.now)
        how = "given" if given else "ordered"
        reason = Reason.of("in-course", drug=drug, how=how)
        return _says(Finding.MET, reason, evidence=_given_evidence(chart, [newest]))
    since = chart.now - chart.hours("administrations_hours")
    by_text = _by_text(chart, drug, "ordered", "given")
    return by_text or _unless_lost(chart.lost(("orders", None), ("administrations", since)))


def _infection(action: Action, case: _Case) -> Outcome:  # noqa: ARG001
    """A positive culture or fungal test, or an active infection on the problem list, from the first dose on.

    A diagnosis without any date counts: nothing says that it is older.
    """
    chart, running = case.chart, case.running
    facts = chart.facts
    old = {"blood_culture", "fungal_test"}
    since = replace(
        facts,
        measurements=tuple(m for m in facts.measurements if m.concept not in old or m.when.latest >= running.earliest),
        conditions=tuple(
            c
            for c in facts.conditions
            for when in [c.onset or c.recorded]
            if when is None or when.latest >= running.earliest
        ),
    )
    reading = read(Chart(since, knowledge=chart.knowledge, now=chart.now), Leaf("infection"))
    if reading.state == "present" or reading.reason.code == "infection-on-record":
        return _says(Finding.MET, reading.reason, evidence=reading.evidence)
    return _NOTHING if reading.known else _says(Finding.UNKNOWN, reading.reason, failed=reading.failed)


def _interaction(action: Action, case: _Case) -> Outcome:
    """One of these findings is present; only monitored ones make it a line."""
    ids = str(action.params["findings"]).split()
    results = [result for result in case.safety if result.rule.id in ids]
    present = [result for result in results if result.finding is Finding.MET]
    if present:
        titles = "; ".join(result.rule.title for result in present)
        only_monitored = all(result.rule.severity == "monitor" for result in present)
        evidence = dict.fromkeys(e for result in present for e in result.outcome.evidence)
        reason = Reason.of("interacting", titles=titles)
        shown = "monitor" if only_monitored else ""
        return _says(Finding.MET, reason, shown=shown, evidence=tuple(evidence))
    unknown = next((result for result in results if result.finding is Finding.UNKNOWN), None)
    if unknown is None:
        return _NOTHING
    outcome = unknown.outcome
    return _says(Finding.UNKNOWN, outcome.because[0].reason, evidence=outcome.evidence, failed=outcome.failed)


def _missing_lab(action: Action, case: _Case) -> Outcome:
    """Nothing measured in the window; unknown when it could not be read."""
    trend = case.trends[str(action.params["quantity"])]
    if trend.value is not None or trend.lost == "before":
        return _NOTHING
    return _says(Finding.MET if trend.lost == "absent" else Finding.UNKNOWN, trend.reasons[0])


def _not_falling(action: Action, case: _Case) -> Outcome:
    """The newest value is not below the baseline; a bound decides only when it decides with certainty."""
    trend = case.trends[str(action.params["quantity"])]
    value, baseline = trend.value, trend.baseline
    if value is None or baseline is None:
        return _says(Finding.UNKNOWN, trend.reasons[0 if value is None else -1])
    reason = Reason.of("against-baseline", value=labs.shown(value), baseline=labs.shown(baseline))
    evidence = (Evidence.measured(value), Evidence.measured(baseline))
    return _says(at_least(value, baseline), reason, evidence=evidence)


def _missed_dose(action: Action, case: _Case) -> Outcome:  # noqa: ARG001
    """An administration of either drug that is recorded as not done, since the first dose."""
    chart, running = case.chart, case.running
    drugs = [drug for drug in STUDY_DRUGS if drug not in running.apart]
    missed = [
        use
        for use in chart.facts.medications
        if use.state == "not-done" and use.kind == "administration" and in_course(chart, use, running)
        if is_any(use, drugs)
    ]
    if missed:
        names = sorted({name for use in missed for name in use.ingredients if name in drugs})
        reason = Reason.of("missed", drug=", ".join(names), count=len(missed))
        return _says(Finding.MET, reason, evidence=_given_evidence(chart, missed))
    for drug in drugs:
        by_text = _by_text(chart, drug, "not-done")
        if by_text is not None:
            return by_text
    if running.high is None or not vouches(chart, ADMINISTRATIONS, running.earliest):
        return _says(Finding.UNKNOWN, unvouched(chart, ADMINISTRATIONS), failed=True)
    return _NOTHING


def _not_begun(chart: Chart) -> Outcome:
    """An active order of either drug of which no administration is on record."""
    horizon = chart.now - chart.hours("study_drug_hours")
    for drug in STUDY_DRUGS:
        orders = acting_orders(chart, drug)
        given = [use for use in chart.facts.medications if use.state == "given" and drug in use.ingredients]
        if not orders or any((chart.exposure_end(use) or chart.now) >= horizon for use in given):
            continue
        by_text = _by_text(chart, drug, "given")
        if by_text is not None:
            return by_text
        written = [use.start.earliest for use in orders if use.start is not None]
        since = min(written, default=chart.now - chart.hours("administrations_hours"))
        if not vouches(chart, ADMINISTRATIONS, max(since, horizon)):
            return _says(Finding.UNKNOWN, unvouched(chart, ADMINISTRATIONS), failed=True)
        return _says(Finding.MET, Reason.of("not-begun", drug=drug), evidence=_given_evidence(chart, orders))
    return _unless_lost(chart.lost(("orders", None)))


_RULES: Mapping[str, Callable[[Action, _Case], Outcome]] = MappingProxyType(
    {
        "still-on": _still_on,
        "in-course": _in_the_course,
        "infection": _infection,
        "interaction": _interaction,
        "missing-lab": _missing_lab,
        "not-falling": _not_falling,
        "missed-dose": _missed_dose,
        _NOT_STARTED: lambda _, case: _not_begun(case.chart),
    }
)

RULES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    dict.fromkeys(_RULES, ())
    | {"still-on": ("drug",), "in-course": ("drug",), "interaction": ("findings",)}
    | {"missing-lab": ("quantity",), "not-falling": ("quantity",)}
)
"""The rules that an action may name, and the keys that each needs."""
