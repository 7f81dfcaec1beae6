"""A disk that can lose power: what was not fsynced is gone, or is there, or is there in part.

kill -9 proves no fsync, since the kernel keeps what was written. Here `os.fsync` is watched: the content of a file is
durable as it was when the file was synced last, its name as it was when its directory was. Renaming is not modelled as
one step, so whatever renames has to sync before a cut.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self
from unittest import mock

_Pick = Callable[[list[bytes]], bytes]
_Names = dict[str, int]


class PowerCut:
    """Watches what lies under `root` while it is entered; `cut` leaves there what a power cut would."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.syncs = 0
        self._fsync = os.fsync
        self._watching = mock.patch.object(os, "fsync", self.fsync)
        self._names: dict[Path, _Names] = {}
        self._directories: set[Path] = set()
        self._contents: dict[int, bytes] = {}
        self._held: dict[int, int] = {}
        """Open descriptors: an inode in use is not given to another file."""

    def __enter__(self) -> Self:
        self._all_is_durable()
        self._watching.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watching.stop()
        self._release()

    def fsync(self, descriptor: int) -> None:
        """In place of os.fsync; a test that makes one fail calls this as well, or does not."""
        self.syncs += 1
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path.is_dir():
            self._note_names(path)
        elif path.exists():
            self._note_content(path)

    def cut(self, *, pick: _Pick = lambda kept: kept[0], lost: Callable[[], bool] = lambda: True) -> None:
        """Nothing may be open. `lost` says for each change of a name whether it is; `pick` chooses the content of a
        file that has changed since its sync, the durable one being the first."""
        for directory in sorted(path for path in self.root.rglob("*") if path.is_dir()):
            if directory not in self._directories and directory.exists() and lost():
                shutil.rmtree(directory)
        after: dict[Path, bytes] = {}
        for directory in [self.root, *(path for path in self.root.rglob("*") if path.is_dir())]:
            durable = self._names.get(directory, {})
            present = {path.name: path.stat().st_ino for path in directory.iterdir() if path.is_file()}
            for name in sorted(durable | present):
                inode = present.get(name)
                if inode != durable.get(name) and lost():
                    inode = durable.get(name)
                if inode is not None:
                    now = (directory / name).read_bytes() if present.get(name) == inode else None
                    after[directory / name] = pick(_outcomes(self._contents.get(inode, b""), now))
        for path in list(self.root.rglob("*")):
            if path.is_file():
                path.unlink()
        for path, content in after.items():
            path.write_bytes(content)
        self._all_is_durable()

    def _all_is_durable(self) -> None:
        self._release()
        for path in [self.root, *self.root.rglob("*")]:
            if path.is_dir():
                self._note_names(path)
            else:
                self._note_content(path)

    def _note_names(self, directory: Path) -> None:
        files = [path for path in directory.iterdir() if path.is_file()]
        for path in files:
            self._hold(path)
        self._directories |= {path for path in directory.iterdir() if path.is_dir()}
        self._names[directory] = {path.name: path.stat().st_ino for path in files}

    def _note_content(self, path: Path) -> None:
        self._hold(path)
        self._contents[path.stat().st_ino] = path.read_bytes()

    def _hold(self, path: Path) -> None:
        inode = path.stat().st_ino
        if inode not in self._held:
            self._held[inode] = os.open(path, os.O_RDONLY)

    def _release(self) -> None:
        for descriptor in self._held.values():
            os.close(descriptor)
        self._held, self._names, self._contents, self._directories = {}, {}, {}, set()


def _outcomes(durable: bytes, now: bytes | None) -> list[bytes]:
    """What may be in a file: as it was synced, as it was written, half of what came to it, or its length only."""
    if now is None or now == durable:
        return [durable]
    if not now.startswith(durable):
        return [durable, now]
    more = len(now) - len(durable)
    return [durable, now, now[: len(durable) + more // 2], now[: len(durable) + 1], durable + bytes(more)]
