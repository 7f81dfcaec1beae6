"""What is kept of a patient for a decision, and that the first form is still read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
import pytest

from app import kept
from app.kept import Asked
from fhir_mappings.facts import Facts, Measurement, Overlay, When

NOW = datetime(2026, 11, 23, 12, 0, 0, 250, tzinfo=UTC)
FACTS = Facts(
    asked_at=NOW,
    zone="Europe/Paris",
    measurements=(Measurement("crp", "Observation/1", When(NOW, NOW), value=Decimal("100.0"), unit="mg/L"),),
    overlay=Overlay(local_uln={"alt": Decimal("0.30")}, products={"urn:x|1": ("anakinra",)}),
)
ASKED = Asked(
    encounter="e1",
    until={"pilot-simple": NOW + timedelta(hours=1), "pilot-full": None},
    turns=(NOW,),
    orders={3: msgspec.Raw(b'{"dose":0.50,"resourceType":"MedicationRequest"}')},
)


def test_everything_comes_back_as_it_was() -> None:
    found = kept.decode(kept.encode(FACTS, ASKED, queries=["Patient/p"]))
    assert (found.form, found.facts, found.asked.encounter) == (2, FACTS, "e1")
    assert found.queries == ("Patient/p",)
    assert (dict(found.asked.until), found.asked.turns) == (dict(ASKED.until), ASKED.turns)
    assert {place: bytes(raw) for place, raw in found.asked.orders.items()} == {
        3: b'{"dose":0.50,"resourceType":"MedicationRequest"}'
    }
    assert str(found.facts.measurements[0].value) == "100.0"


def test_the_same_is_the_same_bytes() -> None:
    again = kept.decode(kept.encode(FACTS, ASKED))
    assert kept.encode(again.facts, again.asked) == kept.encode(FACTS, ASKED)


def test_bare_facts_are_the_first_form() -> None:
    found = kept.decode(msgspec.json.encode(FACTS))
    assert (found.form, found.facts, found.asked) == (1, FACTS, Asked())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "cannot be read"),
        (b"[]", "cannot be read"),
        (b'{"form":2,"facts":{}}', "cannot be read"),
        (b'{"form":3,"facts":{}}', "have form 3"),
        (b"\xff", "cannot be read"),
    ],
)
def test_what_it_cannot_read_is_said_without_its_content(content: bytes, said: str) -> None:
    with pytest.raises(kept.Unknown, match=said):
        kept.decode(content)
