"""Places for calls: how many at once, who waits, and that one hospital leaves room for another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from app.places import Places
from cds_hooks.errors import Unavailable


@asynccontextmanager
async def held(places: Places, *tenants: str) -> AsyncIterator[None]:
    """Calls that do not end."""
    async with AsyncExitStack() as stack:
        for tenant in tenants:
            await stack.enter_async_context(places.taking(tenant))
        yield


async def test_beyond_the_places_and_the_queue_it_is_said_at_once() -> None:
    said: list[str] = []
    places = Places(at_once=2, waiting=0, tenants=["a"], turned_away=said.append)
    async with held(places, "a", "a"):
        assert places.taken == 2
        with pytest.raises(Unavailable) as caught:
            async with places.taking("a"):
                pass
    assert (caught.value.status, caught.value.code, said) == (503, "throttled", ["queue"])
    assert (places.taken, places.waiting) == (0, 0)
    async with held(places, "a", "a"):
        pass


async def test_who_waits_gets_the_place_that_is_freed() -> None:
    places = Places(at_once=1, waiting=1, tenants=["a"], wait_seconds=30)
    order: list[str] = []

    async def second() -> None:
        async with places.taking("a"):
            order.append("second")

    async with held(places, "a"):
        waiting = asyncio.create_task(second())
        await asyncio.sleep(0)
        assert places.waiting == 1
        order.append("first")
    await waiting
    assert order == ["first", "second"]
    assert (places.taken, places.waiting) == (0, 0)


async def test_nobody_waits_for_ever() -> None:
    said: list[str] = []
    places = Places(at_once=1, waiting=1, tenants=["a"], wait_seconds=0.01, turned_away=said.append)
    async with held(places, "a"):
        with pytest.raises(Unavailable):
            async with places.taking("a"):
                pass
    assert said == ["waited"]
    assert places.waiting == 0


async def test_who_gave_up_is_no_longer_counted_as_waiting() -> None:
    told: list[tuple[int, int]] = []
    places = Places(
        at_once=1,
        waiting=1,
        tenants=["a"],
        wait_seconds=0.01,
        changed=lambda taken, waiting: told.append((taken, waiting)),
    )
    async with held(places, "a"):
        with pytest.raises(Unavailable):
            async with places.taking("a"):
                pass
        assert told == [(1, 0), (1, 1), (1, 0)]


async def test_a_call_that_fails_or_is_cancelled_gives_its_place_back() -> None:
    places = Places(at_once=1, waiting=0, tenants=["a"])
    with pytest.raises(ZeroDivisionError):
        async with places.taking("a"):
            raise ZeroDivisionError
    hanging = asyncio.create_task(held(places, "a").__aenter__())
    await hanging
    assert places.taken == 1

    async def forever() -> None:
        async with Places(at_once=1, waiting=0, tenants=["a"]).taking("a"):
            await asyncio.Event().wait()

    task = asyncio.create_task(forever())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_hospital_that_hangs_leaves_the_others_their_share() -> None:
    places = Places(at_once=12, waiting=0, tenants=["a", "b", "c"])
    async with held(places, *["a"] * 8):  # its own share of two, and the six that are nobody's
        with pytest.raises(Unavailable):
            async with places.taking("a"):
                pass
        async with held(places, "b", "b", "c", "c"):
            assert places.taken == 12
            for tenant in "abc":
                with pytest.raises(Unavailable):
                    async with places.taking(tenant):
                        pass


async def test_alone_a_hospital_has_all_of_them() -> None:
    places = Places(at_once=3, waiting=0, tenants=["a"])
    async with held(places, "a", "a", "a"):
        assert places.taken == 3


async def test_fewer_places_than_hospitals_are_still_places() -> None:
    places = Places(at_once=1, waiting=0, tenants=["a", "b", "c"])
    async with held(places, "c"):
        assert places.taken == 1
