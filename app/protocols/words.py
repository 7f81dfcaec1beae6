"""Turns reason codes into the sentences of the texts file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from app.clinical.knowledge import Knowledge
from app.clinical.reading import Reason
from fhir_mappings.facts import Gap, Source

Clean = Callable[[str], str]


class _Blank(dict[str, str]):
    """A word that a source or gap does not give leaves nothing, not an error."""

    def __missing__(self, key: str) -> str:
        return ""


class Words:
    """The texts. `clean` neutralises a word that may come from patient data (markdown for cards, nothing for JSON)."""

    def __init__(self, texts: Mapping[str, Any], *, knowledge: Knowledge, clean: Clean = str) -> None:
        self._texts = texts
        self._knowledge = knowledge
        self._clean = clean

    def cleaned_by(self, clean: Clean) -> Words:
        """The same texts with another treatment of words from data."""
        return Words(self._texts, knowledge=self._knowledge, clean=clean)

    def card(self, section: str, key: str, **words: str) -> str:
        """A text of `cards.toml`; the words are taken as they are."""
        return str(self._texts["card"][section][key]).format_map(words)

    def setting(self, key: str) -> str:
        """A single text at the top of `cards.toml`."""
        return str(self._texts["card"][key])

    def overrides(self) -> list[Mapping[str, str]]:
        """The override reasons, in order."""
        return list(self._texts["card"]["override"])

    def term(self, section: str, key: str) -> str:
        """A short word of the texts file, the key itself when there is none."""
        return str(self._texts[section].get(key, key))

    def reason(self, reason: Reason) -> str:
        """The sentence of a reason. An empty age leaves no stump."""
        words = {name: self._word(name, value, reason) for name, value in reason.params}
        sentence = str(self._texts["reason"][reason.code]).format_map(words)
        return sentence.replace(",  old", "").replace("  ", " ").strip()

    def why(self, code: str, params: Mapping[str, str]) -> str:
        """Why a value or a source could not be used."""
        words = _Blank({name: self._clean(value) for name, value in params.items()})
        return str(self._texts["why"][code]).format_map(words).replace(" ()", "")

    def gap(self, gap: Gap) -> str:
        """What was refused, and why."""
        return self.why(gap.why, dict(gap.params))

    def source(self, source: Source) -> str:
        """Why a source was not read, in words."""
        return self.why(source.why or source.outcome, dict(source.params))

    def source_briefly(self, source: Source) -> str:
        """The same without naming the server again: the form of the answer's extension (reading 7)."""
        brief = self._texts["why_briefly"].get(source.why)
        return self.source(source) if brief is None else str(brief).format_map(_Blank(source.params)).replace(" ()", "")

    def obtain(self, missing: str) -> str:
        """How to obtain what the public name stands for."""
        for spec in self._knowledge.inputs.values():
            if spec.missing == missing:
                return f"{spec.title}: {spec.obtain}"
        return str(self._texts["missing"][missing])

    def title(self, missing: str) -> str:
        """What a person calls the input of that public name."""
        for spec in self._knowledge.inputs.values():
            if spec.missing == missing:
                return spec.title
        return str(self._texts["missing"][missing]).partition(":")[0]

    def term_of_card(self, section: str, key: str) -> str:
        """A short word of `cards.toml`."""
        return str(self._texts["card"][section][key])

    def gap_subject(self, gap: Gap) -> str:
        """What a gap is about: the input's name, else the source's."""
        for spec in self._knowledge.inputs.values():
            if gap.concept and spec.concept == gap.concept:
                return spec.title
        return self.term("source", gap.source)

    def input_title(self, name: str) -> str:
        """What a person calls an input."""
        return self._knowledge.inputs[name].title

    def _word(self, name: str, value: str, reason: Reason) -> str:
        if name == "why":
            return self.why(value, dict(reason.params))
        if name == "source":
            return self.term("source", value)
        if name == "how":
            return self.term("how", value)
        if name == "input":
            spec = self._knowledge.inputs.get(value)
            return self._texts["required"].get(value) or (spec.title if spec else value)
        return self._clean(value)
