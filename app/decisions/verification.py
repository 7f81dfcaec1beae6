"""`rescue-cds decisions verify`: whether the record is what was written."""

from __future__ import annotations

import argparse
import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from app.decisions.command import Unusable, options_of, say
from app.decisions.legible import line
from app.observe import terminal
from app.store import engine as engines
from app.store import readonly, verify
from app.store.chain import Head
from app.store.command import INTERRUPTED, Address
from app.store.errors import StoreError
from app.store.verify import Count

_SHOWN: Final = 100
"""Faults that are printed; a record that was changed all over need not scroll by."""

_HEAD: Final = re.compile(r"([0-9a-f-]{36}) ([0-9]{1,12}) ([0-9a-f]{64})", re.ASCII)
_PROGRESS_SECONDS: Final = 3.0

_EPILOG: Final = """\
Keep what --heads prints where who can write to the database cannot: with --expect a chain that was cut off whole, or
written anew, is found too.
exit status: 0 as it was written, 1 something is not, 2 the command line or the database cannot be used
"""


def register(actions: argparse._SubParsersAction[argparse.ArgumentParser], *, address: Address) -> None:
    """The sub-command and its options."""
    parser = actions.add_parser(
        "verify",
        help="check the chain of hashes: one changed, removed or moved row is named",
        description="Walks the record from its first entry to its last, beside a running service, and names every row "
        "that is not as it was written. Patient data that were removed by `db purge` are noted as such.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--heads", action="store_true", help="print the end of every chain, to be kept elsewhere")
    parser.add_argument("--expect", type=Path, metavar="FILE", help="heads that were kept: they have to be there")
    options_of(parser)
    parser.set_defaults(run=lambda options: _run(options, address=address))


def _run(options: argparse.Namespace, *, address: Address) -> int:
    """Raises Unusable."""
    expected = [] if options.expect is None else _expected(options.expect)
    kept = "" if options.expect is None else f"; heads of {options.expect} found: {len(expected)}"
    try:
        return asyncio.run(_verified(address(options), expected=expected, heads=options.heads, kept=kept))
    except StoreError as error:
        raise Unusable(str(error)) from None
    except KeyboardInterrupt:
        terminal.show("interrupted: not verified")
        return INTERRUPTED


async def _verified(url: str, *, expected: list[Head], heads: bool, kept: str) -> int:
    """Says what is wrong, else that nothing is, with `kept` about the heads that were expected."""
    count, found = Count(), 0
    engine = readonly.create(url)
    try:
        async with readonly.snapshot(engine) as connection:
            with engines.said("the record cannot be read"):
                async for fault in verify.faults(connection, expected=expected, count=count, progress=_progress()):
                    found += 1
                    if found <= _SHOWN:
                        terminal.show(line(f"wrong: {fault}"))
                for head in await verify.heads(connection) if heads else []:
                    terminal.show(f"{head.writer} {head.seq} {head.hash}")
    finally:
        await engine.dispose()
    if found > _SHOWN:
        terminal.show(f"and {found - _SHOWN} more")
    tell = say if heads and not found else terminal.show
    tell(
        f"{f'not as it was written, rows: {found}' if found else 'as it was written'}: {_counted(count)}"
        + ("" if found else kept)
    )
    return 1 if found else 0


def _counted(count: Count) -> str:
    """What the entries of the chain are about, whether or not its rows are still there."""
    return (
        f"entries for {_many(count.decisions, 'decision', 'decisions')} "
        f"({count.removed} without patient data, removed on purpose), "
        f"{_many(count.feedback, 'entry', 'entries')} of feedback; "
        f"{_many(count.entries, 'entry', 'entries')} in {_many(count.writers, 'chain', 'chains')}"
    )


def _many(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


def _progress() -> Callable[[Count], None]:
    spoke = time.monotonic()

    def told(count: Count) -> None:
        nonlocal spoke
        if time.monotonic() - spoke >= _PROGRESS_SECONDS:
            spoke = time.monotonic()
            say(f"rescue-cds: {count.entries} entries checked")

    return told


def _expected(path: Path) -> list[Head]:
    """The heads of a file, one of each chain: where several days stand in it, the longest. Raises Unusable."""
    try:
        rows = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeError):
        raise Unusable(f"--expect: {path} cannot be read: it is a file that --heads has printed") from None
    heads: dict[str, Head] = {}
    for number, row in enumerate(rows, 1):
        written = row.strip()
        if not written or written.startswith("#"):
            continue
        match = _HEAD.fullmatch(written)
        if match is None:
            raise Unusable(f"--expect: {path}: line {number}: no head as --heads prints it: WRITER NUMBER HASH")
        head = Head(match[1], int(match[2]), match[3])
        heads[head.writer] = max(head, heads.get(head.writer, head), key=lambda one: one.seq)
    if not heads:
        raise Unusable(
            f"--expect: {path} holds no head: it is a file that `rescue-cds decisions verify --heads` has printed"
        )
    return list(heads.values())
