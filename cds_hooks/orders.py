"""The orders that a user is writing: ``draftOrders`` and ``selections`` of the order hooks.

Read leniently, because clients send what they hold while somebody types: a Bundle without ``type``, orders without a
medication, ``category`` as an object, entries without a resource. What an order means is its reader's business; here it
is only found. Missing ``draftOrders`` is refused: there is nothing to answer about (reading 7; the public sandbox does
that when its tab is clicked again).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import msgspec

from . import strict_json
from .errors import BadRequest
from .request import HookRequest

MAX_ORDERS: Final = 1000

_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
_TEXT: Final = msgspec.json.Decoder(str)


class _Resource(msgspec.Struct):
    resource_type: msgspec.Raw = msgspec.field(name="resourceType", default=msgspec.Raw(b"null"))
    id: msgspec.Raw = msgspec.Raw(b"null")


_RESOURCE: Final = msgspec.json.Decoder(_Resource)


@dataclass(frozen=True, slots=True)
class Order:
    """One entry: its type, id and address as sent ('' where there is none), and the whole resource as raw JSON."""

    resource_type: str
    id: str
    raw: bytes = field(repr=False)
    full_url: str = ""

    @property
    def reference(self) -> str:
        """``Type/id``, as ``selections`` names it."""
        return f"{self.resource_type}/{self.id}"


@dataclass(frozen=True, slots=True)
class DraftOrders:
    """Every order of the Bundle in its order; ``selections`` are ``Type/id``, ``None`` when the hook has none."""

    orders: tuple[Order, ...]
    selections: frozenset[str] | None

    @property
    def selected(self) -> tuple[Order, ...]:
        """The orders that were just picked; all of them where nothing says which, or what is said names none."""
        picked = tuple(order for order in self.orders if order.reference in (self.selections or ()))
        return picked or self.orders


def of(request: HookRequest) -> DraftOrders:
    """The draft orders of a call.

    :raises BadRequest: no ``draftOrders``, or one that is no Bundle.
    """
    context = strict_json.members(request.context.raw, name="context")
    raw = context.get("draftOrders")
    if raw is None or raw == b"null":
        raise BadRequest("context.draftOrders must be a Bundle", code="required")
    bundle = strict_json.members(raw, name="context.draftOrders")
    kind = _text(bundle.get("resourceType"))
    if kind not in {"", "Bundle"}:
        raise BadRequest("context.draftOrders must be a Bundle", code="structure")
    entries = _list(bundle.get("entry"), name="context.draftOrders.entry")
    if len(entries) > MAX_ORDERS:
        raise BadRequest(f"context.draftOrders has more than {MAX_ORDERS} entries", code="too-long")
    found = (_order(entry) for entry in entries)
    return DraftOrders(tuple(order for order in found if order is not None), _selections(context.get("selections")))


def _order(entry: bytes) -> Order | None:
    """None for an entry without a resource: a request for a delete, or an empty line of an order form."""
    members = strict_json.members(entry, name="context.draftOrders.entry")
    raw = members.get("resource")
    if raw is None or raw == b"null":
        return None
    try:
        resource = _RESOURCE.decode(raw)
    except msgspec.ValidationError:
        raise BadRequest("context.draftOrders.entry.resource must be a JSON object", code="structure") from None
    return Order(_text(bytes(resource.resource_type)), _text(bytes(resource.id)), raw, _text(members.get("fullUrl")))


def _selections(raw: bytes | None) -> frozenset[str] | None:
    """Some clients send the bare id of a full reference, or a history version; both are the same order."""
    if raw is None or raw == b"null":
        return None
    named = (_text(one) for one in _list(raw, name="context.selections"))
    return frozenset("/".join(name.partition("/_history/")[0].split("/")[-2:]) for name in named if name)


def _list(raw: bytes | None, *, name: str) -> list[bytes]:
    if raw is None or raw == b"null":
        return []
    try:
        return [bytes(one) for one in _LIST.decode(raw)]
    except msgspec.ValidationError:
        raise BadRequest(f"{name} must be a list", code="structure") from None


def _text(raw: bytes | None) -> str:
    if raw is None:
        return ""
    try:
        return _TEXT.decode(raw)
    except msgspec.ValidationError:
        return ""
