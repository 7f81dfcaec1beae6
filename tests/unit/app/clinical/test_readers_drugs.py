"""Exposure to drugs (reading 3.11): what acts, what is only possible, and when a list is complete."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from app.clinical.chart import Chart
from app.clinical.knowledge import Leaf
from app.clinical.readers import drugs
from app.clinical.readers import read as read_leaf
from app.clinical.reading import Reading
from fhir_mappings.facts import Gap
from tests.unit.app.clinical.build import (
    NOW,
    Item,
    ago,
    chart,
    codes,
    condition,
    facts,
    knowledge,
    measurement,
    medication,
    on_day,
    order,
    partial,
    read,
    refusal,
    source,
    statement,
    unread,
    when,
    word,
)

TEXT: dict[str, Any] = {"identity": "text"}


def exposure(group: str, *items: Item, **params: object) -> Reading:
    """Whether a group acts."""
    return read("exposure", *items, params={"group": group, **params})


# --- which uses act


@pytest.mark.parametrize(
    "use",
    [
        medication("posaconazole", hours=168),
        medication("posaconazole", hours=400, ended=168),
        medication("posaconazole", hours=2000, ended=160),
        medication("posaconazole", hours=168, running=True),
        medication("posaconazole", hours=None),
        order("posaconazole", hours=5000),
        order("posaconazole", inpatient=None),
        order("posaconazole", inpatient=False),
        order("posaconazole", state="draft"),
        statement("posaconazole", hours=5000),
        statement("posaconazole", state="past", ended=100),
        medication("posaconazole", systemic=None),
        medication("nitric oxide", "posaconazole"),
    ],
)
def test_a_listed_drug_acts(use: Item) -> None:
    reading = exposure("cyp3a4-strong", use)

    assert (reading.state, word(reading, "drug")) == ("present", "posaconazole")
    assert [e.reference for e in reading.evidence] == [use.reference]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "use",
    [
        medication("posaconazole", hours=168.1),
        medication("posaconazole", hours=168.1, running=True),  # in progress, but started more than 7 d ago
        medication("posaconazole", state="not-done"),
        medication("posaconazole", systemic=False),
        order("posaconazole", state="past"),
        order("posaconazole", state="past", inpatient=None),
        order("posaconazole", state="past", inpatient=False, hours=300, ended=169),
        statement("posaconazole", state="past", ended=169),
        medication("amiodarone"),
        medication(possibly=("amiodarone",), **TEXT),
    ],
)
def test_a_drug_that_is_over_local_or_another_does_not_act(use: Item) -> None:
    reading = exposure("cyp3a4-strong", use)

    assert (reading.state, reading.reason.code) == ("absent", "none-on-record")


def test_a_day_without_time_counts_at_its_latest_for_what_would_warn() -> None:
    day = on_day(date(2026, 3, 3))  # begins 7.5 d before now, ends 6.5 d before
    month = on_day(date(2026, 3, 1), until=date(2026, 3, 31))  # never later than now

    assert exposure("cyp3a4-strong", medication("posaconazole", start=day)).state == "present"
    reading = exposure("cyp3a4-strong", medication("posaconazole", start=month))
    assert (reading.state, reading.evidence[0].effective) == ("present", NOW)


def test_what_was_given_is_told_before_what_was_only_ordered() -> None:
    reading = exposure("jak", order("tofacitinib"), statement("upadacitinib"), medication("baricitinib"))

    assert (word(reading, "drug"), word(reading, "how")) == ("baricitinib", "given")
    assert len(reading.evidence) == 3


def test_an_order_is_told_as_ordered_since_it_is_no_dose_given() -> None:
    assert word(exposure("jak", order("baricitinib")), "how") == "ordered"


@pytest.mark.parametrize("group", ["tnf", "jak", "il1", "il6"])
def test_an_ingredient_of_the_class_that_has_no_name_of_its_own_counts(group: str) -> None:
    other = next(name for name in knowledge().groups[group].ingredients if name.startswith("other "))

    assert exposure(group, medication(other)).state == "present"


def test_at_most_five_resources_are_shown_as_evidence() -> None:
    doses = [medication("baricitinib", hours=hours) for hours in range(1, 9)]

    assert len(exposure("jak", *doses).evidence) == 5


# --- text is a screen only


def test_a_listed_name_in_a_text_makes_it_unknown_and_withholds() -> None:
    reading = exposure("cyp3a4-strong", order(possibly=("voriconazole",), **TEXT))

    assert (reading.known, reading.unreadable, reading.failed) == (False, True, False)
    assert (reading.reason.code, word(reading, "drug")) == ("text-only-drug", "voriconazole")
    assert (reading.missing, reading.evidence[0].concept) == (("medications",), "medication")


def test_a_code_beside_a_text_decides() -> None:
    reading = exposure("cyp3a4-strong", order(possibly=("voriconazole",), **TEXT), order("ritonavir"))

    assert (reading.state, word(reading, "drug")) == ("present", "ritonavir")


@pytest.mark.parametrize(
    "use",
    [
        medication(possibly=("voriconazole",), hours=169, **TEXT),
        medication(possibly=("voriconazole",), systemic=False, **TEXT),
        medication(possibly=("voriconazole",), state="not-done", **TEXT),
        order(possibly=("voriconazole",), state="past", **TEXT),
    ],
)
def test_a_name_in_a_text_of_something_that_does_not_act_raises_no_doubt(use: Item) -> None:
    assert exposure("cyp3a4-strong", use).state == "absent"


def test_a_home_order_that_ended_within_the_look_back_may_have_been_taken() -> None:
    reading = exposure("immunosuppressant", order("methotrexate", state="past", inpatient=False, hours=200))

    assert (reading.reason.code, word(reading, "drug"), reading.unreadable) == ("ended-outside", "methotrexate", True)


# --- fluconazole by daily dose


@pytest.mark.parametrize(
    ("mg", "above", "up_to"),
    [(None, "present", "absent"), (400, "present", "absent"), (200, "absent", "present"), (100, "absent", "present")],
)
def test_fluconazole_of_unreadable_dose_counts_as_above_200_mg(mg: int | None, above: str, up_to: str) -> None:
    use = order("fluconazole", daily_mg=None if mg is None else Decimal(mg))

    assert exposure("fluconazole", use, daily_mg_above=200).state == above
    assert exposure("fluconazole", use, daily_mg_up_to=200).state == up_to


def test_fluconazole_by_text_only_leaves_both_rules_open() -> None:
    use = order(possibly=("fluconazole",), daily_mg=Decimal(100), **TEXT)

    assert not exposure("fluconazole", use, daily_mg_above=200).known
    assert not exposure("fluconazole", use, daily_mg_up_to=200).known


# --- completeness of the sources


def test_presence_needs_no_complete_source() -> None:
    assert exposure("jak", order("baricitinib"), unread("orders"), partial("administrations")).state == "present"


@pytest.mark.parametrize(
    ("group", "lost", "known"),
    [
        ("jak", unread("orders"), False),
        ("jak", unread("administrations"), False),
        ("jak", partial("administrations", reaches=ago(168)), True),
        ("jak", partial("administrations", reaches=ago(167)), False),
        ("jak", source("administrations", "empty"), True),
        ("jak", unread("statements"), True),  # presence only, never completeness
        ("jak", unread("long-acting"), True),
        ("tnf", unread("long-acting"), False),
        ("tnf", partial("administrations", reaches=ago(28 * 24)), True),  # beyond 28 d the search by code answers
        ("tnf", partial("administrations", reaches=ago(27 * 24)), False),
        ("tnf", partial("long-acting", reaches=ago(84 * 24)), True),
        ("tnf", partial("long-acting", reaches=ago(83 * 24)), False),
        ("rituximab", partial("long-acting", reaches=ago(179 * 24)), False),
    ],
)
def test_absence_needs_orders_and_administrations_read_for_the_look_back(group: str, lost: Item, known: bool) -> None:
    reading = exposure(group, lost)

    assert (reading.state, reading.failed, reading.missing) == (
        ("absent", False, ()) if known else ("", True, ("medications",))
    )


# --- the medication list (required set)


def test_the_list_is_known_with_one_administration_within_a_day() -> None:
    reading = read("medications", medication("propofol", hours=24))

    assert (reading.state, word(reading, "count"), codes(reading)) == ("known", "1", ())


def test_the_list_is_known_with_one_active_inpatient_order() -> None:
    assert read("medications", order("propofol", hours=300)).state == "known"


@pytest.mark.parametrize(
    "use",
    [
        medication("propofol", hours=24.1),
        medication("propofol", state="not-done"),
        order("metoprolol", inpatient=False),
        order("metoprolol", inpatient=None),
        order("propofol", state="past"),
        order("propofol", state="draft"),
        statement("metoprolol"),
    ],
)
def test_home_medicines_and_what_is_over_do_not_make_the_list_known(use: Item) -> None:
    reading = read("medications", use)

    assert (reading.known, reading.reason.code, reading.missing) == (False, "no-icu-list", ("medications",))
    assert not reading.failed


@pytest.mark.parametrize(
    ("lost", "known"),
    [
        (unread("orders"), False),
        (partial("orders"), False),
        (unread("administrations"), False),
        (partial("administrations", reaches=ago(28 * 24)), True),
        (partial("administrations", reaches=ago(28 * 24 - 1)), False),
        (unread("statements"), True),
        (source("orders", "empty"), True),
    ],
)
def test_the_list_needs_orders_and_the_administrations_of_28_days(lost: Item, known: bool) -> None:
    reading = read("medications", medication("propofol"), lost)

    assert (reading.known, reading.failed) == (known, not known)


@pytest.mark.parametrize(
    "use",
    [
        medication(hours=20 * 24),
        medication(hours=None),
        order(hours=5000),
        statement(),
    ],
)
def test_a_drug_with_neither_code_nor_text_makes_the_list_unknown(use: Item) -> None:
    reading = read("medications", medication("propofol"), use)

    assert (reading.known, reading.unreadable, word(reading, "count")) == (False, True, "1")


@pytest.mark.parametrize("use", [order(state="past"), medication(state="not-done"), order(state="draft")])
def test_a_nameless_drug_that_is_over_does_not_matter(use: Item) -> None:
    assert read("medications", medication("propofol"), use).known


def test_an_entry_that_could_not_be_read_makes_the_list_unknown() -> None:
    reading = read("medications", medication("propofol"), refusal("medication", why="status-unknown", source="orders"))

    assert (reading.known, reading.unreadable, word(reading, "why")) == (False, True, "status-unknown")


def test_an_entry_that_is_none_of_the_listed_drugs_or_lies_ahead_does_not_matter() -> None:
    ahead = Gap("administrations", "future-date", "medication")

    assert read("medications", medication("propofol"), ahead).known


def test_drugs_named_by_a_text_that_lists_none_are_a_line_on_the_card() -> None:
    by_text = medication(label="NaCl 0.9 %", **TEXT)

    reading = read("medications", medication("propofol"), by_text)

    assert (reading.state, codes(reading)) == ("known", ("named-by-text",))


# --- neuromuscular blockade


def nmba(*items: Item) -> Reading:
    """The blockade as a criterion reads it."""
    return read("nmba", *items)


@pytest.mark.parametrize(
    "uses",
    [
        (medication("cisatracurium", infusion=True, hours=100, ended=72),),
        (medication("cisatracurium", infusion=True, hours=100, running=True),),
        (medication("rocuronium", hours=3), medication("rocuronium", hours=2)),
        (medication("rocuronium", hours=70), medication("vecuronium", hours=1)),
    ],
    ids=["infusion-ended-72-h-ago", "running", "two-doses-an-hour-apart", "two-drugs"],
)
def test_an_infusion_or_two_doses_an_hour_apart_are_a_blockade(uses: tuple[Item, ...]) -> None:
    assert nmba(*uses).state == "yes"


@pytest.mark.parametrize(
    ("uses", "why"),
    [
        ((medication("rocuronium"),), "single-bolus"),
        ((medication("rocuronium", hours=2), medication("rocuronium", hours=1.1)), "single-bolus"),
        ((medication("suxamethonium", hours=20), medication("suxamethonium", hours=1)), "single-bolus"),
        ((medication("suxamethonium", infusion=True),), "single-bolus"),
        ((medication("suxamethonium", hours=20), medication("rocuronium", hours=1)), "single-bolus"),
        ((medication("rocuronium", hours=73), medication("rocuronium", hours=1)), "single-bolus"),
        ((order("cisatracurium"),), "ordered-not-given"),
        ((), "no-record"),
        ((medication("cisatracurium", state="not-done"),), "no-record"),
        ((medication("cisatracurium", infusion=True, hours=None),), "no-record"),
        ((statement("cisatracurium"),), "no-record"),
    ],
)
def test_less_than_a_blockade_is_unknown(uses: tuple[Item, ...], why: str) -> None:
    reading = nmba(*uses)

    assert (reading.known, reading.reason.code, reading.missing) == (False, why, ("nmba",))
    assert not reading.failed
    assert not reading.unreadable


def test_a_blockade_that_ended_more_than_72_h_ago_with_nothing_newer_is_no() -> None:
    reading = nmba(medication("cisatracurium", infusion=True, hours=100, ended=72.1))

    assert (reading.state, word(reading, "limit")) == ("no", "3 d")


def test_an_order_after_an_old_blockade_leaves_it_open() -> None:
    reading = nmba(medication("cisatracurium", infusion=True, hours=100, ended=80), order("cisatracurium"))

    assert reading.reason.code == "ordered-not-given"


def test_a_blocker_by_text_only_is_unknown() -> None:
    reading = nmba(medication(possibly=("rocuronium",), infusion=True, **TEXT))

    assert (reading.known, reading.unreadable, reading.reason.code) == (False, True, "text-only-drug")


def test_a_coded_infusion_stands_whatever_was_not_read_or_is_text_only() -> None:
    infusion = medication("cisatracurium", infusion=True)

    assert nmba(infusion, unread("administrations")).state == "yes"
    assert nmba(infusion, medication(possibly=("rocuronium",), **TEXT)).state == "yes"


@pytest.mark.parametrize("lost", [unread("administrations"), partial("administrations", reaches=ago(71))])
def test_without_the_administrations_of_72_h_no_blockade_is_never_no(lost: Item) -> None:
    reading = nmba(lost, medication("cisatracurium", infusion=True, hours=100, ended=90))

    assert (reading.known, reading.failed) == (False, True)


# --- inhaled nitric oxide and almitrine: a state, whose newest record decides


@pytest.mark.parametrize(
    ("items", "state"),
    [
        ((measurement("ino", 20, hours=24),), "yes"),
        ((measurement("ino", 0, hours=2),), "no"),
        ((measurement("ino", 20, hours=3), measurement("ino", 0, hours=2)), "no"),
        ((measurement("ino", 0, hours=3), measurement("ino", 5, hours=2)), "yes"),
        ((medication("nitric oxide", hours=30, ended=2),), "yes"),
        ((medication("nitric oxide", hours=30, running=True),), "yes"),
        ((medication("nitric oxide", hours=5, state="not-done"),), "no"),
        ((medication("nitric oxide", hours=9), medication("nitric oxide", hours=5, state="not-done")), "no"),
        ((medication("nitric oxide", hours=5, state="not-done"), measurement("ino", 20, hours=5)), "yes"),
    ],
)
def test_the_newest_record_of_nitric_oxide_decides(items: tuple[Item, ...], state: str) -> None:
    assert read("ino", *items).state == state


@pytest.mark.parametrize(
    ("items", "why"),
    [
        ((), "no-record"),
        ((measurement("ino", 20, hours=24.1),), "state-stale"),
        ((measurement("ino", 0, hours=24.1),), "state-stale"),
        ((medication("nitric oxide", hours=30, ended=25), order("nitric oxide")), "state-stale"),
        ((order("nitric oxide"),), "ordered-not-given"),
        ((medication("nitric oxide", hours=None),), "no-record"),
        ((medication("almitrine"),), "no-record"),
    ],
)
def test_a_state_without_a_record_of_24_h_is_unknown(items: tuple[Item, ...], why: str) -> None:
    reading = read("ino", *items)

    assert (reading.known, reading.reason.code, reading.missing) == (False, why, ("ino",))


def test_a_text_raises_doubt_about_no_but_not_about_a_coded_yes() -> None:
    by_text = medication(possibly=("nitric oxide",), **TEXT)

    assert read("ino", by_text, measurement("ino", 20)).state == "yes"
    denied = read("ino", by_text, measurement("ino", 0))
    assert (denied.known, denied.unreadable, denied.reason.code) == (False, True, "text-only-drug")
    assert read("ino", by_text).reason.code == "text-only-drug"


@pytest.mark.parametrize("key", ["administrations", "respiratory"])
def test_a_state_of_nitric_oxide_needs_both_its_sources(key: str) -> None:
    reading = read("ino", measurement("ino", 20), unread(key))

    assert (reading.known, reading.failed) == (False, True)


def test_almitrine_is_read_the_same_way_from_its_administrations() -> None:
    assert read("almitrine", medication("almitrine", hours=3)).state == "yes"
    assert read("almitrine", medication("almitrine", hours=3, state="not-done")).state == "no"
    assert read("almitrine", medication("nitric oxide")).reason.code == "no-record"


# --- chronic corticosteroid


def steroid(*items: Item) -> Reading:
    """A chronic corticosteroid as its rule reads it."""
    return read("chronic_steroid", *items)


@pytest.mark.parametrize(
    ("drug", "mg", "present"),
    [
        ("prednisone", "10", False),
        ("prednisone", "10.1", True),
        ("prednisolone", "12.5", True),
        ("methylprednisolone", "8", False),
        ("methylprednisolone", "8.1", True),
        ("hydrocortisone", "40", False),
        ("hydrocortisone", "41", True),
        ("dexamethasone", "1.4", False),
        ("dexamethasone", "1.6", True),
    ],
)
def test_only_more_than_10_mg_of_prednisone_equivalent_a_day_counts(drug: str, mg: str, present: bool) -> None:
    assert steroid(statement(drug, daily_mg=Decimal(mg))).state == ("present" if present else "absent")


@pytest.mark.parametrize(
    ("use", "present"),
    [
        (order("prednisone", inpatient=False, daily_mg=Decimal(20)), True),
        (order("prednisone", hours=29 * 24, daily_mg=Decimal(20)), True),
        (order("prednisone", hours=28 * 24, daily_mg=Decimal(20)), False),
        (order("prednisone", hours=60, end=when(-28 * 24), daily_mg=Decimal(20)), True),
        (order("prednisone", hours=60 * 24, end=when(days=40), daily_mg=Decimal(20)), False),
        (order("prednisone", hours=None, daily_mg=Decimal(20)), False),
        (order("prednisone", daily_mg=Decimal(20)), False),  # the treatment of this stay
        (order("prednisone", inpatient=None, daily_mg=Decimal(20)), False),
        (order("prednisone", inpatient=False, reasons=("covid19",), daily_mg=Decimal(20)), False),
        (statement("prednisone", hours=60 * 24, reasons=("covid19",), daily_mg=Decimal(20)), False),
        (statement("prednisone", systemic=False, daily_mg=Decimal(20)), False),
        (statement("prednisone", state="past", daily_mg=Decimal(20)), False),
        (medication("prednisone", daily_mg=Decimal(20)), False),
        (statement("metoprolol", daily_mg=Decimal(20)), False),
    ],
)
def test_only_long_or_home_treatment_for_something_else_than_covid19_counts(use: Item, present: bool) -> None:
    assert steroid(use).state == ("present" if present else "absent")


@pytest.mark.parametrize(
    "use", [statement("prednisone"), statement("other systemic corticosteroid", daily_mg=Decimal(5))]
)
def test_a_chronic_steroid_of_unreadable_dose_is_unknown(use: Item) -> None:
    reading = steroid(use)

    assert (reading.known, reading.unreadable, reading.reason.code) == (False, True, "steroid-dose-unreadable")


def test_a_readable_dose_above_the_limit_beats_one_that_is_not_readable() -> None:
    assert steroid(statement("hydrocortisone"), statement("prednisone", daily_mg=Decimal(20))).state == "present"


@pytest.mark.parametrize(
    ("use", "doubt"),
    [
        (statement(possibly=("prednisone",), **TEXT), True),
        (order(possibly=("dexamethasone",), inpatient=False, **TEXT), True),
        (order(possibly=("dexamethasone",), inpatient=None, **TEXT), False),  # as its coded twin above
        (order(possibly=("dexamethasone",), **TEXT), False),
        (statement(possibly=("betamethasone",), systemic=False, **TEXT), False),
        (statement(possibly=("prednisone",), state="past", **TEXT), False),
    ],
)
def test_a_steroid_by_text_raises_doubt_where_a_code_would_count(use: Item, doubt: bool) -> None:
    reading = steroid(use)

    assert (reading.known, reading.unreadable) == (not doubt, doubt)


@pytest.mark.parametrize(("key", "known"), [("orders", False), ("statements", False), ("administrations", True)])
def test_no_chronic_steroid_needs_orders_and_statements(key: str, known: bool) -> None:
    reading = steroid(unread(key))

    assert (reading.known, reading.failed) == (known, not known)


# --- the study drugs themselves


def study(name: str, *items: Item) -> Reading:
    """Whether a study drug is already on record."""
    return read("study_drug", *items, params={"ingredient": name})


def test_a_study_drug_is_told_with_its_first_date_on_the_facilitys_calendar() -> None:
    reading = study("anakinra", medication("anakinra", hours=13), order("anakinra", hours=2))

    assert (reading.state, word(reading, "since"), word(reading, "how")) == ("present", "2026-03-10", "given")
    late = study("anakinra", medication("anakinra", hours=12.5))  # 23:30 UTC is the next day in Berlin
    assert word(late, "since") == "2026-03-10"


def test_a_study_drug_without_a_date_is_on_record_all_the_same() -> None:
    assert word(study("anakinra", order("anakinra", hours=None)), "since") == "date not stated"


@pytest.mark.parametrize(("hours", "state"), [(180 * 24, "present"), (180 * 24 + 1, "absent")])
def test_an_administration_counts_for_180_days(hours: int, state: str) -> None:
    assert study("ruxolitinib", medication("ruxolitinib", hours=hours)).state == state


def test_the_other_study_drug_does_not_count() -> None:
    assert study("ruxolitinib", medication("anakinra")).state == "absent"


@pytest.mark.parametrize(
    ("use", "doubt"),
    [
        (order(possibly=("ruxolitinib",), **TEXT), True),
        (medication(possibly=("ruxolitinib",), hours=4000, **TEXT), True),
        (medication(possibly=("ruxolitinib",), hours=4400, **TEXT), False),
        (order(possibly=("ruxolitinib",), state="past", **TEXT), False),
    ],
)
def test_a_study_drug_by_text_only_is_unknown(use: Item, doubt: bool) -> None:
    reading = study("ruxolitinib", use)

    assert (reading.known, reading.unreadable, reading.missing) == (not doubt, doubt, ("medications",) if doubt else ())


@pytest.mark.parametrize(
    ("lost", "known"),
    [
        (unread("orders"), False),
        (unread("statements"), False),
        (unread("long-acting"), False),
        (partial("long-acting", reaches=ago(180 * 24)), True),
        (partial("long-acting", reaches=ago(179 * 24)), False),
        (unread("administrations"), True),  # the search by code reaches further
    ],
)
def test_no_study_drug_needs_orders_statements_and_180_days_of_administrations(lost: Item, known: bool) -> None:
    assert study("anakinra", lost).known is known


def test_a_dose_that_was_given_is_on_record_before_a_moment_and_a_missed_one_is_not() -> None:
    given = chart(medication("anakinra", hours=None, end=on_day(date(2026, 3, 1))), order("ruxolitinib", hours=50))
    missed = chart(medication("anakinra", hours=50, state="not-done"))

    assert drugs.on_record_before(given, "anakinra", ago(10)) is True
    assert drugs.on_record_before(given, "ruxolitinib", ago(50)) is False
    assert drugs.on_record_before(missed, "anakinra", ago(10)) is False


def test_the_first_dose_may_have_only_an_end() -> None:
    found = chart(medication("anakinra", hours=None, ended=30), medication("anakinra", hours=20))

    assert drugs.first_dose(found, "anakinra") == ago(30)
    assert drugs.first_dose(found, "ruxolitinib") is None


# --- the line on standard treatment


def test_recent_uses_are_told_newest_first() -> None:
    found = drugs.recent(
        chart(
            medication("tocilizumab", hours=300),
            medication("dexamethasone", hours=5),
            order("dexamethasone", hours=100),
            medication("dexamethasone", hours=700),
            order(possibly=("baricitinib",), **TEXT),
            condition("covid19"),
        ),
        ("dexamethasone", "tocilizumab", "baricitinib"),
        timedelta(hours=672),
    )

    assert [(use.ingredients[0], use.state, moment) for use, moment in found] == [
        ("dexamethasone", "given", ago(5)),
        ("dexamethasone", "ordered", ago(100)),
        ("tocilizumab", "given", ago(300)),
    ]


def test_a_reading_is_made_once_for_a_chart() -> None:
    found = Chart(facts(), knowledge=knowledge(), now=NOW)
    question = Leaf("exposure", params={"group": "jak"})

    assert read_leaf(found, question) is read_leaf(found, question)
