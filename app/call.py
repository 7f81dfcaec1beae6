"""One hook call on its way through the service: what was asked, and what has come of it so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from app.gateway.access import Access
from app.gateway.budget import Budget
from app.kept import Asked
from app.settings import Caller
from app.switches import Switches
from cds_hooks.request import HookRequest
from cds_hooks.response import Card
from fhir_mappings.facts import Facts, Source

Way = Literal[
    "", "patient-user", "disabled", "not-evaluated", "other-patient", "scope-first", "unconcerned", "assessed"
]
"""How an answer came about.

`other-patient`: of the drafts, which were not kept; where the facts say it themselves, they were `assessed`.
`unconcerned`: no check looks at any of the drafts.
"""


@dataclass(slots=True)
class Call:
    """One request on its way; filled as it goes.

    `speaks` are the protocols whose cards these are (`app.settings` can silence them by these names). `kind` is what
    the cards are, for snoozing, and `state` a hash of what they rest on; '' where there is nothing to be repeated.
    `way` says which way it took, and `lost` what could not be read of a call that was not evaluated. `queries` are what
    the FHIR server was asked, as `Budget.asked`.
    """

    id: UUID
    started: float
    now: datetime
    caller: Caller
    service: str
    request: HookRequest
    switches: Switches
    outcome: str = ""
    would_be: str = ""
    cards: tuple[Card, ...] = ()
    speaks: frozenset[str] = frozenset()
    kind: str = ""
    state: str = ""
    gaps: list[dict[str, str]] = field(default_factory=list)
    facts: Facts | None = None
    asked: Asked = field(default_factory=Asked, repr=False)
    queries: Sequence[str] = field(default=(), repr=False)
    way: Way = ""
    lost: tuple[Source, ...] = ()
    flags: tuple[str, ...] = ()
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
