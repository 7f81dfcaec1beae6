"""Places for calls: so many are answered at once, a few wait a moment, the rest is told at once to try again.

With several hospitals half of the places is nobody's, and the other half is shared out: however many calls one of them
has hanging, each other one still finds its share free (knowledge: security 3.3, bulkhead).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, Literal

from cds_hooks.errors import Unavailable

WAIT_SECONDS: Final = 0.1

Full = Literal["queue", "waited"]


class Places:
    """The places of one process. Single-threaded: counts change between awaits only."""

    def __init__(
        self,
        *,
        at_once: int,
        waiting: int,
        tenants: Sequence[str],
        wait_seconds: float = WAIT_SECONDS,
        turned_away: Callable[[Full], None] = lambda _: None,
        changed: Callable[[int, int], None] = lambda _taken, _waiting: None,
    ) -> None:
        """`changed` is told how many places are taken and how many calls wait, whenever that changes."""
        self._at_once = at_once
        self._most_waiting = waiting
        self._wait_seconds = wait_seconds
        self._turned_away = turned_away
        self._changed = changed
        self._share = at_once // (2 * len(tenants)) if len(tenants) > 1 else 0
        self._tenants = tuple(tenants)
        self._taken: Counter[str] = Counter()
        self._waiting = 0
        self._freed = asyncio.Condition()

    @property
    def taken(self) -> int:
        """Calls being answered."""
        return self._taken.total()

    @property
    def waiting(self) -> int:
        """Calls that wait for a place."""
        return self._waiting

    @asynccontextmanager
    async def taking(self, tenant: str) -> AsyncIterator[None]:
        """A place for one call of that tenant. Raises Unavailable where there is none in time."""
        if not self._free_for(tenant):
            await self._wait(tenant)
        self._taken[tenant] += 1
        self._changed(self.taken, self._waiting)
        try:
            yield
        finally:
            self._taken[tenant] -= 1
            self._changed(self.taken, self._waiting)
            async with self._freed:
                self._freed.notify_all()

    def _free_for(self, tenant: str) -> bool:
        if self._taken[tenant] < self._share:
            return True
        kept = sum(max(0, self._share - self._taken[other]) for other in self._tenants if other != tenant)
        return self.taken + kept < self._at_once

    async def _wait(self, tenant: str) -> None:
        if self._waiting >= self._most_waiting:
            self._refuse("queue")
        self._waiting += 1
        self._changed(self.taken, self._waiting)
        try:
            async with asyncio.timeout(self._wait_seconds), self._freed:
                await self._freed.wait_for(lambda: self._free_for(tenant))
        except TimeoutError:
            self._refuse("waited")
        finally:
            self._waiting -= 1
            self._changed(self.taken, self._waiting)

    def _refuse(self, why: Full) -> None:
        self._turned_away(why)
        raise Unavailable(
            "too many calls are being answered: nothing was evaluated, try again", code="throttled"
        ) from None
