"""`rescue-cds doctor`: its options, and what they have to be before anything is asked."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import stat
import sys
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from app import knowledge
from app.clinical.lasting import HORIZON
from app.configuration import SettingsError
from app.doctor.document import document
from app.doctor.draft import overlay
from app.doctor.examination import Case, examine
from app.doctor.findings import EXIT
from app.doctor.table import table
from app.gateway import address, door
from app.gateway.backend_services import is_shared
from app.observe.terminal import show
from app.protocols.fields import KnowledgeError
from app.report import printable
from app.settings import Settings, Tenant, load
from fhir_mappings.errors import BadCodebook

SAMPLE: Final = 5
MOST_PATIENTS: Final = 50
LONGEST_MINUTES: Final = 240
MINUTES: Final = 15
INTERRUPTED: Final = 130

_LONGEST_TOKEN: Final = 64 * 1024
_PATIENT_ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_EPILOG: Final = """\
exit status:
  0  ready: every input of pilot-simple and of the required safety set was found in a patient, every search worked,
     and all of them fit into a hook's time
  1  gaps
  2  the command line, a file or the configuration cannot be used
  3  unreachable: no search worked
  130  interrupted

Of a patient nothing is printed but the id that --patient named, and of each concept the newest value and its age.
docs/connect-your-fhir-server.md goes from here to a first card.
"""


class Unusable(ValueError):
    """A command line, file or configuration that cannot be used. The message says the remedy and holds no token."""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The sub-command and its options."""
    parser = commands.add_parser(
        "doctor",
        help="examine a FHIR server: what of what the rules need it has",
        description="Asks a FHIR server what the service would ask and says what was found, what was refused and why, "
        "which codes look worth mapping, and how long it took. Reads only.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--fhir-url", metavar="URL", help="the FHIR base; with --config one of its addresses")
    parser.add_argument("--config", type=Path, metavar="FILE", help="address, zone, overlay and credentials of a site")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="a file that holds an access token and no more")
    parser.add_argument("--patient", action="append", default=[], metavar="ID", help="whom to examine; repeatable")
    parser.add_argument(
        "--sample", type=_count, metavar="N", help=f"examine N patients that doctor chooses (default {SAMPLE})"
    )
    parser.add_argument("--timezone", metavar="ZONE", help="the facility's IANA zone (default: configured, else UTC)")
    parser.add_argument("--now", metavar="TIMESTAMP", help="ISO time with zone (default: the clock)")
    parser.add_argument(
        "--seconds", type=_seconds, default=20.0, metavar="S", help="longest that one search may take (default 20)"
    )
    parser.add_argument(
        "--minutes",
        type=_minutes,
        default=MINUTES,
        metavar="M",
        help=f"longest that the whole run may take (default {MINUTES}); who is left is listed as not examined",
    )
    parser.add_argument("--allow-http", action="store_true", help="http beyond this machine, which protects nothing")
    parser.add_argument("--json", action="store_true", help="one JSON document in place of the report")
    parser.add_argument(
        "--overlay-draft", type=Path, metavar="FILE", help="write the start of a site overlay; never overwrites"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Examine and print. Raises Unusable."""
    case = case_of(options)
    draft: Path | None = options.overlay_draft
    if draft is not None and not _is_new(draft):
        raise Unusable(f"--overlay-draft: {printable(str(draft))}: exists, or cannot be made: name a new file")
    try:
        bedside = knowledge.load()
        findings = asyncio.run(examine(case, bedside=bedside, progress=_progress))
    except (KnowledgeError, BadCodebook) as error:
        raise Unusable(str(error)) from None
    except KeyboardInterrupt:
        _progress("rescue-cds: interrupted")
        return INTERRUPTED
    answer = document(findings, texts=bedside.plain)
    shown = msgspec.json.format(msgspec.json.encode(answer), indent=2).decode() if options.json else table(answer)
    try:
        if draft is not None and not findings.inputs:
            _progress(f"rescue-cds: {draft}: not written, because nothing was seen")
        elif draft is not None:
            _write(draft, overlay(findings))
    finally:
        show(shown)
    return EXIT[findings.status]


def case_of(options: argparse.Namespace) -> Case:
    """What the options ask for. Raises Unusable."""
    settings = None if options.config is None else _settings(options.config)
    tenant = Tenant("doctor", (), ZoneInfo("UTC")) if settings is None else settings.tenants[0]
    if options.timezone:
        tenant = _at(tenant, options.timezone)
    base = _base(options.fhir_url, allow_http=options.allow_http, tenant=None if settings is None else tenant)
    patients = tuple(dict.fromkeys(_patient(text) for text in options.patient))
    if patients and options.sample is not None:
        raise Unusable("--patient and --sample: name patients, or let doctor choose")
    if len(patients) > MOST_PATIENTS:
        raise Unusable(f"--patient: at most {MOST_PATIENTS} at once")
    chosen = settings or Settings("dev", (tenant,))
    return Case(
        tenant=tenant,
        base=base,
        now=_now(options.now),
        token=None if options.token_file is None else _token(options.token_file),
        patients=patients,
        sample=options.sample or SAMPLE,
        seconds=options.seconds,
        total_seconds=options.minutes * 60.0,
        deadline_seconds=chosen.deadline_seconds,
        reads=chosen.reads_per_hook,
        limits=chosen.fhir,
    )


def _settings(path: Path) -> Settings:
    try:
        return load(path)
    except SettingsError as error:
        raise Unusable(str(error)) from None


def _base(url: str | None, *, allow_http: bool, tenant: Tenant | None) -> str:
    if tenant is not None:
        if url is None and len(tenant.bases) == 1:
            return tenant.bases[0]
        found = None if url is None else tenant.base_of(url)
        if found is None:
            raise Unusable("--fhir-url: name one of the addresses in fhir_bases of the configuration")
        return found
    if url is None:
        raise Unusable("--fhir-url: which FHIR server? Write its base, for example https://fhir.example.org/r4")
    try:
        base = address.parse(url)
    except ValueError as error:
        raise Unusable(f"--fhir-url: {error}") from None
    if base.scheme == "http" and not (allow_http or base.loopback):
        raise Unusable(
            "--fhir-url: http would send tokens and patient data unprotected: use https, or say --allow-http"
        )
    return str(base)


def _token(path: Path) -> str:
    """The token of a file, without the white space around it; never printed."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            raw = file.read(_LONGEST_TOKEN + 1)
    except OSError as error:
        raise Unusable(f"--token-file: {path}: cannot be read: {error.strerror}") from None
    token = raw.decode("ascii", "replace").strip()
    if len(raw) > _LONGEST_TOKEN or not door.is_token(token):
        raise Unusable(
            f"--token-file: {path}: holds no access token alone: write only the token, without 'Bearer' and quotes"
        )
    shared = hasattr(os, "geteuid") and is_shared(status.st_mode, owner=status.st_uid, reader=os.geteuid())
    if shared and stat.S_ISREG(status.st_mode):
        _progress(f"rescue-cds: {path}: other people on this machine can read the token: chmod 600")
    return token


def _patient(text: str) -> str:
    bare = text.removeprefix("Patient/")
    if not _PATIENT_ID.fullmatch(bare):
        raise Unusable("--patient: not a FHIR id: letters, digits, - and . only, at most 64")
    return bare


def _at(tenant: Tenant, zone: str) -> Tenant:
    try:
        found = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Unusable("--timezone: not an IANA time zone: write it like Europe/Paris") from None
    return replace(tenant, zone=found)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= MOST_PATIENTS):
        raise argparse.ArgumentTypeError(f"a number from 1 to {MOST_PATIENTS}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 600:
        raise argparse.ArgumentTypeError("seconds from 0.1 to 600")
    return seconds


def _minutes(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= LONGEST_MINUTES):
        raise argparse.ArgumentTypeError(f"minutes from 1 to {LONGEST_MINUTES}")
    return int(text)


def _now(text: str | None) -> datetime:
    if text is None:
        return datetime.now(UTC)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = datetime(1, 1, 1)  # noqa: DTZ001
    if moment.tzinfo is None or not 1900 <= moment.year <= HORIZON.year:
        raise Unusable("--now: write an ISO timestamp with its zone, like 2026-11-21T08:00:00+01:00")
    return moment.astimezone(UTC)


def _progress(line: str) -> None:
    with suppress(BrokenPipeError):  # nobody reads it any more; the report may still be wanted
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def _is_new(path: Path) -> bool:
    """Whether a file of this name could be made; not one that the system cannot even look for."""
    try:
        path.lstat()
    except FileNotFoundError:
        return path.parent.is_dir()
    except (OSError, ValueError):
        return False
    return False


def _write(path: Path, text: str) -> None:
    """The draft; `x` because a file that came meanwhile may be a signed one."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise Unusable(f"--overlay-draft: {path}: cannot be written: {error.strerror}") from None
    _progress(f"rescue-cds: {path}: written; nothing in it is in force before it is edited and signed")
