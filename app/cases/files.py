"""The case files beside the protocols: which patients, and what must be said about them (app/protocols/README.md)."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from app.cases.language import CaseError, merged

CASES = "cases.toml"


@dataclass(frozen=True, slots=True)
class Case:
    """One case of one file: `lines` are those of its base patient with its own."""

    protocol: str
    name: str
    why: str
    lines: Mapping[str, Any]
    expect: Mapping[str, Any]
    now: str
    zone: ZoneInfo


def shipped() -> dict[str, str]:
    """Folder -> text of its case file, for every protocol that has one."""
    root = resources.files("app.protocols")
    folders = sorted(folder.name for folder in root.iterdir() if folder.joinpath(CASES).is_file())
    return {folder: root.joinpath(folder, CASES).read_text(encoding="utf-8") for folder in folders}


def cases(texts: Mapping[str, str], *, patients: Mapping[str, str] | None = None) -> tuple[Case, ...]:
    """The cases of these files, by folder. Base patients of any file may be named in any other; `patients` are further
    files whose base patients may be. Raises CaseError, which names the file.
    """
    tables = {folder: _table(folder, text) for folder, text in texts.items()}
    further = {folder: _table(folder, text) for folder, text in (patients or {}).items()}
    bases = {
        name: lines
        for table in (*further.values(), *tables.values())
        for name, lines in table.get("patient", {}).items()
    }
    return tuple(_case(folder, table, row, bases) for folder, table in tables.items() for row in table.get("case", ()))


def _table(folder: str, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CaseError(f"{folder}/{CASES}: not TOML: {error}") from None


def _case(
    folder: str, table: Mapping[str, Any], row: Mapping[str, Any], bases: Mapping[str, Mapping[str, Any]]
) -> Case:
    where = f"{folder}/{CASES}: {row.get('name', 'a case')}"
    try:
        lines = merged(bases, row["have"])
        return Case(
            protocol=folder.replace("_", "-"),
            name=row["name"],
            why=row["why"],
            lines=lines,
            expect=row["expect"],
            now=lines.get("now", table["now"]),
            zone=ZoneInfo(table["zone"]),
        )
    except KeyError as error:
        raise CaseError(f"{where}: no `{error.args[0]}`: add it") from None
    except (CaseError, ZoneInfoNotFoundError) as error:
        raise CaseError(f"{where}: {error}") from None
