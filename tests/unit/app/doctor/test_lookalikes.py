"""Codes that nobody has mapped: found by words, never mapped by them."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from app.doctor import codes
from app.doctor.lookalikes import LookAlike, LookAlikes, writable
from fhir_mappings.coding import Coding
from fhir_mappings.facts import Overlay
from tests.unit.app.doctor import local
from tests.unit.app.doctor.local import SITE, chart, counted, facts_of, observation, person, quantity, use


def named(display: str, *, unit: str = "", value: float = 1) -> tuple[str, ...]:
    """What a code with this name looks like."""
    _, found = counted([person(), observation(1, (SITE, "1", display), **quantity(value, unit))])
    return next((one.like for one in found.found()), ())


@pytest.mark.parametrize(
    ("display", "like"),
    [
        ("CRP quant", ("crp",)),
        ("C-reaktives Protein", ("crp",)),
        ("Protéine C réactive", ("crp",)),
        ("Proteína C reactiva", ("crp",)),
        ("C-reactive protein [Presence], qualitative", ()),
        ("Ferritine", ("ferritin",)),
        ("Ferritin goal", ()),
        ("pO2 art.", ("pao2",)),
        ("pO2 venös", ()),
        ("pO2 venous", ()),
        ("FiO2 (Respirator)", ("fio2",)),
        ("PaO2/FiO2", ("pf",)),
        ("Horowitz-Index", ("pf",)),
        ("PEEP eingestellt", ("peep",)),
        ("Auto-PEEP", ()),
        ("Pression plateau", ("pplat",)),
        ("Compliance statique", ("crs",)),
        ("Compliance dynamique", ()),
        ("Volume courant", ("vt",)),
        ("Neutrophile Granulozyten", ("anc",)),
        ("Thrombozyten", ("platelets",)),
        ("Plaquettes", ("platelets",)),
        ("Mean platelet volume", ()),
        ("GPT (ALAT)", ("alt",)),
        ("Kreatinin", ("creatinine",)),
        ("Kreatinin-Clearance", ("crcl",)),
        ("Heart rate", ()),
        ("", ()),
    ],
)
def test_names_in_four_languages(display: str, like: tuple[str, ...]) -> None:
    assert named(display) == like


def test_one_entry_for_a_code_with_its_commonest_name_and_units() -> None:
    _, found = counted(chart())
    [crp] = [one for one in found.found() if one.mark == f"{SITE}|1234"]
    assert crp == LookAlike(
        "codes", "Observation.code", f"{SITE}|1234", "CRP quant", ("crp",), 3, (("mg/L", 3),), fits=True
    )


def test_a_text_beside_a_code_is_not_shown() -> None:
    typed = observation(1, (SITE, "1", ""), **quantity(4, "mg/L"))
    typed["code"]["text"] = f"CRP of Mrs {local.NAME}"
    drug = use("MedicationAdministration", 1, codings=[(SITE, "2", "")], text=f"Kineret for {local.NAME}")
    _, found = counted([person(), typed, drug])
    assert {(one.mark, one.display, one.like) for one in found.found()} == {
        (f"{SITE}|1", "", ("crp",)),
        (f"{SITE}|2", "", ("anakinra",)),
    }


def test_a_bar_in_a_code_parts_no_system_from_it() -> None:
    both = [observation(1, (f"{SITE}|a", "b", "CRP")), observation(2, (SITE, "a|b", "CRP"))]
    _, found = counted([person(), *both])
    assert sorted((one.mark, one.count) for one in found.found()) == [("", 1), (f"{SITE}|a|b", 1)]


def test_what_is_mapped_already_is_no_look_alike() -> None:
    _, found = counted(chart(), overlay=Overlay(codes={f"{SITE}|1234": ("crp", "")}))
    assert [one for one in found.found() if one.mark == f"{SITE}|1234"] == []


def test_components_are_looked_at() -> None:
    _, found = counted(chart())
    assert [one.like for one in found.found() if one.element == "Observation.component.code"] == [("pplat",)]


@pytest.mark.parametrize(("unit", "fits"), [("mg/L", True), ("", False), ("mm[Hg]", False)])
def test_a_unit_that_is_not_accepted_is_said(unit: str, fits: bool) -> None:
    _, found = counted([person(), observation(1, (SITE, "1", "CRP"), **quantity(4, unit))])
    assert [one.fits for one in found.found()] == [fits]


def test_a_coded_concept_needs_no_unit() -> None:
    prone = observation(1, (SITE, "1", "Lagerung"), valueString="Bauchlage")
    _, found = counted([person(), prone])
    assert [(one.like, one.fits, one.units) for one in found.found()] == [(("position",), True, ())]


def test_a_code_that_the_overlay_cannot_name_has_no_mark() -> None:
    _, found = counted(chart())
    assert sorted(one.display for one in found.found() if not one.mark) == ["CRP", "PEEP"]
    for coding in (
        Coding("", "1"),
        Coding(SITE, ""),
        Coding(SITE, "a|b"),
        Coding(SITE, "\x1b"),
        Coding(f"{SITE}\n", "1"),
        Coding(SITE, "1" * 200),
    ):
        assert writable(coding) == ""
    assert writable(Coding("http://loinc.org", "1-8")) == "loinc|1-8"


def test_what_has_no_code_at_all_is_counted() -> None:
    _, found = counted(chart())
    assert dict(found.uncoded) == {"ferritin": 1, "anakinra": 1, "comfort-care": 1}


def test_other_codes_are_counted_by_how_often() -> None:
    many = [observation(n, (SITE, f"HR{n % 2}", "Heart rate"), **quantity(80, "/min")) for n in range(3)]
    _, found = counted([person(), *many])
    assert [(one.mark.rpartition("|")[2], one.count) for one in found.others()] == [("HR0", 2), ("HR1", 1)]


def medications(resources: Sequence[local.Resource]) -> tuple[list[tuple[str, tuple[str, ...]]], dict[str, int]]:
    _, found = counted([person(), *resources])
    return [(one.mark, one.like) for one in found.found() if one.kind == "products"], dict(found.uncoded)


def test_medications_that_codes_do_not_name() -> None:
    found, uncoded = medications([r for r in chart() if r["resourceType"].startswith("Medication")])
    assert found == [(f"{SITE}|KIN100", ("anakinra",)), (f"{SITE}|4711", ())]
    assert uncoded == {"anakinra": 1}


def test_a_medication_without_anything_is_counted() -> None:
    nothing = use("MedicationRequest", 1)
    del nothing["medicationCodeableConcept"]
    assert medications([nothing]) == ([], {"a medication without code": 1})


def refers(number: int, reference: str, **more: object) -> local.Resource:
    made = use("MedicationAdministration", number)
    del made["medicationCodeableConcept"]
    return made | {"medicationReference": {"reference": reference}} | more


def test_a_medication_resource_is_followed() -> None:
    kineret = {"coding": [{"system": SITE, "code": "KIN", "display": "Kineret"}]}
    resources = [
        {"resourceType": "Medication", "id": "k", "code": kineret},
        {"resourceType": "Medication", "id": "empty"},
        refers(1, "Medication/k/_history/2"),
        refers(2, "#in", contained=[{"resourceType": "Medication", "id": "in", "code": kineret}]),
        refers(3, "Medication/nowhere"),
        refers(4, "Medication/empty"),
    ]
    found, uncoded = medications(resources)
    assert found == [(f"{SITE}|KIN", ("anakinra",))]
    assert uncoded == {"a medication without code": 2}


def test_problems_known_by_their_words() -> None:
    _, found = counted(chart())
    assert [(one.mark, one.like) for one in found.found() if one.kind == "conditions"] == [
        (f"{SITE}|DNR", ("comfort-care",))
    ]
    silent = {
        "resourceType": "Condition",
        "id": "c",
        "subject": {"reference": f"Patient/{local.PATIENT}"},
        "code": {"coding": [{"system": SITE, "code": "9"}]},
    }
    _, found = counted([person(), silent, silent | {"id": "d", "code": {}}])
    assert found.found() == ()
    assert dict(found.uncoded) == {"a problem without code": 1}


def test_what_cannot_be_read_is_passed_over() -> None:
    found = LookAlikes(Overlay())
    found.add_observations([b"no json", b'{"resourceType": "Observation", "code": 7}', b'{"resourceType": "Patient"}'])
    assert found.found() == ()
    assert codes.nodes(b'{"resourceType":"Observation","id":"x","status":"entered-in-error"}') == ("", ())
    assert codes.medications([b"no json"]) == {}
    assert codes.coded([b"no json", b'{"resourceType":"Condition","id":"c"}']) == {}
    inside = refers(1, "#in", contained=[{"resourceType": "Medication", "id": "other"}])
    assert codes.medications([json.dumps(inside).encode()]) == {}
    assert list(codes.marks_of(codes.nodes(json.dumps(chart()[1]).encode())[1], "crp", overlay=Overlay())) == []
    assert codes.subject(b"no json") == ""
    assert codes.subject(b"{}") == ""


def test_facts_and_resources_need_not_match() -> None:
    facts, _ = facts_of(chart())
    found = LookAlikes(Overlay())
    found.add_medications(facts, [])
    found.add_conditions(facts, [])
    assert found.found() == ()
