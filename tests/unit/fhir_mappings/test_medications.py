"""Orders, administrations and statements: who the drug is, whether it is given, when, how much and where."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fhir_mappings import medications
from fhir_mappings.codebook import Codebook
from fhir_mappings.context import Context
from fhir_mappings.errors import BadCodebook
from fhir_mappings.facts import Gap, MedicationUse, Overlay

NOW = datetime(2021, 3, 20, 12, 0, tzinfo=UTC)
ATC = "http://www.whocc.no/atc"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
SNOMED = "http://snomed.info/sct"


def context(*, medications: dict[str, bytes] | None = None, **overlay: Any) -> Context:
    return Context(now=NOW, zone=ZoneInfo("Europe/Paris"), overlay=Overlay(**overlay), medications=medications or {})


def concept(*codings: tuple[str, str] | tuple[str, str, str], text: str = "") -> dict[str, Any]:
    names = ("system", "code", "display")
    found: dict[str, Any] = {"coding": [dict(zip(names, c, strict=False)) for c in codings]}
    return found | {"text": text} if text else found


def request(**fields: Any) -> dict[str, Any]:
    base = {"resourceType": "MedicationRequest", "id": "r1", "status": "active", "intent": "order"}
    return base | {"medicationCodeableConcept": concept((ATC, "L04AC03"))} | fields


def administration(**fields: Any) -> dict[str, Any]:
    base = {"resourceType": "MedicationAdministration", "id": "a1", "status": "completed"}
    return base | {"medicationCodeableConcept": concept((ATC, "M03AC11"))} | fields


def statement(**fields: Any) -> dict[str, Any]:
    base = {"resourceType": "MedicationStatement", "id": "s1", "status": "active"}
    return base | {"medicationCodeableConcept": concept((ATC, "J02AC01"))} | fields


def read(
    resource: dict[str, Any], *, where: Context | None = None
) -> tuple[tuple[MedicationUse, ...], tuple[Gap, ...]]:
    return medications.collect([("orders", json.dumps(resource).encode())], context=where or context())


def one(resource: dict[str, Any], *, where: Context | None = None) -> MedicationUse:
    uses, gaps = read(resource, where=where)
    assert gaps == ()
    assert len(uses) == 1
    return uses[0]


class TestWho:
    @pytest.mark.parametrize(
        ("system", "code", "ingredient"),
        [
            (ATC, "L04AC03", "anakinra"),
            (RXNORM, "72435", "anakinra"),
            (SNOMED, "430817009", "anakinra"),
            (RXNORM, "727711", "anakinra"),
            (ATC, "L01EJ01", "ruxolitinib"),
            (ATC, "L01XE18", "ruxolitinib"),
            ("http://fhir.de/CodeSystem/bfarm/atc", "L04AA29", "tofacitinib"),
            (ATC, "L04AF09", "other JAK inhibitor"),
            (ATC, "L04AB99", "other TNF inhibitor"),
            (ATC, "L04AG08", "other immunosuppressant"),
            (ATC, "H02AB02", "dexamethasone"),
            (ATC, "H02AB17", "other systemic corticosteroid"),
            (ATC, "H02AA02", "fludrocortisone"),
            (ATC, "H02CA03", "ketoconazole"),
            (ATC, "R07AX01", "nitric oxide"),
            ("http://mimic.mit.edu/fhir/mimic/CodeSystem/mimic-medication-icu", "221555", "cisatracurium"),
        ],
    )
    def test_a_code_establishes_the_ingredient(self, system: str, code: str, ingredient: str) -> None:
        use = one(request(medicationCodeableConcept=concept((system, code))))
        assert use.ingredients == (ingredient,)
        assert use.identity == "code"

    @pytest.mark.parametrize(
        ("code", "ingredients"),
        [
            ("J05AR10", ("lopinavir", "ritonavir")),
            ("J05AE30", ("ritonavir",)),
            ("J05AR22", ("cobicistat", "darunavir")),
            ("J04AM06", ("rifampicin",)),
            ("A02BD04", ("clarithromycin",)),
        ],
    )
    def test_a_combination_is_all_its_listed_ingredients(self, code: str, ingredients: tuple[str, ...]) -> None:
        assert one(request(medicationCodeableConcept=concept((ATC, code)))).ingredients == ingredients

    def test_another_atc_substance_is_known_to_be_none_of_the_listed(self) -> None:
        use = one(request(medicationCodeableConcept=concept((ATC, "J01CR02"), text="Augmentin")))
        assert (use.ingredients, use.possibly, use.identity) == ((), (), "code")

    def test_an_atc_class_may_be_any_listed_drug_in_it(self) -> None:
        use = one(request(medicationCodeableConcept=concept((ATC, "J02AC"))))
        assert use.identity == "none"
        assert set(use.possibly) == {"fluconazole", "itraconazole", "voriconazole", "posaconazole", "isavuconazole"}

    def test_an_immunosuppressant_class_establishes_the_class_and_leaves_the_drug_open(self) -> None:
        use = one(request(medicationCodeableConcept=concept((ATC, "L04AC"))))
        assert use.ingredients == ("other immunosuppressant",)
        assert {"anakinra", "tocilizumab"} <= set(use.possibly)

    @pytest.mark.parametrize("system", [RXNORM, SNOMED, "urn:local"])
    def test_an_unlisted_code_elsewhere_says_nothing_so_words_screen(self, system: str) -> None:
        use = one(request(medicationCodeableConcept=concept((system, "999", "24 HR Diltiazem 120 MG Capsule"))))
        assert (use.ingredients, use.possibly, use.identity) == ((), ("diltiazem",), "text")

    def test_words_that_name_none_leave_text_identity(self) -> None:
        use = one(request(medicationCodeableConcept={"text": "Paracetamol 1 g"}))
        assert (use.ingredients, use.possibly, use.identity, use.label) == ((), (), "text", "Paracetamol 1 g")

    def test_neither_known_code_nor_words(self) -> None:
        use = one(request(medicationCodeableConcept=concept(("urn:local", "4711"))))
        assert (use.possibly, use.identity, use.label) == ((), "none", "")

    def test_no_medication_at_all(self) -> None:
        resource = request()
        del resource["medicationCodeableConcept"]
        assert one(resource).identity == "none"

    @pytest.mark.parametrize(
        ("text", "possibly"),
        [
            ("KINERET 100 mg/0,67 ml", ("anakinra",)),
            ("Vérapamil LP 240", ("verapamil",)),
            ("Millepertuis", ("st john's wort",)),
            ("St. John’s wort", ("st john's wort",)),
            ("Kaletra", ("lopinavir", "ritonavir")),
            ("Solu-Medrol", ("methylprednisolone",)),
            ("Methylprednisolone", ("methylprednisolone",)),
            ("Monoxyde d'azote inhalé", ("nitric oxide",)),
            ("Anakinrax", ()),
        ],
    )
    def test_the_screen_sees_whole_words_without_case_or_accents(self, text: str, possibly: tuple[str, ...]) -> None:
        use = one(request(medicationCodeableConcept={"text": text}))
        assert use.possibly == possibly
        assert use.ingredients == ()

    def test_another_listed_name_in_the_text_of_a_coded_drug_raises_doubt(self) -> None:
        use = one(statement(medicationCodeableConcept=concept((ATC, "B01AB01"), text="Atazanavir")))
        assert (use.ingredients, use.possibly, use.identity) == ((), ("atazanavir",), "code")
        both = one(statement(medicationCodeableConcept=concept((ATC, "J02AC01", "fluconazole"), text="Voriconazole")))
        assert (both.ingredients, both.possibly) == (("fluconazole",), ("voriconazole",))

    def test_an_unverified_code_only_raises_doubt(self) -> None:
        use = one(request(medicationCodeableConcept=concept((RXNORM, "2047232"))))
        assert (use.ingredients, use.possibly, use.identity) == ((), ("baricitinib",), "none")

    def test_a_product_that_was_seen_in_two_sources_names_its_ingredient(self) -> None:
        use = one(request(medicationCodeableConcept=concept((RXNORM, "1193339"))))
        assert (use.ingredients, use.possibly, use.identity) == (("ruxolitinib",), (), "code")

    def test_an_unverified_product_only_raises_doubt(self) -> None:
        use = one(request(medicationCodeableConcept=concept((RXNORM, "746645"))))
        assert (use.ingredients, use.possibly, use.identity) == ((), ("lopinavir", "ritonavir"), "none")
        beside = one(request(medicationCodeableConcept=concept((RXNORM, "198377"), (ATC, "L04AD02"))))
        assert (beside.ingredients, beside.possibly, beside.identity) == (("tacrolimus",), (), "code")

    def test_products_of_the_site(self) -> None:
        where = context(products={"urn:local|77": ("anakinra",)})
        use = one(request(medicationCodeableConcept=concept(("urn:local", "77"), text="Pump 3")), where=where)
        assert (use.ingredients, use.identity) == (("anakinra",), "code")

    def test_irrelevant_products_of_the_site_silence_their_words(self) -> None:
        where = context(irrelevant_products=frozenset({"urn:local|88"}))
        silent = one(request(medicationCodeableConcept=concept(("urn:local", "88"), text="not Kineret")), where=where)
        assert (silent.ingredients, silent.possibly, silent.identity) == ((), (), "code")
        codings = concept(("urn:local", "88"), (ATC, "L04AC03"))
        assert one(request(medicationCodeableConcept=codings), where=where).ingredients == ("anakinra",)


class TestMedicationResource:
    def reference(self, reference: str, **fields: Any) -> dict[str, Any]:
        resource = request(medicationReference={"reference": reference}, **fields)
        del resource["medicationCodeableConcept"]
        return resource

    @pytest.mark.parametrize(
        "reference",
        [
            "Medication/m1",
            "https://fhir.example.org/r4/Medication/m1",
            "Medication/m1/_history/3",
        ],
    )
    def test_is_found_by_any_form_of_reference(self, reference: str) -> None:
        raw = json.dumps({"resourceType": "Medication", "id": "m1", "code": concept((ATC, "J02AC03"))}).encode()
        use = one(self.reference(reference), where=context(medications={"Medication/m1": raw}))
        assert (use.ingredients, use.identity) == (("voriconazole",), "code")

    @pytest.mark.parametrize("reference", ["Medication/m2", "XMedication/m1", "urn:uuid:1", "#m1"])
    def test_that_is_not_there_is_a_gap(self, reference: str) -> None:
        raw = json.dumps({"resourceType": "Medication", "id": "m1"}).encode()
        uses, gaps = read(self.reference(reference), where=context(medications={"Medication/m1": raw}))
        assert uses[0].identity == "none"
        assert gaps == (Gap("orders", "medication-not-found", "medication", "MedicationRequest/r1"),)

    @pytest.mark.parametrize("raw", [b"[]", b'{"resourceType": "Patient", "id": "m1"}'])
    def test_that_is_something_else_is_not_there(self, raw: bytes) -> None:
        _, gaps = read(self.reference("Medication/m1"), where=context(medications={"Medication/m1": raw}))
        assert [gap.why for gap in gaps] == ["medication-not-found"]

    def test_contained(self) -> None:
        contained = [
            {"resourceType": "Practitioner", "id": "p"},
            {"resourceType": "Medication", "id": "other", "code": concept((ATC, "L04AC07"))},
            {"resourceType": "Medication", "id": "med2", "code": concept((ATC, "L04AC03"))},
        ]
        assert one(self.reference("#med2", contained=contained)).ingredients == ("anakinra",)

    def medication(self, *items: dict[str, Any], **fields: Any) -> MedicationUse:
        contained = [
            {"resourceType": "Medication", "id": "m", "ingredient": list(items), **fields},
            {"resourceType": "Medication", "id": "i", "code": concept((ATC, "J02AC01"))},
        ]
        return one(self.reference("#m", contained=contained))

    def test_ingredients_by_code(self) -> None:
        use = self.medication(
            {"itemCodeableConcept": concept((ATC, "J05AE03"), text="Ritonavir")},
            {"itemReference": {"reference": "#i"}},
            {"itemCodeableConcept": concept((RXNORM, "6851")), "isActive": False},
        )
        assert (use.ingredients, use.identity, use.label) == (("fluconazole", "ritonavir"), "code", "Ritonavir")

    def test_one_ingredient_by_words_only_leaves_text_identity(self) -> None:
        use = self.medication(
            {"itemCodeableConcept": concept((ATC, "J05AE03"))},
            {"itemCodeableConcept": {"text": "Lopinavir"}},
        )
        assert (use.ingredients, use.possibly, use.identity) == (("ritonavir",), ("lopinavir",), "text")

    def test_one_ingredient_that_nobody_names_leaves_none(self) -> None:
        known = {"itemCodeableConcept": concept((ATC, "J05AE03"))}
        for unnamed in ({"itemReference": {"reference": "#gone"}}, {}):
            assert self.medication(known, unnamed).identity == "none"

    def test_words_of_a_reference_screen_too(self) -> None:
        use = self.medication({"itemReference": {"reference": "#gone", "display": "Kineret"}})
        assert (use.possibly, use.identity) == (("anakinra",), "text")

    def test_words_for_the_whole_speak_for_unknown_parts(self) -> None:
        use = self.medication({"itemCodeableConcept": concept(("urn:local", "1"))}, code={"text": "Mixture"})
        assert (use.identity, use.label) == ("text", "Mixture")

    def test_the_display_of_the_reference(self) -> None:
        resource = request(medicationReference={"display": "Ruxolitinib 5 mg"})
        del resource["medicationCodeableConcept"]
        use = one(resource)
        assert (use.possibly, use.identity, use.label) == (("ruxolitinib",), "text", "Ruxolitinib 5 mg")


class TestState:
    @pytest.mark.parametrize(
        ("status", "state"),
        [
            ("draft", "draft"),
            ("active", "ordered"),
            ("on-hold", "ordered"),
            ("completed", "past"),
            ("stopped", "past"),
            ("ended", "past"),
        ],
    )
    def test_of_orders(self, status: str, state: str) -> None:
        assert one(request(status=status)).state == state

    @pytest.mark.parametrize(
        ("status", "state"),
        [
            ("in-progress", "given"),
            ("on-hold", "given"),
            ("completed", "given"),
            ("stopped", "given"),
            ("not-done", "not-done"),
        ],
    )
    def test_of_administrations(self, status: str, state: str) -> None:
        assert one(administration(status=status)).state == state

    @pytest.mark.parametrize(
        ("status", "state"),
        [
            ("active", "taken"),
            ("on-hold", "taken"),
            ("completed", "past"),
            ("stopped", "past"),
            ("not-taken", "not-done"),
        ],
    )
    def test_of_statements(self, status: str, state: str) -> None:
        assert one(statement(status=status)).state == state

    @pytest.mark.parametrize(
        "resource",
        [
            request(status="cancelled"),
            request(status="entered-in-error"),
            request(doNotPerform=True),
            request(intent="proposal"),
            request(intent="option"),
            administration(status="entered-in-error"),
            statement(status="entered-in-error"),
            statement(status="intended"),
        ],
    )
    def test_what_is_no_exposure_is_no_fact(self, resource: dict[str, Any]) -> None:
        assert read(resource) == ((), ())

    @pytest.mark.parametrize("code", ["L04AD02", "L01EJ01"])
    @pytest.mark.parametrize(("status", "state"), [("active", "taken"), ("on-hold", "taken"), ("stopped", "past")])
    def test_a_plan_is_a_home_medicine(self, code: str, status: str, state: str) -> None:
        """US Core: what the patient reports to take is a request with the intent `plan`."""
        plan = request(
            intent="plan",
            status=status,
            reportedBoolean=True,
            medicationCodeableConcept=concept((ATC, code)),
            category=[{"text": "inpatient"}],
        )
        use = one(plan)
        assert (use.kind, use.state, use.inpatient) == ("request", state, False)
        assert use.ingredients == ({"L04AD02": "tacrolimus", "L01EJ01": "ruxolitinib"}[code],)

    def test_a_draft_counts_whatever_its_intent(self) -> None:
        assert one(request(status="draft", intent="proposal")).state == "draft"

    @pytest.mark.parametrize(
        ("resource", "reference"),
        [
            (request(status="unknown"), "MedicationRequest/r1"),
            (administration(status="unknown"), "MedicationAdministration/a1"),
            (statement(status="unknown"), "MedicationStatement/s1"),
        ],
    )
    def test_an_unknown_status_is_a_gap(self, resource: dict[str, Any], reference: str) -> None:
        params = (("status", "unknown"),)
        gap = Gap("orders", "status-unknown", "medication", reference, displaces=True, params=params)
        assert read(resource) == ((), (gap,))

    @pytest.mark.parametrize(
        ("concept", "displaces"),
        [
            (concept((ATC, "J01CR02")), False),
            ({"text": "Paracetamol"}, False),
            ({"text": "Kineret"}, True),
            (concept(("urn:local", "1")), True),
        ],
    )
    def test_an_unknown_status_matters_when_the_drug_may_be_a_listed_one(
        self, concept: dict[str, Any], displaces: bool
    ) -> None:
        _, gaps = read(request(status="unknown", medicationCodeableConcept=concept))
        assert [gap.displaces for gap in gaps] == [displaces]

    @pytest.mark.parametrize(
        ("raw", "reference"),
        [
            (b'{"resourceType": "MedicationRequest", "id": "r1", "status": 3}', "MedicationRequest/r1"),
            (b'{"resourceType": "Medication", "id": "m1", "status": "active"}', "Medication/m1"),
            (b'{"resourceType": "MedicationRequest", "status": 3}', ""),
            (b'{"resourceType": 1}', ""),
            (b"{", ""),
        ],
    )
    def test_what_cannot_be_read_is_a_gap_and_the_rest_stays(self, raw: bytes, reference: str) -> None:
        good = json.dumps(request()).encode()
        uses, gaps = medications.collect([("orders", raw), ("orders", good)], context=context())
        assert [use.reference for use in uses] == ["MedicationRequest/r1"]
        assert gaps == (Gap("orders", "unreadable-resource", "medication", reference, displaces=True),)

    def test_a_number_beyond_all_sense_is_a_gap(self) -> None:
        dosage = {
            "timing": {"repeat": {"frequency": 1, "period": 1, "periodUnit": "d"}},
            "doseAndRate": [{"doseQuantity": {"value": "9E999999", "code": "g"}}],
        }
        raw = json.dumps(request(dosageInstruction=[dosage])).replace('"9E999999"', "9E999999").encode()
        uses, gaps = medications.collect([("orders", raw)], context=context())
        assert uses == ()
        assert [gap.why for gap in gaps] == ["unreadable-resource"]


class TestWhen:
    def test_an_order_starts_when_written_and_ends_where_its_dosage_says(self) -> None:
        timing = {"repeat": {"boundsPeriod": {"start": "2021-03-02", "end": "2021-03-25"}}}
        use = one(request(authoredOn="2021-03-01T08:00:00Z", dosageInstruction=[{"timing": timing}]))
        assert use.start is not None
        assert use.end is not None
        assert use.start.earliest == datetime(2021, 3, 1, 8, tzinfo=UTC)
        assert use.end.latest.date().isoformat() == "2021-03-25"

    def test_an_order_without_date_starts_with_its_dosage(self) -> None:
        timing = {"repeat": {"boundsPeriod": {"start": "2021-03-02T00:00:00Z"}}}
        use = one(request(dosageInstruction=[{"timing": timing}, {"timing": {"repeat": {}}}, {}]))
        assert use.start is not None
        assert use.start.earliest == datetime(2021, 3, 2, tzinfo=UTC)
        assert use.end is None

    def test_an_order_with_one_endless_part_has_no_end(self) -> None:
        ends = {"timing": {"repeat": {"boundsPeriod": {"end": "2021-03-25"}}}}
        assert one(request(dosageInstruction=[ends, {"timing": {"repeat": {"frequency": 1}}}])).end is None
        later = {"timing": {"repeat": {"boundsPeriod": {"end": "2021-04-25T00:00:00Z"}}}}
        both = one(request(dosageInstruction=[ends, later]))
        assert both.end is not None
        assert both.end.latest == datetime(2021, 4, 25, tzinfo=UTC)

    def test_an_administration_at_one_time(self) -> None:
        use = one(administration(effectiveDateTime="2021-03-20T08:00:00+01:00"))
        assert use.start is not None
        assert use.start.earliest == datetime(2021, 3, 20, 7, tzinfo=UTC)
        assert (use.end, use.running, use.infusion, use.inpatient) == (None, False, False, True)

    @pytest.mark.parametrize(
        ("status", "end", "running"),
        [
            ("in-progress", None, True),
            ("in-progress", "2021-03-20T14:00:00Z", True),
            ("in-progress", "2021-03-20T11:00:00Z", False),
            ("completed", None, False),
        ],
    )
    def test_running(self, status: str, end: str | None, running: bool) -> None:
        period = {"start": "2021-03-20T06:00:00Z"} | ({"end": end} if end else {})
        assert one(administration(status=status, effectivePeriod=period)).running is running

    def test_a_statement_never_runs(self) -> None:
        assert one(statement(effectivePeriod={"start": "2021-03-01"})).running is False

    def test_an_administration_ahead_of_now_has_not_happened(self) -> None:
        uses, gaps = read(administration(effectiveDateTime="2021-03-20T12:11:00Z"))
        assert uses == ()
        assert [(gap.why, gap.displaces) for gap in gaps] == [("future-date", False)]
        assert len(read(administration(effectiveDateTime="2021-03-20T12:10:00Z"))[0]) == 1

    @pytest.mark.parametrize(
        "reason", [[concept(("http://hl7.org/fhir/sid/icd-10", "U07.1"))], concept((SNOMED, "840539006"))]
    )
    def test_reasons_by_code(self, reason: Any) -> None:
        assert one(request(reasonCode=reason)).reasons == ("covid19",)

    def test_a_malformed_reason_is_none(self) -> None:
        assert one(request(reasonCode=[3])).reasons == ()


def dosage(value: Any = 200, code: str = "mg", repeat: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    timing = {"repeat": {"frequency": 2, "period": 1, "periodUnit": "d"} if repeat is None else repeat}
    return {"timing": timing, "doseAndRate": [{"doseQuantity": {"value": value, "code": code}}]} | fields


class TestHowMuch:
    @pytest.mark.parametrize(
        ("instruction", "mg"),
        [
            (dosage(), "400"),
            (dosage(0.4, "g"), "800"),
            (dosage(500, "ug"), "1"),
            (dosage(repeat={"frequency": 1, "period": 12, "periodUnit": "h"}), "400"),
            (dosage(repeat={"period": 1, "periodUnit": "d"}), "200"),
            (dosage(repeat={"frequency": 1, "frequencyMax": 3, "period": 1, "periodUnit": "d"}), "600"),
            (dosage(repeat={"timeOfDay": ["08:00:00", "20:00:00"]}), "400"),
            (dosage(700, repeat={"frequency": 1, "period": 1, "periodUnit": "wk"}), "100"),
            (dosage(timing={"code": concept(("", "bid"))}), "400"),
            (dosage(timing={"repeat": {}, "code": concept(("", "x"), ("", "QOD"))}), "100"),
            (dosage(doseAndRate=[{"doseRange": {"low": {"value": 1}, "high": {"value": 100, "unit": "mg"}}}]), "200"),
            (
                dosage(doseAndRate=[{"doseQuantity": {"value": v, "unit": "mg", "code": "MG-1"}} for v in (100, 300)]),
                "600",
            ),
        ],
    )
    def test_of_a_day(self, instruction: dict[str, Any], mg: str) -> None:
        assert one(request(dosageInstruction=[instruction])).daily_mg == Decimal(mg)
        assert one(statement(dosage=[instruction])).daily_mg == Decimal(mg)

    @pytest.mark.parametrize(
        "instruction",
        [
            {},
            dosage(2, "{tbl}"),
            dosage(code="mg/kg"),
            dosage(doseAndRate=[{"doseQuantity": {"code": "mg"}}]),
            dosage(doseAndRate=[{"doseQuantity": {"value": 1}}]),
            dosage(doseAndRate=[{}]),
            dosage(timing={}),
            dosage(timing={"code": {"text": "twice daily"}}),
            dosage(repeat={"frequency": 2}),
            dosage(repeat={"frequency": 2, "period": 1, "periodUnit": "fortnight"}),
            dosage("many"),
        ],
    )
    def test_that_cannot_be_read_is_unknown(self, instruction: dict[str, Any]) -> None:
        assert one(request(dosageInstruction=[instruction])).daily_mg is None
        assert one(request(dosageInstruction=[dosage(), instruction])).daily_mg is None

    def test_parts_together_are_added_and_later_parts_compared(self) -> None:
        loading = dosage(800, repeat={"frequency": 1, "period": 1, "periodUnit": "d"}, sequence=1)
        after = dosage(400, repeat={"frequency": 1, "period": 1, "periodUnit": "d"}, sequence=2)
        assert one(request(dosageInstruction=[loading, after])).daily_mg == Decimal(800)
        assert one(request(dosageInstruction=[dosage(200), dosage(100)])).daily_mg == Decimal(600)

    def test_no_dosage(self) -> None:
        assert one(request()).daily_mg is None

    def test_of_one_administration(self) -> None:
        assert one(administration(dosage={"dose": {"value": 300, "unit": "mg"}})).daily_mg == Decimal(300)
        assert one(administration()).daily_mg is None

    def test_of_a_day_is_the_sum_of_its_administrations(self) -> None:
        def given(at: str, dose: dict[str, Any] | None, code: str = "J02AC01", **fields: Any) -> tuple[str, bytes]:
            drug = concept((ATC, code))
            resource = administration(medicationCodeableConcept=drug, effectiveDateTime=at, **fields)
            resource |= {"dosage": {"dose": dose}} if dose else {}
            return "administrations", json.dumps(resource).encode()

        mg = {"value": 200, "unit": "mg"}
        raws = [
            given("2021-03-18T20:00:00+01:00", mg),
            given("2021-03-19T08:00:00+01:00", mg),
            given("2021-03-19T20:00:00+01:00", mg),
            given("2021-03-19T23:30:00Z", mg),  # three within 20 h, across midnight
            given("2021-03-19T12:00:00+01:00", mg, "J02AC03"),
            given("2021-03-19T12:00:00+01:00", mg, status="not-done"),
            given("2021-03-17T08:00:00+01:00", mg),
            given("2021-03-17T20:00:00+01:00", None),
        ]
        uses, _ = medications.collect(raws, context=context())
        assert [use.daily_mg for use in uses] == [200, 400, 400, 600, 200, 200, 200, None]

    @pytest.mark.parametrize(
        "instruction",
        [
            {"doseAndRate": [{"rateQuantity": {"value": 3, "unit": "mg/h"}}]},
            {"doseAndRate": [{"rateRatio": {"numerator": {"value": 1500}}}]},
            {"doseAndRate": [{"rateRange": {"low": {"value": 60}}}]},
            {"rateQuantity": {"value": 3}},
            {"rateRatio": {"numerator": {"value": 3}}},
        ],
    )
    def test_a_rate_is_an_infusion(self, instruction: dict[str, Any]) -> None:
        assert one(request(dosageInstruction=[instruction])).infusion is True
        assert one(administration(dosage=instruction)).infusion is True

    @pytest.mark.parametrize(
        ("period", "status", "infusion"),
        [
            ({"start": "2021-03-20T08:00:00Z", "end": "2021-03-20T09:00:00Z"}, "completed", False),
            ({"start": "2021-03-20T08:00:00Z", "end": "2021-03-20T09:00:01Z"}, "completed", True),
            ({"start": "2021-03-20T08:00:00Z"}, "in-progress", True),
            ({"start": "2021-03-20T11:30:00Z"}, "in-progress", False),
            ({"start": "2021-03-20T08:00:00Z"}, "completed", False),
            ({"end": "2021-03-20T08:00:00Z"}, "completed", False),
        ],
    )
    def test_more_than_an_hour_is_an_infusion(self, period: dict[str, str], status: str, infusion: bool) -> None:
        assert one(administration(status=status, effectivePeriod=period)).infusion is infusion

    def test_the_span_of_a_statement_is_no_infusion(self) -> None:
        assert one(statement(effectivePeriod={"start": "2021-01-01", "end": "2021-03-01"})).infusion is False


class TestWhere:
    @pytest.mark.parametrize(
        ("route", "systemic"),
        [
            (concept((SNOMED, "26643006")), True),
            (concept((SNOMED, "54485002")), False),
            (concept((SNOMED, "6064005"), (SNOMED, "47625008")), True),
            ({"text": "per os (PO)"}, True),
            ({"text": "Oral rinse"}, None),
            ({"text": "Mouthwash"}, False),
            ({"text": "nasal NG tube"}, None),
            ({"text": "via nasal feeding tube"}, None),
            ({"text": "Feeding tube"}, True),
            ({"text": "Magensonde"}, True),
            ({"text": "Nasogastric tube"}, True),
            ({"text": "nasal"}, False),
            (concept(("http://standardterms.edqm.eu", "20053000", "Oral use")), True),
            (concept(("http://standardterms.edqm.eu", "20049000", "Nasal use")), False),
            (concept(("http://terminology.hl7.org/CodeSystem/v3-RouteOfAdministration", "IV")), True),
            ({"text": "zur Anwendung"}, None),
        ],
    )
    def test_the_route_decides(self, route: dict[str, Any], systemic: bool | None) -> None:
        assert one(request(dosageInstruction=[{"route": route}])).systemic is systemic

    def test_one_systemic_route_is_enough_and_an_unknown_one_leaves_it_open(self) -> None:
        oral, eye, strange = ({"route": {"text": text}} for text in ("oral", "eye", "somehow"))
        assert one(request(dosageInstruction=[eye, oral])).systemic is True
        assert one(request(dosageInstruction=[eye, strange])).systemic is None
        assert one(request(dosageInstruction=[eye, eye])).systemic is False

    @pytest.mark.parametrize(
        ("codes", "systemic"),
        [
            (["S01XA18"], False),
            (["D01AC08"], False),
            (["D01BA02"], None),
            (["D11AH08"], None),
            (["R03BA02"], False),
            (["R03DA04"], None),
            (["D01AC08", "J02AB02"], None),
        ],
    )
    def test_without_a_route_a_local_class_does(self, codes: list[str], systemic: bool | None) -> None:
        use = one(request(medicationCodeableConcept=concept(*((ATC, code) for code in codes))))
        assert use.systemic is systemic

    def test_the_route_in_words(self) -> None:
        assert one(request(dosageInstruction=[{"route": {"text": "by tube"}}])).route == "by tube"
        assert one(request(dosageInstruction=[{}, {"route": concept((SNOMED, "47625008"))}])).route == "47625008"
        assert one(request()).route == ""

    @pytest.mark.parametrize(
        ("category", "inpatient"),
        [
            ([concept(("http://terminology.hl7.org/CodeSystem/medicationrequest-category", "inpatient"))], True),
            (concept(("", "outpatient")), False),
            ([{"text": "Discharge"}], False),
            ([concept(("", "x", "Community"))], False),
            ([concept(("", "community")), concept(("", "inpatient"))], True),
            ([{"text": "other"}], None),
            ("inpatient", None),
        ],
    )
    def test_of_this_stay_or_from_home(self, category: Any, inpatient: bool | None) -> None:
        assert one(request(category=category)).inpatient is inpatient
        assert one(statement(category=category)).inpatient is inpatient

    def test_not_said(self) -> None:
        assert one(request()).inpatient is None


def test_every_listed_name_can_be_asked_for() -> None:
    names = medications.ingredient_names()
    assert {"anakinra", "ruxolitinib", "nitric oxide", "other immunosuppressant"} <= set(names)
    assert not {"products", "routes", "route-words", "topical"} & set(names)


def test_a_product_of_an_unlisted_ingredient_is_refused() -> None:
    tables = {"anakinra": {"text": "anakinra"}, "products": {"atc|X": {"ingredients": ["anakinra", "water"]}}}
    with pytest.raises(BadCodebook, match=r"mine\.toml: \[products\] atc\|X: no table \[water\]"):
        medications.read_knowledge(Codebook("mine", tables))


def test_an_administration_keeps_its_own_dose_beside_that_of_the_day() -> None:
    """The sum of a course counts each administration once; a dose of a day would count some twice."""
    given = {"dosage": {"dose": {"value": 5, "unit": "mg"}}}
    now = context().now
    first = administration(id="first", effectiveDateTime=(now - timedelta(hours=4)).isoformat(), **given)
    second = administration(id="second", effectiveDateTime=(now - timedelta(hours=1)).isoformat(), **given)
    raws = [("administrations", json.dumps(resource).encode()) for resource in (first, second)]
    uses, _ = medications.collect(raws, context=context())
    assert [(use.dose_mg, use.daily_mg) for use in uses] == [(5, 5), (5, 10)]


def test_an_order_has_no_dose_of_one_administration() -> None:
    assert one(request(dosageInstruction=[dosage()])).dose_mg is None
