"""A CDS client's token: read, verified and checked, one step a function, in the order that who calls them keeps.

    bearer    exactly one token in the headers
    read      its header, and who it says it is from; nothing is believed yet
    select    the key, of those registered for who it says it is from
    verified  the signature, then the claims
    check     for this service, now, and not for long

Keys come from the caller alone: what a token says of keys and of where to find them is refused or compared, never
used. Whatever the input, nothing but `Untrusted` leaves these functions; why is for the service's own record, and who
calls is told nothing.

Sources: CDS Hooks "Trusting CDS Clients"; RFC 7515, 7517, 7519, 8725; SMART App Launch 2.2, "Client Authentication:
Asymmetric (public key)", for the choice of the key.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal, TypeVar, get_args

import msgspec
from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

from . import strict_json
from .errors import BadRequest

Reason = Literal[
    "no-token",
    "several-tokens",
    "not-bearer",
    "too-long",
    "not-a-jwt",
    "header",
    "algorithm",
    "unknown-issuer",
    "jku",
    "unknown-key",
    "ambiguous-key",
    "signature",
    "claims",
    "audience",
    "expired",
    "not-yet-valid",
    "issued-at",
    "lifetime",
    "tenant",
    "replayed",
    "store",
]

REASONS: Final[tuple[Reason, ...]] = get_args(Reason)

LONGEST_HEADER: Final = 8 * 1024
"""Bytes of an Authorization header."""

LARGEST_KEY_SET: Final = 256 * 1024
MOST_KEYS: Final = 100

_EC: Final = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}
_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")

ALGORITHMS: Final = (*_EC, *_RSA)
"""What can be verified here. `none` and everything with a shared secret are forbidden by the standard."""

PUBLISHED: Final = frozenset(
    {
        # cds-hooks/sandbox, keys/jwk-keypair.json: P-384, kid 44823f3d-0b01-4a6c-a80e-b9d3e8a7226f
        "s9fOe-KDYD1myZ8YCzleUqJQgrYZL49kVijBxhnZvZc",
        # cds-hooks/sandbox, jwk-keypair.json until 2020: P-256, kid d9cd3c4f-eb08-4304-b973-44f352fd2ca2
        "WUEVfFenRfMtdDhwPUzCCfmqEN45h61hdHclwVoqfes",
        # the example of CDS Hooks, "Trusting CDS Clients": P-384, kid example-kid
        "-UtOymI2Z0XB5SZogEZu3s5oMyQ4YaewHtR9huroTQs",
        # inferno-framework/inferno-core, lib/inferno/dsl/jwks.json, the keys of Inferno's test kits: P-384, then RSA
        "RBFgQFFUIf4hfG8iUUZrf3vFZ_V2r3YRGPx9nKJXk5M",
        "Q7fgcIzqt0bVAKsWaw_FyUFSDDpOTfsGdGtjJmAnzFY",
    }
)
"""RFC 7638 thumbprints of keys whose private half anybody can read: who is trusted by one of them can be anybody."""

# A header member that brings a key, changes what the signature is of, or has to be understood and is not. A thumbprint
# (`x5t`) is let pass and not looked at: libraries add it where the client signs with a certificate.
_REFUSED_MEMBERS: Final = frozenset({"b64", "crit", "cty", "enc", "jwk", "x5c", "x5u", "zip"})
_PRIVATE_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})

_SMALLEST_RSA: Final = 2048
_LARGEST_RSA: Final = 8192
_LONGEST_NUMBER: Final = 1400
"""Characters of base64url: a modulus of 8192 bits has 1366."""

_LATEST: Final = 2**33
"""Seconds since 1970, in the year 2242: later than any token, and far from where dates end."""

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_DEPTH: Final = 16

_Seconds = Annotated[int, msgspec.Meta(ge=0, le=_LATEST)] | Annotated[float, msgspec.Meta(ge=0, le=_LATEST)]


class ExposedKeys(ValueError):
    """A key set that holds private keys, and nothing else that could be used."""


class Untrusted(Exception):
    """Why a caller is not let in. The text holds neither the reason nor anything of the token."""

    def __init__(self, reason: Reason) -> None:
        super().__init__("the token is not accepted")
        self.reason: Reason = reason


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One key of a client. `algorithm` is the only one it is for, where the client says so."""

    key_id: str
    key_type: Literal["EC", "RSA"]
    curve: str | None
    algorithm: str | None
    _thumbprint: str
    _key: ECKey | RSAKey = field(repr=False, compare=False)

    def thumbprint(self) -> str:
        """RFC 7638, SHA-256: the same for the same key, however it is written."""
        return self._thumbprint


@dataclass(frozen=True, slots=True)
class Presented:
    """What a token says of itself. Nothing of it is verified."""

    algorithm: str
    key_id: str
    jku: str | None
    issuer: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says; `check` has not looked at it yet."""

    issuer: str
    audiences: tuple[str, ...]
    expires: datetime
    issued: datetime
    not_before: datetime | None
    token_id: str
    tenant: str | None
    subject: str | None = field(repr=False)


def bearer(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The token of the one Authorization header. Raises Untrusted."""
    sent = [value for name, value in headers if name.lower() == b"authorization"]
    if not sent:
        raise Untrusted("no-token")
    if len(sent) > 1:
        raise Untrusted("several-tokens")
    if len(sent[0]) > LONGEST_HEADER:
        raise Untrusted("too-long")
    scheme, _, token = sent[0].decode("latin-1").strip(" \t").partition(" ")
    if scheme.lower() != "bearer":
        raise Untrusted("not-bearer")
    token = token.lstrip(" ")
    if not _TOKEN.fullmatch(token):
        raise Untrusted("not-a-jwt")
    return token


class _Header(msgspec.Struct):
    alg: str
    typ: str
    kid: Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
    jku: Annotated[str, msgspec.Meta(max_length=2048)] | msgspec.UnsetType = msgspec.UNSET


class _Issuer(msgspec.Struct):
    iss: Annotated[str, msgspec.Meta(min_length=1, max_length=2048)]


class _Payload(_Issuer):
    aud: str | list[str]
    exp: _Seconds
    iat: _Seconds
    jti: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    nbf: _Seconds | None = None
    tenant: str | None = None
    sub: str | None = None


_HEADER: Final = msgspec.json.Decoder(_Header)
_ISSUER: Final = msgspec.json.Decoder(_Issuer)
_PAYLOAD: Final = msgspec.json.Decoder(_Payload)
_NAMES: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read(token: str) -> Presented:
    """What a token says of itself, where it is a token that could be verified at all. Raises Untrusted."""
    if len(token) > LONGEST_HEADER:
        raise Untrusted("too-long")
    if not _TOKEN.fullmatch(token):
        raise Untrusted("not-a-jwt")
    first, second, _ = token.split(".")
    raw = _json(first, reason="header")
    header = _struct(raw, decoder=_HEADER, reason="header")
    names = _struct(raw, decoder=_NAMES, reason="header")
    if header.typ != "JWT" or not _REFUSED_MEMBERS.isdisjoint(names):
        raise Untrusted("header")
    if header.alg not in ALGORITHMS:
        raise Untrusted("algorithm")
    issuer = _struct(_json(second, reason="claims"), decoder=_ISSUER, reason="claims").iss
    jku = None if isinstance(header.jku, msgspec.UnsetType) else header.jku
    return Presented(algorithm=header.alg, key_id=header.kid, jku=jku, issuer=issuer, token=token)


def select(keys: Iterable[PublicKey], *, key_id: str, algorithm: str) -> PublicKey:
    """The one key of that name that fits the algorithm. Listed twice it is still one. Raises Untrusted."""
    found = {key.thumbprint(): key for key in keys if key.key_id == key_id and fits(key, algorithm=algorithm)}
    if not found:
        raise Untrusted("unknown-key")
    if len(found) > 1:
        raise Untrusted("ambiguous-key")
    return found.popitem()[1]


def fits(key: PublicKey, *, algorithm: str) -> bool:
    """Whether signatures of this algorithm can be by this key: by its type, its curve, and what it says it is for."""
    if key.algorithm is not None and key.algorithm != algorithm:
        return False
    if key.key_type == "RSA":
        return algorithm in _RSA
    return key.curve is not None and _EC.get(algorithm) == key.curve


def is_published(key: PublicKey) -> bool:
    """Whether anybody can sign with it."""
    return key.thumbprint() in PUBLISHED


def verified(presented: Presented, *, key: PublicKey) -> Claims:
    """The claims of a token that this key signed. Raises Untrusted."""
    if not fits(key, algorithm=presented.algorithm):
        raise Untrusted("unknown-key")
    if not _signed(presented, key=key):
        raise Untrusted("signature")
    payload = _struct(_json(presented.token.split(".")[1], reason="claims"), decoder=_PAYLOAD, reason="claims")
    return Claims(
        issuer=payload.iss,
        audiences=(payload.aud,) if isinstance(payload.aud, str) else tuple(payload.aud),
        expires=_moment(payload.exp),
        issued=_moment(payload.iat),
        not_before=None if payload.nbf is None else _moment(payload.nbf),
        token_id=payload.jti,
        tenant=payload.tenant,
        subject=payload.sub,
    )


def check(
    claims: Claims,
    *,
    audiences: Collection[str],
    now: datetime,
    leeway_seconds: int = 60,
    longest_seconds: int = 900,
) -> None:
    """Refuse a token that is not for one of these addresses, not for now, or good for too long. Raises Untrusted.

    A token's life is counted from `iat`: Epic's say `nbf` five minutes before it, and live 900 seconds.
    """
    leeway = timedelta(seconds=leeway_seconds)
    if frozenset(audiences).isdisjoint(claims.audiences):
        raise Untrusted("audience")
    if now >= claims.expires + leeway:
        raise Untrusted("expired")
    if claims.not_before is not None and now < claims.not_before - leeway:
        raise Untrusted("not-yet-valid")
    if now < claims.issued - leeway:
        raise Untrusted("issued-at")
    begins = claims.issued if claims.not_before is None else max(claims.issued, claims.not_before)
    if begins >= claims.expires or claims.expires - claims.issued > timedelta(seconds=longest_seconds):
        raise Untrusted("lifetime")


def keys_of(jwks: bytes) -> tuple[PublicKey, ...]:
    """The usable keys of a JWKS document; those of other kinds and for other ends are passed over.

    So is a key whose private half stands in the same document: whoever can read it can sign with it.
    Raises ValueError with a text that says what helps, and that holds nothing of the document.
    """
    entries = _entries(jwks)
    if entries is None:
        raise ValueError('is no key set: a JSON object with an array "keys" (JWKS, RFC 7517), each name once')
    if len(entries) > MOST_KEYS:
        raise ValueError(f"holds more than {MOST_KEYS} keys: keep those that are in use")
    keys = [key for key in map(_public_key, entries) if key is not None]
    exposed = {key.thumbprint() for key in map(_imported, filter(_is_private, entries)) if key is not None}
    kept = tuple(key for key in keys if key.thumbprint() not in exposed)
    if kept:
        return kept
    if any(map(_is_private, entries)):
        raise ExposedKeys(
            "holds private keys, so whoever reads it can sign: the client makes new ones and gives the public halves"
        )
    raise ValueError(
        "holds no key that can be used: it takes public keys with kid, EC on P-256, P-384 or P-521,"
        f" or RSA of {_SMALLEST_RSA} to {_LARGEST_RSA} bits, for signatures"
    )


def _json(part: str, *, reason: Reason) -> bytes:
    """The JSON behind one part of a token: strict, flat enough, no name twice. Raises Untrusted."""
    raw = _decoded(part)
    if raw is not None:
        try:
            strict_json.check(raw, max_depth=_DEPTH)
            strict_json.duplicate_free(raw)
        except BadRequest:
            pass
        else:
            return raw
    raise Untrusted(reason)


def _decoded(part: str) -> bytes | None:
    """Base64url without padding, in the one way that these bytes are written; else None."""
    try:
        raw = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return None
    return raw if base64.urlsafe_b64encode(raw).rstrip(b"=") == part.encode("utf-8", "replace") else None


_T = TypeVar("_T")


def _struct(raw: bytes, *, decoder: msgspec.json.Decoder[_T], reason: Reason) -> _T:
    try:
        return decoder.decode(raw)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        pass
    raise Untrusted(reason)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _signed(presented: Presented, *, key: PublicKey) -> bool:
    registry = jws.JWSRegistry(algorithms=[presented.algorithm], strict_check_header=False)
    registry.max_header_length = LONGEST_HEADER  # the library's 512 bytes are too few for a long kid and a jku
    try:
        jws.deserialize_compact(presented.token, key._key, registry=registry)
    except Exception:  # noqa: BLE001  (what joserfc and cryptography raise for a broken signature is an open list)
        return False
    return True


def _entries(jwks: bytes) -> list[dict[str, object]] | None:
    """The keys as they are written, without what is no object; None where this is no key set."""
    if len(jwks) > LARGEST_KEY_SET:
        return None
    try:
        strict_json.check(jwks, max_depth=_DEPTH)
        strict_json.duplicate_free(jwks)
        document = msgspec.json.decode(jwks)
    except (BadRequest, ValueError, RecursionError):
        return None
    listed = document.get("keys") if isinstance(document, dict) else None
    return [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else None


def _is_private(entry: Mapping[str, object]) -> bool:
    return not _PRIVATE_MEMBERS.isdisjoint(entry)


def _public_key(entry: Mapping[str, object]) -> PublicKey | None:
    """A key that can verify tokens, or None."""
    key_id, algorithm, operations = entry.get("kid"), entry.get("alg"), entry.get("key_ops", ["verify"])
    if not isinstance(key_id, str) or not key_id or entry.get("use", "sig") != "sig":
        return None
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    if algorithm is not None and (not isinstance(algorithm, str) or algorithm not in ALGORITHMS):
        return None
    key = None if _is_private(entry) else _imported(entry)
    if key is None:
        return None
    curve = key.curve_name if isinstance(key, ECKey) else None
    made = PublicKey(key_id, "RSA" if curve is None else "EC", curve, algorithm, key.thumbprint(), key)
    return made if algorithm is None or fits(made, algorithm=algorithm) else None


def _imported(entry: Mapping[str, object]) -> ECKey | RSAKey | None:
    """The public half, written anew, so that its thumbprint does not depend on how the client writes numbers."""
    names = {"EC": ("crv", "x", "y"), "RSA": ("n", "e")}.get(str(entry.get("kty")), ())
    values = {name: value for name in names if isinstance(value := entry.get(name), str)}
    if not names or len(values) < len(names) or max(map(len, values.values())) > _LONGEST_NUMBER:
        return None
    try:
        if "n" in values:
            modulus, exponent = (int.from_bytes(_decoded(values[name]) or b"") for name in names)
            # FIPS 186-5, A.1.1, for both.
            if not (_SMALLEST_RSA <= modulus.bit_length() <= _LARGEST_RSA and 2**16 < exponent < 2**256):
                return None
            rsa = RSAKey.import_key({"kty": "RSA", **values}).public_key
            return RSAKey(rsa, rsa)
        point = ECKey.import_key({"kty": "EC", **values}).public_key
        return ECKey(point, point)
    except Exception:  # noqa: BLE001  (what joserfc and cryptography raise for what is no key is an open list)
        return None
