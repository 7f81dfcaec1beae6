"""A FHIR server, an authorisation server and a canary on this machine, and the service between them.

The service has its own connections (door.Pool over aiohttp) and is called without a socket, so that every connection
that the spy of `sockets` sees is one that the service made.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from ssl import SSLContext
from typing import Any, Final

import httpx
from joserfc.jwk import ECKey

from app.gateway.backend_services import Credentials
from app.gateway.fhir import Limits
from app.main import create_app
from app.settings import Settings, dev, load
from tests.integration.hospital import NOW, shipped
from tests.security.sockets import LOOPBACK, Listener, Place, Received, Reply, Seen, http, listening
from tests.unit.app.registry import Ehr, configuration

FHIR_PATH: Final = "/fhir"
PATIENT: Final = "canary-patient-77"
DEADLINE: Final = 30.0
UNHURRIED: Final = Limits(call_seconds=20.0, connect_seconds=20.0)
"""Seconds for which a check that is not about time waits: a busy machine must not look like a refusal."""


@dataclass(frozen=True, slots=True)
class Town:
    """A FHIR server, an authorisation server, and a canary that belongs to nobody."""

    host: str
    fhir: Listener
    tokens: Listener
    canary: Listener
    file: str

    @property
    def origin(self) -> str:
        return f"{'https' if self.fhir.tls else 'http'}://{self.host}:{self.fhir.port}"

    @property
    def base(self) -> str:
        """The configured one."""
        return self.origin + FHIR_PATH

    @property
    def places(self) -> tuple[Place, ...]:
        """Where connections may go: the FHIR server, by either protocol where it has a name, and for tokens."""
        found = [(LOOPBACK, self.fhir.port), (LOOPBACK, self.tokens.port)]
        return (
            (*found, ("::1", self.fhir.port), ("localhost", self.fhir.port)) if self.host == "localhost" else (*found,)
        )

    def filled(self, text: str) -> str:
        """The text with what its braces stand for."""
        values = {
            "scheme": self.origin.partition(":")[0],
            "host": self.host,
            "HOST": self.host.upper(),
            "port": str(self.fhir.port),
            "path": FHIR_PATH,
            "origin": self.origin,
            "base": self.base,
            "canary": self.canary.authority,
            "canary_port": str(self.canary.port),
            "file": self.file,
        }
        for name, value in values.items():
            text = text.replace(f"{{{name}}}", value)
        return text


def beyond(there: Town, seen: Seen) -> tuple[str, ...]:
    """What left the configured places, by the spy and by the canary."""
    found = seen.beyond(*there.places)
    if there.canary.connections or there.canary.bytes:
        found.append(f"canary: {there.canary.connections} connections, {there.canary.bytes} bytes")
    outside = [one.target for one in there.fhir.requests if not is_below(one.path)]
    return (*found, *(f"asked {target}" for target in outside))


def is_below(path: str) -> bool:
    """True for the base's own path and what is under it."""
    return path == FHIR_PATH or path.startswith(f"{FHIR_PATH}/")


@asynccontextmanager
async def town(
    reply: Reply, *, host: str = LOOPBACK, tokens: Reply | None = None, tls: SSLContext | None = None
) -> AsyncIterator[Town]:
    """Servers that answer like this; the canary answers everything as if it were the FHIR server."""
    with tempfile.NamedTemporaryFile(prefix="file-canary-") as file:
        async with (
            listening(reply, tls=tls) as fhir,
            listening(tokens or (lambda _: http("404 Not Found"))) as issuer,
            listening(lambda _: http("200 OK", searchset(observation("stolen")))) as canary,
        ):
            yield Town(host, fhir, issuer, canary, file.name)


# --- FHIR --------------------------------------------------------------------------------------------------


def observation(name: str) -> dict[str, Any]:
    """Of nothing that decides anything."""
    return {
        "resourceType": "Observation",
        "id": name,
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": f"Patient/{PATIENT}"},
    }


def searchset(*resources: Mapping[str, Any], following: str | None = None, **more: Any) -> bytes:
    """A page."""
    entry = [{"resource": one, "search": {"mode": "match"}} for one in resources]
    link = [] if following is None else [{"relation": "next", "url": following}]
    return json.dumps({"resourceType": "Bundle", "type": "searchset", "entry": entry, "link": link, **more}).encode()


def usual(request: Received) -> bytes:
    """A server that has a patient and nothing else."""
    if request.path.endswith("/metadata"):
        return http("404 Not Found")
    if request.path.endswith(f"/Patient/{PATIENT}"):
        patient = {"resourceType": "Patient", "id": PATIENT, "birthDate": "1966-01-01", "gender": "female"}
        return http("200 OK", json.dumps(patient).encode())
    return http("200 OK", searchset())


# --- credentials of the service ----------------------------------------------------------------------------


@cache
def _key() -> ECKey:
    return ECKey.generate_key("P-384")


def credentials(token_url: str, *, scopes: tuple[str, ...] = ("system/Observation.rs",)) -> Credentials:
    """The service's own, at that authorisation server."""
    return Credentials("rescue-cds", token_url, "ES384", "key-1", _key(), scopes=scopes)


def granted(token: str, *, scopes: Iterable[str] = ("system/Observation.rs",)) -> bytes:
    """A token response."""
    said = {"access_token": token, "token_type": "bearer", "expires_in": 300, "scope": " ".join(scopes)}
    return json.dumps(said).encode()


# --- the service -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Profile:
    """A way to run the service, and the statuses by which it refuses a `fhirServer`.

    `headers` are those of one call of that path. `evaluated`: the statuses of the same call with a prefetch. `noted`: a
    refusal is kept as one.
    """

    name: str
    settings: Callable[[str, Path], Settings]
    headers: Callable[[str], Mapping[str, str]]
    refused: frozenset[int]
    evaluated: frozenset[int]
    noted: bool = False


def open_profile() -> Profile:
    """The dev profile: an unknown server is a gap, and where nothing else was sent, nothing was evaluated."""
    return Profile(
        "open",
        lambda base, folder: _unhurried(dev(fhir_urls=[base], db=f"sqlite+aiosqlite:///{folder / 'decisions.db'}")),
        lambda _: {},
        refused=frozenset({400, 412}),
        evaluated=frozenset({200, 400}),
    )


def _unhurried(settings: Settings) -> Settings:
    return replace(settings, deadline_seconds=DEADLINE, fhir=UNHURRIED)


def registered_profile() -> Profile:
    """One registered client, which signs every call: an unknown server is a refusal, whatever else was sent."""
    ehr = Ehr("ehr-canary", "https://ehr.example.org")

    def settings(base: str, folder: Path) -> Settings:
        client = ehr.block(folder, tenants=["hospital"])
        # The dev profile, because its FHIR base is http on this machine.
        return _unhurried(load(configuration(folder, client, tenants={"hospital": [base]}, service='profile = "dev"')))

    return Profile(
        "registered",
        settings,
        lambda path: ehr.headers(path, now=NOW),
        refused=frozenset({400, 403}),
        evaluated=frozenset({400, 403}),
        noted=True,
    )


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """The service with connections of its own, called without a socket."""
    app = create_app(settings, bedside=shipped(), clock=lambda: NOW)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client,
    ):
        for base in settings.bases:  # asked at the start already; what is seen from here on belongs to calls
            await app.state.service.gateway.meet(base, seconds=5)
        yield client


def readings(folder: Path) -> list[dict[str, Any]]:
    """How each decision's sources were read, from the disk."""
    with closing(sqlite3.connect(folder / "decisions.db")) as connection:
        return [json.loads(row[0]) for row in connection.execute("select reading from decisions")]


def refusals(folder: Path) -> list[str]:
    """Why calls were turned away, from the disk."""
    with closing(sqlite3.connect(folder / "decisions.db")) as connection:
        return [row[0] for row in connection.execute("select reason from refusals")]


def bytes_on_disk(folder: Path) -> bytes:
    """Every byte of the database and of its log."""
    return b"".join(path.read_bytes() for path in folder.glob("decisions.db*") if path.is_file())
