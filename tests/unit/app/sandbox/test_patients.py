"""The demo's patients: valid FHIR, consistent, never in the future, and each with what its story needs."""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class

from app.sandbox.patients import SINCE_DEATH, STORIES, Fault, bundle, faults

NOW = datetime(2026, 3, 29, 1, 30, 17, tzinfo=UTC)
RESOURCES = bundle(NOW)
KPA = Decimal("7.50062")

IDS = [story.patient_id for story in STORIES]
TREATED = [story.patient_id for story in STORIES if story.expect["outcome"] == "follow-up"]


def by_reference() -> dict[str, dict[str, Any]]:
    return {f"{resource['resourceType']}/{resource['id']}": resource for resource in RESOURCES}


def owner(resource: dict[str, Any]) -> str:
    """The patient id a resource belongs to, '' for the practitioner and for Medication resources."""
    if resource["resourceType"] == "Patient":
        return str(resource["id"])
    subject = resource.get("subject") or resource.get("patient") or {"reference": ""}
    return str(subject["reference"]).removeprefix("Patient/")


def of(patient: str, resource_type: str = "", code: str = "") -> list[dict[str, Any]]:
    """A patient's resources, of one type and with one code if given, in the order of the bundle (newest first)."""
    return [
        resource
        for resource in RESOURCES
        if owner(resource) == patient
        and resource_type in {"", resource["resourceType"]}
        and (not code or f'"code": "{code}"' in json.dumps(resource))
    ]


def walk(value: Any) -> Iterator[tuple[str, Any]]:
    """Every (key, value) at any depth."""
    if isinstance(value, dict):
        for key, member in value.items():
            yield key, member
            yield from walk(member)
    elif isinstance(value, list):
        for member in value:
            yield from walk(member)


def when(observation: dict[str, Any]) -> datetime:
    text = observation.get("effectiveDateTime") or observation["effectivePeriod"]["end"]
    return datetime.fromisoformat(text)


def hours_old(observation: dict[str, Any]) -> float:
    return (NOW - when(observation)).total_seconds() / 3600


def number(observation: dict[str, Any]) -> Decimal:
    return Decimal(str(observation["valueQuantity"]["value"]))


def newest(patient: str, code: str) -> dict[str, Any]:
    return max(of(patient, "Observation", code), key=when)


def value(patient: str, code: str) -> Decimal:
    return number(newest(patient, code))


def pf(patient: str) -> Decimal:
    """P/F of the newest gas with the newest ventilator FiO2 at or around it, in mmHg."""
    gas = newest(patient, "2703-7")
    fit = [o for o in of(patient, "Observation", "19994-3") if abs(when(o) - when(gas)) <= timedelta(minutes=30)]
    assert len(fit) == 1
    pressure = number(gas) * (KPA if gas["valueQuantity"]["code"] == "kPa" else 1)
    fraction = number(fit[0]) / (100 if fit[0]["valueQuantity"]["code"] == "%" else 1)
    return pressure / fraction


def compliance(patient: str) -> Decimal:
    return value(patient, "76222-9") / (value(patient, "76259-1") - value(patient, "20077-4"))


def active_drugs(patient: str) -> set[str]:
    """ATC codes and names of what is ordered and active."""
    return {
        concept["text"]
        for order in of(patient, "MedicationRequest")
        if order["status"] == "active"
        for key, concept in walk(order)
        if key == "medicationCodeableConcept"
    }


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: f"{resource['resourceType']}-{resource['id']}")
def test_every_resource_is_valid_r4(resource: dict[str, Any]) -> None:
    model = get_fhir_model_class(resource["resourceType"])
    read = model.model_validate(copy.deepcopy(resource))
    assert json.loads(read.model_dump_json())["id"] == resource["id"]


def test_ids_are_unique_and_well_formed() -> None:
    keys = Counter((resource["resourceType"], resource["id"]) for resource in RESOURCES)
    assert [key for key, times in keys.items() if times > 1] == []
    assert [key for key in keys if not re.fullmatch(r"[A-Za-z0-9\-.]{1,64}", key[1])] == []


def test_references_lead_somewhere() -> None:
    known = by_reference()
    for resource in RESOURCES:
        contained = {f"#{held['id']}" for held in resource.get("contained", ())}
        references = [member for key, member in walk(resource) if key == "reference"]
        assert [r for r in references if r not in known and r not in contained] == [], resource["id"]


def test_references_stay_with_one_patient() -> None:
    known = by_reference()
    for resource in RESOURCES:
        targets = [known[member] for key, member in walk(resource) if key == "reference" and member in known]
        assert {owner(target) for target in targets} <= {owner(resource), ""}, resource["id"]


@pytest.mark.parametrize(
    "now", [NOW, datetime(2028, 2, 29, 23, 59, 59, 999_999, tzinfo=timezone(timedelta(hours=-9)))], ids=["utc", "leap"]
)
def test_no_time_lies_in_the_future_and_every_instant_has_its_zone(now: datetime) -> None:
    for resource in bundle(now):
        for key, member in walk(resource):
            if isinstance(member, str) and re.match(r"\d{4}-\d\d-\d\d", member):
                if "T" in member:
                    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", member), (resource["id"], key)
                    assert datetime.fromisoformat(member) <= now, (resource["id"], key)
                else:
                    assert member <= now.astimezone(UTC).date().isoformat(), (resource["id"], key)


def test_periods_do_not_end_before_they_start() -> None:
    periods = [member for resource in RESOURCES for key, member in walk(resource) if isinstance(member, dict)]
    ended = [period for period in periods if "start" in period and "end" in period]
    assert ended
    assert all(period["start"] <= period["end"] for period in ended)


def test_the_same_now_gives_the_same_bundle_and_the_zone_does_not_matter() -> None:
    assert bundle(NOW) == RESOURCES
    assert bundle(NOW.astimezone(timezone(timedelta(hours=5)))) == RESOURCES
    assert bundle(NOW + timedelta(days=1)) != RESOURCES


def test_now_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="zone"):
        bundle(NOW.replace(tzinfo=None))


def test_the_resources_are_plain_json() -> None:
    assert json.loads(json.dumps(RESOURCES)) == RESOURCES


def test_every_story_has_its_patient_and_every_patient_a_story() -> None:
    patients = {resource["id"]: resource for resource in RESOURCES if resource["resourceType"] == "Patient"}
    assert list(patients) == IDS
    for story in STORIES:
        name = patients[story.patient_id]["name"][0]
        assert story.name == f"{name['family']}, {name['given'][0]}"
        assert name["family"].startswith("Demo-")


@pytest.mark.parametrize("story", STORIES, ids=IDS)
def test_a_story_says_what_to_expect(story: Any) -> None:
    expect = story.expect
    assert set(expect) == {"pilot-simple", "pilot-full", "suggestions", "outcome"}
    assert {expect["pilot-simple"], expect["pilot-full"]} <= {"met", "not-met", "unknown"}
    assert expect["outcome"] in {"card", "follow-up", "deceased", "not-the-population", "not-met", "out-of-scope"}
    if expect["suggestions"] == "yes":
        assert (expect["pilot-simple"], expect["outcome"]) == ("met", "card")
        assert expect["pilot-full"] != "not-met"
    if expect["pilot-full"] == "met":
        assert expect["pilot-simple"] == "met"
    assert 0 < len(story.title) <= 40
    assert story.line.endswith((".", "?"))


@pytest.mark.parametrize("patient", [i for i in IDS if i != "demo-just-intubated"])
def test_a_course_is_of_believable_size(patient: str) -> None:
    assert 40 <= len(of(patient)) <= (180 if patient in TREATED else 120)


def test_just_intubated_has_almost_nothing() -> None:
    kinds = Counter(resource["resourceType"] for resource in of("demo-just-intubated"))
    assert sum(kinds.values()) < 20
    assert of("demo-just-intubated", "Observation", "2703-7") == []
    assert of("demo-just-intubated", "Observation", "1988-5") == []


SUGGESTED = [story.patient_id for story in STORIES if story.expect["suggestions"] == "yes"]
COURSES = [i for i in IDS if i not in {"demo-ward", "demo-just-intubated", *TREATED}]


@pytest.mark.parametrize("patient", SUGGESTED)
def test_where_a_pair_is_suggested_the_required_safety_set_is_fresh_and_harmless(patient: str) -> None:
    for code, low in (("751-8", Decimal("1.5")), ("777-3", 100)):
        assert hours_old(newest(patient, code)) <= 30
        assert value(patient, code) >= low
    for code in ("1742-6", "1920-8"):
        result = newest(patient, code)
        assert hours_old(result) <= 30
        assert number(result) <= 5 * Decimal(str(result["referenceRange"][0]["high"]["value"]))
    assert of(patient, "AllergyIntolerance", "716186003") or of(patient, "AllergyIntolerance", "409137002")
    assert "active" in {order["status"] for order in of(patient, "MedicationRequest")}
    assert "in-progress" in {given["status"] for given in of(patient, "MedicationAdministration")}


@pytest.mark.parametrize("patient", SUGGESTED)
def test_where_a_pair_is_suggested_the_kidneys_need_no_other_dose(patient: str) -> None:
    person = by_reference()[f"Patient/{patient}"]
    years = NOW.year - int(person["birthDate"][:4])
    found = of(patient, "Observation", "14682-9") or of(patient, "Observation", "2160-0")
    creatinine = number(max(found, key=when))
    if found[0]["valueQuantity"]["unit"] == "mg/dL":
        creatinine *= Decimal("88.4")
    assert hours_old(newest(patient, "29463-7")) <= 30 * 24
    factor = Decimal("1.04") if person["gender"] == "female" else Decimal("1.23")
    assert (140 - years) * value(patient, "29463-7") * factor / creatinine >= 60


@pytest.mark.parametrize("patient", SUGGESTED)
def test_where_a_pair_is_suggested_the_patient_is_invasively_ventilated_and_the_virus_recent(patient: str) -> None:
    assert hours_old(newest(patient, "19994-3")) <= 24
    procedures = of(patient, "Procedure", "1258985005")
    assert [procedure["status"] for procedure in procedures] == ["in-progress"]
    tests = of(patient, "Observation", "94500-6")
    assert all("260373001" in json.dumps(test["valueCodeableConcept"]) for test in tests)
    assert hours_old(newest(patient, "94500-6")) <= 30 * 24
    assert of(patient, "Procedure", "428311008") == []


@pytest.mark.parametrize("patient", COURSES)
def test_a_course_shows_several_values_of_each_quantity(patient: str) -> None:
    assert len(of(patient, "Observation", "1988-5")) == 4
    assert len(of(patient, "Observation", "2703-7")) in {3, 6}
    assert len(of(patient, "Observation", "19994-3")) >= 6


def test_most_patients_have_no_record_of_ecmo() -> None:
    with_ecmo = {patient for patient in IDS if "ecmo" in json.dumps(of(patient)[2:]).replace(patient, "")}
    assert with_ecmo == {"demo-ecmo-150", "demo-ecmo-no-fdo2"}


@pytest.mark.parametrize(
    ("patient", "low", "high"),
    [
        ("demo-full-protocol", "77", "78"),
        ("demo-never-proned", "82", "83"),
        ("demo-us-units", "76", "77"),
        ("demo-ecmo-150", "150", "150"),
        ("demo-ecmo-no-fdo2", "130", "131"),
        ("demo-woman-34", "124", "125"),
        ("demo-kilopascal", "60", "61"),
    ],
)
def test_the_newest_gas_gives_the_ratio_the_story_tells(patient: str, low: str, high: str) -> None:
    assert Decimal(low) <= pf(patient) <= Decimal(high)
    assert hours_old(newest(patient, "2703-7")) <= 12


@pytest.mark.parametrize(
    ("patient", "code", "expected", "unit"),
    [
        ("demo-us-units", "1988-5", "26.2", "mg/dL"),
        ("demo-crp-100", "1988-5", "100", "mg/L"),
        ("demo-neutropenia", "751-8", "0.9", "10*9/L"),
        ("demo-kilopascal", "2703-7", "7.2", "kPa"),
        ("demo-kilopascal", "19994-3", "0.9", "1"),
        ("demo-ecmo-150", "229280", "100", "%"),
    ],
)
def test_the_newest_result_is_the_one_the_story_tells(patient: str, code: str, expected: str, unit: str) -> None:
    result = newest(patient, code)
    assert number(result) == Decimal(expected)
    assert result["valueQuantity"]["unit"] == unit


def test_compliance_does_not_decide_where_the_story_is_about_the_gas() -> None:
    for patient in ("demo-old-gas", "demo-ecmo-150", "demo-ecmo-no-fdo2"):
        assert compliance(patient) > 30, patient
    assert compliance("demo-woman-34") == 24
    assert value("demo-never-proned", "151688") > 30


def test_old_gas_is_old_while_the_ventilator_is_charted() -> None:
    assert hours_old(newest("demo-old-gas", "2703-7")) == pytest.approx(60)
    assert hours_old(newest("demo-old-gas", "19994-3")) < 2


def test_never_proned_says_so_and_nothing_says_the_contrary() -> None:
    sessions = of("demo-never-proned", "Procedure", "431182000")
    assert {session["status"] for session in sessions} == {"not-done"}
    assert hours_old({"effectiveDateTime": sessions[0]["performedDateTime"]}) < 24


@pytest.mark.parametrize("story", [s for s in STORIES if s.expect["pilot-full"] == "met"], ids=lambda s: s.patient_id)
def test_the_full_protocol_has_prone_blocker_and_a_rescue(story: Any) -> None:
    ended = [
        hours_old({"effectiveDateTime": session["performedPeriod"]["end"]})
        for session in of(story.patient_id, "Procedure", "431182000")
    ]
    assert min(ended) <= 72
    assert "cisatracurium" in active_drugs(story.patient_id)
    rescued = active_drugs(story.patient_id) & {"nitric oxide", "almitrine"}
    assert rescued or of(story.patient_id, "Procedure", "786453001")


def test_ferritin_above_range_is_a_bound() -> None:
    result = newest("demo-ferritin-above-range", "2276-4")
    assert result["valueQuantity"]["comparator"] == ">"
    assert number(result) == 1650


def test_ferritin_was_never_measured() -> None:
    assert of("demo-no-ferritin", "Observation", "2276-4") == []


def test_the_oxygenator_is_not_recorded() -> None:
    assert of("demo-ecmo-no-fdo2", "Observation", "229280") == []
    assert of("demo-ecmo-no-fdo2", "Observation", "229270") != []
    assert of("demo-ecmo-no-fdo2", "Procedure", "786453001")[0]["status"] == "in-progress"


def test_the_drugs_that_the_stories_name_are_active() -> None:
    assert "posaconazole" in active_drugs("demo-posaconazole")
    assert {"tacrolimus", "prednisone"} <= active_drugs("demo-kidney-transplant")
    assert "ruxolitinib" in active_drugs("demo-ruxolitinib-ordered")
    for given in of("demo-ruxolitinib-ordered", "MedicationAdministration"):
        assert given["medicationCodeableConcept"]["text"] != "ruxolitinib"


def test_the_study_drugs_are_nowhere_else() -> None:
    holders = {
        owner(resource) for resource in RESOURCES if re.search(r"L01EJ01|L04AC03|1193326|72435", json.dumps(resource))
    }
    assert holders == {"demo-ruxolitinib-ordered", *TREATED}


def doses(patient: str, drug: str, status: str = "completed") -> list[datetime]:
    """When a drug was given (or not), the first time first."""
    found = [
        datetime.fromisoformat(given["effectiveDateTime"])
        for given in of(patient, "MedicationAdministration")
        if given["status"] == status and given["medicationCodeableConcept"]["text"] == drug
    ]
    return sorted(found)


def mg(patient: str, drug: str) -> Decimal:
    """What was given in all."""
    return sum(
        (
            Decimal(str(given["dosage"]["dose"]["value"]))
            for given in of(patient, "MedicationAdministration")
            if given["status"] == "completed" and given["medicationCodeableConcept"]["text"] == drug
        ),
        Decimal(0),
    )


@pytest.mark.parametrize(("patient", "day"), [("demo-day-7", 7), ("demo-day-16", 16), ("demo-day-30", 30)])
def test_a_treated_patient_had_the_first_dose_so_many_days_ago(patient: str, day: int) -> None:
    first = min(doses(patient, "anakinra") + doses(patient, "ruxolitinib"))
    tests = [when(test) for test in of(patient, "Observation", "94500-6")]
    assert timedelta(days=day - 1) <= NOW - first < timedelta(days=day)
    assert min(tests) < first
    baseline = [o for o in of(patient, "Observation", "1988-5") if timedelta(0) < first - when(o) <= timedelta(days=1)]
    assert len(baseline) == 1


def test_the_treated_patients_received_what_their_stories_tell() -> None:
    assert TREATED == ["demo-day-7", "demo-day-16", "demo-day-30"]
    assert (mg("demo-day-7", "anakinra"), mg("demo-day-7", "ruxolitinib")) == (2100, 60)
    assert len(doses("demo-day-7", "ruxolitinib", "not-done")) == 1
    assert mg("demo-day-30", "anakinra") == 3800
    assert "anakinra" in active_drugs("demo-day-16")
    assert active_drugs("demo-day-30") & {"anakinra", "ruxolitinib"} == {"ruxolitinib"}
    alt = newest("demo-day-16", "1742-6")
    assert number(alt) > 5 * Decimal(str(alt["referenceRange"][0]["high"]["value"]))


def test_yeast_grows_in_the_newest_culture() -> None:
    culture = newest("demo-yeast", "600-7")
    assert culture["valueCodeableConcept"]["text"] == "Candida albicans"
    assert culture["status"] == "preliminary"
    assert hours_old(culture) <= 7 * 24


def test_the_ward_patient_has_nothing_of_ventilation_nor_of_the_virus() -> None:
    text = json.dumps(of("demo-ward"))
    assert not re.search(r"94500-6|U07|840539006|19994-3|1258985005|76259-1|20077-4|2703-7|2276-4", text)
    assert value("demo-ward", "1988-5") > 100


@pytest.mark.parametrize(("patient", "years"), [("demo-adolescent", 16), ("demo-woman-34", 34)])
@pytest.mark.parametrize("now", [NOW, NOW + timedelta(days=100), NOW + timedelta(days=200), NOW + timedelta(days=300)])
def test_ages_hold_at_any_now(patient: str, years: int, now: datetime) -> None:
    person = next(r for r in bundle(now) if r["resourceType"] == "Patient" and r["id"] == patient)
    born = datetime.fromisoformat(person["birthDate"])
    assert now.year - born.year - ((now.month, now.day) < (born.month, born.day)) == years


def test_women_of_childbearing_age_have_a_fresh_negative_test() -> None:
    women = [
        resource["id"]
        for resource in RESOURCES
        if resource["resourceType"] == "Patient"
        and resource["gender"] == "female"
        and 12 <= NOW.year - int(resource["birthDate"][:4]) <= 56
    ]
    assert women == ["demo-woman-34"]
    test = newest("demo-woman-34", "2106-3")
    assert test["valueCodeableConcept"]["coding"][0]["code"] == "260385009"
    assert hours_old(test) <= 7 * 24


def test_the_deceased_has_an_end_and_nothing_after_it() -> None:
    person = by_reference()["Patient/demo-deceased"]
    died = datetime.fromisoformat(person["deceasedDateTime"])
    assert NOW - died == SINCE_DEATH
    for resource in of("demo-deceased"):
        assert resource.get("status") not in {"active", "in-progress"}
        instants = [m for _, m in walk(resource) if isinstance(m, str) and re.fullmatch(r"[\d-]+T[\d:]+Z", m)]
        assert all(datetime.fromisoformat(instant) <= died for instant in instants), resource["id"]
    assert [r["id"] for r in RESOURCES if "deceasedDateTime" in r] == ["demo-deceased"]


def test_hospitals_write_medications_in_three_ways() -> None:
    never, kilo = of("demo-never-proned", "MedicationRequest"), of("demo-kilopascal", "MedicationRequest")
    assert all(order["medicationReference"]["reference"].startswith("Medication/") for order in never)
    assert all(order["medicationReference"]["reference"] == "#drug" for order in kilo)
    assert all("medicationCodeableConcept" in order for order in of("demo-full-protocol", "MedicationRequest"))


def test_only_the_medication_searches_of_one_story_fail() -> None:
    refused = Fault(status=403, delay=0.0)
    assert faults() == {"demo-medications-refused": {"MedicationRequest": refused, "MedicationAdministration": refused}}
    assert Fault() == Fault(status=0, delay=0.0)
