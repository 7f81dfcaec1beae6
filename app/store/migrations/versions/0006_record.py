"""The record cannot be changed unseen, nor doubled: chains of hashes, and which decision answered which request.

What was recorded before is chained as it stands, by a writer of its own; from then on it cannot be changed unseen.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

from app.store import chain as forms

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_AT_ONCE = 200

_decisions = sa.table("decisions", *(sa.column(name, sa.Text) for name in forms.DECISION))
_facts = sa.table("decision_facts", *(sa.column(n, t) for n, t in (("decision_id", sa.Text), ("patient", sa.Text))))
_facts.append_column(sa.column("facts", sa.LargeBinary))
_answers = sa.table(
    "decision_answers",
    sa.column("decision_id", sa.Text),
    sa.column("status", sa.Integer),
    sa.column("body", sa.LargeBinary),
)
_cards = sa.table("decision_cards", sa.column("decision_id", sa.Text), *(sa.column(n, sa.Text) for n in forms.CARD))
_feedback = sa.table("feedback", sa.column("id", sa.Integer), *(sa.column(name, sa.Text) for name in forms.FEEDBACK))


def upgrade() -> None:
    op.add_column("decisions", sa.Column("facts_digest", sa.String(64), nullable=True))
    op.add_column("decisions", sa.Column("answer_digest", sa.String(64), nullable=True))
    op.add_column("decisions", sa.Column("flags", sa.Text, nullable=False, server_default="[]"))
    op.create_index("decisions_hook_instance", "decisions", ["hook_instance"])
    writers = op.create_table(
        "writers",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("id", sa.String(36), nullable=False, unique=True),
        sa.Column("started_at", sa.String(32), nullable=False),
        sa.Column("prev_hash", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("head", sa.String(64), nullable=False),
    )
    chain = op.create_table(
        "chain",
        sa.Column("writer", sa.String(36), primary_key=True),
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("ref", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    op.create_index("chain_ref", "chain", ["ref"])
    op.create_table(
        "claims",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("decision_id", sa.String(36), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
    )
    op.create_index("claims_at", "claims", ["at"])
    connection = op.get_bind()
    id_, started_at = str(uuid.uuid4()), datetime.now(UTC).isoformat(timespec="microseconds")
    head = forms.Head(id_, 0, forms.FIRST)
    for entries in _entries(connection):
        rows = []
        for kind, ref, digest in entries:
            head = head.next(kind, ref, digest)
            rows.append({"writer": id_, "seq": head.seq, "kind": kind, "ref": ref, "digest": digest, "hash": head.hash})
        connection.execute(sa.insert(chain), rows)
    if head.seq:
        connection.execute(
            sa.insert(writers).values(
                id=id_,
                started_at=started_at,
                prev_hash=forms.FIRST,
                hash=forms.writer(forms.FIRST, id_=id_, started_at=started_at),
                seq=head.seq,
                head=head.hash,
            )
        )


def _entries(connection: sa.Connection) -> Iterator[list[tuple[forms.Kind, str, str]]]:
    """What stands there, in pages, and the digests of what can be removed put beside it."""
    last = ("", "")
    while rows := _page(connection, last):
        last = rows[-1]["created_at"], rows[-1]["id"]
        ids = [row["id"] for row in rows]
        facts = {f.decision_id: forms.facts(f.patient, bytes(f.facts)) for f in _of(connection, _facts, ids)}
        answers = {a.decision_id: forms.answer(a.status, bytes(a.body)) for a in _of(connection, _answers, ids)}
        cards: dict[str, list[list[Any]]] = {}
        for card in _of(connection, _cards, ids):
            cards.setdefault(card.decision_id, []).append([getattr(card, name) for name in forms.CARD])
        entries: list[tuple[forms.Kind, str, str]] = []
        for row in rows:
            row |= {"facts_digest": facts.get(row["id"], ""), "answer_digest": answers.get(row["id"], "")}
            connection.execute(
                sa.update(_decisions)
                .where(_decisions.c.id == row["id"])
                .values(facts_digest=row["facts_digest"], answer_digest=row["answer_digest"])
            )
            entries.append(("decision", row["id"], forms.decision(row, cards.get(row["id"], []))))
        yield entries
    number = 0
    while found := _feedback_page(connection, number):
        number = found[-1]["id"]
        yield [("feedback", row["digest"], forms.feedback(row)) for row in found]


def _page(connection: sa.Connection, last: tuple[str, str]) -> list[dict[str, Any]]:
    at, id_ = last
    after = (_decisions.c.created_at > at) | ((_decisions.c.created_at == at) & (_decisions.c.id > id_))
    query = sa.select(_decisions).where(after).order_by(_decisions.c.created_at, _decisions.c.id).limit(_AT_ONCE)
    return [dict(row) for row in connection.execute(query).mappings()]


def _feedback_page(connection: sa.Connection, number: int) -> list[dict[str, Any]]:
    query = sa.select(_feedback).where(_feedback.c.id > number).order_by(_feedback.c.id).limit(_AT_ONCE)
    return [dict(row) for row in connection.execute(query).mappings()]


def _of(connection: sa.Connection, table: Any, ids: Sequence[str]) -> Sequence[Any]:
    return connection.execute(sa.select(table).where(table.c.decision_id.in_(ids))).all()


def downgrade() -> None:
    raise RuntimeError("the schema only goes forward: restore the backup from before the upgrade (docs/operate.md)")
