"""One command, `rescue-cds`: serve, clients, evaluate, doctor, protocols, stats, demo, openapi."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from app import edge, evaluate, knowledge, workers
from app import registration as clients
from app.api import document
from app.cases import command as protocols
from app.clinical.lasting import HORIZON
from app.configuration import SettingsError
from app.decisions import command as decisions
from app.decisions import purge, verification
from app.doctor import command as doctor
from app.export import command as export
from app.gather import BundleError
from app.main import create_app, create_operators
from app.observe import logs
from app.protocols.fields import KnowledgeError
from app.sandbox import demo
from app.settings import (
    DATABASE,
    DEFAULT_DB,
    MOST_WORKERS,
    Settings,
    bound,
    check_workers,
    database_of,
    dev,
    load,
    silenced_by,
)
from app.stats import command as stats
from app.store import address
from app.store import command as database
from app.store.errors import StoreError
from fhir_mappings.facts import Overlay

log = logging.getLogger("app.cli")  # not __name__: a worker runs this file as its program

_NOWHERE = "sqlite+aiosqlite:///:memory:"
"""To describe the interface, no database file is made."""


class UsageError(ValueError):
    """The input or the command line cannot be used; exit status 2."""


_UNUSABLE = (
    UsageError,
    BundleError,
    clients.Unusable,
    decisions.Unusable,
    doctor.Unusable,
    protocols.Unusable,
    stats.Unusable,
)
"""What makes an input or a command line unusable, by command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 could not start, 2 the input or the command line is not usable; `doctor` has its own."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(given)
    options.given = given
    try:
        return int(options.run(options))
    except _UNUSABLE as error:
        print(f"rescue-cds: {error}", file=sys.stderr)
        return 2
    except (SettingsError, KnowledgeError, StoreError) as error:
        print(f"rescue-cds: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rescue-cds",
        description="CDS Hooks service for the anakinra + ruxolitinib rescue protocol: investigational, off-label, "
        "unproven. It informs and warns; it is not a medical device.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="start the service alone")
    serve.add_argument("--host", help="address to bind (default 127.0.0.1)")
    serve.add_argument("--port", type=_port, help="port (default 8000)")
    serve.add_argument(
        "--fhir-url", action="append", default=[], metavar="URL", help="an allowed FHIR base; repeatable"
    )
    serve.add_argument("--timezone", metavar="ZONE", help="the facility's IANA time zone (default UTC)")
    serve.add_argument("--config", type=Path, metavar="FILE", help="the configuration; without it the dev profile runs")
    serve.add_argument(
        "--db", metavar="URL", help=f"the decision database (default: {DATABASE}, else configured, else {DEFAULT_DB})"
    )
    serve.add_argument(
        "--workers",
        type=_workers,
        metavar="N",
        help="processes that share the port, with PostgreSQL (default: configured, else 1)",
    )
    serve.add_argument("--inherited", help=argparse.SUPPRESS)  # what a process has of its parent (app/workers.py)
    serve.set_defaults(run=_serve)

    assess = commands.add_parser("evaluate", help="evaluate a FHIR Bundle and print the result")
    assess.add_argument("bundle", metavar="BUNDLE.json", help="a collection, searchset or transaction; - reads stdin")
    assess.add_argument("--protocol", action="append", default=[], metavar="ID", help="print only this one; repeatable")
    assess.add_argument("--now", metavar="TIMESTAMP", help="ISO time with zone (default: the clock)")
    assess.add_argument("--timezone", metavar="ZONE", help="the facility's IANA zone (default: configured, else UTC)")
    assess.add_argument("--patient", metavar="ID", help="which patient of several")
    assess.add_argument("--config", type=Path, metavar="FILE", help="time zone, overlay and switches of a site")
    assess.add_argument("--json", action="store_true", help="the public JSON (docs/evaluate.md)")
    assess.set_defaults(run=_evaluate)

    clients.register(commands)
    doctor.register(commands)
    protocols.register(commands)
    stats.register(commands)
    purge.register(database.register(commands, address=_database), address=_database)
    decided = decisions.register(commands, address=_database)
    verification.register(decided, address=_database)
    export.register(decided)

    show = commands.add_parser("demo", help="the service, a FHIR sandbox with synthetic ICU patients, and a page")
    show.add_argument(
        "--port",
        type=_port,
        default=8080,
        help="port of the page (default 8080); service and operators take the next two",
    )
    show.add_argument("--fhir-url", metavar="URL", help="a real FHIR server instead of the embedded sandbox")
    show.set_defaults(run=lambda options: demo.run(port=options.port, fhir_url=options.fhir_url))

    openapi = commands.add_parser("openapi", help="print openapi.yaml")
    openapi.set_defaults(run=_openapi)
    return parser


def _port(text: str) -> int:
    """A port with two above it: the demo needs them for the service, and for operators."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) < 65534):
        raise argparse.ArgumentTypeError("a port is a number from 1 to 65533")
    return int(text)


def _workers(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 2 and 1 <= int(text) <= MOST_WORKERS):
        raise argparse.ArgumentTypeError(f"a number of processes is one from 1 to {MOST_WORKERS}")
    return int(text)


def _settings(options: argparse.Namespace) -> Settings:
    if options.config is None:
        settings = dev(
            host=options.host or "127.0.0.1",
            port=options.port or 8000,
            fhir_urls=options.fhir_url,
            timezone=options.timezone or "UTC",
        )
    elif options.fhir_url or options.timezone:
        raise SettingsError("--fhir-url and --timezone stand in the file when --config is given")
    else:
        settings = load(options.config)
    settings = bound(settings, host=options.host, port=options.port, workers=options.workers)
    return replace(
        settings,
        db=database_of(options.db, os.environ, otherwise=settings.db),
        silenced=settings.silenced | silenced_by(os.environ),
    )


def _database(options: argparse.Namespace) -> str:
    """The address that `--db`, the environment or the file of `--config` names."""
    configured = DEFAULT_DB if options.config is None else load(options.config).db
    return database_of(options.db, os.environ, otherwise=configured)


def _serve(options: argparse.Namespace) -> int:
    settings = _settings(options)
    where = address.shown(address.parsed(settings.db))
    check_workers(settings)
    ending = edge.Ending(settings.drain_seconds, settings.grace_seconds)
    if options.inherited is not None:
        return _serve_alone(settings, ending=ending, where=where, worker=workers.inherited(options.inherited))
    if settings.workers == 1:
        return _serve_alone(settings, ending=ending, where=where)
    logs.configure()
    try:
        listening = workers.bind(settings.host, port=settings.port)
    except workers.Unbound as error:
        raise SettingsError(
            f"{settings.host}, port {settings.port}: cannot be bound: {error.strerror}", key="service.port"
        ) from None
    _greet(settings, where=where)
    return workers.run(
        workers.again("app.cli", arguments=[*options.given, "--inherited"]),
        number=settings.workers,
        listening=listening,
        stop_seconds=ending.longest_seconds,
    )


def _serve_alone(settings: Settings, *, ending: edge.Ending, where: str, worker: workers.Worker | None = None) -> int:
    """In this process. A worker's operators have a port of their own, and its parent has said what is served."""
    logs.configure()
    if worker is not None:
        settings = replace(settings, admin=replace(settings.admin, port=settings.admin.port + worker.number))
    app = create_app(settings)
    if worker is None:
        _greet(settings, where=where)
    gc.collect()
    gc.freeze()  # what was loaded stays: looking through it again and again costs pauses of a tenth of a second

    def started() -> None:
        log.info("serving clients", extra={"host": settings.host, "port": settings.port})
        log.info("serving operators", extra={"host": settings.admin.host, "port": settings.admin.port})
        if worker is not None:
            worker.started()

    def draining() -> None:
        app.state.draining = True

    status = edge.run(
        edge.server(
            app,
            host=settings.host,
            port=settings.port,
            closed=app.state.metrics.ended,
            listening=() if worker is None else worker.listening,
        ),
        operators=edge.server(create_operators(app), host=settings.admin.host, port=settings.admin.port),
        ending=ending,
        draining=draining,
        started=started,
        alone=None if worker is None else worker.alone,
    )
    if app.state.failure is not None:
        raise app.state.failure
    return status


def _greet(settings: Settings, *, where: str) -> None:
    """Says on the terminal what is served, to whom, and where it is recorded: without a password."""
    print(_who(settings), file=sys.stderr)
    if settings.silenced:
        print(f"silenced: {', '.join(sorted(settings.silenced))}", file=sys.stderr)
    if settings.silent:
        print(f"silent, evaluated and recorded only: {', '.join(sorted(settings.silent))}", file=sys.stderr)
    if settings.snooze is not None:
        kinds = ", ".join(sorted(settings.snooze.kinds))
        print(f"snoozed for {settings.snooze.hours:g} h while nothing changes: {kinds}", file=sys.stderr)
    print(f"record: {where}", file=sys.stderr)
    print(f"CDS Hooks: http://{settings.host}:{settings.port}/cds-services", file=sys.stderr)
    several = "" if settings.workers == 1 else f" to {settings.admin.port + settings.workers - 1}, one a process"
    print(f"operators: http://{settings.admin.host}:{settings.admin.port}/{several}", file=sys.stderr)


def _who(settings: Settings) -> str:
    """Who is answered, in words for the terminal at the start."""
    if settings.clients:
        named = ", ".join(client.id for client in settings.clients)
        silent = [client.id for client in settings.clients if client.silent]
        return f"registered clients: {named}" + (f"; silent, nothing shown: {', '.join(silent)}" if silent else "")
    if settings.profile == "dev":
        bases = ", ".join(settings.bases) or "none: only prefetch is evaluated"
        return f"dev profile: open to any client on this machine, loopback only. FHIR bases: {bases}"
    return "allow_unauthenticated = true: ANYBODY who reaches this address is answered; no client is registered"


def _evaluate(options: argparse.Namespace) -> int:
    settings = None if options.config is None else _site(options.config)
    tenant = None if settings is None else settings.tenants[0]
    bedside = knowledge.load()
    known = bedside.library.knowledge
    ids = [*(p.id for p in known.protocols), known.follow_up.id]
    for name in options.protocol:
        if name not in ids:
            raise UsageError(f"--protocol: unknown id; known are {', '.join(ids)}")
    chosen = evaluate.Options(
        now=_now(options.now),
        zone=_zone(options.timezone) if options.timezone else ZoneInfo("UTC") if tenant is None else tenant.zone,
        overlay=Overlay() if tenant is None else tenant.overlay,
        suggest_on="pilot-simple" if settings is None else settings.suggest_on,
        protocols=options.protocol,
        patient=options.patient,
        silenced=_silenced(settings),
        published_at=None if settings is None else settings.published_at,
    )
    answer = evaluate.document(_read(options.bundle), bedside=bedside, options=chosen)
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode())
    else:
        print(evaluate.table(answer))
    return 0


def _site(path: Path) -> Settings:
    """The configuration as an input of `evaluate`, whose exit status 2 says that an input is not usable."""
    try:
        return load(path)
    except SettingsError as error:
        raise UsageError(str(error)) from None


def _silenced(settings: Settings | None) -> frozenset[str]:
    """What patient-view would not say; a wrong variable is an input of `evaluate`, too."""
    try:
        return silenced_by(os.environ) | (frozenset() if settings is None else settings.silenced)
    except SettingsError as error:
        raise UsageError(str(error)) from None


def _openapi(_: argparse.Namespace) -> int:
    print(document.as_yaml(document.openapi(create_app(dev(db=_NOWHERE)))), end="")
    return 0


def _read(name: str) -> bytes:
    if name == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"{name}: cannot be read: {error.strerror}") from None


def _now(text: str | None) -> datetime:
    if text is None:
        return datetime.now(UTC)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError("--now: not an ISO timestamp: write it like 2026-11-21T08:00:00+01:00") from None
    if moment.tzinfo is None:
        raise UsageError("--now: has no zone: write it like 2026-11-21T08:00:00+01:00")
    if not 1900 <= moment.year <= HORIZON.year:
        raise UsageError(f"--now: no year in which this could be evaluated: write one from 1900 to {HORIZON.year}")
    return moment.astimezone(UTC)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError("--timezone: not an IANA time zone: write it like Europe/Paris") from None


if __name__ == "__main__":
    sys.exit(main())
