"""The public JSON of an assessment: what `rescue-cds evaluate` prints, a card's extension carries and a decision keeps.

Contract: docs/evaluate.md (schema 1). Numbers that matter are decimal strings without exponent and trailing zeros,
`age_hours` has one decimal; absent members are left out, never null.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from app.clinical.assessment import Assessment
from app.clinical.criteria import Outcome
from app.clinical.findings import Finding
from app.clinical.reading import Evidence
from app.clinical.results import CriterionResult, ProtocolResult, SafetyResult
from app.protocols.words import Words
from fhir_mappings.facts import Source

SCHEMA = 1
LONGEST = 512
"""Characters of a word of the record: ids may have that many (cds_hooks.request.MAX_ID)."""


def document(assessment: Assessment, *, words: Words, protocols: Iterable[str] = ()) -> dict[str, Any]:
    """Everything but suggestions and cards. `protocols` filters the array of that name only."""
    wanted = frozenset(protocols)
    return {
        "schema": SCHEMA,
        "now": instant(assessment.now),
        "patient": assessment.patient,
        "protocols": [
            protocol_entry(p, assessment=assessment, words=words)
            for p in assessment.protocols
            if not wanted or p.protocol.id in wanted
        ],
        "safety": [safety_entry(s, assessment=assessment, words=words) for s in assessment.safety],
        "gaps": gaps(assessment, words=words),
    }


def protocol_entry(result: ProtocolResult, *, assessment: Assessment, words: Words) -> dict[str, Any]:
    """One protocol: scope, verdict, every criterion, what is missing."""
    return {
        "id": result.protocol.id,
        "version": result.protocol.version,
        "scope": result.scope,
        "verdict": result.verdict.value,
        "criteria": [criterion_entry(c, assessment=assessment, words=words) for c in result.criteria],
        "confirmations": [
            {"id": c.id, "text": c.text, "on_record": _on_record(c.id, assessment=assessment, words=words)}
            for c in result.protocol.confirmations
        ],
        "missing": list(result.missing),
        "values": dict(result.values),
    }


def _on_record(confirmation: str, *, assessment: Assessment, words: Words) -> str:
    """What the chart says of a thing that only a person can confirm."""
    if confirmation == "P-GOALS":
        return words.reason(assessment.comfort_care.reason)
    return "not looked for"


def criterion_entry(result: CriterionResult, *, assessment: Assessment, words: Words) -> dict[str, Any]:
    """One criterion with its reason and evidence."""
    entry: dict[str, Any] = {
        "id": result.id,
        "finding": result.finding.value,
        "reason": because(result.outcome, words=words),
    }
    if result.finding is Finding.UNKNOWN:
        entry["missing"] = list(result.outcome.missing)
    entry["evidence"] = evidence(result.outcome.evidence, now=assessment.now)
    return entry


def safety_entry(result: SafetyResult, *, assessment: Assessment, words: Words) -> dict[str, Any]:
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
    entry["evidence"] = evidence(result.outcome.evidence, now=assessment.now)
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


def gaps(assessment: Assessment, *, words: Words) -> list[dict[str, str]]:
    """What could not be looked at, then what was there and could not be used."""
    refused = [
        {"source": printable(gap.reference.partition("/")[0]) or gap.source, "why": words.gap(gap), "need": gap.source}
        | ({"reference": printable(gap.reference)} if gap.reference else {})
        for gap in assessment.gaps
    ]
    return [lost(source, words=words) for source in assessment.lost] + refused


def lost(source: Source, *, words: Words) -> dict[str, str]:
    """A source that was not read: its resource type, why, and which need of the gather plan it was."""
    return {"source": source.resource_type, "why": words.source_briefly(source), "need": source.key}


def asked_without(assessment: Assessment) -> list[dict[str, Any]]:
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
    """Hours with one decimal."""
    hours = Decimal((now - moment).total_seconds()) / 3600
    return str(hours.quantize(Decimal("0.1"), rounding=ROUND_HALF_EVEN))
