"""What would change a verdict and until when it holds: in the public JSON, at a terminal, and on the card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from app import cards, evaluate, report
from app.clinical.assessment import assess
from app.clinical.changes import Change, Flip, Span
from app.clinical.findings import Finding
from app.clinical.reading import Reading, Reason
from app.outlook import UNSEEN, Outlook, look_ahead
from fhir_mappings.context import Context
from fhir_mappings.facts import Facts, Overlay
from tests.unit.app.bundles import NOW, PARIS, bedside, bundle, evaluated, resources

DECISION = UUID(int=1)
NEVER_FOUND = Reading(Reason.of("never-measured"))
KNOWN = Reading(Reason.of("value", value="980 µg/L", age="5 h"))
ABOVE = (Span(Decimal(1000), None, open_low=True),)
FERRITIN = Change("S-FERRITIN", "ferritin", KNOWN, unit="ug/L", spans=ABOVE)
PRONE = Change("P-RESCUE", "prone", Reading(Reason.of("no-record")), states=("yes",))


def card(patient_id: str, which: int = 0, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = evaluated(bundle(resources(patient_id)), **options)["cards"][which]
    return found


def entries(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Its protocols by their ids."""
    return {p["id"]: p for p in found["protocols"]}


def shown(patient_id: str, outlook: Outlook) -> str:
    """The detail of the protocol card with this outlook."""
    options = evaluate.Options(now=NOW, zone=PARIS, overlay=Overlay())
    _, facts = evaluate.read(bundle(resources(patient_id)), bedside=bedside(), options=options)
    found = assess(facts, knowledge=bedside().library.knowledge, now=NOW)
    built = cards.build(found, words=bedside().words, decision=DECISION, drafts=(), outlook=outlook)
    return built[0].detail or ""


# --------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("change", "signs", "words"),
    [
        (FERRITIN, "> 1000 µg/L", "above 1000 µg/L"),
        (replace(FERRITIN, spans=(Span(None, Decimal(1000)),)), "<= 1000 µg/L", "at or below 1000 µg/L"),
        (
            Change("C", "pf", KNOWN, unit="mm[Hg]", spans=(Span(Decimal(100), Decimal(150), open_high=True),)),
            ">= 100 and < 150 mmHg",
            "at or above 100 and below 150 mmHg",
        ),
        (
            Change("C", "crcl", KNOWN, unit="mL/min", spans=(Span(None, Decimal(15), open_high=True), ABOVE[0])),
            "< 15 or > 1000 mL/min",
            "below 15 or above 1000 mL/min",
        ),
        (
            Change("C", "crcl", KNOWN, unit="mL/min", spans=(Span(Decimal(15), Decimal(15)),)),
            "= 15 mL/min",
            "of exactly 15 mL/min",
        ),
        (
            Change("C", "age", KNOWN, unit="a", spans=(Span(Decimal("18.0"), None),)),
            ">= 18 years",
            "at or above 18 years",
        ),
        (PRONE, "yes", "yes"),
        (Change("C", "ecmo", KNOWN, states=("vv", "off")), "veno-venous or off", "veno-venous or off"),
        (Change("C", "ecmo", KNOWN, states=("off",), negated=True), "not off", "not off"),
        (Change("C", "ecmo", KNOWN), "any known value", "any known value"),
    ],
)
def test_what_an_input_needs_is_said_in_signs_and_in_words(change: Change, signs: str, words: str) -> None:
    assert (bedside().plain.needs(change), bedside().plain.needs_said(change)) == (signs, words)


@pytest.mark.parametrize(
    ("change", "has"),
    [
        (FERRITIN, "980 µg/L, 5 h old"),
        (replace(FERRITIN, now=NEVER_FOUND), "none found in 72 h"),
        (PRONE, "none found in 72 h"),
        (replace(PRONE, input="sarscov2_pcr"), "none found in 60 d"),
        (replace(PRONE, input="ecmo"), "nothing on record"),
    ],
)
def test_what_an_input_has_or_why_it_is_unknown(change: Change, has: str) -> None:
    assert bedside().plain.has(change) == has


# --------------------------------------------------------------------------- public JSON


def test_an_entry_says_what_would_change_it_and_until_when_it_holds() -> None:
    found = entries(evaluated(bundle(resources("demo-full-protocol"))))["pilot-simple"]

    assert found["changes"][1] == {
        "to": "not-met",
        "set": [
            {"criterion": "S-FERRITIN", "input": "ferritin", "has": "1840 µg/L, 5.2 h old", "needs": "<= 1000 µg/L"}
        ],
    }
    assert [[c["input"] for c in flip["set"]] for flip in found["changes"]] == [["crp"], ["ferritin"], ["pf", "crs"]]
    assert found["holds_until"] == "2026-11-23T22:24:00Z"


def test_an_input_asked_for_several_things_says_which() -> None:
    flips = entries(evaluated(bundle(resources("demo-full-protocol"))))["rct-stage-3"]["changes"]
    about = {c["about"] for flip in flips for c in flip["set"] if c["input"] == "exposure"}
    assert len(about) > 1


def test_a_verdict_that_holds_for_ever_names_no_instant() -> None:
    found = entries(evaluated(bundle(resources("demo-no-ferritin"))))["pilot-simple"]
    assert "holds_until" not in found
    assert found["changes"][0]["set"][0]["has"] == "none found in 72 h"


def test_of_what_was_not_looked_at_nothing_is_said() -> None:
    options = evaluate.Options(now=NOW, zone=PARIS, overlay=Overlay())
    _, facts = evaluate.read(bundle(resources("demo-full-protocol")), bedside=bedside(), options=options)
    found = assess(facts, knowledge=bedside().library.knowledge, now=NOW)

    document = report.document(found, words=bedside().plain)

    assert all(not {"changes", "holds_until"} & set(entry) for entry in document["protocols"])
    assert UNSEEN.earliest("pilot-simple") is None


def test_the_table_says_both() -> None:
    text = evaluate.table(evaluated(bundle(resources("demo-full-protocol"))))

    assert "  not met with S-FERRITIN ferritin <= 1000 µg/L (now 1840 µg/L, 5.2 h old)\n" in text
    assert "  holds until 2026-11-23T22:24:00Z without newer data\n" in text


# --------------------------------------------------------------------------- the card


def test_the_card_names_the_facility_s_time_near_the_verdict() -> None:
    detail = card("demo-full-protocol")["detail"]
    assert detail.index("Holds until 2026-11-23 23:24 CET without newer data.") < detail.index("**Criteria**")


def test_the_card_says_what_would_change_the_full_protocol() -> None:
    detail = card("demo-full-protocol")["detail"]
    section = detail.partition("**What would change it**\n\n")[2].partition("\n\n")[0].splitlines()

    assert len(section) == cards.MOST_CHANGES + 1
    assert (
        section[1]
        == "- The letter's full inclusion would not be met with Prone positioning: no (now session 22.1 h ago)"
    )
    assert section[-1] == "- and 1 more"
    assert not [line for line in section if "Age" in line], "nobody becomes younger"


def test_an_undetermined_card_says_what_would_decide_it() -> None:
    detail = card("demo-no-ferritin")["detail"]

    line = "would be met if the record showed Ferritin above 1000 µg/L (now none found in 72 h)"
    assert f"- The four measured thresholds {line}" in detail
    assert "more" not in detail.partition("**What would change it**")[2].partition("**")[0]
    assert "Holds until" not in detail


def test_a_pair_of_changes_is_one_line() -> None:
    flip = Flip(Finding.NOT_MET, (FERRITIN, PRONE))
    detail = shown("demo-full-protocol", Outlook({"pilot-full": (flip,)}, {"pilot-full": None}))

    assert (
        "- The letter's full inclusion would not be met with Ferritin above 1000 µg/L (now 980 µg/L, 5 h old) and "
        "Prone positioning: yes (now none found in 72 h)"
    ) in detail


def test_a_card_without_an_outlook_says_nothing_of_it() -> None:
    detail = shown("demo-full-protocol", UNSEEN)
    assert "What would change it" not in detail
    assert "Holds until" not in detail


def test_a_card_holds_as_long_as_the_first_of_its_protocols() -> None:
    early, late = datetime(2026, 11, 23, 13, 0, tzinfo=UTC), datetime(2026, 11, 24, tzinfo=UTC)
    both = Outlook({}, {"pilot-simple": late, "pilot-full": early})

    assert both.earliest("pilot-simple", "pilot-full") == early
    assert both.earliest("pilot-simple", "other") == late
    assert "Holds until 2026-11-23 14:00 CET" in shown(
        "demo-full-protocol", Outlook({"pilot-simple": (), "pilot-full": ()}, both.until)
    )


def test_a_card_carries_the_outlook_of_the_protocols_that_speak() -> None:
    answer = evaluated(bundle(resources("demo-full-protocol")))
    carried = {p["id"]: p for p in answer["cards"][0]["extension"][cards.EVIDENCE]["protocols"]}

    with_outlook = {id_ for id_, entry in carried.items() if "changes" in entry}
    assert with_outlook == {"pilot-simple", "pilot-full"} == bedside().speaking
    assert {id_ for id_, entry in entries(answer).items() if "changes" in entry} > with_outlook
    assert carried["pilot-simple"]["holds_until"] == entries(answer)["pilot-simple"]["holds_until"]


def test_words_of_a_prompt_are_in_no_line() -> None:
    """Conditions on the record, never something to be done to the patient."""
    texts = bedside().library.words["card"]["changes"].values()
    assert not [
        t for t in texts if any(word in t.lower() for word in ("should", "give", "prone", "start", "lower the"))
    ]


# --------------------------------------------------------------------------- looking ahead


def test_records_are_mapped_again_at_the_moment_they_begin_to_say_something_else() -> None:
    raw = bundle(resources("demo-full-protocol"))
    options = evaluate.Options(now=NOW, zone=PARIS, overlay=Overlay())
    _, facts = evaluate.read(raw, bedside=bedside(), options=options)
    found = assess(facts, knowledge=bedside().library.knowledge, now=NOW)
    turn = NOW + timedelta(hours=1)
    context = Context(now=NOW, zone=ZoneInfo("Europe/Paris"), turns={turn})
    mapped: list[Context] = []

    def again(later: Context) -> Facts:
        mapped.append(later)
        return replace(facts, measurements=tuple(m for m in facts.measurements if m.concept != "crp"))

    names: Sequence[str] = ["pilot-simple"]
    got = look_ahead(found, facts=facts, context=context, again=again, suggest_on="pilot-simple", protocols=names)

    assert got.until == {"pilot-simple": turn}
    assert list(got.changes) == ["pilot-simple"]
    assert [(later.now, later.turns) for later in mapped] == [(turn, set())]
    assert context.turns == {turn}
