"""Dates at both ends of the calendar, which some systems write for "no end" or "not known", stop no evaluation."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from app.clinical.lasting import HORIZON
from tests.unit.app.bundles import NOW, bundle, changed, evaluated, resources

ZONES = ("Europe/Paris", *(pytest.param(zone, marks=pytest.mark.no_cover) for zone in ("UTC", "America/New_York")))
FAR = ("9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z")
MEMBERS = {
    "Observation": ("effectiveDateTime", "effectivePeriod.end", "effectivePeriod.start"),
    "MedicationAdministration": ("effectiveDateTime", "effectivePeriod.start", "effectivePeriod.end"),
    "MedicationStatement": ("effectiveDateTime", "effectivePeriod.start", "effectivePeriod.end"),
    "MedicationRequest": ("authoredOn",),
    "Condition": ("onsetDateTime", "abatementDateTime", "recordedDate"),
    "Procedure": ("performedDateTime", "performedPeriod.start", "performedPeriod.end"),
    "Immunization": ("occurrenceDateTime",),
    "Patient": ("birthDate",),
}
ON_TREATMENT = "demo-day-7"
STORIES = ("demo-full-protocol", ON_TREATMENT)


def codes(resource: dict[str, Any]) -> set[str]:
    return {coding["code"] for coding in resource.get("code", {}).get("coding", ())}


def dated(resource: dict[str, Any], member: str, text: str) -> dict[str, Any]:
    """The resource with that date in place of its own."""
    outer, _, inner = member.partition(".")
    if not inner:
        choice = next(
            (stem for stem in ("effective", "performed", "onset", "abatement") if outer.startswith(stem)), None
        )
        kept = {name: value for name, value in resource.items() if choice is None or not name.startswith(choice)}
        return {**kept, outer: text}
    stem = outer.removesuffix("Period")
    began = resource.get(f"{stem}DateTime")
    period = resource.get(outer, {"start": began} if began else {})
    kept = {name: value for name, value in resource.items() if not name.startswith(stem)}
    return {**kept, outer: {**period, inner: text}}


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("kind", MEMBERS)
def test_every_record_of_a_type_may_be_dated_at_the_end_of_the_calendar(kind: str, zone: str) -> None:
    for patient_id in STORIES:
        for member in MEMBERS[kind]:
            for text in FAR:
                found = changed(patient_id, lambda r: dated(r, member, text) if r["resourceType"] == kind else r)  # noqa: B023
                answer = evaluated(bundle(found), zone=ZoneInfo(zone))
                assert len(answer["protocols"]) == 6, (patient_id, member, text)
                ends = [p["holds_until"] for p in answer["protocols"] if "holds_until" in p]
                assert all(moment <= "2200-12-31T23:59:59Z" for moment in ends)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("code", ["1988-5", "2703-7"])
@pytest.mark.parametrize("text", [*FAR, "9999-12-31T12:00:00", "9998", "0001"])
def test_one_more_result_dated_at_the_end_of_the_calendar(code: str, text: str, zone: str) -> None:
    records = resources("demo-full-protocol")
    pattern = next(r for r in records if code in codes(r))
    one_more = {**dated(pattern, "effectiveDateTime", text), "id": "far"}
    with_it = evaluated(bundle([*records, one_more]), zone=ZoneInfo(zone))
    assert len(with_it["protocols"]) == 6


@pytest.mark.parametrize("zone", ZONES)
def test_an_infusion_with_an_end_that_stands_for_none(zone: str) -> None:
    """Of a patient on treatment; the answer is that of an infusion whose end is not written."""

    def running(end: dict[str, str]) -> dict[str, Any]:
        def open_end(r: dict[str, Any]) -> dict[str, Any]:
            if r["resourceType"] != "MedicationAdministration":
                return r
            started = r.get("effectiveDateTime") or r["effectivePeriod"]["start"]
            kept = {name: value for name, value in r.items() if not name.startswith("effective")}
            return {**kept, "status": "in-progress", "effectivePeriod": {"start": started, **end}}

        return evaluated(bundle(changed(ON_TREATMENT, open_end)), zone=ZoneInfo(zone))

    never, unwritten = running({"end": "9999-12-31T23:59:59Z"}), running({})
    assert [p["verdict"] for p in never["protocols"]] == [p["verdict"] for p in unwritten["protocols"]]


@pytest.mark.parametrize("zone", ZONES)
def test_up_to_the_horizon_something_may_change_and_beyond_it_nothing_does(zone: str) -> None:
    """A CRP dated ahead comes into force, ten minutes early: the verdict was open without one."""

    def ends(moment: datetime) -> dict[str, str]:
        def ahead(r: dict[str, Any]) -> dict[str, Any] | None:
            if "1988-5" not in codes(r):
                return r
            newest = r["id"].endswith("-1")
            return dated(r, "effectiveDateTime", moment.isoformat().replace("+00:00", "Z")) if newest else None

        answer = evaluated(bundle(changed("demo-ferritin-above-range", ahead)), zone=ZoneInfo(zone))
        return {p["id"]: p.get("holds_until", "never") for p in answer["protocols"]}

    early = timedelta(minutes=10)
    assert ends(NOW + timedelta(hours=1))["pilot-simple"] == "2026-11-23T12:50:00Z"
    assert ends(HORIZON + early)["pilot-simple"] == "never"  # with every other value of the verdict long stale
    assert ends(datetime(9999, 12, 30, tzinfo=UTC))["pilot-simple"] == "never"
