"""The mutation run finds what no case would notice, and nothing that a case notices."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.cases import running
from app.cases.running import Prepared
from tests.cases import mutation
from tests.cases.mutation import Mutant, Run, Verdict, mutants

SIMPLE = "pilot_simple/protocol.toml"
FILES = mutation.BEDSIDE.library.files
EXACTLY = "CRP of exactly 100 mg/L is not above 100"


@pytest.fixture(scope="module")
def exactly_100() -> Prepared:
    [found] = [case for case in mutation.CASES if case.name == EXACTLY]
    return running.prepare(found, bedside=mutation.BEDSIDE)


def mutant(key: str, change: str) -> Mutant:
    [found] = [m for m in mutants(FILES) if (m.file, m.key, m.mutation) == (SIMPLE, key, change)]
    return found


def test_a_case_at_the_boundary_kills_the_inclusive_operator(exactly_100: Prepared) -> None:
    found = Run(FILES, [exactly_100]).verdict(mutant("S-CRP crp op", "> -> >="))
    assert found.by == EXACTLY


def test_without_that_case_the_operator_survives() -> None:
    assert Run(FILES, []).verdict(mutant("S-CRP crp op", "> -> >=")).by == ""


def test_a_threshold_moved_up_survives_a_case_that_stands_on_it(exactly_100: Prepared) -> None:
    run = Run(FILES, [exactly_100])
    assert run.verdict(mutant("S-CRP crp value", "100 -> 100.1")).by == ""
    assert run.verdict(mutant("S-CRP crp value", "100 -> 99.9")).by == EXACTLY


def test_a_mutant_that_does_not_load_is_dead_without_a_case() -> None:
    broken = replace(mutant("S-CRP crp value", "100 -> 99.9"), text='"low"')
    assert Run(FILES, []).verdict(broken).by.startswith("refused: app/protocols/pilot_simple/protocol.toml: S-CRP")


def test_a_change_is_where_it_says_and_nowhere_else() -> None:
    for each in mutants(FILES):
        before, after = FILES[each.file], each.applied(FILES)[each.file]
        assert after != before, each
        assert after[: each.start] == before[: each.start]
        assert after[each.start + len(each.text) :] == before[each.end :]


def test_what_the_mechanism_reads_has_mutants() -> None:
    found = {(m.file, m.key, m.mutation) for m in mutants(FILES)}
    assert {
        (SIMPLE, "S-CRP crp op", "> -> <"),
        (SIMPLE, "S-SEVERITY any of ecmo_at_gas", "any -> all"),
        (SIMPLE, "S-SEVERITY ecmo_fdo2 otherwise", "unknown dropped"),
        (SIMPLE, "S-SEVERITY ecmo_at_gas is", 'without "va"'),
        ("shared/inputs.toml", "input.crp window_hours", "30 -> 30.0167"),
        ("shared/inputs.toml", "input.crp window_hours", "30 -> 29.9833"),
        ("shared/inputs.toml", "limit.course_days value", "35 -> 36"),
        ("shared/inputs.toml", "steroid_equivalents.mg hydrocortisone", "0.25 -> 0.2525"),
        ("shared/interactions.toml", "group.tnf lookback_hours", "2016 -> 2016.0167"),
        ("shared/interactions.toml", "group.tnf ingredients", 'without "infliximab"'),
        ("shared/safety.toml", "CI-RRT severity", "relative -> absolute"),
        ("shared/safety.toml", "CI-CYP3A4-INDUCER withholds", "false -> true"),
        ("shared/safety.toml", "file required", 'without "anc"'),
        ("shared/patient_view.toml", "rescue-not-met when", 'without "simple-met"'),
        ("shared/patient_view.toml", "thresholds-met suggestions", "true -> false"),
        ("shared/treatment.toml", "anakinra dose_mg", "300 -> 299"),
    } <= found
    assert not [m for m in mutants(FILES) if m.file in {"shared/texts.toml", "shared/cards.toml"}]


def test_numbers_in_words_and_remarks_are_no_mutants() -> None:
    text = 'title = "a = 5"\n# b = 6\nvalue = 7\n'
    assert [m.mutation for m in mutants({"one.toml": text})] == ["7 -> 8", "7 -> 6"]


def test_the_report_counts_survivors_and_excuses_only_what_is_listed() -> None:
    killed, left, same = (mutant("S-CRP crp value", f"100 -> {new}") for new in ("99.9", "100.1", "99.9"))
    lines, share = mutation.report(
        [Verdict(killed, "a case"), Verdict(left, ""), Verdict(same, "refused: x")], kind="rules"
    )
    assert share == pytest.approx(200 / 3)
    assert f"  survived: {left}" in lines
    assert lines[-1] == "  killed 2 of 3: 66.67 %"


def test_every_excuse_is_of_a_mutant_that_exists_and_has_a_reason() -> None:
    known = {(m.file, m.key, m.mutation) for m in mutants(FILES)}
    for key, reason in mutation.equivalents().items():
        assert key in known, key
        assert len(reason) > 20, key


@pytest.mark.no_cover
def test_a_sample_kills_all(capsys: pytest.CaptureFixture[str]) -> None:
    """The first criterion's operators, in this process: the command from end to end."""
    assert mutation.main(["--file", SIMPLE, "--sample", "4", "--processes", "1"]) == 0
    assert "killed" in capsys.readouterr().out
