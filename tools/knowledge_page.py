"""Writes docs/safety/clinical-knowledge.md from the knowledge files: `make knowledge-page`.

The page is for review: every rule in words beside its source, its reading, what else the source could mean, and who has
signed it. A test compares it with the files.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from app.clinical.knowledge import Action, Criterion, FollowUp, Knowledge, Limit, Node, Origin, Protocol
from app.clinical.reading import decimal_text, unit_text
from app.protocols import loader, orders, page, sentences
from app.protocols.loader import Library

TARGET = Path(__file__).resolve().parent.parent / "docs" / "safety" / "clinical-knowledge.md"

_HEAD = """\
# Clinical knowledge, value by value

<!-- Written by tools/knowledge_page.py (`make knowledge-page`) from app/protocols: edit the files there. -->

{signed} Every value of the knowledge files stands here with its source, the \
[reading](../readings.md) that made it exact, what else the source could mean, and its review. How to change one, and \
what "clinical 2.3" means: [clinical-knowledge.md](../clinical-knowledge.md). The same as a page to sign: \
`rescue-cds protocols show ID`.

*Letter*: Kaplanski and colleagues, doi 10.1016/j.autrev.2020.102726. *Register*: NCT04366232. *Ours*: a proposal of \
this project that neither text contains. In a rule, "itself counts" says that the operator is inclusive. \
Three-valued: what is not known is never turned into met or not met.
"""
_ORIGIN = ("from", "reading", "also possible", "review")


def text(library: Library) -> str:
    """The whole page."""
    known = library.knowledge
    protocols: list[Protocol | FollowUp] = [*known.protocols, known.follow_up]
    signed = [p.id for p in protocols if p.reviewed_by]
    signed += [orders.ID] if page.signatures(known.order_checks)[1] else []
    head = _HEAD.format(
        signed=f"Signed: {', '.join(signed)}." if signed else "**No clinician has signed any of this.**"
    )
    parts: list[str] = [head]
    parts += [_protocol(library, protocol) for protocol in known.protocols]
    parts += [_safety(known), _groups(known), _inputs(known), _limits("Limits", "shared/inputs.toml", known.limits)]
    parts += [_steroids(library), _treatment(library), _rows(known), _follow_up(known, known.follow_up)]
    parts.append(_orders(known))
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A markdown table; a bar in a cell would end it."""
    lines = [_line(heads), _line(["---"] * len(heads))]
    lines += [_line([cell.replace("|", "\\|").replace("\n", " ") or "–" for cell in row]) for row in rows]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _origin(origin: Origin) -> tuple[str, ...]:
    return (origin.source, origin.reading, origin.alternatives, origin.review)


def _head(protocol: Protocol | FollowUp, file: str) -> str:
    by = ", ".join(protocol.reviewed_by) or "nobody"
    return (
        f"## `{protocol.id}`: {protocol.title}\n\n`app/protocols/{file}`, version {protocol.version}, status "
        f"{protocol.status}, reviewed by {by}. Source: {protocol.source}\n"
    )


def _protocol(library: Library, protocol: Protocol) -> str:
    known = library.knowledge
    folder = page.folder_of(protocol.id)
    parts = [_head(protocol, f"{folder}/protocol.toml")]
    rows = [(c.id, _title(c), *_rule(c.tree, known), *_origin(c.origin)) for c in protocol.criteria]
    parts.append(table(("id", "what", "met when", "how old it may be", *_ORIGIN), rows))
    asked = [f"{c.id}: {c.confirm}" for c in protocol.criteria if c.confirm]
    said = [f"{c.id} ({c.text})" for c in protocol.confirmations]
    parts.append(f"Only a person can confirm: {'; '.join(said) or 'nothing is listed'}.\n")
    if asked:
        parts.append(f"Asked of a person when nothing is on record: {'; '.join(asked)}\n")
    parts.append(f"Scope: {sentences.sentence(protocol.scope, knowledge=known)}.\n")
    if protocol.arm is not None:
        doses = "; ".join(page.trial_dose(dose) for dose in protocol.arm.doses)
        pairs = zip(_ORIGIN, _origin(protocol.arm.origin), strict=True)
        origin = "; ".join(f"{head}: {text or '–'}" for head, text in pairs)
        parts.append(f"Arm of the trial ({protocol.arm.stage}): {doses}. {origin}.\n")
    return "\n".join(parts)


def _title(criterion: Criterion) -> str:
    part = f"; part of {criterion.part_of}" if criterion.part_of else ""
    return f"{criterion.title}: {criterion.threshold}{part}"


def _rule(tree: Node, known: Knowledge) -> tuple[str, str]:
    return sentences.sentence(tree, knowledge=known), "; ".join(sentences.windows(tree, knowledge=known))


def _safety(known: Knowledge) -> str:
    rows = []
    for rule in known.safety:
        silent = rule.severity != "monitor" and not rule.withholds
        severity = f"{rule.severity}{', withholds nothing' if silent else ''}{', required' if rule.required else ''}"
        drugs = ", ".join(rule.drugs)
        rows.append(
            (rule.id, severity, drugs, rule.title, *_rule(rule.tree, known), rule.advice, *_origin(rule.origin))
        )
    heads = ("id", "severity", "drugs", "what", "present when", "how old it may be", "on the card", *_ORIGIN)
    return (
        "## Safety findings\n\n`app/protocols/shared/safety.toml`. *Absolute* and *relative* take the suggested order "
        "away, *monitor* is a line; the severity is that for the pilot protocols. *Required*: a refused newer result "
        'takes away "absent", never "present" (reading 3.3). Nothing is suggested while one of these is unknown: '
        f"{', '.join(known.required)}.\n\n{table(heads, rows)}"
    )


def _groups(known: Knowledge) -> str:
    rows = [
        (
            f"`{name}`",
            group.title,
            sentences.lookback(group),
            ", ".join(sorted(group.ingredients)),
            *_origin(group.origin),
        )
        for name, group in known.groups.items()
    ]
    return (
        "## Drug groups\n\n`app/protocols/shared/interactions.toml`; matched on ingredient, systemic routes only.\n\n"
        + table(("group", "what", "look-back after the last dose", "drugs", *_ORIGIN), rows)
    )


def _inputs(known: Knowledge) -> str:
    rows = []
    for name, spec in known.inputs.items():
        window = "no window" if spec.window is None else sentences.hours(spec.window.total_seconds())
        rows.append((f"`{name}`", spec.title, window, f"`{spec.missing}`", spec.obtain, *_origin(spec.origin)))
    return (
        "## Inputs\n\n`app/protocols/shared/inputs.toml`. One that stays unknown is named in `missing` by its public "
        "name.\n\n" + table(("input", "what", "how old it may be", "`missing` name", "how to obtain", *_ORIGIN), rows)
    )


def _limits(title: str, file: str, limits: Any) -> str:
    rows = [_limit(name, limit) for name, limit in limits.items()]
    return f"## {title}\n\n`app/protocols/{file}`.\n\n" + table(("limit", "value", "what it means", *_ORIGIN), rows)


def _limit(name: str, limit: Limit) -> tuple[str, ...]:
    return (f"`{name}`", decimal_text(limit.value), limit.what, *_origin(limit.origin))


def _steroids(library: Library) -> str:
    block = tomllib.loads(library.files["shared/inputs.toml"], parse_float=Decimal)["steroid_equivalents"]
    rows = [(name, str(value)) for name, value in block["mg"].items()]
    said = "; ".join(f"{name}: {block[name] or '–'}" for name in ("source", "reading", "alternatives", "review"))
    return f"## Steroid equivalents\n\nmg of prednisone that 1 mg equals. {said}.\n\n{table(('drug', 'mg'), rows)}"


def _treatment(library: Library) -> str:
    treatment = library.treatment
    rows = [
        (drug["display"], drug["route_text"], "; ".join(page.dose(step) for step in drug["steps"]))
        for drug in treatment["drug"]
    ]
    said = "; ".join(f"{name}: {treatment[name] or '–'}" for name in ("source", "reading", "alternatives", "review"))
    return (
        f"## Treatment\n\n`app/protocols/shared/treatment.toml`. {said}.\n\n"
        + table(("drug", "route", "doses"), rows)
        + "\n"
        + "\n\n".join(drug["description"] for drug in treatment["drug"])
        + "\n"
    )


def _rows(known: Knowledge) -> str:
    rows = [
        (
            f"`{row.id}`",
            " **and** ".join(row.when) or "otherwise",
            row.card,
            "allowed" if row.suggestions else "never",
            row.outcome,
            *_origin(row.origin),
        )
        for row in known.rows
    ]
    heads = ("row", "when", "card", "suggestion", "recorded as", *_ORIGIN)
    return (
        "## Who gets which card\n\n`app/protocols/shared/patient_view.toml`; the first row that matches.\n\n"
        + table(heads, rows)
    )


def _follow_up(known: Knowledge, course: FollowUp) -> str:
    folder = page.folder_of(course.id)
    schedules = [
        (s.drug, "; ".join(page.step(step) for step in s.steps), *_origin(s.origin)) for s in course.schedules.values()
    ]
    actions = [
        (
            a.id,
            a.severity,
            ", ".join(a.drugs),
            a.title,
            page.days(a),
            _present(a, known),
            a.advice,
            *_origin(a.origin),
        )
        for a in course.actions
    ]
    windows = [(str(w.day), f"{w.from_day} to {w.to_day}", *_origin(w.origin)) for w in course.windows]
    means = [
        (
            q.title,
            unit_text(q.unit),
            page.mean(q.inclusion),
            *(page.mean(q.days[w.day]) if w.day in q.days else "–" for w in course.windows),
            *_origin(q.origin),
        )
        for q in course.quantities
    ]
    days = tuple(f"day {w.day}" for w in course.windows)
    heads = ("id", "severity", "drugs", "what", "days", "present when", "on the card", *_ORIGIN)
    return "\n".join(
        [
            _head(course, f"{folder}/followup.toml"),
            table(("drug", "planned", *_ORIGIN), schedules),
            table(heads, actions),
            "Days around a column of Table 2 of the letter:\n",
            table(("column", "treatment days", *_ORIGIN), windows),
            "Means and standard deviations of the letter's 11 patients; no response or futility rule.\n",
            table(("quantity", "unit", "inclusion", *days, *_ORIGIN), means),
            _limits("Limits of the follow-up", f"{folder}/followup.toml", course.limits),
        ]
    )


def _orders(known: Knowledge) -> str:
    status, names = page.signatures(known.order_checks)
    rows = [
        (c.id, c.severity, c.card, page.speaks_at(c), c.title, page.by_order_rule(c), c.advice, *_origin(c.origin))
        for c in known.order_checks
    ]
    heads = ("id", "severity", "card", "alone worth a card at", "what", "present", "on the card", *_ORIGIN)
    return (
        f"## `{orders.ID}`: orders that are being written or signed\n\n`app/protocols/{orders.FILE}`, version "
        f"{known.order_version}, status {status}, reviewed by {', '.join(names) or 'nobody'}. Beside the safety "
        "findings of the drug; doses and days are those of the schedules above. In words: "
        f"[clinical-knowledge.md](../clinical-knowledge.md#orders).\n\n{table(heads, rows)}"
    )


def _present(action: Action, known: Knowledge) -> str:
    if action.tree is None:
        return page.by_rule(action)
    rule, windows = _rule(action.tree, known)
    return f"{rule} ({windows})"


def main() -> int:
    """Write the page."""
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(text(loader.load()), encoding="utf-8")
    sys.stdout.write(f"{TARGET.name} written\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
