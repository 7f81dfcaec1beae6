"""Which cards a decision showed, and what became of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "decision_cards",
        sa.Column("card", sa.String(36), primary_key=True),
        sa.Column("decision_id", sa.String(36), sa.ForeignKey("decisions.id", ondelete="CASCADE"), nullable=False),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("indicator", sa.String(16), nullable=False),
        sa.Column("suggestions", sa.Text, nullable=False),
    )
    op.create_index("decision_cards_decision", "decision_cards", ["decision_id"])
    op.create_table(
        "feedback",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False, unique=True),
        sa.Column("received_at", sa.String(32), nullable=False),
        sa.Column("client", sa.String(200), nullable=False),
        sa.Column("service", sa.String(200), nullable=False),
        sa.Column("card", sa.String(64), nullable=False),
        sa.Column("decision_id", sa.String(36), sa.ForeignKey("decisions.id", ondelete="CASCADE"), nullable=True),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("outcome_at", sa.String(32), nullable=True),
        sa.Column("suggestions", sa.Text, nullable=False),
        sa.Column("reason_code", sa.String(64), nullable=False),
        sa.Column("reason_system", sa.String(200), nullable=False),
    )
    op.create_index("feedback_decision", "feedback", ["decision_id"])
    op.create_table(
        "feedback_words",
        sa.Column("feedback_id", sa.Integer, sa.ForeignKey("feedback.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("display", sa.Text, nullable=False),
        sa.Column("comment", sa.Text, nullable=False),
    )


def downgrade() -> None:
    raise RuntimeError("the schema only goes forward: restore the backup from before the upgrade (docs/operate.md)")
