"""The parts of which the exported resources are made: codes, references, and the ways to say that something is absent.

Code systems and profiles: FHIR R4 (4.0.1) and IHE BALP (knowledge: security 4.3).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, Literal
from uuid import UUID, uuid5

from app.card_frame import SYSTEM

Json = dict[str, Any]

FHIR: Final = "http://hl7.org/fhir/StructureDefinition"
HL7: Final = "http://terminology.hl7.org/CodeSystem"
BALP: Final = "https://profiles.ihe.net/ITI/BALP"
DICOM: Final = "http://dicom.nema.org/resources/ontology/DCM"
ABSENT: Final = f"{FHIR}/data-absent-reason"
URI: Final = "urn:ietf:rfc:3986"

NAMESPACE: Final = uuid5(UUID(int=int(SYSTEM.rpartition(".")[2])), "rescue-cds/export")
"""For the ids of what no decision is about. The project's own identifier is a UUID, written as an OID below 2.25."""

Reason = Literal["unknown", "masked", "not-applicable"]
"""Not in the record; removed from it with the patient's data; there is nothing that it could be."""


def id_of(decision: str, role: str) -> str:
    """The id of what a decision becomes in this role: the same in every export, so that none is a second one."""
    return str(uuid5(UUID(decision), f"export/{role}"))


def absent(reason: Reason) -> Json:
    """In place of a value that has to be there."""
    return {"extension": [{"url": ABSENT, "valueCode": reason}]}


def coding(system: str, code: str, display: str = "") -> Json:
    return {"system": system, "code": code} | ({"display": display} if display else {})


def concept(system: str, code: str, display: str) -> Json:
    return {"coding": [coding(system, code, display)]}


def identifier(id_: str) -> Json:
    """A resource's own id as a business identifier, which it keeps on a server that gives it another id."""
    return {"system": URI, "value": f"urn:uuid:{id_}"}


def reference(kind: str, id_: str) -> Json:
    return {"reference": f"{kind}/{id_}", "type": kind}


def patient(id_: str | None, *, otherwise: Reason) -> Json:
    """A reference to the patient as the hospital's FHIR server knows them, or why there is none."""
    if id_ is not None:
        return reference("Patient", id_)
    words = "removed from the record" if otherwise == "masked" else "not in the record"
    return absent(otherwise) | {"type": "Patient", "display": words}


def unclaimed(resource: Json) -> Json:
    """The same without its profile, and without the extensions at its top, which only the profile asks for.

    For a repository that validates what it takes: it may not know the profile, and R4 contradicts itself, for its
    profile of GuidanceResponse requires an extension that its own definition allows on PlanDefinition alone.
    """
    return {name: value for name, value in resource.items() if name not in {"meta", "extension"}}


def instant(moment: datetime) -> str:
    """To the microsecond, as the record has it: the order of two decisions shall not depend on rounding."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
