"""The newest usable value of a quantity inside its window, and the readings built on it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

from app.clinical.chart import Chart, hours_text
from app.clinical.intervals import Interval
from app.clinical.knowledge import Leaf
from app.clinical.reading import Evidence, Note, Reading, Reason, decimal_text, unit_text
from fhir_mappings.facts import Gap, Measurement


def newest(chart: Chart, leaf: Leaf) -> Reading:
    """The newest value inside the window (readings 1, 3.2, 3.3). Unknown: never measured, stale, refused, conflict."""
    name = leaf.input
    spec = chart.input(name)
    since = chart.since(name)
    lost = chart.uncovered(spec.needs, since)
    if lost is not None:
        return replace(lost, missing=(spec.missing,))
    return _newest(chart, name=name, concepts=(spec.concept,))


def neutrophils(chart: Chart, leaf: Leaf) -> Reading:
    """The newest neutrophil count, doubted by a newer leucocyte count below it *(ours)*.

    Laboratories skip the differential exactly when the leucocytes collapse: neutrophils cannot be more than they are.
    """
    reading = newest(chart, leaf)
    if reading.interval is None:
        return reading
    used = chart.values("anc", since=chart.since("anc"))[0]
    for total in chart.values("wbc", since=used.when.earliest)[:1]:
        if total.value is not None and used.value is not None and total.value < used.value and not total.comparator:
            age = hours_text(chart.age(total.when.earliest))
            return replace(
                reading,
                interval=Interval(Fraction(0), Fraction(total.value)),
                reason=Reason.of("below-leucocytes", value=shown(total), age=age),
                evidence=(*reading.evidence, Evidence.measured(total)),
                displaced=True,
                shown=f"at most {shown(total)} (leucocytes)",
            )
    return reading


def multiple_of_limit(chart: Chart, leaf: Leaf) -> Reading:
    """ALT or AST as multiples of the laboratory's upper limit of normal (reading 3.9); without a limit unknown."""
    plain = newest(chart, leaf)
    if plain.interval is None:
        return plain
    used = chart.values(leaf.input, since=chart.since(leaf.input))[0]
    if used.uln is None:
        return Reading(
            Reason.of("no-upper-limit", value=plain.shown),
            missing=(f"{leaf.input}_uln",),
            evidence=plain.evidence,
            notes=plain.notes,
        )
    limit = Fraction(used.uln)
    times = f"{float(Fraction(used.value or 0) / limit):.1f}"
    shown = f"{plain.shown} ({times} x upper limit {decimal_text(used.uln)}, {used.uln_origin})"
    return replace(plain, interval=plain.interval.divided_by(limit), shown=shown)


def creatinine_clearance(chart: Chart, leaf: Leaf) -> Reading:
    """Clearance in mL/min: the newest, measured before estimated of one instant (reading 3.15); never an eGFR.

    An estimate (Cockcroft-Gault) is labelled. A refused weight is a reason why there is none; it says nothing against
    a value that stands.
    """
    name = leaf.input
    spec = chart.input(name)
    since = chart.since(name)
    lost = chart.uncovered(spec.needs, since)
    if lost is not None:
        return replace(lost, missing=(spec.missing,))
    fresh = chart.values("crcl", since=since)
    reading = _newest(chart, name=name, concepts=("crcl", "creatinine", *(() if fresh else ("weight",))))
    if reading.interval is not None and fresh[0].kind == "estimated":
        return reading.with_notes(Note(Reason.of("estimated-clearance", value=reading.shown)))
    egfr = chart.values("egfr", since=since)
    if reading.interval is None and egfr:
        return reading.with_notes(Note(Reason.of("egfr-is-not-clearance", value=shown(egfr[0]))))
    return reading


def shown(m: Measurement) -> str:
    """A value as the card prints it: comparator, canonical number, unit."""
    if m.value is None:
        return m.coded
    value = m.value.quantize(Decimal("0.1")) if m.kind in {"derived", "estimated"} else m.value
    return f"{m.comparator}{decimal_text(value)} {unit_text(m.unit)}".strip()


def reported(m: Measurement) -> str:
    """The value with what the laboratory wrote beside it, where the number differs (hazard HZ-03)."""
    text = shown(m)
    if m.value is None or not m.original or decimal_text(m.value) in m.original.replace(",", "."):
        return text
    return f"{text} (reported {m.original})" if m.kind not in {"derived", "estimated"} else text


def _newest(chart: Chart, *, name: str, concepts: tuple[str, ...]) -> Reading:
    """The newest value of the first concept; a refused result of any of them displaces it."""
    spec = chart.input(name)
    since = chart.since(name)
    fresh = chart.values(concepts[0], since=since)
    newer = chart.displacing(concepts, used=fresh[0].when.earliest if fresh else None, since=since)
    conflict = next((g for g in newer if g.why == "conflict"), None)
    if conflict is not None:
        return Reading(_refusal(conflict), missing=(spec.missing,), unreadable=True)
    if not fresh:
        if newer:
            return Reading(_refusal(newer[0]), missing=(spec.missing,), unreadable=True)
        return Reading(_nothing(chart, name=name, values=chart.values(concepts[0])), missing=(spec.missing,))
    used = fresh[0]
    notes = tuple(Note(Reason.refused("newer-refused", g, input=spec.title), withholds=True) for g in newer[:1])
    return Reading(
        Reason.of("value", value=shown(used), age=hours_text(chart.age(used.when.earliest))),
        interval=Interval.of(used.value or 0, used.comparator),
        evidence=(Evidence.measured(used),),
        displaced=bool(newer),
        notes=notes,
        shown=reported(used),
    )


def _nothing(chart: Chart, *, name: str, values: list[Measurement]) -> Reason:
    window = chart.input(name).window
    if values and window is not None:
        age = chart.age(values[0].when.earliest)
        return Reason.of("stale", value=shown(values[0]), age=hours_text(age), limit=hours_text(window))
    if name in chart.facts.overlay.not_measured:
        return Reason.of("not-measured-at-site")
    return Reason.of("never-measured")


def _refusal(gap: Gap) -> Reason:
    return Reason.refused("refused", gap)
