"""What an operator's Prometheus reads: counts and times, with labels from sets that are known at the start.

A label value that came with a request would let anybody make series without end, and would carry patient data into
another database (knowledge: security T7). So every label has a closed set, and whatever is not in it is `other`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4

OTHER: Final = "other"

UNDECIDED: Final = "none"
"""The outcome of an answer without a decision: the call could not be read, or it could not be recorded."""

OUTCOMES: Final = (
    *("patient-user", "identity-mismatch", "not-evaluated", "disabled", "silent", "follow-up", "card", "deceased"),
    *("not-the-population", "snoozed", "not-met", "out-of-scope", "nothing-to-say", UNDECIDED),
)
"""What an answer can be (`app.api.schema`), and `none`."""

STATUSES: Final = ("200", "400", "401", "403", "404", "405", "408", "412", "413", "415", "431", "500", "503")
READS: Final = ("ok", "empty", "partial", "failed")
BREAKER: Final = ("closed", "open", "half-open")
OVERLOAD: Final = ("queue", "waited")
"""There was no place to wait, or none became free in time (`app.places`)."""
FEEDBACK: Final = ("accepted", "overridden")
JWKS: Final = ("ok", "failed", "limited")
"""A new set was taken; there was none that may be used, and the last one stays; one was due too early."""

ENDED: Final = ("crowded", "late", "too-long", "pipelined", "malformed", "unread")
"""Why a connection was ended before its time (`app.edge`)."""

SECONDS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.4, 2.0, 3.0, 5.0)
"""Upper bounds: from an answer without any read, by the deadline of a hook (1.4 s), to what nobody waits for."""


class _Label:
    """One label's closed set."""

    __slots__ = ("values",)

    def __init__(self, values: Iterable[str]) -> None:
        self.values = frozenset(values)

    def __call__(self, value: object) -> str:
        text = str(value)
        return text if text in self.values else OTHER

    def every(self) -> Iterator[str]:
        yield from sorted(self.values | {OTHER})


@dataclass(frozen=True, slots=True)
class Spooled:
    """What is in the spool. `since_start`: entries that came into it since the process began."""

    entries: int = 0
    bytes: int = 0
    oldest_seconds: float = 0.0
    damaged: int = 0
    since_start: int = 0


class Metrics:
    """The figures of one process, in a registry of their own."""

    def __init__(
        self,
        *,
        services: Sequence[str],
        clients: Sequence[str],
        tenants: Sequence[str],
        reasons: Sequence[str] = (),
        whys: Sequence[str] = (),
    ) -> None:
        """`reasons` are those of refusals at the door, `whys` those of reads that did not bring everything."""
        self._registry = CollectorRegistry(auto_describe=False)
        self._counted = 0
        self._service, self._client, self._tenant = _Label(services), _Label(clients), _Label(tenants)
        self._reason, self._why = _Label(reasons), _Label({"", *whys})
        self._outcome, self._status, self._read = _Label(OUTCOMES), _Label(STATUSES), _Label(READS)
        self._state, self._kind = _Label(BREAKER), _Label(OVERLOAD)
        self._said, self._fetched = _Label(FEEDBACK), _Label(JWKS)
        self._answers = self._counter(
            "answers", "Answers to hook calls.", labels=("service", "client", "outcome", "status")
        )
        self._answer_seconds = self._histogram(
            "answer_seconds", "Seconds from the arrival of a hook call to its answer.", labels=("service",)
        )
        self._refusals = self._counter("refusals", "Calls turned away at the door, by reason.", labels=("reason",))
        self._reads = self._counter(
            "fhir_reads",
            "Reads of FHIR servers by how they ended; why: of those that did not bring everything.",
            labels=("tenant", "outcome", "why"),
        )
        self._read_seconds = self._histogram(
            "fhir_read_seconds",
            "Seconds that a read of a FHIR server took, all pages together.",
            labels=("tenant",),
        )
        self._breaker = self._counter(
            "breaker_changes", "Times that the circuit breaker of a FHIR server came into a state.", ("tenant", "state")
        )
        self._in_flight = self._gauge("hooks_in_flight", "Hook calls that are being answered now.")
        self._waiting = self._gauge("hooks_waiting", "Hook calls that wait for a place now.")
        self._overload = self._counter("overload", "Calls answered 503 because there was no place, by kind.", ("kind",))
        self._record_seconds = self._histogram("record_seconds", "Seconds that the commit of one decision took.")
        self._not_recorded = self._counter("not_recorded", "Decisions that could not be committed: answered 503.")
        self._replayed = self._counter("replayed", "Answers that had been given to the same request before.")
        self._spooled = self._counter("spooled", "Entries that went to the spool because the database was down.")
        self._database = self._gauge("database_up", "1 while the database takes decisions, else 0.")
        self._spool_entries = self._gauge("spool_entries", "Entries that wait in the spool for the database.")
        self._spool_bytes = self._gauge("spool_bytes", "Bytes of the spool's files.")
        self._spool_oldest = self._gauge("spool_oldest_seconds", "How long the oldest entry of the spool has waited.")
        self._spool_damaged = self._gauge("spool_damaged", "Files of the spool that could not be read, or not be used.")
        self._feedback = self._counter("feedback_entries", "Feedback entries that were kept.", ("outcome",))
        self._jwks = self._counter("jwks_fetches", "Readings of a client's key set.", ("client", "outcome"))
        self._end = _Label(ENDED)
        self._ended = self._counter("connections_ended", "Connections ended before their time, by why.", ("why",))
        self._faults = self._counter("faults", "Faults of the service itself, answered 500.")
        # A series that exists from the start shows its first increase; one that appears with it does not.
        for counter, label in (
            (self._refusals, self._reason),
            (self._overload, self._kind),
            (self._feedback, self._said),
            (self._ended, self._end),
        ):
            for value in label.every():
                counter.labels(value)
        for tenant in self._tenant.values:
            for state in BREAKER:
                self._breaker.labels(tenant, state)
        for client in self._client.values:
            for outcome in JWKS:
                self._jwks.labels(client, outcome)
        ProcessCollector(namespace="rescue_cds", registry=self._registry)

    def answered(self, *, service: str, client: str, outcome: str, status: int, seconds: float) -> None:
        """`outcome` is the decision's, or '' where none was made."""
        of_service = self._service(service)
        self._answers.labels(
            of_service, self._client(client), self._outcome(outcome or UNDECIDED), self._status(status)
        ).inc()
        self._answer_seconds.labels(of_service).observe(seconds)

    def refused(self, *, reason: str) -> None:
        self._refusals.labels(self._reason(reason)).inc()

    def read(self, *, tenant: str, outcome: str, why: str = "", seconds: float) -> None:
        """One source of one hook."""
        of_tenant = self._tenant(tenant)
        self._reads.labels(of_tenant, self._read(outcome), self._why(why)).inc()
        self._read_seconds.labels(of_tenant).observe(seconds)

    def breaker(self, *, tenant: str, state: str) -> None:
        """A change of state: a tenant may have several servers, so that no one state is the tenant's."""
        self._breaker.labels(self._tenant(tenant), self._state(state)).inc()

    def places(self, taken: int, waiting: int) -> None:
        """Calls that are being answered, and calls that wait."""
        self._in_flight.set(taken)
        self._waiting.set(waiting)

    def overload(self, *, kind: str) -> None:
        self._overload.labels(self._kind(kind)).inc()

    def recorded(self, *, seconds: float) -> None:
        self._record_seconds.observe(seconds)

    def not_recorded(self) -> None:
        self._not_recorded.inc()

    def replayed(self) -> None:
        self._replayed.inc()

    def record(self, *, database: bool, spool: Spooled) -> None:
        """The state of the record."""
        self._database.set(database)
        self._spool_entries.set(spool.entries)
        self._spool_bytes.set(spool.bytes)
        self._spool_oldest.set(spool.oldest_seconds)
        self._spool_damaged.set(spool.damaged)
        if spool.since_start > self._counted:
            self._spooled.inc(spool.since_start - self._counted)
            self._counted = spool.since_start

    def feedback(self, *, outcome: str, entries: int = 1) -> None:
        """`outcome` is what the client said became of the cards."""
        self._feedback.labels(self._said(outcome)).inc(entries)

    def jwks(self, *, client: str, outcome: str) -> None:
        self._jwks.labels(self._client(client), self._fetched(outcome)).inc()

    def ended(self, why: str) -> None:
        """A connection."""
        self._ended.labels(self._end(why)).inc()

    def fault(self) -> None:
        self._faults.inc()

    def text(self) -> bytes:
        """The exposition format, version 0.0.4 (`CONTENT_TYPE`)."""
        return generate_latest(_Plain(self._registry))

    def _counter(self, name: str, about: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(f"rescue_cds_{name}", about, labels, registry=self._registry)

    def _gauge(self, name: str, about: str) -> Gauge:
        return Gauge(f"rescue_cds_{name}", about, registry=self._registry)

    def _histogram(self, name: str, about: str, labels: Sequence[str] = ()) -> Histogram:
        return Histogram(f"rescue_cds_{name}", about, labels, buckets=SECONDS, registry=self._registry)


class _Plain(CollectorRegistry):
    """A registry without the time at which each series was made: as many lines again, which nobody reads."""

    def __init__(self, of: CollectorRegistry) -> None:
        super().__init__()
        self._of = of

    def collect(self) -> Iterator[Metric]:
        for metric in self._of.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric
