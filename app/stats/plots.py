"""Plots as inline SVG, without script or network, and in words by their title and desc.

Colours are classes of the page's style sheet (`c0`, `c1`, ...; `met`, `not-met`, `unknown`), so that a printed page and
a dark one need no other picture.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from html import escape
from typing import Final

_WIDTH: Final = 860
_ROW: Final = 22
_LABEL: Final = 220
_COUNT: Final = 74
_COLOURS: Final = 6
_MOST_BARS: Final = 62


@dataclass(frozen=True, slots=True)
class Box:
    """A distribution: the values at 10, 25, 50, 75 and 90 percent."""

    label: str
    n: int
    values: tuple[float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class Parts:
    """One row of shares: the counts of each part, in the order of the legend."""

    label: str
    counts: tuple[int, ...]


def days(counts: Counter[tuple[date, str]], *, title: str, desc: str, other: str) -> str:
    """Stacked bars, one a day (`by_week` of many days): calls by outcome, the most frequent lowest."""
    total: Counter[str] = Counter()
    for (_, outcome), count in counts.items():
        total[outcome] += count
    ranked = [outcome for outcome, _ in sorted(total.items(), key=lambda one: (-one[1], one[0]))]
    shown = ranked if len(ranked) <= _COLOURS else ranked[: _COLOURS - 1]
    legend = [*shown, other] if len(shown) < len(ranked) else shown
    bars: dict[date, list[int]] = {}
    for (day, outcome), count in counts.items():
        place = shown.index(outcome) if outcome in shown else len(shown)
        bars.setdefault(day, [0] * len(legend))[place] += count
    first, last = min(bars), max(bars)
    step = timedelta(days=7 if by_week(bars) else 1)
    places = [first + step * number for number in range((last - first) // step + 1)]
    top = _ceiling(max(map(sum, bars.values())))
    left, height, base = 52, 200, 216
    width = (_WIDTH - left - 8) / len(places)
    parts = [*_y_axis(top, left=left, base=base, height=height)]
    for number, day in enumerate(places):
        y = float(base)
        for colour, count in enumerate(bars.get(day, ())):
            tall = count / top * height
            y -= tall
            if count:
                box = _rect(left + number * width + min(2, width / 8), y, width - min(4, width / 4), tall, f"c{colour}")
                parts.append(_titled(box, f"{day.isoformat()}, {legend[colour]}: {count}"))
    every = max(1, math.ceil(len(places) / 10))
    for number in range(0, len(places), every):
        middle = left + (number + 0.5) * width
        parts.append(_text(middle, base + 16, places[number].isoformat()[5:], "middle"))
    parts.append(_line(left, base, _WIDTH - 8, base, "axis"))
    return _svg(parts, height=base + 24, title=title, desc=desc) + _legend(
        [(f"c{colour}", name) for colour, name in enumerate(legend)]
    )


def by_week(days_: Iterable[date]) -> bool:
    """Whether so many days are too many bars."""
    known = list(days_)
    return bool(known) and (max(known) - min(known)).days >= _MOST_BARS


def weeks(counts: Counter[tuple[date, str]]) -> Counter[tuple[date, str]]:
    """The same counts by the Monday of their week."""
    found: Counter[tuple[date, str]] = Counter()
    for (day, outcome), count in counts.items():
        found[day - timedelta(days=day.weekday()), outcome] += count
    return found


def shares(rows: Sequence[Parts], *, legend: Sequence[tuple[str, str]], title: str, desc: str) -> str:
    """A bar a row, its parts as shares of the row, with n at its end."""
    width = _WIDTH - _LABEL - _COUNT
    parts: list[str] = []
    for number, row in enumerate(rows):
        y, x, total = number * _ROW + 4, float(_LABEL), sum(row.counts)
        parts.append(_text(_LABEL - 8, y + 13, row.label, "end"))
        for (style, name), count in zip(legend, row.counts, strict=True):
            wide = 0 if not total else count / total * width
            if count:
                box = _rect(x, y, wide, _ROW - 6, style)
                parts.append(_titled(box, f"{row.label}, {name}: {count} / {total}"))
            x += wide
        parts.append(_text(_WIDTH - _COUNT + 8, y + 13, f"n = {total}", "start"))
    return _svg(parts, height=len(rows) * _ROW + 6, title=title, desc=desc) + _legend(legend)


def bars(rows: Sequence[tuple[str, int]], *, title: str, desc: str) -> str:
    """A bar a row, as long as its count."""
    width = _WIDTH - _LABEL - _COUNT - 80
    most = max(count for _, count in rows)
    parts: list[str] = []
    for number, (label, count) in enumerate(rows):
        y = number * _ROW + 4
        parts.append(_text(_LABEL + 72, y + 13, label, "end"))
        parts.append(_titled(_rect(_LABEL + 80, y, count / most * width, _ROW - 6, "c0"), f"{label}: {count}"))
        parts.append(_text(_LABEL + 86 + count / most * width, y + 13, str(count), "start"))
    return _svg(parts, height=len(rows) * _ROW + 6, title=title, desc=desc)


def boxes(rows: Sequence[Box], *, title: str, desc: str) -> str:
    """A box a row on one logarithmic axis; what is below its first mark is drawn on it."""
    low = 10.0 ** math.floor(math.log10(max(0.1, min(row.values[0] for row in rows))))
    high = max(10.0 * low, 10.0 ** math.ceil(math.log10(max(0.1, *(row.values[-1] for row in rows)))))
    decades, width = math.log10(high / low), _WIDTH - _LABEL - _COUNT
    bottom = len(rows) * _ROW + 4

    def at(value: float) -> float:
        return _LABEL + math.log10(max(low, value) / low) / decades * width

    parts: list[str] = []
    for power in range(round(decades) + 1):
        mark = low * 10**power
        parts.append(_line(at(mark), 0, at(mark), bottom, "grid"))
        parts.append(_text(at(mark), bottom + 15, f"{mark:,.10g}", "middle"))
    for number, row in enumerate(rows):
        y = number * _ROW + 12
        p10, q1, median, q3, p90 = row.values
        words = f"{row.label}: median {median:g}, quartiles {q1:g} and {q3:g}, n = {row.n}"
        drawn = [_line(at(p10), y, at(p90), y, "whisker"), _rect(at(q1), y - 6, max(2, at(q3) - at(q1)), 12, "box")]
        drawn.append(_line(at(median), y - 8, at(median), y + 8, "median"))
        parts.append(_text(_LABEL - 8, y + 4, row.label, "end"))
        parts.append(f"<g><title>{escape(words)}</title>{''.join(drawn)}</g>")
        parts.append(_text(_WIDTH - _COUNT + 8, y + 4, f"n = {row.n}", "start"))
    return _svg(parts, height=bottom + 22, title=title, desc=desc)


# --- the pieces ---------------------------------------------------------------------------------------------


def _svg(parts: Sequence[str], *, height: float, title: str, desc: str) -> str:
    return (
        f'<svg role="img" viewBox="0 0 {_WIDTH} {height:g}" preserveAspectRatio="xMinYMin meet">'
        f"<title>{escape(title)}</title><desc>{escape(desc)}</desc>{''.join(parts)}</svg>"
    )


def _legend(entries: Iterable[tuple[str, str]]) -> str:
    keys = "".join(
        f'<li><svg aria-hidden="true" viewBox="0 0 12 12">{_rect(0, 0, 12, 12, style)}</svg>{escape(name)}</li>'
        for style, name in entries
    )
    return f'<ul class="legend">{keys}</ul>'


def _y_axis(top: int, *, left: float, base: float, height: float) -> Iterable[str]:
    for number in range(1, 5):
        value = top * number / 4
        y = base - value / top * height
        if value == int(value):
            yield _line(left, y, _WIDTH - 8, y, "grid")
            yield _text(left - 6, y + 4, f"{value:g}", "end")


def _ceiling(value: int) -> int:
    """The next number that an axis may end with: 4, 8, 20, 40, 80, 200 ..."""
    power = 1
    while True:
        for step in (4, 8, 20):
            if value <= step * power:
                return step * power
        power *= 10


def _rect(x: float, y: float, width: float, height: float, style: str) -> str:
    return f'<rect class="{style}" x="{x:.1f}" y="{y:.1f}" width="{max(0.0, width):.1f}" height="{height:.1f}"/>'


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _titled(shape: str, title: str) -> str:
    return f"<g><title>{escape(title)}</title>{shape}</g>"
