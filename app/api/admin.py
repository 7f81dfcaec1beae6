"""What operators and their tools reach, on a port of its own that clients never see (knowledge: security T27, 3.6).

Health says nothing of FHIR servers: one hospital's outage must not take the service away from the others. No page here
runs a script, nothing may be framed or kept, and no other origin may read it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from html import escape
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.document import as_yaml
from app.observe.metrics import CONTENT_TYPE, Metrics
from app.store.errors import StoreError

log = logging.getLogger(__name__)

STARTED: Final = "started"
"""The check that `/startupz` asks for."""

SERVING: Final = "serving"
"""The check that fails from the moment the service is told to end: it still answers, and wants nothing new."""

DATABASE: Final = "database"
"""The check that a service can be ready without: what is decided is recorded in the spool meanwhile."""

CHECK_SECONDS: Final = 2.0
"""How long the checks of readiness may take; the database's own patience is as long."""

_JSON: Final = "application/json"
_POLICY: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
HEADERS: Final = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "content-security-policy": _POLICY,
}
"""On every answer; a page adds where its style comes from."""

_LISTED: Final = (
    ("/livez", "200 while the process answers."),
    ("/readyz", "200 when calls can be answered and recorded, else 503; each check by name."),
    ("/startupz", "200 once everything is loaded, else 503."),
    ("/metrics", "Prometheus text format."),
    ("/stats", "What was shown and what became of it, counted; no patient data."),
    ("/openapi.json", "OpenAPI document of the hook service."),
    ("/openapi.yaml", "The same as YAML."),
)

_STYLE: Final = (
    ":root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;"
    "padding:0 1rem}td{padding:.2rem 1.2rem .2rem 0;vertical-align:top}"
)
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_INDEX_POLICY: Final = f"{_POLICY}; style-src 'sha256-{_STYLE_HASH}'"
_STATS_POLICY: Final = f"{_POLICY}; style-src 'unsafe-inline'"

Ready = Callable[[], Awaitable[Mapping[str, bool]]]


def create_admin(
    *,
    metrics: Metrics,
    ready: Ready,
    openapi: Mapping[str, Any],
    stats: Callable[[], Awaitable[str]],
    refresh: Callable[[], None] = lambda: None,
    names: Sequence[str] = ("*",),
) -> Starlette:
    """The application of the admin port. `ready` gives every check by its name, `started` among them; `stats` the page;
    `refresh` brings the metrics up to date that say how things stand.

    `names` are the hosts by which it may be called: on loopback a page that has its own name lead there gets nothing.

    A check that fails, or takes longer than `CHECK_SECONDS`, is a service that is not ready.
    """
    # One at a time: counting takes a thread of those that also look up the names of FHIR servers.
    counting = asyncio.Lock()
    as_json, as_text = msgspec.json.format(msgspec.json.encode(openapi), indent=2), as_yaml(dict(openapi))

    async def checks() -> Mapping[str, bool]:
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                return await ready()
        except Exception as error:  # noqa: BLE001  (whatever it is, the service is not ready)
            log.warning("not ready", extra={"kind": type(error).__name__})
            return {}

    async def live(_: Request) -> Response:
        return _said(200, "ok")

    async def readiness(_: Request) -> Response:
        found = await checks()
        good = bool(found) and all(value for name, value in found.items() if name != DATABASE)
        word = "ok" if found.get(DATABASE, True) else "degraded"
        if not good:
            word = "not-ready" if found.get(SERVING, True) else "draining"
        return _said(200 if good else 503, word, checks=found)

    async def startup(_: Request) -> Response:
        started = (await checks()).get(STARTED, False)
        return _said(200, "ok") if started else _said(503, "starting")

    async def exposition(_: Request) -> Response:
        refresh()
        return Response(metrics.text(), headers={"content-type": CONTENT_TYPE})

    async def json_document(_: Request) -> Response:
        return Response(as_json, media_type=_JSON)

    async def yaml_document(_: Request) -> Response:
        return Response(as_text, media_type="application/yaml")

    async def statistics(_: Request) -> Response:
        if counting.locked():
            return _said(503, "busy")
        async with counting:
            return HTMLResponse(await stats(), headers={"content-security-policy": _STATS_POLICY})

    async def index(_: Request) -> Response:
        return HTMLResponse(_index(), headers={"content-security-policy": _INDEX_POLICY})

    routes = {
        "/": index,
        "/livez": live,
        "/readyz": readiness,
        "/startupz": startup,
        "/metrics": exposition,
        "/openapi.json": json_document,
        "/openapi.yaml": yaml_document,
        "/stats": statistics,
    }
    app = Starlette(
        routes=[Route(path, _guarded(answered), methods=["GET"]) for path, answered in routes.items()],
        middleware=[
            Middleware(_Headers),
            Middleware(TrustedHostMiddleware, allowed_hosts=list(names), www_redirect=False),
        ],
        exception_handlers={HTTPException: _refused},
    )
    app.router.redirect_slashes = False
    return app


def _guarded(answered: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """A fault is an answer without a word of what was at fault."""

    async def endpoint(request: Request) -> Response:
        try:
            return await answered(request)
        except StoreError:
            return _said(503, "store-unavailable")
        except Exception as error:
            log.exception("fault", extra={"kind": type(error).__name__})
            return _said(500, "fault")

    return endpoint


async def _refused(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    answer = _said(status, {404: "not-found", 405: "not-supported"}.get(status, "refused"))
    if isinstance(error, HTTPException):
        answer.headers.update(error.headers or {})
    return answer


def _said(status: int, word: str, *, checks: Mapping[str, bool] | None = None) -> Response:
    """The one shape of everything here that is not a document."""
    content: dict[str, Any] = {"status": word}
    if checks is not None:
        content["checks"] = dict(checks)
    return Response(msgspec.json.encode(content), status_code=status, media_type=_JSON)


def _index() -> str:
    rows = "".join(f'<tr><td><a href="{path}">{path}</a></td><td>{escape(about)}</td></tr>' for path, about in _LISTED)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>rescue-cds: for operators</title><style>{_STYLE}</style></head>"
        "<body><main><h1>rescue-cds: for operators</h1>"
        "<p>This port is for the people and tools that run the service. Clients have another one.</p>"
        f"<table><tbody>{rows}</tbody></table></main></body></html>\n"
    )


class _Headers:
    """Puts `HEADERS` on every answer, unless the answer has its own."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, sent)
