"""Alembic's entry: runs the revisions on the connection, and in the transaction, that `store.engine` hands over."""

from __future__ import annotations

from typing import Any

from alembic import context

from app.store import models


def applied(*, step: Any, **_: Any) -> None:
    """Tell which revision has just been made."""
    progress = context.config.attributes.get("progress")
    if progress is not None:
        progress(f"{step.up_revision_id}  {step.up_revision.doc}")


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=models.metadata,
    render_as_batch=True,
    on_version_apply=applied,  # type: ignore[arg-type]  # called with keywords only
)
with context.begin_transaction():
    context.run_migrations()
