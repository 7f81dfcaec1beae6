"""What goes, and what stays: patient data can be removed from a decision, the decision itself cannot.

A removal is an entry of the chain: what is missing without one was taken away (`app.store.verify`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Select, delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.store import chain
from app.store.models import (
    Instant,
    as_text,
    claims,
    decision_answers,
    decision_facts,
    decisions,
    feedback,
    feedback_words,
    refusals,
    snoozes,
    used_tokens,
)
from app.store.writer import Transaction

AT_ONCE: Final = 200
"""Decisions of one transaction: a running service waits for no more than these."""


CLAIMS_AT_ONCE: Final = 5000
"""Of one transaction, of which there is one a minute; a process answers some thousand calls in that time."""


@dataclass(frozen=True, slots=True)
class Purged:
    """What was removed, or would be: decisions whose patient data, and notes of the door."""

    decisions: int
    refusals: int
    oldest: datetime | None = None
    newest: datetime | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """How many decisions' patient data were removed, and how old the newest of these is: the next step begins there."""

    decisions: int
    newest: datetime | None = None


async def remove_patient(transaction: Transaction, patient: str, *, tenant: str) -> int:
    """Remove what there is of the next decisions about a tenant's patient; how many that were, 0 at the end."""
    of_patient = (
        select(decision_facts.c.decision_id)
        .join(decisions, decisions.c.id == decision_facts.c.decision_id)
        .where((decision_facts.c.patient == patient) & (decisions.c.tenant == tenant))
        .limit(AT_ONCE)
    )
    ids = list((await transaction.connection.scalars(of_patient)).all())
    await transaction.connection.execute(delete(snoozes).where(snoozes.c.patient == patient))
    await _remove(transaction, ids)
    return len(ids)


async def remove_some(transaction: Transaction, *, before: datetime, since: datetime | None = None) -> Step:
    """Remove the patient data of the next decisions that are older; of none at the end.

    `since` spares a look at all that were purged in earlier years: the service waits while it is looked for.
    """
    found = (await transaction.connection.execute(_older(before, since=since).limit(AT_ONCE))).all()
    await _remove(transaction, [row.id for row in found])
    return Step(len(found), found[-1].created_at if found else None)


async def forget(transaction: Transaction, *, before: datetime) -> int:
    """Remove the notes of the door, and what was shown to whom, that are older; how many notes that were."""
    await transaction.connection.execute(delete(snoozes).where(snoozes.c.shown_at < before))
    removed = await transaction.connection.execute(delete(refusals).where(refusals.c.at < before))
    return removed.rowcount


async def outlook(connection: AsyncConnection, *, before: datetime) -> Purged:
    """What would be removed."""
    older = _older(before).subquery()
    found = (
        await connection.execute(
            select(func.count(), func.min(decisions.c.created_at), func.max(decisions.c.created_at)).join(
                older, older.c.id == decisions.c.id
            )
        )
    ).one()
    notes = await connection.scalar(select(func.count()).select_from(refusals).where(refusals.c.at < before))
    return Purged(found[0], notes or 0, found[1], found[2])


async def tidy(
    connection: AsyncConnection, *, now: datetime, claimed_before: datetime, shown_before: datetime | None
) -> None:
    """Remove what nobody asks for any more; it is no part of the record. Not all of what has piled up at once: calls
    wait meanwhile."""
    old = select(claims.c.key).where(claims.c.at < claimed_before).order_by(claims.c.at).limit(CLAIMS_AT_ONCE)
    await connection.execute(delete(claims).where(claims.c.key.in_(old)))
    await connection.execute(delete(used_tokens).where(used_tokens.c.until < now))
    if shown_before is not None:
        await connection.execute(delete(snoozes).where(snoozes.c.shown_at < shown_before))


def _older(before: datetime, *, since: datetime | None = None) -> Select[tuple[str, datetime]]:
    """Decisions with anything that can be removed, oldest first."""
    has_facts = select(decision_facts.c.decision_id).where(decision_facts.c.decision_id == decisions.c.id).exists()
    has_answer = select(decision_answers.c.decision_id).where(decision_answers.c.decision_id == decisions.c.id).exists()
    older = (
        select(decisions.c.id, decisions.c.created_at)
        .where((decisions.c.created_at < before) & (has_facts | has_answer))
        .order_by(decisions.c.created_at, decisions.c.id)
    )
    return older if since is None else older.where(decisions.c.created_at >= since)


async def _remove(transaction: Transaction, ids: Sequence[str]) -> None:
    if not ids:
        return
    connection = transaction.connection
    about = select(feedback.c.id).where(feedback.c.decision_id.in_(ids))
    await connection.execute(delete(decision_answers).where(decision_answers.c.decision_id.in_(ids)))
    await connection.execute(delete(decision_facts).where(decision_facts.c.decision_id.in_(ids)))
    # Last: who keeps words meanwhile holds the facts (`app.store.feedback`), and has ended now.
    await connection.execute(delete(feedback_words).where(feedback_words.c.feedback_id.in_(about)))
    at = as_text(transaction.now, Instant()) or ""
    for id_ in ids:
        transaction.chain("removal", id_, chain.removal(id_, at=at))
