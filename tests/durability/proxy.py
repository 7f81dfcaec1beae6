"""A reverse proxy as hospitals put in front of replicas: it asks each whether it is ready, and sends calls to those.

A call is tried at another replica only when the first did not take the connection: whatever was sent is not sent twice,
so a replica that drops a call is seen by the client, as 502.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

import aiohttp
from aiohttp import web

HOST: Final = "127.0.0.1"
CHECK_SECONDS: Final = 0.1
_HOPS: Final = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server", "host"})


class Proxy:
    """Listens on `port` in front of services, each as (its port, its operators' port); `async with`."""

    def __init__(self, port: int, replicas: Sequence[tuple[int, int]]) -> None:
        self._port, self._replicas = port, tuple(replicas)
        self._ready: set[int] = set()
        self._turn = itertools.count()
        self.sent: Counter[int] = Counter()
        """Calls by the port of the replica that answered."""
        self.elsewhere = 0
        """Calls that a replica did not take, and another one got."""
        self.broken = 0
        """Calls that were sent and not answered."""

    @property
    def ready(self) -> frozenset[int]:
        """The ports of the replicas that were ready when they were last asked."""
        return frozenset(self._ready)

    async def __aenter__(self) -> Self:
        # Connections that a replica may be about to close are not used: it keeps them for 5 s.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=2.0)
        self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=30))
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._passed)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, self._port).start()
        self._checking = asyncio.create_task(self._check())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._checking.cancel()
        with suppress(asyncio.CancelledError):
            await self._checking
        await self._runner.cleanup()
        await self._session.close()

    async def _check(self) -> None:
        while True:
            for port, operators in self._replicas:
                ready = False
                with suppress(aiohttp.ClientError, OSError, TimeoutError):
                    async with self._session.get(f"http://{HOST}:{operators}/readyz") as answer:
                        ready = answer.status == 200
                (self._ready.add if ready else self._ready.discard)(port)
            await asyncio.sleep(CHECK_SECONDS)

    async def _passed(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOPS}
        ready = sorted(self._ready)
        first = next(self._turn)
        for number in range(len(ready)):
            port = ready[(first + number) % len(ready)]
            try:
                async with self._session.request(
                    request.method, f"http://{HOST}:{port}{request.path_qs}", data=body, headers=headers
                ) as answer:
                    content = await answer.read()
            except aiohttp.ClientConnectorError:
                self._ready.discard(port)
                self.elsewhere += 1
                continue
            except (aiohttp.ClientError, OSError, TimeoutError):
                self.broken += 1
                return _said(502, "cut")
            self.sent[port] += 1
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOPS}
            return web.Response(status=answer.status, body=content, headers=kept)
        return _said(503, "nobody-ready")


def _said(status: int, code: str) -> web.Response:
    return web.json_response(text=f'{{"code":"{code}"}}', status=status)
