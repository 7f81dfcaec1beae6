"""What every card has around its contents: who says it, when, on which knowledge, and what was not looked at.

The words are `app/protocols/shared/cards.toml`. Every word that may come from patient data goes through
`cds_hooks.markdown`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo

from app.clinical.reading import Reason
from app.protocols.review import MONTHS, is_over
from app.protocols.words import Words
from cds_hooks import markdown
from cds_hooks.markdown import Safe
from cds_hooks.response import Card, Coding, Link, OverrideReason, Source, Suggestion
from fhir_mappings import facts

SYSTEM = "urn:oid:2.25.242587638741105522790491737721017241513"
"""This project's own identifier for its codes: generated once, no domain is owned (reading 7)."""

TOPIC = Coding(
    code="anakinraRuxolitinibRescue",
    system=SYSTEM,
    display="anakinra + ruxolitinib rescue protocol (investigational)",
)
EVIDENCE_LINK = Link(
    label="The pilot letter (doi 10.1016/j.autrev.2020.102726)",
    url="https://doi.org/10.1016/j.autrev.2020.102726",
    type="absolute",
)
EVIDENCE = "org.rescue-cds.evidence"

SUMMARY_LIMIT = 139
MOST_GAPS = 8


def notice(key: str, *, words: Words, decision: UUID, source_url: str | None = None) -> Card:
    """The one card when nothing was evaluated: `identity` (warning) or `not_evaluated` (info)."""
    return Card(
        summary=words.card("summary", key),
        indicator="warning" if key == "identity" else "info",
        source=source(words, source_url),
        detail=words.card("detail", key),
        uuid=str(uuid5(decision, "card/notice")),
        override_reasons=overrides(words),
    )


@dataclass(frozen=True, slots=True)
class Frame:
    """The frame of one answer's cards. `words` neutralise what comes from data; `now` is the moment of evaluation in
    the facility's `zone`; `lost` are the sources that were not read, `gaps` what was there and could not be used."""

    words: Words
    decision: UUID
    source_url: str | None
    now: datetime
    zone: ZoneInfo
    lost: Sequence[facts.Source]
    gaps: Sequence[facts.Gap]

    def not_looked_at(self) -> list[Safe]:
        """One line a source, which of its searches, and what is unchecked for it (reading 7); then what was there and
        could not be used."""
        searches: dict[tuple[str, str, str], list[str]] = {}
        for source in self.lost:
            line = f"{source.resource_type}: {self.words.source(source)}"
            key = "checked_in_part" if source.outcome == "partial" else "not_checked"
            what = self.words.term_of_card("unchecked", source.resource_type)
            searches.setdefault((key, line, what), []).append(self.words.term("source", source.key))
        lost = [
            own(self.words.card("detail", key, line=line, searches=", ".join(names), what=what))
            for (key, line, what), names in searches.items()
        ]
        used = list(dict.fromkeys(own(f"{self.words.gap_subject(g)}: {self.words.gap(g)}") for g in self.gaps))
        if len(used) > MOST_GAPS:
            more = self.words.card("detail", "more", count=str(len(used) - MOST_GAPS))
            used = [*used[:MOST_GAPS], own(more)]
        return [*self.section("not_looked_at", lost), *self.section("not_used", used)]

    def version(self, speaking: Iterable[tuple[str, str]]) -> Safe:
        """The protocols that speak, and the dates of the evidence."""
        return own(
            self.words.card(
                "detail",
                "version",
                now=self.time(self.now),
                version=", ".join(f"{id_} {version}" for id_, version in speaking),
                status=self.words.setting("knowledge_status"),
                reviewed=self.words.setting("evidence_reviewed"),
                expires=self.words.setting("evidence_expires"),
            )
        )

    def review_over(self) -> list[Safe]:
        """The first line of every card once the review of the evidence has expired, on the facility's calendar."""
        if not is_over(self.words.setting("evidence_expires"), self.now.astimezone(self.zone).date()):
            return []
        reviewed, months = self.words.setting("evidence_reviewed"), self.words.setting(MONTHS)
        return [own(f"**{self.words.card('detail', 'expired', reviewed=reviewed, months=months)}**")]

    def reason(self, reason: Reason) -> Safe:
        return own(self.words.reason(reason))

    def heading(self, key: str) -> Safe:
        return own(f"**{self.words.card('heading', key)}**")

    def section(self, key: str, items: list[Safe]) -> list[Safe]:
        return [self.heading(key), markdown.bullets(items)] if items else []

    def time(self, moment: datetime) -> str:
        return moment.astimezone(self.zone).strftime("%Y-%m-%d %H:%M %Z")

    def card(
        self,
        name: str,
        *,
        summary: str,
        indicator: Any,
        parts: Sequence[Safe],
        extension: dict[str, Any],
        suggestions: tuple[Suggestion, ...] = (),
    ) -> Card:
        return Card(
            summary=markdown.plain(summary, limit=SUMMARY_LIMIT),
            indicator=indicator,
            source=source(self.words, self.source_url),
            detail="\n\n".join([*self.review_over(), *parts]),
            uuid=str(uuid5(self.decision, f"card/{name}")),
            suggestions=suggestions,
            selection_behavior="any" if suggestions else None,
            override_reasons=overrides(self.words),
            links=(EVIDENCE_LINK,),
            extension=extension,
        )


def source(words: Words, url: str | None) -> Source:
    return Source(label=words.setting("source_label"), url=url, topic=TOPIC)


def overrides(words: Words) -> tuple[OverrideReason, ...]:
    return tuple(
        OverrideReason(code=row["code"], system=row.get("system", SYSTEM), display=row["display"])
        for row in words.overrides()
    )


def clean(value: str) -> str:
    return markdown.text(value)


def plain(value: str) -> str:
    return markdown.plain(value, limit=200)


def own(value: str) -> Safe:
    """Our own words around words already neutralised."""
    return markdown.literal(value)
