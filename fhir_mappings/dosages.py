"""Dosage instructions: how much of a drug in a day, and from which day to which.

`Dosage` is that of orders and statements, and the `dosage` of administrations at once. What is malformed counts as not
written: a dose that cannot be read is unreadable, never small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from typing import Any, Final, Literal

import msgspec

from fhir_mappings import rates
from fhir_mappings.coding import CodeableConcept
from fhir_mappings.context import Context


class Period(msgspec.Struct):
    start: str | None = None
    end: str | None = None


class Quantity(msgspec.Struct):
    value: Decimal | None = None
    unit: str = ""
    code: str = ""
    system: str = ""


class Range(msgspec.Struct):
    low: Quantity | None = None
    high: Quantity | None = None


class DoseAndRate(msgspec.Struct):
    doseQuantity: Quantity | None = None  # noqa: N815
    doseRange: Range | None = None  # noqa: N815
    rateQuantity: Any = None  # noqa: N815
    rateRatio: Any = None  # noqa: N815
    rateRange: Any = None  # noqa: N815


class Repeat(msgspec.Struct):
    boundsPeriod: Period | None = None  # noqa: N815
    boundsDuration: Quantity | None = None  # noqa: N815
    boundsRange: Range | None = None  # noqa: N815
    count: Decimal | None = None
    countMax: Decimal | None = None  # noqa: N815
    frequency: Decimal | None = None
    frequencyMax: Decimal | None = None  # noqa: N815
    period: Decimal | None = None
    periodUnit: str = ""  # noqa: N815
    timeOfDay: tuple[str, ...] = ()  # noqa: N815
    when: msgspec.Raw = msgspec.Raw()


class Timing(msgspec.Struct):
    event: msgspec.Raw = msgspec.Raw()
    repeat: Repeat | None = None
    code: CodeableConcept | None = None


class Dosage(msgspec.Struct):
    """Dosage of orders and statements, and the `dosage` of administrations, which has `dose` and one rate."""

    sequence: int | None = None
    text: str = ""
    patientInstruction: msgspec.Raw = msgspec.Raw()  # noqa: N815
    asNeededBoolean: msgspec.Raw = msgspec.Raw()  # noqa: N815
    asNeededCodeableConcept: msgspec.Raw = msgspec.Raw()  # noqa: N815
    timing: Timing | None = None
    route: CodeableConcept | None = None
    doseAndRate: tuple[DoseAndRate, ...] | DoseAndRate = ()  # noqa: N815
    dose: Quantity | None = None
    rateQuantity: msgspec.Raw = msgspec.Raw()  # noqa: N815
    rateRatio: msgspec.Raw = msgspec.Raw()  # noqa: N815

    @property
    def is_as_needed(self) -> bool:
        """Whether somebody else decides when it is given."""
        named = rates.written(self.asNeededCodeableConcept) and bytes(self.asNeededCodeableConcept) != b"{}"
        return named or bytes(self.asNeededBoolean) == b"true"

    @property
    def has_words(self) -> bool:
        """Whether it says anything in words, which may name an end that nothing else does."""
        spoken = self.timing is not None and self.timing.code is not None and self.timing.code.text
        return bool(self.text or spoken) or rates.written(self.patientInstruction)

    @property
    def amounts(self) -> tuple[DoseAndRate, ...]:
        """As a list, also where an object stands in its place."""
        return (self.doseAndRate,) if isinstance(self.doseAndRate, DoseAndRate) else self.doseAndRate


_UCUM = "http://unitsofmeasure.org"
_MG = {
    "mg": Decimal(1),
    "milligram": Decimal(1),
    "g": Decimal(1000),
    "gram": Decimal(1000),
    "ug": Decimal("0.001"),
    "mcg": Decimal("0.001"),
    "µg": Decimal("0.001"),
    "μg": Decimal("0.001"),
    "microgram": Decimal("0.001"),
}
_HOURS = {
    "s": Decimal(1) / Decimal(3600),
    "min": Decimal(1) / Decimal(60),
    "h": Decimal(1),
    "d": Decimal(24),
    "wk": Decimal(168),
    "mo": Decimal(720),
    "a": Decimal(8760),
}
_PER_DAY = {
    "QD": Decimal(1),
    "QAM": Decimal(1),
    "AM": Decimal(1),
    "PM": Decimal(1),
    "BED": Decimal(1),
    "BID": Decimal(2),
    "TID": Decimal(3),
    "QID": Decimal(4),
    "QOD": Decimal("0.5"),
    "WK": Decimal(1) / Decimal(7),
    "MO": Decimal(1) / Decimal(30),
    "Q1H": Decimal(24),
    "Q2H": Decimal(12),
    "Q3H": Decimal(8),
    "Q4H": Decimal(6),
    "Q6H": Decimal(4),
    "Q8H": Decimal(3),
    "Q12H": Decimal(2),
}
"""Doses a day of the HL7 timing abbreviations (v3-GTSAbbreviation)."""

_TIMES = msgspec.json.Decoder(tuple[str, ...] | str)
_DOSAGES = msgspec.json.Decoder(tuple[Dosage, ...] | Dosage)


def elements(decoder: msgspec.json.Decoder[Any], raw: msgspec.Raw) -> tuple[Any, ...]:
    """The elements of a list, or the single one that some servers send instead; malformed ones count as absent."""
    try:
        decoded = decoder.decode(raw)
    except msgspec.MsgspecError:
        return ()
    return decoded if isinstance(decoded, tuple) else (decoded,)


def read(raw: msgspec.Raw) -> tuple[Dosage, ...]:
    """The dosages of a resource; none where they are malformed."""
    return elements(_DOSAGES, raw)


def mg(quantity: Quantity | None) -> Decimal | None:
    """Milligrams; None for tablets, millilitres, units and doses per kilogram."""
    if quantity is None or quantity.value is None:
        return None
    code = (quantity.code or quantity.unit).strip().lower()
    factor = _MG.get(code)
    # The unit's words count where the code is of another system; what UCUM says is another unit, is one.
    if factor is None and "/" not in code and quantity.system != _UCUM:
        factor = _MG.get(quantity.unit.strip().lower())
    return None if factor is None else quantity.value * factor


def dose_mg(dosages: Sequence[Dosage]) -> Decimal | None:
    """The dose of one administration, where one is written."""
    return mg(dosages[0].dose) if len(dosages) == 1 else None


def daily_mg(dosages: Sequence[Dosage]) -> Decimal | None:
    """The largest total dose of a day. One part that cannot be read makes the whole unreadable: a dose is never
    understated."""
    return max(_totals(dosages) or (), default=None)


def _totals(dosages: Sequence[Dosage]) -> list[Decimal] | None:
    """The doses of a day that follow each other: parts of the same `sequence` run together and are added."""
    totals: dict[int | None, Decimal] = {}
    for dosage in dosages:
        doses = [found for each in dosage.amounts if (found := _largest(each)) is not None]
        times = times_a_day(dosage.timing)
        if not doses or times is None:
            return None
        totals[dosage.sequence] = totals.get(dosage.sequence, Decimal(0)) + max(doses) * times
    return list(totals.values())


def _largest(dose: DoseAndRate) -> Decimal | None:
    return mg(dose.doseRange.high) if dose.doseRange is not None else mg(dose.doseQuantity)


def times_a_day(timing: Timing | None) -> Decimal | None:
    """How often in 24 h, at most; None where it is not written in a form that is read."""
    if timing is None:
        return None
    repeat = timing.repeat
    if repeat is not None:
        hours = _HOURS.get(repeat.periodUnit)
        if repeat.period and hours is not None:
            return _in_a_period(repeat) * Decimal(24) / (repeat.period * hours)
        if repeat.timeOfDay or rates.written(repeat.when):
            return _in_a_period(repeat)
    for coding in timing.code.coding if timing.code else ():
        if coding.code.upper() in _PER_DAY:
            return _PER_DAY[coding.code.upper()]
    return None


def _in_a_period(repeat: Repeat) -> Decimal:
    """Doses in one period, at least one: as often as is said, or as many times of the day are named."""
    frequency = repeat.frequencyMax or repeat.frequency or Decimal(1)
    return max(frequency, Decimal(len(repeat.timeOfDay)), Decimal(len(elements(_TIMES, repeat.when))))


# --- what an order plans for a day ----------------------------------------------------------------------------------


def planned_mg(lines: Sequence[Dosage], *, today: date, context: Context) -> tuple[Decimal, Decimal] | None:
    """The smallest and the largest dose of a day on which one is given; None where a part cannot be read.

    An order that is being written is looked at more strictly than one on record: a dose every second day is a whole
    dose on its day; dosages whose days overlap are added, whatever their sequence; an amount that cannot be read
    beside one that can, a rate, or "as needed" leaves the dose of a day open.
    """
    doses = [_on_its_day(line) for line in lines]
    known = [dose for dose in doses if dose is not None]
    if not lines or len(known) < len(lines):
        return None
    spans = [_bounds(line.timing, context=context) for line in lines]
    totals = [
        sum(
            (
                dose
                for dose, other, bounds in zip(known, lines, spans, strict=True)
                if other is line or _together(line, own, other, bounds, today=today)
            ),
            Decimal(0),
        )
        for line, own in zip(lines, spans, strict=True)
    ]
    return min(totals), max(totals)


def _on_its_day(line: Dosage) -> Decimal | None:
    """mg on a day on which a dose is given."""
    rated = rates.written(line.rateQuantity) or rates.written(line.rateRatio)
    rated = rated or any(one.rateQuantity or one.rateRatio or one.rateRange for one in line.amounts)
    if rated or line.is_as_needed:
        return None
    amounts = [_largest(one) for one in line.amounts]
    known = [amount for amount in amounts if amount is not None]
    times = times_a_day(line.timing)
    if not amounts or len(known) < len(amounts) or not times:
        return None
    return max(known) * max(times, Decimal(1))


def _together(line: Dosage, own: _Bounds, other: Dosage, bounds: _Bounds, *, today: date) -> bool:
    """Whether both are given on one day: where both have days, those say it; else the sequence does."""
    if own.last is not None and bounds.last is not None:
        first, second = own.first or today, bounds.first or today
        return first <= bounds.last and second <= own.last
    return line.sequence == other.sequence


# --- from which day to which ----------------------------------------------------------------------------------------

_DAY: Final = Decimal(24)
_WORDS: Final = {
    **dict.fromkeys(("hour", "hours", "hr"), "h"),
    **dict.fromkeys(("day", "days"), "d"),
    **dict.fromkeys(("week", "weeks"), "wk"),
    **dict.fromkeys(("month", "months"), "mo"),
}
"""Units of time as people write them, where no code stands beside."""

_MOST_DAYS: Final = 36525
"""A course that is longer than a century has no readable end."""


@dataclass(frozen=True, slots=True)
class Span:
    """The calendar days of the facility that an order is for.

    `first` None: no start is written. `end`: whether an end is written in every dosage (then `last` is the last day),
    one of them goes on without one, or one could not be read.
    """

    first: date | None
    last: date | None
    end: Literal["written", "open", "unreadable"]


@dataclass(frozen=True, slots=True)
class _Bounds:
    """Of one dosage: an end as a day (`last`), or as a number of `days`."""

    end: Literal["written", "open", "unreadable"]
    first: date | None = None
    last: date | None = None
    days: int = 0


def span(lines: Sequence[Dosage], *, today: date, context: Context) -> Span:
    """The days of these dosages; one without a start begins when the ones before it end, the first of them today.

    A number of days counts the first of them. Dosages of the same `sequence` run side by side.
    """
    bounds = [(line.sequence, _bounds(line.timing, context=context)) for line in lines]
    first = min((b.first for _, b in bounds if b.first is not None), default=None)
    ends = {b.end for _, b in bounds}
    if "unreadable" in ends:
        return Span(first, None, "unreadable")
    if "open" in ends or not bounds:
        return Span(first, None, "open")
    try:
        return Span(first, _last_day(bounds, begins=first or today), "written")
    except OverflowError:
        return Span(first, None, "unreadable")


def _last_day(bounds: Sequence[tuple[int | None, _Bounds]], *, begins: date) -> date:
    last = begins
    for sequence in sorted({number or 0 for number, _ in bounds}):
        group = [b for number, b in bounds if (number or 0) == sequence]
        lasts = [b.last or (b.first or begins) + timedelta(days=b.days - 1) for b in group]
        last = max(last, *lasts)
        begins = max(lasts) + timedelta(days=1)
    return last


def _bounds(timing: Timing | None, *, context: Context) -> _Bounds:
    repeat = None if timing is None else timing.repeat
    if timing is not None and rates.written(timing.event):
        return _Bounds("unreadable")
    if repeat is None:
        return _Bounds("open")
    period = repeat.boundsPeriod or Period()
    start, end = context.when(period.start), context.when(period.end)
    first = None if start is None else _day_of(start.earliest, context=context)
    if period.end:
        # An order until midnight has no dose on the day that begins there.
        if end is None:
            return _Bounds("unreadable", first)
        return _Bounds("written", first, _day_of(end.latest - timedelta.resolution, context=context))
    amount = repeat.boundsDuration or (repeat.boundsRange.high if repeat.boundsRange else None)
    count = repeat.countMax or repeat.count
    if amount is not None:
        days = _days(amount)
    elif count is not None:
        times = times_a_day(timing)
        days = _whole(count / times) if times else None
    else:
        return _Bounds("open", first)
    return _Bounds("unreadable", first) if days is None else _Bounds("written", first, days=days)


def _day_of(moment: datetime, *, context: Context) -> date:
    return moment.astimezone(context.zone).date()


def _days(amount: Quantity) -> int | None:
    unit = (amount.code or amount.unit).strip()
    hours = _HOURS.get(unit) or _HOURS.get(_WORDS.get(unit.lower(), ""))
    return None if hours is None or amount.value is None else _whole(amount.value * hours / _DAY)


def _whole(days: Decimal) -> int | None:
    """So many days, begun ones counted; None for what is no length of a course."""
    return int(days.to_integral_value(ROUND_CEILING)) if 0 < days <= _MOST_DAYS else None
