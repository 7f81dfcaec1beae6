"""Many patients at once, whose records share no word and no number, on servers that answer wrongly (threat T14).

Fifty synthetic patients, made of the demo's stories: every id and reference, every text, unit text and measured value
of one carries a word or a number that no other patient has. Hooks of all three services arrive interleaved, fifty at
once, from the server, from prefetch or from both, while sources fail, are slow, end early, or hold somebody else's
records. A foreign word or number in an answer, or in a row of the record, is a mix.

Two things are looked at besides. Where somebody else's records were sent, the answer has to say so. And an answer that
nothing disturbed has to be the one that the patient gets alone: this finds what a word and a number cannot.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sqlite3
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal
from unittest.mock import patch

import httpx

from app.gateway.fhir import Gateway
from app.main import create_app
from app.sandbox import patients
from app.sandbox.fhir import create_fhir
from app.settings import Tenant
from app.store import engine
from app.store.decisions import Store
from cds_hooks import prefetch
from tests.contract import order_shapes
from tests.figures import Figure, Figures
from tests.integration.hospital import (
    DECISION,
    FHIR,
    NOW,
    USER,
    decision,
    everybody,
    same_words,
    settings_for,
    shipped,
)

Json = dict[str, Any]
Gather = Literal["parallel", "scope-first"]

PATIENTS: Final = 50
AT_ONCE: Final = 50
SIZES: Final[Mapping[str, int]] = {"small": 1_000, "full": 10_000, "huge": 100_000}
HOOKS: Final = ("patient-view", "order-select", "order-sign")
GATHERS: Final[tuple[Gather, ...]] = ("parallel", "scope-first")
_PATIENCE: Final = 120.0
"""Seconds for a hook and for its record: what is looked for here is a mix, not how slow this machine is."""
_BATCH: Final = 1_000
"""Hooks after which the rows are looked at and removed: ten thousand with their facts are half a gigabyte."""
_TABLES: Final = ("decisions", "decision_facts", "decision_answers", "decision_cards", "snoozes")

_MARK: Final = re.compile(r"zq(\d\d)zq")
_NUMBER: Final = re.compile(r"\d+\.\d{4,}")
_TEXTS: Final = {"text", "display", "family", "given", "note"}
_MIXABLE: Final = (
    *("Observation", "Condition", "MedicationRequest", "MedicationAdministration", "MedicationStatement"),
    *("Procedure", "AllergyIntolerance"),
)


_CATALOGUE: Final = {"Medication", "Specimen"}


def mark(number: int) -> str:
    """The word of a patient: letters and digits only, so that nothing that escapes text changes it."""
    return f"zq{number:02}zq"


def patient_id(number: int) -> str:
    return f"mix-{mark(number)}"


# --- the patients -------------------------------------------------------------------------------------------


def _told(resource: Json, *, story: str, number: int) -> Any:
    """The resource of a story as this patient's own."""
    word = mark(number)
    tail = (101 + number * 11 + (number % 10 == 9)) / 100_000  # five decimals, another one for each patient

    def own(value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            found = {key: own(item, key) for key, item in value.items()}
            if isinstance(value.get("value"), int | float) and not isinstance(value["value"], bool):
                found["value"] = round(round(value["value"], 2) + tail, 5)
                if value.get("code") and "unit" in value:  # without a code the unit's text is all that says the unit
                    found["unit"] = f"{value['unit']} {word}"
            return found
        if isinstance(value, list):
            return [own(item, name) for item in value]
        if isinstance(value, str):
            value = value.replace(story, patient_id(number))
            return f"{value} {word}" if name in _TEXTS else value
        return value

    return own(resource)


@cache
def charts() -> tuple[tuple[Json, ...], ...]:
    """Every resource of every patient, by number."""
    stories = [story.patient_id for story in patients.STORIES]
    by_story: dict[str, list[Json]] = defaultdict(list)
    for resource in everybody(NOW):
        owners = [one for one in stories if resource["id"] == one or resource["id"].startswith(f"{one}-")]
        if owners:
            by_story[max(owners, key=len)].append(resource)
    return tuple(
        tuple(_told(one, story=stories[n % len(stories)], number=n) for one in by_story[stories[n % len(stories)]])
        for n in range(PATIENTS)
    )


@cache
def numbers() -> Mapping[str, frozenset[int]]:
    """A number as it is written -> whose it is."""
    found: dict[str, set[int]] = defaultdict(set)
    for number, chart in enumerate(charts()):
        for text in _NUMBER.findall(json.dumps(chart)):
            found[text].add(number)
    return {text: frozenset(whose) for text, whose in found.items()}


def foreign(text: str, *, number: int) -> list[str]:
    """The words and numbers of other patients in a text."""
    words = [match[0] for match in _MARK.finditer(text) if int(match[1]) != number]
    values = [one for one in _NUMBER.findall(text) if number not in numbers().get(one, {number})]
    return words + values


def own(text: str, *, number: int) -> int:
    """How many words and numbers of the patient a text holds: a search that finds nothing must have had something."""
    words = sum(int(match[1]) == number for match in _MARK.finditer(text))
    return words + sum(number in numbers().get(one, ()) for one in _NUMBER.findall(text))


# --- what goes wrong ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Trouble:
    """What happens to the resources of one type: `mixed` and `wrong` add, or put in place, those of `other`."""

    kind: Literal["fails", "slow", "ends-early", "mixed", "wrong"]
    type: str
    other: int = 0
    status: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Call:
    """One hook. `keys` of the prefetch are sent (None: no prefetch); `server` says whether the server may be read."""

    number: int
    patient: int
    hook: str
    server: bool
    keys: frozenset[str] | None
    troubles: tuple[Trouble, ...] = ()

    @property
    def token(self) -> str:
        return f"token-{self.number}"

    @property
    def undisturbed(self) -> bool:
        """Whether the answer can be compared with the one that the patient gets alone."""
        return all(trouble.kind == "slow" for trouble in self.troubles) and self.server is (self.keys is None)

    def trouble(self, resource_type: str) -> Trouble | None:
        return next((one for one in self.troubles if one.type == resource_type), None)


def calls(count: int, *, templates: Mapping[str, Mapping[str, str]], seed: int) -> Iterator[Call]:
    """The hooks of a run, always the same for the same seed."""
    chance = random.Random(seed)
    for number in range(count):
        hook = chance.choice(HOOKS)
        way = chance.choice(("server", "prefetch", "both"))
        keys = sorted(templates[hook])
        sent = None if way == "server" else keys if way == "prefetch" else chance.sample(keys, len(keys) // 2)
        who = chance.randrange(PATIENTS)
        yield Call(
            number,
            who,
            hook,
            server=way != "prefetch",
            keys=None if sent is None else frozenset(sent),
            troubles=tuple(_troubles(chance, who)),
        )


def _troubles(chance: random.Random, who: int) -> Iterator[Trouble]:
    others = [number for number in range(PATIENTS) if number != who]
    if chance.random() < 0.3:
        return
    if chance.random() < 0.06:
        yield Trouble("wrong", "Patient", other=chance.choice(others))
    for resource_type in chance.sample(_MIXABLE, 2):
        kind: Any = chance.choice(("fails", "slow", "ends-early", "mixed", "mixed"))
        status = chance.choice((403, 403, 404, 404, 404, 500)) if kind == "fails" else 0
        seconds = chance.uniform(0.001, 0.05) if kind == "slow" else 0.0
        yield Trouble(kind, resource_type, other=chance.choice(others), status=status, seconds=seconds)


def _mixed(bundle: Json, *, resource_type: str, other: int) -> Json | None:
    """The Bundle with up to three records of somebody else among its own; None where the other one has none."""
    theirs = [one for one in charts()[other] if one["resourceType"] == resource_type][:3]
    if not theirs:
        return None
    entries = [
        {"fullUrl": f"{FHIR}/{one['resourceType']}/{one['id']}", "resource": one, "search": {"mode": "match"}}
        for one in theirs
    ]
    own_entries = bundle.get("entry", [])
    middle = len(own_entries) // 2
    total = {"total": bundle["total"] + len(theirs)} if "total" in bundle else {}
    return {**bundle, **total, "entry": [*own_entries[:middle], *entries, *own_entries[middle:]]}


def _patient(number: int) -> Json:
    return next(one for one in charts()[number] if one["resourceType"] == "Patient")


class Ward(httpx.AsyncBaseTransport):
    """The FHIR server: the sandbox, each of its answers kept, and what goes wrong with it in this call.

    The token of a request says whose call it is: `crossed` counts requests that ask about another patient than it.
    `mixed` holds the numbers of the calls that got somebody else's records: the drugs and specimens that those name
    are looked up like the own ones, because whose they are is seen later.
    """

    def __init__(self) -> None:
        self._sandboxes = [_sandbox(chart) for chart in charts()]
        self._catalogue = _sandbox([one for chart in charts() for one in chart if one["resourceType"] in _CATALOGUE])
        self._kept: dict[tuple[str, bytes], tuple[int, bytes]] = {}
        self.calls: dict[str, Call] = {}
        self.mixed: set[int] = set()
        self.bundles = 0
        self.crossed = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/fhir")
        if path == "/metadata":
            return _fhir(*await self.chart(request, number=0))
        content = await request.aread()
        call = self.calls.get(request.headers.get("authorization", "").removeprefix("Bearer "))
        asked = {int(found[1]) for found in _MARK.finditer(f"{request.url} {content.decode()}")}
        resource_type = path.partition("/")[2].partition("/")[0]
        if call is not None and resource_type in _CATALOGUE and call.number in self.mixed:
            return _fhir(*await self.chart(request, number=None))
        if call is None or asked - {call.patient}:
            self.crossed += 1
            return httpx.Response(403)
        if request.url.params.get("page") == "gone":
            return httpx.Response(410)
        trouble = call.trouble(resource_type)
        if trouble is not None and trouble.kind == "slow":
            await asyncio.sleep(trouble.seconds)
        if trouble is not None and trouble.kind == "fails":
            return httpx.Response(trouble.status)
        status, body = await self.chart(request, number=call.patient)
        if trouble is None or status != 200 or trouble.kind == "slow":
            return _fhir(status, body)
        return _fhir(status, self._spoiled(body, trouble, call))

    async def chart(self, request: httpx.Request, *, number: int | None) -> tuple[int, bytes]:
        """What that patient's chart says, or everybody's drugs and specimens; the same for the same question, since
        the clock stands still."""
        key = (f"{number} {request.method} {request.url}", await request.aread())
        if key not in self._kept:
            inner = httpx.Request(
                request.method,
                request.url.copy_with(path=request.url.path.removeprefix("/fhir")),
                headers=request.headers,
                content=request.content,
            )
            sandbox = self._catalogue if number is None else self._sandboxes[number]
            answer = await sandbox.handle_async_request(inner)
            self._kept[key] = (answer.status_code, await answer.aread())
        return self._kept[key]

    def _spoiled(self, body: bytes, trouble: Trouble, call: Call) -> bytes:
        if trouble.kind == "wrong":
            self.mixed.add(call.number)
            return json.dumps(_patient(trouble.other)).encode()
        bundle = json.loads(body)
        if trouble.kind == "ends-early":
            half = bundle.get("entry", [])
            link = [{"relation": "next", "url": f"{FHIR}?page=gone"}]
            return json.dumps({**bundle, "entry": half[: len(half) // 2], "link": link}).encode()
        mixed = _mixed(bundle, resource_type=trouble.type, other=trouble.other)
        if mixed is None:
            return body
        self.mixed.add(call.number)
        self.bundles += 1
        return json.dumps(mixed).encode()


def _sandbox(chart: Sequence[Json]) -> httpx.ASGITransport:
    """A search costs as much as there are resources, so each patient has a server of its own behind the ward."""
    return httpx.ASGITransport(app=create_fhir(lambda _: chart, base_url=FHIR, clock=lambda: NOW, faults={}))


def _fhir(status: int, body: bytes) -> httpx.Response:
    return httpx.Response(status, content=body, headers={"content-type": "application/fhir+json"})


# --- the hooks ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Found:
    """What a run counted."""

    hooks: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    foreign: list[str] = field(default_factory=list)
    own: int = 0
    rows: int = 0
    mixed: int = 0
    unsaid: list[int] = field(default_factory=list)
    bundles: int = 0
    crossed: int = 0
    compared: int = 0
    different: list[int] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, other: Found) -> None:
        """Count the other's as well."""
        for name in ("hooks", "own", "rows", "mixed", "bundles", "crossed", "compared", "seconds"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("foreign", "unsaid", "different"):
            getattr(self, name).extend(getattr(other, name))
        self.statuses.update(other.statuses)
        self.outcomes.update(other.outcomes)


@dataclass(slots=True)
class Hospital:
    """The service before its ward. `sent` is every prefetch value by hook, patient and key."""

    client: httpx.AsyncClient
    ward: Ward
    database: Path
    templates: Mapping[str, Mapping[str, str]]
    sent: dict[tuple[str, int, str], bytes] = field(default_factory=dict)
    whose: dict[str, int] = field(default_factory=dict)
    """Decision id -> the patient that was asked about."""

    async def prefetched(self, hook: str, number: int, key: str) -> bytes:
        """What a client finds for that template, one page."""
        place = (hook, number, key)
        if place not in self.sent:
            path = prefetch.render(self.templates[hook][key], values={"context.patientId": patient_id(number)})
            _, body = await self.ward.chart(httpx.Request("GET", f"{FHIR}/{path}"), number=number)
            self.sent[place] = body
        return self.sent[place]

    async def body(self, call: Call) -> bytes:
        """The request; the prefetch is put in as it was found, or spoiled."""
        who = patient_id(call.patient)
        request: Json = {
            "hook": call.hook,
            "hookInstance": f"00000000-0000-4000-8000-{call.number:012}",
            "context": {"patientId": who, "userId": USER},
        }
        if call.hook != "patient-view":
            request["context"]["draftOrders"] = order_shapes.bundle(*_drafts(call.patient))
        if call.server:
            request["fhirServer"] = FHIR
            request["fhirAuthorization"] = {
                "access_token": call.token,
                "token_type": "Bearer",
                "expires_in": 300,
                "scope": "patient/*.read",
                "subject": "rescue-cds",
            }
        if call.keys is None:
            return json.dumps(request).encode()
        values = [b'"%s":%s' % (key.encode(), await self._value(call, key)) for key in sorted(call.keys)]
        return json.dumps(request).encode()[:-1] + b',"prefetch":{' + b",".join(values) + b"}}"

    async def _value(self, call: Call, key: str) -> bytes:
        found = await self.prefetched(call.hook, call.patient, key)
        resource_type = self.templates[call.hook][key].partition("?")[0].partition("/")[0]
        trouble = call.trouble(resource_type)
        if trouble is None or trouble.kind not in {"mixed", "wrong"}:
            return found
        if trouble.kind == "wrong":
            self.ward.mixed.add(call.number)
            return json.dumps(_patient(trouble.other)).encode()
        bundle = json.loads(found)
        if any(link.get("relation") == "next" for link in bundle.get("link", ())):
            return found  # not all of it, so the server's answer takes its place
        mixed = _mixed(bundle, resource_type=resource_type, other=trouble.other)
        if mixed is None:
            return found
        self.ward.mixed.add(call.number)
        self.ward.bundles += 1
        return json.dumps(mixed).encode()

    async def answer(self, call: Call) -> httpx.Response:
        """Send the call, and remember whose decision it made."""
        self.ward.calls[call.token] = call
        answer = await self.client.post(
            f"/cds-services/anakinra-ruxolitinib-{call.hook}",
            content=await self.body(call),
            headers={"content-type": "application/json"},
        )
        if answer.status_code == 200:
            self.whose[decision(answer)["id"]] = call.patient
        return answer

    def rows(self) -> Iterator[tuple[int | None, str]]:
        """Every row about a decision with the patient it is about, as text; they are removed afterwards."""
        with closing(sqlite3.connect(self.database)) as connection:
            for table in _TABLES:
                if table == "snoozes":
                    yield from ((None, repr(row)) for row in connection.execute("select * from snoozes"))
                    continue
                key = "id" if table == "decisions" else "decision_id"
                for id_, *cells in connection.execute(f"select {key}, * from {table}"):  # noqa: S608
                    texts = (cell.decode() if isinstance(cell, bytes) else str(cell) for cell in cells)
                    yield self.whose.get(id_), " ".join(texts)
            for table in reversed(_TABLES):
                connection.execute(f"delete from {table}")  # noqa: S608
            connection.commit()


def _drafts(number: int) -> list[Json]:
    """Orders that the service has something to say about, with the patient's word in each of their texts."""
    who, word = patient_id(number), mark(number)
    first = order_shapes.anakinra(who, 300 + number, id=f"draft-{word}-a", note=[{"text": f"as agreed {word}"}])
    second = order_shapes.ruxolitinib(who, 5, id=f"draft-{word}-r")
    for one in (first, second):
        one["medicationCodeableConcept"]["text"] += f" {word}"
        one["dosageInstruction"][0]["text"] = f"by mouth or under the skin {word}"
    return [first, second][: 1 + number % 2]


@asynccontextmanager
async def opened(folder: Path, *, gather: Gather) -> AsyncIterator[Hospital]:
    """The service with its doors open, reading the ward in that way."""
    settings = settings_for(folder / "decisions.db")
    tenants: Sequence[Tenant] = [replace(tenant, gather=gather) for tenant in settings.tenants]
    settings = replace(
        settings,
        deadline_seconds=_PATIENCE,
        tenants=tuple(tenants),
        hooks_at_once=2 * AT_ONCE,
        hooks_waiting=2 * AT_ONCE,
    )
    ward = Ward()
    with patch.object(engine, "_WAIT_SECONDS", _PATIENCE):
        store = Store(settings.db)
    app = create_app(settings, bedside=shipped(), gateway=Gateway(ward), store=store, clock=lambda: NOW)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client,
    ):
        services = app.state.service.descriptions
        templates = {service.hook: dict(service.prefetch) for service in services}
        yield Hospital(client, ward, folder / "decisions.db", templates)


async def interleaved(hospital: Hospital, asked: Iterable[Call], *, alone: int) -> Found:
    """Send the calls, fifty at once; `alone` bounds how many different ones are repeated alone and compared."""
    found = Found()
    begun = time.perf_counter()
    places = asyncio.Semaphore(AT_ONCE)
    undisturbed: dict[tuple[int, str, bool], tuple[Call, httpx.Response]] = {}

    async def among_others(call: Call) -> None:
        async with places:
            answer = await hospital.answer(call)
        _count(found, hospital, call, answer)
        if call.undisturbed and answer.status_code == 200:
            undisturbed[call.patient, call.hook, call.server] = (call, answer)

    waiting = list(asked)
    for start in range(0, len(waiting), _BATCH):
        await asyncio.gather(*map(among_others, waiting[start : start + _BATCH]))
        _look_at_rows(found, hospital)
    found.seconds = time.perf_counter() - begun
    for call, answer in list(undisturbed.values())[:alone]:
        found.compared += 1
        again = await hospital.answer(call)
        if again.status_code != 200 or same_words(again) != same_words(answer):
            found.different.append(call.number)
    _look_at_rows(found, hospital)
    found.bundles, found.crossed = hospital.ward.bundles, hospital.ward.crossed
    return found


def _count(found: Found, hospital: Hospital, call: Call, answer: httpx.Response) -> None:
    found.hooks += 1
    found.statuses[answer.status_code] += 1
    text = answer.text
    found.foreign += [f"hook {call.number}: {one}" for one in foreign(text, number=call.patient)]
    found.own += own(text, number=call.patient)
    if answer.status_code != 200:
        return
    told = answer.json()
    found.outcomes[told["extension"][DECISION]["outcome"]] += 1
    if call.number in hospital.ward.mixed:
        found.mixed += 1
        if not said(told, call=call, templates=hospital.templates[call.hook]):
            found.unsaid.append(call.number)


def said(told: Json, *, call: Call, templates: Mapping[str, str]) -> bool:
    """Whether an answer says that it was given somebody else's records, or that it never looked at them."""
    extension = told["extension"][DECISION]
    if extension["outcome"] == "identity-mismatch":
        return bool(told["cards"])
    gaps = extension.get("gaps", [])
    if any(gap["why"] == _left_out() for gap in gaps):
        return True
    # Scope first: what was not asked for is said to be so, and a prefetch of it was not looked at either.
    types = {trouble.type for trouble in call.troubles if trouble.kind == "mixed"}
    needs = {key for key, template in templates.items() if template.partition("?")[0] in types}
    return needs <= {gap.get("need") for gap in gaps if gap["why"] == "not asked for"} and bool(needs)


@cache
def _left_out() -> str:
    return shipped().plain.why("other-patient", {})


def _look_at_rows(found: Found, hospital: Hospital) -> None:
    for whose, text in hospital.rows():
        found.rows += 1
        if whose is None:
            found.foreign.append("a row that belongs to no answer")
        else:
            found.foreign += [f"row of patient {whose}: {one}" for one in foreign(text, number=whose)]


async def mixed_up(*, hooks: int, alone: int = 2 * PATIENTS, seed: int = 14) -> Found:
    """Half of the hooks for each way of reading."""
    found = Found()
    for offset, gather in enumerate(GATHERS):
        with tempfile.TemporaryDirectory() as folder:
            async with opened(Path(folder), gather=gather) as hospital:
                asked = calls(hooks // len(GATHERS), templates=hospital.templates, seed=seed + offset)
                found.add(await interleaved(hospital, asked, alone=alone))
    return found


async def run(*, size: str) -> Figures:
    """The figures of that size."""
    found = await mixed_up(hooks=SIZES[size], alone=2 * PATIENTS if size == "small" else 6 * PATIENTS)
    return Figures("Patients never mix (T14)", rows(found))


def rows(found: Found) -> tuple[Figure, ...]:
    """What was counted, and whether it is what it has to be."""
    answered = found.statuses[200]
    return (
        Figure("hooks, 50 at once, all three services", f"{found.hooks}", found.hooks > 0),
        Figure("of them answered", f"{answered}", answered == found.hooks),
        Figure("patients", f"{PATIENTS}", True),
        Figure("words and numbers of the own patient in answers", f"{found.own}", found.own > found.hooks),
        Figure("words and numbers of another patient in answers and rows", f"{len(found.foreign)}", not found.foreign),
        Figure("rows of the record looked at", f"{found.rows}", found.rows >= 3 * answered),
        Figure("Bundles sent with somebody else's records", f"{found.bundles}", found.bundles > 0),
        Figure("answers to hooks that were given such records", f"{found.mixed}", found.mixed > 0),
        Figure("of them that do not say so", f"{len(found.unsaid)}", not found.unsaid),
        Figure("reads about another patient than the token's", f"{found.crossed}", found.crossed == 0),
        Figure("undisturbed answers compared with the patient alone", f"{found.compared}", found.compared > 0),
        Figure("of them different", f"{len(found.different)}", not found.different),
        Figure("seconds", f"{found.seconds:.0f}", True),
    )
