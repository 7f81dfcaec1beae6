from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cds_hooks import strict_json
from cds_hooks.errors import BadRequest

REFUSED = {
    "empty": b"",
    "not json": b"hello",
    "trailing text": b'{"a":1} x',
    "trailing comma": b'{"a":[1,]}',
    "single quotes": b"{'a':1}",
    "comment": b'{"a":1 /* x */}',
    "unclosed": b'{"a":[1',
    "closed too often": b'{"a":1}]]}',
    "mixed brackets": b'{"a":[1}]',
    "NaN": b'{"a":NaN}',
    "Infinity": b'{"a":[-Infinity]}',
    "leading zero": b'{"a":01}',
    "latin-1": '{"a":"é"}'.encode("latin-1"),
    "latin-1 in a key": '{"é":1}'.encode("latin-1"),
    "surrogate as UTF-8": b'{"a":"\xed\xa0\x80"}',
    "byte order mark": b'\xef\xbb\xbf{"a":1}',
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "NUL": b'{"a":"\x00"}',
    "escaped NUL": b'{"a":"x\\u0000"}',
    "broken escape beside a pair": b'{"a":"\\ud83d\\ude00\\u12"}',
    "NUL behind an escaped backslash": b'{"a":"\\\\\\u0000"}',
    "control character": b'{"a":"\x01"}',
    "lone high surrogate": b'{"a":"\\ud800"}',
    "lone low surrogate": b'{"a":"\\uDC00"}',
    "high surrogate and text": b'{"a":"\\ud83dx"}',
    "two high surrogates": b'{"a":"\\ud83d\\uD83d\\ude00"}',
    "two low surrogates": b'{"a":"\\ud83d\\ude00\\ude00"}',
    "surrogates around a backslash": b'{"a":"\\ud83d\\\\\\ude00"}',
    "surrogate in a key": b'{"\\udfff":1}',
    "depth 65": b'{"a":' * 65 + b"1" + b"}" * 65,
    "depth 10,000": b"[" * 10_000 + b"]" * 10_000,
    "depth 10,000, open": b'{"a":[' + b"[" * 10_000,
    "depth hidden by brackets in strings": b'["]",' * 65 + b'"["' + b',"["]' * 65,
    "depth hidden by escaped quotes": b'["\\"]",' * 65 + b"1" + b',"[\\""]' * 65,
    "number of 65 characters": b'{"a":' + b"1" * 65 + b"}",
    "number of 5,000 digits": b'{"a":[' + b"9" * 5_000 + b"]}",
    "long fraction": b'{"a":-0.' + b"1" * 63 + b"}",
    "long exponent": b'{"a":1e-' + b"1" * 63 + b"}",
    "long number of three short runs": b"[-" + b"1" * 21 + b"." + b"1" * 20 + b"e-" + b"1" * 20 + b"]",
    "long number of the shortest runs": b"[-" + b"1" * 15 + b"." + b"1" * 15 + b"e-" + b"1" * 31 + b"]",
    "long number behind a long one in a string": b'{"a":"' + b"1" * 70 + b'","b":' + b"1" * 70 + b"}",
}

ACCEPTED = {
    "scalar": b"1",
    "space around": b' \r\n\t{"a":1} \n',
    "UTF-8": '{"name":"Grüße 😀"}'.encode(),
    "surrogate pair": b'{"a":"\\uD83D\\uDE00\\ud83d\\ude00"}',
    "escaped backslash before u": b'{"a":"\\\\u0000 \\\\ud800"}',
    "backslashes": b'{"a":"\\\\","b":"\\\\\\"[[","c":"\\n\\t\\/"}',
    "depth 64": b'{"a":' * 64 + b"1" + b"}" * 64,
    "depth 20 beside depth 3": b"[" * 20 + b"]" * 19 + b",[[1]]]",
    "64 arrays side by side": b"[" + b"[[]]," * 500 + b"[]]",
    "brackets in strings": b'{"a":"mm[Hg]","b":["[[[[", "}"],"c":"' + b"[" * 500 + b'"}',
    "number of 64 characters": b"[-" + b"1" * 63 + b"]",
    "digits in a string": b'{"a":"' + b"1" * 5_000 + b'","b":"\\"' + b"2" * 100 + b'"}',
    "long OID": b'{"a":"urn:oid:2.16.840.1.113883.10.20.22.4.2.1234567890.1234567890"}',
    "many short numbers": b"[" + b"12345678901234567890," * 50 + b"1]",
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest) as refusal:
        strict_json.check(body)
    assert refusal.value.status == 400
    assert refusal.value.__cause__ is None


@pytest.mark.parametrize("case", [name for name in REFUSED if "surrogate" in name or "NUL" in name])
def test_characters_are_refused_before_any_decoder_sees_them(case: str) -> None:
    with pytest.raises(BadRequest, match=r"surrogate|NUL|UTF-8"):
        strict_json.check_text(REFUSED[case])


@pytest.mark.parametrize("body", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_what_is_accepted(body: bytes) -> None:
    strict_json.check(body)
    json.loads(body)  # so that the list above stays JSON


def test_limits_are_arguments() -> None:
    strict_json.check(b"[[1234]]", max_depth=2, max_number=4)
    with pytest.raises(BadRequest, match="deeply"):
        strict_json.check(b"[[1234]]", max_depth=1)
    with pytest.raises(BadRequest, match="digits"):
        strict_json.check(b"[[1234]]", max_number=3)


def test_brackets_in_strings_are_told_apart_across_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = REFUSED["depth hidden by brackets in strings"]
    flat = b'["[","]]","[[[",{"a":"}"}]'
    for window in (1, 2, 3, 5):
        monkeypatch.setattr(strict_json, "_WINDOW", window)
        strict_json.check(flat, max_depth=2)
        with pytest.raises(BadRequest, match="deeply"):
            strict_json.check(flat, max_depth=1)
        with pytest.raises(BadRequest, match="deeply"):
            strict_json.check(deep)


leaves = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(alphabet='ab[]{}"\\é, :1', max_size=6)
documents = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


def depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


@settings(max_examples=150, deadline=None)
@given(documents, st.booleans())
def test_depth_agrees_with_a_real_parser(value: object, ascii_only: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).replace("\\u0000", "x").replace("\x00", "x").encode()
    limit = depth(json.loads(body))
    strict_json.check(body, max_depth=limit)
    if limit:
        with pytest.raises(BadRequest, match="deeply"):
            strict_json.check(body, max_depth=limit - 1)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=40) | st.text(alphabet='{}[]",:\\u0d8e1N \n', max_size=40).map(str.encode))
def test_only_refusals_leave(body: bytes) -> None:
    for read in (strict_json.check, strict_json.duplicate_free, lambda raw: strict_json.members(raw, name="x")):
        try:
            read(body)
        except BadRequest:
            continue
        json.loads(body)  # what is let through is JSON to others too


def test_a_large_hostile_body_takes_no_time() -> None:
    bodies = [b"[" * (1 << 20), b'"[",' * (1 << 18), b"\\" * (1 << 20), b"1" * 64 + b",", b'"\\ud83d"' * (1 << 17)]
    started = time.perf_counter()
    for body in bodies:
        with pytest.raises(BadRequest):
            strict_json.check(body)
    assert time.perf_counter() - started < 3.0


def test_members_are_raw() -> None:
    raw = b' { "a" : [1, {"b": 2}] ,\n"c":"x" , "\\u0064": 1.50,"n":null } '
    assert strict_json.members(raw, name="x") == {"a": b'[1, {"b": 2}]', "c": b'"x"', "d": b"1.50", "n": b"null"}
    assert strict_json.members(b"{}", name="x") == {}


@pytest.mark.parametrize("raw", [b"[]", b'"a"', b"1", b"null", b"true"])
def test_members_of_something_else(raw: bytes) -> None:
    with pytest.raises(BadRequest, match=r"^prefetch must be a JSON object$"):
        strict_json.members(raw, name="prefetch")


@pytest.mark.parametrize("raw", [b'{"a":', b"", b'{"\xff":1}', b'{"a":' + b"[" * 100_000])
def test_members_of_no_json(raw: bytes) -> None:
    with pytest.raises(BadRequest, match="not valid JSON"):
        strict_json.members(raw, name="x")


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a":12,"a":1}',
        b'{"a":1,"a":12}',
        b'{"a":1,"\\u0061":1}',
        b'{"a":[1],"b":2,"a":[1] }',
        b'{"a":1,"b":2,"a":3,"b":4}',
        b'{ "a" : "x" , "a" : "y" }',
        b'{"a":{"a":1},"a":{"a":1}}',
        b'{"":1,"":1}',
        b'{"a":"x,1","a":12}',
        b'{"a\\"":1,"a\\"":1}',
    ],
)
def test_duplicates_at_the_first_level(raw: bytes) -> None:
    with pytest.raises(BadRequest, match=r"^context has the same key twice$"):
        strict_json.members(raw, name="context")
    with pytest.raises(BadRequest, match="same key twice"):
        strict_json.duplicate_free(raw)


def test_too_many_members() -> None:
    names = [f'"{number}":1' for number in range(strict_json.MAX_MEMBERS + 1)]
    with pytest.raises(BadRequest, match="prefetch has too many members"):
        strict_json.members(b"{" + ",".join(names).encode() + b"}", name="prefetch")
    strict_json.members(b"{" + ",".join(names[1:]).encode() + b"}", name="prefetch")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a", "b", 'c"', "\\", "é"]), leaves), max_size=4), st.booleans())
def test_duplicates_agree_with_a_real_parser(pairs: list[tuple[str, object]], spaced: bool) -> None:
    gap = " " if spaced else ""
    text = ",".join(f"{gap}{json.dumps(key)}{gap}:{gap}{json.dumps(value)}{gap}" for key, value in pairs)
    raw = f"{{{text}}}".encode()
    if len(dict(pairs)) == len(pairs):
        decoded = {key: json.loads(value) for key, value in strict_json.members(raw, name="x").items()}
        assert decoded == dict(pairs)
        strict_json.duplicate_free(raw)
    else:
        with pytest.raises(BadRequest):
            strict_json.members(raw, name="x")
        with pytest.raises(BadRequest):
            strict_json.duplicate_free(raw)


@pytest.mark.parametrize(
    "raw",
    [b'{"a":[{"b":1,"b":1}]}', b"[" * 100_000, b'{"a":NaN}', b"", b'{"a":1', b"\xff", '{"a":1}'.encode("utf-16")],
)
def test_duplicate_free_refuses(raw: bytes) -> None:
    with pytest.raises(BadRequest):
        strict_json.duplicate_free(raw)


def test_duplicate_free_accepts() -> None:
    strict_json.duplicate_free(b'{"a":{"b":1},"b":[' + b"9" * 5_000 + b",1e999]}")
