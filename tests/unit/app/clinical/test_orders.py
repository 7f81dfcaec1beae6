"""What is said of orders that are being written: each check on both sides of its limit, and what is never said."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from app.clinical.orders import OrderAssessment, assess_orders, concerns, of_concern
from fhir_mappings.facts import DraftOrder, MedicationUse, Overlay
from tests.unit.app.clinical.build import (
    NOW,
    Item,
    allergy,
    condition,
    facts,
    knowledge,
    measurement,
    medication,
    offering,
    order,
    patient,
    refusal,
    statement,
    unread,
    when,
)

TODAY = date(2026, 3, 10)
"""The day of NOW in Berlin."""

SELECT, SIGN = "order-select", "order-sign"
_PLANNED = {"anakinra": ("300", 14, "100"), "ruxolitinib": ("10", 28, "10")}


def draft(*ingredients: str, **more: Any) -> DraftOrder:
    """A draft as the letter has it: its dose of a day, from today to its last day; `mg`, `days` and `use` change it."""
    drug = ingredients[0] if ingredients else ""
    mg, days, least = _PLANNED.get(drug, ("100", 7, "100"))
    mg, days, least = more.pop("mg", mg), more.pop("days", days), more.pop("least", least)
    place = more.pop("place", 0)
    fields: dict[str, Any] = {
        "ingredients": ingredients,
        "identity": "code" if ingredients else "none",
        "label": " ".join(ingredients),
        "systemic": True,
        "daily_mg": None if mg is None else Decimal(mg),
    }
    use = MedicationUse(f"MedicationRequest/d{place}", "request", "draft", **fields | more.pop("use", {}))
    first = more.pop("first", TODAY)
    last = None if days is None else (first or TODAY) + timedelta(days=days - 1)
    end = "open" if days is None else "written"
    return DraftOrder(
        place,
        use,
        **{
            "named": True,
            "first_day": first,
            "last_day": last,
            "end": end,
            "removable": True,
            "least_mg": Decimal(least),
            **more,
        },
    )


ANAKINRA = draft("anakinra", place=8)
RUXOLITINIB = draft("ruxolitinib", place=9)
BESIDE = {"anakinra": replace(RUXOLITINIB, picked=False), "ruxolitinib": replace(ANAKINRA, picked=False)}
"""The other drug of the pair, drafted before, so that nothing is said of that."""


def found(drafts: DraftOrder | tuple[DraftOrder, ...], *items: Item, hook: Any = SIGN) -> OrderAssessment:
    """What is said of these drafts for this patient."""
    many = drafts if isinstance(drafts, tuple) else (drafts,)
    return assess_orders(facts(*items, drafts=many), hook=hook, knowledge=knowledge(), now=NOW)


def checks(said: OrderAssessment) -> list[str]:
    """The ids of the checks that speak, unknown ones with a question mark."""
    return [c.check.id + ("?" if c.finding.presence == "unknown" else "") for c in said.checks]


def safety(said: OrderAssessment) -> set[str]:
    return {s.rule.id for s in said.safety}


def on(drug: str, *, hours: float = 3, **more: Any) -> MedicationUse:
    """A dose of a study drug, a few hours ago."""
    return medication(drug, hours=hours, **more)


def ill_for_long(*more: Item) -> tuple[Item, ...]:
    """The patient of the suggestion, whose first positive test is a month old."""
    return offering(measurement("sarscov2_pcr", coded="positive", hours=24 * 30), *more, without=("pcr",))


# --- the pair as the letter has it


@pytest.mark.parametrize("hook", [SELECT, SIGN])
def test_nothing_is_said_of_the_letters_own_course(hook: str) -> None:
    said = found((ANAKINRA, RUXOLITINIB), *offering(), hook=hook)
    assert not said.speaks
    assert (said.safety, said.checks, said.required, said.corrections) == ((), (), (), ())
    assert said.drafted == ("anakinra", "ruxolitinib")


def test_a_drug_that_no_check_looks_at_needs_nobodys_record() -> None:
    assert not concerns(draft("paracetamol"), ingredients=of_concern(knowledge()))
    assert not concerns(draft(use={"identity": "text", "label": "vitamin D"}), ingredients=of_concern(knowledge()))
    assert not concerns(draft(named=False), ingredients=of_concern(knowledge()))


@pytest.mark.parametrize(
    "one",
    [
        draft("anakinra"),
        draft("fluconazole"),
        draft("amiodarone"),
        draft("tofacitinib"),
        draft(use={"possibly": ("ruxolitinib",), "identity": "text"}),
        draft(vaccine=True),
        draft(unreadable=True),
        draft(use={"identity": "none"}),
    ],
)
def test_what_a_check_looks_at(one: DraftOrder) -> None:
    assert concerns(one, ingredients=of_concern(knowledge()))


def test_a_cream_is_no_study_drug() -> None:
    cream = draft("ruxolitinib", use={"systemic": False})
    assert not concerns(cream, ingredients=of_concern(knowledge()))
    assert not found(cream, *offering(measurement("platelets", 20))).speaks


# --- contraindications


@pytest.mark.parametrize("drug", ["anakinra", "ruxolitinib"])
def test_every_contraindication_of_the_drafted_drug(drug: str) -> None:
    one = draft(drug)
    said = found((one, BESIDE[drug]), *offering(measurement("anc", "1.2", hours=2), without=("anc",)))
    assert safety(said) == {"CI-ANC-LT-1.5"}
    assert said.is_absolute
    assert said.raises_safety
    assert [(c.draft.place, c.remove) for c in said.corrections] == [(0, True)]


def test_a_contraindication_of_the_other_drug_is_not_told() -> None:
    refused = allergy("ruxolitinib")
    assert safety(found((draft("anakinra"), BESIDE["anakinra"]), *offering(refused))) == set()
    assert safety(found((draft("ruxolitinib"), BESIDE["ruxolitinib"]), *offering(refused))) == {
        "CI-HYPERSENS-RUXOLITINIB"
    }


def test_what_is_only_to_be_monitored_raises_no_card_beside_a_study_drug() -> None:
    said = found((ANAKINRA, RUXOLITINIB), *offering(measurement("platelets", 80, hours=2), without=("platelets",)))
    assert {s.rule.id for s in said.watched} >= {"MON-PLT-50-100"}
    assert not said.speaks


def test_missing_safety_data_are_named_and_the_sites_own_word_counts() -> None:
    said = found((ANAKINRA, RUXOLITINIB), *offering(without=("platelets",)))
    assert [name for name, _ in said.required] == ["platelets"]
    assert said.raises_safety
    signed = Overlay(not_measured=frozenset({"platelets"}))
    assert not found((ANAKINRA, RUXOLITINIB), *offering(signed, without=("platelets",))).required


def test_a_newer_value_that_was_refused_leaves_the_older_one_in_doubt() -> None:
    said = found((ANAKINRA, RUXOLITINIB), *offering(refusal("platelets")))
    assert [name for name, _ in said.required] == ["platelets"]


def test_a_failed_source_is_no_absence() -> None:
    said = found((ANAKINRA, RUXOLITINIB), *offering(unread("conditions")))
    assert {"CI-TB-ACTIVE", "CI-INFECTION-UNCONTROLLED"} <= safety(said)
    assert not said.is_absolute


def test_the_deceased_get_no_card() -> None:
    assert not found(draft("anakinra"), *offering(patient(deceased=True))).speaks


# --- dose and days


@pytest.mark.parametrize(
    ("drug", "mg", "said_of_it"),
    [
        ("anakinra", "300", []),
        ("anakinra", "300.01", ["ORD-DOSE-ABOVE"]),
        ("anakinra", "299.99", ["ORD-DOSE-BELOW"]),
        ("anakinra", None, ["ORD-DOSE-UNREADABLE?"]),
        ("anakinra", "0", ["ORD-DOSE-UNREADABLE?"]),
        ("anakinra", "-300", ["ORD-DOSE-UNREADABLE?"]),
        ("ruxolitinib", "10", []),
        ("ruxolitinib", "20", ["ORD-DOSE-ABOVE"]),
        ("ruxolitinib", "5", ["ORD-DOSE-BELOW"]),
    ],
)
def test_the_dose_of_a_day(drug: str, mg: str | None, said_of_it: list[str]) -> None:
    assert checks(found((draft(drug, mg=mg), BESIDE[drug]), *offering())) == said_of_it


@pytest.mark.parametrize(
    ("drug", "days", "said_of_it"),
    [
        ("anakinra", 14, []),
        ("anakinra", 15, ["ORD-ENDS-LATER"]),
        ("anakinra", 3, []),
        ("anakinra", None, ["ORD-NO-END"]),
        ("ruxolitinib", 28, []),
        ("ruxolitinib", 29, ["ORD-ENDS-LATER"]),
    ],
)
def test_the_days(drug: str, days: int | None, said_of_it: list[str]) -> None:
    assert checks(found((draft(drug, days=days), BESIDE[drug]), *offering())) == said_of_it


def test_an_end_that_could_not_be_read() -> None:
    one = draft("anakinra", end="unreadable", last_day=None)
    assert checks(found((one, BESIDE["anakinra"]), *offering())) == ["ORD-NO-END?"]


def test_what_is_not_written_yet_raises_no_card_while_drugs_are_picked() -> None:
    said = found(draft("anakinra", mg=None, days=None), *offering(), hook=SELECT)
    assert set(checks(said)) == {"ORD-DOSE-UNREADABLE?", "ORD-NO-END", "ORD-ONE-OF-PAIR"}
    assert not said.speaks
    assert found(draft("anakinra", mg=None, days=None), *offering()).speaks


def test_a_draft_that_begins_tomorrow_has_its_own_last_day() -> None:
    tomorrow = TODAY + timedelta(days=1)
    assert checks(found((draft("anakinra", first=tomorrow), BESIDE["anakinra"]), *offering())) == []


def test_a_draft_without_a_start_begins_today() -> None:
    one = draft("anakinra", first=None, days=15)
    assert checks(found((one, BESIDE["anakinra"]), *offering())) == ["ORD-ENDS-LATER"]


def test_the_last_day_is_that_of_the_running_course() -> None:
    """Day 7 today: eight days are left of anakinra, counted with today."""
    course = (on("anakinra", hours=144), on("anakinra"), on("ruxolitinib"))
    assert checks(found(draft("anakinra", days=8), *offering(*course))) == []
    assert checks(found(draft("anakinra", days=9), *offering(*course))) == ["ORD-ENDS-LATER"]


def test_a_draft_after_the_last_day_is_only_to_be_removed() -> None:
    course = (on("anakinra", hours=24 * 15), on("ruxolitinib"))
    said = found(draft("anakinra", days=None), *ill_for_long(*course))
    assert "ORD-ENDS-LATER" in checks(said)
    assert "ORD-NO-END" not in checks(said)
    assert [c.remove for c in said.corrections] == [True]


def test_on_an_uncertain_day_no_last_day_is_named_or_offered() -> None:
    """Doses are on record and no positive test that could be read: which day it is, nobody knows."""
    given = (on("ruxolitinib", hours=24 * 11), on("ruxolitinib"), on("anakinra"), unread("virology"))
    said = found(draft("ruxolitinib", days=None), *offering(*given, without=("pcr",)))
    (end,) = [c for c in said.checks if c.check.id == "ORD-NO-END"]
    assert end.reason.code == "day-open"
    assert said.corrections == ()
    assert "ORD-DOSE-BELOW" not in checks(found(draft("ruxolitinib", mg="5"), *offering(*given, without=("pcr",))))


def test_a_start_in_the_past_counts_and_nothing_is_offered() -> None:
    one = draft("anakinra", first=TODAY - timedelta(days=10), days=33)
    said = found((one, BESIDE["anakinra"]), *offering())
    (later,) = [c for c in said.checks if c.check.id == "ORD-ENDS-LATER"]
    assert dict(later.reason.params)["letter"] == "2026-03-13"
    assert said.corrections == ()


def test_no_dose_is_offered_while_the_letter_tapers() -> None:
    course = (on("anakinra", hours=24 * 12), on("ruxolitinib"), on("anakinra"))
    said = found(draft("anakinra", mg="600", days=2), *ill_for_long(*course))
    assert "ORD-DOSE-ABOVE" in checks(said)
    assert said.corrections == ()


def test_a_dose_that_nobody_gives_is_not_read() -> None:
    assert checks(found((draft("anakinra", mg="1e30"), BESIDE["anakinra"]), *offering())) == ["ORD-DOSE-UNREADABLE?"]


def test_a_taper_is_below_the_letters_dose_only_before_its_day() -> None:
    course = (on("anakinra", hours=24 * 11), on("ruxolitinib"))
    assert "ORD-DOSE-BELOW" not in checks(found(draft("anakinra", mg="200", days=2), *ill_for_long(*course)))
    assert "ORD-DOSE-BELOW" in checks(found(draft("anakinra", mg="150", days=2), *ill_for_long(*course)))


def test_of_a_course_in_several_orders_none_is_too_low_alone() -> None:
    first = draft("anakinra", days=11)
    second = draft("anakinra", place=1, mg="200", first=TODAY + timedelta(days=11), days=2)
    third = draft("anakinra", place=2, mg="100", first=TODAY + timedelta(days=13), days=1)
    assert checks(found((first, second, third, BESIDE["anakinra"]), *offering())) == []


@pytest.mark.parametrize(
    ("days", "least", "said_of_it"),
    [
        (14, "100", []),
        (14, "300", ["ORD-NO-TAPER"]),
        (12, "300", ["ORD-NO-TAPER"]),
        (11, "300", []),
        (None, "300", ["ORD-NO-END"]),
    ],
)
def test_the_full_dose_ends_before_the_course(days: int | None, least: str, said_of_it: list[str]) -> None:
    assert checks(found((draft("anakinra", days=days, least=least), BESIDE["anakinra"]), *offering())) == said_of_it


def test_a_draft_beside_it_that_lowers_the_dose_is_a_taper() -> None:
    taper = draft("anakinra", place=1, mg="200", least="100", first=TODAY + timedelta(days=12), days=2)
    assert checks(found((draft("anakinra", days=12, least="300"), taper, BESIDE["anakinra"]), *offering())) == []


@pytest.mark.parametrize(
    ("items", "measured"),
    [
        ((), False),
        ((condition("covid19"),), True),
        ((measurement("sarscov2_pcr", coded="positive", hours=240),), True),
        ((measurement("sarscov2_pcr", coded="negative", hours=24),), False),
    ],
)
def test_the_letter_says_nothing_about_another_illness(items: tuple[Item, ...], measured: bool) -> None:
    said = found(draft("ruxolitinib", mg="40", days=90), *offering(*items, without=("pcr",)))
    assert ("ORD-DOSE-ABOVE" in checks(said)) is measured
    assert ("ORD-ONE-OF-PAIR" in checks(said)) is measured


@pytest.mark.parametrize("lost", ["virology", "conditions"])
def test_where_the_illness_could_not_be_read_the_dose_is_told_and_none_is_offered(lost: str) -> None:
    said = found(draft("anakinra", mg="3000"), *offering(unread(lost), without=("pcr",)))
    assert "ORD-DOSE-ABOVE" in checks(said)
    assert said.corrections == ()


def test_the_reason_of_the_order_names_the_illness() -> None:
    one = draft("ruxolitinib", mg="40", use={"reasons": ("covid19",)})
    assert "ORD-DOSE-ABOVE" in checks(found(one, *offering(without=("pcr",))))


def test_a_drug_from_before_the_illness_is_not_measured_by_the_letter() -> None:
    """Ruxolitinib for years, anakinra since six days: the letter's days are those of anakinra only."""
    chronic = order("ruxolitinib", hours=24 * 300)
    said = found(draft("ruxolitinib", mg="40", days=90), *offering(chronic, on("anakinra", hours=140)))
    assert {c.partition("?")[0] for c in checks(said)} == {"ORD-DUPLICATE"}


# --- the other of the pair


@pytest.mark.parametrize("drug", ["anakinra", "ruxolitinib"])
def test_one_of_the_two_is_a_line_when_signed_and_no_card_when_picked(drug: str) -> None:
    assert checks(found(draft(drug), *offering())) == ["ORD-ONE-OF-PAIR"]
    assert not found(draft(drug), *offering(), hook=SELECT).speaks


@pytest.mark.parametrize(
    "there",
    [order("anakinra"), on("anakinra"), statement("anakinra"), on("anakinra", hours=24 * 3)],
)
def test_nothing_is_said_where_the_other_is_there_or_was_in_this_course(there: MedicationUse) -> None:
    assert "ORD-ONE-OF-PAIR" not in checks(found(draft("ruxolitinib"), *offering(there)))


def test_nothing_is_said_where_the_other_is_no_longer_planned() -> None:
    course = (on("ruxolitinib", hours=24 * 16), on("ruxolitinib"))
    assert "ORD-ONE-OF-PAIR" not in checks(found(draft("ruxolitinib", days=12), *ill_for_long(*course)))


def test_it_is_said_in_a_course_of_one_drug_alone() -> None:
    course = (on("ruxolitinib", hours=24 * 2), on("ruxolitinib"))
    assert "ORD-ONE-OF-PAIR" in checks(found(draft("ruxolitinib", days=26), *ill_for_long(*course)))


def test_nothing_is_said_where_the_other_could_not_be_read() -> None:
    said = found(draft("ruxolitinib"), *offering(unread("administrations")))
    assert "ORD-ONE-OF-PAIR" not in checks(said)


# --- twice


def test_an_active_order_of_the_same_drug() -> None:
    said = found((draft("anakinra"), BESIDE["anakinra"]), *offering(order("anakinra")))
    assert checks(said) == ["ORD-DUPLICATE"]
    assert said.raises_protocol
    assert said.corrections == ()  # one may be meant to replace the other: nobody but the prescriber knows which
    references = [e.reference for c in said.checks for e in c.evidence]
    assert references == ["MedicationRequest/d0", "MedicationRequest/anakinra-ordered-1"]


@pytest.mark.parametrize(
    "one",
    [
        draft("anakinra", use={}, replaces=("MedicationRequest/anakinra-ordered-1",)),
        replace(
            draft("anakinra"), use=replace(draft("anakinra").use, reference="MedicationRequest/anakinra-ordered-1")
        ),
    ],
    ids=["replaced", "signed again"],
)
def test_an_order_that_takes_the_place_of_one_is_no_duplicate(one: DraftOrder) -> None:
    assert checks(found((one, BESIDE["anakinra"]), *offering(order("anakinra")))) == []


def test_an_order_that_has_ended_is_no_duplicate() -> None:
    ended = order("anakinra", hours=50, ended=2)
    assert checks(found((draft("anakinra"), BESIDE["anakinra"]), *offering(ended))) == []


def test_an_order_that_only_words_name_is_a_question() -> None:
    """Text never establishes a presence (reading 3.11)."""
    there = order(possibly=("anakinra",), identity="text")
    said = found((draft("anakinra"), BESIDE["anakinra"]), *offering(there))
    assert checks(said) == ["ORD-DUPLICATE?"]
    assert said.corrections == ()


@pytest.mark.parametrize(
    ("drafts", "items", "open_"),
    [
        ((ANAKINRA, RUXOLITINIB), (), set()),
        ((draft("anakinra", mg=None), RUXOLITINIB), (), {"ORD-DOSE-ABOVE", "ORD-DOSE-BELOW", "ORD-NO-TAPER"}),
        ((draft("anakinra", end="unreadable", last_day=None), RUXOLITINIB), (), {"ORD-ENDS-LATER", "ORD-NO-TAPER"}),
        ((ANAKINRA, RUXOLITINIB), (unread("orders"),), {"ORD-DUPLICATE"}),
        ((draft("anakinra"),), (unread("statements"),), {"ORD-DUPLICATE", "ORD-ONE-OF-PAIR"}),
        ((draft(vaccine=True, use={"identity": "code"}),), (unread("orders"),), {"ORD-LIVE-VACCINE"}),
        ((draft(use={"identity": "none"}),), (), {"ORD-NOT-IDENTIFIED"}),
        (
            (draft("ruxolitinib"), BESIDE["ruxolitinib"]),
            (on("ruxolitinib", hours=24 * 11), unread("virology")),
            {"ORD-ENDS-LATER", "ORD-DOSE-BELOW", "ORD-NO-TAPER"},
        ),
    ],
)
def test_what_could_not_be_checked_is_not_counted_as_absent(
    drafts: tuple[DraftOrder, ...], items: tuple[Item, ...], open_: set[str]
) -> None:
    assert found(drafts, *offering(*items)).undetermined == open_


def test_an_order_that_ends_before_the_draft_begins_is_no_duplicate() -> None:
    """A taper as an order of its own."""
    there = order("anakinra", end=when(-24))
    taper = draft("anakinra", first=TODAY + timedelta(days=2), days=2)
    assert checks(found((taper, BESIDE["anakinra"]), *offering(there))) == []


def test_a_medicine_that_is_taken_at_home() -> None:
    (said,) = found((draft("ruxolitinib"), BESIDE["ruxolitinib"]), *offering(statement("ruxolitinib"))).checks
    assert (said.check.id, said.reason.code) == ("ORD-DUPLICATE", "taken-at-home")


def test_an_order_of_another_drug_under_the_id_of_a_draft_still_counts() -> None:
    """Clients give drafts passing ids."""
    there = order("fluconazole", reference="MedicationRequest/d0", daily_mg=Decimal(400))
    assert safety(found((draft("ruxolitinib"), BESIDE["ruxolitinib"]), *offering(there))) == {"CI-FLUCONAZOLE-GT-200"}


def test_what_a_draft_replaces_no_longer_counts() -> None:
    there = order("fluconazole", reference="MedicationRequest/old", daily_mg=Decimal(400))
    less = draft("fluconazole", mg="100", replaces=("MedicationRequest/old",))
    assert safety(found(less, *offering(there, on("ruxolitinib")))) == {"CI-FLUCONAZOLE-LE-200"}
    other = draft("paracetamol", replaces=("MedicationRequest/old",))
    said = found((other, draft("ruxolitinib", place=1), BESIDE["ruxolitinib"]), *offering(there))
    assert safety(said) == {"CI-FLUCONAZOLE-GT-200"}


@pytest.mark.parametrize("picked", [0, 1])
def test_two_drafts_of_which_one_was_picked(picked: int) -> None:
    drafts = (draft("anakinra", picked=picked == 0), draft("anakinra", place=1, picked=picked == 1))
    said = found((*drafts, BESIDE["anakinra"]), *offering(), hook=SELECT)
    assert [(c.check.id, c.draft.place) for c in said.checks] == [("ORD-DUPLICATE", picked)]


def test_two_drafts_for_the_same_days() -> None:
    said = found((draft("anakinra"), draft("anakinra", place=1), BESIDE["anakinra"]), *offering())
    assert checks(said) == ["ORD-DUPLICATE"]
    assert [(c.draft.place, c.remove) for c in said.corrections] == [(1, True)]


# --- another drug


def test_an_interacting_drug_for_a_patient_on_the_protocol() -> None:
    said = found(draft("fluconazole", mg="400"), *offering(on("ruxolitinib")), hook=SELECT)
    assert safety(said) == {"CI-FLUCONAZOLE-GT-200"}
    assert said.drafted == ()
    assert said.raises_safety
    assert not said.raises_protocol
    assert said.corrections == ()  # it may be what the patient needs: the study drug may be what has to go


def test_the_same_for_nobody_else_and_not_for_the_drug_it_does_not_concern() -> None:
    assert not found(draft("fluconazole", mg="400"), *offering()).speaks
    assert not found(draft("fluconazole", mg="400"), *offering(on("anakinra"))).speaks


@pytest.mark.parametrize(
    ("drug", "receives", "id_"),
    [
        ("tofacitinib", "ruxolitinib", "CI-DUP-JAK"),
        ("canakinumab", "anakinra", "CI-DUP-IL1"),
        ("tocilizumab", "anakinra", "CI-IL6-RECENT"),
        ("infliximab", "anakinra", "CI-TNF-INHIBITOR"),
        ("posaconazole", "ruxolitinib", "CI-CYP3A4-STRONG"),
        ("rifampicin", "ruxolitinib", "CI-CYP3A4-INDUCER"),
        ("tacrolimus", "anakinra", "CI-IMMUNOSUPPRESSANT"),
    ],
)
def test_every_group_of_the_interaction_rule(drug: str, receives: str, id_: str) -> None:
    assert safety(found(draft(drug), *offering(on(receives)))) == {id_}


def test_a_study_drug_that_is_drafted_too_counts() -> None:
    said = found((draft("tofacitinib"), BESIDE["anakinra"]), *offering())
    assert safety(said) == {"CI-DUP-JAK"}


def test_an_interaction_from_before_is_no_news_of_another_draft() -> None:
    said = found(draft("tocilizumab"), *offering(on("ruxolitinib"), order("posaconazole")))
    assert safety(said) == {"CI-IL6-RECENT"}


def test_a_monitored_interaction_is_told_when_signed_and_not_when_picked() -> None:
    given = offering(on("ruxolitinib"))
    assert not found(draft("amiodarone"), *given, hook=SELECT).speaks
    said = found(draft("amiodarone"), *given)
    assert {s.rule.id for s in said.watched} == {"MON-CYP3A4-MODERATE"}
    assert said.raises_safety


@pytest.mark.parametrize(
    "lost",
    [unread("orders"), unread("administrations"), statement(possibly=("ruxolitinib",), identity="text")],
)
def test_whether_the_patient_receives_it_could_not_be_read(lost: Item) -> None:
    said = found(draft("fluconazole"), *offering(lost), hook=SELECT)
    assert checks(said) == ["ORD-RECEPTION-UNKNOWN?"]
    assert said.raises_safety
    assert not found(draft("amiodarone"), *offering(lost)).speaks


def test_a_server_without_that_source_is_signed_for() -> None:
    absent = replace(unread("statements"), why="absent-at-site")
    assert not found(draft("fluconazole"), *offering(absent)).speaks


# --- vaccines, and what nothing identifies


def test_a_live_vaccine_for_a_patient_on_the_protocol() -> None:
    said = found(draft(vaccine=True, use={"identity": "code"}), *offering(on("anakinra")))
    assert checks(said) == ["ORD-LIVE-VACCINE"]
    assert said.is_absolute
    assert [c.remove for c in said.corrections] == [True]


def test_a_live_vaccine_that_only_words_name_is_a_question() -> None:
    one = draft(possibly_live=True, use={"identity": "text"})
    assert concerns(one, ingredients=of_concern(knowledge()))
    said = found(one, *offering(on("anakinra")))
    assert checks(said) == ["ORD-LIVE-VACCINE?"]
    assert not said.is_absolute
    assert said.corrections == ()
    assert not found(one, *offering()).speaks
    assert checks(found(one, *offering(unread("orders")))) == ["ORD-RECEPTION-UNKNOWN?"]


def test_a_live_vaccine_beside_a_drafted_study_drug_whichever_was_picked() -> None:
    vaccine = draft(vaccine=True, place=3, use={"identity": "code"})
    assert "ORD-LIVE-VACCINE" in checks(found((ANAKINRA, RUXOLITINIB, replace(vaccine, picked=False)), *offering()))
    assert "ORD-LIVE-VACCINE" in checks(found((vaccine, BESIDE["anakinra"]), *offering()))


def test_other_vaccines_and_other_patients_are_nobodys_business() -> None:
    assert not found(draft(vaccine=False, use={"identity": "code"}), *offering(on("anakinra"))).speaks
    assert not found(draft(vaccine=True, use={"identity": "code"}), *offering()).speaks


def test_a_vaccine_where_it_could_not_be_read_what_the_patient_receives() -> None:
    said = found(draft(vaccine=True, use={"identity": "code"}), *offering(unread("administrations")))
    assert checks(said) == ["ORD-RECEPTION-UNKNOWN?"]


def test_what_nothing_identifies_is_said_where_it_matters() -> None:
    unknown = draft(use={"identity": "none"})
    assert checks(found(unknown, *offering(on("anakinra")))) == ["ORD-NOT-IDENTIFIED?"]
    assert not found(unknown, *offering()).speaks
    assert not found(unknown, *offering(on("anakinra")), hook=SELECT).speaks
    broken = draft(unreadable=True)
    assert checks(found((broken, RUXOLITINIB, BESIDE["ruxolitinib"]), *offering())) == ["ORD-NOT-IDENTIFIED?"]


def test_a_form_without_a_drug_is_not_signed_unseen() -> None:
    empty = draft(named=False)
    assert checks(found(empty, *offering(on("anakinra")), hook=SELECT)) == []
    assert checks(found(empty, *offering(on("anakinra")))) == ["ORD-NOT-IDENTIFIED?"]


# --- text only (reading 3.11)


def test_a_draft_that_only_words_name_is_checked_as_what_it_may_be() -> None:
    one = draft(use={"possibly": ("ruxolitinib",), "identity": "text"}, mg="40")
    said = found((one, BESIDE["ruxolitinib"]), *offering(measurement("platelets", 20, hours=2), without=("platelets",)))
    assert "CI-PLT-LT-50" in safety(said)
    assert {"ORD-DOSE-ABOVE", "ORD-BY-TEXT"} <= set(checks(said))
    assert said.is_by_text(one)
    assert not said.is_by_text(ANAKINRA)


def test_an_interacting_drug_that_only_words_name() -> None:
    one = draft(use={"possibly": ("fluconazole",), "identity": "text"}, mg=None)
    assert safety(found(one, *offering(on("ruxolitinib")))) == {"CI-FLUCONAZOLE-GT-200"}


def test_nothing_is_offered_to_change_in_a_draft_that_only_words_name() -> None:
    one = draft(use={"possibly": ("ruxolitinib",), "identity": "text"}, mg="40")
    assert found((one, BESIDE["ruxolitinib"]), *offering()).corrections == ()


# --- what a suggestion may do


def test_a_dose_above_and_a_later_end_are_led_back_to_the_letter() -> None:
    (one,) = found((draft("anakinra", mg="600", days=60), BESIDE["anakinra"]), *offering()).corrections
    assert (one.daily_mg, one.last_day, one.remove) == (Decimal(300), TODAY + timedelta(days=13), False)


def test_a_lower_dose_and_a_shorter_course_are_never_raised() -> None:
    assert found((draft("anakinra", mg="100", days=3), BESIDE["anakinra"]), *offering()).corrections == ()


@pytest.mark.parametrize(
    "more",
    [
        order("posaconazole"),
        measurement("crcl", 40, hours=2),
        unread("conditions"),
        refusal("alt"),
    ],
    ids=["interaction", "kidney", "source", "doubt"],
)
def test_no_dose_is_offered_where_one_may_have_to_change(more: Item) -> None:
    one = draft("ruxolitinib", mg="20", days=60)
    without = ("crcl",) if more == measurement("crcl", 40, hours=2) else ()
    said = found((one, BESIDE["ruxolitinib"]), *offering(more, without=without))
    assert "ORD-DOSE-ABOVE" in checks(said)
    assert said.corrections == ()


def test_a_last_day_is_offered_where_only_the_dose_may_have_to_change() -> None:
    said = found((draft("ruxolitinib", days=60), BESIDE["ruxolitinib"]), *offering(order("posaconazole")))
    (one,) = said.corrections
    assert (one.daily_mg, one.last_day) == (None, TODAY + timedelta(days=27))


def test_nothing_is_offered_while_another_patients_record_was_among_them() -> None:
    foreign = replace(refusal("", why="other-patient"), displaces=False)
    assert found((draft("anakinra", mg="600"), BESIDE["anakinra"]), *offering(foreign)).corrections == ()


def test_a_draft_whose_words_also_name_a_study_drug_is_not_removed() -> None:
    one = draft("paracetamol", use={"possibly": ("anakinra",)})
    assert found(one, *offering(measurement("anc", "0.9", hours=2), without=("anc",))).corrections == ()


def test_a_draft_of_two_drugs_in_one_is_not_changed() -> None:
    one = draft("anakinra", "paracetamol", mg="600")
    assert found((one, BESIDE["anakinra"]), *offering()).corrections == ()


# --- which drafts


def test_only_what_was_picked_is_told_and_the_others_count() -> None:
    older = replace(draft("anakinra", mg="600", place=1), picked=False)
    assert checks(found((RUXOLITINIB, older), *offering())) == []


def test_the_order_of_the_drafts_is_irrelevant() -> None:
    drafts = (
        draft("anakinra", mg="600"),
        draft("ruxolitinib", place=1, days=40),
        draft("fluconazole", place=2, mg="50"),
    )
    first = found(drafts, *offering())
    second = found(drafts[::-1], *offering())
    assert checks(first) == checks(second)
    assert safety(first) == safety(second) == {"CI-FLUCONAZOLE-LE-200"}


def test_what_counts_as_receiving() -> None:
    for use in (on("anakinra"), order("anakinra"), statement("anakinra")):
        assert found(draft("tocilizumab"), *offering(use)).received["anakinra"].state == "yes"
    old = on("anakinra", hours=24 * 10)
    assert found(draft("tocilizumab"), *offering(old)).received["anakinra"].state == "no"
    local = on("ruxolitinib", systemic=False)
    assert found(draft("fluconazole"), *offering(local)).received["ruxolitinib"].state == "no"
    ended = order("ruxolitinib", end=when(-1))
    assert found(draft("fluconazole"), *offering(ended)).received["ruxolitinib"].state == "yes"
