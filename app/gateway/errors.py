"""Why a source could not be read. Each becomes the `why` and `params` of a `facts.Source`; none leaves the gateway.

GatewayError
├── Refused          "refused" (status): 4xx and redirects, which are never followed
├── NotFound         "not-found" (status): 404, 410
├── ServerError      "server-error" (status): 5xx
├── TimedOut         "timeout": the deadline, or the server went silent
├── Unreachable      "unreachable": no connection, or one that broke
├── TooLarge         "too-large": more bytes than allowed, counted after decompression
├── NotFhirJson      "not-fhir-json": not JSON, not a FHIR resource, an unknown content encoding
├── FailedOutcome    "operation-outcome": answered 200, and the body says that the search failed
├── BadLink          "foreign-next": the link to the next page leaves the configured base
└── BadRequestPart   "unsafe-request": an id or token that cannot be put into a request unchanged

No error holds an address, a token, a body or an id.
"""

from __future__ import annotations

from typing import ClassVar


class GatewayError(Exception):
    """Base; raise a subclass."""

    why: ClassVar[str] = "failed"

    def __init__(self, *, status: int | None = None) -> None:
        super().__init__(self.why if status is None else f"{self.why} ({status})")
        self.params: tuple[tuple[str, str], ...] = () if status is None else (("status", str(status)),)


class Refused(GatewayError):
    why = "refused"


class NotFound(GatewayError):
    why = "not-found"


class ServerError(GatewayError):
    why = "server-error"


class TimedOut(GatewayError):
    why = "timeout"


class Unreachable(GatewayError):
    why = "unreachable"


class TooLarge(GatewayError):
    why = "too-large"


class NotFhirJson(GatewayError):
    why = "not-fhir-json"


class FailedOutcome(GatewayError):
    why = "operation-outcome"


class BadLink(GatewayError):
    why = "foreign-next"


class BadRequestPart(GatewayError):
    why = "unsafe-request"
