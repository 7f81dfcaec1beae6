"""How far a campaign is, on the terminal: a line each few seconds, with an estimate of what is left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final

EVERY_SECONDS: Final = 10.0


class Progress:
    """Counts to `whole`; `step` prints at most one line in a few seconds."""

    def __init__(
        self,
        name: str,
        *,
        whole: int,
        clock: Callable[[], float] = time.monotonic,
        say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
    ) -> None:
        self._name, self._whole, self._clock, self._say = name, whole, clock, say
        self._done = 0
        self._began = self._said = clock()

    def step(self, *, note: str = "") -> None:
        """One more is done."""
        self._done += 1
        now = self._clock()
        if now - self._said < EVERY_SECONDS and self._done < self._whole:
            return
        self._said = now
        left = (now - self._began) / self._done * (self._whole - self._done)
        said = f"  {self._name}: {self._done} of {self._whole}"
        if self._done < self._whole:
            said += f", about {_length(left)} left"
        self._say(said + (f"; {note}" if note else ""))


def _length(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
