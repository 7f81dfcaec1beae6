"""The documentation against the files and the code it describes, so that neither moves alone."""

from __future__ import annotations

import argparse
import re
import tomllib
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from app import card_frame, cli, knowledge, settings, snooze
from app.api import document, schema
from app.clients import ClientTable, TrustTable
from app.clinical.knowledge import Leaf, Node, Not, Ref
from app.knowledge import Bedside
from app.main import create_app
from app.plan import Need
from app.protocols import orders
from cds_hooks import feedback
from cds_hooks import orders as drafts
from fhir_mappings import codebook, draft_orders
from tools import knowledge_page

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PROTOCOLS = ROOT / "app" / "protocols"
CODE = [ROOT / "app", ROOT / "fhir_mappings", ROOT / "cds_hooks"]
PAGES = [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]

_READING = r"(?:\d(?:\.\d{1,2})?|[ABS]\d{1,2})(?![\d.]*\d)"
READINGS = re.compile(rf"\breadings?\s+({_READING}(?:(?:,\s*(?:and\s+)?|\s+and\s+|\s+to\s+){_READING})*)")
CLINICAL = re.compile(r"\bclinical ((?:\d(?:\.\d)+)(?:,\s*\d(?:\.\d)+|\s+and\s+\d(?:\.\d)+)*)")
SECTION = re.compile(r"^#{2,3} (\d(?:\.\d+)?)\.? ", re.MULTILINE)
LINK = re.compile(r"!?\[[^\]\n]*\]\(([^)\s]+)\)")


@cache
def bedside() -> Bedside:
    return knowledge.load()


@cache
def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def toml(name: str) -> dict[str, Any]:
    return tomllib.loads((PROTOCOLS / name).read_text(encoding="utf-8"), parse_float=Decimal)


def rows(text: str, *, first: str) -> list[list[str]]:
    """The cells of every table row whose first cell is `first`, with or without backticks."""
    lines = [[cell.strip() for cell in line.strip().strip("|").split(" | ")] for line in text.splitlines()]
    return [cells for cells in lines if len(cells) > 1 and cells[0].strip("`| ") == first]


def section(name: str, heading: str) -> str:
    """The text under a heading, up to the next one."""
    return re.split(r"^#+ ", page(name).partition(f"# {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def mentions(pattern: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """Where a numbered section is named, and which; "A1 to A15" names every one of them."""
    for folder in CODE:
        for path in sorted(folder.rglob("*")):
            if path.suffix not in {".py", ".toml", ".md"}:
                continue
            # A comment or docstring may break the line inside a mention.
            text = re.sub(r"\n\s*#?\s*", " ", path.read_text(encoding="utf-8"))
            for match in pattern.finditer(text):
                for one in re.split(r",\s*(?:and\s+)?|\s+and\s+|\s+to\s+", match.group(1)):
                    yield f"{path.relative_to(ROOT)}", one


# --- readings ---------------------------------------------------------------------------------------------


def sections() -> set[str]:
    found = set(SECTION.findall(page("readings.md")))
    found |= set(re.findall(r"^\| (A\d+) \|", page("readings.md"), re.MULTILINE))
    return found | set(re.findall(r"\*\*Reading ([BS]\d+)\*\*", page("readings.md")))


def test_every_reading_that_is_named_has_its_section() -> None:
    named = list(mentions(READINGS))
    assert len(named) > 100, "the pattern no longer finds the mentions"
    assert sorted({(path, one) for path, one in named if one not in sections()}) == []


def test_the_settled_numbers_are_kept() -> None:
    wanted = {"1", "2", "3", "4", "5", "6", "7"} | {f"3.{n}" for n in range(1, 20)} | {f"A{n}" for n in range(1, 16)}
    assert wanted <= sections()


@pytest.mark.parametrize("name", ["readings.md", "clinical-knowledge.md", "safety/clinical-knowledge.md"])
def test_a_page_says_first_that_nobody_has_signed(name: str) -> None:
    assert "No clinician has signed any of this" in page(name)[:250]


def test_the_unsigned_knowledge_is_still_unsigned() -> None:
    for protocol in bedside().library.knowledge.protocols:
        assert (protocol.status, protocol.reviewed_by) == ("draft", ()), "say in the documents who signed"


# --- clinical knowledge -----------------------------------------------------------------------------------


VALUES = "safety/clinical-knowledge.md"


def test_the_page_of_values_is_what_the_files_say() -> None:
    assert page(VALUES) == knowledge_page.text(bedside().library), "run make knowledge-page"


def cells(first: str) -> str:
    """The row of the page of values that begins so, as one text."""
    [found] = rows(page(VALUES), first=first)
    return " | ".join(found)


def test_every_criterion_and_confirmation_is_described_with_its_origin() -> None:
    described = page(VALUES)
    for protocol in bedside().library.knowledge.protocols:
        assert f"`{protocol.id}`" in described
        for criterion in protocol.criteria:
            for found in rows(described, first=criterion.id):
                assert criterion.origin.source in " | ".join(found), criterion.id
                assert found[-1] == criterion.origin.review, criterion.id
            assert rows(described, first=criterion.id), criterion.id
        for confirmation in protocol.confirmations:
            assert confirmation.id in described


def own_leaves(tree: Node) -> Iterator[Leaf]:
    """The questions of a tree that stand in its own block, not in one that it refers to."""
    if isinstance(tree, Leaf):
        yield tree
    elif not isinstance(tree, Ref):
        for child in (tree.child,) if isinstance(tree, Not) else tree.children:
            yield from own_leaves(child)


SIGNS = {"<": "<", "<=": "≤", ">": ">", ">=": "≥"}


def test_every_comparison_is_described_as_it_is_computed() -> None:
    known = bedside().library.knowledge
    trees = [(c.id, c.tree) for p in known.protocols for c in p.criteria]
    trees += [(rule.id, rule.tree) for rule in known.safety]
    compared = 0
    for id_, tree in trees:
        described = " ".join(" | ".join(found) for found in rows(page(VALUES), first=id_))
        for leaf in own_leaves(tree):
            assert known.inputs[leaf.input].title in described, id_
            if leaf.value is not None:
                compared += 1
                assert f"{SIGNS[leaf.op]} {leaf.value} " in described, id_
            for name in ("group", "concepts", "substances"):
                assert all(word in described for word in str(leaf.params.get(name, "")).split()), id_
    assert compared > 20


def test_every_safety_finding_is_described_with_severity_and_drugs() -> None:
    for rule in bedside().library.knowledge.safety:
        [found] = rows(page(VALUES), first=rule.id)
        assert found[1].partition(",")[0] == rule.severity, rule.id
        assert ("withholds nothing" in found[1]) == (rule.severity != "monitor" and not rule.withholds), rule.id
        assert found[2] == ", ".join(rule.drugs), rule.id
        assert rule.advice in found, rule.id


def test_every_input_is_described_with_window_and_missing_name() -> None:
    text = section(VALUES, "Inputs")
    for name, block in toml("shared/inputs.toml")["input"].items():
        [found] = rows(text, first=name)
        hours = block.get("window_hours")
        assert found[2].partition(" (")[0] == ("no window" if hours is None else f"{hours} h"), name
        assert found[3] == f"`{block['missing']}`", name
        assert found[4] == block["obtain"], name


def test_every_limit_is_described_with_its_value() -> None:
    text = section(VALUES, "Limits")
    for name, block in toml("shared/inputs.toml")["limit"].items():
        [found] = rows(text, first=name)
        assert found[1:3] == [str(block["value"]), block["what"]], name


def test_every_drug_group_is_described_with_its_look_back_and_its_drugs() -> None:
    text = section(VALUES, "Drug groups")
    for name, group in toml("shared/interactions.toml")["group"].items():
        [found] = rows(text, first=name)
        lookback = group.get("lookback_hours")
        assert found[2].partition(" (")[0] == (
            "the window of the input that asks" if lookback is None else f"{lookback} h"
        ), name
        assert found[3] == ", ".join(sorted(group["ingredients"])), name


def test_every_action_row_step_and_equivalent_is_described() -> None:
    known = bedside().library.knowledge
    for action in known.follow_up.actions:
        assert action.title in cells(action.id), action.id
    for row in known.rows:
        assert row.outcome in cells(row.id), row.id
    for name, factor in known.steroid_equivalents.items():
        assert rows(section(VALUES, "Steroid equivalents"), first=name) == [[name, str(factor)]]
    for drug in bedside().library.treatment["drug"]:
        [found] = rows(section(VALUES, "Treatment"), first=drug["display"])
        assert all(f"{step['dose_mg']} mg, {step['per_day']} x a day" in found[2] for step in drug["steps"])


# --- orders -----------------------------------------------------------------------------------------------

HOOKS = {
    frozenset({"order-select", "order-sign"}): "order-select and order-sign",
    frozenset({"order-sign"}): "order-sign",
}
"""Where a check may speak alone, as the pages say it."""


def test_every_order_check_is_described_with_severity_card_and_hooks() -> None:
    checks = bedside().library.knowledge.order_checks
    assert len(checks) > 10
    for check in checks:
        told = [check.severity, f"{check.card} card", HOOKS[check.speaks_at]]
        assert rows(page("integrate.md"), first=check.id) == [[check.id, *told]], check.id
        [value] = rows(page(VALUES), first=check.id)
        assert value[1:5] == [check.severity, check.card, HOOKS[check.speaks_at], check.title], check.id
        assert f"`{check.rule}`" in value[5], check.id
        assert value[6] == check.advice, check.id
        assert value[7] == check.origin.source, check.id
        assert value[-1] == check.origin.review, check.id
        assert rows(section("clinical-knowledge.md", "Orders"), first=check.id), check.id
    assert f"`{orders.ID}`" in page(VALUES)


def test_no_order_check_is_described_that_is_none() -> None:
    known = {check.id for check in bedside().library.knowledge.order_checks}
    text = "\n".join(path.read_text(encoding="utf-8") for path in PAGES)
    assert set(re.findall(r"\bORD-[A-Z-]*[A-Z]", text)) == known


def test_the_numbers_of_the_orders_section_are_those_of_the_schedules() -> None:
    text = section("clinical-knowledge.md", "Orders")
    course = bedside().library.knowledge.follow_up
    most = {drug: max(s.dose_mg * s.per_day for s in plan.steps) for drug, plan in course.schedules.items()}
    assert f"anakinra {most['anakinra']} mg, ruxolitinib {most['ruxolitinib']} mg" in text
    last = {drug: plan.last_day for drug, plan in course.schedules.items()}
    assert f"the letter's last day: {last['anakinra']} and {last['ruxolitinib']} of the running course" in text
    full = max(s.to_day for s in course.schedules["anakinra"].steps if s.dose_mg * s.per_day == most["anakinra"])
    assert f"past the letter's day {full}," in text
    assert f"given within {course.limits['still_given_hours'].value} h" in text
    quiet = [c for c in bedside().library.knowledge.order_checks if "order-select" not in c.speaks_at]
    assert (len(quiet), len(bedside().library.knowledge.order_checks)) == (7, 12), "the page says seven of the twelve"


def test_every_override_reason_is_named() -> None:
    for reason in bedside().library.words["card"]["override"]:
        assert f"`{reason['code']}`" in page("integrate.md")


def test_every_section_of_the_notes_that_is_named_is_explained() -> None:
    explained = set(re.findall(r"^\| clinical ([\d.]+) \|", page("clinical-knowledge.md"), re.MULTILINE))
    assert sorted({(path, one) for path, one in mentions(CLINICAL) if one not in explained}) == []


# --- integration ------------------------------------------------------------------------------------------


def prefetch_table() -> str:
    """The table of prefetch keys as `integrate.md` holds it."""
    lines = [
        "| key | template | asked for by | our own search goes back | observations asked for |",
        "|---|---|---|---|---|",
    ]
    for need in bedside().needs:
        published = [s for s in bedside().services if need.key in s.prefetch]
        [template] = {re.sub(r"code=[^&]*", "code=…", s.prefetch[need.key]) for s in published}
        hooks = " ".join(f"`{s.hook}`" for s in published)
        by = "every hook" if len(published) == len(bedside().services) else hooks
        concepts = ", ".join(need.concepts) if need.resource_type == "Observation" else "–"
        lines.append(f"| `{need.key}` | `{template}` | {by} | {_back(need)} | {concepts} |")
    return "\n".join(lines)


def _back(need: Need) -> str:
    if need.key == "patient":
        return "–"
    if need.lookback is None:
        return "everything"
    hours = int(need.lookback.total_seconds()) // 3600
    return f"{hours} h" if hours <= 72 else f"{hours // 24} d"


def test_the_prefetch_table_is_what_discovery_publishes() -> None:
    assert prefetch_table() in page("integrate.md")


def test_every_service_is_described_with_its_hook() -> None:
    assert len(bedside().services) == 3
    for service in bedside().services:
        [found] = rows(section("integrate.md", "Discovery"), first=service.id)
        assert found[1] == f"`{service.hook}`"


def test_every_resource_type_that_is_read_is_among_the_scopes() -> None:
    scopes = page("integrate.md").partition("### Scopes")[2].partition("## Status codes")[0]
    for need in bedside().needs:
        assert f"`{need.resource_type}`" in scopes


def test_every_status_of_the_interface_is_described(tmp_path: Path) -> None:
    app = create_app(settings.dev(db=f"sqlite+aiosqlite:///{tmp_path}/decisions.db"))
    paths = document.openapi(app)["paths"]
    statuses = {status for path in paths.values() for method in path.values() for status in method["responses"]}
    described = {cells[0] for status in statuses for cells in rows(page("integrate.md"), first=status)}
    assert "412" in statuses
    assert described == statuses


def test_every_outcome_of_an_answer_is_described() -> None:
    decision = schema.RESPONSE["properties"]["extension"]["properties"]["org.rescue-cds.decision"]
    outcomes = set(decision["properties"]["outcome"]["enum"])
    assert {row.outcome for row in bedside().library.knowledge.rows} <= outcomes
    for path in (ROOT / "app").glob("*.py"):
        outcomes |= set(re.findall(r'call\.outcome(?:, [\w.]+)? = "([a-z-]+)"', path.read_text(encoding="utf-8")))
    assert {"silent", "snoozed", "nothing-to-say", "patient-user"} <= outcomes
    text = section("integrate.md", "Which silence it is")
    assert [one for one in sorted(outcomes) if not rows(text, first=one)] == []


def feedback_example() -> bytes:
    return page("integrate.md").partition("# Feedback\n")[2].partition("```json\n")[2].partition("```")[0].encode()


def test_the_feedback_example_is_taken_as_it_stands() -> None:
    accepted, overridden = feedback.parse(feedback_example())
    assert (accepted.outcome, len(accepted.suggestions), accepted.at is None) == ("accepted", 1, False)
    reasons = {(r["code"], r.get("system", card_frame.SYSTEM)) for r in bedside().library.words["card"]["override"]}
    assert overridden.reason is not None
    assert (overridden.reason.code, overridden.reason.system) in reasons
    assert overridden.comment


def test_every_kind_that_can_be_snoozed_is_described() -> None:
    described = [cells[0] for cells in _table(section("integrate.md", "Snooze"))]
    assert set(re.findall(r"`([a-z-]+)`", " ".join(described))) == set(snooze.KINDS)
    defaults = settings.Snooze()
    assert f"for `hours` ({defaults.hours:g}) after" in section("integrate.md", "Snooze")
    assert f"by default `{'`, `'.join(sorted(defaults.kinds))}` alone" in section("integrate.md", "Snooze")


def test_every_id_that_can_be_silent_is_known() -> None:
    described = " ".join(cells[0] for cells in _table(section("integrate.md", "Silent mode")))
    ids = set(re.findall(r'"([a-z-]+)"', described))
    assert ids == {settings.EVERYTHING, "pilot-simple", "pilot-full", settings.FOLLOW_UP, orders.ID}
    assert settings._silenced([*ids - {settings.EVERYTHING}], key="here") == ids - {settings.EVERYTHING}


def test_the_limits_of_drafts_and_feedback_are_those_of_the_code() -> None:
    assert f"more than {drafts.MAX_ORDERS} entries" in page("integrate.md")
    assert f"at most {feedback.MAX_ENTRIES} entries" in section("integrate.md", "Feedback")
    assert f"first {feedback.MAX_COMMENT} characters" in section("integrate.md", "Feedback")
    for status in draft_orders._OVER:
        assert f"`{status}`" in section("integrate.md", "What is read of the drafts")


def _table(text: str) -> list[list[str]]:
    """The cells of the rows of the first table of a text, without its heads."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


CONFIG = DOCS / "config.example.toml"


def test_the_example_of_the_configuration_shows_every_key() -> None:
    heads = r"^(?:# )?\[+([a-z._]+)\]+(?: +#.*)?$"
    parts = re.split(heads, CONFIG.read_text(encoding="utf-8"), flags=re.MULTILINE)
    blocks = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert set(settings._File.model_fields) <= set(blocks)
    models = {"service": settings._Service, "protocols": settings._Protocols, "snooze": settings._Snooze}
    models |= {"body": settings._Body, "fhir": settings._Fhir, "store": settings._Store}
    models |= {"tenants": settings._Tenant, "tenants.backend": settings._Backend, "clients": ClientTable}
    models |= {"admin": settings._Admin, "traces": settings._Traces, "trust": TrustTable}
    for name, model in models.items():
        shown = set(re.findall(r"^(?:# )?(\w+) = ", blocks[name], re.MULTILINE))
        shown |= {key for key in model.model_fields if f"{name}.{key}" in blocks}
        assert set(model.model_fields) <= shown, name


def test_the_snooze_of_the_example_is_read(tmp_path: Path) -> None:
    """It stands there as a comment, because it is off. (The client is read by tests/unit/app/test_clients.py.)"""
    text = CONFIG.read_text(encoding="utf-8").partition("# The overlay is a file")[0]
    before, _, after = text.partition("# [snooze]")
    lines, blank, rest = after.partition("\n\n")
    path = tmp_path / "config.toml"
    text = f"{before}[snooze]{lines.replace(chr(10) + '# ', chr(10))}{blank}{rest}"
    path.write_text(text.replace("silent = []", 'silent = ["order-checks"]'), encoding="utf-8")
    read = settings.load(path)
    assert read.snooze == settings.Snooze()
    assert read.silent == {"order-checks"}


def overlay_example() -> str:
    section = page("integrate.md").partition("## The site overlay")[2]
    return section.partition("```toml\n")[2].partition("```")[0]


def test_the_overlay_example_is_read_and_shows_every_key(tmp_path: Path) -> None:
    path = tmp_path / "overlay.toml"
    path.write_text(overlay_example(), encoding="utf-8")
    overlay = settings.load_overlay(path)
    assert set(tomllib.loads(overlay_example())) == set(settings._Overlay.model_fields)
    observations = codebook.load("observations").tables
    named = {concept for concept, _ in overlay.codes.values()} | set(overlay.local_uln) | overlay.not_measured
    assert named <= set(observations)
    assert {name for names in overlay.products.values() for name in names} <= set(codebook.load("ingredients").tables)
    assert {name for names in overlay.conditions.values() for name in names} <= set(codebook.load("conditions").tables)
    assert overlay.absent_source <= {need.resource_type for need in bedside().needs}


# --- the command, and links -------------------------------------------------------------------------------


def commands() -> dict[str, argparse.ArgumentParser]:
    [action] = [a for a in cli._parser()._actions if isinstance(a, argparse._SubParsersAction)]
    return dict(action.choices)


def test_every_sub_command_and_option_is_described() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *DOCS.rglob("*.md")])
    assert "evaluate" in commands()
    for name, parser in commands().items():
        assert f"`{name}`" in text or f"rescue-cds {name}" in text, name
        shown = [action for action in parser._actions if action.help != argparse.SUPPRESS]
        for option in (word for action in shown for word in action.option_strings):
            if option not in {"-h", "--help"}:
                assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text), f"{name} {option}"


def headings(path: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them."""
    found = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    broken = []
    for target in LINK.findall(path.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        there = path.parent / name if name else path
        if not there.exists() or (anchor and anchor not in headings(there)):
            broken.append(target)
    assert broken == []
