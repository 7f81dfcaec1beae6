"""What the process asks of the network while a check runs, and servers on this machine that write down what they get.

The spy is an audit hook of the interpreter: every `connect`, every datagram and every look-up of a name passes it,
whatever library makes it, because the event is raised in C below all of them. Its limits: libuv and c-ares have sockets
of their own, so it refuses to watch another loop than asyncio's. What is not on this machine is not only seen but
stopped, so that a failing check sends nothing to a stranger.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

LOOPBACK: Final = "127.0.0.1"

Place = tuple[str, int]
"""Host and port of a connection."""

# --- the spy -----------------------------------------------------------------------------------------------

_CONNECTS: Final = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
_LOOKS_UP: Final = frozenset({"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"})
_LOCAL_NAMES: Final = frozenset({"localhost"})


@dataclass(slots=True)
class Seen:
    """What was asked of the network, and of the files in `watched_files`."""

    connections: list[Place] = field(default_factory=list)
    lookups: list[str] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)
    watched_files: frozenset[str] = frozenset()

    def beyond(self, *places: Place) -> list[str]:
        """All of it but connections to these places and look-ups of their names, readably."""
        names = {host for host, _ in places}
        return [
            *(f"connect {host}:{port}" for host, port in self.connections if (host, port) not in places),
            *(f"look up {name}" for name in self.lookups if name not in names),
            *(f"open {name}" for name in self.opened),
        ]


_watching: list[Seen] = []
_hooked: list[bool] = []


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if not _watching:
        return
    if event in _CONNECTS:
        _connecting(args[1])
    elif event in _LOOKS_UP:
        _looking_up(args[0])
    elif event == "socket.getnameinfo":
        _looking_up(f"name of {args[0][0]}")
    elif event == "open":
        for seen in _watching:
            if str(args[0]) in seen.watched_files:
                seen.opened.append(str(args[0]))


def _connecting(address: Any) -> None:
    if not isinstance(address, tuple) or len(address) < 2:
        return  # a socket of this machine's file system, or a datagram on a connection that was seen
    host, port = str(address[0]), int(address[1])
    for seen in _watching:
        seen.connections.append((host, port))
    if not _is_here(host):
        raise ConnectionRefusedError(f"not on this machine: {host}")


def _looking_up(name: Any) -> None:
    host = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
    if name is None or _is_address(host):
        return  # nothing to look up
    for seen in _watching:
        seen.lookups.append(host)
    if host not in _LOCAL_NAMES:
        raise socket.gaierror(socket.EAI_NONAME, f"not on this machine: {host}")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_here(host: str) -> bool:
    if host in _LOCAL_NAMES:
        return True
    return _is_address(host) and ipaddress.ip_address(host).is_loopback


@contextlib.contextmanager
def watched(*, files: frozenset[str] = frozenset()) -> Iterator[Seen]:
    """Everything that the process asks of the network meanwhile. Raises RuntimeError under a loop it cannot see into.

    `files`: paths whose opening is seen too.
    """
    running = asyncio._get_running_loop()
    if running is not None and not isinstance(running, asyncio.SelectorEventLoop):
        raise RuntimeError(f"this loop's sockets cannot be seen: {type(running).__name__}")
    if not _hooked:
        sys.addaudithook(_audit)  # for the life of the process: there is no way to take it back, so it idles
        _hooked.append(True)
    seen = Seen(watched_files=files)
    _watching.append(seen)
    try:
        yield seen
    finally:
        _watching.remove(seen)


# --- servers -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came; `raw` is all of it."""

    raw: bytes = field(repr=False)
    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(default=b"", repr=False)

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    def header(self, name: str) -> str:
        """Its values, or ''."""
        return ", ".join(value for key, value in self.headers if key == name)


Reply = Callable[[Received], bytes]


class Listener:
    """A server on this machine: what it was sent, and how many connections and bytes that was."""

    def __init__(self, reply: Reply, *, tls: bool) -> None:
        self.reply = reply
        self.tls = tls
        self.port = 0
        self.connections = 0
        self.bytes = 0
        self.requests: list[Received] = []
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def place(self) -> Place:
        return (LOOPBACK, self.port)

    @property
    def authority(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    @property
    def origin(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}"

    @property
    def raw(self) -> bytes:
        """Every request, one after the other."""
        return b"".join(request.raw for request in self.requests)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, OSError, ssl.SSLError):
            while True:
                head = await _counted(reader.readuntil(b"\r\n\r\n"), self)
                length = re.search(rb"(?im)^content-length:[ \t]*(\d+)", head)
                body = await _counted(reader.readexactly(int(length.group(1))), self) if length else b""
                request = _request(head, body)
                self.requests.append(request)
                writer.write(self.reply(request))
                await writer.drain()
        writer.close()


async def _counted(reading: Any, listener: Listener) -> bytes:
    """What came, counted also where it ends before it should."""
    try:
        came: bytes = await reading
    except asyncio.IncompleteReadError as error:
        listener.bytes += len(error.partial)
        raise
    listener.bytes += len(came)
    return came


def _request(head: bytes, body: bytes) -> Received:
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = tuple((name.strip().lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines))
    return Received(head + body, method, target, headers, body)


@contextlib.asynccontextmanager
async def listening(reply: Reply, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Listener]:
    """A server whose answers are the bytes that `reply` makes of a request; connections stay open between requests."""
    listener = Listener(reply, tls=tls is not None)
    server = await asyncio.start_server(listener._connected, LOOPBACK, 0, ssl=tls, limit=1024 * 1024)
    listener.port = server.sockets[0].getsockname()[1]
    try:
        yield listener
    finally:
        await settled()  # who went away during a TLS handshake is only known to the loop
        server.close()
        for writer in listener._writers:
            writer.close()
            with contextlib.suppress(OSError, ssl.SSLError):
                await writer.wait_closed()
        await settled()


async def settled() -> None:
    """Let the loop take what lies ready at its sockets."""
    for _ in range(20):
        await asyncio.sleep(0)


def http(status: str, body: bytes = b"", *headers: str) -> bytes:
    """An answer with its length; headers as lines."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode("utf-8") + body
