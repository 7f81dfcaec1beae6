"""What a hook may spend: time on its own clock, reads at once, bytes."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.gateway.budget import BYTES, READS, Budget, Deadline
from app.gateway.errors import TooLarge
from app.plan import plan
from fhir_mappings.codebook import load


class Clock:
    """A monotonic clock that moves when it is told to."""

    def __init__(self) -> None:
        self.moment = 1000.0

    def __call__(self) -> float:
        return self.moment


def test_a_budget_has_the_time_of_its_deadline() -> None:
    clock = Clock()
    budget = Budget(Deadline(2, clock=clock))
    clock.moment += 1.5
    assert budget.remaining() == 0.5


def test_no_time_is_left_after_the_end_and_never_less_than_none() -> None:
    clock = Clock()
    budget = Budget(Deadline(2, clock=clock))
    clock.moment += 60
    assert budget.remaining() == 0.0


def test_a_deadline_knows_how_long_it_was() -> None:
    clock = Clock()
    deadline = Deadline(2, clock=clock)
    clock.moment += 1
    assert deadline.seconds == 2


def test_a_new_budget_has_spent_nothing() -> None:
    budget = Budget(Deadline(2))
    assert (budget.requests, budget.bytes) == (0, 0)


def test_the_last_byte_that_is_allowed_is_allowed() -> None:
    budget = Budget(Deadline(2), bytes=100)
    budget.weigh(60)
    budget.weigh(40)
    assert budget.bytes == 100


def test_one_byte_more_is_too_large() -> None:
    budget = Budget(Deadline(2), bytes=100)
    budget.weigh(100)
    with pytest.raises(TooLarge):
        budget.weigh(1)


def test_without_a_word_a_hook_may_have_64_mib() -> None:
    budget = Budget(Deadline(2))
    budget.weigh(BYTES)
    with pytest.raises(TooLarge):
        budget.weigh(1)
    assert BYTES == 64 * 1024 * 1024


@settings(deadline=None)
@given(sizes=st.lists(st.integers(0, 50), max_size=20), most=st.integers(0, 400))
def test_what_is_too_large_is_told_at_the_byte_that_makes_it_so_and_from_then_on(sizes: list[int], most: int) -> None:
    budget = Budget(Deadline(2), bytes=most)
    total = 0
    for size in sizes:
        total += size
        if total > most:
            with pytest.raises(TooLarge):
                budget.weigh(size)
        else:
            budget.weigh(size)
        assert budget.bytes == total


@pytest.mark.parametrize("reads", [1, 3, READS])
async def test_places_are_as_many_as_reads_may_go_side_by_side(reads: int) -> None:
    budget = Budget(Deadline(2), reads=reads)
    for _ in range(reads):
        assert not budget.places.locked()
        await budget.places.acquire()
    assert budget.places.locked()


def test_without_a_word_the_whole_plan_is_read_side_by_side() -> None:
    assert len(plan(load("observations"), load("ingredients"))) <= READS


async def test_one_budget_takes_nothing_from_another() -> None:
    first, second = Budget(Deadline(2), reads=1, bytes=10), Budget(Deadline(2), reads=1, bytes=10)
    first.weigh(10)
    await first.places.acquire()
    second.weigh(10)
    await asyncio.wait_for(second.places.acquire(), timeout=1)
    assert (first.bytes, second.bytes) == (10, 10)
