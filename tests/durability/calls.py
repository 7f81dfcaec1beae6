"""Calls for load: those of real discovery for patients of the sandbox, each with a hookInstance of its own.

Few entries a prefetch key, so that it is the record that works and not the reader: a campaign makes some ten thousand.
"""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

import httpx

from app import knowledge
from app.names import ORDER_SELECT, PATIENT_VIEW
from app.sandbox import patients
from app.sandbox.fhir import create_fhir
from cds_hooks import prefetch

FHIR: Final = "http://127.0.0.1:8080/fhir"
MOST_ENTRIES: Final = 3
_INSTANCE: Final = "00000000-0000-4000-8000-000000000000"
_PATIENTS: Final = ("demo-crp-100", "demo-ward", "demo-just-intubated", "demo-neutropenia")
_ORDERING: Final = "demo-neutropenia"


@dataclass(frozen=True, slots=True)
class Call:
    """One call; the same bytes each time it is sent. `key` is its hookInstance."""

    key: str
    path: str
    body: bytes = field(repr=False)


class Calls:
    """Calls without end, the same for the same seed but for the moment that their data are about."""

    def __init__(self, templates: Mapping[str, list[bytes]], *, seed: int) -> None:
        self._templates: list[tuple[str, bytes, bytes]] = []
        for path, bodies in templates.items():
            for body in bodies:
                before, _, after = body.partition(_INSTANCE.encode())
                self._templates.append((path, before, after))
        self._random = random.Random(seed)

    def next(self, *, alike: bool = False) -> Call:
        """The next one; `alike`: about the same patient each time, so that all decisions are of one size."""
        path, before, after = self._templates[0] if alike else self._random.choice(self._templates)
        key = str(uuid.UUID(int=self._random.getrandbits(128), version=4))
        return Call(key, path, before + key.encode() + after)


async def templates(now: datetime) -> dict[str, list[bytes]]:
    """Bodies by the path of their service: everything is in the prefetch, and there is no server to read."""
    described = {service.id: service for service in knowledge.load().described(frozenset())}
    fhir = create_fhir(patients.bundle, base_url=FHIR, clock=lambda: now, faults={})
    made: dict[str, list[bytes]] = {}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=fhir), base_url="http://127.0.0.1:8080") as client:

        async def found(service: str, patient: str) -> dict[str, Any]:
            searches = described[service].prefetch.items()
            values = {"context.patientId": patient}
            return {
                key: _short((await client.get("/" + prefetch.render(template, values=values))).json())
                for key, template in searches
                if "draftOrders" not in template
            }

        for patient in _PATIENTS:
            body = partial(_body, patient, prefetched=await found(PATIENT_VIEW, patient))
            made.setdefault(_path(PATIENT_VIEW), []).append(body("patient-view"))
        draft = _draft(_ORDERING, now=now)
        orders = {"resourceType": "Bundle", "entry": [{"resource": draft}]}
        context: dict[str, Any] = {"draftOrders": orders, "selections": [f"MedicationRequest/{draft['id']}"]}
        body = partial(_body, _ORDERING, prefetched=await found(ORDER_SELECT, _ORDERING))
        made[_path(ORDER_SELECT)] = [body("order-select", **context)]
    return made


def _path(service: str) -> str:
    return f"/cds-services/{service}"


def _body(patient: str, hook: str, *, prefetched: Mapping[str, Any], **context: Any) -> bytes:
    return json.dumps(
        {
            "hook": hook,
            "hookInstance": _INSTANCE,
            "context": {"userId": "Practitioner/demo-icu", "patientId": patient, **context},
            "prefetch": prefetched,
        }
    ).encode()


def _short(resource: dict[str, Any]) -> dict[str, Any]:
    """A Bundle with its first entries only, as if these were all."""
    if resource.get("resourceType") != "Bundle":
        return resource
    entries = resource.get("entry", [])[:MOST_ENTRIES]
    return {"resourceType": "Bundle", "type": "searchset", "total": len(entries), "entry": entries}


def _draft(patient: str, *, now: datetime) -> dict[str, Any]:
    """A draft of anakinra."""
    bounds = {"start": now.date().isoformat(), "end": (now.date() + timedelta(days=10)).isoformat()}
    repeat = {"frequency": 1, "period": 1, "periodUnit": "d", "boundsPeriod": bounds}
    dose = {"value": 300, "unit": "mg", "system": "http://unitsofmeasure.org", "code": "mg"}
    coding = {"system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "72435"}
    return {
        "resourceType": "MedicationRequest",
        "id": "draft-anakinra",
        "status": "draft",
        "intent": "order",
        "subject": {"reference": f"Patient/{patient}"},
        "medicationCodeableConcept": {"coding": [coding], "text": "anakinra"},
        "dosageInstruction": [{"timing": {"repeat": repeat}, "doseAndRate": [{"doseQuantity": dose}]}],
    }
