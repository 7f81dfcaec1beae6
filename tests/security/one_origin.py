"""A token goes to the configured origin, below the configured path, and nowhere else, whatever a server answers.

Each case is one hook call, or the reads of two tenants side by side, with tokens that exist once. What is looked at
afterwards is everything that arrived: at the FHIR server, at the authorisation server, at a canary that stands for
everybody else, and in the answer and on the disk of the service itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from unittest import mock

from app.gateway.access import Access
from app.gateway.budget import Budget, Deadline
from app.gateway.fhir import Fetched, Gateway, Query
from app.gateway.scopes import SYSTEM_READ
from app.settings import Settings
from tests.integration.hospital import PATH, ordering
from tests.integration.hospital import hook as calling
from tests.security.sockets import LOOPBACK, Listener, Received, http, listening, watched
from tests.security.town import (
    DEADLINE,
    FHIR_PATH,
    PATIENT,
    UNHURRIED,
    Town,
    beyond,
    bytes_on_disk,
    credentials,
    granted,
    is_below,
    observation,
    open_profile,
    running,
    searchset,
    town,
    usual,
)
from tests.unit.app.gateway.test_door import certificate

HOOK_TOKEN: Final = "hook-token-canary-4c1d"
OWN_TOKEN: Final = "own-token-canary-77ab"
ASSERTION: Final = b"client_assertion="
COOKIE: Final = "cookie-canary-19"
PASSWORD: Final = "password-canary-5f"

Json = dict[str, Any]
Answer = Callable[[Town, Received], bytes | None]
"""What a server of the case answers; None for what the usual one does."""

STATUSES: Final = (
    *("301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"),
)


@dataclass(frozen=True, slots=True)
class Result:
    """What leaked, and whether the token reached the server that it was for."""

    leaks: tuple[str, ...]
    reached: bool


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the matrix. `reaches`: whether the token has to have reached its server."""

    id: str
    tries: str
    run: Callable[[Path], Awaitable[Result]]
    reaches: bool = True


# --- what arrived ------------------------------------------------------------------------------------------


def strays(listener: Listener, token: str) -> list[str]:
    """Where this token came to this server otherwise than as the one bearer token of a read below its base."""
    found: list[str] = []
    for request in listener.requests:
        times = request.raw.count(token.encode())
        if not times:
            continue
        proper = request.header("authorization") == f"Bearer {token}" and times == 1
        if not proper or not is_below(request.path) or request.path.endswith("/metadata"):
            found.append(f"token in {request.method} {request.path}")
    return found


def extras(listener: Listener) -> list[str]:
    """What no request of this service has."""
    return [
        f"{name} in {request.method} {request.path}"
        for request in listener.requests
        for name in ("cookie", "referer", "proxy-authorization", "origin", "upgrade", "x-injected")
        if request.header(name)
    ] + [
        f"{what} in {request.method} {request.path}"
        for request in listener.requests
        for what in (COOKIE, PASSWORD)
        if what.encode() in request.raw
    ]


def reached(listener: Listener, token: str) -> bool:
    """Whether a read came with it."""
    return any(request.header("authorization") == f"Bearer {token}" for request in listener.requests)


# --- one call of the service -------------------------------------------------------------------------------


def hooked(
    name: str,
    tries: str,
    *,
    reply: Answer = lambda _, __: None,
    tokens: Answer | None = None,
    body: Callable[[Town], Json] | None = None,
    environment: Callable[[Town, Path], Mapping[str, str]] = lambda _, __: {},
    token: str = HOOK_TOKEN,
    tls: str = "",
    reaches: bool = True,
    own: bool = False,
    host: str = LOOPBACK,
    asks: str = "",
) -> Case:
    """A call of the whole service at a server that answers like this.

    `tokens`: what the authorisation server answers; with it the tenant has credentials, and the hook's token covers
    two resource types only. `own`: then the service's token has to have arrived too. `tls`: the variable that names
    the file of the server's certificate. `asks`: what has to be in an address that was asked for, or the case would try
    nothing.
    """

    async def run(folder: Path) -> Result:
        def fhir(request: Received) -> bytes:
            special = reply(there, request)
            return usual(request) if special is None else special

        def issuer(request: Received) -> bytes:
            special = None if tokens is None else tokens(there, request)
            return http("200 OK", granted(OWN_TOKEN, scopes=SYSTEM_READ)) if special is None else special

        context, public = certificate(folder) if tls else (None, None)
        async with town(fhir, host=host, tokens=issuer, tls=context) as there:
            settings = _settings(there, folder, backend=tokens is not None)
            sent = (body or _call)(there) | {}
            sent["fhirAuthorization"]["access_token"] = token
            if tokens is not None:
                sent["fhirAuthorization"]["scope"] = "patient/Patient.rs patient/Observation.rs"
            changed = {**environment(there, folder), **({tls: str(public)} if tls else {})}
            with mock.patch.dict(os.environ, changed), watched(files=frozenset({there.file})) as seen:
                async with running(settings) as client:
                    path = PATH if sent["hook"] == "patient-view" else PATH.replace("patient-view", sent["hook"])
                    answer = await client.post(path, json=sent)
            leaks = [*beyond(there, seen), *strays(there.fhir, HOOK_TOKEN), *strays(there.fhir, OWN_TOKEN)]
            leaks += [*extras(there.fhir), *extras(there.tokens)]
            leaks += ["assertion at the FHIR server"] if ASSERTION in there.fhir.raw else []
            for secret in (HOOK_TOKEN, OWN_TOKEN):
                leaks += ["token at the authorisation server"] if secret.encode() in there.tokens.raw else []
                leaks += ["token in the answer"] if secret in answer.text + repr(answer.headers) else []
                leaks += ["token on the disk"] if secret.encode() in bytes_on_disk(folder) else []
            leaks += [f"status {answer.status_code}"] if answer.status_code >= 500 else []
            leaks += _written(folder)
            arrived = reached(there.fhir, HOOK_TOKEN) and any(asks in one.target for one in there.fhir.requests)
            return Result(tuple(leaks), reached(there.fhir, OWN_TOKEN) and arrived if own else arrived)

    return Case(name, tries, run, reaches)


def _settings(there: Town, folder: Path, *, backend: bool) -> Settings:
    settings = open_profile().settings(there.base, folder)
    if not backend:
        return settings
    own = credentials(f"{there.tokens.origin}/token", scopes=SYSTEM_READ)
    return replace(settings, tenants=(replace(settings.tenants[0], backend=own),))


def _call(there: Town) -> Json:
    return calling(PATIENT, fhir=there.base, token=HOOK_TOKEN)


def _written(folder: Path) -> list[str]:
    """Secrets of TLS connections that somebody could read along with."""
    log = folder / "tls-secrets.txt"
    return ["TLS secrets on the disk"] if log.exists() and b"SECRET" in log.read_bytes() else []


# --- answers of the FHIR server ----------------------------------------------------------------------------


def on_reads(answer: Callable[[Town, Received], bytes]) -> Answer:
    """This answer to every read; the capability statement is not one."""
    return lambda there, request: None if request.path.endswith("/metadata") else answer(there, request)


def on(resource_type: str, answer: Callable[[Town, Received], bytes]) -> Answer:
    """This answer to the searches of a type."""
    return lambda there, request: answer(there, request) if request.path.endswith(f"/{resource_type}") else None


def headed(*headers: str, status: str = "200 OK") -> Answer:
    """The usual body, or none with another status, below these headers."""

    def answer(there: Town, request: Received) -> bytes:
        body = usual(request).partition(b"\r\n\r\n")[2] if status == "200 OK" else b""
        return http(status, body, *map(there.filled, headers))

    return on_reads(answer)


def followed_by(link: str) -> Answer:
    """First pages of every search whose next one is there; another page where it is asked for."""

    def answer(there: Town, request: Received) -> bytes:
        if "page=2" in request.target or request.path.endswith(PATIENT):
            return usual(request)
        return http("200 OK", searchset(observation("first"), following=there.filled(link)))

    return on_reads(answer)


def bundled(resource_type: str, resource: Callable[[Town], Json], **more: Any) -> Answer:
    """A resource among the results."""
    return on(resource_type, lambda there, _: http("200 OK", searchset(resource(there), **more)))


def _order(reference: str, **more: Any) -> Callable[[Town], Json]:
    """An order that names its medication like this."""
    return lambda there: {
        "resourceType": "MedicationRequest",
        "id": "order",
        "status": "active",
        "intent": "order",
        "authoredOn": "2026-11-23T08:00:00Z",
        "subject": {"reference": f"Patient/{PATIENT}"},
        "medicationReference": {"reference": there.filled(reference)},
        **more,
    }


def _gas(reference: str) -> Callable[[Town], Json]:
    """A blood gas that names its specimen like this."""
    return lambda there: {
        "resourceType": "Observation",
        "id": "gas",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "2703-7"}]},
        "subject": {"reference": f"Patient/{PATIENT}"},
        "effectiveDateTime": "2026-11-23T11:00:00Z",
        "valueQuantity": {"value": 60, "unit": "mmHg", "system": "http://unitsofmeasure.org", "code": "mm[Hg]"},
        "specimen": {"reference": there.filled(reference)},
    }


REDIRECTS: Final = {
    "canary": "http://{canary}/fhir",
    "canary-by-name": "http://localhost:{canary_port}/fhir",
    "https": "https://{canary}/fhir",
    "userinfo": "http://{host}:{port}@{canary}/fhir",
    "same-origin": "/admin",
}

NEXT: Final = {
    "canary": "http://{canary}/fhir?page=2",
    "scheme-relative": "//{canary}/fhir?page=2",
    "same-origin": "/admin?page=2",
    "other-scheme": "https://{host}:{port}/fhir?page=2",
    "userinfo": "http://{host}:{port}@{canary}/fhir?page=2",
    "dots": "{base}/../admin?page=2",
}

HEADERS: Final = {
    "link-next": ("200 OK", ('Link: <http://{canary}/fhir?page=2>; rel="next"',)),
    "link-preload": ("200 OK", ("Link: <http://{canary}/x>; rel=preload",)),
    "refresh": ("200 OK", ("Refresh: 0; url=http://{canary}/fhir",)),
    "location-beside-200": ("200 OK", ("Location: http://{canary}/fhir",)),
    "content-location": ("200 OK", ("Content-Location: http://{canary}/fhir/",)),
    "alternative-service": ("200 OK", ('Alt-Svc: h2="{canary}"; ma=86400, http/1.1="{canary}"',)),
    "cookie": ("200 OK", (f"Set-Cookie: s={COOKIE}; Path=/",)),
    "cookie-domain": (
        "200 OK",
        (f"Set-Cookie: s={COOKIE}; Domain={{host}}; Path=/", f"Set-Cookie: t={COOKIE}; Domain=.1"),
    ),
    "hsts": ("200 OK", ("Strict-Transport-Security: max-age=31536000; includeSubDomains",)),
    "closes": ("200 OK", ("Connection: close",)),
    "proxy-connection": ("200 OK", ("Proxy-Connection: keep-alive", "Keep-Alive: timeout=60")),
    "realm": ("401 Unauthorized", ('WWW-Authenticate: Bearer realm="http://{canary}/token", error="invalid_token"',)),
    "basic": ("401 Unauthorized", ('WWW-Authenticate: Basic realm="x"', "WWW-Authenticate: Negotiate")),
    "proxy-authenticate": ("407 Proxy Authentication Required", ('Proxy-Authenticate: Basic realm="x"',)),
    "use-proxy": ("305 Use Proxy", ("Location: http://{canary}/",)),
    "misdirected": ("421 Misdirected Request", ('Alt-Svc: http/1.1="{canary}"',)),
    "upgrade": ("426 Upgrade Required", ("Upgrade: h2c", "Connection: Upgrade")),
    "retry-elsewhere": ("503 Service Unavailable", ("Retry-After: 0", "Location: http://{canary}/fhir")),
    "gone-elsewhere": ("404 Not Found", ("Location: http://{canary}/fhir",)),
}

REFERENCES: Final = {
    "absolute": "http://{canary}/fhir/Medication/m1",
    "absolute-other-base": "{origin}/other/Medication/m1",
    "contained": "#m1",
    "relative": "Medication/m1",
    "versioned": "Medication/m1/_history/2",
    "at-the-base": "{base}/Medication/m1",
    "dots": "Medication/../../admin",
    "base-then-canary": "{base}/http://{canary}/fhir/Medication/m1",
    "scheme-relative": "//{canary}/fhir/Medication/m1",
    "logical": "urn:uuid:53fefa32-fcbb-4ff8-8a92-55ee120877b7",
}


def _statement(there: Town, request: Received) -> bytes | None:
    """A capability statement in which every address is the canary's."""
    if not request.path.endswith("/metadata"):
        return None
    elsewhere = f"http://{there.canary.authority}"
    uris = [{"url": name, "valueUri": f"{elsewhere}/{name}"} for name in ("token", "authorize", "register")]
    smart = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
    types = ("Patient", "Observation", "MedicationRequest", "MedicationAdministration", "MedicationStatement")
    body = {
        "resourceType": "CapabilityStatement",
        "url": f"{elsewhere}/CapabilityStatement",
        "fhirVersion": "4.0.1",
        "implementation": {"description": "x", "url": f"{elsewhere}/fhir"},
        "instantiates": [f"{elsewhere}/other"],
        "rest": [
            {
                "mode": "server",
                "security": {"extension": [{"url": smart, "extension": uris}]},
                "resource": [{"type": name, "profile": f"{elsewhere}/profile"} for name in types],
            }
        ],
    }
    return http("200 OK", json.dumps(body).encode())


def _addressed(there: Town) -> Json:
    """A patient in whose record every address is the canary's."""
    elsewhere = f"http://{there.canary.authority}"
    return {
        "resourceType": "Patient",
        "id": PATIENT,
        "meta": {"profile": [f"{elsewhere}/profile"], "source": f"{elsewhere}/source"},
        "implicitRules": f"{elsewhere}/rules",
        "text": {"status": "generated", "div": f'<div><img src="{elsewhere}/x.png"/></div>'},
        "extension": [{"url": f"{elsewhere}/extension", "valueUri": f"{elsewhere}/value"}],
        "photo": [{"url": f"{elsewhere}/photo"}],
        "managingOrganization": {"reference": f"{elsewhere}/fhir/Organization/1"},
        "generalPractitioner": [{"reference": f"{elsewhere}/fhir/Practitioner/1"}],
        "link": [{"other": {"reference": f"{elsewhere}/fhir/Patient/2"}, "type": "replaced-by"}],
        "birthDate": "1966-01-01",
    }


def _early_hints(there: Town, request: Received) -> bytes:
    hints = f"HTTP/1.1 103 Early Hints\r\nLink: <http://{there.canary.authority}/x>; rel=preload\r\n\r\n"
    return hints.encode() + usual(request)


def _two_answers(there: Town, request: Received) -> bytes:
    """A second answer that nobody asked for, for the next request of the connection."""
    return usual(request) + http("302 Found", b"", f"Location: http://{there.canary.authority}/fhir")


def _links_everywhere(there: Town) -> list[Json]:
    elsewhere = f"http://{there.canary.authority}/fhir?page=2"
    return [{"relation": name, "url": elsewhere} for name in ("self", "first", "last", "previous", "prev", "NEXT")]


ANSWERS: Final = (
    *(
        hooked(
            f"{status[:3]}-{name}",
            "a redirect with the token",
            reply=headed(f"Location: {target}", status=status),
            host="localhost" if name == "canary-by-name" else LOOPBACK,
        )
        for status in STATUSES
        for name, target in REDIRECTS.items()
    ),
    *(hooked(f"next-{name}", "a next page with the token", reply=followed_by(link)) for name, link in NEXT.items()),
    hooked("next-below-the-base", "a next page where one may be", reply=followed_by("{base}?page=2"), asks="page=2"),
    *(
        hooked(f"header-{name}", "what a header says", reply=headed(*headers, status=status))
        for name, (status, headers) in HEADERS.items()
    ),
    *(
        hooked(
            f"medication-{name}",
            "a reference of an order",
            reply=bundled(
                "MedicationRequest", _order(reference, contained=[{"resourceType": "Medication", "id": "m1"}])
            ),
            asks="/Medication?_id=m1" if name in {"relative", "versioned", "at-the-base"} else "",
        )
        for name, reference in REFERENCES.items()
    ),
    hooked("specimen-absolute", "a specimen", reply=bundled("Observation", _gas("http://{canary}/fhir/Specimen/s1"))),
    hooked(
        "specimen-relative",
        "a specimen where one may be",
        reply=bundled("Observation", _gas("Specimen/s1")),
        asks="/Specimen?_id=s1",
    ),
    hooked("statement", "a capability statement full of addresses", reply=_statement),
    hooked(
        "patient-addresses",
        "a record full of addresses",
        reply=lambda there, request: (
            http("200 OK", json.dumps(_addressed(there)).encode()) if request.path.endswith(PATIENT) else None
        ),
    ),
    hooked(
        "other-links",
        "links that are no next page",
        reply=on(
            "Observation",
            lambda there, _: http("200 OK", searchset(observation("a"), link=_links_everywhere(there))),
        ),
    ),
    hooked(
        "full-urls",
        "entries that live elsewhere",
        reply=on(
            "Observation",
            lambda there, _: http(
                "200 OK",
                searchset(
                    entry=[
                        {
                            "fullUrl": f"http://{there.canary.authority}/fhir/Observation/a",
                            "resource": observation("a"),
                            "search": {"mode": "match"},
                        }
                    ]
                ),
            ),
        ),
    ),
    hooked(
        "page-of-html",
        "a page that reloads elsewhere",
        reply=on_reads(
            lambda there, _: http(
                "200 OK",
                f'<meta http-equiv="refresh" content="0; url=http://{there.canary.authority}/">'.encode(),
                "Content-Type: text/html",
            )
        ),
    ),
    hooked("early-hints", "something to load beforehand", reply=on_reads(_early_hints)),
    hooked("two-answers", "an answer for the next request", reply=on_reads(_two_answers)),
)

# --- what a client sends -----------------------------------------------------------------------------------


def _with(change: Callable[[Town], Json]) -> Callable[[Town], Json]:
    return lambda there: {**_call(there), **change(there)}


def _drafted(there: Town) -> Json:
    order = _order("http://{canary}/fhir/Medication/m1")(there) | {"status": "draft"}
    return ordering(PATIENT, order, hook="order-sign", fhir=there.base, token=HOOK_TOKEN)


REQUESTS: Final = (
    hooked("draft-medication-absolute", "a reference of a drafted order", body=_drafted),
    hooked(
        "prefetch-next",
        "a next page of what was sent along",
        body=_with(
            lambda there: {
                "prefetch": {
                    "labs": json.loads(searchset(observation("a"), following=f"http://{there.canary.authority}/fhir"))
                }
            }
        ),
    ),
    hooked(
        "prefetch-medication-absolute",
        "a reference of an order that was sent along",
        body=_with(
            lambda there: {
                "prefetch": {"orders": json.loads(searchset(_order("http://{canary}/fhir/Medication/m1")(there)))}
            }
        ),
    ),
    hooked(
        "server-unconfigured",
        "a fhirServer of the sender's",
        body=_with(lambda there: {"fhirServer": f"http://{there.canary.authority}/fhir"}),
        reaches=False,
    ),
    hooked(
        "server-other-path",
        "another application of the configured server",
        body=_with(lambda there: {"fhirServer": f"{there.origin}/admin"}),
        reaches=False,
    ),
    *(
        hooked(f"token-{name}", "a token that is more than one", token=token, reaches=False)
        for name, token in {
            "line-end": f"{HOOK_TOKEN}\r\nX-Injected: yes",
            "line-feed": f"{HOOK_TOKEN}\nX-Injected: yes",
            "space": f"{HOOK_TOKEN} x",
            "space-before": f" {HOOK_TOKEN}",
            "comma": f"{HOOK_TOKEN}, Basic eDp5",
            "nul": f"{HOOK_TOKEN}\x00",
            "beyond-ascii": f"{HOOK_TOKEN}\u00e9",
            "quoted": f'"{HOOK_TOKEN}"',
            "scheme-twice": f"Bearer:{HOOK_TOKEN}",
        }.items()
    ),
)

# --- the environment ---------------------------------------------------------------------------------------


def _netrc(there: Town, folder: Path) -> Mapping[str, str]:
    for name in (".netrc", "_netrc"):
        path = folder / name
        path.write_text(f"machine {there.host} login x password {PASSWORD}\ndefault login x password {PASSWORD}\n")
        path.chmod(0o600)
    return {"HOME": str(folder), "NETRC": str(folder / ".netrc")}


def _proxied(*names: str, **more: str) -> Callable[[Town, Path], Mapping[str, str]]:
    """These variables with a proxy in them; without exceptions, whatever this machine has."""
    none = {"NO_PROXY": "", "no_proxy": ""}
    return lambda there, _: none | dict.fromkeys(names, f"http://x:{PASSWORD}@{there.canary.authority}") | more


ENVIRONMENT: Final = (
    hooked("http-proxy", "a proxy", environment=_proxied("HTTP_PROXY", "http_proxy")),
    hooked("all-proxy", "a proxy for everything", environment=_proxied("ALL_PROXY", "all_proxy")),
    hooked(
        "https-proxy",
        "a proxy for TLS",
        environment=_proxied("HTTPS_PROXY", "https_proxy"),
        tls="SSL_CERT_FILE",
    ),
    hooked(
        "no-proxy-empty", "a proxy without exceptions", environment=_proxied("HTTP_PROXY", "ALL_PROXY", NO_PROXY="")
    ),
    hooked(
        "no-proxy-other", "exceptions that are not ours", environment=_proxied("http_proxy", no_proxy="example.org")
    ),
    hooked(
        "websocket-proxy", "proxies of other protocols", environment=_proxied("WS_PROXY", "SOCKS_PROXY", "FTP_PROXY")
    ),
    hooked(
        "cgi-proxy", "the header that scripts take for a variable", environment=_proxied("REQUEST_METHOD", "HTTP_PROXY")
    ),
    hooked("netrc", "passwords of this machine", environment=_netrc),
    hooked(
        "netrc-when-asked",
        "passwords of this machine, asked for",
        environment=_netrc,
        reply=headed('WWW-Authenticate: Basic realm="x"', status="401 Unauthorized"),
    ),
    hooked("tls", "a server with TLS that this machine trusts", tls="SSL_CERT_FILE"),
    hooked(
        "tls-to-plain",
        "from TLS to none",
        tls="SSL_CERT_FILE",
        reply=headed("Location: http://{host}:{port}/fhir", status="307 Temporary Redirect"),
    ),
    hooked(
        "tls-next-plain", "a next page without TLS", tls="SSL_CERT_FILE", reply=followed_by("http://{host}:{port}/fhir")
    ),
    hooked("requests-bundle", "a list of authorities for another library", tls="REQUESTS_CA_BUNDLE", reaches=False),
    hooked("curl-bundle", "a list of authorities for another program", tls="CURL_CA_BUNDLE", reaches=False),
    hooked("untrusted", "a server that nobody vouches for", tls="UNUSED_CA_FILE", reaches=False),
    hooked(
        "tls-secrets",
        "a file for the secrets of connections",
        tls="SSL_CERT_FILE",
        environment=lambda _, folder: {"SSLKEYLOGFILE": str(folder / "tls-secrets.txt")},
    ),
)

# --- tokens of the service's own ---------------------------------------------------------------------------


def _at_issuer(*headers: str, status: str) -> Answer:
    return lambda there, _: http(status, b"", *map(there.filled, headers))


def _granting(*headers: str, token: str = OWN_TOKEN, **more: Any) -> Answer:
    body = json.loads(granted(token, scopes=SYSTEM_READ)) | more
    return lambda there, _: http(
        "200 OK",
        there.filled(json.dumps(body)).encode() if more else json.dumps(body).encode(),
        *map(there.filled, headers),
    )


OWN: Final = (
    hooked("own-granted", "both tokens, each where it belongs", tokens=_granting(), own=True),
    *(
        hooked(
            f"own-{status[:3]}",
            "the assertion to another server",
            tokens=_at_issuer("Location: http://{canary}/token", status=status),
        )
        for status in STATUSES
    ),
    hooked(
        "own-realm",
        "another issuer",
        tokens=_at_issuer('WWW-Authenticate: Bearer realm="http://{canary}/token"', status="401 No"),
    ),
    hooked("own-refresh", "a reload", tokens=_granting("Refresh: 0; url=http://{canary}/token"), own=True),
    hooked("own-cookie", "a session at the issuer", tokens=_granting(f"Set-Cookie: s={COOKIE}; Path=/"), own=True),
    hooked("own-link", "a link of the issuer's", tokens=_granting("Link: <http://{canary}/>; rel=next"), own=True),
    hooked(
        "own-addresses",
        "addresses in the token response",
        tokens=_granting(
            token_endpoint="http://{canary}/token", smart_style_url="http://{canary}/style", iss="http://{canary}"
        ),
        own=True,
    ),
    hooked(
        "own-token-line-end", "a token with a second header", tokens=_granting(token=f"{OWN_TOKEN}\r\nX-Injected: yes")
    ),
    hooked("own-token-space", "a token that is more than one", tokens=_granting(token=f"{OWN_TOKEN} x")),
    hooked(
        "own-renewed",
        "a 401 that names another issuer",
        tokens=_granting(),
        own=True,
        reply=lambda there, request: (
            http("401 No", b"", f'WWW-Authenticate: Bearer realm="http://{there.canary.authority}/token"')
            if request.header("authorization") == f"Bearer {OWN_TOKEN}"
            else None
        ),
    ),
    hooked("own-statement", "an issuer in the capability statement", tokens=_granting(), reply=_statement, own=True),
)

# --- two tenants -------------------------------------------------------------------------------------------

TOKENS: Final = ("tenant-a-token-canary", "tenant-b-token-canary")


def tenants(
    name: str,
    tries: str,
    *,
    first: Callable[[str, Received], bytes] = lambda _, __: http("200 OK", searchset(observation("a"))),
    paths: tuple[str, str] = (FHIR_PATH, FHIR_PATH),
    one_server: bool = False,
    hosts: tuple[str, str] = (LOOPBACK, LOOPBACK),
    reads: int = 20,
) -> Case:
    """The reads of two tenants at once, each by a token of its own; `first(base of the second, request)` answers."""

    async def run(_: Path) -> Result:
        def reply(request: Received) -> bytes:
            return first(bases[1], request) if request.path.startswith(paths[0]) else http("200 OK", searchset())

        async with listening(reply) as a, listening(lambda _: http("200 OK", searchset())) as b:
            servers = (a, a) if one_server else (a, b)
            bases = tuple(
                f"http://{host}:{server.port}{path}" for host, server, path in zip(hosts, servers, paths, strict=True)
            )
            with watched() as seen:
                async with Gateway(limits=UNHURRIED) as gateway:
                    await asyncio.gather(
                        *(
                            _read(gateway, bases[number % 2], token=TOKENS[number % 2], patient=f"p{number}")
                            for number in range(reads)
                        )
                    )
            places = {(LOOPBACK, server.port) for server in servers} | {
                (host, server.port) for server in servers for host in ("::1", *hosts) if "localhost" in hosts
            }
            leaks = seen.beyond(*places)
            for which, token in enumerate(TOKENS):
                for server in {a, b}:
                    for request in server.requests:
                        if token.encode() not in request.raw:
                            continue
                        home = server is servers[which] and re.match(f"{paths[which]}(/|$)", request.path)
                        if not home or request.header("authorization") != f"Bearer {token}":
                            leaks.append(f"token of {which} in {request.path}")
            return Result(
                tuple(leaks), all(reached(server, token) for server, token in zip(servers, TOKENS, strict=True))
            )

    return Case(name, tries, run)


async def _read(gateway: Gateway, base: str, *, token: str, patient: str) -> Fetched:
    query = Query("Observation", params=(("patient", patient),))
    return await gateway.fetch(query, base=base, access=Access(token), budget=Budget(Deadline(DEADLINE)))


def _next_page(link: Callable[[str], str]) -> Callable[[str, Received], bytes]:
    return lambda other, _: http("200 OK", searchset(observation("a"), following=link(other)))


TENANTS: Final = (
    tenants("tenants", "two servers at once"),
    tenants("tenants-one-origin", "two bases of one server", paths=("/a/fhir", "/b/fhir"), one_server=True),
    tenants("tenants-prefix", "a base whose path begins like the other's", paths=("/fhir", "/fhir2"), one_server=True),
    tenants("tenants-names", "one machine under two names", hosts=(LOOPBACK, "localhost")),
    tenants(
        "tenants-next",
        "a next page at the other tenant's server",
        first=_next_page(lambda other: f"{other}/Observation?page=2"),
    ),
    tenants(
        "tenants-next-path",
        "a next page at the other tenant's path",
        first=_next_page(lambda _: "/b/fhir/Observation?page=2"),
        paths=("/a/fhir", "/b/fhir"),
        one_server=True,
    ),
    tenants(
        "tenants-redirect",
        "a redirect to the other tenant's server",
        first=lambda other, _: http("307 Temporary Redirect", b"", f"Location: {other}/Observation"),
    ),
    tenants(
        "tenants-cookie",
        "a cookie, which knows no ports",
        first=lambda _, __: http("200 OK", searchset(), f"Set-Cookie: s={TOKENS[0]}; Path=/; Domain={LOOPBACK}"),
    ),
    tenants(
        "tenants-closing",
        "connections that end and are opened again",
        first=lambda _, __: http("200 OK", searchset(), "Connection: close"),
    ),
)

MATRIX: Final = (*ANSWERS, *REQUESTS, *ENVIRONMENT, *OWN, *TENANTS)
