"""Stored text for a terminal: whatever it holds, it cannot move the cursor, hide itself or turn itself around."""

from __future__ import annotations

import re
from typing import Any

import msgspec

_ENCODER = msgspec.json.Encoder(decimal_format="number")


def line(text: object) -> str:
    """One line, with everything that cannot be seen written as an escape."""
    shown = str(text)
    return shown if shown.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in shown)


def lines(text: str) -> list[str]:
    """The lines of a text."""
    return [line(one) for one in text.split("\n")]


def document(value: Any) -> str:
    """JSON, indented; numbers keep their digits."""
    text = msgspec.json.format(_ENCODER.encode(value), indent=2).decode()
    return re.sub(r"[^\n]", lambda found: found[0] if found[0].isprintable() else _in_json(found[0]), text)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _in_json(character: str) -> str:
    code = ord(character)
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
