"""The gateway against a server that misbehaves in every way we know of.

Stubs answer through respx's router on a MockTransport, except where bytes on a real socket matter (aiohttp).
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import logging
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import httpx
import pytest
import respx

from app.gateway.access import Access
from app.gateway.budget import Budget, Deadline
from app.gateway.errors import GatewayError
from app.gateway.fhir import Fetched, Gateway, Limits, Query

BASE = "https://fhir.example.org/r4"
TOKEN = "secret-token-canary"
QUERY = Query("Observation", (("patient", "p-canary"), ("code", "http://loinc.org|1988-5"), ("_count", "2")))


def bundle(*ids: str, following: str | None = None, **more: Any) -> dict[str, Any]:
    entry = [{"resource": {"resourceType": "Observation", "id": name}, "search": {"mode": "match"}} for name in ids]
    link = [{"relation": "next", "url": following}] if following is not None else []
    return {"resourceType": "Bundle", "type": "searchset", "entry": entry, "link": link, **more}


def outcome(severity: str, **more: str) -> dict[str, Any]:
    return {"resourceType": "OperationOutcome", "issue": [{"severity": severity, "code": "processing", **more}]}


@pytest.fixture
def router() -> Iterator[respx.MockRouter]:
    with respx.MockRouter(assert_all_called=False, assert_all_mocked=True) as router:
        yield router


def ids(fetched: Fetched) -> list[str]:
    return [entry.id for page in fetched.pages for entry in page.entries]


async def fetch(
    router: respx.MockRouter,
    query: Query = QUERY,
    *,
    token: str | None = TOKEN,
    seconds: float = 5,
    limits: Limits | None = None,
) -> Fetched:
    async with Gateway(httpx.MockTransport(router.async_handler), limits=limits) as gateway:
        return await gateway.fetch(query, base=BASE, access=Access(token), budget=Budget(Deadline(seconds)))


async def test_a_search_asks_for_fresh_fhir_json_with_the_token(router: respx.MockRouter) -> None:
    route = router.get(f"{BASE}/Observation").respond(json=bundle("a"))
    fetched = await fetch(router)
    request = route.calls.last.request
    assert request.headers["accept"] == "application/fhir+json"
    assert request.headers["cache-control"] == "no-cache"
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert request.headers["accept-encoding"] == "identity"
    assert dict(request.url.params) == dict(QUERY.params)
    assert "%7C" in str(request.url)
    assert (fetched.outcome, fetched.why, fetched.requests, ids(fetched)) == ("ok", "", 1, ["a"])
    assert ids(fetched) == ["a"]
    assert fetched.bytes == len(json.dumps(bundle("a"), separators=(",", ":")))


async def test_without_a_token_there_is_no_authorization(router: respx.MockRouter) -> None:
    route = router.get(f"{BASE}/Observation").respond(json=bundle())
    assert (await fetch(router, token=None)).outcome == "empty"
    assert "authorization" not in route.calls.last.request.headers


async def test_a_patient_is_read(router: respx.MockRouter) -> None:
    router.get(f"{BASE}/Patient/p1").respond(json={"resourceType": "Patient", "id": "p1"})
    fetched = await fetch(router, Query("Patient", id="p1"))
    assert (fetched.outcome, ids(fetched)) == ("ok", ["p1"])


@pytest.mark.parametrize("name", ["", "..", ".", "a/b", "a?b", "a,b", "a%2fb", "x" * 65, "ä", "a\n"])
async def test_an_id_that_is_none_is_never_sent(router: respx.MockRouter, name: str) -> None:
    if name:
        fetched = await fetch(router, Query("Patient", id=name))
        assert (fetched.outcome, fetched.why) == ("failed", "unsafe-request")
    else:
        router.get(f"{BASE}/Patient").respond(json=bundle())
        assert (await fetch(router, Query("Patient", id=name))).outcome == "empty"
    assert router.calls.call_count == (0 if name else 1)


@pytest.mark.parametrize("token", ["", "a b", "a\r\nX: y", "tökén", "a\x00"])
async def test_a_token_that_is_none_is_never_sent(router: respx.MockRouter, token: str) -> None:
    fetched = await fetch(router, token=token)
    assert (fetched.outcome, fetched.why) == ("failed", "unsafe-request")
    assert router.calls.call_count == 0


async def test_a_long_search_is_posted(router: respx.MockRouter) -> None:
    codes = ",".join(f"http://loinc.org|{number}-1" for number in range(1000))
    route = router.post(f"{BASE}/Observation/_search").respond(json=bundle("a"))
    fetched = await fetch(router, Query("Observation", (("patient", "p1"), ("code", codes))))
    request = route.calls.last.request
    assert fetched.outcome == "ok"
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert request.headers["cache-control"] == "no-cache"
    assert dict(httpx.QueryParams(request.content.decode())) == {"patient": "p1", "code": codes}


async def test_all_pages_are_read_with_the_same_headers(router: respx.MockRouter) -> None:
    router.get(f"{BASE}/Observation").respond(json=bundle("a", following=f"{BASE}?_getpages=1", total=3))
    second = router.get(BASE, params={"_getpages": "1"}).respond(json=bundle("b", following="?_getpages=2"))
    third = router.get(url__regex=r".*_getpages=2").respond(json=bundle("c"))
    fetched = await fetch(router)
    assert (fetched.outcome, fetched.why, ids(fetched), fetched.requests) == ("ok", "", ["a", "b", "c"], 3)
    for route in (second, third):
        assert route.calls.last.request.headers["authorization"] == f"Bearer {TOKEN}"
        assert route.calls.last.request.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/r4?_getpages=1",
        "http://fhir.example.org/r4?_getpages=1",
        "https://fhir.example.org:8443/r4?_getpages=1",
        "https://fhir.example.org/other?_getpages=1",
        "https://fhir.example.org/r4/../admin",
        "https://fhir.example.org@evil.example/r4",
        "//evil.example/r4",
        "https://evil.example\\@fhir.example.org/r4",
    ],
)
async def test_a_link_elsewhere_is_not_followed(router: respx.MockRouter, link: str) -> None:
    router.get(f"{BASE}/Observation").respond(json=bundle("a", following=link))
    fetched = await fetch(router)
    assert (fetched.outcome, fetched.why, ids(fetched)) == ("partial", "foreign-next", ["a"])
    assert router.calls.call_count == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(router: respx.MockRouter, status: int) -> None:
    router.get(f"{BASE}/Observation").respond(status, headers={"Location": f"{BASE}/elsewhere"})
    fetched = await fetch(router)
    assert (fetched.outcome, fetched.why, fetched.params) == ("failed", "refused", (("status", str(status)),))
    assert router.calls.call_count == 1


async def test_loops_end(router: respx.MockRouter) -> None:
    router.get(f"{BASE}/Observation").respond(json=bundle("a", following=f"{BASE}?page=1"))
    router.get(BASE, params={"page": "1"}).respond(json=bundle("b", following=f"{BASE}?page=2"))
    router.get(BASE, params={"page": "2"}).respond(json=bundle("c", following=f"{BASE}?page=1"))
    fetched = await fetch(router)
    assert (fetched.outcome, fetched.why, fetched.requests) == ("partial", "page-loop", 3)


async def test_a_page_that_is_its_own_next_ends(router: respx.MockRouter) -> None:
    def same(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=bundle("a", following=str(request.url)))

    router.get(f"{BASE}/Observation").mock(side_effect=same)
    fetched = await fetch(router)
    assert (fetched.outcome, fetched.why, fetched.requests) == ("partial", "page-loop", 1)


@pytest.mark.parametrize(
    ("limits", "why", "requests"),
    [(Limits(pages=4), "page-limit", 4), (Limits(entries=3), "entry-limit", 3), (Limits(bytes=1000), "too-large", 5)],
)
async def test_endless_pages_end_at_a_cap(router: respx.MockRouter, limits: Limits, why: str, requests: int) -> None:
    def more(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=bundle("a", following=f"{BASE}?page={router.calls.call_count}"))

    router.get(url__startswith=BASE).mock(side_effect=more)
    fetched = await fetch(router, limits=limits)
    assert (fetched.outcome, fetched.why, fetched.requests) == ("partial", why, requests)
    assert fetched.pages


async def test_fewer_than_total_without_a_link_is_partial(router: respx.MockRouter) -> None:
    router.get(f"{BASE}/Observation").respond(json=bundle("a", "b", total=300))
    fetched = await fetch(router)
    assert (fetched.outcome, fetched.why) == ("partial", "fewer-than-total")


async def test_included_entries_do_not_count_towards_total(router: respx.MockRouter) -> None:
    body = bundle("a", total=2)
    body["entry"].append({"resource": {"resourceType": "Medication", "id": "m"}, "search": {"mode": "include"}})
    router.get(f"{BASE}/Observation").respond(json=body)
    assert (await fetch(router)).why == "fewer-than-total"


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (400, "refused"),
        (401, "refused"),
        (403, "refused"),
        (404, "not-found"),
        (410, "not-found"),
        (429, "refused"),
        (500, "server-error"),
        (502, "server-error"),
        (503, "server-error"),
        (204, "refused"),
    ],
)
async def test_statuses(router: respx.MockRouter, status: int, why: str) -> None:
    router.get(f"{BASE}/Observation").respond(status, json=outcome("error", diagnostics="HAPI-0001: secret"))
    fetched = await fetch(router)
    assert (fetched.outcome, fetched.why, fetched.params) == ("failed", why, (("status", str(status)),))
    assert fetched.pages == ()


async def test_an_expired_page_keeps_what_came(router: respx.MockRouter) -> None:
    router.get(f"{BASE}/Observation").respond(json=bundle("a", following=f"{BASE}?_getpages=gone"))
    router.get(BASE, params={"_getpages": "gone"}).respond(410)
    fetched = await fetch(router)
    assert (fetched.outcome, fetched.why, ids(fetched)) == ("partial", "not-found", ["a"])


@pytest.mark.parametrize("severity", ["error", "fatal"])
async def test_an_outcome_in_place_of_an_answer_is_a_failure(router: respx.MockRouter, severity: str) -> None:
    router.get(f"{BASE}/Observation").respond(json=outcome(severity))
    assert (await fetch(router)).why == "operation-outcome"


@pytest.mark.parametrize(
    ("issue", "ended", "why"),
    [
        (outcome("information"), "ok", ""),
        (outcome("warning"), "ok", ""),
        (outcome("warning", diagnostics="Results were truncated"), "partial", "results-dropped"),
        (outcome("error"), "partial", "operation-outcome"),
    ],
)
async def test_outcome_entries_beside_results(
    router: respx.MockRouter, issue: dict[str, Any], ended: str, why: str
) -> None:
    body = bundle("a")
    body["entry"].append({"resource": issue, "search": {"mode": "outcome"}})
    router.get(f"{BASE}/Observation").respond(json=body)
    fetched = await fetch(router)
    assert (fetched.outcome, fetched.why) == (ended, why)


@pytest.mark.parametrize(
    "body", [b"", b"<html>Sorry</html>", b"{", b"[]", b"null", b'{"resourceType":7}', b'{"a":1}', b"\xff", b"[" * 5000]
)
async def test_what_is_no_fhir_json_fails(router: respx.MockRouter, body: bytes) -> None:
    router.get(f"{BASE}/Observation").respond(content=body, headers={"content-type": "text/html"})
    fetched = await fetch(router)
    assert (fetched.outcome, fetched.why) == ("failed", "not-fhir-json")


class Raw(httpx.AsyncBaseTransport):
    """A server whose body is these chunks, as a real connection would hand them over: not decoded, not read."""

    def __init__(self, chunks: Callable[[], AsyncIterator[bytes]], **headers: str) -> None:
        self.chunks, self.headers, self.sent = chunks, headers, 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        del request
        outer = self

        class Stream(httpx.AsyncByteStream):
            async def __aiter__(self) -> AsyncIterator[bytes]:
                async for chunk in outer.chunks():
                    outer.sent += len(chunk)
                    yield chunk

        return httpx.Response(200, headers=self.headers, stream=Stream())


def chunked(body: bytes, size: int = 16384) -> Callable[[], AsyncIterator[bytes]]:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    return chunks


async def through(transport: httpx.AsyncBaseTransport, *, seconds: float = 5, limits: Limits | None = None) -> Fetched:
    async with Gateway(transport, limits=limits) as gateway:
        return await gateway.fetch(QUERY, base=BASE, access=Access(None), budget=Budget(Deadline(seconds)))


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("gzip", gzip.compress), ("X-GZIP", gzip.compress), ("deflate", zlib.compress), ("identity", bytes)],
)
async def test_compressed_answers_are_read(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    body = pack(json.dumps(bundle("a")).encode())
    fetched = await through(Raw(chunked(body, 7), **{"content-encoding": encoding}))
    assert (fetched.outcome, ids(fetched)) == ("ok", ["a"])


async def test_a_bomb_stops_at_the_cap() -> None:
    bomb = gzip.compress(b" " * (64 * 1024 * 1024))
    fetched = await through(Raw(chunked(bomb), **{"content-encoding": "gzip"}), limits=Limits(bytes=1024 * 1024))
    assert (fetched.outcome, fetched.why) == ("failed", "too-large")
    assert fetched.bytes <= 1024 * 1024 + 64 * 1024


async def test_an_endless_answer_stops_at_the_cap() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 65536

    transport = Raw(endless)
    fetched = await through(transport, limits=Limits(bytes=1024 * 1024))
    assert (fetched.outcome, fetched.why) == ("failed", "too-large")
    assert transport.sent < 2 * 1024 * 1024


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("br", b"anything"),
        ("gzip", b"not gzip"),
        ("gzip", gzip.compress(json.dumps(bundle("a")).encode())[:-12]),
        ("gzip, gzip", b"x"),
    ],
)
async def test_an_encoding_that_cannot_be_read_fails(encoding: str, body: bytes) -> None:
    fetched = await through(Raw(chunked(body), **{"content-encoding": encoding}))
    assert (fetched.outcome, fetched.why) == ("failed", "not-fhir-json")


async def test_a_dripping_answer_ends_at_the_deadline() -> None:
    async def drip() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.02)

    started = asyncio.get_running_loop().time()
    fetched = await through(Raw(drip), seconds=0.2)
    assert (fetched.outcome, fetched.why) == ("failed", "timeout")
    assert asyncio.get_running_loop().time() - started < 5


async def test_a_slow_second_page_keeps_the_first(router: respx.MockRouter) -> None:
    async def slow(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(30)
        raise AssertionError

    router.get(f"{BASE}/Observation").respond(json=bundle("a", following=f"{BASE}?page=2"))
    router.get(BASE, params={"page": "2"}).mock(side_effect=slow)
    fetched = await fetch(router, seconds=0.1)
    assert (fetched.outcome, fetched.why, ids(fetched)) == ("partial", "timeout", ["a"])


async def test_nothing_starts_after_the_deadline(router: respx.MockRouter) -> None:
    router.get(f"{BASE}/Observation").respond(json=bundle("a"))
    assert (await fetch(router, seconds=0)).why == "timeout"
    assert router.calls.call_count == 0


def test_the_deadline_runs_on_its_own_clock() -> None:
    moment = [100.0]
    deadline = Deadline(2, clock=lambda: moment[0])
    assert deadline.remaining() == 2
    moment[0] = 101.5
    assert deadline.remaining() == 0.5
    moment[0] = 300
    assert deadline.remaining() == 0


async def test_cancelling_the_request_cancels_the_read(router: respx.MockRouter) -> None:
    ended = asyncio.Event()

    async def slow(_: httpx.Request) -> httpx.Response:
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()
        raise AssertionError

    router.get(f"{BASE}/Observation").mock(side_effect=slow)
    task = asyncio.create_task(fetch(router))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (httpx.ConnectError("https://secret"), "unreachable"),
        (httpx.ConnectTimeout("https://secret"), "unreachable"),
        (httpx.ReadError("https://secret"), "unreachable"),
        (httpx.RemoteProtocolError("https://secret"), "unreachable"),
        (httpx.ReadTimeout("https://secret"), "timeout"),
        (httpx.PoolTimeout("https://secret"), "timeout"),
        (aiohttp.ClientPayloadError("https://secret"), "unreachable"),
        (aiohttp.ServerTimeoutError("https://secret"), "timeout"),
        (ConnectionResetError("https://secret"), "unreachable"),
    ],
)
async def test_connection_trouble_has_a_name_and_no_address(
    router: respx.MockRouter, error: Exception, why: str
) -> None:
    router.get(f"{BASE}/Observation").mock(side_effect=error)
    fetched = await fetch(router)
    assert (fetched.outcome, fetched.why, fetched.params) == ("failed", why, ())


async def test_nothing_of_a_request_reaches_logs_or_reprs(
    router: respx.MockRouter, caplog: pytest.LogCaptureFixture
) -> None:
    router.get(f"{BASE}/Observation").respond(json=bundle("observation-canary", following="https://evil.example/"))
    with caplog.at_level(logging.DEBUG):
        fetched = await fetch(router)
        router.get(f"{BASE}/Condition").respond(403, text="body-canary")
        failed = await fetch(router, Query("Condition", (("patient", "p-canary"),)))
    shown = caplog.text + repr(fetched) + repr(failed)
    assert fetched.why == "foreign-next"
    assert failed.outcome == "failed"
    for canary in (TOKEN, "p-canary", "body-canary", "observation-canary", "fhir.example.org", "evil.example"):
        assert canary not in shown


def test_errors_hold_a_code_and_a_status_only() -> None:
    kinds = GatewayError.__subclasses__()
    assert len({kind.why for kind in kinds}) == len(kinds) == 15
    assert str(kinds[0](status=403)) == "refused (403)"
    assert str(kinds[0]()) == "refused"


# --- the real transport -----------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def served(answer: Callable[[bytes], Awaitable[bytes | None]]) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server on this machine that answers each request head with these bytes; None hangs up at once."""
    heads: list[bytes] = []
    open_writers: list[asyncio.StreamWriter] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            body = await answer(heads[-1])
            if body is not None:
                writer.write(body)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/r4", heads
    finally:
        server.close()
        for writer in open_writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


def http(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def real(base: str, *, seconds: float = 5) -> Fetched:
    async with Gateway() as gateway:
        return await gateway.fetch(QUERY, base=base, access=Access(TOKEN), budget=Budget(Deadline(seconds)))


async def test_over_a_socket_with_a_hostile_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    async def answer(_: bytes) -> bytes:
        return http("200 OK", json.dumps(bundle("a")).encode(), "Set-Cookie: session=canary; Path=/")

    async with served(answer) as (base, heads):
        async with Gateway() as gateway:
            for _ in range(2):
                fetched = await gateway.fetch(QUERY, base=base, access=Access(TOKEN), budget=Budget(Deadline(5)))
                assert (fetched.outcome, ids(fetched)) == ("ok", ["a"])
        assert len(heads) == 2
        head = heads[1].decode().lower()
        assert "get /r4/observation?patient=p-canary&code=http://loinc.org%7c1988-5&_count=2 http/1.1" in head
        assert "cache-control: no-cache" in head
        assert f"authorization: bearer {TOKEN}" in head
        assert "cookie" not in head


async def test_over_a_socket_redirects_stay_unfollowed() -> None:
    async def answer(_: bytes) -> bytes:
        return http("302 Found", b"", "Location: /r4/elsewhere")

    async with served(answer) as (base, heads):
        fetched = await real(base)
        assert (fetched.why, fetched.params) == ("refused", (("status", "302"),))
        assert len(heads) == 1


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (None, "unreachable"),
        (b"", "unreachable"),
        (b"nonsense\r\n\r\n", "unreachable"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "unreachable"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", "unreachable"),
    ],
)
async def test_over_a_socket_broken_answers(reply: bytes | None, why: str) -> None:
    async def answer(_: bytes) -> bytes | None:
        return reply

    async with served(answer) as (base, _):
        fetched = await real(base)
        assert (fetched.outcome, fetched.why) == ("failed", why)


async def test_over_a_socket_silence_ends_at_the_deadline() -> None:
    released = asyncio.Event()

    async def answer(_: bytes) -> None:
        await released.wait()

    async with served(answer) as (base, _):
        started = asyncio.get_running_loop().time()
        fetched = await real(base, seconds=0.2)
        assert (fetched.outcome, fetched.why) == ("failed", "timeout")
        assert asyncio.get_running_loop().time() - started < 5
        released.set()


async def test_over_a_socket_nobody_there() -> None:
    fetched = await real("http://127.0.0.1:9/r4")
    assert (fetched.outcome, fetched.why) == ("failed", "unreachable")
