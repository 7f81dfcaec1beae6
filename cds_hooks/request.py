"""A hook call, read once and tolerant: CDS Hooks 2.0.1, unknown members ignored, 1.0 spellings accepted.

Strict only about what decides whose data are read (patient identity), where a token may go, and about types,
because a wrong type means the sender and this service do not mean the same thing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Final, NoReturn

import msgspec

from . import strict_json
from .errors import BadRequest

MAX_HOOK_INSTANCE: Final = 256
MAX_ID: Final = 512
MAX_URL: Final = 2048
MAX_TOKEN: Final = 16384

_PATIENT_USERS: Final = ("Patient/", "RelatedPerson/")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SPACE_OR_CONTROL: Final = re.compile(r"[\s\x00-\x1f\x7f-\x9f]")
_VISIBLE_ASCII: Final = re.compile(r"[\x21-\x7e]+")
_TEXT: Final = msgspec.json.Decoder(str)
_INTEGER: Final[msgspec.json.Decoder[int]] = msgspec.json.Decoder(Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)])


class Token:
    """An access token that does not print, format, pickle or copy itself into a log or an exception."""

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        self.__value = value

    def reveal(self) -> str:
        """The value, for the ``Authorization`` header of a read at the server it came with."""
        return self.__value

    def __repr__(self) -> str:
        return "Token(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Token):
            return NotImplemented
        return hmac.compare_digest(self.__value.encode(), other.__value.encode())

    def __hash__(self) -> int:
        return hash((Token, self.__value))

    def __copy__(self) -> Token:
        return self

    def __deepcopy__(self, memo: object) -> Token:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("an access token is never serialised")


@dataclass(frozen=True, slots=True, kw_only=True)
class FhirAuthorization:
    """``expires_in`` is in seconds from the call. ``patient`` has no ``Patient/`` prefix."""

    access_token: Token
    token_type: str | None
    expires_in: int | None
    scope: str | None = field(repr=False)
    subject: str | None = field(repr=False)
    patient: str | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What every hook's context has in common; ``raw`` is the whole JSON object for a hook's own members.

    Ids have no type prefix; ``user_id`` keeps its, since the type says who is asking.
    """

    patient_id: str = field(repr=False)
    user_id: str | None = field(repr=False)
    encounter_id: str | None = field(repr=False)
    raw: bytes = field(repr=False)

    @property
    def user_is_patient(self) -> bool:
        """A portal user: cards are for clinicians (reading 7)."""
        return self.user_id is not None and self.user_id.startswith(_PATIENT_USERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class HookRequest:
    """``prefetch`` is ``None`` if the call had none, and an empty mapping if it had an empty one."""

    hook: str
    hook_instance: str = field(repr=False)
    fhir_server: str | None = field(repr=False)
    fhir_authorization: FhirAuthorization | None = field(repr=False)
    context: Context = field(repr=False)
    prefetch: Mapping[str, bytes] | None = field(repr=False)

    @property
    def user_is_patient(self) -> bool:
        return self.context.user_is_patient


def parse(
    body: bytes, *, hook: str, max_depth: int = strict_json.MAX_DEPTH, max_number: int = strict_json.MAX_NUMBER
) -> HookRequest:
    """The call in ``body`` to a service that answers ``hook``; the limits are those of :func:`.strict_json.check`.

    Prefetch values stay raw JSON, so that a large prefetch is parsed once, by whoever knows what to look for.

    :raises BadRequest: naming the member that is wrong, never its value.
    """
    strict_json.check_text(body, max_depth=max_depth, max_number=max_number)
    envelope = _Members(strict_json.members(body, name="the body"), path="")
    if envelope.required_text("hook", limit=MAX_ID) != hook:
        raise BadRequest("hook is not the hook of this service", code="value")
    hook_instance = envelope.required_text("hookInstance", limit=MAX_HOOK_INSTANCE)
    context = _context(envelope)
    fhir_server = _fhir_server(envelope)
    authorization = _authorization(envelope, fhir_server=fhir_server, patient_id=context.patient_id)
    return HookRequest(
        hook=hook,
        hook_instance=hook_instance,
        fhir_server=fhir_server,
        fhir_authorization=authorization,
        context=context,
        prefetch=_prefetch(envelope),
    )


def digest(request: HookRequest) -> str:
    """SHA-256 (hex) of what was asked, to recognise an exact repeat.

    Without ``fhirAuthorization``: a new token for the same question is the same question. Values count as
    they were written; the order of prefetch keys does not.
    """
    context = request.context
    parts: list[bytes | None] = [
        request.hook.encode(),
        request.hook_instance.encode(),
        _encoded(request.fhir_server),
        context.patient_id.encode(),
        _encoded(context.user_id),
        _encoded(context.encounter_id),
        context.raw,
    ]
    if request.prefetch is not None:
        for key in sorted(request.prefetch):
            parts += [key.encode(), request.prefetch[key]]
    else:
        parts.append(None)
    sha = hashlib.sha256()
    for part in parts:  # lengths keep neighbouring parts apart
        sha.update(b"-" if part is None else b"%d:" % len(part))
        sha.update(part or b"")
    return sha.hexdigest()


@dataclass(frozen=True, slots=True)
class _Members:
    """Typed access to raw members; JSON null and a member that is not there are the same."""

    values: Mapping[str, bytes]
    path: str

    def raw(self, name: str) -> bytes | None:
        value = self.values.get(name)
        return None if value is None or value == b"null" else value

    def text(self, name: str, *, limit: int) -> str | None:
        """``None`` for an empty string too: the standard forbids it, some clients send it."""
        raw = self.raw(name)
        if raw is None:
            return None
        try:
            value = _TEXT.decode(raw)
        except msgspec.ValidationError:
            raise BadRequest(f"{self.path}{name} must be a string", code="structure") from None
        if len(value) > limit:
            raise BadRequest(f"{self.path}{name} is longer than {limit} characters", code="too-long")
        if _CONTROL.search(value):
            raise BadRequest(f"{self.path}{name} holds a control character", code="value")
        return value or None

    def required_text(self, name: str, *, limit: int) -> str:
        value = self.text(name, limit=limit)
        if value is None or value.isspace():
            raise BadRequest(f"{self.path}{name} must be a non-empty string", code="required")
        return value

    def integer(self, name: str) -> int | None:
        raw = self.raw(name)
        if raw is None:
            return None
        try:
            return _INTEGER.decode(raw)
        except msgspec.ValidationError:
            raise BadRequest(f"{self.path}{name} must be an integer of 32 bits", code="structure") from None

    def identifier(self, name: str, *, prefix: str) -> str | None:
        """An id with or without its type. No path of an URL can be built from what is left."""
        value = self.text(name, limit=MAX_ID)
        if value is None:
            return None
        bare = value.removeprefix(prefix)
        if not bare or bare.isspace() or "/" in bare or bare in (".", ".."):
            raise BadRequest(f"{self.path}{name} must be an id, or {prefix} and an id", code="value")
        return bare


def _context(envelope: _Members) -> Context:
    raw = envelope.raw("context")
    if raw is None:
        raise BadRequest("context must be a JSON object", code="required")
    members = _Members(strict_json.members(raw, name="context"), path="context.")
    # 1.0 and earlier had these at the root.
    patient_id = members.identifier("patientId", prefix="Patient/") or envelope.identifier("patient", prefix="Patient/")
    if patient_id is None:
        raise BadRequest("context.patientId must be a non-empty string", code="required")
    return Context(
        patient_id=patient_id,
        user_id=members.text("userId", limit=MAX_ID) or envelope.text("user", limit=MAX_ID),
        encounter_id=members.identifier("encounterId", prefix="Encounter/"),
        raw=raw,
    )


def _prefetch(envelope: _Members) -> Mapping[str, bytes] | None:
    raw = envelope.raw("prefetch")
    return None if raw is None else MappingProxyType(strict_json.members(raw, name="prefetch"))


def _fhir_server(envelope: _Members) -> str | None:
    value = envelope.text("fhirServer", limit=MAX_URL)
    if value is not None and _SPACE_OR_CONTROL.search(value):
        raise BadRequest("fhirServer must be a URL", code="value")
    return value


def _authorization(envelope: _Members, *, fhir_server: str | None, patient_id: str) -> FhirAuthorization | None:
    raw = envelope.raw("fhirAuthorization")
    if raw is None:
        return None
    members = _Members(strict_json.members(raw, name="fhirAuthorization"), path="fhirAuthorization.")
    if fhir_server is None:
        raise BadRequest("fhirAuthorization needs fhirServer", code="required")
    token = members.required_text("access_token", limit=MAX_TOKEN)
    if not _VISIBLE_ASCII.fullmatch(token):  # it goes into a header
        raise BadRequest("fhirAuthorization.access_token must be visible ASCII", code="value")
    token_type = members.text("token_type", limit=MAX_ID)
    if token_type is not None and token_type.casefold() != "bearer":
        raise BadRequest("fhirAuthorization.token_type must be Bearer", code="value")
    patient = members.identifier("patient", prefix="Patient/")
    if patient is not None and patient != patient_id:
        raise BadRequest("fhirAuthorization.patient is not context.patientId", code="value")
    return FhirAuthorization(
        access_token=Token(token),
        token_type=token_type,
        expires_in=members.integer("expires_in"),
        scope=members.text("scope", limit=MAX_TOKEN),
        subject=members.text("subject", limit=MAX_ID),
        patient=patient,
    )


def _encoded(value: str | None) -> bytes | None:
    return None if value is None else value.encode()
