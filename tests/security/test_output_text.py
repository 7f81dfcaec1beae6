"""No text of a record or a request becomes more than text on a card, in three renderers and all three services."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path

import pytest

from tests import chromium, npm
from tests.security import output_text, renderers
from tests.security.output_text import EVIDENCE, Answer, Met, Payload, Rendered, payloads, where
from tests.security.slots import SCENES, Scene

pytestmark = pytest.mark.no_cover

WHOLE = os.environ.get("RESCUE_CDS_EXAMPLES") == "100"
SIZE = "full" if WHOLE else "small"
KINDS = ("html", "svg", "math", "md", "auto", "char", "mix")
TRIED = (
    "srcdoc",
    "javascript:",
    "data:",
    "https://",
    "www.",
    "mailto:",
    "xmpp:",
    "[2001:db8",
    "](javascript",
    "]()",
    "[^1]",
    "<!--",
    "```",
    "~~~",
    "@admin",
    "|",
    "-",
    "[x]",
    "&#",
    "&lt;",
    "\\u202e",
    "\\u200b",
    "\\u0000",
    "\\u3002",
    "#",
    ">",
    "<svg",
    "<math",
    "<form",
    "<object",
    "<style",
    "<base",
    "<meta",
)
ACTIVE = "a <img src='//evil.example/a.png'> https://evil.example <script>window.hit=1</script>"
REMARK = "the Markdown stack of the public sandbox"


def id_of(scene: Scene) -> str:
    return scene.id


@pytest.fixture(scope="module")
def reached() -> output_text.Reached:
    async def fill() -> output_text.Reached:
        async with output_text.ward() as place:
            return await output_text.reach(place)

    return asyncio.run(fill())


@pytest.fixture(scope="module")
def met() -> list[Met]:
    """Every scene with its payloads: all of them with RESCUE_CDS_EXAMPLES=100."""

    async def meet() -> list[Met]:
        async with output_text.ward() as place:
            found = [await output_text.meet(place, s, output_text.meeting(s, size=SIZE)) for s in SCENES]
            return [one for scene in found for one in scene]

    return asyncio.run(meet())


@pytest.fixture(scope="module")
def rendered(met: list[Met]) -> dict[str, Rendered]:
    return {one.name: one for one in output_text.judged(met)}


# --- the corpus and the slots


def test_the_corpus_tries_everything() -> None:
    ids = [payload.id for payload in payloads()]
    assert len(ids) == len(set(ids)) >= 120
    assert {id_.partition("-")[0] for id_ in ids} == set(KINDS)
    assert all(payload.tries and payload.text for payload in payloads())
    corpus = output_text.CORPUS.read_text()
    assert [word for word in TRIED if word not in corpus] == []


def test_every_slot_reaches_what_it_says_and_nothing_more(reached: output_text.Reached) -> None:
    assert reached.wrong == []
    assert {"text", "sentence", "data", "nothing"} == set(reached.counts)
    services = {scene.hook for scene in SCENES for slot in scene.slots if slot.reaches == "text"}
    assert services == {"patient-view", "order-select", "order-sign"}


def test_a_small_run_has_every_scene_and_other_payloads_for_each() -> None:
    parts = [output_text.meeting(scene, size="small") for scene in SCENES]
    assert all(parts)
    assert {payload.id for part in parts for payload in part} == {payload.id for payload in payloads()}
    assert all(output_text.meeting(scene, size="full") == payloads() for scene in SCENES)


# --- the cards


def test_every_call_has_as_many_cards_as_with_a_harmless_word_or_is_refused_at_the_door(met: list[Met]) -> None:
    assert {one.status for one in met} <= {200, 400}
    answered = [one for one in met if one.status == 200]
    assert len(answered) > len(met) * 0.9
    assert [one.name for one in answered if output_text.is_uneven(one)] == []
    assert {one.scene.hook for one in answered if one.details} == {"patient-view", "order-select", "order-sign"}


def test_no_text_holds_a_bad_character_or_an_address(met: list[Met]) -> None:
    assert [(one.name, line) for one in met for line in one.wrong] == []


def test_markdown_it_with_html_draws_the_harmless_elements(rendered: dict[str, Rendered]) -> None:
    inert(rendered["markdown-it with HTML"])


def test_the_public_sandboxs_stack_draws_the_harmless_elements(rendered: dict[str, Rendered]) -> None:
    found = rendered["remark-gfm with rehype-raw"]
    if found.absent:
        npm.absent("remark", f"{REMARK}: {found.absent}")
    inert(found)


@pytest.mark.browser
def test_chromium_runs_nothing_and_asks_for_nothing(rendered: dict[str, Rendered]) -> None:
    found = rendered["Chromium"]
    if found.absent:
        pytest.skip(found.absent)
    inert(found)
    assert found.scripts == ()
    assert found.requests == ()


def inert(found: Rendered) -> None:
    assert found.cards > 100
    assert found.extra == ()
    assert found.links == 0
    assert found.control >= output_text.LEAST_CONTROL, "this renderer sees nothing"


# --- nothing else of a record, and nothing of the person


@pytest.fixture(scope="module")
def reaching() -> list[tuple[str, str]]:
    async def sweep() -> list[tuple[str, str]]:
        cases = output_text.sweep(every=1 if WHOLE else output_text.SWEEP_SHARE["small"])
        async with output_text.ward() as place:
            return [(".".join(one[2:]), await output_text.swept(place, *one)) for one in cases]

    return asyncio.run(sweep())


def test_no_other_part_of_a_record_reaches_a_card(reaching: list[tuple[str, str]]) -> None:
    shown = {path for path, reaches in reaching if reaches in {"text", "sentence"}}
    assert len(reaching) > 50
    assert shown <= output_text.READ


@pytest.mark.parametrize("person", output_text.PERSONS, ids=["plain", "hostile"])
def test_no_card_holds_a_word_of_the_person(person: output_text.Person) -> None:
    async def look() -> list[tuple[int, list[str]]]:
        cases = [one for one in output_text.namings(size=SIZE) if one[2] is person]
        async with output_text.ward() as place:
            return [await output_text.named(place, *one) for one in cases]

    found = asyncio.run(look())
    assert sum(cards for cards, _ in found) > 20
    assert [words for _, words in found if words] == []


# --- what these tests would see


@pytest.fixture(scope="module")
def card() -> dict[str, object]:
    return {"summary": "s", "source": {"label": "l"}, "detail": "a X", "extension": {EVIDENCE: {"reason": "r"}}}


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"summary": "<b>"}, "angle bracket"),
        ({"summary": "[protocol](x)"}, "link"),
        ({"summary": "s" * 140}, "long summary"),
        ({"summary": "a\u202eb"}, "character"),
        ({"detail": "a\u0000b"}, "character"),
        ({"source": {"label": "www.evil.example"}}, "address"),
        ({"detail": "https\\://evil.example"}, "address"),
        ({"detail": "https&#58;//evil.example"}, "address"),
        ({"detail": "a&amp;#64;evil.example"}, "address"),
        ({"suggestions": [{"label": "<x", "actions": [{"description": "d"}]}]}, "angle bracket"),
        ({"suggestions": [{"label": "x", "actions": [{"description": "javascript:hit"}]}]}, "address"),
        ({"extension": {EVIDENCE: {"safety": [{"reason": "<b>"}]}}}, "angle bracket"),
        ({"extension": {EVIDENCE: {"safety": [{"original": "a\u200bb"}]}}}, "character"),
    ],
)
def test_a_bad_text_is_found(card: dict[str, object], changes: dict[str, object], what: str) -> None:
    assert output_text.trouble([card], like=[card]) == []
    assert [line.partition(":")[0] for line in output_text.trouble([card | changes], like=[card])][:1] == [what]


def test_where_a_mark_comes_out(card: dict[str, object]) -> None:
    assert where("Zq", [card]) == "nothing"
    assert where("Zq", [card | {"detail": "Zq"}]) == "text"
    assert where("Zq", [card | {"extension": {EVIDENCE: {"a": [{"reason": "Zq"}]}}}]) == "sentence"
    assert where("Zq", [card | {"extension": {EVIDENCE: {"a": [{"original": "Zq"}]}}}]) == "data"


@pytest.fixture(scope="module")
def leaking(card: dict[str, object]) -> list[Met]:
    """A card whose text was put in as it is."""
    payload = Payload("x", "everything", ACTIVE)
    answer, like = Answer(200, (card | {"detail": ACTIVE},)), Answer(200, (card,))
    return [output_text.compared(SCENES[0], payload, answer, like=like)]


@pytest.fixture(scope="module")
def seen(leaking: list[Met]) -> dict[str, Rendered]:
    return {one.name: one for one in output_text.judged(leaking, control=())}


def test_every_renderer_sees_what_was_let_through(seen: dict[str, Rendered], leaking: list[Met]) -> None:
    assert seen["markdown-it with HTML"].extra != ()
    assert seen["markdown-it with HTML"].links == 2
    figures = list(output_text._figures(output_text.Reached(), leaking, list(seen.values())))
    assert {figure.what.strip() for figure in figures if not figure.held} >= {
        "elements that the harmless card has not",
        "links",
        "bad characters, long summaries, addresses after decoding",
    }


def test_the_public_sandboxs_stack_finds_links_in_plain_text(seen: dict[str, Rendered]) -> None:
    found = seen["remark-gfm with rehype-raw"]
    if found.absent:
        npm.absent("remark", f"{REMARK}: {found.absent}")
    assert found.links == 3
    (html,) = renderers.remark(["https\\://evil.example a&#64;evil.example"])
    assert renderers.elements(html) == Counter({"p": 1, "a[ href ]": 2})


@pytest.mark.browser
def test_chromium_tells_of_scripts_and_requests(seen: dict[str, Rendered]) -> None:
    found = seen["Chromium"]
    if found.absent:
        pytest.skip(found.absent)
    assert "window.hit" in found.scripts
    assert found.requests == ("http://evil.example/a.png",)
    assert found.links == 3


@pytest.fixture
def no_node(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> str:
        raise npm.Unavailable("needs Node")

    monkeypatch.setattr(npm, "node", missing)


@pytest.mark.usefixtures("no_node")
def test_a_renderer_that_is_absent_is_not_held(leaking: list[Met]) -> None:
    figures = list(output_text._figures(output_text.Reached(), leaking, output_text.judged(leaking, control=())))
    absent = [(figure.what, figure.held) for figure in figures if figure.number == "not run: needs Node"]
    assert absent == [("remark-gfm with rehype-raw: cards", False), ("Chromium: cards", False)]


def test_without_chromium_it_is_not_held(monkeypatch: pytest.MonkeyPatch, leaking: list[Met]) -> None:
    monkeypatch.setattr(chromium, "CHROMIUM", None)
    monkeypatch.setattr(renderers, "remark", lambda details: ["" for _ in details])
    assert output_text.judged(leaking, control=())[-1].absent == "not run: chromium is not on the PATH"


def test_a_card_with_the_persons_name_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async def telling(_self: object, _call: object) -> Answer:
        return Answer(200, ({"detail": f"Patient: {output_text.Person().text.replace('-', chr(92) + '-')}"},))

    monkeypatch.setattr(output_text.Ward, "answer", telling)
    ward = output_text.Ward(None)  # type: ignore[arg-type]
    found = asyncio.run(output_text.named(ward, "demo-full-protocol", "patient-view", output_text.Person()))
    assert found == (1, ["Zqtext Ozols"])


def test_a_new_path_that_reaches_a_card_is_found() -> None:
    rows = list(output_text._others([("Patient.name.family", "text")], [(1, ["Ozols"])]))
    assert [row.held for row in rows] == [True, False, True, False]


def test_the_lock_names_no_registry() -> None:
    folder = Path(renderers.REMARK)
    assert "resolved" not in (folder / "package-lock.json").read_text()
