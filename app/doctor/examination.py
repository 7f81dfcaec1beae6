"""Asking the server: the capability statement, who is to be examined, and for each patient every search of the plan.

Searches go through the gateway and `gather` of the service; a search that was timed alone is not sent again for the
facts. What is kept of a patient is what was counted.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

import httpx  # allowed: network the type of a transport that tests pass on to the gateway

from app import plan as asking
from app.doctor import codes, words
from app.doctor.coverage import Coverage, records
from app.doctor.findings import Findings, Hook, Patient, Search, Server
from app.doctor.lookalikes import LookAlikes
from app.gateway.access import Access
from app.gateway.backend_services import BackendServices
from app.gateway.budget import READS, Budget, Deadline
from app.gateway.capability import Capability
from app.gateway.fhir import Fetched, Gateway, Limits, Query
from app.gather import at_site, gather
from app.knowledge import Bedside
from app.plan import PATIENT, Need
from app.settings import Tenant
from fhir_mappings import codebook, mapping, sieve
from fhir_mappings.coding import addresses
from fhir_mappings.context import Context
from fhir_mappings.facts import Facts, Overlay

Progress = Callable[[str], None]

CHOSEN_BY: Final = ("crp", "ferritin", "pao2")
"""Concepts whose newest results name the patients of a sample."""

LATE: Final = frozenset({"timeout", "busy", "circuit-open"})

_SILENT: Final = frozenset({"unreachable", "timeout", "circuit-open", "no-token", "not-fhir-json"})
"""No answer of a FHIR server: the next patient will have none either."""

_CHOSEN_BACK: Final = timedelta(days=30)
_BROAD_BACK: Final = timedelta(hours=72)
_LABS_BACK: Final = timedelta(days=30)
_BROAD_PAGE: Final = "200"
_ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_SPECIAL: Final = frozenset(",|$\\")
_CONNECT_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Case:
    """Whom and how to examine. `patients` are bare ids; without any, `sample` patients are chosen.

    `seconds` is the time of one search that is timed alone; `deadline_seconds`, `reads` and `limits` are the hook's. No
    search is begun after `total_seconds`.
    """

    tenant: Tenant
    base: str
    now: datetime
    token: str | None = field(default=None, repr=False)
    patients: tuple[str, ...] = field(default=(), repr=False)
    sample: int = 5
    seconds: float = 20.0
    total_seconds: float = 900.0
    deadline_seconds: float = 1.4
    reads: int = READS
    limits: Limits = field(default_factory=Limits)


class _Watched(Gateway):
    """A gateway that remembers what it was asked and how that went; the same query is not sent twice for a patient."""

    def __init__(self, transport: httpx.AsyncBaseTransport | None, *, limits: Limits) -> None:
        super().__init__(transport, limits=limits)
        self.kept: dict[Query, Fetched] = {}
        self.ms: dict[Query, float] = {}

    async def fetch(self, query: Query, *, base: str, access: Access, budget: Budget) -> Fetched:
        """As the gateway's, or what it gave before."""
        known = self.kept.get(query)
        if known is not None:
            return known
        started = time.perf_counter()
        fetched = await super().fetch(query, base=base, access=access, budget=budget)
        self.ms[query] = (time.perf_counter() - started) * 1000
        self.kept[query] = fetched
        return fetched

    def forget(self) -> None:
        """The next patient's answers are others."""
        self.kept.clear()
        self.ms.clear()


async def examine(
    case: Case,
    *,
    bedside: Bedside,
    progress: Progress,
    transport: httpx.AsyncBaseTransport | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Findings:
    """Everything that was found. Never raises for what a server does. `clock` counts the whole run."""
    ends = Deadline(case.total_seconds, clock=clock)
    connect = min(_CONNECT_SECONDS, case.seconds)
    patient = Limits(call_seconds=case.seconds, connect_seconds=connect)
    async with (
        _Watched(transport, limits=patient) as alone,
        _Watched(transport, limits=replace(patient, pages=1)) as choosing,
        _Watched(transport, limits=case.limits) as hook,
    ):
        return await _Examination(
            case, bedside=bedside, progress=progress, alone=alone, choosing=choosing, hook=hook, ends=ends
        ).findings()


class _Examination:
    """One run."""

    def __init__(
        self,
        case: Case,
        *,
        bedside: Bedside,
        progress: Progress,
        alone: _Watched,
        choosing: _Watched,
        hook: _Watched,
        ends: Deadline,
    ) -> None:
        overlay = case.tenant.overlay
        self.case = case
        self.bedside = bedside
        self.progress = progress
        self.alone = alone
        self.choosing = choosing
        self.hook = hook
        self.ends = ends
        self.choices: list[Search] = []
        self.backend: BackendServices | None = None
        self.plan, self.gone = at_site(bedside.plan_for(overlay), absent=overlay.absent_source)
        self.coverage = Coverage(knowledge=bedside.library.knowledge, texts=bedside.plain, overlay=overlay)
        self.look_alikes = LookAlikes(overlay)
        self.records: Counter[str] = Counter()

    async def findings(self) -> Findings:
        """The server, then the patients, one after the other."""
        case = self.case
        if case.tenant.backend is not None and case.token is None:
            self.backend = self.alone.backend(case.tenant.backend)
        self.progress("capability statement …")
        capability = await self.alone.meet(case.base, seconds=case.seconds)
        server = _server(case.base, capability, plan=self.plan, now=case.now)
        self.progress(f"  {server.software or 'read'}" if server.known else "  could not be read")
        ids, chosen = await self._patients()
        if ids:
            await self.hook.meet(case.base, seconds=case.seconds)
        patients: list[Patient] = []
        labels = [f"Patient/{one}" if case.patients else f"patient {number}" for number, one in enumerate(ids, start=1)]
        for number, (patient_id, label) in enumerate(zip(ids, labels, strict=True), start=1):
            self.progress(f"{label} ({number} of {len(ids)})")
            patient = await self._patient(patient_id, label=label)
            if patient is None:
                self.progress(f"  {case.total_seconds / 60:g} min are over: nobody else is asked for")
                break
            patients.append(patient)
            if _is_silent(patient):
                self.progress("  no answer" + ("; nobody else is asked for" if number < len(ids) else ""))
                break
        concepts = [
            (need.key, name)
            for need in self.plan
            if need.resource_type == "Observation"
            for name in need.concepts
            if name != "gas_panel"
        ]
        found = self.coverage.found(name for _, name in concepts)
        return Findings(
            version=self.bedside.version,
            now=case.now,
            zone=case.tenant.zone.key,
            server=server,
            plan=tuple(self.plan),
            overlay=case.tenant.overlay,
            chosen=chosen,
            deadline_seconds=case.deadline_seconds,
            choosing=tuple(self.choices),
            patients=tuple(patients),
            not_examined=tuple(labels[len(patients) :]),
            inputs=self.coverage.inputs(),
            found=tuple((need, one) for (need, _), one in zip(concepts, found, strict=True)),
            refused=self.coverage.refused(),
            look_alikes=self.look_alikes.found(),
            others=self.look_alikes.others(),
            uncoded=dict(self.look_alikes.uncoded),
            records=dict(self.records),
        )

    def _access(self) -> Access:
        return Access(self.case.token, backend=self.backend)

    # --- whom ---------------------------------------------------------------------------------------------

    async def _patients(self) -> tuple[tuple[str, ...], str]:
        """Bare ids, and how they were chosen; `failed` when no search for them worked."""
        case = self.case
        if case.patients:
            return case.patients, "given"
        self.progress("choosing patients …")
        await self.choosing.meet(case.base, seconds=case.seconds)
        tokens = ",".join(_tokens(case.tenant.overlay))
        since = (case.now - _CHOSEN_BACK).strftime("%Y-%m-%d")
        params = (("code", tokens), ("date", f"ge{since}"), ("_sort", "-date"), ("_count", "100"))
        results = await self._chosen_from(Query("Observation", params=params), key="choosing-results", how="newest")
        ids = _ranked(results or (), base=case.base, overlay=case.tenant.overlay)[: case.sample]
        if ids:
            self.progress(f"  {len(ids)} with recent results")
            return tuple(ids), "results"
        query = Query("Patient", params=(("_count", str(case.sample)), ("_elements", "id")))
        listed = await self._chosen_from(query, key="choosing-list", how="all")
        ids = [entry.id for entry in listed or () if _ID.fullmatch(entry.id)][: case.sample]
        self.progress(f"  {len(ids)} of the list of patients")
        if not ids and results is None and listed is None:
            return (), "failed"
        return tuple(ids), "list"

    async def _chosen_from(self, query: Query, *, key: str, how: str) -> list[sieve.Entry] | None:
        """Matching entries of one page; None when the search failed."""
        case = self.case
        fetched = await self.choosing.fetch(
            query, base=case.base, access=self._access(), budget=Budget(Deadline(case.seconds))
        )
        search = _search(query, fetched, key=key, how=how, ms=self.choosing.ms[query], own=True)
        if search.why == "page-limit":  # one page was wanted
            search = replace(search, outcome="ok", why="")
        self.choices.append(search)
        self.progress(f"  {key} ({query.resource_type} {how}) … {_told(search)}")
        if fetched.outcome == "failed":
            return None
        return [e for page in fetched.pages for e in page.entries if e.resource_type == query.resource_type]

    # --- one patient --------------------------------------------------------------------------------------

    async def _patient(self, patient_id: str, *, label: str) -> Patient | None:
        """None when there was no time for every search."""
        self.alone.forget()
        searches = []
        queries = [*self._planned(patient_id), *_broad(patient_id, now=self.case.now)]
        raws: dict[bytes, None] = {}
        for number, (key, how, query) in enumerate(queries, start=1):
            if not self.ends.remaining():
                return None
            planned = number <= len(self.plan)
            search, answer = await self._timed(query, key=key, how=how, planned=planned)
            self.progress(f"  {number}/{len(queries)} {key} ({query.resource_type} {how}) … {_told(search)}")
            searches.append(search)
            if query.resource_type == "Observation":
                raws.update(dict.fromkeys(answer))
        if any(search.outcome != "failed" for search in searches if search.planned):
            facts = await self._facts(patient_id, searches, raws)
            mixed = dict.fromkeys(gap.source for gap in facts.gaps if gap.why == "other-patient")
            hook = await self._as_hook(patient_id, searches)
            return Patient(label, tuple(searches), hook, facts.identity_mismatch, tuple(mixed))
        return Patient(label, tuple(searches))

    def _planned(self, patient_id: str) -> Iterable[tuple[str, str, Query]]:
        for need in self.plan:
            if need.key == PATIENT:
                yield need.key, "by id", Query(need.resource_type, id=patient_id)
                continue
            params = tuple(asking.search(need, patient_id=patient_id, now=self.case.now))
            yield need.key, "by code" if "code" in dict(params) else "all", Query(need.resource_type, params=params)

    async def _timed(self, query: Query, *, key: str, how: str, planned: bool) -> tuple[Search, list[bytes]]:
        case = self.case
        fetched = await self.alone.fetch(
            query, base=case.base, access=self._access(), budget=Budget(Deadline(case.seconds))
        )
        answer = [e.raw for page in fetched.pages for e in page.entries if e.resource_type == query.resource_type]
        ms = self.alone.ms[query]
        return _search(query, fetched, key=key, how=how, planned=planned, ms=ms, own=not planned), answer

    async def _facts(self, patient_id: str, searches: list[Search], broad: Iterable[bytes]) -> Facts:
        """What the service would know, counted; what it had to ask for beside the plan is added to the searches."""
        case = self.case
        asked = set(self.alone.kept)
        gathered = await gather(
            plan=self.plan,
            prefetch=None,
            base=case.base,
            access=self._access(),
            gateway=self.alone,
            patient_id=patient_id,
            now=case.now,
            budget=Budget(Deadline(case.seconds)),
        )
        for query, fetched in self.alone.kept.items():
            if query not in asked:
                key, how = _beside(query)
                searches.append(_search(query, fetched, key=key, how=how, ms=self.alone.ms[query]))
        parts = (*gathered.parts, *self.gone)
        context = Context(now=case.now, zone=case.tenant.zone, overlay=case.tenant.overlay)
        facts = mapping.to_facts(parts, patient_id=patient_id, context=context)
        if facts.identity_mismatch:
            return facts
        raws = [raw for part in parts for raw in part.resources]
        self.coverage.add(facts, raws, now=case.now)
        own = [raw for raw in broad if _is_of(raw, patient_id)]
        self.look_alikes.add_observations(own)
        self.look_alikes.add_medications(facts, raws)
        self.look_alikes.add_conditions(facts, raws)
        self.records.update(records(facts))
        return facts

    async def _as_hook(self, patient_id: str, alone: Iterable[Search]) -> Hook:
        """The plan once more as a hook asks for it: side by side, inside its deadline, with its limits."""
        case = self.case
        self.hook.forget()
        planned = {query: (key, how) for key, how, query in self._planned(patient_id)}
        budget = Budget(Deadline(case.deadline_seconds), reads=case.reads)
        started = time.perf_counter()
        gathered = await gather(
            plan=self.plan,
            prefetch=None,
            base=case.base,
            access=self._access(),
            gateway=self.hook,
            patient_id=patient_id,
            now=case.now,
            budget=budget,
        )
        ms = (time.perf_counter() - started) * 1000
        sent = []
        for query in (*(q for q in planned if q in self.hook.kept), *(q for q in self.hook.kept if q not in planned)):
            key, how = planned.get(query) or _beside(query)
            fetched = self.hook.kept[query]
            sent.append(_search(query, fetched, key=key, how=how, planned=query in planned, ms=self.hook.ms[query]))
        troubled = [search for search in sent if not search.whole]
        late = tuple(dict.fromkeys(search.key for search in troubled if search.why in LATE))
        known = {(search.key, search.how) for search in alone if not search.whole}
        lost = tuple(one for one in troubled if one.why not in LATE and (one.key, one.how) not in known)
        told = [f"too late: {', '.join(late)}"] * bool(late)
        told += [f"{search.key} {_told(search)}" for search in lost]
        self.progress("".join([f"  as one hook … {ms:.0f} ms", *(f", {one}" for one in told)]))
        return Hook(ms, gathered.requests, gathered.received, late, lost)


def _server(base: str, capability: Capability, *, plan: Sequence[Need], now: datetime) -> Server:
    if capability == Capability():
        return Server(base, known=False)
    missing_types = dict.fromkeys(n.resource_type for n in plan if not capability.offers(n.resource_type))
    missing = [
        (need.key, name)
        for need in plan
        if capability.offers(need.resource_type)
        for name, _ in asking.search(need, patient_id="x", now=now)
        if not capability.takes(need.resource_type, name)
    ]
    return Server(
        base=base,
        known=True,
        software=words.name(capability.software),
        fhir_version=words.name(capability.fhir_version),
        missing_types=tuple(missing_types),
        missing_parameters=tuple(dict.fromkeys(missing)),
    )


def _broad(patient_id: str, *, now: datetime) -> Iterable[tuple[str, str, Query]]:
    """What no need asks for: Observations whatever their code, to find codes that nobody has mapped."""
    for key, how, back, more in (
        ("look-alikes", "of any code", _BROAD_BACK, ()),
        ("look-alikes-labs", "of any code", _LABS_BACK, (("category", "laboratory"),)),
    ):
        since = (now - back).strftime("%Y-%m-%d")
        params = (("patient", patient_id), *more, ("date", f"ge{since}"), ("_sort", "-date"), ("_count", _BROAD_PAGE))
        yield key, how, Query("Observation", params=params)


def _beside(query: Query) -> tuple[str, str]:
    """Key and manner of what the service asks for beside the plan, because of what it has read."""
    return (query.resource_type.lower(), "by id") if "_id" in dict(query.params) else ("long-acting", "all")


def _is_silent(patient: Patient) -> bool:
    """Whether nothing that was asked had an answer from a FHIR server."""
    asked = [search for search in patient.searches if search.planned and search.why != "not-offered"]
    return all(search.outcome == "failed" and search.why in _SILENT for search in asked)


def _search(
    query: Query, fetched: Fetched, *, key: str, how: str, ms: float, planned: bool = False, own: bool = False
) -> Search:
    return Search(
        key=key,
        resource_type=query.resource_type,
        how=how,
        planned=planned,
        outcome=fetched.outcome,
        why=fetched.why,
        params=fetched.params,
        results=sum(page.matches for page in fetched.pages),
        pages=len(fetched.pages),
        requests=fetched.requests,
        bytes=fetched.bytes,
        ms=ms,
        unsent=fetched.unsent,
        own=own,
    )


def _told(search: Search) -> str:
    """The end of a line of progress."""
    if search.outcome == "failed":
        status = dict(search.params).get("status")
        return f"failed: {search.why}{f' ({status})' if status else ''}, {search.ms:.0f} ms"
    cut = f", cut off: {search.why}" if search.outcome == "partial" else ""
    left_out = f", without {', '.join(search.unsent)}" if search.unsent else ""
    return f"{_of(search.results, 'result')}, {_of(search.pages, 'page')}, {search.ms:.0f} ms{cut}{left_out}"


def _of(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def _tokens(overlay: Overlay) -> list[str]:
    """`address|code` of the concepts that patients are chosen by; a code that would need escaping is left out."""
    site = [mark.rpartition("|") for mark, (concept, _) in overlay.codes.items() if concept in CHOSEN_BY]
    listed = [(code.system, code.code) for code in codebook.load("observations").of(CHOSEN_BY)]
    pairs = [*((system, code) for system, _, code in site), *listed]
    return [f"{addresses(system)[0]}|{code}" for system, code in pairs if _SPECIAL.isdisjoint(system + code)]


def _ranked(entries: Iterable[sieve.Entry], *, base: str, overlay: Overlay) -> list[str]:
    """Ids of patients: who has most of the concepts first, then whose result is the newest."""
    seen: dict[str, set[str]] = {}
    for entry in entries:
        patient_id = _bare(codes.subject(entry.raw), base=base)
        if patient_id:
            concepts = seen.setdefault(patient_id, set())
            for node in codes.nodes(entry.raw)[1]:
                concepts.update(codes.concept_of(coding, overlay=overlay) for coding in node.code.coding)
    return sorted(seen, key=lambda patient_id: -len(seen[patient_id].intersection(CHOSEN_BY)))


def _bare(reference: str, *, base: str) -> str:
    """The id of `Patient/id`, also below the base; '' for anything else."""
    local = reference.removeprefix(f"{base}/").partition("/_history/")[0]
    head, _, patient_id = local.rpartition("/")
    return patient_id if head == "Patient" and _ID.fullmatch(patient_id) else ""


def _is_of(raw: bytes, patient_id: str) -> bool:
    """False for a result of another patient, or of nobody who is named: not looked at, not even for its code."""
    return codes.subject(raw).partition("/_history/")[0].rpartition("/")[2] == patient_id
