"""A record with every outcome in it, made by the service itself in front of the sandbox, and one made by hand."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from app.export.elements import Json
from app.export.rows import Made, Window
from app.export.stream import Entry, Stream
from app.settings import Snooze
from app.store import readonly
from app.store.decisions import Decision, Store
from app.store.doorbook import Refusal
from tests import databases
from tests.integration import hospital
from tests.integration.hospital import NOW, Hospital, hook, ordering
from tests.integration.test_orders import draft, pair
from tests.unit.app.store.test_store import KNOWLEDGE, decision

MET = "demo-full-protocol"
OPEN = "demo-no-ferritin"
REMOVED = "demo-kilopascal"
"""Of this patient the data are removed again."""

SPACE = UUID("7a1c2f60-0b0e-4f7e-9d53-2f6f3c8f1a55")


async def every_outcome(folder: Path) -> str:
    """The address of a record that holds each outcome, orders, feedback, refusals and a removal."""
    async with hospital.opened(folder) as ward:
        for patient in ("demo-full-protocol", "demo-no-ferritin", "demo-medications-refused", "demo-day-7"):
            await ward.post(_at(patient))
        for patient in ("demo-crp-100", "demo-adolescent", "demo-ward", "demo-deceased", REMOVED):
            await ward.post(_at(patient))
        await ward.post(hook(MET, user=f"Patient/{MET}"))
        await ward.post(hook(MET, fhir=None))
        await ward.post(ordering(MET, *pair("demo-ward"), hook="order-sign"))
        await ward.post(ordering(MET, *pair(), hook="order-sign"))
        answer = await ward.post(ordering("demo-day-7", *pair("demo-day-7", mg=600), hook="order-sign"))
        await accept(ward, answer.json()["cards"])
        answer = await ward.post(ordering("demo-day-7", draft("fluconazole", "demo-day-7"), hook="order-select"))
        await accept(ward, (await ward.post(_at(MET))).json()["cards"])
        await ward.store.remove_patient(REMOVED, tenant="dev")
        await ward.store.note_refusal(Refusal(NOW, "signature", client="ehr", token="a" * 64))
        await ward.store.note_refusal(Refusal(NOW, "fhir-server", client="ehr", service=hospital.SERVICE, times=7))
        await ward.store.note_refusal(Refusal(NOW, "unknown-issuer"))
    async with hospital.opened(folder, silent=frozenset({"pilot-simple", "pilot-full", "order-checks"})) as ward:
        await ward.post(_at(MET))
        await ward.post(_at(OPEN))
    async with hospital.opened(folder, silenced=frozenset({"all"})) as ward:
        await ward.post(_at(MET))
    async with hospital.opened(folder, silenced=frozenset({"order-checks"})) as ward:
        await ward.post(ordering(MET, *pair(mg=600), hook="order-sign"))
    async with hospital.opened(folder, snooze=Snooze()) as ward:
        await ward.post(_at(OPEN))
        await ward.post(_at(OPEN))
    return hospital.settings_for(folder / "decisions.db").db


def _at(patient: str) -> dict[str, Any]:
    body = hook(patient)
    body["context"]["encounterId"] = f"{patient}-encounter-1"
    return body


async def accept(ward: Hospital, cards: Iterable[dict[str, Any]]) -> None:
    """Tell the service that all suggestions of these cards were accepted."""
    for card in cards:
        offered = [{"id": one["uuid"]} for one in card.get("suggestions", ())]
        entry = {"card": card["uuid"], "outcome": "accepted", "acceptedSuggestions": offered}
        entry["outcomeTimestamp"] = "2026-11-23T12:05:00Z"
        answer = await ward.client.post(f"{hospital.PATH}/feedback", json={"feedback": [entry]})
        assert answer.status_code == 200


async def exported(url: str, **choice: Any) -> list[Entry]:
    """The entries of an export; `choice` are the members of Window, or `after` and `only`."""
    stream = {name: choice.pop(name) for name in ("after", "only") if name in choice}
    engine = readonly.create(url)
    try:
        return [entry async for entry in Stream(engine, Window(**choice), **stream).entries()]
    finally:
        await engine.dispose()


def resources(entries: Iterable[Entry]) -> list[Json]:
    return [one for entry in entries for one in entry.resources]


# --- by hand -------------------------------------------------------------------------------------------------


def numbered(number: int) -> str:
    """An id that is the same in every run."""
    return str(uuid5(SPACE, str(number)))


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def row(number: int = 1, **changes: Any) -> Decision:
    """A decision to keep."""
    made: dict[str, Any] = {
        "id": numbered(number),
        "created_at": at(number),
        "versions": {"service": "0.1.0", "knowledge": "pilot-simple 0.1.0"},
        "gaps": [],
        "verdicts": {},
        "hook_instance": numbered(10_000 + number),
    }
    return decision(**(made | changes))


async def filled(path: Path, decisions: Iterable[Decision]) -> str:
    url = databases.newest(path).url
    async with Store(url) as store:
        await store.keep_knowledge(KNOWLEDGE, b"files")
        for one in decisions:
            await store.record(one)
    return url


def made(outcome: str = "card", **changes: Any) -> Made:
    """A row as the export reads it."""
    values: dict[str, Any] = {
        "id": numbered(1),
        "created_at": NOW,
        "client": "ehr",
        "tenant": "north",
        "service": hospital.SERVICE,
        "hook": "patient-view",
        "hook_instance": numbered(10_001),
        "knowledge_hash": KNOWLEDGE,
        "outcome": outcome,
        "versions": {"service": "0.1.0", "knowledge": "pilot-simple 0.1.0"},
        "verdicts": {},
        "gaps": [],
        "reading": {},
        "timing": {},
        "patient": "p1",
    }
    return Made(**(values | changes))
