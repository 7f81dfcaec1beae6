"""`rescue-cds doctor` on a real server: what it finds in the demo's patients, and what it names as unmapped."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from app import cli
from tests.hapi.hapi import Rule, Server, load, new_id
from tests.hapi.ward import chart
from tests.integration.hospital import NOW

pytestmark = pytest.mark.hapi


def examined(server: Server, patient_id: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What doctor says of one patient, as its document; `status` is not looked at, since HAPI shares this machine."""
    arguments = ["doctor", "--fhir-url", server.base, "--patient", patient_id, "--json", "--seconds", "60"]
    cli.main([*arguments, "--now", NOW.isoformat()])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_demo_patient_is_found_whole(hapi: Server, capsys: pytest.CaptureFixture[str]) -> None:
    patient_id = new_id("doctor")
    load(hapi.base, chart(patient_id))
    found = examined(hapi, patient_id, capsys)
    assert found["server"]["software"].startswith("HAPI FHIR")
    assert {each["input"] for each in found["inputs"] if not each["ready"]} == set()
    assert sum(each["failed"] + each["partial"] for each in found["searches"]) == 0
    concepts = {each["concept"]: each for each in found["concepts"]}
    assert concepts["crp"]["codes"] == [{"code": "loinc|1988-5", "count": 3}]
    assert concepts["crp"]["newest"]["value"] == "214"


def test_a_code_that_nobody_mapped_is_named(hapi: Server, capsys: pytest.CaptureFixture[str]) -> None:
    patient_id = new_id("local")
    local = {
        "resourceType": "Observation",
        "id": f"{patient_id}-local",
        "status": "final",
        "code": {"coding": [{"system": "urn:oid:1.2.3.4", "code": "1234", "display": "CRP quant"}]},
        "subject": {"reference": f"Patient/{patient_id}"},
        "effectiveDateTime": (NOW - timedelta(hours=3)).isoformat(),
        "valueQuantity": {"value": 180, "unit": "mg/L"},
    }
    load(hapi.base, [r for r in chart(patient_id) if "1988-5" not in json.dumps(r)] + [local])
    found = examined(hapi, patient_id, capsys)
    (alike,) = [each for each in found["look_alikes"] if each["code"] == "urn:oid:1.2.3.4|1234"]
    assert (alike["count"], alike["display"]) == (1, "CRP quant")
    assert [each["input"] for each in found["inputs"] if not each["ready"]] == ["crp"]


def test_a_refused_search_is_a_gap_with_its_status(hapi: Server, capsys: pytest.CaptureFixture[str]) -> None:
    patient_id = new_id("refusing")
    load(hapi.base, chart(patient_id))
    with hapi.rules(Rule(patient=patient_id, type="AllergyIntolerance", status=403)):
        found = examined(hapi, patient_id, capsys)
    assert found["status"] == "gaps"
    assert [(each["need"], each["why"]) for each in found["searches"] if each["failed"]] == [
        ("allergies", ["server refused (403)"])
    ]
