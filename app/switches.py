"""What an operator had switched when a call was answered: kept with every decision, so that it can be repeated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from app.settings import Caller, Settings, Snooze

KEY: Final = "switches"
"""Where they stand in the `reading` of a decision."""


class Switches(msgspec.Struct, frozen=True):
    """`modes` are those of the client, `published_at` the address that the cards' source is at. Sorted tuples: the same
    switches are the same bytes."""

    suggest_on: str
    zone: str
    silenced: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    snooze_hours: float | None = None
    snooze_kinds: tuple[str, ...] = ()
    published_at: str | None = None

    @property
    def snooze(self) -> Snooze | None:
        """For how long and what, where anything is."""
        return None if self.snooze_hours is None else Snooze(self.snooze_hours, frozenset(self.snooze_kinds))

    def document(self) -> dict[str, Any]:
        """Plain JSON, for the record."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


def of(settings: Settings, caller: Caller) -> Switches:
    """Those of this caller's calls."""
    snooze = settings.snooze
    return Switches(
        suggest_on=settings.suggest_on,
        zone=caller.tenant.zone.key,
        silenced=tuple(sorted(settings.silenced)),
        silent=tuple(sorted(settings.silent)),
        modes=tuple(sorted(caller.modes)),
        snooze_hours=None if snooze is None else snooze.hours,
        snooze_kinds=() if snooze is None else tuple(sorted(snooze.kinds)),
        published_at=settings.published_at,
    )


def read(reading: Mapping[str, Any]) -> Switches | None:
    """Those of a decision's `reading`; None in a record from before they were kept. Raises ValueError."""
    found = reading.get(KEY)
    if found is None:
        return None
    return msgspec.convert(found, Switches)
