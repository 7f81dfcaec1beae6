"""Traces: off without the extra, and on with nothing in a span that is not on the list."""

from __future__ import annotations

import asyncio
import sys
import types
from collections.abc import Iterator
from typing import Any

import opentelemetry.trace
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app.observe import traces
from app.observe.traces import Traces

CANARY = "canary"
ENDPOINT = "http://127.0.0.1:4318"
CONFIGURED = ("north", "St. Mary's", *(f"client-{letter}" for letter in "abcdefgh"))


@pytest.fixture
def kept() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def of(kept: InMemorySpanExporter) -> Iterator[Traces]:
    made = traces.start(ENDPOINT, service_version="1.2.3", configured=CONFIGURED, exporter=kept)
    yield made
    made.close()


def finished(of: Traces, kept: InMemorySpanExporter) -> tuple[ReadableSpan, ...]:
    of.flush()
    return kept.get_finished_spans()


def test_a_span_says_what_is_on_the_list(of: Traces, kept: InMemorySpanExporter) -> None:
    with of.span(
        "hook", service="rescue-patient-view", hook="patient-view", client="north", tenant="St. Mary's"
    ) as span:
        with of.span("fhir read", resource_type="Observation", status=200, pages=2) as read:
            read.note(outcome="ok", bytes=1234)
        span.note(outcome="not-met", cards=0)
    inner, outer = finished(of, kept)
    assert outer.attributes == {
        "rescue_cds.service": "rescue-patient-view",
        "rescue_cds.hook": "patient-view",
        "rescue_cds.client": "north",
        "rescue_cds.tenant": "St. Mary's",
        "rescue_cds.outcome": "not-met",
        "rescue_cds.cards": 0,
    }
    assert inner.attributes is not None
    assert inner.attributes["rescue_cds.resource_type"] == "Observation"
    assert (inner.name, outer.name) == ("fhir read", "hook")
    assert inner.parent is not None
    assert outer.context is not None
    assert inner.parent.span_id == outer.context.span_id
    assert outer.parent is None


@pytest.mark.parametrize("name", ["url", "http_url", "patient", "token", "user", "message", "http.url", "db_statement"])
def test_other_names_are_dropped(of: Traces, kept: InMemorySpanExporter, name: str) -> None:
    with of.span("hook", **{name: "ok"}) as span:
        span.note(**{name: "ok"})
    (one,) = finished(of, kept)
    assert one.attributes == {}


@pytest.mark.parametrize("name", [*sorted(traces.ALLOWED), *sorted(traces.CONFIGURED)])
@pytest.mark.parametrize(
    "value",
    [
        "https://h.example/fhir/Patient/canary",
        "Patient/canary",
        "/fhir/Patient?name=canary",
        "canary@example.org",
        "eyJhbGciOiJFUzM4NCJ9.canary.c2ln",
        "canary name",
        "canary\n",
        "ca.nary",
        "12345",
        "9" * 10,
        "x" * 65,
        "a" * 5000,
        "",
        "ünicode",
        b"canary",
        ["ok"],
        {"a": 1},
        None,
        True,
        1.5,
        -1,
        2**41,
    ],
)
def test_values_of_another_shape_are_dropped(of: Traces, kept: InMemorySpanExporter, name: str, value: Any) -> None:
    with of.span("hook", **{name: value}) as span:
        span.note(**{name: value})
    (one,) = finished(of, kept)
    assert one.attributes == {}


def test_a_client_is_a_configured_one(of: Traces, kept: InMemorySpanExporter) -> None:
    with of.span("hook", client="canary", tenant="North"):
        pass
    (one,) = finished(of, kept)
    assert one.attributes == {}


@pytest.mark.parametrize("name", ["GET /Patient/canary", "canary-7", "Hook", "", "x" * 40, "https://canary"])
def test_the_name_of_a_span_is_words(of: Traces, kept: InMemorySpanExporter, name: str) -> None:
    with of.span(name):
        pass
    (one,) = finished(of, kept)
    assert one.name == "span"


@pytest.mark.parametrize("error", [RuntimeError("canary"), KeyError("canary"), asyncio.CancelledError("canary")])
def test_an_exception_is_its_class(of: Traces, kept: InMemorySpanExporter, error: BaseException) -> None:
    def failing() -> None:
        with of.span("hook"):
            raise error

    with pytest.raises(type(error)):
        failing()
    (one,) = finished(of, kept)
    assert one.attributes == {"error.type": type(error).__name__}
    assert one.events == ()
    assert one.status.status_code is opentelemetry.trace.StatusCode.ERROR
    assert one.status.description is None
    assert CANARY not in one.to_json()


async def test_side_by_side_spans_stay_with_their_hook(of: Traces, kept: InMemorySpanExporter) -> None:
    async def hook(client: str) -> None:
        with of.span("hook", client=client):
            await asyncio.sleep(0)
            with of.span("read", tenant=client):
                await asyncio.sleep(0)

    await asyncio.gather(*(hook(f"client-{letter}") for letter in "abcdefgh"))
    spans = finished(of, kept)
    assert len(spans) == 16
    hooks = {one.context.span_id: one for one in spans if one.name == "hook" and one.context is not None}
    for one in spans:
        if one.name == "read":
            assert one.parent is not None
            assert one.attributes is not None
            around = hooks[one.parent.span_id].attributes
            assert around is not None
            assert around["rescue_cds.client"] == one.attributes["rescue_cds.tenant"]


def test_the_resource_is_ours_alone(kept: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "owner=canary")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "canary")
    of = traces.start(ENDPOINT, service_version="1.2.3", exporter=kept)
    with of.span("hook"):
        pass
    (one,) = finished(of, kept)
    assert dict(one.resource.attributes) == {"service.name": "rescue-cds", "service.version": "1.2.3"}
    of.close()


def test_the_global_provider_is_left_alone(of: Traces, kept: InMemorySpanExporter) -> None:
    with opentelemetry.trace.get_tracer("another").start_as_current_span("canary"):
        pass
    assert finished(of, kept) == ()


def test_off_does_nothing() -> None:
    assert not traces.OFF.on
    with traces.OFF.span("hook", client="north") as span:
        span.note(outcome="card")
        assert not opentelemetry.trace.get_current_span().is_recording()
    with pytest.raises(RuntimeError, match="passes"), traces.OFF.span("hook"):
        raise RuntimeError("passes")
    traces.OFF.flush()
    traces.OFF.close()


@pytest.mark.parametrize(
    "missing",
    [
        ("opentelemetry", "opentelemetry.sdk", "opentelemetry.sdk.resources", "opentelemetry.sdk.trace"),
        ("opentelemetry.exporter",),
    ],
)
def test_without_the_extra_the_start_says_what_to_do(monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...]) -> None:
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=r"rescue-cds\[traces\]"):
        traces.start(ENDPOINT, service_version="1")
    with traces.OFF.span("hook", outcome="card"):
        pass


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
        ("https://collector.example/", "https://collector.example/v1/traces"),
        ("https://collector.example/otel/v1/traces", "https://collector.example/otel/v1/traces"),
    ],
)
def test_the_collector_is_the_one_named(
    monkeypatch: pytest.MonkeyPatch, kept: InMemorySpanExporter, endpoint: str, expected: str
) -> None:
    asked: list[str] = []

    def exporter(*, endpoint: str) -> InMemorySpanExporter:
        asked.append(endpoint)
        return kept

    stand_in = types.ModuleType("trace_exporter")
    stand_in.OTLPSpanExporter = exporter  # type: ignore[attr-defined] # a module for the test
    for name in ("", ".otlp", ".otlp.proto", ".otlp.proto.http"):
        monkeypatch.setitem(sys.modules, f"opentelemetry.exporter{name}", types.ModuleType("package"))
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", stand_in)
    of = traces.start(endpoint, service_version="1")
    with of.span("hook"):
        pass
    of.close()
    assert asked == [expected]
    assert [one.name for one in kept.get_finished_spans()] == ["hook"]
