"""What is loaded once at start."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest

from app import knowledge
from fhir_mappings.facts import Overlay
from tests.unit.app.bundles import bedside


def test_a_sites_codes_are_asked_for() -> None:
    overlay = Overlay(codes={"urn:example:lab|CRP-1": ("crp", "")})
    labs = {need.key: need for need in bedside().plan_for(overlay)}["labs"]
    (codes,) = [value for name, value in labs.params if name == "code"]
    assert "urn:example:lab|CRP-1" in codes
    assert "http://loinc.org|1988-5" in codes
    assert [need.key for need in bedside().plan_for(overlay)] == [need.key for need in bedside().needs]
    assert bedside().plan_for(Overlay()) is bedside().needs


def test_the_service_says_what_it_is_not() -> None:
    (service,) = bedside().services
    assert (service.hook, service.id) == (knowledge.HOOK, knowledge.PATIENT_VIEW)
    assert "unproven" in service.description
    assert "not a medical device" in service.description
    assert set(service.prefetch) == {need.key for need in bedside().needs}


def test_the_version_is_the_installed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> str:
        raise PackageNotFoundError

    monkeypatch.setattr(knowledge, "version", missing)
    assert knowledge.load().version == "unknown"


def test_markdown_and_json_have_words_of_their_own() -> None:
    assert bedside().words.why("no-unit", {"seen": "*"}) == "no unit (\\*)"
    assert bedside().plain.why("no-unit", {"seen": "*"}) == "no unit (*)"
