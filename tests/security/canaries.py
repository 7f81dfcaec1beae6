"""Nothing leaks: canaries in everything that comes in, and a search through everything that goes out.

The service runs as it does in a hospital: behind its own server on a socket, against a FHIR server on another, with its
log at DEBUG. It is asked every way it can be asked and fails every way it can fail. Then every sink is
searched: what was written to the log, to stdout and stderr, answers, metrics, spans, pages, the texts of exceptions,
each column of the database and each byte of its files, every other file, and the heap.

Three places may hold some of it, and only what is listed here: the record (`IN_COLUMNS`), the answer to the client that
sent it (`IN_ANSWERS`), and nothing else.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import re
import socket
import sqlite3
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from unittest.mock import patch
from zoneinfo import ZoneInfo

import httpx
import uvicorn
from joserfc.jwk import ECKey
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.types import ASGIApp

from app import edge, evaluate
from app.api.admin import create_admin
from app.clients import Client, TokenRules
from app.gateway.access import Access
from app.gateway.backend_services import Credentials, load_key
from app.gateway.fhir import Query
from app.main import create_app, create_operators
from app.names import ORDER_SELECT, ORDER_SIGN, PATIENT_VIEW
from app.observe import logs, traces
from app.settings import BodyLimits, Settings, Snooze, Tenant, dev
from app.store.decisions import Decision, Store
from app.store.errors import NotRecorded
from app.store.feedback import Feedback
from cds_hooks import feedback as feedbacks
from cds_hooks import orders, prefetch, trust
from cds_hooks import request as calls
from fhir_mappings import sieve
from fhir_mappings.facts import Overlay
from tests.figures import Figure, Figures
from tests.integration.hospital import DECISION, NOW, hook, ordering, shipped
from tests.security.needles import NAMES, Needles
from tests.security.ward import FAILS, FINE, MODES, TOKEN_BAD, TOKEN_GOOD, Ward
from tests.unit.app.registry import Ehr

STATUSES: Final = frozenset({200, 400, 401, 403, 404, 405, 408, 412, 413, 415, 431, 500, 503})
"""Every status that the service has; each has to come up in a run."""

BODY_BYTES: Final = 4 * 1024 * 1024

EHR: Final = "ehr"
HILL, DALE = "hill", "dale"
PUBLIC: Final = "https://cds.example.org"
ISSUER: Final = "https://ehr.example.org"

Json = dict[str, Any]

_IDS: Final = frozenset({"patient-id", "resource-id", "draft-id"})
_DRAFT: Final = frozenset({"draft-id", "draft-text", "draft-name", "performer"})

IN_ANSWERS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        # What a card rests on names resources by reference (docs/evaluate.md).
        r"cards\[\]\.extension\.org\.rescue-cds\.evidence\..*\.(reference|draft)": _IDS,
        rf"extension\.{re.escape(DECISION)}\.gaps\[\]\.reference": frozenset({"resource-id", "draft-id"}),
        # The drafts as they were read: by the words that the client wrote, where no code says more.
        r"cards\[\]\.detail": frozenset({"draft-text"}),
        # A suggestion is an order for this patient, and a corrected draft is the whole draft.
        r"cards\[\]\.suggestions\[\]\.actions\[\]\.resource\.(subject|encounter)\.reference": frozenset(
            {"patient-id", "encounter"}
        ),
        r"cards\[\]\.suggestions\[\]\.actions\[\]\.resource\..*": _DRAFT,
    }
)
"""Where the answer to a hook may hold what, besides: by the place in its JSON."""

IN_COLUMNS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "decisions.hook_instance": frozenset({"hook-instance"}),
        "decisions.evidence": frozenset({"resource-id", "draft-id"}),
        "decisions.gaps": frozenset({"resource-id", "draft-id"}),
        "decision_facts.patient": frozenset({"patient-id"}),
        # The facts; the encounter that an order would bear; a draft whose correction the answer holds.
        "decision_facts.facts": _IDS | _DRAFT | {"encounter", "birth-date", "code-text", "medication-text"},
        "decision_answers.body": _IDS | _DRAFT | {"encounter"},
        "snoozes.patient": frozenset({"patient-id"}),
        "feedback.card": frozenset({"card-id"}),
        "feedback.reason_code": frozenset({"reason-code"}),
        "feedback.reason_system": frozenset({"reason-system"}),
        "feedback_words.display": frozenset({"reason-display"}),
        "feedback_words.comment": frozenset({"user-comment"}),
    }
)
"""What each column may hold (docs/integrate.md, "What is recorded"; app/store/models.py). Any other: nothing."""


# --- what was found --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Findings:
    """Everything that was searched, and what was found where it must not be."""

    needles: Needles
    searched: Counter[str] = field(default_factory=Counter)
    size: Counter[str] = field(default_factory=Counter)
    hits: set[tuple[str, str, str]] = field(default_factory=set)
    went_in: set[str] = field(default_factory=set)
    statuses: Counter[int] = field(default_factory=Counter)
    allowed_seen: set[tuple[str, str]] = field(default_factory=set)
    kept: int = 0
    log_lines: int = 0
    loggers: set[str] = field(default_factory=set)
    reads_after: int = 0

    def search(self, sink: str, data: bytes | str, *, at: str = "", but: frozenset[str] = frozenset()) -> None:
        """Note the canaries in there, unless they are `but` those that may be."""
        self.searched[sink] += 1
        self.size[sink] += len(data)
        for name in self.needles.find(data):
            if name in but:
                self.allowed_seen.add((at, name))
            else:
                self.hits.add((sink, name, at))

    def answer(self, status: int, headers: str, body: bytes, *, at: str) -> None:
        """What a client was told; a 200 may hold what is documented, where it is documented."""
        self.statuses[status] += 1
        self.search("headers of answers", headers, at=at)
        if status != 200 or not body.startswith(b'{"cards"'):
            self.search(f"bodies of {status}" if status < 400 else "bodies of errors", body, at=at)
            return
        self.searched["bodies of cards"] += 1
        self.size["bodies of cards"] += len(body)
        if not self.needles.find(body):
            return
        for place, names in self.needles.where(json.loads(body)).items():
            for name in names:
                documented = [where for where, may in IN_ANSWERS.items() if name in may and re.fullmatch(where, place)]
                self.allowed_seen |= {(where, name) for where in documented}
                if not documented:
                    self.hits.add(("bodies of cards", name, f"{at}: {place}"))


FEW: Final = frozenset({"refused403-some", "outcome-some", "foreign-next-some", "mixed-some", "cut-some"})
"""Of the modes in which a card still comes about, those that a small run asks for."""

SINKS: Final = (
    *("log", "stdout and stderr", "headers of answers", "bodies of cards", "bodies of 200", "bodies of errors"),
    *("metrics", "spans", "admin pages", "statistics page", "exceptions", "representations", "database columns"),
    *("database files", "other files", "heap"),
)
"""Every one is searched in every run."""


# --- the process -----------------------------------------------------------------------------------------------------


@contextmanager
def captured(folder: Path) -> Iterator[tuple[Path, Path]]:
    """The files that hold the log, and what is written to stdout and stderr in any way, C included.

    Loggers, hooks and streams are as before afterwards, and the working folder is too.
    """
    log, out = folder / "log", folder / "out"
    known = [logging.getLogger(), *_loggers()]
    before = [(one, one.handlers[:], one.level, one.propagate) for one in known]
    hooks = sys.excepthook, sys.unraisablehook, threading.excepthook, warnings.showwarning
    rest = logging.raiseExceptions, logging.lastResort
    streams, where, temporary = (sys.stdout, sys.stderr), Path.cwd(), tempfile.tempdir
    descriptors = os.dup(1), os.dup(2)
    (folder / "cwd").mkdir()
    (folder / "tmp").mkdir()
    sys.stdout.flush()
    sys.stderr.flush()
    with log.open("w", encoding="utf-8") as to_log, out.open("w", encoding="utf-8", buffering=1) as to_out:
        try:
            os.dup2(to_out.fileno(), 1)
            os.dup2(to_out.fileno(), 2)
            sys.stdout = sys.stderr = to_out
            os.chdir(folder / "cwd")
            tempfile.tempdir = str(folder / "tmp")
            for one in known[1:]:
                one.setLevel(logging.NOTSET)
            logs.configure(level=logging.DEBUG, stream=to_log)
            yield log, out
        finally:
            gc.collect()  # what is lost is told of now
            sys.stdout, sys.stderr = streams
            for number, kept in enumerate(descriptors, start=1):
                os.dup2(kept, number)
                os.close(kept)
            os.chdir(where)
            tempfile.tempdir = temporary
            sys.excepthook, sys.unraisablehook, threading.excepthook, warnings.showwarning = hooks
            logging.raiseExceptions, logging.lastResort = rest
            for one in _loggers():
                one.handlers.clear()
                one.setLevel(logging.NOTSET)
                one.propagate = True
            for one, handlers, level, propagate in before:
                one.handlers[:], one.propagate = handlers, propagate
                one.setLevel(level)


def _loggers() -> list[logging.Logger]:
    return [one for one in logging.Logger.manager.loggerDict.values() if isinstance(one, logging.Logger)]


@asynccontextmanager
async def listening(server: uvicorn.Server) -> AsyncIterator[str]:
    """That server on a free port of this machine: its address."""
    made = socket.socket()
    made.bind(("127.0.0.1", 0))
    task = asyncio.create_task(server._serve([made]))  # not `serve`, which takes the signals of the process
    try:
        while not server.started:
            if task.done():
                await task
                raise RuntimeError("the server did not start")
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{made.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


def talkative(app: ASGIApp) -> uvicorn.Server:
    """uvicorn as it comes, its access log on and its own log at TRACE."""
    return uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=True, log_level="trace"))


def own(app: ASGIApp) -> uvicorn.Server:
    """The service's own server, with less patience."""
    return edge.server(app, host="127.0.0.1", port=0, limits=edge.Limits(head_seconds=2.0))


class Full(Store):
    """A store whose disk is full when that is wanted; the driver's own error holds what was to be written."""

    full = ""

    async def record(self, decision: Decision) -> None:
        if self.full:
            raise NotRecorded(f"the disk is full of {self.full}") from sqlite3.OperationalError(self.full)
        await super().record(decision)


# --- one run ---------------------------------------------------------------------------------------------------------


class Run:
    """The requests of one run; what they bring in and what comes back is noted as they go."""

    def __init__(self, folder: Path, *, needles: Needles, full: bool) -> None:
        self.folder = folder
        self.needles = needles
        self.full = full
        self.found = Findings(needles)
        self.key = ECKey.generate_key("P-384")
        secret = str(self.key.as_dict(private=True)["d"])
        pem = self.key.as_pem(private=True).decode().splitlines()
        needles.add("backend-key", secret, secret[4:30], *pem[1:-1])
        self.ehr = Ehr(EHR, ISSUER)
        self.databases: list[Path] = []

    # --- hospitals

    @asynccontextmanager
    async def hospital(
        self, settings: Settings, *, serve: Callable[[ASGIApp], uvicorn.Server] = own, store: Store | None = None
    ) -> AsyncIterator[httpx.AsyncClient]:
        """The service, reached by a client; afterwards what it counted is searched."""
        exporter = InMemorySpanExporter()
        kept = traces.start(
            "", service_version="0", configured=(EHR, HILL, DALE, "anonymous", "dev"), exporter=exporter
        )
        app = create_app(settings, bedside=shipped(), store=store, clock=lambda: NOW, traces=kept)
        async with (
            listening(serve(app)) as address,
            # A connection of its own for each request: one that is kept may end while the next request is written.
            httpx.AsyncClient(
                base_url=address,
                timeout=30,
                limits=httpx.Limits(max_keepalive_connections=0),
                event_hooks={"response": [self._heard]},
            ) as client,
        ):
            yield client
            await self._operators(app)
        for span in exporter.get_finished_spans():
            self.found.search("spans", span.to_json(), at=span.name)
        self.databases.append(Path(settings.db.partition(":///")[2]))

    def settings(self, name: str, ward: Ward, **changes: Any) -> Settings:
        made = dev(fhir_urls=ward.bases, db=f"sqlite+aiosqlite:///{self.folder / name}.db")
        quick: dict[str, Any] = {
            "deadline_seconds": 3.0,
            "fhir": replace(made.fhir, call_seconds=2.0),
            "body": BodyLimits(bytes=BODY_BYTES, seconds=3.0),
        }
        return replace(made, **(quick | changes))

    def registered(self, ward: Ward) -> Settings:
        """A site with a registry: one tenant whose own credentials work, one whose do not."""
        jwks = self.folder / "ehr.jwks.json"
        jwks.write_text(self.ehr.jwks(), encoding="utf-8")
        bases = {HILL: ward.base(FINE), DALE: ward.base("refused403-some")}
        tenants = tuple(
            Tenant(
                name,
                (base,),
                ZoneInfo("UTC"),
                backend=Credentials("rescue-cds", f"{ward.root}{token}", "ES384", "key-1", self.key),
            )
            for (name, base), token in zip(bases.items(), (TOKEN_GOOD, TOKEN_BAD), strict=True)
        )
        client = Client(
            EHR,
            ISSUER,
            (PUBLIC,),
            {HILL: HILL, DALE: DALE},
            tuple(bases.values()),
            jwks_file=jwks,
            services=frozenset({PATIENT_VIEW, ORDER_SIGN}),
        )
        return self.settings(
            "registered",
            ward,
            profile="site",
            tenants=tenants,
            clients=(client,),
            tokens=TokenRules(replay="database"),
            snooze=Snooze(kinds=frozenset({"undetermined", "thresholds-met", "safety"})),
        )

    # --- what is sent

    def body(self, name: str, *, base: str | None, token: str = "", **more: Any) -> Json:
        """A call of that hook with a canary in every member that a client fills."""
        needles = self.needles
        patient = needles["patient-id"]
        if name == "patient-view":
            body = hook(patient, fhir=base, token=None, user=None)
        else:
            body = ordering(patient, *self.drafts(), hook=name, selections=self.selections(name), fhir=base, token=None)
        body["hookInstance"] = needles["hook-instance"]
        body["context"] |= {"userId": f"Practitioner/{needles['user']}", "encounterId": needles["encounter"]}
        body["extension"] = {"org.example.note": needles["member"], needles["member"]: 1}
        if base is not None:
            body["fhirAuthorization"] = {
                "access_token": token or needles["hook-token"],
                "token_type": "Bearer",
                "expires_in": 300,
                "scope": f"patient/*.read launch/{needles['scope']}",
                "subject": needles["subject"],
                "patient": patient,
            }
        return body | more

    def drafts(self) -> list[Json]:
        """Orders with what is wrong with them: one that is given back corrected, one with a note that forbids it, one
        that only its words name, one of which nothing says what it is."""
        mark = self.needles["draft-text"]
        noted = self.draft("1193326", "ruxolitinib", mg=25, number=2) | {"note": [{"text": self.needles["draft-note"]}]}
        unknown = self.draft(mark, mark, mg=1, number=4)
        unknown["medicationCodeableConcept"] = {"coding": [{"system": "urn:oid:1.2.3.4", "code": mark}]}
        return [
            self.draft("72435", "anakinra", mg=3000, number=1),
            noted,
            self.draft(mark, mark, mg=1, number=3),
            unknown,
        ]

    def draft(self, code: str, drug: str, *, mg: float, number: int) -> Json:
        needles = self.needles
        dose = {"value": mg, "unit": "mg", "system": "http://unitsofmeasure.org", "code": "mg"}
        return {
            "resourceType": "MedicationRequest",
            "id": f"{needles['draft-id']}-{number}",
            "status": "draft",
            "intent": "order",
            "medicationCodeableConcept": {
                "coding": [
                    {"system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": code, "display": drug},
                    {"system": "urn:oid:1.2.3.4", "code": needles["draft-text"], "display": needles["draft-text"]},
                ],
                "text": needles["draft-text"],
            },
            "subject": {"reference": f"Patient/{needles['patient-id']}", "display": needles["draft-name"]},
            "requester": {"display": needles["performer"]},
            "text": {"status": "generated", "div": f"<div>{needles['draft-note']}</div>"},
            "dosageInstruction": [
                {
                    "text": needles["draft-note"],
                    "timing": {"repeat": {"frequency": 1, "period": 1, "periodUnit": "d"}},
                    "doseAndRate": [{"doseQuantity": dose}],
                }
            ],
        }

    def selections(self, name: str) -> list[str] | None:
        chosen = [f"MedicationRequest/{one['id']}" for one in self.drafts()]
        return chosen if name == "order-select" else None

    def headers(self) -> dict[str, str]:
        """What goes with every request."""
        needles = self.needles
        return {
            "content-type": "application/json",
            "authorization": f"Bearer {needles['bearer']}",
            "x-patient": needles["header"],
            "cookie": f"session={needles['cookie']}",
            "user-agent": f"EHR/1 ({needles['user-agent']})",
            "origin": "http://localhost:3000",
        }

    async def _heard(self, response: httpx.Response) -> None:
        request = response.request
        sent = f"{request.url}\n" + "\n".join(f"{name}: {value}" for name, value in request.headers.items())
        self.found.went_in |= self.needles.find(sent)
        with suppress(httpx.RequestNotRead):
            self.found.went_in |= self.needles.find(request.content)
        body = await response.aread()
        headers = "\n".join(f"{name}: {value}" for name, value in response.headers.items())
        at = f"{request.method} {self._hidden(request.url.path)} {response.status_code}"
        self.found.answer(response.status_code, headers, body, at=at)

    def _hidden(self, path: str) -> str:
        return "/…" if self.needles.find(path) else path

    async def raw(self, client: httpx.AsyncClient, sent: bytes, *, hang_up: bool = False) -> None:
        """Bytes as they are; what comes back is read until the service hangs up."""
        self.found.went_in |= self.needles.find(sent)
        reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        writer.write(sent)
        await writer.drain()
        received = b""
        if not hang_up:
            async with asyncio.timeout(20):
                with suppress(ConnectionError):
                    received = await reader.read()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        if received:
            head, _, rest = received.partition(b"\r\n\r\n")
            self.found.answer(int(head.split(b" ", 2)[1]), head.decode("latin-1"), rest, at="over a bare socket")

    # --- the scenes

    async def everything(self) -> Findings:
        needles = self.needles
        ward_at: list[Ward] = []

        async def wards(scope: Any, receive: Any, send: Any) -> None:
            await ward_at[0](scope, receive, send)

        quiet = uvicorn.Server(uvicorn.Config(wards, log_config=None, access_log=False, lifespan="off"))
        async with listening(quiet) as root:
            ward = Ward(needles, root=root)
            ward_at.append(ward)
            async with self.hospital(self.settings("open", ward)) as client:
                await self._reading(client, ward)
                await self._refusals(client, ward)
                await self._faults(client, ward)
                await self._feedback(client, ward)
            async with self.hospital(self.settings("talkative", ward), serve=talkative) as client:
                await self._hooks(client, ward.base(FINE))
                await self._refusals(client, ward)
            await self._store(ward)
            await self._overload(ward)
            async with self.hospital(self.registered(ward)) as client:
                await self._tokens(client, ward)
            self.found.went_in |= ward.served
        self._public_functions()
        return self.found

    async def _hooks(self, client: httpx.AsyncClient, base: str | None, *names: str, **more: Any) -> None:
        for name in names or ("patient-view", "order-select", "order-sign"):
            path = f"/cds-services/anakinra-ruxolitinib-{name}?patient={self.needles['query']}"
            await client.post(path, json=self.body(name, base=base, **more), headers=self.headers())

    async def _reading(self, client: httpx.AsyncClient, ward: Ward) -> None:
        """Discovery, and each hook in each kind of trouble, with a prefetch and without."""
        for method in ("GET", "HEAD", "OPTIONS"):
            await client.request(method, f"/cds-services?x={self.needles['query']}", headers=self.headers())
        await client.get(f"/attributes?x={self.needles['query']}", headers=self.headers())
        for mode in MODES:
            if self.full or mode == FINE:
                await self._hooks(client, ward.base(mode))
            elif mode.endswith("-all") or mode in FEW:
                await self._hooks(client, ward.base(mode), "patient-view")
        sent = await self._prefetched(client, ward)
        await self._hooks(client, None, prefetch=sent)
        await self._hooks(client, ward.base("refused403-all"), prefetch=sent)
        await self._hooks(client, f"https://{self.needles['unknown-server']}.example/fhir", prefetch=sent)
        await self._hooks(client, None, prefetch={self.needles["prefetch-key"]: {"resourceType": "Patient"}})
        for kind in ("refused403", "mixed"):
            said = json.loads(FAILS[kind](self.needles).body)
            await self._hooks(client, None, prefetch=dict.fromkeys(sent, said))
        odd = sent | {"patient": {"resourceType": "Patient", "id": self.needles["foreign-patient"]}}
        await self._hooks(client, None, prefetch=odd)
        for wrong in ("text", 7, [self.needles["member"]], {"resourceType": self.needles["member"]}, None):
            await self._hooks(client, None, prefetch={**sent, next(iter(sent)): wrong})
        await self._hooks(client, ward.base(FINE), hookInstance=f"Mrs {self.needles['odd-instance']}, ward 3")
        for user in ("Patient", "RelatedPerson"):
            body = self.body("patient-view", base=ward.base(FINE))
            body["context"]["userId"] = f"{user}/{self.needles['user']}"
            await client.post(f"/cds-services/{PATIENT_VIEW}", json=body, headers=self.headers())

    async def _prefetched(self, client: httpx.AsyncClient, ward: Ward) -> dict[str, Any]:
        """What a client gets that resolves the templates of discovery."""
        services = (await client.get("/cds-services")).json()["services"]
        found: dict[str, Any] = {self.needles["prefetch-key"]: {"resourceType": "Basic"}}
        async with httpx.AsyncClient(timeout=30) as fhir:
            for service in services:
                for key, template in service["prefetch"].items():
                    path = prefetch.render(template, values={"context.patientId": self.needles["patient-id"]})
                    found[key] = (await fhir.get(f"{ward.base(FINE)}/{path}")).json()
        return found

    async def _refusals(self, client: httpx.AsyncClient, ward: Ward) -> None:
        """Each call that cannot be read."""
        needles, view = self.needles, f"/cds-services/{PATIENT_VIEW}"
        good = self.body("patient-view", base=ward.base(FINE))
        text = json.dumps(good)
        mark = needles["raw-body"]
        bodies = [
            b"",
            mark.encode(),
            f'{{"hook": "{mark}'.encode(),
            text[: len(text) // 2].encode(),
            text.replace('"hook"', f'"hook": "{mark}", "hook"', 1).encode(),
            ("[" * 200 + f'"{mark}"' + "]" * 200).encode(),
            f'{{"hook": {"9" * 100}, "{mark}": 1}}'.encode(),
            f'{{"{mark}": "\\ud800"}}'.encode(),
            b"\xff" + mark.encode(),
            *(json.dumps(body).encode() for body in self._wrong(good)),
        ]
        for content in bodies:
            await client.post(view, content=content, headers=self.headers())
        for name in ("order-select", "order-sign"):
            for drafts in (mark, [mark], {"entry": mark}, {"resourceType": mark}, {"entry": [{"resource": mark}]}):
                body = self.body(name, base=None)
                body["context"] |= {"draftOrders": drafts, "selections": mark}
                await client.post(f"/cds-services/anakinra-ruxolitinib-{name}", json=body, headers=self.headers())
            body = self.body(name, base=ward.base(FINE))
            body["context"]["draftOrders"]["entry"][0]["resource"]["subject"]["reference"] = f"Patient/{mark}"
            await client.post(f"/cds-services/anakinra-ruxolitinib-{name}", json=body, headers=self.headers())
        for method, path in (
            ("POST", f"/cds-services/{needles['path']}"),
            ("POST", f"/cds-services/{needles['path']}/feedback"),
            ("GET", f"/{needles['path']}?q={needles['query']}"),
            ("GET", f"/cds-services/..%2f{needles['path']}"),
            ("GET", view),
            ("PUT", view),
            ("DELETE", f"/cds-services/{needles['path']}"),
            ("PATCH", "/cds-services"),
        ):
            await client.request(method, path, content=text, headers=self.headers())
        for changed in (
            {"content-type": f"text/{needles['media-type']}"},
            {"content-type": f"multipart/form-data; boundary={needles['media-type']}"},
            {"content-encoding": f"gzip, {needles['header']}"},
            {"x-long": needles["header"] * 2500},
            {"origin": f"https://{needles['origin']}.example"},
        ):
            await client.post(view, content=text, headers=self.headers() | changed)
        await client.options(
            view,
            headers={
                "origin": f"https://{needles['origin']}.example",
                "access-control-request-method": "POST",
                "access-control-request-headers": needles["header"],
            },
        )
        with suppress(httpx.ReadError, httpx.WriteError):  # the service hangs up on what is still being sent
            await client.post(view, content=(text + " " * BODY_BYTES).encode(), headers=self.headers())
        await self._bare(client, text)

    def _wrong(self, good: Json) -> Iterator[Json]:
        """The good call with one member wrong, each in the words of a canary."""
        mark = self.needles["raw-body"]
        for changed in (
            {"hook": mark},
            {"hookInstance": mark * 40},
            {"hookInstance": [mark]},
            {"fhirServer": [mark]},
            {"fhirServer": f"http://{mark} /"},
            {"fhirServer": None},
            {"fhirAuthorization": mark},
            {"fhirAuthorization": {**good["fhirAuthorization"], "access_token": f"{mark}\u00e9"}},
            {"fhirAuthorization": {**good["fhirAuthorization"], "token_type": mark}},
            {"fhirAuthorization": {**good["fhirAuthorization"], "expires_in": mark}},
            {"fhirAuthorization": {**good["fhirAuthorization"], "patient": mark}},
            {"context": mark},
            {"context": {**good["context"], "patientId": f"{mark}/../x"}},
            {"context": {**good["context"], "patientId": {mark: mark}}},
            {"context": {**good["context"], "userId": [mark]}},
            {"context": {**good["context"], "userId": f"{mark}\n"}},
            {"context": {**good["context"], "encounterId": f"{mark}/{mark}/x"}},
            {"prefetch": mark},
            {"prefetch": [mark]},
        ):
            yield good | changed

    async def _bare(self, client: httpx.AsyncClient, text: str) -> None:
        """What no HTTP library would send, and bodies and heads that do not end."""
        mark = self.needles["raw-body"].encode()
        head = (
            f"POST /cds-services/{PATIENT_VIEW}?x={self.needles['query']} HTTP/1.1\r\nHost: h\r\n"
            f"Authorization: Bearer {self.needles['bearer']}\r\nContent-Type: application/json\r\n"
        ).encode()
        half = head + b"Content-Length: 9000\r\n\r\n" + text[:500].encode()
        await self.raw(client, half)
        await self.raw(client, half, hang_up=True)
        await self.raw(client, head + b"Content-Length: 999999999999\r\nConnection: close\r\n\r\n" + mark)
        await self.raw(client, mark + b" /" + mark + b" HTTP/9.9\r\n\r\n")
        await self.raw(client, head + b"X-Odd\x00: " + mark + b"\r\n\r\n")
        await self.raw(client, head + b"Content-Length: " + mark + b"\r\n\r\n")
        await self.raw(
            client, head + b"Upgrade: " + mark + b"\r\nConnection: upgrade, close\r\nContent-Length: 2\r\n\r\n{}"
        )
        chunk = b"%x;%s\r\n%s\r\n" % (len(mark), mark, mark)
        await self.raw(client, head + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk + b"zz\r\n")
        if self.found.statuses[431] == 0 or self.full:
            await self.raw(client, head + b"X-Long: " + mark * 4000 + b"\r\n\r\n")

    async def _faults(self, client: httpx.AsyncClient, ward: Ward) -> None:
        """Faults of the service's own, whose texts hold what they were about."""
        said = f"cannot assess {self.needles['fault']} of {self.needles['family']}"
        errors = (RuntimeError(said), KeyError(said), RecursionError(said), ExceptionGroup(said, [ValueError(said)]))
        for error in errors:
            self.found.went_in |= self.needles.find(repr(error))
            for name in ("app.patient_view.assess", "app.order_hooks.assess_orders", "app.gather.gather"):
                with patch(name, side_effect=error):
                    await self._hooks(client, ward.base(FINE))
            with patch("cds_hooks.feedback.parse", side_effect=error):
                await client.post(f"/cds-services/{PATIENT_VIEW}/feedback", json={}, headers=self.headers())

        async def lost() -> None:
            raise LookupError(said)

        task = asyncio.create_task(lost(), name=self.needles["fault"])
        await asyncio.sleep(0)
        del task
        gc.collect()
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn(said, stacklevel=1)

    async def _feedback(self, client: httpx.AsyncClient, ward: Ward) -> None:
        needles = self.needles
        body = self.body("patient-view", base=ward.base(FINE))
        answer = await client.post(f"/cds-services/{PATIENT_VIEW}", json=body, headers=self.headers())
        cards = [card["uuid"] for card in answer.json().get("cards", ())]
        reason = {
            "code": needles["reason-code"],
            "system": f"urn:{needles['reason-system']}",
            "display": needles["reason-display"],
        }
        for card in (*cards, needles["card-id"], f"of Mrs {needles['card-id']}"):
            entry: Json = {
                "card": card,
                "outcome": "overridden",
                "acceptedSuggestions": [{"id": needles["suggestion-id"]}],
                "overrideReason": {"reason": reason, "userComment": f"she said {needles['user-comment']}"},
                "outcomeTimestamp": "2026-11-23T12:00:00Z",
                needles["member"]: needles["member"],
            }
            for wrong in ({}, {"outcome": needles["user-comment"]}, {"card": [needles["card-id"]]}):
                sent = {"feedback": [entry | wrong]}
                await client.post(f"/cds-services/{PATIENT_VIEW}/feedback", json=sent, headers=self.headers())
        for odd in (b"", needles["user-comment"].encode(), b'{"feedback": "' + needles["user-comment"].encode()):
            await client.post(f"/cds-services/{ORDER_SIGN}/feedback", content=odd, headers=self.headers())

    async def _store(self, ward: Ward) -> None:
        """A disk that is full, and a database whose tables are gone: statements fail with their parameters at hand."""
        settings = self.settings("full", ward)
        store = Full(settings.db)
        database = Path(settings.db.partition(":///")[2])
        async with self.hospital(settings, store=store) as client:
            store.full = f"{self.needles['full-disk']} {self.needles['family']}"
            self.found.went_in |= self.needles.find(store.full)
            await self._hooks(client, ward.base(FINE))
            store.full = ""
            with closing(sqlite3.connect(database)) as connection:
                for table in ("decision_facts", "decision_cards", "feedback"):
                    connection.execute(f"alter table {table} rename to gone_{table}")
                connection.commit()
            await self._hooks(client, ward.base(FINE))
            await self._feedback_alone(client)

    async def _feedback_alone(self, client: httpx.AsyncClient) -> None:
        reason = {"userComment": self.needles["user-comment"]}
        sent = {"feedback": [{"card": self.needles["card-id"], "outcome": "overridden", "overrideReason": reason}]}
        await client.post(f"/cds-services/{PATIENT_VIEW}/feedback", json=sent, headers=self.headers())

    async def _overload(self, ward: Ward) -> None:
        settings = self.settings("crowded", ward, hooks_at_once=1, hooks_waiting=0)
        async with self.hospital(settings) as client, asyncio.TaskGroup() as group:
            for _ in range(6):
                group.create_task(self._hooks(client, ward.base("hang-all"), "patient-view"))

    async def _tokens(self, client: httpx.AsyncClient, ward: Ward) -> None:
        """A registered client, everybody who pretends to be one, and the service's own credentials."""
        needles = self.needles
        path = f"/cds-services/{PATIENT_VIEW}"
        count = 0

        def token(of: str, *, by: Ehr | None = None, **claims: Any) -> str:
            nonlocal count
            count += 1
            said = {"jti": f"{needles['jti']}-{count}", "sub": needles["sub"], "tenant": HILL} | claims
            made = (by or self.ehr).token(of, now=NOW, **said)
            needles.add("client-jwt", made.rpartition(".")[2][:40])  # of the signature, which is in every copy
            return made

        async def call(authorization: str, **more: Any) -> None:
            body = self.body("patient-view", base=more.pop("base", ward.base(FINE)))
            sent = self.headers() | {"authorization": authorization} | more.pop("headers", {})
            del sent["origin"]
            await client.post(more.pop("path", path), json=body, headers=sent)

        await call(f"Bearer {token(path)}")
        await call(f"Bearer {token(path)}")  # the same state again: snoozed
        used = token(path)
        for _ in range(2):
            await call(f"Bearer {used}")
        without = self.body("patient-view", base=None)
        for tenant in (HILL, DALE):  # by the service's own credentials, which are refused at one of them
            sent = self.headers() | {"authorization": f"Bearer {token(path, tenant=tenant)}"}
            del sent["origin"]
            await client.post(path, json=without, headers=sent)
        await call(f"Bearer {token(path)}", base=f"https://{needles['unknown-server']}.example/fhir")
        other = f"/cds-services/{ORDER_SELECT}"
        await call(f"Bearer {token(other)}", path=other)
        sent = self.headers() | {"authorization": f"Bearer {token(path)}", "origin": f"https://{needles['origin']}.x"}
        await client.post(path, json=without, headers=sent)
        stranger = Ehr(EHR, f"https://{needles['issuer']}.example", kid=needles["key-id"])
        impostor = Ehr(EHR, ISSUER, kid=needles["key-id"])
        liar = Ehr(EHR, ISSUER)
        for made in (
            token(path, by=stranger),
            token(path, by=impostor),
            token(path, by=liar),
            token(path, aud=f"https://{needles['sub']}.example"),
            token(path, exp=1),
            token(path, tenant=needles["sub"]),
            token(path, jti=None),
            token(path, exp=needles["sub"]),
            needles["bearer"],
            f"{needles['bearer']}.{needles['bearer']}.{needles['bearer']}",
        ):
            await call(f"Bearer {made}")
        await call(f"Basic {needles['bearer']}")
        await call(f"Bearer {needles['bearer'] * 2000}")
        for place in ("/cds-services", path, f"{path}/feedback", f"/cds-services/{needles['path']}"):
            sent = self.headers()
            await client.request("GET" if place == "/cds-services" else "POST", place, headers=sent)
        sent = self.headers() | {"authorization": f"Bearer {token('/cds-services')}"}
        del sent["origin"]
        await client.get("/cds-services", headers=sent)
        self.found.went_in |= needles.find(f"{used} {needles['sub']} {needles['issuer']} {needles['key-id']}")
        self.found.went_in.add("backend-key")  # it signs, and is sent to nobody

    async def _operators(self, app: Any) -> None:
        """What operators see: metrics, pages, statistics."""
        counted = app.state.metrics
        self.found.search("metrics", counted.text())

        async def broken() -> Any:
            raise RuntimeError(self.needles["fault"])

        failing = create_admin(metrics=counted, ready=broken, openapi={}, stats=broken)
        for admin in (create_operators(app), failing):
            await self._pages(admin)

    async def _pages(self, admin: ASGIApp) -> None:
        async with listening(own(admin)) as address, httpx.AsyncClient(base_url=address, timeout=30) as client:
            for place in ("/", "/livez", "/readyz", "/startupz", "/metrics", "/openapi.json", "/stats", "/nothing"):
                answer = await client.get(f"{place}?x={self.needles['query']}", headers=self.headers())
                sink = "statistics page" if place == "/stats" else "admin pages"
                self.found.search(sink, answer.content, at=place)
                self.found.search(sink, str(answer.headers), at=place)

    # --- what is raised, and what is shown of an object

    def _public_functions(self) -> None:
        needles = self.needles
        mark = needles["raw-body"]
        good = self.body("patient-view", base="https://fhir.example/r4")
        bodies = [mark.encode(), b"\xff" + mark.encode(), *(json.dumps(one).encode() for one in self._wrong(good))]
        bodies += [f'{{"feedback": [{{"card": "{mark}", "outcome": "{mark}"}}]}}'.encode(), FAILS["deep"](needles).body]
        parsed = calls.parse(json.dumps(good).encode(), hook="patient-view")
        key_file = self.folder / "operator-key"
        broken = [f"-----BEGIN PRIVATE KEY-----\n{mark}\n-----END PRIVATE KEY-----", f'{{"kty": "EC", "d": "{mark}"}}']

        def load(text: str) -> None:
            key_file.write_text(text, encoding="utf-8")
            key_file.chmod(0o600)
            try:
                load_key(key_file, algorithm="ES384")
            finally:
                key_file.unlink()

        chosen = evaluate.Options(now=NOW, zone=ZoneInfo("UTC"), overlay=Overlay())
        tried: list[Callable[[], object]] = []
        for body in bodies:
            tried += [
                partial(calls.parse, body, hook="patient-view"),
                partial(feedbacks.parse, body),
                partial(sieve.page, body),
                partial(evaluate.document, body, bedside=shipped(), options=chosen),
                partial(trust.read, body.decode("latin-1")),
                partial(trust.bearer, [(b"authorization", b"Bearer " + body)]),
            ]
        tried += [partial(orders.of, parsed), partial(prefetch.render, "Patient/{{context.x}}", values={mark: mark})]
        tried += [partial(load, text) for text in broken]
        for one in tried:
            try:
                one()
            except Exception as error:  # noqa: BLE001  (every one is looked at)
                shown = "".join(traceback.format_exception(error)) + repr(error) + str(error)
                self.found.search("exceptions", shown, at=type(error).__name__)
        moment = NOW - timedelta(days=1)
        decision = Decision(
            *("id", moment, EHR, HILL, PATIENT_VIEW, "patient-view", "i", "d", "h", "card", 200, mark.encode()),
            patient=mark,
            facts=mark.encode(),
            evidence=[mark],
            gaps=[mark],
        )
        told = Feedback("card", "overridden", display=mark, comment=mark)
        access = Access(needles["hook-token"], scope="")
        credentials = Credentials("rescue-cds", "https://as.example/token", "ES384", "key-1", self.key)
        shown_objects: Sequence[object] = (
            *(parsed, parsed.context, parsed.fhir_authorization, decision, told, access, credentials),
            Query("Observation", (("patient", mark),)),
            *feedbacks.parse(
                b'{"feedback":[{"card":"c","outcome":"overridden","overrideReason":{"userComment":"%s"}}]}'
                % mark.encode()
            ),
        )
        for shown_object in shown_objects:
            text = f"{shown_object!r} {shown_object} {shown_object:}"
            self.found.search("representations", text, at=type(shown_object).__name__)


# --- the sinks that are files ----------------------------------------------------------------------------------------


def columns(found: Findings, database: Path) -> None:
    """Every value of every table, against what its column may hold, and the files with what nobody may find in them."""
    everywhere: frozenset[str] = frozenset().union(*IN_COLUMNS.values())
    with closing(sqlite3.connect(database)) as connection:
        tables = [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]
        for table in tables:
            cursor = connection.execute(f'select * from "{table}"')  # noqa: S608
            names = [f"{table.removeprefix('gone_')}.{column[0]}" for column in cursor.description]
            for row in cursor:
                for name, value in zip(names, row, strict=True):
                    data = value if isinstance(value, bytes) else str(value)
                    found.search("database columns", data, at=name, but=IN_COLUMNS.get(name, frozenset()))
                    found.kept += 1
    for path in _beside(database):
        found.search("database files", path.read_bytes(), at=path.name, but=everywhere)


def _beside(database: Path) -> list[Path]:
    """The database, its log, its lock and what is in its spool."""
    name = database.name
    found = [*database.parent.glob(f"{name}*"), *database.parent.glob(f"{name}.spool/**/*")]
    return [path for path in found if path.is_file()]


def files(found: Findings, folder: Path, *, known: Sequence[Path]) -> None:
    """Whatever else has been written below the folder, the working and the temporary one among it."""
    found.searched["other files"] += 1
    for path in folder.rglob("*"):
        if path.is_file() and path not in known:
            found.search("other files", path.read_bytes(), at=path.name)


def written(found: Findings, *, log: Path, out: Path) -> None:
    """The log, which has to be lines of JSON, and what was written beside it."""
    for line in log.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        found.log_lines += 1
        found.loggers.add(record["logger"])
        found.search("log", line, at=record["logger"])
    found.search("stdout and stderr", out.read_bytes())


# --- the heap --------------------------------------------------------------------------------------------------------


class Quiet:
    """A FHIR server that keeps nothing of what it is asked: one line of bytes, read and forgotten."""

    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = b'{"resourceType":"Bundle","type":"searchset","total":0}'
        answer = (
            b"HTTP/1.1 200 OK\r\ncontent-type: application/fhir+json\r\ncontent-length: %d\r\n\r\n" % len(body) + body
        )
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                self.asked += 1
                writer.write(answer)
                await writer.drain()
        writer.close()


def in_heap(first: str, second: str) -> int:
    """Texts and bytes alive anywhere that hold the two parts one behind the other.

    In two parts, so that the search does not find itself. Looks at everything that the collector knows, at what that
    refers to, and on from there through what the collector has given up: it lets go of containers of plain values.
    """
    gc.collect()
    parts = first, second
    raw = first.encode(), second.encode()
    seen: set[int] = set()
    count = 0
    for holder in gc.get_objects():
        waiting = gc.get_referents(holder)
        while waiting:
            one = waiting.pop()
            if gc.is_tracked(one) or id(one) in seen:
                continue
            if isinstance(one, str | bytes | bytearray):
                seen.add(id(one))
                count += _follows(one, parts, raw)
            elif isinstance(one, tuple | dict | memoryview | frozenset):
                seen.add(id(one))
                waiting += gc.get_referents(one)
    return count


def _follows(one: str | bytes | bytearray, parts: tuple[str, str], raw: tuple[bytes, bytes]) -> bool:
    if isinstance(one, str):
        at = one.find(parts[0])
        return at >= 0 and one.startswith(parts[1], at + len(parts[0]))
    at = one.find(raw[0])
    return at >= 0 and one.startswith(raw[1], at + len(raw[0]))


async def _asked(address: str, body: Callable[[], bytes], *, connection: str = "close") -> int:
    """The status of the answer to one patient-view; nothing of what was sent is kept here."""
    host, _, port = address.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(body())
    await writer.drain()
    async with asyncio.timeout(20):
        received = await reader.read()
    writer.close()
    await writer.wait_closed()
    return int(received.split(b" ", 2)[1])


async def forgotten(folder: Path, found: Findings, *, calls_made: int) -> None:
    """T25: after the answer the token is nowhere in memory, and nothing is read with it any more.

    The parts of the token are joined for a request and never kept joined. The FHIR server here keeps nothing, so that
    what would be found is the service's, its pool of connections included.
    """
    quiet = Quiet()
    server = await asyncio.start_server(quiet, "127.0.0.1", 0)
    base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/fhir"
    first, second = "heap" + os.urandom(6).hex(), os.urandom(12).hex()
    settings = replace(dev(fhir_urls=[base], db=f"sqlite+aiosqlite:///{folder / 'heap'}.db"), deadline_seconds=5.0)
    app = create_app(settings, bedside=shipped(), clock=lambda: NOW)

    def request() -> bytes:
        body = json.dumps(hook("heap-patient", fhir=base, token=first + second)).encode()
        head = (
            f"POST /cds-services/{PATIENT_VIEW} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    async with server, listening(own(app)) as address:
        for _ in range(calls_made):
            found.statuses[await _asked(address, request)] += 1
        before = quiet.asked
        await asyncio.sleep(0.3)
        found.reads_after += quiet.asked - before
        found.searched["heap"] += 1
        for _ in range(in_heap(first, second)):
            found.hits.add(("heap", "hook-token", "alive"))
        if not before:
            found.hits.add(("heap", "hook-token", "was never used"))
    found.size["heap"] += sum(map(sys.getsizeof, gc.get_objects()))


# --- all of it -------------------------------------------------------------------------------------------------------


def search(*, size: str) -> Findings:
    """One whole run. "small": every kind of trouble at one hook; "full": at each."""
    needles = Needles()
    with tempfile.TemporaryDirectory(prefix="canaries-") as name:
        folder = Path(name).resolve()
        going = Run(folder, needles=needles, full=size != "small")
        with captured(folder) as (log, out):
            found = asyncio.run(going.everything())
            asyncio.run(forgotten(folder, found, calls_made=3 if size == "small" else 30))
        written(found, log=log, out=out)
        for database in going.databases:
            columns(found, database)
        known = [log, out, *(path for one in going.databases for path in _beside(one))]
        files(found, folder, known=known)
    return found


def run(*, size: str) -> Figures:
    """What was planted, asked and searched, and what was found."""
    started = time.monotonic()
    found = search(size=size)
    missing = sorted(set(NAMES) - found.went_in)
    rows = [
        Figure("canaries that went in", f"{len(found.went_in)} of {len(NAMES)}", not missing and len(NAMES) >= 30),
        Figure("requests, log at DEBUG", str(found.statuses.total()), found.statuses.total() >= 100),
        Figure(
            "statuses answered",
            " ".join(f"{status}×{count}" for status, count in sorted(found.statuses.items())),
            set(found.statuses) >= STATUSES,
        ),
        Figure("log lines, of loggers", f"{found.log_lines} of {len(found.loggers)}", found.log_lines > 100),
        Figure("values of the database looked at", str(found.kept), found.kept > 1000),
        Figure("reads of FHIR after the answer", str(found.reads_after), found.reads_after == 0),
    ]
    for sink in SINKS:
        hits = {(name, at) for where, name, at in found.hits if where == sink}
        searched = found.searched[sink]
        rows.append(
            Figure(
                f"in {sink}",
                f"{len(hits)} in {searched} ({found.size[sink] / 1e6:.2f} MB)"
                + "".join(f"; {name} at {at}" for name, at in sorted(hits)[:5]),
                not hits and searched > 0 and (sink != "spans" or searched > 100),
            )
        )
    elsewhere = sorted({where for where, _, _ in found.hits} - set(SINKS))
    rows.append(Figure("in any other place", " ".join(elsewhere) or "0", not elsewhere))
    rows.append(Figure("seconds", f"{time.monotonic() - started:.0f}", held=True))
    return Figures("Nothing leaks", tuple(rows))
