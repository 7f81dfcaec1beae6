"""What is asked of a patient's record: one list, from which prefetch templates and FHIR searches are both made.

A template has no dates, because clients differ in what they make of date tokens, and names each parameter once,
because some merge repeated ones with a comma, which turns "and" into "or" (knowledge: cds-hooks 1e, 3.1). A search of
our own adds the look-back. Both ask newest first wherever a cut-off answer can still tell the newest value.

Look-backs are no clinical windows: they are at least as long as the longest window of any rule that reads the source,
so that an answer complete for its look-back is complete for every rule (reading 1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import quote

from fhir_mappings.codebook import Code, Codebook
from fhir_mappings.coding import addresses
from fhir_mappings.errors import BadCodebook

Parameters = tuple[tuple[str, str], ...]

PATIENT: Final = "patient"
"""Key of the one need that is a read by id, not a search."""

LABS: Final = (
    *("crp", "ferritin", "anc", "neutrophils_pct", "bands_pct", "wbc", "platelets", "alt", "ast"),
    *("creatinine", "crcl", "egfr", "factor_v", "hb", "triglycerides"),
)
VIROLOGY: Final = ("sarscov2_pcr", "sarscov2_antigen")
RESPIRATORY: Final = ("pao2", "fio2", "pf", "crs", "pplat", "peep", "vt", "position", "ino", "gas_panel")
"""`gas_panel`: a search by code does not look into components, where some servers keep the values of a gas."""

VITALS: Final = ("respiratory_rate", "sao2", "spo2")
"""Charted every minute: asked for on their own and a few hours back, so that they do not crowd out the gases."""

ECMO: Final = ("ecmo_fdo2", "ecmo_flow", "ecmo_sweep")
MICROBIOLOGY: Final = ("blood_culture", "fungal_test")
SCREENING: Final = (
    *("pregnancy_test", "pregnancy_status", "breastfeeding", "hbsag", "tb_test", "weight", "dialysis_sign"),
)
COURSE: Final = (
    *("crp", "ferritin", "lymphocytes", "lymphocytes_pct", "anc", "neutrophils_pct", "bands_pct", "wbc"),
    *("crs", "pplat", "peep", "vt", "sofa"),
)
"""What a course is followed by, beside what the other needs ask for (clinical 1.1.6)."""

INFLAMMATION: Final = ("crp", "ferritin")
"""What scope is decided by, beside virology and Conditions (reading 5)."""

STUDY_DRUGS: Final = ("anakinra", "ruxolitinib")
LONG_ACTING: Final = (
    *("anakinra", "ruxolitinib", "rituximab"),
    *("adalimumab", "certolizumab pegol", "etanercept", "golimumab", "infliximab"),
    *("canakinumab", "rilonacept", "other IL-1 blocker"),
    *("tocilizumab", "sarilumab", "siltuximab", "other IL-6 blocker"),
)
"""Drugs whose effect, or whose course, outlasts the look-back of all administrations: asked for by code."""

COURSE_NEEDS: Final = (
    *("virology", "conditions", "orders", "orders-recent", "administrations", "long-acting", "statements"),
)
"""What tells whether a course is running, for which illness, and which drugs a patient receives."""

_RESERVED = str.maketrans({mark: "\\" + mark for mark in "\\,|$"})
_COMMA = re.compile(r"(?<!\\),")
_BAR = re.compile(r"(?<!\\)\|")
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Need:
    """One question to the record. `key` names the prefetch entry and the `facts.Source`.

    `params` are the parameters beside patient, date, order and page size. `date_param` is what `lookback` applies to;
    `sort` is '' where order tells nothing (only a whole list of problems or allergies means anything). `stage` 1
    is what a site that asks for scope first has read before the rest (app/scope.py). `concepts` are the names whose
    codes are asked for. `pages`: no more than so many are read.
    """

    key: str
    resource_type: str
    params: Parameters = ()
    lookback: timedelta | None = None
    date_param: str = ""
    sort: str = ""
    count: int = 0
    stage: int = 2
    concepts: tuple[str, ...] = ()
    pages: int | None = None


def plan(observations: Codebook, ingredients: Codebook) -> tuple[Need, ...]:
    """The whole plan with the codes of these books (the shipped ones, or with a site's codes added).

    Raises BadCodebook when nothing of a need has a code: it would be asked for in vain and never be missed.
    """
    return (
        Need(PATIENT, "Patient", stage=1),
        _observations("labs", LABS, observations, lookback=timedelta(hours=72), count=250),
        _observations("virology", VIROLOGY, observations, lookback=None, count=100, stage=1),
        _observations("respiratory", RESPIRATORY, observations, lookback=timedelta(hours=72), count=500),
        _observations("vitals", VITALS, observations, lookback=timedelta(hours=6), count=250),
        _observations("ecmo", ECMO, observations, lookback=timedelta(days=60), count=100),
        _observations("microbiology", MICROBIOLOGY, observations, lookback=timedelta(days=7), count=100),
        _observations("screening", SCREENING, observations, lookback=timedelta(days=365), count=100),
        Need("orders", "MedicationRequest", params=(("status", "active,on-hold"),), count=250, stage=1),
        Need(
            *("orders-recent", "MedicationRequest"),
            lookback=timedelta(days=180),
            date_param="authoredon",
            sort="-authoredon",
            count=250,
        ),
        Need(
            *("administrations", "MedicationAdministration"),
            lookback=timedelta(days=28),
            date_param="effective-time",
            sort="-effective-time",
            count=500,
        ),
        Need(
            *("long-acting", "MedicationAdministration"),
            params=(("code", _drug_codes("long-acting", LONG_ACTING, ingredients)),),
            lookback=timedelta(days=180),
            date_param="effective-time",
            sort="-effective-time",
            count=100,
            concepts=LONG_ACTING,
        ),
        Need("statements", "MedicationStatement", count=250, stage=1),
        Need("conditions", "Condition", count=250, stage=1),
        Need("allergies", "AllergyIntolerance", count=100),
        Need("immunizations", "Immunization", date_param="date", sort="-date", count=100),
        Need("procedures", "Procedure", date_param="date", sort="-date", count=250),
    )


def scope_first(
    observations: Codebook, ingredients: Codebook, *, products: Iterable[str] = ()
) -> tuple[Need, Need, Need]:
    """The three searches that only `app/scope.py` makes, beside needs of the whole plan: CRP and ferritin alone, the
    study drugs alone, and a page of the newest administrations, which shows whether this server names medications
    where a search by code sees them.

    The drugs are asked for by code without system, so that every way of writing a system's address is found; what else
    has such a code only makes the answer broader. `products` are a site's own codes of them. Raises BadCodebook when
    nothing has a code.
    """
    codes = [code.code for code in ingredients.of(STUDY_DRUGS)]
    codes += [mark.rpartition("|")[2] for mark in (*_products(STUDY_DRUGS, ingredients), *products)]
    given = Need(
        *("study-drugs", "MedicationAdministration"),
        params=(("code", ",".join(dict.fromkeys(code.translate(_RESERVED) for code in codes))),),
        lookback=timedelta(days=36),
        date_param="effective-time",
        sort="-effective-time",
        count=100,
        concepts=STUDY_DRUGS,
    )
    newest = replace(given, key="newest-administrations", params=(), count=50, pages=1, concepts=())
    return (
        _observations("inflammation", INFLAMMATION, observations, lookback=timedelta(hours=72), count=100),
        given,
        newest,
    )


def course(observations: Codebook) -> Need:
    """The search that is made only for a patient whose course is running: the values of Table 2 since before it began.

    It has no prefetch template: a client cannot know for whom. Raises BadCodebook when nothing has a code.
    """
    return _observations("course", COURSE, observations, lookback=timedelta(days=36), count=500)


def _products(drugs: tuple[str, ...], ingredients: Codebook) -> list[str]:
    """The shipped product codes of these drugs, as `system|code`."""
    table = ingredients.tables.get("products", {})
    return [mark for mark, row in table.items() if not set(drugs).isdisjoint(row["ingredients"])]


def template(need: Need) -> str:
    """The CDS Hooks prefetch template of a need."""
    if need.key == PATIENT:
        return "Patient/{{context.patientId}}"
    pairs = [(name, quote(value, safe=":/|,")) for name, value in [*need.params, *_result(need)]]
    return f"{need.resource_type}?patient={{{{context.patientId}}}}&" + "&".join(f"{n}={v}" for n, v in pairs)


def search(need: Need, *, patient_id: str, now: datetime) -> list[tuple[str, str]]:
    """The parameters of our own search; empty for the patient, who is read by id. `patient_id` is a bare FHIR id."""
    if need.key == PATIENT:
        return []
    pairs = [("patient", patient_id), *need.params]
    if need.lookback is not None:
        # Whole seconds, rounded down: asking for a little more is harmless, for a little less is not.
        since = (now - need.lookback).astimezone(UTC).replace(microsecond=0, tzinfo=None)
        pairs.append((need.date_param, f"ge{since.isoformat()}Z"))
    return [*pairs, *_result(need)]


def without_codes(need: Need) -> Need:
    """The same need over all codes.

    A search by `code` sees only a medication written inline: where a server refers to Medication resources, the
    drugs that were asked for by code have to be found among all.
    """
    return replace(need, params=tuple(pair for pair in need.params if pair[0] != "code"), count=500)


def _result(need: Need) -> list[tuple[str, str]]:
    return [*([("_sort", need.sort)] if need.sort else []), ("_count", str(need.count))]


def _observations(
    key: str, concepts: tuple[str, ...], book: Codebook, *, lookback: timedelta | None, count: int, stage: int = 2
) -> Need:
    return Need(
        *(key, "Observation"),
        params=(("code", _codes(key, concepts, book)),),
        lookback=lookback,
        date_param="date",
        sort="-date",
        count=count,
        stage=stage,
        concepts=concepts,
    )


def _codes(key: str, concepts: Iterable[str], book: Codebook) -> str:
    found = dict.fromkeys(_token(code) for code in book.of(concepts))
    if not found:
        raise BadCodebook(f"concepts/{book.name}.toml: no code for anything that the source `{key}` asks for")
    return ",".join(found)


def _drug_codes(key: str, drugs: tuple[str, ...], book: Codebook) -> str:
    """The same for drugs: a product is named by a code of its own."""
    products = [mark.rpartition("|") for mark in _products(drugs, book)]
    return ",".join([_codes(key, drugs, book), *(_token(Code("", system, code)) for system, _, code in products)])


def _token(code: Code) -> str:
    """`address|code`; what has a meaning in a FHIR token value is escaped (a site's own codes may hold anything)."""
    return f"{addresses(code.system)[0].translate(_RESERVED)}|{code.code.translate(_RESERVED)}"
