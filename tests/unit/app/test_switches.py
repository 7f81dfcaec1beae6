"""The switches of a call come back from the record as they were."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from app import switches
from app.settings import Snooze, dev

BASE = dev(fhir_urls=["http://127.0.0.1:8080/fhir"], timezone="Asia/Tokyo")


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(BASE, id="as they are"),
        pytest.param(replace(BASE, silenced=frozenset({"pilot-full", "orders"})), id="silenced"),
        pytest.param(replace(BASE, silent=frozenset({"all"}), not_evaluated_as="card"), id="silent"),
        pytest.param(replace(BASE, snooze=Snooze(1.5, frozenset({"safety", "course"}))), id="snoozed"),
        pytest.param(replace(BASE, suggest_on="pilot-full", public_url="https://cds.example.org"), id="published"),
    ],
)
def test_they_come_back(settings: object) -> None:
    assert isinstance(settings, type(BASE))
    made = switches.of(settings, settings.anonymous)
    found = switches.read({switches.KEY: msgspec.json.decode(msgspec.json.encode(made.document()))})
    assert found == made
    assert (found.snooze, found.zone, found.suggest_on) == (settings.snooze, "Asia/Tokyo", settings.suggest_on)
    assert (set(found.silenced), set(found.silent)) == (settings.silenced, settings.silent)
    assert set(found.modes) == settings.anonymous.modes
    assert found.published_at == settings.published_at


def test_a_record_from_before_has_none() -> None:
    assert switches.read({"gather": "parallel"}) is None


def test_what_they_are_not_is_refused() -> None:
    with pytest.raises(ValueError, match="suggest_on"):
        switches.read({switches.KEY: {"zone": "UTC"}})
