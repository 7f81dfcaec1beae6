"""That a SQLite file is used by one process."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from types import TracebackType
from typing import Self

from sqlalchemy.engine import URL

from app.store import address
from app.store.errors import BadDatabase


class Lock:
    """That a SQLite file is used by this process only, as long as it is held; nothing for any other database.

    The system lets go of it when the process ends, however it ends. The file beside the database stays: to remove it
    would let two processes hold two locks of the same name. So `look` is called before one is made, and raises where
    the database will be refused.
    """

    def __init__(self, url: URL, *, look: Callable[[], None] = lambda: None) -> None:
        self._look = look
        path = address.file(url)
        self._database = path
        self._path = None if path is None else path.resolve().with_name(f"{path.resolve().name}.lock")
        self._descriptor: int | None = None

    def take(self) -> Self:
        """Raises BadDatabase, which names the holder, and what `look` raises."""
        if self._path is None or self._descriptor is not None:
            return self
        if not self._path.exists():
            self._look()
        try:
            descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise BadDatabase(f"{self._database}.lock cannot be created or written: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(descriptor, 20).decode("ascii", "replace").strip()
            os.close(descriptor)
            by = f"process {holder}" if holder.isdigit() else "another process"
            raise BadDatabase(
                f"{self._database} is in use by {by}: stop it first; SQLite is for one process, "
                "PostgreSQL for several (docs/operate.md)"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor
        return self

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self.take()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
