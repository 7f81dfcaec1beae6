"""RequestGroup: the cards of an answer, told as they were shown.

Profile: FHIR R4 `cdshooksrequestgroup` (knowledge: security 4.3); card -> action, suggestion -> action of the action,
indicator -> priority. `intent` is `proposal` and `status` `draft`, as in the drafts of a suggestion: nobody has
authorised anything, and nothing may carry it out. `completed` would say that what is proposed has been done, which
nobody here knows, and `active` that it may be.

The drafts of the suggestions are not in it, only what was said about them: an archive shall not hold something that
another system could take up as an order. Their bytes are in the record, under the decision's id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from app.export import device, names
from app.export.elements import FHIR, HL7, Json, absent, coding, identifier, instant, reference
from app.export.rows import Card, Made

PROFILE: Final = f"{FHIR}/cdshooksrequestgroup"
PRIORITIES: Final[Mapping[str, str]] = {"info": "routine", "warning": "urgent", "critical": "stat"}
"""Indicator of a card -> priority, the least first: the concept map of HL7's CDS Hooks guide for clinical reasoning."""

_NOTE: Final = (
    "What was shown to a clinician, in the words in which it was shown. It is about an investigational, off-label, "
    "unproven combination. Nothing here is an order or authorises one."
)
_REMOVED: Final = "The words were removed with the patient's data."
_TYPES: Final[Mapping[str, Json]] = {
    name: {"coding": [coding(f"{HL7}/action-type", code, display)]}
    for name, code, display in (
        ("create", "create", "Create"),
        ("update", "update", "Update"),
        ("delete", "remove", "Remove"),
    )
}


def shown(made: Made) -> Json | None:
    """The RequestGroup of a decision that showed cards."""
    if not made.cards:
        return None
    written = _answer(made)
    found: Json = {
        "resourceType": "RequestGroup",
        "id": names.cards(made),
        "meta": {"profile": [PROFILE]},
        "identifier": [identifier(names.cards(made))],
        "instantiatesUri": [names.module(made)],
        "status": "draft",
        "intent": "proposal",
        "priority": _highest(card.indicator for card in made.cards),
        "authoredOn": instant(made.created_at),
        "author": reference("Device", device.version_id(made.versions, knowledge_hash=made.knowledge_hash)),
        "note": [{"text": _NOTE}],
        "action": [_card(card, written=written.get(card.uuid)) for card in made.cards],
    }
    return found | names.about(made)


def _answer(made: Made) -> Mapping[str, Mapping[str, Any]]:
    """The cards as they were sent, by uuid. None when the answer has been removed, or cannot be read."""
    if made.answer is None:
        return {}
    try:
        cards = msgspec.json.decode(made.answer).get("cards", [])
        return {card["uuid"]: card for card in cards if "uuid" in card}
    except (msgspec.MsgspecError, UnicodeError, AttributeError, TypeError, KeyError):
        return {}


def _highest(indicators: Iterable[str]) -> str:
    order = list(PRIORITIES.values())
    return max((PRIORITIES.get(one, order[0]) for one in indicators), key=order.index)


def _card(card: Card, *, written: Mapping[str, Any] | None) -> Json:
    action: Json = {
        "id": card.uuid,
        "title": _REMOVED,
        "priority": PRIORITIES.get(card.indicator, "routine"),
        "code": [{"text": card.name}],
    }
    if written is None:
        return action | _offered([_removed(uuid) for uuid in card.suggestions])
    action["title"] = written["summary"]
    if written.get("detail"):
        action["description"] = written["detail"]
    action["documentation"] = list(_documentation(written))
    if behaviour := written.get("selectionBehavior"):
        action["selectionBehavior"] = behaviour
    return action | _offered([_suggestion(one) for one in written.get("suggestions", ())])


def _offered(suggestions: Sequence[Json]) -> Json:
    """R4 rqg-1: an action has actions of its own or a resource. A card that offers nothing has nothing to name."""
    if suggestions:
        return {"action": list(suggestions)}
    return {"resource": absent("not-applicable") | {"display": "this card offers nothing to do"}}


def _removed(uuid: str) -> Json:
    return {"id": uuid, "title": _REMOVED, "resource": absent("masked") | {"display": "what was offered"}}


def _suggestion(written: Mapping[str, Any]) -> Json:
    action: Json = ({"id": written["uuid"]} if written.get("uuid") else {}) | {"title": written["label"]}
    steps = [_step(step) for step in written.get("actions", ())]
    if len(steps) == 1:
        return action | steps[0]
    return action | _offered(steps)


def _step(written: Mapping[str, Any]) -> Json:
    """What would be done, in words, and to which kind of resource."""
    kind = (written.get("resource") or {}).get("resourceType") or str(written.get("resourceId", "")).partition("/")[0]
    named: Json = absent("masked") | {"display": "a draft, kept in the record of the decision alone"}
    return {
        "description": written["description"],
        "type": _TYPES[written["type"]],
        "resource": named | ({"type": kind} if kind else {}),
    }


def _documentation(written: Mapping[str, Any]) -> Iterable[Json]:
    source = written["source"]
    yield {"type": "documentation", "display": source["label"]} | ({"url": source["url"]} if "url" in source else {})
    for link in written.get("links", ()):
        yield {"type": "citation", "display": link["label"], "url": link["url"]}
