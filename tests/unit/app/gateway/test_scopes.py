"""Scope strings: both spellings, and what is too little."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import knowledge
from app.gateway.scopes import SYSTEM_READ, covers, is_system, missing


@pytest.mark.parametrize(
    "scope",
    [
        "",
        "  ",
        "patient/Observation.read",
        "patient/Observation.rs",
        "patient/Observation.cruds",
        "patient/Observation.*",
        "patient/*.read",
        "patient/*.rs",
        "patient/*.*",
        "user/Observation.rs",
        "user/*.cruds",
        "system/Observation.rus",
        "system/*.read",
        "launch openid patient/Patient.r patient/Observation.rs",
        "patient/Observation.r patient/Observation.s",
        "patient/*.s patient/Observation.r",
        "patient/Observation.rs?category=laboratory patient/Observation.rs",
        "patient/Observation.write patient/Observation.read",
    ],
)
def test_a_scope_that_lets_observations_be_read_and_searched(scope: str) -> None:
    assert covers(scope, "Observation")


@pytest.mark.parametrize(
    "scope",
    [
        "launch openid fhirUser",
        "patient/Condition.rs",
        "patient/Observation.r",
        "patient/Observation.s",
        "patient/Observation.write",
        "patient/Observation.cud",
        "patient/Observation.rs?category=laboratory",
        "patient/*.rs?_tag=icu",
        "patient/Observation.r user/Observation.s",
        "patient/Observation.sr",
        "patient/Observation.",
        "patient/Observation.rrs",
        "patient/Observation",
        "Observation.rs",
        "patient/observation.rs",
        "patient/Observation.READ",
        "patient/Observation.rs,patient/Condition.rs",
        "agent/Observation.rs",
        "patient/Observations.rs",
        "patient/Observation.rs?",
    ],
)
def test_a_scope_that_does_not(scope: str) -> None:
    assert not covers(scope, "Observation")


CLINICAL = st.builds(
    "{}/{}.{}{}".format,
    st.sampled_from(["patient", "user", "system"]),
    st.sampled_from(["Observation", "Condition", "*"]),
    st.sampled_from(["read", "write", "*", "r", "s", "rs", "cruds", "cud", "us"]),
    st.sampled_from(["", "", "?code=a"]),
)
OTHER = st.text(st.characters(codec="utf-8", exclude_characters="/", exclude_categories=["Z", "C"]), min_size=1)


@given(st.lists(CLINICAL, min_size=1), st.lists(CLINICAL | OTHER))
def test_more_scopes_never_allow_less(scopes: list[str], more: list[str]) -> None:
    if covers(" ".join(scopes), "Observation"):
        assert covers(" ".join([*more, *scopes]), "Observation")


@given(st.lists(OTHER, min_size=1))
def test_words_that_are_no_clinical_scope_allow_nothing(words: list[str]) -> None:
    assert not covers(" ".join(words), "Observation")


@given(st.text())
def test_any_string_has_an_answer(scope: str) -> None:
    assert covers(scope, "Observation") in {True, False}
    assert covers(scope, "Observation") or scope.split()


@given(st.lists(CLINICAL), st.lists(CLINICAL))
def test_what_was_granted_is_not_missing_and_nothing_is_missing_twice(needed: list[str], granted: list[str]) -> None:
    lacking = missing(needed, granted=" ".join(granted))
    assert not set(lacking) & set(granted)
    assert missing(lacking, granted=" ".join(granted)) == lacking
    assert missing(needed, granted=" ".join([*granted, *lacking])) == ()


@pytest.mark.parametrize(
    "granted",
    [
        "system/*.rs",
        "system/*.read",
        "system/*.cruds",
        "system/*.*",
        "system/*.r system/*.s",
        " ".join(SYSTEM_READ),
        " ".join(SYSTEM_READ).replace(".rs", ".read"),
        " ".join(reversed(SYSTEM_READ)) + " offline_access",
    ],
)
def test_every_spelling_of_enough_is_enough(granted: str) -> None:
    assert missing(SYSTEM_READ, granted=granted) == ()


def test_what_was_not_granted_is_named() -> None:
    assert missing(SYSTEM_READ, granted="") == SYSTEM_READ
    assert missing(SYSTEM_READ, granted="user/*.rs patient/*.rs") == SYSTEM_READ
    assert missing(("system/Observation.rs", "system/Condition.rs"), granted="system/Observation.rs") == (
        "system/Condition.rs",
    )
    assert missing(("system/Observation.rs",), granted="system/Observation.r") == ("system/Observation.rs",)
    assert missing(("system/*.rs",), granted=" ".join(SYSTEM_READ)) == ("system/*.rs",)
    assert missing(("system/Observation.read",), granted="system/Observation.rs") == ()


def test_a_scope_that_is_none_or_is_narrowed_has_to_be_granted_as_it_is() -> None:
    narrowed = "system/Observation.rs?category=laboratory"
    assert missing((narrowed,), granted=narrowed) == ()
    assert missing((narrowed,), granted="system/Observation.rs") == ()
    assert missing((narrowed,), granted="system/Observation.rs?category=vital-signs") == (narrowed,)
    assert missing(("system/Observation.rs",), granted=narrowed) == ("system/Observation.rs",)
    assert missing(("fhirUser",), granted="fhirUser openid") == ()
    assert missing(("fhirUser",), granted="system/*.cruds") == ("fhirUser",)


def test_the_scopes_asked_for_by_default_hold_every_type_of_the_plan() -> None:
    assert all(is_system(scope) for scope in SYSTEM_READ)
    for need in knowledge.load().needs:
        assert covers(" ".join(SYSTEM_READ), need.resource_type)


@pytest.mark.parametrize(
    "scope", ["", "openid", "patient/Observation.rs", "system/Observation.", "system/Observation.rs system/*.rs"]
)
def test_what_is_no_system_scope(scope: str) -> None:
    assert not is_system(scope)
