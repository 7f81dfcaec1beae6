"""Nobody acts for somebody else: clients x tenants x FHIR bases x patients x services, every combination.

Two clients, two hospitals with a FHIR server each. Only where client, tenant, base and service belong together is
anything read, and then from that server, with that call's token, about that call's patient (knowledge: security T13).
"""

from __future__ import annotations

import itertools
import json
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from app.clients import Client
from app.names import PATIENT_VIEW, SERVICES
from app.settings import Tenant
from tests.figures import Figure, Figures
from tests.integration.hospital import NOW, Hospital, decision, hook, opened
from tests.property.size import sample
from tests.unit.app.registry import BASE, Ehr

NORTH: Final = "http://127.0.0.1:8080/fhir"
SOUTH: Final = "http://127.0.0.2:8080/fhir"
ELSEWHERE: Final = "http://127.0.0.3:8080/fhir"
BASES: Final = {"north": NORTH, "south": SOUTH}
PATIENTS: Final = ("demo-full-protocol", "demo-us-units")

ONE: Final = Ehr("one", "https://one.example.org", kid="k1")
"""Speaks for both hospitals, with both servers; all services."""
TWO: Final = Ehr("two", "https://two.example.org", kid="k2")
"""Speaks for the south alone, and calls patient-view alone."""
MAY: Final = {"one": ({"north", "south"}, set(SERVICES)), "two": ({"south"}, {PATIENT_VIEW})}


@dataclass(frozen=True, slots=True)
class Case:
    """One call: who signs, as whom, for which hospital (None: unsaid), which server it names, about whom, where.

    `for_patient` is whose the hook's FHIR token is said to be.
    """

    signer: Ehr
    issuer: Ehr
    tenant: str | None
    base: str | None
    patient: str
    service: str
    for_patient: str

    @property
    def expected(self) -> int:
        """The status that it has to get."""
        tenants, services = MAY[self.issuer.id]
        named = self.tenant if self.tenant is not None else (next(iter(tenants)) if len(tenants) == 1 else "")
        if self.signer is not self.issuer or named not in tenants:
            return 401
        if self.service not in services:
            return 403
        if self.for_patient != self.patient:
            return 400
        return 200 if self.base is None or self.base == BASES[named] else 403


def cases() -> Iterator[Case]:
    """Every combination; without a server there is no token that could be somebody else's."""
    for case in itertools.starmap(
        Case,
        itertools.product(
            (ONE, TWO),
            (ONE, TWO),
            ("north", "south", "east", None),
            (NORTH, SOUTH, ELSEWHERE, None),
            PATIENTS,
            (PATIENT_VIEW, SERVICES[2]),
            PATIENTS,
        ),
    ):
        if case.base is not None or case.for_patient == case.patient:
            yield case


@asynccontextmanager
async def two_hospitals(folder: Path) -> Any:
    """The service with both, reading both from one sandbox behind two addresses."""
    for ehr in (ONE, TWO):
        (folder / f"{ehr.id}.json").write_text(ehr.jwks(), encoding="utf-8")
    tenants = tuple(Tenant(name, (base,), ZoneInfo("UTC")) for name, base in BASES.items())
    both = Client(
        *("one", ONE.issuer, (BASE,), {"north": "north", "south": "south"}, (NORTH, SOUTH)),
        jwks_file=folder / "one.json",
    )
    south = Client(
        *("two", TWO.issuer, (BASE,), {"south": "south"}, (SOUTH,)),
        jwks_file=folder / "two.json",
        services=frozenset({PATIENT_VIEW}),
    )
    async with opened(folder, profile="site", tenants=tenants, clients=(both, south)) as hospital:
        yield hospital


async def wrong(hospital: Hospital, case: Case) -> str:
    """What was not as it has to be, or ''."""
    path = f"/cds-services/{case.service}"
    token = f"token-{uuid.uuid4()}"
    body = hook(case.patient, fhir=case.base, token=token)
    if case.service != PATIENT_VIEW:
        body["hook"] = "order-sign"
        body["context"]["draftOrders"] = {"resourceType": "Bundle", "entry": [{"resource": _draft(case.patient)}]}
    if case.base is not None:
        body["fhirAuthorization"]["patient"] = case.for_patient
    signed = replace(case.issuer, key=case.signer.key)
    headers = signed.headers(path, now=NOW, tenant=case.tenant) | {"content-type": "application/json"}
    sent, rows = len(hospital.wire.sent), len(hospital.rows())
    answer = await hospital.client.post(path, content=json.dumps(body).encode(), headers=headers)
    reads = hospital.wire.sent[sent:]
    made = hospital.rows()[rows:]
    expected = 412 if case.base is None and case.expected == 200 else case.expected
    if answer.status_code != expected:
        return f"{answer.status_code} in place of {expected}"
    if expected in {400, 401, 403}:
        return "read or recorded" if reads or made else ""
    tenant = case.tenant or "south"
    host = BASES[tenant].split("//")[1].partition(":")[0]
    if {(where, authority) for where, _, authority in reads} - {(host, f"Bearer {token}")}:
        return "another server, or another token"
    if [(row["client"], row["tenant"]) for row in made] != [(case.issuer.id, tenant)]:
        return "recorded as somebody else"
    if expected == 200:
        other = next(one for one in PATIENTS if one != case.patient)
        if other in answer.text or decision(answer)["outcome"] == "identity-mismatch":
            return "another patient"
    return ""


def _draft(patient: str) -> dict[str, Any]:
    return {
        "resourceType": "MedicationRequest",
        "id": "d1",
        "status": "draft",
        "intent": "order",
        "subject": {"reference": f"Patient/{patient}"},
        "medicationCodeableConcept": {
            "coding": [{"system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "72435"}],
            "text": "anakinra",
        },
    }


def chosen(*, percent: int) -> list[Case]:
    """A part of the combinations, of every kind of answer some; 100 is all of them."""
    return sample(cases(), of=lambda case: (case.expected, case.signer is case.issuer, case.base), percent=percent)


async def run(*, size: str) -> Figures:
    """A quarter of the combinations, or each of them."""
    tried = chosen(percent=25 if size == "small" else 100)
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        async with two_hospitals(Path(folder)) as hospital:
            for case in tried:
                fault = await wrong(hospital, case)
                if fault:
                    faults.append(f"{case}: {fault}")
    return Figures(
        "Confused deputies: clients x tenants x bases x patients x services",
        (
            Figure("combinations tried", str(len(tried)), len(tried) >= 100),
            Figure("of these to be refused", str(sum(case.expected != 200 for case in tried)), True),
            Figure("answered otherwise, or another's server, token or patient", str(len(faults)), not faults),
        ),
    )
