"""`rescue-cds serve` as a process: told to end under load, and several processes that share a port.

The load sends the shortest call that is decided and recorded: one without data, which is answered 412.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.store import engine
from tests.databases import Database
from tests.integration.hospital import PATH, hook
from tests.postgres import Server

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120.0
"""Seconds after which a test gives up; a start takes two or three when nothing else runs."""


@dataclass(frozen=True, slots=True)
class Service:
    """A running `rescue-cds serve`."""

    process: subprocess.Popen[str]
    port: int
    operators: int

    def readiness(self, worker: int = 0) -> tuple[int, dict[str, Any]]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.operators + worker, timeout=PATIENCE)) as connection:
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def is_ready(self, worker: int = 0) -> bool:
        assert self.process.poll() is None, self.process.communicate()
        with suppress(OSError, http.client.BadStatusLine):  # a free port may for once connect to itself
            return self.readiness(worker)[0] == 200
        return False

    def ended(self) -> tuple[int, str]:
        """Exit status, and what it said."""
        _, said = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, said


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def free_ports(count: int) -> int:
    """The first of so many free ports in a row, below the range that the system gives to clients: nobody takes one of
    those by chance before the service does."""
    for first in range(20000 + os.getpid() * 16 % 8000, 32000, count):
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise AssertionError("no ports are free")


@contextmanager
def serving(folder: Path, *arguments: str, service: str = "", environment: Mapping[str, str]) -> Iterator[Service]:
    port = free_ports(4)
    (folder / "config.toml").write_text(
        f'[service]\nprofile = "dev"\nport = {port}\n{service}\n[admin]\nport = {port + 1}\n'
        f'[store]\nspool = "{folder / "spool"}"\n'
        '[[tenants]]\nname = "h"\nzone = "UTC"\n',
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "app.cli", "serve", "--config", str(folder / "config.toml"), *arguments]
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        yield Service(process, port, port + 1)
    finally:
        process.kill()
        process.communicate()


@dataclass(slots=True)
class Load:
    """Calls one after the other until the service refuses connections; `kept`: over a connection as long as it lasts.

    `faults` are calls that were sent and not answered.
    """

    port: int
    kept: bool
    decisions: list[str] = field(default_factory=list)
    closing: int = 0
    faults: list[str] = field(default_factory=list)

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        while len(self.faults) < 5:
            try:
                if connection.sock is None:
                    connection.connect()
            except ConnectionRefusedError:
                return
            try:
                connection.request("POST", PATH, json.dumps(hook("p", fhir=None)), {"content-type": "application/json"})
                answer = connection.getresponse()
                body = json.loads(answer.read())
            except (OSError, http.client.HTTPException) as error:
                self.faults.append(repr(error))
                connection.close()
                continue
            if answer.status != 412:
                self.faults.append(str(answer.status))
            self.decisions.append(body["id"])
            self.closing += answer.getheader("connection") == "close"
            if not self.kept:
                connection.close()
            time.sleep(0.01)
        connection.close()


@contextmanager
def loaded(service: Service) -> Iterator[list[Load]]:
    """Two clients that keep their connections and two that do not; they have ended at the end."""
    loads = [Load(service.port, kept) for kept in (True, True, False, False)]
    threads = [threading.Thread(target=load.run) for load in loads]
    for thread in threads:
        thread.start()
    try:
        until(lambda: all(len(load.decisions) >= 3 for load in loads))
        yield loads
    finally:
        for thread in threads:
            thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads)


def test_an_end_under_load_drops_nothing(tmp_path: Path, database: Database) -> None:
    with serving(tmp_path, service="drain_seconds = 60", environment={"RESCUE_CDS_DB": database.url}) as service:
        until(service.is_ready)
        with loaded(service) as loads:
            service.process.send_signal(signal.SIGTERM)
            until(lambda: service.readiness()[0] == 503)
            assert service.readiness() == (503, {"status": "draining", "checks": {"started": True, "serving": False}})
            before = [len(load.decisions) for load in loads]
            until(lambda: all(len(load.decisions) > 3 + count for load, count in zip(loads, before, strict=True)))
            service.process.send_signal(signal.SIGTERM)  # a minute is not waited for
        status, said = service.ended()
    assert [load.faults for load in loads] == [[]] * 4
    assert min(load.closing for load in loads) >= 3
    assert (status, "Traceback" in said) == (0, False)
    answered = sorted(decision for load in loads for decision in load.decisions)
    assert sorted(found for (found,) in database.rows("select id from decisions")) == answered


async def upgraded(url: str) -> None:
    made = engine.create(url, purpose="schema")
    await engine.migrate(made)
    await made.dispose()


def pids(service: Service) -> set[int]:
    """Of the processes that the parent has started."""
    return {
        int(pid) for pid in Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children").read_text().split()
    }


def test_several_processes_share_the_port_and_the_record(tmp_path: Path, postgresql: Server) -> None:
    url = postgresql.create_database()
    asyncio.run(upgraded(url))
    with serving(
        tmp_path, "--workers", "2", service="drain_seconds = 1", environment={"RESCUE_CDS_DB": url}
    ) as service:
        until(lambda: service.is_ready() and service.is_ready(1))
        before = pids(service)
        assert len(before) == 2
        with loaded(service) as loads:
            os.kill(min(before), signal.SIGKILL)  # the first that was started
            until(lambda: len(pids(service) - before) == 1)
            until(lambda: service.is_ready() and service.is_ready(1))
            cut = [list(load.faults) for load in loads]
            service.process.send_signal(signal.SIGTERM)
            until(lambda: service.readiness(1)[1]["status"] == "draining")
        status, said = service.ended()
    name = url.rpartition("/")[2]
    recorded = {str(found) for (found,) in postgresql.execute("select id from decisions", database=name)}
    writers = postgresql.execute("select number from writers", database=name)
    postgresql.drop_database(name)
    assert status == 0, said
    # What the killed process had taken is cut, one call of a connection at most; after that, none.
    assert max(map(len, cut)) <= 1
    assert [load.faults for load in loads] == cut
    assert {decision for load in loads for decision in load.decisions} <= recorded
    assert len(writers) == 3
    assert f"record: PostgreSQL, 127.0.0.1:{postgresql.port}/{name}" in said
    assert said.count('"event":"worker started"') == 3
    assert said.count('"event":"worker ended"') == 1
