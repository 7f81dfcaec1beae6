"""`make bench-gateway`: the gateway beside a bare HTTP client, under load that does not wait. See README.md here."""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlencode

import aiohttp
import httpx
import uvloop

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from app import knowledge, plan  # noqa: E402  (the root has to be on the path first)
from app.gateway.access import Access  # noqa: E402
from app.gateway.budget import Budget, Deadline  # noqa: E402
from app.gateway.fhir import Gateway, Query  # noqa: E402
from app.settings import dev  # noqa: E402

HOST: Final = "127.0.0.1"
READS: Final = 7
DELAY_MS: Final = 200.0
DEADLINE: Final = dev().deadline_seconds
"""Seconds that a hook has, as the service gives it."""

CUT: Final = 10.0
"""Seconds after the last arrival at which hooks that are still under way are cut off and count as failed."""

HTTPX_RATES: Final = (10, 20)
"""Beyond these the pool of httpx collapses, and nothing more would be learned (knowledge: security 0.2)."""

TOKEN: Final = "bench-token"
HEADERS: Final = {
    "Accept": "application/fhir+json",
    "Accept-Encoding": "identity",
    "Cache-Control": "no-cache",
    "User-Agent": "rescue-cds",
    "Authorization": f"Bearer {TOKEN}",
}
TICKS: Final = os.sysconf("SC_CLK_TCK")

Hook = Callable[[int], Awaitable[int]]
"""Makes the reads of the hook of this number and says how many of them failed."""


@dataclass(slots=True)
class Figures:
    """What one client showed at one rate; a list entry a hook, or with `rounds` a round."""

    latencies: list[float] = field(default_factory=list)
    rounds: list[list[float]] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    peak: int = 0
    failed: int = 0
    reads: int = 0
    server_late: list[float] = field(default_factory=list)
    server_busy: list[float] = field(default_factory=list)


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=30.0, help="load for each client and rate, all rounds together"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rates", default="10,20,40,60", help="hooks per second")
    parser.add_argument("--quick", action="store_true", help="one round of 4 s, for CI")
    parser.add_argument("--only", choices=("bare aiohttp", "gateway", "plain httpx"), help="one client, for a profile")
    options = parser.parse_args()
    seconds, rounds = (4.0, 1) if options.quick else (min(options.seconds, 300.0), options.rounds)
    rates = [min(int(rate), 200) for rate in options.rates.split(",")]
    found = uvloop.run(_measure(rates=rates, seconds=seconds / rounds, rounds=rounds, only=options.only))
    _report(found)
    return 0


async def _measure(
    *, rates: Sequence[int], seconds: float, rounds: int, only: str | None
) -> dict[tuple[int, str], Figures]:
    found: dict[tuple[int, str], Figures] = {}
    process, port = _start()
    try:
        await _ready(port)
        async with _bare(port) as bare, _gateway(port) as gateway:
            hooks = {"bare aiohttp": bare, "gateway": gateway}
            for name, hook in hooks.items():
                if await hook(0):
                    raise SystemExit(f"{name}: a read failed before the load began: the benchmark measures nothing")
            for rate in rates:
                for number in range(rounds):
                    # Whoever comes second meets a warmer machine, so they take turns.
                    for name in list(hooks) if number % 2 == 0 else reversed(hooks):
                        if only in {None, name}:
                            figures = found.setdefault((rate, name), Figures())
                            await _round(figures, hooks[name], rate, seconds=seconds, process=process, port=port)
                            print(f"  {rate}/s, round {number + 1}: {name}", file=sys.stderr)
        for rate in (rate for rate in rates if rate in HTTPX_RATES and only in {None, "plain httpx"}):
            for number in range(rounds):
                async with _plain(port) as plain:
                    figures = found.setdefault((rate, "plain httpx"), Figures())
                    await _round(figures, plain, rate, seconds=seconds, process=process, port=port)
                    print(f"  {rate}/s, round {number + 1}: plain httpx", file=sys.stderr)
    finally:
        process.kill()
        process.wait()
    return dict(sorted(found.items(), key=lambda item: item[0][0]))


async def _round(
    figures: Figures, hook: Hook, rate: int, *, seconds: float, process: subprocess.Popen[bytes], port: int
) -> None:
    await _late(port)
    busy, began = _busy(process.pid), time.perf_counter()
    cpu = time.process_time()
    latencies, failed, peak = await _load(hook, rate=rate, count=max(1, round(rate * seconds)))
    figures.cpu_ms.append((time.process_time() - cpu) / len(latencies) * 1000)
    figures.server_busy.append((_busy(process.pid) - busy) / (time.perf_counter() - began))
    figures.server_late += await _late(port)
    figures.rounds.append(latencies)
    figures.latencies += latencies
    figures.failed += failed
    figures.reads += READS * len(latencies)
    figures.peak = max(figures.peak, peak)


async def _load(hook: Hook, *, rate: int, count: int) -> tuple[list[float], int, int]:
    """The latencies from the *scheduled* arrivals, so that a client that falls behind shows it; failed reads; peak."""
    loop = asyncio.get_running_loop()
    latencies: list[float] = []
    under_way: set[asyncio.Task[None]] = set()
    failed = peak = 0

    async def one(number: int, due: float) -> None:
        nonlocal failed
        lost = READS
        try:
            lost = await hook(number)
        finally:
            latencies.append((time.perf_counter() - due) * 1000)
            failed += lost

    first = time.perf_counter() + 0.05
    for number in range(count):
        due = first + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = loop.create_task(one(number + 1, due))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
        peak = max(peak, len(under_way))
    if under_way:
        _, cut = await asyncio.wait(under_way, timeout=CUT)
        for task in cut:
            task.cancel()
        await asyncio.gather(*cut, return_exceptions=True)
    return latencies, failed, peak


# --- the clients ------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _gateway(port: int) -> AsyncIterator[Hook]:
    """The service's gateway: deadline, budget, bulkhead, breaker, retries, a bounded body, the sieve."""
    base = f"http://{HOST}:{port}/fhir"
    searches = _searches()
    async with Gateway(limits=dev().fhir) as gateway:
        await gateway.meet(base, seconds=5)

        async def hook(number: int) -> int:
            budget, access = Budget(Deadline(DEADLINE)), Access(TOKEN)
            queries = [Query("Observation", (("patient", f"p{number}"), *search)) for search in searches]
            fetched = await asyncio.gather(
                *(gateway.fetch(query, base=base, access=access, budget=budget) for query in queries)
            )
            return sum(read.outcome != "ok" for read in fetched)

        yield hook


@asynccontextmanager
async def _bare(port: int) -> AsyncIterator[Hook]:
    """The same reads by aiohttp alone: no limit but the same deadline, and nothing looks at what came."""
    urls = _urls(port)
    timeout = aiohttp.ClientTimeout(total=DEADLINE)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
    ) as session:

        async def read(url: str) -> bool:
            try:
                async with session.get(url, headers=HEADERS) as answer:
                    return bool(await answer.read()) and answer.status == 200
            except (aiohttp.ClientError, TimeoutError):
                return False

        async def hook(number: int) -> int:
            done = await asyncio.gather(*(read(f"{url}&patient=p{number}") for url in urls))
            return done.count(False)

        yield hook


@asynccontextmanager
async def _plain(port: int) -> AsyncIterator[Hook]:
    """The same reads by httpx with its own transport. No deadline, because that would hide how long the queue is."""
    urls = _urls(port)
    async with httpx.AsyncClient(timeout=None, trust_env=False) as client:  # noqa: S113

        async def read(url: str) -> bool:
            try:
                return (await client.get(url, headers=HEADERS)).status_code == 200
            except httpx.HTTPError:
                return False

        async def hook(number: int) -> int:
            done = await asyncio.gather(*(read(f"{url}&patient=p{number}") for url in urls))
            return done.count(False)

        yield hook


def _searches() -> list[plan.Parameters]:
    """The searches of Observations that the service makes, without the patient, with all their codes."""
    needs = [need for need in knowledge.load().needs if need.resource_type == "Observation"]
    now = datetime.now(UTC)
    found = [tuple(plan.search(need, patient_id="", now=now)[1:]) for need in needs]
    if len(found) != READS:
        raise SystemExit(f"the plan has {len(found)} searches of Observations, this benchmark is about {READS}")
    return found


def _urls(port: int) -> list[str]:
    base = f"http://{HOST}:{port}/fhir/Observation"
    return [f"{base}?{urlencode(search, quote_via=quote, safe=':/,')}" for search in _searches()]


# --- the server -------------------------------------------------------------------------------------------------


def _start() -> tuple[subprocess.Popen[bytes], int]:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "tests.bench.slow_fhir", str(port), str(DELAY_MS)]
    return subprocess.Popen(command, cwd=ROOT), port


async def _ready(port: int) -> None:
    for _ in range(600):
        try:
            _, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return
    raise SystemExit("the FHIR server did not start within 60 s")


async def _late(port: int) -> list[float]:
    """By how many ms each answer left late since this was last asked."""
    async with aiohttp.ClientSession() as session, session.get(f"http://{HOST}:{port}/late") as answer:
        late: list[float] = await answer.json(content_type=None)
        return late


def _busy(pid: int) -> float:
    """Seconds of CPU of a process, user and system, from the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


# --- the table --------------------------------------------------------------------------------------------------


def _report(found: dict[tuple[int, str], Figures]) -> None:
    print(f"\n{READS} reads of {DELAY_MS:g} ms a hook, one process, one event loop; ms from the scheduled arrival")
    print("x: p99 beside bare aiohttp in the same round, median of the rounds; late: p99 of the server's own answers\n")
    print(
        f"{'hooks/s':>7} {'client':<13} {'hooks':>6} {'p50':>7} {'p95':>7} {'p99':>7} {'x':>5} | {'reads':>6} "
        f"{'failed':>6} | {'CPU ms/hook':>11} {'peak hooks':>10} | server: {'late':>5} {'busy':>5}"
    )
    for (rate, name), figures in found.items():
        bare = found.get((rate, "bare aiohttp"))
        ratio = "" if bare is None else f"{_ratio(figures, bare):5.2f}"
        cells = " ".join(f"{_percentile(figures.latencies, share):7.1f}" for share in (0.5, 0.95, 0.99))
        print(
            f"{rate:>7} {name:<13} {len(figures.latencies):>6} {cells} {ratio:>5} | {figures.reads:>6} "
            f"{figures.failed:>6} | {statistics.median(figures.cpu_ms):>11.2f} {figures.peak:>10} | "
            f"{_percentile(figures.server_late, 0.99):>13.1f} {statistics.median(figures.server_busy):>5.0%}"
        )
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    print(f"\nmost resident memory {memory:.0f} MB; load average {load:.1f} on {cores} cores")
    if load > cores:
        print("this machine has other work: nothing here but the CPU ms can be compared with another run")


def _ratio(figures: Figures, bare: Figures) -> float:
    pairs = zip(figures.rounds, bare.rounds, strict=False)
    return statistics.median(_percentile(mine, 0.99) / _percentile(theirs, 0.99) for mine, theirs in pairs)


def _percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


if __name__ == "__main__":
    sys.exit(main())
