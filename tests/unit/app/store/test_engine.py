"""How the database is opened: what it promises is asked of it, who only reads cannot write, and errors say a remedy."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.store import engine
from app.store.engine import Purpose
from app.store.errors import BadDatabase, BadSchema
from app.store.models import knowledge
from tests import npm
from tests.postgres import GUARDED, HOST, PASSWORD, Server, Unavailable
from tests.unit.app.store.test_store import spoil

ROW = {"hash": "a" * 64, "files": b"x"}


@asynccontextmanager
async def opened(url: str, purpose: Purpose = "write") -> AsyncIterator[AsyncEngine]:
    made = engine.create(url, purpose=purpose)
    try:
        yield made
    finally:
        await made.dispose()


async def settings(made: AsyncEngine, *statements: str) -> list[Any]:
    async with made.connect() as connection:
        return [await connection.scalar(text(statement)) for statement in statements]


async def write(made: AsyncEngine, name: str = "a") -> None:
    async with made.begin() as connection:
        await connection.execute(insert(knowledge), ROW | {"hash": name * 64})


# --- SQLite


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "decisions.db"


def exists(path: Path) -> bool:
    return path.exists()


def damage(path: Path) -> None:
    """One page in the middle is another."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = b"\x5a" * 4096
    path.write_bytes(content)


@pytest.fixture
async def url(path: Path) -> str:
    async with opened(f"sqlite+aiosqlite:///{path}", "schema") as made:
        await engine.migrate(made)
    return f"sqlite+aiosqlite:///{path}"


async def test_who_writes_waits_for_the_disk_and_who_reads_cannot_write(url: str) -> None:
    full = 2
    pragmas = ("PRAGMA journal_mode", "PRAGMA synchronous", "PRAGMA foreign_keys", "PRAGMA secure_delete")
    async with opened(url) as writer:
        assert await settings(writer, *pragmas) == ["wal", full, 1, 1]
        for purpose in ("read", "report"):
            async with opened(url, purpose) as reader:
                assert await settings(reader, "PRAGMA query_only", "PRAGMA busy_timeout") == [1, 2000]
                with pytest.raises(DBAPIError, match="readonly"):
                    await write(reader)
        assert await settings(writer, "SELECT count(*) FROM knowledge") == [0]


async def test_who_writes_has_the_file_from_the_beginning(url: str, path: Path) -> None:
    """A transaction that reads first and then writes fails at once when somebody has written between; here it is its
    turn that it waits for."""
    async with opened(url) as writer, writer.begin() as connection:
        await connection.execute(select(knowledge.c.hash))
        with (
            closing(sqlite3.connect(path, timeout=0)) as other,
            pytest.raises(sqlite3.OperationalError, match="locked"),
        ):
            other.execute("BEGIN IMMEDIATE")


async def test_readers_go_on_beside_a_writer_and_see_what_is_committed(url: str) -> None:
    async with opened(url) as writer, opened(url, "read") as reader:
        async with writer.begin() as connection:
            await connection.execute(insert(knowledge), ROW)
            assert (
                await asyncio.gather(*(settings(reader, "SELECT count(*) FROM knowledge") for _ in range(8)))
                == [[0]] * 8
            )
        assert await settings(reader, "SELECT count(*) FROM knowledge") == [1]


async def test_what_is_not_committed_is_not_there(url: str) -> None:
    async with opened(url) as writer:
        with pytest.raises(BadDatabase, match="x: "), engine.said("x"):
            async with writer.begin() as connection:
                await connection.execute(insert(knowledge), [ROW, ROW])
        async with writer.connect() as connection:
            await connection.execute(insert(knowledge), ROW)
        assert await settings(writer, "SELECT count(*) FROM knowledge") == [0]


@pytest.mark.parametrize("purpose", ["read", "report"])
async def test_who_reads_makes_no_file(path: Path, purpose: Purpose) -> None:
    with pytest.raises(BadDatabase, match="name the file that the service writes"):
        engine.create(f"sqlite+aiosqlite:///{path}", purpose=purpose)
    assert not exists(path)
    with pytest.raises(BadDatabase, match="in memory"):
        engine.create("sqlite+aiosqlite://", purpose=purpose)


async def test_a_damaged_file_is_refused_with_the_remedy(url: str, path: Path) -> None:
    async with opened(url) as writer:
        for number in range(40):
            async with writer.begin() as connection:
                await connection.execute(insert(knowledge), {"hash": f"{number:064d}", "files": b"x" * 3000})
        await engine.ready(writer)
    damage(path)
    async with opened(url) as writer:
        with pytest.raises(BadDatabase, match=r"damaged.*restore it from a backup \(docs/operate.md\)"):
            await engine.ready(writer)


async def test_a_file_that_is_no_database_is_refused_with_the_remedy(path: Path) -> None:
    spoil(path)
    async with opened(f"sqlite+aiosqlite:///{path}") as made:
        for refuses in (engine.ready, engine.expect, engine.migrate):
            with pytest.raises(BadDatabase, match=r"damaged, or no database: restore it from a backup"):
                await refuses(made)


def theirs(path: Path) -> bytes:
    """Another program's file, with a journal and no log."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE theirs (x)")
    return path.read_bytes()


def beside(path: Path) -> dict[str, bytes]:
    """The files of its folder."""
    return {one.name: one.read_bytes() for one in path.parent.iterdir()}


def cut_off(path: Path, *statements: str) -> None:
    """A process that dies behind these, with its connection open."""
    code = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1]); [c.execute(s) for s in sys.argv[2:]]; os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(path), *statements], check=True)


async def test_a_file_of_somebody_else_is_not_given_a_log(path: Path) -> None:
    before = {path.name: theirs(path)}
    async with opened(f"sqlite+aiosqlite:///{path}") as made:
        for refuses in (engine.ready, engine.expect, engine.migrate):
            with pytest.raises(BadSchema, match=f"^SQLite, {path}: the database holds tables that are not of this"):
                await refuses(made)
        with pytest.raises(SQLAlchemyError):
            await write(made)
    assert beside(path) == before


async def test_a_transaction_of_somebody_else_that_was_cut_off_is_not_taken_back(path: Path) -> None:
    theirs(path)
    rows = ["INSERT INTO theirs VALUES (hex(zeroblob(1500)))"] * 300
    cut_off(path, "PRAGMA cache_size=1", "BEGIN", *rows)
    before = beside(path)
    assert len(before) == 2
    async with opened(f"sqlite+aiosqlite:///{path}") as made:
        with pytest.raises(BadSchema, match="not of this service"):
            await engine.ready(made)
    assert beside(path) == before


async def test_ours_is_opened_with_a_journal_and_with_the_log_of_a_process_that_died(url: str, path: Path) -> None:
    cut_off(path, "BEGIN", "INSERT INTO knowledge VALUES ('a', x'00')", "COMMIT")
    assert exists(path.with_name("decisions.db-wal"))
    async with opened(url) as made:
        await engine.ready(made)
        assert await settings(made, "SELECT count(*) FROM knowledge") == [1]
    restored = path.with_name("restored.db")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM INTO ?", [str(restored)])
    async with opened(f"sqlite+aiosqlite:///{restored}") as made:
        await engine.ready(made)
        assert await settings(made, "PRAGMA journal_mode", "SELECT count(*) FROM knowledge") == ["wal", 1]


async def test_a_directory_is_said_to_be_one(tmp_path: Path) -> None:
    for purpose in ("write", "read", "report"):
        with pytest.raises(BadDatabase, match=f"^SQLite, {tmp_path}: this is a directory.*by --db or RESCUE_CDS_DB"):
            engine.create(f"sqlite+aiosqlite:///{tmp_path}", purpose=purpose)


async def test_a_file_that_somebody_else_writes_to_is_said(url: str, path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(engine, "_PRAGMAS", ("busy_timeout=1",))
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        async with opened(url) as made:
            with pytest.raises(BadDatabase, match="another process is writing to it"):
                await engine.migrate(made)


async def test_integrity_is_more_than_pages(url: str, path: Path) -> None:
    async with opened(url, "report") as made, made.connect() as connection:
        assert await engine.damage(connection) == []
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("INSERT INTO decision_facts VALUES ('nobody', 'p', x'00')")
    async with opened(url, "report") as made, made.connect() as connection:
        assert await engine.damage(connection) == ["a row of decision_facts names one of decisions that is not there"]


# --- what a server says of itself


def server(**changes: Any) -> engine.Server:
    good = {"version": 150000, "synchronous_commit": "on", "fsync": "on", "in_recovery": "false", "read_only": "off"}
    return engine.Server(**good | {"encoding": "UTF8"} | changes)


@pytest.mark.parametrize(
    "fine", [{}, {"version": 130000}, {"synchronous_commit": "remote_apply"}, {"version": 190001}], ids=str
)
def test_a_server_that_keeps_what_it_confirms(fine: dict[str, Any]) -> None:
    assert list(server(**fine).faults()) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": 120022}, "PostgreSQL 12 is too old: 13 or newer"),
        ({"synchronous_commit": "off"}, "synchronous_commit is off"),
        ({"synchronous_commit": "local"}, "synchronous_commit is local"),
        ({"synchronous_commit": "remote_write"}, "let nothing between"),
        ({"fsync": "off"}, "fsync is off .*: set it on"),
        ({"in_recovery": "true", "read_only": "on"}, "standby: name the primary"),
        ({"read_only": "on"}, "read-only"),
        ({"encoding": "SQL_ASCII"}, "encoded in SQL_ASCII: create it with ENCODING 'UTF8'"),
    ],
    ids=str,
)
def test_one_that_would_not_is_told_apart(changes: dict[str, Any], said: str) -> None:
    [fault] = server(**changes).faults()
    with pytest.raises(BadDatabase, match=said), engine.said("x"):
        raise engine.Unfit(fault)


# --- PostgreSQL


@pytest.fixture(scope="module")
def own() -> Iterator[Server]:
    """A server that these tests stop, hang and change."""
    try:
        made = Server()
    except Unavailable as error:
        npm.absent("postgresql", str(error))
    with made:
        yield made


@pytest.fixture
async def database(own: Server) -> AsyncIterator[str]:
    """A database of the newest schema; the server runs, with its first settings, before and after."""
    made = own.create_database()
    async with opened(made, "schema") as schema:
        await engine.migrate(schema)
    yield made
    own.resume()
    own.start()
    if own.execute("SELECT 1 FROM pg_file_settings WHERE sourcefile LIKE '%auto.conf'"):
        own.execute("ALTER SYSTEM RESET ALL")
        own.restart("immediate")
    own.drop_database(made.rpartition("/")[2])


def test_which_driver_serves_is_no_matter_of_the_address() -> None:
    assert engine.create("postgresql://u@h/d").dialect.driver == "asyncpg"


@pytest.mark.postgresql
async def test_connections_are_told_what_they_may_take(database: str) -> None:
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "synchronous_commit")
    shown = [f"SHOW {name}" for name in (*names, "default_transaction_read_only", "application_name", "timezone")]
    async with opened(database) as writer, opened(database, "read") as reader, opened(database, "schema") as schema:
        assert await settings(writer, *shown) == ["2s", "1500ms", "10s", "on", "off", "rescue-cds write", "UTC"]
        assert await settings(reader, *shown) == ["1s", "1s", "10s", "on", "on", "rescue-cds read", "UTC"]
        assert await settings(schema, *shown) == ["0", "10s", "0", "on", "off", "rescue-cds schema", "UTC"]
        with pytest.raises(DBAPIError, match="read-only transaction"):
            await write(reader)


@pytest.mark.postgresql
async def test_a_default_that_does_not_wait_for_the_disk_is_overruled(own: Server, database: str) -> None:
    own.execute("ALTER SYSTEM SET synchronous_commit = off")
    own.restart()
    async with opened(database) as writer:
        assert await settings(writer, "SHOW synchronous_commit") == ["on"]


@pytest.mark.postgresql
async def test_a_server_without_fsync_is_refused_at_start_and_is_none_while_running(own: Server, database: str) -> None:
    async with opened(database) as writer:
        await write(writer, "a")
        own.execute("ALTER SYSTEM SET fsync = off")
        own.restart()
        with pytest.raises(SQLAlchemyError):
            await write(writer, "b")
        for refuses in (engine.ready, engine.expect, engine.migrate):
            with pytest.raises(BadDatabase, match="fsync is off"):
                await refuses(writer)
        own.execute("ALTER SYSTEM SET fsync = on")
        own.restart()
        await write(writer, "c")
        assert await settings(writer, "SELECT count(*) FROM knowledge") == [2]


@pytest.mark.postgresql
async def test_a_database_that_cannot_hold_the_record_is_refused(own: Server) -> None:
    latin = own.create_database("latin", template="template0", options="ENCODING 'LATIN1'")
    closed = own.create_database("closed")
    own.execute('ALTER DATABASE "closed" SET default_transaction_read_only = on')
    try:
        for made, said in ((latin, "encoded in LATIN1"), (closed, "read-only")):
            async with opened(made, "schema") as schema:
                with pytest.raises(BadDatabase, match=said):
                    await engine.migrate(schema)
    finally:
        own.drop_database("latin")
        own.drop_database("closed")


@pytest.mark.postgresql
async def test_after_a_restart_nobody_fails(own: Server, database: str) -> None:
    async with opened(database) as writer, opened(database, "read") as reader:
        for name, mode in (("a", "fast"), ("b", "immediate"), ("c", "kill")):
            await settings(reader, "SELECT 1")
            own.restart(mode)  # type: ignore[arg-type]
            await write(writer, name)
            assert await settings(reader, "SELECT count(*) FROM knowledge") == [ord(name) - ord("a") + 1]


@pytest.mark.postgresql
async def test_a_statement_that_takes_too_long_is_ended_by_the_server(database: str) -> None:
    async with opened(database, "read") as reader:
        with pytest.raises(DBAPIError, match="statement timeout"):
            await settings(reader, "SELECT pg_sleep(60)")
        with pytest.raises(BadDatabase, match="did not finish in time"), engine.said("x"):
            await settings(reader, "SELECT pg_sleep(60)")
        assert await settings(reader, "SELECT 1") == [1]


@pytest.mark.postgresql
async def test_a_server_that_stands_still_is_given_up(own: Server, database: str) -> None:
    """Bounded by the driver alone: nothing here would end a wait for ever."""
    async with opened(database) as writer, opened(database, "read") as reader:
        await write(writer, "a")
        await settings(reader, "SELECT 1")
        own.pause()
        for attempt in (write(writer, "b"), settings(reader, "SELECT 1"), engine.expect(writer)):
            with pytest.raises((OSError, SQLAlchemyError, BadDatabase)):
                async with asyncio.timeout(60):
                    await attempt
        own.resume()
        await write(writer, "c")
        assert await settings(reader, "SELECT count(*) FROM knowledge WHERE hash LIKE 'c%'") == [1]


@pytest.mark.postgresql
async def test_what_keeps_it_from_being_opened_is_said_without_the_address(own: Server, database: str) -> None:
    name = database.rpartition("/")[2]
    guarded = own.url(name, role=GUARDED)
    async with opened(guarded) as made:
        await engine.expect(made)
    refused = {
        guarded.replace(PASSWORD, f"{PASSWORD}-secret-word"): "refuses the role or its password: check the address",
        own.url("nowhere", role=GUARDED): "no database of that name: create it",
        f"{guarded}?ssl=require": "cannot be reached",
        guarded.replace(HOST, "db.invalid"): "cannot be reached",
    }
    for address, said in refused.items():
        async with opened(address) as made:
            with pytest.raises(BadDatabase, match=said) as caught:
                await engine.ready(made)
            assert PASSWORD not in str(caught.value)
            assert caught.value.__cause__ is None
            assert caught.value.__suppress_context__
    own.stop()
    async with opened(guarded) as made:
        with pytest.raises(BadDatabase, match="cannot be reached: check that it runs"):
            await engine.ready(made)


@pytest.mark.postgresql
async def test_the_socket_of_the_machine_serves_too(own: Server, database: str) -> None:
    async with opened(own.socket_url(database.rpartition("/")[2])) as made:
        await engine.expect(made)


@pytest.mark.postgresql
async def test_a_role_that_may_not_make_tables_is_said(own: Server) -> None:
    made = own.create_database("not_ours")
    own.execute('ALTER DATABASE "not_ours" OWNER TO postgres')
    own.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC", database="not_ours")
    try:
        async with opened(made, "schema") as schema:
            with pytest.raises(BadDatabase, match="lacks a permission: let it own the database"):
                await engine.migrate(schema)
    finally:
        own.drop_database("not_ours")


@pytest.mark.postgresql
async def test_a_broken_index_is_found(own: Server, database: str) -> None:
    async with opened(database, "report") as made:
        async with made.connect() as connection:
            assert await engine.damage(connection) == []
        own.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'chain_ref'::regclass",
            database=database.rpartition("/")[2],
        )
        async with made.connect() as connection:
            assert await engine.damage(connection) == ["index chain_ref is not valid: REINDEX it"]


# --- TLS


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A key, and a certificate for `localhost` that it signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / f"{name}.pem", folder / f"{name}.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


@pytest.mark.postgresql
async def test_the_line_is_encrypted_and_the_server_known_as_the_address_says(
    own: Server, database: str, tmp_path: Path
) -> None:
    pem, key = certificate(tmp_path, "server")
    other, _ = certificate(tmp_path, "other")
    own.put("server.pem", pem.read_bytes())
    own.put("server.key", key.read_bytes())
    for name, value in (("ssl", "on"), ("ssl_cert_file", "server.pem"), ("ssl_key_file", "server.key")):
        own.execute(f"ALTER SYSTEM SET {name} = '{value}'")
    own.restart()
    by_name = database.replace(HOST, "localhost")
    encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    for address, is_encrypted in (
        (f"{by_name}?ssl=verify-full&sslrootcert={pem}", True),
        (f"{database}?sslmode=verify-ca&sslrootcert={pem}", True),
        (f"{database}?ssl=require", True),
        (database, True),
        (f"{database}?ssl=disable", False),
    ):
        async with opened(address) as made:
            assert await settings(made, encrypted) == [is_encrypted]
    for address in (
        f"{by_name}?ssl=verify-full&sslrootcert={other}",
        f"{database}?ssl=verify-full&sslrootcert={pem}",
        f"{database}?ssl=verify-ca&sslrootcert={other}",
    ):
        async with opened(address) as made:
            with pytest.raises(BadDatabase, match="certificate, or TLS itself, is refused"):
                await engine.ready(made)
