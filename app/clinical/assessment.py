"""The whole assessment of one patient at one moment: protocols, safety, which card, whether a suggestion may be made.

Safety findings are worked out whether or not anything is suggested, so that order hooks can use them as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from app.clinical import table
from app.clinical.background import Background, look
from app.clinical.chart import Chart
from app.clinical.criteria import Outcome, evaluate, evaluate_scope
from app.clinical.findings import Finding
from app.clinical.knowledge import Knowledge, Leaf, Protocol, Row, SafetyRule
from app.clinical.readers import drugs, gas, read
from app.clinical.reading import Note, Reading, Reason
from app.clinical.results import CriterionResult, ProtocolResult, SafetyResult
from fhir_mappings.facts import Facts, Gap, Source

STUDY_DRUGS = ("anakinra", "ruxolitinib")
NOT_THIS_PATIENT = frozenset({"other-patient", "no-subject", "subject-not-verified"})
"""Gaps of records whose patient is another one or not known: no suggestion while one stands (reading 3.14)."""


@dataclass(frozen=True, slots=True)
class Assessment:
    """Everything a card, an `evaluate` answer or a decision row says."""

    now: datetime
    zone: str
    patient: str
    protocols: tuple[ProtocolResult, ...]
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

    def protocol(self, id: str) -> ProtocolResult:  # noqa: A002  (the public word)
        """One protocol's result by its id."""
        return next(p for p in self.protocols if p.protocol.id == id)

    @property
    def present(self) -> tuple[SafetyResult, ...]:
        """What is present, absolute before relative before monitor."""
        order = {"absolute": 0, "relative": 1, "monitor": 2}
        found = [s for s in self.safety if s.finding is Finding.MET]
        return tuple(sorted(found, key=lambda s: order[s.rule.severity]))


def assess(facts: Facts, *, knowledge: Knowledge, now: datetime, suggest_on: str = "pilot-simple") -> Assessment:
    """The assessment of these facts at `now`, which is never read from the clock."""
    chart = Chart(facts, knowledge=knowledge, now=now)
    known: dict[str, Outcome] = {}
    protocols = tuple(_protocol(protocol, chart=chart, known=known) for protocol in knowledge.protocols)
    safety = tuple(_safety(rule, chart=chart, known=known) for rule in knowledge.safety)
    required = tuple((name, _required(chart, name)) for name in knowledge.required)
    study = tuple((drug, read(chart, Leaf("study_drug", params={"ingredient": drug}))) for drug in STUDY_DRUGS)
    by_id = {p.protocol.id: p for p in protocols}
    course_since = _course(chart)
    comfort_care = read(chart, Leaf("condition", params={"concepts": "comfort-care"}))
    situation = table.Situation(
        simple=by_id["pilot-simple"],
        full=by_id["pilot-full"],
        safety=safety,
        required=required,
        study_drugs=study,
        deceased=facts.patient is not None and facts.patient.deceased,
        course=course_since is not None,
        suggest_on=suggest_on,
        invasive=read(chart, Leaf("invasive_ventilation")),
        comfort_care=comfort_care,
        other_patient=any(gap.why in NOT_THIS_PATIENT for gap in facts.gaps),
        not_measured=facts.overlay.not_measured,
        receives=_receives(chart),
    )
    row = table.matching_row(knowledge.rows, situation)
    withheld = table.withheld(situation)
    return Assessment(
        now=now,
        zone=facts.zone,
        patient="" if facts.patient is None else facts.patient.reference,
        protocols=protocols,
        safety=safety,
        required=required,
        study_drugs=study,
        row=row,
        suggest=row.suggestions and not withheld,
        withheld=withheld if row.suggestions else (),
        confirm=table.to_confirm(situation),
        safety_card=table.safety_card(situation, row),
        course_since=course_since,
        comfort_care=comfort_care,
        background=look(chart, standard_hours=chart.hours("standard_treatment_hours")),
        notes=table.lines(situation),
        gaps=facts.gaps,
        lost=tuple(s for s in facts.sources if s.outcome in {"failed", "partial"}),
        broader=tuple(s for s in facts.sources if s.unsent),
        knowledge=knowledge,
    )


def _protocol(protocol: Protocol, *, chart: Chart, known: dict[str, Outcome]) -> ProtocolResult:
    criteria = []
    for criterion in protocol.criteria:
        outcome = known[criterion.id] = evaluate(criterion.tree, chart=chart, known=known)
        criteria.append(CriterionResult(criterion, outcome))
    scope = evaluate_scope(protocol.scope, chart=chart, known=known)
    pair = gas.newest_pair(chart)
    values: Mapping[str, str] = {} if pair is None else {"pf": gas.ratio_text(pair)}
    words = {Finding.MET: "in", Finding.NOT_MET: "out", Finding.UNKNOWN: "unknown"}
    return ProtocolResult(protocol, tuple(criteria), words[scope], values)


def _safety(rule: SafetyRule, *, chart: Chart, known: dict[str, Outcome]) -> SafetyResult:
    outcome = evaluate(rule.tree, chart=chart, known=known)
    if rule.required and outcome.finding is Finding.NOT_MET and outcome.displaced:
        reason = Reason.of("newer-result-refused")
        doubted = tuple(replace(a, finding=Finding.UNKNOWN, reason=reason) for a in outcome.asked if a.displaced)
        asked = (*doubted, *(a for a in outcome.asked if not a.displaced))
        missing = tuple(dict.fromkeys(chart.input(a.input).missing for a in doubted))
        outcome = replace(
            outcome, finding=Finding.UNKNOWN, because=doubted, asked=asked, missing=missing, unreadable=True
        )
    known[rule.id] = outcome
    return SafetyResult(rule, outcome)


def _required(chart: Chart, name: str) -> Reading:
    """A reading of the required safety set; `renal` is the dialysis state or a clearance (reading 3.15)."""
    if name != "renal":
        return read(chart, Leaf(name))
    dialysis = read(chart, Leaf("dialysis"))
    if dialysis.state == "on":
        return dialysis
    clearance = read(chart, Leaf("crcl"))
    return clearance if clearance.known else replace(clearance, missing=("renal",))


def _course(chart: Chart) -> datetime | None:
    """The start of a running course of either drug (reading 5, second row), else None."""
    tests = [m.when.earliest for m in chart.values("sarscov2_pcr") if m.coded == "positive"]
    if not tests:
        return None
    first_test = min(tests)
    started = []
    for drug in STUDY_DRUGS:
        first = drugs.first_dose(chart, drug)
        recent = first is not None and chart.age(first) <= timedelta(days=int(chart.limit("course_days")))
        if first is not None and recent and first > first_test and not drugs.on_record_before(chart, drug, first_test):
            started.append(first)
    return min(started, default=None)


def _receives(chart: Chart) -> bool:
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
