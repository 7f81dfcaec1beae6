"""Three-valued soundness and severity: what is certain stays so when more becomes known, and worse is never better.

What a reading takes for "no" because completely read sources hold nothing counts as known (reading 3.13); so does an
input whose absence a rule has settled (`unknown = "met"`).
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.clinical.assessment import Assessment
from app.clinical.chart import Chart
from app.clinical.criteria import Outcome, evaluate
from app.clinical.findings import Finding, all_of
from app.clinical.intervals import Interval
from app.clinical.knowledge import Leaf, Node, Not, Ref
from app.clinical.readers import read
from app.clinical.reading import Reading, Reason
from tests.property.size import examples
from tests.property.test_clinical_properties import (
    LIVING,
    NOW,
    QUANTITIES,
    Resource,
    assessment,
    charts,
    codes_of,
    facts_of,
    findings,
    key_of,
    knowledge,
    parts_of,
    quantity_of,
    result,
)

pytestmark = pytest.mark.no_cover
some = settings(max_examples=examples(100), deadline=None, derandomize=True)

RANK = {"monitor": 1, "relative": 2, "absolute": 3}
LADDERS = {
    "anc": ("CI-ANC-LT-1.5",),
    "platelets": ("CI-PLT-LT-50", "MON-PLT-50-100"),
    "alt": ("CI-TRANSAMINASE-GT-5ULN", "MON-TRANSAMINASE"),
    "ast": ("CI-TRANSAMINASE-GT-5ULN", "MON-TRANSAMINASE"),
}
"""The findings of a laboratory value; worse is lower for counts, higher for enzymes."""


def leaves(node: Node) -> Iterator[Leaf]:
    """The questions of a tree, those of the criteria that it refers to included."""
    if isinstance(node, Leaf):
        yield node
    elif isinstance(node, Ref):
        yield from leaves(knowledge().criterion(node.id).tree)
    else:
        for child in (node.child,) if isinstance(node, Not) else node.children:
            yield from leaves(child)


def outcomes(chart: Chart) -> dict[str, Outcome]:
    """Every criterion's outcome on a chart."""
    known: dict[str, Outcome] = {}
    for protocol in knowledge().protocols:
        for criterion in protocol.criteria:
            known[criterion.id] = evaluate(criterion.tree, chart=chart, known=known)
    return known


def verdicts(known: dict[str, Outcome]) -> dict[str, Finding]:
    """Every verdict and criterion."""
    found = {name: outcome.finding for name, outcome in known.items()}
    for protocol in knowledge().protocols:
        found[protocol.id] = all_of(known[c.id].finding for c in protocol.criteria if not c.part_of)
    return found


QUESTIONS = tuple(
    {leaf.key: leaf for p in knowledge().protocols for c in p.criteria for leaf in leaves(c.tree)}.values()
)
STATES = sorted({state for leaf in QUESTIONS for state in leaf.among} | {"off", "negative", "no", "something else"})


def any_answer(leaf: Leaf) -> st.SearchStrategy[Reading]:
    """Whatever might become known of an input: a number, a bound, or a state."""
    reason = Reason.of("state", state="now known")
    if leaf.among:
        return st.sampled_from(STATES).map(lambda state: Reading(reason, state=state, shown=state))
    numbers = st.one_of(
        st.fractions(min_value=0, max_value=20_000),
        st.sampled_from([Fraction(v) + d for v in (1, 18, 30, 100, 150, 300, 1000, 5000) for d in (-1, 0, 1)]),
    )
    comparators = st.sampled_from(["", "<", "<=", ">", ">="])
    return st.tuples(numbers, comparators).map(
        lambda pair: Reading(reason, interval=Interval.of(pair[0], pair[1]), shown="now known")
    )


@st.composite
def thinned(draw: st.DrawFn) -> tuple[str, tuple[Resource, ...]]:
    """A synthetic patient's chart with some kinds of entries left out."""
    patient = draw(st.sampled_from(LIVING))
    kinds = sorted({key_of(r) for r in charts()[patient]})
    left_out = draw(st.sets(st.sampled_from(kinds), max_size=6))
    return patient, tuple(r for r in charts()[patient] if key_of(r) not in left_out)


@settings(some, max_examples=examples(200))
@given(thinned(), st.data())
def test_what_becomes_known_never_contradicts_what_was_certain(
    chart_of: tuple[str, tuple[Resource, ...]], data: st.DataObject
) -> None:
    patient, resources = chart_of
    chart = Chart(facts_of(parts_of(resources, patient), patient), knowledge=knowledge(), now=NOW)
    before = verdicts(outcomes(chart))

    open_ = [leaf for leaf in QUESTIONS if not read(chart, leaf).known and not leaf.unknown]
    for leaf in open_:
        if data.draw(st.booleans(), label=leaf.input):
            chart.readings[leaf.key] = data.draw(any_answer(leaf))
    after = verdicts(outcomes(chart))

    certain = {name: finding for name, finding in before.items() if finding is not Finding.UNKNOWN}
    assert {name: after[name] for name in certain} == certain


@some
@given(st.sampled_from(LIVING), st.sampled_from(sorted(set(QUANTITIES) - {"fio2"})), st.integers(1, 2000))
def test_a_missing_result_that_comes_in_contradicts_nothing(patient: str, name: str, number: int) -> None:
    quantity = QUANTITIES[name]
    without = [r for r in charts()[patient] if quantity.code not in codes_of(r)]
    value = min(Decimal(number), Decimal(quantity.values[1]))
    there = [*without, result(name, value, quantity.canonical, patient=patient, when=NOW)]
    before, after = findings(assessment(without, patient)), findings(assessment(there, patient))

    certain = {key: finding for key, finding in before.items() if finding is not Finding.UNKNOWN}
    assert {key: after[key] for key in certain} == certain


@settings(some, max_examples=examples(150))
@given(thinned())
def test_nothing_is_met_without_evidence(chart_of: tuple[str, tuple[Resource, ...]]) -> None:
    """But for what a person is asked beside it, and for what cannot apply (a pregnancy of a man)."""
    patient, resources = chart_of
    found = assessment(resources, patient)
    for protocol in found.protocols:
        for criterion in protocol.criteria:
            if criterion.finding is Finding.MET and not criterion.id.startswith("R-EXCL-"):
                assert criterion.outcome.evidence, criterion.id
        if protocol.verdict is Finding.MET:
            assert all(c.finding is Finding.MET and c.outcome.because for c in protocol.deciding)


def severity(found: Assessment, name: str) -> int:
    """The rank of the worst finding of a laboratory value, 0 for none."""
    present = [s.rule for s in found.safety if s.rule.id in LADDERS[name] and s.finding is Finding.MET]
    return max((RANK[rule.severity] for rule in present), default=0)


@some
@given(st.sampled_from(LIVING), st.sampled_from(sorted(LADDERS)), st.integers(1, 100))
def test_a_worse_value_never_makes_a_finding_milder_nor_adds_a_suggestion(patient: str, name: str, times: int) -> None:
    higher = name in {"alt", "ast"}
    worse = []
    for resource in charts()[patient]:
        if quantity_of(resource) == name:
            value = resource["valueQuantity"]
            number = Decimal(str(value["value"])) * (times if higher else 1) / (1 if higher else times)
            resource = resource | {"valueQuantity": value | {"value": float(number)}}
        worse.append(resource)
    before, after = assessment(charts()[patient], patient), assessment(worse, patient)

    unreadable = any(s.finding is Finding.UNKNOWN for s in after.safety if s.rule.id in LADDERS[name])
    assert severity(after, name) >= severity(before, name) or unreadable
    assert before.suggest or not after.suggest
    assert {k: v for k, v in findings(before).items() if k.startswith(("pilot", "P-", "S-"))} == {
        k: v for k, v in findings(after).items() if k.startswith(("pilot", "P-", "S-"))
    }


@some
@given(st.sampled_from(LIVING), st.integers(20, 700))
def test_a_lower_pao2_never_unmeets_severity(patient: str, to: int) -> None:
    lower = []
    for resource in charts()[patient]:
        if "2703-7" in codes_of(resource) and resource.get("valueQuantity", {}).get("unit") == "mmHg":
            value = resource["valueQuantity"]
            resource = resource | {"valueQuantity": value | {"value": min(value["value"], to)}}
        lower.append(resource)
    before, after = findings(assessment(charts()[patient], patient)), findings(assessment(lower, patient))

    if before["S-SEVERITY"] is Finding.MET:
        assert after["S-SEVERITY"] is Finding.MET


@some
@given(st.sampled_from(LIVING), st.sampled_from(sorted(knowledge().inputs)))
def test_a_reading_that_is_lost_makes_nothing_certain(patient: str, name: str) -> None:
    """The other way round: taking one input away never turns unknown into met or not met."""
    chart = Chart(facts_of(parts_of(charts()[patient], patient), patient), knowledge=knowledge(), now=NOW)
    before = verdicts(outcomes(chart))
    for leaf in QUESTIONS:
        if leaf.input == name and not leaf.unknown:
            lost = Reading(Reason.of("source-failed", source="labs", why="timeout"), missing=(name,), failed=True)
            chart.readings[leaf.key] = lost
    after = verdicts(outcomes(chart))

    for key, finding in after.items():
        assert finding in {before[key], Finding.UNKNOWN}
