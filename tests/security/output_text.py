"""Text of records and requests stays text: every payload in every slot, on the cards of all three services.

Payloads are `corpus/payloads.toml`, slots are `slots.py`, renderers are `renderers.py`. What a card may hold is what
the same card holds with the word X in place of the payload: the same elements, no link, no script, no request. A
renderer that is not to be had is a figure that is not held. What each payload does where nothing neutralises it is
counted too, so that a renderer that sees nothing does not pass for a card that does nothing.
"""

from __future__ import annotations

import asyncio
import html
import json
import re
import tempfile
import tomllib
import unicodedata
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import httpx

from app.sandbox import patients
from app.sandbox.fhir import create_fhir
from tests import chromium, npm
from tests.figures import Figure, Figures
from tests.integration.hospital import FHIR, NOW, Hospital, opened
from tests.security import renderers
from tests.security.renderers import Elements
from tests.security.slots import SCENES, Call, Resource, Scene, concept, story

CORPUS = Path(__file__).parent / "corpus" / "payloads.toml"
HARMLESS = "X"
SUMMARY_LIMIT = 139
JOINER = "\u2060"
LEAST_CONTROL = 20
"""Of the payloads, so many have to work in every renderer where nothing neutralises them."""

SMALL_SHARE = 24
"""One payload in so many meets a scene in a small run; each scene begins with another one."""

EVIDENCE = "org.rescue-cds.evidence"
_DATA = frozenset({"original", "value", "unit", "reference", "draft", "about", "needs"})
"""Members of the extension that are no sentences: data as the record has it (docs/evaluate.md), and our own signs."""

_ADDRESS = re.compile(
    r"//[^\s|]*|www\.|[A-Za-z0-9+.\-_]+@|@[^\W_]|[A-Za-z][A-Za-z0-9+.\-]*:(?=[A-Za-z/\\])"
    r"|(?:javascript|data|vbscript|mailto|xmpp|file|tel|sms)\s*:|[^\W_]\.[^\W\d_]{2}|\d\.\d+\.\d+\.\d",
    re.IGNORECASE,
)
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")


@dataclass(frozen=True, slots=True)
class Payload:
    """One hostile text and what it tries."""

    id: str
    tries: str
    text: str


@cache
def payloads() -> tuple[Payload, ...]:
    """The corpus, in its order."""
    rows = tomllib.loads(CORPUS.read_text())["payload"]
    return tuple(Payload(r["id"], r["tries"], r["text"] if "text" in r else json.loads(r["json"])) for r in rows)


def meeting(scene: Scene, *, size: str) -> tuple[Payload, ...]:
    """The payloads that meet a scene: all of them, or in a small run a part that is another one for each scene."""
    everything = payloads()
    if size != "small":
        return everything
    return everything[SCENES.index(scene) % SMALL_SHARE :: SMALL_SHARE]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one call was answered."""

    status: int
    cards: tuple[dict[str, Any], ...]

    @property
    def details(self) -> tuple[str, ...]:
        return tuple(card.get("detail", "") for card in self.cards)


_HALVES = re.compile("[\ud800-\udfff]")
_HALF = re.compile(r"\\\\ud[89a-f][0-9a-f]{2}")
_STANDS_FOR = "\uf123"
"""For half a surrogate pair, which the sandbox's writer refuses to write; put back on the wire."""


class _Halves(httpx.ASGITransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await super().handle_async_request(request)
        content = (await answer.aread()).replace(_STANDS_FOR.encode(), b"\\ud800")
        kept = {name: value for name, value in answer.headers.items() if name != "content-length"}
        return httpx.Response(answer.status_code, content=content, headers=kept)


@dataclass(slots=True)
class Ward:
    """The service beside a FHIR server whose records are those of the call."""

    hospital: Hospital

    async def answer(self, call: Call) -> Answer:
        """Send it."""
        records = json.loads(_HALF.sub(_STANDS_FOR, json.dumps(call.records)))
        sandbox = create_fhir(records, base_url=FHIR, clock=lambda: NOW, faults=patients.faults())
        self.hospital.wire.inner = _Halves(app=sandbox)

        def served(request: httpx.Request) -> httpx.Response | None:
            special = call.served.get(request.url.path.removeprefix("/fhir/").partition("/")[0])
            if special is None:
                return None
            body = json.dumps(special[1]).encode()
            return httpx.Response(special[0], content=body, headers={"content-type": "application/fhir+json"})

        self.hospital.wire.answers = served
        answer = await self.hospital.post(call.body)
        return Answer(answer.status_code, tuple(answer.json()["cards"]) if answer.status_code == 200 else ())


@asynccontextmanager
async def ward() -> AsyncIterator[Ward]:
    """A service of its own, with its record in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        async with opened(Path(folder)) as hospital:
            yield Ward(hospital)


def filled(scene: Scene, text: str) -> Call:
    """The call with the same text in every slot."""
    return scene.call({slot.id: text for slot in scene.slots})


# --- texts of a card ------------------------------------------------------------------------------------------------


def plain_members(card: Mapping[str, Any]) -> Iterator[str]:
    """The members that the standard calls plain text, and what a person reads of an extension."""
    yield card["summary"]
    yield card["source"]["label"]
    for suggestion in card.get("suggestions", ()):
        yield suggestion["label"]
        yield from (action["description"] for action in suggestion["actions"])
    yield from (link["label"] for link in card.get("links", ()))
    yield from (reason["display"] for reason in card.get("overrideReasons", ()))


def sentences(value: Any, *, name: str = "") -> Iterator[str]:
    """The sentences of a card's extension, without what it carries as data."""
    if isinstance(value, str):
        if name not in _DATA:
            yield value
    elif isinstance(value, Mapping):
        for inner, member in value.items():
            yield from sentences(member, name=inner)
    elif isinstance(value, Sequence):
        for item in value:
            yield from sentences(item, name=name)


def shown(card: Mapping[str, Any]) -> str:
    """Everything of a card that clients show."""
    return "\n".join([card.get("detail", ""), *plain_members(card)])


def members(value: Any) -> Iterator[str]:
    """Every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for member in value.values():
            yield from members(member)
    elif isinstance(value, Sequence):
        for item in value:
            yield from members(item)


def trouble(cards: Sequence[Mapping[str, Any]], *, like: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is wrong with the texts themselves: a character, a length, an address that the harmless cards `like` these
    do not have."""
    own = {address for card in like for text in texts(card) for address in addresses(text)}
    found = []
    for card in cards:
        plain = [*plain_members(card), *sentences(card.get("extension", {}))]
        found += [f"angle bracket: {text}" for text in plain if set("<>") & set(text)]
        found += [f"link: {text}" for text in plain if "](" in text]
        if len(card["summary"]) > SUMMARY_LIMIT:
            found.append(f"long summary: {card['summary']}")
        everything = {name: member for name, member in card.items() if name != "suggestions"}
        found += [f"character: {text!r}" for text in (*plain, *members(everything)) if unclean(text)]
        found += [f"address: {one}" for text in texts(card) for one in addresses(text) if one not in own]
    return found


def texts(card: Mapping[str, Any]) -> list[str]:
    return [card.get("detail", ""), *plain_members(card), *sentences(card.get("extension", {}))]


@lru_cache(maxsize=100_000)
def unclean(text: str) -> str:
    """The characters that nobody sees or that turn the line, but for the joiner that breaks addresses and line ends."""
    if text.isascii() and text.isprintable():
        return ""
    allowed = {JOINER, "\n"}
    found = (c for c in text if c not in allowed and unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
    return "".join(found)


@lru_cache(maxsize=100_000)
def addresses(text: str) -> tuple[str, ...]:
    """What a finder of links takes for one after escapes and entities are decoded, as often as anybody decodes them."""
    found: list[str] = []
    decoded = text
    for _ in range(3):
        found += [match.group() for match in _ADDRESS.finditer(decoded)]
        decoded = html.unescape(_ESCAPE.sub(r"\1", decoded))
    return tuple(found)


# --- what is counted ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Met:
    """One payload met one scene.

    `like` are the details of the same cards with the harmless word, `wrong` is what is wrong with the texts. `broken`:
    what the server said could not be read, so that how much of a card there is depends on when the service gave up.
    """

    scene: Scene
    payload: Payload
    status: int
    details: tuple[str, ...]
    like: tuple[str, ...]
    wrong: tuple[str, ...]
    broken: bool = False

    @property
    def name(self) -> str:
        return f"{self.scene.id} / {self.payload.id}"


def compared(scene: Scene, payload: Payload, answer: Answer, *, like: Answer, broken: bool = False) -> Met:
    """What is kept of an answer: not all of it, since there are thousands."""
    wrong = tuple(trouble(answer.cards, like=like.cards))
    return Met(scene, payload, answer.status, answer.details, like.details, wrong, broken)


def is_uneven(one: Met) -> bool:
    """Another number of cards than with the harmless word."""
    return not one.broken and len(one.details) != len(one.like)


@dataclass(slots=True)
class Reached:
    """Whether each slot is shown, or not, as it says. `wrong` names those that are not."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


async def reach(place: Ward) -> Reached:
    """Fill every slot of every scene with a word of its own and look where the words come out."""
    found = Reached()
    seen: dict[str, str] = {}
    for scene in SCENES:
        marks = {slot.id: f"Zq{number:03}wk" for number, slot in enumerate(scene.slots)}
        answer = await place.answer(scene.call(marks))
        for slot in scene.slots:
            reaches = where(marks[slot.id], answer.cards)
            if not answer.cards or reaches != slot.reaches:
                found.wrong.append(f"{scene.id} / {slot.id}: {reaches} ({answer.status}, {len(answer.cards)} cards)")
            seen[slot.id] = reaches
    found.counts = Counter(seen.values())
    return found


def where(mark: str, cards: Iterable[Mapping[str, Any]]) -> str:
    """`text`: a client shows it; `sentence`: one of the extension has it; `data`: the extension has it; `nothing`."""
    cards = tuple(cards)
    if any(mark in shown(card) for card in cards):
        return "text"
    if any(mark in text for card in cards for text in sentences(card.get("extension", {}))):
        return "sentence"
    return "data" if any(mark in json.dumps(card.get("extension", {})) for card in cards) else "nothing"


async def meet(place: Ward, scene: Scene, chosen: Iterable[Payload]) -> list[Met]:
    """The scene with each of these payloads."""
    like = await place.answer(filled(scene, HARMLESS))
    return [
        await _broken(scene, payload)
        if _HALVES.search(payload.text)
        else compared(scene, payload, await place.answer(filled(scene, payload.text)), like=like)
        for payload in chosen
    ]


async def _broken(scene: Scene, payload: Payload) -> Met:
    """No server's JSON may hold half a surrogate pair, so what holds one is an answer that cannot be read, and is
    compared with another such answer. Each time by a service that has not yet given up on the server."""
    async with ward() as first, ward() as second:
        answer, like = [
            await place.answer(filled(scene, text)) for place, text in ((first, payload.text), (second, "\ud800"))
        ]
    return compared(scene, payload, answer, like=like, broken=True)


# --- nothing else of a record reaches a card, and nothing of the person ---------------------------------------------

MARK = "Zqmarkwk"
READ = frozenset(
    slot.id.partition(" (")[0] for scene in SCENES for slot in scene.slots if slot.reaches in {"text", "sentence"}
)
"""Paths of a record whose words a card may show, `Type.path`."""

SWEEP_SHARE = {"small": 97, "full": 7}
"""One path of the demo's records in so many is swept."""


def paths(resource: Resource) -> list[str]:
    """Where the resource has a text, a number or a yes or no: `code.coding.display`."""
    found: dict[str, None] = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, dict):
            for name, member in value.items():
                walk(member, f"{path}.{name}")
        elif isinstance(value, list):
            for item in value:
                walk(item, path)
        else:
            found[path] = None

    walk({name: member for name, member in resource.items() if name not in {"resourceType", "meta"}}, "")
    return [path.removeprefix(".") for path in found]


def marked(value: Any, path: str) -> Any:
    """The value with the mark in place of whatever stands at the path."""
    if isinstance(value, list):
        return [marked(item, path) for item in value]
    name, _, rest = path.partition(".")
    if not isinstance(value, dict) or name not in value:
        return value
    return value | {name: marked(value[name], rest) if rest else MARK}


def sweep(*, every: int = 1) -> list[tuple[str, str, str, str]]:
    """Patient, hook, type and path: all paths of all records of the demo, or one in so many."""
    found: dict[tuple[str, str, str, str], None] = {}
    for patient in patients.STORIES:
        for record in story(patient.patient_id):
            for path in paths(record):
                for hook in ("patient-view", "order-sign"):
                    found[patient.patient_id, hook, record["resourceType"], path] = None
    return [one for one in found if one[2:] != ("Patient", "id")][::every]


async def swept(place: Ward, patient_id: str, hook: str, resource_type: str, path: str) -> str:
    """What the mark reaches in place of that path of all records of the type."""
    made = _plainly(patient_id, hook)
    made.records = [
        marked(record, path) | ({"id": f"{MARK}-{number}"} if path == "id" else {})
        if record["resourceType"] == resource_type
        else record
        for number, record in enumerate(made.records)
    ]
    return where(MARK, (await place.answer(made)).cards)


def _plainly(patient_id: str, hook: str) -> Call:
    """A call about a patient of the demo with nothing changed; both drugs are drafted at the order hooks."""
    made = Scene("plain", patient_id, hook, ()).call({})
    if hook != "patient-view":
        made.draft("anakinra", medicationCodeableConcept=concept("atc", "L04AC03"))
        made.draft("ruxolitinib", medicationCodeableConcept=concept("atc", "L01EJ01"))
    return made


@dataclass(frozen=True, slots=True)
class Person:
    """A Patient's words about the person, in place of those of the demo."""

    family: str = "Zqfamily-Ozols"
    given: tuple[str, ...] = ("Zqgiven", "Zqsecond")
    text: str = "Zqtext Ozols"
    born: str = ""
    """Empty: as it is, since the age decides."""

    def put(self, patient: Resource) -> tuple[str, ...]:
        """Write it into the resource; the words that no card may hold."""
        own = [word for name in patient.get("name", ()) for word in (name["family"], *name["given"], name["text"])]
        patient["name"] = [*patient.get("name", ()), {"family": self.family, "given": [*self.given], "text": self.text}]
        patient["telecom"] = [
            {"system": "phone", "value": "+1-555-0148-Zqphone"},
            {"system": "email", "value": "zq@x.example"},
        ]
        patient["address"] = [
            {"text": "Zqhouse 12", "line": ["Zqstreet 12"], "city": "Zqcity", "postalCode": "Zq-4711"}
        ]
        patient["identifier"] = [{"system": "urn:example:mrn", "value": "Zqmrn-80417"}]
        said = [self.family, *self.given, self.text, patient["birthDate"], "+1-555-0148-Zqphone", "zq@x.example"]
        return (*own, *said, "Zqhouse 12", "Zqstreet 12", "Zqcity", "Zq-4711", "Zqmrn-80417")


PERSONS = (
    Person(),
    Person("<img src=x onerror=window.hit=1> Zqfamily", ("[Zqgiven](javascript:hit)", "Zq@second.example"), "# Zqtext"),
)


def namings(*, size: str) -> list[tuple[str, str, Person]]:
    """Patient, hook and person: every patient of the demo in every service, or in a small run in one of them."""
    hooks = ("patient-view", "order-select", "order-sign")
    everyone = enumerate(patients.STORIES)
    return [
        (patient.patient_id, hook, person)
        for number, patient in everyone
        for place, hook in enumerate(hooks)
        for turn, person in enumerate(PERSONS)
        if size != "small" or place == (number + turn) % len(hooks)
    ]


async def named(place: Ward, patient_id: str, hook: str, person: Person) -> tuple[int, list[str]]:
    """How many cards there are about a patient of the demo who is that person, and the person's words that they hold:
    no matter where, escaped or not."""
    made = _plainly(patient_id, hook)
    words = person.put(made.of("Patient")[0])
    cards = (await place.answer(made)).cards
    said = " ".join(members(list(cards)))
    bare = html.unescape(_ESCAPE.sub(r"\1", said)).replace(JOINER, "")
    return len(cards), [word for word in words if _says(said, word) or _says(bare, word)]


def _says(text: str, word: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) is not None


# --- the renderers --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rendered:
    """What one renderer made of all details. `absent` says why it was not run."""

    name: str
    cards: int = 0
    extra: tuple[str, ...] = ()
    links: int = 0
    scripts: tuple[str, ...] = ()
    requests: tuple[str, ...] = ()
    control: int = 0
    """Payloads that make an element, a link, a script run or a request where nothing neutralises them."""
    absent: str = ""


def judged(met: Sequence[Met], *, control: Sequence[Payload] | None = None) -> list[Rendered]:
    """All details in all renderers, and the payloads of `control` (None: all) as they are."""
    distinct = list(dict.fromkeys(detail for one in met for detail in (*one.details, *one.like)))
    raw = [payload.text.encode("utf-8", "replace").decode() for payload in (payloads() if control is None else control)]
    made = [_by_elements("markdown-it with HTML", renderers.markdown_it, met, distinct, raw)]
    try:
        pieces = renderers.remark([*distinct, *raw])
    except npm.Unavailable as error:
        absent = f"not run: {error}"
        return [*made, Rendered("remark-gfm with rehype-raw", absent=absent), Rendered("Chromium", absent=absent)]
    made.append(_by_elements("remark-gfm with rehype-raw", lambda _: pieces, met, distinct, raw))
    return [*made, _by_browser(met, distinct, pieces)]


def _by_elements(
    name: str,
    render: Callable[[Sequence[str]], list[str]],
    met: Sequence[Met],
    distinct: Sequence[str],
    raw: Sequence[str],
) -> Rendered:
    found = [renderers.elements(piece) for piece in render([*distinct, *raw])]
    by_detail = dict(zip(distinct, found, strict=False))
    control = sum(one != Counter({"p": 1}) for one in found[len(distinct) :])
    return _compared(name, met, by_detail, control=control)


def _by_browser(met: Sequence[Met], distinct: Sequence[str], pieces: Sequence[str]) -> Rendered:
    if chromium.CHROMIUM is None:
        return Rendered("Chromium", absent="not run: chromium is not on the PATH")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, renderers.browser(Path(folder)) as browser:
        shown = browser.show(pieces[: len(distinct)])
        control = browser.active(pieces[len(distinct) :])
    if len(shown.elements) != len(distinct):
        return Rendered("Chromium", extra=("a card broke out of its section",), control=control)
    by_detail = dict(zip(distinct, shown.elements, strict=True))
    return _compared(
        "Chromium",
        met,
        by_detail,
        control=control,
        scripts=tuple(shown.scripts),
        requests=tuple(shown.requests),
    )


def _compared(
    name: str,
    met: Sequence[Met],
    by_detail: Mapping[str, Elements],
    *,
    control: int,
    scripts: tuple[str, ...] = (),
    requests: tuple[str, ...] = (),
) -> Rendered:
    extra, links, cards = [], 0, 0
    for one in met:
        cards += len(one.details)
        for detail, like in zip(one.details, one.like, strict=False):
            more, less = by_detail[detail] - by_detail[like], by_detail[like] - by_detail[detail]
            if one.broken:  # no kind of element that the other has not
                more, less = Counter({name: more[name] for name in more if name not in by_detail[like]}), Counter()
            if more or less:
                extra.append(f"{one.name}: {dict(more)} too many, {dict(less)} too few")
            links += renderers.links(by_detail[detail])
    return Rendered(name, cards, tuple(extra), links, scripts, requests, control)


_REACHES = {
    "text": "a text of a card that clients show",
    "sentence": "a sentence of a card's extension only",
    "data": "what a card's extension carries as data only",
    "nothing": "no card",
}


async def run(*, size: str) -> Figures:
    """The figures. "small": every payload in some scenes; otherwise every payload in every scene."""
    met: list[Met] = []
    async with ward() as place:
        reached = await reach(place)
        for scene in SCENES:
            met += await meet(place, scene, meeting(scene, size=size))
        reach_of_paths = [
            (".".join(one[2:]), await swept(place, *one))
            for one in sweep(every=SWEEP_SHARE["small" if size == "small" else "full"])
        ]
        persons = [await named(place, *one) for one in namings(size=size)]
    rendered = await asyncio.to_thread(judged, met)
    rows = (*_figures(reached, met, rendered), *_others(reach_of_paths, persons))
    return Figures("Text of records and requests on cards", rows)


def _others(reach_of_paths: Sequence[tuple[str, str]], persons: Sequence[tuple[int, list[str]]]) -> Iterator[Figure]:
    strange = [path for path, reaches in reach_of_paths if reaches in {"text", "sentence"} and path not in READ]
    cards, held = sum(count for count, _ in persons), [word for _, words in persons for word in words]
    yield Figure("paths of the demo's records, each with a mark in it", str(len(reach_of_paths)), bool(reach_of_paths))
    yield Figure("  that reach a card and are none of the slots", str(len(strange)), not strange)
    yield Figure("cards about persons with names, addresses and numbers", str(cards), cards > 0)
    yield Figure("  words of the person on them", str(len(held)), not held)


def _figures(reached: Reached, met: Sequence[Met], rendered: Sequence[Rendered]) -> Iterator[Figure]:
    answered = [one for one in met if one.status == 200]
    refused = [one for one in met if one.status == 400]
    others = len(met) - len(answered) - len(refused)
    uneven = [one.name for one in answered if is_uneven(one)]
    wrong = [f"{one.name}: {line}" for one in answered for line in one.wrong]
    counts = reached.counts
    yield Figure("payloads (at least 120)", str(len(payloads())), len(payloads()) >= 120)
    yield Figure(
        "slots, each with a word of its own to prove where it comes out", str(counts.total()), not reached.wrong
    )
    for reaches, what in _REACHES.items():
        yield Figure(f"  {what}", str(counts[reaches]), counts[reaches] > 0)
    yield Figure("calls with a payload in every slot of a scene", str(len(met)), bool(met) and not others)
    yield Figure("  refused at the door (400)", str(len(refused)), len(refused) < len(answered))
    yield Figure("  other numbers of cards than with a harmless word", str(len(uneven)), not uneven)
    yield Figure("bad characters, long summaries, addresses after decoding", str(len(wrong)), not wrong)
    for one in rendered:
        if one.absent:
            yield Figure(f"{one.name}: cards", one.absent, held=False)
            continue
        yield Figure(f"{one.name}: cards", str(one.cards), one.cards > 0)
        yield Figure("  elements that the harmless card has not", str(len(one.extra)), not one.extra)
        yield Figure("  links", str(one.links), one.links == 0)
        if one.name == "Chromium":
            yield Figure("  scripts run", str(len(one.scripts)), not one.scripts)
            yield Figure("  remote loads", str(len(one.requests)), not one.requests)
        yield Figure(
            "  payloads that work where nothing neutralises them (control)",
            str(one.control),
            one.control >= LEAST_CONTROL,
        )
