"""Scope first: what makes the first reads enough, and everything that makes them not enough."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from app import knowledge, scope
from app.gateway.access import Access
from app.gateway.budget import Budget, Deadline
from app.gateway.fhir import Gateway
from app.gather import at_site
from app.sandbox.fhir import create_fhir
from fhir_mappings.context import Context
from fhir_mappings.facts import Overlay
from tests.integration.hospital import FHIR, Wire

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
BEDSIDE = knowledge.load()
PATIENT = {"resourceType": "Patient", "id": "p1", "birthDate": "1960-01-01", "gender": "male"}
SUBJECT = {"reference": "Patient/p1"}
ANAKINRA = {"coding": [{"system": "http://www.whocc.no/atc", "code": "L04AC03"}]}
SALINE = {"coding": [{"system": "http://www.whocc.no/atc", "code": "B05XA03"}], "text": "sodium chloride"}


def ago(hours: float) -> str:
    return (NOW - timedelta(hours=hours)).isoformat()


def crp(value: float, *, subject: Mapping[str, Any] = SUBJECT) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": "crp",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "1988-5"}]},
        "subject": subject,
        "effectiveDateTime": ago(5),
        "valueQuantity": {"value": value, "unit": "mg/L", "system": "http://unitsofmeasure.org", "code": "mg/L"},
    }


def order(**medication: Any) -> dict[str, Any]:
    return {
        "resourceType": "MedicationRequest",
        "id": "order",
        "status": "active",
        "intent": "order",
        "subject": SUBJECT,
        "authoredOn": ago(20),
        **(medication or {"medicationCodeableConcept": SALINE}),
    }


def given(hours: float = 4, **medication: Any) -> dict[str, Any]:
    return {
        "resourceType": "MedicationAdministration",
        "id": "given",
        "status": "completed",
        "subject": SUBJECT,
        "effectiveDateTime": ago(hours),
        **(medication or {"medicationCodeableConcept": ANAKINRA}),
    }


def taken(concept: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "resourceType": "MedicationStatement",
        "id": "taken",
        "status": "active",
        "subject": SUBJECT,
        "effectivePeriod": {"start": "2024"},
        "medicationCodeableConcept": concept,
    }


OUT = (PATIENT, crp(40), order())


async def look(
    resources: Sequence[Mapping[str, Any]],
    *,
    overlay: Overlay | None = None,
    prefetch: Mapping[str, Any] | None = None,
    status: Mapping[str, int] | None = None,
) -> tuple[scope.Looked, list[str]]:
    """What the first reads found, and the resource types they asked for."""

    def answers(request: httpx.Request) -> httpx.Response | None:
        wrong = (status or {}).get(request.url.path.rpartition("/fhir/")[2].partition("/")[0])
        return None if wrong is None else httpx.Response(wrong)

    wire = Wire(create_fhir([dict(r) for r in resources], base_url=FHIR, clock=lambda: NOW), answers=answers)
    site = overlay or Overlay()
    plan, gone = at_site(BEDSIDE.plan_for(site), absent=site.absent_source)
    async with Gateway(wire) as gateway:
        looked = await scope.look(
            plan=plan,
            first=BEDSIDE.scope_first_for(site),
            absent=gone,
            prefetch=None if prefetch is None else {key: json.dumps(value).encode() for key, value in prefetch.items()},
            base=FHIR,
            access=Access(),
            gateway=gateway,
            patient_id="p1",
            budget=Budget(Deadline(20)),
            context=Context(now=NOW, zone=ZoneInfo("UTC"), overlay=site),
            knowledge=BEDSIDE.library.knowledge,
        )
    return looked, sorted(path.rpartition("/fhir/")[2].partition("/")[0] for _, path, _ in wire.sent)


FIRST = sorted(
    [
        *("Condition", "MedicationAdministration", "MedicationAdministration", "MedicationRequest"),
        *("MedicationStatement", "Observation", "Observation", "Patient"),
    ]
)


async def test_eight_reads_end_in_silence() -> None:
    looked, asked = await look(OUT)
    assert looked.silent is not None
    assert (looked.silent.id, looked.silent.outcome) == ("not-met", "not-met")
    assert asked == FIRST
    keys = {source.key for source in scope.not_asked(BEDSIDE.plan_for(Overlay()), facts=looked.facts)}
    assert keys >= {"respiratory", "allergies", "procedures", "administrations", "long-acting"}
    assert keys.isdisjoint({"patient", "labs", "virology", "conditions", "orders", "statements"})


async def test_nothing_measured_is_out_of_scope() -> None:
    looked, _ = await look((PATIENT, order()))
    assert looked.silent is not None
    assert looked.silent.outcome == "out-of-scope"


@pytest.mark.parametrize(
    "more",
    [
        {**crp(40), "id": "high", "effectiveDateTime": ago(2), "valueQuantity": {"value": 300, "code": "mg/L"}},
        {
            "resourceType": "Condition",
            "id": "covid",
            "subject": SUBJECT,
            "clinicalStatus": {"coding": [{"code": "active"}]},
            "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": "U07.1"}]},
        },
    ],
    ids=["crp above its threshold", "active COVID-19"],
)
async def test_what_could_be_in_scope_is_read_whole(more: Mapping[str, Any]) -> None:
    crps = [] if more["resourceType"] == "Condition" else [crp(40)]
    looked, _ = await look((PATIENT, *crps, order(), more))
    assert looked.silent is None


@pytest.mark.parametrize(
    "more",
    [
        given(),
        given(hours=34 * 24),
        order(medicationCodeableConcept=ANAKINRA) | {"id": "second"},
        taken(ANAKINRA),
        taken({"text": "Kineret 100 mg"}),
    ],
    ids=["given today", "given 34 d ago", "ordered", "taken at home", "by text only"],
)
async def test_a_treated_patient_is_read_whole(more: Mapping[str, Any]) -> None:
    looked, _ = await look((*OUT, more))
    assert looked.silent is None


@pytest.mark.parametrize(
    ("system", "code"),
    [
        ("http://fhir.de/CodeSystem/dimdi/atc", "L04AC03"),
        ("http://www.whocc.no/atc/", "L04AC03"),
        ("rxnorm", "72435"),
        ("http://www.nlm.nih.gov/research/umls/rxnorm", "727711"),
    ],
    ids=["an old address", "a trailing slash", "a short name", "a product that we ship"],
)
async def test_a_study_drug_is_found_however_its_code_is_written(system: str, code: str) -> None:
    drug = {"coding": [{"system": system, "code": code}]}
    looked, _ = await look((*OUT, given(medicationCodeableConcept=drug)))
    assert looked.silent is None


async def test_a_product_code_of_the_site_is_asked_for_too() -> None:
    product = {"coding": [{"system": "urn:oid:1.2.3", "code": "4711"}]}
    site = Overlay(products={"urn:oid:1.2.3|4711": ("anakinra",), "urn:oid:1.2.3|1": ("heparin",)})
    drug = given(medicationCodeableConcept=product)
    assert (await look((*OUT, drug), overlay=site))[0].silent is None
    assert (await look((*OUT, drug)))[0].silent is not None, "without the overlay nobody can know that code"


MEDICATION = {"resourceType": "Medication", "id": "m1", "code": ANAKINRA}
SALT = {"resourceType": "Medication", "id": "m2", "code": SALINE}


@pytest.mark.parametrize("form", ["referenced", "contained"])
async def test_an_administration_that_refers_makes_all_of_them_be_read(form: str) -> None:
    """However the orders are written: what is inline there says nothing about another resource type."""
    refers = {"medicationReference": {"reference": "Medication/m1" if form == "referenced" else "#m1"}}
    held = {} if form == "referenced" else {"contained": [MEDICATION]}
    salt = given(2, medicationReference={"reference": "Medication/m2"}) | {"id": "salt"}
    looked, asked = await look((*OUT, SALT, MEDICATION, salt, given(**refers) | held))
    assert looked.silent is None
    looked, asked = await look((*OUT, SALT, salt))
    assert looked.silent is not None
    assert asked.count("MedicationAdministration") == 3


async def test_one_that_refers_is_found_behind_a_page_of_others() -> None:
    salts = [given(1 + n / 10, medicationCodeableConcept=SALINE) | {"id": f"s{n}"} for n in range(60)]
    refers = given(1.5, medicationReference={"reference": "Medication/m2"}) | {"id": "refers"}
    hidden = given(30, medicationReference={"reference": "Medication/m1"})
    looked, _ = await look((*OUT, *salts, refers, hidden, SALT, MEDICATION))
    assert looked.silent is None
    looked, asked = await look((*OUT, *salts))
    assert looked.silent is not None
    assert asked.count("MedicationAdministration") == 2


async def test_where_nothing_was_given_nothing_more_is_read() -> None:
    looked, asked = await look(OUT)
    assert looked.silent is not None
    assert asked.count("MedicationAdministration") == 2


async def test_a_patient_who_is_in_scope_waits_for_nothing_more() -> None:
    hidden = given(medicationReference={"reference": "Medication/m1"})
    looked, asked = await look((PATIENT, crp(300), order(), hidden, MEDICATION))
    assert looked.silent is None
    assert asked.count("MedicationAdministration") == 2


@pytest.mark.parametrize(
    "resource_type",
    [*("Patient", "Observation", "Condition"), "MedicationRequest", "MedicationStatement", "MedicationAdministration"],
)
async def test_a_source_that_failed_is_no_silence(resource_type: str) -> None:
    looked, _ = await look(OUT, status={resource_type: 403})
    assert looked.silent is None


async def test_a_medication_that_is_not_found_is_no_silence() -> None:
    refers = order(medicationReference={"reference": "Medication/gone"})
    looked, _ = await look((PATIENT, crp(40), refers))
    assert looked.silent is None


async def test_a_result_of_another_patient_in_the_answer_is_no_silence() -> None:
    def planted(request: httpx.Request) -> httpx.Response | None:
        if "Observation" not in request.url.path:
            return None
        entries = [{"resource": crp(40)}, {"resource": {**crp(300, subject={"reference": "Patient/p2"}), "id": "x"}}]
        return httpx.Response(200, json={"resourceType": "Bundle", "type": "searchset", "entry": entries})

    wire = Wire(create_fhir([dict(r) for r in OUT], base_url=FHIR, clock=lambda: NOW), answers=planted)
    async with Gateway(wire) as gateway:
        looked = await scope.look(
            plan=BEDSIDE.needs,
            first=BEDSIDE.scope_first_for(Overlay()),
            prefetch=None,
            base=FHIR,
            access=Access(),
            gateway=gateway,
            patient_id="p1",
            budget=Budget(Deadline(20)),
            context=Context(now=NOW, zone=ZoneInfo("UTC"), overlay=Overlay()),
            knowledge=BEDSIDE.library.knowledge,
        )
    assert looked.silent is None


def searchset(*resources: Mapping[str, Any]) -> dict[str, Any]:
    entries = [{"resource": resource, "search": {"mode": "match"}} for resource in resources]
    return {"resourceType": "Bundle", "type": "searchset", "total": len(entries), "entry": entries}


PCR = {"coding": [{"system": "http://loinc.org", "code": "94500-6"}]}
DETECTED = {"coding": [{"system": "http://snomed.info/sct", "code": "260373001"}]}
NOT_DETECTED = {"coding": [{"system": "http://snomed.info/sct", "code": "260415000"}]}


def pcr(result: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {**crp(1), "id": "pcr", "code": PCR, "valueQuantity": None, "valueCodeableConcept": result, **more}


async def test_a_positive_test_without_a_date_is_not_left_out_by_the_server() -> None:
    negative = pcr(NOT_DETECTED, effectiveDateTime=ago(72))
    undated = pcr(DETECTED, id="undated", effectiveDateTime=None, issued=ago(60))
    cleaned = [{k: v for k, v in each.items() if v is not None} for each in (negative, undated)]
    looked, _ = await look((PATIENT, crp(200), order(), *cleaned))
    assert looked.silent is None
    assert any(gap.why == "no-time" for gap in looked.facts.gaps)


async def test_the_results_that_the_client_sent_are_what_counts() -> None:
    """Whoever sends `labs` without `virology` is believed as far as the labs go, like everywhere else."""
    ferritin = {
        **crp(1500),
        "id": "ferritin",
        "code": {"coding": [{"system": "http://loinc.org", "code": "2276-4"}]},
        "valueQuantity": {"value": 1500, "system": "http://unitsofmeasure.org", "code": "ug/L"},
    }
    looked, _ = await look(OUT, prefetch={"labs": searchset(crp(300), ferritin)})
    assert looked.silent is None


@pytest.mark.parametrize("sent", [None, {"resourceType": "Bundle", "type": "searchset", "total": 9, "entry": []}])
async def test_administrations_that_the_client_sent_in_part_are_asked_for(sent: Any) -> None:
    positive = {k: v for k, v in pcr(DETECTED, effectiveDateTime=ago(40 * 24)).items() if v is not None}
    looked, _ = await look((*OUT, positive, given(30 * 24)), prefetch={"administrations": sent})
    assert looked.silent is None


async def test_the_patient_is_read_and_is_the_one_who_was_asked_for() -> None:
    looked, _ = await look([{**r, "id": "p2"} if r["resourceType"] == "Patient" else r for r in OUT])
    assert looked.silent is None, "a patient whom the server does not have is no silence"
    looked, _ = await look([{**PATIENT, "deceasedBoolean": True}, *OUT[1:]])
    assert looked.silent is not None
    assert looked.silent.outcome == "deceased"


async def test_what_the_site_does_not_have_is_not_asked_for() -> None:
    site = Overlay(absent_source=frozenset({"MedicationAdministration"}))
    looked, asked = await look(OUT, overlay=site)
    assert looked.silent is not None
    assert asked == [kind for kind in FIRST if kind != "MedicationAdministration"]


async def test_what_the_client_sent_is_not_read() -> None:
    sent = {
        "labs": searchset(crp(40)),
        "virology": searchset(),
        "orders": searchset(order()),
        "statements": searchset(),
        "conditions": searchset(),
        "administrations": searchset(),
    }
    looked, asked = await look(OUT, prefetch={**sent, "patient": PATIENT})
    assert looked.silent is not None
    assert asked == []


async def test_a_patient_the_client_sent_is_checked() -> None:
    looked, _ = await look(OUT, prefetch={"patient": {**PATIENT, "id": "p2"}})
    assert looked.silent is None
    assert looked.facts.identity_mismatch


async def test_the_first_searches_reach_as_far_back_as_the_rules_look() -> None:
    inflammation, drugs, newest = BEDSIDE.scope_first_for(Overlay())
    knowledge = BEDSIDE.library.knowledge
    assert drugs.lookback is not None
    assert drugs.lookback == newest.lookback > timedelta(days=int(knowledge.limits["course_days"].value))
    windows = [knowledge.inputs[name].window for name in ("crp", "ferritin")]
    assert inflammation.lookback is not None
    assert all(window is not None and inflammation.lookback >= window for window in windows)
