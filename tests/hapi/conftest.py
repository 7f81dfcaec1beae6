"""One HAPI server for the whole run, and none unless it is asked for: `make test` needs no Java.

RESCUE_CDS_HAPI=1 runs these tests, and skips them with the reason where the server cannot be had. `hapi` among the
words of RESCUE_CDS_REQUIRE runs them, and fails where it cannot.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from app.sandbox import patients
from tests.hapi import hapi as servers
from tests.integration.hospital import NOW


@pytest.fixture(scope="session")
def hapi_server(pytestconfig: pytest.Config) -> Iterator[servers.Server]:
    """The server, started by the first test that needs it. Tests take `hapi`, which looks that it is still there."""
    required = "hapi" in os.environ.get("RESCUE_CDS_REQUIRE", "").split(",")
    if not (required or os.environ.get("RESCUE_CDS_HAPI")):
        pytest.skip("run by `make test-hapi` (needs Java and Maven)")
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n{line}", end="", flush=True)

    try:
        with servers.running(say=say) as server:
            yield server
    except servers.Unavailable as error:
        if required:
            pytest.fail(f"HAPI is required here: {error}", pytrace=False)
        pytest.skip(str(error))


@pytest.fixture
def hapi(hapi_server: servers.Server) -> servers.Server:
    """A running server. Its data and rules are shared: take ids from `new_id` and rules for your own patients."""
    hapi_server.revive()
    return hapi_server


@pytest.fixture(scope="module")
def loaded(hapi_server: servers.Server) -> servers.Server:
    """The server with the demo's patients and their faults."""
    hapi_server.revive()
    servers.load(hapi_server.base, patients.bundle(NOW))
    hapi_server.add(*servers.story_rules())
    return hapi_server
