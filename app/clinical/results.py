"""The results of rules for one patient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.clinical.criteria import Outcome
from app.clinical.findings import Finding, all_of
from app.clinical.knowledge import Confirmation, Criterion, Protocol, SafetyRule
from app.clinical.reading import Reason


@dataclass(frozen=True, slots=True)
class CriterionResult:
    """One criterion with its outcome."""

    criterion: Criterion
    outcome: Outcome

    @property
    def id(self) -> str:
        """The public id."""
        return self.criterion.id

    @property
    def finding(self) -> Finding:
        """Met, not met, unknown."""
        return self.outcome.finding


@dataclass(frozen=True, slots=True)
class ProtocolResult:
    """One protocol: every criterion, the verdict over them, and whether the patient is in its scope."""

    protocol: Protocol
    criteria: tuple[CriterionResult, ...]
    scope: str
    values: Mapping[str, str]
    on_record: Mapping[str, Reason] = field(default_factory=dict)

    @property
    def deciding(self) -> tuple[CriterionResult, ...]:
        """The top-level criteria; a leaf that is shown decides through its parent."""
        return tuple(c for c in self.criteria if not c.criterion.part_of)

    @property
    def verdict(self) -> Finding:
        """Not met if one criterion is not met, else unknown if one is unknown, else met."""
        return all_of(c.finding for c in self.deciding)

    @property
    def confirmations(self) -> tuple[Confirmation, ...]:
        """What only a person can confirm, and what is met only because nothing is on record (reading 3.16)."""
        open_ = [c for c in self.criteria if c.criterion.confirm and c.finding is Finding.MET]
        return (*self.protocol.confirmations, *(Confirmation(c.id, c.criterion.confirm) for c in open_))

    @property
    def missing(self) -> tuple[str, ...]:
        """The inputs that leave an unknown verdict so; none for a decided one."""
        if self.verdict is not Finding.UNKNOWN:
            return ()
        return tuple(dict.fromkeys(m for c in self.deciding for m in c.outcome.missing))

    def finding_of(self, id: str) -> Finding:  # noqa: A002  (the public word)
        """The finding of one criterion."""
        return next(c.finding for c in self.criteria if c.id == id)


@dataclass(frozen=True, slots=True)
class SafetyResult:
    """One contraindication or warning for this patient."""

    rule: SafetyRule
    outcome: Outcome

    @property
    def finding(self) -> Finding:
        """Present (met), absent (not met) or unknown."""
        return self.outcome.finding

    @property
    def unknown_by_failure(self) -> bool:
        """Unknown because a source failed or was partial, or something on record could not be read."""
        return self.finding is Finding.UNKNOWN and (self.outcome.failed or self.outcome.unreadable)

    @property
    def withholds(self) -> bool:
        """Whether this finding alone takes the suggestion away (reading 4)."""
        if self.rule.severity == "monitor":
            return False
        if self.finding is Finding.MET:
            return self.rule.severity == "absolute" or self.rule.withholds
        return self.unknown_by_failure
