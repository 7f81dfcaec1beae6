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
from sqlalchemy import ColumnElement, LargeBinary, Select, String, Table, Text, bindparam, func, select, type_coerce
from sqlalchemy.ext.asyncio import AsyncConnection

from app.store import chain as forms
from app.store.chain import Head, Kind
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


_READ: Final = (Json, Instant, String, LargeBinary)
"""What is read as it stands: SQLite keeps a value of any kind in any column."""


def _raw(table: Table, names: Sequence[str] | None = None) -> list[Any]:
    """The columns as the texts and bytes that stand in the database."""
    columns = table.columns if names is None else [table.c[name] for name in names]
    return [
        type_coerce(column, Text).label(column.name) if isinstance(column.type, _READ) else column for column in columns
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
            if not isinstance(row["seq"], int):
                yield Fault("chain", where, "has no number")
                continue
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
    last: Any = None  # not 0: what somebody put before the first entry is looked at too
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
        self.cards: dict[str, dict[Any, list[Any]]] = {}
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
        if not _is_decision(row, [*self.cards.get(ref, {}).values()], digest=digest):
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


def _is_decision(row: Mapping[str, Any], cards: Sequence[Sequence[Any]], *, digest: str) -> bool:
    try:
        return forms.decision(row, cards) == digest
    except TypeError:  # bytes among texts have no order
        return False


def _content(value: Any) -> bytes:
    """Of a column of bytes; what is something else is none that was written."""
    return bytes(value) if isinstance(value, (bytes, memoryview)) else b"no bytes: " + repr(value).encode()


def _of_page(query: Select[Any], key: ColumnElement[str], *, kind: Kind = "decision") -> Select[Any]:
    """The rows that the entries of a page are about. Joined, not listed: a list of ids is written anew for each page,
    which takes a third of the whole time."""
    between = chain.c.seq.between(bindparam("first"), bindparam("last"))
    mine = (chain.c.writer == bindparam("writer")) & between & (chain.c.kind == kind)
    return query.join(chain, chain.c.ref == key).where(mine)


_OF_DECISION: Final = ("decision_id", *forms.CARD)
_DECISIONS: Final = _of_page(select(*_raw(decisions, forms.DECISION)), decisions.c.id)
_CARDS: Final = _of_page(select(*_raw(decision_cards, _OF_DECISION)), decision_cards.c.decision_id)
_FACTS: Final = _of_page(
    select(*_raw(decision_facts, ("decision_id", "patient", "facts"))), decision_facts.c.decision_id
)
_ANSWERS: Final = _of_page(
    select(*_raw(decision_answers, ("decision_id", "status", "body"))), decision_answers.c.decision_id
)
_FEEDBACK: Final = _of_page(select(*_raw(feedback, forms.FEEDBACK)), feedback.c.digest, kind="feedback")
_removals: Final = chain.alias()
_REMOVED: Final = _of_page(select(_removals.c.ref), _removals.c.ref).where(_removals.c.kind == "removal")


async def _refs(connection: AsyncConnection, page: Sequence[Mapping[str, Any]]) -> _Page:
    found = _Page()
    place = {"writer": page[0]["writer"], "first": page[0]["seq"], "last": page[-1]["seq"]}

    async def rows(query: Select[Any]) -> list[Any]:
        return [*await connection.execute(query, place)]

    kinds = {row["kind"] for row in page}
    if "decision" in kinds:
        found.decisions = {row[0]: dict(zip(forms.DECISION, row, strict=True)) for row in await rows(_DECISIONS)}
        for ref, *card in await rows(_CARDS):
            found.cards.setdefault(ref, {})[card[0]] = card  # once, also where two entries name its decision
        found.facts = {ref: forms.facts(patient, _content(facts)) for ref, patient, facts in await rows(_FACTS)}
        found.answers = {ref: forms.answer(status, _content(body)) for ref, status, body in await rows(_ANSWERS)}
        found.removed = frozenset(row[0] for row in await rows(_REMOVED))
    if "feedback" in kinds:
        found.feedback = {row[0]: dict(zip(forms.FEEDBACK, row, strict=True)) for row in await rows(_FEEDBACK)}
    return found


async def _outside(connection: AsyncConnection) -> AsyncIterator[Fault]:
    """Rows that no chain names, or that two entries name."""
    for table, key, kind in ((decisions, decisions.c.id, "decision"), (feedback, feedback.c.digest, "feedback")):
        named = select(chain.c.ref).where((chain.c.kind == kind) & (chain.c.ref == key)).exists()
        for ref in (await connection.scalars(select(key).where(~named))).all():
            yield Fault(table.name, ref, "is in no chain: it was added, or its entry was removed")
        twice = select(chain.c.ref).where(chain.c.kind == kind).group_by(chain.c.ref).having(func.count() > 1)
        for ref in (await connection.scalars(twice)).all():
            yield Fault("chain", f"({kind} {ref})", "stands there twice")
    # No NOT IN: PostgreSQL looks through the whole list for each row, once that is longer than its memory for one.
    known = select(writers.c.id).where(writers.c.id == chain.c.writer).exists()
    lost = select(chain.c.writer).where(~known).distinct()
    for writer in (await connection.scalars(lost)).all():
        yield Fault("writers", writer, "was removed: its chain is still there")
    for table in (decision_facts, decision_answers, decision_cards):
        whole = select(decisions.c.id).where(decisions.c.id == table.c.decision_id).exists()
        loose = select(table.c.decision_id).where(~whole).distinct()
        for ref in (await connection.scalars(loose)).all():
            yield Fault(table.name, ref, "belongs to no decision")


async def _knowledge(connection: AsyncConnection) -> AsyncIterator[Fault]:
    """The files that decisions were made with are named by their hash."""
    for digest in (await connection.scalars(select(knowledge.c.hash))).all():
        files = await connection.scalar(select(*_raw(knowledge, ["files"])).where(knowledge.c.hash == digest))
        if files is None or not _hashes_to(_content(files), digest):
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
