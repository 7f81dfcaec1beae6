"""The commands of `rescue-cds` that a campaign needs, as an operator runs them."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Final

from tests.durability.processes import ROOT, ProcessError

DB: Final = "RESCUE_CDS_DB"
"""The variable with the address, for what stands in the environment is on no command line."""


async def ran(*arguments: str, database: str, folder: Path = ROOT) -> tuple[int, str]:
    """The exit status, and what was said on both outputs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "app.cli", *arguments),
        cwd=folder,
        env={**os.environ, DB: database, "PYTHONPATH": str(ROOT)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return await process.wait(), said.decode(errors="replace")


async def upgraded(database: str) -> None:
    """The database at the newest schema. Raises ProcessError."""
    status, said = await ran("db", "upgrade", database=database)
    if status:
        raise ProcessError(f"rescue-cds db upgrade ended with {status}: {_end(said)}")


async def verified(database: str) -> str:
    """What `decisions verify` says: "ok", with its last line, or else its status and the end of what it said."""
    status, said = await ran("decisions", "verify", database=database)
    return f"ok: {_end(said, lines=1)}" if status == 0 else f"status {status}: {_end(said)}"


def _end(said: str, *, lines: int = 4) -> str:
    return " | ".join(said.strip().splitlines()[-lines:])
