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

_WHOSE: Final = frozenset({"patient", "subject"})

_NEEDED: Final = frozenset({"patient", "subject", "_id", "_count"})
"""Not left out after a 400: whose data are asked for, and how many at once."""

_CODED: Final = frozenset({"Observation"})
"""Types whose codes are not left out either: without them the answer would be the whole chart."""


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


@dataclass(frozen=True, slots=True)
class Fitted:
    """A search as it is sent, and the names of what was left out of it."""

    params: Parameters = field(repr=False)
    unsent: tuple[str, ...] = ()


def fitted(params: Parameters, *, resource_type: str, capability: Capability, refused: frozenset[str]) -> Fitted:
    """The search with declared parameters only, and none that this server has `refused` before.

    `patient` becomes `subject` where only that is declared: it is never left out, since whose data are asked for is
    not optional.
    """
    kept: list[tuple[str, str]] = []
    unsent: list[str] = []
    for name, value in params:
        if name == "patient" and not capability.takes(resource_type, name):
            kept.append(("subject", f"Patient/{value}"))
        elif name not in _WHOSE and (name in refused or not capability.takes(resource_type, name)):
            unsent.append(name)
        else:
            kept.append((name, value))
    return Fitted(tuple(kept), tuple(dict.fromkeys(unsent)))


def optional(params: Parameters, *, resource_type: str) -> frozenset[str]:
    """The names that a search can do without when a server refuses it as a whole (400)."""
    needed = _NEEDED | {"code"} if resource_type in _CODED else _NEEDED
    return frozenset(name for name, _ in params) - needed


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
