"""Decisions as they stand in the record, read beside a running service: one by what a person has of it, many in pages.

Each page is a moment of its own, so that an evaluation of all decisions holds no snapshot for hours.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Select, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.store import engine as engines
from app.store import readonly
from app.store.models import (
    chain,
    decision_answers,
    decision_cards,
    decision_facts,
    decisions,
    feedback,
    feedback_words,
    knowledge,
)

PAGE: Final = 50
"""Decisions in memory at a time; each has some 100 kB."""

SHORTEST: Final = 8
"""Characters of an id that is not written in full."""

_NAME: Final = re.compile(r"[0-9a-f-]{8,36}")
_COUNTED: Final = 5
"""Of the decisions that one prefix means, so many are named."""


class NotFound(LookupError):
    """No decision, or more than one, is called that. The message says the remedy."""


@dataclass(frozen=True, slots=True)
class Card:
    """A card of the answer, also when its words have been removed."""

    card: str
    name: str
    indicator: str
    suggestions: Sequence[str]


@dataclass(frozen=True, slots=True)
class Record:
    """One decision. `facts` and `answer` are None where there were none, or where they have been removed: the digests
    tell the two apart ('' for none; None in a row of which nobody knows)."""

    id: str
    created_at: datetime
    client: str
    tenant: str
    service: str
    hook: str
    hook_instance: str
    request_digest: str
    versions: Mapping[str, str]
    knowledge_hash: str
    outcome: str
    verdicts: Any = field(repr=False)
    evidence: Any = field(repr=False)
    gaps: Any = field(repr=False)
    timing: Mapping[str, Any]
    reading: Mapping[str, Any]
    facts_digest: str | None
    answer_digest: str | None
    flags: Sequence[str]
    patient: str | None = field(repr=False)
    facts: bytes | None = field(repr=False)
    status: int | None
    answer: bytes | None = field(repr=False)
    cards: tuple[Card, ...] = ()

    @property
    def is_removed(self) -> bool:
        """Whether patient data stood here and are gone."""
        return (self.facts is None and bool(self.facts_digest)) or (self.answer is None and bool(self.answer_digest))


@dataclass(frozen=True, slots=True)
class Query:
    """Which decisions: from `since` on and before `until`; '' is any."""

    since: datetime | None = None
    until: datetime | None = None
    outcome: str = ""
    client: str = ""
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A decision in a list: nothing of a patient."""

    id: str
    created_at: datetime
    tenant: str
    client: str
    hook: str
    outcome: str
    cards: int
    flags: Sequence[str]


@dataclass(frozen=True, slots=True)
class Told:
    """What a user did with a card. `display` and `comment` are the user's words, None when they have been removed."""

    card: str
    outcome: str
    received_at: datetime
    outcome_at: datetime | None
    suggestions: Sequence[str]
    reason_code: str
    reason_system: str
    display: str | None = field(repr=False)
    comment: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Link:
    """An entry of the chain that is about this decision."""

    writer: str
    seq: int
    kind: str
    hash: str


_ROW: Final = (
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
_CARDS: Final = select(
    decision_cards.c.decision_id,
    decision_cards.c.card,
    decision_cards.c.name,
    decision_cards.c.indicator,
    decision_cards.c.suggestions,
).order_by(decision_cards.c.name)


async def find(engine: AsyncEngine, name: str) -> Record:
    """The decision that is called so: by its id, the beginning of it, or the uuid of one of its cards.

    Raises NotFound, and StoreError where the database cannot be read.
    """
    wanted = name.strip().lower()
    if not _NAME.fullmatch(wanted):
        raise NotFound(f"not an id: write the id of a decision, at least {SHORTEST} characters of it, or a card's uuid")
    async with readonly.snapshot(engine) as connection:
        with engines.said("the decision cannot be read"):
            like = select(decisions.c.id).where(decisions.c.id.startswith(wanted, autoescape=True))
            ids = list((await connection.scalars(like.order_by(decisions.c.id).limit(_COUNTED + 1))).all())
            if not ids:
                of_card = select(decision_cards.c.decision_id).where(decision_cards.c.card == wanted)
                ids = list((await connection.scalars(of_card)).all())
                wanted = ids[0] if len(ids) == 1 else wanted
            if len(ids) > 1:
                named = ", ".join(ids[:_COUNTED]) + (", ..." if len(ids) > _COUNTED else "")
                raise NotFound(f"{wanted}: several decisions begin so: write more of one: {named}")
            found = await _records(connection, ids)
            if not found:
                raise NotFound(f"{wanted}: {await _not_there(connection, wanted)}")
    return found[0]


async def _not_there(connection: AsyncConnection, wanted: str) -> str:
    """Why there is no such decision: there never was, or its row is gone and the chain knows of it."""
    of_decision = chain.c.kind.in_(("decision", "removal"))
    entry = select(chain.c.seq).where(of_decision & chain.c.ref.startswith(wanted, autoescape=True)).limit(1)
    if (await connection.scalars(entry)).first() is None:
        return "no decision and no card of that id is in this database"
    return "its row is gone, and the chain has an entry for it: run `rescue-cds decisions verify`"


async def told(engine: AsyncEngine, decision_id: str) -> tuple[list[Told], list[Link]]:
    """What came back about its cards, in the order of its arrival, and its entries in the chain."""
    words = (
        select(
            feedback.c.card,
            feedback.c.outcome,
            feedback.c.received_at,
            feedback.c.outcome_at,
            feedback.c.suggestions,
            feedback.c.reason_code,
            feedback.c.reason_system,
            feedback_words.c.display,
            feedback_words.c.comment,
        )
        .outerjoin(feedback_words, feedback_words.c.feedback_id == feedback.c.id)
        .where(feedback.c.decision_id == decision_id)
        .order_by(feedback.c.received_at, feedback.c.id)
    )
    links = (
        select(chain.c.writer, chain.c.seq, chain.c.kind, chain.c.hash)
        .where(chain.c.ref == decision_id)
        .order_by(chain.c.kind, chain.c.seq)
    )
    async with readonly.snapshot(engine) as connection:
        with engines.said("the decision cannot be read"):
            came = [Told(**row) for row in (await connection.execute(words)).mappings()]
            return came, [Link(**row) for row in (await connection.execute(links)).mappings()]


async def listed(engine: AsyncEngine, query: Query, *, limit: int) -> list[Line]:
    """The newest decisions of a query."""
    shown = (
        select(func.count())
        .select_from(decision_cards)
        .where(decision_cards.c.decision_id == decisions.c.id)
        .scalar_subquery()
    )
    rows = (
        _chosen(
            select(
                decisions.c.id,
                decisions.c.created_at,
                decisions.c.tenant,
                decisions.c.client,
                decisions.c.hook,
                decisions.c.outcome,
                shown.label("cards"),
                decisions.c.flags,
            ),
            query,
        )
        .order_by(decisions.c.created_at.desc(), decisions.c.id)
        .limit(limit)
    )
    async with readonly.snapshot(engine) as connection:
        with engines.said("the decisions cannot be read"):
            return [Line(**row) for row in (await connection.execute(rows)).mappings()]


async def count(engine: AsyncEngine, query: Query) -> int:
    """How many decisions a query means."""
    async with readonly.snapshot(engine) as connection:
        with engines.said("the decisions cannot be read"):
            return int(await connection.scalar(_chosen(select(func.count()).select_from(decisions), query)) or 0)


async def pages(engine: AsyncEngine, query: Query) -> AsyncIterator[list[Record]]:
    """Every decision of a query, the oldest first."""
    last: tuple[datetime, str] | None = None
    while True:
        ids = _chosen(select(decisions.c.id, decisions.c.created_at), query)
        if last is not None:
            at, id_ = decisions.c.created_at, decisions.c.id
            ids = ids.where(or_(at > last[0], and_(at == last[0], id_ > last[1])))
        async with readonly.snapshot(engine) as connection:
            with engines.said("the decisions cannot be read"):
                ordered = ids.order_by(decisions.c.created_at, decisions.c.id).limit(PAGE)
                found = (await connection.execute(ordered)).all()
                page = await _records(connection, [row.id for row in found])
        if not page:
            return
        yield page
        last = page[-1].created_at, page[-1].id


async def knowledge_files(engine: AsyncEngine, digest: str) -> bytes | None:
    """The knowledge files of that hash."""
    async with readonly.snapshot(engine) as connection:
        with engines.said("the knowledge cannot be read"):
            found = await connection.scalar(select(knowledge.c.files).where(knowledge.c.hash == digest))
    return _bytes(found)


async def _records(connection: AsyncConnection, ids: Sequence[str]) -> list[Record]:
    """In the order of `pages`."""
    if not ids:
        return []
    cards: dict[str, list[Card]] = {}
    for row in (await connection.execute(_CARDS.where(decision_cards.c.decision_id.in_(ids)))).mappings():
        card = Card(**{name: value for name, value in row.items() if name != "decision_id"})
        cards.setdefault(row["decision_id"], []).append(card)
    rows = _ROW.where(decisions.c.id.in_(ids)).order_by(decisions.c.created_at, decisions.c.id)
    return [
        Record(
            **{**row, "facts": _bytes(row["facts"]), "answer": _bytes(row["answer"])},
            cards=tuple(cards.get(row["id"], ())),
        )
        for row in (await connection.execute(rows)).mappings()
    ]


def _bytes(found: bytes | str | None) -> bytes | None:
    """SQLite gives back text where somebody has put text into a column of bytes."""
    return found.encode() if isinstance(found, str) else found


def _chosen(rows: Select[Any], query: Query) -> Select[Any]:
    if query.since is not None:
        rows = rows.where(decisions.c.created_at >= query.since)
    if query.until is not None:
        rows = rows.where(decisions.c.created_at < query.until)
    for name in ("outcome", "client", "tenant"):
        wanted = getattr(query, name)
        if wanted:
            rows = rows.where(decisions.c[name] == wanted)
    return rows
