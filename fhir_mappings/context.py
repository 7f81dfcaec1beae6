"""What every mapping needs to know beside the resource itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from fhir_mappings.errors import BadDate
from fhir_mappings.facts import Overlay, When
from fhir_mappings.times import parse

FUTURE_TOLERANCE = timedelta(minutes=10)
"""A value further ahead of now is refused with a gap (reading 1: the future rule looks at the earliest instant)."""


@dataclass(frozen=True, slots=True)
class Context:
    """The moment, the facility's zone, the site's overlay, and resources that others refer to.

    `medications` holds raw Medication resources by `Medication/id`, `specimens` raw Specimen resources by `Specimen/id`
    (from includes, reads and the Bundle; also by their address in it).

    `turns` collects the instants after `now` from which on the same records give other facts: a result dated ahead
    comes into force, an infusion reaches its planned end. Whatever a mapping compares with `now` is put there, so that
    somebody who acts later can be told (a test holds the mappings to it).
    """

    now: datetime
    zone: ZoneInfo
    overlay: Overlay = field(default_factory=Overlay)
    medications: Mapping[str, bytes] = field(default_factory=dict)
    specimens: Mapping[str, bytes] = field(default_factory=dict)
    turns: set[datetime] = field(default_factory=set, compare=False)

    def when(self, text: str | None) -> When | None:
        """The interval of a FHIR date, None when absent or not a date."""
        if not text:
            return None
        try:
            return parse(text, zone=self.zone)
        except BadDate:
            return None

    def is_future(self, when: When) -> bool:
        """True when even the earliest instant lies more than the tolerance ahead of now."""
        if when.earliest <= self.now + FUTURE_TOLERANCE:
            return False
        self.turns.add(when.earliest - FUTURE_TOLERANCE)
        return True

    def is_future_day(self, day: date) -> bool:
        """True for a calendar day of the facility that has not begun."""
        if day <= self.now.astimezone(self.zone).date():
            return False
        self.turns.add(datetime.combine(day, time(), self.zone).astimezone(UTC))
        return True

    def is_past(self, moment: datetime) -> bool:
        """True from that instant on."""
        if moment <= self.now:
            return True
        self.turns.add(moment)
        return False
