"""What every body must pass before anything else reads it.

JSON parsers disagree about duplicate keys, NaN, NUL, lone surrogates and deep nesting, and storage refuses
some of them later; a request two readers understand differently must not reach a clinical decision. Each test
here works on the whole body with a few C-speed passes over bytes, because the body of an ICU patient has
hundreds of kilobytes and the answer is due in half a second.
"""

from __future__ import annotations

import json
import re
from typing import Final, NoReturn

import msgspec

from .errors import BadRequest

MAX_DEPTH: Final = 64
MAX_NUMBER: Final = 64
MAX_MEMBERS: Final = 1000

# What is left of a body for the depth and number tests: quotes, brackets (both kinds as one), digits (all as
# "0"), and the two characters that keep neighbouring digit runs (list items, dates) apart.
_KEPT: Final = b'"[]{}0123456789,-'
_DELETED: Final = bytes(octet for octet in range(256) if octet not in _KEPT)
_FOLDED: Final = bytes.maketrans(b"{}123456789", b"[]000000000")
_WINDOW: Final = 1 << 20
_ROUNDS: Final = 12

_SUSPICIOUS_ESCAPE: Final = re.compile(rb"\\(?:\\|u(?:0000|[dD][89a-fA-F]))")
_RUN: Final = re.compile(rb"\[+|\]+")
_MEMBER: Final = re.compile(rb'[ \t\n\r]*("[^"\\]*(?:\\.[^"\\]*)*")[ \t\n\r]*:[ \t\n\r]*', re.DOTALL)
_DELIMITER: Final = re.compile(rb"[ \t\n\r]*[,}]")

_RAW: Final = msgspec.json.Decoder(msgspec.Raw)
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEXT: Final = msgspec.json.Decoder(str)

_NOT_JSON: Final = "the body is not valid JSON"
_TOO_DEEP: Final = "the body is nested too deeply, or its brackets do not match"


def check(body: bytes, *, max_depth: int = MAX_DEPTH, max_number: int = MAX_NUMBER) -> None:
    """Refuse a body that is not strict JSON, nested too deeply or with an endless number.

    ``max_depth`` counts open arrays and objects; ``max_number`` is in characters. NaN and Infinity are no JSON
    and fail as such. Duplicate keys are the business of :func:`members` and :func:`duplicate_free`.

    :raises BadRequest: with a fixed text.
    """
    check_text(body, max_depth=max_depth, max_number=max_number)
    try:
        _RAW.decode(body)
    except (ValueError, RecursionError):
        raise BadRequest(_NOT_JSON) from None


def check_text(body: bytes, *, max_depth: int = MAX_DEPTH, max_number: int = MAX_NUMBER) -> None:
    """The part of :func:`check` that a grammar does not cover, for callers that decode the body next anyway.

    :raises BadRequest: with a fixed text.
    """
    unescaped = _checked_characters(body)
    skeleton = unescaped.translate(_FOLDED, _DELETED)
    _check_numbers(unescaped, digits=skeleton, limit=max_number)
    if _depth_exceeds(skeleton.translate(None, b"0,-"), limit=max_depth):
        raise BadRequest(_TOO_DEEP)


def members(raw: bytes, *, name: str) -> dict[str, bytes]:
    """The members of the JSON object ``raw``, each value as its raw bytes; ``name`` is for the refusal only.

    Nothing below the first level is built. Duplicates at this level are found without a second parse: the
    decoder keeps the last value of a key, so the walk below, which compares each value with the bytes that
    really stand there, meets either a key it has seen or a value that differs.

    :raises BadRequest: not an object, a duplicate key, or more than ``MAX_MEMBERS`` members.
    """
    try:
        decoded = _MEMBERS.decode(raw)
    except msgspec.ValidationError:
        raise BadRequest(f"{name} must be a JSON object", code="structure") from None
    except (ValueError, RecursionError):
        raise BadRequest(_NOT_JSON) from None
    if len(decoded) > MAX_MEMBERS:
        raise BadRequest(f"{name} has too many members", code="too-long")
    values = {key: bytes(value) for key, value in decoded.items()}
    _refuse_repeated(raw, values=values, name=name)
    return values


def duplicate_free(raw: bytes) -> None:
    """Refuse duplicate keys at any level, comparing keys after their escapes are decoded.

    Builds every object once, so it is for small or already reduced documents.

    :raises BadRequest: a duplicate key, or no JSON at all; nothing else ever leaves.
    """
    try:
        json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_refuse_duplicates,
            parse_int=str,
            parse_float=str,
            parse_constant=_refuse_constant,
        )
    except (ValueError, RecursionError, MemoryError):
        raise BadRequest(_NOT_JSON) from None


def _refuse_duplicates(pairs: list[tuple[str, object]]) -> None:
    if len(dict(pairs)) != len(pairs):
        raise BadRequest("a JSON object has the same key twice", code="structure")


def _refuse_constant(_: str) -> NoReturn:
    raise BadRequest(_NOT_JSON)


def _checked_characters(body: bytes) -> bytes:
    """``body`` without escaped quotes and backslashes, so that every quote left starts or ends a string.

    A backslash escapes the next character, which may be a backslash: pairs of them go first, and are replaced
    at the same length, so that what stood apart does not become neighbours.
    """
    if body.startswith(b"\xef\xbb\xbf"):
        raise BadRequest("the body starts with a byte order mark")
    if b"\0" in body:
        raise BadRequest("the body contains a NUL character")
    if not body.isascii():
        try:
            body.decode("utf-8")
        except UnicodeDecodeError:
            raise BadRequest("the body is not valid UTF-8") from None
    if b"\\" not in body:  # one character is found many times faster than two
        return body
    if _SUSPICIOUS_ESCAPE.search(body):
        body = body.replace(b"\\\\", b"__")
        if b"\\u0000" in body:
            raise BadRequest("the body contains a NUL character")
        try:
            # Decodes \uXXXX and nothing else, one code unit each; UTF-16 then knows pairs from loners.
            units = body.decode("raw_unicode_escape").encode("utf-16-le", "surrogatepass")
            units.decode("utf-16-le")
        except UnicodeError:
            raise BadRequest("the body contains a lone surrogate or a broken escape") from None
    return body.replace(b'\\"', b"__")


def _check_numbers(unescaped: bytes, *, digits: bytes, limit: int) -> None:
    # Of a number, digits and minus signs are left in ``digits``, so at most two runs; in the body they are at
    # most three, with four other characters. Few bodies have a run that long, and the search can end here.
    if b"0" * max(1, -(-(limit - 3) // 2)) not in digits:
        return
    if b"0" * max(1, -(-(limit - 3) // 3)) not in unescaped.translate(_FOLDED):
        return
    quotes = position = 0
    for token in re.finditer(rb"(?<![-+.0-9eE])[-+.0-9eE]{%d,}" % (limit + 1), unescaped):
        quotes += unescaped.count(b'"', position, token.start())
        position = token.start()
        if quotes % 2 == 0:  # outside a string
            raise BadRequest("the body contains a number with too many digits", code="too-long")


def _depth_exceeds(quotes_and_brackets: bytes, *, limit: int) -> bool:
    # Strings without brackets are now two neighbouring quotes. What keeps a quote after their removal is a
    # string with brackets (a UCUM unit as mm[Hg]); taking the text outside such quotes leaves the structure.
    reduced = quotes_and_brackets.replace(b'""', b"")
    if b'"' in reduced:
        structure = bytearray()
        inside = 0
        for start in range(0, len(reduced), _WINDOW):  # windows bound the memory of a hostile body
            pieces = reduced[start : start + _WINDOW].split(b'"')
            structure += b"".join(pieces[inside::2])
            inside ^= (len(pieces) - 1) & 1
        reduced = bytes(structure)
    # Each round takes the innermost level away; resources have about ten.
    rounds = min(limit, _ROUNDS)
    for _ in range(rounds):
        if not reduced:
            return False
        outer = reduced.replace(b"[]", b"")
        if len(outer) == len(reduced):  # unbalanced: no JSON, whatever its depth
            return True
        reduced = outer
    return rounds + _height(reduced) > limit


def _height(brackets: bytes) -> int:
    depth = height = 0
    for run in _RUN.finditer(brackets):
        length = run.end() - run.start()
        depth += length if run.group().startswith(b"[") else -length
        height = max(height, depth)
    return height


def _refuse_repeated(raw: bytes, *, values: dict[str, bytes], name: str) -> None:
    seen: set[str] = set()
    position = raw.index(b"{") + 1
    while member := _MEMBER.match(raw, position):
        key = _TEXT.decode(member.group(1))
        value = values[key]
        # A number may go on behind a value that is its beginning, so the delimiter is part of the comparison.
        delimiter = _DELIMITER.match(raw, member.end() + len(value))
        if key in seen or delimiter is None or not raw.startswith(value, member.end()):
            raise BadRequest(f"{name} has the same key twice", code="structure")
        seen.add(key)
        position = delimiter.end()
