"""Codings as servers send them, and the short names of code systems.

One terminology has many addresses: OIDs, trailing slashes, HL7 v2 abbreviations, national editions (knowledge:
terminology 4.4, 4.5). All of them become one short name; anything else keeps its own address.
"""

from __future__ import annotations

import msgspec


class Coding(msgspec.Struct, frozen=True, gc=False):
    """FHIR Coding, the wanted fields."""

    system: str = ""
    code: str = ""
    display: str = ""


class CodeableConcept(msgspec.Struct, frozen=True, gc=False):
    """FHIR CodeableConcept, the wanted fields."""

    coding: tuple[Coding, ...] = ()
    text: str = ""


_SYSTEMS = {
    "loinc": ("http://loinc.org", "https://loinc.org", "urn:oid:2.16.840.1.113883.6.1", "LN"),
    "snomed": ("http://snomed.info/sct", "https://snomed.info/sct", "urn:oid:2.16.840.1.113883.6.96", "SCT"),
    "rxnorm": ("http://www.nlm.nih.gov/research/umls/rxnorm", "urn:oid:2.16.840.1.113883.6.88", "RXNORM"),
    "atc": (
        "http://www.whocc.no/atc",
        "https://www.whocc.no/atc",
        "http://fhir.de/CodeSystem/bfarm/atc",
        "http://fhir.de/CodeSystem/dimdi/atc",
        "urn:oid:2.16.840.1.113883.6.73",
    ),
    "mdc": ("urn:iso:std:iso:11073:10101", "urn:oid:2.16.840.1.113883.6.24", "MDC"),
    "icd10": (
        "http://hl7.org/fhir/sid/icd-10",
        "http://hl7.org/fhir/sid/icd-10-cm",
        "http://hl7.org/fhir/sid/icd-10-de",
        "http://fhir.de/CodeSystem/bfarm/icd-10-gm",
        "http://fhir.de/CodeSystem/dimdi/icd-10-gm",
        "https://smt.esante.gouv.fr/terminologie-cim-10",
        "urn:oid:2.16.840.1.113883.6.3",
        "urn:oid:2.16.840.1.113883.6.90",
        "I10",
    ),
    "cvx": ("http://hl7.org/fhir/sid/cvx", "urn:oid:2.16.840.1.113883.12.292", "CVX"),
    "interpretation": (
        "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation",
        "http://hl7.org/fhir/v3/ObservationInterpretation",
        "urn:oid:2.16.840.1.113883.5.83",
    ),
    "v2-0487": ("http://terminology.hl7.org/CodeSystem/v2-0487", "http://hl7.org/fhir/v2/0487"),
    "ops": ("http://fhir.de/CodeSystem/bfarm/ops", "http://fhir.de/CodeSystem/dimdi/ops"),
    "mimic-lab": ("http://mimic.mit.edu/fhir/mimic/CodeSystem/mimic-d-labitems",),
    "mimic-chart": (
        "http://mimic.mit.edu/fhir/mimic/CodeSystem/mimic-chartevents-d-items",
        "http://mimic.mit.edu/fhir/mimic/CodeSystem/mimic-d-items",
    ),
}
_SHORT = {address.lower().rstrip("/"): name for name, addresses in _SYSTEMS.items() for address in addresses}


def system_name(address: str) -> str:
    """The short name of a code system, or the address itself when it is none of the known ones."""
    return _SHORT.get(address) or _SHORT.get(address.lower().rstrip("/"), address)


def addresses(name: str) -> tuple[str, ...]:
    """The addresses of a code system, the one to write first. A name that is an address is its own."""
    return _SYSTEMS.get(name, (name,))


def key(coding: Coding) -> str:
    """`system|code` with the short system name: how codes are written in the data files and the overlay."""
    return f"{system_name(coding.system)}|{coding.code}"


def loinc_check_digit_holds(code: str) -> bool:
    """True when the last digit is LOINC's mod-10 check digit: exposes typing errors in code lists."""
    number, _, check = code.partition("-")
    if not (number.isdigit() and check.isdigit() and len(check) == 1):
        return False
    digits = [int(d) for d in reversed(number)]
    total = sum(sum(divmod(d * 2, 10)) if i % 2 == 0 else d for i, d in enumerate(digits))
    return (10 - total % 10) % 10 == int(check)
