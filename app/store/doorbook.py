"""What the door keeps: which tokens have been used, and what was refused."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.store.dialect import once
from app.store.models import refusals, used_tokens


@dataclass(frozen=True, slots=True)
class Refusal:
    """A call that was turned away. `token` is '' or the digest of a `jti` (`digest`); `service` '' for discovery."""

    at: datetime
    reason: str
    client: str = ""
    service: str = ""
    token: str = ""
    times: int = 1


def digest(token_id: str) -> str:
    """Of a `jti`, which may be anything the client made up."""
    return hashlib.sha256(token_id.encode("utf-8", "replace")).hexdigest()


async def use(connection: AsyncConnection, *, client: str, token_id: str, until: datetime, now: datetime) -> bool:
    """Whether this is the token's first use; it is remembered until it expires. Over all processes one is the first."""
    noted = once(connection.dialect)(used_tokens).values(client=client, digest=digest(token_id), until=until)
    noted = noted.on_conflict_do_update(
        index_elements=[column.name for column in used_tokens.primary_key],
        set_={"until": noted.excluded.until},
        where=used_tokens.c.until < now,
    )
    return (await connection.execute(noted.returning(used_tokens.c.digest))).first() is not None


async def note(connection: AsyncConnection, refusal: Refusal) -> None:
    """Keep one refusal."""
    await connection.execute(
        insert(refusals).values(
            at=refusal.at,
            reason=refusal.reason,
            client=refusal.client,
            service=refusal.service,
            token=refusal.token,
            times=refusal.times,
        )
    )
