"""The order hooks on a real server: the sandbox's cards, whichever way the record is read, and what follows them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.hapi import ward
from tests.hapi.hapi import Server, load
from tests.hapi.test_stories import comparable
from tests.hapi.ward import Ward, chart
from tests.integration import hospital
from tests.integration.hospital import decision, same_words
from tests.integration.test_orders import CODES, RXNORM, actions, by_reference, checks, draft, pair

pytestmark = [pytest.mark.hapi, pytest.mark.asyncio(loop_scope="module")]

WARD = (
    *("demo-full-protocol", "demo-kilopascal", "demo-neutropenia", "demo-ruxolitinib-ordered", "demo-day-7"),
    *("demo-medications-refused", "demo-kidney-transplant"),
)
MIXED = ("demo-day-7", "demo-kilopascal")


def drafts(patient_id: str) -> list[dict[str, Any]]:
    """Too much anakinra, the letter's ruxolitinib, and a drug that interacts."""
    return [*pair(patient_id, mg=600), draft("fluconazole", patient_id, mg=100)]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def bedside(loaded: Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ward]:
    async with ward.opened(loaded, tmp_path_factory.mktemp("ward")) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is answered in front of the embedded sandbox."""
    found = {}
    async with hospital.opened(tmp_path_factory.mktemp("sandbox")) as sandbox:
        for patient_id in WARD:
            body = hospital.ordering(patient_id, *drafts(patient_id), hook="order-sign")
            found[patient_id] = comparable(same_words(await sandbox.post(body)))
    return found


@pytest.mark.parametrize("patient_id", WARD)
async def test_read_from_the_server_and_sent_along(patient_id: str, bedside: Ward, expected: dict[str, Any]) -> None:
    read = await bedside.order(patient_id, *drafts(patient_id), hook="order-sign")
    assert expected[patient_id]
    assert comparable(same_words(read)) == expected[patient_id]
    for action in actions(read):
        if action["type"] == "update":
            checked = await bedside.fhir.post(f"{bedside.base}/MedicationRequest/$validate", json=action["resource"])
            assert {issue["severity"] for issue in checked.json()["issue"]} <= {"information", "warning"}
    services = (await bedside.client.get("/cds-services")).json()["services"]
    sent = await bedside.prefetched(patient_id, keys=services[2]["prefetch"])
    along = await bedside.order(patient_id, *drafts(patient_id), hook="order-sign", prefetched=sent)
    assert comparable(same_words(along)) == expected[patient_id]
    if patient_id in MIXED:
        for key in sent:
            part = {name: value for name, value in sent.items() if name != key}
            again = await bedside.order(patient_id, *drafts(patient_id), hook="order-sign", prefetched=part)
            assert comparable(same_words(again)) == expected[patient_id], key


async def test_a_correction_that_is_accepted_and_signed_is_an_order_that_is_known(bedside: Ward) -> None:
    """As an EHR does it: the draft takes the resource of the suggestion, is signed, and becomes an active order."""
    patient_id = "order-accepted"
    load(bedside.base, chart(patient_id))
    answer = await bedside.order(patient_id, *pair(patient_id, mg=600), hook="order-select")
    (action,) = actions(answer)
    changed = action["resource"]
    signed = await bedside.order(patient_id, changed, draft("ruxolitinib", patient_id), hook="order-sign")
    assert checks(signed) <= {"ORD-NO-TAPER"}
    active = {**changed, "id": "order-accepted-anakinra", "status": "active"}
    kept = await bedside.fhir.put(f"{bedside.base}/MedicationRequest/{active['id']}", json=active)
    assert kept.status_code in {200, 201}
    again = await bedside.order(patient_id, *pair(patient_id), hook="order-sign")
    assert "ORD-DUPLICATE" in checks(again)
    interacting = await bedside.order(patient_id, draft("fluconazole", patient_id, mg=400), hook="order-select")
    assert decision(interacting)["outcome"] == "nothing-to-say", (
        "fluconazole concerns ruxolitinib, which is not ordered"
    )


async def test_a_medication_that_only_the_server_has(bedside: Ward) -> None:
    medication = {
        "resourceType": "Medication",
        "id": "only-here",
        "code": {"coding": [{"system": RXNORM, "code": CODES["anakinra"]}]},
    }
    assert (await bedside.fhir.put(f"{bedside.base}/Medication/only-here", json=medication)).status_code in {200, 201}
    for reference in ("Medication/only-here", f"{bedside.base}/Medication/only-here"):
        answer = await bedside.order(WARD[0], by_reference(reference), draft("ruxolitinib"), hook="order-sign")
        assert "ORD-DOSE-ABOVE" in checks(answer)
