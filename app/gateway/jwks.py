"""The public keys of one client, from its file or its one registered address, kept while they cannot be had anew.

A client may rotate its keys at any time, so a key that is not known is looked for once more; an attacker may name a
new one in every call, so that happens once a minute at most, whoever asks. One refresh runs for all that wait for it;
it belongs to none, and who leaves does not end it. While calls come, keys are read anew beside them and nobody waits;
the first call after a long quiet waits, because a key may have been withdrawn meanwhile. What was read last stays in
use while the source is silent, for a day: a key that was withdrawn must not live on because its source can be kept
silent.

Source: SMART App Launch 2.2, "Client Authentication: Asymmetric (public key)" (knowledge: security 1.3).
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final, Literal, Protocol

import httpx

from app.gateway import door
from app.gateway.errors import GatewayError, TooLarge
from cds_hooks import trust
from cds_hooks.trust import ExposedKeys, PublicKey, Untrusted

log = logging.getLogger(__name__)

Outcome = Literal["ok", "failed", "limited"]

DAY: Final = 24 * 3600.0


class Source(Protocol):
    """Where a key set is. `fresh_seconds`: how long what was read is good without asking again."""

    @property
    def fresh_seconds(self) -> float: ...

    async def read(self) -> bytes:
        """The document. Raises OSError or GatewayError."""
        ...


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file beside the configuration. Looked at each minute, so that a key taken out of it is soon out of use."""

    path: Path
    fresh_seconds: ClassVar[float] = 60.0

    async def read(self) -> bytes:
        return await asyncio.to_thread(self._read)

    def _read(self) -> bytes:
        with self.path.open("rb") as file:
            return file.read(trust.LARGEST_KEY_SET + 1)


@dataclass(frozen=True, slots=True)
class UrlSource:
    """The address that was registered. Answered with a redirect, it is not followed."""

    url: str
    transport: httpx.AsyncBaseTransport = field(repr=False)
    seconds: float = 3.0
    connect_seconds: float = 1.0
    fresh_seconds: ClassVar[float] = 3600.0

    async def read(self) -> bytes:
        """Whatever its media type says: servers send key sets as text, too."""
        size = 0

        def weigh(more: int) -> None:
            nonlocal size
            size += more
            if size > trust.LARGEST_KEY_SET:
                raise TooLarge

        headers = {
            "Accept": "application/json, application/jwk-set+json",
            "Accept-Encoding": "identity",
            "Cache-Control": "no-cache",
            "User-Agent": "rescue-cds",
        }
        return await door.send(
            httpx.Request("GET", self.url, headers=headers),
            transport=self.transport,
            seconds=self.seconds,
            connect_seconds=self.connect_seconds,
            weigh=weigh,
        )


@dataclass(frozen=True, slots=True)
class _Held:
    keys: tuple[PublicKey, ...] = ()
    since: float = float("-inf")
    """When it was asked for, on the monotonic clock."""


class KeySet:
    """The keys of one client. Shares the transport of its source, and leaves closing it to its owner."""

    def __init__(
        self,
        source: Source,
        *,
        name: str = "",
        clock: Callable[[], float] = time.monotonic,
        fresh_seconds: float | None = None,
        refresh_seconds: float = 60.0,
        longest_seconds: float = DAY,
        wait_seconds: float = 4.0,
        allow_published: bool = False,
        on_refresh: Callable[[Outcome], None] | None = None,
    ) -> None:
        """`name` is the client's, for the log.

        Without `fresh_seconds`, the source's own. `refresh_seconds` lie between the beginnings of two refreshes;
        `longest_seconds` after the last that succeeded, its keys are out of use. Nobody waits longer than
        `wait_seconds` for a refresh. `allow_published` keeps keys that anybody has. `on_refresh` is told how each
        refresh ended, and "limited" where one was due too early.
        """
        self._source = source
        self._name = name
        self._clock = clock
        self._fresh_seconds = source.fresh_seconds if fresh_seconds is None else fresh_seconds
        self._refresh_seconds = refresh_seconds
        self._longest_seconds = longest_seconds
        self._wait_seconds = wait_seconds
        self._allow_published = allow_published
        self._on_refresh = on_refresh
        self._held = _Held()
        self._asked = float("-inf")
        self._looked = float("-inf")
        self._refreshing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the keys before they are needed. Never raises: without them, the first call tries again."""
        await self._refreshed()

    async def aclose(self) -> None:
        """End a refresh that is under way. Who waits for it goes on with the keys there are."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait({self._refreshing})

    async def find(self, *, key_id: str, algorithm: str) -> PublicKey:
        """The key of that name for that algorithm. Raises Untrusted: unknown-key, ambiguous-key."""
        moment = self._clock()
        if moment - self._looked >= max(2 * self._fresh_seconds, self._refresh_seconds):
            await self._refreshed()  # nobody has looked for so long that what is held says little
        try:
            key = trust.select(self._keys(moment), key_id=key_id, algorithm=algorithm)
        except Untrusted as error:
            if error.reason != "unknown-key":
                raise
        else:
            if moment - self._held.since >= self._fresh_seconds:
                self._refresh(moment)
            return key
        await self._refreshed()
        return trust.select(self._keys(self._clock()), key_id=key_id, algorithm=algorithm)

    def _keys(self, moment: float) -> tuple[PublicKey, ...]:
        return self._held.keys if moment - self._held.since < self._longest_seconds else ()

    async def _refreshed(self) -> None:
        """Wait for the refresh that is under way, begun if it may be."""
        task = self._refresh(self._clock())
        if task is not None:
            # Unlike wait_for, wait leaves the task alone when the time is up or the waiter is cancelled.
            await asyncio.wait({task}, timeout=self._wait_seconds)

    def _refresh(self, moment: float) -> asyncio.Task[None] | None:
        """The refresh that is under way, or None where it is too early for one. An empty context: it is no caller's."""
        if self._refreshing is not None and not self._refreshing.done():
            return self._refreshing
        if moment - self._asked < self._refresh_seconds:
            self._tell("limited")
            return None
        self._asked = moment
        self._refreshing = asyncio.create_task(self._read(moment), context=contextvars.Context())
        return self._refreshing

    async def _read(self, moment: float) -> None:
        try:
            keys = trust.keys_of(await self._source.read())
            usable = tuple(key for key in keys if self._allow_published or not trust.is_published(key))
            if usable:
                self._held = _Held(usable, moment)
                self._tell("ok")
                return
            failure = "published"
        except GatewayError as error:
            failure = error.why
        except OSError:
            failure = "unreadable"
        except ExposedKeys:
            self._held = _Held()  # whoever read them can sign: at once, and not in a day
            failure = "exposed"
        except ValueError:
            failure = "no-usable-key"
        except Exception:  # noqa: BLE001  (a task of nobody: whatever it is, it is told below and tried again)
            failure = "internal"
        finally:
            self._looked = self._clock()
        log.warning("keys not refreshed", extra={"why": failure, "client": self._name})
        self._tell("failed")

    def _tell(self, outcome: Outcome) -> None:
        if self._on_refresh is not None:
            self._on_refresh(outcome)
