"""Three-valued findings: "we could not tell" must never read as "no" (Kleene's strong logic)."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum


class Finding(Enum):
    """Met, not met, or unknown. For safety rules the same three read present, absent, unknown."""

    MET = "met"
    NOT_MET = "not-met"
    UNKNOWN = "unknown"

    @property
    def presence(self) -> str:
        """The word a safety finding uses."""
        return {"met": "present", "not-met": "absent", "unknown": "unknown"}[self.value]


def all_of(findings: Iterable[Finding]) -> Finding:
    """Not met if one is not met, else unknown if one is unknown, else met (so for none at all)."""
    seen = set(findings)
    if Finding.NOT_MET in seen:
        return Finding.NOT_MET
    return Finding.UNKNOWN if Finding.UNKNOWN in seen else Finding.MET


def any_of(findings: Iterable[Finding]) -> Finding:
    """Met if one is met, else unknown if one is unknown, else not met (so for none at all)."""
    seen = set(findings)
    if Finding.MET in seen:
        return Finding.MET
    return Finding.UNKNOWN if Finding.UNKNOWN in seen else Finding.NOT_MET


def negate(finding: Finding) -> Finding:
    """Unknown stays unknown."""
    if finding is Finding.UNKNOWN:
        return finding
    return Finding.NOT_MET if finding is Finding.MET else Finding.MET
