"""The spool: what it has taken is there after whatever happens, in order; what it could not take is refused."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from app.store import frames, spool
from app.store.errors import BadDatabase, BadSpool, NotRecorded, SpoolFailed, SpoolFull
from app.store.frames import OVERHEAD
from app.store.spool import Spool
from tests.powercut import PowerCut

NOW = datetime(2026, 11, 28, 20, 0, 0, 123456, tzinfo=UTC)
MOST = 1 << 20


@contextmanager
def opened(directory: Path, **options: Any) -> Iterator[Spool]:
    made = Spool(directory, **{"most_bytes": MOST, **options})
    made.open()
    with closing(made):
        yield made


def filled(directory: Path, *groups: list[bytes], **options: Any) -> Path:
    """A spool that was left with one append for each group; the directory of its slot."""
    with opened(directory, **options) as made:
        for group in groups:
            made.append(group, now=NOW)
    return directory / "0"


def left(directory: Path, **options: Any) -> list[bytes]:
    """What a process that opens it now finds."""
    with opened(directory, **options) as made:
        return made.oldest(10_000)


def segments(slot: Path) -> list[Path]:
    return sorted(slot.glob("*.spool"))


def set_aside(slot: Path) -> list[Path]:
    return sorted(slot.glob("*.damaged"))


def numbered(count: int, *, start: int = 0, size: int = 8) -> list[bytes]:
    return [b"%0*d" % (size, number) for number in range(start, start + count)]


@contextmanager
def failing(name: str, error: int, *, after: int = 0) -> Iterator[list[int]]:
    """A call of the system fails from the given one on. Gives the list of calls that failed."""
    calls: list[int] = []
    real: Callable[..., Any] = getattr(os, name)
    left = [after]

    def fails(*arguments: Any, **options: Any) -> Any:
        if left[0]:
            left[0] -= 1
            return real(*arguments, **options)
        calls.append(error)
        raise OSError(error, os.strerror(error))

    with mock.patch.object(os, name, fails):
        yield calls


@pytest.fixture
def hasty() -> Iterator[None]:
    """Without fsync, for tests that open hundreds of spools and lose no power."""
    with mock.patch.object(os, "fsync", return_value=None):
        yield


# --- in and out -------------------------------------------------------------------------------------------


def test_entries_come_back_in_order_and_go_when_they_are_removed(tmp_path: Path) -> None:
    with opened(tmp_path) as made:
        made.append([b"one", b"two"], now=NOW)
        made.append([b"", b"four"], now=NOW + timedelta(seconds=1))
        assert made.entries == 4
        assert made.oldest(3) == [b"one", b"two", b""]
        assert made.oldest(9) == [b"one", b"two", b"", b"four"]
        assert made.oldest_at == NOW
        made.remove(3)
        assert made.oldest(9) == [b"four"]
        assert made.oldest_at == NOW + timedelta(seconds=1)
        made.remove(1)
        assert (made.entries, made.bytes, made.oldest_at, made.oldest(9)) == (0, 0, None, [])
    assert segments(tmp_path / "0") == []


def test_the_bytes_are_those_of_the_files(tmp_path: Path) -> None:
    with opened(tmp_path, segment_bytes=200) as made:
        for group in (numbered(2), numbered(3), numbered(1)):
            made.append(group, now=NOW)
            assert made.bytes == sum(path.stat().st_size for path in segments(tmp_path / "0"))
        assert made.bytes == 6 * (OVERHEAD + 8)
        assert len(segments(tmp_path / "0")) == 2


def test_one_fsync_makes_a_whole_append_durable(tmp_path: Path) -> None:
    with opened(tmp_path) as made, PowerCut(tmp_path) as power:
        made.append([b"first"], now=NOW)
        before = power.syncs
        made.append(numbered(50), now=NOW)
        assert power.syncs == before + 1


def test_nothing_to_append_touches_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as made, failing("open", errno.EIO), failing("fsync", errno.EIO):
        made.append([], now=NOW)
    assert segments(tmp_path / "0") == []


def test_entries_cross_segments_in_order(tmp_path: Path) -> None:
    entries = numbered(100)
    with opened(tmp_path, segment_bytes=300) as made:
        for entry in entries:
            made.append([entry], now=NOW)
        assert len(segments(tmp_path / "0")) > 10
        assert made.oldest(100) == entries
        made.remove(37)
        assert made.oldest(5) == entries[37:42]
    found = left(tmp_path)
    assert found[-63:] == entries[37:]
    assert found == entries[-len(found) :]
    assert len(found) < 63 + 300 // (OVERHEAD + 8)


def test_the_entries_since_a_moment(tmp_path: Path) -> None:
    with opened(tmp_path, segment_bytes=100) as made:
        for number, entry in enumerate(numbered(5)):
            made.append([entry], now=NOW + timedelta(seconds=number))
        made.remove(1)
        path = segments(tmp_path / "0")[-1]
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        assert list(made.since(NOW + timedelta(seconds=2))) == numbered(2, start=2)
        assert list(made.since(NOW)) == numbered(3, start=1)
        assert (made.entries, made.damaged) == (4, 0)


def test_an_append_longer_than_a_segment_is_one_file(tmp_path: Path) -> None:
    slot = filled(tmp_path, numbered(100), segment_bytes=300)
    assert len(segments(slot)) == 1
    assert left(tmp_path) == numbered(100)


def test_only_the_owner_can_read_them(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        slot = filled(tmp_path / "below" / "spool", [b"one"])
    finally:
        os.umask(before)
    for directory in (slot, slot.parent, slot.parent.parent):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in slot.iterdir()} == {0o600}


def test_its_repr_and_its_errors_show_no_entry(tmp_path: Path) -> None:
    with opened(tmp_path, most_bytes=100) as made:
        made.append([b"SECRET"], now=NOW)
        assert "SECRET" not in repr(made)
        assert "entries=1" in repr(made)
        with pytest.raises(SpoolFull) as full:
            made.append([b"SECRET" * 20], now=NOW)
        with failing("pwrite", errno.EIO), pytest.raises(SpoolFailed) as failed:
            made.append([b"SECRET"], now=NOW)
    assert "SECRET" not in f"{full.value!r} {failed.value!r}"


def test_closing_writes_nothing(tmp_path: Path) -> None:
    def state() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (tmp_path / "0").iterdir()}

    made = Spool(tmp_path, most_bytes=MOST)
    made.open()
    made.append(numbered(3), now=NOW)
    made.remove(1)
    before = state()
    with failing("fsync", errno.EIO) as calls:
        made.close()
    assert (state(), calls) == (before, [])
    assert (made.entries, made.writable) == (0, False)


def test_what_is_not_open_takes_nothing(tmp_path: Path) -> None:
    made = Spool(tmp_path, most_bytes=MOST)
    with pytest.raises(SpoolFailed, match="not open"):
        made.append([b"one"], now=NOW)
    made.open()
    with closing(made), pytest.raises(BadSpool, match="open already"):
        made.open()


def test_a_time_without_a_zone_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as made, pytest.raises(TypeError):
        made.append([b"one"], now=NOW.replace(tzinfo=None))


# --- the bound --------------------------------------------------------------------------------------------


def test_a_full_spool_says_so_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    frame = OVERHEAD + 8
    with opened(tmp_path, most_bytes=16 * frame) as made:
        made.append(numbered(16), now=NOW)
        with pytest.raises(SpoolFull) as refused:
            made.append([b"x"], now=NOW)
        for word in (str(tmp_path), str(16 * frame), "database"):
            assert word in str(refused.value)
        assert made.oldest(99) == numbered(16)
        made.remove(16)
        made.append([b"again"], now=NOW)
        assert made.oldest(99) == [b"again"]


def test_all_or_none_fits(tmp_path: Path) -> None:
    with opened(tmp_path, most_bytes=3 * (OVERHEAD + 8)) as made:
        with pytest.raises(SpoolFull):
            made.append(numbered(4), now=NOW)
        assert (made.entries, made.bytes) == (0, 0)
        made.append(numbered(3), now=NOW)


def test_room_comes_back_before_all_of_it_is_empty(tmp_path: Path) -> None:
    frame = OVERHEAD + 8
    with opened(tmp_path, most_bytes=64 * frame) as made:
        for entry in numbered(64):
            made.append([entry], now=NOW)
        made.remove(10)
        made.append([b"x" * 8], now=NOW)
        assert made.bytes <= 64 * frame


def test_a_full_spool_is_not_writable(tmp_path: Path) -> None:
    with opened(tmp_path, most_bytes=1000, ordinary_bytes=400) as made:
        assert made.writable
        made.append([b"x" * 600], now=NOW)
        assert not made.writable
        made.remove(1)
        assert made.writable


@pytest.mark.parametrize("change", [{"f_bavail": 0}, {"f_flag": os.ST_RDONLY}], ids=["no-room", "read-only"])
def test_a_disk_that_takes_nothing_is_not_writable(tmp_path: Path, change: dict[str, int]) -> None:
    disk = os.statvfs(tmp_path)
    fields = {name: getattr(disk, name) for name in ("f_bavail", "f_frsize", "f_flag")}
    with opened(tmp_path) as made:
        with mock.patch.object(os, "statvfs", return_value=SimpleNamespace(**fields | change)):
            assert not made.writable
        assert made.writable


# --- damage and crashes -----------------------------------------------------------------------------------


def test_every_place_at_which_an_append_can_have_ended(tmp_path: Path, hasty: None) -> None:
    entries = [b"first", b"", b"the third"]
    slot = filled(tmp_path / "whole", entries)
    whole = segments(slot)[0].read_bytes()
    ends = [0]
    for entry in entries:
        ends.append(ends[-1] + OVERHEAD + len(entry))
    assert ends[-1] == len(whole)
    for size in range(len(whole) + 1):
        directory = tmp_path / "cut"
        shutil.copytree(tmp_path / "whole", directory)
        os.truncate(segments(directory / "0")[0], size)
        complete = entries[: sum(end <= size for end in ends[1:])]
        with opened(directory) as made:
            assert made.oldest(9) == complete, size
            assert made.damaged == 0, size
            assert made.bytes == max(end for end in ends if end <= size), size
            made.append([b"later"], now=NOW)
        assert left(directory) == [*complete, b"later"], size
        shutil.rmtree(directory)


@pytest.mark.parametrize("bits", [0x01, 0x80, 0xFF])
def test_every_byte_that_can_be_another(tmp_path: Path, hasty: None, bits: int) -> None:
    entries = [b"first", b"2nd", b"the third", b"4"]
    slot = filled(tmp_path / "whole", entries)
    whole = segments(slot)[0].read_bytes()
    owner = [n for n, entry in enumerate(entries) for _ in range(OVERHEAD + len(entry))]
    for place in range(len(whole)):
        directory = tmp_path / "flipped"
        shutil.copytree(tmp_path / "whole", directory)
        flipped = bytearray(whole)
        flipped[place] ^= bits
        segments(directory / "0")[0].write_bytes(flipped)
        hit = owner[place]
        others = [entry for n, entry in enumerate(entries) if n != hit]
        with opened(directory) as made:
            assert made.oldest(9) == others, place
            assert made.damaged == 1, place
        (damaged,) = set_aside(directory / "0")
        start = owner.index(hit)
        assert damaged.read_bytes() == bytes(flipped[start : start + OVERHEAD + len(entries[hit])]), place
        with opened(directory) as made:  # once, however often it is opened
            assert made.oldest(9) == others, place
            assert made.damaged == 1, place
            assert made.bytes == sum(p.stat().st_size for p in (directory / "0").iterdir()), place
            made.remove(3)
            assert made.damaged == 1, place
            damaged.rename(tmp_path / "seen")
            assert (made.damaged, made.bytes) == (0, 0), place
        shutil.rmtree(directory)


def test_a_file_that_was_cut_is_damage_when_a_later_one_proves_it(tmp_path: Path, hasty: None) -> None:
    slot = filled(tmp_path / "whole", numbered(3), numbered(2, start=3), segment_bytes=150)
    assert len(segments(slot)) == 2
    size = segments(slot)[0].stat().st_size
    for cut in range(size):
        directory = tmp_path / "cut"
        shutil.copytree(tmp_path / "whole", directory)
        os.truncate(segments(directory / "0")[0], cut)
        kept = [*numbered(cut // (OVERHEAD + 8)), *numbered(2, start=3)]
        for _ in range(2):
            with opened(directory) as made:
                assert made.oldest(9) == kept, cut
                # with none of its frames left it may as well hold what had been removed
                assert made.damaged == (1 if cut else 0), cut
        shutil.rmtree(directory)


def test_a_file_that_is_missing_in_the_middle_is_damage(tmp_path: Path) -> None:
    slot = filled(tmp_path, *([entry] for entry in numbered(3)), segment_bytes=1)
    segments(slot)[1].unlink()
    for _ in range(2):
        with opened(tmp_path) as made:
            assert made.oldest(9) == [b"00000000", b"00000002"]
            assert made.damaged == 1


def test_a_file_of_which_nothing_can_be_read_is_counted_once(tmp_path: Path) -> None:
    slot = filled(tmp_path, *([entry] for entry in numbered(3)), segment_bytes=1)
    segments(slot)[1].write_bytes(b"nothing of it")
    for _ in range(3):
        with opened(tmp_path) as made:
            assert made.oldest(9) == [b"00000000", b"00000002"]
            assert made.damaged == 1
    assert set_aside(slot)[0].read_bytes() == b"nothing of it"


def test_a_whole_file_of_zeros_is_set_aside(tmp_path: Path) -> None:
    slot = filled(tmp_path, numbered(3))
    segments(slot)[0].write_bytes(bytes(100))
    with opened(tmp_path) as made:
        assert (made.oldest(9), made.damaged, made.bytes) == ([], 1, 100)
    assert segments(slot) == []


def test_an_entry_cannot_pass_for_a_frame(tmp_path: Path) -> None:
    forged = frames.pack(b"forged", salt=b"\0" * frames.SALT_BYTES, number=1, at=0)
    slot = filled(tmp_path, [forged, b"second"])
    data = bytearray(segments(slot)[0].read_bytes())
    data[0] ^= 1
    segments(slot)[0].write_bytes(data)
    assert left(tmp_path) == [b"second"]


def test_a_frame_of_another_stream_is_none_of_this() -> None:
    data = frames.pack(b"entry", salt=b"saltsalt", number=0, at=0)
    assert frames.scan(data, salt=b"saltsalu").frames == ()
    assert frames.payload_of(data, salt=b"saltsalu", number=0) is None


def test_a_block_of_an_earlier_file_cannot_pass_for_a_later_one() -> None:
    salt = b"saltsalt"
    old, new = (frames.pack(b"entry", salt=salt, number=number, at=0) for number in (3, 7))
    found = frames.scan(new + old, salt=salt)
    assert [frame.number for frame in found.frames] == [7]
    assert not found.torn


def test_frames_that_are_missing_without_a_trace_show() -> None:
    salt = b"saltsalt"
    data = b"".join(frames.pack(b"entry", salt=salt, number=number, at=0) for number in (3, 5))
    assert frames.scan(data, salt=salt).unreadable == ((OVERHEAD + 5, OVERHEAD + 5),)


def test_what_is_damaged_while_it_waits_does_not_hold_up_the_rest(tmp_path: Path) -> None:
    with opened(tmp_path) as made:
        made.append(numbered(5), now=NOW)
        path = segments(tmp_path / "0")[0]
        data = bytearray(path.read_bytes())
        for number in (1, 2, 4):
            data[number * (OVERHEAD + 8) + OVERHEAD] ^= 0xFF
        path.write_bytes(data)
        assert made.oldest(2) == [b"00000000", b"00000003"]
        assert (made.entries, made.damaged) == (3, 2)
        assert made.oldest(9) == [b"00000000", b"00000003"]
        assert (made.entries, made.damaged) == (2, 3)
        made.remove(2)
        assert segments(tmp_path / "0") == []
    assert [path.read_bytes()[OVERHEAD + 1 :] for path in set_aside(tmp_path / "0")] == [
        b"0000001",
        b"0000002",
        b"0000004",
    ]


def test_what_cannot_be_set_aside_stays(tmp_path: Path) -> None:
    with opened(tmp_path) as made:
        made.append(numbered(2), now=NOW)
        path = segments(tmp_path / "0")[0]
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        with failing("pwrite", errno.ENOSPC), pytest.raises(SpoolFailed):
            made.oldest(9)
        assert (made.entries, made.damaged) == (2, 0)
        assert made.oldest(9) == [b"00000000"]
        assert (made.entries, made.damaged) == (1, 1)


def test_a_file_that_cannot_be_read_loses_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as made:
        made.append(numbered(2), now=NOW)
        with failing("pread", errno.EIO), pytest.raises(SpoolFailed, match="cannot be read"):
            made.oldest(9)
        assert made.oldest(9) == numbered(2)


CHILD = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from app.store.spool import Spool
spool = Spool(Path(sys.argv[1]), most_bytes=1 << 26, segment_bytes=4000)
spool.open()
print("open", *(entry.decode() for entry in spool.oldest(1 << 20)), flush=True)
number, most = int(sys.argv[2]), int(sys.argv[3])
while number < most:
    entries = [b"%06d" % one + b"x" * (one % 300) for one in range(number, number + number % 4 + 1)]
    spool.append(entries, now=datetime.now(UTC))
    number += len(entries)
    print(number, flush=True)
if len(sys.argv) > 4:
    sys.stdin.readline()
"""


def child(directory: Path, *, start: int, most: int, stay: bool = False) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, str(directory), str(start), str(most), *(["stay"] if stay else [])]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def entry_at(number: int) -> bytes:
    return b"%06d" % number + b"x" * (number % 300)


def test_what_was_acknowledged_outlives_kill_9(tmp_path: Path) -> None:
    acknowledged = 0
    for kill in range(8):
        with child(tmp_path, start=acknowledged, most=100_000) as running:
            assert running.stdout is not None
            assert running.stdout.readline().startswith("open")
            lines = [running.stdout.readline() for _ in range(3 + 17 * kill)]
            running.kill()
            lines += running.stdout.read().splitlines(keepends=True)
        whole = [int(line) for line in lines if line.endswith("\n")]
        found = left(tmp_path, most_bytes=1 << 26)
        assert len(found) >= max(whole)
        assert found == [entry_at(number) for number in range(len(found))]
        acknowledged = len(found)
    assert acknowledged > 400
    with opened(tmp_path, most_bytes=1 << 26) as made:
        assert made.damaged == 0


def test_what_was_acknowledged_outlives_a_power_cut(tmp_path: Path) -> None:
    with PowerCut(tmp_path) as power:
        made = Spool(tmp_path / "below" / "spool", most_bytes=MOST, segment_bytes=200)
        made.open()
        for entry in numbered(10):
            made.append([entry], now=NOW)
        made.remove(4)
        made.close()
        power.cut()
        assert left(tmp_path / "below" / "spool") == numbered(6, start=4)


def test_what_was_moved_outlives_a_power_cut(tmp_path: Path) -> None:
    with opened(tmp_path), opened(tmp_path) as second:
        second.append(numbered(3), now=NOW)
    path = segments(tmp_path / "1")[0]
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with PowerCut(tmp_path) as power:
        assert left(tmp_path) == numbered(2)
        power.cut()
        assert (segments(tmp_path / "1"), len(segments(tmp_path / "0")), len(set_aside(tmp_path / "0"))) == ([], 1, 1)
        assert left(tmp_path) == numbered(2)


def test_a_power_cut_loses_what_was_not_synced(tmp_path: Path) -> None:
    """The disk of these tests does what it says."""
    with PowerCut(tmp_path) as power:
        (tmp_path / "one").write_bytes(b"never synced")
        power.cut()
    assert list(tmp_path.iterdir()) == []


# --- a disk that fails ------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["pwrite", "fsync", "open"])
@pytest.mark.parametrize(("error", "raised"), [(errno.ENOSPC, SpoolFull), (errno.EIO, SpoolFailed)])
@pytest.mark.parametrize("begun", [False, True])
def test_an_append_that_fails_leaves_what_was_there(
    tmp_path: Path, call: str, error: int, raised: type[NotRecorded], begun: bool
) -> None:
    with opened(tmp_path, segment_bytes=250) as made:
        if begun:
            made.append(numbered(2), now=NOW)
        before = (made.entries, made.bytes, made.oldest_at)
        with failing(call, error) as calls, pytest.raises(raised) as refused:
            made.append(numbered(9, start=90), now=NOW)
        assert calls
        assert str(tmp_path) in str(refused.value)
        assert (made.entries, made.bytes, made.oldest_at) == before
        assert made.bytes == sum(path.stat().st_size for path in segments(tmp_path / "0"))
        made.append([b"after it"], now=NOW)
        expected = [*(numbered(2) if begun else []), b"after it"]
        assert made.oldest(99) == expected
    assert left(tmp_path) == expected


def test_half_of_an_append_is_cut_off_again(tmp_path: Path) -> None:
    pwrite = os.pwrite

    def halves(descriptor: int, data: memoryview, offset: int) -> int:
        if len(data) < 50:
            raise OSError(errno.ENOSPC, "no room")
        return pwrite(descriptor, data[: len(data) // 2], offset)

    with opened(tmp_path) as made:
        made.append(numbered(2), now=NOW)
        (path,) = segments(tmp_path / "0")
        size = path.stat().st_size
        with mock.patch.object(os, "pwrite", halves), pytest.raises(SpoolFull):
            made.append(numbered(9, start=90), now=NOW)
        assert path.stat().st_size == size == made.bytes


def test_a_file_whose_fsync_failed_takes_no_more(tmp_path: Path) -> None:
    with opened(tmp_path) as made:
        made.append([b"one"], now=NOW)
        (first,) = segments(tmp_path / "0")
        with failing("fsync", errno.EIO), pytest.raises(SpoolFailed):
            made.append([b"lost"], now=NOW)
        size = first.stat().st_size
        made.append([b"two"], now=NOW)
        assert first.stat().st_size == size
        assert len(segments(tmp_path / "0")) == 2
    assert left(tmp_path) == [b"one", b"two"]


@pytest.mark.parametrize("first", [False, True])
def test_what_failed_and_could_not_be_cut_off_does_not_come_back(tmp_path: Path, first: bool) -> None:
    kept = [] if first else [b"one"]
    with opened(tmp_path) as made:
        if kept:
            made.append(kept, now=NOW)
        with (
            failing("fsync", errno.EIO, after=1 if first else 0),
            failing("ftruncate", errno.EIO),
            failing("unlink", errno.EIO),
            pytest.raises(SpoolFailed),
        ):
            made.append([b"never acknowledged", b"nor this"], now=NOW)
        assert any(b"never acknowledged" in path.read_bytes() for path in segments(tmp_path / "0"))
        assert made.bytes == sum(path.stat().st_size for path in segments(tmp_path / "0"))
        assert made.oldest(9) == kept
        made.append([b"two"], now=NOW)
        assert made.oldest(9) == [*kept, b"two"]
    with opened(tmp_path) as made:
        assert (made.oldest(9), made.damaged) == ([*kept, b"two"], 0)


def test_after_a_failure_it_is_writable_when_the_disk_is(tmp_path: Path) -> None:
    with opened(tmp_path) as made:
        with failing("fsync", errno.EIO):
            with pytest.raises(SpoolFailed):
                made.append([b"one"], now=NOW)
            assert not made.writable
        with failing("pwrite", errno.EDQUOT):
            assert not made.writable
        assert made.writable
        assert [path.name for path in (tmp_path / "0").iterdir()] == ["lock"]
        with failing("pwrite", errno.EIO) as calls:  # tried out once
            assert made.writable
        assert calls == []
        made.append([b"two"], now=NOW)
        assert made.oldest(9) == [b"two"]


def test_what_cannot_be_deleted_is_deleted_later(tmp_path: Path) -> None:
    with opened(tmp_path, segment_bytes=1) as made:
        for entry in numbered(3):
            made.append([entry], now=NOW)
        size = made.bytes
        with failing("unlink", errno.EIO) as calls:
            made.remove(2)
        assert calls
        assert (made.entries, made.bytes) == (1, size)
        assert made.oldest(9) == [b"00000002"]
        made.append([b"00000003"], now=NOW)
        assert len(segments(tmp_path / "0")) == 2
        assert made.oldest(9) == [b"00000002", b"00000003"]


@pytest.mark.parametrize("count", [-1, 3])
def test_no_more_are_removed_than_there_are(tmp_path: Path, count: int) -> None:
    with opened(tmp_path) as made:
        made.append(numbered(2), now=NOW)
        with pytest.raises(ValueError, match="2 entries"):
            made.remove(count)
        assert made.oldest(9) == numbered(2)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """64 KiB."""
    directory = tmp_path / "disk"
    directory.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(directory)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this container may not mount a tmpfs")
    try:
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def test_a_disk_without_room_refuses_and_goes_on_without_a_restart(small_disk: Path) -> None:
    spool_at = small_disk / "spool"
    entry = b"x" * 5000
    with opened(spool_at, most_bytes=1 << 20, ordinary_bytes=8192) as made:
        taken = 0
        with suppress(SpoolFull):
            for _ in range(20):
                made.append([entry], now=NOW)
                taken += 1
        assert 5 < taken < 14
        for _ in range(3):
            with pytest.raises(SpoolFull, match="the disk"):
                made.append([entry], now=NOW)
        assert not made.writable
        assert made.oldest(99) == [entry] * taken
        assert made.bytes == sum(path.stat().st_size for path in segments(spool_at / "0"))
        made.remove(taken)
        assert made.writable
        made.append([b"again"], now=NOW)
        assert made.oldest(9) == [b"again"]
        (small_disk / "others").write_bytes(bytes(56_000))
        assert not made.writable
        with pytest.raises(SpoolFull):
            made.append([entry, entry], now=NOW)
        (small_disk / "others").unlink()
        assert made.writable
        made.append([entry], now=NOW)
    assert left(spool_at) == [b"again", entry]


# --- slots ------------------------------------------------------------------------------------------------


def test_two_processes_have_a_slot_each_and_the_dead_ones_is_taken_over(tmp_path: Path) -> None:
    with child(tmp_path, start=0, most=50, stay=True) as one, child(tmp_path, start=500, most=550, stay=True) as two:
        for running in (one, two):
            assert running.stdout is not None
            line = running.stdout.readline()
            assert line.split() == ["open"]
            while int(line := running.stdout.readline()) % 500 < 50:
                pass
        assert len([slot for slot in tmp_path.iterdir() if segments(slot)]) == 2
        with opened(tmp_path) as third:  # both live: nothing of theirs is touched
            assert (third.entries, third.bytes) == (0, 0)
        for running in (one, two):
            running.kill()
            running.wait()
    with opened(tmp_path) as third:
        found = third.oldest(1000)
        assert third.damaged == 0
    first = [entry for entry in found if entry < b"000500"]
    second = [entry for entry in found if entry >= b"000500"]
    assert first == [entry_at(number) for number in range(len(first))]
    assert second == [entry_at(number) for number in range(500, 500 + len(second))]
    assert (len(first) >= 50, len(second) >= 50) == (True, True)
    assert found in (first + second, second + first)
    assert [slot.name for slot in tmp_path.iterdir() if segments(slot)] == ["0"]


def test_what_the_dead_left_comes_before_what_comes_now_whatever_the_clock_says(tmp_path: Path) -> None:
    filled(tmp_path, [b"one"], [b"two"])
    with opened(tmp_path) as made:
        made.append([b"three"], now=NOW - timedelta(days=400))
        assert made.oldest(9) == [b"one", b"two", b"three"]
    assert left(tmp_path) == [b"one", b"two", b"three"]


def test_the_oldest_stream_is_taken_over_first(tmp_path: Path) -> None:
    with opened(tmp_path) as zero, opened(tmp_path) as one:
        one.append([b"earlier"], now=NOW)
        zero.append([b"later"], now=NOW + timedelta(seconds=1))
    assert left(tmp_path) == [b"earlier", b"later"]


def test_files_set_aside_are_taken_over_too(tmp_path: Path) -> None:
    with opened(tmp_path), opened(tmp_path) as second:
        second.append(numbered(2), now=NOW)
        second.set_aside(b"refused")
        path = segments(tmp_path / "1")[0]
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        assert second.oldest(9) == [b"00000000"]
        assert second.damaged == 2
        (tmp_path / "1" / "left.draft").write_bytes(b"half")
    with opened(tmp_path) as made:
        assert (made.oldest(9), made.damaged) == ([b"00000000"], 2)
    assert [path.name for path in (tmp_path / "1").iterdir()] == ["lock"]


def test_a_copy_of_a_slot_is_not_replayed_twice(tmp_path: Path) -> None:
    slot = filled(tmp_path, numbered(2))
    shutil.copytree(slot, tmp_path / "7")
    assert left(tmp_path) == numbered(2)
    assert segments(tmp_path / "7") == []


def test_a_copy_that_differs_is_for_a_person_to_look_at(tmp_path: Path) -> None:
    slot = filled(tmp_path, numbered(2))
    shutil.copytree(slot, tmp_path / "7")
    os.truncate(segments(tmp_path / "7")[0], 60)
    with pytest.raises(BadSpool, match="move that one away") as refused:
        left(tmp_path)
    assert str(segments(tmp_path / "7")[0]) in str(refused.value)
    shutil.rmtree(tmp_path / "7")
    assert left(tmp_path) == numbered(2)


def test_a_takeover_that_was_interrupted_keeps_the_order(tmp_path: Path) -> None:
    with opened(tmp_path), opened(tmp_path, segment_bytes=1) as second:
        for entry in numbered(4):
            second.append([entry], now=NOW)
    rename = Path.rename
    moved: list[Path] = []

    def fails(path: Path, target: Path) -> Path:
        if len(moved) == 2:
            raise OSError(errno.EIO, "input/output error", str(path))
        moved.append(target)
        return rename(path, target)

    with mock.patch.object(Path, "rename", fails), pytest.raises(BadSpool, match="cannot be opened"):
        left(tmp_path)
    names = [path.name for name in "01" for path in segments(tmp_path / name)]
    assert [len(segments(tmp_path / name)) for name in "01"] == [2, 2]
    assert names == sorted(names)
    with opened(tmp_path) as made:
        assert (made.oldest(9), made.damaged) == (numbered(4), 0)


def test_more_processes_than_slots_are_refused(tmp_path: Path) -> None:
    with mock.patch.object(spool, "SLOTS", 2), opened(tmp_path), opened(tmp_path) as second:
        with pytest.raises(BadSpool, match="all 2 slots"):
            left(tmp_path)
        second.append([b"one"], now=NOW)
    assert left(tmp_path) == [b"one"]


# --- what cannot be opened --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.spool", "1795896000123456-00112233445566aa-0000000000.v2.spool"])
def test_files_of_another_version_are_refused(tmp_path: Path, name: str) -> None:
    slot = filled(tmp_path, [b"one"])
    (slot / name).write_bytes(b"")
    with pytest.raises(BadSpool) as refused:
        left(tmp_path)
    assert str(slot / name) in str(refused.value)
    assert isinstance(refused.value, BadDatabase)
    (slot / name).unlink()
    assert left(tmp_path) == [b"one"]


def test_a_file_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spool").write_bytes(b"")
    with pytest.raises(BadSpool, match="cannot be opened"):
        left(tmp_path / "spool")


def test_what_was_half_made_is_cleared_away(tmp_path: Path) -> None:
    slot = filled(tmp_path, [b"one"])
    (slot / "x.draft").write_bytes(b"half")
    assert left(tmp_path) == [b"one"]
    assert not (slot / "x.draft").exists()


def test_a_failed_opening_lets_the_slot_go(tmp_path: Path) -> None:
    slot = filled(tmp_path, [b"one"])
    made = Spool(tmp_path, most_bytes=MOST)
    broken = OSError(errno.EIO, "input/output error")
    with mock.patch.object(Path, "read_bytes", side_effect=broken), pytest.raises(BadSpool):
        made.open()
    assert left(tmp_path) == [b"one"]
    assert [path for path in tmp_path.iterdir() if segments(path)] == [slot]


# --- what the database refuses ----------------------------------------------------------------------------


def test_what_the_database_refuses_is_kept_once(tmp_path: Path) -> None:
    with opened(tmp_path) as made:
        made.append([b"poison", b"fine"], now=NOW)
        for _ in range(2):
            made.set_aside(b"poison")
        assert made.damaged == 1
        made.remove(1)
        assert made.oldest(9) == [b"fine"]
        with failing("fsync", errno.EIO), pytest.raises(SpoolFailed):
            made.set_aside(b"another")
        assert made.damaged == 1
    (kept,) = (tmp_path / "0").glob("*.refused")
    assert kept.read_bytes() == b"poison"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    with opened(tmp_path) as made:
        assert made.damaged == 1
