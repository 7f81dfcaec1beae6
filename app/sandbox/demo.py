"""`rescue-cds demo`: the service, the FHIR sandbox and the page, over real HTTP on two loopback ports."""

from __future__ import annotations

import logging
import socket  # allowed: network only to see whether a port of this machine is free
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from app import edge
from app.configuration import SettingsError
from app.main import create_app, create_operators
from app.observe import logs
from app.sandbox import patients
from app.sandbox.fhir import create_fhir
from app.sandbox.site import create_site
from app.settings import DATABASE, dev

HOST = "127.0.0.1"
FOREIGN_DEADLINE_SECONDS = 10.0
"""A FHIR server of the user's own often shares this machine with the browser and the service, and has just started.
The default deadline is made for a hospital's server; with it such a demo would show little but "no answer in time"."""


def run(*, port: int, fhir_url: str | None) -> int:
    """Serve until interrupted. Raises SettingsError when a port is taken."""
    logs.configure(level=logging.WARNING)
    for wanted in (port, port + 1, port + 2):
        _require_free(wanted)
    with tempfile.TemporaryDirectory(prefix="rescue-cds-demo-") as folder:
        return edge.run(*_servers(port=port, fhir_url=fhir_url, folder=Path(folder)))


def _clock() -> datetime:
    return datetime.now(UTC)


def _servers(*, port: int, fhir_url: str | None, folder: Path) -> list[edge.Server]:
    """The page, the service, and what operators see of it; tells where they are."""
    page, cds = f"http://{HOST}:{port}", f"http://{HOST}:{port + 1}"
    base = (fhir_url or f"{page}/fhir").rstrip("/")
    fhir = None
    if fhir_url is None:
        fhir = create_fhir(patients.bundle, base_url=base, clock=_clock, faults=patients.faults())
    operators = f"http://{HOST}:{port + 2}"
    site = create_site(
        fhir_app=fhir, fhir_url=base, cds_url=cds, stories=patients.STORIES, statistics=f"{operators}/stats"
    )
    record = f"sqlite+aiosqlite:///{folder}/decisions.db"
    settings = dev(port=port + 1, fhir_urls=[base], db=record)
    if fhir_url is not None:
        patient = replace(settings.fhir, call_seconds=FOREIGN_DEADLINE_SECONDS)
        settings = replace(settings, deadline_seconds=FOREIGN_DEADLINE_SECONDS, fhir=patient)
    sys.stderr.write(
        _greeting(page=page, cds=cds, base=base, operators=operators, record=record, embedded=fhir_url is None)
    )
    app = create_app(settings)
    return [
        edge.server(site, host=HOST, port=port),
        edge.server(app, host=HOST, port=port + 1, closed=app.state.metrics.ended),
        edge.server(create_operators(app), host=HOST, port=port + 2),
    ]


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise SettingsError(f"--port: port {port} is taken: name another, for example --port {port + 10}") from None


def _greeting(*, page: str, cds: str, base: str, operators: str, record: str, embedded: bool) -> str:
    """What the demo says of itself. The record is written as it stands before a command: `RESCUE_CDS_DB=... rescue-cds
    decisions show ID`."""
    server = "embedded FHIR R4 sandbox, synthetic patients" if embedded else "your FHIR server"
    return (
        f"\n  rescue-cds demo\n\n  open          {page}/\n"
        f"  CDS service   {cds}/cds-services\n  FHIR          {base}  ({server})\n"
        f"  operators     {operators}/\n  record        {DATABASE}={record}\n\n"
        "  Dev profile: open to any client on this machine, and to nobody else.\n"
        "  Synthetic patients. Investigational, unproven regimen. Not a medical device. Ctrl-C ends it.\n"
    )
