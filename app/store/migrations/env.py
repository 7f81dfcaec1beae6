"""Alembic's entry: runs the revisions on the connection that `store.engine` hands over."""

from __future__ import annotations

from alembic import context

from app.store import models

context.configure(
    connection=context.config.attributes["connection"], target_metadata=models.metadata, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
