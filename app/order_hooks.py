"""order-select and order-sign: read what is drafted, and only where a draft matters, the patient's record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from app import order_cards, report, snooze
from app.call import Call
from app.clinical.orders import Correction, Hook, OrderAssessment, assess_orders, concerns, is_unidentified, of_concern
from app.knowledge import Bedside
from app.patient_view import mismatch, not_evaluated, unknown_by
from app.protocols import orders as checks
from app.reads import Reads
from cds_hooks import orders
from fhir_mappings import corrections, draft_orders, mapping
from fhir_mappings.draft_orders import Entry
from fhir_mappings.facts import DraftOrder, Gap

NOTHING = "nothing-to-say"
_REQUEST = "MedicationRequest"


class OrderHooks:
    """Evaluates the calls of one of the two hooks."""

    def __init__(self, reads: Reads, *, hook: Hook, bedside: Bedside, source_url: str | None) -> None:
        self.reads = reads
        self.settings = reads.settings
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
            return mismatch(call, _REQUEST, bedside=self.bedside, source_url=self.source_url)
        reach = self.reads.reach(call)
        context = self.reads.context(call)
        wanted = draft_orders.medication_references(entries)
        if wanted:
            await self.reads.meet(reach)
            named = await self.reads.medications(call, reach, wanted)
            context = replace(context, medications=named)
        picked = frozenset(place for place, order in enumerate(listed) if id(order) in chosen)
        drafts = draft_orders.collect(entries, picked=picked, context=context)
        selected = [draft for draft in drafts if draft.picked]
        knowledge = self.bedside.library.knowledge
        call.verdicts = {"orders": {"drafts": _drafted(selected), "checks": {}}}
        call.speaks = frozenset({checks.ID})
        if not any(concerns(draft, ingredients=self._of_concern) for draft in selected):
            call.outcome = NOTHING  # no rule looks at any of them, so nobody's record has to be read
            return 200
        await self.reads.meet(reach)
        gathered = await self.reads.for_orders(call, reach)
        if not gathered.looked:
            return not_evaluated(call, gathered, bedside=self.bedside, source_url=self.source_url)
        facts = mapping.to_facts(
            gathered.parts, patient_id=call.patient_id, context=replace(context, medications={}, turns=set())
        )
        call.facts = facts = replace(facts, drafts=drafts)
        if facts.identity_mismatch:
            return mismatch(call, "Patient", bedside=self.bedside, source_url=self.source_url)
        own = mapping.identifiers_of(gathered.parts, patient_id=call.patient_id)
        if own is not None and subjects.identifiers - own:
            return mismatch(call, _REQUEST, bedside=self.bedside, source_url=self.source_url)
        if subjects.unclear or (own is None and subjects.identifiers):
            gap = Gap(draft_orders.SOURCE, "subject-not-verified", reference=_REQUEST)
            call.facts = facts = replace(facts, gaps=(*facts.gaps, gap))
        found = assess_orders(facts, hook=self.hook, knowledge=knowledge, now=call.now)
        call.verdicts = _verdicts(found)
        call.evidence = _evidence(found)
        call.gaps = report.gaps(found, words=self.bedside.plain) + self._unidentified(selected)
        if not self.settings.silenced.isdisjoint({checks.ID}):
            call.outcome = "disabled"
            return 200
        call.cards = order_cards.build(
            found,
            words=self.bedside.words,
            decision=call.id,
            corrected=lambda correction: self._corrected(correction, entries, call=call),
            version=knowledge.order_version,
            source_url=self.source_url,
        )
        call.outcome = "card" if call.cards else "deceased" if found.deceased else NOTHING
        call.kind, call.state = snooze.of_orders(found)
        return 200

    def _unidentified(self, selected: Sequence[DraftOrder]) -> list[dict[str, str]]:
        """Drafts of which nothing says what they are, whether or not a card tells it."""
        why = self.bedside.plain.why("draft-unidentified", {})
        return [
            {
                "source": _REQUEST,
                "why": why,
                "need": draft_orders.SOURCE,
                "reference": report.printable(d.use.reference),
            }
            for d in selected
            if is_unidentified(d)
        ]

    def _corrected(self, correction: Correction, entries: Sequence[Entry], *, call: Call) -> dict[str, Any] | None:
        draft = correction.draft
        today = call.now.astimezone(call.caller.tenant.zone).date()
        return corrections.corrected(
            entries[draft.place].raw,
            daily_mg=correction.daily_mg,
            per_day=correction.per_day,
            last_day=correction.last_day,
            first_day=draft.first_day or today,
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
