"""The whole assessment of one patient at one moment: protocols, safety, which card, whether a suggestion may be made.

Safety findings are worked out whether or not anything is suggested, so that order hooks can use them as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from app.clinical import table
from app.clinical.background import Background, look
from app.clinical.chart import Chart
from app.clinical.course import STUDY_DRUGS, course
from app.clinical.criteria import Outcome, evaluate, evaluate_scope, without_doubt
from app.clinical.findings import Finding
from app.clinical.followup import FollowUpResult, follow_up
from app.clinical.knowledge import Knowledge, Leaf, Protocol, Row, SafetyRule
from app.clinical.readers import gas, read
from app.clinical.reading import Note, Reading, Reason
from app.clinical.results import CriterionResult, ProtocolResult, SafetyResult
from fhir_mappings.facts import Facts, Gap, Source

NOT_THIS_PATIENT = frozenset({"other-patient", "no-subject", "subject-not-verified"})
"""Gaps of records whose patient is another one or not known: no suggestion while one stands (reading 3.14)."""

INVASIVE = Leaf("invasive_ventilation")
COMFORT_CARE = Leaf("condition", params={"concepts": "comfort-care"})


@dataclass(frozen=True, slots=True)
class Assessment:
    """Everything a card, an `evaluate` answer or a decision row says."""

    now: datetime
    zone: str
    patient: str
    protocols: tuple[ProtocolResult, ...]
    follow_up: FollowUpResult
    safety: tuple[SafetyResult, ...]
    required: tuple[tuple[str, Reading], ...]
    study_drugs: tuple[tuple[str, Reading], ...]
    row: Row
    suggest: bool
    withheld: tuple[Reason, ...]
    confirm: tuple[Reason, ...]
    safety_card: bool
    course_since: datetime | None
    comfort_care: Reading
    background: Background
    notes: tuple[Note, ...]
    gaps: tuple[Gap, ...]
    lost: tuple[Source, ...]
    broader: tuple[Source, ...]
    knowledge: Knowledge
    silenced: frozenset[str] = frozenset()
    readings: Mapping[tuple[object, ...], Any] = field(default_factory=dict, repr=False, compare=False)
    """What the rules rest on, by `Leaf.key`."""

    def protocol(self, id: str) -> ProtocolResult:  # noqa: A002  (the public word)
        """One protocol's result by its id."""
        return next(p for p in self.protocols if p.protocol.id == id)

    def is_silenced(self, id: str) -> bool:  # noqa: A002
        """Whether the site lets the protocol of that id say nothing."""
        return not self.silenced.isdisjoint({id, table.EVERYTHING})

    @property
    def present(self) -> tuple[SafetyResult, ...]:
        """What is present, absolute before relative before monitor."""
        order = {"absolute": 0, "relative": 1, "monitor": 2}
        found = [s for s in self.safety if s.finding is Finding.MET]
        return tuple(sorted(found, key=lambda s: order[s.rule.severity]))


def assess(
    facts: Facts,
    *,
    knowledge: Knowledge,
    now: datetime,
    suggest_on: str = "pilot-simple",
    silenced: frozenset[str] = frozenset(),
) -> Assessment:
    """The assessment of these facts at `now`, which is never read from the clock.

    `silenced` are protocols that the site lets say nothing, or "all": they are worked out like the others.
    """
    chart = Chart(facts, knowledge=knowledge, now=now)
    known: dict[str, Outcome] = {}
    protocols = tuple(_protocol(protocol, chart=chart, known=known) for protocol in knowledge.protocols)
    safety = tuple(_safety(rule, chart=chart, known=known) for rule in knowledge.safety)
    required = tuple((name, required_reading(chart, name)) for name in knowledge.required)
    study = tuple((drug, study_drug(chart, drug)) for drug in STUDY_DRUGS)
    by_id = {p.protocol.id: p for p in protocols}
    running = course(chart)
    comfort_care = read(chart, COMFORT_CARE)
    situation = table.Situation(
        simple=by_id["pilot-simple"],
        full=by_id["pilot-full"],
        safety=safety,
        required=required,
        study_drugs=study,
        deceased=is_deceased(facts),
        course=running is not None,
        suggest_on=suggest_on,
        invasive=read(chart, INVASIVE),
        comfort_care=comfort_care,
        other_patient=has_other_patient(facts),
        not_measured=facts.overlay.not_measured,
        receives=receives(chart),
    )
    row = table.silenced_row(table.matching_row(knowledge.rows, situation), silenced)
    withheld = table.withheld(situation)
    return Assessment(
        now=now,
        zone=facts.zone,
        patient="" if facts.patient is None else facts.patient.reference,
        protocols=protocols,
        follow_up=follow_up(chart, running=running, known=known, safety=safety),
        safety=safety,
        required=required,
        study_drugs=study,
        row=row,
        suggest=row.suggestions and not withheld,
        withheld=withheld if row.suggestions else (),
        confirm=table.to_confirm(situation),
        safety_card=table.EVERYTHING not in silenced and table.safety_card(situation, row),
        course_since=None if running is None else running.since,
        comfort_care=comfort_care,
        background=look(chart, standard_hours=chart.hours("standard_treatment_hours")),
        notes=table.lines(situation),
        gaps=facts.gaps,
        lost=tuple(s for s in facts.sources if s.outcome in {"failed", "partial"}),
        broader=tuple(s for s in facts.sources if s.unsent),
        knowledge=knowledge,
        silenced=silenced,
        readings=chart.readings,
    )


def _protocol(protocol: Protocol, *, chart: Chart, known: dict[str, Outcome]) -> ProtocolResult:
    criteria = []
    for criterion in protocol.criteria:
        outcome = known.get(criterion.id)
        if outcome is None:
            outcome = known[criterion.id] = evaluate(criterion.tree, chart=chart, known=known)
        criteria.append(CriterionResult(criterion, outcome))
    scope = scope_of(protocol, chart=chart, known=known)
    pair = gas.newest_pair(chart)
    values: Mapping[str, str] = {} if pair is None else {"pf": gas.ratio_text(pair)}
    on_record = {c.id: read(chart, Leaf(c.input)).reason for c in protocol.confirmations if c.input}
    return ProtocolResult(protocol, tuple(criteria), scope, values, on_record)


def scope_of(protocol: Protocol, *, chart: Chart, known: Mapping[str, Outcome]) -> str:
    """in, out, unknown."""
    words = {Finding.MET: "in", Finding.NOT_MET: "out", Finding.UNKNOWN: "unknown"}
    return words[evaluate_scope(protocol.scope, chart=chart, known=known)]


def _safety(rule: SafetyRule, *, chart: Chart, known: dict[str, Outcome]) -> SafetyResult:
    known[rule.id] = outcome = safety_outcome(rule, chart=chart, known=known)
    return SafetyResult(rule, outcome)


def safety_outcome(rule: SafetyRule, *, chart: Chart, known: Mapping[str, Outcome]) -> Outcome:
    """The outcome of a safety rule; a refused newer result takes "absent" from a required one (reading 3.3)."""
    outcome = evaluate(rule.tree, chart=chart, known=known)
    return without_doubt(outcome, chart=chart) if rule.required else outcome


def study_drug(chart: Chart, drug: str) -> Reading:
    """Whether one of the two drugs is on record already."""
    return read(chart, Leaf("study_drug", params={"ingredient": drug}))


def is_deceased(facts: Facts) -> bool:
    """Whether the record says that the patient has died."""
    return facts.patient is not None and facts.patient.deceased


def has_other_patient(facts: Facts) -> bool:
    """Whether something that was received may be another patient's."""
    return any(gap.why in NOT_THIS_PATIENT for gap in facts.gaps)


def required_reading(chart: Chart, name: str) -> Reading:
    """A reading of the required safety set; `renal` is the dialysis state or a clearance (reading 3.15)."""
    if name != "renal":
        return read(chart, Leaf(name))
    dialysis = read(chart, Leaf("dialysis"))
    if dialysis.state == "on":
        return dialysis
    clearance = read(chart, Leaf("crcl"))
    return clearance if clearance.known else replace(clearance, missing=("renal",))


def receives(chart: Chart) -> bool:
    """An active order or statement of a study drug, or a dose in the last 24 h *(ours)*."""
    for use in chart.facts.medications:
        if set(STUDY_DRUGS).isdisjoint(use.ingredients):
            continue
        if use.state in {"ordered", "taken"}:
            return True
        end = chart.exposure_end(use) if use.state == "given" else None
        if end is not None and chart.age(end) <= chart.hours("medication_list_hours"):
            return True
    return False
