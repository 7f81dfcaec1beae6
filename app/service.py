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
from typing import Any, Protocol
from uuid import uuid4, uuid5

import msgspec

from app import attributes, snooze
from app.call import Call
from app.clinical.table import EVERYTHING
from app.gateway.fhir import Gateway
from app.knowledge import Bedside
from app.names import ORDER_SELECT, ORDER_SIGN, PATIENT_VIEW
from app.observe.metrics import Metrics
from app.observe.traces import OFF, Traces
from app.order_hooks import OrderHooks
from app.patient_view import PatientView
from app.reads import Reads
from app.settings import SILENT, Caller, Settings
from app.store.decisions import Decision, Shown, Snooze, Store
from app.store.errors import StoreError
from app.store.feedback import Feedback
from app.trust import FHIR_SERVER, Refusals
from cds_hooks import feedback as feedbacks
from cds_hooks import request as calls
from cds_hooks.discovery import Service as ServiceDescription
from cds_hooks.errors import Forbidden, NotFound, PreconditionFailed, operation_outcome
from cds_hooks.response import Response, encode

EXTENSION = "org.rescue-cds.decision"

_BEFORE_SILENT = frozenset({"patient-user", "identity-mismatch", "not-evaluated", "disabled"})
"""Outcomes that come before `silent` (reading 7)."""

_CARDS = ("protocol", "safety", "notice")
"""What the cards of an answer may be; their uuids are made of the decision's and these names."""


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
        call = Call(uuid4(), time.perf_counter(), self.clock(), caller, service, request)
        with self.traces.span(
            "hook", service=service, hook=hook, client=caller.client, tenant=caller.tenant.name
        ) as span:
            answer = await self._evaluated(call, handler)
            span.note(outcome=call.outcome, status=answer.status, cards=len(call.cards), gaps=len(call.gaps))
        return answer

    async def _evaluated(self, call: Call, handler: _Hook) -> Answer:
        if call.request.user_is_patient:
            call.outcome = "patient-user"
        elif EVERYTHING in self.settings.silenced:  # nothing is read either: what is silenced may be what is at fault
            call.outcome, call.verdicts = "disabled", {"silenced": [EVERYTHING]}
        else:
            status = await handler.evaluate(call)
            self._silence(call)
            snoozing = await self._snoozed(call)
            return await self._recorded(call, status=status, snoozing=snoozing)
        return await self._recorded(call, status=200)

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

    def _silence(self, call: Call) -> None:
        """In silent mode everything is evaluated and recorded, and nobody is shown a card (reading 7)."""
        everything = SILENT in call.caller.modes
        if not everything and (not call.cards or call.speaks.isdisjoint(self.settings.silent)):
            return
        if call.outcome not in _BEFORE_SILENT:
            call.would_be, call.outcome = call.outcome, "silent"
            call.verdicts["would_be"] = call.would_be
        shown = [{"name": one.name, "indicator": one.indicator} for one in _shown(call)]
        if shown:
            call.verdicts["would_show"] = shown
        call.cards = ()

    async def _snoozed(self, call: Call) -> Snooze | None:
        """Takes away cards whose unchanged state this user has been shown lately; what to remember of those shown.

        A card that stops is always shown, and so is the answer to an exact repeat of a request.
        """
        chosen, user = self.settings.snooze, call.request.context.user_id
        if chosen is None or user is None or not call.cards or call.kind not in chosen.kinds:
            return None
        if any(card.indicator == "critical" for card in call.cards):
            return None
        digest = snooze.user_digest(user, tenant=call.caller.tenant.name)
        mine = Snooze(call.caller.client, digest, call.patient_id, call.kind, call.state)
        since = call.now - timedelta(hours=chosen.hours)
        shown = await self.store.was_shown(mine, since=since)
        if not shown or await self.store.is_repeat(
            client=call.caller.client,
            tenant=call.caller.tenant.name,
            hook_instance=_instance(call.request.hook_instance),
            request_digest=calls.digest(call.request),
        ):
            return mine
        call.verdicts["would_be"] = call.outcome
        call.cards, call.outcome = (), "snoozed"
        return None

    async def _recorded(self, call: Call, *, status: int, snoozing: Snooze | None = None) -> Answer:
        answer = self._answer(call, status=status)
        call.timing["total_ms"] = round((time.perf_counter() - call.started) * 1000, 1)
        begun = time.perf_counter()
        try:
            await self.store.record(self._decision(call, answer, snoozing=snoozing))
        except StoreError:
            self.metrics.not_recorded()
            raise
        self.metrics.recorded(seconds=time.perf_counter() - begun)
        return answer

    def _answer(self, call: Call, *, status: int) -> Answer:
        if status == 412:
            refusal = PreconditionFailed(
                "no data could be looked at: no usable prefetch was sent and no configured FHIR server could be read"
            )
            body = msgspec.json.encode(operation_outcome(refusal.code, refusal.message, str(call.id)))
            return Answer(412, body, call.outcome)
        decision: dict[str, Any] = {"id": str(call.id), "outcome": call.outcome}
        if call.would_be:
            decision["would_be"] = call.would_be
        if call.gaps:
            decision["gaps"] = call.gaps
        return Answer(200, encode(Response(cards=call.cards, extension={EXTENSION: decision})), call.outcome)

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
            facts=None if call.facts is None else msgspec.json.encode(call.facts),
            versions={"service": self.bedside.version, "knowledge": knowledge.version},
            verdicts=call.verdicts,
            reading=call.reading,
            evidence=[_without_identity(entry) for entry in call.evidence],
            gaps=[_without_identity(entry) for entry in call.gaps],
            timing=call.timing,
            cards=tuple(_shown(call)),
            snooze=snoozing,
        )


def _shown(call: Call) -> list[Shown]:
    """The cards of the answer, for those who tell what became of them."""
    names = {str(uuid5(call.id, f"card/{name}")): name for name in _CARDS}
    return [
        Shown(card.uuid, names[card.uuid], card.indicator, tuple(s.uuid for s in card.suggestions if s.uuid))
        for card in call.cards
        if card.uuid
    ]


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


def _without_identity(entry: dict[str, str]) -> dict[str, str]:
    """An entry for the record that stays: whose Patient it was stands in `decision_facts`, and goes with it."""
    reference = entry.get("reference", "")
    return entry | {"reference": "Patient"} if reference.startswith("Patient/") else entry


def _instance(value: str) -> str:
    """A hookInstance is meant to be an opaque id; one that is not a short token is kept as its digest only."""
    if len(value) <= 64 and all(c.isalnum() or c in "-_.:" for c in value):
        return value
    return hashlib.sha256(value.encode("utf-8", "replace")).hexdigest()
