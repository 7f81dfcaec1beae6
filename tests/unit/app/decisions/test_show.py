"""What is printed of decisions: results as they were, and lines that a terminal has place for."""

from __future__ import annotations

import io
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from app.decisions import show
from app.decisions.records import Line

HASH = "4f" * 32
IDS = ["9e91bd28-8e6b-4acf-9fef-f1cb3d0366ba", "0a91bd28-8e6b-4acf-9fef-f1cb3d0366bb"]


def measured(concept: str, **more: Any) -> dict[str, Any]:
    return {"concept": concept, "reference": f"Observation/{concept}", "original": "", "coded": ""} | more


def found(evidence: list[dict[str, Any]], *measurements: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A document with this evidence, made of these measurements; without any the facts have been removed."""
    document: dict[str, Any] = {
        "id": IDS[0],
        "at": "2026-11-23T12:00:00+00:00",
        "hook": "patient-view",
        "hook_instance": "7ef53a3a-8bf1-4752-a11d-3c4cd5a2b416",
        "request_digest": HASH,
        "client": "ehr",
        "tenant": "north",
        "outcome": "card",
        "status": 200,
        "flags": ["hook-instance-not-compared"],
        "versions": {"service": "0.1.0"},
        "knowledge_hash": HASH,
        "switches": None,
        "reading": {},
        "timing": {},
        "verdicts": {},
        "evidence": evidence,
        "gaps": [],
        "cards": [],
        "patient": None,
        "facts": {"measurements": list(measurements), "sources": []} if measurements else None,
        "answer": None,
        "removed": not measurements,
        "feedback": [],
        "chain": [{"kind": "decision", "seq": 3, "writer": IDS[1], "hash": HASH}],
        "titles": {},
    }
    return document | more


HBSAG = {"concept": "hbsag", "reference": "Observation/hbsag", "original": "Negative"}


def evidence(entry: dict[str, Any], *measurements: dict[str, Any]) -> str:
    rows = show.text(found([entry], *measurements)).splitlines()
    return rows[rows.index("Evidence") + 2].strip()


@pytest.mark.parametrize(
    ("entry", "measurement", "said"),
    [
        (HBSAG, measured("hbsag", original="Negative", coded="negative"), "hbsag: negative (written: Negative); "),
        (HBSAG | {"original": "negative"}, measured("hbsag", coded="negative"), "hbsag: negative; "),
        (
            HBSAG | {"original": "0.05 S/CO"},
            measured("hbsag", original="0.05 S/CO", coded="negative"),
            "hbsag: negative (written: 0.05 S/CO); ",
        ),
        ({"concept": "sex", "reference": "Patient", "original": "female"}, measured("crp"), "sex: female; Patient"),
        (
            {"concept": "propofol", "reference": "MedicationRequest/1", "original": "ordered"},
            measured("crp"),
            "propofol: ordered; MedicationRequest/1",
        ),
        (
            {
                "concept": "crp",
                "reference": "Observation/crp",
                "value": "262",
                "unit": "mg/L",
                "original": "26.2 mg/dL",
            },
            measured("crp", original="26.2 mg/dL", value="262"),
            "crp: 262 mg/L (written: 26.2 mg/dL); ",
        ),
        ({"concept": "allergy", "reference": "AllergyIntolerance/1"}, measured("crp"), "allergy: on record; "),
    ],
    ids=["negative", "negative in our word", "negative by a number", "sex", "ordered", "number", "only on record"],
)
def test_evidence_says_the_result(entry: dict[str, Any], measurement: dict[str, Any], said: str) -> None:
    assert evidence(entry, measurement).startswith(said)


def test_evidence_without_its_facts_says_what_was_written() -> None:
    assert evidence(HBSAG) == "hbsag: Negative; Observation/hbsag"


def test_a_result_of_another_resource_is_not_taken() -> None:
    other = measured("hbsag", reference="Observation/2", original="Negative", coded="positive")
    assert evidence(HBSAG, other) == "hbsag: Negative; Observation/hbsag"


FINDINGS = {
    "row": "not-met",
    "why_unknown": {"R-2B-SAO2": "pulse-oximetry-not-accepted"},
    "pilot": {"verdict": "unknown", "criteria": {"S-CRP": "met", "R-2B-SAO2": "unknown"}},
    "other": {"verdict": "met", "criteria": {"R-EXCL-PREGNANCY-LACTATION": "not-met"}},
}
TITLES = {
    "S-CRP": "C-reactive protein: > 100 mg/L",
    "R-2B-SAO2": "Arterial saturation on room air: < 90 % on room air, and nothing that stands against it, " * 2,
    "R-EXCL-PREGNANCY-LACTATION": "No pregnancy, no breast-feeding: neither",
}


@pytest.mark.parametrize("width", [70, 80, 112])
def test_no_line_is_longer_than_the_terminal(width: int) -> None:
    document = found(
        [HBSAG], measured("hbsag", original="Negative", coded="negative"), verdicts=FINDINGS, titles=TITLES
    )
    answer = {"cards": [{"summary": "a", "source": {"label": "b " * 60}, "suggestions": [{"label": "c"}]}]}
    answer["cards"][0]["suggestions"] = [{"label": "c", "actions": [{"type": "create", "resource": {"a": "d" * 300}}]}]
    text = show.text(document | {"answer": answer}, width=width)
    assert max(map(len, text.splitlines())) <= width
    assert HASH in text, "a hash is not cut: it is copied"


def test_findings_stand_in_columns_that_do_not_shift() -> None:
    text = show.text(found([HBSAG], verdicts=FINDINGS, titles=TITLES), width=112)
    rows = text.splitlines()
    ids = [next(row for row in rows if f" {id_} " in row) for id_ in TITLES]
    assert {row.index(id_) for row, id_ in zip(ids, TITLES, strict=True)} == {len("  not-met  ")}
    assert len({row.index(title[:9]) for row, title in zip(ids, TITLES.values(), strict=True)}) == 1
    assert "[pulse-oximetry-not-accepted]" in text


def row(number: int = 0, *, tenant: str = "north", outcome: str = "card", flags: tuple[str, ...] = ()) -> Line:
    at = datetime(2026, 11, 23, 12, number, tzinfo=UTC)
    return Line(IDS[number], at, tenant, "ehr", "patient-view", outcome, 1, flags)


def test_a_list_elsewhere_than_on_a_terminal_is_one_line_a_decision() -> None:
    flags = ("hook-instance-not-compared", "spooled")
    head, first, second = show.table([row(flags=flags), row(1, outcome="not-the-population")]).splitlines()
    assert head.split("  ")[0] == "id"
    assert "at (UTC)" in head
    assert first.endswith("1      hook-instance-not-compared,spooled")
    assert "north" in second
    assert IDS[1] in second


def test_a_list_on_a_narrow_terminal_says_once_what_all_share() -> None:
    rows = [row(flags=("hook-instance-not-compared",)), row(1, outcome="not-the-population", flags=("spooled",))]
    above, head, first, below, second, last = show.table(rows, columns=80).splitlines()
    assert above == "tenant north, client ehr"
    assert head.split() == ["id", "at", "(UTC)", "hook", "outcome", "cards"]
    assert first.split() == [IDS[0][:13], "2026-11-23", "12:00:00", "patient-view", "card", "1"]
    assert below == "    flags hook-instance-not-compared"
    assert second.split()[0] == IDS[1][:13]
    assert last == "    flags spooled"


@pytest.mark.parametrize("columns", [60, 80, 100, 140])
def test_no_line_of_a_list_is_longer_than_the_terminal(columns: int) -> None:
    rows = [row(outcome="not-the-population", flags=("a" * 30, "b" * 10)), row(1, tenant="a-hospital-in-the-south")]
    shown = show.table(rows, columns=columns)
    assert max(map(len, shown.splitlines())) <= columns
    for said in ("north", "a-hospital-in-the-south", "ehr", "patient-view", "not-the-population", "b" * 10):
        assert said in shown, said


def test_a_wide_terminal_has_all_of_it_in_a_line() -> None:
    rows = [row(), row(1, flags=("spooled",))]
    assert show.table(rows, columns=160) == show.table(rows)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("has", "width"), [("80", 80), ("20", 60), ("250", 112)])
def test_the_width_is_that_of_the_terminal(monkeypatch: pytest.MonkeyPatch, has: str, width: int) -> None:
    monkeypatch.setenv("COLUMNS", has)
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert show.width() == width
    assert show.columns() == max(60, int(has))
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert show.width() == 112
    assert show.columns() is None


def test_a_list_does_nothing_to_the_terminal() -> None:
    hostile = Line("\x1b[2J", datetime(2026, 11, 23, tzinfo=UTC), "a\nb", "\x07", "\x9b", "\r", 1, ("\u202e",))
    for columns in (None, 60, 200):
        assert all(one.isprintable() for one in show.table([hostile], columns=columns).splitlines())
