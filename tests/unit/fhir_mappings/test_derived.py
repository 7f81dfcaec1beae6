"""Derived values: the FiO2 of a gas, compliance, neutrophils, clearance."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from fhir_mappings.derived import SOURCE, Pairing, age, derive
from fhir_mappings.facts import Comparator, Facts, Gap, Measurement, Patient, Procedure, When
from tests.unit.fhir_mappings.build import NOW

D = Decimal
GAS_AT = NOW - timedelta(hours=2)


def at(minutes: float) -> When:
    """That many minutes after the gas."""
    moment = GAS_AT + timedelta(minutes=minutes)
    return When(moment, moment)


DAY = When(datetime(2026, 3, 10, tzinfo=UTC), datetime(2026, 3, 11, tzinfo=UTC) - timedelta(microseconds=1))


def measured(concept: str, value: str, minutes: float = 0, *, comparator: Comparator = "", **more: Any) -> Measurement:
    found = Measurement(
        concept=concept,
        reference=more.pop("reference", f"Observation/{concept}{minutes}{more.get('kind', '')}"),
        when=more.pop("when", at(minutes)),
        value=D(value),
        comparator=comparator,
        original=f"{value} u",
    )
    return replace(found, **more)


def gas(**more: Any) -> Measurement:
    return measured("pao2", "60", kind="arterial", **more)


def vent(value: str, minutes: float = 0, **more: Any) -> Measurement:
    return measured("fio2", value, minutes, kind="ventilator", **more)


def inhaled(value: str, minutes: float = 0, **more: Any) -> Measurement:
    return measured("fio2", value, minutes, kind="inhaled", **more)


def facts(*measurements: Measurement, **more: Any) -> Facts:
    return Facts(asked_at=NOW, zone="Europe/Berlin", measurements=measurements, **more)


def pair(*measurements: Measurement, **more: Any) -> tuple[str, str]:
    """The FiO2 (or why there is none) and the refused one."""
    pairs = derive(facts(*measurements, **more)).pairs
    assert len(pairs) == 1
    found = pairs[0]
    return (found.why if found.fio2 is None else str(found.fio2.value), found.refused)


def ventilation(
    start: When | None, end: When | None, status: str = "in-progress", name: str = "ventilation"
) -> Procedure:
    return Procedure("Procedure/v", (name,), status, start, end)


# --------------------------------------------------------------------------- FiO2 of a gas (reading 3.4)


@pytest.mark.parametrize(
    ("fio2", "expected"),
    [
        ([], "no-fio2"),
        ([vent("0.6", -30)], "0.6"),
        ([vent("0.6", -30.02)], "no-fio2"),
        ([vent("0.6", 30)], "0.6"),
        ([vent("0.6", 30.02)], "no-fio2"),
        ([vent("0.6", -20), vent("0.8", -10)], "0.8"),
        ([vent("0.6", -20), inhaled("0.8", 0)], "0.6"),
        ([vent("0.6", 5), inhaled("0.8", 0)], "0.8"),
        ([inhaled("0.8", -1), inhaled("0.5", 0)], "0.5"),
        ([inhaled("0.8", -10), inhaled("0.5", -20)], "no-fio2"),
        ([inhaled("1.0", -24), vent("0.4", 6)], "0.4"),
        ([inhaled("1.0", -24), inhaled("0.4", 6)], "0.4"),
        ([inhaled("0.5", 6, panel="p"), inhaled("0.4", 3)], "0.5"),
        ([vent("0.5", 20), inhaled("0.7", 10)], "0.7"),
        ([vent("0.6", 0, comparator=">")], "no-fio2"),
        ([vent("0.6", 0, when=DAY)], "no-fio2"),
        ([vent("0.7", -200, when=at(60), period_start=GAS_AT - timedelta(hours=1))], "0.7"),
        ([vent("0.7", when=at(60), period_start=GAS_AT + timedelta(minutes=1))], "no-fio2"),
        ([vent("0.7", when=at(60), period_start=GAS_AT - timedelta(hours=1)), vent("0.5", -5)], "0.7"),
        ([inhaled("0.7", -600, panel="p")], "0.7"),
        ([inhaled("0.7", 0, panel="q", when=DAY)], "no-fio2"),
        (
            [vent("0.60", 0, code="loinc|19996-8"), vent("0.62", 0, code="loinc|19994-3", reference="Observation/z")],
            "0.62",
        ),
    ],
)
def test_which_fio2_is_used(fio2: list[Measurement], expected: str) -> None:
    drawn = gas(panel="p")
    assert pair(drawn, *fio2)[0] == expected
    assert pair(*reversed(fio2), drawn)[0] == expected


@pytest.mark.parametrize(
    ("fio2", "expected"),
    [
        ([vent("0.60"), inhaled("0.65")], "0.60"),
        ([vent("0.60"), inhaled("0.66")], "conflict"),
        ([vent("0.60"), vent("0.66", reference="Observation/x")], "conflict"),
        ([vent("0.60", -5), inhaled("0.66", -4.5)], "conflict"),
        ([vent("0.60", -5), inhaled("0.66", -4)], "0.60"),
        ([vent("0.60", -5), inhaled("0.66", 0)], "0.60"),
        ([inhaled("0.60", 10), vent("0.70", 10)], "conflict"),
    ],
)
def test_two_fio2_of_one_minute(fio2: list[Measurement], expected: str) -> None:
    assert pair(gas(), *fio2)[0] == expected
    assert pair(*reversed(fio2), gas())[0] == expected


def test_a_conflict_names_both() -> None:
    found = derive(facts(gas(), vent("0.60"), inhaled("0.9"))).pairs[0]
    assert (found.fio2, found.why) == (None, "conflict")
    assert found.also is not None
    assert found.also.value == D("0.9")


def test_a_gas_of_an_unknown_hour_is_paired_by_its_panel_only() -> None:
    drawn = gas(when=DAY, panel="p")
    assert pair(drawn, vent("0.6"))[0] == "no-fio2"
    assert pair(drawn, inhaled("0.6", panel="p", when=DAY))[0] == "0.6"
    assert pair(gas(when=DAY), inhaled("0.6", when=DAY))[0] == "no-fio2"


@pytest.mark.parametrize(
    ("signs", "procedures", "used"),
    [
        ([], [], True),
        ([measured("peep", "8", -60 * 24, kind="set")], [], False),
        ([measured("peep", "8", -60 * 24 - 1, kind="set")], [], True),
        ([measured("pplat", "24", -60)], [], False),
        ([measured("vt", "400", -60)], [], False),
        ([measured("vt", "400", 60)], [], True),
        ([vent("0.6", -120)], [], False),
        ([inhaled("0.6", -120)], [], True),
        ([], [ventilation(at(-600), None)], False),
        ([], [ventilation(None, None, name="ventilation-invasive")], False),
        ([], [ventilation(at(-600), at(0), "completed")], False),
        ([], [ventilation(at(-600), at(-1), "completed")], True),
        ([], [ventilation(at(-600), at(60), "not-done")], True),
        ([], [ventilation(at(-600), None, "completed")], True),
        ([], [ventilation(at(1), None)], True),
        ([], [ventilation(at(-600), None, name="niv")], True),
    ],
)
def test_room_air_entered_with_the_gas_of_a_ventilated_patient(
    signs: list[Measurement], procedures: list[Procedure], used: bool
) -> None:
    found = pair(gas(), inhaled("0.21"), *signs, procedures=tuple(procedures))
    assert found[0] == ("0.21" if used else "no-fio2")


def test_the_default_of_the_analyser_contradicts_nothing() -> None:
    assert pair(gas(), vent("0.6"), inhaled("0.21"))[0] == "0.6"
    assert pair(gas(), vent("0.21"), measured("peep", "8", kind="set"))[0] == "0.21"
    assert pair(gas(), inhaled("0.21", 10), measured("peep", "8", kind="set"))[0] == "0.21"


@pytest.mark.parametrize(
    ("fio2", "minutes", "named"),
    [
        ([vent("0.6", -10)], -5, True),
        ([vent("0.6", -10)], -10, True),
        ([vent("0.6", -10)], 5, True),
        ([vent("0.6", -10)], -11, False),
        ([vent("0.6", 0)], -1, False),
        ([], -30, True),
        ([], 31, False),
        ([vent("0.6"), inhaled("0.9")], 0, True),
    ],
)
def test_a_refused_fio2_that_is_closer_is_named(fio2: list[Measurement], minutes: float, named: bool) -> None:
    refused = Gap("labs", "fraction-unclear", "fio2", "Observation/r", at(minutes), displaces=True)
    assert pair(gas(), *fio2, gaps=(refused,))[1] == ("Observation/r" if named else "")
    assert pair(gas(), *fio2, gaps=(replace(refused, displaces=False),))[1] == ""


def test_a_refused_fio2_of_unknown_time_counts_as_close() -> None:
    refused = Gap("labs", "no-time", "fio2", "Observation/r", None, displaces=True)
    assert pair(gas(), vent("0.6"), gaps=(refused,))[1] == "Observation/r"
    assert pair(gas(), vent("0.6"), gaps=(replace(refused, when=DAY),))[1] == "Observation/r"


def test_every_gas_has_its_pair() -> None:
    pairs = derive(facts(gas(), gas(when=at(300), reference="Observation/2"), vent("0.5", 299))).pairs
    assert [(p.gas.reference, p.why) for p in pairs] == [
        ("Observation/2", ""),
        ("Observation/pao20arterial", "no-fio2"),
    ]


# --------------------------------------------------------------------------- compliance (reading 3.6)


def mechanics(
    plateau: float = 0, volume: float = 0, peep: float = 0, *, pressure: str = "24", low: str = "8"
) -> list[Measurement]:
    return [
        measured("pplat", pressure, plateau),
        measured("vt", "400", volume, kind="delivered"),
        measured("peep", low, peep, kind="set"),
    ]


def derived(concept: str, *measurements: Measurement, **more: Any) -> list[Measurement]:
    return [m for m in derive(facts(*measurements, **more)).of(concept) if m.kind in {"derived", "estimated"}]


def test_compliance_is_derived_with_its_parts() -> None:
    (found,) = derived("crs", *mechanics())
    assert (found.value, found.unit, found.kind, found.when) == (D(25), "mL/cm[H2O]", "derived", at(0))
    assert found.original == "400 u / (24 u - 8 u)"
    assert found.parts == ("Observation/vt0delivered", "Observation/pplat0", "Observation/peep0set")


@pytest.mark.parametrize(
    ("volume", "peep", "found"),
    [(-30, 0, True), (-31, 0, False), (0, 30, True), (0, 31, False), (-20, 20, False), (-15, 15, True), (30, 1, True)],
)
def test_the_three_lie_within_half_an_hour_of_each_other(volume: float, peep: float, found: bool) -> None:
    assert bool(derived("crs", *mechanics(0, volume, peep))) is found


def test_total_peep_before_set_peep_and_the_nearest_of_each() -> None:
    more = [measured("peep", "14", 20, kind="total"), measured("peep", "16", -25, kind="total")]
    (found,) = derived("crs", *mechanics(), *more)
    assert found.value == D(40)
    nearer = [
        measured("vt", "300", 5, kind="set"),
        measured("vt", "480", -10, kind="delivered", reference="Observation/z"),
    ]
    (found,) = derived("crs", *mechanics(volume=20), *nearer)
    assert found.value == D(30)


def test_a_total_peep_too_far_from_the_volume_gives_way_to_the_set_one() -> None:
    (found,) = derived("crs", *mechanics(volume=-20), measured("peep", "14", 20, kind="total"))
    assert found.parts[2] == "Observation/peep0set"


def test_periods_and_vague_times() -> None:
    base = mechanics()
    long = measured("peep", "8", when=at(200), period_start=GAS_AT - timedelta(hours=3), kind="set")
    assert derived("crs", *base[:2], long)
    assert not derived("crs", *base[:2], measured("peep", "8", when=DAY, kind="set"))
    assert not derived("crs", measured("pplat", "24", when=DAY), *base[1:])
    assert not derived("crs", measured("pplat", "24", comparator="<"), *base[1:])


@pytest.mark.parametrize(
    ("pressure", "low", "why", "params"),
    [
        ("8", "8", "plateau-not-above-peep", (("seen", "8 u; PEEP 8 u"),)),
        ("7", "8", "plateau-not-above-peep", (("seen", "7 u; PEEP 8 u"),)),
        ("10", "8", "implausible", (("seen", "400 u / (10 u - 8 u)"), ("unit", "mL/cm[H2O]"))),
    ],
)
def test_pressures_that_cannot_be(pressure: str, low: str, why: str, params: Any) -> None:
    found = derive(facts(*mechanics(pressure=pressure, low=low)))
    assert not found.of("crs")
    assert [(g.source, g.why, g.concept, g.displaces, g.params) for g in found.gaps] == [
        (SOURCE, why, "crs", True, params)
    ]
    assert found.gaps[0].when == at(0)


def test_every_plateau_has_its_own() -> None:
    later = [measured("pplat", "28", 120), measured("vt", "400", 121), measured("peep", "8", 119, kind="set")]
    assert [m.value for m in derived("crs", *mechanics(), *later)] == [D(20), D(25)]


# --------------------------------------------------------------------------- neutrophils (reading 3.15)


def test_neutrophils_of_one_sample() -> None:
    cells, share, bands = measured("wbc", "4"), measured("neutrophils_pct", "30"), measured("bands_pct", "5")
    (found,) = derived("anc", cells, share, bands)
    assert (found.value, found.original, found.unit) == (D("1.4"), "4 u x (30 u + 5 u)", "10*9/L")
    (found,) = derived("anc", cells, share)
    assert (found.value, found.original, found.parts) == (D("1.2"), "4 u x 30 u", (cells.reference, share.reference))


@pytest.mark.parametrize(
    ("share", "count", "found"),
    [
        ({}, {}, False),
        ({}, {"minutes": 5}, True),
        ({"minutes": 1}, {"minutes": 5}, False),
        ({"minutes": 1, "panel": "s"}, {"minutes": 5}, True),
        ({"minutes": 1, "panel": "s"}, {"minutes": 5, "panel": "s"}, False),
        ({"when": DAY}, {"minutes": 5}, False),
        ({"comparator": ">"}, {"minutes": 5}, False),
    ],
)
def test_only_of_one_sample_and_only_without_a_count(share: Any, count: Any, found: bool) -> None:
    cells = measured("wbc", "4", panel="s" if "panel" in share else "")
    more = [measured("neutrophils_pct", "30", **share), measured("anc", "2", **count)]
    assert bool(derived("anc", cells, *more)) is found


def test_dates_without_time_are_no_sample() -> None:
    assert not derived("anc", measured("wbc", "4", when=DAY), measured("neutrophils_pct", "30", when=DAY))


def test_shares_of_more_than_everything() -> None:
    found = derive(facts(measured("wbc", "4"), measured("neutrophils_pct", "98"), measured("bands_pct", "5")))
    assert not found.of("anc")
    assert [(g.why, g.concept) for g in found.gaps] == [("implausible", "anc")]


# --------------------------------------------------------------------------- clearance (reading 3.15)

WOMAN = Patient("Patient/p", date(1966, 1, 1), date(1966, 1, 1), "female")
MAN = replace(WOMAN, sex="male")


def clearance(patient: Patient | None = MAN, *, creatinine: str = "88.4", **more: Any) -> list[Measurement]:
    weight = measured("weight", "72", **{"minutes": -60, **more})
    return derived("crcl", measured("creatinine", creatinine), weight, patient=patient)


def test_cockcroft_gault() -> None:
    (found,) = clearance()
    assert (found.value, found.unit, found.kind) == (D(80), "mL/min", "estimated")
    assert found.original == "creatinine 88.4 u, 72 u, 60 years"
    assert found.parts == ("Observation/creatinine0", "Observation/weight-60")
    assert [m.value for m in clearance(WOMAN)] == [D(68)]


@pytest.mark.parametrize(
    "patient",
    [
        None,
        replace(MAN, sex=""),
        replace(MAN, born_earliest=None),
        replace(MAN, born_latest=None),
        replace(MAN, born_latest=date(1966, 12, 31)),
        Patient("Patient/p", date(2008, 3, 11), date(2008, 3, 11), "male"),
    ],
)
def test_no_clearance_without_age_and_sex(patient: Patient | None) -> None:
    assert not clearance(patient)


@pytest.mark.parametrize(
    ("weight", "found"),
    [
        ({"minutes": 0}, True),
        ({"minutes": 1}, False),
        ({"minutes": -60 * 24 * 30}, True),
        ({"minutes": -60 * 24 * 30 - 1}, False),
        ({"comparator": ">"}, False),
        ({"when": DAY}, True),
    ],
)
def test_the_weight_of_the_last_30_days(weight: Any, found: bool) -> None:
    assert bool(clearance(**weight)) is found


def test_a_clearance_that_cannot_be() -> None:
    found = derive(facts(measured("creatinine", "5"), measured("weight", "72"), patient=MAN))
    assert [(g.why, g.concept) for g in found.gaps] == [("implausible", "crcl")]


@pytest.mark.parametrize(("on", "years"), [(date(2026, 3, 9), 17), (date(2026, 3, 10), 18)])
def test_age_is_in_full_years(on: date, years: int) -> None:
    assert age(Patient("Patient/p", date(2008, 3, 10), date(2008, 3, 10)), on) == years


# --------------------------------------------------------------------------- as a whole


def test_deriving_twice_is_deriving_once() -> None:
    once = derive(
        facts(
            gas(),
            vent("0.6"),
            *mechanics(pressure="8"),
            measured("wbc", "4"),
            measured("neutrophils_pct", "30"),
            patient=MAN,
        )
    )
    assert derive(once) == once
    assert once.gaps


def test_windows_are_data() -> None:
    narrow = Pairing(fio2=timedelta(minutes=5))
    assert derive(facts(gas(), vent("0.6", -10)), pairing=narrow).pairs[0].fio2 is None
    assert derive(facts(gas(), vent("0.60"), inhaled("0.64")), pairing=Pairing(disagreement=D("0.03"))).pairs[0].why


# --------------------------------------------------------------------------- lymphocytes and the ratio (Table 2)


def counted(name: str, *measurements: Measurement) -> list[Measurement]:
    return [m for m in derive(facts(*measurements)).measurements if m.concept == name and m.kind == "derived"]


def test_lymphocytes_follow_from_the_leucocytes_of_the_sample() -> None:
    (found,) = counted("lymphocytes", measured("wbc", "7"), measured("lymphocytes_pct", "20"))
    assert (found.value, found.unit, found.original) == (D("1.4"), "10*9/L", "7 u x 20 u")
    assert counted("lymphocytes", measured("wbc", "7"), measured("lymphocytes_pct", "20", 31)) == []
    sent = measured("lymphocytes", "1.2")
    assert counted("lymphocytes", measured("wbc", "7"), measured("lymphocytes_pct", "20"), sent) == []


def test_bands_are_no_lymphocytes() -> None:
    found = counted("lymphocytes", measured("wbc", "10"), measured("lymphocytes_pct", "10"), measured("bands_pct", "5"))
    assert [m.value for m in found] == [1]


def test_the_ratio_is_that_of_two_counts_of_one_sample() -> None:
    neutrophils = measured("anc", "6")
    (found,) = counted("nlr", neutrophils, measured("lymphocytes", "1.5"))
    assert (found.value, found.unit, found.original) == (4, "1", "6 u / 1.5 u")
    assert found.parts == (neutrophils.reference, found.reference)
    assert counted("nlr", neutrophils, measured("lymphocytes", "1.5", 31)) == []


def test_the_ratio_of_counts_that_follow_from_a_differential() -> None:
    shares = (measured("neutrophils_pct", "80"), measured("lymphocytes_pct", "16"))
    (found,) = counted("nlr", measured("wbc", "10"), *shares)
    assert found.value == 5


@pytest.mark.parametrize(("neutrophils", "lymphocytes"), [("", "<"), (">", "")])
def test_a_bound_gives_no_ratio(neutrophils: Comparator, lymphocytes: Comparator) -> None:
    counts = (measured("anc", "6", comparator=neutrophils), measured("lymphocytes", "1", comparator=lymphocytes))
    assert counted("nlr", *counts) == []


def test_no_lymphocytes_at_all_give_no_ratio() -> None:
    assert counted("nlr", measured("anc", "6"), measured("lymphocytes", "0")) == []
