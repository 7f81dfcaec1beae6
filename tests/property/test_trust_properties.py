"""Whatever is sent in place of a token, nothing but `Untrusted` leaves, and nothing that was changed is believed."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jws, jwt
from joserfc.jwk import ECKey

from cds_hooks import trust
from cds_hooks.trust import PublicKey, Untrusted
from tests.property.size import examples

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
AUDIENCE = "https://cds.example.org/cds-services/one"
KEY = ECKey.generate_key("P-384")
KEYS = trust.keys_of(json.dumps({"keys": [{**KEY.as_dict(private=False), "kid": "key-1"}]}).encode())
HEADER: dict[str, Any] = {"alg": "ES384", "kid": "key-1", "typ": "JWT"}
CLAIMS: dict[str, Any] = {
    "iss": "https://ehr.example.org",
    "aud": AUDIENCE,
    "exp": SECONDS + 300,
    "iat": SECONDS,
    "jti": "one",
}
TOKEN = jwt.encode(dict(HEADER), dict(CLAIMS), KEY, algorithms=["ES384"])

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
json_values = plain | st.lists(plain, max_size=2) | st.dictionaries(st.text(max_size=3), plain, max_size=2)
header_names = st.sampled_from(["alg", "kid", "typ", "jku", "crit", "jwk", "x5u", "x5c", "zip", "b64", "cty", "x"])
claim_names = st.sampled_from(["iss", "aud", "exp", "iat", "nbf", "jti", "tenant", "sub", "x"])
times = st.integers(-5000, 5000).map(lambda seconds: SECONDS + seconds) | st.floats(allow_nan=False)


def through(headers: list[tuple[bytes, bytes]], *, keys: tuple[PublicKey, ...] = KEYS) -> trust.Claims:
    """All steps, with one client that may have sent it."""
    presented = trust.read(trust.bearer(headers))
    key = trust.select(keys, key_id=presented.key_id, algorithm=presented.algorithm)
    found = trust.verified(presented, key=key)
    trust.check(found, audiences=[AUDIENCE], now=NOW)
    return found


def accepted(headers: list[tuple[bytes, bytes]]) -> bool:
    try:
        through(headers)
    except Untrusted as error:
        assert error.reason in trust.REASONS  # noqa: PT017  (any other error fails as it is)
        return False
    return True


def bearer(token: str) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", f"Bearer {token}".encode("utf-8", "surrogatepass"))]


def part(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def dumped(content: Any) -> bytes:
    return json.dumps(content).encode()


def test_the_token_that_is_changed_below_is_accepted() -> None:
    assert accepted(bearer(TOKEN))


@settings(max_examples=examples(1000), deadline=None)
@given(st.lists(st.tuples(st.sampled_from([b"authorization", b"Authorization", b"x"]) | st.binary(), st.binary())))
def test_random_headers(headers: list[tuple[bytes, bytes]]) -> None:
    assert not accepted(headers)


@settings(max_examples=examples(1000), deadline=None)
@given(st.text() | st.from_regex(r"[A-Za-z0-9_-]{0,80}\.[A-Za-z0-9_-]{0,80}\.[A-Za-z0-9_-]{0,80}", fullmatch=True))
def test_random_tokens(token: str) -> None:
    with pytest.raises(Untrusted):
        trust.read(token)
    assert not accepted(bearer(token))


@settings(max_examples=examples(1000), deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=200), st.binary(max_size=200))
def test_random_bytes_in_every_part(first: bytes, second: bytes, third: bytes) -> None:
    assert not accepted(bearer(f"{part(first)}.{part(second)}.{part(third)}"))


@settings(max_examples=examples(1000), deadline=None)
@given(
    st.dictionaries(header_names, json_values, max_size=5),
    st.dictionaries(claim_names, json_values, max_size=5),
    st.binary(min_size=0, max_size=140),
)
def test_members_of_any_kind_with_a_signature_of_any_kind(
    members: dict[str, Any], claims: dict[str, Any], signature: bytes
) -> None:
    token = f"{part(dumped(HEADER | members))}.{part(dumped(CLAIMS | claims))}.{part(signature)}"
    assert not accepted(bearer(token))


@settings(max_examples=examples(1000), deadline=None)
@given(st.integers(0, len(TOKEN) - 1), st.integers(0, 255), st.sampled_from(["replace", "insert", "delete"]))
def test_one_changed_character_is_enough(place: int, octet: int, how: str) -> None:
    sent = TOKEN.encode()
    end = place if how == "insert" else place + 1
    changed = sent[:place] + (b"" if how == "delete" else bytes([octet])) + sent[end:]
    headers = [(b"authorization", b"Bearer " + changed)]
    # A space at either end is none of the token.
    assert accepted(headers) == (changed.strip(b" \t") == sent)


@settings(max_examples=examples(1000), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(claim_names, json_values | times, max_size=4), st.dictionaries(header_names, json_values))
def test_what_the_client_itself_signs_is_believed_only_as_far_as_it_may_be(
    claims: dict[str, Any], members: dict[str, Any]
) -> None:
    """Signed by the right key: the checks behind the signature meet every kind of value."""
    first, second = part(dumped(HEADER | members)), part(dumped(CLAIMS | claims))
    algorithm = jws.JWSRegistry.algorithms["ES384"]
    signature = part(algorithm.sign(f"{first}.{second}".encode(), KEY))
    if not accepted(bearer(f"{first}.{second}.{signature}")):
        return
    said = CLAIMS | claims
    assert said["aud"] == AUDIENCE or AUDIENCE in said["aud"]
    assert said["exp"] + 60 > SECONDS >= said["iat"] - 60
    assert said["exp"] - said["iat"] <= 900
    assert not {"crit", "jwk", "x5u", "x5c", "zip", "b64", "cty"} & members.keys()
    assert (HEADER | members)["alg"] == "ES384"


@settings(max_examples=examples(1000), deadline=None)
@given(
    st.binary(max_size=300)
    | st.dictionaries(st.sampled_from(["keys", "x"]), json_values).map(dumped)
    | st.lists(
        st.dictionaries(
            st.sampled_from(["kty", "crv", "x", "y", "n", "e", "d", "kid", "use", "key_ops", "alg"]),
            json_values | st.sampled_from(["EC", "RSA", "P-384", "AQAB", "sig", *map(str, KEY.as_dict().values())]),
        ),
        max_size=3,
    ).map(lambda keys: dumped({"keys": keys}))
)
def test_random_key_sets(document: bytes) -> None:
    try:
        keys = trust.keys_of(document)
    except ValueError as error:
        assert str(error).startswith(("is no key set", "holds "))  # noqa: PT017  (any other error fails as it is)
    else:
        assert keys
