"""Kleene's three values: unknown is never turned into yes or no (clinical 1.1.2)."""

from __future__ import annotations

import pytest

from app.clinical.findings import Finding, all_of, any_of, negate

MET, NOT, OPEN = Finding.MET, Finding.NOT_MET, Finding.UNKNOWN


@pytest.mark.parametrize(
    ("one", "other", "both", "either"),
    [
        (MET, MET, MET, MET),
        (MET, NOT, NOT, MET),
        (MET, OPEN, OPEN, MET),
        (NOT, NOT, NOT, NOT),
        (NOT, OPEN, NOT, OPEN),
        (OPEN, OPEN, OPEN, OPEN),
    ],
)
def test_truth_table(one: Finding, other: Finding, both: Finding, either: Finding) -> None:
    assert all_of([one, other]) is all_of([other, one]) is both
    assert any_of([one, other]) is any_of([other, one]) is either


def test_of_no_questions_all_are_met_and_none_is() -> None:
    assert all_of([]) is MET
    assert any_of([]) is NOT


@pytest.mark.parametrize(("finding", "opposite"), [(MET, NOT), (NOT, MET), (OPEN, OPEN)])
def test_unknown_is_its_own_opposite(finding: Finding, opposite: Finding) -> None:
    assert negate(finding) is opposite


def test_all_of_the_opposites_is_the_opposite_of_any() -> None:
    for one in Finding:
        for other in Finding:
            assert negate(any_of([one, other])) is all_of([negate(one), negate(other)])


@pytest.mark.parametrize(("finding", "word"), [(MET, "present"), (NOT, "absent"), (OPEN, "unknown")])
def test_safety_findings_use_words_of_presence(finding: Finding, word: str) -> None:
    assert finding.presence == word
