"""`rescue-cds evaluate`: the public JSON is what docs/evaluate.md says, whatever shape the Bundle has."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from app import evaluate
from app.gather import BundleError
from app.sandbox import patients
from fhir_mappings.facts import Overlay
from tests.unit.app.bundles import NOW, bundle, changed, evaluated, resources

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "evaluate.md"
PILOT = ("pilot-simple", "pilot-full")
STORIES = [story.patient_id for story in patients.STORIES]
EXAMPLE = "demo-ferritin-above-range"
WITHOUT_UNIT = {
    "resourceType": "Observation",
    "id": "no-unit",
    "status": "final",
    "subject": {"reference": f"Patient/{EXAMPLE}"},
    "effectiveDateTime": "2026-11-20T08:00:00Z",
    "code": {"coding": [{"system": "http://loinc.org", "code": "1988-5"}]},
    "valueQuantity": {"value": 12},
}
"""A result that becomes a gap with a reference."""

STANDARD = ("cards[]", "suggestions[]")
"""What these hold is the business of CDS Hooks and FHIR."""


def paths(value: Any, at: str = "") -> Iterator[str]:
    """The members of a JSON value as the document writes them: `protocols[].criteria[].id`."""
    if at in STANDARD:
        return
    if isinstance(value, dict):
        for name, item in value.items():
            where = f"{at}.{name}" if at else name
            yield where
            yield from paths(item, where)
    elif isinstance(value, list):
        for item in value:
            yield from paths(item, f"{at}[]")


def documented() -> set[str]:
    return set(re.findall(r"^\| `([a-z_\[\].]+)` \|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE))


def example() -> str:
    """The example of the document: one demo patient, cut to one protocol and the findings that are not absent."""
    answer = evaluated(bundle(resources(EXAMPLE)), protocols=("pilot-simple",), zone=ZoneInfo("UTC"))
    answer["safety"] = [entry for entry in answer["safety"] if entry["finding"] != "absent"][:2]
    answer["suggestions"], answer["cards"] = [], []
    return msgspec.json.format(msgspec.json.encode(answer), indent=2).decode()


@pytest.mark.no_cover
def test_the_document_names_every_member_and_no_other() -> None:
    seen = {path for patient_id in STORIES for path in paths(evaluated(bundle(resources(patient_id))))}
    seen |= set(paths(evaluated(bundle([*resources(EXAMPLE), WITHOUT_UNIT]))))
    seen |= set(paths(evaluated(bundle(changed("demo-day-7", neutrophils_as_a_share)))))
    seen |= set(paths(evaluated(bundle(changed("demo-day-7", without_doses)), now=NOW + timedelta(days=5))))
    assert seen == documented()


def neutrophils_as_a_share(resource: dict[str, Any]) -> dict[str, Any]:
    """A count that is worked out from the leucocytes of the sample, and calls for a hold."""
    code = resource.get("code", {}).get("coding", [{}])[0]
    if code.get("code") == "751-8":
        code["code"] = "770-8"
        resource["valueQuantity"] = {"value": 4, "unit": "%", "system": "http://unitsofmeasure.org", "code": "%"}
    return resource


def without_doses(resource: dict[str, Any]) -> dict[str, Any]:
    """On day 12 the planned dose is reconstructed, and what was given cannot be added up."""
    if resource["resourceType"] == "MedicationAdministration":
        resource["dosage"].pop("dose", None)
    return resource


def test_the_example_of_the_document_is_a_real_answer() -> None:
    (shown,) = re.findall(r"```json\n(.*?)\n```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert shown == example()


@pytest.mark.parametrize("story", patients.STORIES, ids=lambda story: story.patient_id)
def test_every_story_ends_as_it_says(story: patients.Story) -> None:
    if story.faults:
        return  # a file has no server that could refuse
    answer = evaluated(bundle(resources(story.patient_id)))
    verdicts = {p["id"]: p["verdict"] for p in answer["protocols"]}
    assert {name: verdicts[name] for name in PILOT} == {name: story.expect[name] for name in PILOT}
    assert bool(answer["suggestions"]) == (story.expect["suggestions"] == "yes")
    assert bool(answer["cards"]) == (story.expect["outcome"] in {"card", "follow-up"})
    assert answer["patient"] == f"Patient/{story.patient_id}"


@pytest.mark.parametrize("patient_id", STORIES)
def test_the_form_of_numbers_and_names(patient_id: str) -> None:
    answer = evaluated(bundle(resources(patient_id)))
    assert answer["schema"] == 1
    judged, follow_up = parted(answer)
    entries = [e for p in judged for c in p["criteria"] for e in c["evidence"]]
    entries += [e for part in (*follow_up["actions"], *follow_up["course"]) for e in part["evidence"]]
    entries += [e for s in answer["safety"] for e in s["evidence"]]
    assert entries
    for entry in entries:
        assert re.fullmatch(r"-?(0|[1-9]\d*)(\.\d*[1-9])?", entry.get("value", "0"))
        assert re.fullmatch(r"\d+\.\d", entry.get("age_hours", "0.0"))
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", entry.get("effective", "2026-01-01T00:00:00Z"))
        assert entry.get("comparator", "<") in {"<", "<=", ">", ">="}
        assert "" not in entry.values()
    for protocol in judged:
        assert protocol["verdict"] in {"met", "not-met", "unknown"}
        assert protocol["scope"] in {"in", "out", "unknown"}
        assert re.fullmatch(r"\d+(\.\d{1,2})?", protocol["values"].get("pf", "0"))
        assert bool(protocol["missing"]) == (protocol["verdict"] == "unknown")
        for criterion in protocol["criteria"]:
            assert bool(criterion.get("missing")) == (criterion["finding"] == "unknown")
            assert criterion["reason"]
    for finding in answer["safety"]:
        assert finding["finding"] in {"present", "absent", "unknown"}
        assert finding["severity"] in {"absolute", "relative", "monitor"}
        assert set(finding["drugs"]) <= {"anakinra", "ruxolitinib"}
        assert bool(finding.get("missing")) == (finding["finding"] == "unknown")
    assert follow_up["verdict"] is None
    for row in follow_up["course"]:
        numbers = [row.get(name, "0") for name in ("baseline", "value", "ratio")]
        numbers += [text for name, text in row.get("pilot", {}).items() if name != "day"]
        assert all(re.fullmatch(r"(0|[1-9]\d*)(\.\d*[1-9])?", text) for text in numbers)
    for action in follow_up["actions"]:
        assert action["finding"] in {"present", "unknown"}
        assert action["severity"] in {"info", "warning", "critical"}
        assert action["reason"]
    empty = {"verdict", *(() if follow_up["course"] else ("treatment_day",))}
    assert {name for name, value in follow_up.items() if value is None} == empty
    assert None not in list(values({**answer, "protocols": judged}))
    assert None not in list(values({name: value for name, value in follow_up.items() if name not in empty}))


def parted(answer: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The protocols that have a verdict, and the follow-up, which is the last and has none."""
    *judged, follow_up = answer["protocols"]
    assert follow_up["id"] == "pilot-followup"
    return judged, follow_up


def values(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for item in value.values():
            yield from values(item)
    elif isinstance(value, list):
        for item in value:
            yield from values(item)
    else:
        yield value


@pytest.mark.no_cover
def test_every_protocol_lists_the_same_criteria_always() -> None:
    lists = {
        tuple(c["id"] for p in parted(evaluated(bundle(resources(id_))))[0] for c in p["criteria"]) for id_ in STORIES
    }
    assert len(lists) == 1


# --- shapes of a Bundle -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["collection", "searchset", "transaction", "batch", "document"])
def test_the_type_of_the_bundle_does_not_matter(kind: str) -> None:
    found = resources("demo-us-units")
    assert evaluated(bundle(found, kind=kind)) == evaluated(bundle(found))


def test_the_order_of_the_entries_does_not_matter() -> None:
    found = resources("demo-full-protocol")
    expected = evaluated(bundle(found))
    for seed in range(4):
        random.Random(seed).shuffle(found)
        assert evaluated(bundle(found)) == expected


def test_a_transaction_whose_entries_have_no_ids_yet() -> None:
    """They refer to each other by `fullUrl`; the references of the evidence are the entries' names."""
    entries = []
    for number, resource in enumerate(resources("demo-full-protocol")):
        name = f"{resource['resourceType']}/{resource['id']}"
        entries.append((name, f"urn:uuid:00000000-0000-4000-8000-{number:012d}", resource))
    text = json.dumps([resource for _, _, resource in entries])
    for name, url, _ in sorted(entries, key=lambda e: -len(e[0])):
        text = text.replace(f'"{name}"', f'"{url}"')
    bare = [
        {"fullUrl": url, "resource": {k: v for k, v in resource.items() if k != "id"}, "request": {"method": "POST"}}
        for resource, (_, url, _) in zip(json.loads(text), entries, strict=True)
    ]
    raw = json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": bare}).encode()
    answer, expected = evaluated(raw), evaluated(bundle(resources("demo-full-protocol")))
    assert [p["verdict"] for p in answer["protocols"]] == [p["verdict"] for p in expected["protocols"]]
    assert len(answer["suggestions"]) == len(expected["suggestions"]) == 2


def test_several_patients_need_a_choice() -> None:
    both = [*resources("demo-us-units"), *resources("demo-crp-100")]
    unique = list({(r["resourceType"], r["id"]): r for r in both}.values())
    with pytest.raises(BundleError, match="2 Patients"):
        evaluated(bundle(unique))
    for chosen in ("demo-us-units", "Patient/demo-crp-100"):
        alone = evaluated(bundle(resources(chosen.removeprefix("Patient/"))))
        assert evaluated(bundle(unique), patient=chosen) == alone
    with pytest.raises(BundleError, match="no patient"):
        evaluated(bundle(unique), patient="demo-else")


def test_without_a_patient_the_one_subject_counts() -> None:
    found = [r for r in resources("demo-us-units") if r["resourceType"] != "Patient"]
    answer = evaluated(bundle(found))
    assert answer["patient"] == "Patient/demo-us-units"
    full = next(p for p in answer["protocols"] if p["id"] == "pilot-full")
    assert next(c for c in full["criteria"] if c["id"] == "P-AGE")["missing"] == ["age"]
    assert answer["suggestions"] == []


@pytest.mark.parametrize("found", [[], [{"resourceType": "Medication", "id": "m"}]], ids=["empty", "no subject"])
def test_nobody_to_evaluate(found: list[dict[str, Any]]) -> None:
    with pytest.raises(BundleError, match="no Patient"):
        evaluated(bundle(found))


def test_several_subjects_and_no_patient() -> None:
    found = [r for id_ in ("demo-us-units", "demo-crp-100") for r in resources(id_) if r["resourceType"] == "Condition"]
    with pytest.raises(BundleError, match="2 different subjects"):
        evaluated(bundle(found))


def test_a_patient_alone_is_unknown_never_not_met() -> None:
    answer = evaluated(bundle([r for r in resources("demo-us-units") if r["resourceType"] == "Patient"]))
    assert {p["verdict"] for p in answer["protocols"] if p["id"] in PILOT} == {"unknown"}
    assert answer["cards"] == []
    assert answer["suggestions"] == []


@pytest.mark.parametrize(
    "more",
    [{"total": 9999}, {"link": [{"relation": "next", "url": "https://fhir.example.org/next"}]}],
    ids=["total", "next"],
)
def test_a_cut_off_bundle_never_suggests(more: dict[str, Any]) -> None:
    answer = evaluated(bundle(resources("demo-full-protocol"), kind="searchset", **more))
    assert answer["suggestions"] == []
    assert answer["gaps"]


def test_an_absent_source_is_said_and_withholds_nothing() -> None:
    """What the site's clinician has signed counts here as it does at the bedside (reading 3.1)."""
    found = changed("demo-full-protocol", lambda r: None if r["resourceType"] == "AllergyIntolerance" else r)
    assert evaluated(bundle(found))["suggestions"] == []
    answer = evaluated(bundle(found), overlay=Overlay(absent_source=frozenset({"AllergyIntolerance"})))
    assert len(answer["suggestions"]) == 2
    assert {"source": "AllergyIntolerance", "why": "not available at this site", "need": "allergies"} in answer["gaps"]
    assert "not available at this site" in answer["cards"][0]["detail"]


def test_the_filter_changes_the_array_of_protocols_only() -> None:
    raw = bundle(resources("demo-neutropenia"))
    whole, part = evaluated(raw), evaluated(raw, protocols=("pilot-full",))
    assert [p["id"] for p in part["protocols"]] == ["pilot-full"]
    assert {k: v for k, v in part.items() if k != "protocols"} == {k: v for k, v in whole.items() if k != "protocols"}


def test_the_same_question_has_the_same_answer() -> None:
    raw = bundle(resources("demo-neutropenia"))
    assert evaluated(raw) == evaluated(raw)


def test_a_control_character_of_the_record_reaches_neither_card_nor_terminal() -> None:
    def rename(resource: dict[str, Any]) -> dict[str, Any]:
        for value in (resource.get("valueQuantity"), *(resource.get("referenceRange") or ())):
            if isinstance(value, dict) and "unit" in value:
                value["unit"] = f"\x1b[31m{value['unit']}\x07\x9b"
        return resource

    answer = evaluated(bundle(changed("demo-full-protocol", rename)))
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", "".join(str(v) for v in values(answer) if v not in cards(answer)))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", evaluate.table(answer))


def cards(answer: dict[str, Any]) -> list[str]:
    """Markdown has line feeds."""
    return [card["detail"] for card in answer["cards"]]


def test_the_table_says_what_the_json_says() -> None:
    answer = evaluated(bundle(resources("demo-neutropenia")))
    table = evaluate.table(answer)
    for protocol in parted(answer)[0]:
        assert f"{protocol['id']} {protocol['version']}: {protocol['verdict'].replace('-', ' ')}" in table
        for criterion in protocol["criteria"]:
            assert re.search(rf"{criterion['finding']} +{criterion['id']} ", table)
    assert re.search(r"present +CI-ANC-LT-1\.5 +absolute", table)
    assert "absent" not in re.sub("absent findings not listed", "", table)
    assert "Suggested orders: 0" in table
    undetermined = evaluate.table(evaluated(bundle(resources("demo-no-ferritin"))))
    assert "missing: ferritin" in undetermined
    nothing = evaluate.table({**answer, "safety": [], "gaps": [{"source": "labs", "why": "timeout"}]})
    assert "nothing present, nothing unknown" in nothing
    assert "  labs: timeout" in nothing


def test_the_table_says_the_day_and_what_to_look_at() -> None:
    table = evaluate.table(evaluated(bundle(resources("demo-day-16"))))
    assert "pilot-followup 0.1.0: no verdict (scope: in), treatment day 16" in table
    assert re.search(r"present +FU-STOP-RUX-TRANSAMINASE +critical: ALT: 312 U/L", table)
    assert re.search(r"crp +baseline 311, value 38, ratio 0\.12\n", table)
    assert re.search(r"sofa +baseline 9, SOFA: no result of the last 30 h\n", table)
    assert "pilot-followup 0.1.0: no verdict (scope: out)\n" in evaluate.table(
        evaluated(bundle(resources("demo-neutropenia")))
    )


def test_the_follow_up_can_be_asked_for_alone() -> None:
    (entry,) = evaluated(bundle(resources("demo-day-7")), protocols=("pilot-followup",))["protocols"]
    assert list(entry) == [
        *("id", "version", "scope", "verdict", "treatment_day", "planned", "recorded", "actions", "course"),
    ]
    assert entry["planned"] == {"anakinra_mg": "300", "ruxolitinib_mg": "5", "ruxolitinib_doses": 2}
    assert entry["recorded"] == {"anakinra_mg_total": "2100", "ruxolitinib_mg_total": "60"}
    (action,) = entry["actions"]
    assert {name: action[name] for name in ("id", "finding", "severity")} == {
        "id": "FU-MISSED-DOSE",
        "finding": "present",
        "severity": "info",
    }
    crp = next(row for row in entry["course"] if row["quantity"] == "crp")
    assert crp["pilot"] == {"day": 7, "mean": "58", "sd": "37", "ratio": "0.22"}
    assert {name: crp[name] for name in ("baseline", "value", "ratio", "unit")} == {
        "baseline": "264",
        "value": "69",
        "ratio": "0.26",
        "unit": "mg/L",
    }
    assert len(crp["evidence"]) == 2


@pytest.mark.parametrize(("day", "planned"), [(11, 300), (12, 200), (14, 100), (15, 0)])
def test_a_reconstructed_dose_is_labelled(day: int, planned: int) -> None:
    answer = evaluated(bundle(resources("demo-day-7")), now=NOW + timedelta(days=day - 7))
    planned_today = parted(answer)[1]["planned"]
    assert planned_today["anakinra_mg"] == str(planned)
    assert planned_today.get("reconstructed", False) is (day in {12, 14})
