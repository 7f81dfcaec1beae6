"""The application: `create_app` wires what it is given, and makes the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app import knowledge, watching
from app.api.admin import DATABASE, SERVING, STARTED, create_admin
from app.api.document import openapi
from app.api.routes import refusal, router
from app.clients import Client
from app.configuration import SettingsError
from app.gateway.fhir import Gateway
from app.gateway.jwks import FileSource, KeySet, UrlSource
from app.knowledge import Bedside
from app.observe.metrics import Metrics
from app.observe.traces import OFF, Traces, start
from app.places import Places
from app.replay import Memory, Shared
from app.service import HookService
from app.settings import LOCAL_ORIGINS, Settings
from app.stats import page
from app.store import address
from app.store.decisions import Store
from app.store.errors import StoreError
from app.trust import Door, Refusals

MAX_HEADER_BYTES = 32 * 1024
_KEY_CONNECTIONS = 2


def create_app(
    settings: Settings,
    *,
    bedside: Bedside | None = None,
    gateway: Gateway | None = None,
    store: Store | None = None,
    clock: Callable[[], datetime] | None = None,
    traces: Traces | None = None,
) -> FastAPI:
    """The service for clients. Raises KnowledgeError, SettingsError or BadDatabase when it must not start.

    `app.state` has `service`, `metrics`, `traces` and `started`; `create_operators` makes the other port of them.
    Whoever ends it sets `draining` before; where the record kept it from starting, `failure` says why.
    """
    bedside = bedside or knowledge.load()
    gateway = gateway or Gateway(limits=settings.fhir)
    _check_line(settings)
    store = store or Store(settings.db, spool=settings.spool, spool_bytes=settings.spool_bytes)
    clock = clock or (lambda: datetime.now(UTC))
    metrics = watching.metrics_of(settings)
    traces = traces or _traces(settings, version=bedside.version)
    gateway.watcher = watching.GatewayWatcher(settings, metrics=metrics, traces=traces)
    refusals = Refusals(store, clock=clock, counted=lambda reason: metrics.refused(reason=reason))
    service = HookService(
        settings,
        bedside=bedside,
        gateway=gateway,
        store=store,
        refusals=refusals,
        metrics=metrics,
        traces=traces,
        clock=clock,
    )
    dev = settings.profile == "dev"
    keys = {client.id: _keys(client, gateway=gateway, metrics=metrics, dev=dev) for client in settings.clients}
    door = Door(
        settings,
        keys=keys,
        replay=Shared(store) if settings.replay == "database" else Memory(),
        refusals=refusals,
        clock=clock,
    )
    places = Places(
        at_once=settings.hooks_at_once,
        waiting=settings.hooks_waiting,
        tenants=[tenant.name for tenant in settings.tenants],
        turned_away=lambda kind: metrics.overload(kind=kind),
        changed=metrics.places,
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with service.store, service.gateway:
            await service.store.keep_knowledge(
                bedside.library.knowledge.hash, msgspec.json.encode(dict(bedside.library.files))
            )
            await asyncio.gather(*(known.start() for known in keys.values()))
            for base in settings.bases:
                await service.gateway.meet(base, seconds=0)  # asked now, so that no hook has to wait for the answer
            app.state.started = True
            try:
                yield
            finally:
                app.state.started = False
                await refusals.aclose()
                for known in keys.values():
                    await known.aclose()
                await asyncio.to_thread(traces.close)

    app = FastAPI(
        title="rescue-cds",
        version=bedside.version,
        summary="CDS Hooks service for the anakinra + ruxolitinib rescue protocol (investigational, unproven)",
        description="CDS Hooks 2.0.1 over FHIR R4. Not a medical device; for evaluation under local governance.",
        lifespan=_saying_why(lifespan),
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        # Its own spans and log records hold addresses with their queries, and the texts of exceptions.
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
        },
    )
    app.include_router(router(service, door=door, places=places, metrics=metrics))
    app.add_exception_handler(HTTPException, _http_refusal)
    app.add_middleware(HeaderLimit)
    app.add_middleware(  # the last one added is the outermost: every refusal carries its headers
        CORSMiddleware,
        allow_origins=list(settings.cors_origins),
        allow_origin_regex=LOCAL_ORIGINS if settings.profile == "dev" else None,
        allow_methods=["GET", "HEAD", "POST"],
        allow_headers=["authorization", "content-type"],
    )
    app.state.service, app.state.metrics, app.state.traces, app.state.started = service, metrics, traces, False
    app.state.draining, app.state.failure = False, None
    return app


def _check_line(settings: Settings) -> None:
    """Raises SettingsError where a hospital's patient data would cross a network in plain text unsaid."""
    if settings.profile == "site" and address.is_open_line(address.parsed(settings.db)):
        raise SettingsError(
            "the line to the database is not encrypted: add ?ssl=verify-full&sslrootcert=FILE to the address, or "
            "?ssl=require, or ?ssl=disable to say that it is protected by other means",
            key="store.url",
        )


def _saying_why(lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]]) -> Any:
    """The same; what the server turns into a line of its log without a word of it, stays in `app.state.failure`."""

    @asynccontextmanager
    async def saying(app: FastAPI) -> AsyncIterator[None]:
        try:
            async with lifespan(app):
                yield
        except StoreError as error:
            app.state.failure = error
            raise

    return saying


def create_operators(app: FastAPI) -> Starlette:
    """The application of the admin port, beside one of `create_app` in the same process."""
    service: HookService = app.state.service

    async def ready() -> dict[str, bool]:
        if app.state.draining:  # said at once, whatever the database does
            return {STARTED: app.state.started, SERVING: False}
        found = await service.store.readiness()
        watching.show_record(found, metrics=app.state.metrics, now=service.clock())
        return {STARTED: app.state.started, "record": found.database or found.spool, DATABASE: found.database}

    def refresh() -> None:
        watching.show_record(service.store.now(), metrics=app.state.metrics, now=service.clock())

    async def statistics() -> str:
        zone = service.settings.tenants[0].zone
        return await page.of_store(service.settings.db, bedside=service.bedside, now=service.clock(), zone=zone)

    here = service.settings.admin.host in {"127.0.0.1", "localhost"}
    return create_admin(
        metrics=app.state.metrics,
        ready=ready,
        openapi=openapi(app),
        stats=statistics,
        refresh=refresh,
        names=("127.0.0.1", "localhost") if here else ("*",),
    )


def _keys(client: Client, *, gateway: Gateway, metrics: Metrics, dev: bool) -> KeySet:
    """Where this client's keys are. Keys that anybody has are taken in the dev profile only."""
    source: FileSource | UrlSource
    if client.jwks_file is not None:
        source = FileSource(client.jwks_file)
    elif client.jwks_url is not None:
        source = UrlSource(client.jwks_url, transport=gateway.pool(_KEY_CONNECTIONS))
    else:
        raise SettingsError("a client without keys", key=client.id)
    return KeySet(
        source,
        name=client.id,
        allow_published=dev,
        on_refresh=lambda outcome: metrics.jwks(client=client.id, outcome=outcome),
    )


def _traces(settings: Settings, *, version: str) -> Traces:
    """Raises SettingsError where they are wanted and their libraries are not there."""
    if settings.traces is None:
        return OFF
    known = [*(client.id for client in settings.clients), *(tenant.name for tenant in settings.tenants)]
    try:
        return start(settings.traces, service_version=version, configured=known)
    except ValueError as error:
        raise SettingsError(str(error), key="traces") from None


class HeaderLimit:
    """Refuses requests whose headers are larger than 32 KiB with 431."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: list[tuple[bytes, bytes]] = scope.get("headers", [])
        if sum(len(name) + len(value) for name, value in headers) > MAX_HEADER_BYTES:
            await refusal(431, "too-long", "the headers are larger than this service accepts")(scope, receive, send)
            return
        await self.app(scope, receive, send)


async def _http_refusal(_: Request, error: Any) -> Response:
    """Unknown paths and methods in the one error shape."""
    known = {404: ("not-found", "no such resource"), 405: ("not-supported", "this method is not supported here")}
    code, message = known.get(error.status_code, ("processing", "the request was refused"))
    answer = refusal(error.status_code, code, message)
    answer.headers.update(error.headers or {})
    return answer
