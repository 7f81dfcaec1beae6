"""The order hooks from the outside: what real clients send, and what a prescriber must and must not be told."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import pytest_asyncio

from app.sandbox import patients
from cds_hooks import prefetch
from tests.contract import cds_hooks_oracle as oracle
from tests.contract import order_shapes as shapes
from tests.contract.order_shapes import (
    NEUTROPENIC,
    PATIENT,
    SELECT,
    SHAPES,
    SIGN,
    TREATED,
    Json,
    Scene,
    Shape,
    anakinra,
    bundle,
    call,
    dosage,
    order,
    ruxolitinib,
    shuffled,
)
from tests.contract.test_calls import LEAVES, mutated
from tests.integration.hospital import FHIR, SERVICE, Hospital, decision, hook, opened, same_words

IDS = {SELECT: "anakinra-ruxolitinib-order-select", SIGN: "anakinra-ruxolitinib-order-sign"}
HOOKS = tuple(IDS)
PATHS = {hook: f"/cds-services/{service}" for hook, service in IDS.items()}
OTHER = "demo-crp-100"
MODULE = pytest.mark.asyncio(loop_scope="module")

Prefetches = dict[tuple[str, str], Mapping[str, Any]]


class _Served(dict[str, Json]):
    """What the FHIR server has beside the charts, by "Type/id", for as long as a test wants it."""

    def __bool__(self) -> bool:
        return True  # an empty one answers too: with nothing

    def __call__(self, request: httpx.Request) -> httpx.Response | None:
        kind = request.url.path.removeprefix("/fhir/").partition("/")[0]
        searched = [self[name] for name in self if name in {f"{kind}/{one}" for one in _ids(request)}]
        if found := self.get(request.url.path.removeprefix("/fhir/")):
            return httpx.Response(200, json=found)
        if searched:
            entries = [{"resource": one, "search": {"mode": "match"}} for one in searched]
            return httpx.Response(200, json={"resourceType": "Bundle", "type": "searchset", "entry": entries})
        return None

    @contextmanager
    def holding(self, resources: Mapping[str, Json]) -> Iterator[None]:
        self.update(resources)
        try:
            yield
        finally:
            self.clear()


def _ids(request: httpx.Request) -> list[str]:
    return [one for value in request.url.params.get_list("_id") for one in value.split(",")]


SERVED = _Served()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def hospital(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hospital]:
    async with opened(tmp_path_factory.mktemp("orders"), answers=SERVED) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def services(hospital: Hospital) -> dict[str, Json]:
    found = (await hospital.client.get("/cds-services")).json()["services"]
    return {service["id"]: service for service in found}


@pytest.fixture(scope="module")
def prefetches() -> Prefetches:
    return {}


class _Ward:
    """The hospital, with what a client of each hook would prefetch; each is fetched once."""

    def __init__(self, hospital: Hospital, services: dict[str, Json], prefetches: Prefetches) -> None:
        self.hospital, self.services, self.prefetches = hospital, services, prefetches

    async def prefetch(self, hook: str, patient: str) -> Mapping[str, Any]:
        if (hook, patient) not in self.prefetches:
            found = {}
            for key, template in self.services[IDS[hook]]["prefetch"].items():
                path = prefetch.render(template, values={"context.patientId": patient})
                found[key] = (await self.hospital.fhir.get("/" + path)).json()
            self.prefetches[hook, patient] = found
        return self.prefetches[hook, patient]

    async def post(self, body: Json, *, to: str | None = None) -> httpx.Response:
        return await self.hospital.client.post(PATHS[to or body["hook"]], json=body)

    async def asked(
        self,
        hook: str,
        *orders: Json,
        patient: str = PATIENT,
        selected: tuple[str, ...] = (),
        fhir: str | None = None,
        **context: Any,
    ) -> httpx.Response:
        """A whole prefetch and these drafts; the answer has passed the oracle."""
        selections = {"selections": list(selected)} if hook == SELECT and selected else {}
        found = await self.prefetch(hook, patient)
        body = call(hook, bundle(*orders), patient=patient, fhir=fhir, prefetch=found, **selections | context)
        return self.checked(await self.post(body), body=body, patient=patient)

    def checked(self, answer: httpx.Response, *, body: Json, patient: str) -> httpx.Response:
        assert answer.headers["content-type"] == "application/json"
        if answer.status_code != 200:
            assert answer.status_code < 500, answer.text
            assert oracle.outcome(answer.content) == []
            return answer
        entries = body["context"]["draftOrders"].get("entry") or ()
        drafts = [entry.get("resource") for entry in entries]
        assert oracle.order_response(answer.content, patient=patient, drafts=drafts) == []
        cards = answer.json()["cards"]
        assert (decision(answer)["outcome"] == "card") == bool(cards) or decision(answer)["outcome"] not in {
            "card",
            "nothing-to-say",
        }
        assert len(cards) <= 2
        assert all(card.get("overrideReasons") for card in cards)
        return answer

    def verdicts(self, answer: httpx.Response) -> Json:
        (row,) = (row for row in self.hospital.rows() if row["id"] == decision(answer)["id"])
        found: Json = json.loads(row["verdicts"])
        return found


@pytest.fixture(scope="module")
def ward(hospital: Hospital, services: dict[str, Json], prefetches: Prefetches) -> _Ward:
    return _Ward(hospital, services, prefetches)


def said(answer: httpx.Response) -> str:
    """Everything in the cards, as a reader's eye would search it."""
    return json.dumps(answer.json()["cards"], ensure_ascii=False).casefold()


def indicators(answer: httpx.Response) -> set[str]:
    return {card["indicator"] for card in answer.json()["cards"]}


def actions(answer: httpx.Response) -> list[Json]:
    suggestions = [one for card in answer.json()["cards"] for one in card.get("suggestions", ())]
    return [action for suggestion in suggestions for action in suggestion["actions"]]


# --- discovery ----------------------------------------------------------------------------------------------


@MODULE
async def test_three_services_with_ids_of_their_own(hospital: Hospital, services: dict[str, Json]) -> None:
    """A client that keeps services by id loses one of two hooks that share it."""
    answer = await hospital.client.get("/cds-services")
    assert oracle.discovery(answer.content) == []
    hooks = {service["id"]: service["hook"] for service in answer.json()["services"]}
    assert hooks == {SERVICE: "patient-view"} | {service: hook for hook, service in IDS.items()}
    assert all(services[name]["prefetch"] for name in hooks)


@MODULE
@pytest.mark.parametrize("hook", HOOKS)
async def test_a_body_for_another_hook_is_400(ward: _Ward, hook: str) -> None:
    drafts = bundle(anakinra(PATIENT))
    for other in {*HOOKS, "patient-view", "order-review"} - {hook}:
        answer = await ward.post(call(other, drafts, patient=PATIENT, fhir=FHIR), to=hook)
        assert answer.status_code == 400
        assert oracle.outcome(answer.content) == []


# --- what real clients send ---------------------------------------------------------------------------------


@MODULE
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
async def test_a_shape_of_a_real_client(ward: _Ward, shape: Shape) -> None:
    body = shape.build(Scene(shape.patient, await ward.prefetch(shape.hook, shape.patient), FHIR))
    with SERVED.holding(shape.answers):
        answer = await ward.post(body)
    assert answer.status_code == shape.status, answer.text
    ward.checked(answer, body=body, patient=shape.patient)
    if shape.status != 200:
        return
    assert decision(answer)["outcome"] in shape.outcomes
    assert all(word in said(answer) for word in shape.words), said(answer)
    drafts = ward.verdicts(answer).get("orders", {}).get("drafts", [])
    assert shape.drugs <= {drug for draft in drafts for drug in draft["drugs"]}
    assert shape.possibly <= {drug for draft in drafts for drug in draft.get("possibly", ())}


@MODULE
@pytest.mark.parametrize("shape", [s for s in SHAPES if s.status == 200], ids=lambda shape: shape.name)
async def test_the_order_of_the_entries_means_nothing(ward: _Ward, shape: Shape) -> None:
    body = shape.build(Scene(shape.patient, await ward.prefetch(shape.hook, shape.patient), FHIR))
    with SERVED.holding(shape.answers):
        first = await ward.post(body)
        for turn in range(1, min(4, len(body["context"]["draftOrders"]["entry"]))):
            for by in (turn, -turn):
                assert same_words(await ward.post(shuffled(body, by=by))) == same_words(first)


@MODULE
@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("story", patients.STORIES, ids=lambda story: story.patient_id)
async def test_every_patient_with_every_draft(ward: _Ward, story: patients.Story, hook: str) -> None:
    """`critical` is for signing alone; no proposal to create is made while somebody writes another order."""
    patient = story.patient_id
    drafts = {
        "anakinra": [anakinra(patient)],
        "ruxolitinib": [ruxolitinib(patient)],
        "both": [anakinra(patient), ruxolitinib(patient)],
        "another": [order("posaconazole", patient=patient, dose=dosage(300))],
        "nothing": [],
    }
    for name, orders in drafts.items():
        answer = await ward.asked(hook, *orders, patient=patient)
        assert answer.status_code == 200, name
        if hook == SELECT and story.expect["outcome"] != "follow-up":
            assert "critical" not in indicators(answer), name
        assert {action["type"] for action in actions(answer)} <= {"update", "delete"}, name
        assert (name == "nothing") <= (answer.json()["cards"] == []), name
        for word in ("recommended", "should receive", "responder"):
            assert word not in json.dumps([card.get("summary") for card in answer.json()["cards"]]).lower()


@MODULE
@pytest.mark.parametrize(
    "draft_orders",
    [None, [], "Bundle", 7, True, {"resourceType": "MedicationRequest", "id": "x"}, {"entry": {}}, {"entry": ["x"]}],
    ids=json.dumps,
)
@pytest.mark.parametrize("hook", HOOKS)
async def test_no_draft_orders_no_answer(ward: _Ward, hook: str, draft_orders: Any) -> None:
    body = call(hook, draft_orders, patient=PATIENT, fhir=FHIR)
    answer = await ward.post(body)
    assert answer.status_code == 400
    assert oracle.outcome(answer.content) == []


# --- who it is about, and who asks --------------------------------------------------------------------------


def _nutrition(patient: str) -> Json:
    return {"resourceType": "NutritionOrder", "id": "n", "status": "draft", "patient": {"reference": patient}}


STRANGERS: dict[str, list[Json]] = {
    "one draft": [anakinra(OTHER)],
    "one of two": [anakinra(PATIENT), ruxolitinib(OTHER)],
    "one of two, first": [ruxolitinib(OTHER), anakinra(PATIENT)],
    "another base, another id": [anakinra(PATIENT, subject={"reference": f"https://h.example/Patient/{OTHER}"})],
    "a history version": [anakinra(PATIENT, subject={"reference": f"Patient/{OTHER}/_history/3"})],
    "a service request": [{"resourceType": "ServiceRequest", "id": "s", "subject": {"reference": f"Patient/{OTHER}"}}],
    "a diet": [_nutrition(f"Patient/{OTHER}")],
    "an active one": [anakinra(OTHER, status="active")],
}


@MODULE
@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("name", STRANGERS)
async def test_orders_of_another_patient_are_one_warning(ward: _Ward, name: str, hook: str) -> None:
    answer = await ward.asked(hook, *STRANGERS[name])
    assert answer.status_code == 200
    assert decision(answer)["outcome"] == "identity-mismatch"
    (card,) = answer.json()["cards"]
    assert card["indicator"] == "warning"
    assert "suggestions" not in card
    assert OTHER not in answer.text
    verdicts = ward.verdicts(answer)
    assert not verdicts.get("safety")
    assert not verdicts.get("orders")
    assert not [value for value in verdicts.values() if isinstance(value, dict) and "verdict" in value]


OWN: dict[str, Json | None] = {
    "relative": {"reference": f"Patient/{NEUTROPENIC}"},
    "absolute, another base": {"reference": f"https://other.example/r4/Patient/{NEUTROPENIC}"},
    "a history version": {"reference": f"Patient/{NEUTROPENIC}/_history/2"},
    "not stated yet": None,
    "a display only": {"display": "Demo-Juniper, Carla"},
}


@MODULE
@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("name", OWN)
async def test_orders_of_this_patient_are_evaluated_however_they_say_so(ward: _Ward, name: str, hook: str) -> None:
    answer = await ward.asked(hook, anakinra(NEUTROPENIC, subject=OWN[name]), patient=NEUTROPENIC)
    assert decision(answer)["outcome"] == "card"
    assert "neutrophil" in said(answer)


@MODULE
async def test_a_selection_does_not_hide_another_patients_draft(ward: _Ward) -> None:
    answer = await ward.asked(
        SELECT, anakinra(PATIENT), ruxolitinib(OTHER), selected=("MedicationRequest/draft-anakinra",)
    )
    assert decision(answer)["outcome"] == "identity-mismatch"


@MODULE
@pytest.mark.parametrize("hook", HOOKS)
async def test_a_prefetched_patient_who_is_another_one(ward: _Ward, hook: str) -> None:
    found = dict(await ward.prefetch(hook, PATIENT)) | {"patient": {"resourceType": "Patient", "id": OTHER}}
    body = call(hook, bundle(anakinra(PATIENT)), patient=PATIENT, prefetch=found)
    answer = ward.checked(await ward.post(body), body=body, patient=PATIENT)
    assert decision(answer)["outcome"] == "identity-mismatch"
    assert [card["indicator"] for card in answer.json()["cards"]] == ["warning"]


@MODULE
@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("user", ["Patient/p", f"Patient/{NEUTROPENIC}", "RelatedPerson/r"])
async def test_patients_and_their_relatives_get_no_card(ward: _Ward, user: str, hook: str) -> None:
    answer = await ward.asked(hook, anakinra(NEUTROPENIC), patient=NEUTROPENIC, userId=user)
    assert answer.json()["cards"] == []
    assert decision(answer)["outcome"] == "patient-user"
    for other in ("PractitionerRole/1", None):
        answer = await ward.asked(hook, anakinra(NEUTROPENIC), patient=NEUTROPENIC, userId=other)
        assert decision(answer)["outcome"] == "card"


@MODULE
async def test_a_patient_writing_for_another_is_a_patient(ward: _Ward) -> None:
    """The outcomes have an order: the first that applies."""
    answer = await ward.asked(SIGN, anakinra(OTHER), userId="Patient/p")
    assert decision(answer)["outcome"] == "patient-user"
    assert answer.json()["cards"] == []


@MODULE
@pytest.mark.parametrize("hook", HOOKS)
async def test_nothing_that_could_be_looked_at_is_412(ward: _Ward, hook: str) -> None:
    drafts = bundle(anakinra(PATIENT))
    empty = dict.fromkeys(await ward.prefetch(hook, PATIENT))
    for more in ({}, {"prefetch": empty}, {"fhir": "https://unknown.example/fhir"}):
        answer = await ward.post(call(hook, drafts, patient=PATIENT, **more))
        assert answer.status_code == 412
        assert oracle.outcome(answer.content) == []


# --- what is said -------------------------------------------------------------------------------------------


@MODULE
async def test_an_absolute_finding_is_critical_at_signing_only(ward: _Ward) -> None:
    """Neutrophils of 0.9 concern both drugs."""
    for made in (anakinra, ruxolitinib):
        select, sign = [await ward.asked(hook, made(NEUTROPENIC), patient=NEUTROPENIC) for hook in HOOKS]
        assert indicators(select) <= {"info", "warning"}
        assert "warning" in indicators(select)
        assert "critical" in indicators(sign)
        assert "neutrophil" in said(select)
        assert "neutrophil" in said(sign)


@MODULE
async def test_a_relative_finding_is_no_more_than_a_warning(ward: _Ward) -> None:
    """Posaconazole is running: the dose of ruxolitinib would change, and nothing about this patient is absolute."""
    answer = await ward.asked(SIGN, ruxolitinib("demo-posaconazole"), patient="demo-posaconazole")
    assert "warning" in indicators(answer)
    assert "critical" not in indicators(answer)
    assert "posaconazole" in said(answer)
    alone = await ward.asked(SIGN, anakinra("demo-posaconazole"), patient="demo-posaconazole")
    assert "posaconazole" not in " ".join(card["summary"] for card in alone.json()["cards"]).casefold()


@MODULE
async def test_one_of_the_two_is_an_info_line_at_most(ward: _Ward) -> None:
    """No contraindication, dose and duration of the letter: nothing to warn of."""
    for made in (anakinra, ruxolitinib):
        answer = await ward.asked(SELECT, made(PATIENT))
        assert indicators(answer) <= {"info"}, said(answer)
        assert len(answer.json()["cards"]) <= 1


@MODULE
@pytest.mark.parametrize("hook", HOOKS)
async def test_a_drug_that_has_nothing_to_do_with_it(ward: _Ward, hook: str) -> None:
    answer = await ward.asked(hook, order("enoxaparin", patient=PATIENT, dose=dosage(40)))
    assert (answer.json()["cards"], decision(answer)["outcome"]) == ([], "nothing-to-say")


@MODULE
@pytest.mark.parametrize("hook", HOOKS)
async def test_an_interacting_drug_for_a_treated_patient(ward: _Ward, hook: str) -> None:
    draft = order("posaconazole", patient=TREATED, dose=dosage(300))
    answer = await ward.asked(hook, draft, patient=TREATED)
    assert decision(answer)["outcome"] == "card"
    assert "posaconazole" in said(answer)
    assert "warning" in indicators(answer)
    untreated = await ward.asked(hook, {**draft, "subject": {"reference": f"Patient/{PATIENT}"}})
    assert decision(untreated)["outcome"] == "nothing-to-say"


@MODULE
@pytest.mark.parametrize("hook", HOOKS)
async def test_what_is_ordered_already_is_a_duplicate(ward: _Ward, hook: str) -> None:
    answer = await ward.asked(hook, anakinra(TREATED), patient=TREATED)
    assert decision(answer)["outcome"] == "card"
    assert "warning" in indicators(answer)


@MODULE
@pytest.mark.parametrize("hook", HOOKS)
async def test_a_draft_that_only_its_text_names_is_checked_and_said_to_be_possible(ward: _Ward, hook: str) -> None:
    draft = anakinra(NEUTROPENIC, medicationCodeableConcept={"text": "KINERET 100 mg/0.67 mL syringe"})
    answer = await ward.asked(hook, draft, patient=NEUTROPENIC)
    assert decision(answer)["outcome"] == "card"
    assert "neutrophil" in said(answer)
    assert "possibl" in said(answer)
    (found,) = ward.verdicts(answer)["orders"]["drafts"]
    assert (found["drugs"], found["possibly"], found["identity"]) == ([], ["anakinra"], "text")


@MODULE
@pytest.mark.parametrize(
    "changes",
    [
        {"medicationReference": {"reference": "Medication/nowhere"}},
        {"medicationReference": {"reference": "#nowhere"}},
        {"medicationReference": {"reference": "https://elsewhere.example/fhir/Medication/1"}},
        {"medicationReference": {"identifier": {"value": "7"}}},
        {"medicationCodeableConcept": {"coding": [{"system": "urn:local:catalogue", "code": "4711"}]}},
    ],
    ids=json.dumps,
)
async def test_a_drug_that_nothing_identifies_is_said(ward: _Ward, changes: Json) -> None:
    """For a treated patient its interactions could not be checked; beside another finding it is a line of that card."""
    for patient, others in ((TREATED, []), (NEUTROPENIC, [anakinra(NEUTROPENIC)])):
        riddle = order("enoxaparin", patient=patient, **{"medicationCodeableConcept": None} | changes)
        answer = await ward.asked(SIGN, *others, riddle, patient=patient, fhir=FHIR)
        assert "identified" in said(answer), patient
        assert {"drugs": [], "possibly": [], "identity": "none"} in ward.verdicts(answer)["orders"]["drafts"]


DOSES: dict[str, tuple[Json, bool]] = {
    "anakinra as in the letter": (anakinra(PATIENT), False),
    "ruxolitinib as in the letter": (ruxolitinib(PATIENT), False),
    "anakinra, ten times too much": (anakinra(PATIENT, 3000), True),
    "ruxolitinib, four times too much": (ruxolitinib(PATIENT, 20), True),
    "anakinra for 60 days": (anakinra(PATIENT, dosageInstruction=[dosage(300, days=60)]), True),
    "ruxolitinib for 90 days": (ruxolitinib(PATIENT, dosageInstruction=[dosage(5, per_day=2, days=90)]), True),
}


@MODULE
@pytest.mark.parametrize("name", DOSES)
async def test_dose_and_duration_against_the_letter(ward: _Ward, name: str) -> None:
    draft, wrong = DOSES[name]
    answer = await ward.asked(SIGN, draft)
    assert ("warning" in indicators(answer)) is wrong, said(answer)


@MODULE
async def test_suggestions_correct_the_draft_or_take_it_away(ward: _Ward) -> None:
    """Over all drafts both kinds are offered; the oracle has seen that each is about a draft, whole, and valid R4."""
    kinds = set()
    for patient, draft in (
        *((PATIENT, draft) for draft, _ in DOSES.values()),
        (NEUTROPENIC, anakinra(NEUTROPENIC)),
        (TREATED, anakinra(TREATED)),
        (TREATED, order("posaconazole", patient=TREATED, dose=dosage(300))),
    ):
        answer = await ward.asked(SIGN, draft, patient=patient)
        kinds |= {action["type"] for action in actions(answer)}
    assert kinds == {"update", "delete"}


@MODULE
@pytest.mark.parametrize(
    "changes",
    [
        {"id": None},
        {"category": {"coding": [{"code": "inpatient"}]}},
        {"intent": None},
        {"status": "active", "id": "e" * 200},
        {"note": "text where a list belongs"},
        {"extension": [{"url": "https://ehr.example/x", "valueString": "kept"}], "priority": "stat"},
        {"dosageInstruction": dosage(3000)},
        {"dosageInstruction": [{**dosage(3000), "doseAndRate": dosage(3000)["doseAndRate"][0]}]},
        {"subject": None},
    ],
    ids=json.dumps,
)
async def test_no_suggestion_rests_on_a_draft_that_cannot_be_sent_back(ward: _Ward, changes: Json) -> None:
    """A dose of ten times the letter's in a draft with something wrong: the oracle refuses an invalid update."""
    answer = await ward.asked(SIGN, anakinra(PATIENT, 3000, **changes))
    assert "warning" in indicators(answer) or "critical" in indicators(answer)
    if "id" in changes and changes["id"] is None:
        assert actions(answer) == []


@MODULE
async def test_two_orders_of_one_id_are_changed_by_no_suggestion(ward: _Ward) -> None:
    """A client would take away, or overwrite, whichever it finds first."""
    drafts = [anakinra(PATIENT, 3000, id="1"), ruxolitinib(PATIENT, 20, id="1"), anakinra(PATIENT, id="2")]
    answer = await ward.asked(SIGN, *drafts)
    assert "warning" in indicators(answer)
    assert all("MedicationRequest/1" not in json.dumps(action) for action in actions(answer))
    assert all(action.get("resource", {}).get("id") != "1" for action in actions(answer))


@MODULE
@pytest.mark.parametrize("status", ["draft", "active", "on-hold", "unknown", None, "something"])
async def test_signing_again_is_checked_again(ward: _Ward, status: str | None) -> None:
    answer = await ward.asked(SIGN, anakinra(NEUTROPENIC, status=status), patient=NEUTROPENIC)
    assert "critical" in indicators(answer)


@MODULE
@pytest.mark.parametrize("status", ["cancelled", "stopped", "completed", "entered-in-error"])
async def test_an_order_that_ends_is_no_danger(ward: _Ward, status: str) -> None:
    """Signing the end of an order must not be warned against."""
    answer = await ward.asked(SIGN, anakinra(NEUTROPENIC, status=status), patient=NEUTROPENIC)
    assert "critical" not in indicators(answer)
    assert "warning" not in indicators(answer)


@MODULE
async def test_signing_an_order_again_is_no_duplicate_of_itself(ward: _Ward) -> None:
    """The active order on the server and the one being signed again are one order."""
    found = await ward.prefetch(SIGN, TREATED)
    text = json.dumps(found)
    orders = [
        entry["resource"]
        for value in found.values()
        for entry in value.get("entry", ())
        if entry["resource"]["resourceType"] == "MedicationRequest" and entry["resource"]["status"] == "active"
    ]
    own = next(one for one in orders if "anakinra" in json.dumps(one) and one["id"] in text)
    again = await ward.asked(SIGN, own, patient=TREATED)
    other = await ward.asked(SIGN, {**own, "id": "another"}, patient=TREATED)
    assert "warning" in indicators(other)
    checks = [ward.verdicts(answer)["orders"]["checks"] for answer in (again, other)]
    duplicates = [{name for name in found if "DUP" in name and found[name] == "present"} for found in checks]
    assert duplicates[0] < duplicates[1]


# --- selections ---------------------------------------------------------------------------------------------

HARMLESS = "MedicationRequest/draft-1"


@MODULE
@pytest.mark.parametrize(
    ("selected", "speaks"),
    [
        (("MedicationRequest/draft-anakinra",), True),
        ((HARMLESS,), False),
        ((HARMLESS, "MedicationRequest/draft-anakinra"), True),
        ((), True),
        (("https://ehr.example/fhir/MedicationRequest/draft-anakinra",), True),
        (("MedicationRequest/draft-anakinra/_history/1",), True),
        (("MedicationRequest/of-another-session",), True),
    ],
    ids=str,
)
async def test_selections_say_what_was_just_picked(ward: _Ward, selected: tuple[str, ...], speaks: bool) -> None:
    """Where they name nothing that was sent, everything is looked at: silence would be taken for "all clear"."""
    drafts = [anakinra(NEUTROPENIC), order("enoxaparin", patient=NEUTROPENIC, dose=dosage(40))]
    answer = await ward.asked(SELECT, *drafts, patient=NEUTROPENIC, selected=selected)
    assert ("neutrophil" in said(answer)) is speaks
    assert decision(answer)["outcome"] == ("card" if speaks else "nothing-to-say")


@MODULE
async def test_selections_mean_nothing_at_signing(ward: _Ward) -> None:
    drafts = [anakinra(NEUTROPENIC), order("enoxaparin", patient=NEUTROPENIC, dose=dosage(40))]
    answer = await ward.asked(SIGN, *drafts, patient=NEUTROPENIC, selections=[HARMLESS])
    assert "critical" in indicators(answer)


@MODULE
async def test_a_pick_is_seen_beside_what_was_picked_before(ward: _Ward) -> None:
    """Posaconazole is just picked while ruxolitinib waits unsigned: the pair interacts, whichever came first."""
    drafts = [ruxolitinib(PATIENT), order("posaconazole", patient=PATIENT, dose=dosage(300))]
    for selected in (HARMLESS, "MedicationRequest/draft-ruxolitinib"):
        answer = await ward.asked(SELECT, *drafts, selected=(selected,))
        assert "posaconazole" in said(answer), selected
        assert "warning" in indicators(answer), selected


# --- hostile ------------------------------------------------------------------------------------------------

HOSTILE = '<img src=x onerror=alert(1)> [x](javascript:y) https://evil.example/p www.evil.example "\u202e'


@MODULE
async def test_words_of_a_draft_do_nothing_in_a_card(ward: _Ward) -> None:
    drafts = [
        anakinra(NEUTROPENIC, medicationCodeableConcept={"text": f"anakinra {HOSTILE}"}),
        order("enoxaparin", patient=NEUTROPENIC, medicationCodeableConcept={"text": HOSTILE}, id=f"x{HOSTILE}"),
    ]
    answer = await ward.asked(SIGN, *drafts, patient=NEUTROPENIC)
    written = "\n".join(f"{card['summary']}\n{card.get('detail', '')}" for card in answer.json()["cards"])
    assert "anakinra" in written.casefold()
    for live in ("<img", "](javascript", "https://evil", "www.evil", "\u202e"):
        assert live not in written
    assert all("evil" not in link["url"] for card in answer.json()["cards"] for link in card.get("links", ()))


ELEMENTS: dict[str, Any] = LEAVES | {"a list": [7], "an object of objects": {"x": {"y": 1}}, "false": False}


@MODULE
@pytest.mark.parametrize("name", ELEMENTS)
async def test_any_value_at_any_element_of_a_draft(ward: _Ward, name: str) -> None:
    """Each element of an order that is filled in well replaced by something else, one order for each."""
    whole = anakinra(
        NEUTROPENIC,
        3000,
        category=[{"coding": [{"code": "inpatient"}]}],
        authoredOn="2026-11-23",
        note=[{"text": "x"}],
        basedOn=[{"reference": "ServiceRequest/1"}],
        priorPrescription={"reference": "MedicationRequest/0"},
        dispenseRequest={"validityPeriod": {"start": "2026-11-23", "end": "2026-12-23"}},
        doNotPerform=False,
        contained=[{"resourceType": "Medication", "id": "m", "code": shapes.drug("anakinra")}],
        dosageInstruction=[{**dosage(3000, per_day=2, days=60), "text": "x", "route": {"text": "IV"}, "sequence": 1}],
    )
    by_reference = {name: value for name, value in whole.items() if name != "medicationCodeableConcept"}
    by_reference["medicationReference"] = {"reference": "#m", "display": "anakinra"}
    drafts = [one for order in (whole, by_reference) for one in mutated(order, ELEMENTS[name])]
    ids = [one.get("id") for one in drafts]
    named = [
        {**one, "id": f"m{n}"} if ids.index(ids[n]) < n or ids[n] == whole["id"] else one
        for n, one in enumerate(drafts)
    ]
    answer = await ward.asked(SIGN, *named, patient=NEUTROPENIC)
    assert answer.status_code == 200
    assert "critical" in indicators(answer)
    assert "neutrophil" in said(answer)


@MODULE
async def test_many_drafts_are_answered_in_proportion(ward: _Ward) -> None:
    """A call of four times the orders costs and says about four times as much at most, not sixteen times."""
    sizes = []
    for number in (50, 200):
        drafts = [anakinra(PATIENT, id=f"d{place}") for place in range(number)]
        answer = await ward.asked(SIGN, *drafts)
        sizes.append(len(answer.content))
        assert max(len(card.get("detail", "")) for card in answer.json()["cards"]) < 10_000
    assert sizes[1] < 6 * sizes[0]


@MODULE
@pytest.mark.parametrize("hook", HOOKS)
async def test_an_exact_repeat_is_answered_with_the_same_bytes(ward: _Ward, hook: str) -> None:
    """A gateway that got no answer sends again. order-select fires at no edit too, as a call of its own: the same words
    on other cards."""
    found = await ward.prefetch(hook, NEUTROPENIC)
    body = call(hook, bundle(anakinra(NEUTROPENIC)), patient=NEUTROPENIC, prefetch=found)
    first, second, other = [await ward.post(one) for one in (body, body, body | {"hookInstance": str(uuid.uuid4())})]
    assert first.content == second.content
    assert same_words(first) == same_words(other)
    uuids = {card["uuid"] for answer in (first, other) for card in answer.json()["cards"]}
    assert len(uuids) == 2 * len(first.json()["cards"]) > 0


@MODULE
async def test_one_topic_for_the_three_services(ward: _Ward) -> None:
    """Clients remember an override under it."""
    view = await ward.hospital.call(hook(NEUTROPENIC))
    answers = [view, *[await ward.asked(one, anakinra(NEUTROPENIC), patient=NEUTROPENIC) for one in HOOKS]]
    topics = {
        json.dumps(card["source"]["topic"], sort_keys=True) for found in answers for card in found.json()["cards"]
    }
    assert len(topics) == 1


@MODULE
async def test_what_was_decided_is_recorded_under_its_service(ward: _Ward) -> None:
    for one in HOOKS:
        instance = str(uuid.uuid4())
        found = await ward.prefetch(one, PATIENT)
        body = call(one, bundle(anakinra(PATIENT)), patient=PATIENT, prefetch=found) | {"hookInstance": instance}
        answer = await ward.post(body)
        (row,) = (row for row in ward.hospital.rows() if row["hook_instance"] == instance)
        assert (row["id"], row["hook"], row["service"]) == (decision(answer)["id"], one, IDS[one])
        shown = {r["card"] for r in ward.hospital.rows("decision_cards") if r["decision_id"] == row["id"]}
        assert shown == {card["uuid"] for card in answer.json()["cards"]}


# --- the judges themselves ----------------------------------------------------------------------------------

DRAFT = anakinra(PATIENT, 3000)
BETTER = anakinra(PATIENT)
BAD_ACTIONS: dict[str, tuple[Json, str]] = {
    "as it should be": ({"type": "update", "resource": BETTER}, ""),
    "taken away": ({"type": "delete", "resourceId": "MedicationRequest/draft-anakinra"}, ""),
    "delete with a resource": ({"type": "delete", "resource": BETTER}, "delete has resourceId"),
    "delete of another": ({"type": "delete", "resourceId": "MedicationRequest/x"}, "delete of something"),
    "update by id": ({"type": "update", "resourceId": "MedicationRequest/draft-anakinra"}, "have a resource"),
    "update without id": (
        {"type": "update", "resource": {name: value for name, value in BETTER.items() if name != "id"}},
        "update of something",
    ),
    "update of another order": ({"type": "update", "resource": {**BETTER, "id": "x"}}, "update of something"),
    "update of a part": (
        {"type": "update", "resource": {name: value for name, value in BETTER.items() if name != "intent"}},
        "an update that changes ['intent']",
    ),
    "update of the drug": (
        {"type": "update", "resource": {**BETTER, "medicationCodeableConcept": shapes.drug("ruxolitinib")}},
        "an update that changes ['medicationCodeableConcept']",
    ),
    "update to active": ({"type": "update", "resource": {**BETTER, "status": "active"}}, "changes ['status']"),
    "update to no R4": ({"type": "update", "resource": {**BETTER, "dosageInstruction": dosage(300)}}, "no valid FHIR"),
    "update to the same": ({"type": "update", "resource": DRAFT}, "changes nothing"),
    "update for another": ({"type": "update", "resource": anakinra(OTHER)}, "another patient"),
    "create for another": ({"type": "create", "resource": anakinra(OTHER)}, "another patient"),
}


@pytest.mark.parametrize("name", BAD_ACTIONS)
def test_the_oracle_tells_a_good_action_from_a_bad_one(name: str) -> None:
    action, complaint = BAD_ACTIONS[name]
    suggestion = {"label": "x", "uuid": str(uuid.uuid4()), "actions": [{**action, "description": "x"}]}
    card = {
        "uuid": str(uuid.uuid4()),
        "summary": "x",
        "indicator": "info",
        "source": {"label": "x"},
        "suggestions": [suggestion],
        "selectionBehavior": "any",
    }
    body = json.dumps({"cards": [card]}).encode()
    found = oracle.order_response(body, patient=PATIENT, drafts=[DRAFT])
    assert (complaint in str(found)) if complaint else (found == []), found


def test_the_oracle_knows_what_a_prefetch_token_is() -> None:
    service = {"hook": SIGN, "id": "x", "description": "x", "prefetch": {"o": "Basic?x={{context.draftOrders.id}}"}}
    assert oracle.discovery(json.dumps({"services": [service]}).encode()) == [
        "no prefetch tokens: ['context.draftOrders.id']"
    ]


def test_the_shapes_are_told_apart() -> None:
    assert len({shape.name for shape in SHAPES}) == len(SHAPES)
    assert len(shapes.EPIC_ID) > 200
