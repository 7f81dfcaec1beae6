"""Until when a verdict holds if nothing new comes in: a CRP goes stale, an order ends, a birthday passes.

The rules are run once more on a chart whose `now` notes, for whatever it is compared with, the first instant at which
that comparison turns out otherwise; nothing can change before the earliest of them. There everything that rests on it
is worked out again, and so on until the verdict or the suggestion is another one. So no reader has to say what its
answer hangs on in time, and a new one cannot forget to. What the records themselves say only from some instant on (a
result dated ahead) is told by the mapping: `Mapped.turns`.

"Nothing new" means that the same questions, asked again later, are answered in the same way: a look-back then starts
later, a source that failed has failed again, and one that was cut off reaches back to the same entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from fractions import Fraction
from functools import cached_property
from typing import Any, SupportsIndex, TypeVar, cast, overload

from app.clinical import assessment, table
from app.clinical.chart import Chart
from app.clinical.course import STUDY_DRUGS, course
from app.clinical.criteria import Outcome, evaluate
from app.clinical.findings import Finding
from app.clinical.knowledge import Criterion, Knowledge, Leaf, Protocol, SafetyRule, leaves_of
from app.clinical.readers import read
from app.clinical.reading import Reading
from app.clinical.results import CriterionResult, ProtocolResult, SafetyResult
from fhir_mappings.facts import Facts, Measurement, Source

HORIZON = datetime(2200, 12, 31, 23, 59, 59, tzinfo=UTC)
"""The last instant that is looked at, and at which anything is evaluated: what comes later counts as never.

Records dated at the end of the calendar ("no end") would lead the search to where dates can no longer be added to."""
NEVER = datetime.max.replace(tzinfo=UTC)
MOST_STEPS = 500
"""How many instants are looked at before the search gives up and says up to where it came."""

_MOMENT = datetime.resolution
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Mapped:
    """The facts at one moment, and the later instants at which the same records give other facts."""

    facts: Facts
    turns: Iterable[datetime] = ()


def until(
    first: Mapped,
    *,
    facts_at: Callable[[datetime], Mapped],
    knowledge: Knowledge,
    now: datetime,
    protocols: Iterable[str] | None = None,
    suggest_on: str = "pilot-simple",
    silenced: frozenset[str] = frozenset(),
    steps: int = MOST_STEPS,
) -> dict[str, datetime | None]:
    """For each protocol (`protocols`: only these) until when its verdict and the suggestion hold: the whole second of
    the first instant at which one of them is another, None if there is none up to `HORIZON`.

    `first` are the facts at `now`; `facts_at` maps the same records at a later instant (how the sources were read
    stays as it was). Where the search stops after
    `steps`, the answer is the last instant up to which nothing changes.
    """
    start = now.astimezone(UTC)
    rules = _Rules(knowledge, suggest_on=suggest_on, silenced=silenced)
    wanted = None if protocols is None else frozenset(protocols)
    asked = [p for p in knowledge.protocols if wanted is None or p.id in wanted]
    found: dict[str, datetime | None] = {p.id: None for p in asked}
    waiting = list(asked)
    moment, mapped = start, first
    judged = rules.on(first.facts, asked=start, now=start)
    suggests = judged.suggests()
    verdicts = {p.id: judged.verdict(p) for p in asked}
    for _ in range(steps):
        turn = min((t.astimezone(UTC) for t in mapped.turns if moment < t <= HORIZON), default=NEVER)
        moment = min(turn, judged.suggests_until(), *(judged.verdict_until(p) for p in waiting))
        if moment == NEVER:
            return found
        if moment == turn:
            mapped = facts_at(moment)
            facts = replace(mapped.facts, sources=first.facts.sources)
            judged = rules.on(facts, asked=start, now=moment)
        else:
            judged.chart.move(moment)
        another = judged.suggests() != suggests
        changed = [p for p in waiting if another or judged.verdict(p) is not verdicts[p.id]]
        found |= dict.fromkeys((p.id for p in changed), moment.replace(microsecond=0))
        waiting = [p for p in waiting if p not in changed]
        if not waiting:
            return found
    return found | dict.fromkeys((p.id for p in waiting), moment.replace(microsecond=0))


# --------------------------------------------------------------------------- a now that notes what it is asked


class _Watch:
    """`next`: the first instant after `now` at which something that was asked comes out otherwise."""

    __slots__ = ("next", "now")

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.next = NEVER

    def note(self, wait: timedelta) -> None:
        """So long from now."""
        if wait <= HORIZON - self.now:
            self.next = min(self.next, self.now + wait)


class _Now(datetime):
    """A moment that moves on with the clock. Comparisons say what they always said, and note when they no longer do.

    Two such moments move together, so what they say of each other never changes.
    """

    _plain: datetime
    _watch: _Watch

    @classmethod
    def at(cls, moment: datetime, watch: _Watch) -> _Now:
        """That instant (in UTC) as seen from the clock's now."""
        one = cls.combine(moment.date(), moment.timetz())
        one._plain = moment
        one._watch = watch
        return one

    def __lt__(self, other: date) -> bool:
        if type(other) is _Now:
            return self._plain < other._plain
        found = self._plain < other
        if found and isinstance(other, datetime):
            self._watch.note(other - self._plain)
        return found

    def __le__(self, other: date) -> bool:
        if type(other) is _Now:
            return self._plain <= other._plain
        found = self._plain <= other
        if found and isinstance(other, datetime):
            self._watch.note(other - self._plain + _MOMENT)
        return found

    def __ge__(self, other: date) -> bool:
        return not self < other

    def __gt__(self, other: date) -> bool:
        return not self <= other

    def __eq__(self, other: object) -> bool:
        if type(other) is _Now:
            return self._plain == other._plain
        found = self._plain == other
        if isinstance(other, datetime):
            _ = self <= other if found else self < other
        return found

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = datetime.__hash__

    def __add__(self, other: timedelta) -> _Now:
        return _Now.at(self._plain + other, self._watch)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        """A moment so much earlier; or the age of a moment, which grows."""
        if isinstance(other, timedelta):
            return _Now.at(self._plain - other, self._watch)
        if type(other) is _Now:
            return self._plain - other._plain
        return _Age.of(self._plain - other, self._watch)

    def __rsub__(self, other: datetime) -> _Age:
        """How far ahead a moment is: it shrinks."""
        return _Age.of(other - self._plain, self._watch, falls=True)

    def astimezone(self, tz: Any = None) -> Any:
        """The plain moment in that zone. Whoever asks may look at its calendar, which turns at midnight."""
        local = self._plain.astimezone(tz)
        self._watch.note(_midnight(local.date() + timedelta(days=1), tz) - self._plain)
        return local


class _Age(timedelta):
    """A time span that grows as the clock goes (or shrinks: `_falls`). Numbers taken out of it are for people to read;
    rules compare it."""

    _plain: timedelta
    _watch: _Watch
    _falls: bool

    @classmethod
    def of(cls, span: timedelta, watch: _Watch, *, falls: bool = False) -> _Age:
        """That span now."""
        one = cls(days=span.days, seconds=span.seconds, microseconds=span.microseconds)
        one._plain = span
        one._watch = watch
        one._falls = falls
        return one

    def __lt__(self, other: timedelta) -> bool:
        found = self._plain < other
        if found is not self._falls:
            self._watch.note(self._plain - other + _MOMENT if self._falls else other - self._plain)
        return found

    def __le__(self, other: timedelta) -> bool:
        found = self._plain <= other
        if found is not self._falls:
            self._watch.note(self._plain - other if self._falls else other - self._plain + _MOMENT)
        return found

    def __ge__(self, other: timedelta) -> bool:
        return not self < other

    def __gt__(self, other: timedelta) -> bool:
        return not self <= other

    def __eq__(self, other: object) -> bool:
        if isinstance(other, timedelta):
            _ = (self < other, self <= other)
        return self._plain == other

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = timedelta.__hash__

    def __add__(self, other: timedelta) -> _Age:
        return _Age.of(self._plain + other, self._watch, falls=self._falls)

    __radd__ = __add__

    def __sub__(self, other: timedelta) -> _Age:
        return _Age.of(self._plain - other, self._watch, falls=self._falls)

    def __neg__(self) -> _Age:
        return _Age.of(-self._plain, self._watch, falls=not self._falls)


class _Fresh(list[Measurement]):
    """Values inside a window, newest first. Each leaves it in its time: noted of those that are looked at.

    Older ones leave first, so until the oldest that was looked at leaves, whoever looked would see the same.
    """

    def __init__(self, values: Iterable[Measurement], since: _Now) -> None:
        super().__init__(values)
        self._since = since

    def _looked(self, index: SupportsIndex = -1) -> None:
        """At the value of that index and the newer ones."""
        if list.__len__(self):
            oldest = list.__getitem__(self, index)
            self._since._watch.note(oldest.when.earliest - self._since._plain + _MOMENT)

    def __iter__(self) -> Iterator[Measurement]:
        for index in range(list.__len__(self)):
            self._looked(index)
            yield list.__getitem__(self, index)

    def __bool__(self) -> bool:
        self._looked(0)
        return list.__len__(self) > 0

    def __len__(self) -> int:
        self._looked()
        return list.__len__(self)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Measurement: ...
    @overload
    def __getitem__(self, index: slice) -> list[Measurement]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Measurement | list[Measurement]:
        if isinstance(index, slice):
            return list(self)[index]
        self._looked(index)
        return list.__getitem__(self, index)

    def __reversed__(self) -> Iterator[Measurement]:
        return reversed(list(self))

    def __contains__(self, value: object) -> bool:
        return value in list(self)

    def __eq__(self, other: object) -> bool:
        return list(self) == other

    def __ne__(self, other: object) -> bool:
        return list(self) != other

    __hash__ = None

    def __add__(self, other: Any) -> list[Any]:
        return list(self) + list(other)

    def __radd__(self, other: Any) -> list[Any]:
        return list(other) + list(self)


def _midnight(day: date, zone: Any) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)


# --------------------------------------------------------------------------- the chart and the rules on it


class _Chart(Chart):
    """A chart that moves on in time. What was worked out is kept with the instant up to which it holds."""

    def __init__(self, facts: Facts, *, rules: _Rules, asked: datetime, now: datetime) -> None:
        super().__init__(facts, knowledge=rules.knowledge, now=now)
        self._rules = rules
        self._asked = asked
        self._read = facts
        self.watch = _Watch(now)
        self.move(now)

    def move(self, now: datetime) -> None:
        """Another now; what holds no longer is worked out again when it is asked for."""
        self.watch.now = now
        self.now = _Now.at(now, self.watch)
        self.facts = replace(self._read, sources=tuple(map(self._again, self._read.sources)))
        self._sources = {source.key: source for source in self.facts.sources}

    def _again(self, source: Source) -> Source:
        """The same source, asked again now: what it reaches back to moves along unless an entry of it shows that."""
        reaches = source.reaches
        if reaches is None or (source.outcome == "partial" and reaches != self._asked):
            return source
        return replace(source, reaches=self.now - (self._asked - reaches))

    def once(self, key: tuple[object, ...], make: Callable[[], _T]) -> _T:
        value, holds = self.kept(key, make)
        if holds < self.watch.next:
            self.watch.next = holds
        return value

    def kept(self, key: tuple[object, ...], make: Callable[[], _T]) -> tuple[_T, datetime]:
        """The same with the instant up to which it holds; whoever asks does not hang on it."""
        found: tuple[_T, datetime] | None = self.readings.get(key)
        if found is None or found[1] <= self.watch.now:
            outer, self.watch.next = self.watch.next, NEVER
            value = make()
            found = self.readings[key] = (value, self.watch.next)
            self.watch.next = outer
        return found

    def values(self, concept: str, *, since: datetime | None = None) -> list[Measurement]:
        if not isinstance(since, _Now):
            return super().values(concept, since=since)
        found = super().values(concept)
        start = since._plain
        return _Fresh((m for m in found if m.when.earliest >= start), since)

    def hours_since(self, moment: datetime) -> Fraction:
        """Noted where it reaches a number of hours that a rule asks for."""
        hours = super().hours_since(moment)
        for limit in self._rules.hours:
            if limit >= hours:
                wait = timedelta(hours=float(limit)) - (self.watch.now - moment)
                self.watch.note(max(wait, _MOMENT))
                break
        return hours

    def years(self, born: date) -> int:
        """Noted at the next birthday that a rule asks for, not at every midnight."""
        today = self.watch.now.astimezone(self.zone).date()
        years = today.year - born.year - ((today.month, today.day) < (born.month, born.day))
        for age in self._rules.ages:
            if age > years and born.year + age <= date.max.year:
                self.watch.note(_midnight(_birthday(born, age), self.zone) - self.watch.now)
                break
        return years


def _birthday(born: date, age: int) -> date:
    """The first day of that age; born on 29 February: 1 March where there is none."""
    year = born.year + age
    try:
        return born.replace(year=year)
    except ValueError:
        return date(year, 3, 1)


class _Rules:
    """What is asked, prepared once."""

    def __init__(self, knowledge: Knowledge, *, suggest_on: str, silenced: frozenset[str]) -> None:
        self.knowledge = knowledge
        self.suggest_on = suggest_on
        self.silenced = silenced
        self.criteria: dict[str, Criterion] = {c.id: c for p in knowledge.protocols for c in p.criteria}
        self.safety: dict[str, SafetyRule] = {rule.id: rule for rule in knowledge.safety}
        last = max((n for n, row in enumerate(knowledge.rows) if row.suggestions), default=-1)
        self.rows = knowledge.rows[: last + 1]

    @cached_property
    def _leaves(self) -> tuple[Leaf, ...]:
        trees = [c.tree for c in self.criteria.values()] + [rule.tree for rule in self.safety.values()]
        trees += [protocol.scope for protocol in self.knowledge.protocols]
        return tuple(leaf for tree in trees for leaf in leaves_of(tree))

    @cached_property
    def ages(self) -> tuple[int, ...]:
        """The ages at which an answer about somebody's age may become another one: the limits in years, and the year
        after, of every rule and of every [limit.NAME_years]."""
        limits = [limit.value for name, limit in self.knowledge.limits.items() if name.endswith("_years")]
        limits += [leaf.value for leaf in self._leaves if leaf.unit == "a" and leaf.value is not None]
        rounded = {int(v.to_integral_value(how)) for v in limits for how in (ROUND_FLOOR, ROUND_CEILING)}
        return tuple(sorted({age for years in rounded for age in (years, years + 1)}))

    @cached_property
    def hours(self) -> tuple[Decimal, ...]:
        """Every number of hours that a rule compares with, or has as a parameter NAME_hours."""
        limits = {leaf.value for leaf in self._leaves if leaf.unit == "h" and leaf.value is not None}
        params = [item for leaf in self._leaves for item in leaf.params.items() if item[0].endswith("_hours")]
        return tuple(sorted(limits | {Decimal(str(value)) for _, value in params}))

    def on(self, facts: Facts, *, asked: datetime, now: datetime) -> _Judgement:
        """The rules on these facts."""
        return _Judgement(_Chart(facts, rules=self, asked=asked, now=now), rules=self)


class _Judgement(Mapping[str, Outcome]):
    """Verdicts and the suggestion on one chart. As a mapping: the outcome of a criterion or safety rule by its id, each
    worked out when it is asked for and kept as long as it holds."""

    def __init__(self, chart: _Chart, *, rules: _Rules) -> None:
        self.chart = chart
        self.rules = rules
        self._situation = cast(table.Situation, _Situation(self))

    def __getitem__(self, id_: str) -> Outcome:
        return self.chart.once(("rule", id_), lambda: self._outcome(id_))

    def __iter__(self) -> Iterator[str]:
        return iter((*self.rules.criteria, *self.rules.safety))

    def __len__(self) -> int:
        return len(self.rules.criteria) + len(self.rules.safety)

    def _outcome(self, id_: str) -> Outcome:
        criterion = self.rules.criteria.get(id_)
        if criterion is not None:
            return evaluate(criterion.tree, chart=self.chart, known=self)
        return assessment.safety_outcome(self.rules.safety[id_], chart=self.chart, known=self)

    def verdict(self, protocol: Protocol) -> Finding:
        """As `ProtocolResult.verdict`."""
        return self._verdict(protocol)[0]

    def verdict_until(self, protocol: Protocol) -> datetime:
        """Up to when that verdict holds."""
        return self._verdict(protocol)[1]

    def _verdict(self, protocol: Protocol) -> tuple[Finding, datetime]:
        """One criterion that is not met decides alone, for as long as it is not met; else all of them together."""
        holds = NEVER
        finding = Finding.MET
        against = None
        for criterion in protocol.criteria:
            if criterion.part_of:
                continue
            name = criterion.id
            outcome, lasts = self.chart.kept(("rule", name), lambda name=name: self._outcome(name))  # type: ignore[misc]
            if outcome.finding is Finding.NOT_MET:
                against = lasts if against is None else max(against, lasts)
            elif outcome.finding is Finding.UNKNOWN:
                finding = Finding.UNKNOWN
            holds = min(holds, lasts)
        return (finding, holds) if against is None else (Finding.NOT_MET, against)

    def suggests(self) -> bool:
        """As `Assessment.suggest`."""
        return self.chart.kept(("suggests",), self._suggests)[0]

    def suggests_until(self) -> datetime:
        """Up to when that holds."""
        return self.chart.kept(("suggests",), self._suggests)[1]

    def _suggests(self) -> bool:
        """Looks no further than it has to: nothing else can change the answer before what was asked for does."""
        situation = self._situation
        for row in self.rules.rows:
            if all(table.CONDITIONS[name](situation) for name in row.when):
                allowed = table.silenced_row(row, self.rules.silenced).suggestions
                return allowed and not table.is_withheld(situation)
        return False


class _Result:
    """A protocol's result whose scope is looked at only when somebody asks for it."""

    def __init__(self, protocol: Protocol, *, judged: _Judgement) -> None:
        criteria = tuple(CriterionResult(c, judged[c.id]) for c in protocol.criteria)
        self._judged = judged
        self._result = ProtocolResult(protocol, criteria, "", {})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._result, name)

    @property
    def scope(self) -> str:
        return assessment.scope_of(self._result.protocol, chart=self._judged.chart, known=self._judged)


class _Situation:
    """What the table of cards looks at (`table.Situation`), each part worked out when it is looked at, and kept."""

    def __init__(self, judged: _Judgement) -> None:
        self._judged = judged
        self._chart = judged.chart
        self._knowledge = judged.rules.knowledge
        self.suggest_on = judged.rules.suggest_on
        self.not_measured = judged.chart.facts.overlay.not_measured

    @property
    def simple(self) -> _Result:
        return self._result("pilot-simple")

    @property
    def full(self) -> _Result:
        return self._result("pilot-full")

    def _result(self, name: str) -> _Result:
        protocol = self._knowledge.protocol(name)
        return self._chart.once(("result", name), lambda: _Result(protocol, judged=self._judged))

    @property
    def safety(self) -> tuple[SafetyResult, ...]:
        rules = self._knowledge.safety
        return self._chart.once(("safety",), lambda: tuple(SafetyResult(rule, self._judged[rule.id]) for rule in rules))

    @property
    def required(self) -> tuple[tuple[str, Reading], ...]:
        chart, names = self._chart, self._knowledge.required
        return chart.once(
            ("required",), lambda: tuple((name, assessment.required_reading(chart, name)) for name in names)
        )

    @property
    def study_drugs(self) -> tuple[tuple[str, Reading], ...]:
        chart = self._chart
        return chart.once(("study",), lambda: tuple((drug, assessment.study_drug(chart, drug)) for drug in STUDY_DRUGS))

    @property
    def deceased(self) -> bool:
        return assessment.is_deceased(self._chart.facts)

    @property
    def course(self) -> bool:
        return self._chart.once(("course",), lambda: course(self._chart) is not None)

    @property
    def invasive(self) -> Reading:
        return read(self._chart, assessment.INVASIVE)

    @property
    def comfort_care(self) -> Reading:
        return read(self._chart, assessment.COMFORT_CARE)

    @property
    def other_patient(self) -> bool:
        return assessment.has_other_patient(self._chart.facts)

    @property
    def receives(self) -> bool:
        return assessment.receives(self._chart)
