"""Cases through the whole path of `rescue-cds evaluate`: what is read once, and what each knowledge says of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from app import evaluate
from app.cases.expectations import Said, UnknownWord, disagreements
from app.cases.files import Case
from app.cases.language import CaseError, Chart, as_read, moment, overlay, suggests_on
from app.clinical.assessment import assess
from app.gather import BundleError
from app.knowledge import Bedside
from app.outlook import Outlook
from fhir_mappings.facts import Facts


@dataclass(frozen=True, slots=True)
class Prepared:
    """A case with its facts, which do not depend on the knowledge."""

    case: Case
    options: evaluate.Options
    patient_id: str
    facts: Facts
    raw: bytes

    def said(self, bedside: Bedside) -> Said:
        """What this knowledge says."""
        found = assess(
            self.facts,
            knowledge=bedside.library.knowledge,
            now=self.options.now,
            suggest_on=self.options.suggest_on,
            silenced=self.options.silenced,
        )
        options = self.options

        @cache
        def ahead() -> Outlook:
            names = bedside.speaking | {self.case.protocol}
            return evaluate.ahead(
                found, raw=self.raw, facts=self.facts, bedside=bedside, options=options, protocols=names
            )

        def publish() -> dict[str, Any]:
            return evaluate.answer(found, patient_id=self.patient_id, bedside=bedside, options=options, outlook=ahead())

        return Said(self.case.protocol, found, publish, ahead)

    def disagreements(self, bedside: Bedside) -> dict[str, tuple[Any, Any]]:
        """Word -> what the case says, what this knowledge says. Raises CaseError for a word that nobody knows."""
        try:
            return disagreements(self.case.expect, self.said(bedside))
        except UnknownWord as error:
            raise CaseError(f"{self.case.protocol}: {self.case.name}: {error}") from None


def prepare(case: Case, *, bedside: Bedside) -> Prepared:
    """The case as FHIR resources, read and mapped. Raises CaseError."""
    try:
        now = moment(case.now, zone=case.zone)
        options = evaluate.Options(
            now=now, zone=case.zone, overlay=overlay(case.lines), suggest_on=suggests_on(case.lines)
        )
        raw = Chart.of(case.lines, now=now).bundle()
        patient_id, facts = evaluate.read(raw, bedside=bedside, options=options)
        return Prepared(case, options, patient_id, as_read(facts, case.lines), raw)
    except (CaseError, BundleError, ValueError) as error:
        raise CaseError(f"{case.protocol}: {case.name}: {error}") from None
