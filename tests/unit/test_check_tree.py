"""tools/check_tree.py against small git trees. What must be found is written in pieces, or this file would be."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]

HOSTS = [
    "py" + "pi.org",
    "PY" + "PI.ORG",
    "files.python" + "hosted.org",
    "registry.np" + "mjs.org",
    "static.crates" + ".io",
    "proxy.go" + "lang.org",
    "repo1.ma" + "ven.org",
    "deb.deb" + "ian.org",
]
PATHS = [
    "/wo" + "rk/main/app",
    "/ro" + "ot/.cache",
    "/ho" + "me/ann/src",
    "/Us" + "ers/ann/src",
    "/op" + "t/wheels",
    "/tm" + "p/bash_jobs.0/1",
]


@pytest.fixture(scope="module")
def check_tree() -> ModuleType:
    """The script as a module: tools/ is no package."""
    spec = importlib.util.spec_from_file_location("check_tree", ROOT / "tools" / "check_tree.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A git work tree without offence."""
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    write(tmp_path / ".ci" / "run", "#!/bin/sh\n").chmod(0o755)
    return tmp_path


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def found(check_tree: ModuleType, tree: Path) -> list[str]:
    return [str(offence) for offence in check_tree.offences_in(tree)]


def test_a_clean_tree_has_no_offence(check_tree: ModuleType, tree: Path) -> None:
    words = ("See https://example.org/wor", "k/ and docs/home/page, crates", ".iota, notpy", "pi.org\n")
    write(tree / "README.md", "".join(words))
    assert found(check_tree, tree) == []


@pytest.mark.parametrize("host", HOSTS)
def test_a_registry_address_is_named_with_its_line(check_tree: ModuleType, tree: Path, host: str) -> None:
    write(tree / "a.lock", f"one\n--index-url https://{host}/simple\n")
    (offence,) = found(check_tree, tree)
    assert offence.startswith("a.lock:2: package registry address ")
    assert offence.split()[-1] in host


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("line", ["{}", 'x = "{}"', "file://{}", "--find-links={}", "see {}."])
def test_a_machine_path_is_named_with_its_line(check_tree: ModuleType, tree: Path, path: str, line: str) -> None:
    write(tree / "docs" / "a.md", "\n\n" + line.format(path) + "\n")
    (offence,) = found(check_tree, tree)
    assert offence.startswith("docs/a.md:3: path of one machine /")


def test_size_is_limited_at_the_byte(check_tree: ModuleType, tree: Path) -> None:
    write(tree / "fits.bin", b"\0" * check_tree.LARGEST_BYTES)
    write(tree / "large.bin", b"\0" * (check_tree.LARGEST_BYTES + 1))
    assert found(check_tree, tree) == ["large.bin: 1500001 bytes; 1500000 are allowed"]


def test_scripts_are_executable(check_tree: ModuleType, tree: Path) -> None:
    (tree / ".ci" / "run").chmod(0o644)
    write(tree / "tools" / "a.sh", "#!/bin/sh\n").chmod(0o644)
    write(tree / "tools" / "b.py", "").chmod(0o644)
    assert found(check_tree, tree) == [
        ".ci/run: not executable: chmod +x .ci/run",
        "tools/a.sh: not executable: chmod +x tools/a.sh",
    ]


def test_a_tree_without_a_ci_script_is_an_offence(check_tree: ModuleType, tree: Path) -> None:
    (tree / ".ci" / "run").unlink()
    assert found(check_tree, tree) == [".ci/run: missing"]


def test_ignored_binary_and_deleted_files_are_not_searched(check_tree: ModuleType, tree: Path) -> None:
    forbidden = "https://py" + "pi.org/"
    write(tree / ".gitignore", "ignored.txt\n")
    write(tree / "ignored.txt", forbidden)
    write(tree / "picture.png", b"\x89PNG\0" + forbidden.encode())
    gone = write(tree / "gone.txt", forbidden)
    subprocess.run(["git", "-C", str(tree), "add", "gone.txt"], check=True)
    gone.unlink()
    assert found(check_tree, tree) == []


def test_a_symlink_to_a_machine_path_is_an_offence(check_tree: ModuleType, tree: Path) -> None:
    (tree / "data").symlink_to("/ho" + "me/ann/data")
    (offence,) = found(check_tree, tree)
    assert offence.startswith("data:1: path of one machine ")


def test_outside_a_work_tree_nothing_passes(
    check_tree: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(subprocess.CalledProcessError):
        check_tree.offences_in(tmp_path)


def test_this_tree_is_clean(capsys: pytest.CaptureFixture[str], check_tree: ModuleType) -> None:
    code = check_tree.main()
    captured = capsys.readouterr()
    assert captured.err == ""
    assert code == 0
