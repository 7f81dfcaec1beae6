"""Age, sex and whether the patient has died. Names, addresses and identifiers are not read."""

from __future__ import annotations

from datetime import date
from typing import Any, Literal

import msgspec

from fhir_mappings import unreadable
from fhir_mappings.context import Context
from fhir_mappings.errors import BadDate
from fhir_mappings.facts import Gap, Patient
from fhir_mappings.times import parse_day


class _Patient(msgspec.Struct):
    """Each element of any type, so that a malformed one does not take the others with it."""

    id: str = ""
    birthDate: Any = None  # noqa: N815
    gender: Any = None
    deceasedBoolean: Any = None  # noqa: N815
    deceasedDateTime: Any = None  # noqa: N815


_patient = msgspec.json.Decoder(_Patient)
_SEXES: dict[str, Literal["female", "male"]] = {"female": "female", "male": "male"}
_ALIVE = (None, False, "", "false")


def read(raw: bytes, *, context: Context) -> tuple[Patient, tuple[Gap, ...]]:
    """The Patient resource; what cannot be read is unknown and named.

    `gender` other than female and male is unknown sex. `deceased` is true for any value but `false`: a date, also a
    partial or malformed one, says that the patient has died. Gaps (source `patient`): `unreadable-resource`,
    `birth-date-unreadable`, `birth-date-future`.
    """
    try:
        resource = _patient.decode(raw)
    except msgspec.MsgspecError:
        gap = unreadable.gap("patient", raw)
        return Patient(reference=gap.reference), (gap,)
    reference = f"Patient/{resource.id}"
    gaps: list[Gap] = []
    born: tuple[date, date] | None = None
    if resource.birthDate is not None:
        try:
            born = parse_day(str(resource.birthDate))
        except BadDate:
            gaps.append(Gap("patient", "birth-date-unreadable", reference=reference))
        else:
            if context.is_future_day(born[0]):
                gaps.append(Gap("patient", "birth-date-future", reference=reference))
                born = None
    ends = (resource.deceasedBoolean, resource.deceasedDateTime)
    return (
        Patient(
            reference=reference,
            born_earliest=born[0] if born else None,
            born_latest=born[1] if born else None,
            sex=_SEXES.get(str(resource.gender).lower(), ""),
            deceased=any(end not in _ALIVE for end in ends),
        ),
        tuple(gaps),
    )
