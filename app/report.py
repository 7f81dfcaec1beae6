"""The public JSON of an assessment: what `rescue-cds evaluate` prints, a card's extension carries and a decision keeps.

Contract: docs/evaluate.md (schema 1). Numbers that matter are decimal strings without exponent and trailing zeros,
`age_hours` has one decimal; absent members are left out, never null.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from app.clinical.assessment import Assessment
from app.clinical.changes import Flip
from app.clinical.criteria import Outcome
from app.clinical.findings import Finding
from app.clinical.followup import FollowUpResult
from app.clinical.orders import OrderAssessment
from app.clinical.reading import Evidence, Reason, decimal_text
from app.clinical.results import CriterionResult, ProtocolResult, SafetyResult
from app.clinical.trends import Trend
from app.outlook import UNSEEN, Outlook
from app.protocols.words import Words
from fhir_mappings.facts import Gap, Source

SCHEMA = 1
LONGEST = 512
"""Characters of a word of the record: ids may have that many (cds_hooks.request.MAX_ID)."""


def document(
    assessment: Assessment, *, words: Words, protocols: Iterable[str] = (), outlook: Outlook = UNSEEN
) -> dict[str, Any]:
    """Everything but suggestions and cards. `protocols` filters the array of that name only; none: all that the site
    has not silenced."""
    wanted = frozenset(protocols)
    entries = (*(p.protocol.id for p in assessment.protocols), assessment.follow_up.follow_up.id)
    shown = frozenset(id_ for id_ in entries if (id_ in wanted if wanted else not assessment.is_silenced(id_)))
    return {
        "schema": SCHEMA,
        "now": instant(assessment.now),
        "patient": assessment.patient,
        "protocols": protocol_entries(assessment, words=words, ids=shown, outlook=outlook),
        "safety": [safety_entry(s, now=assessment.now, words=words) for s in assessment.safety],
        "gaps": gaps(assessment, words=words),
    }


def protocol_entries(
    assessment: Assessment, *, words: Words, ids: Collection[str], outlook: Outlook = UNSEEN
) -> list[dict[str, Any]]:
    """The entries of these protocols in the order of evaluation; the follow-up is the last."""
    entries = [
        protocol_entry(p, assessment=assessment, words=words) | _ahead(p.protocol.id, outlook, words=words)
        for p in assessment.protocols
        if p.protocol.id in ids
    ]
    if assessment.follow_up.follow_up.id in ids:
        entries.append(follow_up_entry(assessment.follow_up, now=assessment.now, words=words))
    return entries


def protocol_entry(result: ProtocolResult, *, assessment: Assessment, words: Words) -> dict[str, Any]:
    """One protocol: scope, verdict, every criterion, what is missing."""
    return {
        "id": result.protocol.id,
        "version": result.protocol.version,
        "scope": result.scope,
        "verdict": result.verdict.value,
        "criteria": [criterion_entry(c, assessment=assessment, words=words) for c in result.criteria],
        "confirmations": [
            {"id": c.id, "text": c.text, "on_record": _on_record(c.id, result, assessment=assessment, words=words)}
            for c in result.confirmations
        ],
        "missing": list(result.missing),
        "values": dict(result.values),
    }


def _ahead(protocol: str, outlook: Outlook, *, words: Words) -> dict[str, Any]:
    """What would change the verdict, and until when it holds; nothing of a protocol that was not looked at so."""
    if protocol not in outlook.until:
        return {}
    entry: dict[str, Any] = {"changes": [_flip(flip, words=words) for flip in outlook.changes[protocol]]}
    until = outlook.until[protocol]
    return entry if until is None else entry | {"holds_until": instant(until)}


def _flip(flip: Flip, *, words: Words) -> dict[str, Any]:
    return {
        "to": flip.to.value,
        "set": [
            {"criterion": c.criterion, "input": c.input}
            | ({"about": c.about} if c.about else {})
            | {"has": words.has(c), "needs": words.needs(c)}
            for c in flip.changes
        ],
    }


def _on_record(confirmation: str, result: ProtocolResult, *, assessment: Assessment, words: Words) -> str:
    """What the chart says of a thing that only a person can confirm."""
    if confirmation == "P-GOALS":
        return words.reason(assessment.comfort_care.reason)
    if confirmation in result.on_record:
        return words.reason(result.on_record[confirmation])
    for criterion in result.criteria:
        if criterion.id == confirmation:
            return because(criterion.outcome, words=words)
    return "not looked for"


def follow_up_entry(result: FollowUpResult, *, now: datetime, words: Words) -> dict[str, Any]:
    """The follow-up of a course: it has no verdict, and without a course no treatment day."""
    entry: dict[str, Any] = {
        "id": result.follow_up.id,
        "version": result.follow_up.version,
        "scope": result.scope,
        "verdict": None,
        "treatment_day": result.day,
    }
    if result.planned:
        entry["planned"] = _planned(result)
    if result.recorded:
        known = {f"{r.drug}_mg_total": decimal_text(r.mg) for r in result.recorded if r.mg is not None}
        entry["recorded"] = known | _reason([r.reason for r in result.recorded if r.reason is not None], words=words)
    entry["actions"] = [
        {
            "id": a.action.id,
            "finding": a.finding.presence,
            "severity": a.severity,
            "reason": because(a.outcome, words=words),
            "evidence": evidence(a.outcome.evidence, now=now),
        }
        for a in result.actions
    ]
    entry["course"] = [_trend(trend, now=now, words=words) for trend in result.trends]
    return entry


def _planned(result: FollowUpResult) -> dict[str, Any]:
    """mg of a day of anakinra; mg of a dose of ruxolitinib and how many; nothing planned is 0.

    Nothing is said of a drug that is no part of the course.
    """
    steps = dict(result.planned)
    planned: dict[str, Any] = {}
    if "anakinra" in steps:
        anakinra = steps["anakinra"]
        planned["anakinra_mg"] = "0" if anakinra is None else decimal_text(anakinra.dose_mg * anakinra.per_day)
    if "ruxolitinib" in steps:
        ruxolitinib = steps["ruxolitinib"]
        planned["ruxolitinib_mg"] = "0" if ruxolitinib is None else decimal_text(ruxolitinib.dose_mg)
        planned["ruxolitinib_doses"] = 0 if ruxolitinib is None else ruxolitinib.per_day
    if any(step is not None and step.reconstructed for step in steps.values()):
        planned["reconstructed"] = True
    return planned


def _trend(trend: Trend, *, now: datetime, words: Words) -> dict[str, Any]:
    """One row of Table 2. A bound is no number: `reason` says it."""
    entry: dict[str, Any] = {"quantity": trend.quantity.name, "unit": trend.quantity.unit}
    known = {"baseline": trend.baseline, "value": trend.value}
    entry |= {
        name: decimal_text(m.value)
        for name, m in known.items()
        if m is not None and m.value is not None and not m.comparator
    }
    if trend.ratio is not None:
        entry["ratio"] = decimal_text(trend.ratio)
    if trend.pilot is not None:
        day, mean = trend.pilot
        numbers = {"mean": mean.mean, "sd": mean.sd, "ratio": mean.ratio}
        entry["pilot"] = {"day": day} | {name: decimal_text(value) for name, value in numbers.items()}
    entry |= _reason(trend.reasons, words=words)
    entry["evidence"] = evidence((Evidence.measured(m) for m in known.values() if m is not None), now=now)
    return entry


def _reason(reasons: Iterable[Reason], *, words: Words) -> dict[str, str]:
    """The words in one member; none leave it out."""
    text = "; ".join(dict.fromkeys(words.reason(reason) for reason in reasons))
    return {"reason": text} if text else {}


def criterion_entry(result: CriterionResult, *, assessment: Assessment, words: Words) -> dict[str, Any]:
    """One criterion with its reason and evidence."""
    entry: dict[str, Any] = {
        "id": result.id,
        "finding": result.finding.value,
        "reason": because(result.outcome, words=words),
    }
    if result.criterion.part_of:
        entry["of"] = result.criterion.part_of
    if result.finding is Finding.UNKNOWN:
        entry["missing"] = list(result.outcome.missing)
    entry["evidence"] = evidence(result.outcome.evidence, now=assessment.now)
    return entry


def safety_entry(result: SafetyResult, *, now: datetime, words: Words) -> dict[str, Any]:
    """One safety finding."""
    entry: dict[str, Any] = {
        "id": result.rule.id,
        "drugs": list(result.rule.drugs),
        "severity": result.rule.severity,
        "finding": result.finding.presence,
        "reason": because(result.outcome, words=words),
    }
    if result.finding is Finding.UNKNOWN:
        entry["missing"] = list(result.outcome.missing)
    entry["evidence"] = evidence(result.outcome.evidence, now=now)
    return entry


def because(outcome: Outcome, *, words: Words) -> str:
    """The deciding answers in words, named by their input where more than one input was asked."""
    if len(outcome.because) == 1 and len(outcome.asked) <= 1:
        return words.reason(outcome.because[0].reason)
    return "; ".join(f"{words.input_title(a.input)}: {words.reason(a.reason)}" for a in outcome.because)


def evidence(entries: Iterable[Evidence], *, now: datetime) -> list[dict[str, str]]:
    """The resources a finding used."""
    found = []
    for e in entries:
        entry = {
            "concept": e.concept,
            "reference": e.reference,
            "value": e.value,
            "unit": e.unit,
            "original": e.original,
            "comparator": e.comparator,
            "kind": e.kind,
        }
        if e.effective is not None:
            entry["effective"] = instant(e.effective)
            entry["age_hours"] = age_hours(now, e.effective)
        found.append({name: shown for name, value in entry.items() if (shown := printable(value))})
    return found


def gaps(assessment: Assessment | OrderAssessment, *, words: Words) -> list[dict[str, str]]:
    """What could not be looked at, then what was there and could not be used."""
    refused = [
        {"source": printable(_type(gap)) or gap.source, "why": words.gap(gap), "need": gap.source}
        | ({"reference": printable(gap.reference)} if gap.reference else {})
        for gap in assessment.gaps
    ]
    return [lost(source, words=words) for source in assessment.lost] + refused


def _type(gap: Gap) -> str:
    """The resource type; a gap about somebody else's resource holds no reference to it."""
    return gap.reference.partition("/")[0] or dict(gap.params).get("type", "")


def lost(source: Source, *, words: Words) -> dict[str, str]:
    """A source that was not read: its resource type, why, and which need of the gather plan it was."""
    return {"source": source.resource_type, "why": words.source_briefly(source), "need": source.key}


def asked_without(assessment: Assessment | OrderAssessment) -> list[dict[str, Any]]:
    """Sources that were read without search parameters which the server does not take: broader than planned."""
    return [{"source": s.resource_type, "need": s.key, "asked_without": list(s.unsent)} for s in assessment.broader]


def printable(value: str) -> str:
    """A word of the record as it stands, without characters that no screen, terminal or card can show, and cut.

    The JSON is data, so nothing is escaped here; but a control character is no member of a card, and would make a
    terminal do things.
    """
    shown = value[: 2 * LONGEST]
    if not shown.isprintable():
        shown = "".join(c for c in shown if c.isprintable())
    return shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…"


def instant(moment: datetime) -> str:
    """ISO 8601 in UTC, to the second."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def age_hours(now: datetime, moment: datetime) -> str:
    """Hours with one decimal; 0.0 of what a clock that goes ahead has charted."""
    hours = max(Decimal(0), Decimal((now - moment).total_seconds()) / 3600)
    return str(hours.quantize(Decimal("0.1"), rounding=ROUND_HALF_EVEN))
