"""What is loaded once at start."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest

from app import knowledge, names
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


def test_the_services_say_what_they_are_not() -> None:
    services = {service.id: service for service in bedside().services}
    assert {id_: service.hook for id_, service in services.items()} == {
        names.PATIENT_VIEW: "patient-view",
        names.ORDER_SELECT: "order-select",
        names.ORDER_SIGN: "order-sign",
    }
    for service in services.values():
        assert "unproven" in service.description
        assert "not a medical device" in service.description
    assert set(services[names.PATIENT_VIEW].prefetch) == {need.key for need in bedside().needs}


def test_order_hooks_ask_for_what_their_checks_read_and_no_more() -> None:
    asked = {need.key for need in bedside().order_plan_for(Overlay())}
    assert asked == {need.key for need in bedside().needs} - {"respiratory", "vitals", "ecmo"}
    for service in bedside().services[1:]:
        assert set(service.prefetch) == asked


def test_the_version_is_the_installed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> str:
        raise PackageNotFoundError

    monkeypatch.setattr(knowledge, "version", missing)
    assert knowledge.load().version == "unknown"


def test_markdown_and_json_have_words_of_their_own() -> None:
    assert bedside().words.why("no-unit", {"seen": "*"}) == "no unit (\\*)"
    assert bedside().plain.why("no-unit", {"seen": "*"}) == "no unit (*)"
