"""What only the terminated trial asks for (readings 3.18, 3.19, B1 to B9)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from app.clinical.chart import Chart
from app.clinical.criteria import evaluate
from app.clinical.findings import Finding
from app.clinical.intervals import Interval
from app.clinical.readers import trial
from app.clinical.reading import Reading
from fhir_mappings.facts import MedicationUse, Overlay, Procedure, Rate
from tests.unit.app.clinical.build import (
    NOW,
    Item,
    ago,
    chart,
    condition,
    facts,
    knowledge,
    leaf,
    measurement,
    medication,
    on_day,
    order,
    pair,
    partial,
    procedure,
    read,
    refusal,
    unread,
    when,
    without_limit,
    word,
)

D = Decimal
PULSE = Overlay(pulse_oximetry=True)
RUN: Mapping[str, Any] = {"below": 300, "span_hours": 24, "ventilated_hours": 24}


def exactly(value: int | str) -> Interval:
    return Interval.of(D(value))


def finding(id: str, *items: Item) -> Finding:  # noqa: A002
    """The finding of a criterion of the shipped knowledge."""
    return evaluate(knowledge().criterion(id).tree, chart=chart(*items), known={}).finding


# --------------------------------------------------------------------------- respiratory rate


def test_the_newest_respiratory_rate() -> None:
    found = read("respiratory_rate", measurement("respiratory_rate", 32, hours=2), measurement("respiratory_rate", 22))
    assert (found.interval, found.shown) == (exactly(22), "22 /min")


def test_a_total_is_an_upper_bound_of_the_patients_own_breaths() -> None:
    found = read("respiratory_rate", measurement("respiratory_rate", 34, kind="total"))
    assert found.interval == Interval(Fraction(0), Fraction(34))
    assert "ventilator" in found.shown


def test_the_patients_own_rate_of_the_same_instant_decides() -> None:
    total = measurement("respiratory_rate", 34, kind="total", reference="Observation/a")
    own = measurement("respiratory_rate", 12, kind="patient", reference="Observation/z")
    for items in ((own, total), (total, own)):
        found = read("respiratory_rate", *items)
        assert found.interval == exactly(12)
        assert [e.reference for e in found.evidence] == ["Observation/z"]


def test_no_respiratory_rate() -> None:
    assert read("respiratory_rate").reason.code == "never-measured"
    assert read("respiratory_rate", measurement("respiratory_rate", 32, hours=7)).reason.code == "stale"
    assert read("respiratory_rate", unread("vitals")).failed


# --------------------------------------------------------------------------- saturation


def air(hours: float = 1, **more: Any) -> Item:
    return measurement("fio2", "0.21", hours=hours, kind="inhaled", **more)


def test_on_room_air() -> None:
    found = read("sao2", measurement("sao2", 88), air())
    assert (found.interval, found.shown, found.reason.code) == (exactly(88), "88 % on room air", "room-air")


def test_on_oxygen_it_is_an_upper_bound() -> None:
    found = read("sao2", measurement("sao2", 88), measurement("fio2", "0.4"))
    assert (found.interval, found.reason.code) == (Interval(None, Fraction(88)), "on-oxygen")
    assert found.shown == "88 % on oxygen"


@pytest.mark.parametrize("concept", ["oxygen", "hfno", "niv", "ventilation", "ventilation-invasive"])
def test_support_that_covers_the_moment_is_oxygen(concept: str) -> None:
    assert read("sao2", measurement("sao2", 94), procedure(concept, started=5)).reason.code == "on-oxygen"
    ended = procedure(concept, started=5, ended=0.5, status="completed")
    assert read("sao2", measurement("sao2", 94), ended).reason.code == "on-oxygen"


@pytest.mark.parametrize(
    "support",
    [
        procedure("oxygen", started=0.5),
        procedure("oxygen", started=9, ended=2, status="completed"),
        procedure("oxygen", started=9, status="completed"),
        procedure("oxygen", started=9, status="not-done"),
    ],
)
def test_support_at_another_time_says_nothing(support: Procedure) -> None:
    assert read("sao2", measurement("sao2", 88), support).reason.code == "room-air-not-stated"
    assert read("sao2", measurement("sao2", 88), air(), support).reason.code == "room-air"


def test_an_undated_record_of_oxygen_that_runs_is_not_overlooked() -> None:
    assert read("sao2", measurement("sao2", 88), air(), procedure("oxygen", started=None)).reason.code != "room-air"


def test_room_air_beside_support_contradicts_itself() -> None:
    found = read("sao2", measurement("sao2", 88), air(), procedure("oxygen", started=5))
    assert (found.reason.code, found.missing, found.known) == ("room-air-not-stated", ("sao2_room_air",), False)


def test_which_fraction_belongs_to_the_saturation() -> None:
    used = measurement("sao2", 88, panel="Observation/p")
    charted = measurement("fio2", "0.5", hours=1)
    together = air(3, panel="Observation/p")
    assert read("sao2", used, charted, together).reason.code == "room-air"
    assert read("sao2", measurement("sao2", 88), charted, air(0.9)).reason.code == "on-oxygen"
    assert read("sao2", measurement("sao2", 88), air(0.5), charted).reason.code == "on-oxygen"
    assert read("sao2", measurement("sao2", 88), air(0.6)).reason.code == "room-air"
    assert read("sao2", measurement("sao2", 88), air(0.4)).reason.code == "room-air-not-stated"
    assert read("sao2", measurement("sao2", 88), air(comparator="<")).reason.code == "room-air-not-stated"


def test_of_two_fractions_of_one_instant_the_higher() -> None:
    items = (air(reference="Observation/1"), measurement("fio2", "0.3", reference="Observation/2"))
    assert read("sao2", measurement("sao2", 88), *items).reason.code == "on-oxygen"


def test_a_date_without_time_is_no_pair() -> None:
    day = measurement("fio2", "0.21", at=on_day(NOW.date()))
    assert read("sao2", measurement("sao2", 88), day).reason.code == "room-air-not-stated"


def test_pulse_oximetry_only_where_the_site_has_signed_it() -> None:
    pulse = measurement("spo2", 85)
    refused = read("sao2", pulse, air())
    assert (refused.reason.code, refused.missing) == ("pulse-oximetry-not-accepted", ("sao2_room_air",))
    accepted = read("sao2", pulse, air(), PULSE)
    assert (accepted.interval, accepted.shown) == (exactly(85), "85 % (pulse oximetry) on room air")
    both = read("sao2", pulse, measurement("sao2", 91), air(), PULSE)
    assert both.interval == exactly(91)


def test_refused_and_missing_saturations() -> None:
    assert read("sao2").reason.code == "never-measured"
    assert read("sao2", measurement("sao2", 88, hours=7)).reason.code == "stale"
    assert read("sao2", refusal("sao2", source="vitals"), measurement("spo2", 85)).unreadable
    assert read("sao2", measurement("sao2", 88), air(), refusal("sao2", source="vitals")).displaced
    clash = read("sao2", measurement("sao2", 88), air(), refusal("sao2", source="vitals", why="conflict"))
    assert (clash.known, clash.unreadable) == (False, True)
    for source in (unread("vitals"), unread("respiratory"), partial("vitals")):
        assert read("sao2", measurement("sao2", 88), air(), source).missing == ("sao2_room_air",)
        assert not read("sao2", measurement("sao2", 88), air(), source).known


# --------------------------------------------------------------------------- ventilation


INVASIVE = ("ventilation-invasive", "ventilation")


def ventilated(*items: Item) -> Reading:
    return read("mech_vent", *items)


def test_hours_of_the_course() -> None:
    found = ventilated(procedure(*INVASIVE, started=30))
    assert (found.interval, found.shown, found.reason.code) == (exactly(30), "30 h", "ventilated")


def test_a_date_without_time_is_an_interval() -> None:
    started = on_day(NOW.date())
    found = ventilated(procedure(*INVASIVE, started=started))
    low = Fraction(0)
    high = Fraction(int((NOW - started.earliest).total_seconds()), 3600)
    assert found.interval == Interval(low, high)


def test_records_that_follow_each_other() -> None:
    first = procedure(*INVASIVE, started=60, ended=20, status="completed")
    assert ventilated(first, procedure(*INVASIVE, started=19)).interval == exactly(60)
    assert ventilated(first, procedure(*INVASIVE, started=18)).interval == exactly(18)
    between = procedure(*INVASIVE, started=40, ended=19, status="completed")
    assert ventilated(first, between, procedure(*INVASIVE, started=19)).interval == exactly(60)
    undated = procedure(*INVASIVE, started=None, ended=19, status="completed")
    assert ventilated(undated, procedure(*INVASIVE, started=19)).interval == exactly(19)


def test_two_records_that_run() -> None:
    found = ventilated(procedure(*INVASIVE, started=30), procedure(*INVASIVE, started=10))
    assert found.interval == exactly(30)


def test_a_start_that_is_not_recorded() -> None:
    found = ventilated(procedure(*INVASIVE, started=None), measurement("peep", 12))
    assert (found.reason.code, found.missing) == ("ventilation-start-not-stated", ("mech_vent",))


def test_an_open_record_without_a_sign() -> None:
    found = ventilated(procedure(*INVASIVE, started=100))
    assert (found.reason.code, word(found, "since"), found.unreadable) == ("open-since", "4.2 d", True)
    assert word(ventilated(procedure(*INVASIVE, started=None)), "since") == ""
    assert ventilated(procedure(*INVASIVE, started=100), measurement("peep", 12)).interval == exactly(100)


def test_generic_ventilation() -> None:
    generic = procedure("ventilation", started=30)
    assert ventilated(generic).reason.code == "ventilation-not-stated"
    assert ventilated(generic, measurement("pplat", 26)).interval == exactly(30)


def test_non_invasive_ventilation_is_asked() -> None:
    assert ventilated(procedure("niv", started=30)).reason.code == "non-invasive-ventilation"
    over = procedure("niv", started=30, ended=3, status="completed")
    assert ventilated(over).reason.code == "no-record"


def test_off_the_ventilator() -> None:
    ended = procedure(*INVASIVE, started=30, ended=3, status="completed")
    assert ventilated(ended).interval == exactly(0)
    without_end = procedure(*INVASIVE, started=3, status="stopped")
    assert ventilated(without_end).interval == exactly(0)
    assert ventilated(procedure(*INVASIVE, started=None, status="completed")).interval == exactly(0)
    assert ventilated(ended, measurement("vt", 400, hours=4)).interval == exactly(0)
    assert ventilated(ended, measurement("vt", 400, hours=2)).reason.code == "ventilator-after-end"


def test_not_done_is_a_dated_negative_for_a_day() -> None:
    assert ventilated(procedure(*INVASIVE, started=24, status="not-done")).interval == exactly(0)
    assert ventilated(procedure(*INVASIVE, started=25, status="not-done")).reason.code == "no-record"
    assert ventilated(procedure(*INVASIVE, started=None, status="not-done")).reason.code == "no-record"


def test_nothing_on_record() -> None:
    assert ventilated().reason.code == "no-record"
    assert ventilated(measurement("pplat", 26)).reason.code == "ventilation-start-not-stated"
    for key in ("procedures", "respiratory"):
        lost = ventilated(procedure(*INVASIVE, started=30), unread(key))
        assert (lost.failed, lost.missing) == (True, ("mech_vent",))


@pytest.mark.parametrize(("hours", "expected"), [(24, Finding.NOT_MET), (24.01, Finding.MET)])
def test_more_than_24_hours_is_strict(hours: float, expected: Finding) -> None:
    assert finding("R-STAGE3-MV", procedure(*INVASIVE, started=hours)) is expected


# --------------------------------------------------------------------------- the run of P/F values


VENTILATED = procedure(*INVASIVE, started=50)
SIGN = measurement("peep", 12)


def charted(*values: tuple[float, int | str]) -> list[Item]:
    return [measurement("pf", value, hours=hours) for hours, value in values]


def run(*items: Item, **more: Any) -> Reading:
    params = {**RUN, **more}
    return read("pf_history", *items, params=params)


def test_a_run_of_charted_and_computed_values() -> None:
    found = run(VENTILATED, SIGN, *charted((29, 240)), pair(126, "0.6", hours=2))
    assert (found.state, found.shown, word(found, "count")) == ("yes", "27 h", "2")
    assert [e.concept for e in found.evidence] == ["pao2", "fio2", "pf"]


@pytest.mark.parametrize(
    ("values", "state"),
    [
        ([(26, 240), (2, 210)], ""),
        ([(26.1, 240), (2, 210)], "yes"),
        ([(48, 240), (12, 210)], "yes"),
        ([(49, 240), (12, 210)], ""),
        ([(40, 240), (12.1, 210)], ""),
        ([(29, 240), (2, 300)], "no"),
        ([(29, 240), (2, "299.9")], "yes"),
        ([(30, 240), (24, 310), (2, 210)], "no"),
        ([(40, 240), (25, 310), (24, 230), (1, 210)], ""),
        ([(30, 310), (27, 230), (2, 210)], "yes"),
        ([(30, 310)], "no"),
        ([(2, 210)], ""),
        ([], ""),
    ],
)
def test_runs(values: list[tuple[float, int | str]], state: str) -> None:
    found = run(VENTILATED, SIGN, *charted(*values))
    assert found.state == state
    assert found.missing == (() if state else ("pf_history",))


def test_the_computed_ratio_of_an_instant_decides() -> None:
    items = [*charted((29, 240), (2, 320)), pair(126, "0.6", hours=2)]
    assert run(VENTILATED, SIGN, *items).state == "yes"


@pytest.mark.parametrize(("tension", "comparator", "state"), [(300, "", "no"), (299, "", "yes"), (300, "<", "yes")])
def test_a_gas_without_fio2(tension: int, comparator: Any, state: str) -> None:
    alone = pair(tension, hours=10, gas_comparator=comparator)
    assert run(VENTILATED, SIGN, *charted((29, 240), (2, 210)), alone).state == state


def test_a_value_that_may_be_on_either_side() -> None:
    bound = measurement("pf", 250, hours=10, comparator=">")
    doubt = run(VENTILATED, SIGN, *charted((29, 240), (2, 210)), bound)
    assert (doubt.reason.code, doubt.missing, doubt.unreadable) == ("run-in-doubt", ("pf_history",), True)
    clash = pair(126, hours=10, why="conflict")
    assert run(VENTILATED, SIGN, *charted((29, 240), (2, 210)), clash).reason.code == "run-in-doubt"
    before = measurement("pf", 250, hours=40, comparator=">")
    assert run(VENTILATED, SIGN, *charted((30, 310), (27, 240), (2, 210)), before).state == "yes"


def test_ventilation_counts_beside_the_run() -> None:
    values = charted((29, 240), (2, 210))
    short = run(procedure(*INVASIVE, started=24), *values)
    assert (short.state, short.reason.code) == ("no", "ventilated")
    unknown = run(*values)
    assert (unknown.known, unknown.missing, unknown.reason.code) == (False, ("mech_vent",), "no-record")
    assert run(*charted((2, 210))).missing == ("pf_history", "mech_vent")


def test_ventilation_that_may_be_shorter_or_longer() -> None:
    day = on_day(ago(24).date())
    found = run(procedure(*INVASIVE, started=day), *charted((29, 240), (2, 210)))
    assert found.missing == ("mech_vent",)


def test_on_ecmo() -> None:
    values = charted((29, 240), (2, 210))
    va = run(VENTILATED, SIGN, *values, procedure("ecmo-va", started=40))
    assert (va.reason.code, va.missing) == ("run-on-ecmo", ("ecmo_status",))
    vv = procedure("ecmo-vv", started=40)
    assert run(VENTILATED, SIGN, *values, vv).reason.code == "never-measured"
    gases = [pair(126, "0.6", hours=29), pair(126, "0.6", hours=2)]
    assert run(VENTILATED, SIGN, *gases, vv).state == "yes"
    unlabelled = [pair(126, "0.6", hours=29, specimen=""), pair(126, "0.6", hours=2)]
    assert run(VENTILATED, SIGN, *unlabelled, vv).reason.code == "run-too-short"


def test_a_run_whose_newest_value_is_too_old_says_the_limit() -> None:
    at_limit = run(VENTILATED, SIGN, *charted((32, 240), (12, 210)))
    assert at_limit.reason.code == "run-too-short"
    older = run(VENTILATED, SIGN, *charted((40, 240), (12.1, 210)))
    assert (older.reason.code, dict(older.reason.params)["limit"]) == ("run-stale", "12 h")


def test_sources_of_the_run() -> None:
    lost = run(VENTILATED, *charted((29, 240), (2, 210)), unread("respiratory"))
    assert (lost.failed, lost.missing) == (True, ("pf_history",))
    values = charted((29, 240), (2, 210))
    half = run(VENTILATED, *values, unread("procedures"))
    assert not half.known


def test_without_windows_every_value_counts() -> None:
    values = charted((60, 240), (13, 210))
    made = facts(VENTILATED, SIGN, *values)
    shipped = without_limit("pf_history")
    unlimited = {**shipped.inputs, "pf": without_limit("pf").inputs["pf"]}
    open_chart = Chart(made, knowledge=replace(shipped, inputs=unlimited), now=NOW)
    assert trial.pf_history(open_chart, leaf("pf_history", **RUN)).state == "yes"


# --------------------------------------------------------------------------- noradrenaline


def pump(rate: Rate | None, *, hours: float = 5, ended: float | None = None, **more: Any) -> MedicationUse:
    fields = {"running": ended is None, "infusion": True, "rate": rate, **more}
    return medication("noradrenaline", hours=hours, ended=ended, **fields)


def mg(value: str) -> Rate:
    return Rate(D(value), "mg/h", f"{value} mg/h")


def by_weight(value: str) -> Rate:
    return Rate(D(value), "mg/kg/h", f"{value} mg/kg/h")


def shock(*items: Item) -> Reading:
    return read("noradrenaline", *items)


def test_one_pump() -> None:
    found = shock(pump(mg("3.2")))
    assert (found.interval, found.shown, found.reason.code) == (exactly("3.2"), "3.2 mg/h", "noradrenaline-base")
    assert [e.original for e in found.evidence] == ["3.2 mg/h"]


def test_pumps_add_up() -> None:
    assert shock(pump(mg("2")), pump(mg("1.5"), hours=3)).interval == exactly("3.5")


def test_a_record_that_was_replaced_does_not_add_up() -> None:
    assert shock(pump(mg("4"), ended=1), pump(mg("2"), hours=1)).interval == exactly(2)
    point = medication("noradrenaline", hours=1, rate=mg("2"))
    assert shock(pump(mg("4"), ended=1), point).interval == exactly(2)
    assert shock(pump(mg("4"), hours=3, ended=1), pump(mg("2"), hours=2, ended=1)).interval == exactly(6)


def test_per_kilogram_only_with_a_weight() -> None:
    weight = measurement("weight", 70, hours=24 * 30)
    found = shock(pump(by_weight("0.05")), weight)
    assert found.interval == exactly("3.5")
    assert [e.concept for e in found.evidence] == ["noradrenaline", "weight"]
    for useless in (measurement("weight", 70, hours=24 * 30 + 1), measurement("weight", 70, comparator=">")):
        none = shock(pump(by_weight("0.05")), useless)
        assert (none.reason.code, none.missing, none.failed) == ("rate-without-weight", ("weight",), False)
    assert shock(pump(by_weight("0.05")), unread("screening")).failed


def test_two_pumps_share_a_weight() -> None:
    found = shock(pump(by_weight("0.02")), pump(by_weight("0.03"), hours=3), measurement("weight", 70))
    assert found.interval == exactly("3.5")
    assert [e.concept for e in found.evidence].count("weight") == 1


@pytest.mark.parametrize(
    ("rate", "code"),
    [
        (None, "rate-not-charted"),
        (Rate(None, original="5 mL/h", why="no-concentration"), "rate-by-volume"),
        (Rate(None, original="4 U/h", why="unit-not-accepted"), "rate-unreadable"),
    ],
)
def test_a_rate_that_cannot_be_read(rate: Rate | None, code: str) -> None:
    found = shock(pump(rate))
    assert (found.reason.code, found.known, found.missing) == (code, False, ("noradrenaline_rate",))
    assert found.unreadable == (rate is not None)
    beside = shock(pump(rate), pump(mg("4"), hours=3))
    assert (beside.interval, beside.shown) == (Interval(Fraction(4), None), "at least 4 mg/h")


def test_the_salt_is_the_sites() -> None:
    tartrate = Overlay(noradrenaline_salt="tartrate")
    found = shock(pump(mg("6")), tartrate)
    assert (found.interval, found.reason.code) == (exactly(3), "noradrenaline-tartrate")
    assert (word(found, "rate"), word(found, "base")) == ("6 mg/h", "3 mg/h")


def test_how_long_a_rate_counts() -> None:
    assert shock(pump(mg("4"), ended=2)).interval == exactly(4)
    late = shock(pump(mg("4"), ended=2.1))
    assert (late.reason.code, late.missing) == ("state-stale", ("noradrenaline_rate",))
    assert shock(pump(mg("4"), hours=168)).interval == exactly(4)
    assert shock(pump(mg("4"), hours=169)).reason.code == "state-stale"
    assert shock(pump(mg("4"), hours=1, start=None)).reason.code == "no-record"


def test_a_newer_record_beside_an_older_open_one() -> None:
    """Which of them counts now cannot be told, unless the newer one says the same or was itself replaced."""
    point = medication("noradrenaline", hours=1, rate=mg("5"))
    found = shock(pump(mg("1"), hours=26), point)
    assert (found.reason.code, found.known, found.unreadable) == ("rate-contradicted", False, True)
    assert dict(found.reason.params) == {"older": "1 mg/h", "newer": "5 mg/h", "age": "1 h"}
    assert [(e.original, e.effective) for e in found.evidence] == [("5 mg/h", ago(1)), ("1 mg/h", ago(26))]
    none = medication("noradrenaline", hours=1, state="not-done")
    assert dict(shock(pump(mg("5"), hours=26), none).reason.params)["newer"] == "not-done"
    closed = pump(mg("4"), hours=3, ended=1)
    assert shock(pump(mg("1")), closed).reason.code == "rate-contradicted"
    assert shock(pump(mg("1")), closed, pump(mg("2"), hours=1)).interval == exactly(3)
    assert shock(pump(mg("5"), hours=26), point).interval == exactly(5)
    assert shock(pump(None), medication("noradrenaline", hours=1)).reason.code == "rate-not-charted"
    assert shock(pump(mg("4"), hours=1), pump(mg("1"), hours=3, ended=2)).interval == exactly(4)


def test_the_age_of_a_rate_is_that_of_its_charting() -> None:
    assert dict(shock(pump(mg("1"), hours=26)).reason.params)["age"] == "26 h"
    assert [e.effective for e in shock(pump(mg("1"), hours=26)).evidence] == [ago(26)]
    assert dict(shock(pump(mg("4"), hours=9, ended=1)).reason.params)["age"] == "1 h"


def test_a_planned_end_far_ahead_makes_no_old_record_new() -> None:
    assert shock(pump(mg("4"), hours=169, ended=-1000, running=True)).reason.code == "state-stale"
    assert dict(shock(pump(mg("4"), hours=5, ended=-1000)).reason.params)["age"] == "0 min"


def test_not_given_is_a_dated_negative() -> None:
    not_done = medication("noradrenaline", state="not-done", hours=1)
    assert shock(not_done).interval == exactly(0)
    assert shock(not_done, pump(mg("4"), hours=0.5)).interval == exactly(4)


def test_no_record() -> None:
    assert shock().reason.code == "no-record"
    assert shock(order("noradrenaline")).reason.code == "ordered-not-given"
    text = medication(possibly=("noradrenaline",), identity="text")
    assert (shock(text).reason.code, shock(text).unreadable) == ("text-only-drug", True)
    assert shock(text, pump(mg("4"))).interval == exactly(4)
    assert shock(unread("administrations"), pump(mg("4"))).failed


# --------------------------------------------------------------------------- kidney, liver, heart, HLH


OFF = procedure("dialysis", status="not-done", started=5)


def renal(*items: Item) -> Reading:
    return read("renal_failure", *items)


def test_kidney() -> None:
    assert renal(procedure("dialysis-continuous", "dialysis", started=30)).state == "present"
    assert renal(OFF, condition("oligo-anuria")).state == "present"
    assert renal(OFF).state == "absent"
    assert (renal().reason.code, renal().missing) == ("no-record", ("dialysis",))


def test_kidney_injury_alone() -> None:
    alone = renal(condition("renal-acute"))
    assert (alone.reason.code, alone.missing) == ("kidney-injury-alone", ("aki",))
    assert renal(OFF, condition("renal-acute")).missing == ("aki",)
    assert renal(OFF, condition("renal-acute", verification="refuted")).state == "absent"
    assert renal(OFF, condition("renal-acute", verification="provisional")).reason.code == "condition-not-confirmed"


def test_chronic_dialysis_is_asked() -> None:
    session = procedure("dialysis-intermittent", "dialysis", started=30, ended=26, status="completed")
    for items in ((condition("dialysis-dependence"),), (condition("dialysis-dependence"), session)):
        found = renal(*items)
        assert (found.reason.code, found.missing) == ("chronic-dialysis", ("aki",))


def test_kidney_when_the_problem_list_was_not_read() -> None:
    found = renal(OFF, unread("conditions"))
    assert (found.failed, found.missing) == (True, ("aki",))
    assert renal(procedure("dialysis-continuous", "dialysis", started=30), unread("conditions")).state == "present"


def test_liver() -> None:
    hepatic = condition("hepatic-failure")
    assert finding("R-EV-LIVER", measurement("factor_v", "49.9")) is Finding.MET
    assert finding("R-EV-LIVER", measurement("factor_v", 50), hepatic) is Finding.NOT_MET
    asked = read("liver_failure", hepatic)
    assert (asked.reason.code, asked.missing) == ("hepatic-failure-without-factor-v", ("factor_v",))
    nothing = read("liver_failure")
    assert (nothing.reason.code, nothing.missing) == ("never-measured", ("factor_v",))


def test_heart() -> None:
    heart = condition("heart-failure")
    both = read("myocarditis", condition("myocarditis"), heart)
    assert (both.state, len(both.evidence)) == ("present", 2)
    alone = read("myocarditis", condition("myocarditis"))
    assert (alone.reason.code, alone.missing) == ("myocarditis-alone", ("myocarditis",))
    assert read("myocarditis", heart).state == "absent"
    assert read("myocarditis", condition("myocarditis", verification="refuted"), heart).state == "absent"
    assert read("myocarditis", unread("conditions")).failed


def test_haemophagocytic_syndrome() -> None:
    assert read("hlh", condition("hlh", verification="confirmed")).state == "present"
    assert read("hlh").state == "absent"
    unsure = read("hlh", condition("hlh", verification="differential"))
    assert (unsure.reason.code, unsure.missing) == ("condition-not-confirmed", ("hlh",))
    assert read("hlh", condition("hlh", verification="differential"), condition("hlh")).state == "present"


# --------------------------------------------------------------------------- the specimen


@pytest.mark.parametrize(
    ("specimens", "state", "code"),
    [
        (["nasopharyngeal"], "nasopharyngeal", "specimen"),
        (["lavage"], "lavage", "specimen"),
        (["other"], "other", "specimen-other"),
        ([""], "", "specimen-not-stated"),
        (["other", "lavage", "nasopharyngeal"], "nasopharyngeal", "specimen"),
        ([], "", "no-positive-pcr"),
    ],
)
def test_the_specimen_of_the_positive_test(specimens: list[str], state: str, code: str) -> None:
    tests = [
        measurement("sarscov2_pcr", coded="positive", at=when(days=place + 1), specimen=specimen)
        for place, specimen in enumerate(specimens)
    ]
    negative = measurement("sarscov2_pcr", coded="negative", specimen="nasopharyngeal")
    found = read("covid_specimen", *tests, negative)
    assert (found.state, found.reason.code) == (state, code)
    assert found.missing == (() if state else ("sarscov2_pcr",))
