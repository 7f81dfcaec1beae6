"""What there is to say of orders that are being written: for the two drugs themselves, and for others beside them.

A draft of anakinra or ruxolitinib meets every contraindication of that drug, the doses and days of the letter, and the
orders that are already there. A draft of another drug matters where it interacts with a study drug that the patient
receives, or that is being drafted too. Nothing here computes a dose for a patient: what a label changes is told, and
the one correction that is offered leads to the letter's dose and its last day, never above what was written.

Drafts that only their words name are checked as if they were what they may be (reading 3.11); every result says so.
Numbers and words stand in `app/protocols/shared/orders.toml` and in the schedules of the follow-up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from types import MappingProxyType
from typing import Literal

from app.clinical.assessment import has_other_patient, is_deceased, required_reading, safety_outcome
from app.clinical.chart import Chart
from app.clinical.course import STUDY_DRUGS, Course, course
from app.clinical.course import scope as course_scope
from app.clinical.criteria import Outcome, evaluate
from app.clinical.findings import Finding
from app.clinical.knowledge import Knowledge, Leaf, OrderCheck, leaves_of
from app.clinical.readers import drugs, read
from app.clinical.reading import Evidence, Reading, Reason, decimal_text
from app.clinical.results import SafetyResult
from fhir_mappings.facts import DraftOrder, Facts, Gap, MedicationUse, Source

Hook = Literal["order-select", "order-sign"]

INTERACTION = "interaction"
"""The rule of the follow-up action whose findings matter when another drug is drafted (FU-INTERACTION)."""

_COVID = Leaf("condition", params={"concepts": "covid19"})
_ORDER = {"absolute": 0, "relative": 1, "monitor": 2}
_SEVERITIES = ("absolute", "warning", "info")
_SHOWN = 5
"""How many orders beside a draft are named as evidence."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A check that speaks of one draft: met, or it could not be determined."""

    check: OrderCheck
    draft: DraftOrder
    finding: Finding
    reason: Reason
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class Correction:
    """What a suggestion may do with one draft: remove it, or lead it to the letter's dose or its last day.

    `daily_mg`, in `per_day` doses, and `last_day` are what it should say in place of what it does; None leaves that as
    it is.
    """

    draft: DraftOrder
    remove: bool = False
    daily_mg: Decimal | None = None
    per_day: int = 1
    last_day: date | None = None


@dataclass(frozen=True, slots=True)
class OrderAssessment:
    """Everything that an order card, and the decision row, say.

    `drafted`: study drugs among the orders that were picked. `received`: whether the patient receives, or is being
    ordered, each study drug. `safety`: what concerns the picked orders, absolute first; `watched` what is only to be
    monitored; `required`: the safety data that are missing or in doubt. `undetermined`: ids of checks that could not
    be made, whether or not a card says so: they are never counted as absent. `all_safety` is every finding, for the
    record.
    """

    now: datetime
    zone: str
    hook: Hook
    orders: tuple[DraftOrder, ...]
    drafted: tuple[str, ...]
    received: Mapping[str, Reading]
    course: Course | None
    safety: tuple[SafetyResult, ...]
    watched: tuple[SafetyResult, ...]
    required: tuple[tuple[str, Reading], ...]
    checks: tuple[Checked, ...]
    undetermined: frozenset[str]
    corrections: tuple[Correction, ...]
    deceased: bool
    gaps: tuple[Gap, ...]
    lost: tuple[Source, ...]
    broader: tuple[Source, ...]
    all_safety: tuple[SafetyResult, ...]
    knowledge: Knowledge

    @property
    def present(self) -> tuple[SafetyResult, ...]:
        """What is present of `safety`."""
        return tuple(s for s in self.safety if s.finding is Finding.MET)

    @property
    def is_absolute(self) -> bool:
        """Whether an absolute contraindication is present."""
        return any(s.rule.severity == "absolute" for s in self.present) or any(
            c.check.severity == "absolute" and c.finding is Finding.MET for c in self.checks
        )

    @property
    def speaks(self) -> bool:
        """Whether there is anything to say at this hook."""
        return bool(self.raises_safety or self.raises_protocol)

    @property
    def raises_safety(self) -> bool:
        """Whether the safety card is shown: something to be monitored raises none while drugs are only picked."""
        if self.deceased:
            return False
        if self.safety or self.required or any(self._raises(c) for c in self.checks if c.check.card == "safety"):
            return True
        return self.hook == "order-sign" and not self.drafted and bool(self.watched)

    @property
    def raises_protocol(self) -> bool:
        """Whether the card about dose, days and duplicates is shown."""
        return not self.deceased and any(self._raises(c) for c in self.checks if c.check.card == "protocol")

    def _raises(self, checked: Checked) -> bool:
        return self.hook in checked.check.speaks_at

    def is_by_text(self, draft: DraftOrder) -> bool:
        """Whether only words, or an unverified code, name the drug that the draft was checked as."""
        return bool(draft.use.possibly)


def ingredients_of(use: MedicationUse) -> frozenset[str]:
    """What a draft is checked as: what codes establish and what words may mean; nothing that acts only locally."""
    return frozenset() if use.systemic is False else frozenset((*use.ingredients, *use.possibly))


def of_concern(knowledge: Knowledge) -> frozenset[str]:
    """The ingredients that a check looks at: the study drugs, and what interacts with them."""
    return frozenset(STUDY_DRUGS).union(*_interacting(knowledge).values())


def concerns(draft: DraftOrder, *, ingredients: frozenset[str]) -> bool:
    """Whether any check looks at this draft: it has one of these ingredients, is a live vaccine, or nothing says what
    it is. Nothing has to be read for the others."""
    if is_unidentified(draft) or draft.vaccine is True or draft.possibly_live:
        return True
    return not ingredients_of(draft.use).isdisjoint(ingredients)


def is_unidentified(draft: DraftOrder) -> bool:
    """Whether a drug was named in a way that nothing understands; before one is picked there is none."""
    return draft.unreadable or (draft.named and draft.use.identity == "none")


def assess_orders(facts: Facts, *, hook: Hook, knowledge: Knowledge, now: datetime) -> OrderAssessment:
    """What is to say of the drafts of these facts that were picked, beside all the others.

    An order that is signed again is looked at as the draft that it is now.
    """
    case = _Case(facts, hook=hook, knowledge=knowledge, now=now)
    checks = tuple(
        sorted(
            (found for check in knowledge.order_checks for found in _RULES[check.rule](check, case)),
            key=lambda c: (_SEVERITIES.index(c.check.severity), c.draft.place),
        )
    )
    return OrderAssessment(
        now=now,
        zone=facts.zone,
        hook=hook,
        orders=case.selected,
        drafted=tuple(drug for drug in STUDY_DRUGS if case.picked(drug)),
        received=MappingProxyType(case.received),
        course=case.course,
        safety=tuple(s for s in case.concerning if s.rule.severity != "monitor"),
        watched=tuple(s for s in case.concerning if s.rule.severity == "monitor"),
        required=tuple(case.required),
        checks=checks,
        undetermined=frozenset(check.id for check in knowledge.order_checks if check.rule in _open_rules(case)),
        corrections=tuple(_corrections(case, checks)),
        deceased=is_deceased(facts),
        gaps=facts.gaps,
        lost=tuple(s for s in facts.sources if s.outcome in {"failed", "partial"}),
        broader=tuple(s for s in facts.sources if s.unsent),
        all_safety=tuple(case.safety),
        knowledge=knowledge,
    )


class _Case:
    """The record, the drafts, and what is worked out of them once."""

    def __init__(self, facts: Facts, *, hook: Hook, knowledge: Knowledge, now: datetime) -> None:
        self.drafts = drafts = facts.drafts
        self.selected = tuple(draft for draft in drafts if draft.picked)
        self.hook = hook
        self.knowledge = knowledge
        self.record = Chart(facts, knowledge=knowledge, now=now)
        acting = [use for use in facts.medications if not any(_is_taken_over(use, draft) for draft in drafts)]
        self.others = acting
        drafted = [_as_named(draft.use) for draft in drafts]
        self.chart = Chart(replace(facts, medications=(*acting, *drafted)), knowledge=knowledge, now=now)
        self.course = course(self.record)
        self.interacting = _interacting(knowledge)
        self._drafted = {drug: tuple(d for d in drafts if drug in ingredients_of(d.use)) for drug in STUDY_DRUGS}
        self._picked = {drug: tuple(d for d in found if d.picked) for drug, found in self._drafted.items()}

    @property
    def today(self) -> date:
        return self.record.now.astimezone(self.record.zone).date()

    def is_over(self, use: MedicationUse, day: date) -> bool:
        """Whether an order has ended, or ends before that day."""
        if use.end is None:
            return False
        return use.end.latest <= self.record.now or use.end.latest.astimezone(self.record.zone).date() < day

    def picked(self, drug: str) -> tuple[DraftOrder, ...]:
        """The picked drafts that are, or may be, this drug."""
        return self._picked.get(drug, ())

    def drafted(self, drug: str) -> tuple[DraftOrder, ...]:
        """The same of all drafts."""
        return self._drafted.get(drug, ())

    @cached_property
    def safety(self) -> list[SafetyResult]:
        """Every safety finding, as if the drafts were ordered."""
        known: dict[str, Outcome] = {}
        found = []
        for rule in self.knowledge.safety:
            known[rule.id] = outcome = safety_outcome(rule, chart=self.chart, known=known)
            found.append(SafetyResult(rule, outcome))
        return found

    @cached_property
    def received(self) -> dict[str, Reading]:
        """Whether the patient receives each study drug, or it is being drafted."""
        return {drug: self._received(drug) for drug in STUDY_DRUGS}

    def _received(self, drug: str) -> Reading:
        if self.drafted(drug):
            return Reading(Reason.of("order-drafted", drug=drug), state="yes")
        hours = timedelta(hours=float(self.knowledge.follow_up.limits["still_given_hours"].value))
        chart, doubt = self.record, False
        for use in chart.facts.medications:
            end = chart.exposure_end(use) if use.state == "given" else None
            acts = use.state in {"ordered", "taken"} or (end is not None and chart.age(end) <= hours)
            if not acts or use.systemic is False:
                continue
            if drug in use.ingredients:
                return Reading(Reason.of("exposed", how=use.state, drug=drug, title=""), state="yes")
            doubt = doubt or drug in use.possibly
        if doubt:
            return Reading(Reason.of("text-only-drug", drug=drug, title=""), unreadable=True)
        lost = chart.lost(("orders", None), ("statements", None), ("administrations", chart.now - hours))
        if lost is not None:
            return Reading(lost.reason, failed=lost.failed)
        return Reading(Reason.of("none-on-record"), state="no")

    @cached_property
    def concerning(self) -> list[SafetyResult]:
        """The findings that are told."""
        return [result for result in self.safety if self._concerned(result)]

    def _concerned(self, result: SafetyResult) -> bool:
        """Whether a finding is told: of a drug that was picked, or made by one that was picked beside a study drug."""
        rule = result.rule
        drafted = [drug for drug in rule.drugs if self.picked(drug)]
        if drafted:
            return result.finding is Finding.MET or result.withholds
        names = self.interacting.get(rule.id)
        if names is None or result.finding is not Finding.MET:
            return False
        made = any(not ingredients_of(draft.use).isdisjoint(names) for draft in self.selected)
        return made and any(self.received[drug].state == "yes" for drug in rule.drugs)

    def has_doubt(self, drug: str) -> bool:
        """A finding that may change the dose is present or open, or safety data are missing: then the dose is nobody's
        to offer (reading 4)."""
        return bool(self.required) or any(drug in s.rule.drugs and s.withholds for s in self.safety)

    @cached_property
    def required(self) -> list[tuple[str, Reading]]:
        """Safety data of a drafted study drug that are missing or in doubt, unless the site has signed for that."""
        return list(self._required()) if any(self.picked(drug) for drug in STUDY_DRUGS) else []

    def _required(self) -> Iterator[tuple[str, Reading]]:
        signed = self.record.facts.overlay.not_measured
        for name in self.knowledge.required:
            reading = required_reading(self.record, name)
            absent = reading.reason.code == "source-absent" or name in signed
            if reading.displaced or (not reading.known and not absent):
                yield name, reading

    @cached_property
    def is_of_the_protocol(self) -> bool:
        """Whether the letter's doses and days are what a draft is measured by: the patient has COVID-19 by the record
        or the order, a course is running, or both drugs are drafted. For gout or myelofibrosis they say nothing; where
        the illness could not be read they are told, and nothing is offered."""
        return self.is_certain or self._is_unread

    @cached_property
    def _is_unread(self) -> bool:
        positive = evaluate(self.knowledge.criterion("P-COVID").tree, chart=self.record, known={})
        return positive.failed or read(self.record, _COVID).failed

    @cached_property
    def is_certain(self) -> bool:
        if self.course is not None or all(self.drafted(drug) for drug in STUDY_DRUGS):
            return True
        if any("covid19" in d.use.reasons for drug in STUDY_DRUGS for d in self.picked(drug)):
            return True
        positive = evaluate(self.knowledge.criterion("P-COVID").tree, chart=self.record, known={})
        return positive.finding is Finding.MET or read(self.record, _COVID).state == "present"

    def measured(self, drug: str) -> tuple[DraftOrder, ...]:
        """The picked drafts of a drug that the letter's schedule is about."""
        apart = self.course is not None and drug in self.course.apart
        return self.picked(drug) if self.is_of_the_protocol and not apart else ()

    @cached_property
    def day_is_open(self) -> bool:
        """Whether it is not certain which treatment day this is: a course without a certain first dose, or doses on
        record that belong to none."""
        if self.course is not None:
            return self.course.day is None
        given = any(drugs.first_dose(self.record, drug) is not None for drug in STUDY_DRUGS)
        return given or course_scope(self.record) == "unknown"

    def most_mg(self, drug: str) -> Decimal:
        """The letter's largest dose of a day."""
        return max(step.dose_mg * step.per_day for step in self.knowledge.follow_up.schedules[drug].steps)

    def planned_mg(self, drug: str) -> Decimal:
        """The letter's dose of today: of the running course, else of its first day."""
        day = 1 if self.course is None else self.course.low
        step = self.knowledge.follow_up.schedules[drug].on(day)
        return Decimal(0) if step is None else step.dose_mg * step.per_day

    def last_day(self, drug: str, draft: DraftOrder) -> date:
        """The letter's last day of a drug: of the running course, else of one that begins with this draft."""
        first = draft.first_day or self.today
        if self.course is not None:
            first = self.today - timedelta(days=self.course.low - 1)
        return first + timedelta(days=self.knowledge.follow_up.schedules[drug].last_day - 1)


def _is_taken_over(use: MedicationUse, draft: DraftOrder) -> bool:
    """An order on record that this draft is, signed again, or takes the place of. It has to be the same drug: clients
    give drafts passing ids, which another order may bear."""
    named = use.reference == draft.use.reference or use.reference in draft.replaces
    return named and use.kind == "request" and not set(use.ingredients).isdisjoint(ingredients_of(draft.use))


def _as_named(use: MedicationUse) -> MedicationUse:
    """The draft as what it may be (reading 3.11)."""
    return replace(use, ingredients=tuple(sorted({*use.ingredients, *use.possibly})), possibly=())


def _interacting(knowledge: Knowledge) -> dict[str, frozenset[str]]:
    """Ingredients that make each of the findings of the follow-up's interaction rule."""
    action = next(a for a in knowledge.follow_up.actions if a.rule == INTERACTION)
    ids = str(action.params["findings"]).split()
    return {
        rule.id: frozenset().union(
            *(
                knowledge.groups[str(leaf.params["group"])].ingredients
                for leaf in leaves_of(rule.tree)
                if "group" in leaf.params
            )
        )
        for rule in knowledge.safety
        if rule.id in ids
    }


# --- the checks -----------------------------------------------------------------------------------------------------

_Found = Iterable[Checked]


def _evidence(uses: Iterable[MedicationUse]) -> tuple[Evidence, ...]:
    return tuple(
        Evidence((*use.ingredients, *use.possibly, "medication")[0], use.reference, original=use.state, label=use.label)
        for use in uses
    )


def _met(check: OrderCheck, draft: DraftOrder, code: str, *beside: MedicationUse, **words: object) -> Checked:
    return Checked(check, draft, Finding.MET, Reason.of(code, **words), _evidence((draft.use, *beside)))


def _drafts(case: _Case) -> Iterator[tuple[str, DraftOrder]]:
    for drug in STUDY_DRUGS:
        for draft in case.measured(drug):
            yield drug, draft


def _dose(draft: DraftOrder, case: _Case) -> Decimal | None:
    """mg a day; nothing at all or less is no dose that was read, nor is one that nobody gives."""
    dose, most = draft.use.daily_mg, case.knowledge.follow_up.limits["dose_mg_most"].value
    return dose if dose is not None and 0 < dose <= most else None


def _dose_above(check: OrderCheck, case: _Case) -> _Found:
    for drug, draft in _drafts(case):
        dose, most = _dose(draft, case), case.most_mg(drug)
        if dose is not None and dose > most:
            yield _met(check, draft, "dose-of-day", drug=drug, mg=decimal_text(dose), letter=decimal_text(most))


def _dose_below(check: OrderCheck, case: _Case) -> _Found:
    """Below what the letter gives on that day; where several drafts make up a course, all of them are."""
    for drug in STUDY_DRUGS if not case.day_is_open else ():
        drafts = case.measured(drug)
        planned = case.planned_mg(drug)
        doses = [_dose(draft, case) for draft in case.drafted(drug)]
        if drafts and all(dose is not None and dose < planned for dose in doses):
            for draft in drafts:
                mg = decimal_text(_dose(draft, case) or Decimal(0))
                yield _met(check, draft, "dose-of-day", drug=drug, mg=mg, letter=decimal_text(planned))


def _dose_unreadable(check: OrderCheck, case: _Case) -> _Found:
    for drug, draft in _drafts(case):
        if _dose(draft, case) is None:
            reason = Reason.of("draft-dose-unreadable", drug=drug, letter=decimal_text(case.most_mg(drug)))
            yield Checked(check, draft, Finding.UNKNOWN, reason, _evidence([draft.use]))


def _ends_later(check: OrderCheck, case: _Case) -> _Found:
    """On an uncertain treatment day only what is later than the latest day that the letter's last can be."""
    for drug, draft in _drafts(case):
        last = case.last_day(drug, draft)
        begins = draft.first_day or case.today
        ends = begins if draft.last_day is None else draft.last_day
        if ends > last:
            words = {"drug": drug, "last": ends.isoformat(), "letter": last.isoformat()}
            yield _met(check, draft, "ends-on" if draft.last_day else "begins-after", **words)


def _no_taper(check: OrderCheck, case: _Case) -> _Found:
    """The full dose on days on which the letter had begun to lower it, and no draft that lowers it."""
    for drug in STUDY_DRUGS:
        steps = case.knowledge.follow_up.schedules[drug].steps
        full = max(step.to_day for step in steps if step.dose_mg * step.per_day == case.most_mg(drug))
        tapers = full < steps[-1].to_day
        every = case.drafted(drug)
        constant = all(draft.least_mg is not None and draft.least_mg >= case.most_mg(drug) for draft in every)
        for draft in case.measured(drug) if tapers and constant else ():
            last_full = case.last_day(drug, draft) - timedelta(days=steps[-1].to_day - full)
            if draft.last_day is not None and draft.last_day > last_full:
                words = {"drug": drug, "last": draft.last_day.isoformat(), "letter": last_full.isoformat()}
                yield _met(check, draft, "full-dose-until", **words)


def _by_text(check: OrderCheck, case: _Case) -> _Found:
    for drug in STUDY_DRUGS:
        for draft in case.picked(drug):
            if drug in draft.use.possibly:
                yield _met(check, draft, "draft-by-text", drug=drug)


def _no_end(check: OrderCheck, case: _Case) -> _Found:
    for drug, draft in _drafts(case):
        last = case.last_day(drug, draft)
        if draft.end == "written" or (draft.first_day or case.today) > last:
            continue
        code = "no-end" if draft.end == "open" else "end-unreadable"
        finding = Finding.MET if draft.end == "open" else Finding.UNKNOWN
        reason = Reason.of("day-open", drug=drug)
        if not case.day_is_open:
            reason = Reason.of(code, drug=drug, letter=last.isoformat())
        yield Checked(check, draft, finding, reason, _evidence([draft.use]))


def _duplicate(check: OrderCheck, case: _Case) -> _Found:
    """An order of the same drug that is active, or another draft of it for the same days."""
    for drug in STUDY_DRUGS:
        for draft in case.picked(drug):
            begins = draft.first_day or case.today
            orders = [
                use
                for use in case.others
                if use.state in {"ordered", "taken"} and drug in (*use.ingredients, *use.possibly)
                if use.systemic is not False and not case.is_over(use, begins)
            ]
            twin = next(
                (
                    other
                    for other in case.drafted(drug)
                    if other is not draft and not _apart(other, draft, today=case.today)
                    if other.place < draft.place or not other.picked  # of two that were picked the later one is told
                ),
                None,
            )
            coded = [use for use in orders if drug in use.ingredients]
            if coded:
                home = all(use.state == "taken" for use in coded)
                yield _met(check, draft, "taken-at-home" if home else "order-there", *coded[:_SHOWN], drug=drug)
            elif twin is not None:
                yield _met(check, draft, "drafted-twice", twin.use, drug=drug)
            elif orders:  # words on record are a question, never a presence (reading 3.11)
                reason = Reason.of("text-only-drug", drug=drug, title="")
                yield Checked(check, draft, Finding.UNKNOWN, reason, _evidence((draft.use, *orders[:_SHOWN])))


def _apart(one: DraftOrder, other: DraftOrder, *, today: date) -> bool:
    """Whether their days are known and do not overlap: a taper that is written as several orders."""
    first, second = sorted((one, other), key=lambda d: d.first_day or today)
    return first.last_day is not None and first.last_day < (second.first_day or today)


def _live_vaccine(check: OrderCheck, case: _Case) -> _Found:
    vaccines = [draft for draft in case.selected if draft.vaccine is True]
    on = [drug for drug in STUDY_DRUGS if case.received[drug].state == "yes"]
    if not vaccines and any(case.picked(drug) for drug in STUDY_DRUGS):
        vaccines = [draft for draft in case.drafts if draft.vaccine is True]
    named = [draft for draft in case.selected if draft.possibly_live]
    beside = " and ".join(on or STUDY_DRUGS)
    if not on and case.course is None:
        return
    for draft in vaccines:
        yield _met(check, draft, "vaccine-beside", drug=beside)
    for draft in named:
        reason = Reason.of("vaccine-by-text", drug=beside)
        yield Checked(check, draft, Finding.UNKNOWN, reason, _evidence([draft.use]))


def _one_of_pair(check: OrderCheck, case: _Case) -> _Found:
    """Nothing to say where the other drug is there, was given in this course, or is no longer planned."""
    for drug, other in (STUDY_DRUGS, STUDY_DRUGS[::-1]):
        drafts = case.measured(drug)
        if not drafts or case.received[other].state != "no":
            continue
        running = case.course
        if running is not None:
            given = drugs.first_dose(case.record, other)
            if (given is not None and given >= running.earliest) or not case.planned_mg(other):
                continue
        yield _met(check, drafts[0], "other-not-drafted", drug=drug, other=other)


def _not_identified(check: OrderCheck, case: _Case) -> _Found:
    """Only where it matters: the patient receives a study drug, or one is being drafted."""
    on = case.course is not None or any(reading.state == "yes" for reading in case.received.values())
    for draft in case.selected if on else ():
        if is_unidentified(draft) or (draft.use.identity == "none" and case.hook == "order-sign"):
            reason = Reason.of("draft-unidentified")
            yield Checked(check, draft, Finding.UNKNOWN, reason, _evidence([draft.use]))


def _reception_unknown(check: OrderCheck, case: _Case) -> _Found:
    """A drug that interacts, and it could not be read whether the patient receives what it interacts with."""
    rules = {rule.id: rule for rule in case.knowledge.safety}
    for draft in case.selected:
        names = ingredients_of(draft.use)
        serious = [
            drug
            for id_, group in case.interacting.items()
            if rules[id_].severity != "monitor" and not names.isdisjoint(group)
            for drug in rules[id_].drugs
        ]
        concerned = [*dict.fromkeys(serious), *(STUDY_DRUGS if draft.vaccine is True or draft.possibly_live else ())]
        if any(case.received[drug].state == "yes" for drug in concerned):
            continue
        unknown = next((drug for drug in concerned if not case.received[drug].known), None)
        if unknown is not None and case.received[unknown].reason.code != "source-absent":
            reason = case.received[unknown].reason
            yield Checked(check, draft, Finding.UNKNOWN, reason, _evidence([draft.use]))


_RULES: Mapping[str, Callable[[OrderCheck, _Case], _Found]] = MappingProxyType(
    {
        "dose-above": _dose_above,
        "dose-below": _dose_below,
        "dose-unreadable": _dose_unreadable,
        "ends-later": _ends_later,
        "no-taper": _no_taper,
        "no-end": _no_end,
        "by-text": _by_text,
        "duplicate": _duplicate,
        "live-vaccine": _live_vaccine,
        "one-of-pair": _one_of_pair,
        "not-identified": _not_identified,
        "reception-unknown": _reception_unknown,
    }
)

RULES = tuple(_RULES)
"""The rules that a check of `orders.toml` may name."""


def _open_rules(case: _Case) -> set[str]:
    """The rules that something unread leaves open for one of the picked drafts, where they are not met all the same."""
    open_: set[str] = set()
    for _, draft in _drafts(case):
        if _dose(draft, case) is None:
            open_ |= {"dose-above", "dose-below", "no-taper"}
        if draft.end == "unreadable":
            open_ |= {"ends-later", "no-taper"}
        if case.day_is_open:
            open_ |= {"ends-later", "dose-below", "no-taper"}
    unread = [drug for drug in STUDY_DRUGS if not case.received[drug].known]
    picked = [drug for drug in STUDY_DRUGS if case.picked(drug)]
    if picked and unread:
        open_.add("one-of-pair")
    if picked and case.record.lost(("orders", None), ("statements", None)) is not None:
        open_.add("duplicate")
    if unread and any(draft.vaccine is True or draft.possibly_live for draft in case.selected):
        open_.add("live-vaccine")
    if any(map(is_unidentified, case.selected)):
        open_.add("not-identified")
    return open_


_CORRECTED = {"dose-above": "dose", "ends-later": "end", "no-end": "end"}


# --- what a suggestion may do ---------------------------------------------------------------------------------------


def _corrections(case: _Case, checks: Sequence[Checked]) -> Iterator[Correction]:
    """At most one for each picked draft, and only of what codes identify. A drug that interacts with the study drugs is
    never offered to be removed: it may be what the patient needs, and the study drug what has to go."""
    if has_other_patient(case.record.facts):
        return
    mine: dict[int, list[Checked]] = {}
    for checked in checks:
        if checked.finding is Finding.MET:
            mine.setdefault(checked.draft.place, []).append(checked)
    for draft in case.selected:
        if draft.use.possibly or draft.use.identity != "code":
            continue
        found = mine.get(draft.place, [])
        twin = any(c.reason.code == "drafted-twice" for c in found)
        vaccine = any(c.check.rule == "live-vaccine" for c in found)
        drug = next((drug for drug in STUDY_DRUGS if draft.use.ingredients == (drug,)), None)
        if twin or vaccine or (drug is not None and _is_contraindicated(case, drug)):
            yield Correction(draft, remove=True)
        elif drug is not None and case.is_certain:
            yield from _led_back(case, draft, drug, {c.check.rule for c in found})


def _led_back(case: _Case, draft: DraftOrder, drug: str, rules: set[str]) -> Iterator[Correction]:
    """To the letter's dose and last day, both or none of what differs."""
    wanted = {_CORRECTED[rule] for rule in rules if rule in _CORRECTED}
    begins, last = draft.first_day or case.today, case.last_day(drug, draft)
    if not wanted:
        return
    if "end" in wanted and (case.day_is_open or begins < case.today):
        return
    if "dose" in wanted and (case.day_is_open or case.has_doubt(drug) or case.planned_mg(drug) != case.most_mg(drug)):
        return
    if begins > last:
        yield Correction(draft, remove=True)
        return
    step = case.knowledge.follow_up.schedules[drug].steps[0]
    yield Correction(
        draft,
        daily_mg=case.most_mg(drug) if "dose" in wanted else None,
        per_day=step.per_day,
        last_day=last if "end" in wanted else None,
    )


def _is_contraindicated(case: _Case, drug: str) -> bool:
    """An absolute finding of the drafted study drug is present."""
    return any(
        s.rule.severity == "absolute" and s.finding is Finding.MET and drug in s.rule.drugs for s in case.concerning
    )
