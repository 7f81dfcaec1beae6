"""The product table: each line can be checked by its name, and only what two sources agree on is trusted."""

from __future__ import annotations

import pytest

from fhir_mappings import codebook
from fhir_mappings.words import Screen

BOOK = codebook.load("ingredients")
PRODUCTS = {mark: row for mark, row in BOOK.tables["products"].items() if mark.startswith("rxnorm|")}
NAMES = Screen({name: BOOK.tables[name].get("names", ()) for name in {code.concept for code in BOOK.codes}})
CHECKED_BEFORE = {"727711", "2047241", "242969", "1745276", "7512"}
"""Seen in one source each, and read by eye against their ingredient when they came in."""


@pytest.mark.parametrize("mark", sorted(PRODUCTS))
def test_the_name_of_a_product_names_what_it_stands_for(mark: str) -> None:
    name = PRODUCTS[mark]["source"].rpartition(": ")[2]
    found = {each for each in NAMES.find(name) if not each.startswith("other ")}
    assert found == set(PRODUCTS[mark]["ingredients"]), name


@pytest.mark.parametrize("mark", sorted(PRODUCTS))
def test_a_product_is_trusted_only_where_two_sources_agree(mark: str) -> None:
    row, code = PRODUCTS[mark], mark.rpartition("|")[2]
    assert code.isdigit()
    sources = row["source"].rpartition(": ")[0].split("; ")
    assert row.get("verified", True) is (len(sources) > 1 or code in CHECKED_BEFORE)


def test_no_topical_product_is_listed() -> None:
    """A code says no route, so it would count as one that reaches the whole body."""
    topical = ("Topical", "Ophthalmic", "Otic", "Vaginal", "Inhal")
    assert [mark for mark, row in PRODUCTS.items() if any(word in row["source"] for word in topical)] == []


def test_the_study_drugs_are_known_by_their_products() -> None:
    known = {name for row in PRODUCTS.values() if row.get("verified", True) for name in row["ingredients"]}
    assert {"anakinra", "ruxolitinib"} <= known
