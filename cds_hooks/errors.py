"""Everything this package refuses, as one tree.

    CdsHooksError                 status  OperationOutcome issue code
    ├── BadRequest                400     invalid (structure, required, value, too-long)
    ├── Unauthorized              401     login
    ├── Forbidden                 403     forbidden
    ├── NotFound                  404     not-found
    ├── MethodNotAllowed          405     not-supported
    ├── Timeout                   408     timeout
    ├── PreconditionFailed        412     incomplete
    ├── TooLarge                  413     too-long
    ├── UnsupportedMedia          415     not-supported
    ├── TooManyRequests           429     throttled
    └── Unavailable               503     transient

Messages are fixed texts that may name a member of the request but never hold its value: they are sent to
clients and written to logs, and a value may be a token or patient data. Programming errors (a card that
would break the standard, a template outside the allowed subset) are plain ``ValueError`` and never reach a
client. Issue codes: FHIR R4 value set ``issue-type``.
"""

from __future__ import annotations

from typing import Any, ClassVar


class CdsHooksError(Exception):
    """A refusal that becomes one HTTP answer; raise a subclass."""

    default_status: ClassVar[int] = 500
    default_code: ClassVar[str] = "exception"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = self.default_status
        self.code = code or self.default_code


class BadRequest(CdsHooksError):
    default_status = 400
    default_code = "invalid"


class Unauthorized(CdsHooksError):
    default_status = 401
    default_code = "login"


class Forbidden(CdsHooksError):
    default_status = 403
    default_code = "forbidden"


class NotFound(CdsHooksError):
    default_status = 404
    default_code = "not-found"


class MethodNotAllowed(CdsHooksError):
    default_status = 405
    default_code = "not-supported"


class Timeout(CdsHooksError):
    default_status = 408
    default_code = "timeout"


class PreconditionFailed(CdsHooksError):
    default_status = 412
    default_code = "incomplete"


class TooLarge(CdsHooksError):
    default_status = 413
    default_code = "too-long"


class UnsupportedMedia(CdsHooksError):
    default_status = 415
    default_code = "not-supported"


class TooManyRequests(CdsHooksError):
    default_status = 429
    default_code = "throttled"


class Unavailable(CdsHooksError):
    default_status = 503
    default_code = "transient"


def operation_outcome(code: str, message: str, correlation: str | None = None) -> dict[str, Any]:
    """The one body of every refusal: a FHIR R4 OperationOutcome with a single issue.

    ``correlation`` lets a person who reports the failure point at its record; it goes to ``id`` so that the
    text stays fixed and can be compared.
    """
    outcome: dict[str, Any] = {"resourceType": "OperationOutcome"}
    if correlation:
        outcome["id"] = correlation
    outcome["issue"] = [{"severity": "error", "code": code, "diagnostics": message}]
    return outcome
