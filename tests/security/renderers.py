"""What clients make of a card's Markdown: three renderers with everything dangerous switched on.

`markdown_it` is markdown-it with raw HTML; `remark` is the stack of the public CDS Hooks sandbox (react-markdown with
remark-gfm and rehype-raw), which finds links in plain text after escapes and entities are decoded; `Browser` shows the
HTML of that in a headless Chromium and listens for every script and every request.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from html import escape
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

from tests import chromium, npm

REMARK = Path(__file__).parent / "remark"
RENDER_SECONDS = 600
SECTIONS_A_PAGE = 200
_PATH = "/card"

Elements = Counter[str]
"""How many elements of each kind: the name, and the names of its attributes."""

_MARKDOWN_IT = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: Elements = Counter()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found[_named(tag, [name for name, _ in attrs])] += 1

    def handle_comment(self, _data: str) -> None:
        self.found["comment"] += 1

    def handle_decl(self, _decl: str) -> None:
        self.found["declaration"] += 1

    def handle_pi(self, _data: str) -> None:
        self.found["instruction"] += 1


def elements(html: str) -> Elements:
    """The elements of HTML, and what else is no text in it."""
    parser = _Tags()
    parser.feed(html)
    parser.close()
    return parser.found


def links(found: Elements) -> int:
    """How many of them lead elsewhere or load something."""
    leading = ("href", "src", "srcset", "action", "data", "xlink:href", "style", "http-equiv")
    names = {"a", "area", "base", "form", "iframe", "img", "link", "script", "style"}
    return sum(
        count
        for element, count in found.items()
        if element.partition("[")[0] in names or any(f" {name} " in element for name in leading)
    )


def markdown_it(details: Sequence[str]) -> list[str]:
    """Each as HTML."""
    return [_MARKDOWN_IT.render(detail) for detail in details]


def remark(details: Sequence[str]) -> list[str]:
    """Each as HTML, in one process; raises npm.Unavailable where its packages are not to be had."""
    command = [npm.node(), str(REMARK / "render.mjs"), str(npm.installed(REMARK))]
    lines = "".join(f"{json.dumps(detail)}\n" for detail in details)
    done = subprocess.run(command, input=lines, capture_output=True, encoding="utf-8", timeout=RENDER_SECONDS)
    assert done.returncode == 0, done.stderr
    html: list[str] = [json.loads(line) for line in done.stdout.split("\n") if line]
    assert len(html) == len(details)
    return html


@dataclass(slots=True)
class Shown:
    """What a browser made of pieces of HTML: the elements of each, and what happened besides."""

    elements: list[Elements]
    scripts: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


class Browser:
    """A page of Chromium that shows HTML as the body of a document of this machine, with scripts allowed."""

    def __init__(self, tab: chromium.Tab, pages: dict[str, bytes], url: str) -> None:
        self._tab, self._pages, self._url = tab, pages, url
        for domain in ("Network", "Debugger"):
            tab.call(f"{domain}.enable")

    def show(self, pieces: Sequence[str]) -> Shown:
        """Many pieces, a page for every two hundred; each is a section of its page."""
        shown = Shown([])
        for start in range(0, len(pieces), SECTIONS_A_PAGE):
            part = pieces[start : start + SECTIONS_A_PAGE]
            body = "".join(f"<section>{piece}</section>" for piece in part)
            shown.elements += self._page(body, shown)
        return shown

    def active(self, pieces: Sequence[str]) -> int:
        """How many pieces run a script or ask for something, each in a frame of its own."""
        frames = "".join(f'<iframe srcdoc="{escape(piece)}"></iframe>' for piece in pieces)
        self._load(frames)
        parents = {
            event["params"]["frameId"]: event["params"]["parentFrameId"]
            for event in self._tab.events
            if event["method"] == "Page.frameAttached"
        }
        found = set()
        for event in self._tab.events:
            params = event["params"]
            if event["method"] == "Debugger.scriptParsed":
                frame = params["executionContextAuxData"]["frameId"]
            elif event["method"] == "Network.requestWillBeSent" and self._is_foreign(params["request"]["url"]):
                frame = params["frameId"]
            else:
                continue
            while parents.get(parents.get(frame, "")):
                frame = parents[frame]
            found.add(frame)
        return len(found & set(parents))

    def _page(self, body: str, shown: Shown) -> list[Elements]:
        self._load(body)
        for event in self._tab.events:
            params = event["params"]
            if event["method"] == "Debugger.scriptParsed":
                shown.scripts.append(f"{params['url']} {params['length']}")
            elif event["method"] == "Network.requestWillBeSent" and self._is_foreign(params["request"]["url"]):
                shown.requests.append(params["request"]["url"])
        counted: list[dict[str, int]] = self._tab.run(_COUNT)
        if self._tab.run("window.hit === undefined") is not True:
            shown.scripts.append("window.hit")
        return [Counter(one) for one in counted]

    def _load(self, body: str) -> None:
        """Show the page, and hear of everything that happens until it is complete."""
        page = f"<!doctype html><meta charset=utf-8><title>Cards</title><body>{body}"
        self._pages[_PATH] = page.encode("utf-8", "replace")
        self._tab.events.clear()
        self._tab.call("Page.navigate", url=self._url + _PATH)
        self._tab.await_event("Page.loadEventFired")
        self._tab.call("Page.enable")  # whatever came until now has been heard when this is answered

    def _is_foreign(self, url: str) -> bool:
        return url not in {self._url + _PATH, f"{self._url}/favicon.ico", "about:srcdoc"}


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A Chromium that can reach nothing but this machine; its files are in `folder`, which is empty."""
    pages: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = pages.get(self.path)
            self.send_response(404 if page is None else 200)
            self.send_header("content-type", "text/html; charset=utf-8")
            self.end_headers()
            with suppress(ConnectionError):  # the page has sent the browser elsewhere
                self.wfile.write(page or b"")

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the library calls it
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        with (
            chromium.running(folder, "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1") as address,
            chromium.tab(address) as tab,
        ):
            yield Browser(tab, pages, f"http://127.0.0.1:{server.server_address[1]}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


def _named(tag: str, attributes: Sequence[str]) -> str:
    return f"{tag}[ {' '.join(sorted(attributes))} ]" if attributes else tag


_COUNT = """[...document.querySelectorAll('body > section')].map((section) => {
  const found = {};
  for (const element of section.querySelectorAll('*')) {
    const names = element.getAttributeNames().sort().join(' ');
    const name = names ? `${element.localName}[ ${names} ]` : element.localName;
    found[name] = (found[name] ?? 0) + 1;
  }
  return found;
})"""
