"""`holds_until` against the assessment itself: nothing changes before it, something has right after it, none is missed.

The charts are those of the demo's patients, looked at from any hour around the story's own, with entries left out,
sources lost, and records dated ahead; "later" is always the same records mapped and assessed at that later moment.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import evaluate
from app.clinical import lasting
from app.clinical.assessment import assess
from app.clinical.findings import Finding
from app.clinical.lasting import Mapped
from app.gather import from_bundle
from app.sandbox import patients
from fhir_mappings import mapping
from fhir_mappings.context import Context
from fhir_mappings.facts import Facts
from fhir_mappings.mapping import Part
from tests.property.size import examples
from tests.property.test_clinical_properties import (
    CONTEXT,
    NOW,
    PATIENTS,
    PLAN,
    Resource,
    charts,
    key_of,
    knowledge,
    lost,
)
from tests.unit.app.bundles import bedside

Said: TypeAlias = dict[str, tuple[Finding, bool]]
pytestmark = pytest.mark.no_cover
SECOND = timedelta(seconds=1)
HOURS = (*range(1, 80), *range(80, 800, 9), 1000, 1439, 1441, 2016, 4319, 4321, 8761, 20_000)
"""How far ahead a scan looks, in hours: past every window, and then some birthdays."""


class Chart:
    """Records read at one moment, as a hook has them: mapped again at any other."""

    def __init__(self, resources: Iterable[Resource], patient: str, *, now: datetime, parts: Any = None) -> None:
        self.patient = patient
        self.now = now
        self.resources = tuple(resources)
        bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": r} for r in self.resources]}
        read = from_bundle(json.dumps(bundle).encode(), plan=PLAN, now=now, patient_id=patient)
        self.parts: Sequence[Part] = read if parts is None else parts(read)

    def mapped(self, moment: datetime) -> Mapped:
        """Facts and turns, the sources as they were read."""
        context = Context(now=moment, zone=CONTEXT.zone, overlay=CONTEXT.overlay)
        return Mapped(mapping.to_facts(self.parts, patient_id=self.patient, context=context), context.turns)

    def again(self, moment: datetime) -> Facts:
        """The facts when all is asked again then and answered in the same way."""
        facts = self.mapped(moment).facts
        return replace(
            facts,
            sources=tuple(
                replace(s, reaches=moment) if s.outcome == "partial" and s.reaches == self.now else s
                for s in facts.sources
            ),
        )

    def says(self, moment: datetime) -> Said:
        """Each verdict, with whether orders are offered."""
        found = assess(self.again(moment), knowledge=knowledge(), now=moment)
        return {p.protocol.id: (p.verdict, found.suggest) for p in found.protocols}

    def until(self) -> dict[str, datetime | None]:
        return lasting.until(
            self.mapped(self.now), facts_at=self.mapped, knowledge=knowledge(), now=self.now, steps=100_000
        )


def check(chart: Chart, moments: Iterable[datetime] = ()) -> None:
    """The promise, at the answer itself and at these moments."""
    now = chart.says(chart.now)
    until = chart.until()
    for protocol, moment in until.items():
        if moment is not None:
            before = moment - SECOND
            assert before < chart.now or chart.says(before)[protocol] == now[protocol], (protocol, moment)
            assert chart.says(moment + SECOND)[protocol] != now[protocol], (protocol, moment)
    for moment in moments:
        then = chart.says(moment)
        for protocol, end in until.items():
            assert (end is not None and moment >= end) or then[protocol] == now[protocol], (protocol, end, moment)


@pytest.mark.parametrize("patient", PATIENTS)
def test_what_a_scan_of_many_hours_finds_is_what_is_said(patient: str) -> None:
    chart = Chart(charts()[patient], patient, now=NOW)
    check(chart, (NOW + timedelta(hours=hours, minutes=7) for hours in HOURS[:: 1 if patient == PATIENTS[0] else 7]))


def ahead(hours: float) -> str:
    return (NOW + timedelta(hours=hours)).isoformat()


def _drug(patient: str, drug: str, kind: str, **more: Any) -> Resource:
    """A record about a drug by its name of the record; codes of the demo are not needed to make it run."""
    return {
        "resourceType": kind,
        "id": f"more-{drug}-{kind.lower()}",
        "subject": {"reference": f"Patient/{patient}"},
        "medicationCodeableConcept": {
            "coding": [{"system": "http://www.whocc.no/atc", "code": CODES[drug]}],
            "text": drug,
        },
        **more,
    }


CODES = {"prednisone": "H02AB07", "cisatracurium": "M03AC11", "anakinra": "L04AC03", "fluconazole": "J02AC01"}


@st.composite
def dated_ahead(draw: st.DrawFn, patient: str) -> tuple[Resource, ...]:
    """Records that say something else later."""
    soon = draw(st.sampled_from([-30, -26, -1, -0.9, 0.05, 0.2, 1, 5, 30]))
    lab: Resource = {
        "resourceType": "Observation",
        "id": "more-crp",
        "status": "final",
        "code": {
            "coding": [{"system": "http://loinc.org", "code": draw(st.sampled_from(["1988-5", "2276-4", "751-8"]))}]
        },
        "subject": {"reference": f"Patient/{patient}"},
        "effectiveDateTime": draw(st.sampled_from([ahead(soon), "2026-03-11", "2026-03-10"])),
        "valueQuantity": {"value": draw(st.sampled_from([1, 90, 5000])), "unit": "mg/L", "code": "mg/L"},
    }
    infusion = _drug(
        patient,
        draw(st.sampled_from(["cisatracurium", "anakinra", "fluconazole"])),
        "MedicationAdministration",
        status=draw(st.sampled_from(["in-progress", "completed"])),
        effectivePeriod={"start": ahead(min(soon, 1))}
        | draw(st.sampled_from([{}, {"end": ahead(2)}, {"end": ahead(40)}, {"end": "2026-03-12"}])),
    )
    order = _drug(
        patient,
        draw(st.sampled_from(["prednisone", "fluconazole"])),
        "MedicationRequest",
        status="active",
        intent="order",
        authoredOn=ahead(-24 * 28 + draw(st.sampled_from([-1, 0.5, 2, 30]))),
        dosageInstruction=[
            {
                "timing": {"repeat": {"frequency": 1, "period": 1, "periodUnit": "d"}},
                "doseAndRate": [{"doseQuantity": {"value": 40, "unit": "mg", "code": "mg"}}],
            }
        ],
    )
    procedure: Resource = {
        "resourceType": "Procedure",
        "id": "more-procedure",
        "status": draw(st.sampled_from(["in-progress", "completed", "not-done"])),
        "code": {
            "coding": [
                {
                    "system": "http://snomed.info/sct",
                    "code": draw(st.sampled_from(["431182000", "233573008", "265764009"])),
                }
            ]
        },
        "subject": {"reference": f"Patient/{patient}"},
        "performedPeriod": draw(
            st.sampled_from(
                [{"start": ahead(soon)}, {"start": ahead(-80), "end": ahead(soon)}, {"start": "2026-03-10"}]
            )
        ),
    }
    return tuple(
        draw(st.sets(st.sampled_from([0, 1, 2, 3])).map(lambda s: [(lab, infusion, order, procedure)[n] for n in s]))
    )


@st.composite
def changed(draw: st.DrawFn) -> Chart:
    """A demo patient, looked at from some hour, with entries left out, sources lost and records dated ahead."""
    patient = draw(st.sampled_from(PATIENTS))
    kinds = _kinds(patient)
    left_out = draw(st.sets(st.sampled_from(kinds), max_size=4))
    resources = [r for r in charts()[patient] if key_of(r) not in left_out]
    resources += draw(dated_ahead(patient))
    born = draw(st.sampled_from([None, None, "2008-03-12", "2008-03", "1970-03-11", "2014-03-11", "2026-03-11"]))
    if born is not None:
        resources = [r | {"birthDate": born} if r["resourceType"] == "Patient" else r for r in resources]
    now = NOW + timedelta(minutes=draw(st.integers(-60 * 20, 60 * 80)))
    which = draw(st.sets(st.integers(0, len(PLAN) - 1), max_size=2))
    how = draw(st.sampled_from(["failed", "any", "newest"]))

    def parts(read: Sequence[Part]) -> Sequence[Part]:
        return [_lost(part, how, now) if number in which else part for number, part in enumerate(read)]

    return Chart(resources, patient, now=now, parts=parts)


def _lost(part: Part, how: str, now: datetime) -> Part:
    """As another test loses it, asked at that moment."""
    cut = lost(part, how, [True] * 3)
    reaches = cut.source.reaches
    return (
        cut if reaches is None else replace(cut, source=replace(cut.source, reaches=now if reaches == NOW else reaches))
    )


@cache
def _kinds(patient: str) -> list[str]:
    return sorted({key_of(r) for r in charts()[patient] if r["resourceType"] != "Patient"})


@settings(max_examples=examples(60), deadline=None, derandomize=True)
@given(changed(), st.lists(st.integers(1, 60 * 24 * 90), max_size=5))
def test_nothing_changes_before_and_something_has_after(chart: Chart, minutes: list[int]) -> None:
    moments = [chart.now + timedelta(minutes=after) for after in minutes]
    end = min((moment for moment in chart.until().values() if moment is not None), default=None)
    if end is not None:
        moments += [chart.now + (end - chart.now) * share / 7 for share in range(1, 7)]
    check(chart, moments)


@settings(max_examples=examples(60), deadline=None, derandomize=True)
@given(changed())
def test_a_mapping_tells_every_instant_at_which_its_facts_become_others(chart: Chart) -> None:
    """Mapped with a `now` that notes what it is compared with: nothing but the turns is noted."""
    resources = [{k: v for k, v in r.items() if k != "birthDate"} for r in chart.resources]  # midnight is always noted
    same = Chart(resources, chart.patient, now=chart.now)
    watch = lasting._Watch(chart.now)
    context = Context(now=lasting._Now.at(chart.now, watch), zone=CONTEXT.zone, overlay=CONTEXT.overlay)

    mapping.to_facts(same.parts, patient_id=chart.patient, context=context)

    assert min(context.turns, default=lasting.NEVER) == watch.next
    turns = sorted(t for t in chart.mapped(chart.now).turns)
    facts = chart.mapped(chart.now).facts
    first = turns[0] if turns else chart.now + timedelta(days=400)
    just_before = chart.mapped(first - timedelta(microseconds=1)).facts
    assert replace(just_before, asked_at=chart.now) == facts


@pytest.mark.parametrize("patient", PATIENTS)
def test_no_rule_takes_a_number_out_of_an_age(patient: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not compared as a time span would not be noted; words for people may be made of it."""
    for name in ("total_seconds", "__floordiv__", "__truediv__", "__mod__", "__mul__", "__abs__"):
        monkeypatch.setattr(lasting._Age, name, _guarded(getattr(timedelta, name)))
    for name in ("days", "seconds", "microseconds"):
        monkeypatch.setattr(lasting._Age, name, property(_guarded(getattr(timedelta, name).__get__)))

    Chart(charts()[patient], patient, now=NOW).until()


def _guarded(take: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(*args: Any) -> Any:
        caller = sys._getframe(1).f_code
        assert caller.co_name in {"hours_text", "hours_since", "of"}, f"{caller.co_filename}: {caller.co_name}"
        return take(*args)

    return guarded


@pytest.mark.parametrize("patient", PATIENTS[::3])
def test_the_command_says_the_same_at_a_later_now(patient: str) -> None:
    """The whole path of `rescue-cds evaluate`: a second before `holds_until` as now, a second after it otherwise."""
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": r} for r in charts()[patient]]}
    raw = json.dumps(bundle).encode()

    def said(moment: datetime) -> dict[str, Any]:
        options = evaluate.Options(now=moment, zone=CONTEXT.zone, overlay=CONTEXT.overlay, patient=patient)
        answer = evaluate.document(raw, bedside=bedside(), options=options)
        offered = bool(answer["suggestions"])
        return {p["id"]: (p["verdict"], offered, p.get("holds_until")) for p in answer["protocols"] if p["verdict"]}

    now = said(NOW)
    for end in sorted({until for _, _, until in now.values() if until}):
        moment = datetime.fromisoformat(end)
        before, after = said(moment - SECOND), said(moment + SECOND)
        for protocol, (verdict, offered, until) in now.items():
            if until == end:
                assert before[protocol] == (verdict, offered, end)
                assert after[protocol][:2] != (verdict, offered)


def test_the_stories_have_answers_of_each_kind() -> None:
    """So that the tests above are about something."""
    ends = [Chart(charts()[p], p, now=NOW).until()["pilot-simple"] for p in PATIENTS[:8]]
    assert None in ends
    assert len(set(ends)) > 2
    assert len(patients.STORIES) == len(PATIENTS)
