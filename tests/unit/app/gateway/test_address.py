"""Addresses: parsed comparison, and links that may not leave their base."""

from __future__ import annotations

import pytest

from app.gateway import address

BASE = "https://fhir.example.org/r4"

SAME = [
    "https://fhir.example.org/r4",
    "https://fhir.example.org/r4/",
    "HTTPS://FHIR.Example.ORG/r4",
    "https://fhir.example.org:443/r4",
]
OTHER = [
    "",
    "fhir.example.org/r4",
    "//fhir.example.org/r4",
    "http://fhir.example.org/r4",
    "https://fhir.example.org/R4",
    "https://fhir.example.org",
    "https://fhir.example.org/",
    "https://fhir.example.org:8443/r4",
    "https://fhir.example.org:/r4",
    "https://fhir.example.org:99999/r4",
    "https://fhir.example.org:x/r4",
    "https://fhir.example.org./r4",
    "https://fhir.example.org.evil.example/r4",
    "https://evilfhir.example.org/r4",
    "https://fhir.example.org/r4.evil",
    "https://fhir.example.org/r4/x",
    "https://fhir.example.org/r4/..",
    "https://fhir.example.org/r4/../r4",
    "https://fhir.example.org/./r4",
    "https://fhir.example.org//r4",
    "https://fhir.example.org/r4//",
    "https://fhir.example.org/%72%34",
    "https://fhir.example.org/x/%2e%2e/r4",
    "https://fhir.example.org/r4%00",
    "https://fhir.example.org/r4?",
    "https://fhir.example.org/r4?x=1",
    "https://fhir.example.org/r4#",
    "https://fhir.example.org/r4#x",
    "https://evil.example#@fhir.example.org/r4",
    "https://evil.example?@fhir.example.org/r4",
    "https://fhir.example.org@evil.example/r4",
    "https://user@fhir.example.org/r4",
    "https://user:pw@fhir.example.org/r4",
    "https://@fhir.example.org/r4",
    "https://evil.example\\@fhir.example.org/r4",
    "https://fhir.example.org\\r4",
    "https:\\\\fhir.example.org\\r4",
    "https:/fhir.example.org/r4",
    "https:fhir.example.org/r4",
    "https:///fhir.example.org/r4",
    " https://fhir.example.org/r4",
    "https://fhir.example.org/r4 ",
    "https://fhir.example.org/r4\n",
    "https://fhir.ex\tample.org/r4",
    "https://fhir.example.org\u3002evil/r4",
    "https://fh\u0131r.example.org/r4",
    "https://\uff46hir.example.org/r4",
    "https://fhir\u2024example.org/r4",
    "https://fhir.example.org\x00.evil/r4",
    "https://[::1]/r4",
    "https://[fhir.example.org]/r4",
    "https://[::ffff:127.0.0.1]/r4",
    "https://2130706433/r4",
    "https://0x7f.0.0.1/r4",
    "https://127.0.0.1/r4",
    "file:///etc/passwd",
    "gopher://fhir.example.org/r4",
    "javascript:https://fhir.example.org/r4",
    "jar:https://fhir.example.org/r4",
    "https://fhir.example.org/r4;x=1",
    "https://" + "a" * 9000,
]

# Relative, or below the base, or with a query: no base addresses, but links that lead nowhere else.
ALLOWED_AS_LINKS = {"", "fhir.example.org/r4", f"{BASE}/x", f"{BASE}?", f"{BASE}?x=1"}


@pytest.mark.parametrize("sent", SAME)
def test_the_configured_base_is_found(sent: str) -> None:
    assert address.find(sent, (BASE,)) == BASE


@pytest.mark.parametrize("sent", OTHER)
def test_anything_else_is_not(sent: str) -> None:
    assert address.find(sent, (BASE,)) is None


def test_ipv6_and_ports_are_written_back() -> None:
    base = address.parse("http://[::1]:8080/fhir/")
    assert str(base) == "http://[::1]:8080/fhir"
    assert base.loopback
    assert not address.parse(BASE).loopback


@pytest.mark.parametrize(
    "url",
    [
        "https://user:secret@fhir.example.org/r4",
        "https://user:secret/x@fhir.example.org/r4",
        "https://fhir.example.org:secret/r4",
        "https://[secret]/r4",
        "https://[secret/r4",
        "https://secret|x/r4",
        "https://fhir.example.org/secret/../r4",
    ],
)
def test_errors_do_not_hold_the_address(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        address.parse(url)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("host", ["fhir.example.org", "v1.fhir", "vf.127.0.0.1", "127.0.0.1"])
def test_brackets_are_for_ipv6(host: str) -> None:
    with pytest.raises(ValueError):
        address.parse(f"https://[{host}]/r4")


@pytest.mark.parametrize(
    ("link", "url"),
    [
        (f"{BASE}?_getpages=a&_getpagesoffset=20", f"{BASE}?_getpages=a&_getpagesoffset=20"),
        (f"{BASE}/Observation?page=2%7C", f"{BASE}/Observation?page=2%7C"),
        (f"{BASE}/Observation/next", f"{BASE}/Observation/next"),
        ("HTTPS://fhir.EXAMPLE.org:443/r4?x", f"{BASE}?x"),
        ("Observation?page=2", f"{BASE}/Observation?page=2"),
        ("/r4/Observation?u=http://other", f"{BASE}/Observation?u=http://other"),
    ],
)
def test_a_link_below_the_base_is_followed_there(link: str, url: str) -> None:
    assert address.page(link, base=BASE) == url


@pytest.mark.parametrize(
    "link",
    [
        *(item for item in OTHER if item not in ALLOWED_AS_LINKS),
        "https://fhir.example.org/r45?x",
        "/other?x",
        "../other?x",
        "//evil.example/r4?x",
        f"{BASE}/../admin?x",
        f"{BASE}/%2e%2e/admin?x",
    ],
)
def test_a_link_elsewhere_is_refused(link: str) -> None:
    with pytest.raises(ValueError):
        address.page(link, base=BASE)
