"""Whether what was answered had been forced to the disk: the system calls are watched from outside, by strace.

kill -9 does not show it, for the kernel writes later what a dead process has written (knowledge: security 0.9). For
SQLite each commit stands in the log of the database as a frame that says so, and it is the service that forces it; for
PostgreSQL each transaction has a number in the rows that it wrote, and it is the server; for the spool the service
again. One call after the other, no answer may leave before the disk has confirmed.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg  # type: ignore[import-untyped]

from tests.durability import stage
from tests.durability.stage import Stage
from tests.figures import Figure, Figures

CALLS: Final = {"small": 100, "full": 1000}
AT_ONCE: Final = 16
SPOOLED: Final = 50
REQUIRED: Final = "RESCUE_CDS_REQUIRE"

_TRACED: Final = "fsync,fdatasync,pwrite64,write,writev,sendto,sendmsg"
_LINE: Final = re.compile(r"^(?P<pid>\d+) +(?P<rest>.*)$")
_CALL: Final = re.compile(r"^(?P<name>\w+)\((?P<arguments>.*)$")
_RESUMED: Final = re.compile(r"^<\.\.\. (?P<name>\w+) resumed>")
_FILE: Final = re.compile(r"^\d+<(?P<file>(?:\\x[0-9a-f]{2})*)>")
_FRAME: Final = re.compile(r'>, "(?P<head>(?:\\x[0-9a-f]{2}){24})", 24,')
_GOOD: Final = "".join(f"\\x{byte:02x}" for byte in b"HTTP/1.1 200")


class Unseen(Exception):
    """Nothing can be watched on this machine; the text says why."""


@dataclass(frozen=True, slots=True)
class Step:
    """Something that had been done: `sync` of a file, `commit` of SQLite, `answer` 200."""

    what: str
    file: str = ""


def steps(lines: Iterable[str]) -> list[Step]:
    """What strace wrote, in the order in which the calls came back."""
    found: list[Step] = []
    open_: dict[str, str] = {}
    for line in lines:
        match = _LINE.match(line)
        if match is None:
            continue
        pid, rest = match["pid"], match["rest"].rstrip()
        if rest.endswith("<unfinished ...>"):
            open_[pid] = rest.removesuffix("<unfinished ...>")
            continue
        resumed = _RESUMED.match(rest)
        if resumed is not None:
            rest = open_.pop(pid, "") + rest[resumed.end() :]
        step = _step(rest)
        if step is not None:
            found.append(step)
    return found


def _step(call: str) -> Step | None:
    match = _CALL.match(call)
    if match is None:
        return None
    name, arguments = match["name"], match["arguments"]
    if name in {"fsync", "fdatasync"}:
        return Step("sync", _file(arguments)) if call.endswith("= 0") else None
    if name == "pwrite64":
        frame = _FRAME.search(arguments) if _file(arguments).endswith("-wal") else None
        # Bytes 4 to 8: the database's size after a commit, else 0.
        return Step("commit") if frame and frame["head"][16:32] != "\\x00" * 4 else None
    return Step("answer") if _GOOD in arguments else None


def _file(arguments: str) -> str:
    """The path of the file that a call is about; strace writes every byte as a number."""
    match = _FILE.match(arguments)
    return bytes.fromhex(match["file"].replace("\\x", "")).decode(errors="replace") if match else ""


def early(found: Sequence[Step], *, file: str) -> int:
    """Answers, of calls one after the other, since the last of which nothing had been forced to such a file."""
    wrong, forced = 0, False
    for step in found:
        if step.what == "answer":
            wrong += not forced
            forced = False
        elif step.what == "sync" and file in step.file:
            forced = True
        elif step.what == "commit":
            forced = False
    return wrong


@asynccontextmanager
async def watched(pids: Sequence[int], *, log: Path) -> AsyncIterator[None]:
    """These processes and all that they start, until the end of the block. Raises Unseen."""
    if shutil.which("strace") is None:
        raise Unseen("strace is not installed")
    command = ["strace", "-f", "-y", "-xx", "-s", "32", "-e", f"trace={_TRACED}", "-e", "signal=none", "-o", str(log)]
    for pid in pids:
        command += ["-p", str(pid)]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    try:
        for _ in pids:
            said = (await asyncio.wait_for(process.stderr.readline(), 30)).decode()
            if "attached" not in said and "No such process" not in said:  # one of a server's has just gone
                raise Unseen(f"strace cannot watch: {said.strip()}")
        yield
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        await process.communicate()


async def serial(scene: Stage, *, calls: int) -> int:
    """One after the other; those answered with 200."""
    return sum([(await scene.clients.send(scene.calls.next())).status == 200 for _ in range(calls)])


async def grouped(scene: Stage, *, calls: int) -> int:
    """Many at once; those answered with 200."""
    good = 0
    for _ in range(calls // AT_ONCE):
        sent = await asyncio.gather(*(scene.clients.send(scene.calls.next()) for _ in range(AT_ONCE)))
        good += sum(one.status == 200 for one in sent)
    return good


async def sqlite(*, calls: int) -> list[Figure]:
    """Commits in the log beside what was forced to the disk."""
    rows: list[Figure] = []
    async with stage.opened("sqlite") as scene:
        await scene.service.start()
        await serial(scene, calls=5)
        for how, load in (("one after the other", serial), (f"{AT_ONCE} at once", grouped)):
            log = scene.folder / "strace"
            async with watched([scene.service.pid], log=log):
                good = await load(scene, calls=calls)
            found = steps(log.read_text().splitlines())
            count = Counter(step.what for step in found if step.what != "sync" or "decisions.db" in step.file)
            rows.append(
                Figure(
                    f"SQLite, {how}: commits forced to the disk",
                    f"{count['sync']} for {count['commit']} commits, {good} answers",
                    count["sync"] >= count["commit"] > 0 and good >= count["commit"] * (how[0] == "o"),
                )
            )
            if load is serial:
                wrong = early(found, file="decisions.db")
                rows.append(
                    Figure(
                        f"SQLite, {how}: answers before that",
                        f"{wrong} of {count['answer']}",
                        wrong == 0 < count["answer"] == good <= count["commit"],
                    )
                )
        await scene.service.stop()
    return rows


async def postgresql(*, calls: int) -> list[Figure]:
    """Transactions beside what the server forced to the disk; then the spool, when the server is down."""
    rows: list[Figure] = []
    async with stage.opened("postgresql") as scene:
        await scene.service.start()
        await serial(scene, calls=5)
        for how, load in (("one after the other", serial), (f"{AT_ONCE} at once", grouped)):
            log, before = scene.folder / "strace", await _transactions(scene.url)
            async with watched(scene.postgresql.processes(), log=log):
                good = await load(scene, calls=calls)
            syncs = sum(s.what == "sync" and "pg_wal" in s.file for s in steps(log.read_text().splitlines()))
            commits = len(await _transactions(scene.url) - before)
            rows.append(
                Figure(
                    f"PostgreSQL, {how}: commits forced to the disk",
                    f"{syncs} for {commits} transactions, {good} answers",
                    syncs >= commits > 0 and good > 0,
                )
            )
        await asyncio.to_thread(scene.postgresql.stop, "fast")
        await serial(scene, calls=5)
        log = scene.folder / "strace"
        async with watched([scene.service.pid], log=log):
            good = await serial(scene, calls=SPOOLED)
        found = steps(log.read_text().splitlines())
        syncs = sum(step.what == "sync" and ".spool" in step.file for step in found)
        wrong = early(found, file=".spool")
        rows.append(
            Figure(
                "spool, one after the other: forced to the disk",
                f"{syncs} times for {good} answers, {wrong} answers before that",
                syncs >= good == SPOOLED and wrong == 0,
            )
        )
        await asyncio.to_thread(scene.postgresql.start)
        await scene.service.stop()
    return rows


async def _transactions(url: str) -> set[str]:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        return {str(row[0]) for row in await connection.fetch("SELECT DISTINCT xmin::text FROM decisions")}
    finally:
        await connection.close()


async def run(*, size: str) -> Figures:
    """Both databases, and the spool."""
    title = "Forced to the disk before it is answered"
    try:
        return Figures(title, (*await sqlite(calls=CALLS[size]), *await postgresql(calls=CALLS[size])))
    except Unseen as error:
        needed = "strace" in os.environ.get(REQUIRED, "").split(",")
        return Figures(title, (Figure("nothing was counted", str(error), not needed),))
