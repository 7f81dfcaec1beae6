"""The address: two kinds of database, nothing of a password anywhere, TLS as it says."""

from __future__ import annotations

import pytest

from app.store import address
from app.store.errors import BadDatabase

HOST = "postgresql://ehr:secret-word@db.example.org"


@pytest.mark.parametrize("driver", ["postgresql", "postgres", "postgresql+asyncpg"])
def test_postgresql_has_one_driver(driver: str) -> None:
    assert address.parsed(f"{driver}://u@h/d").drivername == "postgresql+asyncpg"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "not a database address: write sqlite"),
        ("secret-word", "not a database address"),
        ("postgresql://u:secret-word@h:port/d", "not a database address"),
        ("mysql://u:secret-word@h/d", "SQLite or PostgreSQL: write"),
        ("sqlite:///secret-word.db", "write sqlite\\+aiosqlite:///"),
        ("postgresql+psycopg://u:secret-word@h/d", "write .* postgresql\\+asyncpg://"),
        ("postgresql://u:secret-word@h", "names no database"),
        ("postgresql://u:secret-word@h/d?sslmod=require", "not known \\(sslmod\\): ssl, sslmode"),
        ("postgresql://u@h/d?secret-word=x", "not known \\(one\\)"),
        ("postgresql://u:secret-word@h/d?ssl=secret-word", "write one of disable"),
    ],
)
def test_an_address_that_is_none_says_the_remedy_and_nothing_of_it(url: str, said: str) -> None:
    with pytest.raises(BadDatabase, match=said) as refused:
        address.parsed(url)
    assert "secret-word" not in str(refused.value)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("ssl=require&sslrootcert=/secret-word.pem", "goes with ssl=verify-full"),
        ("sslcert=/secret-word.pem", "sslcert in the database address goes with"),
        ("ssl=verify-full&sslrootcert=/none/secret-word.pem", "not a readable file"),
    ],
)
def test_certificates_that_would_not_be_used_are_refused(query: str, said: str) -> None:
    with pytest.raises(BadDatabase, match=said) as refused:
        address.tls(address.parsed(f"{HOST}/d?{query}"))
    assert "secret-word" not in str(refused.value)


def test_a_name_is_checked_when_the_address_says_so() -> None:
    full, ca = (address.tls(address.parsed(f"{HOST}/d?ssl={mode}")) for mode in ("verify-full", "verify-ca"))
    assert not isinstance(full, str | None)
    assert not isinstance(ca, str | None)
    assert (full.check_hostname, ca.check_hostname) == (True, False)
    assert full.verify_mode == ca.verify_mode == 2
    assert address.tls(address.parsed(f"{HOST}/d?sslmode=require")) == "require"
    assert address.tls(address.parsed(f"{HOST}/d")) is None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite+aiosqlite:////data/x.db", "SQLite, /data/x.db"),
        ("sqlite+aiosqlite://", "SQLite in memory"),
        ("sqlite+aiosqlite:///:memory:", "SQLite in memory"),
        (f"{HOST}/cds", "PostgreSQL, db.example.org/cds"),
        (f"{HOST}:5433/cds?ssl=require", "PostgreSQL, db.example.org:5433/cds"),
        ("postgresql://ehr:secret-word@/cds?host=/run/postgresql", "PostgreSQL, /run/postgresql/cds"),
        ("postgresql://ehr:secret-word@/cds", "PostgreSQL, the local socket/cds"),
    ],
)
def test_people_are_shown_the_kind_and_the_place(url: str, shown: str) -> None:
    assert address.shown(address.parsed(url)) == shown


@pytest.mark.parametrize(
    ("url", "is_open"),
    [
        ("sqlite+aiosqlite:////data/x.db", False),
        (f"{HOST}/cds", True),
        (f"{HOST}/cds?ssl=prefer", True),
        (f"{HOST}/cds?sslmode=allow", True),
        (f"{HOST}/cds?ssl=require", False),
        (f"{HOST}/cds?sslmode=verify-full", False),
        (f"{HOST}/cds?ssl=disable", False),
        ("postgresql://u@127.0.0.1/cds", False),
        ("postgresql://u@[::1]/cds", False),
        ("postgresql://u@localhost/cds", False),
        ("postgresql://u@127.example.org/cds", True),
        ("postgresql://u@10.0.0.5/cds", True),
        ("postgresql://u@/cds?host=/run/postgresql", False),
        ("postgresql://u@/cds?host=db.example.org", True),
        ("postgresql://u@/cds?host=localhost:5432&host=db.example.org:5432", True),
    ],
)
def test_a_line_is_open_when_patient_data_would_cross_a_network_in_plain_text(url: str, is_open: bool) -> None:
    assert address.is_open_line(address.parsed(url)) is is_open
