"""The report for a terminal, made of the JSON document alone, so that both say the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from app.clinical.reading import unit_text

WIDTH: Final = 118

_HEADLINES: Final = {
    "ready": "READY: everything that the rules need was found, and every search worked.",
    "gaps": "GAPS",
    "unreachable": "UNREACHABLE: no search worked.",
}
_CHOSEN: Final = {
    "given": "as named",
    "results": "chosen by the newest results of CRP, ferritin and PaO2 of the last 30 days",
    "list": "the first of the server's list of patients: no recent result of a known code could be searched",
    "failed": "none: neither results nor patients could be searched",
}
_NOT_FOUND: Final = {"yes": "not found", "part": "not found in what was read", "no": "not looked at"}
_STATES: Final = (
    ("usable", "known"),
    ("by-absence", "none on record"),
    ("old", "old"),
    ("signed", "signed as absent"),
    ("missing", "unknown"),
    ("not-asked", "-"),
)


def table(answer: Mapping[str, Any]) -> str:
    """The whole report."""
    blocks = [
        [f"rescue-cds doctor {answer['version']}, {answer['now']}, times without an offset read in {answer['zone']}"],
        _headline(answer),
        _server(answer["server"]),
        _patients(answer),
        _inputs(answer["inputs"]),
        _searches(answer),
        _concepts(answer["concepts"]) if answer["inputs"] else [],
        _records(answer["records"]),
        _refused(answer["refused"]),
        _look_alikes(answer),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _headline(answer: Mapping[str, Any]) -> list[str]:
    """The status, and for gaps what they are."""
    if answer["status"] != "gaps":
        return [_HEADLINES[answer["status"]]]
    lines = [f"{_HEADLINES['gaps']}:"]
    if not answer["patients"]["examined"]:
        lines.append("  no patient was examined")
    missing = [one["title"] for one in answer["inputs"] if not one["ready"]]
    if missing:
        lines += _wrapped("  not known of any patient: " + ", ".join(missing))
    broken = [one["need"] for one in answer["searches"] if not one["own"] and (one["failed"] or one["partial"])]
    if broken:
        lines += _wrapped("  searches that did not work to their end: " + ", ".join(dict.fromkeys(broken)))
    if answer["late"]:
        lines += _wrapped(f"  too late for a hook of {answer['deadline_seconds']} s: " + ", ".join(answer["late"]))
    for why, needs in _by_why(answer["lost"]).items():
        verb = "they" if len(needs) > 1 else "it"
        lines += _wrapped(f"  as one hook: {', '.join(needs)}: {why}, although {verb} worked alone")
    mixed = dict.fromkeys(need for one in answer["patients"]["examined"] for need in one["mixed"])
    if mixed:
        lines += _wrapped(f"  answers hold records of other patients, which were left out: {', '.join(mixed)}")
    if any(one["other_patient"] for one in answer["patients"]["examined"]):
        lines.append("  the server answered with another patient than was asked for: nothing of it was read")
    if answer["patients"]["not_examined"]:
        lines.append(f"  patients not examined: {len(answer['patients']['not_examined'])}")
    return lines


def _by_why(lost: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in lost:
        found.setdefault(one["why"], []).append(one["need"])
    return found


def _server(server: Mapping[str, Any]) -> list[str]:
    lines = [f"Server  {server['base']}"]
    if server["capability"] == "not-read":
        text = "no capability statement could be read at /metadata without a token: searches are sent whole"
        return [*lines, *_wrapped(f"  {text}")]
    version = server.get("fhir_version", "")
    lines.append(f"  {server.get('software', 'software not named')}, FHIR {version or 'version not named'}")
    if not version.startswith("4.0"):
        lines.append("  the service reads FHIR R4 (4.0)")
    if missing := server.get("missing_types"):
        lines += _wrapped(f"  not offered, so not asked for: {', '.join(missing)} (absent_source in the overlay)")
    for one in server.get("missing_parameters", ()):
        lines += _wrapped(f"  {one['need']}: {one['parameter']} is not declared, so not sent: {one['means']}")
    return lines


def _patients(answer: Mapping[str, Any]) -> list[str]:
    patients = answer["patients"]
    examined = patients["examined"]
    why = f" ({'; '.join(patients['why'])})" if "why" in patients else ""
    lines = _wrapped(f"Patients  {len(examined)}, {_CHOSEN[patients['chosen']]}{why}")
    for one in examined:
        hook = one.get("hook")
        if hook is not None:
            late = f", too late: {', '.join(hook['late'])}" if hook["late"] else ""
            text = f"as one hook {hook['ms']} ms of {answer['deadline_seconds']} s, {hook['requests']} requests"
            lost = "".join(f", {each['need']}: {each['why']}" for each in hook["lost"])
            lines += _wrapped(f"  {one['patient']}: {text}, {_size(hook['bytes'])}{late}{lost}")
        else:
            lines.append(f"  {one['patient']}: no search worked")
    if patients["not_examined"]:
        lines += _wrapped(f"  not examined: {', '.join(patients['not_examined'])}")
    return lines


def _inputs(inputs: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = []
    for one in inputs:
        counts = one["patients"]
        marks = ", ".join(f"{word} {counts[state]}" for state, word in _STATES if state in counts)
        asked = sum(count for state, count in counts.items() if state != "not-asked")
        why = "; ".join(f"{reason['why']} ({reason['count']})" for reason in one["reasons"])
        if not asked:
            why = "no examined patient raises the question"
        rows.append(("yes" if one["ready"] else "NO", one["title"], ", ".join(one["rules"]), marks, why))
    return _grid("What the rules need", rows, heads=("", "input", "asked by", "patients", "why not"))


def _searches(answer: Mapping[str, Any]) -> list[str]:
    rows: list[tuple[str, ...]] = []
    notes: dict[str, list[str]] = {}
    for one in answer["searches"]:
        state = "failed" if one["failed"] else "cut off" if one["partial"] else "ok"
        if one["searches"] > 1 and state != "ok":
            state += f" {one['failed'] or one['partial']} of {one['searches']}"
        what = f"{one['resource_type']} {one['how']}"
        amounts = (str(one["results"]), str(one["most_pages"]), str(one["requests"]), _size(one["bytes"]))
        rows.append((one["need"], what, state, *amounts, f"{one['median_ms']} / {one['slowest_ms']}"))
        late = one["need"] in answer["late"]
        texts = [*one.get("why", ()), *one.get("remedy", ())]
        if late:
            texts.append(f"too late for a hook of {answer['deadline_seconds']} s")
        if one.get("unsent"):
            texts.append(f"sent without {', '.join(one['unsent'])}")
        if texts:
            notes.setdefault("; ".join(texts), []).append(one["need"])
    heads = ("search", "of", "outcome", "results", "pages", "requests", "size", "ms median / slowest")
    return _grid("Searches, one after the other", rows, heads=heads) + [
        line for text, needs in notes.items() for line in _wrapped(f"  {', '.join(needs)}: {text}")
    ]


def _concepts(concepts: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = []
    for one in concepts:
        listed = ", ".join(f"{c['code']} {c['count']}{' (overlay)' * ('site' in c)}" for c in one.get("codes", ()))
        units = ", ".join(f"{u['unit'] or 'no unit'} {u['count']}" for u in one.get("units", ()))
        beside = [f"{one['refused']} refused"] if one.get("refused") else []
        beside += [f"{one['look_alikes']} look-alikes"] if one.get("look_alikes") else []
        rows.append(
            (one["text"], listed or _NOT_FOUND[one["looked"]], units, _newest(one.get("newest")), ", ".join(beside))
        )
    heads = ("concept", "by code, results", "units as written", "newest, age", "beside")
    return _grid("Values found", rows, heads=heads)


def _newest(newest: Mapping[str, str] | None) -> str:
    if newest is None:
        return ""
    unit = newest.get("unit", "")
    value = newest.get("answer") or f"{newest['value']} {'' if unit == '1' else unit_text(unit)}".strip()
    hours = float(newest["age_hours"])
    return f"{value}, " + (f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} d")


def _records(records: Mapping[str, int]) -> list[str]:
    listed = [f"{what} {count}" for what, count in records.items() if count]
    return ["Other records", *_wrapped(f"  {'; '.join(listed)}")] if listed else []


def _refused(refused: Sequence[Mapping[str, Any]]) -> list[str]:
    if not refused:
        return []
    lines = ["Not used, and what would change it"]
    for one in refused:
        example = f", newest {one.get('example', '')} {one.get('unit', '')}".rstrip() if "example" in one else ""
        codes = f" [{', '.join(one['codes'])}]" if "codes" in one else ""
        what = one.get("concept") or one["source"]
        lines += _wrapped(f"  {what}: {one['text']}, {_times(one['count'])}{example}{codes}")
        key = f" (overlay: {one['overlay']})" if "overlay" in one else ""
        lines += _wrapped(f"      {one['remedy']}{key}", indent="      ")
    return lines


def _look_alikes(answer: Mapping[str, Any]) -> list[str]:
    lines = []
    for one in answer["look_alikes"]:
        units = ", ".join(f"{u['unit'] or 'no unit'}" for u in one.get("units", ()))
        named = f" '{one['display']}'" if "display" in one else ""
        like = ", ".join(one.get("like", ())) or "unknown: one of the drugs that matter, or not?"
        fits = "" if "unit_accepted" not in one or one["unit_accepted"] else ", unit not accepted"
        add = f": add to the site overlay ({one['overlay']})" if "overlay" in one else ": ask for a code with a system"
        text = f"{one['element']} {one.get('code', 'without a system')}{named} {units}".rstrip()
        lines += _wrapped(f"  {text}, {_times(one['count'])}, like {like}{fits}{add}")
    for name, count in answer["uncoded"].items():
        lines += _wrapped(f"  without any code, {_times(count)}: {name}")
    others = answer["other_codes"]["count"]
    if others:
        lines += _wrapped(
            f"  {others} other codes of Observations look like nothing that the rules need (listed by --json)"
        )
    return ["Look-alikes that nobody has mapped", *lines] if lines else []


def _grid(title: str, rows: Sequence[Sequence[str]], *, heads: Sequence[str]) -> list[str]:
    """Columns as wide as what stands in them; the widest is wrapped to what the screen leaves."""
    if not rows:
        return []
    widths = [max(len(cells[column]) for cells in (heads, *rows)) for column in range(len(heads))]
    over = sum(widths) + 2 * len(widths) - WIDTH
    while over > 0:
        widest = widths.index(max(widths))
        second = max([width for place, width in enumerate(widths) if place != widest], default=0)
        cut = max(1, min(over, widths[widest] - second))
        widths[widest] -= cut
        over -= cut
    lines = [title]
    for cells in (heads, *rows):
        folded = [_folded(cell, width) for cell, width in zip(cells, widths, strict=True)]
        for number in range(max(map(len, folded))):
            parts = (part[number] if number < len(part) else "" for part in folded)
            lines.append(("  " + "  ".join(p.ljust(w) for p, w in zip(parts, widths, strict=True))).rstrip())
    return lines


def _folded(text: str, width: int) -> list[str]:
    """The text in pieces of at most that width, broken at spaces where there are any."""
    lines, line = [], ""
    for word in text.split(" "):
        rest = word
        while len(rest) > width:
            if line:
                lines.append(line)
            line, rest = rest[:width], rest[width:]
            lines.append(line)
            line = ""
        if line and len(line) + 1 + len(rest) > width:
            lines.append(line)
            line = rest
        else:
            line = f"{line} {rest}" if line else rest
    return [*lines, line] if line or not lines else lines


def _wrapped(text: str, *, indent: str = "    ") -> list[str]:
    """One paragraph; what follows the first line is indented."""
    body = text.lstrip(" ")
    first = text[: len(text) - len(body)]
    lines = _folded(body, WIDTH - len(indent))
    return [first + lines[0], *(indent + line for line in lines[1:])]


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _size(count: int) -> str:
    return f"{count} B" if count < 1000 else f"{count / 1000:.0f} kB" if count < 1_000_000 else f"{count / 1e6:.1f} MB"
