"""What the two databases spell differently."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Dialect
from sqlalchemy.dialects import postgresql, sqlite


def once(dialect: Dialect) -> Any:
    """The dialect's insert, which knows what to do with a row that is there."""
    return postgresql.insert if dialect.name == "postgresql" else sqlite.insert
