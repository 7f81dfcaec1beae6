"""Observations: the traps of real data, one row each."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_mappings.codebook import load
from fhir_mappings.coding import loinc_check_digit_holds
from fhir_mappings.facts import Gap, Measurement, Overlay
from fhir_mappings.observations import Cutoffs, collect, concepts
from tests.unit.fhir_mappings.build import ago, concept, context, observation, quantity, raw, raws, real

D = Decimal
GAS = "loinc|2703-7"
BLOOD_GAS = "loinc|11556-8"
SET_FIO2 = "loinc|19994-3"


def read(*resources: Any, overlay: Overlay | None = None) -> tuple[list[Measurement], list[Gap]]:
    facts, gaps = collect(raws(*resources), context=context(overlay=overlay))
    return list(facts), list(gaps)


def fact(*resources: Any, overlay: Overlay | None = None) -> Measurement:
    facts, gaps = read(*resources, overlay=overlay)
    assert not gaps
    assert len(facts) == 1
    return facts[0]


def gap(*resources: Any, overlay: Overlay | None = None) -> Gap:
    facts, gaps = read(*resources, overlay=overlay)
    assert not facts
    assert len(gaps) == 1
    return gaps[0]


# --------------------------------------------------------------------------- the data file


def test_every_loinc_code_has_its_check_digit() -> None:
    wrong = {c.code for c in load("observations").codes if c.system == "loinc" and not loinc_check_digit_holds(c.code)}
    assert wrong == {"0827-3"}  # published with this typing error, read on purpose


def test_unverified_codes_establish_nothing() -> None:
    doubtful = {c.concept for c in load("observations").codes if not c.verified}
    assert {name for name in doubtful if not concepts()[name].trap} == {"fungal_test"}


@pytest.mark.parametrize("name", sorted(concepts()))
def test_every_concept_says_how_it_is_read(name: str) -> None:
    known = concepts()[name]
    assert (known.trap or known.panel) + bool(known.quantity) + (known.vocabulary is not None) == 1
    kinds = {code.kind for code in load("observations").of([name])}
    assert known.trap or known.panel or kinds <= {"", *known.kinds}
    assert kinds >= set(known.numeric)
    assert kinds >= set(known.quantities)


# --------------------------------------------------------------------------- a plain result


def test_a_result_keeps_what_was_written_and_where_it_is_from() -> None:
    found = fact(observation("loinc|1988-5", id="crp-1", value=26.2, unit="mg/dL", text="C-reactive protein"))
    assert (found.concept, found.value, found.unit, found.original) == ("crp", D("262"), "mg/L", "26.2 mg/dL")
    assert (found.reference, found.code, found.label) == ("Observation/crp-1", "loinc|1988-5", "C-reactive protein")
    assert found.when.exact
    assert (found.status, found.comparator, found.coded, found.kind) == ("final", "", "", "")


def test_the_label_falls_back_to_display_and_to_our_name() -> None:
    shown = observation(
        code={"coding": [{"system": "http://loinc.org", "code": "1988-5", "display": "CRP"}]}, value=1, unit="mg/L"
    )
    assert fact(shown).label == "CRP"
    assert fact(observation("loinc|76247-6", value=9, unit="cm[H2O]")).label == "PEEP"
    assert len(fact(observation("loinc|1988-5", value=9, unit="mg/L", text="x" * 500)).label) == 100


@pytest.mark.parametrize("system", ["http://loinc.org/", "urn:oid:2.16.840.1.113883.6.1", "LN", "HTTP://LOINC.ORG"])
def test_addresses_of_one_code_system(system: str) -> None:
    code = {"coding": [{"system": system, "code": "1988-5"}]}
    assert fact(observation(code=code, value=5, unit="mg/L")).concept == "crp"


@pytest.mark.parametrize(
    "resource",
    [
        observation("loinc|8480-6", value=120, unit="mm[Hg]"),
        observation("loinc|86914-9", value=1000, unit="ug/L"),
        observation("loinc|3151-8", value=6, unit="L/min"),
        observation("mdc|153132", value=55, unit="%"),
        observation("loinc|15045-8", value=1, unit="mg/dL"),
        observation(text="CRP", value=200, unit="mg/L"),
        observation("loinc|", value=200, unit="mg/L"),
        observation("loinc|24336-0"),
    ],
)
def test_other_results_are_none_of_ours(resource: Any) -> None:
    assert read(resource) == ([], [])


# --------------------------------------------------------------------------- status


@pytest.mark.parametrize("status", ["final", "amended", "corrected"])
def test_statuses_that_count(status: str) -> None:
    assert fact(observation("loinc|1988-5", value=5, unit="mg/L", status=status)).status == status


@pytest.mark.parametrize(
    ("status", "why"),
    [
        ("preliminary", "status-preliminary"),
        ("registered", "status-registered"),
        ("unknown", "status-unknown"),
        ("", "status-unknown"),
        ("appended", "status-unknown"),
    ],
)
def test_statuses_that_are_refused(status: str, why: str) -> None:
    found = gap(observation("loinc|1988-5", value=5, unit="mg/L", status=status))
    assert (found.why, found.concept, found.displaces, found.params) == (why, "crp", True, (("status", status),))
    ordered = gap(observation("loinc|1988-5", status=status))
    assert (ordered.why, ordered.displaces) == (why, False)


@pytest.mark.parametrize("status", ["entered-in-error", "cancelled"])
def test_statuses_that_do_not_exist(status: str) -> None:
    panel = observation("loinc|24336-0", id="panel", status=status, hasMember=[{"reference": "Observation/o"}])
    wrong = observation("loinc|1988-5", "loinc|2276-4", value=5, unit="mg/L", status=status)
    assert read(wrong, panel) == ([], [])
    assert fact(observation(GAS, value=80, unit="mm[Hg]"), panel).panel == ""


@pytest.mark.parametrize(("mark", "counts"), [("loinc|600-7", True), ("loinc|44357-2", True), ("loinc|94500-6", False)])
def test_a_suspicion_may_be_preliminary(mark: str, counts: bool) -> None:
    facts, gaps = read(observation(mark, valueString="positive", status="preliminary"))
    assert (bool(facts), bool(gaps)) == (counts, not counts)


# --------------------------------------------------------------------------- codings


def test_codings_of_two_concepts_are_refused_for_both() -> None:
    facts, gaps = read(observation("loinc|1988-5", "loinc|2276-4", value=5, unit="mg/L"))
    assert not facts
    assert [(g.concept, g.why, g.displaces) for g in gaps] == [
        ("crp", "ambiguous-coding", True),
        ("ferritin", "ambiguous-coding", True),
    ]
    assert gaps[0].params == (("concepts", "CRP, Ferritin"),)


def test_a_trap_beside_our_code_is_ambiguous() -> None:
    found = gap(observation("loinc|71835-3", "snomed|250774007", "snomed|27913002", value=0.3, unit="1"))
    assert (found.why, found.concept, found.displaces) == ("ambiguous-coding", "fio2", True)


@pytest.mark.parametrize(
    ("marks", "kind", "code"),
    [
        (("snomed|250774007", SET_FIO2), "ventilator", SET_FIO2),
        (("snomed|250774007",), "inhaled", "snomed|250774007"),
        (("loinc|71835-3", "mdc|152196"), "ventilator", "mdc|152196"),
        (("mimic-chart|223835",), "ventilator", "mimic-chart|223835"),
        (("mimic-lab|50816",), "inhaled", "mimic-lab|50816"),
    ],
)
def test_the_most_specific_coding_counts(marks: tuple[str, ...], kind: str, code: str) -> None:
    found = fact(observation(*marks, value=60, unit="%"))
    assert (found.kind, found.code, found.value) == (kind, code, D("0.6"))


def test_codes_of_the_site() -> None:
    site = Overlay(
        codes={
            "urn:site|FIO2": ("fio2", ""),
            "http://loinc.org|1988-5": ("ferritin", ""),
            "urn:site|PEEP": ("peep", ""),
            "urn:site|ODD": ("no-such-concept", ""),
        }
    )
    assert fact(observation("urn:site|FIO2", value=60, unit="%"), overlay=site).kind == "ventilator"
    assert fact(observation("urn:site|PEEP", value=8, unit="mbar"), overlay=site).kind == "set"
    assert fact(observation("loinc|1988-5", value=60, unit="ug/L"), overlay=site).concept == "ferritin"
    assert read(observation("urn:site|ODD", value=60, unit="%"), overlay=site) == ([], [])


# --------------------------------------------------------------------------- time


@pytest.mark.parametrize(
    ("time", "earliest", "start"),
    [
        ({"effectiveDateTime": "2026-03-10T10:00:00+01:00"}, "2026-03-10T09:00:00+00:00", None),
        ({"effectiveDateTime": "2026-03-10T10:00"}, "2026-03-10T09:00:00+00:00", None),
        ({"effectiveInstant": "2026-03-10T10:00:00.5Z"}, "2026-03-10T10:00:00.500000+00:00", None),
        ({"effectiveDateTime": "2026-03-10"}, "2026-03-09T23:00:00+00:00", None),
        (
            {"effectivePeriod": {"start": "2026-03-10T08:00:00Z", "end": "2026-03-10T09:00:00Z"}},
            "2026-03-10T09:00:00+00:00",
            "2026-03-10T08:00:00+00:00",
        ),
        (
            {"effectivePeriod": {"start": "2026-03-10T08:00:00Z"}},
            "2026-03-10T08:00:00+00:00",
            "2026-03-10T08:00:00+00:00",
        ),
        ({"effectivePeriod": {"end": "2026-03-10T08:00:00Z"}}, "2026-03-10T08:00:00+00:00", None),
        ({"effectiveDateTime": "2026-03-10T11:59:60Z"}, "2026-03-10T12:00:00+00:00", None),
        ({"effectiveDateTime": "2026-03-10T12:10:00Z"}, "2026-03-10T12:10:00+00:00", None),
    ],
)
def test_effective_times(time: dict[str, Any], earliest: str, start: str | None) -> None:
    found = fact(observation("loinc|1988-5", value=5, unit="mg/L", at=None, **time))
    assert found.when.earliest.isoformat() == earliest
    assert (found.period_start and found.period_start.isoformat()) == start


@pytest.mark.parametrize(
    "time",
    [
        {},
        {"effectiveDateTime": "yesterday"},
        {"effectiveDateTime": "2026-02-30T10:00:00Z"},
        {"effectivePeriod": {}},
        {"effectivePeriod": {"start": "2026-03-10T08:00:00Z", "end": "soon"}},
        {"effectivePeriod": {"start": "2026-03-10T08:00:00Z", "end": "2026-03-10T07:00:00Z"}},
    ],
)
def test_without_a_time_it_may_be_the_newest(time: dict[str, Any]) -> None:
    undated = gap(observation("loinc|1988-5", value=5, unit="mg/L", at=None, **time))
    assert (undated.why, undated.displaces, undated.when) == ("no-time", True, None)
    issued = gap(observation("loinc|1988-5", value=5, unit="mg/L", at=None, issued=ago(hours=3), **time))
    assert issued.when is not None
    assert issued.when.earliest.isoformat() == ago(hours=3)


def test_the_future_is_refused_after_ten_minutes() -> None:
    found = gap(observation("loinc|1988-5", value=5, unit="mg/L", at="2026-03-10T12:10:01Z"))
    assert (found.why, found.displaces) == ("future", False)
    odd = gap(observation("loinc|1988-5", "loinc|86914-9", value=5, unit="mg/L", at="2026-03-10T12:10:01Z"))
    assert (odd.why, odd.displaces) == ("ambiguous-coding", False)
    broken = gap(observation("loinc|1988-5", at="2026-03-10T12:10:01Z", valueQuantity=7))
    assert (broken.why, broken.displaces) == ("unreadable-resource", False)


# --------------------------------------------------------------------------- numbers and units


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"value": 262, "unit": "mg/L"}, ("262", "", "262 mg/L")),
        ({"value": 1650, "unit": "mg/L", "comparator": ">"}, None),
        ({"value": 10, "unit": "mg/L", "comparator": ">"}, ("10", ">", ">10 mg/L")),
        ({"valueString": "12,5 mg/dL"}, ("125.0", "", "12,5 mg/dL")),
        ({"valueString": " > 10 mg/dL"}, ("100", ">", "> 10 mg/dL")),
        ({"valueQuantity": {"value": 5, "code": "mg/L", "system": "http://unitsofmeasure.org"}}, ("5", "", "5 mg/L")),
        ({"valueQuantity": {"value": 5, "unit": "mg/L"}}, ("5", "", "5 mg/L")),
        (
            {"valueQuantity": {"value": 5, "unit": "mg/L", "code": "raw", "system": "urn:mimic-units"}},
            ("5", "", "5 mg/L"),
        ),
        ({"valueQuantity": {"value": 5, "unit": "milligrams", "code": "mg/L"}}, ("5", "", "5 milligrams")),
        ({"valueQuantity": {"value": 5, "unit": "mg/l", "code": "mg/L"}}, ("5", "", "5 mg/l")),
    ],
)
def test_numbers(more: dict[str, Any], expected: tuple[str, str, str] | None) -> None:
    if expected is None:
        assert gap(observation("loinc|1988-5", **more)).why == "implausible"
        return
    found = fact(observation("loinc|1988-5", **more))
    assert (found.value, found.comparator, found.original) == (D(expected[0]), *expected[1:])


@pytest.mark.parametrize(
    ("more", "why", "params"),
    [
        ({"value": 100}, "no-unit", {"seen": "100"}),
        ({"valueString": "100"}, "no-unit", {"seen": "100"}),
        ({"valueInteger": 100}, "no-unit", {"seen": "100"}),
        ({"value": 952, "unit": "nmol/L"}, "unit-not-accepted", {"seen": "952 nmol/L", "unit": "nmol/L"}),
        ({"valueQuantity": quantity(5, "mg/L", code="raw")}, "unit-not-accepted", {"seen": "5 mg/L", "unit": "mg/L"}),
        ({"valueQuantity": {"value": 5, "unit": "x", "code": "y"}}, "unit-not-accepted", {"seen": "5 x", "unit": "x"}),
        ({"valueQuantity": quantity(5, "mg/dL", code="mg/L")}, "unit-conflict", {"seen": "5 mg/dL", "unit": "mg/dL"}),
        (
            {"valueQuantity": quantity(5, "nmol/L", code="mg/L")},
            "unit-conflict",
            {"seen": "5 nmol/L", "unit": "nmol/L"},
        ),
        ({"value": 1500, "unit": "mg/L"}, "implausible", {"seen": "1500 mg/L", "unit": "mg/L"}),
        ({"value": 5, "unit": "mg/L", "comparator": "ad"}, "unreadable-value", {"seen": "ad5 mg/L"}),
        ({"valueString": "haemolysed"}, "unreadable-value", {"seen": "haemolysed"}),
        ({"valueString": "1.234,5 mg/L"}, "unreadable-value", {"seen": "1.234,5 mg/L"}),
        ({"valueCodeableConcept": concept(text="see report")}, "unreadable-value", {"seen": "see report"}),
        ({"valueBoolean": True}, "unreadable-value", {"seen": ""}),
        ({"valueRange": {"low": quantity(1, "mg/L")}}, "unreadable-value", {"seen": ""}),
        ({"valueRatio": {"numerator": quantity(1, "mg")}}, "unreadable-value", {"seen": ""}),
        ({"valueQuantity": quantity("NaN", "mg/L")}, "unreadable-value", {"seen": "NaN mg/L"}),
    ],
)
def test_refused_numbers(more: dict[str, Any], why: str, params: dict[str, str]) -> None:
    found = gap(observation("loinc|1988-5", **more))
    assert (found.why, found.concept, found.displaces, dict(found.params)) == (why, "crp", True, params)


def test_a_number_beyond_all_measure_is_unreadable() -> None:
    huge = raw(observation("loinc|1988-5", value=7, unit="mg/L")).replace(b'"value": 7', b'"value": 1e999')
    _, gaps = collect([("labs", huge)], context=context())
    assert [g.why for g in gaps] == ["unreadable-value"]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"dataAbsentReason": concept(text="not performed")},
        {"valueQuantity": {"unit": "mg/L"}},
        {"valueString": "  "},
        {"valueCodeableConcept": {}},
        {"interpretation": [concept("interpretation|H")]},
        {"valueRange": None},
    ],
)
def test_without_a_value_nothing_is_displaced(more: dict[str, Any]) -> None:
    found = gap(observation("loinc|1988-5", **more))
    assert (found.why, found.displaces) == ("no-value", False)


def test_molar_codes_are_refused_whatever_their_unit() -> None:
    assert gap(observation("loinc|76485-2", value=952, unit="nmol/L")).why == "unit-not-accepted"
    assert gap(observation("loinc|14723-1", value=952, unit="ug/L")).why == "unit-not-accepted"


# --------------------------------------------------------------------------- FiO2 (reading 3.1)


@pytest.mark.parametrize(
    ("value", "unit", "seen"),
    [(0.3, "%", "0.3 %"), (60, "1", "60 1"), (0.6, "%", "0.6 %"), (1, "%", "1 %"), (15, "%", "15 %")],
)
def test_fio2_is_never_guessed(value: float, unit: str, seen: str) -> None:
    found = gap(observation(SET_FIO2, value=value, unit=unit))
    assert (found.why, found.params) == ("fraction-unclear", (("seen", seen), ("unit", unit)))


@pytest.mark.parametrize(("value", "expected"), [(0.3, "0.3"), (1, "1"), (30, "0.3")])
def test_a_site_may_say_that_its_percent_is_a_fraction(value: float, expected: str) -> None:
    site = Overlay(percent_means_fraction=frozenset({SET_FIO2}))
    assert fact(observation("snomed|250774007", SET_FIO2, value=value, unit="%"), overlay=site).value == D(expected)
    assert gap(observation("loinc|3150-0", value=0.3, unit="%"), overlay=site).why == "fraction-unclear"
    assert gap(observation(SET_FIO2, value=60, unit="1"), overlay=site).why == "fraction-unclear"
    assert gap(observation(SET_FIO2, value=5, unit="%"), overlay=site).why == "fraction-unclear"


def test_a_site_may_say_what_no_unit_means() -> None:
    site = Overlay(unit_when_absent={"mimic-chart|223835": "%", "loinc|1988-5": "furlong"})
    assert fact(observation("mimic-chart|223835", value=50), overlay=site).value == D("0.5")
    assert gap(observation("mimic-chart|223835", value=50, unit="L/min"), overlay=site).why == "unit-not-accepted"
    assert gap(observation("loinc|1988-5", value=50), overlay=site).why == "unit-not-accepted"
    assert gap(observation(SET_FIO2, value=50), overlay=site).why == "no-unit"


def test_oxygenator_gas_is_never_fio2() -> None:
    found = fact(observation("mimic-chart|229280", value=100, unit="%"))
    assert (found.concept, found.value) == ("ecmo_fdo2", D(1))


def test_a_flow_per_body_surface_has_its_own_unit() -> None:
    found = fact(observation("snomed|251289007", value=2.4, unit="L/min/m2"))
    assert (found.concept, found.kind, found.unit) == ("ecmo_flow", "index", "L/min/m2")


# --------------------------------------------------------------------------- components and panels


def test_components_are_read_and_share_a_panel() -> None:
    facts, gaps = read(
        observation(
            "loinc|24336-0",
            component=[
                {"code": concept("loinc|11556-8"), "valueQuantity": quantity(70, "mm[Hg]")},
                {"code": concept("loinc|3150-0"), "valueQuantity": quantity(60, "%")},
                {"code": concept("loinc|3151-8"), "valueQuantity": quantity(6, "L/min")},
                {"code": {}, "valueString": "x"},
            ],
        )
    )
    assert not gaps
    assert {(f.concept, f.panel, f.reference) for f in facts} == {
        ("pao2", "Observation/o", "Observation/o"),
        ("fio2", "Observation/o", "Observation/o"),
    }


def test_a_component_without_value_is_a_gap_unless_it_is_the_panel_itself() -> None:
    panel = observation("loinc|94531-1", component=[{"code": concept("loinc|94500-6"), "valueString": "positive"}])
    assert fact(panel).code == "loinc|94500-6"
    group = observation("loinc|94531-1", hasMember=[{"reference": "Observation/x"}])
    assert read(group) == ([], [])


@pytest.mark.parametrize(
    "reference", ["Observation/m", "https://a.example/fhir/Observation/m/_history/3", "urn:uuid:m"]
)
def test_members_share_their_panel_in_any_order(reference: str) -> None:
    panel = observation("loinc|24336-0", id="panel", hasMember=[{"reference": reference}])
    other = observation("loinc|24338-6", id="qanel", hasMember=[{"reference": reference}])
    member = observation(BLOOD_GAS, id="m", value=70, unit="mm[Hg]")
    for order in ((panel, member, other), (other, member, panel)):
        found = fact(*order)
        assert (found.panel, found.specimen, found.kind) == ("Observation/panel", "", "arterial")


def test_a_member_inherits_the_specimen_of_its_panel() -> None:
    venous = observation(
        "loinc|24338-6",
        id="panel",
        hasMember=[{"reference": "Observation/m"}],
        bodySite=concept(text="V. jugularis, venös"),
    )
    assert gap(venous, observation(GAS, id="m", value=40, unit="mm[Hg]")).why == "not-arterial"
    arterial = {**venous, "bodySite": concept(text="A. radialis, arteriell")}
    assert fact(arterial, observation(BLOOD_GAS, id="m", value=70, unit="mm[Hg]")).specimen == "arterial"


def test_one_specimen_is_one_panel() -> None:
    found = fact(observation(GAS, value=70, unit="mm[Hg]", specimen={"reference": "Specimen/1", "display": "ABG"}))
    assert found.panel == "Specimen/1"


REFERRED: dict[str, Any] = {"specimen": {"reference": "Specimen/s"}}


def referring(
    *resources: dict[str, Any], specimens: dict[str, dict[str, Any]] | None = None
) -> tuple[list[Measurement], list[Gap]]:
    known = {name: raw({"resourceType": "Specimen", **one}) for name, one in (specimens or {}).items()}
    facts, gaps = collect(raws(*resources), context=replace(context(), specimens=known))
    return list(facts), list(gaps)


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("Specimen/s", "Specimen/s"),
        ("Specimen/s/_history/2", "Specimen/s"),
        ("https://fhir.example.org/r4/Specimen/s", "Specimen/s"),
        ("urn:uuid:s", "urn:uuid:s"),
    ],
)
@pytest.mark.parametrize(
    ("content", "site"),
    [
        ({"type": concept("v2-0487|BLDV")}, "venous"),
        ({"type": concept(text="ECMO circuit post-oxygenator")}, "circuit"),
        ({"collection": {"bodySite": concept(text="central venous line")}}, "venous"),
    ],
)
def test_a_specimen_that_is_referred_to_beats_the_code(
    reference: str, name: str, content: dict[str, Any], site: str
) -> None:
    gas = observation(GAS, value=40, unit="mm[Hg]", specimen={"reference": reference})
    facts, gaps = referring(gas, specimens={name: content})
    assert not facts
    assert [(g.why, g.params, g.displaces) for g in gaps] == [("not-arterial", (("specimen", site),), False)]


def test_a_specimen_that_is_referred_to_makes_any_gas_arterial() -> None:
    gas = observation(BLOOD_GAS, value=70, unit="mm[Hg]", **REFERRED)
    facts, gaps = referring(gas, specimens={"Specimen/s": {"type": concept("v2-0487|BLDA")}})
    assert [m.specimen for m in facts] == ["arterial"]
    assert not gaps


def test_a_specimen_that_says_nothing_leaves_it_to_the_code() -> None:
    gas = observation(GAS, value=70, unit="mm[Hg]", **REFERRED)
    facts, gaps = referring(gas, specimens={"Specimen/s": {"type": concept(text="Blood")}})
    assert [m.specimen for m in facts] == [""]
    assert not gaps


@pytest.mark.parametrize("specimens", [{}, {"Specimen/other": {}}, {"Specimen/s": {"type": 7}}])
def test_a_specimen_that_is_not_there_is_named_beside_the_gas(specimens: dict[str, dict[str, Any]]) -> None:
    facts, gaps = referring(observation(GAS, value=70, unit="mm[Hg]", **REFERRED), specimens=specimens)
    assert [m.specimen for m in facts] == [""]
    assert [(g.concept, g.why, g.displaces) for g in gaps] == [("pao2", "specimen-unresolved", False)]
    facts, gaps = referring(observation(BLOOD_GAS, value=70, unit="mm[Hg]", **REFERRED), specimens=specimens)
    assert not facts
    assert [(g.concept, g.why, g.displaces) for g in gaps] == [("pao2", "specimen-unresolved", False)]


def test_only_a_gas_asks_for_its_specimen() -> None:
    assert fact(observation("loinc|1988-5", value=12, unit="mg/L", **REFERRED)).concept == "crp"
    inside: dict[str, Any] = {"specimen": {"reference": "#s"}, "contained": [{"resourceType": "Device", "id": "s"}]}
    facts, gaps = referring(observation(GAS, value=70, unit="mm[Hg]", **inside))
    assert (len(facts), [g.why for g in gaps]) == (1, ["specimen-unresolved"])


@pytest.mark.parametrize("known", [True, False])
def test_a_member_inherits_the_specimen_that_its_panel_refers_to(known: bool) -> None:
    panel = observation("loinc|24336-0", id="panel", hasMember=[{"reference": "Observation/m"}], **REFERRED)
    member = observation(GAS, id="m", value=70, unit="mm[Hg]")
    venous = {"Specimen/s": {"type": concept("v2-0487|BLDV")}}
    facts, gaps = referring(panel, member, specimens=venous if known else {})
    assert len(facts) == (not known)
    assert [g.why for g in gaps] == ["not-arterial" if known else "specimen-unresolved"]


# --------------------------------------------------------------------------- specimen (reading 3.5)


def specimen(*marks: str, text: str = "", site: dict[str, Any] | None = None) -> dict[str, Any]:
    inside = {"resourceType": "Specimen", "id": "s", "type": concept(*marks, text=text)}
    if site:
        inside["collection"] = {"bodySite": site}
    return {"specimen": {"reference": "#s"}, "contained": [inside, {"resourceType": "Device", "id": "d"}]}


ARTERIAL: list[dict[str, Any]] = [
    {"specimen": {"display": "Arterial blood"}},
    {"specimen": {"identifier": {"value": "ABG-17"}}},
    {"specimen": {"identifier": {"value": "1", "type": concept("v2-0487|BLDA")}}},
    specimen("snomed|122552005"),
    specimen("v2-0487|BLDA"),
    specimen(text="Blut arteriell"),
    specimen(site=concept(text="artère radiale")),
    {"bodySite": concept(text="Arteria radialis")},
    {"bodySite": concept("snomed|51114001", display="Arterial structure")},
    {"method": concept(text="arterial line sample")},
    {"specimen": {"display": "ART."}},
    {
        "specimen": {"reference": "#s"},
        "contained": [{"resourceType": "Specimen", "collection": {"bodySite": concept(text="arterial")}}],
    },
]
OTHER: list[tuple[dict[str, Any], str]] = [
    ({"specimen": {"display": "Venous blood"}}, "venous"),
    ({"specimen": {"display": "VBG"}}, "venous"),
    (specimen("snomed|122555007"), "venous"),
    (specimen("v2-0487|BLDV"), "venous"),
    (specimen("v2-0487|BLDC"), "capillary"),
    ({"specimen": {"display": "Kapillarblut, Ohrläppchen"}}, "capillary"),
    ({"specimen": {"display": "zentralvenöses Blut"}}, "venous"),
    ({"specimen": {"display": "sang veineux"}}, "venous"),
    ({"specimen": {"display": "arterial, ECMO circuit"}}, "circuit"),
    ({"specimen": {"display": "post-oxygenator"}}, "circuit"),
    ({"specimen": {"display": "pre-membrane"}}, "circuit"),
    ({"bodySite": concept(text="Oxygenator")}, "circuit"),
    ({"specimen": {"display": "arterial"}, "bodySite": concept(text="venous line")}, "venous"),
    ({"code": concept(GAS, text="pO2 venous")}, "venous"),
    ({"code": concept(GAS, text="pO2 post oxygenator"), "specimen": {"display": "arterial"}}, "circuit"),
]


@pytest.mark.parametrize("more", ARTERIAL)
@pytest.mark.parametrize("mark", [GAS, BLOOD_GAS])
def test_a_named_arterial_specimen_makes_every_gas_usable(mark: str, more: dict[str, Any]) -> None:
    found = fact(observation(mark, value=70, unit="mm[Hg]", **more))
    assert (found.kind, found.specimen) == ("arterial", "arterial")


@pytest.mark.parametrize(("more", "site"), OTHER)
@pytest.mark.parametrize("overlay", [Overlay(), Overlay(arterial=frozenset({GAS}))])
def test_a_named_other_specimen_beats_the_code(more: dict[str, Any], site: str, overlay: Overlay) -> None:
    found = gap(observation(GAS, value=70, unit="mm[Hg]", **more), overlay=overlay)
    assert (found.why, found.displaces, found.params) == ("not-arterial", False, (("specimen", site),))


def test_without_a_specimen_the_code_decides() -> None:
    assert fact(observation(GAS, value=70, unit="mm[Hg]")).specimen == ""
    assert fact(observation(BLOOD_GAS, GAS, value=70, unit="mm[Hg]")).code == GAS
    found = gap(observation(BLOOD_GAS, value=70, unit="mm[Hg]", specimen={"display": "Art der Probe: Blut"}))
    assert (found.why, found.displaces) == ("specimen-unknown", False)
    site = Overlay(arterial=frozenset({BLOOD_GAS}))
    assert fact(observation(BLOOD_GAS, value=70, unit="mm[Hg]"), overlay=site).specimen == "arterial"


def test_the_word_arterial_in_a_code_names_no_specimen() -> None:
    found = fact(observation(BLOOD_GAS, value=70, unit="mm[Hg]", text="pO2 arteriell"))
    assert (found.kind, found.specimen) == ("arterial", "")


@pytest.mark.parametrize(("mark", "site"), [("loinc|2705-2", "venous"), ("loinc|2704-5", "capillary")])
def test_codes_of_other_blood(mark: str, site: str) -> None:
    found = gap(observation(mark, value=40, unit="mm[Hg]"))
    assert (found.concept, found.why, found.displaces, found.params) == (
        "pao2",
        "not-arterial",
        False,
        (("specimen", site),),
    )
    both = gap(observation(mark, GAS, value=40, unit="mm[Hg]"))
    assert (both.why, both.params) == ("not-arterial", (("specimen", "contradictory"),))


# --------------------------------------------------------------------------- compliance (reading 3.6)


def crs(*marks: str, value: float = 25, **more: Any) -> dict[str, Any]:
    return observation(*marks, value=value, unit="mL/cm[H2O]", **more)


@pytest.mark.parametrize(
    ("resource", "kind"),
    [
        (crs("mdc|151688", method=concept(text="static")), "static"),
        (crs("mdc|151688", method=concept(text="Compliance statique")), "static"),
        (crs("mdc|151688", method=concept("urn:site|9", display="statische Messung")), "static"),
        (crs("mdc|151688", method=concept("urn:site|static")), "static"),
        (crs("mdc|151688", text="Statische Compliance"), "static"),
        (crs("mimic-chart|229661", text="Compliance, static"), "static"),
        (crs("mdc|151688", text="dynamic compliance"), "lower-bound"),
        (crs("loinc|60827-3", "snomed|250823005", "mdc|151692"), "lower-bound"),
        (crs("loinc|0827-3"), "lower-bound"),
        (crs("mdc|152600"), "lower-bound"),
        (crs("mdc|151688", "mdc|151692"), "lower-bound"),
        (crs("loinc|20103-8", text="static compliance"), "lower-bound"),
        (crs("mdc|151696"), "upper-bound"),
    ],
)
def test_kinds_of_compliance(resource: Any, kind: str) -> None:
    assert fact(resource).kind == kind


@pytest.mark.parametrize(
    "resource",
    [
        crs("mdc|151688"),
        crs("mdc|151688", text="elastic compliance"),
        crs("mdc|151688", text="static or dynamic compliance"),
        crs("mdc|151696", "mdc|151692"),
    ],
)
def test_a_compliance_without_method_is_no_compliance(resource: Any) -> None:
    found = gap(resource)
    assert (found.why, found.displaces, found.params) == (
        "method-not-stated",
        False,
        (("seen", "25 mL/cm[H2O]"), ("unit", "mL/cm[H2O]")),
    )


def test_a_site_may_say_that_its_compliance_is_static() -> None:
    site = Overlay(
        codes={"urn:site|C": ("crs", ""), "urn:site|S": ("crs", "static")},
        static=frozenset({"mdc|151688", "loinc|20103-8"}),
    )
    assert fact(crs("mdc|151688"), overlay=site).kind == "static"
    assert fact(crs("loinc|20103-8"), overlay=site).kind == "static"
    assert fact(crs("urn:site|S", "mdc|151692"), overlay=site).kind == "static"
    assert gap(crs("urn:site|C"), overlay=site).why == "method-not-stated"


def test_a_refused_bound_displaces_nothing() -> None:
    assert gap(crs("loinc|60827-3", value=200)).displaces is False
    assert gap(crs("mdc|151688", value=200, text="static")).displaces is True


# --------------------------------------------------------------------------- upper limit of normal (reading 3.9)

NORMAL = concept("http://terminology.hl7.org/CodeSystem/referencerange-meaning|normal")


@pytest.mark.parametrize(
    ("ranges", "uln"),
    [
        ([{"high": quantity(40, "U/L")}], "40"),
        ([{"low": quantity(5, "U/L"), "high": {"value": 40}}], "40"),
        ([{"high": quantity(0.7, "ukat/L")}], "42"),
        ([{"text": "10 - 40"}], "40"),
        ([{"text": "< 40"}], "40"),
        ([{"text": "0,2 - 0,7 ukat/L"}], "42"),
        ([{"high": quantity(40, "U/L"), "type": NORMAL}, {"high": quantity(90, "U/L")}], "40"),
        ([{"high": quantity(40, "U/L"), "type": concept(text="Normal Range")}], "40"),
        ([{"high": quantity(90, "U/L"), "type": concept(text="therapeutic")}, {"high": quantity(40, "U/L")}], "40"),
        ([{"high": quantity(40, "U/L")}, {"high": quantity(50, "U/L")}], None),
        ([{"high": quantity(40, "U/L"), "type": NORMAL}, {"high": quantity(50, "U/L"), "type": NORMAL}], None),
        ([{"high": quantity(90, "U/L"), "type": concept(text="therapeutic")}], None),
        ([{"low": quantity(10, "U/L")}], None),
        ([{"high": quantity(40, "mg/L")}], None),
        ([{"high": quantity(0, "U/L")}], None),
        ([{"high": {"unit": "U/L"}, "text": "see below"}], None),
        ([], None),
    ],
)
def test_upper_limit_of_normal(ranges: list[Any], uln: str | None) -> None:
    found = fact(observation("loinc|1742-6", value=50, unit="U/L", referenceRange=ranges))
    assert (found.uln, found.uln_origin) == ((None, "") if uln is None else (D(uln), "reference range"))


def test_the_unit_of_a_limit_may_be_that_of_a_text_value() -> None:
    text = observation("loinc|1920-8", valueString="1,5 ukat/L", referenceRange=[{"text": "< 0,7"}])
    assert fact(text).uln == 42
    bare = observation("loinc|1920-8", valueInteger=5, referenceRange=[{"text": "< 40"}])
    assert fact(bare, overlay=Overlay(unit_when_absent={"loinc|1920-8": "U/L"})).uln is None
    bare_text = observation("loinc|1920-8", valueString="5", referenceRange=[{"text": "< 40"}])
    assert fact(bare_text, overlay=Overlay(unit_when_absent={"loinc|1920-8": "U/L"})).uln is None


def test_the_limit_of_the_site_is_the_last_resort() -> None:
    site = Overlay(local_uln={"alt": D(45)})
    found = fact(observation("loinc|1742-6", value=50, unit="U/L"), overlay=site)
    assert (found.uln, found.uln_origin) == (D(45), "site")
    ranged = observation("loinc|1742-6", value=50, unit="U/L", referenceRange=[{"text": "< 40"}])
    assert fact(ranged, overlay=site).uln == 40
    assert fact(observation("loinc|777-3", value=50, unit="10*9/L", referenceRange=[{"text": "< 400"}])).uln is None


# --------------------------------------------------------------------------- qualitative results

PCR = "loinc|94500-6"


@pytest.mark.parametrize(
    ("mark", "more", "coded"),
    [
        (PCR, {"valueCodeableConcept": concept("snomed|260373001")}, "positive"),
        (PCR, {"valueCodeableConcept": concept("snomed|260415000")}, "negative"),
        (PCR, {"valueCodeableConcept": concept("snomed|419984006")}, "inconclusive"),
        (PCR, {"valueCodeableConcept": concept("loinc|LA6576-8")}, "positive"),
        (PCR, {"valueCodeableConcept": concept(text="SARS-CoV-2 RNA not detected")}, "negative"),
        (PCR, {"valueCodeableConcept": concept("urn:site|1", display="Nachgewiesen")}, "positive"),
        (PCR, {"valueCodeableConcept": concept("snomed|260373001", display="Not detected")}, "inconclusive"),
        (PCR, {"valueCodeableConcept": concept("snomed|260373001", text="see report")}, "positive"),
        (PCR, {"valueString": "POS"}, "positive"),
        (PCR, {"valueString": "négatif"}, "negative"),
        (PCR, {"valueString": "Non détecté"}, "negative"),
        (PCR, {"valueString": "nicht nachgewiesen"}, "negative"),
        (PCR, {"valueString": "N gene positive, E gene not detected"}, "inconclusive"),
        (PCR, {"valueString": "not positive"}, "inconclusive"),
        (PCR, {"valueString": "Indeterminate"}, "inconclusive"),
        (PCR, {"valueBoolean": True}, "positive"),
        (PCR, {"valueBoolean": False}, "negative"),
        (PCR, {"interpretation": [concept("interpretation|POS")]}, "positive"),
        (PCR, {"interpretation": concept("interpretation|NEG")}, "negative"),
        (PCR, {"valueString": "positive", "interpretation": [concept("interpretation|ND")]}, "inconclusive"),
        (PCR, {"value": 3, "interpretation": [concept("interpretation|DET")]}, "positive"),
        ("loinc|94745-7", {"value": 24.1, "unit": "1"}, "positive"),
        ("loinc|94745-7", {"value": 24.1}, "positive"),
        ("loinc|94745-7", {"valueString": "24,1"}, "positive"),
        ("loinc|94745-7", {"value": 40, "comparator": ">"}, "inconclusive"),
        ("loinc|94745-7", {"valueString": "not detected"}, "negative"),
        ("loinc|94745-7", {"value": 30, "interpretation": [concept("interpretation|ND")]}, "inconclusive"),
        ("loinc|94819-0", {"value": 5.2}, "positive"),
        ("loinc|94819-0", {"value": 0}, "negative"),
        ("loinc|94819-0", {"value": 2, "comparator": "<"}, "inconclusive"),
        ("loinc|94558-4", {"valueString": "positive"}, "positive"),
        ("loinc|600-7", {"valueString": "Candida albicans"}, "positive"),
        ("loinc|600-7", {"valueString": "Coagulase-negative staphylococci"}, "positive"),
        ("loinc|600-7", {"valueCodeableConcept": concept("snomed|53326005")}, "positive"),
        ("loinc|600-7", {"valueString": "No growth after 5 days."}, "negative"),
        ("loinc|600-7", {"valueCodeableConcept": concept("snomed|264868006")}, "negative"),
        ("loinc|600-7", {"valueString": "Kein Wachstum"}, "negative"),
        ("loinc|600-7", {"valueString": "pending"}, "inconclusive"),
        ("loinc|44357-2", {"valueString": "reactive"}, "positive"),
        ("loinc|5196-1", {"valueString": "non-reactive"}, "negative"),
        ("loinc|71773-6", {"valueString": "borderline"}, "inconclusive"),
        ("loinc|2106-3", {"valueString": "neg"}, "negative"),
        ("loinc|21198-7", {"value": 25, "unit": "[IU]/L"}, "positive"),
        ("loinc|21198-7", {"value": 5, "unit": "mIU/mL"}, "inconclusive"),
        ("loinc|21198-7", {"value": 4.9, "unit": "IU/L"}, "negative"),
        ("loinc|21198-7", {"value": 5, "unit": "IU/L", "comparator": "<"}, "negative"),
        ("loinc|21198-7", {"value": 10, "unit": "IU/L", "comparator": "<"}, "inconclusive"),
        ("loinc|21198-7", {"value": 1000, "unit": "IU/L", "comparator": ">"}, "positive"),
        ("loinc|82810-3", {"valueCodeableConcept": concept("loinc|LA15173-0")}, "pregnant"),
        ("loinc|82810-3", {"valueCodeableConcept": concept("snomed|60001007")}, "not-pregnant"),
        ("loinc|82810-3", {"valueString": "schwanger"}, "pregnant"),
        ("loinc|82810-3", {"valueString": "Not pregnant"}, "not-pregnant"),
        ("loinc|82810-3", {"valueCodeableConcept": concept("loinc|LA4489-6")}, "unknown"),
        ("loinc|82810-3", {"valueBoolean": True}, "pregnant"),
        ("loinc|63895-7", {"valueCodeableConcept": concept("loinc|LA29252-6")}, "positive"),
        ("loinc|63895-7", {"valueCodeableConcept": concept("loinc|LA29253-4")}, "negative"),
        ("loinc|8361-8", {"valueCodeableConcept": concept("snomed|1240000")}, "prone"),
        ("loinc|8361-8", {"valueCodeableConcept": concept("snomed|40199007")}, "supine"),
        ("mimic-chart|224093", {"valueString": "Prone"}, "prone"),
        ("mimic-chart|224093", {"valueString": "Bauchlage 135°"}, "prone"),
        ("mimic-chart|224093", {"valueString": "Chair"}, "other"),
        ("mimic-chart|224154", {"value": 600, "unit": "ml/hr"}, "positive"),
        ("mimic-chart|224154", {"value": 0, "unit": "ml/hr"}, "negative"),
    ],
)
def test_answers(mark: str, more: dict[str, Any], coded: str) -> None:
    found = fact(observation(mark, **more))
    assert (found.coded, found.value) == (coded, None)


@pytest.mark.parametrize(
    ("mark", "more"),
    [
        (PCR, {"valueString": "see report"}),
        (PCR, {"value": 3}),
        (PCR, {"valueCodeableConcept": concept("urn:site|1", display="xyz")}),
        ("loinc|600-7", {"valueString": "..."}),
        ("loinc|94745-7", {"value": -3}),
        ("loinc|94745-7", {"value": "NaN"}),
        ("loinc|21198-7", {"value": 25}),
        ("loinc|21198-7", {"value": -1, "unit": "IU/L"}),
        ("loinc|21198-7", {"value": 99999999, "unit": "IU/L"}),
        ("loinc|8361-8", {"valueBoolean": True}),
        ("loinc|44357-2", {"valueRange": {"low": quantity(1)}}),
    ],
)
def test_unreadable_answers(mark: str, more: dict[str, Any]) -> None:
    found = gap(observation(mark, **more))
    assert (found.why, found.displaces) == ("unreadable-value", True)


def test_cutoffs_at_their_edges() -> None:
    rule = Cutoffs(from_=D(25), above=D(30), negative_below=D(5), negative_to=D(3))
    assert rule.answer(D(25), ">=") == "positive"
    assert rule.answer(D(25), "<=") == "inconclusive"
    assert rule.answer(D(3), "<=") == "negative"
    assert Cutoffs(above=D(0)).answer(D(0), ">") == "positive"
    assert Cutoffs(above=D(0)).answer(D(0), "") == "inconclusive"


@pytest.mark.parametrize(
    ("mark", "more", "where"),
    [
        ("loinc|94759-8", {}, "nasopharyngeal"),
        (PCR, {"specimen": {"display": "Nasopharyngeal swab"}}, "nasopharyngeal"),
        (PCR, {"specimen": {"display": "Nasen-Rachen-Abstrich"}}, "nasopharyngeal"),
        (PCR, {"specimen": {"display": "bronchoalveolar lavage"}}, "lavage"),
        (PCR, specimen(text="BAL"), "lavage"),
        (PCR, {"specimen": {"display": "Saliva"}}, "other"),
        (PCR, {}, ""),
    ],
)
def test_the_specimen_of_a_pcr(mark: str, more: dict[str, Any], where: str) -> None:
    assert fact(observation(mark, valueString="positive", **more)).specimen == where


# --------------------------------------------------------------------------- several results of one instant


def crp(id: str, value: float, **more: Any) -> dict[str, Any]:  # noqa: A002
    return observation("loinc|1988-5", **{"id": id, "value": value, "unit": "mg/L", **more})


@pytest.mark.parametrize("flip", [False, True])
def test_two_results_of_one_instant_that_differ(flip: bool) -> None:
    pair = [crp("a", 90), crp("b", 120)]
    found = gap(*(reversed(pair) if flip else pair))
    assert (found.why, found.concept, found.reference, found.displaces) == ("conflict", "crp", "Observation/a", True)
    assert found.params == (("values", "120 mg/L / 90 mg/L"),)
    assert found.when is not None


def test_two_equal_results_of_one_instant_are_one() -> None:
    assert fact(crp("b", 90), crp("a", 90.0)).reference == "Observation/a"


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    ("one", "other", "kept"),
    [
        (crp("a", 1), observation("loinc|30522-7", id="b", value=10, unit="mg/L", comparator=">"), None),
        (crp("a", 110), observation("loinc|30522-7", id="b", value=10, unit="mg/L", comparator=">"), "a"),
        (crp("a", 10), observation("loinc|30522-7", id="b", value=10, unit="mg/L", comparator=">="), "a"),
        (crp("a", 3), observation("loinc|30522-7", id="b", value=5, unit="mg/L", comparator="<"), "a"),
        (crp("a", 5), observation("loinc|30522-7", id="b", value=5, unit="mg/L", comparator="<="), "a"),
        (crp("a", 10, comparator=">"), crp("b", 10, comparator=">"), "a"),
        (crp("a", 10, comparator=">"), crp("b", 20, comparator=">"), None),
        (crp("a", 105), crp("b", 10.5, unit="mg/dL"), "a"),
        (crp("a", 105.4), crp("b", 10.5, unit="mg/dL"), "a"),
        (crp("a", 105.6), crp("b", 10.5, unit="mg/dL"), None),
    ],
)
def test_results_of_one_instant_that_may_be_one(one: Any, other: Any, kept: str | None, flip: bool) -> None:
    facts, gaps = read(*((other, one) if flip else (one, other)))
    assert [f.reference for f in facts] == ([] if kept is None else [f"Observation/{kept}"])
    assert [g.why for g in gaps] == ([] if kept else ["conflict"])


def test_one_of_two_equal_ones_keeps_its_limit() -> None:
    bare = observation("loinc|1742-6", id="a", value=50, unit="U/L")
    ranged = observation("loinc|1742-6", id="b", value=50, unit="U/L", referenceRange=[{"text": "< 40"}])
    assert fact(bare, ranged).uln == 40


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("status", ["corrected", "amended"])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({}, {}),
        (
            {"identifier": [{"system": "s", "value": "1"}]},
            {"identifier": [{"system": "s", "value": "1"}], "at": ago(hours=3)},
        ),
    ],
)
def test_the_corrected_version_counts(old: Any, new: Any, status: str, flip: bool) -> None:
    pair = [crp("a", 90, **old), crp("b", 120, status=status, **new)]
    assert fact(*(reversed(pair) if flip else pair)).value == 120


@pytest.mark.parametrize("identifier", [[], [{"system": "s", "value": "1"}, {"system": "t"}]])
def test_a_refused_correction_takes_the_old_value_away(identifier: list[Any]) -> None:
    old = crp("a", 90, identifier=identifier)
    new = crp(
        "b", 120, unit="nmol/L", status="corrected", identifier=identifier, **({"at": None} if identifier else {})
    )
    facts, gaps = read(old, new, crp("c", 80, at=ago(hours=9)))
    assert [f.reference for f in facts] == ["Observation/c"]
    assert [g.why for g in gaps] == ["no-time" if identifier else "unit-not-accepted"]


def test_versions_that_share_an_identifier() -> None:
    mark = [{"system": "s", "value": "1"}]
    early = crp("a", 90, identifier=mark, meta={"lastUpdated": ago(minutes=50)})
    late = crp("b", 120, identifier=mark, meta={"lastUpdated": ago(minutes=40)})
    assert fact(early, late).value == 120
    assert gap(early, {**late, "meta": {}}).why == "conflict"
    assert gap(early, {**late, "identifier": [{"system": "s", "value": "2"}]}).why == "conflict"
    assert gap(early, {**late, "meta": early["meta"]}).why == "conflict"


def test_values_that_may_differ_at_one_instant() -> None:
    facts, gaps = read(
        observation(SET_FIO2, id="a", value=60, unit="%"),
        observation("loinc|19996-8", id="b", value=80, unit="%"),
        observation("loinc|76247-6", id="c", value=12, unit="cm[H2O]"),
        observation("loinc|76248-4", id="d", value=10, unit="cm[H2O]"),
        crs("mdc|151688", id="e", text="static"),
        crs("mdc|151692", id="f", value=20),
        observation("loinc|600-7", id="g", valueString="positive"),
        observation("loinc|600-7", id="h", valueString="no growth"),
        observation(PCR, id="i", valueString="positive"),
        observation("loinc|94533-7", id="j", valueString="not detected"),
    )
    assert not gaps
    assert len(facts) == 10


def test_gases_of_one_instant_are_compared_across_their_codes() -> None:
    assert (
        gap(
            observation(GAS, id="a", value=70, unit="mm[Hg]"),
            observation(BLOOD_GAS, id="b", value=90, unit="mm[Hg]", specimen={"display": "arterial"}),
        ).why
        == "conflict"
    )
    facts, gaps = read(
        observation(GAS, id="a", value=70, unit="mm[Hg]"),
        observation("loinc|2705-2", id="b", value=40, unit="mm[Hg]"),
    )
    assert [f.value for f in facts] == [70]
    assert [g.why for g in gaps] == ["not-arterial"]


def test_answers_of_one_test_at_one_instant() -> None:
    positive = observation(PCR, id="a", valueString="positive")
    negative = observation(PCR, id="b", valueString="negative")
    assert gap(positive, negative).why == "conflict"
    facts, _ = read(positive, observation(PCR, id="b", valueString="inconclusive"))
    assert {f.coded for f in facts} == {"positive", "inconclusive"}
    day = {"at": "2026-03-09"}
    facts, gaps = read(
        *(observation(PCR, id=i, valueString=v, **day) for i, v in (("a", "positive"), ("b", "negative")))
    )
    assert len(facts) == 2
    assert not gaps


@pytest.mark.parametrize(
    ("ct", "test", "coded"),
    [
        ({}, {}, "inconclusive"),
        ({"at": ago(hours=5)}, {}, "positive"),
        (
            {"specimen": {"reference": "Specimen/1"}, "at": ago(hours=5)},
            {"specimen": {"reference": "Specimen/1"}},
            "inconclusive",
        ),
        ({"at": "2026-03-09"}, {"at": "2026-03-09"}, "positive"),
    ],
)
def test_a_cycle_threshold_beside_not_detected(ct: Any, test: Any, coded: str) -> None:
    facts, _ = read(
        observation("loinc|94745-7", id="a", **{"value": 38, **ct}),
        observation(PCR, id="b", valueString="not detected", **test),
    )
    assert {f.kind: f.coded for f in facts} == {"ct": coded, "": "negative"}


# --------------------------------------------------------------------------- resources of the wrong shape


@pytest.mark.parametrize("bad", [b"", b"{", b"[]", b"7", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000])
def test_what_is_no_json_object(bad: bytes) -> None:
    facts, gaps = collect([("labs", bad)], context=context())
    assert (facts, [(g.why, g.concept, g.displaces) for g in gaps]) == ((), [("unreadable-resource", "", False)])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"valueQuantity": "26 mg/L"}, [("crp", True)]),
        ({"valueQuantity": {"value": "much"}}, [("crp", True)]),
        ({"status": 7}, [("crp", True)]),
        ({"id": 7}, [("crp", True)]),
        ({"effectiveDateTime": 7}, [("crp", True)]),
        ({"effectivePeriod": 7}, [("crp", True)]),
        ({"status": "entered-in-error", "valueQuantity": 7}, []),
        ({"code": {"coding": {"system": "http://loinc.org", "code": "1988-5"}}}, [("crp", True)]),
        ({"code": concept("loinc|8480-6"), "valueQuantity": 7}, []),
        ({"code": concept("loinc|86914-9"), "valueQuantity": 7}, []),
        ({"code": concept("loinc|24336-0"), "component": 7}, []),
        ({"code": 7}, [("", False)]),
        ({"code": {"coding": [7, {"system": 7, "code": "1988-5"}]}}, [("", False)]),
        ({"component": [7, {"code": concept("loinc|2276-4")}]}, [("crp", True), ("ferritin", True)]),
    ],
)
def test_wrong_types_never_raise(change: dict[str, Any], expected: list[tuple[str, bool]]) -> None:
    facts, gaps = read({**crp("o", 5), **change})
    assert not facts
    assert [(g.concept, g.displaces) for g in gaps] == expected
    assert {g.why for g in gaps} <= {"unreadable-resource"}


def test_an_unreadable_result_keeps_its_time() -> None:
    found = gap({**crp("o", 5), "valueQuantity": 7})
    assert found.reference == "Observation/o"
    assert found.when is not None
    assert found.when.earliest.isoformat() == ago(hours=1)


_MEMBERS = {
    "code",
    "coding",
    "system",
    "status",
    "valueQuantity",
    "value",
    "unit",
    "valueString",
    "valueCodeableConcept",
    "text",
    "component",
    "hasMember",
    "reference",
    "specimen",
    "contained",
    "method",
    "referenceRange",
    "high",
    "identifier",
    "effectivePeriod",
    "end",
    "meta",
    "interpretation",
}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 10**9) | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(_MEMBERS)), inner, max_size=4)
        ),
        max_leaves=12,
    ).filter(lambda x: isinstance(x, dict))
)
def test_no_shape_breaks_it(members: dict[str, Any]) -> None:
    collect(raws({**crp("o", 5), **members}), context=context())


# --------------------------------------------------------------------------- published resources


@pytest.mark.parametrize(
    ("name", "concept_name", "outcome"),
    [
        ("mii-icu/mii-exa-icu-vent-inspiratorische-sauerstofffraktion-eingestellt.json", "fio2", "fraction-unclear"),
        ("mii-icu/mii-exa-icu-vent-inspiratorische-sauerstofffraktion-gemessen.json", "fio2", "ambiguous-coding"),
        ("mii-icu/mii-exa-icu-vent-dynamische-kompliance-gemessen.json", "crs", "implausible"),
        ("mii-icu/mii-exa-icu-vent-positiv-endexpiratorischer-druck-eingestellt.json", "peep", "10.0"),
        ("mii-icu/mii-exa-icu-vent-horowitz-in-arteriellem-blut-gemessen.json", "pf", "350.0"),
        ("us-core/observation-cbc-platelets.json", "platelets", "200"),
        ("us-core/observation-serum-creatinine.json", "creatinine", "88.4"),
        ("us-core/observation-satO2-fiO2.json", "spo2", "95"),
        ("us-core/bp-data-absent.json", "", ""),
        ("mii-icu/mii-exa-icu-bilanz-ausfuhr-urin.json", "", ""),
    ],
)
def test_published_observations(name: str, concept_name: str, outcome: str) -> None:
    facts, gaps = collect([("x", real(name))], context=context())
    assert [(f.concept, str(f.value)) for f in facts] + [(g.concept, g.why) for g in gaps] == (
        [(concept_name, outcome)] if concept_name else []
    )


def test_a_published_tidal_volume() -> None:
    name = "mii-icu/mii-exa-icu-vent-atemzugvolumen-waehrend-beatmung-gemessen.json"
    facts, gaps = collect([("x", real(name))], context=context())
    assert [f.concept for f in facts] == ["vt"]
    assert not gaps


# --------------------------------------------------------------------------- two contents of one id


def test_two_contents_of_one_id_are_a_conflict_whatever_their_times() -> None:
    first = observation("loinc|751-8", value=7.9, unit="10*9/L")
    for hours in (1, 2):
        second = observation("loinc|751-8", value=0.4, unit="10*9/L", at=ago(hours=hours))
        found = gap(first, second)
        assert (found.why, found.concept, found.displaces) == ("conflict", "anc", True)
        assert found.params == (("values", "0.4 10*9/L / 7.9 10*9/L"),)
        assert found.when == fact(first).when
        assert gap(second, first) == found


# --------------------------------------------------------------------------- cultures without a value (reading 3.17)

CULTURES = ["loinc|600-7", "loinc|44357-2"]


@pytest.mark.parametrize("mark", CULTURES)
@pytest.mark.parametrize("status", ["final", "preliminary"])
@pytest.mark.parametrize(
    "said",
    [
        concept("interpretation|A"),
        concept("interpretation|AA"),
        concept("interpretation|POS"),
        concept("http://terminology.hl7.org/CodeSystem/v2-0078|A"),
        concept("interpretation|X", display="Abnormal"),
        concept(text="Auffällig"),
    ],
)
def test_a_culture_flagged_abnormal_is_positive(mark: str, status: str, said: dict[str, Any]) -> None:
    assert fact(observation(mark, status=status, interpretation=[said])).coded == "positive"
    assert fact(observation(mark, status=status, interpretation=said)).coded == "positive"


def test_a_flag_decides_only_where_the_value_does_not() -> None:
    flag: dict[str, Any] = {"interpretation": [concept("interpretation|A")]}
    assert fact(observation("loinc|600-7", valueString="see report", **flag)).coded == "positive"
    assert fact(observation("loinc|600-7", valueString="No growth", **flag)).coded == "negative"
    assert gap(observation("loinc|94500-6", **flag)).why == "no-value"


@pytest.mark.parametrize("mark", CULTURES)
def test_a_finished_culture_without_a_value_is_no_negative_one(mark: str) -> None:
    for status, displaces in (("final", True), ("corrected", True), ("preliminary", False), ("registered", False)):
        assert gap(observation(mark, status=status)).displaces is displaces
    assert gap(observation(mark, hasMember=[{"reference": "Observation/gone"}])).displaces
    assert gap(observation(mark, component=[{"code": concept("loinc|18769-0")}])).displaces


def test_a_culture_may_answer_in_its_parts() -> None:
    answer: dict[str, Any] = {"valueString": "Escherichia coli"}
    inside = observation("loinc|600-7", component=[{"code": concept("loinc|600-7"), **answer}])
    assert fact(inside).coded == "positive"
    panel = observation("loinc|600-7", id="panel", hasMember=[{"reference": "Observation/m"}])
    assert fact(panel, observation("loinc|600-7", id="m", **answer)).coded == "positive"


# --------------------------------------------------------------------------- vital signs of the trial


def saturation(*marks: str, value: float = 88, **more: Any) -> Measurement:
    return fact(observation(*marks, **{"value": value, "unit": "%", **more}))


@pytest.mark.parametrize(
    ("marks", "more", "concept_name"),
    [
        (["loinc|59408-5"], {}, "spo2"),
        (["loinc|59408-5", "loinc|2708-6"], {}, "spo2"),
        (["loinc|2708-6", "snomed|442476006", "snomed|431314004", "mdc|150324"], {}, "spo2"),
        (["loinc|2708-6"], {}, "spo2"),
        (["loinc|2708-6"], specimen("snomed|122552005"), "sao2"),
        (["loinc|59408-5", "loinc|2708-6"], specimen("snomed|122552005"), "spo2"),
        (["loinc|20564-1"], specimen("snomed|122552005"), "sao2"),
        (["mimic-chart|220227"], {}, "sao2"),
        (["mimic-chart|220277"], {}, "spo2"),
    ],
)
def test_which_saturation_is_arterial(marks: list[str], more: dict[str, Any], concept_name: str) -> None:
    found = saturation(*marks, **more)
    assert (found.concept, found.value, found.unit) == (concept_name, D(88), "%")


def test_a_saturation_of_blood_needs_its_specimen() -> None:
    assert gap(observation("loinc|20564-1", value=88, unit="%")).why == "specimen-unknown"
    venous = gap(observation("loinc|2708-6", value=70, unit="%", **specimen("snomed|122555007")))
    assert (venous.concept, venous.why, venous.displaces) == ("sao2", "not-arterial", False)


def test_a_saturation_whose_specimen_was_not_handed_in_names_itself() -> None:
    found = observation("mimic-chart|220227", value=88, unit="%", specimen={"reference": "Specimen/elsewhere"})
    facts, gaps = read(found)
    assert [f.concept for f in facts] == ["sao2"]
    assert [(g.concept, g.why) for g in gaps] == [("sao2", "specimen-unresolved")]


@pytest.mark.parametrize(("value", "unit", "why"), [(88, "mm[Hg]", "unit-not-accepted"), (0.88, "%", "implausible")])
def test_a_saturation_is_no_pressure_and_no_fraction_of_a_per_cent(value: float, unit: str, why: str) -> None:
    assert gap(observation("loinc|59408-5", value=value, unit=unit)).why == why


def test_a_saturation_as_a_fraction() -> None:
    assert saturation("loinc|59408-5", value=0.88, unit="1").value == D(88)


@pytest.mark.parametrize(
    ("marks", "kind"),
    [
        (["loinc|9279-1"], "patient"),
        (["loinc|9279-1", "snomed|86290005"], "patient"),
        (["loinc|19839-0"], "patient"),
        (["loinc|19840-8"], "total"),
        (["mdc|152490"], "total"),
    ],
)
def test_whose_breaths_are_counted(marks: list[str], kind: str) -> None:
    found = fact(observation(*marks, value=32, unit="/min"))
    assert (found.concept, found.kind, found.value) == ("respiratory_rate", kind, D(32))


@pytest.mark.parametrize("mark", ["loinc|33438-3", "loinc|19834-1", "mdc|151586", "snomed|250876000"])
def test_the_rate_of_the_machine_is_no_fact(mark: str) -> None:
    assert read(observation(mark, value=32, unit="/min")) == ([], [])


def test_a_rate_that_is_coded_as_the_patients_and_the_machines() -> None:
    assert gap(observation("loinc|9279-1", "loinc|33438-3", value=32, unit="/min")).why == "ambiguous-coding"


def test_a_pcr_of_a_specimen_that_was_handed_in() -> None:
    held = {"resourceType": "Specimen", "id": "s1", "type": concept(text="Bronchoalveolar lavage")}
    found = observation(PCR, valueString="positive", specimen={"reference": "Specimen/s1"})
    facts, _ = collect(raws(found), context=replace(context(), specimens={"Specimen/s1": raw(held)}))
    assert facts[0].specimen == "lavage"


# --------------------------------------------------------------------------- a score without a unit


@pytest.mark.parametrize("code", ["loinc|96789-3", "loinc|96790-1", "snomed|1187491009"])
@pytest.mark.parametrize(
    "value",
    [{"valueInteger": 8}, {"valueQuantity": {"value": 8}}, {"valueQuantity": {"value": 8, "unit": "{score}"}}],
    ids=["integer", "bare", "score"],
)
def test_a_charted_score_is_a_number_without_a_unit(code: str, value: dict[str, Any]) -> None:
    found = fact(observation(code, **value))
    assert (found.concept, found.value, found.unit) == ("sofa", 8, "1")


def test_a_score_in_text_or_out_of_range_is_refused() -> None:
    assert gap(observation("loinc|96790-1", valueString="8")).why == "no-unit"
    assert gap(observation("loinc|96790-1", valueInteger=25)).why == "implausible"


def test_the_score_of_one_organ_is_not_the_score() -> None:
    parts = [{"code": {"coding": [{"system": "http://loinc.org", "code": "96824-8"}]}, "valueInteger": 3}]
    assert fact(observation("loinc|96789-3", valueInteger=9, component=parts)).value == 9
    assert read(observation("loinc|96824-8", valueInteger=3)) == ([], [])


def test_an_integer_of_a_quantity_with_a_unit_is_still_refused() -> None:
    assert gap(observation("loinc|1988-5", valueInteger=120)).why == "no-unit"


def test_lymphocytes_and_their_share_are_two_things() -> None:
    count = fact(observation("loinc|731-0", valueQuantity=quantity(1200, "/uL")))
    assert (count.concept, count.value, count.unit) == ("lymphocytes", D("1.2"), "10*9/L")
    share = fact(observation("loinc|736-9", valueQuantity=quantity(20, "%")))
    assert (share.concept, share.value, share.unit) == ("lymphocytes_pct", 20, "%")
    assert gap(observation("loinc|731-0", valueQuantity=quantity(20, "%"))).why == "unit-not-accepted"
