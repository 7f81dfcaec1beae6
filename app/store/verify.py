"""Whether the record is what was written: the chain is walked from its first entry to its last.

Read in pages, in bounded memory. What is not part of the record is not looked at: what was shown to whom, which tokens
were used, which request is answered again, the notes of the door, and what a user typed beside feedback.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import Select, String, Table, Text, func, select, type_coerce
from sqlalchemy.ext.asyncio import AsyncConnection

from app.store import chain as forms
from app.store.chain import Head
from app.store.models import (
    Instant,
    Json,
    chain,
    decision_answers,
    decision_cards,
    decision_facts,
    decisions,
    feedback,
    knowledge,
    writers,
)

AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is not as it was written: in which table, which row, and what is wrong with it."""

    table: str
    row: str
    what: str

    def __str__(self) -> str:
        return f"{self.table} {self.row}: {self.what}"


@dataclass(slots=True)
class Count:
    """What has been looked at."""

    writers: int = 0
    entries: int = 0
    decisions: int = 0
    removed: int = 0
    feedback: int = 0


def _raw(table: Table, names: Sequence[str] | None = None) -> list[Any]:
    """The columns as the texts that stand in the database."""
    columns = table.columns if names is None else [table.c[name] for name in names]
    return [
        type_coerce(column, Text).label(column.name) if isinstance(column.type, Json | Instant | String) else column
        for column in columns
    ]


async def heads(connection: AsyncConnection) -> list[Head]:
    """The end of every chain, to be kept elsewhere: with them a later `verify` finds what was cut off whole."""
    found = await connection.execute(select(writers.c.id, writers.c.seq, writers.c.head).order_by(writers.c.number))
    return [Head(*row) for row in found]


async def faults(
    connection: AsyncConnection,
    *,
    expected: Sequence[Head] = (),
    count: Count | None = None,
    progress: Callable[[Count], None] = lambda _: None,
) -> AsyncIterator[Fault]:
    """Everything that is not as it was written. `expected` are heads that were noted earlier; they have to be there."""
    seen = count or Count()
    await _read_any_text(connection)
    known = [dict(row) for row in (await connection.execute(_WRITERS)).mappings()]
    for fault in _writers(known):
        yield fault
    ends = {head.writer: head for head in expected}
    for row in known:
        seen.writers += 1
        async for fault in _chain(connection, row, expected=ends.pop(row["id"], None), seen=seen, progress=progress):
            yield fault
    for head in ends.values():
        yield Fault("writers", head.writer, f"was removed, with at least {head.seq} entries")
    async for fault in _outside(connection):
        yield fault
    async for fault in _knowledge(connection):
        yield fault


async def _read_any_text(connection: AsyncConnection) -> None:
    """SQLite keeps bytes that are no text in a column of texts, and its driver refuses to read them: they are read as
    something else than was written."""
    if connection.dialect.name == "sqlite":
        driver: Any = (await connection.get_raw_connection()).driver_connection
        driver.text_factory = lambda raw: raw.decode("utf-8", "replace")


_WRITERS: Final = select(*_raw(writers)).order_by(writers.c.number)


def _writers(rows: Sequence[Mapping[str, Any]]) -> Iterator[Fault]:
    previous = forms.FIRST
    for row in rows:
        if row["prev_hash"] != previous:
            yield Fault("writers", row["id"], "does not follow the writer before it: one was removed, added or moved")
        if row["hash"] != forms.writer(row["prev_hash"], id_=row["id"], started_at=row["started_at"]):
            yield Fault("writers", row["id"], "was changed")
        previous = row["hash"]


async def _chain(
    connection: AsyncConnection,
    writer: Mapping[str, Any],
    *,
    expected: Head | None,
    seen: Count,
    progress: Callable[[Count], None],
) -> AsyncIterator[Fault]:
    head = Head(writer["id"], 0, forms.FIRST)
    async for page in _pages(connection, writer["id"]):
        refs = await _refs(connection, page)
        for row in page:
            where = f"{row['writer']}/{row['seq']} ({row['kind']} {row['ref']})"
            if row["seq"] < 1:
                yield Fault("chain", where, "stands before the first entry: it was added")
                continue
            missing = range(head.seq + 1, row["seq"])
            if missing:
                gap = f"{missing[0]} to {missing[-1]}" if len(missing) > 1 else str(missing[0])
                yield Fault("chain", f"{row['writer']}/{gap}", "was removed")
            said = (row["kind"], row["ref"], row["digest"])
            if row["hash"] != forms.entry(head.hash, writer=head.writer, seq=row["seq"], said=said) and not missing:
                yield Fault("chain", where, "was changed, or stands in another's place")
            head = Head(head.writer, row["seq"], row["hash"])
            if expected is not None and head.seq == expected.seq and head.hash != expected.hash:
                yield Fault("chain", where, "is not the entry that was noted: the chain was written anew")
            seen.entries += 1
            for fault in refs.faults(row, seen):
                yield fault
        progress(seen)
    if head.seq != writer["seq"]:
        what = f"ends at {head.seq}, not at {writer['seq']}: the last entries were removed or added"
        yield Fault("chain", f"{writer['id']}/{writer['seq']}", what)
    elif head.hash != writer["head"]:
        yield Fault("writers", writer["id"], "its head is not the hash of its last entry")
    if expected is not None and head.seq < expected.seq:
        yield Fault("chain", f"{writer['id']}/{expected.seq}", "was removed: it was there when the head was noted")


async def _pages(connection: AsyncConnection, writer: str) -> AsyncIterator[list[dict[str, Any]]]:
    last: int | None = None  # not 0: what somebody put before the first entry is looked at too
    while True:
        query = select(chain).where(chain.c.writer == writer).order_by(chain.c.seq)
        if last is not None:
            query = query.where(chain.c.seq > last)
        page = [dict(row) for row in (await connection.execute(query.limit(AT_ONCE))).mappings()]
        if not page:
            return
        yield page
        last = page[-1]["seq"]


class _Page:
    """What the entries of one page are about."""

    def __init__(self) -> None:
        self.decisions: dict[str, Mapping[str, Any]] = {}
        self.cards: dict[str, list[list[Any]]] = {}
        self.facts: dict[str, str] = {}
        self.answers: dict[str, str] = {}
        self.removed: frozenset[str] = frozenset()
        self.feedback: dict[str, Mapping[str, Any]] = {}

    def faults(self, entry: Mapping[str, Any], seen: Count) -> Iterator[Fault]:
        """Of what an entry is about."""
        ref = entry["ref"]
        if entry["kind"] == "decision":
            seen.decisions += 1
            seen.removed += ref in self.removed
            yield from self._decision(ref, entry["digest"])
        elif entry["kind"] == "feedback":
            seen.feedback += 1
            row = self.feedback.get(ref)
            if row is None:
                yield Fault("feedback", ref, "was removed")
            elif forms.feedback(row) != entry["digest"]:
                yield Fault("feedback", ref, "was changed")
        elif entry["kind"] != "removal":
            yield Fault("chain", f"{entry['writer']}/{entry['seq']}", "is of an unknown kind")

    def _decision(self, ref: str, digest: str) -> Iterator[Fault]:
        row = self.decisions.get(ref)
        if row is None:
            yield Fault("decisions", ref, "was removed")
            return
        if forms.decision(row, self.cards.get(ref, [])) != digest:
            yield Fault("decisions", ref, "was changed, or its cards were (decision_cards)")
            return
        for table, found, kept in (
            ("decision_facts", self.facts.get(ref), row["facts_digest"]),
            ("decision_answers", self.answers.get(ref), row["answer_digest"]),
        ):
            if ref in self.removed:
                if found is not None:
                    yield Fault(table, ref, "is there although it was removed on purpose")
            elif found is None and kept:
                yield Fault(table, ref, "was removed, and no removal is noted")
            elif found is not None and found != kept:
                yield Fault(table, ref, "was changed")


async def _refs(connection: AsyncConnection, page: Sequence[Mapping[str, Any]]) -> _Page:
    ids = [row["ref"] for row in page if row["kind"] == "decision"]
    digests = [row["ref"] for row in page if row["kind"] == "feedback"]
    found = _Page()
    if ids:
        names = [*forms.DECISION]
        for row in await _mapped(connection, select(*_raw(decisions, names)).where(decisions.c.id.in_(ids))):
            found.decisions[row["id"]] = row
        query = select(*_raw(decision_cards)).where(decision_cards.c.decision_id.in_(ids))
        for row in await _mapped(connection, query):
            found.cards.setdefault(row["decision_id"], []).append([row[name] for name in forms.CARD])
        for row in await _mapped(connection, select(decision_facts).where(decision_facts.c.decision_id.in_(ids))):
            found.facts[row["decision_id"]] = forms.facts(row["patient"], bytes(row["facts"]))
        for row in await _mapped(connection, select(decision_answers).where(decision_answers.c.decision_id.in_(ids))):
            found.answers[row["decision_id"]] = forms.answer(row["status"], bytes(row["body"]))
        removals = select(chain.c.ref).where((chain.c.kind == "removal") & chain.c.ref.in_(ids))
        found.removed = frozenset((await connection.scalars(removals)).all())
    if digests:
        query = select(*_raw(feedback, forms.FEEDBACK)).where(feedback.c.digest.in_(digests))
        found.feedback = {row["digest"]: row for row in await _mapped(connection, query)}
    return found


async def _mapped(connection: AsyncConnection, query: Select[Any]) -> list[Mapping[str, Any]]:
    return [dict(row) for row in (await connection.execute(query)).mappings()]


async def _outside(connection: AsyncConnection) -> AsyncIterator[Fault]:
    """Rows that no chain names, or that two entries name."""
    for table, key, kind in ((decisions, decisions.c.id, "decision"), (feedback, feedback.c.digest, "feedback")):
        named = select(chain.c.ref).where((chain.c.kind == kind) & (chain.c.ref == key)).exists()
        for ref in (await connection.scalars(select(key).where(~named))).all():
            yield Fault(table.name, ref, "is in no chain: it was added, or its entry was removed")
        twice = select(chain.c.ref).where(chain.c.kind == kind).group_by(chain.c.ref).having(func.count() > 1)
        for ref in (await connection.scalars(twice)).all():
            yield Fault("chain", f"({kind} {ref})", "stands there twice")
    lost = select(chain.c.writer).where(chain.c.writer.not_in(select(writers.c.id))).distinct()
    for writer in (await connection.scalars(lost)).all():
        yield Fault("writers", writer, "was removed: its chain is still there")
    for table in (decision_facts, decision_answers, decision_cards):
        loose = select(table.c.decision_id).where(table.c.decision_id.not_in(select(decisions.c.id))).distinct()
        for ref in (await connection.scalars(loose)).all():
            yield Fault(table.name, ref, "belongs to no decision")


async def _knowledge(connection: AsyncConnection) -> AsyncIterator[Fault]:
    """The files that decisions were made with are named by their hash."""
    for digest in (await connection.scalars(select(knowledge.c.hash))).all():
        files = await connection.scalar(select(knowledge.c.files).where(knowledge.c.hash == digest))
        if files is None or not _hashes_to(bytes(files), digest):
            yield Fault("knowledge", digest, "its files are not those of this hash")


def _hashes_to(files: bytes, digest: str) -> bool:
    try:
        texts = msgspec.json.decode(files, type=dict[str, str])
    except (msgspec.MsgspecError, UnicodeError):
        return False
    sha = hashlib.sha256()
    for name in sorted(texts):
        sha.update(name.encode() + b"\0" + texts[name].encode() + b"\0")
    return sha.hexdigest() == digest
