"""The source attributes: what a reader of a card has to know about the service behind it, as JSON and as text.

The words are `app/protocols/shared/source_attributes.toml`; what the knowledge says itself (versions, inputs, dates) is
filled in from it.
"""

from __future__ import annotations

import textwrap
import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Any

from app.protocols.fields import KnowledgeError, blocks, field
from app.protocols.loader import Library

PATH = "/source-attributes"
"""Where the service serves them; a card's source names it absolutely."""

FILE = "shared/source_attributes.toml"
SCHEMA = 1
_WIDTH = 100


def url(base: str | None) -> str | None:
    """Their address, where it is known under which address the service is reached."""
    return None if base is None else f"{base}{PATH}"


def load(library: Library, *, version: str) -> dict[str, Any]:
    """The shipped attributes with what the knowledge says. Raises KnowledgeError."""
    written = resources.files("app.protocols").joinpath(FILE).read_text(encoding="utf-8")
    return document(written, library, version=version)


def document(written: str, library: Library, *, version: str) -> dict[str, Any]:
    """The attributes as JSON. Raises KnowledgeError, with the block, when a word is misspelt or nothing is said."""
    try:
        table = tomllib.loads(written)
    except tomllib.TOMLDecodeError as error:
        raise KnowledgeError(f"app/protocols/{FILE}: not TOML: {error}") from None
    words = _words(library, version=version) | {"updated": field(FILE, table, "updated", block="the top")}
    words["released"] = _filled(field(FILE, table, "released", block="the top"), words, block="released")
    attributes = []
    for row in blocks(FILE, table, "attribute"):
        id_ = field(FILE, row, "id")
        said = [_filled(value, words, block=id_) for value in field(FILE, row, "value") if value.strip()]
        if not said:
            raise KnowledgeError(f'app/protocols/{FILE}: {id_}: says nothing: write "not known"')
        attributes.append({"id": id_, "title": field(FILE, row, "title"), "value": said})
    return {
        "schema": SCHEMA,
        "name": field(FILE, table, "name", block="the top"),
        "kind": field(FILE, table, "kind", block="the top"),
        "attributes": attributes,
    }


def text(attributes: Mapping[str, Any]) -> str:
    """The same for a reader."""
    lines = [attributes["name"], *textwrap.wrap(f"Source attributes: {attributes['kind']}", _WIDTH)]
    for attribute in attributes["attributes"]:
        lines += ["", attribute["title"]]
        for value in attribute["value"]:
            lines += textwrap.wrap(value, _WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    return "".join(f"{line}\n" for line in lines)


def _words(library: Library, *, version: str) -> dict[str, str]:
    card = library.words["card"]
    titles = dict.fromkeys(spec.title for spec in library.knowledge.inputs.values())
    return {
        "service_version": version,
        "knowledge_version": library.knowledge.version,
        "knowledge_status": str(card["knowledge_status"]),
        "evidence_reviewed": str(card["evidence_reviewed"]),
        "evidence_expires": str(card["evidence_expires"]),
        "inputs": ", ".join(titles),
    }


def _filled(value: str, words: Mapping[str, str], *, block: str) -> str:
    try:
        return value.format_map(words)
    except (KeyError, ValueError, IndexError, AttributeError):
        known = ", ".join(words)
        raise KnowledgeError(f"app/protocols/{FILE}: {block}: a word in braces that is none of {known}") from None
