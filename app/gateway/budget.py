"""What one hook may spend at its FHIR server: time, reads at once, bytes.

One object travels down through everything a hook reads, so that no part of it can spend what another has counted on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from app.gateway.errors import TooLarge

READS: Final = 20
"""Reads of one hook under way at once: the whole plan side by side. With eight (knowledge: security 3.3) a hook takes
two rounds, and a server that needs more than half the deadline for a read loses the second."""

BYTES: Final = 64 * 1024 * 1024
"""Bytes of all answers of one hook, counted after decompression."""


class Deadline:
    """One monotonic end for everything a request reads; changes of the wall clock do not move it."""

    __slots__ = ("_clock", "_end", "seconds")

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._end = clock() + seconds

    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._end - self._clock())


class Budget:
    """The deadline of one hook, `places` for its reads that go side by side, and what all its answers may weigh.

    `requests` and `bytes` are what it has spent so far, `asked` the reads and searches about the patient that were
    sent, as they were written (`Patient/ID`, `Observation?patient=ID&...`): patient data.
    """

    __slots__ = ("_most", "asked", "bytes", "deadline", "places", "requests")

    def __init__(self, deadline: Deadline, *, reads: int = READS, bytes: int = BYTES) -> None:  # noqa: A002
        self.deadline = deadline
        self.places = asyncio.Semaphore(reads)
        self._most = bytes
        self.requests = 0
        self.bytes = 0
        self.asked: list[str] = []

    def remaining(self) -> float:
        """Seconds left, never negative."""
        return self.deadline.remaining()

    def weigh(self, size: int) -> None:
        """Count the bytes of an answer. Raises TooLarge when the hook has had all it may."""
        self.bytes += size
        if self.bytes > self._most:
            raise TooLarge
