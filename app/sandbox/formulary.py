"""What the order pad of the demo offers: drugs with an ordinary way of writing them, as the page reads it.

The doses are the demo's, not knowledge: a place to start from, chosen so that there is something to check (fluconazole
above 200 mg a day, ruxolitinib in another dose than the protocol's). Only the pair follows the protocol's own schedule
(app/protocols/shared/treatment.toml; a test holds the two together). Codes are those that fhir_mappings/concepts knows;
one drug has none, because orders by text alone exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from app.sandbox.builders import INTRAVENOUS, ORAL, SUBCUTANEOUS, Code, Resource, Unit, concept, quantity

MG: Final[Unit] = ("mg", "mg")
G: Final[Unit] = ("g", "g")
ML: Final[Unit] = ("mL", "mL")
DAY: Final[Unit] = ("d", "d")

_INTRAVENOUS = (INTRAVENOUS, "intravenous")
_SUBCUTANEOUS = (SUBCUTANEOUS, "subcutaneous")
_ORAL = (ORAL, "oral")
_ENTERAL = (ORAL, "by mouth or enteral tube")
_INTRAMUSCULAR: tuple[Code, str] = (("snomed", "78421000", "Intramuscular route"), "intramuscular")
_ROUTES = (_INTRAVENOUS, _SUBCUTANEOUS, _INTRAMUSCULAR, _ORAL, _ENTERAL)


@dataclass(frozen=True, slots=True)
class Step:
    """So much, so many times a day, for so many days."""

    dose: float
    times: int
    days: int


@dataclass(frozen=True, slots=True)
class Line:
    """One order of a choice; steps follow one another. `bounds` is how their days are written, as EHRs differ."""

    name: str
    codes: tuple[Code, ...]
    route: tuple[Code, str]
    steps: tuple[Step, ...]
    unit: Unit = MG
    bounds: Literal["period", "duration"] = "duration"

    def written(self) -> Resource:
        return {
            "medication": concept(*self.codes, text=self.name),
            "route": _route(self.route),
            "bounds": self.bounds,
            "steps": [
                {"quantity": quantity(step.dose, self.unit), "times": step.times, "days": step.days}
                for step in self.steps
            ],
        }


@dataclass(frozen=True, slots=True)
class Choice:
    """An entry of the list: its group, what it is called there, the orders it makes."""

    key: str
    group: str
    label: str
    orders: tuple[Line, ...]


def _drug(name: str, atc: str, rxnorm: str = "") -> tuple[Code, ...]:
    return (("atc", atc, name), *((("rxnorm", rxnorm, name),) if rxnorm else ()))


_ANAKINRA = _drug("anakinra", "L04AC03", "72435")
_RUXOLITINIB = _drug("ruxolitinib", "L01EJ01", "1193326")
_STUDY = "Drugs of the protocol"
_BESIDE = "Drugs that matter beside them"
_OTHER = "Others"

CHOICES: Final[Sequence[Choice]] = (
    Choice(
        "pair",
        _STUDY,
        "anakinra and ruxolitinib, as the protocol has them (two orders)",
        (
            Line(
                "anakinra",
                _ANAKINRA,
                _INTRAVENOUS,
                (Step(300, 1, 11), Step(200, 1, 2), Step(100, 1, 1)),
                bounds="period",
            ),
            Line("ruxolitinib", _RUXOLITINIB, _ENTERAL, (Step(5, 2, 28),), bounds="period"),
        ),
    ),
    Choice(
        "anakinra",
        _STUDY,
        "anakinra 300 mg IV once a day, 14 days",
        (Line("anakinra", _ANAKINRA, _INTRAVENOUS, (Step(300, 1, 14),), bounds="period"),),
    ),
    Choice(
        "ruxolitinib",
        _STUDY,
        "ruxolitinib 10 mg twice a day, 28 days",
        (Line("ruxolitinib", _RUXOLITINIB, _ENTERAL, (Step(10, 2, 28),), bounds="period"),),
    ),
    Choice(
        "kineret",
        _STUDY,
        "Kineret 100 mg SC, named by its text only",
        (Line("Kineret 100 mg solution for injection", (), _SUBCUTANEOUS, (Step(100, 1, 7),)),),
    ),
    Choice(
        "fluconazole",
        _BESIDE,
        "fluconazole 400 mg IV once a day",
        (Line("fluconazole", _drug("fluconazole", "J02AC01", "4450"), _INTRAVENOUS, (Step(400, 1, 14),)),),
    ),
    Choice(
        "clarithromycin",
        _BESIDE,
        "clarithromycin 500 mg IV twice a day",
        (Line("clarithromycin", _drug("clarithromycin", "J01FA09", "21212"), _INTRAVENOUS, (Step(500, 2, 7),)),),
    ),
    Choice(
        "rifampicin",
        _BESIDE,
        "rifampicin 600 mg orally once a day",
        (Line("rifampicin", _drug("rifampicin", "J04AB02", "9384"), _ORAL, (Step(600, 1, 14),)),),
    ),
    Choice(
        "baricitinib",
        _BESIDE,
        "baricitinib 4 mg orally once a day",
        (Line("baricitinib", _drug("baricitinib", "L04AF02"), _ORAL, (Step(4, 1, 14),)),),
    ),
    Choice(
        "tocilizumab",
        _BESIDE,
        "tocilizumab 600 mg IV, one dose",
        (Line("tocilizumab", _drug("tocilizumab", "L04AC07", "612865"), _INTRAVENOUS, (Step(600, 1, 1),)),),
    ),
    Choice(
        "mmr",
        _BESIDE,
        "measles, mumps and rubella vaccine, live, one dose",
        (
            Line(
                "measles, mumps and rubella vaccine, live",
                (
                    ("atc", "J07BD52", "measles, combinations with mumps and rubella, live attenuated"),
                    ("cvx", "03", "MMR"),
                ),
                _SUBCUTANEOUS,
                (Step(0.5, 1, 1),),
                unit=ML,
            ),
        ),
    ),
    Choice(
        "paracetamol",
        _OTHER,
        "paracetamol 1 g IV three times a day",
        (Line("paracetamol", _drug("paracetamol", "N02BE01"), _INTRAVENOUS, (Step(1, 3, 3),), unit=G),),
    ),
)


def pad() -> Resource:
    """What the page needs to write orders: the choices, the routes, and what every order of it says.

    The requester has no reference: any FHIR server can be the demo's, and not each knows this practitioner.
    """
    return {
        "order": {
            "category": [concept(("order-category", "inpatient", "Inpatient"))],
            "requester": {"display": "Dr Robin Demo-Intensivist"},
        },
        "day": quantity(1, DAY),
        "routes": [_route(route) for route in _ROUTES],
        "choices": [
            {
                "key": choice.key,
                "group": choice.group,
                "label": choice.label,
                "orders": [order.written() for order in choice.orders],
            }
            for choice in CHOICES
        ],
    }


def _route(route: tuple[Code, str]) -> Resource:
    code, text = route
    return concept(code, text=text)
