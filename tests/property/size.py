"""How many examples a property gets: `RESCUE_CDS_EXAMPLES=100` (per cent) is the whole, a quarter of it without."""

from __future__ import annotations

import os


def examples(whole: int) -> int:
    """That many examples, scaled; never fewer than ten."""
    return max(10, whole * int(os.environ.get("RESCUE_CDS_EXAMPLES", "25")) // 100)
