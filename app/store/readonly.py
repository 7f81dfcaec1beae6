"""A database of decisions, opened to look: nothing is written, created or migrated, and what it holds stays one moment.

Unlike the service's own engine it takes any database that SQLAlchemy has an asynchronous driver for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, InvalidRequestError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from app.store import engine as service
from app.store.errors import BadDatabase, BadSchema


def create(url: str) -> AsyncEngine:
    """An engine that cannot write. Raises BadDatabase; connects only when used."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise BadDatabase("not a database address: write sqlite+aiosqlite:///file.db") from None
    try:
        if parsed.get_backend_name() == "sqlite":
            parsed = _existing(parsed)
        return create_async_engine(parsed, poolclass=NullPool, hide_parameters=True)
    except (ArgumentError, InvalidRequestError):
        raise BadDatabase("the address names no asynchronous driver: write sqlite+aiosqlite:///file.db") from None
    except ImportError:
        raise BadDatabase("the driver that the address names is not installed: install it beside rescue-cds") from None


def _existing(url: URL) -> URL:
    if not url.database or url.database == ":memory:":
        raise BadDatabase("a database in memory is its own process's: name the file of the service")
    path = Path(url.database)
    if not path.is_file():
        raise BadDatabase(f"no database file is at {url.database}: name the file that the service writes")
    read = {"mode": "ro", "uri": "true"}
    return url.set(drivername="sqlite+aiosqlite", database=f"file:{quote(str(path.absolute()))}", query=read)


@asynccontextmanager
async def snapshot(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection whose statements all see one moment of a database of this version's schema.

    Raises BadSchema, and BadDatabase when it cannot be opened.
    """
    try:
        connection = await _begun(engine)
    except (SQLAlchemyError, OSError):
        raise BadDatabase("the database cannot be opened for reading: check its address and permissions") from None
    try:
        await connection.run_sync(_expect_newest)
        yield connection
    finally:
        await connection.close()


async def _begun(engine: AsyncEngine) -> AsyncConnection:
    connection = await engine.connect()
    try:
        if engine.dialect.name == "sqlite":  # its driver would begin nothing before a select
            await connection.exec_driver_sql("BEGIN")
            await connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")  # the moment is now
        else:
            options = {"isolation_level": "REPEATABLE READ", f"{engine.dialect.name}_readonly": True}
            connection = await connection.execution_options(**options)
    except BaseException:
        await connection.close()
        raise
    return connection


def _expect_newest(connection: Connection) -> None:
    scripts = ScriptDirectory.from_config(service.migrations())
    newest = scripts.get_current_head()
    found = MigrationContext.configure(connection).get_current_revision()
    if found == newest:
        return
    if found is None:
        what = "holds tables that are not of this service" if inspect(connection).get_table_names() else "is empty"
        raise BadSchema(f"the database {what}: name the one that the service writes")
    if service.knows(scripts, found):
        raise BadSchema(
            f"the database has schema revision {found}, this version reads {newest}: "
            "start this version's service on it once, which brings it up to date"
        )
    raise BadSchema(
        f"the database has schema revision {found}, this version knows up to {newest}: "
        "use the version that wrote it, or a newer one"
    )
