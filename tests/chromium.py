"""A headless Chromium driven over its debugging protocol: one browser for a whole run (starting it costs seconds), one
tab for each thing to look at."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1280,900",
    "--remote-debugging-port=0",
]


class Tab:
    """One page of the browser: open an address, run an expression in it, wait for something to be true."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection, self._ids = connection, itertools.count(1)
        self.errors: list[str] = []
        self.events: list[dict[str, Any]] = []
        self.call("Page.enable")
        self.call("Runtime.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._ids)
        self._connection.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = self._heard()
            if message.get("id") == number:
                assert "error" not in message, message
                return dict(message["result"])

    def _heard(self) -> dict[str, Any]:
        """The next message; an event is kept."""
        message: dict[str, Any] = json.loads(self._connection.recv(timeout=20))
        if message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(str(message["params"]["exceptionDetails"]))
        if "method" in message:
            self.events.append(message)
        return message

    def await_event(self, method: str) -> None:
        """Listen until the browser has told of it, from the events that nobody has taken yet on."""
        while not any(event["method"] == method for event in self.events):
            self._heard()

    def run(self, expression: str) -> Any:
        """The value of an expression, awaited; a script error of the page fails the test."""
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def until(self, expression: str, *, seconds: float = 15) -> None:
        deadline = time.monotonic() + seconds
        while not self.run(f"Boolean({expression})"):
            assert time.monotonic() < deadline, f"never true: {expression}\n{self.run('document.body.innerText')}"
            time.sleep(0.05)

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def open_chart(self, url: str, patient: str) -> None:
        """Open a chart by its address and wait until the cards, or the reason for none, are there."""
        self.open(f"{url}/#patient={patient}")
        self.until("!document.querySelector('#drawer').hidden && document.querySelector('#cards').ariaBusy === 'false'")
        self.until("document.querySelector('#chart').ariaBusy === 'false'")

    def text(self, selector: str) -> str:
        return str(self.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def count(self, selector: str) -> int:
        return int(self.run(f"document.querySelectorAll({json.dumps(selector)}).length"))

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


@contextmanager
def running(profile: Path, *flags: str) -> Iterator[str]:
    """The debugging address of a Chromium whose files are in `profile`, an empty folder."""
    assert CHROMIUM is not None
    with (profile / "log").open("wb") as log:
        process = subprocess.Popen([CHROMIUM, *FLAGS, *flags, f"--user-data-dir={profile}"], stdout=log, stderr=log)
        try:
            port_file = profile / "DevToolsActivePort"
            deadline = time.monotonic() + 30
            while not (port_file.exists() and port_file.read_text().count("\n")):
                assert process.poll() is None, (profile / "log").read_text()
                assert time.monotonic() < deadline, "chromium did not open its debugging port"
                time.sleep(0.1)
            port, path = port_file.read_text().splitlines()[:2]
            yield f"ws://127.0.0.1:{port}{path}"
        finally:
            process.terminate()
            process.wait(timeout=20)


@contextmanager
def tab(browser: str) -> Iterator[Tab]:
    """One page of the browser at that address, closed afterwards."""
    with connect(browser, max_size=None, proxy=None) as control:
        control.send(json.dumps({"id": 1, "method": "Target.createTarget", "params": {"url": "about:blank"}}))
        target = json.loads(control.recv(timeout=20))
        while target.get("id") != 1:
            target = json.loads(control.recv(timeout=20))
        id_ = target["result"]["targetId"]
        page = browser.partition("/devtools/")[0] + f"/devtools/page/{id_}"
        with connect(page, max_size=None, proxy=None) as connection:
            yield Tab(connection)
        control.send(json.dumps({"id": 2, "method": "Target.closeTarget", "params": {"targetId": id_}}))
        control.recv(timeout=20)
