"""`rescue-cds stats`: what to count, and where to put it."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Final

import msgspec

from app import knowledge, moments
from app.configuration import SettingsError
from app.observe.terminal import show
from app.report import printable
from app.settings import DATABASE, DEFAULT_DB, Settings, database_of, load
from app.stats import names, rows, sheets
from app.stats.page import page
from app.stats.summary import Query, Summary
from app.stats.table import table
from app.store import address
from app.store.errors import StoreError

INTERRUPTED: Final = 130

_SILENT_SECONDS: Final = 3.0
_EPILOG: Final = f"""\
{moments.HOW}
exit status: 0 done, 2 the command line, the configuration or the database cannot be used

Nothing is printed that names a patient or a user, or that anybody typed. docs/statistics.md says how to read it.
"""


class Unusable(ValueError):
    """A command line, configuration or database that cannot be used. The message says the remedy."""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The sub-command and its options."""
    parser = commands.add_parser(
        "stats",
        help="count what the service did: outcomes, verdicts, unknowns, cards, feedback, ages, latency",
        description="Counts the decisions on record, as tables, CSV, JSON or a page. Reads only, and no patient data.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--db", metavar="URL", help=f"the decision database (default: {DATABASE}, else configured, else {DEFAULT_DB})"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="the configuration: its database and time zone")
    parser.add_argument("--since", metavar="WHEN", help="count decisions from then on")
    parser.add_argument("--until", metavar="WHEN", help="count decisions up to then")
    parser.add_argument("--tenant", default="", metavar="NAME", help="only this tenant")
    parser.add_argument("--client", default="", metavar="ID", help="only this client")
    parser.add_argument("--service", default="", metavar="ID", help="only this service, by its id or its hook")
    parser.add_argument("--csv", type=Path, metavar="DIR", help="write each table as a CSV file into this directory")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write one page with tables and plots")
    parser.add_argument("--json", action="store_true", help="one JSON document in place of the tables")
    parser.add_argument("--force", action="store_true", help="overwrite files that are there")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Count, then write and print. Raises Unusable."""
    now = datetime.now(UTC)
    settings = None if options.config is None else _settings(options.config)
    zone = _zone(settings, tenant=options.tenant)
    written = _places(options)
    known = names.of(knowledge.load())
    query = _query(options, known=known, now=now, zone=zone)
    try:
        url = database_of(options.db, os.environ, otherwise=DEFAULT_DB if settings is None else settings.db)
        with address.about(url):
            summary = asyncio.run(rows.summary(url, query=query, names=known, zone=zone, progress=_Progress()))
    except StoreError as error:
        raise Unusable(str(error)) from None
    except KeyboardInterrupt:
        _say("rescue-cds: interrupted")
        return INTERRUPTED
    _write(_contents(options, summary=summary, now=now), force=options.force)
    if options.json:
        document = sheets.document(summary, now=now)
        show(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
    elif not written:
        show(table(summary, now=now))
    return 0


def _settings(path: Path) -> Settings:
    try:
        return load(path)
    except SettingsError as error:
        raise Unusable(str(error)) from None


def _zone(settings: Settings | None, *, tenant: str) -> tzinfo:
    """That of the tenant, or of all tenants where they share one."""
    if settings is None:
        return UTC
    zones = {one.zone for one in settings.tenants if tenant in ("", one.name)}
    return zones.pop() if len(zones) == 1 else UTC


def _query(options: argparse.Namespace, *, known: names.Names, now: datetime, zone: tzinfo) -> Query:
    query = Query(tenant=options.tenant, client=options.client, service=known.services(options.service))
    if options.since is not None:
        query = replace(query, since=_moment(options.since, option="--since", now=now, zone=zone))
    if options.until is not None:
        query = replace(query, until=_moment(options.until, option="--until", now=now, zone=zone, whole_day=True))
    if query.since is not None and query.until is not None and query.since >= query.until:
        raise Unusable("--since: lies behind --until: nothing is between them")
    return query


def _moment(text: str, *, option: str, now: datetime, zone: tzinfo, whole_day: bool = False) -> datetime:
    try:
        return moments.read(text, now=now, zone=zone, whole_day=whole_day)
    except moments.BadMoment as error:
        raise Unusable(f"{option}: {error}") from None


# --- files --------------------------------------------------------------------------------------------------


def _places(options: argparse.Namespace) -> list[Path]:
    """The files that will be written. Raises Unusable before anything is counted."""
    folder, html = options.csv, options.html
    found = [] if folder is None else [folder / name for name in sheets.names()]
    found += [] if html is None else [html]
    for path in found:
        if path.exists() and not (options.force and path.is_file()):
            remedy = "name another, or say --force to overwrite it" if path.is_file() else "is no file: name another"
            raise Unusable(f"{printable(str(path))}: exists: {remedy}")
    if html is not None and not html.parent.is_dir():
        raise Unusable(f"--html: {printable(str(html.parent))}: no such directory: make it first")
    return found


def _contents(options: argparse.Namespace, *, summary: Summary, now: datetime) -> dict[Path, str]:
    found = {} if options.csv is None else sheets.files(options.csv, summary=summary)
    return found if options.html is None else found | {options.html: page(summary, now=now)}


def _write(contents: dict[Path, str], *, force: bool) -> None:
    for path, text in contents.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w" if force else "x", encoding="utf-8", newline="") as file:
                file.write(text)
        except OSError as error:
            raise Unusable(f"{printable(str(path))}: cannot be written: {error.strerror}") from None
    for place in dict.fromkeys(path.parent if path.suffix == ".csv" else path for path in contents):
        _say(f"rescue-cds: {printable(str(place))}: written")


# --- what is said -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Progress:
    """Says how far it is, when it takes long."""

    spoke: float = 0.0

    def __call__(self, read: int) -> None:
        now = time.monotonic()
        self.spoke = self.spoke or now
        if now - self.spoke >= _SILENT_SECONDS:
            self.spoke = now
            _say(f"rescue-cds: {read} decisions read")


def _say(line: str) -> None:
    with suppress(BrokenPipeError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
