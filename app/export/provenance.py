"""Provenance: that a client said a user accepted suggestions.

Feedback names cards and suggestions, and nothing that the client made of them. So the target is a resource whose id
is not known (and which may not even exist: accepting puts a draft into a form that may be discarded), and nothing here
says that a drug was ordered, by whom, or why. What is certain is who offered it, in which version, to which question
the offer was the answer, which suggestion it was, and who told of it when.
"""

from __future__ import annotations

from app.export import device, names
from app.export.elements import HL7, Json, absent, concept, id_of, identifier, instant, reference
from app.export.rows import Accepted

_PARTICIPANT = f"{HL7}/provenance-participant-type"


def told(row: Accepted) -> Json:
    """The Provenance of one entry of feedback."""
    offered = device.version_id(row.versions, knowledge_hash=row.knowledge_hash)
    unknown = absent("unknown") | {
        "display": "what the client made of an accepted suggestion: its feedback names nothing"
    }
    found: Json = {
        "resourceType": "Provenance",
        "id": id_of(row.decision, f"accepted/{row.digest}"),
        "target": [unknown for _ in row.suggestions],
        "recorded": instant(row.received_at),
        "activity": {"text": "A user accepted suggestions of a card, as the client told it"},
        "agent": [
            {"type": concept(_PARTICIPANT, "assembler", "Assembler"), "who": reference("Device", offered)},
            {
                "type": concept(_PARTICIPANT, "informant", "Informant"),
                "who": {"identifier": {"value": row.client}, "display": row.client, "type": "Device"},
            },
        ],
        "entity": [
            {"role": "source", "what": reference("GuidanceResponse", id_of(row.decision, names.GUIDANCE))},
            *(
                {"role": "source", "what": {"identifier": identifier(uuid), "display": "an accepted suggestion"}}
                for uuid in row.suggestions
            ),
        ],
    }
    if row.told_at is not None:
        found["occurredDateTime"] = instant(row.told_at)
    return found
