"""The fields of a knowledge file: what is there, of the right kind, and says where it comes from.

Every error names the file, the key and the remedy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from functools import partial
from typing import Any as Json
from typing import TypeVar

from app.clinical.knowledge import Limit, Origin

UNSIGNED = "unsigned"
ORIGIN = ("source", "reading", "alternatives", "review")
"""The keys that every block has."""

_FEW = 16
_SIGNED = re.compile(r"(\d{4}-\d{2}-\d{2}) \S.*")


T = TypeVar("T")


class KnowledgeError(ValueError):
    """Knowledge files are wrong: each complaint, a line, names the file, the key and the remedy."""

    def __init__(self, *complaints: str) -> None:
        super().__init__(*complaints)
        self.complaints = complaints

    def __str__(self) -> str:
        return "\n".join(self.complaints)


def each(makers: Iterable[Callable[[], T]]) -> list[T]:
    """What each makes; all are tried, and one error holds the complaints of all that failed."""
    found: list[T] = []
    complaints: list[str] = []
    for make in makers:
        try:
            found.append(make())
        except KnowledgeError as error:
            complaints += error.complaints
    if complaints:
        raise KnowledgeError(*dict.fromkeys(complaints))
    return found


def field(name: str, table: Mapping[str, Json], key: str, *, block: str = "") -> Json:
    try:
        return table[key]
    except KeyError:
        where = block or table.get("id", "a block")
        raise KnowledgeError(f"app/protocols/{name}: {where} has no `{key}`: add it") from None


def blocks(name: str, table: Mapping[str, Json], key: str) -> list[dict[str, Json]]:
    found = field(name, table, key)
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise KnowledgeError(f"app/protocols/{name}: `{key}` must be written as [[{key}]] blocks")
    return found


def named(name: str, table: Mapping[str, Json], key: str) -> dict[str, Json]:
    found = field(name, table, key)
    if not isinstance(found, dict):
        raise KnowledgeError(f"app/protocols/{name}: `{key}` must be written as a [{key}] table")
    return found


def known_keys(where: str, table: Mapping[str, Json], keys: Iterable[str]) -> None:
    """Refuses a key that nothing reads: a misspelt one would silently leave the file's wish undone."""
    allowed = tuple(keys)
    for key in table:
        known_word(where, f"unknown key `{key}`", key, allowed)


def known_word(where: str, complaint: str, word: Json, known: Collection[str]) -> None:
    """Refuses a word that is none of these, naming what was probably meant, else all of them where they are few."""
    if word in known:
        return
    near = get_close_matches(str(word), list(known), n=1)
    if near:
        complaint += f": did you mean `{near[0]}`?"
    elif known and len(known) <= _FEW:
        complaint += f": known are {', '.join(f'`{each}`' for each in sorted(known))}"
    raise KnowledgeError(f"{where}: {complaint}")


def number(where: str, value: Json) -> Decimal:
    """What must be finite and no boolean; a number in quotes is one too."""
    try:
        number = Decimal(value)
    except (InvalidOperation, TypeError, ValueError):
        raise KnowledgeError(f"{where}: not a number: write it without quotes and units") from None
    if isinstance(value, bool) or not number.is_finite():
        raise KnowledgeError(f"{where}: not a finite number: write it without quotes and units")
    return number


def numbers(name: str, table: Mapping[str, Json], key: str) -> dict[str, Decimal]:
    return {
        word: number(f"app/protocols/{name}: [{key}] {word}", value) for word, value in named(name, table, key).items()
    }


def hours(where: str, value: Json) -> timedelta:
    hours = number(where, value)
    if hours <= 0:
        raise KnowledgeError(f"{where}: hours must be above zero: leave the key out for no limit")
    return timedelta(hours=float(hours))


def unique(name: str, ids: Iterable[str]) -> None:
    seen: set[str] = set()
    for id_ in ids:
        if id_ in seen:
            raise KnowledgeError(f"app/protocols/{name}: {id_} stands there twice: give every block an id of its own")
        seen.add(id_)


def origin(name: str, row: Mapping[str, Json], *, block: str = "") -> Origin:
    """Source, reading, alternatives and review of a block: all must stand there, the source must say something."""
    where = block or str(row.get("id", "a block"))
    words = {key: str(field(name, row, key, block=where)) for key in ORIGIN}
    if not words["source"].strip():
        raise KnowledgeError(f'app/protocols/{name}: {where}: `source` is empty: name the document, or write "ours"')
    if words["review"] != UNSIGNED and not _is_signed(words["review"]):
        raise KnowledgeError(
            f'app/protocols/{name}: {where}: `review` is {words["review"]!r}: write "unsigned", or date and name, '
            'like "2027-01-31 Dr A. Example"'
        )
    return Origin(**words)


def _is_signed(review: str) -> bool:
    match = _SIGNED.fullmatch(review)
    try:
        return match is not None and bool(date.fromisoformat(match.group(1)))
    except ValueError:
        return False


def limits(name: str, table: Mapping[str, Json]) -> dict[str, Limit]:
    """The [limit.NAME] blocks."""
    rows = named(name, table, "limit")
    return dict(zip(rows, each(partial(_limit, name, key, row) for key, row in rows.items()), strict=True))


def _limit(name: str, key: str, row: Mapping[str, Json]) -> Limit:
    block = f"[limit.{key}]"
    known_keys(f"app/protocols/{name}: {block}", row, ("value", "what", *ORIGIN))
    value = number(f"app/protocols/{name}: {block} value", field(name, row, "value", block=block))
    return Limit(value, field(name, row, "what", block=block), origin(name, row, block=block))
