"""One decision for a person: what the clinician saw, why, what it was read from, and what came of it.

`document` is all of it as plain JSON; `text` is the same for a terminal. After the removal of the patient's data both
say so and show what is left.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec

from app import kept
from app.decisions.legible import line, lines
from app.decisions.records import Line, Link, Record, Told
from app.knowledge import Bedside
from app.report import printable

SCHEMA: Final = 1

_DECODER: Final = msgspec.json.Decoder(float_hook=Decimal)
WIDEST: Final = 112
NARROWEST: Final = 60
"""Characters of a line."""

_SHORT_ID: Final = 13
"""Characters of an id where the terminal has no place for all of it: as much as `show` needs, and some more."""

_WIDEST_ID: Final = 28
"""Characters of the id of a criterion that the titles stand clear of."""

_SKIPPED: Final = frozenset({"row", "why_unknown", "silenced", "would_be", "would_show", "suggested", "safety", "told"})
_FLAGS: Final = {
    "hook-instance-reused": "its hookInstance had been used for another request",
    "hook-instance-not-compared": "whether its hookInstance had been used before could not be looked up",
    "spooled": "kept in the spool while the database was down, committed later",
    "duplicate": "the same request had been answered at the same time",
}
_ACCESS: Final = {"hook": "the token of the hook", "backend": "the service's own credentials", "": "no token"}


def document(
    record: Record, *, told: Sequence[Told], links: Sequence[Link], bedside: Bedside | None, why_no_words: str = ""
) -> dict[str, Any]:
    """Everything that is known of a decision. `bedside` is its knowledge, None where it cannot be used."""
    reading = dict(record.reading)
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "id": record.id,
        "at": _utc(record.created_at),
        "service": record.service,
        "hook": record.hook,
        "hook_instance": record.hook_instance,
        "request_digest": record.request_digest,
        "client": record.client,
        "tenant": record.tenant,
        "outcome": record.outcome,
        "status": record.status,
        "flags": list(record.flags),
        "versions": dict(record.versions),
        "knowledge_hash": record.knowledge_hash,
        "way": reading.pop("way", ""),
        "switches": reading.pop("switches", None),
        "reading": reading,
        "timing": dict(record.timing),
        "verdicts": record.verdicts,
        "evidence": record.evidence,
        "gaps": record.gaps,
        "cards": [_plain(card) for card in record.cards],
        "patient": record.patient,
        "facts": _facts(record),
        "queries": _queries(record),
        "answer": None if record.answer is None else _decoded(record.answer),
        "removed": record.is_removed,
        "feedback": [_plain(one) for one in told],
        "chain": [_plain(link) for link in links],
        "titles": {} if bedside is None else _titles(bedside),
    }
    return found if bedside is not None else found | {"no_titles": why_no_words}


def columns() -> int | None:
    """Those of the terminal that is printed on, None where the output goes elsewhere."""
    if not sys.stdout.isatty():
        return None
    return max(NARROWEST, shutil.get_terminal_size((WIDEST, 24)).columns)


def width() -> int:
    """Characters of a line of `text`: those of the terminal, and no more than can be read well."""
    return min(WIDEST, columns() or WIDEST)


def text(found: Mapping[str, Any], *, width: int = WIDEST) -> str:
    """The same for a terminal of that width."""
    parts = [
        _head(found),
        _section("What was shown", _shown(found)),
        _section("Why", _why(found)),
        _section("Evidence", _evidence(found)),
        _section("Not looked at, or not used", _gaps(found)),
        _section("What was read", _read(found)),
        _section("Versions and switches", _versions(found)),
        _section("What came back", _feedback(found)),
        _section("Place in the record", _place(found)),
    ]
    return "\n".join(row for part in parts for piece in part for row in _laid(piece, width=width))


def table(rows: Sequence[Line], *, columns: int | None = None) -> str:
    """Decisions in a list: one a line with all of it, or as much as fits into the columns of a terminal."""
    if not rows:
        return "no decision"
    cells = [
        {
            "id": line(row.id),
            "at (UTC)": f"{row.created_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
            "tenant": line(row.tenant),
            "client": line(row.client),
            "hook": line(row.hook),
            "outcome": line(row.outcome),
            "cards": str(row.cards),
            "flags": line(",".join(row.flags)),
        }
        for row in rows
    ]
    if columns is None:
        return "\n".join(_grid(cells, [*cells[0]]))
    return "\n".join(_fitted(cells, columns=columns))


def _grid(cells: Sequence[Mapping[str, str]], names: Sequence[str]) -> list[str]:
    """The named columns, under their names."""
    rows = [{name: name for name in names}, *cells]
    widths = {name: max(len(row[name]) for row in rows) for name in names}
    return ["  ".join(row[name].ljust(widths[name]) for name in names).rstrip() for row in rows]


def _fitted(cells: Sequence[dict[str, str]], *, columns: int) -> Iterator[str]:
    """What all rows share is said once, above; what has no place in the line stands below it."""
    names, below = [name for name in cells[0] if name != "flags"], []

    def too_long() -> bool:
        return max(map(len, _grid(cells, names))) > columns

    if too_long():
        shared = [name for name in ("tenant", "client") if len({row[name] for row in cells}) == 1]
        names = [name for name in names if name not in shared]
        if shared:
            yield from _laid(_Piece(", ".join(f"{name} {cells[0][name]}" for name in shared)), width=columns)
    if too_long():
        cells = [row | {"id": row["id"][:_SHORT_ID]} for row in cells]
    for name in ("client", "tenant", "cards", "hook"):
        if name in names and too_long():
            names.remove(name)
            below.append(name)
    grid = _grid(cells, names)
    end = max(map(len, grid))
    for row, cell in zip(grid, [{"flags": "flags"}, *cells], strict=True):
        beside = f"{row:<{end}}  {cell['flags']}".rstrip()
        fits = len(beside) <= columns
        yield beside if fits else row
        if row is grid[0]:
            continue
        rest = [f"{name} {cell[name]}" for name in reversed(below)] + ([] if fits else [f"flags {cell['flags']}"])
        if rest:
            yield from _laid(_Piece(", ".join(rest), indent="    "), width=columns)


# --- parts of the document -------------------------------------------------------------------------------------------


def _facts(record: Record) -> Any:
    """As they are kept; a form that this version cannot read is left out, and said so."""
    if record.facts is None:
        return None
    try:
        return _plain(kept.decode(record.facts).facts)
    except kept.Unknown as error:
        return {"unreadable": str(error)}


def _queries(record: Record) -> list[str]:
    """What the FHIR server was asked, as it was written."""
    if record.facts is None:
        return []
    try:
        return list(kept.decode(record.facts).queries)
    except kept.Unknown:
        return []


def _titles(bedside: Bedside) -> dict[str, str]:
    """What the ids of the verdicts are called, in the knowledge of that decision."""
    known = bedside.library.knowledge
    titles = {p.id: f"{p.title} ({p.version})" for p in known.protocols}
    titles |= {c.id: f"{c.title}: {c.threshold}" for p in known.protocols for c in p.criteria}
    titles |= {rule.id: f"{rule.title} ({', '.join(rule.drugs)}; {rule.severity})" for rule in known.safety}
    titles |= {action.id: action.title for action in known.follow_up.actions}
    return titles | {check.id: check.title for check in known.order_checks}


def _plain(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


def _decoded(body: bytes) -> Any:
    try:
        return _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body.decode("utf-8", "replace")


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


# --- for the terminal ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Piece:
    """A text that has its lines cut at words, each part below the other: `first` stands before the first part where
    it is something else than the indent of the others. `cut`: also within words, of what nobody copies."""

    text: str
    indent: str = ""
    first: str | None = None
    cut: bool = False


def _laid(piece: _Piece, *, width: int) -> list[str]:
    """Its lines, each of that width unless one word is longer."""
    found: list[str] = []
    for one in lines(piece.text):
        found += textwrap.wrap(
            one,
            width=width,
            initial_indent=piece.indent if found or piece.first is None else piece.first,
            subsequent_indent=piece.indent,
            break_long_words=piece.cut,
            break_on_hyphens=False,
        ) or ["" if piece.first is None else piece.first.rstrip()]
    return found


def _line(text: str, *, indent: str = "  ") -> _Piece:
    """A text without lines of its own."""
    return _Piece(line(text), indent)


def _spread(rows: Sequence[Sequence[str]]) -> list[_Piece]:
    """Rows whose last cell is wrapped beside the others, which are as wide as the longest of their column. A cell that
    is longer than any id of ours pads no other."""
    cleaned = [[line(cell) for cell in row] for row in rows]
    padded = range(len(cleaned[0]) - 1 if cleaned else 0)
    widths = [max((len(row[n]) for row in cleaned if len(row[n]) <= _WIDEST_ID), default=0) for n in padded]
    indent = " " * (2 + sum(widths) + 2 * len(widths))
    return [_Piece(row[-1], indent, "  " + "".join(f"{row[n]:<{widths[n]}}  " for n in padded)) for row in cleaned]


def _section(title: str, rows: Iterable[_Piece]) -> list[_Piece]:
    found = list(rows)
    return [_Piece(""), _Piece(title), _Piece("-" * len(title)), *found] if found else []


def _head(found: Mapping[str, Any]) -> Iterator[_Piece]:
    outcome = str(found["outcome"])
    would_be = found["verdicts"].get("would_be") if isinstance(found["verdicts"], dict) else None
    if would_be:
        outcome += f" (would have been: {would_be})"
    at = datetime.fromisoformat(found["at"])
    switches = found["switches"] or {}
    here = ""
    if switches.get("zone", "UTC") != "UTC":
        here = f" ({at.astimezone(ZoneInfo(switches['zone'])):%Y-%m-%d %H:%M:%S %Z})"
    rows = [
        ("at", f"{at:%Y-%m-%d %H:%M:%S} UTC{here}"),
        ("hook", f"{found['hook']}, hookInstance {found['hook_instance'] or '(empty)'}"),
        ("client", found["client"]),
        ("tenant", found["tenant"]),
        ("outcome", outcome),
    ]
    if found["patient"]:
        rows.append(("patient", found["patient"]))
    if found["status"] is not None:
        rows.append(("status", str(found["status"])))
    rows += [("flag", f"{flag}: {_FLAGS.get(flag, 'not known to this version')}") for flag in found["flags"]]
    yield _Piece(f"Decision {line(found['id'])}")
    yield from (_Piece(line(value), " " * 13, f"  {name:<9}  ") for name, value in rows)
    if found["removed"]:
        yield _Piece("")
        yield _Piece(
            "The patient's data have been removed: facts and answer are gone, and what follows is what is left."
        )


def _shown(found: Mapping[str, Any]) -> Iterator[_Piece]:
    answer = found["answer"]
    cards = answer.get("cards", []) if isinstance(answer, dict) else []
    if answer is None:
        yield _Piece("The answer is no longer there." if found["removed"] else "No answer is on record.")
        for card in found["cards"]:
            yield _line(f"a card: {card['name']} [{card['indicator']}], {card['card']}")
    elif isinstance(answer, dict) and answer.get("resourceType") == "OperationOutcome":
        for issue in answer.get("issue", ()):
            yield _Piece(f"refused: {issue.get('diagnostics', '')}", "  ")
    elif not cards:
        yield _Piece("No card.")
    would_show = found["verdicts"].get("would_show", ()) if isinstance(found["verdicts"], dict) else ()
    for one in would_show:
        yield _line(f"evaluated and not shown: {one['name']} [{one['indicator']}]")
    names = {card["card"]: card["name"] for card in found["cards"]}
    for number, card in enumerate(cards, start=1):
        name = names.get(card.get("uuid", ""), "")
        yield from ([_Piece("")] if number > 1 else [])
        yield _line(f"Card {number} [{card.get('indicator', '')}] {name} {card.get('uuid', '')}", indent="")
        yield from _card(card)


def _card(card: Mapping[str, Any]) -> Iterator[_Piece]:
    yield _Piece(card.get("summary", ""), "  ")
    if "detail" in card:
        yield _Piece("")
        yield _Piece(card["detail"], "    ")
        yield _Piece("")
    source = card.get("source", {})
    yield _line(f"source: {source.get('label', '')} {source.get('url', '')}")
    for suggestion in card.get("suggestions", ()):
        yield _Piece(f"suggestion: {suggestion.get('label', '')} ({suggestion.get('uuid', '')})", "  ")
        for action in suggestion.get("actions", ()):
            yield _Piece(f"{action.get('type', '')}: {action.get('description', '')}", "      ")
            what = action.get("resource", action.get("resourceId", ""))
            shown = what if isinstance(what, str) else msgspec.json.encode(what).decode()
            yield _Piece(shown, "        ", cut=True)
    for link in card.get("links", ()):
        yield _line(f"link: {link.get('label', '')} {link.get('url', '')}")
    reasons = "; ".join(reason.get("display", "") for reason in card.get("overrideReasons", ()))
    if reasons:
        yield _Piece(f"reasons offered for an override: {reasons}", "  ")


def _why(found: Mapping[str, Any]) -> Iterator[_Piece]:
    """The rows of all findings have the same columns."""
    rows = [row for row in _verdicts(found) if isinstance(row, tuple)]
    spread = iter(_spread(rows))
    for row in _verdicts(found):
        yield next(spread) if isinstance(row, tuple) else _line(row, indent="")


def _verdicts(found: Mapping[str, Any]) -> Iterator[str | tuple[str, str, str]]:
    """Lines of text, and of findings: the finding, its id, what that is called."""
    verdicts = found["verdicts"]
    if not isinstance(verdicts, dict):
        return
    titles, unknown = found["titles"], verdicts.get("why_unknown", {})

    def row(id_: str, finding: str) -> tuple[str, str, str]:
        why = f"[{unknown[id_]}]" if finding == "unknown" and id_ in unknown else ""
        return str(finding), id_, f"{titles.get(id_, '')} {why}".strip()

    if "row" in verdicts:
        yield f"row of the table of cards: {verdicts['row']}"
    if found.get("no_titles"):
        yield f"titles are left out: {found['no_titles']}"
    for id_, entry in verdicts.items():
        if id_ in _SKIPPED or not isinstance(entry, dict):
            continue
        if "verdict" in entry:
            yield f"{id_}: {entry['verdict']} (scope: {entry.get('scope', '')})  {titles.get(id_, '')}".rstrip()
            yield from (row(name, finding) for name, finding in entry.get("criteria", {}).items())
        elif "actions" in entry:
            day = entry.get("treatment_day")
            yield f"{id_}: " + ("no course" if day is None else f"treatment day {day}")
            yield from (row(name, finding) for name, finding in entry["actions"].items() if finding != "absent")
        elif id_ == "orders":
            for draft in entry.get("drafts", ()):
                drugs = ", ".join([*draft["drugs"], *(f"possibly {name}" for name in draft["possibly"])])
                yield f"draft: {drugs or 'no listed drug'} (by {draft['identity']})"
            yield from (row(name, finding) for name, finding in entry.get("checks", {}).items() if finding != "absent")
    safety = verdicts.get("safety", {})
    spoken = {name: finding for name, finding in safety.items() if finding != "absent"}
    if safety:
        yield f"safety: {len(safety) - len(spoken)} of {len(safety)} findings absent"
        yield from (row(name, finding) for name, finding in spoken.items())
    if "told" in verdicts:
        yield f"told on a card: {', '.join(verdicts['told']) or 'none'}"
    if "suggested" in verdicts:
        yield f"orders suggested: {'yes' if verdicts['suggested'] else 'no'}"
    if verdicts.get("silenced"):
        yield f"silenced by the site: {', '.join(verdicts['silenced'])}"


def _evidence(found: Mapping[str, Any]) -> Iterator[_Piece]:
    coded = _coded(found)
    for e in found["evidence"]:
        concept, original, reference = e.get("concept", ""), e.get("original", ""), e.get("reference", "")
        value = " ".join(filter(None, (e.get("comparator", "") + e.get("value", ""), e.get("unit", ""))))
        result = value or " or ".join(coded.get((concept, reference, original), ())) or original or "on record"
        written = f" (written: {original})" if original and original != result else ""
        kind = f", {e['kind']}" if e.get("kind") else ""
        age = f", {e['age_hours']} h old" if "age_hours" in e else ""
        when = f" at {e['effective']}{age}" if "effective" in e else ""
        yield _Piece(f"{concept or 'record'}: {result}{written}{kind}{when}; {reference}", "  ")


def _coded(found: Mapping[str, Any]) -> dict[tuple[str, str, str], list[str]]:
    """What the qualitative results mean, by concept, reference and what was written: the evidence holds the last only,
    and once the facts are gone nobody can say more than that."""
    facts = found["facts"] if isinstance(found["facts"], dict) else {}
    coded: dict[tuple[str, str, str], list[str]] = {}
    for m in facts.get("measurements", ()):
        if m.get("coded"):
            key = (printable(m["concept"]), printable(m["reference"]), printable(m.get("original") or m["coded"]))
            known = coded.setdefault(key, [])
            known += [m["coded"]] if m["coded"] not in known else []
    return coded


def _gaps(found: Mapping[str, Any]) -> Iterator[_Piece]:
    for gap in found["gaps"]:
        reference = f" ({gap['reference']})" if gap.get("reference") else ""
        yield _Piece(f"{gap.get('source', '')}: {gap.get('why', '')}{reference}", "  ")


def _read(found: Mapping[str, Any]) -> Iterator[_Piece]:
    reading, timing = found["reading"], found["timing"]
    if "access" in reading:
        access = str(reading["access"])
        yield _line(f"by the authority of: {_ACCESS.get(access, access)}")
    if reading.get("server"):
        yield _line(f"from: {reading['server']}")
    if "requests" in reading:
        size = f", {reading['bytes']} bytes" if "bytes" in reading else ""
        yield _line(f"requests: {reading['requests']}{size}; gather: {reading.get('gather', '')}")
    for need, left_out in reading.get("asked_without", {}).items():
        yield _line(f"{need}: asked without {', '.join(left_out)}, which the server does not take")
    facts = found["facts"] if isinstance(found["facts"], dict) else {}
    times = timing.get("sources_ms", {})
    rows = []
    for source in (*facts.get("sources", ()), *reading.get("lost", ())):
        why = f" ({source['why']})" if source.get("why") else ""
        ms = f", {times[source['key']]} ms" if source["key"] in times else ""
        rows.append((source["key"], f"{source['resource_type']}: {source['outcome']}{why}{ms}"))
    if not facts:
        rows += [(key, f"{ms} ms") for key, ms in times.items()]
    yield from _spread(rows)
    if "total_ms" in timing:
        yield _line(f"the whole call: {timing['total_ms']} ms")


def _versions(found: Mapping[str, Any]) -> Iterator[_Piece]:
    for name, version in found["versions"].items():
        yield _line(f"{name}: {version}")
    yield _line(f"knowledge files: {found['knowledge_hash']}")
    on = found["switches"]
    if on is None:
        yield _line("switches: not kept with this decision")
        return
    for name, value in on.items():
        if value not in (None, "", []):
            yield _line(f"{name}: {', '.join(value) if isinstance(value, list) else value}")


def _feedback(found: Mapping[str, Any]) -> Iterator[_Piece]:
    for one in found["feedback"]:
        at = one["outcome_at"] or one["received_at"]
        yield _line(f"{at} {one['outcome']} of card {one['card']}")
        if one["suggestions"]:
            yield _line(f"suggestions accepted: {', '.join(one['suggestions'])}", indent="    ")
        if one["reason_code"]:
            yield _line(f"reason: {one['reason_code']} ({one['reason_system']})", indent="    ")
        yield from (_Piece(words, "    ") for words in (one["display"], one["comment"]) if words)


def _place(found: Mapping[str, Any]) -> Iterator[_Piece]:
    if not found["chain"]:
        yield _line("not in the chain: see `rescue-cds decisions verify`")
    for link in found["chain"]:
        yield _line(f"{link['kind']}: entry {link['seq']} of writer {link['writer']}, {link['hash']}")
    yield _line(f"digest of the request: {found['request_digest']}")
