"""Which token goes with which read, and what the record says of it."""

from __future__ import annotations

from typing import cast

import pytest

from app.gateway.access import Access
from app.gateway.backend_services import BackendServices
from app.gateway.budget import Deadline
from app.gateway.errors import GatewayError, NoToken, TokenScope

HOOK = "hook-token-canary"
OURS = "backend-token-canary"
NEWER = "backend-token-newer"
DEADLINE = Deadline(5)


class Backend:
    """The tenant's own credentials, with one token and a newer one; `error` is what asking for any of them raises."""

    def __init__(self, *, error: GatewayError | None = None) -> None:
        self.error = error
        self.asked: list[tuple[Deadline, str | None]] = []

    async def token(self, *, deadline: Deadline, rejected: str | None = None) -> str:
        self.asked.append((deadline, rejected))
        if self.error is not None:
            raise self.error
        return OURS if rejected is None else NEWER


def access(
    token: str | None = HOOK, *, scope: str = "", backend: Backend | None = None, only_without_token: bool = False
) -> Access:
    services = cast("BackendServices | None", backend)
    return Access(token, scope=scope, backend=services, only_without_token=only_without_token)


@pytest.mark.parametrize(
    ("token", "scope", "has_backend", "only_without_token", "expected", "mark"),
    [
        (None, "", False, False, None, "none"),
        (None, "", True, False, OURS, "backend"),
        (None, "", True, True, OURS, "backend"),
        (None, "patient/*.rs", True, False, OURS, "backend"),
        (HOOK, "", False, False, HOOK, "hook"),
        (HOOK, "", True, False, HOOK, "hook"),
        (HOOK, "", True, True, HOOK, "hook"),
        (HOOK, "patient/Observation.rs", True, False, HOOK, "hook"),
        (HOOK, "user/*.read", True, False, HOOK, "hook"),
        (HOOK, "patient/Condition.rs", True, False, OURS, "backend"),
        (HOOK, "patient/Observation.r", True, False, OURS, "backend"),
        (HOOK, "patient/Observation.rs?category=laboratory", True, False, OURS, "backend"),
        (HOOK, "openid fhirUser", True, False, OURS, "backend"),
        (HOOK, "patient/Condition.rs", True, True, HOOK, "hook"),
        (HOOK, "patient/Condition.rs", False, False, HOOK, "hook"),
        (HOOK, "patient/Condition.rs", False, True, HOOK, "hook"),
    ],
)
async def test_the_hooks_token_comes_first_where_it_covers_the_type(
    token: str | None, scope: str, has_backend: bool, only_without_token: bool, expected: str | None, mark: str
) -> None:
    backend = Backend() if has_backend else None
    given = access(token, scope=scope, backend=backend, only_without_token=only_without_token)
    assert (await given.token("Observation", deadline=DEADLINE), given.mark) == (expected, mark)


async def test_the_backend_is_not_asked_while_the_hooks_token_covers_the_type() -> None:
    backend = Backend()
    await access(scope="patient/*.rs", backend=backend).token("Observation", deadline=DEADLINE)
    assert backend.asked == []


async def test_each_type_is_decided_by_itself() -> None:
    given = access(scope="patient/Observation.rs", backend=Backend())
    tokens = [await given.token(kind, deadline=DEADLINE) for kind in ("Observation", "Condition", "Observation")]
    assert tokens == [HOOK, OURS, HOOK]


async def test_before_any_read_the_mark_is_none() -> None:
    assert access(backend=Backend()).mark == "none"


@pytest.mark.parametrize("kinds", [("Observation", "Condition"), ("Condition", "Observation")])
async def test_the_mark_names_both_authorities_in_one_order(kinds: tuple[str, str]) -> None:
    given = access(scope="patient/Observation.rs", backend=Backend())
    for kind in kinds:
        await given.token(kind, deadline=DEADLINE)
    assert given.mark == "hook+backend"


async def test_reads_without_any_token_leave_the_mark_at_none() -> None:
    given = access(None)
    await given.token("Observation", deadline=DEADLINE)
    assert given.mark == "none"


async def test_the_backend_waits_no_longer_than_the_deadline_of_the_hook() -> None:
    backend, deadline = Backend(), Deadline(3)
    await access(None, backend=backend).token("Observation", deadline=deadline)
    assert backend.asked == [(deadline, None)]


@pytest.mark.parametrize("kind", [NoToken, TokenScope])
async def test_a_backend_token_that_cannot_be_had_is_told(kind: type[GatewayError]) -> None:
    given = access(None, backend=Backend(error=kind(status=400)))
    with pytest.raises(kind):
        await given.token("Observation", deadline=DEADLINE)


async def test_a_failed_backend_does_not_fall_back_on_a_token_that_does_not_cover_the_type() -> None:
    given = access(scope="patient/Condition.rs", backend=Backend(error=NoToken()))
    with pytest.raises(NoToken):
        await given.token("Observation", deadline=DEADLINE)


async def test_the_backends_token_is_renewed_once_it_was_rejected() -> None:
    backend, deadline = Backend(), Deadline(3)
    given = access(None, backend=backend)
    assert await given.renewed(rejected=OURS, deadline=deadline) == NEWER
    assert backend.asked == [(deadline, OURS)]


async def test_the_hooks_own_token_has_no_newer_one() -> None:
    backend = Backend()
    assert await access(backend=backend).renewed(rejected=HOOK, deadline=DEADLINE) is None
    assert backend.asked == []


async def test_without_a_backend_nothing_is_renewed() -> None:
    assert await access().renewed(rejected="any", deadline=DEADLINE) is None


async def test_a_backend_that_cannot_renew_is_told() -> None:
    given = access(None, backend=Backend(error=NoToken()))
    with pytest.raises(NoToken):
        await given.renewed(rejected=OURS, deadline=DEADLINE)


async def test_one_hook_leaves_nothing_for_the_next() -> None:
    backend = Backend()
    first, second = access(backend=backend), access(None, backend=backend)
    await first.token("Observation", deadline=DEADLINE)
    await second.token("Observation", deadline=DEADLINE)
    assert (first.mark, second.mark) == ("hook", "backend")


async def test_no_token_is_in_a_repr() -> None:
    given = access(scope="patient/Observation.rs", backend=Backend())
    await given.token("Observation", deadline=DEADLINE)
    await given.token("Condition", deadline=DEADLINE)
    assert HOOK not in repr(given)
    assert OURS not in repr(given)
