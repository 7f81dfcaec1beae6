"""Values that nobody sent but that follow from others: the FiO2 of a gas, static compliance from pressures and tidal
volume, neutrophils and lymphocytes from a differential, the ratio of the two, and creatinine clearance by Cockcroft
and Gault.

Pure functions of the facts. What they add is labelled `derived` or `estimated` and names its parts. Windows are data
(`Pairing`): every one of them is ours (reading 1).

Gap codes (params): plateau-not-above-peep (seen), implausible (seen, unit).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Context as Arithmetic
from decimal import Decimal
from zoneinfo import ZoneInfo

from fhir_mappings.facts import Facts, Gap, GasPair, Measurement, Patient, When
from fhir_mappings.units import quantities

ROOM_AIR = Decimal("0.21")
SOURCE = "derived"
"""The `Gap.source` of what could not be derived."""

_ARITHMETIC = Arithmetic(prec=28)
_HUNDRED = Decimal(100)
_UMOL_IN_MG_DL = Decimal("88.4")
_ADULT = 18
_MINUTE = timedelta(minutes=1)
_VENTILATION = frozenset({"ventilation", "ventilation-invasive"})
_SETTINGS = frozenset({"loinc|19994-3"})
"""A set FiO2 comes before a measured one of the same instant (terminology 2.1: preferred when ventilated)."""


@dataclass(frozen=True, slots=True)
class Pairing:
    """How far apart values may lie that are used together.

    fio2: FiO2 and gas. ventilated: a sign of ventilation before a gas. mechanics: plateau, PEEP and tidal volume of
    each other. weight: before the creatinine. disagreement: two FiO2 of one minute that differ by more are a conflict.
    """

    fio2: timedelta = timedelta(minutes=30)
    ventilated: timedelta = timedelta(hours=24)
    mechanics: timedelta = timedelta(minutes=30)
    weight: timedelta = timedelta(days=30)
    disagreement: Decimal = Decimal("0.05")


def derive(facts: Facts, *, pairing: Pairing | None = None) -> Facts:
    """The facts with `pairs`, and with derived compliance, neutrophils and clearance added. Idempotent."""
    rules = pairing or Pairing()
    sent = replace(
        facts,
        measurements=tuple(m for m in facts.measurements if m.kind not in {"derived", "estimated"}),
        gaps=tuple(g for g in facts.gaps if g.source != SOURCE),
    )
    added: list[Measurement] = []
    gaps: list[Gap] = []
    _compliance(sent, rules, added, gaps)
    _counts(sent, _NEUTROPHILS, added, gaps)
    _counts(sent, _LYMPHOCYTES, added, gaps)
    _neutrophils_to_lymphocytes(sent, added)
    _clearance(sent, rules, added, gaps)
    pairs = _Pairs(sent, rules)
    return replace(
        sent,
        measurements=(*sent.measurements, *added),
        gaps=(*sent.gaps, *gaps),
        pairs=tuple(pairs.of(gas) for gas in sent.of("pao2")),
    )


def _exactly(measurements: Iterable[Measurement]) -> list[Measurement]:
    """Those that are a number, not a bound: a bound cannot be calculated with."""
    return [m for m in measurements if not m.comparator and m.value is not None]


def _number(measurement: Measurement) -> Decimal:
    return measurement.value if measurement.value is not None else Decimal("NaN")


def _at(measurement: Measurement, moment: datetime) -> datetime | None:
    """The instant it counts at beside that moment: a period that contains the moment counts as at it (reading 1).

    None for a date without time: nobody knows how far from the moment it was.
    """
    start = measurement.period_start
    if start is not None and start <= moment <= measurement.when.latest:
        return moment
    return measurement.when.earliest if measurement.when.exact else None


# --------------------------------------------------------------------------- FiO2 of a gas (reading 3.4)


class _Pairs:
    """The FiO2 of each gas; what all gases share is sorted out once."""

    def __init__(self, facts: Facts, rules: Pairing) -> None:
        self.rules = rules
        fio2 = _exactly(facts.of("fio2"))
        self.periods = [m for m in fio2 if m.period_start is not None]
        points = [m for m in fio2 if m.period_start is None and m.when.exact]
        self.points = sorted(points, key=lambda m: (m.when.earliest, m.reference))
        self.instants = [m.when.earliest for m in self.points]
        self.panels: dict[str, list[Measurement]] = {}
        for one in fio2:
            self.panels.setdefault(one.panel, []).append(one)
        self.refusals = facts.refused(["fio2"])
        self.procedures = [p for p in facts.procedures if not _VENTILATION.isdisjoint(p.concepts)]
        signs = [m for name in ("peep", "pplat", "vt") for m in facts.of(name)]
        self.signs = [m.when for m in (*signs, *fio2) if m.concept != "fio2" or m.kind == "ventilator"]

    def of(self, gas: Measurement) -> GasPair:
        """The gas with its FiO2, or with the reason why there is none."""
        candidates = self.candidates(gas)
        used = self.used(candidates, gas)
        if used is None:
            return GasPair(gas, None, "no-fio2", refused=self.refused(gas, None))
        at = candidates[used]
        for other, instant in candidates.items():
            apart = abs(_number(other) - _number(used))
            if abs(instant - at) < _MINUTE and apart > self.rules.disagreement:
                return GasPair(gas, None, "conflict", also=other, refused=self.refused(gas, at))
        return GasPair(gas, used, refused=self.refused(gas, at))

    def candidates(self, gas: Measurement) -> dict[Measurement, datetime]:
        """FiO2 within the window and the instant each counts at. One entered with the gas counts at the gas."""
        moment, reach = gas.when.earliest, self.rules.fio2
        found: dict[Measurement, datetime] = {}
        if gas.when.exact:
            first, last = bisect_left(self.instants, moment - reach), bisect_right(self.instants, moment + reach)
            found.update(zip(self.points[first:last], self.instants[first:last], strict=True))
            for fio2 in self.periods:
                at = _at(fio2, moment)
                if at is not None and abs(at - moment) <= reach:
                    found[fio2] = at
        if gas.panel:
            found.update(dict.fromkeys(self.panels.get(gas.panel, ()), moment))
        if any(_is_default(gas, fio2) for fio2 in found) and self.ventilated(gas):
            found = {fio2: at for fio2, at in found.items() if not _is_default(gas, fio2)}
        return found

    def used(self, candidates: dict[Measurement, datetime], gas: Measurement) -> Measurement | None:
        """The last ventilator value at or before the gas, one entered with it, the first after it: in this order."""
        moment = gas.when.earliest
        ventilator = [m for m, at in candidates.items() if at <= moment and m.kind == "ventilator"]
        entered = [m for m in candidates if _entered_with(gas, m)]
        after = [m for m, at in candidates.items() if at > moment]
        for group in (ventilator, entered, after):
            if group:
                return min(group, key=lambda m: (abs(moment - candidates[m]), *_preference(m)))
        return None

    def ventilated(self, gas: Measurement) -> bool:
        """True with a sign of ventilation in the last 24 h before the gas, or a ventilation that was running."""
        moment = gas.when.latest
        since = gas.when.earliest - self.rules.ventilated
        if any(since <= when.latest and when.earliest <= moment for when in self.signs):
            return True
        return any(
            (p.start is None or p.start.earliest <= moment)
            and (p.status == "in-progress" if p.end is None else p.status != "not-done" and moment <= p.end.latest)
            for p in self.procedures
        )

    def refused(self, gas: Measurement, at: datetime | None) -> str:
        """The reference of a refused FiO2 at least as close to the gas as the used one, else '' (reading 3.3).

        One without any time counts as close: nothing says that it is not.
        """
        moment = gas.when.earliest
        reach = self.rules.fio2 if at is None else abs(at - moment)
        for gap in self.refusals:
            if gap.when is None or _distance(gap.when, moment) <= reach:
                return gap.reference
        return ""


def _distance(when: When, moment: datetime) -> timedelta:
    """How far the interval is from the moment; nothing when it contains it."""
    return max(when.earliest - moment, moment - when.latest, timedelta())


def _preference(measurement: Measurement) -> tuple[bool, bool, str]:
    return measurement.kind != "ventilator", measurement.code not in _SETTINGS, measurement.reference


def _same_panel(gas: Measurement, other: Measurement) -> bool:
    return other.panel != "" and other.panel == gas.panel


def _entered_with(gas: Measurement, fio2: Measurement) -> bool:
    return _same_panel(gas, fio2) or (gas.when.exact and fio2.when == gas.when)


def _is_default(gas: Measurement, fio2: Measurement) -> bool:
    """True for 0.21 entered with the gas: in a ventilated patient the default of the analyser."""
    return fio2.kind != "ventilator" and fio2.value == ROOM_AIR and _entered_with(gas, fio2)


# --------------------------------------------------------------------------- compliance (reading 3.6)


def _compliance(facts: Facts, rules: Pairing, added: list[Measurement], gaps: list[Gap]) -> None:
    """Vt / (Pplat - PEEP) at each plateau pressure, with the nearest PEEP (total before set) and tidal volume."""
    plateaus = [m for m in _exactly(facts.of("pplat")) if m.when.exact]
    volumes, peeps = _exactly(facts.of("vt")), _exactly(facts.of("peep"))
    low, high = quantities()["crs"].hard
    for plateau in plateaus:
        moment = plateau.when.earliest
        near_volumes = _near(volumes, moment, rules.mechanics, first="delivered")
        near_peeps = _near(peeps, moment, rules.mechanics, first="total")
        triple = next(
            (
                (volume, peep)
                for peep, peep_at in near_peeps
                for volume, volume_at in near_volumes
                if abs(volume_at - peep_at) <= rules.mechanics
            ),
            None,
        )
        if triple is None:
            continue
        volume, peep = triple
        seen = f"{plateau.original}; PEEP {peep.original}"
        driving = _number(plateau) - _number(peep)
        if driving <= 0:
            gaps.append(_gap("plateau-not-above-peep", "crs", plateau, (("seen", seen),)))
            continue
        value = _ARITHMETIC.divide(_number(volume), driving)
        if not low <= value <= high:
            params = (("seen", f"{volume.original} / ({plateau.original} - {peep.original})"), ("unit", "mL/cm[H2O]"))
            gaps.append(_gap("implausible", "crs", plateau, params))
            continue
        added.append(
            Measurement(
                concept="crs",
                reference=plateau.reference,
                when=plateau.when,
                value=value,
                unit="mL/cm[H2O]",
                original=f"{volume.original} / ({plateau.original} - {peep.original})",
                label="Vt / (plateau - PEEP)",
                kind="derived",
                period_start=plateau.period_start,
                status=plateau.status,
                parts=(volume.reference, plateau.reference, peep.reference),
            )
        )


def _near(
    measurements: Sequence[Measurement], moment: datetime, reach: timedelta, *, first: str
) -> list[tuple[Measurement, datetime]]:
    """Those within reach of the moment with the instant they count at: the named kind first, then the nearest."""
    found = [(m, at) for m in measurements if (at := _at(m, moment)) is not None and abs(at - moment) <= reach]
    found.sort(key=lambda pair: (pair[0].kind != first, abs(pair[1] - moment), pair[0].reference))
    return found


def _gap(why: str, concept: str, at: Measurement, params: tuple[tuple[str, str], ...]) -> Gap:
    return Gap(SOURCE, why, concept, at.reference, at.when, displaces=True, params=params)


# --------------------------------------------------------------------------- blood counts (reading 3.15)


@dataclass(frozen=True, slots=True)
class _Count:
    """A count that follows from the leucocytes and its shares of them."""

    concept: str
    share: str
    also: str
    label: str


_NEUTROPHILS = _Count("anc", "neutrophils_pct", "bands_pct", "Leucocytes x neutrophils %")
_LYMPHOCYTES = _Count("lymphocytes", "lymphocytes_pct", "", "Leucocytes x lymphocytes %")


def _counts(facts: Facts, count: _Count, added: list[Measurement], gaps: list[Gap]) -> None:
    """Leucocytes x share (for neutrophils with the bands) of one sample, where no count of that sample was sent."""
    sent = facts.of(count.concept)
    shares, others = _exactly(facts.of(count.share)), _exactly(facts.of(count.also))
    for cells in _exactly(facts.of("wbc")):
        share = _of_sample(cells, shares)
        if share is None or any(_one_sample(cells, one) for one in sent):
            continue
        also = _of_sample(cells, others)
        percent = _number(share) + (_number(also) if also else 0)
        text = share.original if also is None else f"({share.original} + {also.original})"
        original = f"{cells.original} x {text}"
        if percent > _HUNDRED:
            gaps.append(_gap("implausible", count.concept, cells, (("seen", original), ("unit", "%"))))
            continue
        added.append(
            Measurement(
                concept=count.concept,
                reference=cells.reference,
                when=cells.when,
                value=_ARITHMETIC.multiply(_number(cells), percent) / _HUNDRED,
                unit="10*9/L",
                original=original,
                label=count.label,
                kind="derived",
                status=cells.status,
                panel=cells.panel,
                parts=(cells.reference, share.reference, *([also.reference] if also else [])),
            )
        )


def _neutrophils_to_lymphocytes(facts: Facts, added: list[Measurement]) -> None:
    """The ratio of the two counts of one sample, sent or derived; none where there are no lymphocytes at all."""
    neutrophils = _exactly([*facts.of("anc"), *(m for m in added if m.concept == "anc")])
    for lymphocytes in _exactly([*facts.of("lymphocytes"), *(m for m in added if m.concept == "lymphocytes")]):
        count = _of_sample(lymphocytes, neutrophils)
        if count is None or not lymphocytes.value:
            continue
        added.append(
            Measurement(
                concept="nlr",
                reference=lymphocytes.reference,
                when=lymphocytes.when,
                value=_ARITHMETIC.divide(_number(count), lymphocytes.value),
                unit="1",
                original=f"{count.original} / {lymphocytes.original}",
                label="Neutrophils / lymphocytes",
                kind="derived",
                status=lymphocytes.status,
                panel=lymphocytes.panel,
                parts=(count.reference, lymphocytes.reference),
            )
        )


def _one_sample(one: Measurement, other: Measurement) -> bool:
    return (one.panel != "" and one.panel == other.panel) or (one.when.exact and one.when == other.when)


def _of_sample(one: Measurement, others: Sequence[Measurement]) -> Measurement | None:
    return min((m for m in others if _one_sample(one, m)), key=lambda m: m.reference, default=None)


# --------------------------------------------------------------------------- creatinine clearance (reading 3.15)


def _clearance(facts: Facts, rules: Pairing, added: list[Measurement], gaps: list[Gap]) -> None:
    """Cockcroft-Gault of an adult: (140 - age) x kg / (72 x mg/dL), x 0.85 for women. Needs every one of its inputs."""
    patient = facts.patient
    if patient is None or not patient.sex:
        return
    zone = ZoneInfo(facts.zone)
    weights = _exactly(facts.of("weight"))
    low, high = quantities()["crcl"].hard
    for creatinine in _exactly(facts.of("creatinine")):
        weight = next(
            (
                w
                for w in weights
                if w.when.earliest <= creatinine.when.latest
                and creatinine.when.earliest - w.when.latest <= rules.weight
            ),
            None,
        )
        years = age(patient, creatinine.when.earliest.astimezone(zone).date())
        if weight is None or years is None or years < _ADULT:
            continue
        milligrams = _ARITHMETIC.divide(_number(creatinine), _UMOL_IN_MG_DL)
        value = _ARITHMETIC.divide((140 - years) * _number(weight), 72 * milligrams)
        if patient.sex == "female":
            value = _ARITHMETIC.multiply(value, Decimal("0.85"))
        original = f"creatinine {creatinine.original}, {weight.original}, {years} years"
        if not low <= value <= high:
            gaps.append(_gap("implausible", "crcl", creatinine, (("seen", original), ("unit", "mL/min"))))
            continue
        added.append(
            Measurement(
                concept="crcl",
                reference=creatinine.reference,
                when=creatinine.when,
                value=value,
                unit="mL/min",
                original=original,
                label="Cockcroft-Gault",
                kind="estimated",
                status=creatinine.status,
                parts=(creatinine.reference, weight.reference),
            )
        )


def age(patient: Patient, on: date) -> int | None:
    """Full years on that day; None when the birth date is unknown, or too vague to say."""
    if patient.born_earliest is None or patient.born_latest is None:
        return None
    oldest, youngest = (_years(born, on) for born in (patient.born_earliest, patient.born_latest))
    return oldest if oldest == youngest else None


def _years(born: date, on: date) -> int:
    return on.year - born.year - ((on.month, on.day) < (born.month, born.day))
