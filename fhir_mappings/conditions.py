"""Problems and diagnoses as `Condition` facts: which groups of `concepts/conditions.toml` their codes belong to.

Only codes count; the words of what no known code names are screened for the groups that rules look for, and a match is
a question. What was refuted, or is over, is a fact too: the reader decides by `Condition.active`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import msgspec

from fhir_mappings import codebook, unreadable
from fhir_mappings.coding import CodeableConcept, key, system_name
from fhir_mappings.context import Context
from fhir_mappings.errors import BadCodebook
from fhir_mappings.facts import Condition, Gap
from fhir_mappings.mentions import Mentions

_NOT_CONCEPTS = frozenset({"implies", "text-screen"})


class _Period(msgspec.Struct):
    start: str | None = None
    end: str | None = None


class _Condition(msgspec.Struct):
    resourceType: str = ""  # noqa: N815
    id: str = ""
    clinicalStatus: CodeableConcept | str | None = None  # noqa: N815
    verificationStatus: CodeableConcept | str | None = None  # noqa: N815
    code: CodeableConcept | None = None
    onsetDateTime: str | None = None  # noqa: N815
    onsetPeriod: _Period | None = None  # noqa: N815
    abatementDateTime: str | None = None  # noqa: N815
    abatementPeriod: _Period | None = None  # noqa: N815
    abatementString: Any = None  # noqa: N815
    abatementAge: Any = None  # noqa: N815
    abatementRange: Any = None  # noqa: N815
    recordedDate: str | None = None  # noqa: N815


_condition = msgspec.json.Decoder(_Condition)


def read_implied(book: codebook.Codebook) -> Mapping[str, tuple[str, ...]]:
    """Concept -> what it also says. Raises BadCodebook for a name that has no table."""
    implied: dict[str, tuple[str, ...]] = {}
    for concept, also in book.tables.get("implies", {}).items():
        for name in (concept, *also):
            if name not in book.tables:
                raise BadCodebook(f"concepts/{book.name}.toml: [implies] {concept}: no table [{name}]")
        implied[concept] = tuple(also)
    return implied


@cache
def _knowledge() -> tuple[codebook.Codebook, Mapping[str, tuple[str, ...]]]:
    book = codebook.load("conditions")
    return book, read_implied(book)


@cache
def _mentions() -> Mentions:
    tables = _knowledge()[0].tables
    screen = tables["text-screen"]
    return Mentions(
        {name: tables[name].get("words", ()) for name in concept_names()},
        denials=screen["denials"],
        past=screen["past"],
        fillers=screen["fillers"],
        lasting=[name for name in concept_names() if tables[name].get("lasting")],
    )


def concept_names() -> tuple[str, ...]:
    """Every concept that a Condition may carry from the shipped book: what rules may ask for."""
    return tuple(name for name in _knowledge()[0].tables if name not in _NOT_CONCEPTS)


def concepts_of(concept: CodeableConcept, *, context: Context) -> tuple[str, ...]:
    """The groups that any coding belongs to, the site's own first, each followed by what it implies."""
    book, implied = _knowledge()
    found: dict[str, None] = {}
    for coding in concept.coding:
        names = list(context.overlay.conditions.get(key(coding), ()))
        code = book.find(coding)
        if code is not None:
            names.append(code.concept)
        for name in names:
            found[name] = None
            found.update(dict.fromkeys(implied.get(name, ())))
    return tuple(found)


def _possible(texts: Sequence[str]) -> tuple[str, ...]:
    """The groups that words name, with what these imply."""
    implied = _knowledge()[1]
    found = set().union(*(_mentions().find(text) for text in texts))
    return tuple(sorted(found.union(*(implied.get(name, ()) for name in found))))


def _texts(concept: CodeableConcept) -> tuple[str, ...]:
    return tuple(text for text in (concept.text, *(coding.display for coding in concept.coding)) if text)


def label_of(concept: CodeableConcept | None) -> str:
    """What the record calls it: the text, else a display, else a code."""
    if concept is None:
        return ""
    if concept.text:
        return concept.text
    displays = [coding.display for coding in concept.coding if coding.display]
    codes = [coding.code for coding in concept.coding if coding.code]
    return next(iter(displays + codes), "")


def status_of(status: CodeableConcept | str | None) -> str:
    """The FHIR code of a status, lower case, '' when absent; a plain string is what older servers send."""
    if status is None:
        return ""
    if isinstance(status, str):
        return status.strip().lower()
    code = next((coding.code for coding in status.coding if coding.code), status.text)
    return code.strip().lower()


def collect(raws: Sequence[tuple[str, bytes]], *, context: Context) -> tuple[tuple[Condition, ...], tuple[Gap, ...]]:
    """Condition facts of the groups that rules look for; other diagnoses are no facts.

    Gaps: `unreadable-resource`; `condition-text-only` (label) for an active one that no known code puts into a group:
    with the concept for each group that its words name, and without one where there are neither words nor a SNOMED CT
    or ICD-10 code, so that it may be anything. Other words are another disease.
    """
    facts: list[Condition] = []
    gaps: list[Gap] = []
    for source, raw in raws:
        try:
            resource = _condition.decode(raw)
        except (msgspec.MsgspecError, ValueError):
            gaps.append(unreadable.gap(source, raw))
            continue
        code = resource.code or CodeableConcept()
        concepts = concepts_of(code, context=context)
        fact = _fact(resource, concepts=concepts, context=context)
        if concepts:
            facts.append(fact)
        elif fact.active:
            gaps.extend(_doubts(source, code, fact))
    return tuple(facts), tuple(gaps)


def _doubts(source: str, code: CodeableConcept, fact: Condition) -> list[Gap]:
    """What an active Condition in no group may be; nothing for a disease that no rule looks for."""
    params = (("label", fact.label),)
    texts = _texts(code)
    named = _possible(texts)
    coded = any(c.code and system_name(c.system) in {"snomed", "icd10"} for c in code.coding)
    if not named and (coded or texts):
        return []
    return [Gap(source, "condition-text-only", name, fact.reference, params=params) for name in named or ("",)]


def _fact(resource: _Condition, *, concepts: tuple[str, ...], context: Context) -> Condition:
    onset, abatement = resource.onsetPeriod, resource.abatementPeriod
    clinical = status_of(resource.clinicalStatus)
    undated_end = (resource.abatementString, resource.abatementAge, resource.abatementRange)
    if not clinical and any(end is not None for end in undated_end):
        # An end in words or as an age cannot be put on the calendar, but it is an end.
        clinical = "resolved"
    return Condition(
        reference=f"Condition/{resource.id}",
        concepts=concepts,
        clinical=clinical,
        verification=status_of(resource.verificationStatus),
        onset=context.when(resource.onsetDateTime or (onset.start if onset else None)),
        abatement=context.when(resource.abatementDateTime or (abatement.end if abatement else None)),
        recorded=context.when(resource.recordedDate),
        label=label_of(resource.code),
    )
