"""Cards: what they must say, what they must never say, and that text of the record stays text."""

from __future__ import annotations

import re
import tomllib
import uuid
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources as packaged
from typing import Any

import pytest
from fhir.resources.R4B.medicationrequest import MedicationRequest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from app import card_frame, cards
from app.clinical.assessment import Assessment, assess
from app.gather import from_bundle
from app.sandbox import patients
from cds_hooks.response import MAX_SUMMARY, Card
from fhir_mappings import mapping
from fhir_mappings.context import Context
from tests.unit.app.bundles import NOW, PARIS, bedside, bundle, evaluated, resources

STORIES = [story.patient_id for story in patients.STORIES]
TREATED = {"demo-day-7": "info", "demo-day-16": "critical", "demo-day-30": "warning"}
"""The indicator of their follow-up card."""

DECISION = uuid.UUID("00000000-0000-4000-8000-000000000001")
ELIGIBILITY = "Matches the inclusion thresholds of an 11-patient uncontrolled 2020 pilot"
EVIDENCE = ("0/11 deaths by day 28", "REMAP-CAP", "RUXCOVID-DEVENT", "WHO advises against", "IDSA advises against")
AVOIDED = re.compile(r"\b(recommend\w*|effective\w*|should receive|responders?)\b|survival 100", re.IGNORECASE)
"""clinical 3.3. "WHO advises against" is how the recommendations of others are told."""

OWN_TAGS = {"p", "strong", "ul", "li", "table", "thead", "tbody", "tr", "th", "td"}


def assessment(patient_id: str) -> Assessment:
    library = bedside().library
    parts = from_bundle(bundle(resources(patient_id)), plan=bedside().needs, now=NOW, patient_id=patient_id)
    facts = mapping.to_facts(parts, patient_id=patient_id, context=Context(now=NOW, zone=PARIS))
    return assess(facts, knowledge=library.knowledge, now=NOW)


def shown(patient_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = evaluated(bundle(resources(patient_id)))["cards"]
    return found


def texts(value: Any) -> Iterator[str]:
    """Every text a clinician may read of a card: not the extension."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            if name not in {"extension", "uuid", "system", "code", "url", "reference"}:
                yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


# --- words --------------------------------------------------------------------------------------------------


def knowledge_texts() -> list[tuple[str, str]]:
    root = packaged.files("app.protocols")
    names = ["shared/cards.toml", "shared/texts.toml", "shared/safety.toml", "shared/treatment.toml"]
    names += ["pilot_simple/protocol.toml", "pilot_full/protocol.toml", "shared/inputs.toml"]
    names.append("pilot_followup/followup.toml")
    found = []
    for name in names:
        table = tomllib.loads(root.joinpath(name).read_text(encoding="utf-8"))
        found += [(name, text) for text in _strings(table)]
    return found


def _strings(value: Any, name: str = "") -> Iterator[str]:
    if isinstance(value, str):
        if name not in {"source", "alternatives"}:  # where a rule comes from is for reviewers, not for a card
            yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _strings(item, key)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item, name)


@pytest.mark.parametrize("name", sorted({name for name, _ in knowledge_texts()}))
def test_no_text_uses_a_word_to_avoid(name: str) -> None:
    for file, text in knowledge_texts():
        if file == name:
            wrong_words(text)


def wrong_words(text: str) -> None:
    assert not AVOIDED.search(text), text
    for match in re.finditer("rescue", text, re.IGNORECASE):
        around = text[max(0, match.start() - 40) : match.end() + 25].lower()
        named = "ruxolitinib rescue protocol" in around or "rescue-cds" in around
        assert named or "p-rescue" in around or "rescue therapies" in around, text


@pytest.mark.parametrize("patient_id", STORIES)
def test_no_card_uses_a_word_to_avoid(patient_id: str) -> None:
    for card in shown(patient_id):
        for text in texts(card):
            wrong_words(text)


@pytest.mark.parametrize("patient_id", STORIES)
def test_an_eligibility_card_says_how_little_is_known(patient_id: str) -> None:
    for card in shown(patient_id):
        assert "Knowledge pilot-simple" in card["detail"]
        assert "no clinician has signed" in card["detail"]
        if ELIGIBILITY in card["detail"]:
            assert "unproven" in card["summary"]
            assert all(words in card["detail"] for words in EVIDENCE)
            assert "**Standard treatment**" in card["detail"]
            assert "**Only a person can confirm**" in card["detail"]
        for suggestion in card.get("suggestions", []):
            assert ELIGIBILITY in card["detail"]
            assert "(draft)" in suggestion["label"]


def test_both_kinds_of_protocol_card_are_seen() -> None:
    """Otherwise the test above proves nothing."""
    details = [card["detail"] for patient_id in STORIES for card in shown(patient_id)]
    assert sum(ELIGIBILITY in detail for detail in details) >= 5
    assert sum("could not be determined whether" in detail for detail in details) >= 2


@pytest.mark.parametrize("patient_id", STORIES)
def test_at_most_two_cards_critical_only_for_a_follow_up_stop(patient_id: str) -> None:
    found = shown(patient_id)
    protocol = TREATED.get(patient_id, "info")
    assert [card["indicator"] for card in found] in ([], ["warning"], [protocol], [protocol, "warning"])
    assert all(card["summary"] == card["summary"].strip() for card in found)


def test_a_suggestion_is_a_valid_proposal_for_this_patient() -> None:
    (card,) = shown("demo-full-protocol")
    orders = [action["resource"] for s in card["suggestions"] for action in s["actions"]]
    assert [order["medicationCodeableConcept"]["text"] for order in orders] == ["anakinra", "ruxolitinib"]
    for order in orders:
        MedicationRequest.model_validate(order)
        assert (order["status"], order["intent"]) == ("draft", "proposal")
        assert order["subject"]["reference"] == "Patient/demo-full-protocol"


def test_a_card_never_offers_what_the_assessment_withholds() -> None:
    """`build` decides by the assessment, whatever drafts it is given."""
    drafts = cards_of("demo-full-protocol", offer=True)[0].suggestions
    assert len(drafts) == 2
    for patient_id in ("demo-neutropenia", "demo-never-proned", "demo-no-ferritin"):
        assert all(not card.suggestions for card in cards_of(patient_id, offer=True))


def cards_of(patient_id: str, *, offer: bool = False, found: Assessment | None = None) -> tuple[Card, ...]:
    given_drafts = (
        tuple(cards.Draft("label", "description", {"resourceType": "MedicationRequest"}) for _ in range(2))
        if offer
        else ()
    )
    return cards.build(found or assessment(patient_id), words=bedside().words, decision=DECISION, drafts=given_drafts)


def test_a_full_protocol_that_is_not_met_says_which_part() -> None:
    detail = cards_of("demo-never-proned")[0].detail or ""
    assert "the full inclusion of the letter is not: Prone positioning: recorded as not done" in detail


@pytest.mark.parametrize("key", ["identity", "not_evaluated"])
def test_notices_stand_alone(key: str) -> None:
    card = card_frame.notice(key, words=bedside().words, decision=DECISION)
    assert card.indicator == ("warning" if key == "identity" else "info")
    assert card.uuid == str(uuid.uuid5(DECISION, "card/notice"))
    assert not card.suggestions


# --- length -------------------------------------------------------------------------------------------------

ASSESSED = {patient_id: assessment(patient_id) for patient_id in STORIES}
LABELS = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="<!"), min_size=1, max_size=400)
LONG = st.sampled_from(["w" * 500, "e\u0301" * 300, "👨‍👩‍👧‍👦" * 80, "word " * 100, "\u202eright to left"])


@settings(max_examples=60, deadline=None)
@given(patient_id=st.sampled_from(STORIES), label=LABELS | LONG)
def test_a_summary_is_never_longer_than_the_standard_allows(patient_id: str, label: str) -> None:
    """Titles come from reviewed files; even a hostile one only shortens the line."""
    found = ASSESSED[patient_id]
    safety = tuple(replace(s, rule=replace(s.rule, title=label)) for s in found.safety)
    for card in cards_of(patient_id, found=replace(found, safety=safety)):
        assert 0 < len(card.summary) <= MAX_SUMMARY
        assert not re.search(r"[\x00-\x1f<>]", card.summary)


# --- text of the record -------------------------------------------------------------------------------------

PAYLOADS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</td></tr></table><b>bold</b>",
    "<!-- comment --> <?php ?> <![CDATA[x]]>",
    "![a](https://evil.example/x.png)",
    "[click](javascript:alert(1))",
    "[click][1]\n\n[1]: https://evil.example",
    "<https://evil.example>",
    "https://evil.example/?q=1 http://evil.example www.evil.example a@evil.example",
    "https&#58;//evil.example &#60;b&#62; &lt;b&gt;",
    "**bold** __bold__ *em* _em_ ~~gone~~ `code`",
    "| a | b |\n| - | - |\n| c | d |",
    "# heading\n\n---\n\n> quote\n\n1. one\n\n- two\n\n    code",
    "line\r\nline\u2028line\u2029line\u0085line\tline",
    "\\\\[x\\\\](y) \\| \\<b>",
    "$x^2$ \\(y\\) :smile: ==mark== [^1] {.class}",
    "\u202eevil\u2066\u200b\ufeff\x00\x07\x1b[31m".replace("\x00", ""),
    "{summary} {0} {__class__} %s ${x}",
    "a" * 5000,
]


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[Any, ...]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[Any]) -> None:
        self.found.append((tag, tuple(attrs)))

    def handle_comment(self, data: str) -> None:  # noqa: ARG002
        self.found.append(("comment", ()))

    def handle_decl(self, decl: str) -> None:  # noqa: ARG002
        self.found.append(("declaration", ()))

    def handle_pi(self, data: str) -> None:  # noqa: ARG002
        self.found.append(("instruction", ()))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def rendered(markdown: str) -> Tags:
    """As the laxest client would: GFM with raw HTML."""
    tags = Tags()
    tags.feed(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown))
    return tags


def poisoned(payload: str) -> bytes:
    """A patient whose every free text is `payload`, beside records that are known by text alone."""
    subject = {"reference": "Patient/demo-full-protocol"}
    found = [_poison(r, payload) for r in resources("demo-full-protocol")]
    when = "2026-11-23T11:30:00Z"
    crp = {"coding": [{"system": "http://loinc.org", "code": "1988-5"}]}
    fio2 = {"coding": [{"system": "http://loinc.org", "code": "19994-3"}]}
    gas = {"coding": [{"system": "http://loinc.org", "code": "2703-7"}]}
    culture = {"coding": [{"system": "http://loinc.org", "code": "600-7", "display": payload}], "text": payload}
    common = {"resourceType": "Observation", "status": "final", "subject": subject, "effectiveDateTime": when}
    found += [
        {**common, "id": "p1", "code": crp, "valueString": payload},
        {**common, "id": "p2", "code": crp, "valueQuantity": {"value": 1, "unit": payload}},
        {**common, "id": "p3", "code": fio2, "valueQuantity": {"value": 60, "unit": payload, "code": payload}},
        {
            **common,
            "id": "p4",
            "code": gas,
            "specimen": {"display": payload},
            "valueQuantity": {"value": 60, "unit": "x"},
        },
        {**common, "id": "p5", "code": culture, "valueCodeableConcept": {"text": payload}},
        {
            **common,
            "id": "p6",
            "code": culture,
            "valueCodeableConcept": {
                "coding": [{"system": "http://snomed.info/sct", "code": "10828004"}],
                "text": payload,
            },
        },
        {"resourceType": "Condition", "id": "p7", "subject": subject, "code": {"text": payload}},
        {"resourceType": "AllergyIntolerance", "id": "p8", "patient": subject, "code": {"text": f"anakinra {payload}"}},
        {"resourceType": "AllergyIntolerance", "id": "p9", "patient": subject, "code": {"text": payload}},
        {
            "resourceType": "MedicationRequest",
            "id": "p10",
            "status": "active",
            "intent": "order",
            "subject": subject,
            "authoredOn": when,
            "medicationCodeableConcept": {"text": f"tacrolimus {payload}"},
        },
        {
            "resourceType": "Procedure",
            "id": "p11",
            "status": "in-progress",
            "subject": subject,
            "code": {"text": f"ECMO {payload}"},
            "performedPeriod": {"start": when},
        },
        {
            "resourceType": "Immunization",
            "id": "p12",
            "status": "completed",
            "patient": subject,
            "occurrenceDateTime": "2026-11-20",
            "vaccineCode": {"text": payload},
        },
    ]
    return bundle(found)


def _poison(value: Any, payload: str, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _poison(item, payload, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_poison(item, payload, name) for item in value]
    return payload if name in {"text", "display", "div", "comment"} and isinstance(value, str) else value


HARMLESS = [rendered(card["detail"]).found for card in evaluated(poisoned("harmless words"))["cards"]]


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_text_of_the_record_is_never_markup(payload: str) -> None:
    found = evaluated(poisoned(payload))["cards"]
    assert len(found) == len(HARMLESS)
    for card, expected in zip(found, HARMLESS, strict=True):
        tags = rendered(card["detail"])
        assert {tag for tag, _ in tags.found} <= OWN_TAGS
        assert all(not attributes for _, attributes in tags.found)
        assert abs(len(tags.found) - len(expected)) <= 2  # one list, at most, is a line longer or shorter
        words = "".join(tags.words)
        assert "://" not in words
        assert not re.search(r"www\.|[a-z]@[a-z]", words, re.IGNORECASE)
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\ufeff]", card["detail"])
        for text in (card["summary"], *(s["label"] for s in card.get("suggestions", []))):
            assert "<" not in text


def test_the_poison_is_really_on_the_card() -> None:
    """Otherwise the test above proves nothing."""
    details = "".join(card["detail"] for card in evaluated(poisoned("harmless words"))["cards"])
    assert details.count("harmless words") >= 4
