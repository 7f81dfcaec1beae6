"""The words of order cards: what stands first, what is said in full, and what is never said."""

from __future__ import annotations

from functools import cache
from typing import Any
from uuid import UUID

import pytest

from app import knowledge, order_cards
from app.clinical.orders import Correction
from cds_hooks.response import Card
from fhir_mappings.facts import DraftOrder
from tests.unit.app.clinical.build import Item, measurement, offering, order, patient, unread
from tests.unit.app.clinical.test_orders import BESIDE, SELECT, SIGN, draft, found, on

DECISION = UUID("3c1cf1b3-1d4b-4d6a-9d56-6a9a7c8f2e10")
CHANGED = {"resourceType": "MedicationRequest", "id": "d0"}


@cache
def bedside() -> knowledge.Bedside:
    return knowledge.load()


def cards(
    drafts: DraftOrder | tuple[DraftOrder, ...], *items: Item, hook: str = SIGN, changed: Any = CHANGED
) -> tuple[Card, ...]:
    """The cards about these drafts; `changed` is what every correction makes of its draft."""
    return order_cards.build(
        found(drafts, *items, hook=hook),
        words=bedside().words,
        decision=DECISION,
        corrected=lambda _: changed,
        version="0.1.0",
    )


def only(*args: Any, **more: Any) -> Card:
    (card,) = cards(*args, **more)
    return card


def test_what_is_certain_comes_before_what_is_not() -> None:
    low = measurement("platelets", 30, hours=2)
    card = cards((draft("anakinra"), BESIDE["anakinra"]), *offering(low, unread("conditions"), without=("platelets",)))[
        0
    ]
    assert card.summary == "Anakinra drafted: Platelets below 50 x 10⁹/L"
    assert card.indicator == "critical"


def test_what_is_missing_is_named_as_missing() -> None:
    card = only((draft("anakinra"), BESIDE["anakinra"]), *offering(without=("platelets",)))
    assert card.summary == "Anakinra drafted: safety data missing or in doubt: platelets"
    assert card.indicator == "warning"


@pytest.mark.parametrize(("hook", "indicator"), [(SELECT, "warning"), (SIGN, "critical")])
def test_critical_only_when_signed(hook: str, indicator: str) -> None:
    card = only(draft("tofacitinib"), *offering(on("ruxolitinib")), hook=hook)
    assert card.indicator == indicator


def test_a_line_alone_is_information() -> None:
    card = only(draft("ruxolitinib"), *offering())
    assert card.indicator == "info"
    assert "The letter gave both together" in card.detail
    assert "Investigational, off-label." in card.detail
    assert card.suggestions == ()


def test_what_only_words_name_is_called_possibly_that_drug() -> None:
    one = draft(use={"possibly": ("ruxolitinib",), "identity": "text", "label": "Jakavi 5"})
    card = only((one, BESIDE["ruxolitinib"]), *offering())
    assert card.summary.startswith("Possibly ruxolitinib (named by text only) drafted")
    assert "Jakavi 5: no code says which drug this is. It was checked as if it were ruxolitinib." in card.detail


def test_a_suggestion_says_in_full_what_it_does() -> None:
    card = only((draft("anakinra", mg="600", days=60), BESIDE["anakinra"]), *offering())
    (suggestion,) = card.suggestions
    assert suggestion.label == "Draft of anakinra: 300 mg a day in place of 600 mg, last day 2026-03-23"
    (action,) = suggestion.actions
    assert (action.type, action.resource) == ("update", CHANGED)
    assert "anakinra: 300 mg a day in place of 600 mg, last day 2026-03-23" in action.description


def test_removing_names_drug_dose_and_days() -> None:
    low = measurement("platelets", 30, hours=2)
    card = only((draft("anakinra"), BESIDE["anakinra"]), *offering(low, without=("platelets",)))
    (suggestion,) = card.suggestions
    assert suggestion.label == "Remove the draft of anakinra: 300 mg a day, 2026-03-10 to 2026-03-23"
    assert suggestion.actions[0].resource_id == "MedicationRequest/d0"


def test_what_could_not_be_determined_is_not_told_as_a_fact() -> None:
    one = draft(possibly_live=True, use={"identity": "text", "label": "Stamaril"})
    card = only(one, *offering(on("anakinra")))
    assert card.summary == "Stamaril drafted: Possibly a live vaccine beside the study drugs"
    assert card.indicator == "warning"
    assert "A live vaccine beside" not in card.detail
    unread_end = draft("anakinra", end="unreadable", last_day=None)
    card = only((unread_end, BESIDE["anakinra"]), *offering())
    assert "The last day could not be read: " in card.detail
    assert "No last day is written" not in card.summary + card.detail


def test_a_vaccine_has_no_dose() -> None:
    card = only(draft(vaccine=True, use={"identity": "code"}), *offering(on("anakinra")))
    assert card.summary == "A vaccine drafted: A live vaccine beside the study drugs"
    assert card.suggestions[0].label == "Remove the draft of a vaccine"


@pytest.mark.parametrize(
    "changed",
    [
        None,
        {"resourceType": "MedicationRequest"},
        CHANGED | {"note": [{"text": "\x0b"}]},
        CHANGED | {"x": float("nan")},
    ],
)
def test_what_no_card_can_carry_is_not_offered(changed: Any) -> None:
    assert only((draft("anakinra", mg="600"), BESIDE["anakinra"]), *offering(), changed=changed).suggestions == ()


def test_a_draft_without_an_id_is_not_offered_to_be_changed() -> None:
    one = draft("anakinra", mg="600", removable=False)
    assert only((one, BESIDE["anakinra"]), *offering()).suggestions == ()
    low = offering(measurement("platelets", 30, hours=2), without=("platelets",))
    assert only((draft("anakinra", removable=False), BESIDE["anakinra"]), *low).suggestions == ()


def test_at_most_four_suggestions() -> None:
    many = tuple(draft("anakinra", place=n) for n in range(7))
    low = offering(measurement("platelets", 30, hours=2), without=("platelets",))
    assert len(cards((*many, BESIDE["anakinra"]), *low)[0].suggestions) == 4


def test_a_list_that_is_cut_says_so() -> None:
    many = tuple(draft("anakinra", place=n, mg="600") for n in range(20))
    card = cards((*many, BESIDE["anakinra"]), *offering())[0]
    assert "and 8 more" in card.detail
    assert card.detail.count("anakinra: 600 mg a day") == 12


def test_a_local_form_is_said_to_be_one() -> None:
    cream = draft("ruxolitinib", place=1, use={"systemic": False})
    card = only((draft("anakinra"), cream), *offering())
    assert "ruxolitinib: a local form, not checked as a study drug" in card.detail


def test_words_beside_a_code_of_another_drug() -> None:
    one = draft("paracetamol", use={"possibly": ("baricitinib",), "label": "paracetamol, before baricitinib"})
    card = only(one, *offering(on("ruxolitinib")))
    assert "the code is none of baricitinib, the words name it" in card.detail
    assert "no code says which drug" not in card.detail
    assert card.suggestions == ()


def test_a_number_that_is_no_dose_is_not_printed() -> None:
    for card in cards((draft("anakinra", mg="1e300"), BESIDE["anakinra"]), *offering()):
        assert "0" * 50 not in card.detail


def test_hostile_words_stay_words() -> None:
    one = draft(use={"possibly": ("anakinra",), "identity": "text", "label": "<img src=x> [a](http://e.vil) \n|"})
    for card in cards((one, BESIDE["anakinra"]), *offering(order("anakinra"))):
        for text in (card.summary, card.detail, *(s.label for s in card.suggestions)):
            assert "<img" not in text
            assert "http://e" not in text
            assert "](" not in text


def test_the_summary_fits_whatever_is_drafted() -> None:
    many = tuple(draft("tofacitinib", place=n, use={"label": "x" * 500}) for n in range(9))
    for card in cards(many, *offering(on("ruxolitinib"))):
        assert len(card.summary) <= 139


def test_nobody_is_told_anything_about_the_dead() -> None:
    assert cards(draft("anakinra", mg="900"), *offering(patient(deceased=True))) == ()


def test_the_evidence_beside_the_words() -> None:
    card = only((draft("anakinra", mg="600"), BESIDE["anakinra"]), *offering())
    entry = card.extension["org.rescue-cds.evidence"]
    assert entry["drafts"][0] == {
        "reference": "MedicationRequest/d0",
        "drugs": ["anakinra"],
        "possibly": [],
        "identity": "code",
        "end": "written",
        "daily_mg": "600",
        "first_day": "2026-03-10",
        "last_day": "2026-03-23",
    }
    assert [(c["id"], c["finding"], c["severity"]) for c in entry["checks"]] == [
        ("ORD-DOSE-ABOVE", "present", "warning")
    ]


def test_a_correction_that_is_none_is_no_suggestion() -> None:
    page = order_cards._Page(
        found(draft("anakinra"), *offering()), words=bedside().words, decision=DECISION, source_url=None, version="1"
    )
    assert page.suggestion(Correction(draft("anakinra")), lambda _: None) is None
