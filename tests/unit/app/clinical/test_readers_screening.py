"""Hepatitis B and tuberculosis, what counts when it is over, intolerances, and how an exposure is told."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from app.clinical.reading import Reading
from fhir_mappings.facts import Gap, MedicationUse
from tests.unit.app.clinical.build import (
    Item,
    ago,
    allergy,
    codes,
    condition,
    measurement,
    medication,
    order,
    partial,
    read,
    refusal,
    statement,
    unread,
    word,
)

YEAR = 365 * 24


def hepatitis(*items: Item) -> Reading:
    """The reading of CI-HBSAG-POSITIVE."""
    return read("hbv", *items, params={"concepts": "hbv"})


def hbsag(hours: float, coded: str = "positive") -> Item:
    """An HBsAg test so many hours ago."""
    return measurement("hbsag", coded=coded, hours=hours)


# --- hepatitis B and tuberculosis (readings 1 and 4)


@pytest.mark.parametrize(
    ("items", "state", "why"),
    [
        ([hbsag(YEAR)], "present", "screening-positive"),
        ([hbsag(YEAR), hbsag(24, "negative")], "present", "screening-positive"),
        ([hbsag(YEAR + 0.1)], "", "screening-positive-old"),
        ([hbsag(YEAR + 0.1), hbsag(24, "negative")], "", "screening-positive-old"),
        ([hbsag(YEAR, "negative")], "absent", "screening-negative"),
        ([hbsag(YEAR + 0.1, "negative")], "", "screening-none"),
        ([hbsag(24, "inconclusive")], "", "screening-none"),
        ([condition("hbv")], "present", "on-record"),
        ([condition("hbv"), hbsag(24, "negative")], "present", "on-record"),
        ([condition("hbv", clinical="resolved")], "", "screening-none"),
        ([condition("hbv", verification="refuted")], "", "screening-none"),
        ([condition("tb-latent")], "", "screening-none"),
        ([], "", "screening-none"),
    ],
)
def test_a_positive_test_or_a_diagnosis_is_present_and_only_a_test_is_absent(
    items: list[Item], state: str, why: str
) -> None:
    reading = hepatitis(*items)

    assert (reading.state, reading.reason.code) == (state, why)
    assert reading.missing == (() if state else ("hbv",))
    assert not reading.failed
    assert not reading.unreadable


def test_what_is_no_warning_of_its_own_is_a_line_of_the_card_that_withholds_nothing() -> None:
    assert codes(hepatitis()) == ("screening-none",)
    assert codes(hepatitis(hbsag(24, "negative"))) == ("screening-negative",)
    assert codes(hepatitis(hbsag(YEAR + 1))) == ("screening-positive-old",)
    assert codes(hepatitis(hbsag(24))) == ()
    assert word(hepatitis(), "input") == "hbv"


def test_tuberculosis_is_read_the_same_way_from_its_own_test() -> None:
    params = {"concepts": "tb-latent"}
    assert read("tb", measurement("tb_test", coded="positive"), params=params).state == "present"
    assert read("tb", condition("tb-latent"), params=params).state == "present"
    assert read("tb", hbsag(24), params=params).missing == ("tb",)


@pytest.mark.parametrize(
    "lost", [unread("conditions"), partial("conditions"), unread("screening"), partial("screening", reaches=ago(8759))]
)
def test_a_source_that_was_not_read_leaves_it_open_even_beside_a_negative_test(lost: Item) -> None:
    reading = hepatitis(hbsag(24, "negative"), lost)

    assert (reading.known, reading.failed) == (False, True)
    assert hepatitis(hbsag(24), lost).state == "present"


@pytest.mark.parametrize(
    ("gap", "unreadable"),
    [
        (refusal("hbsag", source="screening"), True),
        (refusal("hbsag", hours=30, source="screening"), False),  # older than the negative one
        (Gap("conditions", "condition-text-only", "hbv"), True),
        (Gap("conditions", "condition-text-only", "vte-mace"), False),
        (Gap("conditions", "unreadable-resource"), True),
    ],
)
def test_what_could_not_be_read_may_be_it(gap: Gap, unreadable: bool) -> None:
    reading = hepatitis(hbsag(24, "negative"), gap)

    assert (reading.unreadable, reading.state) == (unreadable, "" if unreadable else "absent")


def test_a_refused_test_with_no_other_is_no_test() -> None:
    assert hepatitis(refusal("hbsag", source="screening")).reason.code == "refused"


# --- what counts when it is over, and what an intolerance is


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (condition("vte-mace"), "present"),
        (condition("vte-mace", clinical="resolved"), "present"),
        (condition("vte-mace", clinical="inactive"), "present"),
        (condition("vte-mace", clinical="resolved", verification="refuted"), "absent"),
        (condition("vte-mace", verification="entered-in-error"), "absent"),
        (condition("asthma", clinical="resolved"), "absent"),
    ],
)
def test_a_history_counts_where_the_rule_asks_for_one(found: Item, state: str) -> None:
    asked = {"concepts": "vte-mace", "also_past": "vte-mace"}
    assert read("condition", found, params=asked).state == state


def test_without_that_word_a_disease_that_is_over_does_not_count() -> None:
    over = condition("hsv-vzv", clinical="resolved")
    assert read("condition", over, params={"concepts": "hsv-vzv"}).state == "absent"


INTOLERANCE = {"concepts": "lactose-intolerance", "also_allergies": "lactose-intolerance", "missing": "allergies"}


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (allergy("lactose-intolerance"), "present"),
        (condition("lactose-intolerance"), "present"),
        (allergy("lactose-intolerance", verification="refuted"), "absent"),
        (allergy("lactose"), "absent"),
    ],
)
def test_an_entry_of_the_allergy_list_may_stand_for_a_condition(found: Item, state: str) -> None:
    assert read("condition", found, params=INTOLERANCE).state == state


def test_an_allergy_list_that_was_not_read_may_hold_it() -> None:
    reading = read("condition", unread("allergies"), params=INTOLERANCE)

    assert (reading.known, reading.failed, reading.missing) == (False, True, ("allergies",))
    assert read("condition", unread("allergies"), params={"concepts": "hsv-vzv"}).state == "absent"


def test_breast_feeding_that_was_charted_more_than_365_days_ago_is_over() -> None:
    asked = {"concepts": "lactation", "also_tests": "breastfeeding"}
    inside = measurement("breastfeeding", coded="positive", hours=YEAR)
    beyond = measurement("breastfeeding", coded="positive", hours=YEAR + 0.1)

    assert read("condition", inside, params=asked).state == "present"
    assert read("condition", beyond, params=asked).state == "absent"


# --- how an exposure is told (clinical 2.6: given, ordered, stopped)


def told(*uses: MedicationUse, group: str = "immunosuppressant") -> tuple[str, str]:
    """The code and the `how` of the reason."""
    reading = read("exposure", *uses, params={"group": group})
    assert reading.state == "present"
    return reading.reason.code, dict(reading.reason.params).get("how", "")


@pytest.mark.parametrize(
    ("uses", "expected"),
    [
        ([medication("tacrolimus", hours=30)], ("exposed-ago", "given")),
        ([medication("tacrolimus", hours=30), order("tacrolimus")], ("exposed-ago", "given")),
        ([medication("tacrolimus", hours=30), order("tacrolimus", state="past")], ("exposed-stopped", "given")),
        (
            [medication("tacrolimus", hours=30), order("tacrolimus", state="past"), order("tacrolimus")],
            ("exposed-ago", "given"),
        ),
        ([medication("tacrolimus", hours=30), order("ciclosporin", state="past")], ("exposed-ago", "given")),
        ([medication("tacrolimus", hours=30, running=True)], ("exposed-running", "")),
        ([medication("tacrolimus", hours=169, running=True)], ("exposed-ago", "given")),
        ([medication("tacrolimus", hours=None)], ("exposed-undated", "given")),
        ([order("tacrolimus")], ("exposed", "ordered")),
        ([order("tacrolimus", state="draft")], ("exposed", "drafted")),
        ([order("tacrolimus", state="draft"), order("ciclosporin")], ("exposed", "ordered")),
        ([statement("tacrolimus")], ("exposed", "taken")),
        ([statement("tacrolimus", state="past", ended=100)], ("exposed-ago", "took")),
        ([statement("tacrolimus", state="past", hours=None)], ("exposed-undated", "took")),
    ],
)
def test_given_ordered_drafted_taken_and_stopped_are_told_apart(
    uses: list[MedicationUse], expected: tuple[str, str]
) -> None:
    assert told(*uses) == expected


def test_how_long_ago_the_last_dose_was_is_told() -> None:
    reading = read("exposure", medication("tacrolimus", hours=30), params={"group": "immunosuppressant"})
    assert word(reading, "age") == "30 h"


@pytest.mark.parametrize(
    ("use", "how"), [(statement("prednisone"), "taken"), (order("prednisone", inpatient=False), "ordered")]
)
def test_a_chronic_steroid_is_told_as_taken_or_ordered(use: MedicationUse, how: str) -> None:
    reading = read("chronic_steroid", replace(use, daily_mg=Decimal(20)))
    assert word(reading, "how") == how
