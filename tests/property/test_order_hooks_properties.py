"""What must hold for order hooks whatever a client sends: an answer, of bounded length, in no order of the entries."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cds_hooks import prefetch
from tests.contract import cds_hooks_oracle as oracle
from tests.contract.order_shapes import CODES, SELECT, SIGN, Json, anakinra, bundle, call, dosage, drug, order
from tests.integration.hospital import Hospital, decision, opened, same_words
from tests.property.size import examples

PATHS = {hook: f"/cds-services/anakinra-ruxolitinib-{hook}" for hook in (SELECT, SIGN)}
PATIENTS = ("demo-full-protocol", "demo-neutropenia", "demo-posaconazole", "demo-day-7", "demo-medications-refused")
DETAIL = 6_000
"""Characters of a detail: twice what the longest card of forty drafts has now. More drafts must not mean more text."""

some = settings(max_examples=examples(200), deadline=None, derandomize=True)
few = settings(max_examples=examples(60), deadline=None, derandomize=True)


class Ward:
    """The service in an event loop of its own, since Hypothesis calls tests that are no coroutines."""

    def __init__(self, runner: asyncio.Runner, hospital: Hospital) -> None:
        self.runner, self.hospital = runner, hospital
        self.services = {s["id"]: s for s in runner.run(hospital.client.get("/cds-services")).json()["services"]}
        self.found: dict[tuple[str, str], Mapping[str, Any]] = {}

    def prefetch(self, hook: str, patient: str) -> Mapping[str, Any]:
        async def fetched() -> Mapping[str, Any]:
            templates = self.services[PATHS[hook].removeprefix("/cds-services/")]["prefetch"]
            paths = {k: prefetch.render(t, values={"context.patientId": patient}) for k, t in templates.items()}
            return {key: (await self.hospital.fhir.get(f"/{path}")).json() for key, path in paths.items()}

        if (hook, patient) not in self.found:
            self.found[hook, patient] = self.runner.run(fetched())
        return self.found[hook, patient]

    def post(self, body: Json) -> httpx.Response:
        return self.runner.run(
            self.hospital.client.post(PATHS[body["hook"]], content=json.dumps(body).encode(), **JSON)
        )


JSON: dict[str, Any] = {"headers": {"content-type": "application/json"}}


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    folder: Path = tmp_path_factory.mktemp("orders")
    with asyncio.Runner() as runner:
        doors = opened(folder)
        yield Ward(runner, runner.run(doors.__aenter__()))
        runner.run(doors.__aexit__(None, None, None))


# --- any JSON -----------------------------------------------------------------------------------------------

TEXTS = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12),
    st.sampled_from(["", "anakinra", "Kineret", "Patient/demo-neutropenia", "mg", "2026-11-23", "9999-12-31", "#m"]),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXTS,
)
NAMES = st.one_of(
    TEXTS,
    st.sampled_from(
        [
            *("resourceType", "id", "status", "intent", "subject", "reference", "medicationCodeableConcept", "coding"),
            *("medicationReference", "contained", "dosageInstruction", "doseAndRate", "doseQuantity", "doseRange"),
            *("timing", "repeat", "boundsPeriod", "boundsDuration", "frequency", "period", "periodUnit", "value"),
            *("text", "code", "system", "entry", "resource", "fullUrl", "category", "identifier", "dispenseRequest"),
        ]
    ),
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=4)),
    max_leaves=12,
)
WHOLE = anakinra("demo-neutropenia", authoredOn="2026-11-23", note=[{"text": "x"}])


@st.composite
def damaged(draw: st.DrawFn) -> Json:
    """A whole order with something else at one or two of its places, however deep."""

    def replaced(value: Any) -> Any:
        if isinstance(value, dict) and value and draw(st.integers(0, 3)):
            name = draw(st.sampled_from(sorted(value)))
            return {**value, name: replaced(value[name])}
        if isinstance(value, list) and value and draw(st.integers(0, 3)):
            return [replaced(value[0]), *value[1:]]
        return draw(ANYTHING)

    found = {
        **WHOLE,
        **{name: replaced(WHOLE[name]) for name in draw(st.sets(st.sampled_from(sorted(WHOLE)), max_size=2))},
    }
    return found | {"subject": WHOLE["subject"]} if draw(st.booleans()) else found


BUNDLES = st.one_of(
    ANYTHING,
    st.lists(st.one_of(damaged(), ANYTHING), max_size=3).map(
        lambda found: {"resourceType": "Bundle", "entry": [{"resource": one} for one in found]}
    ),
    st.lists(ANYTHING, max_size=3).map(lambda found: {"resourceType": "Bundle", "entry": found}),
)


@given(
    draft_orders=BUNDLES,
    selections=st.one_of(st.none(), ANYTHING, st.lists(TEXTS, max_size=2)),
    hook=st.sampled_from([SELECT, SIGN]),
)
@some
def test_any_json_as_draft_orders_is_answered(ward: Ward, draft_orders: Any, selections: Any, hook: str) -> None:
    found = {"patient": ward.prefetch(hook, "demo-neutropenia").get("patient")}
    body = call(hook, draft_orders, patient="demo-neutropenia", prefetch=found, selections=selections)
    answer = ward.post(body)
    assert answer.status_code in {200, 400, 412}, answer.text
    assert answer.headers["content-type"] == "application/json"
    if answer.status_code != 200:
        assert oracle.outcome(answer.content) == []
        return
    entries = draft_orders.get("entry") if isinstance(draft_orders, dict) else None
    drafts = [e.get("resource") for e in entries or () if isinstance(e, dict)]
    assert oracle.order_response(answer.content, patient="demo-neutropenia", drafts=drafts) == []
    assert decision(answer)["outcome"] in {"card", "nothing-to-say", "identity-mismatch"}


# --- bounded text -------------------------------------------------------------------------------------------

LONG = st.integers(1, 400).map(lambda size: "anakinra <b>&amp;</b> [x](http://e.example) " * size)
WORDS = st.one_of(
    LONG, TEXTS, st.sampled_from(["ruxolitinib " * 2000, "\u202e" * 3000, "\U0001f600" * 3000, "a" * 9000])
)


@st.composite
def wordy(draw: st.DrawFn) -> Json:
    name = draw(st.sampled_from(sorted(CODES)))
    concept = drug(name) if draw(st.booleans()) else {}
    return order(
        name,
        patient="PATIENT",
        id=draw(st.sampled_from(["d", "e" * 400, "x y<z>"])),
        medicationCodeableConcept=concept | {"text": draw(WORDS)},
        dosageInstruction=[{**dosage(draw(st.sampled_from([1, 5, 300, 1e30]))), "text": draw(WORDS)}],
        note=[{"text": draw(WORDS)}],
    )


@given(
    orders=st.lists(wordy(), min_size=1, max_size=40),
    patient=st.sampled_from(PATIENTS),
    hook=st.sampled_from([SELECT, SIGN]),
)
@few
def test_no_text_is_longer_than_its_limit(ward: Ward, orders: list[Json], patient: str, hook: str) -> None:
    """The summary's limit is the standard's; the detail must not grow with what a client sends."""
    about = {"subject": {"reference": f"Patient/{patient}"}}
    own = [{**one, **about, "id": f"{one['id']}{number}"} for number, one in enumerate(orders)]
    answer = ward.post(call(hook, bundle(*own), patient=patient, prefetch=ward.prefetch(hook, patient)))
    assert answer.status_code == 200
    assert oracle.order_response(answer.content, patient=patient, drafts=own) == []
    for card in answer.json()["cards"]:
        assert len(card["summary"]) <= 139
        assert len(card.get("detail", "")) <= DETAIL
        for suggestion in card.get("suggestions", ()):
            assert len(suggestion["label"]) <= 200
            assert all(len(action["description"]) <= 2000 for action in suggestion["actions"])


# --- order of the entries -----------------------------------------------------------------------------------


@st.composite
def drafts(draw: st.DrawFn) -> list[Json]:
    """Orders of the two drugs and of others, some of one id, some without one, in doses of all sizes."""
    names = draw(st.lists(st.sampled_from(sorted(CODES)), min_size=2, max_size=5))
    return [
        order(
            name,
            patient="PATIENT",
            id=draw(st.sampled_from([f"d{number}", f"e{number}", None])),
            dose=draw(st.one_of(st.none(), st.sampled_from([5, 10, 100, 300, 3000]).map(dosage))),
            status=draw(st.sampled_from(["draft", "active"])),
        )
        for number, name in enumerate(names)
    ]


@given(orders=drafts(), patient=st.sampled_from(PATIENTS), hook=st.sampled_from([SELECT, SIGN]), data=st.data())
@few
def test_the_order_of_the_drafts_means_nothing(
    ward: Ward, orders: list[Json], patient: str, hook: str, data: st.DataObject
) -> None:
    own = [{**one, "subject": {"reference": f"Patient/{patient}"}} for one in orders]
    found = ward.prefetch(hook, patient)
    first, second = (
        ward.post(call(hook, bundle(*some), patient=patient, prefetch=found))
        for some in (own, data.draw(st.permutations(own)))
    )
    assert (first.status_code, second.status_code) == (200, 200)
    assert same_words(first) == same_words(second)
    assert decision(first)["outcome"] == decision(second)["outcome"]
    indicators = {card["indicator"] for card in first.json()["cards"]}
    assert hook == SIGN or patient == "demo-day-7" or "critical" not in indicators
