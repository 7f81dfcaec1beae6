"""When a server is asked no more, and how it is asked again."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app.gateway.breaker import Breaker, Policy

T = TypeVar("T")


class Clock:
    """A monotonic clock that moves when it is told to."""

    def __init__(self) -> None:
        self.moment = 1000.0

    def __call__(self) -> float:
        return self.moment


class Pause:
    """In place of chance: the part of the way from the shortest to the longest pause, and what was asked for."""

    def __init__(self) -> None:
        self.part = 0.0
        self.asked: list[tuple[float, float]] = []

    def __call__(self, low: float, high: float) -> float:
        self.asked.append((low, high))
        return low + self.part * (high - low)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pause() -> Pause:
    return Pause()


@pytest.fixture
def breaker(clock: Clock, pause: Pause) -> Breaker:
    return Breaker(clock=clock, uniform=pause)


def state_of(breaker: Breaker) -> str:
    """As a plain word, so that a type checker does not take it to stay the same."""
    return breaker.state


async def call(breaker: Breaker, *, failure: bool, silent: bool = False) -> None:
    """One whole call, which has to be admitted."""
    assert await breaker.admit()
    if failure:
        breaker.failed(silent=silent)
    else:
        breaker.answered()


async def opened(breaker: Breaker) -> None:
    """Open it by silence."""
    for _ in range(5):
        await call(breaker, failure=True, silent=True)


async def settled() -> None:
    """Let everybody go on until he waits for somebody else."""
    for _ in range(20):
        await asyncio.sleep(0)


# --- closed -----------------------------------------------------------------------------------------------


async def test_a_new_breaker_lets_every_call_pass(breaker: Breaker) -> None:
    assert [await breaker.admit() for _ in range(100)] == [True] * 100
    assert state_of(breaker) == "closed"


async def test_four_silent_calls_are_not_enough_to_open(breaker: Breaker) -> None:
    for _ in range(4):
        await call(breaker, failure=True, silent=True)
    assert state_of(breaker) == "closed"


async def test_the_fifth_silent_call_in_a_row_opens(breaker: Breaker) -> None:
    await opened(breaker)
    assert state_of(breaker) == "open"
    assert not await breaker.admit()


@pytest.mark.parametrize("failure", [False, True])
async def test_an_answer_of_whatever_kind_breaks_the_row_of_silence(breaker: Breaker, failure: bool) -> None:
    for _ in range(4):
        await call(breaker, failure=True, silent=True)
    await call(breaker, failure=failure)
    for _ in range(4):
        await call(breaker, failure=True, silent=True)
    assert state_of(breaker) == "closed"


async def test_abandoned_calls_neither_break_the_row_nor_belong_to_it(breaker: Breaker) -> None:
    for _ in range(4):
        await call(breaker, failure=True, silent=True)
    for _ in range(50):
        assert await breaker.admit()
        breaker.abandoned()
    assert state_of(breaker) == "closed"
    await call(breaker, failure=True, silent=True)
    assert state_of(breaker) == "open"


async def test_silence_counts_however_long_it_takes(breaker: Breaker, clock: Clock) -> None:
    for _ in range(5):
        clock.moment += 100
        await call(breaker, failure=True, silent=True)
    assert state_of(breaker) == "open"


async def test_nineteen_errors_are_not_enough_to_open(breaker: Breaker) -> None:
    for _ in range(19):
        await call(breaker, failure=True)
    assert state_of(breaker) == "closed"


async def test_twenty_errors_open(breaker: Breaker) -> None:
    for _ in range(20):
        await call(breaker, failure=True)
    assert state_of(breaker) == "open"


@pytest.mark.parametrize(("answers", "state"), [(20, "open"), (21, "closed")])
async def test_half_of_the_calls_have_to_fail(breaker: Breaker, answers: int, state: str) -> None:
    for _ in range(answers):
        await call(breaker, failure=False)
    for _ in range(20):
        await call(breaker, failure=True)
    assert state_of(breaker) == state


async def test_an_answer_never_opens(breaker: Breaker) -> None:
    for _ in range(19):
        await call(breaker, failure=True)
    await call(breaker, failure=False)
    assert state_of(breaker) == "closed"


@pytest.mark.parametrize(("seconds", "state"), [(10.0, "open"), (10.001, "closed")])
async def test_errors_older_than_ten_seconds_are_forgotten(
    breaker: Breaker, clock: Clock, seconds: float, state: str
) -> None:
    for _ in range(19):
        await call(breaker, failure=True)
    clock.moment += seconds
    await call(breaker, failure=True)
    assert state_of(breaker) == state


async def test_answers_older_than_ten_seconds_are_forgotten(breaker: Breaker, clock: Clock) -> None:
    for _ in range(100):
        await call(breaker, failure=False)
    clock.moment += 10.001
    for _ in range(20):
        await call(breaker, failure=True)
    assert state_of(breaker) == "open"


async def test_another_policy_is_followed(clock: Clock, pause: Pause) -> None:
    breaker = Breaker(Policy(in_a_row=1, pause=(7, 9)), clock=clock, uniform=pause)
    await call(breaker, failure=True, silent=True)
    assert state_of(breaker) == "open"
    assert pause.asked == [(7, 9)]


# --- open -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("part", "seconds"), [(0.0, 2.0), (0.5, 3.5), (1.0, 5.0)])
async def test_open_it_refuses_until_a_pause_of_two_to_five_seconds_is_over(
    breaker: Breaker, clock: Clock, pause: Pause, part: float, seconds: float
) -> None:
    pause.part = part
    await opened(breaker)
    clock.moment += seconds - 0.001
    assert not await breaker.admit()
    clock.moment += 0.001
    assert await breaker.admit()
    assert pause.asked == [(2.0, 5.0)]


async def test_a_late_failure_of_an_earlier_call_does_not_prolong_the_pause(breaker: Breaker, clock: Clock) -> None:
    assert await breaker.admit()
    await opened(breaker)
    clock.moment += 1
    breaker.failed(silent=True)
    clock.moment += 1
    assert await breaker.admit()


async def test_a_late_answer_to_an_earlier_call_closes(breaker: Breaker) -> None:
    assert await breaker.admit()
    await opened(breaker)
    breaker.answered()
    assert state_of(breaker) == "closed"
    assert await breaker.admit()


# --- half-open --------------------------------------------------------------------------------------------


async def probing(breaker: Breaker, clock: Clock, *, waiting: int) -> list[asyncio.Task[bool]]:
    """Open, pause over, one probe admitted, and so many that wait for how it ends."""
    await opened(breaker)
    clock.moment += 5
    assert await breaker.admit()
    waiters = [asyncio.create_task(breaker.admit()) for _ in range(waiting)]
    await settled()
    return waiters


async def test_while_the_probe_is_under_way_the_others_wait(breaker: Breaker, clock: Clock) -> None:
    waiters = await probing(breaker, clock, waiting=3)
    assert state_of(breaker) == "half-open"
    assert not any(waiter.done() for waiter in waiters)
    breaker.answered()
    await asyncio.gather(*waiters)


async def test_an_answer_to_the_probe_lets_all_pass(breaker: Breaker, clock: Clock) -> None:
    waiters = await probing(breaker, clock, waiting=3)
    breaker.answered()
    assert await asyncio.gather(*waiters) == [True, True, True]
    assert state_of(breaker) == "closed"


@pytest.mark.parametrize("silent", [True, False])
async def test_a_failed_probe_refuses_all_for_another_pause(breaker: Breaker, clock: Clock, silent: bool) -> None:
    waiters = await probing(breaker, clock, waiting=3)
    breaker.failed(silent=silent)
    assert await asyncio.gather(*waiters) == [False, False, False]
    clock.moment += 1.999
    assert not await breaker.admit()
    clock.moment += 0.001
    assert await breaker.admit()


async def test_an_abandoned_probe_makes_one_of_those_who_wait_the_next(breaker: Breaker, clock: Clock) -> None:
    waiters = await probing(breaker, clock, waiting=3)
    breaker.abandoned()
    await settled()
    assert [waiter.result() for waiter in waiters if waiter.done()] == [True]
    assert state_of(breaker) == "half-open"
    breaker.answered()
    assert await asyncio.gather(*waiters) == [True, True, True]


async def test_an_abandoned_probe_without_anybody_who_waits_makes_the_next_call_the_probe(
    breaker: Breaker, clock: Clock
) -> None:
    await probing(breaker, clock, waiting=0)
    breaker.abandoned()
    assert state_of(breaker) == "open"
    assert await breaker.admit()
    assert state_of(breaker) == "half-open"


async def test_who_is_cancelled_while_he_waits_takes_nobodys_turn(breaker: Breaker, clock: Clock) -> None:
    first, second = await probing(breaker, clock, waiting=2)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    breaker.abandoned()
    assert await second


async def test_who_is_cancelled_at_the_moment_he_would_be_the_probe_is_not(breaker: Breaker, clock: Clock) -> None:
    first, second = await probing(breaker, clock, waiting=2)
    breaker.abandoned()
    first.cancel()
    assert await second
    with pytest.raises(asyncio.CancelledError):
        await first
    assert state_of(breaker) == "half-open"


async def test_after_a_recovery_old_failures_count_no_more(breaker: Breaker, clock: Clock) -> None:
    await probing(breaker, clock, waiting=0)
    breaker.answered()
    for _ in range(4):
        await call(breaker, failure=True, silent=True)
    assert state_of(breaker) == "closed"


async def test_after_a_recovery_the_errors_of_before_are_not_among_the_twenty(breaker: Breaker, clock: Clock) -> None:
    for _ in range(20):
        await call(breaker, failure=True)
    clock.moment += 2
    await call(breaker, failure=False)
    for _ in range(19):
        await call(breaker, failure=True)
    assert state_of(breaker) == "closed"


@pytest.mark.parametrize("ended", ["abandoned", "failed"])
async def test_an_earlier_call_that_ends_during_the_probe_does_not_end_it(
    breaker: Breaker, clock: Clock, ended: str
) -> None:
    """Of two calls under way while open, one is not the probe: its end says nothing about how the probe ends."""
    assert await breaker.admit()
    await opened(breaker)
    clock.moment += 5
    first = asyncio.create_task(breaker.admit())
    await settled()
    if ended == "abandoned":
        breaker.abandoned()
    else:
        breaker.failed(silent=True)
    clock.moment += 5
    second = asyncio.create_task(breaker.admit())
    await settled()
    admitted = [task.done() and task.result() for task in (first, second)]
    for task in (first, second):
        task.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    assert admitted.count(True) <= 1


async def test_without_a_clock_and_chance_of_ours_it_uses_the_real_ones() -> None:
    breaker = Breaker(Policy(in_a_row=1, pause=(0.0, 0.0)))
    await call(breaker, failure=True, silent=True)
    assert await breaker.admit()
    assert state_of(breaker) == "half-open"


# --- any order of events ----------------------------------------------------------------------------------


@dataclass(eq=False)
class Call:
    """A call under way; `probe` while it is the one that decides."""

    probe: bool


class Calls(RuleBasedStateMachine):
    """Calls begin, wait, end and are cancelled in any order, against a model that counts everything anew each time."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock, self.pause = Clock(), Pause()
        self.breaker = Breaker(clock=self.clock, uniform=self.pause)
        self.under_way: list[Call] = []
        self.waiters: list[asyncio.Task[bool]] = []
        self.counted: list[tuple[float, bool]] = []
        self.silent = 0
        self.open_until = 0.0

    def teardown(self) -> None:
        for waiter in self.waiters:
            waiter.cancel()
        self.run(asyncio.gather(*self.waiters, return_exceptions=True) if self.waiters else settled())
        self.loop.close()

    def run(self, work: Any) -> Any:
        async def waited() -> Any:
            return await work

        return self.loop.run_until_complete(waited())

    def settle(self) -> None:
        """Everybody goes on as far as he can; who is admitted is under way."""
        self.run(settled())
        ended, self.waiters = [w for w in self.waiters if w.done()], [w for w in self.waiters if not w.done()]
        for waiter in ended:
            if waiter.result():
                self.under_way.append(Call(probe=state_of(self.breaker) == "half-open"))

    def begin(self) -> asyncio.Task[bool]:
        work: Coroutine[Any, Any, bool] = self.breaker.admit()
        task = self.loop.create_task(work)
        self.waiters.append(task)
        self.settle()
        return task

    def has_opened(self) -> None:
        self.open_until = self.clock.moment + 2 + 3 * self.pause.part
        self.counted.clear()
        self.silent = 0

    def end(self, call: Call, how: str) -> None:
        before = state_of(self.breaker)
        self.under_way.remove(call)
        if how == "answered":
            self.breaker.answered()
            assert state_of(self.breaker) == "closed"
            self.silent = 0
            if before == "closed":
                self.counted.append((self.clock.moment, False))
            else:
                self.counted.clear()
            for other in self.under_way:
                other.probe = False
        elif how == "abandoned":
            self.breaker.abandoned()
            assert (state_of(self.breaker) == "closed") == (before == "closed")
        else:
            self.breaker.failed(silent=how == "silent")
            if before == "closed":
                self.counted.append((self.clock.moment, True))
                self.silent = self.silent + 1 if how == "silent" else 0
                recent = [failed for moment, failed in self.counted if moment >= self.clock.moment - 10]
                too_many = len(recent) >= 20 and 2 * sum(recent) >= len(recent)
                assert (state_of(self.breaker) == "open") == (too_many or self.silent >= 5)
            else:
                assert state_of(self.breaker) != "closed"
            if state_of(self.breaker) == "open" and (before == "closed" or call.probe):
                self.has_opened()
        self.settle()

    @rule()
    def a_call_begins(self) -> None:
        before = state_of(self.breaker)
        task = self.begin()
        if before == "closed":
            assert task.done()
            assert task.result(), "refused while closed"
        elif before == "open":
            assert task.done(), "waits though nobody probes"
            if self.clock.moment < self.open_until:
                assert not task.result(), "asked before the pause was over"
            elif not self.under_way:
                assert task.result(), "refused though the pause is over"

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), how=st.sampled_from(["answered", "abandoned", "error", "silent"]))
    def a_call_ends(self, data: st.DataObject, how: str) -> None:
        self.end(data.draw(st.sampled_from(self.under_way)), how)

    @precondition(lambda self: self.waiters)
    @rule(data=st.data())
    def one_who_waits_is_cancelled(self, data: st.DataObject) -> None:
        waiter = data.draw(st.sampled_from(self.waiters))
        self.waiters.remove(waiter)
        waiter.cancel()
        self.settle()
        assert waiter.cancelled()

    @rule(
        outcomes=st.lists(st.sampled_from(["answered", "error", "error", "silent", "abandoned"]), max_size=30),
        seconds=st.sampled_from([0.0, 0.1, 0.5]),
    )
    def many_calls_come_one_after_the_other(self, outcomes: list[str], seconds: float) -> None:
        for how in outcomes:
            if state_of(self.breaker) != "closed":
                return
            self.begin()
            self.end(self.under_way[-1], how)
            self.clock.moment += seconds

    @rule(kept=st.integers(0, 2))
    def the_server_falls_silent(self, kept: int) -> None:
        """Five times in a row, with some calls of before still under way."""
        if state_of(self.breaker) != "closed":
            return
        for _ in range(kept):
            self.begin()
        for _ in range(5):
            if state_of(self.breaker) == "closed":
                self.begin()
                self.end(self.under_way[-1], "silent")
        assert state_of(self.breaker) == "open"

    @rule(seconds=st.sampled_from([0.001, 0.5, 1.2, 2.0, 5.0, 10.0, 60.0]), part=st.sampled_from([0.0, 0.3, 1.0]))
    def time_goes_by(self, seconds: float, part: float) -> None:
        self.clock.moment += seconds
        self.pause.part = part

    @rule()
    def everything_ends_and_the_server_recovers(self) -> None:
        while self.under_way:
            self.end(self.under_way[0], "abandoned")
        self.clock.moment += 5
        task = self.begin()
        assert task.done()
        assert task.result(), "not asked again after the pause"
        self.end(self.under_way[-1], "answered")

    @invariant()
    def one_probe_at_most_is_under_way(self) -> None:
        if state_of(self.breaker) != "closed":
            assert sum(call.probe for call in self.under_way) <= 1

    @invariant()
    def nobody_waits_unless_a_probe_is_under_way(self) -> None:
        assert not self.waiters or any(call.probe for call in self.under_way)

    @invariant()
    def half_open_means_that_a_probe_is_under_way(self) -> None:
        assert (state_of(self.breaker) == "half-open") == any(call.probe for call in self.under_way)


TestCalls = Calls.TestCase
TestCalls.settings = settings(
    max_examples=50, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
