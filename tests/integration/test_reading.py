"""The service before servers that take little, refuse, or are to be read by its own authority."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc.jwk import ECKey

from app import kept
from app.gateway.backend_services import Credentials
from app.sandbox import patients
from tests.integration.hospital import FHIR, TOKEN, Hospital, decision, hook, opened, same_words, settings_for

PATIENT = "demo-full-protocol"
ISSUER = "https://auth.example.org/token"
OWN = "token-of-the-service"


def statement(**parameters: tuple[str, ...]) -> dict[str, Any]:
    """A capability statement that declares just these search parameters."""
    resources = [
        {"type": name, "searchParam": [{"name": each, "type": "string"} for each in names]}
        for name, names in parameters.items()
    ]
    return {
        "resourceType": "CapabilityStatement",
        "fhirVersion": "4.0.1",
        "rest": [{"mode": "server", "resource": resources}],
    }


FEW = {
    **dict.fromkeys(("AllergyIntolerance", "Condition", "Immunization", "MedicationStatement"), ("patient",)),
    "Patient": ("_id",),
    "Medication": ("_id",),
    "Specimen": ("_id",),
    "Observation": ("patient", "code", "date"),
    "Procedure": ("patient", "date"),
    "MedicationRequest": ("patient", "status", "intent"),
    "MedicationAdministration": ("patient",),
}


def only(**parameters: tuple[str, ...]) -> Callable[[httpx.Request], httpx.Response | None]:
    """A server that declares only these, and refuses every search that has another (as HAPI does)."""
    declared = {**FEW, **parameters}

    def answer(request: httpx.Request) -> httpx.Response | None:
        path = request.url.path.removeprefix("/fhir/")
        if path == "metadata":
            return httpx.Response(200, json=statement(**declared))
        form = request.content.decode() if request.method == "POST" else ""
        asked = {name for name, _ in [*request.url.params.multi_items(), *httpx.QueryParams(form).multi_items()]}
        refused = {name for name in asked if not name.startswith("_")} - set(declared[path.partition("/")[0]])
        return httpx.Response(400) if refused else None

    return answer


def reading(hospital: Hospital, answer: httpx.Response) -> dict[str, Any]:
    """How the server was read, from the record."""
    row = next(row for row in hospital.rows() if row["id"] == decision(answer)["id"])
    found: dict[str, Any] = json.loads(row["reading"])
    return found


async def expected(folder: Path) -> list[dict[str, Any]]:
    """The cards of the patient on a server that takes everything."""
    async with opened(folder) as hospital:
        return same_words(await hospital.call(hook(PATIENT)))


def without_evidence(cards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in card.items() if name != "extension"} for card in cards]


async def test_a_server_that_takes_little_is_asked_for_what_it_takes(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with opened(tmp_path, answers=only()) as hospital:
        answer = await hospital.call(hook(PATIENT))
        found = reading(hospital, answer)
    assert found["asked_without"] == {
        "orders-recent": ["authoredon"],
        "administrations": ["effective-time"],
        "long-acting": ["code", "effective-time"],
    }
    cards = same_words(answer)
    assert without_evidence(cards) == without_evidence(await expected(tmp_path_factory.mktemp("whole")))
    (sources,) = [card["extension"]["org.rescue-cds.evidence"]["sources"] for card in cards[:1]]
    assert {"source": "MedicationRequest", "need": "orders-recent", "asked_without": ["authoredon"]} in sources
    assert len(sources) == 3


async def test_the_record_keeps_what_the_server_was_asked_and_only_beside_the_patients_data(tmp_path: Path) -> None:
    asked: list[str] = []

    def answers(request: httpx.Request) -> None:
        if request.url.path != "/fhir/metadata":
            kind = request.url.path.removeprefix("/fhir/").removesuffix("/_search")
            search = (request.content or request.url.query).decode()
            asked.append(f"{kind}?{search}" if search else kind)

    async with opened(tmp_path, answers=answers) as hospital:
        answer = await hospital.call(hook(PATIENT))
        (row,) = hospital.rows("decision_facts")
        found = reading(hospital, answer)
        prefetched = await hospital.call(hook(PATIENT, fhir=None, prefetched=await hospital.prefetched(PATIENT)))
        without = next(
            one for one in hospital.rows("decision_facts") if one["decision_id"] == decision(prefetched)["id"]
        )
    kept_queries = kept.decode(row["facts"]).queries
    assert sorted(kept_queries) == sorted(one for one in asked if "?_id=" not in one)
    assert len(asked) == found["requests"] >= len(kept_queries) > 10
    assert f"Patient/{PATIENT}" in asked
    assert any(one.startswith(f"Observation?patient={PATIENT}&code=") and "&date=ge" in one for one in asked)
    assert found["server"] == FHIR
    assert PATIENT not in json.dumps(found)
    assert kept.decode(without["facts"]).queries == ()


async def test_a_server_that_says_nothing_and_refuses_is_asked_once_more(tmp_path: Path) -> None:
    """No statement, and 400 for every search with a date: each source costs one request more, the first time only."""
    strict = only()
    asked: list[str] = []

    def answers(request: httpx.Request) -> httpx.Response | None:
        if request.url.path == "/fhir/metadata":
            return httpx.Response(404)
        found = strict(request)
        if found is not None:
            asked.append(request.url.path)
        return found

    async with opened(tmp_path, answers=answers) as hospital:
        first = await hospital.call(hook(PATIENT))
        refused = len(asked)
        second = await hospital.call(hook(PATIENT))
        assert without_evidence(same_words(first)) == without_evidence(same_words(second))
        assert reading(hospital, second)["requests"] < reading(hospital, first)["requests"]
        assert not decision(first).get("gaps")
    assert 0 < refused == len(asked), "what was refused once is not asked again"


async def test_a_type_that_is_not_offered_is_not_asked_for(tmp_path: Path) -> None:
    declared = {name: names for name, names in FEW.items() if name != "MedicationAdministration"}

    def answers(request: httpx.Request) -> httpx.Response | None:
        return httpx.Response(200, json=statement(**declared)) if request.url.path == "/fhir/metadata" else None

    async with opened(tmp_path, answers=answers) as hospital:
        answer = await hospital.call(hook(PATIENT))
        asked = {path.partition("/fhir/")[2].partition("/")[0] for _, path, _ in hospital.wire.sent}
    gap = {"source": "MedicationAdministration", "why": "this server does not offer it", "need": "administrations"}
    assert gap in decision(answer)["gaps"]
    assert "MedicationAdministration" not in asked
    assert "MedicationRequest" in asked
    assert "drugs in use and their interactions not checked" in answer.json()["cards"][0]["detail"]


async def test_a_source_read_in_part_is_said_to_be_checked_in_part(tmp_path: Path) -> None:
    def answers(request: httpx.Request) -> httpx.Response | None:
        if request.url.params.get("page"):
            return httpx.Response(410)
        if not request.url.path.endswith("/Condition"):
            return None
        link = [{"relation": "next", "url": f"{FHIR}?page=2"}]
        return httpx.Response(200, json={"resourceType": "Bundle", "type": "searchset", "link": link})

    async with opened(tmp_path, answers=answers) as hospital:
        answer = await hospital.call(hook(PATIENT))
    detail = answer.json()["cards"][0]["detail"]
    assert "Condition: not found on the server (410);" in detail
    assert "diagnoses that speak against it checked in part only" in detail
    assert not any(card.get("suggestions") for card in answer.json()["cards"])


@pytest.fixture(scope="module")
def credentials() -> Credentials:
    return Credentials(
        client_id="rescue-cds", token_url=ISSUER, algorithm="ES384", key_id="k1", key=ECKey.generate_key("P-384")
    )


def issuing(request: httpx.Request) -> httpx.Response | None:
    if str(request.url) != ISSUER:
        return None
    from_scopes = httpx.QueryParams(request.content.decode())["scope"]
    return httpx.Response(
        200, json={"access_token": OWN, "token_type": "bearer", "expires_in": 300, "scope": from_scopes}
    )


def own(folder: Path, credentials: Credentials, **changes: Any) -> dict[str, Any]:
    """The changes to the settings that give the tenant credentials."""
    (tenant,) = settings_for(folder / "decisions.db").tenants
    return {"tenants": (replace(tenant, backend=credentials, **changes),)}


async def test_without_a_server_in_the_hook_the_service_reads_by_its_own_authority(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, credentials: Credentials
) -> None:
    async with opened(tmp_path, answers=issuing, **own(tmp_path, credentials)) as hospital:
        answer = await hospital.call(hook(PATIENT, fhir=None))
        assert reading(hospital, answer)["access"] == "backend"
        sent = {(host, token) for host, path, token in hospital.wire.sent if path != "/token"}
    assert sent == {("127.0.0.1", f"Bearer {OWN}")}
    assert same_words(answer) == await expected(tmp_path_factory.mktemp("whole"))
    assert OWN not in answer.text


@pytest.mark.parametrize(
    ("scope", "use", "mark"),
    [
        ("patient/*.read", "when-insufficient", "hook"),
        ("patient/Observation.rs patient/Patient.rs", "when-insufficient", "hook+backend"),
        ("patient/Observation.rs", "only-without-token", "hook"),
    ],
)
async def test_the_token_of_the_hook_comes_first(
    tmp_path: Path, credentials: Credentials, scope: str, use: str, mark: str
) -> None:
    body = hook(PATIENT)
    body["fhirAuthorization"]["scope"] = scope
    async with opened(tmp_path, answers=issuing, **own(tmp_path, credentials, backend_use=use)) as hospital:
        answer = await hospital.call(body)
        assert reading(hospital, answer)["access"] == mark
        tokens = {path.partition("/fhir/")[2]: token for _, path, token in hospital.wire.sent if "/fhir/" in path}
    assert tokens["Observation"] == f"Bearer {TOKEN}"
    assert tokens["Condition"] == f"Bearer {OWN if mark == 'hook+backend' else TOKEN}"


async def test_a_server_that_is_not_configured_is_not_read_by_any_authority(
    tmp_path: Path, credentials: Credentials
) -> None:
    async with opened(tmp_path, answers=issuing, **own(tmp_path, credentials)) as hospital:
        answer = await hospital.call(hook(PATIENT, fhir="https://elsewhere.example.org/fhir"))
        assert (answer.status_code, hospital.wire.sent) == (412, [])


async def test_no_token_is_said_as_such(tmp_path: Path, credentials: Credentials) -> None:
    def refusing(request: httpx.Request) -> httpx.Response | None:
        return httpx.Response(401, json={"error": "invalid_client"}) if str(request.url) == ISSUER else None

    sent = {"patient": {"resourceType": "Patient", "id": PATIENT}}
    async with opened(tmp_path, answers=refusing, **own(tmp_path, credentials)) as hospital:
        answer = await hospital.call(hook(PATIENT, fhir=None, prefetched=sent))
    gaps = {gap["why"] for gap in decision(answer)["gaps"]}
    assert gaps == {"no access token of the service's own for this server could be had (401)"}


# --- scope first ------------------------------------------------------------------------------------------


def first(folder: Path) -> dict[str, Any]:
    (tenant,) = settings_for(folder / "decisions.db").tenants
    return {"tenants": (replace(tenant, gather="scope-first"),)}


@pytest.mark.no_cover
async def test_scope_first_shows_the_same_cards(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    async with (
        opened(tmp_path_factory.mktemp("parallel")) as whole,
        opened(tmp_path, **first(tmp_path)) as hospital,
    ):
        for story in patients.STORIES:
            expected = await whole.call(hook(story.patient_id))
            answer = await hospital.call(hook(story.patient_id))
            assert same_words(answer) == same_words(expected), story.patient_id
            assert decision(answer)["outcome"] == decision(expected)["outcome"], story.patient_id
            assert reading(hospital, answer)["gather"] == "scope-first"


async def test_scope_first_reads_little_and_says_what_was_not_asked_for(tmp_path: Path) -> None:
    async with opened(tmp_path, **first(tmp_path)) as hospital:
        answer = await hospital.call(hook("demo-crp-100"))
        (row,) = hospital.rows()
    said = decision(answer)
    assert (answer.json()["cards"], said["outcome"]) == ([], "not-met")
    assert {gap["why"] for gap in said["gaps"]} == {"not asked for"}
    assert {gap["need"] for gap in said["gaps"]} >= {"respiratory", "administrations", "procedures", "allergies"}
    assert {entry["concept"] for entry in json.loads(row["evidence"])} >= {"crp"}
    assert json.loads(row["reading"])["requests"] == 8
    verdicts = json.loads(row["verdicts"])
    assert (verdicts["pilot-simple"]["verdict"], verdicts["row"]) == ("not-met", "not-met")
    assert "safety" not in verdicts, "what was not looked at is not recorded as looked at"


async def test_scope_first_without_a_server_evaluates_what_was_sent(tmp_path: Path) -> None:
    async with opened(tmp_path, **first(tmp_path)) as hospital:
        sent = await hospital.prefetched(PATIENT)
        answer = await hospital.call(hook(PATIENT, fhir=None, prefetched=sent))
    assert decision(answer)["outcome"] == "card"
