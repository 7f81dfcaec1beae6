"""One request over the wire and its bounded answer; nothing of FHIR.

Driven without `httpx.AsyncClient`, which would write each address to the log, keep cookies between patients, follow
redirects and read proxy settings of the environment (knowledge: security 0.6, T6, T7). aiohttp carries the connections
because httpx's own pool collapses at 20 hooks a second (knowledge: security 0.2).
"""

from __future__ import annotations

import asyncio
import re
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, TypeVar

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from app.gateway.errors import NotFhirJson, NotFound, Refused, ServerError, TimedOut, Unreachable

SHORTEST: Final = 0.05
"""Seconds below which no request is begun: it could only be cut off."""

_T = TypeVar("_T")

_TOKEN: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
_CHUNK: Final = 64 * 1024
_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS
_PASSING: Final = frozenset({429, 502, 503, 504})


class Pool(httpx.AsyncBaseTransport):
    """Connections to one server: TLS verified, its secrets written nowhere, no cookies, no proxy of the environment.

    Opened by the first request, and again by the first after it was closed.
    """

    def __init__(self, connections: int) -> None:
        self._connections = connections
        self._open: AiohttpTransport | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._open is None:
            context = ssl.create_default_context()
            context.keylog_filename = None  # type: ignore[assignment]  # SSLKEYLOGFILE: who reads it reads every token
            self._open = AiohttpTransport(verify=context, trust_env=False, client=lambda: self._session(context))
        return await self._open.handle_async_request(request)

    async def aclose(self) -> None:
        closing, self._open = self._open, None
        if closing is not None:
            await closing.aclose()

    def _session(self, context: ssl.SSLContext) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, ssl=context),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )


def is_token(text: str) -> bool:
    """Whether this can stand behind `Bearer` unchanged."""
    return bool(_TOKEN.fullmatch(text))


def may_pass(error: Exception) -> bool:
    """Whether the same read may well succeed a moment later: no connection, 429, 502, 503, 504."""
    if isinstance(error, Unreachable):
        return True
    return isinstance(error, Refused | ServerError) and error.status in _PASSING


async def send(
    request: httpx.Request,
    *,
    transport: httpx.AsyncBaseTransport,
    seconds: float,
    connect_seconds: float,
    weigh: Callable[[int], None],
) -> bytes:
    """The body of a 200, inflated in small steps; `weigh` is told of each and raises what ends it.

    `seconds` are for all of it: a read timeout alone does not end an answer that drips. Raises Refused, NotFound,
    ServerError, TimedOut, Unreachable, NotFhirJson.
    """

    async def body(response: httpx.Response) -> bytes:
        _check(response)
        return await bounded(response, weigh=weigh)

    return await exchange(request, transport=transport, seconds=seconds, connect_seconds=connect_seconds, answered=body)


async def exchange(
    request: httpx.Request,
    *,
    transport: httpx.AsyncBaseTransport,
    seconds: float,
    connect_seconds: float,
    answered: Callable[[httpx.Response], Awaitable[_T]],
) -> _T:
    """What `answered` makes of the answer, whatever its status. Raises TimedOut, Unreachable, and what that raises."""
    if seconds < SHORTEST:
        raise TimedOut
    request.extensions["timeout"] = httpx.Timeout(seconds, connect=min(seconds, connect_seconds)).as_dict()
    try:
        async with asyncio.timeout(seconds):
            response = await transport.handle_async_request(request)
            try:
                return await answered(response)
            finally:
                await response.aclose()
    except (httpx.ReadTimeout, httpx.WriteTimeout, httpx.PoolTimeout, TimeoutError):
        raise TimedOut from None
    except (httpx.HTTPError, aiohttp.ClientError, OSError, UnicodeError):
        # aiohttp's errors that its httpx transport does not translate, TLS errors, and a status line that is no UTF-8.
        raise Unreachable from None


def _check(response: httpx.Response) -> None:
    status = response.status_code
    if status == 200:
        return
    if status in {404, 410}:
        raise NotFound(status=status)
    wait = retry_after(response.headers.get("retry-after", "")) if status in _PASSING else None
    if status >= 500:
        raise ServerError(status=status, retry_after=wait)
    raise Refused(status=status, retry_after=wait)


def retry_after(text: str) -> float | None:
    """Seconds from now, from either form of the header; None where there is none that can be read."""
    if re.fullmatch(r"[0-9]+", text.strip()):
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        return None
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


async def bounded(response: httpx.Response, *, weigh: Callable[[int], None]) -> bytes:
    """The body, whatever the status; `weigh` as for `send`. Raises NotFhirJson where it cannot be decoded."""
    parts: list[bytes] = []
    async for part in _inflated(response):
        weigh(len(part))
        parts.append(part)
    return b"".join(parts)


async def _inflated(response: httpx.Response) -> AsyncIterator[bytes]:
    """The body without its encoding, in steps of at most 64 KiB, so that a bomb costs no more than the cap."""
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
            if inflate.unused_data:
                raise NotFhirJson  # more behind the end: zlib would keep it, uncounted
    except zlib.error:
        raise NotFhirJson from None
    if not inflate.eof:
        raise NotFhirJson
