"""Cards that cannot be built against the standard (CDS Hooks 2.0.1, "CDS Service Response").

A client answers an invalid card by dropping it or the whole answer, silently; so every rule is checked where
the card is made, in our own tests, and not where it is read. All constructors raise ``ValueError``.

No ``systemActions`` and no ``autolaunchable``: both act without a person, which this service never does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import msgspec

MAX_SUMMARY: Final = 139

Indicator = Literal["info", "warning", "critical"]
SelectionBehavior = Literal["at-most-one", "any"]
ActionType = Literal["create", "update", "delete"]
LinkType = Literal["absolute", "smart"]

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:[\x21-\x7e]+")
_REFERENCE: Final = re.compile(r"[A-Z][A-Za-z]+/[A-Za-z0-9.\-]+")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]")
_CONTROL_IN_BLOCK: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
# Every member of every card is asked: being a dict is answered at once, being some Mapping is not.
_OBJECTS: Final = (dict, Mapping)
_LISTS: Final = (list, tuple)
_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")


@dataclass(frozen=True, slots=True, kw_only=True)
class Coding:
    code: str
    system: str
    display: str | None = None

    def __post_init__(self) -> None:
        _require_line(self.code, name="code")
        if not _URI.fullmatch(self.system):
            raise ValueError("a coding needs a system that is an absolute URI")
        if self.display is not None:
            _require_line(self.display, name="display")

    def to_json(self) -> dict[str, Any]:
        coding = {"code": self.code, "system": self.system}
        if self.display is not None:
            coding["display"] = self.display
        return coding


@dataclass(frozen=True, slots=True, kw_only=True)
class OverrideReason:
    """A Coding whose display is required: it is what the clinician picks from."""

    code: str
    system: str
    display: str

    def __post_init__(self) -> None:
        Coding(code=self.code, system=self.system, display=self.display)

    def to_json(self) -> dict[str, Any]:
        return {"code": self.code, "system": self.system, "display": self.display}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Who says it. ``url`` is about the organisation or the evidence; ``icon`` is a PNG of 100 x 100 pixels."""

    label: str
    url: str | None = None
    icon: str | None = None
    topic: Coding | None = None

    def __post_init__(self) -> None:
        _require_line(self.label, name="source.label")
        for url in (self.url, self.icon):
            if url is not None:
                _require_url(url)

    def to_json(self) -> dict[str, Any]:
        source: dict[str, Any] = {"label": self.label}
        if self.url is not None:
            source["url"] = self.url
        if self.icon is not None:
            source["icon"] = self.icon
        if self.topic is not None:
            source["topic"] = self.topic.to_json()
        return source


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """``app_context`` reaches a SMART app in its launch, so a plain link has none."""

    label: str
    url: str
    type: LinkType
    app_context: str | None = None

    def __post_init__(self) -> None:
        _require_line(self.label, name="link.label")
        _require_url(self.url)
        _require_one_of(self.type, values=("absolute", "smart"), name="link.type")
        if self.app_context is not None:
            if self.type != "smart":
                raise ValueError("appContext belongs to smart links only")
            if not self.app_context or _CONTROL_IN_BLOCK.search(self.app_context):
                raise ValueError("appContext must be a non-empty text without control characters")

    def to_json(self) -> dict[str, Any]:
        link = {"label": self.label, "url": self.url, "type": self.type}
        if self.app_context is not None:
            link["appContext"] = self.app_context
        return link


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """``create`` and ``update`` carry the whole FHIR resource, ``delete`` a relative reference and nothing else.

    The resource is only checked to be JSON with a ``resourceType``; its FHIR validity is its builder's.
    """

    type: ActionType
    description: str
    resource: Mapping[str, Any] | None = field(default=None, repr=False)
    resource_id: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        _require_one_of(self.type, values=("create", "update", "delete"), name="action.type")
        _require_line(self.description, name="action.description")
        if self.type == "delete":
            if self.resource is not None or self.resource_id is None:
                raise ValueError("a delete action has a resourceId and no resource")
            if not _REFERENCE.fullmatch(self.resource_id):
                raise ValueError("resourceId must be a relative reference, Type/id")
            return
        if self.resource is None or self.resource_id is not None:
            raise ValueError(f"a {self.type} action has a resource and no resourceId")
        if not _is_text(self.resource.get("resourceType")):
            raise ValueError("the resource of an action needs a resourceType")
        if self.type == "update" and not _is_text(self.resource.get("id")):
            raise ValueError("the resource of an update needs its id")
        _require_json(self.resource)

    def to_json(self) -> dict[str, Any]:
        action: dict[str, Any] = {"type": self.type, "description": self.description}
        if self.resource is not None:
            action["resource"] = dict(self.resource)
        if self.resource_id is not None:
            action["resourceId"] = self.resource_id
        return action


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """All ``actions`` apply together; without ``uuid`` a client cannot report its acceptance."""

    label: str
    uuid: str | None = None
    is_recommended: bool = False
    actions: tuple[Action, ...] = ()

    def __post_init__(self) -> None:
        _require_line(self.label, name="suggestion.label")
        _require_uuid(self.uuid)

    def to_json(self) -> dict[str, Any]:
        suggestion: dict[str, Any] = {"label": self.label}
        if self.uuid is not None:
            suggestion["uuid"] = self.uuid
        if self.is_recommended:
            suggestion["isRecommended"] = True
        if self.actions:
            suggestion["actions"] = [action.to_json() for action in self.actions]
        return suggestion


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """``summary`` is one line of plain text, ``detail`` GitHub-flavoured markdown (see :mod:`.markdown`).

    ``extension`` names are reverse DNS. Members without value are left out of it on the wire.
    """

    summary: str
    indicator: Indicator
    source: Source
    detail: str | None = field(default=None, repr=False)
    uuid: str | None = None
    suggestions: tuple[Suggestion, ...] = ()
    selection_behavior: SelectionBehavior | None = None
    override_reasons: tuple[OverrideReason, ...] = ()
    links: tuple[Link, ...] = ()
    extension: Mapping[str, Any] = field(default_factory=lambda: _NOTHING, repr=False)

    def __post_init__(self) -> None:
        _require_line(self.summary, name="summary")
        if len(self.summary) > MAX_SUMMARY:
            raise ValueError(f"summary has {len(self.summary)} characters; the most is {MAX_SUMMARY}")
        _require_one_of(self.indicator, values=("info", "warning", "critical"), name="indicator")
        if self.detail is not None and (not self.detail.strip() or _CONTROL_IN_BLOCK.search(self.detail)):
            raise ValueError("detail must be a text without control characters, or absent")
        _require_uuid(self.uuid)
        self._check_suggestions()
        _require_extension(self.extension)

    def _check_suggestions(self) -> None:
        if not self.suggestions:
            if self.selection_behavior is not None:
                raise ValueError("selectionBehavior without suggestions")
            return
        if self.selection_behavior is None:
            raise ValueError("suggestions need a selectionBehavior")
        _require_one_of(self.selection_behavior, values=("at-most-one", "any"), name="selectionBehavior")
        recommended = sum(suggestion.is_recommended for suggestion in self.suggestions)
        if self.selection_behavior == "at-most-one" and recommended > 1:
            raise ValueError("at-most-one allows one recommended suggestion")
        _require_distinct(suggestion.uuid for suggestion in self.suggestions)

    def to_json(self) -> dict[str, Any]:
        card: dict[str, Any] = {} if self.uuid is None else {"uuid": self.uuid}
        card["summary"] = self.summary
        if self.detail is not None:
            card["detail"] = self.detail
        card["indicator"] = self.indicator
        card["source"] = self.source.to_json()
        if self.suggestions:
            card["suggestions"] = [suggestion.to_json() for suggestion in self.suggestions]
            card["selectionBehavior"] = self.selection_behavior
        if self.override_reasons:
            card["overrideReasons"] = [reason.to_json() for reason in self.override_reasons]
        if self.links:
            card["links"] = [link.to_json() for link in self.links]
        extension = _pruned(self.extension)
        if extension:
            card["extension"] = extension
        return card


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """The answer to one hook call. ``cards`` is always sent, an empty list for "nothing to say"."""

    cards: tuple[Card, ...] = ()
    extension: Mapping[str, Any] = field(default_factory=lambda: _NOTHING, repr=False)

    def __post_init__(self) -> None:
        _require_distinct(card.uuid for card in self.cards)
        _require_extension(self.extension)

    def to_json(self) -> dict[str, Any]:
        response: dict[str, Any] = {"cards": [card.to_json() for card in self.cards]}
        extension = _pruned(self.extension)
        if extension:
            response["extension"] = extension
        return response


def encode(response: Response) -> bytes:
    """JSON bytes. A ``Decimal`` is a number with its digits as they are: 0.50 stays 0.50."""
    return _ENCODER.encode(response.to_json())


def _require_line(value: str, *, name: str) -> None:
    if not value.strip() or _CONTROL.search(value):
        raise ValueError(f"{name} must be one line of text without control characters")


def _require_one_of(value: str, *, values: tuple[str, ...], name: str) -> None:
    if value not in values:
        raise ValueError(f"{name} must be one of {', '.join(values)}")


def _require_uuid(value: str | None) -> None:
    if value is not None and not _UUID.fullmatch(value):
        raise ValueError("uuid must be a lower-case UUID")


def _require_distinct(uuids: Iterable[str | None]) -> None:
    given = [uuid for uuid in uuids if uuid is not None]
    if len(set(given)) != len(given):
        raise ValueError("the same uuid twice: feedback could not be told apart")


def _require_url(value: str) -> None:
    parts = urlsplit(value)  # raises ValueError itself for a broken host
    if not _URI.fullmatch(value) or parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError("a URL in a card must be absolute, https or http")


def _require_extension(extension: Mapping[str, Any]) -> None:
    _require_json(extension)
    for name in extension:
        if "." not in name:
            raise ValueError("an extension name must be reverse DNS, such as org.example.evidence")


def _require_json(value: object) -> None:
    """msgspec would write NaN as null or as no JSON at all, and fail on a lone surrogate half-way."""
    if isinstance(value, str):
        valid = value.isprintable() or not _CONTROL_IN_BLOCK.search(value.replace("\r", ""))
    elif isinstance(value, _OBJECTS):
        for name, member in value.items():
            _require_json(member)
            if not isinstance(name, str):
                raise ValueError("names in JSON are strings")  # noqa: TRY004 - every refusal here is one type
            _require_json(name)
        valid = True
    elif isinstance(value, _LISTS):
        for item in value:
            _require_json(item)
        valid = True
    elif isinstance(value, float):
        valid = math.isfinite(value)
    elif isinstance(value, Decimal):
        valid = value.is_finite()
    else:
        valid = value is None or isinstance(value, int)
    if not valid:
        raise ValueError("a card holds a value that JSON does not have")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _pruned(value: Mapping[str, Any]) -> dict[str, Any]:
    """Without null, "", [] and {}: the standard forbids members that have no value."""
    kept = {}
    for name, member in value.items():
        inner = _pruned_value(member)
        if inner is not None and inner not in ("", [], {}):
            kept[name] = inner
    return kept


def _pruned_value(value: object) -> object:
    if isinstance(value, str):
        return value
    if isinstance(value, _OBJECTS):
        return _pruned(value)
    if isinstance(value, _LISTS):
        return [_pruned_value(item) for item in value]
    return value
