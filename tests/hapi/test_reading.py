"""The gateway and the service against a real server that pages, caches, refuses, breaks and lies.

Every test has a patient of its own, so that one server serves them all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from app import knowledge
from app import plan as asking
from app.gateway import fhir as gateways
from app.gateway.access import Access
from app.gateway.budget import Budget, Deadline
from app.gateway.fhir import Fetched, Gateway, Limits, Query
from tests.hapi import ward
from tests.hapi.hapi import Rule, Server, load, new_id
from tests.hapi.ward import PATIENCE, Planted, Ward, chart
from tests.integration.hospital import NOW, TOKEN, decision

pytestmark = pytest.mark.hapi

BEDSIDE = knowledge.load()
NEEDS = {need.key: need for need in BEDSIDE.needs}
PATIENT_LIMITS = Limits(call_seconds=PATIENCE, connect_seconds=5)
CRP = "1988-5"

Resource = dict[str, Any]
Change = Callable[[list[Resource]], list[Resource]]


@pytest_asyncio.fixture
async def bedside(hapi: Server, tmp_path: Path) -> AsyncIterator[Ward]:
    async with ward.opened(hapi, tmp_path) as found:
        yield found


def admit(server: Server, word: str, change: Change = lambda resources: resources) -> str:
    """A patient like the first of the demo, for whom two orders would be suggested, with some change; the id."""
    patient_id = new_id(word)
    load(server.base, change(chart(patient_id)))
    return patient_id


def result(patient_id: str, name: str, *, hours: float, value: float, code: str = CRP, **more: Any) -> Resource:
    """A laboratory result of so many hours ago, in mg/L."""
    return {
        "resourceType": "Observation",
        "id": f"{patient_id}-{name}",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": {"reference": f"Patient/{patient_id}"},
        "effectiveDateTime": (NOW - timedelta(hours=hours)).isoformat(),
        "valueQuantity": {"value": value, "unit": "mg/L", "system": "http://unitsofmeasure.org", "code": "mg/L"},
        **more,
    }


async def search(server: Server, query: Query, *, gateway: Gateway | None = None, token: str | None = None) -> Fetched:
    budget = Budget(Deadline(PATIENCE))
    if gateway is not None:
        return await gateway.fetch(query, base=server.base, access=Access(token), budget=budget)
    async with Gateway(limits=PATIENT_LIMITS) as own:
        return await own.fetch(query, base=server.base, access=Access(token), budget=budget)


def labs(patient_id: str) -> Query:
    """The laboratory search of the plan."""
    return Query("Observation", tuple(asking.search(NEEDS["labs"], patient_id=patient_id, now=NOW)))


def ids(fetched: Fetched) -> set[str]:
    return {entry.id for page in fetched.pages for entry in page.entries}


def suggestions(answer: Any) -> list[Resource]:
    return [
        action["resource"]
        for card in answer.json()["cards"]
        for suggestion in card.get("suggestions", ())
        for action in suggestion["actions"]
    ]


def gaps(answer: Any) -> set[tuple[str, str]]:
    return {(gap["source"], gap["why"]) for gap in decision(answer).get("gaps", ())}


# --- pages ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(hapi_server: Server) -> str:
    """A patient with 300 CRP results within the look-back of the laboratory search."""
    hapi_server.revive()
    patient_id = new_id("many")
    person = {"resourceType": "Patient", "id": patient_id}
    results = [result(patient_id, f"r{n}", hours=1 + n / 5, value=100 + n) for n in range(300)]
    load(hapi_server.base, [person, *results])
    return patient_id


async def test_300_results_are_read_over_all_pages(hapi: Server, many: str) -> None:
    fetched = await search(hapi, labs(many))
    assert (fetched.outcome, fetched.why, len(ids(fetched))) == ("ok", "", 300)
    assert fetched.requests == 6, "the server clips our page size of 250 to 50, without a word"


async def test_300_results_are_read_in_the_servers_own_pages(hapi: Server, many: str) -> None:
    fetched = await search(hapi, Query("Observation", (("patient", many), ("code", f"http://loinc.org|{CRP}"))))
    assert (fetched.outcome, len(ids(fetched)), fetched.requests) == ("ok", 300, 15)


async def test_a_missing_total_is_no_trouble(hapi: Server, many: str) -> None:
    with hapi.rules(Rule(patient=many, without_total=True)):
        fetched = await search(hapi, labs(many))
    assert (fetched.outcome, len(ids(fetched))) == ("ok", 300)
    assert all(page.total is None for page in fetched.pages)


async def test_an_expired_next_page_leaves_a_part(hapi: Server, many: str) -> None:
    with hapi.rules(Rule(patient=many, page=True, status=410)):
        fetched = await search(hapi, labs(many))
    assert (fetched.outcome, fetched.why, fetched.params) == ("partial", "not-found", (("status", "410"),))
    assert len(ids(fetched)) == 50


async def test_a_part_gives_a_newest_value_and_never_an_absence(hapi: Server, bedside: Ward) -> None:
    """The first page reaches back ten hours: CRP is known, and what was measured before is not "never measured"."""

    def crowded(resources: list[Resource]) -> list[Resource]:
        patient_id = next(r["id"] for r in resources if r["resourceType"] == "Patient")
        return [*resources, *(result(patient_id, f"r{n}", hours=1 + n / 5, value=214) for n in range(60))]

    patient_id = admit(hapi, "part", crowded)
    with hapi.rules(Rule(patient=patient_id, contains=CRP, page=True, status=410)):
        answer = await bedside.call(patient_id)
    assert ("Observation", "not found (410)") in gaps(answer)
    (card, *_) = answer.json()["cards"]
    criteria = card["extension"]["org.rescue-cds.evidence"]["protocols"][0]["criteria"]
    found = {c["id"]: (c["finding"], c.get("missing", [])) for c in criteria}
    assert found["S-CRP"] == ("unknown", ["crp"]), "thirty hours have to be covered, and eleven are"
    assert suggestions(answer) == []
    assert len(suggestions(await bedside.call(patient_id))) == 2, "with every page it is what it is"


async def test_a_long_list_of_codes_is_posted(hapi: Server, many: str) -> None:
    codes = ",".join([f"http://loinc.org|{CRP}", *(f"http://loinc.org|{number}-0" for number in range(4000))])
    fetched = await search(hapi, Query("Observation", (("patient", many), ("code", codes), ("_count", "250"))))
    assert (fetched.outcome, len(ids(fetched))) == ("ok", 300)
    seen = hapi.requests(patient=many, type="Observation")
    assert seen[-6].method == "POST"
    assert {each.cache_control for each in seen[-6:]} == {"no-cache"}


# --- freshness --------------------------------------------------------------------------------------------


async def test_a_result_of_a_second_ago_is_seen_by_the_next_hook(hapi: Server, bedside: Ward) -> None:
    patient_id = admit(hapi, "fresh")
    assert len(suggestions(await bedside.call(patient_id))) == 2
    await asyncio.sleep(1)
    load(hapi.base, [result(patient_id, "new", hours=0.1, value=60)])
    answer = await bedside.call(patient_id)
    assert (answer.json()["cards"], decision(answer)["outcome"]) == ([], "not-met")


async def test_without_no_cache_it_would_not_be_seen(hapi: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test above would be worth on a server without a cache: nothing. This one has one."""
    patient_id = admit(hapi, "stale")
    plain = gateways._headers
    monkeypatch.setattr(
        gateways, "_headers", lambda token: {k: v for k, v in plain(token).items() if k != "Cache-Control"}
    )
    before = await search(hapi, labs(patient_id))
    load(hapi.base, [result(patient_id, "new", hours=0.1, value=60)])
    assert ids(await search(hapi, labs(patient_id))) == ids(before)
    monkeypatch.undo()
    assert f"{patient_id}-new" in ids(await search(hapi, labs(patient_id)))


# --- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "why"), [(401, "refused (401)"), (403, "refused (403)"), (404, "not found (404)")])
async def test_a_refused_source_is_named_and_withholds(hapi: Server, bedside: Ward, status: int, why: str) -> None:
    patient_id = admit(hapi, "refused")
    with hapi.rules(Rule(patient=patient_id, type="AllergyIntolerance", status=status)):
        answer = await bedside.call(patient_id)
    assert gaps(answer) == {("AllergyIntolerance", why)}
    assert suggestions(answer) == []
    assert "allergies not checked" in answer.json()["cards"][0]["detail"]


async def test_a_patient_that_the_server_does_not_have(hapi: Server, bedside: Ward) -> None:
    answer = await bedside.call(new_id("nobody"))
    assert decision(answer)["outcome"] == "out-of-scope"
    assert ("Patient", "not found (404)") in gaps(answer)


async def test_one_503_is_asked_again_and_nobody_notices(hapi: Server, bedside: Ward) -> None:
    patient_id = admit(hapi, "again")
    with hapi.rules(Rule(patient=patient_id, type="Observation", contains=CRP, status=503, times=1)):
        answer = await bedside.call(patient_id)
    assert (gaps(answer), len(suggestions(answer))) == (set(), 2)
    searches = [need for need in NEEDS.values() if need.resource_type == "Observation"]
    asked = [r for r in hapi.requests(patient=patient_id, type="Observation") if not r.page]
    assert len(asked) == len(searches) + 1


async def test_one_of_six_searches_fails_twice_and_then_is_good(hapi: Server, bedside: Ward) -> None:
    patient_id = admit(hapi, "twice")
    with hapi.rules(Rule(patient=patient_id, type="Observation", contains=CRP, status=503, times=2)):
        failed = await bedside.call(patient_id)
        good = await bedside.call(patient_id)
    assert ("Observation", "error (503)") in gaps(failed)
    assert (decision(failed)["outcome"], suggestions(failed)) == ("card", [])
    assert (gaps(good), len(suggestions(good))) == (set(), 2)


@pytest.mark.parametrize(("named", "noticed"), [("1", False), ("900", True)])
async def test_429_waits_as_long_as_it_is_told_or_not_at_all(
    hapi: Server, bedside: Ward, named: str, noticed: bool
) -> None:
    patient_id = admit(hapi, "busy")
    rule = Rule(patient=patient_id, type="Condition", status=429, retry_after=named, times=1)
    started = asyncio.get_running_loop().time()
    with hapi.rules(rule):
        answer = await bedside.call(patient_id)
    took = asyncio.get_running_loop().time() - started
    assert gaps(answer) == ({("Condition", "refused (429)")} if noticed else set())
    assert len(hapi.requests(patient=patient_id, type="Condition")) == (1 if noticed else 2)
    assert noticed or took >= 1, "the second request waits for as long as the server said"


@pytest.mark.parametrize("broken", [{"truncate": True}, {"html": True}], ids=["cut in the middle", "a page of a proxy"])
async def test_an_answer_that_is_none_fails_its_source(hapi: Server, bedside: Ward, broken: dict[str, Any]) -> None:
    patient_id = admit(hapi, "broken")
    with hapi.rules(Rule(patient=patient_id, type="Procedure", **broken)):
        answer = await bedside.call(patient_id)
    ((source, why),) = gaps(answer)
    assert source == "Procedure"
    assert why in {"server not reachable", "answer was not FHIR"}
    assert suggestions(answer) == []


async def test_a_slow_source_ends_with_the_deadline_and_the_rest_is_kept(hapi: Server, tmp_path: Path) -> None:
    patient_id = admit(hapi, "slow")
    async with ward.opened(hapi, tmp_path, deadline_seconds=12.0) as bedside:
        with hapi.rules(Rule(patient=patient_id, type="Immunization", latency_ms=20_000)):
            started = asyncio.get_running_loop().time()
            answer = await bedside.call(patient_id)
            took = asyncio.get_running_loop().time() - started
    assert gaps(answer) == {("Immunization", "no answer in time")}
    assert took < 18


async def test_all_failing_is_not_evaluated(hapi: Server, tmp_path: Path) -> None:
    patient_id = admit(hapi, "down")
    async with ward.opened(hapi, tmp_path) as bedside:
        with hapi.rules(Rule(patient=patient_id, status=503)):
            answer = await bedside.call(patient_id)
    assert answer.status_code == 412
    assert answer.json()["resourceType"] == "OperationOutcome"


async def test_a_server_killed_and_restarted(hapi: Server, tmp_path: Path) -> None:
    patient_id = admit(hapi, "killed")
    async with ward.opened(hapi, tmp_path) as bedside:
        with hapi.rules(Rule(patient=patient_id, latency_ms=15_000)):
            under_way = asyncio.create_task(bedside.call(patient_id))
            await asyncio.sleep(3)
            hapi.kill()
            answer = await under_way
        assert answer.status_code == 412, "nothing could be looked at, and nothing is said"
        await asyncio.to_thread(hapi.restart)
        load(hapi.base, chart(patient_id))
        answer = await bedside.call(patient_id)
    assert (gaps(answer), len(suggestions(answer))) == (set(), 2)


# --- tokens -----------------------------------------------------------------------------------------------


async def test_the_token_of_the_hook_is_what_the_server_asks_for(hapi: Server, bedside: Ward) -> None:
    patient_id = admit(hapi, "token")
    with hapi.rules(Rule(patient=patient_id, require_bearer=TOKEN)):
        with_token = await bedside.call(patient_id)
        without = await bedside.call(patient_id, token=None)
        wrong = await bedside.call(patient_id, token="another-token")
    assert (gaps(with_token), len(suggestions(with_token))) == (set(), 2)
    assert (without.status_code, wrong.status_code) == (412, 412)
    assert bedside.reading(with_token)["access"] == "hook"


# --- what is in the answers -------------------------------------------------------------------------------


def medications(form: str) -> Change:
    """The chart's orders and administrations with their medication contained or referred to."""

    def change(resources: list[Resource]) -> list[Resource]:
        patient_id = next(r["id"] for r in resources if r["resourceType"] == "Patient")
        found = []
        for r in resources:
            if "medicationCodeableConcept" not in r or r["resourceType"] == "MedicationStatement":
                found.append(r)
                continue
            concept = r.pop("medicationCodeableConcept")
            name = f"{patient_id}-{concept['text'].replace(' ', '-').lower()[:20]}"
            drug = {"resourceType": "Medication", "id": name, "code": concept}
            if form == "contained":
                r |= {
                    "contained": [{**drug, "id": "drug"}],
                    "medicationReference": {"reference": "#drug"},
                }
            else:
                found.append(drug)
                r["medicationReference"] = {"reference": f"Medication/{name}"}
            found.append(r)
        return list({(r["resourceType"], r["id"]): r for r in found}.values())

    return change


@pytest.mark.parametrize("form", ["contained", "referenced"])
async def test_a_medication_wherever_it_stands(hapi: Server, bedside: Ward, form: str) -> None:
    answer = await bedside.call(admit(hapi, form, medications(form)))
    assert (gaps(answer), len(suggestions(answer))) == (set(), 2)


async def test_a_medication_that_is_missing_leaves_the_list_unknown(hapi: Server, bedside: Ward) -> None:
    patient_id = admit(hapi, "missing", medications("referenced"))
    with hapi.rules(Rule(type="Medication", contains=patient_id, status=404)):
        answer = await bedside.call(patient_id)
    assert ("Medication", "not found (404)") in gaps(answer)
    assert suggestions(answer) == []


async def test_a_result_of_another_patient_is_dropped_and_named(hapi: Server, tmp_path: Path) -> None:
    patient_id, other = admit(hapi, "own"), new_id("other")
    planted = Planted([result(other, "planted", hours=0.2, value=3)])
    async with ward.opened(hapi, tmp_path, transport=planted) as bedside:
        answer = await bedside.call(patient_id)
    assert ("Observation", "belongs to another patient and was left out") in gaps(answer)
    assert decision(answer)["outcome"] == "card", "the other patient's CRP of 3 mg/L counts for nothing"
    assert suggestions(answer) == []


@pytest.mark.parametrize(
    ("status", "outcome", "offered"),
    [
        ("final", "not-met", 0),
        ("amended", "not-met", 0),
        ("corrected", "not-met", 0),
        ("entered-in-error", "card", 2),
        ("preliminary", "card", 0),
    ],
)
async def test_a_newer_crp_below_the_threshold_counts_by_its_status(
    hapi: Server, bedside: Ward, status: str, outcome: str, offered: int
) -> None:
    def newer(resources: list[Resource]) -> list[Resource]:
        patient_id = next(r["id"] for r in resources if r["resourceType"] == "Patient")
        return [*resources, result(patient_id, "newer", hours=0.5, value=60, status=status)]

    answer = await bedside.call(admit(hapi, status[:8], newer))
    assert (decision(answer)["outcome"], len(suggestions(answer))) == (outcome, offered)


# --- what is suggested ------------------------------------------------------------------------------------


async def test_what_is_suggested_is_valid_and_once_accepted_not_suggested_again(hapi: Server, bedside: Ward) -> None:
    patient_id = admit(hapi, "accept")
    offered = suggestions(await bedside.call(patient_id))
    assert len(offered) == 2
    for resource in offered:
        checked = await bedside.fhir.post(f"{hapi.base}/MedicationRequest/$validate", json=resource)
        assert checked.status_code == 200
        assert {issue["severity"] for issue in checked.json()["issue"]} <= {"information", "warning"}
    for resource in offered:  # as an EHR does it: the clinician signs the order
        made = await bedside.fhir.post(
            f"{hapi.base}/MedicationRequest", json={**resource, "status": "active", "intent": "order"}
        )
        assert made.status_code == 201
    found = await search(hapi, Query("MedicationRequest", (("patient", patient_id), ("status", "active"))))
    texts = " ".join(entry.raw.decode() for page in found.pages for entry in page.entries)
    assert "anakinra" in texts
    assert "ruxolitinib" in texts
    again = await bedside.call(patient_id)
    assert suggestions(again) == []
    assert "Already on record" in again.json()["cards"][0]["detail"]
