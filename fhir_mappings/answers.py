"""Qualitative results ("not detected", "POS", "nicht nachgewiesen", an organism's name) as one coded answer.

The vocabulary is data (`[answers]` in `concepts/observations.toml`). Codes, displays, text and interpretation are all
read: when they contradict each other the answer is the mixed one (`inconclusive`), never the more convenient one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from fhir_mappings.codebook import load
from fhir_mappings.coding import CodeableConcept, key

_SPACES = re.compile(r"[^a-z0-9+]+")
_NEGATION = re.compile(r"\b(?:no|not|non|nicht|kein|keine|pas|without|sans|ohne)\b")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """One table of [answers]: `mixed` for contradictions, `otherwise` for text that names none (None: unreadable)."""

    mixed: str
    otherwise: str | None
    whole: bool
    booleans: Mapping[bool, str]
    codes: Mapping[str, str]
    words: Mapping[str, str]
    phrase: re.Pattern[str]

    def of_text(self, text: str) -> str | None:
        """The answer a text gives, None when it gives none of the listed ones."""
        folded = fold(text)
        if self.whole:
            return self.words.get(folded)
        found = {self.words[match] for match in self.phrase.findall(folded)}
        if not found:
            return None
        if len(found) > 1 or _NEGATION.search(self.phrase.sub(" ", folded)):
            return self.mixed
        return found.pop()

    def of_concepts(self, concepts: Iterable[CodeableConcept], *, fallback: bool = True) -> str | None:
        """The answer that codes, displays and texts give together. `fallback` allows `otherwise`."""
        found: set[str] = set()
        said = False
        for concept in concepts:
            for coding in concept.coding:
                said = said or bool(coding.code or coding.display)
                by_code = self.codes.get(key(coding))
                if by_code is not None:
                    found.add(by_code)
                if coding.display and (by_text := self.of_text(coding.display)) is not None:
                    found.add(by_text)
            if concept.text:
                said = True
                if (by_text := self.of_text(concept.text)) is not None:
                    found.add(by_text)
        if not found:
            return self.otherwise if said and fallback else None
        return self.together(found)

    def together(self, found: set[str]) -> str:
        """One answer of several: themselves when they agree, else `mixed`."""
        return found.copy().pop() if len(found) == 1 else self.mixed


def fold(text: str) -> str:
    """Lower case without accents and punctuation: "Non détecté." becomes "non detecte"."""
    plain = text.casefold()
    if not plain.isascii():
        plain = "".join(c for c in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(c))
    return _SPACES.sub(" ", plain).strip()


@cache
def vocabularies() -> Mapping[str, Vocabulary]:
    """All tables of [answers] by name."""
    return {name: _vocabulary(table) for name, table in load("observations").tables["answers"].items()}


def _vocabulary(table: Mapping[str, Any]) -> Vocabulary:
    answers = {name: rows for name, rows in table.items() if isinstance(rows, dict)}
    words = {fold(word): name for name, rows in answers.items() for word in rows["words"]}
    longest_first = sorted(words, key=len, reverse=True)
    return Vocabulary(
        mixed=table["mixed"],
        otherwise=table.get("otherwise"),
        whole=table.get("whole", False),
        booleans={value: table[name] for value, name in ((True, "true"), (False, "false")) if name in table},
        codes={code: name for name, rows in answers.items() for code in rows["codes"]},
        words=words,
        phrase=re.compile(r"\b(?:" + "|".join(map(re.escape, longest_first)) + r")\b"),
    )
