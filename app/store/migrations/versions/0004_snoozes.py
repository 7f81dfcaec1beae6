"""What was shown to whom, so that an unchanged state is not shown again at once; exact repeats by their digest."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "snoozes",
        sa.Column("client", sa.String(200), primary_key=True),
        sa.Column("user_digest", sa.String(64), primary_key=True),
        sa.Column("patient", sa.String(512), primary_key=True),
        sa.Column("kind", sa.String(32), primary_key=True),
        sa.Column("state", sa.String(64), primary_key=True),
        sa.Column("shown_at", sa.String(32), nullable=False),
    )
    op.create_index("snoozes_shown_at", "snoozes", ["shown_at"])
    op.create_index("snoozes_patient", "snoozes", ["patient"])
    op.create_index("decisions_request", "decisions", ["request_digest"])


def downgrade() -> None:
    raise RuntimeError("the schema only goes forward: restore the backup from before the upgrade (docs/operate.md)")
