"""A FHIR server that takes 200 ms for every search: `python -m tests.bench.slow_fhir PORT DELAY_MS`, until killed.

Answers GETs with one constant searchset of ten Observations (10 kB), `/metadata` with a small CapabilityStatement, and
`/late` with the milliseconds by which its answers left late since it was last asked: the share of a measured latency
that is this server's and not the client's. No framework, because it must carry more than what it measures.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from datetime import UTC, datetime
from typing import Any, ClassVar

import uvloop

from app.sandbox import patients
from app.sandbox.builders import ARTERIAL_BLOOD, Chart

HOST = "127.0.0.1"
OBSERVATIONS = 10
PARAMETERS = ("code", "date", "patient", "subject", "category", "status")


def searchset(*, port: int) -> bytes:
    """Ten arterial gases."""
    chart = Chart("bench", now=datetime(2026, 11, 23, 12, 0, tzinfo=UTC))
    hours = tuple(range(1, OBSERVATIONS + 1))
    chart.series("pao2", [patients.PAO2], hours, (68.0,) * OBSERVATIONS, patients.MMHG, specimen=ARTERIAL_BLOOD)
    base = f"http://{HOST}:{port}/fhir"
    entries = [
        {"fullUrl": f"{base}/Observation/{held['id']}", "resource": held, "search": {"mode": "match"}}
        for held in chart.resources
    ]
    return _json({"resourceType": "Bundle", "type": "searchset", "total": OBSERVATIONS, "entry": entries})


def statement() -> bytes:
    """What this server declares: no more than that Observations can be searched."""
    resource = {"type": "Observation", "searchParam": [{"name": name, "type": "token"} for name in PARAMETERS]}
    rest = [{"mode": "server", "resource": [resource]}]
    return _json({"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1", "rest": rest})


class SlowFhir(asyncio.Protocol):
    """One connection; requests have no bodies and come one after another."""

    delay = 0.2
    bundle = b""
    metadata = b""
    late: ClassVar[list[float]] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.held = b""

    def data_received(self, data: bytes) -> None:
        self.held += data
        while b"\r\n\r\n" in self.held:
            head, _, self.held = self.held.partition(b"\r\n\r\n")
            path = head.split(b" ", 2)[1]
            if path.endswith(b"/metadata"):
                self.transport.write(_answer(self.metadata))
            elif path.endswith(b"/late"):
                self.transport.write(_answer(_json(self.late)))
                self.late.clear()
            else:
                due = time.perf_counter() + self.delay
                asyncio.get_running_loop().call_later(self.delay, self._answer, due)

    def _answer(self, due: float) -> None:
        self.late.append((time.perf_counter() - due) * 1000)
        if not self.transport.is_closing():
            self.transport.write(self.bundle)


def _answer(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


async def _serve(port: int) -> None:
    SlowFhir.bundle = _answer(searchset(port=port))
    SlowFhir.metadata = _answer(statement())
    server = await asyncio.get_running_loop().create_server(SlowFhir, HOST, port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    SlowFhir.delay = float(sys.argv[2]) / 1000
    uvloop.run(_serve(int(sys.argv[1])))
