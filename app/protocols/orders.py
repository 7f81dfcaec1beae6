"""Reads `shared/orders.toml` and refuses what does not fit together: see `app.protocols.loader`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any as Json

from app.clinical.knowledge import OrderCheck
from app.clinical.orders import RULES
from app.protocols.fields import ORIGIN, blocks, each, field, known_keys, known_word, origin, unique

FILE = "shared/orders.toml"
ID = "order-checks"
"""What a site silences them by, and the name of their version."""

SEVERITIES = ("absolute", "warning", "info")
CARDS = ("safety", "protocol")
HOOKS = ("order-select", "order-sign")

_CHECK = ("id", "title", "open_title", "advice", "severity", "card", "rule", "speaks_at", *ORIGIN)


def build(table: Mapping[str, Json]) -> tuple[OrderCheck, ...]:
    """The checks of the file, in its order. Raises KnowledgeError."""
    known_keys(f"app/protocols/{FILE}", table, ("version", "check"))
    version(table)
    found = each(partial(_check, row) for row in blocks(FILE, table, "check"))
    unique(FILE, [check.id for check in found])
    return tuple(found)


def version(table: Mapping[str, Json]) -> str:
    """The version of the checks, which cards name."""
    return str(field(FILE, table, "version", block="the top of the file"))


def _check(row: Mapping[str, Json]) -> OrderCheck:
    where = f"app/protocols/{FILE}: {field(FILE, row, 'id')}"
    known_keys(where, row, _CHECK)
    rule, severity, card = (field(FILE, row, key) for key in ("rule", "severity", "card"))
    known_word(where, f"no rule {rule!r} in app/clinical/orders.py", rule, RULES)
    known_word(where, f"severity {severity!r} is none of {', '.join(SEVERITIES)}", severity, SEVERITIES)
    known_word(where, f"card {card!r} is none of {', '.join(CARDS)}", card, CARDS)
    hooks = field(FILE, row, "speaks_at")
    for hook in hooks:
        known_word(where, f"`speaks_at` {hook!r} is no hook of an order", hook, HOOKS)
    return OrderCheck(
        id=row["id"],
        title=field(FILE, row, "title"),
        advice=field(FILE, row, "advice"),
        severity=severity,
        card=card,
        rule=rule,
        speaks_at=frozenset(hooks),
        origin=origin(FILE, row),
        open_title=row.get("open_title", ""),
    )
