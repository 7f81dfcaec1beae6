from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from typing import Any

import pytest

from cds_hooks import request
from cds_hooks.errors import BadRequest
from cds_hooks.request import HookRequest, Token

SECRET = "s3cr3t-t0ken"
AUTHORIZATION = {
    "access_token": SECRET,
    "token_type": "Bearer",
    "expires_in": 300,
    "scope": "patient/Observation.rs",
    "subject": "cds-service4",
}


def call(**changes: Any) -> dict[str, Any]:
    """A complete call; a change to ... removes the member."""
    members = {
        "hook": "patient-view",
        "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
        "fhirServer": "https://ehr.example/fhir",
        "fhirAuthorization": AUTHORIZATION,
        "context": {"userId": "Practitioner/7", "patientId": "p1", "encounterId": "e1"},
        "prefetch": {"patient": {"resourceType": "Patient", "id": "p1"}, "labs": None},
    } | changes
    return {name: value for name, value in members.items() if value is not ...}


def parsed(**changes: Any) -> HookRequest:
    return request.parse(json.dumps(call(**changes)).encode(), hook="patient-view")


def refusal(**changes: Any) -> BadRequest:
    with pytest.raises(BadRequest) as refused:
        parsed(**changes)
    return refused.value


def test_a_complete_call() -> None:
    read = parsed()
    assert read.hook == "patient-view"
    assert read.hook_instance == "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea"
    assert read.fhir_server == "https://ehr.example/fhir"
    assert (read.context.patient_id, read.context.user_id) == ("p1", "Practitioner/7")
    assert read.context.encounter_id == "e1"
    assert json.loads(read.context.raw) == call()["context"]
    assert read.prefetch == {"patient": b'{"resourceType": "Patient", "id": "p1"}', "labs": b"null"}
    assert not read.user_is_patient
    authorization = read.fhir_authorization
    assert authorization is not None
    assert authorization.access_token.reveal() == SECRET
    assert (authorization.token_type, authorization.expires_in) == ("Bearer", 300)
    assert (authorization.scope, authorization.subject) == ("patient/Observation.rs", "cds-service4")
    assert authorization.patient is None


def test_a_call_with_the_least() -> None:
    read = request.parse(
        b'{"hook":"patient-view","hookInstance":"1","context":{"patientId":"p1"}}', hook="patient-view"
    )
    assert (read.fhir_server, read.fhir_authorization, read.prefetch) == (None, None, None)
    assert (read.context.user_id, read.context.encounter_id) == (None, None)


def test_no_prefetch_and_an_empty_one_differ() -> None:
    assert parsed(prefetch=...).prefetch is None
    assert parsed(prefetch=None).prefetch is None
    assert parsed(prefetch={}).prefetch == {}


def test_null_is_absent() -> None:
    read = parsed(
        fhirServer=None, fhirAuthorization=None, context={"patientId": "p1", "userId": None, "encounterId": ""}
    )
    assert (read.fhir_server, read.fhir_authorization) == (None, None)
    assert (read.context.user_id, read.context.encounter_id) == (None, None)


def test_unknown_members_are_ignored() -> None:
    read = parsed(extension={"org.example.x": [1]}, more={"deep": [[]]}, context={"patientId": "p1", "new": {"a": 1}})
    assert b'"new"' in read.context.raw


@pytest.mark.parametrize(
    ("written", "patient_id"),
    [("p1", "p1"), ("Patient/p1", "p1"), ("x" * 200, "x" * 200), ("a b", "a b"), ("Grüße", "Grüße"), ("..a", "..a")],
)
def test_patient_ids(written: str, patient_id: str) -> None:
    assert parsed(context={"patientId": written}).context.patient_id == patient_id


@pytest.mark.parametrize(
    "written",
    [
        "",
        " ",
        "Patient/",
        "Observation/1",
        "Patient/a/b",
        "a/../b",
        ".",
        "..",
        "Patient/..",
        "a\nb",
        "a\x7fb",
        "a\u2028b",
        "x" * 513,
        "https://ehr.example/fhir/Patient/1",
    ],
)
def test_patient_ids_that_are_none(written: str) -> None:
    assert "context.patientId" in refusal(context={"patientId": written}).message


def test_members_of_1_0_at_the_root() -> None:
    read = parsed(patient="Patient/p2", user="Practitioner/9", context={"encounterId": "Encounter/e2"}, prefetch=...)
    assert (read.context.patient_id, read.context.user_id, read.context.encounter_id) == ("p2", "Practitioner/9", "e2")
    read = parsed(patient="p2", user="Practitioner/9")
    assert (read.context.patient_id, read.context.user_id) == ("p1", "Practitioner/7")


@pytest.mark.parametrize(
    ("user", "is_patient"),
    [
        ("Patient/1", True),
        ("RelatedPerson/1", True),
        ("Practitioner/1", False),
        ("PractitionerRole/1", False),
        (None, False),
    ],
)
def test_who_is_asking(user: str | None, is_patient: bool) -> None:
    assert parsed(context={"patientId": "p1", "userId": user}).user_is_patient is is_patient


WRONG_TYPES = [
    *[("hook", value) for value in (1, True, {}, [], ["patient-view"])],
    *[("hookInstance", value) for value in (1, 1.5, False, {}, [])],
    *[("fhirServer", value) for value in (1, True, {}, [])],
    *[("fhirAuthorization", value) for value in ("x", 1, True, [])],
    *[("context", value) for value in ("x", 1, True, [])],
    *[("prefetch", value) for value in ("x", 1, True, [])],
    *[(f"context.{name}", value) for name in ("patientId", "userId", "encounterId") for value in (1, True, {}, [])],
    *[
        (f"fhirAuthorization.{name}", value)
        for name in ("access_token", "token_type", "scope", "subject", "patient")
        for value in (1, True, {}, [])
    ],
    *[("fhirAuthorization.expires_in", value) for value in ("300", True, 1.5, {}, [])],
    ("fhirAuthorization.expires_in", 10**40),
]


@pytest.mark.parametrize(("path", "value"), WRONG_TYPES)
def test_every_member_of_the_wrong_type(path: str, value: object) -> None:
    parent, _, name = path.rpartition(".")
    message = refusal(**({parent: call()[parent] | {name: value}} if parent else {path: value})).message
    assert message.startswith(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hook": ...}, "hook must be a non-empty string"),
        ({"hook": "order-sign"}, "hook is not the hook of this service"),
        ({"hookInstance": ...}, "hookInstance must be a non-empty string"),
        ({"hookInstance": ""}, "hookInstance must be a non-empty string"),
        ({"hookInstance": "  "}, "hookInstance must be a non-empty string"),
        ({"hookInstance": "x" * 257}, "hookInstance is longer than 256 characters"),
        ({"hookInstance": "a\nb"}, "hookInstance holds a control character"),
        ({"context": ...}, "context must be a JSON object"),
        ({"context": None}, "context must be a JSON object"),
        ({"context": {}}, "context.patientId must be a non-empty string"),
        ({"fhirServer": ...}, "fhirAuthorization needs fhirServer"),
        ({"fhirServer": "https://ehr.example/a b"}, "fhirServer must be a URL"),
        ({"fhirServer": "x" * 2049}, "fhirServer is longer than 2048 characters"),
        ({"fhirAuthorization": {}}, "fhirAuthorization.access_token must be a non-empty string"),
        ({"fhirAuthorization": AUTHORIZATION | {"access_token": "a b"}}, "fhirAuthorization.access_token must be vis"),
        ({"fhirAuthorization": AUTHORIZATION | {"access_token": "é"}}, "fhirAuthorization.access_token must be visi"),
        ({"fhirAuthorization": AUTHORIZATION | {"access_token": "a\r\nX: y"}}, "fhirAuthorization.access_token holds"),
        ({"fhirAuthorization": AUTHORIZATION | {"token_type": "mac"}}, "fhirAuthorization.token_type must be Bearer"),
        ({"fhirAuthorization": AUTHORIZATION | {"patient": "p2"}}, "fhirAuthorization.patient is not context.patien"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], message: str) -> None:
    error = refusal(**changes)
    assert error.message.startswith(message)
    assert error.status == 400
    assert SECRET not in repr(error)


@pytest.mark.parametrize("patient", ["p1", "Patient/p1", None])
def test_the_token_is_for_the_same_patient(patient: str | None) -> None:
    read = parsed(fhirAuthorization=AUTHORIZATION | {"patient": patient, "token_type": "bearer"})
    assert read.fhir_authorization is not None
    assert read.fhir_authorization.patient == (None if patient is None else "p1")


def test_a_token_with_the_least() -> None:
    read = parsed(fhirAuthorization={"access_token": SECRET})
    assert read.fhir_authorization == request.FhirAuthorization(
        access_token=Token(SECRET), token_type=None, expires_in=None, scope=None, subject=None, patient=None
    )


@pytest.mark.parametrize(
    "body",
    [b"", b"hello", b"[]", b'"hook"', b"null", b"7", b"[" * 10_000, b'{"hook":NaN}', b"\xff", b'{"hook":"\\ud800"}'],
)
def test_a_body_that_is_no_object(body: bytes) -> None:
    with pytest.raises(BadRequest):
        request.parse(body, hook="patient-view")


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ('"hook":', '"hook": "order-sign", "hook":', "the body"),
        ('"patientId":', '"patientId": "p2", "patientId":', "context"),
        ('"labs":', '"patient": null, "labs":', "prefetch"),
        ('"scope":', '"patient": "p1", "patient": "p2", "scope":', "fhirAuthorization"),
        ('"context":', '"context": {"patientId": "p2"}, "context":', "the body"),
    ],
)
def test_duplicate_keys(old: str, new: str, where: str) -> None:
    body = json.dumps(call())
    assert body.count(old) == 1
    with pytest.raises(BadRequest, match=f"^{where} has the same key twice$"):
        request.parse(body.replace(old, new).encode(), hook="patient-view")


def test_a_token_never_shows_itself() -> None:
    token = Token(SECRET)
    shown = [repr(token), str(token), f"{token}", f"{token!r:>40}", f"{token:>40}", repr([token])]
    assert all(SECRET not in text for text in shown)
    assert not hasattr(token, "__dict__")
    for write in (pickle.dumps, json.dumps):
        with pytest.raises(TypeError) as refused:
            write(token)
        assert SECRET not in str(refused.value)
    assert copy.copy(token) is token
    assert copy.deepcopy([token])[0] is token
    assert token == Token(SECRET)
    assert token != Token("other")
    assert token != SECRET
    assert len({token, Token(SECRET)}) == 1


def test_reprs_hold_no_patient_data() -> None:
    read = parsed(context={"patientId": "patient-9", "userId": "Practitioner/nina", "encounterId": "enc-4"})
    text = repr(read) + repr(read.context) + repr(dataclasses.replace(read, hook="x"))
    text += repr(read.fhir_authorization)
    for part in (SECRET, "patient-9", "nina", "enc-4", "resourceType", "ehr.example"):
        assert part not in text


def test_digest_is_of_the_question() -> None:
    first = request.digest(parsed())
    assert len(first) == 64
    assert first == request.digest(parsed(fhirAuthorization=AUTHORIZATION | {"access_token": "another"}))
    assert first == request.digest(parsed(fhirAuthorization=...))
    assert first == request.digest(parsed(prefetch=dict(reversed(call()["prefetch"].items()))))
    others = [
        parsed(hookInstance="2"),
        parsed(fhirServer="https://other.example/fhir"),
        parsed(fhirServer=..., fhirAuthorization=...),
        parsed(context={"patientId": "p1"}),
        parsed(context={"patientId": "p1"}, user="Practitioner/7"),
        parsed(prefetch=...),
        parsed(prefetch={}),
        parsed(prefetch={"labs": None}),
        parsed(prefetch={"patient": None, "labs": None}),
    ]
    digests = {request.digest(other) for other in others}
    assert len(digests) == len(others)
    assert first not in digests
