"""How long a commit takes, beside the bare floor: the same bytes inserted and committed by the driver alone.

Both on the same disk and by turns in the same run, since nothing else can be compared on a machine with other work. The
floor keeps one row in one table and commits each by itself; the store keeps the rows of a decision, its place in the
chain and its claim, and commits what waits together. Nothing here is held to a time.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import statistics
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import asyncpg  # type: ignore[import-untyped]

from app.store.decisions import Decision, Shown, Store
from tests.durability import commands
from tests.durability.stage import SEED
from tests.figures import Figure, Figures
from tests.postgres import Server

ROUNDS: Final = {"small": 3, "full": 20}
BLOCK: Final = 64
WIDTHS: Final = (1, 32)
FACTS_BYTES: Final = 24_000
ANSWER_BYTES: Final = 9_000
"""About what a patient of the sandbox takes."""

KNOWLEDGE: Final = "0" * 64

Keep = Callable[[Decision], Awaitable[object]]


@dataclass(slots=True)
class Seen:
    """Milliseconds of each commit, and commits a second of each block."""

    latencies: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)


def decisions(count: int, *, chosen: random.Random, now: datetime, share: float = 1.0) -> list[Decision]:
    """As a hook leaves them, with facts and an answer that nothing can pack; of these a `share`."""
    return [
        Decision(
            id=str(uuid.UUID(int=chosen.getrandbits(128), version=4)),
            created_at=now,
            client="anonymous",
            tenant="hospital",
            service="anakinra-ruxolitinib-patient-view",
            hook="patient-view",
            hook_instance=str(uuid.UUID(int=chosen.getrandbits(128), version=4)),
            request_digest=f"{chosen.getrandbits(256):064x}",
            knowledge_hash=KNOWLEDGE,
            outcome="card",
            status=200,
            answer=chosen.randbytes(int(share * ANSWER_BYTES / 2)).hex().encode(),
            patient=f"patient-{number % 50}",
            facts=chosen.randbytes(int(share * FACTS_BYTES / 2)).hex().encode(),
            versions={"service": "0", "knowledge": "0"},
            verdicts={"pilot-full": {"verdict": "unknown"}},
            cards=(Shown(str(uuid.UUID(int=chosen.getrandbits(128), version=4)), "protocol", "info"),),
            claim=f"{chosen.getrandbits(256):064x}",
        )
        for number in range(count)
    ]


async def measured(keep: Keep, made: Sequence[Decision], *, width: int, seen: Seen) -> None:
    """All of them kept, so many at once."""
    left = iter(made)

    async def client() -> None:
        for decision in left:
            began = time.perf_counter()
            await keep(decision)
            seen.latencies.append((time.perf_counter() - began) * 1000)

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(width)))
    seen.rates.append(len(made) / (time.perf_counter() - began))


async def compared(floor: Keep, store: Keep, *, rounds: int) -> dict[tuple[int, str], Seen]:
    """Blocks of both by turns, at each width."""
    chosen, now = random.Random(SEED), datetime.now(UTC)
    found = {(width, name): Seen() for width in WIDTHS for name in ("floor", "store")}
    for keep in (floor, store):
        await measured(keep, decisions(8, chosen=chosen, now=now), width=1, seen=Seen())
    for number in range(rounds):
        for width in WIDTHS:
            pair: list[tuple[str, Keep]] = [("floor", floor), ("store", store)]
            for name, keep in pair if number % 2 == 0 else reversed(pair):
                await measured(keep, decisions(BLOCK, chosen=chosen, now=now), width=width, seen=found[width, name])
    return found


@asynccontextmanager
async def sqlite_floor(path: Path) -> AsyncIterator[Keep]:
    """`sqlite3` alone, in a thread."""
    with closing(sqlite3.connect(path, check_same_thread=False)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE kept (id TEXT PRIMARY KEY, facts BLOB, answer BLOB)")
        one = asyncio.Lock()

        def insert(decision: Decision) -> None:
            row = (decision.id, decision.facts, decision.answer)
            connection.execute("INSERT INTO kept VALUES (?, ?, ?)", row)
            connection.commit()

        async def keep(decision: Decision) -> None:
            async with one:
                await asyncio.to_thread(insert, decision)

        yield keep


@asynccontextmanager
async def postgresql_floor(server: Server) -> AsyncIterator[Keep]:
    """`asyncpg` alone."""
    url = server.create_database("floor")
    connection: Any = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        await connection.execute("CREATE TABLE kept (id TEXT PRIMARY KEY, facts BYTEA, answer BYTEA)")
        one = asyncio.Lock()

        async def keep(decision: Decision) -> None:
            async with one:
                await connection.execute(
                    "INSERT INTO kept VALUES ($1, $2, $3)", decision.id, decision.facts, decision.answer
                )

        yield keep
    finally:
        await connection.close()


@asynccontextmanager
async def _store(url: str, *, folder: Path) -> AsyncIterator[Keep]:
    async with Store(url, spool=folder / "spool") as store:
        await store.keep_knowledge(KNOWLEDGE, b"{}")
        yield store.record


async def run(*, size: str) -> Figures:
    """Both databases, one after the other."""
    rows: list[Figure] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        url = f"sqlite+aiosqlite:///{folder}/decisions.db"
        async with sqlite_floor(folder / "floor.db") as floor, _store(url, folder=folder) as store:
            rows += _figures("SQLite", await compared(floor, store, rounds=ROUNDS[size]))
        server = await asyncio.to_thread(Server().start)
        try:
            url = server.create_database("record")
            await commands.upgraded(url)
            async with postgresql_floor(server) as floor, _store(url, folder=folder) as store:
                rows += _figures("PostgreSQL", await compared(floor, store, rounds=ROUNDS[size]))
        finally:
            await asyncio.to_thread(server.close)
    return Figures(
        f"A commit beside the bare driver: {FACTS_BYTES // 1000} kB of facts, {ANSWER_BYTES // 1000} kB of answer",
        tuple(rows),
    )


def _figures(name: str, found: dict[tuple[int, str], Seen]) -> list[Figure]:
    rows = []
    for width in WIDTHS:
        floor, store = found[width, "floor"], found[width, "store"]
        for what, seen in (("floor", floor), ("Store.record", store)):
            rows.append(Figure(f"{name}, {width} at once: {what}", f"{_milliseconds(seen)}, {_rate(seen):.0f}/s", True))
        ratio = _percentile(store.latencies, 0.5) / _percentile(floor.latencies, 0.5)
        rows.append(Figure(f"{name}, {width} at once: p50 beside the floor", f"x {ratio:.1f}", True))
    return rows


def _milliseconds(seen: Seen) -> str:
    p50, p99 = _percentile(seen.latencies, 0.5), _percentile(seen.latencies, 0.99)
    return f"p50 {p50:.2f} ms, p99 {p99:.2f} ms of {len(seen.latencies)}"


def _rate(seen: Seen) -> float:
    return statistics.median(seen.rates)


def _percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
