"""Turns reason codes into the sentences of the texts file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from app.clinical.changes import Change, Span
from app.clinical.chart import hours_text
from app.clinical.knowledge import Knowledge
from app.clinical.reading import Reason, decimal_text, unit_text
from fhir_mappings.facts import Gap, Source

Clean = Callable[[str], str]

_IN_HOURS = 72
"""Up to so many a window is said in hours, as the knowledge gives it."""


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

    def has(self, change: Change) -> str:
        """What an input reads as now; one of which nothing was found says how far back it was looked for."""
        window = self._knowledge.inputs[change.input].window
        sentence = self._texts["none_found"].get(change.now.reason.code)
        if sentence is None or window is None:
            return self.reason(change.now.reason)
        hours = window // timedelta(hours=1)
        return str(sentence).format(window=f"{hours} h" if hours <= _IN_HOURS else hours_text(window))

    def needs(self, change: Change) -> str:
        """What it would have to be, in signs: "> 1000 µg/L", "no"."""
        return self._needs(change, self._texts["needs"])

    def needs_said(self, change: Change) -> str:
        """The same in the words of a card: "above 1000 µg/L"."""
        return self._needs(change, self._texts["card"]["needs"])

    def _needs(self, change: Change, texts: Mapping[str, str]) -> str:
        if change.spans:
            numbers = texts["or"].join(_span(span, texts) for span in change.spans)
            return f"{numbers} {self.term('unit', unit_text(change.unit))}"
        if change.states:
            states = texts["or"].join(self.term("state", state) for state in change.states)
            return texts["not"].format(states=states) if change.negated else states
        return texts["any"]

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


def _span(span: Span, texts: Mapping[str, str]) -> str:
    """The numbers of a span."""
    if span.low is not None and span.low == span.high:
        return texts["="].format(value=decimal_text(span.low))
    bounds = []
    if span.low is not None:
        bounds.append(texts[">" if span.open_low else ">="].format(value=decimal_text(span.low)))
    if span.high is not None:
        bounds.append(texts["<" if span.open_high else "<="].format(value=decimal_text(span.high)))
    return texts["and"].join(bounds)
