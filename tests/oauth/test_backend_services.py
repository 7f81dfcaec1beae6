"""The service's own credentials against an authorisation server that was not written for them.

What is refused here is refused by oidc-provider, or by the three rules that SMART adds to it (server.mjs); the FHIR
part of the server believes only tokens that are valid at that moment.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from joserfc.jwk import ECKey, RSAKey

from app.gateway.access import Access
from app.gateway.backend_services import Algorithm, BackendServices, Credentials, Key
from app.gateway.budget import Budget, Deadline
from app.gateway.door import Pool
from app.gateway.errors import NoToken, TokenScope
from app.gateway.fhir import Gateway, Query
from app.gateway.scopes import SYSTEM_READ

from .conftest import Authority

pytestmark = pytest.mark.oauth

KEYS: dict[Algorithm, Key] = {"ES384": ECKey.generate_key("P-384"), "RS384": RSAKey.generate_key(3072)}
SECONDS = 10.0


def public(key: Key, *, kid: str = "kid-1") -> dict[str, Any]:
    return {**key.as_dict(private=False), "kid": kid, "use": "sig"}


def client(authority: Authority, algorithm: Algorithm = "ES384", **metadata: Any) -> dict[str, Any]:
    """A client that the server knows, as the fields of its credentials."""
    client_id = f"client-{uuid.uuid4()}"
    authority.register(client_id, public(KEYS[algorithm]), **metadata)
    return {
        "client_id": client_id,
        "token_url": authority.token_url,
        "algorithm": algorithm,
        "key_id": "kid-1",
        "key": KEYS[algorithm],
    }


class Wire(httpx.AsyncBaseTransport):
    """The gateway's own transport; keeps what was sent."""

    def __init__(self) -> None:
        self.inner = Pool(16)
        self.sent: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(request)
        return await self.inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self.inner.aclose()


@asynccontextmanager
async def services(
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    clock: Callable[[], float] = time.monotonic,
    wire: Wire | None = None,
    **fields: Any,
) -> AsyncIterator[BackendServices]:
    wire = wire or Wire()
    backend = BackendServices(Credentials(**fields), transport=wire, now=now, clock=clock, request_seconds=SECONDS)
    try:
        yield backend
    finally:
        await backend.aclose()
        await wire.aclose()


def deadline() -> Deadline:
    return Deadline(SECONDS)


def read(authority: Authority, token: str, resource_type: str = "Observation") -> int:
    """The status of a search with this token."""
    headers = {"Authorization": f"Bearer {token}"}
    return authority.http.get(f"{authority.base}/{resource_type}?patient=1", headers=headers).status_code


@pytest.mark.parametrize("algorithm", ["ES384", "RS384"])
async def test_a_token_reads_every_type_it_was_asked_for(authority: Authority, algorithm: Algorithm) -> None:
    before = authority.counts()
    async with services(**client(authority, algorithm)) as backend:
        for scope in SYSTEM_READ:
            resource_type = scope.removeprefix("system/").removesuffix(".rs")
            assert read(authority, await backend.token(deadline=deadline()), resource_type) == 200
    after = authority.counts()
    assert after["token"] - before["token"] == 1
    assert after["fhir_ok"] - before["fhir_ok"] == len(SYSTEM_READ)
    assert read(authority, "made-up") == 401


async def test_a_token_of_fewer_scopes_reads_no_more(authority: Authority) -> None:
    async with services(**client(authority), scopes=("system/Patient.rs",)) as backend:
        token = await backend.token(deadline=deadline())
    assert (read(authority, token, "Patient"), read(authority, token, "Observation")) == (200, 403)


@pytest.mark.parametrize("spelling", ["system/*.rs", "system/*.read", "system/Observation.read"])
async def test_other_spellings_are_granted_and_understood(authority: Authority, spelling: str) -> None:
    async with services(**client(authority), scopes=(spelling,)) as backend:
        assert read(authority, await backend.token(deadline=deadline())) == 200


async def test_many_readers_share_one_token_request(authority: Authority) -> None:
    before = authority.counts()
    async with services(**client(authority)) as backend:
        tokens = await asyncio.gather(*(backend.token(deadline=deadline()) for _ in range(50)))
    assert len(set(tokens)) == 1
    assert authority.counts()["token"] - before["token"] == 1


async def test_an_expired_token_is_replaced_before_it_is_used(authority: Authority) -> None:
    authority.control("PUT", "life", 2)
    async with services(**client(authority)) as backend:
        first = await backend.token(deadline=deadline())
        assert read(authority, first) == 200
        await asyncio.sleep(2.1)
        assert read(authority, first) == 401
        second = await backend.token(deadline=deadline())
    assert first != second
    assert read(authority, second) == 200


@pytest.mark.parametrize("how", ["expired", "revoked"])
async def test_a_token_that_the_server_no_longer_knows_costs_one_more_request(authority: Authority, how: str) -> None:
    authority.control("PUT", "life", 1 if how == "expired" else 300)
    before = authority.counts()
    async with services(**client(authority), clock=lambda: 0.0) as backend:  # its own clock says: still valid
        first = await backend.token(deadline=deadline())
        if how == "expired":
            await asyncio.sleep(1.1)
            authority.control("PUT", "life", 300)
        else:
            authority.control("POST", "revoke")
        assert await backend.token(deadline=deadline()) == first
        assert read(authority, first) == 401
        renewed = await asyncio.gather(*(backend.token(deadline=deadline(), rejected=first) for _ in range(6)))
        assert len(set(renewed)) == 1
        assert read(authority, renewed[0]) == 200
        assert await backend.token(deadline=deadline()) == renewed[0]
    assert authority.counts()["token"] - before["token"] == 2


async def test_keys_are_rotated_with_an_overlap(authority: Authority) -> None:
    own = client(authority)
    new = ECKey.generate_key("P-384")
    rotated = {**own, "key": new, "key_id": "kid-2"}
    async with services(**rotated) as early:
        with pytest.raises(NoToken):
            await early.token(deadline=deadline())
    authority.register(own["client_id"], public(own["key"]), public(new, kid="kid-2"))
    async with services(**own) as old, services(**rotated) as fresh:
        assert read(authority, await old.token(deadline=deadline())) == 200
        assert read(authority, await fresh.token(deadline=deadline())) == 200
    authority.register(own["client_id"], public(new, kid="kid-2"))
    async with services(**own) as old, services(**rotated) as fresh:
        with pytest.raises(NoToken):
            await old.token(deadline=deadline())
        assert read(authority, await fresh.token(deadline=deadline())) == 200


# --- through the gateway ----------------------------------------------------------------------------------

QUERY = Query("Observation", (("patient", "1"),))


async def fetched(gateway: Gateway, authority: Authority, backend: BackendServices, **hook: Any) -> tuple[Any, str]:
    access = Access(**hook, backend=backend)
    result = await gateway.fetch(QUERY, base=authority.base, access=access, budget=Budget(deadline()))
    return result, access.mark


async def test_a_hook_without_a_token_is_read_with_the_services_own(authority: Authority) -> None:
    before = authority.counts()
    async with Gateway() as gateway:
        backend = gateway.backend(Credentials(**client(authority)))
        for _ in range(3):
            result, mark = await fetched(gateway, authority, backend)
            assert (result.outcome, result.requests, mark) == ("empty", 1, "backend")
        authority.control("POST", "revoke")
        result, mark = await fetched(gateway, authority, backend)
        assert (result.outcome, result.requests, mark) == ("empty", 2, "backend")
    after = authority.counts()
    assert after["token"] - before["token"] == 2
    assert after["fhir_ok"] - before["fhir_ok"] == 4


async def test_a_hooks_token_that_covers_the_type_is_used_alone(authority: Authority) -> None:
    async with services(**client(authority), scopes=("system/Observation.rs",)) as issuer:
        token = await issuer.token(deadline=deadline())
    before = authority.counts()
    async with Gateway() as gateway:
        backend = gateway.backend(Credentials(**client(authority)))
        result, mark = await fetched(gateway, authority, backend, token=token, scope="system/Observation.rs")
        assert (result.outcome, mark, authority.counts()["token"]) == ("empty", "hook", before["token"])
        result, mark = await fetched(gateway, authority, backend, token=token, scope="system/Patient.rs")
        assert (result.outcome, mark, authority.counts()["token"]) == ("empty", "backend", before["token"] + 1)


@pytest.mark.parametrize(
    ("changes", "ended"),
    [
        ({"key_id": "kid-9"}, ("failed", "no-token", (("status", "401"),))),
        ({"scopes": ("system/Device.rs",)}, ("failed", "token-scope", ())),
    ],
)
async def test_a_source_ends_failed_with_the_reason(
    authority: Authority, changes: dict[str, Any], ended: tuple[Any, ...]
) -> None:
    before = authority.counts()
    async with Gateway() as gateway:
        backend = gateway.backend(Credentials(**{**client(authority), **changes}))
        result, _ = await fetched(gateway, authority, backend)
    assert (result.outcome, result.why, result.params) == ended
    assert authority.counts()["fhir"] == before["fhir"]


# --- what the server refuses ------------------------------------------------------------------------------


async def refused(authority: Authority, **fields: Any) -> str:
    """Why the server refused, where it did and NoToken was all that came of it."""
    async with services(**fields) as backend:
        with pytest.raises(NoToken) as caught:
            await backend.token(deadline=deadline())
    assert caught.value.params == (("status", "401"),)
    return authority.refusal()


async def test_an_unknown_client(authority: Authority) -> None:
    assert "client not found" in await refused(authority, **{**client(authority), "client_id": "nobody"})


@pytest.mark.parametrize("algorithm", ["ES384", "RS384"])
async def test_another_key_under_the_registered_name(authority: Authority, algorithm: Algorithm) -> None:
    other: Key = ECKey.generate_key("P-384") if algorithm == "ES384" else RSAKey.generate_key(2048)
    assert "invalid_client" in await refused(authority, **{**client(authority, algorithm), "key": other})


async def test_a_key_name_that_was_not_registered(authority: Authority) -> None:
    assert "invalid_client" in await refused(authority, **{**client(authority), "key_id": "kid-9"})


async def test_the_address_of_another_server(authority: Authority) -> None:
    by_another_name = authority.token_url.replace("127.0.0.1", "localhost")
    assert "aud is not the token URL" in await refused(authority, **{**client(authority), "token_url": by_another_name})


@pytest.mark.parametrize(
    ("minutes", "why"), [(-10, "jwt expired"), (-3, "jwt expired"), (3, "five minutes ahead"), (60, "five minutes")]
)
async def test_a_clock_that_is_far_out(authority: Authority, minutes: int, why: str) -> None:
    assert why in await refused(
        authority, **client(authority), now=lambda: datetime.now(UTC) + timedelta(minutes=minutes)
    )


@pytest.mark.parametrize("minutes", [-2, 2])
async def test_a_clock_that_is_a_little_out_is_no_matter(authority: Authority, minutes: int) -> None:
    async with services(**client(authority), now=lambda: datetime.now(UTC) + timedelta(minutes=minutes)) as backend:
        assert read(authority, await backend.token(deadline=deadline())) == 200


async def test_an_assertion_that_was_used_before(authority: Authority) -> None:
    wire = Wire()
    async with services(**client(authority), wire=wire) as backend:
        await backend.token(deadline=deadline())
    [request] = wire.sent
    again = authority.http.post(authority.token_url, headers=request.headers, content=request.content)
    assert (again.status_code, again.json()["error"]) == (401, "invalid_client")
    assert "must only be used once" in authority.refusal()


async def test_an_identity_that_was_used_before(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    own = client(authority)
    monkeypatch.setattr(uuid, "uuid4", lambda: "always the same")
    async with services(**own) as backend:
        await backend.token(deadline=deadline())
    assert "must only be used once" in await refused(authority, **own)


async def test_a_scope_that_the_client_may_not_have(authority: Authority) -> None:
    """Refused with a reason, which becomes the source's own."""
    async with services(**client(authority, scope="system/Patient.rs")) as backend:
        with pytest.raises(TokenScope) as caught:
            await backend.token(deadline=deadline())
    assert caught.value.params == (("status", "400"),)
    assert "invalid_scope" in authority.refusal()


@pytest.mark.parametrize("scopes", [("system/Device.rs",), ("system/Observation.rs", "system/Device.rs")])
async def test_a_scope_that_is_left_out_without_a_word(authority: Authority, scopes: tuple[str, ...]) -> None:
    """Granted, with less than was asked for: in the first case without any `scope` in the answer."""
    before = authority.counts()
    async with services(**client(authority), scopes=scopes) as backend:
        with pytest.raises(TokenScope) as caught:
            await backend.token(deadline=deadline())
    assert caught.value.params == ()
    assert authority.counts()["granted"] - before["granted"] == 1


async def test_nobody_listens(authority: Authority) -> None:
    own = {**client(authority), "token_url": "http://127.0.0.1:1/token"}
    async with services(**own) as backend:
        with pytest.raises(NoToken) as caught:
            await backend.token(deadline=deadline())
    assert caught.value.params == ()
