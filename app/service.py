"""The one use case, top to bottom: read the call, evaluate it, record, answer.

Nothing is answered that is not on the disk first. Every answer says in its decision extension what it is, so that an
empty list is never ambiguous (reading 7).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Protocol
from uuid import uuid4

import msgspec

from app import answers, attributes, kept, snooze, switches
from app.call import Call
from app.flights import Flights
from app.gateway.fhir import Gateway
from app.knowledge import Bedside
from app.names import ORDER_SELECT, ORDER_SIGN, PATIENT_VIEW
from app.observe.metrics import Metrics
from app.observe.traces import OFF, Traces
from app.order_hooks import OrderHooks
from app.patient_view import PatientView
from app.reads import Reads
from app.settings import Caller, Settings
from app.store.decisions import Decision, Same, Snooze, Store
from app.store.errors import StoreError
from app.store.feedback import Feedback
from app.store.writer import Earlier
from app.trust import FHIR_SERVER, Refusals
from cds_hooks import feedback as feedbacks
from cds_hooks import request as calls
from cds_hooks.discovery import Service as ServiceDescription
from cds_hooks.errors import Forbidden, NotFound

REUSED = "hook-instance-reused"
"""The flag of a decision whose hookInstance was that of another request: it is meant to be unique (CDS Hooks)."""


NOT_COMPARED = "hook-instance-not-compared"
"""The flag of a decision of which nobody could say that: the database did not answer, or the spool was not empty."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back: status and JSON bytes."""

    status: int
    body: bytes = field(repr=False)
    outcome: str = ""


class _Hook(Protocol):
    async def evaluate(self, call: Call) -> int: ...


class HookService:
    """Answers hook calls. Holds no patient data between requests."""

    def __init__(
        self,
        settings: Settings,
        *,
        bedside: Bedside,
        gateway: Gateway,
        store: Store,
        refusals: Refusals,
        metrics: Metrics,
        traces: Traces = OFF,
        clock: Callable[[], datetime],
    ) -> None:
        self.settings = settings
        self.bedside = bedside
        self.gateway = gateway
        self.store = store
        self.refusals = refusals
        self.metrics = metrics
        self.traces = traces
        self.clock = clock
        self._flights = Flights[Answer](metrics.replayed)
        url = attributes.url(settings.published_at)
        reads = Reads(settings, bedside=bedside, gateway=gateway, metrics=metrics)
        self._hooks: Mapping[str, tuple[str, _Hook]] = MappingProxyType(
            {
                PATIENT_VIEW: ("patient-view", PatientView(reads, bedside=bedside, source_url=url)),
                ORDER_SELECT: (
                    "order-select",
                    OrderHooks(reads, hook="order-select", bedside=bedside, source_url=url),
                ),
                ORDER_SIGN: ("order-sign", OrderHooks(reads, hook="order-sign", bedside=bedside, source_url=url)),
            }
        )

    @property
    def descriptions(self) -> tuple[ServiceDescription, ...]:
        """What discovery publishes."""
        return self.bedside.described(self.settings.silenced)

    def require(self, service: str) -> None:
        """Raises NotFound for an id that discovery does not list."""
        if service not in self._hooks:
            raise NotFound("no service of that id: see /cds-services")

    async def answer(self, service: str, body: bytes, *, caller: Caller) -> Answer:
        """The answer to a call of that service.

        Raises the CdsHooksError tree for a call that cannot be read, Forbidden for a client that names a FHIR server
        which is not one of its own, StoreError when the decision cannot be kept.
        """
        self.require(service)
        hook, handler = self._hooks[service]
        limits = self.settings.body
        request = calls.parse(body, hook=hook, max_depth=limits.depth, max_number=limits.number)
        await self._require_own_server(request.fhir_server, caller=caller, service=service)
        switched = switches.of(self.settings, caller)
        call = Call(uuid4(), time.perf_counter(), self.clock(), caller, service, request, switched)
        return await self._flights.result(_claim(call), lambda: self._answered_once(call, handler))

    async def _answered_once(self, call: Call, handler: _Hook) -> Answer:
        """The answer that the same request was given before, or a new one."""
        asked = Same(
            call.caller.client,
            call.caller.tenant.name,
            call.service,
            _instance(call.request.hook_instance),
            calls.digest(call.request),
        )
        snoozing = call.switches.snooze
        since = None if snoozing is None else call.now - timedelta(hours=snoozing.hours)
        await self.store.tidy(now=call.now, snoozed_since=since)
        before = await self.store.before(asked, claim=_claim(call), now=call.now)
        if before.answer is not None:
            self.metrics.replayed()
            return _again(before.answer)
        if before.reused is not False:
            call.flags = (REUSED if before.reused else NOT_COMPARED,)
        with self.traces.span(
            "hook",
            service=call.service,
            hook=call.request.hook,
            client=call.caller.client,
            tenant=call.caller.tenant.name,
        ) as span:
            answer = await self._evaluated(call, handler)
            span.note(outcome=call.outcome, status=answer.status, cards=len(call.cards), gaps=len(call.gaps))
        return answer

    async def _evaluated(self, call: Call, handler: _Hook) -> Answer:
        if answers.is_refused(call):
            return await self._recorded(call, status=200)
        status = await handler.evaluate(call)
        answers.silence(call)
        snoozing = await self._snoozed(call)
        return await self._recorded(call, status=status, snoozing=snoozing)

    async def _require_own_server(self, sent: str | None, *, caller: Caller, service: str) -> None:
        """A registered client has agreed on its servers: another one is a mistake, or somebody else (reading 7)."""
        if caller.registered and sent is not None and caller.tenant.base_of(sent) is None:
            await self.refusals.note(FHIR_SERVER, client=caller.client, service=service)
            raise Forbidden("fhirServer is not one that is configured for this client: nothing was evaluated")

    async def feedback(self, service: str, body: bytes, *, caller: Caller) -> None:
        """Keeps what became of cards, all entries or none; which service's card it was, the card says itself.

        Raises BadRequest for a batch with one entry that means nothing, StoreError when it cannot be kept.
        """
        self.require(service)
        entries = feedbacks.parse(body)
        await self.store.keep_feedback(
            map(_kept, entries),
            client=caller.client,
            tenant=caller.tenant.name,
            service=service,
            received_at=self.clock(),
        )
        for entry in entries:
            self.metrics.feedback(outcome=entry.outcome)

    async def _snoozed(self, call: Call) -> Snooze | None:
        """Takes away cards whose unchanged state this user has been shown lately; what to remember of those shown.

        A card that stops is always shown, and so is the answer to an exact repeat of a request.
        """
        chosen, user = call.switches.snooze, call.request.context.user_id
        if chosen is None or user is None or not answers.may_be_snoozed(call):
            return None
        digest = snooze.user_digest(user, tenant=call.caller.tenant.name)
        mine = Snooze(call.caller.client, digest, call.patient_id, call.kind, call.state)
        since = call.now - timedelta(hours=chosen.hours)
        try:
            shown = await self.store.was_shown(mine, since=since)
            repeat = shown and await self.store.is_repeat(
                client=call.caller.client,
                tenant=call.caller.tenant.name,
                hook_instance=_instance(call.request.hook_instance),
                request_digest=calls.digest(call.request),
            )
        except StoreError:  # it is not known, so it is shown
            return mine
        if not shown or repeat:
            return mine
        answers.snooze(call)
        return None

    async def _recorded(self, call: Call, *, status: int, snoozing: Snooze | None = None) -> Answer:
        answer = Answer(status, answers.body(call, status=status), call.outcome)
        call.timing["total_ms"] = round((time.perf_counter() - call.started) * 1000, 1)
        begun = time.perf_counter()
        try:
            earlier = await self.store.record(self._decision(call, answer, snoozing=snoozing))
        except StoreError:
            self.metrics.not_recorded()
            raise
        self.metrics.recorded(seconds=time.perf_counter() - begun)
        if earlier is not None:  # another process was faster
            self.metrics.replayed()
            return _again(earlier)
        return answer

    def _decision(self, call: Call, answer: Answer, *, snoozing: Snooze | None) -> Decision:
        knowledge = self.bedside.library.knowledge
        return Decision(
            id=str(call.id),
            created_at=call.now,
            client=call.caller.client,
            tenant=call.caller.tenant.name,
            service=call.service,
            hook=call.request.hook,
            hook_instance=_instance(call.request.hook_instance),
            request_digest=calls.digest(call.request),
            knowledge_hash=knowledge.hash,
            outcome=call.outcome,
            status=answer.status,
            answer=answer.body,
            patient=call.patient_id,
            facts=None if call.facts is None else kept.encode(call.facts, call.asked, queries=call.queries),
            versions={"service": self.bedside.version, "knowledge": knowledge.version},
            verdicts=call.verdicts,
            reading=answers.reading(call),
            evidence=answers.evidence(call),
            gaps=answers.gaps(call),
            timing=call.timing,
            cards=tuple(answers.shown(call)),
            flags=call.flags,
            snooze=snoozing,
            # Nothing was looked at: that is tried again as soon as somebody asks again.
            claim="" if call.outcome == "not-evaluated" else _claim(call),
        )


def _claim(call: Call) -> str:
    """What makes another request the same: who asks what of whom, and what was switched meanwhile. An operator who
    silences the service, or a client, silences repeats too. Not the address that cards link to: replicas may have each
    its own."""
    parts = [
        call.caller.client,
        call.caller.tenant.name,
        call.service,
        call.request.hook_instance,
        calls.digest(call.request),
        {name: value for name, value in call.switches.document().items() if name != "published_at"},
    ]
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def _again(earlier: Earlier) -> Answer:
    return Answer(earlier.status, earlier.body, earlier.outcome)


def _kept(entry: feedbacks.Entry) -> Feedback:
    reason = entry.reason
    return Feedback(
        card=entry.card,
        outcome=entry.outcome,
        outcome_at=entry.at,
        suggestions=entry.suggestions,
        reason_code="" if reason is None else reason.code,
        reason_system="" if reason is None else reason.system,
        display="" if reason is None else reason.display,
        comment=entry.comment or "",
    )


def _instance(value: str) -> str:
    """A hookInstance is meant to be an opaque id; one that is not a short token is kept as its digest only."""
    if len(value) <= 64 and all(c.isalnum() or c in "-_.:" for c in value):
        return value
    return hashlib.sha256(value.encode("utf-8", "replace")).hexdigest()
