"""The order hooks on the whole path: draft orders in, record read, cards out, decision kept."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fhir.resources.R4B.medicationrequest import MedicationRequest

from app.sandbox.patients import Fault
from tests.integration.hospital import NOW, Hospital, decision, opened, ordering, same_words

MET = "demo-full-protocol"
TREATED = "demo-day-7"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
CODES = {"anakinra": "72435", "ruxolitinib": "1193326", "fluconazole": "4450", "paracetamol": "161"}
PLANNED = {"anakinra": (300, 1, 11), "ruxolitinib": (5, 2, 28)}
TODAY = NOW.date()


@pytest.fixture
async def hospital(tmp_path: Path) -> AsyncIterator[Hospital]:
    async with opened(tmp_path) as found:
        yield found


def draft(drug: str, patient_id: str = MET, *, id: str | None = None, **more: Any) -> dict[str, Any]:  # noqa: A002
    """A draft; `mg`, `times`, `days` are the letter's unless said otherwise."""
    mg, times, days = PLANNED.get(drug, (200, 1, 7))
    mg, times, days = more.pop("mg", mg), more.pop("times", times), more.pop("days", days)
    bounds = {"start": TODAY.isoformat(), "end": (TODAY + timedelta(days=days - 1)).isoformat()}
    return {
        "resourceType": "MedicationRequest",
        "id": id or f"draft-{drug}",
        "status": "draft",
        "intent": "order",
        "subject": {"reference": f"Patient/{patient_id}"},
        "medicationCodeableConcept": {"coding": [{"system": RXNORM, "code": CODES[drug]}], "text": drug},
        "dosageInstruction": [
            {
                "timing": {"repeat": {"frequency": times, "period": 1, "periodUnit": "d", "boundsPeriod": bounds}},
                "doseAndRate": [
                    {"doseQuantity": {"value": mg, "unit": "mg", "system": "http://unitsofmeasure.org", "code": "mg"}}
                ],
            }
        ],
    } | more


def pair(patient_id: str = MET, **more: Any) -> list[dict[str, Any]]:
    return [draft("anakinra", patient_id, **more), draft("ruxolitinib", patient_id)]


def actions(answer: httpx.Response) -> list[dict[str, Any]]:
    return [a for card in answer.json()["cards"] for s in card.get("suggestions", []) for a in s["actions"]]


def checks(answer: httpx.Response) -> set[str]:
    entries = [card["extension"]["org.rescue-cds.evidence"] for card in answer.json()["cards"]]
    return {check["id"] for entry in entries for check in entry.get("checks", [])}


@pytest.mark.parametrize("hook", ["order-select", "order-sign"])
async def test_the_letters_own_course_is_nothing_to_say(hospital: Hospital, hook: str) -> None:
    answer = await hospital.post(ordering(MET, *pair(), hook=hook))
    assert answer.status_code == 200
    assert answer.json()["cards"] == []
    assert decision(answer)["outcome"] == "nothing-to-say"
    (row,) = hospital.rows()
    verdicts = json.loads(row["verdicts"])
    assert (row["hook"], row["service"]) == (hook, f"anakinra-ruxolitinib-{hook}")
    assert [found["drugs"] for found in verdicts["orders"]["drafts"]] == [["anakinra"], ["ruxolitinib"]]
    assert set(verdicts["orders"]["checks"].values()) == {"absent"}
    assert verdicts["safety"]["CI-PLT-LT-50"] == "absent"


async def test_a_drug_that_no_check_looks_at_reads_nothing(hospital: Hospital) -> None:
    answer = await hospital.post(ordering(MET, draft("paracetamol"), hook="order-sign"))
    assert decision(answer)["outcome"] == "nothing-to-say"
    assert hospital.wire.sent == []
    assert hospital.rows("decision_facts") == []


async def test_the_same_cards_read_sent_along_and_in_part(hospital: Hospital) -> None:
    drafts = [draft("anakinra", TREATED, mg=600), draft("fluconazole", TREATED, mg=400)]
    read = await hospital.post(ordering(TREATED, *drafts, hook="order-sign"))
    sent = await hospital.prefetched(TREATED, service=1)
    whole = await hospital.post(ordering(TREATED, *drafts, hook="order-sign", fhir=None, prefetched=sent))
    assert same_words(whole) == same_words(read) != []
    for key in sent:
        part = {name: value for name, value in sent.items() if name != key}
        again = await hospital.post(ordering(TREATED, *drafts, hook="order-sign", prefetched=part))
        assert same_words(again) == same_words(read), key


async def test_a_dose_and_a_last_day_can_be_led_back_to_the_letter(hospital: Hospital) -> None:
    answer = await hospital.post(ordering(MET, *pair(mg=600, days=60), hook="order-sign"))
    assert checks(answer) >= {"ORD-DOSE-ABOVE", "ORD-ENDS-LATER"}
    (card,) = answer.json()["cards"]
    assert card["indicator"] == "warning"
    assert card["selectionBehavior"] == "any"
    (action,) = actions(answer)
    assert action["type"] == "update"
    changed = action["resource"]
    MedicationRequest.model_validate(changed)
    (line,) = changed["dosageInstruction"]
    assert line["doseAndRate"][0]["doseQuantity"]["value"] == 300
    assert line["timing"]["repeat"]["boundsPeriod"]["end"] == (TODAY + timedelta(days=13)).isoformat()
    again = await hospital.post(ordering(MET, changed, draft("ruxolitinib"), hook="order-select"))
    assert decision(again)["outcome"] == "nothing-to-say"


async def test_a_stop_is_critical_when_signed_and_a_warning_when_picked(hospital: Hospital) -> None:
    drafts = pair("demo-neutropenia")
    picked = await hospital.post(ordering("demo-neutropenia", *drafts, hook="order-select"))
    signed = await hospital.post(ordering("demo-neutropenia", *drafts, hook="order-sign"))
    assert [card["indicator"] for card in picked.json()["cards"]] == ["warning"]
    assert signed.json()["cards"][0]["indicator"] == "critical"
    assert [(a["type"], a["resourceId"]) for a in actions(signed)] == [
        ("delete", "MedicationRequest/draft-anakinra"),
        ("delete", "MedicationRequest/draft-ruxolitinib"),
    ]
    assert "resource" not in actions(signed)[0]


async def test_an_interacting_drug_during_the_course_and_for_nobody_else(hospital: Hospital) -> None:
    told = await hospital.post(ordering(TREATED, draft("fluconazole", TREATED, mg=400), hook="order-select"))
    (card,) = told.json()["cards"]
    assert card["summary"].startswith("Fluconazole drafted: Fluconazole above 200 mg a day")
    other = await hospital.post(ordering(MET, draft("fluconazole", mg=400), hook="order-select"))
    assert decision(other)["outcome"] == "nothing-to-say"


async def test_where_the_record_is_refused_it_is_said(hospital: Hospital) -> None:
    patient = "demo-medications-refused"
    answer = await hospital.post(ordering(patient, draft("fluconazole", patient), hook="order-select"))
    assert checks(answer) == {"ORD-RECEPTION-UNKNOWN"}
    assert "server refused (403)" in answer.json()["cards"][0]["detail"]
    assert {gap["source"] for gap in decision(answer)["gaps"]} >= {"MedicationRequest"}


async def test_selections_restrict_what_is_told(hospital: Hospital) -> None:
    drafts = [draft("anakinra", mg=600), draft("ruxolitinib")]
    quiet = ordering(MET, *drafts, hook="order-select", selections=["MedicationRequest/draft-ruxolitinib"])
    assert decision(await hospital.post(quiet))["outcome"] == "nothing-to-say"
    loud = ordering(MET, *drafts, hook="order-select", selections=["MedicationRequest/draft-anakinra"])
    assert checks(await hospital.post(loud)) == {"ORD-DOSE-ABOVE"}


async def test_orders_of_another_patient_are_the_one_card_and_nothing_else(hospital: Hospital) -> None:
    drafts = [draft("anakinra"), draft("ruxolitinib", "somebody-else")]
    answer = await hospital.post(
        ordering(MET, *drafts, hook="order-select", selections=["MedicationRequest/draft-anakinra"])
    )
    (card,) = answer.json()["cards"]
    assert decision(answer)["outcome"] == "identity-mismatch"
    assert (card["indicator"], card.get("suggestions")) == ("warning", None)
    assert hospital.wire.sent == []
    assert json.loads(hospital.rows()[0]["verdicts"]) == {}


async def test_the_patient_of_the_record_is_another_one(hospital: Hospital) -> None:
    sent = await hospital.prefetched(MET, service=1)
    answer = await hospital.post(ordering("p2", *pair("p2"), hook="order-sign", fhir=None, prefetched=sent))
    assert decision(answer)["outcome"] == "identity-mismatch"


async def test_without_draft_orders_it_is_no_order_call(hospital: Hospital) -> None:
    body = ordering(MET, hook="order-sign")
    del body["context"]["draftOrders"]
    answer = await hospital.post(body)
    assert answer.status_code == 400
    assert answer.json()["issue"][0]["diagnostics"] == "context.draftOrders must be a Bundle"
    assert hospital.rows() == []


async def test_nothing_to_look_at_is_412(hospital: Hospital) -> None:
    answer = await hospital.post(ordering(MET, *pair(), hook="order-sign", fhir=None))
    assert answer.status_code == 412
    assert hospital.rows()[0]["outcome"] == "not-evaluated"


async def test_a_patient_user_gets_none(hospital: Hospital) -> None:
    for user in (f"Patient/{MET}", "RelatedPerson/mother"):
        answer = await hospital.post(ordering(MET, *pair(mg=900), hook="order-sign", user=user))
        assert (answer.json()["cards"], decision(answer)["outcome"]) == ([], "patient-user")


async def test_the_deceased_get_no_card(hospital: Hospital) -> None:
    answer = await hospital.post(ordering("demo-deceased", *pair("demo-deceased", mg=900), hook="order-sign"))
    assert (answer.json()["cards"], decision(answer)["outcome"]) == ([], "deceased")


MEDICATION = {
    "resourceType": "Medication",
    "id": "m1",
    "code": {"coding": [{"system": RXNORM, "code": CODES["anakinra"]}]},
}


def by_reference(reference: str, **more: Any) -> dict[str, Any]:
    resource = draft("anakinra", mg=600, **more)
    del resource["medicationCodeableConcept"]
    return resource | {"medicationReference": {"reference": reference}}


@pytest.mark.parametrize("where", ["contained", "bundle", "prefetch", "read", "read by its address", "nowhere"])
async def test_a_medication_is_looked_for_everywhere(tmp_path: Path, where: str) -> None:
    def answers(request: httpx.Request) -> httpx.Response | None:
        if request.url.path != "/fhir/Medication" or not where.startswith("read"):
            return None
        assert dict(request.url.params)["_id"] == "m1"
        return httpx.Response(
            200, json={"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": MEDICATION}]}
        )

    async with opened(tmp_path, answers=answers) as hospital:
        reference = {"contained": "#m1", "read by its address": "http://127.0.0.1:8080/fhir/Medication/m1"}.get(
            where, "Medication/m1"
        )
        one = by_reference(reference, **({"contained": [MEDICATION]} if where == "contained" else {}))
        drafts = [one, draft("ruxolitinib"), *([MEDICATION] if where == "bundle" else [])]
        sent = (
            {"orders": {"resourceType": "Bundle", "entry": [{"resource": MEDICATION}]}} if where == "prefetch" else {}
        )
        answer = await hospital.post(ordering(MET, *drafts, hook="order-sign", prefetched=sent))
        said = checks(answer)
    assert said == ({"ORD-NOT-IDENTIFIED", "ORD-ONE-OF-PAIR"} if where == "nowhere" else {"ORD-DOSE-ABOVE"})


async def test_a_dead_server_is_no_absence(tmp_path: Path) -> None:
    faults = {MET: dict.fromkeys(("Condition", "AllergyIntolerance", "Observation"), Fault(503))}
    async with opened(tmp_path, faults=faults) as hospital:
        answer = await hospital.post(ordering(MET, *pair(mg=600), hook="order-sign"))
    safety, protocol = answer.json()["cards"]
    assert "safety data missing or in doubt" in safety["summary"]
    assert safety["indicator"] == "warning"
    assert protocol.get("suggestions") is None  # nobody offers a dose while safety data are missing


async def test_hostile_words_in_a_draft(hospital: Hospital) -> None:
    hostile = "Kineret <img src=x onerror=alert(1)> [l](http://evil.example) \u202e `x`"
    one = draft("anakinra", TREATED) | {"medicationCodeableConcept": {"text": hostile}, "note": [{"text": "\u000b"}]}
    answer = await hospital.post(ordering(TREATED, one, hook="order-sign"))
    text = json.dumps(
        [{k: v for k, v in c.items() if k in {"summary", "detail", "suggestions"}} for c in answer.json()["cards"]]
    )
    assert "possibly anakinra" in text
    assert "<img" not in text
    assert "http://evil" not in text


async def test_many_orders_are_refused_or_answered(hospital: Hospital) -> None:
    many = [draft("paracetamol", id=f"d{number}") for number in range(1001)]
    assert (await hospital.post(ordering(MET, *many, hook="order-sign"))).status_code == 400
    some = [draft("anakinra", id=f"d{number}") for number in range(30)]
    answer = await hospital.post(ordering(MET, *some, hook="order-sign"))
    assert checks(answer) >= {"ORD-DUPLICATE"}
    assert all(len(card.get("suggestions", [])) <= 4 for card in answer.json()["cards"])


async def test_the_cards_of_a_decision_are_kept_with_it(hospital: Hospital) -> None:
    answer = await hospital.post(ordering(MET, *pair(mg=600), hook="order-sign"))
    (card,) = answer.json()["cards"]
    (row,) = hospital.rows("decision_cards")
    assert (row["card"], row["name"], row["indicator"]) == (card["uuid"], "protocol", "warning")
    assert row["decision_id"] == decision(answer)["id"]
    assert json.loads(row["suggestions"]) == [s["uuid"] for s in card["suggestions"]]


async def test_checks_that_are_silenced_say_so(tmp_path: Path) -> None:
    async with opened(tmp_path, silenced=frozenset({"order-checks"})) as hospital:
        answer = await hospital.post(ordering(MET, *pair(mg=600), hook="order-sign"))
        assert (answer.json()["cards"], decision(answer)["outcome"]) == ([], "disabled")
    async with opened(tmp_path, silenced=frozenset({"all"})) as hospital:
        answer = await hospital.post(ordering(MET, *pair(mg=600), hook="order-sign"))
        assert (answer.json()["cards"], decision(answer)["outcome"]) == ([], "disabled")


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("own identifier", "card"),
        ({"identifier": {"system": "urn:mrn", "value": "somebody else"}}, "identity-mismatch"),
        ({"reference": "#p"}, "card"),
        ({"reference": "Group/7"}, "card"),
        ({"reference": f"Patient/{MET}/"}, "card"),
        ([{"reference": "Patient/other"}], "identity-mismatch"),
        (None, "card"),
    ],
)
async def test_whose_a_draft_is(hospital: Hospital, subject: Any, expected: str) -> None:
    """An identifier has to be one of the Patient's (reading 3.14); what cannot be followed takes the suggestions."""
    patient = (await hospital.fhir.get(f"/Patient/{MET}")).json()
    own = {"identifier": {name: patient["identifier"][0][name] for name in ("system", "value")}}
    drafts = [one | {"subject": own if subject == "own identifier" else subject} for one in pair(mg=600)]
    answer = await hospital.post(ordering(MET, *drafts, hook="order-sign"))
    assert decision(answer)["outcome"] == expected
    unclear = isinstance(subject, dict) and subject.get("reference", "Patient/").partition("/")[0] != "Patient"
    told = [gap for gap in decision(answer).get("gaps", []) if gap.get("need") == "draft-orders"]
    if expected == "card":
        assert bool(told) is unclear
        if subject is not None:  # without a subject it is no valid order, so nothing is offered to change in it
            assert bool(actions(answer)) is not unclear


async def test_an_identifier_and_no_patient_to_compare_it_with(tmp_path: Path) -> None:
    async with opened(tmp_path, faults={MET: {"Patient": Fault(403)}}) as hospital:
        drafts = [one | {"subject": {"identifier": {"value": "x"}}} for one in pair(mg=600)]
        answer = await hospital.post(ordering(MET, *drafts, hook="order-sign"))
    assert decision(answer)["outcome"] == "card"
    assert actions(answer) == []


async def test_nothing_that_a_client_calls_a_draft_reaches_the_kept_tables(hospital: Hospital) -> None:
    drafts = [one | {"id": f"Jane Doe {number}"} for number, one in enumerate(pair(mg=600))]
    await hospital.post(ordering(MET, *drafts, hook="order-sign"))
    assert "Jane Doe" not in json.dumps(hospital.rows())
