"""What the card says beside the criteria: how the patient compares with the 11 of the letter (reading 5)."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from app.clinical.background import Background, look
from tests.unit.app.clinical.build import (
    Item,
    ago,
    assessed,
    chart,
    condition,
    measurement,
    medication,
    order,
    partial,
    procedure,
    source,
    statement,
    unread,
)


def background(*items: Item) -> Background:
    """The background of these items, standard treatments of 28 days."""
    return look(chart(*items), standard_hours=timedelta(hours=672))


def test_nothing_on_record_is_said_as_nothing() -> None:
    found = background()

    assert found == Background(None, True, None, None, None, None, "", (), True, (), True)


def test_the_assessment_carries_it() -> None:
    assert assessed(measurement("peep", 14)).background == background(measurement("peep", 14))


def test_days_are_calendar_days_of_the_facility_since_the_first_positive_test() -> None:
    first = measurement("sarscov2_pcr", coded="positive", hours=12.5)  # 00:30 of today in Berlin
    found = background(
        first,
        measurement("sarscov2_pcr", coded="positive", hours=13.5),  # 23:30 of yesterday
        measurement("sarscov2_pcr", coded="negative", hours=2000),
    )

    assert background(first).days_since_first_positive == 0
    assert found.days_since_first_positive == 1


@pytest.mark.parametrize(
    ("items", "days"),
    [
        ((procedure("ventilation", started=49),), 2),
        ((procedure("ventilation-invasive", started=240), procedure("ventilation", started=49)), 10),
        ((procedure("ventilation", status="completed", started=240, ended=200),), None),
        ((procedure("ventilation", started=None),), None),
        ((procedure("niv", started=240),), None),
    ],
)
def test_days_on_the_ventilator_are_those_of_the_running_ventilation(items: tuple[Item, ...], days: int | None) -> None:
    assert background(*items).days_ventilated == days


def test_the_newest_values_of_the_moment_are_beside_the_ratio() -> None:
    found = background(
        measurement("peep", 12, hours=5),
        measurement("peep", 14, hours=2),
        measurement("platelets", 120, hours=30),
        measurement("position", coded="supine", hours=9),
        measurement("position", coded="prone", hours=3),
    )

    assert found.peep is not None
    assert found.platelets is not None
    assert (found.peep.value, found.platelets.value) == (Decimal(14), Decimal(120))
    assert found.position == "prone"


def test_values_outside_their_window_are_not_shown() -> None:
    found = background(
        measurement("peep", 12, hours=12.1),
        measurement("platelets", 120, hours=30.1),
        measurement("position", coded="prone", hours=12.1),
    )

    assert (found.peep, found.platelets, found.position) == (None, None, "")


def test_a_positive_culture_of_7_days_is_told_before_a_newer_negative_one() -> None:
    positive = measurement("blood_culture", coded="positive", hours=100)
    negative = measurement("blood_culture", coded="negative", hours=10)
    old = measurement("blood_culture", coded="positive", hours=169)

    assert background(negative, positive).blood_culture == positive
    assert background(negative, old).blood_culture == negative
    assert background(old).blood_culture is None


@pytest.mark.parametrize(
    ("lost", "cultures", "standard"),
    [
        (unread("microbiology"), False, True),
        (partial("microbiology", reaches=ago(168)), True, True),
        (unread("orders"), True, False),
        (unread("administrations"), True, False),
        (partial("administrations", reaches=ago(100)), True, False),
        (source("microbiology", "empty"), True, True),
    ],
)
def test_nothing_found_is_told_from_not_looked_at(lost: Item, cultures: bool, standard: bool) -> None:
    found = background(lost)

    assert (found.culture_read, found.standard_read) == (cultures, standard)


@pytest.mark.parametrize(
    ("item", "difference"),
    [
        (condition("ckd"), "renal"),
        (condition("dialysis-dependence"), "renal"),
        (condition("chronic-liver"), "liver"),
        (condition("cirrhosis"), "liver"),
        (condition("cancer"), "cancer"),
        (condition("immunodeficiency"), "immunosuppression"),
        (condition("transplant"), "immunosuppression"),
        (medication("dexamethasone", hours=600), "steroid"),
        (medication("hydrocortisone"), "steroid"),
        (order("methylprednisolone"), "steroid"),
    ],
)
def test_what_none_of_the_11_had_is_named(item: Item, difference: str) -> None:
    assert background(item).differences == (difference,)


@pytest.mark.parametrize(
    "item",
    [
        condition("ckd", clinical="resolved"),
        condition("cancer", verification="refuted"),
        condition("asthma"),
        medication("dexamethasone", hours=673),
        medication("hydrocortisone", systemic=False),
    ],
)
def test_what_is_over_refuted_or_local_is_no_difference(item: Item) -> None:
    assert background(item).differences == ()


def test_differences_are_named_once() -> None:
    items: list[Item] = [condition("ckd", "cancer"), condition("dialysis-dependence"), medication("prednisolone")]

    assert background(*items).differences == ("cancer", "renal", "steroid")


def test_standard_treatments_are_named_once_with_their_newest_date() -> None:
    found = background(
        medication("dexamethasone", hours=5),
        medication("dexamethasone", hours=29),
        order("dexamethasone", hours=100),
        medication("tocilizumab", hours=300),
        medication("hydrocortisone"),
        medication("baricitinib", "hydrocortisone", hours=50),
        statement("sarilumab", hours=None),
    )

    assert dict(found.standard) == {
        "sarilumab": None,
        "dexamethasone": ago(5),
        "baricitinib": ago(50),
        "tocilizumab": ago(300),
    }


def test_an_old_positive_test_is_not_of_this_illness() -> None:
    assert background(measurement("sarscov2_pcr", coded="positive", hours=24 * 700)).days_since_first_positive is None


def test_an_immunosuppressant_is_a_difference_also_without_a_diagnosis() -> None:
    assert background(medication("tacrolimus")).differences == ("immunosuppression",)


def test_differences_that_could_not_be_read_are_not_called_absent() -> None:
    assert background().differences_read
    assert not background(unread("conditions")).differences_read
