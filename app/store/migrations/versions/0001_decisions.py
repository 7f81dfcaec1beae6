"""Decisions, their facts, their answers, and the knowledge they were made with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "knowledge",
        sa.Column("hash", sa.String(64), primary_key=True),
        sa.Column("files", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "decisions",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("client", sa.String(200), nullable=False),
        sa.Column("tenant", sa.String(200), nullable=False),
        sa.Column("service", sa.String(200), nullable=False),
        sa.Column("hook", sa.String(64), nullable=False),
        sa.Column("hook_instance", sa.String(64), nullable=False),
        sa.Column("request_digest", sa.String(64), nullable=False),
        sa.Column("versions", sa.Text, nullable=False),
        sa.Column("knowledge_hash", sa.String(64), sa.ForeignKey("knowledge.hash"), nullable=False),
        sa.Column("outcome", sa.String(32), nullable=False),
        sa.Column("verdicts", sa.Text, nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.Column("gaps", sa.Text, nullable=False),
        sa.Column("timing", sa.Text, nullable=False),
    )
    op.create_index("decisions_created_at", "decisions", ["created_at"])
    op.create_table(
        "decision_facts",
        sa.Column("decision_id", sa.String(36), sa.ForeignKey("decisions.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("patient", sa.String(512), nullable=False),
        sa.Column("facts", sa.LargeBinary, nullable=False),
    )
    op.create_index("decision_facts_patient", "decision_facts", ["patient"])
    op.create_table(
        "decision_answers",
        sa.Column("decision_id", sa.String(36), sa.ForeignKey("decisions.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )


def downgrade() -> None:
    raise RuntimeError("the schema only goes forward: restore the backup from before the upgrade (docs/operate.md)")
