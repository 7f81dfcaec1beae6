"""order-select and order-sign: read what is drafted, and only where a draft matters, the patient's record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from app import order_cards, report, snooze
from app.call import Call
from app.clinical.orders import Correction, Hook, OrderAssessment, assess_orders, concerns, is_unidentified, of_concern
from app.kept import Asked
from app.knowledge import Bedside
from app.patient_view import mismatch, not_evaluated, unknown_by
from app.protocols import orders as checks
from app.reads import Reads
from cds_hooks import orders
from fhir_mappings import corrections, draft_orders, mapping
from fhir_mappings.draft_orders import Entry
from fhir_mappings.facts import DraftOrder, Facts, Gap

NOTHING = "nothing-to-say"
REQUEST = "MedicationRequest"


class OrderHooks:
    """Evaluates the calls of one of the two hooks."""

    def __init__(self, reads: Reads, *, hook: Hook, bedside: Bedside, source_url: str | None) -> None:
        self.reads = reads
        self.hook = hook
        self.bedside = bedside
        self.source_url = source_url
        self._of_concern = of_concern(bedside.library.knowledge)

    async def evaluate(self, call: Call) -> int:
        """Fills in the call; the status of its answer. Raises BadRequest without `draftOrders`."""
        sent = orders.of(call.request)
        # The order of the entries means nothing; at the signature everything is signed.
        chosen = {id(order) for order in (sent.selected if self.hook == "order-select" else sent.orders)}
        listed = sorted(sent.orders, key=lambda order: (order.reference, order.raw))
        entries = [Entry(order.raw, order.full_url) for order in listed]
        subjects = draft_orders.subjects(entries)
        if subjects.ids - {call.patient_id}:
            return mismatch(call, REQUEST, bedside=self.bedside, source_url=self.source_url)
        reach = self.reads.reach(call)
        context = self.reads.context(call)
        wanted = draft_orders.medication_references(entries)
        if wanted:
            await self.reads.meet(reach)
            named = await self.reads.medications(call, reach, wanted)
            context = replace(context, medications=named)
        picked = frozenset(place for place, order in enumerate(listed) if id(order) in chosen)
        drafts = draft_orders.collect(entries, picked=picked, context=context)
        if not is_concern(call, drafts, concern=self._of_concern):
            return 200  # nobody's record has to be read
        await self.reads.meet(reach)
        gathered = await self.reads.for_orders(call, reach)
        if not gathered.looked:
            lost = [part.source for part in gathered.parts]
            return not_evaluated(call, lost, bedside=self.bedside, source_url=self.source_url)
        facts = mapping.to_facts(
            gathered.parts, patient_id=call.patient_id, context=replace(context, medications={}, turns=set())
        )
        facts = replace(facts, drafts=drafts)
        own = mapping.identifiers_of(gathered.parts, patient_id=call.patient_id)
        if own is not None and subjects.identifiers - own and not facts.identity_mismatch:
            call.facts = facts
            return mismatch(call, REQUEST, bedside=self.bedside, source_url=self.source_url)
        if not facts.identity_mismatch and (subjects.unclear or (own is None and subjects.identifiers)):
            gap = Gap(draft_orders.SOURCE, "subject-not-verified", reference=REQUEST)
            facts = replace(facts, gaps=(*facts.gaps, gap))
        raw = {place: entry.raw for place, entry in enumerate(entries)}
        return conclude(call, facts, hook=self.hook, raw=raw, bedside=self.bedside, source_url=self.source_url)


def is_concern(call: Call, drafts: Sequence[DraftOrder], *, concern: frozenset[str]) -> bool:
    """Whether a check looks at any of the drafts that were picked; the call is filled in where none does.

    `concern` are the ingredients that one looks at.
    """
    selected = [draft for draft in drafts if draft.picked]
    call.verdicts = {"orders": {"drafts": _drafted(selected), "checks": {}}}
    call.speaks = frozenset({checks.ID})
    if any(concerns(draft, ingredients=concern) for draft in selected):
        return True
    call.outcome, call.way = NOTHING, "unconcerned"
    return False


def conclude(
    call: Call, facts: Facts, *, hook: Hook, raw: Mapping[int, bytes], bedside: Bedside, source_url: str | None
) -> int:
    """Fills in the call from facts with drafts; the status of its answer. Nothing is read any more, so that it can be
    repeated. `raw` holds the drafts as they were sent, by their place."""
    call.facts, call.way = facts, "assessed"
    if facts.identity_mismatch:
        return mismatch(call, "Patient", bedside=bedside, source_url=source_url)
    knowledge = bedside.library.knowledge
    found = assess_orders(facts, hook=hook, knowledge=knowledge, now=call.now)
    call.verdicts = _verdicts(found)
    call.evidence = _evidence(found)
    call.gaps = report.gaps(found, words=bedside.plain) + _unidentified(facts.drafts, bedside=bedside)
    if checks.ID in call.switches.silenced:
        call.outcome = "disabled"
        return 200
    used: dict[int, msgspec.Raw] = {}

    def corrected(correction: Correction) -> dict[str, Any] | None:
        place = correction.draft.place
        sent = raw.get(place)
        changed = None if sent is None else _corrected(correction, sent, call=call)
        if sent is not None and changed is not None:
            used[place] = corrections.without_words(sent)
        return changed

    call.cards = order_cards.build(
        found,
        words=bedside.words,
        decision=call.id,
        corrected=corrected,
        version=knowledge.order_version,
        source_url=source_url,
    )
    call.asked = Asked(encounter=call.request.context.encounter_id or "", orders=used)
    call.outcome = "card" if call.cards else "deceased" if found.deceased else NOTHING
    call.kind, call.state = snooze.of_orders(found)
    return 200


def _unidentified(drafts: Sequence[DraftOrder], *, bedside: Bedside) -> list[dict[str, str]]:
    """Picked drafts of which nothing says what they are, whether or not a card tells it."""
    why = bedside.plain.why("draft-unidentified", {})
    return [
        {
            "source": REQUEST,
            "why": why,
            "need": draft_orders.SOURCE,
            "reference": report.printable(d.use.reference),
        }
        for d in drafts
        if d.picked and is_unidentified(d)
    ]


def _corrected(correction: Correction, raw: bytes, *, call: Call) -> dict[str, Any] | None:
    today = call.now.astimezone(call.caller.tenant.zone).date()
    return corrections.corrected(
        raw,
        daily_mg=correction.daily_mg,
        per_day=correction.per_day,
        last_day=correction.last_day,
        first_day=correction.draft.first_day or today,
    )


def _drafted(drafts: Sequence[DraftOrder]) -> list[dict[str, Any]]:
    return [
        {"drugs": list(d.use.ingredients), "possibly": list(d.use.possibly), "identity": d.use.identity} for d in drafts
    ]


def _verdicts(found: OrderAssessment) -> dict[str, Any]:
    checked = {check.id: "absent" for check in found.knowledge.order_checks}
    checked |= dict.fromkeys(found.undetermined, "unknown")
    checked |= {c.check.id: c.finding.presence for c in reversed(found.checks)}
    outcomes = {s.rule.id: s.outcome for s in found.all_safety}
    why = unknown_by(outcomes) | {c.check.id: c.reason.code for c in found.checks if c.finding.presence == "unknown"}
    return {
        "orders": {"drafts": _drafted(found.orders), "checks": checked},
        "safety": {s.rule.id: s.finding.presence for s in found.all_safety},
        "told": [s.rule.id for s in (*found.safety, *found.watched)],
        "treatment_day": None if found.course is None else found.course.day,
        "why_unknown": why,
    }


def _evidence(found: OrderAssessment) -> list[dict[str, str]]:
    entries = [e for s in found.all_safety for e in s.outcome.evidence] + [e for c in found.checks for e in c.evidence]
    return report.evidence(dict.fromkeys(entries), now=found.now)
