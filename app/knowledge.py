"""The knowledge as the service uses it: rules, words, validated drafts, the gather plan. Loaded once, at start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from app import drafts, plan
from app.drafts import Templates
from app.plan import Need
from app.protocols import loader
from app.protocols.loader import KnowledgeError, Library
from app.protocols.words import Words
from cds_hooks import markdown
from cds_hooks.discovery import Service
from fhir_mappings import codebook
from fhir_mappings.codebook import Code, Codebook
from fhir_mappings.errors import BadCodebook
from fhir_mappings.facts import Overlay

HOOK = "patient-view"
PATIENT_VIEW = "anakinra-ruxolitinib-patient-view"
TITLE = "Anakinra + ruxolitinib rescue protocol: thresholds and contraindications"
DESCRIPTION = (
    "Says whether the chart meets the inclusion thresholds of an 11-patient uncontrolled pilot study (2020) of "
    "anakinra with ruxolitinib in COVID-19 ARDS, what speaks against the two drugs, and what could not be determined. "
    "Investigational, off-label, unproven. For intensive-care physicians; not a medical device."
)
USAGE = (
    "The service reads what is not sent as prefetch from fhirServer with the token given. Every answer carries the "
    "extension org.rescue-cds.decision: an empty list of cards is never a failed look."
)


@dataclass(frozen=True, slots=True)
class Bedside:
    """Everything that is read once. `words` neutralise text for markdown, `plain` for JSON."""

    library: Library
    words: Words
    plain: Words
    templates: Templates
    needs: tuple[Need, ...]
    services: tuple[Service, ...]
    version: str

    def plan_for(self, overlay: Overlay) -> Sequence[Need]:
        """The gather plan with a site's own codes in its queries."""
        return self.needs if not overlay.codes else _plan(overlay.codes)

    def scope_first_for(self, overlay: Overlay) -> tuple[Need, Need, Need]:
        """The searches that come first where the site asks for scope first, with its own codes and products."""
        products = [mark for mark, names in overlay.products.items() if not set(plan.STUDY_DRUGS).isdisjoint(names)]
        return plan.scope_first(_observations(overlay.codes), codebook.load("ingredients"), products=products)


def load() -> Bedside:
    """Raises KnowledgeError when a file does not fit together, or the treatment is no valid order."""
    library = loader.load()
    words = Words(library.words, knowledge=library.knowledge, clean=markdown.text)
    needs = tuple(_plan({}))
    return Bedside(
        library=library,
        words=words,
        plain=words.cleaned_by(lambda value: markdown.plain(value, limit=200)),
        templates=_templates(library),
        needs=needs,
        services=(
            Service(
                id=PATIENT_VIEW,
                hook=HOOK,
                title=TITLE,
                description=DESCRIPTION,
                prefetch={need.key: plan.template(need) for need in needs},
                usage_requirements=USAGE,
            ),
        ),
        version=_version(),
    )


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
