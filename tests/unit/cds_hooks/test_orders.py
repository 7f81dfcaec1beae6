"""Draft orders as clients send them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cds_hooks import orders, request
from cds_hooks.errors import BadRequest
from cds_hooks.orders import Order

ANAKINRA = {"resourceType": "MedicationRequest", "id": "request-123", "status": "draft"}
OTHER = {"resourceType": "ServiceRequest", "id": "7", "status": "draft"}


def call(**context: Any) -> request.HookRequest:
    content = {
        "hook": "order-select",
        "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
        "context": {"patientId": "p1", "userId": "Practitioner/1", **context},
    }
    return request.parse(json.dumps(content).encode(), hook="order-select")


def bundle(*resources: Any, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Bundle", "entry": [{"resource": resource} for resource in resources], **more}


def test_the_orders_of_a_bundle_without_a_type() -> None:
    found = orders.of(call(draftOrders=bundle(ANAKINRA, OTHER)))
    assert [order.reference for order in found.orders] == ["MedicationRequest/request-123", "ServiceRequest/7"]
    assert json.loads(found.orders[0].raw) == ANAKINRA
    assert found.selections is None
    assert found.selected == found.orders


@pytest.mark.parametrize(
    ("selections", "selected"),
    [
        (["MedicationRequest/request-123"], ["MedicationRequest/request-123"]),
        (["https://ehr.example/fhir/MedicationRequest/request-123/_history/2"], ["MedicationRequest/request-123"]),
        (["MedicationRequest/gone"], ["MedicationRequest/request-123", "ServiceRequest/7"]),
        ([7, None, ""], ["MedicationRequest/request-123", "ServiceRequest/7"]),
        ([], ["MedicationRequest/request-123", "ServiceRequest/7"]),
        (None, ["MedicationRequest/request-123", "ServiceRequest/7"]),
    ],
)
def test_selections_say_what_was_just_picked(selections: Any, selected: list[str]) -> None:
    found = orders.of(call(draftOrders=bundle(ANAKINRA, OTHER), selections=selections))
    assert [order.reference for order in found.selected] == selected


@pytest.mark.parametrize(
    ("draft", "found"),
    [
        (bundle(), ()),
        ({"resourceType": "Bundle"}, ()),
        ({"resourceType": "Bundle", "entry": None}, ()),
        ({"entry": [{"fullUrl": "urn:x"}, {"resource": None}]}, ()),
        (bundle({}), (Order("", "", b"{}"),)),
        (bundle({"resourceType": 7, "id": ["x"]}), (Order("", "", b'{"resourceType": 7, "id": ["x"]}'),)),
    ],
)
def test_what_is_not_there_yet(draft: Any, found: tuple[Order, ...]) -> None:
    assert orders.of(call(draftOrders=draft)).orders == found


@pytest.mark.parametrize(
    ("context", "says"),
    [
        ({}, "draftOrders must be a Bundle"),
        ({"draftOrders": None}, "draftOrders must be a Bundle"),
        ({"draftOrders": []}, "draftOrders must be a JSON object"),
        ({"draftOrders": ANAKINRA}, "draftOrders must be a Bundle"),
        ({"draftOrders": {"entry": {}}}, "entry must be a list"),
        ({"draftOrders": {"entry": ["x"]}}, "entry must be a JSON object"),
        ({"draftOrders": bundle("x")}, "resource must be a JSON object"),
        ({"draftOrders": bundle(), "selections": "MedicationRequest/1"}, "selections must be a list"),
        ({"draftOrders": bundle(*([OTHER] * 1001))}, "more than 1000"),
    ],
)
def test_what_is_no_draft_order(context: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRequest) as caught:
        orders.of(call(**context))
    assert says in caught.value.message


def test_an_order_prints_nothing_of_its_content() -> None:
    (order,) = orders.of(call(draftOrders=bundle(ANAKINRA))).orders
    assert "draft" not in repr(order)
