"""Registered clients through the whole service: who is answered, for whom, and what everybody else is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from joserfc.jwk import ECKey

from app.clients import Client, TokenRules
from app.gateway.backend_services import Credentials
from app.names import ORDER_SIGN, PATIENT_VIEW, SERVICES
from app.settings import Snooze, Tenant
from tests.integration.hospital import FHIR, NOW, PATH, Hospital, decision, hook, opened
from tests.unit.app.registry import BASE, Ehr

PATIENT = "demo-full-protocol"
SOUTH_FHIR = "http://127.0.0.1:8090/fhir"
PAGE = "https://ehr.example.org"
EHR = Ehr("ehr", "https://ehr.example.org")
OTHER = Ehr("other", "https://other.example.org", kid="key-2")
SINGLE = Ehr("single", "https://single.example.org", kid="key-3")


def client(folder: Path, ehr: Ehr, **changes: Any) -> Client:
    """The record of a client, its key set written beside the database."""
    path = folder / f"{ehr.id}.jwks.json"
    path.write_text(ehr.jwks(), encoding="utf-8")
    record = Client(ehr.id, ehr.issuer, (BASE,), {"north": "north"}, (FHIR,), jwks_file=path)
    return replace(record, **changes)


@asynccontextmanager
async def guarded(folder: Path, **changes: Any) -> AsyncIterator[Hospital]:
    """Two hospitals, two clients of the first and one of both."""
    tenants = (Tenant("north", (FHIR,), ZoneInfo("UTC")), Tenant("south", (SOUTH_FHIR,), ZoneInfo("UTC")))
    both = {"north": "north", "south": "south"}
    clients = (
        client(folder, EHR, tenants=both, fhir_bases=(FHIR, SOUTH_FHIR), origins=frozenset({PAGE})),
        client(folder, OTHER, services=frozenset({PATIENT_VIEW}), not_evaluated_as="card"),
        client(folder, SINGLE, silent=True),
    )
    made: dict[str, Any] = {"profile": "site", "tenants": tenants, "clients": clients, "cors_origins": (PAGE,)}
    async with opened(folder, **(made | changes)) as hospital:
        yield hospital


@pytest.fixture
async def hospital(tmp_path: Path) -> AsyncIterator[Hospital]:
    async with guarded(tmp_path) as found:
        yield found


def as_ehr(path: str = PATH, **claims: Any) -> dict[str, str]:
    return EHR.headers(path, now=NOW, **({"tenant": "north"} | claims))


def reasons(hospital: Hospital) -> list[tuple[str, str]]:
    return [(row["reason"], row["client"]) for row in hospital.rows("refusals")]


async def test_a_registered_client_is_answered_and_recorded_by_its_name(hospital: Hospital) -> None:
    answer = await hospital.call(hook(PATIENT), headers=as_ehr())
    assert answer.status_code == 200
    assert decision(answer)["outcome"] == "card"
    (row,) = hospital.rows()
    assert (row["client"], row["tenant"]) == ("ehr", "north")
    assert reasons(hospital) == []


ENDPOINTS = [
    ("GET", "/cds-services"),
    ("HEAD", "/cds-services"),
    ("GET", "/cds-services/"),
    *(("POST", f"/cds-services/{name}") for name in SERVICES),
    *(("POST", f"/cds-services/{name}/feedback") for name in SERVICES),
    ("POST", "/cds-services/nobody-knows-it"),
    ("POST", "/cds-services/nobody-knows-it/feedback"),
]


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
@pytest.mark.parametrize("body", [b"", b"{", b"x" * 40_000_000, json.dumps(hook(PATIENT)).encode()])
async def test_nobody_is_answered_without_a_token_and_no_body_is_read(
    hospital: Hospital, method: str, path: str, body: bytes
) -> None:
    sent: list[int] = []

    async def slowly() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 65536):
            sent.append(start)
            yield body[start : start + 65536]

    answer = await hospital.client.request(method, path, content=slowly(), headers={"content-type": "text/plain"})
    assert (answer.status_code, answer.content) == (401, b"")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert hospital.wire.sent == []
    assert hospital.rows() == []


async def test_discovery_shows_a_client_what_it_may_call(hospital: Hospital) -> None:
    async def ids(ehr: Ehr, **claims: Any) -> set[str]:
        headers = ehr.headers("/cds-services", now=NOW, **claims)
        answer = await hospital.client.get("/cds-services", headers=headers)
        return {one["id"] for one in answer.json()["services"]}

    assert await ids(EHR, tenant="south") == set(SERVICES)
    assert await ids(OTHER) == {PATIENT_VIEW}


async def test_discovery_can_be_open_and_nothing_else(tmp_path: Path) -> None:
    async with guarded(tmp_path, open_discovery=True) as hospital:
        assert len((await hospital.client.get("/cds-services")).json()["services"]) == 3
        assert (await hospital.call(hook(PATIENT))).status_code == 401


async def test_what_a_card_links_to_is_open(hospital: Hospital) -> None:
    assert (await hospital.client.get("/source-attributes")).status_code == 200


async def test_a_token_is_for_one_address_and_for_once(hospital: Hospital) -> None:
    headers = as_ehr()
    assert (await hospital.call(hook(PATIENT), headers=headers)).status_code == 200
    assert (await hospital.call(hook(PATIENT), headers=headers)).status_code == 401
    elsewhere = as_ehr("/cds-services")
    assert (await hospital.call(hook(PATIENT), headers=elsewhere)).status_code == 401
    assert reasons(hospital) == [("replayed", "ehr"), ("audience", "ehr")]


@pytest.mark.parametrize("replay", ["memory", "database"])
async def test_fifty_at_once_with_one_token_are_one(tmp_path: Path, replay: Any) -> None:
    async with guarded(tmp_path, tokens=TokenRules(replay=replay)) as hospital:
        headers = as_ehr("/cds-services")
        answers = await asyncio.gather(*(hospital.client.get("/cds-services", headers=headers) for _ in range(50)))
        assert sorted(answer.status_code for answer in answers) == [200] + [401] * 49


async def test_what_a_client_may_not_is_said_to_it(hospital: Hospital) -> None:
    path = f"/cds-services/{ORDER_SIGN}"
    answer = await hospital.client.post(path, content=b"{}", headers=OTHER.headers(path, now=NOW))
    assert answer.status_code == 403
    assert answer.json()["issue"][0]["code"] == "forbidden"
    assert reasons(hospital) == [("service", "other")]


@pytest.mark.parametrize(
    "origin", ["https://evil.example.org", "null", "https://ehr.example.org.evil.org", "http://ehr.example.org"]
)
async def test_a_page_is_one_clients(hospital: Hospital, origin: str) -> None:
    good = await hospital.call(hook(PATIENT), headers=as_ehr() | {"origin": PAGE})
    assert (good.status_code, good.headers["access-control-allow-origin"]) == (200, PAGE)
    other = await hospital.call(hook(PATIENT), headers=OTHER.headers(PATH, now=NOW) | {"origin": PAGE})
    assert other.status_code == 403
    hostile = await hospital.call(hook(PATIENT), headers=as_ehr() | {"origin": origin})
    assert hostile.status_code == 403
    assert "access-control-allow-origin" not in hostile.headers
    assert "access-control-allow-credentials" not in good.headers
    preflight = {"origin": origin, "access-control-request-method": "POST"}
    assert "access-control-allow-origin" not in (await hospital.client.options(PATH, headers=preflight)).headers


async def test_a_refusal_can_be_read_by_the_page_of_a_client(hospital: Hospital) -> None:
    answer = await hospital.call(hook(PATIENT), headers={"origin": PAGE})
    assert (answer.status_code, answer.content) == (401, b"")
    assert answer.headers["access-control-allow-origin"] == PAGE


async def test_a_server_that_is_not_the_clients_is_refused_and_never_asked(hospital: Hospital) -> None:
    prefetched = await hospital.prefetched(PATIENT)
    for server in (SOUTH_FHIR, "https://elsewhere.example.org/fhir", f"{FHIR}/../other"):
        answer = await hospital.call(hook(PATIENT, fhir=server, prefetched=prefetched), headers=as_ehr())
        assert answer.status_code == 403, server
        assert "elsewhere" not in answer.text
    assert hospital.wire.sent == []
    assert hospital.rows() == []
    assert reasons(hospital) == [("fhir-server", "ehr")] * 3
    without = await hospital.call(hook(PATIENT, fhir=None, prefetched=prefetched), headers=as_ehr())
    assert without.status_code == 200


async def test_a_silent_client_is_shown_nothing(hospital: Hospital) -> None:
    answer = await hospital.call(hook(PATIENT), headers=SINGLE.headers(PATH, now=NOW))
    assert answer.json()["cards"] == []
    assert (decision(answer)["outcome"], decision(answer)["would_be"]) == ("silent", "card")


async def test_a_client_decides_what_it_is_told_when_nothing_could_be_looked_at(hospital: Hospital) -> None:
    call = hook(PATIENT, fhir=None)
    assert (await hospital.call(call, headers=as_ehr())).status_code == 412
    answer = await hospital.call(call, headers=OTHER.headers(PATH, now=NOW))
    assert (answer.status_code, decision(answer)["outcome"]) == (200, "not-evaluated")


async def test_feedback_is_about_ones_own_cards(hospital: Hospital) -> None:
    answer = await hospital.call(hook(PATIENT), headers=as_ehr())
    card = answer.json()["cards"][0]["uuid"]
    entry = {"card": card, "outcome": "accepted", "outcomeTimestamp": "2026-11-23T12:01:02Z"}
    path = f"{PATH}/feedback"

    async def send(headers: Mapping[str, str]) -> httpx.Response:
        content = json.dumps({"feedback": [entry]}).encode()
        return await hospital.client.post(
            path, content=content, headers={"content-type": "application/json"} | dict(headers)
        )

    for headers in (OTHER.headers(path, now=NOW), as_ehr(path, tenant="south"), as_ehr(path)):
        assert (await send(headers)).status_code == 200
    assert [(row["client"], row["decision_id"] is not None) for row in hospital.rows("feedback")] == [
        ("other", False),
        ("ehr", False),
        ("ehr", True),
    ]


async def test_an_undetermined_state_is_shown_once_to_a_registered_clients_user(tmp_path: Path) -> None:
    async with guarded(tmp_path, snooze=Snooze()) as hospital:
        outcomes = [
            decision(await hospital.call(hook("demo-no-ferritin"), headers=as_ehr()))["outcome"] for _ in range(2)
        ]
        assert outcomes[0] == "card", outcomes
        assert outcomes[1] == "snoozed"


async def test_a_state_shown_in_one_hospital_is_not_shown_in_the_other(tmp_path: Path) -> None:
    """Ids are each hospital's own: the same user's id and the same patient's may be two people and two others."""
    async with guarded(tmp_path, snooze=Snooze()) as hospital:
        sent = await hospital.prefetched("demo-no-ferritin")

        async def outcome(tenant: str) -> str:
            call = hook("demo-no-ferritin", fhir=None, prefetched=sent)
            return str(decision(await hospital.call(call, headers=as_ehr(tenant=tenant)))["outcome"])

        assert [await outcome(tenant) for tenant in ("north", "south", "north", "south")] == [
            "card",
            "card",
            "snoozed",
            "snoozed",
        ]


async def test_credentials_of_the_service_are_no_way_round_a_record(tmp_path: Path) -> None:
    """A client that may not name the tenant's base does not have it read by the service's own credentials either."""
    backend = Credentials("c", "https://auth.example.org/token", "ES384", "k", ECKey.generate_key("P-384"))
    north = Tenant("north", (FHIR,), ZoneInfo("UTC"), backend=backend)
    single = client(tmp_path, SINGLE, fhir_bases=())
    async with guarded(tmp_path, tenants=(north,), clients=(single,)) as hospital:
        answer = await hospital.call(hook(PATIENT, fhir=None), headers=SINGLE.headers(PATH, now=NOW))
        assert answer.status_code == 412
        assert hospital.wire.sent == []
