"""Discovery: what every client can run, made from the plan, reachable in every way that clients reach for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app import plan as asking
from cds_hooks.prefetch import validate_template
from fhir_mappings.codebook import load
from tests.contract import cds_hooks_oracle as oracle
from tests.integration.hospital import PATH, SERVICE, Hospital, hook, opened

ORIGINS = ("http://localhost:3000", "https://localhost:8443", "http://127.0.0.1:61234", "http://localhost")
FOREIGN = ("https://evil.example.org", "http://localhost.evil.example.org", "http://127.0.0.1.evil.example", "null")


@pytest.fixture
async def hospital(tmp_path: Path) -> AsyncIterator[Hospital]:
    async with opened(tmp_path) as found:
        yield found


async def test_discovery_obeys_the_standard(hospital: Hospital) -> None:
    answer = await hospital.client.get("/cds-services")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert oracle.discovery(answer.content) == []
    services = {service["id"]: service["hook"] for service in answer.json()["services"]}
    assert services == {
        SERVICE: "patient-view",
        "anakinra-ruxolitinib-order-select": "order-select",
        "anakinra-ruxolitinib-order-sign": "order-sign",
    }


async def test_the_templates_are_the_plan(hospital: Hospital) -> None:
    needs = asking.plan(load("observations"), load("ingredients"))
    assert hospital.templates == {need.key: asking.template(need) for need in needs}
    for template in hospital.templates.values():
        validate_template(template)
        assert "{{context.patientId}}" in template
        names = [pair.partition("=")[0] for pair in template.partition("?")[2].split("&")]
        assert len(set(names)) == len(names)
        assert not {"_include", "_revinclude", "date"} & {name.partition(":")[0] for name in names}


@pytest.mark.parametrize("path", ["/cds-services", "/cds-services/"])
async def test_get_and_head_with_and_without_the_last_slash(hospital: Hospital, path: str) -> None:
    got = await hospital.client.get(path)
    head = await hospital.client.head(path)
    assert (got.status_code, head.status_code) == (200, 200)
    assert head.content == b""
    assert head.headers["content-length"] == got.headers["content-length"]
    assert got.content == (await hospital.client.get("/cds-services")).content


async def test_a_call_with_the_last_slash_is_no_redirect(hospital: Hospital) -> None:
    body = hook("demo-crp-100")
    assert [(await hospital.client.post(path, json=body)).status_code for path in (PATH, f"{PATH}/")] == [200, 200]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *((method, "/cds-services") for method in ("POST", "PUT", "PATCH", "DELETE")),
        *((method, PATH) for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE")),
    ],
)
async def test_other_methods_are_405(hospital: Hospital, method: str, path: str) -> None:
    answer = await hospital.client.request(method, path, headers={"origin": ORIGINS[0]})
    assert answer.status_code == 405
    assert answer.headers["allow"]
    assert answer.headers["access-control-allow-origin"] == ORIGINS[0]
    if method != "HEAD":
        assert oracle.outcome(answer.content) == []


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/cds-services/canary-id",
        f"/cds-services/{SERVICE}/canary",
        "/docs",
        "/openapi.json",
        "/cds-services/%2e%2e",
    ],
)
async def test_unknown_paths_are_404_in_the_one_shape(hospital: Hospital, path: str) -> None:
    answer = await hospital.client.post(path, json=hook("demo-crp-100"))
    assert answer.status_code == 404
    assert oracle.outcome(answer.content) == []
    assert "canary" not in answer.text


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize(("path", "method"), [("/cds-services", "GET"), (PATH, "POST")])
async def test_preflight_from_this_machine(hospital: Hospital, origin: str, path: str, method: str) -> None:
    answer = await hospital.client.options(
        path,
        headers={
            "origin": origin,
            "access-control-request-method": method,
            "access-control-request-headers": "authorization,content-type",
        },
    )
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == origin
    allowed = {word.strip().lower() for word in answer.headers["access-control-allow-headers"].split(",")}
    assert {"authorization", "content-type"} <= allowed
    assert "access-control-allow-credentials" not in answer.headers
    assert method in answer.headers["access-control-allow-methods"]


@pytest.mark.parametrize("origin", FOREIGN)
async def test_other_origins_are_told_nothing(hospital: Hospital, origin: str) -> None:
    for answer in (
        await hospital.client.get("/cds-services", headers={"origin": origin}),
        await hospital.client.options(PATH, headers={"origin": origin, "access-control-request-method": "POST"}),
    ):
        assert "access-control-allow-origin" not in answer.headers


async def test_every_refusal_carries_the_headers(hospital: Hospital) -> None:
    origin = {"origin": ORIGINS[0]}
    for answer, status in (
        (await hospital.call(b"{", headers=origin), 400),
        (await hospital.call(hook("demo-crp-100", fhir=None), headers=origin), 412),
        (await hospital.call(hook("x"), headers={**origin, "content-type": "text/plain"}), 415),
        (await hospital.call(hook("x"), headers={**origin, "x-long": "y" * 33_000}), 431),
        (await hospital.client.post("/cds-services/none", json={}, headers=origin), 404),
    ):
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == ORIGINS[0]
        assert oracle.outcome(answer.content) == []
