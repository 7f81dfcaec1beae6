"""The chain of what was written: every entry carries the hash of the one before, so that nothing can be changed,
removed or put elsewhere without a trace.

It shows what was altered in the database; who can write every table can also make a whole new chain. Against that a
head (`Head`) is kept outside: `verify` prints the heads and takes earlier ones back (knowledge: security 3.5).

The forms below are hashed for ever: a new one gets a new tag beside the old.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

Kind = Literal["decision", "removal", "feedback"]

FIRST: Final = "0" * 64
"""What the first entry of a chain follows."""

DECISION: Final = (
    *("id", "created_at", "client", "tenant", "service", "hook", "hook_instance", "request_digest", "versions"),
    *("knowledge_hash", "outcome", "verdicts", "evidence", "gaps", "timing", "reading", "facts_digest"),
    *("answer_digest", "flags"),
)
CARD: Final = ("card", "name", "indicator", "suggestions")
FEEDBACK: Final = (
    *("digest", "received_at", "client", "service", "card", "decision_id", "outcome", "outcome_at", "suggestions"),
    *("reason_code", "reason_system"),
)
"""The columns that are hashed, as the texts that stand in the database."""


@dataclass(frozen=True, slots=True)
class Head:
    """The end of one writer's chain."""

    writer: str
    seq: int
    hash: str

    def next(self, kind: Kind, ref: str, digest: str) -> Head:
        """The head after one more entry."""
        return Head(
            self.writer, self.seq + 1, entry(self.hash, writer=self.writer, seq=self.seq + 1, said=(kind, ref, digest))
        )


def entry(previous: str, *, writer: str, seq: int, said: tuple[str, str, str]) -> str:
    """The hash of an entry; `said` is its kind, ref and digest."""
    return _hash(["entry 1", previous, writer, seq, *said])


def writer(previous: str, *, id_: str, started_at: str) -> str:
    """The hash of a writer among the writers."""
    return _hash(["writer 1", previous, id_, started_at])


def decision(row: Mapping[str, Any], cards: Sequence[Sequence[Any]]) -> str:
    """The digest of a decision: its columns, and its cards as rows of `CARD`."""
    return _hash(["decision 1", [row[name] for name in DECISION], sorted(list(card) for card in cards)])


def feedback(row: Mapping[str, Any]) -> str:
    """The digest of one entry of feedback."""
    return _hash(["feedback 1", *(row[name] for name in FEEDBACK)])


def removal(decision_id: str, *, at: str) -> str:
    """The digest of the removal of a decision's patient data."""
    return _hash(["removal 1", decision_id, at])


def facts(patient: str, content: bytes) -> str:
    """The digest of a row of `decision_facts`."""
    return _hash(["facts 1", patient, hashlib.sha256(content).hexdigest()])


def answer(status: int, body: bytes) -> str:
    """The digest of a row of `decision_answers`."""
    return _hash(["answer 1", status, hashlib.sha256(body).hexdigest()])


def _hash(parts: Sequence[Any]) -> str:
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()
