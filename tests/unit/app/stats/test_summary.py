"""Counts against figures worked out by hand, and what must hold of any rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.card_frame import SYSTEM
from app.stats.quantiles import Rate
from app.stats.sheets import sheets
from app.stats.summary import Decided, Row, Shown, Told, Unmatched, summarise
from tests.unit.app.stats.build import NOW, ORDER_SIGN, PATIENT_VIEW, decided, known, protocol, table

HL7 = "http://terminology.hl7.org/CodeSystem/non-adherence-reason-codes"


def test_every_silence_is_told_apart() -> None:
    rows = [
        decided("card"),
        decided("card"),
        decided("snoozed", verdicts={"would_be": "card"}),
        decided("not-met"),
        decided("deceased"),
    ]
    rows += [decided("silent", verdicts={"would_be": would_be}) for would_be in ("card", "card", "not-met")]
    rows.append(decided("nothing-to-say", service=ORDER_SIGN))
    found = {(r["service"], r["outcome"], r["would_be"]): (r["hooks"], r["share"]) for r in table_of(rows, "hooks")}
    assert found == {
        (hook(ORDER_SIGN), "nothing-to-say", ""): (1, Rate(1, 1)),
        ("patient-view", "card", ""): (2, Rate(2, 8)),
        ("patient-view", "silent", "card"): (2, Rate(2, 8)),
        ("patient-view", "silent", "not-met"): (1, Rate(1, 8)),
        ("patient-view", "snoozed", "card"): (1, Rate(1, 8)),
        ("patient-view", "not-met", ""): (1, Rate(1, 8)),
        ("patient-view", "deceased", ""): (1, Rate(1, 8)),
    }


def hook(service: str) -> str:
    return known().hook(service)


def table_of(rows: list[Row] | list[Decided], name: str) -> list[dict[str, object]]:
    return [dict(record) for record in table(summarise(rows, names=known()), name)]


def test_verdicts_scopes_and_criteria() -> None:
    met = protocol("met", S_CRP="met", S_FERRITIN="met")
    unknown = protocol("unknown", scope="unknown", S_CRP="unknown", S_FERRITIN="met")
    rows = [
        decided(verdicts={"pilot-simple": met}),
        decided(verdicts={"pilot-simple": met}),
        decided(verdicts={"pilot-simple": protocol("not-met", scope="out", S_CRP="not-met", S_FERRITIN="unknown")}),
        *(decided(verdicts={"pilot-simple": unknown}) for _ in range(3)),
    ]
    [verdicts] = table_of(rows, "verdicts")
    assert (verdicts["evaluated"], verdicts["met"], verdicts["not_met"], verdicts["unknown"]) == (6, 2, 1, 3)
    assert (verdicts["scope_in"], verdicts["scope_out"], verdicts["scope_unknown"]) == (2, 1, 3)
    assert verdicts["share"] == Rate(3, 6)
    crp, ferritin = table_of(rows, "criteria")
    assert (crp["rule"], crp["title"]) == ("S-CRP", "C-reactive protein")
    assert [crp[key] for key in ("met", "not_met", "unknown", "evaluated")] == [2, 1, 3, 6]
    assert [ferritin[key] for key in ("met", "not_met", "unknown", "evaluated")] == [5, 0, 1, 6]


def test_a_follow_up_action_that_is_not_listed_was_absent_while_a_course_ran() -> None:
    def followed(scope: str, **actions: str) -> Decided:
        entry = {"scope": scope, "actions": {name.replace("_", "-"): found for name, found in actions.items()}}
        return decided("follow-up", verdicts={"pilot-followup": entry})

    rows = [followed("in", FU_PLT_LT_50="present"), followed("in", FU_PLT_LT_50="unknown"), followed("in")]
    rows += [followed("out"), followed("unknown", FU_NOT_STARTED="unknown")]
    found = {record["rule"]: record for record in table_of(rows, "actions")}
    assert set(found) == set(known().actions)
    counts = {rule: [record[k] for k in ("present", "absent", "unknown")] for rule, record in found.items()}
    assert counts["FU-PLT-LT-50"] == [1, 1, 1]
    assert counts["FU-NOT-STARTED"] == [0, 3, 1]
    assert counts["FU-INFECTION"] == [0, 3, 0]
    [verdicts] = table_of(rows, "verdicts")
    assert (verdicts["evaluated"], verdicts["met"], verdicts["scope_in"], verdicts["scope_out"]) == (5, None, 3, 1)


def test_orders_are_counted_by_check_and_by_how_a_draft_was_identified() -> None:
    drafts = [{"drugs": ["anakinra"], "possibly": [], "identity": "code"}, {"drugs": [], "identity": "text"}]
    verdicts = {"orders": {"drafts": drafts, "checks": {"ORD-DUPLICATE": "present", "ORD-NOT-IDENTIFIED": "unknown"}}}
    rows = [decided(service=ORDER_SIGN, verdicts=verdicts | {"safety": {"CI-PREGNANCY": "absent"}})] * 2
    checks = {record["rule"]: record for record in table_of(rows, "checks")}
    assert [checks["ORD-DUPLICATE"][k] for k in ("present", "absent", "unknown")] == [2, 0, 0]
    assert checks["ORD-NOT-IDENTIFIED"]["unknown"] == 2
    assert checks["ORD-DUPLICATE"]["title"]
    assert {record["identity"]: record["drafts"] for record in table_of(rows, "drafts")} == {"code": 2, "text": 2}
    [safety] = table_of(rows, "safety")
    assert (safety["rule"], safety["severity"], safety["absent"]) == ("CI-PREGNANCY", "absolute", 2)


def test_unknowns_by_reason_with_the_words_of_the_texts() -> None:
    verdicts = {
        "pilot-simple": protocol("unknown", S_CRP="unknown", S_FERRITIN="unknown"),
        "safety": {"CI-PREGNANCY": "unknown", "CI-LACTATION": "absent"},
        "pilot-followup": {"scope": "in", "actions": {"FU-INFECTION": "unknown"}},
        "orders": {"checks": {"ORD-DUPLICATE": "unknown"}, "drafts": []},
        "why_unknown": {"S-CRP": "stale", "CI-PREGNANCY": "anna-canary", "ORD-DUPLICATE": "timeout"},
    }
    rows = [decided(verdicts=verdicts), decided(verdicts=verdicts | {"why_unknown": {"S-CRP": "never-measured"}})]
    found = {
        (r["kind"], r["rule"], r["reason"]): (r["words"], r["count"], r["share"]) for r in table_of(rows, "unknowns")
    }
    none = ("not recorded", 1, Rate(1, 2))
    assert found == {
        ("criterion", "S-CRP", "stale"): ("[value] is [age] old, limit [limit]", 1, Rate(1, 2)),
        ("criterion", "S-CRP", "never-measured"): ("no result found", 1, Rate(1, 2)),
        ("criterion", "S-FERRITIN", ""): ("not recorded", 2, Rate(2, 2)),
        ("safety finding", "CI-PREGNANCY", "other"): ("", 1, Rate(1, 2)),
        ("safety finding", "CI-PREGNANCY", ""): none,
        ("follow-up action", "FU-INFECTION", ""): ("not recorded", 2, Rate(2, 2)),
        ("order check", "ORD-DUPLICATE", "timeout"): ("no answer in time", 1, Rate(1, 2)),
        ("order check", "ORD-DUPLICATE", ""): none,
    }


def test_cards_and_the_burden_of_them() -> None:
    would = [{"name": "protocol", "indicator": "info"}, {"name": "safety", "indicator": "warning"}]
    rows: list[Row] = [decided(cards=2), decided(cards=1), decided("not-met"), decided("not-met"), decided("snoozed")]
    rows.append(decided("silent", verdicts={"would_be": "card", "would_show": would}))
    rows += [Shown(PATIENT_VIEW, "protocol", "info", 2), Shown(PATIENT_VIEW, "safety", "warning", 1)]
    [burden] = table_of(rows, "burden")
    assert (burden["hooks"], burden["with_card"], burden["cards"], burden["per_100"]) == (6, Rate(2, 6), 3, 50.0)
    assert (burden["snoozed"], burden["silent"], burden["would_show"]) == (Rate(1, 6), 1, 2)
    protocol_card, safety_card = table_of(rows, "cards")
    assert (protocol_card["shown"], protocol_card["silent"], protocol_card["per_100"]) == (2, 1, 33.3)
    assert (safety_card["indicator"], safety_card["shown"], safety_card["silent"]) == ("warning", 1, 1)


def test_cards_per_hundred_calls_are_not_said_of_few_calls() -> None:
    rows: list[Row] = [decided(cards=1)] * 4
    rows.append(Shown(PATIENT_VIEW, "protocol", "info", 4))
    assert table_of(rows, "burden")[0]["per_100"] is None


def test_what_became_of_the_cards() -> None:
    rows: list[Row] = [Shown(PATIENT_VIEW, "protocol", "info", 10), Shown(PATIENT_VIEW, "safety", "warning", 3)]
    rows += [Told(PATIENT_VIEW, "protocol", "accepted")] * 2
    rows += [Told(PATIENT_VIEW, "protocol", "overridden", "goals-of-care", SYSTEM, entries=2)] * 4
    rows += [Unmatched(PATIENT_VIEW, "accepted", 3)]
    protocol_card, safety_card = table_of(rows, "feedback")
    assert [protocol_card[k] for k in ("shown", "accepted", "overridden", "none", "changed")] == [10, 2, 4, 4, 4]
    assert protocol_card["answered"] == Rate(6, 10)
    assert (protocol_card["accept_rate"], protocol_card["override_rate"]) == (Rate(2, 6), Rate(4, 6))
    assert [safety_card[k] for k in ("shown", "accepted", "overridden", "none")] == [3, 0, 0, 3]
    assert [record["count"] for record in table_of(rows, "unmatched")] == [3]


@pytest.mark.parametrize(
    ("code", "system", "shown"),
    [
        ("goals-of-care", SYSTEM, ("goals-of-care", "Not consistent with goals of care", SYSTEM)),
        ("patient-contraindication", HL7, ("patient-contraindication", "Contraindication not in the record", HL7)),
        ("risk-benefit-ratio", HL7, ("risk-benefit-ratio", "risk-benefit-ratio", HL7)),
        ("patient-4711", HL7, ("", "other (client's own)", HL7)),
        ("goals-of-care", "urn:oid:1.2.3", ("", "other (client's own)", "urn:oid:1.2.3")),
        ("mrs-canary", "https://EHR.example.org/reasons/mrs", ("", "other (client's own)", "https://ehr.example.org")),
        ("a", "mrs canary", ("", "other (client's own)", "not a known kind of system")),
        ("", "", ("", "no code given", "no system given")),
    ],
)
def test_only_codes_of_known_lists_are_shown(code: str, system: str, shown: tuple[str, str, str]) -> None:
    rows: list[Row] = [Told(PATIENT_VIEW, "protocol", "overridden", code, system)]
    [found] = table_of(rows, "overrides")
    assert (found["reason"], found["display"], found["system"]) == shown


def test_an_acceptance_has_no_override_reason() -> None:
    assert table_of([Told(PATIENT_VIEW, "protocol", "accepted", "goals-of-care", SYSTEM)], "overrides") == []


def test_ages_and_times() -> None:
    rows = [
        decided(ages={"crp": float(hours)}, total_ms=float(ms), sources_ms={"labs": float(ms) / 2})
        for hours, ms in zip((1, 2, 3, 4), (100, 200, 300, 400), strict=True)
    ]
    [age] = table_of(rows, "ages")
    assert (age["title"], age["n"], age["q1"], age["median"], age["q3"]) == ("C-reactive protein", 4, 1.0, 2.0, 3.0)
    whole, labs = table_of(rows, "latency")
    assert (whole["title"], whole["p50"], whole["p90"], whole["p99"]) == ("whole call", 200.0, 400.0, 400.0)
    assert (labs["source"], labs["title"], labs["p50"]) == ("labs", "Laboratory results", 100.0)


def test_a_day_is_one_of_the_zone() -> None:
    late = decided(at=NOW.replace(hour=23, minute=30))
    days = {
        zone: [record["day"] for record in table(summarise([late], names=known(), zone=ZoneInfo(zone)), "days")]
        for zone in ("UTC", "Europe/Paris")
    }
    assert days == {"UTC": ["2026-11-23"], "Europe/Paris": ["2026-11-24"]}


def test_what_has_another_shape_is_left_out_and_the_rest_counted() -> None:
    odd = {"pilot-simple": protocol("met", S_CRP="met") | {"criteria": ["x"]}, "safety": {"CI-PREGNANCY": 7}, "row": 1}
    rows = [decided(verdicts=odd | {"orders": [], "why_unknown": "x", "would_show": {}}, readable=False)]
    summary = summarise(rows, names=known())
    assert (summary.total, summary.unreadable.total(), summary.verdicts["pilot-simple", "met"]) == (1, 1, 1)
    assert not summary.safety
    assert not summary.criteria


# --- what holds of any rows ---------------------------------------------------------------------------------

FINDING = st.sampled_from(("met", "not-met", "unknown"))
PRESENCE = st.sampled_from(("present", "absent", "unknown"))
REASON = st.sampled_from(("stale", "never-measured", "made-up", ""))
SERVICE = st.sampled_from((PATIENT_VIEW, ORDER_SIGN))
CRITERIA = st.dictionaries(st.sampled_from(("S-CRP", "S-FERRITIN")), FINDING)
VERDICTS = st.fixed_dictionaries(
    {},
    optional={
        "pilot-simple": st.fixed_dictionaries({"verdict": FINDING, "scope": st.just("in"), "criteria": CRITERIA}),
        "safety": st.dictionaries(st.sampled_from(("CI-PREGNANCY", "CI-TB-ACTIVE")), PRESENCE),
        "orders": st.fixed_dictionaries({"checks": st.dictionaries(st.just("ORD-DUPLICATE"), PRESENCE)}),
        "why_unknown": st.dictionaries(st.sampled_from(("S-CRP", "CI-PREGNANCY", "ORD-DUPLICATE")), REASON),
        "would_be": st.sampled_from(("card", "not-met")),
    },
)
ROWS = st.lists(
    st.one_of(
        st.builds(
            Decided,
            at=st.integers(0, 500).map(lambda hours: NOW - timedelta(hours=hours)),
            service=SERVICE,
            outcome=st.sampled_from(("card", "silent", "not-met", "snoozed")),
            verdicts=VERDICTS,
            ages=st.dictionaries(st.sampled_from(("crp", "ferritin")), st.floats(0, 1000)),
            total_ms=st.none() | st.floats(0, 2000),
            cards=st.integers(0, 2),
        ),
        st.builds(Shown, service=SERVICE, name=st.sampled_from(("protocol", "safety")), indicator=st.just("info")),
        st.builds(
            Told,
            service=SERVICE,
            name=st.sampled_from(("protocol", "safety")),
            outcome=st.sampled_from(("accepted", "overridden")),
            code=st.sampled_from(("goals-of-care", "x", "")),
            system=st.just(SYSTEM),
        ),
    ),
    max_size=30,
)


@given(ROWS.flatmap(lambda rows: st.tuples(st.just(rows), st.permutations(rows))))
def test_the_order_of_the_rows_is_irrelevant(both: tuple[list[Row], list[Row]]) -> None:
    one, other = (sheets(summarise(rows, names=known())) for rows in both)
    assert one == other


@given(ROWS)
def test_the_totals_add_up(rows: list[Row]) -> None:
    summary = summarise(rows, names=known())
    made = [row for row in rows if isinstance(row, Decided)]
    assert summary.total == len(made) == sum(int(str(record["hooks"])) for record in table(summary, "hooks"))
    assert summary.days.total() == len(made)
    for record in table(summary, "days"):
        outcomes = [count for key, count in record.items() if key not in {"day", "hooks"} and isinstance(count, int)]
        assert record["hooks"] == sum(outcomes)
    unknowns: Counter[str] = Counter()
    for record in table(summary, "unknowns"):
        unknowns[str(record["rule"])] += int(str(record["count"]))
    found: Counter[str] = Counter()
    for name, keys in (
        ("criteria", "met not_met unknown"),
        ("safety", "present absent unknown"),
        ("checks", "present absent unknown"),
    ):
        for record in table(summary, name):
            assert sum(int(str(record[key])) for key in keys.split()) == record["evaluated"]
            found[str(record["rule"])] += int(str(record["unknown"]))
    assert unknowns == +found
    told = [row for row in rows if isinstance(row, Told)]
    assert summary.told.total() == len(told)
    assert summary.overrides.total() == sum(row.outcome == "overridden" for row in told)


@given(ROWS, ROWS)
def test_two_parts_are_the_whole(one: list[Row], other: list[Row]) -> None:
    parts = [summarise(rows, names=known()) for rows in (one, other)]
    whole = summarise([*one, *other], names=known())
    assert whole.hooks == parts[0].hooks + parts[1].hooks
    assert whole.criteria == parts[0].criteria + parts[1].criteria
    assert whole.unknowns == parts[0].unknowns + parts[1].unknowns


def test_an_outcome_that_is_no_word_is_other() -> None:
    summary = summarise([replace(decided(), outcome="Anna Canary, born 1970")], names=known())
    assert [record["outcome"] for record in table(summary, "hooks")] == ["other"]
