"""Canaries: values that are nowhere else, one for everything that must not get out, and the search for them.

A canary is made anew for each run, so that a file of an earlier run, or of the repository, is never taken for a leak.
It is found as it is written, in any case, and also as hexadecimal digits and inside base64 at each of its three
alignments: a leak is not less of one for being encoded.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

PATIENT: Final = (
    *("patient-id", "mrn", "family", "given", "maiden", "birth-date", "street", "city", "phone", "email"),
    *("note", "comment", "narrative", "performer", "code-text", "medication-text", "dosage-text", "resource-id"),
)
"""What a chart holds."""

REQUEST: Final = (
    *("hook-token", "scope", "subject", "user", "encounter", "hook-instance", "odd-instance", "draft-id"),
    *("draft-text", "draft-note", "draft-name", "prefetch-key", "member", "unknown-server", "query", "path", "header"),
    *("cookie", "user-agent", "media-type", "origin", "raw-body"),
)
"""What a client sends."""

FEEDBACK: Final = ("card-id", "suggestion-id", "reason-code", "reason-system", "reason-display", "user-comment")

CLIENT_TOKEN: Final = ("client-jwt", "jti", "sub", "issuer", "key-id", "bearer")

SERVER: Final = (
    *("diagnostics", "html", "location", "set-cookie", "etag", "next-link", "foreign-patient", "half-json"),
    *("token-error", "backend-token"),
)
"""What a FHIR server, or an authorisation server, answers."""

SECRETS: Final = ("backend-key", "fault", "full-disk")
"""What the service itself holds, or what a fault of its own may have in its text."""

NAMES: Final = (*PATIENT, *REQUEST, *FEEDBACK, *CLIENT_TOKEN, *SERVER, *SECRETS)

_TRIVIAL: Final = 8
"""Bytes below which a part of base64 could stand somewhere by chance."""


class Needles:
    """The canaries of one run."""

    def __init__(self) -> None:
        self._sign = f"cnry{secrets.token_hex(4)}"
        self._texts: dict[str, tuple[str, ...]] = {
            name: (f"{self._sign}{number:02d}{secrets.token_hex(4)}",) for number, name in enumerate(NAMES)
        }
        born = date(1955, 1, 1) + timedelta(days=secrets.randbelow(4000))
        del self._texts["birth-date"]
        self._more = {"birth-date": [born.isoformat(), born.strftime("%d.%m.%Y"), born.strftime("%Y%m%d")]}
        # All but those of `_more` begin alike: what does not hold that holds none of them.
        self._signs = _forms([self._sign])
        self._forms = {name: _forms(texts) for name, texts in self._texts.items()}
        self._forms_of_more = {name: _forms(texts) for name, texts in self._more.items()}

    def __getitem__(self, name: str) -> str:
        return self._texts[name][0] if name in self._texts else self._more[name][0]

    def add(self, name: str, *texts: str) -> None:
        """Further texts by which that canary would be known: of a key, its parts; of a token, its signature."""
        self._more.setdefault(name, []).extend(texts)
        self._forms_of_more[name] = _forms(self._more[name])

    def find(self, data: bytes | str) -> frozenset[str]:
        """The canaries that are in there."""
        raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else bytes(data)
        lowered = raw.lower()
        found = {name for name, forms in self._forms_of_more.items() if forms.within(raw, lowered)}
        if self._signs.within(raw, lowered):
            found |= {name for name, forms in self._forms.items() if forms.within(raw, lowered)}
        return frozenset(found)

    def where(self, value: object) -> Mapping[str, frozenset[str]]:
        """The canaries in a JSON value, by the place of the string that holds them; places in lists are `[]`."""
        found: dict[str, set[str]] = {}
        for place, text in _strings(value, ""):
            if names := self.find(text):
                found.setdefault(place, set()).update(names)
        return {place: frozenset(names) for place, names in found.items()}


@dataclass(frozen=True, slots=True)
class _Forms:
    """How some texts may stand in bytes: `plain` in any case, `exact` as they are."""

    plain: tuple[bytes, ...]
    exact: tuple[bytes, ...]

    def within(self, raw: bytes, lowered: bytes) -> bool:
        return any(form in lowered for form in self.plain) or any(form in raw for form in self.exact)


def _forms(texts: Sequence[str]) -> _Forms:
    plain = (text.lower().encode() for text in texts)
    hexadecimal = (text.encode().hex().encode() for text in texts)
    return _Forms((*plain, *hexadecimal), tuple(form for text in texts for form in _encoded(text)))


def _encoded(text: str) -> Iterator[bytes]:
    """Inside base64, at each alignment."""
    raw = text.encode()
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + raw).rstrip(b"=")
        # The first characters hold bits of what stands before, the last may hold bits of what follows.
        inner = whole[(8 * shift + 5) // 6 : (8 * (shift + len(raw))) // 6]
        if len(inner) >= _TRIVIAL:
            yield from {inner, inner.replace(b"+", b"-").replace(b"/", b"_")}


def _strings(value: object, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield f"{place} (key)", str(key)
            yield from _strings(item, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item, f"{place}[]")
    elif value is not None:
        yield place, str(value)
