"""Pages without an end, pages that go wrong on the way, and pages that lead elsewhere: bounded, and said to be a part.

Through the whole service and over real connections: what counts is that the answer says so. The shapes that the
gateway alone is tested with (a page that is its own next, circles, pages that grow) are beside its unit tests.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

from tests.integration.hospital import PATH, TOKEN, decision, hook
from tests.security.sockets import Received, http, watched
from tests.security.town import (
    PATIENT,
    UNHURRIED,
    Town,
    beyond,
    observation,
    open_profile,
    running,
    searchset,
    town,
    usual,
)

MIB: Final = 1024 * 1024
Page = Callable[[Town, str, int], bytes]
"""The answer to the nth request (from 1) of the search of that name."""


@dataclass(frozen=True, slots=True)
class Shape:
    """`why` is what each gap has to say; no search has more than `pages` requests, and none of them takes longer."""

    id: str
    page: Page
    why: str
    pages: int
    call_seconds: float = UNHURRIED.call_seconds


@dataclass(frozen=True, slots=True)
class Paged:
    """What became of a shape: searches, requests of the longest, whether each search is a gap, and what left."""

    searches: int
    requests: int
    flagged: bool
    beyond: tuple[str, ...]
    told: str

    def bounded(self, shape: Shape) -> bool:
        """Whether it ended where it had to."""
        return 0 < self.requests <= shape.pages


def _first(following: str) -> bytes:
    return http("200 OK", searchset(observation("first"), following=following))


def _link(search: str, number: int) -> str:
    """A page of a search, which its name tells from the other searches of a call."""
    return f"?s={search}&page={number}"


def _then(answer: Callable[[Town], bytes]) -> Page:
    """A first page that is as it should be, and then this."""
    return lambda there, search, number: _first(_link(search, 2)) if number == 1 else answer(there)


def _spelled(_: Town, search: str, number: int) -> bytes:
    """The same page under ever other spellings of its address."""
    return _first(f"?s={search}&{'&' * (number % 7)}page=%3{number % 10}{'%32' * number}")


def _many_links(there: Town, search: str, number: int) -> bytes:
    """A thousand next links, of which the first is as it should be and the others lead elsewhere."""
    links = [{"relation": "next", "url": _link(search, number + 1)}]
    links += [{"relation": "next", "url": f"http://{there.canary.authority}/{n}"} for n in range(1000)]
    return http("200 OK", searchset(observation("a"), link=links))


def _third_elsewhere(there: Town, search: str, number: int) -> bytes:
    return _first(_link(search, 2) if number == 1 else f"http://{there.canary.authority}/fhir?page=3")


def _another_type(_: Town, search: str, number: int) -> bytes:
    patient = {"resourceType": "Patient", "id": "canary-of-another"}
    return _first(_link(search, 2)) if number == 1 else http("200 OK", searchset(patient, observation("b")))


def _growing_totals(_: Town, search: str, number: int) -> bytes:
    """Totals that grow with each page, and an end before any of them."""
    following = _link(search, number + 1) if number < 4 else None
    return http("200 OK", searchset(observation(f"o{number}"), following=following, total=number * 1000))


@cache
def _bomb() -> bytes:
    return http("200 OK", gzip.compress(b" " * (64 * MIB), compresslevel=1), "Content-Encoding: gzip")


def _redirect(there: Town) -> bytes:
    return http("307 Temporary Redirect", b"", f"Location: http://{there.canary.authority}/fhir")


def _outcome(_: Town) -> bytes:
    issue = {"severity": "error", "code": "exception", "diagnostics": "the search has expired"}
    return http("200 OK", json.dumps({"resourceType": "OperationOutcome", "issue": [issue]}).encode())


def _broken_off(_: Town) -> bytes:
    """A head that promises more than comes; the connection stays open and silent."""
    return b'HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{"resourceType":"Bundle"'


SHAPES: Final = (
    Shape("ever other spellings of one address", _spelled, "more pages than are read", 20),
    Shape("a thousand next links a page, without an end", _many_links, "more pages than are read", 20),
    Shape("a third page elsewhere", _third_elsewhere, "next page lies on another server", 2),
    Shape("a second page that is a redirect", _then(_redirect), "refused (307)", 2),
    Shape("a second page of another type", _another_type, "another kind of record", 2),
    Shape("totals that are never reached", _growing_totals, "fewer records than announced", 4),
    Shape("a second page that is a bomb", _then(lambda _: _bomb()), "answer too large", 2),
    Shape("a second page of HTML", _then(lambda _: http("200 OK", b"<html>log in</html>")), "was not FHIR", 2),
    Shape("a second page that is an outcome", _then(_outcome), "the search failed", 2),
    Shape("a second page that breaks off", _then(_broken_off), "no answer in time", 2, call_seconds=1.0),
    Shape("a second page that is never ready", _then(lambda _: http("503 Busy", b"", "Retry-After: 0")), "(503)", 3),
)


async def paged(shape: Shape, *, folder: Path) -> Paged:
    """A call whose searches for Observations are all of that shape."""
    requests: list[int] = []

    def reply(request: Received) -> bytes:
        following = re.search(r"[?&]s=(\d+)&", request.target)
        if following is not None:
            search = int(following.group(1))
        elif request.path.startswith("/fhir/Observation"):  # by GET, or by POST where it is long
            search = len(requests)
            requests.append(0)
        else:
            return usual(request)
        requests[search] += 1
        return shape.page(there, str(search), requests[search])

    async with town(reply) as there:
        limits = replace(UNHURRIED, call_seconds=shape.call_seconds)
        settings = replace(open_profile().settings(there.base, folder), fhir=limits)
        with watched() as seen:
            async with running(settings) as client:
                answer = await client.post(PATH, json=hook(PATIENT, fhir=there.base, token=TOKEN))
        gaps = [gap["why"] for gap in decision(answer).get("gaps", []) if gap["source"] == "Observation"]
        flagged = len(gaps) == len(requests) > 0 and all(shape.why in why for why in gaps)
        told = "; ".join(sorted(set(gaps)))
        return Paged(len(requests), max(requests, default=0), flagged, beyond(there, seen), told)
