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

from app import cli, knowledge, service, settings
from app.api import document
from app.clinical.knowledge import Leaf, Node, Not, Ref
from app.knowledge import Bedside
from app.main import create_app
from app.plan import Need
from fhir_mappings import codebook
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


def test_every_section_of_the_notes_that_is_named_is_explained() -> None:
    explained = set(re.findall(r"^\| clinical ([\d.]+) \|", page("clinical-knowledge.md"), re.MULTILINE))
    assert sorted({(path, one) for path, one in mentions(CLINICAL) if one not in explained}) == []


# --- integration ------------------------------------------------------------------------------------------


def prefetch_table() -> str:
    """The table of prefetch keys as `integrate.md` holds it."""
    [published] = bedside().services
    lines = ["| key | template | our own search goes back | observations asked for |", "|---|---|---|---|"]
    for need in bedside().needs:
        template = re.sub(r"code=[^&]*", "code=…", published.prefetch[need.key])
        concepts = ", ".join(need.concepts) if need.resource_type == "Observation" else "–"
        lines.append(f"| `{need.key}` | `{template}` | {_back(need)} | {concepts} |")
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
    source = Path(service.__file__).read_text(encoding="utf-8")
    outcomes = {row.outcome for row in bedside().library.knowledge.rows}
    outcomes |= set(re.findall(r'course\.outcome = "([a-z-]+)"', source))
    assert len(outcomes) > 8
    assert [one for one in sorted(outcomes) if not rows(page("integrate.md"), first=one)] == []


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
        for option in (word for action in parser._actions for word in action.option_strings):
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
