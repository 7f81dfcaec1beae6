"""The machinery of the mutated requests, and a thousand of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest
import pytest_asyncio

from tests.property.size import examples
from tests.security import mutations
from tests.security.mutations import AROUND, BYTES, CANARY, TREE, Answer, Request, Seed, Tally, Tree
from tests.security.mutations import _seed as seed_of

pytestmark = pytest.mark.no_cover

MODULE = pytest.mark.asyncio(loop_scope="module")
BODY = {
    "hook": "patient-view",
    "context": {"patientId": "p", "userId": "Practitioner/u"},
    "prefetch": {
        "patient": {"resourceType": "Patient", "id": "p", "birthDate": "1960-01-01"},
        "labs": {"entry": [{"resource": {"resourceType": "Observation", "valueQuantity": {"value": 5, "unit": "mg"}}}]},
    },
}


def plain() -> Seed:
    return seed_of("plain", path=mutations.PATH, body=BODY)


async def test_a_thousand_mutated_requests() -> None:
    """All sizes begin with the same requests; `python -m tests.security.mutations NUMBER` shows one of them."""
    figures = await mutations.run(size="small")
    assert figures.held, "\n".join(f"{row.what}: {row.number}" for row in figures.rows if not row.held)


# --- the changes


@pytest.mark.parametrize("name", TREE)
def test_every_change_of_the_tree_changes_it_and_not_the_seed(name: str) -> None:
    seed, changed = plain(), set()
    for number in range(40):
        tree = Tree(seed, Random(number))
        try:
            TREE[name](tree)
        except LookupError:
            continue
        changed.add(tree.written())
    assert seed.body == BODY
    assert len(changed - {json.dumps(BODY).encode(), json.dumps(BODY, indent=1).encode()}) > 2


@pytest.mark.parametrize("name", BYTES)
def test_every_change_of_the_bytes_changes_them(name: str) -> None:
    body = json.dumps(BODY).encode()
    assert any(BYTES[name](body, Random(number)) != body for number in range(20))


@pytest.mark.parametrize("name", AROUND)
def test_every_change_around_the_body_leaves_it(name: str) -> None:
    for number in range(20):
        request = asked_for(b"{}")
        before = str(request)
        AROUND[name](request, Random(number))
        assert request.body == b"{}"
        if str(request) != before:
            return
    pytest.fail("nothing was changed")


def test_what_no_value_stands_for_is_written() -> None:
    tree = Tree(plain(), Random(0))
    tree.set(("hook",), tree.literal("1e999"))
    tree.marks = 1
    tree.root["\ue0011\ue001context"] = 7
    text = tree.written().decode()
    assert text.startswith('{"hook": 1e999, "context": {')
    assert text.endswith(', "context": 7}')


def test_a_place_that_is_gone_is_said() -> None:
    tree = Tree(plain(), Random(0))
    tree.set(("context",), ["x"])
    for place in (("context", "patientId"), ("context", 1), ("prefetch", "labs", "entry", 7), ("hook", 0, 0)):
        with pytest.raises(LookupError):
            tree.get(place)
    assert tree.get(("context", 0)) == "x"


def test_a_number_makes_the_same_request() -> None:
    seeds = (plain(), seed_of("other", path="/x", body={"feedback": [{"card": "c"}]}))
    made = [mutations.request_of(number, seeds) for number in range(300)]
    assert made == [mutations.request_of(number, seeds) for number in range(300)]
    assert len({request.body for request in made}) > 200
    assert len({step for request in made for step in request.steps}) > 30


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def service() -> AsyncIterator[tuple[tuple[Seed, ...], Any]]:
    """The requests to begin with, and the application."""
    async with mutations.hospital() as (found, app):
        yield await mutations.seeds_of(found), app


@MODULE
async def test_the_seeds_are_what_clients_send(service: tuple[tuple[Seed, ...], Any]) -> None:
    """Unchanged, each is answered as it should be: two clicks on a tab are 400, and who sends nothing gets a 412."""
    seeds, app = service
    assert len(seeds) >= 20
    assert {seed.path for seed in seeds} == {
        f"/cds-services/{service}{end}" for service in mutations.SERVICES.values() for end in ("", "/feedback")
    }
    statuses: list[int] = []
    for seed in seeds:
        request = asked_for(json.dumps(seed.body).encode(), path=seed.path)
        answer = await mutations.asked(app, request)
        assert mutations.complaints(request, answer) == [], seed.name
        statuses.append(answer.status)
    assert sorted(status for status in statuses if status != 200) == [400, 400, 412]


@MODULE
async def test_a_few_of_the_rest(service: tuple[tuple[Seed, ...], Any]) -> None:
    """Other numbers than those of the report, by RESCUE_CDS_EXAMPLES."""
    (seeds, app), tally = service, Tally()
    await mutations.tried(app, range(5_000_000, 5_000_000 + examples(400)), seeds=seeds, tally=tally)
    assert tally.wrong == []


# --- what is wrong with an answer


def asked_for(body: bytes, *, path: str = mutations.PATH, method: str = "POST") -> Request:
    return Request(0, "plain", method, path.encode(), body, [(b"content-type", b"application/json")])


def outcome(text: str = "no", **more: Any) -> bytes:
    issue = [{"severity": "error", "code": "invalid", "diagnostics": text}]
    return json.dumps({"resourceType": "OperationOutcome", "issue": issue, **more}).encode()


JSON = [(b"content-type", b"application/json")]
SAID = b'{"cards": [], "extension": {"org.rescue-cds.decision": {"id": "x", "outcome": "not-met"}}}'
FINE: dict[str, tuple[Answer, str]] = {
    "no cards": (Answer(200, JSON, bytearray(SAID)), "POST"),
    "a refusal": (Answer(400, JSON, bytearray(outcome())), "POST"),
    "overloaded": (Answer(503, JSON, bytearray(outcome())), "POST"),
    "who is not known gets no words": (Answer(401, [], bytearray()), "POST"),
    "a head": (Answer(200, JSON, bytearray()), "HEAD"),
    "a text": (Answer(200, [(b"content-type", b"text/plain; charset=utf-8")], bytearray(b"x")), "GET"),
}
WRONG: dict[str, tuple[Answer, str]] = {
    "a fault": (Answer(500, JSON, bytearray(outcome())), "POST"),
    "no answer": (Answer(), "POST"),
    "a redirect": (Answer(307, [(b"location", b"/x")], bytearray()), "POST"),
    "an echo": (Answer(400, JSON, bytearray(outcome(CANARY))), "POST"),
    "an echo in a header": (Answer(404, [*JSON, (b"x", CANARY.encode())], bytearray(outcome())), "POST"),
    "an echo to who is not known": (Answer(401, [(b"x", CANARY.encode())], bytearray()), "POST"),
    "the token": (Answer(400, JSON, bytearray(outcome(mutations.TOKEN))), "POST"),
    "a text for a refusal": (Answer(400, [(b"content-type", b"text/plain")], bytearray(b"no")), "GET"),
    "no JSON": (Answer(200, JSON, bytearray(b'{"cards": [NaN]}')), "POST"),
    "no UTF-8": (Answer(200, JSON, bytearray(b'{"cards": ["\xff"]}')), "POST"),
    "an array": (Answer(200, JSON, bytearray(b"[]")), "POST"),
    "FastAPI's own refusal": (Answer(422, JSON, bytearray(b'{"detail": [{"input": 1}]}')), "POST"),
    "nothing": (Answer(200, JSON, bytearray(b"{}")), "POST"),
    "which silence?": (Answer(200, JSON, bytearray(b'{"cards": []}')), "POST"),
    "a card that is none": (Answer(200, JSON, bytearray(SAID.replace(b"[]", b'[{"summary": "x"}]'))), "POST"),
    "an empty refusal": (Answer(400, JSON, bytearray()), "POST"),
}


@pytest.mark.parametrize("name", FINE)
def test_what_is_fine_is_not_complained_about(name: str) -> None:
    answer, method = FINE[name]
    assert mutations.complaints(asked_for(b"{}", method=method), answer) == []


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_seen(name: str) -> None:
    answer, method = WRONG[name]
    assert mutations.complaints(asked_for(b"{}", method=method), answer) != []


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [(500, b"{}", "status 500"), (200, b"{}", "neither cards"), (0, b"", "RuntimeError came out")],
)
async def test_a_service_that_fails_is_found_out(status: int, body: bytes, said: str) -> None:
    tally = Tally()
    await mutations.tried(_answering(status, body), range(20), seeds=(plain(),), tally=tally, stop_at=5)
    assert len(tally.wrong) == 5
    assert any(said in one for one in tally.wrong)


def _answering(status: int, body: bytes) -> Any:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0)
        if not status:
            raise RuntimeError
        await send({"type": "http.response.start", "status": status, "headers": JSON})
        await send({"type": "http.response.body", "body": body})

    return application
