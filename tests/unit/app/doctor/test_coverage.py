"""What was counted of one hospital that nobody has configured."""

from __future__ import annotations

import json
from dataclasses import asdict
from decimal import Decimal
from functools import cache

import pytest

from app.clinical.knowledge import All, Leaf, Not, Ref
from app.doctor import codes
from app.doctor.coverage import Coverage, Found, Input, Refused, State, leaves, records
from app.doctor.lookalikes import LookAlikes
from app.sandbox import patients
from fhir_mappings.coding import Coding
from fhir_mappings.facts import Overlay
from tests.unit.app.bundles import bedside
from tests.unit.app.doctor import local
from tests.unit.app.doctor.local import LOINC, SITE, chart, counted, facts_of, observation, person, quantity


@cache
def everything() -> tuple[Coverage, LookAlikes]:
    return counted(chart())


def refused(concept: str, why: str) -> list[Refused]:
    return [one for one in everything()[0].refused() if (one.concept, one.why) == (concept, why)]


def found(coverage: Coverage, concept: str) -> Found:
    [one] = coverage.found([concept])
    return one


@pytest.mark.parametrize(
    ("concept", "why", "example", "unit", "code"),
    [
        ("crp", "no-unit", "45", "", "loinc|1988-5"),
        ("alt", "no-upper-limit", "", "U/L", "loinc|1742-6"),
        ("crs", "method-not-stated", "", "", "mdc|151688"),
        ("pao2", "specimen-unknown", "", "", "loinc|11556-8"),
        ("ferritin", "unreadable-value", "", "", "loinc|2276-4"),
        ("platelets", "unit-not-accepted", "212", "(a text)", "loinc|777-3"),
    ],
)
def test_a_refusal_says_what_was_seen_and_on_which_code(
    concept: str, why: str, example: str, unit: str, code: str
) -> None:
    [one] = refused(concept, why)
    assert (one.count, one.example, one.unit, one.codes) == (1, example, unit, (code,))


def test_the_fraction_trap_is_told_apart_by_its_unit() -> None:
    assert [(one.example, one.unit) for one in refused("fio2", "fraction-unclear")] == [("0.3", "%"), ("60", "1")]


def test_nothing_that_somebody_wrote_is_kept() -> None:
    coverage, look_alikes = everything()
    kept = repr((coverage.refused(), coverage.inputs(), coverage.found(["ferritin", "crp"]), look_alikes.found()))
    assert "FiO2" in kept
    for canary in (local.NAME, local.PATIENT, "Smith", "letter", "\\x1b", "\\x07"):
        assert canary not in kept


def test_a_value_is_told_by_code_unit_and_the_newest() -> None:
    coverage, _ = counted(
        [
            person(),
            observation(1, (LOINC, "1988-5", ""), hours=8, **quantity(10, "mg/dL")),
            observation(2, (LOINC, "30522-7", ""), hours=2, **quantity(180, "mg/L")),
            observation(3, (LOINC, "1988-5", ""), hours=5, valueString="150 mg/L"),
        ]
    )
    one = found(coverage, "crp")
    assert (one.count, one.patients, one.refused) == (3, 1, 0)
    assert one.codes == (("loinc|1988-5", 2), ("loinc|30522-7", 1))
    assert dict(one.units) == {"mg/L": 2, "mg/dL": 1}
    assert one.newest is not None
    assert one.newest.value == Decimal(180)


def test_patients_are_added_up() -> None:
    coverage, _ = counted([person(), observation(1, (LOINC, "1988-5", ""), **quantity(180, "mg/L"))])
    facts, raws = facts_of([person(), observation(1, (LOINC, "1988-5", ""), hours=1, **quantity(70, "mg/L"))])
    coverage.add(facts, raws, now=local.NOW)
    one = found(coverage, "crp")
    assert (one.count, one.patients) == (2, 2)
    assert one.newest is not None
    assert one.newest.value == Decimal(70)
    facts, raws = facts_of([person(), observation(1, (LOINC, "1988-5", ""), hours=7, **quantity(20, "mg/L"))])
    coverage.add(facts, raws, now=local.NOW)
    assert found(coverage, "crp").newest == one.newest


def test_the_newest_refusal_is_the_example() -> None:
    coverage, _ = counted(
        [
            person(),
            *(observation(n, (LOINC, "1988-5", ""), hours=n, **quantity(n * 10)) for n in (3, 1, 2)),
            observation(9, (LOINC, "1988-5", "")) | quantity(9) | {"effectiveDateTime": "not a date"},
        ]
    )
    by_why = {one.why: one for one in coverage.refused()}
    assert (by_why["no-unit"].count, by_why["no-unit"].example) == (3, "10")
    assert by_why["no-time"].count == 1


def test_what_cannot_be_read_is_counted_without_a_code() -> None:
    broken = observation(1, (LOINC, "1988-5", "")) | {"valueQuantity": "12"}
    coverage, look_alikes = counted([person(), broken])
    assert [(one.why, one.codes) for one in coverage.refused()] == [("unreadable-resource", ())]
    assert look_alikes.found() == ()


def test_two_meanings_of_one_result_are_named_with_all_their_codes() -> None:
    fio2 = [(LOINC, "71835-3", ""), ("http://snomed.info/sct", "27913002", "peak"), (SITE, "1", "FiO2")]
    coverage, look_alikes = counted([person(), observation(1, fio2, **quantity(0.5, "1"))])
    [one] = [one for one in coverage.refused() if one.concept == "fio2"]
    assert (one.why, one.codes) == ("ambiguous-coding", ("loinc|71835-3", "snomed|27913002"))
    assert look_alikes.found() == ()


def test_the_rules_are_read_as_the_service_reads_them() -> None:
    coverage, _ = everything()
    inputs = {one.name: one for one in coverage.inputs()}
    assert list(inputs)[:6] == ["ecmo_at_gas", "pf", "ecmo_fdo2", "crs", "crp", "ferritin"]
    assert {"anc", "platelets", "alt", "ast", "renal", "allergies", "medications", "pregnancy"} <= set(inputs)
    assert inputs["crp"].reasons == (("not used: no unit", 1),)
    assert inputs["crp"].rules == ("S-CRP",)
    assert not inputs["crp"].ready
    assert inputs["alt"].reasons == (("found, but without the upper limit of normal", 1),)


@pytest.mark.parametrize(
    ("resources", "overlay", "state"),
    [
        ([], Overlay(), "missing"),
        ([observation(1, (LOINC, "1920-8", ""), hours=40, **quantity(40, "U/L"))], Overlay(), "old"),
        ([], Overlay(not_measured=frozenset({"ast"})), "signed"),
        (
            [observation(1, (LOINC, "1920-8", ""), **quantity(40, "U/L"))],
            Overlay(local_uln={"ast": Decimal(40)}),
            "usable",
        ),
    ],
)
def test_an_input_is_ready_unless_it_is_missing(resources: list[local.Resource], overlay: Overlay, state: str) -> None:
    coverage, _ = counted([person(), *resources], overlay=overlay)
    [ast] = [one for one in coverage.inputs() if one.name == "ast"]
    assert ast.states == ((state, 1),)
    assert ast.ready == (state != "missing")


def test_the_oxygenators_fraction_is_asked_for_on_ecmo_only() -> None:
    off, _ = counted([person()])
    [one] = [one for one in off.inputs() if one.name == "ecmo_fdo2"]
    assert one.states == (("not-asked", 1),)
    [one] = [one for one in everything()[0].inputs() if one.name == "ecmo_fdo2"]
    assert one.states == (("missing", 1),)


def states(coverage: Coverage, name: str) -> dict[str, int]:
    [one] = [one for one in coverage.inputs() if one.name == name]
    return dict(one.states)


@pytest.mark.parametrize(
    ("person_", "state"),
    [
        ({"gender": "male"}, "not-asked"),
        ({"birthDate": "1940-01-01"}, "not-asked"),
        ({"birthDate": "1990-01-01"}, "missing"),
        ({"gender": "unknown", "birthDate": "1990-01-01"}, "missing"),
    ],
)
def test_pregnancy_is_asked_of_whom_the_rule_asks(person_: local.Resource, state: str) -> None:
    coverage, _ = counted([person() | person_])
    assert states(coverage, "pregnancy") == {state: 1}


def test_ecmo_that_nobody_recorded_is_known_by_absence_only() -> None:
    coverage, _ = counted([person()])
    assert states(coverage, "ecmo_at_gas") == {"by-absence": 1}
    [one] = [one for one in coverage.inputs() if one.name == "ecmo_at_gas"]
    assert one.ready
    assert states(everything()[0], "ecmo_at_gas") == {"usable": 1}


@pytest.mark.parametrize(
    ("states_", "ready"),
    [
        ((("missing", 1),), False),
        ((("not-asked", 4),), True),
        ((("not-asked", 4), ("missing", 1)), False),
        ((("missing", 4), ("old", 1)), True),
        ((("missing", 4), ("by-absence", 1)), True),
        ((), True),
    ],
)
def test_a_question_that_is_none_for_one_patient_answers_it_for_nobody(
    states_: tuple[tuple[State, int], ...], ready: bool
) -> None:
    assert Input("x", "X", ("safety",), states_).ready == ready


@pytest.mark.parametrize(
    ("text", "example", "unit"),
    [
        ("1700000 mg/L", "1700000", "mg/L"),
        ("030 5550100", "", ""),
        ("19660301", "", ""),
        ("1700000 Canary-Name", "", "(a text)"),
    ],
)
def test_of_a_typed_value_only_a_number_with_a_known_unit_is_shown(text: str, example: str, unit: str) -> None:
    coverage, _ = counted([person(), observation(1, (LOINC, "1988-5", ""), valueString=text)])
    shown = {(one.example, one.unit) for one in coverage.refused()}
    assert shown == {(example, unit)}


def test_leaves_are_found_wherever_they_stand() -> None:
    one, two = Leaf("a"), Leaf("b")
    assert list(leaves(All((one, Not(two), Ref("x"))))) == [one, two]


def test_records_are_counted_by_what_is_known_of_them() -> None:
    facts, _ = facts_of(chart())
    counts = records(facts)
    assert counts["medications, by text only"] == 4
    assert counts["medications nobody knows"] == 1
    assert counts["ECMO of no stated configuration"] == 1


def test_the_demo_patients_leave_no_question_open() -> None:
    mine = [r for r in patients.bundle(local.NOW) if local.PATIENT not in json.dumps(r)]
    own = [r for r in mine if "demo-full-protocol" in json.dumps(r)]
    text = json.dumps(own).replace("demo-full-protocol", local.PATIENT)
    coverage, look_alikes = counted(json.loads(text))
    assert all(one.ready for one in coverage.inputs())
    assert [one for one in look_alikes.found() if one.kind == "codes"] == []
    assert asdict(found(coverage, "crs"))["codes"] == (("(derived)", 6),)


def test_an_overlay_code_is_its_concept() -> None:
    coding = Coding(SITE, "1234", "")
    assert codes.concept_of(coding, overlay=Overlay()) == ""
    assert codes.concept_of(coding, overlay=Overlay(codes={f"{SITE}|1234": ("crp", "")})) == "crp"
    assert codes.concept_of(Coding(SITE, "", ""), overlay=Overlay()) == ""


def test_the_bedside_has_all_texts_that_are_used() -> None:
    assert bedside().plain.why("no-unit", {"seen": ""}) == "no unit"
