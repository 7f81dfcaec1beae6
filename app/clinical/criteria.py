"""Logic trees over readings: finding, what is missing, why, on what evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar, assert_never

from app.clinical.chart import Chart
from app.clinical.findings import Finding, all_of, any_of, negate
from app.clinical.knowledge import All, Any, Leaf, Node, Not, Ref
from app.clinical.readers import read
from app.clinical.reading import Evidence, Note, Reading, Reason

_T = TypeVar("_T", Evidence, Note)


@dataclass(frozen=True, slots=True)
class Answer:
    """One leaf's question, answered; `displaced` while a newer result was refused."""

    input: str
    finding: Finding
    reason: Reason
    shown: str
    displaced: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """A tree's finding. `because` are the answers that decide it; `asked` all of them, each input once.

    `missing`: the inputs that leave an unknown so; an unknown leaf of an alternative that is already met is not named.
    `failed`: unknown, and a failed or partial source is among the causes. `unreadable`: something on record could not
    be read. `displaced`: the finding rests on a known value while a newer result was refused.
    """

    finding: Finding
    because: tuple[Answer, ...] = ()
    asked: tuple[Answer, ...] = ()
    missing: tuple[str, ...] = ()
    failed: bool = False
    unreadable: bool = False
    displaced: bool = False
    evidence: tuple[Evidence, ...] = ()
    notes: tuple[Note, ...] = ()


def evaluate(node: Node, *, chart: Chart, known: Mapping[str, Outcome]) -> Outcome:
    """The outcome of a tree; `known` holds the outcomes that a Ref may name."""
    return _evaluate(node, lambda leaf: _leaf(chart, leaf), known.__getitem__)


def evaluate_scope(node: Node, *, chart: Chart, known: Mapping[str, Outcome]) -> Finding:
    """The same, but an unknown counts only when a failed or partial source could still change it (reading 5)."""
    return _evaluate(node, lambda leaf: _settled(_leaf(chart, leaf)), lambda id_: _settled(known[id_])).finding


def without_doubt(outcome: Outcome, *, chart: Chart) -> Outcome:
    """Unknown in place of a "not met" that rests on a value of which a newer result was refused (reading 3.3).

    A refused result can take away "absent", never "present".
    """
    if outcome.finding is not Finding.NOT_MET or not outcome.displaced:
        return outcome
    reason = Reason.of("newer-result-refused")
    doubted = tuple(replace(a, finding=Finding.UNKNOWN, reason=reason) for a in outcome.asked if a.displaced)
    return replace(
        outcome,
        finding=Finding.UNKNOWN,
        because=doubted,
        asked=(*doubted, *(a for a in outcome.asked if not a.displaced)),
        missing=tuple(dict.fromkeys(chart.input(a.input).missing for a in doubted)),
        unreadable=True,
    )


def _settled(outcome: Outcome) -> Outcome:
    unsettled = outcome.finding is Finding.UNKNOWN and outcome.failed
    return outcome if unsettled or outcome.finding is not Finding.UNKNOWN else replace(outcome, finding=Finding.NOT_MET)


def _evaluate(node: Node, leaf: Callable[[Leaf], Outcome], ref: Callable[[str], Outcome]) -> Outcome:
    if isinstance(node, Leaf):
        return leaf(node)
    if isinstance(node, Ref):
        return ref(node.id)
    if isinstance(node, Not):
        inner = _evaluate(node.child, leaf, ref)
        return replace(inner, finding=negate(inner.finding))
    children = [_evaluate(child, leaf, ref) for child in node.children]
    if isinstance(node, All):
        return _combined(all_of(c.finding for c in children), children, by_one=Finding.NOT_MET)
    if isinstance(node, Any):
        return _combined(any_of(c.finding for c in children), children, by_one=Finding.MET)
    assert_never(node)


def _combined(finding: Finding, children: list[Outcome], *, by_one: Finding) -> Outcome:
    """`by_one` is the finding that a single child settles: then one child without doubt makes it undoubted."""
    deciding = [c for c in children if c.finding is finding]
    doubts = [c.displaced for c in deciding]
    unknown = deciding if finding is Finding.UNKNOWN else []
    return Outcome(
        finding=finding,
        because=_once(a for c in deciding for a in c.because),
        asked=_once(a for c in children for a in c.asked),
        missing=tuple(dict.fromkeys(m for c in unknown for m in c.missing)),
        failed=any(c.failed for c in unknown),
        unreadable=any(c.unreadable for c in unknown),
        displaced=bool(doubts) and (all(doubts) if finding is by_one else any(doubts)),
        evidence=_distinct([e for c in children for e in c.evidence]),
        notes=_distinct([n for c in children for n in c.notes]),
    )


def _distinct(found: list[_T]) -> tuple[_T, ...]:
    """Each once; most nodes have one or none, and their hashes need not be made."""
    return tuple(found) if len(found) < 2 else tuple(dict.fromkeys(found))


def _once(answers: Iterable[Answer]) -> tuple[Answer, ...]:
    """One answer an input; of two, the one whose finding is decided."""
    found: dict[str, Answer] = {}
    for answer in answers:
        earlier = found.get(answer.input)
        if earlier is None or earlier.finding is Finding.UNKNOWN:
            found[answer.input] = answer
    return tuple(found.values())


def _leaf(chart: Chart, leaf: Leaf) -> Outcome:
    reading = read(chart, leaf)
    finding, reason = _answer(leaf, reading)
    missing: tuple[str, ...] = ()
    if finding is Finding.UNKNOWN:
        missing = reading.missing or (chart.input(leaf.input).missing,)
    answer = Answer(leaf.input, finding, reason, reading.shown, reading.displaced)
    return Outcome(
        finding=finding,
        because=(answer,),
        asked=(answer,),
        missing=missing,
        failed=reading.failed and finding is Finding.UNKNOWN,
        unreadable=reading.unreadable and finding is Finding.UNKNOWN,
        displaced=reading.displaced,
        evidence=reading.evidence,
        notes=reading.notes,
    )


def finding_of(leaf: Leaf, reading: Reading) -> Finding:
    """What a leaf's question finds in a reading, which may be a hypothetical one."""
    return _answer(leaf, reading)[0]


def _answer(leaf: Leaf, reading: Reading) -> tuple[Finding, Reason]:
    if not reading.known:
        if reading.failed or reading.unreadable:
            return Finding.UNKNOWN, reading.reason
        assumed = {"met": Finding.MET, "not-met": Finding.NOT_MET}.get(leaf.unknown, Finding.UNKNOWN)
        return assumed, reading.reason
    if leaf.among:
        return (Finding.MET if reading.state in leaf.among else Finding.NOT_MET), reading.reason
    if reading.interval is None or leaf.value is None:
        raise TypeError(f"{leaf.input}: a state is asked with `among`, a number with `op` and `value`")
    finding = reading.interval.compared(leaf.op, leaf.value)
    if finding is Finding.UNKNOWN:
        return finding, Reason.of("bound-leaves-open", value=reading.shown, op=leaf.op, threshold=leaf.value)
    if finding is Finding.NOT_MET and leaf.otherwise == "unknown":
        return Finding.UNKNOWN, Reason.of("undefined-at", value=reading.shown, threshold=leaf.value)
    return finding, reading.reason
