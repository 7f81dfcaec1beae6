"""`rescue-cds decisions`: find a decision, show what was seen and why, and evaluate it again.

Who calls says where the database's address comes from (`Address`): command line, environment, configuration. Other
commands of the group are put beside these by who makes them: `register` gives the group back.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any, Final

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from app import moments
from app.configuration import SettingsError
from app.decisions import library, records, show
from app.decisions.legible import document, line
from app.decisions.records import NotFound, Query, Record
from app.decisions.rerun import Rerun, rerun
from app.observe import terminal
from app.observe.metrics import OUTCOMES, UNDECIDED
from app.settings import load
from app.store import readonly
from app.store.command import INTERRUPTED, Address
from app.store.errors import StoreError

DIFFERS: Final = 3
NOT_POSSIBLE: Final = 4

_OUTCOMES: Final = tuple(sorted({*OUTCOMES} - {UNDECIDED}))

_SILENT_SECONDS: Final = 3.0
_SHOWN: Final = 20
"""Differences of one decision that are printed without --json."""

_RERUN_EPILOG: Final = f"""\
{moments.HOW}
exit status: 0 identical, 3 something differs, 4 nothing differs and something could not be evaluated again,
2 the command line, the configuration or the database cannot be used. What --since finds without the patient's
data, which have been removed, is counted and changes nothing. docs/decisions.md says what is compared.
"""


class Unusable(ValueError):
    """A command line, configuration or database that cannot be used. The message says the remedy."""


def register(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], *, address: Address
) -> argparse._SubParsersAction[argparse.ArgumentParser]:
    """The group with its sub-commands; others can be added to what is returned."""
    group = commands.add_parser("decisions", help="what was decided: find, show, evaluate again")
    actions = group.add_subparsers(required=True, metavar="ACTION")

    shown = actions.add_parser(
        "show",
        help="what the clinician saw, and why",
        description="Prints one decision: the cards, the verdicts with their evidence, what was read, what came back. "
        "This is patient data.",
    )
    shown.add_argument("id", metavar="ID", help="of the decision, its first 8 characters or more, or a card's uuid")
    shown.add_argument("--json", action="store_true", help="one JSON document, with the facts (docs/decisions.md)")
    options_of(shown)
    shown.set_defaults(run=lambda options: _run(_show, options, address=address))

    again = actions.add_parser(
        "rerun",
        help="evaluate the stored facts again with the stored knowledge: identical, or what differs",
        description="Evaluates decisions again, each with its own knowledge, and compares verdicts, evidence, gaps and "
        "the bytes of the cards.",
        epilog=_RERUN_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    again.add_argument("ids", nargs="*", metavar="ID", help="as for show; or a period with --since")
    _period(again)
    again.add_argument("--json", action="store_true", help="one JSON object a decision and line")
    options_of(again)
    again.set_defaults(run=lambda options: _run(_rerun, options, address=address))

    listed = actions.add_parser(
        "list",
        help="decisions, the newest first, without patient data",
        description="Lists decisions without anything of a patient.",
        epilog=moments.HOW,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _period(listed)
    listed.add_argument("--limit", type=_number, default=50, metavar="N", help="at most so many (default 50)")
    options_of(listed)
    listed.set_defaults(run=lambda options: _run(_list, options, address=address))
    return actions


def options_of(parser: argparse.ArgumentParser) -> None:
    """Those that say which database."""
    parser.add_argument("--db", metavar="URL", help="the database (default: RESCUE_CDS_DB, else configured)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the configuration: its database and time zone")


def _period(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--since", metavar="WHEN", help="decisions from then on")
    parser.add_argument("--until", metavar="WHEN", help="decisions before then")
    parser.add_argument("--outcome", default="", metavar="NAME", help="only this outcome (docs/integrate.md)")
    parser.add_argument("--client", default="", metavar="ID", help="only this client")
    parser.add_argument("--tenant", default="", metavar="NAME", help="only this tenant")


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= len(text) <= 6 and int(text) > 0):
        raise argparse.ArgumentTypeError("a number from 1 to 999999")
    return int(text)


_Job = Callable[[argparse.Namespace, AsyncEngine], Coroutine[Any, Any, int]]


def _run(job: _Job, options: argparse.Namespace, *, address: Address) -> int:
    """Raises Unusable."""
    try:
        return asyncio.run(_opened(job, options, address=address))
    except (NotFound, StoreError, SettingsError) as error:
        raise Unusable(str(error)) from None
    except KeyboardInterrupt:
        say("rescue-cds: interrupted")
        return INTERRUPTED


async def _opened(job: _Job, options: argparse.Namespace, *, address: Address) -> int:
    engine = readonly.create(address(options))
    try:
        return await job(options, engine)
    finally:
        await engine.dispose()


def _query(options: argparse.Namespace) -> Query:
    if options.outcome and options.outcome not in _OUTCOMES:
        raise Unusable(f"--outcome: no decision has the outcome {options.outcome!r}: one of {', '.join(_OUTCOMES)}")
    now, zone = datetime.now(UTC), _zone(options)

    def moment(option: str, *, whole_day: bool = False) -> datetime | None:
        text = getattr(options, option)
        if text is None:
            return None
        try:
            return moments.read(text, now=now, zone=zone, whole_day=whole_day)
        except moments.BadMoment as error:
            raise Unusable(f"--{option}: {error}") from None

    query = Query(moment("since"), moment("until", whole_day=True), options.outcome, options.client, options.tenant)
    if query.since is not None and query.until is not None and query.since >= query.until:
        raise Unusable("--since: lies behind --until: nothing is between them")
    return query


def _zone(options: argparse.Namespace) -> tzinfo:
    """That of the tenant, or of all tenants where they share one."""
    if options.config is None:
        return UTC
    tenants = load(options.config).tenants
    zones = {one.zone for one in tenants if options.tenant in ("", one.name)}
    return zones.pop() if len(zones) == 1 else UTC


# --- show, list ------------------------------------------------------------------------------------------------------


async def _show(options: argparse.Namespace, engine: AsyncEngine) -> int:
    record = await records.find(engine, options.id)
    told, links = await records.told(engine, record.id)
    bedside, why = None, ""
    try:
        bedside = await library.Shelf(engine).take(record.knowledge_hash)
    except library.Unusable as error:
        why = str(error)
    found = show.document(record, told=told, links=links, bedside=bedside, why_no_words=why)
    terminal.show(document(found) if options.json else show.text(found, width=show.width()))
    return 0


async def _list(options: argparse.Namespace, engine: AsyncEngine) -> int:
    rows = await records.listed(engine, _query(options), limit=options.limit)
    terminal.show(show.table(rows, columns=show.columns()))
    return 0


# --- rerun -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Tally:
    """What came of the reruns; says how far it is, when it takes long."""

    total: int
    identical: int = 0
    differs: int = 0
    removed: int = 0
    not_possible: int = 0
    spoke: float = field(default_factory=time.monotonic)

    def note(self, found: Rerun) -> None:
        if found.verdict == "identical":
            self.identical += 1
        elif found.verdict == "differs":
            self.differs += 1
        elif found.is_removed:
            self.removed += 1
        else:
            self.not_possible += 1
        now = time.monotonic()
        if now - self.spoke >= _SILENT_SECONDS:
            self.spoke = now
            say(f"rescue-cds: {self.done} of {self.total} decisions evaluated again")

    @property
    def done(self) -> int:
        return self.identical + self.differs + self.removed + self.not_possible

    def text(self) -> str:
        return (
            f"{self.done} decisions: {self.identical} identical, {self.differs} differ, "
            f"{self.removed} without the patient's data, {self.not_possible} could not be evaluated again"
        )

    def status(self, *, named: bool) -> int:
        if self.differs:
            return DIFFERS
        return NOT_POSSIBLE if self.not_possible or (named and self.removed) else 0


async def _rerun(options: argparse.Namespace, engine: AsyncEngine) -> int:
    ids, is_period = list(options.ids), options.since is not None or options.until is not None
    if bool(ids) == is_period:
        raise Unusable("decisions rerun: name decisions by their ids, or a period with --since")
    if ids and (options.outcome or options.client or options.tenant):
        raise Unusable("--outcome, --client and --tenant go with --since: ids name decisions by themselves")
    query = Query() if ids else _query(options)
    tally = _Tally(len(ids) or await records.count(engine, query))
    shelf = library.Shelf(engine)
    async for record in _asked(engine, ids, query=query):
        found = await _again(record, shelf=shelf)
        tally.note(found)
        if options.json:
            terminal.show(line(msgspec.json.encode(_as_json(found)).decode()))
        elif ids or found.verdict != "identical":
            terminal.show(_text(found))
    if not options.json and (is_period or len(ids) > 1):
        terminal.show(tally.text())
    return tally.status(named=bool(ids))


async def _asked(engine: AsyncEngine, ids: list[str], *, query: Query) -> AsyncIterator[Record]:
    for name in ids:
        yield await records.find(engine, name)
    if not ids:
        async for page in records.pages(engine, query):
            for record in page:
                yield record


async def _again(record: Record, *, shelf: library.Shelf) -> Rerun:
    try:
        return rerun(record, bedside=await shelf.take(record.knowledge_hash))
    except library.Unusable as error:
        made_by = record.versions.get("service", "unknown")
        return Rerun(record.id, "not possible", str(error), made_by=made_by, knowledge=record.knowledge_hash)


def _as_json(found: Rerun) -> dict[str, Any]:
    made: dict[str, Any] = msgspec.to_builtins(found)
    return made


def _text(found: Rerun) -> str:
    rows = [
        f"{found.id}: {found.verdict}"
        + (f": {found.why}" if found.why else "")
        + f" (made by rescue-cds {found.made_by}"
        + (f", evaluated again by {found.run_by}" if found.run_by else "")
        + f"; knowledge {found.knowledge[:12]})"
    ]
    for one in found.differences[:_SHOWN]:
        rows += [f"  {one.path}", f"    then: {one.then}", f"    now:  {one.now}"]
    if len(found.differences) > _SHOWN:
        rows.append(f"  and {len(found.differences) - _SHOWN} more: --json has them")
    rows += [f"  note: {note}" for note in found.as_recorded]
    return "\n".join(map(line, rows))


def say(text: str) -> None:
    """How far it is, for who waits at the terminal."""
    with suppress(BrokenPipeError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
