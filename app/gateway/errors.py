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
├── CircuitOpen      "circuit-open": not asked, because this server has just not answered (app/gateway/breaker.py)
├── Busy             "busy": not asked, because too many reads of this server were under way until the deadline
├── NotOffered       "not-offered": not asked, because the server declares that it has nothing of this type
├── NoToken          "no-token" (status): no access token for the service's own credentials
├── TokenScope       "token-scope" (status): the access token would allow less than the service needs to read
└── BadRequestPart   "unsafe-request": an id or token that cannot be put into a request unchanged

No error holds an address, a token, a body or an id.
"""

from __future__ import annotations

from typing import ClassVar, Final


class GatewayError(Exception):
    """Base; raise a subclass."""

    why: ClassVar[str] = "failed"

    def __init__(self, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(self.why if status is None else f"{self.why} ({status})")
        self.params: tuple[tuple[str, str], ...] = () if status is None else (("status", str(status)),)
        self.status = status
        self.retry_after = retry_after


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


class CircuitOpen(GatewayError):
    why = "circuit-open"


class Busy(GatewayError):
    why = "busy"


class NotOffered(GatewayError):
    why = "not-offered"


class NoToken(GatewayError):
    why = "no-token"


class TokenScope(GatewayError):
    why = "token-scope"


class BadRequestPart(GatewayError):
    why = "unsafe-request"


ENDED_EARLY: Final = ("page-limit", "page-loop", "entry-limit", "fewer-than-total", "results-dropped")
"""Why a search that brought something did not bring everything, where nothing was raised (app/gateway/fhir.py)."""

CODES: Final = (*(kind.why for kind in GatewayError.__subclasses__()), *ENDED_EARLY)
"""Every `why` of a read."""
