"""PaO2/FiO2, the oxygenator's fraction and compliance (readings 3.2 to 3.7, 3.10, A2, A3, A7, A8)."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from app.clinical.criteria import Outcome, evaluate
from app.clinical.findings import Finding
from app.clinical.readers import gas
from app.clinical.readers import read as read_leaf
from app.clinical.reading import Reading
from fhir_mappings.facts import Comparator, GasPair, Overlay
from tests.unit.app.clinical.build import (
    Item,
    ago,
    chart,
    codes,
    knowledge,
    leaf,
    measurement,
    on_day,
    pair,
    partial,
    procedure,
    read,
    refusal,
    unread,
    when,
    word,
)

MET, NOT, OPEN = Finding.MET, Finding.NOT_MET, Finding.UNKNOWN
VV = procedure("ecmo-vv", started=30)
VA = procedure("ecmo-va", started=30)
GENERIC = procedure("ecmo-generic", started=30)
FULL = measurement("ecmo_fdo2", 1, hours=3)


def severity(*items: Item) -> Outcome:
    criterion = next(c for c in knowledge().protocol("pilot-simple").criteria if c.id == "S-SEVERITY")
    return evaluate(criterion.tree, chart=chart(*items), known={})


def by_ratio(*items: Item) -> Outcome:
    """The severity of lungs that are not stiff, so that the ratio alone decides."""
    return severity(measurement("crs", 60), *items)


def below(reading: Reading, limit: int = 100) -> Finding:
    assert reading.interval is not None
    return reading.interval.compared("<", Decimal(limit))


def unknown(reading: Reading, code: str, missing: str = "pf") -> None:
    assert not reading.known
    assert (reading.reason.code, reading.missing) == (code, (missing,))


# --------------------------------------------------------------------------- the ratio (reading 3.4)


def test_the_ratio_is_not_rounded_before_it_is_compared() -> None:
    exact = read("pf", pair(66, "0.66"))
    assert exact.interval is not None
    assert exact.interval.low == 100
    assert by_ratio(pair(66, "0.66")).finding is NOT
    assert by_ratio(pair("65.999", "0.66")).finding is MET
    assert exact.shown == "100 mmHg (PaO2 66 at 12:00, FiO2 66 % at 12:00)"


@pytest.mark.parametrize(
    ("pao2", "fio2", "text"), [("70", "0.9", "77.78"), ("50", "0.4", "125"), ("65.01", "0.8", "81.26")]
)
def test_the_public_ratio_has_two_decimals(pao2: str, fio2: str, text: str) -> None:
    assert gas.ratio_text(pair(pao2, fio2)) == text


def test_the_public_ratio_is_rounded_half_to_even_and_empty_without_a_pair() -> None:
    assert gas.ratio_text(pair("81.245", 1)) == "81.24"
    assert gas.ratio_text(pair("81.255", 1)) == "81.26"
    assert gas.ratio_text(pair(80)) == ""


def test_the_public_ratio_is_of_the_newest_pair_inside_the_window() -> None:
    found = gas.newest_pair(chart(pair(80, 1, hours=3), pair(70, 1, hours=2), pair(60, hours=1), pair(50, 1, hours=13)))
    assert found is not None
    assert found.gas.value == 70
    assert gas.newest_pair(chart(pair(60, hours=1), pair(50, 1, hours=13))) is None


def test_the_newest_gas_decides() -> None:
    assert by_ratio(pair(64, "0.8", hours=6), pair(90, "0.6", hours=1)).finding is NOT
    assert by_ratio(pair(90, "0.6", hours=6), pair(64, "0.8", hours=1)).finding is MET


@pytest.mark.parametrize(("comparator", "finding"), [("<", MET), (">", OPEN)])
def test_a_bound_of_the_gas_is_a_bound_of_the_ratio(comparator: Comparator, finding: Finding) -> None:
    assert below(read("pf", pair(60, "0.8", gas_comparator=comparator))) is finding


def test_exactly_twelve_hours_old_is_inside() -> None:
    assert read("pf", pair(64, "0.8", hours=12)).known
    old = GasPair(measurement("pao2", 64, at=when(12, minutes=1)), measurement("fio2", "0.8", hours=12))
    stale = read("pf", old)
    unknown(stale, "gas-stale")
    assert (word(stale, "limit"), stale.unreadable) == ("12 h", False)


def test_a_gas_of_a_day_is_as_old_as_the_day() -> None:
    """The facility's tenth of March began 13 h before noon in UTC."""
    drawn = measurement("pao2", 64, at=on_day(date(2026, 3, 10)), specimen="arterial")
    unknown(read("pf", GasPair(drawn, None, "no-fio2")), "gas-stale")


def test_no_gas_is_never_measured_and_venous_gases_are_named() -> None:
    unknown(read("pf"), "never-measured")
    venous = refusal("pao2", why="not-arterial", displaces=False)
    reading = read("pf", venous)
    unknown(reading, "gases-not-usable")
    assert not reading.unreadable


# --------------------------------------------------------------------------- gases without FiO2 (reading 3.4)


@pytest.mark.parametrize(("pao2", "finding"), [(100, NOT), (140, NOT)])
def test_off_ecmo_an_unpaired_gas_of_one_hundred_or_more_decides_and_no_older_pair_is_used(
    pao2: int, finding: Finding
) -> None:
    items = (pair(pao2, hours=1), pair(64, "0.8", hours=4))
    reading = read("pf", *items)
    assert reading.reason.code == "unpaired-not-below"
    assert reading.shown == f"at least {pao2} mmHg (gas without FiO2)"
    assert below(reading) is finding
    assert codes(reading) == ()
    assert by_ratio(*items).finding is finding


def test_an_unpaired_gas_below_one_hundred_leaves_the_older_pair_in_force_with_a_line_and_withholds() -> None:
    reading = read("pf", pair(99, hours=1), pair(64, "0.8", hours=4))
    assert below(reading) is MET
    assert reading.shown.startswith("80 mmHg")
    assert codes(reading) == ("gas-without-fio2!",)


@pytest.mark.parametrize("comparator", ["<", ">"])
def test_an_unpaired_bound_that_may_lie_below_one_hundred_does_not_decide(comparator: Comparator) -> None:
    value = 120 if comparator == "<" else 90
    unknown(read("pf", pair(value, gas_comparator=comparator)), "no-usable-pair")


def test_an_unpaired_gas_below_one_hundred_alone_is_unknown() -> None:
    reading = read("pf", pair(64))
    unknown(reading, "no-usable-pair")
    assert codes(reading) == ("gas-without-fio2!",)


@pytest.mark.parametrize("ecmo", [VV, VA])
def test_on_ecmo_an_unpaired_gas_of_one_hundred_or_more_is_unknown(ecmo: Item) -> None:
    unknown(read("pf", pair(120), pair(64, "0.8", hours=4), ecmo), "no-fio2")


def test_an_older_gas_is_not_asked_for_a_newer_ones_missing_fio2() -> None:
    reading = read("pf", pair(64, "0.8", hours=1), pair(140, hours=4))
    assert (below(reading), codes(reading)) == (MET, ())


# --------------------------------------------------------------------------- conflicting and refused FiO2 (3.3, 3.4)


def test_two_fio2_of_one_minute_that_differ_leave_the_ratio_unknown() -> None:
    doubtful = pair(64, why="conflict", also=measurement("fio2", "0.5", kind="inhaled"))
    reading = read("pf", doubtful, pair(64, "0.8", hours=4))
    unknown(reading, "fio2-conflict")
    assert reading.unreadable
    assert [e.concept for e in reading.evidence] == ["pao2", "fio2"]


def test_a_refused_fio2_nearer_to_the_gas_is_a_line_and_withholds() -> None:
    reading = read("pf", pair(64, "0.8", refused="Observation/near"))
    assert (below(reading), codes(reading)) == (MET, ("nearer-fio2-refused!",))


def test_a_refused_fio2_is_why_there_is_no_pair() -> None:
    reading = read("pf", pair(64), refusal("fio2", source="respiratory"))
    unknown(reading, "no-usable-pair")
    assert reading.unreadable


# --------------------------------------------------------------------------- refused and conflicting gases (3.2, 3.3)


def test_a_refused_newer_gas_leaves_the_older_ratio_with_a_line_and_withholds() -> None:
    reading = read("pf", pair(64, "0.8", hours=2), refusal("pao2", hours=1, why="no-unit", params=(("seen", "8"),)))
    assert (below(reading), codes(reading)) == (MET, ("newer-refused!",))
    assert dict(reading.notes[0].reason.params) == {"seen": "8", "input": "PaO2/FiO2", "why": "no-unit"}


@pytest.mark.parametrize("hours", [2, 3])
def test_a_refused_gas_that_is_not_newer_changes_nothing(hours: int) -> None:
    assert codes(read("pf", pair(64, "0.8", hours=2), refusal("pao2", hours=hours))) == ()


def test_another_specimen_does_not_displace() -> None:
    venous = refusal("pao2", hours=1, why="not-arterial", displaces=False)
    assert codes(read("pf", pair(64, "0.8", hours=2), venous)) == ()


@pytest.mark.parametrize("hours", [1, 2])
def test_after_conflicting_gases_no_older_or_charted_ratio_is_used(hours: int) -> None:
    reading = read(
        "pf", pair(64, "0.8", hours=3), measurement("pf", 80, hours=2), refusal("pao2", hours=hours, why="conflict")
    )
    unknown(reading, "conflict")
    assert reading.unreadable


def test_a_gas_after_the_conflict_settles_it() -> None:
    assert below(read("pf", pair(64, "0.8", hours=1), refusal("pao2", hours=2, why="conflict"))) is MET


def test_conflicting_charted_ratios_do_not_touch_the_computed_one_of_their_instant() -> None:
    reading = read("pf", pair(64, "0.8", hours=2), refusal("pf", hours=2, why="conflict"))
    assert (below(reading), codes(reading)) == (MET, ())
    unknown(read("pf", pair(64, "0.8", hours=3), refusal("pf", hours=2, why="conflict")), "conflict")


def test_refused_and_conflicting_charted_ratios_count_off_ecmo_only() -> None:
    for why in ("status-preliminary", "conflict"):
        reading = read("pf", pair(64, "0.8", hours=3), refusal("pf", hours=2, why=why), VV)
        assert (below(reading), codes(reading)) == (MET, ())


def test_a_conflict_outside_the_window_is_no_reason() -> None:
    unknown(read("pf", refusal("pao2", hours=13, why="conflict")), "gases-not-usable")


# --------------------------------------------------------------------------- charted ratios (reading 3.4)


def test_off_ecmo_a_newer_charted_ratio_decides_and_is_labelled() -> None:
    reading = read("pf", pair(64, "0.8", hours=5), measurement("pf", 130, hours=2))
    assert (reading.shown, below(reading)) == ("130 mmHg (charted)", NOT)
    assert reading.evidence[0].kind == "charted"


def test_at_one_instant_the_computed_ratio_decides() -> None:
    reading = read("pf", pair(64, "0.8", hours=2), measurement("pf", 81, hours=2))
    assert (reading.shown, codes(reading)) == ("80 mmHg (PaO2 64 at 11:00, FiO2 80 % at 11:00)", ())


@pytest.mark.parametrize(
    ("charted", "both"), [("88", ()), ("88.1", ("charted-differs",)), ("71.9", ("charted-differs",))]
)
def test_more_than_a_tenth_apart_both_are_shown(charted: str, both: tuple[str, ...]) -> None:
    reading = read("pf", pair(64, "0.8", hours=2), measurement("pf", charted, hours=2))
    assert codes(reading) == both
    assert below(reading) is MET


def test_a_charted_ratio_stands_in_for_the_missing_fio2_of_its_gas() -> None:
    reading = read("pf", pair(64, hours=2), measurement("pf", 80, hours=2))
    assert (reading.shown, codes(reading)) == ("80 mmHg (charted)", ())


@pytest.mark.parametrize("ecmo", [VV, VA, GENERIC])
def test_on_ecmo_a_charted_ratio_is_not_used(ecmo: Item) -> None:
    unknown(read("pf", measurement("pf", 80), ecmo), "never-measured")


def test_while_the_ecmo_state_is_unknown_a_charted_ratio_is_not_used() -> None:
    assert not read("pf", measurement("pf", 80), unread("procedures")).known
    assert read("pf", pair(64, "0.8"), unread("procedures")).known


# --------------------------------------------------------------------------- specimen (reading 3.5)


def test_a_gas_whose_code_alone_says_arterial_counts_off_ecmo() -> None:
    assert read("pf", pair(64, "0.8", specimen="")).known


@pytest.mark.parametrize("ecmo", [VV, unread("ecmo"), procedure("ecmo-vv", started=100)])
def test_on_ecmo_or_with_an_unknown_state_only_a_stated_arterial_specimen_counts(ecmo: Item) -> None:
    """A sample from the circuit carries the same code (reading 3.5)."""
    reading = read("pf", pair(64, "0.8", hours=1, specimen=""), ecmo)
    unknown(reading, "no-usable-pair")
    assert codes(reading) == ("gas-specimen-on-ecmo",)
    assert read("pf", pair(64, "0.8", hours=1), ecmo).known


def test_on_ecmo_the_older_gas_with_a_specimen_is_used_and_nothing_is_withheld() -> None:
    reading = read("pf", pair(50, "0.8", hours=1, specimen=""), pair(64, "0.8", hours=2), VV)
    assert reading.shown.startswith("80 mmHg")
    assert codes(reading) == ("gas-specimen-on-ecmo",)


# --------------------------------------------------------------------------- sources (reading 3.13)


def test_a_failed_source_leaves_the_ratio_unknown_and_the_ecmo_state_known() -> None:
    items = (pair(64, "0.8"), VV, unread("respiratory"))
    reading = read("pf", *items)
    assert (reading.known, reading.failed, reading.missing) == (False, True, ("pf",))
    assert read("ecmo_at_gas", *items).state == "vv"


def test_a_partial_answer_counts_when_it_reaches_past_the_window() -> None:
    assert read("pf", pair(64, "0.8"), partial("respiratory", reaches=ago(12))).known
    assert read("pf", pair(64, "0.8"), partial("respiratory", reaches=ago(11))).failed


# --------------------------------------------------------------------------- the clauses on ECMO (A3, A7, 3.7, 3.10)


@pytest.mark.parametrize(
    ("pao2", "fdo2", "finding"),
    [
        (150, "1", MET),
        (151, "1", NOT),
        (150, "0.9", OPEN),
        (151, "0.9", NOT),
        (99, "0.9", OPEN),
    ],
)
def test_on_veno_venous_ecmo_the_limit_is_150_with_the_oxygenator_at_full(
    pao2: int, fdo2: str, finding: Finding
) -> None:
    outcome = by_ratio(pair(pao2, 1), VV, measurement("ecmo_fdo2", fdo2, hours=3))
    assert outcome.finding is finding
    assert ("ecmo_fdo2" in outcome.missing) is (finding is OPEN)


def test_the_oxygenators_fraction_is_never_the_ventilators() -> None:
    outcome = by_ratio(pair(80, 1), VV)
    assert (outcome.finding, outcome.missing) == (OPEN, ("ecmo_fdo2",))


@pytest.mark.parametrize("ecmo", [VA, GENERIC])
def test_on_ecmo_not_known_to_be_veno_venous_the_ratio_is_undefined(ecmo: Item) -> None:
    reading = read("pf", pair(64, "0.8"), ecmo)
    unknown(reading, "pf-undefined-on-ecmo", "ecmo_status")
    outcome = severity(pair(64, "0.8"), ecmo, FULL)
    assert outcome.finding is OPEN
    assert "ecmo_status" in outcome.missing


def test_a_site_may_sign_that_its_generic_ecmo_is_veno_venous() -> None:
    assert severity(pair(140, 1), GENERIC, FULL, Overlay(generic_ecmo_is_veno_venous=True)).finding is MET


def test_compliance_decides_where_the_ratio_cannot() -> None:
    assert severity(pair(64, "0.8"), VA, measurement("crs", 30)).finding is MET
    assert severity(pair(90, "0.6"), measurement("crs", 30)).finding is MET
    assert severity(pair(90, "0.6"), measurement("crs", 31)).finding is NOT


def test_no_ecmo_on_record_counts_as_off_and_asks_for_confirmation() -> None:
    outcome = severity(pair(64, "0.8"))
    assert outcome.finding is MET
    assert [n.reason.code for n in outcome.notes] == ["confirm-no-ecmo"]


@pytest.mark.parametrize("source", [unread("procedures"), unread("ecmo"), partial("ecmo", reaches=ago(days=90))])
def test_a_failed_or_partial_source_says_nothing_about_ecmo(source: Item) -> None:
    outcome = severity(pair(64, "0.8"), source)
    assert (outcome.finding, outcome.failed) == (OPEN, True)
    assert "ecmo_status" in outcome.missing


def test_a_gas_from_before_the_last_start_of_ecmo_is_not_used() -> None:
    started = procedure("ecmo-vv", started=3)
    unknown(
        read("pf", pair(64, "0.8", hours=4), started, measurement("ecmo_fdo2", 1, hours=2)), "gas-before-ecmo-change"
    )
    assert read("pf", pair(64, "0.8", hours=3), started).known


def test_a_gas_from_before_the_last_stop_of_ecmo_is_not_used() -> None:
    stopped = procedure("ecmo-vv", status="completed", started=90, ended=3)
    unknown(read("pf", pair(140, 1, hours=4), stopped), "gas-before-ecmo-change")
    at_the_end = chart(pair(64, "0.8", hours=3), stopped)
    assert below(read_leaf(at_the_end, leaf("pf"))) is MET
    assert read_leaf(at_the_end, leaf("ecmo_at_gas")).state == "off"


def test_a_circuit_that_was_recorded_as_off_is_a_stop() -> None:
    sign, off = measurement("ecmo_flow", 4, hours=6), procedure("ecmo-generic", status="not-done", started=2)
    unknown(read("pf", pair(140, 1, hours=3), sign, off), "gas-before-ecmo-change")
    assert severity(pair(64, "0.8", hours=1), sign, off).finding is MET


def test_a_not_done_after_the_gas_with_no_start_before_means_off_at_the_gas() -> None:
    off = procedure("ecmo-generic", status="not-done", started=1)
    outcome = severity(pair(64, "0.8", hours=6), off)
    assert (outcome.finding, outcome.notes) == (MET, ())


def test_which_gas_decides_is_worked_out_once() -> None:
    one = chart(pair(64, "0.8"))
    assert gas.newest(one) == gas.newest(one)
    assert gas.newest(one).moment == ago(1)


# --------------------------------------------------------------------------- oxygenator FdO2 (reading 3.7)


def fdo2(*items: Item, drawn: float = 2) -> Reading:
    return read("ecmo_fdo2", pair(80, 1, hours=drawn), VV, *items)


def test_the_fraction_in_force_when_the_gas_was_drawn_counts() -> None:
    reading = fdo2(
        measurement("ecmo_fdo2", "0.8", hours=1),
        measurement("ecmo_fdo2", 1, hours=2),
        measurement("ecmo_fdo2", "0.7", hours=3),
    )
    assert (reading.shown, codes(reading)) == ("100 %", ())
    unknown(fdo2(measurement("ecmo_fdo2", 1, hours=1)), "not-recorded-at-gas", "ecmo_fdo2")


def test_a_fraction_of_a_period_that_contains_the_gas_is_in_force() -> None:
    whole_shift = measurement("ecmo_fdo2", 1, hours=0.5, period_start=ago(8))
    assert fdo2(whole_shift).shown == "100 %"


def test_without_a_gas_the_fraction_of_now_counts() -> None:
    assert read("ecmo_fdo2", VV, measurement("ecmo_fdo2", "0.6", hours=12)).shown == "60 %"
    unknown(read("ecmo_fdo2", VV, measurement("ecmo_fdo2", "0.6", hours=13)), "not-recorded-at-gas", "ecmo_fdo2")


def test_a_refused_fraction_between_the_one_used_and_the_gas_withholds() -> None:
    used = measurement("ecmo_fdo2", 1, hours=5)
    assert codes(fdo2(used, refusal("ecmo_fdo2", hours=3, source="ecmo"))) == ("newer-refused!",)
    assert codes(fdo2(used, refusal("ecmo_fdo2", hours=None, source="ecmo"))) == ("newer-refused!",)
    assert codes(fdo2(used, refusal("ecmo_fdo2", hours=1, source="ecmo"))) == ()
    assert codes(fdo2(used, refusal("ecmo_fdo2", hours=6, source="ecmo"))) == ()


def test_after_conflicting_fractions_no_older_one_is_used() -> None:
    reading = fdo2(measurement("ecmo_fdo2", 1, hours=5), refusal("ecmo_fdo2", hours=3, why="conflict", source="ecmo"))
    unknown(reading, "refused", "ecmo_fdo2")
    assert reading.unreadable


def test_a_refused_fraction_alone_is_the_reason() -> None:
    unknown(fdo2(refusal("ecmo_fdo2", hours=3, why="no-unit", source="ecmo")), "refused", "ecmo_fdo2")


def test_a_failed_source_leaves_the_fraction_unknown() -> None:
    reading = fdo2(FULL, unread("ecmo"))
    assert (reading.failed, reading.missing) == (True, ("ecmo_fdo2",))


# --------------------------------------------------------------------------- compliance (reading 3.6)


def crs(*items: Item, op: str = "<=", limit: int = 30) -> Reading:
    return read_leaf(chart(*items), leaf("crs", op, limit))


def decides(reading: Reading, limit: int = 30) -> Finding:
    assert reading.interval is not None
    return reading.interval.compared("<=", Decimal(limit))


@pytest.mark.parametrize(("value", "finding"), [("30", MET), ("30.1", NOT)])
def test_static_compliance_is_compared_inclusively(value: str, finding: Finding) -> None:
    assert decides(crs(measurement("crs", value))) is finding


def test_the_newest_of_charted_and_derived_is_used_and_charted_on_a_tie() -> None:
    derived = measurement("crs", "26.6667", hours=2, kind="derived")
    assert crs(measurement("crs", 35, hours=4), derived).shown == "26.7 mL/cmH2O (from Vt, plateau and PEEP)"
    assert crs(measurement("crs", 35, hours=2), derived).shown == "35 mL/cmH2O (static)"


def test_pressures_and_tidal_volume_of_one_time_make_a_static_compliance() -> None:
    settings = (measurement("vt", 400), measurement("pplat", 28), measurement("peep", 12, kind="total"))
    reading = read_leaf(chart(*settings, with_derived=True), leaf("crs", "<=", 30))
    assert (reading.shown, decides(reading)) == ("25 mL/cmH2O (from Vt, plateau and PEEP)", MET)


def test_a_plateau_not_above_peep_is_a_gap() -> None:
    settings = (measurement("vt", 400), measurement("pplat", 12), measurement("peep", 12, kind="total"))
    unknown(read_leaf(chart(*settings, with_derived=True), leaf("crs", "<=", 30)), "refused", "crs")


@pytest.mark.parametrize(
    ("kind", "value", "finding"),
    [
        ("lower-bound", "30.1", NOT),
        ("lower-bound", "30", None),
        ("upper-bound", "30", MET),
        ("upper-bound", "30.1", None),
    ],
)
def test_a_bound_takes_part_only_when_it_decides(kind: str, value: str, finding: Finding | None) -> None:
    reading = crs(measurement("crs", value, kind=kind))
    if finding is None:
        unknown(reading, "bound-does-not-decide", "crs")
        assert codes(reading) == ("bound-only",)
    else:
        assert decides(reading) is finding
        assert codes(reading) == ()


@pytest.mark.parametrize(
    ("kind", "comparator", "value", "finding"),
    [
        ("lower-bound", ">", 30, NOT),
        ("lower-bound", ">=", 45, NOT),
        ("lower-bound", "<", 45, None),
        ("lower-bound", "<=", 45, None),
        ("upper-bound", "<", 30, MET),
        ("upper-bound", "<=", 25, MET),
        ("upper-bound", ">", 25, None),
        ("upper-bound", ">=", 25, None),
    ],
)
def test_a_comparator_can_only_weaken_a_bound(
    kind: str, comparator: Comparator, value: int, finding: Finding | None
) -> None:
    reading = crs(measurement("crs", value, kind=kind, comparator=comparator))
    assert (decides(reading) if reading.known else None) is finding


def test_a_bound_that_does_not_decide_displaces_nothing_and_is_a_line() -> None:
    dynamic = measurement("crs", 22, hours=1, kind="lower-bound")
    reading = crs(measurement("crs", 28, hours=4), dynamic)
    assert (reading.shown, decides(reading), codes(reading)) == ("28 mL/cmH2O (static)", MET, ("bound-only",))


def test_a_newer_deciding_bound_decides_and_a_true_value_of_its_instant_beats_it() -> None:
    static = measurement("crs", 28, hours=2)
    newer = crs(static, measurement("crs", 45, hours=1, kind="lower-bound"))
    assert decides(newer) is NOT
    assert newer.shown == "45 mL/cmH2O (a lower bound: dynamic compliance or Vt/Pplat)"
    same = crs(static, measurement("crs", 45, hours=2, kind="lower-bound"))
    assert (decides(same), codes(same)) == (MET, ("bound-only",))


def test_bounds_that_contradict_each_other_are_a_conflict() -> None:
    lower, upper = measurement("crs", 45, kind="lower-bound"), measurement("crs", 28, kind="upper-bound", hours=2)
    reading = crs(lower, upper)
    unknown(reading, "bounds-contradict", "crs")
    assert reading.unreadable
    assert len(reading.evidence) == 2


def test_bounds_on_one_side_do_not_contradict_each_other() -> None:
    lower, upper = measurement("crs", 45, kind="lower-bound"), measurement("crs", 60, kind="upper-bound")
    assert decides(crs(lower, upper)) is NOT


def test_bounds_decide_by_the_threshold_that_is_asked() -> None:
    one = chart(measurement("crs", 45, kind="lower-bound"))
    assert read_leaf(one, leaf("crs", "<=", 30)).known
    assert not read_leaf(one, leaf("crs", "<=", 50)).known


@pytest.mark.parametrize("concept", ["crs", "pplat", "peep", "vt"])
def test_a_refused_newer_part_leaves_the_older_value_with_a_line_and_withholds(concept: str) -> None:
    static = measurement("crs", 28, hours=4)
    assert codes(crs(static, refusal(concept, hours=2, source="respiratory"))) == ("newer-refused!",)
    assert codes(crs(static, refusal(concept, hours=4, source="respiratory"))) == ()
    unknown(crs(refusal(concept, hours=2, source="respiratory")), "refused", "crs")


@pytest.mark.parametrize(("hours", "known"), [(2, False), (4, False), (5, True)])
def test_after_conflicting_compliances_nothing_older_is_used(hours: int, known: bool) -> None:
    assert crs(measurement("crs", 28, hours=4), refusal("crs", hours=hours, why="conflict")).known is known


def test_a_compliance_whose_method_is_not_stated_displaces_nothing() -> None:
    silent = refusal("crs", hours=1, why="method-not-stated", displaces=False)
    assert codes(crs(measurement("crs", 28, hours=4), silent)) == ()
    unknown(crs(silent), "no-compliance", "crs")


def test_compliance_lasts_twelve_hours() -> None:
    assert crs(measurement("crs", 28, hours=12)).known
    unknown(crs(measurement("crs", 28, at=when(12, minutes=1))), "stale", "crs")


def test_a_failed_source_leaves_compliance_unknown() -> None:
    reading = crs(measurement("crs", 28), unread("respiratory"))
    assert (reading.failed, reading.missing) == (True, ("crs",))


def test_on_ecmo_too_a_refused_newer_gas_withholds_and_a_conflict_leaves_it_unknown() -> None:
    used = pair(80, 1, hours=3)
    assert codes(read("pf", used, VV, refusal("pao2", hours=2))) == ("newer-refused!",)
    unknown(read("pf", used, VV, refusal("pao2", hours=2, why="conflict")), "conflict")
