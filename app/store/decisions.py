"""The record of what was decided: committed before the first byte of an answer leaves."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeVar

import msgspec
from sqlalchemy import Select, select
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.store import address, chain, doorbook, engine, retention
from app.store.apart import Apart
from app.store.dialect import once
from app.store.doorbook import Refusal
from app.store.errors import BadDatabase, NotRecorded
from app.store.feedback import Feedback, Kept
from app.store.models import (
    Instant,
    Json,
    as_text,
    decision_answers,
    decision_cards,
    decision_facts,
    decisions,
    knowledge,
    snoozes,
)
from app.store.retention import Step
from app.store.rows import DecisionRow, FeedbackCall
from app.store.spool import Spool
from app.store.writer import COMMIT_SECONDS, REPEAT, Earlier, Transaction, Work, Writer, answered

T = TypeVar("T")

READ_SECONDS: Final = 0.3
"""How long a hook waits for what was decided before; without it the hook is evaluated."""

SHOWN_SECONDS: Final = 1.0
"""The same for what was shown before; without it cards are shown again."""

START_SECONDS: Final = 10.0
"""How long a database that is slow is tried to take the knowledge, before the service gives up its start."""

TOOL_SECONDS: Final = 60.0
"""For a transaction of a command: nobody waits for its answer."""

SPOOL: Final = Path("rescue-cds-spool")
"""In the working directory, where PostgreSQL keeps the decisions and nothing else is configured."""

SPOOL_BYTES: Final = 64 * 1024 * 1024
"""Some hours of a busy ward: a decision takes 30 to 120 kB."""

_AGAIN_SECONDS: Final = 0.2
_PROBE_SECONDS: Final = 1.0

_TIDY: Final = timedelta(minutes=1)
"""How often what has served its time is looked for."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A card of the answer: its uuid, what it is (`protocol`, `safety`, ...), and the uuids of its suggestions."""

    card: str
    name: str
    indicator: str
    suggestions: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Snooze:
    """That this state was shown to this user of this patient, by the kind of card."""

    client: str
    user_digest: str
    patient: str = field(repr=False)
    kind: str = ""
    state: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """One answered request. `facts` and `answer` are bytes ready to keep; None when they have been removed.

    `request_digest` is of the request without its tokens. `versions`, `verdicts`, `evidence`, `gaps`, `reading` (by
    whose authority the FHIR server was read, how much, and what it could not be asked) and `timing` are plain JSON
    values (Decimals become strings). No token, JWT or raw body has a place here.
    """

    id: str
    created_at: datetime
    client: str
    tenant: str
    service: str
    hook: str
    hook_instance: str
    request_digest: str
    knowledge_hash: str
    outcome: str
    status: int | None
    answer: bytes | None = field(repr=False)
    patient: str | None = field(default=None, repr=False)
    facts: bytes | None = field(default=None, repr=False)
    versions: Mapping[str, str] = field(default_factory=dict)
    verdicts: Any = field(default_factory=dict, repr=False)
    evidence: Any = field(default_factory=list, repr=False)
    gaps: Sequence[Any] = field(default=(), repr=False)
    reading: Mapping[str, Any] = field(default_factory=dict)
    timing: Mapping[str, Any] = field(default_factory=dict)
    cards: tuple[Shown, ...] = ()
    flags: tuple[str, ...] = ()
    snooze: Snooze | None = None
    """Kept with the decision that shows a card; `get` does not give it back."""
    claim: str = ""
    """What makes another request the same as this one, so that it is answered with this answer for some minutes; '' for
    an answer that is not given again. `get` does not give it back."""


@dataclass(frozen=True, slots=True)
class Before:
    """What was decided before: the answer to the very same request, if any; whether its hookInstance was another's,
    None where that could not be asked, or not of all that was decided."""

    answer: Earlier | None = None
    reused: bool | None = None


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a decision could be recorded now, and where: readiness, and what the metrics show."""

    database: bool
    spool: bool
    entries: int = 0
    bytes: int = 0
    oldest_at: datetime | None = None
    spooled: int = 0
    """Since the start of the process."""
    damaged: int = 0


_SELECT = (
    select(
        *decisions.columns,
        decision_facts.c.patient,
        decision_facts.c.facts,
        decision_answers.c.status,
        decision_answers.c.body.label("answer"),
    )
    .outerjoin(decision_facts, decision_facts.c.decision_id == decisions.c.id)
    .outerjoin(decision_answers, decision_answers.c.decision_id == decisions.c.id)
)
_SHOWN = select(
    decision_cards.c.card, decision_cards.c.name, decision_cards.c.indicator, decision_cards.c.suggestions
).order_by(decision_cards.c.name)


class Store:
    """The decisions of this installation; open between `open()` and `close()`, or `async with`.

    `spool` is the directory for what the database does not take; None: beside an SQLite file, or
    `rescue-cds-spool` in the working directory. A `tool` writes beside a running service: it has no lock and no spool.
    """

    def __init__(
        self,
        url: str,
        *,
        spool: Path | None = None,
        spool_bytes: int = SPOOL_BYTES,
        role: Literal["service", "tool"] = "service",
    ) -> None:
        """Raises BadDatabase when the address is wrong."""
        parsed = address.parsed(url)
        self._role = role
        self._engine = engine.create(url, purpose="write")
        self._reading = self._engine if address.in_memory(parsed) else engine.create(url, purpose="read")
        self._lock = engine.lock(url)
        self._spool, self._later = (None, None) if role == "tool" else _spools(parsed, spool, most_bytes=spool_bytes)
        self._apart = Apart()
        self._threaded = not address.in_memory(parsed)
        self._writer = Writer(
            self._engine,
            blocking=engine.blocking(url),
            spool=self._spool,
            later=self._later,
            commit_seconds=TOOL_SECONDS if role == "tool" else COMMIT_SECONDS,
        )
        self._tidied = datetime.min.replace(tzinfo=UTC)
        self._tidying: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect; an empty SQLite file gets the newest schema. Raises BadDatabase or BadSchema, and is closed then."""
        try:
            if self._role == "service":
                self._lock.take()
            if self._threaded:
                self._apart.start()
            await self._apart.call(engine.ready(self._engine))
            for one in self._spools():
                await asyncio.to_thread(one.open)
            await self._apart.call(self._writer.start())
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        if self._tidying is not None:
            await asyncio.gather(self._tidying, return_exceptions=True)
            self._tidying = None
        await self._apart.call(self._writer.aclose())
        for one in self._spools():
            await asyncio.to_thread(one.close)
        await self._reading.dispose()
        await self._apart.call(self._engine.dispose())
        await self._apart.stop()
        self._lock.release()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def keep_knowledge(self, digest: str, files: bytes) -> None:
        """Keep the knowledge files under their hash; decisions can only refer to what is kept, and what the spool holds
        waits for it too. Raises NotRecorded."""
        keep = once(self._engine.dialect)(knowledge).on_conflict_do_nothing()

        async def kept(transaction: Transaction) -> None:
            await transaction.connection.execute(keep, {"hash": digest, "files": files})

        loop = asyncio.get_running_loop()
        end = loop.time() + START_SECONDS
        while True:
            try:
                await self._done(kept)
                break
            except NotRecorded:
                if loop.time() > end or not self._writer.is_open:
                    raise
                await asyncio.sleep(_AGAIN_SECONDS)
        await self._apart.call(self._writer.forward())

    async def knowledge(self, digest: str) -> bytes | None:
        """The knowledge files of that hash. Raises BadDatabase."""
        async with self._read("the knowledge could not be read") as connection:
            found = await connection.scalar(select(knowledge.c.files).where(knowledge.c.hash == digest))
        return None if found is None else bytes(found)

    async def record(self, decision: Decision) -> Earlier | None:
        """Make a decision durable with its facts and its answer; when this returns, it is on the disk: in the database,
        or in the spool while that is down. Where the same request has been answered meanwhile, by another process, that
        answer, and this decision is not kept. Raises NotRecorded.
        """
        kept = await self._apart.call(self._writer.keep(_row(decision)))
        return kept if isinstance(kept, Earlier) else None

    async def get(self, decision_id: str) -> Decision | None:
        """The decision, with its facts and answer as far as they have not been removed. Raises BadDatabase."""
        async with self._read("the decision could not be read") as connection:
            found = (await connection.execute(_SELECT.where(decisions.c.id == decision_id))).mappings().first()
            shown = (await connection.execute(_SHOWN.where(decision_cards.c.decision_id == decision_id))).mappings()
            cards = tuple(Shown(**{**row, "suggestions": tuple(row["suggestions"])}) for row in shown)
        if found is None:
            return None
        row: dict[str, Any] = {str(name): value for name, value in found.items()}
        del row["facts_digest"], row["answer_digest"]
        return Decision(**row | {"flags": tuple(row["flags"]), "cards": cards})

    async def before(self, decision_of: Same, *, claim: str, now: datetime) -> Before:
        """What was decided before on the same request, and on the same hookInstance. Nothing where the database does
        not say it in time: then the hook is evaluated."""
        since = as_text(now - REPEAT, Instant()) or ""
        behind = self._writer.behind(claim, since=since)
        if behind is not None:
            return Before(behind)
        if not self._writer.state.up:
            return Before()
        mine = (
            (decisions.c.hook_instance == decision_of.hook_instance)
            & (decisions.c.client == decision_of.client)
            & (decisions.c.tenant == decision_of.tenant)
            & (decisions.c.service == decision_of.service)
        )
        other = select(decisions.c.id).where(mine & (decisions.c.request_digest != decision_of.request_digest)).limit(1)

        async def found() -> Before:
            async with self._reading.connect() as connection:
                earlier = await answered(connection, claim, since=since)
                if earlier is not None:
                    return Before(earlier)
                reused = await connection.scalar(other) is not None
                return Before(None, reused or (None if self.now().entries else False))

        try:
            return await _in_time(found(), seconds=READ_SECONDS)
        except (SQLAlchemyError, OSError):
            return Before()

    async def is_repeat(self, *, client: str, tenant: str, hook_instance: str, request_digest: str) -> bool:
        """Whether this very request of this client has been answered before. Raises BadDatabase."""
        same = (
            (decisions.c.request_digest == request_digest)
            & (decisions.c.hook_instance == hook_instance)
            & (decisions.c.client == client)
            & (decisions.c.tenant == tenant)
        )
        return await self._is_there(select(decisions.c.id).where(same), otherwise="earlier decisions could not be read")

    async def was_shown(self, snooze: Snooze, *, since: datetime) -> bool:
        """Whether this state was shown to this user since then. Raises BadDatabase."""
        mine = (
            (snoozes.c.client == snooze.client)
            & (snoozes.c.user_digest == snooze.user_digest)
            & (snoozes.c.patient == snooze.patient)
            & (snoozes.c.kind == snooze.kind)
            & (snoozes.c.state == snooze.state)
            & (snoozes.c.shown_at >= since)
        )
        return await self._is_there(
            select(snoozes.c.shown_at).where(mine), otherwise="what was shown could not be read"
        )

    async def tidy(self, *, now: datetime, snoozed_since: datetime | None) -> None:
        """Remove what has served its time, about once a minute and beside the calls: what was shown before
        `snoozed_since`, and which requests are not repeated any more."""
        if now - self._tidied < _TIDY or (self._tidying is not None and not self._tidying.done()):
            return
        self._tidied = now

        async def tidied(transaction: Transaction) -> None:
            await retention.tidy(
                transaction.connection, now=now, claimed_before=now - REPEAT, shown_before=snoozed_since
            )

        async def done() -> None:
            try:
                await self._done(tidied)
            except NotRecorded:  # it is tried again
                return

        self._tidying = asyncio.create_task(done())

    async def keep_feedback(
        self, entries: Iterable[Feedback], *, client: str, tenant: str, service: str, received_at: datetime
    ) -> Kept | None:
        """Make the entries of one feedback call durable, all or none; a repeat stays one row. None while they are in
        the spool: then it is not known yet what they are about. Raises NotRecorded."""
        call = FeedbackCall(tuple(entries), client, tenant, service, received_at)
        kept = await self._apart.call(self._writer.keep(call))
        return kept if isinstance(kept, Kept) else None

    async def first_use(self, *, client: str, token_id: str, until: datetime, now: datetime) -> bool:
        """Whether a client's token is used for the first time, over all processes that share this database. Raises
        NotRecorded."""

        async def used(transaction: Transaction) -> bool:
            return await doorbook.use(transaction.connection, client=client, token_id=token_id, until=until, now=now)

        return bool(await self._done(used))

    async def note_refusal(self, refusal: Refusal) -> None:
        """Keep what was turned away at the door. Raises NotRecorded."""

        async def noted(transaction: Transaction) -> None:
            await doorbook.note(transaction.connection, refusal)

        await self._done(noted)

    async def readiness(self) -> Readiness:
        """Whether a decision could be recorded now: the write lock is taken, and given back."""
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                database = await self._apart.call(self._writer.probe())
        except TimeoutError:
            database = False
        state = self._writer.state
        if self._spool is None:
            return Readiness(database, spool=False, spooled=state.spooled)
        room = await asyncio.to_thread(lambda spool: spool.writable, self._spool)
        return Readiness(database, room, *self._spooled(self._spool), state.spooled, self._damaged())

    def now(self) -> Readiness:
        """The same without asking: what is known."""
        state = self._writer.state
        if self._spool is None:
            return Readiness(state.up, spool=False, spooled=state.spooled)
        return Readiness(state.up, True, *self._spooled(self._spool), state.spooled, self._damaged())

    def _spools(self) -> list[Spool]:
        return [one for one in (self._spool, self._later) if one is not None]

    def _damaged(self) -> int:
        return sum(one.damaged for one in self._spools())

    @staticmethod
    def _spooled(spool: Spool) -> tuple[int, int, datetime | None]:
        return spool.entries, spool.bytes, spool.oldest_at

    async def remove_patient(self, patient: str, *, tenant: str) -> int:
        """Remove the facts and answers of all decisions about a tenant's patient, and what was typed about their cards;
        how many decisions that were. The same id at another hospital is another person's.

        The decisions stay, without anything that says whose they were. A few hundred in each transaction, so that it
        can be done at all beside the calls; raises NotRecorded, and can be asked for again.
        """

        async def removed(transaction: Transaction) -> int:
            return await retention.remove_patient(transaction, patient, tenant=tenant)

        count = 0
        while some := int(await self._done(removed)):
            count += some
        return count

    async def purge_some(self, *, before: datetime, since: datetime | None = None) -> Step:
        """Remove the patient data of the next few hundred older decisions, of none at the end. Raises NotRecorded."""

        async def removed(transaction: Transaction) -> Step:
            return await retention.remove_some(transaction, before=before, since=since)

        step: Step = await self._done(removed)
        return step

    async def purge_notes(self, *, before: datetime) -> int:
        """Remove older notes of the door; how many. What was removed stands in no file any more. Raises NotRecorded."""

        async def removed(transaction: Transaction) -> int:
            return await retention.forget(transaction, before=before)

        count = int(await self._done(removed))
        if self._engine.dialect.name == "sqlite":
            await self._apart.call(self._checkpoint())
        return count

    async def _checkpoint(self) -> None:
        """Empty SQLite's log into its file."""
        with suppress(SQLAlchemyError, sqlite3.Error):  # a reader is in the way: it is done at the next occasion
            async with self._engine.connect() as connection:
                driver: Any = (await connection.get_raw_connection()).driver_connection
                await driver.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")  # outside of any transaction

    async def _done(self, work: Work) -> Any:
        return await self._apart.call(self._writer.do(work))

    async def _is_there(self, rows: Select[Any], *, otherwise: str) -> bool:
        """Raises BadDatabase also where a hook would have to wait for it."""

        async def asked() -> bool:
            async with self._read(otherwise) as connection:
                return (await connection.execute(rows.limit(1))).first() is not None

        try:
            return await _in_time(asked(), seconds=SHOWN_SECONDS)
        except TimeoutError:
            raise BadDatabase(otherwise) from None

    @asynccontextmanager
    async def _read(self, what: str) -> AsyncIterator[AsyncConnection]:
        """Raises BadDatabase, in words without data."""
        try:
            async with self._reading.connect() as connection:
                yield connection
        except (SQLAlchemyError, OSError):
            raise BadDatabase(what) from None


@dataclass(frozen=True, slots=True)
class Same:
    """Whose call it was, of which service, with which hookInstance, asking what."""

    client: str
    tenant: str
    service: str
    hook_instance: str
    request_digest: str


async def _in_time(reading: Coroutine[Any, Any, T], *, seconds: float) -> T:
    """What is read, if it comes in time. Raises TimeoutError; then it is left to end by itself, as what stands in a
    disk that stands still ends only with that."""
    task = asyncio.create_task(reading)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    finally:
        if not task.done():
            task.cancel()
            task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    if not done:
        raise TimeoutError
    return task.result()


def _row(decision: Decision) -> DecisionRow:
    """Raises NotRecorded for what cannot be written as text."""
    try:
        row: dict[str, Any] = {
            column.name: as_text(value, column.type) if isinstance(column.type, Json | Instant) else value
            for column in decisions.columns
            if (value := getattr(decision, column.name, None)) is not None
        }
    except ValueError:  # half a character, for example
        raise NotRecorded("the decision could not be written as text") from None
    facts, answer = decision.facts, decision.answer
    patient = decision.patient or ""
    row["facts_digest"] = "" if facts is None else chain.facts(patient, facts)
    row["answer_digest"] = "" if answer is None else chain.answer(decision.status or 0, answer)
    cards = [(c.card, c.name, c.indicator, msgspec.json.encode(list(c.suggestions)).decode()) for c in decision.cards]
    return DecisionRow(
        decision=row,
        patient=patient,
        facts=facts,
        status=decision.status or 0,
        answer=answer,
        cards=tuple(cards),
        snooze=None if decision.snooze is None else _shown(decision.snooze, at=decision.created_at),
        claim=decision.claim,
    )


def _shown(snooze: Snooze, *, at: datetime) -> dict[str, str]:
    names = ("client", "user_digest", "patient", "kind", "state")
    return {name: getattr(snooze, name) for name in names} | {"shown_at": as_text(at, Instant()) or ""}


def _spools(url: URL, chosen: Path | None, *, most_bytes: int) -> tuple[Spool | None, Spool | None]:
    """For what the database does not take, and for feedback that comes before its card, where another process may have
    that. None for a database in memory: its decisions go with the process anyway."""
    if address.in_memory(url):
        return None, None
    file = address.file(url)
    if file is not None:
        return Spool(chosen or file.with_name(f"{file.name}.spool"), most_bytes=most_bytes), None
    directory = chosen or SPOOL
    return Spool(directory, most_bytes=most_bytes), Spool(directory / "feedback", most_bytes=most_bytes // 8)
