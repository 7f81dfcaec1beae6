"""The safety file against the code: no page out of date, no hazard without a test, nothing signed by nobody."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from app import knowledge, settings
from app.api import document
from app.main import create_app
from app.protocols import orders
from app.protocols.loader import Library

ROOT = Path(__file__).resolve().parents[2]
SAFETY = ROOT / "docs" / "safety"
PAGES = (
    "README.md",
    "intended-use.md",
    "evidence-summary.md",
    "hazard-log.md",
    "clinical-risk-management-plan.md",
    "clinical-safety-case-report.md",
    "source-attributes.json",
    "source-attributes.txt",
    "instructions-for-use.md",
    "site-acceptance.md",
    "incident-and-feedback.md",
    "traceability.md",
)


@cache
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("safety_file", ROOT / "tools" / "safety_file.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["safety_file"] = module
    spec.loader.exec_module(module)
    return module


@cache
def page(name: str) -> str:
    return (SAFETY / name).read_text(encoding="utf-8")


@cache
def library() -> Library:
    return knowledge.load().library


@cache
def log() -> str:
    return page("hazards.toml")


def test_every_page_of_the_file_is_there_and_in_its_index() -> None:
    for name in PAGES:
        assert len(page(name)) > 200, name
        assert name == "README.md" or f"({name})" in page("README.md"), name


def test_no_generated_page_is_out_of_date() -> None:
    stale = [path.name for path, text in tool().pages().items() if path.read_text(encoding="utf-8") != text]
    assert stale == [], "run `make safety-file`"


# --- hazards ------------------------------------------------------------------------------------------------


def test_every_hazard_that_was_thought_through_is_in_the_log() -> None:
    assert [hazard.id for hazard in tool().hazards()][:40] == [f"HZ-{n:02}" for n in range(1, 41)]


def test_every_hazard_names_tests_that_exist() -> None:
    hazards = tool().hazards()
    assert tool().missing_tests(hazards) == []
    assert all(hazard.tests for hazard in hazards)
    assert all(any(kind in {"design", "display"} for kind, _ in hazard.controls) for hazard in hazards)


def test_every_rule_that_a_hazard_names_has_a_case() -> None:
    """Order checks have no cases, because a case is a chart and no order: each has a unit test that names it."""
    counted = tool().cases()
    checks = {check.id for check in library().knowledge.order_checks}
    tested = (ROOT / "tests" / "unit" / "app" / "clinical" / "test_orders.py").read_text(encoding="utf-8")
    assert checks == set(re.findall(r"\bORD-[A-Z-]*[A-Z]", tested))
    asked = [(h.id, rule) for h in tool().hazards() for rule in h.rules if rule not in checks]
    assert len(asked) > 30
    assert [(id_, rule) for id_, rule in asked if not counted.get(rule)] == []


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('id = "HZ-07"', 'id = "HZ-99"', "no HZ-07"),
        ('id = "HZ-07"', 'id = "HZ-06"', "the same id twice"),
        ("severity = 5\n", "severity = 6\n", "whole numbers from 1 to 5"),
        ("severity = 5\n", "severity = 4.5\n", "whole numbers from 1 to 5"),
        ('kind = "design"', 'kind = "hope"', "of the kinds design, display"),
        ('owner = "unassigned"', 'owner = " "', "says nothing"),
        ('owner = "unassigned"', 'ower = "unassigned"', "keys missing or unknown: ower, owner"),
    ],
)
def test_a_log_that_does_not_fit_is_refused(old: str, new: str, complaint: str) -> None:
    assert old in log()
    with pytest.raises(tool().Wrong, match=complaint):
        tool().hazards(log().replace(old, new, 1))


def test_a_hazard_without_a_test_is_refused() -> None:
    emptied = re.sub(r"tests = \[\n.*?\n\]", "tests = []", log(), count=1, flags=re.DOTALL)
    with pytest.raises(tool().Wrong, match="HZ-01: tests: name at least one"):
        tool().hazards(emptied)


@pytest.mark.parametrize(
    "wrong",
    [
        "tests/unit/test_safety_file.py::test_that_nobody_wrote",
        "tests/unit/test_no_such_file.py::test_x",
        "tests/unit/test_safety_file.py",
        "tests/unit/test_safety_file.py::page",
        "tests/unit/fhir_mappings/test_medications.py::test_the_route_decides",
    ],
)
def test_a_test_that_does_not_exist_is_found_out(wrong: str) -> None:
    known = 'tests = [\n  "'
    [absent] = tool().missing_tests(tool().hazards(log().replace(known, f'{known}{wrong}",\n  "', 1)))
    assert absent == f"HZ-01: {wrong}"


def test_a_test_of_a_class_is_named_with_it() -> None:
    found = tool().tests_of("tests/unit/fhir_mappings/test_medications.py")
    assert "tests/unit/fhir_mappings/test_medications.py::TestWhere::test_the_route_decides" in found


@pytest.mark.parametrize(
    ("severity", "likelihood", "level"), [(5, 1, "low"), (3, 2, "medium"), (4, 3, "high"), (1, 1, "low")]
)
def test_levels_are_those_of_the_plan(severity: int, likelihood: int, level: str) -> None:
    assert tool().score(severity, likelihood).endswith(level)
    rows = re.findall(r"^\| (\d+) to (\d+) \| (\w+) \|", page("clinical-risk-management-plan.md"), re.MULTILINE)
    assert [name for low, high, name in rows if int(low) <= severity * likelihood <= int(high)] == [level]


# --- what is written by hand, and must stay true --------------------------------------------------------------


def test_no_signature_line_is_filled() -> None:
    section = page("clinical-safety-case-report.md").partition("## Signatures\n")[2]
    lines = [line for line in section.splitlines() if line.strip()]
    assert len(lines) >= 4
    assert [line for line in lines if not line.endswith(": not signed")] == []
    assert page("site-acceptance.md").rstrip().endswith("Accepted by: not signed")
    assert {hazard.owner for hazard in tool().hazards()} == {"unassigned"}
    assert "- [x]" not in page("site-acceptance.md").lower()


def test_the_case_report_names_every_high_residual_risk() -> None:
    high = {hazard.id for hazard in tool().hazards() if hazard.residual.endswith("high")}
    named = set(re.findall(r"HZ-\d\d", page("clinical-safety-case-report.md").partition("## Residual risks")[2]))
    assert named == high


def test_the_evidence_has_the_dates_of_the_cards() -> None:
    card = library().words["card"]
    first = page("evidence-summary.md")[:200]
    assert f"Reviewed {card['evidence_reviewed']}. To be reviewed again by {card['evidence_expires']};" in first
    assert card["evidence_expires"] in page("clinical-risk-management-plan.md")


def test_the_evidence_has_every_figure_of_the_card() -> None:
    summary = page("evidence-summary.md")
    for figure in re.findall(r"\d+(?:\.\d+)? %|\b378\b|\d+/11", library().words["card"]["detail"]["evidence"]):
        told = {"0/11": "none had died", "4/11": "4 of 11", "95 %": "95 %", "28 %": "28.5 %"}.get(figure, figure)
        assert told in summary, figure


def test_what_is_said_not_to_exist_does_not(tmp_path: Path) -> None:
    """Whoever builds one of these has to say so in the safety file, and then here."""
    app = create_app(settings.dev(db=f"sqlite+aiosqlite:///{tmp_path}/d.db"))
    assert {*document.openapi(app)["paths"]} == {
        "/cds-services",
        "/cds-services/{id}",
        "/cds-services/{id}/feedback",
        "/source-attributes",
        "/source-attributes.txt",
    }
    hooks = {entry.hook for entry in app.state.service.descriptions}
    assert hooks == {"patient-view", "order-select", "order-sign"}
    assert all(f"`{hook}`" in page("intended-use.md") for hook in hooks)
    [absent] = [line for line in page("intended-use.md").splitlines() if "not in this version" in line]
    for word in ("Client trust", "PostgreSQL", "health page"):
        assert word in absent
    for built in ("order hooks", "feedback endpoint", "silent mode", "snooze"):
        for name in PAGES:
            said = [line for line in page(name).splitlines() if "not in this version" in line.lower()]
            assert not [line for line in said if built in line.lower()], (name, built)


def test_every_protocol_that_can_be_silenced_is_in_the_table() -> None:
    table = page("incident-and-feedback.md").partition("| silenced |")[2].partition("\n\n")[0]
    ids = [protocol.id for protocol in library().knowledge.protocols]
    ids += [settings.FOLLOW_UP, orders.ID, settings.EVERYTHING]
    assert len(ids) >= 8
    assert [id_ for id_ in ids if f"`{id_}`" not in table] == []
    assert settings.SILENCED in page("incident-and-feedback.md")


def test_every_override_reason_is_explained() -> None:
    said = page("instructions-for-use.md").lower()
    for reason in library().words["card"]["override"]:
        assert reason["display"].lower() in said


def test_every_key_that_is_explained_exists() -> None:
    example = (ROOT / "docs" / "config.example.toml").read_text(encoding="utf-8")
    keys = re.findall(r"^\| `(?:\[+\w+\]+ )(\w+)` \|", page("instructions-for-use.md"), re.MULTILINE)
    assert len(keys) >= 7
    assert [key for key in keys if not re.search(rf"^(?:# )?{key} = ", example, re.MULTILINE)] == []


def test_source_attributes_are_those_that_are_served() -> None:
    shown: Any = json.loads(page("source-attributes.json"))
    assert shown == knowledge.load().attributes
