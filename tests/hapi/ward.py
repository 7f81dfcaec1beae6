"""The service in front of a real HAPI server: real sockets to FHIR, the service itself through ASGI.

The clock stands still at the moment the demo's patients were charted, so that the stories are the same in every run.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from app.gateway import door
from app.gateway.fhir import Gateway, Limits
from app.main import create_app
from app.sandbox import patients
from app.settings import dev
from app.store.decisions import Store
from cds_hooks import prefetch
from tests.hapi.hapi import Server
from tests.integration import hospital
from tests.integration.hospital import NOW, PATH

PATIENCE = 60.0
"""Seconds for one hook: HAPI shares two cores with everything else here, and what is proved is not its speed."""


@dataclass(slots=True)
class Ward:
    """What a test may hold on to."""

    client: httpx.AsyncClient
    fhir: httpx.AsyncClient
    base: str
    database: Path
    templates: Mapping[str, str] = field(default_factory=dict)

    async def call(self, patient_id: str, **more: Any) -> httpx.Response:
        """Open the chart of a patient; `more` are members of the hook, or `token` and `prefetched`."""
        return await self.client.post(PATH, json=hospital.hook(patient_id, **{"fhir": self.base, **more}))

    async def order(self, patient_id: str, *drafts: Mapping[str, Any], hook: str, **more: Any) -> httpx.Response:
        """Draft orders for a patient; `more` as for `call`."""
        body = hospital.ordering(patient_id, *drafts, hook=hook, **{"fhir": self.base, **more})
        return await self.client.post(f"/cds-services/anakinra-ruxolitinib-{hook}", json=body)

    async def prefetched(self, patient_id: str, *, keys: Iterable[str] | None = None) -> dict[str, Any]:
        """What a client gets that resolves the templates of discovery (`keys`: only these) to the last page."""
        found: dict[str, Any] = {}
        wanted = self.templates if keys is None else {key: self.templates[key] for key in keys}
        for key, template in wanted.items():
            query = prefetch.render(template, values={"context.patientId": patient_id})
            answer = (await self.fhir.get(f"{self.base}/{query.replace(chr(124), '%7C')}")).json()
            found[key] = answer
            page = answer
            while following := [link["url"] for link in page.get("link", ()) if link["relation"] == "next"]:
                page = (await self.fhir.get(following[0])).json()
                answer["entry"] += page["entry"]
            answer.pop("link", None)
        return found

    def reading(self, answer: httpx.Response) -> dict[str, Any]:
        """How the server was read for this answer, from the record."""
        wanted = hospital.decision(answer)["id"]
        with closing(sqlite3.connect(self.database)) as connection:
            (row,) = connection.execute("select reading from decisions where id = ?", (wanted,))
        found: dict[str, Any] = json.loads(row[0])
        return found


class Planted(httpx.AsyncBaseTransport):
    """The real way to the server, with resources of others slipped into every searchset of their type."""

    def __init__(self, resources: Iterable[Mapping[str, Any]]) -> None:
        self.inner = door.Pool(8)
        self.resources = list(resources)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self.inner.handle_async_request(request)
        body = json.loads(await answer.aread())
        kind = request.url.path.partition("/fhir/")[2].partition("/")[0]
        planted = [r for r in self.resources if r["resourceType"] == kind]
        if body.get("type") == "searchset" and planted:
            body.setdefault("entry", []).extend({"resource": r, "search": {"mode": "match"}} for r in planted)
        return httpx.Response(answer.status_code, json=body)

    async def aclose(self) -> None:
        await self.inner.aclose()


@asynccontextmanager
async def opened(
    server: Server,
    folder: Path,
    *,
    limits: Limits | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    now: datetime = NOW,
    **changes: Any,
) -> AsyncIterator[Ward]:
    """The ward with its doors open; `changes` are members of Settings."""
    database = folder / "decisions.db"
    settings = replace(
        dev(fhir_urls=[server.base], db=f"sqlite+aiosqlite:///{database}"),
        **{"deadline_seconds": PATIENCE, **changes},
    )
    gateway = Gateway(transport, limits=limits or Limits(call_seconds=PATIENCE, connect_seconds=5))
    app = create_app(settings, gateway=gateway, store=Store(settings.db), clock=lambda: now)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1:8000") as client,
        httpx.AsyncClient(timeout=PATIENCE, trust_env=False, headers={"cache-control": "no-cache"}) as fhir,
    ):
        await gateway.meet(server.base, seconds=PATIENCE)
        ward = Ward(client, fhir, server.base, database)
        ward.templates = (await client.get("/cds-services")).json()["services"][0]["prefetch"]
        yield ward


@cache
def _charted(like: str) -> tuple[str, str]:
    """The chart of a demo patient, and what it refers to that is nobody's, both as JSON."""
    resources = patients.bundle(NOW)
    shared = [r for r in resources if r["resourceType"] == "Practitioner"]
    own = [r for r in resources if r not in shared and r["id"].startswith(like)]
    return json.dumps(own), json.dumps(shared)


def chart(patient_id: str, *, like: str = "demo-full-protocol") -> list[dict[str, Any]]:
    """The chart of a demo patient under another id, so that a test can change it: HAPI keeps what it is given."""
    own, shared = _charted(like)
    copied: list[dict[str, Any]] = json.loads(own.replace(like, patient_id))
    return json.loads(shared) + copied
