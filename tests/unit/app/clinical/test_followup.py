"""The follow-up of a course: what the signed cases do not say of it."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from app.clinical.findings import Finding
from app.clinical.followup import ActionResult, FollowUpResult
from app.clinical.trends import Trend
from tests.unit.app.clinical.build import (
    Item,
    ago,
    assessed,
    condition,
    measurement,
    medication,
    on_day,
    order,
    procedure,
    refusal,
    source,
    unread,
)

DAY = 24


def dose(drug: str = "anakinra", *, days: float = 6, mg: int | None = 300, **more: object) -> Item:
    return medication(drug, hours=days * DAY, **{"dose_mg": None if mg is None else Decimal(mg), **more})  # type: ignore[arg-type]


def followed(*items: Item, without: tuple[str, ...] = ()) -> FollowUpResult:
    """A course of anakinra since six days, everything read but what an item says."""
    known: dict[str, Item] = {
        "pcr": measurement("sarscov2_pcr", coded="positive", hours=20 * DAY),
        "dose": dose(),
        "course": source("course", resource_type="Observation"),
        "baseline": measurement("crp", 260, hours=6 * DAY + 5),
        "crp": measurement("crp", 60, hours=5),
    }
    return assessed(*(item for name, item in known.items() if name not in without), *items).follow_up


def action(found: FollowUpResult, id_: str) -> ActionResult | None:
    return next((a for a in found.actions if a.action.id == id_), None)


def finding(found: FollowUpResult, id_: str) -> Finding | None:
    result = action(found, id_)
    return None if result is None else result.finding


def reasons(found: FollowUpResult, id_: str) -> list[str]:
    result = action(found, id_)
    return [] if result is None else [a.reason.code for a in result.outcome.because]


def trend(found: FollowUpResult, name: str) -> Trend:
    return next(t for t in found.trends if t.quantity.name == name)


def test_the_day_is_not_certain_while_an_earlier_dose_may_be_missing() -> None:
    found = followed(unread("administrations"), unread("long-acting"))
    assert found.course is not None
    assert (found.day, found.course.low, found.course.high) == (None, 7, None)
    assert found.planned == ()
    assert [r.mg for r in found.recorded] == [None, None]


@pytest.mark.parametrize("key", ["administrations", "long-acting"])
def test_one_of_the_two_sources_of_administrations_is_enough(key: str) -> None:
    assert followed(unread(key)).day == 7


def test_a_course_without_any_test_is_none() -> None:
    found = followed(without=("pcr",))
    assert (found.course, found.scope, found.day) == (None, "out", None)
    assert followed(unread("virology"), without=("pcr",)).scope == "unknown"
    assert followed(unread("administrations"), unread("long-acting"), without=("dose",)).scope == "unknown"


def test_a_dose_without_any_date_makes_the_total_unknown() -> None:
    found = followed(dose(mg=100, start=None))
    (anakinra, ruxolitinib) = found.recorded
    assert (anakinra.mg, ruxolitinib.mg) == (None, 0)
    assert anakinra.reason is not None
    assert anakinra.reason.code == "doses-unreadable"


def test_a_medication_record_that_could_not_be_read_makes_totals_unknown() -> None:
    found = followed(refusal("medication", why="unreadable-resource", source="administrations", hours=None))
    assert {r.reason.code for r in found.recorded if r.reason is not None} == {"medication-refused"}


def test_two_drugs_in_one_administration_have_no_dose_of_their_own() -> None:
    found = followed(medication("anakinra", "paracetamol", hours=3, dose_mg=Decimal(100)))
    assert found.recorded[0].mg is None


def test_an_order_whose_own_end_has_passed_is_no_longer_active() -> None:
    late = (dose(days=15), order("anakinra", hours=15 * DAY, end=on_day(date(2026, 3, 9))))
    assert finding(followed(*late, without=("dose",)), "FU-OVERDUE-STOP-ANAKINRA") is None
    open_end = (dose(days=15), order("anakinra", hours=15 * DAY))
    assert finding(followed(*open_end, without=("dose",)), "FU-OVERDUE-STOP-ANAKINRA") is Finding.MET


def test_an_order_known_by_its_text_only_leaves_it_open() -> None:
    doubt = order(hours=30, possibly=("anakinra",), identity="text")
    found = followed(dose(days=15), doubt, without=("dose",))
    assert finding(found, "FU-OVERDUE-STOP-ANAKINRA") is Finding.UNKNOWN
    assert reasons(found, "FU-OVERDUE-STOP-ANAKINRA") == ["text-only-drug"]


def test_a_missed_dose_known_by_its_text_only_leaves_it_open() -> None:
    found = followed(medication(state="not-done", hours=30, possibly=("ruxolitinib",), identity="text"))
    assert finding(found, "FU-MISSED-DOSE") is Finding.UNKNOWN


def test_an_administration_known_by_its_text_only_leaves_the_start_open() -> None:
    doubt = medication(hours=30, possibly=("ruxolitinib",), identity="text")
    found = followed(order("ruxolitinib", hours=40), doubt)
    assert finding(found, "FU-NOT-STARTED") is Finding.UNKNOWN


def test_an_order_is_not_begun_only_where_administrations_were_read() -> None:
    found = followed(order("ruxolitinib", hours=40), unread("administrations"), unread("long-acting"))
    assert finding(found, "FU-NOT-STARTED") is Finding.UNKNOWN
    assert finding(followed(order("ruxolitinib", hours=40)), "FU-NOT-STARTED") is Finding.MET
    assert finding(followed(order("ruxolitinib", hours=None)), "FU-NOT-STARTED") is Finding.MET


def test_a_drug_that_is_no_part_of_the_course_does_not_end_in_it() -> None:
    last = (dose("ruxolitinib", days=13, mg=5),)
    found = followed(*last, without=("dose",))
    assert (found.day, finding(found, "FU-END-ANAKINRA")) == (14, None)
    ordered = followed(*last, order("anakinra", hours=2), without=("dose",))
    assert finding(ordered, "FU-END-ANAKINRA") is Finding.MET
    lost = followed(*last, unread("orders"), without=("dose",))
    assert finding(lost, "FU-END-ANAKINRA") is Finding.UNKNOWN


def test_a_conflict_of_the_newest_value_leaves_none() -> None:
    conflict = refusal("crp", hours=5, why="conflict")
    row = trend(followed(conflict), "crp")
    assert (row.value, row.lost) == (None, "refused")


def test_a_newer_result_that_was_refused_is_said_beside_the_value() -> None:
    row = trend(followed(refusal("crp", hours=2)), "crp")
    assert row.value is not None
    assert [reason.code for reason in row.reasons] == ["newer-refused"]


def test_a_baseline_of_nothing_gives_no_ratio() -> None:
    row = trend(followed(measurement("crp", 0, hours=6 * DAY + 5), without=("baseline",)), "crp")
    assert (row.value is not None, row.baseline is not None, row.ratio) == (True, True, None)


@pytest.mark.parametrize(
    ("value", "baseline", "expected"),
    [
        (("", "260"), ("", "260"), Finding.MET),
        (("", "259.9"), ("", "260"), None),
        (("<", "5"), ("", "260"), None),
        (("<", "260"), ("", "260"), None),
        (("<=", "260"), ("", "260"), Finding.UNKNOWN),
        ((">", "300"), ("", "260"), Finding.MET),
        ((">", "200"), ("", "260"), Finding.UNKNOWN),
        (("", "260"), ("<", "260"), Finding.MET),
        (("", "250"), (">", "250"), None),
        (("", "250"), (">=", "250"), Finding.UNKNOWN),
        (("", "310"), (">", "300"), Finding.UNKNOWN),
    ],
)
def test_crp_against_its_baseline(value: tuple[str, str], baseline: tuple[str, str], expected: Finding | None) -> None:
    items = (
        measurement("crp", value[1], hours=5, comparator=value[0]),  # type: ignore[arg-type]
        measurement("crp", baseline[1], hours=6 * DAY + 5, comparator=baseline[0]),  # type: ignore[arg-type]
    )
    assert finding(followed(*items, without=("crp", "baseline")), "FU-CRP-NOT-FALLING") is expected


def test_the_baseline_of_a_dose_that_is_dated_by_its_day_is_from_before_that_day() -> None:
    """Nobody knows whether a value of that day was before or after the dose."""
    first = medication("anakinra", hours=None, start=on_day(date(2026, 3, 4)), dose_mg=Decimal(300))
    same_day = measurement("crp", 200, hours=6 * DAY - 1)
    eve = measurement("crp", 300, hours=6 * DAY + 20)
    found = followed(first, same_day, eve, without=("dose", "baseline"))
    assert found.day == 7
    baseline = trend(found, "crp").baseline
    assert baseline is not None
    assert baseline.value == 300


def test_an_open_ventilation_record_is_no_extubation() -> None:
    ended = procedure("ventilation-invasive", status="completed", started=200, ended=30)
    assert trend(followed(ended), "crs").lost == "not-applicable"
    assert trend(followed(ended, procedure("ventilation", started=100)), "crs").lost == "absent"
    assert trend(followed(ended, measurement("pplat", 24, hours=3)), "crs").lost == "absent"
    before = procedure("ventilation-invasive", status="completed", started=300, ended=8 * DAY)
    assert trend(followed(before), "crs").lost == "absent"


def test_an_old_diagnosis_and_an_undated_one() -> None:
    old = condition("infection-systemic", onset=on_day(date(2026, 3, 1)), label="sepsis")
    assert finding(followed(old), "FU-INFECTION") is None
    assert finding(followed(condition("infection-systemic", label="sepsis")), "FU-INFECTION") is Finding.MET


def test_the_result_finds_what_is_present() -> None:
    found = followed(medication("anakinra", state="not-done", hours=3))
    missed = found.present("FU-MISSED-DOSE")
    assert missed is not None
    assert not missed.stops
    assert found.present("FU-PLT-LT-50") is None
    assert ago(hours=6 * DAY) == (found.course.since if found.course else None)
