"""The dates of the evidence on every card, and what stands there once the review has expired (clinical 3.3)."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import date, datetime
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from app import cards
from app.clinical.assessment import Assessment, assess
from app.gather import from_bundle
from app.protocols.fields import KnowledgeError
from app.protocols.review import is_over, months_after, with_expiry
from app.sandbox import patients
from cds_hooks.response import MAX_SUMMARY, Card
from fhir_mappings import mapping
from fhir_mappings.context import Context
from tests.unit.app.bundles import NOW, PARIS, bedside, bundle, resources

STORIES = [story.patient_id for story in patients.STORIES]
DECISION = uuid.UUID("00000000-0000-4000-8000-000000000002")
OVER = "The evidence behind this card was last reviewed on 2026-11-21, more than 12 months ago"
DATES = "evidence reviewed 2026-11-21, to be reviewed again by 2027-11-21"


@cache
def assessed(patient_id: str) -> Assessment:
    parts = from_bundle(bundle(resources(patient_id)), plan=bedside().needs, now=NOW, patient_id=patient_id)
    facts = mapping.to_facts(parts, patient_id=patient_id, context=Context(now=NOW, zone=PARIS))
    return assess(facts, knowledge=bedside().library.knowledge, now=NOW)


def shown(patient_id: str, *, at: datetime = NOW) -> tuple[Card, ...]:
    """The cards of a patient as they are rendered at that moment; the findings stay those of `NOW`."""
    found = replace(assessed(patient_id), now=at)
    return cards.build(found, words=bedside().words, decision=DECISION, drafts=())


def local(*parts: int, zone: ZoneInfo = PARIS) -> datetime:
    return datetime(*parts, tzinfo=zone)  # type: ignore[misc, arg-type]


@pytest.mark.parametrize("patient_id", STORIES)
def test_every_card_shows_when_the_evidence_was_reviewed_and_until_when_that_is_good(patient_id: str) -> None:
    for card in shown(patient_id):
        assert DATES in card.detail
        assert OVER not in card.detail


@pytest.mark.parametrize("patient_id", STORIES)
def test_a_version_line_names_only_protocols_that_speak(patient_id: str) -> None:
    knowledge = bedside().library.knowledge
    silent = [protocol.id for protocol in knowledge.protocols if not protocol.speak]
    assert silent
    for card in shown(patient_id):
        line = next(line for line in card.detail.splitlines() if line.startswith("Evaluated "))
        assert [protocol for protocol in silent if protocol in line] == []
        assert "pilot-simple 0." in line
        assert len(line) <= 300


@pytest.mark.parametrize("patient_id", STORIES)
@pytest.mark.parametrize(
    ("at", "over"),
    [
        (local(2027, 11, 21), False),
        (local(2027, 11, 21, 23, 59), False),
        (local(2027, 11, 22), True),
        (local(2027, 11, 22, zone=ZoneInfo("UTC")), True),
        (local(2027, 11, 21, 23, 30, zone=ZoneInfo("UTC")), True),  # already tomorrow in Paris
        (local(2031, 1, 1), True),
    ],
)
def test_after_the_expiry_the_first_line_of_every_card_says_so(patient_id: str, at: datetime, over: bool) -> None:
    now, then = shown(patient_id), shown(patient_id, at=at)
    assert [card.summary for card in now] == [card.summary for card in then]
    for card in then:
        first = card.detail.split("\n\n")[0]
        assert (OVER in first) is over
        assert card.detail.count(OVER) == int(over)
        assert len(card.summary) <= MAX_SUMMARY - 1


def test_there_are_cards_of_both_kinds() -> None:
    """Otherwise the tests above prove nothing."""
    kinds = {(card.uuid, card.indicator) for patient_id in STORIES for card in shown(patient_id)}
    assert len(kinds) >= 2


ELIGIBILITY = (
    "an 11-patient uncontrolled 2020 pilot",
    "**Evidence**",
    "**Standard treatment**",
    "0/11 deaths by day 28",
)


@pytest.mark.parametrize("patient_id", STORIES)
def test_evidence_and_alternatives_stand_on_every_eligibility_card(patient_id: str) -> None:
    for card in shown(patient_id):
        if "11-patient study" in card.summary:
            assert [words for words in ELIGIBILITY if words not in card.detail] == []
            assert "Has standard treatment been given or excluded?" in card.detail


def test_what_adds_up_stands_only_where_an_order_can_follow() -> None:
    details = {
        patient_id: card.detail for patient_id in STORIES for card in shown(patient_id) if "11-patient" in card.summary
    }
    ordering = [text for text in details.values() if "all 11 were anticoagulated" in text.lower()]
    others = [text for text in details.values() if text not in ordering]
    assert ordering
    assert others
    for words in ("no label or trial result for the combination", "watch after the first dose", "feeding tubes"):
        assert all(words in text for text in ordering)
        assert not any(words in text for text in others)


def test_what_is_monitored_is_a_line_unless_the_safety_card_lists_it() -> None:
    seen = {True: 0, False: 0}
    for patient_id in STORIES:
        found = assessed(patient_id)
        watched = [s for s in found.present if s.rule.severity == "monitor"]
        for card in shown(patient_id):
            if "thresholds of the pilot letter met" in card.summary and watched:
                listed = [f"{s.rule.title} ({', '.join(s.rule.drugs)})" in card.detail for s in watched]
                assert listed == [not found.safety_card] * len(watched)
                seen[found.safety_card] += 1
    assert seen[False]


@pytest.mark.parametrize(
    ("day", "months", "later"),
    [
        ("2026-11-21", 12, "2027-11-21"),
        ("2024-02-29", 12, "2025-02-28"),
        ("2026-08-31", 6, "2027-02-28"),
        ("2026-12-31", 1, "2027-01-31"),
        ("2026-01-31", 11, "2026-12-31"),
    ],
)
def test_months_are_those_of_the_calendar(day: str, months: int, later: str) -> None:
    assert months_after(date.fromisoformat(day), months) == date.fromisoformat(later)


def test_the_day_of_the_expiry_is_not_over() -> None:
    assert not is_over("2027-11-21", date(2027, 11, 21))
    assert is_over("2027-11-21", date(2027, 11, 22))


LIMIT: dict[str, Any] = {
    "value": 12, "what": "good for", "source": "ours", "reading": "", "alternatives": "", "review": "unsigned",
}  # fmt: skip


def cards_file(**changes: Any) -> dict[str, Any]:
    table = {"evidence_reviewed": "2026-11-21", "limit": {"review_expires_months": LIMIT}} | changes
    return {key: value for key, value in table.items() if value is not None}


def test_the_expiry_is_worked_out_from_the_review() -> None:
    found = with_expiry("shared/cards.toml", cards_file())
    assert (found["evidence_expires"], found["review_expires_months"]) == ("2027-11-21", "12")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"evidence_reviewed": None}, "evidence_reviewed: write a date"),
        ({"evidence_reviewed": "soon"}, "evidence_reviewed: write a date"),
        ({"evidence_reviewed": 2026}, "evidence_reviewed: write a date"),
        ({"limit": None}, "no `limit`|has no `limit`"),
        ({"limit": {}}, r"no block \[limit\.review_expires_months\]"),
        ({"limit": {"review_expires_months": LIMIT | {"value": 0}}}, "whole months above zero"),
        ({"limit": {"review_expires_months": LIMIT | {"value": "1.5"}}}, "whole months above zero"),
        ({"limit": {"review_expires_months": LIMIT | {"source": " "}}}, "`source` is empty"),
    ],
)
def test_a_review_that_says_nothing_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(KnowledgeError, match=complaint):
        with_expiry("shared/cards.toml", cards_file(**changes))
