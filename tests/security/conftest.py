"""Every test here is marked `security`: the quick gate leaves them out, because hostile corpora take minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies in this folder; pytest hands over what it collected anywhere."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("security")
