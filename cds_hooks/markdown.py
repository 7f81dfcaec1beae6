"""The only way text from data enters a card.

Clients render ``detail`` with very different libraries, some with raw HTML and automatic links switched on, so
a display string of the record could run a script or plant a link in the EHR. Links are broken by *characters*
(a word joiner, U+2060, has no width), not by escapes alone: the public sandbox looks for links after escapes
and entities are decoded (reading 7).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final, NewType

Safe = NewType("Safe", str)
"""Markdown that needs no further treatment: made by :func:`text`, :func:`table`, :func:`bullets`, or our own."""

_JOINER: Final = "\u2060"
_ELLIPSIS: Final = "…"
_MARKS_PER_CHARACTER: Final = 8
_RAW_PER_SHOWN: Final = 8

# Cc control, Cf format (bidirectional, zero width, soft hyphen, tags), Cs surrogates, Co private use.
_DROPPED_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co"})

# Backslashes of the text itself count as not there: a client that removes escapes twice would find an address.
_SLASHES: Final = re.compile(r"/(?=\\*/)")
_COLON: Final = re.compile(r"(?<![A-Za-z0-9+.\-])[A-Za-z0-9+.\-]++(?=\\*:\S)")
_SCHEME: Final = re.compile(r"(?:javascript|data|vbscript|mailto|xmpp|file|tel|sms)(?=[\s\\]*:)", re.IGNORECASE)
_WWW: Final = re.compile(r"www", re.IGNORECASE)
_DOMAIN_DOT: Final = re.compile(r"(?<=\S)[.\u3002\uff0e\uff61](?=[^\W\d_]|[^\x00-\x7f])")
_NUMERIC_HOST_DOT: Final = re.compile(r"(?<=[\d\\])\.(?=\d+\\*\.\d)")
_ENTITY: Final = re.compile(r"&(?=\\*[#A-Za-z])")
# Without any of these nothing in a text can be read as an address, so the patterns above need not look.
_ADDRESS: Final = re.compile(r"[&:@\\\u3002\uff0e\uff61]|//|\]\(|\.(?![0-9 ])|\.\d+\.|www", re.IGNORECASE)
# Latin letters and symbols: blocks without combining marks.
_UNMARKED: Final = re.compile(r"[\x00-\u02ff\u2000-\u20cf\u2100-\u2bff]*")

_ENTITIES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
# ASCII punctuation with a meaning inside a line, in GFM or in common extensions. The rest of ASCII punctuation
# means something only at the start of a line (see _BLOCK_START); so decimals stay readable in clients that
# show markdown as it is.
_ESCAPED: Final = str.maketrans({mark: "\\" + mark for mark in "\\`*_{}[]()#!|~^$=:@"} | _ENTITIES)
_BLOCK_START: Final = re.compile(r"(?P<digits>\d*)(?P<mark>\.(?!\d)|(?<!\d)[-+])")
_HTML: Final = re.compile(r"<[A-Za-z/!?]|!\[")
_BARE_PIPE: Final = re.compile(r"(?<!\\)\|")


def text(value: str, *, limit: int = 200) -> Safe:
    """``value`` as inert GFM on one line, for table cells too.

    ``limit`` counts characters before escaping, the ellipsis of a cut included. A client that shows ``detail``
    without rendering it shows the backslashes.
    """
    shown = _one_line(value, limit=limit).translate(_ESCAPED)
    start = _BLOCK_START.match(shown)
    if start:
        shown = f"{start['digits']}\\{shown[start.start('mark') :]}"
    return Safe(shown)


def plain(value: str, *, limit: int) -> str:
    """``value`` for members the standard calls plain text (summary, labels); never longer than ``limit``.

    Some clients put these into HTML, so angle brackets become single guillemets, which read alike.
    """
    return _one_line(value, limit=limit).replace("<", "‹").replace(">", "›")


def literal(value: str) -> Safe:
    """Our own markdown, not text from data.

    :raises ValueError: raw HTML or an image, which this service never sends.
    """
    if _HTML.search(value):
        raise ValueError("card text holds raw HTML or an image: write &lt; for a less-than sign")
    return Safe(value)


def table(header: Sequence[Safe], rows: Iterable[Sequence[Safe]]) -> Safe:
    """A GFM table.

    :raises ValueError: a row of another width, or a cell with a line break or an unescaped pipe.
    """
    lines = [_row(header, width=len(header)), "|" + " --- |" * len(header)]
    lines += [_row(row, width=len(header)) for row in rows]
    return Safe("\n".join(lines))


def bullets(items: Iterable[Safe]) -> Safe:
    """A flat list, one line an item.

    :raises ValueError: an item with a line break, which would start another block.
    """
    lines = []
    for item in items:
        if "\n" in item:
            raise ValueError("a list item must be one line")
        lines.append(f"- {item}")
    return Safe("\n".join(lines))


def _row(cells: Sequence[Safe], *, width: int) -> str:
    if not width or len(cells) != width:
        raise ValueError("every row of a table must have as many cells as its header, and at least one")
    for cell in cells:
        if "\n" in cell or _BARE_PIPE.search(cell):
            raise ValueError("a table cell must be one line, with pipes escaped")
    return "| " + " | ".join(cells) + " |"


def _one_line(value: str, *, limit: int) -> str:
    if limit < 1:
        raise ValueError("limit must be at least one character")
    # Work is bounded by what is shown, not by what was sent.
    window = value[: limit * _RAW_PER_SHOWN + 1]
    broken = _break_addresses(_clean(window))
    clusters: Sequence[str] = broken if _UNMARKED.fullmatch(broken) else _clusters(broken)
    shown = "".join(clusters)
    if len(window) == len(value) and len(shown) <= limit:
        return shown
    room = limit - len(_ELLIPSIS)
    kept: list[str] = []
    for cluster in clusters:
        if len(cluster) > room:
            break
        kept.append(cluster)
        room -= len(cluster)
    return "".join(kept).rstrip() + _ELLIPSIS


def _clean(value: str) -> str:
    folded = " ".join(value.split())
    if not folded.isprintable():
        folded = "".join(
            character
            for character in folded
            if unicodedata.category(character) not in _DROPPED_CATEGORIES and not _is_noncharacter(character)
        )
    return unicodedata.normalize("NFC", folded).strip()


def _is_noncharacter(character: str) -> bool:
    point = ord(character)
    return point & 0xFFFE == 0xFFFE or 0xFDD0 <= point <= 0xFDEF


def _break_addresses(value: str) -> str:
    if not _ADDRESS.search(value):
        return value
    value = _ENTITY.sub("&" + _JOINER, value)
    value = _SLASHES.sub("/" + _JOINER, value)
    value = _SCHEME.sub(lambda match: match.group() + _JOINER, value)
    value = _COLON.sub(_joined_unless_number, value)
    value = _WWW.sub(lambda match: match.group() + _JOINER, value)
    value = _DOMAIN_DOT.sub(lambda match: match.group() + _JOINER, value)
    value = _NUMERIC_HOST_DOT.sub("." + _JOINER, value)
    value = value.replace("](", f"]{_JOINER}(")  # a link in a client that renders summaries as markdown too
    return value.replace("@", f"{_JOINER}@{_JOINER}")


def _joined_unless_number(match: re.Match[str]) -> str:
    """A scheme has a letter; 10:30 is a time and stays as it is."""
    token = match.group()
    return token + _JOINER if any(character.isalpha() for character in token) else token


def _clusters(value: str) -> list[str]:
    """Characters with their combining marks. More marks than any script needs are dropped, not shown as a
    tower over the neighbouring lines."""
    clusters: list[str] = []
    for character in value:
        if clusters and unicodedata.category(character).startswith("M"):
            if len(clusters[-1]) <= _MARKS_PER_CHARACTER:
                clusters[-1] += character
        else:
            clusters.append(character)
    return clusters
