"""Nothing leaks: the search finds what is there, and finds nothing where nothing may be."""

from __future__ import annotations

import base64
import json
import logging
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
import warnings
from contextlib import closing
from pathlib import Path

import pytest

from app.store.models import metadata
from tests.integration.hospital import hook, opened
from tests.security import canaries
from tests.security.canaries import IN_ANSWERS, IN_COLUMNS, SINKS, STATUSES, Findings
from tests.security.needles import NAMES, Needles
from tests.security.needles import PATIENT as OF_PATIENT
from tests.security.ward import FAILS, chart

pytestmark = pytest.mark.no_cover

PATIENT = "demo-full-protocol"


# --- the search ------------------------------------------------------------------------------------------------------


def test_there_are_enough_and_each_is_its_own() -> None:
    needles = Needles()
    texts = [needles[name] for name in NAMES]
    assert len(set(texts)) == len(NAMES) >= 30
    for name in NAMES:
        assert needles.find(needles[name]) == {name}
    assert needles.find(Needles()["family"]) == frozenset()
    assert needles.find("") == frozenset()


@pytest.mark.parametrize("name", ["family", "birth-date"])
@pytest.mark.parametrize("before", ["", "x", "xy", "xyz", '{"a":"'])
def test_a_canary_is_found_however_it_is_written(name: str, before: str) -> None:
    needles = Needles()
    whole = f"{before}{needles[name]} tail"
    packed = base64.b64encode(whole.encode())
    for form in (
        whole,
        whole.upper(),
        whole.encode(),
        bytearray(whole.encode()),
        whole.encode().hex(),
        whole.encode().hex().upper(),
        packed,
        base64.urlsafe_b64encode(whole.encode()),
        packed.rstrip(b"="),
        json.dumps({"a": [whole]}),
        f"%7B{whole}%7D",
        b"\xff\x00" + whole.encode() + b"\xff",
    ):
        assert needles.find(bytes(form) if isinstance(form, bytearray) else form) == {name}


def test_dates_are_found_in_other_notations_and_more_texts_can_be_added() -> None:
    needles = Needles()
    year, month, day = needles["birth-date"].split("-")
    assert needles.find(f"born {day}.{month}.{year}") == {"birth-date"}
    assert needles.find(f"{year}{month}{day}") == {"birth-date"}
    needles.add("backend-key", "MHcCAQEEIA-secret")
    assert needles.find("a MHcCAQEEIA-secret") == {"backend-key"}
    assert needles.find(needles["backend-key"]) == {"backend-key"}


def test_a_place_in_json_is_named() -> None:
    needles = Needles()
    value = {"cards": [{"detail": f"of {needles['family']}", "links": []}, {needles["mrn"]: 1}], "n": 7, "no": None}
    assert needles.where(value) == {"cards[].detail": {"family"}, "cards[] (key)": {"mrn"}}


def test_the_chart_holds_every_canary_of_a_patient() -> None:
    needles = Needles()
    text = json.dumps(chart(needles))
    assert {name for name in OF_PATIENT if name not in needles.find(text)} == set()
    assert PATIENT not in text


# --- each sink would tell --------------------------------------------------------------------------------------------


def test_an_answer_may_hold_what_is_documented_where_it_is() -> None:
    needles = Needles()
    found = Findings(needles)

    def answered(card: object) -> None:
        body = json.dumps({"cards": [card]}, separators=(",", ":")).encode()
        found.answer(200, "content-type: application/json", body, at="here")

    evidence = {"entries": [{"reference": f"Observation/{needles['resource-id']}"}]}
    answered({"extension": {"org.rescue-cds.evidence": evidence}})
    answered({"suggestions": [{"actions": [{"resource": {"subject": {"reference": needles["patient-id"]}}}]}]})
    assert found.hits == set()
    answered({"detail": f"about {needles['family']}"})
    answered({"extension": {"org.rescue-cds.evidence": {"entries": [{"reference": needles["mrn"]}]}}})
    answered({"summary": needles["patient-id"]})
    assert {name for _, name, _ in found.hits} == {"family", "mrn", "patient-id"}


@pytest.mark.parametrize("status", [200, 400, 500])
def test_a_body_that_is_no_cards_may_hold_nothing(status: int) -> None:
    needles = Needles()
    found = Findings(needles)
    found.answer(status, f"x: {needles['etag']}", needles["patient-id"].encode(), at="here")
    assert {name for _, name, _ in found.hits} == {"etag", "patient-id"}


def test_a_column_may_hold_what_is_documented(tmp_path: Path) -> None:
    needles = Needles()
    database = tmp_path / "d.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("create table decision_facts (patient text, facts blob, extra text)")
        row = (needles["patient-id"], f"{needles['birth-date']} {needles['family']}".encode(), needles["patient-id"])
        connection.execute("insert into decision_facts values (?, ?, ?)", row)
        connection.execute("create table unheard_of (a text)")
        connection.execute("insert into unheard_of values (?)", (needles["hook-token"],))
        connection.commit()
    found = Findings(needles)
    canaries.columns(found, database)
    assert {(name, at) for sink, name, at in found.hits if sink == "database columns"} == {
        ("family", "decision_facts.facts"),
        ("patient-id", "decision_facts.extra"),
        ("hook-token", "unheard_of.a"),
    }
    assert {name for sink, name, _ in found.hits if sink == "database files"} == {"family", "hook-token"}


def test_what_is_removed_from_a_database_is_still_searched_for(tmp_path: Path) -> None:
    """Bytes of a deleted row stay in the file unless they are overwritten."""
    needles = Needles()
    database = tmp_path / "d.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("pragma secure_delete = off")
        connection.execute("create table t (a text)")
        connection.execute("insert into t values (?)", (needles["family"],))
        connection.commit()
        connection.execute("delete from t")
        connection.commit()
    found = Findings(needles)
    canaries.columns(found, database)
    assert {(sink, name) for sink, name, _ in found.hits} == {("database files", "family")}


def test_every_way_out_of_the_process_is_watched(tmp_path: Path) -> None:
    needles = Needles()
    found = Findings(needles)
    before = sys.stdout, sys.stderr, Path.cwd(), sys.excepthook, logging.getLogger().handlers[:]
    hooks = sys.unraisablehook, threading.excepthook, warnings.showwarning
    with canaries.captured(tmp_path) as (log, out):
        logging.getLogger("app.test").info("seen", extra={"why": needles["family"]})
        print(needles["given"])
        os.write(1, needles["mrn"].encode())
        os.write(2, needles["street"].encode())
        subprocess.run(["echo", needles["city"]], check=True)
        Path("core").write_text(needles["phone"])
        with tempfile.NamedTemporaryFile("w", delete=False) as file:
            file.write(needles["email"])
    assert before == (sys.stdout, sys.stderr, Path.cwd(), sys.excepthook, logging.getLogger().handlers[:])
    assert hooks == (sys.unraisablehook, threading.excepthook, warnings.showwarning)
    canaries.written(found, log=log, out=out)
    canaries.files(found, tmp_path, known=[log, out])
    assert {(sink, name) for sink, name, _ in found.hits} == {
        ("log", "family"),
        ("stdout and stderr", "given"),
        ("stdout and stderr", "mrn"),
        ("stdout and stderr", "street"),
        ("stdout and stderr", "city"),
        ("other files", "phone"),
        ("other files", "email"),
    }


class Keeping:
    __slots__ = ("_kept",)

    def __init__(self, kept: object) -> None:
        self._kept = kept


@pytest.mark.parametrize("form", ["text", "bytes", "bytearray", "inside"])
def test_the_heap_tells_what_is_kept(form: str) -> None:
    first, second = "heap" + os.urandom(6).hex(), os.urandom(12).hex()
    assert canaries.in_heap(first, second) == 0
    whole = "".join((first, second))
    made: object = {
        "text": whole,
        "bytes": whole.encode(),
        "bytearray": bytearray(whole.encode()),
        "inside": f"Bearer {whole}.",
    }[form]
    del whole
    keeping = Keeping([{"deep": (made,)}])
    del made
    assert canaries.in_heap(first, second) >= 1
    assert isinstance(keeping, Keeping)
    del keeping
    assert canaries.in_heap(first, second) == 0


# --- the lists -------------------------------------------------------------------------------------------------------


def test_the_documented_columns_exist() -> None:
    known = {f"{table.name}.{column.name}" for table in metadata.sorted_tables for column in table.columns}
    assert set(IN_COLUMNS) <= known
    may = frozenset[str]().union(*IN_COLUMNS.values(), *IN_ANSWERS.values())
    assert may <= set(NAMES)
    assert may.isdisjoint(
        {"hook-token", "client-jwt", "backend-key", "backend-token", "mrn", "family", "given", "note", "narrative"}
    )


def test_the_server_fails_in_many_ways() -> None:
    needles = Needles()
    assert len(FAILS) >= 15
    silent = {kind for kind, said in FAILS.items() if not needles.find(said(needles).body)}
    assert silent <= {"redirect", "packed"}  # an address, and what is packed


# --- a whole run -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found() -> Findings:
    return canaries.search(size="small")


@pytest.mark.parametrize("sink", SINKS)
def test_nothing_leaks(found: Findings, sink: str) -> None:
    assert sorted(hit for hit in found.hits if hit[0] == sink) == []
    assert found.searched[sink] > 0
    assert {hit[0] for hit in found.hits} <= set(SINKS)


def test_everything_went_in_and_every_status_came_out(found: Findings) -> None:
    assert set(NAMES) - found.went_in == set()
    assert set(found.statuses) >= STATUSES


def test_the_log_was_talkative(found: Findings) -> None:
    """An empty log would hold no canary either."""
    assert found.log_lines > 100
    assert {"app.api.routes", "app.trust", "app.observe.logs", "uvicorn.error", "asyncio"} <= found.loggers


def test_nothing_is_read_after_the_answer(found: Findings) -> None:
    assert found.reads_after == 0


def test_nothing_is_allowed_that_does_not_happen(found: Findings) -> None:
    """A list that allows too much would hide a leak."""
    allowed = {(where, name) for listed in (IN_COLUMNS, IN_ANSWERS) for where, may in listed.items() for name in may}
    assert allowed - found.allowed_seen == set()


# --- leaks that are not by what the service writes -------------------------------------------------------------------


async def test_after_removal_nothing_says_whose_the_decisions_were(tmp_path: Path) -> None:
    async with opened(tmp_path) as hospital:
        assert (await hospital.call(hook(PATIENT))).status_code == 200
        assert await hospital.store.remove_patient(PATIENT, tenant="dev") == 1
        (row,) = hospital.rows()
        assert f"Patient/{PATIENT}" not in json.dumps(row)


TRACED = """
import asyncio, sys
import httpx
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

kept = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(kept))
trace.set_tracer_provider(provider)

from app.main import create_app
from app.settings import dev

async def main():
    app = create_app(dev(db="sqlite+aiosqlite:///:memory:"))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://h") as client:
            await client.get("/cds-services/canary?patient=canary")
            await client.post("/cds-services/anakinra-ruxolitinib-patient-view?patient=canary", content=b"canary")

asyncio.run(main())
for span in kept.get_finished_spans():
    print(span.to_json(indent=None))
"""


def test_the_framework_makes_no_spans_of_its_own() -> None:
    """FastAPI traces by itself wherever a site has set a provider: paths and queries are attributes of its spans."""
    done = subprocess.run([sys.executable, "-c", TRACED], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "canary" not in done.stdout
    assert done.stdout == ""
