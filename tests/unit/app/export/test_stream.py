"""The record as a stream: every row once, whatever the pages; the same again; from where it ended; and only what was
asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from app.export import rows
from app.export.rows import Cursor
from app.store import readonly
from app.store.decisions import Shown, Store
from app.store.doorbook import Refusal
from app.store.errors import BadDatabase
from app.store.feedback import Feedback
from tests import databases
from tests.unit.app.export.record import at, exported, filled, numbered, resources, row

SUGGESTIONS = (numbered(501), numbered(502))


def decided(found: list[rows.Made]) -> list[str]:
    return [one.id for one in found]


async def made(url: str, *, after: Cursor | None = None) -> list[rows.Made]:
    engine = readonly.create(url)
    try:
        pages = rows.made(engine, rows.Window(), after=after or Cursor())
        return [one async for page in pages for one in page]
    finally:
        await engine.dispose()


@pytest.fixture
async def url(tmp_path: Path) -> str:
    """Seven decisions, three of them at the same instant; feedback about two, and three refusals."""
    same = [row(number, created_at=at(3), tenant="north") for number in (3, 4, 5)]
    shown = [row(number, cards=(Shown(numbered(400 + number), "protocol", "info", SUGGESTIONS),)) for number in (1, 7)]
    url = await filled(tmp_path / "decisions.db", [shown[1], row(2), *same, row(6), shown[0]])
    async with Store(url) as store:
        told = [
            Feedback(numbered(407), "accepted", suggestions=SUGGESTIONS[1:]),
            Feedback(numbered(401), "overridden"),
            Feedback(numbered(401), "accepted"),
            Feedback(numbered(401), "accepted", suggestions=SUGGESTIONS, comment="canary-comment"),
            Feedback(numbered(999), "accepted", suggestions=SUGGESTIONS),
        ]
        await store.keep_feedback(told, client="anonymous", tenant="dev", service="any", received_at=at(60))
        for number in (1, 2, 3):
            await store.note_refusal(Refusal(at(number), "signature"))
    return url


async def test_every_row_once_in_the_order_of_time_whatever_the_page(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [numbered(1), numbered(2), *sorted(numbered(n) for n in (3, 4, 5)), numbered(6), numbered(7)]
    whole = await exported(url)
    assert decided(await made(url)) == expected
    for page in (1, 2, 3, 7, 8):
        monkeypatch.setattr(rows, "PAGE", page)
        for statement in ("_KEYS", "_TOLD", "_REFUSED"):
            monkeypatch.setattr(rows, statement, getattr(rows, statement).limit(page))
        assert decided(await made(url)) == expected
        assert resources(await exported(url)) == resources(whole)


async def test_each_cursor_goes_on_behind_its_entry(url: str) -> None:
    whole = await exported(url)
    assert len(whole) == 7 + 2 + 3
    for place, entry in enumerate(whole):
        rest = await exported(url, after=Cursor.read(entry.after.text()))
        expected = [one for one in resources(whole[place + 1 :]) if one["resourceType"] != "Device"]
        assert [one for one in resources(rest) if one["resourceType"] != "Device"] == expected
    assert await exported(url, after=whole[-1].after) == []


async def test_what_is_added_later_is_all_that_comes_then(url: str) -> None:
    last = (await exported(url))[-1].after
    async with Store(url) as store:
        await store.record(row(8))
        entry = Feedback(numbered(401), "accepted", suggestions=SUGGESTIONS[:1])
        await store.keep_feedback([entry], client="anonymous", tenant="dev", service="any", received_at=at(90))
    kinds = [one["resourceType"] for one in resources(await exported(url, after=last))]
    assert [kind for kind in kinds if kind != "Device"] == ["GuidanceResponse", "AuditEvent", "Provenance"]


async def test_only_accepted_suggestions_that_a_card_made_are_provenance(url: str) -> None:
    found = resources(await exported(url, only={"Provenance"}))
    told = {tuple(one["what"]["identifier"]["value"] for one in each["entity"][1:]) for each in found}
    assert told == {
        (f"urn:uuid:{SUGGESTIONS[1]}",),
        (f"urn:uuid:{SUGGESTIONS[0]}", f"urn:uuid:{SUGGESTIONS[1]}"),
    }
    assert "canary-comment" not in str(found)


async def test_a_window_and_a_tenant(url: str) -> None:
    def ids(entries: list[rows.Made] | object) -> set[str]:
        return {one.decision for one in entries if one.decision}  # type: ignore[attr-defined]

    assert ids(await exported(url, since=at(3), until=at(6))) == {numbered(n) for n in (3, 4, 5)}
    assert ids(await exported(url, since=at(7))) == {numbered(7)}
    assert ids(await exported(url, tenant="north")) == {numbered(n) for n in (3, 4, 5)}
    refused = [
        one for one in resources(await exported(url, until=at(3))) if one.get("type", {}).get("code") == "110113"
    ]
    assert len(refused) == 2
    assert [
        one for one in resources(await exported(url, tenant="dev")) if one.get("type", {}).get("code") == "110113"
    ] == []


async def test_the_devices_come_first_and_once(url: str) -> None:
    kinds = [one["resourceType"] for one in resources(await exported(url))]
    assert kinds[:2] == ["Device", "Device"]
    assert kinds.count("Device") == 2


async def test_what_has_no_valid_form_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    """Rows that something else than the service has written: FHIR knows no empty text."""
    path = tmp_path / "decisions.db"
    url = await filled(path, [row(1), row(2, hook_instance=""), row(3)])
    entries = await exported(url)
    assert [(one.decision, list(one.unsaid)) for one in entries if one.unsaid] == [
        (numbered(2), ["GuidanceResponse", "AuditEvent"])
    ]
    assert len([one for one in resources(entries) if one["resourceType"] == "GuidanceResponse"]) == 2


async def test_a_removed_patient_is_told_from_one_that_never_was(tmp_path: Path) -> None:
    url = await filled(tmp_path / "decisions.db", [row(1, patient="p1"), row(2, facts=None, patient=None)])
    async with Store(url) as store:
        await store.remove_patient("p1", tenant="dev")
    first, second = await made(url)
    assert (first.removed, first.patient, first.answer) == (True, None, None)
    assert (second.removed, second.patient, second.answer) == (False, None, b'{"cards":[]}')


async def test_facts_that_cannot_be_read_have_no_encounter(tmp_path: Path) -> None:
    known = b'{"form":2,"facts":{},"asked":{"encounter":"e1"}}'
    rows_ = [row(1, facts=b"\xff"), row(2, facts=known), row(3, facts=b'{"patient":{}}')]
    url = await filled(tmp_path / "decisions.db", rows_)
    assert [one.encounter for one in await made(url)] == [None, "e1", None]


@pytest.mark.parametrize(
    "text", ["x", "///", "//0/0/0", "/a/0/0", "2026-11-01T00:00:00//0/0", "2026-11-01T00:00:00/a/0/0"]
)
def test_what_is_no_cursor(text: str) -> None:
    with pytest.raises(ValueError):
        Cursor.read(text)


def test_a_cursor_is_read_as_it_was_written() -> None:
    for cursor in (Cursor(), Cursor(at(1.5), "x", 3, 4), replace(Cursor(), refusal=9)):
        assert Cursor.read(cursor.text()) == cursor


async def test_a_database_that_breaks_is_said_without_its_address(tmp_path: Path) -> None:
    url = await filled(tmp_path / "decisions.db", [row(1)])
    databases.newest(tmp_path / "decisions.db").execute("alter table decision_cards rename to elsewhere")
    with pytest.raises(BadDatabase) as caught:
        await exported(url)
    assert str(tmp_path) not in str(caught.value)
