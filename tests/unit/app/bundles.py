"""Bundles of demo patients for the tests of what is said about them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from app import evaluate, knowledge
from app.knowledge import Bedside
from app.sandbox import patients
from fhir_mappings.facts import Overlay

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
PARIS = ZoneInfo("Europe/Paris")


@cache
def bedside() -> Bedside:
    return knowledge.load()


@cache
def _everything() -> list[dict[str, Any]]:
    return patients.bundle(NOW)


def resources(patient_id: str) -> list[dict[str, Any]]:
    """One demo patient's resources, with the Medication resources that they refer to; free to be changed."""
    mine = [
        r
        for r in _everything()
        if r["id"] == patient_id
        or f"Patient/{patient_id}" in {r.get(n, {}).get("reference") for n in ("subject", "patient")}
        or r["resourceType"] == "Medication"
    ]
    return copy.deepcopy(mine)


def bundle(found: Iterable[dict[str, Any]], *, kind: str = "collection", **more: Any) -> bytes:
    entries: list[dict[str, Any]] = [{"resource": resource} for resource in found]
    if kind == "transaction":
        for entry in entries:
            entry["request"] = {"method": "POST", "url": entry["resource"]["resourceType"]}
    if kind == "searchset":
        for entry in entries:
            entry["search"] = {"mode": "match"}
    return json.dumps({"resourceType": "Bundle", "type": kind, "entry": entries, **more}).encode()


def evaluated(raw: bytes, **options: Any) -> dict[str, Any]:
    """The public JSON of a Bundle at NOW, through the path of the command."""
    given: dict[str, Any] = {"now": NOW, "zone": PARIS, "overlay": Overlay()} | options
    return evaluate.document(raw, bedside=bedside(), options=evaluate.Options(**given))


def changed(patient_id: str, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> list[dict[str, Any]]:
    """The patient's resources after `change`; None drops one."""
    return [r for r in map(change, resources(patient_id)) if r is not None]
