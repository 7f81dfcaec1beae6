"""Every text that a person reads keeps to the words of clinical 3.3: it informs, and sells nothing.

The files are found, not listed, so that a new protocol cannot forget them. What is read here: the knowledge files below
app/protocols and the other words of the package in TOML, the words of discovery, the demo page, and the cards of every
demonstration patient. Not read: cases (they test the knowledge and reach no card), where a value comes from (`source`,
`alternatives`: other people's words, for reviewers), comments, and code.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import app
from app import knowledge
from app.sandbox import patients
from tests.unit.app.bundles import bundle, evaluated, resources

PACKAGE = Path(app.__file__).parent
PAGE = PACKAGE / "sandbox" / "page"

AVOIDED = re.compile(
    r"\b(?:recommend\w*|effective(?:ly|ness)?(?! time)|efficacious|should receive|must receive|needs? to receive"
    r"|eligible for|(?:non.?)?responders?|life.?saving|saves? lives|breakthrough|miracle|cures?|cured|promising"
    r"|superior|well tolerated|proven benefit|treatment of choice|indicated for)\b|survival (?:of )?100"
    r"|100 ?% survival",
    re.IGNORECASE,
)
"""clinical 3.3, with other verbs of a leaflet that sells. What guidelines say is told with "advises", "asks". The
effective time of a FHIR record is no praise."""

RESCUE = re.compile(r"rescue", re.IGNORECASE)
NAMED = re.compile(
    r"anakinra \+ ruxolitinib rescue protocols?|anakinraRuxolitinibRescue|rescue[-_]cds|"
    r"treatment to rescue extremely ill COVID-19 patients",
    re.IGNORECASE,
)
"""The protocol's name, the project's, and the title of the letter where it is cited: the whole allow-list."""

ORIGINS = {"source", "alternatives", "reading", "review"}
CODES = {"id", "of", "ref", "input", "test", "when", "outcome", "row", "card", "criteria", "is", "action", "basis"}
"""Keys whose values are names of things, not words."""


def strings(value: Any, key: str = "") -> Iterator[str]:
    """Every text below a value of TOML or JSON but origins and codes."""
    if isinstance(value, str):
        if key not in ORIGINS | CODES:
            yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from strings(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item, key)


def toml_files() -> list[Path]:
    """Every TOML file of the package that is no list of cases or of look-alike words."""
    found = sorted(PACKAGE.rglob("*.toml"))
    return [path for path in found if path.name != "cases.toml" and path != PACKAGE / "doctor" / "words.toml"]


class _Shown(HTMLParser):
    """Texts and the attributes that are read aloud or shown."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_data(self, data: str) -> None:
        self.found.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        self.found += [value or "" for name, value in attrs if name in {"title", "alt", "placeholder", "aria-label"}]


def page_texts() -> Iterator[tuple[str, str]]:
    """What the demo page shows of its own: HTML texts, and the text literals of its scripts."""
    for path in sorted(PAGE.glob("*.html")):
        shown = _Shown()
        shown.feed(path.read_text(encoding="utf-8"))
        yield from ((path.name, text) for text in shown.found)
    for path in sorted(PAGE.glob("*.js")):
        code = re.sub(r"^\s*(?://|/?\*).*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        yield from ((path.name, text) for text in re.findall(r'"((?:[^"\\\n]|\\.)*)"|`([^`]*)`', code) for text in text)


def literals(path: Path) -> Iterator[str]:
    """The text literals of a Python file without docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented:
            yield node.value


@cache
def everything() -> tuple[tuple[str, str], ...]:
    """(Where, text) of all that a person can read."""
    found = []
    for path in toml_files():
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        found += [(str(path.relative_to(PACKAGE)), text) for text in strings(table)]
    found += [("discovery", text) for text in (knowledge.TITLE, knowledge.DESCRIPTION, knowledge.USAGE)]
    found += list(page_texts())
    for path in sorted((PACKAGE / "sandbox").glob("*.py")):
        found += [(f"sandbox/{path.name}", text) for text in literals(path) if " " in text]
    return tuple(found)


def objections(text: str) -> list[str]:
    """What is wrong with a text."""
    wrong = [match[0] for match in AVOIDED.finditer(text)]
    names = [(match.start(), match.end()) for match in NAMED.finditer(text)]
    wrong += [
        match[0]
        for match in RESCUE.finditer(text)
        if not any(start <= match.start() and match.end() <= end for start, end in names)
    ]
    return wrong


def places() -> list[str]:
    return sorted({where for where, _ in everything()})


@pytest.mark.parametrize("place", places())
def test_no_text_sells(place: str) -> None:
    wrong = {text: found for where, text in everything() if where == place and (found := objections(text))}
    assert not wrong


STORIES = [story.patient_id for story in patients.STORIES]
NO_WORDS = {"extension", "uuid", "system", "code", "url", "reference", "resourceType"}


def shown(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            if name not in NO_WORDS:
                yield from shown(item)
    elif isinstance(value, list):
        for item in value:
            yield from shown(item)


@pytest.mark.parametrize("patient_id", STORIES)
def test_no_card_and_no_order_sells(patient_id: str) -> None:
    answer = evaluated(bundle(resources(patient_id)))
    wrong = [found for text in shown([answer["cards"], answer["suggestions"]]) if (found := objections(text))]
    assert not wrong


def test_the_search_finds_what_it_is_for() -> None:
    """Every kind of place is read: a search that finds nothing proves nothing."""
    read = places()
    for expected in (
        *("protocols/shared/cards.toml", "protocols/shared/texts.toml", "protocols/shared/safety.toml"),
        *("protocols/shared/treatment.toml", "protocols/shared/inputs.toml", "protocols/shared/trial.toml"),
        *("discovery", "index.html", "page.js", "sandbox/patients.py"),
    ):
        assert expected in read
    protocols = {f"protocols/{path.parent.name}/protocol.toml" for path in PACKAGE.glob("protocols/*/protocol.toml")}
    assert protocols <= set(read)
    texts = {text for _, text in everything()}
    rules = knowledge.load().library.knowledge
    assert {rule.advice for rule in rules.safety} <= texts
    assert {spec.obtain for spec in rules.inputs.values()} <= texts
    assert {c.threshold for protocol in rules.protocols for c in protocol.criteria} <= texts


@pytest.mark.parametrize(
    "text",
    [
        *("This treatment is recommended.", "The combination is effective", "The patient should receive both drugs"),
        *("Non-responders were few", "a responder", "survival 100 %", "100 % survival", "a rescue therapy"),
        *("Rescue treatment", "rescue protocol", "The drug cures"),
    ],
)
def test_a_text_that_sells_is_seen(text: str) -> None:
    assert objections(text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "Anakinra + ruxolitinib rescue protocol (investigational)",
            "rescue-cds demo",
            "ineffective",
            "cause unknown",
        ),
        *("WHO advises against ruxolitinib unless baricitinib is unavailable", "meets the pilot's thresholds"),
    ],
)
def test_a_text_that_informs_is_left_alone(text: str) -> None:
    assert not objections(text)
