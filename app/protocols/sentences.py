"""Rules in words, for people who review the knowledge: `rescue-cds protocols show` and the generated page of docs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from app.clinical.knowledge import All, Any, Group, Knowledge, Leaf, Node, Not, Ref
from app.clinical.readers.questions import QUESTIONS
from app.clinical.reading import decimal_text, unit_text

_SIGNS = {"<": "<", "<=": "≤", ">": ">", ">=": "≥"}
_INCLUSIVE = frozenset({"<=", ">="})
_STATES = {
    "vv": "veno-venous",
    "va": "veno-arterial",
    "generic": "running, configuration not stated",
}
_UNITS = {"a": "years", "ULN": "x the laboratory's upper limit", "1": "(1 = 100 %)"}
_PARAMETERS = {
    "concepts": "of",
    "also": "also",
    "also_procedures": "also procedures",
    "also_tests": "also tests",
    "substances": "to",
    "ingredient": "of",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a logic tree: `text` at `depth`; `asks` names the input of a question, '' for a joint."""

    depth: int
    text: str
    asks: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """What rules ask: inputs, drug groups and limits, each once, in the order in which they come."""

    inputs: tuple[str, ...] = field(default=())
    groups: tuple[str, ...] = field(default=())
    limits: tuple[str, ...] = field(default=())


def outline(node: Node, *, knowledge: Knowledge, above: Collection[str] = (), depth: int = 0) -> list[Line]:
    """The tree, a line for each joint and each question; a reference is followed by what it refers to, unless that is
    one of those that stand `above`."""
    if isinstance(node, Leaf):
        return [Line(depth, question(node, knowledge=knowledge), node.input)]
    if isinstance(node, Ref) and node.id in above:
        return [Line(depth, f"{node.id}, as above")]
    if isinstance(node, Ref):
        head, children = f"the same as {node.id}:", [knowledge.criterion(node.id).tree]
    elif isinstance(node, Not):
        head, children = "not:", [node.child]
    else:
        head, children = ("all of:" if isinstance(node, All) else "at least one of:"), list(node.children)
    lines = [line for each in children for line in outline(each, knowledge=knowledge, above=above, depth=depth + 1)]
    return [Line(depth, head), *lines]


def sentence(node: Node, *, knowledge: Knowledge) -> str:
    """The tree on one line; a reference stays a name."""
    if isinstance(node, Leaf):
        return question(node, knowledge=knowledge)
    if isinstance(node, Ref):
        return f"as {node.id}"
    if isinstance(node, Not):
        return f"not [{sentence(node.child, knowledge=knowledge)}]"
    word = " **and** " if isinstance(node, All) else " **or** "
    parts = []
    for child in node.children:
        text = sentence(child, knowledge=knowledge)
        parts.append(f"[{text}]" if isinstance(child, All | Any) else text)
    return word.join(parts)


def question(leaf: Leaf, *, knowledge: Knowledge) -> str:
    """One question: what is compared with what, or which states count."""
    title = knowledge.inputs[leaf.input].title
    if leaf.value is not None:
        unit = _UNITS.get(leaf.unit) or unit_text(leaf.unit)
        number = decimal_text(leaf.value)
        itself = "counts" if leaf.op in _INCLUSIVE else "does not count"
        text = f"{title} {_SIGNS[leaf.op]} {number} {unit} ({number} itself {itself})"
    else:
        states = " or ".join(_STATES.get(state, state) for state in sorted(leaf.among))
        text = f"{title}: {states}{_parameters(leaf, knowledge)}"
    if leaf.otherwise:
        text += "; any other value leaves the question open"
    if leaf.unknown:
        text += f"; not known counts as {leaf.unknown.replace('-', ' ')}"
    return text


def _parameters(leaf: Leaf, knowledge: Knowledge) -> str:
    words = []
    for name, value in leaf.params.items():
        if name == "group":
            group = knowledge.groups[str(value)]
            words.append(f"a drug of the group {group.name} ({group.title})")
        elif name == "daily_mg_above":
            words.append(f"above {value} mg a day, or of a dose that cannot be read")
        elif name == "daily_mg_up_to":
            words.append(f"up to {value} mg a day")
        elif name in _PARAMETERS:
            words.append(f"{_PARAMETERS[name]} {', '.join(str(value).split())}")
        elif name != "missing":
            words.append(f"{name} {value}")
    return f" ({'; '.join(words)})" if words else ""


def leaves(node: Node, *, knowledge: Knowledge) -> Iterator[Leaf]:
    """The questions of a tree and of what it refers to."""
    if isinstance(node, Leaf):
        yield node
    elif isinstance(node, Ref):
        yield from leaves(knowledge.criterion(node.id).tree, knowledge=knowledge)
    else:
        for child in (node.child,) if isinstance(node, Not) else node.children:
            yield from leaves(child, knowledge=knowledge)


def windows(node: Node, *, knowledge: Knowledge) -> list[str]:
    """How old each thing that the tree asks for may be."""
    if isinstance(node, Ref):
        return [f"as {node.id}"]
    found = [_window(leaf, knowledge) for leaf in leaves(node, knowledge=knowledge)]
    return list(dict.fromkeys(text for text in found if text))


def _window(leaf: Leaf, knowledge: Knowledge) -> str:
    spec = knowledge.inputs[leaf.input]
    group = knowledge.groups.get(str(leaf.params.get("group", "")))
    if group is not None:
        return f"{group.title}: up to {hours(group.lookback.total_seconds())} after the last dose"
    if spec.window is not None:
        return f"{spec.title}: at most {hours(spec.window.total_seconds())} old"
    question = QUESTIONS[leaf.input]
    if "also_tests" in question.parameters and "also_tests" not in leaf.params:
        return f"{spec.title}: while active"
    limits = [f"{name} {decimal_text(knowledge.limits[name].value)}" for name in question.limits]
    if limits:
        return f"{spec.title}: limits {', '.join(limits)}"
    return f"{spec.title}: no limit"


def lookback(group: Group) -> str:
    """How long a drug of the group counts after its last dose."""
    seconds = group.lookback.total_seconds()
    return hours(seconds) if seconds else "the window of the input that asks"


def hours(seconds: float) -> str:
    """A window as it stands in the file, in hours, with the days where they are many."""
    count = Decimal(str(seconds)) / 3600
    text = f"{decimal_text(count.quantize(Decimal('0.01')))} h"
    return text if count < 96 else f"{text} ({decimal_text((count / 24).quantize(Decimal('0.1')))} d)"


def asked(trees: Iterable[Node], *, knowledge: Knowledge) -> Asked:
    """Everything that these rules ask."""
    inputs: dict[str, None] = {}
    groups: dict[str, None] = {}
    limits: dict[str, None] = {}
    for tree in trees:
        for leaf in leaves(tree, knowledge=knowledge):
            inputs[leaf.input] = None
            limits.update(dict.fromkeys(QUESTIONS[leaf.input].limits))
            names = [str(leaf.params["group"])] if "group" in leaf.params else QUESTIONS[leaf.input].groups
            groups.update(dict.fromkeys(names))
    return Asked(tuple(inputs), tuple(groups), tuple(limits))


def plain(text: str) -> str:
    """A sentence without its marks of emphasis."""
    return text.replace("**", "")


def spoken(expect: Mapping[str, object]) -> str:
    """What a case expects, on one line."""
    words = []
    for name, value in expect.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        words.append(f"{name}: {shown or 'none'}")
    return "; ".join(words)
