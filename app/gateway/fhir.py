"""The one door to FHIR servers.

What passes it: GET (or POST `_search` where the address would be too long) below a configured base, with the token
only there. What does not: redirects, links to elsewhere, cookies, proxies of the environment, more bytes, pages or
entries than allowed, anything after the deadline. A search that ends early is `partial` with what came, never
`ok`: the difference decides whether "not found" may mean "not there".

Each configured server has its own pool, bulkhead and circuit breaker, so that a slow hospital starves nobody else, and
its own capability statement, read once and kept, so that nothing is asked that it does not know.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Final, Literal, Self
from urllib.parse import quote

import httpx

from app.gateway import address, door
from app.gateway.access import Access
from app.gateway.backend_services import BackendServices, Credentials
from app.gateway.breaker import Breaker, State
from app.gateway.budget import Budget
from app.gateway.capability import Capability, Fitted, Parameters, fitted, optional
from app.gateway.capability import read as read_capability
from app.gateway.errors import (
    BadLink,
    BadRequestPart,
    Busy,
    CircuitOpen,
    FailedOutcome,
    GatewayError,
    NotFhirJson,
    NotOffered,
    Refused,
    ServerError,
    TimedOut,
    TooLarge,
    Unreachable,
)
from fhir_mappings import sieve
from fhir_mappings.errors import Unreadable

Outcome = Literal["ok", "empty", "partial", "failed"]

KEPT: Final = 12 * 3600.0
"""Seconds for which a capability statement is kept before it is read again."""

TRIED_AGAIN: Final = 60.0
"""Seconds after which one that could not be read is tried again."""

REFUSED_FOR: Final = 300.0
"""Seconds for which parameters that a server refused (400) are not sent: the refusal may have had another cause."""

RETRY_PAUSE: Final = (0.02, 0.08)
"""Seconds between a read and its one repetition, where the server names no time (knowledge: security 3.3)."""

_ID: Final = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9\-.]{1,64}")
_TYPE: Final = re.compile(r"[A-Z][A-Za-z]{1,63}")
_LEARNING_SECONDS: Final = 30.0
_TOKEN_CONNECTIONS: Final = 4
_RESERVE: Final = 0.02
"""Seconds kept of the deadline, so that a call ends by its own time-out and the circuit breaker learns of it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Caps for one source (pages, bytes after decompression, matching entries), for one call, and for one server.

    `call_seconds` is the longest that one request may take, whatever is left of the deadline. `connect_seconds` is
    short because a server on the hospital's network answers at once or not at all. `longest_get` is in characters:
    many servers refuse a request line above 8 KB (knowledge: hapi 1.7). `reads` is the bulkhead: requests under way
    at one server, of all hooks together.
    """

    pages: int = 20
    bytes: int = 16 * 1024 * 1024
    entries: int = 10_000
    longest_get: int = 6000
    call_seconds: float = 1.2
    connect_seconds: float = 1.0
    reads: int = 96


@dataclass(frozen=True, slots=True)
class Query:
    """A search, or with `id` a read. `pages`: no more than so many are read."""

    resource_type: str
    params: Parameters = field(default=(), repr=False)
    id: str = field(default="", repr=False)
    pages: int | None = None

    @property
    def of_patient(self) -> bool:
        """Whether it names the patient. What others refer to is asked for by id (a Medication, a Specimen), and where a
        client mixed up its records, by somebody else's."""
        return self.resource_type == "Patient" or any(name == "patient" for name, _ in self.params)


@dataclass(frozen=True, slots=True)
class Fetched:
    """How one read ended. `pages` are the bodies that came, sieved.

    `partial` and `failed` say `why` (the codes of `gateway.errors`, and `page-limit`, `page-loop`, `entry-limit`,
    `fewer-than-total`, `results-dropped`). `unsent` names the parameters that the server does not take: the answer is
    broader than the query, or in another order.
    """

    outcome: Outcome
    why: str = ""
    params: Parameters = ()
    pages: tuple[sieve.Page, ...] = field(default=(), repr=False)
    requests: int = 0
    bytes: int = 0
    unsent: tuple[str, ...] = ()


class _Server:
    """What is kept of one configured server: nothing of a patient."""

    __slots__ = (
        *("base", "breaker", "capability", "learn_at", "learning", "places", "transport", "tried"),
        "_refused",
    )

    def __init__(self, base: str, *, transport: httpx.AsyncBaseTransport, reads: int, breaker: Breaker) -> None:
        self.base = base
        self.transport = transport
        self.breaker = breaker
        self.capability = Capability()
        self.learn_at = 0.0
        self.learning: asyncio.Task[None] | None = None
        self.tried = False
        self._refused: dict[str, tuple[float, frozenset[str]]] = {}
        self.places = asyncio.Semaphore(reads)

    def refused(self, resource_type: str, *, now: float) -> frozenset[str]:
        """The parameters that this server has lately refused for the type."""
        until, names = self._refused.get(resource_type, (now, frozenset()))
        return names if now < until else frozenset()

    def refuses(self, resource_type: str, names: frozenset[str], *, now: float) -> None:
        """Keep what was found out; another search may have found out something else meanwhile."""
        self._refused[resource_type] = (now + REFUSED_FOR, names | self.refused(resource_type, now=now))


class Watcher:
    """Is told what the gateway does, for metrics and traces; this one lets it pass."""

    def changed(self, base: str, state: State) -> None:
        """The circuit breaker of a server came into that state."""

    @contextmanager
    def reading(self, resource_type: str) -> Iterator[Callable[[Fetched], None]]:  # noqa: ARG002
        """Around one read; what it gives is told how the read ended."""
        yield lambda _: None


class Gateway:
    """Connections to FHIR servers, open between `async with`. Holds nothing of a request."""

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport | None = None,
        *,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`transport` carries the requests to every server, in place of a pool for each."""
        self.watcher = Watcher()
        self._limits = limits or Limits()
        self._transport = transport
        self._clock = clock
        self._servers: dict[str, _Server] = {}
        self._backends: list[BackendServices] = []
        self._pools: list[httpx.AsyncBaseTransport] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        learning = [server.learning for server in self._servers.values() if server.learning is not None]
        for task in learning:
            task.cancel()
        await asyncio.gather(*learning, return_exceptions=True)
        transports = {server.transport for server in self._servers.values()} | set(self._pools)
        for backend in self._backends:
            await backend.aclose()
        if self._transport is not None:
            transports.add(self._transport)
        self._servers.clear()
        for transport in transports:
            await transport.aclose()

    async def meet(self, base: str, *, seconds: float) -> Capability:
        """What the server declares, as far as it is known after at most so many seconds; read once and kept.

        Asked without a token: it belongs to no patient and outlives every hook. Never raises for what a server does:
        then nothing is known of it, and searches are sent whole. Only the first reading of it is waited for.
        """
        server = self._server(base)
        if server.learning is None and self._clock() >= server.learn_at:
            # An empty context: what is learned belongs to no hook.
            server.learning = asyncio.create_task(self._learn(server), context=contextvars.Context())
        if server.learning is not None and not server.tried:
            await asyncio.wait({server.learning}, timeout=seconds)
        return server.capability

    async def fetch(self, query: Query, *, base: str, access: Access, budget: Budget) -> Fetched:
        """All pages of a search, or one resource. Never raises for what a server or the network does.

        `base` is a configured address as `str(address.parse(...))` writes it, never one that was sent.
        """
        server = self._server(base)
        with self.watcher.reading(query.resource_type) as told:
            fetched = await _Reading(
                query, server=server, access=access, budget=budget, limits=self._limits, clock=self._clock
            ).end()
            told(fetched)
        return fetched

    def backend(self, credentials: Credentials) -> BackendServices:
        """The tokens of a tenant's own credentials; their connections end with the gateway's."""
        transport = self.pool(_TOKEN_CONNECTIONS)
        backend = BackendServices(credentials, transport=transport, now=lambda: datetime.now(UTC), clock=self._clock)
        self._backends.append(backend)
        return backend

    def pool(self, connections: int) -> httpx.AsyncBaseTransport:
        """Connections to one server that is no FHIR server; they end with the gateway's."""
        transport = self._transport or door.Pool(connections)
        self._pools.append(transport)
        return transport

    def _server(self, base: str) -> _Server:
        found = self._servers.get(base)
        if found is None:
            transport = self._transport or door.Pool(self._limits.reads)
            breaker = Breaker(clock=self._clock, changed=partial(self.watcher.changed, base))
            found = _Server(base, transport=transport, reads=self._limits.reads, breaker=breaker)
            self._servers[base] = found
        return found

    async def _learn(self, server: _Server) -> None:
        tally = _Tally(most=self._limits.bytes)
        try:
            body = await door.send(
                httpx.Request("GET", f"{server.base}/metadata", headers=_headers(None)),
                transport=server.transport,
                seconds=_LEARNING_SECONDS,
                connect_seconds=self._limits.connect_seconds,
                weigh=tally.weigh,
            )
            server.capability = read_capability(body)
            server.learn_at = self._clock() + KEPT
        except Exception:  # noqa: BLE001  (a task of nobody: whatever it is, it is tried again later)
            server.learn_at = self._clock() + TRIED_AGAIN
        finally:
            server.tried = True
            server.learning = None


@dataclass(slots=True)
class _Tally:
    """What one read has brought so far; survives the error that ends it."""

    most: int
    pages: list[sieve.Page] = field(default_factory=list)
    requests: int = 0
    bytes: int = 0
    unsent: tuple[str, ...] = ()
    asked: str = ""
    waiting: bool = False

    def weigh(self, size: int) -> None:
        self.bytes += size
        if self.bytes > self.most:
            raise TooLarge

    def ended(self, outcome: Outcome, *, why: str = "", params: Parameters = ()) -> Fetched:
        return Fetched(outcome, why, params, tuple(self.pages), self.requests, self.bytes, self.unsent)


class _Reading:
    """One read on its way through the door."""

    def __init__(
        self,
        query: Query,
        *,
        server: _Server,
        access: Access,
        budget: Budget,
        limits: Limits,
        clock: Callable[[], float],
    ) -> None:
        self.query = query
        self.clock = clock
        self.server = server
        self.access = access
        self.budget = budget
        self.limits = limits
        self.tally = _Tally(most=limits.bytes)
        self.first_url = ""
        self.call_seconds = 0.0

    async def end(self) -> Fetched:
        try:
            return await self._ended()
        finally:
            if self.tally.requests and self.query.of_patient:
                self.budget.asked.append(self.tally.asked)

    async def _ended(self) -> Fetched:
        tally = self.tally
        try:
            async with asyncio.timeout(self.budget.remaining()):
                why = await self._walk()
        except GatewayError as error:
            return tally.ended("partial" if tally.pages else "failed", why=error.why, params=error.params)
        except TimeoutError:
            why = Busy.why if tally.waiting else TimedOut.why
            return tally.ended("partial" if tally.pages else "failed", why=why)
        if why:
            return tally.ended("partial", why=why)
        return tally.ended("ok" if _matches(tally.pages) else "empty")

    async def _walk(self) -> str:
        """Fill the tally page by page; why it is not everything, or ''."""
        query, base, tally = self.query, self.server.base, self.tally
        if not _TYPE.fullmatch(query.resource_type) or (query.id and not _ID.fullmatch(query.id)):
            raise BadRequestPart
        if not self.server.capability.offers(query.resource_type):
            raise NotOffered
        body = await self._first_page()
        seen: set[str] = set()
        while True:
            page = _sieved(body)
            tally.pages.append(page)
            if page.failed:
                return FailedOutcome.why  # beside results: these count, what is not among them does not
            if page.results_dropped:
                return "results-dropped"
            if page.next is None:
                return "" if query.id or _reaches_total(tally.pages) else "fewer-than-total"
            if len(tally.pages) >= min(self.limits.pages, query.pages or self.limits.pages):
                return "page-limit"
            if _matches(tally.pages) >= self.limits.entries:
                return "entry-limit"
            try:
                url = address.page(page.next, base=base)
            except ValueError:
                raise BadLink from None
            if url in seen or url == self.first_url:
                return "page-loop"
            seen.add(url)
            body = await self._body(partial(httpx.Request, "GET", url))

    async def _first_page(self) -> bytes:
        """The first page; asked once more without what is optional where the server refuses the search as a whole."""
        kind, server = self.query.resource_type, self.server
        refused = server.refused(kind, now=self.clock())
        search = self._fitted(refused)
        try:
            return await self._body(partial(self._first, search.params))
        except Refused as error:
            without = optional(search.params, resource_type=kind, capability=server.capability)
            if error.status != 400 or self.query.id or not without:
                raise
        refused |= without
        search = self._fitted(refused)
        body = await self._body(partial(self._first, search.params))
        server.refuses(kind, refused, now=self.clock())
        return body

    def _fitted(self, refused: frozenset[str]) -> Fitted:
        search = fitted(
            self.query.params,
            resource_type=self.query.resource_type,
            capability=self.server.capability,
            refused=refused,
        )
        self.tally.unsent = search.unsent
        return search

    def _first(self, params: Parameters, *, headers: dict[str, str]) -> httpx.Request:
        url = f"{self.server.base}/{self.query.resource_type}"
        self.first_url = url
        if self.query.id:
            self.tally.asked = f"{self.query.resource_type}/{self.query.id}"
            return httpx.Request("GET", f"{url}/{self.query.id}", headers=headers)
        encoded = "&".join(
            f"{_quoted(name)}={_quoted_codes(value) if name == 'code' else _quoted(value)}" for name, value in params
        )
        self.tally.asked = f"{self.query.resource_type}?{encoded}"
        if len(url) + 1 + len(encoded) <= self.limits.longest_get:
            request = httpx.Request("GET", f"{url}?{encoded}", headers=headers)
            self.first_url = str(request.url)
            return request
        form = {**headers, "Content-Type": "application/x-www-form-urlencoded"}
        return httpx.Request("POST", f"{url}/_search", headers=form, content=encoded.encode("ascii"))

    async def _body(self, build: Callable[..., httpx.Request]) -> bytes:
        """The answer to what `build(headers=...)` makes, with the token that goes with it.

        After a 401 to a token of the service's own, once more with a newer one.
        """
        kind, deadline = self.query.resource_type, self.budget.deadline
        token = await self.access.token(kind, deadline=deadline)
        try:
            return await self._asked(build(headers=_headers(token)))
        except Refused as error:
            if error.status != 401 or token is None:
                raise
            renewed = await self.access.renewed(rejected=token, deadline=deadline)
            if renewed is None:
                raise
        return await self._asked(build(headers=_headers(renewed)))

    async def _asked(self, request: httpx.Request) -> bytes:
        """The answer, if the circuit breaker lets it be asked for; what it learns is how both attempts ended."""
        breaker = self.server.breaker
        if not await breaker.admit():
            raise CircuitOpen
        try:
            body = await self._repeated(request)
        except (Unreachable, TimedOut) as error:
            # A call that had little time says more about the hook than about the server.
            if isinstance(error, Unreachable) or self.call_seconds >= self.limits.call_seconds / 2:
                breaker.failed(silent=True)
            else:
                breaker.abandoned()
            raise
        except (ServerError, Refused) as error:
            if isinstance(error, ServerError) or error.status == 429:
                breaker.failed(silent=False)
            else:
                breaker.answered()
            raise
        except CircuitOpen:
            breaker.abandoned()
            raise
        except GatewayError:
            breaker.answered()
            raise
        except BaseException:
            breaker.abandoned()
            raise
        breaker.answered()
        return body

    async def _repeated(self, request: httpx.Request) -> bytes:
        """The answer; asked a second time where the first may have failed in passing, and there is time for it.

        A `_search` by POST is repeated like a GET: the standard defines it as the same read.
        """
        try:
            return await self._once(request)
        except GatewayError as error:
            pause = _pause(error)
            if not door.may_pass(error) or pause + door.SHORTEST + _RESERVE > self.budget.remaining():
                raise
        await asyncio.sleep(pause)
        return await self._once(request)

    async def _once(self, request: httpx.Request) -> bytes:
        """One call, when there is a place for it."""
        server, budget = self.server, self.budget
        self.tally.waiting = True
        async with budget.places, server.places:
            self.tally.waiting = False
            if server.breaker.state == "open":
                raise CircuitOpen  # it opened while this read waited
            self.call_seconds = min(self.limits.call_seconds, budget.remaining() - _RESERVE)
            if self.call_seconds < door.SHORTEST:
                raise TimedOut
            self.tally.requests += 1
            budget.requests += 1
            return await door.send(
                request,
                transport=server.transport,
                seconds=self.call_seconds,
                connect_seconds=self.limits.connect_seconds,
                weigh=self._weigh,
            )

    def _weigh(self, size: int) -> None:
        self.tally.weigh(size)
        self.budget.weigh(size)


def _pause(error: GatewayError) -> float:
    """Seconds before the repetition: what the server names, else a moment with jitter."""
    return random.uniform(*RETRY_PAUSE) if error.retry_after is None else error.retry_after  # noqa: S311  # nosec B311 # jitter


def _quoted(text: str) -> str:
    return quote(text, safe=":/,")


@lru_cache(maxsize=128)
def _quoted_codes(codes: str) -> str:
    """Kept, because the same thousands of characters are asked of every patient; nothing of a patient is in them."""
    return _quoted(codes)


def _headers(token: str | None) -> dict[str, str]:
    headers = {
        "Accept": "application/fhir+json",
        "Accept-Encoding": "identity",
        # Servers answer a repeated search from a cache for up to a minute. Not no-store: that drops paging.
        "Cache-Control": "no-cache",
        "User-Agent": "rescue-cds",
    }
    if token is not None:
        if not door.is_token(token):
            raise BadRequestPart
        headers["Authorization"] = f"Bearer {token}"
    return headers


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
