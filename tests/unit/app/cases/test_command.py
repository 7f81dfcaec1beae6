"""`rescue-cds protocols`: the list, the page to sign, and a site's own folder."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest

from app import cli
from app.cases import files
from app.protocols import loader, orders, page, sentences
from app.protocols.page import SignedCase, cases_of

LIBRARY = loader.load()
KNOWN = LIBRARY.knowledge


def printed(*arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What a successful command prints."""
    assert cli.main(["protocols", *arguments]) == 0
    return capsys.readouterr().out


# --- the list -------------------------------------------------------------------------------------------------


def test_the_list_says_of_each_protocol_what_it_is_and_who_signed(capsys: pytest.CaptureFixture[str]) -> None:
    heads, *rows = [re.split(r"  +", line) for line in printed(capsys=capsys).splitlines()]
    assert heads == ["id", "version", "status", "reviewed by", "criteria", "cases", "speaks"]
    listed = {row[0]: row[1:] for row in rows}
    assert list(listed) == [*(p.id for p in KNOWN.protocols), KNOWN.follow_up.id, orders.ID]
    cases = {folder: str(text.count("[[case]]")) for folder, text in files.shipped().items()}
    simple = KNOWN.protocol("pilot-simple")
    assert listed["pilot-simple"] == [simple.version, "draft", "nobody", "3", cases["pilot_simple"], "yes"]
    assert listed["rct-stage-3"][-1] == "no"
    assert listed["pilot-followup"][3] == f"{len(KNOWN.follow_up.actions)} actions"
    checks = f"{len(KNOWN.order_checks)} checks"
    assert listed["order-checks"] == [KNOWN.order_version, "draft", "nobody", checks, "0", "on orders"]


# --- the page -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id_", page.ids(LIBRARY))
def test_a_page_is_no_wider_than_100_columns_and_ends_in_empty_signatures(
    id_: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed("show", id_, capsys=capsys)
    assert [line for line in text.splitlines() if len(line) > 100] == []
    assert "reviewed by: nobody" in text
    assert "No clinician has signed this protocol" in text
    assert re.findall(r"^(Name|Role|Date|Signature): +_+$", text, re.MULTILINE) == [
        *("Name", "Role", "Date", "Signature") * 2,
    ]


def unwrapped(text: str) -> str:
    """A page on one line, without its indents and marks."""
    return " ".join(text.split())


@pytest.mark.parametrize("id_", [p.id for p in KNOWN.protocols])
def test_a_page_holds_every_criterion_with_its_origin_and_every_case(
    id_: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = unwrapped(printed("show", id_, capsys=capsys))
    protocol = KNOWN.protocol(id_)
    for criterion in protocol.criteria:
        assert f"{criterion.id}: {criterion.title}" in text
        assert unwrapped(f"source: {criterion.origin.source}") in text
        assert unwrapped(criterion.threshold) in text
    for confirmation in protocol.confirmations:
        assert unwrapped(f"{confirmation.id}: {confirmation.text}") in text
    for number, case in enumerate(cases_of(files.shipped().get(page.folder_of(id_), "")), start=1):
        assert unwrapped(f"{number}. {case.name}") in text
        assert unwrapped(f"why: {case.why}") in text
    if protocol.arm is not None:
        assert all(unwrapped(page.trial_dose(dose)) in text for dose in protocol.arm.doses)


def test_the_page_of_a_pilot_protocol_holds_safety_orders_inputs_groups_and_limits(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = unwrapped(printed("show", "pilot-full", capsys=capsys))
    for rule in KNOWN.safety:
        assert unwrapped(f"{rule.id}: {rule.title}") in text
        assert unwrapped(rule.advice) in text
    assert "days 12 to 13: 200 mg, 1 x a day (our reconstruction)" in text
    trees = [c.tree for c in KNOWN.protocol("pilot-full").criteria] + [rule.tree for rule in KNOWN.safety]
    asked = sentences.asked(trees, knowledge=KNOWN)
    assert {"pf", "anc", "exposure"} <= set(asked.inputs)
    assert {"nmba", "tnf"} <= set(asked.groups)
    assert {"dialysis_session_hours"} <= set(asked.limits)
    for name in asked.inputs:
        assert f"[{name}]" in text
    for name in asked.groups:
        assert f"{name}: {KNOWN.groups[name].title}" in text
    for name in asked.limits:
        assert f"{name} = {KNOWN.limits[name].value}" in text
    assert "PaO2/FiO2 < 100 mmHg (100 itself does not count) [pf]" in text
    assert "PaO2/FiO2 ≤ 150 mmHg (150 itself counts) [pf]" in text
    assert "the same as S-SEVERITY:" in text


def test_the_page_of_the_follow_up_holds_schedule_actions_and_table_2(capsys: pytest.CaptureFixture[str]) -> None:
    text = unwrapped(printed("show", "pilot-followup", capsys=capsys))
    for action in KNOWN.follow_up.actions:
        assert unwrapped(f"{action.id}: {action.title}") in text
        assert unwrapped(action.advice) in text
    assert "days 1 to 28: 5 mg, 2 x a day" in text
    for quantity in KNOWN.follow_up.quantities:
        assert unwrapped(quantity.title) in text
    for name in KNOWN.follow_up.limits:
        assert f"{name} = " in text


def test_the_page_of_the_order_checks_holds_each_with_its_hooks_and_the_schedule(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = unwrapped(printed("show", "order-checks", capsys=capsys))
    for check in KNOWN.order_checks:
        told = text.partition(unwrapped(f"{check.id}: {check.title}"))[2].partition("review:")[0]
        assert unwrapped(f"{check.severity}; a line of the {check.card} card") in told, check.id
        assert f"alone worth a card at {page.speaks_at(check)} present" in told, check.id
        assert f"by the rule `{check.rule}` of" in told, check.id
        assert unwrapped(check.advice) in told, check.id
        assert unwrapped(f"source: {check.origin.source}") in told, check.id
    assert "alone worth a card at order-select and order-sign" in text
    assert "days 1 to 11: 300 mg, 1 x a day" in text
    assert "cases" not in text


def test_order_checks_are_signed_one_by_one() -> None:
    name = orders.FILE
    one = LIBRARY.files[name].replace('review = "unsigned"', 'review = "2027-01-31 Dr A. Example"', 1)
    every = LIBRARY.files[name].replace('review = "unsigned"', 'review = "2027-01-31 Dr A. Example"')
    for text, status in ((one, "draft"), (every, "reviewed")):
        found = page.page(loader.build({**LIBRARY.files, name: text}), orders.ID, cases=())
        assert f"status {status}\nreviewed by: 2027-01-31 Dr A. Example" in found
        assert "No clinician has signed" not in found


def test_a_page_says_who_has_signed_and_what_a_reviewer_wrote() -> None:
    signed = {
        name: text.replace("reviewed_by = []", 'reviewed_by = ["2027-01-31 Dr A. Example"]')
        .replace('status = "draft"', 'status = "reviewed"')
        .replace('review = "unsigned"', 'review = "2027-01-31 Dr A. Example"')
        for name, text in LIBRARY.files.items()
        if name.startswith("pilot_simple")
    }
    found = page.page(
        loader.build({**LIBRARY.files, **signed}),
        "pilot-simple",
        cases=[SignedCase("a name", "a reason", {"missing": [], "card": "none"})],
    )
    assert "status reviewed\nreviewed by: 2027-01-31 Dr A. Example" in found
    assert "review: 2027-01-31 Dr A. Example" in found
    assert "No clinician has signed" not in found
    assert "expected: missing: none; card: none" in found


def test_an_unknown_protocol_is_refused_with_those_that_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["protocols", "show", "pilot"]) == 2
    assert "known are pilot-simple, pilot-full" in capsys.readouterr().err


# --- a site's own folder --------------------------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if only the cases of pilot-simple were shipped: what is tested here is the same with all of them."""
    simple = {"pilot_simple": files.shipped()["pilot_simple"]}
    monkeypatch.setattr(files, "shipped", lambda: simple)


@pytest.fixture
def folder(tmp_path: Path, few: None) -> Path:
    """A copy of the shipped folder, with those cases."""
    with resources.as_file(resources.files("app.protocols")) as shipped:
        shutil.copytree(shipped, tmp_path / "own", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    for path in (tmp_path / "own").glob("*/cases.toml"):
        if path.parent.name not in files.shipped():
            path.unlink()
    return tmp_path / "own"


def change(path: Path, how: Callable[[str], str]) -> None:
    before = path.read_text(encoding="utf-8")
    after = how(before)
    assert after != before
    path.write_text(after, encoding="utf-8")


def test_an_unchanged_copy_flips_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = printed("check", str(folder), capsys=capsys)
    assert "differ from the shipped ones: none" in out
    assert re.search(r"all \d{3,} cases say what they said \(0 of them the folder's own\)", out)


def test_a_changed_operator_names_the_case_that_flips(
    tmp_path: Path, few: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files that the folder does not hold are those of the service."""
    target = tmp_path / "pilot_simple" / "protocol.toml"
    target.parent.mkdir()
    crp = 'input = "crp", op = ">", value = 100'
    target.write_text(LIBRARY.files["pilot_simple/protocol.toml"].replace(crp, crp.replace(">", ">=")), "utf-8")
    assert cli.main(["protocols", "check", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "differ from the shipped ones: pilot_simple/protocol.toml" in out
    assert "pilot-simple: CRP of exactly 100 mg/L is not above 100" in out
    assert "  S-CRP: the case says not-met, this knowledge says met" in out
    assert "  because: letter, inclusion 3: strictly above" in out
    assert re.search(r"^\d+ of \d{3,} cases flip", out, re.MULTILINE)


OWN = """
[[case]]
name = "our own patient"
why = "our laboratory"
have = { base = "all-met", crp = "90 mg/L @8h" }
expect = { S-CRP = "SAID" }
"""


@pytest.mark.parametrize(("said", "status"), [("not-met", 0), ("met", 1)])
@pytest.mark.no_cover
def test_the_folders_own_cases_are_run_too(
    folder: Path, said: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    change(folder / "pilot_simple" / "cases.toml", lambda text: text + OWN.replace("SAID", said))
    assert cli.main(["protocols", "check", str(folder)]) == status
    out = capsys.readouterr().out
    assert "(1 of them the folder's own)" in out
    assert ("our own patient" in out) == (status == 1)


def test_every_load_error_is_named_with_file_key_and_remedy(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(folder / "pilot_simple" / "protocol.toml", lambda text: text.replace("threshold =", "treshold =", 1))
    change(folder / "shared" / "safety.toml", lambda text: text.replace('severity = "absolute"', "severity = 1", 1))
    (folder / "shared" / "saftey.toml").write_text("", encoding="utf-8")
    assert cli.main(["protocols", "check", str(folder)]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert [("saftey.toml" in e, "did you mean `threshold`" in e, "severity is" in e) for e in errors] == [
        (True, False, False),
        (False, True, False),
        (False, False, True),
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[case", "not TOML"),
        (OWN.replace("crp =", "crpp ="), "our own patient: crpp: no such key"),
        (OWN.replace('why = "our laboratory"\n', ""), "our own patient: no `why`: add it"),
        (OWN.replace("S-CRP", "S-CRPP"), "no such word 'S-CRPP'"),
        (OWN.replace("all-met", "all-mett"), "base: no patient 'all-mett'"),
    ],
)
@pytest.mark.no_cover
def test_a_case_that_cannot_be_read_is_named(
    folder: Path, text: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change(folder / "pilot_simple" / "cases.toml", lambda before: before + text)
    assert cli.main(["protocols", "check", str(folder)]) == 2
    assert complaint in capsys.readouterr().err


def test_a_folder_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["protocols", "check", str(tmp_path / "nowhere")]) == 2
    assert "no folder" in capsys.readouterr().err


def test_a_file_that_is_no_text_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "safety.toml").write_bytes(b"\xff")
    assert cli.main(["protocols", "check", str(tmp_path)]) == 2
    assert "cannot be read" in capsys.readouterr().err
