"""A PostgreSQL server of the tests' own: in a temporary directory, on 127.0.0.1, gone with the process that made it.

    with Server() as server:
        url = server.create_database()

What decides over durability (`fsync`, `synchronous_commit`, `full_page_writes`) is as in operation. Everybody who comes
from this machine is let in without a password, only the role `guarded` needs one (`PASSWORD`). Databases belong to the
role `rescue`, which may do what a service's role may and no more.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Coroutine, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeVar

T = TypeVar("T")

HOST: Final = "127.0.0.1"
ROLE: Final = "rescue"
GUARDED: Final = "guarded"
PASSWORD: Final = "kept-out-of-messages"
OLDEST: Final = 13
REMEDY: Final = "install the distribution's package postgresql (version 13 or newer)"

Mode = Literal["smart", "fast", "immediate", "kill"]

_SIGNALS: Final[Mapping[Mode, signal.Signals]] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
    "kill": signal.SIGKILL,
}
_SETTINGS: Final[Mapping[str, str]] = {
    "shared_buffers": "16MB",
    "max_connections": "80",
    "max_wal_size": "128MB",
    "autovacuum_naptime": "10s",
    "log_min_messages": "warning",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
}
_LONGEST_SOCKET: Final = 80
"""Bytes of a directory for the socket in it; the system's limit for the whole path is 107."""


class Unavailable(Exception):
    """PostgreSQL is not to be had on this machine; the text says why, and the remedy."""


class ServerError(RuntimeError):
    """The server did what it should not, or not what it should; the text holds the end of its log."""


class Server:
    """One cluster. Made and started by `start` (or `with`), stopped and started again at will, removed by `close`.

    Port and data stay the same from start to start. Not for several threads at once.
    """

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        """Raises Unavailable. `settings` are of postgresql.conf, beside or in place of the ones above."""
        self._bin = binaries()
        self._user = _account()
        self._settings = {**_SETTINGS, **(settings or {})}
        self._directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        self._names = 0
        self.port = 0

    # --- life ---------------------------------------------------------------------------------------------------

    def start(self, *, seconds: float = 60.0) -> Self:
        """Started and taking connections; the first time the cluster is made. Nothing where it runs already."""
        if self._directory is None:
            self._make()
        if self.is_running:
            return self
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._bin / "postgres"), "-D", str(self.data)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                **self._as_owner(),
            )
        end = time.monotonic() + seconds
        while not self._is_ready():
            if self._process.poll() is not None:
                raise ServerError(f"PostgreSQL did not start: {self._said()}")
            if time.monotonic() > end:
                raise ServerError(f"PostgreSQL was not ready after {seconds:g} s: {self._said()}")
            time.sleep(0.01)
        return self

    def stop(self, mode: Mode = "fast", *, seconds: float = 60.0) -> None:
        """Stopped, its processes gone. `immediate` leaves recovery to the next start, `kill` is kill -9 of all of them.

        `smart` waits for the clients to go.
        """
        if self._process is None:
            return
        family = self.processes()
        if mode == "kill":
            _signal(family, signal.SIGKILL)  # the first is the postmaster: it starts nobody anew
        else:
            self._process.send_signal(_SIGNALS[mode])
            _signal(family, signal.SIGCONT)
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise ServerError(f"PostgreSQL did not stop ({mode}) within {seconds:g} s: {self._said()}") from None
        self._process = None
        end = time.monotonic() + seconds
        while any(_lives(pid) for pid in family):
            if time.monotonic() > end:
                raise ServerError(f"processes of PostgreSQL outlived it by {seconds:g} s")
            time.sleep(0.005)

    def restart(self, mode: Mode = "fast") -> None:
        self.stop(mode)
        self.start()

    def pause(self) -> None:
        """All its processes stand still: connections are taken by the system, and nobody answers."""
        seen: set[int] = set()
        while fresh := [pid for pid in self.processes() if pid not in seen]:  # one may be born while we look
            _signal(fresh, signal.SIGSTOP)
            seen.update(fresh)

    def resume(self) -> None:
        _signal(reversed(self.processes()), signal.SIGCONT)

    def close(self) -> None:
        """Stopped at once, and everything removed."""
        atexit.unregister(self.close)
        if os.getpid() != self._owner:
            return
        try:
            self.stop("immediate")
        finally:
            if self._watch is not None:
                self._watch.communicate()  # its input ends: it removes what is left
                self._watch = None
            self._directory = None

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- what it is ---------------------------------------------------------------------------------------------

    @property
    def directory(self) -> Path:
        """Of the cluster, the socket and the log."""
        if self._directory is None:
            raise ServerError("the server was not started, or is closed")
        return self._directory

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> str:
        """What the server has said so far."""
        return (self.directory / "log").read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Of the postmaster."""
        if self._process is None:
            raise ServerError("the server is stopped")
        return self._process.pid

    def processes(self) -> list[int]:
        """The postmaster, then its children."""
        return [] if self._process is None else _family(self._process.pid)

    def program(self, name: str) -> Path | None:
        """`pg_dump`, `pg_amcheck` and the like, where they are installed."""
        path = self._bin / name
        return path if path.exists() else None

    def url(self, database: str, *, role: str = ROLE) -> str:
        word = f":{PASSWORD}" if role == GUARDED else ""
        return f"postgresql+asyncpg://{role}{word}@{HOST}:{self.port}/{database}"

    def socket_url(self, database: str) -> str:
        """By the socket in the directory."""
        return f"postgresql+asyncpg://{ROLE}@/{database}?host={self.directory}&port={self.port}"

    def put(self, name: str, content: bytes) -> Path:
        """A file beside the data that only the server may read, as it wants its key to be."""
        path = self.data / name
        path.write_bytes(content)
        path.chmod(0o600)
        if self._user is not None:
            os.chown(path, self._user.pw_uid, self._user.pw_gid)
        return path

    # --- databases ----------------------------------------------------------------------------------------------

    def create_database(self, name: str | None = None, *, template: str = "", options: str = "") -> str:
        """The URL of a new database, empty or a copy of the template (to which nobody is connected then)."""
        if name is None:
            self._names += 1
            name = f"test_{self._names}"
        copied = f' TEMPLATE "{template}"' if template else ""
        self.execute(f'CREATE DATABASE "{name}" OWNER {ROLE}{copied} {options}')
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Removed, whoever is connected to it."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def execute(self, statement: str, *, database: str = "postgres", role: str = "postgres") -> list[tuple[Any, ...]]:
        """The rows of one statement, by default as the superuser. Blocks; may be called inside an event loop too."""
        return [tuple(row) for row in self._fetch(statement, database=database, role=role)]

    def records(self, query: str, *, database: str = "postgres", role: str = "postgres") -> list[dict[str, Any]]:
        """The same, by the names of the columns."""
        return [dict(row) for row in self._fetch(query, database=database, role=role)]

    def _fetch(self, statement: str, *, database: str, role: str) -> list[Any]:
        return aside(_fetched(statement, host=HOST, port=self.port, user=role, database=database))

    # --- inside -------------------------------------------------------------------------------------------------

    def _make(self) -> None:
        directory = Path(tempfile.mkdtemp(prefix="rescue-cds-pg-"))
        self._directory = directory
        atexit.register(self.close)
        # Ends the server and removes the directory when this process has gone, however it went.
        self._watch = subprocess.Popen(
            [sys.executable, "-I", __file__, str(directory)], stdin=subprocess.PIPE, start_new_session=True
        )
        if self._user is not None:
            os.chown(directory, self._user.pw_uid, self._user.pw_gid)
        command = [str(self._bin / "initdb"), "-D", str(self.data), "-U", "postgres", "-A", "trust"]
        command += ["-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"]
        done = subprocess.run(command, capture_output=True, text=True, **self._as_owner())
        if done.returncode:
            raise ServerError(f"initdb failed: {' '.join(done.stderr.split())[-500:]}")
        self.port = _free_port()
        settings = {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": str(directory) if len(str(directory)) <= _LONGEST_SOCKET else "",
            **self._settings,
        }
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        (self.data / "pg_hba.conf").write_text(
            f"local all all trust\nhost all {GUARDED} {HOST}/32 scram-sha-256\nhost all all {HOST}/32 trust\n"
        )
        self.start()
        self.execute(f"CREATE ROLE {ROLE} LOGIN")
        self.execute(f"CREATE ROLE {GUARDED} LOGIN PASSWORD '{PASSWORD}' IN ROLE {ROLE}")

    def _said(self) -> str:
        return " | ".join(self.log.splitlines()[-6:])

    def _is_ready(self) -> bool:
        """The eighth line of postmaster.pid tells it (PostgreSQL 10 and newer); a killed server's has another pid."""
        try:
            lines = (self.data / "postmaster.pid").read_text().split("\n")
        except OSError:
            return False
        return lines[0] == str(self.pid) and len(lines) > 7 and lines[7].strip() == "ready"

    def _as_owner(self) -> dict[str, Any]:
        """Whom its programs run as, and where: they refuse to be root, and a directory that they cannot read."""
        found: dict[str, Any] = {
            "cwd": self.directory,
            "env": {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"},
            "start_new_session": True,
        }
        if self._user is not None:
            found |= {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": ()}
        return found


def binaries() -> Path:
    """The directory with the newest server. Raises Unavailable."""
    found = shutil.which("postgres")
    near = [Path(found).resolve().parent] if found else []
    installed = sorted(
        Path("/usr/lib/postgresql").glob("[0-9]*/bin"), key=lambda path: _number(path.parent.name), reverse=True
    )
    for folder in (*installed, *near):
        if all((folder / name).exists() for name in ("postgres", "initdb")):
            if 0 < _number(folder.parent.name) < OLDEST:
                continue
            return folder
    raise Unavailable(f"PostgreSQL is not installed: {REMEDY}")


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0


def _account() -> pwd.struct_passwd | None:
    """Whom the server runs as in place of root; None when we are not root."""
    if os.getuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        raise Unavailable(f"PostgreSQL refuses to run as root, and there is no user postgres: {REMEDY}") from None


def _free_port() -> int:
    """Below the range from which the system takes the ports of clients, so that none takes it while we are stopped."""
    first = 15000 + os.getpid() % 8000
    for port in range(first, 32000):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise ServerError("no port is free")


def aside(work: Coroutine[Any, Any, T]) -> T:
    """What comes of it, on an event loop of its own: also where one is running."""
    done: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(asyncio.run(work))
        except BaseException as error:  # noqa: BLE001 # raised below, in the caller's thread
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]


async def _fetched(statement: str, **place: Any) -> list[Any]:
    import asyncpg  # type: ignore[import-untyped]  # not for the process that only watches

    connection = await asyncpg.connect(**place, timeout=30)
    try:
        found: list[Any] = await connection.fetch(statement)
        return found
    finally:
        await connection.close()


# --- processes ---------------------------------------------------------------------------------------------------


def _family(pid: int) -> list[int]:
    """That process and its children, which are in sessions of their own."""
    children = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_bytes().rpartition(b")")[2].split()[1])
        except (OSError, IndexError, ValueError):  # it has just gone
            continue
        if parent == pid:
            children.append(int(path.parent.name))
    return [pid, *sorted(children)] if _lives(pid) else sorted(children)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except (OSError, IndexError):
        return False


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _watch(directory: Path) -> None:
    """Wait until our maker has gone or let us go; then nothing is left of the server."""
    sys.stdin.buffer.read()
    data = directory / "data"
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n")[0])
        ours = os.fsencode(data) in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        ours = False
    if ours:
        family = _family(pid)
        _signal([pid], signal.SIGQUIT)
        _signal(family, signal.SIGCONT)
        end = time.monotonic() + 10
        while any(_lives(one) for one in family) and time.monotonic() < end:
            time.sleep(0.02)
        _signal([one for one in family if _lives(one)], signal.SIGKILL)
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    _watch(Path(sys.argv[1]))
