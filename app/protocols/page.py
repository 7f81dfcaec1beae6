"""One protocol as a page of text that a clinician can read from top to bottom, and sign."""

from __future__ import annotations

import textwrap
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any as Json

from app.clinical.knowledge import (
    Action,
    Arm,
    Criterion,
    Dose,
    FollowUp,
    Knowledge,
    Limit,
    Mean,
    Node,
    OrderCheck,
    Origin,
    Protocol,
    Step,
)
from app.clinical.reading import decimal_text, unit_text
from app.protocols import orders, sentences
from app.protocols.fields import UNSIGNED
from app.protocols.loader import Library

WIDTH = 100
_INDENT = 4
_NOT_SIGNED = "No clinician has signed this protocol. Investigational, off-label, unproven; not a medical device."
_SIGNATURE = "I have read {what}, and compared {it} with {its} sources. What is written here is what is meant."
_ORDERS = "what is looked at in an order that is being written or signed"
_BLANKS = ("Name", "Role", "Date", "Signature")


@dataclass(frozen=True, slots=True)
class SignedCase:
    """A case as its file writes it."""

    name: str
    why: str
    expect: Mapping[str, Json]


def cases_of(text: str) -> tuple[SignedCase, ...]:
    """The cases of a cases.toml, in its order."""
    rows = tomllib.loads(text).get("case", [])
    return tuple(SignedCase(row["name"], row["why"], row["expect"]) for row in rows)


def ids(library: Library) -> list[str]:
    """Everything that has a page: the protocols, the follow-up, and last what is looked at in an order."""
    return [*(p.id for p in library.knowledge.protocols), library.knowledge.follow_up.id, orders.ID]


def signatures(checks: Iterable[OrderCheck]) -> tuple[str, tuple[str, ...]]:
    """The status of the order checks, and who has signed one of them: each is signed by itself, in its `review`."""
    reviews = [check.origin.review for check in checks]
    names = tuple(dict.fromkeys(review for review in reviews if review != UNSIGNED))
    return "draft" if UNSIGNED in reviews else "reviewed", names


def folder_of(id_: str) -> str:
    """The folder of a protocol below app/protocols."""
    return id_.replace("-", "_")


def page(library: Library, id_: str, *, cases: Sequence[SignedCase]) -> str:
    """The page. KeyError for an id that is none."""
    known = library.knowledge
    if id_ == orders.ID:
        sheet = _order_checks(known)
    else:
        sheet = _follow_up(known) if id_ == known.follow_up.id else _protocol(library, known.protocol(id_))
        sheet.heading(f"Cases ({len(cases)})")
        sheet.say("Each is a patient and what the service must say. They stand in the protocol's cases.toml.")
    for number, case in enumerate(cases, start=1):
        sheet.gap()
        sheet.say(f"{number}. {case.name}")
        sheet.say(f"why: {case.why}", depth=1)
        sheet.say(f"expected: {sentences.spoken(case.expect)}", depth=1)
    sheet.heading("Signatures")
    one = id_ == orders.ID
    what, it, its = ("this page", "it", "its") if one else ("this page and its cases", "them", "their")
    sheet.say(_SIGNATURE.format(what=what, it=it, its=its))
    for _ in range(2):
        sheet.gap()
        for blank in _BLANKS:
            sheet.verbatim(f"{blank + ':':<12}{'_' * 50}")
    return str(sheet)


class _Sheet:
    """Lines of a page, wrapped, with headings and indents."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def __str__(self) -> str:
        return "\n".join(self._lines) + "\n"

    def verbatim(self, line: str) -> None:
        self._lines.append(line)

    def gap(self) -> None:
        if self._lines and self._lines[-1]:
            self._lines.append("")

    def title(self, text: str) -> None:
        self.say(text)
        self._lines.append("=" * min(WIDTH, len(text)))

    def heading(self, text: str) -> None:
        self.gap()
        self.say(text)
        self._lines.append("-" * min(WIDTH, len(text)))

    def say(self, text: str, *, depth: int = 0, mark: str = "") -> None:
        """A paragraph; what follows its first line hangs below the text after the mark."""
        before = " " * (_INDENT * depth) + mark
        self._lines += textwrap.wrap(
            sentences.plain(text),
            WIDTH,
            initial_indent=before,
            subsequent_indent=" " * len(before),
            break_on_hyphens=False,
            break_long_words=False,
        ) or [""]

    def origin(self, origin: Origin, *, depth: int) -> None:
        """Where a value is from, and who has looked at it."""
        self.say(f"source: {origin.source}", depth=depth)
        if origin.reading:
            self.say(f"reading (docs/readings.md): {origin.reading}", depth=depth)
        self.say(f"could also mean: {origin.alternatives or 'no other meaning is named'}", depth=depth)
        self.say(f"review: {origin.review}", depth=depth)

    def tree(self, node: Node, *, knowledge: Knowledge, depth: int, above: Collection[str] = ()) -> None:
        """The logic, a line a question."""
        for line in sentences.outline(node, knowledge=knowledge, above=above):
            asked = f"  [{line.asks}]" if line.asks else ""
            self.say(f"{line.text}{asked}", depth=depth + line.depth, mark="- ")

    def limit(self, name: str, limit: Limit) -> None:
        """A number with its origin."""
        self.gap()
        self.say(f"{name} = {decimal_text(limit.value)}")
        self.say(limit.what, depth=1)
        self.origin(limit.origin, depth=1)


def _top(sheet: _Sheet, protocol: Protocol | FollowUp) -> None:
    """What stands above everything: which protocol, which version, who has signed."""
    sheet.title(f"{protocol.id}: {protocol.title}")
    sheet.say(f"version {protocol.version}, status {protocol.status}")
    sheet.say(f"reviewed by: {', '.join(protocol.reviewed_by) or 'nobody'}")
    sheet.say(f"source: {protocol.source}")
    if not protocol.reviewed_by:
        sheet.gap()
        sheet.say(_NOT_SIGNED)


def _protocol(library: Library, protocol: Protocol) -> _Sheet:
    known, sheet = library.knowledge, _Sheet()
    _top(sheet, protocol)
    sheet.heading("Criteria")
    sheet.say(
        "Every criterion must be met. One that is not met decides; what is not known is never taken for met or not met."
    )
    for criterion in (c for c in protocol.criteria if not c.part_of):
        _criterion(sheet, criterion, protocol, known)
    sheet.heading("Only a person can confirm")
    for confirmation in protocol.confirmations:
        sheet.say(f"{confirmation.id}: {confirmation.text}", mark="- ")
    if not protocol.confirmations:
        sheet.say("nothing is listed")
    sheet.heading("Scope")
    sheet.say("To whom an undetermined result is spoken. It never changes a verdict.")
    sheet.tree(protocol.scope, knowledge=known, depth=0, above={c.id for c in protocol.criteria})
    if not protocol.speak:
        sheet.say("This protocol raises no card of its own; it is a line of a card and an entry of evaluate.")
    trees = [c.tree for c in protocol.criteria] + [protocol.scope]
    if protocol.speak:
        trees += [rule.tree for rule in known.safety]
        _safety(sheet, known)
        _treatment(sheet, library.treatment)
    if protocol.arm is not None:
        _arm(sheet, protocol.arm)
    _inputs(sheet, trees, known)
    return sheet


def _criterion(sheet: _Sheet, criterion: Criterion, protocol: Protocol, known: Knowledge, *, depth: int = 0) -> None:
    sheet.gap()
    sheet.say(f"{criterion.id}: {criterion.title}", depth=depth)
    sheet.say(f"on the card: {criterion.threshold}", depth=depth + 1)
    sheet.say("met when", depth=depth + 1)
    sheet.tree(criterion.tree, knowledge=known, depth=depth + 2)
    for window in sentences.windows(criterion.tree, knowledge=known):
        sheet.say(f"how old: {window}", depth=depth + 1)
    sheet.origin(criterion.origin, depth=depth + 1)
    if criterion.confirm:
        sheet.say(f"asked of a person when nothing is on record: {criterion.confirm}", depth=depth + 1)
    for part in (c for c in protocol.criteria if c.part_of == criterion.id):
        _criterion(sheet, part, protocol, known, depth=depth + 1)


def _safety(sheet: _Sheet, known: Knowledge) -> None:
    sheet.heading("Safety findings")
    sheet.say(
        "They never change a verdict. Absolute and relative ones take the suggestion away unless it says otherwise; "
        f"nothing is suggested while one of these is unknown: {', '.join(known.required)}."
    )
    for rule in known.safety:
        sheet.gap()
        sheet.say(f"{rule.id}: {rule.title}")
        withholds = "" if rule.severity == "monitor" or rule.withholds else ", withholds nothing"
        sheet.say(f"{rule.severity}{withholds}; concerns {' and '.join(rule.drugs)}", depth=1)
        sheet.say("present when", depth=1)
        sheet.tree(rule.tree, knowledge=known, depth=2)
        for window in sentences.windows(rule.tree, knowledge=known):
            sheet.say(f"how old: {window}", depth=1)
        sheet.say(f"on the card: {rule.advice}", depth=1)
        if rule.required:
            sheet.say('a newer result that could not be used takes away "absent", never "present"', depth=1)
        sheet.origin(rule.origin, depth=1)


def _treatment(sheet: _Sheet, treatment: Mapping[str, Json]) -> None:
    sheet.heading("Suggested orders")
    for drug in treatment["drug"]:
        sheet.gap()
        sheet.say(f"{drug['display']}, {drug['route_text']}")
        for row in drug["steps"]:
            sheet.say(dose(row), depth=1, mark="- ")
        sheet.say(drug["description"], depth=1)
    sheet.gap()
    sheet.origin(Origin(*(str(treatment[key]) for key in ("source", "reading", "alternatives", "review"))), depth=0)


def dose(row: Mapping[str, Json]) -> str:
    """One step of a suggested order, as its file writes it."""
    keys = ("from_day", "to_day", "dose_mg", "per_day")
    first, last, mg, times = (row[key] for key in keys)
    return step(Step(first, last, Decimal(mg), times, bool(row.get("reconstructed", False))))


def step(one: Step) -> str:
    """One step of a schedule."""
    first, last = one.from_day, one.to_day
    span = f"day {first}" if first == last else f"days {first} to {last}"
    mark = " (our reconstruction)" if one.reconstructed else ""
    return f"{span}: {decimal_text(one.dose_mg)} mg, {one.per_day} x a day{mark}"


def _arm(sheet: _Sheet, arm: Arm) -> None:
    sheet.heading("Arm of the trial")
    sheet.say(f"{arm.stage}; randomised against standard care. Knowledge only: nothing is ordered.")
    for one in arm.doses:
        sheet.say(trial_dose(one), depth=1, mark="- ")
    sheet.origin(arm.origin, depth=0)


def trial_dose(one: Dose) -> str:
    """What a stage of the trial gave of one drug."""
    days = f"{'at most ' if one.at_most else ''}{one.days} days{f', {one.then}' if one.then else ''}"
    return f"{one.ingredient} {decimal_text(one.dose_mg)} mg, {one.per_day} x a day, {one.route}, {days}"


def _inputs(sheet: _Sheet, trees: Iterable[Node], known: Knowledge) -> None:
    """What these rules ask for, with the origin of every window, group and limit."""
    asked = sentences.asked(trees, knowledge=known)
    sheet.heading("What is asked of the record")
    for name in asked.inputs:
        spec = known.inputs[name]
        sheet.gap()
        sheet.say(f"{spec.title}  [{name}]")
        window = "no limit" if spec.window is None else f"at most {sentences.hours(spec.window.total_seconds())}"
        sheet.say(f"how old: {window}", depth=1)
        sheet.say(f"when unknown it is called {spec.missing}; how to obtain it: {spec.obtain}", depth=1)
        sheet.origin(spec.origin, depth=1)
    if asked.groups:
        sheet.heading("Drug groups")
    for name in asked.groups:
        group = known.groups[name]
        sheet.gap()
        sheet.say(f"{group.name}: {group.title}")
        sheet.say(f"how long after the last dose: {sentences.lookback(group)}", depth=1)
        sheet.say(f"drugs: {', '.join(sorted(group.ingredients))}", depth=1)
        sheet.origin(group.origin, depth=1)
    if asked.limits:
        sheet.heading("Limits")
    for name in asked.limits:
        sheet.limit(name, known.limits[name])


def _schedules(sheet: _Sheet, course: FollowUp) -> None:
    for schedule in course.schedules.values():
        sheet.gap()
        sheet.say(schedule.drug)
        for each in schedule.steps:
            sheet.say(step(each), depth=1, mark="- ")
        sheet.origin(schedule.origin, depth=1)


def _order_checks(known: Knowledge) -> _Sheet:
    sheet = _Sheet()
    status, names = signatures(known.order_checks)
    sheet.title(f"{orders.ID}: {_ORDERS}")
    sheet.say(f"version {known.order_version}, status {status}")
    sheet.say(f"reviewed by: {', '.join(names) or 'nobody'}")
    if not names:
        sheet.gap()
        sheet.say(_NOT_SIGNED)
    sheet.say("They have no verdict: they say what to look at in an order, beside the safety findings of its drug.")
    sheet.heading("Checks")
    sheet.say('What each rule looks at is told in words under "Orders" in docs/clinical-knowledge.md.')
    for check in known.order_checks:
        sheet.gap()
        sheet.say(f"{check.id}: {check.title}")
        sheet.say(f"{check.severity}; a line of the {check.card} card", depth=1)
        sheet.say(f"alone worth a card at {speaks_at(check)}", depth=1)
        sheet.say(f"present {by_order_rule(check)}", depth=1)
        sheet.say(f"on the card: {check.advice}", depth=1)
        sheet.origin(check.origin, depth=1)
    sheet.heading("What doses and days are compared with")
    _schedules(sheet, known.follow_up)
    return sheet


def speaks_at(check: OrderCheck) -> str:
    """The hooks at which a check alone is worth a card, in the order in which an EHR fires them."""
    return " and ".join(hook for hook in orders.HOOKS if hook in check.speaks_at)


def by_order_rule(check: OrderCheck) -> str:
    """The rule that an order check names."""
    return f"by the rule `{check.rule}` of app/clinical/orders.py"


def _follow_up(known: Knowledge) -> _Sheet:
    course, sheet = known.follow_up, _Sheet()
    _top(sheet, course)
    sheet.say("It has no verdict: it says what to look at on a day of treatment.")
    sheet.heading("Schedule")
    _schedules(sheet, course)
    sheet.heading("Actions")
    trees = []
    for action in course.actions:
        sheet.gap()
        sheet.say(f"{action.id}: {action.title}")
        sheet.say(f"{action.severity}; concerns {' and '.join(action.drugs) or 'no single drug'}", depth=1)
        sheet.say(f"applies to {days(action)}", depth=1)
        if action.tree is None:
            sheet.say(f"present {by_rule(action)}", depth=1)
        else:
            trees.append(action.tree)
            sheet.say("present when", depth=1)
            sheet.tree(action.tree, knowledge=known, depth=2)
            for window in sentences.windows(action.tree, knowledge=known):
                sheet.say(f"how old: {window}", depth=1)
        for name in ("unless_stopped", "unless", "monitor_severity"):
            value = getattr(action, name)
            if value:
                sheet.say(f"{name.replace('_', ' ')}: {_words(value)}", depth=1)
        sheet.say(f"on the card: {action.advice}", depth=1)
        sheet.origin(action.origin, depth=1)
    sheet.heading("Table 2 of the letter")
    for around in course.windows:
        sheet.say(f"day {around.day}: shown on treatment days {around.from_day} to {around.to_day}", mark="- ")
        sheet.origin(around.origin, depth=1)
    for quantity in course.quantities:
        sheet.gap()
        sheet.say(f"{quantity.title} ({unit_text(quantity.unit)}), mean ± SD of the letter's 11")
        columns = {"inclusion": quantity.inclusion, **{f"day {day}": found for day, found in quantity.days.items()}}
        sheet.say(", ".join(f"{column} {mean(found)}" for column, found in columns.items()), depth=1)
        sheet.origin(quantity.origin, depth=1)
    sheet.heading("Limits of the follow-up")
    for name, limit in course.limits.items():
        sheet.limit(name, limit)
    _inputs(sheet, trees, known)
    return sheet


def by_rule(action: Action) -> str:
    """An action without a tree: the rule that it names."""
    params = "".join(f"; {name}: {_words(value)}" for name, value in action.params.items())
    return f"by the rule `{action.rule}` of app/clinical/followup.py{params}"


def days(action: Action) -> str:
    """The treatment days that an action applies to."""
    first, last = action.from_day, action.to_day
    if first is None and last is None:
        text = "every day"
    elif last is None:
        text = f"day {first} and later"
    else:
        text = f"days {first or 1} to {last}"
    return f"{text}, only in the days around a column of Table 2" if action.lab_window else text


def mean(value: Mean) -> str:
    """A mean with its standard deviation."""
    return f"{decimal_text(value.mean)} ± {decimal_text(value.sd)}"


def _words(value: Json) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple | frozenset) else str(value)
