from __future__ import annotations

import pytest

from cds_hooks import errors


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        (errors.CdsHooksError, 500, "exception"),
        (errors.BadRequest, 400, "invalid"),
        (errors.Unauthorized, 401, "login"),
        (errors.Forbidden, 403, "forbidden"),
        (errors.NotFound, 404, "not-found"),
        (errors.MethodNotAllowed, 405, "not-supported"),
        (errors.Timeout, 408, "timeout"),
        (errors.PreconditionFailed, 412, "incomplete"),
        (errors.TooLarge, 413, "too-long"),
        (errors.UnsupportedMedia, 415, "not-supported"),
        (errors.TooManyRequests, 429, "throttled"),
        (errors.Unavailable, 503, "transient"),
    ],
)
def test_each_refusal_has_its_status_and_code(kind: type[errors.CdsHooksError], status: int, code: str) -> None:
    error = kind("a fixed text")
    assert (error.status, error.code, error.message, str(error)) == (status, code, "a fixed text", "a fixed text")
    assert kind("x", code="value").code == "value"
    if kind is not errors.CdsHooksError:
        assert f"{kind.__name__:<25} {status}" in str(errors.__doc__)


def test_operation_outcome() -> None:
    issue = {"severity": "error", "code": "value", "diagnostics": "a fixed text"}
    assert errors.operation_outcome("value", "a fixed text") == {"resourceType": "OperationOutcome", "issue": [issue]}
    assert errors.operation_outcome("value", "a fixed text", "c-1")["id"] == "c-1"
