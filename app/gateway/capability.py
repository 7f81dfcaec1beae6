"""What a server declares it can be asked: its CapabilityStatement, and a search fitted to it.

A parameter that a server does not know loses the whole search on some (HAPI answers 400, whatever `Prefer` says) and
is passed over in silence by others, which then answer more, or in another order, than was asked. So only declared
parameters are sent (reading 3.13). What is left out makes an answer broader, never narrower, and the caller is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from fhir_mappings.errors import Unreadable

Parameters = tuple[tuple[str, str], ...]

_NEEDED: Final = frozenset({"patient", "subject", "_id", "_count"})
"""Never left out: whose data are asked for, and how many at once."""

_CODED: Final = frozenset({"Observation"})
"""Types whose codes are never left out either: without them the answer would be the whole chart."""


@dataclass(frozen=True, slots=True)
class Capability:
    """Search parameters by resource type. A type with none says nothing about them; no type at all, nothing at all."""

    parameters: Mapping[str, frozenset[str]] = field(default_factory=dict)
    software: str = ""
    fhir_version: str = ""

    def offers(self, resource_type: str) -> bool:
        """False when the server lists what it has and this type is not among it."""
        return not self.parameters or resource_type in self.parameters

    def takes(self, resource_type: str, name: str) -> bool:
        """Whether a search of this type may have this parameter.

        What begins with an underscore belongs to every type or to the result; few servers declare these, so they are
        taken for granted until a search that has them is refused.
        """
        declared = self.parameters.get(resource_type)
        return name.startswith("_") or not declared or name in declared

    def declares(self, resource_type: str, name: str, *, but_not: str) -> bool:
        """Whether this parameter is declared for the type, and the other is not."""
        declared = self.parameters.get(resource_type, frozenset())
        return name in declared and but_not not in declared


@dataclass(frozen=True, slots=True)
class Fitted:
    """A search as it is sent, and the names of what was left out of it."""

    params: Parameters = field(repr=False)
    unsent: tuple[str, ...] = ()


def fitted(params: Parameters, *, resource_type: str, capability: Capability, refused: frozenset[str]) -> Fitted:
    """The search with declared parameters only, and none that this server has `refused` before.

    Whose data are asked for is never left out, nor the codes of Observations. `patient` becomes `subject` where only
    that is declared.
    """
    kept: list[tuple[str, str]] = []
    unsent: list[str] = []
    for name, value in params:
        if name == "patient" and capability.declares(resource_type, "subject", but_not=name):
            kept.append(("subject", f"Patient/{value}"))
        elif not _is_needed(name, resource_type) and (name in refused or not capability.takes(resource_type, name)):
            unsent.append(name)
        else:
            kept.append((name, value))
    return Fitted(tuple(kept), tuple(dict.fromkeys(unsent)))


def optional(params: Parameters, *, resource_type: str, capability: Capability) -> frozenset[str]:
    """The names that a search can do without when a server refuses it as a whole (400).

    Not what the server itself declares: then the 400 has another cause, and nobody shall pay for it.
    """
    declared = capability.parameters.get(resource_type, frozenset())
    return frozenset(name for name, _ in params if not _is_needed(name, resource_type)) - declared


def _is_needed(name: str, resource_type: str) -> bool:
    return name in _NEEDED or (name == "code" and resource_type in _CODED)


class _Param(msgspec.Struct, gc=False):
    name: str = ""


class _Resource(msgspec.Struct, gc=False, rename="camel"):
    type: str = ""
    search_param: tuple[_Param, ...] = ()


class _Rest(msgspec.Struct, gc=False):
    mode: str = ""
    resource: tuple[_Resource, ...] = ()


class _Software(msgspec.Struct, gc=False):
    name: str = ""
    version: str = ""


class _Statement(msgspec.Struct, gc=False, rename="camel"):
    resource_type: str = ""
    fhir_version: str = ""
    software: _Software | None = None
    rest: tuple[_Rest, ...] = ()


_STATEMENT: Final = msgspec.json.Decoder(_Statement)


def read(raw: bytes) -> Capability:
    """The capability of a server from the JSON of its statement. Raises Unreadable when it is none."""
    try:
        statement = _STATEMENT.decode(raw)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        raise Unreadable("not the JSON of a CapabilityStatement") from None
    if statement.resource_type != "CapabilityStatement":
        raise Unreadable("not the JSON of a CapabilityStatement")
    software = statement.software or _Software()
    parameters: dict[str, frozenset[str]] = {}
    for rest in statement.rest:
        for resource in rest.resource if rest.mode in {"", "server"} else ():
            if resource.type:
                names = frozenset(param.name for param in resource.search_param)
                parameters[resource.type] = parameters.get(resource.type, frozenset()) | names
    return Capability(
        parameters=parameters,
        software=f"{software.name} {software.version}".strip(),
        fhir_version=statement.fhir_version,
    )
