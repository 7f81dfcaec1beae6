"""Real requests, changed: on their tree, on their bytes, around them; every answer has to be one of ours (threat T16).

A request is made from its number alone, so that `python -m tests.security.mutations NUMBER` makes the failing one
again and prints it with its answer. Most changes are small, because what is broken everywhere is refused at the door
and reaches nothing behind it.
"""

from __future__ import annotations

import asyncio
import copy
import gzip
import json
import re
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any, Final

import httpx

from tests.contract import cds_hooks_oracle as oracle
from tests.contract.order_shapes import SELECT, SHAPES, SIGN, Json, Scene
from tests.figures import Figure, Figures
from tests.integration.hospital import FHIR, PATH, SERVICE, TOKEN, USER, Hospital, hook, opened

COUNTS: Final = {"small": 1_000, "full": 10_000, "huge": 1_000_000}
SEED: Final = "rescue-cds"
CANARY: Final = "canary5d9e"
"""Stands in many of the values that are put in; no refusal may repeat it."""

SECRETS: Final = (CANARY, TOKEN, USER.removeprefix("Practitioner/"))
GROWTH_MIB: Final = 50
LARGEST: Final = 2_000_000
"""Bytes of a body. What a larger one takes while it is read is no growth; the limit of 32 MiB has tests of its own."""

SECONDS: Final = 60.0
"""In which any answer has to come; one takes some hundredths of a second."""

A_HOSPITAL: Final = 10_000
"""Requests until the hospital gets a new database; its record of so many takes 300 MB."""

PATIENTS: Final = (
    "demo-full-protocol",
    "demo-us-units",
    "demo-neutropenia",
    "demo-day-16",
    "demo-just-intubated",
    "demo-ward",
    "demo-adolescent",
    "demo-kidney-transplant",
)
ENTRIES: Final = 6
"""Of each list of a prefetch, so many are kept: more of the same would only take longer."""

SERVICES: Final = {
    "patient-view": SERVICE,
    SELECT: "anakinra-ruxolitinib-order-select",
    SIGN: "anakinra-ruxolitinib-order-sign",
}

Place = tuple[str | int, ...]
"""Where a value stands in a tree: names and indices from its root."""


# --- the requests to begin with


@dataclass(frozen=True, slots=True)
class Seed:
    """A request as a client sends it, and every place of its body."""

    name: str
    path: str
    body: Json
    places: tuple[Place, ...] = field(repr=False)
    named: Mapping[str, tuple[Place, ...]] = field(repr=False)
    """The places by the last name on the way to them."""


def _seed(name: str, *, path: str, body: Json) -> Seed:
    plain = json.loads(json.dumps(body))
    places = tuple(_places(plain, ()))
    named: dict[str, list[Place]] = {}
    for place in places:
        named.setdefault(next((str(one) for one in reversed(place) if isinstance(one, str)), ""), []).append(place)
    return Seed(name, path, plain, places, {key: tuple(found) for key, found in named.items()})


def _places(value: Any, here: Place) -> Iterator[Place]:
    if here:
        yield here
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield from _places(inner, (*here, name))


def served(request: httpx.Request) -> httpx.Response | None:
    """What the FHIR server of some shapes has beside the charts."""
    found = _BESIDE.get(request.url.path.removeprefix("/fhir/"))
    return None if found is None else httpx.Response(200, json=found)


_BESIDE: Final = {name: one for shape in SHAPES for name, one in shape.answers.items()}


async def seeds_of(hospital: Hospital) -> tuple[Seed, ...]:
    """The shapes of order hooks, patient-view with and without prefetch and server, and feedback."""
    found: list[Seed] = []
    wanted = {("patient-view", patient) for patient in PATIENTS} | {(shape.hook, shape.patient) for shape in SHAPES}
    prefetches = {
        (name, patient): _short(await hospital.prefetched(patient, service=[*SERVICES].index(name)))
        for name, patient in sorted(wanted)
    }
    for patient in PATIENTS:
        sent = prefetches["patient-view", patient]
        for server in (None, FHIR) if patient in PATIENTS[:2] else (None,):
            body = hook(patient, fhir=server, prefetched=sent, hookInstance=f"mutation-{patient}")
            found.append(_seed(f"patient-view {patient}{' and a server' if server else ''}", path=PATH, body=body))
    bare = hook(PATIENTS[0], hookInstance="mutation-bare")
    found.append(_seed("patient-view without prefetch", path=PATH, body=bare))
    for shape in SHAPES:
        scene = Scene(shape.patient, prefetches[shape.hook, shape.patient], FHIR)
        body = {**shape.build(scene), "hookInstance": "mutation-order"}
        found.append(_seed(shape.name, path=f"/cds-services/{SERVICES[shape.hook]}", body=body))
    for number, (name, service) in enumerate(SERVICES.items()):
        card, suggestion = (
            f"0c3151bd-1cbf-4d64-b04d-cd9187a4c6e{number}",
            f"5a3151bd-1cbf-4d64-b04d-cd9187a4c6e{number}",
        )
        for what, entries in _feedback(card, suggestion).items():
            path = f"/cds-services/{service}/feedback"
            found.append(_seed(f"feedback of {name}: {what}", path=path, body={"feedback": entries}))
    return tuple(found)


def _short(prefetched: Mapping[str, Any]) -> Json:
    kept: Json = copy.deepcopy(dict(prefetched))
    for value in kept.values():
        entries = value.get("entry") if isinstance(value, dict) else None
        if entries:
            value["entry"] = entries[:: max(1, len(entries) // ENTRIES)][:ENTRIES]
            if "total" in value:
                value["total"] = len(value["entry"])
    return kept


def _feedback(card: str, suggestion: str) -> dict[str, list[Json]]:
    at = "2026-11-23T12:01:02Z"
    coding = {"code": "patient-contraindication", "system": "http://terminology.hl7.org/CodeSystem/x", "display": "no"}
    accepted = {
        "card": card,
        "outcome": "accepted",
        "acceptedSuggestions": [{"id": suggestion}],
        "outcomeTimestamp": at,
    }
    reason = {"reason": coding, "userComment": "the family does not want it"}
    overridden = {"card": card, "outcome": "overridden", "overrideReason": reason, "outcomeTimestamp": at}
    return {"accepted": [accepted], "overridden": [overridden], "a batch": [accepted, overridden] * 5}


# --- changes of the tree

_RAW: Final = re.compile(r'"\\ue000(\d+)\\ue000"|"\ue000(\d+)\ue000"')
_TWICE: Final = re.compile(r'"(?:\\ue001|\ue001)\d+(?:\\ue001|\ue001)')


class Tree:
    """The body under change. What no Python value stands for (1e999, a name twice) is written by a mark."""

    def __init__(self, seed: Seed, random: Random) -> None:
        self.seed, self.random = seed, random
        self.root: Any = dict(seed.body)
        self.raw: list[str] = []
        self.marks = 0

    def place(self, *names: str) -> Place:
        """Some place of the body; one of these names if there is any. Half of the time not far from the root."""
        known = [place for name in names for place in self.seed.named.get(name, ())]
        if known:
            return self.random.choice(known)
        if self.random.random() < 0.4:
            near = [place for place in self.seed.places[:2000] if len(place) <= 3]
            return self.random.choice(near)
        return self.random.choice(self.seed.places)

    def holder(self, place: Place) -> Any:
        """What holds the value at that place, copied on the way, so that the seed stays as it is. LookupError.

        What an earlier call gave is then no part of the body any more.
        """
        at = self.root
        for name in place[:-1]:
            _require(at, name)
            at[name] = copy.copy(at[name])
            at = at[name]
        _require(at, place[-1])
        return at

    def get(self, place: Place) -> Any:
        return self.holder(place)[place[-1]]

    def set(self, place: Place, value: Any) -> None:
        self.holder(place)[place[-1]] = value

    def literal(self, text: str) -> str:
        """A value that is written as this text."""
        self.raw.append(text)
        return f"\ue000{len(self.raw) - 1}\ue000"

    def written(self) -> bytes:
        plain = self.random.random() < 0.85
        indent = 1 if self.random.random() < 0.05 else None
        text = json.dumps(self.root, ensure_ascii=plain, indent=indent)
        if self.raw:
            text = _RAW.sub(lambda found: self.raw[int(found[1] or found[2])], text)
        if self.marks:
            text = _TWICE.sub('"', text)
        return text.encode("utf-8", "surrogatepass")[:LARGEST]


def _require(holder: Any, name: str | int) -> None:
    """Raises LookupError where a change before has taken that place away."""
    there = name in holder if isinstance(holder, dict) else isinstance(holder, list) and name in range(len(holder))
    if not there:
        raise LookupError(name)


Change = Callable[[Tree], None]
TREE: Final[dict[str, Change]] = {}


def _tree(change: Change) -> Change:
    TREE[change.__name__] = change
    return change


@_tree
def drop(tree: Tree) -> None:
    place = tree.place()
    del tree.holder(place)[place[-1]]


@_tree
def null(tree: Tree) -> None:
    tree.set(tree.place(), None)


@_tree
def twice(tree: Tree) -> None:
    """An item again, or a name again with the same or another value."""
    place = tree.place()
    holder = tree.holder(place)
    value = holder[place[-1]]
    if isinstance(holder, list):
        holder.insert(tree.random.randrange(len(holder) + 1), value)
        return
    tree.marks += 1
    other = value if tree.random.random() < 0.5 else tree.random.choice([None, CANARY, 7, {}, []])
    holder[f"\ue001{tree.marks}\ue001{place[-1]}"] = other


@_tree
def retyped(tree: Tree) -> None:
    place = tree.place()
    value = tree.get(place)
    other: Any = tree.random.choice(
        [str(value)[:200] + CANARY, [value], {"value": value}, True, False, 0, 17.5, "", [], {}, [[]], {"": CANARY}]
    )
    tree.set(place, other)


@_tree
def swapped(tree: Tree) -> None:
    first, second = tree.place(), tree.place()
    one, other = tree.get(first), tree.get(second)
    tree.set(first, other)
    if first != second[: len(first)] and second != first[: len(second)]:
        tree.set(second, one)


@_tree
def number(tree: Tree) -> None:
    literals = [
        "1e999",
        "-1e999",
        "NaN",
        "Infinity",
        "-Infinity",
        "9" * 64,
        "9" * 65,
        "0." + "3" * 60,
        "007",
        "+1",
        ".5",
    ]
    literals += ["1e-400", "1E+2", "-0", "1e64", "0x10", "1_000", "123456789012345678901234567890", "1e308", "-1e-308"]
    value: Any = tree.random.choice([-1, 0, 2**31, 2**63, -(2**63) - 1, 10**30, 0.1, 1e-9, 100, -273.15])
    if tree.random.random() < 0.6:
        value = tree.literal(tree.random.choice(literals))
    tree.set(tree.place("value", "frequency", "period", "total", "expires_in"), value)


@_tree
def deep(tree: Tree) -> None:
    depth = tree.random.choice([5, 40, 60, 64, 70, 500, 20_000])
    opening, closing = tree.random.choice([("[", "]"), ('{"a":', "}"), ('[{"extension":', "}]")])
    tree.set(tree.place(), tree.literal(opening * depth + "1" + closing * depth))


@_tree
def long(tree: Tree) -> None:
    length = tree.random.choice([300, 3000, 70_000, 500_000])
    tree.set(tree.place(), (CANARY + tree.random.choice(["x", " ", "é", "\\", '"', "<b>"]) * length)[:length])


@_tree
def odd_text(tree: Tree) -> None:
    odd = [
        *("\x00", "\x07\x1b[31m", "\ud800", "\udfff\ud800", "\u202e", "\u2066\u200b\ufeff", "\u0085\u2028", "\r\n\r\n"),
        *(
            "<script>alert(1)</script>",
            "[x](javascript:alert(1))",
            "{{7*7}}",
            "%s%n",
            "${jndi:ldap://h/a}",
            "'; drop--",
        ),
        *("\U0001f9ea" * 3, "e\u0301" * 50, "\ufdfa" * 20, "../../etc/passwd", "A\u030a", "\u0130\u0131", "\uffff"),
    ]
    place = tree.place("text", "display", "id", "code", "system", "status", "unit", "userComment")
    value = tree.get(place)
    text = value if isinstance(value, str) and tree.random.random() < 0.5 else CANARY
    at = tree.random.randrange(len(text) + 1)
    tree.set(place, text[:at] + tree.random.choice(odd) + text[at:])


@_tree
def other_type(tree: Tree) -> None:
    kinds = [
        "Patient",
        "Observation",
        "Bundle",
        "OperationOutcome",
        "MedicationRequest",
        "Parameters",
        CANARY,
        "",
        "patient",
    ]
    tree.set(tree.place("resourceType"), tree.random.choice(kinds))


@_tree
def other_patient(tree: Tree) -> None:
    ids = [*PATIENTS, CANARY, "", "*", "a,b", "..", "x" * 600, "demo-ward/_history/1"]
    id_ = tree.random.choice(ids)
    forms = [f"Patient/{id_}", f"https://elsewhere.example/fhir/Patient/{id_}", id_, f"urn:uuid:{id_}", f"#{id_}"]
    tree.set(tree.place("reference", "patientId", "patient"), tree.random.choice([*forms, f"Group/{id_}", None]))


@_tree
def other_date(tree: Tree) -> None:
    dates = ["0000-00-00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:60+14:00", "2026-02-30", "2026-13-01", "2026"]
    dates += [
        "2026-11-23T25:00:00Z",
        "2026-11-23T12:00:00",
        "23.11.2026",
        "1899-12-31",
        "2026-11-23T12:00:00.1234567890Z",
    ]
    dates += [
        "-2026-01-01",
        "2026-11-23T12:00:00+99:00",
        "10000-01-01",
        "20261123",
        "2026-W48-1",
        "2026-11-23T12:00-00:00",
    ]
    names = ("effectiveDateTime", "authoredOn", "start", "end", "birthDate", "recordedDate", "onsetDateTime", "issued")
    tree.set(tree.place(*names, "performedDateTime", "outcomeTimestamp"), tree.random.choice(dates))


@_tree
def reordered(tree: Tree) -> None:
    place = tree.place()
    value = tree.get(place)
    if isinstance(value, dict):
        tree.set(place, dict(tree.random.sample(list(value.items()), len(value))))
    elif isinstance(value, list):
        tree.set(place, tree.random.sample(value, len(value)))


@_tree
def unknown_member(tree: Tree) -> None:
    value = tree.holder(tree.place())
    if isinstance(value, dict):
        name = tree.random.choice(
            [CANARY, "", "_id", "resourceType ", "Hook", "__proto__", "\u202e", "modifierExtension"]
        )
        value[name] = tree.random.choice([CANARY, None, [], {"extension": [{"url": CANARY, "valueCode": "unknown"}]}])


@_tree
def renamed(tree: Tree) -> None:
    place = tree.place()
    holder = tree.holder(place)
    if isinstance(holder, dict):
        name = str(place[-1])
        others = [name.upper(), f" {name}", f"{name}s", f"_{name}", f"value{name.title()}", "valueString", "contained"]
        holder[tree.random.choice(others)] = holder.pop(place[-1])


@_tree
def other_unit(tree: Tree) -> None:
    units = [
        "mg",
        "g",
        "ug/L",
        "mmol/L",
        "mm[Hg]",
        "kPa",
        "%",
        "1",
        "10*9/L",
        "/mm3",
        "",
        CANARY,
        "mg/dL",
        "[IU]",
        "K",
        "h",
    ]
    tree.set(tree.place("unit", "periodUnit"), tree.random.choice(units))


@_tree
def other_code(tree: Tree) -> None:
    codes = [
        "2703-7",
        "76222-9",
        "active",
        "entered-in-error",
        "completed",
        "stopped",
        "draft",
        "72435",
        CANARY,
        "LA33-6",
    ]
    tree.set(tree.place("code", "status", "intent", "outcome", "verificationStatus"), tree.random.choice(codes))


@_tree
def many(tree: Tree) -> None:
    place = tree.place("entry", "coding", "dosageInstruction", "feedback", "contained", "category", "interpretation")
    holder = tree.holder(place)
    if isinstance(holder, list) and len(holder) < 50:
        item = holder[place[-1]]
        room = LARGEST // (4 * (len(json.dumps(item)) + sum(map(len, tree.raw)) + 1))
        holder.extend([item] * min(tree.random.choice([10, 100, 1200]), room))


@_tree
def comparator(tree: Tree) -> None:
    value = tree.holder(tree.place("value", "unit"))
    if isinstance(value, dict):
        value["comparator"] = tree.random.choice(["<", ">=", "ad", "~", CANARY, None, 5])


# --- changes of the bytes

Bytes = Callable[[bytes, Random], bytes]


def _cut(body: bytes, random: Random) -> bytes:
    return body[: random.randrange(len(body) + 1)]


def _flipped(body: bytes, random: Random) -> bytes:
    found = bytearray(body)
    for _ in range(random.choice([1, 1, 2, 10])):
        if found:
            found[random.randrange(len(found))] ^= 1 << random.randrange(8)
    return bytes(found)


def _spliced(body: bytes, random: Random) -> bytes:
    start, end = sorted(random.choices(range(len(body) + 1), k=2))
    piece = body[start : min(end, start + 2000)]
    at = random.randrange(len(body) + 1)
    return body[:at] + piece + body[at:] if random.random() < 0.5 else body[:start] + body[start + len(piece) :]


def _sown(body: bytes, random: Random) -> bytes:
    """Characters that mean something, in place of others or between them."""
    found = bytearray(body)
    for _ in range(random.choice([1, 2, 5])):
        at = random.randrange(len(found) + 1)
        found[at : at + random.randrange(2)] = random.choice(
            [b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\0", b"\xff", b"e"]
        )
    return bytes(found)


BYTES: Final[dict[str, Bytes]] = {
    "cut": _cut,
    "flipped": _flipped,
    "spliced": _spliced,
    "sown": _sown,
    "byte order mark": lambda body, _: b"\xef\xbb\xbf" + body,
    "UTF-16": lambda body, random: body.decode("utf-8", "replace").encode(
        random.choice(["utf-16", "utf-16-le", "utf-32"])
    ),
    "Latin-1": lambda body, _: body.decode("utf-8", "replace").replace("a", "ä", 3).encode("latin-1", "replace"),
    "gzip": lambda body, _: gzip.compress(body, 1, mtime=0),
    "a second document": lambda body, random: (
        body + random.choice([b"{}", b"\0", CANARY.encode(), b"\n\n", body[:100]])
    ),
    "padded": lambda body, random: b" \r\n\t" * random.choice([1, 1000]) + body + b"\n" * 100,
    "empty": lambda _, random: random.choice([b"", b" ", b"null", b"[]", b"{}", b'""', b"0", b"true", b"nul"]),
}


# --- changes around the body


@dataclass(slots=True)
class Request:
    """One request on its way; `steps` are the changes that made it. `hangs_up` after that many pieces of the body."""

    number: int
    seed: str
    method: str
    path: bytes
    body: bytes = field(repr=False)
    headers: list[tuple[bytes, bytes]]
    query: bytes = b""
    pieces: int = 1
    hangs_up: bool = False
    steps: list[str] = field(default_factory=list)

    @property
    def is_preflight(self) -> bool:
        names = {name for name, _ in self.headers}
        return self.method == "OPTIONS" and {b"origin", b"access-control-request-method"} <= names


Around = Callable[[Request, Random], None]


def _media(request: Request, random: Random) -> None:
    media = [
        b"text/plain",
        b"",
        b"application/fhir+json",
        b"application/json; charset=utf-16",
        b"\xff\xfe",
        b"a/b; " + CANARY.encode(),
    ]
    media += [
        b"application/x-www-form-urlencoded",
        b"multipart/form-data; boundary=x",
        b"APPLICATION/JSON",
        b"application/json, text/x",
    ]
    request.headers = [one for one in request.headers if one[0] != b"content-type"]
    if random.random() < 0.85:
        request.headers.append((b"content-type", random.choice(media)))


def _length(request: Request, random: Random) -> None:
    lies = [b"0", b"-1", b"9" * 30, b"33554433", b"abc", b"1e3", b"", b"\xb2", b"1, 2", CANARY.encode(), b"12"]
    request.headers += [(b"content-length", random.choice(lies)) for _ in range(random.choice([1, 1, 2]))]


def _encoding(request: Request, random: Random) -> None:
    names = [b"gzip", b"br", b"identity", b"gzip, identity", b"x-" + CANARY.encode(), b"", b"\xff"]
    request.headers.append(
        (random.choice([b"content-encoding", b"transfer-encoding", b"accept-encoding"]), random.choice(names))
    )


def _headers(request: Request, random: Random) -> None:
    count, length = random.choice([(1, 40_000), (300, 20), (2000, 40), (1, 8000), (50, 100)])
    name = random.choice([b"x-a", b"cookie", b"x-forwarded-for", b"accept-language", CANARY.encode()])
    request.headers += [(name, (CANARY.encode() + b"y" * length)[:length])] * count


def _odd_headers(request: Request, random: Random) -> None:
    canary = CANARY.encode()
    odd = [
        (b"authorization", b"Bearer " + canary),
        (b"authorization", b"Basic " + canary),
        (b"origin", b"https://" + canary + b".example"),
        (b"origin", b"null"),
        (b"origin", b"http://localhost:8080"),
        (b"access-control-request-method", b"POST"),
        (b"host", canary),
        (b"forwarded", b"for=" + canary),
        (b"x-http-method-override", b"DELETE"),
        (b"accept", b"text/html"),
        (b"accept", b"application/xml;q=" + canary),
        (b"traceparent", b"00-" + canary + b"-00"),
        (b"if-none-match", b"*"),
        (b"range", b"bytes=0-1,5-2,-9"),
        (b"expect", canary),
        (b"", b""),
        (b"x", b"\x00\xff"),
    ]
    request.headers += random.sample(odd, random.choice([1, 2, 4]))


def _method(request: Request, random: Random) -> None:
    methods = [
        "GET",
        "HEAD",
        "PUT",
        "DELETE",
        "PATCH",
        "OPTIONS",
        "TRACE",
        "PROPFIND",
        "post",
        CANARY.upper(),
        "QUERY",
        "",
    ]
    request.method = random.choice(methods)


def _path(request: Request, random: Random) -> None:
    path, canary = request.path, CANARY.encode()
    other = [
        path + b"/",
        path + b"//",
        b"/" + path,
        path + b"/feedback",
        path.replace(b"-", b"\xe2\x80\x90"),
        path.upper(),
    ]
    other += [b"/cds-services", b"/cds-services/", b"/", b"", b"/cds-services/" + canary, b"/cds-services/../" + canary]
    other += [
        path + b"%00",
        path + b";v=1",
        b"/cds-services/%2e%2e/x",
        b"/cds-services/" + b"a" * 9000,
        b"/stats",
        b"/openapi.json",
    ]
    other += [
        b"/docs",
        b"/metrics",
        b"/livez",
        b"/source-attributes",
        b"/cds-services/\xff\xfe",
        b"/cds-services/a\nb",
        b"*",
        b"http://h/x",
    ]
    request.path = random.choice(other)


def _query(request: Request, random: Random) -> None:
    queries = [
        b"x=" + CANARY.encode(),
        b"id=" + CANARY.encode(),
        b"a" * 5000,
        b"%",
        b"&&&==",
        b"\xff",
        b"hook=order-sign",
    ]
    request.query = random.choice(queries)


def _pieces(request: Request, random: Random) -> None:
    request.pieces = random.choice([2, 3, 50])
    request.hangs_up = random.random() < 0.3


AROUND: Final[dict[str, Around]] = {
    "media": _media,
    "length": _length,
    "encoding": _encoding,
    "headers": _headers,
    "odd headers": _odd_headers,
    "method": _method,
    "path": _path,
    "query": _query,
    "pieces": _pieces,
}


def request_of(number: int, seeds: tuple[Seed, ...]) -> Request:
    """The request of that number, always the same."""
    random = Random(f"{SEED} {number}")
    seed = random.choice(seeds)
    tree, steps = Tree(seed, random), []
    kind = random.random()
    count = random.choice([1, 1, 2, 3, 6]) if kind < 0.75 else 0
    for name in random.choices(list(TREE), k=count):
        try:
            TREE[name](tree)
        except LookupError:  # an earlier change took away what this one was for
            continue
        steps.append(name)
    body = tree.written()
    if 0.7 <= kind < 0.85:
        name = random.choice(list(BYTES))
        body = BYTES[name](body, random)
        steps.append(name)
    headers = [(b"host", b"127.0.0.1:8000"), (b"content-type", b"application/json")]
    request = Request(number, seed.name, "POST", seed.path.encode(), body, headers, steps=steps)
    if kind >= 0.85 or (0.65 <= kind < 0.7):
        for name in random.choices(list(AROUND), k=random.choice([1, 1, 2])):
            AROUND[name](request, random)
            steps.append(name)
    return request


# --- the answers


@dataclass(slots=True)
class Answer:
    """What came back."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)

    def header(self, name: bytes) -> bytes:
        return next((value for key, value in self.headers if key.lower() == name), b"")


async def asked(app: Any, request: Request) -> Answer:
    """The application's answer, asked as a server asks it. Raises whatever the application lets out."""
    size = max(1, -(-len(request.body) // request.pieces))
    sent = [request.body[at : at + size] for at in range(0, len(request.body), size)] or [b""]
    if request.hangs_up:
        sent = sent[:-1]
    given = 0

    async def receive() -> dict[str, Any]:
        nonlocal given
        given += 1
        if given > len(sent):
            return {"type": "http.disconnect"}
        more = given < len(sent) or request.hangs_up
        return {"type": "http.request", "body": sent[given - 1], "more_body": more}

    answer = Answer()

    async def send(message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            answer.status, answer.headers = message["status"], list(message.get("headers", ()))
        else:
            answer.body += message.get("body", b"")

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": request.path.decode("utf-8", "replace"),
        "raw_path": request.path,
        "query_string": request.query,
        "root_path": "",
        "headers": request.headers,
        "client": ("127.0.0.1", 4000),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }
    async with asyncio.timeout(SECONDS):
        await app(scope, receive, send)
    return answer


def complaints(request: Request, answer: Answer) -> list[str]:
    """What is wrong with the answer, in words; nothing where nothing is."""
    if not (200 <= answer.status < 300 or 400 <= answer.status < 500 or answer.status == 503):
        return [f"status {answer.status}"]
    body = bytes(answer.body)
    found = []
    if answer.status >= 400:
        said = body + b"".join(name + value for name, value in answer.headers)
        found += [f"the refusal repeats {secret}" for secret in SECRETS if secret.encode() in said]
    if request.is_preflight or (request.method == "HEAD" and not body) or (answer.status == 401 and not body):
        return found
    media = answer.header(b"content-type")
    if media.startswith(b"text/plain") and answer.status == 200 and request.method == "GET":
        return found
    if media != b"application/json":
        return [*found, f"content-type {media!r}"]
    try:
        said_json = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except ValueError:
        return [*found, "no JSON"]
    if not isinstance(said_json, dict):
        return [*found, "no object"]
    return found + _shape(request, answer.status, said_json, body)


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _shape(request: Request, status: int, said: Json, body: bytes) -> list[str]:
    if status >= 400:
        return oracle.outcome(body)
    if "cards" in said:
        extension = said.get("extension", {}).get("org.rescue-cds.decision", {})
        wrong = [] if extension.get("outcome") else ["an answer that does not say what it is"]
        return wrong + _hook(request, body)
    if "services" in said:
        return oracle.discovery(body)
    if request.method == "POST":
        return [] if said == {} and b"feedback" in request.path else ["neither cards nor the answer to feedback"]
    return [] if said else ["an empty answer"]


def _hook(request: Request, body: bytes) -> list[str]:
    """By the standard; an update or a delete is of a draft that was sent, as the last of two members says it."""
    if SERVICE.encode() in request.path:
        return oracle.response(body)
    sent = json.loads(request.body)
    context = sent["context"]
    patient = str(context.get("patientId") or sent.get("patient")).removeprefix("Patient/")
    bundle = context["draftOrders"]
    entries = bundle.get("entry") if isinstance(bundle, dict) else bundle
    drafts = [one.get("resource") for one in entries or () if isinstance(one, dict)]
    return oracle.order_response(body, patient=patient, drafts=drafts)


# --- the run


@dataclass(slots=True)
class Tally:
    """What a run has shown so far."""

    statuses: Counter[int] = field(default_factory=Counter)
    steps: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    bytes: int = 0


@asynccontextmanager
async def hospital() -> AsyncIterator[tuple[Hospital, Any]]:
    """A hospital with a database of its own, and its application."""
    with tempfile.TemporaryDirectory(prefix="rescue-cds-mutations-") as folder:
        async with opened(Path(folder), answers=served) as found:
            transport: Any = found.client._transport
            yield found, transport.app


async def tried(app: Any, numbers: range, *, seeds: tuple[Seed, ...], tally: Tally, stop_at: int = 20) -> None:
    """Sends the requests of these numbers, until so much is wrong."""
    for number in numbers:
        request = request_of(number, seeds)
        try:
            answer = await asked(app, request)
            wrong = complaints(request, answer)
        except Exception as error:  # noqa: BLE001 - whatever comes out is what is looked for
            answer, wrong = Answer(), [f"{type(error).__name__} came out"]
        tally.statuses[answer.status] += 1
        tally.steps.update(request.steps)
        tally.bytes += len(request.body)
        if answer.status == 200 and (outcome := _OUTCOME.search(answer.body)):
            tally.outcomes[outcome[1].decode()] += 1
        tally.wrong += [f"{number}: {one} ({request.seed}; {', '.join(request.steps)})" for one in wrong]
        if len(tally.wrong) >= stop_at:
            return


_OUTCOME: Final = re.compile(rb'"outcome":"([a-z-]+)"')


async def run(*, size: str) -> Figures:
    """So many requests, one after the other, in one process."""
    total = COUNTS[size]
    warm = min(500, total // 5)
    tally = Tally()
    async with hospital() as (found, app):
        seeds = await seeds_of(found)
        await tried(app, range(warm), seeds=seeds, tally=tally)
    before, began = _peak_mib(), time.perf_counter()
    for start in range(warm, total, A_HOSPITAL):
        async with hospital() as (_, app):
            if not tally.wrong:
                await tried(app, range(start, min(total, start + A_HOSPITAL)), seeds=seeds, tally=tally)
    rate = (tally.statuses.total() - warm) / max(0.001, time.perf_counter() - began)
    grown = _peak_mib() - before
    good, sent = tally.statuses[200], tally.statuses.total()
    statuses = ", ".join(f"{count} x {status}" for status, count in sorted(tally.statuses.items()))
    changes = {*TREE, *BYTES, *AROUND}
    return Figures(
        "mutated requests through the application",
        (
            Figure("requests sent", f"{sent} of {total}, {rate:.0f} a second", sent == total),
            Figure("answers that are wrong", "; ".join(tally.wrong[:5]) or "0", not tally.wrong),
            Figure("answers by status", statuses, not tally.statuses.keys() & {0, 500}),
            Figure(
                "reached the evaluation and were answered 200", f"{100 * good / max(1, sent):.0f} %", good > sent / 5
            ),
            Figure("outcomes among them", ", ".join(sorted(tally.outcomes)), len(tally.outcomes) >= 5),
            Figure("kinds of change", f"{len(tally.steps)} of {len(changes)}", changes <= tally.steps.keys()),
            Figure(f"growth of memory after {warm} requests", f"{grown:.0f} MiB", grown <= GROWTH_MIB),
        ),
    )


def _peak_mib() -> float:
    """The most memory that this process has had so far."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1024 * 1024 if sys.platform == "darwin" else 1024)


async def _show(number: int) -> None:
    async with hospital() as (found, app):
        request = request_of(number, await seeds_of(found))
        print(request)
        print(request.body[:4000].decode("utf-8", "replace"))
        answer = await asked(app, replace(request))
        print(answer.status, answer.headers)
        print(answer.body.decode("utf-8", "replace"))
        print(complaints(request, answer) or "nothing wrong")


if __name__ == "__main__":
    asyncio.run(_show(int(sys.argv[1])))
