"""The length that a client declares is what it says, or nothing at all."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.requests import Request

from app.api import body
from app.settings import BodyLimits
from cds_hooks.errors import TooLarge


def asked(length: bytes) -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    return Request({"type": "http", "method": "POST", "headers": [(b"content-length", length)]}, receive)


@pytest.mark.parametrize("length", [b"2", b"", b"-1", b"1e9", b"\xb2", b"\xb3\xb9", b"9\xb2", b"\xe9", b" 2"])
async def test_what_is_no_length_is_ignored(length: bytes) -> None:
    """A superscript two is a digit to Python, and no number."""
    assert await body.read(asked(length), limits=BodyLimits()) == b"{}"


@pytest.mark.parametrize("length", [b"33554433", b"9" * 13, b"9" * 6000])
async def test_too_much_is_refused_before_it_comes(length: bytes) -> None:
    with pytest.raises(TooLarge):
        await body.read(asked(length), limits=BodyLimits())
