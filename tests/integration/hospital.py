"""A hospital in one process: the FHIR sandbox with the demo's patients, the service, and the record behind it.

Everything that the service says or asks goes through ASGI as it would through a socket; only the wire is left out. The
clock stands still, so that the stories are the same in every run.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from app import knowledge
from app.gateway.fhir import Gateway
from app.main import create_app, create_operators
from app.observe.traces import Traces
from app.sandbox import patients
from app.sandbox.fhir import create_fhir
from app.sandbox.patients import Fault
from app.settings import Settings, dev
from app.store.decisions import Store
from cds_hooks import prefetch
from cds_hooks.discovery import Service
from tests import databases

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
FHIR = "http://127.0.0.1:8080/fhir"
SERVICE = "anakinra-ruxolitinib-patient-view"
PATH = f"/cds-services/{SERVICE}"
TOKEN = "canary-token-9f3c1b"
USER = "Practitioner/canary-user-5521"
DECISION = "org.rescue-cds.decision"

shipped = cache(knowledge.load)
"""Read once, however many hospitals a test run opens."""
everybody = cache(patients.bundle)
"""The demo's patients at a moment; nobody changes these resources."""


class Wire(httpx.AsyncBaseTransport):
    """Carries the gateway's requests to the sandbox and writes down where they went; `answers` come in its place.

    `sent` leaves out the capability statement, which belongs to no hook.
    """

    def __init__(self, app: Any, *, answers: Callable[[httpx.Request], httpx.Response | None] | None = None) -> None:
        self.inner = httpx.ASGITransport(app=app)
        self.answers = answers or (lambda _: None)
        self.sent: list[tuple[str, str, str | None]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path != "/fhir/metadata":
            self.sent.append((request.url.host, request.url.path, request.headers.get("authorization")))
        special = self.answers(request)
        if special is not None:
            return special
        inner = httpx.Request(
            request.method,
            request.url.copy_with(path=request.url.path.removeprefix("/fhir")),
            headers=request.headers,
            content=await request.aread(),
        )
        return await self.inner.handle_async_request(inner)


@dataclass(slots=True)
class Hospital:
    """What a test may hold on to."""

    client: httpx.AsyncClient
    fhir: httpx.AsyncClient
    app: FastAPI
    wire: Wire
    store: Store
    database: Path
    templates: Mapping[str, str] = field(default_factory=dict)
    services: Sequence[Service] = ()

    def operators(self) -> httpx.AsyncClient:
        """A client of the admin port."""
        transport = httpx.ASGITransport(app=create_operators(self.app))
        return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8001")

    async def call(self, body: Any, *, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """POST patient-view; bytes are sent as they are."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.client.post(
            PATH, content=content, headers={"content-type": "application/json"} | dict(headers or {})
        )

    async def post(self, body: Mapping[str, Any], *, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """POST to the service of the body's hook."""
        path = f"/cds-services/anakinra-ruxolitinib-{body['hook']}"
        return await self.client.post(
            path, content=json.dumps(body).encode(), headers={"content-type": "application/json"} | dict(headers or {})
        )

    async def prefetched(self, patient_id: str, *, service: int = 0) -> dict[str, Any]:
        """What a client gets that resolves the templates of discovery against the sandbox, one page each."""
        found: dict[str, Any] = {}
        for key, template in self.services[service].prefetch.items():
            answer = await self.fhir.get("/" + prefetch.render(template, values={"context.patientId": patient_id}))
            found[key] = answer.json()
        return found

    def rows(self, table: str = "decisions") -> list[dict[str, Any]]:
        """What is on the disk, read beside the service."""
        return databases.newest(self.database).records(f"select * from {table}")  # noqa: S608

    def bytes_on_disk(self) -> bytes:
        """Every byte of the database, of its log and of the spool."""
        spool = self.database.parent.glob(f"{self.database.name}.spool/**/*")
        return databases.newest(self.database).content() + b"".join(
            path.read_bytes() for path in spool if path.is_file()
        )


@asynccontextmanager
async def opened(
    folder: Path,
    *,
    faults: Mapping[str, Mapping[str, Fault]] | None = None,
    answers: Callable[[httpx.Request], httpx.Response | None] | None = None,
    store: Store | None = None,
    now: datetime = NOW,
    traces_to: Traces | None = None,
    **changes: Any,
) -> AsyncIterator[Hospital]:
    """The hospital with its doors open; `changes` are members of Settings. `now`: what the service's clock says."""
    database = folder / "decisions.db"
    settings = replace(settings_for(database), **{"deadline_seconds": 20.0, **changes})
    sandbox = create_fhir(
        everybody, base_url=FHIR, clock=lambda: NOW, faults=patients.faults() if faults is None else faults
    )
    wire = Wire(sandbox, answers=answers)
    kept = store or Store(settings.db, spool=settings.spool)
    app = create_app(
        settings, bedside=shipped(), gateway=Gateway(wire), store=kept, clock=lambda: now, traces=traces_to
    )
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app, raise_app_exceptions=False), base_url="http://127.0.0.1:8000"
        ) as client,
        httpx.AsyncClient(transport=httpx.ASGITransport(app=sandbox), base_url="http://127.0.0.1:8080") as fhir,
    ):
        hospital = Hospital(client, fhir, app, wire, kept, database)
        hospital.services = app.state.service.descriptions
        hospital.templates = hospital.services[0].prefetch
        yield hospital


def settings_for(database: Path) -> Settings:
    """The dev profile with the sandbox as its one FHIR base."""
    return replace(
        dev(fhir_urls=[FHIR], db=databases.newest(database).url), spool=database.with_name(f"{database.name}.spool")
    )


def hook(
    patient_id: str,
    *,
    fhir: str | None = FHIR,
    token: str | None = TOKEN,
    prefetched: Mapping[str, Any] | None = None,
    user: str | None = USER,
    **more: Any,
) -> dict[str, Any]:
    """A patient-view call."""
    body: dict[str, Any] = {
        "hook": "patient-view",
        "hookInstance": str(uuid.uuid4()),
        "context": {"patientId": patient_id} | ({"userId": user} if user else {}),
    }
    if fhir is not None:
        body["fhirServer"] = fhir
    if token is not None and fhir is not None:
        body["fhirAuthorization"] = {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": 300,
            "scope": "patient/*.read",
            "subject": "rescue-cds",
        }
    if prefetched is not None:
        body["prefetch"] = dict(prefetched)
    return body | more


_call = hook


def ordering(
    patient_id: str, *drafts: Mapping[str, Any], hook: str, selections: list[str] | None = None, **more: Any
) -> dict[str, Any]:
    """A call of an order hook; `more` as for `hook`."""
    body = _call(patient_id, **more)
    body["hook"] = hook
    body["context"]["draftOrders"] = {"resourceType": "Bundle", "entry": [{"resource": one} for one in drafts]}
    if selections is not None:
        body["context"]["selections"] = selections
    return body


def decision(answer: httpx.Response) -> dict[str, Any]:
    """The decision extension of an answer."""
    found: dict[str, Any] = answer.json()["extension"][DECISION]
    return found


def same_words(answer: httpx.Response) -> list[dict[str, Any]]:
    """The cards without what differs from call to call: the uuids."""

    def stripped(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: stripped(item) for name, item in value.items() if name != "uuid"}
        if isinstance(value, list):
            return [stripped(item) for item in value]
        return value

    cards: list[dict[str, Any]] = stripped(answer.json()["cards"])
    return cards
