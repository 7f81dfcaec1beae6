"""When the evidence was reviewed, and until when that review is good (clinical 3.3)."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Mapping
from datetime import date
from typing import Any as Json

from app.protocols.fields import KnowledgeError, limits

MONTHS = "review_expires_months"


def with_expiry(name: str, cards: Mapping[str, Json]) -> dict[str, Json]:
    """The words of the cards with `evidence_expires` and `review_expires_months` filled in. Raises KnowledgeError."""
    try:
        reviewed = date.fromisoformat(cards["evidence_reviewed"])
    except (KeyError, TypeError, ValueError):
        raise KnowledgeError(f"app/protocols/{name}: evidence_reviewed: write a date like 2027-11-21") from None
    found = limits(name, cards)
    if MONTHS not in found:
        raise KnowledgeError(f"app/protocols/{name}: no block [limit.{MONTHS}]: add it")
    months = found[MONTHS].value
    if months != int(months) or months <= 0:
        raise KnowledgeError(f"app/protocols/{name}: [limit.{MONTHS}] value: whole months above zero")
    expires = months_after(reviewed, int(months))
    return {**cards, "evidence_expires": expires.isoformat(), MONTHS: str(int(months))}


def months_after(day: date, months: int) -> date:
    """The same day so many calendar months later; the last day of a month that is too short for it."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


def is_over(expires: str, today: date) -> bool:
    """The day of the expiry itself is not over."""
    return today > date.fromisoformat(expires)
