"""Packages of Node for tests: installed from a lock beside the test into the user's cache, once for each content of it.

Where Node, npm or the packages are not to be had, a test is skipped and says so, or fails where the environment
variable RESCUE_CDS_REQUIRE (names with commas between) holds its name.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import pytest

INSTALL_SECONDS = 120
NEW_ENOUGH = "process.exit(URL.parse && require('node:crypto').hash ? 0 : 1)"
"""What oidc-provider uses of Node and older ones lack; one Node serves every test."""


class Unavailable(Exception):
    """Node, npm or the packages are not to be had here; the message says why, after the name of what needs them."""


def node() -> str:
    """The program; raises Unavailable."""
    found = shutil.which("node")
    if found is None or shutil.which("npm") is None:
        raise Unavailable("needs Node and npm, which are not on the PATH")
    if subprocess.run([found, "-e", NEW_ENOUGH]).returncode:
        raise Unavailable("needs a newer Node: the last of version 20, or 22")
    return found


def installed(here: Path) -> Path:
    """The folder with the packages of the lock in `here`; raises Unavailable."""
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable("needs npm, which is not on the PATH")
    parts = [here / name for name in (".npmrc", "package.json", "package-lock.json")]
    digest = hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rescue-cds"
    folder = cache / f"{here.name}-{digest[:16]}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    # Made aside and renamed when complete, so that an interrupted installation is never taken for one.
    with tempfile.TemporaryDirectory(dir=cache, ignore_cleanup_errors=True) as aside:
        for part in parts:
            shutil.copy(part, aside)
        patience = ["--fetch-timeout=20000", "--fetch-retry-mintimeout=500", "--fetch-retry-maxtimeout=2000"]
        command = [npm, "ci", "--ignore-scripts", "--loglevel=error", *patience]
        try:
            done = subprocess.run(command, cwd=aside, capture_output=True, text=True, timeout=INSTALL_SECONDS)
        except subprocess.TimeoutExpired:
            raise Unavailable(f"npm could not install its packages within {INSTALL_SECONDS} s") from None
        if done.returncode:
            raise Unavailable(f"npm could not install its packages: {' '.join(done.stderr.split())[:120]}")
        with suppress(OSError):  # another run has just put the same there
            Path(aside).rename(folder)
    return folder


def is_required(name: str) -> bool:
    """Whether this run has to fail where what `name` stands for is absent."""
    return name in os.environ.get("RESCUE_CDS_REQUIRE", "").split(",")


def absent(name: str, reason: str) -> NoReturn:
    """Skip the test with the reason, or fail it where `name` is required."""
    if is_required(name):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
