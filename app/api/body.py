"""Reads a request body within its limits, before anything parses it (reading 7)."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request

from app.settings import BodyLimits
from cds_hooks.errors import BadRequest, Timeout, TooLarge, UnsupportedMedia


async def read(request: Request, *, limits: BodyLimits) -> bytes:
    """The whole body. Raises UnsupportedMedia, TooLarge, Timeout, BadRequest."""
    media = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media != "application/json" and not (media.startswith("application/") and media.endswith("+json")):
        raise UnsupportedMedia("Content-Type must be application/json")
    if request.headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}:
        raise UnsupportedMedia("a Content-Encoding is not supported: send the body as it is")
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and (len(declared) > 12 or int(declared) > limits.bytes):
        raise TooLarge("the body is larger than this service accepts")
    try:
        async with asyncio.timeout(limits.seconds):
            return await _collect(request, limit=limits.bytes)
    except TimeoutError:
        raise Timeout("the body did not arrive in time") from None
    except ClientDisconnect:
        raise BadRequest("the body ended early") from None


async def _collect(request: Request, *, limit: int) -> bytes:
    received = bytearray()
    async for chunk in request.stream():
        received += chunk
        if len(received) > limit:
            raise TooLarge("the body is larger than this service accepts")
    return bytes(received)
