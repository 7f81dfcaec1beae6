"""Slow clients lose their connections, and nobody else notices: with a tool made for it, and with plain sockets."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from app import edge
from app.edge import Limits
from app.main import create_app
from app.settings import BodyLimits
from tests.integration.hospital import NOW, PATH, hook, settings_for, shipped
from tests.security import slow_clients
from tests.security.slow_clients import Calls

pytestmark = pytest.mark.no_cover

PATIENCE = 30.0
"""Seconds after which the test gives up; what it waits for takes one."""

HEAD = f"POST {PATH} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n".encode()
SLOW = {
    "headers": HEAD,
    "body": HEAD + b"Content-Length: 500\r\n\r\n" + b'{"hook": ',
    "chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n{\r\n",
    "nothing": b"",
    "reading": b"GET /cds-services HTTP/1.1\r\nHost: h\r\n\r\n",
}
"""What each slow client has sent when it stops, or goes on a byte at a time."""

DRIP = {"headers": b"x: y\r\n", "body": b" ", "chunks": b"1\r\n \r\n"}


@contextmanager
def served(folder: Path) -> Iterator[tuple[tuple[str, int], Callable[[], Collection[object]], Counter[str]]]:
    """The service with the patience of half a second; the connections that it holds; and why some were ended."""
    settings = replace(settings_for(folder / "d.db"), body=BodyLimits(seconds=0.5))
    closed = Counter[str]()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    limits = Limits(head_seconds=0.5, unread_seconds=0.5, keep_alive_seconds=1)
    server = edge.server(
        create_app(settings, bedside=shipped(), clock=lambda: NOW),
        host="127.0.0.1",
        port=0,
        limits=limits,
        closed=lambda why: closed.update([why]),
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        end = time.monotonic() + PATIENCE
        while not server.started:
            assert time.monotonic() < end
            time.sleep(0.01)
        yield listener.getsockname(), lambda: server.server_state.connections, closed
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
    assert not thread.is_alive()


def test_plain_sockets_of_every_kind(tmp_path: Path) -> None:
    body = hook("demo-full-protocol", fhir=None, prefetched={"patient": {"resourceType": "Patient", "id": "x"}})
    body["context"]["patientId"] = "x"
    with served(tmp_path) as (address, held, closed), ExitStack() as stack:
        slow = []
        for kind, sent in [*SLOW.items()] * 8:
            peer = stack.enter_context(socket.socket())
            peer.connect(address)
            peer.sendall(sent)
            peer.setblocking(False)
            slow.append((kind, peer))
        client = stack.enter_context(httpx.Client(base_url=f"http://{address[0]}:{address[1]}", timeout=PATIENCE))
        statuses, most, end = [], 0, time.monotonic() + PATIENCE
        while len(held()) > 1 or not statuses:  # one is the ordinary client's
            assert time.monotonic() < end, len(held())
            statuses.append(client.post(PATH, json=body).status_code)
            most = max(most, len(held()))
            for kind, peer in slow:
                with suppress(OSError):
                    peer.send(DRIP.get(kind, b""))
            time.sleep(0.02)
        assert set(statuses) == {200}
        assert most > len(slow) // 2
        assert closed["late"] == 16  # the application itself ends the bodies, and who does not read had his answer


def required() -> bool:
    return slow_clients.TOOL in os.environ.get("RESCUE_CDS_REQUIRE", "").split(",")


def test_a_hundred_connections_of_each_kind() -> None:
    if reason := slow_clients.missing():
        if required():
            pytest.fail(f"{slow_clients.TOOL} is required here: {reason}", pytrace=False)
        pytest.skip(reason)
    figures = asyncio.run(slow_clients.run(size="small"))
    assert figures.held, "\n".join(f"{row.what}: {row.number}" for row in figures.rows if not row.held)


# --- the counting itself


def test_what_is_counted_is_what_the_server_holds() -> None:
    """Connections of this process are the ordinary client's and do not count; a stranger's would."""
    with socket.socket() as listener:
        listener.bind((slow_clients.HOST, 0))
        listener.listen()
        port = listener.getsockname()[1]
        with socket.create_connection((slow_clients.HOST, port)), listener.accept()[0]:
            assert slow_clients._held(os.getpid(), port) == set()
        script = f"import socket, sys; s = socket.create_connection(('127.0.0.1', {port})); sys.stdin.read()"
        stranger = slow_clients.subprocess.Popen(
            [slow_clients.sys.executable, "-c", script], stdin=slow_clients.subprocess.PIPE
        )
        accepted, (_, far) = listener.accept()
        assert slow_clients._held(os.getpid(), port) == {far}
        accepted.close()
        assert slow_clients._held(os.getpid(), port) == set()
        stranger.communicate(timeout=PATIENCE)


@pytest.mark.parametrize(
    ("statuses", "held", "said"),
    [
        (["200"] * 3, True, "3 of 3 are 200"),
        (["200", "503", ""], False, "1 of 3 are 200; 1 without an answer, 1 503"),
        ([], False, "0 of 0 are 200"),
    ],
)
def test_an_answer_that_is_missing_is_said(statuses: list[str], held: bool, said: str) -> None:
    (row,) = slow_clients._answers("x", Calls(statuses=statuses))
    assert (row.held, row.number) == (held, said)


def test_the_slowest_of_a_hundred() -> None:
    assert Calls(latencies=[float(n) for n in range(1, 101)]).p99 == 99.0
    assert Calls(latencies=[float(n) for n in range(1, 201)]).p99 == 198.0
    assert Calls(latencies=[5.0]).p99 == 5.0
    assert Calls().p99 == 0.0
