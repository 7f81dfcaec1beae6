"""`rescue-cds evaluate`: a FHIR Bundle through the path of a hook call, as JSON or a table (docs/evaluate.md)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5
from zoneinfo import ZoneInfo

from app import attributes, cards, drafts, report
from app.clinical.assessment import Assessment, assess
from app.clinical.chart import Chart
from app.clinical.course import course
from app.gather import BundleError, at_site, from_bundle, subject_of
from app.knowledge import Bedside
from app.outlook import UNSEEN, Outlook, look_ahead
from fhir_mappings import mapping
from fhir_mappings.context import Context
from fhir_mappings.facts import Facts, Overlay
from fhir_mappings.mapping import Part


@dataclass(frozen=True, slots=True)
class Options:
    """How to evaluate: `now` with a zone, the facility's zone and overlay, the `protocols` to print (none: all that
    are not silenced), and where the service is published, for the cards' source."""

    now: datetime
    zone: ZoneInfo
    overlay: Overlay
    suggest_on: str = "pilot-simple"
    protocols: Sequence[str] = ()
    patient: str | None = None
    silenced: frozenset[str] = frozenset()
    published_at: str | None = None


def document(raw: bytes, *, bedside: Bedside, options: Options) -> dict[str, Any]:
    """The public JSON: the assessment, the suggestions, and the cards that patient-view would show.

    Raises BundleError. Card uuids depend on `now` and the patient, so the same question has the same answer.
    """
    records = _records(raw, bedside=bedside, options=options)
    found = assess(
        records.facts,
        knowledge=bedside.library.knowledge,
        now=options.now,
        suggest_on=options.suggest_on,
        silenced=options.silenced,
    )
    ahead = _ahead(found, records, facts=records.facts, options=options)
    return answer(found, patient_id=records.patient_id, bedside=bedside, options=options, outlook=ahead)


@dataclass(frozen=True, slots=True)
class _Records:
    """What the Bundle holds of one patient, and the facts that it says at the moment of `context`."""

    patient_id: str
    parts: tuple[Part, ...]
    context: Context
    facts: Facts


def ahead(
    found: Assessment,
    *,
    raw: bytes,
    facts: Facts,
    bedside: Bedside,
    options: Options,
    protocols: Collection[str] | None = None,
) -> Outlook:
    """What would change the verdicts of an assessment of these facts, and until when they hold."""
    records = _records(raw, bedside=bedside, options=options)
    return _ahead(found, records, facts=facts, options=options, protocols=protocols)


def _ahead(
    found: Assessment,
    records: _Records,
    *,
    facts: Facts,
    options: Options,
    protocols: Collection[str] | None = None,
) -> Outlook:
    return look_ahead(
        found,
        facts=facts,
        context=records.context,
        again=lambda later: mapping.to_facts(records.parts, patient_id=records.patient_id, context=later),
        suggest_on=options.suggest_on,
        protocols=protocols,
    )


def read(raw: bytes, *, bedside: Bedside, options: Options) -> tuple[str, Facts]:
    """The patient's id and what the Bundle says about this patient; no rule is looked at. Raises BundleError."""
    records = _records(raw, bedside=bedside, options=options)
    return records.patient_id, records.facts


def _records(raw: bytes, *, bedside: Bedside, options: Options) -> _Records:
    patient_id = subject_of(raw, chosen=options.patient)
    since = bedside.course_for(options.overlay)
    plan = (*bedside.plan_for(options.overlay), since)
    asked, gone = at_site(plan, absent=options.overlay.absent_source)
    parts = (*from_bundle(raw, plan=asked, now=options.now, patient_id=patient_id), *gone)
    context = Context(now=options.now, zone=options.zone, overlay=options.overlay)
    facts = mapping.to_facts(parts, patient_id=patient_id, context=context)
    if facts.identity_mismatch:
        raise BundleError("the Bundle's Patient does not bear the id that its entries refer to")
    chart = Chart(facts, knowledge=bedside.library.knowledge, now=options.now)
    if course(chart) is None:  # as at the bedside, where nobody else's values are asked for so far back
        facts = replace(facts, sources=tuple(source for source in facts.sources if source.key != since.key))
    return _Records(patient_id, parts, context, facts)


def answer(
    found: Assessment, *, patient_id: str, bedside: Bedside, options: Options, outlook: Outlook = UNSEEN
) -> dict[str, Any]:
    """The public JSON of an assessment. On a card the outlook is that of the protocols that speak, as in a hook."""
    offered: Sequence[cards.Draft] = ()
    if found.suggest:
        offered = drafts.fill(
            bedside.templates, patient_id=patient_id, now=options.now, zone=options.zone, encounter_id=None
        )
    decision = uuid5(NAMESPACE_URL, f"urn:rescue-cds:evaluate:{options.now.isoformat()}:{patient_id}")
    source = attributes.url(options.published_at)
    shown = cards.build(
        found,
        words=bedside.words,
        decision=decision,
        drafts=offered,
        source_url=source,
        outlook=outlook.of(bedside.speaking),
    )
    document = report.document(found, words=bedside.plain, protocols=options.protocols, outlook=outlook)
    document["patient"] = report.printable(f"Patient/{patient_id}")
    document["suggestions"] = [draft.resource for draft in offered]
    document["cards"] = [card.to_json() for card in shown]
    return document


def table(answer: dict[str, Any]) -> str:
    """The same for a person at a terminal."""
    lines = [f"{answer['patient']} at {answer['now']}"]
    for protocol in answer["protocols"]:
        if protocol["verdict"] is None:
            lines += _follow_up(protocol)
            continue
        verdict = protocol["verdict"].replace("-", " ")
        lines += ["", f"{protocol['id']} {protocol['version']}: {verdict} (scope: {protocol['scope']})"]
        lines += [_row(c["finding"], c["id"], c["reason"]) for c in protocol["criteria"]]
        if protocol["missing"]:
            lines.append(f"  missing: {', '.join(protocol['missing'])}")
        lines += [_flip(flip) for flip in protocol.get("changes", ())]
        if "holds_until" in protocol:
            lines.append(f"  holds until {protocol['holds_until']} without newer data")
    spoken = [s for s in answer["safety"] if s["finding"] != "absent"]
    lines += ["", "Safety (absent findings not listed)" if spoken else "Safety: nothing present, nothing unknown"]
    lines += [_row(s["finding"], s["id"], f"{s['severity']}, {', '.join(s['drugs'])}: {s['reason']}") for s in spoken]
    if answer["gaps"]:
        lines += ["", "Not looked at or not used"]
        lines += [f"  {gap['source']}: {gap['why']}" for gap in answer["gaps"]]
    lines += ["", f"Suggested orders: {len(answer['suggestions'])}", f"Cards: {len(answer['cards'])}"]
    lines += [f"  [{card['indicator']}] {card['summary']}" for card in answer["cards"]]
    return "\n".join(lines)


def _follow_up(entry: dict[str, Any]) -> list[str]:
    """The follow-up: it has a day and actions in place of a verdict."""
    day = "" if entry["treatment_day"] is None else f", treatment day {entry['treatment_day']}"
    lines = ["", f"{entry['id']} {entry['version']}: no verdict (scope: {entry['scope']}){day}"]
    lines += [_row(a["finding"], a["id"], f"{a['severity']}: {a['reason']}") for a in entry["actions"]]
    for row in entry["course"]:
        known = [f"{name} {row[name]}" for name in ("baseline", "value", "ratio") if name in row]
        lines.append(_row("", row["quantity"], ", ".join([*known, *filter(None, [row.get("reason")])])))
    return lines


def _flip(flip: dict[str, Any]) -> str:
    changes = " and ".join(f"{c['criterion']} {c['input']} {c['needs']} (now {c['has']})" for c in flip["set"])
    return f"  {flip['to'].replace('-', ' ')} with {changes}"


def _row(finding: str, name: str, reason: str) -> str:
    return f"  {finding:<8} {name:<28} {reason}"
