"""From parts to facts: whose a resource is, which version counts, and what does not depend on order."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_mappings.derived import Pairing
from fhir_mappings.facts import Facts, Gap, Source
from fhir_mappings.mapping import Part, subjects, to_facts
from tests.unit.fhir_mappings.build import ago, concept, context, observation, quantity, raw

PATIENT = {
    "resourceType": "Patient",
    "id": "p",
    "birthDate": "1966-01-01",
    "gender": "male",
    "identifier": [{"system": "urn:mrn", "value": "17"}, {"system": "urn:empty"}],
}
OTHER = {**PATIENT, "id": "q"}


def part(*resources: Any, key: str = "labs", kind: str = "Observation", urls: tuple[str, ...] = ()) -> Part:
    return Part(Source(key, kind, "ok"), tuple(r if isinstance(r, bytes) else raw(r) for r in resources), urls)


def read(*parts: Part, patient_id: str = "p", **more: Any) -> Facts:
    return to_facts(parts, patient_id=patient_id, context=context(), **more)


def patient(*resources: Any) -> Part:
    return part(*(resources or (PATIENT,)), key="patient", kind="Patient")


def crp(**more: Any) -> dict[str, Any]:
    return observation("loinc|1988-5", **{"value": 120, "unit": "mg/L", **more})


def every_family() -> list[dict[str, Any]]:
    subject = {"subject": {"reference": "Patient/p"}}
    owner = {"patient": {"reference": "Patient/p"}}
    anakinra = {"medicationReference": {"reference": "Medication/anakinra"}}
    return [
        crp(),
        {"resourceType": "Medication", "id": "anakinra", "code": concept("http://www.whocc.no/atc|L04AC03")},
        {"resourceType": "MedicationRequest", "id": "r", "status": "active", "intent": "order", **anakinra, **subject},
        {
            "resourceType": "MedicationAdministration",
            "id": "a",
            "status": "completed",
            "effectiveDateTime": ago(hours=3),
            **anakinra,
            **subject,
        },
        {"resourceType": "MedicationStatement", "id": "s", "status": "active", **anakinra, **subject},
        {"resourceType": "Condition", "id": "c", "code": concept("snomed|840539006"), **subject},
        {
            "resourceType": "Procedure",
            "id": "v",
            "status": "in-progress",
            "code": concept("snomed|1258985005"),
            "performedDateTime": ago(hours=30),
            **subject,
        },
        {"resourceType": "AllergyIntolerance", "id": "y", "code": concept("snomed|716186003"), **owner},
        {
            "resourceType": "Immunization",
            "id": "i",
            "status": "completed",
            "occurrenceDateTime": "2026-02-20",
            "vaccineCode": concept("http://hl7.org/fhir/sid/cvx|94"),
            **owner,
        },
        {"resourceType": "Encounter", "id": "e", **subject},
    ]


def test_every_family_is_read() -> None:
    facts = read(patient(), part(*every_family()))
    assert facts.patient is not None
    assert facts.patient.sex == "male"
    assert [m.concept for m in facts.measurements] == ["crp"]
    assert {m.kind for m in facts.medications} == {"request", "administration", "statement"}
    assert {m.ingredients for m in facts.medications} == {("anakinra",)}
    assert [len(f) for f in (facts.conditions, facts.procedures, facts.allergies, facts.immunizations)] == [1, 1, 1, 1]
    assert (facts.asked_at, facts.zone) == (context().now, "Europe/Berlin")
    assert [s.key for s in facts.sources] == ["patient", "labs"]
    assert not facts.identity_mismatch


@settings(max_examples=25)
@given(st.permutations(every_family()))
def test_the_order_does_not_matter(resources: list[dict[str, Any]]) -> None:
    assert read(patient(), part(*resources)) == read(patient(), part(*every_family()))


def test_what_is_derived_is_there() -> None:
    facts = read(
        patient(),
        part(
            observation("loinc|2703-7", id="g", value=60, unit="mm[Hg]"),
            observation("loinc|19994-3", id="f", value=60, unit="%", at=ago(minutes=70)),
        ),
    )
    assert facts.pairs[0].fio2 is not None
    assert read(part(*(())), patient_id="p").pairs == ()
    narrow = to_facts(
        [part(observation("loinc|2703-7", value=60, unit="mm[Hg]"))],
        patient_id="p",
        context=context(),
        pairing=Pairing(),
    )
    assert narrow.pairs[0].why == "no-fio2"


def test_gaps_of_the_reading_are_kept() -> None:
    before = Gap("conditions", "refused")
    assert read(patient(), gaps=[before]).gaps == (before,)


# --------------------------------------------------------------------------- whose it is (reading 3.14)


@pytest.mark.parametrize(
    ("subject", "why"),
    [
        ({"reference": "Patient/p"}, ""),
        ({"reference": "https://a.example/fhir/Patient/p"}, ""),
        ({"reference": "Patient/p/_history/3"}, ""),
        ({"reference": "urn:uuid:p"}, ""),
        ({"identifier": {"system": "urn:mrn", "value": "17"}}, ""),
        ({"reference": "Patient/q"}, "other-patient"),
        ({"reference": "Patient/q", "identifier": {"system": "urn:mrn", "value": "17"}}, "other-patient"),
        ({"reference": "Group/p"}, "other-patient"),
        ({"reference": "urn:uuid:q"}, "other-patient"),
        ({"reference": "p"}, "other-patient"),
        ({"identifier": {"system": "urn:mrn", "value": "18"}}, "other-patient"),
        ({"identifier": {"system": "urn:other", "value": "17"}}, "other-patient"),
        ({"identifier": {"system": "urn:empty"}}, "no-subject"),
        ({"display": "Somebody"}, "no-subject"),
        (None, "no-subject"),
    ],
)
def test_whose_a_resource_is(subject: Any, why: str) -> None:
    resource = {**crp(), "subject": subject}
    if subject is None:
        del resource["subject"]
    facts = read(patient(), part(resource, crp(id="mine", at=ago(hours=5))))
    assert len(facts.measurements) == (1 if why else 2)
    expected = Gap("labs", why, reference="Observation/o")
    if why == "other-patient":  # whose it is, is not told: not even its id
        expected = Gap("labs", why, params=(("type", "Observation"),))
    assert facts.gaps == ((expected,) if why else ())


def test_many_records_of_others_are_one_gap_for_each_source_and_type() -> None:
    foreign = [{**crp(id=f"o{number}"), "subject": {"reference": f"Patient/{number}"}} for number in range(9)]
    facts = read(patient(), part(*foreign, crp(id="mine")), part({**foreign[0], "id": "again"}, key="virology"))
    assert [(g.source, g.why, g.reference) for g in facts.gaps] == [
        ("labs", "other-patient", ""),
        ("virology", "other-patient", ""),
    ]
    assert [m.reference for m in facts.measurements] == ["Observation/mine"]


def test_an_identifier_says_nothing_while_no_patient_was_read() -> None:
    facts = read(part({**crp(), "subject": {"identifier": {"system": "urn:mrn", "value": "17"}}}))
    assert not facts.measurements
    assert [g.why for g in facts.gaps] == ["subject-not-verified"]


@pytest.mark.parametrize("name", ["p", "Patient/p"])
def test_the_id_may_be_a_reference(name: str) -> None:
    assert read(patient(), part(crp()), patient_id=name).patient is not None


@pytest.mark.parametrize("parts", [[patient(OTHER)], [patient(), patient(OTHER)], [part(OTHER)]])
def test_another_patient_stops_everything(parts: list[Part]) -> None:
    facts = read(*parts, part(crp()))
    assert facts.identity_mismatch
    assert facts.patient is None
    assert not facts.measurements
    assert {g.why for g in facts.gaps} == {"other-patient"}


def test_another_patient_inside_an_answer_is_a_gap() -> None:
    facts = read(patient(), part(crp(), OTHER))
    assert not facts.identity_mismatch
    assert len(facts.measurements) == 1
    assert facts.gaps == (Gap("labs", "other-patient", params=(("type", "Patient"),)),), "nothing of the other one"


def test_a_patient_whose_identifiers_are_unreadable() -> None:
    facts = read(patient({**PATIENT, "identifier": "17"}), part({**crp(), "subject": {"identifier": {"value": "17"}}}))
    assert [g.why for g in facts.gaps] == ["other-patient"]


# --------------------------------------------------------------------------- which version counts


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"lastUpdated": ago(hours=2)}, {"lastUpdated": ago(hours=1)}),
        ({"versionId": "9"}, {"versionId": "10"}),
        ({"versionId": "x"}, {"versionId": "1"}),
        ({}, {"lastUpdated": ago(hours=1)}),
    ],
)
def test_the_newest_version_of_a_resource(old: Any, new: Any, flip: bool) -> None:
    versions = [crp(value=90, meta=old), crp(value=130, meta=new)]
    facts = read(patient(), part(*(reversed(versions) if flip else versions)))
    assert [m.value for m in facts.measurements] == [130]


def test_one_resource_in_two_answers_is_one() -> None:
    facts = read(patient(), part(crp()), part(crp(), key="screening"))
    assert len(facts.measurements) == 1


# --------------------------------------------------------------------------- Bundles without ids


def test_entries_that_refer_to_each_other_by_their_full_url() -> None:
    who = {k: v for k, v in PATIENT.items() if k != "id"}
    found = crp(subject={"reference": "urn:uuid:who"})
    del found["id"]
    drug = {"resourceType": "Medication", "id": "m", "code": concept("http://www.whocc.no/atc|L04AC03")}
    order = {
        "resourceType": "MedicationRequest",
        "id": "r",
        "status": "active",
        "intent": "order",
        "medicationReference": {"reference": "urn:uuid:drug"},
        "subject": {"reference": "urn:uuid:who"},
    }
    entries = part(who, found, drug, order, urls=("urn:uuid:who", "https://a.example/Observation/x7", "urn:uuid:drug"))
    facts = read(entries, patient_id="who")
    assert facts.patient is not None
    assert [m.reference for m in facts.measurements] == ["Observation/x7"]
    assert [m.ingredients for m in facts.medications] == [("anakinra",)]


def test_a_patient_named_by_its_address() -> None:
    entries = part(PATIENT, crp(subject={"reference": "urn:uuid:77"}), urls=("urn:uuid:77", ""))
    assert len(read(entries).measurements) == 1


def test_a_resource_without_any_name_gets_one_of_its_own() -> None:
    first, second = crp(), crp(at=ago(hours=5))
    del first["id"]
    del second["id"]
    references = {m.reference for m in read(patient(), part(first, second)).measurements}
    assert len(references) == 2
    assert all(r.startswith("Observation/unnamed-") for r in references)


# --------------------------------------------------------------------------- what cannot be read


@pytest.mark.parametrize("bad", [b"7", b"{", b"{}", b"[" * 100_000, b'{"resourceType": "Observation", "subject": 7}'])
def test_unreadable_resources_are_gaps(bad: bytes) -> None:
    facts = read(patient(), part(bad, crp()))
    assert len(facts.measurements) == 1
    assert [g.why for g in facts.gaps] == ["unreadable-resource"]


def test_subjects() -> None:
    found = subjects(
        [
            raw(crp()),
            raw(crp(subject={"reference": "https://a.example/fhir/Patient/q/_history/1"})),
            raw({"resourceType": "Immunization", "patient": {"reference": "urn:uuid:z"}}),
            raw({"resourceType": "Encounter", "subject": {"reference": "Patient/e"}}),
            raw(crp(subject={"display": "x"})),
            b"7",
        ]
    )
    assert found == {"Patient/p", "Patient/q", "urn:uuid:z"}


def test_a_part_may_be_empty() -> None:
    failed = Part(Source("labs", "Observation", "failed", "timeout"))
    facts = read(patient(), failed)
    assert facts.source("labs").why == "timeout"
    assert facts.measurements == ()


def test_clearance_needs_the_patient_that_was_read() -> None:
    values = part(
        observation("loinc|2160-0", id="k", value=1, unit="mg/dL"),
        observation("loinc|29463-7", id="w", valueQuantity=quantity(72, "kg"), at=ago(hours=30)),
    )
    assert [m.value for m in read(patient(), values).of("crcl")] == [Decimal(80)]
    assert read(values).of("crcl") == ()


# --------------------------------------------------------------------------- two contents of one id


def anc(value: float, **more: Any) -> dict[str, Any]:
    return observation("loinc|751-8", id="n", value=value, unit="10*9/L", **more)


@pytest.mark.parametrize("meta", [{}, {"meta": {"versionId": "3", "lastUpdated": ago(hours=1)}}])
@pytest.mark.parametrize("order", [(7.9, 0.4), (0.4, 7.9)])
def test_two_contents_of_one_version_are_a_conflict(order: tuple[float, float], meta: dict[str, Any]) -> None:
    facts = read(patient(), part(*(anc(value, **meta) for value in order)))
    assert facts.of("anc") == ()
    assert [(g.why, g.concept, g.displaces) for g in facts.gaps] == [("conflict", "anc", True)]


def test_one_content_written_in_two_ways_is_one_result() -> None:
    again = {**anc(7.9), "meta": {"source": "urn:x"}, "text": {"status": "generated"}}
    facts = read(patient(), part(anc(7.9), again, dict(reversed(anc(7.9).items()))))
    assert [str(m.value) for m in facts.of("anc")] == ["7.9"]
    assert facts.gaps == ()


def test_a_newer_version_ends_a_dispute() -> None:
    newer = anc(3.1, meta={"lastUpdated": ago(hours=1)})
    facts = read(patient(), part(anc(7.9), anc(0.4), newer, anc(0.2)))
    assert [str(m.value) for m in facts.of("anc")] == ["3.1"]


def test_contents_that_cannot_be_compared_stay_apart() -> None:
    broken = raw({**anc(0.4), "note": "?"}).replace(b'"?"', b'"\xff"')
    facts = read(patient(), part(anc(7.9), broken))
    assert [g.why for g in facts.gaps] == ["conflict"]


def test_disputed_records_of_other_kinds_both_count() -> None:
    record = {"resourceType": "Condition", "id": "c", "code": concept("snomed|840539006")}
    record["subject"] = {"reference": "Patient/p"}
    over = {**record, "clinicalStatus": {"coding": [{"code": "resolved"}]}}
    for both in ((record, over), (over, record)):
        assert [c.active for c in read(patient(), part(*both)).conditions] == [False, True]


def test_of_two_patients_under_one_id_always_the_same_counts() -> None:
    woman = {**PATIENT, "gender": "female"}
    assert read(patient(PATIENT, woman)) == read(patient(woman, PATIENT))


# --------------------------------------------------------------------------- specimens (reading 3.5)


def gas(**specimen: str) -> dict[str, Any]:
    return observation("loinc|2703-7", value=40, unit="mm[Hg]", specimen=specimen)


VENOUS = {"resourceType": "Specimen", "id": "s", "type": concept("v2-0487|BLDV")}


@pytest.mark.parametrize("subject", [{}, {"subject": {"reference": "Patient/p"}}])
def test_a_specimen_of_the_answer_is_read(subject: dict[str, Any]) -> None:
    facts = read(patient(), part(gas(reference="Specimen/s"), {**VENOUS, **subject}))
    assert facts.of("pao2") == ()
    assert [g.why for g in facts.gaps] == ["not-arterial"]


def test_a_specimen_of_a_transaction_is_found_by_its_address() -> None:
    nameless = {name: value for name, value in VENOUS.items() if name != "id"}
    facts = read(patient(), part(gas(reference="urn:uuid:7"), nameless, urls=("", "urn:uuid:7")))
    assert [g.why for g in facts.gaps] == ["not-arterial"]


def test_another_patients_specimen_is_not_used() -> None:
    facts = read(patient(), part(gas(reference="Specimen/s"), {**VENOUS, "subject": {"reference": "Patient/q"}}))
    assert sorted(g.why for g in facts.gaps) == ["other-patient", "specimen-unresolved"]
    assert len(facts.of("pao2")) == 1
