"""Logic trees over readings: what decides, what is missing, and why (clinical 1.1.2; reading 6)."""

from __future__ import annotations

from decimal import Decimal
from itertools import product

import pytest

from app.clinical.criteria import Outcome, evaluate, evaluate_scope
from app.clinical.findings import Finding, all_of, any_of
from app.clinical.knowledge import All, Any, Criterion, Leaf, Node, Not, Protocol, Ref
from app.clinical.results import CriterionResult, ProtocolResult
from tests.unit.app.clinical.build import Item, chart, knowledge, measurement, procedure, refusal, unread

MET, NOT_MET, UNKNOWN = Finding.MET, Finding.NOT_MET, Finding.UNKNOWN
CRP = Leaf("crp", op=">", value=Decimal(100), unit="mg/L")
FERRITIN = Leaf("ferritin", op=">", value=Decimal(1000), unit="ug/L")
PRONE = Leaf("prone", among=frozenset({"yes"}))
HIGH_CRP, LOW_CRP = measurement("crp", 101), measurement("crp", 100)
HIGH_FERRITIN, LOW_FERRITIN = measurement("ferritin", 1001), measurement("ferritin", 1000)


def outcome(node: Node, *items: Item, known: dict[str, Outcome] | None = None) -> Outcome:
    """The outcome of a tree over these items."""
    return evaluate(node, chart=chart(*items), known=known or {})


def inputs(answers: tuple[object, ...]) -> list[str]:
    """The inputs of some answers."""
    return [answer.input for answer in answers]  # type: ignore[attr-defined]


# --- leaves


@pytest.mark.parametrize(
    ("items", "finding", "missing"),
    [((HIGH_CRP,), MET, ()), ((LOW_CRP,), NOT_MET, ()), ((), UNKNOWN, ("crp",))],
)
def test_a_number_is_compared_strictly_and_never_guessed(
    items: tuple[Item, ...], finding: Finding, missing: tuple[str, ...]
) -> None:
    found = outcome(CRP, *items)

    assert (found.finding, found.missing, inputs(found.because)) == (finding, missing, ["crp"])


@pytest.mark.parametrize(
    ("comparator", "value", "finding"),
    [(">", 100, MET), (">=", 100, UNKNOWN), ("<", 200, UNKNOWN), ("<=", 100, NOT_MET), (">", 99, UNKNOWN)],
)
def test_a_bound_decides_only_with_certainty(comparator: str, value: int, finding: Finding) -> None:
    found = outcome(CRP, measurement("crp", value, comparator=comparator))  # type: ignore[arg-type]

    assert found.finding is finding
    assert (found.because[0].reason.code == "bound-leaves-open") is (finding is UNKNOWN)
    assert found.missing == (("crp",) if finding is UNKNOWN else ())


@pytest.mark.parametrize(
    ("items", "finding"),
    [
        ((procedure("prone"),), MET),
        ((procedure("prone", status="not-done"),), NOT_MET),
        ((), UNKNOWN),
    ],
)
def test_a_state_is_looked_up(items: tuple[Item, ...], finding: Finding) -> None:
    assert outcome(PRONE, *items).finding is finding


def test_a_value_at_which_the_letter_defines_nothing_leaves_the_question_open() -> None:
    at_100 = Leaf("crp", op=">=", value=Decimal(100), otherwise="unknown")

    assert outcome(at_100, LOW_CRP).finding is MET
    below = outcome(at_100, measurement("crp", 99))
    assert (below.finding, below.because[0].reason.code, below.missing) == (UNKNOWN, "undefined-at", ("crp",))


@pytest.mark.parametrize(("assumed", "finding"), [("met", MET), ("not-met", NOT_MET), ("", UNKNOWN)])
def test_a_rule_may_say_what_an_unrecorded_input_counts_as(assumed: str, finding: Finding) -> None:
    found = outcome(Leaf("crp", op=">", value=Decimal(100), unknown=assumed))

    assert (found.finding, found.missing) == (finding, () if assumed else ("crp",))


@pytest.mark.parametrize("item", [unread("labs"), refusal("crp")], ids=["failed", "unreadable"])
@pytest.mark.parametrize("assumed", ["met", "not-met"])
def test_but_never_for_one_that_failed_or_could_not_be_read(assumed: str, item: Item) -> None:
    found = outcome(Leaf("crp", op=">", value=Decimal(100), unknown=assumed), item)

    assert found.finding is UNKNOWN
    assert (found.failed, found.unreadable) == (item == unread("labs"), item != unread("labs"))


@pytest.mark.parametrize(
    "question", [Leaf("prone", op=">", value=Decimal(1)), Leaf("crp", op=">")], ids=["state-as-number", "no-value"]
)
def test_a_question_that_does_not_fit_its_input_is_a_mistake_in_the_knowledge(question: Leaf) -> None:
    with pytest.raises(TypeError, match=question.input):
        outcome(question, procedure("prone"), HIGH_CRP)


# --- trees

VALUES: dict[Finding, dict[str, tuple[Item, ...]]] = {
    MET: {"crp": (HIGH_CRP,), "ferritin": (HIGH_FERRITIN,)},
    NOT_MET: {"crp": (LOW_CRP,), "ferritin": (LOW_FERRITIN,)},
    UNKNOWN: {"crp": (), "ferritin": ()},
}


@pytest.mark.parametrize(("one", "other"), list(product(Finding, Finding)))
def test_trees_follow_kleenes_three_values(one: Finding, other: Finding) -> None:
    items = (*VALUES[one]["crp"], *VALUES[other]["ferritin"])

    assert outcome(All((CRP, FERRITIN)), *items).finding is all_of([one, other])
    assert outcome(Any((CRP, FERRITIN)), *items).finding is any_of([one, other])


def test_not_turns_met_and_not_met_and_leaves_unknown() -> None:
    assert outcome(Not(CRP), HIGH_CRP).finding is NOT_MET
    assert outcome(Not(CRP), LOW_CRP).finding is MET
    unknown = outcome(Not(CRP))
    assert (unknown.finding, unknown.missing) == (UNKNOWN, ("crp",))


def test_an_unknown_leaf_of_an_alternative_that_is_met_is_not_missing() -> None:
    found = outcome(Any((CRP, FERRITIN)), HIGH_CRP)

    assert (found.finding, found.missing, inputs(found.because)) == (MET, (), ["crp"])
    assert inputs(found.asked) == ["crp", "ferritin"]


def test_an_unknown_leaf_beside_one_that_is_not_met_is_not_missing() -> None:
    found = outcome(All((CRP, FERRITIN)), LOW_CRP, unread("labs"))

    assert found.finding is UNKNOWN  # labs failed: the low CRP is not known either
    found = outcome(All((CRP, PRONE)), LOW_CRP, unread("procedures"))
    assert (found.finding, found.missing, found.failed, inputs(found.because)) == (NOT_MET, (), False, ["crp"])


def test_an_unknown_tree_names_all_that_leaves_it_so_and_why() -> None:
    found = outcome(All((CRP, FERRITIN, PRONE)), HIGH_CRP, refusal("ferritin"), unread("procedures"))

    assert (found.finding, found.missing) == (UNKNOWN, ("ferritin", "prone"))
    assert (found.failed, found.unreadable) == (True, True)


def test_an_input_asked_twice_is_told_once_with_the_answer_that_is_decided() -> None:
    low = Leaf("crp", op="<", value=Decimal(10))
    both = Any((Leaf("crp", op=">", value=Decimal(150)), Leaf("crp", op=">", value=Decimal(50)), low))

    found = outcome(both, measurement("crp", 100, comparator=">="))

    assert (found.finding, inputs(found.asked)) == (MET, ["crp"])
    assert found.asked[0].finding is MET


def test_evidence_and_notes_of_every_child_are_kept_once() -> None:
    found = outcome(All((CRP, CRP, FERRITIN)), HIGH_CRP, LOW_FERRITIN, refusal("crp"))

    assert [e.concept for e in found.evidence] == ["crp", "ferritin"]
    assert [n.reason.code for n in found.notes] == ["newer-refused"]


def test_a_reference_stands_for_the_criterion_it_names() -> None:
    high = outcome(CRP, HIGH_CRP)

    assert outcome(Ref("S-CRP"), known={"S-CRP": high}) is high
    assert outcome(All((Ref("S-CRP"), FERRITIN)), known={"S-CRP": high}).missing == ("ferritin",)


# --- a newer result that was refused (reading 3.3)


@pytest.mark.parametrize(
    ("node", "items", "doubted"),
    [
        (CRP, (LOW_CRP, refusal("crp")), True),
        (CRP, (LOW_CRP,), False),
        (Any((CRP, FERRITIN)), (LOW_CRP, LOW_FERRITIN, refusal("crp")), True),  # both are needed to say no
        (All((CRP, FERRITIN)), (LOW_CRP, LOW_FERRITIN, refusal("crp")), False),  # the other says no by itself
        (All((CRP, FERRITIN)), (LOW_CRP, LOW_FERRITIN, refusal("crp"), refusal("ferritin")), True),
        (All((CRP, FERRITIN)), (LOW_CRP, HIGH_FERRITIN, refusal("ferritin")), False),  # decides nothing
        (All((CRP, FERRITIN)), (HIGH_CRP, HIGH_FERRITIN, refusal("crp")), True),
        (Any((CRP, FERRITIN)), (HIGH_CRP, HIGH_FERRITIN, refusal("crp")), False),
        (Any(()), (), False),
    ],
)
def test_a_finding_is_in_doubt_only_when_it_rests_on_the_doubted_value(
    node: Node, items: tuple[Item, ...], doubted: bool
) -> None:
    assert outcome(node, *items).displaced is doubted


# --- scope (reading 5)


@pytest.mark.parametrize(
    ("items", "finding"),
    [
        ((), NOT_MET),
        ((refusal("crp"),), NOT_MET),
        ((unread("labs"),), UNKNOWN),
        ((HIGH_CRP,), MET),
        ((LOW_CRP,), NOT_MET),
    ],
)
def test_in_a_scope_only_a_lost_source_leaves_a_question_open(items: tuple[Item, ...], finding: Finding) -> None:
    found = chart(*items)
    asked = evaluate(CRP, chart=found, known={})

    assert evaluate_scope(CRP, chart=found, known={}) is finding
    assert evaluate_scope(Ref("S-CRP"), chart=found, known={"S-CRP": asked}) is finding


def test_a_scope_leaves_the_criterion_it_refers_to_as_it_is() -> None:
    found = chart()
    known = {"S-CRP": evaluate(CRP, chart=found, known={})}

    evaluate_scope(Ref("S-CRP"), chart=found, known=known)

    assert known["S-CRP"].finding is UNKNOWN


# --- results of a protocol


def protocol_result(*findings: Finding) -> ProtocolResult:
    """A protocol of criteria with these findings, each missing its own input when unknown."""
    protocol = knowledge().protocol("pilot-simple")
    criteria = []
    for number, finding in enumerate(findings):
        criterion = Criterion(f"C-{number}", CRP, "", "", "")
        missing = (f"input-{number}", "shared") if finding is UNKNOWN else ()
        criteria.append(CriterionResult(criterion, Outcome(finding, missing=missing)))
    return ProtocolResult(protocol, tuple(criteria), "in", {})


@pytest.mark.parametrize("findings", list(product(Finding, Finding, Finding)))
def test_a_verdict_is_not_met_by_one_else_unknown_by_one_else_met(findings: tuple[Finding, ...]) -> None:
    assert protocol_result(*findings).verdict is all_of(findings)


def test_only_an_unknown_verdict_names_what_is_missing_each_once() -> None:
    assert protocol_result(UNKNOWN, MET, UNKNOWN).missing == ("input-0", "shared", "input-2")
    assert protocol_result(UNKNOWN, NOT_MET).missing == ()
    assert protocol_result(MET, MET).missing == ()


def test_the_finding_of_a_criterion_by_its_id() -> None:
    assert protocol_result(MET, UNKNOWN).finding_of("C-1") is UNKNOWN


# --- the knowledge itself


def test_a_protocol_is_found_by_its_id() -> None:
    found: Protocol = knowledge().protocol("pilot-full")

    assert [c.id for c in found.criteria] == ["P-AGE", "P-COVID", "P-RESCUE", "P-SEVERITY", "P-CRP", "P-FERRITIN"]
    with pytest.raises(KeyError, match="pilot-none"):
        knowledge().protocol("pilot-none")


def test_two_questions_share_a_reading_when_only_the_comparison_differs() -> None:
    assert CRP.key == Leaf("crp", op="<", value=Decimal(5)).key
    assert Leaf("exposure", params={"group": "jak"}).key != Leaf("exposure", params={"group": "tnf"}).key


def test_which_bound_of_a_compliance_decides_depends_on_the_question() -> None:
    assert Leaf("crs", op="<=", value=Decimal(30)).key != Leaf("crs", op="<=", value=Decimal(25)).key
