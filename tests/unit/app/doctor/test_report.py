"""The JSON document, the report made of it, and the draft of an overlay."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.doctor.coverage import Refused
from app.doctor.document import document
from app.doctor.draft import overlay
from app.doctor.findings import EXIT, Findings, Hook, Patient, Search, Server
from app.doctor.lookalikes import LookAlike
from app.doctor.table import WIDTH, _folded, _grid, _size, table
from app.settings import SettingsError, load_overlay
from fhir_mappings.facts import Overlay
from tests.unit.app.bundles import bedside
from tests.unit.app.doctor import local
from tests.unit.app.doctor.local import SITE, chart, counted, facts_of

SEARCH = Search("labs", "Observation", "by code", True, "ok", results=3, pages=1, requests=1, bytes=900, ms=12.0)

BESIDE = replace(SEARCH, key="medication", resource_type="Medication", how="by id", planned=False, outcome="failed")
FORBIDDEN = replace(SEARCH, outcome="failed", why="refused", params=(("status", "403"),), results=0)


@cache
def findings() -> Findings:
    """Of the hospital that nobody has configured, as an examination of one patient would find it."""
    coverage, look_alikes = counted(chart())
    plan = bedside().plan_for(Overlay())
    names = [(need.key, n) for need in plan if need.resource_type == "Observation" for n in need.concepts]
    return Findings(
        version="0.1.0",
        now=local.NOW,
        zone="Europe/Berlin",
        server=Server("https://fhir.example.org/r4", True, "Some Server 1.0", "4.0.1"),
        plan=tuple(plan),
        overlay=Overlay(),
        chosen="results",
        deadline_seconds=1.4,
        patients=(Patient("patient 1", (SEARCH,), Hook(310.4, 16, 120_000)),),
        inputs=coverage.inputs(),
        found=tuple((need, one) for (need, _), one in zip(names, coverage.found(n for _, n in names), strict=True)),
        refused=coverage.refused(),
        look_alikes=look_alikes.found(),
        others=look_alikes.others(),
        uncoded=dict(look_alikes.uncoded),
        records={"ECMO of no stated configuration": 1, "allergies": 0},
    )


def answer(of: Findings | None = None) -> dict[str, Any]:
    return document(of or findings(), texts=bedside().plain)


def report(of: Findings | None = None) -> str:
    return table(answer(of))


def searched(*searches: Search, hook: Hook | None = None, **more: Any) -> Findings:
    return replace(findings(), patients=(Patient("patient 1", searches, hook),), **more)


# --- the status -------------------------------------------------------------------------------------------


def all_ready() -> Findings:
    return replace(findings(), inputs=tuple(replace(one, states=(("usable", 1),)) for one in findings().inputs))


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (lambda: all_ready(), "ready"),
        (lambda: findings(), "gaps"),
        (lambda: replace(all_ready(), inputs=()), "gaps"),
        (lambda: replace(all_ready(), patients=(Patient("p", (replace(SEARCH, outcome="empty"),)),)), "ready"),
        (lambda: replace(all_ready(), patients=(Patient("p", (SEARCH, replace(SEARCH, outcome="partial"))),)), "gaps"),
        (lambda: replace(all_ready(), patients=(Patient("p", (SEARCH, replace(SEARCH, outcome="failed"))),)), "gaps"),
        (lambda: replace(all_ready(), patients=(Patient("p", (SEARCH, replace(BESIDE, own=True))),)), "ready"),
        (lambda: replace(all_ready(), patients=(Patient("p", (SEARCH, BESIDE)),)), "gaps"),
        (lambda: replace(all_ready(), patients=(Patient("p", (SEARCH,), Hook(1, 1, 1, (), (BESIDE,))),)), "gaps"),
        (lambda: replace(all_ready(), patients=(Patient("p", (SEARCH,), None, False, ("labs",)),)), "gaps"),
        (lambda: replace(all_ready(), not_examined=("patient 2",)), "gaps"),
        (lambda: replace(all_ready(), patients=(Patient("p", (SEARCH,), Hook(1, 1, 1, ("labs",))),)), "gaps"),
        (lambda: replace(all_ready(), patients=(Patient("p", (SEARCH,), None, True),)), "gaps"),
        (lambda: replace(all_ready(), patients=(Patient("p", (replace(SEARCH, outcome="failed"),)),)), "unreachable"),
        (lambda: replace(all_ready(), patients=()), "gaps"),
        (lambda: replace(all_ready(), patients=(), chosen="failed"), "unreachable"),
    ],
)
def test_the_status(found: Any, status: str) -> None:
    assert found().status == status
    assert answer(found())["exit"] == EXIT[found().status]


# --- the document -----------------------------------------------------------------------------------------


def test_the_document_is_plain_json_with_its_schema() -> None:
    whole = answer()
    assert whole["schema"] == 1
    assert msgspec.json.decode(msgspec.json.encode(whole)) == whole
    assert (whole["status"], whole["exit"]) == ("gaps", 1)
    assert whole["server"] == {
        "base": "https://fhir.example.org/r4",
        "capability": "read",
        "software": "Some Server 1.0",
        "fhir_version": "4.0.1",
    }
    assert whole["patients"]["examined"][0]["hook"] == {
        "ms": 310,
        "requests": 16,
        "bytes": 120000,
        "late": [],
        "lost": [],
    }


def test_every_concept_that_is_asked_for_is_in_it_found_or_not() -> None:
    concepts = {one["concept"]: one for one in answer()["concepts"]}
    asked = {n for need in findings().plan if need.resource_type == "Observation" for n in need.concepts}
    assert set(concepts) == asked
    assert concepts["alt"] == {
        "concept": "alt",
        "text": "ALT",
        "need": "labs",
        "found": True,
        "looked": "yes",
        "results": 1,
        "patients": 1,
        "codes": [{"code": "loinc|1742-6", "count": 1}],
        "units": [{"unit": "U/L", "count": 1}],
        "newest": {"value": "48", "unit": "U/L", "age_hours": "2.0"},
        "refused": 0,
        "look_alikes": 1,
    }
    assert concepts["crp"] == {
        "concept": "crp",
        "text": "CRP",
        "need": "labs",
        "found": False,
        "looked": "yes",
        "results": 0,
        "patients": 0,
        "refused": 2,
        "look_alikes": 3,
    }


def test_a_code_of_the_overlay_is_marked() -> None:
    signed = Overlay(codes={f"{SITE}|1234": ("crp", "")})
    coverage, _ = counted(chart(), overlay=signed)
    [one] = coverage.found(["crp"])
    [crp] = answer(replace(findings(), overlay=signed, found=(("labs", one),)))["concepts"]
    assert crp["codes"] == [{"code": f"{SITE}|1234", "count": 3, "site": True}]
    assert "(overlay)" in report(replace(findings(), overlay=signed, found=(("labs", one),)))


def test_answers_and_calculated_values_are_told() -> None:
    prone = local.observation(1, (local.LOINC, "94500-6", ""), hours=100, valueString="positive")
    mechanics = [("76259-1", 28, "cm[H2O]"), ("20077-4", 14, "cm[H2O]"), ("76222-9", 390, "mL")]
    resources = [
        local.person(),
        prone,
        *(
            local.observation(n, (local.LOINC, code, ""), **local.quantity(value, unit))
            for n, (code, value, unit) in enumerate(mechanics, start=2)
        ),
    ]
    coverage, _ = counted(resources)
    found = tuple(("x", one) for one in coverage.found(["sarscov2_pcr", "crs"]))
    pcr, crs = answer(replace(findings(), found=found))["concepts"]
    assert pcr["newest"] == {"answer": "positive", "age_hours": "100.0"}
    assert crs["newest"] == {"value": "27.9", "unit": "mL/cm[H2O]", "age_hours": "2.0"}
    assert crs["codes"] == [{"code": "(derived)", "count": 1}]
    text = report(replace(findings(), found=found))
    assert "positive, 4.2 d" in text
    assert "27.9 mL/cmH2O, 2.0 h" in text


def test_a_percentage_without_its_sign_has_no_remedy_in_the_overlay() -> None:
    fio2 = [one for one in answer()["refused"] if one["why"] == "fraction-unclear"]
    assert [(one["unit"], one.get("overlay")) for one in fio2] == [("%", "percent_means_fraction"), ("1", None)]


def test_a_look_alike_says_where_it_would_be_signed() -> None:
    listed = answer()["look_alikes"]
    assert {
        "element": "Observation.code",
        "code": f"{SITE}|1234",
        "display": "CRP quant",
        "count": 3,
        "units": [{"unit": "mg/L", "count": 3}],
        "like": ["crp"],
        "unit_accepted": True,
        "overlay": "codes",
    } in listed
    assert [one.get("overlay") for one in listed if "code" not in one] == [None, None]


def test_long_lists_of_other_codes_are_counted_and_cut() -> None:
    many = tuple(LookAlike("codes", "Observation.code", f"{SITE}|{n}", "", (), 1) for n in range(300))
    other = answer(replace(findings(), others=many))["other_codes"]
    assert (other["count"], len(other["listed"])) == (300, 200)
    assert other["listed"][0] == {
        "element": "Observation.code",
        "code": f"{SITE}|0",
        "count": 1,
    }


def test_searches_of_several_patients_are_one_line() -> None:
    failed = replace(SEARCH, outcome="failed", why="refused", params=(("status", "403"),), results=0, ms=40.0)
    partial = replace(SEARCH, outcome="partial", why="page-limit", pages=20, unsent=("date",))
    whole = searched(SEARCH, failed, partial, replace(SEARCH, key="x", planned=False))
    [labs, beside] = answer(whole)["searches"]
    assert (labs["searches"], labs["failed"], labs["partial"], labs["results"]) == (3, 1, 1, 6)
    assert (labs["most_pages"], labs["median_ms"], labs["slowest_ms"]) == (20, 12, 40)
    assert labs["why"] == ["server refused (403)", "more pages than are read"]
    assert "Observation.rs" in labs["remedy"][0]
    assert labs["unsent"] == ["date"]
    assert beside["planned"] is False


# --- the report -------------------------------------------------------------------------------------------


def test_nobody_is_named_and_no_line_is_a_command_to_the_terminal() -> None:
    whole = report() + str(answer()) + overlay(findings())
    for canary in (local.NAME, local.PATIENT, "Smith", "letter"):
        assert canary not in whole
    assert all(line.isprintable() for line in whole.splitlines())


def test_no_line_is_wider_than_a_terminal() -> None:
    assert max(map(len, report().splitlines())) <= WIDTH


def test_the_report_says_what_is_missing() -> None:
    text = re.sub(r"\s+", " ", report())
    assert "GAPS: not known of any patient: PaO2/FiO2," in text
    assert "crp: no unit, once, newest 45 [loinc|1988-5]" in text
    assert "sign in the overlay which unit it is (overlay: unit_when_absent)" in text
    assert f"Observation.code {SITE}|1234 'CRP quant' mg/L, 3 times, like crp: add to the site overlay (codes)" in text
    assert "like crp: ask for a code with a system" in text
    assert "without any code, once: ferritin" in text
    assert "like unknown: one of the drugs that matter, or not?: add to the site overlay (products)" in text
    assert "other codes of Observations look like nothing" in text


def test_the_server_is_described() -> None:
    text = report()
    assert "Some Server 1.0, FHIR 4.0.1" in text
    assert "R4 (4.0)" not in text
    old = report(replace(findings(), server=Server("https://x", True, "", "3.0.2")))
    assert "software not named, FHIR 3.0.2" in old
    assert "the service reads FHIR R4 (4.0)" in old
    unknown = report(replace(findings(), server=Server("https://x", True)))
    assert "FHIR version not named" in unknown
    silent = report(replace(findings(), server=Server("https://x", False)))
    assert "no capability statement could be read" in silent
    less = Server("https://x", True, "S", "4.0.1", ("Immunization",), (("labs", "date"), ("labs", "other")))
    text = report(replace(findings(), server=less))
    assert "not offered, so not asked for: Immunization" in text
    assert "labs: date is not declared, so not sent: the whole record is read, not the look-back" in text


def test_what_went_wrong_with_the_searches_is_said_once() -> None:
    failed = replace(SEARCH, outcome="failed", why="unreachable")
    text = report(searched(failed, replace(failed, key="virology"), inputs=()))
    assert text.count("server not reachable") == 1
    assert "labs, virology: server not reachable; address, firewall, certificate" in text
    assert "UNREACHABLE: no search worked." in text
    assert "patient 1: no search worked" in text
    assert "Values found" not in text
    half = report(searched(SEARCH, replace(failed, key="labs")))
    assert "failed 1 of 2" in half
    cut = report(searched(replace(SEARCH, outcome="partial", why="page-limit", unsent=("date",))))
    assert "sent without date" in cut
    assert "searches that did not work to their end: labs" in cut


def test_what_could_not_be_looked_at_is_not_called_missing() -> None:
    def shown(*patients: Patient) -> tuple[str, str]:
        made = replace(findings(), patients=patients)
        [said] = {one["looked"] for one in answer(made)["concepts"] if one["need"] == "labs"}
        [row] = [line for line in report(made).splitlines() if line.startswith("  Factor V")]
        return said, " ".join(row.split())

    cut = replace(SEARCH, outcome="partial", why="page-limit")
    own = replace(FORBIDDEN, planned=False, own=True)
    assert shown(Patient("p", (SEARCH, own))) == ("yes", "Factor V not found")
    assert shown(Patient("p", (FORBIDDEN,))) == ("no", "Factor V not looked at")
    assert shown(Patient("p", ())) == ("no", "Factor V not looked at")
    assert shown(Patient("p", (SEARCH,), None, True)) == ("no", "Factor V not looked at")
    partly = ("part", "Factor V not found in what was read")
    assert shown(Patient("p", (cut,))) == partly
    assert shown(Patient("p", (SEARCH,)), Patient("q", (FORBIDDEN,))) == partly
    assert shown(Patient("p", (SEARCH,), None, False, ("labs",))) == partly
    assert shown(Patient("p", (SEARCH,), None, False, ("virology",)))[0] == "yes"


def test_what_worked_alone_and_not_as_one_hook_is_said() -> None:
    many = replace(FORBIDDEN, key="orders", params=(("status", "429"),))
    made = searched(SEARCH, hook=Hook(900, 16, 1000, (), (many, replace(many, key="labs"), BESIDE)))
    text = " ".join(report(made).split())
    assert "as one hook: orders, labs: server refused (429), although they worked alone" in text
    assert "as one hook: medication: not read, although it worked alone" in text
    assert "patient 1: as one hook 900 ms of 1.4 s, 16 requests, 1 kB, orders: server refused (429), labs:" in text
    assert answer(made)["lost"][0] == {"need": "orders", "why": "server refused (429)"}
    assert answer(made)["patients"]["examined"][0]["hook"]["lost"] == answer(made)["lost"]


def test_records_of_others_in_an_answer_are_a_gap_with_its_searches() -> None:
    made = replace(findings(), patients=(Patient("p", (SEARCH,), Hook(1, 1, 1), False, ("labs", "orders")),))
    assert "answers hold records of other patients, which were left out: labs, orders" in report(made)
    assert answer(made)["patients"]["examined"][0]["mixed"] == ["labs", "orders"]


def test_who_was_not_examined_is_listed() -> None:
    made = replace(findings(), not_examined=("patient 2", "patient 3"))
    assert "  patients not examined: 2" in report(made)
    assert "  not examined: patient 2, patient 3" in report(made)
    assert answer(made)["patients"]["not_examined"] == ["patient 2", "patient 3"]


@pytest.mark.parametrize(
    ("why", "status", "remedy"),
    [
        ("refused", "302", "the base address is another one; redirects are not followed"),
        ("refused", "400", "the server does not take a parameter"),
        ("refused", "401", "no token, or not accepted"),
        ("refused", "403", "the token lacks Observation.rs, or the right to this patient"),
        ("refused", "418", None),
        ("not-found", "404", "the base address is another one, or the server has no Observation: then absent_source"),
        ("server-error", "500", "look into the server's log at this time"),
    ],
)
def test_the_remedy_is_that_of_the_status_seen(why: str, status: str, remedy: str | None) -> None:
    [labs] = answer(searched(replace(FORBIDDEN, why=why, params=(("status", status),))))["searches"]
    [said] = labs.get("remedy", [None])
    assert said == remedy or (remedy and said.startswith(remedy))


@pytest.mark.parametrize(
    ("why", "status", "advised"),
    [
        ("refused", "403", True),
        ("refused", "401", False),
        ("refused", "302", False),
        ("server-error", "500", True),
        ("timeout", "", True),
        ("unreachable", "", False),
        ("not-fhir-json", "", False),
    ],
)
def test_why_nobody_could_be_chosen_is_said(why: str, status: str, advised: bool) -> None:
    params = (("status", status),) if status else ()
    one = replace(FORBIDDEN, key="choosing-results", how="newest", planned=False, own=True, why=why, params=params)
    made = replace(
        findings(), patients=(), inputs=(), chosen="failed", choosing=(one, replace(one, key="choosing-list"))
    )
    text = " ".join(report(made).split())
    [reason] = answer(made)["patients"]["why"]
    assert f"Patients 0, none: neither results nor patients could be searched ({reason})" in text
    assert f"choosing-results, choosing-list: {reason}; " in text
    assert ("or name patients: --patient ID" in text) == advised
    assert answer(made)["status"] == "unreachable"


def test_an_id_that_nobody_has_is_no_wrong_address() -> None:
    nobody = replace(SEARCH, key="patient", resource_type="Patient", outcome="failed", why="not-found")
    text = report(searched(SEARCH, nobody))
    assert "no patient has this id here" in text
    assert "absent_source" not in text.partition("Values found")[0]


def test_what_a_hook_has_no_time_for_is_said() -> None:
    text = report(searched(SEARCH, hook=Hook(1400, 16, 2_500_000, ("labs",))))
    assert "too late for a hook of 1.4 s: labs" in text
    assert "2.5 MB, too late: labs" in text


def test_another_patient_in_the_answer_is_said() -> None:
    text = report(replace(findings(), patients=(Patient("patient 1", (SEARCH,), Hook(1, 1, 1), True),)))
    assert "the server answered with another patient than was asked for" in text


def test_nobody_was_examined() -> None:
    text = report(
        replace(
            findings(),
            patients=(),
            inputs=(),
            found=(),
            refused=(),
            look_alikes=(),
            others=(),
            uncoded={},
            records={},
            chosen="list",
        )
    )
    assert "no patient was examined" in text
    assert "Patients  0, the first of the server's list" in text
    assert "Not used" not in text
    assert "Look-alikes" not in text
    assert "Other records" not in text


def test_what_is_ready_says_so_first() -> None:
    text = report(all_ready())
    assert text.splitlines()[2].startswith("READY")
    assert "1 of" not in text.splitlines()[2]


def test_cells_are_wrapped() -> None:
    lines = _grid("T", [("a", "word " * 40, "x" * 90)], heads=("1", "2", "3"))
    assert max(map(len, lines)) <= WIDTH + 2
    assert "".join(lines).count("word") == 40
    assert "".join(lines).count("x") == 90
    assert _folded("", 5) == [""]
    assert _folded("aaa bbb", 3) == ["aaa", "bbb"]
    assert _folded("a bbbbbbb", 3) == ["a", "bbb", "bbb", "b"]
    assert _grid("T", [], heads=("1",)) == []
    assert (_size(999), _size(1000), _size(1_500_000)) == ("999 B", "1 kB", "1.5 MB")


# --- the draft --------------------------------------------------------------------------------------------

PROPOSAL = re.compile(r'^( *)#(?=["\[]|signed_|concept =|generic_ecmo =|alt =)', re.MULTILINE)


def test_the_draft_as_written_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "overlay.toml"
    path.write_text(overlay(findings()), encoding="utf-8")
    with pytest.raises(SettingsError, match="signed_by: is missing"):
        load_overlay(path)


def test_a_signature_alone_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "overlay.toml"
    path.write_text('signed_by = "Dr. A"\nsigned_on = 2026-11-23\n' + overlay(findings()), encoding="utf-8")
    assert load_overlay(path) == Overlay()


def uncommented() -> str:
    text = PROPOSAL.sub(r"\1", overlay(findings()))
    return text.replace("YYYY-MM-DD", "2026-11-23")


def test_taking_all_marks_away_is_no_signature(tmp_path: Path) -> None:
    path = tmp_path / "overlay.toml"
    path.write_text(PROPOSAL.sub(r"\1", overlay(findings())), encoding="utf-8")
    with pytest.raises(SettingsError, match="not TOML"):
        load_overlay(path)
    path.write_text(uncommented(), encoding="utf-8")
    with pytest.raises(SettingsError, match="signed_by"):
        load_overlay(path)
    path.write_text(uncommented().replace('signed_by = ""', 'signed_by = "Dr. A"'), encoding="utf-8")
    with pytest.raises(SettingsError, match="local_uln"):
        load_overlay(path)
    limited = uncommented().replace('signed_by = ""', 'signed_by = "Dr. A"').replace('alt = "?"', "alt = 45")
    path.write_text(limited, encoding="utf-8")
    with pytest.raises(SettingsError, match=r"unit_when_absent: loinc\|1988-5"):
        load_overlay(path)


def edited(tmp_path: Path) -> Overlay:
    """Every proposal taken over, every question mark answered, signed."""
    path = tmp_path / "overlay.toml"
    text = uncommented().replace('signed_by = ""', 'signed_by = "Dr. A"')
    text = text.replace('alt = "?"   # a number, no quotes', "alt = 45").replace(
        '"loinc|1988-5" = "?"', '"loinc|1988-5" = "mg/L"'
    )
    path.write_text(text, encoding="utf-8")
    return load_overlay(path)


def test_every_proposal_is_one_that_the_service_takes(tmp_path: Path) -> None:
    signed = edited(tmp_path)
    assert signed.codes[f"{SITE}|1234"] == ("crp", "")
    assert signed.codes[f"{SITE}|GAS"] == ("?", "")
    assert signed.codes[f"{SITE}|PL"] == ("pplat", "")
    assert signed.percent_means_fraction == {"loinc|19994-3"}
    assert signed.static == {"mdc|151688"}
    assert signed.arterial == {"loinc|11556-8"}
    assert signed.generic_ecmo_is_veno_venous
    assert signed.not_measured == {"anc", "ast"}
    assert signed.unit_when_absent == {"loinc|1988-5": "mg/L"}
    assert {name: str(limit) for name, limit in signed.local_uln.items()} == {"alt": "45"}
    assert signed.products == {f"{SITE}|KIN100": ("anakinra",)}
    assert signed.irrelevant_products == {f"{SITE}|4711"}
    assert signed.conditions == {f"{SITE}|DNR": ("comfort-care",)}


def test_the_signed_overlay_answers_what_the_draft_asked(tmp_path: Path) -> None:
    signed = edited(tmp_path)
    facts, _ = facts_of(chart(), overlay=signed)
    refused = {(gap.concept, gap.why) for gap in facts.gaps}
    assert {("fio2", "fraction-unclear"), ("crp", "no-unit")} & refused == {("fio2", "fraction-unclear")}
    assert [gap.params[1][1] for gap in facts.gaps if gap.why == "fraction-unclear"] == ["1"], "60 without a sign stays"
    for concept in ("crs", "pao2", "crp", "pplat"):
        assert facts.of(concept)


def test_a_hostile_name_stays_in_its_comment(tmp_path: Path) -> None:
    lines = [line for line in overlay(findings()).splitlines() if "pwned" in line]
    assert lines
    assert all(line.startswith("# ") for line in lines)
    table_ = tomllib.loads(overlay(findings()))
    assert set(table_) <= {
        *("percent_means_fraction", "static", "arterial", "not_measured", "irrelevant_products"),
        *("unit_when_absent", "local_uln", "products", "conditions"),
    }
    assert not any(table_.values())


def test_a_hostile_code_is_a_toml_string(tmp_path: Path) -> None:
    code = 'a"]\\#[x'
    one = LookAlike("codes", "Observation.code", f"{SITE}|{code}", "", ("peep",), 1, (), False)
    drug = LookAlike("products", "MedicationRequest.medication", f"{SITE}|{code}", "", ("anakinra",), 1)
    made = replace(findings(), look_alikes=(one, drug), refused=(), records={})
    text = PROPOSAL.sub(r"\1", overlay(made)).replace("YYYY-MM-DD", "2026-11-23")
    path = tmp_path / "overlay.toml"
    path.write_text(text.replace('signed_by = ""', 'signed_by = "Dr. A"'), encoding="utf-8")
    signed = load_overlay(path)
    assert signed.codes == {f"{SITE}|{code}": ("peep", "")}
    assert signed.products == {f"{SITE}|{code}": ("anakinra",)}


def test_a_code_that_cannot_be_written_is_not_proposed() -> None:
    one = Refused("fio2", "fraction-unclear", "fraction or percent?", 2, "respiratory", "0.3", "%", ("s|\x1b", "s|b"))
    text = overlay(replace(findings(), refused=(one,)))
    assert '  # 2 times: fraction or percent?, newest 0.3 %; also seen on s|\n  #"s|b",' in text
    assert "\x1b" not in text


def test_types_that_the_server_does_not_have_are_proposed() -> None:
    gone = replace(SEARCH, key="immunizations", resource_type="Immunization", outcome="failed", why="not-found")
    here = replace(SEARCH, key="allergies", resource_type="AllergyIntolerance")
    lost = replace(SEARCH, key="allergies", resource_type="AllergyIntolerance", outcome="failed", why="not-found")
    nobody = replace(SEARCH, key="patient", resource_type="Patient", outcome="failed", why="not-found")
    made = searched(gone, here, lost, nobody, server=Server("https://x", True, missing_types=("Procedure",)))
    text = PROPOSAL.sub(r"\1", overlay(made)).partition("absent_source = [")[2].partition("]")[0]
    assert re.findall(r'"(\w+)"', text) == ["Procedure", "Immunization"]


def proposed(name: str, made: Findings) -> list[str]:
    return re.findall(r'#"(\w+)"', overlay(made).partition(f"{name} = [")[2].partition("]")[0])


def test_what_was_not_looked_at_is_not_proposed_as_never_measured() -> None:
    assert proposed("not_measured", findings()) == ["anc", "ast"]
    for searches in ((FORBIDDEN,), (replace(SEARCH, outcome="partial"),), (SEARCH, FORBIDDEN), ()):
        assert proposed("not_measured", searched(*searches)) == [], searches
    mixed = replace(findings(), patients=(Patient("p", (SEARCH,), None, False, ("labs",)),))
    assert proposed("not_measured", mixed) == []


def test_a_type_that_was_read_in_part_is_not_proposed_as_absent() -> None:
    cut = replace(SEARCH, key="allergies", resource_type="AllergyIntolerance", outcome="partial", why="not-found")
    assert proposed("absent_source", searched(cut)) == []
    assert proposed("absent_source", searched(replace(cut, outcome="failed", why="refused"))) == []
    assert proposed("absent_source", searched(replace(cut, outcome="failed"))) == ["AllergyIntolerance"]


def test_a_kind_that_the_mapping_refuses_is_not_offered() -> None:
    crp = LookAlike("codes", "Observation.code", f"{SITE}|1", "CRP", ("crp",), 1)
    fio2 = LookAlike("codes", "Observation.code", f"{SITE}|2", "FiO2", ("fio2",), 1)
    text = overlay(replace(findings(), look_alikes=(crp, fio2)))
    assert "# kind of fio2: ventilator, inhaled; without one: ventilator" in text
    assert "kind of crp" not in text


def test_a_draft_of_nothing_has_no_proposal() -> None:
    made = replace(
        all_ready(), refused=(), look_alikes=(), records={}, uncoded={}, patients=(Patient("a"), Patient("b"))
    )
    text = overlay(made)
    assert "2 patients" in text
    assert PROPOSAL.findall(text) == ["", ""], "the signature only"
