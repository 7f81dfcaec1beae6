"""`rescue-cds clients`: look at the client registry, and add a client to it."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

from app.clients import Client, keys_in
from app.configuration import SettingsError
from app.gateway.door import Pool
from app.gateway.errors import GatewayError
from app.gateway.jwks import UrlSource
from app.names import SERVICES
from app.observe.terminal import show
from app.report import printable
from app.settings import Settings, load
from cds_hooks import trust

_EPILOG: Final = """\
exit status: 0 done, 1 the configuration cannot stand, 2 the command line or an answer is not usable

`check` reads everything that the service reads at its start and stops at the first thing that would stop it, with file,
line, key and remedy. With --fetch it also gets the keys of each jwks_url, from there and nowhere else.
`add` asks for what no option says, checks the whole file with the new block, and only then writes it at its end.
"""


class Unusable(ValueError):
    """A command line or an answer that cannot be used. The message says the remedy."""


@dataclass(frozen=True, slots=True)
class _Question:
    name: str
    asks: str
    default: str = ""
    optional: bool = False


_QUESTIONS: Final = (
    _Question("id", "A short name for the client, for records and statistics (letters, digits, . _ -)"),
    _Question("issuer", "Its issuer, exactly as in its tokens (`iss`)"),
    _Question("jwks_url", "The https address of its key set (empty: it gave you a file)", optional=True),
    _Question("jwks_file", "The file with its key set (JWKS), beside the configuration", optional=True),
    _Question("tenant", "For which tenants it may speak, with commas between"),
    _Question("audience", "Under which public address it calls this service", optional=True),
    _Question("origin", "Origins of its pages, where a browser calls, with commas between", optional=True),
    _Question("silent", "Begin silently: evaluated and recorded, nothing shown? (yes/no)", default="yes"),
)


_YES: Final = frozenset({"yes", "y", "true"})
_NO: Final = frozenset({"no", "n", "false"})


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The sub-command and its options."""
    parser = commands.add_parser(
        "clients",
        help="check the client registry, or add a client to it",
        description="Who may call the service, and how each proves it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    check = actions.add_parser("check", help="check the registry and print it")
    check.add_argument("--config", type=Path, required=True, metavar="FILE", help="the configuration")
    check.add_argument("--fetch", action="store_true", help="also get the keys of each jwks_url")
    check.set_defaults(run=_check)
    add = actions.add_parser("add", help="add a client: asks, checks, writes a commented block")
    add.add_argument("--config", type=Path, required=True, metavar="FILE", help="the configuration")
    add.add_argument("--dry-run", action="store_true", help="print the block and write nothing")
    for question in _QUESTIONS:
        add.add_argument(f"--{question.name.replace('_', '-')}", metavar="TEXT", help=question.asks)
    add.set_defaults(run=_add)


def _check(options: argparse.Namespace) -> int:
    """Raises SettingsError for a configuration that would not start."""
    settings = load(options.config)
    if not settings.clients:
        show(
            "no client is registered: everybody who reaches the service is answered.\n"
            f"Add one: rescue-cds clients add --config {options.config}"
        )
        return 0
    fetched = asyncio.run(_fetched(settings)) if options.fetch else {}
    show("\n\n".join(_record(client, settings, fetched=fetched.get(client.id)) for client in settings.clients))
    return 1 if any(isinstance(found, str) for found in fetched.values()) else 0


async def _fetched(settings: Settings) -> dict[str, Sequence[trust.PublicKey] | str]:
    """The keys of each client's address, or why there are none."""
    found: dict[str, Sequence[trust.PublicKey] | str] = {}
    for client in settings.clients:
        if client.jwks_url is None or client.jwks_file is not None:
            continue
        pool = Pool(1)
        try:
            keys = trust.keys_of(await UrlSource(client.jwks_url, transport=pool).read())
            usable = any(_is_usable(key, client, dev=settings.profile == "dev") for key in keys)
            found[client.id] = keys if usable else "holds no key that lets this client in: see algorithms"
        except GatewayError as error:
            found[client.id] = f"cannot be read ({error})"
        except ValueError as error:
            found[client.id] = str(error)
        finally:
            await pool.aclose()
    return found


def _record(client: Client, settings: Settings, *, fetched: Sequence[trust.PublicKey] | str | None) -> str:
    lines = [f"{client.id}", f"  issuer      {printable(client.issuer)}"]
    if client.jwks_file is not None:
        lines += [f"  keys        {client.jwks_file}", *_keys(keys_in(client.jwks_file), client)]
    else:
        lines.append(f"  keys        {client.jwks_url}" + (" (not fetched: --fetch)" if fetched is None else ""))
        if isinstance(fetched, str):
            lines.append(f"              {fetched}")
        elif fetched is not None:
            lines += _keys(fetched, client)
    lines.append(f"  algorithms  {', '.join(sorted(client.algorithms))}")
    lines += [f"  audience    {base}/cds-services/..." for base in client.audiences]
    for claim, name in client.tenants.items():
        lines.append(f"  tenant      {name}" + ("" if claim == name else f" (in its tokens: {printable(claim)})"))
        caller = settings.caller(client, tenant=name)
        lines += [f"    FHIR      {base}" for base in caller.tenant.bases] or ["    FHIR      none: prefetch only"]
    lines.append(f"  services    {'all' if client.services == set(SERVICES) else ', '.join(sorted(client.services))}")
    lines += [f"  page        {origin}" for origin in sorted(client.origins)]
    lines.append(f"  shown       {'nothing: silent' if client.silent else 'cards'}")
    lines.append(f"  no data     {'a card that says so' if client.not_evaluated_as == 'card' else '412'}")
    return "\n".join(lines)


def _is_usable(key: trust.PublicKey, client: Client, *, dev: bool) -> bool:
    """As the service sees it: published keys are taken in the dev profile only."""
    return (dev or not trust.is_published(key)) and any(trust.fits(key, algorithm=name) for name in client.algorithms)


def _keys(keys: Sequence[trust.PublicKey], client: Client) -> list[str]:
    lines = []
    for key in keys:
        usable = any(trust.fits(key, algorithm=name) for name in client.algorithms)
        note = "" if usable else "  (of no use with these algorithms)"
        note += "  (its private half is PUBLISHED)" if trust.is_published(key) else ""
        lines.append(f"              kid {printable(key.key_id or '(none)')}, {key.key_type}{note}")
    return lines


def _add(options: argparse.Namespace) -> int:
    """Raises Unusable, or SettingsError where the file would not stand with the new block."""
    path: Path = options.config
    try:
        before = _text(path)
    except OSError as error:
        raise Unusable(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Unusable(f"{path}: not UTF-8 text: save the file as UTF-8") from None
    answers: dict[str, str] = {}
    for question in _QUESTIONS:
        given = getattr(options, question.name)
        if question.name == "jwks_file" and answers["jwks_url"] and given is None:
            continue  # it is fetched
        answers[question.name] = _answer(question, given=given, read=sys.stdin, ask=_ask)
    block = _block(answers)
    after = before.rstrip("\r\n") + "\n\n" + block
    try:
        _checked(path, after)
        if options.dry_run:
            show(block)
            return 0
        if _text(path) != before:
            raise Unusable(f"{path}: has changed meanwhile: nothing was written, do it again")
        _replace(path, after)
    except OSError as error:
        raise Unusable(f"{path}: cannot be written: {error.strerror}") from None
    show(f"{path}: added {answers['id']}. Look at it: rescue-cds clients check --config {path}\nRestart the service.")
    return 0


def _text(path: Path) -> str:
    """With the ends of lines as they are."""
    return path.read_bytes().decode("utf-8")


def _ask(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _answer(question: _Question, *, given: str | None, read: TextIO, ask: Callable[[str], None]) -> str:
    if given is not None:
        return given.strip()
    if not read.isatty() and not question.default and not question.optional:
        raise Unusable(f"--{question.name.replace('_', '-')}: is missing, and there is no terminal to ask at")
    if not read.isatty():
        return question.default
    while True:
        ask(f"{question.asks}{f' [{question.default}]' if question.default else ''}: ")
        line = read.readline()
        if not line:
            raise Unusable("the answers ended early: nothing was written")
        if said := line.strip() or question.default:
            return said
        if question.optional:
            return ""


def _block(answers: dict[str, str]) -> str:
    """The commented block. TOML's basic strings are JSON's, so nothing that was typed can end one."""

    def text(value: str) -> str:
        return json.dumps(value, ensure_ascii=True).replace("\\/", "/")

    def listed(value: str) -> str:
        return "[" + ", ".join(text(part.strip()) for part in value.split(",") if part.strip()) + "]"

    if answers["silent"].lower() not in _YES | _NO:
        raise Unusable("--silent: yes or no: nothing was written")
    keys, file = answers["jwks_url"], answers.get("jwks_file", "")
    lines = ["[[clients]]", f"id = {text(answers['id'])}", f"issuer = {text(answers['issuer'])}"]
    if keys:
        fetched = "" if file else "fetched from here only; "
        lines.append(f"jwks_url = {text(keys)}  # {fetched}the one `jku` its tokens may name")
    if file or not keys:
        lines.append(f"jwks_file = {text(file)}  # its public keys; read again when it changes")
    lines.append('# algorithms = ["ES384", "RS384"]  # what it signs with')
    if answers.get("audience"):
        lines.append(f"audiences = {listed(answers['audience'])}  # the `aud` of its tokens begins with one of these")
    lines.append(f"tenants = {listed(answers['tenant'])}")
    lines.append("# fhir_bases = []  # fewer than all of its tenants'")
    lines.append("# services = []  # fewer than all")
    if answers.get("origin"):
        lines.append(f"cors_origins = {listed(answers['origin'])}")
    lines.append('# not_evaluated_as = "card"  # in place of 412, which many clients show as "all clear"')
    silent = answers["silent"].lower() in _YES
    lines.append(f"silent = {str(silent).lower()}  # true: evaluated and recorded, nothing shown to this client")
    lines.append("# [clients.tenant_claims]  # what its tokens call a tenant, if not by its name; after all other keys")
    return "\n".join(lines) + "\n"


def _checked(path: Path, text: str) -> None:
    """Loads the file as it would be, beside the one that is there. Raises SettingsError with the real file's name."""
    new = _beside(path, text)
    try:
        load(new)
    except SettingsError as error:
        raise SettingsError(f"nothing was written: {str(error).replace(str(new), str(path))}") from None
    finally:
        new.unlink()


def _replace(path: Path, text: str) -> None:
    """All of it or nothing, with the owner and the permissions that the file has; a link stays one. Raises OSError."""
    there = path.resolve()
    was = there.stat()
    new = _beside(there, text)
    try:
        made = new.stat()
        if (made.st_uid, made.st_gid) != (was.st_uid, was.st_gid):
            os.chown(new, was.st_uid, was.st_gid)
        new.chmod(was.st_mode & 0o777)
        new.replace(there)
    except BaseException:
        new.unlink()
        raise


def _beside(path: Path, text: str) -> Path:
    """A new file of that text in the same folder, on the disk. Raises OSError."""
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".new")
    try:
        with os.fdopen(number, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        Path(name).unlink()
        raise
    return Path(name)
