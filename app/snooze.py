"""What makes two answers say the same: the kind of card, and a hash of the state that it rests on.

Into the hash go findings, why they are what they are, and the results they rest on, each with its value and time; not
the ages that a card prints, which change by themselves. So a new value speaks again, and so does one that went stale.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from app.clinical.assessment import Assessment
from app.clinical.criteria import Outcome
from app.clinical.orders import OrderAssessment
from app.clinical.reading import Reason

KINDS = ("undetermined", "thresholds-met", "course", "safety", "order-select", "order-sign")
"""What a site can have snoozed; a card that stops (critical) never is."""

_ENCODER = msgspec.json.Encoder(decimal_format="string")


def of_assessment(found: Assessment) -> tuple[str, str]:
    """The kind of the cards of patient-view, and the state; ('', '') where there is none."""
    if found.row.card == "none" and not found.safety_card:
        return "", ""
    spoken = [(c.id, c.outcome) for p in found.protocols if p.protocol.speak for c in p.criteria]
    spoken += [(s.rule.id, s.outcome) for s in found.safety]
    spoken += [(a.action.id, a.outcome) for a in found.follow_up.actions]
    said = [
        [(id_, *_outcome(outcome, now=found.now)) for id_, outcome in spoken],
        found.suggest,
        [_reason(reason) for reason in (*found.withheld, *found.confirm)],
        found.follow_up.day,
        [(source.key, source.why) for source in found.lost],
    ]
    return "safety" if found.row.card == "none" else found.row.card, _hash(said)


def of_orders(found: OrderAssessment) -> tuple[str, str]:
    """The same for the cards of an order hook; the drafts are part of the state."""
    if not found.speaks:
        return "", ""
    drafts = [
        (d.digest, d.use.ingredients, d.use.possibly, d.use.daily_mg, d.vaccine, d.first_day, d.last_day, d.end)
        for d in found.orders
    ]
    said = [
        sorted(map(repr, drafts)),
        [(s.rule.id, *_outcome(s.outcome, now=found.now)) for s in (*found.safety, *found.watched)],
        sorted(
            (c.check.id, c.finding.value, *_reason(c.reason), [e.reference for e in c.evidence]) for c in found.checks
        ),
        [(name, reading.reason.code) for name, reading in found.required],
        None if found.course is None else (found.course.low, found.course.high),
        [(source.key, source.why) for source in found.lost],
        [(gap.why, gap.concept, gap.reference) for gap in found.gaps],
    ]
    return found.hook, _hash(said)


def _outcome(outcome: Outcome, *, now: datetime) -> tuple[Any, ...]:
    """What runs on acts until now, whenever that is."""
    results = [
        (e.reference, e.value, e.original, None if e.effective is None or e.effective >= now else e.effective)
        for e in outcome.evidence
    ]
    reasons = [(answer.input, answer.finding.value, answer.reason.code) for answer in outcome.because]
    return outcome.finding.value, reasons, results


def _reason(reason: Reason) -> tuple[Any, ...]:
    """Without ages, which pass by themselves."""
    return reason.code, *sorted(pair for pair in reason.params if pair[0] != "age")


def _hash(said: Iterable[Any]) -> str:
    return hashlib.sha256(_ENCODER.encode(list(said))).hexdigest()


def user_digest(user_id: str, *, tenant: str) -> str:
    """Who was shown a card, without a name. Two hospitals of one client may both have a `Practitioner/1`."""
    return hashlib.sha256("\n".join((tenant, user_id)).encode("utf-8", "replace")).hexdigest()
