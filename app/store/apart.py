"""A thread with an event loop of its own, and one that makes the transactions of a database without a server.

A transaction is a dozen statements. On the loop of the service each of them would wait behind every evaluation that is
ready, and a busy service would take its healthy database for a dead one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Dialect, Engine

T = TypeVar("T")

_JOIN_SECONDS: Final = 2.0
"""For the transaction that is under way when everything ends."""


class Apart:
    """Runs coroutines on a loop of its own between `start()` and `stop()`; before and after, where they are awaited."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin the thread; it does not keep the process alive."""
        loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=_run, args=(loop,), name="record", daemon=True)
        self._thread.start()
        self._loop = loop

    async def call(self, made: Coroutine[Any, Any, T]) -> T:
        """What the coroutine gives. It goes on when the caller goes away."""
        if self._loop is None:
            return await made
        future = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(made, self._loop))
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(future)

    async def stop(self) -> None:
        """End the thread; what is under way there is given up."""
        loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        await asyncio.to_thread(thread.join)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        for task in asyncio.all_tasks(loop):
            task.cancel()
            loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


Work = Callable[["BlockingConnection"], Coroutine[Any, Any, T]]


class Blocking:
    """An engine whose transactions are made one at a time in a thread of their own, so that whoever has waited long
    enough for a disk that stands still goes on without it.

    What was given up ends at its next statement and is taken back, unless it stood in its commit already. Until then
    the next one is refused at once: the one connection is still at work.
    """

    def __init__(self, engine: Engine) -> None:
        self.sync_engine = engine
        self._given: SimpleQueue[_Given | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._last: _Given | None = None

    @property
    def dialect(self) -> Dialect:
        return self.sync_engine.dialect

    async def run(self, work: Work[T]) -> T:
        """What the work gives, committed. It may await nothing but its connection. Raises TimeoutError while an earlier
        one that was given up is still at it."""
        if self._last is not None and not self._last.ended.done():
            raise TimeoutError("an earlier transaction has not ended")
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="record-writes", daemon=True)
            self._thread.start()
        self._last = given = _Given(work)
        self._given.put(given)
        try:
            made: T = await asyncio.wrap_future(given.ended)
        except asyncio.CancelledError:
            given.up = True
            raise
        return made

    async def dispose(self) -> None:
        """End the thread, and close the connection; one that stands still is left behind for a process that ends."""
        thread, self._thread = self._thread, None
        if thread is None:
            self.sync_engine.dispose()
            return
        self._given.put(None)
        await asyncio.to_thread(thread.join, _JOIN_SECONDS)

    def _run(self) -> None:
        while (given := self._given.get()) is not None:
            if given.ended.set_running_or_notify_cancel():
                try:
                    given.ended.set_result(self._made(given))
                except BaseException as error:  # noqa: BLE001  (it is raised where it is waited for)
                    given.ended.set_exception(error)
            del given  # its work holds what it writes
        self.sync_engine.dispose()

    def _made(self, given: _Given) -> Any:
        with self.sync_engine.begin() as connection:
            made = _driven(given.work(BlockingConnection(connection, given)))
            given.go_on()
        return made


class _Given:
    """A transaction on its way through the thread; `up`: nobody waits for it any more."""

    def __init__(self, work: Work[Any]) -> None:
        self.work = work
        self.ended: Future[Any] = Future()
        self.up = False

    def go_on(self) -> None:
        if self.up:
            raise TimeoutError("given up")


def _driven(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine gives that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as ended:
        made: T = ended.value
        return made
    work.close()
    raise TypeError("a transaction of this thread waits for nothing but its connection")


class BlockingConnection:
    """What of `AsyncConnection` a transaction of the record uses."""

    def __init__(self, connection: Connection, given: _Given) -> None:
        self._connection = connection
        self._given = given

    @property
    def dialect(self) -> Dialect:
        return self._connection.dialect

    async def execute(self, statement: Any, parameters: Any = None) -> Any:
        self._given.go_on()
        return self._connection.execute(statement, parameters)

    async def scalar(self, statement: Any, parameters: Any = None) -> Any:
        self._given.go_on()
        return self._connection.scalar(statement, parameters)

    async def scalars(self, statement: Any, parameters: Any = None) -> Any:
        self._given.go_on()
        return self._connection.scalars(statement, parameters)

    async def exec_driver_sql(self, statement: str, parameters: Any = None) -> Any:
        self._given.go_on()
        return self._connection.exec_driver_sql(statement, parameters)
