"""A client's token is used once (CDS Hooks: `jti` "used to protect against replay attacks").

In memory for one process, in the database for several. What was used is remembered for as long as the token could be
used, and asked in one step, so that of fifty at once one is the first.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

from app.store.errors import StoreError

MOST: Final = 100_000
"""Tokens of one client remembered in memory; beyond it that client is refused, rather than let in twice, and no other
client is."""


class Replay(Protocol):
    """Remembers the tokens that were used."""

    async def first_use(self, *, client: str, token_id: str, until: datetime, now: datetime) -> bool:
        """Whether this is the token's first use. Raises StoreError where that cannot be said."""
        ...


class Shared:
    """The tokens of several processes that share a database, and of this one while that is down.

    A service that lets nobody in because its database is down would be of no use when it is needed; a token that is
    used again then has to be used at another process, within the minutes that it lives.
    """

    def __init__(self, store: Replay, *, memory: Replay | None = None) -> None:
        self._store = store
        self._memory = memory or Memory()

    async def first_use(self, *, client: str, token_id: str, until: datetime, now: datetime) -> bool:
        """As `Replay`. Raises TooMany."""
        if not await self._memory.first_use(client=client, token_id=token_id, until=until, now=now):
            return False
        try:
            return await self._store.first_use(client=client, token_id=token_id, until=until, now=now)
        except StoreError:
            return True


class TooMany(Exception):
    """More tokens of a client are in use than this process remembers."""


@dataclass(slots=True)
class Memory:
    """The tokens of one process. A restart forgets them; then only their own life limits their use."""

    most: int = MOST
    _used: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set), repr=False)
    _ends: list[tuple[datetime, str, str]] = field(default_factory=list, repr=False)

    async def first_use(self, *, client: str, token_id: str, until: datetime, now: datetime) -> bool:
        """As `Replay`. Raises TooMany."""
        while self._ends and self._ends[0][0] < now:
            _, owner, ended = heapq.heappop(self._ends)
            self._used[owner].discard(ended)
        used = self._used[client]
        if token_id in used:
            return False
        if len(used) >= self.most:
            raise TooMany
        used.add(token_id)
        heapq.heappush(self._ends, (until, client, token_id))
        return True
