"""The service as a process: started, asked for its readiness, killed or ended, started again at the same place."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Protocol, Self

import aiohttp

ROOT: Final = Path(__file__).resolve().parents[2]
HOST: Final = "127.0.0.1"
START_SECONDS: Final = 60.0
_PR_SET_PDEATHSIG: Final = 1
_libc: Final = ctypes.CDLL(None)

Start = Literal["fresh", "loaded"]


class ProcessError(RuntimeError):
    """A process did what it should not; the text holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one service is. `more` are tables of its configuration, `service` and `store` further keys of theirs."""

    folder: Path
    port: int
    database: str = field(repr=False)
    service: str = ""
    store: str = ""
    more: str = ""

    @property
    def log(self) -> Path:
        return self.folder / f"service-{self.port}.log"

    def written(self) -> Path:
        """The configuration file, written now."""
        path = self.folder / f"config-{self.port}.toml"
        path.write_text(
            f'[service]\nprofile = "dev"\nport = {self.port}\n{self.service}\n[admin]\nport = {self.port + 1}\n'
            f'[store]\nurl = "{self.database}"\n{self.store}\n{self.more}\n'
            '[[tenants]]\nname = "hospital"\nzone = "UTC"\n',
            encoding="utf-8",
        )
        return path


class Process(Protocol):
    """One process of the service."""

    @property
    def pid(self) -> int: ...

    async def gone(self) -> int:
        """Its exit status, when it has gone; negative: by that signal."""
        ...


class Starter(Protocol):
    """Makes processes of the service."""

    async def start(self, arguments: list[str], *, log: Path, environment: Mapping[str, str]) -> Process: ...


class _Fresh:
    """An interpreter of its own, from nothing."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    async def gone(self) -> int:
        return await self._process.wait()


class Fresh:
    """Starts an interpreter each time."""

    async def start(self, arguments: list[str], *, log: Path, environment: Mapping[str, str]) -> Process:
        with log.open("ab") as file:
            return _Fresh(
                await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "app.cli", *arguments),
                    cwd=ROOT,
                    env={**os.environ, **environment},
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                    preexec_fn=die_with_parent,
                )
            )


@dataclass(slots=True)
class _Forked:
    pid: int
    status: asyncio.Future[int]

    async def gone(self) -> int:
        return await asyncio.shield(self.status)


class Loaded:
    """Has a loaded interpreter fork (`tests.durability.loaded`); `async with`."""

    def __init__(self) -> None:
        self._order = asyncio.Lock()
        self._started: asyncio.Queue[_Forked] = asyncio.Queue()
        self._living: dict[int, _Forked] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.durability.loaded"),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            preexec_fn=die_with_parent,
        )
        self._reading = asyncio.create_task(self._read())
        await self._started.get()  # itself: it has loaded
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        await self._reading

    async def start(self, arguments: list[str], *, log: Path, environment: Mapping[str, str]) -> Process:
        assert self._process.stdin is not None
        order = {"arguments": arguments, "log": str(log), "environment": dict(environment)}
        async with self._order:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            return await self._started.get()

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            said: dict[str, int] = json.loads(line)
            if "status" in said:
                self._living.pop(said["pid"]).status.set_result(said["status"])
            else:
                forked = _Forked(said["pid"], asyncio.get_running_loop().create_future())
                self._living[forked.pid] = forked
                self._started.put_nowait(forked)


@asynccontextmanager
async def starter(kind: Start) -> AsyncIterator[Starter]:
    """What starts processes in that way."""
    if kind == "fresh":
        yield Fresh()
    else:
        async with Loaded() as loaded:
            yield loaded


class Service:
    """One service at its place, one process of it at a time."""

    def __init__(self, place: Place, *, starter: Starter) -> None:
        self.place = place
        self._starter = starter
        self._process: Process | None = None
        self._session: aiohttp.ClientSession | None = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.place.port}"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ProcessError("the service is not running")
        return self._process.pid

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=10)
        self._session = aiohttp.ClientSession(f"http://{HOST}:{self.place.port + 1}", timeout=timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            await self.kill()
        if self._session is not None:
            await self._session.close()

    async def begin(self, *, environment: Mapping[str, str] | None = None) -> None:
        """A process, which need not be ready."""
        if self._process is not None:
            raise ProcessError("the service is running already")
        arguments = ["serve", "--config", str(self.place.written())]
        self._process = await self._starter.start(arguments, log=self.place.log, environment=environment or {})

    async def start(self, *, seconds: float = START_SECONDS) -> None:
        """A process that has started."""
        await self.begin()
        await self.started(seconds=seconds)

    async def started(self, *, seconds: float = START_SECONDS) -> None:
        """Returns when it has. Raises ProcessError for one that has gone, or takes longer."""
        assert self._process is not None
        gone = asyncio.ensure_future(self._process.gone())
        end = time.monotonic() + seconds
        try:
            while (await self.asked("/startupz"))[0] != 200:
                if gone.done():
                    self._process = None
                    raise ProcessError(f"the service ended with {gone.result()} at its start: {self.said()}")
                if time.monotonic() > end:
                    raise ProcessError(f"the service did not start within {seconds:g} s: {self.said()}")
                await asyncio.sleep(0.01)
        finally:
            gone.cancel()

    async def kill(self) -> None:
        """kill -9; returns when it has gone."""
        process, self._process = self._process, None
        if process is not None:
            _signal(process.pid, signal.SIGKILL)
            await process.gone()

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        _signal(self.pid, signal.SIGTERM)

    async def gone(self, *, seconds: float = START_SECONDS) -> int:
        """The exit status of a process that has been told to go."""
        assert self._process is not None
        try:
            async with asyncio.timeout(seconds):
                status = await self._process.gone()
        except TimeoutError:
            raise ProcessError(f"the service did not go within {seconds:g} s: {self.said()}") from None
        self._process = None
        return status

    async def stop(self) -> int:
        """SIGTERM, and the exit status."""
        self.terminate()
        return await self.gone()

    async def asked(self, path: str) -> tuple[int, bytes]:
        """What the operators' port says; status 0 when nobody answers."""
        assert self._session is not None
        try:
            async with self._session.get(path) as answer:
                return answer.status, await answer.read()
        except (aiohttp.ClientError, OSError, TimeoutError):
            return 0, b""

    async def readiness(self) -> tuple[int, str]:
        """The status of `/readyz`, and its word."""
        status, body = await self.asked("/readyz")
        said: dict[str, Any] = json.loads(body) if body else {}
        return status, str(said.get("status", ""))

    async def metrics(self) -> dict[str, float]:
        """The metrics without labels by their names; {} when nobody answers."""
        _, body = await self.asked("/metrics")
        lines = (line.rpartition(" ") for line in body.decode().splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines if "{" not in name}

    def said(self) -> str:
        """The end of its log."""
        try:
            return " | ".join(self.place.log.read_text(errors="replace").splitlines()[-8:])
        except OSError:
            return "nothing"


def free_ports(count: int) -> int:
    """The first of so many free ports in a row, below the range that the system gives to clients."""
    first = 20000 + os.getpid() * 16 % 8000
    for port in range(first, 32000, count):
        try:
            for offset in range(count):
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind((HOST, port + offset))
        except OSError:
            continue
        return port
    raise ProcessError("no ports are free")


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def die_with_parent() -> None:
    """In a child, before it becomes another program: nothing of the harness outlives it."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
