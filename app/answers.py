"""What becomes of a call that has been evaluated: who is shown its cards, and the bytes of its answer.

Nothing is read or recorded here, so that the service and the rerun of a decision say the same.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import uuid5

import msgspec

from app import switches
from app.call import Call
from app.clinical.table import EVERYTHING
from app.settings import SILENT
from app.store.decisions import Shown
from cds_hooks.errors import PreconditionFailed, operation_outcome
from cds_hooks.response import Response, encode

EXTENSION: Final = "org.rescue-cds.decision"

_BEFORE_SILENT: Final = frozenset({"patient-user", "identity-mismatch", "not-evaluated", "disabled"})
"""Outcomes that come before `silent` (reading 7)."""

_CARDS: Final = ("protocol", "safety", "notice")
"""What the cards of an answer may be; their uuids are made of the decision's and these names."""


def is_refused(call: Call) -> bool:
    """Whether nothing is evaluated, whatever is asked: the call is filled in then."""
    if call.request.user_is_patient:
        call.outcome, call.way = "patient-user", "patient-user"
    elif EVERYTHING in call.switches.silenced:  # nothing is read either: what is silenced may be what is at fault
        call.outcome, call.way, call.verdicts = "disabled", "disabled", {"silenced": [EVERYTHING]}
    return bool(call.outcome)


def silence(call: Call) -> None:
    """In silent mode everything is evaluated and recorded, and nobody is shown a card (reading 7)."""
    everything = SILENT in call.switches.modes
    if not everything and (not call.cards or call.speaks.isdisjoint(call.switches.silent)):
        return
    if call.outcome not in _BEFORE_SILENT:
        call.would_be, call.outcome = call.outcome, "silent"
        call.verdicts["would_be"] = call.would_be
    would_show = [{"name": one.name, "indicator": one.indicator} for one in shown(call)]
    if would_show:
        call.verdicts["would_show"] = would_show
    call.cards = ()


def may_be_snoozed(call: Call) -> bool:
    """Whether these are cards that are not shown to the same user again. One that stops always is."""
    chosen = call.switches.snooze
    if chosen is None or not call.cards or call.kind not in chosen.kinds:
        return False
    return all(card.indicator != "critical" for card in call.cards)


def snooze(call: Call) -> None:
    """Takes the cards away."""
    call.verdicts["would_be"] = call.outcome
    call.cards, call.outcome = (), "snoozed"


def body(call: Call, *, status: int) -> bytes:
    """The answer of that status."""
    if status == 412:
        refusal = PreconditionFailed(
            "no data could be looked at: no usable prefetch was sent and no configured FHIR server could be read"
        )
        return msgspec.json.encode(operation_outcome(refusal.code, refusal.message, str(call.id)))
    decision: dict[str, Any] = {"id": str(call.id), "outcome": call.outcome}
    if call.would_be:
        decision["would_be"] = call.would_be
    if call.gaps:
        decision["gaps"] = call.gaps
    return encode(Response(cards=call.cards, extension={EXTENSION: decision}))


def shown(call: Call) -> list[Shown]:
    """The cards of the answer, for those who tell what became of them."""
    names = {str(uuid5(call.id, f"card/{name}")): name for name in _CARDS}
    return [
        Shown(card.uuid, names[card.uuid], card.indicator, tuple(s.uuid for s in card.suggestions if s.uuid))
        for card in call.cards
        if card.uuid
    ]


def reading(call: Call) -> dict[str, Any]:
    """How it was read and under which switches it was evaluated, for the record that stays."""
    found = call.reading | {"way": call.way, switches.KEY: call.switches.document()}
    if call.lost:
        found["lost"] = msgspec.to_builtins(call.lost)
    return found


def evidence(call: Call) -> list[dict[str, str]]:
    """For the record that stays."""
    return [_without_identity(entry) for entry in call.evidence]


def gaps(call: Call) -> list[dict[str, str]]:
    """For the record that stays."""
    return [_without_identity(entry) for entry in call.gaps]


def _without_identity(entry: dict[str, str]) -> dict[str, str]:
    """Whose Patient it was stands in `decision_facts`, and goes with it."""
    reference = entry.get("reference", "")
    return entry | {"reference": "Patient"} if reference.startswith("Patient/") else entry
