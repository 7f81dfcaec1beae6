"""Where decisions wait while the database is away: on this machine's disk, in order, none lost, never too many.

What `append` has taken survives a power cut when it returns. Entries lie in segments, files that only grow, and that
nobody but the process that made them writes to; a segment goes when all of its entries are in the database, so that
after a crash some of them may come a second time, and none is missing. A file in which a write or an fsync has failed
is cut back to what it held and takes no more: after a failed fsync the kernel may call pages clean that never reached
the disk, and a second fsync that succeeds proves nothing. The next append begins another file.

Processes share the directory, each with a slot of its own, a sub-directory it holds locked. Who opens takes over what
slots of dead processes hold. The bound is for each slot, thus for each process.

The files hold patient data: they are readable by their owner only, and belong on an encrypted volume.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from app.store import frames
from app.store.errors import BadSpool, SpoolFailed, SpoolFull
from app.store.frames import OVERHEAD, SALT_BYTES, VERSION, Frame

SLOTS: Final = 64
_LOCK: Final = "lock"
_SEGMENT: Final = ".spool"
_DAMAGED: Final = ".damaged"
_REFUSED: Final = ".refused"
_DRAFT: Final = ".draft"
_NAME: Final = re.compile(r"(?P<began>\d{16})-(?P<salt>[0-9a-f]{16})-(?P<index>\d{10})\.v(?P<version>\d+)\.spool")
_NO_ROOM: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_LEAST_SEGMENTS: Final = 8
"""A full spool has about so many: room comes back by whole segments, and should not wait for all of it."""

_Data: TypeAlias = bytes
"""In `Spool`, whose property `bytes` takes the name."""


class _Stream(NamedTuple):
    """What one process wrote between opening and closing: when it began (microseconds since 1970), and its salt."""

    began: int
    salt: bytes


@dataclass(slots=True, eq=False)
class _Segment:
    """A file. `waiting` counts its entries that are not removed; `size` is the file's."""

    path: Path
    stream: _Stream
    size: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class _Entry:
    segment: _Segment
    frame: Frame


class Spool:
    """The entries of this process; open between `open()` and `close()`. One caller at a time; the properties at any.

    `ordinary_bytes` is what `writable` asks room for. A segment holds at most an eighth of `most_bytes`, unless one
    append alone is longer.
    """

    def __init__(
        self, directory: Path, *, most_bytes: int, segment_bytes: int = 4 * 2**20, ordinary_bytes: int = 64 * 2**10
    ) -> None:
        self._directory = directory
        self._most = most_bytes
        self._segment_most = min(segment_bytes, most_bytes // _LEAST_SEGMENTS)
        self._ordinary = ordinary_bytes
        self._slot = directory
        self._lock: int | None = None
        self._forget()

    def __repr__(self) -> str:
        return f"Spool({str(self._directory)!r}, entries={self.entries}, bytes={self.bytes}, most_bytes={self._most})"

    def open(self) -> None:
        """Make the directory, take a slot, take over those of the dead, and read what waits. Raises BadSpool."""
        if self._lock is not None:
            raise BadSpool(f"the spool {self._directory} is open already")
        try:
            _make(self._directory)
            self._take_slot()
            self._adopt()
            self._recover()
        except OSError as error:
            self.close()
            raise BadSpool(
                f"{error.filename or self._directory}: the spool cannot be opened: {error.strerror}: "
                "check owner, permissions and free space"
            ) from None
        except BadSpool:
            self.close()
            raise

    def close(self) -> None:
        """Let the slot go. Nothing is written: a crash leaves the same."""
        for descriptor in (self._descriptor, self._lock):
            if descriptor is not None:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        self._lock = None
        self._forget()

    def append(self, entries: Sequence[bytes], *, now: datetime) -> None:
        """Take them all, durably, or none.

        Raises SpoolFull when the bound or the disk has no room, SpoolFailed when the disk fails. Either way the next
        append tries anew.
        """
        if self._lock is None:
            raise SpoolFailed(f"the spool {self._directory} is not open")
        if not entries:
            return
        at = (now - _EPOCH) // _MICROSECOND
        size = sum(OVERHEAD + len(entry) for entry in entries)
        self._drop_spent()
        if self.bytes + size > self._most:
            raise SpoolFull(
                f"the spool {self._directory} is full: {self.bytes} of {self._most} bytes in slot {self._slot.name}: "
                "bring the database back, then it empties itself; move away what is set aside; or set a higher bound"
            )
        try:
            segment, descriptor = self._segment_for(size, at=at)
            self._write(segment, descriptor, entries, at=at)
        except OSError as error:
            self._failing = True
            if error.errno in _NO_ROOM:
                raise SpoolFull(
                    f"the disk of the spool {self._directory} is full ({self.bytes} of {self._most} bytes used here): "
                    "make room, it goes on by itself"
                ) from None
            raise SpoolFailed(
                f"the spool {self._directory} cannot be written: {error.strerror}: check the disk; "
                "it goes on by itself when that can be written again"
            ) from None
        self._failing = False

    def oldest(self, most: int) -> list[bytes]:
        """Up to so many entries that are not removed, the oldest first.

        One that has been damaged since it was written is set aside, counted, and left out. Raises SpoolFailed when a
        file cannot be read; nothing is lost by that.
        """
        found: list[bytes] = []
        try:
            while len(found) < most and len(found) < len(self._entries):
                bad = self._read(most, into=found)
                if bad is not None:
                    self._leave_out(bad, position=len(found))
        except OSError as error:
            raise SpoolFailed(
                f"{error.filename or self._slot}: the spool cannot be read: {error.strerror}: "
                "check the disk; entries stay where they are"
            ) from None
        self._drop_spent()
        return found

    def since(self, moment: datetime) -> Iterator[_Data]:
        """The entries that were appended since then, one after the other. What cannot be read is left to `oldest`."""
        first = (moment - _EPOCH) // _MICROSECOND
        with contextlib.closing(_Files()) as files, contextlib.suppress(OSError):
            for entry in self._entries:
                frame = entry.frame
                if frame.at >= first:
                    data = files.read(entry.segment.path, start=frame.start, size=frame.end - frame.start)
                    payload = frames.payload_of(data, salt=entry.segment.stream.salt, number=frame.number)
                    if payload is not None:
                        yield payload

    def remove(self, count: int) -> None:
        """The oldest `count` are in the database. Raises ValueError when there are not so many.

        Never fails otherwise, lest a caller remove twice: a file that cannot be deleted now is deleted later, and
        counts until then.
        """
        if not 0 <= count <= len(self._entries):
            raise ValueError(f"{count} of {len(self._entries)} entries cannot be removed")
        for _ in range(count):
            self._entries.popleft().segment.waiting -= 1
        self._drop_spent()

    def set_aside(self, payload: bytes) -> None:
        """Keep an entry that the database will never take in a `*.refused` file, for a person to look at; it still has
        to be removed. Raises SpoolFailed."""
        name = hashlib.sha256(payload).hexdigest()[:32]  # of the content, so that it is kept once
        try:
            self._keep_aside(self._slot / f"{name}{_REFUSED}", payload)
        except OSError as error:
            raise SpoolFailed(
                f"the spool {self._directory} cannot be written: {error.strerror}: "
                "an entry that the database refuses waits until that can be set aside"
            ) from None

    @property
    def entries(self) -> int:
        """How many wait."""
        return len(self._entries)

    @property
    def bytes(self) -> int:
        """The size of this slot's files, those set aside as well: what the bound counts."""
        return sum(segment.size for segment in self._segments) + sum(self._set_aside().values())

    @property
    def oldest_at(self) -> datetime | None:
        """When the oldest entry was appended."""
        try:
            return _EPOCH + self._entries[0].frame.at * _MICROSECOND
        except IndexError:  # not asked beforehand: another thread may remove the last one in between
            return None

    @property
    def damaged(self) -> int:
        """How many files are set aside in this slot, until somebody moves them away: `*.damaged`, a place that could
        not be read, and `*.refused`."""
        return len(self._set_aside())

    @property
    def writable(self) -> bool:
        """Whether an entry of ordinary size would be taken, by the bound and by the disk.

        Asks the file system; after an append that failed also writes and deletes a file of that size, since nobody
        else would find out that the disk is well again. So ask in a thread.
        """
        if self._lock is None or self.bytes + self._ordinary > self._most:
            return False
        try:
            if self._failing:
                self._try_out()
            disk = os.statvfs(self._slot)
        except OSError:
            return False
        return not disk.f_flag & os.ST_RDONLY and disk.f_bavail * disk.f_frsize >= self._ordinary

    # --- opening ------------------------------------------------------------------------------------------

    def _forget(self) -> None:
        self._entries: deque[_Entry] = deque()
        self._segments: list[_Segment] = []
        self._stream: _Stream | None = None
        self._number = self._index = 0
        self._descriptor: int | None = None
        """Of the last segment, while it takes entries."""
        self._aside: dict[Path, int] = {}
        self._failing = False

    def _take_slot(self) -> None:
        for number in range(SLOTS):
            slot = self._directory / str(number)
            _make(slot)
            self._lock = _locked(slot)
            if self._lock is not None:
                self._slot = slot
                return
        raise BadSpool(
            f"{self._directory}: all {SLOTS} slots are taken by running processes: "
            "give some of them another directory, or run fewer"
        )

    def _adopt(self) -> None:
        """Move what the dead left into this slot. The oldest file of a slot first, and each for good before the next:
        whenever this ends, what was moved and what was not are each a part in order."""
        for number in range(SLOTS):
            slot = self._directory / str(number)
            if slot == self._slot or not slot.is_dir():
                continue
            lock = _locked(slot)
            if lock is None:
                continue
            try:
                for path in sorted(slot.iterdir()):
                    if path.suffix == _DRAFT:
                        path.unlink()
                    elif path.suffix in {_SEGMENT, _DAMAGED, _REFUSED}:
                        _move(path, self._slot / path.name)
            finally:
                os.close(lock)

    def _recover(self) -> None:
        """Read the slot: cut off what was never acknowledged, set aside what is damaged, and list the rest."""
        for draft in self._slot.glob(f"*{_DRAFT}"):
            draft.unlink()
        aside = (path for path in self._slot.iterdir() if path.suffix in {_DAMAGED, _REFUSED})
        self._aside = {path: path.stat().st_size for path in aside}
        paths = sorted(self._slot.glob(f"*{_SEGMENT}"))
        self._segments = [_Segment(path, _stream_of(path), size=path.stat().st_size) for path in paths]
        scans = [frames.scan(s.path.read_bytes(), salt=s.stream.salt) for s in self._segments]
        next_numbers = _next_numbers(self._segments, scans)
        last: dict[_Stream, int] = {}
        for place, (segment, scan) in enumerate(zip(self._segments, scans, strict=True)):
            following = next_numbers[place]
            kept = [f for f in scan.frames if following is None or f.number < following]
            end = kept[-1].end if kept else 0
            if kept:
                last[segment.stream] = kept[-1].number
            lost = [(start, stop) for start, stop in scan.unreadable if start < end]
            heir = self._segments[place + 1] if place + 1 < len(scans) else None
            if heir is not None and heir.stream == segment.stream and not scans[place + 1].frames:
                torn = scan.torn or scan.size == end  # the next file tells what is missing between the two
            else:
                torn = _complete(last.get(segment.stream), following, scan=scan, end=end)
            if not torn:
                lost.append((end, scan.size))
            for start, stop in lost:
                self._put_aside(segment, start, segment.path.read_bytes()[start:stop])
            if scan.size > end:
                _cut(segment.path, size=end)
                segment.size = end
            segment.waiting = len(kept)
            self._entries.extend(_Entry(segment, frame) for frame in kept)
        self._drop_spent()

    # --- writing ------------------------------------------------------------------------------------------

    def _segment_for(self, size: int, *, at: int) -> tuple[_Segment, int]:
        """The segment that takes so many bytes more, open; a new one where there is none, or it would grow too long."""
        if self._descriptor is not None:
            segment = self._segments[-1]
            if segment.size + size <= self._segment_most:
                return segment, self._descriptor
            self._end_segment()
        if self._stream is None:
            # later than all that waits, whatever the clock says: names are the order
            latest = max((segment.stream.began for segment in self._segments), default=-1)
            self._stream = _Stream(max(at, latest + 1, 0), secrets.token_bytes(SALT_BYTES))
        name = f"{self._stream.began:016d}-{self._stream.salt.hex()}-{self._index:010d}.v{VERSION}{_SEGMENT}"
        self._index += 1
        segment = _Segment(self._slot / name, self._stream)
        descriptor = os.open(segment.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        self._segments.append(segment)
        self._descriptor = descriptor
        try:
            _sync(self._slot)
        except BaseException:
            self._retire(segment)
            raise
        return segment, descriptor

    def _write(self, segment: _Segment, descriptor: int, entries: Sequence[_Data], *, at: int) -> None:
        salt, end = segment.stream.salt, segment.size
        added, parts = [], []
        for number, entry in enumerate(entries, start=self._number):
            frame = Frame(number, at, end, len(entry))
            added.append(_Entry(segment, frame))
            parts.append(frames.pack(entry, salt=salt, number=number, at=at))
            end = frame.end
        try:
            _write_all(descriptor, b"".join(parts), offset=segment.size)
            os.fsync(descriptor)
        except BaseException:
            self._retire(segment)
            raise
        segment.size = end
        segment.waiting += len(added)
        self._number += len(added)
        self._entries.extend(added)

    def _retire(self, segment: _Segment) -> None:
        """Cut it back to what it held, and use it no more. The numbers that were tried are given again: should the cut
        not reach the disk, the next file's first number tells where this one ends."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, segment.size)
                os.fsync(self._descriptor)
            with contextlib.suppress(OSError):
                segment.size = os.fstat(self._descriptor).st_size
        self._end_segment()
        if not segment.waiting and segment is self._segments[-1]:
            with contextlib.suppress(OSError):
                segment.path.unlink()
                self._segments.pop()
                _sync(self._slot)

    def _end_segment(self) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
        self._descriptor = None

    def _drop_spent(self) -> None:
        """Delete segments whose entries are all removed: the oldest first, each for good before the next, so that
        numbers are never missing in the middle."""
        while self._segments and not self._segments[0].waiting:
            if len(self._segments) == 1:
                self._end_segment()
            try:
                self._segments[0].path.unlink(missing_ok=True)
                _sync(self._slot)
            except OSError:
                return
            self._segments.pop(0)

    def _try_out(self) -> None:
        path = self._slot / f"trial{_DRAFT}"
        try:
            _create(path, bytes(self._ordinary))
        finally:
            with contextlib.suppress(OSError):
                path.unlink()
        self._failing = False

    # --- reading ------------------------------------------------------------------------------------------

    def _read(self, most: int, *, into: list[_Data]) -> _Data | None:
        """Read on until there are so many. When one is not as it was written, stop, and give the bytes in its place."""
        with contextlib.closing(_Files()) as files:
            for entry in islice(self._entries, len(into), most):
                frame = entry.frame
                data = files.read(entry.segment.path, start=frame.start, size=frame.end - frame.start)
                payload = frames.payload_of(data, salt=entry.segment.stream.salt, number=frame.number)
                if payload is None:
                    return data
                into.append(payload)
        return None

    def _leave_out(self, data: _Data, *, position: int) -> None:
        entry = self._entries[position]
        self._put_aside(entry.segment, entry.frame.start, data)
        del self._entries[position]
        entry.segment.waiting -= 1

    def _put_aside(self, segment: _Segment, start: int, data: _Data) -> None:
        """Keep what cannot be read in a file of its own. The name says where it lay, so that it is kept once."""
        name = segment.path.name.removesuffix(_SEGMENT)
        self._keep_aside(self._slot / f"{name}-{start:010d}{_DAMAGED}", data)

    def _keep_aside(self, path: Path, data: _Data) -> None:
        if not path.exists():
            draft = path.with_suffix(_DRAFT)
            _create(draft, data)
            draft.rename(path)
            _sync(self._slot)
        self._aside = {**self._aside, path: path.stat().st_size}  # another: other threads walk through the old one

    def _set_aside(self) -> dict[Path, int]:
        """Path -> size of what is set aside, without what has been moved away since."""
        return {path: size for path, size in self._aside.items() if os.path.exists(path)}


class _Files:
    """Reads from one file after the other, and keeps the last one open."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._descriptor = -1

    def read(self, path: Path, *, start: int, size: int) -> bytes:
        """That many bytes, fewer where the file ends."""
        if path != self._path:
            self.close()
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            self._path = path
        return b"".join(self._parts(start, size))

    def close(self) -> None:
        if self._path is not None:
            os.close(self._descriptor)
            self._path = None

    def _parts(self, start: int, size: int) -> Iterator[bytes]:
        while size > 0 and (part := os.pread(self._descriptor, size, start)):
            yield part
            start, size = start + len(part), size - len(part)


def _next_numbers(segments: Sequence[_Segment], scans: Sequence[frames.Scan]) -> list[int | None]:
    """For each segment the number that a later one of its stream begins with. Frames from there on were tried in this
    one, failed, and were never acknowledged under that number."""
    found: list[int | None] = []
    begins: dict[_Stream, int] = {}
    for segment, scan in zip(reversed(segments), reversed(scans), strict=True):
        found.append(begins.get(segment.stream))
        if scan.frames:
            begins[segment.stream] = scan.frames[0].number
    return found[::-1]


def _complete(last: int | None, following: int | None, *, scan: frames.Scan, end: int) -> bool:
    """Whether no acknowledged entry can be missing behind `end`, the end of the last frame that is kept.

    Where a later file of the stream exists, numbers tell. In the last one, a frame cut short is an append that never
    ended; anything else that cannot be read was perhaps acknowledged.
    """
    if following is None:
        return scan.torn or scan.size == end
    if last is None:
        return scan.size == end or following == 0
    return last + 1 >= following


def _stream_of(path: Path) -> _Stream:
    match = _NAME.fullmatch(path.name)
    if match is None or int(match["version"]) != VERSION:
        raise BadSpool(
            f"{path}: not a file of the spool as this version writes it: start the version that wrote it until "
            "its entries are in the database, or move the file away"
        )
    return _Stream(int(match["began"]), bytes.fromhex(match["salt"]))


def _locked(slot: Path) -> int | None:
    """An open lock file that is ours until it is closed; None when another process holds it."""
    descriptor = os.open(slot / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _make(directory: Path) -> None:
    """For its owner alone, and durable with all above it that is not there."""
    if not directory.is_dir():
        _make(directory.parent)
        directory.mkdir(mode=0o700, exist_ok=True)
        _sync(directory.parent)


def _move(path: Path, target: Path) -> None:
    """Durably. Raises BadSpool when there is another file of that name."""
    if target.exists():
        if target.read_bytes() != path.read_bytes():
            raise BadSpool(f"{path} and {target} differ, and one must be a copy of the other: move that one away")
        path.unlink()
    else:
        path.rename(target)
    _sync(target.parent)
    _sync(path.parent)


def _create(path: Path, data: bytes) -> None:
    """Write a file that is durable under a name that is not; none at all when that fails."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        _write_all(descriptor, data, offset=0)
        os.fsync(descriptor)
    except BaseException:
        with contextlib.suppress(OSError):
            path.unlink()
        raise
    finally:
        os.close(descriptor)


def _cut(path: Path, *, size: int) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        os.ftruncate(descriptor, size)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes, *, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _sync(directory: Path) -> None:
    """Names that were made, moved or deleted in it are durable then."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
