"""What must hold for every patient: properties of the whole way from FHIR JSON to the verdicts.

The patients are the synthetic ones of the demo, whose charts are long and differ in units and codings; each example
changes one of them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import plan
from app.clinical.assessment import Assessment, assess
from app.clinical.findings import Finding, all_of
from app.clinical.knowledge import Knowledge
from app.gather import from_bundle
from app.protocols import loader
from app.sandbox import patients
from fhir_mappings import codebook
from fhir_mappings.context import Context
from fhir_mappings.facts import Facts, Overlay, Source
from fhir_mappings.mapping import Part, to_facts
from tests.property.size import examples

pytestmark = pytest.mark.no_cover
NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
CONTEXT = Context(now=NOW, zone=ZoneInfo("Europe/Paris"), overlay=Overlay())
PLAN = plan.plan(codebook.load("observations"), codebook.load("ingredients"))
PATIENTS = tuple(story.patient_id for story in patients.STORIES)
LIVING = tuple(story.patient_id for story in patients.STORIES if story.expect["outcome"] != "deceased")

IDS = {
    "pilot-simple": ["S-SEVERITY", "S-CRP", "S-FERRITIN"],
    "pilot-full": ["P-AGE", "P-COVID", "P-RESCUE", "P-SEVERITY", "P-CRP", "P-FERRITIN"],
}

Resource = dict[str, Any]
Unit = tuple[str, str]

some = settings(max_examples=examples(100), deadline=None, derandomize=True)


@dataclass(frozen=True, slots=True)
class Quantity:
    """A laboratory quantity: LOINC, canonical unit, the factors of exactly convertible units, its possible values.

    A value in a unit is the canonical value times the factor.
    """

    code: str
    canonical: str
    factors: Mapping[str, Decimal]
    values: tuple[int, int]


_COUNT = {
    "10*9/L": Decimal(1),
    "10*3/uL": Decimal(1),
    "/nL": Decimal(1),
    "G/L": Decimal(1),
    "/uL": Decimal(1000),
    "/mm3": Decimal(1000),
}
_ENZYME = {"U/L": Decimal(1), "UI/L": Decimal(1), "[IU]/L": Decimal(1)}
QUANTITIES: Mapping[str, Quantity] = {
    "crp": Quantity(
        *("1988-5", "mg/L", {"mg/L": Decimal(1), "mg/dL": Decimal("0.1"), "ug/mL": Decimal(1)}), values=(0, 1000)
    ),
    "ferritin": Quantity(
        *("2276-4", "ug/L"),
        {"ug/L": Decimal(1), "ng/mL": Decimal(1), "ug/dL": Decimal("0.1"), "mg/L": Decimal("0.001")},
        values=(1, 200_000),
    ),
    "anc": Quantity("751-8", "10*9/L", _COUNT, values=(0, 200)),
    "platelets": Quantity("777-3", "10*9/L", _COUNT, values=(1, 2000)),
    "alt": Quantity("1742-6", "U/L", _ENZYME, values=(1, 20_000)),
    "ast": Quantity("1920-8", "U/L", _ENZYME, values=(1, 20_000)),
    "fio2": Quantity("19994-3", "1", {"1": Decimal(1), "%": Decimal(100)}, values=(1, 1)),
}
BY_CODE = {quantity.code: name for name, quantity in QUANTITIES.items()}


# --- the way from resources to an assessment


@cache
def knowledge() -> Knowledge:
    """The shipped knowledge."""
    return loader.load().knowledge


@cache
def charts() -> Mapping[str, tuple[Resource, ...]]:
    """Every synthetic patient's resources."""
    found: dict[str, list[Resource]] = {patient: [] for patient in PATIENTS}
    shared = []
    for resource in patients.bundle(NOW):
        subject = resource.get("subject") or resource.get("patient") or {}
        owner = resource["id"] if resource["resourceType"] == "Patient" else subject.get("reference", "")
        owner = owner.removeprefix("Patient/")
        if owner in found:
            found[owner].append(resource)
        elif resource["resourceType"] == "Medication":
            shared.append(resource)
    return {patient: (*own, *shared) for patient, own in found.items()}


def parts_of(resources: Iterable[Resource], patient: str) -> tuple[Part, ...]:
    """The sources of a Bundle of these resources."""
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": r} for r in resources]}
    return from_bundle(json.dumps(bundle).encode(), plan=PLAN, now=NOW, patient_id=patient)


def facts_of(parts: Sequence[Part], patient: str) -> Facts:
    """The facts of these sources."""
    return to_facts(parts, patient_id=patient, context=CONTEXT)


def judged(facts: Facts) -> Assessment:
    """The assessment of these facts."""
    return assess(facts, knowledge=knowledge(), now=NOW)


def assessment(resources: Iterable[Resource], patient: str) -> Assessment:
    """The assessment of these resources."""
    return judged(facts_of(parts_of(resources, patient), patient))


@cache
def original(patient: str) -> Assessment:
    """The assessment of a patient as the story tells it."""
    return assessment(charts()[patient], patient)


def findings(found: Assessment) -> dict[str, Finding]:
    """Every verdict, criterion and safety finding by its id."""
    verdicts = {p.protocol.id: p.verdict for p in found.protocols}
    criteria = {c.id: c.finding for p in found.protocols for c in p.criteria}
    return verdicts | criteria | {s.rule.id: s.finding for s in found.safety}


def verdicts(found: Assessment) -> dict[str, Finding]:
    """Every verdict and criterion by its id."""
    return {key: value for key, value in findings(found).items() if not key.startswith(("CI-", "MON-"))}


def quantity_of(resource: Resource) -> str:
    """The name of the laboratory quantity of an Observation with a number, else ''."""
    if resource["resourceType"] != "Observation" or "valueQuantity" not in resource:
        return ""
    return next((BY_CODE[c["code"]] for c in resource["code"]["coding"] if c["code"] in BY_CODE), "")


def unit_of(resource: Resource) -> str:
    """The unit as the table above names it."""
    value = resource["valueQuantity"]
    unit = str(value.get("code") or value["unit"])
    return unit.replace("µ", "u")


def in_unit(resource: Resource, unit: str, factors: Mapping[str, Decimal]) -> Resource:
    """The same result reported in another unit: the same number, exactly."""
    value = resource["valueQuantity"]
    number = Decimal(str(value["value"])) / factors[unit_of(resource)] * factors[unit]
    return resource | {"valueQuantity": value | {"value": float(number), "unit": unit, "code": unit}}


def result(name: str, value: Decimal, unit: str, *, patient: str, when: datetime) -> Resource:
    """One more result of a quantity."""
    quantity = QUANTITIES[name]
    return {
        "resourceType": "Observation",
        "id": f"added-{name}",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": quantity.code}]},
        "subject": {"reference": f"Patient/{patient}"},
        "effectiveDateTime": when.isoformat(),
        "valueQuantity": {
            "value": float(value * quantity.factors[unit]),
            "unit": unit,
            "code": unit,
            "system": "http://unitsofmeasure.org",
        },
    }


# --- properties

LAB_NAMES = ("crp", "ferritin", "anc", "platelets", "alt", "ast")


@st.composite
def older_results(draw: st.DrawFn) -> tuple[str, Resource]:
    """A patient, and a result of a quantity that is older than the one in use."""
    measured = [(p, name, at) for p in LIVING for name in LAB_NAMES if (at := newest(p, name)) is not None]
    patient, name, before = draw(st.sampled_from(measured))
    quantity = QUANTITIES[name]
    within_its_window = st.integers(1, 60 * 24)
    when = before - timedelta(minutes=draw(st.one_of(within_its_window, st.integers(1, 60 * 24 * 40))))
    low, high = quantity.values
    value = Decimal(draw(st.one_of(st.sampled_from([low, high]), st.integers(low, high))))
    unit = draw(st.sampled_from(sorted(quantity.factors)))
    return patient, result(name, value, unit, patient=patient, when=when)


@cache
def newest(patient: str, name: str) -> datetime | None:
    """The time of the newest result of a quantity."""
    found = facts_of(parts_of(charts()[patient], patient), patient).of(name)
    return found[0].when.earliest if found else None


@some
@given(older_results())
def test_an_older_result_changes_nothing(example: tuple[str, Resource]) -> None:
    patient, older = example
    before, after = original(patient), assessment((*charts()[patient], older), patient)

    assert findings(after) == findings(before)
    assert (after.suggest, after.row, after.withheld) == (before.suggest, before.row, before.withheld)


@some
@given(st.sampled_from(PATIENTS), st.data())
def test_the_reporting_unit_changes_nothing(patient: str, data: st.DataObject) -> None:
    units = {name: data.draw(st.sampled_from(sorted(q.factors)), label=name) for name, q in QUANTITIES.items()}
    changed = [
        in_unit(resource, units[name], QUANTITIES[name].factors) if (name := quantity_of(resource)) else resource
        for resource in charts()[patient]
    ]
    before, after = original(patient), assessment(changed, patient)

    assert findings(after) == findings(before)
    assert (after.suggest, after.row, after.withheld) == (before.suggest, before.row, before.withheld)
    shown = [(e.concept, e.value, e.unit) for p in before.protocols for c in p.criteria for e in c.outcome.evidence]
    assert shown == [
        (e.concept, e.value, e.unit) for p in after.protocols for c in p.criteria for e in c.outcome.evidence
    ]


@some
@given(st.sampled_from(PATIENTS), st.randoms(use_true_random=False))
def test_the_order_of_the_entries_changes_nothing(patient: str, order: random.Random) -> None:
    entries = list(charts()[patient])
    order.shuffle(entries)

    assert assessment(entries, patient) == original(patient)


def lost(part: Part, how: str, kept: Sequence[bool]) -> Part:
    """The same source, failed or cut off: `any` entries are kept, or the newest."""
    if how == "failed":
        return Part(replace(part.source, outcome="failed", why="timeout", reaches=None))
    source = Source(part.source.key, part.source.resource_type, "partial", "more-pages", NOW)
    if how == "any":
        chosen = zip(part.resources, kept, strict=False)
        return Part(source, tuple(raw for raw, keep in chosen if keep))
    dated = sorted(((moment(raw), raw) for raw in part.resources), key=lambda pair: pair[0], reverse=True)
    dated = dated[: 1 + sum(kept)]
    reaches = dated[-1][0] if dated else NOW
    return Part(replace(source, reaches=min(reaches, NOW)), tuple(raw for _, raw in dated))


def moment(raw: bytes) -> datetime:
    """The instant by which a server sorts a resource."""
    resource = json.loads(raw)
    period = resource.get("effectivePeriod") or resource.get("performedPeriod") or {}
    single = (resource.get(name) for name in ("effectiveDateTime", "authoredOn", "performedDateTime"))
    text = next((t for t in single if t), None) or period.get("end") or resource.get("occurrenceDateTime")
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return NOW
    return found if found.tzinfo else NOW


def holders(parts: Sequence[Part], keys: Iterable[str]) -> set[str]:
    """The resource types of which one of these parts holds everything: in a Bundle the first need of a type does, and
    to lose what it holds is to lose every source of that type."""
    return {part.source.resource_type for part in parts if part.source.key in keys and part.resources}


@settings(some, max_examples=examples(150))
@given(st.sampled_from(PATIENTS), st.data())
def test_a_source_that_is_lost_never_makes_met_nor_adds_a_suggestion(patient: str, data: st.DataObject) -> None:
    resources = list(charts()[patient])
    left_out = data.draw(st.sets(st.sampled_from([*BY_CODE, "94500-6", "76259-1", "2703-7"]), max_size=2))
    resources = [r for r in resources if not left_out & codes_of(r)]
    parts = parts_of(resources, patient)
    keys = data.draw(st.sets(st.sampled_from([p.source.key for p in parts]), min_size=1, max_size=2), label="lost")
    keys |= {p.source.key for p in parts if p.source.resource_type in holders(parts, keys)}
    changed = []
    for part in parts:
        if part.source.key in keys:
            how = data.draw(st.sampled_from(["failed", "any", "newest"]))
            kept = data.draw(st.lists(st.booleans(), min_size=len(part.resources), max_size=len(part.resources)))
            part = lost(part, how, kept)
        changed.append(part)

    before, after = judged(facts_of(parts, patient)), judged(facts_of(changed, patient))

    was = verdicts(before)
    became_met = {key for key, value in verdicts(after).items() if value is Finding.MET and was[key] is not value}
    assert became_met == set()
    assert before.suggest or not after.suggest


@pytest.mark.parametrize("patient", LIVING)
def test_each_source_that_fails_alone_never_makes_met_nor_adds_a_suggestion(patient: str) -> None:
    parts = parts_of(charts()[patient], patient)
    before = original(patient)

    for part in parts:
        gone = holders(parts, {part.source.key})
        changed = [lost(p, "failed", ()) if p is part or p.source.resource_type in gone else p for p in parts]
        after = judged(facts_of(changed, patient))
        assert not [k for k, v in verdicts(after).items() if v is Finding.MET and verdicts(before)[k] is not v]
        assert before.suggest or not after.suggest, part.source.key


def codes_of(resource: Resource) -> set[str]:
    """The codes of an Observation, of any system."""
    if resource["resourceType"] != "Observation":
        return set()
    return {coding["code"] for coding in resource["code"].get("coding", ())}


@some
@given(st.sampled_from(PATIENTS), st.sampled_from(["crp", "ferritin"]), st.integers(0, 200_000), st.data())
def test_raising_a_value_never_unmeets(patient: str, name: str, to: int, data: st.DataObject) -> None:
    quantity = QUANTITIES[name]
    unit = data.draw(st.sampled_from(sorted(quantity.factors)))
    changed = []
    for resource in charts()[patient]:
        if quantity_of(resource) == name:
            now = resource["valueQuantity"]
            number = Decimal(str(now["value"])) / quantity.factors[unit_of(resource)]
            raised = max(number, min(Decimal(to), Decimal(quantity.values[1])))
            number = raised * quantity.factors[unit]
            resource = resource | {"valueQuantity": now | {"value": float(number), "unit": unit, "code": unit}}
        changed.append(resource)
    before, after = verdicts(original(patient)), verdicts(assessment(changed, patient))

    assert {key for key, value in before.items() if value is Finding.MET and after[key] is not Finding.MET} == set()


@some
@given(st.sampled_from(PATIENTS), st.data())
def test_every_verdict_lists_every_criterion_whatever_is_missing(patient: str, data: st.DataObject) -> None:
    kinds = sorted({key_of(r) for r in charts()[patient]})
    left_out = data.draw(st.sets(st.sampled_from(kinds), max_size=len(kinds)))
    found = assessment([r for r in charts()[patient] if key_of(r) not in left_out], patient)

    listed = {p.protocol.id: [c.id for c in p.criteria] for p in found.protocols}
    assert listed == {p.id: [c.id for c in p.criteria] for p in knowledge().protocols}
    assert {name: listed[name] for name in IDS} == IDS
    for protocol in found.protocols:
        assert protocol.verdict is all_of(c.finding for c in protocol.criteria if not c.criterion.part_of)
        assert bool(protocol.missing) is (protocol.verdict is Finding.UNKNOWN)
        for criterion in protocol.criteria:
            assert bool(criterion.outcome.missing) is (criterion.finding is Finding.UNKNOWN)
            assert criterion.outcome.because
    for safety in found.safety:
        assert bool(safety.outcome.missing) is (safety.finding is Finding.UNKNOWN)
    assert not found.suggest or found.protocol("pilot-simple").verdict is Finding.MET
    assert not (found.suggest and any(s.rule.severity == "absolute" for s in found.present))


def key_of(resource: Resource) -> str:
    """What a resource is, for leaving all of its kind out: its type, and the code of an Observation."""
    return " ".join((resource["resourceType"], *sorted(codes_of(resource))))


@some
@given(st.lists(st.sampled_from(["ok", "empty", "failed", "partial"]), min_size=len(PLAN), max_size=len(PLAN)))
def test_no_input_at_all_is_unknown_and_never_not_met(outcomes: list[Any]) -> None:
    reaches = {"partial": NOW}
    sources = [
        Source(need.key, need.resource_type, outcome, reaches=reaches.get(outcome))
        for need, outcome in zip(PLAN, outcomes, strict=True)
    ]

    found = judged(facts_of([Part(source) for source in sources], "nobody"))

    said = verdicts(found)
    pilot = [*IDS, *(id_ for ids in IDS.values() for id_ in ids)]
    assert {said[name] for name in pilot} == {Finding.UNKNOWN}
    # An empty problem list closes two routes of the trial, and its exclusions but for a person's word (reading 3.16).
    closed = {"R-EV-MYOCARDITIS", "R-EV-HLH"}
    assert {name for name, finding in said.items() if finding is Finding.NOT_MET} <= closed
    asked = {c.id for p in found.protocols for c in p.protocol.criteria if c.confirm}
    assert {name for name, finding in said.items() if finding is Finding.MET} <= asked
    assert (found.suggest, found.safety_card) == (False, False)


@some
@given(st.sampled_from(PATIENTS), st.randoms(use_true_random=False))
def test_facts_survive_their_record_and_can_be_judged_again(patient: str, choice: random.Random) -> None:
    resources = [r for r in charts()[patient] if choice.random() > 0.1]
    facts = facts_of(parts_of(resources, patient), patient)

    again = msgspec.json.decode(msgspec.json.encode(facts), type=Facts)

    assert again == facts
    assert judged(again) == judged(facts)
