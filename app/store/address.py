"""The address of the database: one of two kinds, its TLS, and how it is shown to people.

PostgreSQL's parameters in the address: `ssl` (or `sslmode`: disable, allow, prefer, require, verify-ca, verify-full),
`sslrootcert`, `sslcert`, `sslkey` (files), and `host`, `port` for a socket's directory or several servers.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from app.store.errors import BadDatabase, BadSchema, BadSpool

ADDRESS: Final = "write sqlite+aiosqlite:///file.db or postgresql+asyncpg://user@host/database"

_TLS: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_FILES: Final = ("sslrootcert", "sslcert", "sslkey")
_QUERY: Final = ("ssl", "sslmode", *_FILES, "host", "port")


def parsed(url: str) -> URL:
    """The address with its driver. Raises BadDatabase, whose message holds nothing of it."""
    try:
        made = make_url(url)
        driver = made.drivername
    except (ArgumentError, ValueError):  # a port that is no number is a ValueError
        raise BadDatabase(f"not a database address: {ADDRESS}") from None
    if driver in ("postgresql", "postgres"):
        made = made.set(drivername="postgresql+asyncpg")
    elif driver not in ("sqlite+aiosqlite", "postgresql+asyncpg"):
        raise BadDatabase(f"decisions are kept in SQLite or PostgreSQL: {ADDRESS}")
    if is_postgresql(made):
        _check_query(made)
        if not made.database:
            raise BadDatabase(f"the address names no database: {ADDRESS}")
    return made


def is_postgresql(url: URL) -> bool:
    return url.get_backend_name() == "postgresql"


def in_memory(url: URL) -> bool:
    """Whether it is SQLite without a file: each connection would have a database of its own."""
    return not is_postgresql(url) and (not url.database or url.database == ":memory:")


def file(url: URL) -> Path | None:
    """The file of a SQLite database; None for any other."""
    return None if is_postgresql(url) or in_memory(url) else Path(str(url.database))


def shown(url: URL) -> str:
    """For people: what kind of database, and where, without role and password."""
    if not is_postgresql(url):
        return "SQLite in memory" if in_memory(url) else f"SQLite, {url.database}"
    place = url.host or _words(url, "host") or "the local socket"
    return f"PostgreSQL, {place}{f':{url.port}' if url.port else ''}/{url.database}"


@contextmanager
def named(place: str) -> Iterator[None]:
    """Errors about the database say which one it is: `place`, as `shown` has it. Whoever says it first is right."""
    try:
        yield
    except BadSpool:  # names its own file
        raise
    except (BadDatabase, BadSchema) as error:
        error.place = error.place or place
        raise


def about(url: str) -> AbstractContextManager[None]:
    """The same for the database at that address. Raises BadDatabase for one that is none."""
    return named(shown(parsed(url)))


def is_open_line(url: URL) -> bool:
    """Whether patient data would cross a network without TLS, and the address does not say that this is meant
    (`ssl=disable`: the line is protected by other means)."""
    if not is_postgresql(url) or _tls(url) not in ("", "allow", "prefer"):
        return False
    hosts = [host for host in (url.host, *_words(url, "host").split(",")) if host]
    return any(not (host.startswith("/") or host == "localhost" or _is_loopback(host)) for host in hosts)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _words(url: URL, name: str) -> str:
    found = url.query.get(name, "")
    return found if isinstance(found, str) else ",".join(found)


def _tls(url: URL) -> str:
    return _words(url, "ssl") or _words(url, "sslmode")


def _check_query(url: URL) -> None:
    unknown = sorted(set(url.query) - set(_QUERY))
    if unknown:
        name = unknown[0] if unknown[0].isidentifier() and len(unknown[0]) < 40 else "one"
        raise BadDatabase(f"the database address has a parameter that is not known ({name}): {', '.join(_QUERY)}")
    if _tls(url) not in ("", *_TLS):
        raise BadDatabase(f"ssl in the database address: write one of {', '.join(_TLS)}")


def tls(url: URL) -> ssl.SSLContext | str | None:
    """What the driver is told about TLS; None leaves it to try TLS first."""
    mode = _tls(url)
    files = [name for name in _FILES if _words(url, name)]
    if not mode.startswith("verify-"):
        if files:
            raise BadDatabase(f"{files[0]} in the database address goes with ssl=verify-full or ssl=verify-ca")
        return mode or None
    try:
        context = ssl.create_default_context(cafile=_words(url, "sslrootcert") or None)
        context.check_hostname = mode == "verify-full"
        if _words(url, "sslcert"):
            context.load_cert_chain(_words(url, "sslcert"), _words(url, "sslkey") or None)
    except (OSError, ValueError):  # ssl.SSLError is an OSError
        raise BadDatabase(
            "sslrootcert, sslcert or sslkey in the database address: not a readable file of certificates or of a key"
        ) from None
    return context


def without_tls(url: URL) -> URL:
    """The address as the driver takes it, beside `tls`."""
    return url.difference_update_query(["ssl", "sslmode", *_FILES])
