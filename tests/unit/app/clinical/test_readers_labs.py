"""The newest usable laboratory value (readings 1, 3.2, 3.3, 3.9, 3.15)."""

from __future__ import annotations

from decimal import Decimal

import pytest

from app.clinical.findings import Finding
from app.clinical.readers.labs import shown
from app.clinical.reading import Reading
from fhir_mappings.facts import Overlay
from tests.unit.app.clinical.build import (
    Item,
    ago,
    codes,
    measurement,
    partial,
    read,
    refusal,
    source,
    unread,
    when,
    word,
)


def above(reading: Reading, limit: str) -> Finding:
    assert reading.interval is not None
    return reading.interval.compared(">", Decimal(limit))


def unknown(reading: Reading, code: str, *missing: str) -> None:
    assert not reading.known
    assert (reading.reason.code, reading.missing) == (code, missing)


# --------------------------------------------------------------------------- the newest value in its window (reading 1)


def test_the_newest_value_is_used_not_the_highest() -> None:
    reading = read("crp", measurement("crp", 300, hours=20), measurement("crp", 90, hours=2))
    assert (reading.shown, word(reading, "age")) == ("90 mg/L", "2 h")
    assert above(reading, "100") is Finding.NOT_MET
    assert not reading.displaced


@pytest.mark.parametrize(("name", "hours"), [("crp", 30), ("anc", 30), ("platelets", 30), ("ferritin", 72)])
def test_a_value_lasts_to_the_end_of_its_window(name: str, hours: int) -> None:
    assert read(name, measurement(name, 150, hours=hours)).known
    stale = read(name, measurement(name, 150, at=when(hours, minutes=1)))
    unknown(stale, "stale", name)
    assert word(stale, "limit") == ("3 d" if hours == 72 else "30 h")
    assert not stale.failed


def test_a_threshold_is_strict() -> None:
    assert above(read("crp", measurement("crp", 100)), "100") is Finding.NOT_MET
    assert above(read("crp", measurement("crp", "100.1")), "100") is Finding.MET


@pytest.mark.parametrize(("comparator", "finding"), [(">", Finding.MET), ("<", Finding.UNKNOWN)])
def test_a_bound_decides_only_with_certainty(comparator: str, finding: Finding) -> None:
    reading = read("ferritin", measurement("ferritin", 1650, comparator=comparator))  # type: ignore[arg-type]
    assert reading.shown == f"{comparator}1650 µg/L"
    assert above(reading, "1000") is finding


def test_never_measured_is_unknown() -> None:
    unknown(read("crp"), "never-measured", "crp")


def test_what_the_site_never_measures_says_so() -> None:
    unknown(read("ast", Overlay(not_measured=frozenset({"ast"}))), "not-measured-at-site", "ast")


# --------------------------------------------------------------------------- sources (reading 3.13)


@pytest.mark.parametrize("name", ["crp", "alt", "crcl"])
def test_a_failed_source_makes_it_unknown_whatever_is_there(name: str) -> None:
    reading = read(name, measurement(name, 50, uln=Decimal(40)), unread("labs"))
    assert not reading.known
    assert reading.failed
    assert reading.missing == ("renal" if name == "crcl" else name,)


@pytest.mark.parametrize(("reach", "known"), [(30, True), (29, False)])
def test_a_partial_answer_counts_when_it_reaches_past_the_window(reach: int, known: bool) -> None:
    reading = read("crp", measurement("crp", 150), partial("labs", reaches=ago(reach)))
    assert (reading.known, reading.failed) == (known, not known)


def test_a_source_the_site_lacks_is_not_a_failure() -> None:
    reading = read("crp", source("labs", "failed", why="absent-at-site"))
    unknown(reading, "source-absent", "crp")
    assert not reading.failed


# --------------------------------------------------------------------------- refused results (reading 3.3)


def test_a_refused_newer_result_leaves_the_older_value_with_a_line_and_withholds() -> None:
    reading = read(
        "crp", measurement("crp", 150, hours=5), refusal("crp", hours=1, why="no-unit", params=(("seen", "9"),))
    )
    assert above(reading, "100") is Finding.MET
    assert reading.displaced
    assert codes(reading) == ("newer-refused!",)
    assert dict(reading.notes[0].reason.params) == {"seen": "9", "input": "C-reactive protein", "why": "no-unit"}


@pytest.mark.parametrize("hours", [5, 6])
def test_a_refused_result_that_is_not_newer_changes_nothing(hours: int) -> None:
    """A preliminary result of the same instant is an earlier version of it (reading 3.2)."""
    reading = read("crp", measurement("crp", 150, hours=5), refusal("crp", hours=hours))
    assert (reading.displaced, reading.notes) == (False, ())


def test_only_refused_results_in_the_window_are_the_reason() -> None:
    recent = read("crp", measurement("crp", 150, hours=40), refusal("crp", hours=2))
    unknown(recent, "refused", "crp")
    assert recent.unreadable
    old = read("crp", measurement("crp", 150, hours=40), refusal("crp", hours=31))
    unknown(old, "stale", "crp")
    assert not old.unreadable


def test_a_retracted_or_future_result_does_not_displace() -> None:
    reading = read("crp", measurement("crp", 150), refusal("crp", why="future", displaces=False))
    assert not reading.displaced


# --------------------------------------------------------------------------- conflicts (reading 3.2)


@pytest.mark.parametrize("hours", [0.5, 1])
def test_after_a_conflict_nothing_older_is_used(hours: float) -> None:
    conflict = refusal("crp", hours=hours, why="conflict", params=(("values", "90 / 150"),))
    reading = read("crp", measurement("crp", 150, hours=1), conflict)
    unknown(reading, "refused", "crp")
    assert reading.unreadable
    assert word(reading, "values") == "90 / 150"


def test_a_result_after_the_conflict_settles_it() -> None:
    reading = read("crp", measurement("crp", 150, hours=1), refusal("crp", hours=2, why="conflict"))
    assert above(reading, "100") is Finding.MET
    assert not reading.displaced


def test_a_conflict_under_a_newer_refused_result_still_counts() -> None:
    items: tuple[Item, ...] = (measurement("crp", 150, hours=3), refusal("crp", hours=2, why="conflict"))
    unknown(read("crp", *items, refusal("crp", hours=1)), "refused", "crp")


# --------------------------------------------------------------------------- multiples of the limit (reading 3.9)


@pytest.mark.parametrize(("value", "finding"), [(200, Finding.NOT_MET), (201, Finding.MET)])
def test_transaminases_are_multiples_of_their_own_upper_limit(value: int, finding: Finding) -> None:
    reading = read("alt", measurement("alt", value, uln=Decimal(40), uln_origin="laboratory"))
    assert above(reading, "5") is finding
    assert reading.shown == f"{value} U/L (5.0 x upper limit 40, laboratory)"


def test_the_limit_belongs_to_the_value_used() -> None:
    older, newer = (
        measurement("ast", 90, hours=h, uln=Decimal(u), uln_origin="laboratory") for h, u in ((9, 10), (3, 45))
    )
    assert above(read("ast", older, newer), "2") is Finding.NOT_MET


def test_without_an_upper_limit_transaminases_are_unknown() -> None:
    reading = read("alt", measurement("alt", 200, hours=3, uln=Decimal(40)), measurement("alt", 20))
    unknown(reading, "no-upper-limit", "alt_uln")
    assert reading.evidence[0].value == "20"


def test_a_missing_transaminase_lacks_the_value_not_the_limit() -> None:
    unknown(read("alt"), "never-measured", "alt")


def test_a_refused_newer_transaminase_displaces_the_multiple() -> None:
    assert read("alt", measurement("alt", 50, hours=3, uln=Decimal(40)), refusal("alt", hours=1)).displaced


# --------------------------------------------------------------------------- creatinine clearance (reading 3.15)


def test_a_measured_clearance_has_no_label() -> None:
    reading = read("crcl", measurement("crcl", 40))
    assert (reading.shown, reading.notes) == ("40 mL/min", ())


def test_an_estimated_clearance_is_labelled() -> None:
    reading = read("crcl", measurement("crcl", "41.26", kind="estimated"))
    assert reading.shown == "41.3 mL/min"
    assert codes(reading) == ("estimated-clearance",)


def test_of_one_instant_the_measured_clearance_is_used() -> None:
    reading = read("crcl", measurement("crcl", 90, kind="estimated"), measurement("crcl", 40))
    assert reading.shown == "40 mL/min"


def test_an_egfr_is_shown_and_never_used() -> None:
    reading = read("crcl", measurement("egfr", 55, unit="mL/min/1.73m2"))
    unknown(reading, "never-measured", "renal")
    assert codes(reading) == ("egfr-is-not-clearance",)
    assert dict(reading.notes[0].reason.params)["value"] == "55 mL/min/1.73m2"
    assert read("crcl", measurement("egfr", 55, hours=31)).notes == ()
    assert read("crcl", measurement("egfr", 55), measurement("crcl", 60)).notes == ()


def test_without_a_clearance_a_refused_creatinine_or_weight_is_the_reason() -> None:
    for name in ("creatinine", "weight"):
        reading = read("crcl", refusal(name, hours=2, why="no-unit"))
        unknown(reading, "refused", "renal")
        assert reading.unreadable


def test_a_refused_creatinine_newer_than_the_clearance_displaces_it_and_a_refused_weight_does_not() -> None:
    clearance = measurement("crcl", 90, hours=5)
    assert read("crcl", clearance, refusal("creatinine", hours=1)).displaced
    assert not read("crcl", clearance, refusal("weight", hours=1)).displaced
    assert read("crcl", clearance, refusal("weight", hours=1, why="conflict")).known


# --------------------------------------------------------------------------- as the card prints it


def test_calculated_values_have_one_decimal_and_sent_ones_stay_as_they_are() -> None:
    assert shown(measurement("anc", "7.9256", kind="derived")) == "7.9 x 10⁹/L"
    assert shown(measurement("crp", "214.25")) == "214.25 mg/L"
    assert shown(measurement("sarscov2_pcr", coded="positive")) == "positive"


# --------------------------------------------------------------------------- neutrophils and leucocytes


def test_a_newer_leucocyte_count_below_the_neutrophils_takes_their_place_as_a_bound() -> None:
    reading = read("anc", measurement("anc", "7.9", hours=5), measurement("wbc", "0.3", hours=1))
    assert above(reading, "1.5") is Finding.NOT_MET
    assert reading.displaced
    assert reading.reason.code == "below-leucocytes"


@pytest.mark.parametrize(
    "total",
    [
        measurement("wbc", "0.3", hours=6),
        measurement("wbc", "9.0", hours=1),
        measurement("wbc", "0.3", hours=1, comparator="<"),
    ],
)
def test_an_older_a_higher_or_a_bounded_leucocyte_count_says_nothing(total: Item) -> None:
    reading = read("anc", measurement("anc", "7.9", hours=5), total)
    assert (reading.shown, reading.displaced) == ("7.9 x 10⁹/L", False)


def test_leucocytes_alone_are_no_neutrophils() -> None:
    unknown(read("anc", measurement("wbc", "0.3", hours=1)), "never-measured", "anc")
