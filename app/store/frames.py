"""How an entry of the spool lies in a file: found again after a crash, and beside damage, without guessing.

A frame is a header and the payload. The header has a checksum of its own, so that a length is never believed that
was not written. It begins with the salt of its stream, random bytes that also stand in the name of the file: nothing
that a payload contains can pass for a frame, so whatever is found behind a damaged place is one. Numbers grow by one
within a stream, over all of its files: what is missing shows.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Final

VERSION: Final = 1
SALT_BYTES: Final = 8

_MAGIC: Final = b"RSP%d" % VERSION
_FIELDS: Final = struct.Struct(">4s8sQqII")
"""Magic, salt, number, microseconds since 1970, length and CRC-32 of the payload; then the CRC-32 of all these."""
_CHECK: Final = struct.Struct(">I")
OVERHEAD: Final = _FIELDS.size + _CHECK.size
"""Bytes that a frame takes beside its payload."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a whole frame lies. `at` is in microseconds since 1970, `length` that of the payload."""

    number: int
    at: int
    start: int
    length: int

    @property
    def end(self) -> int:
        return self.start + OVERHEAD + self.length


@dataclass(frozen=True, slots=True)
class Scan:
    """What a file holds: whole frames in order, the places between them that cannot be read, and how it ends.

    A place is (start, end); an empty one says that frames are missing there. What follows the last frame is not among
    them; `torn` says that it is a frame cut short, as an append leaves it that did not end.
    """

    frames: tuple[Frame, ...]
    unreadable: tuple[tuple[int, int], ...]
    torn: bool
    size: int


def pack(payload: bytes, *, salt: bytes, number: int, at: int) -> bytes:
    """The bytes of a frame."""
    fields = _FIELDS.pack(_MAGIC, salt, number, at, len(payload), zlib.crc32(payload))
    return fields + _CHECK.pack(zlib.crc32(fields)) + payload


def payload_of(data: bytes, *, salt: bytes, number: int) -> bytes | None:
    """The payload of the frame that `data` is from its first byte to its last; None when it is not that one, whole."""
    frame = _frame_at(data, 0, salt=salt, above=number - 1)
    if frame is None or frame.number != number or frame.end != len(data):
        return None
    return data[OVERHEAD:]


def scan(data: bytes, *, salt: bytes) -> Scan:
    """Read a whole file of a stream."""
    frames: list[Frame] = []
    unreadable = []
    position, last = 0, -1
    while True:
        frame = _frame_at(data, position, salt=salt, above=last)
        if frame is None:
            frame = _after(data, position, salt=salt, above=last)
            if frame is None:
                break
            unreadable.append((position, frame.start))
        elif frames and frame.number != last + 1:
            unreadable.append((position, position))
        frames.append(frame)
        position, last = frame.end, frame.number
    torn = _cut_short(data, position, salt=salt, above=last)
    return Scan(tuple(frames), tuple(unreadable), torn, len(data))


def _frame_at(data: bytes, start: int, *, salt: bytes, above: int) -> Frame | None:
    """The frame that begins there, if all of it is there and as it was written."""
    header = _header_at(data, start, salt=salt, above=above)
    if header is None:
        return None
    frame, checksum = header
    if frame.end > len(data) or zlib.crc32(memoryview(data)[start + OVERHEAD : frame.end]) != checksum:
        return None
    return frame


def _header_at(data: bytes, start: int, *, salt: bytes, above: int) -> tuple[Frame, int] | None:
    """The frame that a sound header there announces, and the checksum of its payload. Its number is above that one:
    a block of an older file that turns up again is no frame of this one."""
    if len(data) - start < OVERHEAD:
        return None
    magic, salted, number, at, length, checksum = _FIELDS.unpack_from(data, start)
    (check,) = _CHECK.unpack_from(data, start + _FIELDS.size)
    sound = check == zlib.crc32(memoryview(data)[start : start + _FIELDS.size])
    if not sound or magic != _MAGIC or salted != salt or number <= above:
        return None
    return Frame(number, at, start, length), checksum


def _after(data: bytes, start: int, *, salt: bytes, above: int) -> Frame | None:
    """The first frame that begins behind `start`."""
    place = start
    while (place := data.find(_MAGIC + salt, place + 1)) >= 0:
        frame = _frame_at(data, place, salt=salt, above=above)
        if frame is not None:
            return frame
    return None


def _cut_short(data: bytes, start: int, *, salt: bytes, above: int) -> bool:
    """Whether a frame begins there of which only the end is missing."""
    mark = _MAGIC + salt
    rest = data[start:]
    if not rest or rest.find(mark, 1) >= 0:
        return False
    if len(rest) < OVERHEAD:
        return mark.startswith(rest[: len(mark)])
    header = _header_at(data, start, salt=salt, above=above)
    return header is not None and header[0].end > len(data)
