"""What an examination found: of the server, of each search, of what a hook would have had time for, of the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from app.doctor.coverage import Found, Input, Refused
from app.doctor.lookalikes import LookAlike
from app.gateway.capability import Parameters
from app.plan import Need
from fhir_mappings.facts import Overlay

Status = Literal["ready", "gaps", "unreachable"]
Outcome = Literal["ok", "empty", "partial", "failed"]
Looked = Literal["yes", "part", "no"]

EXIT: Mapping[Status, int] = {"ready": 0, "gaps": 1, "unreachable": 3}
"""2 is for a command line that cannot be used."""


@dataclass(frozen=True, slots=True)
class Server:
    """What the capability statement says. `known` is False when none could be read.

    `missing_types` are resource types of the plan that it does not list, `missing_parameters` what a search of the plan
    has and it does not declare, as (need, parameter). `software` and `fhir_version` can be shown.
    """

    base: str
    known: bool
    software: str = ""
    fhir_version: str = ""
    missing_types: tuple[str, ...] = ()
    missing_parameters: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Search:
    """One search. `key` is the need's, or what was asked for beside the plan (`planned` False).

    `own`: doctor's alone, which the service never sends, so that nothing depends on how it ends.
    """

    key: str
    resource_type: str
    how: str
    planned: bool
    outcome: Outcome
    why: str = ""
    params: Parameters = ()
    results: int = 0
    pages: int = 0
    requests: int = 0
    bytes: int = 0
    ms: float = 0.0
    unsent: tuple[str, ...] = ()
    own: bool = False

    @property
    def whole(self) -> bool:
        """Whether it worked to its end."""
        return self.outcome in {"ok", "empty"}


@dataclass(frozen=True, slots=True)
class Hook:
    """The whole plan as a hook asks for it: side by side, inside its deadline.

    `late`: needs that came too late. `lost`: searches that failed for another reason, although they worked alone.
    """

    ms: float
    requests: int
    bytes: int
    late: tuple[str, ...] = ()
    lost: tuple[Search, ...] = ()


@dataclass(frozen=True, slots=True)
class Patient:
    """One examined patient. `label` is the id that the caller gave, else a number.

    `other_patient`: the server answered with another one, so nothing was read. `mixed`: needs whose answers hold
    records of others.
    """

    label: str
    searches: tuple[Search, ...] = field(default=(), repr=False)
    hook: Hook | None = None
    other_patient: bool = False
    mixed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything that the report, the JSON and the draft of an overlay are made of.

    `choosing` are the searches for a sample, `not_examined` the labels of patients for whom there was no time, or who
    were not asked for because the server does not answer.
    """

    version: str
    now: datetime
    zone: str
    server: Server
    plan: tuple[Need, ...]
    overlay: Overlay
    chosen: str
    deadline_seconds: float
    choosing: tuple[Search, ...] = ()
    patients: tuple[Patient, ...] = ()
    not_examined: tuple[str, ...] = ()
    inputs: tuple[Input, ...] = ()
    found: tuple[tuple[str, Found], ...] = ()
    refused: tuple[Refused, ...] = ()
    look_alikes: tuple[LookAlike, ...] = ()
    others: tuple[LookAlike, ...] = ()
    uncoded: Mapping[str, int] = field(default_factory=dict)
    records: Mapping[str, int] = field(default_factory=dict)

    @property
    def planned(self) -> tuple[Search, ...]:
        """Every search of the plan, of all patients."""
        return tuple(search for patient in self.patients for search in patient.searches if search.planned)

    @property
    def not_whole(self) -> tuple[Search, ...]:
        """Searches of the service that failed or were cut off: of the plan, and what it asks for beside it."""
        every = (search for patient in self.patients for search in patient.searches)
        return tuple(search for search in every if not (search.own or search.whole))

    @property
    def late(self) -> tuple[str, ...]:
        """Needs that did not come in a hook's time, each once."""
        return tuple(dict.fromkeys(key for patient in self.patients if patient.hook for key in patient.hook.late))

    @property
    def lost(self) -> tuple[Search, ...]:
        """Searches that worked alone and not as one hook."""
        return tuple(search for patient in self.patients if patient.hook for search in patient.hook.lost)

    @property
    def mixed(self) -> tuple[str, ...]:
        """Needs whose answers hold records of other patients, each once."""
        return tuple(dict.fromkeys(key for patient in self.patients for key in patient.mixed))

    def looked(self, key: str) -> Looked:
        """Whether "not found" of this need means "not there": somebody looked, and saw everything, of every patient."""
        asked = [
            (search.outcome != "failed" and not patient.other_patient, search.whole and key not in patient.mixed)
            for patient in self.patients
            for search in patient.searches
            if search.planned and search.key == key
        ]
        if not any(came for came, _ in asked):
            return "no"
        return "yes" if all(came and whole for came, whole in asked) else "part"

    @property
    def missing(self) -> tuple[Input, ...]:
        """Inputs that no examined patient has."""
        return tuple(one for one in self.inputs if not one.ready)

    @property
    def status(self) -> Status:
        """ready: nothing is missing, every search worked, alone and as a hook. unreachable: no search worked."""
        if self.patients and all(search.outcome == "failed" for search in self.planned):
            return "unreachable"
        if not self.patients:
            return "unreachable" if self.chosen == "failed" else "gaps"
        worked = not (self.not_whole or self.late or self.lost or self.not_examined)
        theirs = not (self.mixed or any(one.other_patient for one in self.patients))
        return "ready" if worked and theirs and self.inputs and not self.missing else "gaps"
