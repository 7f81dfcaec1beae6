"""`make bench-scope`: what a hook costs the hospital's FHIR server, all at once or scope first. See README.md here."""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import httpx

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from app.gateway.fhir import Gateway  # noqa: E402  (the root has to be on the path first)
from app.main import create_app  # noqa: E402
from app.sandbox import patients  # noqa: E402
from app.sandbox.builders import ARTERIAL_BLOOD, VITAL_SIGNS, Chart, Code, Resource, Unit  # noqa: E402
from app.sandbox.fhir import create_fhir  # noqa: E402
from app.store.decisions import Store  # noqa: E402
from tests.integration.hospital import FHIR, NOW, PATH, decision, hook, same_words, settings_for  # noqa: E402

Gather = Literal["parallel", "scope-first"]
MODES: tuple[Gather, Gather] = ("parallel", "scope-first")
CARDIAC: dict[str, tuple[Literal["concept", "reference"], int]] = {
    "cardiac-day-28": ("concept", 1),
    "cardiac-day-28, refs": ("reference", 1),
    "cardiac-light": ("concept", 4),
}
"""The patients that only this benchmark has: how their hospital writes medications, and which part is charted."""


@dataclass(slots=True)
class Spent:
    """What one hook asked of the FHIR server and got."""

    requests: int = 0
    bytes: int = 0


class Counted(httpx.AsyncBaseTransport):
    """The way to the sandbox: counts, and answers what was asked before from memory, `delay` seconds later.

    So the wall times are those of the service and of a server that always takes as long, not of the sandbox.
    """

    def __init__(self, sandbox: Any, *, memory: dict[tuple[str, str, bytes], httpx.Response], delay: float) -> None:
        self.inner = httpx.ASGITransport(app=sandbox)
        self.memory = memory
        self.delay = delay
        self.timed = False
        self.spent = Spent()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        content = await request.aread()
        key = (request.method, str(request.url), content)
        kept = self.memory.get(key)
        if kept is None:
            path = request.url.path.removeprefix("/fhir")
            url = request.url.copy_with(path=path)
            inner = httpx.Request(request.method, url, headers=request.headers, content=content)
            kept = self.memory[key] = await self.inner.handle_async_request(inner)
            await kept.aread()
        elif self.timed:
            await asyncio.sleep(self.delay)
        self.spent.requests += 1
        self.spent.bytes += len(kept.content)
        return httpx.Response(kept.status_code, headers=kept.headers, content=kept.content)


@dataclass(slots=True)
class Site:
    """The service of one mode."""

    client: httpx.AsyncClient
    wire: Counted


@dataclass(slots=True)
class Row:
    """One patient, a member a mode."""

    patient: str
    outcome: dict[Gather, str] = field(default_factory=dict)
    cards: dict[Gather, list[dict[str, Any]]] = field(default_factory=dict)
    spent: dict[Gather, Spent] = field(default_factory=dict)
    ms: dict[Gather, list[float]] = field(default_factory=lambda: {mode: [] for mode in MODES})

    @property
    def same(self) -> bool:
        return self.cards[MODES[0]] == self.cards[MODES[1]]


def main() -> int:
    """Prints the table; 1 when a patient's cards depend on the mode."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one timed call a patient and mode, for CI")
    parser.add_argument("--rounds", type=int, default=5, help="timed calls a patient and mode")
    parser.add_argument("--delay", type=float, default=100.0, help="ms that the FHIR server takes for every answer")
    options = parser.parse_args()
    rows = asyncio.run(_measure(rounds=1 if options.quick else options.rounds, delay=options.delay / 1000))
    _report(rows, delay=options.delay)
    return 0 if all(row.same for row in rows) else 1


async def _measure(*, rounds: int, delay: float) -> list[Row]:
    sandbox = create_fhir(_everybody, base_url=FHIR, clock=lambda: NOW, faults=patients.faults())
    memory: dict[tuple[str, str, bytes], httpx.Response] = {}
    rows = [Row(name) for name in (*CARDIAC, *(story.patient_id for story in patients.STORIES))]
    with tempfile.TemporaryDirectory() as folder:
        wires = {mode: Counted(sandbox, memory=memory, delay=delay) for mode in MODES}
        parallel, first = (_opened(Path(folder), mode, wires[mode]) for mode in MODES)
        async with parallel as one, first as other:
            sites = dict(zip(MODES, (one, other), strict=True))
            for row in rows:
                for mode in MODES:
                    await _call(row, mode, sites[mode], timed=False)
                for _ in range(rounds):
                    for mode in MODES:
                        await _call(row, mode, sites[mode], timed=True)
    return rows


async def _call(row: Row, mode: Gather, site: Site, *, timed: bool) -> None:
    site.wire.spent, site.wire.timed = Spent(), timed
    body = json.dumps(hook(_id(row.patient))).encode()
    started = time.perf_counter()
    answer = await site.client.post(PATH, content=body, headers={"content-type": "application/json"})
    elapsed = (time.perf_counter() - started) * 1000
    if answer.status_code != 200:
        raise SystemExit(f"{row.patient}, {mode}: status {answer.status_code}: the benchmark measures nothing")
    row.outcome[mode] = decision(answer)["outcome"]
    row.cards[mode] = same_words(answer)
    row.spent[mode] = site.wire.spent
    if timed:
        row.ms[mode].append(elapsed)


@asynccontextmanager
async def _opened(folder: Path, mode: Gather, wire: Counted) -> AsyncIterator[Site]:
    settings = settings_for(folder / f"{mode}.db")
    tenants = (replace(settings.tenants[0], gather=mode),)
    settings = replace(settings, tenants=tenants, deadline_seconds=20.0)
    gateway = Gateway(wire)
    app = create_app(settings, gateway=gateway, store=Store(settings.db), clock=lambda: NOW)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1:8000") as client,
    ):
        await gateway.meet(FHIR, seconds=10)  # so that the capability statement is no hook's request
        yield Site(client, wire)


# --- the patients that demo charts are too small for --------------------------------------------------------


def _id(name: str) -> str:
    return name.replace(", ", "-")


def _everybody(now: datetime) -> list[Resource]:
    found = patients.bundle(now)
    for name in CARDIAC:
        found += _cardiac(name, now=now)
    return found


def _cardiac(name: str, *, now: datetime) -> list[Resource]:
    """Four weeks after cardiac surgery, ventilated: 300 Observations in 72 h, 30 active orders, 400 administrations.

    Or every nth of these.
    """
    form, nth = CARDIAC[name]
    chart = Chart(_id(name), now=now, medication_form=form)
    chart.patient(family="Bench-Cardiac", given="Ada", gender="female", years=71)
    chart.stay(28 * 24)
    chart.problem([("icd10", "I35.0", "Aortic valve stenosis")], 400)
    chart.problem([("icd10", "I48.9", "Atrial fibrillation, unspecified")], 26)
    chart.problem([("icd10", "N17.9", "Acute kidney failure, unspecified")], 20)
    chart.procedure("surgery", [("snomed", "26212005", "Replacement of aortic valve")], 28 * 24 - 2, 28 * 24 - 8)
    chart.procedure("ventilation", [patients.INVASIVE_VENTILATION], 27 * 24)
    chart.allergy(patients.NO_KNOWN_ALLERGY)
    rest = len(chart.resources)
    _measurements(chart)
    _medications(chart)
    _counts(chart.resources, Observation=300, MedicationRequest=30, MedicationAdministration=400)
    return [*chart.resources[:rest], *chart.resources[rest::nth]]


def _measurements(chart: Chart) -> None:
    gases = _hours(18, within=71)
    for word, code, value, unit in (
        ("pao2", patients.PAO2, 84, patients.MMHG),
        ("paco2", patients.PACO2, 41, patients.MMHG),
        ("ph", ("loinc", "2744-1", "pH of Arterial blood"), 7.38, ("pH", "[pH]")),
    ):
        chart.series(word, [code], gases, (value,) * 18, unit, specimen=ARTERIAL_BLOOD)
    settings: tuple[tuple[str, Code, float, Unit], ...] = (
        ("fio2", patients.FIO2, 45, patients.PERCENT),
        ("peep", patients.PEEP, 8, patients.CMH2O),
        ("tidal", patients.TIDAL_VOLUME, 420, patients.ML),
        ("plateau", patients.PLATEAU, 19, patients.CMH2O),
    )
    for word, code, value, unit in settings:
        chart.series(word, [code], _hours(36, within=71.5), (value,) * 36, unit, category=VITAL_SIGNS)
    saturation: Code = ("loinc", "59408-5", "Oxygen saturation in Arterial blood by Pulse oximetry")
    chart.series("spo2", [saturation], _hours(30, within=70), (96,) * 30, patients.PERCENT, category=VITAL_SIGNS)
    results: tuple[tuple[str, Code, float, Unit], ...] = (
        ("crp", patients.CRP, 88, ("mg/L", "mg/L")),
        ("wbc", patients.LEUCOCYTES, 11.4, ("10*9/L", "10*9/L")),
        ("anc", patients.NEUTROPHILS, 8.7, ("10*9/L", "10*9/L")),
        ("platelets", patients.PLATELETS, 146, ("10*9/L", "10*9/L")),
        ("alt", patients.ALT, 61, ("U/L", "U/L")),
        ("ast", patients.AST, 58, ("U/L", "U/L")),
        ("creatinine", ("loinc", "14682-9", "Creatinine [Moles/volume] in Serum or Plasma"), 168, ("umol/L", "umol/L")),
        ("bilirubin", patients.BILIRUBIN, 21, ("umol/L", "umol/L")),
        ("pct", patients.PROCALCITONIN, 0.6, ("ug/L", "ug/L")),
    )
    for word, code, value, unit in results:
        chart.series(word, [code], _hours(8, within=70), (value,) * 8, unit)


def _medications(chart: Chart) -> None:
    """20 orders of 18 doses and 10 infusions of 4 runs, over 28 days."""
    doses: tuple[str, ...] = (
        "enoxaparin",
        "pantoprazole",
        "furosemide",
        "paracetamol",
        "piperacillin and beta-lactamase inhibitor",
    )
    doses += ("amlodipine", "ramipril", "atorvastatin", "levothyroxine", "insulin")
    for number in range(20):
        given = tuple(hours + number * 0.1 for hours in _hours(18, within=27 * 24))
        chart.doses(doses[number % len(doses)], (40, patients.MG), 24, given, ordered=28 * 24 - 1)
    infusions = ("norepinephrine", "propofol", "sufentanil", "midazolam", "heparin")
    for number in range(10):
        runs: list[tuple[float, float | None]] = [(hours + 150, hours) for hours in (500, 340, 170)]
        name = infusions[number % len(infusions)]
        chart.infusion(name, (10, patients.MG_PER_H), [*runs, (150 + number, None)], ordered=28 * 24 - 1)


def _hours(count: int, *, within: float) -> tuple[float, ...]:
    """So many instants, evenly, newest first."""
    return tuple(0.5 + (within - 0.5) * number / count for number in range(count))


def _counts(resources: Iterable[Resource], **wanted: int) -> None:
    held = [resource["resourceType"] for resource in resources]
    found = {name: held.count(name) for name in wanted}
    if found != wanted:
        raise SystemExit(f"the cardiac patient has {found}, not {wanted}: the benchmark measures something else")


# --- the table ----------------------------------------------------------------------------------------------


def _report(rows: list[Row], *, delay: float) -> None:
    print(f"requests, kB of answers and wall ms of one hook; the FHIR server takes {delay:g} ms for every answer\n")
    print(f"{'':<24} {'':<22} | {'parallel':^21} | {'scope first':^21} | {'scope first / parallel':^22} | cards")
    cells = f"{'req':>5} {'kB':>8} {'ms':>6}"
    print(f"{'patient':<24} {'outcome':<22} | {cells} | {cells} | {'req':>6} {'kB':>7} {'ms':>7} |")
    early = [row for row in rows if row.spent["scope-first"].requests < row.spent["parallel"].requests]
    others = [row for row in rows if row not in early]
    groups = (
        ("out of scope for certain: scope first leaves the rest unread", early),
        ("silent, but only after everything was read", [row for row in others if _silent(row)]),
        ("with a card", [row for row in others if not _silent(row)]),
    )
    for title, group in groups:
        if not group:
            continue
        print(f"-- {title}")
        for row in group:
            before, after = row.outcome.values()
            outcome = after if before == after else f"{before} > {after}"
            print(_line(row.patient, outcome, [row], "same" if row.same else "DIFFERENT"))
        same = sum(row.same for row in group)
        print(_line(f"all {len(group)}, a patient", "", group, f"{same} of {len(group)} same"))


def _silent(row: Row) -> bool:
    return not row.cards["parallel"] and not row.cards["scope-first"]


def _line(name: str, outcome: str, group: list[Row], cards: str) -> str:
    """One patient, or the mean of several."""
    cells, figures = [], []
    for mode in MODES:
        spent = [row.spent[mode] for row in group]
        requests = statistics.mean(found.requests for found in spent)
        kilobytes = statistics.mean(found.bytes for found in spent) / 1000
        ms = statistics.mean(statistics.median(row.ms[mode]) for row in group)
        figures.append((requests, kilobytes, ms))
        whole = ".0f" if len(group) == 1 else ".1f"
        cells.append(f"{requests:5{whole}} {kilobytes:8.1f} {ms:6.0f}")
    ratios = [after / before for before, after in zip(*figures, strict=True)]
    shares = f"{ratios[0]:6.2f} {ratios[1]:7.2f} {ratios[2]:7.2f}"
    return f"{name:<24} {outcome:<22} | {cells[0]} | {cells[1]} | {shares} | {cards}"


if __name__ == "__main__":
    sys.exit(main())
