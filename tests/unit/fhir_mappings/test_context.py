"""The context of a mapping."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from fhir_mappings import mapping
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


def test_an_instant_still_to_come_is_kept_as_a_turn() -> None:
    """A reader who acts later has to know when the same records begin to say something else."""
    one = context()
    ahead = NOW + timedelta(hours=2)

    assert one.is_past(NOW)
    assert not one.is_past(ahead)
    assert one.is_future(When(ahead, ahead))
    assert not one.is_future(When(NOW, ahead))
    assert one.turns == {ahead, ahead - timedelta(minutes=10)}


def test_a_day_of_the_facility_begins_at_its_midnight() -> None:
    one = context()
    today = NOW.astimezone(one.zone).date()

    assert not one.is_future_day(today)
    assert one.is_future_day(today + timedelta(days=1))
    assert [turn.astimezone(one.zone).isoformat()[11:16] for turn in one.turns] == ["00:00"]


def test_mappings_compare_with_now_through_the_context_only() -> None:
    """What is compared in any other way would change facts without a turn."""
    folder = Path(mapping.__file__).parent
    others = {path.name for path in folder.glob("*.py") if re.search(r"context\.now\b", path.read_text("utf-8"))}
    # As the moment of asking, and as the day from which an order without a start is counted: no verdict hangs on that.
    assert others == {"mapping.py", "draft_orders.py"}
    assert Path(mapping.__file__).read_text("utf-8").count("context.now") == 1
