"""The demo's web site: which files it serves, under which policy, and what it tells the page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from app.sandbox import formulary, site
from app.sandbox.site import create_site


@dataclass(frozen=True, slots=True)
class StoryOfOne:
    patient_id: str = "a"
    name: str = "Ann"
    title: str = "met"
    line: str = "Thresholds met."


def client(**changes: Any) -> TestClient:
    given: dict[str, Any] = {
        "fhir_app": None,
        "fhir_url": "http://127.0.0.1:8000/fhir/",
        "cds_url": "http://127.0.0.1:8001",
        "stories": [StoryOfOne()],
    }
    return TestClient(create_site(**(given | changes)))


def test_every_file_is_served_with_its_type_and_the_policy() -> None:
    server = client()
    names = sorted(file.name for file in site.PAGE.iterdir())
    assert {"index.html", "page.css", "page.js", "gfm.js", "icon.svg"} <= set(names)
    for name in names:
        answer = server.get("/" if name == "index.html" else f"/{name}")
        assert answer.status_code == 200
        assert answer.content == (site.PAGE / name).read_bytes()
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert server.get("/").headers["content-type"] == "text/html; charset=utf-8"
    assert server.get("/page.js").headers["content-type"] == "text/javascript; charset=utf-8"


def test_the_page_may_talk_to_the_service_and_the_fhir_server_only() -> None:
    policy = client(fhir_url="https://fhir.example.org/r4").get("/").headers["content-security-policy"]
    assert policy == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self' http://127.0.0.1:8001 https://fhir.example.org; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def test_an_address_that_would_widen_the_policy_is_refused() -> None:
    for address in ["", "/cds", "http://x; script-src *", "javascript:alert(1)", "http://a b/"]:
        with pytest.raises(ValueError, match="address"):
            client(cds_url=address)


def test_the_page_learns_where_to_ask_and_what_the_patients_tell() -> None:
    told = client().get("/demo.json").json()
    assert told.pop("pad") == formulary.pad()
    assert told == {
        "fhir": "http://127.0.0.1:8000/fhir",
        "cds": "http://127.0.0.1:8001",
        "embedded": False,
        "stories": [{"id": "a", "name": "Ann", "title": "met", "line": "Thresholds met."}],
        "statistics": None,
    }
    told = client(statistics="http://127.0.0.1:8002/stats").get("/demo.json").json()
    assert told["statistics"] == "http://127.0.0.1:8002/stats"


def test_the_sandbox_is_there_only_when_given() -> None:
    fhir_app = Starlette(routes=[Route("/metadata", lambda _request: PlainTextResponse("here"))])
    assert client(fhir_app=fhir_app).get("/fhir/metadata").text == "here"
    assert client().get("/fhir/metadata").status_code == 404


def test_nothing_is_inline_and_nothing_comes_from_elsewhere() -> None:
    html = (site.PAGE / "index.html").read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", html) == []
    for file in site.PAGE.iterdir():
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert re.findall(r"https?://(?!\))[a-z]", text) == [], file.name
        assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text) == []
