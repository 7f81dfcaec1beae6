"""Names in texts: whole words, without case or accents.

A text only ever screens (reading 3.11): what is found here raises a question. Looking up word by word costs the same
for three names as for three hundred.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping

_WORD = re.compile(r"[^\W_]+")


def words(text: str) -> tuple[str, ...]:
    """The words of a text in lower case without accents: `Vérapamil (LP)` is `verapamil`, `lp`."""
    if not text.isascii():
        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return tuple(_WORD.findall(text.casefold()))


class Screen:
    """Finds which of the named things a text mentions; a name of several words has to stand there in this order."""

    def __init__(self, names: Mapping[str, Iterable[str]]) -> None:
        found: dict[str, list[tuple[tuple[str, ...], str]]] = {}
        for thing, spellings in names.items():
            for spelling in spellings:
                parts = words(spelling)
                found.setdefault(parts[0], []).append((parts, thing))
        self._by_first = found

    def find(self, text: str) -> set[str]:
        """The things whose name stands in the text."""
        parts = words(text)
        found: set[str] = set()
        for place, word in enumerate(parts):
            for name, thing in self._by_first.get(word, ()):
                if parts[place : place + len(name)] == name:
                    found.add(thing)
        return found
