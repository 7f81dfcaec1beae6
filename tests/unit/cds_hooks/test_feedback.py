"""Feedback bodies as clients send them, and what is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from cds_hooks import feedback
from cds_hooks.errors import BadRequest
from cds_hooks.feedback import Entry, Reason

CARD = "4e0a3a1e-3283-4575-ab82-028d55fe2719"
SUGGESTION = "e56e1945-20b3-4393-8503-a1a20fd73152"
ACCEPTED = {
    "card": CARD,
    "outcome": "accepted",
    "acceptedSuggestions": [{"id": SUGGESTION}],
    "outcomeTimestamp": "2020-12-11T00:00:00Z",
}
OVERRIDDEN = {
    "card": CARD,
    "outcome": "overridden",
    "overrideReason": {
        "reason": {"code": "d7ecf885", "system": "https://example.com/reasons", "display": "other"},
        "userComment": "clinician entered comment",
    },
    "outcomeTimestamp": "2020-12-11T10:05:31Z",
}


def body(*entries: Any) -> bytes:
    return json.dumps({"feedback": list(entries)}).encode()


def test_an_acceptance_and_an_override() -> None:
    first, second = feedback.parse(body(ACCEPTED, OVERRIDDEN))
    assert first == Entry(
        card=CARD, outcome="accepted", suggestions=(SUGGESTION,), at=datetime(2020, 12, 11, tzinfo=UTC)
    )
    assert (second.outcome, second.comment) == ("overridden", "clinician entered comment")
    assert second.reason == Reason(code="d7ecf885", system="https://example.com/reasons", display="other")


def test_a_comment_is_never_printed() -> None:
    (entry,) = feedback.parse(body(OVERRIDDEN))
    assert "comment" not in repr(entry)


def test_repeats_and_a_change_of_mind_are_kept_in_order() -> None:
    found = feedback.parse(body(ACCEPTED, ACCEPTED, OVERRIDDEN))
    assert [entry.outcome for entry in found] == ["accepted", "accepted", "overridden"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"acceptedSuggestions": []}, {"suggestions": ()}),
        ({"acceptedSuggestions": None}, {"suggestions": ()}),
        ({"acceptedSuggestions": [{}, {"id": 7}, {"id": "a"}, {"id": "a"}]}, {"suggestions": ("a",)}),
        ({"outcomeTimestamp": None}, {"at": None}),
        ({"outcomeTimestamp": "yesterday"}, {"at": None}),
        ({"outcomeTimestamp": "2020-12-11T00:00:00"}, {"at": None}),
        ({"outcomeTimestamp": "0001-01-01T00:00:00+14:00"}, {"at": None}),
        ({"outcomeTimestamp": "2020-12-11T01:00:00+01:00"}, {"at": datetime(2020, 12, 11, tzinfo=UTC)}),
        ({"overrideReason": None}, {"reason": None, "comment": None}),
        ({"overrideReason": {}}, {"reason": None, "comment": None}),
        ({"overrideReason": {"reason": None, "userComment": "  "}}, {"reason": None, "comment": None}),
        ({"overrideReason": {"reason": {}}}, {"reason": None}),
        ({"overrideReason": {"reason": {"code": "c"}}}, {"reason": Reason(code="c", system="", display="")}),
        ({"overrideReason": {"reason": {"display": "why"}}}, {"reason": Reason(code="", system="", display="why")}),
        ({"overrideReason": {"userComment": "x" * 9000}}, {"comment": "x" * feedback.MAX_COMMENT}),
        ({"card": f" {CARD} ", "more": {"unknown": [1]}}, {"card": CARD}),
    ],
)
def test_what_clients_leave_out_or_add(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    (entry,) = feedback.parse(body(ACCEPTED | changes))
    assert {name: getattr(entry, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"outcome": "accepted"}, "feedback[1].card"),
        ({"card": "", "outcome": "accepted"}, "feedback[1].card"),
        ({"card": 7, "outcome": "accepted"}, "feedback[1].card"),
        ({"card": "x" * 513, "outcome": "accepted"}, "feedback[1].card"),
        ({"card": CARD}, "feedback[1].outcome"),
        ({"card": CARD, "outcome": "ignored"}, "feedback[1].outcome"),
        ({"card": CARD, "outcome": ["accepted"]}, "feedback[1].outcome"),
        ({"card": CARD, "outcome": "accepted", "acceptedSuggestions": {}}, "acceptedSuggestions must be a list"),
        ({"card": CARD, "outcome": "accepted", "acceptedSuggestions": ["x"]}, "acceptedSuggestions must be"),
        ({"card": CARD, "outcome": "overridden", "overrideReason": "no"}, "overrideReason must be"),
        ({"card": CARD, "outcome": "overridden", "overrideReason": {"reason": "no"}}, "reason must be"),
        ("accepted", "feedback[1] must be"),
        (None, "feedback[1] must be"),
    ],
)
def test_one_entry_that_means_nothing_refuses_the_batch(entry: Any, says: str) -> None:
    with pytest.raises(BadRequest) as caught:
        feedback.parse(body(ACCEPTED, entry))
    assert says in caught.value.message
    assert CARD not in caught.value.message


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b"{}", "feedback must be a list"),
        (b'{"feedback": {}}', "feedback must be a list"),
        (b'{"feedback": null}', "feedback must be a list"),
        (b'{"feedback": [], "feedback": []}', "same key twice"),
        (b'{"feedback": [{"card": "a", "card": "b", "outcome": "accepted"}]}', "same key twice"),
        (b'{"feedback": ["\\u0000"]}', "NUL"),
        (body(*([ACCEPTED] * 1001)), "more than 1000"),
    ],
)
def test_a_body_that_is_no_feedback(raw: bytes, says: str) -> None:
    with pytest.raises(BadRequest) as caught:
        feedback.parse(raw)
    assert says in caught.value.message


def test_an_empty_batch_says_nothing() -> None:
    assert feedback.parse(body()) == ()
