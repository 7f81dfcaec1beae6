"""The same request at the same time is answered once: who comes second waits for the answer of the first.

Work that is under way ends, whoever waits for it goes away: what was evaluated is recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Flights(Generic[T]):
    """What is under way, by its key."""

    def __init__(self, joined: Callable[[], None] = lambda: None) -> None:
        """`joined` is told of each who comes second."""
        self._running: dict[str, asyncio.Task[T]] = {}
        self._joined = joined

    async def result(self, key: str, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What `make` gives, or what it gives to who came first with this key. Raises what `make` raises."""
        running = self._running.get(key)
        if running is None:
            running = asyncio.create_task(make())
            self._running[key] = running
            running.add_done_callback(lambda done: self._landed(key, done))
        else:
            self._joined()
        return await asyncio.shield(running)

    def _landed(self, key: str, done: asyncio.Task[T]) -> None:
        del self._running[key]
        if not done.cancelled():
            done.exception()  # somebody who has gone away does not ask
