"""tools/check_code.py: each rule finds what it is for and leaves its like alone; the packages have no offence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.observe import logs
from tools import check_code

ROOT = Path(__file__).resolve().parents[2]
FIELDS = frozenset({"kind", "outcome"})

# Rule, path, code that does it, code like it that does not. What a linter would strike out of a file stands in texts.
EXAMPLES: list[tuple[str, str, str, str]] = [
    ("network", "app/service.py", "import httpx", "import http"),
    ("network", "app/service.py", "from urllib import request", "from urllib import parse"),
    ("network", "app/api/x.py", "from urllib.request import urlopen", "from urllib.parse import quote"),
    ("network", "app/store/x.py", "import requests", "from starlette.requests import Request"),
    ("network", "app/service.py", "import socket", "import socketserver_like"),
    ("network", "app/doctor/x.py", "def f():\n    import aiohttp", "def f():\n    import asyncio"),
    ("client", "app/gateway/x.py", "async with httpx.AsyncClient() as c: pass", "httpx.Request('GET', url)"),
    ("client", "app/gateway/x.py", "httpx.get(url)", "headers.get(url)"),
    ("client", "app/gateway/x.py", "aiohttp.request('GET', url)", "transport.request('GET', url)"),
    ("protection", "app/gateway/x.py", "send(x, follow_redirects=True)", "send(x, follow_redirects=False)"),
    ("protection", "app/gateway/x.py", "Transport(verify=False)", "Transport(verify=context)"),
    ("protection", "app/gateway/x.py", "Session(trust_env=True)", "Session(trust_env=False)"),
    ("protection", "app/gateway/x.py", "session.get(url, ssl=False)", "session.get(url, ssl=context)"),
    ("protection", "app/gateway/x.py", "context.check_hostname = False", "context.check_hostname = True"),
    (
        "protection",
        "app/gateway/x.py",
        "context.verify_mode = ssl.CERT_NONE",
        "context.verify_mode = ssl.CERT_REQUIRED",
    ),
    ("log-name", "app/x.py", "logger = logging.getLogger(__name__)", "log = logging.getLogger(__name__)"),
    ("log-name", "app/x.py", "logging.getLogger('a').info('b')", "log = logging.getLogger('a')\nlog.info('b')"),
    ("log-message", "app/x.py", "log.info(f'patient {x}')", "log.info('answered')"),
    ("log-message", "app/x.py", "log.warning('patient %s', x)", "log.warning('refused', extra={'kind': x})"),
    ("log-message", "app/x.py", "log.error(str(error))", "log.exception('fault', exc_info=error)"),
    ("log-message", "app/x.py", "logging.info('a' + x)", "math.log(x + y)"),
    ("log-message", "app/x.py", "log.log(10, x)", "log.log(10, 'event')"),
    ("log-fields", "app/x.py", "log.info('a', extra={'patient': x})", "log.info('a', extra={'kind': x})"),
    ("log-fields", "app/x.py", "log.info('a', extra=fields)", "log.info('a')"),
    ("log-fields", "app/x.py", "log.info('a', extra={**fields})", "log.info('a', extra={'outcome': 1, 'kind': 2})"),
    ("sql", "app/store/x.py", "c.execute(f'select {x}')", "c.execute('select :x', {'x': x})"),
    ("sql", "app/store/x.py", "c.execute('select ' + x)", "c.execute(select(t.c.x))"),
    ("sql", "app/store/x.py", "text('select %s' % x)", "text('select :x')"),
    ("sql", "app/store/x.py", "text('select {}'.format(x))", "text(STATEMENT)"),
    ("dangerous", "cds_hooks/x.py", "eval(x)", "evaluate(x)"),
    ("dangerous", "app/x.py", "import pickle", "import pickletools_like"),
    ("dangerous", "app/x.py", "import subprocess", "import asyncio"),
    ("dangerous", "app/x.py", "os.system(x)", "os.fsync(x)"),
    ("dangerous", "app/x.py", "yaml.load(x)", "yaml.safe_load(x)"),
    ("dangerous", "app/x.py", "exec(x)", "re.compile(x)"),
    ("assert", "fhir_mappings/x.py", "assert x", "assert_never(x)"),
    ("compare", "app/x.py", "sent_token == self.token", "hmac.compare_digest(sent_token, self.token)"),
    ("compare", "app/x.py", "if secret != given: pass", "if kind == 'token': pass"),
    ("compare", "app/x.py", "a.signature == b", "a.signature is None"),
    ("silent", "app/x.py", "try: f()\nexcept Exception: pass", "try: f()\nexcept ValueError: pass"),
    ("silent", "app/x.py", "try: f()\nexcept: pass", "try: f()\nexcept Exception: raise"),
    ("silent", "app/x.py", "for x in y:\n    try: f()\n    except (KeyError, Exception): continue", "x = 1"),
    ("state", "app/x.py", "SEEN = {}\ndef f(x):\n    SEEN[x] = 1", "SEEN = {}\ndef f(x):\n    return SEEN[x]"),
    ("state", "app/x.py", "SEEN = set()\ndef f(x):\n    SEEN.add(x)", "SEEN = set()\nfor x in y:\n    SEEN.add(x)"),
    ("state", "app/x.py", "A: list[int] = []\ndef f(x):\n    A.append(x)", "A = []\ndef f(A):\n    A.append(1)"),
    ("state", "app/x.py", "N = 0\ndef f():\n    global N\n    N = 1", "N = 0\ndef f():\n    N = 1"),
    (
        "state",
        "app/x.py",
        "A = []\nclass C:\n    def f(self):\n        A.clear()",
        "A = []\ndef f():\n    A = []\n    A.clear()",
    ),
    ("naive-time", "app/x.py", "datetime.now()", "datetime.now(UTC)"),
    ("naive-time", "app/x.py", "datetime.datetime.utcnow()", "now()"),
    ("naive-time", "app/x.py", "datetime.fromtimestamp(x)", "datetime.fromtimestamp(x, UTC)"),
    ("naive-time", "app/x.py", "date.today()", "now.date()"),
    ("chance", "app/x.py", "import random", "import secrets"),
    ("chance", "app/api/x.py", "from random import choice", "from secrets import choice"),
    (
        "cause",
        "app/gateway/x.py",
        "try: f()\nexcept E: raise Ours('x')",
        "try: f()\nexcept E: raise Ours('x') from None",
    ),
    ("cause", "app/store/x.py", "try: f()\nexcept E as e: raise Ours from e", "try: f()\nexcept E as e: raise e"),
    ("cause", "app/api/x.py", "try: f()\nexcept E:\n    if x:\n        raise Ours", "try: f()\nexcept E:\n    raise"),
    (
        "error-text",
        "app/gateway/x.py",
        "try: f()\nexcept E as e: g(str(e))",
        "try: f()\nexcept E as e: g(type(e).__name__)",
    ),
    (
        "error-text",
        "app/store/x.py",
        "try: f()\nexcept E as e: g(f'{e}')",
        "try: f()\nexcept E as e: g(f'{e.strerror}')",
    ),
    ("error-text", "app/api/x.py", "try: f()\nexcept E as e: g(e.args)", "try: f()\nexcept E as e: g(e.status)"),
]


def offences(code: str, *, path: str = "app/x.py") -> list[str]:
    return [one.rule for one in check_code.offences_in(code, path=path, fields=FIELDS)]


@pytest.mark.parametrize(("rule", "path", "bad", "good"), EXAMPLES, ids=[f"{e[0]}-{n}" for n, e in enumerate(EXAMPLES)])
def test_a_rule_finds_what_it_is_for(rule: str, path: str, bad: str, good: str) -> None:
    assert rule in offences(bad, path=path)
    assert rule not in offences(good, path=path)


def test_every_rule_has_an_example_and_says_why() -> None:
    ids = [rule.id for rule in check_code.RULES]
    assert len(set(ids)) == len(ids)
    assert {example[0] for example in EXAMPLES} == set(ids)
    for rule in check_code.RULES:
        assert min(len(text.split()) for text in (rule.what, rule.why, rule.remedy)) >= 2, rule.id
        assert rule.remedy in check_code.explained()[rule.id]


@pytest.mark.parametrize("path", ["app/gateway/door.py", "app/gateway/fhir.py"])
def test_the_gateway_may_talk(path: str) -> None:
    assert offences("import httpx", path=path) == []
    assert offences("import random", path="app/gateway/fhir.py") == []


def test_errors_keep_their_cause_where_no_data_is_in_them() -> None:
    code = "try: f()\nexcept E as e: raise Ours(str(e)) from e"
    assert offences(code, path="app/protocols/loader.py") == []
    assert set(offences(code, path="app/store/x.py")) == {"cause", "error-text"}


# --- marks ------------------------------------------------------------------------------------------------------


def test_a_mark_with_a_reason_allows_its_rule_on_its_line() -> None:
    assert offences("import socket  # allowed: network looks for a free port") == []
    assert offences("import socket  # noqa: X # allowed: network looks for a free port # more") == []
    many = "log.info(\n    f'{x}',  # allowed: log-message x is a constant\n)"
    assert offences(many) == []


@pytest.mark.parametrize(
    ("code", "rules"),
    [
        ("import socket  # allowed: network", ["allowed"]),
        ("import socket  # allowed: sql a good reason given", ["allowed", "network"]),
        ("import json  # allowed: network a good reason given", ["allowed"]),
        ("import json  # allowed: no-such-rule for a good reason", ["allowed"]),
        ("import json  # allowed: network a good reason given\nimport socket", ["allowed", "network"]),
    ],
)
def test_a_mark_that_allows_nothing_or_says_nothing_is_an_offence(code: str, rules: list[str]) -> None:
    assert sorted(offences(code)) == sorted(rules)


# --- the packages -------------------------------------------------------------------------------------------------


def test_the_packages_have_no_offence() -> None:
    read, found = check_code.packages_offences(ROOT)
    assert read > 150
    assert [str(one) for one in found] == []


def test_an_offence_says_where_and_what_to_do() -> None:
    [one] = check_code.offences_in("\nimport socket\n", path="app/x.py", fields=FIELDS)
    assert re.fullmatch(r"app/x\.py:2: network: ask through app\.gateway", str(one))


def test_the_fields_are_those_of_the_log() -> None:
    assert check_code.log_fields((ROOT / check_code.LOGS).read_text(encoding="utf-8")) == logs.FIELDS
    with pytest.raises(ValueError, match="holds no FIELDS"):
        check_code.log_fields("OTHER = {'a'}")
