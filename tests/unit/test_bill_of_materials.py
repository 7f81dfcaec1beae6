"""tools/bill_of_materials.py, and the lock files that it reads. CI runs the tool itself, which takes half a minute."""

from __future__ import annotations

import json
import re
from email.message import Message
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tools import bill_of_materials as tool

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("requirements.lock", "requirements-dev.lock")
DIGESTS = ("a" * 64, "b" * 64)
ONE = tool.Locked("Some_Thing", "1.2", "", DIGESTS)
LINES = f"some-thing==1.2 \\\n    --hash=sha256:{DIGESTS[0]} \\\n    --hash=sha256:{DIGESTS[1]}\n"


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


# --- the locks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_of_a_lock_has_a_hash(name: str) -> None:
    packages = tool.locked(text(name))
    assert len(packages) == len(re.findall(r"^[A-Za-z0-9]", text(name), re.MULTILINE)) > 30
    assert [one.name for one in packages if not one.hashes] == []
    assert sum(len(one.hashes) for one in packages) == text(name).count("--hash="), "each is a SHA-256"
    assert len({(one.key, one.marker) for one in packages}) == len(packages), "each package once on each platform"


@pytest.mark.parametrize("name", LOCKS)
def test_no_lock_holds_an_address_or_an_option(name: str) -> None:
    assert not re.search(r"://|@|^\s*-(?!-hash)", text(name), re.MULTILINE)


def test_what_is_tested_is_what_is_shipped() -> None:
    tested = {one.key: one for one in tool.locked(text("requirements-dev.lock"))}
    for one in tool.locked(text("requirements.lock")):
        assert (tested[one.key].version, tested[one.key].hashes) == (one.version, one.hashes), one.name


def test_a_lock_is_read_with_its_markers() -> None:
    marked = LINES.replace("==1.2", "==1.2 ; sys_platform != 'win32'")
    (found,) = tool.locked(f"# a comment\n{marked}")
    assert found == tool.Locked("some-thing", "1.2", "sys_platform != 'win32'", DIGESTS)


@pytest.mark.parametrize(
    "line", ["--index-url https://example.org/simple", "thing @ https://example.org/thing.whl", "thing>=1", "-e ."]
)
def test_a_line_that_is_no_locked_package_is_refused(line: str) -> None:
    with pytest.raises(tool.Wrong, match="make lock"):
        tool.locked(f"{line}\n{LINES}")


# --- licences -------------------------------------------------------------------------------------------------


def told(**fields: str | list[str]) -> metadata.PackageMetadata:
    message = Message()
    for name, values in fields.items():
        for value in [values] if isinstance(values, str) else values:
            message[name.replace("_", "-")] = value
    return cast("metadata.PackageMetadata", message)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"License_Expression": "MIT AND PSF-2.0", "License": "else"}, "MIT AND PSF-2.0"),
        ({"License": "Apache 2.0"}, "Apache-2.0"),
        ({"License": "BSD-3-Clause"}, "BSD-3-Clause"),
        ({"License": "UNKNOWN", "Classifier": ["License :: OSI Approved :: MIT License"]}, "MIT"),
        ({"Classifier": ["Typing :: Typed", "License :: OSI Approved :: BSD License"]}, "BSD, clauses not stated"),
        ({"License": "A whole text\nthat nobody has read"}, ""),
        ({"Name": "x"}, ""),
    ],
)
def test_a_licence_is_read_from_where_it_stands(fields: dict[str, Any], name: str) -> None:
    assert tool.licence(told(**fields)) == name


@pytest.mark.parametrize("said", ["MIT", "Apache-2.0 AND MIT", "GPL-3.0-only OR MIT", "(MIT OR Apache-2.0) AND ISC"])
def test_what_is_allowed_is_taken(said: str) -> None:
    assert tool.objection("x", said) == ""


@pytest.mark.parametrize(
    "said", ["", "GPL-3.0-only", "MIT AND GPL-3.0-only", "(MIT OR GPL-3.0-only) AND ISC", "MPL-2.0", "Proprietary"]
)
def test_anything_else_needs_somebody_to_allow_it(said: str) -> None:
    assert "x: " in tool.objection("x", said)


def test_a_reciprocal_licence_is_allowed_for_the_package_that_it_was_weighed_for() -> None:
    assert tool.objection("certifi", "MPL-2.0") == ""
    assert tool.objection("certifi", "LGPL-3.0-only")
    shipped = {one.key for one in tool.locked(text("requirements.lock"))}
    assert set(tool.RECIPROCAL) <= shipped
    assert all(len(reason.split()) > 5 for _, reason in tool.RECIPROCAL.values())
    assert tool.RECIPROCAL["certifi"][1] in tool.table([("certifi", "1", "MPL-2.0")])


def test_every_shipped_package_says_a_licence_that_is_allowed() -> None:
    shipped = [one.key for one in tool.locked(text("requirements.lock"))]
    assert [wrong for one in shipped if (wrong := tool.objection(one, tool.licence(metadata.metadata(one))))] == []


# --- the bill -------------------------------------------------------------------------------------------------


def whole() -> dict[str, Any]:
    """What cyclonedx-py says of an environment that holds a tool beside what is shipped."""
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"bom-ref": "root", "name": "rescue-cds", "type": "application"}, "tools": {}},
        "components": [
            {
                "bom-ref": f"{name}==1",
                "name": name,
                "version": version,
                "purl": f"pkg:pypi/{name}@{version}",
                "type": "library",
                "externalReferences": [{"type": "website", "url": address}],
            }
            for name, version, address in (
                ("some.thing", "1.2", "https://example.org/"),
                ("pytest", "9", "https://example.org/pytest"),
            )
        ],
        "dependencies": [
            {"ref": "root", "dependsOn": ["some.thing==1"]},
            {"ref": "some.thing==1", "dependsOn": ["pytest==1"]},
            {"ref": "pytest==1"},
        ],
    }


def test_the_bill_holds_what_is_shipped_with_its_hashes_and_nothing_else() -> None:
    made = tool.bill(whole(), [ONE])
    [component] = made["components"]
    assert component["name"] == "some.thing"
    [site, distribution] = component["externalReferences"]
    assert site["url"] == "https://example.org/"
    assert distribution["url"] == "pkg:pypi/some.thing@1.2"
    assert tuple(one["content"] for one in distribution["hashes"]) == DIGESTS
    assert made["dependencies"] == [{"ref": "root", "dependsOn": ["some.thing==1"]}, {"ref": "some.thing==1"}]
    assert tool.missing(made, [ONE]) == []
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(made)) is None


def test_a_reference_to_a_registry_is_left_out() -> None:
    host = ".".join(("pypi", "org"))
    wide = whole()
    wide["components"][0]["externalReferences"].append({"type": "website", "url": f"https://{host}/project/some/"})
    assert host not in json.dumps(tool.bill(wide, [ONE]))


@pytest.mark.parametrize(
    ("package", "complaint"),
    [
        (tool.Locked("other", "1", "", DIGESTS), "other 1 is not installed"),
        (tool.Locked("some-thing", "1.3", "", DIGESTS), "some-thing 1.3 is not installed"),
        (tool.Locked("other", "1", "os_name == 'x'", DIGESTS), "only where os_name == 'x'"),
        (tool.Locked("some-thing", "1.2", "", ()), "some-thing has no hash"),
    ],
)
def test_what_the_bill_lacks_is_said(package: tool.Locked, complaint: str) -> None:
    [said] = tool.missing(tool.bill(whole(), [package]), [package])
    assert complaint in said
    assert "make " in said


@pytest.mark.parametrize(
    ("lock", "complaint"),
    [
        (LINES, "some-thing 1.2 is not installed"),
        ("some-thing==1.2\n", "some-thing has no hash"),
        ("", "names no package"),
    ],
)
def test_nothing_is_written_of_a_lock_that_is_not_met(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lock: str, complaint: str
) -> None:
    monkeypatch.setattr(tool, "environment", lambda: {**whole(), "components": []})
    with pytest.raises(tool.Wrong, match=complaint):
        tool.write(tmp_path / "build", lock=lock)
    assert not (tmp_path / "build").exists()


def test_both_files_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = metadata.version("certifi")
    made = whole()
    made["components"][0] |= {"name": "certifi", "version": version, "purl": f"pkg:pypi/certifi@{version}"}
    monkeypatch.setattr(tool, "environment", lambda: made)
    lock = LINES.replace("some-thing==1.2", f"certifi=={version}")
    assert tool.write(tmp_path, lock=lock) == (1, 2)
    assert json.loads((tmp_path / tool.BILL).read_text(encoding="utf-8"))["components"][0]["name"] == "certifi"
    assert f"| certifi | {version} | MPL-2.0 |" in (tmp_path / tool.LICENCES).read_text(encoding="utf-8")
