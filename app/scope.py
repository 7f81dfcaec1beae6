"""Scope first: a few reads that decide whether the others are needed at all.

A hospital fires hooks for far more patients who are out of scope than for those who are in. Where the site has chosen
`gather = "scope-first"`, the patient, what scope is decided by (SARS-CoV-2, CRP, ferritin, Conditions) and the study
drugs (orders, statements, administrations) are read first. When the table of cards then says that nothing is shown
(reading 5: out of scope, known not met, known not the population) and no study drug is on record, no other source can
change that: so they are not read. In every other case, and in every doubt, everything is read as always, and what was
read already is not asked again.

Administrations are asked for by code, which does not see one whose medication is a reference. So a page of the newest
shows how this server writes them; where one of them refers, all of the look-back are read before silence is certain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from app.clinical.assessment import NOT_THIS_PATIENT, Assessment, assess
from app.clinical.course import STUDY_DRUGS
from app.clinical.knowledge import Knowledge, Row
from app.gateway.access import Access
from app.gateway.budget import Budget
from app.gateway.fhir import Gateway
from app.gather import MEDICATIONS, Gathered, gather, given
from app.plan import Need, without_codes
from fhir_mappings import mapping
from fhir_mappings.context import Context
from fhir_mappings.facts import Facts, Source
from fhir_mappings.mapping import Part

_LABS = "labs"
_ADMINISTRATIONS = "administrations"


@dataclass(frozen=True, slots=True)
class Looked:
    """What the first reads brought. `silent`: the row of the table that shows no card, when that is certain."""

    gathered: Gathered
    facts: Facts = field(repr=False)
    found: Assessment = field(repr=False)
    silent: Row | None = None


async def look(
    *,
    plan: Sequence[Need],
    first: tuple[Need, Need, Need],
    absent: Sequence[Part] = (),
    prefetch: Mapping[str, bytes] | None,
    base: str,
    access: Access,
    gateway: Gateway,
    patient_id: str,
    budget: Budget,
    context: Context,
    knowledge: Knowledge,
    silenced: frozenset[str] = frozenset(),
) -> Looked:
    """Read first what decides.

    `first` are the needs of `plan.scope_first`; `absent` are the parts of what this site does not have, whose types
    are not asked for. What the client sent whole is not read.
    """
    inflammation, drugs, newest = first

    async def read(*asked: Need, known: Gathered | None = None) -> Gathered:
        return await gather(
            plan=asked,
            prefetch=prefetch,
            base=base,
            access=access,
            gateway=gateway,
            patient_id=patient_id,
            now=context.now,
            budget=budget,
            known=known,
            trusting=True,
        )

    def looked(gathered: Gathered, *needs: Need) -> Looked:
        facts = mapping.to_facts((*_as_planned(gathered), *absent), patient_id=patient_id, context=context)
        found = assess(facts, knowledge=knowledge, now=context.now, silenced=silenced)
        complete = all(
            gathered.answered(key) for key in (*(need.key for need in needs if need is not newest), MEDICATIONS)
        )
        certain = complete and not _treated(facts) and not _doubtful(facts)
        return Looked(gathered, facts, found, found.row if certain and found.row.card == "none" else None)

    wanted = [need for need in plan if need.stage == 1]
    sent = {need.key: need for need in plan if given(need, prefetch, now=context.now)}
    wanted.append(sent.get(_LABS, inflammation))
    wanted += [sent[_ADMINISTRATIONS]] if _ADMINISTRATIONS in sent else [drugs, newest]
    gone = {part.source.resource_type for part in absent}
    needs = [need for need in wanted if need.resource_type not in gone]
    answer = looked(await read(*needs), *needs)
    if answer.silent is None or newest not in needs:
        return answer
    if answer.gathered.came(newest.key) and not answer.gathered.refers(newest.key):
        return answer
    whole = [without_codes(need) if need is drugs else need for need in needs]
    return looked(await read(*whole, known=answer.gathered.without(drugs.key)), *whole)


def not_asked(plan: Sequence[Need], *, facts: Facts) -> list[Source]:
    """The sources of the plan that nobody looked into, for the answer and the record."""
    read = {source.key for source in facts.sources}
    return [Source(need.key, need.resource_type, "failed", "not-asked") for need in plan if need.key not in read]


def _as_planned(gathered: Gathered) -> tuple[Part, ...]:
    """The parts, with CRP and ferritin under the name that the rules ask by, and the one page as all it was to be."""
    return tuple(_renamed(part) for part in gathered.parts)


def _renamed(part: Part) -> Part:
    source = part.source
    if source.key == "inflammation":
        return replace(part, source=replace(source, key=_LABS))
    if source.key == "newest-administrations" and source.outcome == "partial":
        return replace(part, source=replace(source, outcome="ok", why="", params=()))
    return part


def _treated(facts: Facts) -> bool:
    """Whether a study drug is on record in any way: a treated patient is never out of scope."""
    return any(not set(STUDY_DRUGS).isdisjoint((*use.ingredients, *use.possibly)) for use in facts.medications)


def _doubtful(facts: Facts) -> bool:
    """Whether something may be about another patient."""
    return facts.identity_mismatch or any(gap.why in NOT_THIS_PATIENT for gap in facts.gaps)
