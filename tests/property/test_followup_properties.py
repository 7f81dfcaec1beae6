"""The follow-up against a second, independent calculation: treatment day, planned and recorded doses.

What is here counts in other ways than `app.clinical`: days as midnights of the facility that lie between two instants,
totals as sums of integers, the schedule as a table written out day by day.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.clinical.assessment import assess
from app.clinical.followup import FollowUpResult
from app.drafts import templates
from app.protocols import loader
from fhir_mappings.facts import Facts, Measurement, MedicationUse, Source, When
from tests.property.size import examples

LIBRARY = loader.load()
KNOWLEDGE = LIBRARY.knowledge
SCHEDULES = KNOWLEDGE.follow_up.schedules
ZONES = (
    *("UTC", "Europe/Paris", "America/New_York", "America/St_Johns", "Asia/Kathmandu", "Asia/Tokyo"),
    *("Australia/Lord_Howe", "Pacific/Apia", "Pacific/Chatham", "Africa/Casablanca", "America/Santiago", "Asia/Tehran"),
)
"""Whole, half and quarter hours, both hemispheres, half an hour of summer time, and both sides of the date line."""

some = settings(max_examples=examples(200), deadline=None, derandomize=True)
zones = st.sampled_from(ZONES)
near_changes = st.sampled_from(
    [
        datetime(2021, 3, 28, 1, tzinfo=UTC),
        datetime(2021, 10, 31, 1, tzinfo=UTC),
        datetime(2026, 3, 8, 7, tzinfo=UTC),
        datetime(2026, 11, 1, 6, tzinfo=UTC),
        datetime(2026, 4, 4, 15, tzinfo=UTC),
        datetime(2026, 9, 27, 14, tzinfo=UTC),
    ]
)
"""Instants at which clocks change in Europe, America and the south."""

moments = st.builds(lambda at, minutes: at + timedelta(minutes=minutes), near_changes, st.integers(-4000, 60_000))
ages = st.integers(0, 35 * 24 * 60)
"""Minutes since the first dose."""


def use(drug: str, at: datetime, *, mg: int | None = 5, state: str = "given", number: int = 0) -> MedicationUse:
    dose = None if mg is None else Decimal(mg)
    return MedicationUse(
        reference=f"MedicationAdministration/{drug}-{state}-{number}",
        kind="administration",
        state=state,  # type: ignore[arg-type]
        ingredients=(drug,),
        identity="code",
        start=When(at, at),
        dose_mg=dose,
        daily_mg=dose,
    )


def followed(uses: Sequence[MedicationUse], *, now: datetime, zone: str) -> FollowUpResult:
    """The follow-up of these administrations; everything was read."""
    keys = ("labs", "course", "virology", "administrations", "long-acting", "orders", "statements", "conditions")
    tested = now - timedelta(days=60)
    facts = Facts(
        asked_at=now,
        zone=zone,
        measurements=(Measurement("sarscov2_pcr", "Observation/pcr", When(tested, tested), coded="positive"),),
        medications=tuple(uses),
        sources=tuple(Source(key, "", "ok") for key in keys),
    )
    return assess(facts, knowledge=KNOWLEDGE, now=now).follow_up


def midnights(first: datetime, now: datetime, *, zone: str) -> int:
    """How many new calendar days of the facility began after the first dose, counted one by one.

    A date may begin later than at midnight, where the clock jumps over it, and may not exist at all.
    """
    place = ZoneInfo(zone)
    day: date = first.astimezone(place).date()
    count = 0
    while True:
        day += timedelta(days=1)
        begins = datetime.combine(day, time(), tzinfo=place).astimezone(UTC)
        if begins > now and begins.astimezone(place).date() >= day:
            return count
        count += 1


@some
@given(now=moments, age=ages, zone=zones, drug=st.sampled_from(["anakinra", "ruxolitinib"]))
def test_the_treatment_day_counts_the_midnights_of_the_facility(now: datetime, age: int, zone: str, drug: str) -> None:
    first = now - timedelta(minutes=age)
    found = followed([use(drug, first)], now=now, zone=zone)
    assert found.day == midnights(first, now, zone=zone) + 1


@some
@given(now=moments, age=ages, zone=zones, offset=st.integers(-12, 14))
def test_the_offset_in_which_times_are_written_does_not_matter(now: datetime, age: int, zone: str, offset: int) -> None:
    first = now - timedelta(minutes=age)
    elsewhere = ZoneInfo(f"Etc/GMT{-offset:+d}")
    written = followed([use("anakinra", first.astimezone(elsewhere))], now=now.astimezone(elsewhere), zone=zone)
    assert written.day == followed([use("anakinra", first)], now=now, zone=zone).day


@some
@given(
    now=moments,
    age=ages,
    zone=zones,
    later=st.lists(
        st.tuples(st.floats(0, 1), st.sampled_from(["given", "not-done"]), st.integers(1, 400)), max_size=12
    ),
)
def test_later_missed_and_extra_doses_never_move_the_day_or_the_plan(
    now: datetime, age: int, zone: str, later: list[tuple[float, str, int]]
) -> None:
    first = now - timedelta(minutes=age)
    alone = followed([use("anakinra", first, mg=300)], now=now, zone=zone)
    more = [
        use("anakinra", first + part * (now - first), mg=mg, state=state, number=number)
        for number, (part, state, mg) in enumerate(later, start=1)
    ]
    found = followed([use("anakinra", first, mg=300), *more], now=now, zone=zone)
    assert (found.day, found.planned) == (alone.day, alone.planned)
    total = 300 + sum(mg for _, state, mg in later if state == "given")
    assert {r.drug: r.mg for r in found.recorded} == {"anakinra": Decimal(total), "ruxolitinib": Decimal(0)}
    missed = found.present("FU-MISSED-DOSE")
    assert (missed is not None) == any(state == "not-done" for _, state, _ in later)


@some
@given(
    doses=st.lists(
        st.tuples(st.integers(0, 30 * 24), st.sampled_from([5, 10, 100, 200, 300, None])), min_size=1, max_size=20
    )
)
def test_a_total_is_the_sum_of_all_or_nothing(doses: list[tuple[int, int | None]]) -> None:
    now = datetime(2026, 5, 20, 9, tzinfo=UTC)
    uses = [
        use("ruxolitinib", now - timedelta(hours=hours), mg=mg, number=number)
        for number, (hours, mg) in enumerate(doses)
    ]
    total = next(r for r in followed(uses, now=now, zone="UTC").recorded if r.drug == "ruxolitinib")
    known = [mg for _, mg in doses if mg is not None]
    if len(known) < len(doses):
        assert total.mg is None
        assert total.reason is not None
    else:
        assert total.mg == sum(known)


@some
@given(now=moments, age=st.integers(1, 35 * 24 * 60), gap=st.integers(0, 10_000), zone=zones)
def test_the_first_of_either_drug_counts(now: datetime, age: int, gap: int, zone: str) -> None:
    first = now - timedelta(minutes=age)
    second = min(now, first + timedelta(minutes=gap))
    one = followed([use("anakinra", first), use("ruxolitinib", second)], now=now, zone=zone)
    other = followed([use("ruxolitinib", first), use("anakinra", second)], now=now, zone=zone)
    assert one.day == other.day == midnights(first, now, zone=zone) + 1


# --- the schedule, written out

ANAKINRA = [300] * 11 + [200, 200, 100]
RUXOLITINIB = [2 * 5] * 28
BY_HAND = {"anakinra": ANAKINRA, "ruxolitinib": RUXOLITINIB}


@pytest.mark.parametrize("drug", BY_HAND)
def test_the_cumulative_dose_of_every_day(drug: str) -> None:
    sums = list(itertools.accumulate(BY_HAND[drug]))
    for day in range(1, 60):
        expected = sums[min(day, len(sums)) - 1]
        assert SCHEDULES[drug].cumulative_mg(day) == expected, day
        step = SCHEDULES[drug].on(day)
        planned = Decimal(0) if step is None else step.dose_mg * step.per_day
        assert planned == (BY_HAND[drug][day - 1] if day <= len(sums) else 0), day
    assert SCHEDULES[drug].on(0) is None


def test_the_totals_are_those_of_the_letter() -> None:
    anakinra = SCHEDULES["anakinra"]
    assert [anakinra.cumulative_mg(day) for day in (11, 12, 13, 14, 28)] == [3300, 3500, 3700, 3800, 3800]
    assert [SCHEDULES["ruxolitinib"].cumulative_mg(day) for day in (1, 11, 14, 28, 35)] == [10, 110, 140, 280, 280]
    assert [step.reconstructed for step in anakinra.steps] == [False, True, True]
    assert (anakinra.last_day, SCHEDULES["ruxolitinib"].last_day) == (14, 28)


def test_the_schedule_is_that_of_the_suggested_orders() -> None:
    """Both files say it, so that neither can be changed alone."""
    for template, drug in zip(templates(LIBRARY.treatment), ("anakinra", "ruxolitinib"), strict=True):
        steps = SCHEDULES[drug].steps
        assert list(template.order.days) == [(step.from_day, step.to_day) for step in steps]
        for dosage, step in zip(template.order.resource["dosageInstruction"], steps, strict=True):
            assert Decimal(str(dosage["doseAndRate"][0]["doseQuantity"]["value"])) == step.dose_mg
            assert dosage["timing"]["repeat"]["frequency"] == step.per_day


def test_the_days_of_the_actions_follow_from_the_schedule() -> None:
    actions = {action.id: action for action in KNOWLEDGE.follow_up.actions}
    for drug, word in (("anakinra", "ANAKINRA"), ("ruxolitinib", "RUX")):
        last = SCHEDULES[drug].last_day
        ends, overdue = actions[f"FU-END-{word}"], actions[f"FU-OVERDUE-STOP-{word}"]
        assert (ends.from_day, ends.to_day) == (last, last)
        assert (overdue.from_day, overdue.to_day) == (last + 1, None)
    assert actions["FU-ANC-LT-1.5-ANAKINRA"].to_day == SCHEDULES["anakinra"].last_day


def test_the_ratios_of_table_2_are_those_of_the_means() -> None:
    """As they were worked out by hand (clinical 1.1.6)."""
    expected = {
        "sofa": ("0.89", "0.78", "0.39"),
        "crs": ("1.08", "1.29", "1.71"),
        "crp": ("0.51", "0.22", "0.24"),
        "ferritin": ("0.71", "0.48", "0.55"),
        "lymphocytes": ("1.59", "1.63", "1.63"),
        "nlr": ("0.5", "0.38", "0.34"),
    }
    found = {q.name: tuple(q.days[day].ratio for day in (3, 7, 14)) for q in KNOWLEDGE.follow_up.quantities}
    assert found == {name: tuple(map(Decimal, ratios)) for name, ratios in expected.items()}
