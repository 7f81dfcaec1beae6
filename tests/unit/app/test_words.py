"""Every code that the sources emit has a sentence, and every sentence gets its words."""

from __future__ import annotations

import ast
import string
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from app.clinical.reading import Reason
from app.gateway import errors
from app.gather import MEDICATIONS
from app.plan import course, plan
from app.protocols.words import Words
from cds_hooks import markdown
from fhir_mappings import draft_orders
from fhir_mappings.codebook import load
from fhir_mappings.facts import Gap, Source
from tests.unit.app.bundles import bedside

ROOT = Path(__file__).resolve().parents[3]
TEXTS: Mapping[str, Any] = bedside().library.words
RESERVED = {"why", "code", "source", "input", "how", "gap", "cls"}
"""Words of our own reasons: a gap that brought one of them would take its place."""

NOT_CODES = {"partial", "ok", "empty", "failed"}


def modules(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    for folder in folders:
        path = ROOT / folder
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            yield str(file.relative_to(ROOT)), ast.parse(file.read_text(encoding="utf-8"))


def constants(node: ast.AST | None) -> Iterator[str]:
    """The texts that an expression may have as its value."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from constants(node.body)
        yield from constants(node.orelse)
    elif isinstance(node, ast.BoolOp):
        for value in node.values:
            yield from constants(value)
    elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Dict):
        for value in node.value.values:
            yield from constants(value)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Dict):
        for value in node.func.value.values:
            yield from constants(value)


def name_of(call: ast.Call) -> str:
    return ast.unparse(call.func)


def reasons() -> Iterator[tuple[str, str, set[str], bool]]:
    """(place, code, names of the words given, whether others may come with them) of every reason in app.clinical."""
    for file, tree in modules("app/clinical"):
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or name_of(node) not in {"Reason.of", "Reason.refused", "Reason"}:
                continue
            if file.endswith("clinical/reading.py") or not node.args:
                continue
            given = {keyword.arg for keyword in node.keywords if keyword.arg}
            spread = any(keyword.arg is None for keyword in node.keywords)
            if name_of(node) == "Reason.refused":
                given, spread = given | {"why"}, True
            for code in constants(node.args[0]):
                yield f"{file}:{node.lineno}", code, given, spread


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


REASONS = sorted({(place, code, tuple(sorted(given)), spread) for place, code, given, spread in reasons()})


def test_the_scan_finds_the_reasons() -> None:
    assert len({code for _, code, _, _ in REASONS}) >= 60


@pytest.mark.parametrize(("place", "code", "given", "spread"), REASONS, ids=[f"{r[0]} {r[1]}" for r in REASONS])
def test_every_reason_has_a_sentence_with_its_words(
    place: str, code: str, given: tuple[str, ...], spread: bool
) -> None:
    assert code in TEXTS["reason"], place
    if not spread:
        assert placeholders(TEXTS["reason"][code]) <= set(given), place


def test_every_reason_code_is_a_plain_text_in_the_sources() -> None:
    """A computed code would escape this scan."""
    for file, tree in modules("app/clinical"):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and name_of(node) in {"Reason.of", "Reason.refused"}:
                if file.endswith("clinical/reading.py"):
                    continue
                names = {n.id for n in ast.walk(node.args[0]) if isinstance(n, ast.Name)}
                assert list(constants(node.args[0])) or names, f"{file}:{node.lineno}"


# --- gaps and sources ---------------------------------------------------------------------------------------


CODE_AT = {"Gap": 1, "_gap": 0, "Source": 3, "_Refused": 0, "Refusal": 0, "_failed": 1}
PARAMS_AT = {"Gap": 6, "_gap": 3, "Source": 5, "_Refused": 1}
SAYS_WHY = {"_incomplete", "_cut", "objection", "_walk"}
"""Functions whose texts are codes."""


def whys() -> dict[str, str]:
    """Codes of refused values and unread sources, and where they are emitted."""
    found: dict[str, str] = {}
    for file, tree in modules("fhir_mappings", "app/gather.py", "app/gateway", "app/service.py"):
        for node in ast.walk(tree):
            place = f"{file}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Call):
                position = CODE_AT.get(name_of(node).rpartition(".")[2])
                if position is not None and len(node.args) > position:
                    found |= dict.fromkeys(constants(node.args[position]), place)
                for keyword in node.keywords:
                    if keyword.arg in {"why", "no_base"}:
                        found |= dict.fromkeys(constants(keyword.value), place)
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
                if names & {"why", "no_base"}:
                    values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
                    found |= {code: place for value in values for code in constants(value)}
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in SAYS_WHY:
                returned = [inner.value for inner in ast.walk(node) if isinstance(inner, ast.Return)]
                found |= {code: place for value in returned for code in constants(value)}
    units = tomllib.loads((ROOT / "fhir_mappings/units.toml").read_text(encoding="utf-8"))
    found |= dict.fromkeys(refusals(units), "fhir_mappings/units.toml")
    return {code: place for code, place in found.items() if code and code not in NOT_CODES and " " not in code}


def refusals(table: Any) -> Iterator[str]:
    if isinstance(table, dict):
        for name, value in table.items():
            if name in {"refusal", "why"} and isinstance(value, str):
                yield value
            else:
                yield from refusals(value)
    elif isinstance(table, list):
        for value in table:
            yield from refusals(value)


WHYS = whys()


def test_the_scan_finds_the_codes() -> None:
    seen = {"other-patient", "no-unit", "unit-not-accepted", "implausible", "more-pages", "timeout", "conflict"}
    assert seen <= WHYS.keys()
    classes = [value for value in vars(errors).values() if isinstance(value, type) and "why" in vars(value)]
    assert {vars(cls)["why"] for cls in classes} - {"failed"} <= WHYS.keys()


@pytest.mark.parametrize("code", sorted(WHYS))
def test_every_code_of_a_gap_or_source_has_a_text(code: str) -> None:
    if code not in NOT_WORDS:
        assert code in TEXTS["why"], WHYS[code]


NOT_WORDS = {"no-fio2", "unreadable"}
"""`GasPair.why`, which readers take apart themselves; of a unit, which becomes `unreadable-value`."""


def names_of(node: ast.AST | None, function: ast.AST) -> set[str] | None:
    """The names in a literal of params, also one held by a variable of the same function; None: not to be seen."""
    if node is None:
        return set()
    if isinstance(node, ast.Name):
        held = [
            assigned.value
            for assigned in ast.walk(function)
            if isinstance(assigned, ast.Assign) and any(ast.unparse(t) == node.id for t in assigned.targets)
        ]
        return names_of(held[-1], function) if len(held) == 1 else None
    if not isinstance(node, ast.Tuple):
        return None
    pairs = [pair for pair in node.elts if isinstance(pair, ast.Tuple) and pair.elts]
    return {name for pair in pairs for name in constants(pair.elts[0])}


def emissions() -> Iterator[tuple[str, str, set[str]]]:
    for file, tree in modules("fhir_mappings"):
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        for function in functions:
            for node in ast.walk(function):
                name = name_of(node).rpartition(".")[2] if isinstance(node, ast.Call) else ""
                if not isinstance(node, ast.Call) or name not in PARAMS_AT or len(node.args) <= CODE_AT[name]:
                    continue
                at = PARAMS_AT[name]
                written = node.args[at] if len(node.args) > at else None
                written = next((k.value for k in node.keywords if k.arg == "params"), written)
                names = names_of(written, function)
                for code in constants(node.args[CODE_AT[name]]):
                    if names is not None:
                        yield f"{file}:{node.lineno}", code, names


EMISSIONS = sorted({(place, code, tuple(sorted(names))) for place, code, names in emissions()})


@pytest.mark.parametrize(("place", "code", "names"), EMISSIONS, ids=[f"{e[0]} {e[1]}" for e in EMISSIONS])
def test_a_gap_brings_the_words_of_its_text(place: str, code: str, names: tuple[str, ...]) -> None:
    assert placeholders(TEXTS["why"][code]) <= set(names), place


def emitted_names() -> set[str]:
    """Every name that stands in a tuple of params: `params=(("seen", x),)`."""
    found = set()
    for _, tree in modules("fhir_mappings", "app/gateway", "app/gather.py"):
        for node in ast.walk(tree):
            if isinstance(node, ast.Tuple) and len(node.elts) == 2:
                first = node.elts[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str) and first.value.isidentifier():
                    found.add(first.value)
    return found


def test_every_placeholder_of_a_gap_is_emitted_somewhere() -> None:
    names = set().union(*(placeholders(text) for text in TEXTS["why"].values()))
    assert names <= emitted_names()


def test_no_gap_can_take_the_place_of_our_words() -> None:
    hostile = Gap("labs", "no-unit", params=tuple((name, f"canary-{name}") for name in sorted(RESERVED | {"seen"})))
    for code, more in (("refused", {}), ("newer-refused", {"input": "crp"})):
        reason = Reason.refused(code, hostile, **more)
        params = dict(reason.params)
        assert params["why"] == "no-unit"
        assert params.get("input", "crp") in {"crp", "canary-input"}
        assert params | more == params
        assert "no unit (canary-seen)" in bedside().plain.reason(reason)


# --- rendering ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", sorted(TEXTS["why"]))
def test_every_text_of_a_gap_can_be_filled(code: str) -> None:
    params = dict.fromkeys(placeholders(TEXTS["why"][code]), "x")
    said = bedside().plain.why(code, params)
    assert said
    assert "{" not in said


def test_each_need_of_the_plan_has_a_name() -> None:
    needs = (*plan(load("observations"), load("ingredients")), course(load("observations")))
    assert {need.key for need in needs} | {MEDICATIONS, draft_orders.SOURCE} == set(TEXTS["source"])


def test_each_kind_of_source_says_what_is_not_checked_without_it() -> None:
    kinds = {need.resource_type for need in plan(load("observations"), load("ingredients"))} | {"Medication"}
    assert set(TEXTS["card"]["unchecked"]) == kinds


def test_inputs_read_needs_that_exist() -> None:
    keys = set(TEXTS["source"])
    for spec in bedside().library.knowledge.inputs.values():
        assert set(spec.needs) <= keys, spec.name


PUBLIC = {
    *(
        "age",
        "sex",
        "sarscov2_pcr",
        "prone",
        "nmba",
        "ecmo_status",
        "ecmo_fdo2",
        "ino",
        "almitrine",
        "pf",
        "crs",
        "crp",
    ),
    *("ferritin", "anc", "platelets", "alt", "alt_uln", "ast", "ast_uln", "renal", "allergies", "medications"),
    *("pregnancy", "patient_identity", "infection", "conditions", "immunizations", "dialysis", "lactation", "tb"),
    *("procedures", "therapy_first_dose", "pf_history"),
}


def test_the_public_names_of_what_is_missing() -> None:
    """Readings 4 and 6, and how each is obtained."""
    for spec in bedside().library.knowledge.inputs.values():
        if spec.missing in PUBLIC:
            assert bedside().words.obtain(spec.missing)
            assert bedside().words.title(spec.missing)
    for name in ("alt_uln", "ast_uln", "lactation", "tb", "patient_identity"):
        assert bedside().words.obtain(name)
        assert bedside().words.title(name)


def test_words_of_the_record_are_neutralised_and_ours_are_not() -> None:
    reason = Reason.of("on-record", label="<b>*x*</b>")
    assert bedside().words.reason(reason) == markdown.text("<b>*x*</b>")
    assert "<" not in bedside().plain.reason(reason)
    assert Words(TEXTS, knowledge=bedside().library.knowledge).reason(reason) == "<b>*x*</b>"


def test_an_age_that_is_not_known_leaves_no_stump() -> None:
    assert bedside().plain.reason(Reason.of("value", value="7", age="")) == "7"


def test_a_source_without_a_reason_says_how_it_ended() -> None:
    assert bedside().plain.source(Source("labs", "Observation", "empty")) == "nothing on record"
    assert bedside().plain.source(Source("labs", "Observation", "failed", "refused", None, (("status", "403"),))) == (
        "server refused (403)"
    )


def test_what_a_gap_is_about() -> None:
    assert bedside().plain.gap_subject(Gap("labs", "no-unit", concept="crp")) == "C-reactive protein"
    assert bedside().plain.gap_subject(Gap("labs", "no-unit")) == "Laboratory results"
