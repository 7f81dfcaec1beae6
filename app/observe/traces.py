"""Spans of a hook call for a site's collector, where it has one; without the extra `traces` nothing of this runs.

Written by hand and few: the automatic instrumentation of HTTP clients and frameworks stores addresses with their
queries, which hold patient ids (knowledge: security 0.6). What a span may say is a list of names, each with the shape
of its values; the rest is dropped. A failure is the class of its exception, without message and stack. A client's own
trace headers are not continued: they are text of the request.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span as OpenTelemetrySpan

REMEDY: Final = "traces need their libraries: install rescue-cds[traces], or leave [traces] out"
PREFIX: Final = "rescue_cds."
ERROR: Final = "error.type"
"""OpenTelemetry's name for the class of an error."""

_PATH: Final = "/v1/traces"
_NAME: Final = re.compile(r"[a-z][a-z ]{0,30}")
_UNNAMED: Final = "span"


def _shape(pattern: str) -> Callable[[Any], bool]:
    compiled = re.compile(pattern)
    return lambda value: isinstance(value, str) and compiled.fullmatch(value) is not None


def _whole(lowest: int, highest: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and lowest <= value <= highest


_CODE: Final = _shape(r"[a-z][a-z0-9\-]{0,63}")
_COUNT: Final = _whole(0, 2**40)

ALLOWED: Final[Mapping[str, Callable[[Any], bool]]] = {
    "service": _CODE,
    "hook": _CODE,
    "outcome": _CODE,
    "why": _CODE,
    "resource_type": _shape(r"[A-Z][A-Za-z]{1,63}"),
    "status": _whole(100, 599),
    **dict.fromkeys(("requests", "pages", "bytes", "entries", "sources", "cards", "suggestions", "gaps"), _COUNT),
}
"""What a span may say, and how each value has to look."""

CONFIGURED: Final = frozenset({"client", "tenant"})
"""What may be said besides: a name that stands in the configuration."""


class Span:
    """A span that takes only what is allowed; of nothing where traces are off."""

    __slots__ = ("_configured", "_span")

    def __init__(self, span: OpenTelemetrySpan | None, *, configured: Collection[str] = ()) -> None:
        self._span = span
        self._configured = configured

    def note(self, **attributes: Any) -> None:
        """What became known on the way."""
        if self._span is not None:
            self._span.set_attributes(_allowed(attributes, configured=self._configured))


class Traces:
    """Where spans go: nowhere, or to a provider of its own."""

    def __init__(self, provider: TracerProvider | None = None, *, configured: Collection[str] = ()) -> None:
        """`configured` are the names of clients and tenants."""
        self._provider = provider
        self._configured = frozenset(configured)
        self._tracer = None if provider is None else provider.get_tracer("rescue-cds")

    @property
    def on(self) -> bool:
        """Whether anything is kept."""
        return self._tracer is not None

    @contextmanager
    def span(self, name: str, **attributes: Any) -> Iterator[Span]:
        """A span around what is done within; a child of the one around it."""
        if self._tracer is None:
            yield _NOTHING
            return
        from opentelemetry.trace import StatusCode

        with self._tracer.start_as_current_span(
            name if _NAME.fullmatch(name) else _UNNAMED,
            attributes=_allowed(attributes, configured=self._configured),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield Span(span, configured=self._configured)
            except BaseException as error:
                span.set_attribute(ERROR, type(error).__name__)
                span.set_status(StatusCode.ERROR)
                raise

    def flush(self, *, seconds: float = 5.0) -> None:
        """Send what is waiting; blocks."""
        if self._provider is not None:
            self._provider.force_flush(int(seconds * 1000))

    def close(self) -> None:
        """Send what is waiting, and end; blocks."""
        if self._provider is not None:
            self._provider.shutdown()


_NOTHING: Final = Span(None)

OFF: Final = Traces()


def start(
    endpoint: str,
    *,
    service_version: str,
    configured: Collection[str] = (),
    exporter: SpanExporter | None = None,
) -> Traces:
    """Traces to an OTLP collector over HTTP, or to `exporter`. Raises ValueError where the extra is not installed.

    `endpoint` is the collector's address, with or without `/v1/traces`; `configured` the names of clients and tenants.
    """
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        made = exporter or _otlp(endpoint)
    except ImportError:
        raise ValueError(REMEDY) from None
    # Not `Resource.create`, which adds what it finds of the machine and in the environment.
    resource = Resource({"service.name": "rescue-cds", "service.version": service_version})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(made))
    return Traces(provider, configured=configured)


def _otlp(endpoint: str) -> SpanExporter:
    bare = endpoint.rstrip("/")
    module = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    made: SpanExporter = module.OTLPSpanExporter(endpoint=bare if bare.endswith(_PATH) else f"{bare}{_PATH}")
    return made


def _allowed(attributes: Mapping[str, Any], *, configured: Collection[str]) -> dict[str, Any]:
    return {
        f"{PREFIX}{name}": value
        for name, value in attributes.items()
        if (name in ALLOWED and ALLOWED[name](value))
        or (name in CONFIGURED and isinstance(value, str) and value in configured)
    }
