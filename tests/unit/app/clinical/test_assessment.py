"""The whole assessment of one patient: every verdict with every criterion, on what evidence, and what stays unknown."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from app.clinical.assessment import assess
from app.clinical.findings import Finding
from tests.unit.app.clinical.build import (
    NOW,
    Item,
    ago,
    assessed,
    facts,
    knowledge,
    measurement,
    medication,
    offering,
    pair,
    patient,
    procedure,
    unread,
    without_limit,
)

IDS = {
    "pilot-simple": ["S-SEVERITY", "S-CRP", "S-FERRITIN"],
    "pilot-full": ["P-AGE", "P-COVID", "P-RESCUE", "P-SEVERITY", "P-CRP", "P-FERRITIN"],
}


@pytest.mark.parametrize("items", [(), offering(), offering(without=("crp",)), (unread("labs"),)])
def test_every_verdict_lists_every_criterion(items: tuple[Item, ...]) -> None:
    found = assessed(*items)

    listed = {p.protocol.id: [c.id for c in p.criteria] for p in found.protocols}
    assert {name: listed[name] for name in IDS} == IDS
    assert listed == {p.id: [c.id for c in p.criteria] for p in knowledge().protocols}
    assert len(found.safety) == len(knowledge().safety)
    assert [name for name, _ in found.required] == list(knowledge().required)


def test_nothing_on_record_is_unknown_and_never_not_met() -> None:
    found = assessed(patient=None)

    assert {p.verdict for p in found.protocols} == {Finding.UNKNOWN}
    pilot = [found.protocol(id_) for id_ in IDS]
    assert {c.finding for p in pilot for c in p.criteria} == {Finding.UNKNOWN}
    assert found.patient == ""
    assert found.protocol("pilot-full").missing == (
        *("age", "sarscov2_pcr", "prone", "nmba", "ecmo_status", "ino", "almitrine"),
        *("pf", "crs", "crp", "ferritin"),
    )


def test_the_full_protocol_takes_severity_crp_and_ferritin_from_the_simple_one() -> None:
    found = assessed(*offering())
    simple, full = found.protocol("pilot-simple"), found.protocol("pilot-full")

    shared = ("SEVERITY", "CRP", "FERRITIN")
    assert [simple.finding_of(f"S-{n}") for n in shared] == [full.finding_of(f"P-{n}") for n in shared]
    assert simple.criteria[1].outcome is full.criteria[4].outcome


def test_the_ratio_is_given_whenever_a_gas_has_its_fio2() -> None:
    assert assessed(pair(64, "0.85")).protocol("pilot-simple").values == {"pf": "75.29"}
    assert assessed(pair(64)).protocol("pilot-simple").values == {}


def test_a_met_criterion_shows_the_value_it_rests_on() -> None:
    found = assessed(*offering()).protocol("pilot-simple").criteria[1]

    assert [(e.concept, e.value, e.unit) for e in found.outcome.evidence] == [("crp", "214", "mg/L")]
    assert found.outcome.because[0].shown == "214 mg/L"


def test_now_is_an_argument_and_not_when_the_data_were_asked_for() -> None:
    later = NOW.replace(day=12)

    found = assess(facts(*offering()), knowledge=knowledge(), now=later)

    assert found.now == later
    assert found.protocol("pilot-simple").verdict is Finding.UNKNOWN


def test_the_study_drugs_are_read_each_for_itself() -> None:
    found = assessed(medication("ruxolitinib", hours=20))

    assert {drug: reading.state for drug, reading in found.study_drugs} == {
        "anakinra": "absent",
        "ruxolitinib": "present",
    }


def test_the_rescue_therapies_need_prone_blockade_and_one_more() -> None:
    rescue = ("prone", "nmba", "ino")
    for name in rescue:
        found = assessed(*offering(without=(name,))).protocol("pilot-full")
        assert found.finding_of("P-RESCUE") is Finding.UNKNOWN
    ecmo = procedure("ecmo-vv", started=2)
    found = assessed(*offering(ecmo, without=("ino",))).protocol("pilot-full")
    assert found.finding_of("P-RESCUE") is Finding.MET


@pytest.mark.parametrize(
    ("born", "finding"),
    [(date(2008, 3, 10), Finding.MET), (date(2008, 3, 11), Finding.NOT_MET)],
)
def test_an_adult_is_18_on_the_birthday(born: date, finding: Finding) -> None:
    assert assessed(patient(born=born)).protocol("pilot-full").finding_of("P-AGE") is finding


@pytest.mark.parametrize(
    ("crp", "ferritin", "verdict"),
    [
        (101, 1001, Finding.MET),
        (100, 1001, Finding.NOT_MET),
        (101, 1000, Finding.NOT_MET),
    ],
)
def test_the_thresholds_are_strict(crp: int, ferritin: int, verdict: Finding) -> None:
    values = (measurement("crp", crp), measurement("ferritin", ferritin))

    found = assessed(*offering(*values, without=("crp", "ferritin")))

    assert found.protocol("pilot-simple").verdict is verdict


def test_without_a_window_of_its_own_a_value_of_any_age_counts() -> None:
    unlimited = without_limit("nmba")
    found = assess(
        facts(*offering(medication("cisatracurium", infusion=True, hours=999, ended=990), without=("nmba",))),
        knowledge=unlimited,
        now=NOW,
    )

    assert found.protocol("pilot-full").finding_of("P-RESCUE") is Finding.MET


def test_an_assessment_changes_nothing_of_its_facts() -> None:
    given = facts(*offering())
    same = replace(given)

    first = assess(given, knowledge=knowledge(), now=NOW)
    second = assess(given, knowledge=knowledge(), now=NOW)

    assert given == same
    assert first == second
    assert first.course_since is None


def test_a_course_started_with_either_drug_is_named_with_its_start() -> None:
    found = assessed(*offering(medication("ruxolitinib", hours=30)))

    assert found.course_since == ago(30)
