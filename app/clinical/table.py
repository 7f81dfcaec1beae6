"""Who gets which card, and what takes the suggestion away (readings 4 and 5).

The rows are data (`app/protocols/shared/patient_view.toml`); here are the words they may use. Order hooks and
follow-up add rows and words, not another table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from app.clinical.findings import Finding
from app.clinical.knowledge import Row
from app.clinical.reading import Note, Reading, Reason
from app.clinical.results import ProtocolResult, SafetyResult


@dataclass(frozen=True, slots=True)
class Situation:
    """What the table looks at."""

    simple: ProtocolResult
    full: ProtocolResult
    safety: tuple[SafetyResult, ...]
    required: tuple[tuple[str, Reading], ...]
    study_drugs: tuple[tuple[str, Reading], ...]
    deceased: bool
    course: bool
    suggest_on: str
    invasive: Reading
    comfort_care: Reading
    other_patient: bool
    not_measured: frozenset[str]
    receives: bool


def _population(situation: Situation) -> set[Finding]:
    return {situation.full.finding_of("P-AGE"), situation.full.finding_of("P-COVID")}


CONDITIONS: Mapping[str, Callable[[Situation], bool]] = MappingProxyType(
    {
        "deceased": lambda s: s.deceased,
        "course-running": lambda s: s.course,
        "population-not-met": lambda s: Finding.NOT_MET in _population(s),
        "population-unknown": lambda s: Finding.UNKNOWN in _population(s),
        "rescue-not-met": lambda s: s.full.finding_of("P-RESCUE") is Finding.NOT_MET,
        "simple-met": lambda s: s.simple.verdict is Finding.MET,
        "simple-not-met": lambda s: s.simple.verdict is Finding.NOT_MET,
        "simple-unknown": lambda s: s.simple.verdict is Finding.UNKNOWN,
        "scope-not-out": lambda s: s.simple.scope != "out",
    }
)


def matching_row(rows: tuple[Row, ...], situation: Situation) -> Row:
    """The first row all of whose conditions hold; the last row has none, so there is always one."""
    return next(row for row in rows if all(CONDITIONS[name](situation) for name in row.when))


EVERYTHING = "all"
"""In place of a protocol's id: the site has silenced whatever would be shown."""

FOLLOW_UP = "pilot-followup"
"""Speaks to a patient whose course is running; all other rows are those of the two pilot protocols."""

_ELIGIBILITY = frozenset({"pilot-simple", "pilot-full"})


def speaking(row: Row) -> frozenset[str]:
    """The protocols that a row speaks of."""
    return frozenset({FOLLOW_UP}) if row.outcome == "follow-up" else _ELIGIBILITY


def silenced_row(row: Row, silenced: frozenset[str]) -> Row:
    """The row without its card and its suggestion where the site has silenced a protocol that it speaks of.

    Either pilot protocol takes the card away, because the card is made of both. What is present in a patient who
    receives the drugs is no protocol's: its safety card stays, unless everything is silenced.
    """
    if silenced.isdisjoint(speaking(row) | {EVERYTHING}):
        return row
    return replace(row, card="none", suggestions=False, outcome="disabled")


def withheld(situation: Situation) -> tuple[Reason, ...]:
    """Every reason why no suggestion may be made although the row would allow one (reading 4)."""
    return tuple(dict.fromkeys(_withheld(situation)))


def is_withheld(situation: Situation) -> bool:
    """Whether there is any such reason; looks no further than the first."""
    return next(_withheld(situation), None) is not None


def _withheld(s: Situation) -> Iterator[Reason]:
    for drug, reading in s.study_drugs:
        if reading.state == "present":
            yield Reason.of("already-on-study-drug", drug=drug)
        elif not reading.known and not _absent_at_site(reading):
            yield Reason.of("study-drug-unknown", drug=drug)
    for name, reading in s.required:
        if _withholds_by_absence(reading, name, s.not_measured):
            yield Reason.of("required-unknown", input=name)
    for result in s.safety:
        if result.withholds:
            present = result.finding is Finding.MET
            yield Reason.of(
                "safety-present" if present else "safety-unknown", id=result.rule.id, title=result.rule.title
            )
    for note in lines(s):
        if note.withholds:
            yield note.reason
    for criterion in s.full.criteria:
        if criterion.finding is Finding.UNKNOWN and criterion.outcome.failed:
            yield Reason.of("criterion-not-read", id=criterion.id, title=criterion.criterion.title)
    if s.suggest_on == "pilot-full" and s.full.verdict is not Finding.MET:
        yield Reason.of("site-asks-for-full-protocol")
    if s.invasive.state != "yes":
        yield Reason.of("no-invasive-ventilation")
    if s.comfort_care.state == "present":
        yield Reason.of("comfort-care")
    elif not s.comfort_care.known and (s.comfort_care.failed or s.comfort_care.unreadable):
        yield Reason.of("comfort-care-unknown")
    if s.other_patient:
        yield Reason.of("other-patient-in-answer")


def _withholds_by_absence(reading: Reading, name: str, not_measured: frozenset[str]) -> bool:
    """A required input that is unknown or doubted, unless the site has signed that it does not have it (reading 4)."""
    if reading.known:
        return reading.displaced
    return not (name in not_measured or _absent_at_site(reading))


def _absent_at_site(reading: Reading) -> bool:
    """Unknown only because the site has signed that its server does not have the source (reading 3.1)."""
    return reading.reason.code == "source-absent"


def to_confirm(s: Situation) -> tuple[Reason, ...]:
    """What a person has to confirm before ordering, the unrecorded organ support first (readings 3.10, 3.15, 4)."""
    found: list[Reason] = []
    severity = next(c for c in s.full.criteria if c.id == "P-SEVERITY")
    found += [n.reason for n in severity.outcome.notes if n.reason.code == "confirm-no-ecmo"]
    dialysis = next(r for r in s.safety if r.rule.id == "CI-RRT")
    if dialysis.finding is Finding.UNKNOWN and not dialysis.unknown_by_failure:
        found.append(Reason.of("confirm-no-dialysis"))
    for name, reading in s.required:
        if not reading.known and not _withholds_by_absence(reading, name, s.not_measured):
            found.append(Reason.of("confirm-not-at-site", input=name))
    if any(_absent_at_site(reading) for _, reading in s.study_drugs):
        found.append(Reason.of("confirm-not-at-site", input="study_drug"))
    said = {"ecmo"} if found and found[0].code == "confirm-no-ecmo" else set()
    for criterion in s.full.criteria:
        if criterion.finding is Finding.UNKNOWN and not criterion.outcome.failed:
            found += [
                Reason.of("confirm-unknown", input=answer.input)
                for answer in criterion.outcome.because
                if answer.finding is Finding.UNKNOWN and answer.input not in said
            ]
    return tuple(dict.fromkeys(found))


def lines(s: Situation) -> tuple[Note, ...]:
    """The notes of every criterion and safety rule, each once."""
    criteria = [n for p in (s.simple, s.full) for c in p.criteria for n in c.outcome.notes]
    safety = [n for r in s.safety for n in r.outcome.notes]
    required = [n for _, r in s.required for n in r.notes]
    return tuple(dict.fromkeys((*criteria, *safety, *required)))


def safety_card(s: Situation, row: Row) -> bool:
    """Whether the one safety card is shown (reading 5)."""
    serious = [r for r in s.safety if r.rule.severity in {"absolute", "relative"}]
    present = [r for r in serious if r.finding is Finding.MET]
    if s.deceased or row.card == "undetermined":
        return False
    if row.card == "thresholds-met":
        required = any(_withholds_by_absence(r, name, s.not_measured) for name, r in s.required)
        return bool(present) or required or any(r.withholds for r in serious)
    if not s.receives:
        return False
    infection = next(r for r in s.safety if r.rule.id == "CI-INFECTION-UNCONTROLLED")
    recorded = any(a.reason.code == "infection-on-record" for a in infection.outcome.because)
    absolute = any(r.rule.severity == "absolute" for r in present)
    speaks = s.simple.scope == "in" or s.course
    return absolute or recorded or (speaks and bool(present))
