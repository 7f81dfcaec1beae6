"""Organ support over time: ECMO, dialysis, ventilation, prone position (readings 3.10, 3.15, 4, 5)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from app.clinical.chart import Chart, hours_text
from app.clinical.knowledge import Leaf
from app.clinical.reading import Evidence, Note, Reading, Reason
from fhir_mappings.facts import Measurement, Procedure

ECMO_PROCEDURES = ("ecmo-vv", "ecmo-va", "ecmo-generic")
ECMO_SIGNS = ("ecmo_fdo2", "ecmo_flow", "ecmo_sweep")
DIALYSIS_PROCEDURES = ("dialysis", "dialysis-continuous", "dialysis-intermittent")


@dataclass(frozen=True, slots=True)
class Run:
    """One ECMO record on the time line. `end` None: it runs now. `open`: recorded as running, without a sign of it."""

    kind: str
    start: datetime
    end: datetime | None
    open: bool
    procedure: Procedure | None


@dataclass(frozen=True, slots=True)
class Ecmo:
    """What is on record about ECMO, oldest first, and the dated negatives."""

    runs: tuple[Run, ...]
    negatives: tuple[tuple[datetime, Procedure], ...]
    signs: tuple[Measurement, ...]
    by_text: bool
    lost: Reading | None

    @property
    def silent(self) -> bool:
        """No sign of ECMO at all on record."""
        return not self.runs and not self.signs and not self.by_text


def ecmo_record(chart: Chart) -> Ecmo:
    """The ECMO time line of this chart."""
    runs, negatives = [], []
    signs = tuple(m for name in ECMO_SIGNS for m in chart.values(name) if m.value is not None and m.value > 0)
    recent_sign = any(chart.age(m.when.earliest) <= chart.hours("support_sign_hours") for m in signs)
    for procedure in _procedures(chart, ECMO_PROCEDURES):
        start = chart.latest_possible(procedure.start)
        if start is None:
            start = chart.latest_possible(procedure.end) or chart.now
        kind = next(c for c in ECMO_PROCEDURES if c in procedure.concepts)
        if procedure.status == "not-done":
            if kind == "ecmo-generic":
                negatives.append((start, procedure))
        elif procedure.end is not None:
            end = chart.latest_possible(procedure.end) or chart.now
            runs.append(Run(kind, min(start, end), end, False, procedure))
        elif procedure.status == "in-progress":
            fresh = chart.age(start) <= chart.hours("support_runs_hours")
            runs.append(Run(kind, start, None, not (fresh or recent_sign), procedure))
        else:
            runs.append(Run(kind, start, start, False, procedure))
    horizon = chart.now - chart.hours("ecmo_history_hours")
    return Ecmo(
        runs=tuple(sorted(runs, key=lambda r: r.start)),
        negatives=tuple(sorted(negatives, key=lambda n: n[0])),
        signs=signs,
        by_text=any(g.why == "procedure-text-only" and g.concept == "ecmo" for g in chart.facts.gaps),
        lost=chart.uncovered(("procedures", "ecmo"), horizon),
    )


def ecmo_at(chart: Chart, record: Ecmo, *, moment: datetime, by_absence: bool) -> Reading:
    """The ECMO state in force at a moment: off, vv, va, generic, or unknown (reading 3.10)."""
    missing = ("ecmo_status",)
    if record.lost is not None:
        return _lost(record.lost, missing)
    running = [r for r in record.runs if r.start <= moment and (r.end is None or moment <= r.end)]
    for run in reversed(running):
        if not run.open:
            return _on(chart, run)
    if running:
        reason = Reason.of("open-since", since=hours_text(chart.age(running[-1].start)))
        return Reading(reason, missing=missing, unreadable=True, evidence=_evidence(running[-1].procedure))
    window = chart.hours("ecmo_observation_hours")
    signs = [m for m in record.signs if chart.age(m.when.earliest) <= window]
    ended = max((r.end for r in record.runs if r.end is not None and r.end < moment), default=None)
    if signs and (ended is None or any(m.when.earliest > ended for m in signs)):
        return _state(chart, "generic", Reason.of("ecmo-sign"), (Evidence.measured(signs[0]),))
    negative = max((t for t, _ in record.negatives if chart.age(t) <= window), default=None)
    started_since = any(r.start > (negative or moment) for r in record.runs)
    if negative is not None and not started_since and not record.by_text:
        procedure = next(p for t, p in record.negatives if t == negative)
        return _state(chart, "off", Reason.of("recorded-off"), _evidence(procedure))
    if record.by_text:
        return Reading(Reason.of("text-only-ecmo"), missing=missing, unreadable=True)
    if ended is not None:
        last = max((r for r in record.runs if r.end == ended), key=lambda r: r.start)
        return _state(chart, "off", Reason.of("ended", age=hours_text(chart.age(ended))), _evidence(last.procedure))
    if record.runs:
        return _state(chart, "off", Reason.of("not-yet-started"), _evidence(record.runs[0].procedure))
    if by_absence and record.silent:
        note = Note(Reason.of("confirm-no-ecmo"))
        return _state(chart, "off", Reason.of("no-ecmo-on-record"), ()).with_notes(note)
    return Reading(Reason.of("no-record"), missing=missing)


def last_change(record: Ecmo, *, now: datetime) -> datetime | None:
    """The last ECMO start or stop up to now: a gas from before it is not used (reading 3.10)."""
    moments = [t for r in record.runs for t in (r.start, r.end) if t is not None and t <= now]
    return max(moments, default=None)


def ecmo_now(chart: Chart, leaf: Leaf) -> Reading:  # noqa: ARG001
    """ECMO as a rescue therapy: on (any configuration) or off; absence of a record stays unknown."""
    return ecmo_at(chart, ecmo_record(chart), moment=chart.now, by_absence=False)


def prone(chart: Chart, leaf: Leaf) -> Reading:
    """A prone session that started or ended inside the window, also against a later `not-done` (reading 3.10)."""
    since = chart.since(leaf.input)
    lost = chart.uncovered(chart.input(leaf.input).needs, since)
    limit = chart.input(leaf.input).window
    sessions, negatives = [], []
    stale_open: Procedure | None = None
    for procedure in _procedures(chart, ("prone",)):
        moment = chart.latest_possible(procedure.end or procedure.start)
        if procedure.status == "not-done":
            negatives.append((moment or chart.now, procedure))
        elif moment is None:
            continue
        elif since is not None and moment >= since:
            age = hours_text(chart.age(moment))
            return Reading(Reason.of("session", age=age), state="yes", evidence=_evidence(procedure), shown="yes")
        elif procedure.status == "in-progress" and procedure.end is None:
            stale_open = procedure
        else:
            sessions.append((moment, procedure))
    for position in chart.values("position", since=since):
        if position.coded == "prone":
            age = hours_text(chart.age(position.when.earliest))
            evidence = (Evidence.measured(position),)
            return Reading(Reason.of("session", age=age), state="yes", evidence=evidence, shown="yes")
    missing = (chart.input(leaf.input).missing,)
    if lost is not None:
        return _lost(lost, missing)
    if any(g.why == "procedure-text-only" and g.concept == "prone" for g in chart.facts.gaps):
        return Reading(Reason.of("text-only-prone"), missing=missing, unreadable=True)
    if stale_open is not None:
        return _open(chart, stale_open, missing)
    fresh = [p for t, p in negatives if since is not None and t >= since]
    if fresh:
        return Reading(Reason.of("not-done"), state="no", evidence=_evidence(fresh[0]), shown="no")
    if sessions:
        moment, procedure = max(sessions, key=lambda s: s[0])
        since_then = chart.age(moment)
        reason = Reason.of("too-long-ago", age=hours_text(since_then), limit=hours_text(limit or since_then))
        return Reading(reason, state="no", evidence=_evidence(procedure), shown="no")
    return Reading(Reason.of("no-record"), missing=missing)


def dialysis(chart: Chart, leaf: Leaf) -> Reading:
    """Dialysis: on (running, or a session within 72 h), off (a dated negative), else unknown (readings 3.10, 3.15)."""
    missing = (chart.input(leaf.input).missing,)
    window = chart.hours("dialysis_session_hours")
    signs = chart.values("dialysis_sign", since=chart.now - chart.hours("support_sign_hours"))
    opened: Procedure | None = None
    negative: Procedure | None = None
    for procedure in _procedures(chart, DIALYSIS_PROCEDURES):
        moment = chart.latest_possible(procedure.end or procedure.start) or chart.now
        if procedure.status == "not-done":
            if chart.age(moment) <= chart.hours("dialysis_negative_hours"):
                negative = procedure
        elif procedure.status == "in-progress" and procedure.end is None and chart.age(moment) > window and not signs:
            opened = procedure
        elif procedure.status == "in-progress" or chart.age(moment) <= window:
            reason = Reason.of("dialysis-on", age=hours_text(chart.age(moment)))
            return Reading(reason, state="on", evidence=_evidence(procedure), shown="on dialysis")
    if signs:
        evidence = (Evidence.measured(signs[0]),)
        age = hours_text(chart.age(signs[0].when.earliest))
        return Reading(Reason.of("dialysis-on", age=age), state="on", evidence=evidence, shown="on dialysis")
    for condition in chart.facts.conditions:
        if condition.active and "dialysis-dependence" in condition.concepts:
            evidence = (Evidence("dialysis", condition.reference, label=condition.label),)
            return Reading(Reason.of("dialysis-dependence"), state="on", evidence=evidence, shown="dialysis dependence")
    lost = chart.uncovered(chart.input(leaf.input).needs, chart.now - window)
    if lost is not None:
        return _lost(lost, missing)
    if opened is not None:
        return _open(chart, opened, missing)
    if negative is not None:
        return Reading(Reason.of("recorded-off"), state="off", evidence=_evidence(negative), shown="off")
    return Reading(Reason.of("no-record"), missing=missing)


def ventilatory_support(chart: Chart, leaf: Leaf) -> Reading:
    """Any sign of ventilatory support in the window (scope, reading 5)."""
    since = chart.since(leaf.input)
    for name in ("fio2", "pf", "peep", "pplat", "vt", "crs"):
        for m in chart.values(name, since=since):
            if name in {"fio2", "pf"} and m.kind != "ventilator":
                continue
            return _sign(Evidence.measured(m))
    procedures = ("ventilation", "ventilation-invasive", "niv", "prone", *ECMO_PROCEDURES)
    found = _procedure_sign(chart, procedures, since)
    if found is not None:
        return found
    ecmo = next((m for m in ecmo_record(chart).signs if since is None or m.when.earliest >= since), None)
    if ecmo is not None:
        return _sign(Evidence.measured(ecmo))
    for group in ("nmba", "ino"):
        found = _given_sign(chart, group, since)
        if found is not None:
            return found
    return _no_sign(chart, leaf, since)


def invasive_ventilation(chart: Chart, leaf: Leaf) -> Reading:
    """A sign of *invasive* ventilation in the last 24 h (reading 5): without one no suggestion is made."""
    since = chart.since(leaf.input)
    found = _procedure_sign(chart, ("ventilation-invasive",), since)
    if found is not None:
        return found
    for m in (*chart.values("pplat", since=since), *chart.values("crs", since=since)):
        if m.concept == "pplat" or m.kind in {"static", "derived"}:
            return _sign(Evidence.measured(m))
    infusion = _given_sign(chart, "nmba", since, infusion=True)
    if infusion is not None:
        return infusion
    state = ecmo_at(chart, ecmo_record(chart), moment=chart.now, by_absence=False)
    if state.state in {"vv", "va", "generic"}:
        return _sign(*state.evidence)
    lost = chart.uncovered(chart.input(leaf.input).needs, since)
    non_invasive = _procedure_sign(chart, ("niv", "hfno"), since)
    if non_invasive is None and lost is None:
        for m in chart.values("fio2", since=since):
            if m.kind == "ventilator":
                return _sign(Evidence.measured(m))
    return _no_sign(chart, leaf, since)


def _no_sign(chart: Chart, leaf: Leaf, since: datetime | None) -> Reading:
    lost = chart.uncovered(chart.input(leaf.input).needs, since)
    if lost is not None:
        return _lost(lost, (chart.input(leaf.input).missing,))
    return Reading(Reason.of("no-sign"), state="no", shown="no")


def _sign(*evidence: Evidence) -> Reading:
    return Reading(Reason.of("sign"), state="yes", evidence=evidence, shown="yes")


def _procedure_sign(chart: Chart, concepts: Iterable[str], since: datetime | None) -> Reading | None:
    for procedure in _procedures(chart, concepts):
        if procedure.status == "not-done":
            continue
        end = chart.latest_possible(procedure.end or procedure.start)
        running = procedure.status == "in-progress" and procedure.end is None and end is not None
        fresh = running and end is not None and chart.age(end) <= chart.hours("support_runs_hours")
        if end is not None and (fresh or since is None or end >= since):
            return _sign(*_evidence(procedure))
    return None


def _given_sign(chart: Chart, group: str, since: datetime | None, *, infusion: bool = False) -> Reading | None:
    names = chart.knowledge.groups[group].ingredients
    for use in chart.facts.medications:
        if use.state != "given" or names.isdisjoint(use.ingredients) or (infusion and not use.infusion):
            continue
        end = chart.exposure_end(use)
        if end is not None and (since is None or end >= since):
            return _sign(Evidence(group, use.reference, label=use.label, effective=end))
    return None


def _procedures(chart: Chart, concepts: Iterable[str]) -> list[Procedure]:
    wanted = frozenset(concepts)
    return [p for p in chart.facts.procedures if not wanted.isdisjoint(p.concepts)]


def _on(chart: Chart, run: Run) -> Reading:
    state = {"ecmo-vv": "vv", "ecmo-va": "va", "ecmo-generic": "generic"}[run.kind]
    return _state(chart, state, Reason.of("running", age=hours_text(chart.age(run.start))), _evidence(run.procedure))


def _state(chart: Chart, state: str, reason: Reason, evidence: tuple[Evidence, ...]) -> Reading:
    if state == "generic" and chart.facts.overlay.generic_ecmo_is_veno_venous:
        state = "vv"
    words = {"off": "off", "vv": "veno-venous", "va": "veno-arterial", "generic": "running, configuration not stated"}
    return Reading(reason, state=state, evidence=evidence, shown=words[state])


def _open(chart: Chart, procedure: Procedure, missing: tuple[str, ...]) -> Reading:
    since = hours_text(chart.age(chart.latest_possible(procedure.start) or chart.now))
    return Reading(
        Reason.of("open-since", since=since), missing=missing, unreadable=True, evidence=_evidence(procedure)
    )


def _lost(reading: Reading, missing: tuple[str, ...]) -> Reading:
    return Reading(reading.reason, missing=missing, failed=reading.failed)


def _evidence(procedure: Procedure | None) -> tuple[Evidence, ...]:
    if procedure is None:
        return ()
    moment = procedure.start or procedure.end
    return (
        Evidence(
            concept=procedure.concepts[0],
            reference=procedure.reference,
            original=procedure.status,
            effective=None if moment is None else moment.earliest,
            label=procedure.label,
        ),
    )
