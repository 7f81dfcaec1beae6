"""GuidanceResponse: what was decided, on which knowledge, and which data would have told more.

Profile: FHIR R4 `cdshooksguidanceresponse` (knowledge: security 4.3). `status` says how far the evaluation came, not
what it said: `success`; `data-requested`, it came to an end and more data would tell more; `data-required`, it could
not be made without; `failure`, nothing was evaluated, for another reason than missing data. The reason, and every gap,
stand in words in a contained OperationOutcome.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

from app.clinical.table import EVERYTHING
from app.export import device, names
from app.export.elements import FHIR, Json, identifier, instant, reference
from app.export.rows import Made

PROFILE: Final = f"{FHIR}/cdshooksguidanceresponse"
ENDPOINT: Final = f"{FHIR}/cqf-cdsHooksEndpoint"

Status = Literal["success", "data-requested", "data-required", "failure"]

MEANINGS: Final[Mapping[str, tuple[str, str]]] = {
    "card": ("informational", "Cards were shown."),
    "follow-up": ("informational", "A course of the two drugs is running: the card of the follow-up was shown."),
    "not-met": ("informational", "No card: the measured thresholds are known not to be met."),
    "not-the-population": (
        "informational",
        "No card: the patient is known not to be adult, or SARS-CoV-2 is known negative.",
    ),
    "out-of-scope": (
        "informational",
        "No card: something is unknown, but nothing says that this patient is one to speak about.",
    ),
    "nothing-to-say": ("informational", "No card: no check speaks of the drafted orders. This is no all clear."),
    "deceased": ("informational", "No card: the Patient is recorded as deceased."),
    "patient-user": ("suppressed", "Not evaluated: the user is a patient or a related person. Nothing was read."),
    "identity-mismatch": (
        "conflict",
        "Not evaluated: the data, or one of the drafted orders, are not those of the patient of the call.",
    ),
    "disabled": ("suppressed", "No card: the site has silenced what would have been shown."),
    "silent": ("suppressed", "No card: silent mode. Evaluated and recorded, nothing shown."),
    "snoozed": ("suppressed", "No card: the same state had been shown to this user before."),
    "not-evaluated": ("incomplete", "Not evaluated: nothing could be looked at."),
}
"""Outcome -> code of an issue (FHIR `issue-type`), and what it means (docs/integrate.md)."""

_NOT_EVALUATED: Final = frozenset({"patient-user", "identity-mismatch"})
_OPEN_ROWS: Final = frozenset({"undetermined", "population-unknown", "out-of-scope"})
"""Rows of the table of cards whose verdict more data may change (app/protocols/shared/patient_view.toml)."""

_TYPES: Final = frozenset(
    {
        *("AllergyIntolerance", "Condition", "Device", "Encounter", "Immunization", "Medication"),
        *("MedicationAdministration", "MedicationRequest", "MedicationStatement", "Observation", "Patient"),
        *("Procedure", "Specimen"),
    }
)
"""What a gap may be of. Another word in its place is a key of the plan, and no resource type."""


def response(made: Made) -> Json:
    """The GuidanceResponse of a decision."""
    found: Json = {
        "resourceType": "GuidanceResponse",
        "id": names.guidance(made),
        "meta": {"profile": [PROFILE]},
        "contained": [_outcome(made)],
        "extension": [{"url": ENDPOINT, "valueUri": _endpoint(made)}],
        "requestIdentifier": {"value": made.hook_instance, "assigner": {"display": made.client}},
        "identifier": [identifier(made.id)],
        "moduleUri": names.module(made),
        "status": status(made),
        "occurrenceDateTime": instant(made.created_at),
        "performer": reference("Device", device.version_id(made.versions, knowledge_hash=made.knowledge_hash)),
        "evaluationMessage": [{"reference": "#why"}],
    }
    found |= names.about(made)
    if made.cards:
        found["result"] = reference("RequestGroup", names.cards(made))
    if wanted := _wanted(made):
        found["dataRequirement"] = wanted
    return found


def status(made: Made) -> Status:
    """What is silenced or snoozed was evaluated all the same, unless everything was switched off."""
    outcome = made.verdicts.get("would_be") or made.outcome
    if outcome == "not-evaluated":
        return "data-required"
    if outcome in _NOT_EVALUATED or EVERYTHING in made.verdicts.get("silenced", ()):
        return "failure"
    checks: Mapping[str, str] = made.verdicts.get("orders", {}).get("checks", {})
    if made.gaps or made.verdicts.get("row") in _OPEN_ROWS or "unknown" in checks.values():
        return "data-requested"
    return "success"


def _endpoint(made: Made) -> str:
    """Below the published address, else as a path."""
    return f"{names.published_at(made) or ''}/cds-services/{made.service}"


def _outcome(made: Made) -> Json:
    code, words = MEANINGS.get(made.outcome, ("informational", f"Outcome: {made.outcome}."))
    wrong = made.outcome in _NOT_EVALUATED or made.outcome == "not-evaluated"
    issues = [{"severity": "warning" if wrong else "information", "code": code, "diagnostics": words}]
    if would_be := made.verdicts.get("would_be"):
        meant = MEANINGS.get(would_be, ("", would_be))[1]
        issues.append({"severity": "information", "code": "informational", "diagnostics": f"Otherwise: {meant}"})
    if unknown := made.verdicts.get("why_unknown"):
        listed = ", ".join(f"{name} ({why})" for name, why in unknown.items())
        issues.append({"severity": "information", "code": "incomplete", "diagnostics": f"Not determined: {listed}"})
    issues += [{"severity": "warning", "code": "incomplete", "diagnostics": text} for text in _gaps(made)]
    return {"resourceType": "OperationOutcome", "id": "why", "issue": issues}


def _gaps(made: Made) -> Iterable[str]:
    for gap in made.gaps:
        need = f" ({gap['need']})" if gap.get("need") else ""
        yield f"{gap.get('source', 'a source')}{need}: {gap.get('why', 'not used')}"


def _wanted(made: Made) -> list[Json]:
    """The kinds of data that were not there or could not be used, by the search of the plan that asks for them."""
    wanted = dict.fromkeys((gap.get("source", ""), gap.get("need", "")) for gap in made.gaps)
    found = []
    for kind, need in wanted:
        if kind in _TYPES:
            found.append(({"id": need} if need else {}) | {"type": kind})
    return found
