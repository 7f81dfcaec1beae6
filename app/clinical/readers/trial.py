"""What only the terminated trial asks for: stage 2b, stage 3 and its evolved form (readings 3.18, 3.19, B1 to B9)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from app.clinical.chart import Chart, hours_text
from app.clinical.findings import Finding
from app.clinical.intervals import Interval
from app.clinical.knowledge import Leaf
from app.clinical.readers import gas, labs, records, support
from app.clinical.reading import Evidence, Reading, Reason, decimal_text
from fhir_mappings.facts import Measurement, MedicationUse, Procedure, When

VENTILATION = ("ventilation-invasive", "ventilation")
OXYGEN = ("oxygen", "hfno", "niv", "ventilation-invasive", "ventilation")
CHARTED_ON_A_VENTILATOR = ("pplat", "peep", "vt")
NORADRENALINE = "noradrenaline"
CONFIRMED = frozenset({"", "confirmed"})
"""Verification that establishes a diagnosis; a provisional one only raises the question."""


# --------------------------------------------------------------------------- stage 2b


def respiratory_rate(chart: Chart, leaf: Leaf) -> Reading:
    """The patient's own breaths a minute. A total that counts the ventilator's too is only an upper bound of them."""
    reading = labs.newest(chart, leaf)
    if reading.interval is None:
        return reading
    fresh = chart.values("respiratory_rate", since=chart.since(leaf.input))
    moment = fresh[0].when.earliest
    own = next((m for m in fresh if m.when.earliest == moment and m.kind != "total"), None)
    if own is not None:
        return replace(reading, interval=Interval.of(own.value or 0, own.comparator),
                       evidence=(Evidence.measured(own),), shown=labs.reported(own))  # fmt: skip
    most = Fraction(fresh[0].value or 0)
    return replace(reading, interval=Interval(Fraction(0), most), shown=f"{labs.shown(fresh[0])} with the ventilator's")


def saturation(chart: Chart, leaf: Leaf) -> Reading:
    """Arterial saturation on room air in per cent (readings B1, B3, B4).

    On oxygen it is an upper bound of what it would be on room air: below the limit it decides, above it says nothing.
    Without a record of what was breathed it is unknown. Pulse oximetry counts only where the site has signed it.
    """
    spec = chart.input(leaf.input)
    since = chart.since(leaf.input)
    lost = chart.uncovered(spec.needs, since)
    if lost is not None:
        return replace(lost, missing=(spec.missing,))
    pulse = chart.values("spo2", since=since)
    accepted = ("sao2", "spo2") if chart.facts.overlay.pulse_oximetry else ("sao2",)
    values = [m for concept in accepted for m in chart.values(concept, since=since)]
    used = max(values, key=lambda m: (m.when.earliest, m.concept == "sao2"), default=None)
    newer = chart.displacing(accepted, used=None if used is None else used.when.earliest, since=since)
    conflict = next((g for g in newer if g.why == "conflict"), None)
    if conflict is not None:
        return Reading(Reason.refused("refused", conflict), missing=(spec.missing,), unreadable=True)
    if used is None:
        reading = labs.newest(chart, leaf)
        if pulse and not reading.unreadable:
            reason = Reason.of("pulse-oximetry-not-accepted", value=labs.shown(pulse[0]))
            return Reading(reason, missing=(spec.missing,), evidence=(Evidence.measured(pulse[0]),))
        return reading
    return replace(_on_room_air(chart, used, missing=spec.missing), displaced=bool(newer))


def _on_room_air(chart: Chart, used: Measurement, *, missing: str) -> Reading:
    age = hours_text(chart.age(used.when.earliest))
    value = labs.shown(used)
    breathed, fio2 = _breathed(chart, used)
    evidence = tuple(Evidence.measured(m) for m in (used, fio2) if m is not None)
    label = "" if used.concept == "sao2" else " (pulse oximetry)"
    if breathed == "":
        return Reading(Reason.of("room-air-not-stated", value=value), missing=(missing,), evidence=evidence)
    exact = Interval.of(used.value or 0, used.comparator)
    if breathed == "air":
        code = Reason.of("room-air", value=f"{value}{label}", age=age)
        return Reading(code, interval=exact, evidence=evidence, shown=f"{value}{label} on room air")
    return Reading(
        Reason.of("on-oxygen", value=f"{value}{label}", age=age),
        interval=Interval(None, exact.high, open_high=exact.open_high),
        evidence=evidence,
        shown=f"{value}{label} on oxygen",
    )


def _breathed(chart: Chart, used: Measurement) -> tuple[str, Measurement | None]:
    """air, oxygen, or '' when nothing or a contradiction is on record, with the FiO2 that says so.

    An FiO2 of 0.21 beside oxygen therapy or ventilation is an analyser's default (reading 3.4).
    """
    fio2 = _fio2_of(chart, used)
    supported = _covers(chart, OXYGEN, used.when)
    air = chart.limit("room_air_fio2")
    if fio2 is None:
        return ("oxygen" if supported else ""), None
    if (fio2.value or Decimal(0)) > air:
        return "oxygen", fio2
    return ("" if supported else "air"), fio2


def _fio2_of(chart: Chart, used: Measurement) -> Measurement | None:
    """The FiO2 charted with the saturation, else the last one before it, else the first after it, in the window."""
    moment, reach = used.when.earliest, chart.hours("room_air_pairing_hours")
    exact = [m for m in chart.values("fio2") if not m.comparator]
    near = [m for m in exact if abs(m.when.earliest - moment) <= reach and m.when.exact and used.when.exact]
    groups = (
        [m for m in exact if used.panel and m.panel == used.panel],
        [m for m in near if m.when.earliest <= moment],
        [m for m in near if m.when.earliest > moment],
    )
    group = next((g for g in groups if g), [])
    # Of two at one instant the higher: a patient on oxygen is never taken for one on room air.
    return min(group, key=lambda m: (abs(m.when.earliest - moment), -(m.value or Decimal(0))), default=None)


def _covers(chart: Chart, concepts: Iterable[str], when: When) -> bool:
    """Whether a procedure was running then, as far as the record says."""
    for procedure in _procedures(chart, concepts):
        start, end = procedure.start, procedure.end
        begun = start is None or start.earliest <= when.latest
        goes_on = procedure.status == "in-progress" if end is None else end.latest >= when.earliest
        if procedure.status != "not-done" and begun and goes_on:
            return True
    return False


def _procedures(chart: Chart, concepts: Iterable[str]) -> list[Procedure]:
    wanted = frozenset(concepts)
    return [p for p in chart.facts.procedures if not wanted.isdisjoint(p.concepts)]


# --------------------------------------------------------------------------- stage 3: ventilation


@dataclass(frozen=True, slots=True)
class Segment:
    """One ventilation record. `end` None: it runs now. `open`: recorded as running, without a sign of it."""

    start: When | None
    end: datetime | None
    open: bool
    procedure: Procedure


def ventilated_hours(chart: Chart, leaf: Leaf) -> Reading:
    """Hours of the invasive ventilation that runs now; 0 off the ventilator (readings 3.10, B6, B7).

    Records that follow each other within a short gap are one course. A generic record counts where a sign of invasive
    ventilation lies in the last 24 h. Non-invasive ventilation, and no record at all: unknown.
    """
    spec = chart.input(leaf.input)
    missing = (spec.missing,)
    lost = chart.uncovered(spec.needs, chart.since(leaf.input))
    if lost is not None:
        return replace(lost, missing=missing)
    segments = [_segment(chart, p) for p in _procedures(chart, VENTILATION) if p.status != "not-done"]
    signed = support.invasive_ventilation(chart, Leaf("invasive_ventilation")).state == "yes"
    invasive = [s for s in segments if signed or "ventilation-invasive" in s.procedure.concepts]
    running = [s for s in invasive if s.end is None and not s.open]
    if running:
        return _course(chart, running, invasive, missing=missing)
    current = [s for s in segments if s.end is None]
    if current:
        procedure = current[0].procedure
        if not current[0].open:
            return _asked(Reason.of("ventilation-not-stated"), procedure, missing=missing)
        since = "" if procedure.start is None else hours_text(chart.age(procedure.start.latest))
        return replace(_asked(Reason.of("open-since", since=since), procedure, missing=missing), unreadable=True)
    mask = [p for p in _procedures(chart, ("niv",)) if _covers(chart, ("niv",), When(chart.now, chart.now))]
    if mask:
        return _asked(Reason.of("non-invasive-ventilation"), mask[0], missing=missing)
    return _off(chart, segments, signed=signed, missing=missing)


def _segment(chart: Chart, procedure: Procedure) -> Segment:
    start, end = procedure.start, chart.latest_possible(procedure.end)
    if end is not None:
        return Segment(start, end, False, procedure)
    if procedure.status != "in-progress":
        return Segment(start, chart.latest_possible(start) or chart.now, False, procedure)
    return Segment(start, None, not support.ventilation_runs(chart, procedure), procedure)


def _course(chart: Chart, running: list[Segment], invasive: list[Segment], *, missing: tuple[str, ...]) -> Reading:
    dated = [s for s in running if s.start is not None]
    first = min(dated, key=lambda s: s.start.earliest if s.start else chart.now, default=None)
    if first is None or first.start is None:
        return _asked(Reason.of("ventilation-start-not-stated"), running[0].procedure, missing=missing)
    start, gap = first.start, chart.hours("ventilation_gap_hours")
    for segment in sorted(invasive, key=lambda s: s.end or chart.now, reverse=True):
        joins = segment.end is not None and start.earliest - segment.end <= gap
        if joins and segment.start is not None and segment.start.earliest < start.earliest:
            start = segment.start
    least, most = chart.hours_since(start.latest), chart.hours_since(start.earliest)
    return Reading(
        Reason.of("ventilated", hours=_hours(max(least, Fraction(0)))),
        interval=Interval(max(least, Fraction(0)), most),
        evidence=_evidence(first.procedure),
        shown=f"{_hours(max(least, Fraction(0)))} h",
    )


def _off(chart: Chart, segments: list[Segment], *, signed: bool, missing: tuple[str, ...]) -> Reading:
    """Off the ventilator: the last record ended, or says that it was not done; never concluded from nothing."""
    fresh = chart.now - chart.hours("support_sign_hours")
    stops = [(s.end, s.procedure) for s in segments if s.end is not None]
    stops += [
        (p.start.earliest, p)
        for p in _procedures(chart, VENTILATION)
        if p.status == "not-done" and p.start is not None and p.start.earliest >= fresh
    ]
    last = max(stops, key=lambda stop: stop[0], default=None)
    if last is None:
        return Reading(Reason.of("ventilation-start-not-stated" if signed else "no-record"), missing=missing)
    moment, procedure = last
    if any(m.when.earliest > moment for name in CHARTED_ON_A_VENTILATOR for m in chart.values(name)):
        return _asked(Reason.of("ventilator-after-end"), procedure, missing=missing)
    return Reading(
        Reason.of("ended", age=hours_text(chart.age(moment))),
        interval=Interval.of(0),
        evidence=_evidence(procedure),
        shown="off the ventilator",
    )


def _asked(reason: Reason, procedure: Procedure, *, missing: tuple[str, ...]) -> Reading:
    return Reading(reason, missing=missing, evidence=_evidence(procedure))


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


def _seconds(delta: timedelta) -> int:
    return int(delta.total_seconds())


def _hours(hours: Fraction) -> str:
    return decimal_text((Decimal(hours.numerator) / Decimal(hours.denominator)).quantize(Decimal("0.1")))


# --------------------------------------------------------------------------- stage 3: the run of P/F values


@dataclass(frozen=True, slots=True)
class Ratio:
    """One P/F value of the run; `interval` None: two FiO2 contradict each other, so nobody knows."""

    moment: datetime
    interval: Interval | None
    evidence: tuple[Evidence, ...]


def pf_history(chart: Chart, leaf: Leaf) -> Reading:
    """Whether P/F has been below a limit for longer than the span, on a ventilator for longer too (reading 3.18).

    `params`: below (mmHg), span_hours, ventilated_hours. The run is every value since the last one at or above the
    limit; the newest must be fresh.
    """
    spec = chart.input(leaf.input)
    missing = (spec.missing,)
    below = Decimal(str(leaf.params["below"]))
    span = timedelta(hours=float(str(leaf.params["span_hours"])))
    lost = chart.uncovered(spec.needs, chart.since(leaf.input))
    if lost is not None:
        return replace(lost, missing=missing)
    ecmo = support.ecmo_state(chart, support.ecmo_record(chart), by_absence=True)
    if ecmo.state in gas.UNDEFINED:
        return Reading(Reason.of("run-on-ecmo", ecmo=ecmo.shown), missing=("ecmo_status",), evidence=ecmo.evidence)
    ratios = _ratios(chart, chart.since(leaf.input), off=ecmo.state == "off", below=below)
    over = [r for r in ratios if r.interval is not None and r.interval.compared("<", below) is Finding.NOT_MET]
    if over and (over[0] is ratios[0] or chart.age(over[0].moment) <= span):
        age = hours_text(chart.age(over[0].moment))
        return Reading(Reason.of("run-broken", limit=below, age=age), state="no", evidence=over[0].evidence, shown="no")
    ventilated = ventilated_hours(chart, Leaf("mech_vent"))
    least = Decimal(str(leaf.params["ventilated_hours"]))
    long_enough = Finding.UNKNOWN if ventilated.interval is None else ventilated.interval.compared(">", least)
    if long_enough is Finding.NOT_MET:
        return Reading(ventilated.reason, state="no", evidence=ventilated.evidence, shown="no")
    run = [r for r in ratios if not over or r.moment > over[0].moment]
    if any(r.interval is None or r.interval.compared("<", below) is Finding.UNKNOWN for r in run):
        return Reading(Reason.of("run-in-doubt"), missing=missing, unreadable=True)
    evidence = (*run[0].evidence, *(run[-1].evidence if len(run) > 1 else ())) if run else ()
    fresh = chart.since("pf")
    lasted = bool(run) and run[0].moment - run[-1].moment > span and (fresh is None or run[0].moment >= fresh)
    if not lasted:
        also = ventilated.missing if long_enough is Finding.UNKNOWN else ()
        return Reading(_short(chart, run), missing=(*missing, *also), evidence=evidence)
    if long_enough is Finding.UNKNOWN:
        names = ventilated.missing or (chart.input("mech_vent").missing,)
        return Reading(ventilated.reason, missing=names, failed=ventilated.failed, evidence=evidence)
    hours = _hours(Fraction(_seconds(run[0].moment - run[-1].moment), 3600))
    reason = Reason.of("run", limit=below, hours=hours, count=len(run))
    return Reading(reason, state="yes", evidence=evidence, shown=f"{hours} h")


def _short(chart: Chart, run: list[Ratio]) -> Reason:
    if not run:
        return Reason.of("never-measured")
    hours = _hours(Fraction(_seconds(run[0].moment - run[-1].moment), 3600))
    window, age = chart.input("pf").window, chart.age(run[0].moment)
    params = {"count": len(run), "hours": hours, "age": hours_text(age)}
    if window is not None and age > window:
        return Reason.of("run-stale", **params, limit=hours_text(window))
    return Reason.of("run-too-short", **params)


def _ratios(chart: Chart, since: datetime | None, *, off: bool, below: Decimal) -> list[Ratio]:
    """Computed ratios, and charted ones of instants without a computed one, newest first (reading 3.4).

    Off ECMO a gas without FiO2 whose tension alone reaches the limit is above it; any other is no value.
    """
    found: dict[datetime, Ratio] = {}
    for pair in chart.facts.pairs:
        moment = pair.gas.when.earliest
        if (since is not None and moment < since) or not (pair.gas.specimen or off):
            continue
        evidence = tuple(Evidence.measured(m) for m in (pair.gas, pair.fio2) if m is not None)
        tension = Interval.of(pair.gas.value or 0, pair.gas.comparator)
        if pair.why == "conflict":
            found[moment] = Ratio(moment, None, evidence)
        elif pair.fio2 is not None:
            found[moment] = Ratio(moment, tension.divided_by(Fraction(pair.fio2.value or 1)), evidence)
        elif off and tension.compared(">=", below) is Finding.MET:
            found[moment] = Ratio(moment, replace(tension, high=None), evidence)
    for m in chart.values("pf", since=since) if off else ():
        charted = Ratio(m.when.earliest, Interval.of(m.value or 0, m.comparator), (Evidence.measured(m),))
        found.setdefault(m.when.earliest, charted)
    return sorted(found.values(), key=lambda r: r.moment, reverse=True)


# --------------------------------------------------------------------------- evolved stage 3


@dataclass(frozen=True, slots=True)
class Pump:
    """One record of noradrenaline: from when to when it speaks for. `open`: it runs, and speaks for now."""

    start: datetime
    end: datetime
    open: bool
    use: MedicationUse

    @property
    def charted(self) -> datetime:
        """When somebody last said so: of a record that is still open that was at its start."""
        return self.start if self.open else self.end

    @property
    def original(self) -> str:
        """As it is written."""
        return self.use.state if self.use.rate is None else self.use.rate.original


def noradrenaline(chart: Chart, leaf: Leaf) -> Reading:
    """Milligrams an hour of noradrenaline base that run now, all pumps together (reading B9).

    The newest record decides, with every other that covers its moment. Where an older one was left open beside a newer
    one that says something else, nobody knows. Pumps whose rate cannot be read still run, so the rest is a lower bound.
    The salt is what the site has signed, and is said beside the number.
    """
    spec = chart.input(leaf.input)
    missing = (spec.missing,)
    since = chart.since(leaf.input) or chart.now
    lost = chart.uncovered(spec.needs, since)
    if lost is not None:
        return replace(lost, missing=missing)
    given = [u for u in chart.facts.medications if u.kind == "administration"]
    pumps = [p for p in (_pump(chart, u) for u in given if NORADRENALINE in u.ingredients) if p is not None]
    newest = max((p.end for p in pumps), default=None)
    if newest is not None and newest >= since:
        against = _contradicted(pumps)
        if against is None:
            return _rate(chart, _at(pumps, newest), missing=missing)
        older, newer = against
        age = hours_text(chart.age(newer.charted))
        reason = Reason.of("rate-contradicted", older=older.original, newer=newer.original, age=age)
        return Reading(reason, missing=missing, unreadable=True, evidence=(_given(newer), _given(older)))
    if any(NORADRENALINE in u.possibly for u in given):
        reason = Reason.of("text-only-drug", drug=spec.title, title=spec.title)
        return Reading(reason, missing=missing, unreadable=True)
    if newest is not None:
        limit = hours_text(chart.now - since)
        return Reading(Reason.of("state-stale", age=hours_text(chart.age(newest)), limit=limit), missing=missing)
    ordered = any(u.state == "ordered" and NORADRENALINE in u.ingredients for u in chart.facts.medications)
    return Reading(Reason.of("ordered-not-given" if ordered else "no-record"), missing=missing)


def _pump(chart: Chart, use: MedicationUse) -> Pump | None:
    """It has to be fresh, so a date counts at its earliest instant. One that runs speaks for now, for seven days; after
    that for its start, whatever end was planned."""
    if use.start is None:
        return None
    start = use.start.earliest
    if use.running and chart.age(start) <= chart.hours("administration_runs_hours"):
        return Pump(start, chart.now, True, use)
    end = start if use.end is None or use.running else min(use.end.earliest, chart.now)
    return Pump(start, end, False, use)


def _contradicted(pumps: list[Pump]) -> tuple[Pump, Pump] | None:
    """An open record, and the newest one that began no earlier, is not open and has another rate; else None.

    Which of them is right cannot be told. One that ended where another begins was replaced by that.
    """
    starts = {p.start for p in pumps}
    over = [p for p in pumps if not p.open and (p.end == p.start or p.end not in starts)]
    for newer in sorted(over, key=lambda p: (p.charted, p.start), reverse=True):
        for older in pumps:
            if older.open and older.start <= newer.start and _says(older.use) != _says(newer.use):
                return older, newer
    return None


def _says(use: MedicationUse) -> tuple[object, ...]:
    """What two records of one pump have in common where they agree, however it is written."""
    return (use.state, None if use.rate is None else (use.rate.value, use.rate.unit))


def _at(pumps: list[Pump], moment: datetime) -> list[Pump]:
    """The records that cover the moment; one that ends where another begins was replaced by it."""
    begun = any(p.start == moment for p in pumps)
    return [p for p in pumps if p.start <= moment <= p.end and (p.start == moment or not (begun and p.end == moment))]


def _rate(chart: Chart, pumps: list[Pump], *, missing: tuple[str, ...]) -> Reading:
    total = Fraction(0)
    open_: list[Reading] = []
    weighed: list[Measurement] = []
    for pump in pumps:
        part, weight = _of_pump(chart, pump.use, missing=missing)
        if isinstance(part, Reading):
            open_.append(part)
        else:
            total += part
        weighed += weight
    evidence = (*(_given(p) for p in pumps), *(Evidence.measured(m) for m in dict.fromkeys(weighed)))
    if open_ and total == 0:
        return replace(open_[0], evidence=evidence)
    rate = f"{_rounded(total)} mg/h"
    age = hours_text(chart.age(max(p.charted for p in pumps)))
    if chart.facts.overlay.noradrenaline_salt == "tartrate":
        total *= Fraction(chart.limit("noradrenaline_tartrate_share"))
        reason = Reason.of("noradrenaline-tartrate", rate=rate, base=f"{_rounded(total)} mg/h", age=age)
    else:
        reason = Reason.of("noradrenaline-base", rate=rate, age=age)
    shown = f"{'at least ' if open_ else ''}{_rounded(total)} mg/h"
    return Reading(reason, interval=Interval(total, None if open_ else total), evidence=evidence, shown=shown)


def _of_pump(
    chart: Chart, use: MedicationUse, *, missing: tuple[str, ...]
) -> tuple[Fraction | Reading, list[Measurement]]:
    """What one record adds in mg/h as charted, or why that is not known, and the weight that it needed."""
    if use.state == "not-done":
        return Fraction(0), []
    rate = use.rate
    if rate is None:
        return Reading(Reason.of("rate-not-charted"), missing=missing), []
    if rate.value is None:
        code = Reason.of("rate-by-volume" if rate.why == "no-concentration" else "rate-unreadable", rate=rate.original)
        return Reading(code, missing=missing, unreadable=True), []
    if rate.unit == "mg/h":
        return Fraction(rate.value), []
    since = chart.now - chart.hours("noradrenaline_weight_hours")
    weight = next((m for m in chart.values("weight", since=since) if not m.comparator and m.value), None)
    if weight is None:
        lost = chart.uncovered(("screening",), since)
        reason = Reason.of("rate-without-weight", rate=rate.original) if lost is None else lost.reason
        return Reading(reason, missing=("weight",), failed=lost is not None and lost.failed), []
    return Fraction(rate.value) * Fraction(weight.value or 0), [weight]


def _given(pump: Pump) -> Evidence:
    use = pump.use
    return Evidence(NORADRENALINE, use.reference, original=pump.original, effective=pump.charted, label=use.label)


def _rounded(value: Fraction) -> str:
    return decimal_text((Decimal(value.numerator) / Decimal(value.denominator)).quantize(Decimal("0.001")))


def renal_failure(chart: Chart, leaf: Leaf) -> Reading:
    """Acute kidney failure, oligo-anuric or on dialysis; acute kidney injury alone leaves it open (reading 3.19).

    Chronic dialysis leaves it open too: the register means acute failure.
    """
    missing = (chart.input(leaf.input).missing,)
    anuria = _recorded(chart, "oligo-anuria", missing=missing)
    if anuria.state == "present":
        return anuria
    dialysis = support.dialysis(chart, Leaf("dialysis"))
    chronic = _recorded(chart, "dialysis-dependence", missing=missing)
    if chronic.state == "present":
        return Reading(Reason.of("chronic-dialysis"), missing=missing, evidence=chronic.evidence)
    if dialysis.state == "on":
        return replace(dialysis, state="present")
    injury = _recorded(chart, "renal-acute", missing=missing)
    for reading in (anuria, injury):
        if not reading.known:
            return reading
    if injury.state == "present":
        return Reading(Reason.of("kidney-injury-alone"), missing=missing, evidence=injury.evidence)
    return replace(dialysis, state="absent") if dialysis.state == "off" else dialysis


def liver_failure(chart: Chart, leaf: Leaf) -> Reading:
    """Factor V decides; hepatic failure without it is for a person to answer (reading B8)."""
    reading = labs.newest(chart, Leaf("factor_v"))
    missing = (chart.input(leaf.input).missing,)
    hepatic = _recorded(chart, "hepatic-failure", missing=missing)
    if reading.known or hepatic.state != "present":
        return reading
    return Reading(Reason.of("hepatic-failure-without-factor-v"), missing=missing, evidence=hepatic.evidence)


def myocarditis(chart: Chart, leaf: Leaf) -> Reading:
    """Myocarditis with active heart failure or cardiogenic shock; alone it leaves the question open (reading 3.19)."""
    missing = (chart.input(leaf.input).missing,)
    found = _recorded(chart, "myocarditis", missing=missing)
    if found.state != "present":
        return found
    heart = _recorded(chart, "heart-failure", missing=missing)
    if heart.state == "present":
        return replace(found, evidence=(*found.evidence, *heart.evidence))
    return Reading(Reason.of("myocarditis-alone"), missing=missing, failed=heart.failed, evidence=found.evidence)


def haemophagocytosis(chart: Chart, leaf: Leaf) -> Reading:
    """Haemophagocytic syndrome on the problem list."""
    return _recorded(chart, "hlh", missing=(chart.input(leaf.input).missing,))


def _recorded(chart: Chart, concept: str, *, missing: tuple[str]) -> Reading:
    """As `records.condition`, but a diagnosis that nobody has confirmed is a question."""
    found = records.condition(chart, Leaf("condition", params={"concepts": concept, "missing": missing[0]}))
    if found.state != "present":
        return found
    named = [c for c in chart.facts.conditions if c.active and concept in c.concepts]
    if any(c.verification in CONFIRMED for c in named):
        return found
    return Reading(Reason.of("condition-not-confirmed", label=named[0].label), missing=missing, evidence=found.evidence)


# --------------------------------------------------------------------------- what a person confirms


def covid_specimen(chart: Chart, leaf: Leaf) -> Reading:
    """The specimen of the positive RT-PCR: the register asks for a nasopharyngeal one or a lavage (reading 1)."""
    missing = (chart.input(leaf.input).missing,)
    tests = chart.values("sarscov2_pcr", since=chart.since("sarscov2_pcr"))
    positive = [m for m in tests if m.coded == "positive"]
    if not positive:
        return Reading(Reason.of("no-positive-pcr"), missing=missing)
    for specimen in ("nasopharyngeal", "lavage", "other"):
        used = next((m for m in positive if m.specimen == specimen), None)
        if used is not None:
            reason = Reason.of("specimen-other" if specimen == "other" else "specimen", specimen=specimen)
            return Reading(reason, state=specimen, evidence=(Evidence.measured(used),), shown=specimen)
    return Reading(Reason.of("specimen-not-stated"), missing=missing, evidence=(Evidence.measured(positive[0]),))
