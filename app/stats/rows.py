"""The rows of the store that are counted, read as they come: a million decisions are never held at once.

Read are `decisions` (without what names the call or a gap), `decision_cards` and `feedback`; never the tables with
what a patient said or is, or a user typed: `decision_facts`, `decision_answers`, `feedback_words`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import UTC, datetime, tzinfo
from itertools import groupby
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Select, Text, func, select, type_coerce
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.stats.names import Names
from app.stats.summary import Decided, Query, Row, Shown, Summary, Told, Unmatched
from app.store import readonly
from app.store.errors import BadDatabase
from app.store.models import decision_cards, decisions, feedback

BATCH: Final = 1000
"""Rows in memory at a time; a row of a decision is some kilobytes."""

_CARDS = (
    select(func.count()).select_from(decision_cards).where(decision_cards.c.decision_id == decisions.c.id)
).scalar_subquery()
_DECIDED = select(
    decisions.c.created_at,
    decisions.c.service,
    decisions.c.outcome,
    *(type_coerce(column, Text).label(column.name) for column in (decisions.c.verdicts, decisions.c.evidence)),
    type_coerce(decisions.c.timing, Text).label("timing"),
    _CARDS.label("cards"),
)
_SHOWN = (
    select(decisions.c.service, decision_cards.c.name, decision_cards.c.indicator, func.count().label("count"))
    .join_from(decision_cards, decisions, decisions.c.id == decision_cards.c.decision_id)
    .group_by(decisions.c.service, decision_cards.c.name, decision_cards.c.indicator)
)
_TOLD = (
    select(
        decision_cards.c.card,
        decisions.c.service,
        decision_cards.c.name,
        feedback.c.id,
        feedback.c.outcome,
        feedback.c.outcome_at,
        feedback.c.received_at,
        feedback.c.reason_code,
        feedback.c.reason_system,
    )
    .join_from(feedback, decision_cards, decision_cards.c.card == feedback.c.card)
    .join(decisions, decisions.c.id == decision_cards.c.decision_id)
    .order_by(decision_cards.c.card)
)
_UNMATCHED = (
    select(feedback.c.service, feedback.c.outcome, func.count().label("count"))
    .where(feedback.c.decision_id.is_(None))
    .group_by(feedback.c.service, feedback.c.outcome)
)


class _Evidence(msgspec.Struct):
    """What is counted of an entry of evidence; the rest of it is not even decoded."""

    concept: str = ""
    age_hours: str = ""


class _Timing(msgspec.Struct):
    total_ms: float | None = None
    sources_ms: dict[str, float] = {}


_evidence = msgspec.json.Decoder(list[_Evidence]).decode
_timing = msgspec.json.Decoder(_Timing).decode
_verdicts = msgspec.json.Decoder(dict[str, Any]).decode


def _ignore(_: int) -> None:
    """Nobody wants to know how far it is."""


async def summary(
    url: str, *, query: Query, names: Names, zone: tzinfo = UTC, progress: Callable[[int], None] = _ignore
) -> Summary:
    """What a store holds, counted. `progress` is told from time to time how many decisions were read.

    Raises BadDatabase, BadSchema.
    """
    counted = Summary(names, query, zone)
    async for rows in read(url, query=query):
        for row in rows:
            counted.add(row)
        progress(counted.total)
    return counted


async def read(url: str, *, query: Query) -> AsyncIterator[Sequence[Row]]:
    """Every row of the query, in batches, as one moment of the store. Raises BadDatabase, BadSchema."""
    engine = readonly.create(url)
    try:
        async with readonly.snapshot(engine) as connection:
            async for found in _batches(connection, _DECIDED.where(*_chosen(query))):
                yield [_decided(row) for row in found]
            yield [Shown(*row) for row in await connection.execute(_SHOWN.where(*_chosen(query)))]
            async for told in _told(connection, query):
                yield told
            if not query.tenant:
                statement = _UNMATCHED.where(*_period(query, feedback.c.received_at), *_by(query, feedback))
                yield [Unmatched(*row) for row in await connection.execute(statement)]
    except (SQLAlchemyError, OSError):
        raise BadDatabase("the database could not be read: check its address and permissions") from None
    finally:
        await engine.dispose()


async def _batches(connection: AsyncConnection, statement: Select[Any]) -> AsyncIterator[Sequence[Any]]:
    result = await connection.stream(statement, execution_options={"yield_per": BATCH})
    async for rows in result.partitions():
        yield rows


async def _told(connection: AsyncConnection, query: Query) -> AsyncIterator[Sequence[Told]]:
    """Entries come card by card; the last card of a batch may go on in the next one."""
    open_: list[Any] = []
    async for rows in _batches(connection, _TOLD.where(*_chosen(query))):
        cards = [list(entries) for _, entries in groupby((*open_, *rows), key=lambda row: row.card)]
        open_ = cards.pop()
        yield [last(entries) for entries in cards]
    if open_:
        yield [last(open_)]


def last(entries: Iterable[Any]) -> Told:
    """What counts of the entries about one card: the last by its outcome time, by receipt where it has none."""
    known = list(entries)
    told = max(known, key=lambda e: (e.outcome_at or e.received_at, e.received_at, e.id))
    return Told(told.service, told.name, told.outcome, told.reason_code, told.reason_system, len(known))


def _decided(row: Any) -> Decided:
    verdicts, read_verdicts = _as(_verdicts, row.verdicts, {})
    evidence, read_evidence = _as(_evidence, row.evidence, [])
    timing, read_timing = _as(_timing, row.timing, _Timing())
    return Decided(
        at=row.created_at,
        service=row.service,
        outcome=row.outcome,
        verdicts=verdicts,
        ages=_ages(evidence),
        total_ms=timing.total_ms,
        sources_ms=timing.sources_ms,
        cards=row.cards,
        readable=read_verdicts and read_evidence and read_timing,
    )


def _as(decode: Callable[[str], Any], text: str, instead: Any) -> tuple[Any, bool]:
    try:
        return decode(text), True
    except msgspec.DecodeError:
        return instead, False


def _ages(evidence: Iterable[_Evidence]) -> dict[str, float]:
    ages: dict[str, float] = {}
    for entry in evidence:
        try:
            hours = float(entry.age_hours)
        except ValueError:
            continue
        if entry.concept:
            ages[entry.concept] = min(hours, ages.get(entry.concept, hours))
    return ages


def _chosen(query: Query) -> list[ColumnElement[bool]]:
    where = [*_period(query, decisions.c.created_at), *_by(query, decisions)]
    return [*where, decisions.c.tenant == query.tenant] if query.tenant else where


def _period(query: Query, column: ColumnElement[datetime]) -> list[ColumnElement[bool]]:
    since = [] if query.since is None else [column >= query.since]
    return since if query.until is None else [*since, column < query.until]


def _by(query: Query, table: Any) -> list[ColumnElement[bool]]:
    client = [table.c.client == query.client] if query.client else []
    return [*client, table.c.service == query.service] if query.service else client
