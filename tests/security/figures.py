"""What a security check counted, for a test to hold and for a report to print."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One count with what it has to be: `held` says whether it is."""

    what: str
    number: str
    held: bool


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one area."""

    title: str
    rows: tuple[Figure, ...]

    @property
    def held(self) -> bool:
        """True when every figure is what it has to be."""
        return all(row.held for row in self.rows)
