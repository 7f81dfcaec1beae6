"""What a connection may cost, seen from the other end of real sockets, on both event loops that uvicorn may choose."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from app import edge
from app.edge import Limits
from tests.contract import cds_hooks_oracle as oracle

PATIENCE = 20.0
"""Seconds after which a test gives up: nothing here is expected to take one."""

ROOT = Path(__file__).resolve().parents[3]
GET = b"GET /small HTTP/1.1\r\nHost: h\r\n\r\n"
BIG = 48 * 1024 * 1024
"""More than the kernel keeps for two ends of a connection."""

PATIENT = Limits(head_seconds=60, unread_seconds=60, keep_alive_seconds=60)
LOOPS = ["asyncio", *(["uvloop"] if importlib.util.find_spec("uvloop") else [])]


@dataclass(slots=True)
class Application:
    """Answers by path, and keeps the headers it was given; `held` answers when it is told to."""

    release: threading.Event = field(default_factory=threading.Event)
    seen: list[Scope] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        self.seen.append(scope)
        body, more = b"", scope["path"] != "/early"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.bodies.append(body + b"...")
                return
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.bodies.append(body)
        if scope["path"] == "/held":
            while not self.release.is_set():  # noqa: ASYNC110 - set by a thread
                await asyncio.sleep(0.005)
        answer = b"x" * BIG if scope["path"] == "/big" else scope["path"].encode()
        headers = [(b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


@dataclass(slots=True)
class Running:
    """A server in a thread of its own."""

    address: tuple[str, int]
    application: Application
    closed: Counter[str]
    server: Any

    def connect(self, *, receive_buffer: int = 0) -> socket.socket:
        made = socket.socket()
        if receive_buffer:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        made.settimeout(PATIENCE)
        made.connect(self.address)
        return made

    def until(self, true: Callable[[], bool]) -> None:
        """Waits for the server; what does not come fails the test."""
        end = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < end, dict(self.closed)
            time.sleep(0.005)

    def send(self, data: bytes) -> bytes:
        """Everything that comes back until the connection ends."""
        with self.connect() as peer:
            peer.sendall(data)
            return rest(peer)


@contextmanager
def running(loop: str, limits: Limits) -> Iterator[Running]:
    application, closed = Application(), Counter[str]()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = edge.server(application, host="127.0.0.1", port=0, limits=limits, closed=lambda why: closed.update([why]))
    server.config.loop = loop
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    found = Running(listener.getsockname(), application, closed, server)
    try:
        found.until(lambda: server.started)
        yield found
    finally:
        application.release.set()
        server.should_exit = server.force_exit = True
        thread.join(PATIENCE)
    assert not thread.is_alive()


Opened = Callable[[Limits], Running]


@pytest.fixture(params=LOOPS)
def opened(request: pytest.FixtureRequest) -> Iterator[Opened]:
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        yield lambda limits: stack.enter_context(running(request.param, limits))
    logging.getLogger("uvicorn.error").setLevel(logging.NOTSET)


def rest(peer: socket.socket) -> bytes:
    """What comes until the end, however the other side ends it."""
    found = bytearray()
    with suppress(ConnectionResetError):
        while piece := peer.recv(1 << 20):
            found += piece
    return bytes(found)


def drip(peer: socket.socket, piece: bytes) -> None:
    """Sends that again and again until the other side has ended the connection."""
    end = time.monotonic() + PATIENCE
    with suppress(ConnectionError):
        while time.monotonic() < end:
            peer.sendall(piece)
            time.sleep(0.02)
    assert time.monotonic() < end


def answer(peer: socket.socket) -> bytes:
    """One answer of a connection that goes on."""
    found = b""
    while b"\r\n\r\n" not in found:
        piece = peer.recv(1 << 16)
        assert piece, found
        found += piece
    head, _, begun = found.partition(b"\r\n\r\n")
    length = next(int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.startswith(b"content-length"))
    body = bytearray(begun)
    while len(body) < length:
        piece = peer.recv(1 << 20)
        assert piece
        body += piece
    return bytes(body)


def refused(said: bytes, status: int) -> None:
    head, _, body = said.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0].startswith(b"HTTP/1.1 %d " % status), said[:200]
    assert b"connection: close" in lines
    assert b"content-type: application/json" in lines
    assert b"content-length: %d" % len(body) in lines
    assert oracle.outcome(body) == []


# --- what works as before


def test_a_connection_is_used_again(opened: Opened) -> None:
    server = opened(PATIENT)
    with server.connect() as peer:
        for _ in range(3):
            peer.sendall(GET)
            assert answer(peer) == b"/small"
        peer.sendall(b"POST /body HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n12345\r\n")
        assert answer(peer) == b"/body"
        peer.sendall(b"\r\n" + GET)
        assert answer(peer) == b"/small"
    assert server.application.bodies[3] == b"12345"
    assert not server.closed


def test_a_head_may_come_byte_by_byte(opened: Opened) -> None:
    server = opened(PATIENT)
    with server.connect() as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in range(len(GET)):
            peer.sendall(GET[number : number + 1])
        assert answer(peer) == b"/small"


OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk\r\n"


@pytest.mark.parametrize("pieces", [1, 2, 1000], ids=["at once", "head and body", "byte by byte"])
@pytest.mark.parametrize(
    "framed",
    [
        b"Content-Length: 24\r\n\r\nGET /inner HTTP/1.1\r\n\r\n\n",
        b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ],
    ids=["length", "chunked"],
)
def test_java_offers_http2_and_goes_on_without(opened: Opened, framed: bytes, pieces: int) -> None:
    """Its body is read as one, and never as a request; the next request of the connection is heard too."""
    server = opened(PATIENT)
    head, _, body = framed.partition(b"\r\n\r\n")
    whole = b"POST /body HTTP/1.1\r\nHost: h\r\n" + OFFER + framed
    sent = {1: [whole], 2: [whole.removesuffix(body), body], 1000: [bytes([one]) for one in whole]}[pieces]
    with server.connect() as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(2):
            for piece in sent:
                peer.sendall(piece)
            assert answer(peer) == b"/body"
        peer.sendall(b"GET /small HTTP/1.1\r\nHost: h\r\n" + OFFER + b"\r\n")
        assert answer(peer) == b"/small"
    assert server.application.bodies == [b"abc" if b"chunked" in head else body] * 2 + [b""]
    assert not {b"upgrade", b"http2-settings"} & dict(server.application.seen[0]["headers"]).keys()
    assert not server.closed


def test_an_offer_with_close_is_answered_and_closed(opened: Opened) -> None:
    server = opened(PATIENT)
    offer = OFFER.replace(b"Upgrade, ", b"close, Upgrade, ")
    said = server.send(b"POST /body HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n" + offer + b"\r\n{}")
    assert said.endswith(b"/body")
    assert server.application.bodies == [b"{}"]


def test_a_websocket_is_not_to_be_had(opened: Opened) -> None:
    server = opened(PATIENT)
    with server.connect() as peer:
        peer.sendall(GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n")
        assert answer(peer) == b"/small"


def test_a_large_answer_goes_to_whoever_takes_it(opened: Opened) -> None:
    server = opened(replace(PATIENT, unread_seconds=20))
    with server.connect() as peer:
        peer.sendall(b"GET /big HTTP/1.1\r\nHost: h\r\n\r\n")
        assert len(answer(peer)) == BIG
        peer.sendall(GET)
        assert answer(peer) == b"/small"
    assert not server.closed


def test_an_idle_connection_ends_as_before(opened: Opened) -> None:
    server = opened(replace(PATIENT, keep_alive_seconds=0))
    with server.connect() as peer:
        peer.sendall(GET)
        assert rest(peer).endswith(b"/small")
    assert not server.closed


# --- heads that do not come


def test_nothing_at_all_ends_without_an_answer(opened: Opened) -> None:
    server = opened(replace(PATIENT, head_seconds=0.1))
    assert server.send(b"") == b""
    assert server.closed == {"late": 1}


def test_an_unfinished_head_ends(opened: Opened) -> None:
    server = opened(replace(PATIENT, head_seconds=0.2))
    refused(server.send(GET[:-2]), 408)
    assert server.closed == {"late": 1}
    assert not server.application.seen


def test_a_byte_now_and_then_does_not_help(opened: Opened) -> None:
    server = opened(replace(PATIENT, head_seconds=0.3))
    with server.connect() as peer:
        peer.sendall(b"GET / HTTP/1.1\r\n")
        drip(peer, b"x: y\r\n")
    assert server.closed == {"late": 1}


@pytest.mark.parametrize("further", [GET[:10], b"\r\n"], ids=["a request", "empty lines"])
def test_a_further_request_has_as_long(opened: Opened, further: bytes) -> None:
    """Also what is no request yet: it ends the time-out of an idle connection, so another must begin."""
    server = opened(replace(PATIENT, head_seconds=0.3))
    with server.connect() as peer:
        peer.sendall(GET)
        assert answer(peer) == b"/small"
        peer.sendall(further)
        refused(rest(peer), 408)
    assert server.closed == {"late": 1}


def test_each_head_has_its_own_time(opened: Opened) -> None:
    server = opened(replace(PATIENT, head_seconds=1.0))
    with server.connect() as peer:
        for _ in range(4):
            peer.sendall(GET[:10])
            time.sleep(0.4)
            peer.sendall(GET[10:])
            assert answer(peer) == b"/small"
    assert not server.closed


def test_a_body_that_nobody_waits_for_has_as_long(opened: Opened) -> None:
    """Answered before it was there, it would otherwise hold the connection for as long as its sender likes."""
    server = opened(replace(PATIENT, head_seconds=0.3))
    with server.connect() as peer:
        peer.sendall(b"POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n")
        assert answer(peer) == b"/early"
        drip(peer, b"x")
    assert server.closed == {"late": 1}


def test_an_answer_that_takes_long_is_waited_for(opened: Opened) -> None:
    server = opened(replace(PATIENT, head_seconds=0.1))
    with server.connect() as peer:
        peer.sendall(GET.replace(b"small", b"held"))
        server.until(lambda: bool(server.application.bodies))
        time.sleep(0.3)
        server.application.release.set()
        assert answer(peer) == b"/held"
    assert "late" not in server.closed


# --- heads that do not end


@pytest.mark.parametrize(
    "begin",
    [b"GET /", b"GET / HTTP/1.1\r\nx-", b"GET / HTTP/1.1\r\nx: ", b"GET / HTTP/1.1\r\nHost: h\r\nx: y\r\n"],
    ids=["an address", "a name", "a value", "a header after others"],
)
def test_what_does_not_end_is_not_kept(opened: Opened, begin: bytes) -> None:
    server = opened(replace(PATIENT, head_bytes=4096))
    with server.connect() as peer:
        peer.sendall(begin + b"a" * 2048)
        peer.sendall(b"a" * 4096)
        refused(rest(peer), 431)
    assert server.closed == {"too-long": 1}
    assert not server.application.seen


def test_many_small_headers_are_too_many(opened: Opened) -> None:
    server = opened(replace(PATIENT, headers=20))
    refused(server.send(GET[:-2] + b"a:b\r\n" * 20 + b"\r\n"), 431)
    with server.connect() as peer:
        peer.sendall(GET[:-2] + b"a:b\r\n" * 19 + b"\r\n")
        assert answer(peer) == b"/small"
    assert server.closed == {"too-long": 1}


def test_a_long_head_in_one_piece_is_too_long(opened: Opened) -> None:
    server = opened(replace(PATIENT, head_bytes=4096))
    refused(server.send(b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: h\r\n\r\n"), 431)
    with server.connect() as peer:  # what the application refuses in its own words comes to it
        peer.sendall(GET[:-2] + b"x: " + b"y" * 3900 + b"\r\n\r\n")
        assert answer(peer) == b"/small"


def test_what_stands_after_a_body_is_no_header_and_has_an_end(opened: Opened) -> None:
    head = b"POST /body HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    server = opened(replace(PATIENT, head_bytes=4096))
    with server.connect() as peer:
        peer.sendall(head + b"0\r\nAuthorization: Bearer later\r\n\r\n")
        assert answer(peer) == b"/body"
        assert b"authorization" not in dict(server.application.seen[0]["headers"])
    with server.connect() as peer:
        peer.sendall(head + b"0\r\nx: " + b"y" * 3000)
        server.until(lambda: len(server.application.seen) == 2)
        peer.sendall(b"y" * 5000)
        refused(rest(peer), 431)
    server.until(lambda: len(server.application.bodies) == 2)
    assert server.application.bodies == [b"abc", b"abc..."]


def test_a_body_in_very_small_pieces_is_no_long_head(opened: Opened) -> None:
    server = opened(replace(PATIENT, head_bytes=4096))
    with server.connect() as peer:
        peer.sendall(b"POST /body HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(3000):
            peer.sendall(b"1\r\nx\r\n")
        peer.sendall(b"0\r\n\r\n")
        assert answer(peer) == b"/body"
    assert server.application.bodies == [b"x" * 3000]


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nHost h\r\n\r\n",
        b"CONNECT h:1 HTTP/1.1\r\n\r\n",
        b"POST /body HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /body HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"POST /body HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=["TLS", "no colon", "CONNECT", "two framings", "two lengths", "a chunk of no length"],
)
def test_what_is_no_request_is_400_in_the_one_shape(opened: Opened, sent: bytes) -> None:
    server = opened(PATIENT)
    refused(server.send(sent), 400)
    assert server.closed == {"malformed": 1}


def test_an_answer_is_not_taken_for_another(opened: Opened) -> None:
    """A second request behind one that is being answered: the first is answered, and then it ends."""
    server = opened(PATIENT)
    for behind in (GET, GET * 1000, b"no request"):
        server.application.release.clear()
        server.application.bodies.clear()
        with server.connect() as peer:
            peer.sendall(GET.replace(b"small", b"held") + behind)
            server.until(lambda: bool(server.application.bodies))
            server.application.release.set()
            said = rest(peer)
        assert said.count(b"HTTP/1.1") == 1
        assert said.endswith(b"/held")
    assert len(server.application.seen) == 3
    assert set(server.closed) <= {"pipelined", "malformed"}


# --- answers that nobody takes


def test_a_peer_that_does_not_read_is_left(opened: Opened) -> None:
    server = opened(replace(PATIENT, unread_seconds=0.3))
    with server.connect(receive_buffer=4096) as peer:
        peer.sendall(b"GET /big HTTP/1.1\r\nHost: h\r\n\r\n")
        server.until(lambda: server.closed == {"unread": 1})
        server.until(lambda: not server.server.server_state.connections)
        assert len(rest(peer)) < BIG


def test_a_sip_now_and_then_does_not_help(opened: Opened) -> None:
    server = opened(replace(PATIENT, unread_seconds=0.5))
    with server.connect(receive_buffer=4096) as peer:
        peer.sendall(b"GET /big HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")

        def left() -> bool:
            peer.recv(5)
            return not server.server.server_state.connections

        server.until(left)
    assert server.closed == {"unread": 1}


def test_the_kernel_gives_up_after_us(opened: Opened) -> None:
    server = opened(replace(PATIENT, unread_seconds=7))
    with server.connect() as peer:
        peer.sendall(GET)
        answer(peer)
        (connection,) = server.server.server_state.connections
        accepted = connection.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 14000


# --- how many


def test_one_more_than_there_may_be_is_closed_at_once(opened: Opened) -> None:
    server = opened(replace(PATIENT, connections=3))
    with ExitStack() as stack:
        peers = [stack.enter_context(server.connect()) for _ in range(3)]
        server.until(lambda: len(server.server.server_state.connections) == 3)
        for _ in range(5):
            assert server.send(b"") == b""
        assert server.closed == {"crowded": 5}
        for peer in peers:  # those who came first are answered
            peer.sendall(GET)
            assert answer(peer) == b"/small"
        peers[0].close()
        server.until(lambda: len(server.server.server_state.connections) == 2)
        with server.connect() as late:
            late.sendall(GET)
            assert answer(late) == b"/small"


# --- several in one process

TWO = """
import sys
from app import edge
from tests.unit.app.test_edge import Application

sys.exit(edge.run(*(edge.server(Application(), host="127.0.0.1", port=int(port)) for port in sys.argv[1:])))
"""


@contextmanager
def process(*ports: int) -> Iterator[subprocess.Popen[bytes]]:
    arguments = [sys.executable, "-c", TWO, *map(str, ports)]
    found = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield found
    finally:
        found.kill()
        found.communicate()


def free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


def answered(port: int) -> bytes:
    """Asked until somebody listens there."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), PATIENCE) as peer:
                peer.sendall(GET)
                return answer(peer)
        except ConnectionRefusedError:
            assert time.monotonic() < end
            time.sleep(0.02)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_of_them(sent: signal.Signals) -> None:
    ports = free_ports()
    with process(*ports) as running_:
        assert [answered(port) for port in ports] == [b"/small", b"/small"]
        running_.send_signal(sent)
        _, said = running_.communicate(timeout=PATIENCE)
    assert b"Traceback" not in said
    assert running_.returncode == 0


def test_one_without_its_port_ends_all_of_them() -> None:
    port, _ = free_ports()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with process(port, taken.getsockname()[1]) as running_:
            running_.communicate(timeout=PATIENCE)
    assert running_.returncode == 1


# --- the end


async def ending(
    act: Callable[[socket.socket], None], *, address: tuple[str, int], server: edge.Server, known: bool
) -> bytes:
    """What a peer gets that has done something just before the server shuts down, without a turn of the server's loop
    in between. `known`: it has been answered before."""
    serving = asyncio.create_task(server._serve(list(server.listening)))
    await server.serving.wait()
    with socket.socket() as peer:
        peer.settimeout(PATIENCE)
        peer.connect(address)
        if known:
            await asyncio.to_thread(head, peer)
        act(peer)
        await server.shutdown(list(server.listening))
        serving.cancel()
        return await asyncio.to_thread(rest, peer)


def ended(loop: str, act: Callable[[socket.socket], None], *, known: bool = False) -> bytes:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = edge.server(Application(), host="", port=0, limits=PATIENT, listening=[listener])
        server.config.loop, server.config.timeout_graceful_shutdown = loop, 10
        with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
            return runner.run(ending(act, address=listener.getsockname(), server=server, known=known))


@pytest.mark.parametrize("loop", LOOPS)
def test_who_was_connected_and_not_yet_accepted_is_answered(loop: str) -> None:
    """uvicorn closes its listening socket, and the kernel resets whoever waits there."""
    assert ended(loop, lambda peer: peer.sendall(GET)).endswith(b"connection: close\r\n\r\n/small")


@pytest.mark.parametrize("loop", LOOPS)
def test_what_has_come_to_the_kernel_on_an_idle_connection_is_answered(loop: str) -> None:
    assert ended(loop, lambda peer: peer.sendall(GET), known=True).endswith(b"connection: close\r\n\r\n/small")
    assert ended(loop, lambda _: None, known=True) == b""


@pytest.mark.parametrize("loop", LOOPS)
def test_who_has_connected_and_not_yet_sent_has_a_moment(loop: str) -> None:
    def later(peer: socket.socket) -> None:
        threading.Timer(0.1, peer.sendall, [GET]).start()

    assert ended(loop, later).endswith(b"/small")


@pytest.mark.parametrize("loop", LOOPS)
def test_who_only_connects_does_not_hold_the_end_up(loop: str) -> None:
    assert ended(loop, lambda _: None) == b""


def test_at_the_end_what_has_begun_to_arrive_is_answered(opened: Opened) -> None:
    server = opened(PATIENT)
    with server.connect() as peer, server.connect() as idle:
        idle.sendall(GET)
        assert answer(idle) == b"/small"
        peer.sendall(GET[:20])
        server.until(lambda: any(one._unparsed for one in server.server.server_state.connections))
        server.server.should_exit = True
        assert rest(idle) == b""
        peer.sendall(GET[20:])
        assert rest(peer).endswith(b"connection: close\r\n\r\n/small")


ONE = """
import sys
from app import edge
from tests.unit.app.test_edge import Application

port, beside, drain, grace = sys.argv[1:]
sys.exit(
    edge.run(
        edge.server(Application(), host="127.0.0.1", port=int(port)),
        operators=edge.server(Application(), host="127.0.0.1", port=int(beside)),
        ending=edge.Ending(float(drain), float(grace)),
        started=lambda: print("started", flush=True),
        draining=lambda: print("draining", flush=True),
    )
)
"""


@contextmanager
def draining(*, drain: float, grace: float) -> Iterator[tuple[subprocess.Popen[bytes], tuple[int, int]]]:
    """A process that serves, and the ports of its service and of its operators."""
    ports = free_ports()
    arguments = [sys.executable, "-c", ONE, *map(str, (*ports, drain, grace))]
    found = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert found.stdout is not None
    try:
        assert found.stdout.readline() == b"started\n"
        yield found, ports
    finally:
        found.kill()
        found.communicate()


def head(peer: socket.socket, path: str = "/small") -> bytes:
    """The head of the answer to a request."""
    peer.sendall(b"GET %s HTTP/1.1\r\nHost: h\r\n\r\n" % path.encode())
    received = b""
    while not received.endswith(path.encode()):
        more = peer.recv(4096)
        assert more, received
        received += more
    return received.partition(b"\r\n\r\n")[0]


def peer_of(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), PATIENCE)


def test_after_the_signal_it_serves_on_and_says_close() -> None:
    with draining(drain=60, grace=10) as (process_, (port, beside)):
        assert process_.stdout is not None
        with peer_of(port) as kept, peer_of(port) as silent, peer_of(beside) as operator:
            assert b"connection" not in head(kept)
            assert b"connection" not in head(silent)
            process_.send_signal(signal.SIGTERM)
            assert process_.stdout.readline() == b"draining\n"
            assert head(kept).endswith(b"connection: close")
            assert rest(kept) == b""
            with peer_of(port) as fresh:
                assert head(fresh).endswith(b"connection: close")
            assert b"connection" not in head(operator)
            process_.send_signal(signal.SIGTERM)  # the wait is over
            assert rest(silent) == b""
        _, said = process_.communicate(timeout=PATIENCE)
    assert (process_.returncode, said) == (0, b"")


def test_operators_are_answered_until_the_last_answer_is_given() -> None:
    with draining(drain=0, grace=60) as (process_, (port, beside)):
        assert process_.stdout is not None
        with peer_of(port) as held, peer_of(port) as again:
            held.sendall(b"POST /small HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nab")
            assert b"/small" not in head(again)  # by now the other one is being answered
            process_.send_signal(signal.SIGTERM)
            assert process_.stdout.readline() == b"draining\n"
            assert rest(again) == b""
            with pytest.raises(ConnectionRefusedError):
                peer_of(port)
            assert answered(beside) == b"/small"
            assert process_.poll() is None
            process_.send_signal(signal.SIGINT)  # there is nothing left that it could shorten
            held.sendall(b"cd")
            assert rest(held).endswith(b"connection: close\r\n\r\n/small")
        _, said = process_.communicate(timeout=PATIENCE)
    assert (process_.returncode, said) == (0, b"")


def test_what_does_not_end_in_its_time_is_given_up() -> None:
    with draining(drain=0, grace=1) as (process_, (port, _)):
        with peer_of(port) as held:
            held.sendall(b"GET /held HTTP/1.1\r\nHost: h\r\n\r\n")
            with peer_of(port) as again:
                assert head(again)
            process_.send_signal(signal.SIGTERM)
            process_.communicate(timeout=PATIENCE)
        assert process_.returncode == 0


# --- files


@pytest.mark.parametrize(
    ("soft", "hard", "asked", "given", "raised"),
    [
        (1024, 4096, 1024, 1024, 1024 + edge.OTHER_FILES),
        (1024, 1024, 1024, 512, 1024),
        (256, 256, 1024, 128, 256),
        (65536, 65536, 1024, 1024, None),
        (1024, resource.RLIM_INFINITY, 1024, 1024, 1024 + edge.OTHER_FILES),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, 1024, 1024, None),
        (4096, 4096, 10, 10, None),
    ],
)
def test_as_many_as_there_are_files_for(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, asked: int, given: int, raised: int | None
) -> None:
    changed: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: changed.append(limits))
    assert edge.fitting(asked) == given
    assert changed == ([] if raised is None else [(raised, hard)])


def test_a_limit_that_cannot_be_raised_is_kept_to(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: Any) -> None:
        raise ValueError("not allowed")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (1000, 4096))
    monkeypatch.setattr(resource, "setrlimit", refuses)
    assert edge.fitting(1024) == 500


def test_the_limits_of_a_service_as_it_is_shipped() -> None:
    made = edge.server(Application(), host="127.0.0.1", port=8000)
    config: Any = made.config
    assert (config.limits, config.timeout_keep_alive) == (Limits(10.0, 65536, 256, 20.0, 5, 1024), 5)
    assert json.dumps([config.host, config.port, config.access_log, config.server_header, config.ws]) == json.dumps(
        ["127.0.0.1", 8000, False, False, "none"]
    )
