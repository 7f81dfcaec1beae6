"""Nothing that a caller or a server writes leads anywhere; and the checks see it where something would."""

from __future__ import annotations

import asyncio
import tomllib
from collections import Counter
from pathlib import Path
from urllib.parse import urljoin

import aiohttp
import httpx
import pytest
import uvloop

from app.gateway import address, door
from app.sandbox.patients import STORIES
from app.service import Answer
from app.settings import Tenant
from tests.integration.hospital import TOKEN
from tests.security import lookups, own_addresses
from tests.security.lookups import ON_DISK, PLACES, Collected, Tried, collect, corpus, figures
from tests.security.one_origin import MATRIX, Result, strays
from tests.security.paging import SHAPES, paged
from tests.security.sockets import LOOPBACK, http, listening, watched
from tests.security.spied import CONNECTING, LOOKING_UP
from tests.security.town import open_profile, registered_profile

pytestmark = pytest.mark.no_cover


@pytest.fixture(scope="module")
def found() -> Collected:
    """The small run, once for all that look at it."""
    return asyncio.run(collect(size="small"))


def values(kind: lookups.Kind) -> list[str]:
    return [one.id for one in corpus()[kind]]


def of(found: Collected, kind: lookups.Kind, name: str) -> list[Tried]:
    mine = [one for one in found.of(kind) if one.id == name]
    assert mine
    return mine


# --- the run ------------------------------------------------------------------------------------------------


def test_every_figure_is_held(found: Collected) -> None:
    told = figures(found)
    assert [row for row in told.rows if not row.held] == []
    assert told.held


@pytest.mark.parametrize("name", values("fhir_server"))
def test_an_address_of_a_client_is_looked_up_and_never_connected_to(found: Collected, name: str) -> None:
    mine = of(found, "fhir_server", name)
    assert {one.way for one in mine} >= {"open, 127.0.0.1", "registered, 127.0.0.1"}
    assert [one for one in mine if not one.refused or one.beyond] == []


def test_the_token_of_a_refused_address_is_on_no_disk_and_refusals_are(found: Collected) -> None:
    mine = of(found, "fhir_server", ON_DISK)
    assert [one for one in mine if not one.refused] == []


@pytest.mark.parametrize("name", values("same"))
def test_another_spelling_of_the_configured_address_is_read_as_configured(found: Collected, name: str) -> None:
    assert [one for one in of(found, "same", name) if one.refused or one.beyond] == []


@pytest.mark.parametrize("name", values("next"))
def test_a_link_elsewhere_is_not_followed(found: Collected, name: str) -> None:
    assert [one for one in of(found, "next", name) if not one.refused or one.beyond] == []


@pytest.mark.parametrize("name", values("answer"))
def test_an_answer_leads_nowhere(found: Collected, name: str) -> None:
    mine = of(found, "answer", name)
    assert {one.way for one in mine} >= {f"{where}, {LOOPBACK}" for where in PLACES}
    assert [one for one in mine if not one.refused or one.beyond] == []


@pytest.mark.parametrize("name", [case.id for case in MATRIX])
def test_a_token_goes_to_its_server_alone(found: Collected, name: str) -> None:
    case, result = found.matrix[name]
    assert (result.leaks, result.reached) == ((), case.reaches)


@pytest.mark.parametrize("name", [shape.id for shape in SHAPES])
def test_hostile_pages_end_and_are_said_to_be_a_part(found: Collected, name: str) -> None:
    shape, pages = found.pages[name]
    assert pages.bounded(shape), pages
    assert pages.flagged, pages
    assert pages.beyond == ()


def test_no_address_of_ours_says_anything_of_a_patient(found: Collected) -> None:
    assert found.shown.addresses > 100
    assert found.shown.telling == ()


# --- the corpus ---------------------------------------------------------------------------------------------


def test_every_value_has_a_name_of_its_own_and_says_what_it_tries() -> None:
    least = {"same": 3, "fhir_server": 60, "next": 30, "answer": 30}
    for kind, ones in corpus().items():
        assert len(ones) >= least[kind]
        assert [name for name, times in Counter(one.id for one in ones).items() if times > 1] == []
        assert all(one.tries for one in ones if kind != "same")
    assert len({case.id for case in MATRIX}) == len(MATRIX) >= 40
    assert len({shape.id for shape in SHAPES}) == len(SHAPES) >= 8


def test_every_value_is_another() -> None:
    tables = tomllib.loads(lookups.CORPUS.read_text(encoding="utf-8"))
    for kind in ("same", "fhir_server", "next"):
        written = [(one["value"], one.get("pad")) for one in tables[kind]]
        assert [value for value, times in Counter(written).items() if times > 1] == []
    answers = [(one["status"], tuple(one["headers"])) for one in tables["answer"]]
    assert len(set(answers)) == len(answers)


# --- the spy ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "way", [*(f"connection by {name}" for name in CONNECTING), *(f"look-up by {name}" for name in LOOKING_UP)]
)
def test_the_spy_sees_whatever_library_it_is(found: Collected, way: str) -> None:
    assert found.spied[way]


def test_names_are_resolved_where_the_spy_sees_it() -> None:
    """With aiodns, aiohttp would ask name servers by sockets that no audit event tells of."""
    assert aiohttp.DefaultResolver is aiohttp.ThreadedResolver


def test_the_spy_does_not_pretend_to_see_into_another_loop() -> None:
    async def look() -> None:
        with watched():
            pass

    with pytest.raises(RuntimeError, match="cannot be seen"):
        uvloop.run(look())


async def test_the_spy_sees_a_file_and_only_while_it_watches(tmp_path: Path) -> None:
    path = tmp_path / "canary"
    path.write_text("x")
    with watched(files=frozenset({str(path)})) as seen:
        path.read_text()
    path.read_text()
    assert seen.beyond() == [f"open {path}"]


async def test_a_stranger_is_seen_and_not_reached() -> None:
    with watched() as seen, pytest.raises(OSError, match="not on this machine"):
        await asyncio.open_connection("192.0.2.1", 80)
    assert seen.beyond((LOOPBACK, 80)) == ["connect 192.0.2.1:80"]


# --- whether the checks see a door that is open ---------------------------------------------------------------

BY_ID = {case.id: case for case in MATRIX}


async def leaks(name: str, folder: Path) -> str:
    result: Result = await BY_ID[name].run(folder)
    return "\n".join(result.leaks)


def following(monkeypatch: pytest.MonkeyPatch) -> None:
    """A door that follows redirects with everything it has."""
    inner = door.Pool.handle_async_request

    async def handle(self: door.Pool, request: httpx.Request) -> httpx.Response:
        response = await inner(self, request)
        target = response.headers.get("location")
        if not target or not response.is_redirect:
            return response
        await response.aclose()
        url = urljoin(str(request.url), target)
        again = httpx.Request("GET", url, headers=request.headers, extensions=request.extensions)
        return await inner(self, again)

    monkeypatch.setattr(door.Pool, "handle_async_request", handle)


def careless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A door that keeps cookies and believes the environment."""

    def session(self: door.Pool, context: object) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(trust_env=True, cookie_jar=aiohttp.CookieJar(unsafe=True))

    monkeypatch.setattr(door.Pool, "_session", session)


@pytest.mark.parametrize("name", ["301-canary", "307-canary", "308-canary"])
async def test_a_redirect_that_is_followed_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    following(monkeypatch)
    told = await leaks(name, tmp_path)
    assert "connect" in told
    assert "canary" in told


async def test_a_redirect_out_of_the_path_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    following(monkeypatch)
    assert "token in GET /admin" in await leaks("307-same-origin", tmp_path)


async def test_a_redirect_to_another_tenant_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    following(monkeypatch)
    assert "token of 0" in await leaks("tenants-redirect", tmp_path)


@pytest.mark.parametrize("name", ["next-canary", "next-scheme-relative", "tenants-next"])
async def test_a_link_that_is_followed_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    monkeypatch.setattr(address, "page", lambda link, *, base: urljoin(f"{base}/", link))
    told = await leaks(name, tmp_path)
    assert ("token of 0" if name.startswith("tenants") else "canary") in told


@pytest.mark.parametrize(("name", "what"), [("http-proxy", "canary"), ("header-cookie", "cookie in GET")])
async def test_a_careless_session_is_seen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, what: str
) -> None:
    careless(monkeypatch)
    assert what in await leaks(name, tmp_path)


async def test_an_address_that_is_believed_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Tenant, "base_of", lambda _, url: url)
    some = [one for one in corpus()["fhir_server"] if one.id in {"canary", "suffix", "metadata-address", "file"}]
    for profile in (open_profile(), registered_profile()):
        folder = tmp_path / profile.name
        folder.mkdir()
        tried = await lookups.fhir_servers(profile, host=LOOPBACK, folder=folder, values=some)
        seen = {one.id: one.beyond for one in tried}
        assert "canary" in " ".join(seen["canary"])
        assert "asked" in " ".join(seen["suffix"])
        assert "connect 169.254.169.254:80" in seen["metadata-address"]


async def test_pages_that_are_taken_for_the_whole_are_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As if the third page elsewhere were no page at all."""
    shape = next(one for one in SHAPES if one.id == "a third page elsewhere")
    monkeypatch.setattr("app.gather._incomplete", lambda *_, **__: "")
    monkeypatch.setattr("app.gateway.fhir.BadLink.why", "")
    assert not (await paged(shape, folder=tmp_path)).flagged


async def test_an_address_that_names_a_patient_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    story = STORIES[0]
    url = f"https://cds.example.org/x?patient={story.patient_id}"
    monkeypatch.setattr("app.main.HookService.answer", _telling(url))
    shown = await own_addresses.shown_addresses([story], folder=tmp_path)
    assert url in shown.telling


def _telling(url: str) -> object:
    async def answer(*_: object, **__: object) -> Answer:
        return Answer(200, f'{{"cards":[{{"summary":"x","links":[{{"url":"{url}"}}]}}]}}'.encode())

    return answer


async def test_a_token_in_an_address_is_seen() -> None:
    async with listening(lambda _: http("200 OK", b"{}")) as server:
        reader, writer = await asyncio.open_connection(LOOPBACK, server.port)
        writer.write(f"GET /fhir/Patient?t={TOKEN} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await writer.drain()
        await reader.readuntil(b"{}")
        writer.close()
        await writer.wait_closed()
    assert strays(server, TOKEN) == ["token in GET /fhir/Patient"]
