"""What strace wrote is read in the order in which the calls came back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.durability import fsync
from tests.durability.fsync import Step, early, steps
from tests.figures import Figure


def hexed(text: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in text)


WAL = f"7<{hexed(b'/d/decisions.db-wal')}>"
FRAME = b"\x00\x00\x00\x05" + b"\x00\x00\x00\x09" + b"s" * 16
PART = b"\x00\x00\x00\x05" + b"\x00\x00\x00\x00" + b"s" * 16
OK = f'write(9<{hexed(b"socket:[1]")}>, "{hexed(b"HTTP/1.1 200 OK")}"..., 900) = 900'


def test_commits_syncs_and_answers_are_told_from_all_else() -> None:
    lines = [
        f'11 pwrite64({WAL}, "{hexed(PART)}", 24, 32) = 24',
        f'11 pwrite64({WAL}, "{hexed(FRAME)}", 24, 4152) = 24',
        f'11 pwrite64({WAL}, "{hexed(FRAME)}"..., 4096, 4176) = 4096',
        f'11 pwrite64(8<{hexed(b"/d/other")}>, "{hexed(FRAME)}", 24, 0) = 24',
        f"11 fdatasync({WAL} <unfinished ...>",
        f'12 write(3<{hexed(b"anon")}>, "{hexed(b"x")}", 1) = 1',
        "11 <... fdatasync resumed>)          = 0",
        f"11 fsync({WAL}) = -1 EIO (Input/output error)",
        f"12 {OK}",
        f'12 write(9<{hexed(b"socket:[1]")}>, "{hexed(b"HTTP/1.1 503 Se")}"..., 90) = 90',
        "12 +++ exited with 0 +++",
    ]
    assert steps(lines) == [Step("commit"), Step("sync", "/d/decisions.db-wal"), Step("answer")]


def test_an_answer_before_the_disk_has_confirmed_is_early() -> None:
    commit, sync, answer = Step("commit"), Step("sync", "/d/decisions.db-wal"), Step("answer")
    other = Step("sync", "/d/other")
    assert early([commit, sync, answer, commit, sync, answer], file="decisions.db") == 0
    assert early([commit, answer, sync, commit, sync, answer], file="decisions.db") == 1
    assert early([commit, other, answer], file="decisions.db") == 1
    assert early([sync, commit, answer], file="decisions.db") == 1
    assert early([commit, sync, answer, answer], file="decisions.db") == 1


@pytest.mark.parametrize(("required", "held"), [("hapi", True), ("hapi,strace", False)], ids=["not needed", "needed"])
async def test_without_strace_nothing_is_counted_and_the_report_says_so(
    required: str, held: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def sqlite(*, calls: int) -> list[Figure]:
        async with fsync.watched([1], log=tmp_path / "strace"):
            return []

    monkeypatch.setattr(fsync, "sqlite", sqlite)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(fsync.REQUIRED, required)
    found = await fsync.run(size="small")
    assert found.held is held
    assert found.rows[0].number == "strace is not installed"
