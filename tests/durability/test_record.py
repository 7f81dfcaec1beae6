"""The record held against what clients were told: each way in which it can be wrong is seen."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from tests.durability import record
from tests.durability.load import Entry
from tests.durability.outage import out_of_order
from tests.durability.record import Row, audit

BODY = b"{}"
DIGEST = sha256(BODY).hexdigest()
ROW = Row("d1", "k1", "2026-11-23T12:00:00.000000+00:00", "c", "t", "s", "r", "[]", DIGEST)
TOLD = Entry("k1", decision="d1", digest=DIGEST, answers=1)


def test_what_was_told_and_is_there_is_all_well() -> None:
    found = audit([TOLD, Entry("k2")], [ROW])
    assert (found.rows, found.told) == (1, 1)
    assert (found.lost, found.altered, found.doubled) == ((), (), ())
    assert (found.untold, found.early, found.unlike) == (0, 0, 0)


def test_what_is_not_there_is_lost() -> None:
    assert audit([TOLD], []).lost == ("d1",)


def test_other_bytes_or_another_call_are_seen() -> None:
    assert audit([TOLD], [replace(ROW, answer="0" * 64)]).altered == ("d1",)
    assert audit([TOLD], [replace(ROW, hook_instance="k9")]).altered == ("d1",)


def test_two_decisions_on_one_request_are_double_unless_one_says_so() -> None:
    twice = replace(ROW, id="d2")
    assert audit([TOLD], [ROW, twice]).doubled == ("k1",)
    assert audit([TOLD], [ROW, twice]).untold == 1
    flagged = audit([TOLD], [ROW, replace(twice, flags='["spooled","duplicate"]')])
    assert (flagged.doubled, flagged.duplicates) == ((), 1)
    assert audit([TOLD], [ROW, replace(twice, request_digest="r2")]).doubled == ()


def test_a_decision_from_before_the_cut_was_on_the_disk() -> None:
    noon = 1795435200.0
    assert audit([replace(TOLD, cut_at=noon + 1)], [ROW]).early == 1
    assert audit([replace(TOLD, cut_at=noon - 1)], [ROW]).early == 0


def test_repeats_with_other_bytes_are_counted() -> None:
    assert audit([replace(TOLD, unlike=2)], [ROW]).unlike == 2


async def test_the_rows_of_sqlite_and_their_order(tmp_path: Path) -> None:
    path = tmp_path / "decisions.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "CREATE TABLE decisions (id, hook_instance, created_at, client, tenant, service, request_digest, flags);"
            "CREATE TABLE decision_answers (decision_id, body);"
            "CREATE TABLE writers (id, number); CREATE TABLE chain (writer, seq, kind, ref);"
            "INSERT INTO writers VALUES ('w1', 2), ('w2', 1);"
            "INSERT INTO chain VALUES ('w1', 1, 'decision', 'd1'), ('w2', 2, 'decision', 'd2'), "
            "('w2', 1, 'decision', 'd3'), ('w2', 3, 'removal', 'd3');"
        )
        connection.execute("INSERT INTO decisions VALUES ('d1', 'k1', ?, 'c', 't', 's', 'r', '[]')", [ROW.created_at])
        connection.execute("INSERT INTO decisions VALUES ('d2', 'k1', ?, 'c', 't', 's', 'r', '[]')", [ROW.created_at])
        connection.execute("INSERT INTO decision_answers VALUES ('d1', ?)", [BODY])
        connection.commit()
    url = f"sqlite+aiosqlite:///{path}"
    assert await record.rows(url) == [ROW, replace(ROW, id="d2", answer="")]
    assert await record.order(url) == ["d3", "d2", "d1"]
    assert await record.integrity(url) == "ok"


async def test_a_damaged_file_is_not_ok(tmp_path: Path) -> None:
    path = tmp_path / "decisions.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE decisions (id TEXT PRIMARY KEY, b BLOB);")
        connection.executemany("INSERT INTO decisions VALUES (?, ?)", [(f"{n:04}", b"x" * 200) for n in range(200)])
        connection.commit()
    content = bytearray(path.read_bytes())
    content[5 * 4096 + 8 : 5 * 4096 + 200] = b"\xff" * 192
    path.write_bytes(content)
    assert await record.integrity(f"sqlite+aiosqlite:///{path}") != "ok"


def test_a_decision_behind_one_that_was_asked_for_later_is_out_of_order() -> None:
    first = Entry("k1", decision="d1", sent_at=1.0, told_at=2.0)
    beside = Entry("k2", decision="d2", sent_at=1.5, told_at=4.0)
    last = Entry("k3", decision="d3", sent_at=3.0, told_at=5.0)
    entries = [first, beside, last]
    assert out_of_order(entries, ["d1", "d2", "d3"]) == 0
    assert out_of_order(entries, ["d2", "d1", "d3"]) == 0
    assert out_of_order(entries, ["d3", "d1", "d2"]) == 1
