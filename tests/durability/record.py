"""What stands in the database, read beside the service and without its code, held against what clients were told."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import asyncpg  # type: ignore[import-untyped]

from tests.durability.load import Entry
from tests.postgres import Server

_COLUMNS: Final = "d.id, d.hook_instance, d.created_at, d.client, d.tenant, d.service, d.request_digest, d.flags"
_FROM: Final = "FROM decisions d LEFT JOIN decision_answers a ON a.decision_id = d.id"
_SQLITE: Final = f"SELECT {_COLUMNS}, coalesce(sha256(a.body), '') {_FROM}"
_POSTGRES: Final = f"SELECT {_COLUMNS}, coalesce(encode(sha256(a.body), 'hex'), '') {_FROM}"

_ORDER: Final = (
    "SELECT c.ref FROM chain c JOIN writers w ON w.id = c.writer WHERE c.kind = 'decision' ORDER BY w.number, c.seq"
)


@dataclass(frozen=True, slots=True)
class Row:
    """A decision as it stands; `answer` is the digest of its bytes, '' where there are none."""

    id: str
    hook_instance: str
    created_at: str
    client: str
    tenant: str
    service: str
    request_digest: str
    flags: str
    answer: str

    @property
    def key(self) -> tuple[str, ...]:
        """What makes two requests the same."""
        return self.client, self.tenant, self.service, self.hook_instance, self.request_digest

    @property
    def is_duplicate(self) -> bool:
        """It was answered while the database was away, and the same request elsewhere too: both stay, one says so."""
        return "duplicate" in json.loads(self.flags)


@dataclass(frozen=True, slots=True)
class Audit:
    """Clients' ledger beside the record.

    `duplicates`: decisions that say they are one. `lost`: told and not there. `altered`: told other bytes than stand
    there. `doubled`: requests with two decisions of which none says so. `untold`: decisions that no client was told.
    `early`: those on the disk when the call was cut, and told when it was sent again. `unlike`: answers to a repeat
    with other bytes than the first.
    """

    rows: int
    told: int
    duplicates: int
    lost: tuple[str, ...]
    altered: tuple[str, ...]
    doubled: tuple[str, ...]
    untold: int
    early: int
    unlike: int


def audit(entries: Iterable[Entry], rows: Sequence[Row]) -> Audit:
    """Every entry that was told, against every row."""
    told = [entry for entry in entries if entry.digest]
    by_id = {row.id: row for row in rows}
    there = {entry.decision: by_id.get(entry.decision) for entry in told}
    times = Counter(row.key for row in rows if not row.is_duplicate)
    return Audit(
        rows=len(rows),
        told=len(told),
        duplicates=sum(row.is_duplicate for row in rows),
        lost=tuple(entry.decision for entry in told if there[entry.decision] is None),
        altered=tuple(
            entry.decision
            for entry in told
            if (row := there[entry.decision]) is not None
            and (row.answer != entry.digest or row.hook_instance != entry.key)
        ),
        doubled=tuple(key[3] for key, count in times.items() if count > 1),
        untold=len(by_id.keys() - there.keys()),
        early=sum(
            1
            for entry in told
            if entry.cut_at
            and (row := there[entry.decision]) is not None
            and datetime.fromisoformat(row.created_at).timestamp() < entry.cut_at
        ),
        unlike=sum(entry.unlike for entry in told),
    )


async def rows(url: str) -> list[Row]:
    """Every decision of that database."""
    return [Row(*map(_text, found)) for found in await _found(url, sqlite=_SQLITE, postgresql=_POSTGRES)]


async def order(url: str) -> list[str]:
    """The ids of decisions in the order in which the chain has them."""
    return [str(found[0]) for found in await _found(url, sqlite=_ORDER, postgresql=_ORDER)]


async def _found(url: str, *, sqlite: str, postgresql: str) -> list[tuple[Any, ...]]:
    if url.startswith("sqlite"):
        return await asyncio.to_thread(_of_sqlite, path(url), sqlite)
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        return [tuple(found) for found in await connection.fetch(postgresql)]
    finally:
        await connection.close()


def _of_sqlite(file: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        connection.create_function("sha256", 1, _sha256, deterministic=True)
        return connection.execute(query).fetchall()


def path(url: str) -> Path:
    """The file of an SQLite database."""
    return Path(url.partition(":///")[2])


def _sha256(body: bytes | None) -> str | None:
    return None if body is None else hashlib.sha256(body).hexdigest()


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


async def integrity(url: str, *, server: Server | None = None) -> str:
    """What the database's own check says: "ok", or what is wrong."""
    return await asyncio.to_thread(_sqlite_integrity if server is None else _amcheck, url, server)


def _sqlite_integrity(url: str, _: Server | None) -> str:
    with closing(sqlite3.connect(f"file:{path(url)}?mode=ro", uri=True)) as connection:
        try:
            found = [said for (said,) in connection.execute("PRAGMA integrity_check")]
            broken = connection.execute("PRAGMA foreign_key_check").fetchall()
        except sqlite3.DatabaseError as error:  # so damaged that it cannot even be checked
            return str(error)
    found += [f"{table}: a reference to nothing" for table, *_ in broken]
    return "; ".join(found[:3])


def _amcheck(url: str, server: Server | None) -> str:
    assert server is not None
    program = server.program("pg_amcheck")
    if program is None:
        return "pg_amcheck is not installed"
    database = url.rpartition("/")[2]
    server.execute("CREATE EXTENSION IF NOT EXISTS amcheck", database=database)
    command = [str(program), "-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres", "--heapallindexed", database]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    return "ok" if done.returncode == 0 else " ".join((done.stdout + done.stderr).split())[:300]
