"""How the FHIR server was read: by whose authority, how much, and what it could not be asked."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("decisions", sa.Column("reading", sa.Text, nullable=False, server_default="{}"))


def downgrade() -> None:
    raise RuntimeError("the schema only goes forward: restore the backup from before the upgrade (docs/operate.md)")
