"""What was changed, removed, added or moved is named; what was removed on purpose is not."""

from __future__ import annotations

import hashlib
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from app.store import chain, readonly, verify
from app.store import engine as engines
from app.store.chain import Head
from app.store.decisions import Decision, Shown, Store
from app.store.feedback import Feedback
from app.store.verify import Count, Fault
from tests import databases

FILES = {"shared/inputs.toml": "a = 1"}
NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)


def files_hash() -> str:
    sha = hashlib.sha256()
    for name, text in sorted(FILES.items()):
        sha.update(name.encode() + b"\0" + text.encode() + b"\0")
    return sha.hexdigest()


def decision(number: int) -> Decision:
    return Decision(
        id=str(uuid.UUID(int=number)),
        created_at=NOW + timedelta(minutes=number),
        client="ehr",
        tenant="hospital",
        service="s",
        hook="patient-view",
        hook_instance=f"instance-{number}",
        request_digest="d" * 64,
        knowledge_hash=files_hash(),
        outcome="card",
        status=200,
        answer=b"answer %d" % number,
        patient=f"patient-{number % 2}",
        facts=b"facts %d" % number,
        evidence=[{"concept": "crp", "value": "262.10"}],
        cards=(Shown(str(uuid.UUID(int=1000 + number)), "protocol", "info", ("s1",)),),
    )


async def kept(url: str) -> str:
    for start in (1, 6):  # two processes
        async with Store(url) as store:
            await store.keep_knowledge(files_hash(), json.dumps(FILES).encode())
            for number in range(start, start + 5):
                await store.record(decision(number))
            entry = Feedback(str(uuid.UUID(int=1000 + start)), "accepted", suggestions=["s1"], comment="words")
            await store.keep_feedback([entry], client="ehr", tenant="hospital", service="s", received_at=NOW)
    return url


@pytest.fixture
async def url(recorded_url: str) -> str:
    return await kept(recorded_url)


async def found(url: str, expected: list[Head] | None = None, count: Count | None = None) -> list[Fault]:
    engine = readonly.create(url)
    try:
        async with readonly.snapshot(engine) as connection:
            return [fault async for fault in verify.faults(connection, expected=expected or [], count=count)]
    finally:
        await engine.dispose()


async def heads(url: str) -> list[Head]:
    engine = readonly.create(url)
    try:
        async with readonly.snapshot(engine) as connection:
            return await verify.heads(connection)
    finally:
        await engine.dispose()


FOREIGN_KEYS = (
    ("decisions", "knowledge_hash"),
    *((table, "decision_id") for table in ("decision_facts", "decision_answers", "decision_cards", "feedback")),
    ("feedback_words", "feedback_id"),
)


async def change(url: str, *statements: str, **values: Any) -> None:
    """By somebody with all rights, who is not stopped by what refers to what."""
    engine = engines.create(url, purpose="schema")
    try:
        async with engine.connect() as connection:
            if engine.dialect.name == "sqlite":
                driver: Any = (await connection.get_raw_connection()).driver_connection
                await driver.execute_fetchall("pragma foreign_keys=off")
            else:
                for table, column in FOREIGN_KEYS:
                    drop = f"alter table {table} drop constraint if exists {table}_{column}_fkey"
                    await connection.execute(sa.text(drop))
            for statement in statements:
                await connection.execute(sa.text(statement), values)
            await connection.commit()
    finally:
        await engine.dispose()


async def test_what_was_written_is_as_it_was_written(url: str) -> None:
    count = Count()
    assert await found(url, await heads(url), count) == []
    assert (count.writers, count.decisions, count.removed, count.feedback, count.entries) == (2, 10, 0, 2, 12)


FOURTH = str(uuid.UUID(int=4))
LAST = str(uuid.UUID(int=10))


@pytest.mark.parametrize(
    ("statement", "table", "row"),
    [
        ("update decisions set outcome = 'not-met' where id = 'FOURTH'", "decisions", FOURTH),
        ("update decisions set evidence = '[]' where id = 'FOURTH'", "decisions", FOURTH),
        ("update decisions set facts_digest = '' where id = 'FOURTH'", "decisions", FOURTH),
        ("update decision_cards set indicator = 'x' where decision_id = 'FOURTH'", "decisions", FOURTH),
        ("delete from decision_cards where decision_id = 'FOURTH'", "decisions", FOURTH),
        ("update decision_facts set facts = :bytes where decision_id = 'FOURTH'", "decision_facts", FOURTH),
        ("update decision_facts set patient = 'other' where decision_id = 'FOURTH'", "decision_facts", FOURTH),
        ("delete from decision_facts where decision_id = 'FOURTH'", "decision_facts", FOURTH),
        ("update decision_answers set status = 412 where decision_id = 'FOURTH'", "decision_answers", FOURTH),
        ("update decision_answers set body = :bytes where decision_id = 'FOURTH'", "decision_answers", FOURTH),
        ("delete from decision_answers where decision_id = 'FOURTH'", "decision_answers", FOURTH),
        ("delete from decisions where id = 'FOURTH'", "decisions", FOURTH),
        ("delete from decisions where id = 'LAST'", "decisions", LAST),
        ("update chain set digest = 'x' where ref = 'FOURTH'", "chain", FOURTH),
        ("update chain set hash = 'x' where ref = 'FOURTH'", "chain", FOURTH),
        ("update chain set kind = 'x' where ref = 'FOURTH'", "chain", FOURTH),
        ("delete from chain where ref = 'FOURTH'", "chain", "/4"),
        ("delete from chain where ref = 'LAST'", "decisions", LAST),
        ("update writers set head = 'x' where number = 1", "writers", ""),
        ("update writers set seq = seq + 1 where number = 2", "chain", "/7"),
        ("update writers set started_at = 'x' where number = 1", "writers", ""),
        ("delete from writers where number = 1", "writers", ""),
        ("delete from writers where number = 2", "writers", ""),
        ("update feedback set outcome = 'overridden' where id = 1", "feedback", ""),
        ("delete from feedback where id = 2", "feedback", ""),
        ("update knowledge set files = :bytes", "knowledge", files_hash()),
    ],
)
async def test_one_change_is_named(url: str, statement: str, table: str, row: str) -> None:
    values = {"bytes": b"\0"} if ":bytes" in statement else {}
    await change(url, statement.replace("FOURTH", FOURTH).replace("LAST", LAST), **values)
    faults = await found(url)
    assert any(fault.table == table and row in fault.row for fault in faults), faults


@pytest.mark.skipif(databases.is_postgresql(), reason="PostgreSQL keeps in a column what the column is for")
@pytest.mark.parametrize(
    ("statement", "table"),
    [
        ("update decision_facts set facts = 'text' where decision_id = 'FOURTH'", "decision_facts"),
        ("update decision_facts set facts = cast(facts as text) where decision_id = 'FOURTH'", "decision_facts"),
        ("update decision_answers set body = 1 where decision_id = 'FOURTH'", "decision_answers"),
        ("update decision_answers set status = 'text' where decision_id = 'FOURTH'", "decision_answers"),
        ("insert into decision_cards values (x'ff', 'FOURTH', 'n', 'i', '[]')", "decisions"),
        ("update decisions set flags = x'ff' where id = 'FOURTH'", "decisions"),
        ("update decisions set id = x'ff' where id = 'FOURTH'", "decisions"),
        ("update chain set seq = 'text' where ref = 'FOURTH'", "chain"),
        ("update chain set seq = 2.5 where ref = 'FOURTH'", "chain"),
        ("update chain set ref = x'ff' where ref = 'FOURTH'", "chain"),
        ("update writers set seq = 'text' where number = 1", "chain"),
        ("update knowledge set files = 'text'", "knowledge"),
    ],
)
async def test_what_is_of_another_kind_is_named(url: str, statement: str, table: str) -> None:
    """SQLite keeps anything in any column; whoever checks must not stumble over it."""
    await change(url, statement.replace("FOURTH", FOURTH))
    assert table in {fault.table for fault in await found(url)}


async def test_loose_rows_are_found_without_lists_in_memory(recorded_url: str) -> None:
    """NOT IN looks through all decisions for each row as soon as their list is longer than PostgreSQL's memory for it:
    a hundred thousand decisions took hours."""
    engine = engines.create(recorded_url, purpose="report")
    statements: list[str] = []
    event.listen(engine.sync_engine, "before_cursor_execute", lambda *said: statements.append(said[2]))
    try:
        async with readonly.snapshot(engine) as connection:
            assert [fault async for fault in verify.faults(connection)] == []
    finally:
        await engine.dispose()
    assert any("NOT (EXISTS" in one for one in statements)
    assert not any("NOT IN (SELECT" in one.upper() for one in statements)


async def test_rows_that_changed_places_are_named(url: str) -> None:
    await change(
        url,
        "update chain set seq = 99 where seq = 2",
        "update chain set seq = 2 where seq = 3",
        "update chain set seq = 3 where seq = 99",
    )
    assert {"chain"} <= {fault.table for fault in await found(url)}


async def test_rows_that_were_added_are_named(url: str) -> None:
    columns = ", ".join(name for name in chain.DECISION if name != "id")
    await change(url, f"insert into decisions (id, {columns}) select 'forged', {columns} from decisions limit 1")  # noqa: S608
    assert [str(fault) for fault in await found(url)] == [
        "decisions forged: is in no chain: it was added, or its entry was removed"
    ]


async def test_what_was_removed_on_purpose_is_counted(url: str) -> None:
    async with Store(url) as store:
        assert await store.remove_patient("patient-1", tenant="hospital") == 5
    count = Count()
    assert await found(url, count=count) == []
    assert count.removed == 5


async def test_what_comes_back_after_its_removal_is_named(url: str) -> None:
    await change(url, f"create table old as select * from decision_facts where decision_id = '{FOURTH}'")  # noqa: S608
    async with Store(url) as store:
        await store.remove_patient("patient-0", tenant="hospital")
    await change(url, "insert into decision_facts select * from old", "drop table old")
    assert [str(fault) for fault in await found(url)] == [
        f"decision_facts {FOURTH}: is there although it was removed on purpose"
    ]


async def test_a_chain_that_was_cut_off_whole_is_found_with_its_head(url: str) -> None:
    noted = await heads(url)
    await change(
        url,
        "delete from decisions where hook_instance >= 'instance-6' or hook_instance = 'instance-10'",
        *(
            f"delete from {table} where decision_id not in (select id from decisions)"  # noqa: S608
            for table in ("decision_facts", "decision_answers", "decision_cards")
        ),
        "delete from feedback where id = 2",
        "delete from chain where writer = (select id from writers where number = 2)",
        "delete from writers where number = 2",
    )
    assert await found(url) == []
    assert [(fault.table, fault.row) for fault in await found(url, noted)] == [("writers", noted[1].writer)]


async def test_a_chain_that_was_written_anew_is_found_with_its_head(url: str) -> None:
    noted = await heads(url)
    forged = [Head(noted[0].writer, noted[0].seq, "0" * 64), noted[1]]
    assert any("written anew" in fault.what for fault in await found(url, forged))
    longer = [Head(noted[0].writer, noted[0].seq + 5, "0" * 64)]
    assert any("when the head was noted" in fault.what for fault in await found(url, longer))


def test_the_forms_that_are_hashed_stay_as_they_are() -> None:
    """Known answers: a record of years ago is checked with them."""
    head = Head("w", 0, chain.FIRST).next("decision", "r", "d").next("removal", "r", "e")
    row: dict[str, Any] = {name: name for name in (*chain.DECISION, *chain.FEEDBACK)}
    assert head.hash == KNOWN["head"]
    assert chain.writer(chain.FIRST, id_="w", started_at="t") == KNOWN["writer"]
    assert chain.decision(row, [("c2", "n", "i", "[]"), ("c1", "n", "i", "[]")]) == KNOWN["decision"]
    assert chain.feedback(row) == KNOWN["feedback"]
    assert chain.removal("r", at="t") == KNOWN["removal"]
    assert chain.facts("p", b"f") == KNOWN["facts"]
    assert chain.answer(200, b"b") == KNOWN["answer"]


KNOWN = {
    "head": "96aa7ca3acb560182ec986417cc1d0f37b8c2ef1a65db4b600cb8c9dbdb144bc",
    "writer": "3fca6c5688969ec92a8e52a468a9d4affb8e15c92eeec532727cf69b4f13ec38",
    "decision": "ab30acbb3a656db179c26f9ca2bd132fdb05443f988eacd17bcd9eeee394dec6",
    "feedback": "9783759d94b759ef1572475ee44f057b881cdd2b7d5da74c91c61ae1cc362af7",
    "removal": "93e7524fe5c2b4cff3bd58bef048ad8e329e24cee2dca15dc4fbe21a96fca9f7",
    "facts": "ee16256e6cbc43f341880af216899fad8a84175540912ba60048879a7719846a",
    "answer": "bb23f18179a889b70e206e97a0c6c3381008a7ccdd8a162692a2acba2cf8943e",
}
