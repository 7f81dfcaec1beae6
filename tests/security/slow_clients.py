"""slowhttptest against a service that runs as it is shipped, while an ordinary client calls (threats T18, finding 7).

Three attacks, one after the other: headers that never end, a body that drips, answers that are sipped. Counted is what
the service itself holds open, in the kernel's tables, so a connection counts until *this* end has let it go. What the
attack does to the speed of the ordinary client is printed and fails nothing: it depends on who else uses the machine.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import aiohttp
import httpx

from app.edge import Limits
from app.sandbox import patients
from app.sandbox.fhir import create_fhir
from app.settings import BodyLimits
from cds_hooks import prefetch
from tests.figures import Figure, Figures

ROOT: Final = Path(__file__).resolve().parents[2]
HOST: Final = "127.0.0.1"
SERVICE: Final = "/cds-services/anakinra-ruxolitinib-patient-view"
CONNECTIONS: Final = {"small": 100, "full": 500}
RATE: Final = 20.0
"""Ordinary calls a second, as long as no more than `AT_ONCE` are unanswered: a busy machine makes them fewer, and does
not turn this into a test of overload."""

AT_ONCE: Final = 4

PATIENTS: Final = ("demo-ward", "demo-adolescent", "demo-just-intubated", "demo-ward")
"""Whom the ordinary client asks about, in turn: a ward, where few are patients that a card is about."""

QUIET_SECONDS: Final = 10.0
"""How long the ordinary client calls alone, for comparison."""

OPENING: Final = 250
"""Connections a second that the attack opens."""

OPEN_SECONDS: Final = 15.0
"""In which all of them have to be open; a busy machine takes longer than the tool is told."""

GRACE_SECONDS: Final = 10.0
"""More than a time-out for the last to be gone; an idle machine needs one second."""

LISTENING: Final = "0A"
"""A state of the kernel's table."""

START_SECONDS: Final = 60.0
PATIENCE_SECONDS: Final = 60.0
"""Of the ordinary client, for one answer."""

TOOL: Final = "slowhttptest"


@dataclass(frozen=True, slots=True)
class Attack:
    """`options` as slowhttptest takes them, `path` what it asks for, `seconds` what the service grants it."""

    name: str
    options: tuple[str, ...]
    path: str
    seconds: float


ATTACKS: Final = (
    Attack("headers", ("-H", "-i", "2", "-x", "24", "-t", "GET"), "/cds-services", Limits().head_seconds),
    Attack(
        "body",
        ("-B", "-i", "2", "-s", "8192", "-x", "10", "-t", "POST", "-f", "application/json"),
        SERVICE,
        BodyLimits().seconds,
    ),
    Attack(
        "read",
        ("-X", "-w", "1", "-y", "512", "-n", "1", "-z", "5", "-t", "GET"),
        "/cds-services",
        Limits().unread_seconds,
    ),
)


class Unavailable(Exception):
    """What is missing for the attack; a test skips with this reason, or fails where the tool is required."""


def missing() -> str:
    """Why the attack cannot be made here, '' where it can."""
    if shutil.which(TOOL) is None:
        return f"{TOOL} is not installed (Debian: {TOOL})"
    if not Path("/proc/self/net/tcp").exists():
        return "needs the kernel's list of connections in /proc"
    return ""


async def run(*, size: str) -> Figures:
    """The figures of the three attacks. Raises Unavailable."""
    if reason := missing():
        raise Unavailable(reason)
    connections = CONNECTIONS["small" if size == "small" else "full"]
    rows: list[Figure] = []
    with _serving() as service:
        await service.ready()
        client = await _client(service.port)
        quiet = await _alone(client)
        rows += _answers("ordinary calls before", quiet)
        for attack in ATTACKS:
            rows += await _attacked(service, attack, client=client, connections=connections, quiet=quiet)
        rows.append(Figure("the service runs on", "yes" if service.alive else "no", service.alive))
    return Figures(f"slow clients: {TOOL}, {connections} connections, {RATE:g} ordinary calls a second", tuple(rows))


# --- the service


@dataclass(slots=True)
class Service:
    """The process of the service."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    async def ready(self) -> None:
        """Returns when discovery is answered. Raises RuntimeError."""
        end = time.monotonic() + START_SECONDS
        async with aiohttp.ClientSession() as session:
            while time.monotonic() < end and self.alive:
                with suppress(aiohttp.ClientError):
                    async with session.get(f"http://{HOST}:{self.port}/cds-services") as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(0.1)
        raise RuntimeError("the service did not start")

    def strangers(self) -> frozenset[int]:
        """The far ports of connections that the service holds open, without those of this process."""
        return _held(self.process.pid, self.port)


@contextmanager
def _serving() -> Iterator[Service]:
    """`rescue-cds serve` in the dev profile with a database of its own, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="rescue-cds-slow-") as folder:
        port = _two_ports()
        database = f"sqlite+aiosqlite:///{folder}/decisions.db"
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "app.cli", "serve", "--port", str(port), "--db", database],
                cwd=ROOT,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        try:
            yield Service(process, port)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _two_ports() -> int:
    """A free port with a free one above it, which is the operators'."""
    for _ in range(100):
        with socket.socket() as first, socket.socket() as second, suppress(OSError, OverflowError):
            first.bind((HOST, 0))
            port = int(first.getsockname()[1])
            second.bind((HOST, port + 1))
            return port
    raise RuntimeError("no two free ports")


def _held(pid: int, port: int) -> frozenset[int]:
    """Established or half closed, by the kernel's table, and owned by that process; ours are known by their ends."""
    server, own = _sockets(pid), _sockets(os.getpid())
    rows = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    ours = {_port(row[1]) for row in rows if row[9] in own}
    held = {_port(row[2]) for row in rows if _port(row[1]) == port and row[9] in server and row[3] != LISTENING}
    return frozenset(held - ours)


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)


def _sockets(pid: int) -> set[str]:
    """The inodes of a process's sockets."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            name = os.readlink(entry)
            if name.startswith("socket:["):
                found.add(name[8:-1])
    return found


# --- the ordinary client


@dataclass(slots=True)
class Calls:
    """What became of ordinary calls: statuses ('' for none), and milliseconds from when each was due."""

    seconds: float = 0.0
    statuses: list[str] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)

    @property
    def good(self) -> int:
        return self.statuses.count("200")

    @property
    def p99(self) -> float:
        ordered = sorted(self.latencies)
        return ordered[max(0, math.ceil(len(ordered) * 0.99) - 1)] if ordered else 0.0


@dataclass(frozen=True, slots=True)
class Client:
    """An ordinary client: where it calls, and the calls that it makes in turn, each with its whole prefetch."""

    port: int
    bodies: tuple[Mapping[str, object], ...]


async def _client(port: int) -> Client:
    """One that has asked for discovery and filled in the templates as it is told there."""
    now = datetime.now(UTC)
    base = f"http://{HOST}/fhir"
    sandbox = create_fhir(lambda _: patients.bundle(now), base_url=base, clock=lambda: now)
    bodies = []
    async with (
        httpx.AsyncClient(base_url=f"http://{HOST}:{port}") as service,
        httpx.AsyncClient(transport=httpx.ASGITransport(app=sandbox), base_url=f"http://{HOST}") as fhir,
    ):
        services = (await service.get("/cds-services")).json()["services"]
        templates = next(one["prefetch"] for one in services if one["hook"] == "patient-view")
        for patient in PATIENTS:
            values = {"context.patientId": patient}
            paths = {key: prefetch.render(template, values=values) for key, template in templates.items()}
            found = {key: (await fhir.get(f"/{path}")).json() for key, path in paths.items()}
            context = {"patientId": patient, "userId": "Practitioner/ordinary"}
            bodies.append({"hook": "patient-view", "hookInstance": "", "context": context, "prefetch": found})
    return Client(port, tuple(bodies))


async def _alone(client: Client) -> Calls:
    async with _calling(client) as calls:
        await asyncio.sleep(QUIET_SECONDS)
    return calls


@asynccontextmanager
async def _calling(client: Client) -> AsyncIterator[Calls]:
    """Calls at a steady rate until the block ends."""
    calls = Calls()
    timeout = aiohttp.ClientTimeout(total=PATIENCE_SECONDS)
    url = f"http://{HOST}:{client.port}{SERVICE}"
    stopped = asyncio.Event()
    slots = itertools.count()
    free = time.perf_counter()

    async def one(session: aiohttp.ClientSession, number: int) -> str:
        body = client.bodies[number % len(client.bodies)]
        content = json.dumps({**body, "hookInstance": f"ordinary-{number}"}).encode()
        with suppress(aiohttp.ClientError, TimeoutError):
            async with session.post(url, data=content, headers={"content-type": "application/json"}) as answer:
                await answer.read()
                return str(answer.status)
        return ""

    async def steadily(session: aiohttp.ClientSession) -> None:
        nonlocal free
        while True:
            due = free = max(free + 1 / RATE, time.perf_counter())
            with suppress(TimeoutError):
                await asyncio.wait_for(stopped.wait(), max(0.0, due - time.perf_counter()))
            if stopped.is_set():
                return
            calls.statuses.append(await one(session, next(slots)))
            calls.latencies.append((time.perf_counter() - due) * 1000)

    began = time.monotonic()
    async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(steadily(session))
        try:
            yield calls
        finally:
            stopped.set()
            calls.seconds = time.monotonic() - began


# --- the attack


async def _attacked(
    service: Service, attack: Attack, *, client: Client, connections: int, quiet: Calls
) -> list[Figure]:
    async with _calling(client) as calls:
        most, left, seconds = await _holding(service, attack, connections=connections)
    name = attack.name
    enough = most >= connections * 0.8
    return [
        Figure(f"{name}: slow connections at one time", f"{min(most, connections)} of {connections}", enough),
        Figure(f"{name}: still open after the {attack.seconds:g} s that it is granted", str(left), left == 0),
        Figure(
            f"{name}: the last one closed, from the last opened",
            f"{seconds:.0f} s" if left == 0 else "not at all",
            True,
        ),
        *_answers(f"{name}: ordinary calls", calls),
        Figure(
            f"{name}: p99 of ordinary calls, before and during",
            f"{quiet.p99:.0f} and {calls.p99:.0f} ms, {calls.p99 / max(quiet.p99, 0.001):.1f} times",
            True,
        ),
    ]


async def _holding(service: Service, attack: Attack, *, connections: int) -> tuple[int, int, float]:
    """The most open at one time; those still open when the time of the last has passed; seconds from then to none.

    The attack lasts longer than it is watched, so that what is closed is closed by the service.
    """
    url = f"http://{HOST}:{service.port}{attack.path}"
    command = [TOOL, *attack.options, "-u", url, "-c", str(connections), "-r", str(OPENING)]
    lasting = OPEN_SECONDS + attack.seconds + GRACE_SECONDS + 30
    process = await asyncio.create_subprocess_exec(
        *command, "-l", str(round(lasting)), "-p", "5", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    began = opened = time.monotonic()
    seen: set[int] = set()
    most, held = 0, frozenset[int]()
    try:
        while time.monotonic() < opened + attack.seconds + GRACE_SECONDS:
            await asyncio.sleep(0.25)
            held = service.strangers()
            most = max(most, len(held))
            seen |= held
            if len(seen) < connections:
                opened = min(time.monotonic(), began + OPEN_SECONDS)
            elif not held:
                break
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    return most, len(held), time.monotonic() - opened


def _answers(what: str, calls: Calls) -> Iterator[Figure]:
    sent = len(calls.statuses)
    others = _counted(calls.statuses)
    rate = f", {sent / calls.seconds:.0f} a second" if calls.seconds else ""
    said = f"{calls.good} of {sent} are 200" + (f"; {others}" if others else "") + rate
    yield Figure(what, said, 0 < sent == calls.good)


def _counted(statuses: list[str]) -> str:
    found: Mapping[str, int] = {one: statuses.count(one) for one in sorted(set(statuses)) if one != "200"}
    return ", ".join(f"{count} {status or 'without an answer'}" for status, count in found.items())
