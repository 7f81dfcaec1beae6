"""One decision for a person: what the clinician saw, why, what it was read from, and what came of it.

`document` is all of it as plain JSON; `text` is the same for a terminal. After the removal of the patient's data both
say so and show what is left.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec

from app import kept
from app.decisions.legible import line, lines
from app.decisions.records import Line, Link, Record, Told
from app.knowledge import Bedside

SCHEMA: Final = 1

_DECODER: Final = msgspec.json.Decoder(float_hook=Decimal)
_WIDTH: Final = 112
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


def text(found: Mapping[str, Any]) -> str:
    """The same for a terminal."""
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
    return "\n".join(row for part in parts for row in part)


def table(rows: Sequence[Line], *, zone: ZoneInfo | None = None) -> str:
    """Decisions in a list."""
    if not rows:
        return "no decision"
    shown = [("id", "at", "tenant", "client", "hook", "outcome", "cards", "flags")]
    shown += [
        (
            row.id,
            row.created_at.astimezone(zone or UTC).strftime("%Y-%m-%d %H:%M:%S"),
            row.tenant,
            row.client,
            row.hook,
            row.outcome,
            str(row.cards),
            ",".join(row.flags),
        )
        for row in rows
    ]
    cleaned = [tuple(line(cell) for cell in row) for row in shown]
    widths = [max(len(row[column]) for row in cleaned) for column in range(len(cleaned[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cleaned
    )


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


def _section(title: str, rows: Iterable[str]) -> list[str]:
    found = list(rows)
    return ["", title, "-" * len(title), *found] if found else []


def _wrapped(value: object, *, indent: str) -> list[str]:
    """Long lines cut at words, each part below the other."""
    return [
        part
        for one in lines(str(value))
        for part in (
            textwrap.wrap(
                one,
                width=_WIDTH,
                initial_indent=indent,
                subsequent_indent=indent,
                break_long_words=False,
                break_on_hyphens=False,
            )
            or [""]
        )
    ]


def _head(found: Mapping[str, Any]) -> list[str]:
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
        f"Decision {line(found['id'])}",
        f"  at         {at:%Y-%m-%d %H:%M:%S} UTC{here}",
        f"  hook       {line(found['hook'])}, hookInstance {line(found['hook_instance']) or '(empty)'}",
        f"  client     {line(found['client'])}",
        f"  tenant     {line(found['tenant'])}",
        f"  outcome    {line(outcome)}",
    ]
    if found["patient"]:
        rows.append(f"  patient    {line(found['patient'])}")
    if found["status"] is not None:
        rows.append(f"  status     {found['status']}")
    rows += [f"  flag       {line(flag)}: {_FLAGS.get(flag, 'not known to this version')}" for flag in found["flags"]]
    if found["removed"]:
        rows += [
            "",
            "The patient's data have been removed: facts and answer are gone, and what follows is what is left.",
        ]
    return rows


def _shown(found: Mapping[str, Any]) -> Iterator[str]:
    answer = found["answer"]
    cards = answer.get("cards", []) if isinstance(answer, dict) else []
    if answer is None:
        yield "The answer is no longer there." if found["removed"] else "No answer is on record."
        for card in found["cards"]:
            yield f"  a card: {line(card['name'])} [{line(card['indicator'])}], {line(card['card'])}"
    elif isinstance(answer, dict) and answer.get("resourceType") == "OperationOutcome":
        for issue in answer.get("issue", ()):
            yield from _wrapped(f"refused: {issue.get('diagnostics', '')}", indent="  ")
    elif not cards:
        yield "No card."
    would_show = found["verdicts"].get("would_show", ()) if isinstance(found["verdicts"], dict) else ()
    for one in would_show:
        yield f"  evaluated and not shown: {line(one['name'])} [{line(one['indicator'])}]"
    names = {card["card"]: card["name"] for card in found["cards"]}
    for number, card in enumerate(cards, start=1):
        name = names.get(card.get("uuid", ""), "")
        yield from ([""] if number > 1 else [])
        yield f"Card {number} [{line(card.get('indicator', ''))}] {line(name)} {line(card.get('uuid', ''))}".rstrip()
        yield from _card(card)


def _card(card: Mapping[str, Any]) -> Iterator[str]:
    yield from _wrapped(card.get("summary", ""), indent="  ")
    if "detail" in card:
        yield ""
        yield from _wrapped(card["detail"], indent="    ")
        yield ""
    source = card.get("source", {})
    yield f"  source: {line(source.get('label', ''))} {line(source.get('url', ''))}".rstrip()
    for suggestion in card.get("suggestions", ()):
        yield from _wrapped(f"suggestion: {suggestion.get('label', '')} ({suggestion.get('uuid', '')})", indent="  ")
        for action in suggestion.get("actions", ()):
            yield from _wrapped(f"{action.get('type', '')}: {action.get('description', '')}", indent="      ")
            what = action.get("resource", action.get("resourceId", ""))
            shown = what if isinstance(what, str) else msgspec.json.encode(what).decode()
            yield from _wrapped(shown, indent="        ")
    for link in card.get("links", ()):
        yield f"  link: {line(link.get('label', ''))} {line(link.get('url', ''))}"
    reasons = "; ".join(reason.get("display", "") for reason in card.get("overrideReasons", ()))
    if reasons:
        yield from _wrapped(f"reasons offered for an override: {reasons}", indent="  ")


def _why(found: Mapping[str, Any]) -> Iterator[str]:
    verdicts = found["verdicts"]
    if not isinstance(verdicts, dict):
        return
    titles, unknown = found["titles"], verdicts.get("why_unknown", {})

    def row(id_: str, finding: str) -> str:
        why = f" [{unknown[id_]}]" if finding == "unknown" and id_ in unknown else ""
        return line(f"  {finding + why:<28} {id_:<22} {titles.get(id_, '')}".rstrip())

    if "row" in verdicts:
        yield line(f"row of the table of cards: {verdicts['row']}")
    if found.get("no_titles"):
        yield line(f"titles are left out: {found['no_titles']}")
    for id_, entry in verdicts.items():
        if id_ in _SKIPPED or not isinstance(entry, dict):
            continue
        if "verdict" in entry:
            yield line(f"{id_}: {entry['verdict']} (scope: {entry.get('scope', '')})  {titles.get(id_, '')}".rstrip())
            yield from (row(name, finding) for name, finding in entry.get("criteria", {}).items())
        elif "actions" in entry:
            day = entry.get("treatment_day")
            yield line(f"{id_}: " + ("no course" if day is None else f"treatment day {day}"))
            yield from (row(name, finding) for name, finding in entry["actions"].items() if finding != "absent")
        elif id_ == "orders":
            for draft in entry.get("drafts", ()):
                drugs = ", ".join([*draft["drugs"], *(f"possibly {name}" for name in draft["possibly"])])
                yield line(f"draft: {drugs or 'no listed drug'} (by {draft['identity']})")
            yield from (row(name, finding) for name, finding in entry.get("checks", {}).items() if finding != "absent")
    safety = verdicts.get("safety", {})
    spoken = {name: finding for name, finding in safety.items() if finding != "absent"}
    if safety:
        yield f"safety: {len(safety) - len(spoken)} of {len(safety)} findings absent"
        yield from (row(name, finding) for name, finding in spoken.items())
    if "told" in verdicts:
        yield line(f"told on a card: {', '.join(verdicts['told']) or 'none'}")
    if "suggested" in verdicts:
        yield f"orders suggested: {'yes' if verdicts['suggested'] else 'no'}"
    if verdicts.get("silenced"):
        yield line(f"silenced by the site: {', '.join(verdicts['silenced'])}")


def _evidence(found: Mapping[str, Any]) -> Iterator[str]:
    for e in found["evidence"]:
        value = " ".join(filter(None, (e.get("comparator", "") + e.get("value", ""), e.get("unit", ""))))
        original = e.get("original", "")
        written = f" (written: {original})" if original and original != value else ""
        kind = f", {e['kind']}" if e.get("kind") else ""
        age = f", {e['age_hours']} h old" if "age_hours" in e else ""
        when = f" at {e['effective']}{age}" if "effective" in e else ""
        yield from _wrapped(
            f"{e.get('concept', '') or 'record'}: {value or 'present'}{written}{kind}{when}; {e.get('reference', '')}",
            indent="  ",
        )


def _gaps(found: Mapping[str, Any]) -> Iterator[str]:
    for gap in found["gaps"]:
        reference = f" ({gap['reference']})" if gap.get("reference") else ""
        yield from _wrapped(f"{gap.get('source', '')}: {gap.get('why', '')}{reference}", indent="  ")


def _read(found: Mapping[str, Any]) -> Iterator[str]:
    reading, timing = found["reading"], found["timing"]
    if "access" in reading:
        access = str(reading["access"])
        yield line(f"  by the authority of: {_ACCESS.get(access, access)}")
    if reading.get("server"):
        yield from _wrapped(f"from: {reading['server']}", indent="  ")
    if "requests" in reading:
        size = f", {reading['bytes']} bytes" if "bytes" in reading else ""
        yield line(f"  requests: {reading['requests']}{size}; gather: {reading.get('gather', '')}")
    for need, left_out in reading.get("asked_without", {}).items():
        yield line(f"  {need}: asked without {', '.join(left_out)}, which the server does not take")
    facts = found["facts"] if isinstance(found["facts"], dict) else {}
    times = timing.get("sources_ms", {})
    for source in (*facts.get("sources", ()), *reading.get("lost", ())):
        why = f" ({source['why']})" if source.get("why") else ""
        ms = f", {times[source['key']]} ms" if source["key"] in times else ""
        yield line(f"  {source['key']:<28} {source['resource_type']}: {source['outcome']}{why}{ms}")
    if not facts:
        yield from (line(f"  {key:<28} {ms} ms") for key, ms in times.items())
    if "total_ms" in timing:
        yield line(f"  the whole call: {timing['total_ms']} ms")


def _versions(found: Mapping[str, Any]) -> Iterator[str]:
    for name, version in found["versions"].items():
        yield from _wrapped(f"{name}: {version}", indent="  ")
    yield f"  knowledge files: {line(found['knowledge_hash'])}"
    on = found["switches"]
    if on is None:
        yield "  switches: not kept with this decision"
        return
    for name, value in on.items():
        if value not in (None, "", []):
            yield line(f"  {name}: {', '.join(value) if isinstance(value, list) else value}")


def _feedback(found: Mapping[str, Any]) -> Iterator[str]:
    for one in found["feedback"]:
        at = one["outcome_at"] or one["received_at"]
        yield line(f"  {at} {one['outcome']} of card {one['card']}")
        if one["suggestions"]:
            yield line(f"    suggestions accepted: {', '.join(one['suggestions'])}")
        if one["reason_code"]:
            yield line(f"    reason: {one['reason_code']} ({one['reason_system']})")
        for words in (one["display"], one["comment"]):
            yield from _wrapped(words, indent="    ") if words else ()


def _place(found: Mapping[str, Any]) -> Iterator[str]:
    if not found["chain"]:
        yield "  not in the chain: see `rescue-cds decisions verify`"
    for link in found["chain"]:
        yield line(f"  {link['kind']}: entry {link['seq']} of writer {link['writer']}, {link['hash']}")
    yield f"  digest of the request: {line(found['request_digest'])}"
