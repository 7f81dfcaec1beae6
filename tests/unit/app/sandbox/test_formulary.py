"""What the order pad offers: valid orders, codes that this project knows, and the pair as the protocol has it."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.medicationrequest import MedicationRequest

import app
import fhir_mappings
from app.sandbox import formulary
from app.sandbox.formulary import CHOICES, Choice
from fhir_mappings.coding import system_name

CONCEPTS = Path(fhir_mappings.__file__).parent / "concepts"
NO_CONCERN = {"paracetamol"}
BY_TEXT = {"kineret"}


@cache
def concepts(name: str) -> dict[str, Any]:
    return tomllib.loads((CONCEPTS / f"{name}.toml").read_text(encoding="utf-8"))


def known(system: str, code: str) -> set[str]:
    """The ingredients, or "live vaccine", that a verified code stands for."""
    found = {
        name
        for name, entry in concepts("ingredients").items()
        for each in entry.get("codes", ())
        if (each["system"], each["code"], each.get("verified", True)) == (system, code, True)
    }
    live = concepts("vaccines")["live"]["codes"]
    return found | {"live vaccine" for each in live if (each["system"], each["code"]) == (system, code)}


def codings(choice: Choice) -> list[tuple[str, str, str]]:
    """The name, system and code of every coding of a choice, as the page gets it."""
    written = [order.written()["medication"] for order in choice.orders]
    return [
        (one["text"], system_name(coding["system"]), coding["code"])
        for one in written
        for coding in one.get("coding", ())
    ]


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: choice.key)
def test_codes_mean_what_the_list_says(choice: Choice) -> None:
    found = codings(choice)
    assert bool(found) is (choice.key not in BY_TEXT)
    for name, system, code in found:
        meant = {"live vaccine"} if choice.key == "mmr" else set() if choice.key in NO_CONCERN else {name}
        assert known(system, code) == meant


def test_the_order_by_text_names_a_drug_of_the_protocol_to_the_text_screen() -> None:
    (choice,) = [choice for choice in CHOICES if choice.key == "kineret"]
    assert any(name in choice.orders[0].name.lower() for name in concepts("ingredients")["anakinra"]["names"])


def test_the_pair_is_the_schedule_of_the_protocol() -> None:
    path = Path(app.__file__).parent / "protocols" / "shared" / "treatment.toml"
    drugs = tomllib.loads(path.read_text(encoding="utf-8"))["drug"]
    (pair,) = [choice for choice in CHOICES if choice.key == "pair"]
    for order, drug in zip(pair.orders, drugs, strict=True):
        steps = [(step["dose_mg"], step["per_day"], step["to_day"] - step["from_day"] + 1) for step in drug["steps"]]
        assert [(step.dose, step.times, step.days) for step in order.steps] == steps
        assert order.name == drug["display"]
        assert (order.route[0][1], order.route[1]) == (drug["route_snomed"], drug["route_text"])
        assert {code for _, _, code in codings(pair)} >= {drug["atc"], drug["rxnorm"]}


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: choice.key)
def test_what_the_page_is_given_makes_valid_orders(choice: Choice) -> None:
    """As page/orders.js writes them, but for the ids and dates."""
    told = formulary.pad()
    (offered,) = [each for each in told["choices"] if each["key"] == choice.key]
    for line in offered["orders"]:
        dosages = [
            {
                "timing": {
                    "repeat": {
                        "boundsDuration": told["day"] | {"value": step["days"]},
                        "frequency": step["times"],
                        "period": 1,
                        "periodUnit": "d",
                    }
                },
                "route": line["route"],
                "doseAndRate": [{"doseQuantity": step["quantity"]}],
            }
            for step in line["steps"]
        ]
        order = {
            "resourceType": "MedicationRequest",
            "status": "draft",
            "intent": "order",
            **told["order"],
            "medicationCodeableConcept": line["medication"],
            "subject": {"reference": "Patient/a"},
            "dosageInstruction": dosages,
        }
        assert MedicationRequest.model_validate(order)
        assert line["route"] in told["routes"]


def test_keys_are_unique_and_days_are_written_in_both_ways() -> None:
    assert len({choice.key for choice in CHOICES}) == len(CHOICES)
    assert {order.bounds for choice in CHOICES for order in choice.orders} == {"period", "duration"}
