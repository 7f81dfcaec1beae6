"""The summary as tables: one list of sheets, which the terminal, the page, the CSV files and the JSON all show."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from app.report import instant
from app.stats.names import texts
from app.stats.quantiles import LEAST, Rate
from app.stats.summary import WHOLE, Summary

Kind: TypeAlias = Literal["text", "id", "count", "number", "share", "rate"]
Cell: TypeAlias = str | int | float | Rate | None

SCHEMA: Final = 1

_KINDS: Final[Mapping[str, Kind]] = {
    **dict.fromkeys(("rule", "protocol", "reason", "concept", "source", "outcome", "would_be", "card"), "id"),
    **dict.fromkeys(("share", "with_card", "snoozed", "answered"), "share"),
    **dict.fromkeys(("accept_rate", "override_rate"), "rate"),
    **dict.fromkeys(("per_100", "q1", "median", "q3", "p50", "p90", "p99"), "number"),
    **dict.fromkeys(("hooks", "cards", "evaluated", "met", "not_met", "unknown", "present", "absent"), "count"),
    **dict.fromkeys(("scope_in", "scope_out", "scope_unknown", "drafts", "count", "shown", "silent"), "count"),
    **dict.fromkeys(("would_show", "accepted", "overridden", "none", "changed", "n"), "count"),
}
"""What a column holds; every other one is text. A share is of all there is; a rate has an interval."""


@dataclass(frozen=True, slots=True)
class Column:
    """`key` is its name in CSV and JSON, `title` what a person reads."""

    key: str
    title: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table with a caption."""

    name: str
    title: str
    note: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def dense(self) -> Sheet:
        """Without columns of counts in which nothing was counted: for a person."""
        seen = [any(row[place] for row in self.rows) for place in range(len(self.columns))]
        return self.without(
            *(c.key for c, some in zip(self.columns, seen, strict=True) if c.kind == "count" and not some)
        )

    def without(self, *keys: str) -> Sheet:
        """Without these columns."""
        kept = [place for place, column in enumerate(self.columns) if column.key not in keys]
        columns = tuple(self.columns[place] for place in kept)
        return replace(self, columns=columns, rows=tuple(tuple(row[place] for place in kept) for row in self.rows))

    def records(self) -> Iterator[dict[str, Cell]]:
        """The rows by the keys of their columns."""
        keys = [column.key for column in self.columns]
        return (dict(zip(keys, row, strict=True)) for row in self.rows)


def sheets(summary: Summary) -> tuple[Sheet, ...]:
    """All tables, empty ones too."""
    return tuple(_sheet(name, made(summary)) for name, made in _MADE.items())


def _sheet(name: str, rows: Iterable[Sequence[Cell]]) -> Sheet:
    said = texts()["sheet"][name]
    columns = tuple(Column(key, title, _KINDS.get(key, "text")) for key, title in said["columns"].items())
    if name == "days":
        columns += tuple(Column(outcome, outcome, "count") for outcome in texts()["outcome"])
    return Sheet(name, said["title"], said["note"], columns, tuple(tuple(row) for row in rows))


# --- the rows of each ---------------------------------------------------------------------------------------


def _days(summary: Summary) -> Iterator[Sequence[Cell]]:
    """The outcomes are columns, always the same ones."""
    known = list(texts()["outcome"])
    found: dict[date, dict[str, int]] = {}
    for (day, outcome), count in summary.days.items():
        counts = found.setdefault(day, dict.fromkeys(known, 0))
        counts[outcome if outcome in counts else "other"] += count
    for day, counts in sorted(found.items()):
        yield day.isoformat(), sum(counts.values()), *counts.values()


def _hooks(summary: Summary) -> Iterator[Sequence[Cell]]:
    words = texts()["outcome"]
    for (service, outcome, would_be), count in _largest(summary.hooks, within=1):
        meaning = words.get(outcome, words["other"])
        if would_be:
            meaning = texts()["otherwise"].format(meaning=meaning, would_be=words.get(would_be, words["other"]))
        share = Rate(count, summary.calls(service))
        yield summary.names.hook(service), outcome, would_be, meaning, count, share


def _burden(summary: Summary) -> Iterator[Sequence[Cell]]:
    for service in dict.fromkeys(service for service, _, _ in sorted(summary.hooks)):
        calls = summary.calls(service)
        cards, would = _of(summary.cards, service), _of(summary.would_show, service)
        outcomes = dict.fromkeys(("snoozed", "silent"), 0)
        for (one, outcome, _), count in summary.hooks.items():
            if one == service and outcome in outcomes:
                outcomes[outcome] += count
        with_card, snoozed = Rate(summary.with_card[service], calls), Rate(outcomes["snoozed"], calls)
        hook = summary.names.hook(service)
        yield hook, calls, with_card, cards, per_100(cards, calls), snoozed, outcomes["silent"], would


def _verdicts(summary: Summary) -> Iterator[Sequence[Cell]]:
    names = summary.names.protocols
    for protocol in _ordered(names, (protocol for protocol, _ in [*summary.verdicts, *summary.scopes])):
        found = [summary.verdicts[protocol, verdict] for verdict in ("met", "not-met", "unknown")]
        scopes = [summary.scopes[protocol, scope] for scope in ("in", "out", "unknown")]
        total = sum(found)
        if protocol == summary.names.follow_up:
            yield protocol, names[protocol], sum(scopes), None, None, None, None, *scopes
        else:
            yield protocol, names.get(protocol, ""), total, *found, Rate(found[2], total), *scopes


def _criteria(summary: Summary) -> Iterator[Sequence[Cell]]:
    names = summary.names.criteria
    for key in _ordered(names, ((protocol, rule) for protocol, rule, _ in summary.criteria)):
        met, not_met, unknown = (summary.criteria[*key, finding] for finding in ("met", "not-met", "unknown"))
        total = met + not_met + unknown
        yield *key, names.get(key, ""), met, not_met, unknown, total, Rate(unknown, total)


def _safety(summary: Summary) -> Iterator[Sequence[Cell]]:
    names = summary.names
    for rule in _ordered(names.safety, (rule for rule, _ in summary.safety)):
        yield rule, names.safety.get(rule, ""), names.severities.get(rule, ""), *_presence(summary.safety, rule)


def _actions(summary: Summary) -> Iterator[Sequence[Cell]]:
    for rule in _ordered(summary.names.actions, (rule for rule, _ in summary.actions)):
        yield rule, summary.names.actions.get(rule, ""), *_presence(summary.actions, rule)


def _checks(summary: Summary) -> Iterator[Sequence[Cell]]:
    for rule in _ordered(summary.names.checks, (rule for rule, _ in summary.checks)):
        yield rule, summary.names.checks.get(rule, ""), *_presence(summary.checks, rule)


def _presence(counts: Counter[tuple[str, str]], rule: str) -> Sequence[Cell]:
    present, absent, unknown = (counts[rule, finding] for finding in ("present", "absent", "unknown"))
    total = present + absent + unknown
    return present, absent, unknown, total, Rate(unknown, total)


def _drafts(summary: Summary) -> Iterator[Sequence[Cell]]:
    words = texts()["identity"]
    for identity, count in _largest(summary.drafts):
        yield identity, words.get(identity, words["other"]), count


def _unknowns(summary: Summary) -> Iterator[Sequence[Cell]]:
    names = summary.names
    of_rule: Counter[tuple[str, str, str]] = Counter()
    for (kind, protocol, rule, _), count in summary.unknowns.items():
        of_rule[kind, protocol, rule] += count
    titles: Mapping[str, Mapping[str, str]] = {"safety": names.safety, "action": names.actions, "check": names.checks}
    for (kind, protocol, rule, reason), count in _largest(summary.unknowns):
        title = names.criteria.get((protocol, rule), "") if kind == "criterion" else titles[kind].get(rule, "")
        words = names.reasons.get(reason, "") if reason else texts()["not_recorded"]
        share = Rate(count, of_rule[kind, protocol, rule])
        yield texts()["kind"][kind], protocol, rule, title, reason, words, count, share


def _cards(summary: Summary) -> Iterator[Sequence[Cell]]:
    for service, name, indicator in sorted({*summary.cards, *summary.would_show}):
        key, calls = (service, name, indicator), summary.calls(service)
        shown = summary.cards[key]
        hook = summary.names.hook(service)
        yield hook, name, indicator, shown, summary.would_show[key], calls, per_100(shown, calls)


def _feedback(summary: Summary) -> Iterator[Sequence[Cell]]:
    shown: Counter[tuple[str, str]] = Counter()
    for (service, name, _), count in summary.cards.items():
        shown[service, name] += count
    for service, name in sorted(shown):
        accepted, overridden = (summary.told[service, name, outcome] for outcome in ("accepted", "overridden"))
        total, answered = shown[service, name], accepted + overridden
        counts = total, accepted, overridden, total - answered
        rates = Rate(answered, total), Rate(accepted, answered), Rate(overridden, answered)
        yield summary.names.hook(service), name, *counts, *rates, summary.changed[service, name]


def _overrides(summary: Summary) -> Iterator[Sequence[Cell]]:
    of_card: Counter[tuple[str, str]] = Counter()
    for (service, name, _), count in summary.overrides.items():
        of_card[service, name] += count
    found = summary.overrides.items()
    for (service, name, why), count in sorted(found, key=lambda one: (*one[0][:2], -one[1], one[0][2].display)):
        share = Rate(count, of_card[service, name])
        yield summary.names.hook(service), name, why.code, why.display, why.system, count, share


def _unmatched(summary: Summary) -> Iterator[Sequence[Cell]]:
    for (service, outcome), count in sorted(summary.unmatched.items()):
        yield summary.names.hook(service), outcome, count


def _ages(summary: Summary) -> Iterator[Sequence[Cell]]:
    for concept, tally in sorted(summary.ages.items()):
        yield concept, summary.names.concept(concept), tally.n, *tally.quantiles(0.25, 0.5, 0.75)


def _latency(summary: Summary) -> Iterator[Sequence[Cell]]:
    for (service, source), tally in sorted(summary.latency.items()):
        title = texts()["overall"] if source == WHOLE else summary.names.sources.get(source, "")
        hook = summary.names.hook(service)
        yield hook, source, title, tally.n, *tally.quantiles(0.5, 0.9, 0.99)


_MADE: Final = {
    "hooks": _hooks,
    "days": _days,
    "burden": _burden,
    "verdicts": _verdicts,
    "criteria": _criteria,
    "safety": _safety,
    "actions": _actions,
    "checks": _checks,
    "drafts": _drafts,
    "unknowns": _unknowns,
    "cards": _cards,
    "feedback": _feedback,
    "overrides": _overrides,
    "unmatched": _unmatched,
    "ages": _ages,
    "latency": _latency,
}


def per_100(count: int, calls: int) -> float | None:
    """Cards per hundred calls; None of too few."""
    return None if calls < LEAST else round(100 * count / calls, 1)


def _of(counts: Counter[tuple[str, str, str]], service: str) -> int:
    return sum(count for (one, _, _), count in counts.items() if one == service)


def _ordered(known: Iterable[Any], seen: Iterable[Any]) -> list[Any]:
    """What was seen, in the order of the knowledge; then what this version does not know."""
    found = set(seen)
    order = [one for one in known if one in found]
    return [*order, *sorted(found.difference(order))]


def _largest(counts: Counter[Any], *, within: int = 0) -> list[tuple[Any, int]]:
    """The most frequent first, below the same first `within` words of the key."""
    return sorted(counts.items(), key=lambda one: (one[0][:within] if within else (), -one[1], one[0]))


# --- what a choice is ---------------------------------------------------------------------------------------


def notes(summary: Summary) -> list[str]:
    """What was counted, in sentences, and what could not be."""
    said, query = texts(), summary.query
    since = said["open_since"] if query.since is None else instant(query.since)
    until = said["open_until"] if query.until is None else instant(query.until)
    whole = query.since is None and query.until is None
    period = said["period_all"] if whole else said["period"].format(since=since, until=until)
    lines = [period[0].upper() + period[1:] + ". " + said["days_in"].format(zone=summary.zone)]
    chosen = {
        "tenant": query.tenant,
        "client": query.client,
        "hook": query.service and summary.names.hook(query.service),
    }
    what = ", ".join(f"{name} {value}" for name, value in chosen.items() if value)
    lines += [said["choice"].format(what=what)] if what else []
    lines += [] if summary.total else [said["empty"]]
    unreadable = summary.unreadable.total()
    lines += [said["unreadable"].format(count=unreadable)] if unreadable else []
    return [*lines, said["tenant_unmatched"]] if query.tenant else lines


# --- JSON and CSV -------------------------------------------------------------------------------------------


def document(summary: Summary, *, now: datetime) -> dict[str, Any]:
    """All sheets as plain JSON values; what is not to be shown is null."""
    query = summary.query
    chosen = {"tenant": query.tenant, "client": query.client, "service": query.service}
    period = {"since": query.since, "until": query.until}
    return {
        "schema": SCHEMA,
        "made": instant(now),
        "zone": str(summary.zone),
        "query": {name: instant(moment) for name, moment in period.items() if moment is not None}
        | {name: value for name, value in chosen.items() if value},
        "notes": notes(summary),
        "sheets": {
            sheet.name: [{key: _json(cell) for key, cell in record.items()} for record in sheet.records()]
            for sheet in sheets(summary)
        },
    }


def _json(cell: Cell) -> Any:
    if not isinstance(cell, Rate):
        return cell
    if cell.percent is None or cell.interval is None:
        return {"percent": None, "n": cell.whole}
    low, high = cell.interval
    return {"percent": round(cell.percent, 1), "low": round(low, 1), "high": round(high, 1), "n": cell.whole}


def files(folder: Path, *, summary: Summary) -> dict[Path, str]:
    """The CSV files of a folder with what they hold."""
    return {folder / f"{sheet.name}.csv": as_csv(sheet) for sheet in sheets(summary)}


def names() -> list[str]:
    """The files that `files` makes, which are known before anything is counted."""
    return [f"{name}.csv" for name in _MADE]


def as_csv(sheet: Sheet) -> str:
    """RFC 4180 with a header. A rate has four columns, its n the last; what is not to be shown is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([head for column in sheet.columns for head in _heads(column)])
    for row in sheet.rows:
        writer.writerow(
            [field for column, cell in zip(sheet.columns, row, strict=True) for field in _fields(column, cell)]
        )
    return out.getvalue()


def _heads(column: Column) -> list[str]:
    key = column.key
    if column.kind == "share":
        return [f"{key}_percent", f"{key}_n"]
    return [f"{key}_percent", f"{key}_low", f"{key}_high", f"{key}_n"] if column.kind == "rate" else [key]


def _fields(column: Column, cell: Cell) -> list[str | int | float]:
    if column.kind in {"share", "rate"}:
        if not isinstance(cell, Rate):
            return [""] * len(_heads(column))
        of = _json(cell)
        shown = [of["percent"]] if column.kind == "share" else [of["percent"], of.get("low"), of.get("high")]
        return [*("" if value is None else value for value in shown), of["n"]]
    return [_harmless(cell) if isinstance(cell, str) else "" if cell is None or isinstance(cell, Rate) else cell]


_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


def _harmless(text: str) -> str:
    """A spreadsheet takes what begins so for a formula; behind an apostrophe it is text."""
    return f"'{text}" if text.startswith(_FORMULA) else text
