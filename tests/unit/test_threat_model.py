"""The threat model against the tree: every threat once, with files that exist and tests that exist."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.security import report
from tools import safety_file

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "threat-model.md"

THREATS = 27
"""Those of the table that the model began with: T1 to T27."""
HEAD = re.compile(r"^### (T\d+)\. (?P<title>.+) \((?P<letters>[STRIDE](?:, [STRIDE])*)\)$", re.MULTILINE)
LINES = ("mitigated in", "proved by", "counted by", "site", "residual")
CODE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True, slots=True)
class Threat:
    """One block. `lines` maps the first words of its list to the rest."""

    id: str
    title: str
    text: str
    lines: dict[str, str]

    def named(self, line: str) -> list[str]:
        return CODE.findall(self.lines.get(line, ""))


@cache
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def threats(text: str) -> list[Threat]:
    heads = list(HEAD.finditer(text))
    found = []
    for head in heads:
        body = re.split(r"^##", text[head.end() :], maxsplit=1, flags=re.MULTILINE)[0]
        lines = dict(re.findall(r"^- ([a-z ]+): (.+)$", body, re.MULTILINE))
        found.append(Threat(head[1], head["title"], body, lines))
    return found


def wrong(text: str) -> list[str]:
    """What does not fit, threat by threat."""
    found = threats(text)
    ids = [one.id for one in found]
    complaints = [f"{id_}: there twice" for id_ in sorted({one for one in ids if ids.count(one) > 1})]
    complaints += [f"T{n}: is missing" for n in range(1, THREATS + 1) if f"T{n}" not in ids]
    if len(found) != len(re.findall(r"^### ", text, re.MULTILINE)):
        complaints.append("a block whose head is no `### T1. Title (S, T)`")
    for one in found:
        complaints += [f"{one.id}: {complaint}" for complaint in _wrong(one)]
    return complaints


def _wrong(threat: Threat) -> list[str]:
    complaints = [f"unknown line {line!r}" for line in threat.lines if line not in LINES]
    complaints += [f"no {line!r}" for line in ("mitigated in", "residual") if not threat.lines.get(line)]
    complaints += [
        f"does not say {word!r}" for word in ("How: ", "What the service does: ") if f"\n{word}" not in threat.text
    ]
    complaints += [f"no file {path}" for path in threat.named("mitigated in") if not (ROOT / path).exists()]
    if not threat.named("mitigated in"):
        complaints.append("names no file")
    tests = threat.named("proved by")
    complaints += [f"no test {test}" for test in tests if test not in safety_file.tests_of(test.partition("::")[0])]
    if not tests and "site" not in threat.lines:
        complaints.append("neither a test nor a duty of the site")
    areas = [area.strip() for area in threat.lines.get("counted by", "").split(",") if area.strip()]
    complaints += [f"no area {area}" for area in areas if area not in report.AREAS]
    return complaints


def test_every_threat_is_there_once_with_files_and_tests() -> None:
    assert wrong(page()) == []


def test_every_area_of_the_report_is_about_a_threat() -> None:
    told = {area.strip() for one in threats(page()) for area in one.lines.get("counted by", "").split(",")}
    assert set(report.AREAS) <= told


def test_every_test_of_an_area_proves_something_or_is_about_the_area_itself() -> None:
    """A file of tests/security that no threat names is a threat that was forgotten."""
    named = {test.partition("::")[0] for one in threats(page()) for test in one.named("proved by")}
    areas = {area for one in threats(page()) for area in one.lines.get("counted by", "").split(", ")}
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests" / "security").glob("test_*.py")}
    covered = {f"tests/security/test_{area}.py" for area in areas}
    assert files - named - covered - {"tests/security/test_report.py"} == set()


def test_every_file_of_a_boundary_exists() -> None:
    table = page().partition("## Boundaries\n")[2].partition("\n## ")[0]
    files = CODE.findall(table)
    assert len(files) > 8
    assert [path for path in files if not (ROOT / path).exists()] == []


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("### T7. ", "### T6. ", "T6: there twice"),
        ("### T7. ", "### T77. ", "T7: is missing"),
        ("`app/gateway/address.py`", "`app/gateway/adress.py`", "no file app/gateway/adress.py"),
        ("::test_anything_else_is_not`", "::test_nobody_wrote`", "test_address.py::test_nobody_wrote"),
        ("- residual: a name that", "- rest: a name that", "T1: no 'residual'"),
        ("- counted by: lookups\n", "- counted by: hopes\n", "T1: no area hopes"),
        ("How: whoever may call", "Whoever may call", "T1: does not say 'How: '"),
        (" (I, E)\n", " (I, Q)\n", "a block whose head is no"),
    ],
)
def test_what_does_not_fit_is_said(old: str, new: str, complaint: str) -> None:
    assert old in page()
    assert any(complaint in one for one in wrong(page().replace(old, new, 1)))


def test_a_threat_without_a_test_is_said_unless_the_site_has_a_duty() -> None:
    bare = re.sub(r"^- proved by: .*\n", "", page(), flags=re.MULTILINE)
    unproved = {one.partition(":")[0] for one in wrong(bare) if one.endswith("neither a test nor a duty of the site")}
    with_duty = {one.id for one in threats(page()) if "site" in one.lines}
    assert unproved == {one.id for one in threats(page())} - with_duty
    assert with_duty


def test_no_address_of_anybody_is_made_up() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert not re.search(r"@\w|https?://|mailto:", text)
    assert "private advisory" in text
    assert "(docs/safety/incident-and-feedback.md)" in text
    assert "(docs/threat-model.md)" in text
