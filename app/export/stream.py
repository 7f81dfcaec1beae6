"""The record as a stream of valid resources, in an order in which each one finds what it refers to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

from fhir.resources.R4B.auditevent import AuditEvent
from fhir.resources.R4B.device import Device
from fhir.resources.R4B.guidanceresponse import GuidanceResponse
from fhir.resources.R4B.provenance import Provenance
from fhir.resources.R4B.requestgroup import RequestGroup
from pydantic import BaseModel, ValidationError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.export import audit, device, group, guidance, provenance, rows
from app.export.elements import Json, unclaimed
from app.export.rows import Accepted, Cursor, Made, Window

MODELS: Final[Mapping[str, type[BaseModel]]] = MappingProxyType(
    {
        "Device": Device,
        "RequestGroup": RequestGroup,
        "GuidanceResponse": GuidanceResponse,
        "AuditEvent": AuditEvent,
        "Provenance": Provenance,
    }
)
"""The kinds that are exported. R4B has these five as R4 has them."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What one row of the record becomes, and up to where everything has been said when it has been taken.

    `unsaid` are kinds that this row has no valid form in: of a row that something else than this service wrote.
    """

    resources: Sequence[Json] = field(repr=False)
    after: Cursor
    unsaid: Sequence[str] = ()
    decision: str = ""


@dataclass(slots=True)
class Stream:
    """One export. `only` leaves out the other kinds; a reference to what was left out stays. `profiles`: whether
    resources say which profiles they are made to."""

    engine: AsyncEngine
    window: Window
    after: Cursor = field(default_factory=Cursor)
    only: Collection[str] = ()
    profiles: bool = True
    _told: set[str] = field(default_factory=set)

    async def total(self) -> int:
        """How many decisions are to come. Raises BadDatabase, BadSchema."""
        return await rows.count(self.engine, self.window, after=self.after)

    async def entries(self) -> AsyncIterator[Entry]:
        """Decisions, then accepted suggestions, then refusals. Raises BadDatabase, BadSchema."""
        async for page in rows.made(self.engine, self.window, after=self.after):
            for made in page:
                self.after = replace(self.after, at=made.created_at, id=made.id)
                yield self._entry(made.id, self._decided(made))
        async for told in rows.accepted(self.engine, self.window, after=self.after.feedback):
            for row in told:
                self.after = replace(self.after, feedback=row.number)
                yield self._entry(row.decision, self._accepted(row))
        async for refused in rows.turned_away(self.engine, self.window, after=self.after.refusal):
            for one in refused:
                self.after = replace(self.after, refusal=one.number)
                yield self._entry("", [*self._service(), audit.refused(one)])

    def _entry(self, decision: str, said: Iterable[Json]) -> Entry:
        valid, unsaid = [], []
        for one in said:
            kind = one["resourceType"]
            if self.only and kind not in self.only:
                continue
            if is_valid(one):
                valid.append(one if self.profiles else unclaimed(one))
            else:
                unsaid.append(kind)
        return Entry(valid, self.after, unsaid, decision)

    def _decided(self, made: Made) -> Iterable[Json]:
        yield from self._service()
        yield from self._version(made.versions, made.knowledge_hash)
        cards = group.shown(made)
        if cards is not None:
            yield cards
        yield guidance.response(made)
        yield from audit.read(made)
        yield audit.decided(made)

    def _accepted(self, row: Accepted) -> Iterable[Json]:
        yield from self._service()
        yield from self._version(row.versions, row.knowledge_hash)
        yield provenance.told(row)

    def _service(self) -> Iterable[Json]:
        return self._once(device.SERVICE_ID, device.service)

    def _version(self, versions: Mapping[str, str], knowledge_hash: str) -> Iterable[Json]:
        id_ = device.version_id(versions, knowledge_hash=knowledge_hash)
        return self._once(id_, lambda: device.version(versions, knowledge_hash=knowledge_hash))

    def _once(self, id_: str, said: Callable[[], Json]) -> Iterable[Json]:
        if id_ not in self._told:
            self._told.add(id_)
            yield said()


def is_valid(resource: Mapping[str, Any]) -> bool:
    """Whether this is what FHIR means by a resource of its kind."""
    try:
        MODELS[resource["resourceType"]].model_validate(resource)
    except ValidationError:
        return False
    return True
