"""Metrics: the exposition format, and no series that a request could make."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

import prometheus_client
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.api import schema
from app.gateway import breaker, errors, fhir
from app.observe import metrics
from app.observe.metrics import Metrics

SERVICES = ("rescue-patient-view", "rescue-order-sign")
CLIENTS = ("north", "south")
TENANTS = ("hill", "dale")
REASONS = ("expired", "replayed")


def made() -> Metrics:
    return Metrics(services=SERVICES, clients=CLIENTS, tenants=TENANTS, reasons=REASONS, whys=errors.CODES)


def series(of: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample by its name and labels, as a scraper reads them."""
    found = {}
    for family in text_string_to_metric_families(of.text().decode()):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def value(of: Metrics, name: str, /, **labels: str) -> float:
    return series(of)[f"rescue_cds_{name}", frozenset(labels.items())]


def test_an_answer_is_counted_and_timed() -> None:
    of = made()
    of.answered(service=SERVICES[0], client="north", outcome="card", status=200, seconds=0.3)
    of.answered(service=SERVICES[0], client="north", outcome="", status=400, seconds=0.004)
    assert value(of, "answers_total", service=SERVICES[0], client="north", outcome="card", status="200") == 1
    assert value(of, "answers_total", service=SERVICES[0], client="north", outcome="none", status="400") == 1
    assert value(of, "answer_seconds_count", service=SERVICES[0]) == 2
    assert value(of, "answer_seconds_bucket", service=SERVICES[0], le="0.005") == 1
    assert value(of, "answer_seconds_bucket", service=SERVICES[0], le="0.35") == 2
    assert value(of, "answer_seconds_sum", service=SERVICES[0]) == pytest.approx(0.304)


def test_reads_say_why_they_did_not_bring_everything() -> None:
    of = made()
    of.read(tenant="hill", outcome="ok", seconds=0.1)
    of.read(tenant="hill", outcome="failed", why="timeout", seconds=1.4)
    of.read(tenant="hill", outcome="partial", why="page-limit", seconds=0.9)
    assert value(of, "fhir_reads_total", tenant="hill", outcome="ok", why="") == 1
    assert value(of, "fhir_reads_total", tenant="hill", outcome="failed", why="timeout") == 1
    assert value(of, "fhir_reads_total", tenant="hill", outcome="partial", why="page-limit") == 1
    assert value(of, "fhir_read_seconds_count", tenant="hill") == 3


@pytest.mark.parametrize(
    ("done", "name", "labels"),
    [
        (lambda of: of.refused(reason="expired"), "refusals_total", {"reason": "expired"}),
        (
            lambda of: of.breaker(tenant="dale", state="open"),
            "breaker_changes_total",
            {"tenant": "dale", "state": "open"},
        ),
        (lambda of: of.overload(kind="queue"), "overload_total", {"kind": "queue"}),
        (lambda of: of.overload(kind="waited"), "overload_total", {"kind": "waited"}),
        (lambda of: of.recorded(seconds=0.01), "record_seconds_count", {}),
        (lambda of: of.not_recorded(), "not_recorded_total", {}),
        (lambda of: of.feedback(outcome="accepted"), "feedback_entries_total", {"outcome": "accepted"}),
        (
            lambda of: of.jwks(client="south", outcome="failed"),
            "jwks_fetches_total",
            {"client": "south", "outcome": "failed"},
        ),
        (lambda of: of.fault(), "faults_total", {}),
        (lambda of: of.places(1, 0), "hooks_in_flight", {}),
        (lambda of: of.places(0, 1), "hooks_waiting", {}),
    ],
)
def test_each_event_moves_its_own_series_only(
    done: Callable[[Metrics], None], name: str, labels: dict[str, str]
) -> None:
    of = made()
    before = series(of)
    done(of)
    after = series(of)
    assert value(of, name, **labels) == 1
    moved = {key[0] for key in after if "process" not in key[0] and after[key] != before.get(key, 0.0)}
    stem = f"rescue_cds_{name}".removesuffix("_count")
    assert moved
    assert {one for one in moved if not one.startswith(stem)} == set()


def test_gauges_follow_and_entries_are_counted_singly() -> None:
    of = made()
    of.places(7, 0)
    of.places(3, 0)
    of.feedback(outcome="overridden", entries=40)
    assert value(of, "hooks_in_flight") == 3
    assert value(of, "feedback_entries_total", outcome="overridden") == 40


def every_call(of: Metrics, odd: Any) -> None:
    """Each method with a value that a request may have brought, wherever there is a label."""
    of.answered(service=odd, client=odd, outcome=odd, status=odd, seconds=0.2)
    of.refused(reason=odd)
    of.read(tenant=odd, outcome=odd, why=odd, seconds=0.2)
    of.breaker(tenant=odd, state=odd)
    of.overload(kind=odd)
    of.feedback(outcome=odd)
    of.jwks(client=odd, outcome=odd)


def every_regular(of: Metrics) -> None:
    for service in SERVICES:
        for client in CLIENTS:
            for outcome in metrics.OUTCOMES:
                for status in metrics.STATUSES:
                    of.answered(service=service, client=client, outcome=outcome, status=int(status), seconds=0.1)
    for tenant in TENANTS:
        for outcome in metrics.READS:
            for why in ("", *errors.CODES):
                of.read(tenant=tenant, outcome=outcome, why=why, seconds=0.1)
    for client in CLIENTS:
        for outcome in metrics.JWKS:
            of.jwks(client=client, outcome=outcome)


def test_ten_thousand_patients_make_no_series() -> None:
    of = made()
    every_regular(of)
    every_call(of, "first odd value")
    before = {key for key in series(of) if "process" not in key[0]}
    for number in range(10_000):
        every_call(of, f"Patient/canary-{number}")
    for odd in ("", None, 7, -1, 999, ["x"], {"a": 1}, 'a"b\n\\', "é" * 5000, "OTHER", object()):
        every_call(of, odd)
    after = {key for key in series(of) if "process" not in key[0]}
    # '' is a value of two sets: no reason why, and no decision.
    assert {key for key in after - before if ("why", "") not in key[1] and ("outcome", "none") not in key[1]} == set()
    assert len(after) - len(before) <= 2
    assert b"canary" not in of.text()


def test_a_value_outside_its_set_is_other() -> None:
    of = made()
    every_call(of, "canary")
    assert value(of, "answers_total", service="other", client="other", outcome="other", status="other") == 1
    assert value(of, "fhir_reads_total", tenant="other", outcome="other", why="other") == 1
    assert value(of, "refusals_total", reason="other") == 1


def test_counters_with_one_label_are_there_from_the_start() -> None:
    of = made()
    for reason in REASONS:
        assert value(of, "refusals_total", reason=reason) == 0
    assert value(of, "breaker_changes_total", tenant="hill", state="half-open") == 0


def test_names_units_and_words() -> None:
    of = made()
    every_call(of, "x")
    for family in text_string_to_metric_families(of.text().decode()):
        assert family.name.startswith("rescue_cds_")
        assert family.documentation.endswith(".")
        assert not family.name.endswith("_created")
        if family.type == "histogram":
            assert family.name.endswith("_seconds")
    assert metrics.SECONDS[0] == 0.005
    assert metrics.SECONDS[-1] == 5.0
    assert list(metrics.SECONDS) == sorted(set(metrics.SECONDS))


def test_nothing_stands_in_the_global_registry_and_two_do_not_meet() -> None:
    first, second = made(), made()
    first.fault()
    assert value(second, "faults_total") == 0
    assert b"rescue_cds" not in prometheus_client.generate_latest(prometheus_client.REGISTRY)


def test_the_outcomes_are_those_of_the_interface() -> None:
    decision = schema.RESPONSE["properties"]["extension"]["properties"]["org.rescue-cds.decision"]
    assert set(metrics.OUTCOMES) == {*decision["properties"]["outcome"]["enum"], metrics.UNDECIDED}


def test_the_states_and_codes_are_those_of_the_gateway() -> None:
    assert set(metrics.BREAKER) == set(breaker.State.__args__)  # type: ignore[attr-defined] # of a Literal
    assert set(metrics.READS) == set(fhir.Outcome.__args__)  # type: ignore[attr-defined] # of a Literal
    assert {kind.why for kind in errors.GatewayError.__subclasses__()} <= set(errors.CODES)
    assert all(not kind.__subclasses__() for kind in errors.GatewayError.__subclasses__())
    walk = ast.parse(textwrap.dedent(inspect.getsource(fhir._Reading._walk)))
    returned = {
        part.value
        for node in ast.walk(walk)
        if isinstance(node, ast.Return) and node.value is not None
        for part in ast.walk(node.value)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    }
    assert returned - {""} == set(errors.ENDED_EARLY)
