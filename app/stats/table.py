"""The tables for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from app.report import instant
from app.stats.names import texts
from app.stats.quantiles import LEAST, Rate
from app.stats.sheets import Cell, Column, Sheet, notes, sheets
from app.stats.summary import Summary

WIDTH: Final = 118
_GAP: Final = "  "
_LEAST_TEXT: Final = 10
_LEFT: Final = frozenset({"text", "id"})
_FOLDED: Final = frozenset({"text", "share", "rate"})


def table(summary: Summary, *, now: datetime) -> str:
    """The whole report without the days, which the page and the files have; a sheet without rows is left out."""
    head = [texts()["title"], *notes(summary), texts()["honest"], texts()["made"].format(now=instant(now))]
    blocks = [_wrapped(line) for line in head]
    blocks += [
        _shown(sheet.without("title") if sheet.name == "unknowns" else sheet)
        for sheet in sheets(summary)
        if sheet.rows and sheet.name != "days"
    ]
    return "\n\n".join(blocks)


def said(cell: Cell, column: Column) -> str:
    """A cell in words: a share with its n, a rate with its interval too, `-` for what does not apply."""
    if isinstance(cell, Rate):
        if cell.percent is None or cell.interval is None:
            return str(texts()["too_few"].format(least=LEAST))
        low, high = cell.interval
        between = f" ({_percent(low)} to {_percent(high)})" if column.kind == "rate" else ""
        return f"{_percent(cell.percent)} %{between} of {cell.whole}"
    if cell is None:
        return "-"
    return f"{cell:g}" if isinstance(cell, float) else str(cell)


def _percent(percent: float) -> str:
    """Whole numbers, but 0 and 100 only of none and all."""
    return f"{percent:.0f}" if percent in (0, 100) or 1 <= percent <= 99 else f"{min(99.9, max(0.1, percent)):.1f}"


def _shown(sheet: Sheet) -> str:
    rows = [[said(cell, column) for cell, column in zip(row, sheet.columns, strict=True)] for row in sheet.rows]
    heads = [column.title for column in sheet.columns]
    widths = _widths([heads, *rows], folds=[column.kind in _FOLDED for column in sheet.columns])
    lines = [sheet.title, _wrapped(sheet.note)]
    for cells in (heads, ["-" * width for width in widths], *rows):
        folded = [textwrap.wrap(cell, width) or [""] for cell, width in zip(cells, widths, strict=True)]
        for number in range(max(map(len, folded))):
            parts = [part[number] if number < len(part) else "" for part in folded]
            placed = (
                part.ljust(width) if column.kind in _LEFT else part.rjust(width)
                for part, width, column in zip(parts, widths, sheet.columns, strict=True)
            )
            lines.append(f"{_GAP}{_GAP.join(placed)}".rstrip())
    return "\n".join(lines)


def _widths(rows: Sequence[Sequence[str]], *, folds: Sequence[bool]) -> list[int]:
    """As wide as the cells; of numbers the longest word of the head suffices; then the widest that fold give way."""
    heads, cells = rows[0], rows[1:]
    widths = []
    for place, column_folds in enumerate(folds):
        head = len(heads[place]) if column_folds else max(map(len, heads[place].split()))
        widths.append(max([head, *(len(row[place]) for row in cells)]))
    while sum(widths) + len(_GAP) * len(widths) > WIDTH:
        widest = max((width, place) for place, width in enumerate(widths) if folds[place])
        if widest[0] <= _LEAST_TEXT:
            break
        widths[widest[1]] -= 1
    return widths


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(text, WIDTH))
