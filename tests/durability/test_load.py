"""Clients note how each sending ended, and the ledger what they were told."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tests.durability.calls import Call, Calls
from tests.durability.load import Clients, Ledger, Sent, closed_loop, open_loop
from tests.durability.processes import HOST, free_ports

CALL = Call("k1", "/hook", b"{}")


def answer(decision: str) -> bytes:
    return json.dumps({"cards": [], "extension": {"org.rescue-cds.decision": {"id": decision}}}).encode()


Handle = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handle: Handle) -> AsyncIterator[int]:
    """A server that reads a request and does with the connection what it is told."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await handle(await reader.readexactly(length), writer)
        writer.close()

    port = free_ports(1)
    async with await asyncio.start_server(connected, HOST, port):
        yield port


def said(status: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body


async def test_answered_cut_and_refused_are_told_apart() -> None:
    replies = iter(
        [said("200 OK", answer("d1")), said("200 OK", answer("d1"))[:-3], b"", said("503 No", b'{"code":"x"}')]
    )

    async def handle(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(next(replies))

    ledger = Ledger()
    async with serving(handle) as port, Clients(f"http://{HOST}:{port}", ledger=ledger) as clients:
        ends = [(await clients.send(CALL)).said for _ in range(4)]
    async with Clients(f"http://{HOST}:{port}", ledger=ledger) as clients:
        ends.append((await clients.send(CALL)).said)
    assert ends == ["200", "cut", "cut", "503 x", "refused"]
    assert ledger.ends == {"200": 1, "cut": 2, "503 x": 1, "refused": 1}
    entry = ledger.entries["k1"]
    assert (entry.decision, entry.answers, entry.unlike) == ("d1", 1, 0)
    assert entry.cut_at > 0


def test_a_repeat_with_other_bytes_is_unlike_the_first() -> None:
    ledger = Ledger()
    for body in (answer("d1"), answer("d1"), answer("d2")):
        ledger.begin(CALL)
        ledger.note(CALL, Sent("answered", 200, body), now=1.0)
    entry = ledger.entries["k1"]
    assert (entry.decision, entry.answers, entry.unlike, ledger.told) == ("d1", 3, 1, 1)


def test_a_call_is_repeated_only_while_it_is_answered_with_the_same() -> None:
    ledger = Ledger()
    ledger.begin(CALL)
    ledger.note(CALL, Sent("answered", 200, answer("d1")), now=1000.0)
    assert ledger.again(now=1400.0, chosen=random.Random(1)) == CALL
    assert ledger.again(now=1500.0, chosen=random.Random(1)) is None


@pytest.fixture
def calls() -> Calls:
    return Calls({"/hook": [b'{"hookInstance":"00000000-0000-4000-8000-000000000000"}']}, seed=1)


def test_calls_are_the_same_for_a_seed_and_all_different(calls: Calls) -> None:
    again = Calls({"/hook": [b'{"hookInstance":"00000000-0000-4000-8000-000000000000"}']}, seed=1)
    made = [calls.next() for _ in range(50)]
    assert made == [again.next() for _ in range(50)]
    assert len({call.key for call in made}) == 50
    assert all(call.body == f'{{"hookInstance":"{call.key}"}}'.encode() for call in made)


async def test_a_client_persists_until_it_is_answered(calls: Calls) -> None:
    seen: list[bytes] = []

    async def handle(body: bytes, writer: asyncio.StreamWriter) -> None:
        seen.append(body)
        if len(seen) % 3 == 0:
            writer.write(said("200 OK", answer(body.decode())))

    ledger, stop = Ledger(), asyncio.Event()
    async with serving(handle) as port, Clients(f"http://{HOST}:{port}", ledger=ledger) as clients:
        load = asyncio.create_task(closed_loop(clients, calls, at_once=2, stop=stop, chosen=random.Random(1)))
        while ledger.told < 4:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        stop.set()
        await load
    assert all(entry.digest for entry in ledger.entries.values())
    assert ledger.ends["cut"] >= 2 * ledger.ends["200"] - 6


async def test_an_open_loop_counts_what_brings_no_200_and_does_not_send_it_again(calls: Calls) -> None:
    bodies: list[bytes] = []

    async def handle(body: bytes, writer: asyncio.StreamWriter) -> None:
        bodies.append(body)
        writer.write(b"" if len(bodies) == 2 else said("200 OK", answer(body.decode())))

    ledger, stop = Ledger(), asyncio.Event()
    async with serving(handle) as port, Clients(f"http://{HOST}:{port}", ledger=ledger) as clients:
        load = asyncio.create_task(open_loop(clients, calls, rate=200, stop=stop))
        while len(bodies) < 5:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        stop.set()
        seconds = await load
    assert clients.failed == {"cut": 1}
    assert len(seconds) == len(bodies) == len(set(bodies))


async def test_where_nobody_listens_a_call_waits_until_somebody_does(calls: Calls) -> None:
    async def handle(body: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(said("200 OK", answer(body.decode())))

    ledger, stop, listening = Ledger(), asyncio.Event(), asyncio.Event()
    listening.set()
    port = free_ports(1)
    async with Clients(f"http://{HOST}:{port}", ledger=ledger) as clients:
        load = asyncio.create_task(open_loop(clients, calls, rate=200, stop=stop, listening=listening))
        while listening.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        async with serving(handle) as other:
            assert other == port
            listening.set()
            while ledger.told < 1:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            stop.set()
            await load
    assert clients.failed == {}
    assert all(entry.digest for entry in ledger.entries.values())
