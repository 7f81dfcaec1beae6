"""What a call reads: from where, by whose authority, within which limits, and how that is noted for the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from app import scope
from app.call import Call, Reach
from app.gateway.access import Access
from app.gateway.budget import Budget, Deadline
from app.gateway.fhir import Gateway
from app.gather import Gathered, at_site, gather, named_medications
from app.knowledge import Bedside
from app.observe.metrics import Metrics
from app.plan import Need
from app.settings import Settings, Tenant
from fhir_mappings.context import Context
from fhir_mappings.mapping import Part

CAPABILITY_SECONDS = 0.3
"""How long a hook waits for the capability statement of a server that has not been read yet."""


class Reads:
    """The reading of every hook, with the plans of every tenant made once."""

    def __init__(self, settings: Settings, *, bedside: Bedside, gateway: Gateway, metrics: Metrics) -> None:
        self.settings = settings
        self.bedside = bedside
        self.gateway = gateway
        self.metrics = metrics
        tenants = settings.tenants
        self._plans = {tenant.name: bedside.plan_for(tenant.overlay) for tenant in tenants}
        self._orders = {tenant.name: bedside.order_plan_for(tenant.overlay) for tenant in tenants}
        self._first = {tenant.name: bedside.scope_first_for(tenant.overlay) for tenant in tenants}
        self._since = {tenant.name: bedside.course_for(tenant.overlay) for tenant in tenants}
        self._backends = {
            tenant.name: gateway.backend(tenant.backend) for tenant in tenants if tenant.backend is not None
        }

    def context(self, call: Call) -> Context:
        """What the mapping of this call's resources has to know."""
        tenant = call.caller.tenant
        return Context(now=call.now, zone=tenant.zone, overlay=tenant.overlay)

    def reach(self, call: Call) -> Reach:
        """The server that may be asked for this call, and by whose authority (reading 7)."""
        request, tenant = call.request, call.caller.tenant
        backend = None if tenant.backend is None else self._backends[tenant.name]  # a client may have none (Settings)
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
        return Reach(base, no_base, access, budget)

    async def meet(self, reach: Reach) -> None:
        """Ask the server once what it can do."""
        if reach.base is not None:
            await self.gateway.meet(reach.base, seconds=min(CAPABILITY_SECONDS, reach.budget.remaining()))

    def plan(self, tenant: Tenant) -> tuple[tuple[Need, ...], tuple[Part, ...]]:
        """Everything that patient-view asks for, and the parts of what this site does not have."""
        return at_site(self._plans[tenant.name], absent=tenant.overlay.absent_source)

    async def scope_first(self, call: Call, reach: Reach, *, context: Context) -> scope.Looked | None:
        """The first reads, where the site asks for them and there is a server to read."""
        tenant = call.caller.tenant
        if reach.base is None or tenant.gather != "scope-first":
            return None
        plan, gone = self.plan(tenant)
        looked = await scope.look(
            plan=plan,
            first=self._first[tenant.name],
            absent=gone,
            prefetch=call.request.prefetch,
            base=reach.base,
            access=reach.access,
            gateway=self.gateway,
            patient_id=call.patient_id,
            budget=reach.budget,
            context=context,
            knowledge=self.bedside.library.knowledge,
            silenced=self.settings.silenced,
        )
        self._note(call, reach, looked.gathered)
        return looked

    async def everything(self, call: Call, reach: Reach, *, known: Gathered | None = None) -> Gathered:
        """The plan of patient-view; what `known` has asked is not asked again."""
        plan, gone = self.plan(call.caller.tenant)
        return await self._gathered(call, reach, plan, gone, known=known)

    async def for_orders(self, call: Call, reach: Reach) -> Gathered:
        """The plan of the order hooks."""
        tenant = call.caller.tenant
        plan, gone = at_site(self._orders[tenant.name], absent=tenant.overlay.absent_source)
        return await self._gathered(call, reach, plan, gone)

    async def _gathered(
        self,
        call: Call,
        reach: Reach,
        plan: Sequence[Need],
        gone: Sequence[Part],
        *,
        known: Gathered | None = None,
        prefetch: bool = True,
    ) -> Gathered:
        """`prefetch`: whether the client may have sent it."""
        gathered = await gather(
            plan=plan,
            prefetch=call.request.prefetch if prefetch else {},
            base=reach.base,
            access=reach.access,
            gateway=self.gateway,
            patient_id=call.patient_id,
            now=call.now,
            budget=reach.budget,
            no_base=reach.no_base,
            known=known,
        )
        self._note(call, reach, gathered)
        return replace(gathered, parts=(*gathered.parts, *gone))

    async def since_first_dose(self, call: Call, reach: Reach, *, first: datetime) -> tuple[Part, ...]:
        """The values of a treated patient since the baseline; nobody else's are read so far back.

        What was not read is one source more that could not be looked at, never "no baseline".
        """
        tenant = call.caller.tenant
        baseline = self.bedside.library.knowledge.follow_up.limits["baseline_hours"].value
        back = call.now - first + timedelta(hours=float(baseline))
        asked, gone = at_site((replace(self._since[tenant.name], lookback=back),), absent=tenant.overlay.absent_source)
        gathered = await self._gathered(call, reach, asked, gone, prefetch=False)
        keys = {self._since[tenant.name].key}
        return tuple(part for part in gathered.parts if part.source.key in keys)

    async def medications(self, call: Call, reach: Reach, references: Sequence[str]) -> Mapping[str, bytes]:
        """The Medications that drafted orders refer to, from what the client sent along, else from the server."""
        return await named_medications(
            references,
            prefetch=call.request.prefetch,
            base=reach.base,
            access=reach.access,
            gateway=self.gateway,
            budget=reach.budget,
        )

    def _note(self, call: Call, reach: Reach, gathered: Gathered) -> None:
        """How the reading went: by whose authority, how much, and what could not be asked."""
        without = {part.source.key: part.source.unsent for part in gathered.parts if part.source.unsent}
        call.queries = reach.budget.asked  # grows with what is read after this
        call.reading |= {
            "server": reach.base,
            "gather": call.caller.tenant.gather,
            "access": reach.access.mark,
            "requests": gathered.requests,
            "bytes": gathered.received,
            "asked_without": call.reading.get("asked_without", {}) | without,
        }
        for part in gathered.parts:
            ms = gathered.ms.get(part.source.key)
            if ms is not None:
                source = part.source
                self.metrics.read(
                    tenant=call.caller.tenant.name, outcome=source.outcome, why=source.why, seconds=ms / 1000
                )
        call.timing["sources_ms"] = call.timing.get("sources_ms", {}) | {
            key: round(ms, 1) for key, ms in gathered.ms.items()
        }
