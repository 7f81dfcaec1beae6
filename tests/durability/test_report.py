"""The report prints what was counted, fails with what is not as it has to be, and goes on when an area breaks."""

from __future__ import annotations

import sys
from importlib import import_module
from types import SimpleNamespace

import pytest

from tests.durability import report
from tests.figures import Figure, Figures

GOOD = Figures("good", (Figure("tried", "60", True),))
BAD = Figures("bad", (Figure("tried", "60", True), Figure("lost", "1", False)))


def test_every_area_is_a_module_with_a_run_and_both_sizes() -> None:
    for area, (module, told) in report.AREAS.items():
        assert callable(import_module(f"tests.durability.{module}").run), area
        assert set(told) <= {"kind"}
    assert set(report.AREAS) >= report.ALONE


@pytest.mark.parametrize(("found", "status"), [(GOOD, 0), (BAD, 1)], ids=["good", "bad"])
def test_a_figure_that_is_not_held_fails_the_report(
    found: Figures, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def run(*, size: str, kind: str) -> Figures:
        assert (size, kind) == ("full", "sqlite")
        return found

    monkeypatch.setitem(sys.modules, "tests.durability.kills", SimpleNamespace(run=run))
    monkeypatch.setattr(sys, "argv", ["report", "--size", "full", "--area", "kills_sqlite"])
    assert report.main() == status
    out = capsys.readouterr().out
    assert found.title in out
    assert ("NOT  lost" in out) is bool(status)


def test_an_area_that_breaks_does_not_hold_and_the_next_one_is_made(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def broken(*, size: str) -> Figures:
        raise OSError("no disk")

    async def run(*, size: str) -> Figures:
        return GOOD

    monkeypatch.setitem(sys.modules, "tests.durability.outage", SimpleNamespace(run=broken))
    monkeypatch.setitem(sys.modules, "tests.durability.rolling", SimpleNamespace(run=run))
    monkeypatch.setattr(sys, "argv", ["report", "--area", "outage", "--area", "rolling"])
    assert report.main() == 1
    out = capsys.readouterr().out
    assert "NOT  OSError: no disk" in out
    assert "good" in out
    assert out.endswith("NOT what it has to be: outage\n")
