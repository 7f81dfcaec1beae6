"""Mutation run over the knowledge files: change one number, operator or word of the logic; does a signed case break?

    python -m tests.cases.mutation [--sample N] [--target PERCENT] [--processes N] [--file NAME ...]

A mutant is the text of one file with one change, built by the loader like a site's own files. Cases are turned into
facts once, because facts do not depend on the knowledge; the cases that name the changed rule come first, and the first
that breaks ends the mutant. A mutant that the loader refuses is dead too: nobody can run it.

Two classes. `rules`: numbers (moved by the smallest step that matters, up and down), operators (strict against
inclusive, and turned round), clauses (dropped, `all` against `any`), states, switches, rows of the card table.
`names`: ingredients of the drug groups, concepts, substances (each dropped); reported apart, outside the target.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import re
import sys
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache
from itertools import chain, zip_longest
from pathlib import Path

from app import drafts
from app.cases import running
from app.cases.running import Prepared
from app.clinical.chart import Chart
from app.clinical.criteria import Outcome, evaluate
from app.clinical.knowledge import All, Any, Criterion, Knowledge, Leaf, Node, Not, Ref, SafetyRule
from app.clinical.readers.questions import QUESTIONS
from app.knowledge import Bedside
from app.protocols import loader
from app.protocols.fields import KnowledgeError
from app.protocols.loader import Library
from app.protocols.words import Words
from cds_hooks import markdown
from tests.cases.test_cases import BEDSIDE, CASES

DATA = Path(__file__).with_name("mutation.toml")
TREATMENT = "shared/treatment.toml"
SEED = 20260101
RULES, NAMES = "rules", "names"

_OPERATORS = {"<": ("<=", ">"), "<=": ("<", ">="), ">": (">=", "<"), ">=": (">", "<=")}
_WORDS = {
    "severity": (("absolute", "relative", "monitor"), ("info", "warning", "critical")),
    "unknown": (("met", "not-met"),),
    "card": (("none", "thresholds-met", "undetermined", "course"),),
}
"""Keys whose text the mechanism reads, with the sets of words of which one may stand there."""
_OPTIONAL = ("otherwise", "unknown", "also_tests", "also_procedures")
_LISTED = {"is": RULES, "when": RULES, "required": RULES, "criteria": RULES, "ingredients": NAMES}
_SPACED = ("concepts", "substances", "also_tests", "also_procedures")
_PROSE = frozenset({"texts.toml", "cards.toml"})
"""Files of words: what they say is for a reader, not for the mechanism."""
_PAGE = "arm.drug"
"""Blocks that only the page to sign shows (what the trial gave): no patient is told of them, so no case can be. Their
values are held by tests/unit/app/test_trial_protocols.py."""
_ELSEWHERE = frozenset({"shared/orders.toml"})
"""What the order hooks ask of a draft: the cases have no drafts. Its numbers have tests of their own."""

_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"|#[^\n]*')
_HEADER = re.compile(r"^\[\[?(?P<name>[^\]\n]+)\]\]?", re.MULTILINE)
_ID = re.compile(r'^(?:id|ingredient)\s*=\s*"(?P<id>[^"]+)"', re.MULTILINE)
_NUMBER = re.compile(r"(?<![\w.\"-])(?P<key>[\w-]+)\s*=\s*(?P<value>-?\d+(?:\.\d+)?)(?![\w.])")
_BOOLEAN = re.compile(r"(?<![\w.\"-])(?P<key>[\w-]+)\s*=\s*(?P<value>true|false)\b")
_TEXT = re.compile(r"(?<![\w.\"-])(?P<key>[\w-]+)\s*=\s*(?P<value>\"_*\")")
_LIST = re.compile(r"(?<![\w.\"-])(?P<key>[\w-]+)\s*=\s*\[")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change: `start` to `end` of the file's text becomes `text`. `key` says where, `mutation` what."""

    file: str
    key: str
    mutation: str
    start: int
    end: int
    text: str
    kind: str = RULES

    @property
    def owner(self) -> str:
        """The block's id or name."""
        return self.key.partition(" ")[0]

    def applied(self, files: Mapping[str, str]) -> dict[str, str]:
        """The files with this change."""
        whole = files[self.file]
        return {**files, self.file: whole[: self.start] + self.text + whole[self.end :]}

    def __str__(self) -> str:
        return f"{self.file}: {self.key}: {self.mutation}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a mutant: `by` names the case that broke, or says that the loader refused it; '' survived."""

    mutant: Mutant
    by: str


# --- mutants ------------------------------------------------------------------------------------------------


@cache
def _steps() -> Mapping[str, str]:
    return dict(tomllib.loads(DATA.read_text(encoding="utf-8"))["step"])


def _masked(text: str) -> str:
    """The same length, without the inside of strings and without comments."""

    def blank(match: re.Match[str]) -> str:
        found = match.group()
        return " " * len(found) if found[0] == "#" else '"' + "_" * (len(found) - 2) + '"'

    return _STRING.sub(blank, text)


def mutants(files: Mapping[str, str]) -> list[Mutant]:
    """Every mutant of every knowledge file, in the order of the files."""
    found: list[Mutant] = []
    for name, text in files.items():
        if Path(name).name not in _PROSE and name not in _ELSEWHERE:
            found += _File(name, text).mutants()
    return found


class _File:
    """The text of one file, and where in it which block begins."""

    def __init__(self, name: str, text: str) -> None:
        self.name, self.text, self.masked = name, text, _masked(text)
        self.headers: list[tuple[int, str]] = []
        self.blocks: list[tuple[int, str]] = []
        owner = ""
        matches = list(_HEADER.finditer(self.masked))
        for match, following in zip_longest(matches, matches[1:]):
            header = match["name"].strip()
            if match.group().startswith("[["):
                block = text[match.end() : following.start() if following else len(text)]
                named = _ID.search(block)
                owner = named["id"] if named else header
            elif not (owner and self.headers and header.partition(".")[0] in {"criterion", "finding", "action"}):
                owner = header
            self.headers.append((match.start(), owner))
            self.blocks.append((match.start(), header))

    def owner(self, at: int) -> str:
        """The id or the name of the block there."""
        return next((owner for start, owner in reversed(self.headers) if start <= at), "file")

    def block(self, at: int) -> str:
        """The header of the block there."""
        return next((header for start, header in reversed(self.blocks) if start <= at), "")

    def mutants(self) -> Iterator[Mutant]:
        for each in chain(self._numbers(), self._switches(), self._texts(), self._lists()):
            if self.block(each.start) != _PAGE:
                yield each

    def _mutant(self, key: str, mutation: str, start: int, end: int, text: str, *, kind: str = RULES) -> Mutant:
        return Mutant(self.name, f"{self.owner(start)} {key}".strip(), mutation, start, end, text, kind)

    def _numbers(self) -> Iterator[Mutant]:
        for match in _NUMBER.finditer(self.masked):
            key, written = match["key"], match["value"]
            start, end = match.span("value")
            step = self._step(key, written, start)
            for moved in (Decimal(written) + step, Decimal(written) - step):
                new = f"{moved:f}"
                yield self._mutant(self._place(key, start), f"{written} -> {new}", start, end, new)

    def _step(self, key: str, written: str, at: int) -> Decimal:
        owner = self.owner(at)
        if key.endswith("_hours") or (key == "value" and owner.endswith("_hours")):
            return Decimal("0.0167")  # a minute, and two thousandths of one against rounding
        if owner.startswith("steroid_equivalents"):
            return (Decimal(written) / 100).quantize(Decimal("0.0001"))
        for name in (self._beside(at, "input"), self._beside(at, "unit"), key):
            if name in _steps():
                return Decimal(_steps()[name])
        return Decimal(1).scaleb(int(Decimal(written).as_tuple().exponent))

    def _beside(self, at: int, key: str) -> str:
        """The text of another key of the same line or inline table."""
        start = max(self.masked.rfind("{", 0, at), self.masked.rfind("\n", 0, at))
        ends = [found for found in (self.masked.find("}", at), self.masked.find("\n", at)) if found > 0]
        match = re.search(rf'\b{key}\s*=\s*"([^"]*)"', self.text[start : min(ends, default=len(self.text))])
        return match[1] if match else ""

    def _place(self, key: str, at: int) -> str:
        """The key, with the input of its leaf."""
        leaf = self._beside(at, "input")
        return f"{leaf} {key}" if leaf else key

    def _switches(self) -> Iterator[Mutant]:
        for match in _BOOLEAN.finditer(self.masked):
            other = "false" if match["value"] == "true" else "true"
            start, end = match.span("value")
            yield self._mutant(match["key"], f"{match['value']} -> {other}", start, end, other)

    def _texts(self) -> Iterator[Mutant]:
        for match in _TEXT.finditer(self.masked):
            key = match["key"]
            start, end = match.span("value")
            written = self.text[start + 1 : end - 1]
            place = self._place(key, start)
            if key == "op":
                others: Sequence[str] = _OPERATORS.get(written, ())
            else:
                others = [w for words in _WORDS.get(key, ()) if written in words for w in words if w != written]
            for other in others:
                yield self._mutant(place, f"{written} -> {other}", start, end, f'"{other}"')
            if key in _OPTIONAL:
                before = self.masked.rfind(",", 0, match.start())
                yield self._mutant(place, f"{written} dropped", before, end, "")
            if key in _SPACED and " " in written:
                for word in written.split():
                    rest = " ".join(w for w in written.split() if w != word)
                    yield self._mutant(place, f"without {word}", start, end, f'"{rest}"', kind=NAMES)

    def _lists(self) -> Iterator[Mutant]:
        for match in _LIST.finditer(self.masked):
            key = match["key"]
            if key in {"all", "any"}:
                other = "any" if key == "all" else "all"
                start, end = match.span("key")
                yield self._mutant(f"{key} of {self._first(match.end())}", f"{key} -> {other}", start, end, other)
            elif key not in _LISTED:
                continue
            elements = self._elements(match.end())
            for index, (start, end) in enumerate(elements):
                what = re.sub(r"\s+", " ", self.text[start:end])
                if len(elements) > 1:
                    first, last = (start, elements[1][0]) if index == 0 else (elements[index - 1][1], end)
                    kind = _LISTED.get(key, RULES)
                    yield self._mutant(self._place(key, start), f"without {what}", first, last, "", kind=kind)
            if key == "is":
                yield from self._states(match.end(), elements)

    def _states(self, opened: int, elements: Sequence[tuple[int, int]]) -> Iterator[Mutant]:
        """Each other state that the reader knows, in place of a single one and beside those that are there."""
        name = self._beside(opened, "input")
        written = [self.text[start + 1 : end - 1] for start, end in elements]
        first, last = elements[0][0], elements[-1][1]
        for state in _other_states(name, written):
            place = self._place("is", opened)
            yield self._mutant(place, f"and {state}", last, last, f', "{state}"')
            if len(elements) == 1:
                yield self._mutant(place, f"{written[0]} -> {state}", first, last, f'"{state}"')

    def _first(self, at: int) -> str:
        match = re.search(r'"([^"]+)"', self.text[at:])
        return match[1] if match else ""

    def _elements(self, opened: int) -> list[tuple[int, int]]:
        """Where each element of a list begins and ends; nested tables and lists stay whole."""
        depth, start, found = 0, opened, []
        for at in range(opened, len(self.masked)):
            mark = self.masked[at]
            if mark in "[{":
                depth += 1
            elif mark in "]}" and depth:
                depth -= 1
            elif mark == "]" or (mark == "," and not depth):
                piece = self.masked[start:at]
                if piece.strip():
                    begin = start + len(piece) - len(piece.lstrip())
                    found.append((begin, begin + len(piece.strip())))
                start = at + 1
                if mark == "]":
                    break
        return found


def _other_states(name: str, written: Sequence[str]) -> list[str]:
    return sorted(QUESTIONS[name].states - set(written)) if name in QUESTIONS else []


# --- cases --------------------------------------------------------------------------------------------------


def broken(case: Prepared, bedside: Bedside) -> bool:
    """Whether the service says something else than the case."""
    return bool(case.disagreements(bedside))


def bedside_of(library: Library, *, templates: bool) -> Bedside:
    """The shipped one with other knowledge; `templates`: the orders are made anew, too."""
    words = Words(library.words, knowledge=library.knowledge, clean=markdown.text)
    return replace(
        BEDSIDE,
        library=library,
        words=words,
        plain=words.cleaned_by(lambda value: markdown.plain(value, limit=200)),
        templates=drafts.templates(library.treatment) if templates else BEDSIDE.templates,
    )


class Run:
    """Mutants against cases; learns which cases kill what."""

    def __init__(self, files: Mapping[str, str], cases: Sequence[Prepared]) -> None:
        self.files, self.cases = files, cases
        self.names = _names_by_input(BEDSIDE.library)
        self.words = [_words(case.case.expect) for case in cases]
        self.killers: dict[str, Counter[int]] = defaultdict(Counter)
        self.before = dict(_rules(BEDSIDE.library))
        self.charts: dict[int, tuple[Chart, dict[str, Outcome]]] = {}

    def verdict(self, mutant: Mutant) -> Verdict:
        try:
            library = loader.build(mutant.applied(self.files))
            bedside = bedside_of(library, templates=mutant.file == TREATMENT)
        except (KnowledgeError, LookupError, TypeError, ValueError, ArithmeticError) as error:
            return Verdict(mutant, f"refused: {error}")
        changed = self._changed_tree(library)
        for index in self._order(mutant):
            if changed is not None and self._same(index, *changed):
                continue
            try:
                found = broken(self.cases[index], bedside)
            except Exception as error:  # noqa: BLE001  (whatever it is, the case is broken)
                return Verdict(mutant, f"{self.cases[index].case.name} ({type(error).__name__})")
            if found:
                self.killers[mutant.owner][index] += 1
                self.killers[""][index] += 1
                return Verdict(mutant, self.cases[index].case.name)
        return Verdict(mutant, "")

    def _changed_tree(self, library: Library) -> tuple[str, Node] | None:
        """The rule that is all the mutant changes, and its tree; None when it changes anything else."""
        before, after = self.before, dict(_rules(library))
        ids = [id_ for id_ in after if after[id_] != before.get(id_)]
        if before.keys() != after.keys() or len(ids) != 1:
            return None
        [id_] = ids
        rule = after[id_]
        if replace(rule, tree=before[id_].tree) != before[id_] or _rest(library) != _rest(BEDSIDE.library):
            return None
        return id_, rule.tree

    def _same(self, index: int, id_: str, tree: Node) -> bool:
        """Whether the changed tree says of this case, word for word, what the shipped one says: then so does all that
        rests on it, and nothing has to be assessed."""
        if index not in self.charts:
            case = self.cases[index]
            chart = Chart(case.facts, knowledge=BEDSIDE.library.knowledge, now=case.options.now)
            known: dict[str, Outcome] = {}
            for name, rule in self.before.items():
                known[name] = evaluate(rule.tree, chart=chart, known=known)
            self.charts[index] = (chart, known)
        chart, known = self.charts[index]
        return evaluate(tree, chart=chart, known=known) == known[id_]

    def _order(self, mutant: Mutant) -> list[int]:
        """Cases that killed mutants of the same block, then those that name it, then what kills often."""
        own, all_ = self.killers[mutant.owner], self.killers[""]
        related = {mutant.owner, *self.names.get(mutant.owner.rpartition(".")[2], ())}
        named = [bool(related & words) for words in self.words]
        return sorted(range(len(self.cases)), key=lambda i: (-own[i], not named[i], -all_[i]))


def _words(expect: Mapping[str, object]) -> set[object]:
    """What a case expects something of, and what it expects: rules, rows, actions."""
    found: set[object] = {*expect}
    for value in expect.values():
        found.update(value if isinstance(value, list) else [value])
    return found


def _rules(library: Library) -> Iterator[tuple[str, Criterion | SafetyRule]]:
    """Criteria and safety findings, in the order in which they may refer to each other."""
    for protocol in library.knowledge.protocols:
        for criterion in protocol.criteria:
            yield criterion.id, criterion
    for rule in library.knowledge.safety:
        yield rule.id, rule


def _rest(library: Library) -> Knowledge:
    """The knowledge without its rules and without the marks of the files' text."""
    known = library.knowledge
    bare = tuple(replace(protocol, criteria=()) for protocol in known.protocols)
    return replace(known, protocols=bare, safety=(), hash="", version="")


def _names_by_input(library: Library) -> dict[str, set[str]]:
    """Input or drug group -> ids of the rules that ask it."""
    found: dict[str, set[str]] = defaultdict(set)
    known = library.knowledge
    trees = [(c.id, c.tree) for p in known.protocols for c in p.criteria]
    for id_, tree in [*trees, *((rule.id, rule.tree) for rule in known.safety)]:
        for leaf in _leaves(tree):
            found[leaf.input].add(id_)
            found[str(leaf.params.get("group", leaf.input))].add(id_)
    return found


def _leaves(node: Node) -> Iterator[Leaf]:
    if isinstance(node, Leaf):
        yield node
    elif isinstance(node, Not):
        yield from _leaves(node.child)
    elif isinstance(node, All | Any):
        for child in node.children:
            yield from _leaves(child)
    elif isinstance(node, Ref):
        return


# --- the command --------------------------------------------------------------------------------------------

_RUN: Run | None = None


def _start(run: Run) -> None:
    global _RUN
    _RUN = run


def _try(mutant: Mutant) -> Verdict:
    assert _RUN is not None
    return _RUN.verdict(mutant)


def equivalents() -> dict[tuple[str, str, str], str]:
    """Mutants that can change no answer, with the reason."""
    rows = tomllib.loads(DATA.read_text(encoding="utf-8")).get("equivalent", [])
    return {(row["file"], row["key"], row["mutation"]): row["reason"] for row in rows}


def tried(run: Run, chosen: Sequence[Mutant], *, processes: int, progress: bool = True) -> list[Verdict]:
    """What became of each."""
    if processes == 1:
        return [run.verdict(mutant) for mutant in chosen]
    started, found = time.monotonic(), []
    with multiprocessing.get_context("fork").Pool(processes, _start, (run,)) as pool:
        for verdict in pool.imap(_try, chosen, chunksize=8):
            found.append(verdict)
            if progress and not verdict.by:
                print(f"survived: {verdict.mutant}", file=sys.stderr, flush=True)
            if progress and len(found) % 50 == 0:
                seconds = time.monotonic() - started
                left = sum(1 for v in found if not v.by)
                print(f"{len(found)} of {len(chosen)}, {left} survived, {seconds:.0f} s", file=sys.stderr, flush=True)
    return found


def report(verdicts: Sequence[Verdict], *, kind: str) -> tuple[list[str], float]:
    """The table and the survivors of one class, and the share killed in percent; 100 for none."""
    known = equivalents()
    mine = [v for v in verdicts if v.mutant.kind == kind]
    excused = [v for v in mine if not v.by and (v.mutant.file, v.mutant.key, v.mutant.mutation) in known]
    left = [v for v in mine if not v.by and v not in excused]
    heads = f"{'mutants':>8} {'killed':>8} {'refused':>8} {'equivalent':>11} {'survived':>9}"
    lines = [kind, f"  {'file':<36} {heads}"]
    for name in dict.fromkeys(v.mutant.file for v in mine):
        of = [v for v in mine if v.mutant.file == name]
        refused = sum(1 for v in of if v.by.startswith("refused:"))
        killed = sum(1 for v in of if v.by) - refused
        same = sum(1 for v in excused if v.mutant.file == name)
        counts = (len(of), killed, refused, same, len(of) - killed - refused - same)
        lines.append(f"  {name:<36} {counts[0]:>8} {counts[1]:>8} {counts[2]:>8} {counts[3]:>11} {counts[4]:>9}")
    lines += [f"  survived: {v.mutant}" for v in left]
    counted = len(mine) - len(excused)
    share = 100 * (counted - len(left)) / counted if counted else 100.0
    lines.append(f"  killed {counted - len(left)} of {counted}: {share:.2f} %")
    return lines, share


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 the share is reached, 1 it is not, 2 a case fails before anything is changed."""
    parser = argparse.ArgumentParser(prog="mutation", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sample", type=int, metavar="N", help="so many mutants, always the same (default: all)")
    parser.add_argument("--target", type=float, default=100.0, metavar="PERCENT", help="share to kill (default 100)")
    parser.add_argument("--processes", type=int, default=2, metavar="N")
    parser.add_argument("--file", action="append", default=[], metavar="NAME", help="only this file; repeatable")
    parser.add_argument("--names", action="store_true", help="drop ingredients, concepts and substances, too")
    options = parser.parse_args(arguments)
    files = BEDSIDE.library.files
    cases = [running.prepare(case, bedside=BEDSIDE) for case in CASES]
    failing = [prepared.case for prepared in cases if broken(prepared, BEDSIDE)]
    if failing:
        for case in failing:
            print(f"fails before anything is changed: {case.protocol}: {case.name}", file=sys.stderr)
        return 2
    wanted = options.file or list(files)
    chosen = [m for m in mutants(files) if m.file in wanted and (options.names or m.kind == RULES)]
    if options.sample is not None and options.sample < len(chosen):
        picked = random.Random(SEED).sample(range(len(chosen)), options.sample)
        chosen = [chosen[index] for index in sorted(picked)]
    verdicts = tried(Run(files, cases), chosen, processes=options.processes)
    lines, share = report(verdicts, kind=RULES)
    print("\n".join(lines))
    if options.names:
        print("\n".join(["", *report(verdicts, kind=NAMES)[0]]))
    return 0 if share >= options.target else 1


if __name__ == "__main__":
    sys.exit(main())
