"""What the service tells its operators: one place that turns what happens into metrics and spans.

The parts below know nothing of either; they call what they are given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from app.clients import ANONYMOUS
from app.gateway import errors
from app.gateway.breaker import State
from app.gateway.fhir import Fetched, Watcher
from app.names import SERVICES
from app.observe.metrics import Metrics, Spooled
from app.observe.traces import OFF, Traces
from app.settings import Settings
from app.store.decisions import Readiness
from app.trust import REASONS


def metrics_of(settings: Settings) -> Metrics:
    """Metrics whose labels are what this configuration knows."""
    return Metrics(
        services=SERVICES,
        clients=[ANONYMOUS, *(client.id for client in settings.clients)],
        tenants=[tenant.name for tenant in settings.tenants],
        reasons=REASONS,
        whys=errors.CODES,
    )


def show_record(found: Readiness, *, metrics: Metrics, now: datetime) -> None:
    """How the record stands, as metrics."""
    waited = 0.0 if found.oldest_at is None else max(0.0, (now - found.oldest_at).total_seconds())
    metrics.record(
        database=found.database,
        spool=Spooled(found.entries, found.bytes, waited, found.damaged, found.spooled),
    )


class GatewayWatcher(Watcher):
    """The gateway's reads as spans, the states of its breakers by tenant."""

    def __init__(self, settings: Settings, *, metrics: Metrics, traces: Traces = OFF) -> None:
        self._tenants = {base: tenant.name for tenant in settings.tenants for base in tenant.bases}
        self._metrics = metrics
        self._traces = traces

    def changed(self, base: str, state: State) -> None:
        self._metrics.breaker(tenant=self._tenants.get(base, ""), state=state)

    @contextmanager
    def reading(self, resource_type: str) -> Iterator[Callable[[Fetched], None]]:
        with self._traces.span("fhir read", resource_type=resource_type) as span:
            yield lambda ended: span.note(
                outcome=ended.outcome,
                why=ended.why,
                requests=ended.requests,
                bytes=ended.bytes,
                pages=len(ended.pages),
            )
