"""Hooks for many patients at once: each gets the cards of its own patient, as if it were alone."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.sandbox import patients
from tests.integration.hospital import hook, opened, same_words, settings_for

TIMES = 3
AT_ONCE = 3


@pytest.mark.parametrize("gather", ["parallel", "scope-first"])
@pytest.mark.no_cover
async def test_interleaved_hooks_do_not_mix_patients(tmp_path: Path, gather: Any) -> None:
    (tenant,) = settings_for(tmp_path / "decisions.db").tenants
    tenants = (replace(tenant, gather=gather),)
    names = [story.patient_id for story in patients.STORIES[::3]]
    async with opened(tmp_path, deadline_seconds=120.0, tenants=tenants) as hospital:
        alone = {name: same_words(await hospital.call(hook(name))) for name in names}
        places = asyncio.Semaphore(AT_ONCE)

        async def among_others(name: str) -> tuple[str, list[dict[str, Any]]]:
            async with places:
                answer = await hospital.call(hook(name))
                assert answer.status_code == 200, answer.text
                return name, same_words(answer)

        mixed = random.Random(4).sample(names * TIMES, len(names) * TIMES)
        for name, cards in await asyncio.gather(*map(among_others, mixed)):
            assert cards == alone[name]
        assert len({row["id"] for row in hospital.rows()}) == len(names) * (TIMES + 1)
