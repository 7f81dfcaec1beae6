"""The resources: valid, by their profiles, complete, and saying nothing that is not known."""

from __future__ import annotations

import asyncio
import copy
import json
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.export import audit, elements, group, guidance, provenance
from app.export.elements import Json
from app.export.rows import Accepted, Card, TurnedAway
from app.export.stream import is_valid
from app.trust import REASONS
from tests.integration.hospital import NOW, SERVICE
from tests.unit.app.export import record
from tests.unit.app.export.profiles import dangling, wrong
from tests.unit.app.export.record import made, numbered

CARD = numbered(77)
SUGGESTION = numbered(78)
ORDER = {"resourceType": "MedicationRequest", "status": "draft", "dosageInstruction": [{"text": "canary-dose"}]}
WRITTEN: dict[str, Any] = {
    "uuid": CARD,
    "summary": "Four thresholds met (11-patient study, unproven)",
    "detail": "**What speaks against it**\n\n- canary-contraindication",
    "indicator": "warning",
    "source": {"label": "rescue-cds", "url": "https://cds.example.org/source-attributes"},
    "links": [{"label": "The letter", "url": "https://doi.org/10.1016/j.autrev.2020.102726", "type": "absolute"}],
    "suggestions": [
        {
            "label": "Anakinra (draft)",
            "uuid": SUGGESTION,
            "actions": [{"type": "create", "description": "Draft order: anakinra", "resource": ORDER}],
        }
    ],
    "selectionBehavior": "any",
}
SHOWN = Card(CARD, "protocol", "warning", (SUGGESTION,))


def answered(*cards: dict[str, Any]) -> bytes:
    return json.dumps({"cards": list(cards)}).encode()


def code_of(element: Json) -> str:
    code: str = element["code"]
    return code


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A record of every outcome; nobody writes into it."""
    return asyncio.run(record.every_outcome(tmp_path_factory.mktemp("record")))


async def test_every_outcome_is_valid_complete_and_in_order(url: str) -> None:
    entries = await record.exported(url)
    resources = record.resources(entries)
    assert [entry.unsaid for entry in entries if entry.unsaid] == []
    assert [(one["resourceType"], wrong(one)) for one in resources if wrong(one)] == []
    assert dangling(resources) == set()
    ids = [(one["resourceType"], one["id"]) for one in resources]
    assert len(set(ids)) == len(ids)
    responses = [one for one in resources if one["resourceType"] == "GuidanceResponse"]
    said = {one["contained"][0]["issue"][0]["diagnostics"] for one in responses}
    assert said == {words for _, words in guidance.MEANINGS.values()}, "each outcome is in the record of this test"
    assert {one["status"] for one in responses} == {"success", "data-requested", "data-required", "failure"}
    shown = [one for one in resources if one["resourceType"] == "RequestGroup"]
    assert {one.get("result", {}).get("reference") for one in responses} - {None} == {
        f"RequestGroup/{one['id']}" for one in shown
    }
    assert len([one for one in resources if one["resourceType"] == "Provenance"]) == 2
    assert {one["encounter"]["reference"] for one in responses if "encounter" in one} >= {
        f"Encounter/{record.MET}-encounter-1"
    }


async def test_what_was_removed_is_nowhere_and_the_rest_stays_valid(url: str) -> None:
    resources = record.resources(await record.exported(url))
    masked = [one for one in resources if "masked" in json.dumps(one.get("subject", {}))]
    assert sorted(one["resourceType"] for one in masked) == ["GuidanceResponse", "RequestGroup"]
    assert record.REMOVED not in json.dumps(resources)
    (cards,) = [one for one in masked if one["resourceType"] == "RequestGroup"]
    assert {action["title"] for action in cards["action"]} == {"The words were removed with the patient's data."}


def test_a_broken_resource_is_not_valid_and_each_rule_finds_its_fault() -> None:
    """The checkers of the tests can fail: each fault is found, and only by what is meant to find it."""
    row = made(cards=[SHOWN], answer=answered(WRITTEN), reading={"requests": 1})
    response, cards = guidance.response(row), group.shown(row)
    (read,) = audit.read(row)
    assert cards is not None

    def broken(resource: Json, change: Callable[[Json], object]) -> Json:
        changed = copy.deepcopy(resource)
        change(changed)
        return changed

    faults: list[tuple[Json, Callable[[Json], object]]] = [
        (response, lambda r: r["extension"].clear()),
        (response, lambda r: r.pop("requestIdentifier")),
        (response, lambda r: r.pop("identifier")),
        (response, lambda r: r.pop("moduleUri")),
        (response, lambda r: r.update(status="done")),
        (response, lambda r: r["contained"].clear()),
        (response, lambda r: r.pop("meta")),
        (cards, lambda r: r.pop("identifier")),
        (cards, lambda r: r.pop("instantiatesUri")),
        (cards, lambda r: r.update(intent="order")),
        (cards, lambda r: r.update(status="active")),
        (cards, lambda r: r["action"][0]["action"][0].pop("resource")),
        (cards, lambda r: r["action"][0].update(resource={"display": "x"})),
        (cards, lambda r: r["action"][0].update(priority="high")),
        (read, lambda r: r.update(type={"system": "x", "code": "rest"})),
        (read, lambda r: r.update(action="R")),
        (read, lambda r: r["subtype"].clear()),
        (read, lambda r: r["agent"].pop()),
        (read, lambda r: r["agent"][0].pop("network")),
        (read, lambda r: r["agent"][0]["network"].clear()),
        (read, lambda r: r["agent"][1].pop("who")),
        (read, lambda r: r["agent"][1].update(requestor=True)),
        (read, lambda r: r["entity"].pop()),
        (read, lambda r: r["entity"][2].pop("_query")),
        (read, lambda r: r["entity"][1].pop("what")),
        (read, lambda r: r["entity"].append(r["entity"][0])),
        (read, lambda r: r["source"].clear()),
    ]
    assert [wrong(one) for one in (response, cards, read)] == [[], [], []]
    for number, (resource, change) in enumerate(faults):
        assert wrong(broken(resource, change)), number
    assert not is_valid(broken(response, lambda r: r.pop("status")))
    assert not is_valid(broken(read, lambda r: r.update(agent="nobody")))
    assert dangling([response]) == {response["performer"]["reference"], response["result"]["reference"]}


# --- GuidanceResponse ----------------------------------------------------------------------------------------------


def test_the_outcomes_are_those_that_the_service_has() -> None:
    """docs/integrate.md lists them; one more there needs words here."""
    text = (Path(__file__).parents[4] / "docs" / "integrate.md").read_text(encoding="utf-8")
    table = text.split("| outcome | cards | meaning |")[1].split("\n\n")[0]
    listed = {line.split("`")[1] for line in table.splitlines() if line.startswith("| `")}
    assert listed == set(guidance.MEANINGS)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"outcome": "card"}, "success"),
        ({"outcome": "not-met"}, "success"),
        ({"outcome": "card", "gaps": [{"source": "Observation", "why": "timeout"}]}, "data-requested"),
        ({"outcome": "card", "verdicts": {"row": "undetermined"}}, "data-requested"),
        ({"outcome": "out-of-scope", "verdicts": {"row": "out-of-scope"}}, "data-requested"),
        ({"outcome": "card", "verdicts": {"orders": {"checks": {"ORD-DUPLICATE": "unknown"}}}}, "data-requested"),
        ({"outcome": "nothing-to-say", "verdicts": {"orders": {"checks": {"ORD-DUPLICATE": "absent"}}}}, "success"),
        ({"outcome": "not-evaluated", "gaps": [{"source": "Patient", "why": "timeout"}]}, "data-required"),
        ({"outcome": "identity-mismatch", "gaps": [{"source": "Patient", "why": "other"}]}, "failure"),
        ({"outcome": "patient-user"}, "failure"),
        ({"outcome": "disabled", "verdicts": {"silenced": ["all"]}}, "failure"),
        ({"outcome": "disabled", "verdicts": {"orders": {"checks": {}}}}, "success"),
        ({"outcome": "silent", "verdicts": {"would_be": "card", "row": "undetermined"}}, "data-requested"),
        ({"outcome": "snoozed", "verdicts": {"would_be": "card"}}, "success"),
    ],
)
def test_status_says_how_far_it_came(changes: dict[str, Any], status: str) -> None:
    assert guidance.response(made(**changes))["status"] == status


def test_what_would_have_told_more() -> None:
    gaps = [
        {"source": "MedicationRequest", "why": "refused (403)", "need": "orders"},
        {"source": "MedicationRequest", "why": "refused (403)", "need": "orders"},
        {"source": "Observation", "why": "no unit", "need": "labs", "reference": "Observation/1"},
        {"source": "labs", "why": "timeout"},
    ]
    found = guidance.response(made(gaps=gaps, verdicts={"why_unknown": {"S-FERRITIN": "not-found"}}))
    assert found["dataRequirement"] == [
        {"id": "orders", "type": "MedicationRequest"},
        {"id": "labs", "type": "Observation"},
    ]
    assert [one["diagnostics"] for one in found["contained"][0]["issue"]] == [
        "Cards were shown.",
        "Not determined: S-FERRITIN (not-found)",
        "MedicationRequest (orders): refused (403)",
        "MedicationRequest (orders): refused (403)",
        "Observation (labs): no unit",
        "labs: timeout",
    ]
    assert is_valid(found)
    assert "dataRequirement" not in guidance.response(made())


def test_who_was_called_where_by_what() -> None:
    found = guidance.response(made(reading={"switches": {"published_at": "https://cds.example.org"}}, encounter="e1"))
    assert found["extension"][0]["valueUri"] == f"https://cds.example.org/cds-services/{SERVICE}"
    assert guidance.response(made())["extension"][0]["valueUri"] == f"/cds-services/{SERVICE}"
    assert found["requestIdentifier"] == {"value": numbered(10_001), "assigner": {"display": "ehr"}}
    assert found["identifier"] == [{"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{numbered(1)}"}]
    assert found["moduleUri"] == f"urn:rescue-cds:cds-services:{SERVICE}|{'f' * 64}"
    assert found["subject"]["reference"] == "Patient/p1"
    assert found["encounter"]["reference"] == "Encounter/e1"
    assert found["occurrenceDateTime"] == "2026-11-23T12:00:00.000000Z"


def test_without_profiles_nothing_is_claimed() -> None:
    found = elements.unclaimed(guidance.response(made()))
    assert found.keys() & {"meta", "extension"} == set()
    assert found["contained"][0]["issue"]
    assert is_valid(found)


# --- RequestGroup ------------------------------------------------------------------------------------------------


def test_cards_are_told_as_shown_and_never_as_an_order() -> None:
    found = group.shown(made(cards=[SHOWN], answer=answered(WRITTEN)))
    assert found is not None
    (card,) = found["action"]
    assert (card["id"], card["title"], card["description"]) == (CARD, WRITTEN["summary"], WRITTEN["detail"])
    assert (card["priority"], found["priority"], card["selectionBehavior"]) == ("urgent", "urgent", "any")
    assert [one.get("url") for one in card["documentation"]] == [
        "https://cds.example.org/source-attributes",
        "https://doi.org/10.1016/j.autrev.2020.102726",
    ]
    (offer,) = card["action"]
    assert (offer["id"], offer["title"], offer["description"]) == (
        SUGGESTION,
        "Anakinra (draft)",
        "Draft order: anakinra",
    )
    assert offer["type"]["coding"][0]["code"] == "create"
    assert offer["resource"]["type"] == "MedicationRequest"
    assert (found["status"], found["intent"]) == ("draft", "proposal")
    assert "unproven" in found["note"][0]["text"]
    assert "canary-dose" not in json.dumps(found), "the draft itself is no part of it"
    assert group.shown(made()) is None


@pytest.mark.parametrize(("indicators", "priority"), [("i", "routine"), ("wi", "urgent"), ("icw", "stat")])
def test_the_gravest_card_gives_the_priority(indicators: str, priority: str) -> None:
    names = {"i": "info", "w": "warning", "c": "critical"}
    cards = [Card(numbered(place), "safety", names[one]) for place, one in enumerate(indicators)]
    found = group.shown(made(cards=cards))
    assert found is not None
    assert found["priority"] == priority


def test_a_suggestion_of_several_steps_or_none_and_a_card_that_offers_nothing() -> None:
    steps = [
        {
            "type": "update",
            "description": "Change the dose",
            "resource": {"resourceType": "MedicationRequest", "id": "1"},
        },
        {"type": "delete", "description": "Remove the draft", "resourceId": "MedicationRequest/draft-1"},
    ]
    suggestions = [{"label": "Both", "uuid": SUGGESTION, "actions": steps}, {"label": "None"}]
    plain = {
        name: value for name, value in WRITTEN.items() if name not in {"suggestions", "selectionBehavior", "detail"}
    }
    other = Card(numbered(80), "safety", "info")
    written = answered(WRITTEN | {"suggestions": suggestions}, plain | {"uuid": other.uuid})
    found = group.shown(made(cards=[SHOWN, other], answer=written))
    assert found is not None
    assert wrong(found) == []
    assert is_valid(found)
    both, none = found["action"][0]["action"]
    assert [code_of(one["type"]["coding"][0]) for one in both["action"]] == ["update", "remove"]
    assert [one["resource"]["type"] for one in both["action"]] == ["MedicationRequest", "MedicationRequest"]
    assert none["resource"]["extension"][0]["valueCode"] == "not-applicable"
    assert found["action"][1]["resource"]["extension"][0]["valueCode"] == "not-applicable"


@pytest.mark.parametrize("answer", [None, b"\xff", b"[]", b'{"cards": [{}]}', b'{"cards": [3]}'])
def test_an_answer_that_is_gone_or_spoiled_leaves_the_skeleton(answer: bytes | None) -> None:
    found = group.shown(made(cards=[SHOWN], answer=answer, patient=None, removed=True))
    assert found is not None
    assert wrong(found) == []
    assert is_valid(found)
    (card,) = found["action"]
    assert (card["id"], card["priority"], [one["id"] for one in card["action"]]) == (CARD, "urgent", [SUGGESTION])
    assert found["subject"]["extension"][0]["valueCode"] == "masked"


# --- AuditEvent --------------------------------------------------------------------------------------------------


def test_a_reading_names_who_asked_whom_and_no_result() -> None:
    reading = {"requests": 3, "access": "hook", "switches": {"published_at": "https://cds.example.org"}}
    (found,) = audit.read(made(reading=reading, timing={"sources_ms": {"labs": 3.5, "orders": 2.0}}))
    source, destination = found["agent"]
    assert (source["type"]["coding"][0]["code"], source["requestor"]) == ("110153", True)
    assert source["who"]["reference"].startswith("Device/")
    assert source["network"] == {"address": "https://cds.example.org", "type": "5"}
    assert destination["type"]["coding"][0]["code"] == "110152"
    assert destination["network"]["_address"]["extension"][0]["valueCode"] == "unknown"
    call, patient, query = found["entity"]
    assert call["what"]["identifier"]["value"] == numbered(10_001)
    assert patient["what"]["reference"] == "Patient/p1"
    assert [(one["type"], one["valueString"]) for one in query["detail"]] == [
        ("need", "labs"),
        ("need", "orders"),
        ("access", "hook"),
    ]
    assert query["_query"]["extension"][0]["valueCode"] == "unknown"
    assert list(audit.read(made(reading={"requests": 0}))) == []
    assert list(audit.read(made())) == []


def test_each_query_of_the_record_is_told_as_it_was_written_while_it_is_there() -> None:
    reading = {"requests": 2, "server": "https://fhir.example.org/r4", "access": "hook"}
    queries = ("Patient/p1", "Observation?patient=p1&code=http%3A//loinc.org%7C1988-5")
    both = list(audit.read(made(reading=reading, queries=queries)))
    assert [b64decode(one["entity"][2]["query"]).decode() for one in both] == list(queries)
    assert len({one["id"] for one in both}) == 2
    for one in both:
        assert one["agent"][1]["network"] == {"address": "https://fhir.example.org/r4", "type": "5"}
        assert one["entity"][2]["detail"] == [{"type": "access", "valueString": "hook"}]
        assert (wrong(one), is_valid(one)) == ([], True)
    (removed,) = audit.read(made(reading=reading, patient=None, removed=True))
    assert removed["entity"][2]["_query"]["extension"][0]["valueCode"] == "masked"
    assert removed["entity"][1]["what"]["extension"][0]["valueCode"] == "masked"
    assert wrong(removed) == []


def test_a_decision_is_told_without_what_it_was() -> None:
    found = audit.decided(made(flags=["spooled"], answer=answered(WRITTEN), cards=[SHOWN]))
    client, service = found["agent"]
    assert (client["who"]["display"], client["requestor"]) == ("ehr", True)
    assert service["who"]["reference"].startswith("Device/")
    assert (found["outcome"], found["outcomeDesc"]) == ("0", "card")
    details = found["entity"][1]["detail"]
    assert {(one["type"], one["valueString"]) for one in details} == {
        ("service", SERVICE),
        ("hook", "patient-view"),
        ("flag", "spooled"),
    }
    assert "canary" not in json.dumps(found)
    assert WRITTEN["summary"] not in json.dumps(found)
    assert audit.decided(made("not-evaluated"))["outcome"] == "4"
    assert len(audit.decided(made(patient=None))["entity"]) == 2


@pytest.mark.parametrize("reason", REASONS)
def test_each_refusal_is_an_alert(reason: str) -> None:
    found = audit.refused(TurnedAway(1, NOW, reason, "", "", "", 3))
    assert (found["type"]["code"], found["outcome"], found["outcomeDesc"]) == ("110113", "4", f"refused: {reason}")
    restricted = reason in {"origin", "service", "fhir-server"}
    assert found["subtype"][0]["code"] == ("110132" if restricted else "110126")
    assert found["agent"][0]["who"]["extension"][0]["valueCode"] == "unknown"
    assert {"type": "times", "valueString": "3"} in found["entity"][0]["detail"]
    assert wrong(found) == []
    assert is_valid(found)


# --- Provenance --------------------------------------------------------------------------------------------------


def test_an_acceptance_says_who_offered_and_that_no_resource_is_known() -> None:
    versions = {"service": "0.1.0", "knowledge": "pilot-simple 0.1.0"}
    row = Accepted(
        5, "d" * 64, NOW, None, "ehr", "north", numbered(1), versions, "f" * 64, CARD, [SUGGESTION, numbered(79)]
    )
    found = provenance.told(row)
    assert is_valid(found)
    assert [one["extension"][0]["valueCode"] for one in found["target"]] == ["unknown", "unknown"]
    assert found["entity"][0]["what"]["reference"] == f"GuidanceResponse/{guidance.response(made())['id']}"
    assert [one["what"]["identifier"]["value"] for one in found["entity"][1:]] == [
        f"urn:uuid:{SUGGESTION}",
        f"urn:uuid:{numbered(79)}",
    ]
    assert found["agent"][0]["who"]["reference"] == guidance.response(made())["performer"]["reference"]
    assert "occurredDateTime" not in found
