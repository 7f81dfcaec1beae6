"""openapi.yaml: what is committed is what the service does, and what the service does is what it says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.python import asgi
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from app.api import document
from app.gateway.fhir import Gateway
from app.main import create_app
from app.sandbox import patients
from app.sandbox.fhir import create_fhir
from app.settings import dev
from tests.contract import cds_hooks_oracle as oracle
from tests.integration.hospital import FHIR, NOW, Wire, settings_for

COMMITTED = Path(__file__).resolve().parents[2] / "openapi.yaml"
CHECKS = [
    not_a_server_error,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
]
"""Not `negative_data_rejection`: what the standard does not mention is ignored here, as it asks; and not
`positive_data_acceptance`: an invented patient is a 412."""

GENERATED = document.openapi(create_app(dev(db="sqlite+aiosqlite:///:memory:")))
SCHEMA = schemathesis.openapi.from_dict(GENERATED)


def test_the_committed_file_is_the_generated_one() -> None:
    assert COMMITTED.read_text(encoding="utf-8") == document.as_yaml(GENERATED)


def test_the_yaml_says_what_was_meant() -> None:
    """It is written without a YAML library; one reads it back."""
    assert yaml.safe_load(COMMITTED.read_text(encoding="utf-8")) == GENERATED


@pytest.mark.parametrize(
    "value",
    [
        {"a": "yes", "no": "1.0", "b-c": 'x: "y" # z', "#": [], "e": {}, "f": [[1, 2], {"g": None}], "d": True},
        {"a": [{"b": [{"c": "d", "e": ["f"]}]}], "x": "µ ≥\n\t\\", "1": 2, "": "empty key", "null": None},
        {"nested": [[["deep"]], []], "multi\nline": {"on": "off"}},
    ],
)
def test_the_writer_loses_nothing(value: dict[str, Any]) -> None:
    assert yaml.safe_load(document.as_yaml(value)) == value


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    database = tmp_path_factory.mktemp("openapi") / "decisions.db"
    wire = Wire(create_fhir(patients.bundle, base_url=FHIR, clock=lambda: NOW))
    app = create_app(settings_for(database), gateway=Gateway(wire), clock=lambda: NOW)
    application: Any = app  # its annotations are wider than what the client asks for
    with asgi.get_client(application) as client:
        yield client


@SCHEMA.parametrize()
@settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_generated_calls_get_described_answers(case: Case[Any], client: Any) -> None:
    response = case.call(session=client)
    case.validate_response(response, checks=CHECKS)
    if response.status_code >= 400:
        assert oracle.outcome(response.content) == []
    elif "{id}" in case.path:
        assert oracle.response(response.content) == []


@pytest.mark.parametrize("hook", ["patient-view", "order-select", "order-sign"])
def test_the_service_id_is_among_the_generated_calls(client: Any, hook: str) -> None:
    """A generated id is never a real one, and its hook seldom the service's: so the same bodies are sent there."""
    operation = SCHEMA["/cds-services/{id}"]["POST"]
    seen: set[int] = set()

    @settings(max_examples=80, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy())
    def call(case: Case[Any]) -> None:
        case.path_parameters = {"id": f"anakinra-ruxolitinib-{hook}"}
        if isinstance(case.body, dict) and "hook" in case.body:
            case.body["hook"] = hook
        response = case.call(session=client)
        case.validate_response(response, checks=CHECKS[:-1])
        seen.add(response.status_code)
        complaints = oracle.response if response.status_code == 200 else oracle.outcome
        assert complaints(response.content) == []

    call()
    assert seen >= ({412} if hook == "patient-view" else {400})
