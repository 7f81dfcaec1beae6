"""`make bench`: this service beside its floor, in one run. See README.md in this folder."""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import aiohttp

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.bench.body import call  # noqa: E402  (the root has to be on the path first)

HOST = "127.0.0.1"
PATH = "/cds-services/anakinra-ruxolitinib-patient-view"
NAMES = ("service", "floor", "validated")
PATIENCE = 10
"""How often a request that a starved server refused (503) is sent again; the refused ones are not measured."""

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Figures:
    """What one server showed, a list entry a round."""

    cpu_ms: list[float] = field(default_factory=list)
    rates: dict[int, list[float]] = field(default_factory=dict)
    latencies: dict[int, list[float]] = field(default_factory=dict)


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the requests, for CI")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    requests = 60 if options.quick else 600
    asyncio.run(_measure(requests=requests, rounds=options.rounds))
    return 0


async def _measure(*, requests: int, rounds: int) -> None:
    body = call(datetime.now(UTC))
    print(f"body {len(body) / 1000:.0f} kB, 200 Observations; {requests} requests a measurement, {rounds} rounds")
    with tempfile.TemporaryDirectory() as folder:
        servers: dict[str, tuple[subprocess.Popen[bytes], int]] = {}
        try:
            figures = {name: Figures() for name in NAMES}
            for name in NAMES:
                servers[name] = _start(name, folder)
                await _ready(servers[name][1])
                await _load(servers[name][1], body, count=10, width=1)
                print(f"  {name} is up", file=sys.stderr)
            for number in range(rounds):
                for name, (process, port) in servers.items():
                    count = requests if name != "validated" else max(20, requests // 10)
                    await _round(figures[name], process.pid, port, body, count=count)
                    print(f"  round {number + 1}: {name}", file=sys.stderr)
        finally:
            for process, _ in servers.values():
                process.kill()
                process.wait()
    _report(figures)


async def _round(figures: Figures, pid: int, port: int, body: bytes, *, count: int) -> None:
    before = _cpu(pid)
    sent = 0
    for width in (1, 8):
        started = time.perf_counter()
        latencies = await _load(port, body, count=count, width=width)
        elapsed = time.perf_counter() - started
        sent += count
        figures.rates.setdefault(width, []).append(count / elapsed)
        figures.latencies.setdefault(width, []).extend(latencies)
    figures.cpu_ms.append((_cpu(pid) - before) / sent * 1000)


def _start(name: str, folder: str) -> tuple[subprocess.Popen[bytes], int]:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "tests.bench.servers", name, str(port), folder]
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
    raise SystemExit("a server did not start within 60 s")


async def _load(port: int, body: bytes, *, count: int, width: int) -> list[float]:
    latencies: list[float] = []
    left = iter(range(count))
    headers = {"content-type": "application/json"}

    async def once(session: aiohttp.ClientSession) -> int:
        async with session.post(f"http://{HOST}:{port}{PATH}", data=body, headers=headers) as answer:
            await answer.read()
            return answer.status

    async def worker(session: aiohttp.ClientSession) -> None:
        for _ in left:
            for _ in range(PATIENCE):
                started = time.perf_counter()
                status = await once(session)
                if status != 503:
                    break
                print("  503: this machine is busy with something else, asked again", file=sys.stderr)
                await asyncio.sleep(1)
            if status != 200:
                raise SystemExit(f"status {status}: the benchmark measures nothing")
            latencies.append((time.perf_counter() - started) * 1000)

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(worker(session) for _ in range(width)))
    return latencies


def _cpu(pid: int) -> float:
    """Seconds of CPU of a process, user and system, from the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _report(figures: dict[str, Figures]) -> None:
    print(f"\n{'':<10} {'CPU ms':>8} {'x floor':>8} | {'req/s':>7} {'p50 ms':>7} {'p99 ms':>7} | 8 in flight")
    floor = statistics.median(figures["floor"].cpu_ms)
    for name, found in figures.items():
        cpu = statistics.median(found.cpu_ms)
        cells = []
        for width in (1, 8):
            ordered = sorted(found.latencies[width])
            p50, p99 = ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
            cells.append(f"{statistics.median(found.rates[width]):7.0f} {p50:7.1f} {p99:7.1f}")
        print(f"{name:<10} {cpu:8.2f} {cpu / floor:8.1f} | {cells[0]} | {cells[1]}")


if __name__ == "__main__":
    sys.exit(main())
