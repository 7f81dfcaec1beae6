"""What is shipped, by name, version, licence and hash: `python tools/bill_of_materials.py`.

Writes below build/:

* `sbom.cdx.json`, CycloneDX 1.6, of the packages of requirements.lock and nothing else: made by cyclonedx-py from the
  environment this runs in, whose versions have to be the locked ones, with the hashes that pip compared when it
  installed them. The same lock gives the same file.
* `licences.md`, a table for the person who has to say yes to them.

Exits 1, with a remedy for each, when a package of the lock is not installed in its version, has no hash, is missing
from the bill, or has a licence that nobody has allowed here. Says nothing about known vulnerabilities: without the
network a scanner finds none, and reports that as good news.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess  # nosec B404 # cyclonedx-py has no stable Python interface
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

ROOT: Final = Path(__file__).resolve().parents[1]
LOCK: Final = ROOT / "requirements.lock"
BILL: Final = "sbom.cdx.json"
LICENCES: Final = "licences.md"

PERMISSIVE: Final = frozenset(
    {
        *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "MIT-0", "PSF-2.0"),
        *("Python-2.0", "Unlicense", "Zlib", "BSD, clauses not stated"),
    }
)
RECIPROCAL: Final[Mapping[str, tuple[str, str]]] = {
    "certifi": ("MPL-2.0", "root certificates, installed unchanged; the licence binds changes of its own files only"),
}
"""Package -> the licence that binds more than its own notice, and why that is no obstacle."""

_SAID: Final = {
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd license": "BSD, clauses not stated",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
}
"""What packages write in place of an SPDX name -> the name."""
_WHOLE: Final = {
    "7eebd66a087fed1c7fdfffc342f1c126": "BSD-3-Clause",  # httpx-aiohttp
}
"""First characters of the SHA-256 of a licence's whole text, where the metadata hold that -> its name, read by us."""

_LOCKED: Final = re.compile(
    r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[^\s;\\]+)(?: ; (?P<marker>[^\\\n]+?))?"
    r"(?P<options>(?: \\\n    --hash=\S+)*)$",
    re.MULTILINE,
)
_REGISTRY: Final = re.compile(r"//([\w-]+\.)*(pypi|python|pythonhosted)\.org/(project|pypi|simple|packages)\b")


class Wrong(Exception):
    """Something is missing or not allowed: one line each, with a remedy."""


@dataclass(frozen=True, slots=True)
class Locked:
    """A package of a lock file. `hashes` are of every file that may be installed for it; one of them is."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]

    @property
    def key(self) -> str:
        return normal(self.name)


def normal(name: str) -> str:
    """The one way to write a package's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(text: str) -> tuple[Locked, ...]:
    """The packages of a lock file. Raises Wrong for a line that is none of a package: it may name an address."""
    found = tuple(
        Locked(
            *(match["name"], match["version"], match["marker"] or ""),
            hashes=tuple(re.findall(r"--hash=sha256:([0-9a-f]{64})(?!\S)", match["options"])),
        )
        for match in _LOCKED.finditer(text)
    )
    rest = [line for line in _LOCKED.sub("", text).splitlines() if line.strip() and not line.startswith("#")]
    if rest:
        raise Wrong(f"lock: no package with hashes: {rest[0].strip()[:80]!r}: write the locks anew with `make lock`")
    return found


# --- licences -----------------------------------------------------------------------------------------------


def licence(told: metadata.PackageMetadata) -> str:
    """What the metadata say the licence is, by its SPDX name where it has one; '' when they say nothing."""
    expression = str(told["License-Expression"]).strip() if "License-Expression" in told else ""
    if expression:
        return expression
    written = str(told["License"]).strip() if "License" in told else ""
    if "\n" in written or len(written) > 80:
        return _WHOLE.get(hashlib.sha256(written.encode()).hexdigest()[:32], "")
    heads: list[str] = [
        one.rpartition(" :: ")[2] for one in told.get_all("Classifier") or [] if one.startswith("License :: ")
    ]
    for said in (written, *heads):
        if said and said.lower() != "unknown":
            return _SAID.get(said.lower(), said)
    return ""


def objection(name: str, said: str) -> str:
    """Why this licence is not taken, with a remedy; '' when it is."""
    if not said:
        return f"{name}: its metadata name no licence: read its text, and add the digest to _WHOLE in this tool"
    reciprocal, _ = RECIPROCAL.get(name, ("", ""))
    if said == reciprocal:
        return ""
    # Where there are brackets, every licence that is named has to be allowed: more than may be asked, never less.
    choices = [re.sub(r"[()]", " ", said).replace(" OR ", " AND ")] if "(" in said else said.split(" OR ")
    if any(all(part.strip() in PERMISSIVE for part in choice.split(" AND ")) for choice in choices):
        return ""
    return f"{name}: licence {said!r} is on no list: do without the package, or allow it in RECIPROCAL with a reason"


def table(rows: Sequence[tuple[str, str, str]]) -> str:
    """The page: name, version, licence of every shipped package, and the reasons for those that bind more."""
    lines = [
        "# Licences of what is shipped",
        "",
        f"{len(rows)} packages of requirements.lock, as their own metadata say. Written by tools/bill_of_materials.py.",
        "",
        "| package | version | licence |",
        "|---|---|---|",
        *(f"| {name} | {version} | {said} |" for name, version, said in rows),
        "",
    ]
    shipped = {name for name, _, _ in rows}
    for name, (said, reason) in RECIPROCAL.items():
        if name in shipped:
            lines += [f"{name} ({said}): {reason}.", ""]
    return "\n".join(lines)


# --- the bill -----------------------------------------------------------------------------------------------


def bill(whole: Mapping[str, Any], packages: Sequence[Locked]) -> dict[str, Any]:
    """The bill of an environment, of these packages alone and with their hashes.

    The hashes are those of distributions and so stand at a reference of that type, whose address is the package's own
    identifier: where a site gets it from is the site's affair. References to a registry are left out for that reason.
    """
    known = {package.key: package for package in packages}
    components = []
    for component in whole.get("components", ()):
        package = known.get(normal(component["name"]))
        if package is None or component.get("version") != package.version:
            continue
        elsewhere = [one for one in component.get("externalReferences", ()) if not _REGISTRY.search(one["url"])]
        distribution = {
            "type": "distribution",
            "url": component["purl"],
            "comment": "the files that requirements.lock allows; pip compared the one it installed",
            "hashes": [{"alg": "SHA-256", "content": digest} for digest in package.hashes],
        }
        components.append({**component, "externalReferences": [*elsewhere, distribution]})
    root = whole["metadata"]["component"]["bom-ref"]
    refs = {component["bom-ref"] for component in components} | {root}
    dependencies = []
    for one in whole.get("dependencies", ()):
        if one["ref"] in refs:
            needed = [ref for ref in one.get("dependsOn", ()) if ref in refs]
            dependencies.append({"ref": one["ref"]} | ({"dependsOn": needed} if needed else {}))
    about = {"component": whole["metadata"]["component"], "properties": whole["metadata"].get("properties", [])}
    return {**whole, "metadata": about, "components": components, "dependencies": dependencies}


def missing(made: Mapping[str, Any], packages: Sequence[Locked]) -> list[str]:
    """What of the lock the bill does not hold, with remedies."""
    found = {normal(one["name"]): one for one in made["components"]}
    wrong = []
    for package in packages:
        component = found.get(package.key)
        if component is None or component["version"] != package.version:
            where = f" (only where {package.marker})" if package.marker else ""
            wrong.append(f"{package.name} {package.version} is not installed{where}: run `make dev` on Linux first")
        elif not any(one.get("hashes") for one in component["externalReferences"]):
            wrong.append(f"{package.name} has no hash: write the locks anew with `make lock`")
    return wrong


def environment() -> dict[str, Any]:
    """The bill of everything that is installed beside this interpreter. Raises Wrong when it cannot be made."""
    command = [sys.executable, "-m", "cyclonedx_py", "environment", sys.executable]
    options = ["--pyproject", str(ROOT / "pyproject.toml"), "--output-reproducible", "--no-validate"]
    made = subprocess.run(  # noqa: S603 # nosec B603 # a fixed command of this interpreter
        [*command, *options, "--spec-version", "1.6", "--output-format", "JSON"], capture_output=True, check=False
    )
    if made.returncode:
        raise Wrong(f"cyclonedx-py failed: {made.stderr.decode(errors='replace').strip()[-300:]}: run `make dev` first")
    whole: dict[str, Any] = json.loads(made.stdout)
    return whole


def write(folder: Path, *, lock: str) -> tuple[int, int]:
    """Write both files; how many packages and how many hashes they hold. Raises Wrong, and then writes nothing."""
    packages = locked(lock)
    if not packages:
        raise Wrong("the lock names no package: write it anew with `make lock`")
    wrong = [f"{one.name} has no hash: write the locks anew with `make lock`" for one in packages if not one.hashes]
    rows = []
    for package in packages:
        try:
            told = metadata.metadata(package.name)
        except metadata.PackageNotFoundError:
            continue  # said by `missing`
        said = licence(told)
        rows.append((package.key, package.version, said))
        wrong += filter(None, [objection(package.key, said)])
    made = bill(environment(), packages)
    wrong += missing(made, packages)
    text = json.dumps(made, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    if not wrong and (error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)):
        wrong.append(f"the bill is no CycloneDX 1.6: {str(error)[:300]}")
    if wrong:
        raise Wrong("\n".join(wrong))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / BILL).write_text(text, encoding="utf-8")
    (folder / LICENCES).write_text(table(rows), encoding="utf-8")
    return len(packages), sum(len(package.hashes) for package in packages)


def main() -> int:
    """Write both files below build/, print counts; 1 when something is missing or not allowed."""
    try:
        packages, hashes = write(ROOT / "build", lock=LOCK.read_text(encoding="utf-8"))
    except Wrong as wrong:
        sys.stderr.write(f"{wrong}\n")
        return 1
    sys.stdout.write(f"build/{BILL}: {packages} packages, {hashes} hashes, valid CycloneDX 1.6\n")
    sys.stdout.write(f"build/{LICENCES}: {packages} licences, each allowed\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
