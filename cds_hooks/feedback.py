"""What became of a card: the body of ``POST /cds-services/{id}/feedback`` (CDS Hooks 2.0.1, "Feedback").

Strict about what makes an entry mean something (which card, which outcome), tolerant about the rest: clients send
accepted suggestions without ids, reasons of their own systems without a display, and odd times. One entry that means
nothing refuses the whole batch, so that nothing is stored of what the client has to send again (reading 7).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias

import msgspec

from . import strict_json
from .errors import BadRequest

MAX_ENTRIES: Final = 1000
MAX_ID: Final = 512
MAX_COMMENT: Final = 8192

Outcome: TypeAlias = Literal["accepted", "overridden"]

_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
_TEXT: Final = msgspec.json.Decoder(str)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why a card was overridden: the client's own Coding, whose display may be missing."""

    code: str
    system: str
    display: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The feedback on one card. ``comment`` was typed by a user: it is treated as patient data and never printed.

    ``at`` is in UTC, ``None`` when the client sent no time or none that can be read.
    """

    card: str
    outcome: Outcome
    suggestions: tuple[str, ...] = ()
    reason: Reason | None = None
    comment: str | None = field(default=None, repr=False)
    at: datetime | None = None


def parse(body: bytes) -> tuple[Entry, ...]:
    """The entries of a feedback body, in their order.

    :raises BadRequest: no strict JSON, no list, or one entry without a card id or with no known outcome.
    """
    strict_json.check(body)
    strict_json.duplicate_free(body)
    raw = strict_json.members(body, name="the body").get("feedback")
    if raw is None:
        raise BadRequest("feedback must be a list", code="required")
    entries = _list(raw, name="feedback")
    if len(entries) > MAX_ENTRIES:
        raise BadRequest(f"feedback has more than {MAX_ENTRIES} entries", code="too-long")
    return tuple(_entry(one, name=f"feedback[{number}]") for number, one in enumerate(entries))


def _entry(raw: bytes, *, name: str) -> Entry:
    values = strict_json.members(raw, name=name)
    card = _text(values.get("card"), limit=MAX_ID)
    if not card:
        raise BadRequest(f"{name}.card must be the uuid of a card", code="required")
    reason, comment = _override(values.get("overrideReason"), name=name)
    return Entry(
        card=card,
        outcome=_outcome(_text(values.get("outcome"), limit=MAX_ID), name=name),
        suggestions=_suggestions(values.get("acceptedSuggestions"), name=name),
        reason=reason,
        comment=comment,
        at=_instant(_text(values.get("outcomeTimestamp"), limit=MAX_ID)),
    )


def _outcome(value: str, *, name: str) -> Outcome:
    if value == "accepted":
        return "accepted"
    if value == "overridden":
        return "overridden"
    raise BadRequest(f"{name}.outcome must be accepted or overridden", code="value")


def _suggestions(raw: bytes | None, *, name: str) -> tuple[str, ...]:
    """The ids of accepted suggestions; one without an id says nothing and is left out."""
    if raw is None or raw == b"null":
        return ()
    found = []
    for one in _list(raw, name=f"{name}.acceptedSuggestions"):
        values = strict_json.members(one, name=f"{name}.acceptedSuggestions")
        found.append(_text(values.get("id"), limit=MAX_ID))
    return tuple(dict.fromkeys(filter(None, found)))


def _override(raw: bytes | None, *, name: str) -> tuple[Reason | None, str | None]:
    if raw is None or raw == b"null":
        return None, None
    values = strict_json.members(raw, name=f"{name}.overrideReason")
    comment = _text(values.get("userComment"), limit=MAX_COMMENT, cut=True) or None
    coding = values.get("reason")
    if coding is None or coding == b"null":
        return None, comment
    members = strict_json.members(coding, name=f"{name}.overrideReason.reason")
    code, system, display = (_text(members.get(key), limit=MAX_ID, cut=True) for key in ("code", "system", "display"))
    return (Reason(code=code, system=system, display=display) if code or display else None), comment


def _list(raw: bytes, *, name: str) -> Sequence[bytes]:
    try:
        return [bytes(one) for one in _LIST.decode(raw)]
    except msgspec.ValidationError:
        raise BadRequest(f"{name} must be a list", code="structure") from None


def _text(raw: bytes | None, *, limit: int, cut: bool = False) -> str:
    """A string, '' for what is none or too long; ``cut`` keeps the beginning of a long one."""
    if raw is None:
        return ""
    try:
        value = _TEXT.decode(raw).strip()
    except msgspec.ValidationError:
        return ""
    if len(value) <= limit:
        return value
    return value[:limit] if cut else ""


def _instant(value: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return None
