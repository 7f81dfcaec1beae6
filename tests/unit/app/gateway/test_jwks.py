"""A client's keys: when they are read, how often at most, who waits for it, and what is in use meanwhile."""

from __future__ import annotations

import asyncio
import contextvars
import gzip
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc.jwk import ECKey, RSAKey

from app.gateway import jwks
from app.gateway.errors import (
    GatewayError,
    NotFhirJson,
    NotFound,
    Refused,
    ServerError,
    TimedOut,
    TooLarge,
    Unreachable,
)
from app.gateway.jwks import DAY, FileSource, KeySet, UrlSource
from cds_hooks import trust
from cds_hooks.trust import PublicKey, Untrusted

URL = "https://ehr.example.org/keys"
OLD, NEW, RSA = ECKey.generate_key("P-384"), ECKey.generate_key("P-384"), RSAKey.generate_key(2048)
SANDBOX = {
    "kty": "EC",
    "crv": "P-384",
    "kid": "44823f3d-0b01-4a6c-a80e-b9d3e8a7226f",
    "x": "dw_JGR8nB2I6XveNxUOl2qk699ZPLM2nYI5STSdiEl9avAkrm3CkfYMbrrjr8laB",
    "y": "Sm3mLE-n1zYNla_aiE3cb3nZsL51RbC7ysw3q8aJLxGm-hx79RPMYpITDjp7kgzy",
}


def document(**keys: ECKey | RSAKey) -> bytes:
    return json.dumps({"keys": [{**key.as_dict(private=False), "kid": name} for name, key in keys.items()]}).encode()


class Clock:
    """A monotonic clock that moves when it is told to."""

    def __init__(self) -> None:
        self.moment = 1000.0

    def __call__(self) -> float:
        return self.moment


@dataclass
class Shelf:
    """A source that a test fills: bytes are given, an error is raised. `gate` holds readers back while it is closed."""

    content: bytes | BaseException = b""
    reads: int = 0
    fresh_seconds: float = 3600.0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    contexts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate.set()

    async def read(self) -> bytes:
        self.reads += 1
        self.contexts.append(PATIENT.get(""))
        await self.gate.wait()
        if isinstance(self.content, BaseException):
            raise self.content
        return self.content


PATIENT: contextvars.ContextVar[str] = contextvars.ContextVar("patient")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shelf() -> Shelf:
    return Shelf(document(old=OLD))


@asynccontextmanager
async def key_set(
    shelf: Shelf, *, clock: Clock, told: list[str] | None = None, **changes: Any
) -> AsyncIterator[KeySet]:
    """Keys that have been read once."""
    keys = KeySet(shelf, clock=clock, on_refresh=None if told is None else told.append, **changes)
    await keys.start()
    try:
        yield keys
    finally:
        await keys.aclose()


async def found(keys: KeySet, key_id: str = "old", algorithm: str = "ES384") -> PublicKey:
    return await keys.find(key_id=key_id, algorithm=algorithm)


async def refused(keys: KeySet, key_id: str = "new", algorithm: str = "ES384") -> str:
    with pytest.raises(Untrusted) as caught:
        await keys.find(key_id=key_id, algorithm=algorithm)
    return caught.value.reason


async def settled() -> None:
    """Let what runs in the background go on until it waits for a clock."""
    for _ in range(20):
        await asyncio.sleep(0)


# --- what is held -----------------------------------------------------------------------------------------


async def test_keys_are_read_at_start_and_then_held(shelf: Shelf, clock: Clock) -> None:
    told: list[str] = []
    async with key_set(shelf, clock=clock, told=told) as keys:
        for _ in range(100):
            assert (await found(keys)).thumbprint() == OLD.thumbprint()
        clock.moment += 3599
        await found(keys)
        await settled()
    assert shelf.reads == 1
    assert told == ["ok"]


@pytest.mark.parametrize(
    "broken", [OSError("no"), Unreachable(), RuntimeError("no"), b"<html>", b'{"keys":[]}', asyncio.CancelledError()]
)
async def test_start_never_raises_and_the_next_call_may_try_again(
    shelf: Shelf, clock: Clock, broken: bytes | BaseException
) -> None:
    good, shelf.content = shelf.content, broken
    async with key_set(shelf, clock=clock) as keys:
        assert await refused(keys, "old") == "unknown-key"
        assert shelf.reads == 1
        shelf.content = good
        clock.moment += 60
        assert (await found(keys)).key_id == "old"
        assert shelf.reads == 2


async def test_without_start_the_first_call_reads(shelf: Shelf, clock: Clock) -> None:
    keys = KeySet(shelf, clock=clock)
    assert (await found(keys)).key_id == "old"
    await keys.aclose()
    await KeySet(shelf, clock=clock).aclose()


async def test_the_key_has_to_fit_the_algorithm(shelf: Shelf, clock: Clock) -> None:
    shelf.content = document(old=RSA)
    async with key_set(shelf, clock=clock) as keys:
        assert (await found(keys, algorithm="RS384")).key_type == "RSA"
        assert await refused(keys, "old", "ES384") == "unknown-key"


async def test_two_keys_of_one_name_are_none(shelf: Shelf, clock: Clock) -> None:
    first, second = (json.loads(document(old=key))["keys"][0] for key in (OLD, NEW))
    shelf.content = json.dumps({"keys": [first, second]}).encode()
    async with key_set(shelf, clock=clock) as keys:
        clock.moment += 100
        assert await refused(keys, "old") == "ambiguous-key"
        assert shelf.reads == 1


# --- rotation ---------------------------------------------------------------------------------------------


async def test_a_new_key_is_found_by_the_call_that_brings_it(shelf: Shelf, clock: Clock) -> None:
    async with key_set(shelf, clock=clock) as keys:
        clock.moment += 60
        shelf.content = document(old=OLD, new=NEW)
        assert (await found(keys, "new")).thumbprint() == NEW.thumbprint()
        assert (await found(keys)).thumbprint() == OLD.thumbprint()
    assert shelf.reads == 2


async def test_a_key_that_was_taken_out_goes_with_the_next_refresh(shelf: Shelf, clock: Clock) -> None:
    async with key_set(shelf, clock=clock) as keys:
        shelf.content = document(new=NEW)
        clock.moment += 3600
        assert (await found(keys)).key_id == "old"  # stale: served once more, while it is read anew
        await settled()
        assert await refused(keys, "old") == "unknown-key"
        assert (await found(keys, "new")).key_id == "new"
    assert shelf.reads == 2


async def test_after_a_long_quiet_a_key_that_was_taken_out_is_not_served_once_more(shelf: Shelf, clock: Clock) -> None:
    async with key_set(shelf, clock=clock) as keys:
        shelf.content = document(new=NEW)
        clock.moment += 2 * 3600
        assert await asyncio.gather(*(refused(keys, "old") for _ in range(5))) == ["unknown-key"] * 5
    assert shelf.reads == 2


async def test_after_a_long_quiet_a_silent_source_takes_no_key_away(shelf: Shelf, clock: Clock) -> None:
    async with key_set(shelf, clock=clock, wait_seconds=0.01) as keys:
        shelf.gate.clear()
        clock.moment += 2 * 3600
        assert (await found(keys)).key_id == "old"


async def test_unknown_names_cause_one_read_a_minute_at_most(shelf: Shelf, clock: Clock) -> None:
    """Whoever can make up names must not be able to make the service knock at the client's door."""
    told: list[str] = []
    async with key_set(shelf, clock=clock, told=told) as keys:
        for second in range(300):
            clock.moment += 1
            assert await refused(keys, f"made-up-{second}") == "unknown-key"
            assert (await found(keys)).key_id == "old"
    assert shelf.reads == 6
    assert (told.count("ok"), told.count("limited"), told.count("failed")) == (6, 295, 0)


async def test_the_client_can_rotate_while_somebody_makes_up_names(shelf: Shelf, clock: Clock) -> None:
    async with key_set(shelf, clock=clock) as keys:
        clock.moment += 60
        await refused(keys, "made-up")
        shelf.content = document(new=NEW)
        assert await refused(keys, "new") == "unknown-key"  # too early
        clock.moment += 60
        await refused(keys, "made-up")
        assert (await found(keys, "new")).key_id == "new"


# --- one refresh for all ----------------------------------------------------------------------------------


async def test_all_that_wait_share_one_refresh(shelf: Shelf, clock: Clock) -> None:
    async with key_set(shelf, clock=clock) as keys:
        clock.moment += 60
        shelf.gate.clear()
        shelf.content = document(new=NEW)
        waiting = [asyncio.create_task(found(keys, "new")) for _ in range(50)]
        await settled()
        assert shelf.reads == 2
        shelf.gate.set()
        assert {key.key_id for key in await asyncio.gather(*waiting)} == {"new"}
    assert shelf.reads == 2


async def test_who_leaves_does_not_end_the_refresh(shelf: Shelf, clock: Clock) -> None:
    async with key_set(shelf, clock=clock) as keys:
        clock.moment += 60
        shelf.gate.clear()
        shelf.content = document(new=NEW)
        first, second = (asyncio.create_task(found(keys, "new")) for _ in range(2))
        await settled()
        first.cancel()
        await settled()
        assert first.cancelled()
        shelf.gate.set()
        assert (await second).key_id == "new"
    assert shelf.reads == 2


async def test_the_refresh_knows_nothing_of_the_call_that_began_it(shelf: Shelf, clock: Clock) -> None:
    async with key_set(shelf, clock=clock) as keys:
        clock.moment += 60
        PATIENT.set("somebody")
        await refused(keys)
    assert shelf.contexts == ["", ""]


async def test_a_silent_source_holds_nobody_longer_than_the_wait(shelf: Shelf, clock: Clock) -> None:
    async with key_set(shelf, clock=clock, wait_seconds=0.01) as keys:
        clock.moment += 3600
        shelf.gate.clear()
        assert (await found(keys)).key_id == "old"  # not held at all: a stale set is good enough
        assert await refused(keys) == "unknown-key"
        clock.moment += 600
        assert await refused(keys) == "unknown-key"
        assert shelf.reads == 2  # the same one, still


async def test_closing_ends_what_is_under_way(shelf: Shelf, clock: Clock) -> None:
    keys = KeySet(shelf, clock=clock)
    shelf.gate.clear()
    waiting = asyncio.create_task(refused(keys, "old"))
    await settled()
    await keys.aclose()
    assert await waiting == "unknown-key"


# --- a source that fails ----------------------------------------------------------------------------------


FAILURES = [
    (Unreachable(), "unreachable"),
    (ServerError(status=503), "server-error"),
    (Refused(status=302), "refused"),
    (FileNotFoundError("keys.json"), "unreadable"),
    (b"<html>secret-page</html>", "no-usable-key"),
    (b'{"keys":[]}', "no-usable-key"),
    (json.dumps({"keys": [SANDBOX]}).encode(), "published"),
    (RuntimeError("secret-page"), "internal"),
]


@pytest.mark.parametrize(("broken", "why"), FAILURES, ids=str)
async def test_the_last_good_set_is_kept(
    shelf: Shelf,
    clock: Clock,
    broken: bytes | Exception,
    why: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[str] = []
    async with key_set(shelf, clock=clock, told=told, name="north") as keys:
        shelf.content = broken
        clock.moment += 3600
        with caplog.at_level(logging.DEBUG):
            assert (await found(keys)).key_id == "old"
            await settled()
        assert told == ["ok", "failed"]
        assert [(record.why, record.client) for record in caplog.records if record.name == jwks.__name__] == [  # type: ignore[attr-defined]
            (why, "north")
        ]
        assert "secret-page" not in caplog.text
        assert (await found(keys)).key_id == "old"
        clock.moment += DAY - 3600 - 0.001
        assert (await found(keys)).key_id == "old"
        clock.moment += 0.001
        assert await refused(keys, "old") == "unknown-key"


async def test_a_day_counts_from_the_last_success(shelf: Shelf, clock: Clock) -> None:
    good = shelf.content
    async with key_set(shelf, clock=clock, longest_seconds=7200) as keys:
        shelf.content = Unreachable()
        for _ in range(3):
            clock.moment += 3000
            await (found(keys) if clock.moment < 1000 + 7200 else refused(keys, "old"))
            await settled()
        shelf.content = good
        clock.moment += 60
        assert (await found(keys)).key_id == "old"


async def test_a_set_that_shows_private_keys_ends_at_once(shelf: Shelf, clock: Clock) -> None:
    """Whoever read it can sign: these keys are not kept for a day."""
    async with key_set(shelf, clock=clock) as keys:
        shelf.content = json.dumps({"keys": [{**OLD.as_dict(private=True), "kid": "old"}]}).encode()
        clock.moment += 3600
        await found(keys)
        await settled()
        assert await refused(keys, "old") == "unknown-key"


async def test_a_failed_refresh_is_not_repeated_at_once(shelf: Shelf, clock: Clock) -> None:
    async with key_set(shelf, clock=clock) as keys:
        shelf.content = Unreachable()
        clock.moment += 3600
        for _ in range(120):
            await found(keys)
            await settled()
            clock.moment += 1
    assert shelf.reads == 3


# --- keys that anybody has --------------------------------------------------------------------------------


async def test_published_keys_are_left_out(clock: Clock) -> None:
    both = json.dumps({"keys": [SANDBOX, *json.loads(document(old=OLD))["keys"]]}).encode()
    async with key_set(Shelf(both), clock=clock) as keys:
        assert (await found(keys)).key_id == "old"
        assert await refused(keys, SANDBOX["kid"]) == "unknown-key"
    async with key_set(Shelf(both), clock=clock, allow_published=True) as keys:
        assert trust.is_published(await found(keys, SANDBOX["kid"]))


# --- a file -----------------------------------------------------------------------------------------------


async def test_a_file_is_read_again_each_minute(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(document(old=OLD))
    keys = KeySet(FileSource(path), clock=clock)
    assert (await found(keys)).key_id == "old"
    path.write_bytes(document(new=NEW))
    clock.moment += 60
    assert (await found(keys)).key_id == "old"
    await keys.start()  # waits for the refresh that is under way
    assert await refused(keys, "old") == "unknown-key"
    assert (await found(keys, "new")).key_id == "new"
    path.unlink()
    clock.moment += 60
    assert (await found(keys, "new")).key_id == "new"
    await keys.aclose()


async def test_no_more_of_a_file_is_read_than_a_key_set_may_have(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(b" " * 10 * trust.LARGEST_KEY_SET)
    assert len(await FileSource(path).read()) == trust.LARGEST_KEY_SET + 1
    with pytest.raises(OSError, match="No such file"):
        await FileSource(tmp_path / "none.json").read()


# --- an address -------------------------------------------------------------------------------------------


def source(answer: httpx.Response | Callable[[httpx.Request], httpx.Response], **changes: Any) -> UrlSource:
    handler = (lambda _: answer) if isinstance(answer, httpx.Response) else answer
    return UrlSource(URL, httpx.MockTransport(handler), **changes)


@pytest.mark.parametrize("media", ["application/json", "application/jwk-set+json", "text/plain", "text/html", None])
async def test_an_address_is_read_whatever_its_media_type(media: str | None, clock: Clock) -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, content=document(old=OLD), headers={"content-type": media} if media else {})

    keys = KeySet(source(answer), clock=clock)
    assert (await found(keys)).key_id == "old"
    await keys.aclose()
    (request,) = asked
    assert (request.method, str(request.url), request.content) == ("GET", URL, b"")
    assert not {"authorization", "cookie", "referer"} & set(request.headers)
    assert request.headers["cache-control"] == "no-cache"
    assert request.extensions["timeout"] == {"connect": 1.0, "read": 3.0, "write": 3.0, "pool": 3.0}


@pytest.mark.parametrize(
    ("status", "error"),
    [(301, Refused), (302, Refused), (307, Refused), (308, Refused), (401, Refused), (404, NotFound)],
)
async def test_a_redirect_is_a_failure_and_not_followed(status: int, error: type[GatewayError]) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(status, headers={"location": "https://evil.example.net/keys"}, content=document(old=NEW))

    with pytest.raises(error):
        await source(answer).read()
    assert asked == [URL]


async def test_the_body_is_bounded_also_behind_its_compression() -> None:
    most = b" " * trust.LARGEST_KEY_SET
    assert await source(httpx.Response(200, content=most)).read() == most
    with pytest.raises(TooLarge):
        await source(httpx.Response(200, content=most + b" ")).read()
    bomb = httpx.Response(200, stream=Stream([gzip.compress(b" " * 50_000_000)]), headers={"content-encoding": "gzip"})
    with pytest.raises(TooLarge):
        await source(bomb).read()
    with pytest.raises(NotFhirJson):
        await source(httpx.Response(200, stream=Stream([b"x"]), headers={"content-encoding": "br"})).read()


class Stream(httpx.AsyncByteStream):
    """The chunks, then nothing more ever, if `ends` is False."""

    def __init__(self, chunks: list[bytes], *, ends: bool = True) -> None:
        self.chunks = chunks
        self.ends = ends

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            yield chunk
        if not self.ends:
            await asyncio.Event().wait()


async def test_an_answer_that_never_ends_is_given_up() -> None:
    with pytest.raises(TimedOut):
        await source(httpx.Response(200, stream=Stream([b"{"], ends=False)), seconds=0.05).read()


async def test_no_connection(clock: Clock) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no", request=request)

    keys = KeySet(source(answer), clock=clock)
    await keys.start()
    assert await refused(keys, "old") == "unknown-key"
    await keys.aclose()


def test_sources_print_no_transport() -> None:
    assert repr(UrlSource(URL, httpx.MockTransport(lambda _: httpx.Response(200)))).count("Transport") == 0
