from __future__ import annotations

import pytest

from cds_hooks import prefetch
from cds_hooks.request import Context


def context(user_id: str | None = None, encounter_id: str | None = None) -> Context:
    return Context(patient_id="p1", user_id=user_id, encounter_id=encounter_id, raw=b"{}")


def test_token_values() -> None:
    assert prefetch.token_values(context()) == {"context.patientId": "p1"}
    assert prefetch.token_values(context("Practitioner/7", "e1")) == {
        "context.patientId": "p1",
        "context.encounterId": "e1",
        "context.userId": "Practitioner/7",
        "userPractitionerId": "7",
    }
    assert prefetch.token_values(context("PractitionerRole/8"))["userPractitionerRoleId"] == "8"
    assert "userPractitionerId" not in prefetch.token_values(context("PractitionerRole/8"))


def test_render() -> None:
    values = {"context.patientId": "p1", "userPractitionerId": "7", "context.userId": "Practitioner/7"}
    assert prefetch.render("Patient/{{context.patientId}}", values=values) == "Patient/p1"
    template = "Observation?patient={{ context.patientId }}&performer={{context.userId}}&code=http://loinc.org|1"
    expected = "Observation?patient=p1&performer=Practitioner/7&code=http://loinc.org|1"
    assert prefetch.render(template, values=values) == expected
    assert prefetch.render("Practitioner/{{userPractitionerId}}", values=values) == "Practitioner/7"


def test_render_lets_no_value_change_the_query() -> None:
    rendered = prefetch.render("Observation?patient={{context.patientId}}", values={"context.patientId": "a&b=c#d?e%"})
    assert rendered == "Observation?patient=a%26b%3Dc%23d%3Fe%25"


@pytest.mark.parametrize("template", ["Patient/{{context.other}}", "Patient/{{}}", "Patient/{{%patient.id}}"])
def test_render_refuses_a_token_without_value(template: str) -> None:
    with pytest.raises(ValueError, match="no value for the prefetch token"):
        prefetch.render(template, values={"context.patientId": "p1"})


PATIENT = b'{"resourceType":"Patient","id":"1"}'


@pytest.mark.parametrize(
    ("raw", "inner"),
    [
        (b"null", None),
        (b" null\n", None),
        (PATIENT, PATIENT),
        (b"[1]", b"[1]"),
        (b'"response"', b'"response"'),
        (b'{"response":{"status":"200 OK"},"resource":' + PATIENT + b"}", PATIENT),
        (b' {"resource": ' + PATIENT + b' , "response":{}}', PATIENT),
        (b'{"response":{"status":"404"},"resource":null}', None),
        (b'{"response":{"status":"404"}}', None),
        (b'{"resourceType":"Bundle","response":1}', b'{"resourceType":"Bundle","response":1}'),
        (b'{"note":"\\"response\\""}', b'{"note":"\\"response\\""}'),
        (b'{"x":["response"]}', b'{"x":["response"]}'),
        (b'{"response":', b'{"response":'),
        (b'{"response":' + b"[" * 100_000, b'{"response":' + b"[" * 100_000),
        (b"", b""),
    ],
)
def test_unwrap(raw: bytes, inner: bytes | None) -> None:
    assert prefetch.unwrap(raw) == inner


@pytest.mark.parametrize(
    "template",
    [
        "Patient/{{context.patientId}}",
        "Practitioner/{{userPractitionerId}}",
        "Observation?patient={{context.patientId}}",
        "Observation?patient=Patient/{{context.patientId}}&category=laboratory&_sort=-date&_count=200",
        "Observation?patient={{context.patientId}}&code=http://loinc.org|2160-0,http://loinc.org|718-7&date=ge2026-01-01",
        "Condition?patient={{context.patientId}}&code:in=http://example.org/ValueSet/x&_sort=-onset-date,_id",
    ],
)
def test_templates_that_every_client_can_run(template: str) -> None:
    prefetch.validate_template(template)


@pytest.mark.parametrize(
    "template",
    [
        "",
        "Patient",
        "patient/1",
        "Patient/",
        "Patient/a/b",
        "Patient/{{context.patientId}}/$everything",
        "Observation?",
        "?patient={{context.patientId}}",
        "http://x.example/Patient/{{context.patientId}}",
        "http://x.example?patient=1",
        "Observation?patient",
        "Observation?patient=",
        "Observation?patient={{context.patientId}}&",
        "Observation?patient={{context.patientId}}&patient=1",
        "Observation?patient={{context.patientId}}&code=1&code:in=2",
        "Observation?patient={{context.patientId}}&encounter={{context.encounterId}}",
        "Observation?patient={{context.draftOrders}}",
        "Observation?patient={{userId}}",
        "Observation?patient={{context.patientId",
        "Observation?date=ge{{today()}}",
        "MedicationRequest?patient=1&_include=MedicationRequest:medication",
        "Patient?_has:Observation:patient:code=1",
        "Observation?patient.name=x",
        "Observation?code:not=1",
        "Observation?code:text=x",
        "Observation?status:missing=true",
        "Observation?patient=1&_lastUpdated=gt2026",
        "Observation?patient=1&date=ne2026-01-01",
        "Observation?patient=1&date=sa2026",
        "Observation?patient=1&_count=0",
        "Observation?patient=1&_count=all",
        "Observation?patient=1&_sort=desc date",
        "Observation?patient=1&sort:desc=date",
        "Observation?patient=1&code=a b",
        "Observation?patient=1&code=ä",
        "Observation?patient=1&code=a=b",
    ],
)
def test_templates_that_some_clients_cannot_run(template: str) -> None:
    with pytest.raises(ValueError):
        prefetch.validate_template(template)
