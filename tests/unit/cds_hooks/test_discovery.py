from __future__ import annotations

from typing import Any

import pytest

from cds_hooks import discovery
from cds_hooks.discovery import Service


def service(**changes: Any) -> Service:
    return Service(
        **{"id": "rescue-patient-view", "hook": "patient-view", "title": "Rescue", "description": "What it does."}
        | changes
    )


def test_document() -> None:
    full = service(prefetch={"patient": "Patient/{{context.patientId}}"}, usage_requirements="Needs labs.")
    least = service(id="rescue-order-sign", hook="order-sign", version="3.0.0-ballot")
    assert discovery.document([full, least]) == {
        "services": [
            {
                "id": "rescue-patient-view",
                "hook": "patient-view",
                "title": "Rescue",
                "description": "What it does.",
                "version": "2.0.1",
                "prefetch": {"patient": "Patient/{{context.patientId}}"},
                "usageRequirements": "Needs labs.",
            },
            {
                "id": "rescue-order-sign",
                "hook": "order-sign",
                "title": "Rescue",
                "description": "What it does.",
                "version": "3.0.0-ballot",
            },
        ]
    }
    assert discovery.document([]) == {"services": []}


def test_the_same_id_for_another_hook_is_allowed() -> None:
    assert len(discovery.document([service(), service(hook="order-sign")])["services"]) == 2
    with pytest.raises(ValueError, match="same id and hook"):
        discovery.document([service(), service()])


@pytest.mark.parametrize(
    "changes",
    [
        {"id": ""},
        {"id": "a/b"},
        {"id": ".."},
        {"id": "a b"},
        {"hook": ""},
        {"hook": "Patient View"},
        {"title": " "},
        {"description": ""},
        {"usage_requirements": ""},
        {"version": "2"},
        {"prefetch": {"my key": "Patient/{{context.patientId}}"}},
        {"prefetch": {"labs": "Observation?_include=x"}},
    ],
)
def test_a_service_that_clients_cannot_use(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        service(**changes)
