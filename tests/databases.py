"""The database of a test: a file of SQLite in its folder, or one of a PostgreSQL server, and what stands in it.

RESCUE_CDS_TEST_DATABASE=postgresql puts every test that asks here on PostgreSQL (`make test-postgres`).
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from app.store import engine
from app.store.models import metadata
from tests import npm
from tests.postgres import ROLE, Server, Unavailable, aside

NEWEST: Final = "newest_schema"
"""The database that others are copied from."""

_made: dict[Path, str] = {}
"""Databases on PostgreSQL, by the file that each stands for."""
_free: list[str] = []
"""Such databases of the newest schema, empty."""
_MOST_FREE: Final = 4


@dataclass(frozen=True, slots=True)
class Database:
    """Seen from outside: as another process sees it, what is committed. `path` is None on PostgreSQL."""

    url: str
    path: Path | None = None

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        if self.path is None:
            return server().execute(query, database=self._name, role=ROLE)
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(query).fetchall()

    def records(self, query: str) -> list[dict[str, Any]]:
        """The same, by the names of the columns."""
        if self.path is None:
            return server().records(query, database=self._name, role=ROLE)
        with closing(sqlite3.connect(self.path)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(query)]

    def execute(self, *statements: str) -> None:
        """Each committed alone."""
        if self.path is None:
            for statement in statements:
                server().execute(statement, database=self._name, role=ROLE)
            return
        with closing(sqlite3.connect(self.path)) as connection:
            for statement in statements:
                connection.execute(statement)
                connection.commit()

    def tables(self) -> list[str]:
        if self.path is None:
            query = "select tablename from pg_tables where schemaname = 'public' order by 1"
        else:
            query = "select name from sqlite_master where type = 'table' order by 1"
        return [name for (name,) in self.rows(query)]

    def content(self) -> bytes:
        """Every byte that is kept: of the file and its log, or of every value of every table."""
        if self.path is not None:
            files = sorted(self.path.parent.glob(f"{self.path.name}*"))
            return b"".join(path.read_bytes() for path in files if path.is_file())
        values = (
            value
            for table in self.tables()
            for row in self.rows(f'select * from "{table}"')  # noqa: S608
            for value in row
        )
        return b"\x00".join(value if isinstance(value, bytes) else str(value).encode() for value in values)

    @property
    def _name(self) -> str:
        return self.url.rpartition("/")[2]


def is_postgresql() -> bool:
    return os.environ.get("RESCUE_CDS_TEST_DATABASE", "sqlite") == "postgresql"


def empty(path: Path) -> Database:
    """A database without a table; on PostgreSQL one that this file stands for."""
    return _of(path, template="")


def newest(path: Path) -> Database:
    """A database of the newest schema, the same one whenever the same file is named."""
    if not is_postgresql() and path.parent.is_dir() and not path.exists():
        shutil.copy(_newest_file(), path)
    return _of(path, template=NEWEST if is_postgresql() else "")


def at_first_start(path: Path) -> Database:
    """As the service finds it when it is new: no file yet, or what `rescue-cds db upgrade` has made."""
    return _of(path, template=NEWEST if is_postgresql() else "")


def _of(path: Path, *, template: str) -> Database:
    if not is_postgresql():
        return Database(f"sqlite+aiosqlite:///{path}", path)
    path = path.absolute()
    if path not in _made:
        if template and _free:
            _made[path] = _free.pop()
        else:
            if template:
                _template()
            _made[path] = server().create_database(template=template)
    return Database(_made[path])


def forget(known: frozenset[Path]) -> None:
    """Empty what was made since, for the next test, or drop what is not as it was made: to make and to drop a database
    takes the server a checkpoint."""
    for path in [path for path in _made if path not in known]:
        url = _made.pop(path)
        name = url.rpartition("/")[2]
        if len(_free) < _MOST_FREE and _is_newest(name):
            server().execute(_EMPTIED, database=name)
            _free.append(url)
        else:
            server().drop_database(name)


def _is_newest(name: str) -> bool:
    _template()
    return server().execute(_SCHEMA, database=name) == _newest_schema()


@cache
def _newest_schema() -> list[tuple[Any, ...]]:
    return server().execute(_SCHEMA, database=NEWEST)


_SCHEMA: Final = """
    select 'column', table_name::text, column_name::text, data_type::text, is_nullable::text
    from information_schema.columns where table_schema = 'public'
    union all select 'index', tablename::text, indexname::text, '', '' from pg_indexes where schemaname = 'public'
    union all select 'constraint', conrelid::regclass::text, conname::text, pg_get_constraintdef(oid),
        convalidated::text from pg_constraint where connamespace = 'public'::regnamespace
    union all select 'revision', coalesce((select query_to_xml('table alembic_version', false, true, '')::text
        where to_regclass('alembic_version') is not null), ''), '', '', ''
    order by 1, 2, 3
"""
_EMPTIED: Final = "\n".join(
    (
        "do $$ begin",
        "set local session_replication_role = replica;",  # the order of foreign keys does not matter then
        *(f"delete from {table.name};" for table in metadata.sorted_tables),  # noqa: S608
        "perform setval(oid, 1, false) from pg_class where relkind = 'S' and relnamespace = 'public'::regnamespace;",
        "end $$",
    )
)


def known() -> frozenset[Path]:
    return frozenset(_made)


@cache
def server() -> Server:
    """One for this process; it ends with it. Skips the test where there is no PostgreSQL, or fails it where that is
    required."""
    try:
        return Server().start()
    except Unavailable as error:
        npm.absent("postgresql", str(error))


@cache
def _template() -> None:
    made = server().create_database(NEWEST)
    aside(_migrate(made))


@cache
def _newest_file() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="rescue-cds-schema-")
    _kept.append(folder)
    path = Path(folder.name) / "newest.db"
    aside(_migrate(f"sqlite+aiosqlite:///{path}"))
    return path


_kept: list[Any] = []
"""Lives as long as the process."""


async def _migrate(url: str) -> None:
    made = engine.create(url, purpose="schema")
    try:
        await engine.migrate(made)
    finally:
        await made.dispose()
