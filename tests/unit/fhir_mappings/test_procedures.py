"""Organ support, position and airway procedures."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fhir_mappings import procedures
from fhir_mappings.codebook import Codebook
from fhir_mappings.context import Context
from fhir_mappings.errors import BadCodebook
from fhir_mappings.facts import Gap, Overlay, Procedure

NOW = datetime(2021, 3, 20, 12, 0, tzinfo=UTC)
SNOMED = "http://snomed.info/sct"
OPS = "http://fhir.de/CodeSystem/bfarm/ops"
CCAM = "https://smt.esante.gouv.fr/terminologie-ccam"
CONTEXT = Context(now=NOW, zone=ZoneInfo("Europe/Paris"))


def procedure(
    code: str = "", *, system: str = SNOMED, text: str = "", display: str = "", **fields: Any
) -> dict[str, Any]:
    concept: dict[str, Any] = {}
    if code or display:
        concept["coding"] = [{"system": system, "code": code, "display": display}]
    if text:
        concept["text"] = text
    return {"resourceType": "Procedure", "id": "p1", "status": "in-progress", "code": concept} | fields


def read(resource: dict[str, Any], *, where: Context = CONTEXT) -> tuple[tuple[Procedure, ...], tuple[Gap, ...]]:
    return procedures.collect([("procedures", json.dumps(resource).encode())], context=where)


def one(resource: dict[str, Any], *, where: Context = CONTEXT) -> Procedure:
    facts, gaps = read(resource, where=where)
    assert gaps == ()
    assert len(facts) == 1
    return facts[0]


@pytest.mark.parametrize(
    ("system", "code", "concepts"),
    [
        (SNOMED, "786453001", {"ecmo-vv"}),
        (SNOMED, "786451004", {"ecmo-va"}),
        (SNOMED, "233573008", {"ecmo-generic"}),
        (OPS, "8-852.04", {"ecmo-generic"}),
        (SNOMED, "233574002", {"ecco2r"}),
        (SNOMED, "1258985005", {"ventilation-invasive", "ventilation"}),
        (SNOMED, "40617009", {"ventilation"}),
        (CCAM, "GLLD015", {"ventilation"}),
        (SNOMED, "428311008", {"niv"}),
        (SNOMED, "1259025002", {"hfno"}),
        (SNOMED, "371908008", {"oxygen"}),
        (SNOMED, "431182000", {"prone"}),
        (SNOMED, "870391004", {"prone-ventilation", "prone", "ventilation"}),
        (SNOMED, "233590002", {"dialysis-continuous", "dialysis"}),
        (SNOMED, "302497006", {"dialysis-intermittent", "dialysis"}),
        (SNOMED, "108241001", {"dialysis"}),
        (CCAM, "JVJF004", {"dialysis"}),
        (SNOMED, "70536003", {"transplant"}),
        (SNOMED, "112798008", {"intubation"}),
        (SNOMED, "271280005", {"extubation"}),
        ("http://mimic.mit.edu/fhir/mimic/CodeSystem/mimic-d-items", "225792", {"ventilation-invasive", "ventilation"}),
    ],
)
def test_a_code_says_what_it_is(system: str, code: str, concepts: set[str]) -> None:
    assert set(one(procedure(code, system=system)).concepts) == concepts


@pytest.mark.parametrize(
    ("fields", "concepts"),
    [
        ({"usedCode": [{"coding": [{"system": SNOMED, "code": "26412008"}]}]}, {"ventilation", "ventilation-invasive"}),
        ({"usedCode": {"coding": [{"system": SNOMED, "code": "129121000"}]}}, {"ventilation", "ventilation-invasive"}),
        (
            {"usedCode": [{"coding": [{"system": SNOMED, "code": "426854004"}]}], "text": "invasive"},
            {"ventilation", "hfno"},
        ),
        ({"usedCode": [{"coding": [{"system": SNOMED, "code": "1"}]}]}, {"ventilation"}),
        ({"text": "Invasive Beatmung"}, {"ventilation", "ventilation-invasive"}),
        ({"display": "Endotracheal ventilation"}, {"ventilation", "ventilation-invasive"}),
        ({"text": "non-invasive ventilation"}, {"ventilation", "niv"}),
        ({"text": "Nicht-invasive Beatmung"}, {"ventilation", "niv"}),
        ({"text": "NIV, before that invasive"}, {"ventilation", "niv"}),
        ({"text": "Ventilation"}, {"ventilation"}),
    ],
)
def test_device_and_words_say_how_a_generic_ventilation_is_done(fields: dict[str, Any], concepts: set[str]) -> None:
    assert set(one(procedure("243147009", **fields)).concepts) == concepts


def test_words_do_not_change_another_procedure() -> None:
    assert one(procedure("428311008", text="Noninvasive, formerly invasive")).concepts == ("niv",)


def test_ventilation_in_prone_position_may_be_described_as_invasive() -> None:
    assert "ventilation-invasive" in one(procedure("870391004", text="invasive")).concepts


def test_a_code_of_the_site() -> None:
    overlay = Overlay(codes={"urn:local|E1": ("ecmo-vv", ""), "urn:local|CRP": ("crp", "")})
    where = Context(now=NOW, zone=ZoneInfo("UTC"), overlay=overlay)
    assert one(procedure("E1", system="urn:local"), where=where).concepts == ("ecmo-vv",)
    assert read(procedure("CRP", system="urn:local"), where=where) == ((), ())


def test_times() -> None:
    period = {"start": "2021-03-18T08:00:00+01:00", "end": "2021-03-19"}
    fact = one(procedure("786453001", status="completed", performedPeriod=period, text="vv-ECMO"))
    assert (fact.reference, fact.status, fact.label) == ("Procedure/p1", "completed", "vv-ECMO")
    assert fact.start is not None
    assert fact.start.earliest == datetime(2021, 3, 18, 7, tzinfo=UTC)
    assert fact.end is not None
    assert not fact.end.exact
    single = one(procedure("431182000", performedDateTime="2021-03-18"))
    assert single.start is not None
    assert single.end is None


def test_a_withheld_time_is_none() -> None:
    extension = [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]
    fact = one(procedure("431182000", status="not-done", _performedDateTime={"extension": extension}))
    assert (fact.status, fact.start, fact.end) == ("not-done", None, None)


@pytest.mark.parametrize("status", ["entered-in-error", "preparation"])
def test_what_never_happened_is_no_fact(status: str) -> None:
    assert read(procedure("786453001", status=status)) == ((), ())


@pytest.mark.parametrize("status", ["unknown", ""])
def test_an_unknown_status_is_a_gap_for_each_concept(status: str) -> None:
    facts, gaps = read(procedure("302497006", status=status))
    assert facts == ()
    assert [(gap.why, gap.concept) for gap in gaps] == [
        ("status-unknown", "dialysis-intermittent"),
        ("status-unknown", "dialysis"),
    ]
    assert gaps[0].params == (("status", status),)


def test_a_start_ahead_of_now_is_a_gap() -> None:
    facts, gaps = read(procedure("786453001", performedPeriod={"start": "2021-03-20T13:00:00Z"}))
    assert facts == ()
    assert [(gap.why, gap.concept) for gap in gaps] == [("future-date", "ecmo")]


@pytest.mark.parametrize(
    ("text", "concepts"),
    [
        ("VV-ECMO", ["ecmo"]),
        ("ECLS Implantation", ["ecmo"]),
        ("Bauchlagerung", ["prone"]),
        ("Décubitus ventral", ["prone"]),
        ("CVVHDF", ["dialysis"]),
        ("Prone position on ECMO", ["ecmo", "prone"]),
        ("Tracheotomy", []),
        ("", []),
    ],
)
def test_words_without_a_known_code_keep_absence_from_being_concluded(text: str, concepts: list[str]) -> None:
    facts, gaps = read(procedure("x", system="urn:local", text=text))
    assert facts == ()
    assert [(gap.why, gap.concept) for gap in gaps] == [("procedure-text-only", name) for name in concepts]
    assert all(gap.params == (("label", text),) for gap in gaps)


def test_words_of_something_not_done_say_nothing() -> None:
    assert read(procedure(text="ECMO", status="not-done")) == ((), ())


def test_an_unverified_code_is_a_gap() -> None:
    facts, gaps = read(procedure("EQLA002", system=CCAM))
    assert facts == ()
    assert [(gap.why, gap.concept, gap.params) for gap in gaps] == [
        ("procedure-text-only", "ecmo", (("label", "EQLA002"),))
    ]


def test_no_code() -> None:
    resource = procedure()
    del resource["code"]
    assert read(resource) == ((), ())


def test_names_that_rules_may_use() -> None:
    names = procedures.concept_names()
    assert {"ecmo-vv", "prone", "dialysis"} <= set(names)
    assert not {"implies", "devices", "words"} & set(names)


def test_a_device_needs_its_table() -> None:
    tables = {"a": {"text": "a"}, "devices": {"snomed|1": {"concept": "b", "source": "s"}}}
    with pytest.raises(BadCodebook, match=r"mine\.toml: \[devices\] snomed\|1: no table \[b\]"):
        procedures.read_knowledge(Codebook("mine", tables))


def test_a_book_without_words_or_devices_is_whole() -> None:
    knowledge = procedures.read_knowledge(Codebook("mine", {"a": {"text": "a"}}))
    assert knowledge.names == ("a",)
    assert knowledge.unknown.find("ECMO") == set()


@pytest.mark.parametrize(
    ("resource", "concepts"),
    [
        (procedure("786453001", performedPeriod="x"), ["ecmo"]),
        (procedure("714749008", performedPeriod="x"), ["dialysis", "dialysis-continuous"]),
        (procedure(text="VV-ECMO", usedCode=7), ["ecmo"]),
        (procedure("80146002", display="Appendectomy", performedPeriod="x"), []),
        (procedure("786453001", status="entered-in-error", performedPeriod="x"), []),
        (procedure(performedPeriod="x"), [""]),
        (procedure(code={"coding": 7}), [""]),
    ],
)
def test_what_cannot_be_read_is_a_gap_of_what_it_is(resource: dict[str, Any], concepts: list[str]) -> None:
    facts, gaps = read(resource)
    assert facts == ()
    assert {(g.source, g.why, g.reference) for g in gaps} <= {("procedures", "unreadable-resource", "Procedure/p1")}
    assert [g.concept for g in gaps] == concepts
