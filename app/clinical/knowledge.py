"""The shape of the clinical knowledge: what the TOML files of `app/protocols` are read into. No values here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Leaf:
    """One question to one input.

    A number is compared (`op`, `value`, in `unit`), a state is looked up in `among`. `otherwise = "unknown"`: a known
    value that fails the comparison leaves the question open (reading A3: the ECMO clause is defined at FdO2 100 %).
    `unknown`: what an unknown input counts as here ("met" or "not-met"), where a rule must not hang on it.
    `params` are for the reader of that input (a drug group, condition concepts, a look-back).
    """

    input: str
    op: str = ""
    value: Decimal | None = None
    unit: str = ""
    among: frozenset[str] = frozenset()
    otherwise: str = ""
    unknown: str = ""
    params: Mapping[str, object] = field(default_factory=dict)

    @property
    def key(self) -> tuple[object, ...]:
        """What makes two leaves ask for the same reading (`crs` bounds depend on the threshold)."""
        numbers = (self.op, self.value) if self.input == "crs" else ()
        return (self.input, *numbers, *sorted((k, repr(v)) for k, v in self.params.items()))


@dataclass(frozen=True, slots=True)
class All:
    """Every child."""

    children: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Any:
    """One child suffices."""

    children: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite; unknown stays unknown."""

    child: Node


@dataclass(frozen=True, slots=True)
class Ref:
    """The finding of a criterion or safety rule by its id."""

    id: str


Node: TypeAlias = Leaf | All | Any | Not | Ref


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value comes from and who has looked at it; every value of the knowledge has one.

    `source`: the document, or that it is ours. `reading`: sections of docs/readings.md. `alternatives`: what else the
    source could mean. `review`: "unsigned", or date and name of the clinician who has signed it.
    """

    source: str
    reading: str = ""
    alternatives: str = ""
    review: str = "unsigned"


@dataclass(frozen=True, slots=True)
class Criterion:
    """A criterion with its public id, the words for the card and the origin of the rule.

    `part_of`: the criterion that this one is a leaf of; it is shown, and its parent decides. `confirm`: the question
    that is put to a person when the criterion is met only because nothing is on record (reading 3.16).
    """

    id: str
    tree: Node
    title: str
    threshold: str
    origin: Origin
    part_of: str = ""
    confirm: str = ""


def leaves_of(node: Node) -> Iterator[Leaf]:
    """The leaves of a tree; those of a criterion that it refers to are that criterion's."""
    if isinstance(node, Leaf):
        yield node
    elif not isinstance(node, Ref):
        for child in (node.child,) if isinstance(node, Not) else node.children:
            yield from leaves_of(child)


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What only a person can confirm; never part of a verdict (reading 2). `input`: what the record says of it."""

    id: str
    text: str
    input: str = ""


@dataclass(frozen=True, slots=True)
class Dose:
    """One drug of an arm: `days` are all (or at most, `at_most`) days of it; `then` is what follows, in words."""

    ingredient: str
    dose_mg: Decimal
    per_day: int
    route: str
    days: int
    at_most: bool
    then: str


@dataclass(frozen=True, slots=True)
class Arm:
    """What a stage of the trial was randomised to, beside standard care; knowledge only, never an order.

    `stage` is its name on a card. `precedence`: of several stages that match, the highest is reported (reading B11).
    """

    stage: str
    precedence: int
    doses: tuple[Dose, ...]
    origin: Origin


@dataclass(frozen=True, slots=True)
class Protocol:
    """One protocol: criteria all of which must hold, the scope that decides who is spoken to, the population."""

    id: str
    version: str
    title: str
    status: str
    reviewed_by: tuple[str, ...]
    source: str
    criteria: tuple[Criterion, ...]
    confirmations: tuple[Confirmation, ...]
    scope: Node
    speak: bool
    arm: Arm | None = None


@dataclass(frozen=True, slots=True)
class SafetyRule:
    """One contraindication or warning. `present` when the tree is met.

    `withholds`: present (or unreadable) takes the suggestion away; False for the few relative findings that are
    warnings beside it (reading 4). `required`: a refused newer result takes away "absent".
    """

    id: str
    drugs: tuple[str, ...]
    severity: str
    tree: Node
    title: str
    advice: str
    origin: Origin
    withholds: bool
    required: bool


@dataclass(frozen=True, slots=True)
class Group:
    """Ingredients that act alike in a rule, and how long after the last dose they still count (zero: no rule asks)."""

    name: str
    ingredients: frozenset[str]
    lookback: timedelta
    title: str
    origin: Origin = Origin("")


@dataclass(frozen=True, slots=True)
class Input:
    """One input: its public `missing` name, the window before now, the needs (sources) it reads.

    `fixed`: nothing that is done or measured changes it.
    """

    name: str
    missing: str
    window: timedelta | None
    needs: tuple[str, ...]
    concept: str
    title: str
    obtain: str
    origin: Origin
    fixed: bool = False


@dataclass(frozen=True, slots=True)
class Limit:
    """A number that is no threshold of a rule, in the unit that its name says."""

    value: Decimal
    what: str
    origin: Origin


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table of cards (reading 5): all conditions must hold; the first matching row wins."""

    id: str
    when: tuple[str, ...]
    card: str
    suggestions: bool
    outcome: str
    origin: Origin = Origin("")


@dataclass(frozen=True, slots=True)
class Step:
    """Days of a schedule with the same doses. `reconstructed`: the source does not say it, it is worked out."""

    from_day: int
    to_day: int
    dose_mg: Decimal
    per_day: int
    reconstructed: bool = False


@dataclass(frozen=True, slots=True)
class Schedule:
    """What the letter plans of one drug, day by day; day 1 is that of the first dose (reading A13)."""

    drug: str
    steps: tuple[Step, ...]
    origin: Origin

    def on(self, day: int) -> Step | None:
        """The step of a treatment day; None when nothing is planned."""
        return next((step for step in self.steps if step.from_day <= day <= step.to_day), None)

    @property
    def last_day(self) -> int:
        """The last day with a planned dose."""
        return max(step.to_day for step in self.steps)

    def cumulative_mg(self, day: int) -> Decimal:
        """What is planned up to and with that day."""
        days = [(step, min(day, step.to_day) - step.from_day + 1) for step in self.steps]
        return sum((step.dose_mg * step.per_day * count for step, count in days if count > 0), Decimal(0))


@dataclass(frozen=True, slots=True)
class DayWindow:
    """The treatment days whose values are put beside a column of the letter's Table 2."""

    day: int
    from_day: int
    to_day: int
    origin: Origin


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean with its standard deviation in the letter's 11; `ratio` is that of the means, inclusion = 1."""

    mean: Decimal
    sd: Decimal
    ratio: Decimal


@dataclass(frozen=True, slots=True)
class Quantity:
    """A row of Table 2: `window` and `needs` are those of a current value, `needs` any of which may vouch for one.

    `inclusion` and `days` are the letter's, in `unit`. `ends`: what makes it not applicable ("extubation").
    """

    name: str
    concept: str
    title: str
    unit: str
    window: timedelta
    needs: tuple[str, ...]
    ends: str
    inclusion: Mean
    days: Mapping[int, Mean]
    origin: Origin


@dataclass(frozen=True, slots=True)
class Action:
    """Something to look at while on treatment. Present when its test is met on a day that it applies to.

    `tree` is a rule over inputs; else `rule` names one of `app.clinical.followup` with its `params`. `days`: first and
    last treatment day, None open; `lab_window`: only on a day of a DayWindow. `unless_stopped`: not when the record
    says that this drug was stopped. `unless`: not beside these actions. `monitor_severity`: the severity when only
    findings to be monitored are present.
    """

    id: str
    severity: str
    title: str
    advice: str
    drugs: tuple[str, ...]
    origin: Origin
    tree: Node | None = None
    rule: str = ""
    params: Mapping[str, object] = field(default_factory=dict)
    from_day: int | None = None
    to_day: int | None = None
    lab_window: bool = False
    unless_stopped: str = ""
    unless: tuple[str, ...] = ()
    monitor_severity: str = ""


@dataclass(frozen=True, slots=True)
class FollowUp:
    """The follow-up of a course: schedule, actions, and Table 2 of the letter. It has no verdict."""

    id: str
    version: str
    title: str
    status: str
    reviewed_by: tuple[str, ...]
    source: str
    schedules: Mapping[str, Schedule]
    windows: tuple[DayWindow, ...]
    actions: tuple[Action, ...]
    quantities: tuple[Quantity, ...]
    limits: Mapping[str, Limit]

    def window_of(self, day: int) -> DayWindow | None:
        """The window that a treatment day lies in."""
        return next((w for w in self.windows if w.from_day <= day <= w.to_day), None)


@dataclass(frozen=True, slots=True)
class OrderCheck:
    """One thing that is looked at in an order being written; `rule` names one of `app.clinical.orders`.

    `severity` is absolute, warning or info; `card` is the one it stands on, `safety` or `protocol`; `speaks_at` are the
    hooks at which it alone is worth a card: elsewhere it is a line of one that is shown anyway. `open_title` takes the
    place of the title where it could not be determined.
    """

    id: str
    title: str
    advice: str
    severity: str
    card: str
    rule: str
    speaks_at: frozenset[str]
    origin: Origin
    open_title: str = ""


@dataclass(frozen=True, slots=True)
class Knowledge:
    """All of it, immutable, with the hash of the files it was read from."""

    inputs: Mapping[str, Input]
    groups: Mapping[str, Group]
    protocols: tuple[Protocol, ...]
    safety: tuple[SafetyRule, ...]
    required: tuple[str, ...]
    rows: tuple[Row, ...]
    limits: Mapping[str, Limit]
    steroid_equivalents: Mapping[str, Decimal]
    follow_up: FollowUp
    order_checks: tuple[OrderCheck, ...]
    order_version: str
    hash: str
    version: str

    def protocol(self, id: str) -> Protocol:  # noqa: A002  (the public word for it)
        """The protocol of that id; KeyError when there is none."""
        for protocol in self.protocols:
            if protocol.id == id:
                return protocol
        raise KeyError(id)

    def criterion(self, id: str) -> Criterion:  # noqa: A002
        """The criterion of that id, in whichever protocol; KeyError when there is none."""
        for protocol in self.protocols:
            for criterion in protocol.criteria:
                if criterion.id == id:
                    return criterion
        raise KeyError(id)
