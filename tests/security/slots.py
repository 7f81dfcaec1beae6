"""The places where a text of a record or of a request can stand, and the calls that bring it to a card.

A scene is one call with several places filled at once, so that every payload meets all of them in few calls. Which of
them a card shows is not believed: `output_text` fills each with a word of its own and looks where the words come out.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any, Literal

from app.sandbox import patients
from tests.integration import hospital as hospitals
from tests.integration.hospital import FHIR, NOW

Resource = dict[str, Any]

_SYSTEMS = {
    "atc": "http://www.whocc.no/atc",
    "cvx": "http://hl7.org/fhir/sid/cvx",
    "icd10": "http://hl7.org/fhir/sid/icd-10",
    "interpretation": "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation",
    "local": "urn:example:local",
    "loinc": "http://loinc.org",
    "rxnorm": "http://www.nlm.nih.gov/research/umls/rxnorm",
    "snomed": "http://snomed.info/sct",
    "ucum": "http://unitsofmeasure.org",
}
_CLINICAL = "http://terminology.hl7.org/CodeSystem/condition-clinical"
_VERIFIED = "http://terminology.hl7.org/CodeSystem/condition-ver-status"
_ALLERGY_CLINICAL = "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical"
_ALLERGY_VERIFIED = "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification"


@cache
def story(patient_id: str) -> tuple[Resource, ...]:
    """The records of one patient of the demo at NOW; nobody changes these."""
    subject = f"Patient/{patient_id}"

    def belongs(resource: Resource) -> bool:
        owner = resource.get("subject") or resource.get("patient") or {}
        prefix = f"{patient_id}-"
        return resource["id"] == patient_id or owner.get("reference") == subject or resource["id"].startswith(prefix)

    return tuple(resource for resource in patients.bundle(NOW) if belongs(resource))


@dataclass(slots=True)
class Call:
    """One call before it is sent: what the server holds of the patient, and the body."""

    patient_id: str
    records: list[Resource]
    body: Resource
    served: dict[str, tuple[int, Resource]] = field(default_factory=dict)
    """By resource type: status and body that the server answers in place of what it holds."""
    added: int = 0

    @property
    def subject(self) -> Resource:
        return {"reference": f"Patient/{self.patient_id}"}

    def add(self, resource_type: str, **content: Any) -> Resource:
        """One more record of the patient."""
        self.added += 1
        owner = "patient" if resource_type in {"AllergyIntolerance", "Immunization"} else "subject"
        made = {"resourceType": resource_type, "id": f"added-{self.added}", owner: self.subject, **content}
        self.records.append(made)
        return made

    def observe(self, loinc: str, hours: float = 1, *, status: str = "final", **content: Any) -> Resource:
        """A result of so many hours ago; the newest of its code with the hours left out."""
        code = {"coding": [coding("loinc", loinc)]}
        return self.add("Observation", **{"status": status, "code": code, "effectiveDateTime": ago(hours), **content})

    def problem(self, code: Resource) -> None:
        """An active, confirmed entry of the problem list."""
        self.add(
            "Condition",
            clinicalStatus={"coding": [{"system": _CLINICAL, "code": "active"}]},
            verificationStatus={"coding": [{"system": _VERIFIED, "code": "confirmed"}]},
            code=code,
            onsetDateTime="2026-01-10",
            recordedDate="2026-11-20",
        )

    def allergy(self, code: Resource, **content: Any) -> None:
        """An active, confirmed allergy."""
        self.add(
            "AllergyIntolerance",
            clinicalStatus={"coding": [{"system": _ALLERGY_CLINICAL, "code": "active"}]},
            verificationStatus={"coding": [{"system": _ALLERGY_VERIFIED, "code": "confirmed"}]},
            code=code,
            **content,
        )

    def draft(self, name: str, **content: Any) -> None:
        """One more draft of the call, once a day for a week unless said otherwise."""
        entries = self.body["context"]["draftOrders"]["entry"]
        entries.append({"resource": draft(self.patient_id, name, **content)})

    def without(self, resource_type: str, *codes: str) -> None:
        """Take away the records of a type, or of these codes."""
        self.records[:] = [
            one for one in self.records if not (one["resourceType"] == resource_type and _has(one, codes))
        ]

    def of(self, resource_type: str, code: str = "") -> list[Resource]:
        """The records of a type and code, to be changed."""
        return [r for r in self.records if r["resourceType"] == resource_type and _has(r, (code,) if code else ())]


Put = Callable[[Call, str], object]


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for a text, and what it reaches, as a test proves: a text that clients show, a sentence of a card's
    extension and no such text, only what the extension carries as data of the record, or nothing."""

    id: str
    put: Put
    reaches: Literal["text", "sentence", "data", "nothing"] = "text"


@dataclass(frozen=True, slots=True)
class Scene:
    """A call with its slots. `prepare` comes before them."""

    id: str
    patient_id: str
    hook: str
    slots: tuple[Slot, ...]
    prepare: Callable[[Call], None] = field(default=lambda _call: None)

    def call(self, texts: Mapping[str, str]) -> Call:
        """The call with these texts in its slots, by their ids; a slot without one is left out."""
        records = copy.deepcopy(list(story(self.patient_id)))
        if self.hook == "patient-view":
            body = hospitals.hook(self.patient_id)
        else:
            body = hospitals.ordering(self.patient_id, hook=self.hook)
        made = Call(self.patient_id, records, body)
        self.prepare(made)
        for slot in self.slots:
            if slot.id in texts:
                slot.put(made, texts[slot.id])
        return made


def ago(hours: float) -> str:
    """The instant so many hours before NOW."""
    return (NOW - timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")


def coding(system: str, code: str, **more: str) -> Resource:
    return {"system": _SYSTEMS[system], "code": code, **more}


def concept(system: str, code: str, **more: Any) -> Resource:
    return {"coding": [coding(system, code)], **more}


def quantity(value: float, unit: str, code: str = "") -> Resource:
    """With a UCUM code where one is given."""
    made: Resource = {"value": value, "unit": unit}
    return made | ({"system": _SYSTEMS["ucum"], "code": code} if code else {})


def draft(patient_id: str, name: str, **content: Any) -> Resource:
    """An order that is being written; `content` takes the place of its members."""
    amount = quantity(100, "mg", "mg")
    repeat = {
        "frequency": 1,
        "period": 1,
        "periodUnit": "d",
        "boundsPeriod": {"start": "2026-11-23", "end": "2026-11-29"},
    }
    return {
        "resourceType": "MedicationRequest",
        "id": f"draft-{name}",
        "status": "draft",
        "intent": "order",
        "subject": {"reference": f"Patient/{patient_id}"},
        "dosageInstruction": [{"timing": {"repeat": repeat}, "doseAndRate": [{"doseQuantity": amount}]}],
        **content,
    }


def _has(resource: Resource, codes: tuple[str, ...]) -> bool:
    found = {c.get("code") for c in resource.get("code", {}).get("coding", ())}
    return not codes or not found.isdisjoint(codes)


# --- what a card shows of a record ----------------------------------------------------------------------------------


def _positive_culture(call: Call, hours: float, **content: Any) -> None:
    call.observe("600-7", hours, **{"interpretation": [concept("interpretation", "POS")], **content})


def _answer(call: Call, loinc: str, value: Resource) -> None:
    """The newest result of its code."""
    call.observe(loinc, 0.5, **value)


def _bare(call: Call) -> None:
    """No allergies and no cultures but those of the scene."""
    call.without("AllergyIntolerance")
    call.without("Observation", "600-7")


def _both(call: Call) -> None:
    """Both drugs of the protocol, written as drafts."""
    _bare(call)
    call.draft("anakinra", medicationCodeableConcept=concept("atc", "L04AC03"))
    call.draft("ruxolitinib", medicationCodeableConcept=concept("atc", "L01EJ01"))


def _conflict(call: Call, text: str) -> None:
    """Two results of one instant that differ."""
    for value in (140, 260):
        _answer(call, "1988-5", {"valueQuantity": quantity(value, text, "mg/L")})


def _flat(call: Call, text: str) -> None:
    """A plateau pressure below the PEEP of its time."""
    call.without("Observation", "20077-4", "76259-1")
    call.observe("76259-1", 1.6, valueQuantity=quantity(10, text, "cm[H2O]"))
    call.observe("20077-4", 1.6, valueQuantity=quantity(14, "cmH2O", "cm[H2O]"))


_PROBLEMS = (
    Slot("Condition.code.text", lambda call, text: call.problem(concept("icd10", "B44.1", text=text))),
    Slot(
        "Condition.code.coding.display",
        lambda call, text: call.problem({"coding": [coding("icd10", "K74.6", display=text)]}),
    ),
    Slot(
        "Condition.code.coding.code",
        lambda call, text: call.problem({"coding": [coding("local", text), coding("icd10", "M05")]}),
    ),
    Slot("Condition.code.text (no code)", lambda call, text: call.problem({"text": f"Tuberculosis {text}"})),
    Slot(
        "Condition.code.coding.display (code not known)",
        lambda call, text: call.problem({"coding": [coding("local", "x", display=f"PML {text}")]}),
    ),
    Slot("AllergyIntolerance.code.text", lambda call, text: call.allergy(concept("atc", "L04AC03", text=text))),
    Slot(
        "AllergyIntolerance.code.coding.display",
        lambda call, text: call.allergy({"coding": [coding("atc", "L01EJ01", display=text)]}),
    ),
    Slot(
        "Observation.valueCodeableConcept.text (a culture)",
        lambda call, text: _positive_culture(call, 19, valueCodeableConcept={"text": text}),
    ),
)
_SAID = (
    Slot("AllergyIntolerance.code.text (no code)", lambda call, text: call.allergy({"text": f"{text} Kineret"})),
    Slot(
        "AllergyIntolerance.code.coding.code",
        lambda call, text: call.allergy({"coding": [coding("local", text), coding("snomed", "703779004")]}),
    ),
    Slot(
        "Observation.code.text (a culture)",
        lambda call, text: _positive_culture(call, 19, code=concept("loinc", "600-7", text=text)),
    ),
    Slot(
        "Observation.interpretation.text (a culture)",
        lambda call, text: call.of("Observation", "600-7")[-1].update(
            interpretation=[concept("interpretation", "POS", text=text)]
        ),
    ),
    Slot(
        "Procedure.code.text",
        lambda call, text: call.add(
            "Procedure",
            status="completed",
            code=concept("snomed", "313039003", text=text),
            performedDateTime="2020-05-05",
        ),
    ),
)
_OTHERWISE_SAID = (
    Slot(
        "Procedure.code.coding.display",
        lambda call, text: call.add(
            "Procedure",
            status="completed",
            code={"coding": [coding("snomed", "313039003", display=text)]},
            performedDateTime="2020-05-05",
        ),
    ),
    Slot(
        "Observation.valueString (a culture)",
        lambda call, text: call.observe("600-7", 19, valueString=f"no growth of it {text}"),
    ),
    Slot(
        "AllergyIntolerance.code.text (a reaction says what)",
        lambda call, text: call.allergy({"text": text}, reaction=[{"substance": concept("atc", "L04AC03")}]),
    ),
)
_VALUES = (
    Slot(
        "Observation.valueQuantity.unit (converted)",
        lambda call, text: _answer(call, "1988-5", {"valueQuantity": quantity(26.2, text, "mg/dL")}),
    ),
    Slot(
        "Observation.valueQuantity.unit (refused)",
        lambda call, text: _answer(call, "777-3", {"valueQuantity": quantity(222, text)}),
    ),
    Slot(
        "Observation.valueQuantity.code (refused)",
        lambda call, text: _answer(call, "1742-6", {"valueQuantity": {"value": 22, "system": "urn:x", "code": text}}),
    ),
    Slot(
        "Observation.valueQuantity.comparator",
        lambda call, text: _answer(
            call, "1920-8", {"valueQuantity": quantity(22, "U/L", "U/L") | {"comparator": text}}
        ),
    ),
    Slot("Observation.valueString", lambda call, text: _answer(call, "751-8", {"valueString": text})),
    Slot("Observation.valueString (a screen)", lambda call, text: _answer(call, "5195-3", {"valueString": text})),
    Slot(
        "Observation.valueCodeableConcept.text",
        lambda call, text: _answer(call, "2276-4", {"valueCodeableConcept": {"text": text}}),
    ),
)
_MORE_VALUES = (
    Slot(
        "Observation.valueCodeableConcept.coding.display",
        lambda call, text: _answer(call, "777-3", {"valueCodeableConcept": {"coding": [{"display": text}]}}),
    ),
    Slot(
        "Observation.valueCodeableConcept.coding.code",
        lambda call, text: _answer(call, "751-8", {"valueCodeableConcept": {"coding": [{"code": text}]}}),
    ),
    Slot(
        "Observation.valueQuantity.unit (a conflict)",
        _conflict,
    ),
)
_HIDDEN_OTHERWISE = (
    Slot("Condition.code.text (an infection)", lambda call, text: call.problem(concept("icd10", "A41", text=text))),
    Slot(
        "Observation.component.valueString",
        lambda call, text: call.observe(
            "24336-0", 0.5, component=[{"code": concept("loinc", "2703-7"), "valueString": text}]
        ),
    ),
    Slot(
        "Observation.valueQuantity.unit (plateau)",
        _flat,
    ),
)
_COURSE = (
    Slot(
        "Observation.valueQuantity.unit (of a stop)",
        lambda call, text: _answer(call, "1742-6", {"valueQuantity": quantity(6.9, text, "ukat/L")}),
        reaches="data",
    ),
    Slot("Observation.valueString (of the course)", lambda call, text: _answer(call, "1988-5", {"valueString": text})),
)


def _no_pumps(call: Call) -> None:
    call.without("MedicationAdministration")


def _pump(call: Call, text: str) -> None:
    call.add(
        "MedicationAdministration",
        status="in-progress",
        medicationCodeableConcept=concept("atc", "C01CA03"),
        effectivePeriod={"start": ago(1)},
        dosage={"rateQuantity": quantity(4, text)},
    )


_RATES = (Slot("MedicationAdministration.dosage.rateQuantity.unit", _pump, reaches="sentence"),)

# --- what a card shows of a draft -----------------------------------------------------------------------------------

_DRAFTS = (
    Slot(
        "draft MedicationRequest.medicationCodeableConcept.text",
        lambda call, text: call.draft("a", medicationCodeableConcept={"text": text}),
    ),
    Slot(
        "draft MedicationRequest.medicationCodeableConcept.coding.display",
        lambda call, text: call.draft("b", medicationCodeableConcept={"coding": [coding("local", "x", display=text)]}),
    ),
    Slot(
        "draft MedicationRequest.medicationReference.display",
        lambda call, text: call.draft("c", medicationReference={"display": text}),
    ),
    Slot(
        "draft MedicationRequest.contained Medication.code.text",
        lambda call, text: call.draft(
            "d",
            contained=[{"resourceType": "Medication", "id": "m", "code": {"text": text}}],
            medicationReference={"reference": "#m"},
        ),
    ),
    Slot(
        "draft MedicationRequest.contained Medication.ingredient.itemCodeableConcept.text",
        lambda call, text: call.draft(
            "e",
            contained=[
                {"resourceType": "Medication", "id": "m", "ingredient": [{"itemCodeableConcept": {"text": text}}]}
            ],
            medicationReference={"reference": "#m"},
        ),
    ),
    Slot(
        "draft MedicationRequest.medicationCodeableConcept.text (names a drug)",
        lambda call, text: call.draft("f", medicationCodeableConcept={"text": f"{text} anakinra"}),
    ),
    Slot(
        "draft MedicationRequest.medicationCodeableConcept.text (code of one drug, name of another)",
        lambda call, text: call.draft(
            "g", medicationCodeableConcept=concept("rxnorm", "4450", text=f"{text} ruxolitinib")
        ),
    ),
    Slot(
        "draft MedicationRequest.medicationCodeableConcept.text (a vaccine)",
        lambda call, text: call.draft("h", medicationCodeableConcept=concept("cvx", "03", text=text)),
    ),
)


# --- what no card shows ---------------------------------------------------------------------------------------------


def _every(name: str, make: Callable[[str], Any]) -> Slot:
    """A member of every record of a type, `Type.member` and what may follow; only the member is filled."""
    resource_type, member, *_ = name.split(".")

    def put(call: Call, text: str) -> None:
        for resource in call.of(resource_type):
            resource[member] = make(text)

    return Slot(name, put, reaches="nothing")


def _within(name: str, change: Callable[[Resource, str], object]) -> Slot:
    """A place inside what every record of a type has there already."""
    return Slot(name, lambda call, text: [change(r, text) for r in call.of(name.partition(".")[0])], reaches="nothing")


def _body(name: str, put: Callable[[Resource, str], object]) -> Slot:
    return Slot(name, lambda call, text: put(call.body, text), reaches="nothing")


def _outcome(text: str, severity: str = "error") -> Resource:
    issue = {"severity": severity, "code": "processing", "diagnostics": text, "details": {"text": text}}
    return {"resourceType": "OperationOutcome", "text": {"status": "generated", "div": text}, "issue": [issue]}


_PERSON = (
    _every("Patient.name", lambda text: [{"family": text, "given": [text], "text": text, "prefix": [text]}]),
    _every("Patient.telecom", lambda text: [{"system": "phone", "value": text}]),
    _every("Patient.address", lambda text: [{"text": text, "line": [text], "city": text, "postalCode": text}]),
    _every("Patient.identifier", lambda text: [{"system": "urn:example:mrn", "value": text}]),
    _every("Patient.contact", lambda text: [{"name": {"text": text}, "relationship": [{"text": text}]}]),
    _every("Patient.text", lambda text: {"status": "generated", "div": text}),
    _every("Patient.maritalStatus", lambda text: {"text": text}),
    _every("Patient.photo", lambda text: [{"title": text, "url": text}]),
    _every("Patient.communication", lambda text: [{"language": {"text": text}}]),
    _every("Patient.generalPractitioner", lambda text: [{"display": text}]),
    _every("Patient.managingOrganization", lambda text: {"display": text}),
    _every("Patient.extension", lambda text: [{"url": "urn:x", "valueString": text}]),
)
_TYPES = (
    "Observation",
    "MedicationRequest",
    "MedicationAdministration",
    "MedicationStatement",
    "Condition",
    "AllergyIntolerance",
    "Immunization",
    "Procedure",
)
_UNREAD = (
    *(_every(f"{name}.note", lambda text: [{"text": text, "authorString": text}]) for name in _TYPES),
    *(_every(f"{name}.text.div", lambda text: {"status": "generated", "div": text}) for name in _TYPES),
    *(_every(f"{name}.extension.valueString", lambda text: [{"url": "urn:x", "valueString": text}]) for name in _TYPES),
    *(_every(f"{name}.identifier.value", lambda text: [{"system": "urn:x", "value": text}]) for name in _TYPES),
    *(
        _within(f"{name}.subject.display", lambda r, text: (r.get("subject") or r["patient"]).update(display=text))
        for name in _TYPES
    ),
    _every("Observation.performer.display", lambda text: [{"display": text}]),
    _every("Observation.method.text", lambda text: {"text": text, "coding": [{"display": text}]}),
    _every("Observation.device.display", lambda text: {"display": text}),
    _every("Observation.dataAbsentReason.text", lambda text: {"text": text}),
    _within(
        "Observation.referenceRange.text",
        lambda r, text: [one.update(text=text, appliesTo=[{"text": text}]) for one in r.get("referenceRange", ())],
    ),
    _within("Observation.encounter.display", lambda r, text: r.setdefault("encounter", {}).update(display=text)),
    _within("Observation.category.text", lambda r, text: [one.update(text=text) for one in r.get("category", ())]),
    _every("MedicationRequest.requester.display", lambda text: {"display": text}),
    _every("MedicationRequest.reasonCode.text", lambda text: [{"text": text}]),
    _every("MedicationRequest.statusReason.text", lambda text: {"text": text}),
    _within(
        "MedicationRequest.dosageInstruction.text",
        lambda r, text: [
            one.update(text=text, patientInstruction=text, additionalInstruction=[{"text": text}], site={"text": text})
            for one in r.get("dosageInstruction", ())
        ],
    ),
    _within(
        "MedicationRequest.medicationCodeableConcept.text (known code)",
        lambda r, text: r.get("medicationCodeableConcept", {}).update(text=text),
    ),
    _within(
        "MedicationAdministration.medicationCodeableConcept.text (known code)",
        lambda r, text: r.get("medicationCodeableConcept", {}).update(text=text),
    ),
    _within(
        "MedicationStatement.medicationCodeableConcept.text (known code)",
        lambda r, text: r.get("medicationCodeableConcept", {}).update(text=text),
    ),
    _within("MedicationAdministration.dosage.text", lambda r, text: r.get("dosage", {}).update(text=text)),
    _every("MedicationAdministration.performer.actor.display", lambda text: [{"actor": {"display": text}}]),
    _every("MedicationAdministration.reasonCode.text", lambda text: [{"text": text}]),
    _within("MedicationStatement.dosage.text", lambda r, text: [one.update(text=text) for one in r.get("dosage", ())]),
    _every("MedicationStatement.informationSource.display", lambda text: {"display": text}),
    _every("Condition.severity.text", lambda text: {"text": text}),
    _every("Condition.stage.summary.text", lambda text: [{"summary": {"text": text}}]),
    _every("Condition.evidence.code.text", lambda text: [{"code": [{"text": text}]}]),
    _every("Condition.bodySite.text", lambda text: [{"text": text}]),
    _every("Condition.asserter.display", lambda text: {"display": text}),
    _every("AllergyIntolerance.reaction.manifestation.text", lambda text: [{"manifestation": [{"text": text}]}]),
    _every("AllergyIntolerance.asserter.display", lambda text: {"display": text}),
    _within("Immunization.vaccineCode.text", lambda r, text: r["vaccineCode"].update(text=text)),
    _every("Immunization.lotNumber", lambda text: text),
    _every("Immunization.site.text", lambda text: {"text": text}),
    _every("Immunization.manufacturer.display", lambda text: {"display": text}),
    _every("Procedure.outcome.text", lambda text: {"text": text}),
    _every("Procedure.reasonCode.text", lambda text: [{"text": text}]),
    _every("Procedure.location.display", lambda text: {"display": text}),
    _every("Procedure.performer.actor.display", lambda text: [{"actor": {"display": text}}]),
    _every("Procedure.complication.text", lambda text: [{"text": text}]),
    _every("Encounter.type.text", lambda text: [{"text": text}]),
    _every("Encounter.reasonCode.text", lambda text: [{"text": text}]),
)
_REQUEST = (
    _body("context.userId", lambda body, text: body["context"].update(userId=f"Practitioner/{text}")),
    _body("context.encounterId", lambda body, text: body["context"].update(encounterId=text.replace("/", "_"))),
    _body("hookInstance", lambda body, text: body.update(hookInstance=text)),
    _body("fhirAuthorization.scope", lambda body, text: body["fhirAuthorization"].update(scope=text)),
    _body("fhirAuthorization.subject", lambda body, text: body["fhirAuthorization"].update(subject=text)),
    _body(
        "fhirAuthorization, a member that is not known",
        lambda body, text: body["fhirAuthorization"].update({text: text}),
    ),
)
_AROUND = (
    _body("a member that is not known", lambda body, text: body.update({f"x {text}": text})),
    _body("context, a member that is not known", lambda body, text: body["context"].update({f"x {text}": [text]})),
    _body("extension", lambda body, text: body.update(extension={f"x {text}": {text: text}})),
    _body("prefetch, its key", lambda body, text: body.setdefault("prefetch", {}).update({f"x {text}": {"a": text}})),
    _body(
        "prefetch, an OperationOutcome",
        lambda body, text: body.setdefault("prefetch", {}).update(conditions=_outcome(text)),
    ),
)
_SERVER = (
    Slot(
        "OperationOutcome of a refusal",
        lambda call, text: call.served.update(AllergyIntolerance=(403, _outcome(text))),
        reaches="nothing",
    ),
    Slot(
        "OperationOutcome of a search that failed in part",
        lambda call, text: call.served.update(
            Condition=(
                200,
                {
                    "resourceType": "Bundle",
                    "type": "searchset",
                    "link": [{"relation": "self", "url": f"{FHIR}/Condition?x={text}"}],
                    "entry": [{"resource": _outcome(text), "search": {"mode": "outcome"}, "fullUrl": text}],
                },
            )
        ),
        reaches="nothing",
    ),
    Slot(
        "Bundle.link.url of a next page",
        lambda call, text: call.served.update(
            Procedure=(
                200,
                {
                    "resourceType": "Bundle",
                    "type": "searchset",
                    "id": text,
                    "link": [{"relation": "next", "url": text}],
                    "entry": [],
                },
            )
        ),
        reaches="nothing",
    ),
)
_DRAFT_UNREAD = (
    Slot(
        "draft MedicationRequest.id",
        lambda call, text: call.draft("i", medicationCodeableConcept=concept("atc", "L04AC03"), id=text),
        reaches="nothing",
    ),
    Slot(
        "draft MedicationRequest.note.text",
        lambda call, text: call.draft(
            "j",
            medicationCodeableConcept=concept("atc", "L01EJ01"),
            note=[{"text": text}],
            reasonCode=[{"text": text}],
            requester={"display": text},
            subject={**call.subject, "display": text},
        ),
        reaches="nothing",
    ),
    _body(
        "context.selections", lambda body, text: body["context"].update(selections=[text, "MedicationRequest/draft-j"])
    ),
    Slot(
        "draft of another kind",
        lambda call, text: call.body["context"]["draftOrders"]["entry"].append(
            {"fullUrl": text, "resource": {"resourceType": "ServiceRequest", "id": "s", "code": {"text": text}}}
        ),
        reaches="nothing",
    ),
)

_MET = "demo-full-protocol"
SCENES = (
    Scene("problems", _MET, "patient-view", _PROBLEMS, _bare),
    Scene("problems-signing", _MET, "order-sign", _PROBLEMS[:-1], _both),
    Scene("problems-undetermined", "demo-no-ferritin", "patient-view", _PROBLEMS, _bare),
    Scene("said", _MET, "patient-view", _SAID, _bare),
    Scene("said-selecting", _MET, "order-select", _SAID[:-2] + _SAID[-1:], _both),
    Scene("otherwise-said", _MET, "patient-view", _OTHERWISE_SAID, _bare),
    Scene("values", _MET, "patient-view", _VALUES, _bare),
    Scene("values-signing", _MET, "order-sign", _VALUES[1:], _both),
    Scene("more-values", _MET, "patient-view", _MORE_VALUES, _bare),
    Scene("hidden-otherwise", "demo-woman-34", "patient-view", _HIDDEN_OTHERWISE, _bare),
    Scene("course", "demo-day-16", "patient-view", _COURSE),
    Scene("rates", _MET, "patient-view", _RATES, _no_pumps),
    Scene("drafts-selecting", "demo-day-7", "order-select", _DRAFTS),
    Scene("drafts-signing", _MET, "order-sign", _DRAFTS, _both),
    Scene("draft-alone", _MET, "order-sign", _DRAFTS[6:7], _bare),
    Scene("person", _MET, "patient-view", _PERSON),
    Scene("person-signing", _MET, "order-sign", _PERSON, _both),
    Scene("unread", "demo-kidney-transplant", "patient-view", _UNREAD),
    Scene("unread-course", "demo-day-16", "patient-view", _UNREAD),
    Scene("unread-signing", "demo-kidney-transplant", "order-sign", _UNREAD, _both),
    Scene("request", _MET, "patient-view", _REQUEST),
    Scene("around", _MET, "patient-view", _AROUND),
    Scene("server", _MET, "patient-view", _SERVER),
    Scene("server-signing", _MET, "order-sign", _SERVER, _both),
    Scene("drafts-unread", "demo-neutropenia", "order-select", _DRAFT_UNREAD, _bare),
)
"""Every slot meets each service that reads it."""
