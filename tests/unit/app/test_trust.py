"""Who is let in, in which order it is asked, and what is kept of who is not."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest

from app.gateway.jwks import FileSource, KeySet
from app.names import ORDER_SIGN, PATIENT_VIEW
from app.replay import Memory
from app.settings import Settings, dev, load
from app.store.doorbook import Refusal, digest
from app.store.errors import NotRecorded
from app.trust import REASONS, ROWS_A_MINUTE, Door, Refusals
from cds_hooks.errors import Forbidden, Unauthorized
from tests.unit.app.registry import BASE, Ehr, configuration
from tests.unit.app.store.test_store import opened, rows

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
EHR = Ehr("ehr", "https://ehr.example.org")
OTHER = Ehr("other", "https://other.example.org", kid="key-2")
PATH = f"/cds-services/{PATIENT_VIEW}"
TWO = {"north": ["https://north.example.org/r4"], "south": ["https://south.example.org/r4"]}


class Book:
    """Keeps refusals in a list; breaks on demand."""

    def __init__(self) -> None:
        self.kept: list[Refusal] = []
        self.broken = False

    async def note_refusal(self, refusal: Refusal) -> None:
        if self.broken:
            raise NotRecorded("canary")
        self.kept.append(refusal)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def door(settings: Settings, book: Book, *, clock: Clock | None = None, counted: list[str] | None = None) -> Door:
    """The door of these settings, with its own memory."""
    clock = clock or Clock()
    files = [(client.id, client.jwks_file) for client in settings.clients]
    return Door(
        settings,
        keys={id_: KeySet(FileSource(path)) for id_, path in files if path is not None},
        replay=Memory(),
        refusals=Refusals(book, clock=clock, counted=(counted if counted is not None else []).append),
        clock=clock,
    )


def sent(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load(
        configuration(
            tmp_path,
            EHR.block(tmp_path, tenants=["north", "south"], cors_origins=["https://ehr.example.org"]),
            OTHER.block(
                tmp_path, tenants=["south"], services=[PATIENT_VIEW], jwks_url="https://other.example.org/jwks"
            ),
            tenants=TWO,
        )
    )


async def test_without_clients_everybody_is_the_one_anonymous_caller() -> None:
    found = door(dev(), Book())
    assert found.open
    assert await found.caller([(b"authorization", b"whatever")], path=PATH) == dev().anonymous


@pytest.mark.parametrize(
    ("profile", "origin", "let_in"),
    [
        ("dev", "http://localhost:8080", True),
        ("dev", "https://[::1]:1", True),
        ("dev", "https://evil.example.org", False),
        ("dev", "http://localhost.evil.example.org", False),
        ("dev", "http://localhost:8080\n", False),
        ("dev", "null", False),
        ("site", "https://ehr.example.org", True),
        ("site", "http://localhost:8080", False),
        ("site", "", False),
    ],
)
async def test_a_foreign_page_does_not_call_where_everybody_is_answered(
    profile: Literal["dev", "site"], origin: str, let_in: bool
) -> None:
    book = Book()
    found = door(replace(dev(), profile=profile, cors_origins=("https://ehr.example.org",)), book)
    if let_in:
        assert (await found.caller([(b"Origin", origin.encode())], path=PATH)).client == "anonymous"
    else:
        with pytest.raises(Forbidden):
            await found.caller([(b"Origin", origin.encode())], path=PATH)
    assert [one.reason for one in book.kept] == ([] if let_in else ["origin"])


async def test_a_good_token_is_its_client_at_its_tenant(settings: Settings) -> None:
    book = Book()
    found = door(settings, book)
    assert not found.open
    caller = await found.caller(sent(EHR.headers(PATH, now=NOW, tenant="north")), path=PATH, service=PATIENT_VIEW)
    assert (caller.client, caller.tenant.name, caller.registered) == ("ehr", "north", True)
    other = await found.caller(sent(OTHER.headers(PATH, now=NOW)), path=PATH, service=PATIENT_VIEW)
    assert (other.client, other.tenant.name) == ("other", "south")
    assert book.kept == []


async def test_the_audience_may_end_as_the_address_may(settings: Settings) -> None:
    found = door(settings, Book())
    for audience in (f"{BASE}{PATH}/", [f"{BASE}/elsewhere", f"{BASE}{PATH}"]):
        headers = OTHER.headers(PATH, now=NOW, aud=audience)
        assert (await found.caller(sent(headers), path=PATH)).client == "other"


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"tenant": "elsewhere"}, "tenant"),
        ({"tenant": None}, "tenant"),
        ({"tenant": "north", "aud": f"{BASE}/cds-services"}, "audience"),
        ({"tenant": "north", "aud": f"{BASE}{PATH}/feedback"}, "audience"),
        ({"tenant": "north", "aud": f"https://cds.evil.example.org{PATH}"}, "audience"),
        ({"tenant": "north", "exp": int(NOW.timestamp()) - 61}, "expired"),
        ({"tenant": "north", "iss": "https://unknown.example.org"}, "unknown-issuer"),
    ],
)
async def test_why_a_token_is_refused_is_kept_and_not_told(
    settings: Settings, claims: dict[str, object], reason: str
) -> None:
    book, counted = Book(), list[str]()
    with pytest.raises(Unauthorized) as caught:
        await door(settings, book, counted=counted).caller(
            sent(EHR.headers(PATH, now=NOW, **claims)), path=PATH, service=PATIENT_VIEW
        )
    assert caught.value.message == ""
    assert [(one.reason, one.service) for one in book.kept] == [(reason, PATIENT_VIEW)]
    assert counted == [reason]
    assert reason in REASONS


async def test_a_client_signs_for_itself_only(settings: Settings) -> None:
    book = Book()
    forged = replace(OTHER, issuer=EHR.issuer, kid=EHR.kid)
    with pytest.raises(Unauthorized):
        await door(settings, book).caller(sent(forged.headers(PATH, now=NOW, tenant="north")), path=PATH)
    assert [(one.reason, one.client) for one in book.kept] == [("signature", "ehr")]


async def test_what_each_client_may_is_its_own(settings: Settings) -> None:
    book = Book()
    found = door(settings, book)
    sign = f"/cds-services/{ORDER_SIGN}"
    with pytest.raises(Forbidden, match="may not call this service"):
        await found.caller(sent(OTHER.headers(sign, now=NOW)), path=sign, service=ORDER_SIGN)
    page = {"origin": "https://ehr.example.org"}
    assert await found.caller(sent(EHR.headers(PATH, now=NOW, tenant="north") | page), path=PATH, service=PATIENT_VIEW)
    with pytest.raises(Forbidden, match="origin"):
        await found.caller(sent(OTHER.headers(PATH, now=NOW) | page), path=PATH, service=PATIENT_VIEW)
    with pytest.raises(Forbidden, match="origin"):
        await found.caller(sent(EHR.headers(PATH, now=NOW, tenant="north") | {"origin": "null"}), path=PATH)
    assert [(one.reason, one.client) for one in book.kept] == [
        ("service", "other"),
        ("origin", "other"),
        ("origin", "ehr"),
    ]


async def test_a_token_is_good_once_and_its_id_is_kept_as_a_digest(settings: Settings) -> None:
    book = Book()
    found = door(settings, book)
    headers = sent(OTHER.headers(PATH, now=NOW, jti="canary"))
    await found.caller(headers, path=PATH)
    with pytest.raises(Unauthorized):
        await found.caller(headers, path=PATH)
    assert [(one.reason, one.client, one.token) for one in book.kept] == [("replayed", "other", digest("canary"))]


async def test_a_memory_that_cannot_say_refuses(settings: Settings) -> None:
    book, clock = Book(), Clock()

    class Broken:
        async def first_use(self, **_: object) -> bool:
            raise NotRecorded("canary")

    keys = {client.id: KeySet(FileSource(client.jwks_file)) for client in settings.clients if client.jwks_file}
    found = Door(settings, keys=keys, replay=Broken(), refusals=Refusals(book, clock=clock), clock=clock)
    with pytest.raises(Unauthorized):
        await found.caller(sent(OTHER.headers(PATH, now=NOW)), path=PATH)
    assert [one.reason for one in book.kept] == ["store"]


async def test_refusals_are_bounded_in_a_minute_and_none_is_uncounted() -> None:
    book, clock, counted = Book(), Clock(), list[str]()
    refusals = Refusals(book, clock=clock, counted=counted.append)
    for _ in range(1000):
        await refusals.note("signature")
    assert len(book.kept) == ROWS_A_MINUTE
    clock.now += timedelta(minutes=1)
    await refusals.note("signature")
    assert sum(one.times for one in book.kept) == len(counted) == 1001


async def test_a_flood_hides_no_other_refusal_and_is_not_counted_as_one() -> None:
    book, clock = Book(), Clock()
    refusals = Refusals(book, clock=clock)
    for _ in range(1000):
        await refusals.note("no-token")
    for _ in range(3):
        await refusals.note("replayed", client="ehr")
    clock.now += timedelta(minutes=1)
    await refusals.note("replayed", client="ehr")
    await refusals.note("no-token")
    kept = [(one.reason, one.client, one.times) for one in book.kept[ROWS_A_MINUTE:]]
    assert kept == [("replayed", "ehr", 1), ("replayed", "ehr", 3), ("no-token", "", 1000 - ROWS_A_MINUTE + 1)]


async def test_a_refusal_stands_also_where_it_cannot_be_kept(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    book = Book()
    book.broken = True
    with pytest.raises(Unauthorized):
        await door(settings, book).caller([], path=PATH)
    assert "refusal not recorded" in caplog.text
    assert "canary" not in caplog.text


async def test_a_database_that_is_busy_is_not_waited_for(settings: Settings) -> None:
    book, free = Book(), asyncio.Event()

    class Busy:
        async def note_refusal(self, refusal: Refusal) -> None:
            await free.wait()
            await book.note_refusal(refusal)

    refusals = Refusals(Busy(), clock=Clock())
    await refusals.note("signature")
    assert book.kept == []
    free.set()
    await refusals.aclose()
    assert [one.reason for one in book.kept] == ["signature"]


async def test_the_database_keeps_refusals(tmp_path: Path) -> None:
    async with opened(tmp_path / "d.db") as store:
        refusals = Refusals(store, clock=Clock())
        await refusals.note("signature", client="ehr", service=PATIENT_VIEW, token_id="j")
        await refusals.aclose()
    kept = rows(tmp_path / "d.db", "select reason, client, service, token, times from refusals")
    assert kept == [("signature", "ehr", PATIENT_VIEW, digest("j"), 1)]
