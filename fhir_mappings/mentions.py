"""Which groups a diagnosis in words may belong to, where no code says so: a screen that only raises a question.

A denial ("no", "without", "family history of") counts only directly before the name, words such as "evidence of"
apart, and never across a comma or a full stop: to overlook a denial costs somebody a look, to see one that is not there
hides a disease. What lies in the past ("history of") raises no question, except in groups that last.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from fhir_mappings.answers import fold

_CLAUSE_END = re.compile(r"[;:,()\[\]\n]|(?<=\w\w)\.(?=\s|$)")


class Mentions:
    """Finds which groups a text names.

    `names` holds the spellings of each group, folded; a `*` at an end of one stands for the rest of a word ("*sepsis").
    `lasting` are the groups that are not over when the text speaks of the past.
    """

    def __init__(
        self,
        names: Mapping[str, Sequence[str]],
        *,
        denials: Iterable[str],
        past: Iterable[str],
        fillers: Iterable[str],
        lasting: Iterable[str],
    ) -> None:
        between = rf"(?: (?:{_any(fillers)}))*"
        self._denied = re.compile(rf"\b(?:{_any(denials)}){between} $")
        self._past = re.compile(rf"\b(?:{_any(past)}){between} $")
        self._lasting = frozenset(lasting)
        self._names = {group: re.compile(_pattern(spellings)) for group, spellings in names.items() if spellings}
        self._all = re.compile(_pattern([one for spellings in names.values() for one in spellings]))

    def find(self, text: str) -> set[str]:
        """The groups that the text names and does not deny."""
        found: set[str] = set()
        for part in _CLAUSE_END.split(text):
            clause = fold(part)
            if not self._all.search(clause):
                continue
            for group, pattern in self._names.items():
                if any(self._counts(group, clause, place.start()) for place in pattern.finditer(clause)):
                    found.add(group)
        return found

    def _counts(self, group: str, clause: str, start: int) -> bool:
        before = clause[: clause.rfind(" ", 0, start) + 1]
        if self._denied.search(before):
            return False
        return group in self._lasting or not self._past.search(before)


def _any(words: Iterable[str]) -> str:
    return "|".join(sorted(map(re.escape, words), key=len, reverse=True))


def _pattern(spellings: Sequence[str]) -> str:
    return "|".join(
        ("" if one.startswith("*") else r"\b") + re.escape(one.strip("*")) + ("" if one.endswith("*") else r"\b")
        for one in spellings
    )
