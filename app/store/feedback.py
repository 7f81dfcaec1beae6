"""What became of the cards: kept once, joined to the decision that made the card.

What a user typed (a comment, or the display of a reason of the client's own) may be about the patient: it is kept in a
table of its own, and only as long as the patient's other data of that decision are there, so that it goes with them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.store.models import decision_cards, decision_facts, decisions, feedback, feedback_words

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
) -> Kept:
    """Inside the caller's transaction: all of them, or none.

    A card belongs to whom it was answered: named by another client, or for another tenant, it is one that no decision
    made.
    """
    new = repeated = unmatched = 0
    for entry in entries:
        card = _token(entry.card)
        known = (
            (
                await connection.execute(
                    select(
                        decision_cards.c.decision_id,
                        decision_cards.c.suggestions,
                        decision_facts.c.decision_id.label("of_patient"),
                    )
                    .join(decisions, decisions.c.id == decision_cards.c.decision_id)
                    .outerjoin(decision_facts, decision_facts.c.decision_id == decision_cards.c.decision_id)
                    .where(
                        (decision_cards.c.card == card)
                        & (decisions.c.client == client)
                        & (decisions.c.tenant == tenant)
                    )
                )
            )
            .mappings()
            .first()
        )
        unmatched += known is None
        row = _row(entry, card=card, known=known) | {
            "digest": _digest(entry, client=client, tenant=tenant),
            "client": client,
            "service": service,
            "received_at": received_at,
        }
        made = await connection.execute(
            insert(feedback).values(row).on_conflict_do_nothing(index_elements=["digest"]).returning(feedback.c.id)
        )
        number = made.scalar_one_or_none()
        if number is None:
            repeated += 1
            continue
        new += 1
        # Words are kept beside the patient's data only: what could not go with them is not kept at all.
        if known is not None and known["of_patient"] is not None and (entry.display or entry.comment):
            words = {"display": entry.display[:_WORDS], "comment": entry.comment[:_WORDS]}
            await connection.execute(feedback_words.insert().values(feedback_id=number, **words))
    return Kept(new, repeated, unmatched)


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
