"""Forged tokens, made with base64, JSON and a cryptographic library alone, so that broken ones can be made, too.

Each has one fault: everything else of it is right, and its signature is the client's own wherever the fault is not in
the signature. So each is refused for what it says, and `reasons` are the reasons that the service's own record may
give. `controls` are tokens that look odd and are right.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.x509.oid import NameOID

from app.clients import Client
from app.names import SERVICES
from tests.figures import Figure, Figures
from tests.integration import hospital

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
Headers = list[tuple[bytes, bytes]]
Endpoint = tuple[str, str, bytes]
"""Method, path and a body that is accepted from whom is known."""

EVIL: Final = "https://keys.evil.example"
"""Of whoever forges; nothing may ever connect to it."""

SPEC_TOKEN: Final = (
    "eyJhbGciOiJFUzM4NCIsInR5cCI6IkpXVCIsImtpZCI6ImV4YW1wbGUta2lkIiwiamt1IjoiaHR0cHM6Ly9maGlyLWVoci5leGFtcGxlLmNvbS9qd2"
    "tfdXJpIn0.eyJpc3MiOiJodHRwczovL2ZoaXItZWhyLmV4YW1wbGUuY29tLyIsImF1ZCI6Imh0dHBzOi8vY2RzLmV4YW1wbGUub3JnL2Nkcy1zZXJ2"
    "aWNlcy9zb21lLXNlcnZpY2UiLCJleHAiOjE0MjI1Njg4NjAsImlhdCI6MTMxMTI4MDk3MCwianRpIjoiZWUyMmIwMjEtZTFiNy00NjExLWJhNWItOG"
    "VlYzZhMzNhYzFlIiwidGVuYW50IjoiMmRkZDZjM2EtOGU5YS00NGM2LWEzMDUtNTIxMTFhZDMwMmEyIn0.d1WfLjGRKlcWB94l9do4cM8REXeYJLL"
    "6SGUBO8VHZhfM8mwKYP70EMxJ67War4TQblEpaQrp11wx5p7oPFm2ETYgCicS84vXWEIYTdjooZdooCSDf2L8-i4awdoUwiEb"
)
"""Printed in CDS Hooks, "Trusting CDS Clients"."""

_HASHES: Final[dict[str, Callable[[], hashes.SHA256 | hashes.SHA384 | hashes.SHA512]]] = {
    "256": hashes.SHA256,
    "384": hashes.SHA384,
    "512": hashes.SHA512,
}
_LEEWAY: Final = 60
_LONGEST: Final = 900
_KEY: Final = ("unknown-key", "algorithm")
"""Which of them depends on the algorithms of the client's record."""


@dataclass(frozen=True, slots=True)
class Signer:
    """A registered client. `jku` is its key address where it has one; `tenant` what its tokens say."""

    issuer: str
    jku: str | None
    key_id: str
    private_key: PrivateKey = field(repr=False)
    algorithm: str
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class Forgery:
    """Headers to send, and what is wrong with them. A control has no reasons."""

    id: str
    what: str
    headers: Headers = field(repr=False)
    reasons: tuple[str, ...] = ()


# --- how tokens are made ------------------------------------------------------------------------------------


def part(content: Any) -> str:
    """One part: of bytes as they are, of anything else its JSON."""
    raw = content if isinstance(content, bytes) else json.dumps(content, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signature(key: PrivateKey | bytes, *, algorithm: str, text: str) -> bytes:
    """As RFC 7518 has it; bytes are a shared secret."""
    digest = _HASHES[algorithm[2:5]]()
    if isinstance(key, bytes):
        return hmac.new(key, text.encode(), getattr(hashlib, digest.name)).digest()
    if isinstance(key, rsa.RSAPrivateKey):
        if algorithm.startswith("PS"):
            how: padding.AsymmetricPadding = padding.PSS(padding.MGF1(digest), digest.digest_size)
            return key.sign(text.encode(), how, digest)
        return key.sign(text.encode(), padding.PKCS1v15(), digest)
    size = (key.curve.key_size + 7) // 8
    first, second = decode_dss_signature(key.sign(text.encode(), ec.ECDSA(digest)))
    return first.to_bytes(size) + second.to_bytes(size)


@cache
def _stranger(kind: str) -> PrivateKey:
    """A key that nobody registered."""
    curves: dict[str, ec.EllipticCurve] = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
    if kind in curves:
        return ec.generate_private_key(curves[kind])
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def _published() -> ec.EllipticCurvePrivateKey:
    """The public sandbox's key, which it publishes (cds-hooks/sandbox, keys/jwk-keypair.json)."""
    written = "yOcYl9QzMKnBFUiPZKBijDV_lsEtn6oWFVOqtFyXbY_-V63WCBYYdxsLo9Pclr84"
    return ec.derive_private_key(int.from_bytes(base64.urlsafe_b64decode(written)), ec.SECP384R1())


def public_jwk(key: PrivateKey, **members: str) -> dict[str, str]:
    """The public half as a JWK."""
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = key.public_key().public_numbers()
        sized = {"n": (numbers.n, key.key_size // 8), "e": (numbers.e, 3)}
        return {"kty": "RSA", **{name: part(value.to_bytes(size)) for name, (value, size) in sized.items()}, **members}
    point = key.public_key().public_numbers()
    size = (key.curve.key_size + 7) // 8
    curve = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}[key.curve.name]
    return {"kty": "EC", "crv": curve, "x": part(point.x.to_bytes(size)), "y": part(point.y.to_bytes(size)), **members}


def _pem(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _certificate(key: PrivateKey, *, now: datetime) -> str:
    """Self-signed, as `x5c` carries it."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "evil.example")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA384())
    )
    return base64.b64encode(made.public_bytes(serialization.Encoding.DER)).decode()


def _fitting(algorithm: str) -> str:
    return {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}.get(algorithm, "RSA")


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes tokens of one client for one address; `...` takes a member away."""

    signer: Signer
    url: str
    now: datetime

    @property
    def seconds(self) -> int:
        return int(self.now.timestamp())

    def header(self, **changes: Any) -> dict[str, Any]:
        given = {"alg": self.signer.algorithm, "kid": self.signer.key_id, "typ": "JWT", **changes}
        return {name: value for name, value in given.items() if value is not ...}

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Each with a `jti` of its own: none is refused as a repetition of another."""
        given = {
            "iss": self.signer.issuer,
            "aud": self.url,
            "exp": self.seconds + 300,
            "iat": self.seconds,
            "jti": str(uuid4()),
            "tenant": self.signer.tenant or ...,
            **changes,
        }
        return {name: value for name, value in given.items() if value is not ...}

    def signed(
        self, first: Any, second: Any, *, key: PrivateKey | bytes | None = None, algorithm: str | None = None
    ) -> str:
        """A token of these two parts, of which text is taken as it is."""
        text = ".".join(one if isinstance(one, str) else part(one) for one in (first, second))
        made = signature(key or self.signer.private_key, algorithm=algorithm or self.signer.algorithm, text=text)
        return f"{text}.{part(made)}"

    def token(self, **claims: Any) -> str:
        """Of the client, with these claims changed."""
        return self.signed(self.header(), self.claims(**claims))

    def headed(self, **header: Any) -> str:
        """Of the client, with these members of its header changed."""
        return self.signed(self.header(**header), self.claims())


def bearer(token: str) -> Headers:
    return [(b"authorization", f"Bearer {token}".encode("latin-1"))]


# --- the forgeries ------------------------------------------------------------------------------------------


def forgeries(signer: Signer, *, url: str, now: datetime) -> tuple[Forgery, ...]:
    """All of them, for one address."""
    make = Maker(signer, url, now)
    return tuple(
        forgery
        for some in (
            _of_requests,
            _of_shape,
            _of_headers,
            _of_algorithms,
            _of_signatures,
            _of_keys,
            _of_claims,
            _of_times,
        )
        for forgery in some(make)
    )


def _of_requests(make: Maker) -> Iterator[Forgery]:
    """The token is good; how it is sent is not."""
    good = make.token()
    other = make.signed(make.header(), make.claims(), key=_stranger(_fitting(make.signer.algorithm)))

    def sent(name: str, what: str, headers: Headers, reason: str) -> Forgery:
        return Forgery(f"request-{name}", what, headers, (reason,))

    def authorization(value: str) -> Headers:
        return [(b"authorization", value.encode("latin-1"))]

    yield sent("none", "no Authorization header", [], "no-token")
    yield sent("other-header", "in X-Authorization", [(b"x-authorization", f"Bearer {good}".encode())], "no-token")
    yield sent("proxy", "in Proxy-Authorization", [(b"proxy-authorization", f"Bearer {good}".encode())], "no-token")
    yield sent("cookie", "in a cookie", [(b"cookie", f"authorization={good}".encode())], "no-token")
    yield sent("empty", "an empty header", authorization(""), "not-bearer")
    yield sent("twice", "the same header twice", bearer(good) * 2, "several-tokens")
    yield sent("good-then-forged", "a good and a forged one", bearer(good) + bearer(other), "several-tokens")
    yield sent("forged-then-good", "a forged and a good one", bearer(other) + bearer(good), "several-tokens")
    yield sent("basic-then-good", "Basic beside it", authorization("Basic YTpi") + bearer(good), "several-tokens")
    yield sent("basic", "Basic", authorization("Basic YTpi"), "not-bearer")
    yield sent("no-scheme", "without a scheme", authorization(good), "not-bearer")
    yield sent("jwt-scheme", "scheme JWT", authorization(f"JWT {good}"), "not-bearer")
    yield sent("dpop-scheme", "scheme DPoP", authorization(f"DPoP {good}"), "not-bearer")
    yield sent("tab", "a tab in place of the space", authorization(f"Bearer\t{good}"), "not-bearer")
    yield sent("colon", "Bearer: with a colon", authorization(f"Bearer: {good}"), "not-bearer")
    yield sent("only-scheme", "a scheme and nothing", authorization("Bearer"), "not-a-jwt")
    yield sent("quoted", "in quotes", authorization(f'Bearer "{good}"'), "not-a-jwt")
    yield sent("listed", "two tokens with a comma", authorization(f"Bearer {good}, Bearer {good}"), "not-a-jwt")
    yield sent("spaced", "two tokens with a space", authorization(f"Bearer {good} {good}"), "not-a-jwt")
    yield sent("parameter", "as a parameter", authorization(f"Bearer token={good}"), "not-a-jwt")
    yield sent("percent", "percent-encoded", authorization(f"Bearer {good.replace('.', '%2E')}"), "not-a-jwt")
    yield sent("opaque", "an opaque token", authorization("Bearer 2YotnFZFEjr1zCsicMWpAA"), "not-a-jwt")
    yield sent("too-long", "good, and longer than 8 KiB", bearer(make.token(more="x" * 8192)), "too-long")


def _of_shape(make: Maker) -> Iterator[Forgery]:
    """Parts that are not what parts are; signed as they stand."""
    header, claims = make.header(), make.claims()
    first, second, third = make.signed(header, claims).split(".")

    def shaped(name: str, what: str, token: str, reason: str = "not-a-jwt") -> Forgery:
        return Forgery(f"shape-{name}", what, bearer(token), (reason,))

    yield shaped("two-parts", "no signature part", f"{first}.{second}")
    yield shaped("four-parts", "four parts", f"{first}.{second}.{third}.{third}")
    yield shaped("five-parts", "five parts, as encrypted tokens have", f"{first}.{second}.{third}.{third}.{third}")
    yield shaped("no-header", "an empty header part", f".{second}.{third}")
    yield shaped("no-payload", "an empty payload part", f"{first}..{third}")
    yield shaped("padded-header", "a padded header", make.signed(f"{first}=", claims))
    yield shaped("padded-signature", "a padded signature", f"{first}.{second}.{third}==")
    standard = base64.b64encode(json.dumps(make.claims(more="?>?>?>?~?~")).encode()).rstrip(b"=").decode()
    yield shaped("other-alphabet", "the payload in the other alphabet", make.signed(header, standard))
    serialised = {"protected": first, "payload": second, "signature": third}
    yield shaped("json-form", "the JSON form of a signature", part(serialised), "not-a-jwt")
    leftover = next(text for n in range(3) if len(text := part(make.claims(more="x" * n))) % 4)
    bits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spare = leftover[:-1] + bits[bits.index(leftover[-1]) + 1]
    yield shaped("spare-bits", "bits left over in the payload", make.signed(header, spare), "claims")

    def written(name: str, what: str, raw: bytes) -> Forgery:
        return shaped(f"header-{name}", what, make.signed(raw, claims), "header")

    text = json.dumps(header)
    deep = "[" * 200 + "]" * 200
    yield written("text", "a header that is no JSON", b"header")
    yield written("array", "a header that is an array", json.dumps([header]).encode())
    yield written("null", "a header that is null", b"null")
    yield written("empty", "an empty header", b"{}")
    yield written("twice", "alg twice, none first", b'{"alg":"none",' + text[1:].encode())
    yield written("twice-last", "alg twice, none last", text[:-1].encode() + b',"alg":"none"}')
    yield written("twice-escaped", "alg twice, once with an escape", b'{"\\u0061lg":"none",' + text[1:].encode())
    yield written("kid-twice", "kid twice", b'{"kid":"another",' + text[1:].encode())
    yield written("utf-16", "a header in UTF-16", text.encode("utf-16"))
    yield written("mark", "a header with a byte order mark", b"\xef\xbb\xbf" + text.encode())
    yield written("latin", "a header in Latin-1", text[:-1].encode() + b',"x":"\xe9"}')
    yield written("nan", "NaN in the header", text[:-1].encode() + b',"x":NaN}')
    yield written("nul", "NUL in the header", text[:-1].encode() + b',"x":"\\u0000"}')
    yield written("surrogate", "half a character in the header", text[:-1].encode() + b',"x":"\\ud83d"}')
    yield written("behind", "something behind the header", text.encode() + b"{}")
    yield written("comment", "a comment in the header", text.encode() + b"/**/")
    yield written("deep", "a header that is deeply nested", f'{text[:-1]},"x":{deep}}}'.encode())

    def paid(name: str, what: str, raw: bytes) -> Forgery:
        return shaped(f"payload-{name}", what, make.signed(header, raw), "claims")

    said = json.dumps(claims)
    ends = json.dumps({**claims, "exp": make.seconds - 3600})
    yield paid("text", "a payload that is no JSON", b"payload")
    yield paid("array", "a payload that is an array", json.dumps([claims]).encode())
    yield paid("empty", "an empty payload", b"{}")
    yield paid("token", "a token as the payload", f"{first}.{second}.{third}".encode())
    yield paid("exp-twice", "exp twice, ended last", said[:-1].encode() + b"," + ends[1:].encode())
    yield paid("iss-twice", "iss twice, another first", b'{"iss":"https://evil.example",' + said[1:].encode())
    yield paid("iss-twice-last", "iss twice, another last", said[:-1].encode() + b',"iss":"https://evil.example"}')
    yield paid("aud-twice", "aud twice", said[:-1].encode() + b',"aud":"https://evil.example"}')
    yield paid("utf-16", "a payload in UTF-16", said.encode("utf-16"))
    yield paid("mark", "a payload with a byte order mark", b"\xef\xbb\xbf" + said.encode())
    yield paid("infinite", "exp that is infinite", said.replace(f'"exp": {claims["exp"]}', '"exp": Infinity').encode())
    yield paid("beyond", "exp beyond every number", said.replace(f'"exp": {claims["exp"]}', '"exp": 1e999').encode())
    yield paid("digits", "exp with 3,000 digits", said.replace(f"{claims['exp']}", "9" * 3000).encode())
    yield paid("deep", "a payload that is deeply nested", f'{said[:-1]},"x":{deep}}}'.encode())


def _of_headers(make: Maker) -> Iterator[Forgery]:
    """Members of the header that have to be understood, or that bring a key."""
    stranger = _stranger(_fitting(make.signer.algorithm))
    jwk = public_jwk(stranger, kid=make.signer.key_id)

    def headed(name: str, what: str, *, foreign: bool = False, **members: Any) -> Forgery:
        """`foreign`: signed with the key that the header brings."""
        key = stranger if foreign else None
        token = make.signed(make.header(**members), make.claims(), key=key)
        return Forgery(f"header-{name}", what, bearer(token), ("header",))

    yield headed("crit", "crit names what is not understood", crit=["https://evil.example/ext"], exp=1)
    yield headed("crit-known", "crit names what is understood", crit=["alg"])
    yield headed("crit-empty", "crit is empty", crit=[])
    yield headed("b64", "b64 is false", b64=False, crit=["b64"])
    yield headed("b64-alone", "b64 is false, without crit", b64=False)
    yield headed("zip", "zip", zip="DEF")
    yield headed("enc", "enc", enc="A256GCM")
    yield headed("cty", "cty says that the payload is a token", cty="JWT")
    yield headed("jwk", "a key in the header, and its signature", foreign=True, jwk=jwk)
    yield headed("jwk-own", "the right key in the header", jwk=public_jwk(make.signer.private_key))
    yield headed("jwk-null", "jwk is null", jwk=None)
    chain = [_certificate(stranger, now=make.now)]
    yield headed("x5c", "a certificate in the header, and its signature", foreign=True, x5c=chain)
    yield headed("x5u", "the address of a certificate", foreign=True, x5u=f"{EVIL}/cert.pem")
    yield headed("typ-none", "no typ", typ=...)
    yield headed("typ-null", "typ is null", typ=None)
    yield headed("typ-access", "an access token (RFC 9068)", typ="at+jwt")
    yield headed("typ-logout", "a logout token", typ="logout+jwt")
    yield headed("typ-jose", "typ JOSE", typ="JOSE")
    yield headed("typ-list", "typ is an array", typ=["JWT"])
    yield headed("kid-none", "no kid", kid=...)
    yield headed("kid-null", "kid is null", kid=None)
    yield headed("kid-empty", "kid is empty", kid="")
    yield headed("kid-number", "kid is a number", kid=0)
    yield headed("kid-list", "kid is an array", kid=[make.signer.key_id])
    yield headed("kid-long", "kid of 4,000 characters", kid="k" * 4000)
    yield headed("kid-nul", "kid with NUL", kid=f"{make.signer.key_id}\0")
    yield headed("jku-null", "jku is null", jku=None)
    yield headed("jku-list", "jku is an array", jku=[make.signer.jku])


def _of_algorithms(make: Maker) -> Iterator[Forgery]:
    own, good = make.signer, make.headed()
    pem = _pem(own.private_key)
    jwk = json.dumps(public_jwk(own.private_key)).encode()

    def unsigned(algorithm: str, *, tail: str = "") -> str:
        return f"{part(make.header(alg=algorithm))}.{part(make.claims())}.{tail}"

    def forged(name: str, what: str, token: str, *reasons: str) -> Forgery:
        return Forgery(f"alg-{name}", what, bearer(token), reasons or ("algorithm",))

    for written in ("none", "None", "NONE", "nOnE"):
        yield forged(written, f"{written}, no signature", unsigned(written))
    yield forged("none-signed", "none, with a signature of another token", unsigned("none", tail=good.split(".")[2]))
    for bits in ("256", "384", "512"):
        token = make.signed(make.header(alg=f"HS{bits}"), make.claims(), key=pem, algorithm=f"HS{bits}")
        yield forged(f"hs{bits}-pem", f"HS{bits}, the public key as the secret", token)
    for name, secret in (("jwk", jwk), ("pem-bare", pem.strip()), ("nul", b"\0"), ("word", b"secret")):
        token = make.signed(make.header(alg="HS384"), make.claims(), key=secret, algorithm="HS384")
        yield forged(f"hs384-{name}", f"HS384, {name} as the secret", token)
    for written in ("", own.algorithm.lower(), f"{own.algorithm} ", "ES256K", "EdDSA", "RS1", "RSA-OAEP", "dir"):
        yield forged(f"{written or 'empty'}-name", f"alg {written!r}", make.headed(alg=written))
    for name, value in (("none-at-all", ...), ("null", None), ("list", [own.algorithm]), ("number", 384)):
        yield forged(name, f"alg: {name}", make.headed(alg=value), "header")
    for other in ("ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"):
        if _fitting(other) == _fitting(own.algorithm) and other[:2] == own.algorithm[:2]:
            continue
        token = make.signed(make.header(alg=other), make.claims(), key=_stranger(_fitting(other)), algorithm=other)
        reasons = (*_KEY, "signature") if _fitting(other) == _fitting(own.algorithm) else _KEY
        yield forged(f"{other}-stranger", f"{other} with a key that fits it, under the client's kid", token, *reasons)
    wrong = make.signed(make.header(), make.claims(), key=_stranger("P-256"), algorithm="ES256")
    yield forged("curve", "a signature on a smaller curve", wrong, "signature")


def _of_signatures(make: Maker) -> Iterator[Forgery]:
    own = make.signer
    size = len(base64.urlsafe_b64decode(make.headed().split(".")[2] + "=="))

    def with_signature(name: str, what: str, made: bytes) -> Forgery:
        text = f"{part(make.header())}.{part(make.claims())}"
        return Forgery(f"signature-{name}", what, bearer(f"{text}.{part(made)}"), ("signature",))

    yield with_signature("empty", "no signature", b"")
    yield with_signature("zero", "r and s are zero", bytes(size))
    yield with_signature("ones", "every bit is set", b"\xff" * size)
    yield with_signature("one", "r and s are one", (bytes(size // 2 - 1) + b"\1") * 2)
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973
    yield with_signature("order", "r and s are the order of P-384", order.to_bytes(48) * 2)
    yield with_signature("random", "a signature of nothing", hashlib.shake_256(b"nothing").digest(size))
    stranger = _stranger(_fitting(own.algorithm))
    foreign = make.signed(make.header(), make.claims(), key=stranger)
    yield Forgery("signature-stranger", "another key, under the client's kid", bearer(foreign), ("signature",))
    first, second, third = make.headed().split(".")
    raw = base64.urlsafe_b64decode(third + "==")

    def joined(name: str, what: str, *parts: str) -> Forgery:
        return Forgery(f"signature-{name}", what, bearer(".".join(parts)), ("signature",))

    yield joined("short", "a byte less", first, second, part(raw[:-1]))
    yield joined("long", "a byte more", first, second, part(raw + b"\0"))
    yield joined("leading", "a byte before it", first, second, part(b"\0" + raw))
    yield joined("flipped", "one bit of it", first, second, part(bytes([raw[0] ^ 1]) + raw[1:]))
    yield joined("twice", "written twice", first, second, part(raw * 2))
    if isinstance(own.private_key, ec.EllipticCurvePrivateKey):
        half = len(raw) // 2
        r, s = int.from_bytes(raw[:half]), int.from_bytes(raw[half:])
        yield joined("der", "in DER, as other protocols write it", first, second, part(encode_dss_signature(r, s)))
        yield joined("swapped", "s before r", first, second, part(raw[half:] + raw[:half]))
    yield joined("of-another", "of another token of the client", first, part(make.claims()), third)
    changed = make.header(jku=own.jku) if own.jku else make.header(x="y")
    yield joined("other-header", "the header exchanged", part(changed), second, third)
    longer = make.claims(exp=make.seconds + 800)
    yield joined("prolonged", "exp exchanged", first, part(longer), third)


def _of_keys(make: Maker) -> Iterator[Forgery]:
    own = make.signer
    stranger = _stranger(_fitting(own.algorithm))
    named = {
        "path": "../../../../../../dev/null",
        "absolute": "/proc/sys/kernel/randomize_va_space",
        "file": "file:///dev/null",
        "address": f"{EVIL}/keys#1",
        "sql": "x' UNION SELECT 'key' -- ",
        "sql-or": f"{own.key_id}' OR '1'='1",
        "shell": f"{own.key_id}|id",
        "template": "{{7*7}}${7*7}%s%n",
        "star": "*",
        "case": own.key_id.swapcase(),
        "space-behind": f"{own.key_id} ",
        "space-before": f" {own.key_id}",
        "wide": "".join(chr(ord(sign) + 0xFEE0) if "!" <= sign <= "~" else sign for sign in own.key_id),
        "lines": f"{own.key_id}\r\nx: y",
        "index": "0",
        "proto": "__proto__",
        "other": "another-key",
    }
    for name, kid in named.items():
        token = make.signed(make.header(kid=kid), make.claims(), key=stranger)
        yield Forgery(f"kid-{name}", f"kid {name}", bearer(token), ("unknown-key",))
    if own.algorithm != "ES384":
        return
    mine = make.signed(make.header(kid="44823f3d-0b01-4a6c-a80e-b9d3e8a7226f"), make.claims(), key=_published())
    yield Forgery("key-sandbox", "the public sandbox's key, as this client", bearer(mine), ("unknown-key",))
    under = make.signed(make.header(), make.claims(), key=_published())
    yield Forgery("key-sandbox-kid", "the public sandbox's key, under this client's kid", bearer(under), ("signature",))
    yield Forgery("key-specification", "the token printed in the standard", bearer(SPEC_TOKEN), ("unknown-issuer",))


def _of_claims(make: Maker) -> Iterator[Forgery]:
    url, issuer = make.url, make.signer.issuer
    base, _, name = url.rpartition("/")
    host = url.split("/")[2]

    def claimed(name: str, what: str, reason: str, **claims: Any) -> Forgery:
        return Forgery(name, what, bearer(make.token(**claims)), (reason,))

    kinds: dict[str, Any] = {"none": ..., "null": None, "number": 5, "list": [[issuer]], "object": {"a": issuer}}
    for kind, value in kinds.items():
        yield claimed(f"iss-{kind}", f"iss: {kind}", "claims", iss=value)
        yield claimed(f"aud-{kind}", f"aud: {kind}", "claims", aud=value)
        yield claimed(f"jti-{kind}", f"jti: {kind}", "claims", jti=value)
        if kind not in {"none", "null"}:
            yield claimed(f"tenant-{kind}", f"tenant: {kind}", "claims", tenant=value)
            yield claimed(f"sub-{kind}", f"sub: {kind}", "claims", sub=value)
    yield claimed("iss-empty", "iss is empty", "claims", iss="")
    yield claimed("jti-empty", "jti is empty", "claims", jti="")
    yield claimed("jti-long", "jti of 257 characters", "claims", jti="j" * 257)
    yield claimed("jti-nul", "jti with NUL", "claims", jti="j\0")
    yield claimed("jti-surrogate", "jti with half a character", "claims", jti="j\ud800")
    yield claimed("aud-mixed", "a number beside the address in aud", "claims", aud=[url, 1])
    wrong: dict[str, Any] = {
        "empty": "",
        "star": "*",
        "no-list": [],
        "other-list": [f"{base}/another", "https://cds.example.com"],
        "base": base,
        "origin": "/".join(url.split("/")[:3]),
        "parent": url.rpartition("/cds-services")[0] or "/",
        "other-service": f"{base}/another-{name}",
        "below": f"{url}/below",
        "http": url.replace("https:", "http:") if url.startswith("https:") else url.replace("http:", "https:"),
        "host": url.replace(host, "cds.evil.example"),
        "host-longer": url.replace(host, f"{host}.evil.example"),
        "userinfo": url.replace(host, f"{host}@evil.example"),
        "port": url.replace(host, f"{host.partition(':')[0]}:8443"),
        "dot": url.replace(host, f"{host.partition(':')[0]}."),
        "upper": url.upper(),
        "query": f"{url}?",
        "query-more": f"{url}?a=b",
        "fragment": f"{url}#",
        "dots": f"{base}/x/../{name}",
        "percent": f"{base}/%{ord(name[0]):02x}{name[1:]}",
        "double": f"{base}//{name}",
        "shorter": url[:-1],
        "spaces": f" {url} ",
        "joined": f"{url},https://cds.example.com",
        "joined-space": f"{url} https://cds.example.com",
        "relative": "/" + url.split("/", 3)[3],
        "issuer": issuer,
        "client": "rescue-cds",
    }
    for kind, value in wrong.items():
        yield claimed(f"aud-{kind}", f"aud: {kind}", "audience", aud=value)
    for kind, value in {
        "unknown": "another-hospital",
        "empty": "",
        "star": "*",
        "spaces": f" {make.signer.tenant or 'x'} ",
        "path": "../another-hospital",
        "sql": "' OR '1'='1",
        "long": "t" * 4000,
    }.items():
        yield claimed(f"tenant-{kind}", f"tenant: {kind}", "tenant", tenant=value)


def _of_times(make: Maker) -> Iterator[Forgery]:
    now = make.seconds

    def timed(name: str, what: str, reason: str, **claims: Any) -> Forgery:
        return Forgery(f"time-{name}", what, bearer(make.token(**claims)), (reason,))

    for claim in ("exp", "iat"):
        for kind, value in {
            "none": ...,
            "null": None,
            "text": str(now),
            "word": "now",
            "true": True,
            "list": [now],
            "negative": -1,
            "huge": 10**30,
            "milliseconds": now * 1000,
        }.items():
            yield timed(f"{claim}-{kind}", f"{claim}: {kind}", "claims", **{claim: value})
    yield timed("nbf-text", "nbf is text", "claims", nbf=str(now))
    yield timed("nbf-true", "nbf is true", "claims", nbf=True)
    yield timed("ended", "ended, beyond the leeway", "expired", iat=now - 400, exp=now - _LEEWAY - 1)
    yield timed("ended-just", "ended, at the end of the leeway", "expired", iat=now - 400, exp=now - _LEEWAY)
    yield timed("ended-long-ago", "ended years ago", "expired", iat=1311280970, exp=1311281270)
    yield timed("ended-never-began", "exp is zero", "expired", iat=0, exp=0)
    yield timed("not-yet", "not yet good", "not-yet-valid", nbf=now + _LEEWAY + 1)
    yield timed("not-for-long", "not good for a long time", "not-yet-valid", nbf=now + 250)
    yield timed("issued-later", "issued in the future", "issued-at", iat=now + _LEEWAY + 1)
    yield timed("issued-much-later", "issued tomorrow", "issued-at", iat=now + 86_400, exp=now + 86_700)
    yield timed("too-long", "good for a second too long", "lifetime", exp=now + _LONGEST + 1)
    yield timed("a-year", "good for a year", "lifetime", exp=now + 365 * 86_400)
    yield timed("since-ever", "issued long ago, good until soon", "lifetime", iat=now - 86_400)
    yield timed("issued-at-zero", "iat is zero", "lifetime", iat=0)
    yield timed("backwards", "ends before it begins", "lifetime", iat=now + 30, exp=now + 20)
    yield timed("backwards-nbf", "ends before nbf", "lifetime", nbf=now + 50, exp=now + 40)


# --- addresses of keys, and issuers -------------------------------------------------------------------------


def addresses(signer: Signer, *, url: str, now: datetime) -> tuple[Forgery, ...]:
    """Values that somebody might fetch keys from: nothing of them is ever connected to. Signed by the client itself."""
    make = Maker(signer, url, now)
    found = [
        Forgery(
            f"jku-{name}", f"jku {name}", bearer(make.headed(jku=value)), ("header",) if name == "nul" else ("jku",)
        )
        for name, value in hostile_jku(signer).items()
    ]
    found += [
        Forgery(f"x5u-{name}", f"x5u {name}", bearer(make.headed(x5u=value)), ("header",))
        for name, value in hostile_jku(signer).items()
        if name in {"stranger", "loopback", "metadata", "file", "data", "own", "http"}
    ]
    found += [
        Forgery(f"iss-as-{name}", f"iss {name}", bearer(make.token(iss=value)), ("unknown-issuer",))
        for name, value in hostile_issuers(signer).items()
    ]
    return tuple(found)


def hostile_jku(signer: Signer) -> dict[str, str]:
    """By name. Some are the registered address in another spelling: it is compared, not understood."""
    own = signer.jku or "https://ehr.example.org/keys/jwks.json"
    scheme, _, rest = own.partition("://")
    host, slash, path = rest.partition("/")
    path = slash + path
    bare, colon, port = host.partition(":")
    found = {
        "stranger": f"{EVIL}/jwks.json",
        "stranger-http": "http://keys.evil.example/jwks.json",
        "http": f"{'http' if scheme == 'https' else 'https'}://{rest}",
        "userinfo": f"{scheme}://{host}@evil.example{path}",
        "userinfo-password": f"{scheme}://{host}:x@evil.example{path}",
        "own-userinfo": f"{scheme}://x@{host}{path}",
        "longer-host": f"{scheme}://{bare}.evil.example{colon}{port}{path}",
        "joined-host": f"{scheme}://evil{bare}{colon}{port}{path}",
        "subdomain": f"{scheme}://x.{host}{path}",
        "trailing-dot": f"{scheme}://{bare}.{colon}{port}{path}",
        "other-port": f"{scheme}://{bare}:8443{path}",
        "default-port": f"{scheme}://{bare}:{'443' if scheme == 'https' else '80'}{path}",
        "upper-host": f"{scheme}://{bare.upper() if bare.upper() != bare else '0' + bare}{colon}{port}{path}",
        "upper-scheme": f"{scheme.upper()}://{rest}",
        "percent-dot": f"{scheme}://{host.replace('.', '%2e')}{path}",
        "wide-dot": f"{scheme}://{host.replace('.', '。')}{path}",
        "cyrillic": f"{scheme}://{host.replace('e', 'е').replace('1', '１')}{path}",
        "soft-hyphen": f"{scheme}://{host[:1]}\u00ad{host[1:]}{path}",
        "backslash": f"{scheme}://{host}\\@evil.example{path}",
        "backslash-path": f"{scheme}:\\\\{host}{path}",
        "fragment": f"{own}#",
        "fragment-evil": f"{EVIL}/#{own}",
        "query": f"{own}?",
        "query-evil": f"{EVIL}/?{own}",
        "trailing-slash": f"{own}/",
        "double-slash": f"{scheme}://{host}/{path}",
        "dots": f"{scheme}://{host}/x/..{path}",
        "dots-out": f"{own}/../../evil.json",
        "percent-path": f"{scheme}://{host}{path[:1]}%{ord(path[1]):02x}{path[2:]}" if len(path) > 1 else f"{own}%2f",
        "upper-path": f"{scheme}://{host}{path.upper()}",
        "matrix": f"{own};x=y",
        "open-redirect": f"{scheme}://{host}/redirect?to={EVIL}",
        "loopback": "http://127.0.0.1/jwks.json",
        "loopback-decimal": "http://2130706433/jwks.json",
        "loopback-hex": "http://0x7f000001/jwks.json",
        "loopback-octal": "http://0177.0.0.1/jwks.json",
        "loopback-short": "http://127.1/jwks.json",
        "loopback-v6": "http://[::1]/jwks.json",
        "loopback-mapped": "http://[::ffff:127.0.0.1]/jwks.json",
        "any": "http://0.0.0.0/jwks.json",
        "localhost": "http://localhost/jwks.json",
        "metadata": "http://169.254.169.254/latest/meta-data/",
        "private": "http://10.0.0.1/jwks.json",
        "file": "file:///etc/passwd",
        "data": "data:application/json,%7B%22keys%22%3A%5B%5D%7D",
        "gopher": "gopher://127.0.0.1:6379/_PING",
        "ftp": "ftp://keys.evil.example/jwks.json",
        "dict": "dict://127.0.0.1:11211/stats",
        "ldap": "ldap://keys.evil.example/x",
        "jar": f"jar:{EVIL}/x.jar!/jwks.json",
        "unix": "http+unix://%2Fvar%2Frun%2Fdocker.sock/info",
        "javascript": "javascript:alert(1)",
        "no-scheme": f"//{host}{path}",
        "relative": path,
        "empty": "",
        "space": " ",
        "space-before": f" {own}",
        "space-behind": f"{own} ",
        "line": f"{own}\n",
        "lines": f"{own}\r\nHost: evil.example",
        "tab": f"{scheme}://{host[:1]}\t{host[1:]}{path}",
        "nul": f"{own}\0",
        "two": f"{own} {EVIL}/jwks.json",
        "comma": f"{own},{EVIL}/jwks.json",
        "template": "${jndi:ldap://keys.evil.example/x}",
        "own": f"{own}x",
    }
    return {name: value for name, value in found.items() if value != own}


def hostile_issuers(signer: Signer) -> dict[str, str]:
    """Issuers that are not the registered one."""
    own = signer.issuer
    host = own.split("/")[2] if own.count("/") >= 2 else own
    found = {
        "stranger": "https://evil.example",
        "sandbox": "https://sandbox.cds-hooks.org",
        "cerner": "https://cds-hooks.cerner.com",
        "slash": own.rstrip("/") if own.endswith("/") else f"{own}/",
        "http": own.replace("https:", "http:") if own.startswith("https:") else f"https:{own}",
        "upper": own.upper(),
        "host-upper": own.replace(host, host.upper()),
        "longer-host": own.replace(host, f"{host}.evil.example"),
        "userinfo": own.replace(host, f"{host}@evil.example"),
        "port": own.replace(host, f"{host}:8443"),
        "fragment": f"{own}#",
        "query": f"{own}?",
        "dots": f"{own}/../x",
        "space-before": f" {own}",
        "space-behind": f"{own} ",
        "line": f"{own}\n",
        "wide": own.replace(".", "。"),
        "shorter": own[:-1],
        "star": "*",
        "file": "file:///etc/passwd",
        "loopback": "http://127.0.0.1/",
        "metadata": "http://169.254.169.254/",
        "sql": "' OR '1'='1",
        "proto": "__proto__",
    }
    return {name: value for name, value in found.items() if value != own}


# --- what is right, though it looks odd ---------------------------------------------------------------------


def controls(signer: Signer, *, url: str, now: datetime) -> tuple[Forgery, ...]:
    """Tokens that real clients send, or may."""
    make = Maker(signer, url, now)
    seconds = make.seconds

    def right(name: str, what: str, token: str, *, scheme: str = "Bearer ") -> Forgery:
        return Forgery(f"right-{name}", what, [(b"authorization", f"{scheme}{token}".encode())])

    found = [
        right("plain", "as the standard has it", make.token()),
        right("aud-list", "aud as an array", make.token(aud=[url])),
        right("aud-list-two", "another address beside it in aud", make.token(aud=["https://cds.example.com", url])),
        right("aud-slash", "aud with a last slash", make.token(aud=f"{url}/")),
        right("nbf", "nbf five minutes before iat, as Epic's", make.token(nbf=seconds - 300)),
        right("epic", "nbf, sub and 900 seconds", make.token(nbf=seconds - 300, sub="f4c1d2e3", exp=seconds + 900)),
        right("sub", "sub is not iss", make.token(sub="0a1b2c3d-client")),
        right("sub-iss", "sub is iss", make.token(sub=signer.issuer)),
        right("jti-hex", "jti of 64 digits, as Inferno's", make.token(jti=uuid4().hex * 2)),
        right("jti-long", "jti of 256 characters", make.token(jti=(uuid4().hex * 8)[:256])),
        right(
            "claims", "claims that are not known", make.token(scope="x", fhirUser={"a": [1, {"b": None}]}, ver="1.0")
        ),
        right("unicode", "claims in other alphabets", make.token(name="Zoë 東京")),
        right("members", "a header member that is not known", make.headed(ver=1, x={"a": []})),
        right("x5t", "the thumbprint of a certificate, as .NET adds it", make.headed(x5t="ZnJvbSBhIGNlcnQ")),
        right("fractions", "times with fractions", make.token(exp=seconds + 299.75, iat=seconds - 0.25)),
        right("whole-fractions", "times as 1.0", make.token(exp=float(seconds + 300), iat=float(seconds))),
        right("longest", "as long as may be", make.token(exp=seconds + _LONGEST)),
        right("slow-clock", "ended, within the leeway", make.token(iat=seconds - 330, exp=seconds - _LEEWAY + 1)),
        right("fast-clock", "issued in the future, within the leeway", make.token(iat=seconds + _LEEWAY - 1)),
        right("fast-nbf", "good from later, within the leeway", make.token(nbf=seconds + _LEEWAY - 1)),
        right("scheme", "the scheme in small letters", make.token(), scheme="bearer "),
        right("scheme-upper", "the scheme in capitals", make.token(), scheme="BEARER "),
        right("spaces", "two spaces, as the standard prints it", make.token(), scheme="Bearer  "),
        right("pretty", "JSON over several lines", make.signed(_pretty(make.header()), _pretty(make.claims()))),
    ]
    if signer.jku is not None:
        found.append(right("jku", "jku as registered", make.headed(jku=signer.jku)))
        everything = make.signed(make.header(jku=signer.jku), make.claims(nbf=seconds - 300, sub="x", aud=[url]))
        found.append(right("all", "all that Epic sends", everything))
    return tuple(found)


def _pretty(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=2).encode()


# --- against a service --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """What a caller can see, but for the date."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


async def ask(client: httpx.AsyncClient, *, endpoint: Endpoint, headers: Headers) -> Answer:
    """Send it; only these headers say who it is."""
    method, path, body = endpoint
    sent = [*headers, (b"content-type", b"application/json")] if body else headers
    got = await client.request(method, path, headers=sent, content=body or None)
    return Answer(got.status_code, tuple(one for one in got.headers.raw if one[0].lower() != b"date"), got.content)


async def against(
    client: httpx.AsyncClient,
    *,
    endpoints: Sequence[Endpoint],
    signer: Signer,
    audience_base: str,
    now: datetime,
    at_once: int = 50,
) -> Figures:
    """Everything above, at each address; the service's clock stands still at `now`.

    `audience_base` is the public base that tokens name. A good token has to be answered at each of the addresses with
    anything below 500 but 401.
    """
    forged = named = right = right_all = twice = 0
    seen: set[Answer] = set()
    let_in: list[str] = []
    first_of_many: set[int] = set()
    for endpoint in endpoints:
        url = audience_base + endpoint[1].rstrip("/")
        wrong, known = forgeries(signer, url=url, now=now), addresses(signer, url=url, now=now)
        forged, named = len(wrong), len(known)
        for forgery in (*wrong, *known):
            got = await ask(client, endpoint=endpoint, headers=forgery.headers)
            seen.add(got)
            if got.status != 401 or got.body:
                let_in.append(f"{forgery.id} at {endpoint[1]}: {got.status}")
        for control in controls(signer, url=url, now=now):
            right_all += 1
            right += _accepted(await ask(client, endpoint=endpoint, headers=control.headers))
            again = await ask(client, endpoint=endpoint, headers=control.headers)
            seen.add(again)
            twice += again.status == 401
        fresh = bearer(Maker(signer, url, now).token())
        together = await asyncio.gather(*(ask(client, endpoint=endpoint, headers=fresh) for _ in range(at_once)))
        first_of_many.add(sum(map(_accepted, together)))
    places = len(endpoints)
    return Figures(
        "Forged tokens",
        (
            Figure("forged tokens at every address", f"{forged} x {places}", forged >= 60 and places > 0),
            Figure("addresses of keys and issuers at every address", f"{named} x {places}", named >= 60),
            Figure(
                "of them let in, or told why not" + (f" ({', '.join(let_in[:5])})" if let_in else ""),
                str(len(let_in)),
                not let_in,
            ),
            Figure("different answers to them (status, headers, body)", str(len(seen)), len(seen) == 1),
            Figure("tokens that look odd and are right, accepted", f"{right} of {right_all}", right == right_all > 0),
            Figure("the same token a second time, refused", f"{twice} of {right_all}", twice == right_all),
            Figure(
                f"one token {at_once} times at once: accepted at each address",
                ", ".join(map(str, sorted(first_of_many))),
                first_of_many == {1},
            ),
        ),
    )


def _accepted(answer: Answer) -> bool:
    return answer.status != 401 and answer.status < 500


# --- against this service -----------------------------------------------------------------------------------

_BASE: Final = "https://cds.example.org"
_JKU: Final = "https://ehr.example.org/keys/jwks.json"


async def run(*, size: str) -> Figures:
    """The whole service with one registered client. Small: discovery, one service, its feedback; else all addresses."""
    key = ec.generate_private_key(ec.SECP384R1())
    signer = Signer("https://ehr.example.org/fhir", _JKU, "key-1", key, "ES384", tenant="the hospital's own name")
    client = Client(
        id="north",
        issuer=signer.issuer,
        audiences=(_BASE,),
        tenants={"the hospital's own name": "dev"},
        fhir_bases=(hospital.FHIR,),
        jwks_url=_JKU,
    )
    every = endpoints()
    chosen = [every[0], *every[2:4]] if size == "small" else every
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(200, json={"keys": [public_jwk(key, kid=signer.key_id, use="sig")]})

    with tempfile.TemporaryDirectory() as folder:
        async with hospital.opened(Path(folder), answers=answer, clients=(client,), snooze=None) as there:
            figures = await against(
                there.client, endpoints=chosen, signer=signer, audience_base=_BASE, now=hospital.NOW
            )
    others = [one for one in asked if one not in {_JKU, f"{hospital.FHIR}/metadata"}]
    asked_for = Figure(
        "addresses asked for keys but the registered one", str(len(others)), not others and _JKU in asked
    )
    return Figures(figures.title, (*figures.rows, asked_for))


def endpoints() -> list[Endpoint]:
    """Discovery, every service and its feedback."""
    found: list[Endpoint] = [("GET", "/cds-services", b""), ("HEAD", "/cds-services", b"")]
    for service in SERVICES:
        called = hospital.hook("nobody", fhir=None) | {"hook": service.partition("ruxolitinib-")[2]}
        found.append(("POST", f"/cds-services/{service}", json.dumps(called).encode()))
        found.append(("POST", f"/cds-services/{service}/feedback", b'{"feedback":[]}'))
    return found
