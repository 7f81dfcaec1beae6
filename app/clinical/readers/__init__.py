"""How each input of a rule is read from a chart.

To add one: a function in a module here, its name below, a block in `app/protocols/shared/inputs.toml`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from app.clinical.chart import Chart
from app.clinical.knowledge import Leaf
from app.clinical.readers import drugs, gas, labs, person, records, support, trial
from app.clinical.reading import Reading

Reader = Callable[[Chart, Leaf], Reading]

READERS: Mapping[str, Reader] = MappingProxyType(
    {
        "age": person.age,
        "sex": person.sex,
        "sarscov2_pcr": records.sarscov2_pcr,
        "prone": support.prone,
        "nmba": drugs.neuromuscular_block,
        "ecmo": support.ecmo_now,
        "ecmo_at_gas": gas.ecmo_at_gas,
        "ecmo_fdo2": gas.ecmo_fdo2,
        "ino": drugs.inhaled_or_infused,
        "almitrine": drugs.inhaled_or_infused,
        "pf": gas.pf,
        "crs": gas.compliance,
        "crp": labs.newest,
        "ferritin": labs.newest,
        "anc": labs.neutrophils,
        "platelets": labs.newest,
        "factor_v": labs.newest,
        "hb": labs.newest,
        "triglycerides": labs.newest,
        "alt": labs.multiple_of_limit,
        "ast": labs.multiple_of_limit,
        "crcl": labs.creatinine_clearance,
        "dialysis": support.dialysis,
        "allergies": records.allergies,
        "hypersensitivity": records.hypersensitivity,
        "medications": drugs.medications,
        "exposure": drugs.exposure,
        "chronic_steroid": drugs.chronic_steroid,
        "study_drug": drugs.study_drug,
        "pregnancy": records.pregnancy,
        "condition": records.condition,
        "hbv": records.screening,
        "tb": records.screening,
        "infection": records.uncontrolled_infection,
        "live_vaccine": records.live_vaccine,
        "ventilatory_support": support.ventilatory_support,
        "invasive_ventilation": support.invasive_ventilation,
        "respiratory_rate": trial.respiratory_rate,
        "sao2": trial.saturation,
        "mech_vent": trial.ventilated_hours,
        "pf_history": trial.pf_history,
        "noradrenaline": trial.noradrenaline,
        "renal_failure": trial.renal_failure,
        "liver_failure": trial.liver_failure,
        "myocarditis": trial.myocarditis,
        "hlh": trial.haemophagocytosis,
        "covid_specimen": trial.covid_specimen,
    }
)


def read(chart: Chart, leaf: Leaf) -> Reading:
    """The reading of a leaf's input, made once per chart."""
    return chart.once(leaf.key, lambda: READERS[leaf.input](chart, leaf))
