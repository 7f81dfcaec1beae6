"""The order pad in a real browser: which hooks it fires with what, what signing does, what accepted suggestions change,
and what the service is told about its cards."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.browser.answers import CARD, CONTRAST, answer, card, order, suggestion

pytestmark = pytest.mark.browser

SUGGESTION = "00000000-0000-5000-8000-00000000000a"
INFO = card(suggestions=[], links=[], detail="Interaction: FU-INTERACTION")


def open_pad(tab: Any, demo: Any, patient: str = "ada") -> None:
    tab.open_chart(demo.url, patient)
    tab.until("!document.querySelector('#pad').hidden")


def pick(tab: Any, key: str) -> None:
    tab.run(f"{{ document.querySelector('#pick').value = '{key}'; document.querySelector('#add').click(); }}")


def enter(tab: Any, value: str, *, label: str, draft: int = 1, step: int = 1) -> None:
    """Type into a field of a draft, found by its label."""
    tab.run(
        "{ const label = [...document.querySelectorAll("
        f"'#drafts > li:nth-child({draft}) .step')][{step - 1}].querySelectorAll('label');"
        f"const input = [...label].find((each) => each.innerText.startsWith({json.dumps(label)}))"
        ".querySelector('input, select');"
        f"input.value = {json.dumps(value)}; input.dispatchEvent(new Event('input'));"
        "input.dispatchEvent(new Event('change')); }"
    )


def answered(tab: Any, words: str) -> None:
    """Wait until the cards on the orders are there and hold these words."""
    tab.until(
        "document.querySelector('#order-cards').ariaBusy === 'false' && "
        f"document.querySelector('#order-cards').innerText.includes({json.dumps(words)})"
    )


def asked(tab: Any, demo: Any, hook: str, times: int) -> list[dict[str, Any]]:
    """The requests of a hook once there are so many of them."""
    for _ in range(200):
        if len(demo.asked(hook)) >= times:
            break
        tab.run("new Promise((done) => setTimeout(done, 40))")
    found: list[dict[str, Any]] = demo.asked(hook)
    assert len(found) == times
    return found


def on(hook: str, *cards: dict[str, Any]) -> Any:
    """These cards at one hook, nothing to say at the others."""
    return lambda sent: answer(*cards) if sent["hook"] == hook else answer(outcome="nothing-to-say")


def drafts(sent: dict[str, Any]) -> list[dict[str, Any]]:
    return [entry["resource"] for entry in sent["context"]["draftOrders"]["entry"]]


def placed(tab: Any, patient: str = "ada") -> list[dict[str, Any]]:
    found = tab.run(f"fetch('/fhir/MedicationRequest?patient={patient}').then((each) => each.json())")
    return [entry["resource"] for entry in found.get("entry", [])]


def test_a_picked_drug_fires_order_select_with_what_was_picked(tab: Any, demo: Any) -> None:
    demo.answer = on("order-select", INFO)
    open_pad(tab, demo)
    assert demo.asked("order-select") == []
    pick(tab, "fluconazole")
    answered(tab, "Thresholds of the")
    (sent,) = demo.asked("order-select")
    context = sent["context"]
    (draft,) = drafts(sent)
    assert context["userId"] == "Practitioner/demo-icu"
    assert (context["patientId"], context["encounterId"]) == ("ada", "stay-ada")
    assert context["selections"] == [f"MedicationRequest/{draft['id']}"]
    assert context["draftOrders"]["resourceType"] == "Bundle"
    assert (draft["status"], draft["intent"]) == ("draft", "order")
    assert draft["subject"] == {"reference": "Patient/ada"}
    assert draft["encounter"] == {"reference": "Encounter/stay-ada"}
    assert draft["authoredOn"].endswith("Z")
    codes = {coding["system"]: coding["code"] for coding in draft["medicationCodeableConcept"]["coding"]}
    assert codes == {
        "http://www.whocc.no/atc": "J02AC01",
        "http://www.nlm.nih.gov/research/umls/rxnorm": "4450",
    }
    (step,) = draft["dosageInstruction"]
    assert step["text"] == "fluconazole 400 mg, intravenous, once a day, for 14 days"
    assert step["timing"]["repeat"] == {
        "boundsDuration": {"value": 14, "unit": "d", "system": "http://unitsofmeasure.org", "code": "d"},
        "frequency": 1,
        "period": 1,
        "periodUnit": "d",
    }
    assert step["doseAndRate"][0]["doseQuantity"]["value"] == 400
    assert sent["prefetch"].keys() == {"patient", "results", "orders", "unresolved"}
    assert sent["prefetch"]["unresolved"]["id"] == "stay-ada"
    assert placed(tab) == []
    tab.run("document.querySelector('#drawer').open = true")
    shown = tab.run("[...document.querySelectorAll('.event')].map((each) => each.querySelector('strong').innerText)")
    assert shown == ["order-select", "patient-view"]
    assert json.loads(tab.run("document.querySelector('.exchange .body').textContent")) == sent


def test_the_service_is_left_to_read_at_the_order_hooks_too(tab: Any, demo: Any) -> None:
    open_pad(tab, demo)
    tab.run("document.querySelector('input[value=read]').click()")
    asked(tab, demo, "patient-view", 2)
    tab.until("!document.querySelector('#pad').hidden && document.querySelector('#cards').ariaBusy === 'false'")
    pick(tab, "paracetamol")
    (sent,) = asked(tab, demo, "order-select", 1)
    assert "prefetch" not in sent
    answered(tab, "no reason given")
    tab.run("document.querySelector('#sign').click()")
    (sent,) = asked(tab, demo, "order-sign", 1)
    assert "prefetch" not in sent


def test_both_drugs_are_two_orders_whose_steps_follow_one_another(tab: Any, demo: Any) -> None:
    open_pad(tab, demo)
    pick(tab, "pair")
    (sent,) = asked(tab, demo, "order-select", 1)
    anakinra, ruxolitinib = drafts(sent)
    assert len(sent["context"]["selections"]) == 2
    periods = [step["timing"]["repeat"]["boundsPeriod"] for step in anakinra["dosageInstruction"]]
    days = f"[{json.dumps(periods)}][0].map((each) => (Date.parse(each.end) - Date.parse(each.start)) / 864e5 + 1)"
    assert tab.run(days) == [11, 2, 1]
    (course,) = ruxolitinib["dosageInstruction"]
    assert course["timing"]["repeat"]["frequency"] == 2
    enter(tab, "9", label="Days")
    _, sent = asked(tab, demo, "order-select", 2)
    moved = [step["timing"]["repeat"]["boundsPeriod"] for step in drafts(sent)[0]["dosageInstruction"]]
    assert moved[0]["start"] == periods[0]["start"]
    gaps = (
        f"[{json.dumps(moved)}][0].map((each, at, all) => at && Date.parse(each.start) - Date.parse(all[at - 1].end))"
    )
    assert tab.run(gaps) == [0, 86_400_000, 86_400_000]
    assert sent["context"]["selections"] == [f"MedicationRequest/{anakinra['id']}"]


def test_an_order_named_by_text_only_has_no_code(tab: Any, demo: Any) -> None:
    open_pad(tab, demo)
    pick(tab, "kineret")
    (sent,) = asked(tab, demo, "order-select", 1)
    assert drafts(sent)[0]["medicationCodeableConcept"] == {"text": "Kineret 100 mg solution for injection"}
    assert "named by text only" in tab.text("#drafts")


def test_edits_are_sent_once_they_rest_and_only_what_was_edited_is_selected(tab: Any, demo: Any) -> None:
    open_pad(tab, demo)
    pick(tab, "paracetamol")
    asked(tab, demo, "order-select", 1)
    answered(tab, "no reason given")
    pick(tab, "fluconazole")
    asked(tab, demo, "order-select", 2)
    answered(tab, "no reason given")
    for value in ("2", "20", "200"):
        enter(tab, value, label="Dose", draft=2)
    enter(tab, "3", label="Route", draft=2)
    enter(tab, "2", label="Times", draft=2)
    *_, sent = asked(tab, demo, "order-select", 3)
    paracetamol, fluconazole = drafts(sent)
    assert sent["context"]["selections"] == [f"MedicationRequest/{fluconazole['id']}"]
    (step,) = fluconazole["dosageInstruction"]
    assert step["text"] == "fluconazole 200 mg, oral, twice a day, for 14 days"
    assert step["route"]["coding"][0]["code"] == "26643006"
    assert paracetamol["dosageInstruction"][0]["doseAndRate"][0]["doseQuantity"]["value"] == 1
    tab.run("new Promise((done) => setTimeout(done, 700))")
    assert len(demo.asked("order-select")) == 3


@pytest.mark.parametrize(
    ("label", "value"), [("Dose", ""), ("Dose", "0"), ("Dose", "-1"), ("Times", "1.5"), ("Days", "0")]
)
def test_a_value_that_cannot_be_ordered_is_neither_asked_about_nor_signed(
    tab: Any, demo: Any, label: str, value: str
) -> None:
    open_pad(tab, demo)
    pick(tab, "fluconazole")
    asked(tab, demo, "order-select", 1)
    enter(tab, value, label=label)
    tab.run("new Promise((done) => setTimeout(done, 700))")
    tab.run("document.querySelector('#sign').click()")
    assert "Not signed" in tab.text("#pad-state")
    assert tab.run("document.activeElement.ariaInvalid") == "true"
    assert len(demo.asked("order-select")) == 1
    assert demo.asked("order-sign") == []
    enter(tab, "3", label=label)
    asked(tab, demo, "order-select", 2)


def test_a_late_answer_never_replaces_a_newer_one(tab: Any, demo: Any) -> None:
    def dose(sent: dict[str, Any]) -> int:
        return int(drafts(sent)[0]["dosageInstruction"][0]["doseAndRate"][0]["doseQuantity"]["value"])

    demo.delay = lambda sent: 1.5 if sent["hook"] == "order-select" and dose(sent) == 400 else 0
    demo.answer = lambda sent: answer(
        *([card(summary=f"Card on {dose(sent)} mg", suggestions=[])] if sent["hook"] == "order-select" else [])
    )
    open_pad(tab, demo)
    pick(tab, "fluconazole")
    asked(tab, demo, "order-select", 1)
    enter(tab, "200", label="Dose")
    answered(tab, "Card on 200 mg")
    _, second = demo.asked("order-select")
    assert len(second["context"]["selections"]) == 1
    tab.run("new Promise((done) => setTimeout(done, 1700))")
    assert tab.text("#order-cards .card h3") == "Card on 200 mg"
    assert "given up" in tab.run("document.querySelector('#exchanges').textContent")


def test_what_was_never_answered_is_asked_about_again(tab: Any, demo: Any) -> None:
    demo.delay = lambda sent: 1.5 if sent["hook"] == "order-select" and len(drafts(sent)) == 1 else 0
    open_pad(tab, demo)
    pick(tab, "fluconazole")
    asked(tab, demo, "order-select", 1)
    pick(tab, "paracetamol")
    _, sent = asked(tab, demo, "order-select", 2)
    assert sent["context"]["selections"] == [f"MedicationRequest/{draft['id']}" for draft in drafts(sent)]


def test_signed_drafts_become_active_orders_and_patient_view_fires_again(tab: Any, demo: Any) -> None:
    demo.answer = on("order-sign", INFO)
    open_pad(tab, demo)
    pick(tab, "fluconazole")
    pick(tab, "paracetamol")
    asked(tab, demo, "order-select", 1)
    answered(tab, "nothing to say")
    tab.run("document.querySelector('#sign').click()")
    tab.until("document.querySelector('#pad-state').innerText.includes('Signed')")
    (sent,) = demo.asked("order-sign")
    assert "selections" not in sent["context"]
    assert [draft["medicationCodeableConcept"]["text"] for draft in drafts(sent)] == ["fluconazole", "paracetamol"]
    orders = placed(tab)
    assert {(each["status"], each["intent"]) for each in orders} == {("active", "order")}
    assert {each["id"] for each in orders}.isdisjoint({draft["id"] for draft in drafts(sent)})
    assert orders[0]["dosageInstruction"] == drafts(sent)[0]["dosageInstruction"]
    asked(tab, demo, "patient-view", 2)
    tab.until("document.querySelector('#chart').innerText.includes('fluconazole')")
    assert tab.count("#drafts li") == 0
    assert tab.run("document.querySelector('#sign').hidden") is True
    assert tab.count("#order-cards .card") == 1  # what was said at signing stays to be read
    kinds = tab.run("[...document.querySelectorAll('.event > summary strong')].map((each) => each.textContent)")
    assert kinds == ["patient-view", "order", "order", "order-sign", "order-select", "patient-view"]


def test_a_critical_card_asks_for_a_second_press_and_offers_a_way_back(tab: Any, demo: Any) -> None:
    demo.answer = on("order-sign", INFO, card(indicator="critical", uuid=CARD[:-1] + "9", suggestions=[]))
    open_pad(tab, demo)
    pick(tab, "ruxolitinib")
    asked(tab, demo, "order-select", 1)
    tab.run("document.querySelector('#sign').click()")
    tab.until("document.querySelector('#ask .anyway')")
    assert tab.run(
        "[...document.querySelectorAll('#order-cards .indicator')].map((each) => each.innerText.trim())"
    ) == [
        "‼\nCritical",
        "i\nInfo",
    ]
    assert "is the decision of this EHR" in tab.text("#ask")
    assert tab.run("document.activeElement.innerText") == "Go back to the drafts"
    assert tab.run("document.querySelector('#sign').disabled") is True
    assert placed(tab) == []
    tab.run("document.activeElement.click()")
    assert tab.run("document.querySelector('#ask').hidden") is True
    assert tab.run("document.activeElement.id") == "sign"
    assert tab.count("#drafts li") == 1
    tab.run("document.querySelector('#sign').click()")
    tab.until("document.querySelector('#ask .anyway')")
    enter(tab, "5", label="Dose")  # another draft than the one that was asked about
    assert tab.run("document.querySelector('#ask').hidden") is True
    tab.run("document.querySelector('#sign').click()")
    tab.until("document.querySelector('#ask .anyway')")
    assert placed(tab) == []
    tab.run("document.querySelector('#ask .anyway').click()")
    tab.until("document.querySelector('#pad-state').innerText.includes('Signed')")
    assert len(placed(tab)) == 1


@pytest.mark.parametrize(
    ("status", "words"), [(400, "refused (400)"), (404, "No such service (404)"), (503, "overloaded (503)")]
)
def test_a_service_that_fails_at_the_order_hooks_is_told_and_nothing_is_signed_unasked(
    tab: Any, demo: Any, status: int, words: str
) -> None:
    demo.refused = {"order-select": status, "order-sign": status, "feedback": status}
    demo.answer = lambda _sent: answer(card())
    open_pad(tab, demo)
    pick(tab, "fluconazole")
    answered(tab, words)
    assert "This is not an all-clear." in tab.text("#order-cards")
    tab.run("document.querySelector('#sign').click()")
    tab.until("document.querySelector('#ask .anyway')")
    assert "did not happen" in tab.text("#ask")
    assert words in tab.text("#ask")
    assert placed(tab) == []
    tab.run("document.querySelector('#cards button.accept').click()")
    tab.until(f"document.querySelector('#cards .ordered').innerText.includes({json.dumps(words)})")
    tab.run("document.querySelector('#cards .dismissal button').click()")
    tab.until(f"document.querySelector('#cards .dismissed').innerText.includes({json.dumps(words)})")


def test_an_order_that_the_server_refuses_stays_a_draft(tab: Any, demo: Any) -> None:
    large = suggestion("Too large", order("x" * 300_000, times=1))
    demo.answer = on("patient-view", card(suggestions=[large]))
    open_pad(tab, demo)
    tab.run("document.querySelector('button.accept').click()")
    pick(tab, "paracetamol")
    asked(tab, demo, "order-select", 1)
    answered(tab, "nothing to say")
    tab.run("document.querySelector('#sign').click()")
    tab.until("document.querySelector('#pad-state').innerText.includes('still drafts')")
    assert "the FHIR server answered 413" in tab.text("#pad-state")
    assert [each["medicationCodeableConcept"]["text"] for each in placed(tab)] == ["paracetamol"]
    assert tab.count("#drafts li") == 1
    assert tab.run("document.querySelector('#sign').disabled") is False


def test_a_created_suggestion_becomes_a_draft_and_is_reported(tab: Any, demo: Any) -> None:
    demo.answer = on("patient-view", card())
    open_pad(tab, demo)
    tab.run("document.querySelector('button.accept').click()")
    (sent,) = asked(tab, demo, "order-select", 1)
    (draft,) = drafts(sent)
    assert draft["medicationCodeableConcept"] == {"text": "anakinra"}
    assert (draft["status"], draft["intent"]) == ("draft", "order")
    assert draft["encounter"] == {"reference": "Encounter/stay-ada"}
    assert sent["context"]["selections"] == [f"MedicationRequest/{draft['id']}"]
    assert placed(tab) == []
    tab.until("document.querySelector('#cards .ordered').innerText.includes('Feedback sent.')")
    ((service, body),) = demo.feedback
    (entry,) = body["feedback"]
    assert service == "one"
    assert (entry["card"], entry["outcome"]) == (CARD, "accepted")
    assert entry["acceptedSuggestions"] == [{"id": card()["suggestions"][0]["uuid"]}]
    assert entry["outcomeTimestamp"].endswith("Z")
    assert tab.run("[...document.querySelectorAll('#cards .accept')].map((each) => each.disabled)") == [True, False]
    tab.run("document.querySelector('#drawer').open = true")
    assert "feedback" in tab.run(
        "[...document.querySelectorAll('.event > summary strong')].map((each) => each.innerText)"
    )


def corrected(sent: dict[str, Any]) -> dict[str, Any]:
    """An update of the first draft: half the dose, half the days, a note."""
    resource = copy.deepcopy(drafts(sent)[0])
    (step,) = resource["dosageInstruction"]
    step["doseAndRate"][0]["doseQuantity"]["value"] = 200
    step["timing"]["repeat"]["boundsDuration"]["value"] = 7
    resource["note"] = [{"text": "<b>corrected</b>"}]
    action = {"type": "update", "description": "Fluconazole to 200 mg", "resource": resource}
    made = {"label": "200 mg a day", "uuid": SUGGESTION, "actions": [action]}
    return card(suggestions=[made], selectionBehavior="at-most-one", indicator="warning")


def test_an_accepted_update_replaces_the_draft_and_says_what_changed(tab: Any, demo: Any) -> None:
    demo.answer = lambda sent: answer(*([corrected(sent)] if sent["hook"] == "order-select" else []))
    open_pad(tab, demo)
    pick(tab, "fluconazole")
    answered(tab, "200 mg a day")
    tab.run("document.querySelector('#order-cards button.accept').click()")
    assert tab.run("[...document.querySelectorAll('.changed li')].map((each) => each.innerText)") == [
        "Dose: 400 mg → 200 mg",
        "Days: for 14 days → for 7 days",
        "note: nothing → <b>corrected</b>",
    ]
    assert tab.run("[...document.querySelectorAll('.step input')].map((each) => each.value)") == ["200", "1", "7"]
    first, second = asked(tab, demo, "order-select", 2)
    assert drafts(second) == [corrected(first)["suggestions"][0]["actions"][0]["resource"]]
    assert second["context"]["selections"] == first["context"]["selections"]
    ((service, body),) = demo.feedback
    assert service == "select"
    assert body["feedback"][0]["acceptedSuggestions"] == [{"id": SUGGESTION}]
    enter(tab, "150", label="Dose")
    assert tab.count(".changed") == 0


def test_an_accepted_delete_removes_the_draft_it_names(tab: Any, demo: Any) -> None:
    def respond(sent: dict[str, Any]) -> dict[str, Any]:
        if sent["hook"] != "order-select" or len(drafts(sent)) < 2:
            return answer(outcome="nothing-to-say")
        action = {"type": "delete", "description": "Remove", "resourceId": f"MedicationRequest/{drafts(sent)[1]['id']}"}
        return answer(card(suggestions=[{"label": "Remove it", "uuid": SUGGESTION, "actions": [action]}]))

    demo.answer = respond
    open_pad(tab, demo)
    pick(tab, "paracetamol")
    pick(tab, "baricitinib")
    answered(tab, "Remove it")
    tab.run("document.querySelector('#order-cards button.accept').click()")
    _, sent = asked(tab, demo, "order-select", 2)
    assert [draft["medicationCodeableConcept"]["text"] for draft in drafts(sent)] == ["paracetamol"]
    assert sent["context"]["selections"] == [f"MedicationRequest/{drafts(sent)[0]['id']}"]
    answered(tab, "nothing to say")
    assert demo.feedback[0][1]["feedback"][0]["outcome"] == "accepted"


def test_a_suggestion_on_a_draft_that_is_gone_changes_nothing(tab: Any, demo: Any) -> None:
    demo.answer = lambda sent: answer(*([corrected(sent)] if sent["hook"] == "order-sign" else []))
    open_pad(tab, demo)
    pick(tab, "fluconazole")
    asked(tab, demo, "order-select", 1)
    tab.run("document.querySelector('#sign').click()")
    tab.until("document.querySelector('#pad-state').innerText.includes('Signed')")
    tab.run("document.querySelector('#order-cards button.accept').click()")
    assert "no draft of this pad" in tab.text("#order-cards .ordered")
    assert tab.count("#drafts li") == 0
    assert demo.feedback == []


def test_removing_a_draft_asks_about_what_is_left_and_about_nothing_when_nothing_is(tab: Any, demo: Any) -> None:
    open_pad(tab, demo)
    pick(tab, "fluconazole")
    pick(tab, "paracetamol")
    asked(tab, demo, "order-select", 1)
    answered(tab, "no reason given")
    tab.run("document.querySelector('button.remove').click()")
    assert tab.run("document.activeElement.ariaLabel") == "Remove the draft of paracetamol"
    _, sent = asked(tab, demo, "order-select", 2)
    assert [draft["medicationCodeableConcept"]["text"] for draft in drafts(sent)] == ["paracetamol"]
    assert len(sent["context"]["selections"]) == 1
    tab.run("document.querySelector('button.remove').click()")
    assert tab.run("document.activeElement.id") == "pick"
    tab.run("new Promise((done) => setTimeout(done, 700))")
    assert len(demo.asked("order-select")) == 2
    assert tab.run("document.querySelector('#order-cards').hidden") is True


def test_a_dismissed_card_tells_the_service_why_and_can_be_reopened(tab: Any, demo: Any) -> None:
    demo.answer = on("patient-view", card())
    open_pad(tab, demo)
    menu = "document.querySelector('.why-not')"
    assert "stored by the service as patient data" in tab.run(f"{menu}.textContent")
    tab.run(f"{menu}.open = true")
    tab.run(f"{menu}.querySelector('input').click()")
    tab.run(f"{menu}.querySelector('textarea').value = ' a comment '")
    tab.run(f"{menu}.querySelector('button').click()")
    tab.until("document.querySelector('.dismissed').innerText.includes('Feedback sent.')")
    assert "Dismissed: Infection not controlled" in tab.text(".dismissed")
    assert tab.run("document.querySelector('.card .detail').checkVisibility()") is False
    ((service, body),) = demo.feedback
    (entry,) = body["feedback"]
    assert service == "one"
    assert (entry["card"], entry["outcome"]) == (CARD, "overridden")
    assert entry["overrideReason"] == {
        "reason": {"code": "infection", "system": "urn:x", "display": "Infection not controlled"},
        "userComment": "a comment",
    }
    assert "acceptedSuggestions" not in entry
    assert tab.run("document.activeElement.innerText") == "Undo"
    tab.run("document.activeElement.click()")
    assert tab.run("document.querySelector('.card .detail').checkVisibility()") is True
    assert tab.count(".dismissed") == 0
    assert len(demo.feedback) == 1
    assert len(demo.requests) == 1


def test_a_card_is_dismissed_without_a_reason_too(tab: Any, demo: Any) -> None:
    demo.answer = on("patient-view", card(overrideReasons=[]))
    open_pad(tab, demo)
    tab.run("document.querySelector('.dismissal button').click()")
    tab.until("document.querySelector('.dismissed').innerText.includes('Feedback sent.')")
    assert "overrideReason" not in demo.feedback[0][1]["feedback"][0]


def test_a_card_without_uuid_is_dismissed_on_the_page_only(tab: Any, demo: Any) -> None:
    anonymous = {key: value for key, value in card().items() if key != "uuid"}
    demo.answer = on("patient-view", anonymous)
    open_pad(tab, demo)
    tab.run("document.querySelector('.dismissal button').click()")
    tab.until("document.querySelector('.dismissed').innerText.includes('the card has no uuid')")
    assert demo.feedback == []


@pytest.mark.parametrize(
    ("hooks", "words"),
    [
        (("patient-view",), "offers no order-select and no order-sign hook"),
        (("patient-view", "order-sign"), "offers no order-select hook"),
    ],
)
def test_without_order_services_the_pad_says_so_and_stays_off(
    tab: Any, demo: Any, hooks: tuple[str, ...], words: str
) -> None:
    demo.hooks = hooks
    demo.answer = lambda _sent: answer(card())
    open_pad(tab, demo)
    assert words in tab.text("#pad")
    assert tab.run("document.querySelector('#pick').checkVisibility()") is False
    assert tab.run("document.querySelector('#sign').checkVisibility()") is False
    assert tab.run("document.querySelector('button.accept').disabled") is True
    assert "order pad is off" in tab.text(".refusal")


def test_drafts_stay_with_their_patient(tab: Any, demo: Any) -> None:
    open_pad(tab, demo)
    pick(tab, "fluconazole")
    asked(tab, demo, "order-select", 1)
    tab.run("location.hash = '#patient=bob'")
    tab.until("document.querySelector('#banner h2').innerText.includes('Bold')")
    tab.until("!document.querySelector('#pad').hidden")
    assert tab.count("#drafts li") == 0
    assert tab.run("document.querySelector('#order-cards').hidden") is True
    tab.run("location.hash = '#patient=ada'")
    tab.until("document.querySelectorAll('#drafts li').length === 1")
    _, sent = asked(tab, demo, "order-select", 2)
    assert sent["context"]["patientId"] == "ada"


def test_an_answer_for_a_chart_that_was_left_is_not_shown(tab: Any, demo: Any) -> None:
    demo.delay = lambda sent: 1.2 if sent["hook"] == "order-sign" else 0
    demo.answer = on("order-sign", card(indicator="critical"))
    open_pad(tab, demo)
    pick(tab, "fluconazole")
    asked(tab, demo, "order-select", 1)
    tab.run("document.querySelector('#sign').click()")
    asked(tab, demo, "order-sign", 1)
    tab.run("location.hash = '#patient=bob'")
    tab.until("document.querySelector('#banner h2').innerText.includes('Bold')")
    tab.run("new Promise((done) => setTimeout(done, 1500))")
    assert tab.run("document.querySelector('#order-cards').hidden") is True
    assert tab.run("document.querySelector('#ask').hidden") is True
    assert placed(tab) == []


def test_hostile_text_in_orders_and_reasons_stays_text(tab: Any, demo: Any) -> None:
    script = '<img src=x onerror="window.hit = 1">'
    hostile = order(script, 1, times=1, route=script)
    hostile["dosageInstruction"][0]["doseAndRate"][0]["doseQuantity"]["unit"] = script
    demo.answer = on("patient-view", card(suggestions=[suggestion(script, hostile)]))
    demo.refused = {"order-select": 503}
    open_pad(tab, demo)
    tab.run("document.querySelector('button.accept').click()")
    answered(tab, "overloaded")
    assert tab.run("window.hit") is None
    assert tab.count("main :is(script, img, iframe, style, svg, object, embed, form)") == 0
    assert script in tab.text("#drafts legend")


@pytest.mark.parametrize(
    ("width", "height", "scheme"), [(1280, 800, "light"), (1280, 800, "dark"), (400, 800, "light")]
)
def test_the_pad_fits_and_can_be_read(tab: Any, demo: Any, width: int, height: int, scheme: str) -> None:
    critical = card(indicator="critical", suggestions=[], links=[])
    demo.answer = lambda sent: answer(critical if sent["hook"] == "order-sign" else card())
    tab.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
    tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    open_pad(tab, demo)
    pick(tab, "pair")
    pick(tab, "mmr")
    answered(tab, "Thresholds of")
    if os.environ.get("SCREENSHOTS"):
        tab.screenshot(Path(os.environ["SCREENSHOTS"]) / f"drafts-{width}-{scheme}.png")
    tab.run("document.querySelector('#order-cards .why-not').open = true")
    assert tab.run("document.documentElement.scrollWidth") <= width
    tab.run("document.querySelector('#sign').click()")
    tab.until("document.querySelector('#ask .anyway')")
    tab.run("document.querySelector('.dismissal button').click()")
    tab.run("document.querySelector('#order-cards .why-not').open = true")
    if os.environ.get("SCREENSHOTS"):
        tab.screenshot(Path(os.environ["SCREENSHOTS"]) / f"pad-{width}-{scheme}.png")
    for selector in ("#work", "#pad", "#drafts", "#order-cards"):
        wide = f"(({{ scrollWidth, clientWidth }}) => scrollWidth - clientWidth)(document.querySelector('{selector}'))"
        assert tab.run(wide) <= 0
    assert tab.run("document.documentElement.scrollWidth") <= width
    assert tab.run(CONTRAST) == []
    unnamed = (
        "[...document.querySelectorAll('main :is(input, select, textarea)')].filter((each) => !each.labels.length)"
    )
    assert tab.run(f"{unnamed}.length") == 0


def test_feedback_of_a_chart_that_was_left_is_not_shown_with_the_next(tab: Any, demo: Any) -> None:
    demo.answer = on("patient-view", card())
    demo.slow_feedback = 1.0
    open_pad(tab, demo)
    tab.run("document.querySelector('.dismissal textarea').value = 'about Ada'")
    tab.run("document.querySelector('.dismissal button').click()")
    tab.run("location.hash = '#patient=bob'")
    tab.until("document.querySelector('#banner h2').innerText.includes('Bold')")
    tab.run("new Promise((done) => setTimeout(done, 1300))")
    assert len(demo.feedback) == 1
    assert "about Ada" not in tab.run("document.querySelector('#exchanges').textContent")


def press(tab: Any, key: str, code: int, text: str = "") -> None:
    for kind in ("keyDown", "keyUp"):
        typed = {"text": text} if text and kind == "keyDown" else {}
        tab.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **typed)


def test_an_order_is_drafted_and_signed_with_the_keyboard_alone(tab: Any, demo: Any) -> None:
    open_pad(tab, demo)
    tab.run("document.querySelector('#pick').focus()")
    for letter in "para":
        press(tab, letter, ord(letter.upper()), letter)
    press(tab, "Tab", 9)
    assert tab.run("document.activeElement.id") == "add"
    press(tab, "Enter", 13, "\r")
    answered(tab, "no reason given")
    press(tab, "Tab", 9)
    assert tab.run("document.activeElement.labels[0].innerText").startswith("Dose (g)")
    while tab.run("document.activeElement.id") != "sign":
        press(tab, "Tab", 9)
    press(tab, "Enter", 13, "\r")
    tab.until("document.querySelector('#pad-state').innerText.includes('Signed')")
    assert [each["medicationCodeableConcept"]["text"] for each in placed(tab)] == ["paracetamol"]
