"""Stored text can do nothing to a terminal."""

from __future__ import annotations

import json

import pytest

from app.decisions import legible

HOSTILE = ["\x1b[2J", "\x9b31m", "a\u202eb", "\x07", "a\rb", "\u2028", "\U000e0041", "\x00"]


@pytest.mark.parametrize("text", HOSTILE, ids=[f"U+{ord(max(t, key=ord)):04X} in {n}" for n, t in enumerate(HOSTILE)])
def test_what_cannot_be_seen_is_written_as_an_escape(text: str) -> None:
    shown = legible.line(text)
    assert shown.isprintable()
    assert "\\" in shown
    document = legible.document({"a": text})
    assert all(line.isprintable() for line in document.splitlines())
    assert json.loads(document) == {"a": text}


def test_words_stay_as_they_are() -> None:
    assert legible.line("Ferritin 1650 µg/L, déjà vu, ≥ 3") == "Ferritin 1650 µg/L, déjà vu, ≥ 3"
    assert legible.lines("one\ntwo\x1b") == ["one", "two\\x1b"]


def test_numbers_keep_their_digits() -> None:
    from decimal import Decimal

    assert '"a": 0.50' in legible.document({"a": Decimal("0.50")})
