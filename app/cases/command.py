"""`rescue-cds protocols`: what the service knows, as a list and as pages to sign, and a site's own folder, tried."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from app import knowledge
from app.cases import files, running
from app.cases.files import Case
from app.cases.language import CaseError
from app.protocols import loader, orders, page
from app.protocols.fields import KnowledgeError

OK, FLIPS, UNUSABLE = 0, 1, 2
_EPILOG = """\
exit status of check:
  0  the folder loads, and every case says what it said
  1  cases flip
  2  the folder cannot be used; each reason names file, key and remedy
"""


class Unusable(ValueError):
    """A command line or a folder that cannot be used."""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The sub-command with its own."""
    parser = commands.add_parser(
        "protocols",
        help="list the protocols, print one as a page to sign, or try a site's own folder",
        description="What the service knows: a list (without a sub-command), pages for the clinicians who sign, and "
        "what a changed copy of app/protocols would change.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=_list)
    actions = parser.add_subparsers(metavar="ACTION")
    show = actions.add_parser("show", help="print one protocol as a page that a clinician can sign")
    show.add_argument("id", metavar="ID", help="a protocol of the list")
    show.set_defaults(run=_show)
    check = actions.add_parser(
        "check",
        help="load a copy of app/protocols and say which cases flip",
        description="DIR holds a copy of app/protocols under the same file names; a file that is absent is taken as "
        "shipped. The shipped cases are run, and those of DIR that differ from them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.add_argument("dir", metavar="DIR", type=Path, help="the folder")
    check.set_defaults(run=_check)


# --- list and show ------------------------------------------------------------------------------------------


def _list(_: argparse.Namespace) -> int:
    library = loader.load()
    texts = files.shipped()
    heads = ("id", "version", "status", "reviewed by", "criteria", "cases", "speaks")
    rows: list[tuple[str, ...]] = [heads]
    for id_ in page.ids(library):
        count = len(page.cases_of(texts.get(page.folder_of(id_), "")))
        rows.append(_row(library, id_, cases=count))
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return OK


def _row(library: loader.Library, id_: str, *, cases: int) -> tuple[str, ...]:
    known = library.knowledge
    if id_ == orders.ID:
        status, names = page.signatures(known.order_checks)
        counted, speaks = f"{len(known.order_checks)} checks", "on orders"
        head = (id_, known.order_version, status, ", ".join(names))
    elif id_ == known.follow_up.id:
        course = known.follow_up
        counted, speaks = f"{len(course.actions)} actions", "on treatment"
        head = (course.id, course.version, course.status, ", ".join(course.reviewed_by))
    else:
        protocol = known.protocol(id_)
        counted, speaks = str(len(protocol.criteria)), "yes" if protocol.speak else "no"
        head = (protocol.id, protocol.version, protocol.status, ", ".join(protocol.reviewed_by))
    return (*head[:3], head[3] or "nobody", counted, str(cases), speaks)


def _show(options: argparse.Namespace) -> int:
    library = loader.load()
    known = page.ids(library)
    if options.id not in known:
        raise Unusable(f"protocols show: unknown id; known are {', '.join(known)}")
    text = files.shipped().get(page.folder_of(options.id), "")
    print(page.page(library, options.id, cases=page.cases_of(text)), end="")
    return OK


# --- check --------------------------------------------------------------------------------------------------


def _check(options: argparse.Namespace) -> int:
    folder: Path = options.dir
    if not folder.is_dir():
        raise Unusable(f"protocols check: {folder}: no folder")
    shipped = knowledge.load()
    texts, strays = knowledge_texts(folder, shipped.library.files)
    complaints = [f"{folder / stray}: no knowledge file has this name: compare with app/protocols" for stray in strays]
    complaints += loader.complaints(texts)
    if complaints:
        print("\n".join(complaints), file=sys.stderr)
        return UNUSABLE
    try:
        bedside = knowledge.of(loader.build(texts))
        own = own_cases(folder)
        every = [running.prepare(case, bedside=shipped) for case in (*files.cases(files.shipped()), *own)]
        found = [(prepared.case, prepared.disagreements(bedside)) for prepared in every]
    except (KnowledgeError, CaseError) as error:
        print(error, file=sys.stderr)
        return UNUSABLE
    changed = sorted(name for name, text in texts.items() if text != shipped.library.files[name])
    print(f"files that differ from the shipped ones: {', '.join(changed) or 'none'}")
    flips = [(case, wrong) for case, wrong in found if wrong]
    for case, wrong in flips:
        print("\n".join(["", *flip(case, wrong)]))
    said = f"{len(flips)} of {len(found)} cases flip" if flips else f"all {len(found)} cases say what they said"
    print(f"\n{said} ({len(own)} of them the folder's own)")
    return FLIPS if flips else OK


def knowledge_texts(folder: Path, shipped: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The text of every knowledge file, the folder's where it has one, and names that are none. Raises Unusable."""
    texts = dict(shipped)
    with resources.as_file(resources.files("app.protocols")) as root:
        known = {path.relative_to(root).as_posix() for path in root.rglob("*.toml")}
    strays = []
    for path in sorted(folder.rglob("*.toml")):
        name = path.relative_to(folder).as_posix()
        if name in shipped:
            texts[name] = _text(path)
        elif name not in known:
            strays.append(name)
    return texts, strays


def own_cases(folder: Path) -> tuple[Case, ...]:
    """The folder's cases that are not, word for word, among the shipped ones. Raises CaseError and Unusable."""
    texts = {path.parent.name: _text(path) for path in sorted(folder.glob(f"*/{files.CASES}"))}
    same = {_key(case) for case in files.cases(files.shipped())}
    return tuple(case for case in files.cases(texts, patients=files.shipped()) if _key(case) not in same)


def _key(case: Case) -> str:
    return repr((case.protocol, case.name, sorted(case.lines.items()), sorted(case.expect.items()), case.now))


def flip(case: Case, wrong: Mapping[str, tuple[Any, Any]]) -> Sequence[str]:
    """What flips, and why the case says what it says."""
    lines = [f"{case.protocol}: {case.name}"]
    lines += [
        f"  {word}: the case says {_said(wanted)}, this knowledge says {_said(got)}"
        for word, (wanted, got) in wrong.items()
    ]
    return [*lines, f"  because: {case.why}"]


def _said(value: Any) -> str:
    if isinstance(value, list | set | tuple):
        return ", ".join(sorted(map(str, value))) or "none"
    return str(value)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"protocols check: {path}: cannot be read: {error}") from None
