"""What the resources of one decision call each other, and the rules that made it."""

from __future__ import annotations

from typing import Final

from app.export.elements import Json, id_of, patient, reference
from app.export.rows import Made

GUIDANCE: Final = "guidance"
"""Role of the GuidanceResponse, for `id_of`."""


def guidance(made: Made) -> str:
    """The id of its GuidanceResponse."""
    return id_of(made.id, GUIDANCE)


def cards(made: Made) -> str:
    """The id of its RequestGroup."""
    return id_of(made.id, "cards")


def module(made: Made) -> str:
    """The rules of one service, at the version of the knowledge files: `canonical|hash`.

    No domain is owned (reading 7), and validators take neither a urn:uuid nor a urn:oid with a version behind it.
    """
    return f"urn:rescue-cds:cds-services:{made.service}|{made.knowledge_hash}"


def published_at(made: Made) -> str | None:
    """The address at which the service was reached then, where the record has it."""
    found = made.reading.get("switches", {}).get("published_at")
    return found if isinstance(found, str) and found else None


def about(made: Made) -> Json:
    """Patient and encounter, for the elements of those names. Nothing of a call whose patient was never kept."""
    found: Json = {}
    if made.patient is not None or made.removed:
        found["subject"] = patient(made.patient, otherwise="masked")
    if made.encounter is not None:
        found["encounter"] = reference("Encounter", made.encounter)
    return found
