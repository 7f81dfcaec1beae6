"""Problems and diagnoses: which groups they belong to, and whether they are active."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fhir_mappings import conditions
from fhir_mappings.codebook import Codebook
from fhir_mappings.coding import CodeableConcept, Coding
from fhir_mappings.context import Context
from fhir_mappings.errors import BadCodebook
from fhir_mappings.facts import Condition, Gap, Overlay

NOW = datetime(2021, 3, 20, 12, 0, tzinfo=UTC)
WHO = "http://hl7.org/fhir/sid/icd-10"
CM = "http://hl7.org/fhir/sid/icd-10-cm"
GM = "http://fhir.de/CodeSystem/bfarm/icd-10-gm"
SNOMED = "http://snomed.info/sct"
CONTEXT = Context(now=NOW, zone=ZoneInfo("Europe/Paris"))


def condition(*codings: tuple[str, str], **fields: Any) -> dict[str, Any]:
    code = {"coding": [{"system": system, "code": code} for system, code in codings]}
    return {"resourceType": "Condition", "id": "c1", "code": code} | fields


def read(resource: dict[str, Any], *, where: Context = CONTEXT) -> tuple[tuple[Condition, ...], tuple[Gap, ...]]:
    return conditions.collect([("conditions", json.dumps(resource).encode())], context=where)


def one(resource: dict[str, Any], *, where: Context = CONTEXT) -> Condition:
    facts, gaps = read(resource, where=where)
    assert gaps == ()
    assert len(facts) == 1
    return facts[0]


@pytest.mark.parametrize(
    ("system", "code", "concepts"),
    [
        (WHO, "U07.1", ("covid19",)),
        (GM, "U07.1", ("covid19",)),
        (SNOMED, "840539006", ("covid19",)),
        (WHO, "U07.2", ("covid19-suspected",)),
        ("https://smt.esante.gouv.fr/terminologie-cim-10", "U07.10", ("covid19",)),
        ("https://smt.esante.gouv.fr/terminologie-cim-10", "U07.11", ("covid19-suspected",)),
        (WHO, "B44.0", ("infection-opportunistic",)),
        (CM, "B44.81", ("infection-systemic",)),
        (WHO, "B46.1", ("infection-opportunistic",)),
        (CM, "B59", ("infection-opportunistic",)),
        (WHO, "B02.7", ("herpes-disseminated", "infection-opportunistic", "hsv-vzv")),
        (WHO, "B02.9", ("hsv-vzv",)),
        (WHO, "A41.9", ("infection-systemic",)),
        (CM, "R65.21", ("infection-systemic",)),
        (CM, "J95.851", ("infection-systemic",)),
        (WHO, "J15.9", ("infection-systemic",)),
        (WHO, "A48.1", ("infection-systemic",)),
        (WHO, "T82.7", ("infection-systemic",)),
        (CM, "T82.7XXA", ("infection-systemic",)),
        (CM, "T80.211A", ("infection-systemic",)),
        (SNOMED, "10001005", ("infection-systemic",)),
        (SNOMED, "415125002", ("infection-opportunistic",)),
        (SNOMED, "304253006", ("comfort-care",)),
        (SNOMED, "385763009", ("comfort-care",)),
        (CM, "J12.82", ("infection-covid",)),
        (SNOMED, "770349000", ("infection-covid",)),
        (SNOMED, "91302008", ("infection-systemic",)),
        (WHO, "A15.0", ("tb-active",)),
        (WHO, "Z22.7", ("tb-latent",)),
        (WHO, "B18.1", ("hbv",)),
        (WHO, "B18.2", ("chronic-liver",)),
        (WHO, "K74.6", ("cirrhosis", "chronic-liver")),
        (WHO, "Z99.2", ("dialysis-dependence", "ckd")),
        (WHO, "N18.4", ("ckd",)),
        (GM, "Z94.80", ("transplant",)),
        (WHO, "C34.9", ("cancer",)),
        (WHO, "O24.4", ("pregnancy",)),
        (CM, "Z3A.20", ("pregnancy",)),
        (WHO, "Z51.5", ("comfort-care",)),
        (CM, "Z66", ("comfort-care",)),
        (WHO, "I26.9", ("vte-mace",)),
        (WHO, "M05.9", ("autoimmune",)),
        (SNOMED, "413712001", ("lactation",)),
    ],
)
def test_a_code_belongs_to_its_groups(system: str, code: str, concepts: tuple[str, ...]) -> None:
    assert one(condition((system, code))).concepts == concepts


@pytest.mark.parametrize(
    "code",
    [
        "O80",  # delivery is no pregnancy any more
        "O92.7",  # disorder of lactation after birth
        "R65.2",  # no infection in the WHO edition
        "J18.9",  # organism unspecified proves no bacterial infection beside COVID-19
        "Z94.7",  # cornea
        "B44.2",  # tonsil
        "I10",
    ],
)
def test_what_no_rule_asks_for_is_no_fact(code: str) -> None:
    assert read(condition((WHO, code))) == ((), ())


def test_all_codings_count_once() -> None:
    assert one(condition((WHO, "U07.1"), (WHO, "J80"), (SNOMED, "840539006"))).concepts == ("covid19", "ards")


def test_a_local_flag_of_the_site() -> None:
    where = Context(now=NOW, zone=ZoneInfo("UTC"), overlay=Overlay(conditions={"urn:local|DNR": ("comfort-care",)}))
    assert one(condition(("urn:local", "DNR")), where=where).concepts == ("comfort-care",)


def test_times_status_and_label_are_carried() -> None:
    fact = one(
        condition(
            (WHO, "U07.1"),
            clinicalStatus={"coding": [{"code": "active"}]},
            verificationStatus={"coding": [{"code": "provisional"}]},
            onsetDateTime="2021-03-01",
            abatementDateTime="2021-03-19T10:00:00Z",
            recordedDate="2021-03-02",
        )
    )
    assert fact.reference == "Condition/c1"
    assert (fact.clinical, fact.verification, fact.label) == ("active", "provisional", "U07.1")
    assert fact.onset is not None
    assert not fact.onset.exact
    assert fact.abatement is not None
    assert fact.abatement.earliest == datetime(2021, 3, 19, 10, tzinfo=UTC)
    assert fact.recorded is not None


def test_periods() -> None:
    fact = one(condition((WHO, "U07.1"), onsetPeriod={"start": "2021"}, abatementPeriod={"end": "2021-02"}))
    assert fact.onset is not None
    assert fact.abatement is not None
    assert fact.active is False


@pytest.mark.parametrize(
    ("fields", "active"),
    [
        ({}, True),
        ({"clinicalStatus": "active"}, True),
        ({"clinicalStatus": {"text": "Recurrence"}}, True),
        ({"clinicalStatus": {"coding": [{"code": "remission"}]}}, False),
        ({"abatementString": "before admission"}, False),
        ({"abatementAge": {"value": 40}}, False),
        ({"abatementRange": {"low": {"value": 40}}}, False),
        ({"abatementString": "x", "clinicalStatus": "active"}, True),
        ({"verificationStatus": {"coding": [{"code": "refuted"}]}}, False),
    ],
)
def test_active(fields: dict[str, Any], active: bool) -> None:
    assert one(condition((WHO, "J80"), **fields)).active is active


def asks(*concepts: str, label: str) -> tuple[tuple[()], tuple[Gap, ...]]:
    """No fact, and one question for each concept."""
    params = (("label", label),)
    return (), tuple(Gap("conditions", "condition-text-only", c, "Condition/c1", params=params) for c in concepts)


@pytest.mark.parametrize(
    ("words", "concepts"),
    [
        ("Invasive pulmonary aspergillosis", ["infection-opportunistic"]),
        ("Aspergillose invasive", ["infection-opportunistic"]),
        ("Invasive pulmonale Aspergillose", ["infection-opportunistic"]),
        ("Mucormycosis", ["infection-opportunistic"]),
        ("Candidemia", ["infection-opportunistic"]),
        ("Candidämie", ["infection-opportunistic"]),
        ("Pneumocystosis", ["infection-opportunistic"]),
        ("Bacterial sepsis (disorder)", ["infection-systemic"]),
        ("Sepsis?", ["infection-systemic"]),
        ("Suspected catheter related infection", ["infection-systemic"]),
        ("Pneumonie bactérienne", ["infection-systemic"]),
        ("Pneumokokkensepsis", ["infection-systemic"]),
        ("Pulmonary tuberculosis", ["tb-active"]),
        ("Lungentuberkulose", ["tb-active"]),
        ("Not for resuscitation", ["comfort-care"]),
        ("Limitation des thérapeutiques", ["comfort-care"]),
        ("Therapiezieländerung", ["comfort-care"]),
        ("Zustand nach Nierentransplantation", ["transplant"]),
        ("History of renal transplant", ["transplant"]),
        ("Grossesse 22 SA", ["pregnancy"]),
        ("Frühschwangerschaft", ["pregnancy"]),
        ("Breastfeeding", ["lactation"]),
        ("Mb. Bechterew", ["autoimmune"]),
        ("Acute liver failure", ["hepatic-failure"]),
        ("Leberzirrhose Child B", ["chronic-liver", "cirrhosis"]),
        ("Sepsis with invasive candidiasis", ["infection-opportunistic", "infection-systemic"]),
    ],
)
@pytest.mark.parametrize("system", ["", SNOMED, WHO, "urn:local"])
def test_words_that_name_a_group_are_a_question(system: str, words: str, concepts: list[str]) -> None:
    coded = {"coding": [{"system": system, "code": "1", "display": words}]}
    code = coded if system else {"text": words}
    assert read(condition(code=code)) == asks(*concepts, label=words)


@pytest.mark.parametrize(
    "words",
    [
        "Hypertension",
        "Pneumonia",
        "COVID-19 pneumonia",
        "No sepsis",
        "no evidence of invasive aspergillosis",
        "Kein Hinweis auf Tuberkulose",
        "pas de grossesse",
        "History of sepsis",
        "Z. n. Sepsis",
        "antécédent de tuberculose",
        "Family history of cirrhosis",
        "Lactate acidosis",
        "Urticaria",
    ],
)
def test_other_words_are_another_disease(words: str) -> None:
    assert read(condition(code={"text": words})) == ((), ())
    assert read(condition((SNOMED, "38341003"), code={"coding": [{"system": SNOMED, "display": words}]})) == ((), ())


@pytest.mark.parametrize(
    "words", ["Fever: no, sepsis", "Fever no. Sepsis", "No improvement of sepsis", "sepsis, no source"]
)
def test_a_denial_of_something_else_is_no_denial(words: str) -> None:
    assert read(condition(code={"text": words})) == asks("infection-systemic", label=words)


@pytest.mark.parametrize(
    "fields",
    [
        {"clinicalStatus": "resolved"},
        {"clinicalStatus": "inactive"},
        {"verificationStatus": "refuted"},
        {"abatementDateTime": "2021-01-01"},
    ],
)
def test_words_of_what_is_over_are_no_question(fields: dict[str, Any]) -> None:
    assert read(condition(code={"text": "Sepsis"}, **fields)) == ((), ())


def test_a_listed_code_is_not_screened_for_more() -> None:
    code = {"coding": [{"system": WHO, "code": "I26.9"}], "text": "Septic embolism"}
    assert one(condition(code=code)).concepts == ("vte-mace",)


@pytest.mark.parametrize(
    ("code", "label"),
    [({"coding": [{"system": "urn:local", "code": "77"}]}, "77"), ({}, "")],
)
def test_without_words_and_without_a_known_system_it_may_be_anything(code: dict[str, Any], label: str) -> None:
    assert read(condition(code=code)) == asks("", label=label)


def test_no_code_is_a_gap_unless_refuted() -> None:
    resource = condition()
    del resource["code"]
    assert [gap.why for gap in read(resource)[1]] == ["condition-text-only"]
    assert read(resource | {"verificationStatus": "entered-in-error"}) == ((), ())


def test_what_cannot_be_read_is_a_gap() -> None:
    assert read(condition(onsetDateTime=3)) == (
        (),
        (Gap("conditions", "unreadable-resource", reference="Condition/c1"),),
    )


def test_labels_of_nothing() -> None:
    assert conditions.label_of(None) == ""
    assert conditions.label_of(CodeableConcept(coding=(Coding(display="d"),), text="t")) == "t"


def test_names_that_rules_may_use() -> None:
    names = conditions.concept_names()
    assert {"covid19", "infection-opportunistic", "comfort-care"} <= set(names)
    assert not {"implies", "text-screen"} & set(names)


@pytest.mark.parametrize("implies", [{"a": ["b"]}, {"b": ["a"]}])
def test_an_implication_needs_its_tables(implies: dict[str, list[str]]) -> None:
    with pytest.raises(BadCodebook, match=r"mine\.toml: \[implies\] .: no table \[b\]"):
        conditions.read_implied(Codebook("mine", {"a": {"text": "a"}, "implies": implies}))
