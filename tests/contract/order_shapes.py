"""What real clients send to order hooks, built anew: the shapes of public requests around this project's patients.

`seen` says where a shape was read. Nothing is copied: ids, drugs, doses and names are ours; what is kept is what
matters to a reader, that is which members are there, which are missing and which have a type that R4 does not give
them. A prefetch is what the templates of discovery give, in the client's own dialect.
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

SELECT = "order-select"
SIGN = "order-sign"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
ATC = "http://www.whocc.no/atc"
UCUM = "http://unitsofmeasure.org"
CODES = {
    "anakinra": ("72435", "anakinra"),
    "ruxolitinib": ("1193326", "ruxolitinib"),
    "ruxolitinib tablet": ("1193339", "ruxolitinib 5 MG Oral Tablet"),
    "posaconazole": ("282446", "posaconazole"),
    "enoxaparin": ("67108", "enoxaparin"),
}
"""RxNorm, as fhir_mappings knows it: name to code and display."""

PATIENT = "demo-full-protocol"
NEUTROPENIC = "demo-neutropenia"
TREATED = "demo-day-7"


# --- orders -------------------------------------------------------------------------------------------------


def drug(name: str, *, text: str | None = None) -> Json:
    """A CodeableConcept of that drug in RxNorm."""
    code, display = CODES[name]
    return {"coding": [{"system": RXNORM, "code": code, "display": display}], "text": text or display}


def dosage(value: float, unit: str = "mg", *, per_day: int = 1, days: int | None = None) -> Json:
    repeat: Json = {"frequency": per_day, "period": 1, "periodUnit": "d"}
    if days is not None:
        repeat["boundsDuration"] = {"value": days, "unit": "d", "system": UCUM, "code": "d"}
    amount = {"value": value, "unit": unit, "system": UCUM, "code": unit}
    return {"timing": {"repeat": repeat}, "doseAndRate": [{"doseQuantity": amount}]}


def order(name: str, *, patient: str, id: str | None = "draft-1", dose: Json | None = None, **more: Any) -> Json:  # noqa: A002
    """A valid R4 draft; a member given as None is left out."""
    found: Json = {
        "resourceType": "MedicationRequest",
        "id": id,
        "status": "draft",
        "intent": "order",
        "medicationCodeableConcept": drug(name),
        "subject": {"reference": f"Patient/{patient}"},
        "dosageInstruction": None if dose is None else [dose],
        **more,
    }
    return {name: value for name, value in found.items() if value is not None}


def anakinra(patient: str, mg: float = 300, **more: Any) -> Json:
    """300 mg once a day, as the letter gives it, unless another dose is asked for."""
    return order("anakinra", patient=patient, dose=dosage(mg), **{"id": "draft-anakinra"} | more)


def ruxolitinib(patient: str, mg: float = 5, **more: Any) -> Json:
    """5 mg twice a day, as the letter gives it, unless another dose is asked for."""
    return order("ruxolitinib", patient=patient, dose=dosage(mg, per_day=2), **{"id": "draft-ruxolitinib"} | more)


def bundle(*orders: Json, **more: Any) -> Json:
    return {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": one} for one in orders], **more}


def call(
    hook: str,
    draft_orders: Any,
    *,
    patient: str,
    fhir: str | None = None,
    prefetch: Mapping[str, Any] | None = None,
    **context: Any,
) -> Json:
    """The plainest request of an order hook; a context member given as None is left out."""
    inside = {
        "patientId": patient,
        "userId": "Practitioner/canary-user-5521",
        "draftOrders": draft_orders,
        **context,
    }
    body: Json = {
        "hook": hook,
        "hookInstance": str(uuid.uuid4()),
        "context": {name: value for name, value in inside.items() if value is not None},
    }
    return body | ({"fhirServer": fhir} if fhir else {}) | ({"prefetch": dict(prefetch)} if prefetch else {})


def shuffled(body: Json, *, by: int) -> Json:
    """The call with its draft orders in another order: rotated, and mirrored for a negative number."""
    other = copy.deepcopy(body)
    entries = other["context"]["draftOrders"]["entry"]
    turned = entries[abs(by) :] + entries[: abs(by)]
    other["context"]["draftOrders"]["entry"] = turned[::-1] if by < 0 else turned
    return other | {"hookInstance": str(uuid.uuid4())}


# --- clients ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scene:
    """What a client has in its hands: the patient in view, what its prefetch found, and the FHIR server it names."""

    patient: str
    prefetch: Mapping[str, Any]
    fhir: str


@dataclass(frozen=True, slots=True)
class Shape:
    """A request, and what must come of it.

    `drugs` are named by code in the drafts, `possibly` by text only, as the decision records them; `words` stand in
    the cards, whatever their case. `outcomes` are those of the decision.
    """

    name: str
    seen: str
    hook: str
    build: Callable[[Scene], Json]
    patient: str = PATIENT
    status: int = 200
    outcomes: frozenset[str] = frozenset({"card", "nothing-to-say"})
    drugs: frozenset[str] = frozenset()
    possibly: frozenset[str] = frozenset()
    words: tuple[str, ...] = ()
    answers: Mapping[str, Json] = field(default_factory=dict)
    """What the FHIR server has beside the patient's chart, by "Type/id"."""


SANDBOX = "cds-hooks/sandbox, seen on the wire: drafts of its medication and imaging views"
EPIC = "flexpa/sero, example/goodrx-cds-price-comparison/src/index.test.js: order-select of a connectathon"
CRD = "HL7/davinci-crd, input/resources/CRDServiceRequest.json"
PDDI = "HL7/PDDI-CDS, input/images/requests/*-order-{select,sign}-*.json"
RULER = (
    "cqframework/cqf-ruler, plugin/cds-hooks/src/test/resources/opioidcds-*-request*.json, html- and unicode-request"
)
HAPI = "hapifhir/hapi-fhir, hapi-fhir-server-cds-hooks/src/test/resources/ASLPCrdServiceRequest.json"
MEDPLUM = "medplum/medplum, packages/core/src/cds.ts; PyPI healthchain: null for what was not found"
HYDRATOR = "mcode/rems-cds-hooks, prefetch/PrefetchHydrator.ts: an absent token becomes the word undefined"
STANDARD = "HL7/cds-hooks-library, order-select.md and order-sign.md: the examples of the contexts"


def _sandbox(scene: Scene, hook: str, draft_orders: Any, **context: Any) -> Json:
    """No encounter, no authorization, one practitioner for everybody, a Bundle without type."""
    user = "Practitioner/COREPRACTITIONER1"
    return call(
        hook, draft_orders, patient=scene.patient, fhir=scene.fhir, prefetch=scene.prefetch, userId=user, **context
    )


def _pill_draft(scene: Scene, **changes: Any) -> Json:
    """`category` is an object, the dose is a number of pills."""
    repeat = {"frequency": 2, "period": 1, "periodUnit": "d", "boundsPeriod": {"start": "2026-11-23"}}
    amount = {"value": 1, "system": UCUM, "code": "{pill}"}
    return order(
        "ruxolitinib tablet",
        patient=scene.patient,
        id="request-123",
        dose={"doseAndRate": [{"doseQuantity": amount}], "timing": {"repeat": repeat}},
        category={"coding": [{"system": "http://terminology.hl7.org/CodeSystem/medicationrequest-category"}]},
        **changes,
    )


def sandbox_draft(scene: Scene) -> Json:
    drafts = {"resourceType": "Bundle", "entry": [{"resource": _pill_draft(scene)}]}
    return _sandbox(scene, SELECT, drafts, selections=["MedicationRequest/request-123"])


def sandbox_sign(scene: Scene) -> Json:
    return _sandbox(scene, SIGN, {"resourceType": "Bundle", "entry": [{"resource": _pill_draft(scene)}]})


def sandbox_opened(scene: Scene) -> Json:
    """Before a drug is chosen: neither medication nor intent."""
    bare = {"resourceType": "MedicationRequest", "id": "request-123", "status": "draft"}
    subject = {"subject": {"reference": f"Patient/{scene.patient}"}}
    drafts = {"resourceType": "Bundle", "entry": [{"resource": bare | subject}]}
    return _sandbox(scene, SELECT, drafts, selections=["MedicationRequest/request-123"])


def sandbox_imaging(scene: Scene) -> Json:
    image = {
        "resourceType": "ServiceRequest",
        "id": "request-123",
        "status": "draft",
        "intent": "plan",
        "code": {"coding": [{}]},
        "reasonCode": [],
        "subject": {"reference": f"Patient/{scene.patient}"},
    }
    drafts = {"resourceType": "Bundle", "entry": [{"resource": image}]}
    return _sandbox(scene, SELECT, drafts, selections=["ServiceRequest/request-123"])


EPIC_ID = "eAlder.Pk-" + "q7Rt.ZwX-3mLd0vNc" * 12
"""More than 200 characters, where FHIR allows 64."""


def _epic_draft(scene: Scene, number: int, medication: str, display: str, mg: float) -> Json:
    def amount(kind: str, value: float, unit: str) -> Json:
        system = "http://epic.com/CodeSystem/dose-rate-type"
        coding = [{"system": system, "code": kind, "display": kind}]
        return {
            "type": {"coding": coding, "text": kind},
            "doseQuantity": {"value": value, "unit": unit, "system": UCUM, "code": unit},
        }

    return {
        "resourceType": "MedicationRequest",
        "id": f"{EPIC_ID}{number}",
        "status": "draft",
        "intent": "order",
        "category": [{"coding": [{"code": "inpatient", "display": "Inpatient"}], "text": "Inpatient"}],
        "medicationReference": {"reference": f"Medication/{medication}", "display": display},
        "subject": {"reference": f"Patient/{scene.patient}", "display": "Demo-Alder, Ines"},
        "encounter": {"reference": f"Encounter/{'eStay' * 20}"},
        "requester": {
            "extension": [{"valueCode": "unknown", "url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason"}]
        },
        "dosageInstruction": [
            {
                "timing": {
                    "repeat": {
                        "boundsPeriod": {"start": "2026-11-23T13:42:31Z"},
                        "frequency": 1,
                        "period": 12,
                        "periodUnit": "h",
                    },
                    "code": {"text": "Every 12 hours"},
                },
                "asNeededBoolean": False,
                "doseAndRate": [
                    amount("calculated", mg, "mg"),
                    amount("admin-amount", 1, "tablet"),
                    amount("ordered", mg, "mg"),
                ],
            }
        ],
    }


def epic(scene: Scene) -> Json:
    """Two drafts, one of them just picked; neither Medication is sent along."""
    first = _epic_draft(scene, 1, "eMedOne", "ACETAMINOPHEN 325 MG PO TABS", 650)
    second = _epic_draft(scene, 2, "eMedTwo", "RUXOLITINIB 5 MG PO TABS", 5)
    body = call(
        SELECT,
        bundle(first, second),
        patient=scene.patient,
        fhir=scene.fhir,
        prefetch=scene.prefetch,
        encounterId="eStay" * 20,
        userId="Practitioner/eUser3",
        selections=[f"MedicationRequest/{EPIC_ID}2"],
    )
    body["fhirAuthorization"] = {
        "access_token": "opaque-for-epic",
        "token_type": "Bearer",
        "expires_in": 3600,
        "scope": "user/AllergyIntolerance.Read user/MedicationRequest.Read user/Observation.Read user/Patient.Read",
        "subject": "rescue-cds",
    }
    prefix = "com.epic.cdshooks.request."
    body["extension"] = {f"{prefix}{name}": "4011" for name in ("bpa-trigger-action", "criteria-id", "fhir-version")}
    return body | {"hookInstance": str(uuid.uuid1())}


def crd(scene: Scene) -> Json:
    """References are absolute and to another base than `fhirServer`; entries have a fullUrl; narrative everywhere."""
    there = "http://example.org/otherEHR/fhir"
    sent = order(
        "anakinra",
        patient=scene.patient,
        id="1357",
        dose=dosage(300),
        intent="original-order",
        subject={"reference": f"{there}/Patient/{scene.patient}"},
        encounter={"reference": f"{there}/Encounter/987"},
        requester={"reference": f"{there}/PractitionerRole/ABC", "display": "Dr. Demo"},
        text={"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">anakinra<br/>300 mg</div>'},
    )
    other = {
        "resourceType": "ServiceRequest",
        "id": "2468",
        "status": "draft",
        "intent": "original-order",
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "726551006"}]},
        "subject": {"reference": f"{there}/Patient/{scene.patient}"},
    }
    entries = [{"fullUrl": f"{there}/{one['resourceType']}/{one['id']}", "resource": one} for one in (sent, other)]
    return call(
        SIGN,
        {"resourceType": "Bundle", "type": "collection", "entry": entries},
        patient=scene.patient,
        fhir=scene.fhir,
        prefetch={**scene.prefetch, "coverage": {"resourceType": "Bundle", "type": "searchset", "total": 0}},
        encounterId="987",
    )


def _stu3_draft(scene: Scene, name: str) -> Json:
    """No id, no intent; the dose stands where STU3 had it."""
    stu3 = {"doseQuantity": {"value": 1, "system": UCUM, "code": "{pill}"}, "timing": dosage(1)["timing"]}
    return order(name, patient=scene.patient, dose=stu3, authoredOn="2026-11-23", id=None, intent=None)


def _stu3(scene: Scene, hook: str, draft: Json, **context: Any) -> Json:
    """`user` and `patient` at the root, `total` above the entries, extension keys that are no DNS name."""
    counted = {
        key: {**value, "total": len(value.get("entry", [])) + 2, "link": [{"relation": "self", "url": "http://h/x"}]}
        if value.get("resourceType") == "Bundle"
        else value
        for key, value in scene.prefetch.items()
    }
    past = {
        "resourceType": "MedicationRequest",
        "id": "r101",
        "status": "active",
        "intent": "order",
        "category": {"coding": [{"system": "http://hl7.org/fhir/medication-request-category", "code": "outpatient"}]},
        "medicationCodeableConcept": drug("enoxaparin"),
        "subject": {"reference": f"Patient/{scene.patient}"},
        "context": {"reference": "Encounter/e101"},
        "dosageInstruction": [{"asNeededBoolean": False, "doseQuantity": {"value": 1, "unit": "patch"}}],
    }
    old = {"resourceType": "Bundle", "type": "searchset", "total": 3, "entry": [{"resource": past}]}
    body = call(
        hook,
        {"resourceType": "Bundle", "entry": [{"resource": draft}]},
        patient=scene.patient,
        fhir=scene.fhir,
        prefetch=counted | {"item2": old},
        userId=None,
        **context,
    )
    settings = {"filter-out-repeated-alerts": True, "show-evidence-support": True}
    return body | {
        "user": "Practitioner/COREPRACTITIONER1",
        "patient": scene.patient,
        "extension": {"pddi-configuration-items": settings},
    }


def pddi_sign(scene: Scene) -> Json:
    return _stu3(scene, SIGN, _stu3_draft(scene, "ruxolitinib tablet"), encounterId="e101")


def pddi_select(scene: Scene) -> Json:
    draft = _stu3_draft(scene, "anakinra") | {"id": "anakinra-order-select-test"}
    return _stu3(scene, SELECT, draft, selections=["MedicationRequest/anakinra-order-select-test"])


def pddi_unmatched(scene: Scene) -> Json:
    """An order without id cannot be what `selections` names; what was sent is looked at all the same."""
    return _stu3(scene, SELECT, _stu3_draft(scene, "anakinra"), selections=["MedicationRequest/anakinra-order"])


def ruler_null(scene: Scene) -> Json:
    """Every key null, typed ids, `hookInstance` "test", the order active, markup and other scripts in its names."""
    name = '<script>alert("x")</script> \u00ab\u30a2\u30ca\u30ad\u30f3\u30e9\u00bb \u202eanakinra'
    draft = anakinra(
        scene.patient,
        status="active",
        category={"coding": [{"code": "community"}]},
        medicationCodeableConcept=drug("anakinra", text=name),
        extension=[{"url": "http://fhir.org/guides/x/StructureDefinition/roller", "valueString": "<b>30 days</b>"}],
    )
    return call(
        SELECT,
        bundle(draft),
        patient=f"Patient/{scene.patient}",
        fhir=scene.fhir,
        prefetch=dict.fromkeys([*scene.prefetch, "item1", "item2"]),
        encounterId="Encounter/example-rec-04",
        selections=["MedicationRequest/draft-anakinra"],
    ) | {"hookInstance": "test"}


def ruler_wrapped(scene: Scene) -> Json:
    """{response, resource} around each value, as before 1.0."""
    wrapped = {key: {"response": {"status": "200 OK"}, "resource": value} for key, value in scene.prefetch.items()}
    return call(SIGN, bundle(anakinra(scene.patient)), patient=f"Patient/{scene.patient}", prefetch=wrapped)


def hapi(scene: Scene) -> Json:
    """Orders for another patient than the one in view, a server nobody knows, an empty scope."""
    orders = [
        {
            "resourceType": "ServiceRequest",
            "id": f"SleepStudy{number}",
            "status": "draft",
            "intent": "order",
            "code": {"text": "Home sleep apnoea testing"},
            "subject": {"reference": "Patient/positive"},
        }
        for number in (1, 2)
    ]
    drafts = {"resourceType": "Bundle", "entry": [{"resource": one} for one in orders]}
    body = call(SIGN, drafts, patient=f"Patient/{scene.patient}", fhir="https://localhost:8000", userId=None)
    authorization = {"access_token": "some", "token_type": "Bearer", "expires_in": 300000, "scope": "", "subject": "x"}
    return body | {"fhirAuthorization": authorization, "hookInstance": "a-name-that-is-no-uuid"}


def undefined(scene: Scene) -> Json:
    return call(
        SIGN,
        bundle(anakinra(scene.patient, encounter={"reference": "Encounter/undefined"})),
        patient=scene.patient,
        prefetch=scene.prefetch,
        encounterId="Encounter/undefined",
    )


def null_prefetch(scene: Scene) -> Json:
    keys = dict.fromkeys(scene.prefetch)
    return call(SELECT, bundle(anakinra(scene.patient)), patient=scene.patient, fhir=scene.fhir, prefetch=keys)


def null_alone(scene: Scene) -> Json:
    """The same from a client that names no server: nothing could be looked at."""
    return {name: value for name, value in null_prefetch(scene).items() if name != "fhirServer"}


def mixed(scene: Scene) -> Json:
    """Every type of order, and the Medication that one of them points at."""
    subject = {"subject": {"reference": f"Patient/{scene.patient}"}}
    patient = {"patient": {"reference": f"Patient/{scene.patient}"}}
    medication = {"resourceType": "Medication", "id": "med-1", "code": drug("anakinra")}
    pointing = anakinra(scene.patient, medicationCodeableConcept=None)
    others: list[Json] = [
        {"resourceType": "ServiceRequest", "id": "s1", "status": "draft", "intent": "order"} | subject,
        {"resourceType": "NutritionOrder", "id": "n1", "status": "draft", "dateTime": "2026-11-23"} | patient,
        {"resourceType": "DeviceRequest", "id": "d1", "status": "draft", "intent": "order"} | subject,
        {"resourceType": "VisionPrescription", "id": "v1", "status": "draft"} | patient,
        {"resourceType": "CommunicationRequest", "id": "c1", "status": "draft"} | subject,
        {"resourceType": "Something"},
        {"id": "without-type"},
    ]
    pointing["medicationReference"] = {"reference": "Medication/med-1"}
    return call(
        SIGN, bundle(*others[:3], pointing, medication, *others[3:]), patient=scene.patient, prefetch=scene.prefetch
    )


def dose_as_object(scene: Scene) -> Json:
    """`doseAndRate` is an object in the R4 example of order-select itself."""
    dose = dosage(5, per_day=2)
    dose["doseAndRate"] = dose["doseAndRate"][0]
    draft = order("ruxolitinib", patient=scene.patient, id="smart-MedicationRequest-103", dose=dose)
    nutrition = {
        "resourceType": "NutritionOrder",
        "id": "pureeddiet",
        "status": "draft",
        "patient": {"reference": f"Patient/{scene.patient}"},
    }
    return call(
        SELECT,
        bundle(nutrition, draft),
        patient=scene.patient,
        prefetch=scene.prefetch,
        selections=["NutritionOrder/pureeddiet", "MedicationRequest/smart-MedicationRequest-103"],
    )


def _referring(scene: Scene, reference: str, *entries: Json, contained: Json | None = None, **body: Any) -> Json:
    draft = anakinra(scene.patient, medicationCodeableConcept=None, medicationReference={"reference": reference})
    if contained is not None:
        draft["contained"] = [contained]
    drafts = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": draft}, *entries]}
    return call(SIGN, drafts, patient=scene.patient, prefetch=scene.prefetch, **body)


MEDICATION: Json = {"resourceType": "Medication", "id": "med-7", "code": drug("anakinra")}


def contained(scene: Scene) -> Json:
    return _referring(scene, "#med-7", contained=MEDICATION)


def by_full_url(scene: Scene) -> Json:
    address = "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"
    return _referring(scene, address, {"fullUrl": address, "resource": {**MEDICATION, "id": "of-no-use"}})


def by_read(scene: Scene) -> Json:
    return _referring(scene, "Medication/med-7", fhir=scene.fhir)


def _by_code(*names: str) -> frozenset[str]:
    return frozenset(names)


CARD = frozenset({"card"})

SHAPES: tuple[Shape, ...] = (
    Shape("sandbox: a drug is picked", SANDBOX, SELECT, sandbox_draft, drugs=_by_code("ruxolitinib")),
    Shape("sandbox: sign", SANDBOX, SIGN, sandbox_sign, drugs=_by_code("ruxolitinib")),
    Shape("sandbox: the view is opened", SANDBOX, SELECT, sandbox_opened),
    Shape("sandbox: imaging", SANDBOX, SELECT, sandbox_imaging, outcomes=frozenset({"nothing-to-say"})),
    Shape(
        "sandbox: the tab is clicked again, order-select", SANDBOX, SELECT,
        lambda scene: _sandbox(scene, SELECT, None), status=400,
    ),
    Shape(
        "sandbox: the tab is clicked again, order-sign", SANDBOX, SIGN,
        lambda scene: _sandbox(scene, SIGN, None), status=400,
    ),
    Shape(
        "Epic: the Medication cannot be read", EPIC, SELECT, epic, patient=NEUTROPENIC,
        outcomes=CARD, possibly=_by_code("ruxolitinib"), words=("ruxolitinib", "neutrophil", "possibl"),
    ),
    Shape(
        "Epic: the Medication can be read", EPIC, SELECT, epic, drugs=_by_code("ruxolitinib"),
        answers={"Medication/eMedTwo": {"resourceType": "Medication", "id": "eMedTwo", "code": drug("ruxolitinib")}},
    ),
    Shape("CRD: absolute references to another base", CRD, SIGN, crd, drugs=_by_code("anakinra")),
    Shape(
        "CRD: the same for a neutropenic patient", CRD, SIGN, crd, patient=NEUTROPENIC,
        outcomes=CARD, drugs=_by_code("anakinra"), words=("neutrophil",),
    ),
    Shape("PDDI: sign", PDDI, SIGN, pddi_sign, drugs=_by_code("ruxolitinib")),
    Shape(
        "PDDI: select", PDDI, SELECT, pddi_select, patient=NEUTROPENIC,
        outcomes=CARD, drugs=_by_code("anakinra"), words=("neutrophil",),
    ),
    Shape(
        "PDDI: an order without id is selected", PDDI, SELECT, pddi_unmatched, patient=NEUTROPENIC,
        outcomes=CARD, drugs=_by_code("anakinra"), words=("neutrophil",),
    ),
    Shape(
        "cqf-ruler: null everywhere, markup in names", RULER, SELECT, ruler_null, patient=NEUTROPENIC,
        outcomes=CARD, drugs=_by_code("anakinra"), words=("neutrophil",),
    ),
    Shape(
        "cqf-ruler: wrapped prefetch", RULER, SIGN, ruler_wrapped, patient=NEUTROPENIC,
        outcomes=CARD, drugs=_by_code("anakinra"), words=("neutrophil",),
    ),
    Shape("HAPI: orders of another patient", HAPI, SIGN, hapi, outcomes=frozenset({"identity-mismatch"})),
    Shape("Encounter/undefined", HYDRATOR, SIGN, undefined, drugs=_by_code("anakinra")),
    Shape("medplum: null prefetch", MEDPLUM, SELECT, null_prefetch, drugs=_by_code("anakinra")),
    Shape("healthchain: null prefetch and no server", MEDPLUM, SELECT, null_alone, status=412),
    Shape("every type of order", STANDARD, SIGN, mixed, drugs=_by_code("anakinra")),
    Shape("doseAndRate as an object", STANDARD, SELECT, dose_as_object, drugs=_by_code("ruxolitinib")),
    Shape("the Medication is contained", STANDARD, SIGN, contained, drugs=_by_code("anakinra")),
    Shape("the Medication is an entry of that fullUrl", STANDARD, SIGN, by_full_url, drugs=_by_code("anakinra")),
    Shape(
        "the Medication is read", STANDARD, SIGN, by_read, drugs=_by_code("anakinra"),
        answers={"Medication/med-7": MEDICATION},
    ),
)  # fmt: skip
