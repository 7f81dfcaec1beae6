"""The hook call of the benchmarks: a synthetic ICU patient with 200 Observations and a medication list as prefetch."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from app import knowledge
from app.sandbox import patients

PATIENT = "demo-full-protocol"
OBSERVATIONS = 200


def call(now: datetime) -> bytes:
    """A patient-view request; its Observations are the demo patient's, repeated back in time until there are 200."""
    mine = [r for r in patients.bundle(now) if _subject(r) == f"Patient/{PATIENT}" or r["id"] == PATIENT]
    observations = [r for r in mine if r["resourceType"] == "Observation"]
    for number in range(len(observations), OBSERVATIONS):
        original = observations[number % len(observations)]
        observations.append(_older(original, days=1 + number // len(observations), number=number))
    prefetch: dict[str, Any] = {}
    left = observations
    for need in knowledge.load().needs:
        if need.key == "patient":
            prefetch[need.key] = next(r for r in mine if r["resourceType"] == "Patient")
            continue
        if need.resource_type == "Observation":
            wanted = _codes(dict(need.params)["code"])
            found = [r for r in left if not wanted.isdisjoint(_marks(r))]
            left = [r for r in left if r not in found]
        else:
            found = [r for r in mine if r["resourceType"] == need.resource_type]
        prefetch[need.key] = found
    prefetch["respiratory"] += left
    return json.dumps(
        {
            "hook": "patient-view",
            "hookInstance": "4a1c1f5e-6f7e-4f0e-9d3c-2f5f7c1a9b10",
            "context": {"userId": "Practitioner/demo-icu", "patientId": PATIENT},
            "prefetch": {key: value if isinstance(value, dict) else _bundle(value) for key, value in prefetch.items()},
        }
    ).encode()


def _bundle(resources: list[dict[str, Any]]) -> dict[str, Any]:
    entries = [{"fullUrl": f"http://127.0.0.1/fhir/{r['resourceType']}/{r['id']}", "resource": r} for r in resources]
    return {"resourceType": "Bundle", "type": "searchset", "total": len(entries), "entry": entries}


def _older(resource: dict[str, Any], *, days: int, number: int) -> dict[str, Any]:
    copy = json.loads(json.dumps(resource))
    copy["id"] = f"{resource['id']}-{number}"
    moment = datetime.fromisoformat(copy["effectiveDateTime"])
    copy["effectiveDateTime"] = (moment - timedelta(days=days)).astimezone(UTC).isoformat()
    return copy


def _subject(resource: dict[str, Any]) -> str:
    holder = resource.get("subject") or resource.get("patient") or {}
    return str(holder.get("reference", ""))


def _marks(resource: dict[str, Any]) -> set[str]:
    return {f"{c.get('system')}|{c.get('code')}" for c in resource["code"].get("coding", [])}


def _codes(text: str) -> set[str]:
    return set(text.split(","))
