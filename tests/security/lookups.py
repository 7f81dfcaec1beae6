"""Addresses are keys into the configuration: what a caller or a server writes leads nowhere by itself.

Every value of corpus/addresses.toml goes the way it would go in a hospital: a `fhirServer` through the whole service, a
link and a redirect through the gateway with its own connections to a server on this machine. Beside it listens a canary
that nothing may ever reach, and the spy of `sockets` sees every connection and look-up of the process. With them: the
matrix of `one_origin`, the shapes of `paging`, and the addresses in our own cards.
"""

from __future__ import annotations

import json
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import httpx

from app.gateway.access import Access
from app.gateway.backend_services import BackendServices
from app.gateway.budget import Budget, Deadline
from app.gateway.errors import GatewayError
from app.gateway.fhir import Fetched, Gateway, Query
from app.sandbox.patients import STORIES
from tests.figures import Figure, Figures
from tests.integration.hospital import PATH, TOKEN, hook
from tests.security import one_origin, paging
from tests.security.one_origin import Case, Result
from tests.security.own_addresses import Shown, shown_addresses
from tests.security.paging import Paged, Shape
from tests.security.sockets import LOOPBACK, Received, http, watched
from tests.security.spied import spied
from tests.security.town import (
    DEADLINE,
    PATIENT,
    UNHURRIED,
    Profile,
    Town,
    beyond,
    bytes_on_disk,
    credentials,
    granted,
    observation,
    open_profile,
    readings,
    refusals,
    registered_profile,
    running,
    searchset,
    town,
    usual,
)

CORPUS: Final = Path(__file__).parent / "corpus" / "addresses.toml"
HOSTS: Final = (LOOPBACK, "localhost")
"""A base of numbers, which is never looked up, and one of letters, which is."""

ON_DISK: Final = "what is on the disk afterwards"

Kind = Literal["same", "fhir_server", "next", "answer"]
Where = Literal["capability statement", "first page", "second page", "access token"]
PLACES: Final[tuple[Where, ...]] = ("capability statement", "first page", "second page", "access token")

# --- the corpus --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hostile:
    """One value. `status` and `headers` are those of an answer; `followed`: its body is read as an answer's."""

    id: str
    tries: str = ""
    value: str = ""
    pad: int = 0
    status: str = ""
    headers: tuple[str, ...] = ()
    followed: str = ""


@cache
def corpus() -> Mapping[Kind, tuple[Hostile, ...]]:
    """All values by their kind."""
    with CORPUS.open("rb") as file:
        tables = tomllib.load(file)
    return {
        kind: tuple(Hostile(**(table | {"headers": tuple(table.get("headers", ()))})) for table in tables[kind])
        for kind in ("same", "fhir_server", "next", "answer")
    }


def filled(there: Town, hostile: Hostile) -> str:
    """The value in that town."""
    return there.filled(hostile.value) + "a" * hostile.pad


def answered(there: Town, hostile: Hostile, *, body: bytes) -> bytes:
    """The bytes of a hostile answer; a body only where it may be read."""
    kept = body if hostile.followed else b""
    return http(hostile.status, kept, *(there.filled(header) for header in hostile.headers))


# --- what became of a value --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tried:
    """One value and what became of it. `beyond`: what was asked of anything unconfigured, or reached the canary.

    `way`: the profile, the host of the configured base, and of an answer in place of what it was given.
    """

    kind: Kind
    id: str
    way: str
    refused: bool
    beyond: tuple[str, ...] = ()
    told: str = ""


async def fhir_servers(profile: Profile, *, host: str, folder: Path, values: Sequence[Hostile]) -> list[Tried]:
    """Each value as `fhirServer` of a call with a token, once without and once with a prefetch.

    Refused: the statuses are the profile's, and the record says that nothing was read. The last item stands for all:
    the token is nowhere on the disk, and where the profile keeps refusals, they are kept.
    """
    way = f"{profile.name}, {host}"
    found: list[Tried] = []
    async with town(usual, host=host) as there, running(profile.settings(there.base, folder)) as client:
        for hostile in values:
            there.fhir.requests.clear()
            before = len(readings(folder))
            with watched(files=frozenset({there.file})) as seen:
                bare, full = [
                    await _called(client, filled(there, hostile), prefetched=sent, headers=profile.headers(PATH))
                    for sent in (None, {"patient": {"resourceType": "Patient", "id": PATIENT}})
                ]
            statuses = bare.status_code in profile.refused and full.status_code in profile.evaluated
            read = [one for one in readings(folder)[before:] if one.get("access") != "none" or one.get("requests")]
            left = [*beyond(there, seen), *(f"asked {one.target}" for one in there.fhir.requests)]
            left += ["token in the answer"] if TOKEN in bare.text + full.text else []
            told = f"{bare.status_code} {full.status_code}"
            found.append(Tried("fhir_server", hostile.id, way, statuses and not read, tuple(left), told))
        kept = TOKEN.encode() not in bytes_on_disk(folder)
        noted = set(refusals(folder)) == ({"fhir-server"} if profile.noted else set())
        found.append(Tried("fhir_server", ON_DISK, way, kept and noted, (), f"kept {kept}, noted {noted}"))
    return found


async def _called(
    client: httpx.AsyncClient, server: str, *, prefetched: Mapping[str, Any] | None, headers: Mapping[str, str]
) -> httpx.Response:
    body = json.dumps(hook(PATIENT, fhir=server, prefetched=prefetched)).encode()
    return await client.post(PATH, content=body, headers={"content-type": "application/json"} | dict(headers))


async def same_servers(profile: Profile, *, host: str, folder: Path) -> list[Tried]:
    """Other spellings of the configured base: read by the hook's token, under the name that is configured."""
    found: list[Tried] = []
    async with town(usual, host=host) as there, running(profile.settings(there.base, folder)) as client:
        for hostile in corpus()["same"]:
            there.fhir.requests.clear()
            with watched() as seen:
                answer = await _called(client, filled(there, hostile), prefetched=None, headers=profile.headers(PATH))
            tokens = {one.header("authorization") for one in there.fhir.requests}
            names = {one.header("host") for one in there.fhir.requests}
            read = (answer.status_code, tokens, names) == (
                200,
                {f"Bearer {TOKEN}"},
                {f"{host}:{there.fhir.port}"},
            )
            found.append(Tried("same", hostile.id, f"{profile.name}, {host}", not read, beyond(there, seen)))
    return found


# --- links and redirects -----------------------------------------------------------------------------------

QUERY: Final = Query("Observation", params=(("patient", PATIENT),))


async def read(gateway: Gateway, base: str) -> Fetched:
    """One search by a hook's token."""
    return await gateway.fetch(QUERY, base=base, access=Access(TOKEN), budget=Budget(Deadline(DEADLINE)))


async def links(*, host: str, values: Sequence[Hostile]) -> list[Tried]:
    """Each value as the next page of a first one: what came counts, as a part."""
    found: list[Tried] = []
    following = ""

    def reply(_: Received) -> bytes:
        return http("200 OK", searchset(observation("first"), following=following))

    async with town(reply, host=host) as there, Gateway(limits=UNHURRIED) as gateway:
        for hostile in values:
            following = filled(there, hostile)
            there.fhir.requests.clear()
            with watched(files=frozenset({there.file})) as seen:
                fetched = await read(gateway, there.base)
            told = f"{fetched.outcome} {fetched.why}"
            refused = told == "partial foreign-next" and len(there.fhir.requests) == 1
            found.append(Tried("next", hostile.id, host, refused, beyond(there, seen), told))
    return found


async def answers(where: Where, *, host: str, values: Sequence[Hostile]) -> list[Tried]:
    """Each answer at that place: never more than one request for it, and nothing of it is believed but its body.

    A capability statement is asked for once by a gateway, so there each has one of its own.
    """
    found: list[Tried] = []
    now = values[0]

    def reply(request: Received) -> bytes:
        asked: Where = "second page" if "page=2" in request.target else "first page"
        if request.path.endswith("/metadata"):
            asked = "capability statement"
        if asked == where:
            return answered(there, now, body=searchset(observation("second")))
        following = "?page=2" if where == "second page" else None
        return http("200 OK", searchset(observation("first"), following=following))

    def tokens(_: Received) -> bytes:
        return answered(there, now, body=granted(OWN))

    async with town(reply, host=host, tokens=tokens) as there, Gateway(limits=UNHURRIED) as shared:
        for hostile in values:
            now = hostile
            there.fhir.requests.clear()
            there.tokens.requests.clear()
            with watched(files=frozenset({there.file})) as seen:
                async with nullcontext(shared) if where != PLACES[0] else Gateway(limits=UNHURRIED) as gateway:
                    asked, told = await _asked(gateway, there, where=where)
            requests = len(there.fhir.requests) + len(there.tokens.requests)
            wanted = _WHEN_READ[where] if hostile.followed else _WHEN_REFUSED[where]
            refused = told in wanted and requests == asked
            found.append(Tried("answer", hostile.id, f"{where}, {host}", refused, beyond(there, seen), told))
    return found


OWN: Final = "own-token"

_NOTHING_KNOWN: Final = frozenset({"everything offered"})
_WHEN_READ: Final[Mapping[Where, frozenset[str]]] = {
    "capability statement": _NOTHING_KNOWN,
    "first page": frozenset({"ok"}),
    "second page": frozenset({"ok"}),
    "access token": frozenset({OWN}),
}
_WHEN_REFUSED: Final[Mapping[Where, frozenset[str]]] = {
    "capability statement": _NOTHING_KNOWN,
    "first page": frozenset({"failed refused", "failed not-found"}),
    "second page": frozenset({"partial refused", "partial not-found"}),
    "access token": frozenset({"no token"}),
}


async def _asked(gateway: Gateway, there: Town, *, where: Where) -> tuple[int, str]:
    """How many requests that may take, and what came of it."""
    if where == "access token":
        return 1, await _token(gateway.backend(credentials(f"{there.tokens.origin}/token")))
    if where == "capability statement":
        known = await gateway.meet(there.base, seconds=DEADLINE)
        return 1, "everything offered" if known.offers("Observation") and known.offers("Basic") else "less offered"
    fetched = await read(gateway, there.base)
    return 2 if where == "second page" else 1, f"{fetched.outcome} {fetched.why}".strip()


async def _token(backend: BackendServices) -> str:
    try:
        return await backend.token(deadline=Deadline(DEADLINE))
    except GatewayError:
        return "no token"


# --- all of it ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Collected:
    """Everything that was tried, and what became of it."""

    tried: tuple[Tried, ...]
    matrix: Mapping[str, tuple[Case, Result]]
    pages: Mapping[str, tuple[Shape, Paged]]
    shown: Shown
    spied: Mapping[str, bool]

    def of(self, *kinds: Kind) -> tuple[Tried, ...]:
        """Those of these kinds."""
        return tuple(one for one in self.tried if one.kind in kinds)


async def collect(*, size: str) -> Collected:
    """Small: a quarter where the base is a name, and a third of the demo's patients. Full: all of it."""
    full = size != "small"
    values = corpus()
    tried: list[Tried] = []
    with tempfile.TemporaryDirectory() as folder:
        rooms = map(Path, (tempfile.mkdtemp(dir=folder) for _ in range(10_000)))
        for host in HOSTS:
            every = 1 if full or host == HOSTS[0] else 4
            for profile in (open_profile(), registered_profile()):
                if every == 1 or profile.name == "open":
                    some = values["fhir_server"][::every]
                    tried += await fhir_servers(profile, host=host, folder=next(rooms), values=some)
                    tried += await same_servers(profile, host=host, folder=next(rooms))
            tried += await links(host=host, values=values["next"])
            for where in PLACES:
                tried += await answers(where, host=host, values=values["answer"][::every])
        return Collected(
            tuple(tried),
            {case.id: (case, await case.run(next(rooms))) for case in one_origin.MATRIX},
            {shape.id: (shape, await paging.paged(shape, folder=next(rooms))) for shape in paging.SHAPES},
            await shown_addresses(STORIES if full else STORIES[::3], folder=next(rooms)),
            await spied(),
        )


def figures(found: Collected) -> Figures:
    """What was counted."""
    rows = [
        _refused("`fhirServer` values", found.of("fhir_server")),
        _refused("`next` links", found.of("next")),
        _refused("redirects and answers that lead elsewhere", found.of("answer")),
    ]

    def all_of(what: str, held: Sequence[bool], *, least: int = 1) -> None:
        rows.append(Figure(what, f"{sum(held)} of {len(held)}", all(held) and len(held) >= least))

    disk = [one for one in found.tried if one.id == ON_DISK]
    all_of("runs whose disk holds no token, and refusals where they are kept", [one.refused for one in disk])
    read = [not one.refused and not one.beyond for one in found.of("same")]
    all_of("control: other spellings of the configured base, read", read)
    all_of("control: ways to leave the machine, seen by the spy", list(found.spied.values()), least=10)
    left = [line for one in found.tried for line in one.beyond]
    left += [line for _, paged in found.pages.values() for line in paged.beyond]
    rows.append(Figure("connections, look-ups, files and bytes beyond what is configured", str(len(left)), not left))
    leaks = [line for _, result in found.matrix.values() for line in result.leaks]
    enough = len(found.matrix) >= 40
    rows.append(
        Figure("token to one origin: leaks", f"{len(leaks)} in {len(found.matrix)} cases", enough and not leaks)
    )
    arrived = [result.reached == case.reaches for case, result in found.matrix.values()]
    all_of("cases where the token arrives at its server exactly if it may", arrived)
    bounded = [paged.bounded(shape) and paged.flagged for shape, paged in found.pages.values()]
    all_of("hostile paging: shapes bounded, and said to be a part", bounded, least=8)
    telling, given = len(found.shown.telling), found.shown.addresses
    told = f"{telling} of {given}"
    rows.append(Figure("addresses given out that say something of a patient", told, given > 0 and not telling))
    return Figures("Addresses are looked up, not filtered", tuple(rows))


def _refused(what: str, tried: Sequence[Tried]) -> Figure:
    mine = [one for one in tried if one.id != ON_DISK]
    refused, ways, values = sum(one.refused for one in mine), {one.way for one in mine}, {one.id for one in mine}
    number = f"{len(values)} values in up to {len(ways)} ways: {refused} of {len(mine)} refused"
    return Figure(what, number, refused == len(mine) and len(values) >= 30)


async def run(*, size: str) -> Figures:
    """The figures of this area."""
    return figures(await collect(size=size))
