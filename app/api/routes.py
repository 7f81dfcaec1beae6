"""The HTTP edge of CDS Hooks: discovery, hook calls, and what the service rests on. No decision is taken here."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import msgspec
from fastapi import APIRouter, Path, Request
from starlette.responses import PlainTextResponse, Response

from app import attributes
from app.api import body, schema
from app.names import SERVICES
from app.observe.metrics import Metrics
from app.places import Places
from app.service import HookService
from app.store.errors import StoreError
from app.trust import Door
from cds_hooks import discovery
from cds_hooks.errors import CdsHooksError, Unauthorized, operation_outcome

log = logging.getLogger(__name__)
JSON = "application/json"
DISCOVERY = "/cds-services"
_UNPROVEN = {"www-authenticate": "Bearer"}
"""The same for everybody who cannot prove who he is, whatever is wrong (RFC 9110 asks for it)."""

_ENDS = frozenset({408})
"""The rest of the body is not waited for. After other early answers it is read and thrown away for a few seconds
(`app/edge.py`): a connection that is closed at once takes the answer with it."""


def router(service: HookService, *, door: Door, places: Places, metrics: Metrics) -> APIRouter:
    """The routes of one service. A trailing slash is the same resource, without a redirect that would lose a body."""
    routes = APIRouter()
    documents = {
        services: _document(service, services)
        for services in {frozenset(SERVICES), *(client.services for client in service.settings.clients)}
    }
    sheet = msgspec.json.encode(service.bedside.attributes)
    sheet_as_text = attributes.text(service.bedside.attributes)

    async def discover(request: Request) -> Response:
        async def answered() -> Response:
            if service.settings.open_discovery:
                return Response(documents[frozenset(SERVICES)], media_type=JSON)
            caller = await door.caller(request.scope["headers"], path=DISCOVERY)
            return Response(documents[caller.services], media_type=JSON)

        return await guarded(answered, fault=metrics.fault)

    async def source_attributes(request: Request) -> Response:
        if _asks_for_text(request.headers.get("accept", "")):
            return PlainTextResponse(sheet_as_text, headers={"vary": "accept"})
        return Response(sheet, media_type=JSON, headers={"vary": "accept"})

    async def source_attributes_as_text() -> Response:
        return PlainTextResponse(sheet_as_text)

    async def call(request: Request, id: str) -> Response:  # noqa: A002  (the standard's name)
        begun = time.perf_counter()
        client = outcome = ""

        async def answered() -> Response:
            nonlocal client, outcome
            caller = await door.caller(request.scope["headers"], path=f"{DISCOVERY}/{id}", service=_known(id))
            client = caller.client
            service.require(id)
            received = await body.read(request, limits=service.settings.body)
            async with places.taking(caller.tenant.name):  # only from here: a slow sender takes nobody's place
                answer = await service.answer(id, received, caller=caller)
            outcome = answer.outcome
            return Response(answer.body, status_code=answer.status, media_type=JSON)

        answer = await guarded(answered, fault=metrics.fault)
        seconds = time.perf_counter() - begun
        metrics.answered(service=id, client=client, outcome=outcome, status=answer.status_code, seconds=seconds)
        return answer

    async def take_feedback(request: Request, id: str) -> Response:  # noqa: A002
        async def answered() -> Response:
            path = f"{DISCOVERY}/{id}/feedback"
            caller = await door.caller(request.scope["headers"], path=path, service=_known(id))
            service.require(id)
            received = await body.read(request, limits=service.settings.body)
            await service.feedback(id, received, caller=caller)
            return Response(b"{}", media_type=JSON)

        return await guarded(answered, fault=metrics.fault)

    described: dict[int | str, dict[str, Any]] = {
        200: {"description": "the services", "content": schema.json_content(schema.DISCOVERY)},
        **schema.refusals(401, 403),
    }
    for path in (DISCOVERY, f"{DISCOVERY}/"):
        shown = not path.endswith("/")
        routes.add_api_route(
            path,
            discover,
            methods=["GET", "HEAD"] if not shown else ["GET"],
            summary="Discovery",
            operation_id="discovery" if shown else None,
            include_in_schema=shown,
            responses=described,
            openapi_extra=schema.SECURITY,
        )
    routes.add_api_route(DISCOVERY, discover, methods=["HEAD"], include_in_schema=False)
    attributes_described: dict[int | str, dict[str, Any]] = {
        200: {
            "description": "what the service rests on, as JSON; as text where the client asks for text",
            "content": schema.json_content(schema.ATTRIBUTES) | schema.TEXT_CONTENT,
        }
    }
    for path in (attributes.PATH, f"{attributes.PATH}/"):
        shown = not path.endswith("/")
        routes.add_api_route(
            path,
            source_attributes,
            methods=["GET"],
            summary="Source attributes",
            operation_id="sourceAttributes" if shown else None,
            include_in_schema=shown,
            responses=attributes_described,
        )
        routes.add_api_route(path, source_attributes, methods=["HEAD"], include_in_schema=False)
    routes.add_api_route(
        f"{attributes.PATH}.txt",
        source_attributes_as_text,
        methods=["GET"],
        summary="Source attributes as text",
        operation_id="sourceAttributesAsText",
        response_class=PlainTextResponse,
        responses={200: {"description": "the same for a reader", "content": schema.TEXT_CONTENT}},
    )
    routes.add_api_route(f"{attributes.PATH}.txt", source_attributes_as_text, methods=["HEAD"], include_in_schema=False)
    answers: dict[int | str, dict[str, Any]] = {
        200: {"description": "cards, or which silence it is", "content": schema.json_content(schema.RESPONSE)}
    }
    for path in ("/cds-services/{id}", "/cds-services/{id}/"):
        shown = not path.endswith("/")
        routes.add_api_route(
            path,
            _with_path(call),
            methods=["POST"],
            summary="Call a hook",
            operation_id="call" if shown else None,
            include_in_schema=shown,
            responses=answers | schema.refusals(400, 401, 403, 404, 408, 412, 413, 415, 431, 500, 503),
            openapi_extra=schema.SECURITY
            | {"requestBody": {"required": True, "content": schema.json_content(schema.REQUEST)}},
        )
    kept: dict[int | str, dict[str, Any]] = {200: {"description": "kept", "content": schema.json_content(schema.EMPTY)}}
    for path in ("/cds-services/{id}/feedback", "/cds-services/{id}/feedback/"):
        shown = not path.endswith("/")
        routes.add_api_route(
            path,
            _with_path(take_feedback),
            methods=["POST"],
            summary="What became of cards",
            operation_id="feedback" if shown else None,
            include_in_schema=shown,
            responses=kept | schema.refusals(400, 401, 403, 404, 408, 413, 415, 431, 500, 503),
            openapi_extra=schema.SECURITY
            | {"requestBody": {"required": True, "content": schema.json_content(schema.FEEDBACK)}},
        )
    return routes


def _document(service: HookService, services: frozenset[str]) -> bytes:
    """Discovery, of what a caller may call."""
    return msgspec.json.encode(discovery.document([one for one in service.descriptions if one.id in services]))


def _known(id_: str) -> str:
    """The service's id, or '' for what somebody wrote in its place."""
    return id_ if id_ in SERVICES else ""


def _asks_for_text(accept: str) -> bool:
    """A browser, which a card's source opens in, asks for text/html: its reader is a person."""
    return "text/" in accept.lower() and "json" not in accept.lower()


def _with_path(call: Callable[[Request, str], Awaitable[Response]]) -> Callable[..., Awaitable[Response]]:
    async def endpoint(request: Request, id: str = Path(description="a service id of discovery")) -> Response:  # noqa: A002
        return await call(request, id)

    return endpoint


async def guarded(answered: Callable[[], Awaitable[Response]], *, fault: Callable[[], None]) -> Response:
    """One error shape for everything: an OperationOutcome that never repeats what was sent. `fault` is told of ours."""
    try:
        return await answered()
    except Unauthorized:
        return Response(status_code=401, headers=_UNPROVEN)
    except CdsHooksError as error:
        return refusal(error.status, error.code, error.message)
    except StoreError:
        return refusal(503, "transient", "the decision could not be recorded, so nothing is answered: try again")
    except Exception as error:  # the last resort: a fault of ours is an answer, never an empty list
        correlation = str(uuid4())
        fault()
        log.exception("fault", extra={"correlation": correlation, "kind": type(error).__name__})
        return refusal(500, "exception", "a fault of this service; nothing was evaluated", correlation)


def refusal(status: int, code: str, message: str, correlation: str | None = None) -> Response:
    """The answer to a call that gets no cards."""
    headers = {"retry-after": "1"} if status == 503 else {"connection": "close"} if status in _ENDS else None
    content = msgspec.json.encode(operation_outcome(code, message, correlation))
    return Response(content, status_code=status, media_type=JSON, headers=headers)
