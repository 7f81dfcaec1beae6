"""The server in front of the application: uvicorn, with the patience of a service that answers in half a second.

uvicorn alone waits for ever for headers, keeps what never ends, and holds a connection open for a peer that does not
read (knowledge: security 0.7, T18). Here a connection costs a bounded time, a bounded memory, and there is a bounded
number of them. What a body may take is bounded in `app/api/body.py`, where its size is known too.

uvicorn alone also ends badly: what the kernel has connected and nobody has accepted is reset, and so is a connection
whose request is on its way. Here an end is announced first, and everything that has arrived is answered.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import select
import signal
import socket  # allowed: network what others have connected to: accepting the rest, and options of connections
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
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

log = logging.getLogger(__name__)

OTHER_FILES: Final = 512
"""Open files of the process that are no connections of peers: to FHIR servers, the database, what Python has open."""

FIRST_SECONDS: Final = 1.0
"""For the first byte of a connection that was made just before the end: whoever connects is about to send."""

CLOSING_SECONDS: Final = 15.0
"""For the application to close, after its last answer: its store writes what is queued, or keeps it in its spool."""

OPERATORS_SECONDS: Final = 2
"""For what operators still wait for when the service has ended."""

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


@dataclass(frozen=True, slots=True)
class Ending:
    """How a service ends when it is told to. `drain_seconds`: it goes on serving, so that whoever sends it requests
    has time to notice that it is no longer ready. `grace_seconds`: then for the answers that are being made."""

    drain_seconds: float = 0.0
    grace_seconds: float = 10.0

    @property
    def longest_seconds(self) -> float:
        """From the signal to the exit, at the latest; what stops a service by force has to wait longer."""
        return self.drain_seconds + self.grace_seconds + CLOSING_SECONDS + OPERATORS_SECONDS + 2


def server(
    app: ASGIApp,
    *,
    host: str,
    port: int,
    limits: Limits | None = None,
    closed: Callable[[Why], None] = lambda _: None,
    listening: Sequence[socket.socket] = (),
) -> Server:
    """A server that is ready to run. `closed` is told of every connection that was ended before its time.

    `listening` are sockets that are bound already, in place of `host` and `port`.
    """
    config = _Config(app, host=host, port=port, limits=limits or Limits(), closed=closed)
    return Server(config, listening=listening)


def run(
    *servers: Server,
    operators: Server | None = None,
    ending: Ending | None = None,
    draining: Callable[[], None] = lambda: None,
    started: Callable[[], None] = lambda: None,
    alone: Callable[[], Awaitable[None]] | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT; when one of them ends by itself, all end. Exit status: 0 after a signal, 1 when
    one could not start, or did not end in its time.

    After the signal `draining` is called once, every answer says `connection: close`, and the service goes on for
    `drain_seconds`; a second signal ends that wait. `operators` answers until all others have ended. `started` is
    called when all of them serve. What `alone` returns ends when nobody is left who would send a signal: then the
    service ends without the wait.
    """
    with asyncio.Runner(loop_factory=servers[0].config.get_loop_factory()) as runner:
        stop = _Stop()
        with _told(stop, loop=runner.get_loop()):
            life = _Life(servers, operators=operators, ending=ending or Ending(), stop=stop)
            return runner.run(life.lived(draining=draining, started=started, alone=alone))


class Server(uvicorn.Server):
    """uvicorn's, which here starts and ends as `run` says."""

    config: _Config

    def __init__(self, config: _Config, *, listening: Sequence[socket.socket] = ()) -> None:
        super().__init__(config)
        self.listening = tuple(listening)
        self.serving = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.serving.set()

    def drain(self) -> None:
        """From now on every answer is the last one on its connection."""
        self.config.draining = True
        for connection in list(self.server_state.connections):
            if isinstance(connection, Connection):
                connection.drain()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.drain()
        await self._accept_the_rest()
        await super().shutdown(sockets)

    async def _accept_the_rest(self) -> None:
        """Stops listening. What the kernel has connected by then is answered: with the last descriptor of a listening
        socket it would be reset, together with the request that it may have brought already.

        Between the last look into the kernel's queue and the closing some microseconds remain.
        """
        loop = asyncio.get_running_loop()
        last = [_again(listener) for server in self.servers for listener in server.sockets]
        for server in self.servers:
            server.close()
        await asyncio.sleep(0)  # uvloop closes in its next turn
        for listener in last:
            for accepted in _accepted(listener):
                await loop.connect_accepted_socket(self._connection, accepted)

    def _connection(self) -> Connection:
        return Connection(self.config, server_state=self.server_state, app_state=self.lifespan.state)


def _again(listener: Any) -> socket.socket:
    """The same listening socket by another descriptor, for the event loop closes its own."""
    return socket.socket(fileno=os.dup(listener.fileno()))


def _accepted(listener: socket.socket) -> Iterable[socket.socket]:
    """All that wait to be accepted; then the socket is closed, without a turn of the loop in between."""
    listener.setblocking(False)
    found = []
    with listener, suppress(OSError):  # there are no more, or no file is free for one
        while True:
            found.append(listener.accept()[0])
    return found


@dataclass(slots=True)
class _Stop:
    """What has been asked of the service. `asked`: to end. `urged`: without waiting any longer."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    urged: asyncio.Event = field(default_factory=asyncio.Event)

    def signalled(self) -> None:
        (self.urged if self.asked.is_set() else self.asked).set()

    def now(self) -> None:
        self.asked.set()
        self.urged.set()


@contextmanager
def _told(stop: _Stop, *, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Signals are requests to end, from here on and in place of what the interpreter or uvicorn would do."""

    def signalled(*_: object) -> None:
        loop.call_soon_threadsafe(stop.signalled)

    before = {number: signal.signal(number, signalled) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Life:
    """Servers from their start to their end."""

    def __init__(self, servers: Sequence[Server], *, operators: Server | None, ending: Ending, stop: _Stop) -> None:
        self._servers = tuple(servers)
        self._operators = operators
        self._ending = ending
        self._stop = stop
        self._failed = False
        for server in servers:
            server.config.timeout_graceful_shutdown = math.ceil(ending.grace_seconds)
        if operators is not None:
            operators.config.timeout_graceful_shutdown = OPERATORS_SECONDS

    async def lived(
        self,
        *,
        draining: Callable[[], None],
        started: Callable[[], None],
        alone: Callable[[], Awaitable[None]] | None,
    ) -> int:
        """The exit status."""
        tasks = [asyncio.create_task(self._served(server)) for server in self._servers]
        beside = [] if self._operators is None else [asyncio.create_task(self._served(self._operators))]
        begun = asyncio.create_task(self._begun(started))
        watching = [begun] if alone is None else [begun, asyncio.create_task(self._until_alone(alone))]
        await self._stop.asked.wait()
        draining()
        for server in self._servers:
            server.drain()
        if begun.done():
            await self._waited()
        for server in self._servers:
            server.should_exit = True
        ended = await self._ended(tasks, seconds=self._ending.grace_seconds + CLOSING_SECONDS)
        if self._operators is not None:
            self._operators.should_exit = True
            ended &= await self._ended(beside, seconds=OPERATORS_SECONDS + 1)
        for task in watching:
            task.cancel()
        return 0 if ended and not self._failed else 1

    async def _served(self, server: Server) -> None:
        try:
            # Not `serve`, which takes the signals of the process for itself and raises them again at the end.
            await server._serve(list(server.listening) or None)
        except SystemExit:  # uvicorn's word for a port that is taken, or an application that could not start
            self._failed = True
        finally:
            self._stop.now()

    async def _begun(self, started: Callable[[], None]) -> None:
        for server in (*self._servers, *(() if self._operators is None else (self._operators,))):
            await server.serving.wait()
        started()

    async def _until_alone(self, alone: Callable[[], Awaitable[None]]) -> None:
        await alone()
        self._stop.now()

    async def _waited(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._ending.drain_seconds):
                await self._stop.urged.wait()

    async def _ended(self, tasks: Sequence[asyncio.Task[None]], *, seconds: float) -> bool:
        """Whether they have ended within that time; what has not is given up. Raises what one of them raised."""
        done, late = await asyncio.wait(tasks, timeout=seconds)
        for task in late:
            log.critical("not closed in time")
            task.cancel()
        for task in done:
            task.result()
        return not late


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
        self.draining = False


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
        if self.config.draining:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._offered:
            return
        self._unparsed = 0
        super().on_message_complete()

    # --- what the server says

    def drain(self) -> None:
        """The answer that is being made is the last one here, unless its head has said otherwise."""
        if self._busy and not self.cycle.response_started:
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """At the end: closes what waits for nothing. What has arrived in part is answered, and then closed.

        A request that is sent while an idle connection is being closed is lost, as after every keep-alive time.
        """
        latest: RequestResponseCycle | None = self.cycle
        if self._busy:
            self.cycle.keep_alive = False
        elif latest is None and not self._unparsed:
            self.loop.call_later(FIRST_SECONDS, self._close_if_idle)
        else:
            self._close_if_idle()

    def _close_if_idle(self) -> None:
        if not (self._busy or self._unparsed or self._ended or _has_more(self.transport)):
            self.transport.close()

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


def _has_more(transport: asyncio.Transport) -> bool:
    """Whether the kernel holds bytes of the peer, or its end, that the event loop has not come to yet."""
    if sys.platform == "win32":
        return False
    connection = transport.get_extra_info("socket")
    if connection is None or transport.is_closing():
        return False
    waiting = select.poll()
    waiting.register(connection.fileno(), select.POLLIN)
    return bool(waiting.poll(0))


def _give_up_on_silence(transport: asyncio.Transport, *, seconds: float) -> None:
    """Small answers go into the kernel's buffers, out of our sight: it shall give up on such a peer too, after us."""
    option, connection = getattr(socket, "TCP_USER_TIMEOUT", None), transport.get_extra_info("socket")
    if option is not None and connection is not None and connection.family in {socket.AF_INET, socket.AF_INET6}:
        connection.setsockopt(socket.IPPROTO_TCP, option, int(2 * seconds * 1000))
