"""`rescue-cds db purge`: patient data go when a site's time for them is over; the decisions stay, and say so."""

from __future__ import annotations

import argparse
import asyncio
from datetime import UTC, datetime, timedelta
from typing import Final

from app import moments
from app.decisions.command import Unusable, options_of, say
from app.observe import terminal
from app.store import readonly, retention
from app.store.command import INTERRUPTED, Address
from app.store.decisions import Store
from app.store.errors import StoreError
from app.store.retention import Purged

YOUNGEST: Final = timedelta(hours=1)
"""Nothing younger is removed: somebody may be looking at the card, or about to say what became of it."""


def register(actions: argparse._SubParsersAction[argparse.ArgumentParser], *, address: Address) -> None:
    """The sub-command and its options."""
    parser = actions.add_parser(
        "purge",
        help="remove the patient data of old decisions",
        description="Removes the facts and the answers of decisions that are older, what users typed about their "
        "cards, and old notes of refused calls. What was decided stays, with its evidence and without its patient; the "
        "removal is an entry of the chain. Beside a running service, a few hundred at a time.",
        epilog="A moment is a date (2026-11-01, in UTC), a timestamp with its zone, or so long ago (90d, 24h); it lies "
        "at least an hour back (1h). What was removed is in no place but your backups.",
    )
    parser.add_argument("--older-than", required=True, metavar="WHEN", help="older than that moment, or so old (90d)")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    options_of(parser)
    parser.set_defaults(run=lambda options: _run(options, address=address))


def _run(options: argparse.Namespace, *, address: Address) -> int:
    """Raises Unusable."""
    now = datetime.now(UTC)
    try:
        before = moments.read(options.older_than, now=now, zone=UTC)
    except moments.BadMoment as error:
        raise Unusable(f"--older-than: {error}") from None
    if before > now - YOUNGEST:
        raise Unusable(
            f"--older-than: {before:%F %H:%M} UTC is less than an hour ago, or still to come: what is in use would go. "
            "The smallest age is 1h, the latest moment an hour ago"
        )
    try:
        return asyncio.run(_purged(address(options), before=before, dry_run=options.dry_run))
    except StoreError as error:
        raise Unusable(str(error)) from None
    except KeyboardInterrupt:
        terminal.show("interrupted: what was removed is removed, the rest is as it was")
        return INTERRUPTED


async def _purged(url: str, *, before: datetime, dry_run: bool) -> int:
    found = await _outlook(url, before=before)
    span = "" if found.oldest is None or found.newest is None else f", from {found.oldest:%F} to {found.newest:%F}"
    terminal.show(
        f"older than {before:%F %H:%M} UTC: patient data of {found.decisions} decisions{span}; "
        f"{found.refusals} notes of refused calls"
    )
    if dry_run:
        terminal.show("dry run: nothing was removed")
        return 0
    removed = 0
    async with Store(url, role="tool") as store:
        since = found.oldest
        while (step := await store.purge_some(before=before, since=since)).decisions:
            since, removed = step.newest, removed + step.decisions
            say(f"rescue-cds: {removed} of {found.decisions}")
        refusals = await store.purge_notes(before=before)
    terminal.show(f"removed: patient data of {removed} decisions; {refusals} notes of refused calls")
    return 0


async def _outlook(url: str, *, before: datetime) -> Purged:
    engine = readonly.create(url)
    try:
        async with readonly.snapshot(engine) as connection:
            return await retention.outlook(connection, before=before)
    finally:
        await engine.dispose()
