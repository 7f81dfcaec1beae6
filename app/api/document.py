"""openapi.yaml: generated from the application, committed, compared in a test."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.api import schema

_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z_-]*")
_WORDS: Final = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
"""Keys that a YAML 1.1 reader takes for a value of another type unless they are quoted."""


def openapi(app: FastAPI) -> dict[str, Any]:
    """The document of the public interface; the version of the interface, not of the installation.

    Without FastAPI's own 422: this service never answers it.
    """
    document = get_openapi(
        title=app.title, version="0.1.0", summary=app.summary, description=app.description, routes=app.routes
    )
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
    document["components"] = {"securitySchemes": schema.SCHEMES}
    return document


def as_yaml(value: dict[str, Any]) -> str:
    """YAML without a YAML library: block style, every string in JSON quotes, which YAML 1.2 reads as they are."""
    return "".join(f"{line}\n" for line in _block(value, depth=0))


def _block(value: Any, *, depth: int) -> list[str]:
    pad = "  " * depth
    lines: list[str] = []
    if isinstance(value, dict):
        for key, item in value.items():
            name = key if _PLAIN.fullmatch(key) and key.lower() not in _WORDS else json.dumps(key, ensure_ascii=False)
            if isinstance(item, dict | list) and item:
                lines += [f"{pad}{name}:", *_block(item, depth=depth + 1)]
            else:
                lines.append(f"{pad}{name}: {json.dumps(item, ensure_ascii=False)}")
        return lines
    for item in value:
        if isinstance(item, dict | list) and item:
            block = _block(item, depth=depth + 1)
            lines += [f"{pad}- {block[0].lstrip()}", *block[1:]]
        else:
            lines.append(f"{pad}- {json.dumps(item, ensure_ascii=False)}")
    return lines
