"""The page's Markdown renderer against markdown-it, an independent implementation of the same language."""

from __future__ import annotations

import json
import random
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from markdown_it import MarkdownIt

pytestmark = pytest.mark.browser

ALIKE = [
    "plain",
    "two\nlines",
    "hard  \nbreak",
    "hard\\\nbreak",
    "one\n\ntwo",
    "**bold** and *soft* and __bold__ and _soft_ and ~~gone~~",
    "***both*** **bold *soft* bold** *soft **bold** soft*",
    "**bold*",
    "*a **b* c**",
    "snake_case_name and 2*3*4 and a * b * c",
    "_(soft)_ *(soft)* **„bold“**",
    "\\*not soft\\* \\_ \\| \\\\ \\a \\<b\\>",
    "&lt;b&gt; &amp;amp; &#60; &#x3c; &ge; &nope; &#0; &#xD800; &amp",
    "`code *not soft* &lt;`",
    "`` a`b `` and ` x ` and `open",
    "# One\n## Two\n### Three ###\n#no heading\n\nSetext\n===\n\nsecond\n---",
    "text\n# heading",
    "- a\n- b\n- c",
    "- a\n\n- b",
    "- a\n  more\n- b\nlazy",
    "- a\n  - b\n    - c\n- d",
    "1. a\n2. b",
    "3) a\n4) b",
    "- a\n+ b",
    "text\n- list",
    "text\n2. no list",
    "- **bold**: text\n- `code`",
    "- a\n\n  second paragraph\n- b",
    "* * *\n\n---\n\n___",
    "> quoted\n> more\n\nafter",
    "> - list\n> - in it",
    "```\n<b>code</b>\n```\n\n~~~\nx\n~~~",
    "```\nopen\n",
    "    indented\n    code",
    "| a | b |\n| --- | --- |\n| 1 | 2 |",
    "a | b\n--- | ---\n1 | 2",
    "| a | b | c |\n| :-- | --: | :-: |\n| 1 | 2 | 3 |",
    "| a | b |\n| --- | --- |\n| 1 |\n| 1 | 2 | 3 |",
    "| a \\| b | **c** |\n| --- | --- |\n| `d` | &lt; 5 |",
    "text\n\n| a |\n| --- |\n| 1 |\n\nafter",
    "| a | b |\n| --- |\n| 1 | 2 |",
    "| a |\n| - |\n| 1 |\n> quote",
    "<script>alert(1)</script>",
    "a < b and c > d & e",
    "a <b>inline</b> tag",
    "\\# no heading\n\n\\- no list\n\n1\\. no list",
    "5 > 3\n\n+5 is no list",
    "**not bold **and** not",
    "a\\\\*b*",
    "*a*b **c**d",
    "- \n- b",
    "-",
    "\ttab",
    "a\u00a0**b**\u2060c",
]


class _Canonical(HTMLParser):
    """HTML as nested words, without attributes that only style, and without white space between blocks."""

    INLINE = frozenset({"strong", "em", "s", "code", "br"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        side = re.search(r"left|right|center", f"{known.get('style', '')} {known.get('class', '')}")
        if tag != "div":
            start = f" start={known['start']}" if "start" in known else ""
            self.parts.append(f"<{tag}{start}{f' {side[0]}' if side else ''}>")

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("div", "br", "hr"):
            self.parts.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        self.parts.append(data)


def canonical(html: str) -> str:
    parser = _Canonical()
    parser.feed(html)
    parser.close()
    text = "".join(parser.parts)
    block = r"p|h\d|ul|ol|li|table|thead|tbody|tr|t[hd]|blockquote|pre|hr"
    text = re.sub(rf"\s*(</?(?:{block})(?: [^<>]*)?>)\s*", r"\1", text)
    return re.sub(r"\s*(<br>)\s*", r"\1", text)


def reference(markdown: str) -> str:
    made = (
        MarkdownIt("commonmark", {"html": False})
        .enable(["table", "strikethrough"])
        .disable(["link", "image", "autolink"])
    )
    return canonical(made.render(markdown.replace("\t", "    ")))


def rendered(tab: Any, demo: Any, inputs: list[str]) -> list[str]:
    tab.open(demo.url)
    return [
        canonical(html)
        for html in tab.run(
            f"""import("./gfm.js").then(({{ render }}) => {json.dumps(inputs)}.map((markdown) => {{
              const box = document.createElement("section");
              box.append(render(markdown, {{ top: 1 }}));
              return box.innerHTML;
            }}))"""
        )
    ]


def test_it_renders_as_an_independent_implementation_does(tab: Any, demo: Any) -> None:
    made = zip(ALIKE, rendered(tab, demo, ALIKE), strict=True)
    assert [(text, html, reference(text)) for text, html in made if html != reference(text)] == []


def test_emphasis_agrees_on_random_text(tab: Any, demo: Any) -> None:
    dice = random.Random(20260301)
    inputs = ["a" + "".join(dice.choices(["*", "**", "_", "a", " ", ".", "b", "\\", "`"], k=14)) for _ in range(600)]
    for markdown, html in zip(inputs, rendered(tab, demo, inputs), strict=True):
        assert html == reference(markdown), markdown


@pytest.mark.parametrize(
    ("markdown", "text"),
    [
        ("[click](javascript:alert(1))", "[click](javascript:alert(1))"),
        ("[click](https://example.org)", "click (https://example.org)"),
        ("![image](https://example.org/x.png)", "image (https://example.org/x.png)"),
        ("<https://example.org>", "<https://example.org>"),
        ("https://example.org", "https://example.org"),
        ("[a]: https://example.org", "[a]: https://example.org"),
    ],
)
def test_no_address_becomes_a_link(tab: Any, demo: Any, markdown: str, text: str) -> None:
    assert rendered(tab, demo, [markdown]) == [f"<p>{text}</p>"]


@pytest.mark.parametrize(
    "markdown",
    [
        "*a_ " * 20_000,
        "> " * 5_000,
        "- " * 5_000,
        "`" * 50_000,
        "[" * 50_000,
        "|a" * 20_000 + "\n" + "|-" * 20_000,
        "&#" * 50_000,
    ],
)
def test_large_hostile_text_is_rendered_in_time(tab: Any, demo: Any, markdown: str) -> None:
    tab.open(demo.url)
    script = f"""import("./gfm.js").then(({{ render }}) => {{
        const started = performance.now();
        render({json.dumps(markdown)});
        return performance.now() - started;
    }})"""
    assert tab.run(script) < 3000
