"""PaO2/FiO2 and compliance of the respiratory system (readings 3.4 to 3.7, A2, A3, A7, A8)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction

from app.clinical.chart import Chart, hours_text
from app.clinical.findings import Finding
from app.clinical.intervals import Interval
from app.clinical.knowledge import Leaf
from app.clinical.readers.labs import shown
from app.clinical.readers.support import ecmo_record, ecmo_state
from app.clinical.reading import Evidence, Note, Reading, Reason, decimal_text
from fhir_mappings.facts import Gap, GasPair, Measurement

UNDEFINED = frozenset({"va", "generic"})
"""On veno-arterial ECMO, or one whose configuration nobody states, the P/F clauses are undefined (reading A7)."""


@dataclass(frozen=True, slots=True)
class Newest:
    """The gas or charted ratio that decides, with the ECMO state in force at that moment."""

    reading: Reading
    moment: datetime | None
    ecmo: Reading


def pf(chart: Chart, leaf: Leaf) -> Reading:  # noqa: ARG001
    """PaO2/FiO2 in mmHg."""
    return newest(chart).reading


def ecmo_at_gas(chart: Chart, leaf: Leaf) -> Reading:  # noqa: ARG001
    """The ECMO state in force when the deciding gas was drawn; now, when there is none."""
    return newest(chart).ecmo


def ecmo_fdo2(chart: Chart, leaf: Leaf) -> Reading:
    """The oxygen fraction on the oxygenator in force when the gas was drawn; never a ventilator FiO2 (reading 3.7)."""
    spec = chart.input(leaf.input)
    since = chart.since(leaf.input)
    lost = chart.uncovered(spec.needs, since)
    if lost is not None:
        return replace(lost, missing=(spec.missing,))
    moment = newest(chart).moment or chart.now
    in_force = [m for m in chart.values("ecmo_fdo2", since=since) if _begins(m) <= moment]
    newer = [
        gap
        for gap in chart.displacing(("ecmo_fdo2",), used=in_force[0].when.earliest if in_force else None, since=since)
        if gap.when is None or gap.when.earliest <= moment
    ]
    if newer and (not in_force or any(gap.why == "conflict" for gap in newer)):
        return Reading(Reason.refused("refused", newer[0]), missing=(spec.missing,), unreadable=True)
    if not in_force:
        return Reading(Reason.of("not-recorded-at-gas"), missing=(spec.missing,))
    used = in_force[0]
    notes = tuple(Note(Reason.refused("newer-refused", g, input=spec.title), withholds=True) for g in newer[:1])
    percent = f"{decimal_text((used.value or Decimal(0)) * 100)} %"
    return Reading(
        Reason.of("value", value=percent, age=hours_text(chart.age(used.when.earliest))),
        interval=Interval.of(used.value or 0, used.comparator),
        evidence=(Evidence.measured(used),),
        notes=notes,
        shown=percent,
    )


def newest(chart: Chart) -> Newest:
    """Which gas decides, and the ratio it gives. Worked out once per assessment."""
    return chart.once(("gas",), lambda: _newest(chart))


def ratio_text(pair: GasPair) -> str:
    """The ratio as `values.pf` gives it: two decimals, half to even; never compared."""
    if pair.fio2 is None:
        return ""
    exact = Fraction(pair.gas.value or 0) / Fraction(pair.fio2.value or 1)
    quotient = Decimal(exact.numerator) / Decimal(exact.denominator)
    return decimal_text(quotient.quantize(Decimal("0.01"), rounding=ROUND_HALF_EVEN))


def newest_pair(chart: Chart) -> GasPair | None:
    """The newest gas with an FiO2 inside the window, for `values.pf`."""
    since = chart.since("pf")
    pairs = [p for p in chart.facts.pairs if p.fio2 is not None and (since is None or p.gas.when.earliest >= since)]
    return max(pairs, key=lambda p: p.gas.when.earliest, default=None)


def _newest(chart: Chart) -> Newest:
    record = ecmo_record(chart)
    ecmo = ecmo_state(chart, record, by_absence=True)
    missing = (chart.input("pf").missing,)
    since = chart.since("pf")
    lost = chart.uncovered(chart.input("pf").needs, since)
    if lost is not None:
        return Newest(replace(lost, missing=missing), None, ecmo)
    refused = [g for g in chart.refused(("pao2", "fio2", "pf"), since=since) if _concerns(g, ecmo)]
    conflicts = [g for g in refused if g.why == "conflict" and g.concept != "fio2"]
    notes: list[Note] = []
    for moment, pair, charted in _candidates(chart, since):
        if any(_outweighs(g, chart.gap_time(g), moment, pair) for g in conflicts):
            break
        if record.changed is not None and moment < record.changed:
            reason = Reason.of("gas-before-ecmo-change")
            return Newest(Reading(reason, missing=missing, notes=tuple(notes)), None, ecmo)
        reading: Reading | None = None
        if pair is not None:
            reading = _of_gas(chart, pair, ecmo, charted, notes)
        elif charted is not None and ecmo.state == "off":
            reading = _charted(chart, charted)
        if reading is not None:
            newer = [g for g in refused if g.concept != "fio2" and chart.gap_time(g) > moment]
            return Newest(reading.with_notes(*notes, *_refused(chart, newer[:1])), moment, ecmo)
    reason = _why_none(chart, bool(conflicts))
    return Newest(Reading(reason, missing=missing, unreadable=bool(refused), notes=tuple(notes)), None, ecmo)


def _concerns(gap: Gap, ecmo: Reading) -> bool:
    """A charted ratio counts off ECMO only, so a refused one says nothing on it."""
    return gap.concept != "pf" or ecmo.state == "off"


def _outweighs(conflict: Gap, at: datetime, moment: datetime, pair: GasPair | None) -> bool:
    """After a conflict nothing older is used (reading 3.2); of one instant the computed ratio decides (reading 3.4)."""
    return at > moment or (at == moment and (pair is None or conflict.concept == "pao2"))


def _refused(chart: Chart, gaps: list[Gap]) -> tuple[Note, ...]:
    title = chart.input("pf").title
    return tuple(Note(Reason.refused("newer-refused", g, input=title), withholds=True) for g in gaps)


def _candidates(chart: Chart, since: datetime | None) -> list[tuple[datetime, GasPair | None, Measurement | None]]:
    """Gases and charted ratios inside the window, newest first; at one instant the computed one comes first."""
    charted = chart.values("pf", since=since)
    at: dict[datetime, Measurement] = {m.when.earliest: m for m in reversed(charted)}
    found: list[tuple[datetime, GasPair | None, Measurement | None]] = [
        (p.gas.when.earliest, p, at.get(p.gas.when.earliest))
        for p in chart.facts.pairs
        if since is None or p.gas.when.earliest >= since
    ]
    found += [(moment, None, m) for moment, m in at.items()]
    return sorted(found, key=lambda c: (c[0], c[1] is not None), reverse=True)


def _of_gas(
    chart: Chart, pair: GasPair, ecmo: Reading, charted: Measurement | None, notes: list[Note]
) -> Reading | None:
    """The reading of one gas, or None when an older value stays in force."""
    gas, fio2 = pair.gas, pair.fio2
    missing = (chart.input("pf").missing,)
    if not gas.specimen and ecmo.state != "off":
        notes.append(Note(Reason.of("gas-specimen-on-ecmo")))
        return None
    if pair.why == "conflict":
        reason = Reason.of("fio2-conflict", gas=shown(gas))
        return Reading(reason, missing=missing, unreadable=True, evidence=_evidence(gas, fio2, pair.also))
    if fio2 is None:
        return _unpaired(chart, gas, ecmo, charted, notes)
    if ecmo.state in UNDEFINED:
        reason = Reason.of("pf-undefined-on-ecmo", ecmo=ecmo.shown)
        return Reading(reason, missing=("ecmo_status",), evidence=_evidence(gas, fio2))
    if pair.refused:
        notes.append(Note(Reason.of("nearer-fio2-refused"), withholds=True))
    ratio = ratio_text(pair)
    exact = Fraction(gas.value or 0) / Fraction(fio2.value or 1)
    if charted is not None and abs(Fraction(charted.value or 0) - exact) * 10 > exact:
        notes.append(Note(Reason.of("charted-differs", charted=shown(charted), computed=f"{ratio} mmHg")))
    percent = decimal_text((fio2.value or Decimal(0)) * 100)
    return Reading(
        Reason.of("value", value=f"{ratio} mmHg", age=hours_text(chart.age(gas.when.earliest))),
        interval=Interval.of(gas.value or 0, gas.comparator).divided_by(Fraction(fio2.value or 1)),
        evidence=_evidence(gas, fio2),
        shown=f"{gas.comparator}{ratio} mmHg (PaO2 {decimal_text(gas.value or Decimal(0))} at {_clock(chart, gas)}, "
        f"FiO2 {percent} % at {_clock(chart, fio2)})",
    )


def _clock(chart: Chart, m: Measurement) -> str:
    """When it was taken, on the facility's clock; its age stands beside it."""
    return m.when.earliest.astimezone(chart.zone).strftime("%H:%M")


def _unpaired(
    chart: Chart, gas: Measurement, ecmo: Reading, charted: Measurement | None, notes: list[Note]
) -> Reading | None:
    """A gas without FiO2: off ECMO 100 mmHg or more decides "not below 100", as no FiO2 exceeds 1 (reading 3.4)."""
    if Interval.of(gas.value or 0, gas.comparator).compared(">=", chart.limit("unpaired_gas_mmhg")) is not Finding.MET:
        if charted is None or ecmo.state != "off":
            notes.append(Note(Reason.of("gas-without-fio2", gas=shown(gas)), withholds=True))
        return None
    if ecmo.state != "off":
        missing = (chart.input("pf").missing,)
        return Reading(Reason.of("no-fio2", gas=shown(gas)), missing=missing, evidence=_evidence(gas))
    age = hours_text(chart.age(gas.when.earliest))
    return Reading(
        Reason.of("unpaired-not-below", gas=shown(gas), age=age),
        interval=Interval(Fraction(gas.value or 0), None),
        evidence=_evidence(gas),
        shown=f"at least {shown(gas)} (gas without FiO2)",
    )


def _charted(chart: Chart, m: Measurement) -> Reading:
    return Reading(
        Reason.of("value", value=f"{shown(m)}, charted", age=hours_text(chart.age(m.when.earliest))),
        interval=Interval.of(m.value or 0, m.comparator),
        evidence=_evidence(m),
        shown=f"{m.comparator}{decimal_text(m.value or Decimal(0))} mmHg (charted)",
    )


def _why_none(chart: Chart, conflict: bool) -> Reason:
    if conflict:
        return Reason.of("conflict")
    stale = max((p.gas.when.earliest for p in chart.facts.pairs), default=None)
    window = chart.input("pf").window
    if stale is not None and window is not None and chart.age(stale) > window:
        return Reason.of("gas-stale", age=hours_text(chart.age(stale)), limit=hours_text(window))
    if chart.facts.pairs:
        return Reason.of("no-usable-pair")
    if any(g.concept == "pao2" for g in chart.facts.gaps):
        return Reason.of("gases-not-usable")
    return Reason.of("never-measured")


def _evidence(*used: Measurement | None) -> tuple[Evidence, ...]:
    return tuple(Evidence.measured(m) for m in used if m is not None)


def _begins(m: Measurement) -> datetime:
    return m.period_start or m.when.earliest


def compliance(chart: Chart, leaf: Leaf) -> Reading:
    """Static compliance of the respiratory system in mL/cmH2O; bounds take part only when they decide (reading 3.6)."""
    spec = chart.input(leaf.input)
    since = chart.since(leaf.input)
    missing = (spec.missing,)
    lost = chart.uncovered(spec.needs, since)
    if lost is not None:
        return replace(lost, missing=missing)
    values = chart.values("crs", since=since)
    true = next((m for m in values if m.kind in {"static", "derived"}), None)
    bounds = [
        m
        for m in values
        if m.kind in {"lower-bound", "upper-bound"}
        and (true is None or m.when.earliest > true.when.earliest)
        and _bound(m).compared(leaf.op, leaf.value or Decimal(0)) is not Finding.UNKNOWN
    ]
    lines = tuple(
        Note(Reason.of("bound-only", value=shown(m), kind=m.kind))
        for m in values
        if m.kind in {"lower-bound", "upper-bound"} and m not in bounds
    )[:1]
    if len({m.kind for m in bounds}) > 1:
        reason = Reason.of("bounds-contradict", first=shown(bounds[0]), second=shown(bounds[-1]))
        return Reading(reason, missing=missing, unreadable=True, evidence=_evidence(*bounds[:2]))
    used = bounds[0] if bounds else true
    newer = chart.displacing(
        ("crs", "pplat", "peep", "vt"), used=None if used is None else used.when.earliest, since=since
    )
    if any(g.why == "conflict" and g.concept == "crs" for g in newer):
        return Reading(Reason.of("conflict"), missing=missing, unreadable=True)
    if used is None:
        if newer:
            reason = Reason.refused("refused", newer[0])
            return Reading(reason, missing=missing, unreadable=True, notes=lines)
        return Reading(_no_compliance(chart, bool(lines)), missing=missing, notes=lines)
    notes = tuple(Note(Reason.refused("newer-refused", g, input=spec.title), withholds=True) for g in newer[:1])
    words = {
        "static": "static",
        "derived": "from Vt, plateau and PEEP",
        "lower-bound": "a lower bound: dynamic compliance or Vt/Pplat",
        "upper-bound": "an upper bound: lung compliance",
    }
    interval = _bound(used) if bounds else Interval.of(used.value or 0, used.comparator)
    return Reading(
        Reason.of("value", value=shown(used), age=hours_text(chart.age(used.when.earliest))),
        interval=interval,
        evidence=_evidence(used),
        notes=(*notes, *lines),
        shown=f"{used.comparator}{_one_decimal(used.value)} mL/cmH2O ({words[used.kind]})",
    )


def _no_compliance(chart: Chart, bounded: bool) -> Reason:
    if bounded:
        return Reason.of("bound-does-not-decide")
    stale = next(iter(chart.values("crs")), None)
    window = chart.input("crs").window
    if stale is not None and window is not None:
        age = hours_text(chart.age(stale.when.earliest))
        return Reason.of("stale", value=shown(stale), age=age, limit=hours_text(window))
    return Reason.of("no-compliance")


def _bound(m: Measurement) -> Interval:
    """A lower bound says at least, an upper bound at most; a comparator can only weaken it."""
    exact = Fraction(m.value or 0)
    if m.kind == "lower-bound":
        return Interval(None if m.comparator in {"<", "<="} else exact, None, open_low=m.comparator == ">")
    return Interval(None, None if m.comparator in {">", ">="} else exact, open_high=m.comparator == "<")


def _one_decimal(value: Decimal | None) -> str:
    return decimal_text((value or Decimal(0)).quantize(Decimal("0.1")))
