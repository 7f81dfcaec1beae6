"""Organ support over time: ECMO, dialysis, ventilation, prone position (readings 3.10, 3.15, 4, 5)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from app.clinical.chart import Chart, hours_text
from app.clinical.knowledge import Leaf
from app.clinical.reading import Evidence, Note, Reading, Reason
from fhir_mappings.facts import Gap, Measurement, Procedure

ECMO_PROCEDURES = ("ecmo-vv", "ecmo-va", "ecmo-generic")
ECMO_SIGNS = ("ecmo_fdo2", "ecmo_flow", "ecmo_sweep")
ECMO_SOURCES = ("procedures", "ecmo")
DIALYSIS_PROCEDURES = ("dialysis", "dialysis-continuous", "dialysis-intermittent")
DOUBTFUL = frozenset({"procedure-text-only", "status-unknown", "future-date", "future"})
"""Why something on record is not established and its absence cannot be concluded either.

A date in the future is one of them: it is rather a wrong clock than a record of nothing.
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One ECMO record on the time line. `end` None: it runs now. `open`: recorded as running, without a sign of it."""

    kind: str
    start: datetime
    end: datetime | None
    open: bool
    procedure: Procedure


@dataclass(frozen=True, slots=True)
class Ecmo:
    """What is on record about ECMO.

    `runs` oldest first. `sign`: the newest circuit value of the last 60 d. `negative`: the newest fresh `not-done`.
    `doubt`: a record that may be of ECMO. `changed`: the last start or stop; a gas from before it is not used, so the
    state now is the state in force when any usable gas was drawn (reading 3.10).
    """

    runs: tuple[Run, ...]
    sign: Measurement | None
    negative: tuple[datetime, Procedure] | None
    ended: datetime | None
    doubt: Gap | None
    changed: datetime | None


def ecmo_record(chart: Chart) -> Ecmo:
    """The ECMO time line of this chart."""
    horizon = chart.now - chart.hours("ecmo_history_hours")
    window = chart.now - chart.hours("ecmo_observation_hours")
    signs = ecmo_signs(chart, since=horizon)
    sign = max(signs, key=lambda m: m.when.earliest, default=None)
    procedures = _procedures(chart, ECMO_PROCEDURES)
    runs = sorted((_run(chart, p, signs) for p in procedures if p.status != "not-done"), key=lambda r: r.start)
    ended = max((r.end for r in runs if r.end is not None), default=None)
    negatives = [
        (p.start.earliest, p)
        for p in procedures
        if p.status == "not-done" and "ecmo-generic" in p.concepts and p.start is not None
    ]
    negative = max((n for n in negatives if n[0] >= window), key=lambda n: n[0], default=None)
    changes = [moment for run in runs for moment in (run.start, run.end) if moment is not None]
    if negative is not None and any(window <= m.when.earliest <= negative[0] for m in signs):
        changes.append(negative[0])
    return Ecmo(
        runs=tuple(runs),
        sign=sign,
        negative=negative,
        ended=ended,
        doubt=_doubt(chart, ("ecmo", *ECMO_SIGNS), sources=ECMO_SOURCES, since=max(horizon, ended or horizon)),
        changed=max(changes, default=None),
    )


def ecmo_signs(chart: Chart, *, since: datetime | None) -> list[Measurement]:
    """Circuit values above zero: FdO2, circuit flow, sweep gas."""
    return [m for name in ECMO_SIGNS for m in chart.values(name, since=since) if m.value is not None and m.value > 0]


def ecmo_state(chart: Chart, record: Ecmo, *, by_absence: bool) -> Reading:
    """Off, vv, va, generic, or unknown (reading 3.10). `by_absence`: nothing on record counts as off, with a line."""
    missing = ("ecmo_status",)
    horizon = chart.now - chart.hours("ecmo_history_hours")
    lost = chart.uncovered(ECMO_SOURCES, horizon)
    if lost is not None:
        return _lost(lost, missing)
    running = [r for r in record.runs if r.end is None]
    for run in reversed(running):
        if not run.open:
            return _on(chart, run)
    if running:
        return _open(running[-1].procedure, since=hours_text(chart.age(running[-1].start)), missing=missing)
    by_sign = _by_sign(chart, record)
    if by_sign is not None:
        return by_sign
    if record.doubt is not None:
        return Reading(Reason.of("text-only-ecmo"), missing=missing, unreadable=True)
    if record.negative is not None:
        return _state(chart, "off", Reason.of("recorded-off"), _evidence(record.negative[1]))
    if record.ended is not None:
        last = next(r for r in reversed(record.runs) if r.end == record.ended)
        return _state(
            chart, "off", Reason.of("ended", age=hours_text(chart.age(record.ended))), _evidence(last.procedure)
        )
    if not by_absence:
        return Reading(Reason.of("no-record"), missing=missing)
    lost = chart.incomplete(ECMO_SOURCES, horizon)
    if lost is not None:
        return _lost(lost, missing)
    return _state(chart, "off", Reason.of("no-ecmo-on-record"), ()).with_notes(Note(Reason.of("confirm-no-ecmo")))


def _by_sign(chart: Chart, record: Ecmo) -> Reading | None:
    """What a circuit value says that is newer than every stop: running within 12 h, unknown up to 24 h after a stop."""
    sign = record.sign
    if sign is None:
        return None
    moment = sign.when.earliest
    if record.negative is not None and record.negative[0] >= moment:
        return None
    if record.ended is not None and record.ended >= moment:
        return None
    age = chart.age(moment)
    limit = chart.hours("ecmo_observation_hours")
    if age <= limit:
        return _state(chart, "generic", Reason.of("ecmo-sign"), (Evidence.measured(sign),))
    if record.ended is not None and age > chart.hours("support_sign_hours"):
        return None
    reason = Reason.of("state-stale", age=hours_text(age), limit=hours_text(limit))
    return Reading(reason, missing=("ecmo_status",), evidence=(Evidence.measured(sign),))


def _run(chart: Chart, procedure: Procedure, signs: list[Measurement]) -> Run:
    kind = next(c for c in ECMO_PROCEDURES if c in procedure.concepts)
    start, end = chart.latest_possible(procedure.start), chart.latest_possible(procedure.end)
    if end is not None:
        return Run(kind, min(start or end, end), end, False, procedure)
    if procedure.status in {"completed", "stopped"}:
        return Run(kind, start or chart.now, start or chart.now, False, procedure)
    recent = [m.when.earliest for m in signs if chart.age(m.when.earliest) <= chart.hours("support_sign_hours")]
    runs = procedure.status == "in-progress" and (bool(recent) or _started_recently(chart, procedure))
    return Run(kind, start or min(recent, default=chart.now), None, not runs, procedure)


def _started_recently(chart: Chart, procedure: Procedure) -> bool:
    """Whether an open record started within 72 h; a date counts at its earliest instant, because it must be fresh."""
    return procedure.start is not None and chart.age(procedure.start.earliest) <= chart.hours("support_runs_hours")


def _doubt(
    chart: Chart, concepts: Iterable[str], *, sources: Iterable[str] = ("procedures",), since: datetime | None = None
) -> Gap | None:
    """Something on record that may be one of these and could not be read: nothing is concluded from absence then."""
    wanted, asked = frozenset(concepts), frozenset(sources)
    for gap in chart.facts.gaps:
        named = gap.concept in wanted and (gap.displaces or gap.why in DOUBTFUL)
        unread = gap.source in asked and gap.why == "unreadable-resource"
        if (named or unread) and (since is None or chart.gap_time(gap) >= since):
            return gap
    return None


def ecmo_now(chart: Chart, leaf: Leaf) -> Reading:  # noqa: ARG001
    """ECMO as a rescue therapy: on (any configuration) or off; absence of a record stays unknown."""
    return ecmo_state(chart, ecmo_record(chart), by_absence=False)


def prone(chart: Chart, leaf: Leaf) -> Reading:
    """A prone session that started or ended inside the window, also against a later `not-done` (reading 3.10).

    An older one with nothing newer is "no" (reading 1); a date counts at its earliest instant: it has to be fresh.
    """
    spec = chart.input(leaf.input)
    missing = (spec.missing,)
    since = chart.since(leaf.input) or chart.now
    sessions: list[tuple[datetime, tuple[Evidence, ...]]] = [
        (m.when.earliest, (Evidence.measured(m),)) for m in chart.values("position") if m.coded == "prone"
    ]
    negatives: list[Procedure] = []
    opened: Procedure | None = None
    undated = False
    for procedure in _procedures(chart, ("prone",)):
        when = procedure.end or procedure.start
        if procedure.status == "not-done":
            negatives += [procedure] if when is not None and when.earliest >= since else []
        elif when is None:
            undated = True
        elif procedure.end is None and procedure.status == "in-progress" and when.earliest < since:
            opened = procedure
        else:
            sessions.append((when.earliest, _evidence(procedure)))
    last = max(sessions, key=lambda s: s[0], default=None)
    if last is not None and last[0] >= since:
        age = hours_text(chart.age(last[0]))
        return Reading(Reason.of("session", age=age), state="yes", evidence=last[1], shown="yes")
    lost = chart.uncovered(spec.needs, since)
    if lost is not None:
        return _lost(lost, missing)
    if undated or _doubt(chart, ("prone",)) is not None:
        return Reading(Reason.of("text-only-prone"), missing=missing, unreadable=True)
    if opened is not None:
        return _open(opened, since=_begun(chart, opened), missing=missing)
    if negatives:
        return Reading(Reason.of("not-done"), state="no", evidence=_evidence(negatives[0]), shown="no")
    if last is not None:
        limit = hours_text(chart.now - since)
        reason = Reason.of("too-long-ago", age=hours_text(chart.age(last[0])), limit=limit)
        return Reading(reason, state="no", evidence=last[1], shown="no")
    return Reading(Reason.of("no-record"), missing=missing)


def dialysis(chart: Chart, leaf: Leaf) -> Reading:
    """Dialysis: on (running, or a session within 72 h), off (a dated negative), else unknown (readings 3.10, 3.15).

    A partial date of a session counts at its latest instant, because it warns; that of a negative at its earliest.
    """
    spec = chart.input(leaf.input)
    missing = (spec.missing,)
    window = chart.hours("dialysis_session_hours")
    fresh = chart.values("dialysis_sign", since=chart.now - chart.hours("support_sign_hours"))
    sign = next((m for m in fresh if m.value is None or m.value > 0), None)
    opened: Procedure | None = None
    undated = False
    negative: Procedure | None = None
    for procedure in _procedures(chart, DIALYSIS_PROCEDURES):
        when = procedure.end or procedure.start
        if procedure.status == "not-done":
            if when is not None and chart.age(when.earliest) <= chart.hours("dialysis_negative_hours"):
                negative = procedure
            continue
        moment = chart.latest_possible(when)
        runs = procedure.status == "in-progress" and procedure.end is None
        if (moment is not None and chart.age(moment) <= window) or (runs and sign is not None):
            age = hours_text(chart.age(moment or chart.now))
            return _dialysed(Reason.of("dialysis-on", age=age), _evidence(procedure))
        if runs and moment is not None:
            opened = procedure
        undated = undated or moment is None
    if sign is not None:
        age = hours_text(chart.age(sign.when.earliest))
        return _dialysed(Reason.of("dialysis-on", age=age), (Evidence.measured(sign),))
    for condition in chart.facts.conditions:
        if condition.active and "dialysis-dependence" in condition.concepts:
            evidence = Evidence("dialysis", condition.reference, label=condition.label)
            return _dialysed(Reason.of("dialysis-dependence"), (evidence,))
    lost = chart.uncovered(spec.needs, chart.now - window)
    if lost is not None:
        return _lost(lost, missing)
    doubt = _doubt(chart, ("dialysis_sign", *DIALYSIS_PROCEDURES))
    if doubt is not None or undated:
        reason = Reason.of("refused", why="no-time") if doubt is None else Reason.refused("refused", doubt)
        return Reading(reason, missing=missing, unreadable=True)
    if opened is not None:
        return _open(opened, since=_begun(chart, opened), missing=missing)
    if negative is not None:
        return Reading(Reason.of("recorded-off"), state="off", evidence=_evidence(negative), shown="off")
    return Reading(Reason.of("no-record"), missing=missing)


def _dialysed(reason: Reason, evidence: tuple[Evidence, ...]) -> Reading:
    return Reading(reason, state="on", evidence=evidence, shown="on dialysis")


def ventilatory_support(chart: Chart, leaf: Leaf) -> Reading:
    """Any sign of ventilatory support in the window (scope, reading 5).

    A ratio whose FiO2 has a ventilator's code needs no line of its own: that FiO2 is a sign.
    """
    since = chart.since(leaf.input)
    for name in ("fio2", "peep", "pplat", "vt", "crs", "ino"):
        for m in chart.values(name, since=since):
            if (name == "fio2" and m.kind != "ventilator") or (name == "ino" and m.value == 0):
                continue
            return _sign(Evidence.measured(m))
    procedures = ("ventilation", "ventilation-invasive", "niv", "prone", *ECMO_PROCEDURES)
    found = _procedure_sign(chart, procedures, since)
    if found is not None:
        return found
    circuit = ecmo_signs(chart, since=since)
    if circuit:
        return _sign(Evidence.measured(circuit[0]))
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
    state = ecmo_state(chart, ecmo_record(chart), by_absence=False)
    if state.state in {"vv", "va", "generic"}:
        return _sign(*state.evidence)
    lost = chart.uncovered(chart.input(leaf.input).needs, since)
    if lost is None and not _non_invasive(chart, since):
        for m in chart.values("fio2", since=since):
            if m.kind == "ventilator":
                return _sign(Evidence.measured(m))
    return _no_sign(chart, leaf, since)


def _no_sign(chart: Chart, leaf: Leaf, since: datetime | None) -> Reading:
    spec = chart.input(leaf.input)
    lost = chart.uncovered(spec.needs, since)
    if lost is not None:
        return _lost(lost, (spec.missing,))
    return Reading(Reason.of("no-sign"), state="no", shown="no")


def _sign(*evidence: Evidence) -> Reading:
    return Reading(Reason.of("sign"), state="yes", evidence=evidence, shown="yes")


def _procedure_sign(chart: Chart, concepts: Iterable[str], since: datetime | None) -> Reading | None:
    """One that runs, or started or ended in the window; a date counts at its earliest instant (reading 1)."""
    for procedure in _procedures(chart, concepts):
        when = procedure.end or procedure.start
        if procedure.status == "not-done":
            continue
        if ventilation_runs(chart, procedure) or (when is not None and (since is None or when.earliest >= since)):
            return _sign(*_evidence(procedure))
    return None


def ventilation_runs(chart: Chart, procedure: Procedure) -> bool:
    """Whether a ventilation record that is open runs now: started within 72 h, or the ventilator charts (3.10)."""
    if procedure.status != "in-progress" or procedure.end is not None:
        return False
    since = chart.now - chart.hours("support_sign_hours")
    charted = [m for name in ("fio2", "peep", "pplat", "vt") for m in chart.values(name, since=since)]
    return _started_recently(chart, procedure) or any(m.concept != "fio2" or m.kind == "ventilator" for m in charted)


def _non_invasive(chart: Chart, since: datetime | None) -> bool:
    """Whether NIV, CPAP or high-flow oxygen may have been given in the window: then an FiO2 says nothing (reading 5).

    It excludes, so a partial date counts at its latest instant, an open record as running, a doubtful one as there.
    """
    for procedure in _procedures(chart, ("niv", "hfno")):
        last = chart.latest_possible(procedure.end or procedure.start) or chart.now
        opened = procedure.status == "in-progress" and procedure.end is None
        if procedure.status != "not-done" and (opened or since is None or last >= since):
            return True
    return any(g.concept in {"niv", "hfno"} and g.why in DOUBTFUL for g in chart.facts.gaps)


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
    absent = "no ECMO on record" if reason.code == "no-ecmo-on-record" else "off"
    words = {"off": absent, "vv": "veno-venous", "va": "veno-arterial", "generic": "running, configuration not stated"}
    return Reading(reason, state=state, evidence=evidence, shown=words[state])


def _open(procedure: Procedure, *, since: str, missing: tuple[str, ...]) -> Reading:
    reason = Reason.of("open-since", since=since)
    return Reading(reason, missing=missing, unreadable=True, evidence=_evidence(procedure))


def _begun(chart: Chart, procedure: Procedure) -> str:
    """How long ago it started."""
    return hours_text(chart.age(chart.latest_possible(procedure.start) or chart.now))


def _lost(reading: Reading, missing: tuple[str, ...]) -> Reading:
    return Reading(reading.reason, missing=missing, failed=reading.failed)


def _evidence(procedure: Procedure) -> tuple[Evidence, ...]:
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
