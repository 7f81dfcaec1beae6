"""What one input of a rule reads as, with its reason and its evidence.

Reasons and notes are codes with parameters: the words stand in `app/protocols/shared/texts.toml`, so that a clinician
can review every sentence without opening Python.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from app.clinical.intervals import Interval
from fhir_mappings.facts import Gap, Measurement

_SHOWN_DECIMALS = 6
_UNITS = {
    "mm[Hg]": "mmHg",
    "mL/cm[H2O]": "mL/cmH2O",
    "cm[H2O]": "cmH2O",
    "ug/L": "µg/L",
    "umol/L": "µmol/L",
    "10*9/L": "x 10⁹/L",
}
"""UCUM codes as clinicians write them; evidence keeps the codes."""


@dataclass(frozen=True, slots=True)
class Reason:
    """A code of the texts file and the words that go into it. Words from patient data are neutralised when rendered."""

    code: str
    params: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, code: str, /, **params: object) -> Reason:
        """A reason with its words as text."""
        return cls(code, tuple((name, str(value)) for name, value in params.items()))

    @classmethod
    def refused(cls, code: str, gap: Gap, /, **params: object) -> Reason:
        """A reason that says why a result of the record was not used; no word of the gap can take the place of ours."""
        return cls.of(code, **{**dict(gap.params), **params, "why": gap.why})


@dataclass(frozen=True, slots=True)
class Note:
    """A line for the card beside a reading; `withholds` takes the suggestion away."""

    reason: Reason
    withholds: bool = False


@dataclass(frozen=True, slots=True)
class Evidence:
    """One resource that a reading used: the same entry stands on the card, in `evaluate` and in the decision row.

    `value` and `unit` are canonical, `original` as written; `effective` is the instant that counted.
    """

    concept: str
    reference: str
    value: str = ""
    unit: str = ""
    original: str = ""
    comparator: str = ""
    effective: datetime | None = None
    label: str = ""
    kind: str = ""

    @classmethod
    def measured(cls, m: Measurement) -> Evidence:
        """The evidence of one measurement."""
        value = "" if m.value is None else decimal_text(m.value)
        return cls(
            concept=m.concept,
            reference=m.reference,
            value=value,
            unit=m.unit if value else "",
            original=m.original or m.coded,
            comparator=m.comparator,
            effective=m.when.earliest,
            label=m.label,
            kind=m.kind,
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """An input as known (an interval of numbers, or a state) or unknown, and why.

    `failed`: unknown because a source failed or was partial. `unreadable`: unknown because something on record could
    not be read. `displaced`: known, but a newer result was refused; for the required safety set that takes away
    "absent", never "present" (reading 3.3). `shown` is the value as the card prints it.
    """

    reason: Reason
    interval: Interval | None = None
    state: str = ""
    missing: tuple[str, ...] = ()
    failed: bool = False
    unreadable: bool = False
    displaced: bool = False
    evidence: tuple[Evidence, ...] = ()
    notes: tuple[Note, ...] = ()
    shown: str = ""

    @property
    def known(self) -> bool:
        """True when there is a value or a state."""
        return self.interval is not None or bool(self.state)

    def with_notes(self, *notes: Note) -> Reading:
        """The same reading with more lines."""
        return replace(self, notes=(*self.notes, *notes))


def decimal_text(value: Decimal) -> str:
    """A Decimal without exponent and trailing zeros (the public form of numbers that matter).

    A calculated value is cut to six decimals here, for people; comparisons never see this text.
    """
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -_SHOWN_DECIMALS:
        value = value.quantize(Decimal(1).scaleb(-_SHOWN_DECIMALS))
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def unit_text(unit: str) -> str:
    """A unit as a card prints it."""
    return _UNITS.get(unit, unit)
