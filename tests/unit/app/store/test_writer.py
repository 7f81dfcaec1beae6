"""One task writes: what is confirmed is durable, once, in order, whether the database is there or not."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import event, func, select
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from app.store import decisions as recording
from app.store import feedback as keeping
from app.store import verify
from app.store.decisions import Before, Decision, Same, Shown, Snooze, Store
from app.store.doorbook import Refusal
from app.store.errors import BadDatabase, NotRecorded, SpoolFull
from app.store.feedback import Feedback
from app.store.models import chain, decisions, feedback, writers
from app.store.writer import _ANSWER_SECONDS, REPEAT, WAIT_FOR_CARDS, Earlier, Transaction
from tests import databases

KNOWLEDGE = "4eb2a7d5a1b1d5f5c9e2fc8c6a1f5d36c1f3f4f8a4a6d9f0a9b7c1d2e3f40516"
NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
FEEDBACK = Feedback("card-1", "accepted")


def decision(**changes: Any) -> Decision:
    made = Decision(
        id=str(uuid.uuid4()),
        created_at=datetime.now(UTC),
        client="ehr",
        tenant="hospital",
        service="anakinra-ruxolitinib-patient-view",
        hook="patient-view",
        hook_instance="instance",
        request_digest="d" * 64,
        knowledge_hash=KNOWLEDGE,
        outcome="card",
        status=200,
        answer=b'{"cards":[]}',
        patient="patient-canary",
        facts=b"facts-canary",
    )
    return replace(made, **changes)


def writing(store: Store) -> Any:
    """The engine of its transactions."""
    return (store._writer._blocking or store._engine).sync_engine


class Broken:
    """A switch in front of the database: while it is off every statement fails as if the server had gone."""

    def __init__(self, store: Store) -> None:
        self.off = False
        self.commits = 0
        for engine in {store._engine.sync_engine, store._reading.sync_engine, writing(store)}:
            event.listen(engine, "before_cursor_execute", self._stop)
        event.listen(writing(store), "commit", self._count)

    def _stop(self, *_: object) -> None:
        if self.off:
            raise OperationalError("statement", {}, Exception("gone"))

    def _count(self, _: object) -> None:
        self.commits += 1


async def together(store: Store, *calls: Coroutine[Any, Any, Any]) -> list[Any]:
    """What each gave or raised; all of them wait when the writer looks."""

    async def gathered() -> list[Any]:
        return await asyncio.gather(*calls, return_exceptions=True)

    return await store._apart.call(gathered())


async def goes_down(store: Store, *, then: Callable[[], None] = lambda: None) -> None:
    """The writer takes its database for down; where it runs."""

    async def gone() -> None:
        store._writer._down(TimeoutError())
        then()

    await store._apart.call(gone())


@asynccontextmanager
async def opened(path: Path, **options: Any) -> AsyncIterator[Store]:
    database = databases.at_first_start(path / "d.db")
    store = Store(database.url, **{"spool": path / "d.db.spool"} | options)
    store._writer._probe_seconds = 0.02
    store._writer._commit_seconds = store._writer._answer_seconds = 20.0  # of a machine on which other tests run
    async with store:
        await store.keep_knowledge(KNOWLEDGE, b"{}")
        yield store


async def until(reached: Callable[[], bool], *, seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not reached():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def ids(store: Store) -> list[str]:
    """In the order of the chain."""
    async with store._reading.connect() as connection:
        order = (
            select(chain.c.ref)
            .join(writers, writers.c.id == chain.c.writer)
            .where(chain.c.kind == "decision")
            .order_by(writers.c.number, chain.c.seq)
        )
        return list(await connection.scalars(order))


async def faults(store: Store) -> list[str]:
    async with store._reading.connect() as connection:
        found = [str(fault) async for fault in verify.faults(connection)]
    return [fault for fault in found if not fault.startswith("knowledge ")]


async def flags(store: Store) -> dict[str, list[str]]:
    async with store._reading.connect() as connection:
        return {row.id: row.flags for row in await connection.execute(select(decisions.c.id, decisions.c.flags))}


async def test_what_waits_is_committed_together(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        switch = Broken(store)
        made = [decision() for _ in range(200)]
        await together(store, *map(store.record, made))
        assert await ids(store) == [one.id for one in made]
        assert switch.commits <= 200 / 64 + 2
        assert await faults(store) == []


async def test_one_that_cannot_be_written_holds_up_nobody(tmp_path: Path) -> None:
    shown = (Shown(str(uuid.uuid4()), "protocol", "info"),)
    async with opened(tmp_path) as store:
        good, bad = [decision() for _ in range(10)], decision(knowledge_hash="unknown")
        made = [*good[:5], bad, decision(cards=shown), decision(cards=shown), *good[5:]]
        ended = await together(store, *map(store.record, made))
        failed = [one for one, how in zip(made, ended, strict=True) if isinstance(how, NotRecorded)]
        assert failed == [bad, made[7]]
        assert set(await ids(store)) == {one.id for one in made} - {one.id for one in failed}
        assert await faults(store) == []


async def test_who_goes_away_takes_nothing_back(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        made = decision()
        task = asyncio.create_task(store.record(made))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    async with opened(tmp_path) as store:
        assert await ids(store) == [made.id]


async def test_a_busy_service_does_not_take_its_database_for_dead(tmp_path: Path) -> None:
    """While one call is evaluated, the records of others are committed: not behind it, statement by statement."""
    async with opened(tmp_path) as store:
        store._writer._commit_seconds = 0.5
        tasks = [asyncio.create_task(store.record(decision())) for _ in range(5)]
        for _ in range(20):
            await asyncio.sleep(0)
            time.sleep(0.1)  # noqa: ASYNC251  (an evaluation)
        assert [*await asyncio.gather(*tasks)] == [None] * 5
        assert (store._writer.state.up, store.now().spooled) == (True, 0)


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        pass
    with pytest.raises(NotRecorded):
        await store.record(decision())


def test_a_store_can_be_opened_again_elsewhere(tmp_path: Path) -> None:
    store = Store(databases.at_first_start(tmp_path / "d.db").url, spool=tmp_path / "spool")
    made = [decision(), decision()]

    async def recorded(one: Decision) -> list[str]:
        async with store:
            await store.keep_knowledge(KNOWLEDGE, b"{}")
            await store.record(one)
            return await ids(store)

    assert [asyncio.run(recorded(one)) for one in made] == [[made[0].id], [one.id for one in made]]


async def test_closing_writes_what_waits(tmp_path: Path) -> None:
    store = Store(databases.at_first_start(tmp_path / "d.db").url, spool=tmp_path / "d.db.spool")
    await store.open()
    await store.keep_knowledge(KNOWLEDGE, b"{}")
    tasks = [asyncio.create_task(store.record(decision())) for _ in range(100)]
    await asyncio.sleep(0)
    await store.close()
    assert [type(how) for how in await asyncio.gather(*tasks, return_exceptions=True)] == [type(None)] * 100


# --- the same request again


async def test_a_repeat_finds_its_answer_for_ten_minutes(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        made = decision(claim="c" * 64)
        same = Same("ehr", "hospital", made.service, "instance", made.request_digest)
        assert await store.record(made) is None
        now = datetime.now(UTC)
        found = (await store.before(same, claim="c" * 64, now=now)).answer
        assert found == Earlier(made.id, "card", 200, b'{"cards":[]}')
        assert (await store.before(same, claim="c" * 64, now=now + REPEAT + timedelta(seconds=1))).answer is None
        assert (await store.before(same, claim="o" * 64, now=now)).answer is None


async def test_who_comes_second_with_the_same_request_gets_the_first_answer(tmp_path: Path) -> None:
    first, second = decision(claim="c" * 64), decision(claim="c" * 64, answer=b"another")
    async with opened(tmp_path) as one, Store(databases.at_first_start(tmp_path / "d.db").url, role="tool") as two:
        ended = await asyncio.gather(one.record(first), two.record(second))
        winner = first if ended[0] is None else second
        assert {how for how in ended if how is not None} == {Earlier(winner.id, "card", 200, winner.answer or b"")}
        assert await ids(one) == [winner.id]
        assert await faults(one) == []


async def test_an_old_claim_does_not_count(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        first = decision(claim="c" * 64)
        second = decision(claim="c" * 64, created_at=first.created_at + REPEAT + timedelta(seconds=1))
        await store.record(first)
        assert await store.record(second) is None
        assert await ids(store) == [first.id, second.id]


async def test_a_hook_instance_with_another_question_is_seen(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        made = decision()
        await store.record(made)
        same = Same("ehr", "hospital", made.service, "instance", made.request_digest)
        assert not (await store.before(same, claim="x", now=NOW)).reused
        assert (await store.before(replace(same, request_digest="e" * 64), claim="x", now=NOW)).reused
        for other in ("client", "tenant", "service", "hook_instance"):
            elsewhere = replace(same, request_digest="e" * 64, **{other: "other"})
            assert not (await store.before(elsewhere, claim="x", now=NOW)).reused


async def test_two_that_wait_with_the_same_request_are_one(tmp_path: Path) -> None:
    first, second = decision(claim="c" * 64), decision(claim="c" * 64, answer=b"another")
    async with opened(tmp_path) as store:
        ended = await together(store, store.record(first), store.record(second))
        assert ended == [None, Earlier(first.id, "card", 200, first.answer or b"")]
        assert await ids(store) == [first.id]


# --- without the database


async def test_what_the_database_does_not_take_waits_in_the_spool(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        switch = Broken(store)
        before, during, after = ([decision() for _ in range(5)] for _ in range(3))
        for one in before:
            await store.record(one)
        switch.off = True
        for one in during:
            assert await store.record(one) is None
        found = await store.readiness()
        assert (found.database, found.spool, found.entries, found.spooled) == (False, True, 5, 5)
        switch.off = False
        for one in after:
            await store.record(one)
        await until(lambda: store.now().entries == 0)
        assert await ids(store) == [one.id for one in (*before, *during, *after)]
        assert await faults(store) == []
        found = await store.readiness()
        assert (found.database, found.entries) == (True, 0)
        said = await flags(store)
        assert [said[one.id] for one in during] == [["spooled"]] * 5
        assert [said[one.id] for one in before] == [[]] * 5


async def test_a_repeat_is_known_while_the_database_is_down(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        switch = Broken(store)
        switch.off = True
        made = decision(claim="c" * 64)
        same = Same("ehr", "hospital", made.service, "instance", made.request_digest)
        await store.record(made)
        assert (await store.before(same, claim="c" * 64, now=NOW)).answer == Earlier(
            made.id, "card", 200, made.answer or b""
        )
        assert (await store.before(same, claim="other", now=NOW)).answer is None


async def test_a_repeat_after_ten_minutes_is_a_new_decision_while_the_database_is_down(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        switch = Broken(store)
        switch.off = True
        old = decision(claim="c" * 64)
        new = decision(claim="c" * 64, created_at=old.created_at + REPEAT + timedelta(seconds=1), answer=b"new")
        same = Same("ehr", "hospital", old.service, "instance", old.request_digest)
        await store.record(old)
        assert (await store.before(same, claim="c" * 64, now=new.created_at)).answer is None
        await store.record(new)
        assert (await store.before(same, claim="c" * 64, now=new.created_at)).answer == Earlier(
            new.id, "card", 200, b"new"
        )
        await store.record(decision(claim="o" * 64, created_at=new.created_at + REPEAT + timedelta(seconds=1)))
        assert len(store._writer._behind) == 1  # what is not repeated any more is not kept in memory
        switch.off = False
        await until(lambda: store.now().entries == 0)
        assert set(map(tuple, (await flags(store)).values())) == {("spooled",)}


async def test_what_was_answered_long_after_is_no_duplicate_of_it(tmp_path: Path) -> None:
    """Another process answers the same request: soon, or when a repeat's time is over; ours is still in the spool."""
    ours = [decision(claim=name * 64) for name in "ab"]
    theirs = [
        decision(claim="a" * 64, created_at=ours[0].created_at + timedelta(minutes=9)),
        decision(claim="b" * 64, created_at=ours[1].created_at + timedelta(minutes=11)),
    ]
    async with opened(tmp_path) as store, Store(databases.at_first_start(tmp_path / "d.db").url, role="tool") as other:
        switch = Broken(store)
        switch.off = True
        for one in ours:
            await store.record(one)
        for one in theirs:
            assert await other.record(one) is None
        switch.off = False
        await until(lambda: store.now().entries == 0)
        said = await flags(store)
        assert [said[one.id] for one in ours] == [["spooled", "duplicate"], ["spooled"]]


async def test_what_the_database_has_no_room_for_stays_in_the_spool(tmp_path: Path) -> None:
    """It answers, and takes what is small: neither a row's fault, nor for ever."""
    async with opened(tmp_path) as store:
        full = True

        def refuse(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if full and statement.startswith("INSERT INTO decisions "):
                raise OperationalError("statement", {}, Exception("no space left on device"))

        event.listen(writing(store), "before_cursor_execute", refuse)
        made = [decision() for _ in range(5)]
        for one in made:
            assert await store.record(one) is None
        await until(lambda: store._writer._relapses >= 3)
        assert (store.now().entries, store.now().damaged) == (5, 0)
        full = False
        await until(lambda: store.now().entries == 0)
        assert await ids(store) == [one.id for one in made]
        assert store.now().damaged == 0
        assert store._writer._relapses == 0


async def test_what_is_committed_meanwhile_is_not_set_aside(tmp_path: Path) -> None:
    """A commit whose end nobody has seen comes in between: the database refuses the id, and has it."""
    async with opened(tmp_path) as store:
        switch = Broken(store)
        switch.off = True
        made = decision()
        await store.record(made)
        forwarded, tried = store._writer._forwarded, []

        async def late(rows: Any) -> None:
            tried.append(len(rows))
            if len(tried) <= 2:
                if len(tried) == 2:
                    await forwarded(rows)
                raise IntegrityError("statement", {}, Exception("unique"))
            await forwarded(rows)

        store._writer._forwarded = late  # type: ignore[method-assign]
        switch.off = False
        await until(lambda: store.now().entries == 0)
        assert store.now().damaged == 0
        assert await ids(store) == [made.id]
        assert await faults(store) == []


async def test_what_the_last_process_answered_is_known_until_it_is_written(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    old, new = (decision(claim=name * 64, created_at=now - ago) for name, ago in (("a", REPEAT * 2), ("b", REPEAT / 2)))
    async with opened(tmp_path) as store:
        switch = Broken(store)
        switch.off = True
        store._writer._clock = lambda: now - REPEAT * 2
        await store.record(old)
        store._writer._clock = lambda: now - REPEAT / 2
        await store.record(new)
    database = databases.at_first_start(tmp_path / "d.db")
    async with Store(database.url, spool=tmp_path / "d.db.spool") as store:
        same = Same("ehr", "hospital", new.service, "instance", new.request_digest)
        found = [(await store.before(same, claim=one.claim, now=now)).answer for one in (old, new)]
        assert found == [None, Earlier(new.id, "card", 200, new.answer or b"")]
        assert list(store._writer._behind) == [new.claim]


async def test_the_spool_waits_for_the_knowledge_that_it_refers_to(tmp_path: Path) -> None:
    """As after a restored backup that is older than this version."""
    path = tmp_path / "old"
    path.mkdir()
    async with opened(path) as store:
        switch = Broken(store)
        switch.off = True
        made = decision()
        await store.record(made)
    database = databases.at_first_start(tmp_path / "restored.db")
    async with Store(database.url, spool=path / "d.db.spool") as store:
        await store.readiness()
        await asyncio.sleep(0.05)
        assert (store.now().entries, store.now().damaged) == (1, 0)
        await store.keep_knowledge(KNOWLEDGE, b"{}")
        await until(lambda: store.now().entries == 0)
        assert await ids(store) == [made.id]


async def test_a_database_that_takes_its_time_to_come_back_comes_back(tmp_path: Path) -> None:
    """To connect may take longer than a probe usually does."""
    async with opened(tmp_path) as store:
        answers = store._writer._answers

        async def slowly(*, seconds: float | None = None) -> bool:
            return (seconds or _ANSWER_SECONDS) >= 1 and await answers(seconds=seconds)

        store._writer._answers = slowly  # type: ignore[method-assign]
        await goes_down(store)
        await until(lambda: store._writer.state.up)


async def test_what_may_have_been_done_is_not_done_again(tmp_path: Path) -> None:
    """A token that is used by its first use would be refused by its second."""
    async with opened(tmp_path) as store:
        committed, done = store._writer._committed, []

        async def work(_: Transaction) -> None:
            done.append(1)

        async def unconfirmed(batch: Any, **how: Any) -> list[Any]:
            results = await committed(batch, **how)
            if len(batch) > 1:
                raise OperationalError("statement", {}, Exception("gone"))
            return results

        store._writer._committed = unconfirmed  # type: ignore[method-assign]
        made = decision()
        ended = await together(store, store.record(made), store._done(work))
        assert [type(how) for how in ended] == [type(None), NotRecorded]
        assert done == [1]
        assert await ids(store) == [made.id]
        assert store._writer.state.up


async def test_a_fault_of_one_is_not_everybodys(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def fault(_: Transaction) -> None:
        raise KeyError("fault")

    async with opened(tmp_path) as store:
        made = [decision() for _ in range(3)]
        ended = await together(store, *map(store.record, made), store._done(fault))
        assert [type(how) for how in ended] == [type(None)] * 3 + [NotRecorded]
        assert await ids(store) == [one.id for one in made]
        assert await faults(store) == []
    assert "fault" in caplog.messages


async def test_who_waits_is_told_when_the_writer_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.store.writer._CLOSE_SECONDS", 0.05)
    async with opened(tmp_path) as store:

        async def hangs(*_: object, **__: object) -> list[Any]:
            await asyncio.Event().wait()
            return []

        store._writer._committed = hangs  # type: ignore[method-assign]
        waiting = [asyncio.create_task(store.record(decision()))]
        await asyncio.sleep(0.01)
        waiting.append(asyncio.create_task(store.record(decision())))
        await asyncio.sleep(0)
        await store.close()
        async with asyncio.timeout(5):
            ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(how) for how in ended] == [NotRecorded] * 2


@pytest.mark.skipif(not databases.is_postgresql(), reason="SQLite takes texts of any length")
async def test_what_does_not_fit_is_nobody_elses_trouble(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        with pytest.raises(NotRecorded):
            await store.record(decision(service="s" * 201))
        made = decision()
        await store.record(made)
        assert (store._writer.state.up, store.now().entries) == (True, 0)
        assert await flags(store) == {made.id: []}


async def test_the_next_process_writes_what_the_last_one_left(tmp_path: Path) -> None:
    made = [decision(claim=str(number) * 64) for number in range(3)]
    async with opened(tmp_path) as store:
        switch = Broken(store)
        switch.off = True
        for one in made:
            await store.record(one)
    async with opened(tmp_path) as store:
        await until(lambda: store.now().entries == 0)
        assert await ids(store) == [one.id for one in made]
        assert await faults(store) == []


async def test_what_was_committed_unconfirmed_is_not_written_twice(tmp_path: Path) -> None:
    """The answer to the commit was lost: the entries are in the database and in the spool."""
    async with opened(tmp_path) as store:
        switch = Broken(store)
        made = decision(claim="c" * 64)
        committed = store._writer._committed

        async def unconfirmed(batch: Any, **_: Any) -> list[Any]:
            await committed(batch)
            raise TimeoutError

        store._writer._committed = unconfirmed  # type: ignore[method-assign]
        await store.record(made)
        store._writer._committed = committed  # type: ignore[method-assign]
        await until(lambda: store.now().entries == 0)
        assert await ids(store) == [made.id]
        assert await faults(store) == []
        assert switch.commits >= 1


async def test_a_connection_that_breaks_after_the_commit_costs_nobody_the_answer(tmp_path: Path) -> None:
    """The server went and came back: what was committed is there, and each entry is asked for alone."""
    async with opened(tmp_path) as store:
        made = [decision() for _ in range(3)]
        committed, broken = store._writer._committed, []

        async def once(batch: Any, **how: bool) -> list[Any]:
            results = await committed(batch, **how)
            if not broken:
                broken.append(len(batch))
                raise OperationalError("statement", {}, Exception("gone"))
            return results

        store._writer._committed = once  # type: ignore[method-assign]
        assert await together(store, *map(store.record, made)) == [None] * 3
        assert broken == [3]
        assert await ids(store) == [one.id for one in made]
        assert await faults(store) == []


async def test_feedback_waits_too_and_finds_its_card(tmp_path: Path) -> None:
    card = str(uuid.uuid4())
    async with opened(tmp_path) as store:
        switch = Broken(store)
        switch.off = True
        made = decision(cards=(Shown(card, "protocol", "info"),))
        await store.record(made)
        kept = await store.keep_feedback(
            [replace(FEEDBACK, card=card, comment="canary")],
            client="ehr",
            tenant="hospital",
            service=made.service,
            received_at=NOW,
        )
        assert kept is None
        switch.off = False
        await until(lambda: store.now().entries == 0)
        async with store._reading.connect() as connection:
            assert (await connection.execute(select(feedback.c.card, feedback.c.decision_id))).all() == [
                (card, made.id)
            ]
        assert await faults(store) == []


async def test_a_full_spool_refuses_and_recovers(tmp_path: Path) -> None:
    async with opened(tmp_path, spool_bytes=256 * 1024) as store:
        switch = Broken(store)
        switch.off = True
        made = [decision(facts=b"x" * 20_000) for _ in range(100)]
        ended = await together(store, *map(store.record, made))
        taken = [one.id for one, how in zip(made, ended, strict=True) if how is None]
        assert 5 < len(taken) < 20
        assert {type(how) for how in ended} == {type(None), NotRecorded}
        assert not (await store.readiness()).spool
        switch.off = False
        await until(lambda: store.now().entries == 0)
        assert await ids(store) == taken
        await store.record(decision())
        found = await store.readiness()
        assert found.database
        assert found.spool


async def test_what_the_database_never_takes_is_set_aside(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        switch = Broken(store)
        switch.off = True
        bad, good = decision(knowledge_hash="unknown"), decision()
        await store.record(bad)
        await store.record(good)
        switch.off = False
        await until(lambda: store.now().entries == 0)
        assert await ids(store) == [good.id]
        assert store.now().damaged == 1
        kept = [
            path
            for path in (tmp_path / "d.db.spool").rglob("*")
            if path.is_file() and bad.id.encode() in path.read_bytes()
        ]
        assert len(kept) == 1


async def test_what_is_no_entry_is_set_aside(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        assert store._spool is not None
        store._spool.append([b"nonsense", msgspec.msgpack.encode({"type": "other"})], now=NOW)
        made = decision()
        await store.record(made)
        await until(lambda: store.now().entries == 0)
        assert await ids(store) == [made.id]
        assert store.now().damaged >= 1


async def test_a_database_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        store._writer._commit_seconds = 0.05
        hanging = asyncio.Event()

        async def hangs(*_: object, **__: object) -> bool:
            await hanging.wait()
            return True

        committed, answers = store._writer._committed, store._writer._answers
        store._writer._committed = hangs  # type: ignore[method-assign, assignment]
        store._writer._answers = hangs  # type: ignore[method-assign]
        first = asyncio.create_task(store.record(decision()))
        await asyncio.sleep(0.01)
        await goes_down(store, then=hanging.set)
        await asyncio.gather(first, return_exceptions=True)
        store._writer._committed, store._writer._answers = committed, answers  # type: ignore[method-assign]
        await until(lambda: store._writer.state.up)
        store._writer._commit_seconds = 10
        made = decision()
        await store.record(made)
        assert made.id in await ids(store)


@pytest.mark.skipif(not databases.is_postgresql(), reason="SQLite has one transaction that writes at a time")
async def test_words_that_come_while_a_patient_is_removed_do_not_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, reached = keeping._there, threading.Event()

    async def slowly(*given: Any) -> list[str]:
        reached.set()
        await asyncio.sleep(0.5)
        return await there(*given)

    monkeypatch.setattr(keeping, "_there", slowly)
    async with opened(tmp_path) as store, Store(databases.newest(tmp_path / "d.db").url, role="tool") as tool:
        await store.record(decision(cards=(Shown("card-1", "protocol", "info"),)))
        told = Feedback("card-1", "overridden", comment="about the patient")
        kept = asyncio.create_task(
            store.keep_feedback([told], client="ehr", tenant="hospital", service="s", received_at=NOW)
        )
        await asyncio.to_thread(reached.wait, 10)
        assert await tool.remove_patient("patient-canary", tenant="hospital") == 1
        assert await kept is not None
    assert databases.newest(tmp_path / "d.db").rows("select comment from feedback_words") == []


@pytest.mark.sqlite
@pytest.mark.parametrize("stands_in", ["before_cursor_execute", "commit"])
async def test_a_disk_that_stands_still_is_not_waited_for(tmp_path: Path, stands_in: str) -> None:
    """The thread of the transactions hangs in the middle of one, as it does in a write or an fsync."""
    still, moves = threading.Event(), threading.Event()

    def stand(*_: object) -> None:
        if still.is_set():
            moves.wait(30)

    async with opened(tmp_path) as store:
        event.listen(writing(store), stands_in, stand)
        store._writer._commit_seconds = store._writer._answer_seconds = 0.2
        made = [decision() for _ in range(8)]
        await store.record(made[0])
        still.set()
        try:
            async with asyncio.timeout(5):
                await together(store, *map(store.record, made[1:4]))
                await store.record(made[4])
                standing = await store.readiness()
                assert (standing.database, standing.spool, standing.entries) == (False, True, 4)
                assert not store.now().database
                with pytest.raises(NotRecorded):
                    await store.first_use(client="ehr", token_id="t", until=NOW, now=NOW)
        finally:
            still.clear()
            moves.set()
        store._writer._commit_seconds = store._writer._answer_seconds = 20.0
        await until(lambda: store._writer.state.up and store.now().entries == 0)
        await together(store, *map(store.record, made[5:]))
        assert sorted(await ids(store)) == sorted(one.id for one in made)
        assert await faults(store) == []
        assert (await store.readiness()).database


@pytest.mark.sqlite
async def test_a_disk_that_stands_still_while_it_is_read_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "SHOWN_SECONDS", 0.1)
    moves = threading.Event()
    made = decision()
    same = Same(made.client, made.tenant, made.service, made.hook_instance, made.request_digest)
    snooze = Snooze("ehr", "u" * 64, "p1", "undetermined", "s" * 64)

    def connected(connection: Any, _: object) -> None:
        connection.create_function("stands_still", 0, lambda: moves.wait(30))

    async with opened(tmp_path) as store:
        await store.record(made)
        await store._reading.dispose()
        event.listen(store._reading.sync_engine, "connect", connected)
        still = event.listens_for(store._reading.sync_engine, "before_cursor_execute", retval=True)
        still(lambda *_: ("select stands_still()", ()))
        try:
            async with asyncio.timeout(10):
                for _ in range(6):
                    assert await store.before(same, claim="", now=made.created_at) == Before()
                    with pytest.raises(BadDatabase):
                        await store.was_shown(snooze, since=NOW)
        finally:
            moves.set()


@pytest.mark.sqlite
async def test_a_disk_that_stands_still_does_not_hold_up_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.store.apart._JOIN_SECONDS", 0.1)
    moves = threading.Event()
    try:
        async with opened(tmp_path) as store:
            store._writer._commit_seconds = store._writer._answer_seconds = 0.1
            event.listen(writing(store), "commit", lambda _: moves.wait(30))
            made = decision()
            await store.record(made)
            begun = time.monotonic()
        assert time.monotonic() - begun < 10
    finally:
        moves.set()
    async with opened(tmp_path) as store:
        await until(lambda: store.now().entries == 0)
        assert await ids(store) == [made.id]
        assert await faults(store) == []


@pytest.mark.sqlite
async def test_a_transaction_of_the_thread_waits_for_nothing_else(tmp_path: Path) -> None:
    async def waits(_: Transaction) -> None:
        await asyncio.sleep(0)

    async with opened(tmp_path) as store:
        with pytest.raises(NotRecorded):
            await store._done(waits)
        await store.record(decision())
        assert len(await ids(store)) == 1


async def test_who_was_in_anothers_way_is_written_again(tmp_path: Path) -> None:
    """The database ends one of two transactions that wait for each other: nobody is put aside for that."""
    crossed = Exception("deadlock detected")
    crossed.sqlstate = "40P01"  # type: ignore[attr-defined]
    async with opened(tmp_path) as store:
        chained, times = store._writer._chained, []

        async def once(*given: Any) -> Any:
            times.append(1)
            if len(times) == 1:
                raise DBAPIError("statement", {}, crossed)
            return await chained(*given)

        store._writer._chained = once  # type: ignore[method-assign]
        made = [decision() for _ in range(3)]
        ended = await together(store, *map(store.record, made), store.note_refusal(Refusal(NOW, "signature")))
        assert ended == [None] * 4
        assert (len(times), store.now().spooled, store._writer.state.up) == (2, 0, True)
        assert await flags(store) == {one.id: [] for one in made}


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't start new thread")])
async def test_what_this_process_is_short_of_is_no_rows_fault(tmp_path: Path, error: Exception) -> None:
    async with opened(tmp_path) as store:
        chained, short = store._writer._chained, [True]

        async def fails(*given: Any) -> Any:
            if short:
                raise error
            return await chained(*given)

        store._writer._chained = fails  # type: ignore[method-assign]
        made = [decision() for _ in range(3)]
        for one in made:
            await store.record(one)
        await asyncio.sleep(0.2)
        assert (store.now().entries, store.now().damaged) == (3, 0)
        short.clear()
        await until(lambda: store.now().entries == 0)
        assert await ids(store) == [one.id for one in made]


def test_a_store_is_opened_again_in_another_loop_whatever_has_happened(tmp_path: Path) -> None:
    database = databases.at_first_start(tmp_path / "d.db")
    store = Store(database.url, spool=tmp_path / "spool")
    store._writer._probe_seconds = 5.0

    async def used(*, fails: bool) -> None:
        async with store:
            await store.keep_knowledge(KNOWLEDGE, b"{}")
            await store.tidy(now=datetime.now(UTC), snoozed_since=None)
            await store.record(decision())
            if fails:
                await goes_down(store)
                await store.record(decision())

    for fails in (True, False, True, False):
        asyncio.run(used(fails=fails))
        store._tidied = datetime.min.replace(tzinfo=UTC)
    assert len(database.rows("select id from decisions")) == 6


TOLD = Feedback("card-1", "overridden", comment="too late")


async def tell(store: Store, told: Feedback = TOLD, *, at: datetime | None = None) -> Any:
    return await store.keep_feedback(
        [told], client="ehr", tenant="hospital", service="s", received_at=at or datetime.now(UTC)
    )


def told_of(path: Path) -> list[tuple[Any, ...]]:
    """What is kept: about which decision, and in which words."""
    query = """
        select f.decision_id, w.comment
        from feedback f left join feedback_words w on w.feedback_id = f.id
        order by f.id
    """
    return databases.newest(path / "d.db").rows(query)


OF_SEVERAL = pytest.mark.skipif(
    not databases.is_postgresql(), reason="SQLite has one process, whose spool has an order"
)


@OF_SEVERAL
async def test_feedback_waits_for_a_card_that_is_in_anothers_spool(tmp_path: Path) -> None:
    made = decision(cards=(Shown("card-1", "protocol", "info"),))
    async with opened(tmp_path) as one, opened(tmp_path, spool=tmp_path / "other") as other:
        one._writer._probe_seconds, other._writer._look_seconds = 0.5, 0.05
        await goes_down(one)
        await one.record(made)
        assert await tell(other) is None
        assert await tell(other, replace(TOLD, card="card-2")) is None
        await other.record(decision())
        assert (told_of(tmp_path), other.now().entries, other.now().spooled) == ([], 0, 0)
        await until(lambda: one.now().entries == 0)
        await until(lambda: bool(told_of(tmp_path)))
        assert told_of(tmp_path) == [(made.id, "too late")]
    assert told_of(tmp_path) == [(made.id, "too late"), (None, None)]
    async with opened(tmp_path) as store:
        assert await faults(store) == []


@OF_SEVERAL
async def test_feedback_about_a_card_that_never_comes_is_kept_without_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        store._writer._look_seconds = 0.05
        old = datetime.now(UTC) - WAIT_FOR_CARDS - timedelta(seconds=1)
        assert (await tell(store, at=old)).unmatched == 1
        await tell(store, replace(TOLD, card="card-2"), at=datetime.now(UTC) - WAIT_FOR_CARDS + timedelta(seconds=1))
        assert len(told_of(tmp_path)) == 1
        await until(lambda: len(told_of(tmp_path)) == 2)
        assert store._later is not None
        await until(lambda: store._later.entries == 0)


@OF_SEVERAL
async def test_feedback_that_waits_survives_the_process_and_a_database_that_is_down(tmp_path: Path) -> None:
    async def killed(*_: object, **__: object) -> None:
        """It does nothing when it is closed."""

    made = decision(cards=(Shown("card-1", "protocol", "info"),))
    async with opened(tmp_path) as store:
        await goes_down(store)
        await store.record(decision())
        await tell(store)
        await until(lambda: store.now().entries == 0)  # the feedback has gone from one spool to the other
        assert told_of(tmp_path) == []
        store._writer._look_again = killed  # type: ignore[method-assign]
        assert store._later is not None
        assert store._later.entries == 1
    async with opened(tmp_path) as store:
        store._writer._look_seconds = 0.05
        await store.record(made)
        await until(lambda: bool(told_of(tmp_path)))
    assert told_of(tmp_path) == [(made.id, "too late")]


@OF_SEVERAL
async def test_feedback_for_which_there_is_no_place_to_wait_is_kept_at_once(tmp_path: Path) -> None:
    def full(*_: object, **__: object) -> None:
        raise SpoolFull("full")

    async with opened(tmp_path) as store:
        assert store._later is not None
        store._later.append = full  # type: ignore[method-assign]
        async with asyncio.timeout(10):
            _, kept = await together(store, store.record(decision()), tell(store))
        assert kept.unmatched == 1
        await goes_down(store)
        await tell(store, replace(TOLD, card="card-2"))
        await until(lambda: store.now().entries == 0)
        assert (len(told_of(tmp_path)), store.now().damaged) == (2, 0)


async def test_without_a_spool_nothing_is_confirmed_that_is_not_there() -> None:
    async with Store("sqlite+aiosqlite:///:memory:") as store:
        await store.keep_knowledge(KNOWLEDGE, b"{}")
        switch = Broken(store)
        switch.off = True
        with pytest.raises(NotRecorded):
            await store.record(decision())
        switch.off = False


async def test_a_database_that_is_slow_at_the_start_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as store:
        committed, slow = store._writer._committed, [True, True]

        async def slowly(batch: Any, **how: bool) -> list[Any]:
            if slow:
                slow.pop()
                raise TimeoutError
            return await committed(batch, **how)

        store._writer._committed = slowly  # type: ignore[method-assign]
        await store.keep_knowledge("b" * 64, b"files")
        assert await store.knowledge("b" * 64) == b"files"
        monkeypatch.setattr(recording, "START_SECONDS", 0.0)
        slow.append(True)
        with pytest.raises(NotRecorded):
            await store.keep_knowledge("c" * 64, b"files")


async def test_each_process_has_a_chain_of_its_own(tmp_path: Path) -> None:
    for _ in range(3):
        async with opened(tmp_path) as store:
            await store.record(decision())
    async with opened(tmp_path) as store, store._reading.connect() as connection:
        assert await connection.scalar(select(func.count()).select_from(writers)) == 3
        assert [head.seq for head in await verify.heads(connection)] == [1, 1, 1]
        assert await faults(store) == []


@pytest.mark.skipif(databases.is_postgresql(), reason="of SQLite's log")
async def test_what_was_purged_beside_a_running_service_stands_in_no_log(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.record(decision())
        assert b"patient-canary" in (tmp_path / "d.db-wal").read_bytes()
        async with Store(f"sqlite+aiosqlite:///{tmp_path / 'd.db'}", role="tool") as tool:
            assert (await tool.purge_some(before=datetime.now(UTC) + timedelta(minutes=1))).decisions == 1
            await tool.purge_notes(before=datetime.now(UTC))
            assert b"canary" not in databases.newest(tmp_path / "d.db").content()
