"""The report prints what was counted, and fails with what is not as it has to be."""

from __future__ import annotations

import sys
from importlib import import_module
from types import SimpleNamespace

import pytest

from tests.figures import Figure, Figures
from tests.security import report

GOOD = Figures("good", (Figure("tried", "60", True),))
BAD = Figures("bad", (Figure("tried", "60", True), Figure("let in", "1", False)))


def test_every_area_is_a_module_with_a_run() -> None:
    for area in report.AREAS:
        assert callable(import_module(f"tests.security.{area}").run), area


@pytest.mark.parametrize(("found", "status"), [(GOOD, 0), (BAD, 1)])
def test_a_figure_that_is_not_held_fails_the_report(
    found: Figures, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def run(*, size: str) -> Figures:
        assert size == "full"
        return found

    monkeypatch.setitem(sys.modules, "tests.security.forgeries", SimpleNamespace(run=run))
    monkeypatch.setattr(sys, "argv", ["report", "--size", "full", "--area", "forgeries"])
    assert report.main() == status
    out = capsys.readouterr().out
    assert found.title in out
    assert ("NOT  let in" in out) is bool(status)
