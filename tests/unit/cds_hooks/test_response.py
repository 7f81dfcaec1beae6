from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from cds_hooks import response
from cds_hooks.response import Action, Card, Coding, Link, OverrideReason, Response, Source, Suggestion

UUID = "2f0b1c5e-7d4a-4c39-9a53-0f6f2f3d9b11"
OTHER_UUID = "7b3b6a52-5a2b-4c0f-8f0d-2d8d1f4f0a77"
DRUG = {"resourceType": "MedicationRequest", "id": "m1", "dosage": Decimal("0.50")}
SOURCE = Source(label="Rescue protocols")


def card(**changes: Any) -> Card:
    return Card(**{"summary": "Meets the protocol", "indicator": "info", "source": SOURCE} | changes)


def suggestion(**changes: Any) -> Suggestion:
    return Suggestion(**{"label": "Order anakinra"} | changes)


def empties(value: object, *, path: str = "") -> list[str]:
    if isinstance(value, dict):
        found = [name for member, inner in value.items() for name in empties(inner, path=f"{path}.{member}")]
    elif isinstance(value, list):
        found = [name for inner in value for name in empties(inner, path=f"{path}[]")]
    else:
        found = []
    return found + [path] * (value is None or value in ("", [], {}))


def test_the_least_answer() -> None:
    assert response.encode(Response()) == b'{"cards":[]}'
    assert Response(cards=(card(),)).to_json() == {
        "cards": [{"summary": "Meets the protocol", "indicator": "info", "source": {"label": "Rescue protocols"}}]
    }


def test_the_fullest_answer() -> None:
    topic = Coding(code="rescue", system="urn:oid:2.25.1234", display="Rescue")
    full = card(
        uuid=UUID,
        detail="| a | b |\n| --- | --- |\n| 1 | 2 |",
        source=Source(
            label="Rescue", url="https://example.org/a?b=1", icon="https://example.org/icon.png", topic=topic
        ),
        suggestions=(
            suggestion(
                uuid=OTHER_UUID,
                is_recommended=True,
                actions=(
                    Action(type="create", description="Order", resource=DRUG),
                    Action(type="update", description="Change", resource=DRUG),
                    Action(type="delete", description="Stop", resource_id="MedicationRequest/m1"),
                ),
            ),
            suggestion(),
        ),
        selection_behavior="at-most-one",
        override_reasons=(OverrideReason(code="r1", system="https://example.org/reasons", display="Not now"),),
        links=(
            Link(label="Protocol", url="https://example.org/protocol", type="absolute"),
            Link(label="App", url="http://localhost:8000/launch", type="smart", app_context='{"card": 1}\n'),
        ),
        extension={"org.rescue-cds.evidence": [{"value": Decimal("1.10"), "unit": None, "gaps": []}]},
    )
    answer = Response(cards=(full,), extension={"org.rescue-cds.decision": {"id": "d1", "outcome": "card", "x": {}}})
    sent = json.loads(response.encode(answer), parse_float=Decimal)
    assert sent == {
        "cards": [
            {
                "uuid": UUID,
                "summary": "Meets the protocol",
                "detail": "| a | b |\n| --- | --- |\n| 1 | 2 |",
                "indicator": "info",
                "source": {
                    "label": "Rescue",
                    "url": "https://example.org/a?b=1",
                    "icon": "https://example.org/icon.png",
                    "topic": {"code": "rescue", "system": "urn:oid:2.25.1234", "display": "Rescue"},
                },
                "suggestions": [
                    {
                        "label": "Order anakinra",
                        "uuid": OTHER_UUID,
                        "isRecommended": True,
                        "actions": [
                            {"type": "create", "description": "Order", "resource": DRUG},
                            {"type": "update", "description": "Change", "resource": DRUG},
                            {"type": "delete", "description": "Stop", "resourceId": "MedicationRequest/m1"},
                        ],
                    },
                    {"label": "Order anakinra"},
                ],
                "selectionBehavior": "at-most-one",
                "overrideReasons": [{"code": "r1", "system": "https://example.org/reasons", "display": "Not now"}],
                "links": [
                    {"label": "Protocol", "url": "https://example.org/protocol", "type": "absolute"},
                    {
                        "label": "App",
                        "url": "http://localhost:8000/launch",
                        "type": "smart",
                        "appContext": '{"card": 1}\n',
                    },
                ],
                "extension": {"org.rescue-cds.evidence": [{"value": Decimal("1.10")}]},
            }
        ],
        "extension": {"org.rescue-cds.decision": {"id": "d1", "outcome": "card"}},
    }
    assert empties(sent) == []
    assert empties(Response().to_json()) == [".cards"]


def test_an_extension_of_nothing_is_left_out() -> None:
    empty = {"org.example.x": {"a": None, "b": [], "c": {"d": ""}}}
    assert Response(cards=(card(extension=empty),), extension=empty).to_json() == {"cards": [card().to_json()]}
    kept = {"org.example.x": {"zero": 0, "no": False, "list": [None, 1]}}
    assert Response(extension=kept).to_json()["extension"] == kept


@pytest.mark.parametrize("digits", ["0.50", "1.10", "100", "0.1234567890123456789012345", "1E+2", "-0.0", "0E-7"])
def test_a_decimal_keeps_its_digits(digits: str) -> None:
    answer = Response(extension={"org.example.value": Decimal(digits)})
    sent = response.encode(answer)
    assert sent == b'{"cards":[],"extension":{"org.example.value":%s}}' % digits.encode()
    assert json.loads(sent, parse_float=Decimal, parse_int=Decimal)["extension"]["org.example.value"] == Decimal(digits)


def test_a_summary_has_139_characters_at_most() -> None:
    assert len(card(summary="é" * 139).summary) == 139
    with pytest.raises(ValueError, match="140 characters; the most is 139"):
        card(summary="x" * 140)


@pytest.mark.parametrize(
    "changes",
    [
        {"summary": ""},
        {"summary": "  "},
        {"summary": "two\nlines"},
        {"summary": "bell\a"},
        {"summary": "\ud800"},
        {"indicator": "hard-stop"},
        {"indicator": ""},
        {"detail": ""},
        {"detail": " \n"},
        {"detail": "a\x00b"},
        {"detail": "a\udc00"},
        {"uuid": "1"},
        {"uuid": UUID.upper()},
        {"uuid": UUID + "\n"},
        {"suggestions": (suggestion(),)},
        {"suggestions": (suggestion(),), "selection_behavior": "all"},
        {"selection_behavior": "any"},
        {
            "suggestions": (suggestion(is_recommended=True), suggestion(is_recommended=True)),
            "selection_behavior": "at-most-one",
        },
        {"suggestions": (suggestion(uuid=UUID), suggestion(uuid=UUID)), "selection_behavior": "any"},
        {"extension": {"evidence": 1}},
        {"extension": {1: 1}},
        {"extension": {"org.example.x": float("nan")}},
        {"extension": {"org.example.x": [float("inf")]}},
        {"extension": {"org.example.x": Decimal("NaN")}},
        {"extension": {"org.example.x": {"y": Decimal("-Infinity")}}},
        {"extension": {"org.example.x": "\ud800"}},
        {"extension": {"org.example.x": {"\udfff": 1}}},
        {"extension": {"org.example.x": object()}},
        {"extension": {"org.example.x": b"bytes"}},
    ],
)
def test_cards_that_cannot_be_built(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        card(**changes)


def test_any_allows_several_recommendations() -> None:
    both = (suggestion(is_recommended=True), suggestion(is_recommended=True))
    assert card(suggestions=both, selection_behavior="any").to_json()["selectionBehavior"] == "any"


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "replace", "resource": DRUG},
        {"description": "", "resource": DRUG},
        {},
        {"resource": {}},
        {"resource": {"resourceType": ""}},
        {"resource": {"resourceType": 1}},
        {"resource": DRUG, "resource_id": "MedicationRequest/m1"},
        {"resource": DRUG | {"value": float("nan")}},
        {"resource": DRUG | {"value": {1: 2}}},
        {"type": "update"},
        {"type": "update", "resource": {"resourceType": "MedicationRequest"}},
        {"type": "delete"},
        {"type": "delete", "resource": DRUG},
        {"type": "delete", "resource": DRUG, "resource_id": "MedicationRequest/m1"},
        {"type": "delete", "resource_id": "m1"},
        {"type": "delete", "resource_id": "https://ehr.example/MedicationRequest/m1"},
    ],
)
def test_actions_that_cannot_be_built(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Action(**{"type": "create", "description": "Order"} | changes)


@pytest.mark.parametrize(
    "url",
    ["", "example.org", "/path", "ftp://example.org", "javascript:alert(1)", "https:///x", "https://a b", "http://[x"],
)
def test_urls_are_absolute_and_of_the_web(url: str) -> None:
    with pytest.raises(ValueError):
        Link(label="x", url=url, type="absolute")
    with pytest.raises(ValueError):
        Source(label="x", url=url)
    with pytest.raises(ValueError):
        Source(label="x", icon=url)


@pytest.mark.parametrize(
    "changes",
    [{"label": ""}, {"type": "relative"}, {"app_context": "x"}]
    + [{"type": "smart", "app_context": context} for context in ("", "a\x00")],
)
def test_links_that_cannot_be_built(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Link(**{"label": "Protocol", "url": "https://example.org", "type": "absolute"} | changes)


@pytest.mark.parametrize(
    "changes", [{"code": ""}, {"system": ""}, {"system": "reasons"}, {"system": "urn:x y"}, {"display": ""}]
)
def test_codings_that_cannot_be_built(changes: dict[str, Any]) -> None:
    members = {"code": "r1", "system": "urn:oid:2.25.1", "display": "Not now"} | changes
    with pytest.raises(ValueError):
        OverrideReason(**members)
    with pytest.raises(ValueError):
        Coding(**members)
    assert Coding(code="r1", system="urn:oid:2.25.1").to_json() == {"code": "r1", "system": "urn:oid:2.25.1"}


def test_other_texts_are_required() -> None:
    with pytest.raises(ValueError, match=r"source\.label"):
        Source(label="")
    with pytest.raises(ValueError, match=r"suggestion\.label"):
        suggestion(label="a\nb")
    with pytest.raises(ValueError, match="uuid"):
        suggestion(uuid="x")


def test_answers_that_cannot_be_built() -> None:
    with pytest.raises(ValueError, match="same uuid twice"):
        Response(cards=(card(uuid=UUID), card(uuid=UUID)))
    with pytest.raises(ValueError, match="reverse DNS"):
        Response(extension={"decision": 1})


def test_reprs_hold_no_resource() -> None:
    action = Action(type="create", description="Order", resource=DRUG)
    text = repr(Response(cards=(card(detail="born 1950"),), extension={"org.example.x": "p1"})) + repr(action)
    assert "born" not in text
    assert "p1" not in text
    assert "MedicationRequest" not in text
