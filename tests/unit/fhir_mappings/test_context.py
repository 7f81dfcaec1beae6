"""The context of a mapping."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fhir_mappings.facts import When
from tests.unit.fhir_mappings.build import NOW, ago, context


@pytest.mark.parametrize("text", [None, "", "soon", "2026-02-30"])
def test_no_date_is_none(text: str | None) -> None:
    assert context().when(text) is None


def test_a_date_is_read_in_the_zone_of_the_facility() -> None:
    found = context().when("2026-03-10")
    assert found is not None
    assert found.earliest.isoformat() == "2026-03-09T23:00:00+00:00"
    assert context().when(ago(hours=1)) == When(NOW - timedelta(hours=1), NOW - timedelta(hours=1))


@pytest.mark.parametrize(("minutes", "future"), [(10, False), (10.01, True), (-1, False)])
def test_the_future_starts_after_ten_minutes(minutes: float, future: bool) -> None:
    moment = NOW + timedelta(minutes=minutes)
    assert context().is_future(When(moment, moment + timedelta(days=1))) is future
