"""What the service offers, for ``GET {base}/cds-services``. Holds no patient data and no state."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from .prefetch import validate_template

_ID: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_HOOK: Final = re.compile(r"[a-z][a-z0-9]*(?:[.-][a-z0-9]+)*")
_KEY: Final = re.compile(r"[A-Za-z0-9-]+")
_VERSION: Final = re.compile(r"\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?")
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One entry. ``version`` is the version of CDS Hooks it speaks (3.0 ballot, ignored by older clients).

    :raises ValueError: an id or key that clients cannot use, an empty text, a template outside the subset.
    """

    id: str
    hook: str
    title: str
    description: str
    prefetch: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    usage_requirements: str | None = None
    version: str = "2.0.1"

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise ValueError(f"service id {self.id!r} must be letters, digits, dot, dash or underscore")
        if not _HOOK.fullmatch(self.hook):
            raise ValueError(f"{self.hook!r} is no hook name")
        for name in ("title", "description"):
            if not getattr(self, name).strip():
                raise ValueError(f"service {self.id} needs a {name}")
        if self.usage_requirements is not None and not self.usage_requirements.strip():
            raise ValueError(f"service {self.id}: usage requirements are either a text or absent")
        if not _VERSION.fullmatch(self.version):
            raise ValueError(f"service {self.id}: {self.version!r} is no version of the standard")
        for key, template in self.prefetch.items():
            if not _KEY.fullmatch(key):
                raise ValueError(f"service {self.id}: prefetch key {key!r} must be letters, digits or dashes")
            validate_template(template)

    def to_json(self) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "hook": self.hook,
            "title": self.title,
            "description": self.description,
            "id": self.id,
            "version": self.version,
        }
        if self.prefetch:
            entry["prefetch"] = dict(self.prefetch)
        if self.usage_requirements is not None:
            entry["usageRequirements"] = self.usage_requirements
        return entry


def document(services: Iterable[Service]) -> dict[str, Any]:
    """The discovery answer.

    :raises ValueError: the same id twice for one hook.
    """
    entries = list(services)
    if len({(service.id, service.hook) for service in entries}) != len(entries):
        raise ValueError("two services have the same id and hook")
    return {"services": [service.to_json() for service in entries]}
