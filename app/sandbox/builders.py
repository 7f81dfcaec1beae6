"""FHIR R4 resources of one synthetic patient, written the ways that real hospitals write them.

A `Chart` collects the resources of a patient; every time is given in hours before the chart's `now`, so that a story
never grows old, and every id is made of the patient's id, a short word and a running number, so that the same `now`
gives the same bundle. Numbers are plain JSON numbers. Codes are those of public mappings (knowledge: terminology 2).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

Resource = dict[str, Any]
Code = tuple[str, str, str]
"""Short name of the code system, code, display."""
Unit = tuple[str, str]
"""The unit as written, and its UCUM code; '' where the site sends no code."""

PRACTITIONER = "demo-icu"

_SYSTEMS = {
    "loinc": "http://loinc.org",
    "snomed": "http://snomed.info/sct",
    "mdc": "urn:iso:std:iso:11073:10101",
    "atc": "http://www.whocc.no/atc",
    "atc-de": "http://fhir.de/CodeSystem/bfarm/atc",
    "rxnorm": "http://www.nlm.nih.gov/research/umls/rxnorm",
    "icd10": "http://hl7.org/fhir/sid/icd-10",
    "cvx": "http://hl7.org/fhir/sid/cvx",
    "ucum": "http://unitsofmeasure.org",
    "mimic-chart": "http://mimic.mit.edu/fhir/mimic/CodeSystem/mimic-chartevents-d-items",
    "act": "http://terminology.hl7.org/CodeSystem/v3-ActCode",
    "reason": "http://terminology.hl7.org/CodeSystem/v3-ActReason",
    "interpretation": "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation",
    "observation-category": "http://terminology.hl7.org/CodeSystem/observation-category",
    "condition-clinical": "http://terminology.hl7.org/CodeSystem/condition-clinical",
    "condition-verification": "http://terminology.hl7.org/CodeSystem/condition-ver-status",
    "condition-category": "http://terminology.hl7.org/CodeSystem/condition-category",
    "allergy-clinical": "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical",
    "allergy-verification": "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification",
    "order-category": "http://terminology.hl7.org/CodeSystem/medicationrequest-category",
}

LABORATORY: Code = ("observation-category", "laboratory", "Laboratory")
VITAL_SIGNS: Code = ("observation-category", "vital-signs", "Vital Signs")
VENTILATION: Code = ("snomed", "40617009", "Artificial ventilation")

POSITIVE: Code = ("snomed", "10828004", "Positive")
NEGATIVE: Code = ("snomed", "260385009", "Negative")
DETECTED: Code = ("snomed", "260373001", "Detected")
ARTERIAL_BLOOD: Code = ("snomed", "122552005", "Arterial blood specimen")
NASOPHARYNX: Code = ("snomed", "258500001", "Nasopharyngeal swab")

INTRAVENOUS: Code = ("snomed", "47625008", "Intravenous route")
SUBCUTANEOUS: Code = ("snomed", "34206005", "Subcutaneous route")
ORAL: Code = ("snomed", "26643006", "Oral route")
INHALED: Code = ("snomed", "447694001", "Respiratory tract route")


def coding(code: Code) -> Resource:
    system, value, display = code
    return {"system": _SYSTEMS[system], "code": value, "display": display}


def concept(*codes: Code, text: str = "") -> Resource:
    """A CodeableConcept; without `text` the first display is the text, without codes there is only text."""
    text = text or (codes[0][2] if codes else "")
    return {"coding": [coding(code) for code in codes], "text": text} if codes else {"text": text}


def quantity(value: float, unit: Unit, *, comparator: str = "") -> Resource:
    written: Resource = {"value": value, "unit": unit[0]}
    if comparator:
        written["comparator"] = comparator
    if unit[1]:
        written |= {"system": _SYSTEMS["ucum"], "code": unit[1]}
    return written


def practitioner() -> Resource:
    """The one user of the demo; it belongs to no patient."""
    return {
        "resourceType": "Practitioner",
        "id": PRACTITIONER,
        "active": True,
        "name": [{"family": "Demo-Intensivist", "given": ["Robin"], "prefix": ["Dr"]}],
    }


@dataclass(frozen=True, slots=True)
class Drug:
    """What a drug is called and coded. Only RxNorm ingredients seen in a public mapping are given (terminology 2.6)."""

    name: str
    atc: str
    rxnorm: str = ""
    route: Code = INTRAVENOUS

    def codes(self, systems: Sequence[str]) -> tuple[Code, ...]:
        known = {"atc": self.atc, "atc-de": self.atc, "rxnorm": self.rxnorm}
        return tuple((system, known[system], self.name) for system in systems if known[system])


DRUGS: Mapping[str, Drug] = {
    drug.name: drug
    for drug in (
        Drug("norepinephrine", "C01CA03", "7512"),
        Drug("propofol", "N01AX10"),
        Drug("midazolam", "N05CD08"),
        Drug("sufentanil", "N01AH03"),
        Drug("fentanyl", "N01AH01"),
        Drug("cisatracurium", "M03AC11"),
        Drug("rocuronium", "M03AC09", "68139"),
        Drug("nitric oxide", "R07AX01", route=INHALED),
        Drug("almitrine", "R07AB07"),
        Drug("enoxaparin", "B01AB05", "67108", SUBCUTANEOUS),
        Drug("heparin", "B01AB01", "5224"),
        Drug("pantoprazole", "A02BC02"),
        Drug("insulin", "A10AB01"),
        Drug("furosemide", "C03CA01"),
        Drug("paracetamol", "N02BE01"),
        Drug("dexamethasone", "H02AB02", "3264"),
        Drug("prednisone", "H02AB07", "8640", ORAL),
        Drug("piperacillin and beta-lactamase inhibitor", "J01CR05"),
        Drug("meropenem", "J01DH02"),
        Drug("ceftriaxone", "J01DD04"),
        Drug("linezolid", "J01XX08"),
        Drug("caspofungin", "J02AX04"),
        Drug("posaconazole", "J02AC04", "282446"),
        Drug("tacrolimus", "L04AD02", "42316", ORAL),
        Drug("mycophenolic acid", "L04AA06", route=ORAL),
        Drug("anakinra", "L04AC03", "72435"),
        Drug("ruxolitinib", "L01EJ01", "1193326", ORAL),
        Drug("amlodipine", "C08CA01", route=ORAL),
        Drug("ramipril", "C09AA05", route=ORAL),
        Drug("metformin", "A10BA02", route=ORAL),
        Drug("atorvastatin", "C10AA05", route=ORAL),
        Drug("levothyroxine", "H03AA01", route=ORAL),
    )
}

COVID19: tuple[Code, ...] = (("icd10", "U07.1", "COVID-19, virus identified"), ("snomed", "840539006", "COVID-19"))
ARDS: tuple[Code, ...] = (
    ("icd10", "J80", "Adult respiratory distress syndrome"),
    ("snomed", "67782005", "Acute respiratory distress syndrome"),
)

_PRACTITIONER_REFERENCE = {"reference": f"Practitioner/{PRACTITIONER}"}


@dataclass(slots=True)
class Chart:
    """The resources of one patient. `now` is the end of what is charted: for a deceased patient, the death."""

    patient_id: str
    now: datetime
    resources: list[Resource] = field(default_factory=list)
    drug_systems: tuple[str, ...] = ("atc",)
    medication_form: Literal["concept", "contained", "reference"] = "concept"
    over: bool = False
    """True when nothing may still be running: what would be in progress ended at `now`."""
    _numbers: Counter[str] = field(default_factory=Counter)
    _medications: dict[str, str] = field(default_factory=dict)

    @property
    def subject(self) -> Resource:
        return {"reference": f"Patient/{self.patient_id}"}

    @property
    def encounter(self) -> Resource:
        return {"reference": f"Encounter/{self.patient_id}-encounter-1"}

    def time(self, hours: float) -> str:
        """The instant so many hours before `now`, with zone offset Z."""
        return (self.now - timedelta(hours=hours)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def day(self, days: float) -> str:
        return self.time(days * 24)[:10]

    def period(self, start: float, end: float | None) -> Resource:
        """From `start` to `end` hours before `now`; `end` None is open, or `now` when the stay is over."""
        if end is None:
            return {"start": self.time(start), "end": self.time(0)} if self.over else {"start": self.time(start)}
        return {"start": self.time(start), "end": self.time(end)}

    def add(self, resource_type: str, word: str, content: Mapping[str, Any]) -> Resource:
        """Keep a resource under the next id of its word; meta says that it is test data."""
        self._numbers[word] += 1
        resource = {
            "resourceType": resource_type,
            "id": f"{self.patient_id}-{word}-{self._numbers[word]}",
            "meta": {"tag": [coding(("reason", "HTEST", "test health data"))]},
            **content,
        }
        self.resources.append(resource)
        return resource

    def patient(self, *, family: str, given: str, gender: str, years: int, deceased: bool = False) -> Resource:
        """A patient whose last birthday was about four months ago, so that the age holds at any `now`."""
        born = self.now - timedelta(days=years * 365.2425 + 120)
        resource: Resource = {
            "resourceType": "Patient",
            "id": self.patient_id,
            "meta": {"tag": [coding(("reason", "HTEST", "test health data"))]},
            "identifier": [{"system": "urn:example:rescue-cds-demo", "value": self.patient_id}],
            "active": True,
            "name": [{"use": "official", "text": f"{family}, {given}", "family": family, "given": [given]}],
            "gender": gender,
            "birthDate": born.date().isoformat(),
        }
        if deceased:
            resource["deceasedDateTime"] = self.time(0)
        self.resources.append(resource)
        return resource

    def stay(self, hours: float, *, unit: str = "Intensive care unit") -> None:
        """The inpatient encounter; everything else points at it, so it is the first after the patient."""
        content: Resource = {
            "status": "finished" if self.over else "in-progress",
            "class": coding(("act", "IMP", "inpatient encounter")),
            "type": [{"text": unit}],
            "subject": self.subject,
            "participant": [{"individual": _PRACTITIONER_REFERENCE}],
            "period": self.period(hours, None),
        }
        self.add("Encounter", "encounter", content)

    def observe(
        self,
        word: str,
        codes: Sequence[Code],
        hours: float,
        value: Mapping[str, Any],
        *,
        category: Code = LABORATORY,
        text: str = "",
        specimen: Code | None = None,
        specimen_text: str = "",
        normal: tuple[float | None, float, Unit] | None = None,
        hours_long: float | None = None,
        status: str = "final",
        method: str = "",
        body_site: str = "",
    ) -> Resource:
        """One Observation; `value` is the `value[x]` member, `normal` the reference range (low, high, unit).

        `hours_long` makes it an effectivePeriod that starts at `hours` before now and lasts so long.
        """
        content: Resource = {
            "status": status,
            "category": [{"coding": [coding(category)]}],
            "code": concept(*codes, text=text),
            "subject": self.subject,
            "encounter": self.encounter,
        }
        if hours_long is None:
            content["effectiveDateTime"] = self.time(hours)
        else:
            content["effectivePeriod"] = self.period(hours, hours - hours_long)
        content |= value
        if specimen is not None:
            kind = concept(specimen, text=specimen_text)
            content["contained"] = [{"resourceType": "Specimen", "id": "specimen", "type": kind}]
            content["specimen"] = {"reference": "#specimen", "display": kind["text"]}
        if normal is not None:
            low, high, unit = normal
            limits = {"high": quantity(high, unit)}
            content["referenceRange"] = [limits if low is None else {"low": quantity(low, unit), **limits}]
        if method:
            content["method"] = {"text": method}
        if body_site:
            content["bodySite"] = {"text": body_site}
        return self.add("Observation", word, content)

    def series(
        self,
        word: str,
        codes: Sequence[Code],
        hours: Sequence[float],
        values: Sequence[float],
        unit: Unit,
        **more: Any,
    ) -> None:
        """The same quantity at several times, newest first; as many as there are values."""
        for moment, value in zip(hours, values, strict=False):
            self.observe(word, codes, moment, {"valueQuantity": quantity(value, unit)}, **more)

    def problem(self, codes: Sequence[Code], days: float, *, text: str = "", verification: str = "confirmed") -> None:
        self.add(
            "Condition",
            "condition",
            {
                "clinicalStatus": concept(("condition-clinical", "active", "Active")),
                "verificationStatus": concept(("condition-verification", verification, verification.capitalize())),
                "category": [concept(("condition-category", "encounter-diagnosis", "Encounter Diagnosis"))],
                "code": concept(*codes, text=text),
                "subject": self.subject,
                "onsetDateTime": self.day(days),
                "recordedDate": self.day(min(days, 20)),
            },
        )

    def procedure(
        self,
        word: str,
        codes: Sequence[Code],
        start: float,
        end: float | None = None,
        *,
        status: str = "",
        text: str = "",
        reason: str = "",
    ) -> None:
        """A procedure from `start` to `end` hours before now, in progress when it has no end.

        `status` 'not-done' is a dated negative with `reason` why.
        """
        content: Resource = {
            "status": status or ("completed" if end is not None or self.over else "in-progress"),
            "code": concept(*codes, text=text),
            "subject": self.subject,
            "encounter": self.encounter,
        }
        if status == "not-done":
            content |= {"performedDateTime": self.time(start), "statusReason": {"text": reason}}
        else:
            content["performedPeriod"] = self.period(start, end)
        self.add("Procedure", word, content)

    def allergy(self, *codes: Code, text: str = "") -> None:
        """An allergy, or the statement that there is none."""
        self.add(
            "AllergyIntolerance",
            "allergy",
            {
                "clinicalStatus": concept(("allergy-clinical", "active", "Active")),
                "verificationStatus": concept(("allergy-verification", "confirmed", "Confirmed")),
                "code": concept(*codes, text=text),
                "patient": self.subject,
                "recordedDate": self.day(4),
            },
        )

    def vaccine(self, code: Code, days: float) -> None:
        self.add(
            "Immunization",
            "vaccine",
            {
                "status": "completed",
                "vaccineCode": concept(code),
                "patient": self.subject,
                "occurrenceDateTime": self.day(days),
            },
        )

    def home_drug(self, name: str, text: str, *, years: float = 2) -> None:
        """A medicine taken before admission, as the history says."""
        drug = DRUGS[name]
        self.add(
            "MedicationStatement",
            "statement",
            {
                "status": "active",
                "medicationCodeableConcept": concept(*drug.codes(("atc", "rxnorm")), text=drug.name),
                "subject": self.subject,
                "effectivePeriod": {"start": self.day(years * 365)},
                "dosage": [{"text": text, "route": concept(drug.route)}],
            },
        )

    def infusion(
        self,
        name: str,
        rate: tuple[float, Unit],
        runs: Sequence[tuple[float, float | None]],
        *,
        ordered: float | None = None,
        reason: Sequence[Code] = (),
    ) -> None:
        """A continuous infusion: its order, and each run as (start, end) hours before now; end None is still running.

        The order is active while a run is, else completed.
        """
        drug = DRUGS[name]
        running = any(end is None for _, end in runs) and not self.over
        given = quantity(*rate)
        text = f"{drug.name} {rate[0]:g} {rate[1][0]} continuously"
        dosage = {"text": text, "route": concept(drug.route)}
        order = self._order(
            drug,
            ordered if ordered is not None else max(start for start, _ in runs) + 0.3,
            {**dosage, "doseAndRate": [{"rateQuantity": given}]},
            active=running,
            reason=reason,
        )
        for start, end in sorted(runs, key=lambda run: run[0]):
            open_ended = end is None and not self.over
            self._administration(
                drug,
                {"effectivePeriod": self.period(start, end)},
                {**dosage, "rateQuantity": given},
                status="in-progress" if open_ended else "completed",
                order=order,
            )

    def doses(
        self,
        name: str,
        dose: tuple[float, Unit],
        every: int,
        given: Sequence[float],
        *,
        ordered: float = 96,
        active: bool = True,
        missed: Sequence[float] = (),
        reason: Sequence[Code] = (),
    ) -> None:
        """A drug in single doses every so many hours: its order, and each dose in hours before now; `missed` ones are
        recorded as not given."""
        drug = DRUGS[name]
        amount = quantity(*dose)
        dosage = {"text": f"{drug.name} {dose[0]:g} {dose[1][0]} every {every} h", "route": concept(drug.route)}
        timing = {"repeat": {"frequency": 1, "period": every, "periodUnit": "h"}}
        written = {**dosage, "timing": timing, "doseAndRate": [{"doseQuantity": amount}]}
        order = self._order(drug, ordered, written, active=active and not self.over, reason=reason)
        for moment in given:
            self._administration(
                drug,
                {"effectiveDateTime": self.time(moment)},
                {**dosage, "dose": amount},
                status="completed",
                order=order,
            )
        for moment in missed:
            self._administration(drug, {"effectiveDateTime": self.time(moment)}, dosage, status="not-done", order=order)

    def _order(self, drug: Drug, hours: float, dosage: Resource, *, active: bool, reason: Sequence[Code]) -> Resource:
        content: Resource = {
            "status": "active" if active else "completed",
            "intent": "order",
            "category": [concept(("order-category", "inpatient", "Inpatient"))],
            **self._medication(drug),
            "subject": self.subject,
            "encounter": self.encounter,
            "authoredOn": self.time(hours),
            "requester": _PRACTITIONER_REFERENCE,
            "dosageInstruction": [dosage],
        }
        if reason:
            content["reasonCode"] = [concept(*reason)]
        return self.add("MedicationRequest", "order", content)

    def _administration(self, drug: Drug, when: Resource, dosage: Resource, *, status: str, order: Resource) -> None:
        self.add(
            "MedicationAdministration",
            "given",
            {
                "status": status,
                **self._medication(drug),
                "subject": self.subject,
                "context": self.encounter,
                **when,
                "request": {"reference": f"MedicationRequest/{order['id']}"},
                "dosage": dosage,
            },
        )

    def _medication(self, drug: Drug) -> Resource:
        """The medication[x] of an order or administration, in this chart's form."""
        known = concept(*drug.codes(self.drug_systems), text=drug.name)
        if self.medication_form == "concept":
            return {"medicationCodeableConcept": known}
        content = {"code": {"text": f"{drug.name} preparation"}, "ingredient": [{"itemCodeableConcept": known}]}
        if self.medication_form == "contained":
            held = {"resourceType": "Medication", "id": "drug", **content}
            return {"contained": [held], "medicationReference": {"reference": "#drug"}}
        if drug.name not in self._medications:
            resource = self.add("Medication", "medication", {"status": "active", **content})
            self._medications[drug.name] = f"Medication/{resource['id']}"
        return {"medicationReference": {"reference": self._medications[drug.name], "display": drug.name}}
