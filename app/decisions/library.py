"""The knowledge that decisions were made with, from the files that are stored with them."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from app import knowledge
from app.decisions import records
from app.knowledge import Bedside
from app.protocols import loader
from app.protocols.fields import KnowledgeError

MOST: int = 8
"""Versions in memory at a time."""


class Unusable(ValueError):
    """Stored knowledge that cannot be used. The message says why."""


@dataclass(slots=True)
class Shelf:
    """Versions by their hash, each built once."""

    engine: AsyncEngine
    built: dict[str, Bedside | Unusable] = field(default_factory=dict)

    async def take(self, digest: str) -> Bedside:
        """That version. Raises Unusable, and StoreError where the database cannot be read."""
        if digest not in self.built:
            while len(self.built) >= MOST:
                del self.built[next(iter(self.built))]
            files = await records.knowledge_files(self.engine, digest)
            try:
                self.built[digest] = build(files, digest=digest)
            except Unusable as error:
                self.built[digest] = error
        found = self.built[digest]
        if isinstance(found, Unusable):
            raise found
        return found


def build(files: bytes | None, *, digest: str) -> Bedside:
    """The rules and words of stored files. Raises Unusable."""
    short = digest[:12]
    if files is None:
        raise Unusable(f"the knowledge {short} is not in the database")
    try:
        texts = msgspec.json.decode(files, type=dict[str, str])
        library = loader.build(texts)
    except msgspec.MsgspecError:
        raise Unusable(f"the stored knowledge {short} cannot be read") from None
    except (KnowledgeError, KeyError) as error:
        raise Unusable(_other_version(short, error)) from None
    if library.knowledge.hash != digest:
        raise Unusable(f"the stored knowledge {short} is not what its hash says: it was changed")
    try:
        return knowledge.of(library)
    except KnowledgeError as error:
        raise Unusable(_other_version(short, error)) from None


def _other_version(short: str, error: Exception) -> str:
    return f"this version cannot use the stored knowledge {short} ({error}): use the version that made the decision"
