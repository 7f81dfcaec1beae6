"""What one input reads as: evidence, reasons, and numbers as text."""

from __future__ import annotations

from decimal import Decimal

import pytest

from app.clinical.intervals import Interval
from app.clinical.reading import Evidence, Note, Reading, Reason, decimal_text, unit_text
from tests.unit.app.clinical.build import ago, measurement


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("262", "262"),
        ("262.50", "262.5"),
        ("100.000", "100"),
        ("100", "100"),
        ("1E+3", "1000"),
        ("0.00", "0"),
        ("0.000001", "0.000001"),
        ("27.857142857142857", "27.857143"),
        ("-2.0", "-2"),
        ("200000", "200000"),
    ],
)
def test_a_number_has_neither_exponent_nor_trailing_zeros(value: str, text: str) -> None:
    assert decimal_text(Decimal(value)) == text


def test_units_are_printed_as_clinicians_write_them() -> None:
    assert (unit_text("mm[Hg]"), unit_text("ug/L"), unit_text("mg/L")) == ("mmHg", "µg/L", "mg/L")


def test_the_evidence_of_a_number_keeps_canonical_and_original() -> None:
    evidence = Evidence.measured(
        measurement("ferritin", "1650.0", hours=8, comparator=">", original=">1650 ng/mL", label="Ferritin")
    )

    assert (evidence.value, evidence.unit, evidence.comparator) == ("1650", "ug/L", ">")
    assert (evidence.original, evidence.effective, evidence.label) == (">1650 ng/mL", ago(8), "Ferritin")


def test_the_evidence_of_an_answer_is_the_answer() -> None:
    evidence = Evidence.measured(measurement("sarscov2_pcr", coded="positive"))

    assert (evidence.value, evidence.unit, evidence.original) == ("", "", "positive")


def test_a_reading_is_known_by_a_number_or_a_state() -> None:
    reason = Reason.of("value", value=1)

    assert Reading(reason, interval=Interval.of(1)).known
    assert Reading(reason, state="on").known
    assert not Reading(reason).known


def test_words_of_a_reason_are_text_in_their_order() -> None:
    assert Reason.of("value", value=Decimal("1.5"), age=2).params == (("value", "1.5"), ("age", "2"))


def test_notes_are_added_not_replaced() -> None:
    first, second = Note(Reason.of("a")), Note(Reason.of("b"), withholds=True)

    assert Reading(Reason.of("value"), notes=(first,)).with_notes(second).notes == (first, second)
