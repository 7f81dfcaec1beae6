"""ECMO, ventilation, prone position, dialysis, transplant and airway procedures as `Procedure` facts.

Status and times are carried as recorded; whether a procedure still runs is a question of reading 3.10 and asked in the
clinical core.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import msgspec

from fhir_mappings import codebook, unreadable
from fhir_mappings.coding import CodeableConcept, key
from fhir_mappings.conditions import label_of, read_implied, status_of
from fhir_mappings.context import Context
from fhir_mappings.errors import BadCodebook
from fhir_mappings.facts import Gap, Procedure, When
from fhir_mappings.words import Screen

_NOT_CONCEPTS = frozenset({"implies", "devices", "words"})
_NEVER_HAPPENED = frozenset({"entered-in-error", "preparation"})
_STATUSES = frozenset({"in-progress", "completed", "stopped", "on-hold", "not-done"})


class _Period(msgspec.Struct):
    start: str | None = None
    end: str | None = None


class _Procedure(msgspec.Struct):
    resourceType: str = ""  # noqa: N815
    id: str = ""
    status: str = ""
    code: CodeableConcept | None = None
    performedDateTime: str | None = None  # noqa: N815
    performedPeriod: _Period | None = None  # noqa: N815
    usedCode: tuple[CodeableConcept, ...] | CodeableConcept = ()  # noqa: N815


class _Named(msgspec.Struct):
    """What is still asked of a Procedure that cannot be read as a whole."""

    id: str = ""
    status: str = ""
    code: CodeableConcept | None = None


_procedure = msgspec.json.Decoder(_Procedure)
_named = msgspec.json.Decoder(_Named)


@dataclass(frozen=True, slots=True)
class Knowledge:
    """`concepts/procedures.toml`, turned into look-ups."""

    book: codebook.Codebook
    names: tuple[str, ...]
    implied: Mapping[str, tuple[str, ...]]
    devices: Mapping[str, str]
    manner: Screen
    unknown: Screen


def read_knowledge(book: codebook.Codebook) -> Knowledge:
    """The look-ups of a procedure book. Raises BadCodebook for a device whose concept has no table."""
    devices = {code: row["concept"] for code, row in book.tables.get("devices", {}).items()}
    for code, concept in devices.items():
        if concept not in book.tables:
            raise BadCodebook(f"concepts/{book.name}.toml: [devices] {code}: no table [{concept}]")
    spoken = {name: found for name, found in book.tables.get("words", {}).items() if name != "source"}
    manner: dict[str, list[str]] = {name: spoken.pop(name, []) for name in ("invasive", "non-invasive")}
    return Knowledge(
        book=book,
        names=tuple(name for name in book.tables if name not in _NOT_CONCEPTS),
        implied=read_implied(book),
        devices=devices,
        manner=Screen(manner),
        unknown=Screen(spoken),
    )


@cache
def _knowledge() -> Knowledge:
    return read_knowledge(codebook.load("procedures"))


def concept_names() -> tuple[str, ...]:
    """Every concept that a Procedure may carry: what rules may ask for."""
    return _knowledge().names


def collect(raws: Sequence[tuple[str, bytes]], *, context: Context) -> tuple[tuple[Procedure, ...], tuple[Gap, ...]]:
    """Procedure facts of the kinds that rules look for; `entered-in-error` and `preparation` never happened.

    Gaps, with the concept whose absence cannot be concluded (`ecmo` for every kind of it): `unreadable-resource` (none
    where its code cannot be read either), `status-unknown` (status), `future-date`, and
    `procedure-text-only` (label) for words or an unverified code without a known one.
    """
    facts: list[Procedure] = []
    gaps: list[Gap] = []
    for source, raw in raws:
        try:
            resource = _procedure.decode(raw)
        except (msgspec.MsgspecError, ValueError):
            gaps.extend(_unreadable(source, raw, context=context))
            continue
        fact, found = _read(source, resource, context=context)
        gaps.extend(found)
        if fact is not None:
            facts.append(fact)
    return tuple(facts), tuple(gaps)


def _unreadable(source: str, raw: bytes, *, context: Context) -> list[Gap]:
    """The gaps of a Procedure of the wrong shape: by what its code or words say it is; none for another kind."""
    whole = unreadable.gap(source, raw)
    try:
        resource = _named.decode(raw)
    except (msgspec.MsgspecError, ValueError):
        return [whole]
    code = resource.code or CodeableConcept()
    if status_of(resource.status) in _NEVER_HAPPENED:
        return []
    if not any(coding.code for coding in code.coding) and not _texts(code):
        return [whole]
    certain, doubtful = _concepts(code, resource=_Procedure(), context=context)
    spoken = set().union(*(_knowledge().unknown.find(text) for text in _texts(code)))
    families = {_family(name) for name in (*certain, *doubtful)} | (set() if certain else spoken)
    return [replace(whole, concept=name) for name in sorted(families)]


def _read(source: str, resource: _Procedure, *, context: Context) -> tuple[Procedure | None, list[Gap]]:
    status = status_of(resource.status)
    if status in _NEVER_HAPPENED:
        return None, []
    reference = f"Procedure/{resource.id}"
    code = resource.code or CodeableConcept()
    concepts, doubtful = _concepts(code, resource=resource, context=context)
    start, end = _times(resource, context=context)
    label = label_of(code)
    if not concepts:
        if status == "not-done":
            return None, []
        spoken = set().union(*(_knowledge().unknown.find(text) for text in _texts(code)))
        named = sorted(spoken | {_family(name) for name in doubtful})
        params = (("label", label),)
        return None, [Gap(source, "procedure-text-only", name, reference, start, params=params) for name in named]
    families = tuple(dict.fromkeys(_family(name) for name in concepts))
    if status not in _STATUSES:
        params = (("status", status),)
        return None, [Gap(source, "status-unknown", name, reference, start, params=params) for name in families]
    if start is not None and context.is_future(start):
        return None, [Gap(source, "future-date", name, reference, start) for name in families]
    return Procedure(reference=reference, concepts=concepts, status=status, start=start, end=end, label=label), []


def _family(concept: str) -> str:
    return "ecmo" if concept.startswith("ecmo-") else concept


def _times(resource: _Procedure, *, context: Context) -> tuple[When | None, When | None]:
    """A single time is the start; a time withheld by an extension (`_performedDateTime`) is none."""
    period = resource.performedPeriod
    if period is None:
        return context.when(resource.performedDateTime), None
    return context.when(period.start), context.when(period.end)


def _concepts(
    code: CodeableConcept, *, resource: _Procedure, context: Context
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What it is for certain, with what that implies, and what an unverified code suggests."""
    knowledge = _knowledge()
    certain: dict[str, None] = {}
    doubtful: dict[str, None] = {}
    for coding in code.coding:
        local, _ = context.overlay.codes.get(key(coding), ("", ""))
        found = knowledge.book.find(coding)
        if local in knowledge.names:
            certain[local] = None
        elif found is not None:
            (certain if found.verified else doubtful)[found.concept] = None
    if "ventilation" in certain or "prone-ventilation" in certain:
        certain.update(dict.fromkeys(_manner(code, resource=resource)))
    for name in tuple(certain):
        certain.update(dict.fromkeys(knowledge.implied.get(name, ())))
    return tuple(certain), tuple(doubtful)


def _manner(code: CodeableConcept, *, resource: _Procedure) -> set[str]:
    """How a ventilation is done whose code leaves it open: by the device used, else by the words.

    "Non-invasive" holds the word "invasive", so the words that deny it are taken out first.
    """
    knowledge = _knowledge()
    used = resource.usedCode if isinstance(resource.usedCode, tuple) else (resource.usedCode,)
    found = {knowledge.devices[key(c)] for u in used for c in u.coding if key(c) in knowledge.devices}
    if found:
        return found
    spoken = set().union(*(knowledge.manner.find(text) for text in _texts(code)))
    if "non-invasive" in spoken:
        return {"niv"}
    return {"ventilation-invasive"} if "invasive" in spoken else set()


def _texts(code: CodeableConcept) -> tuple[str, ...]:
    return tuple(text for text in (code.text, *(coding.display for coding in code.coding)) if text)
