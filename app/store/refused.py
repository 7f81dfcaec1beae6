"""Whose fault it is that something was not written: its row's, another transaction's, or the database's."""

from __future__ import annotations

from typing import Final

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError, StatementError

_OF_THE_ROW: Final = ("22", "23", "54")
"""SQLSTATE classes that say that the data are at fault: as data, against a constraint, or over a limit (PostgreSQL,
appendix A of its manual). A full disk, a lock, a deadlock or a missing permission are nobody's row."""

_CROSSED: Final = ("40001", "40P01")
"""A serialization failure, a deadlock."""


def is_refused(error: BaseException) -> bool:
    """Whether it is this row that the database will not take, rather than the database that is not there, or not well.
    Then nothing of its transaction was committed."""
    if isinstance(error, (IntegrityError, DataError)):
        return True
    if isinstance(error, DBAPIError):
        state = str(getattr(error.orig, "sqlstate", None) or "")
        of_the_driver = error.orig is not None and isinstance(error.orig.__cause__, ValueError)
        return state.startswith(_OF_THE_ROW) or of_the_driver
    if isinstance(error, (MemoryError, RuntimeError)):  # this process is short of something
        return False
    return isinstance(error, StatementError) or not isinstance(error, (SQLAlchemyError, OSError))


def is_crossed(error: BaseException) -> bool:
    """Whether the database ended this transaction for another's sake (a deadlock): nothing of it was committed, and it
    can be made again."""
    state = str(getattr(error.orig, "sqlstate", None) or "") if isinstance(error, DBAPIError) else ""
    return state in _CROSSED
