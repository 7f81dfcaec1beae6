"""AuditEvents: what was read about a patient, that a decision was made, and who was turned away. Never what was found.

The reading follows IHE BALP, PatientQuery: type `rest`, action `E`, source role and destination role of DICOM, one
entity for the patient and one for the query. Here this service is the source, for it asked, and the hospital's FHIR
server the destination. The decision has the same agents one step further out: the CDS client is the source, this
service the destination; BALP has no profile for it and none is claimed. A refusal is a DICOM security alert, as BALP
writes authorisation decisions (knowledge: security 4.3).

What the record does not have is said to be absent, never filled in: network addresses of clients, and the queries of
decisions that kept no patient data, or keep them no longer.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal
from uuid import uuid5

from app.export import device, guidance, names
from app.export.elements import (
    BALP,
    DICOM,
    HL7,
    NAMESPACE,
    Json,
    absent,
    coding,
    concept,
    id_of,
    instant,
    patient,
    reference,
)
from app.export.rows import Made, TurnedAway
from app.trust import FHIR_SERVER, ORIGIN, SERVICE

PATIENT_QUERY: Final = f"{BALP}/StructureDefinition/IHE.BasicAudit.PatientQuery"
_RESTFUL: Final = "http://hl7.org/fhir/restful-interaction"
_SOURCE: Final = concept(DICOM, "110153", "Source Role ID")
_DESTINATION: Final = concept(DICOM, "110152", "Destination Role ID")
_PERSON: Final = coding(f"{HL7}/audit-entity-type", "1", "Person")
_SYSTEM_OBJECT: Final = coding(f"{HL7}/audit-entity-type", "2", "System Object")

Outcome = Literal["0", "4"]
"""FHIR `audit-event-outcome`: success, minor failure."""

_RESTRICTED: Final = frozenset({SERVICE, FHIR_SERVER, ORIGIN})
"""Refusals of a known caller that asked for what is not its own; the others are of a caller that is not known."""


def read(made: Made) -> Iterable[Json]:
    """One for each query; one for all of them where the record has none; none if nothing was read."""
    if not made.reading.get("requests"):
        return
    if not made.queries:
        yield _query(made, "read", entity=_unwritten(made))
    for number, query in enumerate(made.queries):
        yield _query(made, f"read/{number}", entity=_written(query))


def decided(made: Made) -> Json:
    """That this service answered a client about a patient; what it said stands in the GuidanceResponse."""
    entities = [
        _call(made),
        _object("4", "Domain Resource") | {"what": reference("GuidanceResponse", names.guidance(made))},
    ]
    details = [("service", made.service), ("hook", made.hook), *(("flag", flag) for flag in made.flags)]
    entities[1]["detail"] = _details(details)
    if made.patient is not None or made.removed:
        entities.append(_patient(made))
    failed = guidance.status(made) in {"failure", "data-required"}
    return _event(
        id_of(made.id, "audit"),
        type=coding(f"{HL7}/audit-event-type", "rest", "RESTful Operation"),
        subtype=coding(_RESTFUL, "operation", "operation"),
        recorded=instant(made.created_at),
        outcome="4" if failed else "0",
        described=made.outcome,
        agents=(_client(made.client), _service(_DESTINATION, made=made)),
        site=made.tenant,
        entities=entities,
    )


def refused(row: TurnedAway) -> Json:
    """A call that was turned away at the door; one may stand for several."""
    known = row.reason in _RESTRICTED
    alert = ("110132", "Use of Restricted Function") if known else ("110126", "Node Authentication")
    details = [("reason", row.reason), ("times", str(row.times))]
    details += [("service", row.service)] if row.service else []
    entity = _object("13", "Security Resource") | {"detail": _details(details)}
    if row.token:
        entity["what"] = {"identifier": {"value": row.token}, "display": "SHA-256 of the token's jti"}
    return _event(
        str(uuid5(NAMESPACE, f"refusal/{row.number}/{instant(row.at)}")),
        type=coding(DICOM, "110113", "Security Alert"),
        subtype=coding(DICOM, *alert),
        recorded=instant(row.at),
        outcome="4",
        described=f"refused: {row.reason}",
        agents=(_client(row.client), _service(_DESTINATION)),
        entities=[entity],
    )


def _query(made: Made, role: str, *, entity: Json) -> Json:
    server = {"display": f"the FHIR server of {made.tenant}"}
    if access := made.reading.get("access"):
        entity = entity | {"detail": [*entity.get("detail", ()), *_details([("access", access)])]}
    return _event(
        id_of(made.id, role),
        profile=PATIENT_QUERY,
        type=coding(f"{HL7}/audit-event-type", "rest", "RESTful Operation"),
        subtype=coding(_RESTFUL, "search", "search"),
        recorded=instant(made.created_at),
        outcome="0",
        agents=(
            _service(_SOURCE, made=made, asks=True),
            _agent(_DESTINATION, who=server, network=_network(made.reading.get("server"))),
        ),
        site=made.tenant,
        entities=[_call(made), _patient(made), entity],
    )


def _event(
    id_: str,
    *,
    type: Json,  # noqa: A002  (the element's name)
    subtype: Json,
    recorded: str,
    outcome: Outcome,
    agents: Iterable[Json],
    entities: Sequence[Json],
    profile: str = "",
    described: str = "",
    site: str = "",
) -> Json:
    event: Json = {"resourceType": "AuditEvent", "id": id_}
    if profile:
        event["meta"] = {"profile": [profile]}
    event |= {"type": type, "subtype": [subtype], "action": "E", "recorded": recorded, "outcome": outcome}
    if described:
        event["outcomeDesc"] = described
    observer = {"observer": reference("Device", device.SERVICE_ID)}
    source = {"site": site} | observer if site else observer
    return event | {"agent": list(agents), "source": source, "entity": entities}


# --- agents ---------------------------------------------------------------------------------------------------


def _client(name: str) -> Json:
    """The CDS client by its name in the registry; '' where it is not known who it was. Its address is not kept."""
    who = {"identifier": {"value": name}, "display": name} if name else absent("unknown")
    return _agent(_SOURCE, who=who | {"type": "Device"}, network=_network(None), asks=True)


def _service(role: Json, *, made: Made | None = None, asks: bool = False) -> Json:
    if made is None:
        return _agent(role, who=reference("Device", device.SERVICE_ID), network=_network(None), asks=asks)
    id_ = device.version_id(made.versions, knowledge_hash=made.knowledge_hash)
    return _agent(role, who=reference("Device", id_), network=_network(names.published_at(made)), asks=asks)


def _agent(role: Json, *, who: Json, network: Json, asks: bool = False) -> Json:
    return {"type": role, "who": who, "requestor": asks, "network": network}


def _network(address: str | None) -> Json:
    """`5` is a URI. Profiles want the element, so it is there, also where the record has no address."""
    return {"_address": absent("unknown")} if address is None else {"address": address, "type": "5"}


# --- entities -------------------------------------------------------------------------------------------------


def _call(made: Made) -> Json:
    """What both sides know the call by: BALP's place for the id of a request holds the hookInstance."""
    return {
        "what": {"identifier": {"value": made.hook_instance}},
        "type": coding(f"{BALP}/CodeSystem/BasicAuditEntityType", "XrequestId"),
    }


def _patient(made: Made) -> Json:
    what = patient(made.patient, otherwise="masked" if made.removed else "unknown")
    return {"what": what, "type": _PERSON, "role": coding(f"{HL7}/object-role", "1", "Patient")}


def _object(role: str, display: str) -> Json:
    return {"type": _SYSTEM_OBJECT, "role": coding(f"{HL7}/object-role", role, display)}


def _written(query: str) -> Json:
    return _object("24", "Query") | {"query": b64encode(query.encode()).decode()}


def _unwritten(made: Made) -> Json:
    """Which searches of the gather plan were sent, by their names."""
    needs: Mapping[str, Any] = made.timing.get("sources_ms", {})
    entity = _object("24", "Query") | {"_query": absent("masked" if made.removed else "unknown")}
    return entity | ({"detail": _details([("need", need) for need in needs])} if needs else {})


def _details(pairs: Iterable[tuple[str, str]]) -> list[Json]:
    return [{"type": name, "valueString": value} for name, value in pairs]
