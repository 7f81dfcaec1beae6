"""The database: how it is opened, and that it keeps what it has confirmed.

One address chooses it: `sqlite+aiosqlite:///file.db` for one process, `postgresql+asyncpg://user@host/db` for several.

SQLite runs with a write-ahead log and synchronous=FULL: a committed decision survives a power cut, at about a third of
a millisecond (knowledge: security 0.9). One connection writes, because SQLite has one writer anyway and waiting in our
own queue is fairer than waiting for its lock; a few read beside it. The write-ahead log is a property of the file: one
that is not ours is refused before it is given one.

PostgreSQL is asked, on every new connection that may write, whether it is one that keeps what it confirms.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, create_engine, event, func, inspect, select
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool

from app.store import address
from app.store.apart import Blocking
from app.store.errors import BadDatabase, BadSchema
from app.store.lock import Lock

Purpose = Literal["write", "read", "schema", "report"]
"""`write` and `read` are the service's; `schema` writes and `report` reads too, and may take their time."""

GIVEN: Final = "--db or RESCUE_CDS_DB"
"""How a database is named, beside the configuration."""
UPGRADE: Final = "run `rescue-cds db upgrade`"
BACKUP: Final = "restore it from a backup (docs/operate.md)"
_TURN: Final = 7_283_365
"""PostgreSQL's advisory lock of an upgrade; any number, always this one."""

OLDEST: Final = 130000
"""Of PostgreSQL, as it numbers itself: 13, the oldest that its makers still maintained in 2025."""

_BUSY_MS: Final = 2000
_WAIT_SECONDS: Final = 30.0
"""For SQLite's one connection. Longer than all places take together on a busy machine: what has been evaluated shall
not be lost because the next ones are being evaluated meanwhile."""
_READERS: Final = 4
_PRAGMAS: Final = (
    f"busy_timeout={_BUSY_MS}",  # before anything that may have to wait
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "secure_delete=ON",  # what is removed is overwritten: it was patient data
)
_ALONE: Final[Mapping[str, str]] = {"immutable": "1"}
"""SQLite's parameter for a file that nobody changes while it is read."""
_PLACE: Final = "rescue_cds_place"
"""The option of an engine that says which database it is (`address.shown`): its own address may have been rewritten."""
_READER_PRAGMAS: Final = (f"busy_timeout={_BUSY_MS}", "query_only=ON")

CONNECT_SECONDS: Final = 2.0
_STATEMENT_MS: Final[Mapping[Purpose, int]] = {"write": 2000, "read": 1000, "schema": 0, "report": 0}
"""Below a hook's budget. The driver gives up half a second later: a server that stands still counts no time itself."""
_LOCK_MS: Final[Mapping[Purpose, int]] = {"write": 1500, "read": 1000, "schema": 10_000, "report": 10_000}
"""For a lock of a table. Whoever waits for one that excludes everybody makes everybody wait behind it."""
_IDLE_MS: Final = 10_000
"""A transaction that says nothing for as long has been forgotten; its locks are given back."""
_POOL: Final[Mapping[Purpose, tuple[int, int]]] = {"write": (1, 1), "read": (4, 4), "schema": (1, 0), "report": (1, 0)}
"""Connections that stay, and that come beside them under load. One task writes, with the help of one probe. Ten
processes at their most fit into the 100 connections that PostgreSQL grants by default."""
_CLOSE_SECONDS: Final = 0.2
_POOL_SECONDS: Final = 3.0
_RECYCLE_SECONDS: Final = 900
"""Shorter than what firewalls usually grant to a connection that says nothing."""


class Unfit(SQLAlchemyError):
    """The server would not keep what it confirms. For callers who take any database error as "not there"."""

    def __init__(self, fault: str) -> None:
        super().__init__(fault)
        self.fault = fault


class _Refused(SQLAlchemyError):
    """A file that is not ours, found out by the connection that would have changed it. `said` raises what it holds."""

    def __init__(self, refusal: BadDatabase | BadSchema) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


# --- engines -----------------------------------------------------------------------------------------------------


def create(url: str, *, purpose: Purpose = "write") -> AsyncEngine:
    """An engine for a database address. Raises BadDatabase; connects only when used.

    A new SQLite file is readable by its owner only; one to read from must be there.
    """
    parsed = address.parsed(url)
    with address.named(address.shown(parsed)):
        return _postgresql(parsed, purpose) if address.is_postgresql(parsed) else _sqlite(parsed, purpose)


def named(engine: AsyncEngine) -> AbstractContextManager[None]:
    """Errors about this engine's database say which one it is."""
    return address.named(str(engine.sync_engine.get_execution_options().get(_PLACE, "")))


def _sqlite(url: URL, purpose: Purpose) -> AsyncEngine:
    reads = purpose in ("read", "report")
    path, place = address.file(url), address.shown(url)
    if path is not None and path.is_dir():
        raise _directory()
    if path is None:
        if reads:
            raise BadDatabase("a database in memory is its own process's: name the file of the service")
    elif reads:
        if not path.is_file():
            raise BadDatabase(f"no database file is there: name the file that the service writes, by {GIVEN}")
        # The service opens what it wrote itself, and makes it when it was removed meanwhile no more than a report does.
        mode = "ro" if purpose == "report" else "rw"
        url = url.set(database=f"file:{quote(str(path.absolute()))}", query={"mode": mode, "uri": "true"})
    else:
        _touch(path)
    made = create_async_engine(
        url,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=_READERS if reads else 1,
        max_overflow=0,
        pool_timeout=_WAIT_SECONDS,
        pool_reset_on_return=None,  # every user ends its own transaction; a second rollback costs a thread switch
        hide_parameters=True,
        connect_args={"isolation_level": None},  # the driver begins nothing: `begin` below does
        execution_options={_PLACE: place},
    )
    _prepare(made.sync_engine, reads=reads, path=path)
    return made


def blocking(url: str) -> Blocking | None:
    """SQLite's one writing connection, for a thread of its own; None where a transaction is made by an asynchronous
    driver."""
    parsed = address.parsed(url)
    if address.file(parsed) is None:
        return None
    made = create_engine(
        parsed.set(drivername="sqlite"),
        pool_size=1,
        max_overflow=0,
        pool_timeout=_WAIT_SECONDS,
        pool_reset_on_return=None,
        hide_parameters=True,
        connect_args={"isolation_level": None},
    )
    _prepare(made, reads=False, path=None)  # `ready` has looked at the file: this one's time is that of a commit
    return Blocking(made)


def _prepare(made: Engine, *, reads: bool, path: Path | None) -> None:
    """How a connection to SQLite is set, and how its transactions begin. The first that writes looks at the file
    before it sets anything: a write-ahead log would stay in a file that is refused."""
    pragmas = _READER_PRAGMAS if reads else _PRAGMAS
    begin = "BEGIN" if reads else "BEGIN IMMEDIATE"  # one that reads first and writes then could not wait for its turn
    unknown = None if reads else path

    def configure(connection: Any, _record: object) -> None:
        nonlocal unknown
        if unknown is not None:
            try:
                _look(unknown)
            except (BadDatabase, BadSchema) as refusal:
                raise _Refused(refusal) from None
            unknown = None
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")  # allowed: sql of constants; a PRAGMA takes no parameters
        cursor.close()

    event.listen(made, "connect", configure)
    event.listen(made, "begin", lambda connection: connection.exec_driver_sql(begin))


def _look(path: Path) -> None:
    """Raises BadSchema for a SQLite file that this version must not write to, BadDatabase for a directory, and
    SQLAlchemyError for what cannot be read. Changes nothing; an absent or empty file is as good as one of ours."""
    if path.is_dir():
        raise _directory()
    try:
        if not path.stat().st_size:
            return
    except OSError:  # whoever makes or opens it says why it cannot
        return
    found = _seen(path.resolve())
    refusal = None if found is None or found.is_empty or found.is_known else found.refusal()
    if refusal is not None:
        raise refusal


def _seen(path: Path) -> Standing | None:
    """What a file holds, seen without a byte of it changed; None where a transaction that was cut off has to be taken
    back before anything can be seen. Raises SQLAlchemyError.

    A file with nothing beside it is whole, and is read as one that nobody changes: without locks, and without the
    files that a write-ahead log would have beside it.
    """
    log, journal = (path.with_name(f"{path.name}-{end}").exists() for end in ("wal", "journal"))
    ways = ({}, _ALONE) if log or journal else (_ALONE, {})
    failed: SQLAlchemyError | None = None
    for way in ways:
        made = create_engine(
            URL.create("sqlite", database=f"file:{quote(str(path))}", query={"mode": "ro", "uri": "true", **way}),
            poolclass=NullPool,
            hide_parameters=True,
            connect_args={"timeout": _BUSY_MS / 1000},
        )
        try:
            with made.connect() as connection:
                return standing(connection)
        except SQLAlchemyError as error:
            failed = failed or error
    if failed is not None and not journal:
        raise failed
    return None


def _directory() -> BadDatabase:
    return BadDatabase(f"this is a directory, no database file: name a file in it, by {GIVEN}")


def _postgresql(url: URL, purpose: Purpose) -> AsyncEngine:
    statement = _STATEMENT_MS[purpose]
    settings = {
        "application_name": f"rescue-cds {purpose}",
        "statement_timeout": str(statement),
        "lock_timeout": str(_LOCK_MS[purpose]),
        "idle_in_transaction_session_timeout": str(_IDLE_MS if statement else 0),
        "timezone": "UTC",
    }
    reads = purpose in ("read", "report")
    settings |= {"default_transaction_read_only": "on"} if reads else {"synchronous_commit": "on"}
    size, more = _POOL[purpose]
    options: dict[str, Any] = {
        "timeout": CONNECT_SECONDS,
        "command_timeout": statement / 1000 + 0.5 if statement else None,
        "server_settings": settings,
        "connection_class": _impatient(),
    }
    tls = address.tls(url)
    if tls is not None:
        options["ssl"] = tls
    made = create_async_engine(
        address.without_tls(url),
        pool_size=size,
        max_overflow=more,
        pool_timeout=_POOL_SECONDS,
        pool_recycle=_RECYCLE_SECONDS,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args=options,
        execution_options={_PLACE: address.shown(url)},
    )
    if not reads:
        event.listen(made.sync_engine, "connect", _assert_durable)
    return made


def _impatient() -> type:
    """The driver's connection, which says good-bye to a server that stands still for a moment only: whoever has waited
    for that server in vain waits for this too."""
    import asyncpg  # type: ignore[import-untyped]  # takes its time to load, and SQLite does without

    class Connection(asyncpg.Connection):  # type: ignore[misc]
        async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 # the driver's signature
            await super().close(timeout=None if timeout is None else min(timeout, _CLOSE_SECONDS))

    return Connection


def _touch(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise BadDatabase(f"the database file cannot be created or written: {error.strerror}") from None


# --- what a server is --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Server:
    """What a PostgreSQL server says about itself on this connection."""

    version: int
    synchronous_commit: str
    fsync: str
    in_recovery: str
    read_only: str
    encoding: str

    @property
    def settings(self) -> str:
        """For people."""
        return f"synchronous_commit {self.synchronous_commit}, fsync {self.fsync}, {self.encoding}"

    def faults(self) -> Iterator[str]:
        """Why it would not keep what it confirms, or cannot hold it; each with the remedy."""
        if self.version < OLDEST:
            found = self.version // 10000
            yield f"PostgreSQL {found} is too old: {OLDEST // 10000} or newer is needed"
        if self.in_recovery == "true":
            yield "this PostgreSQL server is a standby: name the primary"
        elif self.read_only == "on":
            yield "this PostgreSQL database is read-only (default_transaction_read_only): set it off for this role"
        if self.encoding.upper() not in ("UTF8", "UTF-8"):
            yield f"the database is encoded in {self.encoding}: create it with ENCODING 'UTF8'"
        if self.fsync != "on":
            yield "fsync is off on this PostgreSQL server: a power cut would lose confirmed decisions: set it on"
        if self.synchronous_commit not in ("on", "remote_apply"):
            yield (
                f"synchronous_commit is {self.synchronous_commit} on this connection: a crash would lose confirmed "
                "decisions: let nothing between (a connection pooler) or on the server change it from on"
            )


SERVER: Final = (
    "SELECT current_setting('server_version_num')::int, current_setting('synchronous_commit'), "
    "current_setting('fsync'), pg_is_in_recovery()::text, current_setting('default_transaction_read_only'), "
    "current_setting('server_encoding')"
)


def _assert_durable(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute(SERVER)
    found: tuple[Any, ...] = cursor.fetchone()
    cursor.close()
    connection.rollback()
    for fault in Server(*found).faults():
        raise Unfit(fault)


async def server(connection: AsyncConnection) -> Server:
    """Of a PostgreSQL connection."""
    found: Sequence[Any] = (await connection.exec_driver_sql(SERVER)).one()
    return Server(*found)


@contextmanager
def said(what: str) -> Iterator[None]:
    """Errors of the database as BadDatabase: what could not be done, why as far as it can be told, and the remedy.

    Nothing of a driver's own message: it may hold the address or a value.
    """
    try:
        yield
    except Unfit as error:
        raise BadDatabase(error.fault) from None
    except _Refused as error:
        raise error.refusal from None
    except (SQLAlchemyError, OSError) as error:
        raise BadDatabase(f"{what}: {_why(error)}") from None


_STATES: Final[Mapping[str, str]] = {
    "28": f"the server refuses the role or its password: check the address ({GIVEN}, else configured)",
    "3D000": "the server has no database of that name: create it, owned by the role of the service",
    "42501": "the role lacks a permission: let it own the database",
    "53": "the server has no connection, memory or disk left: see its log",
    "55P03": "a table is held by somebody else: try again when there is less to do",
    "57014": "the server did not finish in time: try again when there is less to do",
    "57P": "the server is starting or stopping: try again",
}
"""By SQLSTATE, or the beginning of one (PostgreSQL, appendix A of its manual)."""


def _why(error: BaseException) -> str:
    state = ""
    for found in _causes(error):
        state = state or str(getattr(found, "sqlstate", None) or "")
        code = str(getattr(found, "sqlite_errorname", None) or "")
        if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return f"it is damaged, or no database: {BACKUP}"
        if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return "another process is writing to it: stop that first"
        if code.startswith("SQLITE_FULL"):
            return "the disk is full: make room"
        if isinstance(found, ssl.SSLError):
            return "the server's certificate, or TLS itself, is refused: see ssl and sslrootcert in the address"
        if isinstance(found, TimeoutError):
            return "the server does not answer in time: check its address, its log and the network between"
        if isinstance(found, (ConnectionError, OSError)) and not isinstance(found, SQLAlchemyError):
            return "the server cannot be reached: check that it runs, its address, and the network between"
    for length in (5, 3, 2):
        if state[:length] in _STATES:
            return _STATES[state[:length]]
    return f"check its address, permissions and free space{f' ({state})' if state else ''}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and what it was made of."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        found = waiting.pop(0)
        if found is None or found in seen:
            continue
        seen.append(found)
        yield found
        waiting += [found.orig] if isinstance(found, DBAPIError) else []
        waiting += [found.__cause__, found.__context__]


# --- the schema --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Standing:
    """How a database's schema stands to this version's. `found` is None where nothing says."""

    found: str | None
    newest: str
    is_known: bool
    is_empty: bool
    """No table at all."""

    @property
    def is_newest(self) -> bool:
        return self.found == self.newest

    def refusal(self) -> BadSchema | None:
        """Why this version does not work on it, with the remedy; None when it does."""
        if self.is_newest:
            return None
        if self.is_empty:
            return BadSchema(f"the database is empty: {UPGRADE}")
        if self.found is None:
            return BadSchema("the database holds tables that are not of this service: give it a database of its own")
        if self.is_known:
            return BadSchema(
                f"the database has schema revision {self.found}, this version needs {self.newest}: "
                f"make a backup, then {UPGRADE}"
            )
        return BadSchema(
            f"the database has schema revision {self.found}, this version knows up to {self.newest}: "
            "use the version that wrote it, or a newer one"
        )


def standing(connection: Connection) -> Standing:
    """Inside `run_sync`."""
    scripts = ScriptDirectory.from_config(migrations())
    newest = str(scripts.get_current_head())
    names = set(inspect(connection).get_table_names())
    heads = MigrationContext.configure(connection).get_current_heads() if "alembic_version" in names else ()
    # A table of that name that is somebody else's has revisions that nobody here knows, and not our tables.
    found = heads[0] if len(heads) == 1 and "decisions" in names else None
    known = found is not None and _knows(scripts, found)
    return Standing(found, newest, known, not names)


def migrations() -> Config:
    """Where the revisions of the schema are."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


async def expect(engine: AsyncEngine) -> None:
    """Raises BadSchema unless the schema is this version's, BadDatabase when that cannot be read."""
    with named(engine):
        with said("the database cannot be opened"):
            async with engine.connect() as connection:
                found = await connection.run_sync(standing)
        refusal = found.refusal()
        if refusal is not None:
            raise refusal


async def ready(engine: AsyncEngine) -> None:
    """What the service asks of its database at start, with the engine that writes.

    A SQLite file is whole, and an empty one is given the newest schema; else raises BadDatabase or BadSchema: an older
    schema is somebody's record, and is changed when somebody says so (`rescue-cds db upgrade`).
    """
    if engine.dialect.name == "sqlite":
        with named(engine), said("the database cannot be opened"):
            async with engine.connect() as connection:
                damaged = await _found(connection, "PRAGMA quick_check(1)")
                is_empty = (await connection.run_sync(standing)).is_empty
        if damaged:
            with named(engine):
                raise BadDatabase(f"the database is damaged: {BACKUP}")
        if is_empty:
            await migrate(engine)
    await expect(engine)


async def migrate(engine: AsyncEngine, *, progress: Callable[[str], None] = lambda _: None) -> None:
    """Bring an empty or older database to the newest schema: all of it, or nothing of it. One job after the other.

    `progress` is told a line for each revision. Wants an engine made to change the schema, which gives it time. Raises
    BadSchema for a schema this version does not know or a database that is not ours, BadDatabase when it cannot be
    done.
    """
    with named(engine), said("the schema could not be brought up to date, and is as it was"):
        async with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                await _take_turn(connection, progress)
            await connection.run_sync(_upgrade, progress)


async def damage(connection: AsyncConnection) -> list[str]:
    """What is wrong with the database, in the words of its own checks; reads all of a SQLite file."""
    if connection.dialect.name == "sqlite":
        found = await _found(connection, "PRAGMA integrity_check")
        broken: Sequence[Any] = (await connection.exec_driver_sql("PRAGMA foreign_key_check")).fetchall()
        return found + [f"a row of {row[0]} names one of {row[2]} that is not there" for row in broken[:10]]
    invalid = await connection.exec_driver_sql(
        "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid OR NOT indisready ORDER BY 1"
    )
    return [f"index {name} is not valid: REINDEX it" for (name,) in invalid]


async def _found(connection: AsyncConnection, check: str) -> list[str]:
    """What a check of SQLite found."""
    rows = [str(said) for (said,) in await connection.exec_driver_sql(check)]
    return [] if rows == ["ok"] else rows


async def _take_turn(connection: AsyncConnection, progress: Callable[[str], None]) -> None:
    if await connection.scalar(select(func.pg_try_advisory_xact_lock(_TURN))):
        return
    progress("another upgrade is at work: waiting for it")
    await connection.execute(select(func.set_config("lock_timeout", "0", True)))
    await connection.execute(select(func.pg_advisory_xact_lock(_TURN)))
    await connection.execute(select(func.set_config("lock_timeout", str(_LOCK_MS["schema"]), True)))


def _upgrade(connection: Connection, progress: Callable[[str], None]) -> None:
    found = standing(connection)
    if found.is_newest:
        return
    refusal = found.refusal()
    if refusal is not None and not (found.is_empty or found.is_known):
        raise refusal
    config = migrations()
    config.attributes.update(connection=connection, progress=progress)
    command.upgrade(config, "head")


def _knows(scripts: ScriptDirectory, revision: str) -> bool:
    try:
        return scripts.get_revision(revision) is not None
    except CommandError:
        return False


# --- one process -------------------------------------------------------------------------------------------------


def lock(url: str) -> Lock:
    """The lock of that database, not held yet; a file that is refused gets none. Raises BadDatabase for an address
    that is none."""
    parsed = address.parsed(url)
    path = address.file(parsed)

    def look() -> None:
        if path is not None:
            with address.named(address.shown(parsed)), said("the database cannot be opened"):
                _look(path)

    return Lock(parsed, look=look)
