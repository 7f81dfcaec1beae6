"""The proxy sends calls to replicas that are ready, elsewhere only what was not taken, and shows what was cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest
from aiohttp import web

from tests.durability.processes import HOST, free_ports
from tests.durability.proxy import Proxy


@dataclass(slots=True)
class Replica:
    """As ready as it is told to be; it cuts what it is told to."""

    port: int
    is_ready: bool = True
    cuts: bool = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async def hook(request: web.Request) -> web.Response:
            if self.cuts:
                assert request.transport is not None
                request.transport.abort()
            return web.Response(body=f"{self.port}:".encode() + await request.read(), headers={"x-kept": "yes"})

        async def ready(_: web.Request) -> web.Response:
            return web.Response(status=200 if self.is_ready else 503)

        runners = []
        for port, path, handler in ((self.port, "/hook", hook), (self.port + 1, "/readyz", ready)):
            app = web.Application()
            app.router.add_route("*", path, handler)
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            await web.TCPSite(runner, HOST, port).start()
            runners.append(runner)
        try:
            yield
        finally:
            for runner in runners:
                await runner.cleanup()


@dataclass(slots=True)
class Scene:
    one: Replica
    other: Replica
    first: AsyncExitStack
    proxy: Proxy
    client: aiohttp.ClientSession

    async def call(self) -> tuple[int, str]:
        async with self.client.post("/hook?a=b", data=b"body") as answer:
            return answer.status, await answer.text()

    async def has(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.proxy.ready) != count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    port = free_ports(5)
    one, other = Replica(port), Replica(port + 2)
    proxy = Proxy(port + 4, [(one.port, one.port + 1), (other.port, other.port + 1)])
    async with AsyncExitStack() as first, other.running():
        await first.enter_async_context(one.running())
        async with proxy, aiohttp.ClientSession(f"http://{HOST}:{port + 4}") as client:
            made = Scene(one, other, first, proxy, client)
            await made.has(2)
            yield made


async def test_calls_go_to_both_by_turns_and_only_to_those_that_are_ready(scene: Scene) -> None:
    assert {(await scene.call())[1] for _ in range(4)} == {f"{r.port}:body" for r in (scene.one, scene.other)}
    scene.one.is_ready = False
    await scene.has(1)
    assert {await scene.call() for _ in range(4)} == {(200, f"{scene.other.port}:body")}
    scene.other.is_ready = False
    await scene.has(0)
    assert (await scene.call())[0] == 503


async def test_what_a_replica_does_not_take_goes_to_the_other(scene: Scene) -> None:
    await scene.first.aclose()
    assert {await scene.call() for _ in range(4)} == {(200, f"{scene.other.port}:body")}
    assert scene.proxy.broken == 0


async def test_what_is_cut_is_not_sent_again(scene: Scene) -> None:
    scene.one.cuts = scene.other.cuts = True
    assert (await scene.call())[0] == 502
    assert (scene.proxy.broken, scene.proxy.elsewhere) == (1, 0)
