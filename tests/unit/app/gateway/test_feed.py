"""One resource to a repository: where it goes, with what, and what its answer means."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from app.gateway.errors import BadRequestPart, TimedOut, Unreachable
from app.gateway.feed import Feed, Reply

BASE = "https://audit.example.org/fhir"


class Endless(httpx.AsyncByteStream):
    """A body that never ends."""

    def __init__(self) -> None:
        self.given = 0
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            self.given += 1
            yield b"x" * 1024

    async def aclose(self) -> None:
        self.closed = True


class Wire(httpx.AsyncBaseTransport):
    def __init__(self, answer: httpx.Response | Exception) -> None:
        self.answer = answer
        self.requests: list[httpx.Request] = []
        self.closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def aclose(self) -> None:
        self.closed = True


def feed(answer: httpx.Response | Exception, base: str = BASE) -> tuple[Feed, Wire]:
    wire = Wire(answer)
    return Feed(base, transport=wire), wire


async def test_what_is_sent() -> None:
    sent, wire = feed(httpx.Response(201))
    reply = await sent.put("AuditEvent", "a-1", content=b"{}", token="canary-token")
    (request,) = wire.requests
    assert (request.method, str(request.url), request.content) == ("PUT", f"{BASE}/AuditEvent/a-1", b"{}")
    assert request.headers["authorization"] == "Bearer canary-token"
    assert request.headers["content-type"] == "application/fhir+json; charset=utf-8"
    assert request.headers["prefer"] == "return=minimal"
    assert reply == Reply(201)
    await sent.aclose()
    assert wire.closed


async def test_without_a_token_none_is_sent() -> None:
    sent, wire = feed(httpx.Response(200))
    await sent.put("AuditEvent", "a", content=b"{}", token=None)
    assert "authorization" not in wire.requests[0].headers


@pytest.mark.parametrize(
    ("kind", "id_", "token"),
    [("AuditEvent", "../Patient", None), ("AuditEvent", "a/b", None), ("Audit Event", "a", None), ("A", "a", "x\r\ny")],
)
async def test_what_fits_into_no_request_is_not_sent(kind: str, id_: str, token: str | None) -> None:
    sent, wire = feed(httpx.Response(200))
    with pytest.raises(BadRequestPart):
        await sent.put(kind, id_, content=b"{}", token=token)
    assert wire.requests == []


@pytest.mark.parametrize(
    ("status", "taken", "final", "elsewhere"),
    [
        *[(status, True, False, False) for status in (200, 201, 204)],
        *[(status, False, True, False) for status in (400, 403, 404, 409, 422)],
        *[(status, False, False, False) for status in (401, 408, 429, 500, 503)],
        *[(status, False, False, True) for status in (101, 301, 307, 308)],
    ],
)
async def test_what_a_status_means(status: int, taken: bool, final: bool, elsewhere: bool) -> None:
    sent, wire = feed(httpx.Response(status, headers={"location": "https://elsewhere.example.org/"}))
    reply = await sent.put("AuditEvent", "a", content=b"{}", token="t")
    assert (reply.taken, reply.final, reply.elsewhere) == (taken, final, elsewhere)
    assert len(wire.requests) == 1, "no redirect is followed"


async def test_the_time_that_the_server_names() -> None:
    sent, _ = feed(httpx.Response(503, headers={"retry-after": "7"}))
    assert (await sent.put("AuditEvent", "a", content=b"{}", token=None)).retry_after == 7.0


async def test_an_endless_body_is_left() -> None:
    body = Endless()
    sent, _ = feed(httpx.Response(200, stream=body))
    assert (await sent.put("AuditEvent", "a", content=b"{}", token=None)).taken
    assert (body.given, body.closed) == (65, True)


@pytest.mark.parametrize(
    ("error", "raised"), [(httpx.ReadTimeout("canary"), TimedOut), (httpx.ConnectError("canary"), Unreachable)]
)
async def test_no_answer(error: Exception, raised: type[Exception]) -> None:
    sent, _ = feed(error)
    with pytest.raises(raised) as caught:
        await sent.put("AuditEvent", "a", content=b"{}", token=None)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "base",
    [
        *("http://audit.example.org/fhir", "https://user:canary@audit.example.org", "ftp://audit.example.org", "audit"),
        "https://audit.example.org/fhir?x=canary",
    ],
)
def test_an_address_that_is_none(base: str) -> None:
    with pytest.raises(ValueError) as caught:
        Feed(base)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "base", ["http://127.0.0.1:8080/fhir/", "http://localhost:8080/fhir", "https://a.example.org/"]
)
def test_https_or_this_machine(base: str) -> None:
    assert Feed(base).base == base.rstrip("/")
