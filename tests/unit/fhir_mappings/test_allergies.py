"""Allergies, by code and by words."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fhir_mappings import allergies
from fhir_mappings.context import Context
from fhir_mappings.facts import Allergy, Gap, Overlay

SNOMED = "http://snomed.info/sct"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
CONTEXT = Context(now=datetime(2021, 3, 20, 12, tzinfo=UTC), zone=ZoneInfo("Europe/Paris"))


def allergy(**fields: Any) -> dict[str, Any]:
    return {"resourceType": "AllergyIntolerance", "id": "x1"} | fields


def coded(system: str, code: str, **fields: Any) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code} | fields]}


def one(resource: dict[str, Any], *, where: Context = CONTEXT) -> Allergy:
    facts, gaps = allergies.collect([("allergies", json.dumps(resource).encode())], context=where)
    assert gaps == ()
    return facts[0]


@pytest.mark.parametrize(
    ("code", "substances"),
    [
        (coded(RXNORM, "72435"), ("anakinra",)),
        (coded("http://www.whocc.no/atc", "L01EJ01"), ("ruxolitinib",)),
        (coded(SNOMED, "112283007"), ("e-coli",)),
        (coded(SNOMED, "716186003"), ("no-known-allergy",)),
        (coded(SNOMED, "409137002"), ("no-known-allergy",)),
        (coded(SNOMED, "764146007"), ()),
    ],
)
def test_by_code(code: dict[str, Any], substances: tuple[str, ...]) -> None:
    fact = one(allergy(code=code))
    assert (fact.substances, fact.by_text) == (substances, False)


@pytest.mark.parametrize(
    ("text", "substances"),
    [
        ("Anakinra", ("anakinra",)),
        ("KINERET (Ausschlag)", ("anakinra",)),
        ("Jakavi", ("ruxolitinib",)),
        ("jakafi 5 mg", ("ruxolitinib",)),
        ("E. coli derived protein", ("e-coli",)),
        ("Escherichia coli", ("e-coli",)),
        ("Polysorbate 80", ("polysorbate-80",)),
        ("disodium edetate", ("edta",)),
        ("Lactose", ("lactose",)),
        ("Penicillin", ()),
        ("no known allergies", ()),
    ],
)
@pytest.mark.parametrize("place", ["text", "display", "reaction-text", "reaction-display", "description", "note"])
def test_by_words_wherever_they_stand(text: str, substances: tuple[str, ...], place: str) -> None:
    concept: dict[str, Any] = {"text": text} if "text" in place else coded("urn:local", "1", display=text)
    if place == "description":
        fields: dict[str, Any] = {"reaction": [{"description": text}]}
    elif place == "note":
        fields = {"note": [{"text": text}]}
    elif place.startswith("reaction"):
        fields = {"reaction": [{"substance": concept}, {}]}
    else:
        fields = {"code": concept}
    fact = one(allergy(**fields))
    assert (fact.substances, fact.by_text) == (substances, bool(substances))


def test_a_code_of_the_reaction_counts() -> None:
    fact = one(allergy(code={"text": "drug"}, reaction=[{"substance": coded(RXNORM, "1193326")}]))
    assert (fact.substances, fact.by_text, fact.label) == (("ruxolitinib",), False, "drug")


def test_words_beside_the_same_code_are_not_by_text() -> None:
    assert one(allergy(code=coded(RXNORM, "72435", display="anakinra"))).by_text is False


def test_an_unverified_code_counts_like_words() -> None:
    fact = one(allergy(code=coded(SNOMED, "385549000")))
    assert (fact.substances, fact.by_text) == (("anakinra",), True)


def test_a_code_of_the_site() -> None:
    overlay = Overlay(codes={"urn:local|A": ("anakinra", ""), "urn:local|B": ("crp", "")})
    where = Context(now=CONTEXT.now, zone=CONTEXT.zone, overlay=overlay)
    assert one(allergy(code=coded("urn:local", "A")), where=where).substances == ("anakinra",)
    assert one(allergy(code=coded("urn:local", "B")), where=where).substances == ()


@pytest.mark.parametrize(
    ("fields", "counts"),
    [
        ({}, True),
        ({"clinicalStatus": {"coding": [{"code": "active"}]}}, True),
        ({"clinicalStatus": {"coding": [{"code": "inactive"}]}}, False),
        ({"verificationStatus": {"coding": [{"code": "unconfirmed"}]}}, True),
        ({"verificationStatus": {"coding": [{"code": "refuted"}]}}, False),
        ({"verificationStatus": {"coding": [{"code": "entered-in-error"}]}}, False),
    ],
)
def test_status(fields: dict[str, Any], counts: bool) -> None:
    assert one(allergy(code={"text": "Kineret"}, **fields)).counts is counts


def test_what_cannot_be_read_is_a_gap() -> None:
    facts, gaps = allergies.collect([("allergies", b'{"id": "x1", "code": 3}')], context=CONTEXT)
    assert facts == ()
    assert gaps == (Gap("allergies", "unreadable-resource", reference="/x1"),)


def test_names_that_rules_may_use() -> None:
    assert set(allergies.substance_names()) == {
        "no-information",
        "anakinra",
        "ruxolitinib",
        "e-coli",
        "polysorbate-80",
        "edta",
        "lactose",
        "lactose-intolerance",
        "no-known-allergy",
    }


LACTOSE = {"text": "Lactose"}
INTOLERANT = {"text": "Lactose intolerance"}
CODED_INTOLERANCE = coded(SNOMED, "782415009")


@pytest.mark.parametrize(
    ("fields", "substances"),
    [
        ({"code": LACTOSE}, ("lactose",)),
        ({"code": LACTOSE, "type": "allergy"}, ("lactose",)),
        ({"code": LACTOSE, "type": "intolerance"}, ("lactose-intolerance",)),
        ({"code": LACTOSE, "type": "intolerance", "criticality": "high"}, ("lactose",)),
        ({"code": LACTOSE, "type": "intolerance", "criticality": "low"}, ("lactose-intolerance",)),
        ({"code": INTOLERANT}, ("lactose-intolerance",)),
        ({"code": INTOLERANT, "type": "allergy"}, ("lactose",)),
        ({"code": {"text": "Laktoseintoleranz"}}, ("lactose-intolerance",)),
        ({"code": CODED_INTOLERANCE}, ("lactose-intolerance",)),
        ({"code": CODED_INTOLERANCE, "type": "allergy"}, ("lactose",)),
        ({"code": CODED_INTOLERANCE, "criticality": "high"}, ("lactose",)),
    ],
)
def test_an_intolerance_of_lactose_is_no_allergy_to_it(fields: dict[str, Any], substances: tuple[str, ...]) -> None:
    assert one(allergy(**fields)).substances == substances


def test_an_intolerance_of_a_drug_counts_like_an_allergy() -> None:
    """Charts call both so; only lactose is a matter of an enzyme."""
    assert one(allergy(code={"text": "Kineret"}, type="intolerance")).substances == ("anakinra",)


@pytest.mark.parametrize(
    "code",
    [
        {"text": "Unable to assess"},
        {"text": "No known food allergy"},
        {
            "coding": [
                {"system": "http://hl7.org/fhir/uv/ips/CodeSystem/absent-unknown-uv-ips", "code": "no-allergy-info"}
            ]
        },
    ],
)
def test_a_place_holder_is_recognised(code: dict[str, object]) -> None:
    assert one(allergy(code=code)).substances == ("no-information",)
