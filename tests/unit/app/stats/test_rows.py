"""The store as rows: which decisions, which feedback counts, and that nothing of a patient is ever asked for."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import event
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Engine

from app.stats import rows, sheets
from app.stats.page import page
from app.stats.summary import Decided, Query, Summary
from app.stats.table import table as as_text
from app.store import readonly
from app.store.decisions import Decision
from app.store.errors import BadDatabase, BadSchema
from app.store.feedback import Feedback
from tests import databases
from tests.unit.app.stats.build import NOW, ORDER_SIGN, PATIENT_VIEW, card, filled, known, made, table, url
from tests.unit.app.store.test_store import content, execute, opened, spoil

NEVER = {"decision_facts", "decision_answers", "feedback_words", "knowledge"}
NEEDED = {
    "decisions": {"id", "created_at", "service", "outcome", "verdicts", "evidence", "timing", "client", "tenant"},
    "decision_cards": {"card", "decision_id", "name", "indicator"},
    "feedback": {"id", "received_at", "client", "service", "card", "decision_id", "outcome", "outcome_at"}
    | {"reason_code", "reason_system"},
}


async def counted(address: str, **query: Any) -> Summary:
    return await rows.summary(address, query=Query(**query), names=known())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "decisions.db"


def exists(path: Path) -> bool:
    return path.exists()


async def test_every_decision_is_a_row(path: Path) -> None:
    evidence = [
        {"concept": "crp", "age_hours": "20.5", "reference": "Observation/1"},
        {"concept": "crp", "age_hours": "3.1"},
        {"concept": "ferritin"},
        {"concept": "pcr", "age_hours": "?"},
    ]
    timing = {"total_ms": 12.5, "sources_ms": {"labs": 3.5}}
    one = made(evidence=evidence, timing=timing, verdicts={"row": "x"}, cards=(card(), card("safety")))
    address = await filled(path, [one])
    [batch] = [batch async for batch in rows.read(address, query=Query()) if batch and isinstance(batch[0], Decided)]
    assert batch == [
        Decided(NOW, PATIENT_VIEW, "card", {"row": "x"}, {"crp": 3.1}, 12.5, {"labs": 3.5}, cards=2, readable=True)
    ]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, {"a", "b", "c", "d"}),
        ({"since": NOW}, {"a", "b", "c"}),
        ({"since": NOW + timedelta(microseconds=1)}, {"b", "c"}),
        ({"until": NOW}, {"d"}),
        ({"since": NOW, "until": NOW + timedelta(hours=2)}, {"a", "b"}),
        ({"tenant": "north"}, {"b"}),
        ({"client": "ehr"}, {"c"}),
        ({"service": ORDER_SIGN}, {"d"}),
    ],
)
async def test_only_what_was_asked_for_is_counted(path: Path, query: dict[str, Any], expected: set[str]) -> None:
    decisions = {
        "a": made("a"),
        "b": made("b", tenant="north", created_at=NOW + timedelta(hours=1)),
        "c": made("c", client="ehr", created_at=NOW + timedelta(hours=2)),
        "d": made("d", service=ORDER_SIGN, created_at=NOW - timedelta(seconds=1)),
    }
    shown = [replace(one, cards=(card(name),)) for name, one in decisions.items()]
    told = [Feedback(one.cards[0].card, "accepted", NOW) for one in shown]
    summary = await counted(await filled(path, shown, told={PATIENT_VIEW: told}), **query)
    assert {outcome for _, outcome, _ in summary.hooks} == expected
    assert {name for _, name, _ in summary.cards} == expected
    assert {name for _, name, _ in summary.told} == expected


@pytest.fixture
async def shown(path: Path) -> Decision:
    one = made(cards=(card(),))
    await filled(path, [one])
    return one


ACCEPTED = Feedback("", "accepted", NOW)
OVERRIDDEN = Feedback("", "overridden", NOW + timedelta(minutes=1), reason_code="x")


@pytest.mark.parametrize("turned", [False, True])
async def test_of_two_entries_the_last_by_its_outcome_time_counts(path: Path, shown: Decision, turned: bool) -> None:
    entries = [replace(entry, card=shown.cards[0].card) for entry in (ACCEPTED, OVERRIDDEN)]
    for entry in reversed(entries) if turned else entries:
        await filled(path, told={PATIENT_VIEW: [entry]})
    summary = await counted(url(path))
    assert dict(summary.told) == {(PATIENT_VIEW, "protocol", "overridden"): 1}
    assert dict(summary.changed) == {(PATIENT_VIEW, "protocol"): 1}


async def test_an_entry_without_time_counts_by_its_receipt(path: Path, shown: Decision) -> None:
    entries = [replace(ACCEPTED, outcome_at=NOW - timedelta(hours=1)), replace(OVERRIDDEN, outcome_at=None)]
    await filled(path, told={PATIENT_VIEW: [replace(entry, card=shown.cards[0].card) for entry in entries]})
    assert dict((await counted(url(path))).told) == {(PATIENT_VIEW, "protocol", "overridden"): 1}


async def test_feedback_counts_by_its_card_whichever_batch_it_comes_in(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "BATCH", 2)
    decisions = [made(cards=(card(),)) for _ in range(7)]
    entries = [
        replace(entry, card=one.cards[0].card) for one in decisions for entry in (ACCEPTED, OVERRIDDEN, ACCEPTED)
    ]
    entries[2::3] = [replace(entry, outcome_at=NOW + timedelta(hours=1)) for entry in entries[2::3]]
    summary = await counted(await filled(path, decisions, told={PATIENT_VIEW: entries}))
    assert summary.total == 7
    assert dict(summary.told) == {(PATIENT_VIEW, "protocol", "accepted"): 7}


async def test_unmatched_feedback_is_counted_by_receipt_service_and_client(path: Path) -> None:
    address = await filled(
        path, told={PATIENT_VIEW: [replace(ACCEPTED, card="nobody")], ORDER_SIGN: [replace(OVERRIDDEN, card="nobody")]}
    )
    assert (await counted(address)).unmatched.total() == 2
    assert dict((await counted(address, service=ORDER_SIGN)).unmatched) == {(ORDER_SIGN, "overridden"): 1}
    assert (await counted(address, client="another")).unmatched.total() == 0
    assert (await counted(address, since=NOW + timedelta(seconds=1))).unmatched.total() == 0
    assert (await counted(address, tenant="dev")).unmatched.total() == 0


async def test_what_cannot_be_read_of_a_decision_is_said_and_the_rest_counted(path: Path) -> None:
    address = await filled(path, [made(timing={"total_ms": 5}), made("not-met")])
    execute(path, "update decisions set verdicts = '{', evidence = '{}' where outcome = 'card'")
    summary = await counted(address)
    assert (summary.total, summary.unreadable.total()) == (2, 1)
    assert sheets.notes(summary)[-1].startswith("1 decisions hold members")
    assert summary.latency[PATIENT_VIEW, ""].n == 2


# --- no patient ---------------------------------------------------------------------------------------------

CANARY = "anna-canary"


@pytest.fixture
def read_by_sqlite() -> Iterator[set[tuple[str, str]]]:
    """(table, column) of everything that the database itself was made to read."""
    read: set[tuple[str, str]] = set()

    def note(action: int, table_: str | None, column: str | None, *_: Any) -> int:
        if action == sqlite3.SQLITE_READ:
            read.add((str(table_), str(column)))
        return sqlite3.SQLITE_OK

    def listen(connection: Any, _: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.set_authorizer(note)
        else:
            connection.run_async(lambda driver: driver.set_authorizer(note))

    event.listen(Engine, "connect", listen)
    yield read
    event.remove(Engine, "connect", listen)


def planted() -> Decision:
    """A decision that holds the canary wherever a patient may be named, and where nobody should have written one."""
    return made(
        patient=f"Patient/{CANARY}",
        facts=CANARY.encode(),
        answer=CANARY.encode(),
        hook_instance=CANARY,
        evidence=[{"concept": "crp", "reference": f"Observation/{CANARY}", "original": CANARY, "age_hours": "1.0"}],
        gaps=[{"source": "labs", "why": CANARY, "reference": f"Observation/{CANARY}"}],
        verdicts={
            "pilot-simple": {"verdict": "unknown", "scope": "in", "criteria": {"S-CRP": "unknown"}},
            "why_unknown": {"S-CRP": CANARY},
        },
        reading={"access": CANARY},
        cards=(card(),),
    )


@pytest.mark.sqlite  # whose authorizer tells what is read
async def test_no_identity_is_read_or_shown(path: Path, read_by_sqlite: set[tuple[str, str]]) -> None:
    one = planted()
    words = {"display": f"{CANARY} display", "comment": f"{CANARY} comment"}
    told = [
        Feedback(
            one.cards[0].card, "overridden", NOW, reason_code=CANARY, reason_system=f"https://a.b/{CANARY}", **words
        ),
        Feedback(CANARY, "accepted", NOW, **words),
    ]
    address = await filled(path, [one], told={PATIENT_VIEW: told})
    assert CANARY.encode() in b"".join(file.read_bytes() for file in path.parent.iterdir() if file.is_file())
    read_by_sqlite.clear()
    summary = await counted(address, client="", tenant="dev")
    summary = await counted(address)
    assert summary.total == 1
    touched = {table_ for table_, _ in read_by_sqlite}
    assert touched.isdisjoint(NEVER)
    assert touched - {"alembic_version", "sqlite_master"} == set(NEEDED)
    for name, needed in NEEDED.items():
        assert {column for table_, column in read_by_sqlite if table_ == name and column} <= needed
    made_of_it = [
        as_text(summary, now=NOW),
        page(summary, now=NOW),
        msgspec.json.encode(sheets.document(summary, now=NOW)).decode(),
        *sheets.files(path.parent, summary=summary).values(),
    ]
    assert [record["display"] for record in table(summary, "overrides")] == ["other (client's own)"]
    assert not [text for text in made_of_it if "canary" in text.lower()]


@pytest.mark.sqlite
async def test_the_authorizer_sees_what_the_store_reads(path: Path, read_by_sqlite: set[tuple[str, str]]) -> None:
    """The proof above would be none if nothing were noted."""
    await filled(path, [made()])
    async with opened(path) as store:
        await store.get("x")
    assert "decision_facts" in {table_ for table_, _ in read_by_sqlite}


# --- the database -------------------------------------------------------------------------------------------


async def test_reading_changes_nothing(path: Path) -> None:
    address = await filled(path, [made()])
    before = content(path)
    await counted(address)
    assert content(path) == before
    engine = readonly.create(address)
    async with readonly.snapshot(engine) as connection:
        with pytest.raises(Exception, match=r"read-?only"):
            await connection.exec_driver_sql("delete from decisions")
    await engine.dispose()


async def test_a_decision_that_comes_meanwhile_is_of_another_moment(path: Path) -> None:
    async with opened(path) as store:
        await store.keep_knowledge("f" * 64, b"files")
        await store.record(made(cards=(card(),)))
        summary = Summary(known())
        async for batch in rows.read(url(path), query=Query()):
            await store.record(made(cards=(card(),)))
            for row in batch:
                summary.add(row)
    assert (summary.total, summary.cards.total()) == (1, 1)


@pytest.mark.sqlite
async def test_a_missing_database_is_not_made(path: Path) -> None:
    with pytest.raises(BadDatabase, match="name the file that the service writes"):
        await counted(url(path))
    assert not exists(path)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("sqlite+aiosqlite:///:memory:", "in memory"),
        ("sqlite+aiosqlite://", "in memory"),
        ("no address", "not a database address"),
        ("nosuch+driver://x/y", "SQLite or PostgreSQL"),
    ],
)
async def test_an_address_that_cannot_be_read_says_the_remedy(address: str, said: str) -> None:
    with pytest.raises(BadDatabase, match=said):
        await counted(address)


@pytest.mark.sqlite
async def test_a_file_that_is_no_database(path: Path) -> None:
    spoil(path)
    with pytest.raises(BadDatabase):
        await counted(url(path))


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("update alembic_version set version_num = '0001'", "run `rescue-cds db upgrade`"),
        ("update alembic_version set version_num = '9999'", "use the version that wrote it, or a newer one"),
        ("drop table alembic_version", "tables that are not of this service"),
    ],
)
async def test_another_schema_is_refused_and_left_alone(path: Path, statement: str, said: str) -> None:
    address = await filled(path)
    execute(path, statement)
    before = content(path)
    with pytest.raises(BadSchema, match=said):
        await counted(address)
    assert content(path) == before


async def test_an_empty_database_is_refused(path: Path) -> None:
    databases.empty(path).execute("vacuum")
    with pytest.raises(BadSchema, match="is empty"):
        await counted(url(path))


@pytest.mark.parametrize("statement", [rows._DECIDED, rows._SHOWN, rows._TOLD, rows._UNMATCHED])
def test_the_statements_are_those_of_other_databases_too(statement: Any) -> None:
    where = rows._period(Query(since=NOW, until=datetime.max.replace(tzinfo=NOW.tzinfo)), rows.decisions.c.created_at)
    assert "SELECT" in str(statement.where(*where).compile(dialect=postgresql.dialect()))
