"""Organ support over time (readings 1, 3.10, 3.15) and the signs of ventilation (reading 5)."""

from __future__ import annotations

from datetime import date

import pytest

from app.clinical.reading import Reading
from fhir_mappings.facts import Gap, Overlay, Procedure
from tests.unit.app.clinical.build import (
    Item,
    ago,
    codes,
    condition,
    measurement,
    medication,
    on_day,
    order,
    pair,
    partial,
    procedure,
    read,
    refusal,
    source,
    unread,
    when,
    word,
)


def doubtful(concept: str, *, why: str = "procedure-text-only", hours: float | None = 5) -> Gap:
    return refusal(concept, hours=hours, why=why, source="procedures", displaces=False)


def unknown(reading: Reading, code: str, *missing: str) -> None:
    assert not reading.known
    assert (reading.reason.code, reading.missing) == (code, missing)


def ecmo(*items: Item) -> Reading:
    """As a rescue therapy: absence of a record stays unknown."""
    return read("ecmo", *items)


def in_severity(*items: Item) -> Reading:
    """Beside the ratio: no record at all counts as off."""
    return read("ecmo_at_gas", *items)


# --------------------------------------------------------------------------- ECMO, open records (reading 3.10)


@pytest.mark.parametrize(("concept", "state"), [("ecmo-vv", "vv"), ("ecmo-va", "va"), ("ecmo-generic", "generic")])
@pytest.mark.parametrize("hours", [1, 72])
def test_an_open_record_that_started_within_72_hours_runs(concept: str, state: str, hours: int) -> None:
    reading = ecmo(procedure(concept, started=hours))
    assert (reading.state, reading.reason.code) == (state, "running")
    assert in_severity(procedure(concept, started=hours)).state == state


@pytest.mark.parametrize("sign", ["ecmo_fdo2", "ecmo_flow", "ecmo_sweep"])
def test_an_older_open_record_runs_with_a_sign_of_the_last_24_hours(sign: str) -> None:
    record = procedure("ecmo-vv", started=200)
    assert ecmo(record, measurement(sign, 1, hours=24)).state == "vv"
    stale = ecmo(record, measurement(sign, 1, at=when(24, minutes=1)))
    unknown(stale, "open-since", "ecmo_status")
    assert (stale.unreadable, stale.evidence[0].reference) == (True, record.reference)
    unknown(ecmo(record, measurement(sign, 0, hours=1)), "open-since", "ecmo_status")


def test_an_open_record_that_started_on_a_day_is_as_old_as_the_day() -> None:
    """The seventh of March began 85 h before noon of the tenth, and ended 61 h before."""
    unknown(ecmo(procedure("ecmo-vv", started=on_day(date(2026, 3, 7)))), "open-since", "ecmo_status")
    assert ecmo(procedure("ecmo-vv", started=on_day(date(2026, 3, 8)))).state == "vv"


def test_an_open_record_without_a_start_runs_only_with_a_sign() -> None:
    unknown(ecmo(procedure("ecmo-vv", started=None)), "open-since", "ecmo_status")
    with_sign = (procedure("ecmo-vv", started=None), measurement("ecmo_flow", 4, hours=6))
    assert ecmo(*with_sign).state == "vv"
    assert read("pf", pair(80, 1, hours=5), *with_sign).known
    assert read("pf", pair(80, 1, hours=7), *with_sign).reason.code == "gas-before-ecmo-change"


def test_a_record_on_hold_is_neither_running_nor_over() -> None:
    unknown(ecmo(procedure("ecmo-vv", status="on-hold", started=5)), "open-since", "ecmo_status")


def test_of_two_running_records_the_newer_start_counts() -> None:
    assert ecmo(procedure("ecmo-va", started=10), procedure("ecmo-vv", started=60)).state == "va"
    assert ecmo(procedure("ecmo-va", started=60), procedure("ecmo-vv", started=10)).state == "vv"


def test_a_forgotten_open_record_does_not_hide_a_running_one() -> None:
    assert ecmo(procedure("ecmo-va", started=500), procedure("ecmo-vv", started=10)).state == "vv"
    assert ecmo(procedure("ecmo-vv", started=10), procedure("ecmo-va", status="on-hold", started=5)).state == "vv"


# --------------------------------------------------------------------------- ECMO, stops


@pytest.mark.parametrize("status", ["completed", "stopped", "in-progress"])
def test_a_record_with_an_end_is_off_from_that_end_on(status: str) -> None:
    reading = ecmo(procedure("ecmo-vv", status=status, started=90, ended=5))
    assert (reading.state, reading.reason.code, word(reading, "age")) == ("off", "ended", "5 h")
    assert reading.evidence[0].original == status


def test_it_stays_off_until_a_newer_start() -> None:
    over = procedure("ecmo-vv", status="completed", started=90, ended=50)
    assert ecmo(over, procedure("ecmo-va", started=10)).state == "va"
    again = ecmo(over, procedure("ecmo-va", status="completed", started=10, ended=4))
    assert (again.state, again.evidence[0].concept) == ("off", "ecmo-va")


@pytest.mark.parametrize("status", ["completed", "stopped"])
def test_a_completed_record_without_an_end_ended_at_its_start(status: str) -> None:
    record = procedure("ecmo-vv", status=status, started=6)
    assert word(ecmo(record), "age") == "6 h"
    assert read("pf", pair(80, 1, hours=5), record).known
    assert read("pf", pair(80, 1, hours=7), record).reason.code == "gas-before-ecmo-change"


def test_nobody_knows_which_gases_were_drawn_after_a_record_without_dates() -> None:
    assert read("pf", pair(80, 1), procedure("ecmo-vv", status="completed", started=None)).reason.code == (
        "gas-before-ecmo-change"
    )


def test_an_end_alone_is_enough() -> None:
    assert ecmo(procedure("ecmo-vv", status="completed", started=None, ended=5)).state == "off"


# --------------------------------------------------------------------------- ECMO known from the circuit only


@pytest.mark.parametrize("sign", ["ecmo_fdo2", "ecmo_flow", "ecmo_sweep"])
def test_a_circuit_value_of_the_last_12_hours_means_ecmo_of_unknown_configuration(sign: str) -> None:
    reading = ecmo(measurement(sign, 1, hours=12))
    assert (reading.state, reading.reason.code) == ("generic", "ecmo-sign")
    stale = ecmo(measurement(sign, 1, hours=13))
    unknown(stale, "state-stale", "ecmo_status")
    assert not in_severity(measurement(sign, 1, hours=13)).known


def test_a_circuit_value_older_than_60_days_is_not_on_record() -> None:
    assert in_severity(measurement("ecmo_flow", 4, hours=24 * 60 + 1)).reason.code == "no-ecmo-on-record"
    assert not in_severity(measurement("ecmo_flow", 4, hours=24 * 60)).known


def test_a_circuit_value_after_the_end_means_it_runs_again() -> None:
    over = procedure("ecmo-vv", status="completed", started=90, ended=40)
    assert ecmo(over, measurement("ecmo_flow", 4, hours=5)).state == "generic"
    unknown(ecmo(over, measurement("ecmo_flow", 4, hours=20)), "state-stale", "ecmo_status")
    assert ecmo(over, measurement("ecmo_flow", 4, hours=30)).state == "off"
    assert ecmo(over, measurement("ecmo_flow", 4, hours=40)).state == "off"


def test_the_overlay_makes_generic_ecmo_veno_venous() -> None:
    signed = Overlay(generic_ecmo_is_veno_venous=True)
    assert ecmo(procedure("ecmo-generic"), signed).state == "vv"
    assert ecmo(measurement("ecmo_flow", 4), signed).state == "vv"
    assert ecmo(procedure("ecmo-va"), signed).state == "va"


# --------------------------------------------------------------------------- ECMO, not done


def not_done(hours: float | None, concept: str = "ecmo-generic") -> Procedure:
    return procedure(concept, status="not-done", started=hours)


def test_not_done_is_a_negative_for_12_hours() -> None:
    reading = ecmo(not_done(12))
    assert (reading.state, reading.reason.code) == ("off", "recorded-off")
    assert reading.notes == ()
    unknown(ecmo(not_done(13)), "no-record", "ecmo_status")
    assert in_severity(not_done(13)).reason.code == "no-ecmo-on-record"


def test_only_the_generic_code_negates_ecmo_and_only_with_a_date() -> None:
    unknown(ecmo(not_done(2, "ecmo-vv")), "no-record", "ecmo_status")
    unknown(ecmo(not_done(None)), "no-record", "ecmo_status")


def test_of_a_circuit_value_and_a_not_done_the_newer_counts() -> None:
    assert ecmo(measurement("ecmo_flow", 4, hours=6), not_done(2)).state == "off"
    assert ecmo(measurement("ecmo_flow", 4, hours=1), not_done(2)).state == "generic"


def test_a_not_done_does_not_end_a_record_that_runs() -> None:
    assert ecmo(procedure("ecmo-vv", started=10), not_done(2)).state == "vv"


# --------------------------------------------------------------------------- no ECMO on record


def test_no_record_counts_as_off_inside_the_severity_criterion_only() -> None:
    reading = in_severity()
    assert (reading.state, codes(reading)) == ("off", ("confirm-no-ecmo",))
    unknown(ecmo(), "no-record", "ecmo_status")
    assert not ecmo().failed


@pytest.mark.parametrize("key", ["procedures", "ecmo"])
def test_absence_needs_both_sources_read_completely(key: str) -> None:
    """Also when the partial answer reaches back past the 60 days."""
    for lost in (unread(key), partial(key), partial(key, reaches=ago(days=90))):
        reading = in_severity(lost)
        unknown(reading, "source-failed", "ecmo_status")
        assert reading.failed


def test_absence_needs_60_days() -> None:
    assert in_severity(source("ecmo", reaches=ago(days=60))).state == "off"
    assert in_severity(source("ecmo", reaches=ago(days=59))).failed


def test_a_failed_source_leaves_even_a_running_record_unknown() -> None:
    reading = ecmo(procedure("ecmo-vv"), unread("ecmo"))
    unknown(reading, "source-failed", "ecmo_status")


@pytest.mark.parametrize(
    "gap",
    [
        doubtful("ecmo"),
        doubtful("ecmo", why="status-unknown"),
        doubtful("ecmo", why="future-date", hours=-1),
        doubtful("ecmo", hours=None),
        doubtful("", why="unreadable-resource"),
        refusal("ecmo_fdo2", hours=30, source="ecmo", why="no-unit"),
        refusal("ecmo_flow", hours=24 * 60, source="ecmo"),
        refusal("ecmo_flow", hours=-1, source="ecmo", why="future", displaces=False),
        refusal("", source="ecmo", why="unreadable-resource", displaces=False),
    ],
)
def test_a_record_that_may_be_of_ecmo_forbids_absence(gap: Gap) -> None:
    reading = in_severity(gap)
    unknown(reading, "text-only-ecmo", "ecmo_status")
    assert reading.unreadable
    assert not in_severity(gap, not_done(2)).known
    assert in_severity(gap, procedure("ecmo-vv")).state == "vv"


@pytest.mark.parametrize(
    "gap",
    [
        doubtful("ecmo", hours=24 * 60 + 1),
        doubtful("prone"),
        refusal("ecmo_fdo2", source="ecmo", why="other-patient", displaces=False),
        refusal("", source="labs", why="unreadable-resource", displaces=False),
    ],
)
def test_what_says_nothing_about_ecmo_does_not(gap: Gap) -> None:
    assert in_severity(gap).state == "off"


def test_a_doubtful_record_from_before_the_end_is_that_ecmo() -> None:
    over = procedure("ecmo-vv", status="completed", started=300, ended=100)
    assert ecmo(over, doubtful("ecmo", hours=290)).state == "off"
    unknown(ecmo(over, doubtful("ecmo", hours=50)), "text-only-ecmo", "ecmo_status")


# --------------------------------------------------------------------------- prone position (readings 1, 3.10)


@pytest.mark.parametrize(
    "session",
    [
        procedure("prone", status="completed", started=90, ended=72),
        procedure("prone", status="completed", started=72),
        procedure("prone", started=72),
        measurement("position", coded="prone", hours=72),
    ],
)
def test_a_session_that_started_or_ended_within_72_hours_counts_against_a_later_negative(session: Item) -> None:
    reading = read("prone", session, procedure("prone", status="not-done", started=1))
    assert (reading.state, reading.reason.code, word(reading, "age")) == ("yes", "session", "3 d")
    assert len(reading.evidence) == 1


def test_a_session_counts_even_when_a_source_failed() -> None:
    assert read("prone", procedure("prone"), unread("respiratory")).state == "yes"


@pytest.mark.parametrize(
    "session",
    [
        procedure("prone", status="completed", started=90, ended=73),
        procedure("prone", status="completed", started=73),
        measurement("position", coded="prone", hours=73),
    ],
)
def test_an_older_session_with_nothing_newer_is_no(session: Item) -> None:
    reading = read("prone", session, measurement("position", coded="supine", hours=1))
    assert (reading.state, reading.reason.code) == ("no", "too-long-ago")
    assert (word(reading, "limit"), len(reading.evidence)) == ("3 d", 1)


def test_a_session_of_a_day_is_as_old_as_the_day() -> None:
    seventh = procedure("prone", status="completed", started=on_day(date(2026, 3, 7)))
    eighth = procedure("prone", status="completed", started=on_day(date(2026, 3, 8)))
    assert read("prone", seventh).state == "no"
    assert read("prone", eighth).state == "yes"


def test_not_done_is_no_for_72_hours() -> None:
    assert read("prone", procedure("prone", status="not-done", started=72)).reason.code == "not-done"
    unknown(read("prone", procedure("prone", status="not-done", started=73)), "no-record", "prone")
    unknown(read("prone", procedure("prone", status="not-done", started=None)), "no-record", "prone")


def test_an_old_open_session_is_unknown() -> None:
    reading = read("prone", procedure("prone", started=100), procedure("prone", status="not-done", started=1))
    unknown(reading, "open-since", "prone")
    assert reading.unreadable


def test_no_record_or_supine_only_is_unknown() -> None:
    unknown(read("prone"), "no-record", "prone")
    unknown(read("prone", measurement("position", coded="supine")), "no-record", "prone")


@pytest.mark.parametrize(
    "item",
    [
        doubtful("prone"),
        doubtful("prone", why="status-unknown"),
        doubtful("", why="unreadable-resource"),
        procedure("prone", status="completed", started=None),
    ],
)
def test_a_session_that_could_not_be_read_is_never_no(item: Item) -> None:
    reading = read("prone", item, procedure("prone", status="not-done", started=1))
    unknown(reading, "text-only-prone", "prone")
    assert reading.unreadable


@pytest.mark.parametrize("key", ["procedures", "respiratory"])
def test_without_its_sources_prone_is_unknown(key: str) -> None:
    reading = read("prone", procedure("prone", status="not-done", started=1), unread(key))
    unknown(reading, "source-failed", "prone")
    assert reading.failed
    assert read("prone", procedure("prone", status="not-done", started=1), partial(key, reaches=ago(72))).state == "no"


# --------------------------------------------------------------------------- dialysis (readings 3.10, 3.15)


@pytest.mark.parametrize("concept", ["dialysis", "dialysis-continuous", "dialysis-intermittent"])
def test_a_session_within_72_hours_is_intermittent_dialysis(concept: str) -> None:
    assert read("dialysis", procedure(concept, status="completed", started=76, ended=72)).state == "on"
    assert read("dialysis", procedure(concept, status="completed", started=72)).state == "on"
    unknown(read("dialysis", procedure(concept, status="completed", started=76, ended=73)), "no-record", "dialysis")


def test_an_open_dialysis_runs_when_it_started_within_72_hours_or_has_a_sign() -> None:
    assert read("dialysis", procedure("dialysis", started=72)).state == "on"
    old = procedure("dialysis", started=73)
    reading = read("dialysis", old)
    unknown(reading, "open-since", "dialysis")
    assert reading.unreadable
    assert read("dialysis", old, measurement("dialysis_sign", 150, hours=24)).evidence[0].concept == "dialysis"
    unknown(read("dialysis", old, measurement("dialysis_sign", 150, hours=25)), "open-since", "dialysis")
    assert read("dialysis", procedure("dialysis", started=None), measurement("dialysis_sign", 150)).state == "on"


def test_a_record_in_progress_with_an_end_is_over() -> None:
    unknown(read("dialysis", procedure("dialysis", started=200, ended=100)), "no-record", "dialysis")


def test_the_day_of_a_session_warns_to_its_end() -> None:
    """The seventh of March began 85 h before noon of the tenth, and ended 61 h before."""
    seventh = procedure("dialysis", status="completed", started=on_day(date(2026, 3, 7)))
    assert read("dialysis", seventh).state == "on"


def test_a_dialysis_observation_alone_means_dialysis_for_24_hours() -> None:
    assert read("dialysis", measurement("dialysis_sign", 150, hours=24)).state == "on"
    assert read("dialysis", measurement("dialysis_sign", coded="running", hours=24)).state == "on"
    unknown(read("dialysis", measurement("dialysis_sign", 150, hours=25)), "no-record", "dialysis")
    unknown(read("dialysis", measurement("dialysis_sign", 0, hours=1)), "no-record", "dialysis")


def test_recorded_dependence_means_dialysis() -> None:
    assert read("dialysis", condition("dialysis-dependence")).reason.code == "dialysis-dependence"
    unknown(read("dialysis", condition("dialysis-dependence", clinical="resolved")), "no-record", "dialysis")


@pytest.mark.parametrize(("hours", "state"), [(24, "off"), (25, "")])
def test_not_done_is_off_for_24_hours(hours: int, state: str) -> None:
    assert read("dialysis", procedure("dialysis", status="not-done", started=hours)).state == state


def test_a_negative_needs_a_date_and_a_date_counts_at_its_earliest() -> None:
    for start in (None, on_day(date(2026, 3, 9))):
        unknown(read("dialysis", procedure("dialysis", status="not-done", started=start)), "no-record", "dialysis")


def test_a_session_stands_against_a_later_negative() -> None:
    negative = procedure("dialysis", status="not-done", started=1)
    assert read("dialysis", negative, procedure("dialysis", status="completed", started=60)).state == "on"


@pytest.mark.parametrize(
    ("item", "why"),
    [
        (doubtful("dialysis"), "procedure-text-only"),
        (doubtful("dialysis-continuous", why="status-unknown"), "status-unknown"),
        (doubtful("", why="unreadable-resource"), "unreadable-resource"),
        (refusal("dialysis_sign", source="screening", why="no-unit"), "no-unit"),
        (procedure("dialysis", status="completed", started=None), "no-time"),
        (procedure("dialysis", started=None), "no-time"),
    ],
)
def test_a_dialysis_that_could_not_be_read_is_unknown_and_never_off(item: Item, why: str) -> None:
    reading = read("dialysis", item, procedure("dialysis", status="not-done", started=1))
    unknown(reading, "refused", "dialysis")
    assert (reading.unreadable, word(reading, "why")) == (True, why)
    assert read("dialysis", item, procedure("dialysis", started=5)).state == "on"


@pytest.mark.parametrize("key", ["procedures", "screening"])
def test_without_its_sources_dialysis_is_unknown(key: str) -> None:
    reading = read("dialysis", procedure("dialysis", status="not-done", started=1), unread(key))
    unknown(reading, "source-failed", "dialysis")
    assert reading.failed
    assert read("dialysis", procedure("dialysis", started=1), unread(key)).state == "on"


# --------------------------------------------------------------------------- any ventilatory support (reading 5, scope)


@pytest.mark.parametrize(
    "sign",
    [
        measurement("fio2", "0.6", hours=72),
        measurement("peep", 12, hours=72),
        measurement("pplat", 28, hours=72),
        measurement("vt", 400, hours=72),
        measurement("crs", 45, hours=72, kind="lower-bound"),
        measurement("ino", 20, hours=72),
        measurement("ecmo_flow", 4, hours=72),
        procedure("ventilation", started=90, ended=72, status="completed"),
        procedure("ventilation-invasive", started=72),
        procedure("niv", started=72),
        procedure("prone", status="completed", started=72),
        procedure("ecmo-generic", started=72),
        medication("cisatracurium", hours=72),
        medication("nitric oxide", hours=80, ended=72),
    ],
)
def test_each_of_these_is_a_sign_of_ventilatory_support(sign: Item) -> None:
    reading = read("ventilatory_support", sign)
    assert (reading.state, reading.reason.code, len(reading.evidence)) == ("yes", "sign", 1)


@pytest.mark.parametrize(
    "item",
    [
        measurement("fio2", "0.6", kind="inhaled"),
        measurement("pf", 80),
        measurement("peep", 12, hours=73),
        measurement("ino", 0),
        measurement("ecmo_flow", 0),
        procedure("ventilation", status="not-done"),
        procedure("ventilation", status="completed", started=80, ended=73),
        procedure("ventilation", started=73),
        procedure("ventilation", status="completed", started=None),
        procedure("hfno"),
        medication("cisatracurium", hours=73),
        medication("cisatracurium", state="not-done"),
        medication("propofol"),
        order("cisatracurium"),
        medication("cisatracurium", hours=None),
    ],
)
def test_none_of_these_is(item: Item) -> None:
    reading = read("ventilatory_support", item)
    assert (reading.state, reading.reason.code) == ("no", "no-sign")


@pytest.mark.parametrize("key", ["respiratory", "procedures", "administrations", "ecmo"])
def test_a_source_that_could_hold_a_sign_leaves_it_unknown(key: str) -> None:
    reading = read("ventilatory_support", unread(key))
    assert (reading.known, reading.failed) == (False, True)
    assert read("ventilatory_support", measurement("peep", 12), unread("procedures")).state == "yes"


# --------------------------------------------------------------------------- invasive ventilation (reading 5)


@pytest.mark.parametrize(
    "sign",
    [
        procedure("ventilation-invasive", started=72),
        procedure("ventilation-invasive", status="completed", started=90, ended=24),
        measurement("pplat", 28, hours=24),
        measurement("crs", 28, hours=24),
        measurement("crs", 28, hours=24, kind="derived"),
        medication("cisatracurium", hours=30, ended=24, infusion=True),
        procedure("ecmo-va", started=40),
        measurement("ecmo_flow", 4, hours=12),
        measurement("fio2", "0.6", hours=24),
    ],
)
def test_each_of_these_is_a_sign_of_invasive_ventilation(sign: Item) -> None:
    reading = read("invasive_ventilation", sign)
    assert (reading.state, len(reading.evidence)) == ("yes", 1)


@pytest.mark.parametrize(
    "item",
    [
        procedure("ventilation", started=5),
        procedure("niv", started=5),
        procedure("ventilation-invasive", status="not-done"),
        procedure("ventilation-invasive", status="completed", started=90, ended=25),
        procedure("ventilation-invasive", status="completed", started=on_day(date(2026, 3, 9))),
        procedure("ventilation-invasive", started=73),
        procedure("ventilation-invasive", started=None),
        measurement("pplat", 28, hours=25),
        measurement("crs", 45, kind="lower-bound"),
        measurement("peep", 12),
        medication("cisatracurium"),
        medication("cisatracurium", hours=30, ended=25, infusion=True),
        procedure("ecmo-vv", status="completed", started=90, ended=30),
        measurement("fio2", "0.6", kind="inhaled"),
        measurement("fio2", "0.6", hours=25),
        measurement("pf", 80),
    ],
)
def test_none_of_these_is_invasive(item: Item) -> None:
    assert read("invasive_ventilation", item).state == "no"


@pytest.mark.parametrize(
    "sign",
    [
        measurement("fio2", "0.6", hours=24),
        measurement("peep", 12, hours=24),
        measurement("vt", 400, hours=24),
    ],
)
def test_an_old_open_ventilation_runs_while_the_ventilator_charts(sign: Item) -> None:
    """Reading 3.10: an open record of any age is running with a sign of it in the last 24 h."""
    intubated = procedure("ventilation-invasive", started=240)
    reading = read("invasive_ventilation", intubated, sign)
    assert (reading.state, reading.evidence[0].reference) == ("yes", intubated.reference)
    assert read("invasive_ventilation", intubated, measurement("fio2", "0.6", kind="inhaled")).state == "no"


@pytest.mark.parametrize(
    "item",
    [
        procedure("niv", started=5),
        procedure("hfno", status="completed", started=40, ended=24),
        procedure("niv", status="completed", started=on_day(date(2026, 3, 9))),
        procedure("niv", started=240),
        procedure("niv", status="completed", started=None),
        doubtful("hfno", why="status-unknown"),
        doubtful("niv", why="future-date", hours=-1),
    ],
)
def test_an_fio2_is_no_sign_beside_a_record_of_non_invasive_support(item: Item) -> None:
    fio2 = measurement("fio2", "0.6")
    assert read("invasive_ventilation", fio2, item).state == "no"
    assert read("invasive_ventilation", fio2, item, measurement("pplat", 28)).state == "yes"


@pytest.mark.parametrize(
    "item",
    [
        procedure("niv", status="completed", started=40, ended=25),
        procedure("niv", status="not-done", started=2),
        doubtful("niv", why="other-patient"),
        doubtful("prone"),
    ],
)
def test_an_fio2_is_a_sign_beside_older_or_no_non_invasive_support(item: Item) -> None:
    assert read("invasive_ventilation", measurement("fio2", "0.6"), item).state == "yes"


@pytest.mark.parametrize("key", ["procedures", "respiratory"])
def test_without_its_sources_an_fio2_is_no_sign(key: str) -> None:
    reading = read("invasive_ventilation", measurement("fio2", "0.6"), unread(key))
    assert (reading.known, reading.failed) == (False, True)
    assert read("invasive_ventilation", measurement("pplat", 28), unread(key)).state == "yes"
