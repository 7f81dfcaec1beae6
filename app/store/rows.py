"""Rows on their way to the database or to the spool, and the statements that insert them, made once for each dialect.

The statements go to the driver as text with positional parameters: through SQLAlchemy's own machinery the inserts of
one decision cost twice the CPU (side by side, with 75 kB of facts and answer: 2.9 ms against 1.5 ms).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Dialect, Table
from sqlalchemy.ext.asyncio import AsyncConnection

from app.store import chain
from app.store import models as tables
from app.store.dialect import once
from app.store.feedback import Feedback


class DecisionRow(msgspec.Struct, tag="decision", frozen=True):
    """A decision as the texts and bytes that its rows hold. `claim` is '' for what is not answered again."""

    decision: dict[str, str]
    patient: str
    facts: bytes | None
    status: int
    answer: bytes | None
    cards: tuple[tuple[str, str, str, str], ...]
    snooze: dict[str, str] | None
    claim: str = ""

    def flagged(self, flag: str) -> DecisionRow:
        """The same, with one flag more."""
        flags = msgspec.json.decode(self.decision["flags"])
        changed = self.decision | {"flags": msgspec.json.encode([*flags, flag]).decode()}
        return msgspec.structs.replace(self, decision=changed)

    def digest(self) -> str:
        """For the chain."""
        return chain.decision(self.decision, self.cards)


class FeedbackCall(msgspec.Struct, tag="feedback", frozen=True):
    """The entries of one feedback call."""

    entries: tuple[Feedback, ...]
    client: str
    tenant: str
    service: str
    received_at: datetime


Spoolable = DecisionRow | FeedbackCall

_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Spoolable)


def packed(row: Spoolable) -> bytes:
    """For the spool."""
    return _ENCODER.encode(row)


def unpacked(payload: bytes) -> Spoolable:
    """Raises msgspec.MsgspecError."""
    row: Spoolable = _DECODER.decode(payload)
    return row


class Insert:
    """The insertion of rows of one table. `again` says what becomes of one that is there: "error" or "update"."""

    def __init__(self, table: Table, dialect: Dialect, *, again: str = "error") -> None:
        made = once(dialect)(table)
        if again == "update":
            keys = [column.name for column in table.primary_key]
            changed = {c.name: made.excluded[c.name] for c in table.columns if c.name not in keys}
            made = made.on_conflict_do_update(index_elements=keys, set_=changed)
        compiled = made.compile(dialect=dialect)
        self.sql = str(compiled)
        self.names: Sequence[str] = compiled.positiontup or ()

    async def run(self, connection: AsyncConnection, rows: Iterable[Mapping[str, Any]]) -> None:
        """Nothing for no rows."""
        values = [tuple(row[name] for name in self.names) for row in rows]
        if values:
            await connection.exec_driver_sql(self.sql, values)


class Inserts:
    """Those of a decision and of its place in the chain."""

    def __init__(self, dialect: Dialect) -> None:
        self.decisions = Insert(tables.decisions, dialect)
        self.facts = Insert(tables.decision_facts, dialect)
        self.answers = Insert(tables.decision_answers, dialect)
        self.cards = Insert(tables.decision_cards, dialect)
        self.snoozes = Insert(tables.snoozes, dialect, again="update")
        self.chain = Insert(tables.chain, dialect)

    async def run(self, connection: AsyncConnection, rows: Sequence[DecisionRow]) -> None:
        """All rows of these decisions, in the order of their foreign keys."""
        await self.decisions.run(connection, (row.decision for row in rows))
        await self.facts.run(
            connection,
            (
                {"decision_id": row.decision["id"], "patient": row.patient, "facts": row.facts}
                for row in rows
                if row.facts is not None
            ),
        )
        await self.answers.run(
            connection,
            (
                {"decision_id": row.decision["id"], "status": row.status, "body": row.answer}
                for row in rows
                if row.answer is not None
            ),
        )
        await self.cards.run(
            connection,
            (
                {"decision_id": row.decision["id"], **dict(zip(chain.CARD, card, strict=True))}
                for row in rows
                for card in row.cards
            ),
        )
        snoozes = {_key(row.snooze): row.snooze for row in rows if row.snooze is not None}
        await self.snoozes.run(connection, (snoozes[key] for key in sorted(snoozes)))  # one order: no deadlock


def _key(snooze: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(snooze[column.name] for column in tables.snoozes.primary_key)
