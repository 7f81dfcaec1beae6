"""What CDS Hooks 2.0.1 and FHIR R4 ask of an answer, written from the specification and not from this service.

Each check returns complaints in words; no complaint, no violation. It shares no code with `cds_hooks`, so that a rule
that was understood wrongly there is not understood wrongly here too.
"""

from __future__ import annotations

import json
import math
import re
import uuid
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

from fhir.resources.R4B.medicationrequest import MedicationRequest

INDICATORS = {"info", "warning", "critical"}
HOOK_TYPES = {"create", "update", "delete"}
TOKENS = {
    *("context.patientId", "context.userId", "context.encounterId"),
    *("userPractitionerId", "userPractitionerRoleId", "userPatientId", "userRelatedPersonId"),
}
"""What the hooks patient-view, order-select and order-sign mark "Prefetch Token: Yes", and the four of the user."""
CHANGES = {"dosageInstruction", "dispenseRequest", "note", "text"}
"""What an update of a draft may change: dose, duration, and the words about them. Never drug, patient or state."""


def response(body: bytes) -> list[str]:
    """Complaints about the body of a 200 to a hook call."""
    try:
        answer = json.loads(body.decode("utf-8"), parse_constant=float)
    except ValueError:
        return ["the body is not JSON"]
    if not isinstance(answer, dict):
        return ["the body is not an object"]
    return list(_response(answer))


def order_response(body: bytes, *, patient: str, drafts: Iterable[Any]) -> list[str]:
    """Complaints about the body of a 200 to an order hook: of that patient, with those resources as draft orders."""
    found = response(body)
    if found == ["the body is not JSON"]:
        return found
    named = [(f"{draft.get('resourceType')}/{draft.get('id')}", draft) for draft in drafts if isinstance(draft, dict)]
    names = [name for name, _ in named]
    sent = {name: draft for name, draft in named if names.count(name) == 1}  # what two orders are called names neither
    for card in json.loads(body).get("cards", ()):
        for suggestion in card.get("suggestions", ()):
            for action in suggestion.get("actions", ()):
                found += _action_on_draft(action, patient=patient, sent=sent)
    return found


def feedback(body: bytes) -> list[str]:
    """Complaints about the body of a 200 to feedback. The standard gives it none; an object without nulls is JSON."""
    answer = json.loads(body)
    if not isinstance(answer, dict):
        return ["the body is not an object"]
    return [complaint for value in answer.values() for complaint in _values(value, "feedback")]


def discovery(body: bytes) -> list[str]:
    """Complaints about the body of GET cds-services."""
    answer = json.loads(body)
    services = answer.get("services")
    if not isinstance(services, list):
        return ["services is not an array"]
    found = [*_values(answer, "discovery")]
    for service in services:
        names = ("hook", "id", "description")
        found += [f"a service has no {name}" for name in names if not _text(service.get(name))]
        if not _text(service.get("title", "-")) or not _text(service.get("usageRequirements", "-")):
            found.append("title and usageRequirements are texts when they are there")
        templates = service.get("prefetch", {})
        if not all(_text(key) and _text(value) for key, value in templates.items()):
            found.append("prefetch is a map of texts")
        if not all(re.fullmatch(r"[A-Za-z0-9-]+", key) for key in templates):
            found.append("a prefetch key is no code")
        tokens = {token for value in templates.values() for token in re.findall(r"\{\{\s*(.*?)\s*\}\}", str(value))}
        if tokens - TOKENS:
            found.append(f"no prefetch tokens: {sorted(tokens - TOKENS)}")
        if unknown := set(service) - {
            *("hook", "id", "description", "title", "prefetch", "usageRequirements", "version", "extension"),
        }:
            found.append(f"unknown members of a service: {sorted(unknown)}")
    ids = [(service.get("hook"), service.get("id")) for service in services]
    if len(set(ids)) != len(ids):
        found.append("two services of one hook and id")
    return found


def outcome(body: bytes) -> list[str]:
    """Complaints about the body of a refusal: an R4 OperationOutcome with at least one error."""
    answer = json.loads(body)
    found = []
    if answer.get("resourceType") != "OperationOutcome" or not answer.get("issue"):
        found.append("not an OperationOutcome")
    for issue in answer.get("issue", ()):
        if issue.get("severity") not in {"fatal", "error"} or not _text(issue.get("code")):
            found.append("an issue without severity or code")
        if not _text(issue.get("diagnostics")):
            found.append("an issue that says nothing")
    return found


def _response(answer: dict[str, Any]) -> Iterator[str]:
    cards = answer.get("cards")
    if not isinstance(cards, list):
        yield "cards is not an array"
        return
    if unknown := set(answer) - {"cards", "extension"}:
        yield f"members this service must not send: {sorted(unknown)}"
    for name in answer.keys() - {"cards"}:
        yield from _values(answer[name], f"response.{name}")
    yield from _extension(answer, "response")
    for card in cards:
        yield from _values(card, "card")
        yield from _card(card)
    uuids = [card.get("uuid") for card in cards] + [s.get("uuid") for c in cards for s in c.get("suggestions", ())]
    if len(set(uuids)) != len(uuids):
        yield "one uuid twice"


def _values(value: Any, where: str) -> Iterator[str]:
    """Never null, an empty text, an empty array or object; numbers finite; no NUL and no half of a surrogate pair."""
    if value is None or value == "" or value in ([], {}):
        yield f"{where}: a member without value"
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _values(item, f"{where}.{name}")
    elif isinstance(value, list):
        for item in value:
            yield from _values(item, where)
    elif isinstance(value, str):
        if re.search(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", value):
            yield f"{where}: a control character"
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{where}: no JSON number"


def _extension(holder: dict[str, Any], where: str) -> Iterator[str]:
    extension = holder.get("extension", {"org.example": 1})
    if not isinstance(extension, dict) or not all("." in name for name in extension):
        yield f"{where}: extension is an object with globally unique names"


def _card(card: dict[str, Any]) -> Iterator[str]:
    summary = card.get("summary")
    if not _text(summary) or len(str(summary)) >= 140 or "\n" in str(summary):
        yield "summary is one line below 140 characters"
    if card.get("indicator") not in INDICATORS:
        yield "indicator"
    if not _uuid(card.get("uuid")):
        yield "a card without uuid gets no feedback"
    if "detail" in card and not _text(card["detail"]):
        yield "detail is a text"
    if unknown := set(card) - {
        *("uuid", "summary", "detail", "indicator", "source", "suggestions", "selectionBehavior"),
        *("overrideReasons", "links", "extension"),
    }:
        yield f"unknown members of a card: {sorted(unknown)}"
    yield from _extension(card, "card")
    yield from _source(card.get("source"))
    for reason in card.get("overrideReasons", ()):
        yield from _coding(reason, "overrideReasons", display=True)
    for link in card.get("links", ()):
        yield from _link(link)
    suggestions = card.get("suggestions")
    if suggestions is None:
        if "selectionBehavior" in card:
            yield "selectionBehavior without suggestions"
        return
    if card.get("selectionBehavior") not in {"any", "at-most-one"}:
        yield "suggestions without selectionBehavior"
    recommended = [s for s in suggestions if s.get("isRecommended")]
    if card.get("selectionBehavior") == "at-most-one" and len(recommended) > 1:
        yield "two recommended of at most one"
    for suggestion in suggestions:
        yield from _suggestion(suggestion)


def _source(source: Any) -> Iterator[str]:
    if not isinstance(source, dict) or not _text(source.get("label")):
        yield "source.label"
        return
    for name in ("url", "icon"):
        if name in source and not _absolute(source[name]):
            yield f"source.{name} is absolute"
    if "topic" in source:
        yield from _coding(source["topic"], "source.topic")
        if not re.fullmatch(r"[A-Za-z0-9]{1,100}", str(source["topic"].get("code"))):
            yield "source.topic.code: clients remember it in 100 alphanumeric characters"


def _coding(coding: Any, where: str, *, display: bool = False) -> Iterator[str]:
    names = ("code", "system", "display") if display else ("code", "system")
    if not isinstance(coding, dict) or not all(_text(coding.get(name)) for name in names):
        yield f"{where}: a Coding has {', '.join(names)}"
    elif not re.match(r"[a-z][a-z0-9+.-]*:", coding["system"]):
        yield f"{where}: system is a URI"


def _link(link: dict[str, Any]) -> Iterator[str]:
    if not _text(link.get("label")) or not _absolute(link.get("url")) or link.get("type") not in {"absolute", "smart"}:
        yield "a link has label, url and type"
    if "appContext" in link and link.get("type") != "smart":
        yield "appContext belongs to smart links"
    if "autolaunchable" in link:
        yield "nothing is launched without a person"


def _suggestion(suggestion: dict[str, Any]) -> Iterator[str]:
    if not _text(suggestion.get("label")) or not _uuid(suggestion.get("uuid")):
        yield "a suggestion has label and uuid"
    actions = suggestion.get("actions", [])
    if len(actions) != 1:
        yield "one action a suggestion: two real clients apply the first only"
    for action in actions:
        if action.get("type") not in HOOK_TYPES or not _text(action.get("description")):
            yield "an action has type and description"
        if action.get("type") == "delete":
            if "resource" in action or not re.fullmatch(r"[A-Z][A-Za-z]+/.+", str(action.get("resourceId"))):
                yield "delete has resourceId and no resource"
            continue
        if "resourceId" in action or not isinstance(action.get("resource"), dict):
            yield "create and update have a resource and no resourceId"
            continue
        yield from _order(action["resource"], kind=str(action.get("type")))


def _action_on_draft(action: dict[str, Any], *, patient: str, sent: dict[str, Any]) -> Iterator[str]:
    """An update is of a draft that was sent, whole, and changes dose or duration only; a delete names one."""
    if action.get("type") == "delete":
        if action.get("resourceId") not in sent:
            yield "delete of something that was not sent"
        return
    resource = action.get("resource", {})
    whose = str((resource.get("subject") or {}).get("reference")).split("/")[-2:]
    if whose != ["Patient", patient]:
        yield "a suggestion for another patient"
    if action.get("type") == "create":
        return
    draft = sent.get(f"{resource.get('resourceType')}/{resource.get('id')}")
    if draft is None or not _text(resource.get("id")):
        yield "update of something that was not sent"
        return
    before, after = _filled(draft), _filled(resource)
    names = (set(before) | set(after)) - CHANGES
    changed = sorted(name for name in names if after.get(name) not in (before.get(name), [before.get(name)]))
    if changed:
        yield f"an update that changes {changed}"
    if before == after:
        yield "an update that changes nothing"


def _filled(value: Any) -> Any:
    """Without what stands for nothing: to leave that out, or to put one value into its list, is repair."""
    if isinstance(value, dict):
        kept = {name: _filled(inner) for name, inner in value.items()}
        return {name: inner for name, inner in kept.items() if inner not in (None, "", [], {})}
    if isinstance(value, list):
        return [inner for inner in map(_filled, value) if inner not in (None, "", [], {})]
    return value


def _order(resource: dict[str, Any], *, kind: str) -> Iterator[str]:
    if resource.get("resourceType") != "MedicationRequest":
        yield "what is suggested here is a MedicationRequest"
        return
    own_id = {"id": "x"} if kind == "update" and _text(resource.get("id")) else {}  # real ids exceed 64 characters
    try:
        MedicationRequest.model_validate(resource | own_id)
    except ValueError:
        yield "the suggested resource is no valid FHIR R4 MedicationRequest"
    if not re.fullmatch(r"(.+/)?Patient/[A-Za-z0-9.\-]+", str(resource.get("subject", {}).get("reference"))):
        yield "an order says whose it is"
    if kind == "update":  # the order of somebody else: its state, its drug and its references stay as they are
        return
    if (resource.get("status"), resource.get("intent")) != ("draft", "proposal"):
        yield "a suggestion is a draft and a proposal"
    drug = resource.get("medicationCodeableConcept", {})
    if not _text(drug.get("text")) or not _text(drug.get("coding", [{}])[0].get("code")):
        yield "the public sandbox needs text and coding[0].code of the drug"


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _uuid(value: Any) -> bool:
    try:
        return str(uuid.UUID(str(value))) == str(value)
    except ValueError:
        return False


def _absolute(value: Any) -> bool:
    """Over https; a service on this machine may be named as it is."""
    parts = urlsplit(str(value))
    here = parts.scheme == "http" and parts.hostname in {"127.0.0.1", "::1", "localhost"}
    return here or (parts.scheme == "https" and bool(parts.hostname))
