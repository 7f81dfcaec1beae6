"""`rescue-cds db`: the schema brought up to date, as a job of its own; and whether a database is fit for the record.

Who calls says where the address comes from (`address`): command line, environment, configuration.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect

from app.store import address as addresses
from app.store import engine as engines
from app.store.errors import BadDatabase
from app.store.models import metadata

INTERRUPTED: Final = 130

Address = Callable[[argparse.Namespace], str]
"""The database's address, of the options `--db` and `--config`."""


def register(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], *, address: Address
) -> argparse._SubParsersAction[argparse.ArgumentParser]:
    """The group with its sub-commands; others can be added to what is returned."""
    group = commands.add_parser("db", help="the decision database: its schema, its fitness, how long it keeps what")
    actions = group.add_subparsers(required=True, metavar="ACTION")

    upgrade = actions.add_parser(
        "upgrade",
        help="make the schema this version's, in an empty database or an older one",
        description="Brings the schema up to date, all of it or nothing. Make a backup before: there is no way back. "
        "SQLite: the service must not be running. PostgreSQL: it may; two upgrades at once are made one by one.",
    )
    _options(upgrade)
    upgrade.set_defaults(run=lambda options: _upgrade(address(options)))

    check = actions.add_parser(
        "check",
        help="read only: schema, settings of the server, integrity",
        description="Says whether this version's service would start on the database and be sure of what it commits. "
        "Reads all of a SQLite file. Changes nothing, beside a running service too.",
        epilog="exit status: 0 fit, 1 not fit, or not to be opened",
    )
    _options(check)
    check.set_defaults(run=lambda options: _check(address(options)))
    return actions


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--db", metavar="URL", help="the database (default: RESCUE_CDS_DB, else configured)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the configuration that names the database")


def _upgrade(url: str) -> int:
    parsed = addresses.parsed(url)
    if addresses.in_memory(parsed):
        raise BadDatabase("a database in memory is its own process's: name a file")
    try:
        with engines.lock(url):
            print(addresses.shown(parsed), flush=True)
            made = asyncio.run(_upgraded(url))
    except KeyboardInterrupt:
        print("interrupted: the schema is as it was")
        return INTERRUPTED
    print(f"schema {made[-1]}: up to date" if made[:-1] else f"schema {made[-1]}: nothing to do")
    return 0


async def _upgraded(url: str) -> list[str]:
    """The revisions that were made, then the one that the schema has."""
    made: list[str] = []

    def progress(line: str) -> None:
        print(line, flush=True)
        made.append(line)

    engine = engines.create(url, purpose="schema")
    try:
        await engines.migrate(engine, progress=progress)
        with engines.said("the database cannot be read"):
            async with engine.connect() as connection:
                return [*made, str((await connection.run_sync(engines.standing)).found)]
    finally:
        await engine.dispose()


def _check(url: str) -> int:
    print(addresses.shown(addresses.parsed(url)), flush=True)
    faults = asyncio.run(_faults(url))
    for fault in faults:
        print(f"wrong: {fault}")
    print("not fit" if faults else "fit: schema, settings and integrity")
    return 1 if faults else 0


async def _faults(url: str) -> list[str]:
    """What is wrong. Raises BadDatabase when it cannot be read at all."""
    faults: list[str] = []
    engine = engines.create(url, purpose="report")
    try:
        with engines.said("the database cannot be read"):
            async with engine.connect() as connection:
                found = await connection.run_sync(engines.standing)
                refusal = found.refusal()
                if refusal is not None:
                    faults.append(str(refusal))
                else:
                    print(f"schema {found.found}", flush=True)
                    faults += await connection.run_sync(lambda sync: list(_missing(sync)))
                if engine.dialect.name == "postgresql":
                    faults += await _of_server(url)
                faults += await engines.damage(connection)
    finally:
        await engine.dispose()
    return faults


async def _of_server(url: str) -> list[str]:
    """As the connection finds it that the service would write with."""
    engine = engines.create(url, purpose="schema")
    try:
        with engines.said("the database cannot be opened for writing"):
            async with engine.connect() as connection:
                server = await engines.server(connection)
    except BadDatabase as error:
        return [str(error)]  # allowed: error-text of our own
    finally:
        await engine.dispose()
    print(f"PostgreSQL {server.version // 10000}.{server.version % 10000}: {server.settings}", flush=True)
    return []


def _missing(connection: Connection) -> Iterator[str]:
    """What this version's tables have and these have not."""
    inspector = inspect(connection)
    there = set(inspector.get_table_names())
    for table in metadata.sorted_tables:
        if table.name not in there:
            yield f"table {table.name} is missing: {engines.BACKUP}"
            continue
        columns = {column["name"] for column in inspector.get_columns(table.name)}
        for column in table.columns:
            if column.name not in columns:
                yield f"column {table.name}.{column.name} is missing: {engines.BACKUP}"
        indexes = {index["name"] for index in inspector.get_indexes(table.name)}
        for index in sorted(str(index.name) for index in table.indexes):
            if index not in indexes:
                yield f"index {index} is missing: {engines.BACKUP}"
