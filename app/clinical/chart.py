"""One patient's facts at one moment, indexed for the readers, with the readings already made.

Lives for one assessment; nothing survives it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from app.clinical.knowledge import Input, Knowledge
from app.clinical.reading import Reading, Reason
from fhir_mappings.facts import Facts, Gap, Measurement, MedicationUse, When

_T = TypeVar("_T")


class Chart:
    """Facts, knowledge and now. `now` is an argument of the assessment, never the clock.

    It is kept in UTC: hours counted on a wall clock are wrong on the two days a year when the clocks change.
    """

    def __init__(self, facts: Facts, *, knowledge: Knowledge, now: datetime) -> None:
        self.facts = facts
        self.knowledge = knowledge
        self.now = now.astimezone(UTC)
        self.zone = ZoneInfo(facts.zone)
        self.readings: dict[tuple[object, ...], Any] = {}
        self._sources = {source.key: source for source in facts.sources}
        self._measurements: dict[str, list[Measurement]] = {}
        for m in facts.measurements:
            self._measurements.setdefault(m.concept, []).append(m)
        for values in self._measurements.values():
            values.sort(
                key=lambda m: (m.when.earliest, m.kind not in {"derived", "estimated"}, m.reference), reverse=True
            )

    def once(self, key: tuple[object, ...], make: Callable[[], _T]) -> _T:
        """What `make` gives, worked out once for this chart."""
        if key not in self.readings:
            self.readings[key] = make()
        found: _T = self.readings[key]
        return found

    def input(self, name: str) -> Input:
        """The input's window, needs and names."""
        return self.knowledge.inputs[name]

    def limit(self, name: str) -> Decimal:
        """A number of `inputs.toml` [limit.NAME]."""
        return self.knowledge.limits[name].value

    def hours(self, name: str) -> timedelta:
        """A limit in hours."""
        return timedelta(seconds=float(self.limit(name) * 3600))

    def since(self, name: str) -> datetime | None:
        """The start of an input's window; None when it has no limit. Exactly at the limit is inside."""
        window = self.input(name).window
        return None if window is None else self.now - window

    def values(self, concept: str, *, since: datetime | None = None) -> list[Measurement]:
        """Measurements of a concept, newest first, whose earliest instant is not before `since`."""
        found = self._measurements.get(concept, [])
        return found if since is None else [m for m in found if m.when.earliest >= since]

    def refused(self, concepts: Iterable[str], *, since: datetime | None = None) -> list[Gap]:
        """Refused results of these concepts (reading 3.3), newest first; one without a time counts as now."""
        wanted = frozenset(concepts)
        found = [
            gap
            for gap in self.facts.gaps
            if gap.displaces and gap.concept in wanted and (since is None or self.gap_time(gap) >= since)
        ]
        return sorted(found, key=self.gap_time, reverse=True)

    def displacing(self, concepts: Iterable[str], *, used: datetime | None, since: datetime | None = None) -> list[Gap]:
        """Refused results newer than the value used, newest first (reading 3.3).

        A conflict of the same instant counts too: nothing says that the value used is the right one (reading 3.2).
        """
        return [
            gap
            for gap in self.refused(concepts, since=since)
            if used is None or self.gap_time(gap) > used or (gap.why == "conflict" and self.gap_time(gap) == used)
        ]

    def gap_time(self, gap: Gap) -> datetime:
        """When the refused result was taken, at the latest."""
        return self.now if gap.when is None else min(gap.when.latest, self.now)

    def incomplete(self, needs: Iterable[str], since: datetime | None) -> Reading | None:
        """The same for a conclusion from absence: a partial answer never vouches for one (readings 3.10, 3.13)."""
        for key in needs:
            source = self._sources.get(key)
            if source is not None and source.outcome == "partial":
                params = {**dict(source.params), "source": key, "why": source.why or source.outcome}
                return Reading(Reason.of("source-failed", **params), failed=True)
        return self.uncovered(needs, since)

    def uncovered(self, needs: Iterable[str], since: datetime | None) -> Reading | None:
        """An unknown reading when one of these sources cannot vouch for the time since then, else None."""
        return self.lost(*((key, since) for key in needs))

    def lost(self, *asked: tuple[str, datetime | None]) -> Reading | None:
        """The same with a time for each source. One that the site has signed it lacks hides none that failed."""
        lost: Reading | None = None
        for key, since in asked:
            source = self._sources.get(key) or self.facts.source(key)
            if not source.covers(since):
                absent = source.why == "absent-at-site"
                params = {**dict(source.params), "source": key, "why": source.why or source.outcome}
                if not absent:
                    return Reading(Reason.of("source-failed", **params), failed=True)
                lost = lost or Reading(Reason.of("source-absent", **params))
        return lost

    def age(self, moment: datetime) -> timedelta:
        """How long before now."""
        return self.now - moment

    def hours_since(self, moment: datetime) -> Fraction:
        """Hours since then, for a rule that compares them as a number."""
        return Fraction((self.now - moment) // timedelta.resolution, timedelta(hours=1) // timedelta.resolution)

    def years(self, born: date) -> int:
        """Completed years since a day of birth, on the facility's calendar."""
        today = self.now.astimezone(self.zone).date()
        return today.year - born.year - ((today.month, today.day) < (born.month, born.day))

    def latest_possible(self, when: When | None) -> datetime | None:
        """For what excludes or warns: the latest instant a partial date allows, never later than now."""
        return None if when is None else min(when.latest, self.now)

    def exposure_end(self, use: MedicationUse) -> datetime | None:
        """When an administration last acted: its period's end, now when it runs (started within 7 d), else its time.

        Reading 3.11. None when nothing is dated.
        """
        if use.running and use.start is not None:
            started = min(use.start.latest, self.now)
            return self.now if self.age(started) <= self.hours("administration_runs_hours") else started
        return self.latest_possible(use.end or use.start)


def hours_text(delta: timedelta) -> str:
    """An age for people: hours with one decimal below two days, else days."""
    hours = delta.total_seconds() / 3600
    if hours < 1:
        return f"{max(0, round(hours * 60))} min"
    if hours < 48:
        return f"{hours:.1f}".rstrip("0").rstrip(".") + " h"
    return f"{hours / 24:.1f}".rstrip("0").rstrip(".") + " d"
