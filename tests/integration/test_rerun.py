"""Every answer can be made again of what was kept: for every demo patient and every kind of order, byte for byte."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app import cli, kept, knowledge
from app.decisions import library, records
from app.decisions import rerun as reruns
from app.decisions.records import Query, Record
from app.decisions.rerun import Rerun, rerun
from app.protocols import loader
from app.sandbox import patients
from app.sandbox.patients import Fault
from app.settings import Snooze
from app.store import readonly
from tests.databases import Database
from tests.integration.hospital import Hospital, decision, hook, opened, ordering, settings_for

MET = "demo-full-protocol"
TREATED = "demo-day-7"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
CODES = {"anakinra": "72435", "ruxolitinib": "1193326", "fluconazole": "4450", "paracetamol": "161"}


@pytest.fixture
async def hospital(tmp_path: Path) -> AsyncIterator[Hospital]:
    async with opened(tmp_path) as found:
        yield found


def draft(drug: str, patient_id: str, *, mg: float = 100, times: int = 1, **more: Any) -> dict[str, Any]:
    coded = {"coding": [{"system": RXNORM, "code": CODES[drug]}]} if drug in CODES else {}
    bounds = {"start": "2026-11-23", "end": "2027-02-01"}
    return {
        "resourceType": "MedicationRequest",
        "id": f"draft-{drug}",
        "status": "draft",
        "intent": "order",
        "text": {"status": "generated", "div": "<div>as narrated</div>"},
        "subject": {"reference": f"Patient/{patient_id}"},
        "medicationCodeableConcept": coded | {"text": drug},
        "dosageInstruction": [
            {
                "text": "as written",
                "timing": {"repeat": {"frequency": times, "period": 1, "periodUnit": "d", "boundsPeriod": bounds}},
                "doseAndRate": [
                    {"doseQuantity": {"value": mg, "unit": "mg", "system": "http://unitsofmeasure.org", "code": "mg"}}
                ],
            }
        ],
    } | more


def orders_of(patient_id: str) -> Iterator[list[dict[str, Any]]]:
    """Drafts that are corrected, removed, not looked at, not understood, by text, of a vaccine, and a whole course."""
    yield [draft("anakinra", patient_id, mg=600.5), draft("ruxolitinib", patient_id, mg=5, times=2)]
    yield [draft("ruxolitinib", patient_id, mg=40, times=2), draft("fluconazole", patient_id, mg=400)]
    yield [draft("fluconazole", patient_id, mg=400)]
    yield [draft("paracetamol", patient_id, mg=1000)]
    yield [draft("something unheard of", patient_id)]
    yield [draft("Kineret (anakinra)", patient_id)]
    cvx = {"coding": [{"system": "http://hl7.org/fhir/sid/cvx", "code": "03"}]}
    yield [draft("MMR", patient_id, medicationCodeableConcept=cvx)]
    yield [{**draft("anakinra", patient_id), "subject": {"identifier": {"system": "urn:x", "value": "unread"}}}]


@asynccontextmanager
async def beside(hospital: Hospital) -> AsyncIterator[AsyncEngine]:
    """The record as another process reads it."""
    engine = readonly.create(hospital.app.state.service.settings.db)
    try:
        yield engine
    finally:
        await engine.dispose()


async def read(hospital: Hospital) -> list[Record]:
    """Every decision."""
    async with beside(hospital) as engine:
        return [record async for page in records.pages(engine, Query()) for record in page]


async def again(hospital: Hospital) -> list[tuple[Record, Rerun]]:
    """Every decision evaluated again, with its own knowledge."""
    async with beside(hospital) as engine:
        shelf = library.Shelf(engine)
        return [
            (record, rerun(record, bedside=await shelf.take(record.knowledge_hash)))
            async for page in records.pages(engine, Query())
            for record in page
        ]


def check(found: list[tuple[Record, Rerun]], *, ways: set[str]) -> None:
    for record, made in found:
        assert (made.verdict, made.differences, made.why) == ("identical", (), ""), (record.hook, record.outcome)
    assert {record.reading["way"] for record, _ in found} == ways


async def test_every_demo_patient(hospital: Hospital) -> None:
    for story in patients.STORIES:
        body = hook(story.patient_id)
        body["context"]["encounterId"] = "Encounter/e-17"
        await hospital.call(body)
    found = await again(hospital)
    assert len(found) == len(patients.STORIES)
    check(found, ways={"assessed"})
    suggested = [record for record, _ in found if b"Encounter/e-17" in (record.answer or b"")]
    assert suggested
    assert any(record.outcome == "follow-up" for record, _ in found)


async def test_every_kind_of_order(hospital: Hospital) -> None:
    for patient_id in (MET, TREATED, "demo-deceased"):
        for drafts in orders_of(patient_id):
            for name in ("order-select", "order-sign"):
                await hospital.post(
                    ordering(patient_id, *drafts, hook=name, selections=[f"MedicationRequest/{drafts[0]['id']}"])
                )
    await hospital.post(ordering(MET, draft("anakinra", "somebody-else"), hook="order-sign"))
    found = await again(hospital)
    check(found, ways={"assessed", "unconcerned", "other-patient"})
    corrected = [record for record, _ in found if b'"type":"update"' in (record.answer or b"")]
    assert corrected
    for record in corrected:
        assert record.facts is not None
        assert list(kept.decode(record.facts).asked.orders) != []


async def test_only_a_draft_that_an_answer_holds_is_kept_and_without_words_about_it(hospital: Hospital) -> None:
    for drafts in orders_of(MET):
        await hospital.post(ordering(MET, *drafts, hook="order-sign"))
    for record in await read(hospital):
        asked = kept.Asked() if record.facts is None else kept.decode(record.facts).asked
        updates = (record.answer or b"").count(b'"type":"update"')
        assert len(asked.orders) == updates
        assert b"as narrated" not in (record.facts or b"")
        assert b"as written" not in (record.facts or b"")


async def test_the_ways_of_a_call_that_say_little(tmp_path: Path) -> None:
    faults = {"demo-ward": {"Patient": Fault(status=500)}}
    async with opened(tmp_path, faults=faults, not_evaluated_as="card") as hospital:
        await hospital.call(hook(MET, user="Patient/" + MET))
        await hospital.call(hook(MET, fhir=None))
        await hospital.post(ordering(MET, draft("anakinra", MET), hook="order-sign", fhir=None))
        sent = await hospital.prefetched(MET)
        await hospital.call(hook("demo-crp-100", fhir=None, prefetched=sent))
        found = await again(hospital)
    check(found, ways={"patient-user", "not-evaluated", "assessed"})
    outcomes = sorted(record.outcome for record, _ in found)
    assert outcomes == ["identity-mismatch", "not-evaluated", "not-evaluated", "patient-user"]


async def test_a_refusal_is_made_again(hospital: Hospital) -> None:
    answer = await hospital.call(hook(MET, fhir=None))
    assert answer.status_code == 412
    check(await again(hospital), ways={"not-evaluated"})


async def test_scope_first(tmp_path: Path) -> None:
    tenant = replace(settings_for(tmp_path / "d.db").tenants[0], gather="scope-first")
    async with opened(tmp_path, tenants=(tenant,)) as hospital:
        for patient_id in (MET, TREATED, "demo-ward", "demo-adolescent", "demo-crp-100", "demo-deceased"):
            await hospital.call(hook(patient_id))
        found = await again(hospital)
    check(found, ways={"scope-first", "assessed"})
    assert all(
        made.as_recorded == (reruns.FIRST_READS,) for record, made in found if record.reading["way"] == "scope-first"
    )


@pytest.mark.parametrize(
    "switched",
    [
        pytest.param({"silent": frozenset({"all"})}, id="silent"),
        pytest.param({"silent": frozenset({"pilot-simple", "orders"})}, id="some silent"),
        pytest.param({"silenced": frozenset({"all"})}, id="silenced"),
        pytest.param({"silenced": frozenset({"pilot-full", "orders"})}, id="some silenced"),
        pytest.param({"suggest_on": "pilot-full", "public_url": "https://cds.example.org"}, id="stricter"),
    ],
)
async def test_under_the_switches_of_then(tmp_path: Path, switched: Mapping[str, Any]) -> None:
    zone = replace(settings_for(tmp_path / "d.db").tenants[0], zone=ZoneInfo("Asia/Tokyo"))
    async with opened(tmp_path, tenants=(zone,), **switched) as hospital:
        for patient_id in (MET, "demo-us-units", TREATED, "demo-ward"):
            await hospital.call(hook(patient_id))
            await hospital.post(ordering(patient_id, draft("anakinra", patient_id, mg=700), hook="order-sign"))
        found = await again(hospital)
    ways = {"disabled"} if switched.get("silenced") == {"all"} else {"assessed"}
    check(found, ways=ways)


async def test_snoozed(tmp_path: Path) -> None:
    kinds = frozenset({"undetermined", "thresholds-met", "course", "safety", "order-sign"})
    async with opened(tmp_path, snooze=Snooze(12.0, kinds)) as hospital:
        for _ in range(2):
            await hospital.call(hook(MET))
            await hospital.post(ordering(TREATED, draft("anakinra", TREATED, mg=700), hook="order-sign"))
        found = await again(hospital)
    assert [record.outcome for record, _ in found].count("snoozed") == 2
    check(found, ways={"assessed"})
    assert all((reruns.SNOOZED in made.as_recorded) == (record.outcome == "snoozed") for record, made in found)


async def test_the_outlook_is_worked_out_again_unless_records_begin_to_say_something_else(hospital: Hospital) -> None:
    await hospital.call(hook(MET))
    sent = await hospital.prefetched(MET)
    newest = sent["labs"]["entry"][0]["resource"]  # again, dated so far ahead that it does not count yet
    ahead = newest | {"id": "ahead", "effectiveDateTime": "2026-11-23T12:30:00Z"}
    sent["labs"]["entry"].append({"resource": ahead, "search": {"mode": "match"}})
    sent["labs"]["total"] += 1
    await hospital.call(hook(MET, fhir=None, prefetched=sent))
    found = await again(hospital)
    check(found, ways={"assessed"})
    turning = {bool(kept.decode(record.facts or b"").asked.turns): made.as_recorded for record, made in found}
    assert turning == {False: (), True: (reruns.UNKNOWN_UNTIL,)}


async def test_with_the_knowledge_of_then(hospital: Hospital) -> None:
    """The service was started with other files: each decision is evaluated by its own."""
    await hospital.call(hook(MET))
    files = dict(loader.load().files)
    name = "pilot_simple/protocol.toml"
    changed = files | {name: files[name].replace('op = ">", value = 1000,', 'op = ">", value = 90000,', 1)}
    assert changed != files
    other = knowledge.of(loader.build(changed))
    now = other.library.knowledge.hash
    await hospital.store.keep_knowledge(now, msgspec.json.encode(changed))
    (record,) = await read(hospital)
    async with beside(hospital) as engine:
        stored = await records.knowledge_files(engine, record.knowledge_hash)
    bedside = library.build(stored, digest=record.knowledge_hash)
    assert rerun(record, bedside=bedside).verdict == "identical"
    made = rerun(record, bedside=other)
    assert made.verdict == "differs"
    paths = {one.path: (one.then, one.now) for one in made.differences}
    assert paths["verdicts.pilot-simple.verdict"] == ("met", "not-met")
    with pytest.raises(library.Unusable, match="it was changed"):
        library.build(msgspec.json.encode(changed), digest=record.knowledge_hash)


def facts_changed(record: Record, concept: str, value: str) -> Record:
    """With another value, and the digest of what stands there."""
    assert record.facts is not None
    document = json.loads(record.facts)
    (first, *_) = [m for m in document["facts"]["measurements"] if m["concept"] == concept]
    for one in document["facts"]["measurements"]:
        if one["reference"] == first["reference"]:
            one["value"] = value
    return replace(record, facts=json.dumps(document).encode())


async def test_one_fact_changed_is_told(hospital: Hospital) -> None:
    await hospital.call(hook(MET))
    (record,) = await read(hospital)
    bedside = knowledge.load()
    assert rerun(record, bedside=bedside).verdict == "identical"
    changed = facts_changed(record, "crp", "1")
    made = rerun(changed, bedside=bedside)
    assert made.verdict == "differs"
    paths = [one.path for one in made.differences]
    assert paths[0] == "stored facts"
    assert "outcome" in paths
    assert any(path.startswith("evidence[") for path in paths)
    unchained = rerun(replace(changed, facts_digest=None), bedside=bedside)
    assert "outcome" in [one.path for one in unchained.differences]
    assert "stored facts" not in [one.path for one in unchained.differences]


async def test_an_answer_that_was_changed_is_told(hospital: Hospital) -> None:
    await hospital.call(hook(MET))
    (record,) = await read(hospital)
    assert record.answer is not None
    made = rerun(
        replace(record, answer=record.answer.replace(b"Investigational", b"Established", 1)), bedside=knowledge.load()
    )
    assert made.verdict == "differs"
    (stored, text) = made.differences
    assert stored.path == "stored answer"
    assert text.path.startswith("answer.cards[0].")
    assert "Established" in text.then
    assert "Investigational" in text.now


async def test_what_was_removed_is_said(hospital: Hospital) -> None:
    await hospital.call(hook(MET))
    await hospital.store.remove_patient(MET, tenant="dev")
    (record,) = await read(hospital)
    made = rerun(record, bedside=knowledge.load())
    assert (made.verdict, made.is_removed) == ("not possible", True)


async def test_facts_of_the_first_form_are_evaluated_without_cards(hospital: Hospital) -> None:
    """As a version wrote them that kept neither switches nor what was asked."""
    await hospital.call(hook(MET))
    await hospital.call(hook("demo-ward"))
    await hospital.post(ordering(MET, draft("anakinra", MET, mg=700), hook="order-sign"))
    for record in await read(hospital):
        assert record.facts is not None
        bare = msgspec.json.encode(kept.decode(record.facts).facts)
        reading = {name: value for name, value in record.reading.items() if name not in ("way", "switches")}
        old = replace(record, facts=bare, reading=reading, facts_digest=None, answer_digest=None)
        made = rerun(old, bedside=knowledge.load())
        assert (made.verdict, made.as_recorded, made.differences) == ("identical", (reruns.OLD_FORM,), ())
    met = next(one for one in await read(hospital) if (one.patient, one.hook) == (MET, "patient-view"))
    crp = facts_changed(met, "crp", "1")
    assert crp.facts is not None
    bare = msgspec.json.encode(kept.decode(crp.facts).facts)
    old = replace(crp, facts=bare, reading={}, facts_digest=None, answer_digest=None)
    assert rerun(old, bedside=knowledge.load()).verdict == "differs"


async def test_the_commands_beside_a_running_service(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the database that the tests run on."""

    async def run(*arguments: str) -> str:
        assert await asyncio.to_thread(cli.main, ["decisions", *arguments, "--db", database.url]) == 0
        return capsys.readouterr().out

    async with opened(tmp_path, db=database.url) as hospital:
        said = decision(await hospital.call(hook(MET)))
        other = decision(await hospital.call(hook("demo-ward")))
        assert {said["id"], other["id"]} == {row.split()[0] for row in (await run("list")).splitlines()[1:]}
        assert f"Decision {said['id']}" in await run("show", said["id"][:13])
        assert "identical" in await run("rerun", said["id"], other["id"])
        assert "2 decisions: 2 identical" in await run("rerun", "--since", "2026-11-23", "--until", "2026-11-23")
