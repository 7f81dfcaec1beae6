"""Several processes behind one address, of an application that says which of them has answered."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app import workers

ROOT = Path(__file__).resolve().parents[3]
PATIENCE = 30.0
"""Seconds after which a test gives up."""

WORKER = """
import os, sys
from pathlib import Path
from app import edge, workers

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        Path(folder, f"closed-{worker.number}").touch()
        await send({"type": "lifespan.shutdown.complete"})
        return
    answer = f"{worker.number} {os.getpid()}".encode()
    headers = [(b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})

folder, worker = sys.argv[1], workers.inherited(sys.argv[2])
if Path(folder, f"broken-{worker.number}").exists():
    sys.exit(7)
sys.exit(
    edge.run(
        edge.server(application, host="", port=0, listening=worker.listening),
        ending=edge.Ending(float(Path(folder, "drain").read_text()), 5),
        started=worker.started,
        alone=worker.alone,
    )
)
"""
PARENT = """
import sys
from app import workers
from app.observe import logs

logs.configure()
folder, number = sys.argv[1:]
listening = workers.bind("127.0.0.1", port=0)
print(listening[0].getsockname()[1], flush=True)
command = [sys.executable, f"{folder}/worker.py", folder]
sys.exit(workers.run(command, number=int(number), listening=listening, stop_seconds=20, pauses=[0.1]))
"""


@dataclass(frozen=True, slots=True)
class Running:
    """A parent, and where its processes answer."""

    parent: subprocess.Popen[str]
    port: int
    folder: Path

    def ask(self) -> tuple[int, int]:
        """Number and pid of the process that has answered."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as peer:
            peer.settimeout(PATIENCE)
            peer.sendall(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            received = b""
            while more := peer.recv(4096):
                received += more
        number, pid = received.partition(b"\r\n\r\n")[2].split()
        return int(number), int(pid)

    def all(self, count: int = 2) -> dict[int, int]:
        """Pids by number, when so many have answered."""
        found: dict[int, int] = {}

        def answered() -> bool:
            with suppress(ConnectionRefusedError):
                found.update([self.ask()])
            return len(found) == count

        until(answered)
        return found

    def ended(self) -> tuple[int, list[dict[str, Any]]]:
        """Exit status and the lines of its log."""
        _, said = self.parent.communicate(timeout=PATIENCE)
        return self.parent.returncode, [json.loads(line) for line in said.splitlines()]


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    """No such process, or one that only waits for its parent to take notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@contextmanager
def running(folder: Path, *, number: int = 2, drain: float = 0, broken: int | None = None) -> Iterator[Running]:
    (folder / "worker.py").write_text(WORKER)
    (folder / "drain").write_text(str(drain))
    if broken is not None:
        (folder / f"broken-{broken}").touch()
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(folder), str(number)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    try:
        yield Running(parent, int(parent.stdout.readline()), folder)
    finally:
        parent.kill()  # its processes end by themselves then
        parent.communicate()


def events(lines: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [line for line in lines if line.get("event") == name]


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_they_share_the_port_and_end_together(tmp_path: Path, sent: signal.Signals) -> None:
    with running(tmp_path) as here:
        pids = here.all()
        assert len({here.parent.pid, *pids.values()}) == 3
        # An interrupt from the terminal goes to a whole session: each would have it twice.
        assert len({os.getsid(pid) for pid in (here.parent.pid, *pids.values())}) == 3
        here.parent.send_signal(sent)
        status, lines = here.ended()
    assert (status, len(events(lines, "worker started"))) == (0, 2)
    assert {path.name for path in tmp_path.glob("closed-*")} == {"closed-0", "closed-1"}
    assert all(map(is_gone, pids.values()))
    with pytest.raises(ConnectionRefusedError):
        here.ask()


def test_a_second_signal_is_handed_on_too(tmp_path: Path) -> None:
    with running(tmp_path, drain=600) as here:
        here.all()
        here.parent.send_signal(signal.SIGTERM)
        until(lambda: not _is_kept_alive(here.port))
        assert here.ask()[0] in {0, 1}
        here.parent.send_signal(signal.SIGTERM)
        assert here.ended()[0] == 0


def _is_kept_alive(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as peer:
        peer.settimeout(PATIENCE)
        peer.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        return b"connection: close" not in peer.recv(4096)


def test_one_that_dies_is_replaced_and_the_others_answer_meanwhile(tmp_path: Path) -> None:
    with running(tmp_path) as here:
        before = here.all()
        (tmp_path / "broken-0").touch()
        os.kill(before[0], signal.SIGKILL)
        until(lambda: is_gone(before[0]))
        for _ in range(20):
            assert here.ask() == (1, before[1])
        (tmp_path / "broken-0").unlink()
        after = here.all()
        assert (after[0] != before[0], after[1]) == (True, before[1])
        here.parent.send_signal(signal.SIGTERM)
        status, lines = here.ended()
    assert status == 0
    assert [line["why"] for line in events(lines, "worker ended")] == ["signal 9"]
    assert {line["why"] for line in events(lines, "worker not started")} <= {"exit status 7"}


def test_one_that_is_told_to_end_is_replaced_too(tmp_path: Path) -> None:
    with running(tmp_path, number=1) as here:
        (before,) = here.all(1).values()
        os.kill(before, signal.SIGTERM)
        until(lambda: is_gone(before))
        assert here.all(1) != {0: before}
        here.parent.send_signal(signal.SIGTERM)
        assert here.ended()[0] == 0


@pytest.mark.parametrize("broken", [0, 1])
def test_one_that_cannot_start_ends_all(tmp_path: Path, broken: int) -> None:
    with running(tmp_path, drain=600, broken=broken) as here:
        status, lines = here.ended()
        with pytest.raises(ConnectionRefusedError):
            here.ask()
    assert status == 1
    (said,) = events(lines, "worker not started")
    assert (said["worker"], said["why"]) == (broken, "exit status 7")
    assert len(events(lines, "worker started")) == broken
    assert len(list(tmp_path.glob("closed-*"))) == broken


def test_when_nobody_serves_and_nobody_can_clients_are_refused(tmp_path: Path) -> None:
    with running(tmp_path, number=1) as here:
        (pid,) = here.all(1).values()
        (tmp_path / "broken-0").touch()
        os.kill(pid, signal.SIGKILL)
        assert here.ended()[0] == 1


def test_without_their_parent_they_end(tmp_path: Path) -> None:
    with running(tmp_path, drain=600) as here:
        pids = here.all()
        here.parent.kill()
        until(lambda: all(map(is_gone, pids.values())))
    assert len(list(tmp_path.glob("closed-*"))) == 2


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(workers.Unbound, match="in use"):
            workers.bind("127.0.0.1", port=taken.getsockname()[1])


def test_every_address_of_a_name_is_bound() -> None:
    found = workers.bind("127.0.0.1", port=0)
    for one in found:
        with closing(one):
            assert one.getsockname()[0] == "127.0.0.1"
            with pytest.raises(ConnectionRefusedError):  # nobody is kept waiting before somebody serves
                socket.create_connection(one.getsockname(), PATIENCE)


def test_what_a_process_has_of_its_parent() -> None:
    mine, its = socket.socketpair()
    bound = socket.socket()
    worker = workers.inherited(f"3:{os.dup(bound.fileno())}:{os.dup(its.fileno())}")
    with mine, its, bound, worker.listening[0], worker.line:
        assert worker.number == 3
        worker.started()
        assert mine.recv(9) == b"+"
        its.close()
        mine.close()
        asyncio.run(asyncio.wait_for(worker.alone(), PATIENCE))
        worker.started()  # nobody is left to be told


def test_a_fresh_interpreter_finds_modules_where_this_one_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["/usr/lib"])
    assert workers.again("app.cli", arguments=["serve"])[1:] == ["-P", "-m", "app.cli", "serve"]
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert workers.again("app.cli", arguments=["serve"])[1:] == ["-m", "app.cli", "serve"]
