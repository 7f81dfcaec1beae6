"""Whether the spy of `sockets` sees: a zero that it counts is worth as much as what it would have seen.

Each way that a library of this project leaves the machine is taken once, to a server of this machine, or for the name
of a stranger.
"""

from __future__ import annotations

import asyncio
import socket
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import aiohttp
import httpx

from app.gateway import door
from tests.security.sockets import Listener, http, listening, watched

Act = Callable[[Listener], Awaitable[Any]]


async def _by_pool(listener: Listener) -> None:
    pool = door.Pool(1)
    try:
        await (await pool.handle_async_request(httpx.Request("GET", listener.origin))).aclose()
    finally:
        await pool.aclose()


async def _by_aiohttp(listener: Listener) -> None:
    async with aiohttp.ClientSession() as session, session.get(listener.origin):
        pass


async def _by_httpx(listener: Listener) -> None:
    async with httpx.AsyncClient() as client:
        await client.get(listener.origin)


async def _by_streams(listener: Listener) -> None:
    _, writer = await asyncio.open_connection(*listener.place)
    writer.close()
    await writer.wait_closed()


async def _by_urllib(listener: Listener) -> None:
    def get() -> None:
        with urllib.request.urlopen(listener.origin):  # noqa: S310  (this machine's)
            pass

    await asyncio.to_thread(get)


async def _by_sockets(listener: Listener) -> None:
    await asyncio.to_thread(lambda: socket.create_connection(listener.place).close())


async def _by_datagram(listener: Listener) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(b"x", listener.place)


CONNECTING: Final[Mapping[str, Act]] = {
    "door.Pool": _by_pool,
    "aiohttp": _by_aiohttp,
    "httpx": _by_httpx,
    "asyncio": _by_streams,
    "urllib": _by_urllib,
    "socket": _by_sockets,
    "datagram": _by_datagram,
}


async def _name_by_pool(name: str) -> None:
    pool = door.Pool(1)
    try:
        await pool.handle_async_request(httpx.Request("GET", f"http://{name}/"))
    finally:
        await pool.aclose()


LOOKING_UP: Final[Mapping[str, Callable[[str], Awaitable[Any]]]] = {
    "door.Pool": _name_by_pool,
    "asyncio": lambda name: asyncio.get_running_loop().getaddrinfo(name, 80),
    "getaddrinfo": lambda name: asyncio.to_thread(socket.getaddrinfo, name, 80),
    "gethostbyname": lambda name: asyncio.to_thread(socket.gethostbyname, name),
}


async def spied() -> Mapping[str, bool]:
    """Whether the spy sees each of these ways to leave the machine, and stops a look-up of a stranger's name."""
    found: dict[str, bool] = {}
    async with listening(lambda _: http("200 OK", b"{}", "Connection: close")) as listener:
        for name, act in CONNECTING.items():
            with watched() as seen:
                await act(listener)
            found[f"connection by {name}"] = listener.place in seen.connections
        for name, look in LOOKING_UP.items():
            stranger = f"{name.replace('.', '-').lower()}.invalid"
            with watched() as seen:
                stopped = await _stopped(look, stranger)
            found[f"look-up by {name}"] = stopped and stranger in seen.lookups and bool(seen.beyond(listener.place))
    return found


async def _stopped(look: Callable[[str], Awaitable[Any]], name: str) -> bool:
    try:
        await look(name)
    except (OSError, httpx.HTTPError, aiohttp.ClientError):
        return True
    return False
