"""Prefetch: the templates a service publishes, and the raw values that come back.

The allowed templates are the subset of CDS Hooks 2.0.1 section "Prefetch query restrictions", narrowed by what
real clients do: a repeated parameter is merged, an unresolved optional token is sent as it stands and the empty
answer looks valid.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

import msgspec

from .request import Context

_TOKEN: Final = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
_USER_TOKENS: Final = {
    "userPractitionerId": "Practitioner/",
    "userPractitionerRoleId": "PractitionerRole/",
    "userPatientId": "Patient/",
    "userRelatedPersonId": "RelatedPerson/",
}
# context.encounterId is optional at patient-view and therefore not here.
_TEMPLATE_TOKENS: Final = frozenset({"context.patientId", "context.userId", *_USER_TOKENS})

_TYPE: Final = re.compile(r"[A-Z][A-Za-z]+")
_READ: Final = re.compile(r"[A-Za-z0-9.\-]{1,64}")
_PARAMETER: Final = re.compile(r"(?P<name>[a-z][a-z0-9-]*)(?P<modifier>:in)?")
_SORT: Final = re.compile(r"-?[a-z_][A-Za-z_-]*(?:,-?[a-z_][A-Za-z_-]*)*")
_COUNT: Final = re.compile(r"[1-9][0-9]*")
_OTHER_PREFIX: Final = re.compile(r"(?:ne|sa|eb|ap)\d{4}")
_UNSAFE: Final = re.compile(r"[^\x21-\x7e]|[#&=?{}\"<>\\^`]")


class _Wrapper(msgspec.Struct):
    resource_type: msgspec.Raw | msgspec.UnsetType = msgspec.field(name="resourceType", default=msgspec.UNSET)
    response: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    resource: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_WRAPPER: Final = msgspec.json.Decoder(_Wrapper)


def token_values(context: Context) -> dict[str, str]:
    """The values of the tokens this context can fill, under their names without braces."""
    values = {"context.patientId": context.patient_id}
    if context.encounter_id is not None:
        values["context.encounterId"] = context.encounter_id
    if context.user_id is not None:
        values["context.userId"] = context.user_id
        for token, prefix in _USER_TOKENS.items():
            if context.user_id.startswith(prefix):
                values[token] = context.user_id.removeprefix(prefix)
    return values


def render(template: str, *, values: Mapping[str, str]) -> str:
    """The relative FHIR URL of ``template`` with each ``{{token}}`` replaced by its percent-encoded value.

    :raises ValueError: a token without a value; sending it as it stands would find nothing and look like an
        answer.
    """

    def value_of(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in values:
            raise ValueError(f"no value for the prefetch token {name}")
        return quote(values[name], safe="/")

    return _TOKEN.sub(value_of, template)


def unwrap(raw: bytes) -> bytes | None:
    """What a prefetch value stands for: ``None`` for null, else the JSON of one resource.

    Clients before 1.0 wrap it as ``{"response": ..., "resource": ...}``; a wrapper without a resource is a
    read that brought nothing, so ``None``. Anything else is handed on as it is, for its reader to judge.
    """
    stripped = raw.strip()
    if stripped == b"null":
        return None
    if not stripped.startswith(b"{") or b'"response"' not in stripped:
        return raw
    try:
        wrapper = _WRAPPER.decode(stripped)
    except (ValueError, RecursionError):
        return raw
    if wrapper.resource_type is not msgspec.UNSET or wrapper.response is msgspec.UNSET:
        return raw
    inner = b"null" if wrapper.resource is msgspec.UNSET else bytes(wrapper.resource)
    return None if inner == b"null" else inner


def validate_template(template: str) -> None:
    """Hold ``template`` to what every 2.0.1 client can run.

    Allowed are ``Type/id`` and ``Type?parameter=value&...`` with each parameter once, the modifier ``:in``,
    ``_count``, ``_sort``, and date prefixes eq, lt, gt, ge, le. Tokens stand in values and name a context
    member that every call has.

    :raises ValueError: says what is not allowed.
    """
    for token in _TOKEN.findall(template):
        if token not in _TEMPLATE_TOKENS:
            raise ValueError(f"prefetch token {token} is unknown, or not in every call")
    # A filled token is an id.
    sample = _TOKEN.sub("x", template)
    resource_type, read, identifier = sample.partition("/")
    if read and "?" not in resource_type:
        if not _TYPE.fullmatch(resource_type) or not _READ.fullmatch(identifier):
            raise ValueError(f"a read is Type/id: {template}")
        return
    resource_type, search, query = sample.partition("?")
    if not search or not _TYPE.fullmatch(resource_type):
        raise ValueError(f"a template is Type/id or Type?query: {template}")
    seen: set[str] = set()
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        _validate_parameter(name, value=value)
        bare = name.partition(":")[0]
        if bare in seen:
            raise ValueError(f"parameter {bare} occurs twice: clients merge repeated parameters")
        seen.add(bare)


def _validate_parameter(name: str, *, value: str) -> None:
    if name == "_count":
        allowed = _COUNT.fullmatch(value) is not None
    elif name == "_sort":
        allowed = _SORT.fullmatch(value) is not None
    else:
        allowed = (
            _PARAMETER.fullmatch(name) is not None
            and bool(value)
            and not _UNSAFE.search(value)
            and not _OTHER_PREFIX.match(value)
        )
    if not allowed:
        raise ValueError(f"prefetch parameter {name} is outside the subset every client can run")
