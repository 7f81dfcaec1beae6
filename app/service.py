"""The one use case, top to bottom: read the call, gather, map, assess, make cards, record, answer.

Nothing is answered that is not on the disk first. Every answer says in its decision extension what it is, so that an
empty list is never ambiguous (reading 7).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec

from app import attributes, cards, drafts, report, scope
from app.cards import Draft
from app.clinical.assessment import Assessment, assess
from app.clinical.knowledge import Row
from app.clinical.reading import Evidence
from app.clinical.table import EVERYTHING
from app.gateway.access import Access
from app.gateway.budget import Budget, Deadline
from app.gateway.fhir import Gateway
from app.gather import Gathered, at_site, gather
from app.knowledge import PATIENT_VIEW, Bedside
from app.outlook import UNSEEN, Outlook, look_ahead
from app.plan import Need
from app.settings import Caller, Settings, Tenant
from app.store.decisions import Decision, Store
from cds_hooks import request as calls
from cds_hooks.discovery import Service as ServiceDescription
from cds_hooks.errors import PreconditionFailed, operation_outcome
from cds_hooks.request import HookRequest
from cds_hooks.response import Card, Response, encode
from fhir_mappings import mapping
from fhir_mappings.context import Context
from fhir_mappings.facts import Facts
from fhir_mappings.mapping import Part

EXTENSION = "org.rescue-cds.decision"

COURSE_RUNNING = "course-running"
"""The row of the table of cards that asks for the values since before the first dose."""

CAPABILITY_SECONDS = 0.3
"""How long a hook waits for the capability statement of a server that has not been read yet."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back: status and JSON bytes."""

    status: int
    body: bytes = field(repr=False)


@dataclass(slots=True)
class _Course:
    """One request on its way; filled as it goes."""

    id: UUID
    started: float
    now: datetime
    caller: Caller
    request: HookRequest
    outcome: str = ""
    cards: tuple[Card, ...] = ()
    gaps: list[dict[str, str]] = field(default_factory=list)
    facts: Facts | None = None
    verdicts: dict[str, Any] = field(default_factory=dict)
    evidence: list[dict[str, str]] = field(default_factory=list)
    reading: dict[str, Any] = field(default_factory=dict)
    timing: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Reach:
    """The FHIR server of a request, if any (else why not), the tokens for it, and what may be spent on it."""

    base: str | None
    no_base: str
    access: Access = field(repr=False)
    budget: Budget


class HookService:
    """Answers hook calls. Holds no patient data between requests."""

    def __init__(
        self, settings: Settings, *, bedside: Bedside, gateway: Gateway, store: Store, clock: Callable[[], datetime]
    ) -> None:
        self.settings = settings
        self.bedside = bedside
        self.gateway = gateway
        self.store = store
        self.clock = clock
        self._source_url = attributes.url(settings.published_at)
        self._plans = {tenant.name: bedside.plan_for(tenant.overlay) for tenant in settings.tenants}
        self._first = {tenant.name: bedside.scope_first_for(tenant.overlay) for tenant in settings.tenants}
        self._since = {tenant.name: bedside.course_for(tenant.overlay) for tenant in settings.tenants}
        self._backends = {
            tenant.name: gateway.backend(tenant.backend) for tenant in settings.tenants if tenant.backend is not None
        }

    @property
    def descriptions(self) -> tuple[ServiceDescription, ...]:
        """What discovery publishes."""
        return self.bedside.described(self.settings.silenced)

    async def patient_view(self, body: bytes, *, caller: Caller) -> Answer:
        """The answer to a patient-view call.

        Raises the CdsHooksError tree for a call that cannot be read, NotRecorded when the decision cannot be kept.
        """
        limits = self.settings.body
        request = calls.parse(body, hook="patient-view", max_depth=limits.depth, max_number=limits.number)
        course = _Course(uuid4(), time.perf_counter(), self.clock(), caller, request)
        status = 200
        if request.user_is_patient:
            course.outcome = "patient-user"
        elif EVERYTHING in self.settings.silenced:  # nothing is read either: what is silenced may be what is at fault
            course.outcome, course.verdicts = "disabled", {"silenced": [EVERYTHING]}
        else:
            status = await self._evaluate(course)
        answer = self._answer(course, status=status)
        course.timing["total_ms"] = round((time.perf_counter() - course.started) * 1000, 1)
        await self.store.record(self._decision(course, answer))
        return answer

    async def _evaluate(self, course: _Course) -> int:
        reach = self._reach(course)
        context = Context(now=course.now, zone=course.caller.tenant.zone, overlay=course.caller.tenant.overlay)
        if reach.base is not None:
            await self.gateway.meet(reach.base, seconds=min(CAPABILITY_SECONDS, reach.budget.remaining()))
        looked = await self._scope_first(course, reach, context=context)
        if looked is not None and looked.silent is not None:
            return self._silent(course, looked, row=looked.silent)
        gathered = await self._gather(course, reach, known=None if looked is None else looked.gathered)
        if not gathered.looked:
            return self._not_evaluated(course, gathered)
        facts = mapping.to_facts(gathered.parts, patient_id=course.request.context.patient_id, context=context)
        course.facts = facts
        if facts.identity_mismatch:
            course.outcome = "identity-mismatch"
            course.gaps = [{"source": "Patient", "why": self.bedside.words.why("other-patient", {})}]
            course.cards = (self._notice("identity", course),)
            return 200
        found = self._assessed(facts, course)
        if found.row.id == COURSE_RUNNING and found.follow_up.course is not None:
            more = await self._since_first_dose(course, reach, first=found.follow_up.course.earliest)
            parts = (*gathered.parts, *more)
            course.facts = mapping.to_facts(parts, patient_id=course.request.context.patient_id, context=context)
            found = self._assessed(course.facts, course)
        course.verdicts = _verdicts(found)
        course.evidence = _evidence(found)
        course.gaps = report.gaps(found, words=self.bedside.plain)
        offered = self._drafts(course) if found.suggest else ()
        ahead = self._ahead(found, course, facts=facts, parts=gathered.parts, context=context)
        course.cards = cards.build(
            found,
            words=self.bedside.words,
            decision=course.id,
            drafts=offered,
            source_url=self._source_url,
            outlook=ahead,
        )
        course.outcome = _outcome(found, course.cards)
        return 200

    def _assessed(self, facts: Facts, course: _Course) -> Assessment:
        return assess(
            facts,
            knowledge=self.bedside.library.knowledge,
            now=course.now,
            suggest_on=self.settings.suggest_on,
            silenced=self.settings.silenced,
        )

    def _ahead(
        self, found: Assessment, course: _Course, *, facts: Facts, parts: Sequence[Part], context: Context
    ) -> Outlook:
        """What the card about a verdict says of the time to come; nobody is told of it without such a card."""
        if found.row.card not in {"thresholds-met", "undetermined"}:
            return UNSEEN
        patient_id = course.request.context.patient_id
        return look_ahead(
            found,
            facts=facts,
            context=context,
            again=lambda later: mapping.to_facts(parts, patient_id=patient_id, context=later),
            suggest_on=self.settings.suggest_on,
            protocols=self.bedside.speaking,
        )

    async def _since_first_dose(self, course: _Course, reach: _Reach, *, first: datetime) -> tuple[Part, ...]:
        """The values of a treated patient since the baseline; nobody else's are read so far back.

        What was not read is one source more that could not be looked at, never "no baseline".
        """
        tenant = course.caller.tenant
        baseline = self.bedside.library.knowledge.follow_up.limits["baseline_hours"].value
        back = course.now - first + timedelta(hours=float(baseline))
        asked, gone = at_site((replace(self._since[tenant.name], lookback=back),), absent=tenant.overlay.absent_source)
        gathered = await gather(
            plan=asked,
            prefetch={},
            base=reach.base,
            access=reach.access,
            gateway=self.gateway,
            patient_id=course.request.context.patient_id,
            now=course.now,
            budget=reach.budget,
            no_base=reach.no_base,
        )
        self._note(course, reach, gathered)
        keys = {need.key for need in asked}
        return (*(part for part in gathered.parts if part.source.key in keys), *gone)

    def _reach(self, course: _Course) -> _Reach:
        """The server that may be asked for this request, and by whose authority (reading 7)."""
        request, tenant = course.request, course.caller.tenant
        backend = self._backends.get(tenant.name)
        base, no_base = None, "no-fhir-server"
        if request.fhir_server is not None:
            base, no_base = tenant.base_of(request.fhir_server), "unknown-fhir-server"
        elif backend is not None:
            base = tenant.bases[0]
        authorization = None if base is None else request.fhir_authorization
        access = Access(
            None if authorization is None else authorization.access_token.reveal(),
            scope="" if authorization is None else authorization.scope or "",
            backend=backend,
            only_without_token=tenant.backend_use == "only-without-token",
        )
        budget = Budget(Deadline(self.settings.deadline_seconds), reads=self.settings.reads_per_hook)
        return _Reach(base, no_base, access, budget)

    async def _scope_first(self, course: _Course, reach: _Reach, *, context: Context) -> scope.Looked | None:
        """The first reads, where the site asks for them and there is a server to read."""
        tenant = course.caller.tenant
        if reach.base is None or tenant.gather != "scope-first":
            return None
        plan, gone = self._plan(tenant)
        looked = await scope.look(
            plan=plan,
            first=self._first[tenant.name],
            absent=gone,
            prefetch=course.request.prefetch,
            base=reach.base,
            access=reach.access,
            gateway=self.gateway,
            patient_id=course.request.context.patient_id,
            budget=reach.budget,
            context=context,
            knowledge=self.bedside.library.knowledge,
            silenced=self.settings.silenced,
        )
        self._note(course, reach, looked.gathered)
        return looked

    async def _gather(self, course: _Course, reach: _Reach, *, known: Gathered | None) -> Gathered:
        plan, gone = self._plan(course.caller.tenant)
        gathered = await gather(
            plan=plan,
            prefetch=course.request.prefetch,
            base=reach.base,
            access=reach.access,
            gateway=self.gateway,
            patient_id=course.request.context.patient_id,
            now=course.now,
            budget=reach.budget,
            no_base=reach.no_base,
            known=known,
        )
        self._note(course, reach, gathered)
        return replace(gathered, parts=(*gathered.parts, *gone))

    def _plan(self, tenant: Tenant) -> tuple[tuple[Need, ...], tuple[Part, ...]]:
        return at_site(self._plans[tenant.name], absent=tenant.overlay.absent_source)

    def _note(self, course: _Course, reach: _Reach, gathered: Gathered) -> None:
        """How the reading went, for the record: by whose authority, how much, and what could not be asked."""
        without = {part.source.key: part.source.unsent for part in gathered.parts if part.source.unsent}
        course.reading |= {
            "gather": course.caller.tenant.gather,
            "access": reach.access.mark,
            "requests": gathered.requests,
            "bytes": gathered.received,
            "asked_without": course.reading.get("asked_without", {}) | without,
        }
        course.timing["sources_ms"] = course.timing.get("sources_ms", {}) | {
            key: round(ms, 1) for key, ms in gathered.ms.items()
        }

    def _silent(self, course: _Course, looked: scope.Looked, *, row: Row) -> int:
        """No card, by the first reads alone; the answer says what was not used, and what was not looked at."""
        course.outcome = row.outcome
        course.facts = looked.facts
        course.verdicts = _protocols(looked.found)
        course.evidence = _evidence(looked.found)
        plan, _ = self._plan(course.caller.tenant)
        not_asked = scope.not_asked(plan, looked=looked)
        course.gaps = report.gaps(looked.found, words=self.bedside.plain)
        course.gaps += [report.lost(source, words=self.bedside.plain) for source in not_asked]
        return 200

    def _drafts(self, course: _Course) -> Sequence[Draft]:
        return drafts.fill(
            self.bedside.templates,
            patient_id=course.request.context.patient_id,
            encounter_id=course.request.context.encounter_id,
            now=course.now,
            zone=course.caller.tenant.zone,
        )

    def _notice(self, key: str, course: _Course) -> Card:
        return cards.notice(key, words=self.bedside.words, decision=course.id, source_url=self._source_url)

    def _not_evaluated(self, course: _Course, gathered: Gathered) -> int:
        course.outcome = "not-evaluated"
        course.gaps = [report.lost(part.source, words=self.bedside.plain) for part in gathered.parts]
        if "not-evaluated-as-card" not in course.caller.modes:
            return 412
        course.cards = (self._notice("not_evaluated", course),)
        return 200

    def _answer(self, course: _Course, *, status: int) -> Answer:
        if status == 412:
            refusal = PreconditionFailed(
                "no data could be looked at: no usable prefetch was sent and no configured FHIR server could be read"
            )
            return Answer(412, msgspec.json.encode(operation_outcome(refusal.code, refusal.message, str(course.id))))
        decision: dict[str, Any] = {"id": str(course.id), "outcome": course.outcome}
        if course.gaps:
            decision["gaps"] = course.gaps
        return Answer(200, encode(Response(cards=course.cards, extension={EXTENSION: decision})))

    def _decision(self, course: _Course, answer: Answer) -> Decision:
        knowledge = self.bedside.library.knowledge
        return Decision(
            id=str(course.id),
            created_at=course.now,
            client=course.caller.client,
            tenant=course.caller.tenant.name,
            service=PATIENT_VIEW,
            hook=course.request.hook,
            hook_instance=_instance(course.request.hook_instance),
            request_digest=calls.digest(course.request),
            knowledge_hash=knowledge.hash,
            outcome=course.outcome,
            status=answer.status,
            answer=answer.body,
            patient=course.request.context.patient_id,
            facts=None if course.facts is None else msgspec.json.encode(course.facts),
            versions={"service": self.bedside.version, "knowledge": knowledge.version},
            verdicts=course.verdicts,
            reading=course.reading,
            evidence=course.evidence,
            gaps=course.gaps,
            timing=course.timing,
        )


def _outcome(found: Assessment, shown: tuple[Card, ...]) -> str:
    """The first that applies of reading 7: a card is a card, else the row says which silence it is."""
    if found.row.card == "course":
        return "follow-up"
    return "card" if shown else found.row.outcome


def _instance(value: str) -> str:
    """A hookInstance is meant to be an opaque id; one that is not a short token is kept as its digest only."""
    if len(value) <= 64 and all(c.isalnum() or c in "-_.:" for c in value):
        return value
    return hashlib.sha256(value.encode("utf-8", "replace")).hexdigest()


def _protocols(found: Assessment) -> dict[str, Any]:
    verdicts: dict[str, Any] = {
        p.protocol.id: {
            "verdict": p.verdict.value,
            "scope": p.scope,
            "criteria": {c.id: c.finding.value for c in p.criteria},
        }
        for p in found.protocols
    }
    silenced = {"silenced": sorted(found.silenced)} if found.silenced else {}
    return verdicts | {"row": found.row.id} | silenced


def _verdicts(found: Assessment) -> dict[str, Any]:
    safety: Mapping[str, str] = {s.rule.id: s.finding.presence for s in found.safety}
    return _protocols(found) | {
        found.follow_up.follow_up.id: {
            "scope": found.follow_up.scope,
            "treatment_day": found.follow_up.day,
            "actions": {a.action.id: a.finding.presence for a in found.follow_up.actions},
        },
        "safety": safety,
        "suggested": found.suggest,
    }


def _evidence(found: Assessment) -> list[dict[str, str]]:
    outcomes = [c.outcome for p in found.protocols for c in p.criteria] + [s.outcome for s in found.safety]
    outcomes += [a.outcome for a in found.follow_up.actions]
    values = [m for t in found.follow_up.trends for m in (t.baseline, t.value) if m is not None]
    entries = [e for outcome in outcomes for e in outcome.evidence] + [Evidence.measured(m) for m in values]
    return report.evidence(dict.fromkeys(entries), now=found.now)
