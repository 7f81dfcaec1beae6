"""The sieve: documents taken apart without reading the resources."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_mappings.errors import Unreadable
from fhir_mappings.sieve import Entry, page


def document(**members: Any) -> bytes:
    return json.dumps(members).encode()


def bundle(*entries: Any, **more: Any) -> bytes:
    return document(resourceType="Bundle", type="searchset", entry=list(entries), **more)


CRP = {"resourceType": "Observation", "id": "a"}


def outcome(**issue: Any) -> dict[str, Any]:
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def test_a_bundle() -> None:
    found = page(
        bundle(
            {"fullUrl": "https://a.example/Observation/a", "resource": CRP, "search": {"mode": "match"}},
            {"resource": {"resourceType": "Medication", "id": "m"}, "search": {"mode": "include"}},
            {"resource": {"resourceType": "Observation"}},
            total=7,
            link=[{"relation": "self", "url": "s"}, {"relation": "next", "url": "n"}],
        )
    )
    assert (found.resource_type, found.total, found.next, found.matches) == ("Bundle", 7, "n", 2)
    assert found.entries[0] == Entry(
        json.dumps(CRP).encode(), "Observation", "a", "https://a.example/Observation/a", "match"
    )
    assert [(e.resource_type, e.id, e.mode) for e in found.entries[1:]] == [
        ("Medication", "m", "include"),
        ("Observation", "", ""),
    ]
    assert not found.failed
    assert not found.results_dropped


def test_empty_answers() -> None:
    assert page(b" null ").resource_type == ""
    assert page(document(resourceType="Bundle")).entries == ()
    assert page(bundle({"request": {"method": "DELETE"}}, {"resource": None})).entries == ()
    assert page(bundle(link=[{"relation": "next"}])).next is None


def test_a_single_resource() -> None:
    raw = document(resourceType="Patient", id="p", link=[{"other": {}}], total="x")
    assert page(raw).entries == (Entry(raw, "Patient", "p"),)


@pytest.mark.parametrize(
    ("issue", "dropped"),
    [
        ({"severity": "warning", "code": "incomplete"}, True),
        ({"severity": "information", "code": "suppressed"}, True),
        ({"severity": "warning", "code": "processing", "diagnostics": "The result was truncated at 500"}, True),
        ({"severity": "warning", "code": "processing", "details": {"text": "Not all results are shown"}}, True),
        ({"severity": "warning", "code": "processing", "diagnostics": "Unknown parameter _foo ignored"}, False),
        ({"severity": "information", "code": "informational"}, False),
    ],
)
def test_outcomes_that_say_that_results_were_left_out(issue: dict[str, Any], dropped: bool) -> None:
    for raw in (document(**outcome(**issue)), bundle({"resource": outcome(**issue)}, {"resource": CRP})):
        found = page(raw)
        assert found.issues == ((issue["severity"], issue["code"], dropped),)
        assert (found.results_dropped, found.failed) == (dropped, False)
        assert all(entry.resource_type == "Observation" for entry in found.entries)


@pytest.mark.parametrize("severity", ["error", "fatal"])
def test_outcomes_that_fail(severity: str) -> None:
    assert page(document(**outcome(severity=severity, code="forbidden"))).failed


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b'"x"',
        b"{}",
        b'{"resourceType": 7}',
        b'{"resourceType": "Bundle", "entry": 7}',
        b'{"resourceType": "Bundle", "total": "many"}',
        b'{"resourceType": "Bundle", "entry": [{"resource": 7}]}',
        b'{"resourceType": "OperationOutcome", "issue": 7}',
        b"\xff\xfe{}",
        b'{"resourceType": "\xff"}',
        b"[" * 200_000,
        b'{"resourceType": "Bundle", "entry": ' + b"[" * 200_000,
        b'{"resourceType": "\\ud800"}',
        b'{"resourceType":"Patient","x":' * 200_000,
    ],
)
def test_what_is_no_fhir_document(raw: bytes) -> None:
    with pytest.raises(Unreadable, match="FHIR resource"):
        page(raw)


@given(st.binary(max_size=40))
def test_no_bytes_break_it(raw: bytes) -> None:
    try:
        page(raw)
    except Unreadable:
        return


def test_an_entry_prints_nothing_of_what_it_holds() -> None:
    (entry,) = page(b'{"resourceType":"Patient","id":"id-canary"}').entries
    assert repr(entry) == "Entry(Patient, 43 bytes)"
