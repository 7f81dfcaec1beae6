"""Gathering: what a prefetch value means, what is read instead, and what each source is complete for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import respx

from app import plan as asking
from app.gateway.access import Access
from app.gateway.budget import Budget, Deadline
from app.gateway.fhir import Gateway
from app.gather import BundleError, Gathered, from_bundle, gather, subject_of
from app.plan import Need
from fhir_mappings.codebook import load
from fhir_mappings.facts import Source
from fhir_mappings.mapping import Part

BASE = "https://fhir.example.org/r4"
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
PLAN = asking.plan(load("observations"), load("ingredients"))
LABS = next(need for need in PLAN if need.key == "labs")
VIROLOGY = next(need for need in PLAN if need.key == "virology")
ORDERS = next(need for need in PLAN if need.key == "orders")
CONDITIONS = next(need for need in PLAN if need.key == "conditions")
PATIENT = next(need for need in PLAN if need.key == "patient")
ADMINISTRATIONS = next(need for need in PLAN if need.key == "administrations")
LONG_ACTING = next(need for need in PLAN if need.key == "long-acting")


def observation(name: str, hours: float = 1, **more: Any) -> dict[str, Any]:
    at = (NOW - timedelta(hours=hours)).isoformat()
    return {"resourceType": "Observation", "id": name, "effectiveDateTime": at, **more}


def bundle(*resources: Mapping[str, Any], following: str | None = None, **more: Any) -> dict[str, Any]:
    link = [{"relation": "next", "url": following}] if following else []
    entry = [
        {"resource": resource, "search": {"mode": "include" if resource["resourceType"] == "Medication" else "match"}}
        for resource in resources
    ]
    return {"resourceType": "Bundle", "type": "searchset", "link": link, "entry": entry, **more}


def outcome(severity: str = "error", **more: str) -> dict[str, Any]:
    return {"resourceType": "OperationOutcome", "issue": [{"severity": severity, "code": "processing", **more}]}


@pytest.fixture
def router() -> Iterator[respx.MockRouter]:
    with respx.MockRouter(assert_all_called=False) as router:
        yield router


async def collect(
    router: respx.MockRouter,
    prefetch: Mapping[str, Any] | None,
    *,
    plan: tuple[Need, ...] = (LABS,),
    base: str | None = None,
    seconds: float = 5,
    patient_id: str = "p1",
    no_base: str = "no-fhir-server",
) -> Gathered:
    raw = None if prefetch is None else {key: json.dumps(value).encode() for key, value in prefetch.items()}
    async with Gateway(httpx.MockTransport(router.async_handler)) as gateway:
        return await gather(
            plan=plan,
            prefetch=raw,
            base=base,
            access=Access("token"),
            gateway=gateway,
            patient_id=patient_id,
            now=NOW,
            budget=Budget(Deadline(seconds)),
            no_base=no_base,
        )


def part(gathered: Gathered | tuple[Part, ...], key: str = "labs") -> Part:
    parts = gathered.parts if isinstance(gathered, Gathered) else gathered
    return next(part for part in parts if part.source.key == key)


def names(found: Part) -> list[str]:
    return [json.loads(raw)["id"] for raw in found.resources]


WRAPPED = {"response": {"status": "200 OK"}, "resource": bundle(observation("a"))}


@pytest.mark.parametrize(
    ("value", "ended", "why", "held", "looked"),
    [
        (bundle(observation("a")), "ok", "", ["a"], True),
        (bundle(observation("a"), total=1), "ok", "", ["a"], True),
        (observation("a"), "ok", "", ["a"], True),
        (WRAPPED, "ok", "", ["a"], True),
        (bundle(), "empty", "", [], True),
        ({"resourceType": "Bundle", "type": "searchset", "total": 0}, "empty", "", [], True),
        (None, "failed", "prefetch-null", [], False),
        ({"response": {"status": "404"}, "resource": None}, "failed", "prefetch-null", [], False),
        (outcome(), "failed", "prefetch-outcome", [], False),
        (bundle(outcome()), "failed", "prefetch-outcome", [], False),
        (bundle(observation("a"), outcome()), "partial", "operation-outcome", ["a"], True),
        (bundle(observation("a"), outcome("warning")), "ok", "", ["a"], True),
        (
            bundle(observation("a"), outcome("warning", diagnostics="results were truncated")),
            "partial",
            "results-dropped",
            ["a"],
            True,
        ),
        ({"resourceType": "Condition", "id": "c"}, "failed", "wrong-type", [], False),
        (bundle({"resourceType": "Condition", "id": "c"}), "failed", "wrong-type", [], False),
        (bundle(observation("a"), {"resourceType": "Condition", "id": "c"}), "partial", "wrong-type", ["a"], True),
        (bundle(observation("a"), following="x"), "partial", "more-pages", ["a"], True),
        (bundle(observation("a"), total=2), "partial", "fewer-than-total", ["a"], True),
        ("text", "failed", "prefetch-unreadable", [], False),
        ([], "failed", "prefetch-unreadable", [], False),
        ({}, "failed", "prefetch-unreadable", [], False),
    ],
)
async def test_what_a_prefetch_value_means(
    router: respx.MockRouter, value: Any, ended: str, why: str, held: list[str], looked: bool
) -> None:
    gathered = await collect(router, {"labs": value})
    found = part(gathered)
    assert (found.source.outcome, found.source.why, names(found)) == (ended, why, held)
    assert gathered.looked is looked
    assert found.source.reaches == (NOW if ended == "partial" else None)
    assert gathered.requests == 0
    assert found.source.resource_type == "Observation"


@pytest.mark.parametrize("prefetch", [None, {}, {"other": bundle(observation("a"))}])
async def test_what_was_not_sent_fails_with_the_callers_reason(
    router: respx.MockRouter, prefetch: dict[str, Any] | None
) -> None:
    gathered = await collect(router, prefetch, no_base="unknown-fhir-server")
    assert part(gathered).source == Source("labs", "Observation", "failed", "unknown-fhir-server")
    assert not gathered.looked


@pytest.mark.parametrize(
    "value",
    [None, outcome(), {"resourceType": "Condition", "id": "c"}, "text", bundle(observation("a", 1), total=9)],
)
async def test_what_is_unusable_or_partial_is_read(router: respx.MockRouter, value: Any) -> None:
    route = router.get(f"{BASE}/Observation").respond(json=bundle(observation("b")))
    gathered = await collect(router, {"labs": value}, base=BASE)
    found = part(gathered)
    assert names(found) == ["b"]
    assert found.source == Source("labs", "Observation", "ok", reaches=NOW - timedelta(hours=72))
    assert dict(route.calls.last.request.url.params) == dict(asking.search(LABS, patient_id="p1", now=NOW))
    assert (gathered.requests, gathered.looked, list(gathered.ms)) == (1, True, ["labs"])


@pytest.mark.parametrize("value", [bundle(observation("a")), bundle()])
async def test_what_is_complete_is_not_read_again(router: respx.MockRouter, value: Any) -> None:
    gathered = await collect(router, {"labs": value}, base=BASE)
    assert router.calls.call_count == 0
    assert part(gathered).source.reaches is None


async def test_a_search_without_look_back_is_complete_for_ever(router: respx.MockRouter) -> None:
    router.get(f"{BASE}/Observation").respond(json=bundle())
    gathered = await collect(router, None, base=BASE, plan=(VIROLOGY,))
    assert part(gathered, "virology").source == Source("virology", "Observation", "empty")


async def test_the_patient_is_read_by_id(router: respx.MockRouter) -> None:
    router.get(f"{BASE}/Patient/p1").respond(json={"resourceType": "Patient", "id": "p1"})
    gathered = await collect(router, {"patient": None}, base=BASE, plan=(PATIENT,))
    assert names(part(gathered, "patient")) == ["p1"]


@pytest.mark.parametrize("patient_id", ["a,b", "a|b", "../x", "x" * 65, "", "a&code=x"])
async def test_an_id_that_is_none_is_never_asked_for(router: respx.MockRouter, patient_id: str) -> None:
    gathered = await collect(router, None, base=BASE, patient_id=patient_id)
    assert part(gathered).source.why == "patient-id"
    assert router.calls.call_count == 0


async def test_a_failed_read_says_why_and_nobody_looked(router: respx.MockRouter) -> None:
    router.get(f"{BASE}/Observation").respond(403)
    gathered = await collect(router, {"labs": None}, base=BASE)
    assert part(gathered).source == Source("labs", "Observation", "failed", "refused", None, (("status", "403"),))
    assert not gathered.looked
    assert gathered.requests == 1


async def test_a_partial_prefetch_that_cannot_be_completed_stays(router: respx.MockRouter) -> None:
    router.get(f"{BASE}/Observation").respond(500)
    value = bundle(observation("a", 1), observation("b", 5), total=9)
    gathered = await collect(router, {"labs": value}, base=BASE)
    found = part(gathered)
    assert (found.source.outcome, found.source.why) == ("partial", "fewer-than-total")
    assert found.source.reaches == NOW - timedelta(hours=5)
    assert (names(found), gathered.requests, gathered.looked) == (["a", "b"], 1, True)


async def test_a_cut_off_prefetch_that_reaches_past_the_look_back_is_complete(router: respx.MockRouter) -> None:
    value = bundle(observation("a", 1), observation("b", 80), following="x")
    gathered = await collect(router, {"labs": value}, base=BASE)
    source = part(gathered).source
    assert (source.outcome, source.why, source.reaches) == ("ok", "", NOW - timedelta(hours=80))
    assert router.calls.call_count == 0


def dated(**dates: Any) -> dict[str, Any]:
    return {"resourceType": "Observation", "id": "x", **dates}


OLD = (NOW - timedelta(hours=5)).isoformat()


@pytest.mark.parametrize(
    ("second", "reaches"),
    [
        (dated(effectiveDateTime=OLD), NOW - timedelta(hours=5)),
        (dated(effectiveInstant=OLD), NOW - timedelta(hours=5)),
        (dated(effectivePeriod={"start": "2020-01-01T00:00:00Z", "end": OLD}), NOW - timedelta(hours=5)),
        (dated(effectiveDateTime="2026-11-23T08:00:00+01:00"), NOW - timedelta(hours=5)),
        (dated(effectivePeriod={"start": OLD}), NOW),
        (dated(effectiveDateTime="2026-11-23"), NOW),
        (dated(effectiveDateTime="2026-11-23T07:00:00"), NOW),
        (dated(effectiveDateTime="2026-11-43T07:00:00Z"), NOW),
        (dated(effectiveDateTime=7), NOW),
        (dated(), NOW),
        (observation("newer", 0.5), NOW),
    ],
)
async def test_how_far_back_a_cut_off_answer_reaches(
    router: respx.MockRouter, second: dict[str, Any], reaches: datetime
) -> None:
    gathered = await collect(router, {"labs": bundle(observation("a", 1), second, total=9)})
    assert part(gathered).source.reaches == reaches


async def test_one_entry_or_an_unsorted_need_shows_no_order(router: respx.MockRouter) -> None:
    one = await collect(router, {"labs": bundle(observation("a", 9), total=9)})
    assert part(one).source.reaches == NOW
    conditions = [
        {
            "resourceType": "Condition",
            "id": str(hours),
            "effectiveDateTime": observation("x", hours)["effectiveDateTime"],
        }
        for hours in (1, 2)
    ]
    unsorted = await collect(router, {"conditions": bundle(*conditions, total=9)}, plan=(CONDITIONS,))
    assert part(unsorted, "conditions").source.reaches == NOW


async def test_entries_ahead_of_now_do_not_reach_beyond_now(router: respx.MockRouter) -> None:
    value = bundle(observation("a", -3), observation("b", -2), total=9)
    assert part(await collect(router, {"labs": value})).source.reaches == NOW


async def test_a_cut_off_search_keeps_what_came(router: respx.MockRouter) -> None:
    pages = bundle(observation("a", 1), observation("b", 7), following="https://evil.example/")
    router.get(f"{BASE}/Observation").respond(json=pages)
    found = part(await collect(router, None, base=BASE))
    assert (found.source.outcome, found.source.why) == ("partial", "foreign-next")
    assert found.source.reaches == NOW - timedelta(hours=7)
    assert names(found) == ["a", "b"]


async def test_a_search_that_answers_with_another_type_fails(router: respx.MockRouter) -> None:
    router.get(f"{BASE}/Observation").respond(json=bundle({"resourceType": "Condition", "id": "c"}, following="//x"))
    assert part(await collect(router, None, base=BASE)).source.why == "wrong-type"


async def test_reads_run_side_by_side_and_the_deadline_keeps_what_is_there(router: respx.MockRouter) -> None:
    waiting = 0
    most = 0

    async def slow(request: httpx.Request) -> httpx.Response:
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)
        await asyncio.sleep(30 if request.url.path.endswith("Condition") else 0.05)
        waiting -= 1
        if request.url.path.endswith("p1"):
            return httpx.Response(200, json={"resourceType": "Patient", "id": "p1"})
        return httpx.Response(200, json=bundle())

    router.get(url__startswith=BASE).mock(side_effect=slow)
    router.post(url__startswith=BASE).mock(side_effect=slow)
    started = asyncio.get_running_loop().time()
    gathered = await collect(router, None, plan=PLAN, base=BASE, seconds=1.5)
    assert asyncio.get_running_loop().time() - started < 10
    assert most >= len(PLAN) - 1
    outcomes = {found.source.key: (found.source.outcome, found.source.why) for found in gathered.parts}
    assert outcomes.pop("conditions") == ("failed", "timeout")
    assert outcomes.pop("patient") == ("ok", "")
    assert set(outcomes.values()) == {("empty", "")}
    assert set(outcomes) == {need.key for need in PLAN} - {"conditions", "patient"} | {"medications"}
    assert gathered.looked


# --- medications by reference -----------------------------------------------------------------------------


def order(name: str, reference: str | None, **more: Any) -> dict[str, Any]:
    medication = {"medicationReference": {"reference": reference}} if reference else {}
    return {"resourceType": "MedicationRequest", "id": name, **medication, **more}


def given(name: str, reference: str | None = None) -> dict[str, Any]:
    return {**order(name, reference), "resourceType": "MedicationAdministration"}


def medication(name: str) -> dict[str, Any]:
    return {"resourceType": "Medication", "id": name}


async def test_medications_that_are_only_referred_to_are_read(router: respx.MockRouter) -> None:
    route = router.get(f"{BASE}/Medication").respond(json=bundle(medication("m2"), medication("m3")))
    orders = bundle(
        order("1", "Medication/m1"),
        order("2", "Medication/m2/_history/3"),
        order("3", f"{BASE}/Medication/m3"),
        order("4", "#inside"),
        order("5", "https://elsewhere.example/Medication/m5"),
        order("6", None, medicationCodeableConcept={"text": "x"}),
        order("7", None, medicationReference=7),
        medication("m1"),
    )
    gathered = await collect(router, {"orders": orders}, plan=(ORDERS,), base=BASE)
    assert dict(route.calls.last.request.url.params) == {"_id": "m2,m3", "_count": "2"}
    found = part(gathered, "medications")
    assert found.source == Source("medications", "Medication", "ok")
    assert sorted(names(found)) == ["m1", "m2", "m3"]
    assert names(part(gathered, "orders")) == list("1234567")
    assert gathered.requests == 1


async def test_many_medications_are_read_in_chunks(router: respx.MockRouter) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=bundle(*map(medication, request.url.params["_id"].split(","))))

    route = router.get(f"{BASE}/Medication").mock(side_effect=answer)
    orders = bundle(*(order(str(number), f"Medication/m{number}") for number in range(120)))
    gathered = await collect(router, {"orders": orders}, plan=(ORDERS,), base=BASE)
    assert [len(call.request.url.params["_id"].split(",")) for call in route.calls] == [50, 50, 20]
    assert len(part(gathered, "medications").resources) == 120


@pytest.mark.parametrize(
    ("status", "body", "ended", "why"),
    [
        (403, None, "failed", "refused"),
        (200, bundle(), "partial", "not-found"),
        (200, bundle(medication("m1"), total=2, following="//x"), "partial", "foreign-next"),
    ],
)
async def test_medications_that_cannot_be_read(
    router: respx.MockRouter, status: int, body: dict[str, Any] | None, ended: str, why: str
) -> None:
    router.get(f"{BASE}/Medication").respond(status, json=body or {})
    orders = bundle(order("1", "Medication/m1"), order("2", "Medication/m2"))
    gathered = await collect(router, {"orders": orders}, plan=(ORDERS,), base=BASE)
    source = part(gathered, "medications").source
    assert (source.outcome, source.why) == (ended, why)
    assert part(gathered, "orders").source.outcome == "ok"


async def test_without_a_server_referred_medications_stay_unread(router: respx.MockRouter) -> None:
    gathered = await collect(router, {"orders": bundle(order("1", "Medication/m1"))}, plan=(ORDERS,))
    assert part(gathered, "medications").source == Source("medications", "Medication", "failed", "no-fhir-server")
    none = await collect(router, {"orders": bundle()}, plan=(ORDERS,))
    assert part(none, "medications").source == Source("medications", "Medication", "empty")


async def test_reading_medications_waits_for_no_other_source(router: respx.MockRouter) -> None:
    async def slow(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(30)
        raise AssertionError

    router.get(f"{BASE}/Observation").mock(side_effect=slow)
    router.get(f"{BASE}/Medication").respond(json=bundle(medication("m1")))
    gathered = await collect(
        router, {"orders": bundle(order("1", "Medication/m1"))}, plan=(LABS, ORDERS), base=BASE, seconds=0.2
    )
    assert part(gathered, "medications").source.outcome == "ok"
    assert part(gathered).source.why == "timeout"


async def test_drugs_asked_for_by_code_are_looked_for_everywhere_where_medications_are_references(
    router: respx.MockRouter,
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if "code" in request.url.params:
            return httpx.Response(200, json=bundle())
        days = 28 if "2026-10-26" in request.url.params["effective-time"] else 180
        body = [given("a", "Medication/m1")] + ([given("old", "Medication/m2")] if days == 180 else [])
        return httpx.Response(200, json=bundle(*body))

    router.get(f"{BASE}/MedicationAdministration").mock(side_effect=answer)
    router.get(f"{BASE}/Medication").respond(json=bundle(medication("m1"), medication("m2")))
    gathered = await collect(router, None, plan=(ADMINISTRATIONS, LONG_ACTING), base=BASE)
    found = part(gathered, "long-acting")
    assert names(found) == ["a", "old"]
    assert (found.source.outcome, found.source.reaches) == ("ok", NOW - timedelta(days=180))
    assert sorted(names(part(gathered, "medications"))) == ["m1", "m2"]
    assert gathered.requests == 4


async def test_a_search_by_code_that_is_blind_is_partial(router: respx.MockRouter) -> None:
    prefetch = {"administrations": bundle(given("a", "Medication/m1")), "long-acting": bundle()}
    alone = part(await collect(router, prefetch, plan=(ADMINISTRATIONS, LONG_ACTING)), "long-acting")
    assert (alone.source.outcome, alone.source.why, alone.source.reaches) == ("partial", "by-reference", NOW)
    router.get(url__startswith=BASE).respond(503)
    failing = part(await collect(router, prefetch, plan=(ADMINISTRATIONS, LONG_ACTING), base=BASE), "long-acting")
    assert (failing.source.outcome, failing.source.why) == ("partial", "by-reference")


async def test_inline_medications_are_seen_by_code(router: respx.MockRouter) -> None:
    prefetch = {"administrations": bundle(given("a")), "long-acting": bundle()}
    found = part(await collect(router, prefetch, plan=(ADMINISTRATIONS, LONG_ACTING), base=BASE), "long-acting")
    assert found.source.outcome == "empty"
    assert router.calls.call_count == 0


async def test_where_nothing_recent_shows_how_a_server_writes_all_are_read(router: respx.MockRouter) -> None:
    """No administration in 28 days, and orders inline: an older one may be a reference all the same."""
    hidden = bundle(given("old", "Medication/m1"))

    def answer(request: httpx.Request) -> httpx.Response:
        whole = "code" not in request.url.params and request.url.params["_count"] == "500"
        back = request.url.params["effective-time"] < "ge2026-10"
        return httpx.Response(200, json=hidden if whole and back else bundle())

    router.get(f"{BASE}/MedicationAdministration").mock(side_effect=answer)
    router.get(f"{BASE}/MedicationRequest").respond(json=bundle(order("1", None)))
    router.get(f"{BASE}/Medication").respond(json=bundle(medication("m1")))
    gathered = await collect(router, None, plan=(ORDERS, ADMINISTRATIONS, LONG_ACTING), base=BASE)
    assert len(part(gathered, "long-acting").resources) == 1
    router.get(f"{BASE}/MedicationAdministration").mock(
        side_effect=lambda request: httpx.Response(200 if "code" in request.url.params else 403, json=bundle())
    )
    gathered = await collect(router, None, plan=(ORDERS, ADMINISTRATIONS, LONG_ACTING), base=BASE)
    lost = part(gathered, "long-acting").source
    assert (lost.outcome, lost.why, lost.reaches) == ("partial", "refused", NOW), "nobody could look: never an absence"
    assert part(gathered, "administrations").source.outcome == "failed"


async def test_where_the_client_sent_that_nothing_was_ever_given_nothing_is_read(router: respx.MockRouter) -> None:
    prefetch = {"administrations": bundle(), "long-acting": bundle()}
    found = part(await collect(router, prefetch, plan=(ADMINISTRATIONS, LONG_ACTING), base=BASE), "long-acting")
    assert (found.source.outcome, router.calls.call_count) == ("empty", 0)


def test_what_was_gathered_does_not_print_patient_data() -> None:
    gathered = Gathered(parts=(Part(Source("labs", "Observation", "ok"), (b"canary",)),), looked=True)
    assert "canary" not in repr(gathered)


# --- specimens of blood gases -----------------------------------------------------------------------------

RESPIRATORY = next(need for need in PLAN if need.key == "respiratory")


def gas(name: str, reference: Any, code: str = "2703-7") -> dict[str, Any]:
    return {**coded(name, f"http://loinc.org|{code}"), "specimen": {"reference": reference} if reference else {}}


def specimen(name: str) -> dict[str, Any]:
    return {"resourceType": "Specimen", "id": name}


async def test_specimens_that_blood_gases_refer_to_are_read(router: respx.MockRouter) -> None:
    route = router.get(f"{BASE}/Specimen").respond(json=bundle(specimen("s2"), specimen("s3"), medication("m")))
    answer = bundle(
        gas("1", "Specimen/s1"),
        gas("2", "Specimen/s2/_history/3"),
        gas("3", f"{BASE}/Specimen/s3", "11556-8"),
        gas("4", "https://elsewhere.example/Specimen/s4"),
        gas("5", "#s5"),
        gas("6", None),
        gas("7", 7),
        gas("8", "Specimen/s8", "19994-3"),
        {**gas("9", None), "specimen": None},
        specimen("s1"),
    )
    gathered = await collect(router, {"respiratory": answer}, plan=(RESPIRATORY,), base=BASE)
    assert dict(route.calls.last.request.url.params) == {"_id": "s2,s3", "_count": "2"}
    found = part(gathered, "respiratory")
    assert found.source.outcome == "ok"
    assert names(found) == [*"123456789", "s1", "s2", "s3"]
    assert len(found.full_urls) == len(found.resources)
    assert gathered.requests == 1


@pytest.mark.parametrize("status", [403, 404, 500])
async def test_specimens_that_cannot_be_read_fail_no_source(router: respx.MockRouter, status: int) -> None:
    router.get(f"{BASE}/Specimen").respond(status, json={})
    gathered = await collect(router, {"respiratory": bundle(gas("1", "Specimen/s1"))}, plan=(RESPIRATORY,), base=BASE)
    assert part(gathered, "respiratory").source.outcome == "ok"
    assert names(part(gathered, "respiratory")) == ["1"]


async def test_without_a_server_the_specimens_that_came_along_are_kept(router: respx.MockRouter) -> None:
    answer = bundle(gas("1", "Specimen/s1"), gas("2", "Specimen/s2"), specimen("s1"))
    gathered = await collect(router, {"respiratory": answer}, plan=(RESPIRATORY,))
    assert part(gathered, "respiratory").source.outcome == "ok"
    assert names(part(gathered, "respiratory")) == ["1", "2", "s1"]


async def test_a_plan_without_gases_asks_for_no_specimen(router: respx.MockRouter) -> None:
    answer = bundle(gas("1", "Specimen/s1"))
    gathered = await collect(router, {"labs": answer}, plan=(LABS,), base=BASE)
    assert gathered.requests == 0


async def test_gases_without_a_reference_ask_for_nothing(router: respx.MockRouter) -> None:
    gathered = await collect(router, {"respiratory": bundle(gas("1", None))}, plan=(RESPIRATORY,), base=BASE)
    assert gathered.requests == 0


def test_the_specimens_of_a_bundle_stand_beside_its_observations() -> None:
    parts = from_bundle(raw(collection(gas("1", "Specimen/s1"), specimen("s1"))), plan=PLAN, now=NOW)
    assert [name for found in parts for name in names(found)] == ["1", "s1"]
    assert part(parts, "labs").source.outcome == "ok"


# --- a Bundle from a file ---------------------------------------------------------------------------------


def raw(value: Any) -> bytes:
    return json.dumps(value).encode()


def collection(*resources: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": r} for r in resources], **more}


def person(name: str) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": name}


def of(name: str, patient: str) -> dict[str, Any]:
    return observation(name, subject={"reference": patient})


def test_a_bundle_is_complete_as_it_is() -> None:
    parts = from_bundle(raw(collection(of("a", "Patient/p"), person("p"), medication("m"))), plan=PLAN, now=NOW)
    outcomes = {found.source.key: found.source.outcome for found in parts}
    assert set(outcomes) == {need.key for need in PLAN} | {"medications"}
    assert {key for key, ended in outcomes.items() if ended == "ok"} == {
        *("patient", "labs", "virology", "respiratory", "vitals", "ecmo", "microbiology", "screening", "medications")
    }
    assert set(outcomes.values()) == {"ok", "empty"}
    assert all(found.source.reaches is None for found in parts)
    assert [name for found in parts for name in names(found)] == ["p", "a", "m"]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"total": 9}, "fewer-than-total"),
        ({"link": [{"relation": "next", "url": "https://x.example"}]}, "more-pages"),
    ],
)
def test_a_bundle_that_is_a_first_page_is_partial(more: dict[str, Any], why: str) -> None:
    parts = from_bundle(raw(collection(of("a", "Patient/p"), **more)), plan=PLAN, now=NOW)
    assert {(p.source.outcome, p.source.why, p.source.reaches) for p in parts if p.source.key != "medications"} == {
        ("partial", why, NOW)
    }


def coded(name: str, *marks: str, **more: Any) -> dict[str, Any]:
    pairs = (mark.split("|") for mark in marks)
    return observation(name, code={"coding": [{"system": s, "code": c} for s, c in pairs]}, **more)


def test_a_failing_outcome_fails_what_the_bundle_has_nothing_of() -> None:
    result = coded("a", "http://loinc.org|1988-5")
    parts = from_bundle(raw(collection(result, outcome())), plan=PLAN, now=NOW)
    assert part(parts, "labs").source.outcome == "ok"
    assert names(part(parts, "labs")) == ["a"]
    assert part(parts, "orders").source == Source("orders", "MedicationRequest", "failed", "operation-outcome")
    mild = from_bundle(raw(collection(of("a", "Patient/p"), outcome("warning"))), plan=PLAN, now=NOW)
    assert part(mild, "orders").source.outcome == "empty"
    cut = from_bundle(raw(collection(outcome("warning", diagnostics="Results truncated"))), plan=PLAN, now=NOW)
    assert part(cut, "orders").source.why == "results-dropped"


def test_bundles_inside_a_bundle_are_opened() -> None:
    inner = bundle(of("a", "Patient/p"))
    parts = from_bundle(raw(collection(person("p"), inner)), plan=PLAN, now=NOW)
    assert names(part(parts)) == ["a"]


@pytest.mark.parametrize("value", [b"", b"nonsense", b"null", raw(person("p")), raw(outcome()), b"[]"])
def test_what_is_no_bundle_is_an_error(value: bytes) -> None:
    with pytest.raises(BundleError, match="Bundle"):
        from_bundle(value, plan=PLAN, now=NOW)
    with pytest.raises(BundleError, match="Bundle"):
        subject_of(value)


@pytest.mark.parametrize(
    ("entries", "chosen", "expected"),
    [
        ([person("p"), of("a", "Patient/p")], None, "p"),
        ([person("p"), of("a", "Patient/other")], None, "p"),
        ([person("p"), person("q")], "Patient/q", "q"),
        ([person("p"), person("q")], "p", "p"),
        ([of("a", "Patient/p"), of("b", "https://x.example/r4/Patient/p/_history/2"), medication("m")], None, "p"),
        ([{"resourceType": "AllergyIntolerance", "id": "x", "patient": {"reference": "Patient/p"}}], None, "p"),
        ([of("a", "Patient/p"), of("b", "Patient/q")], "q", "q"),
        ([of("a", "urn:uuid:1-2"), observation("b"), observation("c", subject=7)], None, "1-2"),
    ],
)
def test_whose_bundle_it_is(entries: list[dict[str, Any]], chosen: str | None, expected: str) -> None:
    assert subject_of(raw(collection(*entries)), chosen=chosen) == expected


@pytest.mark.parametrize(
    ("entries", "chosen", "said"),
    [
        ([person("p"), person("q")], None, "2 Patients: name one with --patient"),
        ([of("a", "Patient/p"), of("b", "Patient/q")], None, "2 different subjects"),
        ([medication("m")], None, "no Patient and no resource with a subject"),
        ([observation("a", subject={"reference": "Group/g"})], None, "no Patient and no resource"),
        ([person("p")], "q", "--patient"),
    ],
)
def test_whose_bundle_it_is_cannot_be_said(entries: list[dict[str, Any]], chosen: str | None, said: str) -> None:
    with pytest.raises(BundleError, match=said):
        subject_of(raw(collection(*entries)), chosen=chosen)


def test_a_transaction_may_leave_ids_to_the_server() -> None:
    body = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {"fullUrl": "urn:uuid:aa-1", "resource": {"resourceType": "Patient"}},
            {"fullUrl": "urn:uuid:bb-2", "resource": of("o", "urn:uuid:aa-1")},
        ],
    }
    assert subject_of(raw(body)) == "aa-1"
    parts = from_bundle(raw(body), plan=PLAN, now=NOW, patient_id="aa-1")
    assert part(parts, "patient").full_urls == ("urn:uuid:aa-1",)
    assert part(parts).full_urls == ("urn:uuid:bb-2",)


def test_other_patients_of_the_same_file_are_left_out() -> None:
    body = collection(person("p"), person("q"), of("a", "Patient/p"), of("b", "Patient/q"), of("c", "Patient/stranger"))
    parts = from_bundle(raw(body), plan=PLAN, now=NOW, patient_id="p")
    assert names(part(parts, "patient")) == ["p"]
    assert names(part(parts)) == ["a", "c"]
