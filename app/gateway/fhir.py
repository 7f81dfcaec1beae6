"""The one door to FHIR servers.

What passes it: GET (or POST `_search` where the address would be too long) below a configured base, with the token
only there. What does not: redirects, links to elsewhere, cookies, proxies of the environment, more bytes, pages or
entries than allowed, anything after the deadline. A search that ends early is `partial` with what came, never
`ok`: the difference decides whether "not found" may mean "not there".

The transport is driven without `httpx.AsyncClient`, which would write each address to the log, keep cookies between
patients and read proxy settings of the environment (knowledge: security 0.6, T6, T7). aiohttp carries the
connections because httpx's own pool collapses at 20 hooks a second (knowledge: security 0.2).
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final, Literal, Self
from urllib.parse import quote, urlencode

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from app.gateway import address
from app.gateway.errors import (
    BadLink,
    BadRequestPart,
    FailedOutcome,
    GatewayError,
    NotFhirJson,
    NotFound,
    Refused,
    ServerError,
    TimedOut,
    TooLarge,
    Unreachable,
)
from fhir_mappings import sieve
from fhir_mappings.errors import Unreadable

Outcome = Literal["ok", "empty", "partial", "failed"]
Parameters = tuple[tuple[str, str], ...]

_ID: Final = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9\-.]{1,64}")
_TYPE: Final = re.compile(r"[A-Z][A-Za-z]{1,63}")
_TOKEN: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
_CHUNK: Final = 64 * 1024
_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS


class Deadline:
    """One monotonic end for everything a request reads; changes of the wall clock do not move it."""

    __slots__ = ("_clock", "_end", "seconds")

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._end = clock() + seconds

    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._end - self._clock())


@dataclass(frozen=True, slots=True)
class Limits:
    """Caps for one source (pages, bytes after decompression, matching entries) and for the whole gateway.

    `longest_get` is in characters: many servers refuse a request line above 8 KB (knowledge: hapi 1.7).
    `connect_seconds` is short because a server on the hospital's network answers at once or not at all.
    """

    pages: int = 20
    bytes: int = 16 * 1024 * 1024
    entries: int = 10_000
    longest_get: int = 6000
    connections: int = 128
    connect_seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class Query:
    """A search, or with `id` a read."""

    resource_type: str
    params: Parameters = ()
    id: str = ""


@dataclass(frozen=True, slots=True)
class Fetched:
    """How one read ended. `documents` are the bodies of its pages, `pages` the same sieved.

    `partial` and `failed` say `why` (the codes of `gateway.errors`, and `page-limit`, `page-loop`, `entry-limit`,
    `fewer-than-total`, `results-dropped`).
    """

    outcome: Outcome
    why: str = ""
    params: Parameters = ()
    documents: tuple[bytes, ...] = field(default=(), repr=False)
    pages: tuple[sieve.Page, ...] = field(default=(), repr=False)
    requests: int = 0
    bytes: int = 0


@dataclass(slots=True)
class _Tally:
    """What one read has brought so far; survives the error that ends it."""

    documents: list[bytes] = field(default_factory=list)
    pages: list[sieve.Page] = field(default_factory=list)
    requests: int = 0
    bytes: int = 0

    def ended(self, outcome: Outcome, *, why: str = "", params: Parameters = ()) -> Fetched:
        return Fetched(outcome, why, params, tuple(self.documents), tuple(self.pages), self.requests, self.bytes)


class Gateway:
    """Connections to FHIR servers, open between `async with`. Holds nothing of a request."""

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None, *, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._transport = transport or _pooled(self._limits.connections)

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._transport.aclose()

    async def fetch(self, query: Query, *, base: str, token: str | None, deadline: Deadline) -> Fetched:
        """All pages of a search, or one resource. Never raises for what a server or the network does.

        `base` is a configured address as `str(address.parse(...))` writes it, never one that was sent.
        """
        tally = _Tally()
        try:
            async with asyncio.timeout(deadline.remaining()):
                why = await self._walk(query, base=base, token=token, deadline=deadline, tally=tally)
        except GatewayError as error:
            return tally.ended("partial" if tally.pages else "failed", why=error.why, params=error.params)
        except TimeoutError:
            return tally.ended("partial" if tally.pages else "failed", why=TimedOut.why)
        if why:
            return tally.ended("partial", why=why)
        return tally.ended("ok" if _matches(tally.pages) else "empty")

    async def _walk(self, query: Query, *, base: str, token: str | None, deadline: Deadline, tally: _Tally) -> str:
        """Fill the tally page by page; why it is not everything, or ''."""
        headers = _headers(token)
        request = self._first(query, base=base, headers=headers)
        seen = {str(request.url)}
        while True:
            tally.requests += 1
            body = await self._body(request, deadline=deadline, tally=tally)
            page = _sieved(body)
            tally.documents.append(body)
            tally.pages.append(page)
            if page.failed:
                return FailedOutcome.why  # beside results: these count, what is not among them does not
            if page.results_dropped:
                return "results-dropped"
            if page.next is None:
                return "" if query.id or _reaches_total(tally.pages) else "fewer-than-total"
            if len(tally.pages) >= self._limits.pages:
                return "page-limit"
            if _matches(tally.pages) >= self._limits.entries:
                return "entry-limit"
            try:
                url = address.page(page.next, base=base)
            except ValueError:
                raise BadLink from None
            if url in seen:
                return "page-loop"
            seen.add(url)
            request = httpx.Request("GET", url, headers=headers)

    def _first(self, query: Query, *, base: str, headers: dict[str, str]) -> httpx.Request:
        if not _TYPE.fullmatch(query.resource_type) or (query.id and not _ID.fullmatch(query.id)):
            raise BadRequestPart
        url = f"{base}/{query.resource_type}"
        if query.id:
            return httpx.Request("GET", f"{url}/{query.id}", headers=headers)
        encoded = urlencode(query.params, quote_via=quote, safe=":/,")
        if len(url) + 1 + len(encoded) <= self._limits.longest_get:
            return httpx.Request("GET", f"{url}?{encoded}", headers=headers)
        form = {**headers, "Content-Type": "application/x-www-form-urlencoded"}
        return httpx.Request("POST", f"{url}/_search", headers=form, content=encoded.encode("ascii"))

    async def _body(self, request: httpx.Request, *, deadline: Deadline, tally: _Tally) -> bytes:
        left = deadline.remaining()
        if not left:
            raise TimedOut
        timeout = httpx.Timeout(left, connect=min(left, self._limits.connect_seconds))
        request.extensions["timeout"] = timeout.as_dict()
        try:
            response = await self._transport.handle_async_request(request)
            try:
                _check_status(response.status_code)
                return await self._bounded(response, tally=tally)
            finally:
                await response.aclose()
        except (httpx.ReadTimeout, httpx.WriteTimeout, httpx.PoolTimeout):
            raise TimedOut from None
        except (httpx.HTTPError, aiohttp.ClientError, OSError) as error:
            # aiohttp's errors that its httpx transport does not translate, and TLS errors, end here too.
            if isinstance(error, TimeoutError):
                raise TimedOut from None
            raise Unreachable from None

    async def _bounded(self, response: httpx.Response, *, tally: _Tally) -> bytes:
        """The body, inflated in small steps, so that a bomb costs no more than the cap."""
        parts: list[bytes] = []
        async for part in _inflated(response):
            tally.bytes += len(part)
            if tally.bytes > self._limits.bytes:
                raise TooLarge
            parts.append(part)
        return b"".join(parts)


async def _inflated(response: httpx.Response) -> AsyncIterator[bytes]:
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    stream = response.stream
    if not isinstance(stream, httpx.AsyncByteStream):
        raise NotFhirJson
    if encoding in {"identity", ""}:
        async for chunk in stream:
            yield chunk
        return
    if encoding not in {"gzip", "x-gzip", "deflate"}:
        raise NotFhirJson
    inflate = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        async for chunk in stream:
            yield inflate.decompress(chunk, _CHUNK)
            while inflate.unconsumed_tail:
                yield inflate.decompress(inflate.unconsumed_tail, _CHUNK)
    except zlib.error:
        raise NotFhirJson from None
    if not inflate.eof:
        raise NotFhirJson


def _headers(token: str | None) -> dict[str, str]:
    headers = {
        "Accept": "application/fhir+json",
        "Accept-Encoding": "identity",
        # Servers answer a repeated search from a cache for up to a minute. Not no-store: that drops paging.
        "Cache-Control": "no-cache",
        "User-Agent": "rescue-cds",
    }
    if token is not None:
        if not _TOKEN.fullmatch(token):
            raise BadRequestPart
        headers["Authorization"] = f"Bearer {token}"
    return headers


def _check_status(status: int) -> None:
    if status == 200:
        return
    if status in {404, 410}:
        raise NotFound(status=status)
    if status >= 500:
        raise ServerError(status=status)
    raise Refused(status=status)


def _sieved(body: bytes) -> sieve.Page:
    try:
        page = sieve.page(body)
    except Unreadable:
        raise NotFhirJson from None
    if not page.resource_type:
        raise NotFhirJson
    if page.resource_type == "OperationOutcome" or (page.failed and not page.matches):
        raise FailedOutcome
    return page


def _matches(pages: list[sieve.Page]) -> int:
    return sum(page.matches for page in pages)


def _reaches_total(pages: list[sieve.Page]) -> bool:
    total = pages[0].total
    return total is None or _matches(pages) >= total


def _pooled(connections: int) -> httpx.AsyncBaseTransport:
    context = ssl.create_default_context()

    def session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, ssl=context),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )

    return AiohttpTransport(verify=context, trust_env=False, client=session)
