"""Collect a patient's resources for one decision: what the client sent first, the FHIR server for the rest.

Every need of the plan ends as one `facts.Source`: ok, empty, partial or failed, with a reason and the instant back to
which the answer is complete. Nothing found is only ever "empty" when somebody really looked (knowledge: cds-hooks 1f;
reading 3.13).

Reasons (`Source.why`) beside those of `gateway.errors` and `gateway.fhir.Fetched`:

| why | when |
|---|---|
| `prefetch-null` | the client sent null, and there is no server to ask |
| `no-fhir-server`, or what the caller named | the client did not send it, and there is no server to ask |
| `prefetch-outcome` | the client sent a failing OperationOutcome |
| `prefetch-unreadable` | what the client sent is no FHIR JSON |
| `wrong-type` | resources of another type than asked for |
| `more-pages`, `fewer-than-total`, `results-dropped`, `operation-outcome` | partial |
| `by-reference` | asked for by code, but this server's medications are references, which such a search does not see |
| `patient-id` | the patient's id is no FHIR id, so nothing can be asked |
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec

from app import plan as asking
from app.gateway.access import Access
from app.gateway.budget import Budget
from app.gateway.fhir import Fetched, Gateway, Query
from app.plan import Need
from cds_hooks import prefetch as sent
from fhir_mappings import sieve
from fhir_mappings.errors import BadDate, Unreadable
from fhir_mappings.facts import Source
from fhir_mappings.mapping import Part
from fhir_mappings.times import parse

MEDICATIONS: Final = "medications"
"""Source key of the Medication resources that orders, administrations and statements refer to."""

_MEDICATION: Final = "Medication"
_SPECIMEN: Final = "Specimen"
_OBSERVATION: Final = "Observation"
_RESPIRATORY: Final = "respiratory"
"""The need that holds the blood gases, whose specimen decides whether they count."""

_GAS_CODES: Final = (b'"2703-7"', b'"11556-8"')
_MEDICATION_USERS: Final = frozenset({"MedicationRequest", "MedicationAdministration", "MedicationStatement"})
_IDS_PER_READ: Final = 50
_PATIENT_ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_MEDICATION_REFERENCE: Final = re.compile(r"Medication/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]+)?")
_SPECIMEN_REFERENCE: Final = re.compile(r"Specimen/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]+)?")
_HAS_OFFSET: Final = re.compile(r".*T.*(?:Z|[+-]\d\d:\d\d)")


class BundleError(ValueError):
    """A Bundle that cannot be evaluated. The message names what to do and holds no patient data."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """What could be collected. `looked` is False when nothing at all could: no usable prefetch, no read that worked.

    `ms` is the wall time of each source that was read, in milliseconds; `requests` counts HTTP requests, `received` the
    bytes of their answers.
    """

    parts: tuple[Part, ...] = field(repr=False)
    looked: bool
    requests: int = 0
    received: int = 0
    ms: Mapping[str, float] = field(default_factory=dict)
    _answers: Mapping[str, _Answer] = field(default_factory=dict, repr=False)

    def answered(self, key: str) -> bool:
        """True when this need was read to its end."""
        answer = self._answers.get(key)
        return answer is not None and answer.source.outcome in {"ok", "empty"}

    def came(self, key: str) -> bool:
        """True when somebody looked, even if in part."""
        return self._answers[key].usable

    def refers(self, key: str) -> bool:
        """Whether anything of this need names its medication by a reference, which a search by code does not see."""
        return any(map(_referred, self._answers[key].resources))

    def without(self, key: str) -> Gathered:
        """The same, as if this need had never been asked."""
        return replace(self, _answers={name: answer for name, answer in self._answers.items() if name != key})


@dataclass(frozen=True, slots=True)
class _Answer:
    """One need as answered so far. `resources` are of the need's type, `medications` and `specimens` came along.

    `read` is True for an answer of the server, `usable` when somebody looked, even if in part.
    """

    source: Source
    resources: tuple[bytes, ...] = field(default=(), repr=False)
    full_urls: tuple[str, ...] = field(default=(), repr=False)
    medications: tuple[sieve.Entry, ...] = field(default=(), repr=False)
    specimens: tuple[sieve.Entry, ...] = field(default=(), repr=False)
    usable: bool = True
    ms: float | None = None


def given(need: Need, prefetch: Mapping[str, bytes] | None, *, now: datetime) -> bool:
    """Whether the client sent a complete answer to this need."""
    answer = _from_client(need, (prefetch or {}).get(need.key), now=now, no_base="no-fhir-server")
    return answer.source.outcome in {"ok", "empty"}


def at_site(plan: Sequence[Need], *, absent: frozenset[str]) -> tuple[tuple[Need, ...], tuple[Part, ...]]:
    """The needs whose resource type this site's server has, and a part for each of the others that says so."""
    gone = tuple(
        Part(Source(need.key, need.resource_type, "failed", "absent-at-site"))
        for need in plan
        if need.resource_type in absent
    )
    return tuple(need for need in plan if need.resource_type not in absent), gone


async def gather(
    *,
    plan: Sequence[Need],
    prefetch: Mapping[str, bytes] | None,
    base: str | None,
    access: Access,
    gateway: Gateway,
    patient_id: str,
    now: datetime,
    budget: Budget,
    no_base: str = "no-fhir-server",
    known: Gathered | None = None,
    trusting: bool = False,
) -> Gathered:
    """Answer every need of the plan. Never raises for what a client or a server sent.

    What `known` has asked, with whatever success, is not asked again. `trusting`: what was asked for by code is not
    looked for behind references.

    `prefetch` holds raw JSON values. `base` is a configured FHIR base or None; then `no_base` is the reason that a
    source which the client did not send gives. `patient_id` is bare. Reads run side by side; whatever is not there
    at the deadline counts as `timeout`, and what came until then is kept.
    """
    now = now.astimezone(UTC)  # hours counted on a wall clock are wrong on two days a year
    if base is not None and not _PATIENT_ID.fullmatch(patient_id):
        base, no_base = None, "patient-id"
    reader = (
        None
        if base is None
        else _Reader(gateway, base=base, access=access, budget=budget, patient_id=patient_id, now=now)
    )
    values = prefetch or {}
    tasks: dict[str, asyncio.Future[_Answer]] = {}
    async with asyncio.TaskGroup() as group:
        for need in plan:
            if known is not None and need.key in known._answers:
                tasks[need.key] = _done(known._answers[need.key])
                continue
            given = _from_client(need, values.get(need.key), now=now, no_base=no_base)
            if reader is None or given.source.outcome in {"ok", "empty"}:
                tasks[need.key] = _done(given)
            else:
                tasks[need.key] = group.create_task(_better(need, given, reader))
        users = [need for need in plan if need.resource_type in _MEDICATION_USERS]
        for need in users:
            if "code" in dict(need.params) and not trusting:
                others = {other: tasks[other.key] for other in users if other is not need}
                tasks[need.key] = group.create_task(_uncoded(need, tasks[need.key], others, reader, now=now))
        if reader is not None and _RESPIRATORY in tasks:
            with_specimens = _with_specimens(tasks[_RESPIRATORY], reader)
            tasks[_RESPIRATORY] = group.create_task(with_specimens)
        had = () if known is None else known._answers[MEDICATIONS].medications
        using = [tasks[need.key] for need in users]
        medications = group.create_task(_medications(using, reader, had=had, no_base=no_base))
    answers = {key: task.result() for key, task in tasks.items()}
    answers[MEDICATIONS] = medications.result()
    return Gathered(
        parts=tuple(_part(answer) for answer in answers.values()),
        looked=any(answer.usable for key, answer in answers.items() if key != MEDICATIONS),
        requests=budget.requests,
        received=budget.bytes,
        ms={key: answer.ms for key, answer in answers.items() if answer.ms is not None},
        _answers=answers,
    )


def _part(answer: _Answer) -> Part:
    specimens = answer.specimens
    return Part(
        answer.source,
        (*answer.resources, *(entry.raw for entry in specimens)),
        (*answer.full_urls, *_full_urls(specimens)),
    )


@dataclass(frozen=True, slots=True)
class _Reader:
    """The server to ask, for one patient."""

    gateway: Gateway
    base: str
    access: Access = field(repr=False)
    budget: Budget = field(repr=False)
    patient_id: str = field(repr=False)
    now: datetime

    async def fetch(self, query: Query) -> Fetched:
        return await self.gateway.fetch(query, base=self.base, access=self.access, budget=self.budget)

    async def read(self, need: Need) -> _Answer:
        if need.key == asking.PATIENT:
            query = Query(need.resource_type, id=self.patient_id)
        else:
            params = asking.search(need, patient_id=self.patient_id, now=self.now)
            query = Query(need.resource_type, params=tuple(params), pages=need.pages)
        started = time.perf_counter()
        fetched = await self.fetch(query)
        answer = _from_server(need, fetched, now=self.now)
        return replace(answer, ms=(time.perf_counter() - started) * 1000)


def _done(answer: _Answer) -> asyncio.Future[_Answer]:
    """An answer that is there, for those who wait for answers: a task costs many times more."""
    future: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
    future.set_result(answer)
    return future


async def _better(need: Need, given: _Answer, reader: _Reader) -> _Answer:
    """The server's answer if it is better than what the client sent."""
    read = await reader.read(need)
    if read.source.outcome == "failed" and given.source.outcome == "partial":
        return replace(given, ms=read.ms)
    return read


def _from_client(need: Need, value: bytes | None, *, now: datetime, no_base: str) -> _Answer:
    if value is None:
        return _failed(need, why=no_base)
    inner = sent.unwrap(value)
    if inner is None:
        return _failed(need, why="prefetch-null")
    try:
        page = sieve.page(inner)
    except Unreadable:
        return _failed(need, why="prefetch-unreadable")
    if not page.resource_type:
        return _failed(need, why="prefetch-null")
    if page.resource_type == "OperationOutcome" or (page.failed and not page.entries):
        return _failed(need, why="prefetch-outcome")
    answer = _of_pages(need, (page,), now=now, reaches=None)
    since = _since(need, now=now)
    if answer.source.outcome == "partial" and since is not None and answer.source.covers(since):
        # Cut off, but newest first and past the look-back: nothing that matters is missing.
        return replace(answer, source=replace(answer.source, outcome="ok", why=""))
    return answer


def _from_server(need: Need, fetched: Fetched, *, now: datetime) -> _Answer:
    if fetched.outcome == "failed":
        source = Source(need.key, need.resource_type, "failed", fetched.why, None, fetched.params, fetched.unsent)
        return _Answer(source, usable=False)
    if "_sort" in fetched.unsent:  # an order that was not asked for shows nothing, even where it looks as if it did
        need = replace(need, sort="")
    answer = _of_pages(need, fetched.pages, now=now, reaches=_since(need, now=now))
    if fetched.outcome == "partial" and answer.source.outcome != "failed":
        source = replace(answer.source, outcome="partial", why=fetched.why, params=fetched.params)
        answer = replace(answer, source=replace(source, reaches=_reaches(need, answer.resources, now=now)))
    return replace(answer, source=replace(answer.source, unsent=fetched.unsent)) if fetched.unsent else answer


def _since(need: Need, *, now: datetime) -> datetime | None:
    """How far back the need looks; None for everything."""
    return None if need.lookback is None else now - need.lookback


def _of_pages(need: Need, pages: Sequence[sieve.Page], *, now: datetime, reaches: datetime | None) -> _Answer:
    """The answer that these pages are. `reaches` is what a complete answer is complete back to."""
    entries: list[sieve.Entry] = []
    medications: list[sieve.Entry] = []
    specimens: list[sieve.Entry] = []
    foreign = False
    for page in pages:
        for entry in page.entries:
            if entry.resource_type == need.resource_type:
                entries.append(entry)
            elif entry.resource_type == _MEDICATION:
                medications.append(entry)
            elif entry.resource_type == _SPECIMEN:
                specimens.append(entry)
            elif entry.mode not in {"include", "outcome"} and entry.resource_type != "OperationOutcome":
                foreign = True
    if foreign and not entries:
        return _failed(need, why="wrong-type")
    resources = tuple(entry.raw for entry in entries)
    why = "wrong-type" if foreign else _incomplete(pages, matches=len(resources))
    outcome: Literal["ok", "empty", "partial"] = "partial" if why else "ok" if resources else "empty"
    if why:
        reaches = _reaches(need, resources, now=now)
    source = Source(need.key, need.resource_type, outcome, why, reaches)
    return _Answer(source, resources, _full_urls(entries), tuple(medications), tuple(specimens))


def _full_urls(entries: Iterable[sieve.Entry]) -> tuple[str, ...]:
    return tuple(entry.full_url for entry in entries)


def _incomplete(pages: Sequence[sieve.Page], *, matches: int) -> str:
    """Why these pages are not everything, or ''."""
    first, last = pages[0], pages[-1]
    if any(page.failed for page in pages):
        return "operation-outcome"
    if any(page.results_dropped for page in pages):
        return "results-dropped"
    if last.next is not None:
        return "more-pages"
    if first.total is not None and first.total > matches:
        return "fewer-than-total"
    return ""


def _failed(need: Need, *, why: str) -> _Answer:
    return _Answer(Source(need.key, need.resource_type, "failed", why), usable=False)


# --- how far back a cut-off answer is complete ------------------------------------------------------------


class _Period(msgspec.Struct, gc=False):
    start: str | None = None
    end: str | None = None


class _Dated(msgspec.Struct, rename="camel", gc=False):
    """The dates that the plan sorts by."""

    effective_date_time: str | None = None
    effective_instant: str | None = None
    effective_period: _Period | None = None
    authored_on: str | None = None
    performed_date_time: str | None = None
    performed_period: _Period | None = None
    occurrence_date_time: str | None = None


_DATED: Final = msgspec.json.Decoder(_Dated)


def _reaches(need: Need, resources: Sequence[bytes], *, now: datetime) -> datetime:
    """The time of the oldest entry if we asked for newest first and that is how they came, else now.

    One entry alone shows no order.
    """
    if not need.sort or len(resources) < 2:
        return now
    previous: datetime | None = None
    for raw in resources:
        moment = _moment(raw)
        if moment is None or (previous is not None and moment > previous):
            return now
        previous = moment
    return now if previous is None else min(previous, now)


def _moment(raw: bytes) -> datetime | None:
    """The instant a resource is sorted by; None when it has none that is exact, whatever the zone."""
    try:
        dated = _DATED.decode(raw)
    except msgspec.DecodeError:
        return None
    period = dated.effective_period or dated.performed_period or _Period()
    single = dated.effective_date_time or dated.effective_instant or dated.authored_on
    text = single or dated.performed_date_time or dated.occurrence_date_time or period.end
    if text is None or not _HAS_OFFSET.fullmatch(text):
        return None
    try:
        return parse(text, zone=UTC).earliest
    except BadDate:
        return None


# --- medications that are references ----------------------------------------------------------------------


class _Reference(msgspec.Struct, gc=False):
    reference: str | None = None


class _Use(msgspec.Struct, rename="camel", gc=False):
    medication_reference: _Reference | None = None


_USE: Final = msgspec.json.Decoder(_Use)


def _referred(raw: bytes) -> str | None:
    """What a medication use refers to, as written: `Medication/x`, `#contained`, an address; None if nothing."""
    if b'"medicationReference"' not in raw:
        return None
    try:
        use = _USE.decode(raw)
    except msgspec.DecodeError:
        return None
    return use.medication_reference.reference if use.medication_reference else None


async def _uncoded(
    need: Need,
    coded: asyncio.Future[_Answer],
    others: Mapping[Need, asyncio.Future[_Answer]],
    reader: _Reader | None,
    *,
    now: datetime,
) -> _Answer:
    """The drugs that were asked for by code; among all, where this server refers to Medication resources.

    FHIR's `code` parameter looks at inline concepts only: a complete answer to it says nothing about the others. Only
    what else there is of this type shows how the server writes it; where nothing is there, nothing shows it.
    """
    answer = await coded
    if answer.source.outcome == "failed" or "code" in answer.source.unsent:
        return answer
    seen = {other: await task for other, task in others.items()}
    same = [found for other, found in seen.items() if other.resource_type == need.resource_type]
    if any(found.source.outcome == "empty" and found.source.covers(_since(need, now=now)) for found in same):
        return answer  # there is nothing at all
    alike = [raw for found in same for raw in found.resources]
    refers = any(map(_referred, alike or [raw for found in seen.values() for raw in found.resources]))
    if not refers and (alike or reader is None):
        return answer
    if reader is not None:
        whole = await reader.read(asking.without_codes(need))
        if whole.source.outcome != "failed":
            return whole
        if not refers:  # it could not be looked whether any refers: what was found counts, what was not does not
            lost = whole.source
            return replace(
                answer, source=replace(answer.source, outcome="partial", why=lost.why, params=lost.params, reaches=now)
            )
    return replace(answer, source=replace(answer.source, outcome="partial", why="by-reference", reaches=now))


async def _medications(
    users: Iterable[asyncio.Future[_Answer]], reader: _Reader | None, *, had: Sequence[sieve.Entry], no_base: str
) -> _Answer:
    """The Medication resources that are there or came along, and those that were only referred to."""
    answers = [await task for task in users]
    found = [*had, *(entry for answer in answers for entry in answer.medications)]
    wanted: dict[str, None] = {}
    for answer in answers:
        for raw in answer.resources:
            # An address elsewhere is another server's medication, which may bear the same id.
            written = (_referred(raw) or "").removeprefix(f"{reader.base}/" if reader else "")
            match = _MEDICATION_REFERENCE.fullmatch(written)
            if match:
                wanted[match.group(1)] = None
    missing = sorted(wanted.keys() - {entry.id for entry in found})
    if not missing:
        return _found(Source(MEDICATIONS, _MEDICATION, "ok" if found else "empty"), found)
    if reader is None:
        return _found(Source(MEDICATIONS, _MEDICATION, "partial" if found else "failed", no_base), found)
    started = time.perf_counter()
    chunks = [missing[start : start + _IDS_PER_READ] for start in range(0, len(missing), _IDS_PER_READ)]
    fetched = await asyncio.gather(*(_read_by_id(_MEDICATION, chunk, reader) for chunk in chunks))
    pages = [page for chunk in fetched for page in chunk.pages]
    found += [entry for page in pages for entry in page.entries if entry.resource_type == _MEDICATION]
    trouble = next((chunk for chunk in fetched if chunk.outcome in {"failed", "partial"}), None)
    if trouble is not None:
        outcome: Literal["ok", "partial", "failed"] = "partial" if found else "failed"
        source = Source(MEDICATIONS, _MEDICATION, outcome, trouble.why, None, trouble.params)
    elif set(missing) <= {entry.id for entry in found}:
        source = Source(MEDICATIONS, _MEDICATION, "ok")
    else:
        source = Source(MEDICATIONS, _MEDICATION, "partial", "not-found")
    ms = (time.perf_counter() - started) * 1000
    return replace(_found(source, found), ms=ms)


def _found(source: Source, entries: Sequence[sieve.Entry]) -> _Answer:
    return _Answer(source, tuple(entry.raw for entry in entries), _full_urls(entries), medications=tuple(entries))


async def _read_by_id(resource_type: str, ids: Sequence[str], reader: _Reader) -> Fetched:
    query = Query(resource_type, params=(("_id", ",".join(ids)), ("_count", str(len(ids)))))
    return await reader.fetch(query)


async def named_medications(
    references: Sequence[str],
    *,
    prefetch: Mapping[str, bytes] | None,
    base: str | None,
    access: Access,
    gateway: Gateway,
    budget: Budget,
) -> dict[str, bytes]:
    """Medications by what orders call them: from what the client sent along, else from the server. What is not found
    is left out; nothing is raised for what a client or a server sent."""
    found: dict[str, bytes] = {}
    for value in (prefetch or {}).values():
        for entry in _sent_along(value):
            found.update({name: entry.raw for name in (f"{_MEDICATION}/{entry.id}", entry.full_url) if name})
    ids: dict[str, None] = {}
    for reference in references:
        match = _MEDICATION_REFERENCE.fullmatch(reference.removeprefix(f"{base}/"))
        if match and f"{_MEDICATION}/{match.group(1)}" not in found:
            ids[match.group(1)] = None
    if base is not None and ids:
        query = Query(_MEDICATION, params=(("_id", ",".join(ids)), ("_count", str(len(ids)))))
        fetched = await gateway.fetch(query, base=base, access=access, budget=budget)
        read = [entry for page in fetched.pages for entry in page.entries if entry.resource_type == _MEDICATION]
        found.update({f"{_MEDICATION}/{entry.id}": entry.raw for entry in read})
    for reference in references:  # an absolute reference to this very server
        inner = reference.removeprefix(f"{base}/") if base else reference
        if inner in found:
            found.setdefault(reference, found[inner])
    return found


def _sent_along(value: bytes) -> list[sieve.Entry]:
    inner = sent.unwrap(value)
    if inner is None or b'"Medication"' not in inner:
        return []
    try:
        page = sieve.page(inner)
    except Unreadable:
        return []
    return [entry for entry in page.entries if entry.resource_type == _MEDICATION]


# --- specimens of blood gases -----------------------------------------------------------------------------


class _Gas(msgspec.Struct, gc=False):
    specimen: _Reference | None = None


_GAS: Final = msgspec.json.Decoder(_Gas)


def _specimen_of(raw: bytes) -> str:
    """What a blood gas refers to as its specimen, as written; '' for other Observations."""
    if b'"specimen"' not in raw or not any(code in raw for code in _GAS_CODES):
        return ""
    try:
        gas = _GAS.decode(raw)
    except msgspec.DecodeError:
        return ""
    return (gas.specimen.reference or "") if gas.specimen else ""


async def _with_specimens(answered: asyncio.Future[_Answer], reader: _Reader) -> _Answer:
    """The answer with the Specimens that its blood gases only refer to (reading 3.5).

    What cannot be read stays a reference; the mapping says so beside the gas, and nothing else depends on it.
    """
    answer = await answered
    wanted: dict[str, None] = {}
    for raw in answer.resources:
        match = _SPECIMEN_REFERENCE.fullmatch(_specimen_of(raw).removeprefix(f"{reader.base}/"))
        if match:
            wanted[match.group(1)] = None
    missing = sorted(wanted.keys() - {entry.id for entry in answer.specimens})
    if not missing:
        return answer
    chunks = [missing[start : start + _IDS_PER_READ] for start in range(0, len(missing), _IDS_PER_READ)]
    fetched = await asyncio.gather(*(_read_by_id(_SPECIMEN, chunk, reader) for chunk in chunks))
    read = [
        entry for chunk in fetched for page in chunk.pages for entry in page.entries if entry.resource_type == _SPECIMEN
    ]
    return replace(answer, specimens=(*answer.specimens, *read))


# --- a Bundle from a file ---------------------------------------------------------------------------------


class _Holder(msgspec.Struct, gc=False):
    """`subject` or `patient`; raw, because a wrong type here is the mapping's to report."""

    subject: msgspec.Raw = msgspec.Raw(b"null")
    patient: msgspec.Raw = msgspec.Raw(b"null")


_HOLDER: Final = msgspec.json.Decoder(_Holder)
_REFERENCE: Final = msgspec.json.Decoder(_Reference | None)


def from_bundle(raw: bytes, *, plan: Sequence[Need], now: datetime, patient_id: str | None = None) -> tuple[Part, ...]:
    """The parts that a Bundle of any type and order holds; what is there is complete (reading 3.13).

    With `patient_id`, resources that belong to another Patient of the same Bundle are left out. Each resource goes to
    the first need of its type (a Specimen to the first of Observations), and every need of that type has it as its
    source. A failing outcome fails every resource type that the Bundle has no entry of. Raises BundleError.
    """
    pages, entries = _opened(raw)
    if patient_id is not None:
        names = _names(entries)
        others = set(names.values()) - {patient_id}
        entries = [entry for entry in entries if _owner(entry, names) not in others]
    held: dict[str, list[sieve.Entry]] = {}
    for entry in entries:
        held.setdefault(entry.resource_type, []).append(entry)
    fails = any(page.failed for page in pages)
    cut = next((why for page in pages if (why := _cut(page))), "")
    parts: list[Part] = []
    placed: set[str] = set()
    for need in plan:
        mine = held.get(need.resource_type, [])
        if fails and not mine:
            source = Source(need.key, need.resource_type, "failed", "operation-outcome")
        elif cut:
            source = Source(need.key, need.resource_type, "partial", cut, now)
        else:
            source = Source(need.key, need.resource_type, "ok" if mine else "empty")
        shown = [] if need.resource_type in placed else mine
        if shown and need.resource_type == _OBSERVATION:
            shown = [*shown, *held.get(_SPECIMEN, [])]
        placed.add(need.resource_type)
        parts.append(Part(source, tuple(entry.raw for entry in shown), _full_urls(shown)))
    answer = _found(
        Source(MEDICATIONS, _MEDICATION, "ok" if _MEDICATION in held else "empty"), held.get(_MEDICATION, [])
    )
    return (*parts, Part(answer.source, answer.resources, answer.full_urls))


def subject_of(raw: bytes, *, chosen: str | None = None) -> str:
    """The bare id of the patient to evaluate: the Bundle's Patient, or the one subject its entries share (reading 6).

    `chosen` picks one of several; `Patient/x` and `x` are the same. Raises BundleError.
    """
    _, entries = _opened(raw)
    names = _names(entries)
    patients = dict.fromkeys(names.values())
    subjects = patients or dict.fromkeys(owner for entry in entries if (owner := _owner(entry, names)))
    if "" in subjects:
        raise BundleError("a Patient of the Bundle has neither an id nor a fullUrl: nothing can be told to be theirs")
    if chosen is not None:
        wanted = chosen.removeprefix("Patient/")
        if wanted not in subjects:
            raise BundleError("the Bundle has no patient with the id that --patient names")
        return wanted
    if len(subjects) == 1:
        return next(iter(subjects))
    if not subjects:
        raise BundleError("the Bundle has no Patient and no resource with a subject")
    if patients:
        raise BundleError(f"the Bundle has {len(patients)} Patients: name one with --patient ID")
    raise BundleError(f"the Bundle has no Patient, and its resources have {len(subjects)} different subjects")


def _cut(page: sieve.Page) -> str:
    """Why a page of the file is not everything. A failing outcome beside entries is no cut (reading 3.13)."""
    if page.results_dropped:
        return "results-dropped"
    if page.next is not None:
        return "more-pages"
    if page.total is not None and page.total > page.matches:
        return "fewer-than-total"
    return ""


def _opened(raw: bytes) -> tuple[list[sieve.Page], list[sieve.Entry]]:
    """The Bundle with the Bundles inside it (answers of a batch), and all their resources."""
    pages: list[sieve.Page] = []
    entries: list[sieve.Entry] = []
    waiting = [raw]
    while waiting:
        try:
            page = sieve.page(waiting.pop())
        except Unreadable:
            raise BundleError("not the JSON of a FHIR Bundle") from None
        if not pages and page.resource_type != "Bundle":
            raise BundleError("not a FHIR Bundle: give a collection, searchset or transaction Bundle")
        pages.append(page)
        waiting += [entry.raw for entry in page.entries if entry.resource_type == "Bundle"]
        entries += [entry for entry in page.entries if entry.resource_type != "Bundle"]
    return pages, entries


def _names(entries: Iterable[sieve.Entry]) -> dict[str, str]:
    """The ids of the Patients by what entries may call them: `Patient/x` and their `fullUrl`."""
    names: dict[str, str] = {}
    for entry in entries:
        if entry.resource_type == "Patient":
            # A transaction may leave the id to the server; its entries then refer to each other by `urn:uuid:`.
            name = entry.id or entry.full_url.rpartition("/")[2].rpartition(":")[2]
            names[f"Patient/{name}"] = name
            if entry.full_url:
                names[entry.full_url] = name
    return names


def _owner(entry: sieve.Entry, names: Mapping[str, str]) -> str:
    """The bare id of the patient an entry belongs to, '' where it does not say so by reference."""
    if entry.resource_type == "Patient":
        return names.get(entry.full_url) or entry.id
    try:
        holder = _HOLDER.decode(entry.raw)
        held = holder.patient if bytes(holder.subject) == b"null" else holder.subject
        reference = (_REFERENCE.decode(held) or _Reference()).reference or ""
    except msgspec.DecodeError:
        return ""
    if reference in names:
        return names[reference]
    head, _, name = reference.partition("/_history/")[0].rpartition("/")
    if head == "Patient" or head.endswith("/Patient"):
        return name
    return reference.removeprefix("urn:uuid:") if reference.startswith("urn:uuid:") else ""
