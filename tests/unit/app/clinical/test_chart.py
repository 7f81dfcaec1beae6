"""Time, sources and refused results of one chart."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest

from app.clinical.chart import Chart, hours_text
from app.clinical.readers import READERS
from app.clinical.readers import read as read_leaf
from fhir_mappings.facts import Facts
from tests.unit.app.clinical.build import (
    NOW,
    ZONE,
    ago,
    chart,
    facts,
    knowledge,
    leaf,
    measurement,
    medication,
    on_day,
    partial,
    patient,
    read,
    refusal,
    source,
    unread,
    when,
)

BERLIN = ZoneInfo("Europe/Berlin")


def test_every_input_of_the_knowledge_has_a_reader_and_a_reading_is_made_once() -> None:
    one = chart()
    for name in knowledge().inputs:
        assert name in READERS
    assert read_leaf(one, leaf("crp")) is read_leaf(one, leaf("crp"))


# --------------------------------------------------------------------------- windows (reading 1)


@pytest.mark.parametrize(("name", "hours"), [("crp", 30), ("ferritin", 72), ("pf", 12), ("sarscov2_pcr", 1440)])
def test_exactly_at_the_limit_is_inside(name: str, hours: int) -> None:
    one = chart()
    since = one.since(name)
    assert since == ago(hours)
    at_limit = chart(measurement(name, 1, hours=hours)).values(name, since=since)
    past = chart(measurement(name, 1, at=when(hours, minutes=1))).values(name, since=since)
    assert (len(at_limit), len(past)) == (1, 0)


def test_an_input_without_a_limit_has_no_window() -> None:
    assert chart().since("allergies") is None
    assert len(chart(measurement("crp", 1, hours=9000)).values("crp")) == 1


@pytest.mark.parametrize(
    ("clock", "hours"),
    [(datetime(2026, 3, 29, 12, tzinfo=BERLIN), 30), (datetime(2025, 10, 26, 12, tzinfo=BERLIN), 30)],
)
def test_hours_are_counted_across_the_change_of_clocks(clock: datetime, hours: int) -> None:
    """Thirty hours are thirty hours on the days that have 23 or 25."""
    one = chart(now=clock)
    since = one.since("crp")
    assert since is not None
    assert (clock.astimezone(UTC) - since) == timedelta(hours=hours)
    assert one.age(clock.astimezone(UTC) - timedelta(hours=29)) == timedelta(hours=29)


def test_a_date_without_time_is_the_earliest_instant_of_the_facilitys_day_when_it_must_be_fresh() -> None:
    """The ninth of March began at 23:00 UTC of the eighth: 37 h before noon of the tenth."""
    old = measurement("crp", 150, at=on_day(date(2026, 3, 9)))
    today = measurement("crp", 150, at=on_day(date(2026, 3, 10)))
    assert read("crp", old).reason.code == "stale"
    assert read("crp", today).known


def test_the_latest_instant_of_a_partial_date_is_never_after_now() -> None:
    one = chart()
    assert one.latest_possible(None) is None
    assert one.latest_possible(on_day(date(2026, 3, 10))) == NOW
    assert one.latest_possible(on_day(date(2026, 3, 8))) == datetime(2026, 3, 8, 22, 59, 59, 999999, tzinfo=UTC)


def test_a_sent_value_comes_before_a_derived_one_of_its_instant() -> None:
    sent, worked_out = measurement("crs", 30), measurement("crs", 28, kind="derived")
    assert chart(worked_out, sent).values("crs")[0] is sent
    newer = measurement("crs", 26, kind="derived", hours=0.5)
    assert chart(sent, newer).values("crs")[0] is newer


# --------------------------------------------------------------------------- exposure (reading 3.11)


def test_an_administration_counts_at_its_end() -> None:
    assert chart().exposure_end(medication("propofol", hours=20, ended=2)) == ago(2)
    assert chart().exposure_end(medication("propofol", hours=20)) == ago(20)
    assert chart().exposure_end(medication("propofol", hours=None)) is None


@pytest.mark.parametrize(("days", "end"), [(7, 0), (8, 8)])
def test_one_in_progress_counts_as_now_for_seven_days(days: int, end: int) -> None:
    running = medication("propofol", hours=24 * days, running=True)
    assert chart().exposure_end(running) == ago(days=end)


def test_one_in_progress_without_a_start_has_no_time() -> None:
    assert chart().exposure_end(medication("propofol", hours=None, running=True)) is None


# --------------------------------------------------------------------------- sources (reading 3.13)


def test_a_source_that_was_never_asked_counts_as_failed() -> None:
    nothing = Chart(Facts(asked_at=NOW, zone=ZONE, patient=patient()), knowledge=knowledge(), now=NOW)
    lost = nothing.uncovered(("labs",), ago(30))
    assert lost is not None
    assert lost.failed
    assert dict(lost.reason.params)["why"] == "not-asked"


def test_a_partial_answer_gives_a_newest_value_when_it_reaches_past_the_window() -> None:
    assert chart(partial("labs", reaches=ago(30))).uncovered(("labs",), ago(30)) is None
    lost = chart(partial("labs", reaches=ago(29))).uncovered(("labs",), ago(30))
    assert lost is not None
    assert lost.failed


def test_a_partial_answer_never_gives_an_absence() -> None:
    far = chart(partial("ecmo", reaches=ago(days=100)))
    assert far.uncovered(("ecmo",), ago(days=60)) is None
    lost = far.incomplete(("procedures", "ecmo"), ago(days=60))
    assert lost is not None
    assert (lost.failed, dict(lost.reason.params)["source"]) == (True, "ecmo")
    assert chart().incomplete(("procedures", "ecmo"), ago(days=60)) is None
    assert chart(unread("ecmo")).incomplete(("procedures", "ecmo"), ago(days=60)) is not None
    unasked = Chart(Facts(asked_at=NOW, zone=ZONE), knowledge=knowledge(), now=NOW)
    assert unasked.incomplete(("ecmo",), None) is not None


def test_what_the_site_signed_it_lacks_is_no_failure_but_hides_none() -> None:
    absent = source("allergies", "failed", why="absent-at-site")
    lost = chart(absent).uncovered(("allergies", "conditions"), None)
    assert lost is not None
    assert (lost.reason.code, lost.failed) == ("source-absent", False)
    both = chart(absent, unread("conditions")).uncovered(("allergies", "conditions"), None)
    assert both is not None
    assert (both.reason.code, both.failed) == ("source-failed", True)


# --------------------------------------------------------------------------- refused results (readings 3.2, 3.3)


def test_only_a_refused_result_displaces_and_only_its_own_concept() -> None:
    one = chart(
        refusal("crp", hours=1),
        refusal("crp", hours=3),
        refusal("ferritin", hours=1),
        refusal("crp", hours=2, why="future", displaces=False),
    )
    assert [one.gap_time(g) for g in one.refused(("crp",))] == [ago(1), ago(3)]
    assert [one.gap_time(g) for g in one.refused(("crp",), since=ago(1))] == [ago(1)]


def test_a_refused_result_without_a_time_or_of_a_day_is_as_new_as_it_can_be() -> None:
    one = chart()
    assert one.gap_time(refusal("crp", hours=None)) == NOW
    assert one.gap_time(refusal("crp", when=on_day(date(2026, 3, 10)))) == NOW


@pytest.mark.parametrize(
    ("why", "hours", "displaces"),
    [
        ("status-preliminary", 4, True),
        ("status-preliminary", 5, False),
        ("status-preliminary", 6, False),
        ("conflict", 4, True),
        ("conflict", 5, True),
        ("conflict", 6, False),
    ],
)
def test_newer_than_the_value_used_and_a_conflict_also_of_its_instant(why: str, hours: int, displaces: bool) -> None:
    one = chart(refusal("crp", hours=hours, why=why))
    assert bool(one.displacing(("crp",), used=ago(5))) is displaces


def test_where_nothing_is_used_every_refused_result_of_the_window_counts() -> None:
    one = chart(refusal("crp", hours=29), refusal("crp", hours=31))
    assert len(one.displacing(("crp",), used=None, since=ago(30))) == 1


# --------------------------------------------------------------------------- ages for people


@pytest.mark.parametrize(
    ("delta", "text"),
    [
        (timedelta(minutes=-5), "0 min"),
        (timedelta(minutes=20), "20 min"),
        (timedelta(hours=1), "1 h"),
        (timedelta(hours=20), "20 h"),
        (timedelta(hours=5, minutes=30), "5.5 h"),
        (timedelta(hours=48), "2 d"),
        (timedelta(days=10), "10 d"),
        (timedelta(days=10, hours=12), "10.5 d"),
    ],
)
def test_ages_are_minutes_then_hours_then_days(delta: timedelta, text: str) -> None:
    assert hours_text(delta) == text


def test_limits_are_numbers_of_the_knowledge() -> None:
    assert chart().limit("unpaired_gas_mmhg") == Decimal(100)
    assert chart().hours("nmba_doses_apart_hours") == timedelta(hours=1)
    assert chart().input("crp").missing == "crp"


# --------------------------------------------------------------------------- numbers of time


def test_what_is_worked_out_once_is_kept() -> None:
    one = chart()
    made: list[int] = []

    def make() -> int:
        made.append(1)
        return len(made)

    assert (one.once(("n",), make), one.once(("n",), make), one.once(("m",), make)) == (1, 1, 2)


@pytest.mark.parametrize(
    ("born", "years"),
    [(date(2008, 3, 10), 18), (date(2008, 3, 11), 17), (date(2004, 2, 29), 22), (date(2026, 3, 10), 0)],
)
def test_years_are_completed_on_the_facility_s_calendar(born: date, years: int) -> None:
    assert chart().years(born) == years


def test_the_facility_s_day_may_be_another_than_that_of_utc() -> None:
    late = Chart(facts(), knowledge=knowledge(), now=datetime(2026, 3, 10, 23, 30, tzinfo=UTC))
    assert late.years(date(2008, 3, 11)) == 18


def test_hours_since_a_moment_are_exact() -> None:
    assert chart().hours_since(ago(24)) == 24
    assert chart().hours_since(ago(minutes=20)) == Fraction(1, 3)
    assert chart().hours_since(ago(-1)) == -1
