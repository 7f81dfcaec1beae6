"""Drafts as clients write them, as facts; and a draft with another dose or last day."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from fhir.resources.R4B.medicationrequest import MedicationRequest

from fhir_mappings import corrections, draft_orders
from fhir_mappings.draft_orders import Entry
from fhir_mappings.facts import DraftOrder
from tests.unit.fhir_mappings.build import concept, context, quantity

TODAY = date(2026, 3, 10)
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
ANAKINRA = concept(f"{RXNORM}|72435", text="anakinra")
DAILY = {"frequency": 1, "period": 1, "periodUnit": "d"}


def dosage(mg: Any = 300, *, repeat: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "timing": {"repeat": {**DAILY, **(repeat or {})}},
        "doseAndRate": [{"doseQuantity": quantity(mg, "mg")}],
        **more,
    }


def order(**more: Any) -> dict[str, Any]:
    return {
        "resourceType": "MedicationRequest",
        "id": "d1",
        "status": "draft",
        "intent": "order",
        "subject": {"reference": "Patient/p1"},
        "medicationCodeableConcept": ANAKINRA,
        "dosageInstruction": [dosage(repeat=until("2026-03-23"))],
    } | more


def until(end: str, start: str = "2026-03-10") -> dict[str, Any]:
    return {"boundsPeriod": {"start": start, "end": end}}


def entry(resource: Any, url: str = "") -> Entry:
    return Entry(resource if isinstance(resource, bytes) else json.dumps(resource).encode(), url)


def collected(*resources: Any) -> tuple[DraftOrder, ...]:
    entries = [one if isinstance(one, Entry) else entry(one) for one in resources]
    return draft_orders.collect(entries, picked=frozenset(range(len(entries))), context=context())


def one(**more: Any) -> DraftOrder:
    (found,) = collected(order(**more))
    return found


def days(*lines: dict[str, Any]) -> tuple[str, str, str]:
    found = one(dosageInstruction=list(lines))
    return str(found.first_day or ""), str(found.last_day or ""), found.end


# --- who


def test_an_order_as_the_letter_has_it() -> None:
    found = one()
    assert (found.use.ingredients, found.use.state, found.use.daily_mg) == (("anakinra",), "draft", Decimal(300))
    assert (found.first_day, found.last_day, found.end) == (TODAY, date(2026, 3, 23), "written")
    assert (found.place, found.use.reference, found.named, found.removable) == (0, "MedicationRequest/d1", True, True)


@pytest.mark.parametrize(
    "changes",
    [
        {"status": None},
        {"status": "active"},
        {"status": "on-hold"},
        {"status": "unknown-to-fhir"},
        {"intent": None},
        {"intent": "proposal"},
        {"category": {"coding": [{"code": "inpatient"}]}},
        {"category": None, "reasonCode": [], "contained": []},
        {"requester": {"extension": [{"url": "x", "valueCode": "unknown"}]}},
        {"id": "e" + "A-b.9" * 60},
        {"dosageInstruction": dosage(repeat=until("2026-03-23"))},
        {"dosageInstruction": [dosage(repeat=until("2026-03-23"), doseAndRate={"doseQuantity": quantity(300, "mg")})]},
        {
            "dosageInstruction": [
                dosage(repeat=until("2026-03-23"))
                | {
                    "doseAndRate": [
                        {"type": concept(text="ordered"), "doseQuantity": quantity(300, "mg")},
                        {"type": concept(text="calculated"), "doseQuantity": quantity(300, "mg")},
                    ]
                }
            ]
        },
    ],
)
def test_what_clients_leave_out_or_write_in_their_own_way(changes: dict[str, Any]) -> None:
    found = one(**changes)
    assert (found.use.ingredients, found.use.state, found.use.daily_mg) == (("anakinra",), "draft", Decimal(300))
    assert found.last_day == date(2026, 3, 23)


@pytest.mark.parametrize(
    "changes",
    [{"status": status} for status in ("cancelled", "completed", "stopped", "ended", "entered-in-error")]
    + [{"doNotPerform": True}, {"resourceType": "ServiceRequest"}],
)
def test_what_is_over_or_something_else_is_no_draft(changes: dict[str, Any]) -> None:
    assert collected(order(**changes)) == ()


def test_before_a_drug_is_picked_nothing_is_named() -> None:
    bare = {"resourceType": "MedicationRequest", "id": "request-123", "status": "draft"}
    for resource in (bare, bare | {"medicationCodeableConcept": {"coding": [{}]}}, bare | {"medicationReference": {}}):
        (found,) = collected(resource)
        assert (found.use.identity, found.named, found.end) == ("none", False, "open")


def test_a_reference_that_nothing_resolves_is_named_and_not_identified() -> None:
    found = one(medicationCodeableConcept=None, medicationReference={"reference": "Medication/m"})
    assert (found.use.identity, found.named) == ("none", True)


MEDICATION = {"resourceType": "Medication", "id": "m", "code": ANAKINRA}


@pytest.mark.parametrize(
    ("reference", "more", "beside"),
    [
        ("#m", {"contained": [MEDICATION]}, ()),
        ("Medication/m", {}, (entry(MEDICATION),)),
        ("urn:uuid:8", {}, (entry({"resourceType": "Medication", "code": ANAKINRA}, "urn:uuid:8"),)),
    ],
)
def test_a_medication_inside_or_beside(reference: str, more: dict[str, Any], beside: tuple[Entry, ...]) -> None:
    resource = order(medicationCodeableConcept=None, medicationReference={"reference": reference}, **more)
    (found,) = collected(*beside, resource)
    assert (found.use.ingredients, found.place) == (("anakinra",), len(beside))
    assert draft_orders.medication_references([*beside, entry(resource)]) == ()


def test_what_has_to_be_looked_for_elsewhere() -> None:
    resource = order(medicationCodeableConcept=None, medicationReference={"reference": "Medication/far"})
    assert draft_orders.medication_references([entry(resource), entry(resource)]) == ("Medication/far",)
    here = context()
    here = type(here)(now=here.now, zone=here.zone, medications={"Medication/far": json.dumps(MEDICATION).encode()})
    (found,) = draft_orders.collect([entry(resource)], picked=frozenset(), context=here)
    assert (found.use.ingredients, found.picked) == (("anakinra",), False)


@pytest.mark.parametrize(
    "raw", [b"[]", b"{", b'{"resourceType": "MedicationRequest", "medicationCodeableConcept": 7}', b"7"]
)
def test_what_cannot_be_read(raw: bytes) -> None:
    found = collected(entry(raw))
    assert [(d.unreadable, d.named) for d in found] in ([], [(True, True)])


def test_what_is_no_id_goes_no_further_and_an_id_of_two_names_none() -> None:
    (named,) = collected(order(id="Jane Doe 1950-03-02"))
    assert (named.use.reference, named.removable) == ("draftOrders/0", False)
    assert [d.removable for d in collected(order(), order(priority="urgent"))] == [False, False]
    assert len({d.digest for d in collected(order(), order(id="d2"), order(priority="urgent"))}) == 3


@pytest.mark.parametrize(
    ("text", "live"), [("MMR live vaccine (Priorix)", True), ("Stamaril", True), ("influenza vaccine", False)]
)
def test_a_live_vaccine_that_only_words_name(text: str, live: bool) -> None:
    found = one(medicationCodeableConcept={"text": text})
    assert (found.vaccine, found.possibly_live) == (None, live)


def test_without_an_id_a_draft_has_a_place_of_its_own_and_cannot_be_removed() -> None:
    first, second = collected(order(id=None), order(id="a/b"))
    assert (first.use.reference, first.removable) == ("draftOrders/0", False)
    assert not second.removable


@pytest.mark.parametrize(("code", "live"), [("03", True), ("3", True), ("140", False), ("99999", None)])
def test_vaccines(code: str, live: bool | None) -> None:
    found = one(medicationCodeableConcept=concept(f"http://hl7.org/fhir/sid/cvx|{code}"))
    assert found.vaccine is live
    assert found.use.identity == ("none" if live is None else "code")


def test_what_it_replaces() -> None:
    found = one(
        priorPrescription={"reference": "https://ehr.example/fhir/MedicationRequest/old/_history/3"},
        basedOn={"reference": "CarePlan/c"},
    )
    assert found.replaces == ("MedicationRequest/old", "CarePlan/c")
    assert one(basedOn=[{"reference": "MedicationRequest/b"}, {}, 7]).replaces == ("MedicationRequest/b",)


# --- whose


@pytest.mark.parametrize(
    ("owner", "ids", "identifiers", "unclear"),
    [
        ({"subject": {"reference": "Patient/p1"}}, {"p1"}, set(), False),
        ({"subject": {"reference": "https://elsewhere.example/fhir/Patient/p1/_history/2"}}, {"p1"}, set(), False),
        ({"subject": {"reference": "Patient/p2/"}}, {"p2"}, set(), False),
        ({"subject": [{"reference": "Patient/p2"}]}, {"p2"}, set(), False),
        ({"subject": None, "patient": {"reference": "Patient/p2"}}, {"p2"}, set(), False),
        ({"subject": None}, set(), set(), False),
        ({"subject": {"identifier": {"system": "urn:mrn", "value": "x"}}}, set(), {("urn:mrn", "x")}, False),
        ({"subject": {"identifier": {"system": "urn:mrn"}}}, set(), set(), True),
        ({"subject": {"display": "somebody"}}, set(), set(), True),
        ({"subject": {"reference": "urn:uuid:8"}}, set(), set(), True),
        ({"subject": {"reference": "#p"}}, set(), set(), True),
        ({"subject": {"reference": "Patient?identifier=abc"}}, set(), set(), True),
        ({"subject": {"reference": "Group/p3"}}, set(), set(), True),
        ({"subject": "Patient/p1"}, set(), set(), True),
        ({"subject": [{"reference": "Patient/p1"}, {}, {"reference": "Patient/p2"}]}, set(), set(), True),
    ],
)
def test_whose_an_order_is(
    owner: dict[str, Any], ids: set[str], identifiers: set[tuple[str, str]], unclear: bool
) -> None:
    found = draft_orders.subjects([entry(order(**owner)), entry(b"[]")])
    assert (found.ids, found.identifiers, found.unclear) == (ids, identifiers, unclear)


# --- how much on a day (a dose is never understated)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([dosage(300)], ("300", "300")),
        ([dosage(300, repeat={"frequency": None, "when": ["MORN", "EVE"]})], ("600", "600")),
        ([dosage(300, repeat={"frequency": 1, "timeOfDay": ["06:00:00", "14:00:00", "22:00:00"]})], ("900", "900")),
        ([dosage(300, repeat={"when": "MORN", "frequency": None, "period": None})], ("300", "300")),
        ([dosage(600, repeat={"period": 2})], ("600", "600")),
        ([dosage(1000, repeat={"periodUnit": "wk"})], ("1000", "1000")),
        ([dosage(1000, repeat={"periodUnit": "wk", "frequency": 14})], ("2000", "2000")),
        ([dosage(300), dosage(100)], ("400", "400")),
        ([dosage(300, sequence=1), dosage(100, sequence=2)], ("100", "300")),
        (
            [dosage(300, sequence=n, repeat=until("2026-03-12")) for n in (1, 2)],
            ("600", "600"),
        ),
        (
            [
                dosage(300, sequence=1, repeat=until("2026-03-12")),
                dosage(100, sequence=1, repeat=until("2026-03-15", "2026-03-13")),
            ],
            ("100", "300"),
        ),
        ([dosage(100, rateQuantity=quantity(100, "mg/h"))], None),
        ([dosage(100, doseAndRate=[{"doseQuantity": quantity(100, "mg"), "rateQuantity": quantity(9, "mg/h")}])], None),
        (
            [
                dosage(
                    100, doseAndRate=[{"doseQuantity": quantity(6, "{syringe}")}, {"doseQuantity": quantity(9, "mg")}]
                )
            ],
            None,
        ),
        ([dosage(100, doseAndRate=[{"doseQuantity": {"value": 10, "unit": "mg", "code": "mg/kg"}}])], None),
        ([dosage(100, doseAndRate=[{"doseQuantity": quantity(10, "mg", code="[iU]")}])], None),
        ([dosage(100, doseAndRate=[{"doseQuantity": {"value": 10, "unit": "mg", "code": "258684004"}}])], ("10", "10")),
        ([dosage(300), {"text": "and some more"}], None),
        ([dosage(300, asNeededBoolean=True)], None),
        ([dosage(300, asNeededBoolean=False)], ("300", "300")),
        ([dosage(300, asNeededCodeableConcept=concept(text="fever"))], None),
        ([dosage(300, sequence="1")], None),
        ([], None),
    ],
)
def test_the_doses_of_a_day(lines: list[dict[str, Any]], expected: tuple[str, str] | None) -> None:
    found = one(dosageInstruction=lines)
    given = None if found.use.daily_mg is None else (str(found.least_mg), str(found.use.daily_mg))
    assert given == expected


# --- from which day to which


@pytest.mark.parametrize(
    ("repeat", "expected"),
    [
        (until("2026-03-23"), ("2026-03-10", "2026-03-23", "written")),
        (until("2026-03-24T00:00:00+01:00"), ("2026-03-10", "2026-03-23", "written")),
        (until("2026-03-23T10:00:00+01:00"), ("2026-03-10", "2026-03-23", "written")),
        ({"boundsPeriod": {"start": "2026-03-11"}}, ("2026-03-11", "", "open")),
        ({"boundsPeriod": {"start": "2026-03-11", "end": "soon"}}, ("2026-03-11", "", "unreadable")),
        ({"boundsDuration": quantity(14, "d")}, ("", "2026-03-23", "written")),
        ({"boundsDuration": {"value": 2, "unit": "weeks"}}, ("", "2026-03-23", "written")),
        ({"boundsDuration": quantity(36, "h")}, ("", "2026-03-11", "written")),
        ({"boundsDuration": quantity(14, "fortnight")}, ("", "", "unreadable")),
        ({"boundsDuration": quantity(0, "d")}, ("", "", "unreadable")),
        ({"boundsDuration": quantity(1e9, "d")}, ("", "", "unreadable")),
        ({"boundsRange": {"low": quantity(7, "d"), "high": quantity(14, "d")}}, ("", "2026-03-23", "written")),
        ({"count": 14}, ("", "2026-03-23", "written")),
        ({"count": 27, "frequency": 2}, ("", "2026-03-23", "written")),
        ({"count": 14, "period": None}, ("", "", "unreadable")),
        ({}, ("", "", "open")),
    ],
)
def test_the_days_of_one_dosage(repeat: dict[str, Any], expected: tuple[str, str, str]) -> None:
    assert days(dosage(repeat=repeat)) == expected


def test_no_dosage_and_no_timing() -> None:
    assert days() == ("", "", "open")
    assert days({"timing": {"repeat": {"frequency": 1}}}) == ("", "", "open")


@pytest.mark.parametrize(
    "changes",
    [
        {"dosageInstruction": [dosage(text="for 5 days")]},
        {"dosageInstruction": [dosage(patientInstruction="until Friday")]},
        {"dosageInstruction": [{"timing": {"code": {"text": "QD for 3 days"}}}]},
        {"dosageInstruction": [dosage() | {"timing": {"event": ["2026-03-10T12:00:00Z"]}}]},
        {"dosageInstruction": [dosage(sequence="1")]},
        {"dosageInstruction": [dosage()], "dispenseRequest": {"quantity": quantity(5, "{syringe}")}},
        {"dosageInstruction": [dosage()], "dispenseRequest": {"expectedSupplyDuration": quantity(5, "d")}},
    ],
)
def test_what_is_written_and_not_understood_is_not_taken_for_not_written(changes: dict[str, Any]) -> None:
    found = one(**changes)
    assert (found.end, found.last_day) == ("unreadable", None)


def test_dosages_after_each_other_and_side_by_side() -> None:
    lines = [
        dosage(sequence=1, repeat={"boundsDuration": quantity(11, "d")}),
        dosage(200, sequence=2, repeat={"boundsDuration": quantity(2, "d")}),
        dosage(100, sequence=3, repeat={"boundsDuration": quantity(1, "d")}),
    ]
    assert days(*lines) == ("", "2026-03-23", "written")
    assert days(*[{**line, "sequence": 1} for line in lines]) == ("", "2026-03-20", "written")
    assert days(lines[0], dosage()) == ("", "", "open")


def test_a_start_at_the_end_of_the_calendar() -> None:
    start = {"boundsPeriod": {"start": "9998-12-31"}}
    line = dosage(sequence=1, repeat=start | {"boundsPeriod": {"start": "9998-12-31", "end": "9998-12-31"}})
    assert days(line, dosage(sequence=2, repeat={"boundsDuration": quantity(36000, "d")}))[2] == "unreadable"


def test_a_number_that_no_arithmetic_survives() -> None:
    raw = json.dumps(order(dosageInstruction=[dosage(repeat={"boundsDuration": quantity(7, "mo")})])).replace(
        '"value": 7', '"value": 9e999999'
    )
    (found,) = collected(entry(raw.encode()))
    assert found.end == "unreadable"


# --- corrections


def corrected(
    resource: Any, *, mg: int | None = None, last: str | None = None, per_day: int = 1
) -> dict[str, Any] | None:
    return corrections.corrected(
        json.dumps(resource).encode(),
        daily_mg=None if mg is None else Decimal(mg),
        last_day=None if last is None else date.fromisoformat(last),
        first_day=TODAY,
        per_day=per_day,
    )


def test_a_dose_and_a_last_day_are_changed_and_nothing_else() -> None:
    before = order(
        dosageInstruction=[dosage(300, repeat=until("2026-06-01") | {"frequency": 2}, text="300 mg bid")],
        dispenseRequest={"quantity": quantity(60, "mg"), "performer": {"reference": "Organization/o"}},
        text={"status": "generated", "div": "<div>300 mg</div>"},
        priority="urgent",
    )
    after = corrected(before, mg=300, last="2026-03-23", per_day=2)
    assert after is not None
    (line,) = after["dosageInstruction"]
    assert line["doseAndRate"][0]["doseQuantity"] == quantity(Decimal(150), "mg")
    assert line["timing"]["repeat"] == {**DAILY, "frequency": 2, **until("2026-03-23")}
    assert "text" not in line
    assert after["dispenseRequest"] == {"performer": {"reference": "Organization/o"}}
    assert "text" not in after
    same = {"resourceType", "id", "status", "intent", "subject", "medicationCodeableConcept", "priority"}
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    MedicationRequest.model_validate(json.loads(json.dumps(after, default=float)))


def test_where_no_start_is_written_it_is_given() -> None:
    after = corrected(order(dosageInstruction=[dosage()]), last="2026-03-23")
    assert after is not None
    assert after["dosageInstruction"][0]["timing"]["repeat"]["boundsPeriod"] == until("2026-03-23")["boundsPeriod"]
    for name in ("boundsDuration", "count"):
        bounds = {"boundsDuration": quantity(60, "d"), "count": 60}[name]
        after = corrected(order(dosageInstruction=[dosage(repeat={name: bounds})]), last="2026-03-23")
        assert after is not None
        assert name not in after["dosageInstruction"][0]["timing"]["repeat"]


def test_objects_in_place_of_lists_become_lists() -> None:
    after = corrected(
        order(category=concept(text="inpatient"), dosageInstruction=dosage(600)), mg=300, last="2026-03-23"
    )
    assert after is not None
    assert after["category"] == [concept(text="inpatient")]
    after = corrected(order(dosageInstruction=[dosage(600, doseAndRate={"doseQuantity": quantity(600, "mg")})]), mg=300)
    assert after is not None
    assert after["dosageInstruction"][0]["doseAndRate"][0]["doseQuantity"]["value"] == 300


@pytest.mark.parametrize(
    "changes",
    [
        {"dosageInstruction": []},
        {"dosageInstruction": [dosage(), dosage()]},
        {"dosageInstruction": [7]},
        {"dosageInstruction": [dosage(doseAndRate=[])]},
        {"dosageInstruction": [dosage(doseAndRate=[{"doseRange": {"high": quantity(600, "mg")}}])]},
        {"dosageInstruction": [dosage(doseAndRate=[{"doseQuantity": quantity(2, "{tbl}")}])]},
        {"dosageInstruction": [dosage(repeat={"period": None})]},
        {"dosageInstruction": [dosage(repeat={"frequency": 2})]},
        {"dosageInstruction": [dosage(additionalInstruction=[concept(text="give 6 syringes")])]},
        {"dosageInstruction": [dosage(maxDosePerAdministration=quantity(600, "mg"))]},
        {"dosageInstruction": [dosage(asNeededBoolean=False)]},
        {"dosageInstruction": [dosage(extension=[{"url": "x", "valueString": "600 mg"}])]},
        {
            "dosageInstruction": [
                dosage(doseAndRate=[{"doseQuantity": quantity(600, "mg"), "rateQuantity": quantity(25, "mg/h")}])
            ]
        },
        {"note": [{"text": "600 mg daily"}]},
        {"modifierExtension": [{"url": "x", "valueBoolean": True}]},
        {"dosageInstruction": [dosage(timing="daily")]},
        {"intent": None},
        {"subject": None},
    ],
)
def test_what_is_not_simple_or_becomes_no_valid_order_is_not_offered(changes: dict[str, Any]) -> None:
    assert corrected(order(**changes), mg=300, last="2026-03-23") is None


def test_a_last_day_alone_needs_no_readable_dose() -> None:
    tablets = order(dosageInstruction=[dosage(doseAndRate=[{"doseQuantity": quantity(1, "{tbl}")}])])
    assert corrected(tablets, last="2026-03-23") is not None
    assert corrected(order(dosageInstruction=[dosage(timing=None)]), last="2026-03-23") is not None
    only = order(dosageInstruction=[dosage(600)], dispenseRequest={"quantity": quantity(1, "mg")})
    after = corrected(only, last="2026-03-23")
    assert after is not None
    assert "dispenseRequest" not in after


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "text": {"div": "<div>told</div>"},
            "dosageInstruction": [dosage(600, text="told", patientInstruction="told")],
        },
        {"dosageInstruction": dosage(600, text="told")},
        {"dosageInstruction": [dosage(600.25)], "category": {"text": "kept"}, "reasonCode": []},
    ],
    ids=["as it is", "with words", "an object for a list", "digits"],
)
def test_without_its_words_the_same_is_made_of_a_draft(changes: dict[str, Any]) -> None:
    raw = entry(order(**changes)).raw
    kept = bytes(corrections.without_words(raw))
    asked: dict[str, Any] = {"daily_mg": Decimal(300), "last_day": date(2026, 3, 20), "first_day": date(2026, 3, 10)}
    made = corrections.corrected(raw, **asked)
    assert made is not None
    assert corrections.corrected(kept, **asked) == made
    assert b"told" not in kept


def test_a_draft_without_a_dosage_is_kept_without_its_narrative() -> None:
    raw = b'{"resourceType":"MedicationRequest","text":{"div":"words"},"status":"draft"}'
    assert bytes(corrections.without_words(raw)) == b'{"resourceType":"MedicationRequest","status":"draft"}'
