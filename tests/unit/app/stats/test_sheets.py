"""The tables as CSV and JSON, and on a terminal."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.stats import sheets
from app.stats.names import texts
from app.stats.quantiles import Rate
from app.stats.sheets import Column, Sheet, as_csv
from app.stats.summary import Query, Row, Shown, Told, summarise
from app.stats.table import WIDTH, said, table
from tests.unit.app.bundles import bedside
from tests.unit.app.stats.build import NOW, PATIENT_VIEW, decided, known, protocol

COLUMNS = (
    Column("rule", "Rule", "text"),
    Column("n", "n", "count"),
    Column("median", "Median", "number"),
    Column("share", "Share", "share"),
    Column("override_rate", "Overridden", "rate"),
)


def sheet(*rows: tuple[sheets.Cell, ...]) -> Sheet:
    return Sheet("s", "Title", "Note", COLUMNS, rows)


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def test_a_csv_file_has_a_column_for_every_number() -> None:
    heads, full, few, none = read(
        as_csv(
            sheet(
                ("R", 3, 2.5, Rate(8, 10), Rate(8, 10)),
                ("R", 0, None, Rate(1, 4), Rate(1, 4)),
                ("R", 0, 0.0, None, None),
            )
        )
    )
    assert heads == [
        *("rule", "n", "median", "share_percent", "share_n"),
        *("override_rate_percent", "override_rate_low", "override_rate_high", "override_rate_n"),
    ]
    assert full == ["R", "3", "2.5", "80.0", "10", "80.0", "49.0", "94.3", "10"]
    assert few == ["R", "0", "", "", "4", "", "", "", "4"]
    assert none == ["R", "0", "0.0", "", "", "", "", "", ""]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=1))
def test_every_text_comes_back_and_none_is_a_formula(cells: list[str]) -> None:
    made = Sheet("s", "t", "n", COLUMNS[:1], tuple((cell,) for cell in cells))
    found = [row[0] if row else "" for row in read(as_csv(made))[1:]]
    assert [cell.removeprefix("'") if cell[:2] in FORMULAS else cell for cell in found] == cells
    assert not [cell for cell in found if cell[:1] in set("=+-@\t\r\n")]


FORMULAS = {f"'{sign}" for sign in "=+-@\t\r\n"}


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", '=HYPERLINK("x","y"),"', "\r=1", "\n=1"])
def test_what_a_spreadsheet_would_compute_is_text(text: str) -> None:
    assert read(as_csv(sheet((text, 1, None, None, None))))[1][0] == f"'{text}"


def everything() -> list[Row]:
    verdicts = {
        "pilot-simple": protocol("unknown", S_CRP="unknown"),
        "pilot-followup": {"scope": "in", "actions": {}},
        "safety": {"CI-PREGNANCY": "present"},
        "orders": {"checks": {"ORD-DUPLICATE": "absent"}, "drafts": [{"identity": "code"}]},
        "why_unknown": {"S-CRP": "stale"},
    }
    rows: list[Row] = [decided(verdicts=verdicts, ages={"crp": 1.0}, total_ms=2.0, cards=1)] * 6
    rows += [Shown(PATIENT_VIEW, "protocol", "info", 6)]
    return [*rows, *[Told(PATIENT_VIEW, "protocol", "overridden", "goals-of-care")] * 5]


def test_the_files_are_the_ones_that_were_announced(tmp_path: Path) -> None:
    files = sheets.files(tmp_path, summary=summarise(everything(), names=known()))
    assert [path.name for path in files] == sheets.names()
    assert {path.stem for path in files} == set(texts()["sheet"])
    for path, text in files.items():
        heads, *rows = read(text)
        assert len(set(heads)) == len(heads), path.name
        assert all(len(row) == len(heads) for row in rows), path.name
        assert rows or path.stem == "unmatched", path.name


def test_the_json_holds_the_same_tables() -> None:
    summary = summarise(everything(), names=known(), query=Query(since=NOW, tenant="h"))
    document = msgspec.json.decode(msgspec.json.encode(sheets.document(summary, now=NOW)))
    assert (document["schema"], document["made"], document["zone"]) == (1, "2026-11-23T12:00:00Z", "UTC")
    assert document["query"] == {"since": "2026-11-23T12:00:00Z", "tenant": "h"}
    assert set(document["sheets"]) == set(texts()["sheet"])
    [feedback] = document["sheets"]["feedback"]
    assert feedback["override_rate"] == {"percent": 100.0, "low": 56.6, "high": 100.0, "n": 5}
    assert feedback["shown"] == 6
    [cards] = document["sheets"]["cards"]
    assert cards["per_100"] == 100.0


def test_a_rate_is_never_said_without_its_n_nor_of_few() -> None:
    rate, share = COLUMNS[4], COLUMNS[3]
    assert said(Rate(8, 10), rate) == "80 % (49 to 94) of 10"
    assert said(Rate(8, 10), share) == "80 % of 10"
    assert said(Rate(4, 4), rate) == said(Rate(0, 0), share) == "n < 5"
    assert said(Rate(1, 1000), share) == "0.1 % of 1000"
    assert said(Rate(999_999, 1_000_000), share) == "99.9 % of 1000000"
    assert said(None, rate) == "-"


def test_the_report_fits_a_terminal_and_says_what_it_counts() -> None:
    text = table(summarise(everything(), names=known()), now=NOW)
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "not of patients" in text
    assert "nothing about whether the treatment works" in " ".join(text.split())
    assert "Override reasons" in text
    assert "Feedback about unknown cards" not in text


def test_an_empty_choice_says_so() -> None:
    summary = summarise([], names=known(), query=Query(until=NOW, client="ehr", service=PATIENT_VIEW))
    text = table(summary, now=NOW)
    assert "No decision is on record for this choice." in text
    assert "Decisions from the first one until 2026-11-23T12:00:00Z" in text
    assert "Only client ehr, hook patient-view." in text


def test_a_table_for_a_person_leaves_empty_columns_of_counts_out() -> None:
    dense = sheet(("R", 0, None, None, None), ("S", 0, None, None, None)).dense()
    assert [column.key for column in dense.columns] == ["rule", "median", "share", "override_rate"]
    assert dense.rows == (("R", None, None, None), ("S", None, None, None))


def test_every_outcome_and_reason_of_the_knowledge_has_its_words() -> None:
    outcomes = {row.outcome for row in bedside().library.knowledge.rows}
    outcomes |= {
        "patient-user",
        "identity-mismatch",
        "not-evaluated",
        "disabled",
        "silent",
        "snoozed",
        "nothing-to-say",
    }
    assert outcomes <= set(texts()["outcome"])
