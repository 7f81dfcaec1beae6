"""The gap of a resource that cannot be read, with its reference where at least that can be."""

from __future__ import annotations

import msgspec

from fhir_mappings.facts import Gap


class _Probe(msgspec.Struct):
    resourceType: str = ""  # noqa: N815
    id: str = ""


_probe = msgspec.json.Decoder(_Probe)


def gap(source: str, raw: bytes) -> Gap:
    """`unreadable-resource`: something in it has another type than FHIR says."""
    try:
        probe = _probe.decode(raw)
    except msgspec.MsgspecError:
        return Gap(source, "unreadable-resource")
    return Gap(source, "unreadable-resource", reference=f"{probe.resourceType}/{probe.id}" if probe.id else "")
