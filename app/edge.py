"""The server in front of the application: uvicorn, with the patience of a service that answers in half a second.

uvicorn alone waits for ever for headers, keeps what never ends, and holds a connection open for a peer that does not
read (knowledge: security 0.7, T18). Here a connection costs a bounded time, a bounded memory, and there is a bounded
number of them. What a body may take is bounded in `app/api/body.py`, where its size is known too.
"""

from __future__ import annotations

import asyncio
import socket  # allowed: network names of options, for connections that uvicorn has accepted
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Literal

import httptools
import msgspec
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from cds_hooks.errors import operation_outcome

if sys.platform != "win32":
    import resource

OTHER_FILES: Final = 512
"""Open files of the process that are no connections of peers: to FHIR servers, the database, what Python has open."""

Why = Literal["crowded", "late", "too-long", "pipelined", "malformed", "unread"]
"""Why a connection was ended before its time."""

_ANSWERS: Final = {
    "late": (HTTPStatus.REQUEST_TIMEOUT, "timeout", "the headers did not arrive in time"),
    "too-long": (
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        "too-long",
        "the headers are larger than this service accepts",
    ),
    "malformed": (HTTPStatus.BAD_REQUEST, "invalid", "this is no HTTP request"),
}


@dataclass(frozen=True, slots=True)
class Limits:
    """`head_bytes` is above the 32 KiB at which the application refuses in its own words (`app/main.py`): this is
    where reading ends. `connections` is the number open at once."""

    head_seconds: float = 10.0
    head_bytes: int = 64 * 1024
    headers: int = 256
    unread_seconds: float = 20.0
    keep_alive_seconds: int = 5
    connections: int = 1024


def server(
    app: ASGIApp,
    *,
    host: str,
    port: int,
    limits: Limits | None = None,
    closed: Callable[[Why], None] = lambda _: None,
) -> uvicorn.Server:
    """A server that is ready to run. `closed` is told of every connection that was ended before its time."""
    return uvicorn.Server(_Config(app, host=host, port=port, limits=limits or Limits(), closed=closed))


def run(*servers: uvicorn.Server) -> None:
    """Serve until interrupted; when one of them ends, for want of its port or by a signal, all end."""
    with suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=servers[0].config.get_loop_factory()) as runner:
        runner.run(_together(servers))


async def _together(servers: Sequence[uvicorn.Server]) -> None:
    async def until_stopped(server: uvicorn.Server) -> None:
        try:
            await server.serve()
        finally:
            for other in servers:
                other.should_exit = True

    await asyncio.gather(*map(until_stopped, servers))


def fitting(connections: int) -> int:
    """As many, or as many as the system's limit of open files has room for; the limit is raised where that is allowed.

    Without a free descriptor nothing could be accepted, and no FHIR server and no database opened either.
    """
    if sys.platform == "win32":
        return connections
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        soft = allowed
    return min(connections, max(soft // 2, soft - OTHER_FILES))


class _Config(uvicorn.Config):
    """What uvicorn hands to each connection, and what these ask of it."""

    def __init__(self, app: ASGIApp, *, host: str, port: int, limits: Limits, closed: Callable[[Why], None]) -> None:
        super().__init__(
            app,
            host=host,
            port=port,
            http=Connection,
            ws="none",
            timeout_keep_alive=limits.keep_alive_seconds,
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,  # nothing here asks from where a call comes
        )
        self.limits = limits
        self.connections = fitting(limits.connections)
        self.closed = closed


class _StopReading(Exception):
    """Raised in a callback of the parser, which then gives up."""


class Connection(HttpToolsProtocol):
    """One connection. Its timers run while it owes a head, and while its peer owes the taking of an answer.

    A request that comes before the last one is answered ends the connection after that answer: no client of ours sends
    ahead, and a chunk of 256 KiB would otherwise hold some 14,000 requests to be kept waiting.
    """

    config: _Config

    def __init__(
        self,
        config: _Config,
        server_state: Any,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = config.limits
        self._admitted = False
        self._ended = False
        self._in_body = False
        self._offered = False
        self._unparsed = 0
        self._why: Why = "malformed"
        self._head_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None

    # --- what the transport says

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        if len(self.connections) >= self.config.connections:
            self._ended = True
            self.config.closed("crowded")
            transport.abort()
            return
        self._admitted = True
        # Whatever is not taken at once pauses writing, and writing goes on when all of it is taken.
        transport.set_write_buffer_limits(high=0)
        _give_up_on_silence(transport, seconds=self._limits.unread_seconds)
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._head_arrived()
        self._all_taken()
        if self._admitted:
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        if not self._busy and self._head_timer is None:
            self._await_head()  # whatever it is, it belongs to no request that is being answered
        self._unset_keepalive_if_required()
        self._unparsed += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self._end(self._why)
        if self._unparsed > self._limits.head_bytes and not self._ended:
            self._end("too-long")

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread_timer is None:
            self._unread_timer = self.loop.call_later(self._limits.unread_seconds, self._unread)

    def resume_writing(self) -> None:
        self._all_taken()
        super().resume_writing()

    # --- what the parser says

    def on_message_begin(self) -> None:
        if self._busy:
            raise self._stop("pipelined")
        self._in_body = False
        self._await_head()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body:  # a trailer, which nothing here asks for
            return
        if len(self.headers) >= self._limits.headers:
            raise self._stop("too-long")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise self._stop("malformed")
            self._offered = True
            return
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > self._limits.head_bytes:
            raise self._stop("too-long")
        self._in_body = True
        self._unparsed = 0
        self._head_arrived()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._offered:
            return
        self._unparsed = 0
        super().on_message_complete()

    # --- what it comes to

    @property
    def _busy(self) -> bool:
        """Is a request being answered?"""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _parse(self, data: bytes) -> None:
        """Raises httptools.HttpParserError."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            rest = data[offer.args[0] :]  # allowed: error-text the number of bytes that were read
        else:
            return
        self._decline_upgrade()
        if rest:
            self._parse(rest)

    def _decline_upgrade(self) -> None:
        """Reads the head again as one without an offer, so that its body is a body and no request of its own.

        Java's client offers h2c with every request over plain HTTP; RFC 9110, 7.8 lets a server go on as if it had
        not. The parser takes whatever follows an offer for the other protocol (uvicorn issue 2722: the body is lost).
        """
        self._offered = False
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        head = [method + b" " + self.url + b" HTTP/" + version]
        for name, value in self.headers:
            if name == b"connection":
                kept = [token.strip() for token in value.split(b",")]
                value = b", ".join(token for token in kept if token.lower() not in {b"upgrade", b"http2-settings"})
            if name not in {b"upgrade", b"http2-settings"}:
                head.append(name + b": " + value)
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # what follows "close" is ignored
        self.parser.feed_data(b"\r\n".join(head) + b"\r\n\r\n")

    def _stop(self, why: Why) -> _StopReading:
        self._why = why
        return _StopReading(why)

    def _await_head(self) -> None:
        self._head_arrived()
        self._head_timer = self.loop.call_later(self._limits.head_seconds, self._end, "late")

    def _head_arrived(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _all_taken(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _unread(self) -> None:
        self._unread_timer = None
        self._ended = True
        self.config.closed("unread")
        self.transport.abort()

    def _end(self, why: Why) -> None:
        """Reads nothing more, and closes: after the answer that is being made, or else after one that says why."""
        self._ended = True
        self._head_arrived()
        self.config.closed(why)
        if self.transport.is_closing():
            return
        if self._busy and (self.cycle.response_started or not self.cycle.more_body):
            self.cycle.keep_alive = False
            return
        if self._busy:  # its body is what was wrong: whoever waits for the rest of it is told
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if why in _ANSWERS and (why != "late" or self._unparsed):
            self.transport.write(_answer(*_ANSWERS[why]))
        self.transport.close()


def _answer(status: HTTPStatus, code: str, message: str) -> bytes:
    content = msgspec.json.encode(operation_outcome(code, message))
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(content)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + content


def _give_up_on_silence(transport: asyncio.Transport, *, seconds: float) -> None:
    """Small answers go into the kernel's buffers, out of our sight: it shall give up on such a peer too, after us."""
    option, connection = getattr(socket, "TCP_USER_TIMEOUT", None), transport.get_extra_info("socket")
    if option is not None and connection is not None and connection.family in {socket.AF_INET, socket.AF_INET6}:
        connection.setsockopt(socket.IPPROTO_TCP, option, int(2 * seconds * 1000))
