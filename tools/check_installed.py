"""Every file of the three packages must be in the installed ones too.

The clinical knowledge, migrations, pages and `py.typed` markers are data files: one that
`[tool.setuptools.package-data]` forgets is missing only after a real install, where no test looks. Run with
the interpreter of the clean environment, with the source directory as the only argument; exits 1 and names
each missing file.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

PACKAGES = ("app", "cds_hooks", "fhir_mappings")


def missing_files(source: Path) -> list[str]:
    """Paths, relative to `source`, of package files that the installed packages lack or hold differently."""
    missing = []
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            missing.append(f"{package}: not installed")
            continue
        installed = Path(spec.origin).parent
        if installed.is_relative_to(source):
            missing.append(f"{package}: comes from the source tree, not from an install")
            continue
        for path in sorted((source / package).rglob("*")):
            if not path.is_file() or "__pycache__" in path.parts:
                continue
            copy = installed / path.relative_to(source / package)
            if not copy.is_file() or copy.read_bytes() != path.read_bytes():
                missing.append(str(path.relative_to(source)))
    return missing


def main() -> int:
    """Print what is missing; the exit code says whether anything is."""
    missing = missing_files(Path(sys.argv[1]).resolve())
    for line in missing:
        sys.stderr.write(f"not installed: {line} (see tool.setuptools.package-data in pyproject.toml)\n")
    if not missing:
        sys.stdout.write(f"installed packages are complete: {', '.join(PACKAGES)}\n")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
