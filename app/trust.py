"""Who is at the door: a client's token against the registry, in the order of the standard's best practices.

Every refusal is the same empty 401. Why is in the record of refusals, in the metrics and in the log, and nowhere that
the caller can see (knowledge: security 1.3, T5). The body is not read before the caller is known.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final, Protocol

from app.clients import Client
from app.replay import Replay, TooMany
from app.settings import LOCAL_ORIGINS, Caller, Settings
from app.store.doorbook import Refusal, digest
from app.store.errors import StoreError
from cds_hooks import trust
from cds_hooks.errors import Forbidden, Unauthorized
from cds_hooks.trust import Claims, Presented, Untrusted

log = logging.getLogger(__name__)

ROWS_A_MINUTE: Final = 20
"""Refusals kept singly. Beyond them the first of each reason and client is kept, and the number of the others with the
next one of that reason and client: a flood neither hides another refusal nor is counted as one."""

PATIENCE_SECONDS: Final = 0.25
"""For the writing of a refusal; then it goes on beside the answer. Their number is bounded by the rows a minute."""

ORIGIN: Final = "origin"
SERVICE: Final = "service"
FHIR_SERVER: Final = "fhir-server"

REASONS: Final = (*trust.REASONS, ORIGIN, SERVICE, FHIR_SERVER)
"""Why a call is turned away, as the record and the metrics say it."""

Headers = Iterable[tuple[bytes, bytes]]


class Keys(Protocol):
    """The keys of one client (`app.gateway.jwks.KeySet`)."""

    async def find(self, *, key_id: str, algorithm: str) -> trust.PublicKey: ...


class Book(Protocol):
    """Where refusals are kept (`app.store.decisions.Store`)."""

    async def note_refusal(self, refusal: Refusal) -> None: ...


class Refusals:
    """Notes what was turned away, at a bounded rate: who knocks a thousand times a second fills no disk."""

    def __init__(
        self, book: Book, *, clock: Callable[[], datetime], counted: Callable[[str], None] = lambda _: None
    ) -> None:
        """`counted` is told the reason of every refusal, also of those that are not kept singly."""
        self._book = book
        self._clock = clock
        self._counted = counted
        self._minute = datetime.min.replace(tzinfo=UTC)
        self._rows = 0
        self._seen: set[tuple[str, str]] = set()
        self._more: Counter[tuple[str, str]] = Counter()
        self._under_way: set[asyncio.Task[None]] = set()

    async def note(self, reason: str, *, client: str = "", service: str = "", token_id: str = "") -> None:
        """Never raises: a refusal stands, whether or not it can be written down."""
        self._counted(reason)
        now, same = self._clock(), (reason, client)
        if now - self._minute >= timedelta(minutes=1):
            self._minute, self._rows = now, 0
            self._seen.clear()
        if self._rows >= ROWS_A_MINUTE and same in self._seen:
            self._more[same] += 1
            return
        self._rows += 1
        self._seen.add(same)
        times = 1 + self._more.pop(same, 0)
        log.warning("refused", extra={"why": reason, "client": client, "service": service})
        token = digest(token_id) if token_id else ""
        task = asyncio.create_task(self._kept(Refusal(now, reason, client, service, token, times)))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        # A database that is busy for long shall not be heard in how long a refusal takes.
        await asyncio.wait({task}, timeout=PATIENCE_SECONDS)

    async def aclose(self) -> None:
        """Waits for what is being written."""
        await asyncio.gather(*self._under_way)

    async def _kept(self, refusal: Refusal) -> None:
        try:
            await self._book.note_refusal(refusal)
        except StoreError:
            log.error("refusal not recorded", extra={"why": refusal.reason})  # noqa: TRY400  (its text may hold data)


class Door:
    """Lets registered clients in. Where none is registered, everybody is the one anonymous caller."""

    def __init__(
        self,
        settings: Settings,
        *,
        keys: Mapping[str, Keys],
        replay: Replay,
        refusals: Refusals,
        clock: Callable[[], datetime],
    ) -> None:
        """`keys` are those of each client by its id."""
        self._settings = settings
        self._keys = keys
        self._replay = replay
        self._refusals = refusals
        self._clock = clock
        self._clients: Mapping[str, Client] = MappingProxyType({one.issuer: one for one in settings.clients})

    @property
    def open(self) -> bool:
        """True when nobody is asked who he is."""
        return not self._clients

    async def caller(self, headers: Headers, *, path: str, service: str = "") -> Caller:
        """Who calls this path (`/cds-services/...`, as discovery writes it).

        Raises Unauthorized for who cannot prove it, Forbidden for a client that may not call from this page or this
        service.
        """
        sent = [(name.lower(), value) for name, value in headers]
        if self.open:
            caller = self._settings.anonymous
        else:
            try:
                caller = await self._checked(sent, path=path, service=service)
            except Untrusted:
                raise Unauthorized("") from None
        pages = [value.decode("latin-1") for name, value in sent if name == b"origin"]
        if not all(self._may_call_from(page, caller=caller) for page in pages):
            await self._refusals.note(ORIGIN, client=caller.client, service=service)
            raise Forbidden("this client does not call from a page of that origin: nothing was evaluated")
        if service and service not in caller.services:
            await self._refusals.note(SERVICE, client=caller.client, service=service)
            raise Forbidden("this client may not call this service: nothing was evaluated")
        return caller

    def _may_call_from(self, page: str, *, caller: Caller) -> bool:
        """Whether a browser's page of that origin may call.

        Where everybody is answered this is no formality either: a page that cannot read the answer can still send a
        call without a Content-Type, and without asking first. It would be a row in the record, or forged feedback.
        """
        here = self.open and self._settings.profile == "dev" and re.fullmatch(LOCAL_ORIGINS, page) is not None
        return here or page in caller.origins

    async def _checked(self, headers: Headers, *, path: str, service: str) -> Caller:
        client: Client | None = None
        claims: Claims | None = None
        try:
            presented = trust.read(trust.bearer(headers))
            client = self._client(presented)
            key = await self._keys[client.id].find(key_id=presented.key_id, algorithm=presented.algorithm)
            claims = trust.verified(presented, key=key)
            return await self._admitted(client, claims, path=path)
        except Untrusted as error:
            await self._refusals.note(
                error.reason,
                client="" if client is None else client.id,
                service=service,
                token_id="" if claims is None else claims.token_id,
            )
            raise

    def _client(self, presented: Presented) -> Client:
        """The record, before anything of the token is believed. Raises Untrusted."""
        client = self._clients.get(presented.issuer)
        if client is None:
            raise Untrusted("unknown-issuer")
        if presented.algorithm not in client.algorithms:
            raise Untrusted("algorithm")
        if presented.jku is not None and presented.jku not in {client.jwks_url, client.jku}:
            raise Untrusted("jku")
        return client

    async def _admitted(self, client: Client, claims: Claims, *, path: str) -> Caller:
        """What follows the signature. Raises Untrusted."""
        rules, now = self._settings.tokens, self._clock()
        trust.check(
            claims,
            audiences=[f"{base}{path}{end}" for base in client.audiences for end in ("", "/")],
            now=now,
            leeway_seconds=rules.leeway_seconds,
            longest_seconds=rules.longest_seconds,
        )
        tenant = client.tenant_of(claims.tenant)
        if tenant is None:
            raise Untrusted("tenant")
        until = claims.expires + timedelta(seconds=rules.leeway_seconds)
        try:
            first = await self._replay.first_use(client=client.id, token_id=claims.token_id, until=until, now=now)
        except (StoreError, TooMany):
            raise Untrusted("store") from None
        if not first:
            raise Untrusted("replayed")
        return self._settings.caller(client, tenant=tenant)
