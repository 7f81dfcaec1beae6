"""What the gateway does around one request: repetitions, places, the circuit, capabilities, tokens, pages, silence.

Beside test_fhir.py, which has the single answers. The server answers on a MockTransport that counts what it is asked
and how much at once; the circuit breaker and the capability statement run on a clock of ours, and pauses are written
down in place of being waited for.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import json
import logging
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from joserfc.jwk import ECKey

from app.gateway.access import Access
from app.gateway.backend_services import BackendServices, Credentials
from app.gateway.budget import Budget, Deadline
from app.gateway.fhir import KEPT, REFUSED_FOR, TRIED_AGAIN, Fetched, Gateway, Limits, Query

BASE = "https://fhir.example.org/r4"
OTHER = "https://fhir.other.example/r4"
TOKEN_URL = "https://auth.example.org/token"
TOKEN = "secret-token-canary"
PATIENT = "p-canary"
QUERY = Query("Observation", (("patient", PATIENT), ("code", "http://loinc.org|1988-5"), ("_count", "50")))
BROAD = Query(
    "Observation", (("patient", PATIENT), ("code", "1988-5"), ("date", "ge2026"), ("_sort", "-date"), ("_count", "50"))
)
KEY = ECKey.generate_key("P-384")
SHORT = Limits(call_seconds=0.1)

Answer = Callable[[httpx.Request], httpx.Response | Awaitable[httpx.Response]]
sleep = asyncio.sleep


class Clock:
    """A monotonic clock that moves when it is told to."""

    def __init__(self) -> None:
        self.moment = 1000.0

    def __call__(self) -> float:
        return self.moment


class Server(httpx.MockTransport):
    """A server that counts: what it was asked, how much is under way, and the most that ever was."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)  # type: ignore[arg-type]  # takes both kinds of functions
        self.answer = answer
        self.asked: list[httpx.Request] = []
        self.under_way = 0
        self.most = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            response = self.answer(request)
            return await response if inspect.isawaitable(response) else response
        finally:
            self.under_way -= 1

    def times(self, path: str) -> int:
        return sum(request.url.path.endswith(path) for request in self.asked)


class Gate:
    """An answer that is held back until the gate opens."""

    def __init__(self, response: Callable[[], httpx.Response]) -> None:
        self.response = response
        self.open = asyncio.Event()

    async def __call__(self, _: httpx.Request) -> httpx.Response:
        await self.open.wait()
        return self.response()


def bundle(*ids: str, following: str | None = None, **more: Any) -> dict[str, Any]:
    entry = [{"resource": {"resourceType": "Observation", "id": name}, "search": {"mode": "match"}} for name in ids]
    link = [{"relation": "next", "url": following}] if following is not None else []
    return {"resourceType": "Bundle", "type": "searchset", "entry": entry, "link": link, **more}


def found(*ids: str, following: str | None = None, **more: Any) -> httpx.Response:
    return httpx.Response(200, json=bundle(*(ids or ("a",)), following=following, **more))


def statement(**parameters: tuple[str, ...]) -> httpx.Response:
    resources = [
        {"type": kind, "searchParam": [{"name": name} for name in names]} for kind, names in parameters.items()
    ]
    rest = [{"mode": "server", "resource": resources}]
    return httpx.Response(200, json={"resourceType": "CapabilityStatement", "rest": rest})


def in_turn(*answers: httpx.Response | Exception | type[Exception]) -> Answer:
    """These answers one after the other, the last for ever."""
    left = list(answers)

    def answer(_: httpx.Request) -> httpx.Response:
        given = left.pop(0) if len(left) > 1 else left[0]
        if not isinstance(given, httpx.Response):
            raise given if isinstance(given, Exception) else given("https://address-canary")
        return httpx.Response(given.status_code, headers=given.headers, content=given.content)

    return answer


def told(status: int, **headers: str) -> httpx.Response:
    return httpx.Response(status, headers={name.replace("_", "-"): value for name, value in headers.items()})


def ids(fetched: Fetched) -> list[str]:
    return [entry.id for page in fetched.pages for entry in page.entries]


def hook(seconds: float = 5, **more: Any) -> Budget:
    return Budget(Deadline(seconds), **more)


async def read(
    gateway: Gateway, query: Query = QUERY, *, base: str = BASE, budget: Budget | None = None, token: str | None = TOKEN
) -> Fetched:
    return await gateway.fetch(query, base=base, access=Access(token), budget=budget or hook())


async def read_once(
    server: httpx.AsyncBaseTransport,
    query: Query = QUERY,
    *,
    budget: Budget | None = None,
    limits: Limits | None = None,
    token: str | None = TOKEN,
) -> Fetched:
    async with Gateway(server, limits=limits) as gateway:
        return await read(gateway, query, budget=budget, token=token)


async def settled() -> None:
    """Let everybody go on until he waits for somebody else."""
    for _ in range(60):
        await sleep(0)


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses are written down here, and not waited for."""
    written: list[float] = []

    async def pause(seconds: float) -> None:
        written.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", pause)
    return written


# --- one repetition ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first",
    [
        httpx.ConnectError,
        httpx.ConnectTimeout,
        httpx.ReadError,
        httpx.RemoteProtocolError,
        ConnectionResetError,
        told(429),
        told(502),
        told(503),
        told(504),
    ],
)
async def test_what_may_pass_is_asked_once_more(pauses: list[float], first: httpx.Response | type[Exception]) -> None:
    server = Server(in_turn(first, found("a")))
    fetched = await read_once(server)
    assert (fetched.outcome, fetched.why, fetched.requests, len(server.asked)) == ("ok", "", 2, 2)


@pytest.mark.parametrize(
    "status", [201, 204, 301, 304, 400, 401, 403, 404, 405, 409, 410, 412, 422, 451, 500, 501, 505]
)
async def test_what_does_not_pass_is_asked_once(pauses: list[float], status: int) -> None:
    server = Server(in_turn(told(status, retry_after="0")))
    fetched = await read_once(server)
    assert (fetched.outcome, fetched.requests, len(server.asked)) == ("failed", 1, 1)
    assert pauses == []


@pytest.mark.parametrize("error", [httpx.ReadTimeout, httpx.WriteTimeout, httpx.PoolTimeout])
async def test_silence_is_not_asked_again(pauses: list[float], error: type[Exception]) -> None:
    server = Server(in_turn(error))
    assert (await read_once(server)).why == "timeout"
    assert len(server.asked) == 1


@pytest.mark.parametrize(("second", "why"), [(told(503), "server-error"), (httpx.ConnectError, "unreachable")])
async def test_there_is_no_third_time(pauses: list[float], second: httpx.Response | type[Exception], why: str) -> None:
    server = Server(in_turn(told(502), second))
    fetched = await read_once(server)
    assert (fetched.outcome, fetched.why, len(server.asked), len(pauses)) == ("failed", why, 2, 1)


async def test_the_second_error_is_told_with_its_own_status(pauses: list[float]) -> None:
    fetched = await read_once(Server(in_turn(told(503), told(404))))
    assert (fetched.why, fetched.params) == ("not-found", (("status", "404"),))


async def test_the_repetition_is_the_same_request(pauses: list[float]) -> None:
    server = Server(in_turn(told(503), found()))
    await read_once(server)
    first, second = server.asked
    assert (first.method, first.url, first.headers) == (second.method, second.url, second.headers)


async def test_a_search_by_post_is_repeated_with_its_body(pauses: list[float]) -> None:
    server = Server(in_turn(told(503), found()))
    fetched = await read_once(server, limits=Limits(longest_get=10))
    assert fetched.outcome == "ok"
    assert [request.method for request in server.asked] == ["POST", "POST"]
    assert server.asked[0].content == server.asked[1].content
    assert f"patient={PATIENT}".encode() in server.asked[1].content


@pytest.mark.parametrize("longest", [10, 6000], ids=["by post", "by get"])
async def test_what_was_asked_is_noted_once_as_it_was_written(pauses: list[float], longest: int) -> None:
    budget, server = hook(), Server(in_turn(told(503), found("a", following="?page=2"), found("b")))
    fetched = await read_once(server, budget=budget, limits=Limits(longest_get=longest))
    sent = server.asked[0].content or server.asked[0].url.query
    assert fetched.requests == len(server.asked) == 3
    assert budget.asked == [f"Observation?{sent.decode()}"]
    assert f"patient={PATIENT}&code=http://loinc.org%7C1988-5" in httpx.URL(f"{BASE}/{budget.asked[0]}").query.decode()


async def test_a_search_that_was_refused_and_asked_with_less_is_noted_as_it_was_answered() -> None:
    budget = hook()
    fetched = await read_once(Server(in_turn(told(400), found())), BROAD, budget=budget)
    assert (fetched.outcome, fetched.requests) == ("ok", 2)
    assert [set(httpx.URL(one).params) for one in budget.asked] == [
        {"patient", "code", "date", "_sort", "_count"} - set(fetched.unsent)
    ]
    assert fetched.unsent


async def test_a_read_by_id_and_one_that_failed_are_noted_and_one_that_was_not_sent_is_not() -> None:
    budget = hook()
    await read_once(Server(in_turn(told(404))), Query("Patient", id=PATIENT), budget=budget)
    await read_once(Server(in_turn(found())), Query("Obser/vation", (("patient", PATIENT),)), budget=budget)
    await read_once(Server(in_turn(found())), Query("Medication", (("_id", "of-whoever-it-is"),)), budget=budget)
    assert budget.asked == [f"Patient/{PATIENT}"]


async def test_one_that_was_given_up_is_noted() -> None:
    budget, gate = hook(), Gate(found)
    async with Gateway(Server(gate)) as gateway:
        task = asyncio.create_task(read(gateway, budget=budget))
        while not budget.requests:  # noqa: ASYNC110
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert len(budget.asked) == 1


async def test_each_page_may_be_asked_twice(pauses: list[float]) -> None:
    server = Server(in_turn(told(503), found("a", following="?page=2"), told(503), found("b")))
    fetched = await read_once(server)
    assert (fetched.outcome, ids(fetched), fetched.requests) == ("ok", ["a", "b"], 4)


async def test_the_pause_before_it_has_jitter(pauses: list[float]) -> None:
    for _ in range(20):
        await read_once(Server(in_turn(told(503), found())))
    assert len(pauses) == 20
    assert all(0.02 <= pause <= 0.08 for pause in pauses)
    assert len(set(pauses)) > 10


async def test_the_pause_is_what_the_server_names(pauses: list[float]) -> None:
    await read_once(Server(in_turn(told(429, retry_after="3"), found())))
    assert pauses == [3.0]


@pytest.mark.parametrize(("seconds", "requests"), [("4", 2), ("5", 1), ("3600", 1), ("99999999", 1)])
async def test_a_pause_that_does_not_fit_what_is_left_ends_it(pauses: list[float], seconds: str, requests: int) -> None:
    budget = Budget(Deadline(5, clock=Clock()))
    server = Server(in_turn(told(503, retry_after=seconds), found()))
    fetched = await read_once(server, budget=budget)
    assert (len(server.asked), len(pauses)) == (requests, requests - 1)
    assert fetched.why == ("" if requests == 2 else "server-error")


async def test_a_pause_after_which_no_call_would_fit_ends_it(pauses: list[float]) -> None:
    clock = Clock()
    budget = Budget(Deadline(5, clock=clock))

    def answer(_: httpx.Request) -> httpx.Response:
        clock.moment += 4.92
        return told(503)

    server = Server(answer)
    assert (await read_once(server, budget=budget)).why == "server-error"
    assert len(server.asked) == 1


async def test_no_place_is_kept_during_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    budget, locked = hook(reads=1), []

    async def pause(_: float) -> None:
        locked.append(budget.places.locked())

    monkeypatch.setattr(asyncio, "sleep", pause)
    await read_once(Server(in_turn(told(503), found())), budget=budget, limits=Limits(reads=1))
    assert locked == [False]


async def test_a_pause_that_nobody_can_read_does_not_raise(pauses: list[float]) -> None:
    wait = "Wed, 21 Oct 99999999999999999999 07:28:00 GMT"
    fetched = await read_once(Server(in_turn(told(503, retry_after=wait), found())))
    assert fetched.outcome == "ok"


# --- time --------------------------------------------------------------------------------------------------


async def test_one_call_has_its_own_limit() -> None:
    fetched = await read_once(Server(Gate(found)), limits=Limits(call_seconds=0.06))
    assert (fetched.outcome, fetched.why, fetched.requests) == ("failed", "timeout", 1)


@pytest.mark.parametrize(("left", "given"), [(10.0, 1.2), (1.0, 0.98)])
async def test_a_call_has_the_least_of_its_limit_and_what_is_left(left: float, given: float) -> None:
    server = Server(in_turn(found()))
    await read_once(server, budget=Budget(Deadline(left, clock=Clock())))
    assert server.asked[0].extensions["timeout"]["read"] == pytest.approx(given)


async def test_connecting_has_a_limit_of_its_own() -> None:
    server = Server(in_turn(found()))
    await read_once(server, limits=Limits(connect_seconds=0.7))
    assert server.asked[0].extensions["timeout"]["connect"] == 0.7


async def test_with_too_little_left_nothing_is_asked_and_nothing_counted() -> None:
    server = Server(in_turn(found()))
    budget = Budget(Deadline(0.06, clock=Clock()))
    fetched = await read_once(server, budget=budget)
    assert (fetched.why, server.asked) == ("timeout", [])
    assert (fetched.requests, budget.requests) == (0, 0)


async def test_the_deadline_ends_all_reads_of_a_hook_together() -> None:
    server = Server(Gate(found))
    async with Gateway(server) as gateway:
        budget = hook(0.15)
        started = asyncio.get_running_loop().time()
        fetched = await asyncio.gather(*(read(gateway, budget=budget) for _ in range(20)))
        assert asyncio.get_running_loop().time() - started < 3
    assert {one.why for one in fetched} == {"timeout"}
    assert server.under_way == 0


# --- places ------------------------------------------------------------------------------------------------


async def test_a_hook_has_no_more_reads_under_way_than_its_places() -> None:
    gate = Gate(found)
    server = Server(gate)
    async with Gateway(server) as gateway:
        budget = hook(reads=8)
        reads = [asyncio.create_task(read(gateway, budget=budget)) for _ in range(20)]
        await settled()
        assert server.under_way == 8
        gate.open.set()
        fetched = await asyncio.gather(*reads)
    assert [one.outcome for one in fetched] == ["ok"] * 20
    assert (server.most, budget.requests) == (8, 20)


async def test_the_reads_of_a_hook_count_across_servers() -> None:
    gate = Gate(found)
    server = Server(gate)
    async with Gateway(server) as gateway:
        budget = hook(reads=8)
        reads = [asyncio.create_task(read(gateway, base=base, budget=budget)) for base in (BASE, OTHER) * 8]
        await settled()
        assert server.under_way == 8
        gate.open.set()
        await asyncio.gather(*reads)


async def test_a_server_has_no_more_reads_under_way_than_its_places_of_all_hooks_together() -> None:
    gate = Gate(found)
    server = Server(gate)
    async with Gateway(server, limits=Limits(reads=5)) as gateway:
        budgets = [hook() for _ in range(3)]
        reads = [asyncio.create_task(read(gateway, budget=budget)) for budget in budgets * 4]
        await settled()
        assert server.under_way == 5
        gate.open.set()
        fetched = await asyncio.gather(*reads)
    assert [one.outcome for one in fetched] == ["ok"] * 12
    assert server.most == 5


async def test_a_full_server_takes_no_places_of_another() -> None:
    gate = Gate(found)
    server = Server(lambda request: gate(request) if request.url.host == "fhir.example.org" else found())
    async with Gateway(server, limits=Limits(reads=1)) as gateway:
        held = asyncio.create_task(read(gateway))
        await settled()
        assert (await read(gateway, base=OTHER)).outcome == "ok"
        gate.open.set()
        await held


async def test_a_server_that_is_full_until_the_deadline_is_busy_and_not_asked() -> None:
    gate = Gate(found)
    server = Server(gate)
    async with Gateway(server, limits=Limits(reads=1)) as gateway:
        held = asyncio.create_task(read(gateway))
        await settled()
        fetched = await read(gateway, budget=hook(0.06))
        assert (fetched.outcome, fetched.why, fetched.requests) == ("failed", "busy", 0)
        gate.open.set()
        assert (await held).outcome == "ok"
    assert len(server.asked) == 1


async def test_a_server_that_becomes_full_between_pages_leaves_what_came() -> None:
    gate = Gate(found)
    turn = itertools.count()

    async def answer(request: httpx.Request) -> httpx.Response:
        if next(turn) == 0:
            await settled()  # meanwhile the other read queues up for the only place
            return found("a", following="?page=2")
        return await gate(request)

    async with Gateway(Server(answer), limits=Limits(reads=1)) as gateway:
        first = asyncio.create_task(read(gateway, budget=hook(0.3)))
        second = asyncio.create_task(read(gateway))
        fetched = await first
        assert (fetched.outcome, fetched.why, ids(fetched)) == ("partial", "busy", ["a"])
        gate.open.set()
        await second


async def test_waiting_for_ones_own_other_reads_is_a_timeout_and_not_a_busy_server() -> None:
    async with Gateway(Server(Gate(found))) as gateway:
        budget = hook(0.08, reads=1)
        fetched = await asyncio.gather(*(read(gateway, budget=budget) for _ in range(2)))
    assert [one.why for one in fetched] == ["timeout", "timeout"]


async def test_waiting_for_ones_own_place_between_pages_is_said_too() -> None:
    budget = hook(0.2, reads=1)
    others: list[asyncio.Task[Any]] = []

    async def answer(_: httpx.Request) -> httpx.Response:
        others.append(asyncio.create_task(budget.places.acquire()))  # has the hook's only place from now on
        await settled()
        return found("a", following="?page=2")

    fetched = await read_once(Server(answer), budget=budget)
    assert (fetched.outcome, fetched.why, ids(fetched)) == ("partial", "busy", ["a"])
    assert len(others) == 1
    assert await others[0]


@pytest.mark.parametrize("waiting", [1, 2])
async def test_a_cancelled_hook_gives_its_places_back(waiting: int) -> None:
    """Under way or waiting for a place, whoever is cancelled first."""
    gate = Gate(found)
    server = Server(gate)
    async with Gateway(server, limits=Limits(reads=1)) as gateway:
        budget = hook(reads=2)
        tasks = [asyncio.create_task(read(gateway, budget=budget)) for _ in range(2)]
        await settled()
        for task in tasks[-waiting:]:
            await cancelled(task)
        gate.open.set()
        assert (await read(gateway, budget=budget)).outcome == "ok"
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not budget.places.locked()
    assert server.most == 1


# --- the circuit -------------------------------------------------------------------------------------------


async def broken(gateway: Gateway, server: Server, *, base: str = BASE) -> None:
    """Open the circuit of a server by no connections; it answers again afterwards."""
    before, server.answer = server.answer, in_turn(httpx.ConnectError)
    fetched = [await read(gateway, base=base) for _ in range(6)]
    assert fetched[-1].why == "circuit-open"
    server.answer = before


async def test_a_server_that_does_not_answer_is_soon_asked_no_more(pauses: list[float]) -> None:
    server = Server(in_turn(httpx.ConnectError))
    async with Gateway(server, clock=Clock()) as gateway:
        fetched = [await read(gateway) for _ in range(50)]
    assert [(one.why, one.requests) for one in fetched[:5]] == [("unreachable", 2)] * 5
    assert {(one.outcome, one.why, one.requests) for one in fetched[5:]} == {("failed", "circuit-open", 0)}
    assert len(server.asked) == 10


async def test_a_server_that_is_silent_is_soon_asked_no_more() -> None:
    server = Server(Gate(found))
    async with Gateway(server, limits=SHORT, clock=Clock()) as gateway:
        budget = hook()
        first = await asyncio.gather(*(read(gateway, budget=budget) for _ in range(5)))
        second = await read(gateway)
    assert {one.why for one in first} == {"timeout"}
    assert (second.why, len(server.asked)) == ("circuit-open", 5)


async def test_a_hook_that_had_little_time_says_nothing_about_the_server() -> None:
    gate = Gate(found)
    server = Server(gate)
    async with Gateway(server, limits=Limits(call_seconds=5), clock=Clock()) as gateway:
        budget = hook(0.1)
        fetched = await asyncio.gather(*(read(gateway, budget=budget) for _ in range(8)))
        assert {one.why for one in fetched} == {"timeout"}
        gate.open.set()
        assert (await read(gateway)).outcome == "ok"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 412, 301])
async def test_a_server_that_refuses_is_still_asked(status: int) -> None:
    server = Server(in_turn(told(status)))
    async with Gateway(server, clock=Clock()) as gateway:
        for _ in range(30):
            await read(gateway)
    assert len(server.asked) == 30


@pytest.mark.parametrize("body", [b"<html>", b'{"resourceType":"Bundle"', b""])
async def test_a_server_that_answers_nonsense_is_still_asked(body: bytes) -> None:
    server = Server(in_turn(httpx.Response(200, content=body)))
    async with Gateway(server, clock=Clock()) as gateway:
        for _ in range(30):
            await read(gateway)
    assert len(server.asked) == 30


async def test_answers_that_are_too_large_or_packed_oddly_are_answers() -> None:
    def packed(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-encoding": "zstd"}, stream=httpx.ByteStream(b"x"))

    server = Server(packed)
    async with Gateway(server, limits=Limits(bytes=5), clock=Clock()) as gateway:
        assert [(await read(gateway)).why for _ in range(30)] == ["not-fhir-json"] * 30
        server.answer = in_turn(found())
        assert [(await read(gateway)).why for _ in range(30)] == ["too-large"] * 30


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_server_that_says_that_it_cannot_is_asked_no_more_after_twenty_reads(
    pauses: list[float], status: int
) -> None:
    server = Server(in_turn(told(status)))
    async with Gateway(server, clock=Clock()) as gateway:
        fetched = [await read(gateway) for _ in range(40)]
    assert [one.requests > 0 for one in fetched] == [True] * 20 + [False] * 20
    assert fetched[-1].why == "circuit-open"


async def test_one_server_that_is_down_closes_no_door_to_another(pauses: list[float]) -> None:
    server = Server(in_turn(found()))
    async with Gateway(server, clock=Clock()) as gateway:
        await broken(gateway, server)
        assert (await read(gateway)).why == "circuit-open"
        assert (await read(gateway, base=OTHER)).outcome == "ok"


async def test_after_the_pause_one_read_probes_while_the_others_wait_and_then_succeed(pauses: list[float]) -> None:
    clock, gate = Clock(), Gate(found)
    server = Server(gate)
    async with Gateway(server, clock=clock) as gateway:
        await broken(gateway, server)
        clock.moment += 5
        asked, budget = len(server.asked), hook()
        reads = [asyncio.create_task(read(gateway, budget=budget)) for _ in range(12)]
        await settled()
        assert len(server.asked) - asked == 1
        gate.open.set()
        fetched = await asyncio.gather(*reads)
    assert [one.outcome for one in fetched] == ["ok"] * 12
    assert len(server.asked) - asked == 12


async def test_a_probe_that_fails_refuses_the_others_at_once(pauses: list[float]) -> None:
    clock = Clock()
    server = Server(in_turn(httpx.ReadTimeout))
    async with Gateway(server, clock=clock) as gateway:
        await broken(gateway, server)
        clock.moment += 5
        asked = len(server.asked)
        fetched = await asyncio.gather(*(read(gateway) for _ in range(12)))
    assert len(server.asked) - asked == 1
    assert sum(one.why == "circuit-open" and one.requests == 0 for one in fetched) == 11


async def test_a_read_that_waited_for_a_place_while_the_circuit_opened_is_not_asked(pauses: list[float]) -> None:
    gate = Gate(found)
    server = Server(gate)
    async with Gateway(server, limits=Limits(reads=1), clock=Clock()) as gateway:
        first = asyncio.create_task(read(gateway))
        await settled()
        others = [asyncio.create_task(read(gateway)) for _ in range(8)]
        await settled()
        server.answer = in_turn(httpx.ReadTimeout)
        await cancelled(first)
        fetched = await asyncio.gather(*others)
    assert [one.why for one in fetched] == ["timeout"] * 5 + ["circuit-open"] * 3
    assert [one.requests for one in fetched] == [1] * 5 + [0] * 3


@pytest.mark.parametrize("ends", ["cancelled", "asks again"])
async def test_a_read_of_before_the_opening_does_not_meddle_with_the_probe(
    monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    """It still pauses, as its server named a time, when others have found the server dead and a probe is under way."""
    over = asyncio.Event()

    async def pause(seconds: float) -> None:
        await (over.wait() if seconds == 3 else sleep(0))

    monkeypatch.setattr(asyncio, "sleep", pause)
    clock, gate = Clock(), Gate(found)
    server = Server(in_turn(told(503, retry_after="3")))
    async with Gateway(server, clock=clock) as gateway:
        early = asyncio.create_task(read(gateway))
        await settled()
        await broken(gateway, server)
        clock.moment += 5
        server.answer = gate
        later = [asyncio.create_task(read(gateway))]
        await settled()
        if ends == "cancelled":
            early.cancel()
        over.set()
        await settled()
        later.append(asyncio.create_task(read(gateway)))
        await settled()
        assert server.under_way <= 1
        gate.open.set()
        await asyncio.gather(early, *later, return_exceptions=True)
        assert (await read(gateway)).outcome == "ok"


async def test_a_cancelled_probe_leaves_it_to_the_next_hook(pauses: list[float]) -> None:
    clock, gate = Clock(), Gate(found)
    server = Server(gate)
    async with Gateway(server, clock=clock) as gateway:
        await broken(gateway, server)
        clock.moment += 5
        probe = asyncio.create_task(read(gateway))
        await settled()
        waiting = asyncio.create_task(read(gateway))
        await settled()
        await cancelled(probe)
        await settled()
        assert server.under_way == 1
        gate.open.set()
        assert (await waiting).outcome == "ok"


async def test_a_probe_with_little_time_leaves_it_to_the_next_hook(pauses: list[float]) -> None:
    clock, gate = Clock(), Gate(found)
    server = Server(gate)
    async with Gateway(server, clock=clock) as gateway:
        await broken(gateway, server)
        clock.moment += 5
        probe = asyncio.create_task(read(gateway, budget=hook(0.1)))
        await settled()
        waiting = asyncio.create_task(read(gateway))
        assert (await probe).why == "timeout"
        gate.open.set()
        assert (await waiting).outcome == "ok"


async def test_who_waits_for_the_probe_waits_no_longer_than_his_deadline(pauses: list[float]) -> None:
    clock, gate = Clock(), Gate(found)
    server = Server(gate)
    async with Gateway(server, clock=clock) as gateway:
        await broken(gateway, server)
        clock.moment += 5
        probe = asyncio.create_task(read(gateway))
        await settled()
        fetched = await read(gateway, budget=hook(0.06))
        assert (fetched.why, fetched.requests) == ("timeout", 0)
        gate.open.set()
        assert (await probe).outcome == "ok"


async def test_something_unforeseen_does_not_leave_the_circuit_waiting(pauses: list[float]) -> None:
    clock = Clock()
    server = Server(in_turn(found()))
    async with Gateway(server, clock=clock) as gateway:
        await broken(gateway, server)
        clock.moment += 5
        server.answer = in_turn(ZeroDivisionError)
        with pytest.raises(ZeroDivisionError):
            await read(gateway)
        server.answer = in_turn(found())
        assert (await read(gateway)).outcome == "ok"


# --- capabilities ------------------------------------------------------------------------------------------


def declaring(answer: Answer, *, metadata: Answer | None = None) -> Server:
    """A server with a statement of Observation (patient, code) and Condition (subject)."""
    declared = metadata or in_turn(statement(Observation=("patient", "code"), Condition=("subject", "code")))
    return Server(lambda request: (declared if request.url.path.endswith("/metadata") else answer)(request))


def names(request: httpx.Request) -> list[str]:
    return [name for name, _ in request.url.params.multi_items()]


async def test_only_what_the_server_declares_is_sent_and_the_rest_is_named() -> None:
    server = declaring(in_turn(found()))
    async with Gateway(server) as gateway:
        await gateway.meet(BASE, seconds=5)
        fetched = await read(gateway, BROAD)
    assert names(server.asked[-1]) == ["patient", "code", "_sort", "_count"]
    assert (fetched.outcome, fetched.unsent) == ("ok", ("date",))


async def test_a_search_by_patient_becomes_one_by_subject() -> None:
    server = declaring(in_turn(found()))
    async with Gateway(server) as gateway:
        await gateway.meet(BASE, seconds=5)
        fetched = await read(gateway, Query("Condition", (("patient", PATIENT),)))
    assert server.asked[-1].url.params["subject"] == f"Patient/{PATIENT}"
    assert fetched.unsent == ()


async def test_what_the_server_does_not_offer_is_not_asked() -> None:
    server = declaring(in_turn(found()))
    async with Gateway(server) as gateway:
        await gateway.meet(BASE, seconds=5)
        fetched = await read(gateway, Query("Immunization", (("patient", PATIENT),)))
    assert (fetched.outcome, fetched.why, fetched.requests) == ("failed", "not-offered", 0)
    assert server.times("/Immunization") == 0


async def test_a_server_that_was_not_met_is_asked_for_everything() -> None:
    server = declaring(in_turn(found()))
    fetched = await read_once(server, BROAD)
    assert names(server.asked[-1]) == ["patient", "code", "date", "_sort", "_count"]
    assert fetched.unsent == ()
    assert server.times("/metadata") == 0


async def test_the_statement_is_asked_for_without_a_token() -> None:
    server = declaring(in_turn(found()))
    async with Gateway(server) as gateway:
        await gateway.meet(BASE, seconds=5)
    assert str(server.asked[0].url) == f"{BASE}/metadata"
    assert "authorization" not in server.asked[0].headers


async def test_the_statement_is_read_once_for_all_hooks() -> None:
    server = declaring(in_turn(found()))
    async with Gateway(server) as gateway:
        known = await asyncio.gather(*(gateway.meet(BASE, seconds=5) for _ in range(20)))
        known.append(await gateway.meet(BASE, seconds=5))
    assert server.times("/metadata") == 1
    assert {one.takes("Observation", "date") for one in known} == {False}


async def test_each_server_has_a_statement_of_its_own() -> None:
    def metadata(request: httpx.Request) -> httpx.Response:
        return (
            statement(Observation=("patient",)) if request.url.host == "fhir.example.org" else statement(Other=("x",))
        )

    server = declaring(in_turn(found()), metadata=metadata)
    async with Gateway(server) as gateway:
        first, second = await gateway.meet(BASE, seconds=5), await gateway.meet(OTHER, seconds=5)
        assert (first.offers("Observation"), second.offers("Observation")) == (True, False)
        assert await gateway.meet(BASE, seconds=5) is first


async def test_a_statement_is_read_again_after_twelve_hours_while_the_old_one_is_used() -> None:
    clock, gate = Clock(), Gate(lambda: statement(Observation=("patient", "date")))
    turn = itertools.count()
    first = in_turn(statement(Observation=("patient",)))
    server = declaring(in_turn(found()), metadata=lambda request: (first if next(turn) == 0 else gate)(request))
    async with Gateway(server, clock=clock) as gateway:
        await gateway.meet(BASE, seconds=5)
        clock.moment += KEPT - 1
        await gateway.meet(BASE, seconds=5)
        assert server.times("/metadata") == 1
        clock.moment += 1
        assert not (await gateway.meet(BASE, seconds=60)).takes("Observation", "date")
        gate.open.set()
        await settled()
        assert (await gateway.meet(BASE, seconds=5)).takes("Observation", "date")
    assert server.times("/metadata") == 2
    assert KEPT == 12 * 3600


@pytest.mark.parametrize(
    "answer",
    [
        told(401),
        told(403),
        told(404),
        told(500),
        told(302, location=f"{BASE}/elsewhere"),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json={"resourceType": "OperationOutcome"}),
        httpx.Response(200, json={"resourceType": "CapabilityStatement", "rest": 7}),
        httpx.Response(200, content=b" " * 5000),
        httpx.ConnectError,
        httpx.ReadTimeout,
    ],
)
async def test_a_statement_that_cannot_be_read_leaves_searches_whole_and_is_tried_again_later(
    answer: httpx.Response | type[Exception],
) -> None:
    clock = Clock()
    server = declaring(in_turn(found()), metadata=in_turn(answer, statement(Observation=("patient", "code"))))
    async with Gateway(server, clock=clock, limits=Limits(bytes=4000)) as gateway:
        assert (await gateway.meet(BASE, seconds=5)).takes("Observation", "date")
        assert (await read(gateway, BROAD)).unsent == ()
        clock.moment += TRIED_AGAIN - 1
        await gateway.meet(BASE, seconds=5)
        assert server.times("/metadata") == 1
        clock.moment += 1
        await gateway.meet(BASE, seconds=5)  # begun, and not waited for: a hook waits for the first reading only
        assert server.times("/metadata") < 3
        await asyncio.sleep(0.01)
        assert not (await gateway.meet(BASE, seconds=5)).takes("Observation", "date")
    assert server.times("/metadata") == 2


async def test_a_statement_with_a_pause_that_nobody_can_read_is_tried_again_later() -> None:
    clock = Clock()
    wait = "Wed, 21 Oct 99999999999999999999 07:28:00 GMT"
    server = declaring(in_turn(found()), metadata=in_turn(told(503, retry_after=wait)))
    async with Gateway(server, clock=clock) as gateway:
        for _ in range(3):
            await gateway.meet(BASE, seconds=5)
    assert server.times("/metadata") == 1


async def test_a_known_statement_outlives_a_failed_second_reading() -> None:
    clock = Clock()
    server = declaring(in_turn(found()), metadata=in_turn(statement(Observation=("patient",)), told(500)))
    async with Gateway(server, clock=clock) as gateway:
        await gateway.meet(BASE, seconds=5)
        clock.moment += KEPT
        await gateway.meet(BASE, seconds=5)
        await settled()
        assert server.times("/metadata") == 2
        assert not (await gateway.meet(BASE, seconds=5)).takes("Observation", "date")


async def test_a_failed_statement_does_not_open_the_circuit(pauses: list[float]) -> None:
    clock = Clock()
    server = declaring(in_turn(found()), metadata=in_turn(httpx.ConnectError))
    async with Gateway(server, clock=clock) as gateway:
        for _ in range(30):
            await gateway.meet(BASE, seconds=5)
            clock.moment += TRIED_AGAIN
        assert (await read(gateway)).outcome == "ok"


async def test_a_hook_waits_for_a_statement_no_longer_than_told() -> None:
    gate = Gate(lambda: statement(Observation=("patient",)))
    server = declaring(in_turn(found()), metadata=gate)
    async with Gateway(server) as gateway:
        started = asyncio.get_running_loop().time()
        assert (await gateway.meet(BASE, seconds=0.02)).takes("Observation", "date")
        assert asyncio.get_running_loop().time() - started < 2
        assert (await read(gateway, BROAD)).unsent == ()
        gate.open.set()
        await settled()
        assert not (await gateway.meet(BASE, seconds=0)).takes("Observation", "date")
    assert server.times("/metadata") == 1


async def test_a_cancelled_hook_leaves_the_statement_to_the_others() -> None:
    gate = Gate(lambda: statement(Observation=("patient",)))
    server = declaring(in_turn(found()), metadata=gate)
    async with Gateway(server) as gateway:
        first, second = (asyncio.create_task(gateway.meet(BASE, seconds=5)) for _ in range(2))
        await settled()
        await cancelled(first)
        gate.open.set()
        assert not (await second).takes("Observation", "date")
    assert server.times("/metadata") == 1


async def test_a_gateway_that_closes_ends_its_reading_of_a_statement() -> None:
    server = declaring(in_turn(found()), metadata=Gate(found))
    async with Gateway(server) as gateway:
        await gateway.meet(BASE, seconds=0)
        await settled()
        assert server.under_way == 1
    assert server.under_way == 0


async def test_reading_a_statement_takes_no_place_of_a_hook() -> None:
    gate = Gate(lambda: statement(Observation=("patient",)))
    server = declaring(in_turn(found()), metadata=gate)
    async with Gateway(server, limits=Limits(reads=1)) as gateway:
        await gateway.meet(BASE, seconds=0)
        await settled()
        assert (await read(gateway)).outcome == "ok"


# --- a search that is refused as a whole -------------------------------------------------------------------


def strict(*unknown: str) -> Answer:
    """A server that answers 400 to these parameters, as HAPI does."""
    return lambda request: told(400) if set(unknown) & set(names(request)) else found()


async def test_a_refused_search_is_asked_once_more_without_what_is_optional() -> None:
    server = Server(strict("_sort"))
    fetched = await read_once(server, BROAD)
    assert (fetched.outcome, fetched.requests, fetched.unsent) == ("ok", 2, ("date", "_sort"))
    assert names(server.asked[1]) == ["patient", "code", "_count"]


async def test_what_was_refused_is_not_sent_again_to_this_server_for_this_type() -> None:
    server = Server(strict("_sort"))
    async with Gateway(server) as gateway:
        await read(gateway, BROAD)
        second = await read(gateway, BROAD)
        assert (second.outcome, second.requests, second.unsent) == ("ok", 1, ("date", "_sort"))
        other = await read(gateway, Query("Condition", BROAD.params))
        assert (other.requests, len(server.asked)) == (2, 5)


async def test_a_type_that_is_small_is_asked_for_without_its_codes_rather_than_not_at_all() -> None:
    server = Server(strict("code"))
    fetched = await read_once(server, Query("Condition", BROAD.params))
    assert (fetched.outcome, fetched.unsent) == ("ok", ("code", "date", "_sort"))
    assert names(server.asked[1]) == ["patient", "_count"]


async def test_observations_are_never_asked_for_without_their_codes() -> None:
    server = Server(strict("code"))
    assert (await read_once(server, BROAD)).why == "refused"
    assert all("code" in names(request) for request in server.asked)


async def test_what_one_server_refuses_another_is_asked() -> None:
    server = Server(strict("_sort"))
    async with Gateway(server) as gateway:
        await read(gateway, BROAD)
        server.answer = in_turn(found())
        assert (await read(gateway, BROAD, base=OTHER)).unsent == ()


async def test_what_was_refused_is_tried_again_after_a_quarter_of_an_hour() -> None:
    """A 400 may have had a passing cause: nobody shall get broader answers for ever because of it."""
    clock = Clock()
    server = Server(in_turn(httpx.Response(400), found()))
    async with Gateway(server, clock=clock) as gateway:
        await read(gateway, BROAD)
        clock.moment += REFUSED_FOR - 1
        assert "date" in (await read(gateway, BROAD)).unsent
        clock.moment += 1
        assert (await read(gateway, BROAD)).unsent == ()


async def test_two_searches_that_find_out_different_things_keep_both() -> None:
    other = Query("Observation", (("patient", PATIENT), ("code", "1988-5"), ("status", "final")))

    def refusing(request: httpx.Request) -> httpx.Response:
        return httpx.Response(400) if {"date", "status"} & set(names(request)) else found()

    async with Gateway(Server(refusing)) as gateway:
        await asyncio.gather(read(gateway, BROAD), read(gateway, other))
        again = [await read(gateway, query) for query in (BROAD, other)]
    assert [(each.requests, each.outcome) for each in again] == [(1, "ok"), (1, "ok")]


async def test_a_search_that_is_refused_again_is_refused_and_nothing_is_remembered() -> None:
    server = Server(in_turn(told(400)))
    async with Gateway(server) as gateway:
        fetched = await read(gateway, BROAD)
        assert (fetched.outcome, fetched.why, fetched.params) == ("failed", "refused", (("status", "400"),))
        assert fetched.requests == len(server.asked) == 2
        server.answer = in_turn(found())
        assert (await read(gateway, BROAD)).unsent == ()


@pytest.mark.parametrize(
    "query", [QUERY, Query("Observation", id="o1"), Query("Observation", BROAD.params, id="o1"), Query("Observation")]
)
async def test_what_has_nothing_optional_is_refused_at_once(query: Query) -> None:
    server = Server(in_turn(told(400)))
    fetched = await read_once(server, query)
    assert (fetched.why, fetched.requests) == ("refused", 1)


@pytest.mark.parametrize("status", [401, 403, 404, 412, 422, 500])
async def test_only_a_400_is_about_the_parameters(status: int) -> None:
    server = Server(in_turn(told(status)))
    assert (await read_once(server, BROAD)).requests == 1


async def test_a_400_to_a_later_page_is_not_about_the_parameters() -> None:
    server = Server(in_turn(found("a", following="?page=2"), told(400)))
    fetched = await read_once(server, BROAD)
    assert (fetched.outcome, fetched.why, fetched.requests, fetched.unsent) == ("partial", "refused", 2, ())


async def test_a_search_by_post_that_is_refused_is_posted_without_what_is_optional() -> None:
    server = Server(in_turn(told(400), found()))
    fetched = await read_once(server, BROAD, limits=Limits(longest_get=10))
    assert (fetched.outcome, fetched.unsent) == ("ok", ("date", "_sort"))
    assert [b"_sort" in request.content for request in server.asked] == [True, False]


async def test_what_a_server_declares_is_not_left_out_when_it_refuses() -> None:
    """Then the 400 has another cause, and nobody shall get broader answers for it."""
    server = declaring(
        in_turn(told(400), found()), metadata=in_turn(statement(Observation=("patient", "code", "date")))
    )
    async with Gateway(server) as gateway:
        await gateway.meet(BASE, seconds=5)
        assert (await read(gateway, BROAD)).unsent == ("_sort",)
        assert (await read(gateway, QUERY)).unsent == ()


async def test_a_search_of_declared_parameters_alone_is_refused_at_once() -> None:
    server = declaring(in_turn(told(400)))
    async with Gateway(server) as gateway:
        await gateway.meet(BASE, seconds=5)
        fetched = await read(gateway, QUERY)
    assert (fetched.why, fetched.requests) == ("refused", 1)


async def test_a_search_ends_after_the_pages_it_asks_for() -> None:
    server = Server(numbered(lambda n: f"?page={n}"))
    query = Query(QUERY.resource_type, QUERY.params, pages=2)
    fetched = await read_once(server, query)
    assert (fetched.outcome, fetched.why, fetched.requests) == ("partial", "page-limit", 2)


@asynccontextmanager
async def listening(answer: bytes) -> AsyncIterator[str]:
    """A server on a socket that gives everybody this JSON; its address."""

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(answer)
        writer.write(head + answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(served, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_gateway_that_was_closed_opens_its_connections_anew() -> None:
    token = json.dumps({"access_token": "t", "token_type": "bearer", "expires_in": 1, "scope": "system/Patient.rs"})
    gateway = Gateway()
    async with listening(json.dumps(bundle("a")).encode()) as base, listening(token.encode()) as auth:
        own = Credentials("client", f"{auth}/token", "ES384", "k", KEY, scopes=("system/Patient.rs",))
        backend = gateway.backend(own)
        for _ in range(2):
            async with gateway:
                fetched = await gateway.fetch(QUERY, base=base, access=Access(), budget=hook())
                assert ids(fetched) == ["a"]
                assert await backend.token(deadline=Deadline(5), rejected="t") == "t"
            await asyncio.sleep(0.01)


# --- tokens of the service's own ---------------------------------------------------------------------------


def issuing(answer: Answer, *, issue: Answer | None = None) -> Server:
    """A FHIR server, and an authorisation server that gives out token-1, token-2, ..."""
    number = itertools.count(1)

    def token(_: httpx.Request) -> httpx.Response:
        body = {"access_token": f"token-{next(number)}", "token_type": "bearer", "expires_in": 300}
        return httpx.Response(200, json={**body, "scope": "system/*.rs"})

    return Server(lambda request: (issue or token)(request) if str(request.url) == TOKEN_URL else answer(request))


@asynccontextmanager
async def with_backend(server: Server, **more: Any) -> AsyncIterator[tuple[Gateway, BackendServices]]:
    async with Gateway(server, **more) as gateway:
        yield gateway, gateway.backend(Credentials("client-1", TOKEN_URL, "ES384", "kid-1", KEY))


def accepting(*tokens: str) -> Answer:
    """A FHIR server that takes only these tokens."""
    wanted = {f"Bearer {token}" for token in tokens}
    return lambda request: found() if request.headers.get("authorization") in wanted else told(401)


async def test_a_token_of_the_service_is_renewed_once_after_a_401() -> None:
    server = issuing(accepting("token-2"))
    async with with_backend(server) as (gateway, backend):
        access = Access(backend=backend)
        fetched = await gateway.fetch(QUERY, base=BASE, access=access, budget=hook())
    assert (fetched.outcome, fetched.requests, access.mark) == ("ok", 2, "backend")
    assert server.times("/token") == 2


async def test_a_second_401_is_refused_and_never_a_loop() -> None:
    server = issuing(accepting())
    async with with_backend(server) as (gateway, backend):
        fetched = await gateway.fetch(QUERY, base=BASE, access=Access(backend=backend), budget=hook())
    assert (fetched.outcome, fetched.why, fetched.params) == ("failed", "refused", (("status", "401"),))
    assert (fetched.requests, server.times("/Observation"), server.times("/token")) == (2, 2, 2)


async def test_many_reads_that_are_all_answered_401_ask_twice_each_at_most() -> None:
    server = issuing(accepting())
    async with with_backend(server) as (gateway, backend):
        budget, access = hook(), Access(backend=backend)
        fetched = await asyncio.gather(
            *(gateway.fetch(QUERY, base=BASE, access=access, budget=budget) for _ in range(12))
        )
    assert {one.why for one in fetched} == {"refused"}
    assert server.times("/Observation") <= 24
    assert server.times("/token") <= 3


async def test_a_page_answered_401_is_asked_again_with_the_newer_token() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if "page" not in request.url.params:
            return found("a", following="?page=2")
        return accepting("token-2")(request)  # type: ignore[return-value]

    async with with_backend(issuing(answer)) as (gateway, backend):
        fetched = await gateway.fetch(QUERY, base=BASE, access=Access(backend=backend), budget=hook())
    assert (fetched.outcome, len(fetched.pages)) == ("ok", 2)


async def test_the_hooks_own_token_is_not_renewed() -> None:
    server = issuing(accepting())
    async with with_backend(server) as (gateway, backend):
        access = Access(TOKEN, backend=backend)
        fetched = await gateway.fetch(QUERY, base=BASE, access=access, budget=hook())
    assert (fetched.why, fetched.requests, server.times("/token")) == ("refused", 1, 0)


async def test_a_401_without_any_token_is_refused_at_once() -> None:
    server = Server(accepting())
    fetched = await read_once(server, token=None)
    assert (fetched.why, fetched.requests) == ("refused", 1)


async def test_a_403_renews_nothing() -> None:
    server = issuing(in_turn(told(403)))
    async with with_backend(server) as (gateway, backend):
        await gateway.fetch(QUERY, base=BASE, access=Access(backend=backend), budget=hook())
    assert (server.times("/Observation"), server.times("/token")) == (1, 1)


async def test_without_a_token_that_is_needed_nothing_is_asked() -> None:
    server = issuing(in_turn(found()), issue=in_turn(told(400)))
    async with with_backend(server) as (gateway, backend):
        fetched = await gateway.fetch(QUERY, base=BASE, access=Access(backend=backend), budget=hook())
    assert (fetched.outcome, fetched.why, fetched.params) == ("failed", "no-token", (("status", "400"),))
    assert server.times("/Observation") == 0


async def test_a_renewal_that_fails_is_told() -> None:
    number = itertools.count()
    first = issuing(accepting()).answer
    server = issuing(
        accepting(),
        issue=lambda request: told(400) if next(number) else first(request),
    )
    async with with_backend(server) as (gateway, backend):
        fetched = await gateway.fetch(QUERY, base=BASE, access=Access(backend=backend), budget=hook())
    assert (fetched.why, fetched.requests) == ("no-token", 1)


async def test_each_type_goes_with_its_own_token() -> None:
    server = issuing(in_turn(found()))
    async with with_backend(server) as (gateway, backend):
        access = Access(TOKEN, scope="patient/Observation.rs", backend=backend)
        for kind in ("Observation", "Condition"):
            await gateway.fetch(Query(kind, (("patient", PATIENT),)), base=BASE, access=access, budget=hook())
    sent = {r.url.path.rpartition("/")[2]: r.headers["authorization"] for r in server.asked if r.method == "GET"}
    assert sent == {"Observation": f"Bearer {TOKEN}", "Condition": "Bearer token-1"}
    assert access.mark == "hook+backend"


async def test_a_gateway_of_real_connections_opens_and_closes_them() -> None:
    async with Gateway() as gateway:
        gateway.backend(Credentials("client-1", "http://127.0.0.1:9/token", "ES384", "kid-1", KEY))
        backend = gateway.backend(Credentials("client-2", "http://127.0.0.1:9/token", "ES384", "kid-1", KEY))
        fetched = await gateway.fetch(
            QUERY, base="http://127.0.0.1:9/r4", access=Access(backend=backend), budget=hook()
        )
        assert (await gateway.meet("http://127.0.0.1:9/r4", seconds=5)).offers("Observation")
    assert fetched.why == "no-token"


# --- bytes -------------------------------------------------------------------------------------------------


async def test_the_bytes_of_a_hook_are_counted_across_its_reads() -> None:
    size = len(found().content)
    server = Server(in_turn(found()))
    async with Gateway(server) as gateway:
        budget = hook(bytes=2 * size + 10)
        fetched = [await read(gateway, budget=budget) for _ in range(4)]
    assert [one.why for one in fetched] == ["", "", "too-large", "too-large"]
    assert fetched[0].bytes == size


async def test_the_bytes_of_a_hook_are_counted_across_servers_and_pages() -> None:
    size = len(found("a", following="?page=22").content)
    pages = itertools.count(10)
    server = Server(lambda _: found("a", following=f"?page={next(pages)}"))
    async with Gateway(server, limits=Limits(pages=3)) as gateway:
        budget = hook(bytes=5 * size)
        first = await read(gateway, budget=budget)
        second = await read(gateway, base=OTHER, budget=budget)
    assert (first.why, second.why) == ("page-limit", "too-large")
    assert (second.outcome, ids(second)) == ("partial", ["a", "a"])


async def test_one_hook_that_had_all_it_may_leaves_the_next_its_own() -> None:
    server = Server(in_turn(found()))
    async with Gateway(server) as gateway:
        assert (await read(gateway, budget=hook(bytes=1))).why == "too-large"
        assert (await read(gateway)).outcome == "ok"


async def test_the_bytes_of_one_read_have_a_limit_of_their_own() -> None:
    server = Server(in_turn(found()))
    async with Gateway(server, limits=Limits(bytes=10)) as gateway:
        budget = hook()
        fetched = await read(gateway, budget=budget)
    assert (fetched.outcome, fetched.why) == ("failed", "too-large")


async def test_what_a_hook_has_spent_is_the_sum_of_its_reads() -> None:
    server = Server(in_turn(found()))
    async with Gateway(server) as gateway:
        budget = hook()
        fetched = await asyncio.gather(*(read(gateway, budget=budget) for _ in range(10)))
    assert budget.requests == sum(one.requests for one in fetched) == 10
    assert budget.bytes == sum(one.bytes for one in fetched)


# --- links to elsewhere ------------------------------------------------------------------------------------

HOSTILE = [
    "https://evil.example/r4?page=2",
    "https://evil.example",
    "//evil.example/r4?page=2",
    "///evil.example/r4",
    "////evil.example",
    "/\\evil.example",
    "\\\\evil.example\\r4",
    "https:\\\\evil.example",
    "https:/\\evil.example",
    "https:evil.example",
    "https:/evil.example/r4",
    "https:///evil.example/r4",
    "http://fhir.example.org/r4?page=2",
    "http:?page=2",
    "wss://fhir.example.org/r4",
    "ftp://fhir.example.org/r4",
    "file:///etc/passwd",
    "file:?page=2",
    "data:application/fhir+json,{}",
    "javascript:alert(1)",
    "urn:uuid:53fefa32-fcbb-4ff8-8a92-55ee120877b7",
    "https://fhir.example.org:8443/r4?page=2",
    "https://fhir.example.org:80/r4?page=2",
    "https://fhir.example.org:/r4?page=2",
    "https://fhir.example.org:0443x/r4",
    "https://fhir.example.org:99999/r4",
    "https://fhir.example.org.evil.example/r4",
    "https://evil-fhir.example.org/r4",
    "https://evil.fhir.example.org/r4",
    "https://example.org/r4",
    "https://fhir.example.org./r4",
    "https://fhir.example.org@evil.example/r4",
    "https://user@fhir.example.org/r4",
    "https://user:password@fhir.example.org/r4",
    "https://@fhir.example.org/r4",
    "https://fhir.example.org%40evil.example/r4",
    "https://fhir.example.org%2f@evil.example/r4",
    "https://evil.example\\@fhir.example.org/r4",
    "https://evil.example#@fhir.example.org/r4",
    "https://evil.example?@fhir.example.org/r4",
    "https://fhir.example.org;evil.example/r4",
    "https://fhir.example.org,evil.example/r4",
    "https://fhir。example。org/r4",
    "https://fhir\u2024example.org/r4",
    "https://ｆhir.example.org/r4",
    "https://fhir.examp\u200ble.org/r4",
    "https://fhir.ex\u0430mple.org/r4",
    "https://%66hir.example.org/r4",
    "https://127.0.0.1/r4",
    "https://2130706433/r4",
    "https://[::1]/r4",
    "https://[evil/r4",
    "https://fhir.example.org/",
    "https://fhir.example.org/R4?page=2",
    "https://fhir.example.org/r4x?page=2",
    "https://fhir.example.org/other?page=2",
    "https://fhir.example.org/r4/../admin",
    "https://fhir.example.org/r4/../r4/../../admin",
    "https://fhir.example.org/r4/./x",
    "https://fhir.example.org/r4/%2e%2e/admin",
    "https://fhir.example.org/r4/%2E./admin",
    "https://fhir.example.org/r4/..%2fadmin",
    "https://fhir.example.org/r4%2f..%2fadmin",
    "https://fhir.example.org/r4%2fObservation",
    "https://fhir.example.org/r4/..;/admin",
    "https://fhir.example.org/r4/..\\admin",
    "https://fhir.example.org//r4?page=2",
    "https://fhir.example.org/%72%34?page=2",
    "../../admin",
    "../r4x",
    "/admin",
    "/r4/%2e%2e/admin",
    "?page=2#fragment",
    "#fragment",
    " https://fhir.example.org/r4?page=2",
    "https://fhir.example.org/r4?page=2 ",
    "https://fhir.example.org/r4?page=2\r\nX-Injected: yes",
    "https://fhir.example.org\t/r4?page=2",
    "https://fhir.example.org/r4?page=\u0000",
    "ht\ntps://evil.example/r4",
    "?page=ä",
    "https://fhir.example.org/r4?" + "x" * 9000,
    " ",
    "?pa\tge=2",
    "?page=2\r\n",
]


@pytest.mark.parametrize("link", HOSTILE)
async def test_a_link_to_elsewhere_is_not_asked_and_what_came_is_partial(link: str) -> None:
    server = Server(in_turn(found("a", following=link), found("stolen")))
    fetched = await read_once(server)
    assert (fetched.outcome, fetched.why, ids(fetched)) == ("partial", "foreign-next", ["a"])
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "link",
    [
        f"{BASE}?page=2",
        "?page=2",
        "/r4?page=2",
        "/r4/Observation?page=2",
        "Observation?page=2",
        "HTTPS://FHIR.EXAMPLE.ORG:443/r4?page=2",
        "https://fhir.example.org/r4/?page=2",
        "https://fhir.example.org/r4?url=https://evil.example//x&page=2",
        "?url=//evil.example&page=2",
    ],
)
async def test_a_link_below_the_base_is_asked_with_the_token_and_nowhere_else(link: str) -> None:
    server = Server(in_turn(found("a", following=link), found("b")))
    fetched = await read_once(server)
    assert (fetched.outcome, ids(fetched)) == ("ok", ["a", "b"])
    url = server.asked[1].url
    assert (url.scheme, url.host, url.port, url.path[:3]) == ("https", "fhir.example.org", None, "/r4")
    assert server.asked[1].headers["authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", [f"{BASE}/elsewhere", "https://evil.example/", "//evil.example", "/x"])
async def test_a_redirect_is_not_followed_on_the_first_page_nor_later(status: int, location: str) -> None:
    redirect = told(status, location=location, content_location=location, link=f"<{location}>; rel=next")
    for answers in ((redirect,), (found("a", following="?page=2"), redirect)):
        server = Server(in_turn(*answers))
        assert (await read_once(server)).why == "refused"
        assert {request.url.host for request in server.asked} == {"fhir.example.org"}
        assert len(server.asked) == len(answers)


async def test_a_link_header_is_not_a_link() -> None:
    response = found("a")
    response.headers["link"] = f'<{BASE}?page=2>; rel="next"'
    server = Server(in_turn(response))
    assert (await read_once(server)).outcome == "ok"
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "kind", ["", "observation", "Observation/1", "Observation?x", "../x", "Observation\n", "O", "Ä"]
)
async def test_a_type_that_is_none_is_never_sent(kind: str) -> None:
    server = Server(in_turn(found()))
    assert (await read_once(server, Query(kind))).why == "unsafe-request"
    assert server.asked == []


# --- pages without an end ----------------------------------------------------------------------------------


def numbered(following: Callable[[int], str], *, entries: int = 1) -> Answer:
    """A server whose nth answer says what comes next."""
    number = itertools.count(1)

    def answer(_: httpx.Request) -> httpx.Response:
        current = next(number)
        return httpx.Response(
            200, json=bundle(*(f"o{current}-{n}" for n in range(entries)), following=following(current))
        )

    return answer


@pytest.mark.parametrize(
    ("answer", "limits", "why", "requests"),
    [
        pytest.param(numbered(lambda _: "?page=1"), Limits(), "page-loop", 2, id="a page that is its own next"),
        pytest.param(numbered(lambda n: f"?page={n % 2}"), Limits(), "page-loop", 3, id="A, B, A"),
        pytest.param(numbered(lambda n: f"?page={n % 7}"), Limits(), "page-loop", 8, id="a circle of seven"),
        pytest.param(
            numbered(lambda n: [f"{BASE}?page=1", "?page=1", "HTTPS://fhir.example.org:443/r4?page=1"][(n - 1) % 3]),
            Limits(),
            "page-loop",
            2,
            id="the same page under other names",
        ),
        pytest.param(numbered(lambda n: f"?page={n}"), Limits(), "page-limit", 20, id="no end"),
        pytest.param(
            numbered(lambda n: f"?page={n}", entries=0), Limits(pages=6), "page-limit", 6, id="no end, and empty"
        ),
        pytest.param(
            numbered(lambda n: f"?page={n}", entries=30), Limits(entries=100), "entry-limit", 4, id="too many entries"
        ),
        pytest.param(numbered(lambda n: "?" + "x" * n * 400), Limits(bytes=4000), "too-large", 4, id="links that grow"),
    ],
)
async def test_pages_without_an_end_end(answer: Answer, limits: Limits, why: str, requests: int) -> None:
    server = Server(answer)
    fetched = await read_once(server, limits=limits)
    assert (fetched.outcome, fetched.why, fetched.requests, len(server.asked)) == ("partial", why, requests, requests)


async def test_a_page_that_leads_back_to_the_first_ends() -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        return found("a", following=str(server.asked[0].url) if len(server.asked) > 1 else "?p=2")

    server = Server(answer)
    fetched = await read_once(server)
    assert (fetched.outcome, fetched.why, fetched.requests) == ("partial", "page-loop", 2)


async def test_a_page_that_leads_back_to_the_first_ends_after_a_post_too() -> None:
    server = Server(in_turn(found("a", following=f"{BASE}/Observation")))
    fetched = await read_once(server, limits=Limits(longest_get=10))
    assert (fetched.why, fetched.requests) == ("page-loop", 1)


async def test_slow_pages_without_an_end_end_at_the_deadline() -> None:
    pages = itertools.count()

    async def slow(_: httpx.Request) -> httpx.Response:
        await sleep(0.01)
        return found("a", following=f"?page={next(pages)}")

    fetched = await read_once(Server(slow), budget=hook(0.3), limits=Limits(pages=10**6, entries=10**6))
    assert (fetched.outcome, fetched.why) == ("partial", "timeout")
    assert fetched.pages


@pytest.mark.parametrize("links", [[{"relation": "self", "url": "?page=2"}], [{"relation": "next"}], [{"url": "?p=2"}]])
async def test_other_links_lead_nowhere(links: list[dict[str, str]]) -> None:
    server = Server(in_turn(httpx.Response(200, json={**bundle("a"), "link": links})))
    assert (await read_once(server)).outcome == "ok"
    assert len(server.asked) == 1


@pytest.mark.parametrize("severity", ["information", "warning"])
async def test_a_warning_beside_the_results_is_no_failure(severity: str) -> None:
    body = bundle("a")
    issue = {"severity": severity, "code": "informational", "diagnostics": "all is well"}
    body["entry"].append(
        {"resource": {"resourceType": "OperationOutcome", "issue": [issue]}, "search": {"mode": "outcome"}}
    )
    fetched = await read_once(Server(in_turn(httpx.Response(200, json=body))))
    assert (fetched.outcome, fetched.why, ids(fetched)) == ("ok", "", ["a"])


async def test_a_warning_without_results_is_an_empty_answer_and_no_failure() -> None:
    body = bundle()
    issue = {"severity": "warning", "code": "not-found", "diagnostics": "nothing matched"}
    body["entry"].append(
        {"resource": {"resourceType": "OperationOutcome", "issue": [issue]}, "search": {"mode": "outcome"}}
    )
    fetched = await read_once(Server(in_turn(httpx.Response(200, json=body))))
    assert (fetched.outcome, fetched.why) == ("empty", "")


# --- silence about patients and tokens ---------------------------------------------------------------------

CANARIES = (
    TOKEN,
    PATIENT,
    "token-1",
    "body-canary",
    "id-canary",
    "fhir.example.org",
    "auth.example.org",
    "evil.example",
)


@pytest.mark.parametrize(
    "answer",
    [
        found("id-canary"),
        found("id-canary", following="https://evil.example/?p=p-canary"),
        found("id-canary", following="?patient=p-canary"),
        httpx.Response(200, text="<html>body-canary p-canary</html>"),
        httpx.Response(
            200, json={"resourceType": "OperationOutcome", "issue": [{"severity": "error", "diagnostics": PATIENT}]}
        ),
        httpx.Response(403, text="body-canary", headers={"www-authenticate": f"Bearer {TOKEN}"}),
        httpx.Response(401, text="body-canary"),
        httpx.Response(302, headers={"location": f"https://evil.example/{PATIENT}"}),
        httpx.Response(503, text="body-canary", headers={"retry-after": "body-canary"}),
        httpx.ConnectError,
        httpx.ReadTimeout,
    ],
)
async def test_nothing_of_a_patient_or_a_token_reaches_logs_or_reprs(
    caplog: pytest.LogCaptureFixture, pauses: list[float], answer: httpx.Response | type[Exception]
) -> None:
    server = issuing(in_turn(answer))
    with caplog.at_level(logging.DEBUG):
        async with with_backend(server) as (gateway, backend):
            shown = []
            for access in (Access(TOKEN), Access(backend=backend)):
                budget = hook()
                fetched = await gateway.fetch(QUERY, base=BASE, access=access, budget=budget)
                shown += [fetched, access, budget, gateway, backend, fetched.why, fetched.params]
            await gateway.meet(BASE, seconds=1)
    everything = caplog.text + "".join(map(repr, shown))
    assert server.times("/Observation") > 0
    assert [canary for canary in CANARIES if canary in everything] == []


@pytest.mark.parametrize("query", [QUERY, Query("Patient", id="p-canary")])
def test_no_patient_is_in_the_repr_of_a_query(query: Query) -> None:
    assert "p-canary" not in repr(query)


async def test_a_cancelled_read_says_nothing_of_its_request(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(Gate(found))
    with caplog.at_level(logging.DEBUG):
        async with Gateway(server) as gateway:
            task = asyncio.create_task(read(gateway))
            await settled()
            task.cancel()
            try:
                await task
            except asyncio.CancelledError as error:
                trace = "".join(traceback.format_exception(error))
    assert "CancelledError" in trace
    assert [canary for canary in CANARIES if canary in trace + caplog.text] == []


async def test_hooks_of_many_patients_at_once_get_their_own_answers_and_tokens_only() -> None:
    """The server answers with the patient and the token that it was asked with."""

    async def echo(request: httpx.Request) -> httpx.Response:
        await sleep(0)
        patient, token = request.url.params["patient"], request.headers["authorization"].removeprefix("Bearer ")
        return found(f"{patient}.{token}")

    async def one(gateway: Gateway, number: int) -> tuple[int, list[str]]:
        budget, query = hook(), Query("Observation", (("patient", f"p{number}"),))
        fetched = await asyncio.gather(*(read(gateway, query, budget=budget, token=f"t{number}") for _ in range(4)))
        return number, [name for answer in fetched for name in ids(answer)]

    async with Gateway(Server(echo)) as gateway:
        answers = await asyncio.gather(*(one(gateway, number) for number in range(50)))
    assert all(names == [f"p{number}.t{number}"] * 4 for number, names in answers)


async def test_the_statement_of_a_server_says_nothing_of_who_asked_first() -> None:
    server = declaring(in_turn(found()))
    async with Gateway(server) as gateway:
        await read(gateway)
        await gateway.meet(BASE, seconds=5)
    sent = json.dumps([str(server.asked[-1].url), dict(server.asked[-1].headers)])
    assert TOKEN not in sent
    assert PATIENT not in sent
