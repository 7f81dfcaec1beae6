"""The rows that are exported, in pages: whatever the size of the record, one page is in memory.

Each page is read as a moment of its own and the database is left alone between two, so that an export which takes an
hour (a slow repository) holds no snapshot for an hour: rows are only ever added, and what is removed meanwhile is not
to be exported any more.

Decisions go by (created_at, id); feedback and refusals by the number the database gave them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Text, and_, func, or_, select, type_coerce
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.store import readonly
from app.store.errors import BadDatabase
from app.store.models import (
    decision_answers,
    decision_cards,
    decision_facts,
    decisions,
    feedback,
    refusals,
)

PAGE: Final = 100
"""Decisions in memory at a time: facts and answer are about 100 kB each at most."""


@dataclass(frozen=True, slots=True)
class Window:
    """Which decisions: made from `since` on and before `until`; '' is every tenant."""

    since: datetime | None = None
    until: datetime | None = None
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Up to where the rows of each kind have been exported. `text` and `read` are what `--after` takes."""

    at: datetime | None = None
    id: str = ""
    feedback: int = 0
    refusal: int = 0

    def text(self) -> str:
        moment = "" if self.at is None else self.at.isoformat(timespec="microseconds")
        return f"{moment}/{self.id}/{self.feedback}/{self.refusal}"

    @staticmethod
    def read(text: str) -> Cursor:
        """Raises ValueError."""
        at, id_, told, refused = text.split("/")
        moment = datetime.fromisoformat(at) if at else None
        if (moment is None) != (not id_) or (moment is not None and moment.tzinfo is None):
            raise ValueError("a moment and an id go together")
        return Cursor(moment, id_, int(told), int(refused))


@dataclass(frozen=True, slots=True)
class Card:
    """A card as `decision_cards` keeps it, also when its words have been removed."""

    uuid: str
    name: str
    indicator: str
    suggestions: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Made:
    """A decision. `patient`, `encounter` and `answer` are None where they are not, or no longer, in the record;
    `removed` says that the patient's data were there once. `queries` are what the FHIR server was asked."""

    id: str
    created_at: datetime
    client: str
    tenant: str
    service: str
    hook: str
    hook_instance: str
    knowledge_hash: str
    outcome: str
    versions: Mapping[str, str]
    verdicts: Mapping[str, Any] = field(repr=False)
    gaps: Sequence[Mapping[str, str]] = field(repr=False)
    reading: Mapping[str, Any] = field(repr=False)
    timing: Mapping[str, Any] = field(repr=False)
    flags: Sequence[str] = ()
    patient: str | None = field(default=None, repr=False)
    encounter: str | None = field(default=None, repr=False)
    queries: Sequence[str] = field(default=(), repr=False)
    status: int | None = None
    answer: bytes | None = field(default=None, repr=False)
    removed: bool = False
    cards: Sequence[Card] = ()


@dataclass(frozen=True, slots=True)
class Accepted:
    """Feedback that says that suggestions of a card were accepted: their uuids. `told_at` is when the client says it
    was."""

    number: int
    digest: str
    received_at: datetime
    told_at: datetime | None
    client: str
    tenant: str
    decision: str
    versions: Mapping[str, str]
    knowledge_hash: str
    card: str
    suggestions: Sequence[str]


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """A refusal at the door; `times` is how many calls it stands for."""

    number: int
    at: datetime
    reason: str
    client: str
    service: str
    token: str
    times: int


class _Asked(msgspec.Struct):
    encounter: str = ""


class _Kept(msgspec.Struct):
    """Of a row of facts (`app.kept`), what the export needs: the rest of it is not even decoded."""

    asked: _Asked = msgspec.field(default_factory=_Asked)
    queries: tuple[str, ...] = ()


_kept = msgspec.json.Decoder(_Kept).decode

_MADE = (
    select(
        *(
            decisions.c[name]
            for name in (
                *("id", "created_at", "client", "tenant", "service", "hook", "hook_instance", "knowledge_hash"),
                *("outcome", "versions", "verdicts", "gaps", "reading", "timing", "flags", "facts_digest"),
                "answer_digest",
            )
        ),
        decision_facts.c.patient,
        decision_facts.c.facts,
        decision_answers.c.status,
        decision_answers.c.body,
    )
    .outerjoin(decision_facts, decision_facts.c.decision_id == decisions.c.id)
    .outerjoin(decision_answers, decision_answers.c.decision_id == decisions.c.id)
)
_KEYS = select(decisions.c.id).order_by(decisions.c.created_at, decisions.c.id).limit(PAGE)
"""The page by its keys first: what is sorted are these, and not facts and answers with them."""

_CARDS = select(decision_cards).order_by(decision_cards.c.decision_id, decision_cards.c.name)
_TOLD = (
    select(
        feedback.c.id.label("number"),
        feedback.c.digest,
        feedback.c.received_at,
        feedback.c.outcome_at.label("told_at"),
        feedback.c.client,
        decisions.c.tenant,
        decisions.c.id.label("decision"),
        decisions.c.versions,
        decisions.c.knowledge_hash,
        feedback.c.card,
        feedback.c.suggestions.label("places"),
        decision_cards.c.suggestions.label("made"),
    )
    .join_from(feedback, decisions, decisions.c.id == feedback.c.decision_id)
    .join(decision_cards, decision_cards.c.card == feedback.c.card)
    .where((feedback.c.outcome == "accepted") & (type_coerce(feedback.c.suggestions, Text) != "[]"))
    .order_by(feedback.c.id)
    .limit(PAGE)
)
_REFUSED = select(refusals).order_by(refusals.c.id).limit(PAGE)


async def count(engine: AsyncEngine, window: Window, *, after: Cursor) -> int:
    """How many decisions are to come. Raises BadDatabase, BadSchema."""
    chosen = [*_chosen(window), *_later(after)]
    (row,) = await _rows(engine, select(func.count()).select_from(decisions).where(*chosen))
    return int(row[0])


async def made(engine: AsyncEngine, window: Window, *, after: Cursor) -> AsyncIterator[Sequence[Made]]:
    """Pages of decisions, the oldest first. Raises BadDatabase, BadSchema."""
    at = after
    while True:
        async with _snapshot(engine) as connection:
            ids = (await connection.execute(_KEYS.where(*_chosen(window), *_later(at)))).scalars().all()
            whole = (await connection.execute(_MADE.where(decisions.c.id.in_(ids)))).mappings().all()
            shown = (await connection.execute(_CARDS.where(decision_cards.c.decision_id.in_(ids)))).mappings().all()
        if not ids:
            return
        found = {row["id"]: row for row in whole}
        cards = {id_: [*rows] for id_, rows in groupby(shown, key=lambda card: card["decision_id"])}
        yield [_made(found[id_], cards.get(id_, ())) for id_ in ids]
        at = Cursor(found[ids[-1]]["created_at"], ids[-1])
        if len(ids) < PAGE:
            return


async def accepted(engine: AsyncEngine, window: Window, *, after: int) -> AsyncIterator[Sequence[Accepted]]:
    """Pages of accepted suggestions of the window's decisions. Raises BadDatabase, BadSchema."""
    at = after
    while True:
        found = await _rows(engine, _TOLD.where(*_chosen(window), feedback.c.id > at))
        if found:
            yield [_accepted(row) for row in found]
            at = found[-1].number
        if len(found) < PAGE:
            return


async def turned_away(engine: AsyncEngine, window: Window, *, after: int) -> AsyncIterator[Sequence[TurnedAway]]:
    """Pages of refusals; none for one tenant, because at the door it is not known whose call it would have been.

    Raises BadDatabase, BadSchema.
    """
    at = after
    while not window.tenant:
        found = await _rows(engine, _REFUSED.where(*_period(window, refusals.c.at), refusals.c.id > at))
        if found:
            yield [
                TurnedAway(row.id, row.at, row.reason, row.client, row.service, row.token, row.times) for row in found
            ]
            at = found[-1].id
        if len(found) < PAGE:
            return


def _chosen(window: Window) -> Iterable[ColumnElement[bool]]:
    yield from _period(window, decisions.c.created_at)
    if window.tenant:
        yield decisions.c.tenant == window.tenant


def _period(window: Window, column: Any) -> Iterable[ColumnElement[bool]]:
    if window.since is not None:
        yield column >= window.since
    if window.until is not None:
        yield column < window.until


def _later(cursor: Cursor) -> Iterable[ColumnElement[bool]]:
    if cursor.at is not None:
        moment = decisions.c.created_at
        yield moment >= cursor.at  # what the index can use
        yield or_(moment > cursor.at, and_(moment == cursor.at, decisions.c.id > cursor.id))


async def _rows(engine: AsyncEngine, statement: Any) -> Sequence[Any]:
    async with _snapshot(engine) as connection:
        found: Sequence[Any] = (await connection.execute(statement)).all()
    return found


@asynccontextmanager
async def _snapshot(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    try:
        async with readonly.snapshot(engine) as connection:
            yield connection
    except (SQLAlchemyError, OSError):
        raise BadDatabase("the database could not be read: check its address and permissions") from None


def _made(row: Mapping[Any, Any], shown: Iterable[Mapping[Any, Any]]) -> Made:
    names = [name for name in Made.__dataclass_fields__ if name in row]
    kept = _read(row["facts"])
    return Made(
        **{name: row[name] for name in names},
        encounter=kept.asked.encounter or None,
        queries=kept.queries,
        answer=row["body"],
        removed=(row["patient"] is None and bool(row["facts_digest"]))
        or (row["body"] is None and bool(row["answer_digest"])),
        cards=[Card(one["card"], one["name"], one["indicator"], tuple(one["suggestions"])) for one in shown],
    )


def _read(facts: bytes | None) -> _Kept:
    """With nothing in it where there are none, or they cannot be read."""
    if facts is None:
        return _Kept()
    try:
        return _kept(facts)
    except (msgspec.MsgspecError, UnicodeError):
        return _Kept()


def _accepted(row: Any) -> Accepted:
    values = dict(row._mapping)
    places, suggestions = values.pop("places"), values.pop("made")
    return Accepted(**values, suggestions=[suggestions[place] for place in places if place < len(suggestions)])
