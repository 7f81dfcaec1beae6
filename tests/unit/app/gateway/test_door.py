"""One request over the wire: what is connected to, what is read of the answer, and what ends it.

Bytes on real sockets where a client library stands between them and us; chunks in its place where they do not matter.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import gzip
import ipaddress
import logging
import ssl
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from app.gateway import door
from app.gateway.errors import (
    BadLink,
    CircuitOpen,
    GatewayError,
    NotFhirJson,
    NotFound,
    Refused,
    ServerError,
    TimedOut,
    TooLarge,
    Unreachable,
)

URL = "https://fhir.example.org/r4/Observation"
MIB = 1024 * 1024


def capped(most: int) -> Callable[[int], None]:
    """What counts the steps of an answer and ends it beyond so many bytes."""
    seen = [0]

    def weigh(size: int) -> None:
        seen[0] += size
        if seen[0] > most:
            raise TooLarge

    return weigh


async def sent(
    transport: httpx.AsyncBaseTransport,
    url: str = URL,
    *,
    seconds: float = 5,
    connect_seconds: float = 1,
    weigh: Callable[[int], None] | None = None,
    headers: dict[str, str] | None = None,
) -> bytes:
    return await door.send(
        httpx.Request("GET", url, headers=headers),
        transport=transport,
        seconds=seconds,
        connect_seconds=connect_seconds,
        weigh=weigh or capped(64 * MIB),
    )


async def over_a_socket(url: str, *, seconds: float = 5, headers: dict[str, str] | None = None) -> bytes:
    transport = door.Pool(4)
    try:
        return await sent(transport, url, seconds=seconds, headers=headers)
    finally:
        await transport.aclose()


class Chunks(httpx.AsyncBaseTransport):
    """A server whose body comes in these chunks, as a connection would hand them over; counts what was taken."""

    def __init__(self, chunks: Callable[[], AsyncIterator[bytes]], *, status: int = 200, **headers: str) -> None:
        self.chunks, self.status = chunks, status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.taken = 0
        self.closed = False
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        outer = self

        class Stream(httpx.AsyncByteStream):
            async def __aiter__(self) -> AsyncIterator[bytes]:
                async for chunk in outer.chunks():
                    outer.taken += len(chunk)
                    yield chunk

            async def aclose(self) -> None:
                outer.closed = True

        return httpx.Response(self.status, headers=self.headers, stream=Stream())


def split(body: bytes, *, size: int = 16384) -> Callable[[], AsyncIterator[bytes]]:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    return chunks


def answering(status: int = 200, body: bytes = b"", **headers: str) -> Chunks:
    return Chunks(split(body), status=status, **headers)


async def settled() -> None:
    """Let the loop take what lies ready at its sockets."""
    for _ in range(20):
        await asyncio.sleep(0)


Reply = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def listening(reply: Reply, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server on this machine: its `host:port`, and the request heads that it was sent."""
    heads: list[bytes] = []
    writers: list[asyncio.StreamWriter] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            await reply(heads[-1], writer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", heads
    finally:
        await settled()  # a client that went away during its TLS handshake is only known to the loop
        server.close()
        for writer in writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        await settled()


def written(*parts: bytes) -> Reply:
    async def reply(_: bytes, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)

    return reply


def http(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


# --- tokens and what is worth repeating -------------------------------------------------------------------


@pytest.mark.parametrize("text", ["a", "eyJ0.eyJ1.c2ln", "A-._~+/9", "abc==", "a" * 5000])
def test_what_a_bearer_token_may_be(text: str) -> None:
    assert door.is_token(text)


@pytest.mark.parametrize(
    "text", ["", "=", "a b", "a\n", "a\r\nX: y", "\ta", "a=b", "ä", "a\x00", "a,b", '"a"', "Bearer a", "a;b", "a\u2028"]
)
def test_what_no_bearer_token_is(text: str) -> None:
    assert not door.is_token(text)


@pytest.mark.parametrize(
    "error",
    [
        Unreachable(),
        Refused(status=429),
        ServerError(status=502),
        ServerError(status=503),
        ServerError(status=504),
    ],
)
def test_what_may_pass(error: GatewayError) -> None:
    assert door.may_pass(error)


@pytest.mark.parametrize(
    "error",
    [
        *(Refused(status=status) for status in (204, 301, 304, 400, 401, 403, 405, 409, 412, 422)),
        *(ServerError(status=status) for status in (500, 501, 505, 507, 599)),
        NotFound(status=404),
        TimedOut(),
        TooLarge(),
        NotFhirJson(),
        BadLink(),
        CircuitOpen(),
        ValueError(),
    ],
)
def test_what_does_not_pass(error: Exception) -> None:
    assert not door.may_pass(error)


# --- status ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (201, Refused),
        (204, Refused),
        (206, Refused),
        (301, Refused),
        (304, Refused),
        (308, Refused),
        (400, Refused),
        (401, Refused),
        (403, Refused),
        (404, NotFound),
        (410, NotFound),
        (429, Refused),
        (451, Refused),
        (500, ServerError),
        (502, ServerError),
        (503, ServerError),
        (504, ServerError),
        (599, ServerError),
    ],
)
async def test_every_status_but_200_is_an_error_with_the_status(status: int, kind: type[GatewayError]) -> None:
    transport = answering(status, b"body-canary")
    with pytest.raises(kind, match=rf"^\S+ \({status}\)$") as caught:
        await sent(transport)
    assert caught.value.status == status
    assert type(caught.value) is kind


async def test_the_body_of_an_error_is_not_read() -> None:
    transport = answering(500, b"x" * 1000)
    with pytest.raises(ServerError):
        await sent(transport)
    assert (transport.taken, transport.closed) == (0, True)


async def test_an_answer_is_closed_once_it_was_read() -> None:
    transport = answering(body=b"{}")
    assert await sent(transport) == b"{}"
    assert transport.closed


# --- Retry-After -------------------------------------------------------------------------------------------


async def named(status: int, text: str) -> float | None:
    """The pause that a server names with an error."""
    with pytest.raises(GatewayError) as caught:
        await sent(answering(status, retry_after=text))
    return caught.value.retry_after


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_the_pause_in_seconds_is_kept(status: int) -> None:
    assert await named(status, "7") == 7.0


@pytest.mark.parametrize(("text", "seconds"), [("0", 0.0), (" 12 ", 12.0), ("999999", 999999.0)])
async def test_seconds_are_read(text: str, seconds: float) -> None:
    assert await named(503, text) == seconds


@pytest.mark.parametrize("text", ["1000000", "99999999999", "9" * 400])
async def test_a_very_long_pause_is_still_a_long_one(text: str) -> None:
    pause = await named(503, text)
    assert pause is not None
    assert pause > 900_000


async def test_the_pause_until_a_moment_is_kept() -> None:
    moment = datetime.datetime.now(UTC) + datetime.timedelta(seconds=60)
    pause = await named(503, format_datetime(moment, usegmt=True))
    assert pause is not None
    assert 50 < pause <= 60


async def test_a_moment_that_has_passed_is_no_pause() -> None:
    assert await named(503, "Wed, 21 Oct 2015 07:28:00 GMT") == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "-1",
        "1.5",
        "1e3",
        "0x10",
        "1 2",
        "Wed, 21 Oct 2015 07:28:00 -0000",
        "Wed, 99 Oct 2015 07:28:00 GMT",
        "Wed, 21 Oct 2015 77:28:00 GMT",
        "Wed, 21 Oct 2015 07:28:00 +9900",
        "Wed, 21 Oct 99999999999999999999 07:28:00 GMT",
        "Wed, 21 Oct 2015 07:28:00 +99999999999999",
        "," * 50,
    ],
)
async def test_a_pause_that_cannot_be_read_is_none(text: str) -> None:
    assert await named(503, text) is None


@settings(deadline=None)
@given(
    text=st.from_regex(
        r"[A-Za-z, ]{0,5}[0-9]{0,20} ?(Jan|Oct)? ?[0-9]{0,20}[ :]?[0-9:]{0,12} ?[+\-A-Z0-9]{0,20}", fullmatch=True
    )
)
def test_whatever_stands_there_is_a_pause_or_none(text: str) -> None:
    pause = asyncio.run(named(503, text))
    assert pause is None or pause >= 0


@pytest.mark.parametrize("status", [400, 401, 403, 500, 501])
async def test_a_pause_means_nothing_where_asking_again_does_not(status: int) -> None:
    assert await named(status, "7") is None


# --- time --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.049, 0.0, -1.0])
async def test_nothing_begins_that_could_only_be_cut_off(seconds: float) -> None:
    transport = answering(body=b"{}")
    with pytest.raises(TimedOut):
        await sent(transport, seconds=seconds)
    assert transport.requests == []


@pytest.mark.parametrize(("seconds", "connect"), [(5.0, 1.0), (0.3, 0.3)])
async def test_connecting_takes_no_longer_than_told_nor_than_the_whole(seconds: float, connect: float) -> None:
    transport = answering(body=b"{}")
    await sent(transport, seconds=seconds, connect_seconds=1.0)
    timeout = transport.requests[0].extensions["timeout"]
    assert timeout == {"connect": connect, "read": seconds, "write": seconds, "pool": seconds}


async def test_a_dripping_answer_ends_in_time_over_a_socket() -> None:
    async def drip(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"1\r\n \r\n")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with listening(drip) as (host, _):
        started = asyncio.get_running_loop().time()
        with pytest.raises(TimedOut):
            await over_a_socket(f"http://{host}/r4", seconds=0.15)
        assert asyncio.get_running_loop().time() - started < 3


async def test_dripping_headers_end_in_time_over_a_socket() -> None:
    async def drip(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(1000):
            writer.write(b"X-%d: y\r\n" % number)
            await writer.drain()
            await asyncio.sleep(0.01)

    async with listening(drip) as (host, _):
        started = asyncio.get_running_loop().time()
        with pytest.raises((TimedOut, Unreachable)):
            await over_a_socket(f"http://{host}/r4", seconds=0.15)
        assert asyncio.get_running_loop().time() - started < 3


@pytest.mark.parametrize("error", [httpx.ReadTimeout, httpx.WriteTimeout, httpx.PoolTimeout, TimeoutError])
async def test_silence_is_a_timeout(error: Callable[[str], Exception]) -> None:
    async def silent() -> AsyncIterator[bytes]:
        yield b"{"
        raise error("https://address-canary")

    with pytest.raises(TimedOut):
        await sent(Chunks(silent))


async def test_cancelling_closes_the_answer() -> None:
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"{"
        begun.set()
        await asyncio.Event().wait()

    transport = Chunks(endless)
    task = asyncio.create_task(sent(transport))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert transport.closed


# --- bytes -------------------------------------------------------------------------------------------------


def bomb(size: int) -> bytes:
    """So many spaces, a thousand times smaller, made without holding them."""
    pack = zlib.compressobj(9, wbits=31)
    return b"".join([*(pack.compress(b" " * MIB) for _ in range(size // MIB)), pack.flush()])


async def test_a_bomb_stops_at_the_cap_with_bounded_memory() -> None:
    body = bomb(128 * MIB)
    assert len(body) < 128 * 1024 * 1.1
    transport = Chunks(split(body), content_encoding="gzip")
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            await sent(transport, weigh=capped(MIB))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * MIB
    assert transport.closed


async def test_no_step_of_a_bomb_is_larger_than_64_kib() -> None:
    steps: list[int] = []
    await sent(Chunks(split(bomb(4 * MIB), size=10**9), content_encoding="gzip"), weigh=steps.append)
    assert sum(steps) == 4 * MIB
    assert max(steps) <= 64 * 1024


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
async def test_an_endless_answer_stops_at_the_cap(encoding: str) -> None:
    async def endless() -> AsyncIterator[bytes]:
        pack = zlib.compressobj(0, wbits=31)
        for _ in range(1024):
            yield pack.compress(bytes(65536)) if encoding == "gzip" else bytes(65536)

    transport = Chunks(endless, content_encoding=encoding)
    with pytest.raises(TooLarge):
        await sent(transport, weigh=capped(MIB))
    assert transport.taken < 2 * MIB


async def test_what_follows_the_end_of_a_gzip_body_is_not_read_on_and_on() -> None:
    """zlib keeps what comes after the end of a stream, and no inflated byte of it is ever weighed."""

    async def endless() -> AsyncIterator[bytes]:
        yield gzip.compress(b"{}")
        for _ in range(64):
            yield bytes(65536)

    transport = Chunks(endless, content_encoding="gzip")
    with contextlib.suppress(NotFhirJson, TooLarge):
        await sent(transport, weigh=capped(MIB))
    assert transport.taken < 2 * MIB


@pytest.mark.parametrize("cut", [1, 4, 8, 9, 20])
async def test_a_truncated_gzip_body_is_unreadable(cut: int) -> None:
    body = gzip.compress(b'{"resourceType":"Patient","id":"p1"}')[:-cut]
    with pytest.raises(NotFhirJson):
        await sent(Chunks(split(body), content_encoding="gzip"))


@pytest.mark.parametrize("at", [0, 3, 12, -6, -2])
async def test_a_damaged_gzip_body_is_unreadable(at: int) -> None:
    body = bytearray(gzip.compress(b'{"resourceType":"Patient","id":"p1"}'))
    body[at] ^= 0xFF
    with pytest.raises(NotFhirJson):
        await sent(Chunks(split(bytes(body)), content_encoding="gzip"))


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_an_empty_body_that_should_be_packed_is_unreadable(encoding: str) -> None:
    with pytest.raises(NotFhirJson):
        await sent(Chunks(split(b""), content_encoding=encoding))


@pytest.mark.parametrize(
    "encoding", ["br", "zstd", "compress", "gzip, gzip", "identity, gzip", "x", "gzip;q=1", "GZIPP"]
)
async def test_an_encoding_that_we_do_not_know_is_unreadable_and_not_read(encoding: str) -> None:
    transport = Chunks(split(b"{}"), content_encoding=encoding)
    with pytest.raises(NotFhirJson):
        await sent(transport)
    assert (transport.taken, transport.closed) == (0, True)


@pytest.mark.parametrize("encoding", ["", "identity", "Identity", " identity "])
async def test_a_plain_body_is_taken_as_it_is(encoding: str) -> None:
    assert await sent(Chunks(split(b"{}"), content_encoding=encoding)) == b"{}"


async def test_a_stream_that_is_not_asynchronous_is_unreadable() -> None:
    class Plain(httpx.SyncByteStream):
        pass

    def blocking(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=Plain())

    class Blocking(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            response = blocking(request)
            response.aclose = closed  # type: ignore[method-assign]  # httpx cannot close such a stream here
            return response

    async def closed() -> None:
        pass

    with pytest.raises(NotFhirJson):
        await sent(Blocking())


@settings(max_examples=60, deadline=None)
@given(
    seed=st.binary(max_size=200),
    times=st.integers(0, 3000),
    size=st.integers(1, 5000),
    encoding=st.sampled_from(["gzip", "x-gzip", "deflate"]),
)
def test_what_was_packed_comes_out_whole_however_it_is_cut(seed: bytes, times: int, size: int, encoding: str) -> None:
    body = seed * times
    packed = zlib.compress(body) if encoding == "deflate" else gzip.compress(body)
    assert asyncio.run(sent(Chunks(split(packed, size=size), content_encoding=encoding))) == body


# --- broken answers over real sockets ----------------------------------------------------------------------


async def test_a_body_over_a_socket() -> None:
    async with listening(written(http("200 OK", b'{"a":1}'))) as (host, heads):
        assert await over_a_socket(f"http://{host}/r4/Patient/p1", headers={"Authorization": "Bearer t"}) == b'{"a":1}'
    assert heads[0].startswith(b"GET /r4/Patient/p1 HTTP/1.1\r\n")
    assert b"authorization: bearer t\r\n" in heads[0].lower()


async def test_a_page_of_html_is_handed_over_as_bytes_with_nothing_followed() -> None:
    page = b'<html><meta http-equiv="refresh" content="0;url=/elsewhere"></html>'
    async with listening(written(http("200 OK", page, "Content-Type: text/html", "Refresh: 0; url=/x"))) as (
        host,
        heads,
    ):
        assert await over_a_socket(f"http://{host}/r4") == page
    assert len(heads) == 1


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        b"HTTP/1.1 200 OK\r\nBad header line\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nX: \x00\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
        b"HTTP/1.1 999999 OK\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x16\x03\x01\x02\x00",
    ],
)
async def test_a_broken_answer_is_unreachable(reply: bytes) -> None:
    async with listening(written(reply)) as (host, _):
        with pytest.raises(Unreachable):
            await over_a_socket(f"http://{host}/r4")


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 \xff\xfe\r\n",
        b"HTTP/1.1 200 \xc3\xa4\r\n",
        b"HTTP/1.1 200\r\n",
        b"HTTP/1.1 200 OK\r\nX: \xff\xfe\r\n",
        b"HTTP/1.1 200 OK\r\nSet-Cookie: \xff=\xfe; Path=\r\n",
        b"HTTP/1.1 200 OK\r\nSet-Cookie: ;;;===\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: \xff;;charset=\r\n",
        b"HTTP/1.1 200 OK\r\nLink: <:::>; rel\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\n",
    ],
)
async def test_an_odd_head_is_read_or_unreachable(head: bytes) -> None:
    async with listening(written(head + b"Content-Length: 2\r\nConnection: close\r\n\r\n{}")) as (host, _):
        try:
            assert await over_a_socket(f"http://{host}/r4") == b"{}"
        except GatewayError as error:
            assert type(error) is Unreachable  # noqa: PT017 (either end is right, no other is)


async def test_more_than_the_content_length_is_no_part_of_the_body() -> None:
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}trailing"
    async with listening(written(reply)) as (host, _):
        body = b""
        with contextlib.suppress(Unreachable):  # the client may as well say that this is no HTTP
            body = await over_a_socket(f"http://{host}/r4")
        assert body in {b"", b"{}"}


async def test_a_body_without_a_length_ends_with_the_connection() -> None:
    async with listening(written(b"HTTP/1.1 200 OK\r\n\r\n", b'{"a":', b"1}")) as (host, _):
        assert await over_a_socket(f"http://{host}/r4") == b'{"a":1}'


async def test_a_packed_body_over_a_socket_is_unpacked_by_us_alone() -> None:
    reply = http("200 OK", gzip.compress(b'{"a":1}'), "Content-Encoding: gzip")
    async with listening(written(reply)) as (host, _):
        assert await over_a_socket(f"http://{host}/r4") == b'{"a":1}'


async def test_a_bomb_over_a_socket_stops_at_the_cap() -> None:
    reply = http("200 OK", bomb(64 * MIB), "Content-Encoding: gzip")
    async with listening(written(reply)) as (host, _):
        transport = door.Pool(1)
        try:
            with pytest.raises(TooLarge):
                await sent(transport, f"http://{host}/r4", weigh=capped(MIB))
        finally:
            await transport.aclose()


async def test_nobody_there_is_unreachable() -> None:
    async with listening(written()) as (host, _):
        pass
    with pytest.raises(Unreachable):
        await over_a_socket(f"http://{host}/r4")


async def test_a_name_that_does_not_exist_is_unreachable() -> None:
    with pytest.raises((Unreachable, TimedOut)):
        await over_a_socket("http://fhir.invalid/r4", seconds=2)


# --- elsewhere ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
@pytest.mark.parametrize("where", ["same", "other port", "other host", "relative"])
async def test_a_redirect_is_refused_and_its_target_never_asked(status: str, where: str) -> None:
    async with listening(written(http("200 OK", b"{}"))) as (canary, asked):
        target = {
            "same": "",
            "other port": f"http://{canary}/r4",
            "other host": f"http://localhost:{canary.rpartition(':')[2]}/r4",
            "relative": "/elsewhere",
        }[where]

        async def redirect(_: bytes, writer: asyncio.StreamWriter) -> None:
            name = "127.0.0.1:{}".format(writer.get_extra_info("sockname")[1])
            writer.write(http(status, b"", f"Location: {target or f'http://{name}/r4/elsewhere'}"))

        async with listening(redirect) as (host, heads):
            with pytest.raises(Refused, match=status[:3]):
                await over_a_socket(f"http://{host}/r4", headers={"Authorization": "Bearer t"})
        assert len(heads) == 1
        assert asked == []


PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


async def test_proxies_of_the_environment_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with listening(written(http("200 OK", b"proxy"))) as (canary, asked):
        for name in PROXIES:
            monkeypatch.setenv(name, f"http://user:password@{canary}")
        async with listening(written(http("200 OK", b"{}"))) as (host, _):
            assert await over_a_socket(f"http://{host}/r4") == b"{}"
        with pytest.raises((Unreachable, TimedOut)):
            await over_a_socket("http://fhir.invalid/r4", seconds=2)
        with pytest.raises((Unreachable, TimedOut)):
            await over_a_socket("https://fhir.invalid/r4", seconds=2)
        assert asked == []


async def test_passwords_of_netrc_are_not_sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (".netrc", "_netrc"):
        path = tmp_path / name
        path.write_text("machine 127.0.0.1 login me password netrc-canary\ndefault login me password netrc-canary\n")
        path.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    async with listening(written(http("200 OK", b"{}"))) as (host, heads):
        await over_a_socket(f"http://{host}/r4")
    assert b"authorization" not in heads[0].lower()


async def test_cookies_are_neither_kept_nor_sent() -> None:
    reply = http("200 OK", b"{}", "Set-Cookie: session=cookie-canary; Path=/")
    async with listening(written(reply)) as (host, heads):
        transport = door.Pool(1)
        try:
            for _ in range(2):  # by name: a jar keeps nothing of an address of numbers
                await sent(transport, f"http://localhost:{host.rpartition(':')[2]}/r4")
        finally:
            await transport.aclose()
    assert b"cookie" not in heads[1].lower()


# --- TLS ---------------------------------------------------------------------------------------------------


def certificate(folder: Path, *, address: str = "127.0.0.1", days: int = 1) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS with a certificate that it signed itself, and the file of that."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fhir")])
    now = datetime.datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=10))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "server.pem", folder / "server.key"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return context, public


async def test_a_certificate_that_the_machine_trusts_is_trusted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    context, public = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(public))
    async with listening(written(http("200 OK", b"{}")), tls=context) as (host, _):
        assert await over_a_socket(f"https://{host}/r4") == b"{}"


async def test_the_secrets_of_a_connection_are_written_nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    context, public = certificate(tmp_path)
    secrets = tmp_path / "secrets.txt"
    monkeypatch.setenv("SSL_CERT_FILE", str(public))
    monkeypatch.setenv("SSLKEYLOGFILE", str(secrets))
    async with listening(written(http("200 OK", b"{}")), tls=context) as (host, _):
        assert await over_a_socket(f"https://{host}/r4") == b"{}"
    assert not secrets.exists() or b"SECRET" not in secrets.read_bytes()


async def test_a_certificate_that_nobody_trusts_is_unreachable_and_nothing_is_asked(tmp_path: Path) -> None:
    context, _ = certificate(tmp_path)
    async with listening(written(http("200 OK", b"{}")), tls=context) as (host, heads):
        with pytest.raises(Unreachable):
            await over_a_socket(f"https://{host}/r4")
    assert heads == []


@pytest.mark.parametrize(("address", "days"), [("127.0.0.2", 1), ("127.0.0.1", -1)])
async def test_a_trusted_certificate_of_another_or_of_yesterday_is_unreachable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address: str, days: int
) -> None:
    context, public = certificate(tmp_path, address=address, days=days)
    monkeypatch.setenv("SSL_CERT_FILE", str(public))
    async with listening(written(http("200 OK", b"{}")), tls=context) as (host, heads):
        with pytest.raises(Unreachable):
            await over_a_socket(f"https://{host}/r4")
    assert heads == []


async def test_a_server_without_tls_is_unreachable_by_https() -> None:
    async with listening(written(http("200 OK", b"{}"))) as (host, _):
        with pytest.raises((Unreachable, TimedOut)):
            await over_a_socket(f"https://{host}/r4", seconds=0.3)


# --- silence about it all ----------------------------------------------------------------------------------


async def test_nothing_is_logged_and_no_error_says_more_than_its_code(caplog: pytest.LogCaptureFixture) -> None:
    reply = http("503 Unavailable", b"body-canary", "Retry-After: 1", "Set-Cookie: =;cookie-canary\xff;Path")
    with caplog.at_level(logging.DEBUG):
        async with listening(written(reply)) as (host, _):
            url = f"http://{host}/r4/Observation?patient=patient-canary"
            with pytest.raises(ServerError) as caught:
                await over_a_socket(url, headers={"Authorization": "Bearer token-canary"})
    shown = caplog.text + repr(caught.value) + str(caught.value)
    assert "server-error (503)" in shown
    for canary in ("token-canary", "patient-canary", "body-canary", "cookie-canary", host):
        assert canary not in shown
