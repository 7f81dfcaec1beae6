"""What every mapping needs to know beside the resource itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
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
    """

    now: datetime
    zone: ZoneInfo
    overlay: Overlay = field(default_factory=Overlay)
    medications: Mapping[str, bytes] = field(default_factory=dict)
    specimens: Mapping[str, bytes] = field(default_factory=dict)

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
        return when.earliest > self.now + FUTURE_TOLERANCE
