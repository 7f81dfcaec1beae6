"""A FHIR server and an authorisation server that put canaries into all they say, and fail in every way there is.

Under `/fine/fhir` a patient's chart is read; under `/KIND-all/fhir` every read fails in that way; under
`/KIND-some/fhir` those of orders and allergies do, and the rest is read.
"""

from __future__ import annotations

import asyncio
import copy
import gzip
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.sandbox import patients
from app.sandbox.fhir import create_fhir
from tests.integration.hospital import NOW
from tests.security.needles import Needles

Json = dict[str, Any]

STORY: Final = "demo-full-protocol"
FINE: Final = "fine"
TOKEN_GOOD: Final = "/token-good"
TOKEN_BAD: Final = "/token-bad"

SOME: Final = ("AllergyIntolerance", "MedicationRequest", "MedicationStatement")
_PATH: Final = re.compile(r"/(?P<mode>[a-z0-9\-]+)/fhir(?P<rest>/.*)")
_JSON: Final = "application/fhir+json"


@dataclass(frozen=True, slots=True)
class Said:
    """An answer; with `cut` less of it comes than is announced."""

    status: int
    body: bytes
    media: str = _JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False


def chart(needles: Needles) -> list[Json]:
    """The resources of one patient, a canary in everything that says who it is and in every free text."""
    everything = copy.deepcopy(patients.bundle(NOW))
    mine = [one for one in everything if STORY in json.dumps(one) or one["resourceType"] == "Practitioner"]
    ids = {
        one["id"]: f"{needles['resource-id']}-{number}"
        for number, one in enumerate(mine)
        if one["resourceType"] not in {"Patient", "Encounter", "Practitioner"}
    }
    ids |= {one["id"]: needles["encounter"] for one in mine if one["resourceType"] == "Encounter"}
    ids[STORY] = needles["patient-id"]
    odd = next(copy.deepcopy(one) for one in mine if one.get("valueQuantity"))
    odd |= {"id": f"{STORY}-odd", "valueQuantity": {"value": 1, "unit": "furlong", "code": "furlong"}}
    ids[odd["id"]] = f"{needles['resource-id']}-odd"
    return [_marked(_renamed(one, ids), needles) for one in (*mine, odd)]


def _renamed(value: Any, ids: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _renamed(item, ids) for key, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item, ids) for item in value]
    if isinstance(value, str):
        kind, slash, bare = value.rpartition("/")
        return f"{kind}{slash}{ids[bare]}" if bare in ids else value
    return value


def _marked(resource: Json, needles: Needles) -> Json:
    resource["text"] = {
        "status": "generated",
        "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{needles["narrative"]}</div>',
    }
    if resource["resourceType"] == "Patient":
        return resource | {
            "identifier": [{"system": "urn:oid:1.2.3", "value": needles["mrn"]}],
            "name": [
                {"family": needles["family"], "given": [needles["given"]], "text": f"{needles['family']} x"},
                {"use": "maiden", "family": needles["maiden"]},
            ],
            "birthDate": needles["birth-date"],
            "address": [{"line": [needles["street"]], "city": needles["city"], "text": needles["street"]}],
            "telecom": [
                {"system": "phone", "value": needles["phone"]},
                {"system": "email", "value": f"{needles['email']}@example.org"},
            ],
        }
    if resource["resourceType"] == "Practitioner":
        return resource | {"name": [{"text": needles["performer"]}]}
    resource["note"] = [{"text": needles["comment" if resource["resourceType"] == "Observation" else "note"]}]
    if resource["resourceType"] == "Observation":
        resource["performer"] = [{"display": needles["performer"]}]
    if "code" in resource:
        resource["code"]["text"] = needles["code-text"]
    if "medicationCodeableConcept" in resource:
        resource["medicationCodeableConcept"]["text"] = needles["medication-text"]
    for dosage in (*resource.get("dosageInstruction", ()), *_listed(resource.get("dosage"))):
        dosage["text"] = needles["dosage-text"]
    return resource


def _listed(value: Any) -> list[Json]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _outcome(needles: Needles) -> bytes:
    issue = {"severity": "error", "code": "security", "diagnostics": f"for {needles['diagnostics']}"}
    issue["details"] = {"text": needles["diagnostics"]}  # type: ignore[assignment] # JSON
    return json.dumps({"resourceType": "OperationOutcome", "issue": [issue]}).encode()


def _foreign_page(needles: Needles) -> bytes:
    link = [{"relation": "next", "url": f"http://127.0.0.1:9/{needles['next-link']}?name={needles['next-link']}"}]
    return json.dumps({"resourceType": "Bundle", "type": "searchset", "link": link, "entry": []}).encode()


def _of_another(needles: Needles) -> bytes:
    other = {
        "resourceType": "Condition",
        "id": f"c-{needles['foreign-patient']}",
        "subject": {"reference": f"Patient/{needles['foreign-patient']}", "display": needles["foreign-patient"]},
        "code": {"text": needles["foreign-patient"]},
    }
    entry = [{"resource": other, "search": {"mode": "match"}}]
    return json.dumps({"resourceType": "Bundle", "type": "searchset", "entry": entry}).encode()


def _half(needles: Needles) -> bytes:
    return f'{{"resourceType":"Bundle","entry":[{{"resource":{{"id":"{needles["half-json"]}"'.encode()


def _page_of_html(needles: Needles) -> bytes:
    return f"<html><body>Stack trace: {needles['html']} at line 1</body></html>".encode()


FAILS: Final[Mapping[str, Callable[[Needles], Said]]] = {
    "refused401": lambda n: Said(401, _outcome(n), headers={"www-authenticate": f'Bearer realm="{n["diagnostics"]}"'}),
    "refused403": lambda n: Said(403, _outcome(n)),
    "refused404": lambda n: Said(404, _outcome(n)),
    "refused429": lambda n: Said(429, _outcome(n), headers={"retry-after": n["header"]}),
    "error500": lambda n: Said(500, _page_of_html(n), media="text/html"),
    "error503": lambda n: Said(503, _outcome(n)),
    "outcome": lambda n: Said(200, _outcome(n)),
    "html": lambda n: Said(200, _page_of_html(n), media="text/html"),
    "half": lambda n: Said(200, _half(n)),
    "cut": lambda n: Said(200, _half(n), cut=True),
    "redirect": lambda n: Said(302, b"", headers={"location": f"http://127.0.0.1:9/{n['location']}"}),
    "foreign-next": lambda n: Said(200, _foreign_page(n)),
    "mixed": lambda n: Said(200, _of_another(n)),
    "packed": lambda n: Said(200, gzip.compress(_half(n))[:-9] + b"x" * 9, headers={"content-encoding": "gzip"}),
    "unpacked": lambda n: Said(200, _half(n), headers={"content-encoding": "gzip"}),
    "deep": lambda n: Said(200, b"[" * 5000 + f'"{n["half-json"]}"'.encode() + b"]" * 5000),
    "garbage": lambda n: Said(200, b"\xff\xfe\x00" + n["half-json"].encode()),
    "hang": lambda n: Said(200, n["html"].encode()),
}
"""Each way to fail by its name. `hang` is silent before it says anything."""

MODES: Final = (FINE, *(f"{kind}-{part}" for kind in FAILS for part in ("all", "some")))


class Ward:
    """The ASGI application. `root` is where it is reached, without a path; `served` are the canaries that went out."""

    def __init__(self, needles: Needles, *, root: str) -> None:
        self.needles = needles
        self.root = root
        self.served: set[str] = set()
        self.reads = 0
        self._resources = chart(needles)
        self._fhir: dict[str, ASGIApp] = {}

    def base(self, mode: str) -> str:
        """The FHIR base of that mode."""
        return f"{self.root}/{mode}/fhir"

    @property
    def bases(self) -> list[str]:
        return [self.base(mode) for mode in MODES]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        self.reads += 1
        path: str = scope["path"]
        if path in {TOKEN_GOOD, TOKEN_BAD}:
            await self._say(self._token(path), send)
            return
        matched = _PATH.fullmatch(path)
        if matched is None:
            await self._say(Said(404, _outcome(self.needles)), send)
            return
        mode, rest = matched["mode"], matched["rest"]
        kind, _, part = mode.rpartition("-")
        resource_type = rest.split("/")[1]
        if kind in FAILS and resource_type != "metadata" and (part == "all" or resource_type in SOME):
            if kind == "hang":
                await asyncio.sleep(4)
            await self._say(FAILS[kind](self.needles), send)
            return
        app: Any = self._fhir.get(mode)
        if app is None:
            app = create_fhir(self._resources, base_url=self.base(mode), clock=lambda: NOW)
            self._fhir[mode] = app

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._headers()]
            self._note(message)
            await send(message)

        await app({**scope, "path": rest, "raw_path": rest.encode(), "root_path": ""}, receive, marked)

    def _token(self, path: str) -> Said:
        if path == TOKEN_BAD:
            refusal = {"error": "invalid_client", "error_description": self.needles["token-error"]}
            return Said(400, json.dumps(refusal).encode(), media="application/json")
        granted = {
            "access_token": self.needles["backend-token"],
            "token_type": "bearer",
            "expires_in": 300,
            "scope": "system/*.rs",
        }
        return Said(200, json.dumps(granted).encode(), media="application/json")

    def _headers(self) -> list[tuple[bytes, bytes]]:
        needles = self.needles
        return [
            (b"set-cookie", f"session={needles['set-cookie']}; Path=/".encode()),
            (b"etag", f'W/"{needles["etag"]}"'.encode()),
            (b"x-request-id", needles["etag"].encode()),
        ]

    def _note(self, message: Message) -> None:
        for name, value in message.get("headers", ()):
            self.served |= self.needles.find(name + b": " + value)
        self.served |= self.needles.find(message.get("body", b""))

    async def _say(self, said: Said, send: Send) -> None:
        length = len(said.body) + (1000 if said.cut else 0)
        headers = [(b"content-type", said.media.encode()), (b"content-length", str(length).encode()), *self._headers()]
        headers += [(name.encode(), value.encode()) for name, value in said.headers.items()]
        for message in (
            {"type": "http.response.start", "status": said.status, "headers": headers},
            {"type": "http.response.body", "body": said.body, "more_body": False},
        ):
            self._note(message)
            await send(message)
