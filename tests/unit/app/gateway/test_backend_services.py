"""Tokens for the service's own credentials: what is sent, what is believed, and who waits for whom.

The authorisation server answers through respx's router on a MockTransport; tests/oauth has a real one.
"""

from __future__ import annotations

import asyncio
import contextvars
import gzip
import json
import logging
import os
import stat
import time
import traceback
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
import respx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from app.gateway.backend_services import (
    ASSERTION_SECONDS,
    BACK_OFF_SECONDS,
    Algorithm,
    BackendServices,
    Credentials,
    Key,
    is_shared,
    load_key,
)
from app.gateway.budget import Deadline
from app.gateway.errors import GatewayError, NoToken, Refused, TokenScope

URL = "https://auth.example.org/token"
SCOPES = ("system/Observation.rs", "system/Patient.rs")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
EC = ECKey.generate_key("P-384")
RSA = RSAKey.generate_key(2048)


class Clock:
    """A monotonic clock that moves when it is told to."""

    def __init__(self) -> None:
        self.moment = 1000.0

    def __call__(self) -> float:
        return self.moment


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def router() -> Iterator[respx.MockRouter]:
    with respx.MockRouter(assert_all_called=False, assert_all_mocked=True) as router:
        yield router


def credentials(**changes: Any) -> Credentials:
    given: dict[str, Any] = {
        "client_id": "client-1",
        "token_url": URL,
        "algorithm": "ES384",
        "key_id": "kid-1",
        "key": EC,
        "scopes": SCOPES,
    }
    return Credentials(**{**given, **changes})


@asynccontextmanager
async def services(
    router: respx.MockRouter | httpx.AsyncBaseTransport,
    *,
    clock: Callable[[], float] = time.monotonic,
    request_seconds: float = 5,
    **changes: Any,
) -> AsyncIterator[BackendServices]:
    transport = httpx.MockTransport(router.async_handler) if isinstance(router, respx.MockRouter) else router
    backend = BackendServices(
        credentials(**changes), transport=transport, now=lambda: NOW, clock=clock, request_seconds=request_seconds
    )
    try:
        yield backend
    finally:
        await backend.aclose()


def answer(token: str = "token-1", **changes: Any) -> dict[str, Any]:  # noqa: S107
    body = {"access_token": token, "token_type": "bearer", "expires_in": 300, "scope": " ".join(SCOPES), **changes}
    return {name: value for name, value in body.items() if value is not ...}


def numbered(router: respx.MockRouter, **changes: Any) -> respx.Route:
    """A server that answers with token-1, token-2, ..."""

    def next_token(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=answer(f"token-{route.call_count + 1}", **changes))

    route = router.post(URL).mock(side_effect=next_token)
    return route


def form(call: Any) -> dict[str, str]:
    return dict(httpx.QueryParams(call.request.content.decode()))


async def settled() -> None:
    """Let what runs in the background go on until it waits for a clock."""
    for _ in range(20):
        await asyncio.sleep(0)


# --- what is sent -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("algorithm", "key"), [("ES384", EC), ("RS384", RSA)])
async def test_the_assertion_is_what_smart_asks_for(router: respx.MockRouter, algorithm: Algorithm, key: Key) -> None:
    route = router.post(URL).respond(json=answer())
    async with services(router, algorithm=algorithm, key=key) as backend:
        assert await backend.token(deadline=Deadline(5)) == "token-1"
    request = route.calls.last.request
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert request.headers["accept"] == "application/json"
    assert request.headers["accept-encoding"] == "identity"
    assert request.extensions["timeout"] == {"connect": 1.0, "read": 5, "write": 5, "pool": 5}
    assert "authorization" not in request.headers
    assert "cookie" not in request.headers
    sent = form(route.calls.last)
    assertion = sent.pop("client_assertion")
    assert sent == {
        "grant_type": "client_credentials",
        "scope": "system/Observation.rs system/Patient.rs",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    }
    public = type(key).import_key(key.as_dict(private=False))
    read = jwt.decode(assertion, public, algorithms=[algorithm])
    assert read.header == {"alg": algorithm, "kid": "kid-1", "typ": "JWT"}
    issued = int(NOW.timestamp())
    assert len(read.claims.pop("jti")) >= 32
    assert read.claims == {
        "iss": "client-1",
        "sub": "client-1",
        "aud": URL,
        "iat": issued,
        "exp": issued + ASSERTION_SECONDS,
    }
    assert ASSERTION_SECONDS <= 300


async def test_the_registered_key_set_is_named_where_it_is_configured(router: respx.MockRouter) -> None:
    route = router.post(URL).respond(json=answer())
    async with services(router, jwks_url="https://cds.example.org/jwks.json") as backend:
        await backend.token(deadline=Deadline(5))
    assertion = form(route.calls.last)["client_assertion"]
    read = jwt.decode(assertion, ECKey.import_key(EC.as_dict(private=False)), algorithms=["ES384"])
    assert read.header["jku"] == "https://cds.example.org/jwks.json"


async def test_no_assertion_is_sent_twice(router: respx.MockRouter, clock: Clock) -> None:
    route = numbered(router)
    async with services(router, clock=clock) as backend:
        for _ in range(20):
            await backend.token(deadline=Deadline(5))
            clock.moment += 300
    public = ECKey.import_key(EC.as_dict(private=False))
    assertions = [form(call)["client_assertion"] for call in route.calls]
    claims = [jwt.decode(assertion, public, algorithms=["ES384"]).claims for assertion in assertions]
    assert len({claim["jti"] for claim in claims}) == len(claims) == 20


# --- what is believed -------------------------------------------------------------------------------------

UNUSABLE: dict[str, list[Any]] = {
    "access_token": ["", "a b", "a\r\nX: y", "tökén", "=a", None, 7, ["a"]],
    "token_type": ["mac", "", "bearer ", None],
    "expires_in": [0, -1, "300", 300.5, True, None],
    "scope": [None, ["system/*.rs"]],
}


@pytest.mark.parametrize(
    "changes",
    [
        {"token_type": "Bearer"},
        {"token_type": "BEARER"},
        {"expires_in": ...},
        {"expires_in": 10**400},
        {"scope": "system/*.rs"},
        {"scope": "system/Observation.read system/Patient.read"},
        {"scope": "system/*.cruds offline_access", "refresh_token": "x", "nested": {"a": [1]}},
    ],
)
async def test_a_usable_answer(router: respx.MockRouter, changes: dict[str, Any]) -> None:
    router.post(URL).respond(json=answer("A.b-c_d~e+f/0==", **changes))
    async with services(router) as backend:
        assert await backend.token(deadline=Deadline(5)) == "A.b-c_d~e+f/0=="


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Sign in</html>",
        b"[]",
        b"null",
        b"{",
        b"\xff",
        b'{"other":' + b"[" * 60_000,
        json.dumps(answer(access_token=...)).encode(),
        json.dumps(answer(token_type=...)).encode(),
        *(json.dumps(answer(**{name: value})).encode() for name, values in UNUSABLE.items() for value in values),
        json.dumps(answer(padding="x" * 65_536)).encode(),
    ],
)
async def test_an_answer_that_is_none_is_no_token(router: respx.MockRouter, body: bytes) -> None:
    router.post(URL).respond(content=body)
    async with services(router) as backend:
        with pytest.raises(NoToken) as caught:
            await backend.token(deadline=Deadline(5))
    assert caught.value.params == (("status", "200"),)


@pytest.mark.parametrize(
    "granted", ["", ..., "system/Observation.rs", "system/Observation.rs system/Patient.r", "user/*.rs"]
)
async def test_fewer_scopes_than_needed_are_an_error_of_their_own(router: respx.MockRouter, granted: str) -> None:
    route = router.post(URL).respond(json=answer(scope=granted))
    async with services(router) as backend:
        with pytest.raises(TokenScope) as caught:
            await backend.token(deadline=Deadline(5))
    assert (caught.value.why, caught.value.params, route.call_count) == ("token-scope", (), 1)


@pytest.mark.parametrize("status", [201, 204, 301, 302, 307, 308, 400, 401, 403, 404, 405, 415, 429, 500])
async def test_any_other_status_ends_it(router: respx.MockRouter, status: int) -> None:
    headers = {"Location": "https://evil.example/token"}
    route = router.post(URL).respond(status, headers=headers, json=answer(error="invalid_client"))
    async with services(router) as backend:
        with pytest.raises(NoToken) as caught:
            await backend.token(deadline=Deadline(5))
    assert (caught.value.params, route.call_count) == ((("status", str(status)),), 1)


async def test_a_scope_that_the_server_refuses_is_named(router: respx.MockRouter) -> None:
    router.post(URL).respond(400, json={"error": "invalid_scope", "error_description": "no"})
    async with services(router) as backend:
        with pytest.raises(TokenScope) as caught:
            await backend.token(deadline=Deadline(5))
    assert caught.value.params == (("status", "400"),)


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"error":7}', b'{"other":' + b"[" * 60_000])
async def test_a_refusal_without_a_reason_is_one(router: respx.MockRouter, body: bytes) -> None:
    router.post(URL).respond(400, content=body)
    async with services(router) as backend:
        with pytest.raises(NoToken):
            await backend.token(deadline=Deadline(5))


class Raw(httpx.AsyncBaseTransport):
    """A server whose body is these chunks, as a real connection would hand them over."""

    def __init__(self, *chunks: bytes, **headers: str) -> None:
        self.chunks, self.headers, self.sent, self.closed = chunks, headers, 0, 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        del request
        outer = self

        class Stream(httpx.AsyncByteStream):
            async def __aiter__(self) -> AsyncIterator[bytes]:
                for chunk in outer.chunks:
                    outer.sent += 1
                    yield chunk

            async def aclose(self) -> None:
                outer.closed += 1

        return httpx.Response(200, headers=self.headers, stream=Stream())


JSON = json.dumps(answer()).encode()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("identity", JSON),
        ("", JSON),
        ("gzip", gzip.compress(JSON)),
        ("X-GZip", gzip.compress(JSON)),
        ("deflate", zlib.compress(JSON)),
    ],
)
async def test_a_compressed_answer_is_read(encoding: str, body: bytes) -> None:
    async with services(Raw(body[:20], body[20:], **{"content-encoding": encoding})) as backend:
        assert await backend.token(deadline=Deadline(5)) == "token-1"


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("br", JSON),
        ("gzip", JSON),
        ("gzip", gzip.compress(JSON)[:-12]),
        ("gzip", gzip.compress(JSON)[:-1]),
        ("gzip", gzip.compress(json.dumps(answer(padding="x" * 10_000_000)).encode())),
    ],
)
async def test_an_encoding_that_cannot_be_read_is_no_token(encoding: str, body: bytes) -> None:
    async with services(Raw(body, **{"content-encoding": encoding})) as backend:
        with pytest.raises(NoToken):
            await backend.token(deadline=Deadline(5))


async def test_an_answer_that_is_too_large_is_not_read_to_its_end() -> None:
    transport = Raw(*[b" " * 16_384] * 1000)
    async with services(transport) as backend:
        with pytest.raises(NoToken):
            await backend.token(deadline=Deadline(5))
    assert (transport.sent, transport.closed) == (5, 1)


class Odd(httpx.AsyncBaseTransport):
    """A token endpoint whose status line is no text: its transport raises what no HTTP library announces."""

    def __init__(self) -> None:
        self.asked = 0

    async def handle_async_request(self, _request: httpx.Request) -> httpx.Response:
        self.asked += 1
        raise UnicodeEncodeError("utf-8", "secret", 0, 1, "surrogates not allowed")


async def test_whatever_the_request_ends_with_who_waits_is_told_and_it_is_not_asked_at_once_again() -> None:
    transport = Odd()
    backend = BackendServices(credentials(), transport=transport, now=lambda: datetime.now(UTC))
    for _ in range(3):
        with pytest.raises(NoToken):
            await backend.token(deadline=Deadline(5))
    assert transport.asked == 1
    await backend.aclose()


# --- one retry --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble",
    [
        httpx.ConnectError("https://secret"),
        httpx.ConnectTimeout("https://secret"),
        httpx.ReadError("https://secret"),
        httpx.RemoteProtocolError("https://secret"),
        aiohttp.ClientPayloadError("https://secret"),
        ConnectionResetError("https://secret"),
        httpx.Response(502),
        httpx.Response(503),
        httpx.Response(504),
    ],
    ids=lambda trouble: f"{type(trouble).__name__}-{getattr(trouble, 'status_code', '')}",
)
async def test_what_may_pass_is_tried_once_more_with_a_new_assertion(
    router: respx.MockRouter, trouble: httpx.Response | type[Exception]
) -> None:
    route = router.post(URL).mock(side_effect=[trouble, httpx.Response(200, json=answer())])
    async with services(router) as backend:
        assert await backend.token(deadline=Deadline(5)) == "token-1"
    first, second = (form(call)["client_assertion"] for call in route.calls)
    assert first != second


async def test_once_more_and_no_oftener(router: respx.MockRouter) -> None:
    route = router.post(URL).respond(503)
    async with services(router) as backend:
        with pytest.raises(NoToken) as caught:
            await backend.token(deadline=Deadline(5))
    assert (caught.value.params, route.call_count) == ((("status", "503"),), 2)


@pytest.mark.parametrize("trouble", [httpx.ReadTimeout("x"), httpx.PoolTimeout("x"), aiohttp.ServerTimeoutError("x")])
async def test_silence_is_not_tried_again(router: respx.MockRouter, trouble: Exception) -> None:
    route = router.post(URL).mock(side_effect=trouble)
    async with services(router) as backend:
        with pytest.raises(NoToken) as caught:
            await backend.token(deadline=Deadline(5))
    assert (caught.value.params, route.call_count) == ((), 1)


# --- memory -----------------------------------------------------------------------------------------------


async def test_many_callers_share_one_request(router: respx.MockRouter) -> None:
    release = asyncio.Event()

    async def slow(_: httpx.Request) -> httpx.Response:
        await release.wait()
        return httpx.Response(200, json=answer())

    route = router.post(URL).mock(side_effect=slow)
    async with services(router) as backend:
        callers = [asyncio.create_task(backend.token(deadline=Deadline(5))) for _ in range(50)]
        await settled()
        release.set()
        assert await asyncio.gather(*callers) == ["token-1"] * 50
        assert await backend.token(deadline=Deadline(5)) == "token-1"
    assert route.call_count == 1


async def test_many_callers_share_one_failure(router: respx.MockRouter) -> None:
    route = router.post(URL).respond(401)
    async with services(router) as backend:
        waited = await asyncio.gather(*(backend.token(deadline=Deadline(5)) for _ in range(50)), return_exceptions=True)
    assert {str(error) for error in waited} == {"no-token (401)"}
    assert len({id(error) for error in waited}) == 50
    assert route.call_count == 1


async def test_a_token_is_replaced_at_four_fifths_of_its_life_and_served_meanwhile(
    router: respx.MockRouter, clock: Clock
) -> None:
    release = asyncio.Event()
    route = numbered(router)
    async with services(router, clock=clock) as backend:
        assert await backend.token(deadline=Deadline(5)) == "token-1"
        clock.moment += 239
        assert await backend.token(deadline=Deadline(5)) == "token-1"
        await settled()
        assert route.call_count == 1

        begun = []

        async def slow(_: httpx.Request) -> httpx.Response:
            begun.append(1)
            await release.wait()
            return httpx.Response(200, json=answer("token-2"))

        route.mock(side_effect=slow)
        clock.moment += 1
        assert [await backend.token(deadline=Deadline(5)) for _ in range(5)] == ["token-1"] * 5
        await settled()
        assert len(begun) == 1
        release.set()
        await settled()
        assert await backend.token(deadline=Deadline(5)) == "token-2"
        assert len(begun) == 1


async def test_a_token_near_its_end_is_not_given_out(router: respx.MockRouter, clock: Clock) -> None:
    numbered(router)
    async with services(router, clock=clock) as backend:
        assert await backend.token(deadline=Deadline(5)) == "token-1"
        clock.moment += 285
        assert await backend.token(deadline=Deadline(5)) == "token-2"


@pytest.mark.parametrize(("stated", "life"), [(..., 300), (100, 100), (86_400, 3600)])
async def test_life_is_as_stated_five_minutes_where_it_is_not_and_at_most_an_hour(
    router: respx.MockRouter, clock: Clock, stated: int, life: int
) -> None:
    route = numbered(router, expires_in=stated)
    async with services(router, clock=clock) as backend:
        await backend.token(deadline=Deadline(5))
        clock.moment += life * 0.8 - 1
        await backend.token(deadline=Deadline(5))
        await settled()
        assert route.call_count == 1
        clock.moment += 2
        await backend.token(deadline=Deadline(5))
        await settled()
        assert route.call_count == 2


async def test_life_counts_from_the_request_and_not_from_the_answer(router: respx.MockRouter, clock: Clock) -> None:
    def late(_: httpx.Request) -> httpx.Response:
        clock.moment += 10
        return httpx.Response(200, json=answer(f"token-{route.call_count + 1}", expires_in=10))

    route = router.post(URL).mock(side_effect=late)
    async with services(router, clock=clock) as backend:
        assert await backend.token(deadline=Deadline(5)) == "token-1"
        assert await backend.token(deadline=Deadline(5)) == "token-2"


async def test_a_failed_replacement_leaves_the_token_in_use_and_waits_before_the_next(
    router: respx.MockRouter, clock: Clock
) -> None:
    route = numbered(router)
    async with services(router, clock=clock) as backend:
        await backend.token(deadline=Deadline(5))
        route.mock(return_value=httpx.Response(500))
        clock.moment += 240
        for _ in range(3):
            assert await backend.token(deadline=Deadline(5)) == "token-1"
            await settled()
        assert route.call_count == 2
        clock.moment += BACK_OFF_SECONDS
        assert await backend.token(deadline=Deadline(5)) == "token-1"
        await settled()
        assert route.call_count == 3


async def test_after_a_failure_callers_fail_at_once_with_its_reason(router: respx.MockRouter, clock: Clock) -> None:
    route = router.post(URL).respond(403)
    async with services(router, clock=clock) as backend:
        for _ in range(3):
            with pytest.raises(NoToken, match="403"):
                await backend.token(deadline=Deadline(5))
        assert route.call_count == 1
        clock.moment += BACK_OFF_SECONDS - 0.01
        with pytest.raises(NoToken, match="403"):
            await backend.token(deadline=Deadline(5))
        assert route.call_count == 1
        clock.moment += 0.02
        route.respond(json=answer())
        assert await backend.token(deadline=Deadline(5)) == "token-1"


async def test_the_shared_request_has_nothing_of_who_began_it(router: respx.MockRouter) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nobody")
    seen = []

    def look(_: httpx.Request) -> httpx.Response:
        seen.append(variable.get())
        return httpx.Response(200, json=answer())

    router.post(URL).mock(side_effect=look)
    variable.set("the first hook")
    async with services(router) as backend:
        await backend.token(deadline=Deadline(5))
    assert seen == ["nobody"]


# --- deadlines --------------------------------------------------------------------------------------------


def held_back(router: respx.MockRouter, release: asyncio.Event, *, first: httpx.Response | None = None) -> list[int]:
    """A server that answers `first` to the first request and keeps silent until the release; counts what begins."""
    begun: list[int] = []

    async def slow(_: httpx.Request) -> httpx.Response:
        begun.append(1)
        if first is not None and len(begun) == 1:
            return first
        await release.wait()
        return httpx.Response(200, json=answer())

    router.post(URL).mock(side_effect=slow)
    return begun


async def test_a_caller_leaves_at_its_deadline_and_the_next_has_the_token(router: respx.MockRouter) -> None:
    release = asyncio.Event()
    begun = held_back(router, release)
    async with services(router) as backend:
        started = time.monotonic()
        with pytest.raises(NoToken):
            await backend.token(deadline=Deadline(0.05))
        assert time.monotonic() - started < 2
        release.set()
        assert await backend.token(deadline=Deadline(5)) == "token-1"
    assert len(begun) == 1


async def test_a_cancelled_caller_takes_nothing_from_the_others(router: respx.MockRouter) -> None:
    release = asyncio.Event()
    begun = held_back(router, release)
    async with services(router) as backend:
        first = asyncio.create_task(backend.token(deadline=Deadline(5)))
        second = asyncio.create_task(backend.token(deadline=Deadline(5)))
        await settled()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        release.set()
        assert await second == "token-1"
    assert len(begun) == 1


async def test_after_the_deadline_nothing_begins_and_what_is_held_is_given(
    router: respx.MockRouter, clock: Clock
) -> None:
    route = numbered(router)
    async with services(router, clock=clock) as backend:
        with pytest.raises(NoToken):
            await backend.token(deadline=Deadline(0))
        await settled()
        assert route.call_count == 0
        await backend.token(deadline=Deadline(5))
        assert await backend.token(deadline=Deadline(0)) == "token-1"


async def test_a_silent_server_ends_the_request_and_its_retry(router: respx.MockRouter, clock: Clock) -> None:
    begun = held_back(router, asyncio.Event(), first=httpx.Response(503))
    started = time.monotonic()
    async with services(router, clock=clock, request_seconds=0.1) as backend:
        with pytest.raises(NoToken) as caught:
            await backend.token(deadline=Deadline(60))
    assert time.monotonic() - started < 30
    assert (caught.value.params, len(begun)) == ((), 2)


async def test_closing_ends_the_request_and_who_waits_for_it(router: respx.MockRouter) -> None:
    held_back(router, asyncio.Event())
    async with services(router, request_seconds=60) as backend:
        caller = asyncio.create_task(backend.token(deadline=Deadline(60)))
        await settled()
        await asyncio.wait_for(backend.aclose(), 30)
        with pytest.raises(NoToken):
            await caller


async def test_closing_without_a_request_does_nothing(router: respx.MockRouter) -> None:
    async with services(router) as backend:
        await backend.aclose()
    assert router.calls.call_count == 0


# --- a token that the FHIR server refuses -----------------------------------------------------------------


async def test_a_rejected_token_is_replaced_once_for_all_who_had_it(router: respx.MockRouter, clock: Clock) -> None:
    route = numbered(router)
    async with services(router, clock=clock) as backend:
        old = await backend.token(deadline=Deadline(5))
        new = await asyncio.gather(*(backend.token(deadline=Deadline(5), rejected=old) for _ in range(6)))
        assert new == ["token-2"] * 6
        assert await backend.token(deadline=Deadline(5), rejected=old) == "token-2"
        assert await backend.token(deadline=Deadline(5)) == "token-2"
    assert route.call_count == 2


async def test_a_rejected_token_waits_for_the_replacement_that_is_under_way(
    router: respx.MockRouter, clock: Clock
) -> None:
    route = numbered(router)
    async with services(router, clock=clock) as backend:
        old = await backend.token(deadline=Deadline(5))
        clock.moment += 240
        assert await backend.token(deadline=Deadline(5)) == old
        assert await backend.token(deadline=Deadline(5), rejected=old) == "token-2"
    assert route.call_count == 2


async def test_a_replacement_that_is_rejected_too_is_not_replaced_at_once(
    router: respx.MockRouter, clock: Clock
) -> None:
    route = numbered(router)
    async with services(router, clock=clock) as backend:
        first = await backend.token(deadline=Deadline(5))
        second = await backend.token(deadline=Deadline(5), rejected=first)
        with pytest.raises(Refused) as caught:
            await backend.token(deadline=Deadline(5), rejected=second)
        assert (caught.value.params, route.call_count) == ((("status", "401"),), 2)
        clock.moment += BACK_OFF_SECONDS
        assert await backend.token(deadline=Deadline(5), rejected=second) == "token-3"


async def test_a_rejected_token_is_not_given_out_while_there_is_no_other(
    router: respx.MockRouter, clock: Clock
) -> None:
    route = numbered(router)
    async with services(router, clock=clock) as backend:
        old = await backend.token(deadline=Deadline(5))
        route.mock(return_value=httpx.Response(500))
        for rejected in (old, old, None):
            with pytest.raises(NoToken, match="500"):
                await backend.token(deadline=Deadline(5), rejected=rejected)
    assert route.call_count == 2


async def test_a_rejected_token_with_none_held_is_a_first_request(router: respx.MockRouter) -> None:
    route = numbered(router)
    async with services(router) as backend:
        assert await backend.token(deadline=Deadline(5), rejected="of-another-process") == "token-1"
    assert route.call_count == 1


# --- secrets ----------------------------------------------------------------------------------------------


async def test_nothing_secret_reaches_logs_reprs_or_errors(
    router: respx.MockRouter, caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    route = router.post(URL).respond(json=answer("token-canary"))
    shown: list[str] = []
    with caplog.at_level(logging.DEBUG):
        async with services(router, clock=clock, jwks_url="https://cds.example.org/jwks-canary") as backend:
            await backend.token(deadline=Deadline(5))
            shown += [repr(backend), repr(backend._credentials), repr(backend._held), repr(backend._refreshing)]
            assert "Key" not in repr(backend._credentials)
            troubles: list[Any] = [
                httpx.ConnectError("error-canary"),
                aiohttp.ServerTimeoutError("error-canary"),
                httpx.Response(401, text="body-canary"),
                httpx.Response(200, json=answer("token-canary", token_type="other")),
                httpx.Response(200, json=answer("token-canary", scope="scope-canary")),
            ]
            for trouble in troubles:
                if isinstance(trouble, httpx.Response):
                    route.mock(return_value=trouble, side_effect=None)
                else:
                    route.mock(side_effect=trouble)
                clock.moment += 400
                with pytest.raises(GatewayError) as caught:
                    await backend.token(deadline=Deadline(5))
                assert caught.value.__context__ is None
                assert caught.value.__cause__ is None
                shown += [repr(caught.value), *traceback.format_exception(caught.value), repr(backend._failure)]
    everything = "".join(shown) + caplog.text
    private = EC.as_dict(private=True)
    secrets = [str(private["d"]), "canary", *(form(call)["client_assertion"] for call in route.calls)]
    assert len(secrets) > 6
    for secret in secrets:
        assert secret not in everything.replace("https://cds.example.org/jwks-canary", "")


# --- the key file -----------------------------------------------------------------------------------------

Native = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
Format = serialization.PrivateFormat


def pem(key: Native, form: serialization.PrivateFormat = Format.PKCS8, *, password: bytes = b"") -> bytes:
    lock = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, lock)


def written(folder: Path, content: bytes, *, mode: int = 0o600) -> Path:
    path = folder / "key"
    path.write_bytes(content)
    path.chmod(mode)
    return path


P384 = ec.generate_private_key(ec.SECP384R1())
RSA2048 = rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize(
    ("content", "algorithm"),
    [
        (pem(P384), "ES384"),
        (pem(P384, Format.TraditionalOpenSSL), "ES384"),
        (b"\n# a comment\n" + pem(P384), "ES384"),
        (json.dumps(EC.as_dict(private=True)).encode(), "ES384"),
        (json.dumps({**EC.as_dict(private=True), "alg": "ES384", "use": "sig", "kid": "a"}).encode(), "ES384"),
        (pem(RSA2048), "RS384"),
        (pem(RSA2048, Format.TraditionalOpenSSL), "RS384"),
        (b" \n" + json.dumps(RSA.as_dict(private=True)).encode(), "RS384"),
    ],
)
def test_a_private_key_is_loaded(tmp_path: Path, content: bytes, algorithm: Algorithm) -> None:
    key = load_key(written(tmp_path, content), algorithm=algorithm)
    signed = jwt.encode({"alg": algorithm}, {"a": 1}, key, algorithms=[algorithm])
    assert jwt.decode(signed, key, algorithms=[algorithm]).claims == {"a": 1}


def public_pem(key: Native) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    ("content", "algorithm", "said"),
    [
        (b"", "ES384", "holds no EC private key"),
        (b"canary", "RS384", "holds no RSA private key"),
        (b"-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----", "ES384", "holds no EC private key"),
        (b"{", "ES384", "holds no EC private key"),
        (b'{"a":' * 5000, "ES384", "holds no EC private key"),
        (json.dumps({"keys": [EC.as_dict(private=True)]}).encode(), "ES384", "holds no EC private key"),
        (json.dumps({**EC.as_dict(private=True), "crv": "P-999"}).encode(), "ES384", "holds no EC private key"),
        (json.dumps({**EC.as_dict(private=True), "d": "AAAA"}).encode(), "ES384", "holds no EC private key"),
        (pem(RSA2048), "ES384", "holds no EC private key"),
        (pem(P384), "RS384", "holds no RSA private key"),
        (json.dumps(EC.as_dict(private=True)).encode(), "RS384", "holds no RSA private key"),
        (public_pem(P384), "ES384", "holds a public key"),
        (public_pem(RSA2048), "RS384", "holds a public key"),
        (json.dumps(EC.as_dict(private=False)).encode(), "ES384", "holds a public key"),
        (pem(P384, password=b"secret"), "ES384", "protected by a password"),
        (pem(RSA2048, Format.TraditionalOpenSSL, password=b"secret"), "RS384", "protected by a password"),
        (pem(ec.generate_private_key(ec.SECP256R1())), "ES384", "another curve"),
        (pem(ec.generate_private_key(ec.BrainpoolP384R1())), "ES384", "another curve"),
        (pem(rsa.generate_private_key(65537, 1024)), "RS384", "too short: make one of 2048"),  # noqa: S505
        (json.dumps({**EC.as_dict(private=True), "alg": "ES256"}).encode(), "ES384", "do not allow signing"),
        (json.dumps({**EC.as_dict(private=True), "use": "enc"}).encode(), "ES384", "do not allow signing"),
        (json.dumps({**EC.as_dict(private=True), "key_ops": ["verify"]}).encode(), "ES384", "do not allow signing"),
        (pem(P384) + b" " * 65_536, "ES384", "too large"),
    ],
)
def test_what_is_no_key_for_the_algorithm_is_refused(
    tmp_path: Path, content: bytes, algorithm: Algorithm, said: str
) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        load_key(written(tmp_path, content), algorithm=algorithm)
    assert caught.value.__context__ is None
    lines = [line for line in content.decode().splitlines() if line and not line.startswith("-----")]
    assert not any(line in str(caught.value) for line in lines)


def test_a_file_that_is_not_there_or_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        load_key(tmp_path / "none", algorithm="ES384")
    with pytest.raises(ValueError, match="is not a file"):
        load_key(tmp_path, algorithm="ES384")


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="the file system has no owners")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o602])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, pem(P384), mode=mode)
    with pytest.raises(ValueError, match="chmod 600"):
        load_key(path, algorithm="ES384")
    assert stat.S_IMODE(path.stat().st_mode) == mode
    monkeypatch.delattr(os, "geteuid")
    load_key(path, algorithm="ES384")


@pytest.mark.parametrize(
    ("mode", "owner", "reader", "shared"),
    [
        (0o600, 1000, 1000, False),
        (0o400, 1000, 1000, False),
        (0o640, 1000, 1000, True),
        (0o640, 0, 1000, False),
        (0o440, 0, 1000, False),
        (0o660, 0, 1000, True),
        (0o444, 0, 1000, True),
        (0o640, 0, 0, True),
        (0o600, 0, 0, False),
    ],
)
def test_who_else_can_read_a_file(mode: int, owner: int, reader: int, shared: bool) -> None:
    assert is_shared(stat.S_IFREG | mode, owner=owner, reader=reader) == shared
