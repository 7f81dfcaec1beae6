"""Vaccines that were given, as `Immunization` facts: all of them, since one whose code nobody knows may be live."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import msgspec

from fhir_mappings import codebook, unreadable
from fhir_mappings.coding import CodeableConcept, Coding, system_name
from fhir_mappings.conditions import label_of, status_of
from fhir_mappings.context import Context
from fhir_mappings.facts import Gap, Immunization
from fhir_mappings.words import Screen

_NOT_GIVEN = frozenset({"not-done", "entered-in-error"})


class _Immunization(msgspec.Struct):
    resourceType: str = ""  # noqa: N815
    id: str = ""
    status: str = ""
    vaccineCode: CodeableConcept | None = None  # noqa: N815
    occurrenceDateTime: str | None = None  # noqa: N815


_immunization = msgspec.json.Decoder(_Immunization)


def collect(raws: Sequence[tuple[str, bytes]], *, context: Context) -> tuple[tuple[Immunization, ...], tuple[Gap, ...]]:
    """One fact for each completed vaccination; without a usable date (`occurrenceString`) `when` is None.

    Gaps: `unreadable-resource`, `status-unknown` (status), `future-date`.
    """
    facts: list[Immunization] = []
    gaps: list[Gap] = []
    for source, raw in raws:
        try:
            resource = _immunization.decode(raw)
        except (msgspec.MsgspecError, ValueError):
            gaps.append(unreadable.gap(source, raw))
            continue
        status = status_of(resource.status)
        if status in _NOT_GIVEN:
            continue
        reference = f"Immunization/{resource.id}"
        if status != "completed":
            gaps.append(Gap(source, "status-unknown", reference=reference, params=(("status", status),)))
            continue
        when = context.when(resource.occurrenceDateTime)
        if when is not None and context.is_future(when):
            gaps.append(Gap(source, "future-date", reference=reference, when=when))
            continue
        facts.append(
            Immunization(
                reference=reference,
                live=is_live(resource.vaccineCode or CodeableConcept()),
                when=when,
                label=label_of(resource.vaccineCode),
            )
        )
    return tuple(facts), tuple(gaps)


def is_live(vaccine: CodeableConcept) -> bool | None:
    """True if any coding is a live vaccine, else False if any is known not to be live, else None."""
    book = codebook.load("vaccines")
    found: set[bool | None] = set()
    for coding in vaccine.coding:
        code = book.find(_padded(coding))
        if code is not None and code.verified:
            found.add({"live": True, "not-live": False}.get(code.concept))
    if True in found:
        return True
    return False if False in found else None


def names_live(text: str) -> bool:
    """Whether words name a live vaccine: they raise a question and establish nothing (reading 3.11)."""
    return bool(_screen().find(text))


@cache
def _screen() -> Screen:
    return Screen({"live": codebook.load("vaccines").tables["live"]["names"]})


def _padded(coding: Coding) -> Coding:
    """CVX codes as numbers have lost their leading zero."""
    if len(coding.code) == 1 and system_name(coding.system) == "cvx":
        return Coding(system=coding.system, code=f"0{coding.code}")
    return coding
