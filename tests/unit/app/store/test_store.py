"""The store: a decision is there, whole, or was not recorded; patient data can go; no foreign schema is touched."""

from __future__ import annotations

import asyncio
import stat
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.store import engine
from app.store.decisions import Decision, Shown, Snooze, Store
from app.store.errors import BadDatabase, BadSchema, NotRecorded, StoreError
from tests import databases

KNOWLEDGE = "f" * 64


def decision(**changes: Any) -> Decision:
    made = Decision(
        id=str(uuid.uuid4()),
        created_at=datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC),
        client="anonymous",
        tenant="dev",
        service="anakinra-ruxolitinib-patient-view",
        hook="patient-view",
        hook_instance=str(uuid.uuid4()),
        request_digest="d" * 64,
        knowledge_hash=KNOWLEDGE,
        outcome="card",
        status=200,
        answer=b'{"cards":[]}',
        patient="patient-canary",
        facts=b"facts-canary",
        versions={"app": "0.1.0"},
        verdicts={"pilot-full": {"verdict": "met"}},
        evidence=[{"concept": "crp", "value": "262.10"}],
        gaps=[{"source": "labs", "why": "timeout"}],
        timing={"total_ms": 12},
    )
    return replace(made, **changes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "decisions.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    async with opened(path) as store:
        await store.keep_knowledge(KNOWLEDGE, b"files")
        yield store


def opened(path: Path) -> Store:
    """A store on the database that this file is, or stands for."""
    return Store(url(path), spool=path.with_name("spool"))


def url(path: Path) -> str:
    return databases.at_first_start(path).url


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    """As another process sees them: what is committed."""
    return databases.at_first_start(path).rows(query)


def execute(path: Path, *statements: str) -> None:
    databases.at_first_start(path).execute(*statements)


def content(path: Path) -> bytes:
    """Of the file, without its log; on PostgreSQL every value of every table."""
    return path.read_bytes() if path.exists() else databases.at_first_start(path).content()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def spoil(path: Path) -> None:
    path.write_bytes(b"not a database, " * 100)


async def test_a_programming_error_stays_one_and_leaves_nothing(store: Store, path: Path) -> None:
    with pytest.raises(TypeError):
        await store.record(decision(verdicts=object()))
    assert rows(path, "select * from decisions") == []
    await store.record(decision())


async def test_a_recorded_decision_is_committed_and_comes_back_as_it_was(store: Store, path: Path) -> None:
    made = decision()
    await store.record(made)
    assert rows(path, "select id, created_at, outcome from decisions") == [
        (made.id, "2026-11-23T12:00:00.123456+00:00", "card")
    ]
    assert await store.get(made.id) == made
    assert await store.get(str(uuid.uuid4())) is None


async def test_decimals_and_zones_are_kept_in_one_form(store: Store, path: Path) -> None:
    at = datetime(2026, 11, 23, 13, 0, tzinfo=timezone(timedelta(hours=1)))
    made = decision(evidence=[{"value": Decimal("262.10")}], created_at=at)
    await store.record(made)
    found = await store.get(made.id)
    assert found is not None
    assert found.evidence == [{"value": "262.10"}]
    assert found.created_at == at
    assert rows(path, "select created_at from decisions") == [("2026-11-23T12:00:00.000000+00:00",)]


async def test_a_decision_without_facts_or_answer_has_none(store: Store) -> None:
    made = decision(facts=None, patient=None, answer=None, status=None)
    await store.record(made)
    assert await store.get(made.id) == made


async def test_the_patient_stands_in_the_removable_tables_only(store: Store, path: Path) -> None:
    await store.record(decision())
    for table in ("decisions", "knowledge"):
        assert "canary" not in str(rows(path, f"select * from {table}"))  # noqa: S608
    assert "patient-canary" in str(rows(path, "select * from decision_facts"))


async def test_a_patients_data_can_be_removed(store: Store, path: Path) -> None:
    first, second, other = decision(), decision(), decision(patient="somebody-else")
    for made in (first, second, other):
        await store.record(made)
    assert await store.remove_patient("patient-canary", tenant="elsewhere") == 0, "there it is another person"
    assert await store.remove_patient("patient-canary", tenant="dev") == 2
    assert await store.get(first.id) == replace(first, facts=None, patient=None, answer=None, status=None)
    assert await store.get(other.id) == other
    assert len(rows(path, "select id from decisions")) == 3
    await store.close()
    left = content(path)
    assert b"somebody-else" in left
    assert b"patient-canary" not in left


async def test_half_a_decision_is_never_there(store: Store, path: Path) -> None:
    shown = Shown(str(uuid.uuid4()), "protocol", "info")
    first, second = decision(cards=(shown,)), decision(cards=(shown,))
    await store.record(first)
    with pytest.raises(NotRecorded):
        await store.record(second)
    assert rows(path, "select id from decisions") == [(first.id,)]
    assert rows(path, "select decision_id from decision_facts") == [(first.id,)]
    await store.record(replace(second, cards=()))
    assert len(rows(path, "select * from decisions")) == 2


@pytest.mark.parametrize("changes", [{"knowledge_hash": "unknown"}, {"client": None}, {"verdicts": {"x": "\ud800"}}])
async def test_what_cannot_be_recorded_is_said_without_data(store: Store, changes: dict[str, Any]) -> None:
    with pytest.raises(NotRecorded) as caught:
        await store.record(decision(**changes))
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    await store.record(decision())


async def test_the_same_decision_is_not_recorded_twice(store: Store, path: Path) -> None:
    made = decision()
    for _ in range(2):
        await store.record(made)
    assert len(rows(path, "select * from decisions")) == 1
    assert rows(path, "select kind from chain") == [("decision",)]


async def test_many_at_once_are_all_recorded(store: Store, path: Path) -> None:
    made = [decision() for _ in range(50)]
    await asyncio.gather(*map(store.record, made))
    assert {row[0] for row in rows(path, "select id from decisions")} == {one.id for one in made}


async def test_a_caller_that_goes_away_leaves_no_half(store: Store, path: Path) -> None:
    async def abandoned(after: int) -> None:
        task = asyncio.create_task(store.record(decision(facts=b"x" * 200_000)))
        for _ in range(after):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    for after in range(30):
        await abandoned(after)
    await store.record(decision())
    whole = rows(
        path,
        "select count(*), count(f.decision_id), count(a.decision_id) from decisions d "
        "left join decision_facts f on f.decision_id = d.id left join decision_answers a on a.decision_id = d.id",
    )[0]
    assert whole[0] == whole[1] == whole[2] >= 1


async def test_knowledge_is_kept_once(store: Store, path: Path) -> None:
    await store.keep_knowledge(KNOWLEDGE, b"files")
    assert await store.knowledge(KNOWLEDGE) == b"files"
    assert await store.knowledge("other") is None
    assert len(rows(path, "select * from knowledge")) == 1


@pytest.mark.sqlite
async def test_durability_is_as_promised(store: Store, path: Path) -> None:
    names = ("journal_mode", "synchronous", "foreign_keys", "secure_delete", "busy_timeout")
    full = 2

    async def settings(connection: Any) -> list[Any]:
        return [(await connection.exec_driver_sql(f"PRAGMA {name}")).scalar() for name in names]

    assert await store._apart.call(store._writer._transaction(settings, seconds=5)) == ["wal", full, 1, 1, 2000]
    async with store._engine.connect() as connection:
        assert await settings(connection) == ["wal", full, 1, 1, 2000]
    assert mode(path) == 0o600


async def test_a_broken_database_is_said_without_data(store: Store, path: Path) -> None:
    made = decision()
    await store.record(made)
    cascade = " cascade" if databases.is_postgresql() else ""
    tables = ("decision_answers", "decision_facts", "decisions", "knowledge")
    execute(path, *(f"drop table {table}{cascade}" for table in tables))
    for attempt in (
        store.get(made.id),
        store.remove_patient("patient-canary", tenant="dev"),
        store.keep_knowledge(KNOWLEDGE, b"x"),
        store.knowledge(KNOWLEDGE),
    ):
        with pytest.raises(StoreError) as caught:
            await attempt
        assert "canary" not in str(caught.value)
        assert caught.value.__context__ is None or caught.value.__suppress_context__


async def test_opening_again_keeps_what_is_there(path: Path) -> None:
    made = decision()
    async with opened(path) as store:
        await store.keep_knowledge(KNOWLEDGE, b"files")
        await store.record(made)
    async with opened(path) as store:
        assert await store.get(made.id) == made


@pytest.mark.sqlite
async def test_memory_works_for_short_lives() -> None:
    async with Store("sqlite+aiosqlite:///:memory:") as store:
        await store.keep_knowledge(KNOWLEDGE, b"files")
        made = decision()
        await store.record(made)
        assert await store.get(made.id) == made


async def test_a_schema_from_the_future_is_refused(store: Store, path: Path) -> None:
    await store.close()
    execute(path, "update alembic_version set version_num = '9999'")
    with pytest.raises(BadSchema, match=r"9999.*0006"):
        await opened(path).open()


async def test_a_database_of_somebody_else_is_refused(path: Path) -> None:
    databases.empty(path).execute("create table theirs (x integer)")
    with pytest.raises(BadSchema, match="database of its own"):
        await opened(path).open()
    assert databases.empty(path).tables() == ["theirs"]


@pytest.mark.sqlite
async def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    spoil(path)
    with pytest.raises(BadDatabase, match="cannot be opened"):
        await opened(path).open()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "not a database address"),
        ("postgresql+asyncpg://user:secret@host/", "names no database"),
        ("mysql://user:secret@host/db", "SQLite or PostgreSQL"),
        ("sqlite:///x.db", "aiosqlite"),
        ("sqlite+aiosqlite:////nonexistent/folder/x.db", "cannot be created"),
    ],
)
def test_a_wrong_address_is_said_without_it(url: str, said: str) -> None:
    with pytest.raises(BadDatabase, match=said) as caught:
        Store(url)
    assert "secret" not in str(caught.value)


def test_one_tree_of_errors() -> None:
    assert all(issubclass(kind, StoreError) for kind in (BadDatabase, BadSchema, NotRecorded))


def test_statements_hide_their_parameters() -> None:
    made = engine.create("sqlite+aiosqlite:///:memory:")
    assert made.sync_engine.hide_parameters


def test_a_decision_does_not_print_patient_data() -> None:
    assert "canary" not in repr(decision(answer=b"canary", evidence=["canary"], verdicts="canary", gaps=["canary"]))


# --- what was shown, and what was asked before


SNOOZE = Snooze("anonymous", "u" * 64, "p1", "undetermined", "s" * 64)


async def test_what_was_shown_is_known_until_its_time_is_over(store: Store, path: Path) -> None:
    shown_at = decision().created_at
    await store.record(decision(snooze=SNOOZE))
    assert await store.was_shown(SNOOZE, since=shown_at)
    for other in ("client", "user_digest", "patient", "kind", "state"):
        assert not await store.was_shown(replace(SNOOZE, **{other: "other"}), since=shown_at)
    later = shown_at + timedelta(microseconds=1)
    assert not await store.was_shown(SNOOZE, since=later)
    await store.tidy(now=later, snoozed_since=later)
    await store.tidy(now=later, snoozed_since=later)
    await store.close()
    assert rows(path, "select count(*) from snoozes") == [(0,)]


async def test_the_last_time_it_was_shown_counts(store: Store) -> None:
    first = decision(snooze=SNOOZE)
    later = first.created_at + timedelta(hours=3)
    await store.record(first)
    await store.record(decision(id="d2", created_at=later, snooze=SNOOZE))
    assert await store.was_shown(SNOOZE, since=later)


async def test_a_request_that_was_answered_is_known(store: Store) -> None:
    made = decision()
    await store.record(made)
    same = {"hook_instance": made.hook_instance, "request_digest": made.request_digest}
    same |= {"client": made.client, "tenant": made.tenant}
    assert await store.is_repeat(**same)
    assert not await store.is_repeat(**same | {"client": "other"})
    assert not await store.is_repeat(**same | {"tenant": "other"})
    assert not await store.is_repeat(**same | {"hook_instance": "other"})
    assert not await store.is_repeat(**same | {"request_digest": "other"})


async def test_what_cannot_be_read_is_said_without_data(store: Store, path: Path) -> None:
    execute(path, "drop table snoozes", "alter table decisions rename to gone")
    with pytest.raises(BadDatabase, match="what was shown") as refused:
        await store.was_shown(SNOOZE, since=decision().created_at)
    assert "p1" not in str(refused.value)
    with pytest.raises(BadDatabase, match="earlier decisions"):
        await store.is_repeat(client="c", tenant="t", hook_instance="h", request_digest="d")
