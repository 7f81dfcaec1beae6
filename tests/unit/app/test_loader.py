"""The knowledge files: what does not fit together is refused with the file, the key and the remedy."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from app import drafts, knowledge
from app.clinical.knowledge import All, Leaf, Node, Not, Ref
from app.clinical.readers import READERS
from app.protocols import loader
from app.protocols.fields import KnowledgeError

SHIPPED = dict(loader.load().files)
SIMPLE, FULL = "pilot_simple/protocol.toml", "pilot_full/protocol.toml"
STAGE = "rct_stage_2b/protocol.toml"
INPUTS, SAFETY, ROWS = "shared/inputs.toml", "shared/safety.toml", "shared/patient_view.toml"
GROUPS, TREATMENT = "shared/interactions.toml", "shared/treatment.toml"


def sub(pattern: str, replacement: str) -> Callable[[str], str]:
    """The first match replaced; there must be one, or the test would test nothing."""

    def change(text: str) -> str:
        changed, count = re.subn(pattern, replacement, text, count=1, flags=re.MULTILINE)
        assert count == 1, pattern
        return changed

    return change


def leaves(node: Node) -> list[Leaf]:
    if isinstance(node, Leaf):
        return [node]
    if isinstance(node, Ref):
        return []
    children = (node.child,) if isinstance(node, Not) else node.children
    return [leaf for child in children for leaf in leaves(child)]


def test_the_shipped_files_fit_together() -> None:
    library = loader.load()
    found = library.knowledge
    assert [p.id for p in found.protocols] == [
        *("pilot-simple", "pilot-full", "rct-stage-2b", "rct-stage-3", "rct-evolved-3"),
    ]
    assert [c.id for c in found.protocol("pilot-full").criteria] == [
        *("P-AGE", "P-COVID", "P-RESCUE", "P-SEVERITY", "P-CRP", "P-FERRITIN"),
    ]
    assert [c.id for c in found.protocol("pilot-simple").criteria] == ["S-SEVERITY", "S-CRP", "S-FERRITIN"]
    assert found.inputs.keys() == READERS.keys()
    assert found.rows[-1].when == ()
    assert set(found.required) == {
        *("anc", "platelets", "alt", "ast", "renal", "allergies", "medications", "pregnancy"),
    }
    with pytest.raises(KeyError):
        found.protocol("none")
    assert found.criterion("S-CRP").threshold == "> 100 mg/L"
    with pytest.raises(KeyError):
        found.criterion("S-NONE")


def test_nobody_has_signed_and_the_files_say_so() -> None:
    for protocol in loader.load().knowledge.protocols:
        assert (protocol.status, protocol.reviewed_by) == ("draft", ())


def test_numbers_are_read_as_they_are_written() -> None:
    """Float would turn 1000 ng/mL into 1000.0000000000002 ug/L."""
    found = loader.load().knowledge
    limits = {
        leaf.input: leaf
        for protocol in found.protocols[:2]
        for criterion in protocol.criteria
        for leaf in leaves(criterion.tree)
        if leaf.value is not None
    }
    assert (limits["crp"].op, limits["crp"].value, limits["crp"].unit) == (">", Decimal(100), "mg/L")
    assert (limits["ferritin"].op, limits["ferritin"].value, limits["ferritin"].unit) == (">", Decimal(1000), "ug/L")
    assert (limits["crs"].op, limits["crs"].value) == ("<=", Decimal(30))
    assert (limits["age"].op, limits["age"].value) == (">=", Decimal(18))


def test_every_value_says_where_it_comes_from_and_that_nobody_has_signed_it() -> None:
    found = loader.load().knowledge
    rules: list[Any] = [*found.inputs.values(), *found.groups.values(), *found.safety, *found.limits.values()]
    rules += [criterion for protocol in found.protocols for criterion in protocol.criteria]
    rules += found.rows
    assert all(rule.origin.source.strip() for rule in rules)
    assert {rule.origin.review for rule in rules} == {"unsigned"}
    assert all(rule.advice.strip() and rule.title.strip() for rule in found.safety)


def test_the_hash_is_of_every_byte_of_every_file() -> None:
    first = loader.build(SHIPPED).knowledge.hash
    assert loader.build(dict(reversed(SHIPPED.items()))).knowledge.hash == first
    for name in SHIPPED:
        assert loader.build({**SHIPPED, name: SHIPPED[name] + "\n# a remark"}).knowledge.hash != first
    assert SHIPPED.keys() == loader.load().files.keys()


def test_a_negation_is_read() -> None:
    text = sub(r"^test = \{.*\}$", 'test = { not = { input = "crp", op = ">", value = 1, unit = "mg/L" } }')(
        SHIPPED[SAFETY]
    )
    found = loader.build({**SHIPPED, SAFETY: text}).knowledge.safety
    assert any(isinstance(rule.tree, Not) for rule in found)
    assert any(isinstance(rule.tree, All | Leaf) for rule in found)


BROKEN: dict[str, tuple[str, Callable[[str], str], tuple[str, ...]]] = {
    "not TOML": (SIMPLE, lambda text: text + "\n[[", (SIMPLE, "not TOML")),
    "criterion without id": (SIMPLE, sub(r'^id = "S-CRP"\n', ""), (SIMPLE, "`id`", "add it")),
    "criterion without test": (SIMPLE, sub(r"^test = .*ferritin.*\n", ""), (SIMPLE, "S-FERRITIN", "`test`")),
    "criterion without title": (SIMPLE, sub(r"(S-CRP\"\n)title = .*\n", r"\1"), (SIMPLE, "S-CRP", "`title`")),
    "criterion without source": (
        SIMPLE,
        lambda text: re.sub(r"^source = .*\n", "", text, flags=re.MULTILINE),
        (SIMPLE, "`source`"),
    ),
    "no criteria": (SIMPLE, lambda text: re.sub(r"\[criterion\b", "[crits", text), (SIMPLE, "`criterion`")),
    "one criterion as a table": (
        SIMPLE,
        lambda _: 'id = "x"\ncriterion = 2\n',
        (SIMPLE, "[[criterion]]"),
    ),
    "limits as a number": (
        INPUTS,
        lambda text: "limit = 1\n" + text.replace("[limit.", "[other."),
        (INPUTS, "[limit]"),
    ),
    "a value that says not where it comes from": (
        INPUTS,
        sub(r"(\[limit\.course_days\]\n(?:.+\n)*?)source = .*\n", r"\1"),
        (INPUTS, "[limit.course_days]", "`source`", "add it"),
    ),
    "a source that says nothing": (
        SIMPLE,
        sub(r'^source = "letter.*"$', 'source = " "'),
        (SIMPLE, "`source` is empty"),
    ),
    "a value without reading": (SAFETY, sub(r"^reading = .*\n", ""), (SAFETY, "`reading`", "add it")),
    "a value without alternatives": (GROUPS, sub(r"^alternatives = .*\n", ""), (GROUPS, "`alternatives`")),
    "a value that nobody reviews": (ROWS, sub(r"^review = .*\n", ""), (ROWS, "`review`", "add it")),
    "a signature without a name": (
        SIMPLE,
        sub(r'review = "unsigned"', 'review = "2027-01-31"'),
        (SIMPLE, "S-SEVERITY", "`review`", "date and name"),
    ),
    "a signature of no day": (
        SIMPLE,
        sub(r'review = "unsigned"', 'review = "2027-02-31 Dr A. Example"'),
        (SIMPLE, "`review`"),
    ),
    "a criterion that the trial file does not have": (
        STAGE,
        sub(r'"R-AGE"', '"R-SMELL"'),
        (STAGE, "criteria", "'R-SMELL'", loader.TRIAL),
    ),
    "a criterion named twice": (STAGE, sub(r'"R-AGE"', '"R-COVID", "R-AGE"'), (STAGE, "R-COVID", "twice")),
    "a leaf without its criterion": (
        loader.TRIAL,
        sub(r'^id = "R-AGE"', 'id = "R-AGE"\npart_of = "R-ELSEWHERE"'),
        ("R-AGE", "part of R-ELSEWHERE", "list that too"),
    ),
    "a criterion twice": (SIMPLE, sub('"S-CRP"', '"S-FERRITIN"'), (SIMPLE, "S-FERRITIN", "twice")),
    "the wrong unit": (SIMPLE, sub(r'unit = "mg/L"', 'unit = "mg/dL"'), (SIMPLE, "S-CRP", "'mg/L'")),
    "no unit": (SIMPLE, sub(r', unit = "mg/L"', ""), (SIMPLE, "S-CRP", "unit must be")),
    "an unknown comparison": (SIMPLE, sub(r'op = ">"', 'op = "=="'), (SIMPLE, "< <= > >=")),
    "no value": (SIMPLE, sub(r"value = 100, ", ""), (SIMPLE, "needs a `value`")),
    "a value that is no number": (
        SIMPLE,
        sub(r"value = 100", 'value = "high"'),
        (SIMPLE, "S-SEVERITY", "value: not a number"),
    ),
    "a value that is not finite": (SIMPLE, sub(r"value = 100", "value = inf"), (SIMPLE, "not a finite number")),
    "a value that is true": (SIMPLE, sub(r"value = 100", "value = true"), (SIMPLE, "not a finite number")),
    "an unknown input": (SIMPLE, sub(r'input = "crp"', 'input = "crpp"'), (SIMPLE, "'crpp'", INPUTS)),
    "neither number nor state": (
        SIMPLE,
        sub(r'input = "crp", op = ">", value = 100, unit = "mg/L"', 'input = "crp"'),
        (SIMPLE, "either a number", "or a state"),
    ),
    "a wrong `unknown`": (
        SIMPLE,
        sub(r'input = "crp", op', 'input = "crp", unknown = "no", op'),
        (SIMPLE, "`unknown` is met or not-met"),
    ),
    "a wrong `otherwise`": (
        SIMPLE,
        sub(r'input = "crp", op', 'input = "crp", otherwise = "met", op'),
        (SIMPLE, "`otherwise` is unknown"),
    ),
    "a reference to nothing": (FULL, sub(r'ref = "[^"]+"', 'ref = "P-NOTHING"'), (FULL, "P-NOTHING", "above it")),
    "no scope": (SIMPLE, lambda text: re.sub(r"\bscope\b", "scoop", text), (SIMPLE, "`scope`")),
    "no version": (SIMPLE, sub(r"^version = .*\n", ""), (SIMPLE, "`version`", "add it")),
    "confirmation without text": (FULL, sub(r"(\[\[confirmation\]\]\nid = .*\n)text = .*\n", r"\1"), (FULL, "`text`")),
    "an unknown severity": (SAFETY, sub(r'severity = "absolute"', 'severity = "fatal"'), (SAFETY, "monitor")),
    "finding without severity": (SAFETY, sub(r"^severity = .*\n", ""), (SAFETY, "`severity`")),
    "finding without drugs": (SAFETY, sub(r"^drugs = .*\n", ""), (SAFETY, "`drugs`")),
    "finding without advice": (SAFETY, sub(r"^advice = .*\n", ""), (SAFETY, "`advice`")),
    "finding without id": (SAFETY, sub(r'^id = "CI-.*\n', ""), (SAFETY, "`id`")),
    "a finding twice": (SAFETY, sub(r'"CI-RRT"', '"CI-PREGNANCY"'), (SAFETY, "CI-PREGNANCY", "twice")),
    "no findings": (SAFETY, lambda text: re.sub(r"\[finding\b", "[findings", text), (SAFETY, "`finding`")),
    "an unknown required input": (SAFETY, sub(r'"anc"', '"neutros"'), (SAFETY, "'neutros'", INPUTS)),
    "no required set": (SAFETY, sub(r"^required = ", "needed = "), (SAFETY, "`required`")),
    "an unknown group": (SAFETY, sub(r'group = "[^"]+"', 'group = "no-group"'), (SAFETY, "'no-group'", GROUPS)),
    "an input without reader": (
        INPUTS,
        lambda text: text + '\n[input.smell]\nmissing = "smell"\n',
        (INPUTS, "[input.smell]", "reader"),
    ),
    "a reader without input": (INPUTS, sub(r"^\[input\.ferritin\]", "[input_ferritin]"), (INPUTS, "[input.ferritin]")),
    "input without needs": (INPUTS, sub(r"^needs = .*\n", ""), (INPUTS, "`needs`")),
    "input without obtain": (INPUTS, sub(r"^obtain = .*\n", ""), (INPUTS, "`obtain`")),
    "a window of no time": (INPUTS, sub(r"^window_hours = .*$", "window_hours = 0"), (INPUTS, "above zero")),
    "a window in words": (INPUTS, sub(r"^window_hours = .*$", 'window_hours = "a day"'), (INPUTS, "not a number")),
    "no inputs": (INPUTS, lambda text: text.replace("[input.", "[inputs."), (INPUTS, "`input`")),
    "no limits": (INPUTS, lambda text: text.replace("[limit.", "[limits."), (INPUTS, "`limit`")),
    "a limit in words": (
        INPUTS,
        sub(r"(\[limit\.course_days\]\nvalue = ).*", r'\1"many"'),
        (INPUTS, "[limit.course_days] value", "not a number"),
    ),
    "a limit that does not say what it is": (INPUTS, sub(r"^what = .*\n", ""), (INPUTS, "`what`")),
    "an equivalent in words": (
        INPUTS,
        sub(r"^prednisone = .*", 'prednisone = "one"'),
        (INPUTS, "prednisone", "not a number"),
    ),
    "group without look-back": (
        GROUPS,
        sub(r"^(\[group\.tnf\]\n(?:.*\n)*?)lookback_hours = .*\n", r"\1"),
        (GROUPS, "`lookback_hours`", "add it"),
    ),
    "group without ingredients": (GROUPS, sub(r"^ingredients = \[[^\]]*\]\n", ""), (GROUPS, "`ingredients`")),
    "no groups": (GROUPS, lambda text: text.replace("[group.", "[groups."), (GROUPS, "`group`")),
    "an unknown condition": (
        ROWS,
        sub(r'"simple-not-met"', '"simply-not-met"'),
        (ROWS, "'simply-not-met'", "table.py"),
    ),
    "a row that may not match": (
        ROWS,
        lambda text: text[: text.rindex("when = []")] + 'when = ["deceased"]' + text[text.rindex("when = []") + 9 :],
        (ROWS, "last row"),
    ),
    "no rows": (ROWS, lambda text: text.replace("[[row]]", "[[rows]]"), (ROWS, "`row`")),
    "a row without when": (ROWS, sub(r"^when = .*\n", ""), (ROWS, "`when`")),
    "a row without outcome": (ROWS, sub(r"^outcome = .*\n", ""), (ROWS, "`outcome`")),
    "an unknown card": (ROWS, sub(r'card = "undetermined"', 'card = "undecided"'), (ROWS, "`card` is one of")),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_with_place_and_remedy(name: str) -> None:
    file, change, words = BROKEN[name]
    with pytest.raises(KnowledgeError) as caught:
        loader.build({**SHIPPED, file: change(SHIPPED[file])})
    message = str(caught.value)
    assert message.startswith("app/protocols/")
    for word in words:
        assert word in message


# --- the treatment ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        sub(r'^atc = "L04AC03"\n', ""),
        sub(r"per_day = 1", "per_day = 9"),
        sub(r"dose_mg = 300", "dose_mg = -300"),
        sub(r'route_text = ".*"', 'route_text = ""'),
        lambda text: text.replace("[[drug]]", "[[drugs]]"),
    ],
    ids=["no code", "nine times a day", "a negative dose", "no route", "no drugs"],
)
def test_a_treatment_that_is_no_order_is_refused(change: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    broken = loader.build({**SHIPPED, TREATMENT: change(SHIPPED[TREATMENT])})
    monkeypatch.setattr(loader, "load", lambda: broken)
    with pytest.raises(KnowledgeError, match=r"shared/treatment\.toml.*compare"):
        knowledge.load()


def test_the_treatment_is_the_letters() -> None:
    anakinra, ruxolitinib = drafts.templates(loader.load().treatment)
    totals = []
    for template in (anakinra, ruxolitinib):
        total = Decimal(0)
        for dosage, (first, last) in zip(
            template.order.resource["dosageInstruction"], template.order.days, strict=True
        ):
            dose = Decimal(str(dosage["doseAndRate"][0]["doseQuantity"]["value"]))
            total += dose * dosage["timing"]["repeat"]["frequency"] * (last - first + 1)
        totals.append(total)
    assert totals == [Decimal(3800), Decimal(280)]
