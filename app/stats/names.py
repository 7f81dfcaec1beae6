"""What things are called: rules by their titles, reasons in the words of the texts file, nothing that was typed."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import Any, Final

from app.card_frame import SYSTEM
from app.knowledge import Bedside
from app.protocols.words import Words

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:\-]{0,63}")
_BLANK: Final = re.compile(r"\{(\w+)\}")
_SITE: Final = re.compile(r"(https?://[a-z0-9.\-]{1,100})(?:[:/#].*)?", re.IGNORECASE)
_OID: Final = re.compile(r"urn:oid:\d[\d.]{0,100}")


@cache
def texts() -> Mapping[str, Any]:
    """The tables of `texts.toml`."""
    return tomllib.loads(resources.files("app.stats").joinpath("texts.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class Override:
    """A reason as it may be shown: the code of a list that is known, else none."""

    code: str
    display: str
    system: str


@dataclass(frozen=True, slots=True)
class Names:
    """Ids with their titles, in the order of the knowledge."""

    hooks: Mapping[str, str]
    protocols: Mapping[str, str]
    criteria: Mapping[tuple[str, str], str]
    safety: Mapping[str, str]
    severities: Mapping[str, str]
    actions: Mapping[str, str]
    checks: Mapping[str, str]
    follow_up: str
    concepts: Mapping[str, str]
    sources: Mapping[str, str]
    reasons: Mapping[str, str]
    overrides: Mapping[tuple[str, str], str]

    def hook(self, service: str) -> str:
        """The hook of a service id; the id of a service that this version has not."""
        return self.hooks.get(service) or safe(service)

    def services(self, asked: str) -> str:
        """The service id that a hook's name or an id means."""
        return next((id_ for id_, hook in self.hooks.items() if hook == asked), asked)

    def concept(self, concept: str) -> str:
        """What a person calls a concept of evidence: an input's title, else its own name."""
        return self.concepts.get(concept) or concept.replace("-", " ").replace("_", " ")

    def reason(self, code: str) -> tuple[str, str]:
        """The code of an unknown, with its words; one that the texts do not have may be anything."""
        if not code:
            return "", str(texts()["not_recorded"])
        return (code, self.reasons[code]) if code in self.reasons else (str(texts()["other"]), "")

    def override(self, code: str, *, system: str) -> Override:
        """An override reason. A code of a client's own is not shown, only where it comes from."""
        own = self.overrides.get((system, code))
        if own is not None:
            return Override(code, own, _system(system))
        if system == texts()["hl7"]["system"] and code in texts()["hl7"]["codes"]:
            return Override(code, code, system)
        return Override("", str(texts()["other_reason" if code else "no_code"]), _system(system))


def of(bedside: Bedside) -> Names:
    """The names of the knowledge that is in force."""
    known, words = bedside.library.knowledge, bedside.plain
    inputs = {spec.concept: spec.title for spec in known.inputs.values() if spec.concept}
    quantities = {quantity.concept: quantity.title for quantity in known.follow_up.quantities}
    return Names(
        hooks={service.id: service.hook for service in bedside.services},
        protocols={p.id: p.title for p in known.protocols} | {known.follow_up.id: known.follow_up.title},
        criteria={(p.id, c.id): c.title for p in known.protocols for c in p.criteria},
        safety={rule.id: rule.title for rule in known.safety},
        severities={rule.id: rule.severity for rule in known.safety},
        actions={action.id: action.title for action in known.follow_up.actions},
        checks={check.id: check.title for check in known.order_checks},
        follow_up=known.follow_up.id,
        concepts=texts()["concept"] | quantities | inputs,
        sources=bedside.library.words["source"],
        reasons=_reasons(bedside.library.words),
        overrides=_overrides(words),
    )


@lru_cache(maxsize=4096)
def safe(text: str) -> str:
    """An id of the store as it is; what does not look like one is `other`."""
    return text if _ID.fullmatch(text) else str(texts()["other"])


def _reasons(words: Mapping[str, Any]) -> Mapping[str, str]:
    """Sentences with their blanks in brackets: what a card fills in there is the patient's."""
    both = words["why"] | words["reason"]
    return {code: _BLANK.sub(r"[\1]", sentence) for code, sentence in both.items()}


def _overrides(words: Words) -> Mapping[tuple[str, str], str]:
    return {(row.get("system", SYSTEM), row["code"]): row["display"] for row in words.overrides()}


def _system(system: str) -> str:
    """Where a code comes from, without what an address may carry behind its host."""
    if not system:
        return str(texts()["no_system"])
    if system == texts()["hl7"]["system"] or _OID.fullmatch(system):
        return system
    site = _SITE.fullmatch(system)
    return site.group(1).lower() if site else str(texts()["other_system"])
