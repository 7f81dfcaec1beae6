"""Codes that nobody has mapped and whose names look like something that the rules need.

A likeness is a question to a person. It is found by words (`words.toml`), counted by code, and never maps anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from app.doctor import codes, words
from fhir_mappings import observations, units
from fhir_mappings.coding import CodeableConcept, Coding, key
from fhir_mappings.facts import Facts, MedicationUse, Overlay
from fhir_mappings.words import Screen

MOST_OTHERS: Final = 200
"""Unmapped codes without a likeness that are listed; the rest is counted."""

_LONGEST_CODE: Final = 200


@dataclass(frozen=True, slots=True)
class LookAlike:
    """One unmapped code. `like` are the names that the overlay would use: concepts of results or problems, drugs.

    `mark` is `system|code` as the overlay writes it, '' where it cannot: without a system, or with characters that have
    no place in a code. `fits`: every unit seen is accepted for every concept it is like. `kind` is the table of the
    overlay that would take it: codes, products or conditions.
    """

    kind: str
    element: str
    mark: str
    display: str
    like: tuple[str, ...]
    count: int
    units: tuple[tuple[str, int], ...] = ()
    fits: bool = False


@dataclass(slots=True)
class _Tally:
    element: str
    count: int = 0
    displays: Counter[str] = field(default_factory=Counter)
    units: Counter[str] = field(default_factory=Counter)
    raw_units: set[str] = field(default_factory=set)
    like: set[str] = field(default_factory=set)


class LookAlikes:
    """Counts over all examined patients."""

    def __init__(self, overlay: Overlay) -> None:
        self._overlay = overlay
        self._seen: dict[tuple[str, str, str], _Tally] = {}
        self.uncoded: Counter[str] = Counter()

    def add_observations(self, raws: Iterable[bytes]) -> None:
        """Observations of one patient, each once."""
        for raw in raws:
            for node in codes.nodes(raw)[1]:
                coding = node.code.coding
                if any(codes.concept_of(one, overlay=self._overlay) for one in coding):
                    continue
                like = _like(*(one.display for one in coding), node.code.text)
                if not any(one.code for one in coding):
                    self.uncoded.update(like)
                    continue
                tally = self._tally("codes", node.element, node.code, like)
                if node.unit or not node.typed:
                    tally.units[words.unit(node.unit)] += 1
                    tally.raw_units.add(node.unit)

    def add_medications(self, facts: Facts, raws: Iterable[bytes]) -> None:
        """What the mapping made of the medications: a name without a code it knows, or nothing at all."""
        named = codes.medications(raws)
        for use in facts.medications:
            if use.identity == "code" and not use.possibly:
                continue
            if not use.possibly and use.identity == "text":
                continue  # its words name no drug that matters: a line on a card, no question
            concept = named.get(use.reference)
            if concept is None or not any(one.code for one in concept.coding):
                self.uncoded.update(use.possibly or ("a medication without code",))
                continue
            self._tally("products", _medication_element(use), concept, use.possibly)

    def add_conditions(self, facts: Facts, raws: Iterable[bytes]) -> None:
        """Active problems that are known by their words only."""
        named = codes.coded(raws)
        for gap in facts.gaps:
            if gap.why != "condition-text-only":
                continue
            concept = named.get(gap.reference)
            if concept is None or not any(one.code for one in concept.coding):
                self.uncoded.update((gap.concept or "a problem without code",))
            else:
                self._tally("conditions", "Condition.code", concept, (gap.concept,) if gap.concept else ())

    def _tally(self, kind: str, element: str, concept: CodeableConcept, like: Iterable[str]) -> _Tally:
        coding = next(one for one in concept.coding if one.code)
        tally = self._seen.setdefault((kind, coding.system, coding.code), _Tally(element))
        tally.count += 1
        # A text beside the codes is not shown: it may be what somebody typed at the bedside.
        tally.displays[words.name(coding.display)] += 1
        tally.like.update(like)
        return tally

    def found(self) -> tuple[LookAlike, ...]:
        """The likenesses: what a person is asked about first comes first."""
        every = [self._one(kind, Coding(*code), tally) for (kind, *code), tally in self._seen.items()]
        listed = [one for one in every if one.like or one.kind == "products"]
        return tuple(
            sorted(listed, key=lambda one: (one.kind, not one.like, one.like, not one.fits, -one.count, one.mark))
        )

    def others(self) -> tuple[LookAlike, ...]:
        """Unmapped codes of Observations that look like nothing here, the commonest first."""
        every = [
            self._one(kind, Coding(*code), tally)
            for (kind, *code), tally in self._seen.items()
            if kind == "codes" and not tally.like
        ]
        return tuple(sorted(every, key=lambda one: (-one.count, one.mark)))

    @staticmethod
    def _one(kind: str, coding: Coding, tally: _Tally) -> LookAlike:
        like = tuple(sorted(tally.like))
        return LookAlike(
            kind=kind,
            element=tally.element,
            mark=writable(coding),
            display=tally.displays.most_common(1)[0][0],
            like=like,
            count=tally.count,
            units=tuple(tally.units.most_common(5)),
            fits=bool(like) and kind == "codes" and all(_accepts(name, tally.raw_units) for name in like),
        )


def writable(coding: Coding) -> str:
    """`system|code` for the overlay, or '' when it has no such form."""
    mark = key(coding)
    plain = mark.isprintable() and "|" not in coding.code and len(mark) <= _LONGEST_CODE
    return mark if plain and coding.system and coding.code else ""


def _medication_element(use: MedicationUse) -> str:
    return f"{use.reference.partition('/')[0]}.medication"


@cache
def _screens() -> tuple[Screen, Screen]:
    table = words.load("words.toml")
    return (
        Screen({name: entry["words"] for name, entry in table.items()}),
        Screen({name: entry["unless"] for name, entry in table.items() if "unless" in entry}),
    )


def _like(*texts: str) -> set[str]:
    """The concepts that these names look like."""
    wanted, unwanted = _screens()
    whole = " ".join(text[:_LONGEST_CODE] for text in texts)
    return set().union(*(wanted.find(text[:_LONGEST_CODE]) for text in texts)) - unwanted.find(whole)


def _accepts(concept: str, seen: set[str]) -> bool:
    """True when the units seen can be read for this concept; a coded concept has none."""
    known = observations.concepts()[concept]
    if not known.quantity:
        return seen <= {""}
    return bool(seen) and all(unit and units.row_of(known.quantity, unit) is not None for unit in seen)
