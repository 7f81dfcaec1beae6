"""The rules of the profiles that the export claims, checked without a validator: cardinalities and fixed values.

Sources: FHIR R4 (4.0.1), `cdshooksguidanceresponse`, `cdshooksrequestgroup` (their differentials) and the invariants
of RequestGroup and AuditEvent; IHE BALP, PatientQuery (IHE/ITI.BasicAudit, input/fsh/PatientQuery.fsh), as restated in
the knowledge of this project: security 4.3. Each function yields what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tests.unit.app.export.record import Json

R4 = "http://hl7.org/fhir/StructureDefinition"
BALP = "https://profiles.ihe.net/ITI/BALP/StructureDefinition"
DCM = "http://dicom.nema.org/resources/ontology/DCM"
HL7 = "http://terminology.hl7.org/CodeSystem"
ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")


def wrong(resource: Json) -> list[str]:
    """What is wrong with a resource by the profile that it claims, and by the rules of its kind."""
    kind = resource["resourceType"]
    found = [f"{kind}: id"] if not ID.fullmatch(resource.get("id", "")) else []
    claimed = resource.get("meta", {}).get("profile", [])
    rules = {
        f"{R4}/cdshooksguidanceresponse": guidance_response,
        f"{R4}/cdshooksrequestgroup": request_group,
        f"{BALP}/IHE.BasicAudit.PatientQuery": patient_query,
    }
    for profile in claimed:
        found += rules[profile](resource)
    if kind == "AuditEvent":
        found += audit_event(resource)
    if kind in {"GuidanceResponse", "RequestGroup"} and not claimed:
        found.append(f"{kind}: claims no profile")
    return found


def guidance_response(resource: Json) -> Iterator[str]:
    """CDSHooksGuidanceResponse: extension cqf-cdsHooksEndpoint 1..1 (valueUri), requestIdentifier, identifier and
    moduleUri 1..1; status 1..1, required binding guidance-response-status."""
    endpoints = [e for e in resource.get("extension", []) if e["url"] == f"{R4}/cqf-cdsHooksEndpoint"]
    if len(endpoints) != 1 or not endpoints[0].get("valueUri"):
        yield "extension cqf-cdsHooksEndpoint is 1..1"
    if not resource.get("requestIdentifier", {}).get("value"):
        yield "requestIdentifier is 1..1"
    if len(resource.get("identifier", [])) != 1:
        yield "identifier is 1..1"
    if not resource.get("moduleUri") or {"moduleCanonical", "moduleCodeableConcept"} & resource.keys():
        yield "moduleUri is 1..1"
    statuses = {"success", "data-requested", "data-required", "in-progress", "failure", "entered-in-error"}
    if resource.get("status") not in statuses:
        yield "status"
    contained = {f"#{one['id']}" for one in resource.get("contained", [])}
    if {one["reference"] for one in resource.get("evaluationMessage", [])} != contained:
        yield "every contained resource is referred to, and nothing else"


def request_group(resource: Json) -> Iterator[str]:
    """CDSHooksRequestGroup: identifier 1..1, instantiatesUri 1..1; RequestGroup: status and intent 1..1, rqg-1."""
    if len(resource.get("identifier", [])) != 1:
        yield "identifier is 1..1"
    if len(resource.get("instantiatesUri", [])) != 1:
        yield "instantiatesUri is 1..1"
    if (resource.get("status"), resource.get("intent")) != ("draft", "proposal"):
        yield "an order, or something that may become one"
    for action in _actions(resource["action"]):
        if ("resource" in action) == ("action" in action):
            yield "rqg-1: resource or actions, and not both"
        if action.get("priority", "routine") not in {"routine", "urgent", "asap", "stat"}:
            yield "priority"


def patient_query(resource: Json) -> Iterator[str]:
    """BALP PatientQuery: type rest; action E; subtype search 1..1; client (110153) and server (110152) 1..1 with who
    and network; entities transaction 0..1, query 1..1 with `query`, patient 1..1 with what."""
    if _code(resource["type"]) != (f"{HL7}/audit-event-type", "rest"):
        yield "type is rest"
    if resource.get("action") != "E":
        yield "action is E"
    if [_code(one) for one in resource.get("subtype", [])].count(
        ("http://hl7.org/fhir/restful-interaction", "search")
    ) != 1:
        yield "subtype search is 1..1"
    for code in ("110153", "110152"):
        agents = [one for one in resource["agent"] if (DCM, code) in map(_code, one["type"]["coding"])]
        if len(agents) != 1 or "who" not in agents[0] or not _there(agents[0].get("network", {}), "address"):
            yield f"agent {code} is 1..1, with who and network"
    roles = [(_code(one.get("type", {})), _code(one.get("role", {}))) for one in resource["entity"]]
    query = ((f"{HL7}/audit-entity-type", "2"), (f"{HL7}/object-role", "24"))
    patient = ((f"{HL7}/audit-entity-type", "1"), (f"{HL7}/object-role", "1"))
    if roles.count(query) != 1 or not _there(resource["entity"][roles.index(query)], "query"):
        yield "entity query is 1..1, with query"
    if roles.count(patient) != 1 or "what" not in resource["entity"][roles.index(patient)]:
        yield "entity patient is 1..1, with what"
    if sum(role[0][1] == "XrequestId" for role in roles) > 1:
        yield "entity transaction is 0..1"


def audit_event(resource: Json) -> Iterator[str]:
    """AuditEvent: type, recorded, agent.requestor, source.observer 1..1, agent 1..*; sev-1: a name or a query; and of
    ours: one requestor, and no value that was found."""
    for name in ("type", "recorded", "agent", "source"):
        if not resource.get(name):
            yield f"{name} is 1.."
    if "observer" not in resource["source"]:
        yield "source.observer is 1..1"
    if [one.get("requestor") for one in resource["agent"]].count(True) != 1:
        yield "one requestor"
    for entity in resource.get("entity", []):
        if "name" in entity and "query" in entity:
            yield "sev-1: a name or a query"


def _there(element: Mapping[str, Any], name: str) -> bool:
    """A value, or the reason why there is none."""
    reasons = [one for one in element.get(f"_{name}", {}).get("extension", []) if one["url"] == ABSENT]
    return bool(element.get(name)) != bool(reasons)


def _code(coding: Mapping[str, Any]) -> tuple[str, str]:
    return coding.get("system", ""), coding.get("code", "")


def _actions(actions: Sequence[Json]) -> Iterator[Json]:
    for action in actions:
        yield action
        yield from _actions(action.get("action", []))


def dangling(resources: Iterable[Json]) -> set[str]:
    """References to a kind that is exported, which no resource before has the id of: a repository would refuse it."""
    known: set[str] = set()
    missing: set[str] = set()
    for resource in resources:
        for reference in _references(resource):
            if reference.partition("/")[0] in {"Device", "GuidanceResponse", "RequestGroup"} and reference not in known:
                missing.add(reference)
        known.add(f"{resource['resourceType']}/{resource['id']}")
    return missing


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield value["reference"]
        for member in value.values():
            yield from _references(member)
    elif isinstance(value, list):
        for member in value:
            yield from _references(member)
