"""The database: how it is opened, and that its schema is one this version knows.

SQLite runs with a write-ahead log and synchronous=FULL: a committed decision survives a power cut, at about a third of
a millisecond (knowledge: security 0.9). One connection, because SQLite has one writer anyway and waiting in our own
queue is fairer than waiting for its lock.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, event, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from app.store.errors import BadDatabase, BadSchema

_BUSY_MS: Final = 2000
_WAIT_SECONDS: Final = 30.0
"""For the one connection. Longer than all places take together on a busy machine: what has been evaluated shall not be
lost because the next ones are being evaluated meanwhile."""
_PRAGMAS: Final = (
    "journal_mode=WAL",
    "synchronous=FULL",
    f"busy_timeout={_BUSY_MS}",
    "foreign_keys=ON",
    "secure_delete=ON",  # what is removed is overwritten: it was patient data
)


def create(url: str) -> AsyncEngine:
    """An engine for a database address. Raises BadDatabase; connects only when used.

    A new SQLite file is readable by its owner only.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise BadDatabase("not a database address: write sqlite+aiosqlite:///file.db") from None
    if parsed.drivername != "sqlite+aiosqlite":
        raise BadDatabase("this version keeps decisions in SQLite: write sqlite+aiosqlite:///file.db")
    if parsed.database and parsed.database != ":memory:":
        _touch(Path(parsed.database))
    engine = create_async_engine(
        parsed,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=1,
        max_overflow=0,
        pool_timeout=_WAIT_SECONDS,
        pool_reset_on_return=None,  # every user ends its own transaction; a second rollback costs a thread switch
        hide_parameters=True,
    )
    event.listen(engine.sync_engine, "connect", _configure)
    return engine


async def migrate(engine: AsyncEngine) -> None:
    """Bring an empty or older database to the newest schema.

    Raises BadSchema for a schema this version does not know or a database that is not ours, BadDatabase when it
    cannot be opened.
    """
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_upgrade)
    except (SQLAlchemyError, OSError):
        raise BadDatabase("the database cannot be opened: check its address, permissions and free space") from None


def migrations() -> Config:
    """Where the revisions of the schema are."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def _upgrade(connection: Connection) -> None:
    config = migrations()
    config.attributes["connection"] = connection
    scripts = ScriptDirectory.from_config(config)
    newest = scripts.get_current_head()
    found = MigrationContext.configure(connection).get_current_revision()
    if found == newest:
        return
    if found is None:
        if inspect(connection).get_table_names():
            raise BadSchema("the database holds tables that are not of this service: give it a database of its own")
    elif not knows(scripts, found):
        raise BadSchema(
            f"the database has schema revision {found}, this version knows up to {newest}: "
            "start the version that wrote it, or a newer one"
        )
    command.upgrade(config, "head")


def knows(scripts: ScriptDirectory, revision: str) -> bool:
    """Whether this version has that revision."""
    try:
        return scripts.get_revision(revision) is not None
    except CommandError:
        return False


def _configure(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")  # allowed: sql of constants; a PRAGMA takes no parameters
    cursor.close()


def _touch(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise BadDatabase(f"the database file cannot be created or written: {error.strerror}") from None
