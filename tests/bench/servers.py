"""The servers of the benchmark, one a process: `python -m tests.bench.servers NAME PORT FOLDER`."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fhir.resources.R4B.bundle import Bundle
from starlette.responses import Response

from app import edge
from app.main import create_app
from app.settings import dev

HOST = "127.0.0.1"


class _Coding(msgspec.Struct, gc=False):
    system: str = ""
    code: str = ""


class _Concept(msgspec.Struct, gc=False):
    coding: tuple[_Coding, ...] = ()


class _Quantity(msgspec.Struct, gc=False):
    value: float | None = None
    unit: str = ""
    code: str = ""
    comparator: str = ""


class _Resource(msgspec.Struct, gc=False, rename="camel"):
    resource_type: str = ""
    id: str = ""
    status: str = ""
    code: _Concept | None = None
    effective_date_time: str = ""
    value_quantity: _Quantity | None = None


class _Entry(msgspec.Struct, gc=False):
    resource: _Resource | None = None


class _Bundle(msgspec.Struct, gc=False, rename="camel"):
    resource_type: str = ""
    entry: tuple[_Entry, ...] = ()


class _Call(msgspec.Struct, gc=False, rename="camel"):
    hook: str
    hook_instance: str
    prefetch: dict[str, msgspec.Raw]


CARD = {
    "summary": "a constant card",
    "indicator": "info",
    "source": {"label": "floor"},
}


def floor() -> FastAPI:
    """FastAPI and msgspec, the wanted fields of every entry, one constant card."""
    app = FastAPI(openapi_url=None)
    calls, bundles = msgspec.json.Decoder(_Call), msgspec.json.Decoder(_Bundle)

    @app.post("/cds-services/{id}")
    async def answer(request: Request, id: str) -> Response:  # noqa: A002
        call = calls.decode(await request.body())
        seen = sum(len(bundles.decode(raw).entry) for raw in call.prefetch.values())
        return Response(msgspec.json.encode({"cards": [CARD], "seen": seen}), media_type="application/json")

    return app


class Validated:
    """This service behind `fhir.resources`, which validates every prefetch Bundle whole."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        body = await Request(scope, receive).body()
        for raw in msgspec.json.decode(body, type=_Call).prefetch.values():
            if b'"Bundle"' in bytes(raw)[:200]:
                Bundle.model_validate_json(bytes(raw))

        async def again() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, again, send)


def main() -> None:
    """Serve until killed."""
    name, port, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    service = None if name == "floor" else create_app(dev(db=f"sqlite+aiosqlite:///{folder}/{name}.db"))
    app: Any = {"floor": floor, "service": lambda: service, "validated": lambda: Validated(service)}[name]()  # type: ignore[arg-type]
    edge.run(edge.server(app, host=HOST, port=port))


if __name__ == "__main__":
    main()
