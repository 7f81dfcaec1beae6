"""Patients never mix: the search for what is foreign finds what it is for, and the small run finds nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fhir_mappings import mapping
from tests.integration.hospital import DECISION
from tests.property.size import examples
from tests.security import mixing
from tests.security.mixing import Call, Trouble

KEYS = frozenset({"patient", "labs"})


# --- the corpus and the search --------------------------------------------------------------------------------


def test_no_two_patients_share_a_word_or_a_number() -> None:
    assert len(mixing.charts()) == mixing.PATIENTS == 50
    assert {whose for whose in mixing.numbers().values() if len(whose) > 1} == set()
    counted = [sum(number in whose for whose in mixing.numbers().values()) for number in range(mixing.PATIENTS)]
    assert min(counted) >= 5, "each has measured values of its own"


def test_every_resource_carries_its_patients_word() -> None:
    for number, chart in enumerate(mixing.charts()):
        word = mixing.mark(number)
        assert len(chart) > 10
        for resource in chart:
            text = json.dumps(resource)
            assert word in resource["id"]
            assert mixing.foreign(text, number=number) == []
            assert "demo-" not in text.replace("demo-icu", ""), "nothing of the story is left"
        observations = [one for one in chart if "valueQuantity" in one]
        assert all(mixing.own(json.dumps(one["valueQuantity"]), number=number) for one in observations)


@pytest.mark.parametrize("number", [0, 7, 24, 49])
def test_the_search_finds_each_kind_of_foreign_value(number: int) -> None:
    other = (number + 1) % mixing.PATIENTS
    value = next(text for text, whose in mixing.numbers().items() if whose == {other})
    for text in (f"CRP {value} mg/L", f"Observation/mix-{mixing.mark(other)}-crp-1", f"mg/L {mixing.mark(other)}"):
        assert len(mixing.foreign(text, number=number)) == 1
        assert mixing.foreign(text, number=other) == []
        assert mixing.own(text, number=other) == 1
    for chart in mixing.charts()[other]:
        assert mixing.foreign(json.dumps(chart), number=number)


def test_a_run_has_every_kind_of_call_and_trouble() -> None:
    templates = dict.fromkeys(mixing.HOOKS, dict.fromkeys(KEYS, "Patient"))
    made = list(mixing.calls(400, templates=templates, seed=1))
    assert made == list(mixing.calls(400, templates=templates, seed=1))
    assert {(call.hook, call.server, call.keys is None) for call in made} == {
        (hook, *way) for hook in mixing.HOOKS for way in ((True, True), (True, False), (False, False))
    }
    kinds = {trouble.kind for call in made for trouble in call.troubles}
    assert kinds == {"fails", "slow", "ends-early", "mixed", "wrong"}
    assert len({call.patient for call in made}) == mixing.PATIENTS
    assert all(trouble.other != call.patient for call in made for trouble in call.troubles if trouble.kind == "mixed")


# --- one hook -------------------------------------------------------------------------------------------------


def call(*, number: int = 1, patient: int = 0, troubles: tuple[Trouble, ...] = (), **more: object) -> Call:
    described = {"hook": "patient-view", "server": True, "keys": None} | more
    return Call(number, patient, troubles=troubles, **described)  # type: ignore[arg-type]


@pytest.mark.parametrize("resource_type", ["Observation", "Condition", "MedicationRequest"])
@pytest.mark.parametrize("gather", mixing.GATHERS)
async def test_a_mixed_bundle_is_said_and_not_used(tmp_path: Path, gather: mixing.Gather, resource_type: str) -> None:
    asked = call(troubles=(Trouble("mixed", resource_type, other=8),))
    async with mixing.opened(tmp_path, gather=gather) as hospital:
        answer = await hospital.answer(asked)
        assert hospital.ward.mixed == {asked.number}
        assert mixing.foreign(answer.text, number=0) == []
        assert mixing.said(answer.json(), call=asked, templates=hospital.templates[asked.hook])
        assert "records of another patient" in answer.json()["cards"][0]["detail"]
        assert not any(card.get("suggestions") for card in answer.json()["cards"])
        texts = [text for whose, text in hospital.rows() if whose == 0]
    assert len(texts) >= 3
    assert [one for text in texts for one in mixing.foreign(text, number=0)] == []


async def test_a_mixed_prefetch_is_said_and_not_used(tmp_path: Path) -> None:
    troubles = (Trouble("mixed", "Condition", other=8),)
    async with mixing.opened(tmp_path, gather="parallel") as hospital:
        asked = call(troubles=troubles, server=False, keys=frozenset(hospital.templates["patient-view"]))
        answer = await hospital.answer(asked)
        assert hospital.ward.mixed == {asked.number}
        assert mixing.said(answer.json(), call=asked, templates=hospital.templates[asked.hook])
    assert mixing.foreign(answer.text, number=0) == []


@pytest.mark.parametrize("server", [True, False])
async def test_another_patient_in_place_of_the_own_stops_everything(tmp_path: Path, server: bool) -> None:
    async with mixing.opened(tmp_path, gather="parallel") as hospital:
        keys = None if server else frozenset(hospital.templates["patient-view"])
        answer = await hospital.answer(call(troubles=(Trouble("wrong", "Patient", other=8),), server=server, keys=keys))
        found = answer.json()
        texts = [text for _, text in hospital.rows()]
    assert found["extension"][DECISION]["outcome"] == "identity-mismatch"
    assert len(found["cards"]) == 1
    assert [one for text in (answer.text, *texts) for one in mixing.foreign(text, number=0)] == []


async def test_an_answer_that_says_nothing_of_what_was_mixed_is_noticed(tmp_path: Path) -> None:
    asked = call(troubles=(Trouble("mixed", "Condition", other=8),))
    async with mixing.opened(tmp_path, gather="parallel") as hospital:
        silent = await hospital.answer(call(number=2))
        assert not mixing.said(silent.json(), call=asked, templates=hospital.templates[asked.hook])


# --- many -------------------------------------------------------------------------------------------------------


@pytest.mark.no_cover
async def test_interleaved_hooks_show_nobody_elses_values() -> None:
    found = await mixing.mixed_up(hooks=examples(800), alone=20)
    assert found.foreign == []
    assert found.unsaid == []
    assert found.different == []
    assert [row for row in mixing.rows(found) if not row.held] == []


@pytest.mark.no_cover
async def test_a_service_that_does_not_look_whose_a_record_is_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapping._Owner, "objection", lambda _self, _probe: "")
    found = await mixing.mixed_up(hooks=40, alone=1)
    assert found.foreign
    assert found.unsaid
    assert not all(row.held for row in mixing.rows(found))


@pytest.mark.no_cover
async def test_a_service_that_keeps_a_patients_resources_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache between requests, as somebody might add one: the first measured values for everybody."""
    kept: list[object] = []
    collect = mapping._FAMILIES["measurements"]

    def remembering(*arguments: object, **more: object) -> object:
        kept.append(collect(*arguments, **more)) if not kept else None
        return kept[0]

    monkeypatch.setitem(mapping._FAMILIES, "measurements", remembering)
    found = await mixing.mixed_up(hooks=20, alone=10)
    assert found.foreign
