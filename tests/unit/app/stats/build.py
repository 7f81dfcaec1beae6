"""Rows and stores for the tests of the statistics."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from app.stats import names
from app.stats.names import Names
from app.stats.sheets import Cell, sheets
from app.stats.summary import Decided, Summary
from app.store.decisions import Decision, Shown
from app.store.feedback import Feedback
from tests import databases
from tests.unit.app.bundles import bedside
from tests.unit.app.store.test_store import KNOWLEDGE, decision, opened

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
PATIENT_VIEW = "anakinra-ruxolitinib-patient-view"
ORDER_SIGN = "anakinra-ruxolitinib-order-sign"


@cache
def known() -> Names:
    return names.of(bedside())


def decided(outcome: str = "card", **changes: Any) -> Decided:
    return Decided(**({"at": NOW, "service": PATIENT_VIEW, "outcome": outcome} | changes))


def protocol(verdict: str, *, scope: str = "in", **criteria: str) -> dict[str, Any]:
    """One protocol of a decision; criteria with _ for -."""
    return {
        "verdict": verdict,
        "scope": scope,
        "criteria": {name.replace("_", "-"): finding for name, finding in criteria.items()},
    }


def table(summary: Summary, name: str) -> list[dict[str, Cell]]:
    """The records of a sheet."""
    [found] = [sheet for sheet in sheets(summary) if sheet.name == name]
    return list(found.records())


def card(name: str = "protocol", indicator: str = "info") -> Shown:
    return Shown(str(uuid.uuid4()), name, indicator, ("s",))


def made(outcome: str = "card", **changes: Any) -> Decision:
    return decision(**({"id": str(uuid.uuid4()), "created_at": NOW, "outcome": outcome} | changes))


def url(path: Path) -> str:
    return databases.at_first_start(path).url


async def filled(
    path: Path, decisions: Iterable[Decision] = (), *, told: Mapping[str, Iterable[Feedback]] | None = None
) -> str:
    """A store with these decisions and, by the client's service, this feedback; its address."""
    async with opened(path) as store:
        await store.keep_knowledge(KNOWLEDGE, b"files")
        for one in decisions:
            await store.record(one)
        for service, entries in (told or {}).items():
            await store.keep_feedback(entries, client="ehr", tenant="hospital", service=service, received_at=NOW)
    return url(path)
