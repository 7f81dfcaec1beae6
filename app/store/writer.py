"""The one task of a process that writes to the database.

What waits is committed together, one transaction and one fsync for all of it: at load the disk is asked a few dozen
times a second, not once for every decision. What the database does not take, or not in time, goes to the spool, and
from there into the database later: in the order in which it came, with the ids it was answered with. While the spool
holds anything, what is new goes behind it.

Whether a commit that was not confirmed has happened nobody knows. So every entry can be written again: its id tells
whether it is there, and after such an incident the chain goes on under a new writer.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar, cast

import msgspec
from sqlalchemy import String, bindparam, delete, select, text, type_coerce, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.store import chain, feedback
from app.store.apart import Blocking, BlockingConnection
from app.store.chain import Head, Kind
from app.store.dialect import once
from app.store.errors import NotRecorded, SpoolFull
from app.store.feedback import Kept
from app.store.models import claims, decision_answers, decisions, writers
from app.store.refused import is_crossed, is_refused
from app.store.rows import DecisionRow, FeedbackCall, Inserts, Spoolable, packed, unpacked
from app.store.spool import Spool

log = logging.getLogger(__name__)

T = TypeVar("T")

TOGETHER: Final = 64
"""Entries of one transaction."""

FORWARDED_TOGETHER: Final = 16
"""Entries of the spool in one transaction: few enough for the time of a commit, since new ones wait meanwhile."""

COMMIT_SECONDS: Final = 2.0
"""How long a transaction may take before its entries go to the spool; a hook's whole budget is about as long."""

REPEAT: Final = timedelta(minutes=10)
"""For how long the same request is answered with what it was answered before."""

WAIT_FOR_CARDS: Final = timedelta(minutes=2)
"""For how long feedback about a card that is not in the database waits for it: its decision may be in the spool of
another process, which is emptied in half a minute once the database is back."""

_LOOK_SECONDS: Final = 2.0
"""How often it is looked for such cards."""

_PROBE_SECONDS: Final = 0.5
"""How often a database that is down is tried again."""

_ANSWER_SECONDS: Final = 0.5
"""How long one that has just failed is given to say that it is there."""

_ATTEMPTS: Final = 3
"""What the database refuses as often is set aside."""

_LONGEST_PAUSE: Final = 16
"""How many times longer than at first a database is left alone that answers, and takes nothing all the same."""

_CLOSE_SECONDS: Final = 10.0
_ORDER_OF_WRITERS: Final = 7_283_366
"""PostgreSQL's advisory lock while a writer takes its place among the writers; any number, always this one."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """The answer that the same request has been given already."""

    decision_id: str
    outcome: str
    status: int
    body: bytes = field(repr=False)


class Transaction:
    """What a piece of work may do inside a transaction: its statements, and entries of the chain."""

    def __init__(self, connection: AsyncConnection, *, now: datetime) -> None:
        self.connection = connection
        self.now = now
        self.entries: list[tuple[Kind, str, str]] = []

    def chain(self, kind: Kind, ref: str, digest: str) -> None:
        """Note an entry, in the order of the calls."""
        self.entries.append((kind, ref, digest))


Work = Callable[[Transaction], Awaitable[Any]]


@dataclass(slots=True, eq=False)
class _Waiting:
    """Something to be written, and who waits for it. `row` is None for what can only be done in the database."""

    row: Spoolable | None
    work: Work | None
    done: asyncio.Future[Any]


@dataclass(slots=True)
class State:
    """What operators are told. `since` is the moment at which the database went away."""

    up: bool = True
    since: datetime | None = None
    spooled: int = 0
    """Entries that went to the spool since the start."""


class Writer:
    """Writes for one process; between `start()` and `aclose()`. All of it belongs to one event loop.

    `blocking`, where there is one, makes the transactions in place of `engine`. `later`, where other processes write
    too, keeps feedback that came before the cards it is about.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        blocking: Blocking | None = None,
        spool: Spool | None,
        later: Spool | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        commit_seconds: float = COMMIT_SECONDS,
        probe_seconds: float = _PROBE_SECONDS,
    ) -> None:
        self.state = State()
        self.spool = spool
        self.later = later
        self._look_seconds = _LOOK_SECONDS
        self._look_at = 0.0
        self._engine = engine
        self._clock = clock
        self._commit_seconds = commit_seconds
        self._probe_seconds = probe_seconds
        self._answer_seconds = _ANSWER_SECONDS
        self._blocking = blocking
        self._inserts = Inserts(engine.dialect)
        self._claim = _claim(engine)
        self._waiting: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._head: Head | None = None
        self._task: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._reminder: asyncio.Task[None] | None = None
        self._closing = False
        self._behind: dict[str, tuple[str, Earlier]] = {}
        """Answers whose decisions are in the spool, and when they were decided, by their claims."""
        self._relapses = 0
        """How often the database went away since it took something last."""
        self._forwards = False

    async def start(self) -> None:
        """Begin to write; what an earlier process left in the spool is written first."""
        self._closing = False
        self._waiting = asyncio.Queue()  # of this loop: a store may be opened again in another
        self._head, self._relapses, self._forwards = None, 0, False
        self.state = State()
        if self.spool is not None:
            await asyncio.to_thread(self._recall, self.spool, since=self._clock() - REPEAT)
        self._look_at = 0.0
        self._task = asyncio.create_task(self._run(), name="writer")
        if self.later is not None:
            self._reminder = asyncio.create_task(self._remind(self.later), name="feedback-waits")

    async def forward(self) -> None:
        """From now on the spool is emptied into the database: what its entries refer to is there."""
        if not self._forwards:
            self._forwards = True
            self._wake()

    async def aclose(self) -> None:
        """Write what waits, for a bounded time, and end."""
        if self._task is None:
            return
        self._closing = True
        self._wake()
        await asyncio.wait({self._task}, timeout=_CLOSE_SECONDS)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for task in (self._watch, self._reminder):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        self._task = self._watch = self._reminder = None
        while not self._waiting.empty():
            _fail([self._waiting.get_nowait()])
        if self._blocking is not None:
            await self._blocking.dispose()

    async def keep(self, row: Spoolable) -> Earlier | Kept | None:
        """Make it durable. An answer that somebody else has given to the same request meanwhile, what became of
        feedback, or None: it is written as it is. Raises NotRecorded.

        A caller who goes away does not take it back.
        """
        kept: Earlier | Kept | None = await self._given(_Waiting(row, None, asyncio.get_running_loop().create_future()))
        return kept

    async def do(self, work: Work) -> Any:
        """Do something in a transaction of the database. Raises NotRecorded when that is not there."""
        return await self._given(_Waiting(None, work, asyncio.get_running_loop().create_future()))

    async def probe(self) -> bool:
        """Whether the database takes something now; it is asked behind what waits."""

        async def nothing(transaction: Transaction) -> None:
            await transaction.connection.execute(_NOTHING)

        if not self.state.up:
            return False
        try:
            await self.do(nothing)
        except NotRecorded:
            return False
        return True

    @property
    def is_open(self) -> bool:
        """Whether it takes anything."""
        return self._task is not None and not self._closing and not self._task.done()

    async def _given(self, waiting: _Waiting) -> Any:
        if not self.is_open:
            raise NotRecorded("the store is closed")
        self._waiting.put_nowait(waiting)
        return await asyncio.shield(waiting.done)

    # --- the task

    async def _run(self) -> None:
        while not (self._closing and self._waiting.empty()):
            batch = await self._batch()
            if batch:
                try:
                    await self._write(batch)
                except BaseException as error:
                    self._head = None
                    _fail(batch)  # nobody waits for a writer that has gone
                    if not isinstance(error, Exception):
                        raise
                    log.exception("fault", extra={"kind": type(error).__name__})
            if self._can_forward and not self._closing:
                try:
                    await self._forward()
                except Exception as error:  # it stays in the spool, and is tried again
                    self._head = None
                    log.exception("fault", extra={"kind": type(error).__name__})
                    await asyncio.sleep(self._probe_seconds)
            if self.later is not None:
                await self._look_again(self.later)
        if self.later is not None:
            await self._look_again(self.later, waits=False)

    @property
    def _spooled(self) -> bool:
        return self.spool is not None and self.spool.entries > 0

    @property
    def _can_forward(self) -> bool:
        return self._forwards and self._spooled and self.state.up

    async def _batch(self) -> list[_Waiting]:
        """What waits; while the spool can be emptied nothing is waited for."""
        batch: list[_Waiting] = []
        with suppress(asyncio.QueueEmpty):
            if self._can_forward:
                await asyncio.sleep(0)
                batch.append(self._waiting.get_nowait())
            else:
                batch.append(await self._waiting.get())
            while len(batch) < TOGETHER:
                batch.append(self._waiting.get_nowait())
        return [one for one in batch if one.row is not None or one.work is not None]

    async def _write(self, batch: Sequence[_Waiting]) -> None:
        if self._is_down():
            await self._put_aside(batch)
            return
        rows = [one for one in batch if one.row is not None]
        if rows and self._spooled:
            await self._put_aside(rows)
            batch = [one for one in batch if one.row is None]
        if not batch or await self._together(batch):
            return
        # One of them may be at fault: each alone.
        for one in batch:
            if one.done.done():
                continue
            if self._is_down():
                await self._put_aside([one])
            elif not await self._together([one], again=True):
                _fail([one])

    async def _together(
        self, batch: Sequence[_Waiting], *, again: bool = False, crossed: bool = False, waits: bool = True
    ) -> bool:
        """Commit all of it, or put it aside where the database is down; False when one of it cannot be written.

        `again`: it may have been committed without a confirmation. `crossed`: another transaction was in its way.
        `waits`: feedback may wait for its cards.
        """
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            results = await self._committed(batch, again=again, waits=waits)
        except Exception as error:  # noqa: BLE001  (a fault of ours too is the fault of one of them)
            self._head = None  # whether the chain has grown is not known
            if is_crossed(error) and not crossed:
                return await self._together(batch, again=again, crossed=True, waits=waits)
            if is_refused(error):
                _say(error)
                return False
            is_slow = loop.time() - begun >= self._commit_seconds / 2
            is_one = len(batch) == 1 and batch[0].row is not None
            if is_one or not await self._answers():
                self._down(error)
            elif not is_slow:
                _fail([one for one in batch if one.row is None])  # what came of it is not known: not a second time
                return False
            await self._put_aside(batch)
            return True
        early = [one for one, result in zip(batch, results, strict=True) if result is _EARLY]
        for one, result in zip(batch, results, strict=True):
            if result is not _EARLY and not one.done.done():
                one.done.set_result(result)
        if early and not await self._is_later([one.row for one in early]):
            return await self._together(early, again=again, waits=False)
        for one in early:
            if not one.done.done():
                one.done.set_result(None)
        return True

    async def _transaction(self, work: Callable[[AsyncConnection], Coroutine[Any, Any, T]], *, seconds: float) -> T:
        """What the work gives, committed. Whoever gives up after that time does not know whether it will be."""
        async with asyncio.timeout(seconds):
            if self._blocking is not None:
                return await self._blocking.run(cast("Callable[[BlockingConnection], Coroutine[Any, Any, T]]", work))
            async with self._engine.begin() as connection:
                return await work(connection)

    async def _committed(self, batch: Sequence[_Waiting], *, again: bool = False, waits: bool = True) -> list[Any]:
        """What came of each. One transaction."""
        last = self._head

        async def made(connection: AsyncConnection) -> tuple[list[Any], Head | None]:
            transaction = Transaction(connection, now=self._clock())
            mine = [one.row for one in batch if isinstance(one.row, DecisionRow)]
            earlier = await self._claimed(transaction, mine)
            there = await _there(connection, mine) if again else set()
            rows: list[DecisionRow] = []
            results: list[Any] = []
            for one in batch:
                if isinstance(one.row, DecisionRow):
                    found = earlier.get(one.row.decision["id"])
                    if found is None and one.row.decision["id"] not in there:
                        rows.append(one.row)
                        transaction.chain("decision", one.row.decision["id"], one.row.digest())
                    results.append(found)
                elif one.row is not None:
                    early = waits and await self._is_early(transaction, one.row)
                    results.append(_EARLY if early else await _feedback(transaction, one.row))
                elif one.work is not None:
                    results.append(await one.work(transaction))
            await self._inserts.run(connection, rows)
            return results, await self._chained(transaction, last)

        results, self._head = await self._transaction(made, seconds=self._commit_seconds)
        self._relapses = 0
        return results

    async def _claimed(self, transaction: Transaction, rows: Sequence[DecisionRow]) -> dict[str, Earlier]:
        """By the ids of those that come too late: the answer that the same request has been given meanwhile."""
        earlier: dict[str, Earlier] = {}
        mine: dict[str, Earlier | None] = {}
        for row in sorted((row for row in rows if row.claim), key=lambda row: row.claim):  # one order: no deadlock
            if await self._is_claimed(transaction, row):
                mine[row.claim] = _earlier(row)
            else:
                found = mine.get(row.claim) or await answered(transaction.connection, row.claim)
                if found is not None:
                    earlier[row.decision["id"]] = found
        return earlier

    async def _chained(self, transaction: Transaction, head: Head | None) -> Head | None:
        """Append the entries of a transaction to the chain that ends there, or to a new one; its head then."""
        if not transaction.entries:
            return head
        connection = transaction.connection
        if head is None:
            head = await _registered(connection, now=transaction.now)
        entries = []
        for kind, ref, digest in transaction.entries:
            head = head.next(kind, ref, digest)
            entries.append(
                {
                    "writer": head.writer,
                    "seq": head.seq,
                    "kind": kind,
                    "ref": ref,
                    "digest": digest,
                    "hash": head.hash,
                }
            )
        await self._inserts.chain.run(connection, entries)
        await connection.execute(_HEAD, {"writer": head.writer, "last": head.seq, "end": head.hash})
        return head

    # --- the spool

    async def _put_aside(self, batch: Sequence[_Waiting]) -> None:
        """Into the spool, with one fsync for all of it; what cannot go there fails."""
        rows = [one for one in batch if one.row is not None]
        _fail([one for one in batch if one.row is None])
        if not rows:
            return
        if self.spool is None:
            _fail(rows)
            return
        kept = [one.row.flagged("spooled") if isinstance(one.row, DecisionRow) else one.row for one in rows]
        payloads = [packed(row) for row in kept if row is not None]
        try:
            await asyncio.to_thread(self.spool.append, payloads, now=self._clock())
        except NotRecorded as error:
            if len(rows) > 1 and isinstance(error, SpoolFull):  # there may be room for some of them
                for one in rows:
                    await self._put_aside([one])
                return
            _fail(rows)
            return
        self.state.spooled += len(rows)
        for one, row in zip(rows, kept, strict=True):
            if row is not None:
                self._remember(row)
            if not one.done.done():
                one.done.set_result(None)

    def behind(self, claim: str, *, since: str) -> Earlier | None:
        """The answer to the request of that key whose decision is in the spool, if it was given since then."""
        at, earlier = self._behind.get(claim, ("", None))
        return earlier if at >= since else None

    def _remember(self, row: Spoolable) -> None:
        if not isinstance(row, DecisionRow) or not row.claim:
            return
        earlier, at = _earlier(row), row.decision["created_at"]
        if earlier is not None:
            self._behind.pop(row.claim, None)  # so that the oldest come first
            self._behind[row.claim] = at, earlier
        since = _text(datetime.fromisoformat(at) - REPEAT)
        while self._behind and (oldest := next(iter(self._behind.items())))[1][0] < since:
            del self._behind[oldest[0]]

    def _recall(self, spool: Spool, *, since: datetime) -> None:
        """What an earlier process has answered lately and left in the spool."""
        for payload in spool.since(since):
            with suppress(msgspec.MsgspecError):  # the forwarder sets it aside
                self._remember(unpacked(payload))

    async def _forward(self) -> None:
        """The oldest of the spool into the database, one transaction."""
        if self.spool is None:
            return
        payloads, rows = [], []
        for payload in await asyncio.to_thread(self.spool.oldest, FORWARDED_TOGETHER):
            try:
                rows.append(unpacked(payload))
            except msgspec.MsgspecError as error:
                if rows:
                    break  # what comes before it first
                await self._set_aside(payload, error, of=self.spool)
                await asyncio.to_thread(self.spool.remove, 1)
                return
            payloads.append(payload)
        if not rows:
            return
        try:
            await self._forwarded(rows)
        except Exception as error:  # noqa: BLE001  (of each alone it is found out which)
            self._head = None
            if not is_refused(error) and not await self._answers():
                self._down(error)
                return
            await self._one_by_one(rows, payloads)
            return
        await self._gone(rows)

    async def _one_by_one(self, rows: Sequence[Spoolable], payloads: Sequence[bytes]) -> None:
        """One of them cannot be written: that one only is set aside, when the database says that it is its data.

        Whatever else keeps it out (a full disk, a lock, a connection that is still at it) passes: until then it stays.
        """
        for row, payload in zip(rows, payloads, strict=True):
            for attempt in range(_ATTEMPTS):
                try:
                    await self._forwarded([row])
                except Exception as error:  # noqa: BLE001  (it is kept, or stays where it is)
                    self._head = None
                    if not is_refused(error):
                        self._down(error)
                        return
                    if attempt == _ATTEMPTS - 1:  # the first time it may have come in between, unconfirmed
                        _say(error)
                        await self._set_aside(payload, error, of=self.spool)
                else:
                    break
            await self._gone([row])

    async def _set_aside(self, payload: bytes, error: Exception, *, of: Spool | None) -> None:
        """What the database will never take is kept for a person to look at, and does not hold up the rest."""
        log.error("spool-refused", extra={"kind": type(error).__name__})
        if of is not None:
            await asyncio.to_thread(of.set_aside, payload)

    async def _gone(self, rows: Sequence[Spoolable]) -> None:
        if self.spool is not None:
            await asyncio.to_thread(self.spool.remove, len(rows))
        for row in rows:
            if isinstance(row, DecisionRow) and row.claim in self._behind:
                _, earlier = self._behind[row.claim]
                if earlier.decision_id == row.decision["id"]:  # a later one may wait behind it
                    del self._behind[row.claim]

    async def _forwarded(self, rows: Sequence[Spoolable], *, waits: bool = True) -> None:
        last, early = self._head, list[FeedbackCall]()

        async def made(connection: AsyncConnection) -> Head | None:
            transaction = Transaction(connection, now=self._clock())
            there = await _there(connection, [row for row in rows if isinstance(row, DecisionRow)])
            missing: list[DecisionRow] = []
            for row in rows:
                if isinstance(row, FeedbackCall):
                    await self._inserts.run(connection, missing)  # whose cards it may be about
                    missing = []
                    if waits and await self._is_early(transaction, row):
                        early.append(row)
                    else:
                        await _feedback(transaction, row)
                elif row.decision["id"] not in there:
                    kept = await self._reclaimed(transaction, row)
                    missing.append(kept)
                    transaction.chain("decision", kept.decision["id"], kept.digest())
            await self._inserts.run(connection, missing)
            return await self._chained(transaction, last)

        self._head = await self._transaction(made, seconds=self._commit_seconds)
        self._relapses = 0
        if early and not await self._is_later(early):
            await self._forwarded(early, waits=False)

    # --- feedback that came before its card

    async def _is_early(self, transaction: Transaction, call: FeedbackCall) -> bool:
        """Whether a card that it is about may still come."""
        if self.later is None or transaction.now - call.received_at > WAIT_FOR_CARDS:
            return False
        return await feedback.misses(transaction.connection, call.entries, client=call.client, tenant=call.tenant)

    async def _is_later(self, rows: Sequence[Spoolable | None]) -> bool:
        """Whether they are kept until their cards come, durably."""
        if self.later is None:
            return False
        payloads = [packed(row) for row in rows if row is not None]
        try:
            await asyncio.to_thread(self.later.append, payloads, now=self._clock())
        except NotRecorded:
            return False
        return True

    async def _look_again(self, later: Spool, *, waits: bool = True) -> None:
        """Keep the feedback that has waited long enough, or whose cards have come: the oldest first, one at a time."""
        loop = asyncio.get_running_loop()
        if not later.entries or not self.state.up or (waits and loop.time() < self._look_at):
            return
        self._look_at = loop.time() + self._look_seconds
        try:
            while await self._is_kept(later, waits=waits):
                pass
        except Exception as error:  # it stays where it is, and is tried again
            self._head = None
            log.exception("fault", extra={"kind": type(error).__name__})

    async def _is_kept(self, later: Spool, *, waits: bool) -> bool:
        """Whether the oldest is done with, and there may be another."""
        last = self._head
        found = await asyncio.to_thread(later.oldest, 1)
        if not found:
            return False

        async def made(connection: AsyncConnection) -> tuple[bool, Head | None]:
            transaction = Transaction(connection, now=self._clock())
            row = unpacked(found[0])
            if not isinstance(row, FeedbackCall) or (waits and await self._is_early(transaction, row)):
                return False, last
            await _feedback(transaction, row)
            return True, await self._chained(transaction, last)

        try:
            kept, self._head = await self._transaction(made, seconds=self._commit_seconds)
        except Exception as error:  # noqa: BLE001  (it stays, unless it is its data)
            self._head = None
            if not is_refused(error):
                if not await self._answers():
                    self._down(error)
                return False
            _say(error)
            await self._set_aside(found[0], error, of=later)
            kept = True
        if kept:
            await asyncio.to_thread(later.remove, 1)
        return kept

    async def _remind(self, later: Spool) -> None:
        while True:
            await asyncio.sleep(self._look_seconds)
            if later.entries:
                self._wake()

    async def _reclaimed(self, transaction: Transaction, row: DecisionRow) -> DecisionRow:
        """It has been answered. Where another process has answered the same request too, both stay, and it says so;
        an answer that was given later than a repeat's time is none."""
        if not row.claim or await self._is_claimed(transaction, row):
            return row
        at = await transaction.connection.scalar(_CLAIMED_AT, {"claim": row.claim})
        until = _text(datetime.fromisoformat(row.decision["created_at"]) + REPEAT)
        return row.flagged("duplicate") if at is not None and at <= until else row

    async def _is_claimed(self, transaction: Transaction, row: DecisionRow) -> bool:
        """Whether this decision is now the one that answers its request."""
        at = row.decision["created_at"]
        since = _text(datetime.fromisoformat(at) - REPEAT)
        values = {"key": row.claim, "decision_id": row.decision["id"], "at": at, "since": since}
        return (await transaction.connection.execute(self._claim, values)).first() is not None

    # --- whether the database is there

    def _is_down(self) -> bool:
        return not self.state.up

    async def _answers(self, *, seconds: float | None = None) -> bool:
        """Whether it takes anything at all now."""

        async def nothing(connection: AsyncConnection) -> None:
            await connection.execute(_NOTHING)

        try:
            await self._transaction(nothing, seconds=seconds or self._answer_seconds)
        except Exception:  # noqa: BLE001  (whatever it is, it has not taken it)
            return False
        return True

    def _down(self, error: BaseException) -> None:
        if self.state.up:
            self._relapses += 1
            self.state.up, self.state.since = False, self._clock()
            log.error("database-down", extra={"kind": type(error).__name__})
            self._watch = asyncio.create_task(self._until_up(), name="database-watch")

    async def _until_up(self) -> None:
        """Ask again and again, beside the writing: a server that hangs holds nobody up. It gets the time that a commit
        has, since it may first have to be connected to."""
        pause = self._probe_seconds * min(2.0 ** (self._relapses - 1), _LONGEST_PAUSE)
        while not self.state.up:
            await asyncio.sleep(pause)
            pause = self._probe_seconds
            if await self._answers(seconds=max(self._answer_seconds, self._commit_seconds)):
                self.state.up, self.state.since = True, None
                log.warning("database-up")
        self._wake()

    def _wake(self) -> None:
        self._waiting.put_nowait(_Waiting(None, None, asyncio.get_running_loop().create_future()))


async def answered(connection: AsyncConnection, claim: str, *, since: str | None = None) -> Earlier | None:
    """What the request of that key was answered with last, as far as its answer is still there; since an instant."""
    found = (await connection.execute(_ANSWERED, {"claim": claim})).first()
    if found is not None and since is not None and found.at < since:
        return None
    return None if found is None else Earlier(found.id, found.outcome, found.status, bytes(found.body))


_ANSWERED: Final = (
    select(
        decisions.c.id,
        decisions.c.outcome,
        decision_answers.c.status,
        decision_answers.c.body,
        type_coerce(claims.c.at, String).label("at"),
    )
    .join(decisions, decisions.c.id == claims.c.decision_id)
    .join(decision_answers, decision_answers.c.decision_id == decisions.c.id)
    .where(claims.c.key == bindparam("claim"))
)
_CLAIMED_AT: Final = select(type_coerce(claims.c.at, String)).where(claims.c.key == bindparam("claim"))
_EARLY: Final = object()
"""What came of feedback whose cards are not there yet."""

_NOTHING: Final = delete(claims).where(claims.c.key == "")
"""A write that changes nothing."""

_HEAD: Final = (
    update(writers).where(writers.c.id == bindparam("writer")).values(seq=bindparam("last"), head=bindparam("end"))
)


def _claim(engine: AsyncEngine) -> Any:
    """Take the key: a row when it was free, long taken, or this very decision's; none when somebody else has it."""
    made = once(engine.dialect)(claims).values(
        key=bindparam("key"), decision_id=bindparam("decision_id"), at=bindparam("at", type_=String())
    )
    return made.on_conflict_do_update(
        index_elements=["key"],
        set_={"decision_id": made.excluded.decision_id, "at": made.excluded.at},
        where=(type_coerce(claims.c.at, String) < bindparam("since", type_=String()))
        | (claims.c.decision_id == made.excluded.decision_id),
    ).returning(claims.c.key)


async def _registered(connection: AsyncConnection, *, now: datetime) -> Head:
    """A new writer, behind all the others."""
    if connection.dialect.name == "postgresql":
        await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _ORDER_OF_WRITERS})
    last = await connection.scalar(select(writers.c.hash).order_by(writers.c.number.desc()).limit(1))
    head = Head(str(uuid.uuid4()), 0, chain.FIRST)
    previous = last or chain.FIRST
    await connection.execute(
        writers.insert().values(
            id=head.writer,
            started_at=now,
            prev_hash=previous,
            hash=chain.writer(previous, id_=head.writer, started_at=_text(now)),
            seq=0,
            head=head.hash,
        )
    )
    return head


async def _there(connection: AsyncConnection, rows: Sequence[DecisionRow]) -> set[str]:
    """The ids of those that are in the database."""
    ids = [row.decision["id"] for row in rows]
    return set(await connection.scalars(select(decisions.c.id).where(decisions.c.id.in_(ids))))


async def _feedback(transaction: Transaction, call: FeedbackCall) -> Kept:
    kept, entries = await feedback.keep(
        transaction.connection,
        call.entries,
        client=call.client,
        tenant=call.tenant,
        service=call.service,
        received_at=call.received_at,
    )
    for ref, digest in entries:
        transaction.chain("feedback", ref, digest)
    return kept


def _say(error: Exception) -> None:
    """What is neither the database's fault nor that of a value is a fault of this service."""
    if not isinstance(error, (SQLAlchemyError, ValueError)):
        log.error("fault", exc_info=error, extra={"kind": type(error).__name__})


def _earlier(row: DecisionRow) -> Earlier | None:
    return None if row.answer is None else Earlier(row.decision["id"], row.decision["outcome"], row.status, row.answer)


def _fail(batch: Sequence[_Waiting]) -> None:
    for one in batch:
        if not one.done.done():
            one.done.set_exception(NotRecorded("it could not be committed"))
            one.done.exception()  # somebody who has gone away does not ask


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
