"""The terminated trial: its arms as knowledge, what it asks a person, and its one line on a card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from uuid import UUID

import pytest

from app import cards, report
from app.clinical.assessment import Assessment, assess
from app.clinical.findings import Finding
from app.protocols import loader
from app.protocols.fields import KnowledgeError
from tests.unit.app.bundles import bedside
from tests.unit.app.clinical.build import (
    NOW,
    Item,
    condition,
    facts,
    knowledge,
    measurement,
    medication,
    offering,
    pair,
    procedure,
)

STAGES = {"rct-stage-2b": 1, "rct-stage-3": 2, "rct-evolved-3": 3}
TRIAL = "shared/trial.toml"


@pytest.mark.parametrize(("id_", "precedence"), STAGES.items())
def test_the_trial_never_speaks_and_names_its_arm(id_: str, precedence: int) -> None:
    protocol = knowledge().protocol(id_)
    assert not protocol.speak
    assert protocol.arm is not None
    assert protocol.arm.precedence == precedence
    assert protocol.arm.origin.source


def test_the_pilot_has_no_arm() -> None:
    assert knowledge().protocol("pilot-full").arm is None


def test_doses_as_the_register_writes_them() -> None:
    for id_ in ("rct-stage-2b", "rct-stage-3"):
        arm = knowledge().protocol(id_).arm
        assert arm is not None
        [dose] = arm.doses
        assert (dose.ingredient, dose.dose_mg, dose.per_day, dose.days, dose.at_most) == (
            *("anakinra", Decimal(300), 1, 5, False),
        )
        assert dose.then == "dose tapering, not specified in the register"
    evolved = knowledge().protocol("rct-evolved-3").arm
    assert evolved is not None
    assert [(d.ingredient, d.dose_mg, d.per_day, d.days, d.at_most, d.then) for d in evolved.doses] == [
        ("anakinra", Decimal(300), 1, 14, True, ""),
        ("ruxolitinib", Decimal(5), 2, 28, True, ""),
    ]


def test_every_stage_has_every_exclusion() -> None:
    exclusions = [c.id for c in knowledge().protocol("rct-stage-2b").criteria if c.id.startswith("R-EXCL-")]
    assert len(exclusions) == 17
    for id_ in STAGES:
        assert [c.id for c in knowledge().protocol(id_).criteria if c.id.startswith("R-EXCL-")] == exclusions


def test_the_six_routes_are_leaves_of_one_criterion() -> None:
    leaves = [c.id for c in knowledge().protocol("rct-evolved-3").criteria if c.part_of]
    assert leaves == ["R-EV-SHOCK", "R-EV-RENAL", "R-EV-LIVER", "R-EV-MYOCARDITIS", "R-EV-HLH", "R-EV-FERRITIN"]
    entries = {c["id"]: c for c in entry("rct-evolved-3", assessed())["criteria"]}
    assert {entries[id_]["of"] for id_ in leaves} == {"R-EVOLVED-ORGAN"}
    assert "of" not in entries["R-EVOLVED-ORGAN"]


# --------------------------------------------------------------------------- files that do not fit together


def changed(name: str, old: str, new: str) -> Mapping[str, str]:
    files = dict(loader.load().files)
    assert old in files[name]
    return {**files, name: files[name].replace(old, new, 1)}


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        (TRIAL, 'input = "covid_specimen"', 'input = "covid_swab"', "input 'covid_swab' has no block"),
        (TRIAL, 'input = "covid_specimen"', 'ask = "covid_specimen"', "ask"),
        ("rct_stage_3/protocol.toml", "precedence = 2", 'precedence = "second"', "precedence"),
        ("rct_stage_3/protocol.toml", "precedence = 2", "rank = 2", "rank"),
        ("rct_stage_3/protocol.toml", "days = 5", "", "has no `days`"),
        ("rct_stage_3/protocol.toml", "days = 5", 'days = "five"', "days"),
        ("rct_stage_3/protocol.toml", "days = 5", "day = 5", "day"),
        ("rct_stage_3/protocol.toml", 'ingredient = "anakinra"', 'ingredient = "anakinara"', "anakinara"),
        ("rct_stage_3/protocol.toml", 'reading = "B11, B14"', "", "has no `reading`"),
    ],
)
def test_what_does_not_fit_is_named(name: str, old: str, new: str, said: str) -> None:
    with pytest.raises(KnowledgeError, match=said):
        loader.build(changed(name, old, new))


# --------------------------------------------------------------------------- what a person confirms


def assessed(*items: Item) -> Assessment:
    return assess(facts(*items), knowledge=knowledge(), now=NOW)


def entry(id_: str, found: Assessment) -> dict[str, list[dict[str, object]]]:
    return report.protocol_entry(found.protocol(id_), assessment=found, words=bedside().plain)


def confirmations(found: Assessment, id_: str = "rct-stage-3") -> dict[object, object]:
    return {c["id"]: c["on_record"] for c in entry(id_, found)["confirmations"]}


def test_the_specimen_is_said_beside_the_question() -> None:
    swab = measurement("sarscov2_pcr", coded="positive", hours=240, specimen="nasopharyngeal")
    said = confirmations(assessed(swab))
    assert said["R-COVID-SPECIMEN"] == "specimen of the positive RT-PCR: nasopharyngeal"
    assert said["R-CONSENT"] == "not looked for"


def test_an_exclusion_without_a_record_is_asked_under_its_id() -> None:
    nothing = confirmations(assessed())
    assert nothing["R-EXCL-TRANSPLANT"] == "nothing on record"
    assert "R-EXCL-ANC" not in nothing
    assert "R-EXCL-TRANSPLANT" not in confirmations(assessed(condition("transplant")))


# --------------------------------------------------------------------------- the line on a card


def lines(found: Assessment) -> list[str]:
    shown = cards.build(found, words=bedside().words, decision=UUID(int=0), drafts=())
    [card] = [card for card in shown if card.indicator == "info"]
    return [text for text in card.detail.splitlines() if "Trial register" in text]


def line(found: Assessment) -> str:
    [said] = lines(found)
    return said


VENTILATED = procedure("ventilation-invasive", "ventilation", started=60)
RUN = (pair(64, "0.8", hours=30), pair(66, "0.8", hours=15), VENTILATED)
EVOLVED = ("ferritin", measurement("ferritin", 6000, hours=5))
CLOSED = (
    measurement("factor_v", 80, hours=5),
    procedure("dialysis", status="not-done", started=5),
    medication("noradrenaline", state="not-done", hours=1),
)


def test_the_highest_stage_that_would_have_matched() -> None:
    found = assessed(*offering(*RUN, EVOLVED[1], without=(EVOLVED[0],)))
    assert found.protocol("rct-stage-3").verdict is Finding.MET
    assert line(found).endswith("would have matched evolved stage 3.")


def test_a_higher_stage_that_is_open_is_named() -> None:
    found = assessed(*offering(*RUN))
    assert line(found).endswith("would have matched stage 3; criteria of evolved stage 3 could not be determined.")


def test_a_lower_stage_that_is_open_is_not() -> None:
    found = assessed(*offering(*RUN, *CLOSED))
    assert found.protocol("rct-stage-2b").verdict is Finding.UNKNOWN
    assert line(found).endswith("would have matched stage 3.")


def test_open_stages() -> None:
    assert line(assessed(*offering())).endswith(
        "criteria of evolved stage 3, stage 3, stage 2b could not be determined."
    )


def test_no_stage() -> None:
    extubated = procedure("ventilation-invasive", "ventilation", started=60, ended=1, status="completed")
    slow = measurement("respiratory_rate", 18)
    found = assessed(*offering(slow, extubated, without=("pplat", "nmba")))
    assert line(found).endswith("none of its stages would have matched.")


def test_knowledge_without_the_trial_says_nothing_of_it() -> None:
    shipped = knowledge()
    pilot = tuple(p for p in shipped.protocols if p.arm is None)
    found = assess(facts(*offering()), knowledge=replace(shipped, protocols=pilot), now=NOW)
    assert lines(found) == []
