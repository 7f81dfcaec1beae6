"""Which changes would flip a verdict: all of the smallest ones, on the weakest condition, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import pytest

from app.clinical.changes import Change, Flip, Span, flips, flips_of
from app.clinical.findings import Finding
from app.clinical.intervals import Interval
from app.clinical.knowledge import All, Any, Leaf, Node, Not, Ref
from app.clinical.reading import Reading, Reason
from tests.unit.app.clinical.build import assessed, knowledge, measurement, offering, pair

CRP = Leaf("crp", op=">", value=Decimal(100), unit="mg/L")
FERRITIN = Leaf("ferritin", op=">", value=Decimal(1000), unit="ug/L")
PF_OFF = Leaf("pf", op="<", value=Decimal(100), unit="mm[Hg]")
PF_ON = Leaf("pf", op="<=", value=Decimal(150), unit="mm[Hg]")
OFF = Leaf("ecmo_at_gas", among=frozenset({"off"}))
ON = Leaf("ecmo_at_gas", among=frozenset({"vv", "va", "generic"}))
FDO2 = Leaf("ecmo_fdo2", op=">=", value=Decimal(1), unit="1", otherwise="unknown")
PRONE = Leaf("prone", among=frozenset({"yes"}))
NMBA = Leaf("nmba", among=frozenset({"yes"}))
INO = Leaf("ino", among=frozenset({"yes"}))
SEVERITY = Any((All((OFF, PF_OFF)), All((ON, FDO2, PF_ON))))

UNKNOWN = Reading(Reason.of("never-measured"))


def number(value: str | int, comparator: str = "") -> Reading:
    return Reading(Reason.of("value"), interval=Interval.of(Decimal(value), comparator))


def state(word: str) -> Reading:
    return Reading(Reason.of("state"), state=word)


def found(*trees: Node, **inputs: Reading) -> list[Flip]:
    """The flips of criteria C0, C1 ...; an input that is not given is unknown."""
    return list(flips_of([(f"C{n}", tree) for n, tree in enumerate(trees)], readings=_Readings(inputs), tree_of=_none))


def said(*trees: Node, **inputs: Reading) -> list[str]:
    """The same in short words."""
    return [f"{f.to.value}: {', '.join(_words(c) for c in f.changes)}" for f in found(*trees, **inputs)]


def _words(change: Change) -> str:
    if change.spans:
        return f"{change.input} {' or '.join(map(_span, change.spans))}"
    return f"{change.input} {'not ' if change.negated else ''}{'|'.join(change.states) or 'any'}"


def _span(span: Span) -> str:
    low = "" if span.low is None else f"{'>' if span.open_low else '>='}{span.low}"
    high = "" if span.high is None else f"{'<' if span.open_high else '<='}{span.high}"
    return f"={span.low}" if span.low is not None and span.low == span.high else low + high


def _none(id_: str) -> Node:
    raise KeyError(id_)


class _Readings(dict[tuple[object, ...], Reading]):
    def __init__(self, inputs: Mapping[str, Reading]) -> None:
        super().__init__()
        self._inputs = inputs

    def __missing__(self, key: tuple[object, ...]) -> Reading:
        return self._inputs.get(str(key[0]), UNKNOWN)


# --------------------------------------------------------------------------- one change


def test_a_value_below_its_threshold_needs_one_above_it() -> None:
    [flip] = found(CRP, FERRITIN, crp=number(214), ferritin=number(980))

    assert flip.to is Finding.MET
    [change] = flip.changes
    assert change == Change(
        "C1", "ferritin", number(980), unit="ug/L", spans=(Span(Decimal(1000), None, open_low=True),)
    )


@pytest.mark.parametrize(
    ("value", "comparator", "wanted"),
    [
        ("100", "", ["met: crp >100"]),
        ("100.1", "", ["not-met: crp <=100"]),
        ("50", ">", ["met: crp >100", "not-met: crp <=100"]),
        ("200", "<", ["met: crp >100", "not-met: crp <=100"]),
        ("100", ">", ["not-met: crp <=100"]),
    ],
)
def test_what_does_not_decide_may_become_either(value: str, comparator: str, wanted: list[str]) -> None:
    assert said(CRP, crp=number(value, comparator)) == wanted


def test_a_state_names_the_others_that_the_input_can_have() -> None:
    assert said(PRONE, prone=state("yes")) == ["not-met: prone no"]
    assert said(OFF, ecmo_at_gas=state("off")) == ["not-met: ecmo_at_gas generic|va|vv"]


def test_a_state_of_an_input_that_nobody_describes_is_told_by_what_it_is_not() -> None:
    asked = Leaf("something else", among=frozenset({"red", "green"}))
    reading = {"something else": state("red")}

    assert said(asked, **reading) == ["not-met: something else not green|red"]


def test_a_criterion_in_an_or_that_is_true_already_is_not_named() -> None:
    assert said(Any((CRP, FERRITIN)), CRP, crp=number(214)) == ["not-met: crp <=100"]
    assert said(Any((PRONE, NMBA)), CRP, prone=state("yes"), crp=number(90)) == ["met: crp >100"]


def test_what_is_denied_needs_the_opposite() -> None:
    assert said(Not(CRP), crp=number(90)) == ["not-met: crp >100"]


def test_two_questions_to_one_input_leave_the_numbers_between() -> None:
    between = All((Leaf("crcl", op=">=", value=Decimal(15)), Leaf("crcl", op="<", value=Decimal(60))))

    assert said(between, crcl=number(90)) == ["met: crcl >=15<60"]
    assert said(between, crcl=number(30)) == ["not-met: crcl <15 or >=60"]
    assert said(All((Leaf("crcl", op=">=", value=Decimal(15)), Leaf("crcl", op="<=", value=Decimal(15))))) == [
        "met: crcl =15",
        "not-met: crcl <15 or >15",
    ]


def test_where_every_value_would_do_none_is_named() -> None:
    assert said(Any((CRP, Not(CRP)))) == ["met: crp any"]


def test_an_input_of_which_every_known_value_leaves_the_question_open_is_no_change() -> None:
    assert said(FDO2, ecmo_fdo2=number("0.9")) == ["met: ecmo_fdo2 >=1"]


def test_one_input_asked_by_two_criteria_is_one_change() -> None:
    [flip] = found(CRP, Any((PRONE, CRP)), crp=number(90))

    assert [(c.criterion, c.input) for c in flip.changes] == [("C0", "crp")]


def test_the_innermost_criterion_that_is_shown_is_named() -> None:
    trees: dict[str, Node] = {"INNER": CRP, "ELSEWHERE": FERRITIN}
    readings = {CRP.key: number(90), FERRITIN.key: number(90)}
    tree = Any((Ref("INNER"), Ref("ELSEWHERE")))

    got = flips_of([("OUTER", tree)], readings=readings, tree_of=trees.__getitem__, shown=frozenset({"INNER"}))

    assert [(c.criterion, c.input) for f in got for c in f.changes] == [("INNER", "crp"), ("OUTER", "ferritin")]


def test_an_input_that_is_asked_for_several_things_says_which() -> None:
    asked = Leaf("exposure", among=frozenset({"present"}), params={"group": "il6"})
    [flip] = flips_of([("C", asked)], readings={asked.key: state("absent")}, tree_of=_none)

    assert flip.changes[0].about == "il6"


# --------------------------------------------------------------------------- two changes


def test_what_takes_two_changes_names_both_and_what_takes_three_is_not_listed() -> None:
    assert said(CRP, FERRITIN, crp=number(90), ferritin=number(90)) == ["met: crp >100, ferritin >1000"]
    assert said(CRP, FERRITIN, PRONE, crp=number(90), ferritin=number(90), prone=state("no")) == []


def test_two_alternatives_that_hold_have_to_fail_together() -> None:
    either = Any((INO, NMBA))

    assert said(either, ino=state("yes"), nmba=state("yes")) == ["not-met: ino no, nmba no"]


def test_no_part_of_a_pair_flips_the_verdict() -> None:
    """ECMO unknown, P/F 120, oxygenator at 100 %: either answer about ECMO decides, so no pair names it; a higher P/F
    decides too, and one below 100 only together with it."""
    readings = {"pf": number(120), "ecmo_fdo2": number(1)}

    assert said(SEVERITY, **readings) == [
        "met: ecmo_at_gas vv",
        "not-met: ecmo_at_gas off",
        "not-met: pf >150",
    ]


def test_a_state_beside_which_no_ratio_is_known_is_not_offered() -> None:
    """Reading A7: on veno-arterial or unspecified ECMO there is no P/F, so the verdict would be open."""
    assert said(SEVERITY, ecmo_at_gas=state("off"), pf=number(120), ecmo_fdo2=number(1))[0] == "met: ecmo_at_gas vv"
    assert said(SEVERITY, ecmo_at_gas=state("off"), pf=number(80), ecmo_fdo2=UNKNOWN)[0] == "not-met: pf >=100"
    either = Leaf("ecmo_at_gas", among=frozenset({"off", "vv"}))
    assert said(All((either, PF_ON)), ecmo_at_gas=state("va"), pf=number(90)) == ["met: ecmo_at_gas off|vv"]


@pytest.mark.parametrize("word", ["va", "generic"])
def test_a_ratio_that_cannot_be_known_does_not_change_alone(word: str) -> None:
    readings = {"ecmo_at_gas": state(word), "ecmo_fdo2": number(1)}

    assert said(SEVERITY, **readings) == [
        "met: ecmo_at_gas off, pf <100",
        "met: ecmo_at_gas vv, pf <=150",
        "not-met: ecmo_at_gas off, pf >=100",
        "not-met: ecmo_at_gas vv, pf >150",
    ]
    assert said(All((PF_ON, ON)), **readings) == [
        "not-met: ecmo_at_gas off",
        "met: pf <=150, ecmo_at_gas vv",
        "not-met: pf >150, ecmo_at_gas vv",
    ]


def test_one_change_may_mend_what_the_other_breaks() -> None:
    first, second = Any((CRP, PRONE)), Any((Not(CRP), NMBA))

    assert said(first, second, crp=number(90), prone=state("no"), nmba=state("no")) == [
        "met: prone yes",
        "met: crp >100, nmba yes",
    ]


def test_classes_of_one_input_that_go_with_the_same_ones_of_the_other_are_one_set() -> None:
    """On ECMO up to 150, off it below 100: at P/F 160 the ratio has to be another one in either case."""
    readings = {"ecmo_at_gas": state("vv"), "pf": number(160), "ecmo_fdo2": number("0.9")}

    assert said(SEVERITY, **readings) == [
        "met: ecmo_at_gas off, pf <100",
        "met: pf <=150, ecmo_fdo2 >=1",
    ]


def test_single_changes_come_before_pairs_and_met_before_not_met() -> None:
    got = [(len(f.changes), f.to) for f in found(CRP, Any((FERRITIN, PRONE)), crp=number(214))]

    assert got == sorted(got, key=lambda one: (one[0], one[1] is Finding.NOT_MET))
    assert len(got) == 4


def test_nothing_asked_can_be_changed() -> None:
    assert said() == []
    assert said(All(()), Any(())) == []


# --------------------------------------------------------------------------- the shipped protocols


def test_a_pilot_result_names_what_it_rests_on() -> None:
    result = assessed(*offering(measurement("ferritin", 980, hours=5), without=("ferritin",)))
    simple = flips(result.protocol("pilot-simple"), readings=result.readings, knowledge=knowledge())

    assert [[(c.criterion, c.input, _words(c)) for c in f.changes] for f in simple] == [
        [("S-FERRITIN", "ferritin", "ferritin >1000")]
    ]
    full = flips(result.protocol("pilot-full"), readings=result.readings, knowledge=knowledge())
    assert [c.criterion for f in full for c in f.changes] == ["P-FERRITIN"]


def test_a_ratio_and_a_compliance_that_both_decide_are_named_together() -> None:
    result = assessed(*offering(pair(60, "0.8"), measurement("crs", 25, kind="static"), without=("gas",)))
    simple = flips(result.protocol("pilot-simple"), readings=result.readings, knowledge=knowledge())

    pairs = [[_words(c) for c in f.changes] for f in simple if len(f.changes) == 2]
    assert ["pf >=100", "crs >30"] in pairs
