"""Where a key stands in a TOML file, and what is said about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.configuration import File, Model, SettingsError, base, origin

TEXT = '''# [[tenants]] in a comment
title = """
[[tenants]]
zone = "in a text"
"""

[service]
host = "127.0.0.1"   # [service]
"port" = 1

# about the next one
[[tenants]]
name = "a"
fhir_bases = [
  "https://a.example.org",   # one

  "https://b.example.org",
]
backend = { key_id = "k", key_file = "x" }

[tenants.more]
deep.er = 1

[[tenants]]
zone = "UTC"
name = "b"
'''


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("title", 2),
        ("service", 7),
        ("service.host", 8),
        ("service.port", 9),
        ("service.missing", 7),
        ("tenants", 12),
        ("tenants[0]", 12),
        ("tenants[0].name", 13),
        ("tenants[0].fhir_bases", 14),
        ("tenants[0].fhir_bases[1]", 14),
        ("tenants[0].fhir_bases[7]", 14),
        ("tenants[0].backend.key_id", 19),
        ("tenants[0].more.deep.er", 22),
        ("tenants[0].zone", 12),
        ("tenants[1]", 24),
        ("tenants[1].zone", 25),
        ("tenants[1].name", 26),
        ("tenants[2].name", 12),
        ("clients", 1),
        ("", 1),
    ],
)
def test_the_line_of_a_key(tmp_path: Path, key: str, line: int) -> None:
    path = tmp_path / "c.toml"
    path.write_text(TEXT, encoding="utf-8")
    assert File(path).line(key) == line


def test_windows_lines_are_counted_alike(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(TEXT.replace("\n", "\r\n").encode())
    assert File(path).line("tenants[1].zone") == 25


def test_an_error_is_told_with_file_line_key_and_remedy_and_once(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[service]\nport = 'canary'\n", encoding="utf-8")

    class Service(Model):
        port: int

    class Whole(Model):
        service: Service

    file = File(path)
    with pytest.raises(SettingsError) as caught:
        file.validated(Whole)
    assert str(caught.value).startswith(f"{path}:2: service.port: ")
    assert "canary" not in str(caught.value)
    assert str(file.located(caught.value)) == str(caught.value)


def test_what_is_no_configuration_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(SettingsError, match="larger than 1 MiB"):
        File(path)


@pytest.mark.parametrize("url", ["https://*.example.org", "https://fhir.example.org/*", "*"])
def test_no_wildcard_is_an_address(url: str) -> None:
    with pytest.raises(SettingsError, match="k: no wildcards"):
        base(url, key="k", http=True)
    with pytest.raises(SettingsError, match="k: no wildcards"):
        origin(url, key="k", http=True)
