"""The language of the signed cases -> FHIR R4 resources (the tables stand in app/protocols/README.md).

A line says what a chart says: `crp = "26.2 mg/dL @8h"`. What is written here is turned into the JSON that a FHIR server
would send, with real codes and units, so that a case runs the whole path of `rescue-cds evaluate`. Nothing is guessed:
a word this module does not know is a CaseError, because a misspelt line would otherwise be a patient without it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from fhir_mappings import codebook
from fhir_mappings.facts import Facts, Overlay

Resource = dict[str, Any]

PATIENT: Final = "case"


class CaseError(ValueError):
    """A line of a case file cannot be read: names the key and what was written."""


_SYSTEMS: Final = {
    "loinc": "http://loinc.org",
    "snomed": "http://snomed.info/sct",
    "mdc": "urn:iso:std:iso:11073:10101",
    "atc": "http://www.whocc.no/atc",
    "rxnorm": "http://www.nlm.nih.gov/research/umls/rxnorm",
    "icd10": "http://hl7.org/fhir/sid/icd-10",
    "cvx": "http://hl7.org/fhir/sid/cvx",
    "mimic-chart": "http://mimic.mit.edu/fhir/mimic/CodeSystem/mimic-chartevents-d-items",
    "site": "https://hospital.example.org/flags",
}
_UCUM: Final = "http://unitsofmeasure.org"

NUMBERS: Final = {
    "pao2": "loinc|2703-7",
    "fio2": "loinc|19994-3",
    "pf": "loinc|50984-4",
    "compliance": "mdc|151688",
    "dynamic-compliance": "loinc|60827-3",
    "vt-over-plateau": "loinc|20103-8",
    "lung-compliance": "mdc|151696",
    "plateau": "loinc|76259-1",
    "peep": "loinc|20077-4",
    "tidal-volume": "loinc|76222-9",
    "fdo2": "mimic-chart|229280",
    "ecmo-flow": "mimic-chart|229270",
    "ppm-of-no": "mimic-chart|224749",
    "crp": "loinc|1988-5",
    "ferritin": "loinc|2276-4",
    "anc": "loinc|751-8",
    "leucocytes": "loinc|6690-2",
    "neutrophils": "loinc|770-8",
    "bands": "loinc|26508-2",
    "lymphocytes": "loinc|731-0",
    "lymphocyte-share": "loinc|736-9",
    "sofa": "loinc|96790-1",
    "platelets": "loinc|777-3",
    "alt": "loinc|1742-6",
    "ast": "loinc|1920-8",
    "creatinine": "loinc|14682-9",
    "clearance": "loinc|2164-2",
    "egfr": "loinc|33914-3",
    "factor-v": "loinc|3193-0",
    "hb": "loinc|718-7",
    "triglycerides": "loinc|2571-8",
    "weight": "loinc|29463-7",
    "respiratory-rate": "loinc|9279-1",
    "sao2": "loinc|2708-6",
    "spo2": "loinc|59408-5",
}
"""Key of a measured number -> the code it is sent under, unless the line names another."""

ANSWERS: Final = {
    "pcr": "loinc|94500-6",
    "antigen": "loinc|94558-4",
    "blood-culture": "loinc|600-7",
    "fungal-test": "loinc|44357-2",
    "pregnancy-test": "loinc|2106-3",
    "hbsag": "loinc|5196-1",
    "tb-test": "loinc|71773-6",
    "breast-feeding": "loinc|63895-7",
    "position": "loinc|8361-8",
}
_SAID: Final = {"positive": "snomed|10828004", "negative": "snomed|260385009", "inconclusive": "snomed|419984006"}

_UCUM_OF: Final = {
    "mmHg": "mm[Hg]",
    "kPa": "kPa",
    "%": "%",
    "1": "1",
    "mL/cmH2O": "mL/cm[H2O]",
    "L/cmH2O": "L/cm[H2O]",
    "mL/mbar": "mL/mbar",
    "cmH2O": "cm[H2O]",
    "mbar": "mbar",
    "mL": "mL",
    "L/min": "L/min",
    "ppm": "[ppm]",
    "mg/L": "mg/L",
    "mg/dL": "mg/dL",
    "ug/mL": "ug/mL",
    "nmol/L": "nmol/L",
    "ug/L": "ug/L",
    "ng/mL": "ng/mL",
    "ug/dL": "ug/dL",
    "pmol/L": "pmol/L",
    "10*9/L": "10*9/L",
    "10*3/uL": "10*3/uL",
    "/uL": "/uL",
    "U/L": "U/L",
    "ukat/L": "ukat/L",
    "umol/L": "umol/L",
    "mmol/L": "mmol/L",
    "g/dL": "g/dL",
    "g/L": "g/L",
    "mL/min": "mL/min",
    "mL/min/1.73m2": "mL/min/{1.73_m2}",
    "kg": "kg",
    "/min": "/min",
    "mg/h": "mg/h",
    "ug/min": "ug/min",
    "ug/kg/min": "ug/kg/min",
    "mL/h": "mL/h",
}
"""Units that are sent with their UCUM code; any other is sent as text alone, as many laboratories do."""

_SPECIMENS: Final = {
    "arterial": ("snomed|122552005", "Arterial blood"),
    "venous": ("snomed|122555007", "Venous blood"),
    "capillary": ("snomed|122554006", "Capillary blood"),
    "circuit": ("", "ECMO circuit, post-oxygenator"),
    "nasopharyngeal": ("", "Nasopharyngeal swab"),
    "lavage": ("", "Bronchoalveolar lavage"),
    "throat": ("", "Throat swab"),
}
_ARTERIAL: Final = {"pao2", "sao2"}
"""Arterial unless the line says otherwise."""

PROCEDURES: Final = {
    "ventilation": {
        "invasive": "snomed|1258985005",
        "not stated": "snomed|40617009",
        "non-invasive": "snomed|428311008",
        "high-flow oxygen": "snomed|1259025002",
    },
    "prone": {"session": "snomed|431182000"},
    "ecmo": {
        "veno-venous": "snomed|786453001",
        "veno-arterial": "snomed|786451004",
        "configuration not stated": "snomed|233573008",
    },
    "dialysis": {
        "continuous": "snomed|714749008",
        "haemodialysis": "snomed|302497006",
        "any": "snomed|265764009",
    },
    "transplantation": {"kidney": "snomed|70536003"},
    "oxygen": {"therapy": "snomed|57485005"},
}
_NOT_DONE: Final = {
    "ventilation": "invasive",
    "prone": "session",
    "ecmo": "configuration not stated",
    "dialysis": "any",
}

PROBLEMS: Final = {
    "COVID-19": "icd10|U07.1",
    "sepsis": "icd10|A41.9",
    "viral sepsis due to COVID-19": "snomed|770349000",
    "ventilator-associated pneumonia": "icd10|J95.851",
    "invasive aspergillosis": "icd10|B44.0",
    "candidaemia": "icd10|B37.7",
    "active tuberculosis": "icd10|A15.0",
    "kidney transplant": "icd10|Z94.0",
    "rheumatoid arthritis": "icd10|M05.9",
    "hepatic failure": "icd10|K72.0",
    "cirrhosis": "icd10|K74.6",
    "pregnancy": "snomed|77386006",
    "breast-feeding": "snomed|413712001",
    "dialysis dependence": "icd10|Z99.2",
    "comfort care": "icd10|Z51.5",
    "hypertension": "icd10|I10",
    "chronic hepatitis B": "icd10|B18.1",
    "latent tuberculosis": "icd10|Z22.7",
    "herpes zoster": "icd10|B02.9",
    "herpetic stomatitis": "icd10|B00.2",
    "pulmonary embolism": "icd10|I26.9",
    "old myocardial infarction": "icd10|I25.2",
    "PML": "icd10|A81.2",
    "lactose intolerance": "icd10|E73.9",
    "asthma": "icd10|J45.9",
    "acute kidney injury": "icd10|N17.9",
    "oliguria": "icd10|R34",
    "myocarditis": "icd10|I40.9",
    "heart failure": "icd10|I50.9",
    "cardiogenic shock": "icd10|R57.0",
    "haemophagocytic syndrome": "icd10|D76.2",
    "imprisonment": "icd10|Z65.1",
    "flag: legal protection": "site|LEGAL",
    "flag: no French": "site|LANGUAGE",
    "flag: other trial": "site|TRIAL",
    "flag: psychiatric care": "site|PSYCH",
    "flag: investigator objects": "site|INVESTIGATOR",
    "flag: organ failure before": "site|ORGAN",
}

ALLERGIES: Final = {
    "no known allergy": "snomed|716186003",
    "no known drug allergy": "snomed|409137002",
    "anakinra": "atc|L04AC03",
    "ruxolitinib": "atc|L01EJ01",
    "lactose intolerance": "snomed|782415009",
}

VACCINES: Final = {"yellow fever": "cvx|37", "recombinant zoster": "cvx|187", "of unknown kind": ""}

DRUGS: Final = {
    "noradrenaline": "atc|C01CA03",
    "cisatracurium": "atc|M03AC11",
    "rocuronium": "atc|M03AC09",
    "suxamethonium": "atc|M03AB01",
    "nitric oxide": "atc|R07AX01",
    "almitrine": "atc|R07AB07",
    "anakinra": "atc|L04AC03",
    "ruxolitinib": "atc|L01EJ01",
    "infliximab": "atc|L04AB02",
    "baricitinib": "atc|L04AF02",
    "canakinumab": "atc|L04AC08",
    "tocilizumab": "atc|L04AC07",
    "tacrolimus": "atc|L04AD02",
    "rituximab": "atc|L01FA01",
    "posaconazole": "atc|J02AC04",
    "fluconazole": "atc|J02AC01",
    "amiodarone": "atc|C01BD01",
    "rifampicin": "atc|J04AB02",
    "prednisone": "atc|H02AB07",
    "dexamethasone": "atc|H02AB02",
    "paracetamol": "atc|N02BE01",
    "voriconazole": "atc|J02AC03",
    "nirmatrelvir and ritonavir": "atc|J05AE30",
    "azithromycin, fluconazole and secnidazole": "atc|J01RA07",
    "lopinavir and ritonavir": "atc|J05AR10",
    "erythromycin": "atc|J01FA01",
    "trandolapril and verapamil": "atc|C09BB10",
    "phenytoin": "atc|N03AB02",
    "rifampicin and isoniazid": "atc|J04AM02",
    "adalimumab": "atc|L04AB04",
    "tofacitinib": "atc|L04AF01",
    "phenylbutazone and corticosteroids": "atc|M01BA01",
    "warfarin": "atc|B01AA03",
    "propofol": "atc|N01AX10",
}
_DRUG_KEYS: Final = ("icu-drugs", "nmba", "ino", "almitrine", "drugs", "anakinra", "ruxolitinib")
_TIMES_A_DAY: Final = {"once": 1, "twice": 2, "three times": 3}
_STATUSES: Final = {
    *("preliminary", "registered", "amended", "corrected", "entered-in-error", "cancelled", "status unknown"),
}
_READING: Final = ("complete", "fails", "more pages", "of another patient too")
_SITE: Final[Mapping[str, Mapping[str, Any]]] = {
    "FiO2 percent means fraction": {"percent_means_fraction": frozenset({"loinc|19994-3"})},
    "FiO2 without unit is percent": {"unit_when_absent": {"loinc|19994-3": "%"}},
    "compliance is static": {"static": frozenset({"mdc|151688"})},
    "gases are from the arterial line": {"arterial": frozenset({"loinc|2703-7", "loinc|11556-8"})},
    "ECMO is veno-venous": {"generic_ecmo_is_veno_venous": True},
    "ALT and AST limit 40 U/L": {"local_uln": {"alt": Decimal(40), "ast": Decimal(40)}},
    "AST is not measured": {"not_measured": frozenset({"ast"})},
    "has no allergy list": {"absent_source": frozenset({"AllergyIntolerance"})},
    "has no administrations": {"absent_source": frozenset({"MedicationAdministration"})},
    "asks for the full protocol": {},
    "charts noradrenaline as tartrate": {"noradrenaline_salt": "tartrate"},
    "accepts pulse oximetry": {"pulse_oximetry": True},
    "has flags for the trial's exclusions": {
        "conditions": {
            "https://hospital.example.org/flags|LEGAL": ("legal-protection",),
            "https://hospital.example.org/flags|LANGUAGE": ("language-barrier",),
            "https://hospital.example.org/flags|TRIAL": ("other-trial",),
            "https://hospital.example.org/flags|PSYCH": ("psychiatric-care",),
            "https://hospital.example.org/flags|INVESTIGATOR": ("investigator-objection",),
            "https://hospital.example.org/flags|ORGAN": ("organ-dysfunction",),
        }
    },
}
"""What a site's clinician has signed about the site's own data (reading 3.1)."""

KEYS: Final = frozenset(
    {
        *("base", "who", "now", "age", "sex", "deceased", "reading", "site"),
        *("problems", "allergies", "vaccines"),
        *NUMBERS,
        *ANSWERS,
        *PROCEDURES,
        *_DRUG_KEYS,
    }
)

_SINCE_BIRTHDAY: Final = timedelta(days=100)
"""How long ago the last birthday of a patient is whose age alone is given."""
_DELTA = re.compile(r"(-)?(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+)m)?(?:(\d+)s)?")
_BACK = re.compile(r"(?P<source>[a-z-]+) back to (?P<age>\S+)")
_LINE = re.compile(r"(?P<what>.*?)(?:\s*@(?P<when>\S+))?")
_NUMBER = re.compile(r"(?P<comparator>[<>]=?)?\s*(?P<number>-?\d+(?:[.,]\d+)?)\s*(?P<unit>.*)")
_DRUG = re.compile(
    r"(?P<verb>given|not given|ordered|takes|drafted)\s+(?P<name>.+?)"
    r"(?:\s+(?P<dose>\d+(?:\.\d+)?)\s*(?P<unit>mg|g|ppm|mg/h))?"
    r"(?:\s+at\s+(?P<rate>\d+(?:\.\d+)?)\s+(?P<rate_unit>\S+))?"
    r"(?P<infusion>\s+infusion)?(?:\s+(?P<times>once|twice|three times) a day)?"
)


@dataclass(frozen=True, slots=True)
class Said:
    """One line taken apart: what, when, and the remarks after semicolons."""

    what: str
    when: str
    remarks: tuple[str, ...]

    def has(self, remark: str) -> bool:
        """True when the line carries the remark."""
        return remark in self.remarks

    def allow(self, key: str, *remarks: str, begins: tuple[str, ...] = ()) -> None:
        """Raises CaseError for a remark that the key does not know: ignored, it would make another patient."""
        for remark in self.remarks:
            if remark not in remarks and not remark.startswith(begins or ("\0",)):
                raise CaseError(f"{key}: no remark {remark!r}")

    def after(self, word: str) -> str:
        """The rest of the remark that begins with the word, '' when there is none."""
        found = [r.removeprefix(word).strip() for r in self.remarks if r.startswith(f"{word} ")]
        return found[0] if found else ""


def merged(patients: Mapping[str, Mapping[str, Any]], have: Mapping[str, Any]) -> dict[str, Any]:
    """The lines of a case: those of its base patient (and of that one's base), replaced by its own."""
    base = have.get("base")
    if base is None:
        return dict(have)
    if base not in patients:
        raise CaseError(f"base: no patient {base!r}")
    return {**merged(patients, patients[base]), **have}


@dataclass(slots=True)
class Chart:
    """The FHIR resources of one case at its moment."""

    now: datetime
    lines: Mapping[str, Any]
    resources: list[Resource] = field(default_factory=list)
    _used: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, lines: Mapping[str, Any], *, now: datetime) -> Chart:
        """The chart of a case's lines. Raises CaseError."""
        unknown = sorted(set(lines) - KEYS)
        if unknown:
            raise CaseError(f"{unknown[0]}: no such key")
        chart = cls(now, lines)
        chart._patient()
        for key in NUMBERS:
            for said in chart._said(key):
                chart._number(key, said)
        for key in ANSWERS:
            for said in chart._said(key):
                chart._answer(key, said)
        for key in PROCEDURES:
            for said in chart._said(key):
                chart._procedure(key, said)
        for key in _DRUG_KEYS:
            for said in chart._said(key):
                chart._drug(key, said)
        for said in chart._said("problems"):
            chart._problem(said)
        for said in chart._said("allergies"):
            chart._allergy(said)
        for said in chart._said("vaccines"):
            chart._vaccine(said)
        return chart

    def bundle(self) -> bytes:
        """The collection Bundle, with the trouble that `reading` names."""
        how = self.lines.get("reading", "complete")
        if how not in _READING and _BACK.fullmatch(how) is None:
            raise CaseError(f"reading: {how!r} is none of {', '.join(_READING)}")
        resources = list(self.resources)
        bundle: Resource = {"resourceType": "Bundle", "type": "searchset"}
        if how == "fails":
            issue = {"severity": "error", "code": "exception", "diagnostics": "database not available"}
            resources.append({"resourceType": "OperationOutcome", "id": "failed", "issue": [issue]})
        if how == "more pages":
            bundle["link"] = [{"relation": "next", "url": "https://fhir.example.org/more"}]
        if how == "of another patient too":
            stray = json.loads(json.dumps(next(r for r in resources if r["resourceType"] == "Observation")))
            resources.append({**stray, "id": "stray", "subject": {"reference": "Patient/somebody-else"}})
        bundle["entry"] = [{"fullUrl": f"https://fhir.example.org/{r['resourceType']}/{r['id']}", "resource": r}
                           for r in resources]  # fmt: skip
        return json.dumps(bundle).encode()

    # ---- lines

    def _said(self, key: str) -> Iterable[Said]:
        lines = self.lines.get(key, "none")
        for line in [lines] if isinstance(lines, str) else lines:
            if line == "none":
                continue
            body, *remarks = (part.strip() for part in line.split(";"))
            match = _LINE.fullmatch(body)
            if match is None:
                raise CaseError(f"{key}: {line!r}")
            yield Said(match["what"], match["when"] or "", tuple(remarks))

    def _moment(self, text: str) -> str:
        """An ISO time; `8h`, `16d`, `1d2h3m` before now, `-5m` after it, a date or month as it stands."""
        if re.fullmatch(r"\d{4}(-\d\d){0,2}", text):
            return text
        match = _DELTA.fullmatch(text)
        if match is None or not any(match.groups()[1:]):
            raise CaseError(f"@{text}: no time")
        days, hours, minutes, seconds = (float(part or 0) for part in match.groups()[1:])
        delta = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        # In UTC: on the local clock a day is 23 or 25 hours long where clocks change.
        now = self.now.astimezone(UTC)
        return (now + delta if match[1] else now - delta).isoformat()

    def _period(self, text: str) -> Resource:
        start, _, end = text.partition("..")
        period = {"start": self._moment(start)} if start else {}
        return period | ({"end": self._moment(end)} if end else {})

    def _effective(self, when: str, name: str) -> Resource:
        if not when:
            return {}
        if ".." in when:
            return {f"{name}Period": self._period(when)}
        return {f"{name}DateTime": self._moment(when)}

    def _add(self, resource_type: str, content: Mapping[str, Any], *, owner: str = "subject") -> Resource:
        number = sum(1 for r in self.resources if r["resourceType"] == resource_type) + 1
        resource = {
            "resourceType": resource_type,
            "id": f"{resource_type.lower()}-{number}",
            owner: {"reference": f"Patient/{PATIENT}"},
            **content,
        }
        self.resources.append(resource)
        return resource

    # ---- the patient

    def _patient(self) -> None:
        resource: Resource = {"resourceType": "Patient", "id": PATIENT}
        born = self._born(str(self.lines.get("age", "none")))
        if born:
            resource["birthDate"] = born
        sex = self.lines.get("sex", "none")
        if sex != "none":
            resource["gender"] = sex
        if self.lines.get("deceased", "no") != "no":
            resource["deceasedDateTime"] = self._moment(self.lines["deceased"])
        self.resources.append(resource)

    def _born(self, text: str) -> str:
        today = self.now.date()
        if text == "none":
            return ""
        match = re.fullmatch(r"(\d+)( today| tomorrow)?|born (\d{4})", text)
        if match is None:
            raise CaseError(f"age: {text!r}")
        if match[3]:
            return match[3]
        years = int(match[1])
        if match[2]:
            day = today + timedelta(days=1) if match[2] == " tomorrow" else today
            return day.replace(year=day.year - years).isoformat()
        return (date(today.year - years, today.month, today.day) - _SINCE_BIRTHDAY).isoformat()

    # ---- observations

    def _number(self, key: str, said: Said) -> None:
        match = _NUMBER.fullmatch(said.what)
        if match is None:
            raise CaseError(f"{key}: {said.what!r} is no number with its unit")
        limit = said.after("limit")
        value: Resource
        if said.has("as text"):
            value = {"valueString": said.what}
        else:
            value = {"valueQuantity": _quantity(match["number"], match["unit"], comparator=match["comparator"] or "")}
        if limit:
            value["referenceRange"] = [self._range(limit)]
        self._observation(key, said, NUMBERS[key], value)

    def _range(self, limit: str) -> Resource:
        if limit.startswith("text "):
            return {"text": limit.removeprefix("text ")}
        match = _NUMBER.fullmatch(limit)
        if match is None:
            raise CaseError(f"limit {limit!r}")
        return {"high": _quantity(match["number"], match["unit"])}

    def _answer(self, key: str, said: Said) -> None:
        if said.what in _SAID:
            value: Resource = {"valueCodeableConcept": _concept(_SAID[said.what], said.what)}
        else:
            value = {"valueCodeableConcept": {"text": said.what}}
        if said.has("as text"):
            value = {"valueString": said.what}
        self._observation(key, said, ANSWERS[key], value)

    def _observation(self, key: str, said: Said, code: str, value: Resource) -> None:
        said.allow(
            key,
            *(*_STATUSES, "as text", "in a panel", "member of a panel"),
            begins=("code ", "also coded ", "limit ", "specimen ", "method "),
        )
        status = next((r for r in said.remarks if r in _STATUSES), "final").removeprefix("status ")
        codes = [said.after("code") or code, *(c for c in [said.after("also coded")] if c)]
        node: Resource = {"code": {"coding": [_coding(c) for c in codes]}, **value}
        content: Resource = {"status": status, **self._effective(said.when, "effective")}
        specimen = said.after("specimen") or ("arterial" if key in _ARTERIAL and "member of a panel" not in said.remarks
                                              else "not stated")  # fmt: skip
        if specimen != "not stated":
            content |= _specimen(specimen)
        if key == "compliance" and not said.after("code"):
            content["method"] = {"text": said.after("method") or "static"}
        if content.get("method", {}).get("text") == "not stated":
            del content["method"]
        if said.has("in a panel"):
            self._add("Observation", {**content, "code": _concept("loinc|24336-0", "Gas panel"), "component": [node]})
            return
        made = self._add("Observation", {**content, **node})
        if said.has("member of a panel"):
            panel = {"code": _concept("loinc|24336-0", "Gas panel"), **_specimen("arterial")}
            member = [{"reference": f"Observation/{made['id']}"}]
            self._add("Observation", {**content, **panel, "hasMember": member})

    # ---- what was done, taken, found

    def _procedure(self, key: str, said: Said) -> None:
        kinds = PROCEDURES[key]
        said.allow(key, "text only", "completed")
        if said.what == "not done":
            code = kinds[_NOT_DONE[key]]
            self._add("Procedure", {"status": "not-done", "code": _concept(code, key),
                                    "performedDateTime": self._moment(said.when)})  # fmt: skip
            return
        if said.has("text only"):
            code_of: Resource = {"text": said.what}
        elif said.what in kinds:
            code_of = _concept(kinds[said.what], said.what)
        else:
            raise CaseError(f"{key}: {said.what!r} is none of {', '.join(kinds)}")
        running = said.when.endswith("..") and not said.has("completed")
        content = {"status": "in-progress" if running else "completed", "code": code_of}
        self._add("Procedure", {**content, **self._effective(said.when, "performed")})

    def _drug(self, key: str, said: Said) -> None:
        match = _DRUG.fullmatch(said.what)
        if match is None:
            raise CaseError(f"{key}: {said.what!r} (given, not given, ordered, takes, drafted)")
        medication = self._medication(match["name"], said)
        verb = match["verb"]
        if verb in {"given", "not given"}:
            running = said.when.endswith("..")
            status = "not-done" if verb == "not given" else "in-progress" if running else "completed"
            dosage: Resource = {}
            if match["dose"]:
                dosage["dose"] = _quantity(match["dose"], match["unit"])
            if match["infusion"]:
                dosage["rateQuantity"] = _quantity("5", "mL/h")
            if match["rate"]:
                dosage["rateQuantity"] = _quantity(match["rate"], match["rate_unit"])
            route = said.after("route")
            if route:
                dosage["route"] = {"text": route}
            content = {"status": status, **medication, **self._effective(said.when, "effective")}
            self._add("MedicationAdministration", {**content, **({"dosage": dosage} if dosage else {})})
            return
        instruction: Resource = {}
        if match["dose"]:
            instruction["doseAndRate"] = [{"doseQuantity": _quantity(match["dose"], match["unit"])}]
        if match["times"]:
            repeat = {"frequency": _TIMES_A_DAY[match["times"]], "period": 1, "periodUnit": "d"}
            instruction["timing"] = {"repeat": repeat}
        if said.after("route"):
            instruction["route"] = {"text": said.after("route")}
        reason = said.after("for")
        more = {"reasonCode": [_concept(PROBLEMS[reason], reason)]} if reason else {}
        if verb == "takes":
            content = {"status": "active", **medication, **self._effective(said.when, "effective"), **more}
            self._add("MedicationStatement", {**content, "dosage": [instruction]})
            return
        status = "draft" if verb == "drafted" else "stopped" if said.has("stopped") else "active"
        category = [{"coding": [{"code": "outpatient" if said.has("outpatient") else "inpatient"}]}]
        content = {"status": status, "intent": "proposal" if said.has("only proposed") else "order", **medication}
        self._add("MedicationRequest", {**content, "category": category, "authoredOn": self._moment(said.when),
                                        "dosageInstruction": [instruction], **more})  # fmt: skip

    def _medication(self, name: str, said: Said) -> Resource:
        said.allow(
            name,
            *("text only", "contained", "referenced", "not in the bundle", "unnamed"),
            *("stopped", "outpatient", "only proposed"),
            begins=("code ", "route ", "for ", "strength "),
        )
        if said.has("text only"):
            return {"medicationCodeableConcept": {"text": name}}
        if said.has("unnamed"):
            return {"medicationCodeableConcept": {"coding": [{"system": "urn:example:pharmacy", "code": "4711"}]}}
        if said.has("not in the bundle"):
            return {"medicationReference": {"reference": "Medication/elsewhere"}}
        code = said.after("code") or DRUGS.get(name) or _ingredient(name)
        if not code:
            raise CaseError(f"drug {name!r}: neither in the list of the case language nor an ingredient of the rules")
        known_as = _concept(code, name)
        item: Resource = {"code": {"text": "syringe"}, "ingredient": [{"itemCodeableConcept": known_as}]}
        if said.after("strength"):
            item["ingredient"][0]["strength"] = _ratio(said.after("strength"))
        if said.has("contained") or said.after("strength"):
            held = {"resourceType": "Medication", "id": "drug", **item}
            return {"contained": [held], "medicationReference": {"reference": "#drug"}}
        if said.has("referenced"):
            number = len(self.resources)
            self.resources.append({"resourceType": "Medication", "id": f"medication-{number}", **item})
            return {"medicationReference": {"reference": f"Medication/medication-{number}"}}
        return {"medicationCodeableConcept": known_as}

    def _problem(self, said: Said) -> None:
        said.allow("problems", "text only", "refuted", "provisional", "resolved")
        if said.has("text only"):
            code: Resource = {"text": said.what}
        elif said.what in PROBLEMS:
            code = _concept(PROBLEMS[said.what], said.what)
        else:
            raise CaseError(f"problems: {said.what!r} is none of {', '.join(PROBLEMS)}")
        verification = next((r for r in said.remarks if r in {"refuted", "provisional"}), "confirmed")
        clinical = "resolved" if said.has("resolved") else "active"
        status = "http://terminology.hl7.org/CodeSystem/condition-"
        content: Resource = {
            "verificationStatus": {"coding": [{"system": f"{status}ver-status", "code": verification}]},
            "code": code,
            **({"onsetDateTime": self._moment(said.when)} if said.when else {}),
        }
        if verification != "refuted":
            content["clinicalStatus"] = {"coding": [{"system": f"{status}clinical", "code": clinical}]}
        self._add("Condition", content)

    def _allergy(self, said: Said) -> None:
        said.allow("allergies", "text only", "refuted", "type allergy", "type intolerance")
        if said.has("text only"):
            code: Resource = {"text": said.what}
        elif said.what in ALLERGIES:
            code = _concept(ALLERGIES[said.what], said.what)
        else:
            raise CaseError(f"allergies: {said.what!r} is none of {', '.join(ALLERGIES)}")
        status = "http://terminology.hl7.org/CodeSystem/allergyintolerance-"
        verification = "refuted" if said.has("refuted") else "confirmed"
        content: Resource = {
            "verificationStatus": {"coding": [{"system": f"{status}verification", "code": verification}]},
            "code": code,
        }
        if said.after("type"):
            content["type"] = said.after("type")
        self._add("AllergyIntolerance", content, owner="patient")

    def _vaccine(self, said: Said) -> None:
        said.allow("vaccines")
        if said.what not in VACCINES:
            raise CaseError(f"vaccines: {said.what!r} is none of {', '.join(VACCINES)}")
        code = VACCINES[said.what]
        content: Resource = {"status": "completed",
                             "vaccineCode": _concept(code, said.what) if code else {"text": said.what}}  # fmt: skip
        content |= {"occurrenceDateTime": self._moment(said.when)} if said.when else {"occurrenceString": "childhood"}
        self._add("Immunization", content, owner="patient")


def as_read(facts: Facts, lines: Mapping[str, Any]) -> Facts:
    """What `reading = "administrations back to 27d"` leaves of the facts: that list is complete no further back.

    A Bundle cannot say so; a server whose pages were not all read does. Raises CaseError.
    """
    match = _BACK.fullmatch(str(lines.get("reading", "")))
    if match is None:
        return facts
    key, age = match["source"], _DELTA.fullmatch(match["age"])
    if age is None or not any(age.groups()[1:]) or key not in {source.key for source in facts.sources}:
        raise CaseError(f"reading: {match.group()!r}: a source of the plan, and how far back")
    days, hours, minutes, seconds = (float(part or 0) for part in age.groups()[1:])
    reaches = facts.asked_at.astimezone(UTC) - timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    changes: dict[str, Any] = {"outcome": "partial", "why": "page-limit", "reaches": reaches}
    return replace(facts, sources=tuple(replace(s, **changes) if s.key == key else s for s in facts.sources))


def overlay(lines: Mapping[str, Any]) -> Overlay:
    """What `site` says. Raises CaseError."""
    said = lines.get("site", [])
    members: dict[str, Any] = {}
    for line in [said] if isinstance(said, str) else said:
        if line not in _SITE:
            raise CaseError(f"site: {line!r} is none of {', '.join(_SITE)}")
        members |= _SITE[line]
    return Overlay(**members)


def suggests_on(lines: Mapping[str, Any]) -> str:
    """The site's switch `suggest_on` (reading 4)."""
    said = lines.get("site", [])
    full = "asks for the full protocol" in ([said] if isinstance(said, str) else said)
    return "pilot-full" if full else "pilot-simple"


def moment(text: str, *, zone: ZoneInfo) -> datetime:
    """The `now` of a file or a case, on the facility's clock."""
    return datetime.fromisoformat(text).replace(tzinfo=zone)


def _coding(mark: str) -> Resource:
    system, _, code = mark.rpartition("|")
    if system not in _SYSTEMS:
        raise CaseError(f"code {mark!r}: system is one of {', '.join(_SYSTEMS)}")
    return {"system": _SYSTEMS[system], "code": code}


def _concept(mark: str, text: str) -> Resource:
    return {"coding": [_coding(mark)], "text": text}


def _quantity(number: str, unit: str, *, comparator: str = "") -> Resource:
    quantity: Resource = {"value": float(number)}
    if comparator:
        quantity["comparator"] = comparator
    if unit and unit != "(no unit)":
        quantity["unit"] = unit
    if unit in _UCUM_OF:
        quantity |= {"system": _UCUM, "code": _UCUM_OF[unit]}
    return quantity


def _ingredient(name: str) -> str:
    """The first verified code of an ingredient that rules look for, '' when there is none."""
    codes = [code for code in codebook.load("ingredients").of([name]) if code.verified and code.system in _SYSTEMS]
    return next((f"{code.system}|{code.code}" for code in codes), "")


def _ratio(text: str) -> Resource:
    """`8 mg in 50 mL`."""
    amounts = [_NUMBER.fullmatch(part) for part in text.split(" in ")]
    if len(amounts) != 2 or None in amounts:
        raise CaseError(f"strength {text!r}: like 8 mg in 50 mL")
    over, under = (_quantity(match["number"], match["unit"]) for match in amounts if match is not None)
    return {"numerator": over, "denominator": under}


def _specimen(name: str) -> Resource:
    if name not in _SPECIMENS:
        raise CaseError(f"specimen {name!r} is none of {', '.join(_SPECIMENS)}")
    code, text = _SPECIMENS[name]
    kind = _concept(code, text) if code else {"text": text}
    held = {"resourceType": "Specimen", "id": "specimen", "type": kind}
    return {"contained": [held], "specimen": {"reference": "#specimen"}}
