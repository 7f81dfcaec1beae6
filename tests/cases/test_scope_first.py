"""Scope first over the signed cases: where the first reads end in silence, reading everything would have too."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from app import scope
from app.cases.language import Chart, moment, overlay
from app.clinical.assessment import Assessment, assess
from app.gateway.access import Access
from app.gateway.budget import Budget, Deadline
from app.gateway.fhir import Gateway
from app.gather import gather
from app.sandbox.fhir import PARAMETERS, create_fhir
from fhir_mappings import mapping
from fhir_mappings.context import Context
from tests.cases.test_cases import BEDSIDE, CASES, KNOWLEDGE, Case
from tests.integration.hospital import FHIR, Wire
from tests.property.size import sample

DECIDING = ("1988-5", "2276-4", "94500-6", "U07.1", "840539006")
"""Codes by which the cases are in scope: CRP, ferritin, the PCR, COVID-19."""


async def _both(case: Case, *, without: tuple[str, ...] = ()) -> tuple[scope.Looked, Assessment | None, int]:
    """What the first reads say, what all reads say (where the first are silent), and how many the first were.

    `without`: leave out every resource that holds one of these codes.
    """
    now = moment(case.now, zone=case.zone)
    bundle = json.loads(Chart.of(case.lines, now=now).bundle())
    resources = [e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] in PARAMETERS]
    resources = [r for r in resources if not any(f'"{code}"' in json.dumps(r) for code in without)]
    sandbox = create_fhir(resources, base_url=FHIR, clock=lambda: now)
    site = overlay(case.lines)
    context = Context(now=now, zone=case.zone, overlay=site)
    patient = next((r["id"] for r in resources if r["resourceType"] == "Patient"), "p1")
    async with Gateway(Wire(sandbox)) as gateway:
        budget = Budget(Deadline(60))
        looked = await scope.look(
            plan=BEDSIDE.plan_for(site),
            first=BEDSIDE.scope_first_for(site),
            prefetch=None,
            base=FHIR,
            access=Access(),
            gateway=gateway,
            patient_id=patient,
            budget=budget,
            context=context,
            knowledge=KNOWLEDGE,
        )
        asked = budget.requests
        if looked.silent is None:
            return looked, None, asked
        gathered = await gather(
            plan=BEDSIDE.plan_for(site),
            prefetch=None,
            base=FHIR,
            access=Access(),
            gateway=gateway,
            patient_id=patient,
            now=now,
            budget=budget,
        )
    facts = mapping.to_facts(gathered.parts, patient_id=patient, context=context)
    return looked, assess(facts, knowledge=KNOWLEDGE, now=now), asked


@pytest.mark.no_cover
async def test_silence_by_the_first_reads_is_silence_by_all() -> None:
    rows: Counter[str] = Counter()
    plain = [(case, ()) for case in sample(CASES, of=lambda case: case.protocol)]
    out = [(case, DECIDING) for case in sample(CASES, of=lambda case: case.protocol, start=2)[::4]]
    for case, without in (*plain, *out):
        looked, whole, asked = await _both(case, without=without)
        if looked.silent is None or whole is None:
            continue
        rows[looked.silent.id] += 1
        assert (whole.row.card, whole.safety_card) == ("none", False), case.name
        # Of two silences the one that needs less to be known may be named: out of scope, where P/F would say not met.
        assert (looked.silent.id, whole.row.id) in {("out-of-scope", "not-met"), (whole.row.id, whole.row.id)}, (
            case.name
        )
        assert asked <= 10, case.name
    assert rows["not-met"] > 3
    assert rows["not-the-population"] > 1
    assert rows["out-of-scope"] > 40
