"""patient-view: gather, map, assess, make cards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from app import card_frame, cards, drafts, report, snooze
from app.call import Call
from app.cards import Draft
from app.clinical.assessment import Assessment, assess
from app.clinical.criteria import Outcome
from app.clinical.findings import Finding
from app.clinical.reading import Evidence
from app.clinical.table import speaking
from app.knowledge import Bedside
from app.outlook import UNSEEN, Outlook, look_ahead
from app.plan import Need
from app.reads import Reads
from app.scope import not_asked
from fhir_mappings import mapping
from fhir_mappings.context import Context
from fhir_mappings.facts import Facts, Source
from fhir_mappings.mapping import Part

COURSE_RUNNING = "course-running"
"""The row of the table of cards that asks for the values since before the first dose."""

_LOOKING_AHEAD = frozenset({"thresholds-met", "undetermined"})
"""The cards about a verdict."""


class PatientView:
    """Evaluates one patient-view call after another."""

    def __init__(self, reads: Reads, *, bedside: Bedside, source_url: str | None) -> None:
        self.reads = reads
        self.bedside = bedside
        self.source_url = source_url

    async def evaluate(self, call: Call) -> int:
        """Fills in the call; the status of its answer."""
        reach = self.reads.reach(call)
        context = self.reads.context(call)
        await self.reads.meet(reach)
        looked = await self.reads.scope_first(call, reach, context=context)
        if looked is not None and looked.silent is not None:
            plan, _ = self.reads.plan(call.caller.tenant)
            return silent(call, looked.facts, looked.found, bedside=self.bedside, plan=plan)
        gathered = await self.reads.everything(call, reach, known=None if looked is None else looked.gathered)
        if not gathered.looked:
            lost = [part.source for part in gathered.parts]
            return not_evaluated(call, lost, bedside=self.bedside, source_url=self.source_url)
        facts = mapping.to_facts(gathered.parts, patient_id=call.patient_id, context=context)
        found = None if facts.identity_mismatch else assessed(call, facts, bedside=self.bedside)
        parts = gathered.parts
        if found is not None and found.row.id == COURSE_RUNNING and found.follow_up.course is not None:
            first = found.follow_up.course.earliest
            parts = (*parts, *await self.reads.since_first_dose(call, reach, first=first))
            facts = mapping.to_facts(parts, patient_id=call.patient_id, context=context)
            found = None  # with the values since before the first dose it is another one

        def ahead(found: Assessment) -> Outlook:
            return self._ahead(found, call, facts=facts, parts=parts, context=context)

        return conclude(call, facts, bedside=self.bedside, source_url=self.source_url, ahead=ahead, found=found)

    def _ahead(
        self, found: Assessment, call: Call, *, facts: Facts, parts: Sequence[Part], context: Context
    ) -> Outlook:
        """What lies ahead of these records; what it rests on is kept, for the records themselves are not."""
        seen = look_ahead(
            found,
            facts=facts,
            context=context,
            again=lambda later: mapping.to_facts(parts, patient_id=call.patient_id, context=later),
            suggest_on=call.switches.suggest_on,
            protocols=self.bedside.speaking,
        )
        call.asked = msgspec.structs.replace(call.asked, until=seen.until, turns=tuple(sorted(context.turns)))
        return seen


def assessed(call: Call, facts: Facts, *, bedside: Bedside) -> Assessment:
    """What the knowledge says of these facts at the moment of the call."""
    return assess(
        facts,
        knowledge=bedside.library.knowledge,
        now=call.now,
        suggest_on=call.switches.suggest_on,
        silenced=frozenset(call.switches.silenced),
    )


def conclude(
    call: Call,
    facts: Facts,
    *,
    bedside: Bedside,
    source_url: str | None,
    ahead: Callable[[Assessment], Outlook],
    found: Assessment | None = None,
) -> int:
    """Fills in the call from facts; the status of its answer. Nothing is read any more, so that it can be repeated.

    `ahead` is asked for what the card about a verdict says of the time to come: nobody is told of it without such a
    card. `found` is the assessment of these very facts, where it has been made.
    """
    call.facts, call.way = facts, "assessed"
    call.asked = msgspec.structs.replace(call.asked, encounter=call.request.context.encounter_id or "")
    if facts.identity_mismatch:
        return mismatch(call, "Patient", bedside=bedside, source_url=source_url)
    found = found or assessed(call, facts, bedside=bedside)
    call.verdicts = _verdicts(found)
    call.evidence = _evidence(found)
    call.gaps = report.gaps(found, words=bedside.plain)
    call.cards = cards.build(
        found,
        words=bedside.words,
        decision=call.id,
        drafts=_drafts(call, bedside=bedside) if found.suggest else (),
        source_url=source_url,
        outlook=ahead(found) if found.row.card in _LOOKING_AHEAD else UNSEEN,
    )
    call.outcome = _outcome(found, shown=bool(call.cards))
    # What is present in a patient who receives the drugs is no protocol's.
    call.speaks = frozenset() if found.row.card == "none" else speaking(found.row)
    call.kind, call.state = snooze.of_assessment(found)
    return 200


def silent(call: Call, facts: Facts, found: Assessment, *, bedside: Bedside, plan: Sequence[Need]) -> int:
    """No card, by the first reads alone; the answer says what was not used, and what of the plan was not looked at."""
    call.facts, call.way = facts, "scope-first"
    call.outcome = found.row.outcome
    call.verdicts = _protocols(found)
    call.evidence = _evidence(found)
    call.gaps = report.gaps(found, words=bedside.plain)
    call.gaps += [report.lost(source, words=bedside.plain) for source in not_asked(plan, facts=facts)]
    return 200


def _drafts(call: Call, *, bedside: Bedside) -> Sequence[Draft]:
    return drafts.fill(
        bedside.templates,
        patient_id=call.patient_id,
        encounter_id=call.request.context.encounter_id,
        now=call.now,
        zone=call.caller.tenant.zone,
    )


def not_evaluated(call: Call, lost: Sequence[Source], *, bedside: Bedside, source_url: str | None) -> int:
    """Nothing at all could be looked at: 412, or a card where the client is switched to it (reading 7)."""
    call.outcome, call.way, call.lost = "not-evaluated", "not-evaluated", tuple(lost)
    call.gaps = [report.lost(source, words=bedside.plain) for source in lost]
    if "not-evaluated-as-card" not in call.caller.modes:
        return 412
    call.cards = (card_frame.notice("not_evaluated", words=bedside.words, decision=call.id, source_url=source_url),)
    return 200


def mismatch(call: Call, what: str, *, bedside: Bedside, source_url: str | None) -> int:
    """Another patient's Patient, or orders: the one card, and nothing evaluated (readings 3.14 and 7)."""
    call.outcome, call.verdicts = "identity-mismatch", {}
    call.way = "assessed" if what == "Patient" else "other-patient"
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
