"""A word in a knowledge file that nothing knows is refused, with file, key and remedy: no patient would meet it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType

import pytest

from app import clinical, knowledge
from app.clinical.chart import Chart
from app.clinical.readers import READERS, questions
from app.clinical.readers.questions import LIMITS, QUESTIONS
from app.protocols import leaves, loader
from app.protocols.fields import KnowledgeError
from tests.cases.test_cases import CASES, said

SHIPPED = dict(loader.load().files)
SIMPLE, FULL, TRIAL = "pilot_simple/protocol.toml", "pilot_full/protocol.toml", "shared/trial.toml"
INPUTS, SAFETY, ROWS = "shared/inputs.toml", "shared/safety.toml", "shared/patient_view.toml"
GROUPS = "shared/interactions.toml"


def sub(pattern: str, replacement: str) -> Callable[[str], str]:
    """The first match replaced; there must be one, or the test would test nothing."""

    def change(text: str) -> str:
        changed, count = re.subn(pattern, replacement, text, count=1, flags=re.MULTILINE)
        assert count == 1, pattern
        return changed

    return change


CRP = re.escape('{ input = "crp", op = ">", value = 100, unit = "mg/L" }')
TUBERCULOSIS = re.escape('concepts = "tb-active", missing = "tb"')

REFUSED: dict[str, tuple[str, Callable[[str], str], tuple[str, ...]]] = {
    "a misspelt key of a criterion": (
        SIMPLE,
        sub(r'^threshold = "> 100 mg/L"', 'treshold = "> 100 mg/L"'),
        ("S-CRP", "`treshold`", "did you mean `threshold`"),
    ),
    "a misspelt key of a protocol": (SIMPLE, sub("^speak = ", "speaks = "), ("`speaks`", "did you mean `speak`")),
    "a misspelt block of a protocol": (
        FULL,
        sub(r"^\[\[confirmation\]\]", "[confirmations]"),
        ("`confirmations`", "did you mean `confirmation`"),
    ),
    "a status that is none": (
        SIMPLE,
        sub(r'^status = "draft"', 'status = "final"'),
        ("`status` is draft or reviewed",),
    ),
    "a misspelt key of a finding": (
        SAFETY,
        sub("^required = true", "require = true"),
        ("CI-ANC-LT-1.5", "`require`", "did you mean `required`"),
    ),
    "a misspelt key of an input": (
        INPUTS,
        sub("^window_hours = ", "windows_hours = "),
        ("[input.sarscov2_pcr]", "did you mean `window_hours`"),
    ),
    "a misspelt key of a limit": (
        INPUTS,
        sub(r"(\[limit\.support_sign_hours\]\nvalue = 24\n)what", r"\1wat"),
        ("[limit.support_sign_hours]", "did you mean `what`"),
    ),
    "a misspelt key of a group": (
        GROUPS,
        sub("^title = ", "titel = "),
        ("[group.nmba]", "did you mean `title`"),
    ),
    "a misspelt key of a row": (ROWS, sub("^outcome = ", "outcomes = "), ("deceased", "did you mean `outcome`")),
    "a misspelt key of the steroid table": (
        INPUTS,
        sub(r"^\[steroid_equivalents\.mg\]", "[steroid_equivalents.mgs]"),
        ("[steroid_equivalents]", "did you mean `mg`"),
    ),
    "a misspelt key of a comparison": (
        SIMPLE,
        sub(CRP, '{ input = "crp", op = ">", value = 100, unit = "mg/L", othervise = "unknown" }'),
        ("S-CRP", "crp", "`othervise`", "did you mean `otherwise`"),
    ),
    "a comparison with the key of a state": (
        SIMPLE,
        sub(CRP, '{ input = "crp", op = ">", value = 100, unit = "mg/L", group = "tnf" }'),
        ("S-CRP", "`group`"),
    ),
    "a state with a value": (
        FULL,
        sub(re.escape('{ input = "prone", is = ["yes"] }'), '{ input = "prone", is = ["yes"], value = 1 }'),
        ("P-RESCUE", "prone", "`value`"),
    ),
    "a comparison without operator": (
        SIMPLE,
        sub(CRP, '{ input = "crp", value = 100, unit = "mg/L" }'),
        ("S-CRP", "either a number", "or a state"),
    ),
    "a number asked for a state": (
        SIMPLE,
        sub(CRP, '{ input = "crp", is = ["high"] }'),
        ("S-CRP", "crp: it is a number", "`op`"),
    ),
    "a state asked for a number": (
        FULL,
        sub(re.escape('{ input = "nmba", is = ["yes"] }'), '{ input = "nmba", op = ">", value = 1, unit = "" }'),
        ("P-RESCUE", "nmba: it is a state", "`is`"),
    ),
    "a misspelt state": (
        FULL,
        sub(r'is = \["positive"\]', 'is = ["positiv"]'),
        ("P-COVID", "'positiv'", "did you mean `positive`"),
    ),
    "a state that the input cannot have": (
        FULL,
        sub(r'is = \["yes"\]', 'is = ["sometimes"]'),
        ("P-RESCUE", "'sometimes'", "`no`, `yes`"),
    ),
    "a state outside a list": (FULL, sub(r'is = \["positive"\]', 'is = "positive"'), ("P-COVID", "`is` is a list")),
    "no state at all": (FULL, sub(r'is = \["positive"\]', "is = []"), ("P-COVID", "at least one state")),
    "all of nothing": (SAFETY, sub(r"^all = \[$", "all = []\nignored = ["), ("nothing may stand beside `all`",)),
    "any of nothing": (
        SIMPLE,
        sub(r"^test = .*crp.*$", "test = { any = [] }"),
        ("S-CRP", "`any` is a list with at least one"),
    ),
    "an alternative that is no question": (
        SIMPLE,
        sub(r"^test = .*crp.*$", 'test = { any = ["crp"] }'),
        ("S-CRP", "between { and }"),
    ),
    "a reference beside a question": (
        FULL,
        sub(r'\{ ref = "S-CRP" \}', '{ ref = "S-CRP", op = ">" }'),
        ("P-CRP", "nothing may stand beside `ref`"),
    ),
    "a misspelt condition": (
        SAFETY,
        sub('concepts = "tb-active"', 'concepts = "tb-activ"'),
        ("CI-TB-ACTIVE", "`concepts`", "'tb-activ'", "did you mean `tb-active`"),
    ),
    "no condition": (SAFETY, sub('concepts = "tb-active", ', ""), ("CI-TB-ACTIVE", "no `concepts`", "add it")),
    "an empty condition": (SAFETY, sub('concepts = "tb-active"', 'concepts = " "'), ("CI-TB-ACTIVE", "`concepts`")),
    "conditions as a list": (
        SAFETY,
        sub('concepts = "tb-active"', 'concepts = ["tb-active"]'),
        ("CI-TB-ACTIVE", "between quotes"),
    ),
    "a misspelt parameter": (
        SAFETY,
        sub("also_procedures", "also_procedure"),
        ("CI-TRANSPLANT", "did you mean `also_procedures`"),
    ),
    "a misspelt procedure": (
        SAFETY,
        sub('also_procedures = "transplant"', 'also_procedures = "transplants"'),
        ("CI-TRANSPLANT", "did you mean `transplant`"),
    ),
    "a misspelt test": (
        SAFETY,
        sub('also_tests = "breastfeeding"', 'also_tests = "breast-feeding"'),
        ("CI-LACTATION", "did you mean `breastfeeding`"),
    ),
    "a misspelt substance": (
        SAFETY,
        sub("polysorbate-80", "polysorbate"),
        ("CI-HYPERSENS-ANAKINRA", "did you mean `polysorbate-80`"),
    ),
    "a misspelt public name": (
        SAFETY,
        sub(TUBERCULOSIS, 'concepts = "tb-active", missing = "lactatoin"'),
        ("CI-TB-ACTIVE", "`missing`", "did you mean `lactation`"),
    ),
    "a misspelt group": (SAFETY, sub('group = "tnf"', 'group = "tnff"'), ("CI-TNF-INHIBITOR", "did you mean `tnf`")),
    "no group": (SAFETY, sub(', group = "tnf"', ""), ("CI-TNF-INHIBITOR", "no `group`", "add it")),
    "a dose in words": (
        SAFETY,
        sub("daily_mg_above = 200", 'daily_mg_above = "much"'),
        ("CI-FLUCONAZOLE-GT-200", "`daily_mg_above`", "not a number"),
    ),
    "a drug that is not studied": (
        SAFETY,
        sub(r'^drugs = \["anakinra", "ruxolitinib"\]', 'drugs = ["anakinra", "ruxolitinb"]'),
        ("CI-ANC-LT-1.5", "drugs", "did you mean `ruxolitinib`"),
    ),
    "an ingredient that nobody knows": (
        GROUPS,
        sub('"voriconazole"', '"voriconazol"'),
        ("[group.cyp3a4-strong]", "did you mean `voriconazole`"),
    ),
    "a table of a concept file for an ingredient": (
        GROUPS,
        sub('"voriconazole"', '"route-words"'),
        ("[group.cyp3a4-strong]", "'route-words'"),
    ),
    "a steroid that nobody knows": (INPUTS, sub("^cortisone = ", "cortison = "), ("did you mean `cortisone`",)),
    "a unit that values are not converted into": (
        INPUTS,
        sub(r'unit = "ug/L"', 'unit = "ng/mL"'),
        ("[input.ferritin]", "`unit` must be 'ug/L'"),
    ),
    "another unit for multiples of the limit": (
        INPUTS,
        sub(r'unit = "ULN"', 'unit = "U/L"'),
        ("[input.alt]", "`unit` must be 'ULN'"),
    ),
    "a unit of a state": (
        INPUTS,
        sub(r'^concept = "ino"', 'concept = "ino"\nunit = "[ppm]"'),
        ("[input.ino]", "which has none"),
    ),
    "a misspelt concept": (
        INPUTS,
        sub(r'^concept = "ferritin"', 'concept = "feritin"'),
        ("[input.ferritin]", "did you mean `ferritin`"),
    ),
    "a concept that is no number": (
        INPUTS,
        sub(r'^concept = "ferritin"', 'concept = "position"'),
        ("[input.ferritin]", "measured as a number"),
    ),
    "a number without concept": (
        INPUTS,
        sub(r'^concept = "ferritin"\n', ""),
        ("[input.ferritin]", "measured as a number"),
    ),
    "a limit that the mechanism asks for": (
        INPUTS,
        sub(r"^\[limit\.dialysis_session_hours\]", "[limit.dialysis_sesion_hours]"),
        ("[limit.dialysis_session_hours]",),
    ),
    "a group that the mechanism asks for": (
        GROUPS,
        sub(r"^\[group\.almitrine\]", "[group.almitrin]"),
        ("[group.almitrine]",),
    ),
    "a review that is no date and name": (
        SIMPLE,
        sub(r'^review = "unsigned"', 'review = "yes"'),
        ("S-SEVERITY", "`review`", "Dr A. Example"),
    ),
    "a review on no day of the calendar": (
        SAFETY,
        sub(r'^review = "unsigned"', 'review = "2027-02-30 Dr A. Example"'),
        ("CI-ANC-LT-1.5", "`review`"),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_nothing_knows_is_refused_with_file_key_and_remedy(name: str) -> None:
    file, change, words = REFUSED[name]
    with pytest.raises(KnowledgeError) as caught:
        loader.build({**SHIPPED, file: change(SHIPPED[file])})
    message = str(caught.value)
    assert message.startswith(f"app/protocols/{file}")
    assert [word for word in words if word not in message] == [], message


def test_every_complaint_is_heard_once() -> None:
    """One error hides no other, in one file or in several; what refers to a broken criterion is not broken for that."""
    files = {
        **SHIPPED,
        SIMPLE: sub('unit = "mg/L"', 'unit = "mg/dL"')(
            sub('op = "<", value = 100', 'op = "<", value = "low"')(SHIPPED[SIMPLE])
        ),
        SAFETY: sub('severity = "absolute"', 'severity = "fatal"')(SHIPPED[SAFETY]),
        FULL: sub(r'is = \["positive"\]', 'is = ["positiv"]')(SHIPPED[FULL]),
    }
    found = loader.complaints(files)
    assert [line.split(": ")[0].removeprefix("app/protocols/") for line in found] == [SIMPLE, SIMPLE, FULL, SAFETY]
    assert [word in line for word, line in zip(("S-SEVERITY", "S-CRP", "P-COVID", "CI-ANC"), found, strict=True)]
    with pytest.raises(KnowledgeError) as caught:
        loader.build(files)
    assert caught.value.complaints == found[:2]


def test_inputs_and_groups_are_complained_of_before_what_refers_to_them() -> None:
    files = {
        **SHIPPED,
        INPUTS: sub(r'unit = "ug/L"', 'unit = "ng/mL"')(SHIPPED[INPUTS]),
        GROUPS: sub('"voriconazole"', '"voriconazol"')(SHIPPED[GROUPS]),
        ROWS: sub('"simple-not-met"', '"simply-not-met"')(SHIPPED[ROWS]),
        SIMPLE: sub('unit = "mg/L"', 'unit = "mg/dL"')(SHIPPED[SIMPLE]),
    }
    assert [line.split(": ")[0].removeprefix("app/protocols/") for line in loader.complaints(files)] == [
        *(INPUTS, GROUPS, ROWS),
    ]


def test_the_shipped_files_leave_nothing_to_complain_of() -> None:
    assert loader.complaints(SHIPPED) == ()


def test_files_that_are_no_toml_are_all_named() -> None:
    found = loader.complaints({**SHIPPED, SIMPLE: "[[", SAFETY: "= 1"})
    assert [line.split(": ")[1] for line in found] == ["not TOML", "not TOML"]


def test_a_date_and_a_name_are_a_review() -> None:
    text = sub(r'^review = "unsigned"', 'review = "2027-01-31 Dr A. Example"')(SHIPPED[SIMPLE])
    found = loader.build({**SHIPPED, SIMPLE: text}).knowledge
    assert found.criterion("S-SEVERITY").origin.review == "2027-01-31 Dr A. Example"


def test_a_need_that_the_gather_plan_does_not_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    text = sub(r"^(\[input\.anc\]\n(?:.*\n)*?)needs = .*$", r'\1needs = ["laboratory"]')(SHIPPED[INPUTS])
    library = loader.build({**SHIPPED, INPUTS: text})
    monkeypatch.setattr(loader, "load", lambda: library)
    with pytest.raises(KnowledgeError) as caught:
        knowledge.load()
    assert str(caught.value) == (
        "app/protocols/shared/inputs.toml: [input.anc]: needs: 'laboratory' is no need of app/plan.py"
    )


# --- what the readers can be asked ----------------------------------------------------------------------------


def test_every_reader_says_what_it_may_be_asked() -> None:
    assert QUESTIONS.keys() == READERS.keys()


def test_an_input_of_whom_nobody_says_what_it_may_be_asked_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fewer = MappingProxyType({name: question for name, question in QUESTIONS.items() if name != "crp"})
    monkeypatch.setattr(loader, "QUESTIONS", fewer)
    with pytest.raises(KnowledgeError, match=r"\[input\.crp\]: app/clinical/readers/questions\.py"):
        loader.build(SHIPPED)
    monkeypatch.undo()
    monkeypatch.setattr(leaves, "QUESTIONS", fewer)
    with pytest.raises(KnowledgeError, match=r"S-CRP: crp: app/clinical/readers/questions\.py"):
        loader.build(SHIPPED)


def test_the_limits_that_must_be_there_are_those_that_are_asked_for() -> None:
    """Every `chart.limit("...")` and `chart.hours("...")` of app/clinical."""
    folder = Path(str(clinical.__path__[0]))
    asked = {
        name
        for path in folder.rglob("*.py")
        for name in re.findall(r"\bchart\.(?:limit|hours)\(\"(\w+)\"\)", path.read_text(encoding="utf-8"))
    }
    assert asked == LIMITS
    assert loader.load().knowledge.limits.keys() == LIMITS


@pytest.mark.no_cover
def test_a_reader_returns_and_asks_for_what_it_is_said_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all cases: no state and no limit that is not declared, and each declared state somewhere."""
    seen: dict[str, set[str]] = {name: set() for name in READERS}
    limits: dict[str, set[str]] = {name: set() for name in READERS}
    reading_now: list[str] = []

    def watched(name: str) -> Callable[..., object]:
        def read(*args: object) -> object:
            reading_now.append(name)
            reading = READERS[name](*args)  # type: ignore[arg-type]
            reading_now.pop()
            if reading.known:
                seen[name].add(reading.state if reading.interval is None else "number")
            return reading

        return read

    def limit(chart: Chart, name: str) -> Decimal:
        if reading_now:
            limits[reading_now[-1]].add(name)
        return chart.knowledge.limits[name].value

    monkeypatch.setattr("app.clinical.readers.READERS", {name: watched(name) for name in READERS})
    monkeypatch.setattr(Chart, "limit", limit)
    for case in CASES:
        said(case)
    declared = {name: set(q.states) or {"number"} for name, q in QUESTIONS.items()}
    assert {n: s - declared[n] for n, s in seen.items() if s - declared[n]} == {}
    assert {n: declared[n] - s for n, s in seen.items() if declared[n] - s} == {}
    # `condition` works out the window of its tests before it knows whether it was asked for any.
    undeclared = {n: s - {*QUESTIONS[n].limits, "screening_hours"} for n, s in limits.items()}
    assert {n: s for n, s in undeclared.items() if s} == {}


def test_a_parameter_names_a_kind_that_can_be_checked() -> None:
    kinds = {kind for question in QUESTIONS.values() for kind in question.parameters.values()}
    for kind in kinds - {"number", "group", "missing"}:
        assert leaves.concepts(kind), kind
    assert replace(questions.QUESTIONS["crp"], states=frozenset({"x"})).is_number is False
