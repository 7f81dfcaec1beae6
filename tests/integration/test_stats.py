"""The statistics of calls that were really answered: what clients were told is what is counted, and nobody is named."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from app.clinical.knowledge import Protocol
from app.sandbox import patients
from app.stats import rows, sheets
from app.stats.page import page
from app.stats.summary import Query, Summary
from app.stats.table import table
from tests.integration.hospital import DECISION, NOW, PATH, SERVICE, USER, hook, opened
from tests.unit.app.bundles import bedside
from tests.unit.app.stats.build import known, url

CALLED = ("demo-full-protocol", "demo-full-protocol", "demo-crp-100", "demo-venous-gas-on-ecmo", "demo-day-16")


async def counted(database: Path) -> Summary:
    return await rows.summary(url(database), query=Query(), names=known())


async def test_what_was_answered_is_what_is_counted(tmp_path: Path) -> None:
    told: Counter[str] = Counter()
    cards = 0
    async with opened(tmp_path) as hospital:
        for patient in CALLED:
            answer = (await hospital.call(hook(patient))).json()
            told[answer["extension"][DECISION]["outcome"]] += 1
            cards += len(answer["cards"])
        summary = await counted(hospital.database)  # while the service has the database open
        with_crp = sum('"crp"' in row["evidence"] for row in hospital.rows())
        findings = sum(len(p.criteria) for p in hospital_protocols())
    assert {outcome: count for (_, outcome, _), count in summary.hooks.items()} == told
    assert set(told) >= {"card", "not-met", "follow-up"}
    assert summary.cards.total() == cards
    assert summary.with_card[SERVICE] == told["card"] + told["follow-up"]
    assert summary.unreadable.total() == 0
    assert summary.criteria.total() == len(CALLED) * findings
    unknown = sum(count for (*_, found), count in summary.criteria.items() if found == "unknown")
    reasons = Counter({key: count for key, count in summary.unknowns.items() if key[0] == "criterion"})
    assert reasons.total() == unknown > 0
    assert not [reason for *_, reason in summary.unknowns if not reason or reason == "other"]
    assert summary.latency[SERVICE, ""].n == len(CALLED)
    assert summary.latency[SERVICE, "labs"].n == len(CALLED)
    assert summary.ages["crp"].n == with_crp > 0


def hospital_protocols() -> tuple[Protocol, ...]:
    return bedside().library.knowledge.protocols


async def test_feedback_finds_its_card_and_nobody_is_named(tmp_path: Path) -> None:
    async with opened(tmp_path) as hospital:
        [card, *_] = (await hospital.call(hook("demo-full-protocol"))).json()["cards"]
        reason = card["overrideReasons"][0]
        entry = {
            "card": card["uuid"],
            "outcome": "overridden",
            "outcomeTimestamp": "2026-11-23T12:05:00Z",
            "overrideReason": {"reason": reason, "userComment": "comment-canary"},
        }
        answer = await hospital.client.post(f"{PATH}/feedback", json={"feedback": [entry]})
        assert answer.status_code == 200
        summary = await counted(hospital.database)
    [override] = summary.overrides
    assert override[2].display == reason["display"]
    shown = [page(summary, now=NOW), str(sheets.document(summary, now=NOW)), table(summary, now=NOW)]
    ids = [story.patient_id for story in patients.STORIES]
    assert all(reason["display"] in text for text in shown[:2])
    for text in shown:
        assert not [one for one in (*ids, USER, "canary") if one in text]


async def test_the_page_is_served_to_operators_and_not_where_clients_are(tmp_path: Path) -> None:
    """It counts what was answered a moment ago, and names no patient."""
    async with opened(tmp_path) as hospital:
        await hospital.call(hook("demo-full-protocol"))
        async with hospital.operators() as operators:
            answer = await operators.get("/stats")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/html")
        assert "patient-view" in answer.text
        assert "demo-full-protocol" not in answer.text
        assert (await hospital.client.get("/stats")).status_code == 404
