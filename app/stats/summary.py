"""Counts of what the service did. Pure: rows in, numbers out; the order of the rows makes no difference.

Nothing is kept but counters whose keys come from the knowledge, so a million decisions take the memory of one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, tzinfo
from typing import Any, Final, TypeAlias

from app.stats.names import Names, Override, safe
from app.stats.quantiles import Tally

WHOLE: Final = ""
"""The source of a latency that is none: the whole call."""

_REASON_BY: Final = "why_unknown"


@dataclass(frozen=True, slots=True)
class Query:
    """Which decisions: from `since` up to but not with `until`; empty texts are every one."""

    since: datetime | None = None
    until: datetime | None = None
    tenant: str = ""
    client: str = ""
    service: str = ""


@dataclass(frozen=True, slots=True)
class Decided:
    """One decision. `ages`: hours of the newest evidence a concept. `readable`: its members had their shape."""

    at: datetime
    service: str
    outcome: str
    verdicts: Mapping[str, Any] = field(default_factory=dict)
    ages: Mapping[str, float] = field(default_factory=dict)
    total_ms: float | None = None
    sources_ms: Mapping[str, float] = field(default_factory=dict)
    cards: int = 0
    readable: bool = True


@dataclass(frozen=True, slots=True)
class Shown:
    """Cards of one kind."""

    service: str
    name: str
    indicator: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Told:
    """What became of one card in the end; `entries`: how often that was told."""

    service: str
    name: str
    outcome: str
    code: str = ""
    system: str = ""
    entries: int = 1


@dataclass(frozen=True, slots=True)
class Unmatched:
    """Feedback about cards that no decision made."""

    service: str
    outcome: str
    count: int = 1


Row: TypeAlias = Decided | Shown | Told | Unmatched


@dataclass(frozen=True, slots=True)
class Summary:
    """The counters, by what their names say. Services are ids; findings are the words of the record."""

    names: Names
    query: Query = field(default_factory=Query)
    zone: tzinfo = UTC
    hooks: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """service, outcome, what a silent or snoozed one would be"""
    days: Counter[tuple[date, str]] = field(default_factory=Counter)
    with_card: Counter[str] = field(default_factory=Counter)
    unreadable: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)
    scopes: Counter[tuple[str, str]] = field(default_factory=Counter)
    criteria: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """protocol, criterion, finding"""
    safety: Counter[tuple[str, str]] = field(default_factory=Counter)
    actions: Counter[tuple[str, str]] = field(default_factory=Counter)
    checks: Counter[tuple[str, str]] = field(default_factory=Counter)
    drafts: Counter[str] = field(default_factory=Counter)
    unknowns: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)
    """kind, protocol, rule, reason"""
    cards: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """service, name, indicator"""
    would_show: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    told: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """service, card, outcome"""
    changed: Counter[tuple[str, str]] = field(default_factory=Counter)
    overrides: Counter[tuple[str, str, Override]] = field(default_factory=Counter)
    unmatched: Counter[tuple[str, str]] = field(default_factory=Counter)
    ages: defaultdict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    latency: defaultdict[tuple[str, str], Tally] = field(default_factory=lambda: defaultdict(Tally))

    @property
    def total(self) -> int:
        """Calls answered."""
        return self.hooks.total()

    def calls(self, service: str) -> int:
        """Calls of one service."""
        return sum(count for (one, _, _), count in self.hooks.items() if one == service)

    def add(self, row: Row) -> None:
        """One row more."""
        match row:
            case Decided():
                self._decided(row)
            case Shown():
                self.cards[row.service, safe(row.name), safe(row.indicator)] += row.count
            case Unmatched():
                self.unmatched[row.service, row.outcome] += row.count
            case Told():
                self._told(row)

    def _told(self, row: Told) -> None:
        card = row.service, safe(row.name)
        self.told[*card, row.outcome] += 1
        self.changed[card] += row.entries > 1
        if row.outcome == "overridden":
            self.overrides[*card, self.names.override(row.code, system=row.system)] += 1

    def _decided(self, row: Decided) -> None:
        outcome, verdicts = safe(row.outcome), row.verdicts
        said = _text(verdicts, "would_be")
        would_be = safe(said) if said or outcome == "silent" else ""
        self.hooks[row.service, outcome, would_be] += 1
        self.days[row.at.astimezone(self.zone).date(), outcome] += 1
        self.with_card[row.service] += row.cards > 0
        self.unreadable[row.service] += not row.readable
        for shown in _dicts(verdicts.get("would_show")):
            self.would_show[row.service, safe(_text(shown, "name")), safe(_text(shown, "indicator"))] += 1
        for concept, hours in row.ages.items():
            self.ages[safe(concept.replace(" ", "_"))].add(hours)
        if row.total_ms is not None:
            self.latency[row.service, WHOLE].add(row.total_ms)
        for source, ms in row.sources_ms.items():
            self.latency[row.service, safe(source)].add(ms)
        self._found(verdicts, why={id_: code for id_, code in _dict(verdicts.get(_REASON_BY)).items() if code})

    def _found(self, verdicts: Mapping[str, Any], *, why: Mapping[str, Any]) -> None:
        for name, entry in verdicts.items():
            if name == self.names.follow_up and isinstance(entry, dict):
                self._followed(name, entry, why=why)
            elif isinstance(entry, dict) and "verdict" in entry:
                protocol = safe(name)
                self.verdicts[protocol, _text(entry, "verdict")] += 1
                self.scopes[protocol, _text(entry, "scope")] += 1
                for rule, finding in _findings(entry.get("criteria")):
                    self.criteria[protocol, rule, finding] += 1
                    self._unknown("criterion", protocol, rule, finding, why=why)
        for rule, finding in _findings(verdicts.get("safety")):
            self.safety[rule, finding] += 1
            self._unknown("safety", "", rule, finding, why=why)
        orders = _dict(verdicts.get("orders"))
        for rule, finding in _findings(orders.get("checks")):
            self.checks[rule, finding] += 1
            self._unknown("check", "", rule, finding, why=why)
        for draft in _dicts(orders.get("drafts")):
            self.drafts[safe(_text(draft, "identity"))] += 1

    def _followed(self, name: str, entry: Mapping[str, Any], *, why: Mapping[str, Any]) -> None:
        """An action that is not listed was absent, but only while a course ran."""
        scope = _text(entry, "scope")
        self.scopes[name, scope] += 1
        listed = dict(_findings(entry.get("actions")))
        if scope == "in":
            listed = dict.fromkeys(self.names.actions, "absent") | listed
        for rule, finding in listed.items():
            self.actions[rule, finding] += 1
            self._unknown("action", name, rule, finding, why=why)

    def _unknown(self, kind: str, protocol: str, rule: str, finding: str, *, why: Mapping[str, Any]) -> None:
        if finding == "unknown":
            code = why.get(rule, "")
            reason, _ = self.names.reason(code if isinstance(code, str) else "")
            self.unknowns[kind, protocol, rule, reason] += 1


def summarise(rows: Iterable[Row], *, names: Names, query: Query | None = None, zone: tzinfo = UTC) -> Summary:
    """The summary of these rows."""
    summary = Summary(names, query or Query(), zone)
    for row in rows:
        summary.add(row)
    return summary


_FINDINGS: Final = frozenset({"met", "not-met", "present", "absent", "unknown"})


def _findings(value: Any) -> Iterable[tuple[str, str]]:
    return ((safe(id_), found) for id_, found in _dict(value).items() if found in _FINDINGS)


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(value: Any) -> Iterable[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _text(entry: Mapping[str, Any], name: str) -> str:
    value = entry.get(name)
    return value if isinstance(value, str) else ""
