"""A client's token, step by step: what is let through, what is refused and why, and that nothing else ever leaves.

tests/security/forgeries.py has the forged tokens, made without any library for tokens.
"""

from __future__ import annotations

import base64
import json
import pickle
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from cds_hooks import trust
from cds_hooks.trust import Claims, ExposedKeys, PublicKey, Untrusted

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
AUDIENCE = "https://cds.example.org/cds-services/anakinra"
ISSUER = "https://ehr.example.org/fhir/R4"

P256, P384, P521 = (ECKey.generate_key(curve) for curve in ("P-256", "P-384", "P-521"))
RSA = RSAKey.generate_key(2048)

# The example of the standard: cds-hooks/docs, docs/specification/current.md, "Trusting CDS Clients"
# (HL7/cds-hooks, input/pagecontent/security.md prints the same).
SPEC_TOKEN = (
    "eyJhbGciOiJFUzM4NCIsInR5cCI6IkpXVCIsImtpZCI6ImV4YW1wbGUta2lkIiwiamt1IjoiaHR0cHM6Ly9maGlyLWVoci5leGFtcGxlLmNvbS9qd2"
    "tfdXJpIn0.eyJpc3MiOiJodHRwczovL2ZoaXItZWhyLmV4YW1wbGUuY29tLyIsImF1ZCI6Imh0dHBzOi8vY2RzLmV4YW1wbGUub3JnL2Nkcy1zZXJ2"
    "aWNlcy9zb21lLXNlcnZpY2UiLCJleHAiOjE0MjI1Njg4NjAsImlhdCI6MTMxMTI4MDk3MCwianRpIjoiZWUyMmIwMjEtZTFiNy00NjExLWJhNWItOG"
    "VlYzZhMzNhYzFlIiwidGVuYW50IjoiMmRkZDZjM2EtOGU5YS00NGM2LWEzMDUtNTIxMTFhZDMwMmEyIn0.d1WfLjGRKlcWB94l9do4cM8REXeYJLL"
    "6SGUBO8VHZhfM8mwKYP70EMxJ67War4TQblEpaQrp11wx5p7oPFm2ETYgCicS84vXWEIYTdjooZdooCSDf2L8-i4awdoUwiEb"
)
SPEC_KEY = {
    "kty": "EC",
    "use": "sig",
    "crv": "P-384",
    "kid": "example-kid",
    "x": "46SDH7Znh821wblCBglA61sNE9ZrHYKKt3qRtRTmSXyOI_FIGBLWrWa0GPUkDCEk",
    "y": "XMcRuuoGW7CXjQdy-F5i3FeBE0x9hPLdeFdSoDd3ELmx404tLX0VRRcqzAsPhXcI",
    "alg": "ES384",
}
SANDBOX_KEY = {
    "kty": "EC",
    "use": "sig",
    "crv": "P-384",
    "kid": "44823f3d-0b01-4a6c-a80e-b9d3e8a7226f",
    "x": "dw_JGR8nB2I6XveNxUOl2qk699ZPLM2nYI5STSdiEl9avAkrm3CkfYMbrrjr8laB",
    "y": "Sm3mLE-n1zYNla_aiE3cb3nZsL51RbC7ysw3q8aJLxGm-hx79RPMYpITDjp7kgzy",
    "alg": "ES384",
}
SANDBOX_OLD_KEY = {
    "kty": "EC",
    "use": "sig",
    "crv": "P-256",
    "kid": "d9cd3c4f-eb08-4304-b973-44f352fd2ca2",
    "x": "QWI9fI8TcNtdikhVs_M1N_Szb7BOj19etvIKfrQMa9k",
    "y": "jDkhk_Z2RZZ5L5rN4vd1_i-RJLn3EfEhDcy7iFBg--I",
    "alg": "ES256",
}
INFERNO_EC_KEY = {
    "kty": "EC",
    "crv": "P-384",
    "x": "JQKTsV6PT5Szf4QtDA1qrs0EJ1pbimQmM2SKvzOlIAqlph3h1OHmZ2i7MXahIF2C",
    "y": "bRWWQRJBgDa6CTgwofYrHjVGcO-A7WNEnu4oJA5OUJPPPpczgx1g2NsfinK-D2Rw",
    "use": "sig",
    "key_ops": ["verify"],
    "ext": True,
    "kid": "4b49a739d1eb115b3225f4cf9beb6d1b",
    "alg": "ES384",
}
INFERNO_RSA_KEY = {
    "kty": "RSA",
    "alg": "RS384",
    "n": (
        "vjbIzTqiY8K8zApeNng5ekNNIxJfXAue9BjoMrZ9Qy9m7yIA-tf6muEupEXWhq70tC7vIGLqJJ4O8m7yiH8H2qklX2mCAMg3xG3nbykY2X7JXtW9"
        "P8VIdG0sAMt5aZQnUGCgSS3n0qaooGn2LUlTGIR88Qi-4Nrao9_3Ki3UCiICeCiAE224jGCg0OlQU6qj2gEB3o-DWJFlG_dz1y-Mxo5ivaeM0vWu"
        "odjDrp-aiabJcSF_dx26sdC9dZdBKXFDq0t19I9S9AyGpGDJwzGRtWHY6LsskNHLvo8Zb5AsJ9eRZKpnh30SYBZI9WHtzU85M9WQqdScR69Vyp-6"
        "Uhfbvw"
    ),
    "e": "AQAB",
    "use": "sig",
    "key_ops": ["verify"],
    "ext": True,
    "kid": "b41528b6f37a9500edb8a905a595bdd7",
}


def jwk(key: ECKey | RSAKey, **members: Any) -> dict[str, Any]:
    """The public half as a client publishes it; `...` takes a member away."""
    written = {**key.as_dict(private=False), "kid": "key-1", **members}
    return {name: value for name, value in written.items() if value is not ...}


def jwks(*keys: object) -> bytes:
    return json.dumps({"keys": keys}).encode()


def public(key: ECKey | RSAKey, **members: Any) -> PublicKey:
    (found,) = trust.keys_of(jwks(jwk(key, **members)))
    return found


def claims(**changes: Any) -> dict[str, Any]:
    given = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "exp": SECONDS + 300,
        "iat": SECONDS,
        "jti": "5f0c1f62-0a4b-4b8a-9d0e-0c4a4f3c3f4e",
        **changes,
    }
    return {name: value for name, value in given.items() if value is not ...}


def part(content: object) -> str:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unsigned(header: object, payload: object | None = None) -> str:
    """A token with a signature of the right form, which is not one."""
    return f"{part(header)}.{part(claims() if payload is None else payload)}.{part(bytes(96))}"


def header(**changes: Any) -> dict[str, Any]:
    given = {"alg": "ES384", "kid": "key-1", "typ": "JWT", **changes}
    return {name: value for name, value in given.items() if value is not ...}


def signed(payload: dict[str, Any], *, key: ECKey | RSAKey = P384, algorithm: str = "ES384", **members: Any) -> str:
    return jwt.encode(header(alg=algorithm, **members), payload, key, algorithms=[algorithm])


def read_claims(**changes: Any) -> Claims:
    return trust.verified(trust.read(signed(claims(**changes))), key=public(P384))


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(Untrusted) as caught:
        call()
    assert str(caught.value) == "the token is not accepted"
    assert caught.value.reason in trust.REASONS
    return caught.value.reason


# --- the example of the standard --------------------------------------------------------------------------


def test_the_standards_own_token_verifies_with_the_printed_key() -> None:
    (key,) = trust.keys_of(jwks(SPEC_KEY))
    presented = trust.read(SPEC_TOKEN)
    assert (presented.algorithm, presented.key_id, presented.issuer, presented.jku) == (
        "ES384",
        "example-kid",
        "https://fhir-ehr.example.com/",
        "https://fhir-ehr.example.com/jwk_uri",
    )
    assert trust.select([key], key_id="example-kid", algorithm="ES384") == key
    found = trust.verified(presented, key=key)
    assert found == Claims(
        issuer="https://fhir-ehr.example.com/",
        audiences=("https://cds.example.org/cds-services/some-service",),
        expires=datetime(2015, 1, 29, 22, 1, tzinfo=UTC),
        issued=datetime(2011, 7, 21, 20, 42, 50, tzinfo=UTC),
        not_before=None,
        token_id="ee22b021-e1b7-4611-ba5b-8eec6a33ac1e",
        tenant="2ddd6c3a-8e9a-44c6-a305-52111ad302a2",
        subject=None,
    )


@pytest.mark.parametrize("now", [datetime(2015, 1, 29, 22, 2, tzinfo=UTC), NOW, datetime.now(UTC)])
def test_the_standards_own_token_has_expired(now: datetime) -> None:
    (key,) = trust.keys_of(jwks(SPEC_KEY))
    found = trust.verified(trust.read(SPEC_TOKEN), key=key)
    assert refused(lambda: trust.check(found, audiences=found.audiences, now=now)) == "expired"


def test_the_standards_own_token_was_good_for_too_long_when_it_was_good() -> None:
    (key,) = trust.keys_of(jwks(SPEC_KEY))
    found = trust.verified(trust.read(SPEC_TOKEN), key=key)
    then = found.expires - timedelta(seconds=10)
    assert refused(lambda: trust.check(found, audiences=found.audiences, now=then)) == "lifetime"
    trust.check(found, audiences=found.audiences, now=then, longest_seconds=10**9)


def test_one_changed_bit_of_the_standards_own_token_breaks_its_signature() -> None:
    (key,) = trust.keys_of(jwks(SPEC_KEY))
    changed = SPEC_TOKEN.replace(".d1Wf", ".e1Wf")
    assert refused(lambda: trust.verified(trust.read(changed), key=key)) == "signature"


# --- the header of the request ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", ["Bearer a.b.c", "bearer a.b.c", "BEARER a.b.c", "Bearer  a.b.c", " Bearer a.b.c\t", "Bearer a.b."]
)
def test_the_one_token_is_found(value: str) -> None:
    headers = [(b"host", b"cds.example.org"), (b"Authorization", value.encode()), (b"accept", b"*/*")]
    assert trust.bearer(headers) == value.split()[1]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([], "no-token"),
        (["Bearer a.b.c", "Bearer a.b.c"], "several-tokens"),
        (["Basic YTpi", "Bearer a.b.c"], "several-tokens"),
        (["Basic YTpi"], "not-bearer"),
        (["a.b.c"], "not-bearer"),
        (["Bearer\ta.b.c"], "not-bearer"),
        ([""], "not-bearer"),
        (["Bearer"], "not-a-jwt"),
        (["Bearer "], "not-a-jwt"),
        (["Bearer a.b"], "not-a-jwt"),
        (["Bearer a.b.c.d"], "not-a-jwt"),
        (["Bearer a.b.c.d.e"], "not-a-jwt"),
        (["Bearer a..c"], "not-a-jwt"),
        (["Bearer .b.c"], "not-a-jwt"),
        (["Bearer a.b.c, Bearer a.b.c"], "not-a-jwt"),
        (["Bearer a.b.c="], "not-a-jwt"),
        (["Bearer a.b+.c"], "not-a-jwt"),
        (["Bearer a.b.c\n"], "not-a-jwt"),
        (["Bearer a.b.\xe9"], "not-a-jwt"),
        (['Bearer {"payload":"","signature":""}'], "not-a-jwt"),
        (["Bearer a.b." + "c" * 8182], "too-long"),
    ],
)
def test_anything_else_is_no_token(values: list[str], reason: str) -> None:
    headers = [(b"authorization", value.encode("latin-1")) for value in values]
    assert refused(lambda: trust.bearer(headers)) == reason


def test_the_longest_header() -> None:
    longest = b"Bearer a.b." + b"c" * (trust.LONGEST_HEADER - 11)
    assert trust.bearer([(b"authorization", longest)]).startswith("a.b.c")
    assert refused(lambda: trust.bearer([(b"authorization", longest + b"c")])) == "too-long"


# --- the token's own header -------------------------------------------------------------------------------


def test_what_a_token_says_of_itself() -> None:
    presented = trust.read(unsigned(header(jku="https://ehr.example.org/keys", x5t="abc", extra={"any": ["thing"]})))
    assert (presented.algorithm, presented.key_id, presented.jku, presented.issuer) == (
        "ES384",
        "key-1",
        "https://ehr.example.org/keys",
        ISSUER,
    )
    assert presented.token not in repr(presented)


@pytest.mark.parametrize("algorithm", trust.ALGORITHMS)
def test_every_algorithm_is_read(algorithm: str) -> None:
    assert trust.read(unsigned(header(alg=algorithm))).algorithm == algorithm


@pytest.mark.parametrize(
    "algorithm",
    [
        *("none", "None", "NONE", "nOnE", "", "HS256", "HS384", "HS512", "hs256", "es384", "ES384 ", "ES384\u200b"),
        *("ES256K", "EdDSA", "RSA-OAEP", "dir", "A128KW", "RS1"),
    ],
)
def test_other_algorithms_are_refused(algorithm: str) -> None:
    assert refused(lambda: trust.read(unsigned(header(alg=algorithm)))) == "algorithm"


@pytest.mark.parametrize(
    "changes",
    [
        {"typ": ...},
        {"typ": "jwt"},
        {"typ": "at+jwt"},
        {"typ": None},
        {"typ": ["JWT"]},
        {"kid": ...},
        {"kid": ""},
        {"kid": None},
        {"kid": 1},
        {"kid": ["key-1"]},
        {"kid": "k" * 513},
        {"alg": ...},
        {"alg": None},
        {"alg": ["ES384"]},
        {"jku": None},
        {"jku": 1},
        {"jku": ["https://ehr.example.org/keys"]},
        {"crit": ["exp"]},
        {"crit": []},
        {"b64": False},
        {"b64": True},
        {"zip": "DEF"},
        {"cty": "JWT"},
        {"enc": "A128GCM"},
        {"jwk": jwk(P384)},
        {"jwk": None},
        {"x5u": "https://ehr.example.org/cert"},
        {"x5c": ["MIIB"]},
    ],
)
def test_a_header_that_is_refused(changes: dict[str, Any]) -> None:
    assert refused(lambda: trust.read(unsigned(header(**changes)))) == "header"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'"ES384"',
        b"{",
        b'{"alg":"ES384","kid":"key-1","typ":"JWT"} x',
        b'{"alg":"ES384","kid":"key-1","typ":"JWT","alg":"ES384"}',
        b'{"alg":"none","kid":"key-1","typ":"JWT","\\u0061lg":"ES384"}',
        b'{"alg":"ES384","kid":"key-1","typ":"JWT","a":{"b":1,"b":2}}',
        b'{"alg":"ES384","kid":"key-1","typ":"JWT","a":NaN}',
        b'{"alg":"ES384","kid":"key-\\u0000","typ":"JWT"}',
        b'{"alg":"ES384","kid":"key-\\ud800","typ":"JWT"}',
        b'{"alg":"ES384","kid":"key-\xff","typ":"JWT"}',
        b'\xef\xbb\xbf{"alg":"ES384","kid":"key-1","typ":"JWT"}',
        '{"alg":"ES384","kid":"key-1","typ":"JWT"}'.encode("utf-16"),
        b'{"alg":"ES384","kid":"key-1","typ":"JWT","a":' + b"[" * 20 + b"]" * 20 + b"}",
    ],
)
def test_a_header_that_is_no_strict_json(raw: bytes) -> None:
    reason = refused(lambda: trust.read(unsigned(raw)))
    assert reason == ("header" if raw else "not-a-jwt")


@pytest.mark.parametrize("name", ["not canonical", "one character", "padded", "of the other alphabet"])
def test_a_part_is_written_in_one_way_only(name: str) -> None:
    first = part(header(kid="key-12"))  # so that bits are left over
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    written = {
        "not canonical": first[:-1] + last[last.index(first[-1]) + 1],
        "one character": "A",
        "padded": first + "=",
        "of the other alphabet": first[:-4] + "+/+/",
    }[name]
    assert len(first) % 4
    rest = f"{part(claims())}.{part(bytes(96))}"
    trust.read(f"{first}.{rest}")
    assert refused(lambda: trust.read(f"{written}.{rest}")) in {"header", "not-a-jwt"}


@pytest.mark.parametrize("payload", [b"{}", b"[]", b"null", b'{"iss":""}', b'{"iss":null}', b'{"iss":["a"]}', b"\xff"])
def test_a_token_that_does_not_say_who_it_is_from(payload: bytes) -> None:
    assert refused(lambda: trust.read(unsigned(header(), payload))) == "claims"


def test_two_issuers_in_one_payload() -> None:
    twice = b'{"iss":"https://a.example.org","iss":"https://b.example.org"}'
    assert refused(lambda: trust.read(unsigned(header(), twice))) == "claims"


def test_a_token_beyond_the_longest_header() -> None:
    assert refused(lambda: trust.read("a.b." + "c" * trust.LONGEST_HEADER)) == "too-long"


# --- keys -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "kind", "curve"), [(P256, "EC", "P-256"), (P384, "EC", "P-384"), (P521, "EC", "P-521"), (RSA, "RSA", None)]
)
def test_a_published_key(key: ECKey | RSAKey, kind: str, curve: str | None) -> None:
    found = public(key, use="sig", key_ops=["verify"], x5c=["MIIB"], unknown={"any": 1})
    assert (found.key_id, found.key_type, found.curve, found.algorithm) == ("key-1", kind, curve, None)
    assert found.thumbprint() == key.thumbprint()
    assert "_key" not in repr(found)


@pytest.mark.parametrize(
    "entry",
    [
        {**OctKey.generate_key(256).as_dict(private=True), "kid": "key-2"},
        {"kty": "oct", "kid": "key-2"},
        {**OKPKey.generate_key("Ed25519").as_dict(private=False), "kid": "key-2"},
        jwk(P384, kty="UNKNOWN"),
        jwk(P384, kty=...),
        jwk(P384, kty=["EC"]),
        jwk(P384, kid=...),
        jwk(P384, kid=""),
        jwk(P384, kid=7),
        jwk(P384, use="enc"),
        jwk(P384, use=["sig"]),
        jwk(P384, key_ops=["sign"]),
        jwk(P384, key_ops="verify"),
        jwk(P384, key_ops=[]),
        jwk(P384, alg="ECDH-ES"),
        jwk(P384, alg="HS384"),
        jwk(P384, alg="ES256"),
        jwk(P384, alg="RS384"),
        jwk(P384, alg=1),
        jwk(P384, crv="P-256"),
        jwk(P384, crv="secp256k1"),
        jwk(P384, x=P384.as_dict(private=False)["y"]),
        jwk(P384, x="not base64url"),
        jwk(P384, x="A" * 5000),
        jwk(P384, y=...),
        jwk(P384, y=5),
        jwk(RSA, n=...),
        jwk(RSA, n="AQAB"),
        jwk(RSA, n="A" * 5000),
        jwk(RSA, e="Aw"),
        jwk(RSA, e="AQAA"),
        jwk(RSA, e=""),
        jwk(RSA, e=RSA.as_dict(private=False)["n"]),
        {**P521.as_dict(private=True), "kid": "key-2"},
        "EC",
        None,
        [],
        {},
    ],
)
def test_an_entry_that_is_passed_over(entry: object) -> None:
    assert [key.key_id for key in trust.keys_of(jwks(entry, jwk(P384, kid="good")))] == ["good"]
    with pytest.raises(ValueError, match=r"^holds (no key that can be used: it takes|private keys)") as caught:
        trust.keys_of(jwks(entry))
    assert_says_nothing_of(caught.value, entry)


def assert_says_nothing_of(error: BaseException, entry: object) -> None:
    text = "".join(traceback.format_exception(error))
    for value in entry.values() if isinstance(entry, dict) else ():
        assert not isinstance(value, str) or len(value) < 20 or value not in text


@pytest.mark.filterwarnings("ignore:Key size should be")
def test_rsa_keys_that_are_too_short() -> None:
    short = RSAKey.generate_key(1024)
    with pytest.raises(ValueError, match="RSA of 2048 to 8192 bits"):
        trust.keys_of(jwks(jwk(short)))


def test_a_key_whose_private_half_is_in_the_same_document() -> None:
    """As Inferno's own file has it: the public entry would do, were it not that anybody can sign."""
    both = jwks(jwk(P384), {**P384.as_dict(private=True), "kid": "key-1", "key_ops": ["sign"]}, jwk(P256, kid="other"))
    assert [key.key_id for key in trust.keys_of(both)] == ["other"]
    alone = jwks(jwk(P384), {**P384.as_dict(private=True), "kid": "another name"})
    with pytest.raises(ExposedKeys, match="the client makes new ones") as caught:
        trust.keys_of(alone)
    assert_says_nothing_of(caught.value, dict(P384.as_dict(private=True)))


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b'{"keys":null}',
        b'{"keys":{}}',
        b"<html>",
        b"\xff\xfe",
        b'{"keys":[],"keys":[]}',
        b'{"keys":[{"kty":"EC","kty":"RSA"}]}',
        b"[" * 100_000,
        jwks(jwk(P384)) + b" " * trust.LARGEST_KEY_SET,
    ],
    ids=lambda document: str(document[:30]),
)
def test_what_is_no_key_set(document: bytes) -> None:
    with pytest.raises(ValueError, match="is no key set"):
        trust.keys_of(document)


def test_an_empty_key_set_and_one_with_too_many_keys() -> None:
    with pytest.raises(ValueError, match="holds no key that can be used"):
        trust.keys_of(jwks())
    many = [jwk(P256, kid=f"key-{number}") for number in range(trust.MOST_KEYS + 1)]
    assert len(trust.keys_of(jwks(*many[1:]))) == trust.MOST_KEYS
    with pytest.raises(ValueError, match="more than 100 keys"):
        trust.keys_of(jwks(*many))


def test_as_many_and_as_large_keys_as_there_may_be() -> None:
    large = [jwk(RSA, kid=f"key-{number}", n=part(b"\xff" * 1024)) for number in range(trust.MOST_KEYS)]
    assert len(trust.keys_of(jwks(*large))) == trust.MOST_KEYS
    assert len(jwks(*large)) < trust.LARGEST_KEY_SET


PUBLISHED = (SPEC_KEY, SANDBOX_KEY, SANDBOX_OLD_KEY, INFERNO_EC_KEY, INFERNO_RSA_KEY)


@pytest.mark.parametrize("entry", PUBLISHED, ids=lambda entry: entry["kid"])
def test_keys_that_anybody_has_are_known(entry: dict[str, Any]) -> None:
    assert all(map(trust.is_published, trust.keys_of(jwks(entry))))
    renamed = {**entry, "kid": "a name of our own", "alg": ..., "use": ..., "key_ops": ...}
    assert all(map(trust.is_published, trust.keys_of(jwks({k: v for k, v in renamed.items() if v is not ...}))))


def test_every_published_thumbprint_is_of_a_key_above() -> None:
    assert {key.thumbprint() for key in trust.keys_of(jwks(*PUBLISHED))} == trust.PUBLISHED
    assert not trust.is_published(public(P384))


def test_a_published_key_does_not_hide_behind_another_way_to_write_its_numbers() -> None:
    modulus = b"\0" + base64.urlsafe_b64decode(str(INFERNO_RSA_KEY["n"]) + "==")
    (key,) = trust.keys_of(jwks({**INFERNO_RSA_KEY, "n": part(modulus), "e": part(b"\0\0\1\0\1")}))
    assert trust.is_published(key)


# --- the choice of the key --------------------------------------------------------------------------------


FITTING: dict[str, list[ECKey | RSAKey]] = {
    "ES256": [P256],
    "ES384": [P384],
    "ES512": [P521],
    **{algorithm: [RSA] for algorithm in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")},
}


@pytest.mark.parametrize("algorithm", trust.ALGORITHMS)
def test_a_key_is_found_by_name_and_kind(algorithm: str) -> None:
    """One name for four keys: SMART and CDS Hooks ask for unique names, and one kind per name is enough here."""
    keys = [public(key) for key in (P256, P384, P521, RSA)]
    (expected,) = FITTING[algorithm]
    assert trust.select(keys, key_id="key-1", algorithm=algorithm).thumbprint() == expected.thumbprint()
    others = [key for key in keys if key.thumbprint() != expected.thumbprint()]
    assert refused(lambda: trust.select(others, key_id="key-1", algorithm=algorithm)) == "unknown-key"
    assert refused(lambda: trust.select(keys, key_id="Key-1", algorithm=algorithm)) == "unknown-key"


@pytest.mark.parametrize("key", [P256, P384, P521, RSA], ids=["P-256", "P-384", "P-521", "RSA"])
@pytest.mark.parametrize("algorithm", ["none", "HS256", "HS384", "", "ES256K", "EdDSA"])
def test_no_key_fits_other_algorithms(key: ECKey | RSAKey, algorithm: str) -> None:
    assert not trust.fits(public(key), algorithm=algorithm)
    assert refused(lambda: trust.select([public(key)], key_id="key-1", algorithm=algorithm)) == "unknown-key"


def test_what_a_key_says_it_is_for_counts() -> None:
    key = public(RSA, alg="RS384")
    assert trust.fits(key, algorithm="RS384")
    assert not trust.fits(key, algorithm="RS256")
    assert not trust.fits(key, algorithm="PS384")
    assert refused(lambda: trust.select([key], key_id="key-1", algorithm="RS256")) == "unknown-key"


def test_two_keys_of_one_name() -> None:
    other = ECKey.generate_key("P-384")
    keys = trust.keys_of(jwks(jwk(P384), jwk(other)))
    assert refused(lambda: trust.select(keys, key_id="key-1", algorithm="ES384")) == "ambiguous-key"
    same = trust.keys_of(jwks(jwk(P384), jwk(P384, alg="ES384"), jwk(P384)))
    assert trust.select(same, key_id="key-1", algorithm="ES384").thumbprint() == P384.thumbprint()


# --- signature and claims ---------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", trust.ALGORITHMS)
def test_every_algorithm_verifies(algorithm: str) -> None:
    (key,) = FITTING[algorithm]
    token = signed(claims(tenant="north", sub="client-7"), key=key, algorithm=algorithm)
    found = trust.verified(trust.read(token), key=public(key))
    assert found == Claims(
        issuer=ISSUER,
        audiences=(AUDIENCE,),
        expires=NOW + timedelta(seconds=300),
        issued=NOW,
        not_before=None,
        token_id="5f0c1f62-0a4b-4b8a-9d0e-0c4a4f3c3f4e",
        tenant="north",
        subject="client-7",
    )
    stranger = ECKey.generate_key(key.curve_name) if isinstance(key, ECKey) else RSAKey.generate_key(2048)
    assert refused(lambda: trust.verified(trust.read(token), key=public(stranger))) == "signature"


@pytest.mark.parametrize("key", [P256, P521, RSA], ids=["P-256", "P-521", "RSA"])
def test_a_key_of_another_kind_is_not_even_tried(key: ECKey | RSAKey) -> None:
    presented = trust.read(signed(claims()))
    assert refused(lambda: trust.verified(presented, key=public(key))) == "unknown-key"
    assert refused(lambda: trust.verified(replace(presented, algorithm="none"), key=public(P384))) == "unknown-key"


@pytest.mark.parametrize("place", [0, 1, 2])
def test_each_part_is_signed(place: int) -> None:
    parts = signed(claims()).split(".")
    other = signed(claims(jti="another"), jku="https://ehr.example.org/keys").split(".")
    parts[place] = other[place]
    assert refused(lambda: trust.verified(trust.read(".".join(parts)), key=public(P384))) == "signature"


def test_long_headers_verify() -> None:
    """Beyond the 512 bytes that the library reads by itself."""
    token = signed(claims(), jku="https://ehr.example.org/" + "k" * 600, kid="k" * 300)
    assert trust.verified(trust.read(token), key=public(P384, kid="k" * 300)).issuer == ISSUER


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": ...},
        {"aud": None},
        {"aud": 1},
        {"aud": {"a": AUDIENCE}},
        {"aud": [AUDIENCE, 1]},
        {"exp": ...},
        {"exp": None},
        {"exp": str(SECONDS + 300)},
        {"exp": True},
        {"exp": -1},
        {"exp": 10**10},
        {"exp": 10**40},
        {"exp": 1e300},
        {"exp": [SECONDS]},
        {"iat": ...},
        {"iat": None},
        {"iat": "now"},
        {"iat": -(2**63)},
        {"nbf": "0"},
        {"nbf": -1},
        {"nbf": False},
        {"jti": ...},
        {"jti": None},
        {"jti": ""},
        {"jti": 5},
        {"jti": "j" * 257},
        {"tenant": 5},
        {"tenant": ["north"]},
        {"sub": {"a": 1}},
    ],
    ids=str,
)
def test_claims_of_another_kind(changes: dict[str, Any]) -> None:
    assert refused(lambda: read_claims(**changes)) == "claims"


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": [AUDIENCE]},
        {"aud": ["https://other.example.org", AUDIENCE]},
        {"exp": SECONDS + 299.5, "iat": SECONDS + 0.25},
        {"exp": float(SECONDS + 300)},
        {"nbf": SECONDS - 300},
        {"nbf": None},
        {"tenant": None},
        {"sub": "0oa1b2c3"},
        {"sub": None},
        {"jti": "a" * 256},
        {"jti": "0f" * 32},
        {"scope": "any", "fhirUser": {"a": [1, 2, 3]}, "ver": 1.0},
    ],
    ids=str,
)
def test_claims_that_real_clients_send(changes: dict[str, Any]) -> None:
    trust.check(read_claims(**changes), audiences=[AUDIENCE], now=NOW)


def test_an_epic_like_token() -> None:
    """Epic: RS384, a kid with the signs of base64, `sub` the client's id there, `nbf` five minutes before `iat`."""
    kid = "dGVzdA+/abc=="
    payload = claims(
        iss="https://ehr.example.org/interconnect/api/FHIR/R4", sub="f4c1d2e3", nbf=SECONDS - 300, exp=SECONDS + 600
    )
    token = signed(payload, key=RSA, algorithm="RS384", kid=kid, jku="https://ehr.example.org/api/epic/jwk")
    presented = trust.read(token)
    key = trust.select([public(RSA, kid=kid)], key_id=presented.key_id, algorithm=presented.algorithm)
    found = trust.verified(presented, key=key)
    assert found.subject != found.issuer
    trust.check(found, audiences=[AUDIENCE], now=NOW)
    whole = replace(found, expires=NOW + timedelta(seconds=900))
    trust.check(whole, audiences=[AUDIENCE], now=NOW)


def test_claims_do_not_print_who_the_subject_is() -> None:
    assert "somebody" not in repr(read_claims(sub="somebody"))


# --- for whom, and when -----------------------------------------------------------------------------------


def checked(now: datetime = NOW, **changes: Any) -> None:
    trust.check(read_claims(**changes), audiences=[AUDIENCE], now=now)


@pytest.mark.parametrize(
    "audience",
    [
        "",
        "https://cds.example.org",
        "https://cds.example.org/cds-services",
        "https://cds.example.org/cds-services/another",
        AUDIENCE + "/",
        AUDIENCE + "/feedback",
        AUDIENCE + "?",
        AUDIENCE + "#",
        AUDIENCE.replace("https", "http"),
        AUDIENCE.replace("cds.example.org", "CDS.example.org"),
        AUDIENCE.replace("cds.example.org", "cds.example.org:443"),
        AUDIENCE.replace("cds.example.org", "cds.example.org."),
        AUDIENCE[:-1],
        AUDIENCE.upper(),
        f" {AUDIENCE}",
        [],
        ["https://other.example.org"],
        [f"{AUDIENCE},https://other.example.org"],
    ],
    ids=str,
)
def test_a_token_for_another_address(audience: str | list[str]) -> None:
    assert refused(lambda: checked(aud=audience)) == "audience"


def test_an_audience_is_compared_whole() -> None:
    """A string in place of a list of audiences would otherwise be searched."""
    found = read_claims(aud="cds")
    assert refused(lambda: trust.check(found, audiences=AUDIENCE, now=NOW)) == "audience"
    trust.check(read_claims(), audiences={AUDIENCE, AUDIENCE + "/"}, now=NOW)


def test_the_leeway_is_exactly_what_is_configured() -> None:
    end = NOW + timedelta(seconds=300)
    moment = timedelta(microseconds=1)
    checked(now=end + timedelta(seconds=60) - moment)
    assert refused(lambda: checked(now=end + timedelta(seconds=60))) == "expired"
    checked(now=NOW - timedelta(seconds=60))
    assert refused(lambda: checked(now=NOW - timedelta(seconds=60) - moment)) == "issued-at"
    early = {"iat": SECONDS - 200, "nbf": SECONDS}
    checked(now=NOW - timedelta(seconds=60), **early)
    assert refused(lambda: checked(now=NOW - timedelta(seconds=60) - moment, **early)) == "not-yet-valid"
    found = read_claims()
    trust.check(found, audiences=[AUDIENCE], now=end - moment, leeway_seconds=0)
    assert refused(lambda: trust.check(found, audiences=[AUDIENCE], now=end, leeway_seconds=0)) == "expired"


def test_a_token_lives_no_longer_than_allowed() -> None:
    checked(exp=SECONDS + 900)
    assert refused(lambda: checked(exp=SECONDS + 901)) == "lifetime"
    assert refused(lambda: checked(exp=SECONDS + 365 * 24 * 3600)) == "lifetime"
    trust.check(read_claims(exp=SECONDS + 3600), audiences=[AUDIENCE], now=NOW, longest_seconds=3600)


@pytest.mark.parametrize("changes", [{"exp": SECONDS}, {"exp": SECONDS - 5}, {"exp": SECONDS + 5, "nbf": SECONDS + 5}])
def test_a_token_that_ends_before_it_begins(changes: dict[str, Any]) -> None:
    assert refused(lambda: checked(**changes)) == "lifetime"


# --- what leaves ------------------------------------------------------------------------------------------


def test_an_error_holds_nothing_of_the_token() -> None:
    token = signed(claims(sub="somebody", jti="secret-jti"))
    with pytest.raises(Untrusted) as caught:
        trust.verified(trust.read(token), key=public(ECKey.generate_key("P-384")))
    error = caught.value
    assert error.__context__ is None
    assert error.__cause__ is None
    text = "".join(traceback.format_exception(error)) + repr(error) + str(vars(error))
    assert not any(piece in text for piece in (*token.split("."), "somebody", "secret-jti"))


@pytest.mark.parametrize("token", ["a.b.c", unsigned(b"\xff"), unsigned(header(), b"{}"), unsigned({})])
def test_an_error_has_no_other_error_behind_it(token: str) -> None:
    with pytest.raises(Untrusted) as caught:
        trust.read(token)
    assert caught.value.__context__ is None


def test_the_reasons_are_short_and_each_one_is_one() -> None:
    assert len(set(trust.REASONS)) == len(trust.REASONS)
    assert all(reason.replace("-", "").isalpha() and len(reason) < 20 for reason in trust.REASONS)


def test_presented_and_keys_are_plain_values() -> None:
    presented = trust.read(unsigned(header()))
    assert pickle.loads(pickle.dumps(presented)) == presented  # noqa: S301  (our own bytes)
    assert public(P384) == public(P384)
    assert len({public(P384), public(P384), public(P256)}) == 2
