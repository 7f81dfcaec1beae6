"""The schema: brought up to date from every revision with all it holds, on both databases; refused when foreign."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Integer, LargeBinary, MetaData, Table, func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.store import engine, models, readonly, verify
from app.store.decisions import Store
from app.store.errors import BadSchema

REVISIONS = [one.revision for one in ScriptDirectory.from_config(engine.migrations()).walk_revisions()][::-1]
NEWEST = REVISIONS[-1]
ROWS = 23
MANY = 403
"""More than two pages of what the revision that rewrites rows reads at once."""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path}/decisions.db"
        return
    server = request.getfixturevalue("postgresql")
    made = server.create_database()
    yield made
    server.drop_database(made.rpartition("/")[2])


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[AsyncEngine]:
    made = engine.create(url, purpose="schema")
    try:
        yield made
    finally:
        await made.dispose()


def _to(connection: Connection, revision: str) -> None:
    config = engine.migrations()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


async def at(made: AsyncEngine, revision: str) -> None:
    async with made.begin() as connection:
        await connection.run_sync(_to, revision)


def reflected(connection: Connection) -> MetaData:
    found = MetaData()
    found.reflect(connection)
    return found


def value(table: Table, name: str, number: int) -> Any:
    """Something for that column, as long as the column is, and with what a text or bytes may hold."""
    column = table.c[name]
    for key in column.foreign_keys:
        return value(key.column.table, key.column.name, number)
    if column.nullable and number % 2:
        return None
    if isinstance(column.type, Integer):
        return number + 1
    if isinstance(column.type, LargeBinary):
        return bytes(range(256)) + number.to_bytes(4, "big")
    start = f"{number:06d}-{table.name}-{name}"
    if len(start) > 30:
        start = f"{number:06d}-{hashlib.sha256(start.encode()).hexdigest()[:20]}"
    return (start + "\"'\\ä☃\U0001f9ea\n%s {}" * 40)[: getattr(column.type, "length", None) or 600]


def filling(found: MetaData, numbers: range) -> dict[str, list[dict[str, Any]]]:
    """Rows for every table."""
    return {
        table.name: [{column.name: value(table, column.name, number) for column in table.columns} for number in numbers]
        for table in found.sorted_tables
        if table.name != "alembic_version"
    }


def fill(connection: Connection, found: MetaData, numbers: range) -> None:
    for name, rows in filling(found, numbers).items():
        connection.execute(insert(found.tables[name]), rows)


def kept(connection: Connection, found: MetaData) -> dict[str, list[dict[str, Any]]]:
    """What stands in these columns."""
    return {
        table.name: sorted((dict(row) for row in connection.execute(select(table)).mappings()), key=repr)
        for table in found.sorted_tables
        if table.name != "alembic_version"
    }


@pytest.mark.parametrize("revision", REVISIONS)
async def test_nothing_is_lost_from_any_revision(url: str, revision: str) -> None:
    async with opened(url) as made:
        await at(made, revision)
        async with made.begin() as connection:
            then = await connection.run_sync(reflected)
            await connection.run_sync(fill, then, range(ROWS))
            before = await connection.run_sync(kept, then)
        assert {len(rows) for rows in before.values()} == {ROWS}
        await engine.migrate(made)
        async with made.connect() as connection:
            assert await connection.run_sync(kept, then) == before
        await engine.expect(made)


async def test_what_was_recorded_before_the_chain_stands_in_it(url: str) -> None:
    async with opened(url) as made:
        await at(made, "0005")
        async with made.begin() as connection:
            then = await connection.run_sync(reflected)
            await connection.run_sync(fill, then, range(MANY))
        await engine.migrate(made)
        async with made.connect() as connection:
            counted = verify.Count()
            found = [str(one) async for one in verify.faults(connection, count=counted)]
            assert [one for one in found if not one.startswith("knowledge")] == [], "whose hash is made up here"
            assert (counted.decisions, counted.feedback) == (MANY, MANY)
            digests = select(func.count()).where(func.length(models.decisions.c.facts_digest) == 64)
            assert await connection.scalar(digests) == MANY
        async with made.begin() as connection:
            await connection.execute(text("UPDATE decisions SET outcome = 'x' WHERE id LIKE '000007%'"))
        async with made.connect() as connection:
            changed = [one async for one in verify.faults(connection)]
        assert [one.table for one in changed if one.table != "knowledge"] == ["decisions"]


@pytest.mark.parametrize("revision", REVISIONS[:-1])
async def test_what_an_older_version_inserts_fits_into_the_newest_schema(url: str, revision: str) -> None:
    """Its processes run on while the schema is brought up to date, on connections that know the statements already."""
    async with opened(url) as made:
        await at(made, revision)
        async with made.begin() as connection:
            then = await connection.run_sync(reflected)
        older = engine.create(url, purpose="write")
        try:
            for numbers in (range(3), range(3, 5)):
                async with older.begin() as connection:
                    await connection.run_sync(fill, then, numbers)
                    assert all((await connection.run_sync(kept, then)).values())
                if numbers.start == 0:
                    await engine.migrate(made)
        finally:
            await older.dispose()
        async with made.connect() as connection:
            found = await connection.run_sync(kept, then)
        assert {len(rows) for rows in found.values()} == {5}


async def test_the_migrations_make_what_the_models_say(url: str) -> None:
    def differences(connection: Connection) -> list[Any]:
        context = MigrationContext.configure(connection, opts={"compare_type": _other_kind, "render_as_batch": True})
        return list(compare_metadata(context, models.metadata))

    async with opened(url) as made:
        await engine.migrate(made)
        async with made.connect() as connection:
            assert await connection.run_sync(differences) == []
            sync = await connection.run_sync(lambda sync: reflected(sync).tables["decisions"])
            assert {column.name for column in sync.columns} == {column.name for column in models.decisions.columns}


def _other_kind(_context: object, _column: object, _meta: object, found: Any, wanted: Any) -> bool:
    """True when the types differ; ours that decorate a type are compared by what they decorate, and by its length."""
    inner = getattr(wanted, "impl_instance", wanted)
    if getattr(found, "length", None) != getattr(inner, "length", None):
        return True
    return found._type_affinity is not inner._type_affinity


# --- refusals


@pytest.mark.parametrize("revision", REVISIONS[:-1])
async def test_an_older_schema_is_refused_with_the_remedy_and_left_alone(url: str, revision: str) -> None:
    async with opened(url) as made:
        await at(made, revision)
        for refuses in (engine.expect, engine.ready):
            with pytest.raises(BadSchema, match=f"{revision}, this version needs {NEWEST}.*rescue-cds db upgrade"):
                await refuses(made)
        async with made.connect() as connection:
            assert (await connection.run_sync(engine.standing)).found == revision


async def test_a_newer_schema_is_refused(url: str) -> None:
    async with opened(url) as made:
        await engine.migrate(made)
        async with made.begin() as connection:
            await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        for refuses in (engine.expect, engine.ready, engine.migrate):
            with pytest.raises(BadSchema, match=f"9999, this version knows up to {NEWEST}: use the version that wrote"):
                await refuses(made)


@pytest.mark.parametrize(
    "tables",
    [
        ("theirs (x integer)",),
        ("decisions (x integer)",),
        ("theirs (x integer)", "alembic_version (version_num varchar(32))"),
        ("alembic_version (version_num varchar(32))",),
    ],
    ids=["theirs", "of-our-name", "with-revisions-of-its-own", "revisions-only"],
)
async def test_the_tables_of_somebody_else_are_refused_and_left_alone(url: str, tables: tuple[str, ...]) -> None:
    def names(connection: Connection) -> set[str]:
        return set(reflected(connection).tables)

    async with opened(url) as made:
        async with made.begin() as connection:
            for table in tables:
                await connection.execute(text(f"CREATE TABLE {table}"))
            if "alembic_version" in str(tables):
                await connection.execute(text("INSERT INTO alembic_version VALUES ('0003')"))
            before = await connection.run_sync(names)
        for refuses in (engine.expect, engine.ready, engine.migrate):
            with pytest.raises(BadSchema, match="not of this service: give it a database of its own"):
                await refuses(made)
        async with made.connect() as connection:
            assert await connection.run_sync(names) == before


async def test_an_empty_database_is_made_by_the_service_in_sqlite_only(url: str) -> None:
    async with opened(url) as made:
        with pytest.raises(BadSchema, match="is empty: run `rescue-cds db upgrade`"):
            await engine.expect(made)
        if made.dialect.name == "postgresql":
            with pytest.raises(BadSchema, match="is empty: run `rescue-cds db upgrade`"):
                await engine.ready(made)
            await engine.migrate(made)
        await engine.ready(made)
        await engine.expect(made)


async def test_a_report_refuses_what_the_service_refuses(url: str) -> None:
    async with opened(url) as made:
        await at(made, "0003")
    looking = readonly.create(url)
    try:
        with pytest.raises(BadSchema, match=r"0003.*rescue-cds db upgrade"):
            async with readonly.snapshot(looking):
                pass
    finally:
        await looking.dispose()


def test_there_is_no_way_back() -> None:
    scripts = ScriptDirectory.from_config(engine.migrations())
    for revision in REVISIONS:
        with pytest.raises(RuntimeError, match="only goes forward: restore the backup"):
            scripts.get_revision(revision).module.downgrade()


def test_the_revisions_are_one_line() -> None:
    scripts = ScriptDirectory.from_config(engine.migrations())
    assert scripts.get_heads() == [NEWEST]
    assert [f"{number:04d}" for number in range(1, len(REVISIONS) + 1)] == REVISIONS


# --- all or nothing, one after the other


async def test_an_upgrade_that_fails_leaves_what_was(url: str) -> None:
    async with opened(url) as made:
        await at(made, "0002")
        async with made.connect() as connection:
            before = await connection.run_sync(lambda sync: sorted(reflected(sync).tables))

        def fails(line: str) -> None:
            if line.startswith("0005"):
                raise OSError("the disk is gone")

        with pytest.raises(engine.BadDatabase, match="is as it was"):
            await engine.migrate(made, progress=fails)
        async with made.connect() as connection:
            assert (await connection.run_sync(engine.standing)).found == "0002"
            assert await connection.run_sync(lambda sync: sorted(reflected(sync).tables)) == before
        await engine.migrate(made)
        await engine.expect(made)


async def test_two_upgrades_at_once_are_made_one_by_one(url: str) -> None:
    lines: list[str] = []
    async with opened(url) as one, opened(url) as two:
        await asyncio.gather(*(engine.migrate(made, progress=lines.append) for made in (one, two)))
        await engine.expect(two)
    assert [line[:4] for line in lines if not line.startswith("another")] == REVISIONS


@pytest.mark.postgresql
async def test_an_upgrade_says_that_it_waits_for_another(postgresql: Any) -> None:
    url = postgresql.create_database()
    waits = asyncio.Event()

    def progress(line: str) -> None:
        if "waiting" in line:
            waits.set()

    async with opened(url) as one, opened(url) as two:
        async with one.begin() as connection:
            await connection.execute(select(func.pg_advisory_xact_lock(engine._TURN)))
            job = asyncio.create_task(engine.migrate(two, progress=progress))
            async with asyncio.timeout(30):
                await waits.wait()
            assert not job.done()
        await job
        await engine.expect(one)
    postgresql.drop_database(url.rpartition("/")[2])


async def test_a_store_opens_what_was_brought_up_to_date(url: str, tmp_path: Path) -> None:
    async with opened(url) as made:
        await engine.migrate(made)
    async with Store(url, spool=tmp_path / "spool") as store:
        await store.keep_knowledge("f" * 64, b"files")
        assert await store.knowledge("f" * 64) == b"files"
