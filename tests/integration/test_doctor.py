"""Doctor against FHIR servers: the demo's, one that nobody has configured, published examples, and hostile ones."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from joserfc.jwk import ECKey
from starlette.applications import Starlette
from starlette.routing import Mount

from app import cli, settings
from app.doctor.document import document
from app.doctor.draft import overlay
from app.doctor.examination import Case, examine
from app.doctor.findings import Findings
from app.doctor.table import table
from app.gateway.backend_services import Credentials
from app.gateway.fhir import Limits
from app.sandbox import patients
from app.sandbox.fhir import PARAMETERS, create_fhir
from app.settings import Tenant
from fhir_mappings.facts import Overlay
from tests.integration.hospital import FHIR, NOW, TOKEN, Wire, everybody
from tests.integration.test_wire import listening, loopback
from tests.unit.app.bundles import bedside
from tests.unit.app.doctor import local

REAL = Path(__file__).resolve().parents[3] / "shared" / "real-fhir"
Answers = Callable[[httpx.Request], httpx.Response | None]


def server(resources: Any = None, *, now: datetime = NOW, faults: Any = None) -> Starlette:
    return create_fhir(resources or everybody, base_url=FHIR, clock=lambda: now, faults=faults or {})


def case(*ids: str, now: datetime = NOW, overlay: Overlay | None = None, **more: Any) -> Case:
    tenant = Tenant("h", (FHIR,), ZoneInfo("Europe/Berlin"), overlay or Overlay())
    return Case(
        tenant, FHIR, now, patients=ids, **({"deadline_seconds": 20.0, "limits": Limits(call_seconds=20)} | more)
    )


async def examined(
    asked: Case, *, app: Any = None, answers: Answers | None = None, progress: list[str] | None = None
) -> tuple[Findings, Wire]:
    wire = Wire(app or server(), answers=answers)
    told = [] if progress is None else progress
    return await examine(asked, bedside=bedside(), progress=told.append, transport=wire), wire


def ready(findings: Findings) -> list[str]:
    return [one.name for one in findings.inputs if one.ready]


def whole(findings: Findings) -> dict[str, Any]:
    return document(findings, texts=bedside().plain)


# --- the demo set -----------------------------------------------------------------------------------------


async def test_a_patient_who_has_everything_is_ready() -> None:
    told: list[str] = []
    sent: set[tuple[str, str | None]] = set()

    def note(request: httpx.Request) -> None:
        sent.add((request.url.path, request.headers.get("authorization")))

    findings, _ = await examined(case("demo-full-protocol", token=TOKEN), progress=told, answers=note)
    assert (findings.status, findings.chosen, findings.missing) == ("ready", "given", ())
    assert [search.key for search in findings.planned] == [need.key for need in bedside().needs]
    assert "  4/19 respiratory (Observation by code) … 30 results, 1 page, " in told[6]
    assert ("/fhir/metadata", None) in sent, "the statement belongs to no patient"
    assert {token for path, token in sent if path != "/fhir/metadata"} == {f"Bearer {TOKEN}"}
    assert TOKEN not in repr(findings) + "".join(told)


async def test_what_doctor_counts_is_what_the_service_reads() -> None:
    findings, _ = await examined(case("demo-us-units", "demo-kilopascal"))
    concepts = {one["concept"]: one for one in whole(findings)["concepts"]}
    assert {u["unit"] for u in concepts["crp"]["units"]} == {"mg/dL", "mg/L"}
    assert {u["unit"] for u in concepts["pao2"]["units"]} >= {"kPa"}
    assert concepts["crp"]["patients"] == 2
    assert findings.status == "ready"


async def test_every_search_is_sent_once_alone_and_once_as_a_hook() -> None:
    _, wire = await examined(case("demo-full-protocol"))
    sent = [path for _, path, _ in wire.sent]
    assert sent.count("/fhir/Patient/demo-full-protocol") == 2
    assert sent.count("/fhir/AllergyIntolerance") == 2
    assert not any(path.rpartition("/")[2] in {"$validate", "$expand"} for path in sent)


async def test_medications_that_are_references_are_followed_and_timed() -> None:
    findings, _ = await examined(case("demo-never-proned"))
    [patient] = findings.patients
    beside = [(search.key, search.how) for search in patient.searches if not search.planned]
    assert ("medication", "by id") in beside
    assert ("long-acting", "all") in beside
    assert findings.status == "ready"


async def test_patients_are_chosen_by_their_results() -> None:
    told: list[str] = []
    findings, _ = await examined(case(sample=3), progress=told)
    assert (findings.chosen, len(findings.patients), findings.status) == ("results", 3, "ready")
    assert [one.label for one in findings.patients] == [f"patient {n}" for n in range(1, 4)]
    shown = "".join(told) + table(whole(findings)) + json.dumps(whole(findings)) + overlay(findings)
    assert "patient 3" in shown
    names = [story.patient_id for story in patients.STORIES] + [story.name for story in patients.STORIES]
    assert [name for name in names if name in shown] == []


async def test_patients_are_taken_from_the_list_where_no_result_is_known() -> None:
    people = [local.person() | {"id": f"p{n}"} for n in range(4)]
    findings, _ = await examined(case(sample=3), app=server(people))
    assert (findings.chosen, len(findings.patients), findings.status) == ("list", 3, "gaps")


async def test_patients_with_most_of_the_concepts_come_first() -> None:
    def of(patient: str, number: int, code: str, hours: float) -> Any:
        made = local.observation(number, (local.LOINC, code, ""), hours=hours)
        return made | {"subject": {"reference": patient}}

    people = [local.person() | {"id": name} for name in ("one", "two", "three")]
    results = [
        of("Patient/one", 1, "1988-5", 1),
        of(f"{FHIR}/Patient/two", 2, "1988-5", 3),
        of("Patient/two/_history/1", 3, "2276-4", 4),
        of("Patient/three", 4, "600-7", 1),
        of("https://elsewhere.example.org/Patient/four", 5, "2703-7", 1),
        of("Group/g", 6, "2703-7", 1),
    ]
    asked: list[str] = []

    def note(request: httpx.Request) -> None:
        if "/Patient/" in request.url.path:
            asked.append(request.url.path.rpartition("/")[2])

    findings, _ = await examined(case(sample=5), app=server([*people, *results]), answers=note)
    assert list(dict.fromkeys(asked)) == ["two", "one"]
    assert findings.chosen == "results"


async def test_a_site_code_is_asked_for_when_patients_are_chosen() -> None:
    signed = Overlay(codes={f"{local.SITE}|1234": ("crp", ""), f"{local.SITE}|a,b": ("crp", ""), "x|1": ("peep", "")})
    findings, _ = await examined(case(sample=1, now=local.NOW, overlay=signed), app=server(local.chart()))
    assert findings.chosen == "results"
    assert "crp" in ready(findings)


async def test_a_search_that_is_refused_to_one_patient_is_a_gap() -> None:
    app = server(faults=patients.faults())
    findings, _ = await examined(case("demo-full-protocol", "demo-medications-refused"), app=app)
    assert findings.status == "gaps"
    assert {search.key for search in findings.not_whole} >= {"orders", "administrations"}
    text = table(whole(findings))
    assert "failed 1 of 2" in text
    assert "server refused (403)" in text


async def test_a_server_too_slow_for_a_hook_is_told() -> None:
    inner, asked_for = server(), 0

    async def never_again(scope: Any, receive: Any, send: Any) -> None:
        """Answers the search that stands alone, and the hook's never: no load of this machine changes what is late."""
        nonlocal asked_for
        if scope["path"] == "/Immunization":
            asked_for += 1
            if asked_for > 1:
                await asyncio.Event().wait()
        await inner(scope, receive, send)

    findings, _ = await examined(case("demo-full-protocol", deadline_seconds=0.5), app=never_again)
    assert "immunizations" in findings.late
    assert findings.status == "gaps"
    assert [one.outcome for one in findings.planned if one.key == "immunizations"] == ["empty"], "alone it is read"


def again(status: int, path: str) -> Answers:
    """Refuses what it has answered before: what a hook asks for, after it was asked alone."""
    seen: set[str] = set()

    def answers(request: httpx.Request) -> httpx.Response | None:
        if not request.url.path.endswith(path):
            return None
        known = str(request.url) in seen
        seen.add(str(request.url))
        return httpx.Response(status) if known else None

    return answers


async def test_what_fails_only_side_by_side_is_a_gap() -> None:
    told: list[str] = []
    findings, _ = await examined(case("demo-full-protocol"), answers=again(429, "/MedicationRequest"), progress=told)
    assert (findings.status, findings.not_whole) == ("gaps", ())
    assert {one.key for one in findings.lost} == {"orders", "orders-recent"}
    text = " ".join(table(whole(findings)).split())
    assert "as one hook: orders, orders-recent: server refused (429), although they worked alone" in text
    assert ", orders failed: refused (429), " in told[-1]
    assert told[-1].index("orders failed") < told[-1].index("orders-recent failed"), "in the order of the plan"


async def test_what_fails_alone_too_is_said_once() -> None:
    def answers(request: httpx.Request) -> httpx.Response | None:
        return httpx.Response(403) if request.url.path.endswith("/MedicationRequest") else None

    findings, _ = await examined(case("demo-full-protocol"), answers=answers)
    assert {one.key for one in findings.not_whole} == {"orders", "orders-recent"}
    assert findings.lost == ()


async def test_medications_by_reference_that_may_not_be_read_are_a_gap() -> None:
    def answers(request: httpx.Request) -> httpx.Response | None:
        return httpx.Response(403) if request.url.path.endswith("/Medication") else None

    findings, _ = await examined(case("demo-never-proned"), answers=answers)
    assert (findings.status, {one.key for one in findings.not_whole}) == ("gaps", {"medication"})
    assert "searches that did not work to their end: medication\n" in table(whole(findings))


async def test_labs_that_may_not_be_read_are_not_said_to_be_missing() -> None:
    def answers(request: httpx.Request) -> httpx.Response | None:
        forbidden = "1988-5" in str(request.url) + (request.content.decode() if request.method == "POST" else "")
        return httpx.Response(403) if forbidden else None

    findings, _ = await examined(case("demo-full-protocol"), answers=answers)
    assert {one.key for one in findings.not_whole} == {"labs"}
    looked = {one["concept"]: one["looked"] for one in whole(findings)["concepts"]}
    assert (looked["crp"], looked["anc"], looked["peep"]) == ("no", "no", "yes")
    assert "not_measured" not in overlay(findings)


async def test_one_patient_out_of_reach_ends_nothing() -> None:
    def answers(request: httpx.Request) -> httpx.Response | None:
        return httpx.Response(403) if "elsewhere" in str(request.url) or request.method == "POST" else None

    findings, text = await unusable(answers, "elsewhere", "demo-full-protocol")
    assert [one.label for one in findings.patients] == ["Patient/elsewhere", "Patient/demo-full-protocol"]
    assert (findings.status, findings.not_examined) == ("gaps", ())
    assert "Patient/elsewhere: no search worked" in text


async def test_the_whole_run_ends_in_time() -> None:
    told: list[str] = []

    def clock() -> float:
        return 600.0 * sum("as one hook" in line for line in told)

    asked = case("demo-full-protocol", "demo-crp-100", "demo-us-units")
    findings = await examine(asked, bedside=bedside(), progress=told.append, transport=Wire(server()), clock=clock)
    assert [one.label for one in findings.patients] == ["Patient/demo-full-protocol", "Patient/demo-crp-100"]
    assert findings.not_examined == ("Patient/demo-us-units",)
    assert findings.status == "gaps"
    assert told[-1] == "  15 min are over: nobody else is asked for"


# --- a hospital that nobody has configured ---------------------------------------------------------------


async def test_gaps_become_an_overlay_and_the_overlay_closes_them(tmp_path: Path) -> None:
    app = server(local.chart())
    before, _ = await examined(case(local.PATIENT, now=local.NOW), app=app)
    assert before.status == "gaps"
    assert "crp" not in ready(before)
    assert "add to the site overlay (codes)" in table(whole(before))
    text = overlay(before)
    path = tmp_path / "overlay.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(settings.SettingsError, match="signed_by"):
        settings.load_overlay(path)
    block = f'#[codes."{local.SITE}|1234"]\n#concept = "crp"'
    assert block in text
    signed = text.replace('#signed_by = ""', 'signed_by = "Dr. A"').replace(
        "#signed_on = YYYY-MM-DD", "signed_on = 2026-11-23"
    )
    signed = signed.replace(block, block.replace("#", "")).replace('#"mdc|151688"', '"mdc|151688"')
    path.write_text(signed, encoding="utf-8")
    overlay_ = settings.load_overlay(path)
    after, _ = await examined(case(local.PATIENT, now=local.NOW, overlay=overlay_), app=app)
    assert {"crp", "crs"} <= set(ready(after))


async def test_a_site_with_credentials_of_its_own_is_read_with_them() -> None:
    issuer, own = "https://auth.example.org/token", "own-token-4c"
    sent: set[str | None] = set()

    def answers(request: httpx.Request) -> httpx.Response | None:
        if str(request.url) == issuer:
            scope = httpx.QueryParams(request.content.decode())["scope"]
            return httpx.Response(
                200, json={"access_token": own, "token_type": "bearer", "expires_in": 300, "scope": scope}
            )
        if not request.url.path.endswith("/metadata"):
            sent.add(request.headers.get("authorization"))
        return None

    key = ECKey.generate_key("P-384")
    backend = Credentials(client_id="rescue-cds", token_url=issuer, algorithm="ES384", key_id="k1", key=key)
    asked = case("demo-full-protocol")
    asked = replace(asked, tenant=replace(asked.tenant, backend=backend))
    findings, _ = await examined(asked, answers=answers)
    assert (findings.status, sent) == ("ready", {f"Bearer {own}"})
    sent.clear()
    await examined(replace(asked, token=TOKEN), answers=answers)
    assert sent == {f"Bearer {TOKEN}"}, "a token that the caller gives is used alone"


async def test_types_that_the_site_lacks_are_not_asked_for() -> None:
    signed = Overlay(absent_source=frozenset({"AllergyIntolerance"}))
    findings, wire = await examined(case("demo-full-protocol", overlay=signed))
    assert not any("AllergyIntolerance" in path for _, path, _ in wire.sent)
    assert [one.states for one in findings.inputs if one.name == "allergies"] == [(("signed", 1),)]
    assert findings.status == "ready"


async def test_results_of_another_patient_are_not_looked_at() -> None:
    other = local.observation(1, (local.SITE, "1", "CRP")) | {"subject": {"reference": "Patient/other"}}
    page = {"resourceType": "Bundle", "entry": [{"resource": other, "search": {"mode": "match"}}]}

    def answers(request: httpx.Request) -> httpx.Response | None:
        return httpx.Response(200, json=page) if request.url.path.endswith("/Observation") else None

    findings, _ = await examined(case(local.PATIENT, now=local.NOW), app=server([local.person()]), answers=answers)
    assert findings.look_alikes == ()
    assert {one.why for one in findings.refused} == {"other-patient"}


async def test_records_of_others_among_the_own_are_a_gap() -> None:
    vaccine = {
        "resourceType": "Immunization",
        "id": "i1",
        "status": "completed",
        "patient": {"reference": "Patient/other"},
        "vaccineCode": {"text": "canary"},
        "occurrenceDateTime": "2026-01-01",
    }
    page = {"resourceType": "Bundle", "entry": [{"resource": vaccine, "search": {"mode": "match"}}]}

    def answers(request: httpx.Request) -> httpx.Response | None:
        return httpx.Response(200, json=page) if request.url.path.endswith("/Immunization") else None

    findings, text = await unusable(answers, "demo-full-protocol")
    assert (findings.not_whole, findings.missing, findings.mixed) == ((), (), ("immunizations",))
    assert findings.status == "gaps"
    assert "answers hold records of other patients, which were left out: immunizations" in text


async def test_results_of_nobody_are_not_looked_at() -> None:
    nobodys = local.observation(1, (local.SITE, "1", "CRP"))
    del nobodys["subject"]
    page = {"resourceType": "Bundle", "entry": [{"resource": nobodys, "search": {"mode": "match"}}]}

    def answers(request: httpx.Request) -> httpx.Response | None:
        return httpx.Response(200, json=page) if request.url.path.endswith("/Observation") else None

    findings, _ = await examined(case(local.PATIENT, now=local.NOW), app=server([local.person()]), answers=answers)
    assert (findings.look_alikes, findings.others) == ((), ())


async def test_another_patient_in_place_of_the_one_asked_for() -> None:
    def answers(request: httpx.Request) -> httpx.Response | None:
        if "/Patient/" in request.url.path:
            return httpx.Response(200, json=local.person() | {"id": "somebody-else"})
        return None

    findings, _ = await examined(case("demo-full-protocol"), answers=answers)
    assert findings.status == "gaps"
    assert findings.patients[0].other_patient
    assert findings.inputs == ()


# --- what others have published ----------------------------------------------------------------------------

published = pytest.mark.skipif(not REAL.is_dir(), reason="the published examples are not part of the project")


@published
async def test_published_german_and_us_examples() -> None:
    read = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(REAL.rglob("*.json"))]
    resources = [one for one in read if one["resourceType"] in PARAMETERS]
    now = datetime(2019, 12, 23, 10, 0, tzinfo=UTC)
    people = [local.person() | {"id": name} for name in ("111", "example")]
    findings, _ = await examined(case("111", "example", now=now), app=server([*people, *resources], now=now))
    refused = {(one.concept, one.why): one for one in findings.refused}
    trap = refused["fio2", "fraction-unclear"]
    assert (trap.example, trap.unit, trap.codes) == ("0.3", "%", ("loinc|19994-3", "snomed|250774007"))
    assert '#"loinc|19994-3",' in overlay(findings).partition("percent_means_fraction = [")[2]
    assert refused["fio2", "ambiguous-coding"].codes == ("loinc|71835-3", "snomed|250774007", "snomed|27913002")
    dynamic = refused["crs", "implausible"]
    assert (dynamic.example, dynamic.unit) == ("200.0", "mL/cm[H2O]")
    concepts = {one["concept"]: one for one in whole(findings)["concepts"]}
    assert concepts["peep"]["codes"] == [{"code": "loinc|76248-4", "count": 1}]
    assert concepts["pf"]["newest"]["value"] == "350"
    assert findings.status == "gaps"


# --- servers that misbehave --------------------------------------------------------------------------------


async def unusable(answers: Answers, *ids: str, **more: Any) -> tuple[Findings, str]:
    findings, _ = await examined(case(*ids, **more), answers=answers)
    return findings, " ".join(table(whole(findings)).split())


def refusing(status: int, **more: Any) -> Answers:
    return lambda _: httpx.Response(status, **more)


@pytest.mark.parametrize("ids", [("demo-full-protocol", "demo-crp-100"), ()])
@pytest.mark.parametrize(
    ("answers", "said", "asked"),
    [
        (refusing(401), "server refused (401)", 2),
        (refusing(404), "not found on the server (404)", 2),
        (refusing(302, headers={"location": "https://login.example.org"}), "server refused (302)", 2),
        (refusing(200, text="<html><body>Sign in, canary</body></html>"), "answer was not FHIR", 1),
        (
            refusing(200, json={"resourceType": "OperationOutcome", "issue": [{"severity": "error"}]}),
            "server reported that the search failed",
            2,
        ),
    ],
)
async def test_a_server_that_answers_nothing_is_unreachable(
    answers: Answers, said: str, asked: int, ids: tuple[str, ...]
) -> None:
    told: list[str] = []
    findings, _ = await examined(case(*ids), answers=answers, progress=told)
    text = " ".join(table(whole(findings)).split())
    assert findings.status == "unreachable"
    assert "UNREACHABLE" in text
    assert "canary" not in text
    assert said in text
    assert len(findings.patients) == (asked if ids else 0), "no patient is asked for where no FHIR server answers"
    assert findings.not_examined == (("Patient/demo-crp-100",) if ids and asked == 1 else ())
    if not ids:
        assert f"neither results nor patients could be searched ({said})" in text
        assert told[2].startswith("choosing patients") or told[3].startswith("  choosing-results (Observation newest)")


async def test_a_server_that_does_not_answer_is_given_up_early() -> None:
    calls: list[str] = []

    def dead(request: httpx.Request) -> httpx.Response:
        calls.append(request.url.path)
        raise httpx.ConnectError("no route")

    findings, text = await unusable(dead, "demo-full-protocol")
    assert findings.status == "unreachable"
    assert "server not reachable" in text
    assert "not asked: the server has just not answered" in text
    assert len(calls) < 15


async def test_a_server_without_a_statement_is_asked_whole() -> None:
    def answers(request: httpx.Request) -> httpx.Response | None:
        return httpx.Response(404) if request.url.path.endswith("/metadata") else None

    findings, text = await unusable(answers, "demo-full-protocol")
    assert "no capability statement could be read" in text
    assert findings.status == "ready"


async def test_what_the_server_does_not_declare_is_told() -> None:
    types = [
        {"type": name, "searchParam": [{"name": p} for p in known if (name, p) != ("Observation", "date")]}
        for name, known in PARAMETERS.items()
        if name != "Immunization"
    ]
    statement = {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1", "rest": [{"resource": types}]}

    def answers(request: httpx.Request) -> httpx.Response | None:
        return httpx.Response(200, json=statement) if request.url.path.endswith("/metadata") else None

    findings, text = await unusable(answers, "demo-full-protocol")
    assert findings.server.missing_types == ("Immunization",)
    assert ("labs", "date") in findings.server.missing_parameters
    assert "not offered, so not asked for: Immunization" in text
    assert "sent without date" in text
    assert '#"Immunization",' in overlay(findings)
    assert findings.status == "gaps"


async def test_a_very_long_chart_is_cut_off() -> None:
    """20,000 results, of which the service would read as many: 20 pages."""
    pages: list[int] = []

    def answers(request: httpx.Request) -> httpx.Response | None:
        if not request.url.path.endswith("/Observation") or "code" in request.url.params:
            return None
        number = int(request.url.params.get("page", "0"))
        pages.append(number)
        entries = [
            {"resource": local.observation(number * 100 + n, (local.SITE, "1", "CRP"), **local.quantity(5, "mg/L"))}
            for n in range(100)
        ]
        link = [{"relation": "next", "url": f"{FHIR}/Observation?page={number + 1}"}] if number < 199 else []
        return httpx.Response(200, json={"resourceType": "Bundle", "total": 20_000, "entry": entries, "link": link})

    findings, _ = await examined(case(local.PATIENT, now=local.NOW), app=server([local.person()]), answers=answers)
    broad = [one for one in findings.patients[0].searches if one.key.startswith("look-alikes")]
    assert [(one.outcome, one.why, one.results) for one in broad] == [("partial", "page-limit", 2000)] * 2
    assert max(pages) == 19
    [crp] = findings.look_alikes
    assert crp.count == 2000, "each result once, also where both searches found it"
    assert findings.not_whole == (), "what doctor asks beside the plan is no need of the service"


async def test_hostile_words_of_a_server_reach_no_terminal() -> None:
    statement = {"resourceType": "CapabilityStatement", "software": {"name": local.HOSTILE}, "fhirVersion": "\x1b[2J"}

    def answers(request: httpx.Request) -> httpx.Response | None:
        return httpx.Response(200, json=statement) if request.url.path.endswith("/metadata") else None

    told: list[str] = []
    findings, _ = await examined(
        case(local.PATIENT, now=local.NOW), app=server(local.chart()), answers=answers, progress=told
    )
    shown = "\n".join([*told, table(whole(findings)), overlay(findings)])
    assert all(line.isprintable() for line in shown.splitlines())
    for canary in (local.NAME, "letter", "Smith"):
        assert canary not in shown + json.dumps(whole(findings))


# --- over real sockets -------------------------------------------------------------------------------------


@pytest.fixture
async def address() -> AsyncIterator[str]:
    socket, base = loopback()
    app = create_fhir(patients.bundle, base_url=f"{base}/fhir", clock=lambda: datetime.now(UTC))
    async with listening(Starlette(routes=[Mount("/fhir", app)]), socket):
        yield f"{base}/fhir"


async def command(*arguments: str) -> int:
    """As at a terminal: the command has an event loop of its own."""
    return await asyncio.to_thread(cli.main, ["doctor", *arguments])


async def test_the_command_from_socket_to_report(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draft = tmp_path / "overlay.toml"
    config = tmp_path / "config.toml"
    config.write_text(
        '[service]\nprofile = "dev"\ndeadline_seconds = 20\n'
        f'[[tenants]]\nname = "h"\nzone = "Europe/Paris"\nfhir_bases = ["{address}"]\n',
        encoding="utf-8",
    )
    status = await command("--config", str(config), "--patient", "demo-full-protocol", "--overlay-draft", str(draft))
    out, err = capsys.readouterr()
    assert (status, out.splitlines()[2][:6]) == (0, "READY:")
    assert "17/19 procedures (Procedure all) … " in err
    assert draft.read_text(encoding="utf-8").startswith("# The start of a site overlay")
    assert await command("--config", str(config), "--sample", "2", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["schema"], answer["status"], len(answer["patients"]["examined"])) == (1, "ready", 2)
    assert answer["zone"] == "Europe/Paris"


async def test_the_command_where_nobody_listens(capsys: pytest.CaptureFixture[str]) -> None:
    socket, base = loopback()
    socket.close()
    assert await command("--fhir-url", base, "--seconds", "2") == 3
    assert "UNREACHABLE" in capsys.readouterr().out
