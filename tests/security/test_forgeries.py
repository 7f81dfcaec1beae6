"""Forged tokens at the door alone, where each is refused for what is wrong with it, and at every address."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from app.clients import Client
from app.gateway.jwks import FileSource, KeySet, UrlSource
from app.names import SERVICES
from app.replay import Memory, Replay
from app.settings import Settings, dev
from app.store.doorbook import Refusal
from app.trust import Door, Refusals
from cds_hooks import trust
from cds_hooks.errors import Unauthorized
from tests.security import forgeries
from tests.security.forgeries import Forgery, Headers, Maker, Signer

pytestmark = pytest.mark.no_cover

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
BASE = "https://cds.example.org"
OPENAPI = Path(__file__).resolve().parents[2] / "openapi.yaml"
PATHS = ("/cds-services", "/cds-services/one", "/cds-services/one/feedback")
TENANT = "2ddd6c3a-8e9a-44c6-a305-52111ad302a2"


@cache
def signers() -> dict[str, Signer]:
    """As the public sandbox signs, as Epic does, and as a client with a file of keys."""
    issuer = "https://ehr.example.org/interconnect/api/FHIR/R4"
    return {
        "es384": Signer(
            "https://ehr.example.org/fhir",
            "https://ehr.example.org/keys/jwks.json",
            "44823f3d-key-1",
            ec.generate_private_key(ec.SECP384R1()),
            "ES384",
            tenant=TENANT,
        ),
        "epic": Signer(
            issuer,
            f"{issuer.partition('/api')[0]}/api/epic/2019/Security/Open/PublicKeys/530005/OIDC",
            "dGVzdA+/abc0123==",
            rsa.generate_private_key(public_exponent=65537, key_size=2048),
            "RS384",
        ),
        "file": Signer(
            "https://cds-hooks.cerner.com.example", None, "k", ec.generate_private_key(ec.SECP384R1()), "ES384"
        ),
    }


class Book:
    """Keeps refusals in memory."""

    def __init__(self) -> None:
        self.refusals: list[Refusal] = []

    async def note_refusal(self, refusal: Refusal) -> None:
        self.refusals.append(refusal)


def key_set(signer: Signer) -> bytes:
    """What the client publishes."""
    return json.dumps({"keys": [forgeries.public_jwk(signer.private_key, kid=signer.key_id, use="sig")]}).encode()


def client_of(signer: Signer) -> Client:
    return Client(
        id="north",
        issuer=signer.issuer,
        audiences=(BASE,),
        tenants={signer.tenant or "dev": "dev"},
        jwks_url=signer.jku,
    )


def settings_for(signer: Signer) -> Settings:
    return replace(dev(), clients=(client_of(signer),))


class Entrance:
    """The service's door, its replay memory, and the reasons it gives to the record and to nobody else."""

    def __init__(self, signer: Signer, *, keys: KeySet | None = None, replay: Replay | None = None) -> None:
        self.reasons: list[str] = []
        self.asked: list[str] = []

        def answer(request: httpx.Request) -> httpx.Response:
            self.asked.append(str(request.url))
            return httpx.Response(200, content=key_set(signer))

        at = signer.jku or f"{BASE}/keys"
        self.keys = keys or KeySet(UrlSource(at, httpx.MockTransport(answer)))
        self.door = Door(
            settings_for(signer),
            keys={"north": self.keys},
            replay=replay or Memory(),
            refusals=Refusals(Book(), clock=lambda: NOW, counted=self.reasons.append),
            clock=lambda: NOW,
        )

    async def admits(self, headers: Headers, *, path: str) -> bool:
        try:
            caller = await self.door.caller(headers, path=path)
        except Unauthorized:
            return False
        assert caller.registered
        return True


KINDS = ("es384", "epic", "file")
KINDS_AND_PATHS = [*(("es384", path) for path in PATHS), ("epic", PATHS[1]), ("file", PATHS[2])]


@cache
def everything(kind: str, path: str) -> tuple[Forgery, ...]:
    """Made once: they are refused, so none is used up."""
    signer = signers()[kind]
    url = BASE + path
    return (*forgeries.forgeries(signer, url=url, now=NOW), *forgeries.addresses(signer, url=url, now=NOW))


# --- the corpus ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_there_are_enough_of_them(kind: str) -> None:
    signer = signers()[kind]
    named = [one.id for one in everything(kind, PATHS[1])]
    assert len(named) - len(forgeries.hostile_jku(signer)) - len(forgeries.hostile_issuers(signer)) >= 60 + 10
    assert len(forgeries.hostile_jku(signer)) >= 30
    assert len(forgeries.hostile_issuers(signer)) >= 20
    assert signer.jku not in forgeries.hostile_jku(signer).values()
    assert signer.issuer not in forgeries.hostile_issuers(signer).values()
    assert len(set(named)) == len(named)
    assert {reason for one in everything(kind, PATHS[1]) for reason in one.reasons} <= set(trust.REASONS)


def test_every_reason_has_a_forgery() -> None:
    """But for those that only a registry, two keys of one name, a repetition or a broken store can give."""
    given = {reason for kind in KINDS for one in everything(kind, PATHS[1]) for reason in one.reasons}
    assert set(trust.REASONS) - given == {"ambiguous-key", "replayed", "store"}


def test_the_makers_tokens_are_read_by_another_library() -> None:
    """Else all of them would be refused, and no test would notice."""
    for signer in signers().values():
        make = Maker(signer, BASE, NOW)
        (key,) = trust.keys_of(key_set(signer))
        assert trust.verified(trust.read(make.token()), key=key).issuer == signer.issuer


# --- at the door --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "path"), KINDS_AND_PATHS)
async def test_each_is_refused_for_what_is_wrong_with_it(kind: str, path: str) -> None:
    entrance = Entrance(signers()[kind])
    await entrance.keys.start()
    wrong = []
    for forgery in everything(kind, path):
        entrance.reasons.clear()
        admitted = await entrance.admits(forgery.headers, path=path)
        if admitted or len(entrance.reasons) != 1 or entrance.reasons[0] not in forgery.reasons:
            wrong.append((forgery.id, admitted, entrance.reasons.copy(), forgery.reasons))
    assert not wrong
    assert set(entrance.asked) == {signers()[kind].jku or f"{BASE}/keys"}
    assert len(entrance.asked) == 1  # an unknown kid came too early for a second look
    await entrance.keys.aclose()


@pytest.mark.parametrize(("kind", "path"), KINDS_AND_PATHS)
async def test_what_real_clients_send_is_let_in_once(kind: str, path: str) -> None:
    entrance = Entrance(signers()[kind])
    for control in forgeries.controls(signers()[kind], url=BASE + path, now=NOW):
        assert await entrance.admits(control.headers, path=path), (control.id, entrance.reasons)
        assert not await entrance.admits(control.headers, path=path), control.id
        assert entrance.reasons == ["replayed"]
        entrance.reasons.clear()
    await entrance.keys.aclose()


async def test_a_good_token_opens_one_address_only() -> None:
    signer = signers()["es384"]
    entrance = Entrance(signer)
    for made_for in PATHS:
        for path in PATHS:
            headers = forgeries.bearer(Maker(signer, BASE + made_for, NOW).token())
            assert await entrance.admits(headers, path=path) == (made_for == path)
    await entrance.keys.aclose()


async def test_a_file_of_keys(tmp_path: Path) -> None:
    signer = signers()["file"]
    (tmp_path / "keys.json").write_bytes(key_set(signer))
    entrance = Entrance(signer, keys=KeySet(FileSource(tmp_path / "keys.json")))
    assert await entrance.admits(forgeries.bearer(Maker(signer, BASE + PATHS[0], NOW).token()), path=PATHS[0])
    jku = forgeries.bearer(Maker(signer, BASE + PATHS[0], NOW).headed(jku="https://ehr.example.org/keys"))
    assert not await entrance.admits(jku, path=PATHS[0])
    assert entrance.reasons == ["jku"]
    await entrance.keys.aclose()


async def test_of_two_clients_neither_passes_for_the_other() -> None:
    """The kid is the same at both, which clients do not arrange with each other."""
    own, other = signers()["es384"], replace(signers()["file"], key_id=signers()["es384"].key_id)
    entrance = Entrance(own)
    mixed = replace(own, private_key=other.private_key)
    assert not await entrance.admits(forgeries.bearer(Maker(mixed, BASE + PATHS[0], NOW).token()), path=PATHS[0])
    assert entrance.reasons == ["signature"]
    await entrance.keys.aclose()


# --- at addresses -------------------------------------------------------------------------------------------


Scope = MutableMapping[str, Any]


def served(
    entrance: Entrance, *, unproven: Callable[[Headers], tuple[int, bytes]] = lambda _: (401, b"")
) -> Callable[[Scope, Any, Callable[[Any], Awaitable[None]]], Awaitable[None]]:
    """A service that has a door and nothing behind it; `unproven` is what it answers to whom it does not let in."""

    async def app(scope: Scope, _receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        await asyncio.sleep(0)
        admitted = await entrance.admits(scope["headers"], path=scope["path"])
        status, body = (200, b"{}") if admitted else unproven(scope["headers"])
        headers = [(b"date", str(id(scope)).encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


ENDPOINTS = [("GET", PATHS[0], b""), ("POST", PATHS[1], b"{}"), ("POST", PATHS[2], b"{}")]


@contextmanager
def only_these(*ids: str) -> Iterator[pytest.MonkeyPatch]:
    """Fewer forgeries, where what is tested is the counting."""
    with pytest.MonkeyPatch.context() as patch:
        made = forgeries.forgeries
        patch.setattr(
            forgeries,
            "forgeries",
            lambda *args, **more: tuple(one for one in made(*args, **more) if not ids or one.id in ids),
        )
        yield patch


async def counted(app: Any, **changes: Any) -> dict[str, tuple[str, bool]]:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
        given = {"endpoints": ENDPOINTS, "signer": signers()["es384"], "audience_base": BASE, "now": NOW, **changes}
        figures = await forgeries.against(client, **given)
    return {row.what: (row.number, row.held) for row in figures.rows}


async def test_the_figures_of_a_service_that_holds() -> None:
    entrance = Entrance(signers()["es384"])
    rows = await counted(served(entrance), endpoints=ENDPOINTS[:2])
    assert all(held for _, held in rows.values()), rows
    assert rows["of them let in, or told why not"] == ("0", True)
    assert rows["different answers to them (status, headers, body)"] == ("1", True)
    await entrance.keys.aclose()


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (lambda headers: (401, b"" if headers else b"no token"), "of them let in, or told why not"),
        (lambda headers: (401 if headers else 400, b""), "of them let in, or told why not"),
        (lambda headers: (401 if headers else 400, b""), "different answers to them (status, headers, body)"),
    ],
)
async def test_the_figures_of_a_service_that_talks(answer: Callable[[Headers], tuple[int, bytes]], what: str) -> None:
    entrance = Entrance(signers()["es384"])

    def unproven(headers: Headers) -> tuple[int, bytes]:
        return answer([one for one in headers if one[0] == b"authorization"])

    with only_these("request-none", "alg-none"):
        rows = await counted(served(entrance, unproven=unproven), endpoints=ENDPOINTS[:1])
    assert not next(held for name, (_, held) in rows.items() if name.startswith(what))
    await entrance.keys.aclose()


class Forgetful:
    """A replay memory that has none."""

    async def first_use(self, **_: object) -> bool:
        return True


async def test_the_figures_of_a_service_that_takes_tokens_twice() -> None:
    entrance = Entrance(signers()["es384"], replay=Forgetful())
    with only_these("request-none"):
        rows = await counted(served(entrance), endpoints=ENDPOINTS[:1])
    assert rows["the same token a second time, refused"][1] is False
    assert rows["one token 50 times at once: accepted at each address"] == ("50", False)
    await entrance.keys.aclose()


# --- the service --------------------------------------------------------------------------------------------


async def test_addresses_of_the_service() -> None:
    figures = await forgeries.run(size="small")
    assert figures.held, figures.rows


def test_every_address_that_asks_for_a_token_is_in_the_full_run() -> None:
    """By openapi.yaml, which is held to what the service does (tests/contract); HEAD is the same resource as GET."""
    paths = yaml.safe_load(OPENAPI.read_text(encoding="utf-8"))["paths"]
    asked_for_a_token = {
        (method.upper(), path.replace("{id}", service))
        for path, operations in paths.items()
        for method, operation in operations.items()
        for service in SERVICES
        if "security" in operation
    }
    assert asked_for_a_token == {(method, path) for method, path, _ in forgeries.endpoints()} - {("HEAD", PATHS[0])}
