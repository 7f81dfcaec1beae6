"""Resources into a FHIR repository: each until it is taken or refused for good, in their order.

2xx is taken. 4xx is refused for good and kept in a file of its own, except for 401 (the token may have been renewed:
its file is read again), 408 and 429. Everything else is tried again with growing pauses, as often as `ATTEMPTS` says;
then the export ends and says from where to go on (IHE ATX: FHIR Feed; knowledge: security 4.3).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from socket import gaierror  # allowed: network only the error of a name that is not known
from typing import Final

import msgspec

from app.export.elements import Json
from app.gateway import address
from app.gateway.errors import BadRequestPart, GatewayError, TimedOut
from app.gateway.feed import Feed, Reply

ATTEMPTS: Final = 9
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0
"""Seconds. With the pauses between, nine attempts last about two minutes: a restart, not a night."""


class GaveUp(Exception):
    """The repository does not take anything now, or the way to it is wrong. The message names its host and port; it
    holds no path, no token and no id."""


@dataclass(slots=True)
class Push:
    """The sending of one export. `token` is asked for before every attempt; `refused` is given what was refused."""

    feed: Feed
    token: Callable[[], str | None]
    refused: Callable[[Json, int], None]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    taken: int = 0
    rejected: int = 0
    again: int = 0
    """Attempts that were not the first of a resource."""

    _last: str = field(default="", repr=False)

    async def send(self, resource: Json) -> None:
        """Raises GaveUp."""
        content = msgspec.json.encode(resource)
        for attempt in range(ATTEMPTS):
            reply = await self._try(resource, content=content)
            if reply is not None and reply.taken:
                self.taken += 1
                return
            if reply is not None and reply.final:
                self.rejected += 1
                self.refused(resource, reply.status)
                return
            if reply is not None and reply.elsewhere:
                raise GaveUp(
                    f"{self._place()}: it answers {reply.status}, and redirects are not followed: name the base it "
                    "leads to"
                )
            if attempt + 1 < ATTEMPTS:
                self.again += 1
                await self.sleep(_pause(attempt, reply))
        raise GaveUp(
            f"{self._place()}: {self._last}, after {ATTEMPTS} attempts at one resource: look at it, then go on"
        )

    async def _try(self, resource: Json, *, content: bytes) -> Reply | None:
        try:
            reply = await self.feed.put(resource["resourceType"], resource["id"], content=content, token=self.token())
        except BadRequestPart:
            raise GaveUp("the token is none that can stand behind Bearer: look at the file that holds it") from None
        except GatewayError as error:
            self._last = _words(error)
            return None
        self._last = f"it answers {reply.status}"
        return reply

    def _place(self) -> str:
        base = address.parse(self.feed.base)
        host = f"[{base.host}]" if ":" in base.host else base.host
        return f"{host}:{base.port}"


def _words(error: GatewayError) -> str:
    """What kept the request from being answered; nothing of a library's own text."""
    if isinstance(error, TimedOut):
        return "no answer in time"
    for found in _causes(error):
        if isinstance(found, gaierror):
            return "the name of the host is not known"
        if isinstance(found, ssl.SSLError):
            return "TLS, or the certificate, is refused"
        if isinstance(found, TimeoutError):
            return "no answer in time"
        if isinstance(found, ConnectionRefusedError):
            return "connection refused"
        if isinstance(found, ConnectionError):
            return "the connection broke off"
    return "no connection"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """What the error was made of, the innermost first."""
    found: list[BaseException] = []
    inner = error.__cause__ or error.__context__
    while inner is not None and inner not in found:
        found.append(inner)
        inner = inner.__cause__ or inner.__context__
    yield from reversed(found)


def _pause(attempt: int, reply: Reply | None) -> float:
    grown = min(LONGEST_PAUSE, FIRST_PAUSE * float(2**attempt))
    if reply is None or reply.retry_after is None:
        return grown
    return min(LONGEST_PAUSE, max(grown, reply.retry_after))
