"""Answers to real and to hostile calls: they keep to the standard, never fail, and never repeat what was sent."""

from __future__ import annotations

import asyncio
import gzip
import json
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from app.sandbox import patients
from app.settings import BodyLimits
from tests.contract import cds_hooks_oracle as oracle
from tests.integration.hospital import FHIR, NOW, PATH, Hospital, decision, hook, opened
from tests.property.size import sample

PATIENT = "demo-full-protocol"
CANARY = "canary7f3a"
MODULE = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def hospital(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hospital]:
    async with opened(tmp_path_factory.mktemp("calls")) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def whole(hospital: Hospital) -> dict[str, Any]:
    return await hospital.prefetched(PATIENT)


def text(**changes: Any) -> str:
    """A call that would be answered 412, as text to be damaged."""
    return json.dumps(hook(PATIENT, fhir=None) | changes)


def refused(answer: httpx.Response, *statuses: int) -> None:
    assert answer.status_code in statuses, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert oracle.outcome(answer.content) == []
    assert CANARY not in answer.text


# --- what real clients send ---------------------------------------------------------------------------------


@MODULE
@pytest.mark.parametrize("story", patients.STORIES, ids=lambda story: story.patient_id)
async def test_every_answer_keeps_to_the_standard(hospital: Hospital, story: patients.Story) -> None:
    answer = await hospital.call(hook(story.patient_id))
    assert answer.headers["content-type"] == "application/json"
    assert oracle.response(answer.content) == []


@MODULE
async def test_the_example_of_the_specification(hospital: Hospital) -> None:
    """The patient-view request of the specification's "Calling a CDS Service": ids and server are its own."""
    body = {
        "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
        "fhirServer": "http://hooks.smarthealthit.org:9080",
        "hook": "patient-view",
        "fhirAuthorization": {
            "access_token": "some-opaque-fhir-access-token",
            "token_type": "Bearer",
            "expires_in": 300,
            "scope": "user/Patient.read user/Observation.read",
            "subject": "cds-service4",
        },
        "context": {"userId": "Practitioner/example", "patientId": "1288992", "encounterId": "89284"},
        "prefetch": {
            "patientToGreet": {
                "resourceType": "Patient",
                "gender": "male",
                "birthDate": "1925-12-23",
                "id": "1288992",
                "active": True,
            }
        },
    }
    refused(await hospital.call(body), 412)  # it sends nothing that was asked for
    body["prefetch"] = {"patient": body["prefetch"]["patientToGreet"]}  # type: ignore[index] # a JSON body
    answer = await hospital.call(body)
    assert answer.status_code == 200
    assert oracle.response(answer.content) == []
    assert decision(answer)["outcome"] == "card"  # every other source is unread: it could not be determined
    assert hospital.wire.sent == [] or all(host == "127.0.0.1" for host, _, _ in hospital.wire.sent)


@MODULE
@pytest.mark.parametrize("given", [True, False], ids=["prefetch", "no prefetch"])
async def test_the_request_of_the_public_sandbox(hospital: Hospital, whole: dict[str, Any], given: bool) -> None:
    """No encounter, a user that no server has, no authorization; prefetch only if a key was filled."""
    body: dict[str, Any] = {
        "hookInstance": str(uuid.uuid4()),
        "hook": "patient-view",
        "fhirServer": FHIR,
        "context": {"patientId": PATIENT, "userId": "Practitioner/COREPRACTITIONER1"},
    }
    if given:
        body["prefetch"] = whole
    answer = await hospital.call(body, headers={"origin": "http://localhost:8080"})
    assert answer.status_code == 200
    assert len(answer.json()["cards"][0]["suggestions"]) == 2


@MODULE
async def test_dialects_of_older_and_larger_clients(hospital: Hospital, whole: dict[str, Any]) -> None:
    wrapped = {key: {"response": {"status": "200 OK"}, "resource": value} for key, value in whole.items()}
    for body in (
        hook(PATIENT, fhir=None, prefetched=wrapped),
        hook(PATIENT, hookInstance=str(uuid.uuid1())),
        hook(PATIENT, extension={"com.epic.cdshooks.request.criteria-id": "1"}, surprise=[1, {"a": None}]),
        {**hook(PATIENT), "context": {"patientId": PATIENT, "userId": "PractitionerRole/1", "encounterId": "e" * 200}},
    ):
        answer = await hospital.call(body)
        assert answer.status_code == 200
        assert oracle.response(answer.content) == []
        assert len(answer.json()["cards"][0]["suggestions"]) == 2


# --- bytes that are no call ---------------------------------------------------------------------------------

DAMAGED: dict[str, bytes] = {
    "empty": b"",
    "not JSON": f"{CANARY}".encode(),
    "cut": text()[:-1].encode(),
    "trailing": (text() + CANARY).encode(),
    "an array": b"[]",
    "a text": f'"{CANARY}"'.encode(),
    "null": b"null",
    "a number": b"7",
    "depth 10,000": (text()[:-1] + ', "x": ' + "[" * 10_000 + "]" * 10_000 + "}").encode(),
    "depth 10,000 of objects": (text()[:-1] + ', "x": ' + '{"a":' * 10_000 + "1" + "}" * 10_000 + "}").encode(),
    "a number of 5,000 digits": (text()[:-1] + f', "x": {"7" * 5000}}}').encode(),
    "a fraction of 5,000 digits": (text()[:-1] + f', "x": 0.{"7" * 5000}}}').encode(),
    "NaN": (text()[:-1] + ', "x": NaN}').encode(),
    "Infinity": (text()[:-1] + ', "x": -Infinity}').encode(),
    "a hook twice": (text()[:-1] + f', "hook": "{CANARY}"}}').encode(),
    "a hook twice, escaped": (text()[:-1] + f', "h\\u006fok": "{CANARY}"}}').encode(),
    "a patient twice": text().replace('"patientId"', f'"patientId": "{CANARY}", "patientId"').encode(),
    "a NUL": text(x=f"{CANARY}\x00").encode(),
    "a raw NUL": (text()[:-1] + f', "x": "{CANARY}\x00"}}').encode(),
    "a lone surrogate": (text()[:-1] + f', "x": "{CANARY}\\ud800"}}').encode(),
    "a lone low surrogate": text(hookInstance=f"{CANARY}\udc00").encode(),
    "surrogates in the wrong order": (text()[:-1] + f', "x": "{CANARY}\\udc00\\ud800"}}').encode(),
    "a byte order mark": b"\xef\xbb\xbf" + text().encode(),
    "UTF-16": text().encode("utf-16"),
    "Latin-1": text(x="é").encode().decode("unicode_escape").encode("latin-1"),
    "gzip without saying so": gzip.compress(text().encode()),
    "a raw control character": (text()[:-1] + f', "x": "{CANARY}\x01"}}').encode(),
    "a comment": (text() + f" // {CANARY}").encode(),
    "a trailing comma": (text()[:-1] + ",}").encode(),
}


@MODULE
@pytest.mark.parametrize("name", DAMAGED)
async def test_damaged_bodies_are_400(hospital: Hospital, name: str) -> None:
    refused(await hospital.call(DAMAGED[name]), 400)


@MODULE
@pytest.mark.parametrize(
    "changes",
    [
        {"hook": "order-sign"},
        {"hook": CANARY},
        {"hook": None},
        {"hook": [CANARY]},
        {"hookInstance": None},
        {"hookInstance": ""},
        {"hookInstance": 7},
        {"hookInstance": CANARY * 100},
        {"context": None},
        {"context": []},
        {"context": CANARY},
        {"context": {}},
        {"context": {"patientId": ""}},
        {"context": {"patientId": "Patient/"}},
        {"context": {"patientId": f"Group/{CANARY}"}},
        {"context": {"patientId": f"https://h/{CANARY}/Patient/1"}},
        {"context": {"patientId": ".."}},
        {"context": {"patientId": 5}},
        {"context": {"patientId": {"reference": CANARY}}},
        {"context": {"patientId": CANARY * 100}},
        {"context": {"patientId": "p", "userId": [CANARY]}},
        {"prefetch": []},
        {"prefetch": CANARY},
        {"prefetch": 1},
        {"fhirServer": 7},
        {"fhirServer": f"http://{CANARY} x"},
        {"fhirServer": FHIR, "fhirAuthorization": CANARY},
        {"fhirServer": FHIR, "fhirAuthorization": {}},
        {"fhirServer": FHIR, "fhirAuthorization": {"access_token": f"{CANARY}\r\nX: y"}},
        {"fhirServer": FHIR, "fhirAuthorization": {"access_token": f"{CANARY} ü"}},
        {"fhirServer": FHIR, "fhirAuthorization": {"access_token": CANARY, "token_type": "MAC"}},
        {"fhirServer": FHIR, "fhirAuthorization": {"access_token": CANARY, "expires_in": "soon"}},
        {"fhirAuthorization": {"access_token": CANARY, "token_type": "Bearer"}},
    ],
    ids=lambda changes: json.dumps(changes)[:60],
)
async def test_calls_that_mean_nothing_are_400(hospital: Hospital, changes: dict[str, Any]) -> None:
    refused(await hospital.call(hook(PATIENT, fhir=None) | changes), 400)


# --- the wire -----------------------------------------------------------------------------------------------


@MODULE
@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": CANARY},
        {"content-type": "application/jsonp"},
        {"content-encoding": "gzip"},
        {"content-encoding": "br"},
        {"content-encoding": f"identity, {CANARY}"},
    ],
    ids=str,
)
async def test_other_media_are_415(hospital: Hospital, headers: dict[str, str]) -> None:
    body = gzip.compress(text().encode()) if headers.get("content-encoding") == "gzip" else text().encode()
    refused(await hospital.call(body, headers=headers), 415)


@MODULE
@pytest.mark.parametrize("media", ["application/json; charset=utf-8", "application/fhir+json", "APPLICATION/JSON"])
async def test_json_by_another_name_is_read(hospital: Hospital, media: str) -> None:
    refused(await hospital.call(text().encode(), headers={"content-type": media}), 412)


@MODULE
@pytest.mark.no_cover
async def test_fifty_mebibytes_are_413(hospital: Hospital) -> None:
    body = (text()[:-1] + f', "{CANARY}": "').encode() + b"x" * (50 * 1024 * 1024) + b'"}'
    refused(await hospital.call(body), 413)

    async def unannounced() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 1 << 20):
            yield body[start : start + (1 << 20)]

    answer = await hospital.client.post(PATH, content=unannounced(), headers={"content-type": "application/json"})
    refused(answer, 413)


@MODULE
@pytest.mark.parametrize("length", ["9" * 400, "-1", "canary7f3a", "1e3"])
async def test_a_length_that_is_none(hospital: Hospital, length: str) -> None:
    refused(await hospital.call(text().encode(), headers={"content-length": length}), 412, 413)


@MODULE
async def test_long_headers_are_431(hospital: Hospital) -> None:
    refused(await hospital.call(text().encode(), headers={"x-long": CANARY * 4000}), 431)
    assert (await hospital.client.get("/cds-services", headers={"x-long": CANARY * 4000})).status_code == 431
    refused(await hospital.call(text().encode(), headers={"x-long": "y" * 30_000}), 412)


async def test_a_body_that_does_not_come_is_408(tmp_path: Path) -> None:
    async def dripping() -> AsyncIterator[bytes]:
        yield b'{"hook": "canary7f3a'
        await asyncio.sleep(30)

    async with opened(tmp_path, body=replace(BodyLimits(), seconds=0.2)) as hospital:
        answer = await hospital.client.post(PATH, content=dripping(), headers={"content-type": "application/json"})
        refused(answer, 408)
        assert answer.headers["connection"] == "close"


async def test_the_limits_are_the_sites(tmp_path: Path) -> None:
    limits = BodyLimits(bytes=2000, depth=8, number=16, seconds=5)
    async with opened(tmp_path, body=limits) as hospital:
        refused(await hospital.call(text(x=[[[[[[1]]]]]]).encode()), 412)
        refused(await hospital.call(text(x=[[[[[[[[1]]]]]]]]).encode()), 400)
        refused(await hospital.call(text(x=10**15).encode()), 412)
        refused(await hospital.call(text(x=10**16).encode()), 400)
        refused(await hospital.call(text(x="y" * 2000).encode()), 413)


# --- prefetch of every kind ---------------------------------------------------------------------------------

ODD: dict[str, Any] = {
    "null": None,
    "true": True,
    "zero": 0,
    "a fraction": 1.5e300,
    "a text": CANARY,
    "an empty text": "",
    "an array": [],
    "an array of resources": [{"resourceType": "Patient", "id": PATIENT}],
    "an empty object": {},
    "no type": {"id": CANARY},
    "a type that is no text": {"resourceType": 7},
    "an unknown type": {"resourceType": CANARY},
    "another type": {"resourceType": "Basic", "id": "b"},
    "an outcome": {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "diagnostics": CANARY}]},
    "an empty bundle": {"resourceType": "Bundle", "type": "searchset"},
    "entry is no array": {"resourceType": "Bundle", "type": "searchset", "entry": CANARY},
    "entries of every type": {"resourceType": "Bundle", "entry": [None, 1, CANARY, [], {}, {"resource": None}]},
    "a resource that is a text": {"resourceType": "Bundle", "entry": [{"resource": CANARY}]},
    "links of every type": {"resourceType": "Bundle", "link": [None, 1, {"relation": 5, "url": []}], "total": "x"},
    "a foreign next": {"resourceType": "Bundle", "link": [{"relation": "next", "url": "https://canary7f3a.example/"}]},
    "a wrapper": {"response": {"status": "404"}},
    "half a wrapper": {"response": CANARY, "resource": CANARY},
}


@MODULE
@pytest.mark.parametrize("name", ODD)
@pytest.mark.no_cover
async def test_any_value_at_any_key(hospital: Hospital, whole: dict[str, Any], name: str) -> None:
    for number, key in sample(enumerate(whole), of=lambda _: None, start=list(ODD).index(name)):
        fhir = FHIR if (number + len(name)) % 2 else None  # with a server to ask instead, and without
        answer = await hospital.call(hook(PATIENT, fhir=fhir, prefetched={**whole, key: ODD[name]}))
        assert answer.status_code == 200, (key, fhir)
        assert oracle.response(answer.content) == [], (key, fhir)
        assert CANARY not in answer.text, (key, fhir)


@MODULE
@pytest.mark.parametrize("name", ODD)
@pytest.mark.no_cover
async def test_any_value_everywhere(hospital: Hospital, whole: dict[str, Any], name: str) -> None:
    answer = await hospital.call(hook(PATIENT, fhir=None, prefetched=dict.fromkeys(whole, ODD[name])))
    assert answer.status_code in {200, 412}
    complaints = oracle.response if answer.status_code == 200 else oracle.outcome
    assert complaints(answer.content) == []
    assert CANARY not in answer.text


LEAVES: dict[str, Any] = {
    "null": None,
    "number": 1e308,
    "negative": -(10**60),
    "bool": True,
    "text": "\u202e\u0007\x1b[31m<script>alert(1)</script>",
    "array": [],
    "object": {},
    "date": "0001-01-01",
    "late date": "9999-12-31T23:59:60+14:00",
    "nested": [[{"a": [None]}]],
}


def mutated(resource: Any, leaf: Any) -> list[Any]:
    """The resource with each of its members in turn replaced."""
    found: list[Any] = []
    if isinstance(resource, dict):
        for name, value in resource.items():
            found.append({**resource, name: leaf})
            found += [{**resource, name: inner} for inner in mutated(value, leaf)]
    elif isinstance(resource, list):
        for index, value in enumerate(resource):
            found += [[*resource[:index], inner, *resource[index + 1 :]] for inner in mutated(value, leaf)]
    return found


@MODULE
@pytest.mark.parametrize("name", LEAVES)
@pytest.mark.no_cover
async def test_any_value_at_any_element(hospital: Hospital, whole: dict[str, Any], name: str) -> None:
    """One resource of each type and concept, every element of it replaced, all in one call a source."""
    lists = [(key, sent) for key, sent in whole.items() if key != "patient"]
    for key, sent in sample(lists, of=lambda _: None, start=list(LEAVES).index(name)):
        kinds: dict[str, Any] = {}
        for entry in sent.get("entry", []):
            resource = entry["resource"]
            code = (resource.get("code") or resource.get("medicationCodeableConcept") or {}).get("coding", [{}])[0]
            kinds.setdefault(f"{resource['resourceType']} {code.get('code')}", resource)
        broken = [r for resource in kinds.values() for r in mutated(resource, LEAVES[name])]
        entries = [{"resource": {"id": f"m{n}", **r}} for n, r in enumerate(broken)]
        bundle = {"resourceType": "Bundle", "type": "searchset", "entry": [*sent.get("entry", []), *entries]}
        answer = await hospital.call(hook(PATIENT, fhir=None, prefetched={**whole, key: bundle}))
        assert answer.status_code == 200, key
        assert oracle.response(answer.content) == [], key


@MODULE
async def test_ids_of_two_hundred_characters(hospital: Hospital, whole: dict[str, Any]) -> None:
    long = "e" * 200
    renamed = json.loads(json.dumps(whole).replace(f"Patient/{PATIENT}", f"Patient/{long}"))
    renamed["patient"]["id"] = long
    answer = await hospital.call(hook(long, prefetched=renamed))
    assert answer.status_code == 200
    assert oracle.response(answer.content) == []
    assert answer.json()["cards"]
    refused(await hospital.call(hook(long)), 412)


@MODULE
@pytest.mark.parametrize(
    "patient_id", ["a b", "x<y>", "../../etc", "x?y=z", "x%2f..", "é", "x|y", "'; drop table", "\u202ex", "x\ty"]
)
async def test_ids_that_are_no_fhir_ids(hospital: Hospital, whole: dict[str, Any], patient_id: str) -> None:
    before = len(hospital.wire.sent)
    for prefetched in (None, whole | {"patient": {"resourceType": "Patient", "id": patient_id, "gender": "male"}}):
        answer = await hospital.call(hook(patient_id, prefetched=prefetched))
        assert answer.status_code in {200, 400, 412}
        complaints = oracle.response if answer.status_code == 200 else oracle.outcome
        assert [c for c in complaints(answer.content) if "says whose" not in c] == []
    assert len(hospital.wire.sent) == before


@MODULE
@pytest.mark.parametrize("make", [lambda: "/cds-services/canary7f3a", lambda: f"{PATH}x"], ids=["canary", "suffix"])
async def test_an_unknown_service_is_404_whatever_is_sent(hospital: Hospital, make: Callable[[], str]) -> None:
    for body in (text().encode(), b"{", b""):
        answer = await hospital.client.post(make(), content=body, headers={"content-type": "application/json"})
        refused(answer, 404)


def test_the_clock_of_the_stories_stands_still() -> None:
    assert NOW.utcoffset() is not None
