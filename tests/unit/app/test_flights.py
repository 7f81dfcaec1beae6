"""The same request at the same time is answered once."""

from __future__ import annotations

import asyncio

import pytest

from app.flights import Flights


async def test_who_comes_second_waits_for_the_first() -> None:
    made, joined = [], []
    flights = Flights[int](lambda: joined.append(1))

    async def make() -> int:
        made.append(1)
        await asyncio.sleep(0)
        return len(made)

    assert await asyncio.gather(*(flights.result("a", make) for _ in range(5)), flights.result("b", make)) == [2] * 6
    assert (len(made), len(joined)) == (2, 4)
    assert await flights.result("a", make) == 3, "it has landed"


async def test_a_fault_is_everybodys() -> None:
    flights = Flights[int]()

    async def make() -> int:
        await asyncio.sleep(0)
        raise ValueError("no")

    ended = await asyncio.gather(*(flights.result("a", make) for _ in range(3)), return_exceptions=True)
    assert [str(how) for how in ended] == ["no"] * 3


async def test_what_is_under_way_ends_without_who_asked() -> None:
    done = asyncio.Event()
    flights = Flights[int]()

    async def make() -> int:
        await asyncio.sleep(0.01)
        done.set()
        return 1

    asking = asyncio.create_task(flights.result("a", make))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await asyncio.wait_for(done.wait(), 5)
