"""A service with its database and clients, and what is held against the record when all is over."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from tests.durability import commands, record
from tests.durability.calls import Calls, templates
from tests.durability.load import Clients, Ledger
from tests.durability.processes import HOST, Place, Service, Start, free_ports, starter
from tests.durability.record import Audit
from tests.figures import Figure
from tests.postgres import Server

Database = Literal["sqlite", "postgresql"]

SEED: Final = 20


@dataclass(slots=True)
class Stage:
    """All that a scene plays with; the service is not started. `others`: further replicas; `through`: a free port."""

    folder: Path
    url: str
    server: Server | None
    service: Service
    others: tuple[Service, ...]
    through: int
    clients: Clients
    calls: Calls

    @property
    def ledger(self) -> Ledger:
        return self.clients.ledger

    @property
    def postgresql(self) -> Server:
        assert self.server is not None
        return self.server


@dataclass(frozen=True, slots=True)
class Outcome:
    """The record after a scene: against the clients' ledger, by the database's own check, by the chain."""

    audit: Audit
    sound: str
    chain: str
    told: int
    calls: int


@asynccontextmanager
async def opened(
    kind: Database,
    *,
    start: Start = "loaded",
    replicas: int = 1,
    keys: str = "",
    spool_mib: int | None = None,
    keep_alive: bool = True,
    proxied: bool = False,
) -> AsyncIterator[Stage]:
    """A stage in a directory of its own. `keys` are further keys of `[service]`; `proxied`: clients
    call another port in place of the service's own, where something has to stand between."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rescue-cds-durability-")))
        url, server = await stack.enter_async_context(_database(kind, folder=folder))
        made = await stack.enter_async_context(starter(start))
        store = f'spool = "{folder}/spool"\n' + ("" if spool_mib is None else f"spool_mib = {spool_mib}\n")
        first = free_ports(2 * replicas + 1)
        through = first + 2 * replicas
        # Replicas are one service, which cards name by one address.
        keys += f'\npublic_url = "http://{HOST}:{through if proxied else first}"'
        services = [
            await stack.enter_async_context(
                Service(Place(folder, first + 2 * number, url, service=keys, store=store), starter=made)
            )
            for number in range(replicas)
        ]
        address = f"http://{HOST}:{through}" if proxied else services[0].url
        clients = await stack.enter_async_context(Clients(address, ledger=Ledger(), keep_alive=keep_alive))
        calls = Calls(await templates(datetime.now(UTC)), seed=SEED)
        yield Stage(folder, url, server, services[0], tuple(services[1:]), through, clients, calls)


async def outcome(stage: Stage) -> Outcome:
    """What has become of everything, when the services have ended."""
    rows = await record.rows(stage.url)
    sound = await record.integrity(stage.url, server=stage.server)
    chain = await commands.verified(stage.url)
    found = record.audit(stage.ledger.entries.values(), rows)
    return Outcome(found, sound, chain, stage.ledger.told, len(stage.ledger.entries))


def kept(outcome: Outcome) -> tuple[Figure, ...]:
    """What holds of the record after whatever happened."""
    found = outcome.audit
    return (
        Figure("lost: answered, not in the record", f"{len(found.lost)} of {found.told}", not found.lost),
        Figure("answered with other bytes than recorded", str(len(found.altered)), not found.altered),
        Figure("doubled: requests with two decisions, and no flag", str(len(found.doubled)), not found.doubled),
        Figure("integrity", outcome.sound, outcome.sound == "ok"),
        Figure("chain", outcome.chain, outcome.chain.startswith("ok")),
    )


def said(ledger: Ledger) -> str:
    """How all sendings ended."""
    return ", ".join(f"{end}: {count}" for end, count in sorted(ledger.ends.items()))


@asynccontextmanager
async def _database(kind: Database, *, folder: Path) -> AsyncIterator[tuple[str, Server | None]]:
    """The address of an empty database at the newest schema, and its server."""
    if kind == "sqlite":
        yield f"sqlite+aiosqlite:///{folder}/decisions.db", None
        return
    server = await asyncio.to_thread(Server().start)
    try:
        url = server.create_database("record")
        await commands.upgraded(url)
        yield url, server
    finally:
        await asyncio.to_thread(server.close)
