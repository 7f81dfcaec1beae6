"""What no line of the packages may do, and linters of every project cannot know.

ruff's S, DTZ, BLE and T20 rules and bandit hold what is dangerous anywhere; here stands what is dangerous in this
service: a second way out to the network, a log line with a value in it, an error that carries a library's text. Each
rule reads the syntax tree of one file at a time, so it sees what is written and not what happens at run time.

Prints `file:line: rule: remedy`, and exits 1 if there is any. A line that may do it all the same says so at its end:
`# allowed: RULE reason`. A mark that allows nothing, or gives no reason, is an offence itself.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGES: Final = ("app", "cds_hooks", "fhir_mappings")
LOGS: Final = "app/observe/logs.py"
"""Where the list of fields stands that a log record may hold."""

_ALLOWED: Final = re.compile(r"#\s*allowed: *(?P<rule>[a-z-]+)(?P<reason>[^#]*)")
_LEVELS: Final = {"debug", "info", "warning", "error", "critical", "exception", "log"}
_LOGGERS: Final = {"log", "logging"}
_RECORD_OPTIONS: Final = {"extra", "exc_info", "stack_info", "stacklevel"}
_MUTATORS: Final = {
    *("append", "add", "clear", "extend", "insert", "pop", "popitem", "remove", "discard", "update", "setdefault"),
    *("appendleft", "move_to_end"),
}
_CONTAINERS: Final = {"dict", "list", "set", "defaultdict", "OrderedDict", "Counter", "deque", "bytearray"}
_SECRET: Final = re.compile(r"(?:^|_)(?:token|secret|signature|password|assertion|hmac)s?$")
_TALKS: Final = {"httpx", "httpx_aiohttp", "aiohttp", "requests", "urllib3", "websockets", "ftplib", "smtplib"}
_TALKS_DEEP: Final = {"urllib.request", "http.client", "xmlrpc.client", "socket"}
_DANGEROUS_MODULES: Final = {"pickle", "marshal", "shelve", "subprocess", "ctypes", "code"}
_DANGEROUS_CALLS: Final = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.load", "tempfile.mktemp"),
}
_NAIVE: Final = {
    *("datetime.utcnow", "datetime.today", "datetime.utcfromtimestamp", "date.today", "date.fromtimestamp"),
}
_OFF: Final = {
    "follow_redirects": True,
    "allow_redirects": True,
    "trust_env": True,
    "verify": False,
    "verify_ssl": False,
    "ssl": False,
}
"""Keyword argument -> the value that takes a protection away."""
_SHORTCUTS: Final = {
    *("get", "post", "put", "patch", "delete", "head", "options", "request", "stream", "AsyncClient", "Client"),
}
_SQL_DOORS: Final = {
    *("execute", "executemany", "executescript", "exec_driver_sql", "scalar", "scalars", "text", "literal_column"),
}
_DISPLAYS: Final = ast.Dict | ast.List | ast.Set | ast.DictComp | ast.ListComp | ast.SetComp
_FUNCTIONS: Final = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_BOUND_TEXT: Final = ("app/gateway/", "app/store/", "app/api/", "app/trust.py", "app/edge.py", "cds_hooks/trust.py")
"""Where the errors of libraries carry addresses, tokens and parameters."""


@dataclass(frozen=True, slots=True)
class File:
    """One file to read: its path below the root, with slashes; `nodes` are all of its tree, walked once."""

    path: str
    lines: tuple[str, ...]
    tree: ast.Module
    nodes: tuple[ast.AST, ...]
    fields: frozenset[str]


@dataclass(frozen=True, slots=True)
class Rule:
    """What is looked for. `find` gives the nodes that do it; `why` is for whoever wants to allow one."""

    id: str
    what: str
    why: str
    remedy: str
    find: Callable[[File], Iterator[ast.expr | ast.stmt | ast.ExceptHandler]]


@dataclass(frozen=True, slots=True, order=True)
class Offence:
    """One line to mend."""

    path: str
    line: int
    rule: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.remedy}"


# --- what is written ----------------------------------------------------------------------------------------


def _dotted(node: ast.AST) -> str:
    """`a.b.c` of names and attributes; a call or a subscript in between is left out, so `a().b` is `.b`."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return ""


def _last(node: ast.AST) -> str:
    return _dotted(node).rpartition(".")[2]


def _calls(file: File) -> Iterator[ast.Call]:
    return (node for node in file.nodes if isinstance(node, ast.Call))


def _imports(file: File) -> Iterator[tuple[ast.stmt, str]]:
    """Each import with every module it may name: `from urllib import request` names `urllib.request` too."""
    for node in file.nodes:
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node, node.module
            yield from ((node, f"{node.module}.{alias.name}") for alias in node.names)


def _within(node: ast.AST) -> Iterator[ast.AST]:
    """Everything that runs with `node`: not the bodies of functions that are only defined in it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            yield child
            yield from _within(child)


def _built(node: ast.AST) -> bool:
    """Whether a text is put together from parts."""
    if isinstance(node, ast.JoinedStr):
        return True
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
        return any(_built(side) or _is_text(side) for side in (node.left, node.right))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in {"format", "join"}:
        return _built(node.func.value) or _is_text(node.func.value)
    return False


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


# --- the rules ----------------------------------------------------------------------------------------------


def _network(file: File) -> Iterator[ast.stmt]:
    if file.path.startswith("app/gateway/"):
        return
    seen: set[int] = set()
    for node, name in _imports(file):
        deep = any(name == module or name.startswith(f"{module}.") for module in _TALKS_DEEP)
        if (deep or name.partition(".")[0] in _TALKS) and id(node) not in seen:
            seen.add(id(node))
            yield node


def _client(file: File) -> Iterator[ast.expr]:
    for call in _calls(file):
        name = _dotted(call.func)
        module, _, function = name.rpartition(".")
        if (module == "httpx" and function in _SHORTCUTS) or name in {"AsyncClient", "aiohttp.request"}:
            yield call


def _protection_off(file: File) -> Iterator[ast.expr | ast.stmt]:
    for node in file.nodes:
        if isinstance(node, ast.Call):
            if any(k.arg in _OFF and _is(k.value, _OFF[k.arg]) for k in node.keywords):
                yield node
        elif isinstance(node, ast.Assign) and _is(node.value, False):
            if "check_hostname" in map(_last, node.targets):
                yield node
        elif isinstance(node, ast.Attribute) and node.attr in {"CERT_NONE", "_create_unverified_context"}:
            yield node


def _is(node: ast.AST, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _log_message(file: File) -> Iterator[ast.expr]:
    for call in _log_calls(file):
        texts = call.args[1:] if _last(call.func) == "log" else call.args
        if len(texts) != 1 or not _is_text(texts[0]) or {k.arg for k in call.keywords} - _RECORD_OPTIONS:
            yield call


def _log_fields(file: File) -> Iterator[ast.expr]:
    for call in _log_calls(file):
        for keyword in call.keywords:
            if keyword.arg != "extra":
                continue
            names = keyword.value.keys if isinstance(keyword.value, ast.Dict) else [None]
            if any(not (isinstance(name, ast.Constant) and name.value in file.fields) for name in names):
                yield call


def _log_calls(file: File) -> Iterator[ast.Call]:
    """Calls of a level on something called a log; `_log_name` sees to it that every logger is."""
    for call in _calls(file):
        function = call.func
        if isinstance(function, ast.Attribute) and function.attr in _LEVELS and _last(function.value) in _LOGGERS:
            yield call


def _log_name(file: File) -> Iterator[ast.expr | ast.stmt]:
    if file.path == LOGS:
        return
    named = {
        id(node.value)
        for node in file.tree.body
        if isinstance(node, ast.Assign) and [_dotted(target) for target in node.targets] == ["log"]
    }
    for call in _calls(file):
        if _last(call.func) == "getLogger" and id(call) not in named:
            yield call


def _sql(file: File) -> Iterator[ast.expr]:
    for call in _calls(file):
        if _last(call.func) in _SQL_DOORS and call.args and _built(call.args[0]):
            yield call


def _dangerous(file: File) -> Iterator[ast.expr | ast.stmt]:
    seen: set[int] = set()
    for node, name in _imports(file):
        if name.partition(".")[0] in _DANGEROUS_MODULES and id(node) not in seen:
            seen.add(id(node))
            yield node
    yield from (call for call in _calls(file) if _dotted(call.func) in _DANGEROUS_CALLS)


def _assertion(file: File) -> Iterator[ast.stmt]:
    return (node for node in file.nodes if isinstance(node, ast.Assert))


def _compare(file: File) -> Iterator[ast.expr]:
    for node in file.nodes:
        if not isinstance(node, ast.Compare) or not isinstance(node.ops[0], ast.Eq | ast.NotEq):
            continue
        sides = (node.left, node.comparators[0])
        if any(_SECRET.search(_last(side)) for side in sides) and not any(isinstance(s, ast.Constant) for s in sides):
            yield node


def _silent(file: File) -> Iterator[ast.ExceptHandler]:
    for node in file.nodes:
        if isinstance(node, ast.ExceptHandler) and all(isinstance(one, ast.Pass | ast.Continue) for one in node.body):
            kinds = {"Exception", "BaseException"}
            if node.type is None or any(_last(one) in kinds for one in ast.walk(node.type)):
                yield node


def _state(file: File) -> Iterator[ast.expr | ast.stmt]:
    names = set()
    for node in file.tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        value = node.value
        if isinstance(value, _DISPLAYS) or (isinstance(value, ast.Call) and _last(value.func) in _CONTAINERS):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    yield from _changes(file.tree, names, inside=False)


def _changes(node: ast.AST, names: set[str], *, inside: bool) -> Iterator[ast.expr | ast.stmt]:
    """Where a function changes one of the module's containers, or binds a name of the module anew."""
    if isinstance(node, _FUNCTIONS):
        arguments = node.args
        every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg)
        own = {one.arg for one in every if one is not None}
        own |= {one.id for one in _within(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
        names, inside = names - own, True
    if inside:
        if isinstance(node, ast.Global):
            yield node
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in _MUTATORS and _dotted(node.func.value) in names:
                yield node
        elif isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load) and _dotted(node.value) in names:
            yield node
    for child in ast.iter_child_nodes(node):
        yield from _changes(child, names, inside=inside)


def _naive(file: File) -> Iterator[ast.expr]:
    for call in _calls(file):
        name = ".".join(_dotted(call.func).split(".")[-2:])
        zoned = len(call.args) + len(call.keywords)
        if name in _NAIVE or (name == "datetime.now" and not zoned) or (name == "datetime.fromtimestamp" and zoned < 2):
            yield call


def _chance(file: File) -> Iterator[ast.stmt]:
    if file.path in {"app/gateway/fhir.py", "app/gateway/breaker.py"}:  # jitter, nobody's secret
        return
    seen: set[int] = set()
    for node, name in _imports(file):
        if name.partition(".")[0] == "random" and id(node) not in seen:
            seen.add(id(node))
            yield node


def _chained(file: File) -> Iterator[ast.stmt]:
    if not file.path.startswith(_BOUND_TEXT):
        return
    for handler in (node for node in file.nodes if isinstance(node, ast.ExceptHandler)):
        for node in _within(handler):
            if not isinstance(node, ast.Raise) or node.exc is None or _dotted(node.exc) == handler.name:
                continue
            if not (isinstance(node.cause, ast.Constant) and node.cause.value is None):
                yield node


def _told(file: File) -> Iterator[ast.expr]:
    if not file.path.startswith(_BOUND_TEXT):
        return
    for handler in (node for node in file.nodes if isinstance(node, ast.ExceptHandler) and node.name):
        for node in _within(handler):
            if isinstance(node, ast.expr) and handler.name in _shown(node):
                yield node


def _shown(node: ast.expr) -> list[str]:
    """The names whose texts an expression takes: `error.args` does, `error.status` does not."""
    if isinstance(node, ast.FormattedValue):
        return [_dotted(node.value)]
    if isinstance(node, ast.Attribute) and node.attr == "args":
        return [_dotted(node.value)]
    if isinstance(node, ast.Call) and _dotted(node.func) in {"str", "repr", "format"}:
        return [_dotted(argument) for argument in node.args]
    return []


RULES: Final = (
    Rule(
        "network",
        "a module that can open connections is imported outside app/gateway",
        "the gateway is the one door: configured bases only, no redirects, no proxies, bounded answers (T1, T6, T17)",
        "ask through app.gateway",
        _network,
    ),
    Rule(
        "client",
        "a whole HTTP client is made or used",
        "httpx.AsyncClient logs addresses, keeps cookies, reads proxy settings; app/gateway/door.py does not (T6, T7)",
        "send through app.gateway.door",
        _client,
    ),
    Rule(
        "protection",
        "redirects followed, certificates not verified, or the environment's proxies and .netrc trusted",
        "each sends a token to a host that nobody configured (T6)",
        "leave the protection on",
        _protection_off,
    ),
    Rule(
        "log-name",
        "a logger that is not the module's `log`",
        "the rules about log lines find loggers by that name",
        "write `log = logging.getLogger(__name__)` at the top of the module",
        _log_name,
    ),
    Rule(
        "log-message",
        "a log message that is not one literal text",
        "a message put together holds data, and nothing of a patient gets into a log (T7)",
        "name the event in fixed words, and put what varies into extra={...}",
        _log_message,
    ),
    Rule(
        "log-fields",
        f"a field of a log record that {LOGS} does not list",
        "what is not listed is dropped from the line without a word, so the writer believes it is there (T7)",
        f"use a field of FIELDS in {LOGS}, or add one there with what it may hold",
        _log_fields,
    ),
    Rule(
        "sql",
        "an SQL text put together from parts",
        "what a caller sends belongs into parameters",
        "use SQLAlchemy's expressions, or bind parameters",
        _sql,
    ),
    Rule(
        "dangerous",
        "code made of data, another process, or a format that runs what it reads",
        "nothing here needs one, so whatever brings one in is a way in (T24)",
        "do without",
        _dangerous,
    ),
    Rule(
        "assert",
        "an assert in shipped code",
        "`python -O` leaves it out",
        "raise an error that says what is wrong",
        _assertion,
    ),
    Rule(
        "compare",
        "a secret compared with == or !=",
        "the time it takes tells how much of a guess was right (T5)",
        "use hmac.compare_digest",
        _compare,
    ),
    Rule(
        "silent",
        "every error caught and dropped",
        "a fault that nobody hears of becomes an empty answer",
        "catch what can be expected, or say what happened",
        _silent,
    ),
    Rule(
        "state",
        "a container or a name of the module is changed by a function",
        "state that outlives a request is how patients get mixed (T14)",
        "keep it in an object that is made for the request, or for the application",
        _state,
    ),
    Rule(
        "naive-time",
        "a time without a zone",
        "clinical windows are hours: without a zone they are off by some",
        "write datetime.now(UTC), or take `now` as an argument",
        _naive,
    ),
    Rule(
        "chance",
        "the module `random`",
        "its numbers can be foretold; only the jitter of the gateway's repetitions may be (T11)",
        "use secrets, or uuid.uuid4",
        _chance,
    ),
    Rule(
        "cause",
        "an error raised in an except block without `from None`",
        "the first error stays attached, and its text holds addresses, tokens or parameters (T7)",
        "add `from None`",
        _chained,
    ),
    Rule(
        "error-text",
        "the text of a caught error is used",
        "libraries write addresses, parameters and input into it (T7)",
        "say it in words of our own, or use the error's class",
        _told,
    ),
)
_MARK: Final = "allowed"


# --- reading ------------------------------------------------------------------------------------------------


def log_fields(source: str) -> frozenset[str]:
    """The texts that the assignment to FIELDS holds. Raises ValueError when there is none: nothing is no list."""
    for node in ast.parse(source).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id == "FIELDS":
            constants = (one.value for one in ast.walk(node) if isinstance(one, ast.Constant))
            return frozenset(one for one in constants if isinstance(one, str))
    raise ValueError(f"{LOGS}: holds no FIELDS: say there what a log record may hold")


def offences_in(source: str, *, path: str, fields: frozenset[str], rules: Iterable[Rule] = RULES) -> list[Offence]:
    """The offences of one file, in the order of its lines."""
    tree = ast.parse(source, filename=path)
    file = File(path, tuple(source.split("\n")), tree, tuple(ast.walk(tree)), fields)
    marks = _marks(file)
    used: set[tuple[int, str]] = set()
    found = []
    for rule in rules:
        for node in rule.find(file):
            last = node.lineno if isinstance(node, ast.ExceptHandler) else node.end_lineno or node.lineno
            covering = {(line, rule.id) for line in range(node.lineno, last + 1) if rule.id in marks.get(line, {})}
            if covering:
                used |= covering
            else:
                found.append(Offence(path, node.lineno, rule.id, rule.remedy))
    for line, allowed in marks.items():
        for name, reason in allowed.items():
            if (line, name) not in used:
                found.append(Offence(path, line, _MARK, f"nothing here does {name!r}: remove the mark"))
            elif len(reason.split()) < 3:
                found.append(Offence(path, line, _MARK, f"say in a few words why {name!r} is allowed here"))
    return sorted(found)


def _marks(file: File) -> dict[int, dict[str, str]]:
    """Line number -> rule -> reason."""
    return {
        number: {match["rule"]: match["reason"] for match in _ALLOWED.finditer(line)}
        for number, line in enumerate(file.lines, start=1)
        if "allowed:" in line and _ALLOWED.search(line)
    }


def packages_offences(root: Path) -> tuple[int, list[Offence]]:
    """How many files were read, and the offences in them."""
    fields = log_fields((root / LOGS).read_text(encoding="utf-8"))
    paths = sorted(path for package in PACKAGES for path in (root / package).rglob("*.py"))
    found: list[Offence] = []
    for path in paths:
        name = path.relative_to(root).as_posix()
        found += offences_in(path.read_text(encoding="utf-8"), path=name, fields=fields)
    return len(paths), found


def explained(rules: Iterable[Rule] = RULES) -> Mapping[str, str]:
    """Rule -> what it finds and why, for `--rules`."""
    return {rule.id: f"{rule.what}. {rule.why[0].upper()}{rule.why[1:]}. Remedy: {rule.remedy}." for rule in rules}


def main() -> int:
    """Print the offences, or with `--rules` the rules; the exit code says whether there are offences."""
    if sys.argv[1:] == ["--rules"]:
        sys.stdout.write("".join(f"{name}\n    {text}\n" for name, text in explained().items()))
        return 0
    read, offences = packages_offences(ROOT)
    for offence in offences:
        sys.stderr.write(f"{offence}\n")
    if not read:
        sys.stderr.write("code: no file was read: run it from the repository\n")
        return 1
    if not offences:
        sys.stdout.write(f"code: {read} files, {len(RULES)} rules, nothing that no line may do\n")
    return 1 if offences else 0


if __name__ == "__main__":
    sys.exit(main())
