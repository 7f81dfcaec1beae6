"""What is or is not on record: infection tests, conditions, allergies, pregnancy, vaccines."""

from __future__ import annotations

from datetime import datetime

from app.clinical.chart import Chart, hours_text
from app.clinical.knowledge import Leaf
from app.clinical.reading import Evidence, Note, Reading, Reason
from fhir_mappings.facts import Allergy, Condition, Gap, Measurement


def sarscov2_pcr(chart: Chart, leaf: Leaf) -> Reading:
    """RT-PCR or NAAT within 60 d; a positive wins over later negatives (reading 1, A9)."""
    spec = chart.input(leaf.input)
    since = chart.since(leaf.input)
    missing = (spec.missing,)
    lost = chart.uncovered(spec.needs, since)
    if lost is not None:
        return Reading(lost.reason, missing=missing, failed=lost.failed)
    tests = chart.values("sarscov2_pcr", since=since)
    positive = next((m for m in tests if m.coded == "positive"), None)
    newer = chart.refused(("sarscov2_pcr",), since=since)
    if positive is not None:
        return _positive(chart, positive, tests, newer)
    if newer:
        reason = Reason.refused("refused", newer[0])
        return Reading(reason, missing=missing, unreadable=True)
    if tests and tests[0].coded == "negative":
        return _negative(chart, tests[0], since, missing=missing)
    if tests:
        return Reading(Reason.of("pcr-inconclusive"), missing=missing, evidence=(Evidence.measured(tests[0]),))
    older = chart.values("sarscov2_pcr")
    if older and spec.window is not None:
        since_then = hours_text(chart.age(older[0].when.earliest))
        reason = Reason.of("stale", value=older[0].coded, age=since_then, limit=hours_text(spec.window))
        return Reading(reason, missing=missing)
    antigen = chart.values("sarscov2_antigen", since=since)
    if antigen:
        return Reading(Reason.of("antigen-only", result=antigen[0].coded), missing=missing)
    return Reading(Reason.of("never-measured"), missing=missing)


def _positive(chart: Chart, positive: Measurement, tests: list[Measurement], refused: list[Gap]) -> Reading:
    age = chart.age(positive.when.earliest)
    notes = []
    if age > chart.hours("sarscov2_same_illness_hours"):
        notes.append(Note(Reason.of("pcr-positive-old", age=hours_text(age)), withholds=True))
    later = [m for m in tests if m.coded == "negative" and m.when.earliest > positive.when.earliest]
    if len(later) >= int(chart.limit("sarscov2_later_negatives")):
        notes.append(Note(Reason.of("pcr-negatives-since", count=len(later)), withholds=True))
    if any(chart.gap_time(g) >= positive.when.earliest for g in refused):
        title = chart.input("sarscov2_pcr").title
        notes.append(Note(Reason.refused("newer-refused", refused[0], input=title), withholds=True))
    return Reading(
        Reason.of("pcr-positive", age=hours_text(age)),
        state="positive",
        evidence=(Evidence.measured(positive),),
        notes=tuple(notes),
        shown="positive",
    )


def _negative(chart: Chart, newest: Measurement, since: datetime | None, *, missing: tuple[str, ...]) -> Reading:
    """No positive test, the newest negative: decides for 7 d unless something on record contradicts it, which cannot
    be ruled out while the problem list was not read (readings 1, 3.13)."""
    against = _contradiction(chart, since)
    age = chart.age(newest.when.earliest)
    evidence = (Evidence.measured(newest),)
    if against is None and age <= chart.hours("sarscov2_negative_hours"):
        lost = chart.uncovered(("conditions",), None)
        if lost is not None:
            return Reading(lost.reason, missing=missing, failed=lost.failed, evidence=evidence)
        reason = Reason.of("pcr-negative", age=hours_text(age))
        return Reading(reason, state="negative", evidence=evidence, shown="negative")
    reason = against or Reason.of("pcr-negative-old", age=hours_text(age))
    return Reading(reason, missing=missing, evidence=evidence)


def _contradiction(chart: Chart, since: datetime | None) -> Reason | None:
    if any(m.coded == "positive" for m in chart.values("sarscov2_antigen", since=since)):
        return Reason.of("negative-but-antigen")
    if any(c.active and "covid19" in c.concepts for c in chart.facts.conditions):
        return Reason.of("negative-but-condition")
    return None


def condition(chart: Chart, leaf: Leaf) -> Reading:
    """An active, not refuted Condition of the named concepts. `also_past` names those that count when they are over;
    `also_procedures`, `also_tests` and `also_allergies` add other records.

    Nothing on record, completely read: absent (reading 3.13). `missing` names the input when a source failed.
    """
    wanted, over = _words(leaf, "concepts"), _words(leaf, "also_past")
    missing = (str(leaf.params.get("missing", "conditions")),)
    for found in chart.facts.conditions:
        now = found.active and not wanted.isdisjoint(found.concepts)
        if now or (not found.refuted and not over.isdisjoint(found.concepts)):
            return _present(found)
    procedures = _words(leaf, "also_procedures")
    for procedure in chart.facts.procedures:
        if procedure.status != "not-done" and not procedures.isdisjoint(procedure.concepts):
            evidence = (Evidence(procedure.concepts[0], procedure.reference, label=procedure.label),)
            reason = Reason.of("on-record", label=procedure.label or procedure.concepts[0])
            return Reading(reason, state="present", evidence=evidence, shown="on record")
    for allergy in chart.facts.allergies:
        if allergy.counts and not _words(leaf, "also_allergies").isdisjoint(allergy.substances):
            return _hypersensitive(allergy)
    tests = _words(leaf, "also_tests")
    screened = chart.now - chart.hours("screening_hours")
    for name in sorted(tests):
        positive = [m for m in chart.values(name, since=screened) if m.coded == "positive"]
        if positive:
            reason = Reason.of("on-record", label=name)
            return Reading(reason, state="present", evidence=(Evidence.measured(positive[0]),), shown="on record")
    asked: list[tuple[str, datetime | None]] = [("conditions", None)]
    if procedures:
        asked.append(("procedures", None))
    if tests:
        asked.append(("screening", screened))
    if _words(leaf, "also_allergies"):
        asked.append(("allergies", None))
    lost = chart.lost(*asked)
    if lost is not None:
        return Reading(lost.reason, missing=missing, failed=lost.failed)
    unread_procedure = next((g for g in chart.facts.gaps if g.source == "procedures" and g.concept in procedures), None)
    if unread_procedure is not None:
        reason = Reason.refused("refused", unread_procedure)
        return Reading(reason, missing=missing, unreadable=True)
    unread = _unread_condition(chart, wanted)
    if unread is not None:
        return Reading(unread, missing=missing, unreadable=True)
    return Reading(Reason.of("none-on-record"), state="absent", shown="none on record")


def screening(chart: Chart, leaf: Leaf) -> Reading:
    """A chronic infection that was looked for by a test, or stands on the problem list (readings 1, 4).

    A positive test inside the window counts against a later negative one; an older one is an open question. Nothing
    on record is unknown, since nobody has looked: it is said on the card and withholds nothing.
    """
    spec = chart.input(leaf.input)
    since = chart.since(leaf.input)
    missing = (spec.missing,)
    wanted = _words(leaf, "concepts")
    tests = chart.values(spec.concept, since=since)
    positive = next((m for m in tests if m.coded == "positive"), None)
    if positive is not None:
        return _screened(chart, leaf, positive, "screening-positive", state="present")
    found = next((c for c in chart.facts.conditions if c.active and not wanted.isdisjoint(c.concepts)), None)
    if found is not None:
        return _present(found)
    lost = chart.lost(("conditions", None), ("screening", since))
    if lost is not None:
        return Reading(lost.reason, missing=missing, failed=lost.failed)
    unread = _unread_condition(chart, wanted)
    if unread is not None:
        return Reading(unread, missing=missing, unreadable=True)
    negative = next((m for m in tests if m.coded == "negative"), None)
    refused = chart.displacing((spec.concept,), used=negative.when.earliest if negative else None, since=since)
    if refused:
        return Reading(Reason.refused("refused", refused[0]), missing=missing, unreadable=True)
    older = next((m for m in chart.values(spec.concept) if m.coded == "positive"), None)
    if older is not None:
        return _screened(chart, leaf, older, "screening-positive-old")
    if negative is not None:
        return _screened(chart, leaf, negative, "screening-negative", state="absent")
    reason = Reason.of("screening-none", input=leaf.input)
    return Reading(reason, missing=missing, notes=(Note(reason),))


def _screened(chart: Chart, leaf: Leaf, test: Measurement, code: str, *, state: str = "") -> Reading:
    """The reading of one test; what is no warning of its own is a line of the card."""
    reason = Reason.of(code, input=leaf.input, age=hours_text(chart.age(test.when.earliest)))
    return Reading(
        reason,
        state=state,
        missing=() if state else (chart.input(leaf.input).missing,),
        evidence=(Evidence.measured(test),),
        notes=() if state == "present" else (Note(reason),),
        shown=test.coded,
    )


def uncontrolled_infection(chart: Chart, leaf: Leaf) -> Reading:
    """Present for an opportunistic infection; unknown, and withholding, for other records (reading 3.17).

    `params`: also (condition concepts that are present for this rule too).
    """
    missing = ("infection",)
    conditions = [c for c in chart.facts.conditions if c.active]
    certain = frozenset({"infection-opportunistic"}) | _words(leaf, "also")
    opportunistic = next((c for c in conditions if not certain.isdisjoint(c.concepts)), None)
    if opportunistic is not None:
        return _present(opportunistic)
    since = chart.now - chart.hours("microbiology_hours")
    for name in ("blood_culture", "fungal_test"):
        for m in chart.values(name):
            if m.coded == "positive" and m.when.latest >= since:
                what = (
                    m.label or {"blood_culture": "positive blood culture", "fungal_test": "positive fungal test"}[name]
                )
                reason = Reason.of("infection-on-record", what=what, age=hours_text(chart.age(m.when.earliest)))
                return Reading(reason, missing=missing, unreadable=True, evidence=(Evidence.measured(m),))
    systemic = next((c for c in conditions if "infection-systemic" in c.concepts), None)
    if systemic is not None:
        reason = Reason.of("infection-on-record", what=systemic.label or "systemic infection", age="")
        return Reading(reason, missing=missing, unreadable=True, evidence=(_condition_evidence(systemic),))
    lost = chart.lost(("conditions", None), ("microbiology", since))
    if lost is not None:
        return Reading(lost.reason, missing=missing, failed=lost.failed)
    refused = chart.refused(("blood_culture", "fungal_test"), since=since)
    if refused:
        reason = Reason.refused("refused", refused[0])
        return Reading(reason, missing=missing, unreadable=True)
    unread = _unread_condition(chart, certain | {"infection-systemic"})
    if unread is not None:
        return Reading(unread, missing=missing, unreadable=True)
    return Reading(Reason.of("none-on-record"), state="absent", shown="none on record")


def allergies(chart: Chart, leaf: Leaf) -> Reading:
    """Whether allergies are known: an empty list is unknown, "no known allergy" is knowledge (reading 3.12)."""
    missing = (chart.input(leaf.input).missing,)
    lost = chart.uncovered(("allergies",), None)
    if lost is not None:
        return Reading(lost.reason, missing=missing, failed=lost.failed)
    if any(g.source == "allergies" and g.why == "unreadable-resource" for g in chart.facts.gaps):
        return Reading(Reason.of("unreadable-allergy"), missing=missing, unreadable=True)
    if not any(_informs(allergy) for allergy in chart.facts.allergies):
        return Reading(Reason.of("no-allergy-record"), missing=missing)
    return Reading(Reason.of("allergies-known"), state="known", shown="known")


def _informs(allergy: Allergy) -> bool:
    """Whether an entry says something: a named substance, or that there is no allergy, and nobody took it back.

    A resolved allergy is knowledge too; one that was refuted, or a place holder, is not.
    """
    if allergy.verification in {"refuted", "entered-in-error"} or "no-information" in allergy.substances:
        return False
    return bool(allergy.substances or allergy.label)


def hypersensitivity(chart: Chart, leaf: Leaf) -> Reading:
    """An allergy to one of the named substances, by code or by text (a false alarm is the safe side)."""
    wanted = _words(leaf, "substances")
    for allergy in chart.facts.allergies:
        if allergy.counts and not wanted.isdisjoint(allergy.substances):
            return _hypersensitive(allergy)
    known = allergies(chart, Leaf("allergies"))
    if not known.known:
        return known
    return Reading(Reason.of("none-on-record"), state="absent", shown="none on record")


def pregnancy(chart: Chart, leaf: Leaf) -> Reading:
    """Present, absent or unknown; asked of females of 12 to 55 years and of anybody whose sex or age is unknown."""
    missing = (chart.input(leaf.input).missing,)
    patient = chart.facts.patient
    if patient is not None and patient.sex == "male":
        return Reading(Reason.of("male"), state="absent", shown="not applicable")
    recent = chart.now - chart.hours("pregnancy_test_hours")
    tests = [*chart.values("pregnancy_test"), *chart.values("pregnancy_status")]
    fresh = [m for m in tests if m.when.earliest >= recent]
    positive = next((m for m in fresh if m.coded in {"positive", "pregnant"}), None)
    if positive is not None:
        return Reading(Reason.of("pregnancy-test-positive"), state="present", evidence=(Evidence.measured(positive),))
    records = [c for c in chart.facts.conditions if c.active and "pregnancy" in c.concepts]
    horizon = chart.now - chart.hours("pregnancy_record_hours")
    for record in records:
        begun = chart.latest_possible(record.onset or record.recorded)
        if begun is None or begun >= horizon:
            return _present(record)
    negative = next((m for m in fresh if m.coded in {"negative", "not-pregnant"}), None)
    older = next((m for m in tests if m.coded in {"positive", "pregnant"}), None)
    if negative is None and records:
        return _present(records[0])
    if negative is None and older is not None:
        return Reading(Reason.of("pregnancy-test-positive"), state="present", evidence=(Evidence.measured(older),))
    if negative is None and _past_childbearing(chart):
        return Reading(Reason.of("age-outside-childbearing"), state="absent", shown="not applicable")
    lost = chart.lost(("conditions", None), ("screening", recent))
    if lost is not None and lost.failed:
        return Reading(lost.reason, missing=missing, failed=True)
    unread = _unread_condition(chart, frozenset({"pregnancy"}))
    if unread is not None:
        return Reading(unread, missing=missing, unreadable=True)
    refused = chart.refused(("pregnancy_test", "pregnancy_status"), since=recent)
    if refused and (negative is None or chart.gap_time(refused[0]) >= negative.when.earliest):
        reason = Reason.refused("refused", refused[0])
        return Reading(reason, missing=missing, unreadable=True)
    if negative is None:
        no_test = chart.lost(("screening", recent))
        return Reading(no_test.reason if no_test else Reason.of("no-pregnancy-result"), missing=missing)
    evidence = (Evidence.measured(negative),)
    return Reading(Reason.of("pregnancy-test-negative"), state="absent", evidence=evidence, shown="negative")


def live_vaccine(chart: Chart, leaf: Leaf) -> Reading:
    """A live attenuated vaccine within 30 d; a partial date counts at its latest (reading 1)."""
    since = chart.since(leaf.input)
    missing = (str(leaf.params.get("missing", chart.input(leaf.input).missing)),)
    doubt = [
        Evidence("live-vaccine", gap.reference)
        for gap in chart.facts.gaps
        if gap.source == "immunizations" and gap.why in {"unreadable-resource", "status-unknown"}
    ]
    for vaccine in chart.facts.immunizations:
        if vaccine.live is False:
            continue
        moment = chart.latest_possible(vaccine.when)
        if moment is not None and since is not None and moment < since:
            continue
        evidence = Evidence("live-vaccine", vaccine.reference, effective=moment, label=vaccine.label)
        if vaccine.live and moment is not None:
            reason = Reason.of("vaccine", age=hours_text(chart.age(moment)))
            return Reading(reason, state="present", evidence=(evidence,), shown="on record")
        doubt.append(evidence)
    lost = chart.uncovered(chart.input(leaf.input).needs, since)
    if lost is not None:
        return Reading(lost.reason, missing=missing, failed=lost.failed)
    if doubt:
        return Reading(Reason.of("vaccine-unclear"), missing=missing, unreadable=True, evidence=tuple(doubt[:3]))
    return Reading(Reason.of("none-on-record"), state="absent", shown="none on record")


def _unread_condition(chart: Chart, concepts: frozenset[str]) -> Reason | None:
    """A problem-list entry that may be one of the named groups and that no code classifies: its words name such a
    group, or it could not be read at all, or has neither code nor words."""
    for gap in chart.facts.gaps:
        if (
            gap.source == "conditions"
            and gap.why in {"unreadable-resource", "condition-text-only"}
            and (not gap.concept or gap.concept in concepts)
        ):
            label = dict(gap.params).get("label", "")
            return Reason.of("condition-by-text", label=label) if label else Reason.of("unreadable-condition")
    return None


def _past_childbearing(chart: Chart) -> bool:
    patient = chart.facts.patient
    if patient is None or patient.sex != "female" or patient.born_earliest is None or patient.born_latest is None:
        return False
    low, high = chart.limit("childbearing_from_years"), chart.limit("childbearing_to_years")
    return chart.years(patient.born_latest) > high or chart.years(patient.born_earliest) < low


def _words(leaf: Leaf, name: str) -> frozenset[str]:
    """A parameter that lists names, separated by spaces."""
    return frozenset(str(leaf.params.get(name, "")).split())


def _present(found: Condition) -> Reading:
    reason = Reason.of("on-record", label=found.label or found.concepts[0])
    return Reading(reason, state="present", evidence=(_condition_evidence(found),), shown="on record")


def _hypersensitive(allergy: Allergy) -> Reading:
    evidence = (Evidence("allergy", allergy.reference, label=allergy.label),)
    reason = Reason.of("allergy", substance=allergy.label or allergy.substances[0])
    return Reading(reason, state="present", evidence=evidence, shown="on record")


def _condition_evidence(found: Condition) -> Evidence:
    moment = found.onset or found.recorded
    return Evidence(
        found.concepts[0],
        found.reference,
        original=found.clinical,
        effective=None if moment is None else moment.earliest,
        label=found.label,
    )
