"""The knowledge as the service uses it: rules, words, validated drafts, the gather plan. Loaded once, at start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from app import attributes, drafts, plan
from app.clinical.knowledge import leaves_of
from app.clinical.table import EVERYTHING
from app.drafts import Templates
from app.names import ORDER_SELECT, ORDER_SIGN, PATIENT_VIEW
from app.plan import Need
from app.protocols import loader, orders
from app.protocols.fields import KnowledgeError, known_word
from app.protocols.loader import Library
from app.protocols.words import Words
from cds_hooks import markdown
from cds_hooks.discovery import Service
from fhir_mappings import codebook
from fhir_mappings.codebook import Code, Codebook
from fhir_mappings.errors import BadCodebook
from fhir_mappings.facts import Overlay

TITLE = "Anakinra + ruxolitinib rescue protocol: thresholds and contraindications"
DESCRIPTION = (
    "Says whether the chart meets the inclusion thresholds of an 11-patient uncontrolled pilot study (2020) of "
    "anakinra with ruxolitinib in COVID-19 ARDS, what speaks against the two drugs, and what could not be determined. "
    "Investigational, off-label, unproven. For intensive-care physicians; not a medical device."
)
ORDER_TITLE = "Anakinra, ruxolitinib and what interacts with them: orders"
ORDER_DESCRIPTION = (
    "Says of a drafted order of anakinra or ruxolitinib what speaks against it and how it differs from the schedule of "
    "an 11-patient uncontrolled pilot study (2020), and of another drafted drug whether it interacts with them in a "
    "patient who receives them. Investigational, off-label, unproven. For intensive-care physicians; not a medical "
    "device."
)
SILENCED = "Silenced by the site: {silenced}."
SILENCED_ALL = "Silenced by the site: everything. No card is shown."
USAGE = (
    "The service reads what is not sent as prefetch from fhirServer with the token given. Every answer carries the "
    "extension org.rescue-cds.decision: an empty list of cards is never a failed look."
)


@dataclass(frozen=True, slots=True)
class Bedside:
    """Everything that is read once. `words` neutralise text for markdown, `plain` for JSON. `order_needs` are the keys
    of the needs that order hooks ask for."""

    library: Library
    words: Words
    plain: Words
    templates: Templates
    needs: tuple[Need, ...]
    order_needs: tuple[str, ...]
    services: tuple[Service, ...]
    version: str
    attributes: Mapping[str, Any]

    @property
    def speaking(self) -> frozenset[str]:
        """The protocols that raise cards."""
        return frozenset(p.id for p in self.library.knowledge.protocols if p.speak)

    def plan_for(self, overlay: Overlay) -> Sequence[Need]:
        """The gather plan with a site's own codes in its queries."""
        return self.needs if not overlay.codes else _plan(overlay.codes)

    def order_plan_for(self, overlay: Overlay) -> Sequence[Need]:
        """The part of the plan that order hooks read."""
        return [need for need in self.plan_for(overlay) if need.key in self.order_needs]

    def course_for(self, overlay: Overlay) -> Need:
        """The search for a patient whose course is running, with the site's own codes."""
        return plan.course(_observations(overlay.codes))

    def described(self, silenced: frozenset[str]) -> tuple[Service, ...]:
        """What discovery publishes; what the site has silenced of a service is said first."""
        return tuple(self._described(service, silenced) for service in self.services)

    def _described(self, service: Service, silenced: frozenset[str]) -> Service:
        mine = {name for name in silenced if (name == orders.ID) is (service.id != PATIENT_VIEW)}
        if EVERYTHING in silenced:
            return replace(service, description=f"{SILENCED_ALL} {service.description}")
        said = SILENCED.format(silenced=", ".join(sorted(mine)))
        return replace(service, description=f"{said} {service.description}") if mine else service

    def scope_first_for(self, overlay: Overlay) -> tuple[Need, Need, Need]:
        """The searches that come first where the site asks for scope first, with its own codes and products."""
        products = [mark for mark, names in overlay.products.items() if not set(plan.STUDY_DRUGS).isdisjoint(names)]
        return plan.scope_first(_observations(overlay.codes), codebook.load("ingredients"), products=products)


def load() -> Bedside:
    """The shipped knowledge. Raises KnowledgeError when a file does not fit together, or the treatment is no valid
    order."""
    return of(loader.load())


def of(library: Library) -> Bedside:
    """What the service uses of a library. Raises KnowledgeError."""
    words = Words(library.words, knowledge=library.knowledge, clean=markdown.text)
    needs = tuple(_plan({}))
    _check_needs(library, needs)
    asked = _order_needs(library, needs)
    return Bedside(
        library=library,
        words=words,
        plain=words.cleaned_by(lambda value: markdown.plain(value, limit=200)),
        templates=_templates(library),
        needs=needs,
        order_needs=asked,
        services=(
            _service(PATIENT_VIEW, "patient-view", TITLE, DESCRIPTION, needs),
            *(
                _service(id_, hook, ORDER_TITLE, ORDER_DESCRIPTION, [need for need in needs if need.key in asked])
                for id_, hook in ((ORDER_SELECT, "order-select"), (ORDER_SIGN, "order-sign"))
            ),
        ),
        version=_version(),
        attributes=attributes.load(library, version=_version()),
    )


def _service(id_: str, hook: str, title: str, description: str, needs: Sequence[Need]) -> Service:
    return Service(
        id=id_,
        hook=hook,
        title=title,
        description=description,
        prefetch={need.key: plan.template(need) for need in needs},
        usage_requirements=USAGE,
    )


def _order_needs(library: Library, needs: Sequence[Need]) -> tuple[str, ...]:
    """What the safety findings ask for, and what tells whether a course of which drugs is running."""
    knowledge = library.knowledge
    leaves = (leaf for rule in knowledge.safety for leaf in leaves_of(rule.tree))
    asked = {need for leaf in leaves for need in knowledge.inputs[leaf.input].needs}
    asked |= {need for name in knowledge.required if name in knowledge.inputs for need in knowledge.inputs[name].needs}
    asked |= {plan.PATIENT, *plan.COURSE_NEEDS}
    return tuple(need.key for need in needs if need.key in asked)


def _check_needs(library: Library, needs: Sequence[Need]) -> None:
    """An input's needs are in the plan: one that is never asked for would never have failed."""
    keys = [need.key for need in needs]
    for name, spec in library.knowledge.inputs.items():
        for need in spec.needs:
            where = f"app/protocols/shared/inputs.toml: [input.{name}]"
            known_word(where, f"needs: {need!r} is no need of app/plan.py", need, keys)


def _templates(library: Library) -> Templates:
    try:
        return drafts.templates(library.treatment)
    except (BadCodebook, LookupError, TypeError, ValueError, ArithmeticError) as error:
        what = str(error) if isinstance(error, BadCodebook) else type(error).__name__
        raise KnowledgeError(
            f"app/protocols/shared/treatment.toml: [[drug]]: no valid order can be made of it ({what}): "
            "compare the keys and values with the shipped file"
        ) from None


def _plan(extra: Mapping[str, tuple[str, str]]) -> Sequence[Need]:
    return plan.plan(_observations(extra), codebook.load("ingredients"))


def _observations(extra: Mapping[str, tuple[str, str]]) -> Codebook:
    site = []
    for mark, (concept, kind) in extra.items():
        system, _, code = mark.rpartition("|")
        site.append(Code(concept, system, code, kind=kind, source="site overlay"))
    return codebook.load("observations").with_codes(site)


def _version() -> str:
    try:
        return version("rescue-cds")
    except PackageNotFoundError:
        return "unknown"
