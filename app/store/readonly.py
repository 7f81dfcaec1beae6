"""A database of decisions, opened to look: nothing is written or made, and what it holds stays one moment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.store import engine as engines


def create(url: str) -> AsyncEngine:
    """An engine that cannot write, and may take its time. Raises BadDatabase; connects only when used."""
    return engines.create(url, purpose="report")


@asynccontextmanager
async def snapshot(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection whose statements all see one moment of a database of this version's schema.

    Raises BadSchema, and BadDatabase when it cannot be opened. These, and what is raised with the connection, say which
    database it is.
    """
    with engines.named(engine):
        async with _connected(engine) as connection:
            yield connection


@asynccontextmanager
async def _connected(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    with engines.said("the database cannot be opened for reading"):
        connection = await _begun(engine)
    try:
        with engines.said("the database cannot be read"):
            found = await connection.run_sync(engines.standing)
        refusal = found.refusal()
        if refusal is not None:
            raise refusal
        yield connection
    finally:
        await connection.close()


async def _begun(engine: AsyncEngine) -> AsyncConnection:
    connection = await engine.connect()
    try:
        if engine.dialect.name == "postgresql":
            await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            await connection.exec_driver_sql("SELECT 1")
        else:
            await connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")
    except BaseException:
        await connection.close()
        raise
    return connection  # the moment is now: that of its first statement
