"""The start of a site overlay: every line that could help, each with what was seen, none of them in force.

A proposal is a guess by words or by a refusal. So every proposal is commented out, and the signature, too: the file as
written is refused by `settings.load_overlay`, and a signature alone changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from app.doctor import words
from app.doctor.coverage import GENERIC_ECMO, Refused
from app.doctor.findings import Findings
from app.doctor.lookalikes import LookAlike
from app.report import printable
from fhir_mappings import observations

_LISTS = ("percent_means_fraction", "static", "arterial")
_TO_FILL = "?"
_REFUSED_KINDS = frozenset({"", "molar"})
"""Kinds that are none to choose: the default, and amounts of substance, which the mapping refuses on purpose."""

_ABSENT = frozenset({"not-offered", "not-found"})

_MEANING = {
    "percent_means_fraction": 'A fraction written with a percent sign: "0.3 %" of this code is 30 %.',
    "static": "This compliance is static, although nothing in the record says so.",
    "arterial": "This gas is from the patient's own arterial line, also on ECMO.",
    "not_measured": 'Of the required values, those never measured here: listed under "confirm before ordering".',
    "absent_source": "Resource types that the server does not have: not asked for, and treated the same way.",
    "irrelevant_products": "Products that are none of the drugs that matter. One that may be one goes to [products].",
    "unit_when_absent": "The unit of values that carry none. Look into the laboratory's or the monitor's manual.",
    "local_uln": "The laboratory's upper limits of normal in U/L, for results that carry no reference range.",
    "products": "A local product is these ingredients, by their names in fhir_mappings/concepts/ingredients.toml.",
    "conditions": "A local entry of the problem list means these concepts of fhir_mappings/concepts/conditions.toml.",
}


def overlay(findings: Findings) -> str:
    """The text of the file."""
    lines = _head(findings)
    for name in _LISTS:
        lines += _list(name, _of_refusals(findings.refused, name))
    lines += _list("not_measured", _not_measured(findings))
    lines += _list("absent_source", _absent(findings))
    unknown = [one for one in findings.look_alikes if one.kind == "products" and one.mark and not one.like]
    lines += _list("irrelevant_products", [(_seen(one), one.mark) for one in unknown])
    if findings.records.get(GENERIC_ECMO):
        count = findings.records[GENERIC_ECMO]
        lines += [
            "",
            f"# {_times(count)} ECMO without its configuration was seen. If that always means veno-venous here:",
        ]
        lines += ['#generic_ecmo = "veno-venous"']
    for one in findings.look_alikes:
        if one.kind == "codes" and one.mark:
            lines += _code(one)
    lines += _table(
        "unit_when_absent", [(s, m, _TO_FILL) for s, m in _of_refusals(findings.refused, "unit_when_absent")]
    )
    limits = [one for one in findings.refused if one.why == "no-upper-limit"]
    if limits:
        lines += ["", f"# {_MEANING['local_uln']}", "[local_uln]"]
    for limit in limits:
        lines += [
            f"# {_times(limit.count)} without a limit",
            f'#{limit.concept} = "{_TO_FILL}"   # a number, no quotes',
        ]
    for kind in ("products", "conditions"):
        found = [one for one in findings.look_alikes if one.kind == kind and one.mark and one.like]
        lines += _table(kind, [(_seen(one), one.mark, list(one.like)) for one in found])
    return "\n".join([*lines, *_not_mappable(findings), ""])


def _head(findings: Findings) -> list[str]:
    return [
        "# The start of a site overlay, written by rescue-cds doctor. Nothing in it is in force: every proposal is",
        "# commented out, because a name or a number is no proof of a meaning.",
        "#",
        f"# seen at {printable(findings.server.base)}, {findings.now:%Y-%m-%d}, {_patients(len(findings.patients))}",
        "#",
        '# 1. Take the # away in front of what is right here; replace every "?"; delete the rest.',
        "# 2. A clinician of the site who has seen a live value of each code, with its unit, signs with name and date:",
        "#    without both the service does not start.",
        '# 3. overlay = "this-file.toml" in [[tenants]] of the configuration, then rescue-cds doctor --config FILE.',
        "",
        '#signed_by = ""',
        "#signed_on = YYYY-MM-DD",
    ]


def _list(name: str, proposals: Sequence[tuple[str, str]]) -> list[str]:
    """An array at the top of the file; a table after it would swallow what follows."""
    if not proposals:
        return []
    lines = ["", f"# {_MEANING[name]}", f"{name} = ["]
    for seen, mark in proposals:
        lines += [f"  # {seen}", f"  #{_quoted(mark)},"]
    return [*lines, "]"]


def _table(name: str, proposals: Sequence[tuple[str, str, str | list[str]]]) -> list[str]:
    if not proposals:
        return []
    lines = ["", f"# {_MEANING[name]}", f"[{name}]"]
    for seen, mark, value in proposals:
        shown = _quoted(value) if isinstance(value, str) else f"[{', '.join(map(_quoted, value))}]"
        lines += [f"# {seen}", f"#{_quoted(mark)} = {shown}"]
    return lines


def _code(one: LookAlike) -> list[str]:
    concepts = observations.concepts()
    lines = ["", f"# {_seen(one)}", f"# looks like {', '.join(f'{name} ({concepts[name].text})' for name in one.like)}"]
    if not one.fits:
        lines.append("# not every unit that was seen is accepted for it: without an accepted unit a value is refused")
    for name in one.like:
        if kinds := [kind for kind in concepts[name].kinds if kind not in _REFUSED_KINDS]:
            default = f"; without one: {concepts[name].site_kind}" if concepts[name].site_kind else ""
            lines.append(f"# kind of {name}: {', '.join(kinds)}{default}")
    concept = one.like[0] if len(one.like) == 1 else _TO_FILL
    return [*lines, f"#[codes.{_quoted(one.mark)}]", f"#concept = {_quoted(concept)}"]


def _of_refusals(refused: Iterable[Refused], name: str) -> list[tuple[str, str]]:
    """What was seen, and the code, of the refusals that this key of the overlay would change."""
    remedies = words.texts()["remedy"]
    found: dict[str, str] = {}
    for one in refused:
        if remedies[one.why].get("key") != name or (name == "percent_means_fraction" and not is_percent(one)):
            continue
        seen = f"{_times(one.count)}: {one.text}" + (f", {_example(one)}" if one.example else "")
        for mark in one.codes:
            others = ", ".join(printable(other) for other in one.codes if other != mark)
            if mark.isprintable():
                found.setdefault(mark, f"{seen}; also seen on {others}" if others else seen)
    return [(seen, mark) for mark, seen in found.items()]


def is_percent(one: Refused) -> bool:
    """A fraction that is unclear because of its percent sign; one above 1 without it no overlay can explain."""
    return "%" in one.unit or "percent" in one.unit.lower() or "prozent" in one.unit.lower()


def _example(one: Refused) -> str:
    return f"newest {one.example} {one.unit}".strip()


def _not_measured(findings: Findings) -> list[tuple[str, str]]:
    """Values of the required safety set that nobody examined has, although everything was looked at."""
    titles = {one.name: one.title for one in findings.missing if "safety" in one.rules}
    return [
        (f"{titles[one.concept]}: not found in any of the patients", one.concept)
        for need, one in findings.found
        if one.concept in titles and not (one.count or one.refused) and findings.looked(need) == "yes"
    ]


def _absent(findings: Findings) -> list[tuple[str, str]]:
    found = dict.fromkeys(findings.server.missing_types, "not among what the server declares")
    for need in findings.plan:
        asked = [s for s in findings.planned if s.resource_type == need.resource_type]
        none = [s for s in asked if s.outcome == "failed" and s.why in _ABSENT]
        if need.resource_type != "Patient" and asked and none == asked:
            found.setdefault(need.resource_type, f"{_times(len(asked))}: the server answered that it has none")
    return [(seen, name) for name, seen in found.items()]


def _seen(one: LookAlike) -> str:
    units = ", ".join(f"{unit or 'no unit'} {_times(count)}" for unit, count in one.units)
    named = f"'{one.display}'" if one.display else "without a name"
    return f"{one.element} {named}, {_times(one.count)}" + (f"; {units}" if units else "")


def _not_mappable(findings: Findings) -> list[str]:
    """What no overlay can name."""
    lost = [one for one in findings.look_alikes if not one.mark]
    lines = [f"# {_seen(one)}: its code has no system, or characters that no code has" for one in lost]
    lines += [f"# without any code, {_times(count)}: {words.name(name)}" for name, count in findings.uncoded.items()]
    return ["", "# Not to be mapped here; ask the server's owner for codes:", *lines] if lines else []


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _patients(count: int) -> str:
    return "1 patient" if count == 1 else f"{count} patients"


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's escapes are among its own."""
    return json.dumps(text, ensure_ascii=False)
