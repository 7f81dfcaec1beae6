"""What the OpenAPI document says of hook calls: the shapes of CDS Hooks 2.0.1, open to what a client adds."""

from __future__ import annotations

from typing import Any

OUTCOME: dict[str, Any] = {
    "type": "object",
    "description": "FHIR OperationOutcome; the one shape of every refusal. Never repeats what was sent.",
    "required": ["resourceType", "issue"],
    "properties": {
        "resourceType": {"const": "OperationOutcome"},
        "id": {"type": "string", "description": "names the record of the failure"},
        "issue": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["severity", "code", "diagnostics"],
                "properties": {
                    "severity": {"const": "error"},
                    "code": {"type": "string"},
                    "diagnostics": {"type": "string"},
                },
            },
        },
    },
}

REQUEST: dict[str, Any] = {
    "type": "object",
    "required": ["hook", "hookInstance", "context"],
    "properties": {
        "hook": {"enum": ["patient-view", "order-select", "order-sign"], "description": "the hook of the service"},
        "hookInstance": {"type": "string", "minLength": 1, "maxLength": 256, "pattern": r"^[A-Za-z0-9._:\-]+$"},
        "fhirServer": {"type": "string", "format": "uri"},
        "fhirAuthorization": {
            "type": "object",
            "required": ["access_token", "token_type", "expires_in", "scope", "subject"],
            "properties": {
                "access_token": {"type": "string"},
                "token_type": {"const": "Bearer"},
                "expires_in": {"type": "integer"},
                "scope": {"type": "string"},
                "subject": {"type": "string"},
                "patient": {"type": "string"},
            },
        },
        "context": {
            "type": "object",
            "required": ["userId", "patientId"],
            "properties": {
                "userId": {"type": "string"},
                "patientId": {"type": "string", "minLength": 1, "maxLength": 200},
                "encounterId": {"type": "string"},
                "draftOrders": {
                    "type": "object",
                    "description": "order hooks, required there: a Bundle of the unsigned orders",
                    "properties": {
                        "resourceType": {"const": "Bundle"},
                        "entry": {
                            "type": "array",
                            "items": {"type": "object", "properties": {"resource": {"type": "object"}}},
                        },
                    },
                },
                "selections": {
                    "type": "array",
                    "description": "order-select: the orders that were just picked, as Type/id",
                    "items": {"type": "string"},
                },
            },
        },
        "prefetch": {
            "type": "object",
            "description": "FHIR R4 resources by the keys of discovery; null: the client has no data.",
            "additionalProperties": {"type": ["object", "null"]},
        },
        "extension": {"type": "object"},
    },
}

EMPTY: dict[str, Any] = {"type": "object", "maxProperties": 0}

FEEDBACK: dict[str, Any] = {
    "type": "object",
    "required": ["feedback"],
    "properties": {
        "feedback": {
            "type": "array",
            "maxItems": 1000,
            "items": {
                "type": "object",
                "required": ["card", "outcome"],
                "properties": {
                    "card": {"type": "string", "minLength": 1, "maxLength": 512, "pattern": r"\S"},
                    "outcome": {"enum": ["accepted", "overridden"]},
                    "acceptedSuggestions": {
                        "type": "array",
                        "items": {"type": "object", "properties": {"id": {"type": "string"}}},
                    },
                    "overrideReason": {
                        "type": "object",
                        "properties": {
                            "reason": {
                                "type": "object",
                                "properties": {
                                    "code": {"type": "string"},
                                    "system": {"type": "string"},
                                    "display": {"type": "string"},
                                },
                            },
                            "userComment": {"type": "string", "description": "kept as patient data"},
                        },
                    },
                    "outcomeTimestamp": {"type": "string", "format": "date-time"},
                },
            },
        }
    },
}

_CODING: dict[str, Any] = {
    "type": "object",
    "required": ["code", "system"],
    "properties": {"code": {"type": "string"}, "system": {"type": "string"}, "display": {"type": "string"}},
}

CARD: dict[str, Any] = {
    "type": "object",
    "required": ["uuid", "summary", "indicator", "source"],
    "properties": {
        "uuid": {"type": "string", "format": "uuid"},
        "summary": {"type": "string", "minLength": 1, "maxLength": 139},
        "detail": {"type": "string", "description": "GitHub Flavored Markdown without HTML, images and links"},
        "indicator": {"enum": ["info", "warning", "critical"]},
        "source": {
            "type": "object",
            "required": ["label"],
            "properties": {
                "label": {"type": "string"},
                "url": {
                    "type": "string",
                    "format": "uri",
                    "description": "the source attributes; absent where the public address of the service is not known",
                },
                "topic": _CODING,
            },
        },
        "selectionBehavior": {"enum": ["any"]},
        "suggestions": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["label", "uuid", "actions"],
                "properties": {
                    "label": {"type": "string"},
                    "uuid": {"type": "string", "format": "uuid"},
                    "actions": {
                        "type": "array",
                        "minItems": 1,
                        "maxItems": 1,
                        "items": {
                            "type": "object",
                            "required": ["type", "description"],
                            "properties": {
                                "type": {"enum": ["create", "update", "delete"]},
                                "description": {"type": "string"},
                                "resource": {
                                    "type": "object",
                                    "description": "create and update: the whole MedicationRequest (FHIR R4)",
                                },
                                "resourceId": {"type": "string", "description": "delete: MedicationRequest/id"},
                            },
                        },
                    },
                },
            },
        },
        "overrideReasons": {"type": "array", "items": _CODING},
        "links": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["label", "url", "type"],
                "properties": {"label": {"type": "string"}, "url": {"type": "string"}, "type": {"const": "absolute"}},
            },
        },
        "extension": {
            "type": "object",
            "description": "`org.rescue-cds.evidence`: the entries of `rescue-cds evaluate` (docs/evaluate.md)",
        },
    },
}

RESPONSE: dict[str, Any] = {
    "type": "object",
    "required": ["cards", "extension"],
    "properties": {
        "cards": {"type": "array", "maxItems": 2, "items": CARD},
        "extension": {
            "type": "object",
            "required": ["org.rescue-cds.decision"],
            "properties": {
                "org.rescue-cds.decision": {
                    "type": "object",
                    "required": ["id", "outcome"],
                    "properties": {
                        "id": {"type": "string", "format": "uuid"},
                        "outcome": {
                            "enum": [
                                "patient-user",
                                "identity-mismatch",
                                "not-evaluated",
                                "disabled",
                                "silent",
                                "follow-up",
                                "card",
                                "deceased",
                                "not-the-population",
                                "snoozed",
                                "not-met",
                                "out-of-scope",
                                "nothing-to-say",
                            ]
                        },
                        "would_be": {"type": "string", "description": "silent: the outcome it would have had"},
                        "gaps": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "required": ["source", "why"],
                                "properties": {"source": {"type": "string"}, "why": {"type": "string"}},
                            },
                        },
                    },
                }
            },
        },
    },
}

DISCOVERY: dict[str, Any] = {
    "type": "object",
    "required": ["services"],
    "properties": {
        "services": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["hook", "id", "title", "description"],
                "properties": {
                    "hook": {"type": "string"},
                    "id": {"type": "string"},
                    "title": {"type": "string"},
                    "description": {"type": "string"},
                    "prefetch": {"type": "object", "additionalProperties": {"type": "string"}},
                    "usageRequirements": {"type": "string"},
                    "version": {"type": "string"},
                },
            },
        }
    },
}


ATTRIBUTES: dict[str, Any] = {
    "type": "object",
    "required": ["schema", "name", "kind", "attributes"],
    "properties": {
        "schema": {"const": 1},
        "name": {"type": "string"},
        "kind": {"type": "string"},
        "attributes": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["id", "title", "value"],
                "properties": {
                    "id": {"type": "string"},
                    "title": {"type": "string"},
                    "value": {"type": "array", "minItems": 1, "items": {"type": "string"}},
                },
            },
        },
    },
}

TEXT_CONTENT: dict[str, Any] = {"text/plain": {"schema": {"type": "string"}}}


def json_content(schema: dict[str, Any]) -> dict[str, Any]:
    """A JSON body of that schema."""
    return {"application/json": {"schema": schema}}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI responses of refusals."""
    said = {
        400: "the call cannot be read",
        403: "this client may not call this service, from this page, or for this fhirServer",
        404: "no such service",
        405: "another method is meant",
        408: "the body did not arrive in time",
        412: "nothing could be looked at: no usable prefetch and no FHIR server that could be read",
        413: "the body is too large",
        415: "not JSON, or a Content-Encoding",
        431: "the headers are too large",
        500: "a fault of the service, recorded under the id given",
        503: "the decision could not be recorded, so nothing is answered",
    }
    return {
        status: {"description": said[status], "content": json_content(OUTCOME)} if status in said else _UNPROVEN
        for status in statuses
    }


_UNPROVEN: dict[str, Any] = {
    "description": "no valid client token; always the same, without a body",
    "headers": {"WWW-Authenticate": {"schema": {"const": "Bearer"}}},
}

TOKEN = "clientToken"  # noqa: S105  # nosec B105 # the name of a scheme
SECURITY: dict[str, Any] = {"security": [{TOKEN: []}, {}]}
"""Of every route that asks who calls; also without, because an installation may be open."""

SCHEMES: dict[str, Any] = {
    TOKEN: {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "the client's signed token of CDS Hooks, a new one for every call; its `aud` is this address",
    }
}
