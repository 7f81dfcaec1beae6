"""One hook call on its way through the service: what was asked, and what has come of it so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from app.gateway.access import Access
from app.gateway.budget import Budget
from app.settings import Caller
from cds_hooks.request import HookRequest
from cds_hooks.response import Card
from fhir_mappings.facts import Facts


@dataclass(slots=True)
class Call:
    """One request on its way; filled as it goes.

    `speaks` are the protocols whose cards these are (`app.settings` can silence them by these names). `kind` is what
    the cards are, for snoozing, and `state` a hash of what they rest on; '' where there is nothing to be repeated.
    """

    id: UUID
    started: float
    now: datetime
    caller: Caller
    service: str
    request: HookRequest
    outcome: str = ""
    would_be: str = ""
    cards: tuple[Card, ...] = ()
    speaks: frozenset[str] = frozenset()
    kind: str = ""
    state: str = ""
    gaps: list[dict[str, str]] = field(default_factory=list)
    facts: Facts | None = None
    verdicts: dict[str, Any] = field(default_factory=dict)
    evidence: list[dict[str, str]] = field(default_factory=list)
    reading: dict[str, Any] = field(default_factory=dict)
    timing: dict[str, Any] = field(default_factory=dict)

    @property
    def patient_id(self) -> str:
        """Without its type."""
        return self.request.context.patient_id


@dataclass(frozen=True, slots=True)
class Reach:
    """The FHIR server of a call, if any (else why not), the tokens for it, and what may be spent on it."""

    base: str | None
    no_base: str
    access: Access = field(repr=False)
    budget: Budget
