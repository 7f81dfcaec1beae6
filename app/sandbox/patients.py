"""The synthetic patients of the demo: each tells one story, and says what the service should answer to it.

No person stands behind any of them. All times are relative to the `now` that `bundle` is given, so a story never goes
stale; the courses (gases every six hours, ventilator settings beside them, daily laboratory) are of believable size,
and the patients differ in how their hospital writes: units, codings, medications. What each story must contain to
have its result follows the readings in docs (windows in reading 1, facts in 3, safety in 4, cards in 5).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, Literal

from app.sandbox.builders import (
    ARDS,
    ARTERIAL_BLOOD,
    COVID19,
    DETECTED,
    LABORATORY,
    NASOPHARYNX,
    NEGATIVE,
    VENTILATION,
    VITAL_SIGNS,
    Chart,
    Code,
    Resource,
    Unit,
    concept,
    practitioner,
    quantity,
)

GAS_HOURS: Final = (1.6, 7.5, 13.4, 19.6, 25.5, 31.4)
LAB_HOURS: Final = (5.2, 29.1, 53.3, 77.2)

MMHG: Final[Unit] = ("mmHg", "mm[Hg]")
KPA: Final[Unit] = ("kPa", "kPa")
PERCENT: Final[Unit] = ("%", "%")
FRACTION: Final[Unit] = ("1", "1")
CMH2O: Final[Unit] = ("cmH2O", "cm[H2O]")
ML: Final[Unit] = ("mL", "mL")
COMPLIANCE: Final[Unit] = ("mL/cmH2O", "mL/cm[H2O]")
L_PER_MIN: Final[Unit] = ("L/min", "L/min")
KG: Final[Unit] = ("kg", "kg")
MG: Final[Unit] = ("mg", "mg")
G: Final[Unit] = ("g", "g")
MG_PER_H: Final[Unit] = ("mg/h", "mg/h")
UG_PER_H: Final[Unit] = ("ug/h", "ug/h")
UG_PER_KG_MIN: Final[Unit] = ("ug/kg/min", "ug/kg/min")
IU_PER_H: Final[Unit] = ("IU/h", "[IU]/h")
PPM: Final[Unit] = ("ppm", "[ppm]")

CRP: Final[Code] = ("loinc", "1988-5", "C reactive protein [Mass/volume] in Serum or Plasma")
FERRITIN: Final[Code] = ("loinc", "2276-4", "Ferritin [Mass/volume] in Serum or Plasma")
LEUCOCYTES: Final[Code] = ("loinc", "6690-2", "Leukocytes [#/volume] in Blood by Automated count")
NEUTROPHILS: Final[Code] = ("loinc", "751-8", "Neutrophils [#/volume] in Blood by Automated count")
LYMPHOCYTES: Final[Code] = ("loinc", "731-0", "Lymphocytes [#/volume] in Blood by Automated count")
SOFA: Final[Code] = ("loinc", "96790-1", "SOFA Total score")
PLATELETS: Final[Code] = ("loinc", "777-3", "Platelets [#/volume] in Blood by Automated count")
ALT: Final[Code] = ("loinc", "1742-6", "Alanine aminotransferase [Enzymatic activity/volume] in Serum or Plasma")
AST: Final[Code] = ("loinc", "1920-8", "Aspartate aminotransferase [Enzymatic activity/volume] in Serum or Plasma")
BILIRUBIN: Final[Code] = ("loinc", "14631-6", "Bilirubin.total [Moles/volume] in Serum or Plasma")
PROCALCITONIN: Final[Code] = ("loinc", "33959-8", "Procalcitonin [Mass/volume] in Serum or Plasma")
PAO2: Final[Code] = ("loinc", "2703-7", "Oxygen [Partial pressure] in Arterial blood")
PACO2: Final[Code] = ("loinc", "2019-8", "Carbon dioxide [Partial pressure] in Arterial blood")
FIO2: Final[Code] = ("loinc", "19994-3", "Oxygen/Total gas setting [Volume Fraction] Ventilator")
PEEP: Final[Code] = ("loinc", "20077-4", "Positive end expiratory pressure setting Ventilator")
TIDAL_VOLUME: Final[Code] = ("loinc", "76222-9", "Tidal volume Ventilator --on ventilator")
PLATEAU: Final[Code] = ("loinc", "76259-1", "Pressure.plateau Respiratory system airway --on ventilator")
BLOOD_CULTURE: Final[Code] = ("loinc", "600-7", "Bacteria identified in Blood by Culture")

INVASIVE_VENTILATION: Final[Code] = ("snomed", "1258985005", "Invasive mechanical ventilation")
PRONE: Final[Code] = ("snomed", "431182000", "Placing subject in prone position")
VV_ECMO: Final[Code] = ("snomed", "786453001", "Venovenous extracorporeal membrane oxygenation")
NO_KNOWN_ALLERGY: Final[Code] = ("snomed", "716186003", "No known allergy")
NO_KNOWN_DRUG_ALLERGY: Final[Code] = ("snomed", "409137002", "No known drug allergy")

Verdict = Literal["met", "not-met", "unknown"]
Outcome = Literal["card", "follow-up", "deceased", "not-the-population", "not-met", "out-of-scope"]


@dataclass(frozen=True, slots=True)
class Fault:
    """How the sandbox misbehaves for one resource type of one patient.

    `status` 0 answers normally, otherwise with that HTTP status; `delay` in seconds comes first.
    """

    status: int = 0
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Story:
    """One patient of the demo.

    `name` is the patient's, `title` a few words for a list, `line` one sentence for a clinician. `faults` is keyed by
    resource type. `expect` says what patient-view should answer: a verdict for `pilot-simple` and `pilot-full`,
    `suggestions` yes or no, and the `outcome` of the decision (reading 7).
    """

    patient_id: str
    name: str
    title: str
    line: str
    expect: Mapping[str, str]
    faults: Mapping[str, Fault] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Dialect:
    """The units a laboratory reports in, and whether creatinine is reported as mass."""

    crp: Unit = ("mg/L", "mg/L")
    ferritin: Unit = ("ug/L", "ug/L")
    count: Unit = ("10*9/L", "10*9/L")
    enzyme: Unit = ("U/L", "U/L")
    creatinine: Unit = ("umol/L", "umol/L")
    creatinine_code: Code = ("loinc", "14682-9", "Creatinine [Moles/volume] in Serum or Plasma")


SI: Final = Dialect()
US: Final = Dialect(
    crp=("mg/dL", "mg/dL"),
    ferritin=("ng/mL", "ng/mL"),
    count=("10*3/uL", "10*3/uL"),
    creatinine=("mg/dL", "mg/dL"),
    creatinine_code=("loinc", "2160-0", "Creatinine [Mass/volume] in Serum or Plasma"),
)
FRENCH: Final = Dialect(ferritin=("µg/L", ""), count=("G/L", ""), enzyme=("UI/L", ""), creatinine=("µmol/L", "umol/L"))
GERMAN: Final = Dialect(count=("/nL", "/nL"))


@dataclass(frozen=True, slots=True)
class Labs:
    """Daily results, newest first, at LAB_HOURS; an empty tuple was never measured."""

    crp: tuple[float, ...] = (214, 246, 231, 187)
    ferritin: tuple[float, ...] = (1840, 2210, 1630)
    leucocytes: tuple[float, ...] = (9.6, 10.4, 11.2, 9.9)
    anc: tuple[float, ...] = (7.9, 8.6, 9.3, 8.1)
    platelets: tuple[float, ...] = (212, 231, 240, 228)
    alt: tuple[float, ...] = (48, 52, 61)
    ast: tuple[float, ...] = (57, 66, 70)
    creatinine: tuple[float, ...] = (78, 81, 84, 80)
    bilirubin: tuple[float, ...] = (11, 12)
    procalcitonin: tuple[float, ...] = (0.3, 0.4)


@dataclass(frozen=True, slots=True)
class Lungs:
    """Gases at `hours` and the ventilator settings six minutes before each, newest first.

    The default course has P/F 80 and Vt / (Pplat - PEEP) = 390 / 14 = 27.9 mL/cmH2O.
    """

    pao2: tuple[float, ...] = (64, 66, 70, 68, 75, 79)
    pao2_unit: Unit = MMHG
    fio2: tuple[float, ...] = (80, 80, 80, 75, 75, 70)
    fio2_unit: Unit = PERCENT
    paco2: tuple[float, ...] = (52, 54, 55)
    ph: tuple[float, ...] = (7.33, 7.31, 7.3)
    peep: tuple[float, ...] = (14, 14, 14, 12, 12, 12)
    tidal: tuple[float, ...] = (390, 390, 400, 400, 410, 410)
    plateau: tuple[float, ...] = (28, 28, 28, 27, 27, 26)
    hours: tuple[float, ...] = GAS_HOURS
    specimen: bool = True
    site: str = ""


@dataclass(frozen=True, slots=True)
class Person:
    """Who it is, how long in the intensive care unit and ventilated (hours), and when the PCR was positive (days)."""

    family: str
    given: str
    gender: Literal["male", "female"]
    years: int
    weight: float
    icu: float = 150
    ventilated: float = 120
    pcr_days: tuple[float, ...] = (16, 9)
    dialect: Dialect = SI
    deceased: bool = False

    @property
    def name(self) -> str:
        return f"{self.family}, {self.given}"


def _arrival(chart: Chart, person: Person, *, unit: str = "Intensive care unit") -> None:
    """What every chart begins with: patient, stay and weight."""
    chart.patient(
        family=person.family,
        given=person.given,
        gender=person.gender,
        years=person.years,
        deceased=person.deceased,
    )
    chart.stay(person.icu, unit=unit)
    chart.series(
        "weight",
        [("loinc", "29463-7", "Body weight")],
        (min(person.icu - 1, 30), person.icu - 0.5),
        (person.weight, person.weight),
        KG,
        category=VITAL_SIGNS,
    )


def _covid(chart: Chart, person: Person) -> None:
    """COVID-19 with ARDS, each PCR as its laboratory reports it."""
    chart.problem(COVID19, max(person.pcr_days))
    chart.problem(ARDS, person.ventilated / 24)
    code: Code = ("loinc", "94500-6", "SARS-CoV-2 (COVID-19) RNA [Presence] in Respiratory specimen by NAA")
    for days in person.pcr_days:
        chart.observe("pcr", [code], days * 24, {"valueCodeableConcept": concept(DETECTED)}, specimen=NASOPHARYNX)


def _labs(chart: Chart, labs: Labs, dialect: Dialect = SI) -> None:
    """The daily laboratory of the last days."""
    rows: tuple[tuple[str, Code, tuple[float, ...], Unit, tuple[float | None, float] | None], ...] = (
        ("crp", CRP, labs.crp, dialect.crp, None),
        ("leucocytes", LEUCOCYTES, labs.leucocytes, dialect.count, (4, 10)),
        ("anc", NEUTROPHILS, labs.anc, dialect.count, (1.8, 7.5)),
        ("platelets", PLATELETS, labs.platelets, dialect.count, (150, 400)),
        ("alt", ALT, labs.alt, dialect.enzyme, (None, 45)),
        ("ast", AST, labs.ast, dialect.enzyme, (None, 40)),
        ("creatinine", dialect.creatinine_code, labs.creatinine, dialect.creatinine, None),
        ("bilirubin", BILIRUBIN, labs.bilirubin, ("umol/L", "umol/L"), None),
        ("procalcitonin", PROCALCITONIN, labs.procalcitonin, ("ng/mL", "ng/mL"), None),
    )
    for word, code, values, unit, limits in rows:
        normal = None if limits is None else (*limits, unit)
        chart.series(word, [code], LAB_HOURS, values, unit, category=LABORATORY, normal=normal)
    chart.series("ferritin", [FERRITIN], (5.2, 53.3, 77.2), labs.ferritin, dialect.ferritin)


def _lungs(chart: Chart, lungs: Lungs) -> None:
    """Gases, and the ventilator as most servers send it: one LOINC coding, an instant."""
    gas: dict[str, Any] = {"specimen": ARTERIAL_BLOOD, "body_site": lungs.site} if lungs.specimen else {}
    chart.series("pao2", [PAO2], lungs.hours, lungs.pao2, lungs.pao2_unit, **gas)
    chart.series("paco2", [PACO2], lungs.hours, lungs.paco2, lungs.pao2_unit, **gas)
    chart.series("ph", [("loinc", "2744-1", "pH of Arterial blood")], lungs.hours, lungs.ph, ("pH", "[pH]"), **gas)
    set_before = tuple(hours + 0.1 for hours in lungs.hours)
    for word, code, values, unit in (
        ("fio2", FIO2, lungs.fio2, lungs.fio2_unit),
        ("peep", PEEP, lungs.peep, CMH2O),
        ("tidal", TIDAL_VOLUME, lungs.tidal, ML),
        ("plateau", PLATEAU, lungs.plateau, CMH2O),
    ):
        chart.series(word, [code], set_before, values, unit, category=VITAL_SIGNS)


def _spo2(chart: Chart) -> None:
    """Pulse oximetry in the way US Core and FHIR's vital signs force: it is no arterial gas in spite of its code."""
    codes: list[Code] = [
        ("loinc", "59408-5", "Oxygen saturation in Arterial blood by Pulse oximetry"),
        ("loinc", "2708-6", "Oxygen saturation in Arterial blood"),
    ]
    chart.series("spo2", codes, (0.4, 3.4, 6.4), (89, 90, 88), PERCENT, category=VITAL_SIGNS)


_ANTIBIOTICS: Final[Mapping[str, tuple[tuple[float, Unit], int]]] = {
    "piperacillin and beta-lactamase inhibitor": ((4, G), 8),
    "meropenem": ((1, G), 8),
    "ceftriaxone": ((2, G), 24),
    "linezolid": ((600, MG), 12),
}
"""Dose and hours between doses."""


def _routine(chart: Chart, person: Person, *, antibiotic: str, steroid: bool = False, heparin: float = 0) -> None:
    """What nearly every ventilated patient receives; `heparin` in IU/h replaces enoxaparin."""
    start = person.ventilated
    chart.infusion("propofol", (180, MG_PER_H), [(0.9 * start, 20.2), (20.2, None)], ordered=start)
    chart.infusion("sufentanil", (15, UG_PER_H), [(0.9 * start, 22.4), (22.4, None)], ordered=start)
    chart.infusion("norepinephrine", (0.08, UG_PER_KG_MIN), [(26.5, 9.1), (9.1, None)], ordered=start)
    if heparin:
        chart.infusion("heparin", (heparin, IU_PER_H), [(30.2, None)], ordered=39)
    else:
        chart.doses("enoxaparin", (40, MG), 12, (3.6, 15.7, 27.5), ordered=start)
    chart.doses("pantoprazole", (40, MG), 24, (4.1, 28.2), ordered=start)
    dose, every = _ANTIBIOTICS[antibiotic]
    chart.doses(antibiotic, dose, every, (2.2, 2.2 + every, 2.2 + 2 * every), ordered=70)
    if steroid:
        chart.doses("dexamethasone", (6, MG), 24, (6.2, 30.1, 54.3, 78.2), ordered=102, reason=COVID19)


def _ventilation(chart: Chart, person: Person) -> None:
    chart.procedure("ventilation", [INVASIVE_VENTILATION], person.ventilated)


def _proned(chart: Chart) -> None:
    """Two completed sessions of 16 h, the last one ended 22 h ago."""
    chart.procedure("prone", [PRONE], 38.4, 22.1)
    chart.procedure("prone", [PRONE], 63.5, 47.2)


def _relaxed(chart: Chart) -> None:
    """A neuromuscular blocker as an infusion within 72 h."""
    chart.infusion("cisatracurium", (15, MG_PER_H), [(62.3, 46.1), (37.8, 12.4), (12.4, None)])


def _inhaled_no(chart: Chart) -> None:
    chart.infusion("nitric oxide", (15, PPM), [(30.6, None)])


def _no_growth(chart: Chart, hours: float = 52.4) -> None:
    chart.observe("culture", [BLOOD_CULTURE], hours, {"valueCodeableConcept": concept(NEGATIVE, text="No growth")})


def _icu(
    chart: Chart,
    person: Person,
    *,
    labs: Labs | None = None,
    lungs: Lungs | None = None,
    antibiotic: str = "piperacillin and beta-lactamase inhibitor",
    steroid: bool = False,
    heparin: float = 0,
    allergy: Code | None = NO_KNOWN_ALLERGY,
) -> None:
    """The common course: COVID-19, ventilated, routine drugs, allergies asked, laboratory complete."""
    _arrival(chart, person)
    _covid(chart, person)
    _ventilation(chart, person)
    _lungs(chart, lungs or Lungs())
    _spo2(chart)
    _labs(chart, labs or Labs(), person.dialect)
    _routine(chart, person, antibiotic=antibiotic, steroid=steroid, heparin=heparin)
    if allergy is not None:
        chart.allergy(allergy)


Tell = Callable[[Chart, Person], None]


def _full_protocol(chart: Chart, person: Person) -> None:
    """Every criterion on record, and everything the safety findings ask for."""
    _icu(chart, person, lungs=Lungs(pao2=(62, 66, 71, 74, 80, 77), fio2=(80, 80, 75, 75, 70, 70)))
    clearance: Code = ("loinc", "2164-2", "Creatinine renal clearance in 24 hour Urine and Serum or Plasma")
    chart.series("clearance", [clearance], (5.2,), (104,), ("mL/min", "mL/min"))
    _proned(chart)
    _relaxed(chart)
    _inhaled_no(chart)
    _no_growth(chart)
    chart.problem([("icd10", "I10", "Essential (primary) hypertension")], 2900)
    chart.home_drug("amlodipine", "5 mg once a day", years=8)
    chart.doses("dexamethasone", (6, MG), 24, (126.1, 150.2, 174.1), ordered=360, active=False, reason=COVID19)
    surface_antigen: Code = ("loinc", "5195-3", "Hepatitis B virus surface Ag [Presence] in Serum")
    chart.observe("hbsag", [surface_antigen], 120.5, {"valueCodeableConcept": concept(NEGATIVE)})


def _never_proned(chart: Chart, person: Person) -> None:
    """A German intensive care unit: several codings, effectivePeriod, Medication as a resource, prone not done."""
    chart.drug_systems, chart.medication_form = ("atc-de",), "reference"
    _arrival(chart, person)
    _covid(chart, person)
    _ventilation(chart, person)
    chart.series("pao2", [PAO2], GAS_HOURS, (62, 64, 67, 70, 69, 74), MMHG, specimen=ARTERIAL_BLOOD)
    ratio: list[Code] = [
        ("loinc", "50984-4", "Horowitz index in Arterial blood"),
        ("mdc", "150656", "MDC_O2_OXYGENATION_RATIO"),
    ]
    chart.series("pf", ratio, GAS_HOURS, (83, 85, 89, 93, 92, 106), MMHG, category=VENTILATION)
    rows: tuple[tuple[str, tuple[Code, ...], tuple[float, ...], Unit], ...] = (
        ("fio2",
         (("snomed", "250774007", "Inspired oxygen concentration"), ("loinc", "19994-3", "Oxygen/Total gas setting"),
          ("mdc", "152196", "MDC_CONC_AWAY_O2_INSP")), (75, 75, 75, 75, 75, 70), PERCENT),
        ("peep",
         (("snomed", "250854009", "Positive end expiratory pressure"), ("loinc", "76248-4", "PEEP Respiratory system"),
          ("mdc", "151976", "MDC_VENT_PRESS_AWAY_END_EXP_POS")), (14, 14, 14, 14, 12, 12), CMH2O),
        ("plateau",
         (("loinc", "76259-1", "Pressure.plateau"), ("mdc", "152424", "MDC_VENT_PRESS_RESP_PLAT")),
         (26, 26, 27, 26, 25, 25), CMH2O),
        ("tidal",
         (("loinc", "76222-9", "Tidal volume Ventilator"), ("mdc", "151980", "MDC_VENT_VOL_TIDAL")),
         (408, 408, 416, 410, 410, 410), ML),
        ("compliance", (("mdc", "151688", "MDC_COMPL_LUNG"),), (34, 34, 32), COMPLIANCE),
    )  # fmt: skip
    around = tuple(hours + 0.5 for hours in GAS_HOURS)
    for word, codes, values, unit in rows:
        method = "statisch" if word == "compliance" else ""
        chart.series(word, codes, around, values, unit, category=VENTILATION, hours_long=1.0, method=method)
    _labs(chart, Labs(crp=(188, 205, 241, 220), ferritin=(1420, 1655, 1310)), person.dialect)
    _routine(chart, person, antibiotic="meropenem")
    _relaxed(chart)
    _inhaled_no(chart)
    chart.allergy(NO_KNOWN_ALLERGY)
    for hours in (9.6, 33.7):
        chart.procedure("prone", [PRONE], hours, status="not-done", reason="Unstable fracture of the cervical spine")
    chart.problem([], 5.5, text="Fracture of the cervical spine, not yet stabilised")
    position: Code = ("loinc", "8361-8", "Body position with respect to gravity")
    for hours in (2.1, 14.2, 26.3):
        chart.observe("position", [position], hours, {"valueCodeableConcept": {"text": "Supine"}}, category=VITAL_SIGNS)


def _us_units(chart: Chart, person: Person) -> None:
    """CRP in mg/dL, where 26.2 is far above the threshold and looks far below it."""
    chart.drug_systems = ("rxnorm",)
    labs = Labs(
        crp=(26.2, 28.4, 24.9, 19.8),
        ferritin=(1765, 2040, 1511),
        creatinine=(0.86, 0.91, 0.95, 0.9),
        bilirubin=(),
    )
    lungs = Lungs(pao2=(61, 63, 70, 72, 69, 75), plateau=(27, 27, 28, 27, 27, 26))
    _arrival(chart, person)
    _covid(chart, person)
    _ventilation(chart, person)
    _lungs(chart, lungs)
    _spo2(chart)
    _labs(chart, labs, person.dialect)
    bilirubin: Code = ("loinc", "1975-2", "Bilirubin.total [Mass/volume] in Serum or Plasma")
    chart.series("bilirubin", [bilirubin], LAB_HOURS, (0.6, 0.7), ("mg/dL", "mg/dL"))
    start = person.ventilated
    chart.infusion("propofol", (35, ("mcg/kg/min", "ug/kg/min")), [(0.9 * start, 20.2), (20.2, None)], ordered=start)
    chart.infusion("fentanyl", (75, ("mcg/h", "ug/h")), [(0.9 * start, None)], ordered=start)
    chart.infusion("norepinephrine", (0.06, ("mcg/kg/min", "ug/kg/min")), [(26.5, 9.1), (9.1, None)], ordered=start)
    chart.infusion("rocuronium", (8, ("mcg/kg/min", "ug/kg/min")), [(40.2, 17.6)], ordered=40.5)
    chart.doses("enoxaparin", (40, MG), 24, (3.6, 27.5), ordered=start)
    chart.doses("pantoprazole", (40, MG), 24, (4.1, 28.2), ordered=start)
    chart.doses("dexamethasone", (6, MG), 24, (6.2, 30.1, 54.3, 78.2), ordered=102, reason=COVID19)
    _proned(chart)
    chart.allergy(NO_KNOWN_DRUG_ALLERGY)


def _crp_100(chart: Chart, person: Person) -> None:
    _icu(chart, person, labs=Labs(crp=(100, 121, 180, 226)), antibiotic="ceftriaxone", steroid=True)
    _proned(chart)
    _no_growth(chart)


def _no_ferritin(chart: Chart, person: Person) -> None:
    _icu(chart, person, labs=Labs(crp=(178, 203, 219, 164), ferritin=()), steroid=True)
    _relaxed(chart)
    _no_growth(chart, 27.3)


def _old_gas(chart: Chart, person: Person) -> None:
    """The arterial line was lost: the newest gas is 60 h old, the ventilator is charted, compliance is above 30."""
    hours = (60.0, 65.8, 72.1)
    lungs = Lungs(hours=hours, pao2=(66, 69, 71), fio2=(80, 75, 75), paco2=(), ph=(), peep=(), tidal=(), plateau=())
    _icu(chart, person, labs=Labs(crp=(169, 182, 210, 240)), lungs=lungs, steroid=True)
    recent = Lungs(
        pao2=(), paco2=(), ph=(), fio2=(75, 75, 75, 75, 80, 80), peep=(12,) * 6, tidal=(420,) * 6, plateau=(24,) * 6
    )
    _lungs(chart, recent)
    _proned(chart)


def _ecmo(chart: Chart, started: float) -> None:
    """Veno-venous ECMO running, with blood flow and sweep gas charted."""
    chart.procedure("ecmo", [VV_ECMO], started)
    flow: Code = ("mimic-chart", "229270", "Flow (ECMO)")
    sweep: Code = ("mimic-chart", "229278", "Sweep (ECMO)")
    hours = (0.9, 4.8, 8.9, 12.8)
    chart.series("ecmo-flow", [flow], hours, (4.3, 4.3, 4.2, 4.4), L_PER_MIN, category=VITAL_SIGNS)
    chart.series("ecmo-sweep", [sweep], hours, (5, 4.5), L_PER_MIN, category=VITAL_SIGNS)


_ON_ECMO: Final = Lungs(
    paco2=(41, 40, 42),
    ph=(7.41, 7.42, 7.4),
    peep=(12,) * 6,
    tidal=(272,) * 6,
    plateau=(20,) * 6,
    site="right radial artery",
)
"""Protective settings with Vt / (Pplat - PEEP) = 272 / 8 = 34 mL/cmH2O, so that compliance does not decide."""


def _ecmo_full(chart: Chart, person: Person) -> None:
    """P/F exactly 150 (75 mmHg at 0.50) with the oxygenator at 100 %: at the limit of the ECMO clause, inside."""
    lungs = replace(_ON_ECMO, pao2=(75, 73, 76, 72, 74, 70), fio2=(50, 50, 50, 60, 60, 60))
    labs = Labs(platelets=(131, 138, 150, 171), crp=(241, 262, 208, 176))
    _icu(chart, person, labs=labs, lungs=lungs, heparin=1100)
    _ecmo(chart, 108.5)
    fdo2: Code = ("mimic-chart", "229280", "FiO2 (ECMO)")
    shortly_before = tuple(hours + 0.2 for hours in GAS_HOURS)
    chart.series("fdo2", [fdo2], shortly_before, (100,) * 6, PERCENT, category=VITAL_SIGNS)
    _proned(chart)
    _relaxed(chart)
    _no_growth(chart)


def _ecmo_unrecorded(chart: Chart, person: Person) -> None:
    """The same circuit, but nobody charts what the oxygenator is given: the ECMO clause cannot be decided."""
    lungs = replace(_ON_ECMO, pao2=(72, 70, 74, 71, 70, 69), fio2=(55, 55, 55, 60, 60, 60))
    _icu(chart, person, labs=Labs(platelets=(118, 126, 139, 160)), lungs=lungs, antibiotic="meropenem", heparin=950)
    _ecmo(chart, 40.3)
    _relaxed(chart)


def _neutropenic(chart: Chart, person: Person) -> None:
    _icu(chart, person, labs=Labs(leucocytes=(1.7, 2.2, 3.1, 4.4), anc=(0.9, 1.2, 1.9, 2.8)), steroid=True)
    _proned(chart)
    _relaxed(chart)
    _inhaled_no(chart)
    _no_growth(chart, 30.2)


def _posaconazole(chart: Chart, person: Person) -> None:
    """French units: counts in G/L, enzymes in UI/L, no UCUM code."""
    labs = Labs(crp=(163, 190, 224, 201), ferritin=(1335, 1502, 1180))
    _icu(chart, person, labs=labs, antibiotic="linezolid", allergy=None)
    reason = [("snomed", "169443000", "Preventive procedure")]
    chart.doses("posaconazole", (300, MG), 24, (4.4, 28.6, 52.5), ordered=80, reason=reason)
    chart.allergy(text="Penicillin: rash in childhood")
    _proned(chart)
    _relaxed(chart)


def _above_range(chart: Chart, person: Person) -> None:
    """The analyser stops at 1650 ug/L: the newest ferritin is a bound, an older one is written as text."""
    _icu(chart, person, labs=Labs(ferritin=()))
    bound = quantity(1650, person.dialect.ferritin, comparator=">")
    chart.observe("ferritin", [FERRITIN], 5.2, {"valueQuantity": bound})
    chart.observe("ferritin", [FERRITIN], 53.3, {"valueString": ">1650 ug/L"})
    _proned(chart)
    _relaxed(chart)
    chart.infusion("almitrine", (8, UG_PER_KG_MIN), [(20.3, None)])
    _no_growth(chart)


def _adolescent(chart: Chart, person: Person) -> None:
    _icu(chart, person, steroid=True)
    _proned(chart)
    _relaxed(chart)


def _no_medications(chart: Chart, person: Person) -> None:
    """The drugs are there; the server refuses to show them (see the story's faults)."""
    _icu(chart, person)
    _proned(chart)
    _relaxed(chart)
    _inhaled_no(chart)


def _ward(chart: Chart, person: Person) -> None:
    """Pneumonia on a ward: CRP above the threshold, nothing that points to COVID-19 or to a ventilator."""
    _arrival(chart, person, unit="General ward")
    chart.problem([("icd10", "J15.9", "Bacterial pneumonia, unspecified")], 3)
    chart.problem([("icd10", "E03.9", "Hypothyroidism, unspecified")], 3300)
    chart.problem([("icd10", "I10", "Essential (primary) hypertension")], 4100)
    labs = Labs(
        crp=(142, 176, 211),
        ferritin=(),
        leucocytes=(11.1, 12.4, 14.8),
        anc=(8.8, 9.7, 11.9),
        platelets=(288, 301, 312),
        creatinine=(71, 76, 88),
        procalcitonin=(1.6, 3.2),
    )
    _labs(chart, labs)
    saturation: Code = ("loinc", "59408-5", "Oxygen saturation in Arterial blood by Pulse oximetry")
    chart.series("spo2", [saturation], (1.1, 7.2, 13.2, 19.1), (95, 95, 94, 93), PERCENT, category=VITAL_SIGNS)
    flow: Code = ("loinc", "3151-8", "Inhaled oxygen flow rate")
    chart.series("oxygen-flow", [flow], (1.1, 7.2, 13.2), (2, 2, 3), L_PER_MIN, category=VITAL_SIGNS)
    rate: Code = ("loinc", "9279-1", "Respiratory rate")
    chart.series("rate", [rate], (1.1, 7.2, 13.2, 19.1), (18, 19, 21, 22), ("/min", "/min"), category=VITAL_SIGNS)
    chart.doses("ceftriaxone", (2, G), 24, (8.1, 32.2, 56.1), ordered=60)
    chart.doses("enoxaparin", (40, MG), 24, (12.2, 36.1), ordered=60)
    chart.doses("paracetamol", (1, G), 8, (3.2, 11.1, 19.2), ordered=60)
    chart.home_drug("levothyroxine", "75 micrograms once a day", years=9)
    chart.home_drug("ramipril", "5 mg once a day", years=11)
    chart.home_drug("atorvastatin", "20 mg once a day", years=6)
    chart.vaccine(("cvx", "187", "zoster recombinant"), 520)
    chart.allergy(NO_KNOWN_ALLERGY)


def _just_intubated(chart: Chart, person: Person) -> None:
    """An hour on the ventilator: one set of settings, no gas, no laboratory."""
    _arrival(chart, person)
    _covid(chart, person)
    _ventilation(chart, person)
    chart.series("fio2", [FIO2], (0.4, 0.8), (100, 100), PERCENT, category=VITAL_SIGNS)
    chart.series("peep", [PEEP], (0.4,), (12,), CMH2O, category=VITAL_SIGNS)
    chart.series("tidal", [TIDAL_VOLUME], (0.4,), (430,), ML, category=VITAL_SIGNS)
    chart.infusion("propofol", (200, MG_PER_H), [(0.9, None)], ordered=1.0)


def _ruxolitinib_ordered(chart: Chart, person: Person) -> None:
    _icu(chart, person, labs=Labs(crp=(197, 224, 238, 171), ferritin=(1515, 1690, 1402)))
    chart.doses("ruxolitinib", (5, MG), 12, (), ordered=2.4, reason=COVID19)
    _proned(chart)
    _relaxed(chart)


def _yeast(chart: Chart, person: Person) -> None:
    """A preliminary result: it counts here (reading 3.17), as it would at the bedside."""
    _icu(chart, person, labs=Labs(procalcitonin=(1.1, 0.6)), antibiotic="meropenem")
    _no_growth(chart, 98.2)
    chart.observe(
        "culture",
        [BLOOD_CULTURE],
        20.4,
        {
            "valueCodeableConcept": {"text": "Candida albicans"},
            "interpretation": [concept(("interpretation", "POS", "Positive"))],
        },
        status="preliminary",
    )
    chart.doses("caspofungin", (70, MG), 24, (3.3,), ordered=4)
    _proned(chart)
    _relaxed(chart)


def _transplant(chart: Chart, person: Person) -> None:
    _icu(chart, person, labs=Labs(creatinine=(98, 101, 104, 96), crp=(152, 177, 192, 160)))
    chart.problem([("icd10", "Z94.0", "Kidney transplant status")], 2300)
    chart.doses("tacrolimus", (2, MG), 12, (2.6, 14.5, 26.4))
    chart.doses("mycophenolic acid", (360, MG), 12, (2.6, 14.5), active=False)
    chart.doses("prednisone", (5, MG), 24, (2.6, 26.4))
    trough: Code = ("loinc", "11253-2", "Tacrolimus [Mass/volume] in Blood")
    chart.series("tacrolimus", [trough], (5.2,), (6.1,), ("ng/mL", "ng/mL"))
    _proned(chart)
    _relaxed(chart)


_TAPER: Final = ((11, 300), (13, 200), (99, 100))
"""mg of anakinra until so many days: the letter's, what is reconstructed of the taper, and on where nobody stops it."""


def _pair(
    chart: Chart,
    *,
    first: float,
    days: int,
    goes_on: bool,
    ruxolitinib: Sequence[float],
    missed: Sequence[float] = (),
) -> None:
    """Both drugs since `first` hours ago: anakinra on so many days, each step of it an order; ruxolitinib goes on."""
    begun = 0
    for until, dose in _TAPER:
        given = [first - 24 * day for day in range(begun, min(days, until))]
        if given:
            last = until >= days
            chart.doses(
                *("anakinra", (dose, MG), 24, given), ordered=given[0] + 1.5, active=last and goes_on, reason=COVID19
            )
        begun = until
    chart.doses("ruxolitinib", (5, MG), 12, ruxolitinib, ordered=first + 1.5, missed=missed, reason=COVID19)


def _before_the_first_dose(chart: Chart, hours: float, *, crp: float, ferritin: float) -> None:
    """The laboratory of the morning on which the course began: the baseline of Table 2."""
    chart.observe("crp", [CRP], hours, {"valueQuantity": quantity(crp, SI.crp)})
    chart.observe("ferritin", [FERRITIN], hours, {"valueQuantity": quantity(ferritin, SI.ferritin)})
    chart.observe("anc", [NEUTROPHILS], hours, {"valueQuantity": quantity(9.8, SI.count)}, normal=(1.8, 7.5, SI.count))
    chart.observe("lymphocytes", [LYMPHOCYTES], hours, {"valueQuantity": quantity(0.8, SI.count)})
    chart.observe("sofa", [SOFA], hours, {"valueInteger": 9})


def _day_7(chart: Chart, person: Person) -> None:
    """The seventh day: CRP 26 % of its baseline, one dose of ruxolitinib missed while the tube was blocked."""
    first = 6 * 24 + 3.5
    _icu(
        chart,
        person,
        labs=Labs(crp=(69, 84, 101, 133), ferritin=(1390, 1510, 1722), leucocytes=(8.1, 8.8), anc=(6.2, 6.9)),
        lungs=Lungs(pao2=(81, 78, 76, 74, 71, 70), fio2=(65, 65, 70, 70, 70, 75), plateau=(27, 27, 27, 28, 28, 28)),
    )
    _before_the_first_dose(chart, first + 4.2, crp=264, ferritin=2840)
    chart.series("lymphocytes", [LYMPHOCYTES], LAB_HOURS, (1.4, 1.3, 1.1, 1.0), SI.count)
    chart.series("sofa", [SOFA], (6.3, 30.3), (7, 8), FRACTION)
    for word, code, value, unit in (
        ("plateau", PLATEAU, 29, CMH2O),
        ("peep", PEEP, 14, CMH2O),
        ("tidal", TIDAL_VOLUME, 360, ML),
    ):
        chart.series(word, [code], (first + 1.1,), (value,), unit, category=VITAL_SIGNS)
    doses = tuple(first - 12 * dose for dose in range(13))
    given = tuple(hours for hours in doses if hours != doses[8])
    _pair(chart, first=first, days=7, goes_on=True, ruxolitinib=given, missed=(doses[8],))
    _proned(chart)
    _no_growth(chart, 41.3)


def _day_16(chart: Chart, person: Person) -> None:
    """The sixteenth day: ALT 6.9 times its limit, and nobody ended the order of anakinra after day 14."""
    first = 15 * 24 + 5.2
    labs = Labs(
        crp=(38, 41, 47, 55),
        ferritin=(1622, 1540, 1498),
        alt=(312, 188, 96),
        ast=(204, 131, 70),
        anc=(5.1, 5.4, 5.9),
        leucocytes=(6.8, 7.0, 7.4),
    )
    lungs = Lungs(pao2=(88, 86, 90, 84, 83, 80), fio2=(45, 45, 45, 50, 50, 50), plateau=(24,) * 6, peep=(10,) * 6)
    _icu(chart, person, labs=labs, lungs=lungs)
    _before_the_first_dose(chart, first + 6.1, crp=311, ferritin=3120)
    chart.series("lymphocytes", [LYMPHOCYTES], LAB_HOURS, (1.5, 1.6, 1.5, 1.4), SI.count)
    _pair(chart, first=first, days=16, goes_on=True, ruxolitinib=tuple(first - 12 * dose for dose in range(31)))
    _no_growth(chart, 60.1)


def _day_30(chart: Chart, person: Person) -> None:
    """The thirtieth day: extubated, anakinra ended in time, ruxolitinib still ordered and given."""
    first = 29 * 24 + 2.1
    _arrival(chart, person, unit="Intensive care unit")
    _covid(chart, person)
    chart.procedure("ventilation", [INVASIVE_VENTILATION], person.ventilated, 150)
    labs = Labs(
        crp=(12, 14, 19, 22),
        ferritin=(840, 866, 902),
        alt=(58, 61, 66),
        ast=(44, 48, 51),
        anc=(3.9, 4.2),
        platelets=(288,),
    )
    _labs(chart, labs, person.dialect)
    _before_the_first_dose(chart, first + 3.3, crp=228, ferritin=2410)
    chart.series("lymphocytes", [LYMPHOCYTES], LAB_HOURS, (1.9, 1.8), SI.count)
    _pair(chart, first=first, days=14, goes_on=False, ruxolitinib=tuple(first - 12 * dose for dose in range(59)))
    chart.doses("enoxaparin", (40, MG), 24, (8.1, 32.2))
    chart.allergy(NO_KNOWN_ALLERGY)


def _died(chart: Chart, person: Person) -> None:
    """The chart ends with the death; the thresholds were met until then."""
    _icu(chart, person, labs=Labs(crp=(288, 301, 274, 230), ferritin=(3120, 2870, 2205)), steroid=True)
    _proned(chart)
    _relaxed(chart)


def _woman_34(chart: Chart, person: Person) -> None:
    """P/F 124, so that compliance alone decides (408 / 17 = 24); a pregnancy test as her age asks for."""
    lungs = Lungs(
        pao2=(87, 84, 88, 91, 90, 95),
        fio2=(70, 70, 70, 70, 65, 65),
        tidal=(408, 408, 400, 400, 410, 410),
        plateau=(29, 29, 28, 28, 28, 27),
        peep=(12,) * 6,
    )
    _icu(chart, person, labs=Labs(creatinine=(61, 63, 66, 64)), lungs=lungs, steroid=True)
    test: Code = ("loinc", "2106-3", "Choriogonadotropin (pregnancy test) [Presence] in Urine")
    chart.observe("pregnancy-test", [test], 62.3, {"valueCodeableConcept": concept(NEGATIVE)})
    chart.problem([("icd10", "E66.9", "Obesity, unspecified")], 1500)
    _proned(chart)
    _relaxed(chart)


def _kilopascal(chart: Chart, person: Person) -> None:
    """Gases in kPa, FiO2 as a fraction, Medication contained: 7.2 kPa at 0.90 is a P/F of 60 mmHg."""
    chart.medication_form = "contained"
    lungs = Lungs(
        pao2=(7.2, 7.6, 8.1, 7.9, 8.8, 9.1),
        pao2_unit=KPA,
        fio2=(0.9, 0.9, 0.85, 0.85, 0.8, 0.8),
        fio2_unit=FRACTION,
        paco2=(7.1, 7.3, 7),
        specimen=False,
    )
    _icu(chart, person, labs=Labs(crp=(273, 291, 255, 190), ferritin=(2480, 2655, 1940)), lungs=lungs)
    _relaxed(chart)
    _no_growth(chart)


@dataclass(frozen=True, slots=True)
class _Case:
    """A story, who it is about, and the function that writes the chart."""

    story: Story
    person: Person
    tell: Tell


def _expect(simple: Verdict, full: Verdict, suggestions: Literal["yes", "no"], outcome: Outcome) -> Mapping[str, str]:
    return MappingProxyType(
        {"pilot-simple": simple, "pilot-full": full, "suggestions": suggestions, "outcome": outcome}
    )


def _case(
    word: str,
    person: Person,
    tell: Tell,
    expect: Mapping[str, str],
    *,
    title: str,
    line: str,
    faults: Mapping[str, Fault] | None = None,
) -> _Case:
    story = Story(
        patient_id=f"demo-{word}",
        name=person.name,
        title=title,
        line=line,
        expect=expect,
        faults=MappingProxyType(dict(faults or {})),
    )
    return _Case(story, person, tell)


_REFUSED: Final = Fault(status=403)

_CASES: Final[tuple[_Case, ...]] = (
    _case(
        "full-protocol",
        Person("Demo-Alder", "Ines", "female", 61, 82),
        _full_protocol,
        _expect("met", "met", "yes", "card"),
        title="Full protocol met",
        line="P/F 78 after two prone sessions, cisatracurium and inhaled NO; CRP 214, ferritin 1840; nothing missing.",
    ),
    _case(
        "never-proned",
        Person("Demo-Birch", "Anton", "male", 57, 91, dialect=GERMAN),
        _never_proned,
        _expect("met", "not-met", "no", "card"),
        title="Thresholds met, never proned",
        line="The four thresholds are met, but prone positioning was not done because of a cervical fracture.",
    ),
    _case(
        "us-units",
        Person("Demo-Cedar", "Walter", "male", 64, 95, dialect=US),
        _us_units,
        _expect("met", "unknown", "yes", "card"),
        title="CRP 26.2 mg/dL",
        line="CRP reads 26.2, in mg/dL: 262 mg/L, above the threshold; no inhaled NO or ECMO on record.",
    ),
    _case(
        "crp-100",
        Person("Demo-Dogwood", "Petra", "female", 69, 71),
        _crp_100,
        _expect("not-met", "not-met", "no", "not-met"),
        title="CRP exactly 100",
        line="CRP has fallen to exactly 100 mg/L, and the threshold is above 100: the service stays silent.",
    ),
    _case(
        "no-ferritin",
        Person("Demo-Elm", "Josef", "male", 66, 84),
        _no_ferritin,
        _expect("unknown", "unknown", "no", "card"),
        title="Ferritin missing",
        line="Severe hypoxaemia and CRP 178, but ferritin was never measured.",
    ),
    _case(
        "old-gas",
        Person("Demo-Fir", "Magnus", "male", 72, 79),
        _old_gas,
        _expect("unknown", "unknown", "no", "card"),
        title="Blood gas 60 h old",
        line="The last arterial gas is 60 hours old and compliance is 35: severity cannot be determined now.",
    ),
    _case(
        "ecmo-150",
        Person("Demo-Ginkgo", "Rafael", "male", 49, 93, icu=200, ventilated=170),
        _ecmo_full,
        _expect("met", "met", "yes", "card"),
        title="VV-ECMO, P/F 150",
        line="On veno-venous ECMO with the oxygenator at 100 % and P/F exactly 150: at the limit, which counts.",
    ),
    _case(
        "ecmo-no-fdo2",
        Person("Demo-Hazel", "Tomas", "male", 53, 88),
        _ecmo_unrecorded,
        _expect("unknown", "unknown", "no", "card"),
        title="ECMO, FdO2 not recorded",
        line="On veno-venous ECMO with P/F 131, and nobody charts the oxygen fraction at the oxygenator.",
    ),
    _case(
        "neutropenia",
        Person("Demo-Juniper", "Carla", "female", 63, 70),
        _neutropenic,
        _expect("met", "met", "no", "card"),
        title="Neutrophils 0.9",
        line="Every criterion is met, but neutrophils are 0.9 x 10^9/L: an absolute contraindication.",
    ),
    _case(
        "posaconazole",
        Person("Demo-Katsura", "Luc", "male", 59, 80, dialect=FRENCH),
        _posaconazole,
        _expect("met", "unknown", "no", "card"),
        title="On posaconazole",
        line="Thresholds met while on posaconazole, a strong CYP3A4 inhibitor: the ruxolitinib dose would change.",
    ),
    _case(
        "ferritin-above-range",
        Person("Demo-Larch", "Henrik", "male", 60, 86),
        _above_range,
        _expect("met", "met", "yes", "card"),
        title="Ferritin >1650",
        line="Ferritin is reported as >1650 ug/L, the analyser's limit, and almitrine is running.",
    ),
    _case(
        "adolescent",
        Person("Demo-Maple", "Noah", "male", 16, 68),
        _adolescent,
        _expect("met", "not-met", "no", "not-the-population"),
        title="16 years old",
        line="The thresholds are met in a 16-year-old; the protocol is for adults, so the service stays silent.",
    ),
    _case(
        "medications-refused",
        Person("Demo-Oak", "Viktor", "male", 68, 90),
        _no_medications,
        _expect("met", "unknown", "no", "card"),
        title="Medication search refused",
        line="Thresholds met, but the server refuses orders and administrations (403): no safe suggestion.",
        faults={"MedicationRequest": _REFUSED, "MedicationAdministration": _REFUSED},
    ),
    _case(
        "ward",
        Person("Demo-Pine", "Edith", "female", 78, 62, icu=66),
        _ward,
        _expect("unknown", "unknown", "no", "out-of-scope"),
        title="Pneumonia on the ward",
        line="Bacterial pneumonia on a ward with CRP 142, never ventilated, no SARS-CoV-2 result: out of scope.",
    ),
    _case(
        "just-intubated",
        Person("Demo-Quince", "Samir", "male", 55, 85, icu=2.5, ventilated=1.0, pcr_days=(3,)),
        _just_intubated,
        _expect("unknown", "unknown", "no", "card"),
        title="Just intubated",
        line="Intubated an hour ago with COVID-19: no gas and no laboratory yet.",
    ),
    _case(
        "ruxolitinib-ordered",
        Person("Demo-Rowan", "Elena", "female", 58, 76),
        _ruxolitinib_ordered,
        _expect("met", "unknown", "no", "card"),
        title="Ruxolitinib already ordered",
        line="Thresholds met, and a colleague ordered ruxolitinib two hours ago: nothing is suggested twice.",
    ),
    _case(
        "day-7",
        Person("Demo-Sorrel", "Hanna", "female", 62, 78, icu=330, ventilated=260, pcr_days=(19, 12)),
        _day_7,
        _expect("not-met", "not-met", "no", "follow-up"),
        title="Day 7 of the course, a missed dose",
        line="Seventh day of anakinra and ruxolitinib: CRP 26 % of its baseline, one dose recorded as not given.",
    ),
    _case(
        "day-16",
        Person("Demo-Spruce", "Marek", "male", 58, 91, icu=620, ventilated=560, pcr_days=(31, 24)),
        _day_16,
        _expect("not-met", "not-met", "no", "follow-up"),
        title="Day 16, ALT 6.9 x its limit",
        line="Sixteenth day: ALT is above five times its limit, and anakinra is still ordered after day 14.",
    ),
    _case(
        "day-30",
        Person("Demo-Sumac", "Greta", "female", 67, 66, icu=900, ventilated=840, pcr_days=(44, 37)),
        _day_30,
        _expect("not-met", "not-met", "no", "follow-up"),
        title="Day 30, ruxolitinib goes on",
        line="Extubated, thirtieth day: the course of ruxolitinib ended on day 28 and the drug is still given.",
    ),
    _case(
        "yeast",
        Person("Demo-Sequoia", "Bruno", "male", 65, 83),
        _yeast,
        _expect("met", "unknown", "no", "card"),
        title="Yeast in a blood culture",
        line="Thresholds met, and a preliminary blood culture grows Candida albicans: is the infection controlled?",
    ),
    _case(
        "kidney-transplant",
        Person("Demo-Tamarind", "Mirko", "male", 52, 80),
        _transplant,
        _expect("met", "unknown", "no", "card"),
        title="Kidney transplant",
        line="Thresholds met in a kidney transplant recipient on tacrolimus: nobody in the pilot was immunosuppressed.",
    ),
    _case(
        "deceased",
        Person("Demo-Viburnum", "Otto", "male", 74, 77, deceased=True),
        _died,
        _expect("met", "unknown", "no", "deceased"),
        title="Deceased",
        line="Died six hours ago with the thresholds met: the service says nothing.",
    ),
    _case(
        "woman-34",
        Person("Demo-Willow", "Amina", "female", 34, 74),
        _woman_34,
        _expect("met", "unknown", "yes", "card"),
        title="Woman of 34, stiff lungs",
        line="P/F is 124, compliance 24 decides; the pregnancy test that her age asks for is negative.",
    ),
    _case(
        "kilopascal",
        Person("Demo-Yew", "Lars", "male", 62, 89),
        _kilopascal,
        _expect("met", "unknown", "yes", "card"),
        title="Gases in kPa",
        line="PaO2 7.2 kPa at FiO2 0.90: a P/F of 60 mmHg; prone positioning is not charted here.",
    ),
)

STORIES: Final[tuple[Story, ...]] = tuple(case.story for case in _CASES)

SINCE_DEATH: Final = timedelta(hours=6)


def bundle(now: datetime) -> list[Resource]:
    """Every resource of every patient, as they would be charted at `now`; the same for the same `now`.

    Raises ValueError when `now` has no zone: clinical time always has one.
    """
    if now.tzinfo is None:
        raise ValueError("now needs a zone")
    moment = now.astimezone(UTC).replace(microsecond=0)
    found = [practitioner()]
    for case in _CASES:
        over = case.person.deceased
        chart = Chart(case.story.patient_id, now=moment - SINCE_DEATH if over else moment, over=over)
        case.tell(chart, case.person)
        found += chart.resources
    return found


def faults() -> dict[str, Mapping[str, Fault]]:
    """The stories' faults by patient id, as the sandbox takes them."""
    return {story.patient_id: story.faults for story in STORIES if story.faults}
