"""A real FHIR server for tests and for the demo: builds, starts, loads and steers the HAPI server in `server/`.

`python -m tests.hapi.hapi build|run|demo` from the top of the checkout, or `make hapi`, `make demo FHIR=hapi`. Tests
use the fixtures of `conftest.py`. What is built lies outside the checkout, in RESCUE_CDS_HAPI_CACHE, by default
`rescue-cds/hapi` in the user's cache folder, under names that change with the sources: several clones share it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

import httpx
import msgspec

from app import cli
from app.sandbox import patients

SOURCES: Final = Path(__file__).resolve().parent / "server"
HOST: Final = "127.0.0.1"
START_SECONDS: Final = 180
LOAD_SECONDS: Final = 300
BUILD_SECONDS: Final = 1800
"""The first build fetches 300 MB, over whatever line there is."""

MAIN_CLASS: Final = "org.rescuecds.hapi.TestServer"
JVM_FLAGS: Final = (
    "-Xms512m",
    "-Xmx1500m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:MetaspaceSize=256m",
    "-Djava.awt.headless=true",
)
OLDEST_JAVA: Final = 17
RELOAD_SECONDS: Final = 3600
"""The demo's patients are charted anew once an hour, as in the embedded sandbox, so that no story goes stale."""

_UNRESOLVED: Final = re.compile(r"Could not (?:resolve|transfer|find artifact)|could not be resolved|in offline mode")


class Unavailable(Exception):
    """This machine cannot have the server: Java, Maven or an artifact is absent. The text says which."""


class HapiError(RuntimeError):
    """The server could not be built, did not start, or refused what it was given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What the server does to which requests; all rules that match act, in order (see `server/.../Rule.java`).

    A request matches that has everything named: `method`, resource `type`, the `patient` (id) who is read or searched
    for, text that its decoded path and parameters contain, and whether it is a further `page` of a search.
    `times` 0 is for ever. `status` is answered with an OperationOutcome, and with `retry_after` if given.
    """

    method: str | None = None
    type: str | None = None
    patient: str | None = None
    contains: str | None = None
    page: bool | None = None
    times: int = 0
    latency_ms: int = 0
    status: int = 0
    retry_after: str | None = None
    require_bearer: str | None = None
    html: bool = False
    truncate: bool = False
    without_total: bool = False

    def as_json(self) -> dict[str, Any]:
        match = {name: getattr(self, name) for name in ("method", "type", "patient", "contains", "page")}
        return {
            "match": match,
            "times": self.times,
            "latencyMs": self.latency_ms,
            "status": self.status,
            "retryAfter": self.retry_after,
            "requireBearer": self.require_bearer,
            "html": self.html,
            "truncate": self.truncate,
            "withoutTotal": self.without_total,
        }


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that the server saw (see `server/.../Seen.java`). A further page has its search's type and patients."""

    method: str
    path: str
    type: str | None
    patients: list[str]
    parameters: dict[str, list[str]]
    page: bool
    cache_control: str | None
    prefer: str | None
    authorization: bool


@dataclass(slots=True)
class Server:
    """A running server. `base` is its FHIR base; the rest steers it from beside FHIR."""

    port: int
    jar: Path
    libraries: Path
    say: Callable[[str], None]
    _process: subprocess.Popen[bytes] | None = None
    _gave_up: bool = False
    _log: IO[bytes] = field(default_factory=tempfile.TemporaryFile)

    @property
    def base(self) -> str:
        return f"http://{HOST}:{self.port}/fhir"

    @contextmanager
    def rules(self, *rules: Rule) -> Iterator[None]:
        """The rules hold inside the block, and no others are touched: tests do not disturb each other."""
        ids = self.add(*rules)
        try:
            yield
        finally:
            if self.alive:
                for id_ in ids:
                    self._ask("DELETE", f"rules/{id_}")

    def add(self, *rules: Rule) -> list[str]:
        """Rules that hold until `clear`; their ids."""
        return list(self._ask("POST", "rules", [rule.as_json() for rule in rules]))

    def clear(self) -> None:
        """Take all rules back, and forget the requests seen."""
        self._ask("DELETE", "rules")
        self._ask("DELETE", "requests")

    def requests(self, *, patient: str | None = None, type: str | None = None) -> list[Seen]:  # noqa: A002
        """The newest 2,000 requests in order of arrival: of all, or for one patient, or one resource type."""
        found = (
            Seen(
                method=each["method"],
                path=each["path"],
                type=each["type"],
                patients=each["patients"],
                parameters=each["parameters"],
                page=each["page"],
                cache_control=each["cacheControl"],
                prefer=each["prefer"],
                authorization=each["authorization"],
            )
            for each in self._ask("GET", "requests")
        )
        return [each for each in found if (patient is None or patient in each.patients) and type in (None, each.type)]

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Raises HapiError when it does not answer in time; says what it wrote to its log."""
        classpath = os.pathsep.join([str(self.jar), *sorted(str(each) for each in self.libraries.iterdir())])
        command = [_java(), *JVM_FLAGS, "-cp", classpath, MAIN_CLASS, f"--server.port={self.port}"]
        # A session of its own: Ctrl-C is for whoever started it. Its input is a pipe that ends with this process.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=self._log, stderr=self._log, start_new_session=True
        )
        started = time.monotonic()
        try:
            self._wait(started)
        except BaseException:
            self.stop()
            raise
        self.say(f"HAPI is ready after {time.monotonic() - started:.0f} s: {self.base}")

    def _wait(self, started: float) -> None:
        told = 0.0
        while True:
            if not self.alive:
                raise HapiError(f"HAPI ended while it started; its log says:\n{self._said()}")
            try:
                if httpx.get(f"{self.base}/metadata", timeout=30, trust_env=False).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            waited = time.monotonic() - started
            if waited > START_SECONDS:
                raise HapiError(f"HAPI did not answer within {START_SECONDS} s; its log says:\n{self._said()}")
            if waited - told >= 10:
                told = waited
                self.say(f"HAPI is starting, {waited:.0f} s (usually about 40, more on a busy machine) ...")
            time.sleep(0.3)

    def kill(self) -> None:
        """End it at once, in the middle of whatever it answers."""
        if self._process is not None:
            self._process.kill()
            self._reap(self._process)

    def stop(self) -> None:
        """End it by ending its input, as happens by itself when this process ends."""
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
        self._reap(process)

    def _reap(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdin is not None:
            process.stdin.close()
        process.wait()
        self._process = None

    def revive(self) -> None:
        """Start it again if a test before killed it; one that did not start once is not tried again."""
        if self._gave_up:
            raise HapiError("HAPI did not start again after it was killed: see the first test that says so")
        if not self.alive:
            self._gave_up = True
            self.start()
            self._gave_up = False

    def restart(self) -> None:
        """Stop, and start on the same port: empty, for the database was in memory, and without rules."""
        self.stop()
        self.start()

    def forget(self) -> None:
        """Let its log go."""
        self._log.close()

    def _said(self) -> str:
        self._log.seek(0)
        return "\n".join(self._log.read().decode("utf-8", "replace").splitlines()[-30:])

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        url = f"http://{HOST}:{self.port}/test/{path}"
        answer = httpx.request(method, url, json=body, timeout=30, trust_env=False)
        if answer.status_code != 200:
            raise HapiError(f"the control endpoint answered {answer.status_code} to {method} {path}")
        return answer.json() if answer.content else None


@contextmanager
def running(*, port: int = 0, say: Callable[[str], None] | None = None) -> Iterator[Server]:
    """A server of the sources beside this file, built if need be, on a free port unless one is named.

    Raises Unavailable where there is no Java or no way to build, HapiError where that fails.
    """
    tell = say or _to_stderr
    jar, libraries = build(say=tell)
    server = Server(port=port or _free_port(), jar=jar, libraries=libraries, say=tell)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        server.forget()


def missing() -> str:
    """Why this machine cannot have the server, as far as can be told without trying; '' if nothing speaks against."""
    java = _java_version()
    if java == 0:
        return f"no Java: HAPI needs Java {OLDEST_JAVA} or newer (Debian package: openjdk-17-jdk-headless)"
    if java < OLDEST_JAVA:
        return f"Java {java} is too old: HAPI needs Java {OLDEST_JAVA} or newer"
    if all(path.exists() for path in _built()):
        return ""
    if not shutil.which("mvn"):
        return "no Maven to build HAPI with (Debian package: maven)"
    if not (Path(_java()).with_name("javac").exists() or shutil.which("javac")):
        return "no Java compiler to build HAPI with (Debian package: openjdk-17-jdk-headless)"
    return ""


def build(*, say: Callable[[str], None] | None = None) -> tuple[Path, Path]:
    """Our jar and the folder of its libraries, made by Maven unless a run before made them from the same sources.

    Raises Unavailable, HapiError.
    """
    tell = say or _to_stderr
    if reason := missing():
        raise Unavailable(reason)
    server, libraries = _built()
    if server.exists() and libraries.exists():
        return server / "server.jar", libraries
    server.parent.mkdir(parents=True, exist_ok=True)
    for left in server.parent.glob("building-*"):  # by a build that was killed
        if time.time() - left.stat().st_mtime > BUILD_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    tell("Building the HAPI server with Maven (the first time it fetches about 300 MB) ...")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=server.parent, prefix="building-") as folder:
        made, copied = Path(folder) / "server", Path(folder) / "libraries"
        goals = ["package"] if libraries.exists() else ["package", "dependency:copy-dependencies"]
        _maven([*goals, f"-Doutput={made}", f"-DoutputDirectory={copied}", "-DincludeScope=runtime"], say=tell)
        for source, target in ((copied, libraries), (made, server)):
            if source.exists() and not target.exists():
                try:
                    source.rename(target)
                except OSError:
                    if not target.exists():  # not simply: another build was faster
                        raise
    tell(f"HAPI is built, after {time.monotonic() - started:.0f} s: {server}")
    return server / "server.jar", libraries


def load(base: str, resources: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Put resources, under their own ids, in one transaction; the version each has then, by `Type/id`.

    What is there already in the same words keeps its version. Raises HapiError with the server's reason.
    """
    wanted = [(f"{each['resourceType']}/{each['id']}", each) for each in resources]
    entries = [{"resource": each, "request": {"method": "PUT", "url": url}} for url, each in wanted]
    body = msgspec.json.encode({"resourceType": "Bundle", "type": "transaction", "entry": entries})
    headers = {"content-type": "application/fhir+json", "accept": "application/fhir+json"}
    answer = httpx.post(base, content=body, headers=headers, timeout=LOAD_SECONDS, trust_env=False)
    if answer.status_code != 200:
        raise HapiError(f"not loaded, {answer.status_code}: {answer.text[:500]}")
    document = answer.json()
    return {
        url: entry["response"]["etag"].removeprefix('W/"').removesuffix('"')
        for (url, _), entry in zip(wanted, document["entry"], strict=True)
    }


def story_rules() -> list[Rule]:
    """The faults of the demo's stories, as rules: what the embedded sandbox does by itself."""
    return [
        Rule(patient=patient, type=type_, status=fault.status, latency_ms=round(fault.delay * 1000))
        for patient, faults in patients.faults().items()
        for type_, fault in faults.items()
    ]


def new_id(word: str) -> str:
    """An id that no other test has; a HAPI server takes no id that is digits only."""
    return f"{word}-{uuid.uuid4().hex[:12]}"


def cache() -> Path:
    """Where built servers lie; safe to delete."""
    if named := os.environ.get("RESCUE_CDS_HAPI_CACHE"):
        return Path(named).expanduser().resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rescue-cds" / "hapi"


def _built() -> tuple[Path, Path]:
    """The folders of our jar and of the libraries: these change with the pom only."""
    pom = (SOURCES / "pom.xml").read_bytes()
    everything = hashlib.sha256(pom)
    for path in sorted((SOURCES / "src").rglob("*")):
        if path.is_file():
            everything.update(f"\0{path.relative_to(SOURCES).as_posix()}\0".encode() + path.read_bytes())
    libraries = hashlib.sha256(pom).hexdigest()[:16]
    return cache() / f"server-{everything.hexdigest()[:16]}", cache() / f"libraries-{libraries}"


def _maven(arguments: Sequence[str], *, say: Callable[[str], None]) -> None:
    command = ["mvn", "--batch-mode", "--file", str(SOURCES / "pom.xml"), *arguments]
    lines: list[str] = []
    fetched, told = 0, time.monotonic()
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        ending = threading.Timer(BUILD_SECONDS, process.kill)
        ending.daemon = True
        ending.start()
        for line in process.stdout:
            if "Downloaded" in line:
                fetched += 1
            elif "Downloading" not in line and "Progress" not in line:
                lines.append(line.rstrip())
            if time.monotonic() - told >= 10:
                told = time.monotonic()
                say(f"Maven is working, {fetched} files fetched ...")
        ending.cancel()
    if process.returncode:
        errors = [line for line in lines if "ERROR" in line] or lines[-30:]
        if why := next((line for line in errors if _UNRESOLVED.search(line)), ""):
            raise Unavailable(f"Maven could not get what HAPI is built from: {why[:300]}")
        raise HapiError("Maven failed:\n" + "\n".join(errors[:30]))


def _java() -> str:
    home = os.environ.get("JAVA_HOME")
    return str(Path(home) / "bin" / "java") if home else shutil.which("java") or "java"


def _java_version() -> int:
    """The major version; 0 if there is none."""
    try:
        said = subprocess.run([_java(), "-version"], capture_output=True, text=True, check=False).stderr
    except OSError:
        return 0
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    return int(found.group(1)) if found else 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 the server could not be had."""
    parser = argparse.ArgumentParser(prog="python -m tests.hapi.hapi", description="HAPI FHIR R4 as a test server.")
    commands = parser.add_subparsers(required=True, dest="command", metavar="COMMAND")
    commands.add_parser("build", help="build the server, unless it is built")
    run = commands.add_parser("run", help="start it, print its base, stay until Ctrl-C")
    demo = commands.add_parser("demo", help="rescue-cds demo on it; other options are those of rescue-cds demo")
    for each in (run, demo):
        each.add_argument("--hapi-port", type=int, default=0, help="the port of HAPI (default: a free one)")
    run.add_argument("--load", action="store_true", help="load the synthetic patients")
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command != "demo":
        parser.error(f"unknown: {' '.join(rest)}")
    try:
        if options.command == "build":
            build()
        elif options.command == "run":
            _run(port=options.hapi_port, loaded=options.load)
        else:
            return _demo(port=options.hapi_port, options=rest)
    except (Unavailable, HapiError) as error:
        print(f"hapi: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


def _run(*, port: int, loaded: bool) -> None:
    with running(port=port) as server:
        if loaded:
            _load_stories(server)
        print(server.base, flush=True)
        while server.alive:
            time.sleep(1)
        raise HapiError("HAPI has ended by itself")


def _demo(*, port: int, options: Sequence[str]) -> int:
    with running(port=port) as server:
        _load_stories(server)
        ended = threading.Event()
        again = threading.Thread(target=_reload, args=(server, ended), daemon=True)
        again.start()
        try:
            return cli.main(["demo", "--fhir-url", server.base, *options])
        finally:
            ended.set()


def _load_stories(server: Server) -> None:
    started = time.monotonic()
    versions = load(server.base, patients.bundle(datetime.now(UTC)))
    server.add(*story_rules())
    _to_stderr(f"{len(versions)} resources of the synthetic patients are loaded, {time.monotonic() - started:.0f} s")


def _reload(server: Server, ended: threading.Event) -> None:
    while not ended.wait(RELOAD_SECONDS):
        try:
            load(server.base, patients.bundle(datetime.now(UTC)))
        except (HapiError, httpx.HTTPError) as error:
            _to_stderr(f"the synthetic patients could not be charted anew and grow old: {error}")


if __name__ == "__main__":
    sys.exit(main())
