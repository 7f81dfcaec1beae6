"""The source attributes: what has to be said is said, and what the knowledge says itself is filled in from it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from app import attributes
from app.protocols.fields import KnowledgeError
from tests.unit.app.bundles import bedside

ASKED = {
    "citation", "developer", "funding", "dates", "sex", "date-of-birth", "not-used", "intended-use", "out-of-scope",
    "inputs", "evidence", "validation", "maintenance", "expiry",
}  # fmt: skip
"""What 45 CFR 170.315(b)(11) asks of evidence-based decision support, and what clinical 4.2 adds."""

GOOD = 'name = "n"\nkind = "k"\nreleased = "r"\nupdated = "u"\n[[attribute]]\nid = "a"\ntitle = "t"\nvalue = ["v"]\n'


def said(id_: str) -> str:
    return " ".join(" ".join(a["value"]) for a in bedside().attributes["attributes"] if a["id"] == id_)


def test_everything_that_is_asked_for_is_there_once() -> None:
    ids = [a["id"] for a in bedside().attributes["attributes"]]
    assert set(ids) >= ASKED
    assert len(ids) == len(set(ids))


def test_versions_inputs_and_dates_are_the_knowledges_own() -> None:
    library = bedside().library
    assert library.knowledge.version in said("dates")
    assert library.words["card"]["evidence_reviewed"] in said("dates")
    assert library.words["card"]["evidence_expires"] in said("expiry")
    for spec in library.knowledge.inputs.values():
        assert spec.title in said("inputs")


def test_it_never_says_more_than_a_card_may() -> None:
    words = attributes.text(bedside().attributes)
    assert not re.search(r"\b(recommend\w*|effective\w*|should receive|responders?)\b", words, re.IGNORECASE)
    assert "Clinical: none." in said("validation")
    assert "Not a medical device" in said("intended-use")


def test_the_text_holds_every_sentence_in_lines_that_can_be_read() -> None:
    shown = attributes.text(bedside().attributes)
    flat = " ".join(shown.split())
    for attribute in bedside().attributes["attributes"]:
        assert attribute["title"] in shown
        for value in attribute["value"]:
            assert " ".join(value.split()) in flat
    assert max(map(len, shown.splitlines())) <= 100


def test_where_it_is_served() -> None:
    assert attributes.url("https://h/x") == "https://h/x/source-attributes"
    assert attributes.url(None) is None


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda text: text.replace("kind", "kin"), "the top has no `kind`"),
        (lambda text: text.replace("title =", "titel ="), "a has no `title`"),
        (lambda text: text.replace('["v"]', '[" "]'), 'a: says nothing: write "not known"'),
        (lambda text: text.replace('["v"]', '["{inptus}"]'), "a: a word in braces that is none of .*inputs"),
        (lambda text: text.replace('"r"', '"{"'), "released: a word in braces"),
        (lambda text: text + "[", "not TOML"),
    ],
)
def test_a_wrong_file_is_refused(change: Callable[[str], str], complaint: str) -> None:
    attributes.document(GOOD, bedside().library, version="1")
    with pytest.raises(KnowledgeError, match=rf"shared/source_attributes\.toml: .*{complaint}"):
        attributes.document(change(GOOD), bedside().library, version="1")
