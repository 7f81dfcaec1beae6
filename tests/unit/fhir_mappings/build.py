"""FHIR resources for tests, as short as the sentence that describes them."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fhir_mappings.context import Context
from fhir_mappings.facts import Overlay

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
UCUM = "http://unitsofmeasure.org"
SYSTEMS = {
    "loinc": "http://loinc.org",
    "snomed": "http://snomed.info/sct",
    "mdc": "urn:iso:std:iso:11073:10101",
    "mimic-chart": "http://mimic.mit.edu/fhir/mimic/CodeSystem/mimic-chartevents-d-items",
    "mimic-lab": "http://mimic.mit.edu/fhir/mimic/CodeSystem/mimic-d-labitems",
    "interpretation": "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation",
    "v2-0487": "http://terminology.hl7.org/CodeSystem/v2-0487",
}


def context(*, now: datetime = NOW, overlay: Overlay | None = None, zone: ZoneInfo = BERLIN) -> Context:
    """The context of a request at noon UTC in a Berlin hospital."""
    return Context(now=now, zone=zone, overlay=overlay or Overlay())


def ago(**delta: float) -> str:
    """A FHIR instant that long before now."""
    return (NOW - timedelta(**delta)).isoformat()


def coding(mark: str, display: str = "") -> dict[str, str]:
    """`system|code` with the short or the full system name."""
    system, _, code = mark.rpartition("|")
    found = {"system": SYSTEMS.get(system, system), "code": code}
    return {**found, "display": display} if display else found


def concept(*marks: str, text: str = "", display: str = "") -> dict[str, Any]:
    """A CodeableConcept."""
    found: dict[str, Any] = {"coding": [coding(mark, display) for mark in marks]} if marks else {}
    return {**found, "text": text} if text else found


def quantity(value: Any, unit: str = "", *, code: str | None = None, comparator: str = "") -> dict[str, Any]:
    """A Quantity with its UCUM code; `code` when it differs from the text."""
    found: dict[str, Any] = {"value": value}
    if unit:
        found |= {"unit": unit, "system": UCUM, "code": unit if code is None else code}
    if comparator:
        found["comparator"] = comparator
    return found


def observation(
    *marks: str,
    id: str = "o",  # noqa: A002
    value: Any = None,
    unit: str = "",
    comparator: str = "",
    at: str | None = "",
    text: str = "",
    **more: Any,
) -> dict[str, Any]:
    """A final Observation of one hour ago; `at=None` leaves the time out, and `more` overrides every member."""
    found: dict[str, Any] = {
        "resourceType": "Observation",
        "id": id,
        "status": "final",
        "code": concept(*marks, text=text),
        "subject": {"reference": "Patient/p"},
    }
    if at is not None:
        found["effectiveDateTime"] = at or ago(hours=1)
    if value is not None:
        found["valueQuantity"] = quantity(value, unit, comparator=comparator)
    return {**found, **more}


def raw(resource: Any) -> bytes:
    """The bytes a server would send."""
    return json.dumps(resource).encode()


def raws(*resources: Any, source: str = "labs") -> list[tuple[str, bytes]]:
    """Input of `collect`."""
    return [(source, raw(resource)) for resource in resources]


def real(name: str) -> bytes:
    """A published resource, read where it is kept (its licence stays there). Skips where it is absent."""
    default = Path(__file__).parents[4] / "shared" / "real-fhir"
    path = Path(os.environ.get("REAL_FHIR_DIR", default)) / name
    if not path.is_file():
        pytest.skip("published FHIR examples are not here: set REAL_FHIR_DIR")
    return path.read_bytes()
