"""What no file of the tree may hold, whoever wrote it.

* The host name of a package registry: installs must work from whatever index a site has set up, and an
  address in a lock file would pin one.
* A path of one developer's machine: it means nothing on the next machine and tells about the first.
* More than 1.5 MB: a clone is part of the first two commands a newcomer types.
* `.ci/run` and the scripts in `tools/` without their executable bit.

Looks at the files that git tracks or would add. Prints `file:line: what`, and exits 1 if there is any.
"""

from __future__ import annotations

import os
import re
import subprocess  # nosec B404 # git lists the files
import sys
from dataclasses import dataclass
from pathlib import Path

LARGEST_BYTES = 1_500_000

# Written in pieces, so that this file does not find itself.
_REGISTRY_HOSTS = tuple(
    name.replace(" ", "")
    for name in (
        "pypi .org",
        "pythonhosted .org",
        "npmjs .org",
        "yarnpkg .com",
        "crates .io",
        "proxy.golang .org",
        "repo1 .maven .org",
        "repo .maven.apache .org",
        "rubygems .org",
        "deb .debian .org",
        "security .debian .org",
        "archive.ubuntu .com",
    )
)
_MACHINE_PATHS = tuple(
    path.replace(" ", "")
    for path in (
        "/w ork/",
        "/r oot/",
        "/h ome/",
        "/U sers/",
        "/o pt/wheels",
        "/o pt/hostedtoolcache",
        "/t mp/bash_jobs",
        "/v ar/folders/",
        "C:\\U sers\\",
    )
)


def _any_of(words: tuple[str, ...]) -> str:
    return "|".join(re.escape(word) for word in words)


# A host may follow a dot or a slash (a subdomain, an address), but not be the tail of a longer name.
_REGISTRY = re.compile(rf"(?<![\w-])(?:{_any_of(_REGISTRY_HOSTS)})(?![\w-])", re.IGNORECASE)
# A machine path starts a word: the path of an address, or of a folder inside the tree, is none.
_MACHINE = re.compile(rf"(?<![\w.~*)}}\]-])(?:{_any_of(_MACHINE_PATHS)})")


@dataclass(frozen=True, slots=True)
class Offence:
    """One thing to mend; `line` is 0 where the whole file is meant."""

    path: str
    line: int
    what: str

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else self.path
        return f"{place}: {self.what}"


def tree_files(root: Path) -> list[str]:
    """Paths below `root` that git tracks or would add, without those deleted in the work tree.

    Raises subprocess.CalledProcessError where `root` is no git work tree: checking nothing is not passing.
    """
    listed = subprocess.run(  # nosec B603, B607 # a fixed command, the git of the PATH
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607 (git of the PATH)
        cwd=root,
        check=True,
        capture_output=True,
    )
    names = sorted(set(os.fsdecode(listed.stdout).split("\0")) - {""})
    return [name for name in names if os.path.lexists(root / name)]


def offences_in(root: Path) -> list[Offence]:
    """All offences of the tree at `root`, in the order of its paths."""
    names = tree_files(root)
    found = [] if ".ci/run" in names else [Offence(".ci/run", 0, "missing")]
    for name in names:
        found += _file_offences(root / name, name=name)
    return found


def _file_offences(path: Path, *, name: str) -> list[Offence]:
    if path.is_symlink():
        return _text_offences(os.readlink(path), name=name)
    found = []
    size = path.stat().st_size
    if size > LARGEST_BYTES:
        found.append(Offence(name, 0, f"{size} bytes; {LARGEST_BYTES} are allowed"))
    if _must_be_executable(name) and not path.stat().st_mode & 0o111:
        found.append(Offence(name, 0, f"not executable: chmod +x {name}"))
    content = path.read_bytes()
    if b"\0" not in content[:8192]:  # a picture or a database is no text to search
        found += _text_offences(content.decode("utf-8", errors="replace"), name=name)
    return found


def _must_be_executable(name: str) -> bool:
    return name == ".ci/run" or (name.startswith("tools/") and name.endswith(".sh"))


def _text_offences(text: str, *, name: str) -> list[Offence]:
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        if match := _REGISTRY.search(line):
            found.append(Offence(name, number, f"package registry address {match.group()}"))
        if match := _MACHINE.search(line):
            found.append(Offence(name, number, f"path of one machine {match.group()}"))
    return found


def main() -> int:
    """Print the offences of the tree this file lies in; the exit code says whether there are any."""
    root = Path(__file__).resolve().parent.parent
    offences = offences_in(root)
    for offence in offences:
        sys.stderr.write(f"{offence}\n")
    if not offences:
        sys.stdout.write(f"tree: {len(tree_files(root))} files, nothing that must not be in them\n")
    return 1 if offences else 0


if __name__ == "__main__":
    sys.exit(main())
