"""Feedback: kept once, joined to its decision, and gone with the patient's data."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.store.decisions import Decision, Shown, Store
from app.store.errors import NotRecorded
from app.store.feedback import Feedback, Kept
from tests.unit.app.store.test_store import KNOWLEDGE, content, decision, opened, rows

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ACCEPTED = Feedback("", "accepted", NOW, ("s-2", "of-another-card"))
OVERRIDDEN = Feedback(
    "",
    "overridden",
    reason_code="goals-of-care",
    reason_system="urn:oid:2.25.1",
    display="display-canary",
    comment="comment-canary",
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "decisions.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    async with opened(path) as store:
        await store.keep_knowledge(KNOWLEDGE, b"files")
        yield store


@pytest.fixture
async def shown(store: Store) -> Decision:
    card = str(uuid.uuid4())
    made = decision(cards=(Shown(card, "protocol", "info", ("s-1", "s-2")),))
    await store.record(made)
    return made


async def kept(store: Store, *entries: Feedback) -> Kept:
    return await store.keep_feedback(
        entries, client="anonymous", tenant="dev", service="anakinra-ruxolitinib-patient-view", received_at=NOW
    )


async def test_a_decision_comes_back_with_the_cards_it_showed(store: Store, shown: Decision) -> None:
    assert await store.get(shown.id) == shown


async def test_an_acceptance_is_joined_to_the_decision_of_its_card(store: Store, shown: Decision, path: Path) -> None:
    assert await kept(store, replace(ACCEPTED, card=shown.cards[0].card)) == Kept(1, 0, 0)
    query = "select decision_id, outcome, outcome_at, suggestions, client, service from feedback"
    assert rows(path, query) == [
        *[
            (
                shown.id,
                "accepted",
                "2026-11-23T12:00:00.000000+00:00",
                "[1]",
                "anonymous",
                "anakinra-ruxolitinib-patient-view",
            )
        ]
    ]
    assert rows(path, "select * from feedback_words") == []


async def test_what_was_sent_before_stays_one_and_a_change_of_mind_is_another(
    store: Store, shown: Decision, path: Path
) -> None:
    card = shown.cards[0].card
    accepted, overridden = replace(ACCEPTED, card=card), replace(OVERRIDDEN, card=card)
    assert await kept(store, accepted, accepted) == Kept(1, 1, 0)
    assert await kept(store, accepted, overridden) == Kept(1, 1, 0)
    assert rows(path, "select outcome from feedback order by id") == [("accepted",), ("overridden",)]


async def test_an_unknown_card_is_kept_as_unmatched_without_what_was_typed(store: Store, path: Path) -> None:
    assert await kept(store, replace(OVERRIDDEN, card="nobody-knows")) == Kept(1, 0, 1)
    assert rows(path, "select card, decision_id, reason_code from feedback") == [
        ("nobody-knows", None, "goals-of-care")
    ]
    assert b"canary" not in content(path)


@pytest.mark.parametrize("value", ["name-canary of a person", "canary" * 20, "canäry-canary"])
async def test_ids_and_codes_that_may_be_anything_are_kept_as_digests(store: Store, path: Path, value: str) -> None:
    await kept(store, Feedback(value, "accepted", reason_code=value, reason_system=value * 3))
    [(card, code, system)] = rows(path, "select card, reason_code, reason_system from feedback")
    assert (len(card), len(code), len(system)) == (64, 64, 64)
    await store.close()
    assert value.encode() not in content(path)


async def test_what_was_typed_goes_with_the_patients_data(store: Store, shown: Decision, path: Path) -> None:
    await kept(store, replace(OVERRIDDEN, card=shown.cards[0].card))
    assert rows(path, "select display, comment from feedback_words") == [("display-canary", "comment-canary")]

    assert await store.remove_patient("patient-canary", tenant="dev") == 1

    assert rows(path, "select * from feedback_words") == []
    assert rows(path, "select outcome, reason_code from feedback") == [("overridden", "goals-of-care")]
    await store.close()
    assert b"canary" not in content(path)


async def test_words_that_come_after_the_removal_are_not_kept(store: Store, shown: Decision, path: Path) -> None:
    await store.remove_patient("patient-canary", tenant="dev")
    await kept(store, replace(OVERRIDDEN, card=shown.cards[0].card))
    assert rows(path, "select * from feedback_words") == []
    assert rows(path, "select outcome from feedback") == [("overridden",)]
    await store.close()
    assert b"comment-canary" not in content(path)


async def test_a_batch_is_kept_whole_or_not_at_all(store: Store, shown: Decision, path: Path) -> None:
    card = shown.cards[0].card
    with pytest.raises(NotRecorded) as caught:
        await kept(store, replace(ACCEPTED, card=card), replace(OVERRIDDEN, card=card, comment="\ud800"))
    assert "canary" not in str(caught.value)
    assert rows(path, "select * from feedback") == []


def test_nothing_that_was_typed_is_printed() -> None:
    assert "canary" not in repr(OVERRIDDEN)
