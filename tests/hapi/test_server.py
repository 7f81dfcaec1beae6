"""What our gateway relies on, or is on its guard against, in a HAPI server; and the rules by which tests make it fail.

Each test states HAPI's behaviour, not what one would wish: a new HAPI that changes it must be noticed here.
"""

from __future__ import annotations

import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from app.sandbox import patients
from tests.hapi import hapi as servers
from tests.hapi.hapi import HapiError, Rule, Server, load, new_id

pytestmark = pytest.mark.hapi

MANY = 300
"""Observations of one patient: fifteen default pages, six of the largest."""
DEFAULT_PAGE, LARGEST_PAGE = 20, 50
CODE = {"coding": [{"system": "http://loinc.org", "code": "1988-5"}]}


def person(id_: str) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": id_}


def observation(patient: str, number: int) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": f"{patient}-o{number}",
        "status": "final",
        "code": CODE,
        "subject": {"reference": f"Patient/{patient}"},
        "effectiveDateTime": f"2026-03-01T{number // 60:02}:{number % 60:02}:00Z",
        "valueQuantity": {"value": number},
    }


def order(patient: str, **changes: Any) -> dict[str, Any]:
    plain = {
        "resourceType": "MedicationRequest",
        "status": "draft",
        "intent": "proposal",
        "medicationCodeableConcept": {"text": "anakinra"},
        "subject": {"reference": f"Patient/{patient}"},
    }
    return {**plain, **changes}


class Client:
    """Plain HTTP, so that what is seen is the server's doing and not our gateway's."""

    def __init__(self, server: Server) -> None:
        self.base = server.base

    def send(self, method: str, path: str, **more: Any) -> httpx.Response:
        url = path if path.startswith("http") else f"{self.base}/{path}".rstrip("/")
        return httpx.request(method, url, timeout=120, trust_env=False, **more)

    def get(self, path: str, *, cache: str | None = None, **params: Any) -> httpx.Response:
        headers = {"accept": "application/fhir+json", **({"cache-control": cache} if cache else {})}
        return self.send("GET", path, headers=headers, params=params or None)

    def walk(self, first: httpx.Response) -> list[dict[str, Any]]:
        """The pages from this one on."""
        pages = [first.json()]
        while link := next_of(pages[-1]):
            pages.append(self.get(link).json())
        return pages


def next_of(bundle: dict[str, Any]) -> str:
    return next((str(link["url"]) for link in bundle["link"] if link["relation"] == "next"), "")


def rows(*bundles: dict[str, Any]) -> list[str]:
    return [entry["resource"]["id"] for bundle in bundles for entry in bundle.get("entry", [])]


def reason(response: httpx.Response) -> str:
    return str(response.json()["issue"][0]["diagnostics"])


@pytest.fixture
def client(hapi: Server) -> Client:
    return Client(hapi)


@pytest.fixture
def patient(hapi: Server) -> str:
    """A patient of this test alone."""
    id_ = new_id("p")
    load(hapi.base, [person(id_)])
    return id_


@pytest.fixture
def chart(hapi: Server) -> str:
    """A patient with MANY observations, shared; loaded anew when the server was, for it keeps nothing."""
    id_ = f"chart-{os.getpid()}"
    if httpx.get(f"{hapi.base}/Patient/{id_}", timeout=60, trust_env=False).status_code != 200:
        load(hapi.base, [person(id_), *(observation(id_, number) for number in range(MANY))])
    return id_


# --- searches -------------------------------------------------------------------------------------------


def test_no_store_cuts_the_result_without_a_word(client: Client, chart: str) -> None:
    for directive in ("no-store", "no-store, max-results=500"):
        bundle = client.get("Observation", cache=directive, patient=chart).json()
        assert (len(rows(bundle)), bundle["total"], next_of(bundle)) == (DEFAULT_PAGE, DEFAULT_PAGE, "")


def test_no_cache_brings_every_page(client: Client, chart: str) -> None:
    pages = client.walk(client.get("Observation", cache="no-cache", patient=chart, _sort="-date", _count=50))
    found = rows(*pages)
    assert len(pages) == MANY // LARGEST_PAGE
    assert found == [f"{chart}-o{number}" for number in reversed(range(MANY))]


def test_a_count_above_the_maximum_is_clipped_without_a_word(client: Client, chart: str) -> None:
    bundle = client.get("Observation", cache="no-cache", patient=chart, _count=200).json()
    assert len(rows(bundle)) == LARGEST_PAGE
    assert next_of(bundle)


def test_without_a_count_a_page_has_twenty(client: Client, chart: str) -> None:
    assert len(rows(client.get("Observation", cache="no-cache", patient=chart).json())) == DEFAULT_PAGE


def test_a_next_link_is_opaque_and_of_the_same_base(client: Client, chart: str) -> None:
    link = next_of(client.get("Observation", cache="no-cache", patient=chart).json())
    assert link.startswith(f"{client.base}?_getpages=")
    assert chart not in link


def test_the_total_is_absent_from_a_large_result_and_there_with_a_small_one(
    client: Client, chart: str, patient: str
) -> None:
    assert "total" not in client.get("Observation", cache="no-cache", patient=chart, _count=50).json()
    assert client.get("Observation", cache="no-cache", patient=patient).json()["total"] == 0
    assert client.get("Observation", cache="no-cache", patient=chart, _total="accurate").json()["total"] == MANY


def test_without_no_cache_a_repeated_search_does_not_see_what_was_stored_since(
    client: Client, hapi: Server, patient: str
) -> None:
    assert rows(client.get("Observation", patient=patient).json()) == []
    load(hapi.base, [observation(patient, 1)])
    assert rows(client.get("Observation", patient=patient).json()) == []
    assert rows(client.get("Observation", cache="no-cache", patient=patient).json()) == [f"{patient}-o1"]


def test_an_unknown_page_is_gone(client: Client) -> None:
    answer = client.get("", _getpages="00000000-0000-0000-0000-000000000000", _getpagesoffset="20", _count="20")
    assert answer.status_code == 410
    assert "HAPI-0417" in reason(answer)


def test_an_unknown_parameter_refuses_the_search_even_where_leniency_is_preferred(client: Client, patient: str) -> None:
    asked = {"patient": patient, "no-such-parameter": "1"}
    for headers in ({}, {"prefer": "handling=lenient"}):
        assert client.send("GET", "Observation", params=asked, headers=headers).status_code == 400


def test_a_search_by_form_takes_thousands_of_codes_and_pages(client: Client, chart: str) -> None:
    codes = ",".join(["http://loinc.org|1988-5", *(f"http://loinc.org|{number}-0" for number in range(4000))])
    form = {"patient": chart, "code": codes, "_count": "50"}
    answer = client.send("POST", "Observation/_search", data=form, headers={"cache-control": "no-cache"})
    assert answer.status_code == 200
    assert len(rows(*client.walk(answer))) == MANY


def test_an_included_medication_is_marked_and_not_counted(client: Client, hapi: Server, patient: str) -> None:
    drug = {"resourceType": "Medication", "id": new_id("m"), "code": {"text": "anakinra"}}
    by_reference = order(patient, id=new_id("r"), medicationReference={"reference": f"Medication/{drug['id']}"})
    del by_reference["medicationCodeableConcept"]
    load(hapi.base, [drug, by_reference])
    asked = {"patient": patient, "_include": "MedicationRequest:medication"}
    bundle = client.get("MedicationRequest", cache="no-cache", **asked).json()
    assert [entry["search"]["mode"] for entry in bundle["entry"]] == ["match", "include"]
    assert bundle["total"] == 1


# --- reads, batches, validation -------------------------------------------------------------------------


def test_missing_and_deleted_are_told_apart(client: Client, patient: str) -> None:
    assert client.get(f"Patient/{new_id('nobody')}").status_code == 404
    assert client.send("DELETE", f"Patient/{patient}").status_code == 200
    assert client.get(f"Patient/{patient}").status_code == 410


def test_a_batch_answers_each_request_by_itself(client: Client, patient: str) -> None:
    urls = (f"Patient/{patient}", "Observation?no-such-parameter=1", f"Observation?patient={patient}")
    entries = [{"request": {"method": "GET", "url": url}} for url in urls]
    batch = {"resourceType": "Bundle", "type": "batch", "entry": entries}
    answer = client.send("POST", "", json=batch, headers={"content-type": "application/fhir+json"})
    assert answer.status_code == 200
    statuses = [entry["response"]["status"][:3] for entry in answer.json()["entry"]]
    assert statuses == ["200", "400", "200"]


def test_validate_finds_no_error_in_a_draft_order(client: Client, patient: str) -> None:
    answer = client.send("POST", "MedicationRequest/$validate", json=order(patient))
    assert answer.status_code == 200
    assert not [issue for issue in answer.json()["issue"] if issue["severity"] in ("error", "fatal")]


@pytest.mark.parametrize(
    ("wrong", "status"),
    [({"status": "no-such-status"}, 400), ({"intent": None}, 200)],
    ids=["a code that is none of the required", "an element that is required"],
)
def test_validate_finds_an_error(client: Client, patient: str, wrong: dict[str, Any], status: int) -> None:
    """Only what cannot be parsed is answered with an error status: the issues decide, not the status."""
    resource = {key: value for key, value in order(patient, **wrong).items() if value is not None}
    answer = client.send("POST", "MedicationRequest/$validate", json=resource)
    assert answer.status_code == status
    assert [issue for issue in answer.json()["issue"] if issue["severity"] == "error"]


# --- loading --------------------------------------------------------------------------------------------


def test_the_synthetic_patients_load_in_one_transaction_and_again_without_a_change(hapi: Server) -> None:
    resources = patients.bundle(datetime(2026, 3, 1, 12, tzinfo=UTC))
    first = load(hapi.base, resources)
    assert load(hapi.base, resources) == first
    assert len(first) == len(resources)


def test_a_dangling_reference_is_refused(hapi: Server) -> None:
    with pytest.raises(HapiError, match="not found"):
        load(hapi.base, [observation(new_id("nobody"), 1)])


def test_an_id_of_digits_only_is_refused(hapi: Server) -> None:
    with pytest.raises(HapiError, match="HAPI-0960"):
        load(hapi.base, [person("12345")])


def test_a_page_of_this_machine_may_ask_and_one_from_elsewhere_not(client: Client) -> None:
    def allowed(origin: str) -> str | None:
        asked = {"origin": origin, "access-control-request-method": "GET", "access-control-request-headers": "accept"}
        return client.send("OPTIONS", "Patient", headers=asked).headers.get("access-control-allow-origin")

    assert allowed("http://127.0.0.1:8080") == "http://127.0.0.1:8080"
    assert allowed("http://ehr.example.org") is None


# --- rules ----------------------------------------------------------------------------------------------


def test_a_status_for_the_first_times_only_with_its_retry_after(client: Client, hapi: Server, patient: str) -> None:
    with hapi.rules(Rule(patient=patient, status=429, retry_after="2", times=2)):
        answers = [client.get("Observation", patient=patient) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert answers[0].headers["retry-after"] == "2"
    assert answers[0].json()["resourceType"] == "OperationOutcome"


@pytest.mark.parametrize("status", [400, 401, 403, 500, 503])
def test_a_status_for_ever(client: Client, hapi: Server, patient: str, status: int) -> None:
    with hapi.rules(Rule(patient=patient, status=status)):
        assert {client.get(f"Patient/{patient}").status_code for _ in range(2)} == {status}
    assert client.get(f"Patient/{patient}").status_code == 200


def test_a_rule_holds_for_its_patient_and_type_only(client: Client, hapi: Server, patient: str, chart: str) -> None:
    with hapi.rules(Rule(patient=patient, type="MedicationRequest", status=403)):
        assert client.get("MedicationRequest", subject=f"Patient/{patient}").status_code == 403
        assert client.get("MedicationRequest", patient=chart).status_code == 200
        assert client.get("Observation", patient=patient).status_code == 200


def test_a_rule_reaches_a_search_by_form(client: Client, hapi: Server, patient: str) -> None:
    form = {"patient": patient, "code": "http://loinc.org|2276-4"}
    with hapi.rules(Rule(method="POST", patient=patient, contains="|2276-4", status=503)):
        assert client.send("POST", "Observation/_search", data=form).status_code == 503
        assert client.send("POST", "Observation/_search", data={"patient": patient}).status_code == 200


def test_a_rule_may_wait_for_the_further_pages_of_a_search(client: Client, hapi: Server, chart: str) -> None:
    with hapi.rules(Rule(patient=chart, type="Observation", page=True, status=410)):
        first = client.get("Observation", cache="no-cache", patient=chart)
        assert first.status_code == 200
        assert client.get(next_of(first.json())).status_code == 410


def test_latency(client: Client, hapi: Server, patient: str) -> None:
    with hapi.rules(Rule(patient=patient, latency_ms=700)):
        started = time.monotonic()
        assert client.get(f"Patient/{patient}").status_code == 200
    assert time.monotonic() - started >= 0.7


def test_a_body_that_ends_too_early(client: Client, hapi: Server, patient: str) -> None:
    with (
        hapi.rules(Rule(patient=patient, truncate=True)),
        pytest.raises(httpx.RemoteProtocolError, match="without sending complete"),
    ):
        client.get(f"Patient/{patient}")


def test_a_web_page_where_fhir_was_asked_for(client: Client, hapi: Server, patient: str) -> None:
    with hapi.rules(Rule(patient=patient, html=True)):
        answer = client.get("Observation", patient=patient)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html;charset=utf-8")


def test_a_result_without_its_total(client: Client, hapi: Server, patient: str) -> None:
    with hapi.rules(Rule(patient=patient, without_total=True)):
        assert "total" not in client.get("Observation", cache="no-cache", patient=patient).json()


def test_a_token_that_is_asked_for(client: Client, hapi: Server, patient: str) -> None:
    def status(**headers: str) -> int:
        return client.send("GET", f"Patient/{patient}", headers=headers).status_code

    with hapi.rules(Rule(patient=patient, require_bearer="the-right-one")):
        assert status() == 401
        assert status(authorization="Bearer another") == 401
        assert status(authorization="Bearer the-right-one") == 200


def test_the_requests_seen(client: Client, hapi: Server, chart: str, patient: str) -> None:
    asked = {"cache-control": "no-cache", "authorization": "Bearer x", "prefer": "handling=strict"}
    form = {"patient": patient, "code": "a|b"}
    client.send("POST", "Observation/_search?_count=5", data=form, headers=asked)
    client.get(f"Patient/{patient}")
    search, read = hapi.requests(patient=patient)
    assert (search.method, search.path, search.type) == ("POST", "Observation/_search", "Observation")
    assert search.parameters == {"_count": ["5"], "code": ["a|b"], "patient": [patient]}
    assert (search.cache_control, search.prefer, search.authorization) == ("no-cache", "handling=strict", True)
    assert (read.path, read.cache_control, read.prefer, read.authorization) == (f"Patient/{patient}", None, None, False)


def test_a_further_page_is_seen_as_part_of_its_search(client: Client, hapi: Server, chart: str) -> None:
    before = len(hapi.requests(patient=chart, type="Observation"))
    client.walk(client.get("Observation", cache="no-cache", patient=chart, _count=50))
    seen = hapi.requests(patient=chart, type="Observation")[before:]
    assert [each.page for each in seen] == [False, True, True, True, True, True]


def test_a_misspelt_rule_is_refused(hapi: Server) -> None:
    url = hapi.base.removesuffix("/fhir") + "/test/rules"
    assert httpx.post(url, json=[{"latency": 5}], timeout=30, trust_env=False).status_code == 400


# --- the server as a process ----------------------------------------------------------------------------


def test_a_server_killed_in_the_middle_of_an_answer_comes_back_empty_on_its_port(
    client: Client, hapi: Server, patient: str
) -> None:
    base = hapi.base
    with hapi.rules(Rule(patient=patient, latency_ms=20_000)), ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.get, f"Patient/{patient}")
        until = time.monotonic() + 60
        while not hapi.requests(patient=patient, type="Patient") and time.monotonic() < until and not asked.done():
            time.sleep(0.05)
        hapi.kill()
        with pytest.raises(httpx.TransportError):
            asked.result(timeout=10)
    hapi.start()
    assert hapi.base == base
    assert client.get(f"Patient/{patient}").status_code == 404


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", "no/such/folder")
    assert re.match("no Java: HAPI needs Java 17", servers.missing())
