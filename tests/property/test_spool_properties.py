"""Whatever happens to two processes that spool side by side: what was acknowledged and not removed is there, in order.

They append, read and remove, their disk refuses calls, they die, the power fails, and others take over what they left;
all against a list.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from app.store.errors import NotRecorded
from app.store.spool import Spool
from tests.powercut import PowerCut
from tests.property.size import examples

MOST = 6000
NOW = datetime(2026, 11, 28, 20, tzinfo=UTC)
WHO = st.sampled_from([0, 1])


class Process:
    """A spool, and what it has to hold: entries that are not removed, oldest first. An entry is (process, number) and
    some bytes; numbers grow."""

    def __init__(self, directory: Path, *, name: int) -> None:
        self.name = name
        self.next = 0
        self.waiting: list[bytes] = []
        self.failed: list[bytes] = []
        """Appends that were refused, after the last one that was not."""
        self.spool = Spool(directory, most_bytes=MOST, segment_bytes=500, ordinary_bytes=300)

    def entries(self, sizes: list[int]) -> list[bytes]:
        made = [b"%05d:%05d:" % (self.name, self.next + n) + b"x" * size for n, size in enumerate(sizes)]
        self.next += len(made)
        return made


class Spools(RuleBasedStateMachine):
    """Two processes at most, in one directory."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="spool-"))
        self.power = PowerCut(self.directory)
        self.power.__enter__()
        self.running: dict[int, Process] = {}
        self.dead: list[Process] = []
        self.removed: set[bytes] = set()
        self.started = 0
        self.now = NOW
        self.zeros = False

    @initialize()
    def first(self) -> None:
        self.start(0)

    def teardown(self) -> None:
        for process in self.running.values():
            process.spool.close()
        self.power.__exit__(None, None, None)
        shutil.rmtree(self.directory)

    # --- what happens -------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.running) < 2)
    @rule(who=WHO)
    def start(self, who: int) -> None:
        """It takes over whatever the dead left."""
        if who in self.running:
            return
        process = Process(self.directory, name=self.started)
        self.started += 1
        process.spool.open()
        found = process.spool.oldest(10_000)
        expected = [entry for one in self.dead for entry in one.waiting]
        ghosts = {entry for one in self.dead for entry in one.failed}
        assert len(found) == len(set(found))
        assert set(found) <= set(expected) | self.removed | ghosts
        assert set(expected) <= set(found)
        for name in {entry[:5] for entry in found}:
            of_one = [entry for entry in found if entry[:5] == name]
            assert of_one == sorted(of_one)
        if not self.zeros:
            assert process.spool.damaged == 0
        process.waiting = found
        self.removed -= set(found)
        self.dead = []
        self.running[who] = process

    @precondition(lambda self: self.running)
    @rule(who=WHO, sizes=st.lists(st.integers(0, 400), max_size=5), later=st.integers(-5, 5))
    def append(self, who: int, sizes: list[int], later: int) -> None:
        if (process := self.running.get(who)) is None:
            return
        self.now += timedelta(seconds=later)
        entries, before = process.entries(sizes), process.spool.bytes
        try:
            process.spool.append(entries, now=self.now)
        except NotRecorded:
            assert before + sum(map(len, entries)) + 100 * len(entries) > MOST
        else:
            self.taken(process, entries)

    @precondition(lambda self: self.running)
    @rule(
        who=WHO,
        sizes=st.lists(st.integers(0, 400), min_size=1, max_size=5),
        calls=st.sets(st.sampled_from(["fsync", "pwrite", "ftruncate", "unlink", "open"]), min_size=1),
        error=st.sampled_from([errno.ENOSPC, errno.EIO, errno.EROFS]),
        after=st.integers(0, 3),
        reached=st.booleans(),
    )
    def append_to_a_failing_disk(
        self, who: int, sizes: list[int], calls: set[str], error: int, after: int, reached: bool
    ) -> None:
        """`reached`: an fsync that fails may have brought everything to the disk all the same."""
        if (process := self.running.get(who)) is None:
            return
        entries = process.entries(sizes)
        try:
            with failing(calls, error=error, after=after, first=self.power.fsync if reached else None):
                process.spool.append(entries, now=self.now)
        except NotRecorded:
            process.failed += entries
        else:
            self.taken(process, entries)

    def taken(self, process: Process, entries: list[bytes]) -> None:
        if entries:
            process.waiting += entries
            process.failed = []
            assert process.spool.bytes <= MOST

    @precondition(lambda self: self.running)
    @rule(who=WHO, most=st.integers(0, 12))
    def read(self, who: int, most: int) -> None:
        if (process := self.running.get(who)) is not None:
            assert process.spool.oldest(most) == process.waiting[:most]

    @precondition(lambda self: self.running)
    @rule(who=WHO, part=st.floats(0, 1), fails=st.sampled_from([None, "unlink", "fsync"]))
    def remove(self, who: int, part: float, fails: str | None) -> None:
        if (process := self.running.get(who)) is None:
            return
        count = round(part * len(process.waiting))
        with failing({fails} if fails else set(), error=errno.EIO):
            process.spool.remove(count)
        self.removed |= set(process.waiting[:count])
        del process.waiting[:count]

    @precondition(lambda self: self.running)
    @rule(who=WHO)
    def die(self, who: int) -> None:
        if (process := self.running.pop(who, None)) is not None:
            process.spool.close()
            self.dead.append(process)

    @precondition(lambda self: self.running or self.dead)
    @rule(data=st.data())
    def power_fails(self, data: st.DataObject) -> None:
        for who in list(self.running):
            self.die(who)

        def pick(outcomes: list[bytes]) -> bytes:
            chosen = data.draw(st.integers(0, len(outcomes) - 1), label="content")
            self.zeros |= chosen == 4
            return outcomes[chosen]

        self.power.cut(pick=pick, lost=lambda: data.draw(st.booleans(), label="lost"))

    # --- what always holds --------------------------------------------------------------------------------

    @invariant()
    def counts_are_right(self) -> None:
        for process in self.running.values():
            assert process.spool.entries == len(process.waiting)
            assert (process.spool.oldest_at is None) == (not process.waiting)
        if not self.dead:  # a file whose deletion is not certain yet counts although it is not to be seen
            sizes = sum(path.stat().st_size for path in self.directory.rglob("*") if path.is_file())
            assert sum(process.spool.bytes for process in self.running.values()) >= sizes


@contextmanager
def failing(
    names: set[str], *, error: int, after: int = 0, first: Callable[[int], None] | None = None
) -> Iterator[None]:
    """These calls fail from the given one on; a failing fsync calls `first` beforehand."""
    left = dict.fromkeys(names, after)

    def broken(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            if left[name] > 0:
                left[name] -= 1
                return real(*arguments, **options)
            if name == "fsync" and first is not None:
                first(arguments[0])
            raise OSError(error, os.strerror(error))

        return call

    patches = [mock.patch.object(os, name, broken(name)) for name in sorted(names)]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()


Spools.TestCase.settings = settings(
    max_examples=examples(400),
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestSpools = Spools.TestCase
