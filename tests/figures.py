"""What a check of a whole area counted, for a test to hold and for a report to print."""

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


def shown(found: Figures, *, seconds: float) -> str:
    """The figures as a table."""
    width = max(len(row.what) for row in found.rows)
    lines = [f"{found.title} ({seconds:.0f} s)"]
    lines += [f"  {'ok ' if row.held else 'NOT'}  {row.what:<{width}}  {row.number}" for row in found.rows]
    return "\n".join(lines)
