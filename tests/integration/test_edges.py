"""Where nothing, the wrong thing or half of it came: the answer says so, and the record has it."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from app.sandbox.patients import Fault
from app.store.decisions import Decision, Store
from app.store.errors import NotRecorded
from tests import databases
from tests.integration.hospital import (
    FHIR,
    SERVICE,
    TOKEN,
    USER,
    Hospital,
    decision,
    hook,
    opened,
    same_words,
    settings_for,
)

PATIENT = "demo-full-protocol"
SEARCHED = (
    "Patient",
    "Observation",
    "MedicationRequest",
    "MedicationAdministration",
    "MedicationStatement",
    "Condition",
    "AllergyIntolerance",
    "Immunization",
    "Procedure",
)


@pytest.fixture
async def hospital(tmp_path: Path) -> AsyncIterator[Hospital]:
    async with opened(tmp_path) as found:
        yield found


def outcome_of(answer: httpx.Response) -> dict[str, Any]:
    body: dict[str, Any] = answer.json()
    assert body["resourceType"] == "OperationOutcome"
    assert set(body) <= {"resourceType", "id", "issue"}
    (issue,) = body["issue"]
    assert issue["severity"] == "error"
    return body


# --- nothing to look at -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prefetched",
    [None, {}, {"labs": None, "patient": None}, {"labs": {"resourceType": "OperationOutcome", "issue": []}}],
    ids=["absent", "empty", "null", "outcome"],
)
async def test_nothing_at_all_is_412_and_recorded(hospital: Hospital, prefetched: Any) -> None:
    answer = await hospital.call(hook(PATIENT, fhir=None, prefetched=prefetched))
    assert answer.status_code == 412
    (row,) = hospital.rows()
    assert row["id"] == outcome_of(answer)["id"]
    assert row["outcome"] == "not-evaluated"
    (kept,) = hospital.rows("decision_answers")
    assert (kept["status"], kept["body"]) == (412, answer.content)
    assert len(json.loads(row["gaps"])) >= len(hospital.templates)


async def test_a_site_may_ask_for_a_card_instead_of_412(tmp_path: Path) -> None:
    async with opened(tmp_path, not_evaluated_as="card") as hospital:
        answer = await hospital.call(hook(PATIENT, fhir=None))
        assert answer.status_code == 200
        (card,) = answer.json()["cards"]
        assert (card["indicator"], "not evaluated" in card["summary"]) == ("info", True)
        assert decision(answer)["outcome"] == "not-evaluated"
        assert {gap["need"] for gap in decision(answer)["gaps"]} >= set(hospital.templates)


async def test_an_unknown_server_is_never_contacted(hospital: Hospital) -> None:
    sent = await hospital.prefetched(PATIENT)
    del sent["labs"]
    answer = await hospital.call(hook(PATIENT, fhir="https://elsewhere.example.org/fhir", prefetched=sent))
    assert answer.status_code == 200
    assert hospital.wire.sent == []
    (gap,) = [gap for gap in decision(answer)["gaps"] if gap["need"] == "labs"]
    assert "not configured" in gap["why"]
    assert "elsewhere" not in answer.text
    assert any("**Not looked at**" in card["detail"] for card in answer.json()["cards"])
    alone = await hospital.call(hook(PATIENT, fhir="https://elsewhere.example.org/fhir"))
    assert (alone.status_code, hospital.wire.sent) == (412, [])


async def test_the_token_goes_to_the_configured_base_only(hospital: Hospital) -> None:
    await hospital.call(hook(PATIENT))
    assert {(host, token) for host, _, token in hospital.wire.sent} == {("127.0.0.1", f"Bearer {TOKEN}")}


# --- who ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fhir", [None, FHIR], ids=["prefetch only", "with a server"])
async def test_another_patient_stops_everything(hospital: Hospital, fhir: str | None) -> None:
    sent = await hospital.prefetched(PATIENT)
    sent["patient"] = (await hospital.prefetched("demo-us-units"))["patient"]
    answer = await hospital.call(hook(PATIENT, fhir=fhir, prefetched=sent))
    assert answer.status_code == 200
    (card,) = answer.json()["cards"]
    assert card["indicator"] == "warning"
    assert "suggestions" not in card
    assert decision(answer)["outcome"] == "identity-mismatch"
    assert "demo-us-units" not in answer.text
    (row,) = hospital.rows()
    assert json.loads(row["verdicts"]) == {}


async def test_another_patients_result_is_left_out_and_withholds(hospital: Hospital) -> None:
    sent = await hospital.prefetched(PATIENT)
    other = (await hospital.prefetched("demo-us-units"))["labs"]["entry"][0]
    sent["labs"]["entry"].append(other)
    sent["labs"]["total"] += 1
    answer = await hospital.call(hook(PATIENT, prefetched=sent))
    card = answer.json()["cards"][0]
    assert "suggestions" not in card
    assert "another patient" in card["detail"]


async def test_the_prefix_of_an_id_is_not_part_of_it(hospital: Hospital) -> None:
    plain, prefixed = [await hospital.call(hook(id_)) for id_ in (PATIENT, f"Patient/{PATIENT}")]
    assert same_words(plain) == same_words(prefixed)


@pytest.mark.parametrize("zone", ["Europe/Paris", "UTC", "America/New_York"])
@pytest.mark.parametrize("text", ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"])
@pytest.mark.parametrize("key", ["labs", "respiratory"])
async def test_a_result_dated_at_the_end_of_the_calendar(tmp_path: Path, key: str, text: str, zone: str) -> None:
    tenant = replace(settings_for(tmp_path).tenants[0], zone=ZoneInfo(zone))
    async with opened(tmp_path, tenants=(tenant,)) as hospital:
        sent = await hospital.prefetched(PATIENT)
        for entry in sent[key]["entry"]:
            if entry["resource"]["resourceType"] == "Observation":
                entry["resource"].pop("effectivePeriod", None)
                entry["resource"]["effectiveDateTime"] = text
        answer = await hospital.call(hook(PATIENT, fhir=None, prefetched=sent))
        assert answer.status_code == 200
        (row,) = hospital.rows()
        assert json.loads(row["verdicts"])


@pytest.mark.parametrize("user", ["Patient/p", "RelatedPerson/r"])
async def test_a_portal_user_gets_no_cards(hospital: Hospital, user: str) -> None:
    answer = await hospital.call(hook(PATIENT, user=user))
    assert (answer.status_code, answer.json()["cards"]) == (200, [])
    assert decision(answer)["outcome"] == "patient-user"
    assert hospital.wire.sent == []
    assert [row["outcome"] for row in hospital.rows()] == ["patient-user"]


async def test_a_user_may_be_missing(hospital: Hospital) -> None:
    assert (await hospital.call(hook(PATIENT, user=None))).json()["cards"]


async def test_a_token_for_another_patient_is_refused(hospital: Hospital) -> None:
    body = hook(PATIENT)
    body["fhirAuthorization"]["patient"] = "canary-other"
    answer = await hospital.call(body)
    assert answer.status_code == 400
    assert "canary" not in answer.text
    assert outcome_of(answer)
    assert hospital.wire.sent == []
    body["fhirAuthorization"]["patient"] = f"Patient/{PATIENT}"
    assert (await hospital.call(body)).status_code == 200


# --- servers in trouble -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [403, 503])
@pytest.mark.parametrize("resource_type", SEARCHED)
async def test_each_kind_of_trouble_is_named(tmp_path: Path, resource_type: str, status: int) -> None:
    async with opened(tmp_path, faults={PATIENT: {resource_type: Fault(status=status)}}) as hospital:
        answer = await hospital.call(hook(PATIENT))
    assert answer.status_code == 200
    said = decision(answer)
    words = f"refused ({status})" if status < 500 else f"error ({status})"
    assert {resource_type} <= {gap["source"] for gap in said["gaps"] if words in gap["why"]}
    cards = answer.json()["cards"]
    for card in cards:
        assert "suggestions" not in card
    if said["outcome"] == "card":
        assert any(f"- {resource_type}: server {words}" in bare(card["detail"]) for card in cards)
    else:
        assert said["gaps"]


def bare(markdown: str) -> str:
    return markdown.replace("\\", "")


async def test_a_dead_server_is_412(tmp_path: Path) -> None:
    def dead(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    async with opened(tmp_path, answers=dead) as hospital:
        answer = await hospital.call(hook(PATIENT))
        assert answer.status_code == 412
        assert outcome_of(answer)
        (row,) = hospital.rows()
        assert {gap["why"] for gap in json.loads(row["gaps"])} >= {"server not reachable"}


async def test_a_dead_server_beside_prefetch_is_a_gap(tmp_path: Path) -> None:
    def dead(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    async with opened(tmp_path, answers=dead) as hospital:
        sent = await hospital.prefetched(PATIENT)
        del sent["allergies"]
        answer = await hospital.call(hook(PATIENT, prefetched=sent))
        card = answer.json()["cards"][0]
        assert "suggestions" not in card
        assert "AllergyIntolerance: server not reachable" in card["detail"]


async def test_a_slow_source_is_left_behind_at_the_deadline(tmp_path: Path) -> None:
    slow = {PATIENT: {"AllergyIntolerance": Fault(delay=30)}}
    async with opened(tmp_path, faults=slow, deadline_seconds=2.0) as hospital:
        started = asyncio.get_running_loop().time()
        answer = await hospital.call(hook(PATIENT))
        assert asyncio.get_running_loop().time() - started < 10
        card = answer.json()["cards"][0]
        assert "suggestions" not in card
        assert "AllergyIntolerance: no answer in time" in card["detail"]


# --- the record ---------------------------------------------------------------------------------------------


class Watched(Store):
    """Says whether the row was there when the answer was given, and fails on request."""

    def __init__(self, url: str, *, spool: Path, fails: bool = False) -> None:
        super().__init__(url, spool=spool)
        self.fails = fails
        self.recorded: list[Decision] = []

    async def record(self, decision: Decision) -> None:
        if self.fails:
            raise NotRecorded("the disk is full of canary-disk")
        await super().record(decision)
        self.recorded.append(decision)


async def test_the_row_is_there_before_the_first_byte(tmp_path: Path) -> None:
    async with opened(tmp_path) as hospital:
        seen: list[int] = []
        app = hospital.client._transport.app  # type: ignore[attr-defined] # the ASGI application under test
        body = json.dumps(hook(PATIENT)).encode()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                seen.append(len(hospital.rows()))

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": f"/cds-services/{SERVICE}",
            "raw_path": f"/cds-services/{SERVICE}".encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"content-type", b"application/json")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8000),
        }
        await app(scope, receive, send)
        assert seen == [1]


async def test_the_record_holds_what_was_decided_and_no_secret(hospital: Hospital) -> None:
    body = hook(PATIENT, extension={"org.example.note": "canary-extension"})
    answer = await hospital.call(body, headers={"authorization": "Bearer canary.jwt.value"})
    (row,) = hospital.rows()
    assert row["hook_instance"] == body["hookInstance"]
    assert row["client"] == "anonymous"
    assert json.loads(row["versions"]).keys() == {"service", "knowledge"}
    assert json.loads(row["verdicts"])["suggested"] is True
    assert {entry["concept"] for entry in json.loads(row["evidence"])} >= {"crp", "ferritin", "anc", "pao2", "fio2"}
    reading = json.loads(row["reading"])
    assert (reading["gather"], reading["access"], reading["asked_without"]) == ("parallel", "hook", {})
    assert reading["requests"] >= len(hospital.templates)
    assert reading["bytes"] > 10_000
    assert [kept["body"] for kept in hospital.rows("decision_answers")] == [answer.content]
    (facts,) = hospital.rows("decision_facts")
    assert facts["patient"] == PATIENT
    kept = hospital.bytes_on_disk()
    for secret in (TOKEN, "canary.jwt", "canary-extension", USER, '"resourceType":"Bundle"'):
        assert secret.encode() not in kept, secret
    assert row["knowledge_hash"] in {known["hash"] for known in hospital.rows("knowledge")}


async def test_a_hook_instance_that_is_no_id_is_kept_as_a_digest(hospital: Hospital) -> None:
    for instance in ("Müller canary-name", "x" * 256):
        assert (await hospital.call(hook(PATIENT, hookInstance=instance))).status_code == 200
    kept = [row["hook_instance"] for row in hospital.rows()]
    assert all(len(value) == 64 and "canary" not in value for value in kept)


async def test_what_cannot_be_recorded_is_not_answered(tmp_path: Path) -> None:
    store = Watched(databases.newest(tmp_path / "decisions.db").url, spool=tmp_path / "spool", fails=True)
    async with opened(tmp_path, store=store) as hospital:
        for body in (hook(PATIENT), hook(PATIENT, fhir=None), hook(PATIENT, user="Patient/p")):
            answer = await hospital.call(body)
            assert answer.status_code == 503
            assert answer.headers["retry-after"]
            assert outcome_of(answer)["issue"][0]["code"] == "transient"
            assert "canary" not in answer.text
        store.fails = False
        assert (await hospital.call(hook(PATIENT))).status_code == 200


async def test_a_fault_of_ours_is_an_answer_that_repeats_nothing(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("canary-patient-data")

    monkeypatch.setattr("app.patient_view.assess", broken)
    answer = await hospital.call(hook(PATIENT), headers={"origin": "http://localhost:3000"})
    assert answer.status_code == 500
    body = outcome_of(answer)
    assert str(uuid.UUID(body["id"])) == body["id"]
    assert "canary" not in answer.text
    assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
    (record,) = [r for r in caplog.records if r.levelname == "ERROR"]
    assert record.correlation == body["id"]  # type: ignore[attr-defined] # an extra of the record
    assert hospital.rows() == []


async def test_uuids_follow_from_the_decision(hospital: Hospital) -> None:
    for patient_id in (PATIENT, "demo-neutropenia", "demo-no-ferritin"):
        answer = await hospital.call(hook(patient_id))
        root = uuid.UUID(decision(answer)["id"])
        names = {str(uuid.uuid5(root, f"card/{name}")) for name in ("protocol", "safety", "notice")}
        assert answer.json()["cards"]
        for card in answer.json()["cards"]:
            assert card["uuid"] in names
            for number, suggestion in enumerate(card.get("suggestions", [])):
                assert suggestion["uuid"] == str(uuid.uuid5(root, f"suggestion/{number}"))


async def test_the_same_question_twice_is_two_decisions(hospital: Hospital) -> None:
    first, second = [await hospital.call(hook(PATIENT)) for _ in range(2)]
    assert decision(first)["id"] != decision(second)["id"]
    assert len(hospital.rows()) == 2


async def test_too_many_calls_at_once_are_refused_at_once(tmp_path: Path) -> None:
    waiting, release = asyncio.Event(), asyncio.Event()

    async def held(app: Any) -> Any:
        async def through(scope: Any, receive: Any, send: Any) -> None:
            waiting.set()
            await release.wait()
            await app(scope, receive, send)

        return through

    async with opened(tmp_path, hooks_at_once=1) as hospital:
        hospital.wire.inner = httpx.ASGITransport(app=await held(hospital.wire.inner.app))
        first = asyncio.create_task(hospital.call(hook(PATIENT)))
        await waiting.wait()
        refused = await hospital.call(hook(PATIENT))
        release.set()
        assert (await first).status_code == 200
        assert (await hospital.call(hook(PATIENT))).status_code == 200
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refused.json()["issue"][0]["code"] == "throttled"
