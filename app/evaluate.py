"""`rescue-cds evaluate`: a FHIR Bundle through the path of a hook call, as JSON or a table (docs/evaluate.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5
from zoneinfo import ZoneInfo

from app import cards, drafts, report
from app.clinical.assessment import assess
from app.gather import BundleError, at_site, from_bundle, subject_of
from app.knowledge import Bedside
from fhir_mappings import mapping
from fhir_mappings.context import Context
from fhir_mappings.facts import Overlay


@dataclass(frozen=True, slots=True)
class Options:
    """How to evaluate: `now` with a zone, the facility's zone and overlay, the `protocols` to print (none: all)."""

    now: datetime
    zone: ZoneInfo
    overlay: Overlay
    suggest_on: str = "pilot-simple"
    protocols: Sequence[str] = ()
    patient: str | None = None


def document(raw: bytes, *, bedside: Bedside, options: Options) -> dict[str, Any]:
    """The public JSON: the assessment, the suggestions, and the cards that patient-view would show.

    Raises BundleError. Card uuids depend on `now` and the patient, so the same question has the same answer.
    """
    patient_id = subject_of(raw, chosen=options.patient)
    asked, gone = at_site(bedside.plan_for(options.overlay), absent=options.overlay.absent_source)
    parts = (*from_bundle(raw, plan=asked, now=options.now, patient_id=patient_id), *gone)
    context = Context(now=options.now, zone=options.zone, overlay=options.overlay)
    facts = mapping.to_facts(parts, patient_id=patient_id, context=context)
    if facts.identity_mismatch:
        raise BundleError("the Bundle's Patient does not bear the id that its entries refer to")
    knowledge = bedside.library.knowledge
    found = assess(facts, knowledge=knowledge, now=options.now, suggest_on=options.suggest_on)
    offered: Sequence[cards.Draft] = ()
    if found.suggest:
        offered = drafts.fill(
            bedside.templates, patient_id=patient_id, now=options.now, zone=options.zone, encounter_id=None
        )
    decision = uuid5(NAMESPACE_URL, f"urn:rescue-cds:evaluate:{options.now.isoformat()}:{patient_id}")
    shown = cards.build(found, words=bedside.words, decision=decision, drafts=offered)
    answer = report.document(found, words=bedside.plain, protocols=options.protocols)
    answer["patient"] = report.printable(f"Patient/{patient_id}")
    answer["suggestions"] = [draft.resource for draft in offered]
    answer["cards"] = [card.to_json() for card in shown]
    return answer


def table(answer: dict[str, Any]) -> str:
    """The same for a person at a terminal."""
    lines = [f"{answer['patient']} at {answer['now']}"]
    for protocol in answer["protocols"]:
        verdict = protocol["verdict"].replace("-", " ")
        lines += ["", f"{protocol['id']} {protocol['version']}: {verdict} (scope: {protocol['scope']})"]
        lines += [_row(c["finding"], c["id"], c["reason"]) for c in protocol["criteria"]]
        if protocol["missing"]:
            lines.append(f"  missing: {', '.join(protocol['missing'])}")
    spoken = [s for s in answer["safety"] if s["finding"] != "absent"]
    lines += ["", "Safety (absent findings not listed)" if spoken else "Safety: nothing present, nothing unknown"]
    lines += [_row(s["finding"], s["id"], f"{s['severity']}, {', '.join(s['drugs'])}: {s['reason']}") for s in spoken]
    if answer["gaps"]:
        lines += ["", "Not looked at or not used"]
        lines += [f"  {gap['source']}: {gap['why']}" for gap in answer["gaps"]]
    lines += ["", f"Suggested orders: {len(answer['suggestions'])}", f"Cards: {len(answer['cards'])}"]
    lines += [f"  [{card['indicator']}] {card['summary']}" for card in answer["cards"]]
    return "\n".join(lines)


def _row(finding: str, name: str, reason: str) -> str:
    return f"  {finding:<8} {name:<28} {reason}"
