"""Clients as they stand behind a gateway: calls at once or on a schedule, sent again until they are answered.

The ledger is what clients know: which decision they were told, and the digest of the very bytes.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import re
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Literal, Self

import aiohttp

from tests.durability.calls import Call, Calls

DECISION: Final = "org.rescue-cds.decision"
CALL_SECONDS: Final = 30.0
AGAIN_SECONDS: Final = 480.0
"""For how long a repeat is tried: a service gives the same bytes for ten minutes."""

_PAUSE: Final = 0.1
_REMEMBERED: Final = 64

End = Literal["answered", "refused", "cut"]
"""Answered: whole, whatever its status. Refused: no connection, so nothing was sent. Cut: sent, and no whole answer."""


@dataclass(frozen=True, slots=True)
class Sent:
    """How one sending of a call ended."""

    end: End
    status: int = 0
    body: bytes = field(default=b"", repr=False)

    @property
    def said(self) -> str:
        """The end, or the status with the code of the refusal."""
        if self.end != "answered":
            return self.end
        found = re.search(rb'"code":"([a-z-]+)"', self.body) if self.status != 200 else None
        return f"{self.status} {found[1].decode()}" if found else str(self.status)


@dataclass(slots=True)
class Entry:
    """What is known of one call. `digest` is of the first answer; `unlike` counts answers of other bytes."""

    key: str
    decision: str = ""
    digest: str = ""
    answers: int = 0
    unlike: int = 0
    cut_at: float = 0.0
    """When it was first cut, by the wall clock; 0: never."""
    sent_at: float = 0.0
    told_at: float = 0.0
    """When it was first sent, and first answered, by a clock that only goes forward."""


class Ledger:
    """All calls of a campaign, by key."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.ends: Counter[str] = Counter()
        self.told = 0
        self.recent: deque[tuple[float, Call]] = deque(maxlen=_REMEMBERED)

    def begin(self, call: Call) -> None:
        """It is being sent."""
        if call.key not in self.entries:
            self.entries[call.key] = Entry(call.key, sent_at=time.monotonic())

    def note(self, call: Call, sent: Sent, *, now: float) -> None:
        """`now`: by the wall clock."""
        entry = self.entries[call.key]
        self.ends[sent.said] += 1
        if sent.end == "cut":
            entry.cut_at = entry.cut_at or now
        if sent.end != "answered" or sent.status != 200:
            return
        digest = hashlib.sha256(sent.body).hexdigest()
        entry.answers += 1
        if not entry.digest:
            self.told += 1
            entry.digest, entry.told_at = digest, time.monotonic()
            entry.decision = json.loads(sent.body)["extension"][DECISION]["id"]
            self.recent.append((now, call))
        elif digest != entry.digest:
            entry.unlike += 1

    def again(self, *, now: float, chosen: random.Random) -> Call | None:
        """One that was answered lately."""
        while self.recent and now - self.recent[0][0] > AGAIN_SECONDS:
            self.recent.popleft()
        return chosen.choice(self.recent)[1] if self.recent else None


class Clients:
    """Connections to one address, and the ledger of what came of them; `async with`."""

    def __init__(self, url: str, *, ledger: Ledger, keep_alive: bool = True) -> None:
        self._url, self.ledger, self._keep_alive = url, ledger, keep_alive
        self.under_way = 0
        self.failed: Counter[str] = Counter()
        """How calls of `open_loop` ended that brought no 200, and were not sent again."""

    async def __aenter__(self) -> Self:
        # A connection is given up before the service does, so that no call goes into one that is just being closed.
        keeping = {"keepalive_timeout": 2.0} if self._keep_alive else {"force_close": True}
        connector = aiohttp.TCPConnector(limit=0, **keeping)
        timeout = aiohttp.ClientTimeout(total=CALL_SECONDS)
        self._session = aiohttp.ClientSession(self._url, connector=connector, timeout=timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def send(self, call: Call) -> Sent:
        """Once."""
        self.under_way += 1
        self.ledger.begin(call)
        try:
            sent = await self._sent(call)
        finally:
            self.under_way -= 1
        self.ledger.note(call, sent, now=time.time())
        return sent

    async def persist(self, call: Call) -> None:
        """Until it is answered with 200, as a gateway does that got no answer."""
        while True:
            sent = await self.send(call)
            if sent.end == "answered" and sent.status == 200:
                return
            await asyncio.sleep(_PAUSE)

    async def _sent(self, call: Call) -> Sent:
        headers = {"content-type": "application/json"}
        try:
            async with self._session.post(call.path, data=call.body, headers=headers) as answer:
                return Sent("answered", answer.status, await answer.read())
        except aiohttp.ClientConnectorError:
            return Sent("refused")
        except (aiohttp.ClientError, OSError, TimeoutError):
            return Sent("cut")


async def closed_loop(
    clients: Clients, calls: Calls, *, at_once: int, stop: asyncio.Event, chosen: random.Random
) -> None:
    """So many clients, each with its next call when the last one is answered, until `stop`; all of it is answered then.

    One call in ten is sent ten times at once, one in six is an answered one sent again.
    """

    async def client() -> None:
        while not stop.is_set():
            repeated = clients.ledger.again(now=time.time(), chosen=chosen) if chosen.random() < 1 / 6 else None
            call = repeated or calls.next()
            times = 10 if repeated is None and chosen.random() < 0.1 else 1
            await asyncio.gather(*(clients.persist(call) for _ in range(times)))

    await asyncio.gather(*(client() for _ in range(at_once)))


async def open_loop(
    clients: Clients, calls: Calls, *, rate: float, stop: asyncio.Event, listening: asyncio.Event | None = None
) -> list[float]:
    """A call each 1/rate seconds whether the last one is answered or not; seconds from the scheduled arrival.

    Nothing is sent twice: what brings no 200 is counted. `listening`: where nobody does, and so nothing was sent, a
    call waits until somebody does again, as for any service that is being started.
    """
    seconds: list[float] = []
    tasks: set[asyncio.Task[None]] = set()

    async def one(due: float) -> None:
        call = calls.next()
        while True:
            if listening is not None:
                await listening.wait()
            sent = await clients.send(call)
            if sent.end != "refused" or listening is None:
                break
            listening.clear()
        if sent.status != 200:
            clients.failed[sent.said] += 1
        seconds.append(time.perf_counter() - due)

    first = time.perf_counter()
    number = 0
    while not stop.is_set():
        due = first + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        number += 1
        if listening is not None and not listening.is_set():
            continue
        task = asyncio.create_task(one(due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    return seconds
