"""Sending: what is taken, what is refused for good, what is tried again and how often."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import pytest

from app.export.elements import Json
from app.export.push import ATTEMPTS, LONGEST_PAUSE, GaveUp, Push
from app.gateway.errors import BadRequestPart, GatewayError, TimedOut, Unreachable
from app.gateway.feed import Reply

RESOURCE = {"resourceType": "AuditEvent", "id": "a"}


@dataclass
class Repository:
    """Answers what it was told to, the last again and again."""

    replies: Sequence[Reply | GatewayError]
    seen: list[tuple[str, str, bytes, str | None]] = field(default_factory=list)
    base: str = "https://audit.example.org/fhir"

    async def put(self, kind: str, id_: str, *, content: bytes, token: str | None) -> Reply:
        reply = self.replies[min(len(self.seen), len(self.replies) - 1)]
        self.seen.append((kind, id_, content, token))
        if isinstance(reply, GatewayError):
            raise reply
        return reply


@dataclass
class Sent:
    push: Push
    repository: Repository
    refused: list[tuple[Json, int]]
    pauses: list[float]


def sending(*replies: Reply | GatewayError, tokens: Sequence[str] = ("t",)) -> Sent:
    repository, refused, pauses = Repository(replies), [], []
    left = list(tokens)

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    def token() -> str:
        return left.pop(0) if len(left) > 1 else left[0]

    push = Push(repository, token, lambda one, status: refused.append((one, status)), sleep)  # type: ignore[arg-type]
    return Sent(push, repository, refused, pauses)


@pytest.mark.parametrize("status", [200, 201, 204])
async def test_taken(status: int) -> None:
    sent = sending(Reply(status))
    await sent.push.send(RESOURCE)
    assert sent.repository.seen == [("AuditEvent", "a", msgspec.json.encode(RESOURCE), "t")]
    assert (sent.push.taken, sent.push.rejected, sent.push.again) == (1, 0, 0)


@pytest.mark.parametrize("status", [400, 403, 404, 405, 409, 410, 412, 422, 499])
async def test_refused_for_good_is_kept_and_not_tried_again(status: int) -> None:
    sent = sending(Reply(status))
    await sent.push.send(RESOURCE)
    assert sent.refused == [(RESOURCE, status)]
    assert (len(sent.repository.seen), sent.push.taken, sent.push.rejected) == (1, 0, 1)


@pytest.mark.parametrize("passing", [401, 408, 429, 500, 502, 503, 504])
async def test_the_others_are_tried_again(passing: int) -> None:
    sent = sending(Reply(passing), Reply(passing), Reply(201))
    await sent.push.send(RESOURCE)
    assert (sent.push.taken, sent.push.again, sent.refused) == (1, 2, [])
    assert sent.pauses == [0.5, 1.0]


@pytest.mark.parametrize("error", [TimedOut, Unreachable])
async def test_no_answer_is_tried_again(error: type[GatewayError]) -> None:
    sent = sending(error(), Reply(200))
    await sent.push.send(RESOURCE)
    assert (sent.push.taken, sent.push.again) == (1, 1)


async def test_it_ends_and_says_why() -> None:
    sent = sending(Reply(503))
    with pytest.raises(GaveUp, match=f"^audit.example.org:443: it answers 503, after {ATTEMPTS} attempts"):
        await sent.push.send(RESOURCE)
    assert len(sent.repository.seen) == ATTEMPTS
    assert sent.pauses == sorted(sent.pauses)
    assert max(sent.pauses) == LONGEST_PAUSE
    silent = sending(TimedOut())
    with pytest.raises(GaveUp, match=r"^audit.example.org:443: no answer in time, "):
        await silent.push.send(RESOURCE)
    assert silent.push.taken == 0


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (ConnectionRefusedError(111, "canary"), "connection refused"),
        (ConnectionResetError("canary"), "the connection broke off"),
        (socket.gaierror(-2, "canary"), "the name of the host is not known"),
        (ssl.SSLCertVerificationError("canary"), "TLS, or the certificate, is refused"),
        (TimeoutError("canary"), "no answer in time"),
        (ValueError("canary"), "no connection"),
    ],
)
async def test_what_keeps_it_from_an_answer_is_said_in_words(cause: Exception, said: str) -> None:
    error = Unreachable()
    error.__context__ = OSError("canary of a library")
    error.__context__.__cause__ = cause
    with pytest.raises(GaveUp, match=f"^audit.example.org:443: {said}, after") as caught:
        await sending(error).push.send(RESOURCE)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(("named", "waited"), [(0.0, 0.5), (7.0, 7.0), (3600.0, LONGEST_PAUSE)])
async def test_the_time_that_the_server_names_is_waited_for_within_reason(named: float, waited: float) -> None:
    sent = sending(Reply(429, retry_after=named), Reply(200))
    await sent.push.send(RESOURCE)
    assert sent.pauses == [waited]


async def test_a_token_that_was_renewed_is_used() -> None:
    sent = sending(Reply(401), Reply(201), tokens=("old", "new"))
    await sent.push.send(RESOURCE)
    assert [one[3] for one in sent.repository.seen] == ["old", "new"]


@pytest.mark.parametrize("status", [100, 301, 302, 307])
async def test_a_redirect_ends_it_at_once(status: int) -> None:
    sent = sending(Reply(status))
    with pytest.raises(GaveUp, match="redirects are not followed"):
        await sent.push.send(RESOURCE)
    assert len(sent.repository.seen) == 1


async def test_a_token_that_is_none_ends_it_without_being_told() -> None:
    sent = sending(BadRequestPart(), tokens=("canary token",))
    with pytest.raises(GaveUp) as caught:
        await sent.push.send(RESOURCE)
    assert "canary" not in str(caught.value)
