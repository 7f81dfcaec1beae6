"""Whose fault it is that something was not written."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.store.refused import is_crossed, is_refused


def said(state: str) -> DBAPIError:
    """PostgreSQL's driver has one kind of error for most of what a server says."""
    error = Exception("said by the server")
    error.sqlstate = state  # type: ignore[attr-defined]
    return DBAPIError("statement", {}, error)


@pytest.mark.parametrize(
    ("state", "refused"),
    [("22001", True), ("23505", True), ("54000", True), ("53100", False), ("55P03", False), ("57014", False)],
)
def test_the_data_are_at_fault_where_the_server_says_so(state: str, refused: bool) -> None:
    assert is_refused(said(state)) is refused
    assert not is_crossed(said(state))


@pytest.mark.parametrize("state", ["40001", "40P01"])
def test_one_of_two_that_crossed_is_nobodys_fault(state: str) -> None:
    assert is_crossed(said(state))
    assert not is_refused(said(state))


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (IntegrityError("statement", {}, Exception()), True),
        (StatementError("a value", "statement", {}, ValueError()), True),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogate"), True),
        (KeyError("a fault of ours"), True),
        (OperationalError("statement", {}, Exception("gone")), False),
        (PoolTimeout(), False),
        (TimeoutError(), False),
        (ConnectionError(), False),
        (MemoryError(), False),
        (RuntimeError("can't start new thread"), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_what_a_row_is_blamed_for(error: Exception, refused: bool) -> None:
    assert is_refused(error) is refused
    assert not is_crossed(error)
