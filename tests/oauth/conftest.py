"""A real authorisation server (oidc-provider on Node) for the run, and the means to rule it.

Its packages come from the lock beside this file (tests/npm.py). Where they are not to be had, the tests are skipped and
say so, or fail where RESCUE_CDS_REQUIRE holds `oauth`.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from select import select
from typing import Any

import httpx
import pytest

from tests import npm

HERE = Path(__file__).parent
START_SECONDS = 30


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
    try:
        node, folder = npm.node(), npm.installed(HERE)
    except npm.Unavailable as error:
        npm.absent("oauth", f"the real authorisation server {error}")
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
