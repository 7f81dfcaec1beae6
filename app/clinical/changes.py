"""What would change a verdict: the smallest sets of at most two changed inputs that turn it into another one.

The inputs of a protocol are its distinct readings. What an input might become is cut into the regions between the
thresholds that the protocol asks of it (or into its possible states); regions that answer every question alike are one.
A verdict is the conjunction of its criteria, so

- *not met* takes one criterion that is not met: all inputs of a smallest set are asked by that criterion;
- *met* takes every criterion that is not met yet: the set reaches all of them, and one of its inputs may mend what the
  other breaks.

These sets are tried, all of them, on the trees themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from itertools import combinations
from typing import TypeAlias, assert_never

from app.clinical.criteria import finding_of
from app.clinical.findings import Finding
from app.clinical.intervals import Interval
from app.clinical.knowledge import All, Any, Knowledge, Leaf, Node, Not, Ref
from app.clinical.readers.questions import QUESTIONS, Question
from app.clinical.reading import Reading, Reason
from app.clinical.results import ProtocolResult

ANOTHER = "another"
"""A state that the protocol does not name, of an input of which nobody says what states it can have."""

_RANKS = (Finding.NOT_MET, Finding.UNKNOWN, Finding.MET)
"""In Kleene's logic "all" is the least and "any" the greatest."""
_RANK = {finding: rank for rank, finding in enumerate(_RANKS)}
_NOT_MET, _UNKNOWN, _MET = range(3)
_AS_IT_IS = -1

_Tree: TypeAlias = Callable[[list[int]], int]
"""The rank of a tree for a class of values of each input."""


@dataclass(frozen=True, slots=True)
class Span:
    """Numbers from `low` to `high`; None is unbounded; `open_*` leaves the bound itself out."""

    low: Decimal | None
    high: Decimal | None
    open_low: bool = False
    open_high: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """One input that would have to be another, and the weakest condition on it.

    `criterion`: the innermost criterion of the protocol that asks for it. `now`: what it reads as. A number has to lie
    in one of `spans` (in `unit`), a state has to be one of `states`, or, `negated`, none of them. None of all: any
    value that is known will do. `about`: which drug group, conditions or the like an input is asked for that is asked
    for several.
    """

    criterion: str
    input: str
    now: Reading
    about: str = ""
    unit: str = ""
    spans: tuple[Span, ...] = ()
    states: tuple[str, ...] = ()
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Flip:
    """Changes after which the verdict is `to`. No part of them makes it met or not met where it was not."""

    to: Finding
    changes: tuple[Change, ...]


def flips(
    result: ProtocolResult, *, readings: Mapping[tuple[object, ...], Reading], knowledge: Knowledge
) -> tuple[Flip, ...]:
    """Every smallest set of one or two changes, single ones first; none where it takes more.

    `readings` by `Leaf.key`: those that the result rests on.
    """
    return flips_of(
        [(c.id, c.criterion.tree) for c in result.deciding],
        readings=readings,
        tree_of=lambda id_: knowledge.criterion(id_).tree,
        shown=frozenset(c.id for c in result.criteria),
    )


def flips_of(
    criteria: Sequence[tuple[str, Node]],
    *,
    readings: Mapping[tuple[object, ...], Reading],
    tree_of: Callable[[str], Node],
    shown: frozenset[str] = frozenset(),
) -> tuple[Flip, ...]:
    """The same for criteria all of which must hold. `shown`: ids of a Ref that name the leaves below it."""
    found = _Inputs(readings, tree_of=tree_of, shown=shown)
    for number, (id_, tree) in enumerate(criteria):
        found.visit(tree, number=number, criterion=id_)
    inputs = found.prepared()
    trees = [found.compiled(tree) for _, tree in criteria]
    return tuple(_Search(inputs, trees).flips())


# --------------------------------------------------------------------------- inputs


@dataclass(slots=True)
class _Input:
    """One input. `asked_by`: a bit for each criterion. `regions` are spans or states.

    `classes`: the regions that answer every question alike, one index each for what is different from now. `answers`:
    for each question the rank in each class, and last as it is now. `allowed`: the only states that it may have:
    another input could not be known beside the others. `waits_for`: the place of the input that has to change first, as
    this one cannot be known beside what that reads as now.
    """

    criterion: str
    now: Reading
    leaves: list[Leaf] = field(default_factory=list)
    asked_by: int = 0
    regions: list[Span] | list[str] = field(default_factory=list)
    classes: list[list[int]] = field(default_factory=list)
    answers: list[tuple[int, ...]] = field(default_factory=list)
    allowed: frozenset[str] | None = None
    waits_for: int | None = None

    @property
    def holds_back(self) -> bool:
        """Whether another input cannot be known beside what this reads as: then an answer alike is a change, too."""
        return self.allowed is not None and self.now.known and self.now.state not in self.allowed

    def prepare(self) -> None:
        """Cuts what it might become into classes."""
        first = self.leaves[0]
        hypothetical: list[Reading]
        if first.among:
            states = _states(self.leaves)
            self.regions = states = states if self.allowed is None else [s for s in states if s in self.allowed]
            hypothetical = [Reading(_HYPOTHESIS, state=state) for state in states]
        else:
            spans = _spans(self.leaves)
            self.regions = spans
            hypothetical = [Reading(_HYPOTHESIS, interval=_point(span)) for span in spans]
        now = tuple(_RANK[finding_of(leaf, self.now)] for leaf in self.leaves)
        alike: dict[tuple[int, ...], list[int]] = {}
        for region, reading in enumerate(hypothetical):
            answers = tuple(_RANK[finding_of(leaf, reading)] for leaf in self.leaves)
            if answers != now or self.holds_back:
                alike.setdefault(answers, []).append(region)
        self.classes = list(alike.values())
        self.answers = list(zip(*alike, now, strict=True))

    def change(self, classes: Iterable[int]) -> Change:
        """The change to any of these classes."""
        chosen = sorted(region for one in classes for region in self.classes[one])
        leaf = self.leaves[0]
        spans: tuple[Span, ...] = ()
        states: tuple[str, ...] = ()
        if len(chosen) < len(self.regions) or self.allowed is not None:
            picked = [self.regions[region] for region in chosen]
            spans = _merged(span for span in picked if isinstance(span, Span))
            states = tuple(state for state in picked if isinstance(state, str))
        negated = ANOTHER in states
        if negated:
            states = tuple(s for s in self.regions if isinstance(s, str) and s not in states)
        about = " ".join(str(leaf.params[name]) for name in _SUBJECTS if name in leaf.params)
        return Change(self.criterion, leaf.input, self.now, about, leaf.unit, spans, states, negated)


_SUBJECTS = ("group", "concepts", "substances", "ingredient")
_HYPOTHESIS = Reason.of("state", state="")


def _states(leaves: Sequence[Leaf]) -> list[str]:
    question = QUESTIONS.get(leaves[0].input)
    named = sorted({state for leaf in leaves for state in leaf.among})
    return [*named, ANOTHER] if question is None else sorted(question.states.union(named))


def _spans(leaves: Iterable[Leaf]) -> list[Span]:
    """Below the first threshold, the threshold itself, up to the next, and so on."""
    spans: list[Span] = []
    below: Decimal | None = None
    for value in sorted({leaf.value for leaf in leaves if leaf.value is not None}):
        spans += [Span(below, value, below is not None, True), Span(value, value)]
        below = value
    return [*spans, Span(below, None, True)]


def _point(span: Span) -> Interval:
    """A number inside."""
    if span.low is None:
        return Interval.of(Fraction(span.high or 0) - 1)
    if span.high is None:
        return Interval.of(Fraction(span.low) + 1)
    return Interval.of((Fraction(span.low) + Fraction(span.high)) / 2)


def _merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Spans in order, those that touch as one."""
    found: list[Span] = []
    for span in spans:
        last = found[-1] if found else None
        if last is not None and last.high == span.low and last.open_high is not span.open_low:
            found[-1] = Span(last.low, span.high, last.open_low, span.open_high)
        else:
            found.append(span)
    return tuple(found)


class _Inputs:
    """Collects the inputs of trees, then turns the trees into functions of them."""

    def __init__(
        self,
        readings: Mapping[tuple[object, ...], Reading],
        *,
        tree_of: Callable[[str], Node],
        shown: frozenset[str],
    ) -> None:
        self._readings = readings
        self._tree_of = tree_of
        self._shown = shown
        self._inputs: dict[tuple[object, ...], _Input] = {}
        self._order: list[_Input] = []
        self._places: dict[int, tuple[int, int]] = {}

    def visit(self, node: Node, *, number: int, criterion: str) -> None:
        """The leaves of a tree of criterion `number`."""
        if isinstance(node, Leaf):
            key = node.key
            one = self._inputs.get(key)
            if one is None:
                one = self._inputs[key] = _Input(criterion, self._readings[key])
            one.asked_by |= 1 << number
            if id(node) not in self._places:
                place = list(self._inputs).index(key)
                self._places[id(node)] = (place, len(one.leaves))
                one.leaves.append(node)
        elif isinstance(node, Ref):
            inner = node.id if node.id in self._shown else criterion
            self.visit(self._tree_of(node.id), number=number, criterion=inner)
        else:
            for child in (node.child,) if isinstance(node, Not) else node.children:
                self.visit(child, number=number, criterion=criterion)

    def prepared(self) -> list[_Input]:
        """The inputs, in the order in which they are asked."""
        self._order = list(self._inputs.values())
        for one in self._order:
            self._restrict(one)
        for one in self._order:
            one.prepare()
        return self._order

    def _restrict(self, one: _Input) -> None:
        """What this input cannot be known beside is not offered: the verdict would be open, not another one."""
        question = QUESTIONS.get(one.leaves[0].input, Question())
        for place, other in enumerate(self._order):
            allowed = question.beside.get(other.leaves[0].input)
            if allowed is not None:
                other.allowed = allowed
                if other.holds_back:
                    one.waits_for = place

    def compiled(self, node: Node) -> _Tree:
        """The tree as a function of the class of each input."""
        if isinstance(node, Leaf):
            place, question = self._places[id(node)]
            answers = self._order[place].answers[question]
            return lambda chosen: answers[chosen[place]]
        if isinstance(node, Ref):
            return self.compiled(self._tree_of(node.id))
        if isinstance(node, Not):
            inner = self.compiled(node.child)
            return lambda chosen: _MET - inner(chosen)
        children = [self.compiled(child) for child in node.children]
        if isinstance(node, All):
            return lambda chosen: min([child(chosen) for child in children], default=_MET)
        if isinstance(node, Any):
            return lambda chosen: max([child(chosen) for child in children], default=_NOT_MET)
        assert_never(node)


# --------------------------------------------------------------------------- search


class _Search:
    """Tries what may flip the verdict."""

    def __init__(self, inputs: list[_Input], trees: list[_Tree]) -> None:
        self._inputs = inputs
        self._trees = trees
        self._chosen = [_AS_IT_IS] * len(inputs)
        self._base = [tree(self._chosen) for tree in trees]
        self._verdict = min(self._base, default=_MET)
        self._open = sum(1 << number for number, rank in enumerate(self._base) if rank != _MET)

    def flips(self) -> Iterator[Flip]:
        """Single changes, then pairs; of each first those to *met*."""
        single = {place: self._single(place) for place in range(len(self._inputs))}
        for to in (_MET, _NOT_MET):
            for place, one in enumerate(self._inputs):
                classes = [number for number, rank in single[place].items() if rank == to]
                if classes:
                    yield Flip(_RANKS[to], (one.change(classes),))
        left = {
            place: [number for number in range(len(one.classes)) if number not in single[place]]
            for place, one in enumerate(self._inputs)
        }
        pairs = [
            (first, second, self._pair(first, second, left))
            for first, second in combinations([place for place, classes in left.items() if classes], 2)
            if self._may_flip(self._inputs[first].asked_by, self._inputs[second].asked_by)
            and self._inputs[first].waits_for in {None, second}
            and self._inputs[second].waits_for in {None, first}
        ]
        for to in (_MET, _NOT_MET):
            for first, second, found in pairs:
                yield from self._blocks(first, second, [pair for pair, rank in found.items() if rank == to], to)

    def _single(self, place: int) -> dict[int, int]:
        """The classes of an input that flip the verdict alone, each with the rank it becomes."""
        found: dict[int, int] = {}
        if self._inputs[place].waits_for is not None:
            return found
        for number in range(len(self._inputs[place].classes)):
            self._chosen[place] = number
            rank = self._with(self._inputs[place].asked_by)
            if rank != self._verdict and rank != _UNKNOWN:
                found[number] = rank
        self._chosen[place] = _AS_IT_IS
        return found

    def _pair(self, first: int, second: int, left: Mapping[int, list[int]]) -> dict[tuple[int, int], int]:
        """The same for two inputs, of classes that do not flip it alone."""
        asked_by = self._inputs[first].asked_by | self._inputs[second].asked_by
        found = {}
        for one in left[first]:
            self._chosen[first] = one
            for other in left[second]:
                self._chosen[second] = other
                rank = self._with(asked_by)
                if rank != self._verdict and rank != _UNKNOWN:
                    found[one, other] = rank
        self._chosen[first] = self._chosen[second] = _AS_IT_IS
        return found

    def _with(self, asked_by: int) -> int:
        """The verdict when the inputs that these criteria ask for are as chosen."""
        return min(
            [
                tree(self._chosen) if asked_by >> number & 1 else rank
                for number, (tree, rank) in enumerate(zip(self._trees, self._base, strict=True))
            ]
        )

    def _may_flip(self, first: int, second: int) -> bool:
        """Whether two inputs that these criteria ask for could do together what neither does alone."""
        if first & second:
            return True
        return bool(first & self._open and second & self._open) and not self._open & ~(first | second)

    def _blocks(self, first: int, second: int, pairs: list[tuple[int, int]], to: int) -> Iterator[Flip]:
        """The pairs as sets of changes: classes of the first input that go with the same ones of the second are one."""
        partners: dict[int, list[int]] = {}
        for one, other in pairs:
            partners.setdefault(one, []).append(other)
        alike: dict[tuple[int, ...], list[int]] = {}
        for one, others in partners.items():
            alike.setdefault(tuple(others), []).append(one)
        for together, ones in alike.items():
            yield Flip(_RANKS[to], (self._inputs[first].change(ones), self._inputs[second].change(together)))
