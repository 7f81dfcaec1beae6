"""The follow-up file: what does not fit together stops the start, with the place and the remedy."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal

import pytest

from app.protocols import followup, loader
from app.protocols.fields import KnowledgeError

SHIPPED = loader.load().files
FILE = followup.FILE


def sub(pattern: str, replacement: str) -> Callable[[str], str]:
    """The text with the first match replaced; there must be one."""

    def change(text: str) -> str:
        changed, count = re.subn(pattern, replacement, text, count=1, flags=re.MULTILINE)
        assert count == 1, pattern
        return changed

    return change


BROKEN: dict[str, tuple[Callable[[str], str], tuple[str, ...]]] = {
    "an action without a source": (
        sub(r'(id = "FU-PLT-LT-50"(?:\n.*)*?)\nsource = .*', r"\1"),
        ("FU-PLT-LT-50", "`source`"),
    ),
    "an empty source": (sub(r'(id = "FU-PLT-LT-50"(?:\n.*)*?\nsource = )".*"', r'\1""'), ("FU-PLT-LT-50", "`source`")),
    "a schedule without a reading": (sub(r'^reading = "A11, A12, A13"\n', ""), ("[schedule.anakinra]", "`reading`")),
    "an unknown input": (sub(r'input = "platelets"', 'input = "plates"'), ("FU-PLT-LT-50", "'plates'")),
    "a unit that is not canonical": (
        sub(
            r'input = "platelets", op = "<", value = 50, unit = "10\*9/L"',
            'input = "platelets", op = "<", value = 50, unit = "/nL"',
        ),
        ("FU-PLT-LT-50", "unit"),
    ),
    "a test without operator": (
        sub(r'input = "platelets", op = "<", ', 'input = "platelets", '),
        ("FU-PLT-LT-50", "number"),
    ),
    "a value in words": (sub(r'op = "<", value = 50,', 'op = "<", value = "many",'), ("FU-PLT-LT-50", "not a number")),
    "neither test nor rule": (sub(r'^rule = "infection"\n', ""), ("FU-INFECTION", "either a `test`")),
    "both test and rule": (
        sub(r'^rule = "infection"', 'rule = "infection"\ntest = { input = "alt", op = ">", value = 5, unit = "ULN" }'),
        ("FU-INFECTION", "either a `test`"),
    ),
    "an unknown rule": (sub(r'^rule = "infection"', 'rule = "infections"'), ("FU-INFECTION", "`infection`")),
    "a rule without its key": (sub(r'^drug = "anakinra"\n', ""), ("FU-OVERDUE-STOP-ANAKINRA", "`drug`")),
    "a rule for another drug": (sub(r'^drug = "anakinra"', 'drug = "aspirin"'), ("'aspirin'", "study drug")),
    "a misspelt key": (sub(r"^lab_window = true", "lab_windows = true"), ("`lab_windows`", "`lab_window`")),
    "an unknown severity": (sub(r'^severity = "critical"', 'severity = "fatal"'), ("'fatal'", "critical")),
    "an unknown finding": (sub(r'"CI-DUP-JAK"', '"CI-DUP-JAKS"'), ("FU-INTERACTION", "'CI-DUP-JAKS'")),
    "an unknown action beside it": (sub(r'^unless = \["', 'unless = ["X'), ("FU-MONITOR-ALT", "no action here")),
    "an action twice": (sub(r'id = "FU-PLT-LT-50"', 'id = "FU-INFECTION"'), ("FU-INFECTION", "twice")),
    "days that run backwards": (
        sub(r"^from_day = 14\nto_day = 14\n", "from_day = 14\nto_day = 13\n"),
        ("FU-END-ANAKINRA", "before"),
    ),
    "a day of no calendar": (sub(r"^to_day = 14\nunless_stopped", "to_day = 0\nunless_stopped"), ("whole number",)),
    "an unknown quantity of a rule": (sub(r'^quantity = "crp"', 'quantity = "crpp"'), ("FU-CRP-NOT-FALLING", "'crpp'")),
    "a drug without schedule": (
        sub(r"^\[schedule\.ruxolitinib\]", "[schedule.tofacitinib]"),
        ("[schedule]", "ruxolitinib"),
    ),
    "a gap in the schedule": (
        sub(r"from_day = 12, to_day = 13", "from_day = 13, to_day = 13"),
        ("[schedule.anakinra]", "day 12"),
    ),
    "a dose of nothing": (sub(r"dose_mg = 300", "dose_mg = 0"), ("[schedule.anakinra]", "above zero")),
    "no steps": (sub(r"^steps = \[\{.*\}\]", "steps = []"), ("[schedule.ruxolitinib]", "at least one")),
    "a window around another day": (sub(r"^day = 3\n", "day = 5\n"), ("[[window]]", "day 5")),
    "a quantity that no code names": (sub(r'^concept = "crp"', 'concept = "crpp"'), ("crp", "'crpp'")),
    "a quantity in another unit": (sub(r'^unit = "mg/L"', 'unit = "mg/dL"'), ("[[quantity]] crp", "'mg/L'")),
    "a mean in words": (sub(r"mean = 262", 'mean = "high"'), ("[[quantity]] crp inclusion", "not a number")),
    "a mean of nothing": (sub(r"mean = 262", "mean = 0"), ("[[quantity]] crp inclusion", "above zero")),
    "a mean without deviation": (sub(r"\{ mean = 262, sd = 75 \}", "{ mean = 262 }"), ("`sd`",)),
    "a bare mean": (sub(r"\{ mean = 262, sd = 75 \}", "262"), ("write it as",)),
    "a column that is missing": (sub(r"^day7 = \{ mean = 58.*\n", ""), ("[[quantity]] crp", "`day7`")),
    "a source that holds no such value": (sub(r'^needs = \["course", "labs"\]', 'needs = ["orders"]'), ("'orders'",)),
    "an end that nobody knows": (sub(r'^ends = "extubation"', 'ends = "discharge"'), ("'discharge'",)),
    "both window and input": (sub(r'^input = "crp"', 'input = "crp"\nwindow_hours = 24'), ("either the `input`",)),
    "an input that does not exist": (sub(r'^input = "crp"', 'input = "crpp"'), ("'crpp'",)),
    "an input without a window": (sub(r'^input = "crp"', 'input = "age"'), ("no window",)),
    "a window of no time": (sub(r"^window_hours = 30", "window_hours = 0"), ("above zero",)),
    "a limit that is missing": (sub(r"^\[limit\.baseline_hours\]", "[limit.base_hours]"), ("[limit.baseline_hours]",)),
    "a status of its own": (sub(r'^status = "draft"', 'status = "final"'), ("'final'",)),
    "an unknown key of the file": (sub(r'^version = "0.1.0"', 'version = "0.1.0"\nspeak = true'), ("`speak`",)),
    "no version": (sub(r"^version = .*\n", ""), ("`version`",)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_with_place_and_remedy(name: str) -> None:
    change, words = BROKEN[name]
    with pytest.raises(KnowledgeError) as caught:
        loader.build({**SHIPPED, FILE: change(SHIPPED[FILE])})
    message = str(caught.value)
    assert message.startswith("app/protocols/")
    assert FILE in message
    for word in words:
        assert word in message


def test_another_number_is_another_knowledge() -> None:
    changed = loader.build({**SHIPPED, FILE: sub("sd = 75", "sd = 76")(SHIPPED[FILE])}).knowledge
    assert changed.hash != loader.load().knowledge.hash
    assert changed.follow_up.quantities[2].inclusion.sd == Decimal(76)


def test_the_version_names_the_follow_up() -> None:
    assert "pilot-followup 0.1.0" in loader.load().knowledge.version.split(", ")
