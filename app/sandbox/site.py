"""The demo's web site: the page that plays the EHR, what it needs to know, and the FHIR sandbox beside it.

The page holds no inline script or style and asks nobody but this site, the CDS service and the FHIR server,
which the content security policy enforces: a card is text from outside, and in a real EHR it is a way in.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp

from app.sandbox import formulary

PAGE = Path(__file__).parent / "page"
_HOST = re.compile(r"([A-Za-z0-9.\-]+|\[[0-9a-f:]+\])(:\d+)?")
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


class Story(Protocol):
    """What the page tells about a patient: a few words in the list, one sentence with the open chart."""

    @property
    def patient_id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def line(self) -> str: ...


def create_site(
    *,
    fhir_app: ASGIApp | None,
    fhir_url: str,
    cds_url: str,
    stories: Sequence[Story] = (),
    statistics: str | None = None,
) -> Starlette:
    """The site as an ASGI application: `/` the page, `/demo.json` its settings, `/fhir` the sandbox if given.

    `fhir_url` and `cds_url` are base addresses as a browser reaches them; `fhir_url` is also the `fhirServer`
    the page names in its requests. Without stories the page lists the patients the FHIR server has. `statistics` is
    where the page links to for what was shown so far.
    Raises ValueError if one of them is no http address.
    """
    demo = {
        "fhir": fhir_url.rstrip("/"),
        "cds": cds_url.rstrip("/"),
        "embedded": fhir_app is not None,
        "stories": [
            {"id": story.patient_id, "name": story.name, "title": story.title, "line": story.line} for story in stories
        ],
        "pad": formulary.pad(),
        "statistics": statistics,
    }
    headers = _headers(fhir_url, cds_url)

    async def settings(_request: Request) -> Response:
        return JSONResponse(demo, headers=headers)

    routes: list[BaseRoute] = [Route("/demo.json", settings)]
    for file in sorted(PAGE.iterdir()):
        if file.suffix in _TYPES:
            path = "/" if file.name == "index.html" else f"/{file.name}"
            routes.append(Route(path, _static(file.read_bytes(), _TYPES[file.suffix], headers)))
    if fhir_app is not None:
        routes.append(Mount("/fhir", fhir_app))
    return Starlette(routes=routes)


def _static(content: bytes, media_type: str, headers: dict[str, str]) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_request: Request) -> Response:
        return Response(content, headers={**headers, "content-type": media_type})

    return answer


def _origin(address: str) -> str:
    """Raises ValueError for what would say something else in a content security policy than one web origin."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not _HOST.fullmatch(parts.netloc):
        raise ValueError("not the address of a web server: write http://host:port/path")
    return f"{parts.scheme}://{parts.netloc}"


def _headers(*addresses: str) -> dict[str, str]:
    origins = sorted({_origin(address) for address in addresses})
    policy = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": " ".join(["'self'", *origins]),
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return {
        "content-security-policy": "; ".join(f"{key} {value}" for key, value in policy.items()),
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cache-control": "no-cache",
    }
