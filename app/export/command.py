"""`rescue-cds decisions export`: the record as NDJSON, and into a FHIR repository (docs/export.md)."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from app import moments
from app.configuration import SettingsError
from app.export.elements import Json
from app.export.push import GaveUp, Push
from app.export.rows import Cursor, Window
from app.export.stream import MODELS, Entry, Stream
from app.gateway.feed import Feed
from app.report import printable
from app.settings import DATABASE, DEFAULT_DB, Settings, database_of, load
from app.store import address, readonly
from app.store.errors import StoreError

PARTIAL: Final = 1
UNUSABLE: Final = 2
GAVE_UP: Final = 3
INTERRUPTED: Final = 130

STDOUT: Final = "-"
REJECTED: Final = "export.rejected.ndjson"
_SPOKEN_SECONDS: Final = 2.0
_LARGEST_TOKEN: Final = 16 * 1024
_EPILOG: Final = f"""\
{moments.HOW}
exit status: 0 all of it; 1 all but what the repository refused, or what has no valid form; 2 the command line, the
configuration or the database cannot be used; 3 the repository took no more, go on as the last line says

What is written holds patient data: a new file is readable by its owner only. docs/export.md says what is in it.
"""


class Unusable(ValueError):
    """A command line, configuration or database that cannot be used. The message says the remedy."""


def register(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The sub-command of `decisions` and its options."""
    parser = subcommands.add_parser(
        "export",
        help="decisions, accepted suggestions and refusals as FHIR R4 resources",
        description="Writes the record as NDJSON, or sends it to a FHIR repository: AuditEvent, GuidanceResponse, "
        "RequestGroup, Provenance, Device. Reads only; beside a running service too. Ids are the same every time.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--db", metavar="URL", help=f"the database (default: {DATABASE}, else configured)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the configuration: its database and time zone")
    parser.add_argument("--since", metavar="WHEN", help="decisions from then on")
    parser.add_argument("--until", metavar="WHEN", help="decisions up to then")
    parser.add_argument("--after", default="", metavar="CURSOR", help="go on behind what an export before has printed")
    parser.add_argument("--tenant", default="", metavar="NAME", help="only this tenant; then no refusals")
    parser.add_argument("--only", default="", metavar="KIND,...", help=f"only these of {', '.join(MODELS)}")
    parser.add_argument("--no-profiles", action="store_true", help="claim none: for a repository that knows none")
    parser.add_argument("--out", metavar="FILE", help="where to (default: -, standard output, unless --push is given)")
    parser.add_argument("--force", action="store_true", help="overwrite files that are there")
    parser.add_argument("--push", metavar="URL", help="the base of a FHIR repository: PUT each resource there")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="holds the access token for --push")
    parser.add_argument(
        "--rejected",
        type=Path,
        default=Path(REJECTED),
        metavar="FILE",
        help=f"what --push refused (default {REJECTED})",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Export, and say on standard error how far it came."""
    try:
        return _run(options, now=datetime.now(UTC))
    except Unusable as error:
        _say(str(error))
        return UNUSABLE


def _run(options: argparse.Namespace, *, now: datetime) -> int:
    settings = None if options.config is None else _settings(options.config)
    window = _window(options, now=now, zone=_zone(settings, tenant=options.tenant))
    after, only = _cursor(options.after), _kinds(options.only)
    url = _database(options, settings)
    job = _Job(options, window=window, after=after, only=only)
    complete = False
    try:
        with address.about(url):
            asyncio.run(job.run(url))
        complete = True
    except StoreError as error:
        raise Unusable(str(error)) from None
    except GaveUp as error:
        _say(f"--push: {error}")
        return GAVE_UP
    except BrokenPipeError:  # whoever reads has enough
        return PARTIAL
    except OSError as error:
        raise Unusable(f"--out, --rejected: cannot be written: {error.strerror}") from None
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        job.end(complete=complete)
    return PARTIAL if job.unsaid or (job.push is not None and job.push.rejected) else 0


@dataclass(slots=True)
class _Job:
    """One export: what it reads, where it goes, how far it is."""

    options: argparse.Namespace
    window: Window
    after: Cursor
    only: frozenset[str]
    push: Push | None = None
    out: _Out | None = None
    rejected: _Out | None = None
    progress: _Progress | None = None
    unsaid: int = 0

    async def run(self, url: str) -> None:
        """Raises StoreError, GaveUp, OSError, Unusable."""
        engine = readonly.create(url)
        feed = None
        try:
            stream = Stream(
                engine, self.window, after=self.after, only=self.only, profiles=not self.options.no_profiles
            )
            total = await stream.total()  # before any file is made: a wrong address leaves nothing behind
            if self.options.push is not None:
                feed = _feed(self.options.push)
                token = _token(self.options.token_file)
                self.rejected = _Out(self.options.rejected, force=self.options.force, late=True)
                self.push = Push(feed, token, self._refused)
            if self.options.push is None or self.options.out is not None:
                self.out = _Out.to(self.options.out or STDOUT, force=self.options.force)
            self.progress = _Progress(total, started=time.monotonic())
            async for entry in stream.entries():
                await self._take(entry)
        finally:
            if feed is not None:
                await feed.aclose()
            await engine.dispose()

    async def _take(self, entry: Entry) -> None:
        for resource in entry.resources:
            if self.push is not None:
                await self.push.send(resource)
            if self.out is not None:
                self.out.write(resource)
        for kind in entry.unsaid:
            self.unsaid += 1
            _say(f"decision {printable(entry.decision) or 'none'}: no valid {kind} can be made of it: left out")
        if entry.after.at != self.after.at or entry.after.id != self.after.id:
            self._told(decisions=1, resources=len(entry.resources), entry=entry)
        else:
            self._told(decisions=0, resources=len(entry.resources), entry=entry)
        self.after = entry.after

    def _told(self, *, decisions: int, resources: int, entry: Entry) -> None:
        if self.progress is not None:
            self.progress.took(decisions=decisions, resources=resources, at=entry.after.at)

    def _refused(self, resource: Json, status: int) -> None:
        if self.rejected is not None:
            self.rejected.write(resource)
        _say(f"{resource['resourceType']}/{resource['id']}: refused ({status})")

    def end(self, *, complete: bool) -> None:
        """Close the files; a whole one gets its name. Say the counts, and where to go on."""
        for file in (self.out, self.rejected):
            if file is not None:
                file.close(complete=complete or file is self.rejected)
        if self.progress is None:
            return
        self.progress.say(last=True)
        if self.push is not None:
            push = self.push
            _say(f"{push.taken} taken, {push.rejected} refused, {push.again} tried again")
            if push.rejected:
                _say(f"{printable(str(self.options.rejected))}: what was refused")
        if self.out is not None and self.out.path is not None:
            what = "written" if complete else "broken off; what it holds is whole up to the cursor"
            _say(f"{printable(str(self.out.path if complete else self.out.part))}: {what}")
        if self.after != Cursor():
            _say(f"to go on: --after {self.after.text()}")
        elif not complete:
            _say("to go on: the same command again")


# --- where it goes ---------------------------------------------------------------------------------------------


class _Out:
    """NDJSON into a file that gets its name when it is whole, or onto standard output. Private: it is patient data."""

    def __init__(self, path: Path | None, *, force: bool = False, late: bool = False) -> None:
        """None is standard output. `late`: the file is made by the first line. Raises Unusable."""
        self.path = path
        self.part = None if path is None else path.with_name(f"{path.name}.part")
        self._file: BinaryIO | None = None
        for one in (self.path, self.part):
            if one is not None and one.exists() and not (force and one.is_file()):
                remedy = "name another, or say --force to overwrite it" if one.is_file() else "is no file: name another"
                raise Unusable(f"{printable(str(one))}: exists: {remedy}")
        if path is not None and not path.parent.is_dir():
            raise Unusable(f"{printable(str(path.parent))}: no such directory: make it first")
        if not late:
            self._file = self._open()

    @staticmethod
    def to(name: str, *, force: bool) -> _Out:
        return _Out(None if name == STDOUT else Path(name), force=force)

    def write(self, resource: Json) -> None:
        """One line. Raises OSError."""
        if self._file is None:
            self._file = self._open()
        self._file.write(msgspec.json.encode(resource) + b"\n")

    def close(self, *, complete: bool) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        if self.path is None or self.part is None:
            try:
                file.flush()
            except BrokenPipeError:  # what is left in the buffer must go somewhere, or the interpreter complains
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, file.fileno())
                os.close(nowhere)
            return
        file.flush()
        os.fsync(file.fileno())
        file.close()
        if complete:
            self.part.replace(self.path)

    def _open(self) -> BinaryIO:
        if self.part is None:
            return sys.stdout.buffer
        return os.fdopen(os.open(self.part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb")


def _feed(base: str) -> Feed:
    try:
        return Feed(base)
    except ValueError as error:
        raise Unusable(f"--push: {error}") from None


def _token(path: Path | None) -> Callable[[], str | None]:
    """Reads the file each time it is asked: a token is renewed while a long export runs."""
    if path is None:
        return lambda: None

    def read() -> str:
        try:
            with path.open("rb") as file:
                return file.read(_LARGEST_TOKEN).decode("ascii").strip()
        except (OSError, UnicodeDecodeError):
            raise Unusable(f"--token-file: {printable(str(path))}: holds no token that can be read") from None

    read()
    return read


# --- what is wanted --------------------------------------------------------------------------------------------


def _settings(path: Path) -> Settings:
    try:
        return load(path)
    except SettingsError as error:
        raise Unusable(str(error)) from None


def _database(options: argparse.Namespace, settings: Settings | None) -> str:
    try:
        return database_of(options.db, os.environ, otherwise=DEFAULT_DB if settings is None else settings.db)
    except StoreError as error:
        raise Unusable(str(error)) from None


def _zone(settings: Settings | None, *, tenant: str) -> tzinfo:
    """That of the tenant, or of all tenants where they share one."""
    if settings is None:
        return UTC
    zones = {one.zone for one in settings.tenants if tenant in ("", one.name)}
    return zones.pop() if len(zones) == 1 else UTC


def _window(options: argparse.Namespace, *, now: datetime, zone: tzinfo) -> Window:
    since = _moment(options.since, option="--since", now=now, zone=zone)
    until = _moment(options.until, option="--until", now=now, zone=zone)
    if since is not None and until is not None and since >= until:
        raise Unusable("--since: lies behind --until: nothing is between them")
    return Window(since, until, options.tenant)


def _moment(text: str | None, *, option: str, now: datetime, zone: tzinfo) -> datetime | None:
    if text is None:
        return None
    try:
        return moments.read(text, now=now, zone=zone, whole_day=option == "--until")
    except moments.BadMoment as error:
        raise Unusable(f"{option}: {error}") from None


def _cursor(text: str) -> Cursor:
    try:
        return Cursor.read(text) if text else Cursor()
    except ValueError:
        raise Unusable("--after: no cursor: copy the one that the export before has printed") from None


def _kinds(text: str) -> frozenset[str]:
    kinds = frozenset(filter(None, (one.strip() for one in text.split(","))))
    if not kinds <= MODELS.keys():
        raise Unusable(f"--only: one of them is no kind: write some of {', '.join(MODELS)}")
    return kinds


# --- what is said ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Progress:
    """Says every other second how many there are, how many a second, and how far in time."""

    total: int
    started: float
    decisions: int = 0
    resources: int = 0
    at: datetime | None = None
    spoke: float = field(default=0.0)

    def took(self, *, decisions: int, resources: int, at: datetime | None) -> None:
        self.decisions += decisions
        self.resources += resources
        self.at = at
        if time.monotonic() - max(self.spoke, self.started) >= _SPOKEN_SECONDS:
            self.say()

    def say(self, *, last: bool = False) -> None:
        self.spoke = time.monotonic()
        rate = self.resources / max(self.spoke - self.started, 0.001)
        where = "" if self.at is None or last else f", at {self.at.isoformat(timespec='seconds')}"
        _say(f"{self.decisions} of {self.total} decisions, {self.resources} resources, {rate:.0f} a second{where}")


def _say(line: str) -> None:
    with suppress(BrokenPipeError):
        sys.stderr.write(f"rescue-cds: {line}\n")
        sys.stderr.flush()
