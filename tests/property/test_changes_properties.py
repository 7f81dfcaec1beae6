"""What would change a verdict, against plain trial of every single change and every pair of changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from itertools import combinations, product
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.clinical.changes import Change, Flip, flips, flips_of
from app.clinical.criteria import finding_of
from app.clinical.findings import Finding, all_of, any_of, negate
from app.clinical.intervals import Interval
from app.clinical.knowledge import All, Any, Leaf, Node, Not, Ref
from app.clinical.readers.questions import QUESTIONS
from app.clinical.reading import Reading, Reason
from tests.property.size import examples
from tests.property.test_clinical_properties import PATIENTS, knowledge, original

Key: TypeAlias = tuple[object, ...]
Value: TypeAlias = Fraction | str
Trees: TypeAlias = list[tuple[str, Node]]
Readings: TypeAlias = Mapping[Key, Reading]

pytestmark = pytest.mark.no_cover
REASON = Reason.of("state", state="")
SHARED = {"SHARED-1": Leaf("crp", op=">", value=Decimal(20)), "SHARED-2": Leaf("prone", among=frozenset({"yes"}))}
STATES = {"prone": ("yes", "no"), "ecmo_at_gas": ("off", "vv", "va", "generic"), "unheard of": ("red", "green", "")}


def _numbers() -> st.SearchStrategy[Leaf]:
    return st.builds(
        Leaf,
        st.sampled_from(["crp", "ferritin", "pf"]),
        op=st.sampled_from(["<", "<=", ">", ">="]),
        value=st.sampled_from([Decimal(10), Decimal(20)]),
        otherwise=st.sampled_from(["", "", "unknown"]),
        unknown=st.sampled_from(["", "", "met", "not-met"]),
    )


def _states() -> st.SearchStrategy[Leaf]:
    return st.sampled_from(sorted(STATES)).flatmap(
        lambda name: st.builds(
            Leaf,
            st.just(name),
            among=st.frozensets(st.sampled_from([s for s in STATES[name] if s]), min_size=1),
            unknown=st.sampled_from(["", "", "met", "not-met"]),
        )
    )


NODES: st.SearchStrategy[Node] = st.recursive(
    _numbers() | _states() | st.builds(Ref, st.sampled_from(sorted(SHARED))),
    lambda inner: st.one_of(
        st.builds(All, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Any, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Not, inner),
    ),
    max_leaves=5,
)
TREES: st.SearchStrategy[Trees] = st.lists(NODES, max_size=4).map(
    lambda trees: [(f"C{n}", t) for n, t in enumerate(trees)]
)


@st.composite
def patients(draw: st.DrawFn) -> tuple[Trees, Readings]:
    """A protocol, and what is known of each of its inputs."""
    trees = draw(TREES)
    readings = {}
    for leaf in _leaves(trees):
        unknown = st.builds(Reading, st.just(REASON), failed=st.booleans())
        if leaf.among:
            known = st.sampled_from([s for s in STATES[leaf.input] if s]).map(lambda s: Reading(REASON, state=s))
        else:
            known = st.builds(
                Interval.of, st.sampled_from([5, 10, 15, 20, 25]), st.sampled_from(["", "", "<", ">="])
            ).map(lambda i: Reading(REASON, interval=i))
        readings[leaf.key] = draw(unknown | known)
    return trees, readings


def _leaves(trees: Trees) -> Iterator[Leaf]:
    def below(node: Node) -> Iterator[Leaf]:
        if isinstance(node, Leaf):
            yield node
        elif isinstance(node, Ref):
            yield from below(_tree(node.id))
        else:
            for child in (node.child,) if isinstance(node, Not) else node.children:
                yield from below(child)

    for _, tree in trees:
        yield from below(tree)


def _tree(id_: str) -> Node:
    return SHARED[id_] if id_ in SHARED else knowledge().criterion(id_).tree


def possible_together(trees: Trees, readings: Readings, changed: Mapping[Key, Value]) -> bool:
    """False where a number changes beside a state in which nobody could read it, or such a state is what changes."""
    keys = {str(leaf.input): leaf.key for leaf in _leaves(trees)}
    for name, key in keys.items():
        for other, allowed in (QUESTIONS[name].beside if name in QUESTIONS else {}).items():
            state = changed.get(keys[other], readings[keys[other]].state) if other in keys else ""
            touched = key in changed or keys.get(other) in changed
            if touched and state and state not in allowed:
                return False
    return True


def verdict(trees: Trees, readings: Readings, changed: Mapping[Key, Value]) -> Finding:
    """The verdict when these inputs were read as these values."""

    def find(node: Node) -> Finding:
        if isinstance(node, Leaf):
            return finding_of(node, _known(changed[node.key]) if node.key in changed else readings[node.key])
        if isinstance(node, Ref):
            return find(_tree(node.id))
        if isinstance(node, Not):
            return negate(find(node.child))
        return (all_of if isinstance(node, All) else any_of)(find(child) for child in node.children)

    return all_of(find(tree) for _, tree in trees)


def _known(value: Value) -> Reading:
    return Reading(REASON, state=value) if isinstance(value, str) else Reading(REASON, interval=Interval.of(value))


def values(trees: Trees) -> dict[Key, tuple[Value, ...]]:
    """For each input everything it could be that makes a difference, and more."""
    asked: dict[Key, list[Leaf]] = {}
    for leaf in _leaves(trees):
        asked.setdefault(leaf.key, []).append(leaf)
    found: dict[Key, tuple[Value, ...]] = {}
    for key, leaves in asked.items():
        name = leaves[0].input
        if leaves[0].among:
            known = sorted(QUESTIONS[name].states) if name in QUESTIONS else ["red", "green", "blue"]
            found[key] = tuple(known)
        else:
            limits = {Fraction(leaf.value) for leaf in leaves if leaf.value is not None}
            near = {limit + step for limit in limits for step in (-7, Fraction(-1, 3), 0, Fraction(1, 3), 7)}
            found[key] = tuple(sorted(near))
    return found


def smallest(trees: Trees, readings: Readings) -> Iterator[tuple[Finding, dict[Key, Value]]]:
    """Every smallest set of one or two changes, by plain trial."""
    now = verdict(trees, readings, {})

    def flips_to(changed: Mapping[Key, Value]) -> Finding | None:
        if not possible_together(trees, readings, changed):
            return None
        then = verdict(trees, readings, changed)
        return None if then is now or then is Finding.UNKNOWN else then

    possible = values(trees)
    alone = {(key, value): flips_to({key: value}) for key, listed in possible.items() for value in listed}
    for (key, value), to in alone.items():
        if to is not None:
            yield to, {key: value}
    for one, other in combinations(possible, 2):
        for first, second in product(possible[one], possible[other]):
            if alone[one, first] is None and alone[other, second] is None:
                to = flips_to({one: first, other: second})
                if to is not None:
                    yield to, {one: first, other: second}


def holds(change: Change, value: Value) -> bool:
    """Whether a value satisfies what a change needs."""
    if isinstance(value, str):
        return (value in change.states) is not change.negated if change.states or change.negated else not change.spans
    return not (change.spans or change.states) or any(
        (span.low is None or value > span.low or (value == span.low and not span.open_low))
        and (span.high is None or value < span.high or (value == span.high and not span.open_high))
        for span in change.spans
    )


def covered(flip: Flip, to: Finding, changed: Mapping[Key, Value]) -> bool:
    """Whether a listed set allows these changes."""
    if flip.to is not to or len(flip.changes) != len(changed):
        return False
    by_name = {str(key[0]): value for key, value in changed.items()}
    return all(c.input in by_name and holds(c, by_name[c.input]) for c in flip.changes)


@settings(max_examples=examples(250), deadline=None, derandomize=True)
@given(patients())
def test_every_smallest_set_is_listed_once_and_nothing_else(patient: tuple[Trees, Readings]) -> None:
    trees, readings = patient
    listed = flips_of(trees, readings=readings, tree_of=_tree)
    wanted = list(smallest(trees, readings))

    for to, changed in wanted:
        assert sum(covered(flip, to, changed) for flip in listed) == 1, changed
    inputs = {str(key[0]): (key, possible) for key, possible in values(trees).items()}
    for flip in listed:
        named = [inputs[c.input] for c in flip.changes]
        choices = [[v for v in possible if holds(c, v)] for c, (_, possible) in zip(flip.changes, named, strict=True)]
        assert all(choices), flip
        for chosen in product(*choices):
            changed = {key: value for (key, _), value in zip(named, chosen, strict=True)}
            assert (flip.to, changed) in wanted, flip


@pytest.mark.parametrize("patient", PATIENTS)
def test_the_shipped_protocols_list_what_plain_trial_finds(patient: str) -> None:
    found = original(patient)
    for result in found.protocols:
        trees = [(c.id, c.criterion.tree) for c in result.deciding]
        listed = flips(result, readings=found.readings, knowledge=knowledge())
        now = result.verdict
        singles = {
            (to, key)
            for key, possible in values(trees).items()
            for value in possible
            if possible_together(trees, found.readings, {key: value})
            for to in [verdict(trees, found.readings, {key: value})]
            if to not in {now, Finding.UNKNOWN}
        }
        assert len(singles) == sum(1 for flip in listed if len(flip.changes) == 1), result.protocol.id
        for flip in listed:
            assert flip.to not in {now, Finding.UNKNOWN}
            assert 1 <= len(flip.changes) <= 2
        if result.protocol.speak:
            wanted = list(smallest(trees, found.readings))
            assert all(sum(covered(flip, to, changed) for flip in listed) == 1 for to, changed in wanted)
            assert bool(listed) == bool(wanted)
