"""The page: one file that needs no network and no script, for a screen, for paper and for a screen reader."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, tzinfo
from functools import cache
from html import escape
from importlib import resources
from typing import Any, Final

from app.knowledge import Bedside
from app.report import instant
from app.stats import names, plots, rows
from app.stats.names import texts
from app.stats.plots import Box, Parts
from app.stats.quantiles import Rate, Tally
from app.stats.sheets import Column, Kind, Sheet, notes, per_100, sheets
from app.stats.summary import WHOLE, Query, Summary
from app.stats.table import said

_ORDER: Final = (
    *("days", "hooks", "burden", "verdicts", "criteria", "safety", "actions", "checks", "drafts", "unknowns"),
    *("cards", "feedback", "overrides", "unmatched", "ages", "latency"),
)
_LARGEST_PLOT: Final = 30


async def of_store(url: str, *, bedside: Bedside, now: datetime, zone: tzinfo) -> str:
    """The page of everything a store holds, for a route to serve. Raises BadDatabase, BadSchema.

    Counted in a thread with a loop of its own: calls that are being answered do not wait for it.
    """
    known = names.of(bedside)

    def made() -> str:
        return page(asyncio.run(rows.summary(url, query=Query(), names=known, zone=zone)), now=now)

    return await asyncio.to_thread(made)


def page(summary: Summary, *, now: datetime) -> str:
    """The whole HTML document."""
    found = {sheet.name: sheet for sheet in sheets(summary)}
    listed = [found[name] for name in _ORDER]
    figures = _figures(summary)
    body = [
        f"<header><h1>{escape(texts()['title'])}</h1>",
        *(f"<p>{escape(note)}</p>" for note in notes(summary)),
        f'<p class="honest">{escape(texts()["honest"])}</p></header>',
        _tiles(summary),
        f'<nav aria-label="{escape(texts()["contents"])}"><ul>',
        *(f'<li><a href="#{sheet.name}">{escape(sheet.title)}</a></li>' for sheet in listed),
        "</ul></nav>",
        *(_section(sheet, figures.get(sheet.name, ())) for sheet in listed),
        f"<footer><p>{escape(texts()['made'].format(now=instant(now)))}</p></footer>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(texts()['title'])} | rescue-cds</title><style>\n{_style()}</style></head>\n"
        f"<body><main>\n{chr(10).join(body)}\n</main></body></html>\n"
    )


@cache
def _style() -> str:
    return resources.files("app.stats").joinpath("page.css").read_text(encoding="utf-8")


def _tiles(summary: Summary) -> str:
    calls, cards = summary.total, summary.cards.total()
    outcomes: Counter[str] = Counter()
    for (_, _, outcome), count in summary.told.items():
        outcomes[outcome] += count
    answered = outcomes["accepted"] + outcomes["overridden"]
    values: dict[str, tuple[Kind, Any]] = {
        "hooks": ("count", calls),
        "with_card": ("share", Rate(summary.with_card.total(), calls)),
        "per_100": ("number", per_100(cards, calls)),
        "answered": ("share", Rate(answered, cards)),
        "overridden": ("rate", Rate(outcomes["overridden"], answered)),
    }
    shown = (
        f"<div><dt>{escape(texts()['tile'][name])}</dt><dd>{_tile(said(value, Column(name, '', kind)))}</dd></div>"
        for name, (kind, value) in values.items()
    )
    return f'<dl class="tiles">{"".join(shown)}</dl>'


def _tile(text: str) -> str:
    """The number large, its interval and n small behind it."""
    number, percent, rest = text.partition(" %")
    return f"{escape(number + percent)}<small>{escape(rest)}</small>"


def _section(sheet: Sheet, figures: Iterable[str]) -> str:
    shown = _table(sheet) if sheet.rows else f'<p class="empty">{escape(texts()["nothing"])}</p>'
    if sheet.name == "days" and sheet.rows:
        shown = f"<details><summary>{escape(texts()['fold'])}</summary>{_table(sheet.dense())}</details>"
    return (
        f'<section id="{sheet.name}" aria-labelledby="h-{sheet.name}">'
        f'<h2 id="h-{sheet.name}">{escape(sheet.title)}</h2>'
        f'<p class="note">{escape(sheet.note)}</p>{"".join(figures)}{shown}</section>'
    )


def _table(sheet: Sheet) -> str:
    heads = "".join(f'<th scope="col"{_class(column)}>{escape(column.title)}</th>' for column in sheet.columns)
    lines = []
    for row in sheet.rows:
        cells = [
            f"<{tag}{_class(column)}>{escape(said(cell, column))}</{tag.partition(' ')[0]}>"
            for tag, cell, column in zip(_tags(len(row)), row, sheet.columns, strict=True)
        ]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(sheet.title)}"><table>'
        f"<caption>{escape(sheet.title)}</caption><thead><tr>{heads}</tr></thead><tbody>\n"
        + "\n".join(lines)
        + "</tbody></table></div>"
    )


def _tags(count: int) -> Iterator[str]:
    yield 'th scope="row"'
    yield from ["td"] * (count - 1)


def _class(column: Column) -> str:
    return {"text": "", "id": ' class="id"'}.get(column.kind, ' class="number"')


# --- figures ------------------------------------------------------------------------------------------------


def _figures(summary: Summary) -> dict[str, list[str]]:
    """The plots by the section that they stand in; none where there is nothing to draw."""
    return {
        "days": _days(summary),
        "criteria": _criteria(summary),
        "overrides": _overrides(summary),
        "ages": _ages(summary),
        "latency": _latency(summary),
    }


def _days(summary: Summary) -> list[str]:
    if not summary.days:
        return []
    words = texts()["plot"]["days"]
    weekly = plots.by_week(day for day, _ in summary.days)
    counts = plots.weeks(summary.days) if weekly else summary.days
    title = words["title"].format(unit=words["week" if weekly else "day"])
    drawn = plots.days(counts, title=title, desc=texts()["figure_table"], other=texts()["other"])
    return [_figure(drawn, title, words["less"])]


def _criteria(summary: Summary) -> list[str]:
    found: dict[str, list[Parts]] = {}
    order = ("met", "unknown", "not-met")
    for sheet in sheets(summary):
        if sheet.name == "criteria":
            for record in sheet.records():
                protocol, rule = str(record["protocol"]), str(record["rule"])
                counts = tuple(summary.criteria[protocol, rule, finding] for finding in order)
                found.setdefault(protocol, []).append(Parts(rule, counts))
    heads = {column.key: column.title for sheet in sheets(summary) for column in sheet.columns}
    legend = [(style, heads[style.replace("-", "_")]) for style in order]
    figures = []
    for protocol, parts in found.items():
        title = texts()["plot"]["criteria"]["title"].format(protocol=summary.names.protocols.get(protocol, protocol))
        drawn = plots.shares(parts, legend=legend, title=title, desc=texts()["figure_table"])
        figures.append(_figure(drawn, title))
    return figures


def _overrides(summary: Summary) -> list[str]:
    counts: Counter[str] = Counter()
    for (_, _, why), count in summary.overrides.items():
        counts[f"{why.display}, {why.system}" if why.display == texts()["other_reason"] else why.display] += count
    if not counts:
        return []
    title = texts()["plot"]["overrides"]["title"]
    ranked = sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:_LARGEST_PLOT]
    return [_figure(plots.bars(ranked, title=title, desc=texts()["figure_table"]), title)]


def _ages(summary: Summary) -> list[str]:
    named = {concept: summary.names.concept(concept) for concept in summary.ages}
    return _boxes("ages", {named[concept]: tally for concept, tally in sorted(summary.ages.items())})


def _latency(summary: Summary) -> list[str]:
    return _boxes(
        "latency",
        {
            f"{summary.names.hook(service)}, {texts()['overall'] if source == WHOLE else source}": tally
            for (service, source), tally in sorted(summary.latency.items())
        },
    )


def _boxes(name: str, tallies: dict[str, Tally]) -> list[str]:
    found = []
    for label, tally in tallies.items():
        values = [value for value in tally.quantiles(0.1, 0.25, 0.5, 0.75, 0.9) if value is not None]
        if len(values) == 5:
            found.append(Box(label, tally.n, (values[0], values[1], values[2], values[3], values[4])))
    if not found:
        return []
    words = texts()["plot"]["boxes"]
    return [_figure(plots.boxes(found, title=words[name], desc=texts()["figure_table"]), words[name], words["note"])]


def _figure(drawn: str, title: str, note: str = "") -> str:
    caption = f"<figcaption>{escape(note)}</figcaption>" if note else ""
    return f"<figure><h3>{escape(title)}</h3>{drawn}{caption}</figure>"
