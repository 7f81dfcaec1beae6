"""A circuit breaker: stop asking a server that does not answer, so that a hook fails at once and not at its deadline.

Closed, every call passes. It opens after five calls in a row without an answer, or when at least half of twenty or
more calls within ten seconds failed (knowledge: security 3.3). Open, every call is refused. After a pause of two to
five seconds one call is the probe; the others wait for how it ends, so that the first hook after a recovery is whole
and a dead server is asked once and not sixteen times.

Our own, because the kept libraries measure time by the wall clock, which may jump, let every call through when half
open, and count cancelled calls as failures (docs/decisions/0007).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

State = Literal["closed", "open", "half-open"]


@dataclass(frozen=True, slots=True)
class Policy:
    """When it opens and for how long; times in seconds."""

    in_a_row: int = 5
    share: float = 0.5
    of_calls: int = 20
    within: float = 10.0
    pause: tuple[float, float] = (2.0, 5.0)


class Breaker:
    """The state of one server. Each admitted call ends with exactly one of `answered`, `failed`, `abandoned`."""

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
        changed: Callable[[State], None] = lambda _: None,
    ) -> None:
        """`changed` is told each state that it comes into."""
        self._policy = policy or Policy()
        self._clock = clock
        self._uniform = uniform
        self._changed = changed
        self._calls: deque[tuple[float, bool]] = deque()
        self._failures = 0
        self._silent = 0
        self._closed_until: float | None = None
        self._probe: asyncio.Event | None = None
        self._under_way = 0

    @property
    def state(self) -> State:
        """For metrics and `doctor`."""
        if self._closed_until is None:
            return "closed"
        return "open" if self._probe is None else "half-open"

    async def admit(self) -> bool:
        """Whether a call may be made now; while a probe is under way, as it ends.

        Waiting ends with the caller's own timeout.
        """
        while self._closed_until is not None:
            if self._probe is not None:
                await self._probe.wait()
            elif self._clock() < self._closed_until or self._under_way:
                return False  # how a call of before ends must not be taken for how the probe ends
            else:
                self._probe = asyncio.Event()
                self._changed("half-open")
                break
        self._under_way += 1
        return True

    def answered(self) -> None:
        """The server answered, with whatever sense."""
        self._under_way -= 1
        self._silent = 0
        if self._closed_until is not None:
            self._forget()
            self._closed_until = None
            self._let_wait_end()
            self._changed("closed")
        else:
            self._count(failure=False)

    def failed(self, *, silent: bool) -> None:
        """The server said that it cannot answer (5xx, 429), or was `silent`: no connection, no answer in time."""
        self._under_way -= 1
        self._silent = self._silent + 1 if silent else 0
        if self._probe is not None:
            self._open()
        elif self._closed_until is None:
            self._count(failure=True)
            calls = len(self._calls)
            too_many = calls >= self._policy.of_calls and self._failures >= self._policy.share * calls
            if too_many or self._silent >= self._policy.in_a_row:
                self._open()

    def abandoned(self) -> None:
        """The caller went away, or had too little time left to tell anything: the next call is the probe."""
        self._under_way -= 1
        self._let_wait_end()

    def _open(self) -> None:
        self._closed_until = self._clock() + self._uniform(*self._policy.pause)
        self._forget()
        self._silent = 0
        self._let_wait_end()
        self._changed("open")

    def _let_wait_end(self) -> None:
        if self._probe is not None:
            self._probe.set()
            self._probe = None

    def _count(self, *, failure: bool) -> None:
        now = self._clock()
        self._calls.append((now, failure))
        self._failures += failure
        while self._calls[0][0] < now - self._policy.within:
            self._failures -= self._calls.popleft()[1]

    def _forget(self) -> None:
        self._calls.clear()
        self._failures = 0
