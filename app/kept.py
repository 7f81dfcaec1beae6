"""What is kept of a patient for one decision: the facts, and what else of the request its answer was made of.

All of it stands in `decision_facts`, whose rows go with the patient's data. The first form were the bare facts; rows
of that form are still read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

import msgspec

from fhir_mappings.facts import Facts

FORM: Final = 2


class Asked(msgspec.Struct, frozen=True, omit_defaults=True):
    """`encounter` is the id that suggested orders bear. `until` says by protocol until when the card said that its
    verdict holds, `turns` from when on the same records would have given other facts. `orders` holds those drafts, by
    their place, that a suggestion corrects: without the words about them, and no other, since the answer holds them.
    """

    encounter: str = ""
    until: Mapping[str, datetime | None] = {}
    turns: tuple[datetime, ...] = ()
    orders: Mapping[int, msgspec.Raw] = {}


class Kept(msgspec.Struct, frozen=True):
    """One row. `form` 1 has facts only. `queries` are what the FHIR server was asked, as it was written."""

    form: int
    facts: Facts
    asked: Asked = Asked()
    queries: tuple[str, ...] = ()


class _Form(msgspec.Struct):
    form: int = 1


_ENCODER: Final = msgspec.json.Encoder(decimal_format="string")
_FORM: Final = msgspec.json.Decoder(_Form)
_KEPT: Final = msgspec.json.Decoder(Kept)
_BARE: Final = msgspec.json.Decoder(Facts)


class Unknown(ValueError):
    """Content that this version cannot read."""


def encode(facts: Facts, asked: Asked, *, queries: Iterable[str] = ()) -> bytes:
    """The row."""
    return _ENCODER.encode(Kept(FORM, facts, asked, tuple(queries)))


def decode(content: bytes) -> Kept:
    """What a row says. Raises Unknown, with nothing of its content."""
    try:
        form = _FORM.decode(content).form
        if form == 1:
            return Kept(1, _BARE.decode(content))
        if form == FORM:
            return _KEPT.decode(content)
    except (msgspec.MsgspecError, UnicodeError, ValueError):
        raise Unknown("the stored facts cannot be read") from None
    raise Unknown(f"the stored facts have form {form}: use the version that wrote them, or a newer one")
