"""The page: whole, escaped, without network or script, and readable without seeing it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from app.stats.page import of_store, page
from app.stats.summary import Row, Summary, Told, summarise
from app.store.errors import BadDatabase
from tests.unit.app.bundles import bedside
from tests.unit.app.stats.build import NOW, PATIENT_VIEW, card, decided, filled, known, made
from tests.unit.app.stats.test_sheets import everything
from tests.unit.test_wording import objections

VOID = {"meta", "rect", "line"}


class Read(HTMLParser):
    """Elements, with what is wrong about their nesting."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.children: dict[str, set[str]] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if self.open:
            self.children.setdefault(self.open[-1], set()).add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    def all(self, tag: str) -> Iterator[dict[str, str | None]]:
        return (attributes for name, attributes in self.elements if name == tag)


def summary(rows: list[Row] | None = None) -> Summary:
    return summarise(everything() if rows is None else rows, names=known())


@pytest.mark.parametrize("rows", [None, []])
def test_it_is_whole_and_needs_nothing(rows: list[Row] | None) -> None:
    text = page(summary(rows), now=NOW)
    read = Read(text)
    assert read.open == []
    tags = {tag for tag, _ in read.elements}
    assert tags.isdisjoint({"script", "img", "link", "iframe", "object", "form"})
    assert not [a for _, attributes in read.elements for a in attributes if a.startswith("on") or a in {"src", "style"}]
    assert all(str(a["href"]).startswith("#") for a in read.all("a"))
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text


def test_what_is_drawn_is_also_said() -> None:
    read = Read(page(summary(), now=NOW))
    drawn = [a for a in read.all("svg") if a.get("role") == "img"]
    assert len(drawn) == 5
    assert {"title", "desc"} <= read.children["svg"]
    tables = list(read.all("table"))
    assert len(tables) == len(list(read.all("caption"))) == 15
    ids = [a["id"] for _, a in read.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert {str(a["href"])[1:] for a in read.all("a")} <= set(ids)
    assert list(read.all("html")) == [{"lang": "en"}]


def test_texts_are_escaped() -> None:
    hostile = '<script>alert("x")</script>&<b>'
    names = replace(known(), protocols={"pilot-simple": hostile}, hooks={PATIENT_VIEW: hostile}, follow_up="")
    text = page(replace(summary(), names=names), now=NOW)
    assert "<script" not in text
    assert "<b>" not in text
    assert text.count("&lt;script&gt;alert(&quot;x&quot;)") > 3
    assert Read(text).open == []


def test_many_days_are_drawn_by_week() -> None:
    rows: list[Row] = [decided(at=NOW - timedelta(days=days)) for days in range(400)]
    text = page(summary(rows), now=NOW)
    assert "Calls by week (first day) and outcome" in text
    [bars] = re.findall(r"<svg role=.*?</svg>", text[: text.index('id="hooks"')])
    assert bars.count('class="c0"') == 58
    few = page(summary(rows[:30]), now=NOW)
    assert "Calls by day and outcome" in few


def test_the_bars_of_a_day_are_as_long_as_their_counts() -> None:
    rows: list[Row] = [decided("card")] * 6 + [decided("not-met")] * 3
    text = page(summary(rows), now=NOW)
    heights = dict(re.findall(r'<rect class="(c\d)"[^>]* width="796.0" height="([\d.]+)"', text))
    assert float(heights["c0"]) == pytest.approx(2 * float(heights["c1"]))
    assert "2026-11-23, card: 6" in text


def test_one_value_and_zero_can_be_drawn() -> None:
    text = page(summary([decided(ages={"crp": 0.0}, total_ms=0.0)]), now=NOW)
    assert "C-reactive protein: median 0, quartiles 0 and 0, n = 1" in text
    assert "nan" not in text.lower().replace("anakinra", "")


def test_the_words_sell_nothing() -> None:
    found = Read(page(summary(), now=NOW)).texts
    titles = {*known().protocols.values(), *known().safety.values(), *known().criteria.values()}
    assert not [text for text in found if text not in titles and objections(text.replace("rescue-cds", ""))]


async def test_a_route_gets_the_page_of_a_store(tmp_path: Path) -> None:
    address = await filled(tmp_path / "decisions.db", [made(cards=(card(),))])
    text = await of_store(address, bedside=bedside(), now=NOW, zone=NOW.tzinfo)
    assert "calls answered" in text
    assert "2026-11-23, card: 1" in text
    gone = str(make_url(address).set(database=str(tmp_path / "none.db")))
    with pytest.raises(BadDatabase):
        await of_store(gone, bedside=bedside(), now=NOW, zone=NOW.tzinfo)


def test_the_interval_of_a_tile_has_its_n() -> None:
    told: list[Row] = [Told(PATIENT_VIEW, "protocol", "accepted")]
    text = page(summary([*everything(), *told]), now=NOW)
    assert "<dd>83 %<small> (44 to 97) of 6</small></dd>" in text
