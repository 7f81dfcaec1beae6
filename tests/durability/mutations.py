"""A copy of a record with one thing changed behind the service's back: `verify` finds it, and names the row.

Each mutation is drawn anew: a value of any column, a row taken away, two rows in each other's place, a row put back or
added, a tail cut off. What holds no statement of the record is left alone: the number that the database gives to a
feedback row, and gaps between the numbers of writers, whose order alone means something.
"""

# ruff: noqa: S608 # the names of tables and columns are written here, or the database's own

from __future__ import annotations

import asyncio
import hashlib
import random
import re
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from app.store import chain as forms
from app.store import engine, verify
from app.store.chain import Head
from app.store.decisions import Decision, Store
from app.store.feedback import Feedback
from app.store.verify import Count, Fault
from tests.durability import latency
from tests.durability.progress import Progress
from tests.durability.stage import SEED
from tests.figures import Figure, Figures

TIMES: Final = {"small": 100, "full": 1000}
WRITERS: Final = 4
EACH: Final = 75
"""Decisions of each writer."""

PATIENTS: Final = 50
GONE: Final = "patient-7"
"""Whose data have been removed before anything else happens."""

ROWS: Final = 100_000
_KNOWLEDGE: Final = b"{}"
_HASH: Final = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""Of no files at all, as knowledge files are hashed."""

_KEYS: Final = {
    "decisions": "id",
    "decision_cards": "decision_id",
    "decision_answers": "decision_id",
    "decision_facts": "decision_id",
    "writers": "id",
    "feedback": "digest",
}
"""By which column a fault names a row; of `chain` by writer and number."""

_UNSAID: Final = frozenset({("writers", "number"), ("feedback", "id")})


@dataclass(frozen=True, slots=True)
class Mutation:
    """What was done. One of `names` has to be named. `noted`: only with heads noted before can it be found."""

    what: str
    names: tuple[str, ...]
    noted: bool = False
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """A record that is whole: its file, its heads, and the rows that were removed on purpose."""

    file: bytes = field(repr=False)
    heads: tuple[Head, ...]
    removed: tuple[tuple[Any, ...], ...] = field(repr=False)


class _Unchanged(Exception):
    """This draw changes nothing, or cannot be made: another one."""


# --- a record ---------------------------------------------------------------------------------------------------


def url(path: Path) -> str:
    """The address of an SQLite file."""
    return f"sqlite+aiosqlite:///{path}"


def decisions(count: int, *, chosen: random.Random, now: datetime) -> list[Decision]:
    """With small facts and answers: it is the number of rows that counts here."""
    made = latency.decisions(count, chosen=chosen, now=now, share=0.02)
    return [replace(one, knowledge_hash=_HASH, patient=f"patient-{n % PATIENTS}") for n, one in enumerate(made)]


async def built(folder: Path) -> Record:
    """Several writers one after the other, feedback to some cards, one patient's data removed."""
    path, chosen, now = folder / "record.db", random.Random(SEED), datetime(2026, 11, 23, 12, tzinfo=UTC)
    removed: list[tuple[Any, ...]] = []
    for number in range(WRITERS):
        async with Store(url(path), spool=folder / "spool") as store:
            await store.keep_knowledge(_HASH, _KNOWLEDGE)
            made = decisions(EACH, chosen=chosen, now=now + timedelta(minutes=number))
            for start in range(0, EACH, 5):
                await asyncio.gather(*map(store.record, made[start : start + 5]))
            for one in made[:15]:
                entry = Feedback(one.cards[0].card, "overridden", reason_code="r", comment="words of a user")
                about = {"client": one.client, "tenant": one.tenant, "service": one.service}
                await store.keep_feedback([entry], **about, received_at=now)
            if number == 1:
                with closing(sqlite3.connect(path)) as connection:
                    query = "SELECT * FROM decision_facts WHERE patient = ?"
                    removed += connection.execute(query, (GONE,)).fetchall()
                await store.remove_patient(GONE, tenant="hospital")
    async with _reading(path) as connection:
        heads = tuple(await verify.heads(connection))
    return Record(_whole(path), heads, tuple(removed))


@asynccontextmanager
async def _reading(path: Path) -> AsyncIterator[AsyncConnection]:
    made = engine.create(url(path), purpose="report")
    try:
        async with made.connect() as connection:
            yield connection
    finally:
        await made.dispose()


def _whole(path: Path) -> bytes:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return connection.serialize()


async def faults(path: Path, *, expected: Sequence[Head] = (), count: Count | None = None) -> list[Fault]:
    """What `verify` finds."""
    async with _reading(path) as connection:
        return [fault async for fault in verify.faults(connection, expected=expected, count=count)]


def named(found: Sequence[Fault], mutation: Mutation) -> bool:
    """Whether one of the faults is about one of the rows."""
    texts = [f"{fault.row} {fault.what}" for fault in found]
    return any(re.search(rf"{re.escape(name)}(?!\d)", text) for name in mutation.names for text in texts)


# --- mutations --------------------------------------------------------------------------------------------------

Draw = Callable[[sqlite3.Connection, random.Random, Record], Mutation]


def drawn(connection: sqlite3.Connection, chosen: random.Random, record: Record) -> Mutation:
    """One single mutation, made in this copy."""
    while True:
        draw = chosen.choices(DRAWS, weights=WEIGHTS)[0]
        connection.execute("BEGIN")
        try:
            mutation = draw(connection, chosen, record)
        except (_Unchanged, sqlite3.IntegrityError):
            connection.rollback()
            continue
        connection.commit()
        return replace(mutation, kind=draw.__name__)


def changed(connection: sqlite3.Connection, chosen: random.Random, _: Record) -> Mutation:
    """One byte of one value."""
    table = chosen.choice([*_KEYS, "chain"])
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    column = chosen.choice([name for name in columns if (table, name) not in _UNSAID])
    rowid = chosen.choice(_rowids(connection, table))
    names = _names(connection, table, rowid)
    (value,) = connection.execute(f"SELECT {column} FROM {table} WHERE rowid = ?", (rowid,)).fetchone()
    if isinstance(value, str) and value and chosen.random() < 0.1:
        raw = bytearray(value.encode())
        raw[chosen.randrange(len(raw))] = 0xFF  # no text any more
        place = f"CAST(X'{raw.hex()}' AS TEXT)"
        connection.execute(f"UPDATE {table} SET {column} = {place} WHERE rowid = ?", (rowid,))
        return Mutation(f"{table}.{column}: no text", names)
    connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (_other(value, chosen), rowid))
    return Mutation(f"{table}.{column}: changed", (*names, *_names(connection, table, rowid)))


def removed(connection: sqlite3.Connection, chosen: random.Random, _: Record) -> Mutation:
    """A row of any table."""
    table = chosen.choice([*_KEYS, "chain"])
    rowid = chosen.choice(_rowids(connection, table))
    names = _names(connection, table, rowid)
    connection.execute(f"DELETE FROM {table} WHERE rowid = ?", (rowid,))
    return Mutation(f"{table}: a row removed", names)


_PLACES: Final = {
    "decisions": "id",
    "decision_answers": "decision_id",
    "decision_facts": "decision_id",
    "decision_cards": "decision_id",
    "feedback": "digest",
    "writers": "number",
    "chain": "seq",
}


def swapped(connection: sqlite3.Connection, chosen: random.Random, _: Record) -> Mutation:
    """Two rows in each other's place."""
    table = chosen.choice([*_PLACES])
    column = _PLACES[table]
    rowids = _rowids(connection, table)
    if table == "chain":
        (writer,) = connection.execute("SELECT id FROM writers ORDER BY number LIMIT 1").fetchone()
        rowids = [row for (row,) in connection.execute("SELECT rowid FROM chain WHERE writer = ?", (writer,))]
    one, other = chosen.sample(rowids, 2)
    names = (*_names(connection, table, one), *_names(connection, table, other))
    values = [
        connection.execute(f"SELECT {column} FROM {table} WHERE rowid = ?", (rowid,)).fetchone()[0]
        for rowid in (one, other)
    ]
    if values[0] == values[1]:
        raise _Unchanged
    aside = -1 if isinstance(values[0], int) else "aside"
    if table == "writers":  # the number is the rowid itself
        for old, new in ((one, -1), (other, one), (-1, other)):
            connection.execute("UPDATE writers SET number = ? WHERE number = ?", (new, old))
    else:
        for rowid, value in ((one, aside), (other, values[0]), (one, values[1])):
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (value, rowid))
    return Mutation(f"{table}: two rows swapped", names)


def put_back(connection: sqlite3.Connection, chosen: random.Random, record: Record) -> Mutation:
    """Patient data that were removed on purpose are there again."""
    row = chosen.choice(record.removed)
    connection.execute(f"INSERT INTO decision_facts VALUES ({', '.join('?' * len(row))})", row)
    return Mutation("decision_facts: a removed row put back", (str(row[0]),))


def copied(connection: sqlite3.Connection, chosen: random.Random, _: Record) -> Mutation:
    """A decision a second time under another id, without an entry, or with one before the first or after the last."""
    rowid = chosen.choice(_rowids(connection, "decisions"))
    id_ = f"{chosen.getrandbits(128):032x}"
    columns = [row[1] for row in connection.execute("PRAGMA table_info(decisions)")]
    chosen_columns = ", ".join("?" if name == "id" else name for name in columns)
    connection.execute(f"INSERT INTO decisions SELECT {chosen_columns} FROM decisions WHERE rowid = ?", (id_, rowid))
    # Facts and answer are as if they had never been: the digest says what stands there.
    connection.execute("UPDATE decisions SET facts_digest = '', answer_digest = '' WHERE id = ?", (id_,))
    place = chosen.choice(("none", "before", "after"))
    names: tuple[str, ...] = (id_,)
    if place != "none":
        found = connection.execute("SELECT * FROM decisions WHERE id = ?", (id_,))
        row = dict(zip([column[0] for column in found.description], found.fetchone(), strict=True))
        names += (_entered(connection, chosen, kind="decision", ref=id_, digest=forms.decision(row, []), place=place),)
    return Mutation(f"decisions: one added, with an entry: {place}", names)


def excused(connection: sqlite3.Connection, chosen: random.Random, _: Record) -> Mutation:
    """Facts and answer taken away, with an entry before the first or after the last that says it was on purpose."""
    (id_,) = connection.execute(
        "SELECT decision_id FROM decision_facts ORDER BY rowid LIMIT 1 OFFSET ?", (chosen.randrange(100),)
    ).fetchone()
    for table in ("decision_facts", "decision_answers"):
        connection.execute(f"DELETE FROM {table} WHERE decision_id = ?", (id_,))
    place = chosen.choice(("before", "after"))
    digest = forms.removal(id_, at="2026-11-23T12:00:00.000000+00:00")
    name = _entered(connection, chosen, kind="removal", ref=id_, digest=digest, place=place)
    return Mutation(f"decision_facts: removed, with an entry {place}", (id_, name))


def cut(connection: sqlite3.Connection, chosen: random.Random, record: Record) -> Mutation:
    """The last entries of a chain, without or with what they are about, without or with what says that they were."""
    writer, seq = chosen.choice(connection.execute("SELECT id, seq FROM writers").fetchall())
    count = chosen.randrange(1, 20)
    how = chosen.choice(("decisions", "entries", "both", "all of it"))
    query = "SELECT ref, kind FROM chain WHERE writer = ? AND seq > ?"
    tail = connection.execute(query, (writer, seq - count)).fetchall()
    ids = [ref for ref, kind in tail if kind == "decision"]
    if how != "entries":
        if not ids:
            raise _Unchanged
        for id_ in ids:
            _forget(connection, id_)
    if how != "decisions":
        connection.execute("DELETE FROM chain WHERE writer = ? AND seq > ?", (writer, seq - count))
    if how != "all of it":
        names = ids if how == "decisions" else [*ids, f"{writer}/{seq}"]
        return Mutation(f"tail cut: {how}", tuple(names))
    for ref, kind in tail:
        if kind == "feedback":
            connection.execute("DELETE FROM feedback WHERE digest = ?", (ref,))
    query = "SELECT hash FROM chain WHERE writer = ? AND seq = ?"
    (head,) = connection.execute(query, (writer, seq - count)).fetchone()
    connection.execute("UPDATE writers SET seq = ?, head = ? WHERE id = ?", (seq - count, head, writer))
    return Mutation("tail cut: all of it, found by a noted head", (f"{writer}/{seq}",), noted=True)


def rewritten(connection: sqlite3.Connection, chosen: random.Random, record: Record) -> Mutation:
    """A decision changed, and the whole chain of its writer written anew from there: only a noted head tells."""
    writer, seq, ref = chosen.choice(
        connection.execute("SELECT writer, seq, ref FROM chain WHERE kind = 'decision'").fetchall()
    )
    connection.execute("UPDATE decisions SET outcome = outcome || 'x' WHERE id = ?", (ref,))
    found = connection.execute("SELECT * FROM decisions WHERE id = ?", (ref,))
    row = dict(zip([column[0] for column in found.description], found.fetchone(), strict=True))
    cards = connection.execute(
        f"SELECT {', '.join(forms.CARD)} FROM decision_cards WHERE decision_id = ?", (ref,)
    ).fetchall()
    connection.execute(
        "UPDATE chain SET digest = ? WHERE writer = ? AND seq = ?", (forms.decision(row, cards), writer, seq)
    )
    query = "SELECT seq, kind, ref, digest FROM chain WHERE writer = ? ORDER BY seq"
    head = Head(writer, 0, forms.FIRST)
    for _, kind_, ref_, digest in connection.execute(query, (writer,)).fetchall():
        head = head.next(kind_, ref_, digest)
        connection.execute("UPDATE chain SET hash = ? WHERE writer = ? AND seq = ?", (head.hash, writer, head.seq))
    connection.execute("UPDATE writers SET head = ? WHERE id = ?", (head.hash, writer))
    return Mutation("chain written anew, found by a noted head", (f"{writer}/{head.seq}",), noted=True)


DRAWS: Final[tuple[Draw, ...]] = (changed, removed, swapped, put_back, copied, excused, cut, rewritten)
WEIGHTS: Final = (50, 16, 14, 3, 5, 4, 6, 2)


def _rowids(connection: sqlite3.Connection, table: str) -> list[int]:
    return [row for (row,) in connection.execute(f"SELECT rowid FROM {table}")]


def _names(connection: sqlite3.Connection, table: str, rowid: int) -> tuple[str, ...]:
    if table == "chain":
        found = connection.execute("SELECT writer, seq FROM chain WHERE rowid = ?", (rowid,)).fetchone()
        return (f"{found[0]}/{found[1]}",)
    return (str(connection.execute(f"SELECT {_KEYS[table]} FROM {table} WHERE rowid = ?", (rowid,)).fetchone()[0]),)


def _other(value: Any, chosen: random.Random) -> Any:
    """A value of the same kind that differs in one place."""
    if value is None or value == "":
        return "x"
    if isinstance(value, int):
        return value ^ (1 << chosen.randrange(12))
    place = chosen.randrange(len(value))
    if isinstance(value, bytes):
        return value[:place] + bytes([value[place] ^ (1 << chosen.randrange(8))]) + value[place + 1 :]
    other = chosen.choice([letter for letter in "0123456789abcdefXYZ-:" if letter != value[place]])
    return value[:place] + other + value[place + 1 :]


def _entered(
    connection: sqlite3.Connection, chosen: random.Random, *, kind: str, ref: str, digest: str, place: str
) -> str:
    """An entry that somebody adds who knows how hashes are made; its name."""
    writer, seq, head = chosen.choice(connection.execute("SELECT id, seq, head FROM writers").fetchall())
    number, previous = (seq + 1, head) if place == "after" else (-chosen.randrange(3), forms.FIRST)
    hash_ = forms.entry(previous, writer=writer, seq=number, said=(kind, ref, digest))
    connection.execute("INSERT INTO chain VALUES (?, ?, ?, ?, ?, ?)", (writer, number, kind, ref, digest, hash_))
    return f"{writer}/{seq}" if place == "after" else f"{writer}/{number}"


def _forget(connection: sqlite3.Connection, id_: str) -> None:
    for table in ("decision_cards", "decision_answers", "decision_facts"):
        connection.execute(f"DELETE FROM {table} WHERE decision_id = ?", (id_,))
    connection.execute("DELETE FROM decisions WHERE id = ?", (id_,))


# --- the figures ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Found:
    """`missed`: not found; `unnamed`: found, and no row of it named; `broken`: `verify` itself failed."""

    tried: Counter[str] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)
    unnamed: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


async def campaign(record: Record, *, times: int, folder: Path, progress: Progress) -> Found:
    """So many copies with one mutation each."""
    chosen, found, path = random.Random(SEED), Found(), folder / "copy.db"
    for number in range(times):
        _copied_to(path, record)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            mutation = drawn(connection, chosen, record)
        found.tried[mutation.kind] += 1
        said = f"{number}: {mutation.what}, {mutation.names[0]}"
        try:
            seen = await faults(path, expected=record.heads if mutation.noted else ())
        except Exception as error:  # noqa: BLE001 # that is what is counted
            found.broken.append(f"{said}: {type(error).__name__}")
        else:
            if not seen:
                found.missed.append(said)
            elif not named(seen, mutation):
                found.unnamed.append(f"{said}: {seen[0]}")
        progress.step()
    return found


async def false_alarms(record: Record, *, folder: Path) -> tuple[int, int]:
    """Faults of a copy that nobody has touched, and of one with the data of further patients removed."""
    path = folder / "copy.db"
    _copied_to(path, record)
    untouched = len(await faults(path, expected=record.heads))
    async with Store(url(path), spool=folder / "spool") as store:
        for number in range(10, 30):
            await store.remove_patient(f"patient-{number}", tenant="hospital")
    purged = len(await faults(path, expected=record.heads))
    return untouched, purged


def _copied_to(path: Path, record: Record) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    path.write_bytes(record.file)


@dataclass(frozen=True, slots=True)
class Large:
    """Entries of a large record, its faults, the seconds to find that out, and those to read and hash it bare."""

    entries: int
    faults: int
    seconds: float
    floor: float


async def large(folder: Path) -> Large:
    """A large record, made and verified."""
    path, chosen, now = folder / "large.db", random.Random(SEED), datetime(2026, 11, 23, 12, tzinfo=UTC)
    progress = Progress(f"a record of {ROWS} decisions", whole=ROWS // 500)
    async with Store(url(path), spool=folder / "spool") as store:
        await store.keep_knowledge(_HASH, _KNOWLEDGE)
        for _ in range(ROWS // 500):
            await asyncio.gather(*map(store.record, decisions(500, chosen=chosen, now=now)))
            progress.step()
    count, began = Count(), time.perf_counter()
    found = await faults(path, count=count)
    seconds = time.perf_counter() - began
    return Large(count.entries, len(found), seconds, await asyncio.to_thread(_read_bare, path))


def _read_bare(path: Path) -> float:
    """The seconds to read every value of the record in the order of the tables, and to hash it."""
    began, digest = time.perf_counter(), hashlib.sha256()
    with closing(sqlite3.connect(path)) as connection:
        for table in (*_KEYS, "chain"):
            for row in connection.execute(f"SELECT * FROM {table}"):
                digest.update(repr(row).encode())
    return time.perf_counter() - began


async def run(*, size: str) -> Figures:
    """A record, its copies, and at full size a large one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        record = await built(folder)
        untouched, purged = await false_alarms(record, folder=folder)
        times = TIMES[size]
        found = await campaign(record, times=times, folder=folder, progress=Progress("mutations", whole=times))
        measured = await large(folder) if size == "full" else None
    tried = ", ".join(f"{what} {count}" for what, count in found.tried.most_common())
    rows = [
        Figure("decisions of the record", f"{WRITERS * EACH} by {WRITERS} writers", True),
        Figure("faults of a copy that nobody touched", str(untouched), untouched == 0),
        Figure("faults after patients' data were removed", str(purged), purged == 0),
        Figure("single mutations", str(times), found.tried.total() == times),
        Figure("of", tried, True),
        Figure("not found", _list(found.missed), not found.missed),
        Figure("found, the row not named", _list(found.unnamed), not found.unnamed),
        Figure("verify failed", _list(found.broken), not found.broken),
    ]
    if measured is not None:
        whole = measured.faults == 0 and measured.entries >= ROWS
        rows.append(Figure("a large record: faults", f"{measured.faults} in {measured.entries} entries", whole))
        times_ = f"{measured.seconds:.1f} s (goal 10 s), read and hashed bare {measured.floor:.1f} s"
        rows.append(Figure("a large record: verify", times_, True))
    return Figures("A record changed behind the service's back", tuple(rows))


def _list(said: Sequence[str]) -> str:
    return "; ".join([str(len(said)), *said[:4]])
