"""The embedded FHIR R4 sandbox of the demo: real HTTP, real searches, synthetic patients, all in memory.

It exists so that the demo needs nothing but Python, and it behaves like the servers this service meets in
hospitals where that matters to a client: pages of 20 unless asked, a `_count` above the maximum clipped
without a word, opaque `next` links that expire (410), an unknown search parameter refusing the whole search
(400), partial dates compared as intervals. It can fail on purpose: `faults` names, per patient and resource
type, a status to answer with or a delay in seconds, because a refused medication search is part of life.

It is no FHIR server to build on: no versions, no history, no validation beyond what a demo order needs, no
access control. Any real R4 server takes its place.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, Protocol
from urllib.parse import parse_qsl, urlencode

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

Resource = dict[str, Any]
LOCAL_ORIGIN = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?"
"""Browser origins that may read the sandbox: pages served from this machine, on any port."""

DEFAULT_PAGE = 20
LARGEST_PAGE = 100
KEPT_SEARCHES = 256
LARGEST_BODY = 256 * 1024
MOST_ORDERS = 500
RESEED_AFTER = timedelta(hours=1)

_NAIVE_MIN = datetime.min.replace(tzinfo=UTC)
_NAIVE_MAX = datetime.max.replace(tzinfo=UTC)
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_DATE = re.compile(
    r"(?P<year>\d{4})(-(?P<month>\d\d)(-(?P<day>\d\d)"
    r"(T(?P<hour>\d\d):(?P<minute>\d\d)(:(?P<second>\d\d)(\.(?P<fraction>\d+))?)?"
    r"(?P<zone>Z|[+-]\d\d:\d\d)?)?)?)?"
)
_PREFIX = re.compile(r"(eq|ne|gt|lt|ge|le|sa|eb)?(.*)", re.DOTALL)
_encode = msgspec.json.Encoder(decimal_format="number").encode
_decode = msgspec.json.Decoder(float_hook=Decimal).decode


class Fault(Protocol):
    """How a patient's resources of one type are hard to get: `delay` seconds first, then `status` unless 0."""

    @property
    def status(self) -> int: ...
    @property
    def delay(self) -> float: ...


class Refused(Exception):
    """A request the sandbox does not carry out; becomes an OperationOutcome with this status."""

    def __init__(self, status: int, code: str, text: str) -> None:
        super().__init__(text)
        self.status, self.code, self.text = status, code, text


@dataclass(frozen=True, slots=True)
class Parameter:
    """A search parameter: its FHIR type and the elements it looks at (`target`: type a bare id stands for)."""

    type: Literal["reference", "token", "date", "string"]
    elements: tuple[str, ...]
    target: str = ""


def _token(*elements: str) -> Parameter:
    return Parameter("token", elements)


def _date(*elements: str) -> Parameter:
    return Parameter("date", elements)


def _reference(target: str, *elements: str) -> Parameter:
    return Parameter("reference", elements, target)


_ID_PARAMETER = {"_id": _token("id")}
_PATIENT = {**_ID_PARAMETER, "patient": _reference("Patient", "patient", "subject")}
_SUBJECT = {**_PATIENT, "subject": _reference("Patient", "subject")}
_CODED = {**_SUBJECT, "code": _token("code"), "status": _token("status"), "category": _token("category")}
_CLINICAL = {
    "clinical-status": _token("clinicalStatus"),
    "verification-status": _token("verificationStatus"),
    "category": _token("category"),
    "code": _token("code"),
}
_DRUG = {
    **_SUBJECT,
    "code": _token("medicationCodeableConcept"),
    "medication": _reference("Medication", "medicationReference"),
    "status": _token("status"),
}

PARAMETERS: dict[str, dict[str, Parameter]] = {
    "AllergyIntolerance": {**_PATIENT, **_CLINICAL, "date": _date("recordedDate")},
    "Condition": {
        **_SUBJECT,
        **_CLINICAL,
        "onset-date": _date("onsetDateTime", "onsetPeriod"),
        "recorded-date": _date("recordedDate"),
    },
    "Device": {**_PATIENT, "type": _token("type"), "status": _token("status")},
    "DiagnosticReport": {**_CODED, "date": _date("effectiveDateTime", "effectivePeriod")},
    "Encounter": {**_SUBJECT, "status": _token("status"), "class": _token("class"), "date": _date("period")},
    "Immunization": {
        **_PATIENT,
        "vaccine-code": _token("vaccineCode"),
        "status": _token("status"),
        "date": _date("occurrenceDateTime"),
    },
    "Medication": {**_ID_PARAMETER, "code": _token("code"), "status": _token("status")},
    "MedicationAdministration": {**_DRUG, "effective-time": _date("effectiveDateTime", "effectivePeriod")},
    "MedicationRequest": {
        **_DRUG,
        "intent": _token("intent"),
        "category": _token("category"),
        "authoredon": _date("authoredOn"),
    },
    "MedicationStatement": {
        **_DRUG,
        "category": _token("category"),
        "effective": _date("effectiveDateTime", "effectivePeriod"),
    },
    "Observation": {**_CODED, "date": _date("effectiveDateTime", "effectivePeriod", "effectiveInstant")},
    "Patient": {
        **_ID_PARAMETER,
        "identifier": _token("identifier"),
        "gender": _token("gender"),
        "birthdate": _date("birthDate"),
        "name": Parameter("string", ("name.text", "name.family", "name.given")),
        "family": Parameter("string", ("name.family",)),
        "given": Parameter("string", ("name.given",)),
    },
    "Practitioner": {**_ID_PARAMETER, "identifier": _token("identifier")},
    "Procedure": {**_CODED, "date": _date("performedDateTime", "performedPeriod")},
    "Specimen": {**_SUBJECT, "type": _token("type")},
}
"""What can be searched, and by what; a type that is not here does not exist (404)."""

_CREATABLE = "MedicationRequest"
_INCLUDES = {f"{name}:medication" for name in PARAMETERS if "medication" in PARAMETERS[name]}
_RESULT_PARAMETERS = {"_sort", "_count", "_include", "_format", "_pretty", "_total"}


def create_fhir(
    resources: Iterable[Resource] | Callable[[datetime], Iterable[Resource]],
    *,
    base_url: str | Callable[[], str],
    clock: Callable[[], datetime],
    faults: Mapping[str, Mapping[str, Fault]] | None = None,
) -> Starlette:
    """The sandbox as an ASGI application, to be mounted where `base_url` says (no trailing slash).

    Given as a function of now, the resources are made anew once an hour, so that the stories of patients
    do not grow old while the demo stays open; orders placed meanwhile are kept until the process ends.
    """
    sandbox = _Sandbox(resources, base_url=base_url, clock=clock, faults=faults or {})
    return Starlette(
        routes=[
            Route("/metadata", sandbox.metadata),
            Route("/{type}/_search", sandbox.search, methods=["POST"]),
            Route("/{type}/{id}", sandbox.read, methods=["GET"]),
            Route("/{type}/{id}", sandbox.update, methods=["PUT"]),
            Route("/{type}", sandbox.search, methods=["GET"]),
            Route("/{type}", sandbox.create, methods=["POST"]),
        ],
        middleware=[
            Middleware(
                CORSMiddleware,
                allow_origin_regex=LOCAL_ORIGIN,
                allow_methods=["GET", "POST", "PUT"],
                allow_headers=["authorization", "content-type", "cache-control", "prefer"],
                expose_headers=["location", "etag"],
            )
        ],
        exception_handlers={Refused: _refused, HTTPException: _http_error},
    )


class _Sandbox:
    """The resources by type and id, the searches whose next pages may still be asked for, the endpoints."""

    def __init__(
        self,
        resources: Iterable[Resource] | Callable[[datetime], Iterable[Resource]],
        *,
        base_url: str | Callable[[], str],
        clock: Callable[[], datetime],
        faults: Mapping[str, Mapping[str, Fault]],
    ) -> None:
        self._make: Callable[[datetime], Iterable[Resource]] | None = resources if callable(resources) else None
        self._base_url, self._clock, self._faults = base_url, clock, faults
        self._seeded_at = clock()
        self._seed = _by_type(resources(self._seeded_at) if callable(resources) else resources)
        self._orders: dict[str, Resource] = {}
        self._searches: OrderedDict[str, list[Resource]] = OrderedDict()

    @property
    def _base(self) -> str:
        return (self._base_url if isinstance(self._base_url, str) else self._base_url()).rstrip("/")

    def _all(self, type_: str) -> dict[str, Resource]:
        if type_ not in PARAMETERS:
            raise Refused(404, "not-found", "This sandbox does not hold that resource type.")
        now = self._clock()
        if self._make is not None and now - self._seeded_at >= RESEED_AFTER:
            self._seeded_at, self._seed = now, _by_type(self._make(now))
        held = self._seed.get(type_, {})
        return {**held, **self._orders} if type_ == _CREATABLE else held

    async def _fault(self, type_: str, patients: Iterable[str]) -> None:
        """Wait or refuse where a story says that this patient's resources of this type are hard to get."""
        for patient in patients:
            fault = self._faults.get(patient, {}).get(type_)
            if fault is None:
                continue
            await asyncio.sleep(fault.delay)
            if fault.status:
                code = "forbidden" if fault.status == 403 else "transient"
                raise Refused(fault.status, code, f"Injected by the demo: {type_} is not available.")

    async def metadata(self, _request: Request) -> Response:
        """The capability statement: what a client may send, read from the same table the search uses."""
        types = [
            {
                "type": name,
                "interaction": [
                    {"code": code}
                    for code in ("read", "search-type", *(("create", "update") if name == _CREATABLE else ()))
                ],
                **({"searchInclude": [f"{name}:medication"]} if f"{name}:medication" in _INCLUDES else {}),
                "searchParam": [{"name": key, "type": known.type} for key, known in parameters.items()],
            }
            for name, parameters in PARAMETERS.items()
        ]
        return _answer(
            {
                "resourceType": "CapabilityStatement",
                "status": "active",
                "date": self._clock().isoformat(timespec="seconds"),
                "kind": "instance",
                "software": {"name": "rescue-cds demo sandbox"},
                "implementation": {
                    "description": "A demo: synthetic patients in memory. Not for real patient data.",
                    "url": self._base,
                },
                "fhirVersion": "4.0.1",
                "format": ["application/fhir+json"],
                "rest": [{"mode": "server", "security": {"cors": True}, "resource": types}],
            }
        )

    async def read(self, request: Request) -> Response:
        type_ = request.path_params["type"]
        held = self._all(type_)
        resource = held.get(request.path_params["id"])
        if resource is None:
            raise Refused(404, "not-found", "No such resource.")
        await self._fault(type_, [_patient_of(resource)])
        return _answer(resource, headers={"etag": 'W/"1"'})

    async def search(self, request: Request) -> Response:
        type_ = request.path_params["type"]
        held = self._all(type_)
        pairs = request.query_params.multi_items()
        if request.method == "POST":
            if _content_type(request) != "application/x-www-form-urlencoded":
                raise Refused(415, "not-supported", "A POST search carries a form.")
            body = (await _body(request)).decode("utf-8", "replace")
            pairs += parse_qsl(body, keep_blank_values=True)
        given = dict(pairs)
        if "_getpages" in given:
            offset = _number(given, "_getpagesoffset")
            return self._page(type_, given["_getpages"], offset, _count(given), include=given.get("_include", ""))
        query = _parsed(type_, pairs)
        asked = (values for known, values in query if known.target == "Patient")
        await self._fault(type_, sorted({value.rpartition("/")[2] for values in asked for value in values}))
        found = [resource for resource in held.values() if all(_matches(resource, *term) for term in query)]
        token = uuid.uuid4().hex
        self._searches[token] = _sorted(found, type_, given.get("_sort", ""))
        while len(self._searches) > KEPT_SEARCHES:
            self._searches.popitem(last=False)
        return self._page(type_, token, 0, _count(given), include=given.get("_include", ""), own=pairs)

    def _page(
        self,
        type_: str,
        token: str,
        offset: int,
        count: int,
        *,
        include: str = "",
        own: Sequence[tuple[str, str]] = (),
    ) -> Response:
        """One page of a search; `_include` is remembered by every page link, like the search itself."""
        found = self._searches.get(token)
        if found is None:
            raise Refused(410, "expired", "This search is no longer held; ask again from the first page.")
        page = found[offset : offset + count]
        entries = [self._entry(resource, "match") for resource in page]
        if include:
            wanted = {resource.get("medicationReference", {}).get("reference", "") for resource in page}
            drugs = self._all("Medication")
            entries += [
                self._entry(drugs[key], "include")
                for key in sorted(reference.removeprefix("Medication/") for reference in wanted)
                if key in drugs
            ]
        links = [{"relation": "self", "url": f"{self._base}/{type_}?{urlencode(own)}".rstrip("?")}]
        if offset + count < len(found) and count:
            position = {"_getpages": token, "_getpagesoffset": offset + count, "_count": count}
            more = urlencode({**position, **({"_include": include} if include else {})})
            links.append({"relation": "next", "url": f"{self._base}/{type_}?{more}"})
        bundle = {"resourceType": "Bundle", "type": "searchset", "total": len(found), "link": links}
        return _answer({**bundle, "entry": entries} if entries else bundle)

    def _entry(self, resource: Resource, mode: str) -> Resource:
        url = f"{self._base}/{resource['resourceType']}/{resource['id']}"
        return {"fullUrl": url, "resource": resource, "search": {"mode": mode}}

    async def create(self, request: Request) -> Response:
        """Store an accepted suggestion as an order, under an id of the sandbox's own."""
        return await self._store(request, str(uuid.uuid4()), 201)

    async def update(self, request: Request) -> Response:
        held = self._all(request.path_params["type"])
        return await self._store(request, request.path_params["id"], 200 if request.path_params["id"] in held else 201)

    async def _store(self, request: Request, id_: str, status: int) -> Response:
        type_ = request.path_params["type"]
        self._all(type_)
        if type_ != _CREATABLE:
            raise Refused(405, "not-supported", f"This sandbox stores {_CREATABLE} only.")
        if _content_type(request) not in ("application/json", "application/fhir+json"):
            raise Refused(415, "not-supported", "A resource is sent as application/fhir+json.")
        try:
            resource = _decode(await _body(request))
        except (msgspec.DecodeError, ValueError, ArithmeticError, RecursionError):
            raise Refused(400, "structure", "The body is not JSON.") from None
        if not isinstance(resource, dict) or resource.get("resourceType") != type_:
            raise Refused(400, "structure", f"The body is not a {type_}.")
        if not _ID.fullmatch(id_) or (request.method == "PUT" and resource.get("id") != id_):
            raise Refused(400, "invalid", "The id of the body and of the address must be one FHIR id.")
        if _patient_of(resource) not in self._all("Patient"):
            raise Refused(422, "business-rule", "The subject is not a patient of this sandbox.")
        if id_ not in self._orders and len(self._orders) >= MOST_ORDERS:
            raise Refused(503, "throttled", "The demo holds no more orders; start it again.")
        stamp = self._clock().isoformat(timespec="seconds")
        self._orders[id_] = {**resource, "id": id_, "meta": {"versionId": "1", "lastUpdated": stamp}}
        location = f"{self._base}/{type_}/{id_}"
        return _answer(self._orders[id_], status=status, headers={"location": location, "etag": 'W/"1"'})


def _by_type(resources: Iterable[Resource]) -> dict[str, dict[str, Resource]]:
    """Raises ValueError for a type the sandbox cannot serve or a second resource of one id: a demo bug."""
    held: dict[str, dict[str, Resource]] = {}
    for resource in resources:
        type_, id_ = resource["resourceType"], resource["id"]
        if type_ not in PARAMETERS or id_ in held.setdefault(type_, {}):
            raise ValueError(f"{type_}/{id_} is of an unknown type or there twice")
        held[type_][id_] = resource
    return held


def _patient_of(resource: Resource) -> str:
    if resource.get("resourceType") == "Patient":
        return str(resource["id"])
    subject = resource.get("subject") or resource.get("patient")
    reference = subject.get("reference") if isinstance(subject, dict) else None
    return str(reference).rpartition("Patient/")[2] if reference else ""


# --- the query ------------------------------------------------------------------------------------------


def _parsed(type_: str, pairs: Iterable[tuple[str, str]]) -> list[tuple[Parameter, list[str]]]:
    """Every term of the query: all have to match, any of its comma-separated values does.

    Raises Refused (400) for a parameter or modifier the capability statement does not declare.
    """
    query = []
    for name, value in pairs:
        if name == "_include" and value not in _INCLUDES:
            raise Refused(400, "not-supported", "That _include is not supported.")
        if name in _RESULT_PARAMETERS:
            continue
        known = PARAMETERS[type_].get(name)
        if known is None:
            raise Refused(400, "not-supported", f"Unknown search parameter for {type_}: {name[:60]}")
        values = [re.sub(r"\\(.)", r"\1", part) for part in re.split(r"(?<!\\),", value)]
        if known.type == "date":
            for part in values:
                _asked(part)
        query.append((known, values))
    return query


def _matches(resource: Resource, known: Parameter, values: Sequence[str]) -> bool:
    found = [value for element in known.elements for value in _values(resource, element.split("."))]
    if known.type == "token":
        return any(_token_matches(token, value) for item in found for token in _tokens(item) for value in values)
    if known.type == "date":
        spans = [_span(item) for item in found]
        return any(_date_matches(span, value) for span in spans if span for value in values)
    if known.type == "reference":
        wanted = {_reference_key(value, known.target) for value in values}
        return any(
            _reference_key(str(item.get("reference", "")), known.target) in wanted
            for item in found
            if isinstance(item, dict)
        )
    return any(str(item).casefold().startswith(value.casefold()) for item in found for value in values)


def _values(item: Any, path: Sequence[str]) -> Iterator[Any]:
    if isinstance(item, list):
        for part in item:
            yield from _values(part, path)
    elif not path:
        yield item
    elif isinstance(item, dict) and path[0] in item:
        yield from _values(item[path[0]], path[1:])


def _tokens(item: Any) -> Iterator[tuple[str | None, str]]:
    """(system, code) of a CodeableConcept, Coding or Identifier; a plain code has no system to compare."""
    if not isinstance(item, dict):
        yield None, str(item)
    elif "coding" in item:
        for coding in item["coding"]:
            yield str(coding.get("system", "")), str(coding.get("code", ""))
    else:
        yield str(item.get("system", "")), str(item.get("code", item.get("value", "")))


def _token_matches(token: tuple[str | None, str], wanted: str) -> bool:
    system, bar, code = wanted.rpartition("|")
    return (not code or token[1] == code) and (not bar or token[0] in (None, system))


def _reference_key(reference: str, target: str) -> str:
    parts = reference.partition("/_history/")[0].split("/")
    return "/".join(parts[-2:]) if len(parts) > 1 else f"{target}/{reference}"


# --- dates ----------------------------------------------------------------------------------------------

Span = tuple[datetime, datetime]
"""From (inside) and to (outside): a partial date is every instant it allows, in UTC if it has no zone."""


def _instants(text: str) -> Span:
    """Raises ValueError for what is no FHIR date."""
    match = _DATE.fullmatch(text)
    if match is None:
        raise ValueError("not a FHIR date")
    part = {key: value for key, value in match.groupdict().items() if value is not None}
    year, month, day = int(part["year"]), int(part.get("month", 1)), int(part.get("day", 1))
    fraction = part.get("fraction", "")[:6]
    start = datetime(
        *(year, month, day, int(part.get("hour", 0)), int(part.get("minute", 0)), int(part.get("second", 0))),
        int(fraction.ljust(6, "0")),
        tzinfo=UTC,
    )
    if "zone" in part and part["zone"] != "Z":
        sign = -1 if part["zone"][0] == "+" else 1
        start += sign * timedelta(hours=int(part["zone"][1:3]), minutes=int(part["zone"][4:6]))
    if fraction:
        return start, start + timedelta(microseconds=10 ** (6 - len(fraction)))
    for unit, length in (("second", 1), ("minute", 60), ("day", 86_400)):
        if unit in part:
            return start, start + timedelta(seconds=length)
    if "month" in part:
        return start, start.replace(year=year + month // 12, month=month % 12 + 1)
    return start, start.replace(year=year + 1)


def _span(item: Any) -> Span | None:
    """The instants of a date or Period; a Period without an end goes on for ever. None: no readable date."""
    try:
        if isinstance(item, dict):
            start = _instants(item["start"])[0] if "start" in item else _NAIVE_MIN
            end = _instants(item["end"])[1] if "end" in item else _NAIVE_MAX
            return (start, end) if item.keys() & {"start", "end"} else None
        return _instants(str(item))
    except (ValueError, OverflowError):
        return None


def _asked(value: str) -> tuple[str, Span]:
    prefix, text = _PREFIX.fullmatch(value).groups()  # type: ignore[union-attr] # matches any text
    try:
        return prefix or "eq", _instants(text.replace(" ", "+"))  # a "+" that was not escaped in the address
    except (ValueError, OverflowError):
        raise Refused(400, "invalid", "A date of the search is not a FHIR date with a known prefix.") from None


def _date_matches(held: Span, value: str) -> bool:
    prefix, asked = _asked(value)
    equal = asked[0] <= held[0] and held[1] <= asked[1]
    return {
        "eq": equal,
        "ne": not equal,
        "ge": held[1] > asked[0],
        "le": held[0] < asked[1],
        "gt": held[1] > asked[1],
        "lt": held[0] < asked[0],
        "sa": held[0] >= asked[1],
        "eb": held[1] <= asked[0],
    }[prefix]


# --- order and number -----------------------------------------------------------------------------------


def _sorted(found: list[Resource], type_: str, order: str) -> list[Resource]:
    """By the keys given, then by id; what lacks a key comes last in either direction."""
    found = sorted(found, key=lambda resource: str(resource["id"])) if order else found
    for key in reversed(order.split(",") if order else []):
        known = PARAMETERS[type_].get(key.removeprefix("-"))
        if known is None or known.type == "reference":
            raise Refused(400, "not-supported", f"Cannot sort {type_} by that.")
        newest = key.startswith("-")
        keyed = [(_sort_key(resource, known, newest), resource) for resource in found]
        present = sorted(((k, r) for k, r in keyed if k is not None), key=lambda pair: pair[0], reverse=newest)
        found = [resource for _, resource in present] + [resource for k, resource in keyed if k is None]
    return found


def _sort_key(resource: Resource, known: Parameter, newest: bool) -> Any:
    found = [value for element in known.elements for value in _values(resource, element.split("."))]
    keys: list[Any]
    if known.type == "date":
        keys = [span[1] if newest else span[0] for item in found if (span := _span(item))]
    elif known.type == "token":
        keys = [code for item in found for _, code in _tokens(item)]
    else:
        keys = [str(item).casefold() for item in found]
    return (max(keys) if newest else min(keys)) if keys else None


def _number(given: Mapping[str, str], name: str) -> int:
    text = given.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise Refused(400, "invalid", f"{name} is not a number.")
    return int(text)


def _count(given: Mapping[str, str]) -> int:
    return min(_number(given, "_count"), LARGEST_PAGE) if "_count" in given else DEFAULT_PAGE


# --- HTTP -----------------------------------------------------------------------------------------------


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise Refused(413, "too-long", "The body is larger than the demo takes.")
    return body


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _answer(resource: Resource, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    plain = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    return Response(_encode(resource), status, {**plain, **(headers or {})}, media_type="application/fhir+json")


def _outcome(status: int, code: str, text: str, headers: Mapping[str, str] | None = None) -> Response:
    issue = {"severity": "error", "code": code, "diagnostics": text}
    return _answer({"resourceType": "OperationOutcome", "issue": [issue]}, status=status, headers=headers)


async def _refused(_request: Request, error: Exception) -> Response:
    if not isinstance(error, Refused):  # for the type that Starlette hands over
        raise error
    return _outcome(error.status, error.code, error.text)


async def _http_error(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    code = "not-supported" if error.status_code == 405 else "not-found"
    return _outcome(error.status_code, code, error.detail, error.headers)
