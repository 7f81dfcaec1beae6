"""The signed cases beside the protocols, run through the whole path of `rescue-cds evaluate` from FHIR JSON to cards.

The files are for clinicians (app/protocols/README.md says how to read and add one); what they promise is checked here,
and that no criterion, safety finding or row of the card table goes without a case.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from importlib import resources
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from fhir.resources.R4B import get_fhir_model_class

from app import evaluate, knowledge
from app.clinical.assessment import Assessment, assess
from app.protocols import loader
from tests.cases.language import Chart, merged, moment, overlay, suggests_on

FOLDERS = {"pilot_simple": "pilot-simple", "pilot_full": "pilot-full"}
BEDSIDE = knowledge.load()
KNOWLEDGE = BEDSIDE.library.knowledge
CRITERIA = {c.id for p in KNOWLEDGE.protocols for c in p.criteria}
SAFETY = {rule.id for rule in KNOWLEDGE.safety}
ROWS = {row.id for row in KNOWLEDGE.rows}
WORDS = {
    *("verdict", "scope", "missing", "card", "suggestions", "outcome", "row", "safety-card"),
    *("withheld", "confirm", "gaps", "says", "pf"),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One case of one file: `lines` are those of its base patient with its own."""

    protocol: str
    name: str
    lines: Mapping[str, Any]
    expect: Mapping[str, Any]
    now: str
    zone: ZoneInfo


def _file(folder: str) -> dict[str, Any]:
    return tomllib.loads(resources.files("app.protocols").joinpath(f"{folder}/cases.toml").read_text("utf-8"))


FILES = {folder: _file(folder) for folder in FOLDERS}
PATIENTS = {name: lines for table in FILES.values() for name, lines in table.get("patient", {}).items()}


def _cases() -> Iterator[Case]:
    for folder, table in FILES.items():
        for row in table["case"]:
            lines = merged(PATIENTS, row["have"])
            now = lines.get("now", table["now"])
            yield Case(FOLDERS[folder], row["name"], lines, row["expect"], now, ZoneInfo(table["zone"]))


CASES = tuple(_cases())


def _run(case: Case, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], Assessment]:
    """The public answer, and the assessment behind it (the row of the table and the withheld reasons are in there)."""
    kept: list[Assessment] = []

    def keep(*args: Any, **more: Any) -> Assessment:
        kept.append(assess(*args, **more))
        return kept[-1]

    monkeypatch.setattr("app.evaluate.assess", keep)
    now = moment(case.now, zone=case.zone)
    options = evaluate.Options(now=now, zone=case.zone, overlay=overlay(case.lines), suggest_on=suggests_on(case.lines))
    answer = evaluate.document(Chart.of(case.lines, now=now).bundle(), bedside=BEDSIDE, options=options)
    return answer, kept[-1]


def _found(case: Case, answer: Mapping[str, Any], found: Assessment) -> dict[str, Any]:
    """Everything a case may expect, by the words of the case language."""
    protocols = {p["id"]: p for p in answer["protocols"]}
    own = protocols[case.protocol]
    criteria = {c["id"]: c["finding"] for p in protocols.values() for c in p["criteria"]}
    cards = answer["cards"]
    text = "\n".join(f"{card['summary']}\n{card['detail']}" for card in cards)
    reasons = {
        word
        for reason in found.withheld
        for word in (reason.code, *(value for name, value in reason.params if name in {"id", "input", "drug"}))
    }
    row = "course" if found.row.card == "course" else "card" if cards else found.row.outcome
    return {
        **criteria,
        **{s["id"]: s["finding"] for s in answer["safety"]},
        "verdict": own["verdict"],
        "scope": own["scope"],
        "missing": own["missing"],
        "card": found.row.card,
        "row": found.row.id,
        "outcome": "follow-up" if row == "course" else row,
        "suggestions": "yes" if answer["suggestions"] else "no",
        "safety-card": "yes" if any(card["indicator"] == "warning" for card in cards) else "no",
        "pf": own["values"].get("pf", "none"),
        "withheld": reasons,
        "confirm": {w for r in found.confirm for w in (r.code, *(value for _, value in r.params))},
        "gaps": {gap["why"] for gap in answer["gaps"]},
        "says": text,
    }


def _agrees(word: str, wanted: Any, got: Any) -> bool:
    """Lists say what is among it, except `missing`, which is exact; text is looked for in all cards."""
    if word == "says":
        return all(phrase in got for phrase in wanted)
    if word == "gaps":
        return all(any(phrase in why for why in got) for phrase in wanted)
    if word in {"withheld", "confirm"}:
        return set(wanted) <= got if wanted else not got
    if word == "missing":
        return sorted(wanted) == sorted(got)
    return bool(wanted == got)


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.protocol}: {c.name}")
def test_case(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    answer, assessment = _run(case, monkeypatch)
    got = _found(case, answer, assessment)
    unknown = set(case.expect) - CRITERIA - SAFETY - WORDS
    assert not unknown, f"expect: no such word {sorted(unknown)}"
    wrong = {word: (wanted, got[word]) for word, wanted in case.expect.items() if not _agrees(word, wanted, got[word])}
    assert not wrong, "\n".join(f"{word}: the case says {w!r}, the service {g!r}" for word, (w, g) in wrong.items())
    assert bool(answer["suggestions"]) == (not assessment.withheld and assessment.row.suggestions)


def test_case_files_have_not_been_signed_by_anybody() -> None:
    for table in FILES.values():
        assert table["status"] == "draft"
        assert table["reviewed_by"] == []


def test_there_are_enough_cases_and_no_name_stands_twice() -> None:
    names = [(case.protocol, case.name) for case in CASES]
    assert len(names) == len(set(names))
    for protocol in FOLDERS.values():
        assert sum(1 for name, _ in names if name == protocol) >= 30


def test_every_case_has_a_name_says_why_and_expects_something() -> None:
    for table in FILES.values():
        for row in table["case"]:
            assert set(row) == {"name", "why", "have", "expect"}, row["name"]
            assert row["name"].strip()
            assert row["why"].strip()
            assert row["expect"], row["name"]


def test_the_resources_of_all_cases_are_fhir_r4() -> None:
    """Validated by another implementation: a case must not pass on JSON that no server could send."""
    seen: dict[str, dict[str, Any]] = {}
    for case in CASES:
        for resource in Chart.of(case.lines, now=moment(case.now, zone=case.zone)).resources:
            seen[json.dumps({**resource, "id": "x"}, sort_keys=True)] = resource
    for resource in seen.values():
        get_fhir_model_class(resource["resourceType"]).model_validate(resource)
    assert len(seen) > len(CASES)


@pytest.mark.parametrize("criterion", sorted(CRITERIA))
def test_every_criterion_is_met_not_met_and_unknown_in_a_case(criterion: str) -> None:
    found = {case.expect[criterion] for case in CASES if criterion in case.expect}
    assert found == {"met", "not-met", "unknown"}


@pytest.mark.parametrize("rule", sorted(SAFETY))
def test_every_safety_finding_is_present_absent_and_unknown_in_a_case(rule: str) -> None:
    found = {case.expect[rule] for case in CASES if rule in case.expect}
    assert found == {"present", "absent", "unknown"}


@pytest.mark.parametrize("row", sorted(ROWS))
def test_every_row_of_the_card_table_has_a_case(row: str) -> None:
    assert any(case.expect.get("row") == row for case in CASES)


def test_the_cases_are_no_part_of_the_knowledge_hash() -> None:
    files = BEDSIDE.library.files
    assert not [name for name in files if name.endswith("cases.toml")]
    assert loader.build(files).knowledge.hash == KNOWLEDGE.hash


def test_age_is_counted_on_the_calendar_of_the_facility() -> None:
    """The boundary cases use `now` shortly after local midnight: make sure that this is the day before in UTC."""
    early = [case for case in CASES if "now" in case.lines]
    assert early
    for case in early:
        local = moment(case.now, zone=case.zone)
        assert local.utcoffset() != timedelta()
