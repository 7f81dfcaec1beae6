"""Scope first: a few reads that decide whether the others are needed at all.

A hospital fires hooks for far more patients who are out of scope than for those who are in. Where the site has chosen
`gather = "scope-first"`, the results that scope is decided by (SARS-CoV-2, CRP, ferritin, Conditions) and the study
drugs (orders, statements, administrations) are read first. When the table of cards then says that nothing is shown
(reading 5: out of scope, known not met, known not the population) and no study drug is on record, no other source can
change that: so they are not read. In every other case, and in every doubt, everything is read as always, and what was
read already is not asked again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from app.clinical.assessment import NOT_THIS_PATIENT, STUDY_DRUGS, Assessment, assess
from app.clinical.knowledge import Knowledge, Row
from app.gateway.access import Access
from app.gateway.budget import Budget
from app.gateway.fhir import Gateway
from app.gather import MEDICATIONS, Gathered, gather
from app.plan import PATIENT, Need, without_codes
from fhir_mappings import mapping
from fhir_mappings.context import Context
from fhir_mappings.facts import Facts, Source
from fhir_mappings.mapping import Part

_LISTS = ("conditions", "orders", "statements")
"""Needs of the whole plan that are read first."""

_RESULTS = ("labs", "virology")
"""Needs of the whole plan that the search `scope` stands in for."""


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
    first: tuple[Need, Need],
    prefetch: Mapping[str, bytes] | None,
    base: str,
    access: Access,
    gateway: Gateway,
    patient_id: str,
    budget: Budget,
    context: Context,
    knowledge: Knowledge,
) -> Looked:
    """Read first what decides. `first` are the two needs of `plan.scope_first`; what the client sent is not read."""
    results, drugs = first
    values = prefetch or {}
    needs = [need for need in plan if need.key in _LISTS or (need.key == PATIENT and PATIENT in values)]
    needs += [need for need in plan if need.key in _RESULTS] if set(_RESULTS) <= set(values) else [results]
    needs += [need for need in plan if need.key == "administrations"] if "administrations" in values else [drugs]

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
        )

    gathered = await read(*needs)
    if drugs in needs and not any(gathered.resources(need.key) for need in needs if need.resource_type in _STYLED):
        # Nothing shows whether this server writes medications inline, where a search by code sees them.
        whole = without_codes(drugs)
        gathered = await read(*(whole if need is drugs else need for need in needs), known=gathered.without(drugs.key))
    facts = mapping.to_facts(_as_planned(gathered), patient_id=patient_id, context=context)
    complete = all(gathered.answered(key) for key in (*(need.key for need in needs), MEDICATIONS))
    certain = complete and not _treated(facts) and not _doubtful(facts)
    found = assess(facts, knowledge=knowledge, now=context.now)
    return Looked(gathered, facts, found, found.row if certain and found.row.card == "none" else None)


_STYLED = frozenset({"MedicationRequest", "MedicationAdministration", "MedicationStatement"})


def not_asked(plan: Sequence[Need], *, looked: Looked) -> list[Source]:
    """The sources of the plan that nobody looked into, for the answer and the record."""
    read = {source.key for source in looked.facts.sources}
    return [Source(need.key, need.resource_type, "failed", "not-asked") for need in plan if need.key not in read]


def _as_planned(gathered: Gathered) -> tuple[Part, ...]:
    """The parts, with the results of the search `scope` under the names that the rules ask by."""
    parts: list[Part] = []
    for part in gathered.parts:
        if part.source.key == "scope":
            parts += [replace(part, source=replace(part.source, key=key)) for key in _RESULTS[1:]]
            parts.append(Part(replace(part.source, key=_RESULTS[0])))
        else:
            parts.append(part)
    return tuple(parts)


def _treated(facts: Facts) -> bool:
    """Whether a study drug is on record in any way: a treated patient is never out of scope."""
    return any(not set(STUDY_DRUGS).isdisjoint((*use.ingredients, *use.possibly)) for use in facts.medications)


def _doubtful(facts: Facts) -> bool:
    """Whether something may be about another patient: the Patient, which was not read, would tell."""
    return facts.identity_mismatch or any(gap.why in NOT_THIS_PATIENT for gap in facts.gaps)
