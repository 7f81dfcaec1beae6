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
)
from app.store.writer import Transaction

AT_ONCE: Final = 200
"""Decisions of one transaction: a running service waits for no more than these."""


@dataclass(frozen=True, slots=True)
class Purged:
    """What was removed, or would be: decisions whose patient data, and notes of the door."""

    decisions: int
    refusals: int
    oldest: datetime | None = None
    newest: datetime | None = None


async def remove_patient(transaction: Transaction, patient: str, *, tenant: str) -> int:
    """Remove everything about a tenant's patient; how many decisions that were."""
    of_patient = (
        select(decision_facts.c.decision_id)
        .join(decisions, decisions.c.id == decision_facts.c.decision_id)
        .where((decision_facts.c.patient == patient) & (decisions.c.tenant == tenant))
    )
    ids = list((await transaction.connection.scalars(of_patient)).all())
    await transaction.connection.execute(delete(snoozes).where(snoozes.c.patient == patient))
    for start in range(0, len(ids), AT_ONCE):
        await _remove(transaction, ids[start : start + AT_ONCE])
    return len(ids)


async def remove_some(transaction: Transaction, *, before: datetime) -> int:
    """Remove the patient data of the next decisions that are older; how many decisions that were, 0 at the end."""
    ids: list[str] = [*await transaction.connection.scalars(_older(before).limit(AT_ONCE))]
    await _remove(transaction, ids)
    return len(ids)


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


async def tidy(connection: AsyncConnection, *, claimed_before: datetime, shown_before: datetime | None) -> None:
    """Remove what nobody asks for any more; it is no part of the record."""
    await connection.execute(delete(claims).where(claims.c.at < claimed_before))
    if shown_before is not None:
        await connection.execute(delete(snoozes).where(snoozes.c.shown_at < shown_before))


def _older(before: datetime) -> Select[tuple[str]]:
    """Decisions with anything that can be removed, oldest first."""
    has_facts = select(decision_facts.c.decision_id).where(decision_facts.c.decision_id == decisions.c.id).exists()
    has_answer = select(decision_answers.c.decision_id).where(decision_answers.c.decision_id == decisions.c.id).exists()
    return (
        select(decisions.c.id)
        .where((decisions.c.created_at < before) & (has_facts | has_answer))
        .order_by(decisions.c.created_at, decisions.c.id)
    )


async def _remove(transaction: Transaction, ids: Sequence[str]) -> None:
    if not ids:
        return
    connection = transaction.connection
    about = select(feedback.c.id).where(feedback.c.decision_id.in_(ids))
    await connection.execute(delete(feedback_words).where(feedback_words.c.feedback_id.in_(about)))
    await connection.execute(delete(decision_answers).where(decision_answers.c.decision_id.in_(ids)))
    await connection.execute(delete(decision_facts).where(decision_facts.c.decision_id.in_(ids)))
    at = as_text(transaction.now, Instant()) or ""
    for id_ in ids:
        transaction.chain("removal", id_, chain.removal(id_, at=at))
