"""The tables. What may identify a patient stands in tables of its own, whose rows can be removed.

`decisions` and `knowledge` say what was decided, by which knowledge and on which evidence, for as long as a site keeps
them; `decision_facts` (the facts, and the patient's id), `decision_answers` (the bytes that were sent),
`feedback_words` (what a user typed about a card) and `snoozes` go when the patient's data have to. A decision can be
repeated as long as its facts are there. Evidence and gaps in `decisions` name resources by reference, values, units and
times, and hold no text about the person.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import Column, Dialect, ForeignKey, Index, Integer, LargeBinary, MetaData, String, Table, Text
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.types import TypeDecorator

_encode = msgspec.json.Encoder(decimal_format="string").encode


class Json(TypeDecorator[Any]):
    """JSON as text: the same bytes on every database, numbers that matter as decimal strings."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:  # noqa: ARG002 # SQLAlchemy's signature
        return _encode(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002
        return None if value is None else msgspec.json.decode(value)


class Instant(TypeDecorator[datetime]):
    """An aware datetime as ISO text in UTC: sortable, and the same on every database."""

    impl = String(32)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else value.astimezone(UTC).isoformat(timespec="microseconds")

    def process_result_value(self, value: str | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else datetime.fromisoformat(value)


def as_text(value: Any, kind: Json | Instant) -> str | None:
    """The text that stands in the database for a value of this kind."""
    return kind.process_bind_param(value, _ANY)


_ANY = DefaultDialect()

metadata = MetaData()

knowledge = Table(
    "knowledge",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("files", LargeBinary, nullable=False),
)

decisions = Table(
    "decisions",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("created_at", Instant, nullable=False),
    Column("client", String(200), nullable=False),
    Column("tenant", String(200), nullable=False),
    Column("service", String(200), nullable=False),
    Column("hook", String(64), nullable=False),
    Column("hook_instance", String(64), nullable=False),
    Column("request_digest", String(64), nullable=False),
    Column("versions", Json, nullable=False),
    Column("knowledge_hash", String(64), ForeignKey("knowledge.hash"), nullable=False),
    Column("outcome", String(32), nullable=False),
    Column("verdicts", Json, nullable=False),
    Column("evidence", Json, nullable=False),
    Column("gaps", Json, nullable=False),
    Column("timing", Json, nullable=False),
    Column("reading", Json, nullable=False, server_default="{}"),
    Column("facts_digest", String(64), nullable=True),
    Column("answer_digest", String(64), nullable=True),
    Column("flags", Json, nullable=False, server_default="[]"),
    Index("decisions_created_at", "created_at"),
    Index("decisions_request", "request_digest"),
    Index("decisions_hook_instance", "hook_instance"),
)
"""`facts_digest` and `answer_digest` (`app.store.chain`) say what stands, or stood, in the tables that can be emptied;
'' where there was nothing. `flags`: "hook-instance-reused", "hook-instance-not-compared", "spooled",
"duplicate"."""

decision_facts = Table(
    "decision_facts",
    metadata,
    Column("decision_id", String(36), ForeignKey("decisions.id", ondelete="CASCADE"), primary_key=True),
    Column("patient", String(512), nullable=False),
    Column("facts", LargeBinary, nullable=False),
    Index("decision_facts_patient", "patient"),
)

decision_answers = Table(
    "decision_answers",
    metadata,
    Column("decision_id", String(36), ForeignKey("decisions.id", ondelete="CASCADE"), primary_key=True),
    Column("status", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
)

decision_cards = Table(
    "decision_cards",
    metadata,
    Column("card", String(36), primary_key=True),
    Column("decision_id", String(36), ForeignKey("decisions.id", ondelete="CASCADE"), nullable=False),
    Column("name", String(32), nullable=False),
    Column("indicator", String(16), nullable=False),
    Column("suggestions", Json, nullable=False),
    Index("decision_cards_decision", "decision_id"),
)

writers = Table(
    "writers",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", String(36), nullable=False, unique=True),
    Column("started_at", Instant, nullable=False),
    Column("prev_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Column("seq", Integer, nullable=False),
    Column("head", String(64), nullable=False),
)
"""Each process that writes has a chain of its own, so that no two wait for each other; the writers are chained too, in
the order of `number`. `seq` and `head` are the number and the hash of a writer's last entry."""

chain = Table(
    "chain",
    metadata,
    Column("writer", String(36), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(16), nullable=False),
    Column("ref", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Index("chain_ref", "ref"),
)
"""What was written, in order: kind "decision" (ref its id), "removal" (of that decision's patient data), "feedback"
(ref its digest)."""

claims = Table(
    "claims",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("decision_id", String(36), nullable=False),
    Column("at", Instant, nullable=False),
    Index("claims_at", "at"),
)
"""Which decision answered a request last, by what makes two requests the same; rows go when nobody repeats any more."""

snoozes = Table(
    "snoozes",
    metadata,
    Column("client", String(200), primary_key=True),
    Column("user_digest", String(64), primary_key=True),
    Column("patient", String(512), primary_key=True),
    Column("kind", String(32), primary_key=True),
    Column("state", String(64), primary_key=True),
    Column("shown_at", Instant, nullable=False),
    Index("snoozes_shown_at", "shown_at"),
    Index("snoozes_patient", "patient"),
)
"""When a state was last shown to a user; rows go when their time is over, and with the patient's data."""

feedback = Table(
    "feedback",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("digest", String(64), nullable=False, unique=True),
    Column("received_at", Instant, nullable=False),
    Column("client", String(200), nullable=False),
    Column("service", String(200), nullable=False),
    Column("card", String(64), nullable=False),
    Column("decision_id", String(36), ForeignKey("decisions.id", ondelete="CASCADE"), nullable=True),
    Column("outcome", String(16), nullable=False),
    Column("outcome_at", Instant, nullable=True),
    Column("suggestions", Json, nullable=False),
    Column("reason_code", String(64), nullable=False),
    Column("reason_system", String(200), nullable=False),
    Index("feedback_decision", "decision_id"),
)

feedback_words = Table(
    "feedback_words",
    metadata,
    Column("feedback_id", Integer, ForeignKey("feedback.id", ondelete="CASCADE"), primary_key=True),
    Column("display", Text, nullable=False),
    Column("comment", Text, nullable=False),
)

used_tokens = Table(
    "used_tokens",
    metadata,
    Column("client", String(200), primary_key=True),
    Column("digest", String(64), primary_key=True),
    Column("until", Instant, nullable=False),
    Index("used_tokens_until", "until"),
)
"""Client tokens that have been used, by a digest of their `jti`, until they expire."""

refusals = Table(
    "refusals",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Instant, nullable=False),
    Column("reason", String(64), nullable=False),
    Column("client", String(200), nullable=False),
    Column("service", String(200), nullable=False),
    Column("token", String(64), nullable=False),
    Column("times", Integer, nullable=False),
    Index("refusals_at", "at"),
)
"""Calls that were turned away at the door, and why: nobody is told but who reads this. `token` is the digest of the
`jti` of a token whose signature was good. Rows are bounded in a minute; `times` says how many calls one stands for."""
