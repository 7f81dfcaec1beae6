"""A real authorisation server (oidc-provider on Node) for the run, and the means to rule it.

Its packages are installed from the lock beside this file into the user's cache, once for each content of the lock.
Where Node, npm or the packages are not to be had, the tests are skipped and say so, or fail where the environment
variable RESCUE_CDS_REQUIRE (names with commas between) holds `oauth`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from select import select
from typing import Any, NoReturn

import httpx
import pytest

HERE = Path(__file__).parent
INSTALL_SECONDS = 120
START_SECONDS = 30
NEW_ENOUGH = "process.exit(URL.parse && require('node:crypto').hash ? 0 : 1)"
"""What oidc-provider uses of Node and older ones lack."""


@dataclass(frozen=True, slots=True)
class Authority:
    """The running server: where tokens and resources are, and its control path."""

    url: str
    http: httpx.Client

    @property
    def token_url(self) -> str:
        return f"{self.url}/token"

    @property
    def base(self) -> str:
        return f"{self.url}/fhir"

    def control(self, method: str, path: str, body: Any = None) -> Any:
        response = self.http.request(method, f"{self.url}/control/{path}", json=body)
        assert response.status_code == 200, path
        return response.json()

    def register(self, client_id: str, *keys: dict[str, Any], **metadata: Any) -> None:
        """Make the server know a client and these public keys, or these in place of the earlier ones."""
        self.control("PUT", "clients", {"client_id": client_id, "jwks": {"keys": keys}, **metadata})

    def counts(self) -> dict[str, int]:
        return dict(self.control("GET", "counts"))

    def refusal(self) -> str:
        """Why the server refused last: what it tells no client."""
        return str(self.control("GET", "refusals")[-1])


@pytest.fixture(scope="session")
def running() -> Iterator[Authority]:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        _absent("needs Node and npm, which are not on the PATH")
    if subprocess.run([node, "-e", NEW_ENOUGH]).returncode:
        _absent("needs a newer Node: the last of version 20, or 22")
    folder = _installed(npm)
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [node, str(HERE / "server.mjs"), str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
        )
        try:
            assert process.stdout is not None
            ready, _, _ = select([process.stdout], [], [], START_SECONDS)
            line = process.stdout.readline() if ready else b""
            log.seek(0)
            assert line, f"the authorisation server did not start: {log.read().decode(errors='replace')}"
            with httpx.Client(trust_env=False) as http:
                yield Authority(f"http://127.0.0.1:{json.loads(line)['port']}", http)
        finally:
            with suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=5)  # closes its input, which ends it
            process.kill()
            process.wait()


@pytest.fixture
def authority(running: Authority) -> Iterator[Authority]:
    """The server with the token life it starts with, whatever a test does to that."""
    yield running
    running.control("PUT", "life", 300)


def _installed(npm: str) -> Path:
    parts = [HERE / name for name in (".npmrc", "package.json", "package-lock.json")]
    digest = hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rescue-cds"
    folder = cache / f"oauth-{digest[:16]}"
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
            _absent(f"npm could not install its packages within {INSTALL_SECONDS} s")
        if done.returncode:
            _absent(f"npm could not install its packages: {' '.join(done.stderr.split())[:120]}")
        with suppress(OSError):  # another run has just put the same there
            Path(aside).rename(folder)
    return folder


def _absent(reason: str) -> NoReturn:
    text = f"the real authorisation server {reason}"
    if "oauth" in os.environ.get("RESCUE_CDS_REQUIRE", "").split(","):
        pytest.fail(text, pytrace=False)
    pytest.skip(text)
