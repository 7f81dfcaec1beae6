"""What became of the cards: kept once, joined to the decision that made the card.

What a user typed (a comment, or the display of a reason of the client's own) may be about the patient: it is kept in a
table of its own, and only as long as the patient's other data of that decision are there, so that it goes with them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.store import chain
from app.store.dialect import once
from app.store.models import Instant, Json, as_text, decision_cards, decision_facts, decisions, feedback, feedback_words

_SHORT = 64
"""Ids and codes longer than this, or with other characters, are kept as their digest: they may hold anything."""

_WORDS = 8192


@dataclass(frozen=True, slots=True)
class Feedback:
    """One entry of a feedback call; `display` and `comment` are treated as patient data."""

    card: str
    outcome: str
    outcome_at: datetime | None = None
    suggestions: Sequence[str] = ()
    reason_code: str = ""
    reason_system: str = ""
    display: str = field(default="", repr=False)
    comment: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Kept:
    """How many entries were new, had been sent before, and are of a card that no decision made."""

    new: int
    repeated: int
    unmatched: int


async def keep(
    connection: AsyncConnection,
    entries: Iterable[Feedback],
    *,
    client: str,
    tenant: str,
    service: str,
    received_at: datetime,
) -> tuple[Kept, list[tuple[str, str]]]:
    """Inside the caller's transaction: all of them, or none; what came of it, and the refs and digests of the new ones
    for the chain. A few statements whatever their number: nobody else's decision can be committed meanwhile.

    A card belongs to whom it was answered: named by another client, or for another tenant, it is one that no decision
    made.
    """
    sent = list(entries)
    known = await _known(connection, {_token(entry.card) for entry in sent}, client=client, tenant=tenant)
    of_patient = await _held(connection, {made["decision_id"] for made in known.values()})
    rows: dict[str, dict[str, Any]] = {}
    words: dict[str, dict[str, str]] = {}
    unmatched = 0
    for entry in sent:
        card = _token(entry.card)
        made = known.get(card)
        unmatched += made is None
        digest = _digest(entry, client=client, tenant=tenant)
        if digest in rows:
            continue
        rows[digest] = _row(entry, card=card, known=made) | {
            "digest": digest,
            "client": client,
            "service": service,
            "received_at": received_at,
        }
        # Words are kept beside the patient's data only: what could not go with them is not kept at all.
        if made is not None and made["decision_id"] in of_patient and (entry.display or entry.comment):
            words[digest] = {"display": entry.display[:_WORDS], "comment": entry.comment[:_WORDS]}
    for digest in await _there(connection, rows):
        del rows[digest]
    new: dict[str, int] = {}
    if rows:
        made_once = once(connection.dialect)(feedback).on_conflict_do_nothing(index_elements=["digest"])
        # In the order in which they were sent, which the numbers keep. The same call sent to two processes at once
        # locks in the same order; where others cross, the database ends one transaction, and the writer makes it again.
        returning = made_once.returning(feedback.c.digest, feedback.c.id)
        inserted = await connection.execute(returning, list(rows.values()))
        new = {row.digest: row.id for row in inserted}
    about = [{"feedback_id": new[digest], **words[digest]} for digest in words if digest in new]
    if about:
        await connection.execute(insert(feedback_words), about)
    entries_of_chain = [(digest, chain.feedback(_texts(row))) for digest, row in rows.items() if digest in new]
    return Kept(len(new), len(sent) - len(new), unmatched), entries_of_chain


async def misses(connection: AsyncConnection, entries: Iterable[Feedback], *, client: str, tenant: str) -> bool:
    """Whether a card of these entries is not in the database, or not of this client and tenant."""
    cards = {_token(entry.card) for entry in entries}
    return len(await _known(connection, cards, client=client, tenant=tenant)) < len(cards)


def _texts(row: Mapping[str, Any]) -> dict[str, Any]:
    """As they stand in the database."""
    kinds = {column.name: column.type for column in feedback.columns if isinstance(column.type, Instant | Json)}
    return {name: as_text(value, kinds[name]) if name in kinds else value for name, value in row.items()}


async def _known(
    connection: AsyncConnection, cards: Collection[str], *, client: str, tenant: str
) -> dict[str, Mapping[Any, Any]]:
    """The decisions that made these cards for this client and tenant."""
    found = await connection.execute(
        select(
            decision_cards.c.card,
            decision_cards.c.decision_id,
            decision_cards.c.suggestions,
        )
        .join(decisions, decisions.c.id == decision_cards.c.decision_id)
        .where(decision_cards.c.card.in_(cards) & (decisions.c.client == client) & (decisions.c.tenant == tenant))
    )
    return {row["card"]: row for row in found.mappings()}


async def _held(connection: AsyncConnection, ids: Collection[str]) -> set[str]:
    """Which of these decisions have their patient's data; they keep them until this transaction has ended."""
    theirs = select(decision_facts.c.decision_id).where(decision_facts.c.decision_id.in_(ids))
    return set(await connection.scalars(theirs.with_for_update(read=True, key_share=True)))


async def _there(connection: AsyncConnection, digests: Collection[str]) -> list[str]:
    """Which of these are there."""
    found = await connection.scalars(select(feedback.c.digest).where(feedback.c.digest.in_(digests)))
    return list(found)


def _row(entry: Feedback, *, card: str, known: Mapping[Any, Any] | None) -> dict[str, Any]:
    """The row; of accepted suggestions only those that the card made, by their place on it."""
    made = [] if known is None else known["suggestions"]
    accepted = sorted({made.index(one) for one in entry.suggestions if one in made})
    return {
        "card": card,
        "decision_id": None if known is None else known["decision_id"],
        "outcome": entry.outcome,
        "outcome_at": entry.outcome_at,
        "suggestions": accepted,
        "reason_code": _token(entry.reason_code),
        "reason_system": _token(entry.reason_system, limit=200, more=":/#"),
    }


def _digest(entry: Feedback, *, client: str, tenant: str) -> str:
    """The same entry sent again is the same row."""
    parts = [
        *(client, tenant),
        *(entry.card, entry.outcome, entry.outcome_at, list(entry.suggestions)),
        *(entry.reason_code, entry.reason_system, entry.display, entry.comment),
    ]
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def _token(value: str, *, limit: int = _SHORT, more: str = "") -> str:
    if len(value) <= limit and all(c.isascii() and (c.isalnum() or c in "-_." + more) for c in value):
        return value
    return hashlib.sha256(value.encode("utf-8", "replace")).hexdigest()
