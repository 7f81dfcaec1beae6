"""What is or is not on record: virus tests, conditions, infection, allergies, pregnancy, vaccines."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from app.clinical.knowledge import Leaf
from app.clinical.readers import read as read_leaf
from app.clinical.reading import Reading
from fhir_mappings.facts import Gap, Source
from tests.unit.app.clinical.build import (
    Item,
    ago,
    allergy,
    chart,
    codes,
    condition,
    measurement,
    on_day,
    partial,
    patient,
    procedure,
    read,
    refusal,
    source,
    unread,
    vaccine,
    when,
    word,
)

SEEN = (("seen", "see report"),)
UNREADABLE_CONDITION = Gap("conditions", "unreadable-resource")


def absent(key: str) -> Source:
    """A source that the site's clinician has signed it lacks."""
    return source(key, "failed", why="absent-at-site")


# --- SARS-CoV-2 (section 1)


def pcr(days: float, coded: str = "positive") -> Item:
    """A RT-PCR so many days ago."""
    return measurement("sarscov2_pcr", coded=coded, hours=days * 24)


def covid(*items: Item) -> Reading:
    """The reading of P-COVID."""
    return read("sarscov2_pcr", *items)


@pytest.mark.parametrize(
    ("tests", "notes"),
    [
        ([pcr(1)], ()),
        ([pcr(30)], ()),
        ([pcr(30.1)], ("pcr-positive-old!",)),
        ([pcr(60)], ("pcr-positive-old!",)),
        ([pcr(10), pcr(5, "negative")], ()),
        ([pcr(10), pcr(5, "negative"), pcr(4, "negative")], ("pcr-negatives-since!",)),
        ([pcr(10), pcr(12, "negative"), pcr(14, "negative")], ()),
        ([pcr(10), pcr(40), pcr(20, "negative"), pcr(15, "negative")], ()),  # the newest positive counts
        ([pcr(40), pcr(5, "negative"), pcr(4, "negative")], ("pcr-positive-old!", "pcr-negatives-since!")),
    ],
)
def test_a_positive_within_60_days_is_met_and_an_old_or_outlived_one_withholds(
    tests: list[Item], notes: tuple[str, ...]
) -> None:
    reading = covid(*tests)

    assert (reading.state, codes(reading)) == ("positive", notes)


def test_a_positive_of_more_than_60_days_is_stale() -> None:
    reading = covid(pcr(60.1))

    assert (reading.known, reading.reason.code, word(reading, "value"), reading.missing) == (
        False,
        "stale",
        "positive",
        ("sarscov2_pcr",),
    )


@pytest.mark.parametrize(
    ("items", "state", "why"),
    [
        ([pcr(7, "negative")], "negative", "pcr-negative"),
        ([pcr(7.1, "negative")], "", "pcr-negative-old"),
        ([pcr(3, "negative"), pcr(50, "negative")], "negative", "pcr-negative"),
        ([pcr(3, "negative"), condition("covid19")], "", "negative-but-condition"),
        ([pcr(3, "negative"), condition("covid19", verification="refuted")], "negative", "pcr-negative"),
        ([pcr(3, "negative"), condition("covid19", clinical="resolved")], "negative", "pcr-negative"),
        ([pcr(3, "negative"), condition("covid19-suspected")], "negative", "pcr-negative"),
        ([pcr(3, "negative"), measurement("sarscov2_antigen", coded="positive")], "", "negative-but-antigen"),
        ([pcr(3, "negative"), measurement("sarscov2_antigen", coded="negative")], "negative", "pcr-negative"),
        (
            [pcr(3, "negative"), measurement("sarscov2_antigen", coded="positive", hours=61 * 24)],
            "negative",
            "pcr-negative",
        ),
        ([pcr(3, "negative"), unread("conditions")], "", "source-failed"),
        ([pcr(3, "negative"), absent("conditions")], "", "source-absent"),
        ([pcr(3, "negative"), pcr(2, "inconclusive")], "", "pcr-inconclusive"),
        ([pcr(3, "negative"), pcr(4, "inconclusive")], "negative", "pcr-negative"),
    ],
)
def test_only_negatives_decide_for_7_days_when_nothing_contradicts_them(
    items: list[Item], state: str, why: str
) -> None:
    reading = covid(*items)

    assert (reading.state, reading.reason.code) == (state, why)
    assert reading.missing == (() if state else ("sarscov2_pcr",))


@pytest.mark.parametrize(
    ("items", "why"),
    [
        ([], "never-measured"),
        ([pcr(1, "inconclusive")], "pcr-inconclusive"),
        ([measurement("sarscov2_antigen", coded="positive")], "antigen-only"),
        ([condition("covid19")], "never-measured"),
    ],
)
def test_without_a_result_it_is_unknown_and_an_antigen_test_is_only_a_line(items: list[Item], why: str) -> None:
    reading = covid(*items)

    assert (reading.known, reading.reason.code, reading.failed) == (False, why, False)


def test_a_refused_newer_result_lets_the_positive_stand_and_withholds() -> None:
    refused = refusal("sarscov2_pcr", source="virology", why="status-preliminary")

    assert codes(covid(pcr(3), refused)) == ("newer-refused!",)
    assert codes(covid(pcr(3), refusal("sarscov2_pcr", hours=100, source="virology"))) == ()


def test_a_refused_result_may_be_a_positive_so_negatives_do_not_decide() -> None:
    reading = covid(pcr(3, "negative"), refusal("sarscov2_pcr", source="virology", why="unreadable-value", params=SEEN))

    assert (reading.known, reading.unreadable, word(reading, "why")) == (False, True, "unreadable-value")


@pytest.mark.parametrize("lost", [unread("virology"), partial("virology", reaches=ago(59 * 24))])
def test_virology_that_was_not_read_for_60_days_leaves_it_unknown(lost: Item) -> None:
    reading = covid(pcr(3), lost)

    assert (reading.known, reading.failed) == (False, True)


# --- conditions, and what stands for one


def on_record(*items: Item, **params: object) -> Reading:
    """The reading of a condition rule."""
    return read("condition", *items, params={"concepts": "transplant", **params})


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (condition("transplant"), "present"),
        (condition("ckd", "transplant", clinical="recurrence"), "present"),
        (condition("transplant", clinical=""), "present"),
        (condition("transplant", clinical="", abatement=when(20)), "absent"),
        (condition("transplant", clinical="inactive"), "absent"),
        (condition("transplant", clinical="remission"), "absent"),
        (condition("transplant", verification="refuted"), "absent"),
        (condition("transplant", verification="provisional"), "present"),
        (condition("ckd"), "absent"),
    ],
)
def test_only_an_active_not_refuted_condition_of_the_group_counts(found: Item, state: str) -> None:
    assert on_record(found).state == state


def test_a_condition_is_told_by_its_own_words_with_its_onset() -> None:
    reading = on_record(condition("transplant", label="Z94.0 kidney", onset=when(500), recorded=when(3)))

    assert (word(reading, "label"), reading.evidence[0].effective) == ("Z94.0 kidney", ago(500))
    assert on_record(condition("transplant")).evidence[0].effective is None


@pytest.mark.parametrize(
    ("status", "state"), [("completed", "present"), ("in-progress", "present"), ("not-done", "absent")]
)
def test_a_procedure_may_stand_for_a_condition(status: str, state: str) -> None:
    found = procedure("transplant", status=status, started=90000)

    assert on_record(found, also_procedures="transplant").state == state
    assert on_record(found).state == "absent"


def test_a_test_may_stand_for_a_condition() -> None:
    yes = measurement("breastfeeding", coded="positive", hours=50)

    assert read("condition", yes, params={"concepts": "lactation", "also_tests": "breastfeeding"}).state == "present"
    no = measurement("breastfeeding", coded="negative", hours=50)
    assert read("condition", no, params={"concepts": "lactation", "also_tests": "breastfeeding"}).state == "absent"


def test_an_empty_problem_list_that_was_read_is_nothing_on_record() -> None:
    assert on_record(source("conditions", "empty")).state == "absent"


@pytest.mark.parametrize(
    ("lost", "params", "known"),
    [
        (unread("conditions"), {}, False),
        (partial("conditions"), {}, False),
        (unread("procedures"), {}, True),
        (unread("procedures"), {"also_procedures": "transplant"}, False),
        (unread("screening"), {}, True),
        (unread("screening"), {"also_tests": "breastfeeding"}, False),
        (partial("screening", reaches=ago(365 * 24)), {"also_tests": "breastfeeding"}, True),
        (partial("screening", reaches=ago(364 * 24)), {"also_tests": "breastfeeding"}, False),
    ],
)
def test_absence_needs_every_source_that_could_hold_it(lost: Item, params: dict[str, object], known: bool) -> None:
    reading = on_record(lost, **params)

    assert (reading.known, reading.failed) == (known, not known)


def test_a_lost_source_names_the_rules_own_input() -> None:
    assert on_record(unread("conditions")).missing == ("conditions",)
    assert on_record(unread("conditions"), missing="tb").missing == ("tb",)


@pytest.mark.parametrize(
    ("gap", "why"),
    [
        (UNREADABLE_CONDITION, "unreadable-condition"),
        (Gap("conditions", "condition-text-only", params=(("label", "St. p. NTX"),)), "condition-by-text"),
    ],
)
def test_an_entry_that_nobody_can_classify_may_be_the_one_asked_for(gap: Gap, why: str) -> None:
    reading = on_record(gap)

    assert (reading.known, reading.unreadable, reading.reason.code) == (False, True, why)
    assert on_record(gap, condition("transplant")).state == "present"


def words(concept: str) -> Gap:
    """A problem-list entry whose words name a group."""
    return Gap("conditions", "condition-text-only", concept, params=(("label", "x"),))


@pytest.mark.parametrize(
    ("concept", "known"), [("", False), ("transplant", False), ("tb-active", True), ("comfort-care", True)]
)
def test_an_entry_in_words_asks_only_the_rules_of_its_group(concept: str, known: bool) -> None:
    assert on_record(words(concept)).known is known


@pytest.mark.parametrize(
    ("concept", "known"),
    [("", False), ("infection-opportunistic", False), ("infection-systemic", False), ("transplant", True)],
)
def test_words_of_an_infection_ask_about_it(concept: str, known: bool) -> None:
    assert infection(words(concept)).known is known


@pytest.mark.parametrize(("concept", "state"), [("", ""), ("pregnancy", ""), ("transplant", "absent")])
def test_a_pregnancy_in_words_is_a_question_even_beside_a_negative_test(concept: str, state: str) -> None:
    reading = read("pregnancy", WOMAN, result(1, "negative"), words(concept))

    assert (reading.state, reading.unreadable) == (state, not state)


@pytest.mark.parametrize(
    ("gap", "known"),
    [
        (Gap("procedures", "procedure-text-only", "transplant", params=(("label", "NTX"),)), False),
        (Gap("procedures", "status-unknown", "transplant", params=(("status", "x"),)), False),
        (Gap("procedures", "procedure-text-only", "ecmo"), True),
        (Gap("allergies", "unreadable-resource"), True),
    ],
)
def test_a_procedure_that_could_not_be_used_may_be_the_one_asked_for(gap: Gap, known: bool) -> None:
    reading = on_record(gap, also_procedures="transplant")

    assert (reading.known, reading.unreadable) == (known, not known)


# --- infection (reading 3.17)


def infection(*items: Item) -> Reading:
    """The reading of CI-INFECTION-UNCONTROLLED."""
    return read("infection", *items)


@pytest.mark.parametrize("verification", ["", "confirmed", "provisional"])
def test_an_active_opportunistic_infection_is_present(verification: str) -> None:
    reading = infection(condition("infection-opportunistic", verification=verification))

    assert (reading.state, reading.evidence[0].reference) == ("present", "Condition/infection-opportunistic")


@pytest.mark.parametrize(
    "item",
    [
        measurement("blood_culture", coded="positive", hours=168),
        measurement("blood_culture", coded="positive", at=on_day(date(2026, 3, 3))),  # ends within the 7 d
        measurement("fungal_test", coded="positive", status="preliminary"),
        condition("infection-systemic", verification="provisional"),
        condition("infection-systemic", label="Staphylococcal sepsis"),
    ],
)
def test_a_positive_culture_or_a_systemic_infection_asks_whether_it_is_controlled(item: Item) -> None:
    reading = infection(item)

    assert (reading.known, reading.unreadable, reading.reason.code) == (False, True, "infection-on-record")
    assert (reading.missing, len(reading.evidence)) == (("infection",), 1)


def test_the_infection_is_named_as_the_record_names_it() -> None:
    assert word(infection(measurement("blood_culture", coded="positive", label="Candida")), "what") == "Candida"
    assert word(infection(measurement("fungal_test", coded="positive")), "what") == "positive fungal test"
    assert word(infection(condition("infection-systemic")), "what") == "systemic infection"


@pytest.mark.parametrize(
    "item",
    [
        measurement("blood_culture", coded="positive", hours=168.1),
        measurement("blood_culture", coded="negative"),
        condition("infection-systemic", verification="refuted"),
        condition("infection-opportunistic", clinical="resolved"),
        condition("infection-covid"),  # viral sepsis or pneumonia due to COVID-19
        condition("tb-active"),  # a rule of its own
        Gap("microbiology", "status-registered", "blood_culture", when=when(1)),  # in the laboratory, no result yet
        refusal("blood_culture", hours=169, source="microbiology"),
        source("microbiology", "empty"),
    ],
)
def test_an_old_negative_pending_or_refuted_record_is_no_infection(item: Item) -> None:
    assert infection(item).state == "absent"


@pytest.mark.parametrize("concept", ["blood_culture", "fungal_test"])
def test_a_result_that_could_not_be_read_may_be_positive(concept: str) -> None:
    reading = infection(refusal(concept, source="microbiology", why="unreadable-value", params=SEEN))

    assert (reading.known, reading.unreadable, word(reading, "why")) == (False, True, "unreadable-value")


def test_a_problem_list_entry_that_could_not_be_read_may_be_an_infection() -> None:
    assert infection(UNREADABLE_CONDITION).reason.code == "unreadable-condition"


@pytest.mark.parametrize(
    ("lost", "known"),
    [
        (unread("conditions"), False),
        (unread("microbiology"), False),
        (partial("microbiology", reaches=ago(168)), True),
        (partial("microbiology", reaches=ago(167)), False),
    ],
)
def test_no_infection_needs_the_problem_list_and_7_days_of_microbiology(lost: Item, known: bool) -> None:
    assert (infection(lost).known, infection(lost).failed) == (known, not known)


def test_an_infection_on_record_is_told_whatever_else_was_not_read() -> None:
    assert infection(condition("infection-opportunistic"), unread("microbiology")).state == "present"
    assert infection(measurement("blood_culture", coded="positive"), unread("conditions")).unreadable is True


# --- allergies (reading 3.12)


@pytest.mark.parametrize(
    "entry",
    [
        allergy("no-known-allergy"),
        allergy("penicillin"),
        allergy("penicillin", clinical="resolved"),
        allergy("penicillin", verification="unconfirmed"),
    ],
)
def test_an_entry_that_says_something_makes_allergies_known(entry: Item) -> None:
    assert read("allergies", entry).state == "known"


@pytest.mark.parametrize(
    "entry",
    [
        allergy(),
        allergy("no-information"),
        allergy("no-known-allergy", verification="refuted"),
        allergy("penicillin", verification="refuted"),
    ],
)
def test_a_place_holder_or_a_refuted_entry_says_nothing(entry: Item) -> None:
    assert read("allergies", entry).reason.code == "no-allergy-record"


@pytest.mark.parametrize(
    ("items", "why"),
    [
        ((), "no-allergy-record"),
        ((source("allergies", "empty"),), "no-allergy-record"),
        ((allergy("penicillin", verification="entered-in-error"),), "no-allergy-record"),
        ((allergy("no-known-allergy"), Gap("allergies", "unreadable-resource")), "unreadable-allergy"),
        ((allergy("no-known-allergy"), unread("allergies")), "source-failed"),
        ((allergy("no-known-allergy"), partial("allergies")), "source-failed"),
    ],
)
def test_an_empty_or_incomplete_allergy_list_is_unknown(items: tuple[Item, ...], why: str) -> None:
    reading = read("allergies", *items)

    assert (reading.known, reading.reason.code, reading.missing) == (False, why, ("allergies",))
    assert reading.failed is (why == "source-failed")
    assert reading.unreadable is (why == "unreadable-allergy")


def hypersensitive(*items: Item) -> Reading:
    """The reading of CI-HYPERSENS-ANAKINRA."""
    return read("hypersensitivity", *items, params={"substances": "anakinra e-coli"})


@pytest.mark.parametrize(
    ("entry", "state"),
    [
        (allergy("anakinra"), "present"),
        (allergy("latex", "e-coli", by_text=True), "present"),  # a false alarm is the safe side
        (allergy("anakinra", clinical=""), "present"),
        (allergy("anakinra", verification="unconfirmed"), "present"),
        (allergy("anakinra", clinical="resolved"), "absent"),
        (allergy("ruxolitinib"), "absent"),
        (allergy("no-known-allergy"), "absent"),
    ],
)
def test_an_active_allergy_to_the_substance_counts_by_code_or_text(entry: Item, state: str) -> None:
    assert hypersensitive(entry).state == state


def test_an_allergy_on_record_counts_also_in_a_list_that_was_not_read_completely() -> None:
    assert hypersensitive(allergy("anakinra"), partial("allergies")).state == "present"
    assert hypersensitive(allergy("latex"), partial("allergies")).failed is True
    assert hypersensitive().reason.code == "no-allergy-record"


# --- pregnancy (readings 3.15, 3.16, 4)

WOMAN = patient(sex="female", born=date(1990, 1, 1))
OLD_WOMAN = patient(sex="female", born=date(1940, 1, 1))


def result(days: float, coded: str, concept: str = "pregnancy_test") -> Item:
    """A test or a charted status so many days ago."""
    return measurement(concept, coded=coded, hours=days * 24)


def record(days: float | None, **more: Any) -> Item:
    """A pregnancy on the problem list, begun so many days ago."""
    begun = None if days is None else when(days=days)
    return condition("pregnancy", **{"onset": begun, **more})


@pytest.mark.parametrize(
    ("items", "state", "why"),
    [
        ([], "", "no-pregnancy-result"),
        ([result(7, "negative")], "absent", "pregnancy-test-negative"),
        ([result(7.1, "negative")], "", "no-pregnancy-result"),
        ([result(2, "not-pregnant", "pregnancy_status")], "absent", "pregnancy-test-negative"),
        ([result(2, "pregnant", "pregnancy_status")], "present", "pregnancy-test-positive"),
        ([result(7, "positive"), result(1, "negative")], "present", "pregnancy-test-positive"),
        ([result(8, "positive"), result(1, "negative")], "absent", "pregnancy-test-negative"),
        ([result(8, "positive")], "present", "pregnancy-test-positive"),
        ([result(8, "positive"), result(9, "negative")], "present", "pregnancy-test-positive"),
        ([record(300), result(1, "negative")], "present", "on-record"),
        ([record(301), result(1, "negative")], "absent", "pregnancy-test-negative"),
        ([record(301)], "present", "on-record"),
        ([record(None), result(1, "negative")], "present", "on-record"),
        ([record(None, recorded=when(days=301)), result(1, "negative")], "absent", "pregnancy-test-negative"),
        ([record(100, clinical="resolved"), result(1, "negative")], "absent", "pregnancy-test-negative"),
        ([record(100, verification="refuted")], "", "no-pregnancy-result"),
    ],
)
def test_a_recent_positive_or_pregnancy_beats_any_negative_and_an_older_one_only_stale_ones(
    items: list[Item], state: str, why: str
) -> None:
    reading = read("pregnancy", WOMAN, *items)

    assert (reading.state, reading.reason.code) == (state, why)
    assert reading.missing == (() if state else ("pregnancy",))


@pytest.mark.parametrize(
    ("who", "state"),
    [
        (patient(sex="male"), "absent"),
        (patient(sex="female", born=date(1970, 3, 11)), ""),  # 55
        (patient(sex="female", born=date(1970, 3, 10)), "absent"),  # 56 today
        (patient(sex="female", born=date(2014, 3, 10)), ""),  # 12 today
        (patient(sex="female", born=date(2014, 3, 11)), "absent"),  # 11
        (patient(sex="female", born=date(1970, 1, 1), until=date(1970, 12, 31)), ""),  # 55 or 56
        (patient(sex="female", born=None), ""),
        (patient(sex="", born=date(1940, 1, 1)), ""),
    ],
)
def test_a_result_is_asked_of_females_of_12_to_55_years(who: Item, state: str) -> None:
    assert read("pregnancy", who).state == state


def test_without_a_patient_resource_pregnancy_is_unknown() -> None:
    assert read_leaf(chart(patient=None), Leaf("pregnancy")).reason.code == "no-pregnancy-result"


def test_a_pregnancy_on_record_counts_at_any_age() -> None:
    assert read("pregnancy", OLD_WOMAN, record(10)).state == "present"
    assert read("pregnancy", OLD_WOMAN, result(10, "positive")).state == "present"
    assert read("pregnancy", patient(), record(10)).state == "absent"  # a man


@pytest.mark.parametrize("items", [[], [result(1, "negative")]], ids=["no-test", "negative"])
@pytest.mark.parametrize(
    "lost", [unread("conditions"), partial("conditions"), unread("screening"), partial("screening", reaches=ago(167))]
)
def test_an_unread_source_may_hold_a_pregnancy_also_against_a_negative_test(items: list[Item], lost: Item) -> None:
    reading = read("pregnancy", WOMAN, lost, *items)

    assert (reading.known, reading.failed) == (False, True)


def test_an_unread_source_does_not_make_the_old_pregnant() -> None:
    assert read("pregnancy", OLD_WOMAN, unread("conditions")).state == "absent"


def test_where_the_site_has_no_problem_list_the_test_decides() -> None:
    assert read("pregnancy", WOMAN, absent("conditions"), result(1, "negative")).state == "absent"
    assert read("pregnancy", WOMAN, absent("conditions")).reason.code == "no-pregnancy-result"
    assert read("pregnancy", WOMAN, absent("screening")).reason.code == "source-absent"


@pytest.mark.parametrize(
    ("items", "state"),
    [
        ([result(1, "negative"), refusal("pregnancy_test", source="screening")], ""),
        ([result(1, "negative"), refusal("pregnancy_status", source="screening")], ""),
        ([result(1, "negative"), refusal("pregnancy_test", hours=30, source="screening")], "absent"),
        ([result(1, "positive"), refusal("pregnancy_test", source="screening")], "present"),
        ([refusal("pregnancy_test", source="screening")], ""),
    ],
)
def test_a_refused_newer_test_takes_away_absent_and_never_present(items: list[Item], state: str) -> None:
    reading = read("pregnancy", WOMAN, *items)

    assert (reading.state, reading.unreadable) == (state, not state)


def test_a_refused_test_of_more_than_7_days_is_no_test_at_all() -> None:
    assert read("pregnancy", WOMAN, refusal("pregnancy_test", hours=169)).reason.code == "no-pregnancy-result"


# --- live vaccines


@pytest.mark.parametrize(
    ("given", "state"),
    [
        (vaccine(True, hours=720), "present"),
        (vaccine(True, hours=720.1), "absent"),
        (vaccine(True, when=on_day(date(2026, 2, 8))), "present"),  # ends 29.5 d before now
        (vaccine(True, when=on_day(date(2026, 2, 7))), "absent"),
        (vaccine(True, when=on_day(date(2026, 1, 1), until=date(2026, 12, 31))), "present"),
        (vaccine(False), "absent"),
        (vaccine(None, hours=721), "absent"),
        (vaccine(None), ""),
        (vaccine(None, hours=None), ""),
        (vaccine(True, hours=None), ""),
        (vaccine(False, hours=None), "absent"),
    ],
)
def test_a_live_vaccine_within_30_days_counts_and_an_unclear_one_is_unknown(given: Item, state: str) -> None:
    reading = read("live_vaccine", given)

    assert (reading.state, reading.unreadable) == (state, not state)


def test_a_live_vaccine_beats_an_unclear_one() -> None:
    assert read("live_vaccine", vaccine(None), vaccine(True, hours=100)).state == "present"


@pytest.mark.parametrize(
    ("gap", "known"),
    [
        (Gap("immunizations", "unreadable-resource", reference="Immunization/1"), False),
        (Gap("immunizations", "status-unknown", reference="Immunization/1"), False),
        (Gap("immunizations", "future-date", reference="Immunization/1"), True),
        (UNREADABLE_CONDITION, True),
    ],
)
def test_a_vaccination_that_could_not_be_read_may_be_a_live_vaccine(gap: Gap, known: bool) -> None:
    reading = read("live_vaccine", gap)

    assert (reading.known, reading.unreadable) == (known, not known)


@pytest.mark.parametrize(
    ("lost", "known"),
    [
        (unread("immunizations"), False),
        (partial("immunizations", reaches=ago(719)), False),
        (partial("immunizations", reaches=ago(720)), True),
        (source("immunizations", "empty"), True),
    ],
)
def test_no_live_vaccine_needs_30_days_of_vaccinations(lost: Item, known: bool) -> None:
    reading = read("live_vaccine", lost)

    assert (reading.known, reading.failed) == (known, not known)


def test_a_rule_may_count_more_diagnoses_as_infections() -> None:
    tuberculosis = condition("tb-active")
    assert read("infection", tuberculosis).state == "absent"
    assert read("infection", tuberculosis, params={"also": "tb-active"}).state == "present"
