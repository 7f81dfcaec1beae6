"""Several processes behind one address: each a fresh interpreter that serves, and their parent, which starts them.

The parent binds, and never accepts; it holds no database and reads no request. A process inherits the bound sockets,
so that what was connected and not yet accepted when it died is answered by the others. To each of them leads one more
socket, its line: "started" is a byte on it, and its end means that the other side is gone, however it died.

Each gets "NUMBER:SOCKETS:LINE" as its last argument, numbers of its own files (`inherited`).
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket  # allowed: network the address that clients reach is bound here, and nothing is connected to
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

START_SECONDS: Final = 120.0
"""For a process until it serves. It looks at every row of its database's schema and at every client's keys first."""

PAUSES: Final = (0.2, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds before a process is started again, after the first, second, ... end in a row; then the last of them."""

EXIT_SECONDS: Final = 10.0
"""For one that could not start, from there to its exit."""

STEADY_SECONDS: Final = 60.0
"""After so long it ends anew, and not again."""

_STARTED: Final = b"+"


class Unbound(OSError):
    """The address cannot be bound: `strerror` says why."""


def bind(host: str, *, port: int) -> tuple[socket.socket, ...]:
    """Sockets bound to every address that the name has, as one process alone would; nobody is listening yet. Raises
    Unbound."""
    with ExitStack() as stack:
        found = []
        try:
            for family, kind, protocol, _, address in socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            ):
                made = stack.enter_context(socket.socket(family, kind, protocol))
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                made.bind(address)
                found.append(made)
        except OSError as error:
            raise Unbound(error.errno, error.strerror) from None
        stack.pop_all()
    return tuple(found)


# --- a process, from inside -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Worker:
    """What this process has of its parent."""

    number: int
    listening: tuple[socket.socket, ...]
    line: socket.socket

    def started(self) -> None:
        """Tells the parent that this one serves."""
        with suppress(OSError):  # it is gone: `alone` says so
            self.line.send(_STARTED)

    async def alone(self) -> None:
        """Ends when the parent is gone."""
        with suppress(OSError):
            await asyncio.get_running_loop().sock_recv(self.line, 1)


def inherited(text: str) -> Worker:
    """What a parent has written. Raises ValueError for anything else."""
    number, sockets, line = text.split(":")
    listening = tuple(socket.socket(fileno=int(one)) for one in sockets.split(","))
    held = socket.socket(fileno=int(line))
    held.setblocking(False)
    return Worker(int(number), listening, held)


# --- their parent -----------------------------------------------------------------------------------------------


def again(module: str, *, arguments: Sequence[str]) -> list[str]:
    """The command that runs a module in a fresh interpreter. The directory in which it starts is a place of modules for
    it only if it is one here."""
    safe = [] if {"", str(Path.cwd())} & set(sys.path) else ["-P"]
    return [sys.executable, *safe, "-m", module, *arguments]


def run(
    command: Sequence[str],
    *,
    number: int,
    listening: Sequence[socket.socket],
    stop_seconds: float,
    pauses: Sequence[float] = PAUSES,
) -> int:
    """Keeps so many processes of that command running until SIGTERM or SIGINT. Exit status: 0 when all of them have
    then ended well, 1 when one could not start, or had to be killed.

    Signals are handed on; `stop_seconds` is what a process may take to end. One that dies is started again after a
    pause. When it cannot start and no other serves, all is over: somebody else has to look, and clients are better
    refused than kept waiting.
    """
    with asyncio.Runner() as runner:
        parent = _Parent(tuple(command), listening=listening, stop_seconds=stop_seconds, pauses=pauses)
        return runner.run(parent.kept(number))


@dataclass(slots=True, eq=False)
class _Process:
    """One life of one of them."""

    number: int
    handle: asyncio.subprocess.Process
    line: socket.socket

    def send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self.handle.send_signal(number)


@dataclass(slots=True)
class _Parent:
    command: tuple[str, ...]
    listening: Sequence[socket.socket]
    stop_seconds: float
    pauses: Sequence[float]
    alive: set[_Process] = field(default_factory=set)
    serving: set[int] = field(default_factory=set)
    complete: bool = False
    failed: bool = False
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def kept(self, number: int) -> int:
        """The exit status, when all have ended."""
        loop = asyncio.get_running_loop()
        for one in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(one, self.stop)
        try:
            # One alone first: what keeps one from starting would keep all of them, and is said once.
            first = asyncio.Event()
            keeping = [asyncio.create_task(self._keep(0, serves=first))]
            await _either(first, self.stopping)
            if not self.stopping.is_set():
                others = [asyncio.Event() for _ in range(1, number)]
                keeping += [
                    asyncio.create_task(self._keep(place, serves=serves)) for place, serves in enumerate(others, 1)
                ]
                await _either(_All(others), self.stopping)
                self.complete = not self.stopping.is_set()
            await self.stopping.wait()
            await self._ended(keeping)
        finally:
            for one in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(one)
        return 1 if self.failed else 0

    def stop(self) -> None:
        """To all of them; each says for itself what a second signal means."""
        self._leave()
        for process in self.alive:
            process.send(signal.SIGTERM)

    def _leave(self) -> None:
        """The address is theirs alone from now on: nobody shall wait at a socket that nobody serves."""
        self.stopping.set()
        for one in self.listening:
            one.close()

    async def _keep(self, number: int, *, serves: asyncio.Event) -> None:
        """One place, through all the lives of its processes."""
        ends = 0
        while not self.stopping.is_set():
            begun = time.monotonic()
            started, status = await self._lived(number, serves=serves)
            if self.stopping.is_set():
                self.failed |= started and status != 0
                return
            if started:
                log.error("worker ended", extra={"worker": number, "why": _why(status)})
            else:
                log.error("worker not started", extra={"worker": number, "why": _why(status)})
                if not (self.complete and self.serving):
                    self._give_up()
                    return
            ends = 0 if time.monotonic() - begun > STEADY_SECONDS else ends
            with suppress(TimeoutError):
                async with asyncio.timeout(self.pauses[min(ends, len(self.pauses) - 1)]):
                    await self.stopping.wait()
            ends += 1

    async def _lived(self, number: int, *, serves: asyncio.Event) -> tuple[bool, int | None]:
        """Whether one life came to serve, and its exit status; None without a process."""
        try:
            process = await self._spawned(number)
        except OSError:
            return False, None
        started = await _has_started(process.line)
        if started:
            log.info("worker started", extra={"worker": number})
            self.serving.add(number)
            serves.set()
        elif not self.stopping.is_set():
            await self._buried(process)
        status = await process.handle.wait()
        self.alive.discard(process)
        self.serving.discard(number)
        process.line.close()
        return started, status

    async def _buried(self, process: _Process) -> None:
        """One that will not serve: it is ending, or has had its time to start."""
        with suppress(TimeoutError):
            async with asyncio.timeout(EXIT_SECONDS):
                await process.handle.wait()
                return
        process.send(signal.SIGKILL)

    def _give_up(self) -> None:
        self.failed = True
        self._leave()
        for process in self.alive:  # it ends when its line does, and waits for nobody who might send it requests
            process.line.shutdown(socket.SHUT_RDWR)

    async def _spawned(self, number: int) -> _Process:
        mine, its = socket.socketpair()
        mine.setblocking(False)
        with its:
            files = [one.fileno() for one in self.listening]
            told = f"{number}:{','.join(map(str, files))}:{its.fileno()}"
            handle = await asyncio.create_subprocess_exec(
                *self.command,
                told,
                pass_fds=(*files, its.fileno()),
                start_new_session=True,  # an interrupt from the terminal comes to the parent, which hands it on
            )
        process = _Process(number, handle, mine)
        self.alive.add(process)
        if self.stopping.is_set():
            process.send(signal.SIGTERM)
        return process

    async def _ended(self, keeping: Iterable[asyncio.Task[None]]) -> None:
        """Waits for all of them, at most so long."""
        done, late = await asyncio.wait(keeping, timeout=self.stop_seconds)
        if late:
            self.failed = True
            for process in self.alive:
                log.critical("worker killed", extra={"worker": process.number})
                process.send(signal.SIGKILL)
            done |= (await asyncio.wait(late))[0]
        for task in done:
            task.result()


class _All:
    """An event that is set when all of these are."""

    def __init__(self, events: Iterable[asyncio.Event]) -> None:
        self._events = tuple(events)

    async def wait(self) -> None:
        for event in self._events:
            await event.wait()


async def _either(*events: asyncio.Event | _All) -> None:
    waiting = [asyncio.create_task(_waited(event)) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


async def _waited(event: asyncio.Event | _All) -> None:
    await event.wait()


async def _has_started(line: socket.socket) -> bool:
    """Whether it has said so; not when it ends, or takes too long."""
    try:
        async with asyncio.timeout(START_SECONDS):
            return await asyncio.get_running_loop().sock_recv(line, 1) == _STARTED
    except (TimeoutError, OSError):
        return False


def _why(status: int | None) -> str:
    if status is None:
        return "no process could be made"
    return f"signal {-status}" if status < 0 else f"exit status {status}"
