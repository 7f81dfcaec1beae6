"""The vocabulary of facts."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from fhir_mappings.facts import Allergy, Condition, Facts, Gap, Measurement, Source, When
from tests.unit.fhir_mappings.build import NOW


def when(hours: float = 0) -> When:
    moment = NOW - timedelta(hours=hours)
    return When(moment, moment)


@pytest.mark.parametrize(
    ("members", "active", "refuted"),
    [
        ({}, True, False),
        ({"abatement": when()}, False, False),
        ({"clinical": "active", "abatement": when()}, True, False),
        ({"clinical": "recurrence"}, True, False),
        ({"clinical": "relapse"}, True, False),
        ({"clinical": "remission"}, False, False),
        ({"clinical": "active", "verification": "refuted"}, False, True),
        ({"verification": "entered-in-error"}, False, True),
        ({"verification": "provisional"}, True, False),
    ],
)
def test_conditions(members: dict[str, Any], active: bool, refuted: bool) -> None:
    condition = Condition("Condition/c", ("covid19",), **members)
    assert (condition.active, condition.refuted) == (active, refuted)


@pytest.mark.parametrize(
    ("clinical", "verification", "counts"),
    [
        ("", "", True),
        ("active", "confirmed", True),
        ("resolved", "", False),
        ("active", "refuted", False),
        ("", "entered-in-error", False),
    ],
)
def test_allergies(clinical: str, verification: str, counts: bool) -> None:
    assert Allergy("AllergyIntolerance/a", ("lactose",), clinical, verification).counts is counts


@pytest.mark.parametrize(
    ("outcome", "reaches", "since", "covers"),
    [
        ("ok", None, None, True),
        ("ok", None, NOW, True),
        ("empty", None, None, True),
        ("failed", None, NOW, False),
        ("failed", NOW, NOW, False),
        ("partial", None, NOW, False),
        ("partial", NOW, NOW, True),
        ("partial", NOW, NOW - timedelta(1), False),
        ("partial", NOW, None, False),
        ("ok", NOW, None, False),
    ],
)
def test_what_a_source_covers(outcome: Any, reaches: datetime | None, since: datetime | None, covers: bool) -> None:
    assert Source("labs", "Observation", outcome, reaches=reaches).covers(since) is covers


def test_facts() -> None:
    older = Measurement("crp", "Observation/a", when(5), Decimal(1))
    newer = Measurement("crp", "Observation/b", when(1), Decimal(2))
    other = Measurement("alt", "Observation/c", when(1), Decimal(3))
    refused = Gap("labs", "no-unit", "crp", displaces=True)
    facts = Facts(
        NOW,
        "UTC",
        measurements=(older, other, newer),
        gaps=(refused, Gap("labs", "future", "crp"), Gap("labs", "no-unit", "alt", displaces=True)),
        sources=(Source("labs", "Observation", "ok"),),
    )
    assert facts.of("crp") == (newer, older)
    assert facts.of("ast") == ()
    assert facts.refused(["crp", "ast"]) == (refused,)
    assert facts.source("labs").outcome == "ok"
    assert (facts.source("ecmo").outcome, facts.source("ecmo").why) == ("failed", "not-asked")
    assert facts.overlay.codes == {}


def test_an_instant_is_exact() -> None:
    assert when().exact
    assert not When(NOW, NOW + timedelta(days=1)).exact
