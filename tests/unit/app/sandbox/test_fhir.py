"""The sandbox's FHIR server, over HTTP: what the service and the public sandbox client rely on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from app.sandbox import fhir
from app.sandbox.fhir import create_fhir

BASE = "http://127.0.0.1:8000/fhir"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LOINC = "http://loinc.org"


@dataclass(frozen=True, slots=True)
class Trouble:
    status: int = 0
    delay: float = 0


def patient(id_: str, family: str = "Demo") -> dict[str, Any]:
    return {"resourceType": "Patient", "id": id_, "name": [{"family": family, "given": ["Ann"]}], "gender": "female"}


def observation(id_: str, *, of: str = "a", code: str = "1988-5", **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": id_,
        "status": "final",
        "subject": {"reference": f"Patient/{of}"},
        "code": {"coding": [{"system": "urn:local", "code": f"L{code}"}, {"system": LOINC, "code": code}]},
        "category": [{"coding": [{"system": "urn:category", "code": "laboratory"}]}],
        **more,
    }


def order(**more: Any) -> dict[str, Any]:
    made = {
        "resourceType": "MedicationRequest",
        "status": "active",
        "intent": "order",
        "subject": {"reference": "Patient/a"},
        "medicationCodeableConcept": {"text": "anakinra"},
    }
    return made | more


def client(*resources: dict[str, Any], **more: Any) -> TestClient:
    given = {"base_url": BASE, "clock": lambda: NOW} | more
    return mounted(create_fhir([patient("a"), patient("b", "Other"), *resources], **given))


def mounted(app: Starlette) -> TestClient:
    return TestClient(Starlette(routes=[Mount("/fhir", app)]), base_url=BASE)


def ids(answer: Any, mode: str = "match") -> list[str]:
    assert answer.status_code == 200, answer.text
    return [entry["resource"]["id"] for entry in answer.json().get("entry", []) if entry["search"]["mode"] == mode]


def problem(answer: Any, status: int) -> str:
    assert answer.status_code == status
    body = answer.json()
    assert body["resourceType"] == "OperationOutcome"
    assert answer.headers["content-type"] == "application/fhir+json"
    return str(body["issue"][0]["diagnostics"])


# --- reading --------------------------------------------------------------------------------------------


def test_metadata_declares_version_and_every_parameter() -> None:
    answer = client().get("/metadata", headers={"accept": "application/json+fhir"})
    assert answer.headers["content-type"] == "application/fhir+json"
    body = answer.json()
    assert body["fhirVersion"] == "4.0.1"
    assert "demo" in body["implementation"]["description"]
    declared = {each["type"]: {one["name"] for one in each["searchParam"]} for each in body["rest"][0]["resource"]}
    assert {"patient", "code", "date", "status", "category"} <= declared["Observation"]
    assert {"patient", "effective-time", "code"} <= declared["MedicationAdministration"]
    for type_, names in declared.items():
        for name in names:
            value = "2026" if fhir.PARAMETERS[type_][name].type == "date" else "x"
            assert client().get(f"/{type_}", params={name: value}).status_code == 200


def test_a_resource_is_read_by_id() -> None:
    answer = client(observation("crp", valueQuantity={"value": Decimal("26.20")})).get("/Observation/crp")
    assert answer.status_code == 200
    assert '"value":26.20' in answer.text
    assert answer.headers["etag"] == 'W/"1"'


@pytest.mark.parametrize("path", ["/Observation/none", "/Nonsense", "/Nonsense/1", "/Patient/a/_history", "/"])
def test_what_is_not_there_is_a_404_with_an_outcome(path: str) -> None:
    assert problem(client().get(path), 404)


def test_a_method_that_is_not_there_is_a_405_with_an_outcome() -> None:
    assert problem(client().delete("/Patient/a"), 405)
    assert problem(client().post("/Observation", json=observation("x")), 405)


def test_two_resources_of_one_id_are_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="there twice"):
        client(observation("x"), observation("x"))
    with pytest.raises(ValueError, match="unknown type"):
        client({"resourceType": "Account", "id": "x"})


# --- parameters -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    ["patient=a", "patient=Patient/a", "subject=a", "subject=Patient/a", f"patient={BASE}/Patient/a", "patient=none,a"],
)
def test_results_are_found_by_patient(query: str) -> None:
    assert ids(client(observation("1"), observation("2", of="b")).get(f"/Observation?{query}")) == ["1"]


def test_a_patient_of_allergies_is_found_too() -> None:
    allergy = {"resourceType": "AllergyIntolerance", "id": "1", "patient": {"reference": "Patient/a"}}
    assert ids(client(allergy).get("/AllergyIntolerance?patient=a")) == ["1"]
    assert ids(client(allergy).get("/AllergyIntolerance?patient=b")) == []


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("1988-5", ["1"]),
        (f"{LOINC}|1988-5", ["1"]),
        (f"{LOINC}|1988-5,{LOINC}|2276-4", ["1", "2"]),
        ("urn:other|1988-5", []),
        ("urn:local|L2276-4", ["2"]),
        (f"{LOINC}|", ["1", "2"]),
        ("|1988-5", []),
        ("1988-5,nothing", ["1"]),
        ("1988", []),
        (r"1988-5\,2276-4", []),
    ],
)
def test_codes_are_found_by_system_and_list(code: str, found: list[str]) -> None:
    server = client(observation("1"), observation("2", code="2276-4"))
    assert ids(server.get("/Observation", params={"code": code})) == found


def test_a_medication_is_found_by_its_inline_code_only() -> None:
    coded = {"coding": [{"system": "http://www.whocc.no/atc", "code": "L04AC03"}]}
    kinds = [
        order(id="inline", medicationCodeableConcept=coded),
        {key: value for key, value in order(id="referred").items() if key != "medicationCodeableConcept"}
        | {"medicationReference": {"reference": "Medication/m"}},
        {"resourceType": "Medication", "id": "m", "code": coded},
    ]
    server = client(*kinds)
    assert ids(server.get("/MedicationRequest?code=L04AC03")) == ["inline"]
    assert ids(server.get("/MedicationRequest?medication=m")) == ["referred"]
    both = server.get("/MedicationRequest?patient=a&_count=1&_sort=_id&_include=MedicationRequest:medication")
    assert (ids(both), ids(both, "include"), both.json()["total"]) == (["inline"], [], 2)
    second = server.get(both.json()["link"][1]["url"])
    assert (ids(second), ids(second, "include"), second.json()["total"]) == (["referred"], ["m"], 2)
    assert problem(server.get("/MedicationRequest?_include=MedicationRequest:subject"), 400)


def test_status_category_and_clinical_status() -> None:
    active = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}]}
    condition = {
        "resourceType": "Condition",
        "id": "c",
        "subject": {"reference": "Patient/a"},
        "clinicalStatus": active,
    }
    server = client(
        observation("1"), observation("2", status="amended"), observation("3", status="registered"), condition
    )
    assert ids(server.get("/Observation?status=final,amended")) == ["1", "2"]
    assert ids(server.get("/Observation?status=http://hl7.org/fhir/observation-status|amended")) == ["2"]
    assert ids(server.get("/Observation?category=laboratory&status=final")) == ["1"]
    assert ids(server.get("/Observation?category=vital-signs")) == []
    assert ids(server.get("/Condition?patient=a&clinical-status=active")) == ["c"]
    assert ids(server.get("/Condition?patient=a&clinical-status=resolved")) == []


def test_patients_are_found_by_name_id_and_identifier() -> None:
    server = client({"resourceType": "Patient", "id": "c", "identifier": [{"system": "urn:mrn", "value": "7"}]})
    assert ids(server.get("/Patient?name=oth")) == ["b"]
    assert ids(server.get("/Patient?_id=a,c")) == ["a", "c"]
    assert ids(server.get("/Patient?identifier=urn:mrn|7")) == ["c"]
    assert ids(server.get("/Patient")) == ["a", "b", "c"]
    assert ids(server.get("/Patient?_sort=-family")) == ["b", "a", "c"]


@pytest.mark.parametrize("query", ["_lastUpdated=ge2026", "code:in=x", "foo=1", "_sort=foo", "_sort=patient"])
def test_what_is_not_declared_refuses_the_search(query: str) -> None:
    assert problem(client().get(f"/Observation?patient=a&{query}"), 400)


# --- dates ----------------------------------------------------------------------------------------------

AT = "2026-03-01T10:00:00Z"


@pytest.mark.parametrize(
    ("held", "asked", "found"),
    [
        (AT, f"ge{AT}", True),
        (AT, f"gt{AT}", False),
        (AT, f"le{AT}", True),
        (AT, f"lt{AT}", False),
        (AT, AT, True),
        (AT, f"ne{AT}", False),
        (AT, "2026-03-01", True),
        (AT, "2026-03", True),
        (AT, "2026", True),
        (AT, "2026-03-02", False),
        (AT, "ge2026-03-01", True),
        (AT, "gt2026-03-01", False),
        (AT, "gt2026-02-28", True),
        (AT, "lt2026-03-01", False),
        (AT, "sa2026-02-28", True),
        (AT, "eb2026-03-02", True),
        (AT, "ge2026-03-01T10:00:01Z", False),
        (AT, "le2026-03-01T09:59:59.999Z", False),
        (AT, "2026-03-01T10:00Z", True),
        ("2026-03-01T11:00:00+01:00", f"eq{AT}", True),
        ("2026-03-01T05:00:00-05:00", f"eq{AT}", True),
        ("2026-03-01T10:00:00.500Z", f"eq{AT}", True),
        ("2026-03-01T10:00:00.500Z", "gt2026-03-01T10:00:00.499Z", True),
        ("2026-03-01", f"ge{AT}", True),
        ("2026-03-01", f"eq{AT}", False),
        ("2026-12", "2026", True),
        ("2026-12", "ge2027", False),
        ("2025-12-31T23:59:59Z", "ge2026", False),
        ("2026-03-01T00:30:00+01:00", "ge2026-03-01", False),  # still February in UTC
        ("nonsense", "ge1900", False),
    ],
)
def test_dates_are_compared_as_intervals(held: str, asked: str, found: bool) -> None:
    server = client(observation("1", effectiveDateTime=held))
    assert ids(server.get("/Observation", params={"date": asked})) == (["1"] if found else [])


@pytest.mark.parametrize(
    ("period", "asked", "found"),
    [
        ({"start": "2026-02-01", "end": "2026-02-20"}, "ge2026-02-20", True),
        ({"start": "2026-02-01", "end": "2026-02-20"}, "ge2026-02-21", False),
        ({"start": "2026-02-01"}, "ge2030", True),
        ({"start": "2026-02-01"}, "lt2026-02-01", False),
        ({"end": "2026-02-20"}, "le1900", True),
        ({}, "ge1900", False),
        ({"start": "nonsense"}, "ge1900", False),
    ],
)
def test_a_period_reaches_from_start_to_end(period: dict[str, str], asked: str, found: bool) -> None:
    server = client(observation("1", effectivePeriod=period))
    assert ids(server.get("/Observation", params={"date": asked})) == (["1"] if found else [])


def test_several_dates_all_have_to_match() -> None:
    server = client(*(observation(f"{day}", effectiveDateTime=f"2026-02-0{day}T00:00:00Z") for day in range(1, 6)))
    assert ids(server.get("/Observation?date=ge2026-02-02&date=lt2026-02-04")) == ["2", "3"]
    assert ids(server.get("/Observation?date=ge2026-02-05,lt2026-02-02")) == ["1", "5"]


@pytest.mark.parametrize(
    "asked",
    ["ap2026", "2026-13", "2026-02-30", "26", "x", "", "9999", "0001-01-01T00:00:00+14:00", "ge2026-03-01T10:00:60Z"],
)
def test_a_date_that_is_none_is_refused(asked: str) -> None:
    assert "date" in problem(client().get("/Observation", params={"date": asked}), 400)


def test_a_plus_that_was_not_escaped_is_understood() -> None:
    server = client(observation("1", effectiveDateTime=AT))
    assert ids(server.get("/Observation?date=ge2026-03-01T11:00:00+01:00")) == ["1"]


@given(seconds=st.integers(-100_000, 100_000), zone=st.sampled_from(["Z", "+05:30", "-11:00"]))
def test_before_and_from_an_instant_on_part_every_result(seconds: int, zone: str) -> None:
    at = (NOW + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat() + zone
    held = fhir._span(at)
    asked = NOW.isoformat()
    assert held is not None
    assert fhir._date_matches(held, f"ge{asked}") is not fhir._date_matches(held, f"lt{asked}")
    assert fhir._date_matches(held, f"le{asked}") is not fhir._date_matches(held, f"gt{asked}")


def test_administrations_and_orders_have_dates_of_their_own() -> None:
    given_at = {"resourceType": "MedicationAdministration", "subject": {"reference": "Patient/a"}}
    server = client(
        given_at | {"id": "1", "effectivePeriod": {"start": "2026-02-01T00:00:00Z", "end": "2026-02-02T00:00:00Z"}},
        given_at | {"id": "2", "effectiveDateTime": "2026-01-01T00:00:00Z"},
        order(id="3", authoredOn="2026-02-03"),
    )
    assert ids(server.get("/MedicationAdministration?effective-time=ge2026-02-02")) == ["1"]
    assert ids(server.get("/MedicationRequest?authoredon=2026-02-03&status=active,on-hold")) == ["3"]


# --- order, pages ---------------------------------------------------------------------------------------


def test_newest_first_puts_what_has_no_date_last() -> None:
    server = client(
        observation("old", effectiveDateTime="2026-01-01"),
        observation("undated"),
        observation("new", effectiveDateTime="2026-02-01"),
        observation("longest", effectivePeriod={"start": "2025-01-01", "end": "2026-02-10"}),
    )
    assert ids(server.get("/Observation?_sort=-date")) == ["longest", "new", "old", "undated"]
    assert ids(server.get("/Observation?_sort=date")) == ["longest", "old", "new", "undated"]
    assert ids(server.get("/Observation?_sort=-_id")) == ["undated", "old", "new", "longest"]


def test_results_of_one_instant_keep_one_order_over_pages() -> None:
    server = client(*(observation(f"{number:02}", effectiveDateTime=AT) for number in (3, 1, 4, 2)))
    first = server.get("/Observation?_sort=-date&_count=3")
    second = server.get(first.json()["link"][1]["url"])
    assert ids(first) + ids(second) == ["01", "02", "03", "04"]


def test_pages_are_walked_by_their_next_links() -> None:
    server = client(*(observation(f"{number:03}") for number in range(45)))
    url, seen, pages = "/Observation?patient=a", [], 0
    while url:
        body = server.get(url).json()
        assert body["total"] == 45
        seen += [entry["resource"]["id"] for entry in body["entry"]]
        assert all(entry["fullUrl"].startswith(f"{BASE}/Observation/") for entry in body["entry"])
        url = next((link["url"] for link in body["link"] if link["relation"] == "next"), "")
        assert not url or url.startswith(f"{BASE}/Observation?")
        pages += 1
    assert (len(seen), len(set(seen)), pages) == (45, 45, 3)


def test_a_count_above_the_maximum_is_clipped_without_a_word() -> None:
    server = client(*(observation(f"{number:03}") for number in range(120)))
    body = server.get("/Observation?_count=1000").json()
    assert (len(body["entry"]), body["total"], body["link"][1]["relation"]) == (100, 120, "next")


def test_a_count_of_zero_only_counts() -> None:
    body = client(observation("1")).get("/Observation?_count=0").json()
    assert (body["total"], "entry" in body, len(body["link"])) == (1, False, 1)


@pytest.mark.parametrize("count", ["-1", "x", "", "1e3", "²", "9" * 20])
def test_a_count_that_is_none_is_refused(count: str) -> None:
    assert problem(client().get("/Observation", params={"_count": count}), 400)


def test_a_search_that_is_no_longer_held_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fhir, "KEPT_SEARCHES", 2)
    server = client(*(observation(f"{number:03}") for number in range(45)))
    link = server.get("/Observation?patient=a").json()["link"][1]["url"]
    assert server.get(link).status_code == 200
    for _ in range(2):
        server.get("/Observation?patient=a")
    assert problem(server.get(link), 410)
    assert problem(server.get("/Observation?_getpages=made-up&_getpagesoffset=0"), 410)


def test_pages_do_not_shift_when_an_order_arrives_between_them() -> None:
    server = client(*(order(id=f"{number:02}", authoredOn=AT) for number in range(30)))
    first = server.get("/MedicationRequest?patient=a&_sort=-authoredon").json()
    server.post("/MedicationRequest", json=order(authoredOn="2026-03-01T11:00:00Z"))
    second = server.get(first["link"][1]["url"])
    assert ids(second) == [f"{number:02}" for number in range(20, 30)]


# --- POST searches --------------------------------------------------------------------------------------


def test_a_form_searches_as_an_address_does() -> None:
    server = client(observation("1"), observation("2", code="2276-4"), observation("3", of="b"))
    assert ids(server.post("/Observation/_search", data={"patient": "a", "code": f"{LOINC}|2276-4"})) == ["2"]
    assert ids(server.post("/Observation/_search?patient=b", data={"code": "1988-5"})) == ["3"]
    many = ",".join(["x"] * 4000 + ["1988-5"])
    assert ids(server.post("/Observation/_search", data={"patient": "a", "code": many})) == ["1"]


def test_a_form_search_is_a_form_and_not_too_long() -> None:
    server = client()
    assert problem(server.post("/Observation/_search", json={"patient": "a"}), 415)
    assert problem(server.post("/Observation/_search", data={"code": "x" * fhir.LARGEST_BODY}), 413)


# --- faults ---------------------------------------------------------------------------------------------


def test_faults_hit_one_patient_and_type_only() -> None:
    server = client(order(id="1"), faults={"a": {"MedicationRequest": Trouble(status=403)}})
    assert problem(server.get("/MedicationRequest?patient=a"), 403)
    assert problem(server.get("/MedicationRequest?subject=Patient/a"), 403)
    assert problem(server.post("/MedicationRequest/_search", data={"patient": "a"}), 403)
    assert problem(server.get("/MedicationRequest/1"), 403)
    assert ids(server.get("/MedicationRequest?patient=b")) == []
    assert ids(server.get("/Observation?patient=a")) == []


def test_a_fault_may_be_a_delay_before_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    server = client(observation("1"), faults={"a": {"Observation": Trouble(delay=5)}})
    assert ids(server.get("/Observation?patient=a")) == ["1"]
    assert 5 in waited


# --- orders ---------------------------------------------------------------------------------------------


def test_an_order_is_stored_under_an_id_of_the_servers_own() -> None:
    server = client()
    answer = server.post("/MedicationRequest", json=order(id="mine"), headers={"content-type": "application/fhir+json"})
    assert answer.status_code == 201
    kept = answer.json()
    assert kept["id"] != "mine"
    assert kept["meta"] == {"versionId": "1", "lastUpdated": "2026-03-01T12:00:00+00:00"}
    assert answer.headers["location"] == f"{BASE}/MedicationRequest/{kept['id']}"
    assert server.get(f"/MedicationRequest/{kept['id']}").json() == kept
    assert ids(server.get("/MedicationRequest?patient=a")) == [kept["id"]]


def test_an_order_is_put_under_an_id_of_the_clients() -> None:
    server = client()
    assert server.put("/MedicationRequest/mine", json=order(id="mine")).status_code == 201
    assert server.put("/MedicationRequest/mine", json=order(id="mine", status="stopped")).status_code == 200
    assert ids(server.get("/MedicationRequest?status=stopped")) == ["mine"]
    assert problem(server.put("/MedicationRequest/other", json=order(id="mine")), 400)
    assert problem(server.put("/MedicationRequest/a_b", json=order(id="a_b")), 400)


def test_numbers_of_an_order_come_back_as_they_were_sent() -> None:
    text = json.dumps(order(dosageInstruction=[{"doseAndRate": [{"doseQuantity": {"value": "X"}}]}]))
    sent = text.replace('"X"', "2.50").encode()
    answer = client().post("/MedicationRequest", content=sent, headers={"content-type": "application/json"})
    assert '"value":2.50' in answer.text


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"[" * 100_000, 400),
        (b'{"resourceType": "Observation"}', 400),
        (b'{"resourceType": "MedicationRequest", "x": 1e999999999999999999999}', 400),
        (b'{"resourceType": "MedicationRequest"}', 422),
        (b'{"resourceType": "MedicationRequest", "subject": "Patient/a"}', 422),
        (b'{"resourceType": "MedicationRequest", "subject": {"reference": "Patient/nobody"}}', 422),
        (b" " * (fhir.LARGEST_BODY + 1), 413),
    ],
)
def test_a_body_that_is_no_order_is_refused(body: bytes, status: int) -> None:
    assert problem(
        client().post("/MedicationRequest", content=body, headers={"content-type": "application/json"}), status
    )


def test_an_order_is_not_taken_from_a_form() -> None:
    assert problem(client().post("/MedicationRequest", content=json.dumps(order())), 415)


def test_the_demo_holds_a_limited_number_of_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fhir, "MOST_ORDERS", 1)
    server = client()
    assert server.put("/MedicationRequest/1", json=order(id="1")).status_code == 201
    assert problem(server.post("/MedicationRequest", json=order()), 503)
    assert server.put("/MedicationRequest/1", json=order(id="1")).status_code == 200


# --- time, browser --------------------------------------------------------------------------------------


def test_relative_stories_are_told_anew_every_hour_and_orders_stay() -> None:
    now = [NOW]

    def stories(at: datetime) -> Iterator[dict[str, Any]]:
        yield patient("a")
        yield observation("1", effectiveDateTime=(at - timedelta(hours=4)).isoformat())

    server = mounted(create_fhir(stories, base_url=lambda: BASE, clock=lambda: now[0]))
    server.put("/MedicationRequest/mine", json=order(id="mine"))
    now[0] += timedelta(minutes=59)
    assert server.get("/Observation/1").json()["effectiveDateTime"].startswith("2026-03-01T08:00")
    now[0] += timedelta(minutes=1)
    assert server.get("/Observation/1").json()["effectiveDateTime"].startswith("2026-03-01T09:00")
    assert server.get("/MedicationRequest/mine").status_code == 200


@pytest.mark.parametrize("origin", ["http://localhost:8080", "http://127.0.0.1:3000", "https://localhost"])
def test_pages_of_this_machine_may_read(origin: str) -> None:
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
    preflight = client().options("/Observation/_search", headers={"origin": origin, **asked})
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == origin
    assert {"authorization", "content-type"} <= set(preflight.headers["access-control-allow-headers"].split(", "))
    refused = client().get("/Nonsense", headers={"origin": origin})
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (404, origin)
    assert "access-control-allow-credentials" not in refused.headers


@pytest.mark.parametrize("origin", ["https://example.org", "http://localhost.example.org", "http://127.0.0.1.evil:80"])
def test_pages_of_other_machines_may_not(origin: str) -> None:
    assert "access-control-allow-origin" not in client().get("/Patient", headers={"origin": origin}).headers
