"""A thread with an event loop of its own, and a database connection that works in the thread that asks.

A transaction is a dozen statements. On the loop of the service each of them would wait behind every evaluation that is
ready, and a busy service would take its healthy database for a dead one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, Dialect, Engine

T = TypeVar("T")


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


class Blocking:
    """An engine for a thread that has nothing else to do: every statement is made at once, in that thread."""

    def __init__(self, engine: Engine) -> None:
        self.sync_engine = engine

    @property
    def dialect(self) -> Dialect:
        return self.sync_engine.dialect

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[BlockingConnection]:
        """A transaction, as `AsyncEngine.begin`."""
        with self.sync_engine.begin() as connection:
            yield BlockingConnection(connection)

    async def dispose(self) -> None:
        self.sync_engine.dispose()


class BlockingConnection:
    """What of `AsyncConnection` a transaction of the record uses."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def dialect(self) -> Dialect:
        return self._connection.dialect

    async def execute(self, statement: Any, parameters: Any = None) -> Any:
        return self._connection.execute(statement, parameters)

    async def scalar(self, statement: Any, parameters: Any = None) -> Any:
        return self._connection.scalar(statement, parameters)

    async def scalars(self, statement: Any, parameters: Any = None) -> Any:
        return self._connection.scalars(statement, parameters)

    async def exec_driver_sql(self, statement: str, parameters: Any = None) -> Any:
        return self._connection.exec_driver_sql(statement, parameters)
