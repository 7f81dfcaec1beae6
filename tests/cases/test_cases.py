"""The signed cases beside the protocols, run through the whole path of `rescue-cds evaluate` from FHIR JSON to cards.

The files are for clinicians (app/protocols/README.md says how to read and add one); what they promise is checked here,
and that no criterion, safety finding or row of the card table goes without a case.
"""

from __future__ import annotations

import json
import tomllib
from datetime import timedelta

import pytest
from fhir.resources.R4B import get_fhir_model_class

from app import knowledge
from app.cases import files, running
from app.cases.expectations import Said, disagreements, value
from app.cases.files import Case
from app.cases.language import Chart, moment
from app.protocols import loader, orders, page

BEDSIDE = knowledge.load()
KNOWLEDGE = BEDSIDE.library.knowledge
CRITERIA = {c.id for p in KNOWLEDGE.protocols for c in p.criteria}
SAFETY = {rule.id for rule in KNOWLEDGE.safety}
ACTIONS = {action.id for action in KNOWLEDGE.follow_up.actions}
ROWS = {row.id for row in KNOWLEDGE.rows}
FILES = {folder: tomllib.loads(text) for folder, text in files.shipped().items()}
CASES = files.cases(files.shipped())


def said(case: Case) -> Said:
    """What the service says about a case, on the whole path from FHIR JSON to cards."""
    return running.prepare(case, bedside=BEDSIDE).said(BEDSIDE)


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.protocol}: {c.name}")
def test_case(case: Case) -> None:
    got = said(case)
    wrong = disagreements(case.expect, got)
    assert not wrong, "\n".join(f"{word}: the case says {w!r}, the service {g!r}" for word, (w, g) in wrong.items())
    assert bool(got.document["suggestions"]) == (not got.assessment.withheld and got.assessment.row.suggestions)
    published = {c["id"]: c["finding"] for p in got.document["protocols"] for c in p.get("criteria", ())}
    published |= {s["id"]: s["finding"] for s in got.document["safety"]}
    assert published == {word: value(word, got) for word in published}


def test_case_files_have_not_been_signed_by_anybody() -> None:
    for table in FILES.values():
        assert table["status"] == "draft"
        assert table["reviewed_by"] == []


def test_there_are_enough_cases_and_no_name_stands_twice() -> None:
    names = [(case.protocol, case.name) for case in CASES]
    assert len(names) == len(set(names))
    for protocol in page.ids(BEDSIDE.library):
        if protocol != orders.ID:  # a case has no draft: the order checks have tests of their own
            assert sum(1 for name, _ in names if name == protocol) >= 30


def test_every_case_has_a_name_says_why_and_expects_something() -> None:
    for table in FILES.values():
        for row in table["case"]:
            assert set(row) == {"name", "why", "have", "expect"}, row["name"]
            assert row["name"].strip()
            assert row["why"].strip()
            assert row["expect"], row["name"]


@pytest.mark.no_cover
def test_the_resources_of_all_cases_are_fhir_r4() -> None:
    """Validated by another implementation: a case must not pass on JSON that no server could send."""
    seen: dict[str, dict[str, object]] = {}
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


@pytest.mark.parametrize("action", sorted(ACTIONS))
def test_every_action_is_present_unknown_and_not_listed_in_a_case(action: str) -> None:
    found = {case.expect[action] for case in CASES if action in case.expect}
    assert found == {"present", "unknown", "not-listed"}


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
