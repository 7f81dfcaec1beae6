"""Resources sent to a FHIR repository, one a request, in the manner of IHE's ATX: FHIR Feed. Nothing is read from it.

Each goes to its own id (`PUT Type/id`): whatever is sent again is the same resource, never a second one. https, or
http to this machine; no redirect is followed, no proxy of the environment used, and of an answer only its status is
taken.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import httpx

from app.gateway import address, door
from app.gateway.errors import BadRequestPart

_MOST: Final = 64 * 1024
_PART: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}")


@dataclass(frozen=True, slots=True)
class Reply:
    """`retry_after` in seconds, where the server named a time."""

    status: int
    retry_after: float | None = None

    @property
    def taken(self) -> bool:
        return 200 <= self.status < 300

    @property
    def final(self) -> bool:
        """Refused for good: the same resource would be refused again (ATX: any other 4xx than these three)."""
        return 400 <= self.status < 500 and self.status not in {401, 408, 429}

    @property
    def elsewhere(self) -> bool:
        """A redirect, or no answer to the request at all."""
        return self.status < 200 or 300 <= self.status < 400


class Feed:
    """A repository. Close it."""

    def __init__(
        self,
        base: str,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        seconds: float = 30.0,
        connect_seconds: float = 5.0,
    ) -> None:
        """Raises ValueError, with a text that does not hold the address."""
        parsed = address.parse(base)
        if parsed.scheme != "https" and not parsed.loopback:
            raise ValueError("the address has to start with https://: http is for this machine only")
        self.base = str(parsed)
        self._transport = door.Pool(1) if transport is None else transport
        self._seconds = seconds
        self._connect_seconds = connect_seconds

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def put(self, kind: str, id_: str, *, content: bytes, token: str | None) -> Reply:
        """Send one resource. Raises TimedOut, Unreachable; BadRequestPart for an id or token that fits into none."""
        if not (_PART.fullmatch(kind) and _PART.fullmatch(id_)) or (token is not None and not door.is_token(token)):
            raise BadRequestPart
        headers = {
            "Accept": "application/fhir+json",
            "Accept-Encoding": "identity",
            "Content-Type": "application/fhir+json; charset=utf-8",
            "Prefer": "return=minimal",
            "User-Agent": "rescue-cds",
        }
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return await door.exchange(
            httpx.Request("PUT", f"{self.base}/{kind}/{id_}", headers=headers, content=content),
            transport=self._transport,
            seconds=self._seconds,
            connect_seconds=self._connect_seconds,
            answered=_reply,
        )


async def _reply(response: httpx.Response) -> Reply:
    """A short body is read to its end, so that the connection serves again, and dropped: it may echo what was sent."""
    size = 0
    if isinstance(response.stream, httpx.AsyncByteStream):
        async for chunk in response.stream:
            size += len(chunk)
            if size > _MOST:
                break
    return Reply(response.status_code, door.retry_after(response.headers.get("retry-after", "")))
