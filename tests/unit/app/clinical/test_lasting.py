"""Until when a verdict and the suggestion hold with no newer data: to the second, whatever it is that lapses."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from app.clinical import lasting, table
from app.clinical.lasting import NEVER, Mapped, until
from tests.unit.app.clinical.build import (
    NOW,
    Item,
    ago,
    condition,
    facts,
    knowledge,
    measurement,
    medication,
    offering,
    order,
    pair,
    partial,
    patient,
    procedure,
    refusal,
    source,
    when,
)

PILOTS = ("pilot-simple", "pilot-full")


def same(*items: Item, **more: Any) -> dict[str, datetime | None]:
    """Until when the pilots hold for facts that the same records give at any time."""
    read = facts(*items)
    given: dict[str, Any] = {"knowledge": knowledge(), "now": NOW, "protocols": PILOTS, **more}
    return until(Mapped(read), facts_at=lambda _: Mapped(read), **given)


def simple(*items: Item, **more: Any) -> datetime | None:
    return same(*items, **more)["pilot-simple"]


def full(*items: Item, **more: Any) -> datetime | None:
    return same(*items, **more)["pilot-full"]


def in_(hours: float = 0, **more: float) -> datetime:
    return NOW + timedelta(hours=hours, **more)


# --------------------------------------------------------------------------- what lapses


def test_a_met_verdict_holds_until_the_first_value_it_needs_is_too_old() -> None:
    """The gas of one hour ago counts for 12 h, CRP and ferritin for longer."""
    assert same(*offering()) == {"pilot-simple": in_(11), "pilot-full": in_(11)}


def test_what_is_not_met_holds_as_long_as_the_longest_of_what_is_against_it() -> None:
    low = (measurement("crp", 90, hours=10), measurement("ferritin", 900, hours=10))

    assert simple(*low) == in_(62)
    assert simple(low[0]) == in_(20)


def test_what_is_unknown_and_stays_so_holds_for_ever() -> None:
    assert same() == {"pilot-simple": None, "pilot-full": None}
    assert simple(measurement("crp", 200)) is None


def test_exactly_at_the_limit_is_inside_so_the_second_of_the_limit_is_named() -> None:
    taken = when(10, minutes=1.5)
    assert simple(measurement("crp", 90, at=taken)) == taken.earliest + timedelta(hours=30)


@pytest.mark.parametrize("seconds", [0, 0.25])
def test_the_answer_is_a_whole_second(seconds: float) -> None:
    taken = when(10, minutes=-seconds / 60)
    assert simple(measurement("crp", 90, at=taken)) == in_(20)


def test_the_suggestion_lapses_before_the_verdict() -> None:
    """Neutrophils of 29 h ago are part of what a suggestion needs, and of no pilot criterion."""
    old = offering(measurement("anc", "7.9", hours=29), without=("anc",))

    assert same(*old) == {"pilot-simple": in_(1), "pilot-full": in_(1)}
    assert simple(*old, silenced=frozenset({"pilot-full"})) == in_(11)


def test_a_finding_that_goes_away_brings_the_suggestion_back() -> None:
    """A baricitinib dose counts for 7 d as another JAK inhibitor."""
    given = medication("baricitinib", hours=7 * 24 - 2)

    assert simple(*offering(given)) == in_(2)


def test_a_site_that_asks_for_the_full_protocol_loses_the_suggestion_with_it() -> None:
    """Nitric oxide last charted 23 h ago: from 24 h on it is unknown, which takes away the full verdict alone."""
    old = offering(measurement("ino", 20, hours=23), without=("ino",))

    assert same(*old) == {"pilot-simple": in_(11), "pilot-full": in_(1)}
    assert simple(*old, suggest_on="pilot-full") == in_(1)


def test_a_birthday_is_the_facility_s_midnight() -> None:
    child = patient(born=date(2008, 3, 12))
    items = (child, *(i for i in offering(without=("prone", "nmba", "ino"))))

    assert full(*items) == datetime(2026, 3, 11, 23, 0, tzinfo=UTC)


def test_who_is_born_on_29_february_is_of_age_on_1_march() -> None:
    child = patient(born=date(2008, 2, 29))
    read = facts(child)
    found = until(
        Mapped(read),
        facts_at=lambda _: Mapped(read),
        knowledge=knowledge(),
        now=datetime(2025, 12, 1, tzinfo=UTC),
        protocols=["pilot-full"],
    )
    assert found["pilot-full"] == datetime(2026, 2, 28, 23, 0, tzinfo=UTC)
    older = lasting._birthday(date(2008, 2, 29), 20)
    assert older == date(2028, 2, 29)


def test_an_hour_that_a_rule_compares_as_a_number_is_noted() -> None:
    """Stage 3 asks for more than 24 h of invasive ventilation."""
    begun = procedure("ventilation-invasive", started=23)
    old = [pair(100, "0.8", hours=h, gas_comparator="") for h in (1, 5, 11)]
    found = same(begun, *old, measurement("fio2", "0.8", hours=26), protocols=["rct-stage-3"])
    assert found["rct-stage-3"] == in_(1)


@pytest.mark.parametrize(
    "items",
    [
        (condition("pregnancy"), patient(sex="female", born=date(1990, 1, 1))),
        (order("fluconazole"),),
        (refusal("anc"),),
        (patient(deceased=True),),
        (medication("anakinra", hours=100),),
    ],
)
def test_what_stands_against_a_suggestion_for_longer_leaves_the_verdict_to_decide(items: tuple[Item, ...]) -> None:
    assert simple(*offering(*items)) == in_(11)


# --------------------------------------------------------------------------- records and sources


def test_a_record_that_comes_into_force_later_is_read_then() -> None:
    low = measurement("crp", 90, at=when(-2))
    now, then = facts(*offering()), facts(*offering(low))
    asked: list[datetime] = []

    def facts_at(moment: datetime) -> Mapped:
        asked.append(moment)
        return Mapped(then)

    found = until(Mapped(now, [in_(2)]), facts_at=facts_at, knowledge=knowledge(), now=NOW, protocols=PILOTS)

    assert (found, asked) == ({"pilot-simple": in_(2), "pilot-full": in_(2)}, [in_(2)])


def test_records_that_say_the_same_later_change_nothing() -> None:
    read = facts(*offering())
    turns = [ago(1), in_(2), in_(4), in_(40)]

    def facts_at(moment: datetime) -> Mapped:
        return Mapped(read, [t for t in turns if t > moment])

    found = until(Mapped(read, turns), facts_at=facts_at, knowledge=knowledge(), now=NOW, protocols=PILOTS)
    assert found["pilot-simple"] == in_(11)


def test_a_cut_off_answer_does_not_become_whole_by_waiting() -> None:
    """A prone session of 60 h ago is "no" once it is 72 h old, if nothing newer can be missing. An answer that reaches
    back to a certain entry is asked for again with the same result; one that reaches back to its asking is not."""
    proned = procedure("prone", status="completed", started=70, ended=60)
    whole = offering(proned, without=("prone",))

    assert full(*whole) == in_(11)
    rest = [i for i in whole if i != proned]
    unknown = (*rest, procedure("prone", status="completed", started=90, ended=80))
    assert _prone_known(partial("procedures", reaches=NOW), *unknown) is None
    assert _prone_known(partial("procedures", reaches=ago(5)), *unknown) == in_(67)
    assert _prone_known(source("procedures", reaches=ago(70)), *unknown) is None


def _prone_known(read: Item, *items: Item) -> datetime | None:
    """When the state of prone positioning becomes known."""
    start = facts(*items, read)
    rules = lasting._Rules(knowledge(), suggest_on="pilot-simple", silenced=frozenset())
    chart = rules.on(start, asked=NOW, now=NOW).chart
    key = ("P-RESCUE",)
    tree = knowledge().criterion("P-RESCUE").tree
    asked = tree.children[0]  # type: ignore[union-attr]
    moment = NOW
    for _ in range(200):
        reading, holds = chart.kept(key, lambda: lasting.read(chart, asked))  # type: ignore[arg-type]
        if reading.known:
            return moment.replace(microsecond=0)
        if holds == NEVER:
            return None
        moment = holds
        chart.move(moment)
    raise AssertionError("no end")


def test_a_search_that_is_cut_short_names_the_last_instant_it_is_sure_of() -> None:
    older = [pair(64, "0.8", hours=hours) for hours in (3, 5, 7, 9)]
    steps = [same(*offering(*older), steps=n)["pilot-simple"] for n in range(40)]

    assert steps[0] == NOW
    assert steps == sorted(steps, key=lambda moment: moment or NEVER)
    assert steps[-1] == in_(11)
    assert len(set(steps)) > 3


def test_now_may_be_given_in_any_zone() -> None:
    local = NOW.astimezone(ZoneInfo("Asia/Tokyo"))
    assert simple(measurement("crp", 90, hours=10), now=local) == in_(20)


def test_all_protocols_are_looked_at_unless_some_are_named() -> None:
    read = facts()
    found = until(Mapped(read), facts_at=lambda _: Mapped(read), knowledge=knowledge(), now=NOW)
    assert list(found) == [p.id for p in knowledge().protocols]


def test_the_table_of_cards_finds_everything_it_may_look_at() -> None:
    wanted = {field.name for field in fields(table.Situation)}
    rules = lasting._Rules(knowledge(), suggest_on="pilot-simple", silenced=frozenset())
    judged = rules.on(facts(*offering()), asked=NOW, now=NOW)
    situation = judged._situation

    assert {name for name in wanted if getattr(situation, name, None) is None} == set()
    assert situation.simple.scope == "in"
    assert situation.full.finding_of("P-AGE") is table.Finding.MET
    assert not situation.receives
    assert set(judged) == {*rules.criteria, *rules.safety}
    assert len(judged) == len(rules.criteria) + len(rules.safety)


# --------------------------------------------------------------------------- a now that notes what it is asked

X = NOW + timedelta(hours=5)
D = timedelta(hours=3)
EARLIER = NOW - timedelta(hours=1)
MOMENT = timedelta(microseconds=1)

QUESTIONS: tuple[tuple[str, Callable[[Any], bool], datetime], ...] = (
    ("now < x", lambda now: now < X, X),
    ("now <= x", lambda now: now <= X, X + MOMENT),
    ("now > x", lambda now: now > X, X + MOMENT),
    ("now >= x", lambda now: now >= X, X),
    ("now == x", lambda now: now == X, X),
    ("now != x", lambda now: now != X, X),
    ("x < now", lambda now: operator.lt(X, now), X + MOMENT),
    ("x <= now", lambda now: operator.le(X, now), X),
    ("x >= now", lambda now: operator.ge(X, now), X + MOMENT),
    ("x > now", lambda now: operator.gt(X, now), X),
    ("x == now", lambda now: operator.eq(X, now), X),
    ("now == now's instant", lambda now: now == NOW, NOW + MOMENT),
    ("now <= now's instant", lambda now: now <= NOW, NOW + MOMENT),
    ("min", lambda now: min(X, now) < X, X),
    ("window", lambda now: operator.ge(X - D, now - D), X + MOMENT),
    ("later", lambda now: now + D < X, X - D),
    ("later, turned", lambda now: D + now < X, X - D),
    ("age up to", lambda now: now - EARLIER <= D, EARLIER + D + MOMENT),
    ("age below", lambda now: now - EARLIER < D, EARLIER + D),
    ("age from", lambda now: now - EARLIER >= D, EARLIER + D),
    ("age above", lambda now: now - EARLIER > D, EARLIER + D + MOMENT),
    ("limit above age", lambda now: now - EARLIER < D, EARLIER + D),
    ("age of", lambda now: now - EARLIER == D, EARLIER + D),
    ("age not of", lambda now: now - EARLIER != D, EARLIER + D),
    ("age is its own", lambda now: now - EARLIER == timedelta(hours=1), NOW + MOMENT),
    ("age and more", lambda now: (now - EARLIER) + D <= 2 * D, EARLIER + D + MOMENT),
    ("more and age", lambda now: D + (now - EARLIER) <= 2 * D, EARLIER + D + MOMENT),
    ("age and less", lambda now: (now - EARLIER) - D < timedelta(0), EARLIER + D),
    ("ahead above", lambda now: X - now > D, X - D),
    ("ahead from", lambda now: X - now >= D, X - D + MOMENT),
    ("ahead below", lambda now: X - now < D, X - D + MOMENT),
    ("ahead up to", lambda now: X - now <= D, X - D),
    ("age turned", lambda now: -(now - X) > D, X - D),
    ("never again", lambda now: now > EARLIER, NEVER),
    ("never below", lambda now: now < EARLIER, NEVER),
    ("never of", lambda now: now == EARLIER, NEVER),
    ("no instant", lambda now: now == "noon", NEVER),
    ("no span", lambda now: (now - EARLIER) == "long", NEVER),
    ("together", lambda now: now - D < now, NEVER),
    ("together or equal", lambda now: now - D <= now, NEVER),
    ("one and the same", lambda now: now == now + timedelta(0), NEVER),
    ("apart", lambda now: (now + D) - now == D, NEVER),
    ("no such date", lambda now: now - D < datetime.max.replace(tzinfo=UTC), NEVER),
    ("local date", lambda now: now.astimezone(UTC).date() == NOW.date(), datetime(2026, 3, 11, tzinfo=UTC)),
    ("in a set", lambda now: bool({now} & {X}) or bool({now - EARLIER} & {D}), NEVER),
)


@pytest.mark.parametrize(("question", "next_"), [q[1:] for q in QUESTIONS], ids=[q[0] for q in QUESTIONS])
def test_what_is_asked_is_noted_at_the_first_instant_at_which_it_is_otherwise(
    question: Callable[[Any], bool], next_: datetime
) -> None:
    watch = lasting._Watch(NOW)
    answer = question(lasting._Now.at(NOW, watch))

    assert answer == question(NOW)
    assert watch.next == next_
    if next_ != NEVER:
        assert question(next_ - MOMENT) == answer
        assert question(next_) != answer


def test_an_earlier_instant_is_kept() -> None:
    watch = lasting._Watch(NOW)
    now = lasting._Now.at(NOW, watch)
    assert now < X
    assert now < X - D
    assert now < X + D
    assert watch.next == X - D


VALUES = tuple(measurement("crp", n, hours=n) for n in (1, 4, 9))
LEAVE = [in_(9) + MOMENT, in_(6) + MOMENT, in_(1) + MOMENT]
"""When the values of 1, 4 and 9 hours ago leave a window of 10 h."""


@pytest.mark.parametrize(
    ("look", "next_"),
    [
        (lambda v: v[0], LEAVE[0]),
        (lambda v: v[1], LEAVE[1]),
        (lambda v: v[-1], LEAVE[2]),
        (lambda v: bool(v), LEAVE[0]),
        (lambda v: len(v), LEAVE[2]),
        (lambda v: next(iter(v)), LEAVE[0]),
        (lambda v: next(m for m in v if m.value == 4), LEAVE[1]),
        (lambda v: list(v), LEAVE[2]),
        (lambda v: [*v], LEAVE[2]),
        (lambda v: sorted(v, key=str), LEAVE[2]),
        (lambda v: v[:1], LEAVE[2]),
        (lambda v: next(iter(reversed(v))), LEAVE[2]),
        (lambda v: VALUES[0] in v, LEAVE[2]),
        (lambda v: v == [], LEAVE[2]),
        (lambda v: v != [], LEAVE[2]),
        (lambda v: operator.add(v, []), LEAVE[2]),
        (lambda v: operator.add([], v), LEAVE[2]),
        (lambda v: max(v, key=lambda m: m.when.earliest), LEAVE[2]),
    ],
)
def test_a_value_in_a_window_is_noted_when_it_is_looked_at(look: Callable[[Any], Any], next_: datetime) -> None:
    watch = lasting._Watch(NOW)
    values = lasting._Fresh(VALUES, lasting._Now.at(ago(10), watch))
    plain = list(VALUES)

    found = look(values)
    assert found == look(plain)
    assert watch.next == next_


def test_an_empty_window_stays_empty() -> None:
    watch = lasting._Watch(NOW)
    values = lasting._Fresh((), lasting._Now.at(ago(10), watch))
    assert not values
    assert not len(values)
    assert not list(values)
    assert watch.next == NEVER


# --------------------------------------------------------------------------- how far it looks


@pytest.mark.parametrize(("late", "found"), [(timedelta(0), True), (timedelta(microseconds=1), False)])
def test_what_lies_beyond_the_horizon_counts_as_never(late: timedelta, found: bool) -> None:
    watch = lasting._Watch(NOW)
    watch.note(lasting.HORIZON + late - NOW)
    assert watch.next == (lasting.HORIZON if found else NEVER)


@pytest.mark.parametrize(("late", "found"), [(timedelta(0), True), (timedelta(microseconds=1), False)])
def test_a_turn_beyond_the_horizon_is_not_looked_at(late: timedelta, found: bool) -> None:
    asked: list[datetime] = []

    def facts_at(moment: datetime) -> Mapped:
        asked.append(moment)
        return Mapped(facts())

    turn = lasting.HORIZON + late
    until(Mapped(facts(), [turn]), facts_at=facts_at, knowledge=knowledge(), now=NOW, protocols=PILOTS)
    assert asked == ([turn] if found else [])
