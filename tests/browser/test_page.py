"""The demo page in a real browser: what it sends, what it shows, and what hostile text cannot do to it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.browser.answers import CARD, CONTRAST, answer, card, order, suggestion

pytestmark = pytest.mark.browser

SAFETY = card(
    uuid=CARD.replace("0001", "0002"),
    indicator="warning",
    summary="Relative contraindication: posaconazole raises ruxolitinib exposure",
    detail="**ruxolitinib** · CI-CYP3A4-STRONG · posaconazole, given 3 h ago",
    suggestions=[],
    links=[],
)


def test_the_hook_is_fired_as_an_ehr_does_when_a_chart_is_opened(tab: Any, demo: Any) -> None:
    demo.answer = lambda _request: answer(card())
    tab.open_chart(demo.url, "ada")
    (sent,) = demo.requests
    assert sent["hook"] == "patient-view"
    assert sent["context"] == {"userId": "Practitioner/demo-icu", "patientId": "ada"}
    assert sent["fhirServer"] == f"{demo.url}/fhir"
    assert len(sent["hookInstance"]) == 36
    assert sent["prefetch"].keys() == {"patient", "results", "orders"}  # the unresolved token is left out
    assert sent["prefetch"]["patient"]["id"] == "ada"
    assert sent["prefetch"]["results"]["total"] == 3


def test_the_service_can_be_left_to_read_for_itself(tab: Any, demo: Any) -> None:
    tab.open_chart(demo.url, "ada")
    tab.run("document.querySelector('input[value=read]').click()")
    tab.until("document.querySelector('#cards').ariaBusy === 'false'")
    assert [("prefetch" in sent) for sent in demo.requests] == [True, False]
    assert demo.requests[0]["hookInstance"] != demo.requests[1]["hookInstance"]


def test_a_failed_read_reaches_the_service_as_its_operation_outcome(tab: Any, demo: Any) -> None:
    tab.open_chart(demo.url, "bob")
    assert demo.requests[0]["prefetch"]["orders"]["resourceType"] == "OperationOutcome"
    assert "403" in tab.text("#chart")


def test_cards_show_table_orders_source_and_uuid(tab: Any, demo: Any) -> None:
    demo.answer = lambda _request: answer(card(), SAFETY)
    tab.open_chart(demo.url, "ada")
    assert tab.run("[...document.querySelectorAll('.card .indicator')].map((each) => each.innerText.trim())") == [
        "!\nWarning",
        "i\nInfo",
    ]
    assert tab.count(".card table tbody tr") == 4
    assert tab.text(".card.info tbody tr:nth-child(3) td:nth-child(4)") == "< 80 mmHg | static Crs ≤ 30"
    assert "the letter (https://example.org/letter)" in tab.text(".card.info .detail")
    assert tab.count(".detail a") == 0
    assert tab.run("document.querySelector('.card.info .links a').href") == "https://example.org/letter"
    words = tab.text(".card.info .suggestions")
    assert "300 mg, intravenous, once a day, 1 Mar to 14 Mar (14 days)" in words
    assert "5 mg, enteral, twice a day" in words
    assert CARD in tab.text(".card.info footer")
    assert "2 cards" in tab.run("document.querySelector('#status').textContent")
    assert "ICU 1, bed 4" in tab.text("#banner")
    assert "MRN-001" in tab.text("#banner")
    assert "262 mg/L" in tab.text("#chart")
    assert "120 mg/L" not in tab.text("#chart")


def test_an_order_for_another_patient_cannot_be_accepted(tab: Any, demo: Any) -> None:
    demo.answer = lambda _request: answer(card())
    tab.open_chart(demo.url, "bob")
    assert tab.run("[...document.querySelectorAll('button.accept')].map((each) => each.disabled)") == [True, True]
    assert "not for the patient of the open chart" in tab.text(".suggestion")


@pytest.mark.parametrize(
    ("outcome", "title"),
    [
        ("deceased", "No card: the patient has died"),
        ("not-the-population", "No card: not the population"),
        ("not-met", "No card: thresholds not met"),
        ("out-of-scope", "No card: out of scope"),
        ("something-new", "No card, and no reason given"),
    ],
)
def test_silence_says_which_kind_it_is(tab: Any, demo: Any, outcome: str, title: str) -> None:
    gap = {"source": "MedicationRequest", "why": "refused (403)"}
    demo.answer = lambda _request: answer(outcome=outcome, gaps=[gap])
    tab.open_chart(demo.url, "ada")
    assert tab.text(".panel h3") == title
    assert "MedicationRequest: refused (403)" in tab.text("#cards")


def test_silence_without_a_reason_is_no_all_clear(tab: Any, demo: Any) -> None:
    tab.open_chart(demo.url, "ada")
    assert "Do not read it as an all-clear" in tab.text("#cards")


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (
            412,
            {"resourceType": "OperationOutcome", "issue": [{"details": {"text": "<b>no data</b>"}}]},
            "<b>no data</b>",
        ),
        (503, {}, "overloaded"),
        (418, {}, "answered 418"),
        (200, {"cards": None}, "could not be read"),
        (200, None, "could not be read"),
    ],
)
def test_an_error_is_told_in_words(tab: Any, demo: Any, status: int, body: Any, words: str) -> None:
    demo.status, demo.body = status, b"<html>" if body is None else json.dumps(body).encode()
    tab.open_chart(demo.url, "ada")
    assert words in tab.text("#cards")
    assert "This is not an all-clear." in tab.text("#cards")
    assert tab.count(".card") == 0


def test_a_service_that_cannot_be_discovered_is_told_in_words(tab: Any, demo: Any) -> None:
    demo.services = 404
    tab.open_chart(demo.url, "ada")
    assert tab.text(".panel h3") == "No such service (404)"
    assert demo.requests == []


def test_a_late_answer_for_another_chart_is_not_shown(tab: Any, demo: Any) -> None:
    demo.delay = lambda sent: 1.0 if sent["context"]["patientId"] == "ada" else 0
    demo.answer = lambda sent: answer(card(summary=f"Card of {sent['context']['patientId']}"))
    tab.open(f"{demo.url}/#patient=ada")
    tab.until("document.querySelector('.waiting') && document.querySelectorAll('#patients a').length === 2")
    tab.run("location.hash = '#patient=bob'")
    tab.until("document.querySelector('.card')")
    tab.run("new Promise((done) => setTimeout(done, 1300))")
    assert tab.text(".card h3") == "Card of bob"
    assert "Bob" in tab.text("#banner h2")
    assert "262 mg/L" not in tab.text("#chart")


HOSTILE = """\
<script>window.hit = 1</script> <img src=x onerror="window.hit = 1">
<iframe srcdoc="<script>parent.hit=1</script>"></iframe>

<style>body { display: none }</style>

[click](javascript:window.hit=1) ![x](https://example.org/x.png) <https://example.org>
https://example.org www.example.org
&lt;script&gt;window.hit = 1&lt;/script&gt; <a href="javascript:window.hit=1">a</a> <svg onload="window.hit=1">

| <script>window.hit = 1</script> | b |
| --- | --- |
| <img src=x onerror=window.hit=1> | &lt;b&gt; |

```
<script>window.hit = 1</script>
```
"""


def test_hostile_card_text_stays_text(tab: Any, demo: Any) -> None:
    script = "<script>window.hit = 1</script><img src=x onerror=window.hit=1>"
    hostile = card(
        detail=HOSTILE,
        summary=script,
        uuid=script,
        source={"label": script, "url": "javascript:window.hit=1", "topic": {"code": script, "display": script}},
        links=[
            {"label": script, "url": "javascript:window.hit=1", "type": "absolute"},
            {"label": script, "url": "data:text/html,<script>1</script>", "type": "absolute"},
        ],
        overrideReasons=[{"code": script, "system": script, "display": script}],
        suggestions=[suggestion(script, order(script, 1, times=1, route=script))],
    )
    gap = {"source": script, "why": script}
    demo.answer = lambda _request: answer(hostile, outcome=script, gaps=[gap])
    tab.open_chart(demo.url, "ada")
    tab.run("document.querySelector('.why-not').open = true")
    tab.run("document.querySelector('#drawer').open = true")
    assert tab.run("window.hit") is None
    assert tab.count("script") == 1  # the page's own module
    assert tab.count("#cards :is(script, img, iframe, style, svg, object, embed, form)") == 0
    assert tab.run("[...document.querySelectorAll('main a')].map((each) => each.href)") == []
    handlers = "[...each.attributes].some((one) => one.name.startsWith('on'))"
    assert tab.run(f"[...document.querySelectorAll('*')].filter((each) => {handlers}).length") == 0
    assert "<script>window.hit = 1</script>" in tab.text(".card .detail")
    assert "click (javascript:window.hit=1)" in tab.text(".card .detail")
    assert (
        tab.run(
            "performance.getEntriesByType('resource').filter((each) => !each.name.startsWith(location.origin)).length"
        )
        == 0
    )
    assert "<b>Bold</b>" in tab.text("#patients")


def test_the_policy_stops_what_the_page_would_let_through(tab: Any, demo: Any) -> None:
    tab.open_chart(demo.url, "ada")
    tab.run("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hit = 1\">')")
    tab.run("new Promise((done) => setTimeout(done, 200))")
    assert tab.run("window.hit") is None
    assert tab.run("fetch('https://example.org/').then(() => 'reached', (error) => error.name)") == "TypeError"


def test_the_drawer_holds_the_exact_exchange(tab: Any, demo: Any) -> None:
    demo.body = b'{"cards":[],"extension":{"org.rescue-cds.decision":{"id":"d","outcome":"not-met","pf":1.50}}}'
    tab.open_chart(demo.url, "ada")
    tab.run("document.querySelector('#drawer').open = true")
    shown = tab.run("[...document.querySelectorAll('.exchange .body')].map((each) => each.textContent)")
    assert json.loads(shown[0]) == demo.requests[0]
    assert '"pf": 1.50' in shown[1]
    assert f"sent {len(json.dumps(demo.requests[0], separators=(',', ':'))) / 1000:.1f}"[:8] in tab.text("#drawer-line")
    assert "content-security-policy" not in shown[1]


def test_the_list_can_be_filtered_and_reached_by_keyboard(tab: Any, demo: Any) -> None:
    tab.open(demo.url)
    tab.until("document.querySelectorAll('#patients a').length === 2")
    tab.run(
        "{ const box = document.querySelector('#filter'); box.value = 'four thresholds';"
        "box.dispatchEvent(new Event('input')); }"
    )
    assert tab.run("[...document.querySelectorAll('#patients li')].map((each) => each.hidden)") == [False, True]
    tab.run("document.querySelector('#patients a').focus()")
    tab.call("Input.dispatchKeyEvent", type="keyDown", key="Enter", code="Enter", text="\r", windowsVirtualKeyCode=13)
    tab.until("document.querySelector('[aria-current=page]')")
    assert tab.run("location.hash") == "#patient=ada"


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (900, "light")])
def test_nothing_runs_out_of_the_page_and_text_has_contrast(tab: Any, demo: Any, width: int, scheme: str) -> None:
    """Contrast of at least 4.5 to 1 for every visible text on the nearest opaque ground (WCAG 2.2, 1.4.3)."""
    demo.answer = lambda _request: answer(card(), SAFETY, gaps=[{"source": "Procedure", "why": "timed out"}])
    tab.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    tab.open_chart(demo.url, "ada")
    if os.environ.get("SCREENSHOTS"):
        tab.screenshot(Path(os.environ["SCREENSHOTS"]) / f"page-{width}-{scheme}.png")
    assert tab.run("document.documentElement.scrollWidth") <= width
    assert tab.run(CONTRAST) == []


def test_the_source_of_a_card_leads_to_its_attributes(tab: Any, demo: Any) -> None:
    url = "https://cds.example.org/source-attributes"
    demo.answer = lambda _request: answer(card(source={"label": "rescue-cds", "url": url}))
    tab.open_chart(demo.url, "ada")
    assert tab.run("document.querySelector('.card .source a').href") == url
    assert tab.run("document.querySelector('.card .source a').rel") == "noopener noreferrer"
    assert tab.text(".card .source a") == "rescue-cds"
