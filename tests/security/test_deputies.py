"""Nobody acts for somebody else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.clients import Client
from tests.integration.hospital import Hospital
from tests.security.deputies import cases, chosen, two_hospitals, wrong


@pytest.fixture
async def hospitals(tmp_path: Path) -> AsyncIterator[Hospital]:
    async with two_hospitals(tmp_path) as found:
        yield found


def test_the_matrix_has_every_kind_of_answer() -> None:
    every = list(cases())
    assert {case.expected for case in every} == {200, 400, 401, 403}
    assert len(every) == len({repr(case) for case in every}) == 448
    assert {case.expected for case in chosen(percent=25)} == {200, 400, 401, 403}


@pytest.mark.no_cover
async def test_only_who_belongs_together_is_answered(hospitals: Hospital) -> None:
    assert [f"{case}: {fault}" for case in chosen(percent=25) if (fault := await wrong(hospitals, case))] == []


@pytest.mark.no_cover
async def test_a_client_that_is_let_too_far_would_be_seen(hospitals: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the check above is worth: with a door that believes any tenant it finds faults."""
    monkeypatch.setattr(Client, "tenant_of", lambda _, claim: claim if claim in {"north", "south"} else "south")
    assert any([await wrong(hospitals, case) for case in chosen(percent=25)])
