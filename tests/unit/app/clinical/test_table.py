"""Who gets which card, and each way in which the suggestion is withheld (readings 4 and 5)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from app.clinical.assessment import Assessment
from app.clinical.findings import Finding
from fhir_mappings.facts import Gap, Overlay, Source
from tests.unit.app.clinical.build import (
    NOW,
    ZONE,
    Item,
    ago,
    allergy,
    assessed,
    condition,
    knowledge,
    measurement,
    medication,
    offering,
    order,
    pair,
    partial,
    patient,
    procedure,
    refusal,
    source_keys,
    statement,
    unread,
    vaccine,
)

ULN: dict[str, Any] = {"uln": Decimal(40), "uln_origin": "laboratory"}


def said(found: Assessment) -> set[str]:
    """Why the suggestion is withheld: the code and its first word."""
    return {f"{r.code} {r.params[0][1]}" if r.params else r.code for r in found.withheld}


def confirmed(found: Assessment) -> list[str]:
    """What is to be confirmed before ordering, in order: the input, or the code where it stands alone."""
    return [r.params[0][1] if r.params else r.code for r in found.confirm]


def without(name: str, *more: Item) -> Assessment:
    """The patient of the suggestion with one thing left out, and more in its place."""
    return assessed(*offering(*more, without=(name,)))


def added(*more: Item) -> Assessment:
    """The patient of the suggestion with something more."""
    return assessed(*offering(*more))


def test_the_patient_all_of_these_start_from_is_offered_the_pair() -> None:
    found = added()

    assert (found.row.id, found.suggest, found.withheld, found.safety_card) == ("thresholds-met", True, (), False)
    assert [found.protocol(name).verdict for name in ("pilot-simple", "pilot-full")] == [Finding.MET] * 2


# --- anything unknown in the required set (reading 4)


@pytest.mark.parametrize("name", ["anc", "platelets", "alt", "ast"])
def test_a_missing_laboratory_value_of_the_required_set_withholds(name: str) -> None:
    found = without(name)

    assert (found.suggest, said(found), found.safety_card) == (False, {f"required-unknown {name}"}, True)


@pytest.mark.parametrize("name", ["anc", "platelets", "alt", "ast", "crcl"])
def test_a_stale_laboratory_value_of_the_required_set_withholds_and_one_at_the_limit_does_not(name: str) -> None:
    value = 95 if name == "crcl" else 200
    limit: dict[str, Any] = {"uln": Decimal(300), "uln_origin": "laboratory"}
    required = "renal" if name == "crcl" else name

    assert without(name, measurement(name, value, hours=30, **limit)).suggest is True
    assert said(without(name, measurement(name, value, hours=30.1, **limit))) == {f"required-unknown {required}"}


@pytest.mark.parametrize("name", ["alt", "ast"])
def test_a_transaminase_without_an_upper_limit_withholds(name: str) -> None:
    found = without(name, measurement(name, 48))

    assert said(found) == {f"required-unknown {name}"}
    assert dict(found.required)[name].missing == (f"{name}_uln",)


def test_no_clearance_and_no_dialysis_withholds_as_renal() -> None:
    found = without("crcl")

    assert said(found) == {"required-unknown renal"}
    assert dict(found.required)["renal"].missing == ("renal",)


def test_renal_is_known_while_dialysis_runs_and_the_dialysis_itself_withholds() -> None:
    found = without("crcl", procedure("dialysis-continuous", started=5))

    assert dict(found.required)["renal"].known
    assert said(found) == {"safety-present CI-RRT"}


def test_an_empty_allergy_list_withholds() -> None:
    assert said(without("allergies")) == {"required-unknown allergies"}


def test_without_an_intensive_care_medication_list_nothing_is_suggested() -> None:
    home = statement("metoprolol", hours=2000)

    found = assessed(*offering(home, without=("propofol", "nmba")))

    assert said(found) == {"required-unknown medications"}


@pytest.mark.parametrize(
    ("who", "withholds"),
    [
        (patient(sex="female", born=date(1990, 1, 1)), True),
        (patient(sex="female", born=date(1970, 3, 11)), True),  # 55 until tomorrow
        (patient(sex="female", born=date(1969, 3, 10)), False),  # 57
        (patient(sex="", born=date(1950, 1, 1)), True),
        (patient(sex="male", born=date(1990, 1, 1)), False),
    ],
)
def test_a_pregnancy_result_is_asked_of_females_of_12_to_55_years_and_when_the_sex_is_unknown(
    who: Item, withholds: bool
) -> None:
    assert said(added(who)) == ({"required-unknown pregnancy"} if withholds else set())


@pytest.mark.parametrize("name", ["anc", "platelets", "alt", "ast", "crcl"])
def test_a_refused_newer_result_of_the_required_set_withholds(name: str) -> None:
    found = added(refusal(name))

    assert f"required-unknown {'renal' if name == 'crcl' else name}" in said(found)
    assert found.suggest is False


def test_a_refused_newer_result_takes_away_absent_and_names_only_its_own_input() -> None:
    found = added(refusal("ast"))

    transaminase = next(s for s in found.safety if s.rule.id == "CI-TRANSAMINASE-GT-5ULN")
    assert (transaminase.finding, transaminase.outcome.missing) == (Finding.UNKNOWN, ("ast",))
    assert [a.input for a in transaminase.outcome.because] == ["ast"]
    assert {a.input: a.finding for a in transaminase.outcome.asked} == {
        "ast": Finding.UNKNOWN,
        "alt": Finding.NOT_MET,
    }


def test_a_refused_newer_result_never_takes_away_present() -> None:
    found = without("anc", measurement("anc", "0.9"), refusal("anc"))

    anc = next(s for s in found.safety if s.rule.id == "CI-ANC-LT-1.5")
    assert anc.finding is Finding.MET


def test_while_dialysis_runs_the_clearance_rules_stay_absent_whatever_was_refused() -> None:
    found = added(procedure("dialysis", started=5), refusal("crcl"))

    renal = {s.rule.id: s.finding for s in found.safety if s.rule.id.startswith("CI-RENAL")}
    assert set(renal.values()) == {Finding.NOT_MET}


# --- what the site has signed as not there (readings 3.1, 4)


def test_what_a_site_never_measures_is_confirmed_instead_of_withholding() -> None:
    found = without("ast", Overlay(not_measured=frozenset({"ast"})))

    assert found.suggest is True
    assert confirmed(found) == ["confirm-no-ecmo", "confirm-no-dialysis", "ast"]


def test_a_value_that_a_site_never_measures_but_that_is_on_record_counts_as_anywhere() -> None:
    found = without("ast", Overlay(not_measured=frozenset({"ast"})), measurement("ast", 500, **ULN))

    assert said(found) == {"safety-present CI-TRANSAMINASE-GT-5ULN"}


def absent(*resource_types: str) -> tuple[Source, ...]:
    """The sources of resource types that the site's server does not have."""
    return tuple(Source(key, kind, "failed", "absent-at-site") for key, kind in source_keys() if kind in resource_types)


def test_an_absent_source_withholds_through_no_finding() -> None:
    found = assessed(*offering(*absent("AllergyIntolerance"), without=("allergies",)))

    assert (found.suggest, said(found)) == (True, set())
    assert "allergies" in confirmed(found)


def test_a_site_without_medication_statements_can_be_offered_the_pair() -> None:
    found = added(*absent("MedicationStatement"))

    assert found.suggest is True
    assert confirmed(found)[:3] == ["confirm-no-ecmo", "confirm-no-dialysis", "study_drug"]


def test_a_source_that_failed_is_not_hidden_by_one_that_the_site_lacks() -> None:
    found = added(*absent("MedicationRequest"), unread("administrations"))

    assert {"required-unknown medications", "safety-unknown CI-DUP-JAK"} <= said(found)


def test_without_conditions_at_the_site_a_missing_pregnancy_test_still_withholds() -> None:
    found = added(*absent("Condition"), patient(sex="female", born=date(1990, 1, 1)))

    assert said(found) == {"required-unknown pregnancy"}


# --- every absolute finding present; every relative one but the warnings (reading 4)

PRESENT: dict[str, tuple[Item, ...]] = {
    "CI-ANC-LT-1.5": (measurement("anc", "1.49"),),
    "CI-PLT-LT-50": (measurement("platelets", 49),),
    "CI-TRANSAMINASE-GT-5ULN": (measurement("alt", 201, **ULN),),
    "CI-HYPERSENS-ANAKINRA": (allergy("e-coli", by_text=True),),
    "CI-HYPERSENS-RUXOLITINIB": (allergy("ruxolitinib"),),
    "CI-PREGNANCY": (
        patient(sex="female", born=date(1990, 1, 1)),
        measurement("pregnancy_test", coded="positive", hours=30),
    ),
    "CI-LACTATION": (condition("lactation"),),
    "CI-INFECTION-UNCONTROLLED": (condition("infection-opportunistic"),),
    "CI-TB-ACTIVE": (condition("tb-active"),),
    "CI-TNF-INHIBITOR": (medication("infliximab", hours=83 * 24),),
    "CI-DUP-JAK": (medication("baricitinib", hours=6 * 24),),
    "CI-DUP-IL1": (medication("canakinumab", hours=83 * 24),),
    "CI-LIVE-VACCINE-30D": (vaccine(True, hours=720),),
    "CI-FLUCONAZOLE-GT-200": (order("fluconazole", daily_mg=Decimal(400)),),
    "CI-FLUCONAZOLE-LE-200": (order("fluconazole", daily_mg=Decimal(200)),),
    "CI-RENAL-15-59-RUX": (measurement("crcl", 59),),
    "CI-RENAL-LT-30-ANAKINRA": (measurement("crcl", 29),),
    "CI-RENAL-LT-15-NO-RRT-RUX": (measurement("crcl", 14), procedure("dialysis", status="not-done", started=2)),
    "CI-RRT": (procedure("dialysis-intermittent", status="completed", started=70, ended=66),),
    "CI-CYP3A4-STRONG": (order("posaconazole"),),
    "CI-HEPATIC": (measurement("factor_v", 49),),
    "CI-IL6-RECENT": (medication("tocilizumab", hours=27 * 24),),
    "CI-IMMUNOSUPPRESSANT": (medication("rituximab", hours=179 * 24),),
    "CI-TRANSPLANT": (procedure("transplant", status="completed", started=90000, ended=89990),),
    "CI-AUTOIMMUNE": (condition("autoimmune"),),
    "CI-CHRONIC-STEROID-GT-10": (statement("prednisone", daily_mg=Decimal("10.5")),),
    "CI-HSV-VZV-ACTIVE": (condition("hsv-vzv"),),
    "CI-PML": (condition("pml", verification="provisional"),),
}
WARNINGS: dict[str, tuple[Item, ...]] = {
    "CI-CYP3A4-INDUCER": (medication("carbamazepine", hours=13 * 24),),
    "CI-HBSAG-POSITIVE": (measurement("hbsag", coded="positive", hours=8760),),
    "CI-TB-LATENT": (condition("tb-latent"),),
    "CI-VTE-MACE-HISTORY": (condition("vte-mace", clinical="resolved"),),
}
MONITORED: dict[str, tuple[Item, ...]] = {
    "MON-PLT-50-100": (measurement("platelets", 50),),
    "MON-CYP3A4-MODERATE": (order("amiodarone"),),
    "MON-HB-LT-8": (measurement("hb", "7.9"),),
    "MON-ANC-LT-2": (measurement("anc", "1.5"),),
    "MON-TRANSAMINASE": (measurement("ast", 60, **ULN),),
    "MON-LACTOSE": (allergy("lactose-intolerance"),),
    "MON-LIPIDS": (),
    "MON-ASTHMA": (condition("asthma", clinical="inactive"),),
    "MON-WARFARIN-PHENYTOIN": (order("warfarin"),),
    "MON-DEXAMETHASONE": (order("dexamethasone", inpatient=True),),
}


def test_every_rule_has_a_patient_below() -> None:
    assert set(PRESENT) | set(WARNINGS) | set(MONITORED) == {rule.id for rule in knowledge().safety}


@pytest.mark.parametrize("rule", PRESENT)
def test_a_present_finding_withholds_and_is_on_the_safety_card(rule: str) -> None:
    found = added(*PRESENT[rule])

    assert next(s for s in found.safety if s.rule.id == rule).finding is Finding.MET
    assert f"safety-present {rule}" in said(found)
    assert (found.suggest, found.safety_card, found.row.id) == (False, True, "thresholds-met")
    assert rule in {s.rule.id for s in found.present}


def test_a_present_finding_never_changes_a_pilot_verdict() -> None:
    found = added(*PRESENT["CI-ANC-LT-1.5"])

    assert [found.protocol(name).verdict for name in ("pilot-simple", "pilot-full")] == [Finding.MET] * 2


@pytest.mark.parametrize("rule", WARNINGS)
def test_a_warning_stands_beside_the_suggestion(rule: str) -> None:
    found = added(*WARNINGS[rule])

    assert rule in {s.rule.id for s in found.present}
    assert (found.suggest, found.safety_card) == (True, True)


@pytest.mark.parametrize("rule", MONITORED)
def test_what_is_only_monitored_neither_withholds_nor_raises_the_safety_card(rule: str) -> None:
    found = added(*MONITORED[rule])

    assert rule in {s.rule.id for s in found.present}
    assert (found.suggest, found.safety_card) == (True, False)


def test_what_is_present_is_told_absolute_first() -> None:
    found = added(*MONITORED["MON-CYP3A4-MODERATE"], condition("autoimmune"), measurement("anc", "0.9"))

    assert [s.rule.severity for s in found.present] == ["absolute", "relative", "monitor", "monitor"]


# --- unknown because a source failed or was partial, or because something could not be read (reading 4)

NEEDED_BY_FINDINGS = {
    "labs": "CI-ANC-LT-1.5",
    "conditions": "CI-TB-ACTIVE",
    "microbiology": "CI-INFECTION-UNCONTROLLED",
    "immunizations": "CI-LIVE-VACCINE-30D",
    "allergies": "CI-HYPERSENS-ANAKINRA",
    "orders": "CI-CYP3A4-INDUCER",
    "administrations": "CI-DUP-JAK",
    "long-acting": "CI-TNF-INHIBITOR",
    "statements": "CI-CHRONIC-STEROID-GT-10",
    "screening": "CI-LACTATION",
    "procedures": "CI-RRT",
}


@pytest.mark.parametrize("key", NEEDED_BY_FINDINGS)
@pytest.mark.parametrize("lost", [unread, partial], ids=["failed", "partial"])
def test_a_source_that_was_not_read_completely_withholds(key: str, lost: Callable[[str], Source]) -> None:
    found = added(lost(key), patient(sex="female", born=date(1940, 1, 1)))

    assert found.suggest is False
    if key not in {"labs", "procedures"}:  # without them the thresholds themselves are undetermined
        assert f"safety-unknown {NEEDED_BY_FINDINGS[key]}" in said(found)


@pytest.mark.parametrize(
    ("unreadable", "rule"),
    [
        (Gap("conditions", "unreadable-resource"), "CI-TB-ACTIVE"),
        (Gap("conditions", "condition-text-only", params=(("label", "Mb. Bechterew"),)), "CI-AUTOIMMUNE"),
        (Gap("allergies", "unreadable-resource"), "CI-HYPERSENS-RUXOLITINIB"),
        (Gap("immunizations", "unreadable-resource"), "CI-LIVE-VACCINE-30D"),
        (Gap("procedures", "procedure-text-only", "transplant"), "CI-TRANSPLANT"),
        (refusal("blood_culture", source="microbiology", why="unreadable-value"), "CI-INFECTION-UNCONTROLLED"),
        (refusal("factor_v", why="no-unit"), "CI-HEPATIC"),
        (measurement("blood_culture", coded="positive", hours=20), "CI-INFECTION-UNCONTROLLED"),
        (condition("infection-systemic"), "CI-INFECTION-UNCONTROLLED"),
        (vaccine(None), "CI-LIVE-VACCINE-30D"),
        (order(possibly=("voriconazole",), identity="text"), "CI-CYP3A4-STRONG"),
        (order(possibly=("phenytoin",), identity="text"), "CI-CYP3A4-INDUCER"),
        (statement("prednisone"), "CI-CHRONIC-STEROID-GT-10"),
        (procedure("dialysis", started=100), "CI-RRT"),
    ],
)
def test_a_finding_that_something_on_record_leaves_open_withholds(unreadable: Item, rule: str) -> None:
    found = added(unreadable)

    assert f"safety-unknown {rule}" in said(found)
    assert (found.suggest, found.safety_card) == (False, True)


def test_no_microbiology_and_no_dialysis_record_withhold_nothing() -> None:
    found = added()

    unknown = {s.rule.id for s in found.safety if s.finding is Finding.UNKNOWN}
    never_looked_for = {"CI-HBSAG-POSITIVE", "CI-TB-LATENT", "MON-HB-LT-8"}
    assert (unknown, found.suggest) == ({"CI-RRT", *never_looked_for}, True)


def test_a_clearance_below_15_with_dialysis_unknown_leaves_one_rule_open_and_withholds_by_the_other() -> None:
    found = without("crcl", measurement("crcl", 12))

    rule = next(s for s in found.safety if s.rule.id == "CI-RENAL-LT-15-NO-RRT-RUX")
    assert (rule.finding, rule.outcome.missing) == (Finding.UNKNOWN, ("dialysis",))
    assert said(found) == {"safety-present CI-RENAL-LT-30-ANAKINRA"}


# --- the rest of section 4, and sections 1, 3 and 5


def test_a_criterion_of_the_full_protocol_that_could_not_be_read_withholds() -> None:
    found = assessed(*offering(partial("respiratory", reaches=ago(13)), without=("prone", "ino")))

    assert found.row.id == "thresholds-met"
    assert {"criterion-not-read P-RESCUE"} <= said(found)


def test_any_other_unknown_criterion_is_confirmed_before_ordering() -> None:
    found = assessed(*offering(without=("prone", "ino")))

    assert found.suggest is True
    assert confirmed(found) == ["confirm-no-ecmo", "confirm-no-dialysis", "prone", "ino", "almitrine"]


def test_a_site_may_ask_for_the_full_inclusion() -> None:
    items = offering(without=("prone",))

    assert assessed(*items).suggest is True
    assert said(assessed(*items, suggest_on="pilot-full")) == {"site-asks-for-full-protocol"}
    assert assessed(*offering(), suggest_on="pilot-full").suggest is True


def test_a_positive_test_of_more_than_30_days_withholds() -> None:
    found = without("pcr", measurement("sarscov2_pcr", coded="positive", hours=31 * 24))

    assert {r.code for r in found.withheld} == {"pcr-positive-old"}


def test_a_newer_refused_result_of_a_criterion_lets_the_older_value_stand_and_withholds() -> None:
    found = added(refusal("crp", why="status-preliminary"))

    assert found.protocol("pilot-simple").finding_of("S-CRP") is Finding.MET
    assert {r.code for r in found.withheld} == {"newer-refused"}
    assert [n.reason.code for n in found.notes if n.withholds] == ["newer-refused"]


def test_the_same_reason_is_told_once() -> None:
    found = added(refusal("crp"))

    assert len(found.withheld) == 1  # S-CRP and P-CRP are one


def test_a_newest_gas_below_100_without_fio2_withholds() -> None:
    found = added(pair(70, hours=0.5))

    assert found.row.id == "thresholds-met"
    assert {r.code for r in found.withheld} == {"gas-without-fio2"}


def test_without_a_sign_of_invasive_ventilation_nothing_is_suggested() -> None:
    niv = procedure("niv", started=30)

    found = assessed(*offering(niv, without=("pplat", "nmba")))

    assert (found.row.id, said(found)) == ("thresholds-met", {"no-invasive-ventilation"})


def test_comfort_care_withholds() -> None:
    found = added(condition("comfort-care"))

    assert said(found) == {"comfort-care"}


def test_a_problem_list_that_was_not_read_may_hold_a_treatment_limitation() -> None:
    assert "comfort-care-unknown" in said(added(unread("conditions")))


def test_a_site_without_a_problem_list_is_not_asked_for_comfort_care() -> None:
    assert added(*absent("Condition")).suggest is True


@pytest.mark.parametrize("why", ["other-patient", "no-subject", "subject-not-verified"])
def test_a_record_that_is_not_known_to_be_this_patients_withholds(why: str) -> None:
    found = added(Gap("labs", why, reference="Observation/9"))

    assert said(found) == {"other-patient-in-answer"}
    assert dict(found.required)["anc"].known


@pytest.mark.parametrize("drug", ["anakinra", "ruxolitinib"])
@pytest.mark.parametrize(
    "use",
    [
        order,
        lambda drug: order(drug, hours=5000),
        lambda drug: statement(drug, hours=9000),
        lambda drug: medication(drug, hours=180 * 24),
        lambda drug: medication(drug, hours=None),
    ],
    ids=["order", "old-order", "statement", "180-days", "undated"],
)
def test_either_drug_already_on_record_is_never_suggested_again(drug: str, use: Callable[[str], Item]) -> None:
    found = added(use(drug))

    assert found.suggest is False
    assert f"already-on-study-drug {drug}" in said(found) or found.row.id == "course-running"


@pytest.mark.parametrize(
    "use",
    [
        medication("ruxolitinib", hours=181 * 24),
        medication("ruxolitinib", state="not-done"),
        medication("ruxolitinib", state="past", kind="request"),
        medication("ruxolitinib", state="draft", kind="request"),
        medication(possibly=("ruxolitinib",), identity="text", hours=181 * 24),
    ],
    ids=["181-days", "not-done", "stopped-order", "draft", "old-text"],
)
def test_what_is_no_longer_acting_is_no_study_drug_on_record(use: Item) -> None:
    assert added(use).suggest is True


def test_a_study_drug_named_in_text_only_withholds() -> None:
    found = added(order(possibly=("anakinra",), identity="text"))

    assert said(found) == {"study-drug-unknown anakinra"}


def test_reasons_are_kept_only_where_a_row_could_have_suggested() -> None:
    found = assessed(*offering(condition("comfort-care"), without=("crp",)), measurement("crp", 90))

    assert (found.row.id, found.withheld, found.suggest) == ("not-met", (), False)


# --- the rows of section 5: the first that matches wins


def test_nothing_is_shown_for_a_patient_who_has_died() -> None:
    found = added(patient(deceased=True), measurement("anc", "0.9"))

    assert (found.row.card, found.row.outcome, found.suggest, found.safety_card) == ("none", "deceased", False, False)


def test_a_running_course_comes_before_the_population() -> None:
    found = added(medication("anakinra", hours=100), patient(born=date(2015, 1, 1)))

    assert (found.row.id, found.row.card, found.suggest) == ("course-running", "course", False)
    assert found.course_since == ago(100)


@pytest.mark.parametrize(
    "items",
    [
        offering(patient(born=date(2008, 3, 11))),
        offering(measurement("sarscov2_pcr", coded="negative", hours=100), without=("pcr",)),
    ],
    ids=["17-years", "negative"],
)
def test_who_is_known_not_to_be_of_the_population_gets_no_card(items: tuple[Item, ...]) -> None:
    found = assessed(*items)

    assert (found.row.outcome, found.row.card, found.suggest) == ("not-the-population", "none", False)


def test_the_population_comes_before_the_thresholds() -> None:
    found = assessed(
        *offering(patient(born=date(2010, 1, 1)), measurement("crp", 5), without=("crp",)),
    )

    assert found.row.id == "not-the-population"


def test_thresholds_known_not_met_are_silent() -> None:
    found = without("crp", measurement("crp", 100))

    assert (found.row.id, found.row.card, found.row.outcome, found.suggest) == ("not-met", "none", "not-met", False)


@pytest.mark.parametrize(
    "unknown",
    [offering(without=("pcr",)), offering(patient(born=None))],
    ids=["covid", "age"],
)
def test_thresholds_met_in_an_unproven_population_are_told_but_nothing_is_suggested(unknown: tuple[Item, ...]) -> None:
    found = assessed(*unknown)

    assert (found.row.id, found.row.card, found.suggest, found.withheld) == (
        "population-unknown",
        "thresholds-met",
        False,
        (),
    )


def test_thresholds_met_without_the_rescue_therapies_are_told_but_nothing_is_suggested() -> None:
    found = without("prone", procedure("prone", status="not-done", started=10))

    assert (found.row.id, found.row.card, found.suggest) == ("rescue-not-met", "thresholds-met", False)


def test_an_unproven_population_comes_before_the_rescue_therapies() -> None:
    found = assessed(*offering(procedure("prone", status="not-done", started=10), without=("pcr", "prone")))

    assert found.row.id == "population-unknown"


def test_undetermined_thresholds_speak_in_scope() -> None:
    found = without("ferritin")

    assert (found.row.card, found.row.outcome, found.suggest, found.safety_card) == (
        "undetermined",
        "card",
        False,
        False,
    )
    assert found.protocol("pilot-simple").missing == ("ferritin",)


def test_beside_an_undetermined_card_there_is_no_safety_card_whatever_is_present() -> None:
    found = assessed(*offering(measurement("anc", "0.5"), order("ruxolitinib"), without=("ferritin",)))

    assert (found.row.id, found.safety_card) == ("undetermined", False)


def test_undetermined_thresholds_out_of_scope_are_silent() -> None:
    found = assessed(measurement("crp", 30))

    assert (found.row.id, found.row.outcome) == ("not-met", "not-met")
    assert (assessed().row.card, assessed().row.outcome) == ("none", "out-of-scope")


# --- scope


@pytest.mark.parametrize(
    ("items", "scope"),
    [
        ((), "out"),
        ((measurement("sarscov2_pcr", coded="positive", hours=240),), "out"),  # no sign of ventilatory support
        ((procedure("ventilation"),), "out"),  # nothing of COVID-19
        ((measurement("sarscov2_pcr", coded="positive", hours=240), procedure("ventilation")), "in"),
        ((condition("covid19"), measurement("peep", 10, hours=72)), "in"),
        ((condition("covid19"), measurement("peep", 10, hours=72.1)), "out"),
        ((condition("covid19", verification="refuted"), measurement("peep", 10)), "out"),
        ((condition("covid19", clinical="resolved"), measurement("peep", 10)), "out"),
        ((pair(60, 1), measurement("crp", 101)), "in"),
        ((pair(60, 1), measurement("ferritin", 1001)), "in"),
        ((pair(60, 1), measurement("crp", 100)), "out"),
        ((measurement("crp", 300), measurement("ferritin", 3000)), "out"),
        ((unread("labs"), pair(60, 1)), "unknown"),
        ((unread("labs"),), "out"),  # severity is not met by anything
        ((unread("respiratory"), measurement("crp", 300)), "unknown"),
        ((unread("respiratory"), measurement("crp", 100), measurement("ferritin", 1000)), "out"),
        ((unread("respiratory"),), "out"),
        ((unread("virology"), measurement("peep", 10)), "unknown"),
        ((unread("conditions"), measurement("peep", 10)), "unknown"),
        ((unread("virology"),), "out"),
        ((condition("covid19"), unread("procedures")), "unknown"),
    ],
)
def test_scope_is_unknown_only_when_an_unread_source_could_still_make_it_in(
    items: tuple[Item, ...], scope: str
) -> None:
    found = assessed(*items)

    assert {p.scope for p in found.protocols} == {scope}


def test_an_unread_source_that_could_bring_the_patient_into_scope_makes_an_undetermined_card_speak() -> None:
    found = assessed(unread("conditions"), measurement("peep", 10))

    assert found.row.card == "undetermined"


# --- a running course


def test_a_course_is_dated_from_the_first_administration_of_either_drug() -> None:
    found = added(
        medication("ruxolitinib", hours=50), medication("anakinra", hours=90), medication("anakinra", hours=66)
    )

    assert found.course_since == ago(90)


@pytest.mark.parametrize(
    ("items", "running"),
    [
        ((medication("anakinra", hours=35 * 24), measurement("sarscov2_pcr", coded="positive", hours=40 * 24)), True),
        ((medication("anakinra", hours=35 * 24 + 1), measurement("sarscov2_pcr", coded="positive", hours=960)), False),
        ((medication("anakinra", hours=100), measurement("sarscov2_pcr", coded="positive", hours=99)), False),
        ((medication("anakinra", hours=100), measurement("sarscov2_pcr", coded="positive", hours=400 * 24)), True),
        ((medication("anakinra", hours=100),), False),  # no positive test at all
        ((medication("anakinra", hours=100), measurement("sarscov2_pcr", coded="negative", hours=240)), False),
        ((order("anakinra", hours=100), measurement("sarscov2_pcr", coded="positive", hours=240)), False),
        (
            (
                medication("anakinra", hours=100),
                order("anakinra", hours=241, state="past"),
                measurement("sarscov2_pcr", coded="positive", hours=240),
            ),
            False,
        ),
        (
            (
                medication("anakinra", hours=100),
                statement("ruxolitinib", hours=5000),
                measurement("sarscov2_pcr", coded="positive", hours=240),
            ),
            True,  # the other drug's course
        ),
        (
            (
                medication("anakinra", hours=100),
                medication("anakinra", hours=300, state="not-done"),
                order("anakinra", hours=None),
                measurement("sarscov2_pcr", coded="positive", hours=240),
            ),
            True,
        ),
        ((medication("anakinra", hours=None), measurement("sarscov2_pcr", coded="positive", hours=240)), False),
    ],
)
def test_a_course_runs_35_days_from_a_first_dose_after_the_first_positive_test(
    items: tuple[Item, ...], running: bool
) -> None:
    found = assessed(*items)

    assert (found.course_since is not None, found.row.id == "course-running") == (running, running)


# --- the safety card alone (reading 5)

LOW_CRP = measurement("crp", 5)


def lone(*items: Item) -> Assessment:
    """Thresholds known not met, so no protocol card."""
    found = assessed(*offering(*items, LOW_CRP, without=("crp",)))
    assert found.row.card == "none"
    return found


@pytest.mark.parametrize(
    "use",
    [
        order("ruxolitinib"),
        statement("anakinra", hours=5000),
        medication("anakinra", hours=24, running=False),
        medication("anakinra", hours=100, running=True),
    ],
    ids=["ordered", "taken", "given-within-a-day", "running"],
)
def test_an_absolute_finding_in_a_patient_who_receives_either_drug_is_told_alone(use: Item) -> None:
    before_the_drug = measurement("sarscov2_pcr", coded="positive", hours=1)  # so no course runs

    found = assessed(*offering(use, before_the_drug, measurement("anc", "0.9"), LOW_CRP, without=("crp", "pcr")))

    assert (found.row.card, found.safety_card) == ("none", True)


@pytest.mark.parametrize(
    "use",
    [
        None,
        medication("anakinra", hours=25),
        medication("anakinra", hours=None),
        medication("ruxolitinib", state="not-done"),
        order("ruxolitinib", state="past"),
    ],
    ids=["none", "given-before", "undated", "not-done", "stopped"],
)
def test_an_absolute_finding_in_a_patient_who_receives_neither_is_not_told_alone(use: Item | None) -> None:
    items = [measurement("anc", "0.9"), measurement("sarscov2_pcr", coded="positive", hours=1)]

    found = assessed(*offering(*items, *([use] if use else []), LOW_CRP, without=("crp", "pcr")))

    assert (found.row.card, found.safety_card) == ("none", False)


def test_a_record_of_infection_is_told_alone_to_a_patient_who_receives_either_drug() -> None:
    culture = measurement("blood_culture", coded="positive", hours=20)

    assert lone(order("ruxolitinib"), culture).safety_card is True
    assert lone(culture).safety_card is False


def test_an_infection_that_is_unknown_for_another_reason_is_not_told_alone() -> None:
    unreadable = Gap("conditions", "unreadable-resource")

    assert lone(order("ruxolitinib"), unreadable).safety_card is False
    assert lone(order("ruxolitinib"), unread("microbiology")).safety_card is False


def test_a_relative_finding_is_told_alone_only_in_scope_or_during_a_course() -> None:
    posaconazole = order("posaconazole")
    outpatient = assessed(order("ruxolitinib"), posaconazole, measurement("crp", 5))
    inside = lone(order("ruxolitinib"), posaconazole)
    course = assessed(
        medication("ruxolitinib", hours=20),
        posaconazole,
        measurement("sarscov2_pcr", coded="positive", hours=90 * 24),
        measurement("crp", 5),
    )

    assert (outpatient.row.id, outpatient.safety_card) == ("not-met", False)
    assert inside.safety_card is True
    assert (course.row.id, {p.scope for p in course.protocols}, course.safety_card) == ("course-running", {"out"}, True)


def test_what_is_only_monitored_is_never_told_alone() -> None:
    assert lone(order("ruxolitinib"), order("amiodarone")).safety_card is False


def test_a_deceased_patient_who_receives_a_study_drug_gets_no_safety_card() -> None:
    assert lone(patient(deceased=True), order("ruxolitinib"), measurement("anc", "0.9")).safety_card is False


def test_a_required_unknown_raises_the_safety_card_also_where_nothing_could_be_suggested() -> None:
    found = assessed(*offering(without=("pcr", "anc")))

    assert (found.row.id, found.safety_card) == ("population-unknown", True)


def test_what_was_not_read_or_not_usable_is_kept_for_the_card() -> None:
    gap = refusal("crp")

    found = added(gap, unread("immunizations"))

    assert found.gaps == (gap,)
    assert [source.key for source in found.lost] == ["immunizations"]
    assert (found.now, found.zone, found.patient) == (NOW, ZONE, "Patient/p1")
