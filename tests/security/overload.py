"""More calls than places, and a hospital whose server hangs: what is answered, what is told to try again, how fast.

Everything in one process over ASGI, so the figures are of the service's own places, not of sockets. Latencies are
printed side by side from one run and held to nothing: machines are noisy.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch
from zoneinfo import ZoneInfo

import httpx

from app.clients import Client
from app.gateway.fhir import Gateway, Limits
from app.main import create_app
from app.places import Places
from app.sandbox.fhir import create_fhir
from app.settings import Tenant
from tests.figures import Figure, Figures
from tests.integration.hospital import NOW, PATH, Wire, everybody, hook, settings_for, shipped
from tests.unit.app.registry import BASE, Ehr

HANGS: Final = "http://127.0.0.1:8080/fhir"
WELL: Final = "http://127.0.0.2:8080/fhir"
EHR: Final = Ehr("ehr", "https://ehr.example.org")
PATIENT: Final = "demo-crp-100"
PLACES: Final = 16
WAITING: Final = 8


class Slow(Wire):
    """The sandbox behind two addresses, of which one takes its time."""

    def __init__(self, app: Any, *, seconds: float) -> None:
        super().__init__(app)
        self.seconds = seconds

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.host == "127.0.0.1" and request.url.path != "/fhir/metadata":
            await asyncio.sleep(self.seconds)
        return await super().handle_async_request(request)


@dataclass(frozen=True, slots=True)
class Ended:
    """One call: its status, whether it was told to try again, and its seconds."""

    status: int
    again: bool
    seconds: float


@asynccontextmanager
async def service(folder: Path, *, tenants: Sequence[str], seconds: float) -> AsyncIterator[httpx.AsyncClient]:
    """The service for a hospital that hangs and one that is well. `tenants`: among whom places are shared out."""
    (folder / "ehr.json").write_text(EHR.jwks(), encoding="utf-8")
    hospitals = (Tenant("hangs", (HANGS,), ZoneInfo("UTC")), Tenant("well", (WELL,), ZoneInfo("UTC")))
    named = {tenant.name: tenant.name for tenant in hospitals}
    client = Client("ehr", EHR.issuer, (BASE,), named, (HANGS, WELL), jwks_file=folder / "ehr.json")
    settings = replace(
        settings_for(folder / "decisions.db"),
        profile="site",
        tenants=hospitals,
        clients=(client,),
        hooks_at_once=PLACES,
        hooks_waiting=WAITING,
        deadline_seconds=30.0,  # what is measured is places, not how busy the machine is
        fhir=Limits(call_seconds=30.0),
    )
    wire = Slow(create_fhir(everybody, base_url=HANGS, clock=lambda: NOW, faults={}), seconds=seconds)
    with patch("app.main.Places", lambda **given: Places(**given | {"tenants": tenants})):
        app = create_app(settings, bedside=shipped(), gateway=Gateway(wire, limits=settings.fhir), clock=lambda: NOW)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1:8000") as browser,
    ):
        yield browser


async def call(browser: httpx.AsyncClient, tenant: str) -> Ended:
    """One patient-view for a hospital."""
    body = json.dumps(hook(PATIENT, fhir=HANGS if tenant == "hangs" else WELL)).encode()
    headers = EHR.headers(PATH, now=NOW, tenant=tenant) | {"content-type": "application/json"}
    begun = time.perf_counter()
    answer = await browser.post(PATH, content=body, headers=headers)
    return Ended(answer.status_code, "retry-after" in answer.headers, time.perf_counter() - begun)


async def burst(folder: Path, *, times: int) -> tuple[list[Ended], list[Ended]]:
    """So many times more calls at once than there are places, and then some one after the other."""
    async with service(folder, tenants=("hangs", "well"), seconds=0.2) as browser:
        together = await asyncio.gather(*(call(browser, "hangs") for _ in range(times * PLACES)))
        return list(together), [await call(browser, "hangs") for _ in range(3)]


async def beside_a_hanging_one(folder: Path, *, calls: int, shares: Sequence[str], seconds: float) -> list[Ended]:
    """The calls of the hospital that is well, while the other one has more calls under way than there are places."""
    async with service(folder, tenants=shares, seconds=seconds) as browser:
        await call(browser, "well")
        ended: list[Ended] = []
        hanging: set[asyncio.Task[Ended]] = set()
        for _ in range(calls):
            while seconds and len(hanging) < 2 * PLACES:
                task = asyncio.create_task(call(browser, "hangs"))
                hanging.add(task)
                task.add_done_callback(hanging.discard)
            await asyncio.sleep(0.005)  # they take their places first
            ended.append(await call(browser, "well"))
        await asyncio.gather(*hanging)
        return ended


def milliseconds(ended: Sequence[Ended]) -> str:
    """Median and largest of the answers that were 200."""
    good = [one.seconds * 1000 for one in ended if one.status == 200]
    return f"p50 {statistics.median(good):.0f} ms, max {max(good):.0f} ms of {len(good)}" if good else "none answered"


async def run(*, size: str) -> Figures:
    """A burst of five times the places, then the bulkhead with and without shares."""
    calls = 20 if size == "small" else 200
    with tempfile.TemporaryDirectory() as folder:
        together, after = await burst(Path(folder), times=5)
    made: dict[str, list[Ended]] = {}
    for name, shares, seconds in (
        ("alone", ("hangs", "well"), 0.0),
        ("beside, places shared out", ("hangs", "well"), 4.0),
        ("beside, without shares", ("all",), 4.0),
    ):
        with tempfile.TemporaryDirectory() as folder:
            made[name] = await beside_a_hanging_one(Path(folder), calls=calls, shares=shares, seconds=seconds)
    statuses = Counter(one.status for one in together)
    refused = [one for one in together if one.status == 503]
    slowest = max((one.seconds for one in refused), default=0.0)
    shared = made["beside, places shared out"]
    return Figures(
        f"Overload: {PLACES} places, {WAITING} may wait",
        (
            Figure("calls at once", str(len(together)), len(together) == 5 * PLACES),
            Figure("answered", str(statuses[200]), statuses[200] >= PLACES // 2),
            Figure("told to try again (503, Retry-After)", str(len(refused)), all(one.again for one in refused)),
            Figure(
                "of any other status", str(len(together) - statuses[200] - len(refused)), set(statuses) <= {200, 503}
            ),
            Figure("slowest 503", f"{slowest * 1000:.0f} ms", True),
            Figure(
                "after it: answered of 3",
                str(sum(one.status == 200 for one in after)),
                [a.status for a in after] == [200] * 3,
            ),
            *(
                Figure(
                    f"the well hospital, {name}",
                    f"{milliseconds(ended)}; 503: {sum(e.status == 503 for e in ended)}",
                    True,
                )
                for name, ended in made.items()
            ),
            Figure(
                "refused to the well hospital while places are shared out",
                str(sum(one.status != 200 for one in shared)),
                all(one.status == 200 for one in shared),
            ),
        ),
    )
