"""What lies ahead of an assessment: what would change its verdicts, and until when they hold with no newer data."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from app.clinical import changes, lasting
from app.clinical.assessment import Assessment
from app.clinical.changes import Flip
from app.clinical.lasting import Mapped
from fhir_mappings.context import Context
from fhir_mappings.facts import Facts


@dataclass(frozen=True, slots=True)
class Outlook:
    """By protocol id, of the protocols that were looked at. `until` None: for ever."""

    changes: Mapping[str, tuple[Flip, ...]] = field(default_factory=dict)
    until: Mapping[str, datetime | None] = field(default_factory=dict)

    def of(self, protocols: Collection[str]) -> Outlook:
        """Only these protocols."""
        return Outlook(
            {id_: flips for id_, flips in self.changes.items() if id_ in protocols},
            {id_: until for id_, until in self.until.items() if id_ in protocols},
        )

    def earliest(self, *protocols: str) -> datetime | None:
        """Until when all of these hold."""
        return min((moment for id_ in protocols if (moment := self.until.get(id_)) is not None), default=None)


UNSEEN = Outlook()
"""Of an assessment that nobody acts on."""


def look_ahead(
    found: Assessment,
    *,
    facts: Facts,
    context: Context,
    again: Callable[[Context], Facts],
    suggest_on: str,
    protocols: Collection[str] | None = None,
) -> Outlook:
    """The outlook of these protocols (None: all).

    `context` is the one that `facts` were mapped in; `again` maps the same records in the context of a later moment.
    """

    def facts_at(moment: datetime) -> Mapped:
        later = replace(context, now=moment, turns=set())
        return Mapped(again(later), later.turns)

    return Outlook(
        changes=flips(found, protocols=protocols),
        until=lasting.until(
            Mapped(facts, frozenset(context.turns)),
            facts_at=facts_at,
            knowledge=found.knowledge,
            now=found.now,
            protocols=protocols,
            suggest_on=suggest_on,
            silenced=found.silenced,
        ),
    )


def flips(found: Assessment, *, protocols: Collection[str] | None = None) -> dict[str, tuple[Flip, ...]]:
    """What would change the verdicts of these protocols (None: all)."""
    return {
        p.protocol.id: changes.flips(p, readings=found.readings, knowledge=found.knowledge)
        for p in found.protocols
        if protocols is None or p.protocol.id in protocols
    }
