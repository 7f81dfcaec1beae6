"""patient-view: gather, map, assess, make cards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from app import card_frame, cards, drafts, report, snooze
from app.call import Call, Reach
from app.cards import Draft
from app.clinical.assessment import Assessment, assess
from app.clinical.criteria import Outcome
from app.clinical.findings import Finding
from app.clinical.knowledge import Row
from app.clinical.reading import Evidence
from app.clinical.table import speaking
from app.gather import Gathered
from app.knowledge import Bedside
from app.outlook import UNSEEN, Outlook, look_ahead
from app.reads import Reads
from app.scope import Looked, not_asked
from fhir_mappings import mapping
from fhir_mappings.context import Context
from fhir_mappings.facts import Facts
from fhir_mappings.mapping import Part

COURSE_RUNNING = "course-running"
"""The row of the table of cards that asks for the values since before the first dose."""


class PatientView:
    """Evaluates one patient-view call after another."""

    def __init__(self, reads: Reads, *, bedside: Bedside, source_url: str | None) -> None:
        self.reads = reads
        self.settings = reads.settings
        self.bedside = bedside
        self.source_url = source_url

    async def evaluate(self, call: Call) -> int:
        """Fills in the call; the status of its answer."""
        reach = self.reads.reach(call)
        context = self.reads.context(call)
        await self.reads.meet(reach)
        looked = await self.reads.scope_first(call, reach, context=context)
        if looked is not None and looked.silent is not None:
            return self._silent(call, looked, row=looked.silent)
        gathered = await self.reads.everything(call, reach, known=None if looked is None else looked.gathered)
        if not gathered.looked:
            return not_evaluated(call, gathered, bedside=self.bedside, source_url=self.source_url)
        facts = mapping.to_facts(gathered.parts, patient_id=call.patient_id, context=context)
        call.facts = facts
        if facts.identity_mismatch:
            return mismatch(call, "Patient", bedside=self.bedside, source_url=self.source_url)
        found = self._assessed(facts, call)
        running = found.follow_up.course
        if found.row.id == COURSE_RUNNING and running is not None:
            found = await self._followed(call, reach, gathered, first=running.earliest, context=context)
        call.verdicts = _verdicts(found)
        call.evidence = _evidence(found)
        call.gaps = report.gaps(found, words=self.bedside.plain)
        offered = self._drafts(call) if found.suggest else ()
        ahead = self._ahead(found, call, facts=facts, parts=gathered.parts, context=context)
        call.cards = cards.build(
            found,
            words=self.bedside.words,
            decision=call.id,
            drafts=offered,
            source_url=self.source_url,
            outlook=ahead,
        )
        call.outcome = _outcome(found, shown=bool(call.cards))
        # What is present in a patient who receives the drugs is no protocol's.
        call.speaks = frozenset() if found.row.card == "none" else speaking(found.row)
        call.kind, call.state = snooze.of_assessment(found)
        return 200

    def _assessed(self, facts: Facts, call: Call) -> Assessment:
        return assess(
            facts,
            knowledge=self.bedside.library.knowledge,
            now=call.now,
            suggest_on=self.settings.suggest_on,
            silenced=self.settings.silenced,
        )

    async def _followed(
        self, call: Call, reach: Reach, gathered: Gathered, *, first: datetime, context: Context
    ) -> Assessment:
        """The assessment with the values since before the first dose."""
        more = await self.reads.since_first_dose(call, reach, first=first)
        call.facts = mapping.to_facts((*gathered.parts, *more), patient_id=call.patient_id, context=context)
        return self._assessed(call.facts, call)

    def _ahead(
        self, found: Assessment, call: Call, *, facts: Facts, parts: Sequence[Part], context: Context
    ) -> Outlook:
        """What the card about a verdict says of the time to come; nobody is told of it without such a card."""
        if found.row.card not in {"thresholds-met", "undetermined"}:
            return UNSEEN
        return look_ahead(
            found,
            facts=facts,
            context=context,
            again=lambda later: mapping.to_facts(parts, patient_id=call.patient_id, context=later),
            suggest_on=self.settings.suggest_on,
            protocols=self.bedside.speaking,
        )

    def _silent(self, call: Call, looked: Looked, *, row: Row) -> int:
        """No card, by the first reads alone; the answer says what was not used, and what was not looked at."""
        call.outcome = row.outcome
        call.facts = looked.facts
        call.verdicts = _protocols(looked.found)
        call.evidence = _evidence(looked.found)
        plan, _ = self.reads.plan(call.caller.tenant)
        call.gaps = report.gaps(looked.found, words=self.bedside.plain)
        call.gaps += [report.lost(source, words=self.bedside.plain) for source in not_asked(plan, looked=looked)]
        return 200

    def _drafts(self, call: Call) -> Sequence[Draft]:
        return drafts.fill(
            self.bedside.templates,
            patient_id=call.patient_id,
            encounter_id=call.request.context.encounter_id,
            now=call.now,
            zone=call.caller.tenant.zone,
        )


def not_evaluated(call: Call, gathered: Gathered, *, bedside: Bedside, source_url: str | None) -> int:
    """Nothing at all could be looked at: 412, or a card where the client is switched to it (reading 7)."""
    call.outcome = "not-evaluated"
    call.gaps = [report.lost(part.source, words=bedside.plain) for part in gathered.parts]
    if "not-evaluated-as-card" not in call.caller.modes:
        return 412
    call.cards = (card_frame.notice("not_evaluated", words=bedside.words, decision=call.id, source_url=source_url),)
    return 200


def mismatch(call: Call, what: str, *, bedside: Bedside, source_url: str | None) -> int:
    """Another patient's Patient, or orders: the one card, and nothing evaluated (readings 3.14 and 7)."""
    call.outcome, call.verdicts = "identity-mismatch", {}
    call.gaps = [{"source": what, "why": bedside.words.why("other-patient", {})}]
    call.cards = (card_frame.notice("identity", words=bedside.words, decision=call.id, source_url=source_url),)
    return 200


def unknown_by(outcomes: Mapping[str, Outcome]) -> dict[str, str]:
    """Why each finding that could not be determined could not, as the code of the first reason."""
    found = {}
    for id_, outcome in outcomes.items():
        open_ = [a for a in outcome.because if a.finding is Finding.UNKNOWN] or list(outcome.because)
        if outcome.finding is Finding.UNKNOWN and open_:
            found[id_] = open_[0].reason.code
    return found


def _outcome(found: Assessment, *, shown: bool) -> str:
    """The first that applies of reading 7: a card is a card, else the row says which silence it is."""
    if found.row.card == "course":
        return "follow-up"
    return "card" if shown else found.row.outcome


def _protocols(found: Assessment) -> dict[str, Any]:
    verdicts: dict[str, Any] = {
        p.protocol.id: {
            "verdict": p.verdict.value,
            "scope": p.scope,
            "criteria": {c.id: c.finding.value for c in p.criteria},
        }
        for p in found.protocols
    }
    outcomes = {c.id: c.outcome for p in found.protocols for c in p.criteria}
    outcomes |= {s.rule.id: s.outcome for s in found.safety} | {a.action.id: a.outcome for a in found.follow_up.actions}
    silenced = {"silenced": sorted(found.silenced)} if found.silenced else {}
    return verdicts | {"row": found.row.id, "why_unknown": unknown_by(outcomes)} | silenced


def _verdicts(found: Assessment) -> dict[str, Any]:
    return _protocols(found) | {
        found.follow_up.follow_up.id: {
            "scope": found.follow_up.scope,
            "treatment_day": found.follow_up.day,
            "actions": {a.action.id: a.finding.presence for a in found.follow_up.actions},
        },
        "safety": {s.rule.id: s.finding.presence for s in found.safety},
        "suggested": found.suggest,
    }


def _evidence(found: Assessment) -> list[dict[str, str]]:
    outcomes = [c.outcome for p in found.protocols for c in p.criteria] + [s.outcome for s in found.safety]
    outcomes += [a.outcome for a in found.follow_up.actions]
    values = [m for t in found.follow_up.trends for m in (t.baseline, t.value) if m is not None]
    entries = [e for outcome in outcomes for e in outcome.evidence] + [Evidence.measured(m) for m in values]
    return report.evidence(dict.fromkeys(entries), now=found.now)
