"""Values as intervals: a comparator or a bound decides only when it decides with certainty.

">1650" meets "> 1000"; "<2000" leaves it open. Bounds are exact fractions: 66 mmHg at 66 % is exactly 100, and
nothing is rounded before it is compared (clinical 1.3, hazard HZ-15).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from app.clinical.findings import Finding


@dataclass(frozen=True, slots=True)
class Interval:
    """From `low` to `high`; None is unbounded; `open_*` leaves the bound itself out."""

    low: Fraction | None
    high: Fraction | None
    open_low: bool = False
    open_high: bool = False

    @classmethod
    def of(cls, value: Decimal | Fraction | int, comparator: str = "") -> Interval:
        """The numbers that a value with its FHIR comparator allows."""
        exact = Fraction(value)
        if comparator in {"<", "<="}:
            return cls(None, exact, open_high=comparator == "<")
        if comparator in {">", ">="}:
            return cls(exact, None, open_low=comparator == ">")
        return cls(exact, exact)

    def divided_by(self, divisor: Fraction) -> Interval:
        """The same numbers divided by a positive one."""
        return Interval(
            None if self.low is None else self.low / divisor,
            None if self.high is None else self.high / divisor,
            self.open_low,
            self.open_high,
        )

    def compared(self, op: str, threshold: Decimal) -> Finding:
        """Whether every number of the interval (met), none (not met) or only some (unknown) satisfy the comparison."""
        limit = Fraction(threshold)
        if op in {"<", "<="}:
            strict = op == "<"
            if self.high is not None and (self.high < limit or (self.high == limit and (self.open_high or not strict))):
                return Finding.MET
            if self.low is not None and (self.low > limit or (self.low == limit and (self.open_low or strict))):
                return Finding.NOT_MET
            return Finding.UNKNOWN
        strict = op == ">"
        if self.low is not None and (self.low > limit or (self.low == limit and (self.open_low or not strict))):
            return Finding.MET
        if self.high is not None and (self.high < limit or (self.high == limit and (self.open_high or strict))):
            return Finding.NOT_MET
        return Finding.UNKNOWN
