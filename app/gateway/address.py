"""Addresses of FHIR servers, compared as parsed and never used as sent.

URL parsers disagree about backslashes, user info, dot segments and percent signs, and each disagreement is a way to
make the service connect where it should not, with a token. So an address that holds any of these is no address here,
and what is connected to is always the configured string (knowledge: security 0.5, T1, T6).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urljoin, urlsplit

_LONGEST: Final = 8192
_VISIBLE: Final = re.compile(r"[\x21-\x7e]+")
_HOST: Final = re.compile(r"[a-z0-9]([a-z0-9.\-_]*[a-z0-9])?|[0-9a-f:.]*:[0-9a-f:.]*")
_PATH: Final = re.compile(r"(/[A-Za-z0-9\-._~!$&'()*+,;=:]+)*/?")
_PORTS: Final = {"http": 80, "https": 443}
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Base:
    """Scheme, host, port and path (without the last slash) of a FHIR server."""

    scheme: str
    host: str
    port: int
    path: str

    def __str__(self) -> str:
        return f"{self.origin}{self.path}"

    @property
    def origin(self) -> str:
        """The address up to the path, the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == _PORTS[self.scheme] else f":{self.port}")

    @property
    def loopback(self) -> bool:
        """True when the server runs on this machine."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """True for the names and addresses of this machine that need no look-up elsewhere."""
    return host in _LOOPBACK


def parse(url: str) -> Base:
    """A base address. Raises ValueError, with a text that does not hold the address."""
    base, query = _split(url)
    if query is not None:
        raise ValueError("a FHIR base address has no query")
    return base


def find(url: str, bases: tuple[str, ...]) -> str | None:
    """The configured base (as `str(parse(...))` writes it) that this address means, or None."""
    try:
        sent = str(parse(url))
    except ValueError:
        return None
    return sent if sent in bases else None


def page(link: str, *, base: str) -> str:
    """The address of a next page, rebuilt from the configured base. Raises ValueError when it leads elsewhere."""
    ours = parse(base)
    if not _VISIBLE.fullmatch(link):
        raise ValueError("not a plain address")  # urljoin would drop some of what is not visible
    if _is_relative(link):
        link = urljoin(f"{base}/", link)
    sent, query = _split(link)
    same = (sent.scheme, sent.host, sent.port) == (ours.scheme, ours.host, ours.port)
    if not same or not f"{sent.path}/".startswith(f"{ours.path}/"):
        raise ValueError("the link leaves the configured base")
    return f"{sent}" + ("" if query is None else f"?{query}")


def _is_relative(link: str) -> bool:
    return "//" not in link.partition("?")[0] and not re.match(r"[A-Za-z][A-Za-z0-9+.\-]*:", link)


def _split(url: str) -> tuple[Base, str | None]:
    if len(url) > _LONGEST or not _VISIBLE.fullmatch(url) or "\\" in url or "#" in url:
        raise ValueError("not a plain address")
    try:
        parts = urlsplit(url)
    except ValueError:  # whose text holds what is in the brackets
        raise ValueError("the address has no plain host name") from None
    scheme = parts.scheme.lower()
    if scheme not in _PORTS:
        raise ValueError("the address has to start with http:// or https://")
    if "@" in parts.netloc:
        raise ValueError("the address must not hold a user name or password")
    host = (parts.hostname or "").lower()
    # A name in brackets is one thing for some parsers and another for others; in them stands IPv6 and nothing else.
    if not _HOST.fullmatch(host) or parts.netloc.endswith(":") or ("[" in parts.netloc) != (":" in host):
        raise ValueError("the address has no plain host name")
    try:
        port = parts.port if parts.port is not None else _PORTS[scheme]
    except ValueError:  # whose text holds what stands there: of a password that holds a slash, its beginning
        raise ValueError("the port of the address is no number up to 65535") from None
    if not _PATH.fullmatch(parts.path) or any(part.partition(";")[0] in {".", ".."} for part in parts.path.split("/")):
        raise ValueError("the path of the address must be plain: no empty or dot segments, no percent signs")
    query = parts.query if "?" in url else None
    return Base(scheme, host, port, parts.path.rstrip("/")), query
