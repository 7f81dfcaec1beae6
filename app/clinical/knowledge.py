"""The shape of the clinical knowledge: what the TOML files of `app/protocols` are read into. No values here."""

from __future__ import annotations

from collections.abc import Mapping
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
class Criterion:
    """A top-level criterion with its public id, the words for the card and the source of the rule."""

    id: str
    tree: Node
    title: str
    threshold: str
    source: str


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What only a person can confirm; never part of a verdict (reading 2)."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Protocol:
    """One protocol: criteria all of which must hold, the scope that decides who is spoken to, the population."""

    id: str
    version: str
    title: str
    status: str
    reviewed_by: tuple[str, ...]
    criteria: tuple[Criterion, ...]
    confirmations: tuple[Confirmation, ...]
    scope: Node
    speak: bool


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
    source: str
    withholds: bool
    required: bool


@dataclass(frozen=True, slots=True)
class Group:
    """Ingredients that act alike in a rule, and how long after the last dose they still count."""

    name: str
    ingredients: frozenset[str]
    lookback: timedelta
    title: str
    source: str


@dataclass(frozen=True, slots=True)
class Input:
    """One input: its public `missing` name, the window before now, the needs (sources) it reads."""

    name: str
    missing: str
    window: timedelta | None
    needs: tuple[str, ...]
    concept: str
    title: str
    obtain: str
    source: str
    alternatives: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table of cards (reading 5): all conditions must hold; the first matching row wins."""

    id: str
    when: tuple[str, ...]
    card: str
    suggestions: bool
    outcome: str


@dataclass(frozen=True, slots=True)
class Knowledge:
    """All of it, immutable, with the hash of the files it was read from."""

    inputs: Mapping[str, Input]
    groups: Mapping[str, Group]
    protocols: tuple[Protocol, ...]
    safety: tuple[SafetyRule, ...]
    required: tuple[str, ...]
    rows: tuple[Row, ...]
    limits: Mapping[str, Decimal]
    steroid_equivalents: Mapping[str, Decimal]
    hash: str
    version: str

    def protocol(self, id: str) -> Protocol:  # noqa: A002  (the public word for it)
        """The protocol of that id; KeyError when there is none."""
        for protocol in self.protocols:
            if protocol.id == id:
                return protocol
        raise KeyError(id)
