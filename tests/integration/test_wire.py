"""The same over real sockets: the service under uvicorn, reading a FHIR server with its own connections."""

from __future__ import annotations

import asyncio
import http.client
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp

from app import edge
from app.main import create_app
from app.sandbox import patients
from app.sandbox.fhir import create_fhir
from app.settings import BodyLimits, dev
from tests import databases
from tests.integration.hospital import NOW, PATH, TOKEN, decision, hook


@asynccontextmanager
async def listening(app: ASGIApp, socket_: socket.socket) -> AsyncIterator[None]:
    server = edge.server(app, host="127.0.0.1", port=0)
    task = asyncio.create_task(server._serve([socket_]))  # not `serve`, which takes the signals of the process
    try:
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        await task


def loopback() -> tuple[socket.socket, str]:
    made = socket.socket()
    made.bind(("127.0.0.1", 0))
    return made, f"http://127.0.0.1:{made.getsockname()[1]}"


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[tuple[str, str]]:
    """Addresses of the service and of the FHIR base."""
    (fhir_socket, fhir), (cds_socket, cds) = loopback(), loopback()
    base = f"{fhir}/fhir"
    sandbox = create_fhir(patients.bundle, base_url=base, clock=lambda: NOW, faults=patients.faults())
    settings = replace(
        dev(fhir_urls=[base], db=databases.at_first_start(tmp_path / "d.db").url),
        spool=tmp_path / "spool",
        deadline_seconds=20.0,
        body=BodyLimits(seconds=0.5),
    )
    app = create_app(settings, clock=lambda: NOW)
    async with listening(Starlette(routes=[Mount("/fhir", sandbox)]), fhir_socket), listening(app, cds_socket):
        yield cds, base


async def test_patient_view_from_socket_to_socket(address: tuple[str, str]) -> None:
    cds, base = address
    async with httpx.AsyncClient(base_url=cds, timeout=30) as client:
        for story in patients.STORIES[:4]:
            answer = await client.post(PATH, json=hook(story.patient_id, fhir=base, token=TOKEN))
            assert answer.status_code == 200
            assert decision(answer)["outcome"] == story.expect["outcome"]
            offered = [s for card in answer.json()["cards"] for s in card.get("suggestions", [])]
            assert bool(offered) == (story.expect["suggestions"] == "yes")
        assert "server" not in answer.headers


async def test_an_unfinished_body_ends_the_connection(address: tuple[str, str]) -> None:
    host, _, port = address[0].removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST {PATH} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n"
    writer.write(head.encode() + b'{"hook"')
    await writer.drain()
    async with asyncio.timeout(10):
        received = await reader.read()  # until the service hangs up
    assert received.startswith(b"HTTP/1.1 408")
    assert b"OperationOutcome" in received
    writer.close()
    await writer.wait_closed()


async def test_who_sends_too_much_is_told_so(address: tuple[str, str]) -> None:
    """A client that sends all of its body before it reads: closed at once, the answer would be lost with the rest."""
    host, _, port = address[0].removeprefix("http://").partition(":")

    def statuses() -> list[int]:
        found = []
        for _ in range(4):
            connection = http.client.HTTPConnection(host, int(port), timeout=30)
            connection.request("POST", PATH, b"x" * 40_000_000, {"content-type": "application/json"})
            found.append(connection.getresponse().status)
            connection.close()
        return found

    assert await asyncio.to_thread(statuses) == [413] * 4
