"""What a patient's FHIR data say, in plain words: the only vocabulary that clinical logic may use.

Every fact keeps where it came from (`reference`) and what was really written (`original`), so that each number on a
card can be traced. Nothing here judges: whether a value is fresh enough, or decides anything, is `app.clinical`'s.
Facts hold only strings, Decimals, datetimes, booleans and tuples of these, so that a decision can be stored and
repeated years later without loss.

Times are aware datetimes. A FHIR date without time or day is an interval (`When`): the reader chooses the earliest
instant when a value has to be fresh, the latest when it would exclude or warn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Literal

Comparator = Literal["", "<", "<=", ">", ">="]


@dataclass(frozen=True, slots=True)
class When:
    """An instant, or the interval that a partial date allows; both ends inclusive, both with a zone."""

    earliest: datetime
    latest: datetime

    @property
    def exact(self) -> bool:
        """True when the record named an instant, not a day, month or year."""
        return self.earliest == self.latest


@dataclass(frozen=True, slots=True)
class Measurement:
    """One usable observed value, in the canonical unit of its concept.

    `kind` says how the value was obtained where that matters; the vocabulary per concept stands in
    `concepts/observations.toml` (for example `static`, `lower-bound`, `upper-bound` and `derived` for `crs`,
    `ventilator`, `inhaled` for `fio2`, `charted` for `pf`). `coded` is the answer of a qualitative result:
    `positive`, `negative`, `inconclusive`, `prone`, `supine` and so on; then `value` is None.
    """

    concept: str
    reference: str
    when: When
    value: Decimal | None = None
    comparator: Comparator = ""
    unit: str = ""
    original: str = ""
    coded: str = ""
    label: str = ""
    kind: str = ""
    specimen: str = ""
    period_start: datetime | None = None
    status: str = "final"
    uln: Decimal | None = None
    uln_origin: str = ""
    panel: str = ""
    code: str = ""
    parts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GasPair:
    """One arterial gas with the inspired fraction it was drawn at.

    `fio2` is None when none fits, `why` then says so (`no-fio2`, `conflict`). `also` holds the second FiO2 of a
    conflict. `refused` names a refused FiO2 that was closer to the gas than the one used (reading 3.3).
    The ratio itself is `gas.value / fio2.value`, never rounded before it is compared (reading A3, clinical 1.3).
    """

    gas: Measurement
    fio2: Measurement | None = None
    why: str = ""
    also: Measurement | None = None
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast an infusion runs, as one administration charts it.

    `value` is in `unit`: mg/h, or mg/kg/h where the record gives it per body weight. None when it could not be read;
    then `why` says so with a code of `fhir_mappings/rates.py`. `original` is what was written: number and unit.
    """

    value: Decimal | None
    unit: str = ""
    original: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class MedicationUse:
    """One order, administration, statement or draft, with the ingredients that its codes establish.

    `state`: `draft` (an order being written), `ordered` (an active or on-hold order), `given` (an administration that
    happened or is running), `not-done` (a dated negative), `taken` (an active statement), `past` (a completed, stopped
    or ended order or statement: it was ordered or taken, and no longer is).
    `ingredients` are known by code; `possibly` only by text or an unverified code: text is a screen, it never
    establishes a criterion nor a presence (reading 3.11). `identity` is `code`, `text` or `none`.
    `systemic` is False for topical, ophthalmic, vaginal, inhaled forms; None when no route is given.
    `daily_mg` is the total dose of a day in mg, `dose_mg` that of one administration; None when it cannot be read.
    `start`/`end` are the exposure's; `end` None with `running` means it goes on.
    `rate` is read of administrations of the drugs that a rule asks a rate of; None when none was written.
    """

    reference: str
    kind: Literal["request", "administration", "statement"]
    state: Literal["draft", "ordered", "given", "not-done", "taken", "past"]
    ingredients: tuple[str, ...] = ()
    possibly: tuple[str, ...] = ()
    identity: Literal["code", "text", "none"] = "none"
    label: str = ""
    start: When | None = None
    end: When | None = None
    running: bool = False
    systemic: bool | None = None
    route: str = ""
    daily_mg: Decimal | None = None
    dose_mg: Decimal | None = None
    infusion: bool = False
    inpatient: bool | None = None
    reasons: tuple[str, ...] = ()
    rate: Rate | None = None


@dataclass(frozen=True, slots=True)
class DraftOrder:
    """An order that is being written or signed: one entry of `draftOrders`.

    `place` is its place among them. `use` is what it orders, in the state `draft`; `unreadable` when it is no order
    that can be read. `named`: whether anything says which drug it is (before one is picked, nothing does).
    `vaccine`: whether its code is that of a live vaccine; None where the code is none of a vaccine known here.
    `least_mg` is the smallest dose of a day that it plans (`use.daily_mg` the largest).
    `first_day` and `last_day` are days of the facility; `end` says whether an end is written, there is none, or it
    could not be read. `replaces`: references of the orders whose place it takes. `removable`: it has an id, so that a
    suggestion can name it. `picked`: it is one of those that the call is about; the others are unsigned, too.
    `possibly_live`: its words name a live vaccine, and no code says what it is. `digest` tells it from any other draft.
    """

    place: int
    use: MedicationUse
    unreadable: bool = False
    named: bool = False
    vaccine: bool | None = None
    first_day: date | None = None
    last_day: date | None = None
    least_mg: Decimal | None = None
    end: Literal["written", "open", "unreadable"] = "open"
    replaces: tuple[str, ...] = ()
    removable: bool = False
    picked: bool = True
    possibly_live: bool = False
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Condition:
    """A problem or diagnosis. `concepts` are the groups of `concepts/conditions.toml` that its codes belong to.

    `clinical` and `verification` are the FHIR codes or ''. `active` and `refuted` are the two questions rules ask.
    """

    reference: str
    concepts: tuple[str, ...]
    clinical: str = ""
    verification: str = ""
    onset: When | None = None
    abatement: When | None = None
    recorded: When | None = None
    label: str = ""

    @property
    def refuted(self) -> bool:
        """Refuted or entered in error: the record says the patient does not have it."""
        return self.verification in {"refuted", "entered-in-error"}

    @property
    def active(self) -> bool:
        """Not refuted, and active, recurring, relapsing or without a clinical status and without an end."""
        if self.refuted:
            return False
        if self.clinical:
            return self.clinical in {"active", "recurrence", "relapse"}
        return self.abatement is None


@dataclass(frozen=True, slots=True)
class Procedure:
    """A procedure that may run for days: ECMO, ventilation, prone position, dialysis, transplant.

    `status` is the FHIR code (`in-progress`, `completed`, `stopped`, `not-done`, ...).
    """

    reference: str
    concepts: tuple[str, ...]
    status: str
    start: When | None = None
    end: When | None = None
    label: str = ""


@dataclass(frozen=True, slots=True)
class Allergy:
    """An allergy or intolerance. `substances` are names of `concepts/allergies.toml`, also `no-known-allergy`.

    Text may establish one (`by_text`): a false alarm is the safe side (reading 3.12).
    """

    reference: str
    substances: tuple[str, ...]
    clinical: str = ""
    verification: str = ""
    by_text: bool = False
    label: str = ""

    @property
    def counts(self) -> bool:
        """Active (or without status) and neither refuted nor entered in error."""
        return self.verification not in {"refuted", "entered-in-error"} and self.clinical in {"", "active"}


@dataclass(frozen=True, slots=True)
class Immunization:
    """A vaccine that was given. `live` is True, False, or None when the code is not known to be either."""

    reference: str
    live: bool | None
    when: When | None
    label: str = ""


@dataclass(frozen=True, slots=True)
class Patient:
    """Age and sex, and whether the patient has died. Names are never read (cards do not hold them)."""

    reference: str
    born_earliest: date | None = None
    born_latest: date | None = None
    sex: Literal["female", "male", ""] = ""
    deceased: bool = False


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that was there and could not be used, or could not be looked at. Never dropped in silence.

    `why` is a code of `app/protocols/shared/texts.toml`, `params` its words. `displaces` is True for a refused *result*
    (preliminary, unreadable unit or number, implausible) which, when newer than the one in use, takes away certainty
    (reading 3.3); another specimen, a future date or a retracted result does not.
    """

    source: str
    why: str
    concept: str = ""
    reference: str = ""
    when: When | None = None
    displaces: bool = False
    params: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """How the reading of one need of the gather plan ended.

    `reaches` is the instant back to which the answer is complete: None for everything. A `partial` answer that came
    newest first is complete back to its oldest entry; one that did not has `reaches` = the moment of asking.
    `outcome`: `ok`, `empty`, `partial`, `failed`; `why` is a code of the texts file. `unsent` names the search
    parameters that the server does not take, so that more was read than was asked for.
    """

    key: str
    resource_type: str
    outcome: Literal["ok", "empty", "partial", "failed"]
    why: str = ""
    reaches: datetime | None = None
    params: tuple[tuple[str, str], ...] = ()
    unsent: tuple[str, ...] = ()

    def covers(self, since: datetime | None) -> bool:
        """True when nothing that happened since then can be missing. `since` None asks for all time."""
        if self.outcome == "failed":
            return False
        if self.reaches is None:
            return self.outcome != "partial"
        return since is not None and self.reaches <= since


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything the assessment may look at. `asked_at` is the `now` of the request; `zone` the facility's."""

    asked_at: datetime
    zone: str
    patient: Patient | None = None
    measurements: tuple[Measurement, ...] = ()
    pairs: tuple[GasPair, ...] = ()
    medications: tuple[MedicationUse, ...] = ()
    conditions: tuple[Condition, ...] = ()
    allergies: tuple[Allergy, ...] = ()
    immunizations: tuple[Immunization, ...] = ()
    procedures: tuple[Procedure, ...] = ()
    gaps: tuple[Gap, ...] = ()
    sources: tuple[Source, ...] = ()
    identity_mismatch: bool = False
    overlay: Overlay = field(default_factory=lambda: Overlay())
    drafts: tuple[DraftOrder, ...] = ()
    """Orders that are being written; only the order hooks have any. They are no part of `medications`."""

    def of(self, concept: str) -> tuple[Measurement, ...]:
        """All measurements of a concept, newest first (by the earliest instant their date allows)."""
        found = [m for m in self.measurements if m.concept == concept]
        return tuple(sorted(found, key=lambda m: (m.when.earliest, m.reference), reverse=True))

    def source(self, key: str) -> Source:
        """The source of that key; one that was never asked counts as failed."""
        for source in self.sources:
            if source.key == key:
                return source
        return Source(key, "", "failed", "not-asked")

    def refused(self, concepts: Iterable[str]) -> tuple[Gap, ...]:
        """Refused results of the named concepts that can displace an older one."""
        wanted = frozenset(concepts)
        return tuple(gap for gap in self.gaps if gap.displaces and gap.concept in wanted)


@dataclass(frozen=True, slots=True)
class Overlay:
    """What a site's clinician has signed about its own data (reading 3.1). Empty by default: nothing is guessed.

    codes: additional `system|code` -> concept, with an optional kind.
    unit_when_absent: `system|code` -> unit. percent_means_fraction: codes whose `0.3 %` means 30 %.
    static / arterial: codes whose compliance is static / whose gas is from the patient's arterial line, also on ECMO.
    generic_ecmo_is_veno_venous: a generic ECMO code means veno-venous here.
    local_uln: concept -> upper limit of normal in the canonical unit.
    not_measured: concepts this site never measures. absent_source: resource types this site's server does not have.
    products: `system|code` -> ingredient names; irrelevant_products: codes that are none of the listed drugs.
    conditions: `system|code` -> condition concepts (for example a local comfort-care flag).
    noradrenaline_salt: whether charted amounts of noradrenaline are of the base or of the tartrate (reading B9).
    pulse_oximetry: a saturation by pulse oximetry is taken for an arterial one (reading B4).
    """

    codes: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    unit_when_absent: Mapping[str, str] = field(default_factory=dict)
    percent_means_fraction: frozenset[str] = frozenset()
    static: frozenset[str] = frozenset()
    arterial: frozenset[str] = frozenset()
    generic_ecmo_is_veno_venous: bool = False
    local_uln: Mapping[str, Decimal] = field(default_factory=dict)
    not_measured: frozenset[str] = frozenset()
    absent_source: frozenset[str] = frozenset()
    products: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    irrelevant_products: frozenset[str] = frozenset()
    conditions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    noradrenaline_salt: Literal["base", "tartrate"] = "base"
    pulse_oximetry: bool = False
