"""The application: `create_app` wires what it is given, and makes the rest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app import knowledge
from app.api.routes import guarded, refusal, router
from app.gateway.fhir import Gateway
from app.knowledge import Bedside
from app.service import HookService
from app.settings import LOCAL_ORIGINS, Settings
from app.stats import page
from app.store.decisions import Store

MAX_HEADER_BYTES = 32 * 1024


def create_app(
    settings: Settings,
    *,
    bedside: Bedside | None = None,
    gateway: Gateway | None = None,
    store: Store | None = None,
    clock: Callable[[], datetime] | None = None,
) -> FastAPI:
    """The service. Raises KnowledgeError, SettingsError or BadDatabase when it must not start."""
    bedside = bedside or knowledge.load()
    service = HookService(
        settings,
        bedside=bedside,
        gateway=gateway or Gateway(limits=settings.fhir),
        store=store or Store(settings.db),
        clock=clock or (lambda: datetime.now(UTC)),
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.store, service.gateway:
            await service.store.keep_knowledge(
                bedside.library.knowledge.hash, msgspec.json.encode(dict(bedside.library.files))
            )
            for base in settings.bases:
                await service.gateway.meet(base, seconds=0)  # asked now, so that no hook has to wait for the answer
            yield

    app = FastAPI(
        title="rescue-cds",
        version=bedside.version,
        summary="CDS Hooks service for the anakinra + ruxolitinib rescue protocol (investigational, unproven)",
        description="CDS Hooks 2.0.1 over FHIR R4. Not a medical device; for evaluation under local governance.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.include_router(router(service))
    if settings.profile == "dev":  # nobody is asked who he is, so elsewhere the page is made by `rescue-cds stats`
        app.add_route("/stats", _statistics(service), include_in_schema=False)
    app.add_exception_handler(HTTPException, _http_refusal)
    app.add_middleware(HeaderLimit)
    app.add_middleware(  # the last one added is the outermost: every refusal carries its headers
        CORSMiddleware,
        allow_origins=list(settings.cors_origins),
        allow_origin_regex=LOCAL_ORIGINS if settings.profile == "dev" else None,
        allow_methods=["GET", "HEAD", "POST"],
        allow_headers=["authorization", "content-type"],
    )
    app.state.service = service
    return app


def _statistics(service: HookService) -> Callable[[Request], Awaitable[Response]]:
    """The page for the clinical owner, of the decisions so far."""
    zone = service.settings.tenants[0].zone

    async def statistics(_: Request) -> Response:
        async def answered() -> Response:
            found = await page.of_store(service.settings.db, bedside=service.bedside, now=service.clock(), zone=zone)
            return HTMLResponse(found, headers={"cache-control": "no-store"})

        return await guarded(answered)

    return statistics


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
