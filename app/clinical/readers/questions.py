"""What each input of a rule may be asked: for a number, or for one of these states, with these parameters.

Beside the readers, because it says what they return; the loader refuses a leaf that asks for anything else, so that a
typing error in a knowledge file is never a rule that cannot be met.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Question:
    """`states`: all that the reader can return; none: it returns a number. `unit` of that number, where it is not the
    canonical unit of the input's concept.

    `parameters`: the name of each parameter -> what kind of thing it names (`group` of interactions.toml; `conditions`,
    `procedures`, `observations`, `substances`, `ingredients`: names of the concept files, several with spaces between;
    `missing`: a public name; `number`). `required`: those that cannot be left out. `limits`: the [limit.NAME] blocks
    that its reader asks for; `groups`: the drug groups, where no parameter names one. `beside`: another input -> its
    states beside which the reader can give a number at all; beside another one this input is always unknown.
    """

    states: frozenset[str] = frozenset()
    unit: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    limits: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    beside: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def is_number(self) -> bool:
        """True when it is compared, not looked up."""
        return not self.states


def _number(
    unit: str = "", *, limits: Iterable[str] = (), beside: Mapping[str, frozenset[str]] = MappingProxyType({})
) -> Question:
    return Question(unit=unit, limits=tuple(limits), beside=beside)


def _state(
    *states: str,
    parameters: Mapping[str, str] = MappingProxyType({}),
    required: Iterable[str] = (),
    limits: Iterable[str] = (),
    groups: Iterable[str] = (),
) -> Question:
    return Question(
        frozenset(states),
        parameters=parameters,
        required=frozenset(required),
        limits=tuple(limits),
        groups=tuple(groups),
    )


_ECMO = ("off", "vv", "va", "generic")
_RECORD = ("present", "absent")
_ECMO_LIMITS = ("ecmo_history_hours", "ecmo_observation_hours", "support_runs_hours", "support_sign_hours")
_RUNS = "administration_runs_hours"
_LISTS = ("administrations_hours", _RUNS)
_VENTILATED = ("ventilation_gap_hours", *_ECMO_LIMITS, _RUNS)

QUESTIONS: Mapping[str, Question] = MappingProxyType(
    {
        "age": _number("a"),
        "sex": _state("male", "female"),
        "sarscov2_pcr": _state(
            *("positive", "negative"),
            limits=("sarscov2_negative_hours", "sarscov2_same_illness_hours", "sarscov2_later_negatives"),
        ),
        "prone": _state("yes", "no"),
        "nmba": _state("yes", "no", limits=("nmba_doses_apart_hours", _RUNS), groups=("nmba",)),
        "ecmo": _state(*_ECMO, limits=_ECMO_LIMITS),
        "ecmo_at_gas": _state(*_ECMO, limits=("unpaired_gas_mmhg", *_ECMO_LIMITS)),
        "ecmo_fdo2": _number(limits=_ECMO_LIMITS),
        "ino": _state("yes", "no", limits=(_RUNS,), groups=("ino",)),
        "almitrine": _state("yes", "no", limits=(_RUNS,), groups=("almitrine",)),
        "pf": _number(
            limits=("unpaired_gas_mmhg", *_ECMO_LIMITS),
            beside={"ecmo_at_gas": frozenset({"off", "vv"})},  # reading A7
        ),
        "crs": _number(),
        "crp": _number(),
        "ferritin": _number(),
        "anc": _number(),
        "platelets": _number(),
        "factor_v": _number(),
        "hb": _number(),
        "triglycerides": _number(),
        "alt": _number("ULN"),
        "ast": _number("ULN"),
        "crcl": _number(),
        "dialysis": _state(
            "on", "off", limits=("dialysis_session_hours", "dialysis_negative_hours", "support_sign_hours")
        ),
        "allergies": _state("known"),
        "hypersensitivity": _state(*_RECORD, parameters={"substances": "substances"}, required=["substances"]),
        "medications": _state("known", limits=("medication_list_hours", *_LISTS)),
        "exposure": _state(
            *_RECORD,
            parameters={"group": "group", "daily_mg_above": "number", "daily_mg_up_to": "number"},
            required=["group"],
            limits=_LISTS,
        ),
        "chronic_steroid": _state(
            *_RECORD, limits=("chronic_steroid_prednisone_mg", "chronic_order_hours"), groups=("corticosteroid",)
        ),
        "study_drug": _state(
            *_RECORD,
            parameters={"ingredient": "ingredients"},
            required=["ingredient"],
            limits=("study_drug_hours", _RUNS),
        ),
        "pregnancy": _state(
            *_RECORD,
            limits=(
                *("pregnancy_test_hours", "pregnancy_record_hours"),
                *("childbearing_from_years", "childbearing_to_years"),
            ),
        ),
        "condition": _state(
            *_RECORD,
            parameters={
                "concepts": "conditions",
                "also_past": "conditions",
                "also_procedures": "procedures",
                "also_tests": "observations",
                "also_allergies": "substances",
                "missing": "missing",
            },
            required=["concepts"],
            limits=("screening_hours",),
        ),
        "hbv": _state(*_RECORD, parameters={"concepts": "conditions"}, required=["concepts"]),
        "tb": _state(*_RECORD, parameters={"concepts": "conditions"}, required=["concepts"]),
        "infection": _state(*_RECORD, parameters={"also": "conditions"}, limits=("microbiology_hours",)),
        "live_vaccine": _state(*_RECORD, parameters={"missing": "missing"}),
        "ventilatory_support": _state(
            "yes", "no", limits=("support_runs_hours", "support_sign_hours", _RUNS), groups=("nmba", "ino")
        ),
        "invasive_ventilation": _state("yes", "no", limits=(*_ECMO_LIMITS, _RUNS), groups=("nmba",)),
        "respiratory_rate": _number(),
        "sao2": _number(limits=("room_air_fio2", "room_air_pairing_hours")),
        "mech_vent": _number("h", limits=_VENTILATED),
        "pf_history": _state(
            *("yes", "no"),
            parameters={"below": "number", "span_hours": "number", "ventilated_hours": "number"},
            required=["below", "span_hours", "ventilated_hours"],
            limits=_VENTILATED,
        ),
        "noradrenaline": _number("mg/h", limits=("noradrenaline_weight_hours", "noradrenaline_tartrate_share", _RUNS)),
        "renal_failure": _state(
            *_RECORD, limits=("dialysis_session_hours", "dialysis_negative_hours", "support_sign_hours")
        ),
        "liver_failure": _number(),
        "myocarditis": _state(*_RECORD),
        "hlh": _state(*_RECORD),
        "covid_specimen": _state("nasopharyngeal", "lavage", "other"),
    }
)

LIMITS = frozenset(limit for question in QUESTIONS.values() for limit in question.limits) | {
    *("course_days", "standard_treatment_hours"),
}
"""The [limit.NAME] blocks that app/clinical asks for: one that is absent would stop an evaluation, not the start."""

GROUPS = frozenset(group for question in QUESTIONS.values() for group in question.groups) | {"immunosuppressant"}
"""The [group.NAME] blocks that app/clinical asks for by name."""
