"""Feedback over HTTP, for the three services: CDS Hooks 2.0.1, "Feedback", and what clients really send.

The standard gives no status codes: 200 with `{}` is this project's contract, also for cards that nobody knows, because
a client that is refused sends the same again or gives up; 400 only where an entry means nothing.
"""

from __future__ import annotations

import io
import json
import logging
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio

from app.observe import logs
from tests import databases
from tests.contract import cds_hooks_oracle as oracle
from tests.contract.order_shapes import NEUTROPENIC, SELECT, SIGN, Json, anakinra, bundle, call
from tests.integration.hospital import FHIR, SERVICE, Hospital, decision, hook, opened

HOOKS = {
    "patient-view": SERVICE,
    SELECT: "anakinra-ruxolitinib-order-select",
    SIGN: "anakinra-ruxolitinib-order-sign",
}
SERVICES = tuple(HOOKS.values())
AT = "2026-11-23T12:01:02Z"
CANARY = "canary4c1d"
HL7 = "http://terminology.hl7.org/CodeSystem/non-adherence-reason-codes"
MODULE = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def hospital(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hospital]:
    async with opened(tmp_path_factory.mktemp("feedback")) as found:
        yield found


@dataclass(frozen=True, slots=True)
class Shown:
    """A card that a call has just been given."""

    service: str
    decision: str
    card: str
    suggestions: tuple[str, ...]


async def shown(hospital: Hospital, service: str = SERVICE, *, patient: str | None = None) -> Shown:
    """A new card of that service: one with suggestions at patient-view, a contraindication at the others."""
    name = next(hook for hook, id_ in HOOKS.items() if id_ == service)
    patient = patient or ("demo-full-protocol" if service == SERVICE else NEUTROPENIC)
    orders = call(name, bundle(anakinra(patient)), patient=patient, fhir=FHIR)
    body = hook(patient) if service == SERVICE else orders
    answer = await hospital.client.post(f"/cds-services/{service}", json=body)
    assert answer.status_code == 200, answer.text
    card = answer.json()["cards"][0]
    made = tuple(suggestion["uuid"] for suggestion in card.get("suggestions", ()))
    return Shown(service, decision(answer)["id"], card["uuid"], made)


def path(service: str) -> str:
    return f"/cds-services/{service}/feedback"


async def send(hospital: Hospital, *entries: Any, service: str = SERVICE) -> httpx.Response:
    return await hospital.client.post(path(service), json={"feedback": list(entries)})


def accepted(card: str, *suggestions: str, **more: Any) -> Json:
    ids = [{"id": one} for one in suggestions]
    return {"card": card, "outcome": "accepted", "acceptedSuggestions": ids, "outcomeTimestamp": AT, **more}


def overridden(card: str, **reason: Any) -> Json:
    """`reason` are the members of overrideReason; none, and it is left out."""
    entry = {"card": card, "outcome": "overridden", "outcomeTimestamp": AT}
    return entry | ({"overrideReason": reason} if reason else {})


def coding(code: str = "patient-contraindication", system: str = HL7, **more: Any) -> Json:
    return {"code": code, "system": system, **more}


def of(hospital: Hospital, card: str) -> list[Json]:
    """What is kept about a card, in the order in which it came."""
    return sorted((row for row in hospital.rows("feedback") if row["card"] == card), key=lambda row: row["id"])


def words_of(hospital: Hospital, card: str) -> list[Json]:
    numbers = {row["id"] for row in of(hospital, card)}
    return [row for row in hospital.rows("feedback_words") if row["feedback_id"] in numbers]


def fine(answer: httpx.Response) -> None:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {}
    assert oracle.feedback(answer.content) == []


def refused(answer: httpx.Response, *statuses: int) -> None:
    assert answer.status_code in statuses, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert oracle.outcome(answer.content) == []
    assert CANARY not in answer.text


# --- what is kept -------------------------------------------------------------------------------------------


@MODULE
@pytest.mark.parametrize("service", SERVICES)
async def test_feedback_is_joined_to_the_decision_that_made_the_card(hospital: Hospital, service: str) -> None:
    card = await shown(hospital, service)
    fine(await send(hospital, overridden(card.card, reason=coding()), service=service))
    (row,) = of(hospital, card.card)
    assert (row["decision_id"], row["service"], row["outcome"]) == (card.decision, service, "overridden")
    assert (row["reason_code"], row["reason_system"]) == ("patient-contraindication", HL7)
    assert row["outcome_at"].replace("T", " ").startswith("2026-11-23 12:01:02")
    (made,) = (row for row in hospital.rows() if row["id"] == card.decision)
    assert made["service"] == service


@MODULE
async def test_an_acceptance_names_its_suggestion_and_no_other(hospital: Hospital) -> None:
    first, second = await shown(hospital), await shown(hospital)
    assert len(first.suggestions) == 2
    foreign = (second.suggestions[0], str(uuid.uuid4()), CANARY, "")
    fine(await send(hospital, accepted(first.card, *foreign, first.suggestions[1])))
    (row,) = of(hospital, first.card)
    assert json.loads(row["suggestions"]) == [1]
    fine(await send(hospital, accepted(second.card, first.suggestions[0])))
    (row,) = of(hospital, second.card)
    assert (row["outcome"], json.loads(row["suggestions"])) == ("accepted", [])


@MODULE
async def test_a_batch_of_several_cards_of_several_calls_and_services(hospital: Hospital) -> None:
    cards = [await shown(hospital, service) for service in (*SERVICES, SERVICE)]
    fine(await send(hospital, *[overridden(card.card, userComment=f"n{n}") for n, card in enumerate(cards)]))
    for number, card in enumerate(cards):
        (row,) = of(hospital, card.card)
        assert row["decision_id"] == card.decision
        assert [words["comment"] for words in words_of(hospital, card.card)] == [f"n{number}"]


@MODULE
async def test_a_repeat_is_kept_once(hospital: Hospital) -> None:
    """In one batch, in a later call, with its members in another order, and from the path of another service."""
    card = await shown(hospital)
    entry = overridden(card.card, reason=coding(), userComment="said once")
    fine(await send(hospital, entry, entry))
    fine(await send(hospital, dict(reversed(entry.items()))))
    fine(await send(hospital, entry, service=SERVICES[2]))
    assert len(of(hospital, card.card)) == 1
    assert len(words_of(hospital, card.card)) == 1


@MODULE
@pytest.mark.parametrize("together", [True, False], ids=["one batch", "two calls"])
async def test_accepted_then_overridden_is_kept_in_that_order(hospital: Hospital, together: bool) -> None:
    card = await shown(hospital)
    outcomes = [accepted(card.card, card.suggestions[0]), overridden(card.card, reason=coding())]
    entries = [one | {"outcomeTimestamp": f"2026-11-01T08:{minute:02}:00Z"} for minute in range(4) for one in outcomes]
    if together:
        fine(await send(hospital, *entries))
    else:
        for entry in entries:
            fine(await send(hospital, entry))
    assert [row["outcome"] for row in of(hospital, card.card)] == ["accepted", "overridden"] * 4


LONG = "x" * 5000
REASONS: dict[str, tuple[Json, str, str]] = {
    "of this card": ({"reason": coding("data-wrong", "urn:oid:2.25.1")}, "data-wrong", "urn:oid:2.25.1"),
    "with a display": ({"reason": coding(display=CANARY)}, "patient-contraindication", HL7),
    "of another system": ({"reason": coding("17", "http://ehr.example/overrides")}, "17", "http://ehr.example/overrides"),
    "without a system": ({"reason": {"code": "17"}}, "17", ""),
    "a display only": ({"reason": {"display": CANARY}}, "", ""),
    "a comment only": ({"userComment": CANARY}, "", ""),
    "both": ({"reason": coding(), "userComment": CANARY}, "patient-contraindication", HL7),
    "none": ({}, "", ""),
    "empty": ({"reason": {}, "userComment": ""}, "", ""),
    "null": ({"reason": None, "userComment": None}, "", ""),
    "more members": ({"reason": coding(version="1"), "extension": {"x": 1}}, "patient-contraindication", HL7),
}  # fmt: skip


@MODULE
@pytest.mark.parametrize("name", REASONS)
async def test_reasons_of_every_kind(hospital: Hospital, name: str) -> None:
    reason, code, system = REASONS[name]
    card = await shown(hospital)
    fine(await send(hospital, overridden(card.card, **reason)))
    (row,) = of(hospital, card.card)
    assert (row["reason_code"], row["reason_system"]) == (code, system)
    kept = CANARY in json.dumps([dict(words) for words in words_of(hospital, card.card)])
    assert kept is (CANARY in json.dumps(reason))


@MODULE
@pytest.mark.parametrize("service", SERVICES)
async def test_a_card_that_nobody_knows_is_kept_as_unmatched(hospital: Hospital, service: str) -> None:
    card = str(uuid.uuid4())
    entry = overridden(card, reason=coding(display=f"{CANARY} display"), userComment=f"{CANARY} comment")
    fine(await send(hospital, entry, service=service))
    (row,) = of(hospital, card)
    assert (row["decision_id"], row["service"], row["outcome"]) == (None, service, "overridden")
    assert words_of(hospital, card) == []  # nobody's words could be removed with a patient's data
    fine(await send(hospital, accepted("no-uuid-at-all", "s"), overridden("urn:x#1/2?3 é")))


@MODULE
@pytest.mark.parametrize("service", SERVICES)
async def test_an_empty_batch_says_nothing(hospital: Hospital, service: str) -> None:
    before = len(hospital.rows("feedback"))
    fine(await send(hospital, service=service))
    assert len(hospital.rows("feedback")) == before


TIMES: dict[str, tuple[Any, str | None]] = {
    "UTC": ("2026-11-23T12:01:02Z", "2026-11-23 12:01:02"),
    "fractions": ("2026-11-23T12:01:02.123456789Z", "2026-11-23 12:01:02"),
    "an offset": ("2026-11-23T14:01:02+02:00", "2026-11-23 12:01:02"),
    "a leap second": ("2026-11-23T12:01:60Z", None),
    "a day": ("2026-11-23", None),
    "no zone": ("2026-11-23T12:01:02", None),
    "milliseconds": (1795435262000, None),
    "words": ("yesterday", None),
    "an empty text": ("", None),
    "null": (None, None),
    "an object": ({}, None),
    "before time": ("0001-01-01T00:00:00+14:00", None),
    "after time": ("9999-12-31T23:59:59-14:00", None),
}


@MODULE
@pytest.mark.parametrize("name", TIMES)
async def test_the_time_of_the_outcome(hospital: Hospital, name: str) -> None:
    """A time that says no instant is kept as none; the entry still says what became of the card."""
    card = await shown(hospital)
    sent, kept = TIMES[name]
    fine(await send(hospital, overridden(card.card) | {"outcomeTimestamp": sent}))
    (row,) = of(hospital, card.card)
    found = None if row["outcome_at"] is None else row["outcome_at"].replace("T", " ")[:19]
    assert found == kept
    assert row["received_at"].startswith("2026-11-23")


@MODULE
async def test_no_time_at_all(hospital: Hospital) -> None:
    card = await shown(hospital)
    fine(await send(hospital, {"card": card.card, "outcome": "accepted"}))
    (row,) = of(hospital, card.card)
    assert (row["outcome"], row["outcome_at"], json.loads(row["suggestions"])) == ("accepted", None, [])


# --- what is refused ----------------------------------------------------------------------------------------

MALFORMED: dict[str, Any] = {
    "no card": {"outcome": "accepted", "outcomeTimestamp": AT, "x": CANARY},
    "an empty card": overridden(""),
    "a null card": overridden("x") | {"card": None},
    "a card that is a number": overridden("x") | {"card": 7},
    "a card that is an object": overridden("x") | {"card": {"id": CANARY}},
    "no outcome": {"card": CANARY, "outcomeTimestamp": AT},
    "an unknown outcome": overridden("x") | {"outcome": CANARY},
    "an outcome in capitals": overridden("x") | {"outcome": "ACCEPTED"},
    "a null outcome": overridden("x") | {"outcome": None},
    "null": None,
    "a text": CANARY,
    "a list": [overridden(CANARY)],
}


@MODULE
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("name", MALFORMED)
async def test_one_malformed_entry_refuses_the_batch_and_nothing_of_it_is_kept(
    hospital: Hospital, name: str, place: int
) -> None:
    good = [overridden(str(uuid.uuid4())), accepted(str(uuid.uuid4()))]
    before = len(hospital.rows("feedback"))
    refused(await send(hospital, *good[:place], MALFORMED[name], *good[place:]), 400)
    assert len(hospital.rows("feedback")) == before


BODIES: dict[str, bytes] = {
    "empty": b"",
    "not JSON": CANARY.encode(),
    "cut": json.dumps({"feedback": [overridden("x")]})[:-1].encode(),
    "an array": json.dumps([overridden("x")]).encode(),
    "one entry without the list": json.dumps(overridden(CANARY)).encode(),
    "no member": b"{}",
    "null": b'{"feedback": null}',
    "an object": json.dumps({"feedback": overridden(CANARY)}).encode(),
    "a member twice": b'{"feedback": [], "feedback": [{"card": "x", "outcome": "accepted"}]}',
    "a card twice": b'{"feedback": [{"card": "x", "card": "canary4c1d", "outcome": "accepted"}]}',
    "NaN": b'{"feedback": [], "x": NaN}',
    "a lone surrogate": b'{"feedback": [{"card": "\\ud800", "outcome": "accepted"}]}',
    "depth 10,000": b'{"feedback": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "UTF-16": json.dumps({"feedback": []}).encode("utf-16"),
}


@MODULE
@pytest.mark.parametrize("name", BODIES)
async def test_bodies_that_are_no_feedback(hospital: Hospital, name: str) -> None:
    before = len(hospital.rows("feedback"))
    headers = {"content-type": "application/json"}
    refused(await hospital.client.post(path(SERVICE), content=BODIES[name], headers=headers), 400)
    assert len(hospital.rows("feedback")) == before


@MODULE
@pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded", CANARY, "application/jsonp"])
async def test_other_media_are_415(hospital: Hospital, media: str) -> None:
    body = json.dumps({"feedback": [overridden("never-kept")]}).encode()
    refused(await hospital.client.post(path(SERVICE), content=body, headers={"content-type": media}), 415)
    assert of(hospital, "never-kept") == []
    utf8 = {"content-type": "application/json; charset=utf-8"}
    fine(await hospital.client.post(path(SERVICE), content=b'{"feedback": []}', headers=utf8))


@MODULE
async def test_a_huge_body_is_413(hospital: Hospital) -> None:
    comment = "x" * (33 * 1024 * 1024)
    refused(await send(hospital, overridden("huge", userComment=comment)), 413)
    assert of(hospital, "huge") == []


@MODULE
async def test_a_huge_batch_and_a_long_comment(hospital: Hospital) -> None:
    card = await shown(hospital)
    refused(await send(hospital, *[overridden(f"many-{n}") for n in range(100_000)]), 400, 413)
    assert of(hospital, "many-0") == []
    fine(await send(hospital, overridden(card.card, userComment=LONG * 10, reason=coding(LONG, LONG, display=LONG))))
    (row,) = of(hospital, card.card)
    (words,) = words_of(hospital, card.card)
    assert LONG not in json.dumps(row)
    assert 0 < len(words["comment"]) <= 10_000


@MODULE
@pytest.mark.parametrize("name", ["canary4c1d", f"{SERVICE}x", "feedback", "%2e%2e", f"{SERVICE}%2f"])
async def test_an_unknown_service_is_404_whatever_is_sent(hospital: Hospital, name: str) -> None:
    before = len(hospital.rows("feedback"))
    for content in (json.dumps({"feedback": [overridden(CANARY)]}).encode(), b"{", b""):
        headers = {"content-type": "application/json"}
        refused(await hospital.client.post(path(name), content=content, headers=headers), 404)
    assert len(hospital.rows("feedback")) == before


# --- the wire -----------------------------------------------------------------------------------------------


@MODULE
@pytest.mark.parametrize("service", SERVICES)
async def test_the_last_slash_is_no_redirect(hospital: Hospital, service: str) -> None:
    card = str(uuid.uuid4())
    fine(await hospital.client.post(path(service) + "/", json={"feedback": [overridden(card)]}))
    assert len(of(hospital, card)) == 1


@MODULE
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("end", ["", "/"])
async def test_other_methods_are_405(hospital: Hospital, method: str, end: str) -> None:
    answer = await hospital.client.request(method, path(SERVICE) + end)
    refused(answer, 405)
    assert "POST" in answer.headers["allow"]


@MODULE
@pytest.mark.parametrize("service", SERVICES)
async def test_the_preflight_of_a_browser(hospital: Hospital, service: str) -> None:
    headers = {
        "origin": "http://localhost:8080",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }
    answer = await hospital.client.options(path(service), headers=headers)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "http://localhost:8080"
    assert "POST" in answer.headers["access-control-allow-methods"]
    allowed = answer.headers["access-control-allow-headers"].lower()
    assert "authorization" in allowed
    assert "content-type" in allowed
    assert "access-control-allow-credentials" not in answer.headers
    foreign = await hospital.client.options(path(service), headers=headers | {"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in foreign.headers


@MODULE
async def test_errors_carry_the_headers_that_let_a_browser_read_them(hospital: Hospital) -> None:
    headers = {"origin": "http://127.0.0.1:9000", "content-type": "application/json"}
    for where, content, status in (
        (path(SERVICE), b'{"feedback": []}', 200),
        (path(SERVICE), b"{", 400),
        (path(CANARY), b"{}", 404),
    ):
        answer = await hospital.client.post(where, content=content, headers=headers)
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == "http://127.0.0.1:9000"
    wrong = await hospital.client.get(path(SERVICE), headers=headers)
    assert (wrong.status_code, wrong.headers["access-control-allow-origin"]) == (405, "http://127.0.0.1:9000")


@MODULE
async def test_feedback_reads_no_server(hospital: Hospital) -> None:
    card = await shown(hospital)
    before = len(hospital.wire.sent)
    fine(await send(hospital, overridden(card.card, reason=coding())))
    assert len(hospital.wire.sent) == before


# --- words about a patient ----------------------------------------------------------------------------------

HOSTILE = f"{CANARY} '); drop table feedback; -- <script>alert(1)</script> \u202e {{}} %s \n\x1b[31m \U0001f600"


def everywhere(hospital: Hospital, needle: str) -> set[str]:
    """The tables that hold the text, in any column and as any bytes."""
    database = databases.newest(hospital.database)
    found = {table: database.rows(f"select * from {table}") for table in database.tables()}  # noqa: S608
    return {
        table
        for table, rows in found.items()
        for row in rows
        for value in row
        if needle.encode() in (value if isinstance(value, bytes) else str(value).encode("utf-8", "replace"))
    }


@contextmanager
def everything_logged() -> Iterator[io.StringIO]:
    """What the service writes at its most talkative; the loggers are as before afterwards."""
    manager = logging.Logger.manager
    known = [logging.getLogger(), *(one for one in manager.loggerDict.values() if isinstance(one, logging.Logger))]
    before = [(one, one.handlers[:], one.level, one.propagate) for one in known]
    stream = io.StringIO()
    logs.configure(level=logging.DEBUG, stream=stream, hooks=False)
    try:
        yield stream
    finally:
        for one, handlers, level, propagate in before:
            one.handlers[:], one.propagate = handlers, propagate
            one.setLevel(level)


@MODULE
@pytest.mark.parametrize("service", SERVICES)
async def test_what_was_typed_stands_in_one_place_and_goes_with_the_patient(hospital: Hospital, service: str) -> None:
    patient = "demo-full-protocol" if service == SERVICE else NEUTROPENIC
    needle = f"needle{uuid.uuid4().hex}"
    with everything_logged() as log:
        card = await shown(hospital, service, patient=patient)
        entry = overridden(
            card.card,
            reason=coding(f"{needle} code", f"{needle} system", display=f"{needle} display"),
            userComment=f"{HOSTILE} {needle}",
        )
        fine(await send(hospital, entry, service=service))
        refused(await send(hospital, entry, {"card": needle}, service=service), 400)
        refused(await hospital.client.post(path(needle), json={"feedback": [entry]}), 404)
        logging.getLogger("app.test").debug("feedback kept")  # the log is open, whether or not the service writes
    assert "feedback kept" in log.getvalue()
    assert needle not in log.getvalue()
    assert CANARY not in log.getvalue()
    assert everywhere(hospital, needle) == {"feedback_words"}
    (words,) = words_of(hospital, card.card)
    assert words["comment"] == f"{HOSTILE} {needle}"

    other = await shown(hospital, service, patient="demo-us-units" if service == SERVICE else "demo-kidney-transplant")
    fine(await send(hospital, overridden(other.card, userComment="stays"), service=service))
    assert await hospital.store.remove_patient(patient, tenant="dev") >= 1
    assert everywhere(hospital, needle) == set()
    assert words_of(hospital, card.card) == []
    (row,) = of(hospital, card.card)  # that it was overridden may be counted
    assert (row["outcome"], row["decision_id"]) == ("overridden", card.decision)
    assert [words["comment"] for words in words_of(hospital, other.card)] == ["stays"]


@MODULE
async def test_odd_ids_of_cards_and_suggestions_are_kept_nowhere_as_they_came(hospital: Hospital) -> None:
    """A client may put a name where an id belongs; what is no token is kept as a digest."""
    needle = f"Mrs. Alder {uuid.uuid4().hex}"
    fine(await send(hospital, accepted(needle, f"{needle} s"), overridden(needle, userComment=needle)))
    assert everywhere(hospital, needle) == set()
    card = await shown(hospital)
    fine(await send(hospital, accepted(card.card, f"{needle} s")))
    assert everywhere(hospital, needle) == set()
