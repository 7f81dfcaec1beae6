"""Text from data stays text, judged by a real renderer with everything dangerous switched on, and by what link
finders look for after escapes and entities are decoded."""

from __future__ import annotations

import html
import re
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from cds_hooks import markdown
from cds_hooks.markdown import Safe

JOINER = "\u2060"
RENDERER = MarkdownIt("commonmark", {"html": True, "typographer": False}).enable(["table", "strikethrough"])

# What link finders (GFM autolinks, linkify) take for an address.
ADDRESS = re.compile(
    r"//|www\.|[A-Za-z0-9+.\-_]@|@[^\W_]|(?:javascript|data|vbscript|mailto|xmpp)\s*:|[A-Za-z][A-Za-z0-9+.\-]*:/"
    r"|[A-Za-z][A-Za-z0-9+.\-]*:[A-Za-z]|[^\W_]\.[^\W\d_]{2}|\d\.\d+\.\d+\.\d",
    re.IGNORECASE,
)
HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<!-- a --><?php ?><![CDATA[x]]>",
    "&lt;script&gt; &#60;b&#62; &amp;amp;",
    "[x](javascript:alert(1))",
    "![x](https://evil.com/a.png)",
    "[x]: https://evil.com",
    "[^1] [x][y] [ ] [x]",
    "<https://evil.com>",
    "<a@evil.com>",
    "https://evil.com/?a=1&b=2",
    "https\\://evil.com",
    "https:\\/\\/evil\\.com /\\\\/evil.com",
    "a&\\#64;evil.com 10\\.0\\.0\\.1/x mailto\\ :a xmpp\\:b",
    "https&#58;//evil.com",
    "https&colon;//evil.com",
    "//evil.com",
    "www.evil.com",
    "WWW\\.evil.com",
    "a@evil.com a&#64;evil.com",
    "mailto:a xmpp:b data :text/html,x JavaScript : x vbscript:x",
    "evil.com evil\u3002com evil.co.uk/path 1.evil.com",
    "10.0.0.1/x 1.2.3.4",
    "java\u200bscript:alert(1) java\nscript:x",
    "h\u200btt\u00adps:/\u2060/evil.com",
    "# heading",
    "###### h",
    "> quote",
    "- item",
    "+ item",
    "* item",
    "1. item",
    "12) item",
    "---",
    "- - -",
    "***",
    "===",
    "    code",
    "\tcode",
    "```\ncode",
    "~~~",
    "`code` ``x``",
    "**b** __b__ *i* _i_ ~~s~~ ~s~",
    "| a | b |\n| - | - |\n| c | d |",
    ":-:",
    "a\\",
    "\\",
    "\\|",
    "|",
    "a  \nb\\\nc",
    "\u202eevil\u202c \u2066x\u2069",
    "a\x00b\x1b[31m\x7f\x85",
    "$x$ $$y$$ ^z^ ==m== :smile: @user #12",
    "\ud800\udfff",
    "\ufdd0\uffff\U0010ffff",
]


def shown(rendered: str, *, opening: str, closing: str) -> str:
    assert rendered.startswith(opening), rendered
    assert rendered.endswith(closing), rendered
    inner = rendered[len(opening) : len(rendered) - len(closing)]
    assert "<" not in inner, rendered
    assert ">" not in inner, rendered
    return html.unescape(inner)


def decoded(text: str) -> str:
    """Without escapes and entities."""
    return html.unescape(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text))


def assert_inert(value: str) -> None:
    safe = markdown.text(value)
    expected = decoded(safe)
    if expected:
        # alone, behind other text on its line, below a line, as a list item, and in a table cell beside another
        assert shown(RENDERER.render(safe), opening="<p>", closing="</p>\n") == expected
        assert shown(RENDERER.render(f"Drug: {safe}\nnext"), opening="<p>Drug: ", closing="\nnext</p>\n") == expected
        assert shown(RENDERER.render(f"above\n{safe}"), opening="<p>above\n", closing="</p>\n") == expected
        item = RENDERER.render(markdown.bullets([safe, Safe("z")]))
        assert shown(item, opening="<ul>\n<li>", closing="</li>\n<li>z</li>\n</ul>\n") == expected
        table = RENDERER.render(markdown.table([Safe("h"), Safe("i")], [[safe, Safe("z")]]))
        cell = table.partition("<tbody>\n<tr>\n")[2]
        assert shown(cell, opening="<td>", closing="</td>\n<td>z</td>\n</tr>\n</tbody>\n</table>\n") == expected
    plain = markdown.plain(value, limit=200)
    for text in (expected, html.unescape(expected), decoded(expected), plain, decoded(plain)):
        assert not ADDRESS.search(text), text
    assert unclean(expected.replace(JOINER, "")) == []


def unclean(text: str) -> list[str]:
    return [hex(ord(one)) for one in text if unicodedata.category(one) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")]


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_text_is_inert(value: str) -> None:
    assert_inert(value)


FRAGMENTS = ["http", "https", ":", "/", "//", "www", ".", "com", "@", "javascript", "&", "#58;", "1", "a", "é"]
FRAGMENTS += [*"<>\\|`*_[]()!~-+= \n", "\u200b", "\u0301", "\u202e"]
pieces = st.sampled_from(HOSTILE + FRAGMENTS)


@settings(max_examples=250, deadline=None)
@given(st.lists(pieces, max_size=8).map("".join) | st.text(max_size=40))
@example("a.\u0301b")
@example("1.")
def test_arbitrary_text_is_inert(value: str) -> None:
    assert_inert(value)


@settings(max_examples=150, deadline=None)
@given(st.lists(pieces, max_size=8).map("".join) | st.text(max_size=40), st.integers(1, 30))
def test_plain_text_is_short_clean_and_one_line(value: str, limit: int) -> None:
    shown_text = markdown.plain(value, limit=limit)
    assert len(shown_text) <= limit
    assert not set("<>\n\r") & set(shown_text)
    assert unclean(shown_text.replace(JOINER, "")) == []
    assert not ADDRESS.search(shown_text)
    assert not re.search("<(a|img) ", RENDERER.render(shown_text)), "some clients render it as markdown all the same"


@pytest.mark.parametrize(
    ("value", "text", "plain"),
    [
        ("", "", ""),
        ("Anakinra 100 mg/0.67 mL", "Anakinra 100 mg/0.67 mL", "Anakinra 100 mg/0.67 mL"),
        ("Grüße, 患者, مريض", "Grüße, 患者, مريض", "Grüße, 患者, مريض"),
        ("a\r\n b\u2028c\u00a0d", "a b c d", "a b c d"),
        ("10:30", "10\\:30", "10:30"),
        ("CRP <5 & >3", "CRP &lt;5 &amp; &gt;3", "CRP ‹5 & ›3"),
        ("mm[Hg]", "mm\\[Hg\\]", "mm[Hg]"),
        ("-3", "\\-3", "-3"),
        ("1-3", "1-3", "1-3"),
        ("3.5", "3.5", "3.5"),
        ("1. x", "1\\. x", "1. x"),
        ("cafe\u0301", "café", "café"),
        ("evil.com", f"evil.{JOINER}com", f"evil.{JOINER}com"),
        ("[x](y)", f"\\[x\\]{JOINER}\\(y\\)", f"[x]{JOINER}(y)"),
        ("a:\\/\\/b", f"a{JOINER}\\:\\\\/{JOINER}\\\\/b", f"a{JOINER}:\\/{JOINER}\\/b"),
    ],
)
def test_how_text_is_shown(value: str, text: str, plain: str) -> None:
    assert markdown.text(value) == text
    assert markdown.plain(value, limit=100) == plain


@pytest.mark.parametrize("mark", "\\`*_{}[]()#!|~^$=:@")
def test_marks_with_a_meaning_in_some_renderer_are_escaped(mark: str) -> None:
    assert f"\\{mark}" in markdown.text(f"a {mark} b")


def test_what_is_dropped() -> None:
    dropped = (
        "\x00\x1b\x7f\u0085\u00ad\u061c\u200b\u200e\u202e\u2060\u2066\ufeff\ud800\ue000\ufdd0\ufffe\U0001ffff\U000e0041"
    )
    assert markdown.plain("".join(f"x{one}" for one in dropped), limit=100).replace(" ", "") == "x" * len(dropped)


def test_cuts_are_marked_and_keep_characters_whole() -> None:
    assert markdown.plain("abcdef", limit=6) == "abcdef"
    assert markdown.plain("abcdefg", limit=6) == "abcde…"
    assert markdown.plain("abc defg", limit=5) == "abc…"
    assert markdown.plain("abcde", limit=1) == "…"
    assert markdown.plain("ab" + "x\u0323\u0302" * 5, limit=5) == "ab…"
    assert markdown.text("|" * 300, limit=10) == "\\|" * 9 + "…"
    assert markdown.plain("x" + "\u200b" * 1000 + "y", limit=10) == "x…"


def test_towers_of_marks_are_taken_down() -> None:
    assert len(markdown.plain("a" + "\u0323" * 60, limit=100)) == 9
    assert markdown.plain("\u0301a", limit=5) == "\u0301a"


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_leaves_room(limit: int) -> None:
    with pytest.raises(ValueError, match="limit"):
        markdown.plain("a", limit=limit)


def test_our_own_text() -> None:
    own = "**Met**: PaO2 &lt; 100, a < b, [protocol](https://example.org)"
    assert markdown.literal(own) == own
    for hostile in ("<b>x</b>", "</p>", "<!-- x -->", "<?x?>", "![x](y)"):
        with pytest.raises(ValueError, match="raw HTML or an image"):
            markdown.literal(hostile)


def test_tables_and_lists() -> None:
    assert markdown.table([Safe("a"), Safe("b")], [[Safe("1"), Safe("x\\|y")]]) == (
        "| a | b |\n| --- | --- |\n| 1 | x\\|y |"
    )
    assert markdown.bullets([Safe("a"), Safe("b")]) == "- a\n- b"
    assert markdown.bullets([]) == ""


@pytest.mark.parametrize(
    ("header", "row"), [(["a"], ["1", "2"]), (["a", "b"], ["1"]), ([], []), (["a"], ["1|2"]), (["a"], ["1\n2"])]
)
def test_tables_that_would_break(header: list[str], row: list[str]) -> None:
    with pytest.raises(ValueError, match=r"cell"):
        markdown.table([Safe(cell) for cell in header], [[Safe(cell) for cell in row]])


def test_lists_that_would_break() -> None:
    with pytest.raises(ValueError, match="one line"):
        markdown.bullets([Safe("a\n\n# b")])
