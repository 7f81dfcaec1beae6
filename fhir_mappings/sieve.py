"""What a FHIR server or an EHR sent, taken apart without reading it: a Bundle's entries as raw bytes with their type
and id, its `total`, its next page, and what its OperationOutcomes say.

Reading a whole Bundle into objects costs many times more than the few fields that the rules need; the raw bytes of
each resource go to the mapping of its family.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import msgspec

from fhir_mappings.errors import Unreadable

_DROPPED_CODES = frozenset({"incomplete", "suppressed", "too-costly", "timeout", "throttled", "limited-filter"})
_DROPPED_WORDS = re.compile(
    r"truncat|incomplete|partial|omitted|dropped|suppressed|not all (?:results|data|resources)|too many results"
    r"|results? (?:were |was |are |is )?limited|exceed\w* (?:the )?(?:limit|maximum)",
    re.IGNORECASE,
)


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One resource of a Bundle, or the single resource of the document (then `full_url` and `mode` are empty).

    `mode` is `search.mode`: `match`, `include`, `outcome` or ''.
    """

    raw: bytes
    resource_type: str
    id: str
    full_url: str = ""
    mode: str = ""

    def __repr__(self) -> str:
        """Without what it holds: it is a patient's."""
        return f"Entry({self.resource_type}, {len(self.raw)} bytes)"


@dataclass(frozen=True, slots=True)
class Page:
    """One document. `resource_type` is '' for `null`; OperationOutcomes are in `issues`, never in `entries`.

    `issues` are (severity, code, whether it says that results were left out).
    """

    resource_type: str
    entries: tuple[Entry, ...] = ()
    total: int | None = None
    next: str | None = None
    issues: tuple[tuple[str, str, bool], ...] = ()

    @property
    def matches(self) -> int:
        """Entries that `total` counts: all but included ones (reading 3.13)."""
        return sum(entry.mode in {"", "match"} for entry in self.entries)

    @property
    def failed(self) -> bool:
        """True when an OperationOutcome of severity error or fatal is among it."""
        return any(severity in {"error", "fatal"} for severity, _, _ in self.issues)

    @property
    def results_dropped(self) -> bool:
        """True when an information or warning says that results were left out (reading 3.13)."""
        return any(dropped for _, _, dropped in self.issues)


class _Head(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    resource_type: str = ""
    id: str = ""


class _Search(msgspec.Struct, frozen=True, gc=False):
    mode: str = ""


class _Entry(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    full_url: str = ""
    resource: msgspec.Raw = msgspec.Raw()
    search: _Search | None = None


class _Link(msgspec.Struct, frozen=True, gc=False):
    relation: str = ""
    url: str = ""


class _Bundle(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    resource_type: str = ""
    total: int | None = None
    link: tuple[_Link, ...] = ()
    entry: tuple[_Entry, ...] = ()


class _Details(msgspec.Struct, frozen=True, gc=False):
    text: str = ""


class _Issue(msgspec.Struct, frozen=True, gc=False):
    severity: str = ""
    code: str = ""
    diagnostics: str = ""
    details: _Details | None = None


class _Outcome(msgspec.Struct, frozen=True, gc=False):
    issue: tuple[_Issue, ...] = ()


_HEAD = msgspec.json.Decoder(_Head).decode
_BUNDLE = msgspec.json.Decoder(_Bundle).decode
_OUTCOME = msgspec.json.Decoder(_Outcome).decode
_UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeError)


def page(raw: bytes) -> Page:
    """Take one JSON document apart: a Bundle of any type, a single resource, an OperationOutcome, or `null`.

    Entries without a resource (deletions, transaction responses) and `null` resources are left out. Raises Unreadable
    when the bytes are not such a document.
    """
    if raw.strip() == b"null":
        return Page("")
    try:
        bundle = _as_bundle(raw)
        if bundle is not None:
            return _of_bundle(bundle)
        head = _HEAD(raw)
        if head.resource_type == "OperationOutcome":
            return Page("OperationOutcome", issues=_issues(raw))
    except _UNREADABLE:
        raise Unreadable("not the JSON of a FHIR resource or Bundle") from None
    if head.resource_type in {"", "Bundle"}:
        raise Unreadable("not the JSON of a FHIR resource or Bundle")
    return Page(head.resource_type, (Entry(raw, head.resource_type, head.id),))


def _as_bundle(raw: bytes) -> _Bundle | None:
    """One pass over the bytes in the commonest case; None when it is something else, or a Bundle of the wrong shape."""
    try:
        bundle = _BUNDLE(raw)
    except msgspec.ValidationError:
        return None
    return bundle if bundle.resource_type == "Bundle" else None


def _of_bundle(bundle: _Bundle) -> Page:
    entries: list[Entry] = []
    issues: list[tuple[str, str, bool]] = []
    for entry in bundle.entry:
        raw = bytes(entry.resource)
        if not raw or raw == b"null":
            continue
        head = _HEAD(raw)
        if head.resource_type == "OperationOutcome":
            issues.extend(_issues(raw))
            continue
        mode = "" if entry.search is None else entry.search.mode
        entries.append(Entry(raw, head.resource_type, head.id, entry.full_url, mode))
    following = next((link.url for link in bundle.link if link.relation == "next" and link.url), None)
    return Page("Bundle", tuple(entries), bundle.total, following, tuple(issues))


def _issues(raw: bytes) -> tuple[tuple[str, str, bool], ...]:
    return tuple((issue.severity, issue.code, _says_dropped(issue)) for issue in _OUTCOME(raw).issue)


def _says_dropped(issue: _Issue) -> bool:
    if issue.code in _DROPPED_CODES:
        return True
    details = "" if issue.details is None else issue.details.text
    return bool(_DROPPED_WORDS.search(f"{issue.diagnostics} {details}"))
