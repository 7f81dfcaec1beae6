"""A hospital that nobody has configured: local codes, missing units, words in place of codes, and hostile names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from app.doctor.coverage import Coverage
from app.doctor.lookalikes import LookAlikes
from app.gather import from_bundle
from app.knowledge import Bedside
from fhir_mappings import mapping
from fhir_mappings.context import Context
from fhir_mappings.facts import Facts, Overlay
from tests.unit.app.bundles import bedside

Resource = dict[str, Any]

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
PATIENT = "canary-patient-77"
NAME = "Canary-Name"
SITE = "https://hospital.example.org/codes"
LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
HOSTILE = '\x1b[2J\x1b]0;pwned\x07 CRP "]\n[local_uln]\nalt = 1 # \u202e'


def at(hours: float) -> str:
    return (NOW - timedelta(hours=hours)).isoformat()


def observation(number: int, code: Any, *, hours: float = 2, **more: Any) -> Resource:
    """An Observation; `code` is (system, code, display) or a list of these."""
    codings = [code] if isinstance(code, tuple) else code
    return {
        "resourceType": "Observation",
        "id": f"o{number}",
        "status": "final",
        "subject": {"reference": f"Patient/{PATIENT}"},
        "code": {"coding": [{"system": s, "code": c, "display": d} for s, c, d in codings]},
        "effectiveDateTime": at(hours),
        **more,
    }


def quantity(value: float, unit: str = "") -> Resource:
    return {"valueQuantity": {"value": value} | ({"unit": unit, "code": unit, "system": UCUM} if unit else {})}


def use(kind: str, number: int, *, codings: Sequence[tuple[str, str, str]] = (), text: str = "") -> Resource:
    when = "authoredOn" if kind == "MedicationRequest" else "effectiveDateTime"
    concept: Resource = {"coding": [{"system": s, "code": c, "display": d} for s, c, d in codings]}
    return {
        "resourceType": kind,
        "id": f"m{number}",
        "status": "active" if kind == "MedicationRequest" else "completed",
        "intent": "order",
        "subject": {"reference": f"Patient/{PATIENT}"},
        "medicationCodeableConcept": concept | ({"text": text} if text else {}),
        when: at(3),
    }


def person() -> Resource:
    return {
        "resourceType": "Patient",
        "id": PATIENT,
        "gender": "female",
        "birthDate": "1966-03-01",
        "name": [{"family": NAME}],
    }


def chart() -> list[Resource]:
    """Everything of the patient."""
    crp = (SITE, "1234", "CRP quant")
    plateau = {"code": {"coding": [{"system": SITE, "code": "PL", "display": "Plateaudruck"}]}}
    return [
        person(),
        *(observation(n, crp, hours=n, **quantity(100 + n, "mg/L")) for n in range(1, 4)),
        observation(10, (SITE, "FI", "FiO2 eingestellt"), **quantity(0.5)),
        observation(11, (LOINC, "19994-3", ""), **quantity(0.3, "%")),
        observation(12, (LOINC, "19994-3", ""), hours=3, **quantity(60, "1")),
        observation(13, (LOINC, "1742-6", ""), **quantity(48, "U/L")),
        observation(14, ("urn:iso:std:iso:11073:10101", "151688", ""), **quantity(32, "mL/cm[H2O]")),
        observation(15, (LOINC, "11556-8", ""), **quantity(70, "mm[Hg]")),
        observation(16, (LOINC, "1988-5", ""), **quantity(45)),
        observation(17, (SITE, "E1", HOSTILE), **quantity(4, "mg/L")),
        observation(18, (LOINC, "2276-4", ""), valueString=f"see letter of Mrs {NAME}"),
        observation(19, (LOINC, "1988-5", ""), hours=4, valueString=f"12 {NAME}"),
        observation(20, ("", "CRP-X", "CRP"), **quantity(4, "mg/L")),
        observation(21, (SITE, "K\u0007", "PEEP"), **quantity(4, "cm[H2O]")),
        observation(22, []) | {"code": {"text": "Ferritin"}} | quantity(4, "ug/L"),
        observation(23, (SITE, "SAT", "Sauerstoffsättigung"), **quantity(97, "%")),
        observation(24, (SITE, "PNL", "Panel"), component=[plateau | quantity(28, "cm[H2O]")]),
        observation(25, (LOINC, "777-3", ""), hours=5, **quantity(212, "a unit of Mrs Smith")),
        observation(26, (SITE, "PF", "PaO2/FiO2"), **quantity(98, "mm[Hg]")),
        observation(27, (SITE, "GAS", "pO2 / FiO2-Quotient Ferritin"), **quantity(98, "mm[Hg]")),
        use("MedicationAdministration", 1, codings=[(SITE, "KIN100", "Kineret 100 mg")]),
        use("MedicationAdministration", 2, codings=[(SITE, "4711", "")]),
        use("MedicationRequest", 3, text="Kineret"),
        use("MedicationRequest", 4, text="Paracetamol"),
        use("MedicationRequest", 5, codings=[(SITE, "8", "Paracetamol")]),
        {
            "resourceType": "Condition",
            "id": "c1",
            "subject": {"reference": f"Patient/{PATIENT}"},
            "code": {"coding": [{"system": SITE, "code": "DNR", "display": "Do not resuscitate"}]},
        },
        {
            "resourceType": "Condition",
            "id": "c2",
            "subject": {"reference": f"Patient/{PATIENT}"},
            "code": {"text": "palliative care"},
        },
        {
            "resourceType": "Procedure",
            "id": "p1",
            "status": "in-progress",
            "subject": {"reference": f"Patient/{PATIENT}"},
            "code": {"coding": [{"system": "http://snomed.info/sct", "code": "233573008"}]},
            "performedPeriod": {"start": at(20)},
        },
    ]


def facts_of(resources: list[Resource], *, overlay: Overlay | None = None) -> tuple[Facts, list[bytes]]:
    """What the mapping makes of these, and the resources as bytes."""
    overlay = overlay or Overlay()
    raw = json.dumps({"resourceType": "Bundle", "type": "collection", "entry": [{"resource": r} for r in resources]})
    parts = from_bundle(raw.encode(), plan=bedside().plan_for(overlay), now=NOW, patient_id=PATIENT)
    facts = mapping.to_facts(
        parts, patient_id=PATIENT, context=Context(now=NOW, zone=ZoneInfo("Europe/Berlin"), overlay=overlay)
    )
    return facts, [one for part in parts for one in part.resources]


def counted(resources: list[Resource], *, overlay: Overlay | None = None) -> tuple[Coverage, LookAlikes]:
    """Coverage and look-alikes of one patient."""
    overlay = overlay or Overlay()
    service: Bedside = bedside()
    facts, raws = facts_of(resources, overlay=overlay)
    coverage = Coverage(knowledge=service.library.knowledge, texts=service.plain, overlay=overlay)
    coverage.add(facts, raws, now=NOW)
    found = LookAlikes(overlay)
    found.add_observations(raws)
    found.add_medications(facts, raws)
    found.add_conditions(facts, raws)
    return coverage, found
