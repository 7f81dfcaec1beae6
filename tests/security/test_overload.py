"""More calls than places, and one hospital beside another whose server hangs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.security.overload import PLACES, WAITING, beside_a_hanging_one, burst

pytestmark = pytest.mark.no_cover


async def test_what_has_no_place_is_told_to_try_again_and_then_all_is_well(tmp_path: Path) -> None:
    together, after = await burst(tmp_path, times=5)
    statuses = Counter(one.status for one in together)
    assert set(statuses) == {200, 503}
    assert statuses[503] >= len(together) - PLACES - WAITING
    assert all(one.again for one in together if one.status == 503)
    assert [one.status for one in after] == [200] * 3


async def test_a_hospital_that_hangs_does_not_close_the_door_to_another(tmp_path: Path) -> None:
    ended = await beside_a_hanging_one(tmp_path, calls=6, shares=("hangs", "well"), seconds=1.0)
    assert [one.status for one in ended] == [200] * 6


async def test_without_shares_it_would(tmp_path: Path) -> None:
    """What the test above is worth."""
    ended = await beside_a_hanging_one(tmp_path, calls=6, shares=("all",), seconds=1.0)
    assert 503 in {one.status for one in ended}
