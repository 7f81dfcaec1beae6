"""The service as a Device: once as such, and once for each set of versions that decided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from uuid import uuid5

from app.export.elements import NAMESPACE, Json, identifier, reference

SERVICE_ID: Final = str(uuid5(NAMESPACE, "device"))
_NAME: Final = "rescue-cds"
_NOTE: Final = (
    "Clinical decision support about an investigational, off-label, unproven combination. It informs and warns; it is "
    "not a medical device, and it orders nothing."
)


def service() -> Json:
    """Whatever its version: who observed, and who was called."""
    return _device(SERVICE_ID)


def version(versions: Mapping[str, str], *, knowledge_hash: str) -> Json:
    """What decided: service and knowledge by version, and the knowledge files by the hash under which they are kept."""
    parts = [("service", versions.get("service", "")), ("knowledge", versions.get("knowledge", ""))]
    parts.append(("knowledge files, SHA-256", knowledge_hash))
    written = [{"type": {"text": what}, "value": value} for what, value in parts if value]
    found = _device(version_id(versions, knowledge_hash=knowledge_hash))
    return found | {"version": written, "parent": reference("Device", SERVICE_ID)}


def version_id(versions: Mapping[str, str], *, knowledge_hash: str) -> str:
    """The same versions are the same Device, at every site."""
    said = "/".join((versions.get("service", ""), versions.get("knowledge", ""), knowledge_hash))
    return str(uuid5(NAMESPACE, f"device/{said}"))


def _device(id_: str) -> Json:
    return {
        "resourceType": "Device",
        "id": id_,
        "identifier": [identifier(id_)],
        "status": "active",
        "deviceName": [{"name": _NAME, "type": "model-name"}],
        "type": {"text": "Clinical decision support service (software)"},
        "note": [{"text": _NOTE}],
    }
